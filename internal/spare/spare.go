// Package spare keeps what is costly to make for its next use. Unlike a sync.Pool it
// does not forget at a garbage collection, of which there are many where memory is
// limited: there, pools of buffers of MBs are garbage themselves.
package spare

import (
	"slices"
	"sync"
)

// A List keeps a few values that nobody uses at the moment. The one that was used last
// is used next: of it the most is still in the processor's caches. It may be used
// concurrently.
type List[T any] struct {
	n   int
	one func() T

	mu   sync.Mutex
	free []T
}

// NewList returns a List of at most n values, which calls one to make one when it has
// none.
func NewList[T any](n int, one func() T) *List[T] {
	return &List[T]{n: n, one: one}
}

// Get takes a value out of the list, or makes one.
func (l *List[T]) Get() T {
	l.mu.Lock()
	last := len(l.free) - 1
	if last < 0 {
		l.mu.Unlock()
		return l.one()
	}
	defer l.mu.Unlock()
	v := l.free[last]
	l.free = slices.Delete(l.free, last, last+1)
	return v
}

// Put gives a value back, which its user must not use any more.
func (l *List[T]) Put(v T) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.free) < l.n {
		l.free = append(l.free, v)
	}
}

// Border is the capacity of small buffers.
const Border = 1 << 20

// Buffers keeps byte slices, small and large ones apart, so that what is small does
// not hold what is large. It may be used concurrently.
type Buffers struct{ small, large *List[[]byte] }

// NewBuffers returns Buffers that keep at most so many, of a capacity of Border and of
// largest. They are made in that size at once: what is not touched of a new one takes
// no memory, and nothing is left behind by growing.
func NewBuffers(small, large, largest int) *Buffers {
	of := func(size int) func() []byte { return func() []byte { return make([]byte, 0, size) } }
	return &Buffers{NewList(small, of(Border)), NewList(large, of(largest))}
}

// Get returns an empty slice for n bytes, which may be more than it has room for.
func (b *Buffers) Get(n int) []byte { return b.of(n).Get()[:0] }

// Put gives p back, which its user must not use any more. What has not the capacity of a
// small one, such as nil, is dropped.
func (b *Buffers) Put(p []byte) {
	if cap(p) >= Border {
		b.of(cap(p)).Put(p)
	}
}

func (b *Buffers) of(n int) *List[[]byte] {
	if n > Border {
		return b.large
	}
	return b.small
}
