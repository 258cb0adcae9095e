package mirror

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/rollout-sync/rollout/internal/spare"
	"github.com/rollout-sync/rollout/store"
)

// heldMax is how large a rollout may be that a push holds in memory, and so reads and
// hashes only once. Seven eighths of what homes have is in smaller ones.
const heldMax = 8 << 20

// A holder holds files in memory: of the larger ones two at a time, of the smaller ones,
// which need not wait for them, as many as there are jobs.
type holder struct {
	smaller, larger chan struct{} // places that are taken
	buffers         *spare.Buffers
}

func newHolder(jobs int) *holder {
	const larger = 2
	return &holder{
		smaller: make(chan struct{}, jobs),
		larger:  make(chan struct{}, larger),
		buffers: spare.NewBuffers(jobs, larger, heldMax+1),
	}
}

// hold returns f with what it has now in memory, once there is a place for it, or f
// itself if that is too much or cannot be read, as who reads f will find out. Closing it
// closes f.
func (h *holder) hold(ctx context.Context, f store.File) store.File {
	places := h.smaller
	switch size := f.Info().Size; {
	case size < 0 || size > heldMax:
		return f
	case size >= spare.Border:
		places = h.larger
	}
	select {
	case places <- struct{}{}:
	case <-ctx.Done():
		return f
	}
	held := &heldFile{File: f, release: func(p []byte) {
		h.buffers.Put(p)
		<-places
	}}
	if !held.read(ctx, h.buffers) {
		held.release(held.p)
		return f
	}
	return held
}

// A heldFile is a File whose bytes are in memory.
type heldFile struct {
	store.File
	p       []byte
	release func(p []byte)
}

// read reads the whole file. It reports false if the file has grown or fails.
func (f *heldFile) read(ctx context.Context, buffers *spare.Buffers) bool {
	r, err := f.File.Range(ctx, 0, -1)
	if err != nil {
		return false
	}
	need := int(f.Info().Size) + 1
	f.p = buffers.Get(need)
	n, err := io.ReadFull(r, f.p[:need])
	f.p = f.p[:n]
	ended := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
	return r.Close() == nil && ended
}

func (f *heldFile) Range(_ context.Context, off, n int64) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(f.bytes(off, n))), nil
}

func (f *heldFile) bytes(off, n int64) []byte {
	p := f.p
	if off < 0 {
		off = max(0, off+int64(len(p)))
	}
	p = p[min(off, int64(len(p))):]
	if n >= 0 {
		p = p[:min(n, int64(len(p)))]
	}
	return p
}

func (f *heldFile) Close() error {
	f.release(f.p)
	f.p = nil
	return f.File.Close()
}
