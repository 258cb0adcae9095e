package filestore

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"strings"

	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/internal/vfs"
)

// Move implements store.Mover. It takes the writer's lock of name. The log keeps its
// form; a form that does not count is removed. Until the new name is durable, and
// whatever fails, the log has its old one.
func (s *Store) Move(ctx context.Context, name, version, to string) error {
	err := begin(ctx, name)
	if err == nil {
		err = store.CheckName(to)
	}
	if err == nil && strings.HasSuffix(name, logSuffix) != strings.HasSuffix(to, logSuffix) {
		err = errors.ErrUnsupported // it could not keep its form
	}
	if err == nil {
		err = s.locked(ctx, name, func() error { return s.move(ctx, name, version, to) })
	}
	return wrap("move", name, err)
}

func (s *Store) move(ctx context.Context, name, version, to string) error {
	at, err := s.find(ctx, name)
	if err != nil {
		return err
	}
	if s.fs.Version(at.file, at.fi) != version {
		return store.ErrChanged
	}
	if _, err := s.find(ctx, to); !errors.Is(err, fs.ErrNotExist) {
		if err == nil {
			err = fs.ErrExist
		}
		return err
	}
	if at.sealed {
		to += sealedSuffix
	}
	if err := s.fs.MkdirAll(path.Dir(to)); err != nil {
		return err
	}
	if err := s.fs.Link(at.file, to); err != nil {
		return err
	}
	if err := vfs.SyncAbove(s.fs, to); err != nil {
		return err
	}
	if err := s.removeOther(name, at); err != nil {
		return err
	}
	err = s.remove(at.file)
	if errors.Is(err, fs.ErrNotExist) { // in memory a Link takes the old name away
		err = s.fs.SyncDir(path.Dir(at.file))
	}
	return err
}
