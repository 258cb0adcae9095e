package filestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/internal/vfs"
)

// Lock names the files whose locks guard a log; package local explains them.
type Lock struct {
	File string
	Gate string
}

// gateWait bounds how long a lock waits for the gate, which others hold only for
// a few system calls.
const gateWait = 5 * time.Second

// Lock implements store.Locker.
func (s *Store) Lock(ctx context.Context, name string) (func() error, error) {
	if err := begin(ctx, name); err != nil {
		return nil, store.Wrap("lock", name, err)
	}
	unlock, err := s.take(ctx, name)
	if err != nil {
		return nil, store.Wrap("lock", name, err)
	}
	return func() error { return store.Wrap("unlock", name, unlock()) }, nil
}

// locked calls do under the lock of a log.
func (s *Store) locked(ctx context.Context, name string, do func() error) error {
	unlock, err := s.take(ctx, name)
	if err != nil {
		return err
	}
	return errors.Join(do(), unlock())
}

// take takes the writer's lock of a log, or of its compressed form, which is the
// same. It does not wait for a writer, only for the gate.
func (s *Store) take(ctx context.Context, name string) (unlock func() error, err error) {
	if strings.HasSuffix(name, logSuffix+sealedSuffix) {
		name = strings.TrimSuffix(name, sealedSuffix)
	}
	l := s.lockOf(name)
	open, err := s.gate(ctx, l.Gate)
	if err != nil {
		return nil, err
	}
	held, err := s.fs.Lock(l.File)
	if errors.Is(err, vfs.ErrLocked) {
		err = store.ErrBusy
	}
	if err != nil {
		return nil, errors.Join(err, open())
	}
	unlock = func() error {
		if l.Gate == "" {
			return held.Close()
		}
		open, err := s.gate(context.WithoutCancel(ctx), l.Gate)
		if err != nil {
			return errors.Join(err, held.Close())
		}
		// Nobody can take the lock between the two: he would have to pass the gate.
		// The other way round would do too, but not on Windows.
		err = held.Close()
		if e := s.fs.Remove(l.File); !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
		return errors.Join(err, open())
	}
	if err := open(); err != nil {
		return nil, errors.Join(err, unlock())
	}
	return unlock, nil
}

// gate waits for the gate, if there is one, and returns what opens it again.
func (s *Store) gate(ctx context.Context, file string) (open func() error, err error) {
	if file == "" {
		return func() error { return nil }, nil
	}
	timeout := time.NewTimer(gateWait)
	defer timeout.Stop()
	for {
		g, err := s.fs.Lock(file)
		if err == nil {
			return g.Close, nil
		}
		if !errors.Is(err, vfs.ErrLocked) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-timeout.C:
			return nil, fmt.Errorf("%w: %s has been locked for %v", store.ErrBusy, file, gateWait)
		case <-time.After(time.Millisecond):
		}
	}
}
