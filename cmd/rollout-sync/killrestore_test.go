package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"testing"
)

// A tree is a home with many sessions and a mirror of it.
type tree struct {
	t            *testing.T
	home, mirror string
	env          []string
	sessions     map[string][]byte // by path in the home
}

func newTree(t *testing.T, seed uint64) *tree {
	t.Helper()
	dir := t.TempDir()
	tr := &tree{t: t, home: dir + "/home", mirror: dir + "/mirror", sessions: map[string][]byte{}}
	for _, kind := range []string{"DATA", "STATE", "CONFIG", "CACHE"} {
		tr.env = append(tr.env, "XDG_"+kind+"_HOME="+dir+"/"+kind)
	}
	r := rand.New(rand.NewPCG(seed, 0))
	for i := range 40 {
		id := fmt.Sprintf("01a1f81e-6bb9-7000-8000-%012d", i)
		name := "sessions/2026/11/20/rollout-2026-11-20T08-41-45-" + id + ".jsonl"
		content := fmt.Appendf(nil, `{"timestamp":"2026-11-20T08:41:45.000Z","type":"session_meta","payload":{"id":"%s"}}`+"\n", id)
		for range r.IntN(100 << 10) {
			content = append(content, byte(' '+r.IntN(90)))
		}
		tr.sessions[name] = content
		tr.must(os.MkdirAll(filepath.Join(tr.home, path.Dir(name)), 0o700))
		tr.must(os.WriteFile(filepath.Join(tr.home, name), content, 0o600))
	}
	tr.run(exitOK, "push", "--idle", "0s")
	return tr
}

func (tr *tree) must(err error) {
	tr.t.Helper()
	if err != nil {
		tr.t.Fatal(err)
	}
}

// command is the program on the tree.
func (tr *tree) command(args ...string) *exec.Cmd {
	exe, err := os.Executable()
	tr.must(err)
	args = append([]string{program}, append(args, "--mirror", tr.mirror)...)
	// Under this name the test binary is the program.
	return &exec.Cmd{Path: exe, Args: args, Env: append(os.Environ(), append(tr.env, "ROLLOUT_SYNC_HOME="+tr.home)...)}
}

// run runs the program to its end.
func (tr *tree) run(code int, args ...string) string {
	tr.t.Helper()
	out, err := tr.command(args...).CombinedOutput()
	got := 0
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		tr.must(err)
	}
	if got != code {
		tr.t.Fatalf("%q ends with %d: %s", args, got, out)
	}
	return string(out)
}

// kill runs the program until it has told of n sessions, and kills it there.
func (tr *tree) kill(n int, args ...string) {
	tr.t.Helper()
	cmd := tr.command(args...)
	out, err := cmd.StdoutPipe()
	tr.must(err)
	tr.must(cmd.Start())
	lines := bufio.NewScanner(out)
	for range n {
		lines.Scan()
	}
	tr.must(cmd.Process.Kill())
	_, _ = io.Copy(io.Discard, out)
	_ = cmd.Wait() // killed, or done before
}

// look returns the paths of the rollouts in a home, each of which has to be whole.
func (tr *tree) look(home string) (found []string) {
	tr.t.Helper()
	tr.must(filepath.WalkDir(home, func(p string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) || err == nil && (d.IsDir() || !strings.HasPrefix(d.Name(), "rollout-2")) {
			return nil // a directory, a lock, a temporary file
		}
		content, e := os.ReadFile(p)
		if want := tr.sessions["sessions/2026/11/20/"+d.Name()]; !bytes.Equal(content, want) {
			tr.t.Errorf("%s has %d bytes, want %d", p, len(content), len(want))
		}
		found = append(found, p)
		return errors.Join(err, e)
	}))
	return found
}

// A restore that is killed leaves whole files, and is finished by the next.
func TestRestoreIsKilled(t *testing.T) {
	t.Parallel()
	tr := newTree(t, 1)
	into := t.TempDir() + "/into"
	before := 0
	for n := range 9 {
		tr.kill(n, "restore", "--all", "--into", into)
		now := len(tr.look(into))
		if now < before || n > 0 && now < before+1 && now < len(tr.sessions) {
			t.Errorf("killed after %d: there were %d sessions, now there are %d", n, before, now)
		}
		before = now
	}
	out := tr.run(exitOK, "restore", "--all", "--into", into)
	if !strings.Contains(out, fmt.Sprintf("%d already there, 0 failed", before)) {
		t.Errorf("%d were there, and it says %s", before, out)
	}
	if got := tr.look(into); len(got) != len(tr.sessions) {
		t.Errorf("restored are %d of %d", len(got), len(tr.sessions))
	}
}

// A prune that is killed loses nothing, and is finished by the next.
func TestPruneIsKilled(t *testing.T) {
	t.Parallel()
	tr := newTree(t, 2)
	settle()
	args := []string{"prune", "--older-than", "0d", "--apply", "--same-device-ok"}
	before := len(tr.sessions)
	for n := range 9 {
		tr.kill(n, args...)
		tr.look(filepath.Join(tr.home, "rollout-sync-trash"))
		now := len(tr.look(filepath.Join(tr.home, "sessions")))
		if now > before {
			t.Errorf("killed after %d: there were %d sessions, now there are %d", n, before, now)
		}
		before = now
	}
	// One that was being moved has changed just now; and again when the next prune
	// takes away its other name, in the trash.
	for range 2 {
		settle()
		tr.run(exitOK, args...)
	}
	tr.run(exitOK, args...)
	if left := tr.look(tr.home); len(left) > 0 {
		t.Errorf("left: %q", left)
	}
	if out := tr.run(exitOK, "push", "--idle", "0s"); !strings.HasPrefix(out, "0 sessions") {
		t.Errorf("a push says %s", out)
	}
	tr.run(exitOK, "restore", "--all")
	if got := tr.look(tr.home); len(got) != len(tr.sessions) {
		t.Errorf("restored are %d of %d", len(got), len(tr.sessions))
	}
}
