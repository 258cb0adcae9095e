package mirror

import (
	"bytes"
	"context"
	"errors"
	"io"

	"github.com/rollout-sync/rollout/store"
)

// heldMax is how large a rollout may be that a push holds in memory, and so reads and
// hashes only once. Seven eighths of what homes have is in smaller ones.
const heldMax = 8 << 20

// A holder holds files in memory: of the smaller ones as many as there are jobs, of the
// larger ones, which these need not wait for, two at a time, with those that are too large
// and are sent while they are read.
type holder struct {
	smaller, larger chan *place // those that are free
}

// A place is for one file at a time.
type place struct {
	buf  []byte // nil: not made yet
	free chan *place
}

func newHolder(jobs int) *holder {
	const larger = 2
	return &holder{smaller: places(jobs), larger: places(larger)}
}

func places(n int) chan *place {
	free := make(chan *place, n)
	for range n {
		free <- &place{free: free}
	}
	return free
}

// heldSmall is how large the smaller files may be.
const heldSmall = 1<<20 - 1

// hold returns f with what it has now in memory, once there is a place for it, or just
// with a place if that is too much or cannot be read, as who reads f will find out.
// Closing it closes f and leaves the place. If the context ends, it is f itself.
func (h *holder) hold(ctx context.Context, f store.File) store.File {
	i := f.Info()
	free, room := h.smaller, heldSmall
	if max(i.Size, i.Stored) > heldSmall { // of what is compressed the size may not be known
		free, room = h.larger, heldMax
	}
	var p *place
	select {
	case p = <-free:
	case <-ctx.Done():
		return f
	}
	placed := &placedFile{f, p}
	if i.Size < 0 || i.Size > heldMax {
		p.buf = nil // what is sent while it is read needs the memory
		return placed
	}
	if p.buf == nil {
		p.buf = make([]byte, room+1) // at once: what is not touched takes no memory
	}
	held := &heldFile{placedFile: placed}
	if !held.read(ctx) {
		return placed
	}
	return held
}

// A placedFile is a File that has a place.
type placedFile struct {
	store.File
	place *place
}

func (f *placedFile) Close() error {
	if f.place != nil {
		f.place.free <- f.place
		f.place = nil
	}
	return f.File.Close()
}

// A heldFile is a File whose bytes are in memory.
type heldFile struct {
	*placedFile
	p []byte // in the buffer of its place
}

// read reads the whole file. It reports false if the file has grown or fails.
func (f *heldFile) read(ctx context.Context) bool {
	r, err := f.File.Range(ctx, 0, -1)
	if err != nil {
		return false
	}
	n, err := io.ReadFull(r, f.place.buf[:f.Info().Size+1])
	f.p = f.place.buf[:n]
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
	f.p = nil
	return f.placedFile.Close()
}
