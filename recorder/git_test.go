package recorder_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/recorder"
)

// patient returns a context for a machine that is busy.
func patient(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

func TestReadGit(t *testing.T) {
	// Not parallel: it sets PATH.
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("there is no git on this machine")
	}
	dir := t.TempDir()
	run := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL="+os.DevNull, "GIT_CONFIG_SYSTEM="+os.DevNull,
			"GIT_AUTHOR_DATE=2026-11-20T08:41:45Z", "GIT_COMMITTER_DATE=2026-11-20T08:41:45Z")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %s: %v: %s", args, err, out)
		}
	}
	check := func(want codec.Git) {
		t.Helper()
		if got := recorder.ReadGit(patient(t), dir); got != want {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
	check(codec.Git{})
	run("init", "--quiet", "--initial-branch=trunk")
	check(codec.Git{Branch: "trunk"})
	run("-c", "user.name=x", "-c", "user.email=x@example.com", "commit", "--quiet", "--allow-empty", "--message=x")
	run("remote", "add", "origin", "https://somebody:secret@example.com/a/b.git")
	got := recorder.ReadGit(patient(t), dir)
	if len(got.Commit) != 40 || got.Branch != "trunk" || got.Origin != "https://example.com/a/b.git" {
		t.Errorf("got %+v", got)
	}
	for _, url := range []string{"git@example.com:a/b.git", "ssh://git@example.com/a/b.git", "/srv/b.git"} {
		run("remote", "set-url", "origin", url)
		check(codec.Git{Commit: got.Commit, Branch: "trunk", Origin: url})
	}
	run("checkout", "--quiet", "--detach")
	check(codec.Git{Commit: got.Commit, Origin: "/srv/b.git"})

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got := recorder.ReadGit(ended, dir); got != (codec.Git{}) {
		t.Errorf("with an ended context: %+v", got)
	}

	if runtime.GOOS == "windows" {
		return // has no such scripts
	}
	bin := t.TempDir()
	must(t, os.WriteFile(filepath.Join(bin, "git"), []byte("#!/bin/sh\nexec sleep 60\n"), 0o700))
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	start := time.Now()
	if got := recorder.ReadGit(t.Context(), dir); got != (codec.Git{}) {
		t.Errorf("of a git that hangs: %+v", got)
	}
	if took := time.Since(start); took > 30*time.Second {
		t.Errorf("a git that hangs held it up for %v", took)
	}
}
