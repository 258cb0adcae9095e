package listing

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
)

// A directory is one that was not listed yet, or from which some were left out.
type directory struct {
	place *Place
	path  string
	deep  bool        // it is all directories of the place
	from  *node       // only rollouts behind this one are left
	keep  int         // how many were kept the last time
	ahead chan listed // nil: nobody has begun to list it
}

// How many rollouts of a directory are kept at a time: enough for many pages at
// first, and more whenever it has to be listed again, so that All, too, lists even
// the largest a few times only.
const (
	minKeep = 1 << 12
	maxKeep = 1 << 15
)

// listAhead is how many directories of those that were listed for a page one more may be
// listed for that is not needed yet: the first page lists none. For All it is one.
const listAhead = 4

// list lists the first directory of the queue, and has the next be listed meanwhile, as
// far as they are worth it.
func (s *search) list(ctx context.Context) error {
	n := s.pop()
	s.goAhead(ctx)
	s.listed++
	var l listed
	if n.dir.ahead != nil {
		l = <-n.dir.ahead
		s.ahead--
	} else {
		l = s.listOne(ctx, n)
	}
	if l.err != nil {
		return l.err
	}
	s.queueListed(n, l)
	return nil
}

// goAhead begins to list the directories that come next.
func (s *search) goAhead(ctx context.Context) {
	most := s.listed + s.ahead
	if !s.all {
		most /= listAhead
	}
	most = min(most, parallel) - 1
	if s.ahead >= most {
		return
	}
	for _, n := range s.queue.firstDirs(most) {
		if n.dir.ahead != nil || s.ahead >= most {
			continue
		}
		ahead := make(chan listed, 1)
		n.dir.ahead = ahead
		s.ahead++
		s.running.Go(func() { ahead <- s.listOne(ctx, n) })
	}
}

// listed is what lies in a directory, or why that is not known.
type listed struct {
	below []*node
	kept  selection
	err   error
}

// listOne returns the first rollouts that lie in a directory, and the directories. It
// may run several times at once.
func (s *search) listOne(ctx context.Context, n *node) listed {
	d := n.dir
	l := listed{kept: selection{order: &s.queue, limit: min(max(2*d.keep, minKeep), maxKeep)}}
	add := func(found *node) {
		if found != nil && (d.from == nil || l.kept.compare(found, d.from) > 0) && s.wanted(found) {
			l.kept.add(found)
		}
	}
	if d.deep {
		var mu sync.Mutex
		l.err = walk(ctx, roots(d.place), store.ListOptions{Unordered: true}, func(*node) bool { return true }, func(_ *node, e store.Entry) {
			found := s.found(d.place, e, n.span)
			mu.Lock()
			defer mu.Unlock()
			add(found)
		})
		return l
	}
	l.err = listOne(ctx, d.place, d.path, store.ListOptions{Unordered: true, NamesOnly: (d.place.Known == nil || s.Light) && !s.Versions}, func(e store.Entry) {
		switch {
		case !e.Dir:
			add(s.found(d.place, e, n.span))
		case d.from == nil:
			l.below = append(l.below, n.below(e))
		}
	})
	return l
}

// queueListed queues what was listed of a directory and, if there is more, the directory
// again, for the time at which that could be next.
func (s *search) queueListed(n *node, l listed) {
	for _, dir := range l.below {
		s.add(dir)
	}
	if l.kept.full {
		rest := *n.dir
		rest.from, rest.keep, rest.ahead = l.kept.nodes[0], l.kept.limit, nil
		at := n.span
		if s.Oldest {
			at.lo = rest.from.lo
		} else {
			at.hi = rest.from.hi
		}
		heap.Push(&s.queue, &node{span: at, dir: &rest})
	}
	s.queue.add(l.kept.nodes)
}

// found returns a listed file as a node, nil if it is no rollout or not one that is
// wanted.
func (s *search) found(p *Place, e store.Entry, above span) *node {
	name, err := codec.ParseName(path.Base(e.Name))
	if err != nil || !s.filter.wantsName(name) {
		return nil
	}
	f := newFile(p, e, name)
	f.skip() // now that it is at hand
	if s.byUpdate() {
		return f.nodeAt(f.updateSpan())
	}
	return f.node(above)
}

func newFile(p *Place, e store.Entry, name codec.Name) *file {
	return &file{place: p, path: e.Name, name: name, info: e.Info, bounds: always}
}

// node returns the file in the order of Created. Its directory's bounds are above.
func (f *file) node(above span) *node {
	at := nameSpan(f.name)
	f.bounds, f.misplaced = above, !at.overlaps(above)
	return f.nodeAt(at.within(above))
}

func (f *file) nodeAt(at span) *node {
	n := &node{span: at, id: f.name.Rollout, one: [1]*file{f}}
	n.files = n.one[:]
	return n
}

// listOne calls do with what lies in a directory. One that vanished, as an empty one
// may at any time, is like an empty one.
func listOne(ctx context.Context, p *Place, dir string, o store.ListOptions, do func(store.Entry)) error {
	for e, err := range p.Source.List(ctx, dir, o) {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", p.Where, err)
		}
		do(e)
	}
	return nil
}

// roots are the directories of a place.
func roots(p *Place) (dirs []*node) {
	for _, dir := range []string{liveDir, archivedDir} {
		dirs = append(dirs, &node{span: always, dir: &directory{place: p, path: dir}})
	}
	return dirs
}

// below returns a directory that lies in n.
func (n *node) below(e store.Entry) *node {
	return &node{span: dirSpan(e.Name, n.span), dir: &directory{place: n.dir.place, path: e.Name}}
}

// walk calls do, several times at once, with the files in dirs and in what lies below
// them, as far as enter lets it in.
func walk(ctx context.Context, dirs []*node, o store.ListOptions, enter func(dir *node) bool, do func(dir *node, e store.Entry)) error {
	for len(dirs) > 0 {
		var (
			mu    sync.Mutex
			below []*node
		)
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(parallel)
		for _, dir := range dirs {
			if !enter(dir) {
				continue
			}
			g.Go(func() error {
				return listOne(ctx, dir.dir.place, dir.dir.path, o, func(e store.Entry) {
					if !e.Dir {
						do(dir, e)
						return
					}
					mu.Lock()
					defer mu.Unlock()
					below = append(below, dir.below(e))
				})
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		dirs = below
	}
	return nil
}

// A selection keeps the first nodes of an order, once there are more as a heap with the
// last of them on top.
type selection struct {
	order *queue
	nodes []*node
	limit int
	full  bool // there were more
}

// compare orders nodes of the same rollout, too, so that what was left out is known
// by the last one that was not.
func (l *selection) compare(a, b *node) int {
	return cmp.Or(l.order.compare(a, b), cmp.Compare(a.files[0].path, b.files[0].path))
}

func (l *selection) add(n *node) {
	if len(l.nodes) < l.limit {
		l.nodes = append(l.nodes, n)
		return
	}
	if !l.full { // few have so many that they have to be a heap
		l.full = true
		heap.Init(l)
	}
	if l.compare(n, l.nodes[0]) < 0 {
		l.nodes[0] = n
		heap.Fix(l, 0)
	}
}

func (l *selection) Len() int           { return len(l.nodes) }
func (l *selection) Less(i, j int) bool { return l.compare(l.nodes[i], l.nodes[j]) > 0 }
func (l *selection) Swap(i, j int)      { l.nodes[i], l.nodes[j] = l.nodes[j], l.nodes[i] }
func (l *selection) Push(any)           { panic("a selection grows without") }
func (l *selection) Pop() any           { panic("a selection only grows") }
