package mirror_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"math/rand/v2"
	"sync"

	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store"
)

// fault is how the operations of a push on the mirror and on its state go wrong.
type fault string

const (
	noFault     fault = ""
	crashBefore fault = "crashes before"   // the operation and all after it fail
	crashAfter  fault = "crashes behind"   // so do they, but this one has its effect
	failOnce    fault = "fails at"         // only the operation fails
	failedPut   fault = "fails to put"     // only this Put fails
	lostAck     fault = "loses the ack of" // a Put has its effect and fails
	retriedAck  fault = "retries"          // and the retry was answered that it is there
)

// ofPuts reports whether only Puts count.
func (f fault) ofPuts() bool { return f == failedPut || f == lostAck || f == retriedAck }

var errFault = errors.New("injected fault")

// gate is what each operation of one push goes through. All that share a baton
// take turns.
type gate struct {
	fault fault
	at    int // which operation goes wrong, or which Put
	baton *baton
	me    int

	mu   sync.Mutex
	n    int
	hit  bool // something went wrong
	dead bool
}

type opKind int

const (
	opOther opKind = iota
	opPut
	opRead // of an open object; may be a part of a Put, so no turn ends here
)

func (g *gate) do(kind opKind, op func() error) error {
	if kind != opRead {
		g.baton.turn(g.me)
	}
	before, after := g.next(kind)
	if before != nil {
		return before
	}
	if err := op(); err != nil {
		return err
	}
	return after
}

// next returns the error of the next operation, and whether it fails before or
// after its effect.
func (g *gate) next(kind opKind) (before, after error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.dead {
		return errFault, nil
	}
	if g.fault == noFault || g.fault.ofPuts() && kind != opPut {
		return nil, nil
	}
	g.n++
	if g.n != g.at {
		return nil, nil
	}
	g.hit = true
	g.dead = g.fault == crashBefore || g.fault == crashAfter
	switch g.fault {
	case crashBefore, failOnce, failedPut:
		return errFault, nil
	case retriedAck:
		return nil, store.ErrChanged
	}
	return nil, errFault
}

// state is s behind the gate.
func (g *gate) state(s *mirror.State) *mirror.State {
	return mirror.Intercept(s, func(op func() error) error { return g.do(opOther, op) })
}

// gated is a mirror behind a gate.
type gated struct {
	mirror.Store
	gate *gate
}

func (s gated) Open(ctx context.Context, name string) (f store.File, err error) {
	err = s.gate.do(opOther, func() error {
		f, err = s.Store.Open(ctx, name)
		return err
	})
	if err != nil {
		return nil, err
	}
	return gatedFile{f, s.gate}, nil
}

func (s gated) Put(ctx context.Context, name string, b store.Body, c store.Cond) (version string, err error) {
	err = s.gate.do(opPut, func() error {
		version, err = s.Store.Put(ctx, name, b, c)
		return err
	})
	if err != nil {
		return "", err
	}
	return version, nil
}

func (s gated) List(ctx context.Context, dir string, o store.ListOptions) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		if err := s.gate.do(opOther, func() error { return nil }); err != nil {
			yield(store.Entry{}, err)
			return
		}
		s.Store.List(ctx, dir, o)(yield)
	}
}

type gatedFile struct {
	store.File
	gate *gate
}

func (f gatedFile) Range(ctx context.Context, off, n int64) (r io.ReadCloser, err error) {
	err = f.gate.do(opRead, func() error {
		r, err = f.File.Range(ctx, off, n)
		return err
	})
	return r, err
}

// baton lets two pushes run as one would in an order that a seed decides: only who
// holds it begins an operation, and then may have to pass it on. A nil baton lets
// everybody run.
type baton struct {
	mu     sync.Mutex
	passed sync.Cond
	r      *rand.Rand
	holder int
	left   [2]bool
}

func newBaton(r *rand.Rand) *baton {
	b := &baton{r: r, holder: r.IntN(2)}
	b.passed.L = &b.mu
	return b
}

func (b *baton) turn(me int) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for b.holder != me {
		b.passed.Wait()
	}
	if other := 1 - me; !b.left[other] && b.r.IntN(3) == 0 {
		b.holder = other
		b.passed.Broadcast()
		for b.holder != me {
			b.passed.Wait()
		}
	}
}

// leave gives the baton to the other one for good.
func (b *baton) leave(me int) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.left[me] = true
	b.holder = 1 - me
	b.passed.Broadcast()
}

// disturbed is a home of which something else has the turn before the at-th
// operation.
type disturbed struct {
	store.Source
	do func()

	mu sync.Mutex
	at int
}

func (d *disturbed) next() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.at--; d.at == 0 {
		d.do()
	}
}

func (d *disturbed) Open(ctx context.Context, name string) (store.File, error) {
	d.next()
	f, err := d.Source.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return disturbedFile{f, d}, nil
}

func (d *disturbed) List(ctx context.Context, dir string, o store.ListOptions) iter.Seq2[store.Entry, error] {
	d.next()
	return d.Source.List(ctx, dir, o)
}

type disturbedFile struct {
	store.File
	d *disturbed
}

func (f disturbedFile) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	f.d.next()
	return f.File.Range(ctx, off, n)
}
