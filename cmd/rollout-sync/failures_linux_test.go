package main

import (
	"errors"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
)

// smallDisk mounts a disk of 8 MiB, and returns a function that fills it, which returns
// one that makes room again.
func smallDisk(t *testing.T) (dir string, fill func() (free func())) {
	t.Helper()
	dir = t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		t.Skipf("only root may mount a small disk: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir, func() func() {
		filler := filepath.Join(dir, "filler")
		if err := os.WriteFile(filler, make([]byte, 9<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("the disk is not full: %v", err)
		}
		return func() {
			if err := os.Remove(filler); err != nil {
				t.Error(err)
			}
		}
	}
}

// readOnly makes a directory one that nobody can write to, not even root.
func readOnly(t *testing.T, dir string) (writable func()) {
	t.Helper()
	if err := syscall.Mount(dir, dir, "", syscall.MS_BIND, ""); err != nil {
		t.Skipf("only root may mount: %v", err)
	}
	undo := sync.OnceFunc(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(undo)
	if err := syscall.Mount("", dir, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		t.Fatal(err)
	}
	return undo
}

// A disk that is full of the mirror, the state or the home.
func TestDiskIsFull(t *testing.T) {
	t.Parallel()
	room := []string{"no space left on device", "make room"}
	t.Run("mirror", func(t *testing.T) {
		t.Parallel()
		tr := newTree(t, 20)
		disk, fill := smallDisk(t)
		tr.mirror = filepath.Join(disk, "mirror")
		free := fill()
		tr.fails(exitFailure, 1, room, "push", "--idle", "0s") // there is none yet
		free()
		tr.whole()
		tr.grow()
		free = fill()
		tr.fails(exitFailure, 2, append(room, "took none of 8 sessions"), "push", "--idle", "0s", "--jobs", "1")
		free()
		tr.whole()
	})
	t.Run("state", func(t *testing.T) {
		t.Parallel()
		tr := newTree(t, 21)
		disk, fill := smallDisk(t)
		tr.env = append(tr.env, "XDG_STATE_HOME="+filepath.Join(disk, "state"))
		free := fill()
		tr.fails(exitFailure, 1, room, "push", "--idle", "0s")
		free()
		tr.whole()
		tr.grow()
		free = fill()
		tr.fails(exitFailure, 1, room, "push", "--idle", "0s")
		free()
		tr.whole()
	})
	t.Run("home", func(t *testing.T) {
		t.Parallel()
		tr := newTree(t, 22)
		disk, fill := smallDisk(t)
		home := filepath.Join(disk, "home")
		tr.must(os.Mkdir(home, 0o700))
		free := fill()
		tr.fails(exitFailure, 1, room, "restore", "--all", "--home", home)
		free()
		tr.run(exitOK, "restore", "--all", "--home", home)
		if got := tr.look(home); len(got) != len(tr.sessions) {
			t.Errorf("restored are %d of %d", len(got), len(tr.sessions))
		}
	})
}

// What only reads a home works where it cannot be written to; what writes says so.
func TestReadOnlyHome(t *testing.T) {
	t.Parallel()
	tr := newTree(t, 23)
	tr.grow()
	undo := readOnly(t, tr.home)
	tr.whole()
	tr.run(exitOK, "list")
	tr.fails(exitFailure, 1, []string{"read-only file system"}, "restore", "--all")
	tr.fails(exitFailure, 1, []string{"read-only file system"}, "prune", "--older-than", "0d", "--apply", "--same-device-ok")
	undo()
	tr.must(os.RemoveAll(filepath.Join(tr.home, "sessions")))
	tr.must(os.Mkdir(filepath.Join(tr.home, "sessions"), 0o700))
	undo = readOnly(t, tr.home)
	tr.fails(exitFailure, 1, []string{"read-only file system"}, "restore", "--all")
	undo()
	tr.run(exitOK, "restore", "--all")
	tr.whole()
}

// A mirror in a directory that cannot be written to can be read.
func TestReadOnlyMirror(t *testing.T) {
	t.Parallel()
	tr := newTree(t, 24)
	undo := readOnly(t, tr.mirror)
	tr.run(exitOK, "push", "--idle", "0s") // nothing to do
	tr.run(exitOK, "verify", "--deep")
	tr.run(exitOK, "restore", "--all", "--into", t.TempDir())
	tr.grow()
	tr.fails(exitFailure, 2, []string{"read-only file system", "took none of 8 sessions"}, "push", "--idle", "0s", "--jobs", "1")
	undo()
	tr.whole()
}
