// Command growth measures what each operation of the real rollout-sync grows with:
// all of them over a mirror of some sessions, and over one of ten times as many.
//
//	go run ./growth [-sessions N] [-days N]
//
// It counts requests by the log of an S3 server (versitygw) on loopback and takes the
// most memory that a process had resident; of time it tells the ratio only. A factor
// of 10 is linear, 1 constant. The sessions are small, so that what counts is their
// number. Needs Linux, and the modules of Go's proxy for the server. All that is
// written is in one temporary directory, which is removed.
package main

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout/bench/tree"
	"github.com/rollout-sync/rollout/codec"
)

// times is how many more sessions the second home has.
const times = 10

func main() {
	if len(os.Args) > 2 && os.Args[1] == "=run" {
		os.Exit(measure(os.Args[2:]))
	}
	n := flag.Int("sessions", 2000, "of the first home; the second has ten times as many")
	days := flag.Int("days", 365, "over which they are spread")
	dir := flag.String("dir", "", "where the temporary directory is made")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *dir, *n, *days); err != nil {
		fmt.Fprintln(os.Stderr, "growth:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string, n, days int) error {
	temp, err := os.MkdirTemp(dir, "rollout-bench-growth-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	m, err := newMachine(ctx, temp)
	if err != nil {
		return err
	}
	defer m.close()
	few, err := m.size(ctx, n, days)
	if err != nil {
		return err
	}
	many, err := m.size(ctx, n*times, days)
	if err != nil {
		return err
	}

	fmt.Printf("%d and %d sessions in %d days: requests by kind, memory, the ratio of times\n\n", n, n*times, days)
	const format = "%-34s %-22s %-22s %-22s %-20s %s\n"
	fmt.Printf(format, "", "GET and HEAD", "LIST", "PUT and POST", "RSS MB", "time")
	for i, a := range few.took {
		b := many.took[i]
		fmt.Printf(format, a.what, grows(a.Gets, b.Gets), grows(a.Lists, b.Lists), grows(a.Puts, b.Puts),
			grows(a.RSS>>20, b.RSS>>20), fmt.Sprintf("×%.1f", b.Wall.Seconds()/a.Wall.Seconds()))
	}
	fmt.Println()
	for i, a := range few.bytes {
		fmt.Printf("%-34s %s\n", a.what+", bytes", grows(a.n, many.bytes[i].n))
	}
	return nil
}

// grows tells two counts and the factor between them.
func grows(a, b int64) string {
	if a == 0 {
		return fmt.Sprintf("%d → %d", a, b)
	}
	return fmt.Sprintf("%d → %d ×%.1f", a, b, float64(b)/float64(a))
}

// figures are what was measured with one size.
type figures struct {
	took  []operation
	bytes []quantity
}

type operation struct {
	what string
	took
}

type quantity struct {
	what string
	n    int64
}

// size measures everything with n sessions.
func (m *machine) size(ctx context.Context, n, days int) (figures, error) {
	var f figures
	bucket := fmt.Sprintf("growth-%d", n)
	home, empty, back := m.path(bucket+"-home"), m.path(bucket+"-empty"), m.path(bucket+"-back")
	o := tree.Options{Sessions: n, Days: days, Archived: 0.1, Prompt: 500, Body: 1000}
	if err := tree.Make(home, o); err != nil {
		return f, err
	}
	for _, dir := range []string{empty, back, m.data(bucket)} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return f, err
		}
	}
	state := m.path(bucket+"-user", ".local", "state")
	some := o.At(n / 2)
	id := some.ID.String()
	nothing := func() error { return nil }
	for _, op := range []struct {
		what   string
		before func() error
		home   string
		args   string
	}{
		{"push, the first", nothing, home, "push"},
		{"push, nothing to do", nothing, home, "push"},
		{"push, one has grown", func() error { return grow(home, some) }, home, "push"},
		{"push, one is new", func() error { return add(home) }, home, "push"},
		{"push --reconcile", nothing, home, "push --reconcile"},
		{"push, the state is lost", func() error { return os.RemoveAll(state) }, home, "push"},
		{"status", nothing, home, "status"},
		{"list, of both", nothing, home, "list"},
		{"list, of the mirror", nothing, empty, "list"},
		{"list --sort updated", nothing, empty, "list --sort updated"},
		{"list --cwd, there is none", nothing, empty, "list --cwd /nowhere"},
		{"list --light, everything", nothing, empty, fmt.Sprintf("list --light --limit %d", n+1)},
		{"show ID", nothing, empty, "show " + id},
		{"restore ID", nothing, back, "restore " + id},
		{"prune --dry-run", nothing, home, "prune --older-than 1h --dry-run"},
		{"forget ID --dry-run", nothing, empty, "forget --dry-run " + id},
		{"verify", nothing, home, "verify"},
	} {
		if err := op.before(); err != nil {
			return f, err
		}
		if strings.HasPrefix(op.args, "push") {
			settle()
		}
		t, err := m.sync(ctx, bucket, op.home, op.args)
		if err != nil {
			return f, err
		}
		f.took = append(f.took, operation{op.what, t})
	}
	for _, place := range []struct{ what, dir string }{
		{"home", home},
		{"mirror: sessions", filepath.Join(m.data(bucket), "sessions")},
		{"mirror: facts", filepath.Join(m.data(bucket), "origins")},
		{"state", state},
	} {
		b, err := size(place.dir)
		if err != nil {
			return f, err
		}
		f.bytes = append(f.bytes, quantity{place.what, b})
	}
	return f, nil
}

// idle is a time at which a session that rests now was last written to.
func idle() time.Time { return time.Now().Add(-time.Hour) }

// settle waits until no file is so new that it might change again unnoticed.
func settle() { time.Sleep(2500 * time.Millisecond) }

// grow adds a line to a session.
func grow(home string, s tree.Session) error {
	file := filepath.Join(home, filepath.FromSlash(s.Path))
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := fmt.Fprintf(f, `{"timestamp":"%s","type":"event_msg","payload":{"type":"agent_message","message":"more"}}`+"\n", codec.FormatTime(s.Start)); err != nil {
		return err
	}
	return os.Chtimes(file, idle(), idle())
}

// add makes a copy of the newest session of a tree, under an id of its own.
func add(home string) error {
	last := tree.Options{Sessions: 1, Days: 1}.At(0)
	id := uuid.UUID{0x01, 0x9a, 15: 1}
	file := filepath.Join(home, filepath.FromSlash(last.Start.Format("sessions/2006/01/02/")+codec.NewName(last.Start, id).String()))
	at := codec.FormatTime(last.Start)
	line := fmt.Sprintf(`{"timestamp":"%s","type":"session_meta","payload":{"id":"%s","timestamp":"%s","cwd":"/"}}`+"\n", at, id, at)
	if err := os.WriteFile(file, []byte(line), 0o600); err != nil {
		return err
	}
	return os.Chtimes(file, idle(), idle())
}

// size returns how many bytes the files below dir have.
func size(dir string) (n int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil {
			n += info.Size()
		}
		return err
	})
	return n, err
}
