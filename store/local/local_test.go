package local_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/local"
	"github.com/rollout-sync/rollout/store/storetest"
)

var ctx = context.Background()

func open(t *testing.T, dir string, o *local.Options) *local.Store {
	t.Helper()
	s, err := local.Open(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func TestStore(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T) storetest.Harness {
		dir := t.TempDir()
		return storetest.Harness{
			Store:     open(t, dir, nil),
			Reopen:    func() storetest.Store { return open(t, dir, nil) },
			FoldsCase: runtime.GOOS == "darwin" || runtime.GOOS == "windows",
			LongLine:  100 << 20,
		}
	})
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, s store.Source, name string) string {
	t.Helper()
	f, err := s.Open(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r, err := f.Range(ctx, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	got, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(got)
}

func TestMissingDirectory(t *testing.T) {
	t.Parallel()
	_, err := local.Open(filepath.Join(t.TempDir(), "none"), nil)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestSymbolicLinks(t *testing.T) {
	t.Parallel()
	dir, outside := t.TempDir(), t.TempDir()
	write(t, filepath.Join(outside, "secret.jsonl"), []byte("secret\n"))
	write(t, filepath.Join(dir, "real.jsonl"), []byte("real\n"))
	write(t, filepath.Join(dir, "dir", "in.jsonl"), []byte("real\n"))
	for link, target := range map[string]string{
		"out":         outside,
		"out.jsonl":   filepath.Join(outside, "secret.jsonl"),
		"alias.jsonl": "real.jsonl",
		"alias":       "dir",
	} {
		if err := os.Symlink(target, filepath.Join(dir, link)); err != nil {
			t.Skipf("this system makes no symbolic links: %v", err)
		}
	}
	s := open(t, dir, nil)
	v := version(t, s, "dir/in.jsonl")
	for _, name := range []string{"out/secret.jsonl", "out.jsonl", "alias.jsonl", "alias/in.jsonl"} {
		_, opening := s.Open(ctx, name)
		_, appending := s.Append(ctx, name)
		for what, err := range map[string]error{"Open": opening, "Append": appending, "Remove": s.Remove(ctx, name, v)} {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s(%s) = %v", what, name, err)
			}
		}
	}
	for _, name := range []string{"out/new.jsonl", "alias/new.jsonl", "out.jsonl"} {
		if _, err := s.Create(ctx, name); err == nil {
			t.Errorf("Create(%s) followed a symbolic link", name)
		}
		if _, err := s.Put(ctx, name, store.BytesBody(nil, time.Time{}), store.Cond{IfAbsent: true}); err == nil {
			t.Errorf("Put(%s) followed a symbolic link", name)
		}
	}
	var names []string
	for e, err := range s.List(ctx, ".", store.ListOptions{}) {
		if err != nil {
			t.Error(err)
		}
		names = append(names, e.Name)
	}
	if got := strings.Join(names, " "); got != "dir real.jsonl" {
		t.Errorf("List yields %s", got)
	}
	for _, dir := range []string{"out", "alias"} {
		for _, err := range s.List(ctx, dir, store.ListOptions{}) {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("List(%s) = %v", dir, err)
			}
		}
	}
	if _, err := os.Lstat(filepath.Join(outside, "new.jsonl")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file was made outside: %v", err)
	}
}

// Locks are where the directory is, wherever the process goes.
func TestRelativeDirectory(t *testing.T) {
	dir := t.TempDir()
	t.Chdir(dir)
	s := open(t, ".", nil)
	t.Chdir(t.TempDir())
	l, err := s.Create(ctx, "a.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, dir, nil).Append(ctx, "a.jsonl"); !errors.Is(err, store.ErrBusy) {
		t.Errorf("Append of another = %v", err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func version(t *testing.T, s *local.Store, name string) string {
	t.Helper()
	f, err := s.Open(ctx, name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return f.Info().Version
}

func seal(t *testing.T, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	z := codec.NewSealer(&b, time.Unix(1, 0))
	if _, err := io.WriteString(z, content); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func stream(t *testing.T, content string) []byte {
	t.Helper()
	var b bytes.Buffer
	z, err := zstd.NewWriter(&b)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(z, content); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// A log may lie plain, compressed, or, after a crash or a mistake, both ways.
func TestForms(t *testing.T) {
	t.Parallel()
	const whole = "one\ntwo\nthree\n"
	for what, c := range map[string]struct {
		plain  string // "-": none
		sealed []byte
		want   string
		size   int64
	}{
		"plain":                    {whole, nil, whole, int64(len(whole))},
		"sealed by us":             {"-", seal(t, whole), whole, int64(len(whole))},
		"a stream without a size":  {"-", stream(t, whole), whole, -1},
		"both, equal":              {whole, seal(t, whole), whole, int64(len(whole))},
		"both, plain is longer":    {whole + "four\n", seal(t, whole), whole + "four\n", int64(len(whole)) + 5},
		"both, plain differs":      {"other\n", seal(t, whole), "other\n", 6},
		"both, plain is cut short": {"one\ntw", seal(t, whole), whole, int64(len(whole))},
		"both, plain is empty":     {"", stream(t, whole), whole, -1},
		"both, sealed is damaged":  {"one\n", seal(t, whole)[:20], "one\n", 4},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			if c.plain != "-" {
				write(t, filepath.Join(dir, "a.jsonl"), []byte(c.plain))
			}
			if c.sealed != nil {
				write(t, filepath.Join(dir, "a.jsonl.zst"), c.sealed)
			}
			s := open(t, dir, nil)
			if got := read(t, s, "a.jsonl"); got != c.want {
				t.Errorf("read %q, want %q", got, c.want)
			}
			f, err := s.Open(ctx, "a.jsonl")
			if err != nil {
				t.Fatal(err)
			}
			if got := f.Info().Size; got != c.size {
				t.Errorf("Size = %d, want %d", got, c.size)
			}
			f.Close()
			n := 0
			for e, err := range s.List(ctx, ".", store.ListOptions{}) {
				if n++; err != nil || e.Name != "a.jsonl" {
					t.Errorf("List yields %s, %v", e.Name, err)
				}
			}
			if n != 1 {
				t.Errorf("List yields %d entries", n)
			}

			l, err := s.Append(ctx, "a.jsonl")
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Append([]byte("more\n")); err != nil {
				t.Fatal(err)
			}
			l.Close()
			if got := read(t, s, "a.jsonl"); got != c.want+"more\n" {
				t.Errorf("after Append: read %q, want %q", got, c.want+"more\n")
			}
			if got, err := os.ReadFile(filepath.Join(dir, "a.jsonl")); string(got) != c.want+"more\n" {
				t.Errorf("after Append the plain file has %q, %v", got, err)
			}
		})
	}
}

func TestDamagedSealedLog(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := seal(t, "one\ntwo\n")
	write(t, filepath.Join(dir, "cut.jsonl.zst"), good[:len(good)/2])
	write(t, filepath.Join(dir, "text.jsonl.zst"), []byte("this is not zstd at all, only its name says so\n"))
	write(t, filepath.Join(dir, "empty.jsonl.zst"), nil)
	s := open(t, dir, nil)
	for _, name := range []string{"cut.jsonl", "text.jsonl", "empty.jsonl"} {
		f, err := s.Open(ctx, name)
		if err == nil {
			var r io.ReadCloser
			if r, err = f.Range(ctx, 0, -1); err == nil {
				_, err = io.ReadAll(r)
				r.Close()
			}
			f.Close()
		}
		if !errors.Is(err, store.ErrCorrupt) {
			t.Errorf("%s: got %v, want ErrCorrupt", name, err)
		}
		t.Log(err)
	}
}

// Two Stores on one directory are as two processes: their locks are of the system.
func TestLocksBetweenStores(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	codexLock := &local.Options{Lock: func(name string) local.Lock {
		return local.Lock{File: "locks/" + filepath.Base(name) + ".lock", Gate: "locks/.coordination.lock"}
	}}
	for what, o := range map[string]*local.Options{"default": nil, "gated": codexLock} {
		t.Run(what, func(t *testing.T) {
			a, b := open(t, dir, o), open(t, dir, o)
			name := what + ".jsonl"
			l, err := a.Create(ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			if _, err := b.Append(ctx, name); !errors.Is(err, store.ErrBusy) {
				t.Errorf("Append in the other store: %v", err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
			l, err = b.Append(ctx, name)
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		})
	}
	left, err := filepath.Glob(filepath.Join(dir, "locks", "gated*"))
	if err != nil || len(left) > 0 {
		t.Errorf("lock files left behind: %q, %v", left, err)
	}
}

func ExampleOpen() {
	dir, err := os.MkdirTemp("", "")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)

	s, err := local.Open(dir, nil)
	if err != nil {
		panic(err)
	}
	defer s.Close()
	l, err := s.Create(ctx, "2026/notes.jsonl")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	if err := l.Append([]byte(`{"note":"durable from here on"}` + "\n")); err != nil {
		panic(err)
	}
	fmt.Println(l.Sync(), l.Size())
	// Output: <nil> 32
}

// An unordered List may meet a log in both its forms; each time it tells of the one
// that holds it.
func TestUnorderedBothForms(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := open(t, dir, nil)
	l, err := s.Create(ctx, "a.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Append([]byte("{}\n")), l.Seal(ctx), l.Close()); err != nil {
		t.Fatal(err)
	}
	// The plain form was cut short, so the compressed one holds it.
	sealed := seal(t, "{}\n{}\n")
	write(t, filepath.Join(dir, "a.jsonl.zst"), sealed)
	want := version(t, s, "a.jsonl")
	n := 0
	for e, err := range s.List(ctx, ".", store.ListOptions{Unordered: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; e.Name != "a.jsonl" || e.Info.Version != want || e.Info.Stored != int64(len(sealed)) {
			t.Errorf("got %+v", e)
		}
	}
	if n != 2 {
		t.Errorf("%d entries", n)
	}
}

// An unordered List of a directory that is too large to be known at once tells of the form
// that Open would take.
func TestListOfManyForms(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var sealed bytes.Buffer
	w := codec.NewSealer(&sealed, time.Time{})
	_, err := w.Write([]byte("a line\n"))
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	const logs = 1100
	for i := range logs {
		name := filepath.Join(dir, fmt.Sprintf("%d.jsonl", i))
		write(t, name, nil)
		write(t, name+".zst", sealed.Bytes())
	}
	found := map[string]bool{}
	for e, err := range open(t, dir, nil).List(ctx, ".", store.ListOptions{Unordered: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if found[e.Name] = true; e.Info.Stored != int64(sealed.Len()) {
			t.Errorf("%s: %d bytes are stored, want those of the compressed form, %d", e.Name, e.Info.Stored, sealed.Len())
		}
	}
	if len(found) != logs {
		t.Errorf("%d logs, want %d", len(found), logs)
	}
}
