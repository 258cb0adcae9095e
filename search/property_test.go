package search_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/afero"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/index"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/search"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/memfs"
)

// A world is a home and a mirror with random sessions.
type world struct {
	t     *testing.T
	w     writer
	fs    map[string]afero.Fs
	store map[string]*memfs.Store
	paths []string
	said  []string
	n     int
}

func newWorld(t *testing.T, seed uint64) *world {
	w := &world{t: t, w: writer{rand.New(rand.NewPCG(seed, 1))}, fs: map[string]afero.Fs{}, store: map[string]*memfs.Store{}}
	for _, where := range []string{listing.Local, listing.Mirror} {
		w.fs[where] = afero.NewMemMapFs()
		w.store[where] = memfs.New(w.fs[where])
	}
	return w
}

func (w *world) text() string {
	s := w.w.text()
	w.said = append(w.said, s)
	return s
}

func (w *world) lines(to []byte) []byte {
	for range w.w.IntN(8) {
		to = append(to, w.w.line(w.text)...)
	}
	return to
}

// write replaces a file, in the one form or the other.
func (w *world) write(where, path string, content []byte) {
	w.remove(where, path)
	if w.w.IntN(3) == 0 {
		var sealed bytes.Buffer
		s := codec.NewSealer(&sealed, time.Time{})
		if _, err := s.Write(content); err != nil {
			w.t.Fatal(err)
		}
		if err := s.Close(); err != nil {
			w.t.Fatal(err)
		}
		path, content = path+".zst", sealed.Bytes()
	}
	if err := afero.WriteFile(w.fs[where], path, content, 0o600); err != nil {
		w.t.Fatal(err)
	}
	w.n++ // a clock with which no two versions are of the same time
	at := time.Date(2026, 11, 20, 12, 0, w.n, 0, time.UTC)
	if err := w.fs[where].Chtimes(path, at, at); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) remove(where, path string) {
	for _, p := range []string{path, path + ".zst"} {
		_ = w.fs[where].Remove(p) // one of them
	}
}

// grow adds sessions, each in the home, the mirror or both.
func (w *world) grow() {
	for range 1 + w.w.IntN(4) {
		start := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC).Add(time.Duration(w.w.IntN(100)) * time.Hour)
		var id uuid.UUID
		ms := start.UnixMilli()
		for i := range 6 {
			id[i] = byte(ms >> (40 - 8*i))
		}
		id[6], id[8], id[14], id[15] = 0x70, 0x80, byte(len(w.paths)>>8), byte(len(w.paths))
		path := start.Format("sessions/2006/01/02/") + codec.NewName(start, id).String()
		w.paths = append(w.paths, path)
		content := w.lines([]byte(meta(id)))
		in := w.w.IntN(3)
		if in != 0 {
			w.write(listing.Local, path, content)
		}
		if in != 1 {
			w.write(listing.Mirror, path, content)
		}
	}
}

// change changes some sessions: they grow, are rewritten, or vanish.
func (w *world) change() {
	for _, path := range w.paths {
		where := w.w.pick([]string{listing.Local, listing.Mirror})
		content := w.read(where, path)
		if content == nil {
			continue
		}
		switch w.w.IntN(6) {
		case 0:
			w.write(where, path, w.lines(content))
		case 1:
			w.write(where, path, w.lines(content[:bytes.IndexByte(content, '\n')+1]))
		case 2:
			w.remove(where, path)
		}
	}
}

func (w *world) read(where, path string) []byte {
	f, err := w.store[where].Open(context.Background(), path)
	if err != nil {
		return nil
	}
	defer f.Close()
	r, err := f.Range(context.Background(), 0, -1)
	if err != nil {
		w.t.Fatal(err)
	}
	defer r.Close()
	var b bytes.Buffer
	if _, err := b.ReadFrom(r); err != nil {
		w.t.Fatal(err)
	}
	return b.Bytes()
}

func (w *world) source(it listing.Item) (store.Source, string, error) {
	return w.store[it.Newest()], it.Path, nil
}

func (w *world) search(args []string, x map[string]search.Index) *search.Search {
	q, err := search.Parse(args)
	if err != nil {
		w.t.Fatal(err)
	}
	return &search.Search{Query: q, Places: w.places(), Source: w.source, Index: x}
}

func (w *world) places() (list []listing.Place) {
	for where, s := range w.store {
		list = append(list, listing.Place{Where: where, Source: s})
	}
	return list
}

// items are all sessions.
func (w *world) items() (list []listing.Item) {
	for it, err := range listing.All(context.Background(), w.places(), listing.Query{}) {
		if err != nil {
			w.t.Fatal(err)
		}
		list = append(list, it)
	}
	return list
}

// What is found does not depend on an index, however far it is behind, nor on how
// something stands in the bytes.
func TestSearchIsExact(t *testing.T) {
	t.Parallel()
	for seed := range 12 {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, uint64(seed))
			x, err := index.Open(filepath.Join(t.TempDir(), "index.db"))
			if err != nil {
				t.Fatal(err)
			}
			defer x.Close()
			places := map[string]search.Index{}
			for where := range w.store {
				places[where] = x.Place(where)
			}
			found := 0
			for range 3 {
				w.grow()
				for _, it := range w.items() {
					if src, path, _ := w.source(it); w.w.IntN(4) > 0 {
						if err := x.Place(it.Newest()).Add(t.Context(), src, path); err != nil {
							t.Fatal(err)
						}
					}
				}
				if err := x.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				w.change()
				items := w.items()
				for range 40 {
					args := w.w.query(w.said)
					want := map[string][]int{}
					for _, it := range items {
						src, path, _ := w.source(it)
						if lines := reference(t, src, path, args); lines != nil {
							want[path] = lines
						}
					}
					found += len(want)
					if got := answer(t, w.search(args, nil)); !same(got, want) {
						t.Fatalf("%q: found without an index\n%v, not\n%v", args, got, want)
					}
					if got := answer(t, w.search(args, places)); !same(got, want) {
						t.Fatalf("%q: found with an index\n%v, not\n%v", args, got, want)
					}
				}
			}
			if found == 0 {
				t.Error("nothing was found at all")
			}
		})
	}
}
