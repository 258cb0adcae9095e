package main

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rollout-sync/rollout/internal/s3test"
)

// documentedEvents returns the attributes that docs/operations.md names for each event.
// A cell that says "the same" has those of the row before.
func documentedEvents(t *testing.T) map[string]map[string]bool {
	t.Helper()
	doc, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(doc), "\n## Logs\n")
	section, _, _ = strings.Cut(section, "\n## ")
	name := regexp.MustCompile("`([a-z_ ]+)`")
	events := map[string]map[string]bool{}
	before := map[string]bool{}
	for _, row := range regexp.MustCompile("(?m)^\\| (`.*?) \\| (.*?) \\| (.*) \\|$").FindAllStringSubmatch(section, -1) {
		attrs := map[string]bool{"time": true, "level": true, "msg": true, "dry_run": true}
		if strings.HasPrefix(row[3], "the same") {
			maps.Copy(attrs, before)
		}
		for _, m := range name.FindAllStringSubmatch(row[3], -1) {
			attrs[m[1]] = true
		}
		if strings.Contains(row[3], "each action") {
			for _, action := range actions {
				attrs[string(action)] = true
			}
		}
		before = attrs
		for _, m := range name.FindAllStringSubmatch(row[1], -1) {
			events[m[1]] = attrs
		}
	}
	if len(events) < 15 {
		t.Fatalf("only %d events are documented", len(events))
	}
	return events
}

// What push, prune and verify log is documented, event by event, and has nothing secret
// in it; standard output has nothing.
func TestLog(t *testing.T) {
	t.Parallel()
	documented := documentedEvents(t)
	seen := map[string]string{} // levels by event
	const secret = "c3VwZXJzZWNyZXQ"
	s := s3test.New(t)
	tr := newTree(t, 8)
	tr.env = append(tr.env, "AWS_ACCESS_KEY_ID="+secret, "AWS_SECRET_ACCESS_KEY="+secret,
		"ROLLOUT_SYNC_LOG_FORMAT=json", "ROLLOUT_SYNC_LOG_LEVEL=debug", "ROLLOUT_SYNC_JOBS=1")
	directory := tr.mirror
	do := func(code int, args ...string) (events []string) {
		t.Helper()
		cmd := tr.command(args...)
		var stdout, stderr bytes.Buffer
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		_ = cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != code || stdout.Len() > 0 {
			t.Fatalf("%q ends with %d, prints %q and logs %s", args, got, &stdout, &stderr)
		}
		for _, not := range []string{secret, "endpoint", "http:"} {
			if strings.Contains(stderr.String(), not) {
				t.Errorf("%q logs %q: %s", args, not, &stderr)
			}
		}
		for line := range strings.Lines(stderr.String()) {
			var record map[string]any
			tr.must(json.Unmarshal([]byte(line), &record))
			event, _ := record["msg"].(string)
			seen[event], _ = record["level"].(string)
			events = append(events, event)
			for attr := range record {
				if !documented[event][attr] {
					t.Errorf("event %q has %s, which is not documented", event, attr)
				}
			}
		}
		if events[0] != "begun" || events[len(events)-1] != "ended" {
			t.Errorf("%q logs %q", args, events)
		}
		return events
	}
	sessions := slices.Sorted(maps.Keys(tr.sessions))
	object := func(session string) string { return filepath.Join(directory, session+".zst") }

	// A store that refuses: sessions fail, or all does.
	tr.mirror = s.BucketURL().String()
	do(exitOK, "push", "--idle", "0s", "--max-duration", "1ns")
	deny := func(kinds ...string) {
		s.Take() // its lock orders this and the requests of another process
		s.Deny = kinds
		s.Take()
	}
	deny("PUT")
	if got := do(exitFailure, "push", "--idle", "0s"); !slices.Contains(got, "session failed") {
		t.Errorf("where nothing may be put it logs %q", got)
	}
	deny("GET", "HEAD", "LIST")
	do(exitFailure, "verify")

	// What can become of sessions.
	tr.mirror = directory
	do(exitOK, "push", "--idle", "0s")
	tr.must(os.WriteFile(object(sessions[0]), []byte("not what was pushed"), 0o600))
	tr.must(os.Remove(filepath.Join(tr.home, sessions[1])))
	tr.must(os.WriteFile(filepath.Join(tr.home, sessions[2]), []byte("{}\n"), 0o600))
	do(exitIntegrity, "verify")
	do(exitIntegrity, "push", "--idle", "0s", "--reconcile")
	other := newTree(t, 9) // has other versions of the same sessions
	tr.home, other.home = other.home, tr.home
	do(exitOK, "push", "--idle", "0s")
	tr.home, other.home = other.home, tr.home
	tr.must(os.WriteFile(filepath.Join(tr.home, sessions[3]), []byte("{}\n"), 0o600))
	do(exitOK, "verify")
	settle()
	do(exitOK, "prune", "--older-than", "0d", "--dry-run", "--same-device-ok")

	for _, event := range []string{
		"begun", "session pushed", "session diverged", "session not pushed", "session failed", "session vanished", "object foreign",
		"time is up", "damaged", "session pending", "verified", "session kept", "session pruned", "summary", "ended",
	} {
		if seen[event] == "" {
			t.Errorf("there was no %q", event)
		}
	}
	for event, level := range map[string]string{"session failed": "ERROR", "object foreign": "ERROR", "session vanished": "WARN", "session pushed": "INFO", "verified": "DEBUG"} {
		if seen[event] != level {
			t.Errorf("%q is of level %s, want %s", event, seen[event], level)
		}
	}
}

// Lines are for people unless a log is asked for; quiet leaves what went wrong.
func TestLogFlags(t *testing.T) {
	t.Parallel()
	tr := newTree(t, 10)
	tr.must(os.WriteFile(filepath.Join(tr.home, "sessions/2026/11/20/rollout-2026-11-20T08-41-46-01a1f81e-6bb9-7000-8000-00000000beef.jsonl.zst"), []byte("no zstd"), 0o600))
	const lines = "failed: open sessions/"
	for _, test := range []struct {
		args       string
		with, none []string
	}{
		{"", []string{lines, "41 sessions, "}, []string{"level", "msg"}},
		{"--quiet", []string{lines}, []string{"level", "41 sessions"}},
		{"-q --json", []string{lines, `"action":"failed"`}, []string{"level", "41 sessions"}},
		{"--log-format text", []string{"level=INFO msg=begun command=push", "level=ERROR msg=\"session failed\" action=failed", "exit_code=3"}, []string{lines, "41 sessions"}},
		{"--log-level error", []string{"level=ERROR msg=\"session failed\""}, []string{lines, "INFO"}},
		{"--log-format json -q", []string{`"level":"ERROR","msg":"session failed"`}, []string{lines, "INFO"}},
	} {
		out := tr.run(exitPartial, append([]string{"push", "--idle", "0s"}, strings.Fields(test.args)...)...)
		for _, s := range test.with {
			if !strings.Contains(out, s) {
				t.Errorf("%q does not say %q: %s", test.args, s, out)
			}
		}
		for _, s := range test.none {
			if strings.Contains(out, s) {
				t.Errorf("%q says %q: %s", test.args, s, out)
			}
		}
	}
	for args, want := range map[string]string{
		"--log-format xml":         `rollout-sync: --log-format "xml": text or json is wanted`,
		"--log-level loud":         `rollout-sync: --log-level "loud": one of debug, info, warn and error is wanted`,
		"--log-level info --quiet": "rollout-sync: --quiet and --log-level exclude each other",
	} {
		if out := tr.run(exitUsage, append([]string{"push"}, strings.Fields(args)...)...); !strings.HasPrefix(out, want) {
			t.Errorf("%q says %q", args, out)
		}
	}
}
