package vfs_test

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/rollout-sync/rollout/store/internal/vfs"
	"github.com/rollout-sync/rollout/store/internal/vfs/crashfs"
)

// openers are the ways in which files are reached: the system's own, which may be
// the other one, and that of the others.
var openers = map[string]func(dir string) (*vfs.OS, error){"OS": vfs.OpenOS, "by element": vfs.OpenByElement}

func openOS(t *testing.T, dir string) *vfs.OS { return openWith(t, vfs.OpenOS, dir) }

func openWith(t *testing.T, open func(string) (*vfs.OS, error), dir string) *vfs.OS {
	t.Helper()
	fsys, err := open(dir)
	must(t, err)
	t.Cleanup(func() { fsys.Close() })
	return fsys
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s = %v, want %v", what, err, want)
	}
}

// TestFS has the real file system and the one of the crash tests do the same.
func TestFS(t *testing.T) {
	t.Parallel()
	systems := map[string]vfs.FS{"crashfs": crashfs.New()}
	for name, open := range openers {
		systems[name] = openWith(t, open, t.TempDir())
	}
	for name, fsys := range systems {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testFS(t, fsys)
		})
	}
}

func testFS(t *testing.T, fsys vfs.FS) {
	content := func(name string) string {
		t.Helper()
		f, err := fsys.Open(name)
		must(t, err)
		defer f.Close()
		p, err := io.ReadAll(f)
		must(t, err)
		return string(p)
	}
	version := func(name string) string {
		t.Helper()
		fi, err := fsys.Lstat(name)
		must(t, err)
		return fsys.Version(name, fi)
	}

	_, err := fsys.Create("a/b/f")
	wantErr(t, "Create without a directory", err, fs.ErrNotExist)
	must(t, fsys.MkdirAll("a/b"))
	must(t, fsys.MkdirAll("a/b"))
	must(t, fsys.MkdirAll("."))
	f, err := fsys.Create("a/b/f")
	must(t, err)
	_, err = fsys.Create("a/b/f")
	wantErr(t, "Create twice", err, fs.ErrExist)
	_, err = fsys.Create("a/b")
	wantErr(t, "Create of a directory", err, fs.ErrExist)
	wantErr(t, "MkdirAll below a file", fsys.MkdirAll("a/b/f/c"), syscall.ENOTDIR)
	_, err = fsys.Lstat("a/b/f/c")
	wantErr(t, "Lstat below a file", err, syscall.ENOTDIR)

	n, err := f.Write([]byte("hello"))
	if n != 5 || err != nil {
		t.Errorf("Write = %d, %v", n, err)
	}
	g, err := fsys.Append("a/b/f")
	must(t, err)
	_, err = g.Write([]byte(", "))
	must(t, err)
	_, err = f.Write([]byte("world"))
	must(t, err)
	must(t, f.Sync())
	must(t, f.Truncate(10))
	_, err = g.Write([]byte("D"))
	must(t, errors.Join(err, g.Close(), f.Close()))
	wantErr(t, "Close twice", f.Close(), fs.ErrClosed)
	if got := content("a/b/f"); got != "hello, worD" {
		t.Errorf("it has %q", got)
	}
	_, err = fsys.Append("a/b/g")
	wantErr(t, "Append of nothing", err, fs.ErrNotExist)

	must(t, fsys.Link("a/b/f", "a/l"))
	wantErr(t, "Link to a name that is taken", fsys.Link("a/b/f", "a/l"), fs.ErrExist)
	wantErr(t, "Link of nothing", fsys.Link("a/none", "a/m"), fs.ErrNotExist)
	before := version("a/l")
	f, err = fsys.Append("a/l")
	must(t, err)
	_, err = f.Write([]byte("!"))
	must(t, errors.Join(err, f.Close()))
	if content("a/b/f") != "hello, worD!" || version("a/l") == before {
		t.Error("a link is another file, or its version the same")
	}
	kept, err := fsys.Open("a/l")
	must(t, err)
	f, err = fsys.Create("new")
	must(t, errors.Join(err, f.Close()))
	must(t, fsys.Rename("new", "a/l"))
	wantErr(t, "Rename of nothing", fsys.Rename("new", "a/l"), fs.ErrNotExist)
	p := make([]byte, 20)
	if n, err := kept.ReadAt(p, 7); string(p[:n]) != "worD!" || err != io.EOF {
		t.Errorf("the file that was replaced has %q, %v", p[:n], err)
	}
	must(t, kept.Close())

	when := time.Date(2025, 3, 4, 5, 6, 7, 8000, time.UTC)
	must(t, fsys.Chtimes("a/l", when))
	fi, err := fsys.Lstat("a/l")
	must(t, err)
	if !fi.ModTime().Equal(when) || fi.Size() != 0 || !fi.Mode().IsRegular() || fi.Name() != "l" {
		t.Errorf("Lstat = %v, %d, %v, %s", fi.ModTime(), fi.Size(), fi.Mode(), fi.Name())
	}

	d, err := fsys.OpenDir("a")
	must(t, err)
	fi, err = d.Lstat("l")
	must(t, err)
	if !fi.ModTime().Equal(when) || fi.Size() != 0 || !fi.Mode().IsRegular() || fi.Name() != "l" {
		t.Errorf("Dir.Lstat = %v, %d, %v, %s", fi.ModTime(), fi.Size(), fi.Mode(), fi.Name())
	}
	if same, err := fsys.Lstat("a/l"); err != nil || fsys.Version("a/l", fi) != fsys.Version("a/l", same) {
		t.Errorf("Dir.Lstat has version %s, and Lstat %s, %v", fsys.Version("a/l", fi), fsys.Version("a/l", same), err)
	}
	if fi, err := d.Lstat("b"); err != nil || !fi.IsDir() {
		t.Errorf("Dir.Lstat of a directory = %v, %v", fi, err)
	}
	_, err = d.Lstat("none")
	wantErr(t, "Lstat of nothing", err, fs.ErrNotExist)
	var names []string
	for {
		entries, err := d.ReadDir(1)
		if err == io.EOF {
			break
		}
		must(t, err)
		names = append(names, entries[0].Name()+map[bool]string{true: "/"}[entries[0].IsDir()])
	}
	must(t, d.Close())
	if got := strings.Join(names, " "); got != "b/ l" && got != "l b/" {
		t.Errorf("ReadDir = %s", got)
	}
	must(t, vfs.SyncAbove(fsys, "a/b/f"))
	if err := fsys.Remove("a/b"); err == nil {
		t.Error("a directory that is not empty was removed")
	}
	must(t, fsys.Remove("a/b/f"))
	must(t, fsys.Remove("a/b"))
	wantErr(t, "Remove of nothing", fsys.Remove("a/b"), fs.ErrNotExist)

	l, err := fsys.Lock("locks/here/x")
	must(t, err)
	_, err = fsys.Lock("locks/here/x")
	wantErr(t, "Lock twice", err, vfs.ErrLocked)
	other, err := fsys.Lock("locks/here/y")
	must(t, errors.Join(err, other.Close(), l.Close()))
	l, err = fsys.Lock("locks/here/x") // its file was left
	must(t, errors.Join(err, l.Close()))
}

// Whoever has the lock may remove its file: nobody else then has it by the old one.
func TestLockOfARemovedFile(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		return // there it has to be closed first
	}
	dir := t.TempDir()
	var (
		wg      sync.WaitGroup
		holders atomic.Int32
		taken   atomic.Int32
	)
	for range 8 {
		wg.Go(func() {
			fsys, err := vfs.OpenOS(dir)
			if err != nil {
				t.Error(err)
				return
			}
			defer fsys.Close()
			for taken.Load() < 4000 {
				l, err := fsys.Lock("lock")
				if errors.Is(err, vfs.ErrLocked) {
					runtime.Gosched()
					continue
				}
				if err != nil {
					t.Error(err)
					return
				}
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d have the lock", n)
				}
				taken.Add(1)
				for range 5 { // long enough for somebody else to come
					if _, err := fsys.Lstat("lock"); err != nil {
						t.Errorf("who has the lock does not see its file: %v", err)
					}
				}
				holders.Add(-1)
				if err := errors.Join(fsys.Remove("lock"), l.Close()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

func TestSymbolicLinks(t *testing.T) {
	t.Parallel()
	for name, open := range openers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testSymbolicLinks(t, open)
		})
	}
}

func testSymbolicLinks(t *testing.T, open func(string) (*vfs.OS, error)) {
	dir, outside := t.TempDir(), t.TempDir()
	must(t, os.Mkdir(filepath.Join(dir, "real"), 0o700))
	must(t, os.WriteFile(filepath.Join(outside, "file"), nil, 0o600))
	for link, target := range map[string]string{
		"out": outside, "alias": "real", "file": filepath.Join(outside, "file"), "none": filepath.Join(outside, "none"),
	} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Skipf("this system makes no symbolic links: %v", err)
		}
	}
	must(t, os.WriteFile(filepath.Join(dir, "real", "file"), nil, 0o600))
	fsys := openWith(t, open, dir)
	for _, name := range []string{"out", "alias", "file", "none", "out/file", "alias/file"} {
		_, err := fsys.Open(name)
		wantErr(t, "Open "+name, err, fs.ErrNotExist)
	}
	for _, name := range []string{"out", "alias", "none"} {
		_, err := fsys.OpenDir(name)
		wantErr(t, "OpenDir "+name, err, fs.ErrNotExist)
	}
	_, err := fsys.OpenDir("real/file")
	wantErr(t, "OpenDir of a file", err, syscall.ENOTDIR)
	for _, name := range []string{"out/file", "alias/file"} {
		_, err := fsys.Lstat(name)
		wantErr(t, "Lstat "+name, err, fs.ErrNotExist)
	}
	for _, name := range []string{"out", "file", "none"} {
		if fi, err := fsys.Lstat(name); err != nil || fi.Mode().Type() != fs.ModeSymlink {
			t.Errorf("Lstat %s = %v, %v", name, fi, err)
		}
	}
	for _, name := range []string{"out", "alias", "out/new", "alias/new"} {
		wantErr(t, "MkdirAll "+name, fsys.MkdirAll(name), syscall.ENOTDIR)
	}
	for _, name := range []string{"out/lock", "alias/lock", "file", "none"} {
		if l, err := fsys.Lock(name); err == nil {
			l.Close()
			t.Errorf("Lock(%s) followed a symbolic link", name)
		}
	}
	for _, d := range []string{outside, filepath.Join(dir, "real")} {
		entries, err := os.ReadDir(d)
		must(t, err)
		for _, e := range entries {
			if e.Name() != "file" {
				t.Errorf("%s was made", e.Name())
			}
		}
	}
}
