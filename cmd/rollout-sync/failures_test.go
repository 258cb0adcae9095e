package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/rollout-sync/rollout/doctor"
	"github.com/rollout-sync/rollout/internal/s3test"
)

// ended is how a run of the program ended.
type ended struct {
	code     int
	out, err string
}

// try runs a command to its end.
func try(t *testing.T, cmd *exec.Cmd) ended {
	t.Helper()
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	exit, ok := errors.AsType[*exec.ExitError](err)
	if err != nil && !ok {
		t.Error(err)
		return ended{code: -1}
	}
	code := 0
	if ok {
		code = exit.ExitCode()
	}
	return ended{code, out.String(), errs.String()}
}

// fails runs the program, which has to end with that code and so many lines on standard
// error, the last of which has all of the words.
func (tr *tree) fails(code, lines int, words []string, args ...string) {
	tr.t.Helper()
	e := try(tr.t, tr.command(args...))
	if e.code != code || strings.Count(e.err, "\n") != lines {
		tr.t.Errorf("%q: code %d, want %d, and not %d lines:\n%s", args, e.code, code, lines, e.err)
		return
	}
	all := strings.Split(strings.TrimSuffix(e.err, "\n"), "\n")
	for _, word := range words {
		if last := all[len(all)-1]; !strings.Contains(last, word) {
			tr.t.Errorf("%q: no %q in %s", args, word, last)
		}
	}
}

// whole checks that nothing is lost: the home is as it was, and a push to its end
// leaves a mirror that has all of it.
func (tr *tree) whole() {
	tr.t.Helper()
	if got := tr.look(filepath.Join(tr.home, "sessions")); len(got) != len(tr.sessions) {
		tr.t.Errorf("the home has %d of %d sessions", len(got), len(tr.sessions))
	}
	tr.run(exitOK, "push", "--idle", "0s", "--reconcile")
	if out := tr.run(exitOK, "verify", "--deep"); !strings.Contains(out, "0 damaged") || !strings.Contains(out, fmt.Sprintf("%d sessions, 0 not in the mirror", len(tr.sessions))) {
		tr.t.Errorf("verify says %s", out)
	}
}

// grow makes every session longer.
func (tr *tree) grow() {
	tr.t.Helper()
	for name, content := range tr.sessions {
		content = append(bytes.Clone(content), "\n{}\n"...)
		tr.sessions[name] = content
		tr.must(os.WriteFile(filepath.Join(tr.home, name), content, 0o600))
	}
}

// onS3 gives the tree another mirror, on a server.
func (tr *tree) onS3() *s3test.Server {
	s := s3test.New(tr.t)
	tr.mirror = s.BucketURL().String()
	return s
}

// Of ten pushes of one home at once one does it all, and nine say that it is at work.
func TestTenPushesOfOneHome(t *testing.T) {
	t.Parallel()
	tr := newTree(t, 10)
	s := tr.onS3()
	working, others := make(chan struct{}), make(chan struct{})
	s.Change(func() {
		s.OnRequest = func(n int) { // the one that works waits here for the others to end
			if n == 1 {
				close(working)
				<-others
			}
		}
	})
	const pushes = 10
	runs := make(chan ended, pushes)
	for range pushes {
		cmd := tr.command("push", "--idle", "0s")
		go func() { runs <- try(t, cmd) }()
	}
	<-working
	for range pushes - 1 {
		if e := <-runs; e.code != exitLocked || e.out != "" || strings.Count(e.err, "\n") != 1 || !strings.Contains(e.err, "another run") {
			t.Errorf("got %+v", e)
		}
	}
	close(others)
	if e := <-runs; e.code != exitOK || e.err != "" || !strings.Contains(e.out, fmt.Sprintf("%d uploaded", len(tr.sessions))) {
		t.Errorf("got %+v", e)
	}
	tr.whole()
}

// Ten homes push to one mirror at once, each a session that all have and one of its own.
func TestTenHomesIntoOneMirror(t *testing.T) {
	t.Parallel()
	tr := newTree(t, 11)
	const homes = 10
	session := func(n int) (name, content string) {
		id := fmt.Sprintf("01a1f81e-6bb9-7000-8000-0000000001%02d", n)
		return "sessions/2026/11/20/rollout-2026-11-20T08-41-45-" + id + ".jsonl",
			`{"timestamp":"2026-11-20T08:41:45.000Z","type":"session_meta","payload":{"id":"` + id + `"}}` + "\n"
	}
	runs := make(chan ended, homes)
	for i := range homes {
		home := filepath.Join(t.TempDir(), "home")
		for _, n := range []int{99, i} {
			name, content := session(n)
			tr.must(os.MkdirAll(filepath.Join(home, path.Dir(name)), 0o700))
			tr.must(os.WriteFile(filepath.Join(home, name), []byte(content), 0o600))
		}
		// Each is a machine of its own.
		cmd := tr.command("push", "--idle", "0s", "--home", home)
		for _, kind := range []string{"STATE", "CONFIG"} {
			cmd.Env = append(cmd.Env, "XDG_"+kind+"_HOME="+filepath.Join(home, "..", kind))
		}
		go func() { runs <- try(t, cmd) }()
	}
	for range homes {
		if e := <-runs; e.code != exitOK || e.err != "" {
			t.Errorf("got %+v", e)
		}
	}
	for _, n := range append([]int{99}, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9) {
		name, content := session(n)
		tr.sessions[name] = []byte(content)
	}
	into := t.TempDir()
	tr.run(exitOK, "restore", "--all", "--into", into)
	if got := tr.look(into); len(got) != len(tr.sessions) {
		t.Errorf("the mirror gives back %d of %d sessions", len(got), len(tr.sessions))
	}
	if out := tr.run(exitOK, "verify", "--deep"); !strings.Contains(out, "0 damaged") {
		t.Errorf("verify says %s", out)
	}
}

// Wrong credentials, a bucket that is not there, or nobody at the other end: one line
// that says so, and what to do about it.
func TestMirrorRefuses(t *testing.T) {
	t.Parallel()
	tr := newTree(t, 12)
	every := [][]string{
		{"push", "--idle", "0s"},
		{"push", "--idle", "0s", "--dry-run"},
		{"list"},
		{"verify"},
		{"restore", "--all"},
		{"show", "01a1f81e-6bb9-7000-8000-000000000001", "--where", "mirror"},
		{"prune", "--older-than", "0d", "--dry-run"},
	}
	s := tr.onS3()

	s.Change(func() { s.Deny = []string{"GET", "HEAD", "PUT", "LIST"} })
	for _, args := range every {
		tr.fails(exitFailure, 1, []string{"mirror s3://bucket/: ", "permission denied", "check the credentials"}, args...)
	}
	s.Change(func() { s.Deny = nil })

	tr.mirror = strings.Replace(tr.mirror, "s3://bucket", "s3://other", 1)
	for _, args := range every {
		tr.fails(exitFailure, 1, []string{"mirror s3://other/: ", "NoSuchBucket", "check the bucket's name"}, args...)
	}
	tr.mirror = s.BucketURL().String()
	tr.whole()

	// Who may read and not write.
	tr.grow()
	s.Change(func() { s.Deny = []string{"PUT"} })
	tr.fails(exitFailure, 2, []string{"took none of 8 sessions", "mirror s3://bucket/: ", "check the credentials"}, "push", "--idle", "0s")
	s.Change(func() { s.Deny = nil })
	tr.whole()

	// The bucket goes while a push is at work.
	tr.grow()
	requests := 0
	s.Change(func() {
		s.OnRequest = func(int) {
			requests++
			s.Gone = requests > 15
		}
	})
	tr.fails(exitFailure, 2, []string{"took none of 8 sessions", "mirror s3://bucket/: ", "NoSuchBucket", "check the bucket's name"}, "push", "--idle", "0s", "--jobs", "1")
	s.Change(func() { s.OnRequest, s.Gone = nil, false })
	tr.whole()
}

// Nobody listens where the mirror is said to be, and every try is in vain.
func TestMirrorIsUnreachable(t *testing.T) {
	t.Parallel()
	tr := newTree(t, 13)
	tr.env = append(tr.env, "AWS_MAX_ATTEMPTS=2")
	s := tr.onS3()
	tr.whole()
	s.Close()
	for _, args := range [][]string{{"push", "--idle", "0s", "--reconcile"}, {"list"}, {"restore", "--all"}} {
		tr.fails(exitFailure, 1, []string{"mirror s3://bucket/: ", "connection refused", "check the network"}, args...)
	}
	if got := tr.look(filepath.Join(tr.home, "sessions")); len(got) != len(tr.sessions) {
		t.Errorf("the home has %d of %d sessions", len(got), len(tr.sessions))
	}
}

// A push says once, and each time, that everybody can read the home, or a directory that
// is the mirror, and what to do; and does its work.
func TestPushWarnsOfExposure(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("it has no modes")
	}
	tr := newTree(t, 14)
	push := func(want ...string) {
		t.Helper()
		e := try(t, tr.command("push", "--idle", "0s"))
		if got := strings.Join(want, ""); e.code != exitOK || e.err != got {
			t.Errorf("code %d, and it says %q, want %q", e.code, e.err, got)
		}
	}
	warning := func(what, dir string) string {
		return "warning: everybody on this machine can read the " + what + " (mode 0755): chmod 700 " + dir + "\n"
	}
	tr.must(os.Chmod(tr.home, 0o700))
	tr.must(os.Chmod(tr.mirror, 0o700))
	push()
	tr.must(os.Chmod(tr.home, 0o755))
	for dir := filepath.Dir(tr.home); dir != filepath.Clean(os.TempDir()); dir = filepath.Dir(dir) {
		tr.must(os.Chmod(dir, 0o755))
	}
	if _, exposed := doctor.Exposure(tr.home); !exposed {
		t.Skip("nobody else gets into the temporary directory of this machine")
	}
	push(warning("home", tr.home))
	if e := try(t, tr.command("push", "--idle", "0s", "--log-format", "json")); !strings.Contains(e.err, `"msg":"exposed","what":"home","dir":"`) || strings.Contains(e.err, "warning") {
		t.Errorf("it logs %s", e.err)
	}
	tr.must(os.Chmod(tr.mirror, 0o755))
	push(warning("home", tr.home), warning("mirror", tr.mirror))
	tr.must(os.Chmod(tr.home, 0o700))
	push(warning("mirror", tr.mirror))
	tr.must(os.Chmod(filepath.Dir(tr.mirror), 0o700))
	push()
}
