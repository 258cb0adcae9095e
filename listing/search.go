package listing

import (
	"cmp"
	"container/heap"
	"context"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/rollout-sync/rollout/codec"
)

const (
	liveDir     = "sessions"
	archivedDir = "archived_sessions"
)

const (
	parallel = 16  // heads that are read, or directories listed, at a time
	maxBatch = 256 // rollouts that are looked at together
)

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

// boundsOf returns the bounds of what lies beside a file.
func boundsOf(file string) span {
	dir := path.Dir(file)
	if dir == "." {
		return always
	}
	return dirSpan(dir, boundsOf(dir))
}

// nameSpan returns the bounds of a rollout's time as far as its name tells.
func nameSpan(n codec.Name) span {
	if t, ok := n.Time(); ok {
		return span{t.UnixMilli(), t.UnixMilli()}
	}
	wall, ok := n.Wall()
	if !ok {
		return always
	}
	precision := time.Second
	if len(n.Stamp) == len(time.DateOnly) {
		precision = 24 * time.Hour
	}
	return spanOf(wall, wall.Add(precision))
}

// A node is a directory that was not listed yet or a rollout.
type node struct {
	span             // of the rollout, or of all that lie in the directory
	dir   *directory // nil for a rollout
	id    uuid.UUID
	files []*file  // of a rollout
	one   [1]*file // room for files, of which there is one as a rule
}

// at is the place of a rollout whose span is exact.
func (n *node) at() position { return position{n.lo, n.id} }

// queue is a heap with the first node of an order on top.
type queue struct {
	nodes  []*node
	oldest bool // first
}

// compare is negative if a has to be looked at before b: the one that reaches to
// the first time, a directory before a rollout that could lie in it, and a rollout
// whose time is not known before one that might be the same.
func (q *queue) compare(a, b *node) int {
	rank := func(n *node) int {
		switch {
		case n.dir != nil:
			return 0
		case !n.exact():
			return 1
		}
		return 2
	}
	// As a rule the first says it, and the rest would take as long again.
	if q.oldest {
		if c := cmp.Compare(a.lo, b.lo); c != 0 {
			return c
		}
		return cmp.Or(cmp.Compare(rank(a), rank(b)), compareID(a.id, b.id), cmp.Compare(a.hi, b.hi))
	}
	if c := cmp.Compare(b.hi, a.hi); c != 0 {
		return c
	}
	return cmp.Or(cmp.Compare(rank(a), rank(b)), compareID(b.id, a.id), cmp.Compare(b.lo, a.lo))
}

// before is whether place a comes before place b.
func (q *queue) before(a, b position) bool {
	if q.oldest {
		a, b = b, a
	}
	return cmp.Or(cmp.Compare(a.time, b.time), compareID(a.id, b.id)) > 0
}

func (q *queue) Len() int           { return len(q.nodes) }
func (q *queue) Less(i, j int) bool { return q.compare(q.nodes[i], q.nodes[j]) < 0 }
func (q *queue) Swap(i, j int)      { q.nodes[i], q.nodes[j] = q.nodes[j], q.nodes[i] }
func (q *queue) Push(n any)         { q.nodes = append(q.nodes, n.(*node)) }

func (q *queue) Pop() any {
	last := len(q.nodes) - 1
	n := q.nodes[last]
	q.nodes[last] = nil
	q.nodes = q.nodes[:last]
	return n
}

// add adds nodes, all at once if they are many.
func (q *queue) add(nodes []*node) {
	const many = 8 // times as few of them as there are: what each costs to find its place
	if len(nodes) > len(q.nodes)/many {
		q.nodes = append(q.nodes, nodes...)
		heap.Init(q)
		return
	}
	for _, n := range nodes {
		heap.Push(q, n)
	}
}

// firstDirs returns the first directories that were not listed yet, at most n.
func (q *queue) firstDirs(n int) (dirs []*node) {
	for _, x := range q.nodes {
		if x.dir != nil && x.dir.from == nil {
			dirs = append(dirs, x)
		}
	}
	slices.SortFunc(dirs, q.compare)
	return dirs[:max(0, min(n, len(dirs)))]
}

// A search goes through the trees of all places in an order. It looks at whatever
// could hold the first rollout that is left: lists a directory, reads the head of a
// rollout whose name does not tell its time, and is at the next rollout when neither
// comes before it.
type search struct {
	Query
	places  []Place
	filter  *filter
	queue   queue
	after   *position
	window  span // the times that are wanted
	all     bool // nobody stops at a page
	listed  int  // directories so far
	ahead   int  // directories that are being listed, or were, before their turn
	running sync.WaitGroup
	scanned atomic.Int64 // heads read
	batch   int          // rollouts that are looked at together
	last    position     // of the last rollout that was looked at
	limited bool         // MaxScan is reached
	unused  []Item       // room for what items returns
}

// newSearch returns the search for q, which needs an end, after an error too.
func newSearch(ctx context.Context, places []Place, q Query) (*search, error) {
	s := &search{Query: q, places: places, filter: newFilter(q), window: always, queue: queue{oldest: q.Oldest}, batch: parallel}
	var slack time.Duration
	if !s.byUpdate() {
		slack = 24 * time.Hour
	}
	if !q.Since.IsZero() {
		s.window.lo = q.Since.Add(-slack).UnixMilli()
	}
	if !q.Until.IsZero() {
		s.window.hi = q.Until.Add(slack).UnixMilli()
	}
	if q.Cursor != "" {
		p, named, err := parseCursor(q.Cursor)
		if err == nil && named {
			p, err = s.locate(ctx, p)
		}
		if err != nil {
			return s, err
		}
		s.after = &p
		if q.Oldest {
			s.window.lo = max(s.window.lo, p.time)
		} else {
			s.window.hi = min(s.window.hi, p.time)
		}
	}
	s.addRoots()
	return s, nil
}

// end stops what s has begun with the context of cancel, and waits for it.
func (s *search) end(cancel context.CancelFunc) {
	cancel()
	s.running.Wait()
}

func (s *search) byUpdate() bool { return s.Order == Updated }

func (s *search) addRoots() {
	for i := range s.places {
		p := &s.places[i]
		if s.byUpdate() {
			s.add(&node{span: always, dir: &directory{place: p, deep: true}})
			continue
		}
		for _, dir := range roots(p) {
			s.add(dir)
		}
	}
}

// wanted reports whether something of n can be.
func (s *search) wanted(n *node) bool {
	if !n.overlaps(s.window) {
		return false
	}
	return n.dir != nil || !n.exact() || s.after == nil || s.queue.before(*s.after, n.at())
}

// add queues n unless nothing of it can be wanted.
func (s *search) add(n *node) {
	if s.wanted(n) {
		heap.Push(&s.queue, n)
	}
}

// pop takes the first node, and with a rollout all files that are the same one.
func (s *search) pop() *node {
	n := heap.Pop(&s.queue).(*node)
	for n.dir == nil && s.queue.Len() > 0 && s.queue.compare(n, s.queue.nodes[0]) == 0 {
		for _, f := range heap.Pop(&s.queue).(*node).files {
			if !slices.ContainsFunc(n.files, f.isSame) { // an unordered list may have it twice
				n.files = append(n.files, f)
			}
		}
	}
	return n
}

// next returns the next rollout in the order, nil at the end.
func (s *search) next(ctx context.Context) (*node, error) {
	for s.queue.Len() > 0 {
		var err error
		switch top := s.queue.nodes[0]; {
		case top.dir != nil:
			err = s.list(ctx)
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

// step returns what is wanted of the next rollouts, at least n unless they are the
// last. It looks at more of them from time to time, so that little is read in vain
// when they are wanted, and all cores are busy when they are not.
func (s *search) step(ctx context.Context, n int) (items []Item, end bool, err error) {
	if s.selective() {
		n = max(n, s.batch)
		s.batch = min(2*s.batch, maxBatch)
	}
	var rollouts []*node
	for len(rollouts) < n {
		if s.MaxScan > 0 && int(s.scanned.Load())+len(rollouts) >= s.MaxScan {
			s.limited, err = s.more(ctx)
			if err != nil {
				return nil, false, err
			}
			end = !s.limited
			break
		}
		r, err := s.next(ctx)
		if err != nil {
			return nil, false, err
		}
		if r == nil {
			end = true
			break
		}
		s.last = r.at()
		rollouts = append(rollouts, r)
	}
	items, err = s.items(ctx, rollouts)
	return items, end, err
}

// more reports whether any rollout is left.
func (s *search) more(ctx context.Context) (bool, error) {
	isRollout := func(n *node) bool { return n.dir == nil }
	for s.queue.Len() > 0 && !slices.ContainsFunc(s.queue.nodes, isRollout) {
		if err := s.list(ctx); err != nil {
			return false, err
		}
	}
	return s.queue.Len() > 0, nil
}

// settle looks into the first rollout, whose name does not tell its time, and into
// the next ones that might come before it.
func (s *search) settle(ctx context.Context) error {
	nodes := []*node{s.pop()}
	for len(nodes) < parallel && s.queue.Len() > 0 {
		top := s.queue.nodes[0]
		if top.dir != nil || top.exact() || !top.overlaps(nodes[0].span) {
			break
		}
		nodes = append(nodes, s.pop())
	}
	err := inParallel(ctx, len(nodes), func(i int) { s.settleOne(ctx, nodes[i]) })
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if len(n.files) > 0 {
			s.add(n)
		}
	}
	return nil
}

func (s *search) settleOne(ctx context.Context, n *node) {
	var at int64
	if s.byUpdate() {
		n.files = slices.DeleteFunc(n.files, func(f *file) bool { return !f.look(ctx) })
		for _, f := range n.files {
			at = max(at, f.updated())
		}
	} else {
		s.read(ctx, n)
		at = n.headTime()
		for _, f := range n.files {
			f.misplaced = at != f.bounds.clamp(at)
		}
	}
	at = n.clamp(at)
	n.span = span{at, at}
}

// headTime returns the time of a rollout whose id has none.
func (n *node) headTime() int64 {
	for _, f := range n.files {
		if f.hasMeta() && !f.head.StartTime.IsZero() {
			return f.head.StartTime.UnixMilli()
		}
	}
	if len(n.files) > 0 {
		if wall, ok := n.files[0].name.Wall(); ok {
			return wall.UnixMilli()
		}
	}
	return 0
}

// inParallel calls do for 0 to n-1. An error is the context's.
func inParallel(ctx context.Context, n int, do func(i int)) error {
	var (
		g    errgroup.Group
		next atomic.Int64
	)
	for range min(parallel, n) { // with goroutines that last, their stacks grow once
		g.Go(func() error {
			for i := int(next.Add(1)) - 1; i < n && ctx.Err() == nil; i = int(next.Add(1)) - 1 {
				do(i)
			}
			return ctx.Err()
		})
	}
	return g.Wait()
}

// selective reports whether not every rollout is an item.
func (s *search) selective() bool { return s.filter.needsHead() || s.filter.needsDescription() }
