package recorder_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/afero"
	"gocloud.dev/blob/memblob"

	"github.com/rollout-sync/rollout/recorder"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/blob"
	"github.com/rollout-sync/rollout/store/blob/mem"
	"github.com/rollout-sync/rollout/store/memfs"
)

// A sick file system fails its operations while it is told to. A write that fails
// has written a part.
type sick struct {
	afero.Fs
	fail func(op string) error
}

type sickFile struct {
	afero.File
	*sick
}

func (s *sick) OpenFile(name string, flag int, perm os.FileMode) (afero.File, error) {
	if flag&os.O_CREATE != 0 {
		if err := s.fail("create"); err != nil {
			return nil, err
		}
	}
	f, err := s.Fs.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return &sickFile{f, s}, nil
}

func (s *sick) Remove(name string) error {
	if err := s.fail("remove"); err != nil {
		return err
	}
	return s.Fs.Remove(name)
}

func (f *sickFile) Write(p []byte) (int, error) {
	if err := f.fail("write"); err != nil {
		n, _ := f.File.Write(p[:len(p)/2])
		return n, err
	}
	return f.File.Write(p)
}

func (f *sickFile) Sync() error {
	if err := f.fail("sync"); err != nil {
		return err
	}
	return f.File.Sync()
}

func (f *sickFile) Truncate(size int64) error {
	if err := f.fail("truncate"); err != nil {
		return err
	}
	return f.File.Truncate(size)
}

// policies are the durabilities that a failure must not make a difference to.
var policies = map[string]time.Duration{"each": 0, "late": time.Hour, "never": recorder.SyncNever}

func TestDiskFullAndBack(t *testing.T) {
	t.Parallel()
	for policy, sync := range policies {
		for _, op := range []string{"create", "write", "sync"} {
			for _, first := range []bool{true, false} { // the first write of all, or a later one
				if op == "sync" && policy != "each" || op == "create" && !first {
					continue
				}
				t.Run(fmt.Sprint(policy, " ", op, " ", first), func(t *testing.T) {
					t.Parallel()
					disk := &sick{Fs: afero.NewMemMapFs(), fail: func(string) error { return nil }}
					st := memfs.New(disk)
					r, err := recorder.New(st, meta, &recorder.Options{Now: at.Now, Sync: sync})
					must(t, err)
					want := metaLine
					if !first {
						must(t, r.Record(t.Context(), note("0")))
						must(t, r.Flush(t.Context()))
						want += noteLine("0")
					}
					disk.fail = func(on string) error {
						if on == op {
							return syscall.ENOSPC
						}
						return nil
					}
					must(t, r.Record(t.Context(), note("1"), note("2")))
					must(t, r.Err())
					for _, call := range []func() error{
						func() error { return r.Flush(t.Context()) },
						func() error { return r.Flush(t.Context()) },
						func() error { return r.Record(t.Context(), note("refused")) },
						func() error { return r.Retry(t.Context()) },
						r.Err,
						func() error { return r.Seal(t.Context()) },
					} {
						if err := call(); !errors.Is(err, syscall.ENOSPC) {
							t.Errorf("on a full disk: %v", err)
						}
					}
					if got := read(t, st, name); got != "" && first || got != want && !first {
						t.Errorf("on a full disk there is %q", got)
					}

					disk.fail = func(string) error { return nil }
					must(t, r.Retry(t.Context()))
					must(t, r.Err())
					must(t, r.Retry(t.Context()))
					want += noteLine("1") + noteLine("2")
					if got := read(t, st, name); got != want {
						t.Errorf("after Retry there is %q", got)
					}
					must(t, r.Close(t.Context()))
					if got := read(t, st, name); got != want {
						t.Errorf("after Close there is %q", got)
					}
				})
			}
		}
	}
}

// A file that could be made, and not written, is not left behind.
func TestNoEmptyFileIsLeft(t *testing.T) {
	t.Parallel()
	for _, retry := range []bool{false, true} {
		disk := &sick{Fs: afero.NewMemMapFs()}
		disk.fail = func(op string) error {
			if op == "write" {
				return syscall.ENOSPC
			}
			return nil
		}
		st := memfs.New(disk)
		r := newRecorder(t, st)
		must(t, r.Record(t.Context(), note("1")))
		if retry {
			for range 2 {
				if err := errors.Join(r.Flush(t.Context()), r.Retry(t.Context())); !errors.Is(err, syscall.ENOSPC) {
					t.Errorf("got %v", err)
				}
			}
		}
		if err := r.Close(t.Context()); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("got %v", err)
		}
		if _, err := st.Open(t.Context(), name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("there is a file: %v", err)
		}
	}
}

// What the store could not take back is gone on with, where it is known to be
// there, and nothing is ever written twice.
func TestRetryAfterTwoFaults(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"write", "sync"} {
		disk := &sick{Fs: afero.NewMemMapFs(), fail: func(string) error { return nil }}
		st := memfs.New(disk)
		r := newRecorder(t, st)
		must(t, r.Record(t.Context(), note("0")))
		must(t, r.Flush(t.Context()))
		disk.fail = func(on string) error {
			if on == op || on == "truncate" {
				return syscall.EIO
			}
			return nil
		}
		must(t, r.Record(t.Context(), note("1"), note("2")))
		if err := r.Flush(t.Context()); !errors.Is(err, syscall.EIO) {
			t.Errorf("%s: %v", op, err)
		}
		if got := read(t, st, name); len(got) <= len(metaLine+noteLine("0")) {
			t.Fatalf("%s: the fault left nothing: %q", op, got)
		}
		disk.fail = func(string) error { return nil }
		if op == "sync" {
			// The system may have dropped what it could not write, and says so once.
			if err := r.Retry(t.Context()); !errors.Is(err, syscall.EIO) {
				t.Errorf("Retry: %v", err)
			}
			if err := r.Close(t.Context()); !errors.Is(err, syscall.EIO) {
				t.Errorf("Close: %v", err)
			}
			continue
		}
		must(t, r.Retry(t.Context()))
		must(t, r.Close(t.Context()))
		if got := read(t, st, name); got != metaLine+noteLine("0")+noteLine("1")+noteLine("2") {
			t.Errorf("%s: got %q", op, got)
		}
	}
}

func TestRetrySeesForeignBytes(t *testing.T) {
	t.Parallel()
	disk := &sick{Fs: afero.NewMemMapFs(), fail: func(string) error { return nil }}
	st := memfs.New(disk)
	r := newRecorder(t, st)
	must(t, r.Record(t.Context(), note("0")))
	must(t, r.Flush(t.Context()))
	disk.fail = func(op string) error {
		if op == "write" {
			return io.ErrClosedPipe
		}
		return nil
	}
	must(t, r.Record(t.Context(), note("1")))
	if err := r.Flush(t.Context()); err == nil {
		t.Error("no error")
	}
	disk.fail = func(string) error { return nil }
	must(t, afero.WriteFile(disk.Fs, name, []byte(metaLine+noteLine("0")+noteLine("foreign")), 0o600))
	for range 2 {
		if err := r.Retry(t.Context()); !errors.Is(err, store.ErrChanged) {
			t.Errorf("got %v", err)
		}
	}
	if err := r.Close(t.Context()); !errors.Is(err, io.ErrClosedPipe) {
		t.Errorf("got %v", err)
	}
	if got := read(t, st, name); got != metaLine+noteLine("0")+noteLine("foreign") {
		t.Errorf("got %q", got)
	}
}

// Faults come and go at random under every policy, and Retry is called until it
// succeeds: every accepted line is there, once, in order.
func TestRandomFaults(t *testing.T) {
	t.Parallel()
	for seed := range uint64(9) {
		rnd := rand.New(rand.NewPCG(seed, 0))
		ill := false
		disk := &sick{Fs: afero.NewMemMapFs()}
		disk.fail = func(op string) error {
			// A sync that fails when there is what cannot be taken back, be it because
			// it cannot be cut off or because of a failure before, is
			// TestRetryAfterTwoFaults.
			if op == "truncate" || op == "sync" && seed%3 > 0 {
				return nil
			}
			if ill && rnd.IntN(2) == 0 {
				return syscall.EIO
			}
			return nil
		}
		st := memfs.New(disk)
		var durable strings.Builder
		r, err := recorder.New(st, meta, &recorder.Options{
			Now: at.Now, Sync: []time.Duration{0, time.Hour, recorder.SyncNever}[seed%3],
			Durable: func(off int64, lines []byte) {
				if off != int64(durable.Len()) {
					t.Errorf("seed %d: a batch at %d instead of %d", seed, off, durable.Len())
				}
				durable.Write(lines)
			},
		})
		must(t, err)
		want := metaLine
		for i := range 60 {
			ill = rnd.IntN(3) == 0
			text := fmt.Sprint(i, strings.Repeat("-", rnd.IntN(5)*60_000))
			if r.Record(t.Context(), note(text)) == nil {
				want += noteLine(text)
			}
			switch rnd.IntN(4) {
			case 0:
				_ = r.Flush(t.Context())
			case 1:
				_ = r.Persist(t.Context())
			case 2:
				_ = r.Retry(t.Context())
			}
			if err := r.Record(t.Context()); (err == nil) != (r.Err() == nil) {
				t.Fatalf("seed %d: Record returns %v and Err %v", seed, err, r.Err())
			}
		}
		ill = false
		must(t, r.Retry(t.Context()))
		must(t, r.Close(t.Context()))
		if got := read(t, st, name); got != want {
			t.Fatalf("seed %d: got\n%.2000s\nwant\n%.2000s", seed, got, want)
		}
		if durable.String() != want {
			t.Fatalf("seed %d: the observer saw %d bytes of %d", seed, durable.Len(), len(want))
		}
	}
}

func TestMemoryIsBoundedWhenTheDiskIsFull(t *testing.T) {
	t.Parallel()
	disk := &sick{Fs: afero.NewMemMapFs(), fail: func(string) error { return syscall.ENOSPC }}
	r := newRecorder(t, memfs.New(disk))
	big, accepted := note(strings.Repeat("x", 100<<10)), 0
	for range 100 {
		if r.Record(t.Context(), big) == nil {
			accepted++
		}
	}
	if accepted > 11 {
		t.Errorf("%d items of 100 KiB were taken", accepted)
	}
	if err := r.Close(t.Context()); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v", err)
	}
}

// Whichever operation of the file system fails, once, it is reported, and after
// Retry, or a call again, everything is there.
func TestFaultSweep(t *testing.T) {
	t.Parallel()
	for policy, sync := range policies {
		for n, failed := 0, true; failed; n++ {
			failed = false
			count := 0
			disk := &sick{Fs: afero.NewMemMapFs()}
			disk.fail = func(op string) error {
				if count++; op == "truncate" || count != n+1 {
					return nil
				}
				failed = true
				return syscall.EIO
			}
			st := memfs.New(disk)
			r, err := recorder.New(st, meta, &recorder.Options{Now: at.Now, Sync: sync})
			must(t, err)
			errs := 0
			// Each call that fails is made again, after Retry if the failure is kept.
			do := func(call func() error) {
				t.Helper()
				err := call()
				if err == nil {
					return
				}
				errs++
				if !errors.Is(err, syscall.EIO) {
					t.Errorf("%s, operation %d: %v", policy, n, err)
				}
				must(t, r.Retry(t.Context()))
				must(t, call())
			}
			do(func() error { return r.Persist(t.Context()) })
			want := metaLine
			for _, text := range []string{"1", strings.Repeat("x", 2<<20), "2", "3"} {
				do(func() error { return r.Record(t.Context(), note(text)) })
				want += noteLine(text)
				if text != "2" {
					do(func() error { return r.Flush(t.Context()) })
				}
			}
			if policy == "never" {
				// The Sync of Seal is the first, and what was confirmed may go with
				// it: that is what the policy says.
				if err := r.Close(t.Context()); err != nil {
					continue
				}
			} else {
				do(func() error { return r.Seal(t.Context()) })
				must(t, r.Close(t.Context()))
			}
			if failed != (errs > 0) {
				t.Errorf("%s, operation %d: it failed: %v, and %d errors", policy, n, failed, errs)
			}
			if got := read(t, st, name); got != want {
				t.Errorf("%s, operation %d: got\n%.900s", policy, n, got)
			}
		}
	}
}

// countingSyncs counts the Syncs of its logs.
func countingSyncs(st store.Sink) *gate {
	g := &gate{Sink: st, hold: make(chan struct{})}
	close(g.hold)
	return g
}

func TestSyncLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memfs.New(nil)
		g := countingSyncs(st)
		var durable int
		r, err := recorder.New(g, meta, &recorder.Options{
			Now: at.Now, Sync: 100 * time.Millisecond, Durable: func(_ int64, lines []byte) { durable += len(lines) },
		})
		must(t, err)
		syncs := func(want int) {
			t.Helper()
			synctest.Wait()
			g.mu.Lock()
			defer g.mu.Unlock()
			if g.syncs != want {
				t.Errorf("%d syncs instead of %d", g.syncs, want)
			}
		}
		for range 10 {
			must(t, r.Record(t.Context(), note("1")))
			must(t, r.Flush(t.Context()))
		}
		if n := strings.Count(read(t, st, name), "\n"); n != 11 {
			t.Errorf("%d lines are written", n)
		}
		syncs(0)
		if durable != 0 {
			t.Error("the observer was told too early")
		}
		time.Sleep(99 * time.Millisecond)
		syncs(0)
		time.Sleep(time.Millisecond)
		syncs(1)
		if durable != len(read(t, st, name)) {
			t.Errorf("the observer saw %d bytes", durable)
		}
		time.Sleep(time.Hour) // idle
		syncs(1)
		must(t, r.Record(t.Context(), note("2")))
		must(t, r.Flush(t.Context()))
		time.Sleep(100 * time.Millisecond)
		syncs(2)
		for range 3 {
			must(t, r.Record(t.Context(), note(strings.Repeat("x", 500<<10))))
			must(t, r.Flush(t.Context()))
		}
		syncs(3) // of 1.5 MiB: more than may wait
		must(t, r.Record(t.Context(), note("3")))
		must(t, r.Close(t.Context()))
		syncs(4)
	})
}

// A failure in the background is seen without a Flush.
func TestSyncLaterFails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memfs.New(nil)
		r, err := recorder.New(&faulty{Sink: st, op: "sync"}, meta, &recorder.Options{Now: at.Now, Sync: time.Second})
		must(t, err)
		must(t, r.Record(t.Context(), note("1")))
		must(t, r.Flush(t.Context()))
		must(t, r.Err())
		time.Sleep(time.Second)
		synctest.Wait()
		if err := r.Err(); !errors.Is(err, errFault) {
			t.Errorf("Err: %v", err)
		}
		if err := r.Record(t.Context(), note("2")); !errors.Is(err, errFault) {
			t.Errorf("Record: %v", err)
		}
		if err := r.Close(t.Context()); !errors.Is(err, errFault) {
			t.Errorf("Close: %v", err)
		}
	})
}

func TestSyncNever(t *testing.T) {
	t.Parallel()
	g := countingSyncs(memfs.New(nil))
	r, err := recorder.New(g, meta, &recorder.Options{Sync: recorder.SyncNever})
	must(t, err)
	for range 30 {
		must(t, r.Record(t.Context(), note(strings.Repeat("x", 200<<10))))
	}
	must(t, r.Flush(t.Context()))
	if g.syncs != 0 {
		t.Errorf("%d syncs", g.syncs)
	}
	must(t, r.Close(t.Context()))
}

func TestPersist(t *testing.T) {
	stores(t, func(t *testing.T, st recorder.Store) {
		r := newRecorder(t, st)
		must(t, r.Persist(t.Context()))
		for range 2 {
			if got := read(t, st, name); got != metaLine {
				t.Errorf("after Persist there is %q", got)
			}
			must(t, r.Persist(t.Context()))
		}
		must(t, r.Record(t.Context(), note("1")))
		must(t, r.Persist(t.Context()))
		if got := read(t, st, name); got != metaLine+noteLine("1") {
			t.Errorf("got %q", got)
		}
		must(t, r.Close(t.Context()))

		before := metaLine + noteLine("1") + "{torn"
		log, err := st.Append(t.Context(), name)
		must(t, err)
		must(t, log.Append([]byte("{torn")))
		must(t, log.Close())
		r, err = recorder.Resume(t.Context(), st, name, at)
		must(t, err)
		must(t, r.Persist(t.Context()))
		must(t, r.Close(t.Context()))
		if got := read(t, st, name); got != before {
			t.Errorf("Persist of a session that is there made it %q", got)
		}
	})
}

func TestAwaitPersist(t *testing.T) {
	big := note(strings.Repeat("x", 700<<10))
	bigLine := noteLine(strings.Repeat("x", 700<<10))
	stores(t, func(t *testing.T, st recorder.Store) {
		begin := func() *recorder.Recorder {
			r, err := recorder.New(st, meta, &recorder.Options{Now: at.Now, AwaitPersist: true})
			must(t, err)
			return r
		}
		r := begin()
		for range 2 {
			must(t, r.Record(t.Context(), big))
			must(t, r.Flush(t.Context()))
		}
		for range 2 {
			if err := r.Record(t.Context(), note("no room")); !errors.Is(err, recorder.ErrNotPersisted) {
				t.Errorf("Record over the limit: %v", err)
			}
		}
		if got := read(t, st, name); got != "" {
			t.Fatalf("before Persist there are %d bytes", len(got))
		}
		// That one is dropped: it holds no lock, and no name.
		r = begin()
		must(t, r.Record(t.Context(), big, big))
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := r.Persist(ended); !errors.Is(err, context.Canceled) {
			t.Errorf("Persist: %v", err)
		}
		must(t, r.Flush(t.Context()))
		if got := read(t, st, name); got != "" {
			t.Fatalf("a Persist that was given up left %d bytes", len(got))
		}
		must(t, r.Persist(t.Context()))
		must(t, r.Record(t.Context(), note("1")))
		must(t, r.Flush(t.Context()))
		want := metaLine + bigLine + bigLine + noteLine("1")
		if got := read(t, st, name); got != want {
			t.Errorf("after Persist and Flush there is %.300q", got)
		}
		must(t, r.Record(t.Context(), big, big)) // and the next does not fail
		must(t, r.Record(t.Context(), note("2")))
		must(t, r.Close(t.Context()))
		if got := read(t, st, name); got != want+bigLine+bigLine+noteLine("2") {
			t.Errorf("after Close there is %.300q", got)
		}
	})

	for title, end := range map[string]func(*recorder.Recorder, context.Context) error{
		"Persist": (*recorder.Recorder).Persist, "Seal": (*recorder.Recorder).Seal, "Close": (*recorder.Recorder).Close,
	} {
		for _, lines := range []string{"", noteLine("1")} {
			st := memfs.New(nil)
			r, err := recorder.New(st, meta, &recorder.Options{Now: at.Now, AwaitPersist: true})
			must(t, err)
			want := ""
			if lines != "" {
				must(t, r.Record(t.Context(), note("1")))
			}
			if lines != "" || title == "Persist" {
				want = metaLine + lines
			}
			must(t, end(r, t.Context()))
			if got := read(t, st, name); got != want {
				t.Errorf("%s left %q, not %q", title, got, want)
			}
		}
	}
}

func TestAwaitPersistForkAndResume(t *testing.T) {
	stores(t, func(t *testing.T, st recorder.Store) {
		o := &recorder.Options{Now: at.Now, AwaitPersist: true}
		long := metaLine + strings.Repeat(noteLine(strings.Repeat("x", 100<<10)), 30)
		for parent, content := range map[string]string{"short.jsonl": metaLine + noteLine("1"), "long.jsonl": long} {
			write(t, st, parent, content)
			m := meta
			m.ID = uuid.New()
			f, err := recorder.Fork(t.Context(), recorder.Parent{Source: st, Name: parent}, st, m, o)
			must(t, err)
			must(t, f.Flush(t.Context()))
			if got := read(t, st, f.Name()); (got != "") != (len(content) > 1<<20) {
				t.Errorf("a fork of %d bytes has a file of %d", len(content), len(got))
			}
			must(t, f.Close(t.Context()))
			if got := read(t, st, f.Name()); !strings.HasSuffix(got, "\n"+content) {
				t.Errorf("a fork of %d bytes ends as one of %d", len(content), len(got))
			}
			r, err := recorder.Resume(t.Context(), st, parent, o)
			must(t, err)
			must(t, r.Record(t.Context(), note("+")))
			must(t, r.Flush(t.Context()))
			if got := read(t, st, parent); got != content+noteLine("+") {
				t.Errorf("a resumed session has %d bytes after Flush", len(got))
			}
			must(t, r.Close(t.Context()))
		}
	})
}

// Recorded before the file exists, in the order of the calls.
func TestOrderBeforePersist(t *testing.T) {
	t.Parallel()
	st := memfs.New(nil)
	r := newRecorder(t, st)
	must(t, r.Record(t.Context(), note("1")))
	must(t, r.Record(t.Context(), note("2"), note("3")))
	must(t, r.Persist(t.Context()))
	must(t, r.Record(t.Context(), note("4")))
	must(t, r.Close(t.Context()))
	if got := read(t, st, name); got != metaLine+noteLine("1")+noteLine("2")+noteLine("3")+noteLine("4") {
		t.Errorf("got %q", got)
	}
}

// A Seal that failed may be called again, and until Close nothing is lost: an
// object store that cannot be reached for a while.
func TestSealAgain(t *testing.T) {
	t.Parallel()
	bucket := blob.New(memblob.OpenBucket(nil), &blob.Options{Service: mem.Service(), SpoolDir: t.TempDir()})
	defer bucket.Close()
	for title, st := range map[string]recorder.Store{"file": memfs.New(nil), "write-once": bucket} {
		for policy, sync := range policies {
			m := meta
			m.ID = uuid.New()
			r, err := recorder.New(&faulty{Sink: st, op: "seal"}, m, &recorder.Options{Now: at.Now, Sync: sync})
			must(t, err)
			must(t, r.Record(t.Context(), note("1")))
			if err := r.Seal(t.Context()); !errors.Is(err, errFault) {
				t.Errorf("got %v", err)
			}
			if err := r.Record(t.Context(), note("2")); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("Record after Seal: %v", err)
			}
			if (r.Err() == nil) != (title == "write-once") {
				t.Errorf("%s, %s: Err: %v", title, policy, r.Err())
			}
			must(t, r.Retry(t.Context()))
			must(t, r.Seal(t.Context()))
			must(t, r.Seal(t.Context()))
			must(t, r.Close(t.Context()))
			for op, err := range map[string]error{"Seal": r.Seal(t.Context()), "Retry": r.Retry(t.Context())} {
				if !errors.Is(err, fs.ErrClosed) {
					t.Errorf("%s after Close: %v", op, err)
				}
			}
			if got := read(t, st, r.Name()); !strings.HasSuffix(got, "}\n"+noteLine("1")) {
				t.Errorf("%s, %s: got %q", title, policy, got)
			}
		}
	}
}
