package vfs

import (
	"io/fs"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// ChangeTime returns when the file of fi last changed in any way (ctime), the
// zero time when the system does not tell.
func ChangeTime(fi fs.FileInfo) time.Time {
	switch st := fi.Sys().(type) {
	case *syscall.Stat_t:
		return time.Unix(st.Ctim.Unix())
	case *unix.Stat_t:
		return time.Unix(st.Ctim.Unix())
	}
	return time.Time{}
}

func inode(fi fs.FileInfo) uint64 {
	switch st := fi.Sys().(type) {
	case *syscall.Stat_t:
		return st.Ino
	case *unix.Stat_t:
		return st.Ino
	}
	return 0
}
