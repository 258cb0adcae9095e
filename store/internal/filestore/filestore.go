// Package filestore implements package store over a file system: what store/local
// and store/memfs have in common.
package filestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/internal/vfs"
)

const (
	logSuffix    = ".jsonl"
	sealedSuffix = ".zst"
)

// Store is a store.Source, Sink, Putter, Remover and Locker over FS.
type Store struct {
	FS vfs.FS
	// TakeLock takes the writer's lock of a valid name or returns store.ErrBusy.
	TakeLock func(ctx context.Context, name string) (unlock func() error, err error)
	// ChangeTime returns the ctime of a file, zero when there is none.
	ChangeTime func(fs.FileInfo) time.Time
}

// begin is what every operation checks first.
func begin(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return store.CheckName(name)
}

// wrap is store.Wrap with the codec's damage as the store's.
func wrap(op, name string, err error) error {
	if errors.Is(err, codec.ErrCorrupt) && !errors.Is(err, store.ErrCorrupt) {
		err = fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	}
	return store.Wrap(op, name, err)
}

// form is how a log lies on the disk: the file and whether it is compressed.
type form struct {
	file   string
	sealed bool
	fi     fs.FileInfo
}

// lstat describes a regular file; anything else is not there for a store.
func (s *Store) lstat(file string) (fs.FileInfo, error) {
	fi, err := s.FS.Lstat(file)
	if errors.Is(err, syscall.ENOTDIR) || err == nil && !fi.Mode().IsRegular() {
		return nil, fs.ErrNotExist
	}
	return fi, err
}

// find returns the form that holds the log. When both are there, the plain one
// does, as for Codex, unless it is a strict prefix of the sealed one: then it was
// cut short, and Codex would hide the whole log behind it.
func (s *Store) find(ctx context.Context, name string) (form, error) {
	fi, err := s.lstat(name)
	if !strings.HasSuffix(name, logSuffix) || (err != nil && !errors.Is(err, fs.ErrNotExist)) {
		return form{file: name, fi: fi}, err
	}
	zfi, zerr := s.lstat(name + sealedSuffix)
	sealed := form{file: name + sealedSuffix, sealed: true, fi: zfi}
	switch {
	case zerr != nil && err == nil:
		return form{file: name, fi: fi}, nil
	case zerr != nil:
		return form{}, zerr
	case err != nil:
		return sealed, nil
	}
	if s.cutShort(ctx, name, fi.Size(), sealed) {
		return sealed, nil
	}
	return form{file: name, fi: fi}, nil
}

// cutShort reports whether the first size bytes of the plain file are all it has
// and the sealed file begins with them and goes on. Whatever cannot be read does
// not count against the plain file.
func (s *Store) cutShort(ctx context.Context, plain string, size int64, sealed form) bool {
	p, err := s.open(ctx, plain, form{file: plain})
	if err != nil {
		return false
	}
	defer p.Close()
	z, err := s.open(ctx, plain, sealed)
	if err != nil {
		return false
	}
	defer z.Close()
	pr, err := p.Range(ctx, 0, size)
	if err != nil {
		return false
	}
	defer pr.Close()
	zr, err := z.Range(ctx, 0, size+1)
	if err != nil {
		return false
	}
	defer zr.Close()
	a, b := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, err := io.ReadFull(pr, a)
		if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return false
		}
		m, _ := io.ReadFull(zr, b[:n])
		if !bytes.Equal(a[:n], b[:m]) {
			return false
		}
		if n < len(a) {
			m, _ := io.ReadFull(zr, b[:1])
			return m == 1
		}
	}
}

// Open implements store.Source.
func (s *Store) Open(ctx context.Context, name string) (store.File, error) {
	if err := begin(ctx, name); err != nil {
		return nil, store.Wrap("open", name, err)
	}
	// Codex moves a log between its two forms by making the new file before it
	// removes the old one, so one that vanished under us is found in the other.
	for attempt := 0; ; attempt++ {
		at, err := s.find(ctx, name)
		if err != nil {
			return nil, wrap("open", name, err)
		}
		f, err := s.open(ctx, name, at)
		if err == nil {
			return f, nil
		}
		if attempt == 3 || !errors.Is(err, fs.ErrNotExist) {
			return nil, wrap("open", name, err)
		}
	}
}

func (s *Store) open(ctx context.Context, name string, at form) (*file, error) {
	f, err := s.FS.Open(at.file)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	o := &file{name: name, f: f, info: s.info(at.file, fi)}
	if at.sealed {
		o.sealed = codec.OpenSealed(o.fetch, fi.Size())
		if err := o.describe(ctx); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return o, nil
}

func (s *Store) info(stored string, fi fs.FileInfo) store.Info {
	return store.Info{
		Size:       fi.Size(),
		Stored:     fi.Size(),
		Seekable:   true,
		ModTime:    fi.ModTime(),
		ChangeTime: s.ChangeTime(fi),
		Version:    s.FS.Version(stored, fi),
	}
}

// file is an open log. All bytes come from one descriptor, so they are of one
// file whatever happens to its name.
type file struct {
	name   string
	f      vfs.File
	info   store.Info
	sealed *codec.Sealed // nil for a plain log
}

// describe completes the info of a sealed log from its own trailer.
func (f *file) describe(ctx context.Context) error {
	var err error
	f.info.Size, err = f.sealed.Size(ctx)
	if err != nil {
		return err
	}
	switch t, err := f.sealed.Trailer(ctx); {
	case errors.Is(err, codec.ErrForeign):
		f.info.Seekable = false
	case err != nil:
		return err
	default:
		f.info.Meta = map[string]string{
			store.MetaSHA256: fmt.Sprintf("%x", t.SHA256),
			store.MetaLines:  strconv.FormatInt(t.Lines, 10),
		}
	}
	return nil
}

func (f *file) Info() store.Info { return f.info }

func (f *file) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if err := ctx.Err(); err != nil {
		return nil, store.Wrap("read", f.name, err)
	}
	if f.sealed != nil {
		r, err := f.sealed.Range(ctx, off, n)
		if err != nil {
			return nil, wrap("read", f.name, err)
		}
		return &reader{r, f.name}, nil
	}
	size := f.info.Size
	if off < 0 {
		off = max(0, size+off)
	}
	off = min(off, size)
	if n < 0 || n > size-off {
		n = size - off
	}
	return f.fetch(ctx, off, n)
}

// fetch reads stored bytes.
func (f *file) fetch(_ context.Context, off, n int64) (io.ReadCloser, error) {
	return io.NopCloser(io.NewSectionReader(f.f, off, n)), nil
}

func (f *file) Close() error { return store.Wrap("close", f.name, f.f.Close()) }

// reader names the log in the errors of a sealed one.
type reader struct {
	io.ReadCloser
	name string
}

func (r *reader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	if err != nil && err != io.EOF {
		err = wrap("read", r.name, err)
	}
	return n, err
}

// List implements store.Source.
func (s *Store) List(ctx context.Context, dir string, o store.ListOptions) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		if dir != "." {
			if err := store.CheckName(dir); err != nil {
				yield(store.Entry{}, store.Wrap("list", dir, err))
				return
			}
		}
		sealed := map[string]bool{} // logs that have a compressed form
		for e, err := range store.Ordered(o, s.walk(ctx, dir, sealed)) {
			if err == nil && !e.Dir {
				e.Info, err = s.listed(ctx, e.Name, sealed[e.Name])
				if errors.Is(err, fs.ErrNotExist) {
					continue // gone since the directory was read
				}
			}
			if err != nil {
				yield(store.Entry{}, wrap("list", dir, err))
				return
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// walk yields what lies in dir in no order, a log once for each of its forms.
func (s *Store) walk(ctx context.Context, dir string, sealed map[string]bool) iter.Seq2[store.Entry, error] {
	const batch = 1024 // bounds the memory for a directory of a million files
	return func(yield func(store.Entry, error) bool) {
		if err := ctx.Err(); err != nil {
			yield(store.Entry{}, err)
			return
		}
		d, err := s.FS.Open(dir)
		if err != nil {
			yield(store.Entry{}, err)
			return
		}
		defer d.Close()
		for {
			found, err := d.ReadDir(batch)
			for _, f := range found {
				e := store.Entry{Name: path.Join(dir, f.Name()), Dir: f.IsDir()}
				if !e.Dir && !f.Type().IsRegular() || vfs.Hidden(e.Name) || store.CheckName(e.Name) != nil {
					continue
				}
				if !e.Dir && strings.HasSuffix(e.Name, logSuffix+sealedSuffix) {
					e.Name = strings.TrimSuffix(e.Name, sealedSuffix)
					sealed[e.Name] = true
				}
				if !yield(e, nil) {
					return
				}
			}
			if err == nil {
				err = ctx.Err()
			}
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(store.Entry{}, err)
				return
			}
		}
	}
}

// listed describes a log without opening it, unless both forms are there.
func (s *Store) listed(ctx context.Context, name string, hasSealed bool) (store.Info, error) {
	if !hasSealed {
		fi, err := s.lstat(name)
		if err == nil {
			return s.info(name, fi), nil
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return store.Info{}, err
		}
	}
	at, err := s.find(ctx, name)
	if err != nil {
		return store.Info{}, err
	}
	i := s.info(at.file, at.fi)
	if at.sealed {
		i.Size, i.Seekable = -1, false
	}
	return i, nil
}

// Put implements store.Putter. It takes the writer's lock of the log.
func (s *Store) Put(ctx context.Context, name string, b store.Body, c store.Cond) (version string, err error) {
	err = begin(ctx, name)
	if err == nil {
		err = c.Check()
	}
	if err == nil {
		err = s.locked(ctx, name, func() error {
			version, err = s.put(ctx, name, b, c)
			return err
		})
	}
	return version, wrap("put", name, err)
}

func (s *Store) put(ctx context.Context, name string, b store.Body, c store.Cond) (version string, err error) {
	at, err := s.find(ctx, name)
	switch {
	case errors.Is(err, fs.ErrNotExist) && c.IfAbsent:
	case errors.Is(err, fs.ErrNotExist):
		return "", store.ErrChanged
	case err != nil:
		return "", err
	case c.IfAbsent, s.FS.Version(at.file, at.fi) != c.IfVersion:
		return "", store.ErrChanged
	}
	publish := func(temp, name string) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !c.IfAbsent {
			return s.FS.Rename(temp, name)
		}
		err := s.FS.Link(temp, name)
		if errors.Is(err, fs.ErrExist) {
			return store.ErrChanged
		}
		return err
	}
	if err := vfs.WriteFile(s.FS, name, b.ModTime, fill(ctx, b), publish); err != nil {
		return "", err
	}
	if at.sealed {
		if err := s.remove(at.file); err != nil {
			return "", err
		}
	}
	fi, err := s.lstat(name)
	if err != nil {
		return "", err
	}
	return s.FS.Version(name, fi), nil
}

func fill(ctx context.Context, b store.Body) func(io.Writer) error {
	return func(w io.Writer) error {
		r, err := b.Reader(ctx)
		if err != nil {
			return err
		}
		_, err = io.Copy(w, r)
		return errors.Join(err, r.Close())
	}
}

// Remove implements store.Remover. It takes the writer's lock of the log, and
// removes both forms where there are two.
func (s *Store) Remove(ctx context.Context, name, version string) error {
	err := begin(ctx, name)
	if err == nil {
		err = s.locked(ctx, name, func() error {
			at, err := s.find(ctx, name)
			if err != nil {
				return err
			}
			if s.FS.Version(at.file, at.fi) != version {
				return store.ErrChanged
			}
			for _, file := range []string{name, name + sealedSuffix} {
				if file != name && !strings.HasSuffix(name, logSuffix) {
					continue
				}
				if err := s.remove(file); err != nil && !errors.Is(err, fs.ErrNotExist) {
					return err
				}
			}
			return nil
		})
	}
	return wrap("remove", name, err)
}

// remove removes a file, durably.
func (s *Store) remove(file string) error {
	if err := s.FS.Remove(file); err != nil {
		return err
	}
	return s.FS.SyncDir(path.Dir(file))
}

// Lock implements store.Locker.
func (s *Store) Lock(ctx context.Context, name string) (func() error, error) {
	err := begin(ctx, name)
	if err != nil {
		return nil, store.Wrap("lock", name, err)
	}
	unlock, err := s.TakeLock(ctx, name)
	if err != nil {
		return nil, store.Wrap("lock", name, err)
	}
	return unlock, nil
}

func (s *Store) locked(ctx context.Context, name string, do func() error) error {
	unlock, err := s.TakeLock(ctx, name)
	if err != nil {
		return err
	}
	return errors.Join(do(), unlock())
}
