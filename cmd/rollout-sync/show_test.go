package main

import (
	"bufio"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A followed session is shown as it grows, through being archived, until a signal.
func TestShowFollows(t *testing.T) {
	t.Parallel()
	const id = "019b7ca9-8c88-7000-8000-00000000cafe"
	home := t.TempDir()
	file := filepath.Join(home, "sessions", "2026", "01", "02", "rollout-2026-01-02T03-04-05-"+id+".jsonl")
	archived := filepath.Join(home, "archived_sessions", filepath.Base(file))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	grow := func(file, line string) {
		t.Helper()
		must(os.MkdirAll(filepath.Dir(file), 0o700))
		f, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		must(err)
		_, err = f.WriteString(line + "\n")
		must(err)
		must(f.Close())
	}
	say := func(text string) string {
		return `{"timestamp":"t","type":"event_msg","payload":{"type":"agent_message","message":"` + text + `"}}`
	}
	grow(file, `{"timestamp":"t","type":"session_meta","payload":{"id":"`+id+`","timestamp":"t","cwd":"/w","originator":"x","cli_version":"0"}}`)
	grow(file, say("one"))

	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	r, w := io.Pipe()
	var stderr strings.Builder
	code := make(chan int)
	go func() {
		c := run(ctx, []string{"show", "019b", "--home", home, "--where", "local", "--follow"}, stdio{strings.NewReader(""), w, &stderr})
		_ = w.Close()
		code <- c
	}()
	lines := bufio.NewScanner(r)
	wait := func(text string) {
		t.Helper()
		for lines.Scan() {
			if strings.TrimSpace(lines.Text()) == text {
				return
			}
		}
		t.Fatalf("%q did not come: %v", text, lines.Err())
	}
	wait("one")
	grow(file, say("two"))
	wait("two")
	must(os.MkdirAll(filepath.Dir(archived), 0o700))
	must(os.Rename(file, archived))
	grow(archived, say("three"))
	wait("three")
	cancel(interrupted{os.Interrupt})
	for lines.Scan() {
		t.Errorf("got %q", lines.Text())
	}
	if got := <-code; got != exitInterrupted || !strings.Contains(stderr.String(), "interrupted") {
		t.Errorf("got %d and %q", got, &stderr)
	}
}
