package memfs

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"sync"
	"time"

	"github.com/spf13/afero"

	"github.com/rollout-sync/rollout/store/internal/vfs"
)

// serial is a vfs.FS over an afero.Fs. What MemMapFs leaves out or does
// differently from an operating system is made up for here: links, appending at
// the end as it is at the moment of the write, O_EXCL, and a name's parent having
// to exist.
type serial struct {
	mu      sync.Mutex
	afs     afero.Fs
	changes map[string]int // per name, how often it was changed: for Version
	locked  map[string]bool
}

func (s *serial) Open(name string) (vfs.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.file(name, os.O_RDONLY)
}

func (s *serial) OpenDir(name string) (vfs.Dir, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.file(name, os.O_RDONLY)
}

func (s *serial) Create(name string) (vfs.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.free(name); err != nil {
		return nil, err
	}
	return s.file(name, os.O_RDWR|os.O_CREATE)
}

func (s *serial) Append(name string) (vfs.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.file(name, os.O_RDWR)
}

func (s *serial) file(name string, flag int) (*file, error) {
	f, err := s.afs.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, err
	}
	if flag&os.O_CREATE != 0 {
		s.changes[name]++
	}
	return &file{File: f, fs: s, name: name, writes: flag&os.O_RDWR != 0}, nil
}

func (s *serial) Lstat(name string) (fs.FileInfo, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return freeze(s.afs.Stat(name))
}

func (s *serial) MkdirAll(dir string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.afs.MkdirAll(dir, 0o700)
}

// free returns an error unless name can be made: it is not there, its directory is.
func (s *serial) free(name string) error {
	if _, err := s.afs.Stat(name); err == nil {
		return fs.ErrExist
	}
	_, err := s.afs.Stat(path.Dir(name))
	return err
}

// Link moves the file: afero has no links, and all who call it drop old next.
func (s *serial) Link(old, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.free(name); err != nil {
		return err
	}
	return s.rename(old, name)
}

func (s *serial) Rename(old, name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.rename(old, name)
}

func (s *serial) rename(old, name string) error {
	s.changes[name]++
	delete(s.changes, old)
	return s.afs.Rename(old, name)
}

func (s *serial) Remove(name string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes[name]++
	return s.afs.Remove(name)
}

func (s *serial) Chtimes(name string, modTime time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changes[name]++
	return s.afs.Chtimes(name, modTime, modTime)
}

// SyncDir does nothing: afero knows no directory syncs.
func (s *serial) SyncDir(string) error { return nil }

// Lock makes no file: nobody outside this Store could see it anyway.
func (s *serial) Lock(name string) (io.Closer, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.locked[name] {
		return nil, vfs.ErrLocked
	}
	s.locked[name] = true
	return unlocker(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.locked, name)
	}), nil
}

type unlocker func()

func (u unlocker) Close() error {
	u()
	return nil
}

func (s *serial) Version(name string, fi fs.FileInfo) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("%x-%x-%x", fi.Size(), fi.ModTime().UnixNano(), s.changes[name])
}

// file serialises an afero.File with everything else in the Store. ReadAt does
// not move the handle's offset only because nothing here uses it: Write seeks
// first, and directories are read by ReadDir alone.
type file struct {
	afero.File
	fs     *serial
	name   string
	writes bool
}

func (f *file) ReadAt(p []byte, off int64) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return f.File.ReadAt(p, off)
}

func (f *file) Write(p []byte) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if _, err := f.Seek(0, io.SeekEnd); err != nil {
		return 0, err
	}
	f.fs.changes[f.name]++
	return f.File.Write(p)
}

func (f *file) Truncate(size int64) error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.fs.changes[f.name]++
	return f.File.Truncate(size)
}

func (f *file) ReadDir(n int) ([]fs.DirEntry, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	infos, err := f.Readdir(n)
	entries := make([]fs.DirEntry, len(infos))
	for i, fi := range infos {
		entries[i] = fs.FileInfoToDirEntry(fi)
	}
	return entries, err
}

func (f *file) Lstat(element string) (fs.FileInfo, error) {
	return f.fs.Lstat(path.Join(f.name, element))
}

func (f *file) Stat() (fs.FileInfo, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return freeze(f.File.Stat())
}

// Close keeps the file's time: MemMapFs takes the Close of a file that may be
// written for a change of it. The name is still the file's, whose writer holds
// the lock or has not published it yet.
func (f *file) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if !f.writes {
		return f.File.Close()
	}
	before, err := freeze(f.File.Stat())
	if err := errors.Join(err, f.File.Close()); err != nil {
		return err
	}
	return f.fs.afs.Chtimes(f.name, before.ModTime(), before.ModTime())
}

// still is a FileInfo as it was: MemMapFs's own changes with its file.
type still struct {
	fs.FileInfo
	size    int64
	modTime time.Time
}

func freeze(fi fs.FileInfo, err error) (fs.FileInfo, error) {
	if err != nil {
		return nil, err
	}
	return still{fi, fi.Size(), fi.ModTime()}, nil
}

func (s still) Size() int64        { return s.size }
func (s still) ModTime() time.Time { return s.modTime }
