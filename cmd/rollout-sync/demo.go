package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
)

func (a *app) demoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "demo [DIR]",
		Short: "Take a tour in a directory of its own: record, push, list, verify, lose, restore, show",
		Long: `Demo makes a Codex home and a mirror in a new directory, or in DIR, which must
not exist or be empty and is then kept. It records a session, pushes it, lists
it from both sides, verifies it, removes the local copy and restores it. It
prints each command that it runs; the same commands, typed in another
directory, do the same. Nothing outside of the directory is read or written.`,
		Example: `  rollout-sync demo
  rollout-sync demo tour    # and look around there afterwards`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.demo(cmd.Context(), args) },
	}
}

// demoID is the session of the demo. Its time is the one inside the id.
const demoID = "019b7ca9-8c88-7000-8000-00000000cafe"

// demoStart is the time inside demoID.
const demoStart = "2026-01-02T03:04:05.000Z"

var demoItems = []string{
	`{"timestamp":"2026-01-02T03:04:06.000Z","type":"event_msg","payload":{"type":"user_message","message":"Why does the build fail?","images":[]}}`,
	`{"timestamp":"2026-01-02T03:04:06.000Z","type":"response_item","payload":{"type":"message","role":"user","content":[{"type":"input_text","text":"Why does the build fail?"}]}}`,
	`{"timestamp":"2026-01-02T03:04:09.000Z","type":"response_item","payload":{"type":"function_call","name":"exec_command","arguments":"{\"cmd\":\"make\"}","call_id":"call_1"}}`,
	`{"timestamp":"2026-01-02T03:04:11.000Z","type":"response_item","payload":{"type":"function_call_output","call_id":"call_1","output":"main.go:7: undefined: answer\nexit status 1"}}`,
	`{"timestamp":"2026-01-02T03:04:14.000Z","type":"event_msg","payload":{"type":"agent_message","message":"Nothing defines answer. It should be 42."}}`,
	`{"timestamp":"2026-01-02T03:04:14.000Z","type":"response_item","payload":{"type":"message","role":"assistant","content":[{"type":"output_text","text":"Nothing defines answer. It should be 42."}]}}`,
}

// A demoStep is a command of this program, or what the shell does for it.
type demoStep struct {
	about string
	stdin []string
	args  []string               // of rollout-sync
	shell string                 // instead of args: what is printed
	do    func(dir string) error // instead of args: what is done
}

// demoEnv keeps all that the program reads and writes in the directory.
var demoEnv = []struct{ name, dir string }{
	{"CODEX_HOME", "codex"},
	{"XDG_DATA_HOME", "data"},
	{"XDG_STATE_HOME", "state"},
	{"XDG_CONFIG_HOME", "config"},
	{"XDG_CACHE_HOME", "cache"},
}

func demoSteps() []demoStep {
	var env []string
	for _, e := range demoEnv {
		env = append(env, fmt.Sprintf(`%s="$PWD/%s"`, e.name, e.dir))
	}
	return []demoStep{
		{
			about: "A Codex home, and everything else, in this directory.",
			shell: "export " + strings.Join(env, " ") + " && mkdir codex",
			do:    func(dir string) error { return os.Mkdir(filepath.Join(dir, "codex"), 0o700) },
		},
		{
			about: "An agent records a session.",
			stdin: demoItems,
			args: []string{
				"record", "--meta", "id=" + demoID, "--meta", "timestamp=" + demoStart,
				"--meta", "cwd=/home/me/app", "--meta", "cli_version=demo", "--meta", "model_provider=none",
			},
		},
		{about: "It goes to the mirror, compressed: by default a directory; --mirror s3://… is the same.", args: []string{"push", "--idle", "0s"}},
		{about: "Here it is, in the home …", args: []string{"list", "--where", "local"}},
		{about: "… and in the mirror.", args: []string{"list", "--where", "mirror"}},
		{about: "Every byte of the mirror is what was recorded.", args: []string{"verify", "--deep"}},
		{
			about: "Somebody deletes all sessions.",
			shell: "rm -r codex/sessions",
			do:    func(dir string) error { return os.RemoveAll(filepath.Join(dir, "codex", "sessions")) },
		},
		{about: "They come back, where and as they were.", args: []string{"restore", "--all"}},
		{about: "And this is what was said.", args: []string{"show", demoID}},
	}
}

func (s demoStep) String() string {
	if s.shell != "" {
		return s.shell
	}
	line := program
	for _, arg := range s.args {
		line += " " + quote(arg)
	}
	if s.stdin == nil {
		return line
	}
	feed := `printf '%s\n'`
	for _, item := range s.stdin {
		feed += " " + quote(item)
	}
	return feed + " | " + line
}

// quote quotes a word for a POSIX shell where it is needed.
func quote(word string) string {
	if strings.IndexFunc(word, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("-_=./:", r))
	}) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

func (a *app) demo(ctx context.Context, args []string) (err error) {
	var dir string
	if len(args) == 1 {
		if dir, err = emptyDir(args[0]); err != nil {
			return err
		}
	} else {
		if dir, err = os.MkdirTemp("", program+"-demo-"); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	fmt.Fprintf(a.out, "# in %s\n", dir)
	for _, step := range demoSteps() {
		fmt.Fprintf(a.out, "\n# %s\n$ %s\n", step.about, step)
		if step.do != nil {
			err = step.do(dir)
		} else {
			err = a.demoRun(ctx, self, dir, step)
		}
		if err != nil {
			return fmt.Errorf("demo: %s: %w", step, err)
		}
	}
	return nil
}

func emptyDir(dir string) (string, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	found, err := os.ReadDir(dir)
	if err != nil {
		return "", err
	}
	if len(found) > 0 {
		return "", fmt.Errorf("%s is not empty", dir)
	}
	return filepath.Abs(dir)
}

func (a *app) demoRun(ctx context.Context, self, dir string, step demoStep) error {
	cmd := exec.CommandContext(ctx, self, step.args...)
	cmd.Dir = dir
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "ROLLOUT_SYNC_") { // would change what the commands do
			cmd.Env = append(cmd.Env, v)
		}
	}
	for _, e := range demoEnv {
		cmd.Env = append(cmd.Env, e.name+"="+filepath.Join(dir, e.dir))
	}
	if step.stdin != nil {
		cmd.Stdin = bytes.NewReader([]byte(strings.Join(step.stdin, "\n") + "\n"))
	}
	cmd.Stdout, cmd.Stderr = a.out, a.err
	return cmd.Run()
}
