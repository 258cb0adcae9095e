package lazy

import (
	"context"
	"io"
	"iter"
	"sync/atomic"

	"github.com/rollout-sync/rollout/store"
)

// Counting counts what an object store would be asked for if it had what Source has:
// a List takes a request for every thousand entries, an Open one for the first 32 KiB,
// and a Range of a larger object another, for all that it reads.
type Counting struct {
	store.Source
	Opened atomic.Int64
	Lists  atomic.Int64
	Gets   atomic.Int64
	Bytes  atomic.Int64 // as stored
}

const (
	perList = 1000
	headLen = 32 << 10
)

func (c *Counting) Open(ctx context.Context, name string) (store.File, error) {
	c.Opened.Add(1)
	c.Gets.Add(1)
	f, err := c.Source.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	c.Bytes.Add(min(f.Info().Stored, headLen))
	return counted{f, c}, nil
}

// Reset has it count from the beginning.
func (c *Counting) Reset() {
	for _, n := range []*atomic.Int64{&c.Opened, &c.Lists, &c.Gets, &c.Bytes} {
		n.Store(0)
	}
}

// counted is a file that is read from its beginning, as a head, facts and a catalog are.
type counted struct {
	store.File
	c *Counting
}

func (f counted) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if stored := f.Info().Stored; stored > headLen {
		f.c.Gets.Add(1)
		f.c.Bytes.Add(stored)
	}
	return f.File.Range(ctx, off, n)
}

func (c *Counting) List(ctx context.Context, dir string, o store.ListOptions) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		n := 0
		for e, err := range c.Source.List(ctx, dir, o) {
			if n%perList == 0 {
				c.Lists.Add(1)
			}
			n++
			if !yield(e, err) {
				return
			}
		}
		if n == 0 {
			c.Lists.Add(1)
		}
	}
}
