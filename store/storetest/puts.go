package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/rollout-sync/rollout/store"
)

func testPutConditions(t T, h Harness) {
	p, _ := store.As[store.Putter](h.Store)
	replace := func(name, content string, c store.Cond) (string, error) {
		return p.Put(t.Context(), name, body(content), c)
	}
	for _, c := range []store.Cond{{}, {IfAbsent: true, IfVersion: "x"}} {
		if _, err := replace("d/a.jsonl", "x\n", c); err == nil {
			t.Errorf("a Put with the condition %+v succeeded", c)
		}
	}
	_, err := replace("d/a.jsonl", "x\n", store.Cond{IfVersion: "none"})
	wantErr(t, "Put if a version, of nothing", err, store.ErrChanged)
	wantMissing(t, h, "d/a.jsonl")

	one := put(t, h, "d/a.jsonl", "one\n")
	wantBytes(t, h, "d/a.jsonl", []byte("one\n"))
	_, err = replace("d/a.jsonl", "other\n", store.Cond{IfAbsent: true})
	wantErr(t, "Put if absent, of what is there", err, store.ErrChanged)
	two, err := replace("d/a.jsonl", "two\n", store.Cond{IfVersion: one})
	must(t, err)
	_, err = replace("d/a.jsonl", "three\n", store.Cond{IfVersion: one})
	wantErr(t, "Put if an old version", err, store.ErrChanged)
	wantBytes(t, h, "d/a.jsonl", []byte("two\n"))
	if i := info(t, h, "d/a.jsonl"); i.Version != two {
		t.Errorf("Put returned version %s, Open says %s", two, i.Version)
	}
	put(t, h, "plain.json", "{}")
	wantBytes(t, h, "plain.json", []byte("{}"))
}

// testPutConditionsLarge has objects of more than the 8 MiB that package blob sends
// at once. Where conditions are a header of a request, it is another request.
func testPutConditionsLarge(t T, h Harness) {
	ctx := t.Context()
	p, _ := store.As[store.Putter](h.Store)
	content := noise(7, 8<<20+1000)
	large := func(first byte) store.Body {
		content[0] = first
		return store.BytesBody(content, time.Time{})
	}
	version, err := p.Put(ctx, "a.bin", large('1'), store.Cond{IfAbsent: true})
	must(t, err)
	_, err = p.Put(ctx, "a.bin", large('2'), store.Cond{IfAbsent: true})
	wantErr(t, "Put if absent, of what is there", err, store.ErrChanged)
	_, err = p.Put(ctx, "b.bin", large('3'), store.Cond{IfVersion: version})
	wantErr(t, "Put if a version, of nothing", err, store.ErrChanged)
	wantMissing(t, h, "b.bin")
	put(t, h, "c.bin", "small\n")
	_, err = p.Put(ctx, "c.bin", large('4'), store.Cond{IfVersion: version})
	wantErr(t, "Put if another version", err, store.ErrChanged)
	wantBytes(t, h, "c.bin", []byte("small\n"))
	large('1')
	wantBytes(t, h, "a.bin", content)
}

// testNotPut puts b, which has to fail with want, where there is nothing and in
// place of a log, and looks for traces.
func testNotPut(t T, h Harness, what string, b func() (context.Context, store.Body), want error) {
	t.Helper()
	p, _ := store.As[store.Putter](h.Store)
	put(t, h, what+"/old.jsonl", "old\n")
	old := info(t, h, what+"/old.jsonl")
	for name, c := range map[string]store.Cond{"new.jsonl": {IfAbsent: true}, "old.jsonl": {IfVersion: old.Version}} {
		ctx, body := b()
		_, err := p.Put(ctx, what+"/"+name, body, c)
		wantErr(t, what+"/"+name, err, want)
	}
	wantNames(t, h, what, what+"/old.jsonl")
	wantMissing(t, h, what+"/new.jsonl")
	wantBytes(t, h, what+"/old.jsonl", []byte("old\n"))
	if i := info(t, h, what+"/old.jsonl"); i.Version != old.Version {
		t.Errorf("%s: the version changed", what)
	}
}

func testPutChangedBody(t T, h Harness) {
	good := lines(5, 10_000)
	for what, content := range map[string][]byte{
		"shorter": good[:len(good)-1],
		"longer":  append(slices.Clone(good), 'x'),
		"other":   append(slices.Clone(good[:len(good)-2]), 'x', '\n'),
		"empty":   nil,
	} {
		b := store.BytesBody(good, time.Time{})
		b.Open = store.BytesBody(content, time.Time{}).Open
		testNotPut(t, h, what, func() (context.Context, store.Body) { return t.Context(), b }, store.ErrChanged)
		b.Open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
		testNotPut(t, h, what+", no BytesBody", func() (context.Context, store.Body) { return t.Context(), b }, store.ErrChanged)
		read := store.NewReading()
		_, _ = read.Write(good)
		b = read.Body(t.Context(), contentFile{content: content})
		testNotPut(t, h, what+", read again", func() (context.Context, store.Body) { return t.Context(), b }, store.ErrChanged)
	}
}

// A contentFile has that content, whatever is asked for.
type contentFile struct {
	store.File
	content []byte
}

func (contentFile) Info() store.Info { return store.Info{} }

func (f contentFile) Range(context.Context, int64, int64) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(f.content)), nil
}

func testPutFailingBody(t T, h Harness) {
	content := lines(5, 10_000)
	for _, failure := range []error{errors.New("disk on fire"), fmt.Errorf("line cut: %w", io.ErrUnexpectedEOF)} {
		for what, at := range map[string]int{"at Open": -1, "midway": len(content) / 2, "at the end": len(content)} {
			opened := 0
			testNotPut(t, h, fmt.Sprintf("%.4s/%s", failure, what), func() (context.Context, store.Body) {
				b := store.BytesBody(content, time.Time{})
				opened = 0
				b.Open = func() (io.ReadCloser, error) {
					if opened++; opened > 1 {
						t.Errorf("%s: the body is opened again", what)
					}
					if at < 0 {
						return nil, failure
					}
					return &trap{Reader: bytes.NewReader(content), at: at, spring: func() error { return failure }}, nil
				}
				return t.Context(), b
			}, failure)
		}
	}
}

func testPutCancelled(t T, h Harness) {
	content := lines(5, 10_000)
	for what, at := range map[string]int{"at once": 0, "midway": len(content) / 2, "at the end": len(content)} {
		testNotPut(t, h, what, func() (context.Context, store.Body) {
			cancelled, cancel := context.WithCancel(t.Context())
			t.Cleanup(cancel)
			b := store.BytesBody(content, time.Time{})
			b.Open = func() (io.ReadCloser, error) {
				return &trap{Reader: bytes.NewReader(content), at: at, spring: func() error { cancel(); return nil }}, nil
			}
			return cancelled, b
		}, context.Canceled)
	}
}

// A trap is a body that springs once at least at bytes were read of it.
type trap struct {
	*bytes.Reader
	at     int
	spring func() error
}

func (r *trap) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p[:min(len(p), 64<<10)])
	if int(r.Size())-r.Len() >= r.at {
		if failure := r.spring(); failure != nil {
			err = failure
		}
	}
	return n, err
}
func (r *trap) WriteTo(io.Writer) (int64, error) { panic("only Read is to be used") }
func (r *trap) Close() error                     { return nil }

func testPutOneWins(t T, h Harness) {
	const writers = 8
	var (
		wg     sync.WaitGroup
		stores = h.all()
		won    [writers]bool
	)
	for i := range writers {
		wg.Go(func() {
			p, _ := store.As[store.Putter](stores[i%len(stores)])
			_, err := p.Put(t.Context(), "a.jsonl", store.BytesBody(lines(uint64(i), 100), time.Time{}), store.Cond{IfAbsent: true})
			won[i] = err == nil
			if err != nil && !errors.Is(err, store.ErrChanged) && !errors.Is(err, store.ErrBusy) {
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	winner := slices.Index(won[:], true)
	if winner < 0 || slices.Contains(won[winner+1:], true) {
		t.Fatalf("who put it: %v", won)
	}
	wantBytes(t, h, "a.jsonl", lines(uint64(winner), 100))
}

func testPutBody(t T, h Harness) {
	ctx := t.Context()
	p, _ := store.As[store.Putter](h.Store)
	content := lines(6, 10_000)
	b := store.BytesBody(content, time.Time{})
	var isOpen int
	b.Open = func() (io.ReadCloser, error) {
		if isOpen++; isOpen > 1 {
			t.Errorf("the body is opened while it is read")
		}
		return &counted{bytes.NewReader(content), &isOpen}, nil
	}
	closed := func(after string) {
		t.Helper()
		if isOpen != 0 {
			t.Errorf("after %s: %d readers of the body are open", after, isOpen)
		}
	}
	_, err := p.Put(ctx, "a.jsonl", b, store.Cond{IfAbsent: true})
	must(t, err)
	closed("Put")
	_, err = p.Put(ctx, "a.jsonl", b, store.Cond{IfAbsent: true})
	wantErr(t, "Put of a name that is taken", err, store.ErrChanged)
	closed("a refused Put")
	_, err = p.Put(ctx, "b.jsonl", b, store.Cond{IfAbsent: true})
	must(t, err)
	closed("Put of the same body")

	// Of the same store, which has to read it while it writes.
	f := open(t, h, "a.jsonl")
	copied := store.FileBody(ctx, f, b.Size, b.SHA256)
	read := store.NewReading()
	_, _ = read.Write(content)
	for name, body := range map[string]store.Body{
		"c.jsonl": copied, "d.txt": copied,
		"e.jsonl": read.Body(ctx, f), "f.txt": read.Body(ctx, f),
	} {
		_, err = p.Put(ctx, name, body, store.Cond{IfAbsent: true})
		must(t, err)
	}
	for _, name := range []string{"a.jsonl", "b.jsonl", "c.jsonl", "d.txt", "e.jsonl", "f.txt"} {
		wantBytes(t, h, name, content)
	}
}

// A counted reader is open until it is closed, once.
type counted struct {
	io.Reader
	isOpen *int
}

func (r *counted) Close() error { *r.isOpen--; return nil }

func testPutModTime(t T, h Harness) {
	p, _ := store.As[store.Putter](h.Store)
	want := time.Date(2025, 3, 4, 5, 6, 7, 123456700, time.UTC)
	_, err := p.Put(t.Context(), "a.jsonl", store.BytesBody([]byte("x\n"), want), store.Cond{IfAbsent: true})
	must(t, err)
	if got := info(t, h, "a.jsonl").ModTime; !got.Equal(want) {
		t.Errorf("ModTime = %v, want %v", got, want)
	}
}

func testPutTellsStored(t T, h Harness) {
	p, _ := store.As[store.Putter](h.Store)
	content := lines(9, 1000)
	stream := store.BytesBody(content, time.Time{})
	stream.Open = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil }
	for name, b := range map[string]store.Body{
		"a.jsonl": store.BytesBody(content, time.Time{}),
		"b.jsonl": stream,
		"c.txt":   store.BytesBody(content, time.Time{}),
		"d.txt":   stream,
	} {
		var told []int64
		b.Stored = func(n int64) { told = append(told, n) }
		_, err := p.Put(t.Context(), name, b, store.Cond{IfAbsent: true})
		must(t, err)
		if want := []int64{info(t, h, name).Stored}; !slices.Equal(told, want) {
			t.Errorf("%s: Put told of %d stored bytes, want %d", name, told, want)
		}
		b.SHA256[0]++
		_, err = p.Put(t.Context(), "other."+name, b, store.Cond{IfAbsent: true})
		wantErr(t, "Put of a body that is not what it claims", err, store.ErrChanged)
		if len(told) != 1 {
			t.Errorf("%s: a Put that failed told of stored bytes", name)
		}
	}
}

func testRemoveConditions(t T, h Harness) {
	ctx := t.Context()
	r, _ := store.As[store.Remover](h.Store)
	wantErr(t, "Remove of nothing", r.Remove(ctx, "a.jsonl", "x"), fs.ErrNotExist)
	write(t, h, "a.jsonl", []byte("one\n"))
	write(t, h, "b.jsonl", []byte("two\n"))
	version := info(t, h, "a.jsonl").Version
	wantErr(t, "Remove of another version", r.Remove(ctx, "a.jsonl", "x"), store.ErrChanged)
	wantErr(t, "Remove of no version", r.Remove(ctx, "a.jsonl", ""), store.ErrChanged)
	wantBytes(t, h, "a.jsonl", []byte("one\n"))
	must(t, r.Remove(ctx, "a.jsonl", version))
	wantMissing(t, h, "a.jsonl")
	wantErr(t, "a second Remove", r.Remove(ctx, "a.jsonl", version), fs.ErrNotExist)
	wantBytes(t, h, "b.jsonl", []byte("two\n"))
	wantNames(t, h, ".", "b.jsonl")
}

func testMoveConditions(t T, h Harness) {
	ctx := t.Context()
	m, _ := store.As[store.Mover](h.Store)
	wantErr(t, "Move of nothing", m.Move(ctx, "a.jsonl", "x", "d/b.jsonl"), fs.ErrNotExist)
	write(t, h, "a.jsonl", []byte("one\n"))
	write(t, h, "taken.jsonl", []byte("two\n"))
	before := info(t, h, "a.jsonl")
	wantErr(t, "Move of another version", m.Move(ctx, "a.jsonl", "x", "d/b.jsonl"), store.ErrChanged)
	wantErr(t, "Move to a name that is taken", m.Move(ctx, "a.jsonl", before.Version, "taken.jsonl"), fs.ErrExist)
	wantErr(t, "Move onto itself", m.Move(ctx, "a.jsonl", before.Version, "a.jsonl"), fs.ErrExist)
	wantErr(t, "Move to a bad name", m.Move(ctx, "a.jsonl", before.Version, "../b.jsonl"), store.ErrInvalidName)
	wantErr(t, "Move to a name of another kind", m.Move(ctx, "a.jsonl", before.Version, "b"), errors.ErrUnsupported)
	wantBytes(t, h, "a.jsonl", []byte("one\n"))
	wantBytes(t, h, "taken.jsonl", []byte("two\n"))
	must(t, m.Move(ctx, "a.jsonl", before.Version, "d/b.jsonl"))
	wantMissing(t, h, "a.jsonl")
	wantBytes(t, h, "d/b.jsonl", []byte("one\n"))
	if after := info(t, h, "d/b.jsonl"); !after.ModTime.Equal(before.ModTime) {
		t.Errorf("a Move changed the time from %v to %v", before.ModTime, after.ModTime)
	}
	wantNames(t, h, ".", "d/", "taken.jsonl")
	wantNames(t, h, "d", "d/b.jsonl")
}

func testLockExcludes(t T, h Harness) {
	ctx := t.Context()
	lock := func(s Store, name string) (func() error, error) {
		k, _ := store.As[store.Locker](s)
		return k.Lock(ctx, name)
	}
	for _, s := range h.all() {
		unlock, err := lock(s, "d/a.jsonl")
		must(t, err)
		for _, s := range h.all() {
			_, err = lock(s, "d/a.jsonl")
			wantErr(t, "a second Lock", err, store.ErrBusy)
			_, err = s.Create(ctx, "d/a.jsonl")
			wantErr(t, "Create of a locked name", err, store.ErrBusy)
			other, err := lock(s, "d/b.jsonl")
			must(t, err)
			must(t, other())
		}
		must(t, unlock())
	}
	l := create(t, h, "d/a.jsonl")
	for _, s := range h.all() {
		_, err := lock(s, "d/a.jsonl")
		wantErr(t, "Lock of a log with a writer", err, store.ErrBusy)
	}
	must(t, l.Close())
	unlock, err := lock(h.Store, "d/a.jsonl")
	must(t, err)
	must(t, unlock())
}
