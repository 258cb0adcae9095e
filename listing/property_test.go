package listing_test

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/store/memfs"
)

// A want is an item as the test expects it.
type want struct {
	time        time.Time
	id          uuid.UUID
	where, path string
}

func (w want) String() string {
	return fmt.Sprintf("%s %s %s %s", stamp(w.time), w.id, w.where, w.path)
}

// A forest is two random trees and what listing them has to give.
type forest struct {
	t      *testing.T
	r      *rand.Rand
	local  *memfs.Store
	mirror *memfs.Store
	want   map[string]*want // by time and id
	n      int              // sessions so far
}

// grow adds a session that begins at start, in some of the ways in which users
// have them.
func (f *forest) grow(start time.Time) {
	r := f.r
	f.n++
	id, content := v7(start, r.IntN(3)*100+f.n), ""
	if r.IntN(3) == 0 {
		id = v4(r.IntN(3)*100 + f.n)
	}
	switch r.IntN(3) {
	case 0:
		content = g0(id, start)
	case 1:
		content = g1(id, start, "/w")
	default:
		content = g2(id, start)
	}
	wall := start.Add(time.Duration(r.IntN(27)-12) * time.Hour)
	base := codec.NewName(wall, id).String()
	at := start // its place in the order
	var path string
	switch r.IntN(8) {
	default:
		path = dated(wall, id)
	case 0:
		path = wall.Format("sessions/2006/01/02/old/") + base
	case 1:
		path = "sessions/odd/2026/" + base
	case 2:
		path = "sessions/" + base
	case 3, 4:
		path = "archived_sessions/" + base
	case 5:
		day := noon.Truncate(24*time.Hour).AddDate(0, 0, r.IntN(7)-3)
		path = day.Format("sessions/2006/01/02/") + base
		if first := day.Add(-14 * time.Hour); at.Before(first) {
			at = first
		}
		if last := day.Add(38*time.Hour - time.Millisecond); at.After(last) {
			at = last
		}
	}
	inMirror, inBoth := r.IntN(3) == 0, r.IntN(3) == 0
	if !inMirror || inBoth {
		stored, bytes := path, content
		if r.IntN(4) == 0 {
			stored, bytes = path+".zst", sealed(f.t, content)
		}
		put(f.t, f.local, stored, bytes)
		f.expect(want{at, id, listing.Local, path})
	}
	if !inMirror && r.IntN(8) == 0 && path != "archived_sessions/"+base {
		put(f.t, f.local, "archived_sessions/"+base, content)
		f.expect(want{start, id, listing.Local, "archived_sessions/" + base})
	}
	if inMirror || inBoth {
		put(f.t, f.mirror, dated(wall, id)+".zst", sealed(f.t, content))
		f.expect(want{start, id, listing.Mirror, dated(wall, id)})
	}
}

func (f *forest) expect(w want) {
	key := stamp(w.time) + w.id.String()
	switch old := f.want[key]; {
	case old == nil:
		f.want[key] = &w
	case old.where != w.where:
		old.where = listing.Both // the local one was first
	}
}

func (f *forest) sorted() []want {
	var list []want
	for _, w := range f.want {
		list = append(list, *w)
	}
	slices.SortFunc(list, func(a, b want) int {
		return cmp.Or(b.time.Compare(a.time), bytes.Compare(b.id[:], a.id[:]))
	})
	return list
}

func TestPagesAreTheSortedSet(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			f := &forest{
				t:      t,
				r:      rand.New(rand.NewPCG(seed, 0)),
				local:  memfs.New(nil),
				mirror: memfs.New(nil),
				want:   map[string]*want{},
			}
			start := noon
			for range f.r.IntN(25) {
				if f.r.IntN(3) > 0 { // else a tie
					start = noon.Add(time.Duration(f.r.IntN(72*3600_000)-36*3600_000) * time.Millisecond)
				}
				f.grow(start)
			}
			places := []listing.Place{
				{Where: listing.Mirror, Source: f.mirror},
				{Where: listing.Local, Source: f.local},
			}
			sorted := f.sorted()
			check(t, "All", all(t, places, listing.Query{}), sorted)
			for limit := 1; limit <= len(sorted)+1; limit++ {
				check(t, fmt.Sprintf("pages of %d", limit), pages(t, places, listing.Query{Limit: limit}), sorted)
			}

			// Sessions that begin after the first page was read do not disturb
			// those that follow.
			before := maps.Clone(f.want)
			newest := noon.AddDate(0, 0, 5)
			var items []listing.Item
			for q := (listing.Query{Limit: 1 + f.r.IntN(5)}); ; {
				r := page(t, places, q)
				items = append(items, r.Items...)
				if q.Cursor = r.Next; q.Cursor == "" {
					break
				}
				newest = newest.Add(time.Minute)
				id := v7(newest, 0)
				put(t, f.local, dated(newest.Add(14*time.Hour), id), g1(id, newest, "/w"))
			}
			f.want = before
			check(t, "pages while sessions arrive", items, sorted)
		})
	}
}

func check(t *testing.T, how string, items []listing.Item, sorted []want) {
	t.Helper()
	for i := range max(len(items), len(sorted)) {
		got, want := "nothing", "nothing"
		if i < len(items) {
			got = fmt.Sprintf("%s %s %s", items[i].RolloutID, items[i].Where, items[i].Path)
			if len(items[i].Problems) > 0 {
				got += fmt.Sprintf(" %q", items[i].Problems)
			}
		}
		if i < len(sorted) {
			want = fmt.Sprintf("%s %s %s", sorted[i].id, sorted[i].where, sorted[i].path)
		}
		if got != want {
			t.Fatalf("%s: item %d of %d:\n got %s\nwant %s\nof %d:\n%v", how, i, len(items), got, want, len(sorted), sorted)
		}
	}
}
