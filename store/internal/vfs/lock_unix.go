//go:build unix

package vfs

import (
	"errors"
	"os"
	"syscall"
)

// tryLock takes the exclusive lock of an open file, which goes with the open file
// and not with the process: two opens of one file exclude each other anywhere.
func tryLock(f *os.File) error {
	for {
		err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case errors.Is(err, syscall.EINTR):
		case errors.Is(err, syscall.EWOULDBLOCK):
			return ErrLocked
		default:
			return os.NewSyscallError("flock", err)
		}
	}
}
