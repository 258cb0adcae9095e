package filestore_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/internal/filestore"
	"github.com/rollout-sync/rollout/store/internal/vfs"
	"github.com/rollout-sync/rollout/store/internal/vfs/crashfs"
)

// A fault is a way in which an operation fails.
type fault struct {
	name string
	// of returns how an operation fails; nil is not at all, because such an
	// operation does not fail so.
	of   func(crashfs.Op) *crashfs.Fault
	seen error // what the caller has to see
	// stays is true if all later operations fail too.
	stays bool
	// cancels is true if the operation does not fail, but the caller's context
	// ends during it. The call may succeed all the same.
	cancels bool
}

var faults = []fault{
	{name: "EIO", of: always(syscall.EIO), seen: syscall.EIO},
	{name: "EIO from then on", of: always(syscall.EIO), seen: syscall.EIO, stays: true},
	{name: "EIO, but done", of: func(op crashfs.Op) *crashfs.Fault {
		switch op.Kind {
		case "sync", "syncdir", "link", "rename", "remove", "truncate", "chtimes":
			return &crashfs.Fault{Err: syscall.EIO, Done: true}
		}
		return nil
	}, seen: syscall.EIO},
	{name: "ENOSPC", of: func(op crashfs.Op) *crashfs.Fault {
		switch op.Kind {
		case "create", "mkdir", "write", "sync", "syncdir", "link", "rename", "lock":
			return &crashfs.Fault{Err: syscall.ENOSPC}
		}
		return nil
	}, seen: syscall.ENOSPC},
	{name: "short write", of: func(op crashfs.Op) *crashfs.Fault {
		if op.Kind == "write" {
			return &crashfs.Fault{}
		}
		return nil
	}, seen: io.ErrShortWrite},
	{name: "context cancelled", seen: context.Canceled, cancels: true},
}

func always(err error) func(crashfs.Op) *crashfs.Fault {
	return func(crashfs.Op) *crashfs.Fault { return &crashfs.Fault{Err: err} }
}

// harmless reports whether nobody needs to know that an operation failed: it was
// the Close of a file that was only read.
func harmless(op crashfs.Op) bool { return op.Kind == "close" && !op.Write }

// A job is a call, or a log's life, that is made to fail at each of its operations.
type job struct {
	name  string
	plant func(t *testing.T, fsys vfs.FS)
	// run does it, and is also what a caller does who tries again. It notes in p
	// what was acknowledged.
	run  func(s *filestore.Store, p *progress) error
	log  string
	want string // in the end; "-" is nothing
}

// progress of a job.
type progress struct {
	ctx   context.Context
	log   string
	whole bool   // it is all or nothing: the log is as it was, or as it is to be
	gone  bool   // there was nothing to remove any more
	sure  string // acknowledged; "-" is nothing
	seen  string // also what was appended and not lost again
}

// record appends the lines that are not yet there, syncs after every other, and
// seals.
func record(lines ...string) func(*filestore.Store, *progress) error {
	return func(s *filestore.Store, p *progress) (err error) {
		begin := s.Append
		if p.seen == "-" {
			begin = s.Create
		}
		l, err := begin(p.ctx, p.log)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, l.Close()) }()
		done := strings.TrimPrefix(p.seen, "-")
		if l.Size() != int64(len(done)) {
			return fmt.Errorf("the log begins with %d bytes, want those of %q", l.Size(), done)
		}
		seen := done
		for i, line := range lines {
			rest, ok := strings.CutPrefix(done, line)
			if done = rest; ok {
				continue
			}
			if err := l.Append([]byte(line)); err != nil {
				return p.checkPoison(l, err)
			}
			seen += line
			p.seen = seen
			if i%2 == 0 {
				continue
			}
			if err := l.Sync(); err != nil {
				p.seen = p.sure
				return p.checkPoison(l, err)
			}
			p.sure = seen
		}
		if err := l.Seal(p.ctx); errors.Is(err, context.Canceled) {
			return err // and nothing has happened
		} else if err != nil {
			p.seen = p.sure
			return p.checkPoison(l, err)
		}
		p.sure = seen
		return nil
	}
}

// checkPoison returns err, the first failure of a log, and more if the log can
// still be used.
func (p *progress) checkPoison(l store.Log, err error) error {
	for what, again := range map[string]error{"Append": l.Append([]byte("more\n")), "Sync": l.Sync(), "Seal": l.Seal(p.ctx)} {
		if again == nil || again.Error() != err.Error() {
			return fmt.Errorf("after %w, %s says: %w", err, what, again)
		}
	}
	return err
}

// putNew puts a log, when tried again in place of what may be there: that it can be
// read does not make it durable.
func putNew(content string) func(*filestore.Store, *progress) error {
	return func(s *filestore.Store, p *progress) error {
		if p.whole {
			if _, err := readAll(p.ctx, s, p.log); err == nil {
				return replace(content)(s, p)
			}
		}
		p.whole = true
		_, err := s.Put(p.ctx, p.log, body(content), store.Cond{IfAbsent: true})
		return err
	}
}

func replace(content string) func(*filestore.Store, *progress) error {
	return func(s *filestore.Store, p *progress) error {
		p.whole = true
		f, err := s.Open(p.ctx, p.log)
		if err != nil {
			return err
		}
		_, err = s.Put(p.ctx, p.log, body(content), store.Cond{IfVersion: f.Info().Version})
		return errors.Join(err, f.Close())
	}
}

func remove(s *filestore.Store, p *progress) error {
	f, err := s.Open(p.ctx, p.log)
	if p.whole && errors.Is(err, fs.ErrNotExist) {
		p.gone = true
		return nil
	}
	p.whole = true
	if err != nil {
		return err
	}
	return errors.Join(s.Remove(p.ctx, p.log, f.Info().Version), f.Close())
}

// look reads a log and lists everything.
func look(s *filestore.Store, p *progress) error {
	p.whole = true
	got, err := readAll(p.ctx, s, p.log)
	if err == nil && got != p.sure {
		err = fmt.Errorf("read %q, want %q", got, p.sure)
	}
	for _, e := range s.List(p.ctx, "d", store.ListOptions{}) {
		err = errors.Join(err, e)
	}
	return err
}

func plain(name, content string) func(*testing.T, vfs.FS) {
	return func(t *testing.T, fsys vfs.FS) { put(t, open(fsys), name, content) }
}

// twoForms has a log in its sealed form, and, unless it is "-", in its plain one.
func twoForms(plain, sealed string) func(*testing.T, vfs.FS) {
	return func(t *testing.T, fsys vfs.FS) { plant(t, fsys, theLog, plain, sealed) }
}

func nothing(*testing.T, vfs.FS) {}

const theLog = "d/log.jsonl"

var jobs = []job{
	{"record", nothing, record("one\n", "two\n", "three\n", "four\n", "five\n"), "a/b/log.jsonl", "one\ntwo\nthree\nfour\nfive\n"},
	{"append", plain(theLog, "one\n"), record("one\n", "two\n", "three\n"), theLog, "one\ntwo\nthree\n"},
	{"append to a sealed log", twoForms("-", "one\n"), record("one\n", "two\n"), theLog, "one\ntwo\n"},
	{"append to both forms", twoForms("one\n", "one\n"), record("one\n", "two\n"), theLog, "one\ntwo\n"},
	{"append to a plain form cut short", twoForms("o", "one\n"), record("one\n", "two\n"), theLog, "one\ntwo\n"},
	{"put if absent", nothing, putNew("new\n"), "a/b/new.jsonl", "new\n"},
	{"put if version", plain(theLog, "old\n"), replace("new\n"), theLog, "new\n"},
	{"put over a sealed log", twoForms("-", "old\n"), replace("o"), theLog, "o"},
	{"put over both forms", twoForms("other\n", "old\n"), replace("o"), theLog, "o"},
	{"remove", plain(theLog, "old\n"), remove, theLog, "-"},
	{"remove a sealed log", twoForms("-", "old\n"), remove, theLog, "-"},
	{"remove both forms", twoForms("other\n", "old\n"), remove, theLog, "-"},
	{"remove a plain form cut short", twoForms("o", "old\n"), remove, theLog, "-"},
	{"read", plain(theLog, "old\n"), look, theLog, "old\n"},
	{"read a sealed log", twoForms("-", "old\n"), look, theLog, "old\n"},
	{"read both forms", twoForms("other\n", "old\n"), look, theLog, "other\n"},
	{"read a plain form cut short", twoForms("o", "old\n"), look, theLog, "old\n"},
}

// TestFaults has every operation of every job fail in every way.
func TestFaults(t *testing.T) {
	t.Parallel()
	points := map[string]int{}
	for _, j := range jobs {
		for _, how := range faults {
			for n := 0; ; n++ {
				hit, over := j.fail(t, n, how)
				if hit {
					points[j.name]++
				}
				if over {
					break
				}
			}
		}
	}
	floor(t, "fault points", points, map[string]int{
		"record": 95, "append": 75, "append to a sealed log": 130, "append to both forms": 95,
		"append to a plain form cut short": 155, "put if absent": 100, "put if version": 115,
		"put over a sealed log": 125, "put over both forms": 190, "remove": 65, "remove a sealed log": 72,
		"remove both forms": 120, "remove a plain form cut short": 125, "read": 32, "read a sealed log": 40,
		"read both forms": 90, "read a plain form cut short": 95,
	})
}

// fail runs the job with a fault at operation n. It reports whether there was one,
// and whether the job had no more than n operations.
func (j job) fail(t *testing.T, n int, how fault) (hit, over bool) {
	t.Helper()
	what := fmt.Sprintf("%s, %s at operation %d", j.name, how.name, n)
	fsys := crashfs.New()
	s := open(fsys)
	j.plant(t, fsys)
	p := &progress{log: j.log, sure: content(t, s, j.log)}
	p.seen = p.sure
	var cancel context.CancelFunc
	p.ctx, cancel = context.WithCancel(ctx)
	defer cancel()
	first := fsys.Ops() + n
	var at crashfs.Op
	fsys.Inject = func(op crashfs.Op) *crashfs.Fault {
		if op.N != first && (!hit || !how.stays) {
			return nil
		}
		if how.cancels {
			hit, at = true, op
			cancel()
			return nil
		}
		f := how.of(op)
		if f != nil && !hit {
			hit, at = true, op
		}
		return f
	}
	err := j.run(s, p)
	fsys.Inject = nil
	over = fsys.Ops() <= first
	if !hit {
		must(t, err)
	}
	if hit && !errors.Is(err, how.seen) && (err != nil || !how.cancels && !harmless(at)) {
		t.Errorf("%s (%v): the caller sees %v", what, at, err)
	}

	uncut := err != nil && strings.Contains(err.Error(), "could not be cut off")
	if uncut && !how.stays {
		t.Errorf("%s (%v): %v", what, at, err)
	}
	possible := []string{p.seen}
	if p.whole {
		possible = append(possible, j.want)
	}
	got := content(t, open(fsys.Kill()), j.log)
	if !slices.Contains(possible, got) && !uncut {
		t.Errorf("%s (%v): the log is %q, want one of %q", what, at, got, possible)
	}
	lost := content(t, open(fsys.Crash(crashfs.All, nil)), j.log)
	kept := strings.HasPrefix(lost, strings.TrimPrefix(p.sure, "-")) && strings.HasPrefix(j.want, lost)
	if p.whole && !slices.Contains(possible, lost) || !p.whole && lost != p.sure && !kept {
		t.Errorf("%s (%v), and then a loss of power: the log is %q, %q was acknowledged", what, at, lost, p.sure)
	}
	left := slices.DeleteFunc(fsys.Files(), func(f string) bool { return !strings.HasSuffix(f, ".tmp") })
	if len(left) > 0 && !how.stays && at.Kind != "remove" {
		t.Errorf("%s (%v): %q is left", what, at, left)
	}

	// Once more, as its caller would.
	if uncut {
		return hit, over // which is why nobody should
	}
	p.ctx = ctx
	if err := j.run(open(fsys), p); err != nil {
		t.Errorf("%s (%v): tried again: %v", what, at, err)
	}
	if p.gone {
		return hit, over // it may come back after a loss of power, which Remove has said
	}
	if got := content(t, open(fsys.Crash(crashfs.All, nil)), j.log); got != j.want {
		t.Errorf("%s (%v), tried again: the log is %q, want %q", what, at, got, j.want)
	}
	return hit, over
}

// content is what a store has under a name; "-" is nothing.
func content(t *testing.T, s store.Source, name string) string {
	t.Helper()
	got, there := read(t, s, name)
	if !there {
		return "-"
	}
	return got
}
