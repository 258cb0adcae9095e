package listing

import (
	"bytes"
	"cmp"
	"container/heap"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
)

const (
	liveDir     = "sessions"
	archivedDir = "archived_sessions"
)

// parallel is how many heads are read at a time.
const parallel = 8

// zoneSlack is the greatest offset of a time zone from UTC, in ms: how far a
// local time can be from the true one.
const zoneSlack = int64(14 * time.Hour / time.Millisecond)

// A span is a range of times in ms since 1970, both ends included.
type span struct{ lo, hi int64 }

// always is what RFC 3339, and so a cursor, can say.
var always = span{0, time.Date(9999, 12, 31, 23, 59, 59, 999e6, time.UTC).UnixMilli()}

func (s span) widen() span              { return span{s.lo - zoneSlack, s.hi + zoneSlack} }
func (s span) clamp(ms int64) int64     { return min(max(ms, s.lo), s.hi) }
func (s span) within(o span) span       { return span{o.clamp(s.lo), o.clamp(s.hi)} }
func (s span) overlaps(o span) bool     { return s.lo <= o.hi && o.lo <= s.hi }
func (s span) exact() bool              { return s.lo == s.hi }
func spanOf(from, until time.Time) span { return span{from.UnixMilli(), until.UnixMilli() - 1}.widen() }

// dirSpan returns the bounds of what lies in dir, given those of the directory
// above it.
func dirSpan(dir string, above span) span {
	date, ok := strings.CutPrefix(dir, liveDir+"/")
	parts := strings.Split(date, "/")
	if !ok || len(parts) > 3 {
		return above
	}
	ymd := [3]int{0, 1, 1}
	for i, p := range parts {
		n, err := strconv.ParseUint(p, 10, 16)
		if err != nil {
			return above
		}
		ymd[i] = int(n)
	}
	from := time.Date(ymd[0], time.Month(ymd[1]), ymd[2], 0, 0, 0, 0, time.UTC)
	if y, m, d := from.Date(); [3]int{y, int(m), d} != ymd {
		return above // no such day
	}
	until := [...]time.Time{from.AddDate(1, 0, 0), from.AddDate(0, 1, 0), from.AddDate(0, 0, 1)}
	return spanOf(from, until[len(parts)-1]).within(above)
}

// nameSpan returns the bounds of a rollout's time as far as its name tells, given
// those of its directory.
func nameSpan(n codec.Name, above span) span {
	if t, ok := n.Time(); ok {
		return span{t.UnixMilli(), t.UnixMilli()}.within(above)
	}
	wall, ok := n.Wall()
	if !ok {
		return above
	}
	precision := time.Second
	if len(n.Stamp) == len(time.DateOnly) {
		precision = 24 * time.Hour
	}
	return spanOf(wall, wall.Add(precision)).within(above)
}

// A node is a directory that was not listed yet or a rollout.
type node struct {
	span         // of the rollout, or of all that lie in the directory
	place *Place // of a directory
	dir   string // empty for a rollout
	id    uuid.UUID
	files []*file // of a rollout
}

// at is the place of a rollout whose span is exact.
func (n *node) at() position { return position{n.lo, n.id} }

// compare is negative if n has to be looked at before o: the one that reaches
// to the later time, a directory before a rollout that could lie in it, and a
// rollout whose time is not known before one that might be the same.
func (n *node) compare(o *node) int {
	rank := func(n *node) int {
		switch {
		case n.dir != "":
			return 0
		case !n.exact():
			return 1
		}
		return 2
	}
	return cmp.Or(
		cmp.Compare(o.hi, n.hi),
		cmp.Compare(rank(n), rank(o)),
		bytes.Compare(o.id[:], n.id[:]),
		cmp.Compare(o.lo, n.lo),
	)
}

// queue is a heap with the first node by compare on top.
type queue []*node

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].compare(q[j]) < 0 }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(n any)        { *q = append(*q, n.(*node)) }

func (q *queue) Pop() any {
	last := len(*q) - 1
	n := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	return n
}

// A search goes through the trees of all places from the newest rollout on. It
// looks at whatever could hold the newest one that is left: lists a directory,
// reads the head of a rollout whose name does not tell its time, and is at the
// next rollout when neither comes before it.
type search struct {
	queue   queue
	scanned atomic.Int64 // heads read

	// What is wanted.
	id           string // hexadecimal digits
	cwd          string
	since, until time.Time
	after        *position
	window       span // the times that since, until and after leave
}

// newSearch returns the search for q.
func newSearch(ctx context.Context, places []Place, q Query) (*search, error) {
	s := &search{
		id:     strings.ToLower(strings.ReplaceAll(q.ID, "-", "")),
		cwd:    q.Cwd,
		since:  q.Since,
		until:  q.Until,
		window: always,
	}
	const slack = 24 * time.Hour
	if !q.Since.IsZero() {
		s.window.lo = q.Since.Add(-slack).UnixMilli()
	}
	if !q.Until.IsZero() {
		s.window.hi = q.Until.Add(slack).UnixMilli()
	}
	if q.Cursor != "" {
		p, named, err := parseCursor(q.Cursor)
		if err == nil && named {
			p, err = s.locate(ctx, places, p)
		}
		if err != nil {
			return nil, err
		}
		s.after = &p
		s.window.hi = min(s.window.hi, p.time)
	}
	s.addRoots(places)
	return s, nil
}

func (s *search) addRoots(places []Place) {
	for i := range places {
		for _, dir := range []string{liveDir, archivedDir} {
			s.add(&node{span: always, place: &places[i], dir: dir})
		}
	}
}

// add queues n unless nothing of it can be wanted.
func (s *search) add(n *node) {
	if !n.overlaps(s.window) {
		return
	}
	if n.dir == "" && n.exact() && s.after != nil && n.at().compare(*s.after) <= 0 {
		return
	}
	heap.Push(&s.queue, n)
}

// pop takes the first node, and with a rollout all files that are the same one.
func (s *search) pop() *node {
	n := heap.Pop(&s.queue).(*node)
	for n.dir == "" && len(s.queue) > 0 && n.compare(s.queue[0]) == 0 {
		n.files = append(n.files, heap.Pop(&s.queue).(*node).files...)
	}
	return n
}

// next returns the next rollout in the order, nil at the end.
func (s *search) next(ctx context.Context) (*node, error) {
	for len(s.queue) > 0 {
		var err error
		switch top := s.queue[0]; {
		case top.dir != "":
			err = s.list(ctx, s.pop())
		case top.exact():
			return s.pop(), nil
		default:
			err = s.settle(ctx)
		}
		if err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// step returns what is wanted of the next n rollouts, and whether they are the
// last.
func (s *search) step(ctx context.Context, n int) (items []Item, end bool, err error) {
	var rollouts []*node
	for len(rollouts) < n {
		r, err := s.next(ctx)
		if err != nil {
			return nil, false, err
		}
		if r == nil {
			end = true
			break
		}
		rollouts = append(rollouts, r)
	}
	items, err = s.items(ctx, rollouts)
	return items, end, err
}

// more reports whether any rollout is left.
func (s *search) more(ctx context.Context) (bool, error) {
	isRollout := func(n *node) bool { return n.dir == "" }
	for len(s.queue) > 0 && !slices.ContainsFunc(s.queue, isRollout) {
		if err := s.list(ctx, s.pop()); err != nil {
			return false, err
		}
	}
	return len(s.queue) > 0, nil
}

// list queues what lies in a directory. One that vanished, as an empty one may at
// any time, is like an empty one.
func (s *search) list(ctx context.Context, dir *node) error {
	for e, err := range dir.place.Source.List(ctx, dir.dir, store.ListOptions{}) {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", dir.place.Where, err)
		}
		if e.Dir {
			s.add(&node{span: dirSpan(e.Name, dir.span), place: dir.place, dir: e.Name})
			continue
		}
		name, err := codec.ParseName(path.Base(e.Name))
		if err != nil || !s.wantsID(name) {
			continue
		}
		f := &file{place: dir.place, path: e.Name, name: name, info: e.Info}
		s.add(&node{span: nameSpan(name, dir.span), id: name.Rollout, files: []*file{f}})
	}
	return nil
}

// settle reads the heads of the first rollout, whose name does not tell its time,
// and of the next ones that might be newer still.
func (s *search) settle(ctx context.Context) error {
	batch := []*node{s.pop()}
	for len(batch) < parallel && len(s.queue) > 0 {
		top := s.queue[0]
		if top.dir != "" || top.exact() || top.hi < batch[0].lo {
			break
		}
		batch = append(batch, s.pop())
	}
	err := inParallel(ctx, len(batch), func(i int) { s.read(ctx, batch[i]) })
	if err != nil {
		return err
	}
	for _, n := range batch {
		if len(n.files) > 0 {
			t := n.clamp(n.headTime())
			n.span = span{t, t}
			s.add(n)
		}
	}
	return nil
}

// headTime returns the time of a rollout whose id has none.
func (n *node) headTime() int64 {
	for _, f := range n.files {
		if f.hasMeta() && !f.head.StartTime.IsZero() {
			return f.head.StartTime.UnixMilli()
		}
	}
	if wall, ok := n.files[0].name.Wall(); ok {
		return wall.UnixMilli()
	}
	return 0
}

// inParallel calls do for 0 to n-1. An error is the context's.
func inParallel(ctx context.Context, n int, do func(i int)) error {
	var g errgroup.Group
	g.SetLimit(parallel)
	for i := range n {
		g.Go(func() error {
			do(i)
			return ctx.Err()
		})
	}
	return g.Wait()
}

// selective reports whether heads have to be read to know what is wanted.
func (s *search) selective() bool {
	return s.cwd != "" || !s.since.IsZero() || !s.until.IsZero()
}

func hexID(id uuid.UUID) string { return hex.EncodeToString(id[:]) }

func (s *search) wantsID(n codec.Name) bool {
	return s.id == "" || strings.HasPrefix(hexID(n.Session), s.id) || strings.HasPrefix(hexID(n.Rollout), s.id)
}

// wants reports whether an item is one of those that only its head tells.
func (s *search) wants(it *Item) bool {
	if s.cwd != "" && (it.Cwd == nil || filepath.Clean(*it.Cwd) != filepath.Clean(s.cwd)) {
		return false
	}
	if it.Created == nil {
		return s.since.IsZero() && s.until.IsZero()
	}
	return !it.Created.Before(s.since) && (s.until.IsZero() || it.Created.Before(s.until))
}
