//go:build unix

package main

import (
	"os"
	"syscall"
)

// sameDevice reports whether two files are on one file system.
func sameDevice(a, b string) (bool, error) {
	x, err := os.Stat(a)
	if err != nil {
		return false, err
	}
	y, err := os.Stat(b)
	if err != nil {
		return false, err
	}
	s, ok := x.Sys().(*syscall.Stat_t)
	t, ok2 := y.Sys().(*syscall.Stat_t)
	return !ok || !ok2 || s.Dev == t.Dev, nil
}
