package vfs

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"syscall"
)

// An opener reaches files through no symbolic link: by a second name a log would
// have a second lock. What lies behind one is fs.ErrNotExist.
type opener interface {
	Open(name string) (*os.File, error)
	Lstat(name string) (fs.FileInfo, error)
	Close() error
}

// byElement looks at each element of a path. One that becomes a link between two
// looks still leads nowhere out of root.
type byElement struct{ root *os.Root }

func (o byElement) reach(dir string) error {
	if dir == "." {
		return nil
	}
	if err := o.reach(path.Dir(dir)); err != nil {
		return err
	}
	fi, err := o.root.Lstat(filepath.FromSlash(dir))
	switch {
	case err != nil:
		return err
	case fi.Mode()&fs.ModeSymlink != 0:
		return &fs.PathError{Op: "open", Path: dir, Err: fs.ErrNotExist}
	case !fi.IsDir():
		return &fs.PathError{Op: "open", Path: dir, Err: syscall.ENOTDIR}
	}
	return nil
}

func (o byElement) Open(name string) (*os.File, error) {
	fi, err := o.Lstat(name)
	if err == nil && !fi.Mode().IsRegular() && !fi.IsDir() { // a link, or what an open could wait for
		err = &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if err != nil {
		return nil, err
	}
	return o.root.Open(filepath.FromSlash(name))
}

func (o byElement) Lstat(name string) (fs.FileInfo, error) {
	if name != "." {
		if err := o.reach(path.Dir(name)); err != nil {
			return nil, err
		}
	}
	return o.root.Lstat(filepath.FromSlash(name))
}

// Close leaves the root to its owner.
func (byElement) Close() error { return nil }
