package main

import (
	"bytes"
	"context"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// outputOf runs the program and returns what it writes to standard output.
func outputOf(t *testing.T, args ...string) string {
	t.Helper()
	var out, errs bytes.Buffer
	if code := run(context.Background(), args, stdio{strings.NewReader(""), &out, &errs}); code != exitOK {
		t.Fatalf("%q: exit code %d: %s", args, code, errs.String())
	}
	return out.String()
}

func TestCompletionScripts(t *testing.T) {
	t.Parallel()
	for _, shell := range []string{"bash", "zsh", "fish", "powershell"} {
		script := outputOf(t, "completion", shell)
		if !strings.Contains(script, program) {
			t.Errorf("%s: %d bytes, and no %s in it", shell, len(script), program)
		}
		if !strings.Contains(outputOf(t, "completion", "--help"), "completion "+shell) {
			t.Errorf("completion --help does not tell of %s", shell)
		}
		if shell == "powershell" {
			continue // it has no check of a script
		}
		file, err := exec.LookPath(shell)
		if err != nil {
			t.Logf("no %s: its script is not checked", shell)
			continue
		}
		cmd := exec.Command(file, "-n")
		cmd.Stdin = strings.NewReader(script)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s -n: %v: %s", shell, err, out)
		}
	}
}

func TestCompleteIDs(t *testing.T) {
	t.Parallel()
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { requests.Add(1) }))
	defer server.Close()
	remote := "s3://bucket?region=x&use_path_style=true&endpoint=" + server.URL

	home := t.TempDir()
	dir := filepath.Join(home, "sessions", "2026", "11", "20")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	const one, two = "01a1f81e-6bb9-7000-8000-000000000001", "01a1f81e-6bba-7000-8000-000000000002"
	for id, message := range map[string]string{one: "the first", two: strings.Repeat("long ", 20) + `\u001b[31m`} {
		content := `{"timestamp":"2026-11-20T08:41:45.701Z","type":"session_meta","payload":{"id":"` + id + `","timestamp":"2026-11-20T08:41:45.701Z"}}
{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"user_message","message":"` + message + `"}}
`
		if err := os.WriteFile(filepath.Join(dir, "rollout-2026-11-20T08-41-45-"+id+".jsonl"), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const (
		first  = one + "\tthe first\n"
		second = two + "\tlong long long long long long long long long long long long…\n"
		keep   = ":36\n" // no files, in this order
		none   = ":4\n"  // no files
	)
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"show", ""}, second + first + keep},
		{[]string{"show", "01a1f81e-6bb9"}, first + keep},
		{[]string{"show", "01a1f81e6bb9"}, keep}, // a shell would not keep it
		{[]string{"show", "9"}, keep},
		{[]string{"show", one, ""}, none},
		{[]string{"restore", one, "01a1f81e-6bba"}, second + keep},
		{[]string{"push", ""}, none},
	} {
		args := append([]string{"__complete", "--home", home, "--mirror", remote}, test.args...)
		if d := cmp.Diff(test.want, outputOf(t, args...)); d != "" {
			t.Errorf("%q: %s", test.args, d)
		}
	}
	if got := outputOf(t, "__complete", "show", "--home", filepath.Join(home, "nowhere"), ""); got != none {
		t.Errorf("without a home: %q", got)
	}
	if n := requests.Load(); n > 0 {
		t.Errorf("%d requests to the mirror", n)
	}
}
