//go:build !unix

package main

import (
	"path/filepath"
	"strings"
)

// sameDevice reports whether two files are on one volume.
func sameDevice(a, b string) (bool, error) {
	x, err := filepath.Abs(a)
	if err != nil {
		return false, err
	}
	y, err := filepath.Abs(filepath.FromSlash(strings.TrimPrefix(b, "/")))
	if err != nil {
		return false, err
	}
	return strings.EqualFold(filepath.VolumeName(x), filepath.VolumeName(y)), nil
}
