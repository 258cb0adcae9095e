package vfs

import (
	"errors"
	"io/fs"
	"os"
	"runtime"
	"time"

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

// OpenDir opens a directory.
func (b *beneath) OpenDir(name string) (Dir, error) {
	f, _, err := openDir(b, name) // with O_DIRECTORY, a link would be no directory
	if err != nil {
		return nil, err
	}
	return &names{f, int(f.Fd())}, nil
}

// names is an open directory, which must not be closed while it is used. An os.Root would
// take a fifth more than the system to describe what lies in it.
type names struct {
	*os.File
	fd int
}

func (d *names) Lstat(element string) (fs.FileInfo, error) {
	fi := &stat{name: element}
	for {
		err := unix.Fstatat(d.fd, element, &fi.Stat_t, unix.AT_SYMLINK_NOFOLLOW)
		runtime.KeepAlive(d.File)
		switch err {
		case nil:
			return fi, nil
		case unix.EINTR:
			continue
		}
		return nil, &fs.PathError{Op: "lstat", Path: element, Err: err}
	}
}

// stat is what the system says of a file.
type stat struct {
	unix.Stat_t
	name string
}

func (s *stat) Name() string       { return s.name }
func (s *stat) Size() int64        { return s.Stat_t.Size }
func (s *stat) ModTime() time.Time { return time.Unix(s.Mtim.Unix()) }
func (s *stat) IsDir() bool        { return s.Mode().IsDir() }
func (s *stat) Sys() any           { return &s.Stat_t }

func (s *stat) Mode() fs.FileMode {
	const perm = 0o777
	mode := fs.FileMode(s.Stat_t.Mode & perm)
	switch s.Stat_t.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return mode
	case unix.S_IFDIR:
		return mode | fs.ModeDir
	case unix.S_IFLNK:
		return mode | fs.ModeSymlink
	}
	return mode | fs.ModeIrregular // nobody asks what else it is
}
