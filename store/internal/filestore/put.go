package filestore

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"

	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/internal/vfs"
)

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
	if _, err := s.check(ctx, name, c); err != nil {
		return "", err
	}
	fill := func(w io.Writer) error {
		r, err := b.Reader(ctx)
		if err != nil {
			return err
		}
		_, err = io.Copy(w, r)
		return errors.Join(err, r.Close())
	}
	var old form
	publish := func(temp, name string) (err error) {
		// Again, for those who write without the lock while b is read.
		if old, err = s.check(ctx, name, c); err != nil {
			return err
		}
		if c.IfAbsent {
			err := s.fs.Link(temp, name)
			if errors.Is(err, fs.ErrExist) {
				err = store.ErrChanged
			}
			return err
		}
		if !old.sealed {
			if err := s.removeOther(name, old); err != nil {
				return err
			}
		}
		return s.fs.Rename(temp, name)
	}
	if err := vfs.WriteFile(s.fs, name, b.ModTime, fill, publish); err != nil {
		return "", err
	}
	if old.sealed {
		if err := s.remove(old.file); err != nil {
			return "", err
		}
	}
	fi, err := s.lstat(name)
	if err != nil {
		return "", err
	}
	if b.Stored != nil {
		b.Stored(fi.Size())
	}
	return s.fs.Version(name, fi), nil
}

// check returns store.ErrChanged unless c holds, and the form that is there.
func (s *Store) check(ctx context.Context, name string, c store.Cond) (form, error) {
	if err := ctx.Err(); err != nil {
		return form{}, err
	}
	at, err := s.find(ctx, name)
	absent := errors.Is(err, fs.ErrNotExist)
	if err != nil && !absent {
		return form{}, err
	}
	if absent != c.IfAbsent || !absent && s.fs.Version(at.file, at.fi) != c.IfVersion {
		return form{}, store.ErrChanged
	}
	return at, nil
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
			if s.fs.Version(at.file, at.fi) != version {
				return store.ErrChanged
			}
			if err := s.removeOther(name, at); err != nil {
				return err
			}
			return s.remove(at.file)
		})
	}
	return wrap("remove", name, err)
}

// removeOther durably removes the form of a log that does not count, if there is
// one: were the one that counts replaced or removed first, this might be the log.
func (s *Store) removeOther(name string, counts form) error {
	if !strings.HasSuffix(name, logSuffix) {
		return nil
	}
	other := name
	if !counts.sealed {
		other += sealedSuffix
	}
	err := s.remove(other)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// remove durably removes a file.
func (s *Store) remove(file string) error {
	if err := s.fs.Remove(file); err != nil {
		return err
	}
	return s.fs.SyncDir(path.Dir(file))
}
