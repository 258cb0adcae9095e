package blob_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/url"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/klauspost/compress/zstd"
	gcblob "gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/blob/memblob"
	"gocloud.dev/gcerrors"

	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/blob"
	"github.com/rollout-sync/rollout/store/blob/dirblob"
	"github.com/rollout-sync/rollout/store/blob/mem"
	"github.com/rollout-sync/rollout/store/storetest"
)

var ctx = context.Background()

// A backend is a bucket, and its service.
type backend struct {
	name    string
	service blob.Service
	open    func(t *testing.T) opener
}

// An opener opens one bucket, again and again.
type opener func() *gcblob.Bucket

var backends = []backend{
	{"fake", fakeService(), func(*testing.T) opener { return newFake().open }},
	{"deaf", deafService(), func(*testing.T) opener { f := newFake(); f.deaf = true; return f.open }},
	{"mem", mem.Service(), openMem},
	{"mem-prefixed", mem.Service(), prefixed(openMem)},
	{"dir", dirblob.Service(), openDir},
	{"dir-prefixed", dirblob.Service(), prefixed(openDir)},
}

// deafService is that of a server without conditions.
func deafService() blob.Service {
	s := fakeService()
	s.SingleWriter = true
	return s
}

// openMem opens a bucket in memory; every memblob is a bucket of its own.
func openMem(*testing.T) opener {
	return func() *gcblob.Bucket { return memblob.OpenBucket(nil) }
}

func openDir(t *testing.T) opener {
	dir := t.TempDir()
	return func() *gcblob.Bucket {
		b, err := dirblob.OpenBucket(dir, nil)
		must(t, err)
		return b
	}
}

func prefixed(open func(*testing.T) opener) func(*testing.T) opener {
	return func(t *testing.T) opener {
		open := open(t)
		return func() *gcblob.Bucket { return gcblob.PrefixedBucket(open(), "team/a/") }
	}
}

// newStore returns a Store that ends with the test.
func newStore(t *testing.T, bucket *gcblob.Bucket, service blob.Service) *blob.Store {
	s := blob.New(bucket, &blob.Options{Service: service, SpoolDir: t.TempDir()})
	t.Cleanup(func() { s.Close() })
	return s
}

func (b backend) store(t *testing.T) *blob.Store { return newStore(t, b.open(t)(), b.service) }

func TestConformance(t *testing.T) {
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, func(t *testing.T) storetest.Harness {
				open := b.open(t)
				h := storetest.Harness{Store: newStore(t, open(), b.service), WriteOnce: true}
				if !b.service.SingleWriter { // there may be others
					h.Reopen = func() storetest.Store { return newStore(t, open(), b.service) }
				}
				if strings.HasPrefix(b.name, "dir") {
					h.FoldsCase = runtime.GOOS == "darwin" || runtime.GOOS == "windows"
				}
				return h
			})
		})
	}
}

// modTime is when all bodies were changed.
var modTime = time.Date(2026, 2, 3, 4, 5, 6, 789, time.UTC)

func body(p []byte) store.Body { return store.BytesBody(p, modTime) }

func put(t *testing.T, s *blob.Store, name string, p []byte) string {
	t.Helper()
	version, err := s.Put(ctx, name, body(p), store.Cond{IfAbsent: true})
	must(t, err)
	return version
}

func read(s *blob.Store, name string, off, n int64) ([]byte, error) {
	f, err := s.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readRange(f, off, n)
}

func readRange(f store.File, off, n int64) ([]byte, error) {
	r, err := f.Range(ctx, off, n)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, err error, want ...error) {
	t.Helper()
	for _, w := range want {
		if !errors.Is(err, w) {
			t.Errorf("%s: got %v, want %v", what, err, w)
		}
	}
}

// lines returns n bytes of lines that compress to about a third. Those of more
// than a few begin as a session does, so that the first frame is small.
func lines(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	var b bytes.Buffer
	if n > 10_000 {
		b.WriteString(`{"timestamp":"2026-02-03T04:05:06.000Z","type":"session_meta","payload":{"id":"0194d0c8-1f2e-7000-8000-000000000001","timestamp":"2026-02-03T04:05:06.000Z","cwd":"/w","originator":"x","cli_version":"0.1.0","source":"cli"}}` + "\n")
		b.WriteString(`{"timestamp":"2026-02-03T04:05:06.000Z","type":"event_msg","payload":{"type":"user_message","message":"hello"}}` + "\n")
	}
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, `{"i":%d,"text":"%x the same words again and again and again"}`+"\n", i, r.Uint64())
	}
	return b.Bytes()[:n]
}

func TestRequests(t *testing.T) {
	t.Parallel()
	large := lines(6 << 20)
	tests := []struct {
		name    string
		prepare func(f *fake, s *blob.Store)
		log     string
		do      func(t *testing.T, s *blob.Store)
		want    string
	}{
		{name: "open small", log: "a.jsonl", want: "get"},
		{name: "open large", log: "large.jsonl", want: "get"},
		{name: "open raw", log: "a.txt", want: "get"},
		{name: "open empty object", log: "empty.txt", want: "get head"},
		{name: "open without metadata", log: "bare.jsonl", want: "get get"},
		{name: "open small without metadata", log: "small-bare.jsonl", want: "get"},
		{name: "open a foreign file", log: "foreign.jsonl", want: "get"},
		{name: "read all of a small one", log: "a.jsonl", want: "get", do: func(t *testing.T, s *blob.Store) {
			_, err := read(s, "a.jsonl", 0, -1)
			must(t, err)
		}},
		{name: "read the head of a large one", log: "large.jsonl", want: "get", do: func(t *testing.T, s *blob.Store) {
			_, err := read(s, "large.jsonl", 0, 10)
			must(t, err)
		}},
		{name: "read the middle twice", log: "large.jsonl", want: "get get get get", do: func(t *testing.T, s *blob.Store) {
			f, err := s.Open(ctx, "large.jsonl")
			must(t, err)
			for range 2 {
				_, err := readRange(f, 3<<20, 100)
				must(t, err)
			}
		}},
		{name: "read all of a large one", log: "large.jsonl", want: "get get", do: func(t *testing.T, s *blob.Store) {
			_, err := read(s, "large.jsonl", 0, -1)
			must(t, err)
		}},
		{name: "read a raw middle", log: "raw.bin", want: "get get", do: func(t *testing.T, s *blob.Store) {
			_, err := read(s, "raw.bin", 1<<20, 100)
			must(t, err)
		}},
		{name: "an empty range", log: "raw.bin", want: "get", do: func(t *testing.T, s *blob.Store) {
			_, err := read(s, "raw.bin", 1<<40, 100)
			must(t, err)
		}},
		{name: "put", want: "put", do: func(t *testing.T, s *blob.Store) { put(t, s, "new.jsonl", large) }},
		{name: "create and seal", want: "head put", do: func(t *testing.T, s *blob.Store) {
			l, err := s.Create(ctx, "new.jsonl")
			must(t, err)
			must(t, l.Seal(ctx))
			must(t, l.Close())
		}},
		{name: "list", want: "list list", do: func(t *testing.T, s *blob.Store) {
			for _, err := range s.List(ctx, "d", store.ListOptions{}) {
				must(t, err)
			}
		}},
		{name: "list a few", want: "list", do: func(t *testing.T, s *blob.Store) {
			for _, err := range s.List(ctx, "d", store.ListOptions{Limit: 3}) {
				must(t, err)
			}
		}},
		{name: "remove", want: "head delete", do: func(t *testing.T, s *blob.Store) {
			f, err := s.Open(ctx, "a.jsonl")
			must(t, err)
			must(t, s.Remove(ctx, "a.jsonl", f.Info().Version))
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFake()
			s := f.store(t)
			put(t, s, "a.jsonl", lines(1000))
			put(t, s, "large.jsonl", large)
			put(t, s, "a.txt", []byte("text"))
			put(t, s, "empty.txt", nil)
			put(t, s, "raw.bin", large)
			for i := range 15 {
				put(t, s, fmt.Sprintf("d/%02d.jsonl", i), nil)
			}
			bare, _ := f.get("large.jsonl.zst")
			f.put("bare.jsonl.zst", bare.bytes, nil)
			small, _ := f.get("a.jsonl.zst")
			f.put("small-bare.jsonl.zst", small.bytes, nil)
			f.put("foreign.jsonl.zst", foreign(lines(1000)), nil)
			if tt.do == nil {
				tt.do = func(t *testing.T, s *blob.Store) {
					_, err := s.Open(ctx, tt.log)
					must(t, err)
				}
			}
			if tt.name == "remove" {
				tt.want = "get " + tt.want
			}
			f.take()
			tt.do(t, s)
			if got := f.take(); got != tt.want {
				t.Errorf("requests: %s; want %s", got, tt.want)
			}
		})
	}
}

// foreign returns p as another program would compress it, in one frame.
func foreign(p []byte) []byte {
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return enc.EncodeAll(p, nil)
}

// foreignStream is foreign without the size in its header.
func foreignStream(p []byte) []byte {
	var b bytes.Buffer
	enc, err := zstd.NewWriter(&b)
	if err != nil {
		panic(err)
	}
	enc.Write(p[:len(p)/2])
	enc.Flush()
	enc.Write(p[len(p)/2:])
	enc.Close()
	return b.Bytes()
}

func TestObjects(t *testing.T) {
	t.Parallel()
	f := newFake()
	var options *driver.WriterOptions
	f.written = func(o *driver.WriterOptions) { options = o }
	s := f.store(t)
	want := lines(100_000)
	put(t, s, "d/a.jsonl", want)

	o, ok := f.get("d/a.jsonl.zst")
	if !ok || len(f.keys()) != 1 {
		t.Fatalf("keys: %q", f.keys())
	}
	if o.contentType != "application/zstd" || options.ContentEncoding != "" {
		t.Errorf("content type %q, encoding %q", o.contentType, options.ContentEncoding)
	}
	dec, err := zstd.NewReader(nil)
	must(t, err)
	if got, err := dec.DecodeAll(o.bytes, nil); err != nil || !bytes.Equal(got, want) {
		t.Errorf("zstd reads %d bytes, %v", len(got), err)
	}
	sum := body(want).SHA256
	for key, want := range map[string]string{
		"sha256": hex.EncodeToString(sum[:]),
		"size":   "100000",
		"mtime":  "2026-02-03T04:05:06.000000789Z",
	} {
		if o.meta[key] != want {
			t.Errorf("metadata %s = %q, want %q", key, o.meta[key], want)
		}
	}
	file, err := s.Open(ctx, "d/a.jsonl")
	must(t, err)
	i := file.Info()
	if i.Size != 100_000 || i.Stored != int64(len(o.bytes)) || !i.Seekable || !i.ModTime.Equal(modTime) ||
		i.Meta[store.MetaSHA256] != o.meta["sha256"] {
		t.Errorf("Info = %+v", i)
	}

	// The stored form has a name of its own, and it says nothing of the plain bytes.
	got, err := read(s, "d/a.jsonl.zst", 0, -1)
	if err != nil || !bytes.Equal(got, o.bytes) {
		t.Errorf("the stored form has %d bytes, %v", len(got), err)
	}
	file, err = s.Open(ctx, "d/a.jsonl.zst")
	must(t, err)
	if i := file.Info(); i.Size != i.Stored || i.Size != int64(len(o.bytes)) || i.Meta[store.MetaSHA256] != "" {
		t.Errorf("Info of the stored form = %+v", i)
	}
	// And the other way round: rescued bytes are a log again.
	put(t, s, "d/b.jsonl.zst", o.bytes)
	if got, err := read(s, "d/b.jsonl", 0, -1); err != nil || !bytes.Equal(got, want) {
		t.Errorf("put in its stored form it has %d bytes, %v", len(got), err)
	}
	file, err = s.Open(ctx, "d/b.jsonl")
	must(t, err)
	if i := file.Info(); i.Size != 100_000 || !i.ModTime.Equal(modTime) {
		t.Errorf("Info of what was put in its stored form = %+v", i)
	}

	l, err := s.Create(ctx, "d/c.jsonl")
	must(t, err)
	must(t, l.Append([]byte("one\ntwo\n")))
	must(t, l.Seal(ctx))
	must(t, l.Close())
	if o, _ := f.get("d/c.jsonl.zst"); o.meta["lines"] != "2" || o.meta["size"] != "8" {
		t.Errorf("metadata of a sealed Log: %v", o.meta)
	}
}

func TestForeign(t *testing.T) {
	t.Parallel()
	want := lines(3 << 20)
	for _, tt := range []struct {
		name   string
		stored []byte
		size   int64
	}{
		{"one frame with its size", foreign(want), int64(len(want))},
		{"no size", foreignStream(want), -1},
		{"two frames", slices.Concat(foreignStream(want[:1<<20]), foreign(want[1<<20:])), -1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			f := newFake()
			s := f.store(t)
			f.put("a.jsonl.zst", tt.stored, nil)
			file, err := s.Open(ctx, "a.jsonl")
			must(t, err)
			if i := file.Info(); i.Size != tt.size || i.Seekable {
				t.Errorf("Size = %d, want %d; Seekable = %v", i.Size, tt.size, i.Seekable)
			}
			if got, err := readRange(file, 0, -1); err != nil || !bytes.Equal(got, want) {
				t.Errorf("read %d bytes, %v", len(got), err)
			}
			if got, err := readRange(file, -100, 50); err != nil || !bytes.Equal(got, want[len(want)-100:len(want)-50]) {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
}

func TestListNames(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := f.store(t)
	for _, key := range []string{
		"d/a.jsonl.zst", "d/a.jsonl", "d/only-plain.jsonl", "d/raw.zst", "d/x.txt", "d/", "d/.hidden", "d/a\\b",
		"d/e/f.jsonl.zst", "d/.e/f.jsonl.zst", "d/g//h.txt", "d/i.jsonl/j.txt", "d/i.jsonl.zst",
	} {
		f.put(key, []byte("xyz"), nil)
	}
	var got []string
	for e, err := range s.List(ctx, "d", store.ListOptions{}) {
		must(t, err)
		line := e.Name
		if e.Dir {
			line += "/"
		} else {
			line += fmt.Sprintf(" %d %d %v", e.Info.Size, e.Info.Stored, e.Info.Version != "")
		}
		got = append(got, line)
	}
	want := []string{"d/a.jsonl -1 3 true", "d/e/", "d/g/", "d/i.jsonl -1 3 true", "d/raw.zst 3 3 true", "d/x.txt 3 3 true"}
	if !slices.Equal(got, want) {
		t.Errorf("List = %q, want %q", got, want)
	}
}

// TestListModel compares List with what the same names give when they are sorted,
// for keys whose order is not that of their names.
func TestListModel(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	pieces := []string{"a", "b", "-", "0", ".jsonl", ".txt", "/c.txt", "a.jsonl/d"}
	for round := range 100 {
		f := newFake()
		s := f.store(t)
		for range 1 + r.IntN(25) {
			name := "a"
			for range r.IntN(4) {
				name += pieces[r.IntN(len(pieces))]
			}
			if isLog := strings.HasSuffix(name, ".jsonl"); isLog {
				name += ".zst"
			}
			f.put(name, nil, nil)
		}
		list := func(o store.ListOptions) (names []string) {
			for e, err := range s.List(ctx, ".", o) {
				must(t, err)
				names = append(names, e.Name)
			}
			return names
		}
		all := list(store.ListOptions{})
		if !slices.IsSorted(all) || len(slices.Compact(slices.Clone(all))) != len(all) {
			t.Fatalf("round %d: %q", round, all)
		}
		for _, before := range append(all, "", "a-") {
			for limit := range 4 {
				for _, desc := range []bool{false, true} {
					want := slices.DeleteFunc(slices.Clone(all), func(n string) bool { return before != "" && n >= before })
					if desc {
						slices.Reverse(want)
					}
					if limit > 0 {
						want = want[:min(limit, len(want))]
					}
					o := store.ListOptions{Desc: desc, Before: before, Limit: limit}
					if got := list(o); !slices.Equal(got, want) {
						t.Fatalf("keys %q: List(%+v) = %q, want %q", f.keys(), o, got, want)
					}
				}
			}
		}
	}
}

func TestDamage(t *testing.T) {
	t.Parallel()
	want := lines(3 << 20)
	f := newFake()
	s := f.store(t)
	put(t, s, "good.jsonl", want)
	good, _ := f.get("good.jsonl.zst")
	n := len(good.bytes)
	flip := func(at int) []byte {
		p := bytes.Clone(good.bytes)
		p[at] ^= 0x10
		return p
	}
	for name, stored := range map[string][]byte{
		"first byte":        flip(0),
		"in the head":       flip(1000),
		"in the middle":     flip(n / 2),
		"in the trailer":    flip(n - 80),
		"in the table":      flip(n - 12),
		"last byte":         flip(n - 1),
		"cut at half":       good.bytes[:n/2],
		"cut by one byte":   good.bytes[:n-1],
		"one byte too many": append(bytes.Clone(good.bytes), 0),
		"nothing left":      {},
		"not zstd":          []byte("hello"),
		"another's end":     slices.Concat(good.bytes[:n/3], good.bytes[n/2:]),
	} {
		for _, meta := range []map[string]string{good.meta, nil} {
			t.Run(fmt.Sprintf("%s/%d metadata", name, len(meta)), func(t *testing.T) {
				t.Parallel()
				f := newFake()
				s := f.store(t)
				f.put("d/a.jsonl.zst", stored, meta)
				got, err := read(s, "d/a.jsonl", 0, -1)
				if isTable := name == "in the table" || name == "last byte"; !isTable || err != nil {
					wantErr(t, "reading it all", err, store.ErrCorrupt)
				} // else the seek table was not needed
				if !bytes.HasPrefix(want, got) || err == nil && len(got) != len(want) {
					t.Errorf("got %d bytes that were never written", len(got))
				}
				if err != nil && !strings.Contains(err.Error(), " d/a.jsonl: damaged: ") {
					t.Errorf("the error reads %q", err)
				}
				got, err = read(s, "d/a.jsonl", 2<<20, -1)
				if inFront := name == "first byte" || name == "in the head"; !inFront || err != nil {
					wantErr(t, "reading the end", err, store.ErrCorrupt)
				} // else what is damaged was not needed
				if !bytes.HasPrefix(want[2<<20:], got) {
					t.Errorf("a range has %d bytes that were never written", len(got))
				}
			})
		}
	}
}

func TestMetadataThatLie(t *testing.T) {
	t.Parallel()
	for _, size := range []int{1000, 3 << 20} {
		f := newFake()
		s := f.store(t)
		put(t, s, "good.jsonl", lines(size))
		good, _ := f.get("good.jsonl.zst")
		for key, lie := range map[string]string{"size": "999", "sha256": strings.Repeat("0", 64), "lines": "1"} {
			t.Run(fmt.Sprintf("%s of %d bytes", key, size), func(t *testing.T) {
				t.Parallel()
				f := newFake()
				s := f.store(t)
				meta := map[string]string{key: lie}
				for k, v := range good.meta {
					if k != key {
						meta[k] = v
					}
				}
				f.put("a.jsonl.zst", good.bytes, meta)
				_, err := read(s, "a.jsonl", 500, 10)
				wantErr(t, "reading past the seek table", err, store.ErrCorrupt)
				if _, err = read(s, "a.jsonl", 0, -1); key == "size" {
					wantErr(t, "reading it all", err, store.ErrCorrupt)
				}
			})
		}
	}
}

func TestReplacedWhileOpen(t *testing.T) {
	t.Parallel()
	old, replacement := lines(4<<20), lines(5<<20)
	for _, b := range backends {
		for _, name := range []string{"a.jsonl", "a.bin"} {
			t.Run(b.name+"/"+name, func(t *testing.T) {
				t.Parallel()
				s := b.store(t)
				version := put(t, s, name, old)
				f, err := s.Open(ctx, name)
				must(t, err)
				defer f.Close()
				if got, err := readRange(f, 3<<20, 100); err != nil || !bytes.Equal(got, old[3<<20:][:100]) {
					t.Fatalf("before: %d bytes, %v", len(got), err)
				}
				version, err = s.Put(ctx, name, body(replacement), store.Cond{IfVersion: version})
				must(t, err)
				for _, off := range []int64{0, 3 << 20} {
					_, err = readRange(f, off, -1)
					wantErr(t, "a range of what was replaced", err, store.ErrChanged)
				}
				if got, err := readRange(f, 0, 10); err != nil || !bytes.Equal(got, old[:10]) {
					t.Errorf("the head, which is at hand: %q, %v", got, err)
				}
				f, err = s.Open(ctx, name)
				must(t, err)
				defer f.Close()
				must(t, s.Remove(ctx, name, version))
				_, err = readRange(f, 1<<20, -1)
				wantErr(t, "a range of what was removed", err, store.ErrChanged, fs.ErrNotExist)
			})
		}
	}
}

// TestOpenRaced replaces an object between the two requests of an Open at a
// service whose replies have no version.
func TestOpenRaced(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.mute = true
	s := f.store(t)
	put(t, s, "a.txt", []byte("old"))
	races := 2
	f.after = func(op, key string) error {
		if op == "get" && races > 0 {
			races--
			f.put(key, fmt.Appendf(nil, "new %d", races), nil)
		}
		return nil
	}
	if got, err := read(s, "a.txt", 0, -1); err != nil || string(got) != "new 0" {
		t.Errorf("got %q, %v", got, err)
	}
	races = 3
	_, err := read(s, "a.txt", 0, -1)
	wantErr(t, "Open", err, store.ErrChanged)
}

// TestShortReply is about connections that end early, which are neither the end of
// the log nor damage.
func TestShortReply(t *testing.T) {
	t.Parallel()
	content := lines(3 << 20)
	for _, short := range []error{io.EOF, &url.Error{Op: "Get", URL: "secret", Err: io.EOF}, errors.New("reset")} {
		for _, name := range []string{"a.jsonl", "a.bin"} {
			f := newFake()
			s := f.store(t)
			put(t, s, name, content)
			f.short = short
			got, err := read(s, name, 0, -1)
			if !bytes.HasPrefix(content, got) || len(got) == len(content) {
				t.Errorf("%s: %v: got %d bytes", name, short, len(got))
			}
			if err == nil || errors.Is(err, io.EOF) || errors.Is(err, store.ErrCorrupt) {
				t.Errorf("%s: %v: got %v", name, short, err)
			}
		}
	}
}

// TestStalledReply is about connections that stay, and bring nothing.
func TestStalledReply(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		s := f.store(t)
		put(t, s, "a.bin", lines(100_000))
		file, err := s.Open(ctx, "a.bin")
		must(t, err)
		f.stalled = true
		began := time.Now()
		_, err = readRange(file, 50_000, -1)
		wantErr(t, "Range", err, os.ErrDeadlineExceeded)
		_, err = s.Open(ctx, "a.bin")
		wantErr(t, "Open", err, os.ErrDeadlineExceeded)
		if took := time.Since(began); took > 10*time.Minute {
			t.Errorf("it took %v", took)
		}
		c, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_, err = s.Open(c, "a.bin")
		wantErr(t, "Open with a deadline", err, context.DeadlineExceeded)
	})
}

// A failingReader fails after some bytes.
type failingReader struct {
	r   io.Reader
	err error
}

func (r *failingReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	if err == io.EOF {
		err = r.err
	}
	return n, err
}

func TestFailingSource(t *testing.T) {
	t.Parallel()
	broken := errors.New("disk on fire")
	for _, b := range backends {
		for _, name := range []string{"a.jsonl", "a.bin"} {
			for _, size := range []int{0, 1000, 3 << 20} {
				for what, failure := range map[string]error{
					"plain":     broken,
					"like EOF":  fmt.Errorf("%w: %w", broken, io.EOF),
					"cancelled": fmt.Errorf("%w: %w", broken, context.Canceled),
				} {
					t.Run(fmt.Sprintf("%s/%s/%d/%s", b.name, name, size, what), func(t *testing.T) {
						t.Parallel()
						s := b.store(t)
						content := lines(size)
						source := body(content)
						source.Open = func() (io.ReadCloser, error) {
							return io.NopCloser(&failingReader{bytes.NewReader(content), failure}), nil
						}
						_, err := s.Put(ctx, name, source, store.Cond{IfAbsent: true})
						wantErr(t, "Put", err, broken)
						_, err = s.Open(ctx, name)
						wantErr(t, "Open", err, fs.ErrNotExist)
						for e, err := range s.List(ctx, ".", store.ListOptions{}) {
							t.Errorf("List has %v, %v", e, err)
						}
						version := put(t, s, name, []byte("old\n"))
						_, err = s.Put(ctx, name, source, store.Cond{IfVersion: version})
						wantErr(t, "Put over another", err, broken)
						if got, err := read(s, name, 0, -1); err != nil || string(got) != "old\n" {
							t.Errorf("then it has %d bytes, %v", len(got), err)
						}
					})
				}
			}
		}
	}
}

func TestLostAcknowledgement(t *testing.T) {
	t.Parallel()
	for _, code := range []gcerrors.ErrorCode{
		gcerrors.Unknown, gcerrors.FailedPrecondition, gcerrors.DeadlineExceeded, gcerrors.Internal,
	} {
		for _, committed := range []bool{true, false} {
			t.Run(fmt.Sprintf("%v/%v", code, committed), func(t *testing.T) {
				t.Parallel()
				f := newFake()
				s := f.store(t)
				old := put(t, s, "old.jsonl", []byte("old\n"))
				l, err := s.Create(ctx, "log.jsonl")
				must(t, err)
				defer l.Close()
				must(t, l.Append([]byte("log\n")))

				fault := func(op, _ string) error {
					if op == "put" {
						return coded{code, errors.New("connection reset")}
					}
					return nil
				}
				if committed {
					f.after = fault
				} else {
					f.before = fault
				}
				check := func(what string, err error, name, before, after string) {
					t.Helper()
					want := before
					if committed {
						want = after
						must(t, err)
					} else if err == nil {
						t.Errorf("%s reports success", what)
					}
					if got, err := read(s, name, 0, -1); string(got) != want || err != nil && want != "" {
						t.Errorf("%s: then it has %q, %v; want %q", what, got, err, want)
					}
				}
				_, err = s.Put(ctx, "new.jsonl", body([]byte("new\n")), store.Cond{IfAbsent: true})
				check("Put", err, "new.jsonl", "", "new\n")
				version, err := s.Put(ctx, "old.jsonl", body([]byte("newer\n")), store.Cond{IfVersion: old})
				check("replacing Put", err, "old.jsonl", "old\n", "newer\n")
				if o, _ := f.get("old.jsonl.zst"); committed && version != o.etag() {
					t.Errorf("version %s, want %s", version, o.etag())
				}
				check("Seal", l.Seal(ctx), "log.jsonl", "", "log\n")
			})
		}
	}
}

// TestSingleWriter has one Put stand between its comparison and its publication,
// at a server without conditions, while others try the same name.
func TestSingleWriter(t *testing.T) {
	t.Parallel()
	f := newFake()
	f.deaf = true
	s := newStore(t, f.open(), deafService())
	version := put(t, s, "a.jsonl", nil)
	inside, finish := make(chan bool), make(chan bool)
	f.before = func(op, _ string) error {
		if op == "put" {
			inside <- true
			<-finish
		}
		return nil
	}
	done := make(chan error)
	go func() {
		_, err := s.Put(ctx, "a.jsonl", body([]byte("x\n")), store.Cond{IfVersion: version})
		done <- err
	}()
	<-inside
	c, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	f.mu.Lock()
	f.before = nil
	f.mu.Unlock()
	_, err := s.Put(c, "a.jsonl", body([]byte("y\n")), store.Cond{IfVersion: version})
	wantErr(t, "a second Put meanwhile", err, context.DeadlineExceeded)
	c, cancel = context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	wantErr(t, "a Remove meanwhile", s.Remove(c, "a.jsonl", version), context.DeadlineExceeded)
	put(t, s, "b.jsonl", nil)
	close(finish)
	must(t, <-done)
	if got, err := read(s, "a.jsonl", 0, -1); err != nil || string(got) != "x\n" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestRefused is about errors that hide who has won.
func TestRefused(t *testing.T) {
	t.Parallel()
	same := []byte("same bytes\n")
	for _, code := range []gcerrors.ErrorCode{gcerrors.Unknown, gcerrors.FailedPrecondition} {
		t.Run(code.String(), func(t *testing.T) {
			t.Parallel()
			f := newFake()
			s := f.store(t)
			l, err := s.Create(ctx, "log.jsonl")
			must(t, err)
			defer l.Close()
			must(t, l.Append(same))
			// Somebody else stores the very same bytes right before us.
			busy := false
			f.before = func(op, key string) error {
				if op != "put" || busy {
					return nil
				}
				busy = true
				defer func() { busy = false }()
				_, err := s.Put(ctx, strings.TrimSuffix(key, ".zst"), body(same), store.Cond{IfAbsent: true})
				if err != nil {
					t.Error(err)
				}
				return coded{code, errors.New("broken pipe")}
			}
			_, err = s.Put(ctx, "a.jsonl", body(same), store.Cond{IfAbsent: true})
			wantErr(t, "Put", err, store.ErrChanged)
			wantErr(t, "Seal", l.Seal(ctx), fs.ErrExist)
		})
	}
}

func TestCancelledAtTheEnd(t *testing.T) {
	t.Parallel()
	for _, committed := range []bool{true, false} {
		f := newFake()
		s := f.store(t)
		c, cancel := context.WithCancel(ctx)
		fault := func(op, _ string) error {
			if op == "put" {
				cancel()
				return c.Err()
			}
			return nil
		}
		if committed {
			f.after = fault
		} else {
			f.before = fault
		}
		_, err := s.Put(c, "a.jsonl", body([]byte("x\n")), store.Cond{IfAbsent: true})
		if _, there := f.get("a.jsonl.zst"); there != committed || there != (err == nil) {
			t.Errorf("committed %v: there %v, %v", committed, there, err)
		}
		if !committed {
			wantErr(t, "Put", err, context.Canceled)
		}
	}
}

// TestReplacedRightAfter is about the request for the version.
func TestReplacedRightAfter(t *testing.T) {
	t.Parallel()
	f := newFake()
	service := fakeService()
	prepare := service.Write
	service.Write = func(b *gcblob.Bucket, as func(any) bool, w blob.Write) (func() string, error) {
		_, err := prepare(b, as, w)
		return nil, err
	}
	s := newStore(t, f.open(), service)
	if version := put(t, s, "a.jsonl", nil); version != "v1" {
		t.Errorf("version %q", version)
	}
	if got := f.take(); got != "put head" {
		t.Errorf("requests: %s", got)
	}
	f.after = func(op, key string) error {
		if op == "put" {
			f.put(key, nil, map[string]string{"put": "another"})
		}
		return nil
	}
	_, err := s.Put(ctx, "b.jsonl", body(nil), store.Cond{IfAbsent: true})
	wantErr(t, "Put", err, store.ErrChanged)
	f.after = func(op, key string) error {
		if op == "head" {
			return errors.New("no route to host")
		}
		return nil
	}
	if version := put(t, s, "c.jsonl", nil); version != "" {
		t.Errorf("version %q", version)
	}
}

func TestSpool(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	f := newFake()
	s := blob.New(f.open(), &blob.Options{Service: fakeService(), SpoolDir: dir})
	left := func() int {
		entries, err := os.ReadDir(dir)
		must(t, err)
		return len(entries)
	}
	l, err := s.Create(ctx, "a.jsonl")
	must(t, err)
	content := lines(5 << 20)
	for line := range bytes.Lines(content) {
		must(t, l.Append(line))
	}
	if l.Size() != int64(len(content)) {
		t.Errorf("Size = %d", l.Size())
	}
	must(t, l.Close())
	if n := left(); n != 0 {
		t.Errorf("%d files left after Close", n)
	}
	if keys := f.keys(); len(keys) != 0 {
		t.Errorf("Close published %q", keys)
	}

	// A Seal that failed may be repeated, and finds what an earlier one stored.
	l, err = s.Create(ctx, "a.jsonl")
	must(t, err)
	must(t, l.Append(content))
	f.before = func(string, string) error { return errors.New("no route to host") }
	if err := l.Seal(ctx); err == nil {
		t.Error("Seal reports success")
	}
	f.before = nil
	f.after = func(op, _ string) error {
		if op == "put" || op == "head" { // the acknowledgement, and the look for it
			return errors.New("no route to host")
		}
		return nil
	}
	if err := l.Seal(ctx); err == nil {
		t.Error("Seal reports success")
	}
	f.after = nil
	must(t, l.Seal(ctx))
	must(t, l.Close())
	if got, err := read(s, "a.jsonl", 0, -1); err != nil || !bytes.Equal(got, content) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if n := left(); n != 0 {
		t.Errorf("%d files left after Seal", n)
	}

	missing := blob.New(f.open(), &blob.Options{SpoolDir: dir + "/none"})
	_, err = missing.Create(ctx, "b.jsonl")
	wantErr(t, "Create without a place to spool", err, fs.ErrNotExist)
}

// TestPartSize has objects of all sizes begin, of which the large ones end too early.
func TestPartSize(t *testing.T) {
	t.Parallel()
	content := noise(17 << 20)
	for _, size := range []int64{0, 1 << 20, 17 << 20, 70 << 30, 1 << 40, 5 << 40} {
		f := newFake()
		part := 0
		f.written = func(o *driver.WriterOptions) { part = o.BufferSize }
		s := f.store(t)
		b := store.BytesBody(content[:min(size, int64(len(content)))], modTime)
		r := content[:b.Size]
		b.Open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(r)), nil }
		b.Size = size
		_, err := s.Put(ctx, "a.jsonl", b, store.Cond{IfAbsent: true})
		if size > int64(len(content)) {
			wantErr(t, "Put of a body that is shorter", err, store.ErrChanged)
		} else {
			must(t, err)
		}
		if part < 8<<20 || int64(part)*9900 < size {
			t.Errorf("parts of %d bytes for %d", part, size)
		}
	}
}

// TestBuffersAreBounded has one large upload keep another one waiting, and not a
// small one.
func TestBuffersAreBounded(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := f.store(t)
	large := lines(40 << 20)
	waiting, finish := make(chan bool), make(chan bool)
	source := body(large)
	source.Open = func() (io.ReadCloser, error) {
		close(waiting)
		<-finish
		return io.NopCloser(bytes.NewReader(large)), nil
	}
	done := make(chan error)
	go func() {
		_, err := s.Put(ctx, "a.jsonl", source, store.Cond{IfAbsent: true})
		done <- err
	}()
	<-waiting
	put(t, s, "small.jsonl", lines(1<<20))
	second := source
	second.Open = func() (io.ReadCloser, error) {
		t.Error("a second large upload began")
		return nil, errors.New("too early")
	}
	c, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	_, err := s.Put(c, "b.jsonl", second, store.Cond{IfAbsent: true})
	wantErr(t, "the upload that waited", err, context.DeadlineExceeded)
	close(finish)
	must(t, <-done)
}

// TestReadingKeepsNothing has all that belongs to a request be let go of with its
// reader: a mirror is verified by millions of them.
func TestReadingKeepsNothing(t *testing.T) {
	t.Parallel()
	for _, b := range backends {
		t.Run(b.name, func(t *testing.T) {
			t.Parallel()
			s := b.store(t)
			put(t, s, "a.jsonl", lines(3<<20))
			gone := make(chan bool)
			func() {
				type key struct{}
				value := new([64]byte)
				runtime.AddCleanup(value, func(gone chan bool) { close(gone) }, gone)
				f, err := s.Open(context.WithValue(ctx, key{}, value), "a.jsonl")
				must(t, err)
				must(t, f.Close())
			}()
			for deadline := time.Now().Add(10 * time.Second); ; {
				runtime.GC()
				select {
				case <-gone:
					return
				default:
				}
				if time.Now().After(deadline) {
					t.Fatal("the context of a request is held after its end")
				}
			}
		})
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	const secret = "https://host/bucket/a.jsonl.zst?sig=SECRET"
	refused := errors.New("connection refused")
	for _, tt := range []struct {
		err  error
		want error
		msg  string
	}{
		{coded{gcerrors.PermissionDenied, errors.New("go away\nreally")}, fs.ErrPermission, "permission denied: go away"},
		{coded{gcerrors.Unimplemented, errors.New("never heard of it")}, errors.ErrUnsupported, "unsupported operation: never heard of it"},
		{&url.Error{Op: "Get", URL: secret, Err: refused}, refused, "connection refused"},
		{coded{gcerrors.Unknown, &url.Error{Op: "Get", URL: secret, Err: refused}}, refused, "connection refused"},
		{coded{gcerrors.Unknown, refused}, refused, "connection refused"},
		{&fs.PathError{Op: "open", Path: "/secret/place", Err: refused}, refused, "connection refused"},
		{context.DeadlineExceeded, context.DeadlineExceeded, "context deadline exceeded"},
	} {
		f := newFake()
		s := f.store(t)
		f.before = func(string, string) error { return tt.err }
		_, open := s.Open(ctx, "a.jsonl")
		_, create := s.Create(ctx, "a.jsonl")
		_, put := s.Put(ctx, "a.jsonl", body(nil), store.Cond{IfAbsent: true})
		remove := s.Remove(ctx, "a.jsonl", "v1")
		var list error
		for _, list = range s.List(ctx, "a.jsonl", store.ListOptions{}) {
		}
		for op, err := range map[string]error{"open": open, "create": create, "put": put, "remove": remove, "list": list} {
			wantErr(t, op, err, tt.want)
			if got, want := fmt.Sprint(err), op+" a.jsonl: "+tt.msg; got != want {
				t.Errorf("got  %q\nwant %q", got, want)
			}
		}
	}
}

// TestZeroService is what a bucket can do whose service nobody has described.
func TestZeroService(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := blob.New(f.open(), nil)
	content := lines(1 << 20)
	version := put(t, s, "a.jsonl", content)
	f.take()
	file, err := s.Open(ctx, "a.jsonl")
	must(t, err)
	if got := f.take(); got != "get head" {
		t.Errorf("requests: %s", got)
	}
	if i := file.Info(); i.Version != version || version == "" || i.Size != 1<<20 {
		t.Errorf("Info = %+v; Put returned %q", i, version)
	}
	if got, err := readRange(file, 900_000, 10); err != nil || !bytes.Equal(got, content[900_000:][:10]) {
		t.Errorf("got %q, %v", got, err)
	}
	f.put("a.jsonl.zst", nil, nil)
	_, err = readRange(file, 900_000, 10)
	wantErr(t, "a range of what was replaced", err, store.ErrChanged)
	_, err = s.Put(ctx, "a.jsonl", body(nil), store.Cond{IfVersion: version})
	wantErr(t, "Put", err, errors.ErrUnsupported)
	wantErr(t, "Remove", s.Remove(ctx, "a.jsonl", version), errors.ErrUnsupported)
}

func TestRemoveTwice(t *testing.T) {
	t.Parallel()
	f := newFake()
	s := f.store(t)
	version := put(t, s, "a.jsonl", nil)
	f.before = func(op, key string) error {
		if op == "delete" { // the acknowledgement of a first try is lost
			f.mu.Lock()
			defer f.mu.Unlock()
			delete(f.objects, key)
		}
		return nil
	}
	must(t, s.Remove(ctx, "a.jsonl", version))
	f.before = func(op, key string) error {
		if op == "delete" { // replaced after the versions were compared
			f.put(key, nil, nil)
		}
		return nil
	}
	wantErr(t, "Remove", s.Remove(ctx, "a.jsonl", put(t, s, "a.jsonl", nil)), store.ErrChanged)
	if len(f.keys()) != 1 {
		t.Error("what replaced it was removed")
	}
}

func TestUseAfterClose(t *testing.T) {
	t.Parallel()
	s := newFake().store(t)
	put(t, s, "a.jsonl", nil)
	must(t, s.Close())
	_, err := s.Open(ctx, "a.jsonl")
	wantErr(t, "Open", err, fs.ErrClosed)
	_, err = s.Create(ctx, "b.jsonl")
	wantErr(t, "Create", err, fs.ErrClosed)
	_, err = s.Put(ctx, "b.jsonl", body(nil), store.Cond{IfAbsent: true})
	wantErr(t, "Put", err, fs.ErrClosed)
	wantErr(t, "Remove", s.Remove(ctx, "a.jsonl", "v1"), fs.ErrClosed)
	for _, err = range s.List(ctx, ".", store.ListOptions{}) {
	}
	wantErr(t, "List", err, fs.ErrClosed)
	wantErr(t, "Close", s.Close(), fs.ErrClosed)
}
