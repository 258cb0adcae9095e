package vfs

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// beneath is the directory below which the system itself opens a path through no
// symbolic link (openat2, Linux 5.6 and later): one call, where os.Root takes two
// for each element of the path.
type beneath struct{ dir *os.File }

func newOpener(root *os.Root) (opener, error) {
	dir, err := root.Open(".")
	if err != nil {
		return nil, err
	}
	b := &beneath{dir}
	self, err := b.open(".", unix.O_PATH)
	if errors.Is(err, unix.ENOSYS) || errors.Is(err, unix.EPERM) { // an old system, a sandbox
		return byElement{root}, dir.Close()
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return b, self.Close()
}

func (b *beneath) Close() error { return b.dir.Close() }

// open opens a path. One with a symbolic link on the way is fs.ErrNotExist.
func (b *beneath) open(name string, flags uint64) (*os.File, error) {
	how := &unix.OpenHow{
		Flags:   flags | unix.O_CLOEXEC | unix.O_NOFOLLOW,
		Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_SYMLINKS,
	}
	conn, err := b.dir.SyscallConn()
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrClosed}
	}
	var fd int
	var failed error
	err = conn.Control(func(dir uintptr) {
		for {
			fd, failed = unix.Openat2(int(dir), name, how)
			if failed != unix.EINTR && failed != unix.EAGAIN { // EAGAIN: something was renamed meanwhile
				return
			}
		}
	})
	switch {
	case err != nil:
		failed = fs.ErrClosed
	case errors.Is(failed, unix.ELOOP):
		failed = fs.ErrNotExist
	}
	if failed != nil {
		return nil, &fs.PathError{Op: "open", Path: name, Err: failed}
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Open opens a file or a directory for reading. It does not wait for who writes to a pipe.
func (b *beneath) Open(name string) (*os.File, error) {
	return b.open(name, unix.O_RDONLY|unix.O_NONBLOCK)
}

// Lstat describes a file, also one that may not be read.
func (b *beneath) Lstat(name string) (fs.FileInfo, error) {
	f, err := b.open(name, unix.O_PATH)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	return fi, errors.Join(err, f.Close())
}
