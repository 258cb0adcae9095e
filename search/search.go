// Package search finds words, phrases and regular expressions in the sessions of a home
// and a mirror: in what was said and done in them, entry by entry, as package replay
// tells of it.
//
// The answer is always that of reading everything. What makes it fast only rules sessions
// out, and never one in which something would be found: an [Index] those of which it knows
// this very version, and the bytes of a rollout, looked through before any of it is
// decoded, those that lack a word.
package search

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/semaphore"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/replay"
	"github.com/rollout-sync/rollout/store"
)

// A Search is where to look for something.
type Search struct {
	Query  Query
	Places []listing.Place
	// Filter picks the sessions to look into, and says in which order. Limit is not
	// looked at: stop when it is enough.
	Filter listing.Query
	// Source returns where the newest version of an item is. It may be called
	// concurrently.
	Source func(listing.Item) (src store.Source, name string, err error)
	// Index rules sessions out, those of a place, listing.Local or listing.Mirror, the
	// Index of that. A place may have none.
	Index map[string]Index
	// Hits is how many of a session's hits are kept; the others are counted.
	Hits int
	// Unindexed, unless nil, is called for each session that was looked into because the
	// Index of its place does not know it, in order, before what follows it is yielded.
	Unindexed func(listing.Item)
}

// An Index knows which words there are in the sessions of a place. Its methods, and what
// Select returns, may be called concurrently.
type Index interface {
	// Select returns what reports that a version of the file at path is ruled out: it is
	// known, and not all of the words are in one entry of it. An error means that nothing
	// is known, whatever Has says.
	Select(ctx context.Context, words []Word) (without func(path, version string) bool, err error)

	// Has reports whether a version of the file at path is known.
	Has(ctx context.Context, path, version string) bool
}

// A Session is one in which something was found, or that could not be read.
type Session struct {
	Item  listing.Item
	Hits  []Hit // the first ones, in the order of the session
	Total int   // how many there are, one for each entry in which all of the query is
	Err   error // why the session could not be read, or not to its end
}

// A Hit is an entry of a session in which all of a query is.
type Hit struct {
	// Kind is that of the entry, but KindCall for what a tool was called with, KindOutput
	// for what it returned, and KindFile for a changed file.
	Kind replay.Kind
	Turn int    // from 1 on; 0 is outside of any
	Line int    // of the rollout, from 1 on
	Time string // as in replay.Entry
	// Match is what was found of the first term of the query, at most 400 bytes of it.
	// Before and After stand beside it, 160 and 400 bytes at most. They are cleaned as by
	// replay.Clean and may have line ends in them.
	Before, Match, After string
}

const (
	// parallel is how many sessions are looked into at a time.
	parallel = 16
	// maxEarly is how many sessions are listed while indexes are asked.
	maxEarly = 4096
	// decoding is how many bytes of rollouts may be decoded at a time. One that is larger
	// is decoded alone: it may have lines of any length.
	decoding = 64 << 20
)

// Sessions yields the sessions that match, and those that cannot be read, in the order of
// the Filter. Sessions are looked into several at a time, but not many more than were
// asked for. An error is one of listing.All; it ends the sequence and comes with a zero
// Session.
//
// Memory is that of the hits of as many sessions as are looked into at a time, of 4,096
// light items while an index is asked, and twice the longest line.
func (s *Search) Sessions(ctx context.Context) iter.Seq2[Session, error] {
	return func(yield func(Session, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		var running sync.WaitGroup
		defer running.Wait()
		defer cancel()
		w := &worker{Search: s, ctx: ctx, index: map[string]asked{}, memory: semaphore.NewWeighted(decoding)}
		w.blocks.New = func() any { return new([blockLen]byte) }
		for where, index := range s.Index {
			if index == nil {
				continue
			}
			x := asked{index, sync.OnceValue(func() func(path, version string) bool { return w.ask(index) })}
			w.asked.Add(1)
			running.Go(func() { // while directories are listed
				x.without()
				w.asked.Add(-1)
			})
			w.index[where] = x
		}
		waiting := make([]chan looked, 0, parallel)
		next := func() bool {
			l := <-waiting[0]
			waiting = append(waiting[:0], waiting[1:]...)
			if s.Unindexed != nil && l.unindexed {
				s.Unindexed(l.Item)
			}
			return l.Total == 0 && l.Err == nil || yield(l.Session, nil)
		}
		take := func(items []listing.Item) bool {
			for _, it := range items {
				known, may := w.known(it)
				if known && !may {
					continue
				}
				if len(waiting) == parallel && !next() {
					return false
				}
				waiting = append(waiting, w.begin(&running, it, known))
			}
			return true
		}
		filter := s.Filter
		filter.Light, filter.Versions, filter.Preview = true, true, -1
		var early []listing.Item
		for it, err := range listing.All(ctx, w.places(), filter) {
			if err != nil {
				if !take(early) {
					return
				}
				for len(waiting) > 0 {
					if !next() {
						return
					}
				}
				yield(Session{}, err)
				return
			}
			if early = append(early, it); len(early) < maxEarly && !w.answered() {
				continue
			}
			if !take(early) {
				return
			}
			early = early[:0]
		}
		if !take(early) {
			return
		}
		for len(waiting) > 0 {
			if !next() {
				return
			}
		}
		if err := context.Cause(ctx); err != nil {
			yield(Session{}, err)
		}
	}
}

// begin looks into a session, and says in the end what it found.
func (w *worker) begin(running *sync.WaitGroup, it listing.Item, known bool) chan looked {
	result := make(chan looked, 1)
	running.Go(func() { result <- looked{w.look(it), !known} })
	return result
}

// looked is a session that was looked into.
type looked struct {
	Session
	unindexed bool
}

// A worker looks into the sessions of one search.
type worker struct {
	*Search
	ctx    context.Context
	index  map[string]asked // by place
	asked  atomic.Int32     // those that have not answered
	memory *semaphore.Weighted
	blocks sync.Pool
}

// asked is an index that was asked for the words.
type asked struct {
	Index
	without func() func(path, version string) bool // waits for the answer; nil: it failed
}

func (a asked) rulesOut(path, version string) bool {
	without := a.without()
	return without != nil && without(path, version)
}

// ask asks an index for the words, and returns nil if it fails.
func (w *worker) ask(x Index) func(path, version string) bool {
	if len(w.Query.words) == 0 {
		return func(string, string) bool { return false }
	}
	without, err := x.Select(w.ctx, w.Query.words)
	if err != nil {
		return nil
	}
	return without
}

// places are those of the search, which leave out what an index has ruled out by then.
func (w *worker) places() []listing.Place {
	places := slices.Clone(w.Places)
	for i := range places {
		p := &places[i]
		if x, ok := w.index[p.Where]; ok && p.Skip == nil {
			p.Skip = func(path, version string) bool { return w.answered() && x.rulesOut(path, version) }
		}
	}
	return places
}

// answered reports whether to know of an item is not to wait.
func (w *worker) answered() bool { return w.asked.Load() == 0 }

// known asks the index for an item.
func (w *worker) known(it listing.Item) (known, may bool) {
	x, ok := w.index[it.Newest()]
	if !ok {
		return true, true
	}
	_, name, err := w.Source(it)
	if err != nil {
		return false, true
	}
	switch {
	case x.rulesOut(name, it.Version):
		return true, false
	case len(w.Query.words) == 0:
		return true, true // as far as an index could
	}
	return x.without() != nil && x.Has(w.ctx, name, it.Version), true
}

// look looks into a session. One that has vanished is like one in which nothing is found.
func (w *worker) look(it listing.Item) Session {
	found := Session{Item: it}
	err := w.read(&found)
	if !errors.Is(err, fs.ErrNotExist) {
		found.Err = err
	}
	return found
}

func (w *worker) read(to *Session) error {
	src, name, err := w.Source(to.Item)
	if err != nil {
		return err
	}
	f, err := src.Open(w.ctx, name)
	if err != nil {
		return err
	}
	defer f.Close()
	if may, err := w.mayHave(f); !may || err != nil {
		return err
	}
	size := f.Info().Size
	if size < 0 || size > decoding {
		size = decoding
	}
	if err := w.memory.Acquire(w.ctx, size); err != nil {
		return err
	}
	defer w.memory.Release(size)
	for e, err := range replay.Entries(replay.LoadFile(w.ctx, f, name)) {
		if errors.Is(err, replay.ErrEmpty) || errors.Is(err, replay.ErrNoMeta) {
			break
		}
		if err != nil {
			return err
		}
		h, ok := w.Query.find(&e)
		if !ok {
			continue
		}
		if to.Total++; len(to.Hits) < w.Hits {
			to.Hits = append(to.Hits, h)
		}
	}
	if to.Total == 0 {
		return nil
	}
	return readHead(w.ctx, f, &to.Item)
}

// readHead has a light item tell what its head does.
func readHead(ctx context.Context, f store.File, it *listing.Item) error {
	r, err := f.Range(ctx, 0, -1)
	if err != nil {
		return err
	}
	h, err := codec.ReadHead(r)
	if err == nil {
		it.AddHead(&h)
	}
	return errors.Join(err, r.Close())
}

// mayHave looks through the bytes of a rollout.
func (w *worker) mayHave(f store.File) (bool, error) {
	r, err := f.Range(w.ctx, 0, -1)
	if err != nil {
		return false, err
	}
	block := w.blocks.Get().(*[blockLen]byte)
	defer w.blocks.Put(block)
	may, err := w.Query.raw.mayHave(w.ctx, r, block[:])
	return may, errors.Join(err, r.Close())
}
