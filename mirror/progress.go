package mirror

import (
	"io"
	"sync/atomic"

	"github.com/rollout-sync/rollout/store"
)

// Progress is how far a Push is. Its fields may be read at any time, from any
// goroutine, and are those of one Push.
//
// Bytes are plain. Of a rollout that is compressed in the home only the stored bytes
// are known until it has been read, so Bytes changes as rollouts get done.
type Progress struct {
	Rollouts atomic.Int64 // that there are to do; 0 while the home is looked through
	Done     atomic.Int64 // of these, whatever became of them
	Bytes    atomic.Int64 // of the rollouts to do
	// Sent is what of Bytes was given to the mirror, or need not be: in the end it is
	// Bytes. It is ahead of the network by what a store buffers.
	Sent atomic.Int64
}

// plan adds what is to be done.
func (p *Progress) plan(groups ...[]candidate) {
	if p == nil {
		return
	}
	n, bytes := 0, int64(0)
	for _, group := range groups {
		n += len(group)
		for i := range group {
			bytes += group[i].planned()
		}
	}
	p.Bytes.Add(bytes)
	p.Rollouts.Add(int64(n))
}

// planned is the size with which a Progress counts c until c is done.
func (c *candidate) planned() int64 {
	if c.size < 0 {
		return max(c.stored, 0)
	}
	return c.size
}

// A watch tells a Progress of one rollout.
type watch struct {
	progress *Progress // may be nil
	sent     int64     // that progress was told of
}

// done tells that c, which has size bytes, is dealt with.
func (w *watch) done(c *candidate, size int64) {
	if w.progress == nil {
		return
	}
	size = max(size, w.sent)
	w.progress.Bytes.Add(size - c.planned())
	w.progress.Sent.Add(size - w.sent)
	w.progress.Done.Add(1)
}

// body returns b, of which is told what is read. What is read again, as for a second
// place in the mirror, counts once, and what a store takes whole when it is done.
func (w *watch) body(b store.Body) store.Body {
	if w == nil || w.progress == nil {
		return b
	}
	open := b.Open
	b.Open = func() (io.ReadCloser, error) {
		r, err := open()
		if err != nil {
			return nil, err
		}
		return &watchedReader{ReadCloser: r, watch: w}, nil
	}
	return b
}

type watchedReader struct {
	io.ReadCloser
	watch *watch
	n     int64
}

// Unwrap is for store.Whole.
func (r *watchedReader) Unwrap() any { return r.ReadCloser }

func (r *watchedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.n += int64(n)
	if more := r.n - r.watch.sent; more > 0 {
		r.watch.sent = r.n
		r.watch.progress.Sent.Add(more)
	}
	return n, err
}
