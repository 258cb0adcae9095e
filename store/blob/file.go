package blob

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/http"
	"net/http/httptrace"
	"os"
	"strconv"
	"sync/atomic"
	"time"

	gcblob "gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
)

// headLen is how much of an object's beginning Open asks for: what a listing
// needs of a log, and all of most logs.
const headLen = 32 << 10

// Open asks for the object's first 32 KiB and keeps them. Info.Size and ModTime
// are those of the metadata; where there are none, or the 32 KiB are all, those
// of the container's end, which are believed more; of a foreign zstd file (of
// rclone, the zstd command or Codex) Size is what its first frame claims to be
// all, or -1. A File holds no connection.
func (s *Store) Open(ctx context.Context, name string) (store.File, error) {
	err := s.check(ctx, name)
	if err == nil {
		var f *file
		if f, err = s.open(ctx, name); err == nil {
			return f, nil
		}
	}
	return nil, store.Wrap("open", name, err)
}

func (s *Store) open(ctx context.Context, name string) (*file, error) {
	f := &file{s: s, name: name, key: keyOf(name)}
	err := errRaced
	for range 3 {
		if err = f.readHead(ctx); err != errRaced {
			break
		}
	}
	if err == nil {
		err = f.describe(ctx)
	}
	if err != nil {
		return nil, err
	}
	return f, nil
}

// errRaced is store.ErrChanged where trying again may help.
var errRaced = fmt.Errorf("%w: replaced between two requests", store.ErrChanged)

// A file is one version of an object.
type file struct {
	s      *Store
	name   string
	key    string
	head   []byte // the object's first bytes
	info   store.Info
	exact  bool          // the service tells the version with every reply
	sealed *codec.Sealed // nil if the log is stored as it is
	closed atomic.Bool
}

// readHead fills in the head and what the service says of the object.
func (f *file) readHead(ctx context.Context) error {
	b, err := f.s.ask(ctx, f.key, 0, headLen)
	if err != nil {
		if code, _ := f.s.code(err); code == gcerrors.InvalidArgument {
			// An object without bytes has no range that could be read.
			if a, e := f.s.bucket.Attributes(ctx, f.key); e == nil && a.Size == 0 {
				f.describedBy(0, a.ModTime, Object{f.s.service.version(a), a.Metadata})
				return nil
			}
		}
		return f.s.errorOf(ctx, err, store.ErrChanged)
	}
	defer b.Close()
	r := b.r
	if r.Size() < 0 {
		return fmt.Errorf("the service does not tell the object's size: %w", errors.ErrUnsupported)
	}
	f.head = make([]byte, min(headLen, r.Size()))
	b.left = int64(len(f.head))
	if _, err := io.ReadFull(b, f.head); err != nil {
		return err
	}
	o, ok := f.s.objectOf(r)
	if f.exact = ok; !ok {
		a, err := f.s.bucket.Attributes(ctx, f.key)
		if err != nil {
			return f.s.errorOf(ctx, err, store.ErrChanged)
		}
		if a.Size != r.Size() || !a.ModTime.Equal(r.ModTime()) {
			return errRaced
		}
		o = Object{f.s.service.version(a), a.Metadata}
	}
	f.describedBy(r.Size(), r.ModTime(), o)
	return nil
}

func (f *file) describedBy(size int64, changed time.Time, o Object) {
	f.info = store.Info{
		Stored:     size,
		ChangeTime: changed,
		Version:    o.Version,
		Meta:       o.Meta,
	}
}

// objectOf is what the reply behind r says of its object.
func (s *Store) objectOf(r *gcblob.Reader) (Object, bool) {
	if s.service.Reader == nil {
		return Object{}, false
	}
	return s.service.Reader(r)
}

// describe fills in what the metadata, or the container, say of the plain bytes.
func (f *file) describe(ctx context.Context) error {
	i := &f.info
	modTime, _ := time.Parse(time.RFC3339Nano, i.Meta[metaModTime])
	if !isSealed(f.name) {
		if isStoredForm(f.name) {
			i.Meta = maps.Clone(i.Meta)
			for _, key := range []string{store.MetaSHA256, metaSize, store.MetaLines} {
				delete(i.Meta, key)
			}
		}
		i.Size, i.Seekable, i.ModTime = i.Stored, true, cmp.Or(modTime, i.ChangeTime)
		return nil
	}
	f.sealed = codec.OpenSealed(f.fetch, i.Stored)
	f.sealed.SetHead(f.head)
	if size, err := strconv.ParseInt(i.Meta[metaSize], 10, 64); err == nil && size >= 0 &&
		!modTime.IsZero() && int64(len(f.head)) < i.Stored {
		i.Size, i.Seekable, i.ModTime = size, true, modTime
		return nil
	}
	t, err := f.sealed.Trailer(ctx)
	switch {
	case errors.Is(err, codec.ErrForeign):
		i.ModTime = cmp.Or(modTime, i.ChangeTime)
		i.Size, err = f.sealed.Size(ctx)
		return corrupt(err)
	case err != nil:
		return corrupt(err)
	}
	i.Size, i.Seekable, i.ModTime = t.Size, true, cmp.Or(t.ModTime, modTime, i.ChangeTime)
	if err := f.agree(t); err != nil {
		return err
	}
	meta := maps.Clone(i.Meta)
	if meta == nil {
		meta = map[string]string{}
	}
	maps.Copy(meta, metadata(t))
	i.Meta = meta
	return nil
}

// agree compares the trailer with the metadata that repeat it.
func (f *file) agree(t codec.Trailer) error {
	for key, want := range map[string]string{
		store.MetaSHA256: hex.EncodeToString(t.SHA256[:]),
		metaSize:         strconv.FormatInt(t.Size, 10),
		store.MetaLines:  strconv.FormatInt(t.Lines, 10),
	} {
		if got, ok := f.info.Meta[key]; ok && got != want {
			return fmt.Errorf("%w: the metadata say %s %.80q, the object %q", store.ErrCorrupt, key, got, want)
		}
	}
	return nil
}

// fetch reads n stored bytes from off: from the head, or in one request, whose
// reply must be of the version that was opened.
func (f *file) fetch(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if n == 0 {
		return http.NoBody, nil
	}
	if off+n <= int64(len(f.head)) {
		return io.NopCloser(bytes.NewReader(f.head[off : off+n])), nil
	}
	b, err := f.s.ask(ctx, f.key, off, n)
	if err != nil {
		switch code, _ := f.s.code(err); code {
		case gcerrors.NotFound:
			return nil, fmt.Errorf("%w: %w", store.ErrChanged, fs.ErrNotExist)
		case gcerrors.InvalidArgument: // it has become shorter
			return nil, store.ErrChanged
		}
		return nil, f.s.errorOf(ctx, err, store.ErrChanged)
	}
	r := b.r
	same := r.Size() == f.info.Stored
	if o, ok := f.s.objectOf(r); ok && f.exact {
		same = same && o.Version == f.info.Version
	} else {
		same = same && r.ModTime().Equal(f.info.ChangeTime)
	}
	if !same {
		return nil, errors.Join(store.ErrChanged, b.Close())
	}
	return b, nil
}

const (
	// maxResumes bounds how often in a row the service's client may resume a reply
	// without getting a byte. That of GCS does so for ever, and without a pause
	// (storage v1.67.0).
	maxResumes = 5
	// stallTime bounds the wait for the next byte of a reply.
	stallTime = 2 * time.Minute
)

var (
	errBroken  = fmt.Errorf("the connection broke %d times in a row", maxResumes)
	errStalled = fmt.Errorf("no byte came for %v: %w", stallTime, os.ErrDeadlineExceeded)
)

// ask requests n bytes from off. Its errors are the bucket's.
func (s *Store) ask(ctx context.Context, key string, off, n int64) (*body, error) {
	asking, stop := context.WithCancelCause(ctx)
	b := &body{ctx: ctx, asking: asking, stop: stop, s: s, left: n, resumes: new(atomic.Int32)}
	var opened atomic.Bool
	// The bucket's reader has a finalizer and holds the context. If that led back to the
	// reader, as it would by way of b, neither would ever be collected.
	resumes := b.resumes
	traced := httptrace.WithClientTrace(asking, &httptrace.ClientTrace{GetConn: func(string) {
		if opened.Load() && resumes.Add(1) > maxResumes {
			stop(errBroken)
		}
	}})
	var err error
	if b.r, err = s.bucket.NewRangeReader(traced, key, off, n, nil); err != nil {
		b.stop(nil)
		return nil, err
	}
	opened.Store(true)
	return b, nil
}

// A body reads the bytes that a reply promised: an early end is
// io.ErrUnexpectedEOF, and io.EOF comes by itself, not wrapped in an error of the
// network as net/http and gocloud pass it on. It ends in finite time.
type body struct {
	ctx     context.Context // of the one request
	asking  context.Context // ends with ctx, or for a cause of ours
	stop    context.CancelCauseFunc
	s       *Store
	r       *gcblob.Reader
	left    int64
	resumes *atomic.Int32 // since the last byte
}

func (b *body) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, io.EOF
	}
	stalled := time.AfterFunc(stallTime, func() { b.stop(errStalled) })
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	stalled.Stop()
	b.left -= int64(n)
	if n > 0 {
		b.resumes.Store(0)
	}
	switch {
	case err == nil || b.left == 0:
		return n, nil
	case b.ctx.Err() == nil && b.asking.Err() != nil:
		return n, context.Cause(b.asking)
	case errors.Is(err, io.EOF):
		err = io.ErrUnexpectedEOF
	}
	return n, b.s.errorOf(b.ctx, err, store.ErrChanged)
}

func (b *body) Close() error {
	defer b.stop(nil)
	return b.r.Close()
}

func (f *file) Info() store.Info { return f.info }

// Range reads what the frames that hold the range need, in one request; what lies
// in the first 32 KiB of the object needs none. Bytes come out only after their
// frame's checksum has matched.
func (f *file) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	r, err := f.open(ctx, off, n)
	if err != nil {
		return nil, store.Wrap("read", f.name, err)
	}
	return &reader{f: f, r: r, whole: off == 0 && n < 0}, nil
}

func (f *file) open(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if f.closed.Load() {
		return nil, fs.ErrClosed
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if f.sealed == nil {
		off, n = clamp(off, n, f.info.Size)
		return f.fetch(ctx, off, n)
	}
	r, err := f.sealed.Range(ctx, off, n)
	if err != nil || off == 0 {
		return r, corrupt(err)
	}
	// The container's end has been read for this range.
	if t, err := f.sealed.Trailer(ctx); err == nil {
		if err := f.agree(t); err != nil {
			return nil, errors.Join(err, r.Close())
		}
	}
	return r, nil
}

// clamp returns the range of a log of that size that Range's arguments mean.
func clamp(off, n, size int64) (int64, int64) {
	if off < 0 {
		off = max(0, size+off)
	}
	off = min(off, size)
	if n < 0 || n > size-off {
		n = size - off
	}
	return off, n
}

// Close makes Range fail; there is nothing to release.
func (f *file) Close() error {
	if f.closed.Swap(true) {
		return store.Wrap("close", f.name, fs.ErrClosed)
	}
	return nil
}

// A reader names the log in the errors of a range, and of a whole log compares
// the size that its metadata promised.
type reader struct {
	f     *file
	r     io.ReadCloser
	whole bool
	n     int64
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.n += int64(n)
	if err == nil {
		return n, nil
	}
	if err == io.EOF {
		if !r.whole || !r.f.info.Seekable || r.n == r.f.info.Size {
			return n, io.EOF
		}
		err = fmt.Errorf("%w: the metadata say %d bytes, the object has %d", store.ErrCorrupt, r.f.info.Size, r.n)
	}
	return n, store.Wrap("read", r.f.name, corrupt(err))
}

func (r *reader) Close() error { return r.r.Close() }
