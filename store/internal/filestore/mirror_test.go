package filestore_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"path"
	"strings"
	"testing"
	"time"

	"gocloud.dev/blob/memblob"

	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/blob"
	"github.com/rollout-sync/rollout/store/blob/mem"
	"github.com/rollout-sync/rollout/store/internal/vfs/crashfs"
	"github.com/rollout-sync/rollout/store/memfs"
)

func mirrored(i int) string {
	return fmt.Sprintf("sessions/2026/11/20/rollout-2026-11-20T08-41-45-01a1f81e-6bb9-7000-8000-%012d.jsonl", i)
}

// pushed returns a mirror of a home with these sessions.
func pushed(t *testing.T, sessions map[string]string) *blob.Store {
	t.Helper()
	m := blob.New(memblob.OpenBucket(nil), &blob.Options{Service: mem.Service()})
	t.Cleanup(func() { m.Close() })
	home := memfs.New(nil)
	keep(t, home, sessions)
	if _, err := mirror.Push(ctx, mirror.Pushing{Home: home, Mirror: m, State: mirror.NewState(), Origin: "a"}); err != nil {
		t.Fatal(err)
	}
	return m
}

func keep(t *testing.T, s store.Putter, sessions map[string]string) {
	t.Helper()
	for name, content := range sessions {
		if _, err := s.Put(ctx, name, store.BytesBody([]byte(content), time.Unix(1e9, 0)), store.Cond{IfAbsent: true}); err != nil {
			t.Fatal(err)
		}
	}
}

// losses collects what a file system would come back as after each of its writes.
func losses(fsys *crashfs.FS, seed uint64, run func()) (lost []*crashfs.FS) {
	r := rand.New(rand.NewPCG(seed, seed))
	fsys.After = func(op crashfs.Op) {
		if op.Write {
			for _, loss := range []crashfs.Loss{crashfs.All, crashfs.Some, crashfs.Holes} {
				lost = append(lost, fsys.Crash(loss, r))
			}
		}
	}
	run()
	fsys.After = nil
	return lost
}

// A restore that loses power at any of its operations leaves each session as it was
// or whole, and is finished by the next.
func TestRestoreLosesPower(t *testing.T) {
	t.Parallel()
	sessions := map[string]string{mirrored(1): "one\n", mirrored(2): "two\ntwo\n", mirrored(3): "three\n"}
	m := pushed(t, sessions)
	was := map[string]string{mirrored(2): "two\n", mirrored(3): "three\n"}
	fsys := crashfs.New()
	keep(t, open(fsys), was)
	restore := func(fsys *crashfs.FS) {
		t.Helper()
		r, err := mirror.Restore(ctx, mirror.Restoring{Home: open(fsys), Mirror: m})
		if err != nil || len(r.Failures) > 0 {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	lost := losses(fsys, 1, func() { restore(fsys) })
	for i, f := range lost {
		for name, whole := range sessions {
			got, there := read(t, open(f), name)
			before, had := was[name]
			if there && got != whole && got != before || !there && had {
				t.Fatalf("loss %d: %s has %q, %v", i, name, got, there)
			}
		}
		restore(f)
		for name, whole := range sessions {
			if got, _ := read(t, open(f), name); got != whole {
				t.Fatalf("loss %d, restored again: %s has %q", i, name, got)
			}
		}
	}
	if len(lost) < 60 {
		t.Errorf("only %d losses", len(lost))
	}
	t.Logf("%d losses of power", len(lost))
}

// A prune that loses power at any of its operations leaves each session whole, in its
// place or in the trash, or gone and in the mirror; and is finished by the next ones.
func TestPruneLosesPower(t *testing.T) {
	t.Parallel()
	sessions := map[string]string{mirrored(1): "one\n", mirrored(2): "two\n", mirrored(3): "three\n"}
	m := pushed(t, sessions)
	fsys := crashfs.New()
	keep(t, open(fsys), sessions)
	later := time.Unix(1_900_000_000, 0)
	prune := func(fsys *crashfs.FS) {
		t.Helper()
		later = later.Add(time.Hour)
		r, err := mirror.Prune(ctx, mirror.Pruning{Home: open(fsys), Mirror: m, Now: func() time.Time { return later }})
		if err != nil || len(r.Failures) > 0 {
			t.Fatalf("%+v, %v", r, err)
		}
	}
	// left returns how many sessions there are, each of which is whole.
	left := func(i int, fsys *crashfs.FS) int {
		t.Helper()
		found := map[string]bool{}
		s := open(fsys)
		dirs := []string{"sessions", mirror.TrashDir}
		for len(dirs) > 0 {
			dir := dirs[0]
			dirs = dirs[1:]
			for e, err := range s.List(ctx, dir, store.ListOptions{}) {
				if errors.Is(err, fs.ErrNotExist) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				switch {
				case e.Dir:
					dirs = append(dirs, e.Name)
				case strings.HasSuffix(e.Name, ".jsonl"):
					found[path.Base(e.Name)] = true
					if got, _ := read(t, s, e.Name); got != sessions["sessions/2026/11/20/"+path.Base(e.Name)] {
						t.Fatalf("loss %d: %s has %q", i, e.Name, got)
					}
				}
			}
		}
		return len(found)
	}
	lost := losses(fsys, 2, func() { prune(fsys) })
	for i, f := range lost {
		if n := left(i, f); n != len(sessions) {
			t.Fatalf("loss %d of the run that only moves: %d sessions are left", i, n)
		}
	}
	lost = append(lost, losses(fsys, 3, func() { prune(fsys) })...)
	if n := left(-1, fsys); n > 0 {
		t.Fatalf("%d sessions are left", n)
	}
	for i, f := range lost {
		left(i, f)
		for range 3 {
			prune(f)
		}
		if n := left(i, f); n > 0 {
			t.Fatalf("loss %d: %d sessions are left after three more", i, n)
		}
		r, err := mirror.Restore(ctx, mirror.Restoring{Home: open(f), Mirror: m})
		if err != nil || r.Actions[mirror.Created] != len(sessions) {
			t.Fatalf("loss %d: %+v, %v", i, r, err)
		}
		left(i, f)
	}
	if len(lost) < 60 {
		t.Errorf("only %d losses", len(lost))
	}
	t.Logf("%d losses of power", len(lost))
}
