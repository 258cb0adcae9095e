// Package vfs is the seam between the stores that keep files and the file system
// below them: few operations, each of which may be recorded or made to fail by a
// test, and those that make data and names durable are operations of their own.
package vfs

import (
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"path"
	"strings"
	"time"
)

// FS is a directory and what is below it. Names are slash-separated and relative,
// "." is the directory itself. Errors are io/fs's by errors.Is. Its methods may be
// called concurrently.
type FS interface {
	// Open opens a file for reading. What lies behind a symbolic link is
	// fs.ErrNotExist. What is no regular file may be opened or not, but at once.
	Open(name string) (File, error)
	// OpenDir opens a directory. What lies behind a symbolic link is fs.ErrNotExist.
	OpenDir(name string) (Dir, error)
	// Create creates a file for appending; one that exists is fs.ErrExist.
	Create(name string) (File, error)
	// Append opens an existing file for appending.
	Append(name string) (File, error)
	// Lstat describes a file, or a symbolic link. What lies behind one is
	// fs.ErrNotExist.
	Lstat(name string) (fs.FileInfo, error)
	// MkdirAll makes dir and its parents unless they exist. It does not follow a
	// symbolic link in any of them, and SyncAbove makes them durable.
	MkdirAll(dir string) error
	// Link gives a file a second name; an existing name is fs.ErrExist.
	Link(old, name string) error
	// Rename gives a file another name, in place of a file that has it.
	Rename(old, name string) error
	// Remove removes a file or an empty directory.
	Remove(name string) error
	// Chtimes sets the modification time of a file.
	Chtimes(name string, modTime time.Time) error
	// SyncDir makes the names in dir durable, but not the name of dir.
	SyncDir(dir string) error
	// Lock takes the exclusive lock of a file, which is made, with its directories,
	// if it is missing. It holds until Close, or until the process dies. ErrLocked
	// is returned at once if somebody has it, this process included.
	Lock(name string) (io.Closer, error)
	// Version returns a token that differs whenever the file does, from what
	// Lstat or Stat said of it.
	Version(name string, fi fs.FileInfo) string
}

// File is an open file. A write goes to the end, in one piece.
type File interface {
	io.Reader
	io.ReaderAt
	io.Writer
	io.Closer
	Stat() (fs.FileInfo, error)
	Sync() error
	Truncate(size int64) error
}

// Dir is an open directory.
type Dir interface {
	io.Closer
	ReadDir(n int) ([]fs.DirEntry, error)
	// Lstat describes what has that name in the directory, a symbolic link too. The
	// name is one element, as ReadDir tells it: no path is kept from leading out. It
	// takes the system a third of the time of FS.Lstat, which finds the directory
	// again.
	Lstat(element string) (fs.FileInfo, error)
}

// ErrLocked means that the lock of a file is held.
var ErrLocked = errors.New("locked")

// tempSuffix ends the names of temporary files. Codex removes files that end so
// and are older than 6 h (0.150), which is what should become of ours too.
const tempSuffix = ".tmp"

// Hidden reports whether the last element of name is the store's own: a lock or
// a temporary file.
func Hidden(name string) bool { return strings.HasPrefix(path.Base(name), ".") }

// SyncAbove makes the name of a file durable, and the directories that lead to
// it: whoever made them may have died, or failed, before he synced them, so that
// they are there proves nothing.
func SyncAbove(fsys FS, name string) error {
	for dir := path.Dir(name); ; dir = path.Dir(dir) {
		if err := fsys.SyncDir(dir); err != nil || dir == "." {
			return err
		}
	}
}

// WriteFile makes the file name, durably, from what fill writes: a temporary file
// beside it is filled, dated (unless modTime is zero), synced and given its name
// by publish, and the directories are synced. When anything before publish fails
// the temporary file is removed; a crash may leave it. publish is fsys.Link for a
// name that must be free, or fsys.Rename.
func WriteFile(fsys FS, name string, modTime time.Time, fill func(io.Writer) error, publish func(temp, name string) error) error {
	dir := path.Dir(name)
	if err := fsys.MkdirAll(dir); err != nil {
		return err
	}
	temp := path.Join(dir, "."+rand.Text()+tempSuffix)
	f, err := fsys.Create(temp)
	if err != nil {
		return err
	}
	date := func() error {
		if modTime.IsZero() {
			return nil
		}
		return fsys.Chtimes(temp, modTime)
	}
	err = fill(f)
	if err == nil {
		err = date() // so that Sync makes it durable too
	}
	if err == nil {
		err = f.Sync()
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = date() // which on Windows, and in memory, Close has changed
	}
	if err == nil {
		err = publish(temp, name)
	}
	// A Rename has taken the temporary name away, a Link has not.
	if e := fsys.Remove(temp); e != nil && !errors.Is(e, fs.ErrNotExist) {
		err = errors.Join(err, e)
	}
	if err != nil {
		return err
	}
	return SyncAbove(fsys, name)
}
