package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"hash/maphash"
	"io"
	"time"
)

// BytesBody returns a Body with the bytes of p, which must not change while it
// is in use.
func BytesBody(p []byte, modTime time.Time) Body {
	sum := sha256.Sum256(p)
	return Body{
		Size:    int64(len(p)),
		SHA256:  sum,
		ModTime: modTime,
		Open:    func() (io.ReadCloser, error) { return &bytesReader{bytes.NewReader(p), p, sum}, nil },
	}
}

type bytesReader struct {
	*bytes.Reader
	p   []byte
	sum [32]byte
}

func (*bytesReader) Close() error { return nil }

// Whole returns the bytes of which a BytesBody has opened r, or the reader that r
// wraps (see As), and their SHA-256, so that a store need neither read nor hash what
// is in memory already. Of any other reader ok is false.
func Whole(r io.Reader) (p []byte, sum [32]byte, ok bool) {
	b, ok := As[*bytesReader](r)
	if !ok {
		return nil, sum, false
	}
	return b.p, b.sum, true
}

// FileBody returns a Body with the plain bytes of f, which must stay open while
// the body is in use. size and sum are what the caller read of f before.
func FileBody(ctx context.Context, f File, size int64, sum [32]byte) Body {
	return Body{
		Size:    size,
		SHA256:  sum,
		ModTime: f.Info().ModTime,
		Open:    func() (io.ReadCloser, error) { return f.Range(ctx, 0, size) },
	}
}

// A Reading takes what is read of a file, and makes a Body that reads it again. Beside
// SHA-256 it keeps a hash of 64 bits with a seed of its own, by which that knows whether
// it reads the same bytes, at a sixth of the cost. A Reading is for one goroutine.
type Reading struct {
	size int64
	sum  hash.Hash
	mark maphash.Hash
}

// NewReading returns a Reading of nothing so far.
func NewReading() *Reading { return &Reading{sum: sha256.New()} }

// Write takes the next bytes. It does not fail.
func (r *Reading) Write(p []byte) (int, error) {
	r.size += int64(len(p))
	r.sum.Write(p)
	r.mark.Write(p)
	return len(p), nil
}

// Size returns how many bytes were read so far.
func (r *Reading) Size() int64 { return r.size }

// SHA256 returns the hash of the bytes so far.
func (r *Reading) SHA256() (sum [32]byte) {
	r.sum.Sum(sum[:0])
	return sum
}

// Body returns a Body with the bytes so far, which it reads again from the beginning of
// f. That must stay open while the body is in use. Its readers end with ErrChanged
// instead of io.EOF when they have read other bytes; see Checked.
func (r *Reading) Body(ctx context.Context, f File) Body {
	b := FileBody(ctx, f, r.size, r.SHA256())
	want, seed := r.mark.Sum64(), r.mark.Seed()
	b.Open = func() (io.ReadCloser, error) {
		again, err := f.Range(ctx, 0, b.Size)
		if err != nil {
			return nil, err
		}
		c := &checkedReader{ReadCloser: again, left: b.Size, want: want}
		c.mark.SetSeed(seed)
		return c, nil
	}
	return b
}

type checkedReader struct {
	io.ReadCloser
	left int64 // bytes to come
	mark maphash.Hash
	want uint64
}

func (r *checkedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.mark.Write(p[:n])
	r.left -= int64(n)
	if errors.Is(err, io.EOF) && (r.left != 0 || r.mark.Sum64() != r.want) {
		err = fmt.Errorf("%w: the source has not the bytes that it had", ErrChanged)
	}
	return n, err
}

// Checked reports whether r, or the reader that it wraps (see As), is of a Reading's
// body, so that a store that has read io.EOF of it need not hash what it has read.
func Checked(r io.Reader) bool {
	_, ok := As[*checkedReader](r)
	return ok
}

// Reader returns a reader of the body that ends with ErrChanged instead of
// io.EOF, or as soon as it is certain, when the bytes are not those that Size and
// SHA256 promise, and with the context's error when the context ends. Stores put
// bodies through it.
func (b Body) Reader(ctx context.Context) (io.ReadCloser, error) {
	r, err := b.Open()
	if err != nil {
		return nil, err
	}
	return &bodyReader{ctx: ctx, r: r, body: b, hash: sha256.New()}, nil
}

type bodyReader struct {
	ctx  context.Context // of the one Put that reads it
	r    io.ReadCloser
	body Body
	hash hash.Hash
	n    int64
}

func (b *bodyReader) Read(p []byte) (int, error) {
	if err := b.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := b.r.Read(p)
	b.n += int64(n)
	b.hash.Write(p[:n])
	if b.n > b.body.Size {
		return 0, fmt.Errorf("%w: the source grew past %d bytes while it was read", ErrChanged, b.body.Size)
	}
	if errors.Is(err, io.EOF) {
		if b.n != b.body.Size {
			return n, fmt.Errorf("%w: the source ended at %d of %d bytes", ErrChanged, b.n, b.body.Size)
		}
		if [32]byte(b.hash.Sum(nil)) != b.body.SHA256 {
			return n, fmt.Errorf("%w: the source's hash is not the one it had", ErrChanged)
		}
	}
	return n, err
}

func (b *bodyReader) Close() error { return b.r.Close() }

// Check returns an error unless exactly one field of c is set.
func (c Cond) Check() error {
	if c.IfAbsent == (c.IfVersion != "") {
		return errors.New("a Cond needs exactly one of IfAbsent and IfVersion")
	}
	return nil
}
