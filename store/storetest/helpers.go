package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/rollout-sync/rollout/store"
)

func must(t T, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v", err)
	}
}

func wantErr(t T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

// all returns the store and, where there can be one, another on the same data.
func (h Harness) all() []Store {
	if h.Reopen == nil {
		return []Store{h.Store}
	}
	return []Store{h.Store, h.Reopen()}
}

// on returns the harness of another store on the same data.
func (h Harness) on(s Store) Harness {
	h.Store = s
	return h
}

func create(t T, h Harness, name string) store.Log {
	t.Helper()
	l, err := h.Store.Create(t.Context(), name)
	must(t, err)
	return l
}

func appendTo(t T, l store.Log, s string) {
	t.Helper()
	must(t, l.Append([]byte(s)))
}

// write makes a sealed log in appends of different sizes.
func write(t T, h Harness, name string, content []byte) {
	t.Helper()
	l := create(t, h, name)
	for n := 1; len(content) > 0; n = n*3 + 1 {
		n = min(n, len(content))
		must(t, l.Append(content[:n]))
		content = content[n:]
	}
	must(t, l.Seal(t.Context()))
	must(t, l.Close())
}

// body is for the cases that are not about times.
func body(content string) store.Body { return store.BytesBody([]byte(content), time.Time{}) }

// put puts content where there is nothing, and returns its version.
func put(t T, h Harness, name, content string) string {
	t.Helper()
	p, _ := store.As[store.Putter](h.Store)
	version, err := p.Put(t.Context(), name, body(content), store.Cond{IfAbsent: true})
	must(t, err)
	return version
}

func open(t T, h Harness, name string) store.File {
	t.Helper()
	f, err := h.Store.Open(t.Context(), name)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func info(t T, h Harness, name string) store.Info {
	t.Helper()
	return open(t, h, name).Info()
}

// read reads a range of an open log.
func read(ctx context.Context, f store.File, off, n int64) ([]byte, error) {
	r, err := f.Range(ctx, off, n)
	if err != nil {
		return nil, err
	}
	got, err := io.ReadAll(r)
	return got, errors.Join(err, r.Close())
}

func wantBytes(t T, h Harness, name string, want []byte) {
	t.Helper()
	got, err := read(t.Context(), open(t, h, name), 0, -1)
	must(t, err)
	wantEqual(t, name, got, want)
}

// wantEqual compares what may be long.
func wantEqual(t T, what string, got, want []byte) {
	t.Helper()
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got %d bytes %.40q, want %d %.40q, or they differ later", what, len(got), got, len(want), want)
	}
}

func wantMissing(t T, h Harness, name string) {
	t.Helper()
	f, err := h.Store.Open(t.Context(), name)
	if err == nil {
		f.Close()
	}
	wantErr(t, "Open("+name+")", err, fs.ErrNotExist)
}

// names lists a directory; a name that ends in "/" is a directory's.
func names(t T, h Harness, dir string, o store.ListOptions) []string {
	t.Helper()
	var got []string
	for e, err := range h.Store.List(t.Context(), dir, o) {
		must(t, err)
		if e.Dir {
			e.Name += "/"
		}
		got = append(got, e.Name)
	}
	return got
}

func wantNames(t T, h Harness, dir string, want ...string) {
	t.Helper()
	if got := names(t, h, dir, store.ListOptions{}); !slices.Equal(got, want) {
		t.Errorf("List(%q) = %q, want %q", dir, got, want)
	}
}

// lines returns n lines of JSON, always the same for a seed.
func lines(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	var b bytes.Buffer
	for i := range n {
		fmt.Fprintf(&b, `{"seed":%d,"i":%d,"text":"%x"}`+"\n", seed, i, make([]byte, r.IntN(60)))
	}
	return b.Bytes()
}

// noise returns n bytes of text that hardly compresses, always the same for a seed.
func noise(seed byte, n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(p)
	for i := range p {
		p[i] = ' ' + 1 + p[i]&63
	}
	return p
}
