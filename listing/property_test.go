package listing_test

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/store/memfs"
)

// A want is an item as the test expects it.
type want struct {
	created, updated time.Time // its places in the two orders
	id               uuid.UUID
	where, path      string
	misplaced        bool
	mirror           string // listing.Same and so on
}

// A forest is two random trees and what listing them has to give.
type forest struct {
	t      *testing.T
	r      *rand.Rand
	local  *memfs.Store
	mirror *memfs.Store
	facts  map[string]string // paths in the home, by name
	want   []*want
	n      int // sessions so far
	days   int // with new ones
}

func (f *forest) places() []listing.Place {
	return []listing.Place{
		{Where: listing.Mirror, Source: remote{f.mirror}, Describe: func(_ context.Context, _ string, n codec.Name) (listing.Description, error) {
			return listing.Description{Path: f.facts[n.String()]}, nil
		}},
		{Where: listing.Local, Source: f.local},
	}
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
	updated := start.Add(time.Duration(r.IntN(4)) * 12 * time.Hour)
	home := dated(wall, id)
	w := want{created: start, updated: updated, id: id, path: home}
	switch r.IntN(8) {
	case 0:
		w.path = wall.Format("sessions/2006/01/02/old/") + base
	case 1:
		w.path = "sessions/odd/2026/" + base
	case 2:
		w.path = "sessions/" + base
	case 3, 4:
		w.path = "archived_sessions/" + base
	case 5:
		day := noon.Truncate(24*time.Hour).AddDate(0, 0, r.IntN(7)-3)
		w.path = day.Format("sessions/2006/01/02/") + base
		first, last := day.Add(-14*time.Hour), day.Add(38*time.Hour-time.Millisecond)
		if start.Before(first) {
			w.created = first
		}
		if start.After(last) {
			w.created = last
		}
		w.misplaced = !w.created.Equal(start)
	}
	inMirror, inHome := true, true
	switch r.IntN(3) {
	case 0:
		inMirror = false
	case 1:
		inHome = false
	}
	told := r.IntN(2) == 0
	if inHome {
		path, bytes := w.path, content
		if r.IntN(4) == 0 {
			path, bytes = path+".zst", sealed(f.t, content)
		}
		putAt(f.t, f.local, path, bytes, updated)
	}
	if !inMirror {
		w.where = listing.Local
		f.want = append(f.want, &w)
		return
	}
	if told {
		f.facts[base] = w.path
	}
	m := want{created: start, updated: updated, id: id, where: listing.Mirror, path: home}
	if told {
		m.path = w.path
	}
	switch {
	case !inHome:
		putAt(f.t, f.mirror, home+".zst", sealed(f.t, content), updated)
		f.want = append(f.want, &m)
	case w.path != home && strings.HasPrefix(w.path, "sessions/") && !w.created.Equal(start) && !told:
		// Nothing tells that these two belong together, unless they are as old.
		putAt(f.t, f.mirror, home+".zst", sealed(f.t, content), updated)
		w.where = listing.Local
		f.want = append(f.want, &w, &m)
	default:
		version, changed := content, updated
		w.where, w.mirror = listing.Both, listing.Same
		if found := w.path == home || w.path == "sessions/"+base || w.path == "archived_sessions/"+base; found {
			switch r.IntN(3) {
			case 0:
				version, changed, w.mirror = content+content, updated.Add(time.Hour), listing.Ahead
				w.updated = changed
			case 1:
				version, changed, w.mirror = content[:len(content)-1], updated.Add(-time.Minute), listing.Behind
			}
		}
		putAt(f.t, f.mirror, home+".zst", sealed(f.t, version), changed)
		w.created = start
		f.want = append(f.want, &w)
	}
}

// sorted returns what a query has to give.
func (f *forest) sorted(q listing.Query) []string {
	list := slices.Clone(f.want)
	at := func(w *want) time.Time {
		if q.Order == listing.Updated {
			return w.updated
		}
		return w.created
	}
	// Two files of one rollout that are at the same place are one item, wherever they
	// lie.
	slices.SortStableFunc(list, func(a, b *want) int {
		return cmp.Or(at(b).Compare(at(a)), bytes.Compare(b.id[:], a.id[:]))
	})
	if q.Oldest {
		slices.Reverse(list)
	}
	var lines []string
	for i := 0; i < len(list); i++ {
		w := *list[i]
		if i+1 < len(list) && list[i+1].id == w.id && at(list[i+1]).Equal(at(&w)) {
			i++
			if w.where == listing.Mirror {
				w = *list[i]
			}
			w.where, w.mirror = listing.Both, listing.Same
		}
		lines = append(lines, fmt.Sprintf("%s %s %s mirror:%s misplaced:%t", w.id, w.where, w.path, w.mirror, w.misplaced && q.Order == listing.Created))
	}
	return lines
}

func line(it listing.Item) string {
	mirror := ""
	if it.Mirror != nil {
		mirror = *it.Mirror
	}
	problems := slices.DeleteFunc(slices.Clone(it.Problems), func(p string) bool { return p == misplaced })
	s := fmt.Sprintf("%s %s %s mirror:%s misplaced:%t", it.RolloutID, it.Where, it.Path, mirror, len(problems) < len(it.Problems))
	if len(problems) > 0 {
		s += fmt.Sprintf(" %q", problems)
	}
	return s
}

func TestPagesAreTheSortedSet(t *testing.T) {
	t.Parallel()
	for seed := range uint64(40) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			f := &forest{
				t: t, r: rand.New(rand.NewPCG(seed, 0)),
				local: memfs.New(nil), mirror: memfs.New(nil),
				facts: map[string]string{},
			}
			start := noon
			for range f.r.IntN(25) {
				if f.r.IntN(3) > 0 { // else a tie
					start = noon.Add(time.Duration(f.r.IntN(72*3600_000)-36*3600_000) * time.Millisecond)
				}
				f.grow(start)
			}
			for _, order := range []listing.Order{listing.Created, listing.Updated} {
				for _, oldest := range []bool{false, true} {
					q := listing.Query{Order: order, Oldest: oldest}
					sorted := f.sorted(q)
					how := fmt.Sprintf("%s, oldest first: %t: ", order, oldest)
					check(t, how+"All", all(t, f.places(), q), sorted)
					for q.Limit = 1; q.Limit <= len(sorted)+1; q.Limit++ {
						check(t, how+fmt.Sprintf("pages of %d", q.Limit), pages(t, f.places(), q), sorted)
					}
				}
				f.arrive(order)
			}
		})
	}
}

// arrive has sessions begin after the first page was read: they do not disturb those
// that follow.
func (f *forest) arrive(order listing.Order) {
	q := listing.Query{Order: order, Limit: 1 + f.r.IntN(5)}
	sorted := f.sorted(q)
	f.days++
	newest := noon.AddDate(0, 0, 5*f.days)
	var items []listing.Item
	for {
		r := page(f.t, f.places(), q)
		items = append(items, r.Items...)
		if q.Cursor = r.Next; q.Cursor == "" {
			break
		}
		newest = newest.Add(time.Minute)
		id, path := v7(newest, 0), dated(newest.Add(14*time.Hour), v7(newest, 0))
		putAt(f.t, f.local, path, g1(id, newest, "/w"), newest)
		f.want = append(f.want, &want{created: newest, updated: newest, id: id, where: listing.Local, path: path})
	}
	check(f.t, fmt.Sprintf("pages of %d by %s while sessions arrive", q.Limit, order), items, sorted)
}

func check(t *testing.T, how string, items []listing.Item, sorted []string) {
	t.Helper()
	for i := range max(len(items), len(sorted)) {
		got, want := "nothing", "nothing"
		if i < len(items) {
			got = line(items[i])
		}
		if i < len(sorted) {
			want = sorted[i]
		}
		if got != want {
			t.Fatalf("%s: item %d of %d:\n got %s\nwant %s\nof %d:\n%s", how, i, len(items), got, want, len(sorted), strings.Join(sorted, "\n"))
		}
	}
}
