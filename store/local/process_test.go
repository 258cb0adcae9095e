//go:build unix

package local_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/local"
)

// roleEnv makes the test binary another process that uses the directory that is
// its argument.
const roleEnv = "ROLLOUT_LOCAL_TEST_ROLE"

func TestMain(m *testing.M) {
	role, arg, _ := strings.Cut(os.Getenv(roleEnv), ":")
	switch role {
	case "":
		os.Exit(m.Run())
	case "writer":
		beWriter(os.Args[1], arg)
	case "umask":
		mask, err := strconv.ParseInt(arg, 8, 32)
		check(err)
		syscall.Umask(int(mask))
		makeAll(os.Args[1])
	}
}

func check(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
}

// process starts the test binary in a role.
func process(t *testing.T, role, dir string) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, dir)
	cmd.Env = append(os.Environ(), roleEnv+"="+role)
	cmd.Stderr = os.Stderr
	return cmd
}

const (
	session  = "01a1f81e-b96c-7071-a214-a4467b4a9b32"
	theLog   = "sessions/2026/11/20/rollout-2026-11-20T08-41-45-" + session + ".jsonl"
	lockDir  = "thread-writer-locks"
	gateFile = lockDir + "/.coordination.lock"
)

// codexLocks are the locks of a Codex home, of the one session that is in it.
var codexLocks = &local.Options{Lock: func(name string) local.Lock {
	id := "other"
	if strings.Contains(path.Base(name), session) {
		id = session
	}
	return local.Lock{File: lockDir + "/" + id + ".lock", Gate: gateFile}
}}

var lockings = map[string]*local.Options{"own": nil, "codex": codexLocks}

// beWriter appends a line to the log, says so, and holds the log until its standard
// input ends.
func beWriter(dir, locking string) {
	s, err := local.Open(dir, lockings[locking])
	check(err)
	l, err := s.Append(ctx, theLog)
	if errors.Is(err, fs.ErrNotExist) {
		l, err = s.Create(ctx, theLog)
	}
	check(err)
	check(l.Append([]byte("a line\n")))
	check(l.Sync())
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	check(errors.Join(err, l.Close()))
}

// writer starts a writer and returns when it says something, and what.
func writer(t *testing.T, dir, locking string) (cmd *exec.Cmd, stdin io.Closer, says string) {
	t.Helper()
	cmd = process(t, "writer:"+locking, dir)
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	says, err = bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatalf("the writer says %q, %v", says, err)
	}
	return cmd, in, strings.TrimSpace(says)
}

// A log has one writer, whichever process that is, until it closes the log or dies.
func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	for locking, o := range lockings {
		t.Run(locking, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			s := open(t, dir, o)
			for round, end := range []string{"close", "kill"} {
				cmd, stdin, says := writer(t, dir, locking)
				if says != "ready" {
					t.Fatalf("the writer says %q", says)
				}
				wantBusy(t, s)
				l, err := s.Create(ctx, fmt.Sprintf("another-%d.jsonl", round))
				if err != nil {
					t.Fatal(err)
				}
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				if end == "close" {
					stdin.Close()
					if err := cmd.Wait(); err != nil {
						t.Fatal(err)
					}
				} else {
					if err := cmd.Process.Kill(); err != nil {
						t.Fatal(err)
					}
					_ = cmd.Wait() // killed
				}
				// A lock file that was left behind locks nobody out, and goes.
				l, err = s.Append(ctx, theLog)
				if err != nil {
					t.Fatalf("after %s: %v", end, err)
				}
				if _, _, says := writer(t, dir, locking); !strings.Contains(says, store.ErrBusy.Error()) {
					t.Errorf("another writer says %q", says)
				}
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				left, err := filepath.Glob(filepath.Join(dir, "*locks", "[0-9a-f]*.lock"))
				if err != nil || len(left) > 0 {
					t.Errorf("after %s: %q is left, %v", end, left, err)
				}
			}
			if got := read(t, s, theLog); got != "a line\na line\n" {
				t.Errorf("the log is %q", got)
			}
		})
	}
}

func wantBusy(t *testing.T, s *local.Store) {
	t.Helper()
	f, err := s.Open(ctx, theLog)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	v := f.Info().Version
	_, appending := s.Append(ctx, theLog)
	_, creating := s.Create(ctx, theLog)
	_, putting := s.Put(ctx, theLog, store.BytesBody(nil, f.Info().ModTime), store.Cond{IfVersion: v})
	_, locking := s.Lock(ctx, theLog)
	for what, err := range map[string]error{
		"Append": appending, "Create": creating, "Put": putting, "Remove": s.Remove(ctx, theLog, v), "Lock": locking,
	} {
		if !errors.Is(err, store.ErrBusy) {
			t.Errorf("%s = %v", what, err)
		}
	}
}

// takeAsCodex takes a session's lock as Codex 0.169 does: under the coordination
// lock, whose file stays, the lock of the file of the session.
func takeAsCodex(t *testing.T, dir string) (release func(), ok bool) {
	t.Helper()
	lock := func(name string, how int) (*os.File, error) {
		if err := os.MkdirAll(filepath.Join(dir, lockDir), 0o755); err != nil {
			t.Fatal(err)
		}
		f, err := os.OpenFile(filepath.Join(dir, name), os.O_RDWR|os.O_CREATE, 0o644)
		if err != nil {
			t.Fatal(err)
		}
		return f, syscall.Flock(int(f.Fd()), how)
	}
	gate := func() (open func()) {
		f, err := lock(gateFile, syscall.LOCK_EX)
		if err != nil {
			t.Fatal(err)
		}
		return func() { f.Close() }
	}
	file := lockDir + "/" + session + ".lock"
	openGate := gate()
	defer openGate()
	f, err := lock(file, syscall.LOCK_EX|syscall.LOCK_NB)
	if err != nil {
		f.Close()
		return nil, false
	}
	return func() {
		openGate := gate()
		defer openGate()
		f.Close()
		if err := os.Remove(filepath.Join(dir, file)); err != nil {
			t.Error(err)
		}
	}, true
}

// Codex and we keep each other out of a session.
func TestCodexLock(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, codexLocks)
	l, err := s.Create(ctx, theLog)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, ok := takeAsCodex(t, dir); ok {
			t.Fatal("Codex takes the lock that we have")
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		release, ok := takeAsCodex(t, dir)
		if !ok {
			t.Fatal("Codex does not get the lock that we gave back")
		}
		wantBusy(t, s)
		release()
		if l, err = s.Append(ctx, theLog); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

// makeAll makes files and directories in every way that there is, with their locks.
func makeAll(dir string) {
	s, err := local.Open(dir, nil)
	check(err)
	for _, again := range []string{"1", "2"} {
		l, err := s.Create(ctx, "a/b/created"+again+".jsonl")
		check(err)
		check(l.Append([]byte("line\n")))
		check(l.Seal(ctx))
		check(l.Close())
		_, err = s.Put(ctx, "a/c/put"+again+".jsonl", store.BytesBody(nil, time.Time{}), store.Cond{IfAbsent: true})
		check(err)
		l, err = s.Append(ctx, "sealed/"+again+".jsonl")
		check(err)
		check(l.Close())
		_, err = s.Lock(ctx, "locked"+again) // left behind
		check(err)
	}
}

func TestUmask(t *testing.T) {
	t.Parallel()
	for _, mask := range []string{"0", "022", "0777"} {
		t.Run(mask, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			write(t, filepath.Join(dir, "sealed", "1.jsonl.zst"), seal(t, "line\n"))
			write(t, filepath.Join(dir, "sealed", "2.jsonl.zst"), seal(t, "line\n"))
			out, err := process(t, "umask:"+mask, dir).Output()
			if err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			seen := map[fs.FileMode]int{}
			err = filepath.WalkDir(dir, func(name string, d fs.DirEntry, err error) error {
				if err != nil || name == dir {
					return err
				}
				fi, err := d.Info()
				if err != nil {
					return err
				}
				want := fs.FileMode(0o600)
				if d.IsDir() {
					want = fs.ModeDir | 0o700
				}
				if seen[want]++; fi.Mode() != want {
					t.Errorf("%s has mode %v, want %v", name, fi.Mode(), want)
				}
				return nil
			})
			if err != nil || len(seen) != 2 || seen[0o600] != 9 { // six logs, two locks, the gate
				t.Errorf("seen %v, %v", seen, err)
			}
		})
	}
}
