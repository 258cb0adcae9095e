package filestore_test

import (
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"

	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/internal/vfs/crashfs"
)

// failNext has the next operation of a kind fail.
func failNext(fsys *crashfs.FS, kind string) {
	failed := false
	fsys.Inject = func(op crashfs.Op) *crashfs.Fault {
		if failed || op.Kind != kind {
			return nil
		}
		failed = true
		return &crashfs.Fault{Err: syscall.EIO}
	}
}

// Bytes that somebody else appended are never cut off, not even behind our own.
func TestForeignBytesAreNotCut(t *testing.T) {
	t.Parallel()
	fsys := crashfs.New()
	s := open(fsys)
	l, err := s.Create(ctx, "a.jsonl")
	must(t, err)
	must(t, l.Append([]byte("ours\n")))
	other, err := fsys.Append("a.jsonl")
	must(t, err)
	_, err = other.Write([]byte("theirs\n"))
	must(t, errors.Join(err, other.Close()))
	failNext(fsys, "sync")
	if err := l.Sync(); !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "could not be cut off") {
		t.Errorf("Sync = %v", err)
	}
	must(t, l.Close())
	if got := content(t, s, "a.jsonl"); got != "ours\ntheirs\n" {
		t.Errorf("the log is %q", got)
	}
}

// A log of which nothing has remained does not stand in the way of the next.
func TestFailedFirstAppend(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"write", "sync"} {
		fsys := crashfs.New()
		s := open(fsys)
		for range 2 {
			l, err := s.Create(ctx, "a.jsonl")
			must(t, err)
			failNext(fsys, kind)
			if err := errors.Join(l.Append([]byte("one\n")), l.Sync()); !errors.Is(err, syscall.EIO) {
				t.Errorf("%s: %v", kind, err)
			}
			must(t, l.Close())
		}
		l, err := s.Create(ctx, "a.jsonl")
		must(t, err)
		must(t, errors.Join(l.Append([]byte("one\n")), l.Sync(), l.Close()))
		if got := content(t, s, "a.jsonl"); got != "one\n" {
			t.Errorf("%s: the log is %q", kind, got)
		}
	}
}

// A log that Sync confirmed is kept, empty as it is.
func TestEmptyLogIsKept(t *testing.T) {
	t.Parallel()
	fsys := crashfs.New()
	s := open(fsys)
	l, err := s.Create(ctx, "a.jsonl")
	must(t, err)
	must(t, l.Sync())
	failNext(fsys, "write")
	if err := l.Append([]byte("one\n")); !errors.Is(err, syscall.EIO) {
		t.Errorf("Append = %v", err)
	}
	must(t, l.Close())
	if got := content(t, open(fsys.Crash(crashfs.All, nil)), "a.jsonl"); got != "" {
		t.Errorf("the log is %q", got)
	}
}

// Who reads a log while its writer has to cut it back is told.
func TestReadOfACutLog(t *testing.T) {
	t.Parallel()
	fsys := crashfs.New()
	s := open(fsys)
	l, err := s.Create(ctx, "a.jsonl")
	must(t, err)
	must(t, errors.Join(l.Append([]byte("one\n")), l.Sync(), l.Append([]byte("two\n"))))
	f, err := s.Open(ctx, "a.jsonl")
	must(t, err)
	defer f.Close()
	failNext(fsys, "sync")
	if err := l.Sync(); !errors.Is(err, syscall.EIO) {
		t.Errorf("Sync = %v", err)
	}
	must(t, l.Close())
	r, err := f.Range(ctx, 0, -1)
	must(t, err)
	if got, err := io.ReadAll(r); string(got) != "one\n" || !errors.Is(err, store.ErrChanged) {
		t.Errorf("read %q, %v", got, err)
	}
}

// A log and its compressed form have one lock.
func TestStoredFormIsLocked(t *testing.T) {
	t.Parallel()
	s := open(crashfs.New())
	l, err := s.Create(ctx, "a.jsonl")
	must(t, err)
	_, err = s.Put(ctx, "a.jsonl.zst", body("x"), store.Cond{IfAbsent: true})
	if !errors.Is(err, store.ErrBusy) {
		t.Errorf("Put = %v", err)
	}
	must(t, l.Close())
}

// What changes while a body is read, by a writer that takes no lock, is kept.
func TestPutChecksLate(t *testing.T) {
	t.Parallel()
	for _, there := range []bool{false, true} {
		fsys := crashfs.New()
		s := open(fsys)
		cond := store.Cond{IfAbsent: true}
		if there {
			put(t, s, "a.jsonl", "old\n")
			w := &world{t: t, s: s}
			cond = store.Cond{IfVersion: w.version("a.jsonl")}
		}
		b := body("new\n")
		inner := b.Open
		b.Open = func() (io.ReadCloser, error) {
			f, err := fsys.Append("a.jsonl")
			if !there {
				f, err = fsys.Create("a.jsonl")
			}
			must(t, err)
			_, err = f.Write([]byte("foreign\n"))
			must(t, errors.Join(err, f.Close()))
			return inner()
		}
		if _, err := s.Put(ctx, "a.jsonl", b, cond); !errors.Is(err, store.ErrChanged) {
			t.Errorf("Put = %v", err)
		}
		if got := content(t, s, "a.jsonl"); !strings.HasSuffix(got, "foreign\n") {
			t.Errorf("the log is %q", got)
		}
	}
}

// A log that somebody makes in the last instant is not replaced.
func TestPutIfAbsentReplacesNothing(t *testing.T) {
	t.Parallel()
	fsys := crashfs.New()
	fsys.Inject = func(op crashfs.Op) *crashfs.Fault {
		if op.Name == "a.jsonl" && (op.Kind == "link" || op.Kind == "rename") {
			f, err := fsys.Create("a.jsonl")
			must(t, errors.Join(err, f.Close()))
		}
		return nil
	}
	s := open(fsys)
	if _, err := s.Put(ctx, "a.jsonl", body("new\n"), store.Cond{IfAbsent: true}); !errors.Is(err, store.ErrChanged) {
		t.Errorf("Put = %v", err)
	}
	if got := content(t, s, "a.jsonl"); got != "" {
		t.Errorf("the log is %q", got)
	}
}

// A context that ends while a log is made plain ends that, and leaves it as it was.
func TestUnsealIsCancelled(t *testing.T) {
	t.Parallel()
	fsys := crashfs.New()
	s := open(fsys)
	put(t, s, "a.jsonl.zst", zst(t, "one\n"))
	ctx, cancel := context.WithCancel(ctx)
	fsys.After = func(op crashfs.Op) {
		if op.Kind == "create" && strings.HasSuffix(op.Name, ".tmp") {
			cancel()
		}
	}
	if _, err := s.Append(ctx, "a.jsonl"); !errors.Is(err, context.Canceled) {
		t.Errorf("Append = %v", err)
	}
	fsys.After = nil
	if got := strings.Join(fsys.Files(), " "); got != ".locks/gate a.jsonl.zst" {
		t.Errorf("there is %s", got)
	}
}

func TestReadIsCancelled(t *testing.T) {
	t.Parallel()
	s := open(crashfs.New())
	put(t, s, "a.jsonl", "one\n")
	f, err := s.Open(ctx, "a.jsonl")
	must(t, err)
	defer f.Close()
	ctx, cancel := context.WithCancel(ctx)
	r, err := f.Range(ctx, 0, -1)
	must(t, err)
	defer r.Close()
	cancel()
	if n, err := r.Read(make([]byte, 10)); n != 0 || !errors.Is(err, context.Canceled) {
		t.Errorf("Read = %d, %v", n, err)
	}
}

// readers are read one after the other, a Read each.
type readers []func() error

func (r *readers) Read(p []byte) (int, error) {
	next := (*r)[0]
	*r = (*r)[1:]
	return copy(p, "line\n"), next()
}

func bodyOf(claimed string, r ...func() error) store.Body {
	b := body(claimed)
	b.Open = func() (io.ReadCloser, error) { return io.NopCloser((*readers)(&r)), nil }
	return b
}

var errReadOn = errors.New("read on")

func readOn() error { return errReadOn }

// A body is not read on when the context is over.
func TestPutIsCancelled(t *testing.T) {
	t.Parallel()
	fsys := crashfs.New()
	ctx, cancel := context.WithCancel(ctx)
	b := bodyOf("line\nline\n", func() error { cancel(); return nil }, readOn)
	_, err := open(fsys).Put(ctx, "a.jsonl", b, store.Cond{IfAbsent: true})
	if !errors.Is(err, context.Canceled) || errors.Is(err, errReadOn) {
		t.Errorf("Put = %v", err)
	}
}

// A body is not read on when it is certain that it is too long.
func TestPutOfALongBody(t *testing.T) {
	t.Parallel()
	b := bodyOf("line\n", func() error { return nil }, func() error { return nil }, readOn)
	_, err := open(crashfs.New()).Put(ctx, "a.jsonl", b, store.Cond{IfAbsent: true})
	if !errors.Is(err, store.ErrChanged) || errors.Is(err, errReadOn) {
		t.Errorf("Put = %v", err)
	}
}

// A gate that is held is waited for, as long as the context lasts; to give a lock
// back also when that is over.
func TestGate(t *testing.T) {
	t.Parallel()
	fsys := crashfs.New()
	s := open(fsys)
	gate, err := fsys.Lock(".locks/gate")
	must(t, err)
	waiting, cancel := context.WithCancel(ctx)
	fsys.After = func(op crashfs.Op) {
		if op.Kind == "lock" {
			cancel()
		}
	}
	if _, err := s.Create(waiting, "a.jsonl"); !errors.Is(err, context.Canceled) {
		t.Errorf("Create = %v", err)
	}
	tries := 0
	openSoon := func(op crashfs.Op) {
		if op.Kind != "lock" {
			return
		}
		if tries++; tries%3 == 0 {
			must(t, gate.Close())
		}
	}
	fsys.After = openSoon
	waiting, cancel = context.WithCancel(ctx)
	l, err := s.Create(waiting, "a.jsonl")
	must(t, err)
	if tries < 3 {
		t.Error("Create did not wait for the gate")
	}

	fsys.After = nil
	gate, err = fsys.Lock(".locks/gate")
	must(t, err)
	cancel()
	tries, fsys.After = 0, openSoon
	must(t, l.Close())
	if got := strings.Join(fsys.Files(), " "); got != ".locks/gate a.jsonl" || tries < 3 {
		t.Errorf("there is %s after %d tries", got, tries)
	}
}

// A gate that somebody never opens does not block for ever, and what it guards is
// not touched.
func TestGateStaysShut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		fsys := crashfs.New()
		s := open(fsys)
		l, err := s.Create(ctx, "a.jsonl")
		must(t, err)
		gate, err := fsys.Lock(".locks/gate")
		must(t, err)
		if _, err := s.Create(ctx, "b.jsonl"); !errors.Is(err, store.ErrBusy) {
			t.Errorf("Create = %v", err)
		}
		if err := l.Close(); !errors.Is(err, store.ErrBusy) {
			t.Errorf("Close = %v", err)
		}
		if got := strings.Join(fsys.Files(), " "); got != ".locks/a.jsonl .locks/gate a.jsonl" {
			t.Errorf("there is %s", got)
		}
		must(t, gate.Close())
		l, err = s.Append(ctx, "a.jsonl")
		must(t, err)
		must(t, l.Close())
	})
}
