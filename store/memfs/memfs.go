// Package memfs keeps logs in an afero file system, by default in memory: for
// tests that must not touch a disk.
//
// It implements [store.Source], [store.Sink], [store.Putter], [store.Remover], [store.Mover] and
// [store.Locker] as package store describes them, with the code of package local
// above its own file operations. It proves nothing about durability: Sync calls
// afero's, which in memory does nothing. Locks hold between users of one Store
// value only, and so does the correctness of concurrent appends: afero's MemMapFs
// loses them, so one mutex per Store serialises every operation. The afero.Fs
// must not be written to by others meanwhile.
package memfs

import (
	"github.com/spf13/afero"

	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/internal/filestore"
)

// Store holds logs in an afero.Fs. Its methods, those of the interfaces named in
// the package comment, may be called concurrently.
type Store struct {
	*filestore.Store
}

var _ interface {
	store.Source
	store.Sink
	store.Putter
	store.Remover
	store.Mover
	store.Locker
} = (*Store)(nil)

// New returns the store in afs; nil is a new, empty file system in memory.
func New(afs afero.Fs) *Store {
	if afs == nil {
		afs = afero.NewMemMapFs()
	}
	fsys := &serial{afs: afs, changes: map[string]int{}, locked: map[string]bool{}}
	lock := func(name string) filestore.Lock { return filestore.Lock{File: name} }
	return &Store{filestore.New(fsys, lock)}
}
