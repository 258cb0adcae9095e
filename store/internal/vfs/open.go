package vfs

import (
	"errors"
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
	OpenDir(name string) (Dir, error)
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

// openDir opens what has to be a directory.
func openDir(o opener, name string) (*os.File, fs.FileInfo, error) {
	f, err := o.Open(name)
	if err != nil {
		return nil, nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.IsDir() {
		err = &fs.PathError{Op: "open", Path: name, Err: syscall.ENOTDIR}
	}
	if err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	return f, fi, nil
}

func (o byElement) OpenDir(name string) (Dir, error) {
	names, reached, err := openDir(o, name)
	if err != nil {
		return nil, err
	}
	root, err := o.root.OpenRoot(filepath.FromSlash(name))
	if err != nil {
		return nil, errors.Join(err, names.Close())
	}
	d := &dir{names, root}
	// An os.Root is opened through links that stay in o.root.
	opened, err := root.Stat(".")
	if err == nil && !os.SameFile(reached, opened) {
		err = &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	if err != nil {
		return nil, errors.Join(err, d.Close())
	}
	return d, nil
}

// A dir is one directory twice: an *os.File has the names of what lies in it and
// nothing to look at one of them, and an os.Root has that and no names.
type dir struct {
	*os.File
	root *os.Root
}

func (d *dir) Lstat(element string) (fs.FileInfo, error) { return d.root.Lstat(element) }

func (d *dir) Close() error { return errors.Join(d.File.Close(), d.root.Close()) }

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
