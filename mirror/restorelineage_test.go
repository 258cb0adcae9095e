package mirror

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/memfs"
)

// A rollout of a test: its session_meta and what follows.
func session(id, base string, offset int, lines string) string {
	history := ""
	if base != "" {
		history = fmt.Sprintf(`,"history_base":{"thread_id":"%s","end_ordinal_exclusive":4,"end_byte_offset":%d}`, base, offset)
	}
	return fmt.Sprintf(`{"timestamp":"2026-11-20T08:41:49.000Z","ordinal":4,"type":"session_meta","payload":{"id":"%s",`+
		`"timestamp":"2026-11-20T08:41:49.000Z","cwd":"/w","originator":"x","cli_version":"0.150.0","history_mode":"paginated"%s}}`+"\n%s", id, history, lines)
}

const (
	grandID  = "01a1f81e-6aaa-7000-8000-000000000003"
	grandKey = "sessions/2026/11/20/rollout-2026-11-20T08-41-40-" + grandID + ".jsonl"
)

func rolloutOf(t *testing.T, key string) codec.Name {
	t.Helper()
	n, err := codec.ParseName(path.Base(key))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// tell writes the fact that of the rollout at key the version content begins with p.
func tell(t *testing.T, m Store, key, content string, p Pin) {
	t.Helper()
	n := rolloutOf(t, key)
	err := newLedger(m, "origin").tell(t.Context(), monthOf(n), []Fact{{Rollout: n.String(), Path: key, SHA256: sum(content), Size: int64(len(content)), Base: &p}})
	if err != nil {
		t.Fatal(err)
	}
}

// content returns what a home has at name, "-" for nothing.
func content(t *testing.T, s store.Source, name string) string {
	t.Helper()
	f, err := s.Open(t.Context(), name)
	if errors.Is(err, fs.ErrNotExist) {
		return "-"
	}
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := f.Range(t.Context(), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	p, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(p)
}

// A fork comes with what it begins with, in the version that has the bytes.
func TestRestoreLineage(t *testing.T) {
	t.Parallel()
	var (
		grand   = session(grandID, "", 0, "grand\n")
		parent  = session(parentID, grandID, len(grand), "one\ntwo\n")
		old     = session(parentID, grandID, len(grand), "uno\ndos\n")
		cut     = len(parent) - len("two\n") // where the child was forked
		fork    = session(childID, parentID, cut, "child\n")
		pin     = func(of string) Pin { return Pin{parentID, int64(cut), sum(of[:cut])} }
		history = historyKey(parentKey, sum(old))
		theirs  = divergedKey(parentKey, "b")
		all     = map[string]string{grandKey: grand, parentKey: parent, childKey: fork}
	)
	with := func(base map[string]string, more ...string) map[string]string {
		m := map[string]string{}
		for k, v := range base {
			m[k] = v
		}
		for i := 0; i < len(more); i += 2 {
			m[more[i]] = more[i+1]
		}
		return m
	}
	for name, c := range map[string]struct {
		mirror, home map[string]string
		pin          *Pin
		all          bool // else the child alone
		want         map[string]string
		failed       map[string]error // by key
	}{
		"all of it comes with it": {
			mirror: all, pin: ptr(pin(parent)),
			want: all,
		},
		"the version that it was forked from": {
			mirror: with(all, history, old), pin: ptr(pin(old)),
			want: map[string]string{grandKey: grand, parentKey: old, childKey: fork},
		},
		"a diverged one": {
			mirror: with(all, theirs, old), pin: ptr(pin(old)),
			want: map[string]string{grandKey: grand, parentKey: old, childKey: fork},
		},
		"which, of all, keeps the current one away": {
			mirror: with(all, history, old), pin: ptr(pin(old)), all: true,
			want:   map[string]string{grandKey: grand, parentKey: old, childKey: fork},
			failed: map[string]error{parentKey: ErrDiffers},
		},
		"nothing is known, so the current one": {
			mirror: with(all, history, old), all: true,
			want: all,
		},
		"the home has it": {
			mirror: all, pin: ptr(pin(parent)), home: map[string]string{grandKey: grand, parentKey: parent + "three\n"},
			want: map[string]string{grandKey: grand, parentKey: parent + "three\n", childKey: fork},
		},
		"the home has it alone": {
			mirror: with(map[string]string{childKey: fork}, parentKey, old), pin: ptr(pin(parent)), home: map[string]string{grandKey: grand, parentKey: parent},
			want: map[string]string{grandKey: grand, parentKey: parent, childKey: fork},
		},
		"the home has a part of it": {
			mirror: all, pin: ptr(pin(parent)), home: map[string]string{parentKey: parent[:cut-2]},
			want: all,
		},
		"the home has it without what it begins with": {
			mirror: all, pin: ptr(pin(parent)), home: map[string]string{parentKey: parent},
			want: all,
		},
		"the home has it archived": {
			mirror: all, pin: ptr(pin(parent)), home: map[string]string{"archived_sessions/" + path.Base(parentKey): parent, grandKey: grand},
			want: map[string]string{grandKey: grand, parentKey: "-", childKey: fork},
		},
		"the home has another version": {
			mirror: with(all, history, old), pin: ptr(pin(parent)), home: map[string]string{parentKey: old},
			want:   map[string]string{grandKey: grand, parentKey: old, childKey: "-"},
			failed: map[string]error{parentKey: ErrDiffers, childKey: ErrLineage},
		},
		"the mirror has no version of it": {
			mirror: all, pin: ptr(pin(old)),
			want:   map[string]string{grandKey: "-", parentKey: "-", childKey: "-"},
			failed: map[string]error{childKey: ErrLineage},
		},
		"the mirror has not even the rollout": {
			mirror: map[string]string{childKey: fork},
			want:   map[string]string{childKey: "-"},
			failed: map[string]error{childKey: ErrLineage},
		},
		"a circle": {
			mirror: with(all, grandKey, session(grandID, childID, 3, "")),
			want:   map[string]string{grandKey: "-", parentKey: "-", childKey: "-"},
			failed: map[string]error{childKey: ErrLineage},
		},
		"no session_meta: as it is": {
			mirror: map[string]string{childKey: "one\n"},
			want:   map[string]string{childKey: "one\n"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMirror(t, c.mirror)
			if err := prepare(t.Context(), m, false); err != nil {
				t.Fatal(err)
			}
			if c.pin != nil {
				tell(t, m, childKey, fork, *c.pin)
			}
			home := memfs.New(nil)
			for name, content := range c.home {
				if _, err := home.Put(t.Context(), name, store.BytesBody([]byte(content), time.Time{}), store.Cond{IfAbsent: true}); err != nil {
					t.Fatal(err)
				}
			}
			told := map[Action]int{}
			for _, dry := range []bool{true, false} {
				o := Restoring{Home: home, Mirror: m, DryRun: dry, Rollouts: []codec.Name{rolloutOf(t, childKey)}}
				if c.all {
					o.Rollouts = nil
				}
				r, err := Restore(t.Context(), o)
				if err != nil {
					t.Fatal(err)
				}
				if dry {
					told = r.Actions
					continue
				}
				if d := cmp.Diff(told, r.Actions); d != "" {
					t.Errorf("the dry run said (-):\n%s", d)
				}
				if len(r.Failures) != len(c.failed) {
					t.Errorf("failures: %v", r.Failures)
				}
				for _, f := range r.Failures {
					if want := c.failed[f.Key]; want == nil || !errors.Is(f.Err, want) {
						t.Errorf("%s: %v", f.Key, f.Err)
					}
				}
			}
			for key, want := range c.want {
				if got := content(t, home, key); got != want {
					t.Errorf("%s: %.400q, want %.400q", key, got, want)
				}
			}
		})
	}
}

func ptr[T any](v T) *T { return &v }

// A restored version is the base that a later rewrite supersedes.
func TestRestoreRemembersTheBase(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		mirror  map[string]string
		version string // of the parent
		rewrite string
		want    Action
	}{
		"current":                 {map[string]string{parentKey: "one\n"}, "one\n", "ONE\n", Rewritten},
		"this home's own version": {map[string]string{parentKey: "one\n", divergedKey(parentKey, "a"): "uno\n"}, "uno\n", "UNO\n", Diverged},
		"another's version":       {map[string]string{parentKey: "one\n", divergedKey(parentKey, "b"): "uno\n"}, "uno\n", "UNO\n", Diverged},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMirror(t, c.mirror)
			if err := prepare(t.Context(), m, false); err != nil {
				t.Fatal(err)
			}
			home, state := memfs.New(nil), NewState()
			r, err := Restore(t.Context(), Restoring{
				Home: home, Mirror: m, State: state, Origin: "a",
				Rollouts: []codec.Name{rolloutOf(t, parentKey)}, Version: sum(c.version),
			})
			if err != nil || r.Actions[Created] != 1 {
				t.Fatal(r, err)
			}
			f, err := home.Open(t.Context(), parentKey)
			if err != nil {
				t.Fatal(err)
			}
			v := f.Info().Version
			f.Close()
			if _, err := home.Put(t.Context(), parentKey, store.BytesBody([]byte(c.rewrite), time.Time{}), store.Cond{IfVersion: v}); err != nil {
				t.Fatal(err)
			}
			report, err := Push(t.Context(), Pushing{Home: home, Mirror: m, State: state, Origin: "a"})
			if err != nil || report.Actions[c.want] != 1 {
				t.Errorf("%+v, %v; want %s", report, err, c.want)
			}
			if name == "this home's own version" {
				if got := content(t, m, historyKey(divergedKey(parentKey, "a"), sum("uno\n"))); got != "uno\n" {
					t.Errorf("the version that was rewritten is %q", got)
				}
			}
		})
	}
}

func TestPublicVersions(t *testing.T) {
	t.Parallel()
	const undated = "sessions/odd/rollout-" + parentID + ".jsonl"
	for _, key := range []string{parentKey, undated} {
		m := newMirror(t, map[string]string{
			key: "one\n", divergedKey(key, "b"): "uno\n", historyKey(divergedKey(key, "b"), sum("eins\n")): "eins\n",
		})
		var got []string
		for v, err := range Versions(t.Context(), m, rolloutOf(t, key)) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, v.Kind()+" "+v.SHA256[:8])
			if v.Key == "" || v.Size == 0 {
				t.Errorf("%+v", v)
			}
		}
		want := []string{"current " + sum("one\n")[:8], "diverged " + sum("uno\n")[:8], "superseded " + sum("eins\n")[:8]}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s: %s", key, d)
		}
		for range Versions(t.Context(), m, rolloutOf(t, childKey)) {
			t.Error("versions of what is not there")
		}
	}
}

// failing fails the operation number at, of all on a home and a mirror, and all that
// follow: a process that died, as far as others can see.
type failing struct{ n, at int }

var errFail = errors.New("made to fail")

func (f *failing) err() error {
	if f.n++; f.n > f.at {
		return errFail
	}
	return nil
}

type failingMirror struct {
	Store
	*failing
}

func (f failingMirror) Open(ctx context.Context, name string) (store.File, error) {
	if err := f.err(); err != nil {
		return nil, err
	}
	return f.Store.Open(ctx, name)
}

func (f failingMirror) Put(ctx context.Context, name string, b store.Body, c store.Cond) (string, error) {
	if err := f.err(); err != nil {
		return "", err
	}
	return f.Store.Put(ctx, name, b, c)
}

func (f failingMirror) List(ctx context.Context, dir string, o store.ListOptions) iter.Seq2[store.Entry, error] {
	if err := f.err(); err != nil {
		return func(yield func(store.Entry, error) bool) { yield(store.Entry{}, err) }
	}
	return f.Store.List(ctx, dir, o)
}

func (f failingMirror) Remove(ctx context.Context, name, version string) error {
	if err := f.err(); err != nil {
		return err
	}
	return f.Store.(store.Remover).Remove(ctx, name, version)
}

type failingHome struct {
	*memfs.Store
	*failing
	after bool // Put and Remove do what they do and then fail
}

func (f failingHome) Open(ctx context.Context, name string) (store.File, error) {
	if err := f.err(); err != nil {
		return nil, err
	}
	return f.Store.Open(ctx, name)
}

func (f failingHome) List(ctx context.Context, dir string, o store.ListOptions) iter.Seq2[store.Entry, error] {
	if err := f.err(); err != nil {
		return func(yield func(store.Entry, error) bool) { yield(store.Entry{}, err) }
	}
	return f.Store.List(ctx, dir, o)
}

func (f failingHome) Append(ctx context.Context, name string) (store.Log, error) {
	if err := f.err(); err != nil {
		return nil, err
	}
	return f.Store.Append(ctx, name)
}

func (f failingHome) Create(ctx context.Context, name string) (store.Log, error) {
	if err := f.err(); err != nil {
		return nil, err
	}
	return f.Store.Create(ctx, name)
}

func (f failingHome) Put(ctx context.Context, name string, b store.Body, c store.Cond) (v string, err error) {
	fails := f.err()
	if fails == nil || f.after {
		v, err = f.Store.Put(ctx, name, b, c)
	}
	return v, errors.Join(fails, err)
}

func (f failingHome) Remove(ctx context.Context, name, version string) (err error) {
	fails := f.err()
	if fails == nil || f.after {
		err = f.Store.Remove(ctx, name, version)
	}
	return errors.Join(fails, err)
}

func (f failingHome) Move(ctx context.Context, name, version, to string) (err error) {
	fails := f.err()
	if fails == nil || f.after {
		err = f.Store.Move(ctx, name, version, to)
	}
	return errors.Join(fails, err)
}

// A restore that ends anywhere leaves whole files, none without what it begins
// with, and is finished by the next.
func TestRestoreEndsAnywhere(t *testing.T) {
	t.Parallel()
	grand := session(grandID, "", 0, "grand\n")
	parent := session(parentID, grandID, len(grand), "one\ntwo\n")
	fork := session(childID, parentID, len(parent), "child\n")
	want := map[string]string{grandKey: grand, parentKey: parent, childKey: fork}
	whole := newMirror(t, want)
	if err := prepare(t.Context(), whole, false); err != nil {
		t.Fatal(err)
	}
	n := rolloutOf(t, grandKey)
	if err := newLedger(whole, "a").tell(t.Context(), monthOf(n), []Fact{{Rollout: n.String(), Path: grandKey, SHA256: sum(grand), Name: "a name"}}); err != nil {
		t.Fatal(err)
	}
	points := 0
	for _, after := range []bool{false, true} {
		for at := 0; ; at++ {
			f := &failing{at: at}
			home, state := memfs.New(nil), NewState()
			half := parent[:len(parent)/2]
			if _, err := home.Put(t.Context(), parentKey, store.BytesBody([]byte(half), time.Time{}), store.Cond{IfAbsent: true}); err != nil {
				t.Fatal(err)
			}
			r, err := Restore(t.Context(), Restoring{Home: failingHome{home, f, after}, Mirror: failingMirror{whole, f}, State: state})
			if err == nil && len(r.Failures) == 0 && f.n > f.at {
				t.Fatalf("operation %d failed and nobody was told: %+v", at, r)
			}
			has := map[string]bool{}
			for key, content := range want {
				has[key] = checkRestored(t, home, key, content, half)
			}
			if has[childKey] && !has[parentKey] || has[childKey] && !has[grandKey] {
				t.Errorf("after operation %d: a rollout is there without what it begins with: %v", at, has)
			}
			again, e := Restore(t.Context(), Restoring{Home: home, Mirror: whole, State: state})
			if e != nil || len(again.Failures) > 0 {
				t.Fatalf("after operation %d: %+v, %v", at, again, e)
			}
			for key, c := range want {
				if got := content(t, home, key); got != c {
					t.Errorf("after operation %d and a second run: %s: %q", at, key, got)
				}
			}
			if names := content(t, home, namesFile); strings.Count(names, "a name") != 1 {
				t.Errorf("after operation %d: names: %q", at, names)
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

// checkRestored reports whether the home has the content, and fails if it has a part
// that it did not have before.
func checkRestored(t *testing.T, home store.Source, key, want, before string) bool {
	t.Helper()
	got := content(t, home, key)
	if got != want && got != "-" && got != before {
		t.Errorf("%s is half there: %q", key, got)
	}
	return got == want
}
