// Package local keeps logs as plain append-only files in a directory, durably.
//
// It implements [store.Source], [store.Sink], [store.Putter], [store.Remover] and
// [store.Locker]; package store says what they promise. In particular:
//
//   - Files have mode 0600 and directories 0700, whatever the umask. Nothing
//     outside the directory is reached, not through a symbolic link either, and
//     symbolic links are not followed.
//   - An Append is one write at the end of the file and visible at once. After
//     Sync the bytes, the file's name and the directories above it are on the
//     disk (fsync of each; the device and its cache have to keep their word).
//   - Create, Append, Put and Remove hold the log's OS lock, which the system
//     releases when the process dies. Other processes that use this package, or
//     the same lock files, are kept out; reading needs no lock.
//   - A name in ".jsonl" may lie compressed beside it, as ".jsonl.zst" of any
//     origin. The plain file wins when both are there, unless it is a strict
//     prefix of the other.
//
// Not promised: network file systems, where neither the locks nor the order of
// writes can be relied on.
package local

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"runtime"
	"time"

	"github.com/gofrs/flock"

	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/internal/filestore"
	"github.com/rollout-sync/rollout/store/internal/vfs"
)

// Store is a directory of logs. Its methods, those of the interfaces named in the
// package comment, may be called concurrently.
type Store struct {
	*filestore.Store
	fs *vfs.OS
}

var _ interface {
	store.Source
	store.Sink
	store.Putter
	store.Remover
	store.Locker
} = (*Store)(nil)

// Options adjusts a Store. The zero value is usable.
type Options struct {
	// Lock says which files lock a log. nil keeps them in a directory ".locks"
	// below the store's own.
	Lock func(name string) Lock
}

// Lock names the files whose OS locks (flock, LockFileEx) guard a log. Both are
// slash-separated paths relative to the store's directory.
type Lock struct {
	// File is held exclusively by the log's writer.
	File string
	// Gate, if set, is held for the moment in which File is taken or given back,
	// so that File can be removed afterwards without a race. Without a Gate, File
	// stays.
	Gate string
}

// gateWait bounds how long a lock waits for the gate, which others hold only for
// a few system calls.
const gateWait = 5 * time.Second

// Open returns the store in dir, which must exist.
func Open(dir string, o *Options) (*Store, error) {
	fsys, err := vfs.OpenOS(dir)
	if err != nil {
		return nil, store.Wrap("open", dir, err)
	}
	lockOf := ownLock
	if o != nil && o.Lock != nil {
		lockOf = o.Lock
	}
	s := &Store{fs: fsys}
	s.Store = &filestore.Store{
		FS:         fsys,
		ChangeTime: vfs.ChangeTime,
		TakeLock: func(ctx context.Context, name string) (func() error, error) {
			return s.take(ctx, lockOf(name))
		},
	}
	return s, nil
}

// Close releases the directory. Files and logs that are open stay usable.
func (s *Store) Close() error { return s.fs.Close() }

// ownLock is the default: a directory of lock files named by hash, since a name
// may be longer than a file name can be.
func ownLock(name string) Lock {
	return Lock{File: fmt.Sprintf(".locks/%x.lock", sha256.Sum256([]byte(name))), Gate: ".locks/gate"}
}

func (s *Store) take(ctx context.Context, l Lock) (unlock func() error, err error) {
	if err := s.fs.MkdirAll(path.Dir(l.File)); err != nil {
		return nil, err
	}
	open, err := s.gate(ctx, l)
	if err != nil {
		return nil, err
	}
	file := s.flock(l.File)
	held, err := file.TryLock()
	if err == nil && !held {
		err = store.ErrBusy
	}
	if err := errors.Join(err, open()); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return func() error {
		open, err := s.gate(context.WithoutCancel(ctx), l)
		if err != nil {
			return errors.Join(err, file.Close())
		}
		if l.Gate == "" {
			return errors.Join(file.Close(), open())
		}
		// Windows removes only what is closed, and nobody can take the lock
		// between the two while we hold the gate.
		if runtime.GOOS == "windows" {
			err = file.Close()
		}
		if e := s.fs.Remove(l.File); e != nil && !errors.Is(e, fs.ErrNotExist) {
			err = errors.Join(err, e)
		}
		return errors.Join(err, file.Close(), open())
	}, nil
}

// gate takes the gate of l, if it has one, and returns what opens it again.
func (s *Store) gate(ctx context.Context, l Lock) (open func() error, err error) {
	if l.Gate == "" {
		return func() error { return nil }, nil
	}
	if err := s.fs.MkdirAll(path.Dir(l.Gate)); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, gateWait)
	defer cancel()
	g := s.flock(l.Gate)
	if _, err := g.TryLockContext(ctx, time.Millisecond); err != nil {
		if errors.Is(err, context.DeadlineExceeded) {
			err = fmt.Errorf("%w: %s has been locked for %v", store.ErrBusy, l.Gate, gateWait)
		}
		return nil, errors.Join(err, g.Close())
	}
	return g.Close, nil
}

func (s *Store) flock(file string) *flock.Flock {
	return flock.New(s.fs.Path(file), flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(0o600))
}
