package mirror_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/rollout-sync/rollout/mirror"
)

// sqliteHeader is the beginning of any database that SQLite writes.
const sqliteHeader = "SQLite format 3\x00\x10\x00\x01\x01\x00\x40\x20\x20\x00\x00\x00\x02"

// What has a rollout's name and is a secret is not pushed, and whatever else has one
// is pushed as it is.
func TestPushRefusesSecrets(t *testing.T) {
	t.Parallel()
	const auth = `{
  "OPENAI_API_KEY": null,
  "tokens": {"id_token": "a.b.c", "access_token": "d.e.f", "refresh_token": "g", "account_id": "h"},
  "last_refresh": "2026-11-20T08:41:45.000000Z"
}`
	for name, tc := range map[string]struct {
		content string
		secret  bool
	}{
		"auth.json":                {auth, true},
		"auth.json with a newline": {auth + "\n", true},
		"auth.json of a key":       {`{"OPENAI_API_KEY":"sk-1"}`, true},
		"credentials of MCP":       {`{"linear|1":{"server_name":"linear","client_id":"x","access_token":"y"}}`, true},
		"a service account":        {`{"type":"service_account","private_key_id":"1","private_key":"-----BEGIN PRIVATE KEY-----\n"}`, true},
		"cached AWS credentials":   {`{"ProviderType":"sso","Credentials":{"AccessKeyId":"A","SecretAccessKey":"B"}}`, true},
		"a private key":            {"-----BEGIN OPENSSH PRIVATE KEY-----\nb3Bl\n-----END OPENSSH PRIVATE KEY-----\n", true},
		"a key with CRLF":          {"\n-----BEGIN RSA PRIVATE KEY-----\r\nMIIE\r\n", true},
		"a database":               {sqliteHeader + strings.Repeat("\x00", 4000), true},

		"nothing":                    {"", false},
		"a blank line":               {"\n", false},
		"no JSON":                    {"this is not JSON\n", false},
		"NULs":                       {strings.Repeat("\x00", 100), false},
		"a bare session":             {`{"id":"` + rolloutID(1) + `","timestamp":"2025-07-20T10:00:00.5Z","instructions":null}` + "\n", false},
		"a record of the state":      {`{"record_type":"state"}`, false},
		"a session that has secrets": {meta(rolloutID(1), "", 0) + strings.ReplaceAll(auth, "\n", "") + "\n", false},
		"a record with a key in it":  {`{"timestamp":"x","type":"event_msg","payload":{"access_token":"x"}}`, false},
		"a torn key":                 {`{"OPENAI_API_KEY":"sk`, false},
		"PEM within a line":          {`-----BEGIN PRIVATE KEY-----\nMIIE\n"}` + "\n", false},
		"the word SQLite":            {"SQLite format 3\x00" + strings.Repeat("\x00", 100), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newTeam(t).newHome(t, "a")
			h.write(rolloutFile(1, 20), tc.content)
			r, err := h.pushWith(func(o *mirror.Pushing) { o.Idle = 0 })
			if err != nil {
				t.Fatal(err)
			}
			refused := len(r.Failures) == 1 && errors.Is(r.Failures[0].Err, mirror.ErrSecret)
			if pushed := r.Actions[mirror.Uploaded] == 1; pushed == tc.secret || refused != tc.secret {
				t.Errorf("got %+v", r)
			}
			for key, content := range h.team.objects(t) {
				if tc.secret && content != "" && strings.HasSuffix(key, rolloutID(1)+".jsonl.zst") {
					t.Errorf("%s is in the mirror", key)
				}
			}
		})
	}
}

// No rollout is taken for a secret, at whichever byte its beginning or its end is lost,
// and whatever its session is about.
func TestPushRefusesNoRollout(t *testing.T) {
	t.Parallel()
	type m = map[string]any
	var session strings.Builder
	session.WriteString(meta(rolloutID(1), "", 0))
	for _, payload := range []m{
		{"type": "user_message", "message": "-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n"},
		{"type": "mcp_tool_call_begin", "invocation": m{"arguments": m{"OPENAI_API_KEY": "sk", "tokens": m{"access_token": "x"}}}},
		{"type": "agent_message", "message": sqliteHeader + `{"access_token":"x"}`},
		{"access_token": "x"},
	} {
		line, err := json.Marshal(m{"timestamp": "2026-11-20T08:41:45.000Z", "type": "event_msg", "payload": payload})
		if err != nil {
			t.Fatal(err)
		}
		session.Write(append(line, '\n'))
	}
	whole := session.String()
	for i := range len(whole) {
		if what := mirror.SecretIn([]byte(whole[i:])); what != "" {
			t.Errorf("without its first %d bytes it is %s", i, what)
		}
		if what := mirror.SecretIn([]byte(whole[:i])); what != "" {
			t.Errorf("cut to %d bytes it is %s", i, what)
		}
	}
}
