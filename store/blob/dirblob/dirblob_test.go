package dirblob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gcblob "gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/rollout-sync/rollout/store/internal/vfs"
)

var ctx = context.Background()

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func open(t *testing.T, dir string) *gcblob.Bucket {
	t.Helper()
	b, err := OpenBucket(dir, nil)
	must(t, err)
	t.Cleanup(func() { b.Close() })
	return b
}

// write uploads content, in place of a version if that is not "".
func write(b *gcblob.Bucket, key, content, version string, o gcblob.WriterOptions) error {
	o.ContentType = "x/y"
	o.BeforeWrite = func(as func(any) bool) error {
		var w *Write
		as(&w)
		w.IfVersion = version
		return nil
	}
	return b.Upload(ctx, key, strings.NewReader(content), &o)
}

func versionOf(t *testing.T, b *gcblob.Bucket, key string) string {
	t.Helper()
	a, err := b.Attributes(ctx, key)
	must(t, err)
	var i Info
	a.As(&i)
	return i.Version
}

// tree lists all files and directories below dir, with their modes.
func tree(t *testing.T, dir string) (names []string) {
	t.Helper()
	must(t, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		must(t, err)
		fi, err := e.Info()
		must(t, err)
		name, err := filepath.Rel(dir, path)
		must(t, err)
		if name != "." {
			names = append(names, fmt.Sprintf("%s %v", filepath.ToSlash(name), fi.Mode()))
		}
		return nil
	}))
	return names
}

func TestFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := open(t, dir)
	mtime := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
	meta := map[string]string{"mtime": mtime.Format(time.RFC3339Nano), "size": "3"}
	must(t, write(b, "a/b/c.jsonl.zst", "xyz", "", gcblob.WriterOptions{Metadata: meta}))
	want := []string{".lock -rw-------", "a drwx------", "a/b drwx------", "a/b/c.jsonl.zst -rw-------"}
	if got := tree(t, dir); !slices.Equal(got, want) && runtime.GOOS != "windows" { // which has no modes
		t.Errorf("tree %q, want %q", got, want)
	}
	a, err := b.Attributes(ctx, "a/b/c.jsonl.zst")
	must(t, err)
	if a.Metadata["mtime"] != meta["mtime"] || len(a.Metadata) != 1 || a.ModTime.Equal(mtime) {
		t.Errorf("metadata %v, ModTime %v", a.Metadata, a.ModTime)
	}
	if fi, err := os.Stat(filepath.Join(dir, "a/b/c.jsonl.zst")); err != nil || !fi.ModTime().Equal(mtime) {
		t.Errorf("mtime %v, %v", fi.ModTime(), err)
	}
}

func TestForeignFiles(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	b := open(t, dir)
	must(t, write(b, "d/a.txt", "x", "", gcblob.WriterOptions{}))
	must(t, os.WriteFile(filepath.Join(outside, "secret"), []byte("secret"), 0o600))
	must(t, os.WriteFile(filepath.Join(dir, "d/.hidden"), nil, 0o600))
	must(t, os.Mkdir(filepath.Join(dir, "d/.dir"), 0o700))
	want := []string{"d/a.txt"}
	if os.Symlink(filepath.Join(outside, "secret"), filepath.Join(dir, "d/link")) == nil {
		must(t, os.Symlink("a.txt", filepath.Join(dir, "d/link2")))
		must(t, os.Symlink(outside, filepath.Join(dir, "d/linked")))
	}
	for _, delimiter := range []string{"", "/"} {
		var got []string
		list := b.List(&gcblob.ListOptions{Prefix: "d/", Delimiter: delimiter})
		for {
			o, err := list.Next(ctx)
			if err == io.EOF {
				break
			}
			must(t, err)
			got = append(got, o.Key)
		}
		if !slices.Equal(got, want) {
			t.Errorf("List with delimiter %q: %q", delimiter, got)
		}
	}
	for key, code := range map[string]gcerrors.ErrorCode{
		"d/link": gcerrors.NotFound, "d/link2": gcerrors.NotFound, "d": gcerrors.NotFound, "d/a.txt/x": gcerrors.NotFound,
		"d/.hidden": gcerrors.InvalidArgument, ".lock": gcerrors.InvalidArgument, "../x": gcerrors.InvalidArgument,
	} {
		if _, err := b.ReadAll(ctx, key); gcerrors.Code(err) != code {
			t.Errorf("reading %s: %v", key, err)
		}
		if err := b.Delete(ctx, key); gcerrors.Code(err) != code {
			t.Errorf("deleting %s: %v", key, err)
		}
		if code == gcerrors.InvalidArgument {
			if err := write(b, key, "x", "", gcblob.WriterOptions{}); gcerrors.Code(err) != code {
				t.Errorf("writing %s: %v", key, err)
			}
		}
	}
	if _, err := b.ReadAll(ctx, "d/linked/secret"); err == nil {
		t.Error("read a file outside of the directory")
	}
	if err := write(b, "d/linked/new", "x", "", gcblob.WriterOptions{}); err == nil {
		t.Error("wrote a file outside of the directory")
	}
}

// TestConditionsHoldBetweenBuckets has several buckets over one directory, each of
// which has its own lock file handle, as several processes would.
func TestConditionsHoldBetweenBuckets(t *testing.T) {
	t.Parallel()
	const writers, rounds = 6, 20
	dir := t.TempDir()
	var buckets []*gcblob.Bucket
	for range writers {
		buckets = append(buckets, open(t, dir))
	}
	race := func(what string, try func(b *gcblob.Bucket, i int) error) {
		t.Helper()
		var (
			wg   sync.WaitGroup
			errs [writers]error
		)
		for i, b := range buckets {
			wg.Go(func() { errs[i] = try(b, i) })
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			if err == nil {
				won++
			} else if code := gcerrors.Code(err); code != gcerrors.FailedPrecondition && code != gcerrors.NotFound {
				t.Errorf("%s: %v", what, err)
			}
		}
		if won != 1 {
			t.Errorf("%s: %d of %d succeeded", what, won, writers)
		}
	}
	for range rounds {
		race("create", func(b *gcblob.Bucket, i int) error {
			return write(b, "d/a.txt", fmt.Sprint(i), "", gcblob.WriterOptions{IfNotExist: true})
		})
		old := versionOf(t, buckets[0], "d/a.txt")
		race("replace", func(b *gcblob.Bucket, i int) error {
			return write(b, "d/a.txt", fmt.Sprint(i), old, gcblob.WriterOptions{})
		})
		old = versionOf(t, buckets[0], "d/a.txt")
		race("remove", func(b *gcblob.Bucket, _ int) error {
			return b.DeleteWithOptions(ctx, "d/a.txt", &gcblob.DeleteOptions{BeforeDelete: func(as func(any) bool) error {
				return Service().Remove(as, old)
			}})
		})
	}
}

func TestDeleteOfAnOldVersion(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	must(t, write(b, "a.txt", "old", "", gcblob.WriterOptions{}))
	old := versionOf(t, b, "a.txt")
	must(t, write(b, "a.txt", "new", old, gcblob.WriterOptions{}))
	remove := func(version string) error {
		return b.DeleteWithOptions(ctx, "a.txt", &gcblob.DeleteOptions{BeforeDelete: func(as func(any) bool) error {
			return Service().Remove(as, version)
		}})
	}
	if err := remove(old); gcerrors.Code(err) != gcerrors.FailedPrecondition {
		t.Errorf("got %v", err)
	}
	must(t, remove(versionOf(t, b, "a.txt")))
}

// TestPages lists in pages of every size what it lists in one.
func TestPages(t *testing.T) {
	t.Parallel()
	b := open(t, t.TempDir())
	keys := []string{"a-b.txt", "a/b/c.txt", "a/b/d.txt", "a/b-c.txt", "a/e.txt", "a.txt", "aa/f.txt", "b.txt"}
	for _, key := range keys {
		must(t, write(b, key, key, "", gcblob.WriterOptions{}))
	}
	slices.Sort(keys)
	for _, prefix := range []string{"", "a", "a/", "a/b", "a/b/", "a/b/c.txt", "none", "none/x", "a.txt/", "../", ".lock"} {
		for _, delimiter := range []string{"", "/"} {
			var want []string
			for _, key := range keys {
				rest, ok := strings.CutPrefix(key, prefix)
				if dir, _, isDir := strings.Cut(rest, "/"); isDir && delimiter != "" {
					key = prefix + dir + "/"
				}
				if ok {
					want = append(want, key)
				}
			}
			slices.Sort(want)
			want = slices.Compact(want)
			for size := range 5 {
				size++
				var got []string
				for token := gcblob.FirstPageToken; len(token) > 0; {
					page, next, err := b.ListPage(ctx, token, size, &gcblob.ListOptions{Prefix: prefix, Delimiter: delimiter})
					must(t, err)
					for _, o := range page {
						got = append(got, o.Key)
						if o.IsDir != strings.HasSuffix(o.Key, "/") || !o.IsDir && o.Size != int64(len(o.Key)) {
							t.Errorf("%s: IsDir %v, Size %d", o.Key, o.IsDir, o.Size)
						}
					}
					token = next
				}
				if !slices.Equal(got, want) {
					t.Errorf("prefix %q, delimiter %q, pages of %d: %q, want %q", prefix, delimiter, size, got, want)
				}
			}
		}
	}
	_, _, err := b.ListPage(ctx, gcblob.FirstPageToken, 1, &gcblob.ListOptions{Delimiter: "b"})
	if gcerrors.Code(err) != gcerrors.Unimplemented {
		t.Errorf("another delimiter: %v", err)
	}
}

// TestLockWaits has a writer wait for another process's lock no longer than its
// context lasts.
func TestLockWaits(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	root, err := vfs.OpenOS(dir)
	must(t, err)
	other := newBucket(root, root.Close)
	unlock, err := other.lock(ctx)
	must(t, err)
	b := open(t, dir)
	c, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	err = b.Upload(c, "a.txt", strings.NewReader("x"), &gcblob.WriterOptions{ContentType: "x/y"})
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	must(t, unlock())
	must(t, write(b, "a.txt", "x", "", gcblob.WriterOptions{}))
	must(t, other.Close())
}

func TestURLs(t *testing.T) {
	t.Parallel()
	dir := filepath.ToSlash(t.TempDir())
	if runtime.GOOS == "windows" {
		dir = "/" + dir
	}
	mux := new(gcblob.URLMux)
	mux.RegisterBucket(Scheme, URLOpener{})
	for _, tt := range []struct {
		url string
		ok  bool
	}{
		{"file://" + dir, true},
		{"file://" + dir + "?prefix=team/", true},
		{"file://" + dir + "/new/er?create_dir=true", true},
		{"file://" + dir + "/missing", false},
		{"file://" + dir + "/missing?create_dir=false", false},
		{"file://" + dir + "?create_dir=perhaps", false},
		{"file://" + dir + "?metadata=skip", false},
		{"file://host" + dir, false},
		{"file:relative", false},
		{"file://", false},
	} {
		b, err := mux.OpenBucket(ctx, tt.url)
		if (err == nil) != tt.ok {
			t.Errorf("%s: %v", strings.Replace(tt.url, dir, "DIR", 1), err)
		}
		if err == nil {
			must(t, write(b, "a.txt", "x", "", gcblob.WriterOptions{}))
			must(t, b.Close())
		}
	}
	u, err := url.Parse("file://" + dir + "/missing")
	must(t, err)
	if _, err := (URLOpener{}).OpenBucketURL(ctx, u); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing directory: %v", err)
	}
}

// A faultFS records operations, and fails one of them.
type faultFS struct {
	vfs.FS
	ops  []string
	fail int // index of the operation that fails
}

var errFault = errors.New("input/output error")

func (f *faultFS) op(name string) error {
	f.ops = append(f.ops, name)
	if len(f.ops)-1 == f.fail {
		return errFault
	}
	return nil
}

func (f *faultFS) Create(name string) (vfs.File, error) {
	if err := f.op("create"); err != nil {
		return nil, err
	}
	file, err := f.FS.Create(name)
	return faultFile{file, f}, err
}

func (f *faultFS) MkdirAll(dir string) error {
	return errors.Join(f.op("mkdir"), f.FS.MkdirAll(dir))
}

func (f *faultFS) Link(old, name string) error {
	if err := f.op("link"); err != nil {
		return err
	}
	return f.FS.Link(old, name)
}

func (f *faultFS) Rename(old, name string) error {
	if err := f.op("rename"); err != nil {
		return err
	}
	return f.FS.Rename(old, name)
}

func (f *faultFS) Remove(name string) error {
	if vfs.Hidden(name) {
		return f.FS.Remove(name)
	}
	if err := f.op("remove"); err != nil {
		return err
	}
	return f.FS.Remove(name)
}

func (f *faultFS) Chtimes(name string, t time.Time) error {
	return errors.Join(f.op("chtimes"), f.FS.Chtimes(name, t))
}

func (f *faultFS) SyncDir(dir string) error {
	return errors.Join(f.op("syncdir"), f.FS.SyncDir(dir))
}

type faultFile struct {
	vfs.File
	f *faultFS
}

func (f faultFile) Write(p []byte) (int, error) {
	if err := f.f.op("write"); err != nil {
		return 0, err
	}
	return f.File.Write(p)
}

func (f faultFile) Sync() error {
	return errors.Join(f.f.op("sync"), f.File.Sync())
}

func (f faultFile) Close() error {
	return errors.Join(f.f.op("close"), f.File.Close())
}

// TestFaults fails each operation of a write in turn: the write reports it, and
// leaves the old object or the new one, and nothing else. The order of what did
// not fail is what makes an object durable.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name       string
		ifNotExist bool
		want       string
	}{
		{"create", true, "mkdir create write chtimes sync close chtimes link syncdir syncdir"},
		{"replace", false, "mkdir create write chtimes sync close chtimes rename syncdir syncdir"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			for fail := 0; ; fail++ {
				dir := t.TempDir()
				root, err := vfs.OpenOS(dir)
				must(t, err)
				old, version := "", ""
				if !tt.ifNotExist {
					old = "old"
					b := open(t, dir)
					must(t, write(b, "d/a.txt", old, "", gcblob.WriterOptions{}))
					version = versionOf(t, b, "d/a.txt")
				}
				fsys := &faultFS{FS: root, fail: fail}
				b := gcblob.NewBucket(newBucket(fsys, root.Close))
				err = write(b, "d/a.txt", "new", version, gcblob.WriterOptions{
					IfNotExist: tt.ifNotExist,
					Metadata:   map[string]string{"mtime": "2026-01-02T03:04:05Z"},
				})
				ops := strings.Join(fsys.ops, " ")
				got, _ := open(t, dir).ReadAll(ctx, "d/a.txt")
				published := strings.Contains(ops, "syncdir")
				if published && string(got) != "new" || !published && string(got) != old {
					t.Errorf("after %s it has %q", ops, got)
				}
				for _, name := range tree(t, dir) {
					if strings.Contains(name, ".tmp") {
						t.Errorf("after %s there is %s", ops, name)
					}
				}
				must(t, b.Close())
				if fail == len(fsys.ops) {
					must(t, err)
					if ops != tt.want {
						t.Errorf("operations: %s; want %s", ops, tt.want)
					}
					return
				}
				if !errors.Is(err, errFault) {
					t.Errorf("after %s: %v", ops, err)
				}
			}
		})
	}
}

func TestDeleteIsDurable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	must(t, write(open(t, dir), "d/a.txt", "x", "", gcblob.WriterOptions{}))
	root, err := vfs.OpenOS(dir)
	must(t, err)
	fsys := &faultFS{FS: root, fail: -1}
	b := gcblob.NewBucket(newBucket(fsys, root.Close))
	must(t, b.Delete(ctx, "d/a.txt"))
	must(t, b.Close())
	if got := strings.Join(fsys.ops, " "); got != "remove syncdir" {
		t.Errorf("operations: %s", got)
	}
}

// TestCancelledWriter is the way of NewWriter, which package blob does not take.
func TestCancelledWriter(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	b := open(t, dir)
	c, cancel := context.WithCancel(ctx)
	w, err := b.NewWriter(c, "a.txt", &gcblob.WriterOptions{ContentType: "x/y"})
	must(t, err)
	_, err = io.WriteString(w, "x")
	must(t, err)
	cancel()
	if err := w.Close(); !errors.Is(err, context.Canceled) {
		t.Errorf("Close = %v", err)
	}
	if got := tree(t, dir); len(got) != 0 {
		t.Errorf("tree %q", got)
	}
}
