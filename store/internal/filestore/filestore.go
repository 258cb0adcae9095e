// Package filestore implements package store over a file system: what store/local
// and store/memfs have in common.
package filestore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/internal/vfs"
)

const (
	logSuffix    = ".jsonl"
	sealedSuffix = ".zst"
)

// Store is a store.Source, Sink, Putter, Remover and Locker over a file system.
type Store struct {
	fs     vfs.FS
	lockOf func(name string) Lock
}

// New returns the store in fsys. lockOf says which files lock a log, of which it
// gets the plain form's name.
func New(fsys vfs.FS, lockOf func(name string) Lock) *Store { return &Store{fsys, lockOf} }

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

func (s *Store) lstat(file string) (fs.FileInfo, error) { return regular(s.fs.Lstat(file)) }

// regular takes what Lstat returned: what is no regular file is not there for a store.
func regular(fi fs.FileInfo, err error) (fs.FileInfo, error) {
	if errors.Is(err, syscall.ENOTDIR) || err == nil && !fi.Mode().IsRegular() {
		return nil, fs.ErrNotExist
	}
	return fi, err
}

// isDir returns fs.ErrNotExist unless dir is a directory.
func (s *Store) isDir(dir string) error {
	fi, err := s.fs.Lstat(dir)
	if errors.Is(err, syscall.ENOTDIR) || err == nil && !fi.IsDir() {
		return fs.ErrNotExist
	}
	return err
}

// find returns the form that holds the log. When both are there, the plain one
// does, as for Codex, unless it is a strict prefix of the sealed one: then it was
// cut short, and Codex would hide the whole log behind it.
func (s *Store) find(ctx context.Context, name string) (form, error) {
	fi, err := s.lstat(name)
	plain := form{file: name, fi: fi}
	if !strings.HasSuffix(name, logSuffix) || err != nil && !errors.Is(err, fs.ErrNotExist) {
		return plain, err
	}
	zfi, zerr := s.lstat(name + sealedSuffix)
	sealed := form{file: name + sealedSuffix, sealed: true, fi: zfi}
	switch {
	case errors.Is(zerr, fs.ErrNotExist):
		return plain, err
	case zerr != nil:
		return form{}, zerr
	case err != nil:
		return sealed, nil
	}
	short, err := s.cutShort(ctx, name, plain, sealed)
	if short {
		return sealed, nil
	}
	return plain, err
}

// cutShort reports whether the sealed form begins with all that the plain one has
// and goes on. A sealed form that is damaged, or of a format that is not known, or
// gone by now, does not count against the plain one.
func (s *Store) cutShort(ctx context.Context, name string, plain, sealed form) (bool, error) {
	short, err := s.goesOn(ctx, name, plain, sealed)
	for _, void := range []error{store.ErrCorrupt, codec.ErrCorrupt, errors.ErrUnsupported, fs.ErrNotExist} {
		if errors.Is(err, void) {
			return false, nil
		}
	}
	return short, err
}

func (s *Store) goesOn(ctx context.Context, name string, plain, sealed form) (bool, error) {
	p, err := s.open(ctx, name, plain)
	if err != nil {
		return false, err
	}
	defer p.Close()
	z, err := s.open(ctx, name, sealed)
	if err != nil {
		return false, err
	}
	defer z.Close()
	pr, err := p.Range(ctx, 0, -1)
	if err != nil {
		return false, err
	}
	defer pr.Close()
	zr, err := z.Range(ctx, 0, p.info.Size+1)
	if err != nil {
		return false, err
	}
	defer zr.Close()
	a := make([]byte, min(64<<10, p.info.Size+1))
	b := make([]byte, len(a))
	for {
		n, err := io.ReadFull(pr, a)
		m, zerr := io.ReadFull(zr, b)
		switch {
		case err != nil && !isEnd(err):
			return false, err
		case zerr != nil && !isEnd(zerr):
			return false, zerr
		case m < n || !bytes.Equal(a[:n], b[:n]):
			return false, nil
		case m > n:
			return true, nil
		case err != nil:
			return false, nil // both end here
		}
	}
}

func isEnd(err error) bool { return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) }

// Open implements store.Source.
func (s *Store) Open(ctx context.Context, name string) (store.File, error) {
	if err := begin(ctx, name); err != nil {
		return nil, store.Wrap("open", name, err)
	}
	// Codex moves a log between its two forms by making the new file before it
	// removes the old one, so one that vanished under us is found in the other.
	for attempt := 0; ; attempt++ {
		f, err := s.openOnly(ctx, name)
		if err == nil && f == nil {
			at, findErr := s.find(ctx, name)
			if findErr != nil {
				return nil, wrap("open", name, findErr)
			}
			f, err = s.open(ctx, name, at)
		}
		if err == nil {
			return f, nil
		}
		if attempt == 3 || !errors.Is(err, fs.ErrNotExist) {
			return nil, wrap("open", name, err)
		}
	}
}

// openOnly opens a log that has a plain form and no other, in half the calls of the
// system that find and open take. It returns nil if there is another, or none.
func (s *Store) openOnly(ctx context.Context, name string) (*file, error) {
	if strings.HasSuffix(name, logSuffix) {
		if _, err := s.lstat(name + sealedSuffix); !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	f, err := s.open(ctx, name, form{file: name})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if errors.Is(err, syscall.ENOTDIR) || errors.Is(err, syscall.ENXIO) || errors.Is(err, fs.ErrPermission) {
		_, not := s.lstat(name) // what is no regular file is not there, whether it can be opened or not
		err = cmp.Or(not, err)
	}
	return f, err
}

func (s *Store) open(ctx context.Context, name string, at form) (*file, error) {
	f, err := s.fs.Open(at.file)
	if err != nil {
		return nil, err
	}
	fi, err := regular(f.Stat())
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
		ChangeTime: vfs.ChangeTime(fi),
		Version:    s.fs.Version(stored, fi),
	}
}

// file is an open log. All bytes come from one descriptor, so they are of one
// file whatever happens to its name.
type file struct {
	name   string
	f      vfs.File
	info   store.Info
	sealed *codec.Sealed // nil for a plain log
	closed atomic.Bool
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
	if f.closed.Load() {
		return nil, store.Wrap("read", f.name, fs.ErrClosed)
	}
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
	return &reader{f.section(ctx, off, n), f.name}, nil
}

// fetch reads stored bytes.
func (f *file) fetch(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	return f.section(ctx, off, n), nil
}

func (f *file) section(ctx context.Context, off, n int64) io.ReadCloser {
	return io.NopCloser(&section{ctx, f.f, off, n})
}

func (f *file) Close() error {
	if f.closed.Swap(true) {
		return store.Wrap("close", f.name, fs.ErrClosed)
	}
	return store.Wrap("close", f.name, f.f.Close())
}

// section reads n bytes from off, all of which were there when the file was opened.
type section struct {
	ctx    context.Context // of the one Range
	f      vfs.File
	off, n int64
}

func (s *section) Read(p []byte) (int, error) {
	if err := s.ctx.Err(); err != nil {
		return 0, err
	}
	if s.n == 0 {
		return 0, io.EOF
	}
	n, err := s.f.ReadAt(p[:min(int64(len(p)), s.n)], s.off)
	s.off += int64(n)
	s.n -= int64(n)
	if errors.Is(err, io.EOF) {
		err = nil // the next Read says it, if it still holds
		if n == 0 {
			err = fmt.Errorf("%w: the file was cut at byte %d", store.ErrChanged, s.off)
		}
	}
	return n, err
}

// reader names the log in errors.
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
		d, err := s.openDir(ctx, dir)
		if err != nil {
			yield(store.Entry{}, wrap("list", dir, err))
			return
		}
		defer d.Close()
		sealed := sealedForms{all: !o.Unordered}
		found := s.walk(ctx, d, dir, &sealed)
		if !o.Unordered {
			found = store.Ordered(o, found)
		}
		for e, err := range found {
			if err == nil {
				err = ctx.Err()
			}
			if err == nil && !e.Dir && !o.NamesOnly {
				e.Info, err = s.listed(ctx, d, e.Name, sealed.may(e.Name))
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

// openDir opens a directory to be listed; what is none is not there.
func (s *Store) openDir(ctx context.Context, dir string) (vfs.Dir, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := s.isDir(dir); err != nil {
		return nil, err
	}
	return s.fs.OpenDir(dir)
}

// sealedForms are the names of the logs that have a compressed form.
type sealedForms struct {
	all   bool // names are to have all of them, however many that are
	names map[string]bool
	// partial tells that names are not all: the directory is too large for those of an
	// unordered List to be kept.
	partial bool
}

// may reports whether the log of that name may have a compressed form.
func (s *sealedForms) may(name string) bool { return s.partial || s.names[name] }

// walk yields what lies in d, which is dir, in no order, a log once for each of its
// forms. Before it yields the first log it learns which have a compressed form, or before
// the end if all of them are to be known.
func (s *Store) walk(ctx context.Context, d vfs.Dir, dir string, sealed *sealedForms) iter.Seq2[store.Entry, error] {
	const batch = 1024 // bounds the memory for a directory of a million files
	below := dir + "/"
	if dir == "." {
		below = ""
	}
	return func(yield func(store.Entry, error) bool) {
		sealed.names = map[string]bool{}
		for {
			found, err := readBatch(d, batch)
			end := errors.Is(err, io.EOF)
			sealed.partial = sealed.partial || !end && !sealed.all
			for _, f := range found {
				if log, is := strings.CutSuffix(f.Name(), sealedSuffix); is && !f.IsDir() && strings.HasSuffix(log, logSuffix) && !sealed.partial {
					sealed.names[below+log] = true
				}
			}
			for _, f := range found {
				e := store.Entry{Name: below + f.Name(), Dir: f.IsDir()}
				if !e.Dir && strings.HasSuffix(e.Name, logSuffix+sealedSuffix) {
					e.Name = strings.TrimSuffix(e.Name, sealedSuffix)
				}
				if !e.Dir && !f.Type().IsRegular() || vfs.Hidden(e.Name) || store.CheckName(e.Name) != nil {
					continue
				}
				if !yield(e, nil) {
					return
				}
			}
			if end {
				return
			}
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(store.Entry{}, err)
				return
			}
		}
	}
}

// readBatch reads the next n entries of a directory. If there are fewer left it returns
// those, and io.EOF.
func readBatch(d vfs.Dir, n int) (found []fs.DirEntry, err error) {
	for len(found) < n && err == nil {
		var more []fs.DirEntry
		more, err = d.ReadDir(n - len(found))
		found = append(found, more...)
	}
	return found, err
}

// listed describes a log of d without opening it, unless both forms are there.
func (s *Store) listed(ctx context.Context, d vfs.Dir, name string, maybeSealed bool) (store.Info, error) {
	element := path.Base(name)
	fi, err := regular(d.Lstat(element))
	if err == nil && maybeSealed && strings.HasSuffix(name, logSuffix) {
		if _, err = d.Lstat(element + sealedSuffix); errors.Is(err, fs.ErrNotExist) {
			maybeSealed, err = false, nil
		}
	}
	switch {
	case err == nil && !maybeSealed:
		return s.info(name, fi), nil
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return store.Info{}, err
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
