package filestore_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/rollout-sync/rollout/store/internal/vfs"
	"github.com/rollout-sync/rollout/store/internal/vfs/crashfs"
)

// sweep runs a workload and has the power fail after each of its operations, and
// the process die.
type sweep struct {
	points map[string]int // per call
	clones int
	saw    map[string]int // what the losses brought about
}

func (s *sweep) run(w *world, seed uint64, name string, workload func(*world)) {
	w.fs.After = func(op crashfs.Op) {
		if w.t.Failed() {
			return // one is enough
		}
		s.points[w.call]++
		r := rand.New(rand.NewPCG(seed, uint64(op.N)))
		for _, c := range []struct {
			loss  crashfs.Loss
			times int
		}{{crashfs.All, 1}, {crashfs.Some, 2}, {crashfs.Holes, 1}} {
			for i := range c.times {
				what := fmt.Sprintf("%s (seed %d), power lost after %v (loss %d, %d)", name, seed, op, c.loss, i)
				disk := w.fs.Crash(c.loss, r)
				s.note(w, disk)
				w.after(disk, what, c.loss)
				if i == 0 {
					w.goesOn(disk, what)
				}
				s.clones++
			}
		}
		what := fmt.Sprintf("%s (seed %d), killed after %v", name, seed, op)
		w.after(w.fs.Kill(), what, crashfs.All)
		w.goesOn(w.fs.Kill(), what)
		s.clones += 2
	}
	workload(w)
	w.fs.After = nil
	w.after(w.fs.Crash(crashfs.All, nil), name+", power lost after all", crashfs.All)
}

// note counts what shows that losses are real.
func (s *sweep) note(w *world, disk *crashfs.FS) {
	files := disk.Files()
	store := open(disk)
	for name := range w.want {
		seen, was := w.seen[name]
		content, there := read(w.t, store, name)
		switch {
		case was && !there:
			s.saw["a name lost"]++
		case !was && there:
			s.saw["a removed name back"]++
		case len(content) < len(seen) && content != "":
			s.saw["a tail lost in part"]++
		case content != seen:
			s.saw["other bytes than before"]++
		}
		if slices.Contains(files, name) && slices.Contains(files, name+".zst") {
			s.saw["both forms"]++
		}
	}
	if slices.ContainsFunc(files, vfs.Hidden) {
		s.saw["a temporary file or a lock left"]++
	}
}

// floor fails the test if a sweep has shrunk.
func floor(t *testing.T, what string, got, want map[string]int) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(want)) {
		t.Logf("%s: %s: %d", what, name, got[name])
		if got[name] < want[name] {
			t.Errorf("%s: only %d of %s, want at least %d", what, got[name], name, want[name])
		}
	}
	for name := range got {
		if want[name] == 0 {
			t.Errorf("%s: no floor for %s", what, name)
		}
	}
}

func TestCrash(t *testing.T) {
	t.Parallel()
	s := sweep{points: map[string]int{}, saw: map[string]int{}}
	for seed, script := range scripts {
		w := newWorld(t)
		script.plant(w)
		s.run(w, uint64(seed), script.name, script.run)
	}
	floor(t, "crash points", s.points, map[string]int{
		"create": 40, "append": 12, "sync": 18, "seal": 8, "close": 45, "reopen": 70, "unseal": 25,
		"put if absent": 75, "put if version": 220, "remove": 140,
	})
	floor(t, "seen", s.saw, map[string]int{
		"a name lost": 100, "a removed name back": 10, "a tail lost in part": 10, "other bytes than before": 10,
		"both forms": 100, "a temporary file or a lock left": 100,
	})
	t.Logf("%d file systems reopened", s.clones)
}

func TestCrashRandom(t *testing.T) {
	t.Parallel()
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.plant("z.jsonl", "-", "one\ntwo\n")
			w.plant("both.jsonl", "one\ntwo\n", "one\ntwo\n")
			s := sweep{points: map[string]int{}, saw: map[string]int{}}
			s.run(w, seed, "random", func(w *world) { random(w, rand.New(rand.NewPCG(seed, 0)), 30) })
			t.Logf("%d file systems reopened", s.clones)
		})
	}
}
