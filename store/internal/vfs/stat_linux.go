package vfs

import (
	"io/fs"
	"syscall"
	"time"
)

// ChangeTime returns when the file of fi last changed in any way (ctime), the
// zero time when the system does not tell.
func ChangeTime(fi fs.FileInfo) time.Time {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return time.Unix(st.Ctim.Unix())
	}
	return time.Time{}
}

func inode(fi fs.FileInfo) uint64 {
	if st, ok := fi.Sys().(*syscall.Stat_t); ok {
		return st.Ino
	}
	return 0
}
