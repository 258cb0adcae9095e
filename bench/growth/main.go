// Command growth measures what each operation of the real rollout-sync grows with:
// each over a mirror of some sessions and over one of ten times as many, and over a
// mirror that some homes push to and one that ten times as many do.
//
//	go run ./growth [-sessions N] [-homes N] [-days N]
//
// It counts requests by the log of an S3 server (versitygw) on loopback and takes the
// most memory that a process had resident; of time it tells the ratio only. A factor
// of 10 is linear, 1 constant. The sessions are small, so that what counts is their
// number. Needs Linux, and the modules of Go's proxy for the server. All that is
// written is in one temporary directory, which is removed.
package main

import (
	"context"
	"errors"
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

// times is how many more sessions, or homes, the second mirror has.
const times = 10

// A shape says what is in a mirror.
type shape struct {
	sessions, homes int // of all homes together, each of which has every so manieth
	days            int // over which the sessions are spread
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == "=run" {
		os.Exit(measure(os.Args[2:]))
	}
	sessions := flag.Int("sessions", 2000, "in the first mirror; the second has ten times as many (0: do not compare these)")
	homes := flag.Int("homes", 10, "that push 1000 sessions to the first mirror, and ten times as many to the second (0: do not compare these)")
	days := flag.Int("days", 365, "over which the sessions are spread")
	dir := flag.String("dir", "", "where the temporary directory is made")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *dir, *sessions, *homes, *days); err != nil {
		fmt.Fprintln(os.Stderr, "growth:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string, sessions, homes, days int) error {
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
	if sessions > 0 {
		if err := m.compare(ctx, shape{sessions, 1, days}, shape{times * sessions, 1, days}); err != nil {
			return err
		}
	}
	if homes > 0 {
		const sessions = 1000
		return m.compare(ctx, shape{sessions, homes, days}, shape{sessions, times * homes, days})
	}
	return nil
}

// compare prints what is measured of one mirror and of another.
func (m *machine) compare(ctx context.Context, first, second shape) error {
	few, err := m.figures(ctx, first)
	if err != nil {
		return err
	}
	many, err := m.figures(ctx, second)
	if err != nil {
		return err
	}
	fmt.Printf("%d sessions of %d homes → %d sessions of %d homes, in %d days: requests by kind, memory, the ratio of times\n\n",
		first.sessions, first.homes, second.sessions, second.homes, first.days)
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
	fmt.Println()
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

// figures measures everything of a mirror, as one of the homes that push to it sees it.
func (m *machine) figures(ctx context.Context, s shape) (figures, error) {
	var f figures
	bucket := fmt.Sprintf("growth-%d-%d", s.sessions, s.homes)
	home, empty, back := m.path(bucket+"-home"), m.path(bucket+"-empty"), m.path(bucket+"-back")
	o := tree.Options{Sessions: s.sessions, Days: s.days, Archived: 0.1, Prompt: 500, Body: 1000}
	if err := tree.Make(home, o); err != nil {
		return f, err
	}
	for _, dir := range []string{empty, back, m.data(bucket)} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return f, err
		}
	}
	for other := 1; other < s.homes; other++ {
		if err := m.elsewhere(ctx, bucket, home, o, other, s.homes); err != nil {
			return f, err
		}
	}
	state := m.path(bucket+"-user", ".local", "state")
	some := o.At(s.sessions / 2 / s.homes * s.homes)
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
		{"list --light, everything", nothing, empty, fmt.Sprintf("list --light --limit %d", s.sessions+1)},
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

// elsewhere moves each homes-th session of home, from the one with the number other
// on, to another home, and pushes it from there.
func (m *machine) elsewhere(ctx context.Context, bucket, home string, o tree.Options, other, homes int) error {
	there := m.path(fmt.Sprintf("%s-home-%d", bucket, other))
	for i := other; i < o.Sessions; i += homes {
		file := filepath.FromSlash(o.At(i).Path)
		to := filepath.Join(there, file)
		if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o700), os.Rename(filepath.Join(home, file), to)); err != nil {
			return err
		}
	}
	_, err := m.sync(ctx, bucket, there, "push")
	return err
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
