// Package local keeps logs as plain append-only files in a directory, durably.
//
// It implements [store.Source], [store.Sink], [store.Putter], [store.Remover], [store.Mover] and
// [store.Locker]; package store says what they promise. In particular:
//
//   - Files have mode 0600 and directories 0700, whatever the umask. Nothing
//     outside the directory is reached, not through a symbolic link either, and
//     symbolic links are not followed.
//   - An Append is one write at the end of the file and visible at once. After
//     Sync the bytes, the file's name and the directories down to it, whoever
//     made them, are on the disk (fsync of each; the device and its cache have to
//     keep their word). Bytes that no Sync confirmed may be lost, cut off or,
//     where the system wrote them out of order, be zeros.
//   - Create, Append, Put, Remove and Move hold the log's OS lock, which the system
//     releases when the process dies. Other processes that use this package, or
//     the same lock files, are kept out; reading needs no lock. A lock file that
//     was left behind locks nobody out.
//   - A name in ".jsonl" may lie compressed beside it, as ".jsonl.zst" of any
//     origin. The plain file wins when both are there, unless it is a strict
//     prefix of the other. Append makes the plain file first.
//   - A Log whose first Append failed leaves no file. A crash may leave a hidden
//     temporary file (".*.tmp") beside the log that was being put; nothing reads,
//     lists or uses it again. In its home Codex removes it after six hours;
//     elsewhere it may be removed while nobody puts that log.
//
// Not promised: network file systems, where neither the locks nor the order of
// writes can be relied on.
package local

import (
	"crypto/sha256"
	"fmt"

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
	store.Mover
	store.Locker
} = (*Store)(nil)

// Options adjusts a Store. The zero value is usable.
type Options struct {
	// Lock says which files lock a log; a log and its compressed form are one. nil
	// keeps them in a directory ".locks" below the store's own.
	Lock func(name string) Lock
}

// Lock names the files whose OS locks (flock, LockFileEx) guard a log. Both are
// slash-separated paths relative to the store's directory. They are made when they
// are missing, with their directories, and opened through no symbolic link.
type Lock struct {
	// File is held exclusively by the log's writer.
	File string
	// Gate, if set, is held for the moment in which File is taken or given back,
	// so that File can be removed afterwards without a race. Without a Gate, File
	// stays.
	Gate string
}

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
	locks := func(name string) filestore.Lock { return filestore.Lock(lockOf(name)) }
	return &Store{filestore.New(fsys, locks), fsys}, nil
}

// Close releases the directory. Files that are open stay usable; logs have to be
// closed before, since they still have names to sync and locks to give back.
func (s *Store) Close() error { return s.fs.Close() }

// ownLock is the default: a directory of lock files named by hash, since a name
// may be longer than a file name can be.
func ownLock(name string) Lock {
	return Lock{File: fmt.Sprintf(".locks/%x.lock", sha256.Sum256([]byte(name))), Gate: ".locks/gate"}
}
