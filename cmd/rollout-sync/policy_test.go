package main

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rollout-sync/rollout/internal/s3test"
)

// actionOf says which right S3 asks of each kind of request.
var actionOf = map[string]string{
	"GET": "s3:GetObject", "HEAD": "s3:GetObject", "LIST": "s3:ListBucket", "DELETE": "s3:DeleteObject",
	"PUT": "s3:PutObject", "CREATE": "s3:PutObject", "PART": "s3:PutObject", "COMPLETE": "s3:PutObject",
	"ABORT": "s3:AbortMultipartUpload", "PARTS": "s3:ListMultipartUploadParts",
}

// allowed returns what the policy of docs/operations.md below a heading allows.
func allowed(t *testing.T, heading string) (actions []string) {
	t.Helper()
	doc, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	m := regexp.MustCompile("(?s)\n### " + heading + "\n.*?```json\n(.*?)```").FindSubmatch(doc)
	if m == nil {
		t.Fatalf("docs/operations.md has no policy for %s", heading)
	}
	var policy struct{ Statement []struct{ Action any } }
	if err := json.Unmarshal(m[1], &policy); err != nil {
		t.Fatal(err)
	}
	for _, s := range policy.Statement {
		actions = append(actions, strings.Fields(strings.Trim(fmt.Sprint(s.Action), "[]"))...)
	}
	slices.Sort(actions)
	return actions
}

// The writer's policy has what a push does, and the reader's what reading does, also
// where requests fail, and nothing else.
func TestPolicies(t *testing.T) {
	dir := t.TempDir()
	for _, kind := range []string{"STATE", "CONFIG", "DATA", "CACHE"} {
		t.Setenv("XDG_"+kind+"_HOME", filepath.Join(dir, kind))
	}
	s := s3test.New(t)
	do := func(wantCode int, args ...string) {
		t.Helper()
		var out bytes.Buffer
		args = slices.Concat([]string{args[0], "--home", filepath.Join(dir, "home"), "--mirror", s.BucketURL().String()}, args[1:])
		if code := run(t.Context(), args, stdio{strings.NewReader(""), &out, &out}); code != wantCode {
			t.Fatalf("%q: exit code %d, want %d: %s", args, code, wantCode, &out)
		}
	}
	asked := func() []string {
		actions := map[string]bool{}
		for kind := range strings.FieldsSeq(s.Take()) {
			actions[actionOf[kind]] = true
		}
		return slices.Sorted(maps.Keys(actions))
	}
	write := func(name, content string) {
		t.Helper()
		file := filepath.Join(dir, "home/sessions/2026/01/02", name)
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(content); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	const (
		small = "019b7ca9-8c88-7000-8000-000000000001"
		large = "019b7ca9-8c88-7000-8000-000000000002"
	)
	session := func(id string) (name, head string) {
		return "rollout-2026-01-02T03-04-05-" + id + ".jsonl",
			`{"timestamp":"2026-01-02T03:04:05.000Z","type":"session_meta","payload":{"id":"` + id + `","timestamp":"2026-01-02T03:04:05.000Z","cwd":"/w","originator":"x","cli_version":"0.1.0"}}` + "\n"
	}
	smallName, head := session(small)
	write(smallName, head)
	noise := make([]byte, 10<<20) // in parts
	rand.NewChaCha8([32]byte{}).Read(noise)
	name, head := session(large)
	write(name, head+`{"timestamp":"2026-01-02T03:04:06.000Z","type":"event_msg","payload":{"type":"agent_message","message":"`+base64.StdEncoding.EncodeToString(noise)+`"}}`+"\n")

	s.Inject("PART", s3test.Fault{Status: http.StatusForbidden, Code: "AccessDenied"}) // an upload to be cleaned up
	do(exitPartial, "push", "--idle", "0s")
	do(exitOK, "push", "--idle", "0s")
	write(smallName, `{"timestamp":"2026-01-02T03:05:05.000Z","type":"event_msg","payload":{"type":"agent_message","message":"more"}}`+"\n")
	do(exitOK, "push", "--idle", "0s")
	do(exitOK, "list", "--where", "mirror")
	if got, want := asked(), allowed(t, "S3: writer"); !slices.Equal(got, want) {
		t.Errorf("a writer asks for %q, and its policy is %q", got, want)
	}

	do(exitOK, "list", "--where", "mirror")
	do(exitOK, "verify", "--deep")
	do(exitOK, "restore", large, "--home", t.TempDir())
	if got, want := asked(), allowed(t, "S3: reader"); !slices.Equal(got, want) {
		t.Errorf("a reader asks for %q, and its policy is %q", got, want)
	}
	writer, forgetter := allowed(t, "S3: writer"), allowed(t, "S3: forgetter")
	if got := slices.DeleteFunc(forgetter, func(a string) bool { return slices.Contains(writer, a) }); !slices.Equal(got, []string{"s3:DeleteObject"}) {
		t.Errorf("a forgetter may %q more than a writer", got)
	}
}
