package blob

import (
	"bufio"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"hash"
	"io"
	"io/fs"
	"os"
	"runtime"
	"time"

	"gocloud.dev/gcerrors"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
)

// Create asks whether the name is free and returns a Log that gathers its stored
// form in a temporary file, of mode 0600 and without a name where the system
// allows that. Seal uploads it if the name is still free, else it returns
// fs.ErrExist; a Seal that failed for another reason may be called again. Nothing
// is visible, or durable, before; a Log that was not sealed leaves no trace.
func (s *Store) Create(ctx context.Context, name string) (store.Log, error) {
	err := s.check(ctx, name)
	if err == nil {
		var l *log
		if l, err = s.create(ctx, name); err == nil {
			return l, nil
		}
	}
	return nil, store.Wrap("create", name, err)
}

func (s *Store) create(ctx context.Context, name string) (*log, error) {
	_, err := s.bucket.Attributes(ctx, keyOf(name))
	if err == nil {
		return nil, fs.ErrExist
	}
	if code, _ := s.code(err); code != gcerrors.NotFound {
		return nil, s.errorOf(ctx, err, store.ErrChanged)
	}
	file, err := os.CreateTemp(s.spoolDir, "rollout-*.spool")
	if err != nil {
		return nil, err
	}
	l := &log{s: s, name: name, id: rand.Text(), file: file}
	if runtime.GOOS != "windows" && os.Remove(file.Name()) == nil {
		l.unlinked = true
	}
	l.out = bufio.NewWriterSize(file, 64<<10)
	l.sealer = newSealer(name, l.out, time.Now())
	return l, nil
}

// A log is being written to a temporary file.
type log struct {
	s        *Store
	name     string
	id       string // the same for every Seal, so that it knows an earlier one's object
	file     *os.File
	unlinked bool
	out      *bufio.Writer
	sealer   sealer // writes to out
	finished bool   // the file is complete
	size     int64
	err      error // the first failure of the file, or fs.ErrClosed after Seal
	closed   bool
}

func (l *log) Append(p []byte) error {
	if l.err == nil {
		if _, err := l.sealer.Write(p); err != nil {
			l.err = err
		} else {
			l.size += int64(len(p))
		}
	}
	return store.Wrap("append", l.name, l.err)
}

func (l *log) Size() int64 { return l.size }

// Sync returns errors.ErrUnsupported: there is no object yet.
func (l *log) Sync() error {
	err := l.err
	if err == nil {
		err = errors.ErrUnsupported
	}
	return store.Wrap("sync", l.name, err)
}

func (l *log) Seal(ctx context.Context) error {
	err := l.err
	if err == nil {
		err = l.s.check(ctx, l.name)
	}
	if err == nil {
		err = l.finish()
	}
	if err == nil {
		err = l.publish(ctx)
	}
	return store.Wrap("seal", l.name, err)
}

// finish completes the file.
func (l *log) finish() error {
	if !l.finished {
		if l.err = l.sealer.Close(); l.err == nil {
			l.err = l.out.Flush()
		}
		l.finished = l.err == nil
	}
	return l.err
}

func (l *log) publish(ctx context.Context) error {
	stored, err := l.file.Seek(0, io.SeekEnd)
	if err != nil {
		return err
	}
	_, err = l.s.upload(ctx, upload{
		name: l.name,
		cond: store.Cond{IfAbsent: true},
		id:   l.id,
		size: stored,
		meta: metadata(l.sealer.Trailer()),
		fill: func(w io.Writer) error {
			_, err := io.Copy(w, &contextReader{ctx, io.NewSectionReader(l.file, 0, stored)})
			return err
		},
	})
	switch {
	case err == nil:
		l.err = fs.ErrClosed
	case errors.Is(err, store.ErrChanged):
		err = fs.ErrExist
	}
	return err
}

func (l *log) Close() error {
	if l.closed {
		return store.Wrap("close", l.name, fs.ErrClosed)
	}
	l.closed, l.err = true, fs.ErrClosed
	err := l.file.Close()
	if !l.unlinked {
		err = errors.Join(err, os.Remove(l.file.Name()))
	}
	return store.Wrap("close", l.name, err)
}

// A contextReader ends with its context.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (r *contextReader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.r.Read(p)
}

// A sealer turns plain bytes into the stored form.
type sealer interface {
	io.WriteCloser
	Trailer() codec.Trailer // after Close
}

// newSealer returns the sealer of a log of that name.
func newSealer(name string, w io.Writer, modTime time.Time) sealer {
	if isSealed(name) {
		return codec.NewSealer(w, modTime)
	}
	return &rawSealer{w: w, hash: sha256.New(), modTime: modTime}
}

// A rawSealer leaves the bytes as they are.
type rawSealer struct {
	w       io.Writer
	hash    hash.Hash
	size    int64
	modTime time.Time
}

func (s *rawSealer) Write(p []byte) (int, error) {
	n, err := s.w.Write(p)
	s.hash.Write(p[:n])
	s.size += int64(n)
	return n, err
}

func (s *rawSealer) Close() error { return nil }

func (s *rawSealer) Trailer() codec.Trailer {
	return codec.Trailer{Size: s.size, SHA256: [32]byte(s.hash.Sum(nil)), ModTime: s.modTime}
}
