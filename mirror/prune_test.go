package mirror

import (
	"errors"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/memfs"
)

// later is the time of a prune that finds everything old enough.
func later() time.Time { return time.Now().Add(time.Hour) }

func fill(t *testing.T, s store.Putter, files map[string]string) {
	t.Helper()
	for name, content := range files {
		if _, err := s.Put(t.Context(), name, store.BytesBody([]byte(content), time.Time{}), store.Cond{IfAbsent: true}); err != nil {
			t.Fatal(err)
		}
	}
}

// prunedAs returns what became of each rollout, by path.
func prunedAs(t *testing.T, o Pruning) map[string]Action {
	t.Helper()
	got := map[string]Action{}
	o.Each = func(p Pruned) {
		got[p.Path] = p.Action
		if (p.Err == nil) != (p.Action == Trashed || p.Action == Freed) {
			t.Errorf("%s: %s, %v", p.Path, p.Action, p.Err)
		}
	}
	if o.Now == nil {
		o.Now = later
	}
	r, err := Prune(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, k := range r.Actions {
		n += k
	}
	if n != len(got) {
		t.Errorf("%+v, and told of %v", r, got)
	}
	return got
}

// What stays keeps what it begins with.
func TestPruneLineage(t *testing.T) {
	t.Parallel()
	const strange = "sessions/rollout-8f1c7ee1-7b0c-4b6c-9d2e-000000000020.jsonl" // its id tells no time
	var (
		grand  = session(grandID, "", 0, "grand\n")
		parent = session(parentID, grandID, len(grand), "one\n")
		fork   = session(childID, parentID, len(parent), "child\n")
		all    = map[string]string{grandKey: grand, parentKey: parent, childKey: fork}
		named  = func(keys ...string) (names []codec.Name) {
			for _, key := range keys {
				names = append(names, rolloutOf(t, key))
			}
			return names
		}
	)
	for name, c := range map[string]struct {
		home     map[string]string // more, or others
		rollouts []codec.Name
		lost     string // an object that the mirror does not have
		want     map[string]Action
	}{
		"all of it goes":             {want: map[string]Action{grandKey: Trashed, parentKey: Trashed, childKey: Trashed}},
		"the youngest alone may go":  {rollouts: named(childKey), want: map[string]Action{childKey: Trashed}},
		"its parents are needed":     {rollouts: named(grandKey, parentKey), want: map[string]Action{grandKey: Kept, parentKey: Kept}},
		"the child is not mirrored":  {lost: childKey, want: map[string]Action{grandKey: Kept, parentKey: Kept, childKey: Kept}},
		"the parent is not mirrored": {lost: parentKey, want: map[string]Action{grandKey: Kept, parentKey: Kept, childKey: Trashed}},
		"an archived copy is the same": {
			home:     map[string]string{"archived_sessions/" + path.Base(parentKey): parent},
			rollouts: named(grandKey, parentKey),
			want:     map[string]Action{grandKey: Kept, parentKey: Kept, "archived_sessions/" + path.Base(parentKey): Kept},
		},
		"one that cannot be read, and stays, may need what is older": {
			home: map[string]string{parentKey: "no meta\n"}, rollouts: named(grandKey, childKey),
			want: map[string]Action{grandKey: Kept, childKey: Trashed},
		},
		"one that cannot be read, and is not mirrored": {
			home: map[string]string{parentKey: "no meta\n"},
			want: map[string]Action{grandKey: Kept, parentKey: Kept, childKey: Trashed},
		},
		"one that cannot be read and whose age is not known": {
			home: map[string]string{strange: ""},
			want: map[string]Action{grandKey: Kept, parentKey: Kept, childKey: Kept, strange: Kept},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, home := newMirror(t, nil), memfs.New(nil)
			if err := prepare(t.Context(), m, false); err != nil {
				t.Fatal(err)
			}
			for key, content := range all {
				if key != c.lost {
					fill(t, m, map[string]string{key: content})
				}
				if c.home[key] == "" {
					fill(t, home, map[string]string{key: content})
				}
			}
			fill(t, home, c.home)
			for _, dry := range []bool{true, false} {
				got := prunedAs(t, Pruning{Home: home, Mirror: m, Rollouts: c.rollouts, DryRun: dry})
				if d := cmp.Diff(c.want, got); d != "" {
					t.Errorf("dry=%v: %s", dry, d)
				}
				for key, action := range got {
					if there := content(t, home, key) != "-"; there != (dry || action == Kept) {
						t.Errorf("dry=%v: %s is %s, and there: %v", dry, key, action, there)
					}
				}
			}
		})
	}
}

// One that cannot be read goes before what it may refer to, if it goes.
func TestPruneUnreadable(t *testing.T) {
	t.Parallel()
	files := map[string]string{grandKey: session(grandID, "", 0, ""), parentKey: "no meta\n"}
	m, home := newMirror(t, files), memfs.New(nil)
	if err := prepare(t.Context(), m, false); err != nil {
		t.Fatal(err)
	}
	fill(t, home, files)
	got := prunedAs(t, Pruning{Home: home, Mirror: m})
	if d := cmp.Diff(map[string]Action{grandKey: Trashed, parentKey: Trashed}, got); d != "" {
		t.Error(d)
	}
}

// The second run frees what is still in the mirror as it is in the trash.
func TestPruneTwice(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		between func(t *testing.T, m *listed, home *memfs.Store, at string)
		want    Action
	}{
		"nothing changed": {func(*testing.T, *listed, *memfs.Store, string) {}, Freed},
		"the mirror has more by now": {func(t *testing.T, m *listed, _ *memfs.Store, _ string) {
			alter(t, m, m, parentKey, "one\ntwo\n")
		}, Freed},
		"the mirror has something else": {func(t *testing.T, m *listed, _ *memfs.Store, _ string) {
			alter(t, m, m, parentKey, "ONE\ntwo\n")
		}, Kept},
		"the mirror lost it": {func(t *testing.T, m *listed, _ *memfs.Store, _ string) { alter(t, m, m, parentKey, "") }, Kept},
		"somebody wrote to it": {func(t *testing.T, _ *listed, home *memfs.Store, at string) {
			alter(t, home, home, at, "one\nmine\n")
		}, Kept},
		"Codex has the session open": {func(t *testing.T, _ *listed, home *memfs.Store, at string) {
			unlock, err := home.Lock(t.Context(), at)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unlock() })
		}, Kept},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, home := newMirror(t, map[string]string{parentKey: "one\n"}), memfs.New(nil)
			if err := prepare(t.Context(), m, false); err != nil {
				t.Fatal(err)
			}
			fill(t, home, map[string]string{parentKey: "one\n"})
			if got := prunedAs(t, Pruning{Home: home, Mirror: m}); got[parentKey] != Trashed {
				t.Fatal(got)
			}
			var at string
			for r, err := range rollouts(t.Context(), home, TrashDir) {
				if err != nil || at != "" {
					t.Fatal(r, err)
				}
				at = r.Path
			}
			if !strings.HasSuffix(at, "/"+parentKey) || strings.Count(at, "/") != strings.Count(parentKey, "/")+2 {
				t.Fatalf("it is at %s", at)
			}
			before := content(t, home, at)
			c.between(t, m, home, at)
			if before != "one\n" {
				t.Errorf("in the trash is %q", before)
			}
			if got := prunedAs(t, Pruning{Home: home, Mirror: m, DryRun: name != "Codex has the session open"}); len(got) != 1 || got[at] != c.want {
				t.Errorf("dry: %v, want %s", got, c.want)
			}
			got := prunedAs(t, Pruning{Home: home, Mirror: m, Now: func() time.Time { return later().Add(time.Hour) }})
			if len(got) != 1 || got[at] != c.want {
				t.Errorf("%v, want %s", got, c.want)
			}
			if there := content(t, home, at) != "-"; there != (c.want == Kept) {
				t.Errorf("there: %v", there)
			}
		})
	}
}

// alter replaces a log, or removes it.
func alter(t *testing.T, s store.Source, p interface {
	store.Putter
	store.Remover
}, name, content string,
) {
	t.Helper()
	f, err := s.Open(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	v := f.Info().Version
	f.Close()
	if content == "" {
		err = p.Remove(t.Context(), name, v)
	} else {
		_, err = p.Put(t.Context(), name, store.BytesBody([]byte(content), time.Time{}), store.Cond{IfVersion: v})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// A push does not miss what was pruned, and brings nothing back.
func TestPruneIsNotVanished(t *testing.T) {
	t.Parallel()
	m, home, state := newMirror(t, nil), memfs.New(nil), NewState()
	fill(t, home, map[string]string{parentKey: "one\n", childKey: "two\n"})
	pushing := Pushing{Home: home, Mirror: m, State: state, Origin: "a", Now: later}
	if r, err := Push(t.Context(), pushing); err != nil || r.Actions[Uploaded] != 2 {
		t.Fatal(r, err)
	}
	for range 2 {
		prunedAs(t, Pruning{Home: home, Mirror: m, State: state})
		if r, err := Push(t.Context(), pushing); err != nil || len(r.Vanished) > 0 || r.Rollouts > 0 {
			t.Errorf("%+v, %v", r, err)
		}
	}
	if r, err := Restore(t.Context(), Restoring{Home: home, Mirror: m, State: state}); err != nil || r.Actions[Created] != 2 {
		t.Errorf("%+v, %v", r, err)
	}
}

// Only what is old by both its times, and has had time to settle, is taken.
func TestPruneAge(t *testing.T) {
	t.Parallel()
	m, home := newMirror(t, map[string]string{parentKey: "one\n"}), memfs.New(nil)
	if err := prepare(t.Context(), m, false); err != nil {
		t.Fatal(err)
	}
	written := time.Now().Add(-20 * 24 * time.Hour)
	if _, err := home.Put(t.Context(), parentKey, store.BytesBody([]byte("one\n"), written), store.Cond{IfAbsent: true}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		older, after time.Duration
		old          bool
	}{
		{0, time.Second, false},
		{0, 3 * time.Second, true},
		{time.Hour, 59 * time.Minute, false},
		{time.Hour, 61 * time.Minute, true},
	} {
		got := prunedAs(t, Pruning{Home: home, Mirror: m, Older: c.older, DryRun: true, Now: func() time.Time { return written.Add(c.after) }})
		if (len(got) == 1) != c.old {
			t.Errorf("%+v: %v", c, got)
		}
	}
	p := &pruner{Pruning: Pruning{Older: time.Hour, Now: func() time.Time { return written.Add(2 * time.Hour) }}}
	if p.old(store.Info{ModTime: written, ChangeTime: written.Add(90 * time.Minute)}) {
		t.Error("a file is old whose ctime is not")
	}
}

func TestPruneNeedsAMover(t *testing.T) {
	t.Parallel()
	m := newMirror(t, nil)
	if _, err := Prune(t.Context(), Pruning{Home: m, Mirror: m}); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}

// A prune that ends anywhere has lost nothing, leaves nothing without what it begins
// with, and is finished by the next.
func TestPruneEndsAnywhere(t *testing.T) {
	t.Parallel()
	grand := session(grandID, "", 0, "grand\n")
	parent := session(parentID, grandID, len(grand), "one\ntwo\n")
	fork := session(childID, parentID, len(parent), "child\n")
	const trashed = "sessions/2026/11/20/rollout-2026-11-20T08-41-30-01a1f81e-5aaa-7000-8000-000000000004.jsonl"
	want := map[string]string{grandKey: grand, parentKey: parent, childKey: fork, trashed: "gone\n"}
	needs := map[string]string{childKey: parentKey, parentKey: grandKey}
	points := 0
	for _, after := range []bool{false, true} {
		for at := 0; ; at++ {
			m, home, state := newMirror(t, nil), memfs.New(nil), NewState()
			fill(t, home, want)
			if _, err := Push(t.Context(), Pushing{Home: home, Mirror: m, State: state, Origin: "a", Now: later}); err != nil {
				t.Fatal(err)
			}
			prunedAs(t, Pruning{Home: home, Mirror: m, State: state, Rollouts: []codec.Name{rolloutOf(t, trashed)}})
			f := &failing{at: at}
			r, err := Prune(t.Context(), Pruning{
				Home: failingHome{home, f, after}, Mirror: failingMirror{m, f}, State: state,
				Now: func() time.Time { return later().Add(time.Hour) },
			})
			if err == nil && len(r.Failures) == 0 && r.Actions[Kept] == 0 && f.n > f.at {
				t.Fatalf("operation %d failed and nobody was told: %+v", at, r)
			}
			for key, is := range want {
				if got := content(t, m, key); got != is {
					t.Fatalf("operation %d: the mirror has %q", at, got)
				}
				if got := content(t, home, key); got != is && got != "-" {
					t.Errorf("operation %d: %s is %q", at, key, got)
				} else if parent := needs[key]; got == is && parent != "" && content(t, home, parent) == "-" {
					t.Errorf("operation %d: %s stays without %s", at, key, parent)
				}
			}
			for r, err := range rollouts(t.Context(), home, TrashDir) {
				if err != nil || content(t, home, r.Path) != want[Key(r.Name, r.Path)] {
					t.Errorf("operation %d: %s, %v", at, r.Path, err)
				}
			}
			for n := range 2 {
				again, err := Prune(t.Context(), Pruning{
					Home: home, Mirror: m, State: state,
					Now: func() time.Time { return later().Add(time.Duration(n+2) * time.Hour) },
				})
				if err != nil || len(again.Failures) > 0 || again.Actions[Kept] > 0 {
					t.Fatalf("operation %d, run again: %+v, %v", at, again, err)
				}
			}
			left := slices.Collect(func(yield func(string) bool) {
				for r := range rollouts(t.Context(), home, sessionsDir, TrashDir) {
					if !yield(r.Path) {
						return
					}
				}
			})
			if len(left) > 0 {
				t.Errorf("operation %d, run again: left is %q", at, left)
			}
			if r, err := Push(t.Context(), Pushing{Home: home, Mirror: m, State: state, Origin: "a", Now: later}); err != nil || len(r.Vanished) > 0 {
				t.Errorf("operation %d: a push misses %q, %v", at, r.Vanished, err)
			}
			points++
			if f.n <= f.at {
				if at < 20 {
					t.Errorf("only %d operations", at)
				}
				break
			}
		}
	}
	t.Logf("%d points", points)
}
