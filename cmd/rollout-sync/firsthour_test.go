package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Every command of docs/first-hour.md does what the page says, one after the other, in
// one shell. "…" stands for anything, and a line that is only that for lines.
func TestFirstHour(t *testing.T) {
	t.Parallel()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("the page is for a POSIX shell, and there is none")
	}
	doc, err := os.ReadFile("../../docs/first-hour.md")
	if err != nil {
		t.Fatal(err)
	}
	type step struct{ commands, says string }
	var steps []step
	for _, block := range regexp.MustCompile("(?ms)^( *)```([a-z]+)\n(.*?)^ *```$").FindAllStringSubmatch(string(doc), -1) {
		text := regexp.MustCompile("(?m)^"+block[1]).ReplaceAllString(block[3], "")
		switch {
		case block[2] == "sh":
			steps = append(steps, step{commands: text})
		case block[2] == "text" && len(steps) > 0 && steps[len(steps)-1].says == "":
			steps[len(steps)-1].says = text
		default:
			t.Errorf("a block of %s where none can be", block[2])
		}
	}
	if len(steps) < 10 {
		t.Fatalf("only %d blocks of commands", len(steps))
	}

	home := firstHome(t)
	const mark = "@@@ "
	script := "set -eu\n"
	for i, s := range steps {
		script += fmt.Sprintf("echo '%s%d'\n%s", mark, i, s.commands)
	}
	cmd := exec.Command(sh, "-c", script)
	cmd.Dir = home
	cmd.Env = []string{
		"HOME=" + home, "TZ=UTC", "TMPDIR=" + os.TempDir(),
		"ROLLOUT_SYNC_JOBS=1", // so that sessions are told in order
		"PATH=" + strings.Join([]string{filepath.Join(home, "go/bin"), filepath.Join(home, "bin"), os.Getenv("PATH")}, string(filepath.ListSeparator)),
	}
	var errs strings.Builder
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil || errs.Len() > 0 {
		t.Fatalf("%v: %s%s", err, out, &errs)
	}
	said := strings.Split(string(out), mark)[1:]
	if len(said) != len(steps) {
		t.Fatalf("%d of %d blocks ran: %s", len(said), len(steps), out)
	}
	for i, s := range steps {
		_, got, _ := strings.Cut(said[i], "\n")
		if want := pattern(s.says); s.says != "" && !want.MatchString(got) {
			t.Errorf("%s\nsays\n%s\nand the page\n%s", s.commands, got, s.says)
		}
	}
}

// pattern is what a block of output means.
func pattern(says string) *regexp.Regexp {
	var p strings.Builder
	p.WriteString(`\A`)
	for line := range strings.Lines(says) {
		if line == "…\n" {
			p.WriteString(`(?:.*\n)*`)
			continue
		}
		p.WriteString(strings.ReplaceAll(regexp.QuoteMeta(line), "…", ".*"))
	}
	p.WriteString(`\z`)
	return regexp.MustCompile(p.String())
}

// firstHome makes a user's home with two sessions in it, and with a go and a codex that
// stand for the real ones.
func firstHome(t *testing.T) string {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	home := t.TempDir()
	exe, err := os.Executable()
	must(err)
	const (
		old = ".codex/sessions/2025/07/20/rollout-2025-07-20T10-00-00-8f1c7ee1-7b0c-4b6c-9d2e-000000000020.jsonl"
		new = ".codex/sessions/2026/03/04/rollout-2026-03-04T05-06-07-019cb7a8-9f00-7000-8000-000000000098.jsonl"
	)
	for file, content := range map[string]string{
		old: `{"id":"8f1c7ee1-7b0c-4b6c-9d2e-000000000020","timestamp":"2025-07-20T10:00:00.500Z","instructions":null,"git":{}}
{"type":"message","id":null,"role":"user","content":[{"type":"input_text","text":"from the summer of 2025"}]}
`,
		new: `{"timestamp":"2026-03-04T05:06:07.123Z","type":"session_meta","payload":{"id":"019cb7a8-9f00-7000-8000-000000000098","timestamp":"2026-03-04T05:06:07.101Z","cwd":"/w/app","originator":"codex_cli_rs","cli_version":"0.98.0","source":"cli","model_provider":"openai"}}
{"timestamp":"2026-03-04T05:06:08.000Z","type":"response_item","payload":{"type":"message","role":"user","content":[{"type":"input_text","text":"Why does the build fail?"}]}}
{"timestamp":"2026-03-04T05:06:08.000Z","type":"event_msg","payload":{"type":"user_message","message":"Why does the build fail?","images":[]}}
{"timestamp":"2026-03-04T05:06:14.000Z","type":"event_msg","payload":{"type":"agent_message","message":"Nothing defines answer. It should be 42."}}
{"timestamp":"2026-03-04T05:06:14.000Z","type":"response_item","payload":{"type":"message","role":"assistant","content":[{"type":"output_text","text":"Nothing defines answer. It should be 42."}]}}
`,
		".codex/session_index.jsonl": `{"id":"8f1c7ee1-7b0c-4b6c-9d2e-000000000020","thread_name":"from the summer of 2025","updated_at":"2025-07-20T10:10:00Z"}` + "\n",
		".codex/auth.json":           `{"OPENAI_API_KEY":"sk"}`,
		"bin/go": `#!/bin/sh
set -eu
test "$*" = "install github.com/rollout-sync/rollout/cmd/rollout-sync@latest"
mkdir -p "$HOME/go/bin"
ln -s '` + exe + `' "$HOME/go/bin/rollout-sync"
`,
		"bin/codex": `#!/bin/sh
set -eu
test "$1" = resume
find "$HOME/.codex/sessions" -name "rollout-*-$2.jsonl" | grep -q .
`,
	} {
		file := filepath.Join(home, filepath.FromSlash(file))
		must(os.MkdirAll(filepath.Dir(file), 0o700))
		must(os.WriteFile(file, []byte(content), 0o700))
		must(os.Chtimes(file, time.Time{}, time.Date(2026, 3, 4, 6, 0, 0, 0, time.UTC)))
	}
	return home
}
