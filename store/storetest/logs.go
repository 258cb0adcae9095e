package storetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"

	"github.com/rollout-sync/rollout/store"
)

func testRoundTrip(t T, h Harness) {
	want := lines(1, 1000)
	write(t, h, "a/b/c.jsonl", want)
	wantBytes(t, h, "a/b/c.jsonl", want)
}

func testEmptyLog(t T, h Harness) {
	write(t, h, "empty.jsonl", nil)
	wantBytes(t, h, "empty.jsonl", nil)
	wantNames(t, h, ".", "empty.jsonl")
}

func testLargeLog(t T, h Harness) {
	want := slices.Concat(lines(2, 20_000), noise(3, 6<<20), []byte("\n"), lines(4, 5000))
	write(t, h, "large.jsonl", want)
	wantBytes(t, h, "large.jsonl", want)
	off := len(want) - 2<<20
	got, err := read(t.Context(), open(t, h, "large.jsonl"), int64(off), 1<<20)
	must(t, err)
	wantEqual(t, "a range in the middle", got, want[off:off+1<<20])
}

func testLongLine(t T, h Harness) {
	ctx := t.Context()
	n := h.LongLine
	if n == 0 {
		n = 16 << 20
	}
	long := append(bytes.Repeat([]byte{'0'}, n-1), '\n')
	l := create(t, h, "a.jsonl")
	must(t, l.Append(long))
	appendTo(t, l, "end\n")
	must(t, l.Seal(ctx))
	must(t, l.Close())
	f := open(t, h, "a.jsonl")
	r, err := f.Range(ctx, 0, int64(n))
	must(t, err)
	defer r.Close()
	same := &comparer{want: long}
	_, err = io.Copy(same, r)
	must(t, err)
	if len(same.want) > 0 {
		t.Errorf("the line of %d bytes ends %d too early", n, len(same.want))
	}
	got, err := read(t.Context(), f, int64(n), -1)
	must(t, err)
	wantEqual(t, "what follows the line", got, []byte("end\n"))
}

// A comparer is a writer of bytes that must be those it wants.
type comparer struct{ want []byte }

func (c *comparer) Write(p []byte) (int, error) {
	rest, ok := bytes.CutPrefix(c.want, p)
	if !ok {
		return 0, fmt.Errorf("other bytes than were written, %d before the end", len(c.want))
	}
	c.want = rest
	return len(p), nil
}

func testKeepsNoBuffer(t T, h Harness) {
	l := create(t, h, "a.jsonl")
	p := []byte("one\n")
	must(t, l.Append(p))
	copy(p, "two\n")
	must(t, l.Append(p))
	clear(p)
	must(t, l.Seal(t.Context()))
	must(t, l.Close())
	wantBytes(t, h, "a.jsonl", []byte("one\ntwo\n"))
}

// testCallOrder makes every sequence of four calls, each on a log of its own, and
// compares with a model what each returns and what is to be seen after it.
func testCallOrder(t T, h Harness) {
	calls := []struct {
		name string
		do   func(store.Log) error
	}{
		{"Append", func(l store.Log) error { return l.Append([]byte("line\n")) }},
		{"Sync", store.Log.Sync},
		{"Seal", func(l store.Log) error { return l.Seal(t.Context()) }},
		{"Close", store.Log.Close},
	}
	const length = 4
	for n := range 1 << (2 * length) { // two bits of n for each call
		var (
			name           = fmt.Sprintf("%03d.jsonl", n)
			l              = create(t, h, name)
			done           []string
			content        string
			sealed, closed bool
		)
		for i := range length {
			call := calls[n>>(2*i)&3]
			done = append(done, call.name)
			sequence := strings.Join(done, ", ")

			var want error
			switch {
			case closed, sealed && call.name != "Close":
				want = fs.ErrClosed
			case call.name == "Append":
				content += "line\n"
			case call.name == "Sync" && h.WriteOnce:
				want = errors.ErrUnsupported
			case call.name == "Seal":
				sealed = true
			case call.name == "Close":
				closed = true
			}
			wantErr(t, sequence, call.do(l), want)
			if l.Size() != int64(len(content)) {
				t.Errorf("%s: Size = %d, want %d", sequence, l.Size(), len(content))
			}
			if h.WriteOnce && !sealed {
				wantMissing(t, h, name)
			} else {
				wantBytes(t, h, name, []byte(content))
			}
			if t.Failed() {
				t.Fatalf("after %s", sequence)
			}
		}
		if !closed {
			must(t, l.Close())
		}
	}
}

func testAppendIsVisible(t T, h Harness) {
	l := create(t, h, "a.jsonl")
	wantBytes(t, h, "a.jsonl", nil)
	appendTo(t, l, "one\n")
	wantBytes(t, h, "a.jsonl", []byte("one\n"))
	appendTo(t, l, "two\n")
	for _, s := range h.all() {
		wantBytes(t, h.on(s), "a.jsonl", []byte("one\ntwo\n"))
	}
	must(t, l.Close())
}

func testNothingBeforeSeal(t T, h Harness) {
	l := create(t, h, "a.jsonl")
	appendTo(t, l, "one\n")
	wantMissing(t, h, "a.jsonl")
	must(t, l.Close())
	for _, s := range h.all() {
		wantMissing(t, h.on(s), "a.jsonl")
		wantNames(t, h.on(s), ".")
	}
}

func testSyncOrUnsupported(t T, h Harness) {
	l := create(t, h, "a.jsonl")
	appendTo(t, l, "one\n")
	if h.WriteOnce {
		wantErr(t, "Sync", l.Sync(), errors.ErrUnsupported)
	} else {
		must(t, l.Sync())
	}
	appendTo(t, l, "two\n")
	must(t, l.Seal(t.Context()))
	must(t, l.Close())
	wantBytes(t, h, "a.jsonl", []byte("one\ntwo\n"))
}

func testSealedStays(t T, h Harness) {
	ctx := t.Context()
	l := create(t, h, "a.jsonl")
	appendTo(t, l, "one\n")
	must(t, l.Seal(ctx))
	before := info(t, h, "a.jsonl")
	refused := map[string]error{
		"Append after Seal": l.Append([]byte("two\n")),
		"Seal after Seal":   l.Seal(ctx),
	}
	must(t, l.Close())
	refused["Append after Close"] = l.Append([]byte("three\n"))
	for _, s := range h.all() {
		_, refused["Create"] = s.Create(ctx, "a.jsonl")
		if h.WriteOnce {
			_, refused["Append"] = s.Append(ctx, "a.jsonl")
		}
		if p, ok := store.As[store.Putter](s); ok {
			_, refused["Put if absent"] = p.Put(ctx, "a.jsonl", body("put\n"), store.Cond{IfAbsent: true})
			_, refused["Put if another"] = p.Put(ctx, "a.jsonl", body("put\n"), store.Cond{IfVersion: "another"})
		}
		if r, ok := store.As[store.Remover](s); ok {
			refused["Remove of another"] = r.Remove(ctx, "a.jsonl", "another")
		}
	}
	for what, err := range refused {
		if err == nil {
			t.Errorf("%s was not refused", what)
		}
	}
	wantBytes(t, h, "a.jsonl", []byte("one\n"))
	if after := info(t, h, "a.jsonl"); after.Version != before.Version {
		t.Errorf("the version changed from %s to %s", before.Version, after.Version)
	}
}

func testPoisoned(t T, h Harness) {
	ctx := t.Context()
	failure := errors.New("disk on fire")
	for op, c := range map[Op]struct {
		do   func(store.Log) error
		want string
	}{
		OpAppend: {func(l store.Log) error { return l.Append([]byte("three\n")) }, "old\none\ntwo\n"},
		OpSync:   {store.Log.Sync, "old\none\n"},
	} {
		name := fmt.Sprintf("%d.jsonl", op)
		l := create(t, h, name)
		appendTo(t, l, "old\n")
		must(t, l.Close())
		l, err := h.Store.Append(ctx, name)
		must(t, err)
		appendTo(t, l, "one\n")
		must(t, l.Sync())
		appendTo(t, l, "two\n")
		h.Fail(op, failure)
		wantErr(t, "the failing call", c.do(l), failure)
		wantErr(t, "Append", l.Append([]byte("four\n")), failure)
		wantErr(t, "Sync", l.Sync(), failure)
		wantErr(t, "Seal", l.Seal(ctx), failure)
		if l.Size() != int64(len(c.want)) {
			t.Errorf("Size = %d, want %d", l.Size(), len(c.want))
		}
		must(t, l.Close())
		wantBytes(t, h, name, []byte(c.want))
		l, err = h.Store.Append(ctx, name)
		must(t, err)
		appendTo(t, l, "five\n")
		must(t, l.Seal(ctx))
		must(t, l.Close())
		wantBytes(t, h, name, []byte(c.want+"five\n"))
	}
}

func testCreateTaken(t T, h Harness) {
	write(t, h, "a.jsonl", []byte("old\n"))
	for _, s := range h.all() {
		l, err := s.Create(t.Context(), "a.jsonl")
		if err == nil {
			l.Close()
		}
		wantErr(t, "Create", err, fs.ErrExist)
	}
	wantBytes(t, h, "a.jsonl", []byte("old\n"))
}

func testCreateTwice(t T, h Harness) {
	ctx := t.Context()
	for i, s := range h.all() {
		name := fmt.Sprintf("%d.jsonl", i)
		first := create(t, h, name)
		appendTo(t, first, "first\n")
		second, err := s.Create(ctx, name)
		if h.WriteOnce {
			must(t, err)
			appendTo(t, second, "second\n")
		} else {
			wantErr(t, "the second Create", err, store.ErrBusy)
		}
		must(t, first.Seal(ctx))
		must(t, first.Close())
		if h.WriteOnce {
			wantErr(t, "the second Seal", second.Seal(ctx), fs.ErrExist)
			must(t, second.Close())
		}
		wantBytes(t, h, name, []byte("first\n"))
	}
}

func testOneWriterWins(t T, h Harness) {
	ctx := t.Context()
	const writers = 8
	var (
		wg     sync.WaitGroup
		stores = h.all()
		sealed [writers]bool
	)
	for i := range writers {
		wg.Go(func() {
			l, err := stores[i%len(stores)].Create(ctx, "a.jsonl")
			if err == nil {
				err = l.Append(lines(uint64(i), 2000))
				if err == nil {
					err = l.Seal(ctx)
				}
				sealed[i] = err == nil
				if e := l.Close(); e != nil {
					t.Errorf("Close = %v", e)
				}
			}
			if err != nil && !errors.Is(err, fs.ErrExist) && !errors.Is(err, store.ErrBusy) {
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	winner := slices.Index(sealed[:], true)
	if winner < 0 || slices.Contains(sealed[winner+1:], true) {
		t.Fatalf("who sealed it: %v", sealed)
	}
	wantBytes(t, h, "a.jsonl", lines(uint64(winner), 2000))
}

func testManyLogs(t T, h Harness) {
	ctx := t.Context()
	const logs = 16
	var (
		wg     sync.WaitGroup
		stores = h.all()
		name   = func(i int) string { return fmt.Sprintf("d%d/log-%02d.jsonl", i%3, i) }
	)
	for i := range logs {
		wg.Go(func() {
			l, err := stores[i%len(stores)].Create(ctx, name(i))
			if err != nil {
				t.Errorf("%v", err)
				return
			}
			defer l.Close()
			for line := range bytes.Lines(lines(uint64(i), 100)) {
				if err := l.Append(line); err != nil {
					t.Errorf("%v", err)
					return
				}
			}
			if err := l.Seal(ctx); err != nil {
				t.Errorf("%v", err)
			}
		})
	}
	wg.Wait()
	for i := range logs {
		wantBytes(t, h, name(i), lines(uint64(i), 100))
	}
}

func testAppendBusy(t T, h Harness) {
	ctx := t.Context()
	l := create(t, h, "a.jsonl")
	appendTo(t, l, "one\n")
	for _, s := range h.all() {
		_, err := s.Append(ctx, "a.jsonl")
		wantErr(t, "Append to what is being created", err, store.ErrBusy)
	}
	must(t, l.Close())
	for _, s := range h.all() {
		l, err := s.Append(ctx, "a.jsonl")
		must(t, err)
		_, err = h.Store.Append(ctx, "a.jsonl")
		wantErr(t, "Append to what is being appended to", err, store.ErrBusy)
		must(t, l.Close())
	}
}

func testAppendContinues(t T, h Harness) {
	ctx := t.Context()
	write(t, h, "a.jsonl", []byte("one\ntorn"))
	before := info(t, h, "a.jsonl")
	l, err := h.Store.Append(ctx, "a.jsonl")
	must(t, err)
	if l.Size() != 8 {
		t.Errorf("Size = %d, want 8", l.Size())
	}
	if after := info(t, h, "a.jsonl"); after.Version != before.Version {
		t.Errorf("Append alone changed the log")
	}
	appendTo(t, l, "\ntwo\n")
	if l.Size() != 13 {
		t.Errorf("Size = %d, want 13", l.Size())
	}
	must(t, l.Seal(ctx))
	must(t, l.Close())
	wantBytes(t, h, "a.jsonl", []byte("one\ntorn\ntwo\n"))
}

func testAppendMissing(t T, h Harness) {
	want := fs.ErrNotExist
	if h.WriteOnce {
		want = errors.ErrUnsupported
	}
	_, err := h.Store.Append(t.Context(), "a.jsonl")
	wantErr(t, "Append", err, want)
	wantMissing(t, h, "a.jsonl")
}
