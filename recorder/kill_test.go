package recorder_test

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rollout-sync/rollout"
	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/recorder"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/blob"
	"github.com/rollout-sync/rollout/store/blob/dirblob"
)

var kills = flag.Int("kills", 40, "how many times TestKill kills a process that records")

// The test binary is also the process that is killed: with this variable it is a
// child of the kind that it names.
const childVariable = "RECORDER_TEST_CHILD"

func TestMain(m *testing.M) {
	child := map[string]func(dir string, round int) error{"record": childRecord, "blob": childBlob, "hold": childHold}[os.Getenv(childVariable)]
	if child == nil {
		os.Exit(m.Run())
	}
	round, err := strconv.Atoi(os.Args[2])
	if err == nil {
		err = child(os.Args[1], round)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// A child is a process that records.
type child struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner // a line for each Flush that returned
}

func startChild(t *testing.T, kind, dir string, round int) *child {
	t.Helper()
	exe, err := os.Executable()
	must(t, err)
	cmd := exec.Command(exe, dir, strconv.Itoa(round))
	cmd.Env = append(os.Environ(), childVariable+"="+kind)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	must(t, err)
	out, err := cmd.StdoutPipe()
	must(t, err)
	must(t, cmd.Start())
	return &child{cmd, in, bufio.NewScanner(out)}
}

const killSessions = 8

// killMeta is the n'th session of a directory.
func killMeta(n int) recorder.Meta {
	m := meta
	m.ID[15] = byte(n)
	return m
}

func killName(n int) string { return strings.Replace(name, id.String(), killMeta(n).ID.String(), 1) }

// childRecord goes on with its sessions, which it makes if they are not there,
// until it is killed.
func childRecord(dir string, round int) error {
	home, err := rollout.Open(dir)
	if err != nil {
		return err
	}
	errs := make(chan error)
	for n := range killSessions {
		go func() { errs <- childSession(home, n, round) }()
	}
	return <-errs
}

func childSession(home *rollout.Home, n, round int) error {
	ctx := context.Background()
	rnd := rand.New(rand.NewPCG(uint64(round), uint64(n)))
	o := &recorder.Options{Now: at.Now, Sync: []time.Duration{0, time.Millisecond, recorder.SyncNever}[n%3]}
	r, err := recorder.Resume(ctx, home.Store(), killName(n), o)
	if errors.Is(err, fs.ErrNotExist) {
		r, err = recorder.New(home.Store(), killMeta(n), o)
	}
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		size := rnd.IntN(2000)
		if rnd.IntN(50) == 0 {
			size *= 200
		}
		if err := r.Record(ctx, note(fmt.Sprintf("%d.%d.%s", round, i, strings.Repeat("x", size)))); err != nil {
			return err
		}
		if rnd.IntN(3) == 0 {
			continue
		}
		if err := r.Flush(ctx); err != nil {
			return err
		}
		// One write, and so whole, like all that is shorter than a pipe's buffer.
		if _, err := fmt.Printf("%d %d\n", n, i); err != nil {
			return err
		}
	}
}

// Whenever a process dies, the next one finds every line that a Flush confirmed,
// once, in order, and goes on. (The page cache survives the process: this proves
// order and not durability, which the crash tests of the stores do.)
func TestKill(t *testing.T) {
	t.Parallel()
	const perDir = 20 // rounds, before the sessions get too long
	acknowledged, torn := 0, 0
	var dir string
	var tears []map[int]bool // by session, the lines that were torn by a kill
	for round := range *kills {
		if round%perDir == 0 {
			dir = t.TempDir()
			tears = make([]map[int]bool, killSessions)
		}
		c := startChild(t, "record", dir, round)
		last := make([]int, killSessions)
		for n := range last {
			last[n] = -1
		}
		for left := rand.IntN(300); c.out.Scan(); left-- {
			var n, i int
			_, err := fmt.Sscan(c.out.Text(), &n, &i)
			must(t, err)
			last[n] = i
			acknowledged++
			if left == 0 {
				must(t, c.cmd.Process.Kill())
			}
		}
		if err := c.cmd.Wait(); c.cmd.ProcessState.ExitCode() != -1 {
			t.Fatalf("round %d: the child was to be killed: %v", round, err)
		}
		for n := range killSessions {
			if tears[n] == nil {
				tears[n] = map[int]bool{}
			}
			b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(killName(n))))
			if errors.Is(err, fs.ErrNotExist) && last[n] < 0 {
				continue
			}
			must(t, err)
			lines := strings.Split(string(b), "\n")
			if tail := len(lines) - 1; lines[tail] == "" {
				lines = lines[:tail]
			} else if _, err := codec.DecodeItem([]byte(lines[tail])); err != nil {
				tears[n][tail] = true
				torn++
			}
			next := 0
			for i, line := range lines {
				_, err := codec.DecodeItem([]byte(line))
				if err != nil && !tears[n][i] {
					t.Fatalf("round %d: session %d: line %d is torn", round, n, i)
				}
				_, text, ok := strings.Cut(line, fmt.Sprintf(`{"n":"%d.`, round))
				if !ok || err != nil {
					continue
				}
				number, _, _ := strings.Cut(text, ".")
				if number != strconv.Itoa(next) {
					t.Fatalf("round %d: session %d: line %s instead of %d", round, n, number, next)
				}
				next++
			}
			if next <= last[n] {
				t.Fatalf("round %d: session %d: %d lines, and line %d was confirmed", round, n, next, last[n])
			}
			if len(lines) == 0 || len(lines) == 1 && tears[n][0] {
				// Dead before the first line was whole: nothing was confirmed.
				must(t, os.Remove(filepath.Join(dir, filepath.FromSlash(killName(n)))))
				tears[n] = nil
			}
		}
	}
	t.Logf("%d kills, %d sessions at a time: %d confirmed lines are there, once, in order; %d last lines were torn, 0 others",
		*kills, killSessions, acknowledged, torn)
}

func openDirblob(bucket, spool string) (*blob.Store, error) {
	b, err := dirblob.OpenBucket(bucket, nil)
	if err != nil {
		return nil, err
	}
	return blob.New(b, &blob.Options{Service: dirblob.Service(), SpoolDir: spool}), nil
}

// childBlob records into a write-once store until it is killed.
func childBlob(dir string, round int) error {
	st, err := openDirblob(filepath.Join(dir, "bucket"), filepath.Join(dir, "spool"))
	if err != nil {
		return err
	}
	ctx := context.Background()
	r, err := recorder.New(st, recorder.Meta{Cwd: "/w", Originator: "test", CLIVersion: "1"}, nil)
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		if err := errors.Join(r.Record(ctx, note(strconv.Itoa(i))), r.Flush(ctx)); err != nil {
			return err
		}
		if _, err := fmt.Println(round, i); err != nil {
			return err
		}
	}
}

// Of a session that was not sealed nothing can be seen, and nothing is left.
func TestKillBeforeSeal(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bucket, spool := filepath.Join(dir, "bucket"), filepath.Join(dir, "spool")
	must(t, os.MkdirAll(bucket, 0o700))
	must(t, os.MkdirAll(spool, 0o700))
	for round := range 3 {
		c := startChild(t, "blob", dir, round)
		for left := rand.IntN(100); c.out.Scan(); left-- {
			if left == 0 {
				must(t, c.cmd.Process.Kill())
			}
		}
		_ = c.cmd.Wait() // it was killed
	}
	st, err := openDirblob(bucket, spool)
	must(t, err)
	defer st.Close()
	for e, err := range st.List(t.Context(), ".", store.ListOptions{}) {
		t.Errorf("there is %s, %v", e.Name, err)
	}
}

// childHold keeps a session open until its standard input ends.
func childHold(dir string, _ int) error {
	home, err := rollout.Open(dir)
	if err != nil {
		return err
	}
	ctx := context.Background()
	r, err := recorder.New(home.Store(), meta, at)
	if err != nil {
		return err
	}
	if err := errors.Join(r.Record(ctx, note("child")), r.Flush(ctx)); err != nil {
		return err
	}
	fmt.Println("ready")
	_, err = io.Copy(io.Discard, os.Stdin)
	return errors.Join(err, r.Close(ctx))
}

func TestTwoProcesses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := startChild(t, "hold", dir, 0)
	if !c.out.Scan() {
		t.Fatal("the child did not begin")
	}
	home, err := rollout.Open(dir)
	must(t, err)
	defer home.Close()
	if _, err := recorder.Resume(t.Context(), home.Store(), name, at); !errors.Is(err, store.ErrBusy) {
		t.Errorf("Resume: %v", err)
	}
	r := newRecorder(t, home.Store())
	must(t, r.Record(t.Context(), note("x")))
	if err := r.Flush(t.Context()); !errors.Is(err, store.ErrBusy) {
		t.Errorf("Flush: %v", err)
	}
	must(t, c.in.Close())
	must(t, c.cmd.Wait())
	r, err = recorder.Resume(t.Context(), home.Store(), name, at)
	must(t, err)
	must(t, r.Record(t.Context(), note("parent")))
	must(t, r.Close(t.Context()))
	if got := read(t, home.Store(), name); got != metaLine+noteLine("child")+noteLine("parent") {
		t.Errorf("got %q", got)
	}
}
