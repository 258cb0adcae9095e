package mirror

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"gocloud.dev/blob/memblob"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/blob"
	"github.com/rollout-sync/rollout/store/blob/mem"
)

const (
	parentID  = "01a1f81e-6bb9-7000-8000-000000000001"
	parentKey = "sessions/2026/11/20/rollout-2026-11-20T08-41-45-" + parentID + ".jsonl"
	childID   = "01a1f81e-7bb9-7000-8000-000000000002"
	childKey  = "sessions/2026/11/20/rollout-2026-11-20T08-41-49-" + childID + ".jsonl"
)

// listed counts the directories that are listed.
type listed struct {
	*blob.Store
	dirs []string
}

func (l *listed) List(ctx context.Context, dir string, o store.ListOptions) iter.Seq2[store.Entry, error] {
	l.dirs = append(l.dirs, dir)
	return l.Store.List(ctx, dir, o)
}

func newMirror(t *testing.T, objects map[string]string) *listed {
	t.Helper()
	m := blob.New(memblob.OpenBucket(nil), &blob.Options{Service: mem.Service()})
	t.Cleanup(func() { m.Close() })
	for name, content := range objects {
		if _, err := m.Put(t.Context(), name, store.BytesBody([]byte(content), time.Time{}), store.Cond{IfAbsent: true}); err != nil {
			t.Fatal(err)
		}
	}
	return &listed{Store: m}
}

func sum(s string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(s))) }

func TestVersions(t *testing.T) {
	t.Parallel()
	stem := strings.TrimSuffix(parentKey, ".jsonl")
	m := newMirror(t, map[string]string{
		parentKey:                                  "current",
		"history/" + stem + "/h1.jsonl":            "old",
		"history/" + stem + "/f1.foreign":          "not a version",
		"diverged/" + stem + "/b.jsonl":            "b's",
		"history/diverged/" + stem + "/b/h2.jsonl": "b's old one",
		childKey: "another rollout",
		"diverged/" + strings.TrimSuffix(childKey, ".jsonl") + "/b.jsonl": "of another rollout",
	})
	var got []string
	for e, err := range versions(t.Context(), m, parentKey) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, e.Name)
	}
	want := []string{parentKey, "diverged/" + stem + "/b.jsonl", "history/" + stem + "/h1.jsonl", "history/diverged/" + stem + "/b/h2.jsonl"}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// The version that a child means is the one with the bytes that it was pinned to,
// wherever it is by now.
func TestLineageVersion(t *testing.T) {
	t.Parallel()
	stem := strings.TrimSuffix(parentKey, ".jsonl")
	diverged, history := "diverged/"+stem+"/b.jsonl", "history/"+stem+"/h.jsonl"
	objects := map[string]string{parentKey: "one two three", diverged: "uno dos tres", history: "eins"}
	for name, c := range map[string]struct {
		pin  Pin
		want string // "" is ErrLineage
	}{
		"current":                 {Pin{parentID, 7, sum("one two")}, parentKey},
		"all of current":          {Pin{parentID, 13, sum("one two three")}, parentKey},
		"a diverged one":          {Pin{parentID, 7, sum("uno dos")}, diverged},
		"all of an old one":       {Pin{parentID, 4, sum("eins")}, history},
		"of two, the current one": {Pin{parentID, 0, sum("")}, parentKey},
		"no such bytes":           {Pin{parentID, 7, sum("eins zw")}, ""},
		"more than there is":      {Pin{parentID, 14, sum("one two three!")}, ""},
		"not known, so current":   {Pin{parentID, 13, ""}, parentKey},
		"not known, and too long": {Pin{parentID, 14, ""}, ""},
		"another rollout":         {Pin{childID, 0, ""}, ""},
		"no id":                   {Pin{"../../etc", 0, ""}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMirror(t, objects)
			e, err := newLineage(m, NewFacts(m)).version(t.Context(), c.pin)
			if e.Name != c.want || errors.Is(err, ErrLineage) != (c.want == "") {
				t.Errorf("got %q, %v; want %q", e.Name, err, c.want)
			}
		})
	}
}

func TestLineageFind(t *testing.T) {
	t.Parallel()
	const (
		oldID    = "8f1c7ee1-7b0c-4b6c-9d2e-000000000020" // a UUIDv4, which tells no time
		strange  = "01a1f81e-6bb9-7000-8000-000000000009" // lies elsewhere than its time says
		nextDay  = "01a1fb00-0000-7000-8000-000000000003" // 22:07 UTC, which is the next day in Tokyo
		noSuch   = "01a1f81e-6bb9-7000-8000-0000000000ff"
		flatName = "sessions/odd/rollout-"
	)
	keys := map[string]string{
		parentID:                               parentKey,
		oldID:                                  "sessions/2025/07/20/rollout-2025-07-20T10-00-00-" + oldID + ".jsonl",
		strange:                                "sessions/2020/01/01/rollout-2020-01-01T10-00-00-" + strange + ".jsonl",
		nextDay:                                "sessions/2026/11/21/rollout-2026-11-21T07-07-00-" + nextDay + ".jsonl",
		"8f1c7ee1-7b0c-4b6c-9d2e-000000000021": flatName + "8f1c7ee1-7b0c-4b6c-9d2e-000000000021.jsonl",
	}
	objects := map[string]string{
		// Lies elsewhere than its name says: nobody's.
		"sessions/2026/11/20/rollout-2026-12-24T08-41-45-" + noSuch + ".jsonl": "x",
	}
	for _, key := range keys {
		objects[key] = "x"
	}
	m := newMirror(t, objects)
	l := newLineage(m, NewFacts(m))
	for id, want := range keys {
		m.dirs = nil
		for range 2 {
			if key, err := l.find(t.Context(), id); key != want || err != nil {
				t.Errorf("%s: %q, %v; want %q", id, key, err, want)
			}
		}
		if (id == parentID || id == nextDay) && len(m.dirs) > 3 {
			t.Errorf("%s: listed %q", id, m.dirs)
		}
	}
	for _, id := range []string{noSuch, "01a1f81e-6bb9-7000-8000-0000000000fe", "", "x"} {
		m.dirs = nil
		if _, err := l.find(t.Context(), id); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: %v", id, err)
		}
		if len(m.dirs) > 3 {
			t.Errorf("%q: all names were listed again: %q", id, m.dirs)
		}
	}
}

const child = `{"timestamp":"2026-11-20T08:41:49.000Z","ordinal":4,"type":"session_meta","payload":{"id":"` + childID +
	`","timestamp":"2026-11-20T08:41:49.000Z","cwd":"/w","originator":"x","cli_version":"0.150.0","history_mode":"paginated",` +
	`"history_base":{"thread_id":"` + parentID + `","end_ordinal_exclusive":4,"end_byte_offset":7}}}` + "\n"

func TestPin(t *testing.T) {
	t.Parallel()
	n, err := codec.ParseName(path.Base(childKey))
	if err != nil {
		t.Fatal(err)
	}
	told := func(of string, offset int64, hash string) []Fact {
		return []Fact{{Rollout: n.String(), SHA256: sum(of), Base: &Pin{parentID, offset, hash}}}
	}
	for name, c := range map[string]struct {
		content string
		facts   map[string][]Fact
		want    Pin
		err     error
	}{
		"nothing told":                    {content: child, want: Pin{parentID, 7, ""}},
		"told":                            {child, map[string][]Fact{"a": told(child, 7, "aa")}, Pin{parentID, 7, "aa"}, nil},
		"told of this version and others": {child, map[string][]Fact{"a": told("", 7, "cc"), "b": told(child, 7, "bb"), "c": told("", 7, "aa")}, Pin{parentID, 7, "bb"}, nil},
		"told of another base":            {child, map[string][]Fact{"a": told(child, 8, "aa")}, Pin{parentID, 7, ""}, nil},
		"no base":                         {content: strings.Replace(child, "history_base", "other", 1)},
		"no meta":                         {content: "one\n", err: errNoMeta},
		"torn":                            {content: child[:len(child)/2], err: errNoMeta},
		"empty":                           {content: "", err: errNoMeta},
		"hostile":                         {content: strings.Replace(child, `offset":7`, `offset":-7`, 1), err: errNoMeta},
		"a line without end":              {content: `{"type":"session_meta","payload":{"id":"` + strings.Repeat("x", maxMeta), err: errNoMeta},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := newMirror(t, map[string]string{childKey: c.content})
			for origin, facts := range c.facts {
				if err := newLedger(m, origin).tell(t.Context(), monthOf(n), facts); err != nil {
					t.Fatal(err)
				}
			}
			f, err := m.Open(t.Context(), childKey)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			got, ok, err := newLineage(m, NewFacts(m)).pin(t.Context(), n, f)
			if got != c.want || ok != (c.want != Pin{}) || !errors.Is(err, c.err) {
				t.Errorf("got %v, %v, %v; want %v, %v", got, ok, err, c.want, c.err)
			}
		})
	}
}

func TestPinOf(t *testing.T) {
	t.Parallel()
	m := newMirror(t, map[string]string{parentKey: "one two three"})
	f, err := m.Open(t.Context(), parentKey)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if p, err := pinOf(t.Context(), f, codec.Base{Rollout: parentID, Offset: 7}); err != nil || p != (Pin{parentID, 7, sum("one two")}) {
		t.Error(p, err)
	}
	if _, err := pinOf(t.Context(), f, codec.Base{Rollout: parentID, Offset: 14}); !errors.Is(err, ErrLineage) {
		t.Error(err)
	}
}
