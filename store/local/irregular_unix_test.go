//go:build unix

package local_test

import (
	"errors"
	"io/fs"
	"net"
	"path/filepath"
	"syscall"
	"testing"
)

// What is no regular file is not there, and nothing waits for it.
func TestIrregular(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, nil)
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe.jsonl"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir) // the name of a socket is short
	l, err := net.Listen("unix", "socket.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := syscall.Mkdir(filepath.Join(dir, "dir.jsonl"), 0o000); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"pipe.jsonl", "socket.jsonl", "dir.jsonl", "pipe.jsonl/below.jsonl"} {
		if f, err := s.Open(ctx, name); !errors.Is(err, fs.ErrNotExist) {
			if err == nil {
				f.Close()
			}
			t.Errorf("%s: %v, want fs.ErrNotExist", name, err)
		}
	}
}
