package vfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"time"
)

const (
	filePerm = 0o600
	dirPerm  = 0o700
)

// OS is a directory of the operating system: files have mode 0600 and directories
// 0700, whatever the umask, and no name leads out of it, not through a symbolic
// link either.
type OS struct{ root *os.Root }

// OpenOS returns the directory dir, which must exist.
func OpenOS(dir string) (*OS, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	return &OS{root}, nil
}

// Close releases the directory; files opened from it stay usable.
func (f *OS) Close() error { return f.root.Close() }

// Path returns the path of name for those who must name it to the system.
func (f *OS) Path(name string) string {
	return filepath.Join(f.root.Name(), filepath.FromSlash(name))
}

// Open opens a file or a directory for reading.
func (f *OS) Open(name string) (File, error) {
	return file(f.root.Open(filepath.FromSlash(name)))
}

// Create creates a file for appending with mode 0600; one that exists is
// fs.ErrExist.
func (f *OS) Create(name string) (File, error) {
	made, err := f.root.OpenFile(filepath.FromSlash(name), os.O_RDWR|os.O_APPEND|os.O_CREATE|os.O_EXCL, filePerm)
	if err != nil {
		return nil, err
	}
	// A umask can only take bits away from the mode, but those may be the
	// owner's own.
	if err := made.Chmod(filePerm); err != nil && runtime.GOOS != "windows" {
		return nil, errors.Join(err, made.Close(), f.Remove(name))
	}
	return made, nil
}

// Append opens an existing file for appending.
func (f *OS) Append(name string) (File, error) {
	return file(f.root.OpenFile(filepath.FromSlash(name), os.O_RDWR|os.O_APPEND, 0))
}

// file keeps a nil *os.File from becoming a File that is not nil.
func file(f *os.File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

// Lstat describes a file without following a symbolic link in its last element.
func (f *OS) Lstat(name string) (fs.FileInfo, error) {
	return f.root.Lstat(filepath.FromSlash(name))
}

// MkdirAll makes dir and its parents, each with mode 0700 and durable, unless
// they exist.
func (f *OS) MkdirAll(dir string) error {
	if dir == "." {
		return nil
	}
	if fi, err := f.Lstat(dir); err == nil && fi.IsDir() {
		return nil
	}
	parent := path.Dir(dir)
	if err := f.MkdirAll(parent); err != nil {
		return err
	}
	err := f.root.Mkdir(filepath.FromSlash(dir), dirPerm)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := f.root.Chmod(filepath.FromSlash(dir), dirPerm); err != nil && runtime.GOOS != "windows" {
		return err
	}
	return f.SyncDir(parent)
}

// Link gives the file old a second name; an existing name is fs.ErrExist, also
// between processes.
func (f *OS) Link(old, name string) error {
	return f.root.Link(filepath.FromSlash(old), filepath.FromSlash(name))
}

// Rename gives the file old another name, in place of a file that has it.
func (f *OS) Rename(old, name string) error {
	return f.root.Rename(filepath.FromSlash(old), filepath.FromSlash(name))
}

// Remove removes a file or an empty directory.
func (f *OS) Remove(name string) error { return f.root.Remove(filepath.FromSlash(name)) }

// Chtimes sets the modification time of a file.
func (f *OS) Chtimes(name string, modTime time.Time) error {
	return f.root.Chtimes(filepath.FromSlash(name), modTime, modTime)
}

// SyncDir makes the names in dir durable. Windows has no such call and NTFS
// journals names itself, so there it does nothing.
func (f *OS) SyncDir(dir string) error {
	if runtime.GOOS == "windows" {
		return nil
	}
	d, err := f.root.Open(filepath.FromSlash(dir))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Version returns the size, mtime, ctime and inode of the file. mtime alone proves
// nothing: Codex keeps it when it compresses or migrates a file (0.169).
func (f *OS) Version(_ string, fi fs.FileInfo) string {
	var changed int64
	if t := ChangeTime(fi); !t.IsZero() {
		changed = t.UnixNano()
	}
	return fmt.Sprintf("%x-%x-%x-%x", fi.Size(), fi.ModTime().UnixNano(), changed, inode(fi))
}
