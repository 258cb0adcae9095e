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
	deep  bool  // it is all directories of the place
	from  *node // only rollouts behind this one are left
	keep  int   // how many were kept the last time
}

// How many rollouts of a directory are kept at a time: enough for many pages at
// first, and more whenever it has to be listed again, so that All, too, lists even
// the largest a few times only.
const (
	minKeep = 1 << 12
	maxKeep = 1 << 15
)

// list queues the first rollouts that lie in a directory and, if there are others,
// the directory again, for the time at which they could be next.
func (s *search) list(ctx context.Context, n *node) error {
	d := n.dir
	kept := selection{order: &s.queue, limit: min(max(2*d.keep, minKeep), maxKeep)}
	add := func(e store.Entry) {
		found := s.found(d.place, e, n.span)
		if found != nil && (d.from == nil || kept.compare(found, d.from) > 0) && s.wanted(found) {
			kept.add(found)
		}
	}
	var err error
	if d.deep {
		var mu sync.Mutex
		err = walk(ctx, roots(d.place), store.ListOptions{Unordered: true}, func(*node) bool { return true }, func(_ *node, e store.Entry) {
			mu.Lock()
			defer mu.Unlock()
			add(e)
		})
	} else {
		err = listOne(ctx, d.place, d.path, store.ListOptions{Unordered: true, NamesOnly: (d.place.Known == nil || s.Light) && !s.Versions}, func(e store.Entry) {
			switch {
			case !e.Dir:
				add(e)
			case d.from == nil:
				s.add(n.below(e))
			}
		})
	}
	if err != nil {
		return err
	}
	if kept.full {
		rest := *d
		rest.from, rest.keep = kept.nodes[0], kept.limit
		at := n.span
		if s.Oldest {
			at.lo = rest.from.lo
		} else {
			at.hi = rest.from.hi
		}
		heap.Push(&s.queue, &node{span: at, dir: &rest})
	}
	for _, k := range kept.nodes {
		heap.Push(&s.queue, k)
	}
	return nil
}

// found returns a listed file as a node, nil if it is no rollout or not one that is
// wanted.
func (s *search) found(p *Place, e store.Entry, above span) *node {
	name, err := codec.ParseName(path.Base(e.Name))
	if err != nil || !s.filter.wantsName(name) {
		return nil
	}
	f := newFile(p, e, name)
	if s.byUpdate() {
		return &node{span: f.updateSpan(), id: name.Rollout, files: []*file{f}}
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
	return &node{span: at.within(above), id: f.name.Rollout, files: []*file{f}}
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

// A selection keeps the first nodes of an order, as a heap with the last of them on
// top.
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
		heap.Push(l, n)
		return
	}
	l.full = true
	if l.compare(n, l.nodes[0]) < 0 {
		l.nodes[0] = n
		heap.Fix(l, 0)
	}
}

func (l *selection) Len() int           { return len(l.nodes) }
func (l *selection) Less(i, j int) bool { return l.compare(l.nodes[i], l.nodes[j]) > 0 }
func (l *selection) Swap(i, j int)      { l.nodes[i], l.nodes[j] = l.nodes[j], l.nodes[i] }
func (l *selection) Push(n any)         { l.nodes = append(l.nodes, n.(*node)) }
func (l *selection) Pop() any           { panic("a selection only grows") }
