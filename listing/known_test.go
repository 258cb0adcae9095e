package listing_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/store/memfs"
)

// A notebook keeps what a list has learned.
type notebook struct {
	mu    sync.Mutex
	known map[string]listing.Known
}

// in returns the place with the notebook, and a spy on what is opened all the same.
func (b *notebook) in(p listing.Place) (listing.Place, *spy) {
	s := &spy{Source: p.Source}
	p.Source = s
	key := func(path, version string) string { return p.Where + path + "@" + version }
	p.Known = func(_ context.Context, path string, _ codec.Name, version string) (listing.Known, bool) {
		b.mu.Lock()
		defer b.mu.Unlock()
		k, ok := b.known[key(path, version)]
		return k, ok
	}
	p.Learn = func(path, version string, k listing.Known) {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.known[key(path, version)] = k
	}
	return p, s
}

func TestKnownListsTheSame(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			f := &forest{
				t: t, r: rand.New(rand.NewPCG(seed, 1)),
				local: memfs.New(nil), mirror: memfs.New(nil),
				facts: map[string]string{},
			}
			for range 20 {
				f.grow(noon.Add(time.Duration(f.r.IntN(72*3600_000)) * time.Millisecond))
			}
			for _, q := range []listing.Query{
				{},
				{Cwd: "/w"},
				{Sources: []string{"cli"}},
				{Text: "e"},
				{Models: []string{"m"}},
				{Cwd: "/none"},
				{Since: noon.Add(20 * time.Hour)},
				{Subagents: listing.No},
				{Light: true},
				{Cwd: "/w", AnyTurn: true},
			} {
				for _, q.Order = range []listing.Order{listing.Created, listing.Updated} {
					for _, q.Preview = range []int{-1, 2} {
						want := said(t, all(t, f.places(), q))
						book := &notebook{known: map[string]listing.Known{}}
						for round := range 2 {
							var places []listing.Place
							for _, p := range f.places() {
								p, _ = book.in(p)
								places = append(places, p)
							}
							if got := said(t, all(t, places, q)); got != want {
								t.Fatalf("%+v, round %d:\n got %s\nwant %s", q, round, got, want)
							}
						}
					}
				}
			}
		})
	}
}

func TestKnownIsNotOpened(t *testing.T) {
	t.Parallel()
	home := memfs.New(nil)
	for n := range 20 {
		start := noon.Add(time.Duration(n) * time.Hour)
		id := v7(start, n)
		putAt(t, home, dated(start, id), g1(id, start, "/w"), start)
	}
	for _, where := range []string{listing.Local, listing.Mirror} {
		book := &notebook{known: map[string]listing.Known{}}
		for _, order := range []listing.Order{listing.Created, listing.Updated} {
			for round, q := range []listing.Query{
				{Preview: -1, Cwd: "/none"}, {Preview: -1}, {Preview: -1, Cwd: "/w"}, {Preview: -1, Text: "none"}, {Preview: 1},
			} {
				q.Order = order
				p := listing.Place{Where: where, Source: remote{home}}
				if where == listing.Local {
					p.Source = home
				}
				p, s := book.in(p)
				n := len(all(t, []listing.Place{p}, q))
				// Whether there are copies in other places is not known.
				s.opened = slices.DeleteFunc(s.opened, func(name string) bool { return !strings.HasPrefix(name, "sessions/2026/") })
				switch want := q.Cwd != "/none" && q.Text == ""; {
				case want && n != 20 || !want && n != 0:
					t.Errorf("%s, %+v: %d items", where, q, n)
				case q.Preview > 0 || order == listing.Created && round == 0 || order == listing.Created && round == 1 && where == listing.Local:
					if len(s.opened) == 0 {
						t.Errorf("%s, %+v: nothing was read", where, q) // of Local the first round needs no end
					}
				case len(s.opened) > 0:
					t.Errorf("%s, %+v: %d that are known were opened", where, q, len(s.opened))
				}
			}
		}
	}
}

// said is what items say in JSON.
func said(t *testing.T, items []listing.Item) (s string) {
	t.Helper()
	for _, it := range items {
		p, err := json.Marshal(it)
		if err != nil {
			t.Fatal(err)
		}
		s += string(p) + "\n"
	}
	return s
}

// A rollout is left out if all of its files are, and else is as it was.
func TestSkip(t *testing.T) {
	t.Parallel()
	home, mirror := memfs.New(nil), memfs.New(nil)
	start := noon
	at := func(n int) string { return dated(start, v7(start, n)) }
	archived := "archived_sessions/" + path.Base(at(4))
	for n := range 5 {
		content := g1(v7(start, n), start, "/w")
		if n == 4 { // archived at home, in the mirror where it was
			putAt(t, home, archived, content, start)
		} else {
			putAt(t, home, at(n), content, start)
		}
		putAt(t, mirror, at(n), content, start)
	}
	skip := map[string][]string{
		listing.Local:  {at(1), at(3), archived},
		listing.Mirror: {at(2), at(3), at(4)},
	}
	places := []listing.Place{{Where: listing.Local, Source: home}, {Where: listing.Mirror, Source: mirror}}
	for _, q := range []listing.Query{
		{Light: true, Versions: true},
		{Light: true, Versions: true, Oldest: true},
		{Light: true, Versions: true, Cwd: "/w"},
		{Light: true, Versions: true, Order: listing.Updated},
	} {
		var want []listing.Item
		for _, it := range all(t, places, q) {
			if it.RolloutID != v7(start, 3) && it.RolloutID != v7(start, 4) {
				want = append(want, it)
			}
		}
		some := slices.Clone(places)
		for i := range some {
			some[i].Skip = func(path, version string) bool {
				if version == "" {
					t.Errorf("%s is asked about without a version", path)
				}
				return slices.Contains(skip[some[i].Where], path)
			}
		}
		if got := all(t, some, q); len(got) != 3 || said(t, got) != said(t, want) {
			t.Errorf("%+v:\n got %s\nwant %s", q, said(t, got), said(t, want))
		}
		q.Versions = false // and nothing tells them
		if got := all(t, some, q); q.Cwd == "" && q.Order == "" && len(got) != 5 {
			t.Errorf("%+v: %d items, want 5", q, len(got))
		}
	}
}
