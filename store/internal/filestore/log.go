package filestore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/internal/vfs"
)

// Create implements store.Sink.
func (s *Store) Create(ctx context.Context, name string) (store.Log, error) {
	l, err := s.writer(ctx, name, func() (*log, error) {
		if _, err := s.find(ctx, name); !errors.Is(err, fs.ErrNotExist) {
			if err == nil {
				err = fs.ErrExist
			}
			return nil, err
		}
		if err := s.fs.MkdirAll(path.Dir(name)); err != nil {
			return nil, err
		}
		f, err := s.fs.Create(name)
		if err != nil {
			return nil, err
		}
		return &log{f: f, made: true}, nil
	})
	if err != nil {
		return nil, wrap("create", name, err)
	}
	return l, nil
}

// Append implements store.Sink. A log that is compressed is made plain first,
// which is the only form that can grow.
func (s *Store) Append(ctx context.Context, name string) (store.Log, error) {
	l, err := s.writer(ctx, name, func() (*log, error) {
		at, err := s.find(ctx, name)
		if err != nil {
			return nil, err
		}
		if at.sealed {
			if err := s.unseal(ctx, name, at); err != nil {
				return nil, err
			}
		}
		f, err := s.fs.Append(name)
		if err != nil {
			return nil, err
		}
		fi, err := f.Stat()
		if err != nil {
			return nil, errors.Join(err, f.Close())
		}
		return &log{f: f, size: fi.Size(), synced: fi.Size()}, nil
	})
	if err != nil {
		return nil, wrap("append", name, err)
	}
	return l, nil
}

// writer makes a log under its lock, which the log keeps.
func (s *Store) writer(ctx context.Context, name string, open func() (*log, error)) (*log, error) {
	if err := begin(ctx, name); err != nil {
		return nil, err
	}
	unlock, err := s.take(ctx, name)
	if err != nil {
		return nil, err
	}
	l, err := open()
	if err != nil {
		return nil, errors.Join(err, unlock())
	}
	l.fs, l.name, l.unlock = s.fs, name, unlock
	return l, nil
}

// unseal writes the plain form of a log beside its compressed one, with its
// time, and when that is durable removes the other. A plain file that is there was
// found cut short.
func (s *Store) unseal(ctx context.Context, name string, at form) error {
	f, err := s.open(ctx, name, at)
	if err != nil {
		return err
	}
	defer f.Close()
	decode := func(w io.Writer) error {
		r, err := f.Range(ctx, 0, -1)
		if err != nil {
			return err
		}
		_, err = io.Copy(w, r)
		return errors.Join(err, r.Close())
	}
	if err := vfs.WriteFile(s.fs, name, at.fi.ModTime(), decode, s.fs.Rename); err != nil {
		return err
	}
	return s.remove(at.file)
}

// log is the one writer of a plain file.
type log struct {
	fs     vfs.FS
	name   string
	f      vfs.File
	unlock func() error

	size, synced int64 // bytes in the file; of them, bytes a Sync confirmed or that were found
	made         bool  // by Create
	durable      bool  // the name, and the directories above it
	sealed       bool
	closed       bool
	err          error // the first failure
}

func (l *log) Size() int64 { return l.size }

func (l *log) usable() error {
	if l.closed || l.sealed {
		return fs.ErrClosed
	}
	return l.err
}

func (l *log) Append(p []byte) error {
	if err := l.usable(); err != nil {
		return store.Wrap("append", l.name, err)
	}
	before := l.size
	n, err := l.f.Write(p)
	l.size += int64(n)
	if err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return l.poison("append", err, before)
	}
	return nil
}

func (l *log) Sync() error {
	if err := l.usable(); err != nil {
		return store.Wrap("sync", l.name, err)
	}
	return l.sync()
}

func (l *log) sync() error {
	if err := l.f.Sync(); err != nil {
		return l.poison("sync", err, l.synced)
	}
	if !l.durable {
		if err := vfs.SyncAbove(l.fs, l.name); err != nil {
			return l.poison("sync", err, l.synced)
		}
		l.durable = true
	}
	l.synced = l.size
	return nil
}

// poison ends the life of the log after cause and cuts the file back to keep
// bytes, unless it holds bytes that did not come from here.
func (l *log) poison(op string, cause error, keep int64) error {
	fi, err := l.f.Stat()
	switch {
	case err != nil:
	case fi.Size() == l.size:
		err = l.f.Truncate(keep)
	default:
		err = fmt.Errorf("its size is %d instead of %d: somebody else writes to it", fi.Size(), l.size)
	}
	if err == nil {
		l.size = keep
	} else {
		cause = fmt.Errorf("%w (and the unconfirmed bytes after byte %d could not be cut off: %w)", cause, keep, err)
	}
	l.err = store.Wrap(op, l.name, cause)
	return l.err
}

func (l *log) Seal(ctx context.Context) error {
	err := l.usable()
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = l.sync()
	}
	if err == nil {
		l.sealed = true
	}
	return store.Wrap("seal", l.name, err)
}

func (l *log) Close() error {
	if l.closed {
		return store.Wrap("close", l.name, fs.ErrClosed)
	}
	l.closed = true
	err := l.f.Close()
	if l.err != nil && l.made && !l.durable && l.size == 0 {
		// Nothing that was written has remained, so the name is free again.
		err = errors.Join(err, l.fs.Remove(l.name))
	}
	return store.Wrap("close", l.name, errors.Join(err, l.unlock()))
}
