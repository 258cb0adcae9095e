package replay_test

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/rollout-sync/rollout/replay"
)

// Secrets are put together here, so that no scanner takes this file for a leak.
func secrets() map[string]string {
	alnum := strings.Repeat("aB3dE5gH", 20)
	hex := strings.Repeat("0123456789abcdef", 8)
	key := "-----BEGIN " + "RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n" + alnum[:64] + "\n" + alnum[:20] + "==\n-----END " + "RSA PRIVATE KEY-----"
	return map[string]string{
		"sk-" + "proj-" + alnum[:40]:                                "openai key",
		"sk-" + "ant-api03-" + alnum[:93]:                           "anthropic key",
		"gh" + "p_" + alnum[:36]:                                    "github token",
		"gh" + "o_" + alnum[:36]:                                    "github token",
		"github" + "_pat_" + alnum[:22] + "_" + alnum[:59]:          "github token",
		"AK" + "IA" + "IOSFODNN7EXAMPLE":                            "aws key",
		"AS" + "IA" + "IOSFODNN7EXAMPLE":                            "aws key",
		"xo" + "xb-1234567890-" + alnum[:24]:                        "slack token",
		"AI" + "za" + alnum[:35]:                                    "google key",
		"eyJ" + alnum[:20] + ".eyJ" + alnum[:30] + "." + alnum[:43]: "json web token",
		"np" + "m_" + alnum[:36]:                                    "npm token",
		"gl" + "pat-" + alnum[:20]:                                  "gitlab token",
		"hf" + "_" + alnum[:34]:                                     "hugging face token",
		"do" + "p_v1_" + hex[:64]:                                   "digitalocean token",
		"sk" + "_live_" + alnum[:24]:                                "stripe key",
		"AGE-" + "SECRET-KEY-1" + strings.ToUpper(alnum[:58]):       "age key",
		"gs" + "k_" + alnum[:52]:                                    "groq key",
		"SG" + "." + alnum[:22] + "." + alnum[:43]:                  "sendgrid key",
		"py" + "pi-" + alnum[:80]:                                   "pypi token",
		"123456789" + ":AA" + alnum[:33]:                            "telegram token",
		key:                                                         "private key",
	}
}

func TestRedactText(t *testing.T) {
	t.Parallel()
	for secret, what := range secrets() {
		mask := "[redacted: " + what + "]"
		inJSON, _ := json.Marshal("a\n" + secret + "\nb") // a string always encodes
		twice, _ := json.Marshal(string(inJSON))
		for form, text := range map[string]string{
			"alone":    secret,
			"in text":  "use " + secret + ", please",
			"assigned": "KEY=" + secret + "\n",
			"quoted":   `{"key": "` + secret + `"}`,
			"in JSON":  string(inJSON),
			"twice":    string(twice),
			"two":      secret + " " + secret,
			"in URL":   "https://host/?key=" + secret + "&x=1",
		} {
			got := replay.RedactText(text)
			if strings.Contains(got, secret) || !strings.Contains(got, mask) {
				t.Errorf("%s, %s: %q", what, form, got)
			}
			if want := len(text) - strings.Count(text, secret)*(len(secret)-len(mask)); form != "in JSON" && form != "twice" && len(got) != want {
				t.Errorf("%s, %s: %q lost or kept something", what, form, got)
			}
			if form == "in JSON" && !json.Valid([]byte(got)) {
				t.Errorf("%s, %s: %q is no JSON any more", what, form, got)
			}
			if again := replay.RedactText(got); again != got {
				t.Errorf("%s, %s: again %q", what, form, again)
			}
		}
	}
	for in, want := range map[string]string{
		"Authorization: Bearer abcdef123456":                            "Authorization: Bearer [redacted: authorization]",
		`-H "authorization: token abcdef123456" x`:                      `-H "authorization: token [redacted: authorization]" x`,
		`{"headers":"{\"Authorization\":\"Basic dXNlcjpwYXNz\"}"}`:      `{"headers":"{\"Authorization\":\"Basic [redacted: authorization]\"}"}`,
		"postgres://me:hunter2@db:5432/x":                               "postgres://me:[redacted: password]@db:5432/x",
		`"https:\/\/me:hunter2@host\/x"`:                                `"https:\/\/me:[redacted: password]@host\/x"`,
		"git clone https://:hunter2@host/x.git":                         "git clone https://:[redacted: password]@host/x.git",
		"aws_secret_access_key = " + strings.Repeat("abcD/", 8) + "\nx": "aws_secret_access_key = [redacted: aws secret]\nx",
		`"AWS_SECRET_ACCESS_KEY":"` + strings.Repeat("abcD+", 8) + `"`:  `"AWS_SECRET_ACCESS_KEY":"[redacted: aws secret]"`,
		"AccountName=x;AccountKey=" + strings.Repeat("ab", 43) + "==;y": "AccountName=x;AccountKey=[redacted: azure key];y",
		// A key that is cut off.
		"-----BEGIN " + "PRIVATE KEY-----\n" + strings.Repeat("aB3d", 16) + "\n" + strings.Repeat("aB3d", 16): "[redacted: private key]",
	} {
		if got := replay.RedactText(in); got != want {
			t.Errorf("RedactText(%q) = %q, want %q", in, got, want)
		}
	}
	for _, stays := range []string{
		"", "task-force-of-twenty-people-and-more", "risk-assessment-of-everything-we-do",
		"http://host:8080/a@b", "user@example.com: see https://example.com/", "git@github.com:a/b.git",
		"sk-short", "the ghp_ prefix", "authorization: none", "global-configuration-of-everything",
		"data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA", "sha256:" + strings.Repeat("0123456789abcdef", 4),
		"550e8400-e29b-41d4-a716-446655440000", "-----BEGIN CERTIFICATE-----",
	} {
		if got := replay.RedactText(stays); got != stays {
			t.Errorf("RedactText(%q) = %q", stays, got)
		}
	}
}

// Redact reaches every text of an entry.
func TestRedactReachesEverything(t *testing.T) {
	t.Parallel()
	secret := "gh" + "p_" + strings.Repeat("aB3dE5gH", 5)
	stays := map[string]bool{ // what is no text
		"Kind": true, "Time": true, "TurnID": true, "Session.ID": true, "Session.ForkedFrom": true, "Session.ParentID": true,
		"Session.Base.Rollout": true, "Session.Started": true, "Session.Model.Effort": true, "Model.Effort": true, "Call.ID": true,
		"Files.Change": true, "TurnEnd.Status": true, "Totals.Ended": true,
	}
	var fill func(v reflect.Value)
	fill = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.String:
			v.SetString(secret)
		case reflect.Pointer:
			v.Set(reflect.New(v.Type().Elem()))
			fill(v.Elem())
		case reflect.Slice:
			v.Set(reflect.MakeSlice(v.Type(), 2, 2))
			fill(v.Index(0))
			fill(v.Index(1))
		case reflect.Struct:
			for i := range v.NumField() {
				fill(v.Field(i))
			}
		}
	}
	var check func(path string, v reflect.Value) int
	check = func(path string, v reflect.Value) (n int) {
		switch v.Kind() {
		case reflect.String:
			if masked := v.String() != secret; masked == stays[path] {
				t.Errorf("%s is %q", path, v)
			}
			return 1
		case reflect.Pointer:
			return check(path, v.Elem())
		case reflect.Slice:
			return check(path, v.Index(0)) + check(path, v.Index(1))
		case reflect.Struct:
			for i := range v.NumField() {
				n += check(strings.TrimPrefix(path+"."+v.Type().Field(i).Name, "."), v.Field(i))
			}
		}
		return n
	}
	var e replay.Entry
	fill(reflect.ValueOf(&e).Elem())
	entries := func(yield func(replay.Entry, error) bool) { yield(e, nil) }
	for e, err := range replay.Redact(entries) {
		must(t, err)
		if n := check("", reflect.ValueOf(e)); n < 30 {
			t.Errorf("only %d texts", n)
		}
	}
}

// Whatever stands around a secret, it goes, and JSON stays JSON.
func FuzzRedactText(f *testing.F) {
	all := secrets()
	for secret := range all {
		f.Add(secret[:len(secret)/2], "\\n"+secret)
	}
	f.Add("https://a:b@c", "https:\\/\\/a:b@c")
	f.Fuzz(func(t *testing.T, before, after string) {
		for secret := range all {
			text := before + " " + secret + " " + after
			if strings.Count(text, secret) == 1 && strings.Contains(replay.RedactText(text), secret) {
				t.Errorf("%q stays %q", text, replay.RedactText(text))
			}
			quoted, err := json.Marshal(text)
			if err != nil {
				t.Fatal(err)
			}
			if got := replay.RedactText(string(quoted)); !json.Valid([]byte(got)) {
				t.Errorf("%s became %s", quoted, got)
			}
		}
	})
}

func ExampleRedactText() {
	fmt.Println(replay.RedactText("git clone https://me:hunter2@example.com/app.git"))
	// Output:
	// git clone https://me:[redacted: password]@example.com/app.git
}
