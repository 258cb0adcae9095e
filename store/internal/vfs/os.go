package vfs

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"
)

const (
	filePerm = 0o600
	dirPerm  = 0o700
)

// OS is a directory of the operating system: files have mode 0600 and directories
// 0700, whatever the umask, and no name leads out of it, not through a symbolic
// link either.
type OS struct {
	root *os.Root
	opener
}

// OpenOS returns the directory dir, which must exist.
func OpenOS(dir string) (*OS, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	o, err := newOpener(root)
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return &OS{root, o}, nil
}

// Close releases the directory; files opened from it stay usable.
func (f *OS) Close() error { return errors.Join(f.opener.Close(), f.root.Close()) }

// Open opens a file for reading, through no symbolic link.
func (f *OS) Open(name string) (File, error) { return file(f.opener.Open(name)) }

// OpenDir opens a directory, through no symbolic link.
func (f *OS) OpenDir(name string) (Dir, error) { return f.opener.OpenDir(name) }

// Create creates a file for appending with mode 0600; one that exists is
// fs.ErrExist.
func (f *OS) Create(name string) (File, error) { return file(f.create(name)) }

func (f *OS) create(name string) (*os.File, error) {
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
func (f *OS) Append(name string) (File, error) { return file(f.append(name)) }

func (f *OS) append(name string) (*os.File, error) {
	return f.root.OpenFile(filepath.FromSlash(name), os.O_RDWR|os.O_APPEND, 0)
}

// file keeps a nil *os.File from becoming a File that is not nil.
func file(f *os.File, err error) (File, error) {
	if err != nil {
		return nil, err
	}
	return f, nil
}

// MkdirAll makes dir and its parents, each with mode 0700, unless they exist. One
// that is no directory, or a symbolic link to one, is an error.
func (f *OS) MkdirAll(dir string) error {
	if dir == "." {
		return nil
	}
	if err := f.MkdirAll(path.Dir(dir)); err != nil {
		return err
	}
	fi, err := f.Lstat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err := f.mkdir(dir); !errors.Is(err, fs.ErrExist) {
			return err
		}
		fi, err = f.Lstat(dir) // somebody made it meanwhile
	}
	if err == nil && !fi.IsDir() {
		err = &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
	}
	return err
}

func (f *OS) mkdir(dir string) error {
	name := filepath.FromSlash(dir)
	err := f.root.Mkdir(name, dirPerm)
	if err == nil && runtime.GOOS != "windows" {
		err = f.root.Chmod(name, dirPerm) // as in create
	}
	return err
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

// lockAttempts bounds how often Lock begins again when the lock's file is replaced
// under it, which takes another process each time.
const lockAttempts = 100

// Lock takes the lock of a file as Codex and Rust's File::try_lock do: flock, or
// LockFileEx on Windows. The system releases it when the process dies, so a file
// that is left behind locks nobody out.
func (f *OS) Lock(name string) (io.Closer, error) {
	if err := f.MkdirAll(path.Dir(name)); err != nil {
		return nil, err
	}
	for range lockAttempts {
		l, err := f.append(name)
		if errors.Is(err, fs.ErrNotExist) {
			l, err = f.create(name)
		}
		if errors.Is(err, fs.ErrExist) {
			continue // somebody made it meanwhile
		}
		if err != nil {
			return nil, err
		}
		if err := tryLock(l); err != nil {
			return nil, errors.Join(err, l.Close())
		}
		// Who had the lock may have removed the file after we opened it: then the
		// next one would lock another file of that name.
		held, err := l.Stat()
		if err != nil {
			return nil, errors.Join(err, l.Close())
		}
		if now, err := f.Lstat(name); err == nil && os.SameFile(held, now) {
			return l, nil
		}
		if err := l.Close(); err != nil {
			return nil, err
		}
	}
	return nil, ErrLocked
}

// Version returns the size, mtime, ctime and inode of the file. mtime alone proves
// nothing: Codex keeps it when it compresses or migrates a file (0.169).
func (f *OS) Version(_ string, fi fs.FileInfo) string {
	var changed int64
	if t := ChangeTime(fi); !t.IsZero() {
		changed = t.UnixNano()
	}
	var room [4 * (1 + 16 + 1)]byte
	v := strconv.AppendInt(room[:0], fi.Size(), 16)
	v = strconv.AppendInt(append(v, '-'), fi.ModTime().UnixNano(), 16)
	v = strconv.AppendInt(append(v, '-'), changed, 16)
	v = strconv.AppendUint(append(v, '-'), inode(fi), 16)
	return string(v)
}
