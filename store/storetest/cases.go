package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rollout-sync/rollout/store"
)

func testRoundTrip(t *testing.T, h Harness) {
	want := lines(1, 1000)
	write(t, h, "a/b/c.jsonl", want)
	wantBytes(t, h, "a/b/c.jsonl", want)
}

func testEmptyLog(t *testing.T, h Harness) {
	write(t, h, "empty.jsonl", nil)
	wantBytes(t, h, "empty.jsonl", nil)
	if got := names(t, h, ".", store.ListOptions{}); !slices.Equal(got, []string{"empty.jsonl"}) {
		t.Errorf("List = %q", got)
	}
}

func testLargeLog(t *testing.T, h Harness) {
	want := slices.Concat(lines(2, 20_000), noise(3, 6<<20), []byte("\n"), lines(4, 5000))
	write(t, h, "large.jsonl", want)
	wantBytes(t, h, "large.jsonl", want)
	off := int64(len(want) - 2<<20)
	if got := readRange(t, h, "large.jsonl", off, 1<<20); !bytes.Equal(got, want[off:off+1<<20]) {
		t.Errorf("a range in the middle differs")
	}
}

func testAppendIsVisible(t *testing.T, h Harness) {
	l := create(t, h, "a.jsonl")
	appendTo(t, l, "one\n")
	wantBytes(t, h, "a.jsonl", []byte("one\n"))
	appendTo(t, l, "two\n")
	wantBytes(t, h, "a.jsonl", []byte("one\ntwo\n"))
	must(t, l.Close())
}

func testNothingBeforeSeal(t *testing.T, h Harness) {
	l := create(t, h, "a.jsonl")
	appendTo(t, l, "one\n")
	wantMissing(t, h, "a.jsonl")
	must(t, l.Close())
	wantMissing(t, h, "a.jsonl")
	if got := names(t, h, ".", store.ListOptions{}); len(got) != 0 {
		t.Errorf("List = %q", got)
	}
}

func testSyncOrUnsupported(t *testing.T, h Harness) {
	l := create(t, h, "a.jsonl")
	appendTo(t, l, "one\n")
	if err := l.Sync(); h.WriteOnce != errors.Is(err, errors.ErrUnsupported) || !h.WriteOnce && err != nil {
		t.Errorf("Sync = %v", err)
	}
	appendTo(t, l, "two\n")
	must(t, l.Seal(ctx))
	must(t, l.Close())
	wantBytes(t, h, "a.jsonl", []byte("one\ntwo\n"))
}

func testCreateTaken(t *testing.T, h Harness) {
	write(t, h, "a.jsonl", []byte("old\n"))
	l, err := h.Store.Create(ctx, "a.jsonl")
	if err == nil {
		l.Close()
	}
	wantErr(t, "Create", err, fs.ErrExist)
	wantBytes(t, h, "a.jsonl", []byte("old\n"))
}

func testOneWriterWins(t *testing.T, h Harness) {
	const writers = 8
	var (
		wg     sync.WaitGroup
		sealed [writers]bool
	)
	for i := range writers {
		wg.Go(func() {
			l, err := h.Store.Create(ctx, "a.jsonl")
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
	var winners []int
	for i, ok := range sealed {
		if ok {
			winners = append(winners, i)
		}
	}
	if len(winners) != 1 {
		t.Fatalf("winners: %v", winners)
	}
	wantBytes(t, h, "a.jsonl", lines(uint64(winners[0]), 2000))
}

func testAppendBusy(t *testing.T, h Harness) {
	l := create(t, h, "a.jsonl")
	appendTo(t, l, "one\n")
	_, err := h.Store.Append(ctx, "a.jsonl")
	wantErr(t, "Append", err, store.ErrBusy)
	must(t, l.Close())
	l, err = h.Store.Append(ctx, "a.jsonl")
	must(t, err)
	must(t, l.Close())
}

func testAppendContinues(t *testing.T, h Harness) {
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

func testAppendMissing(t *testing.T, h Harness) {
	_, err := h.Store.Append(ctx, "a.jsonl")
	if h.WriteOnce {
		wantErr(t, "Append", err, errors.ErrUnsupported)
	} else {
		wantErr(t, "Append", err, fs.ErrNotExist)
	}
	wantMissing(t, h, "a.jsonl")
}

func testUseAfterSeal(t *testing.T, h Harness) {
	l := create(t, h, "a.jsonl")
	appendTo(t, l, "one\n")
	must(t, l.Seal(ctx))
	wantErr(t, "Append", l.Append([]byte("two\n")), fs.ErrClosed)
	wantErr(t, "Sync", l.Sync(), fs.ErrClosed)
	wantErr(t, "Seal", l.Seal(ctx), fs.ErrClosed)
	must(t, l.Close())
	wantBytes(t, h, "a.jsonl", []byte("one\n"))
}

func testUseAfterClose(t *testing.T, h Harness) {
	l := create(t, h, "a.jsonl")
	appendTo(t, l, "one\n")
	must(t, l.Seal(ctx))
	must(t, l.Close())
	wantErr(t, "Append", l.Append([]byte("two\n")), fs.ErrClosed)
	wantErr(t, "Sync", l.Sync(), fs.ErrClosed)
	wantErr(t, "Seal", l.Seal(ctx), fs.ErrClosed)
	wantErr(t, "Close", l.Close(), fs.ErrClosed)
}

func testKeepsNoBuffer(t *testing.T, h Harness) {
	l := create(t, h, "a.jsonl")
	p := []byte("one\n")
	must(t, l.Append(p))
	copy(p, "two\n")
	must(t, l.Append(p))
	clear(p)
	must(t, l.Seal(ctx))
	must(t, l.Close())
	wantBytes(t, h, "a.jsonl", []byte("one\ntwo\n"))
}

func testOpenMissing(t *testing.T, h Harness) {
	write(t, h, "dir/a.jsonl", nil)
	wantMissing(t, h, "b.jsonl")
	wantMissing(t, h, "dir")
	wantMissing(t, h, "dir/a.jsonl/x")
	wantMissing(t, h, "none/a.jsonl")
}

func testRanges(t *testing.T, h Harness) {
	want := lines(7, 40_000) // several frames of a sealed log
	write(t, h, "a.jsonl", want)
	size := int64(len(want))
	for _, r := range []struct{ off, n int64 }{
		{0, 0},
		{0, 1},
		{0, -1},
		{0, size},
		{0, size + 10},
		{1, 17},
		{size / 2, 100},
		{size / 2, -1},
		{size - 1, 1},
		{size - 1, 10},
		{size, 1},
		{size, -1},
		{size + 5, 1},
		{-1, -1},
		{-100, 50},
		{-100, -1},
		{-size, 3},
		{-size - 7, 3},
	} {
		from := r.off
		if from < 0 {
			from = max(0, size+from)
		}
		from = min(from, size)
		to := size
		if r.n >= 0 {
			to = min(from+r.n, size)
		}
		if got := readRange(t, h, "a.jsonl", r.off, r.n); !bytes.Equal(got, want[from:to]) {
			t.Errorf("Range(%d, %d) has %d bytes, want %d, or others", r.off, r.n, len(got), to-from)
		}
	}
}

var tree = []string{
	"a-b.jsonl", "a.jsonl", "a/x.jsonl", "a/y/z.jsonl", "aa.jsonl", "B.jsonl", "b/c.jsonl", "é.jsonl", "a b.jsonl",
}

func plant(t *testing.T, h Harness) {
	for _, n := range tree {
		write(t, h, n, []byte(n+"\n"))
	}
}

func testListOrder(t *testing.T, h Harness) {
	plant(t, h)
	for dir, want := range map[string][]string{
		".":   {"B.jsonl", "a b.jsonl", "a-b.jsonl", "a.jsonl", "a/", "aa.jsonl", "b/", "é.jsonl"},
		"a":   {"a/x.jsonl", "a/y/"},
		"a/y": {"a/y/z.jsonl"},
	} {
		slices.SortFunc(want, func(a, b string) int {
			return strings.Compare(strings.TrimSuffix(a, "/"), strings.TrimSuffix(b, "/"))
		})
		if got := names(t, h, dir, store.ListOptions{}); !slices.Equal(got, want) {
			t.Errorf("List(%q) = %q, want %q", dir, got, want)
		}
	}
	for e, err := range h.Store.List(ctx, "none", store.ListOptions{}) {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("List of a missing directory: %v, %v", e, err)
		}
	}
}

func testListNewestFirst(t *testing.T, h Harness) {
	plant(t, h)
	all := names(t, h, ".", store.ListOptions{})
	for _, desc := range []bool{false, true} {
		for _, before := range append([]string{"", "0", "zz", "a.jsonll"}, all...) {
			before = strings.TrimSuffix(before, "/")
			for _, limit := range []int{0, 1, 2, len(all), len(all) + 5} {
				o := store.ListOptions{Desc: desc, Before: before, Limit: limit}
				want := slices.Clone(all)
				want = slices.DeleteFunc(want, func(n string) bool {
					return before != "" && strings.TrimSuffix(n, "/") >= before
				})
				if desc {
					slices.Reverse(want)
				}
				if limit > 0 && len(want) > limit {
					want = want[:limit]
				}
				if got := names(t, h, ".", o); !slices.Equal(got, want) {
					t.Errorf("List(%+v) = %q, want %q", o, got, want)
				}
			}
		}
	}
}

func testListBreak(t *testing.T, h Harness) {
	plant(t, h)
	all := names(t, h, ".", store.ListOptions{})
	seq := h.Store.List(ctx, ".", store.ListOptions{})
	for stop := range len(all) + 1 {
		n := 0
		for _, err := range seq {
			must(t, err)
			if n++; n > stop {
				break
			}
		}
		if want := min(stop+1, len(all)); n != want {
			t.Errorf("left after %d entries, want %d", n, want)
		}
	}
}

func testListSizes(t *testing.T, h Harness) {
	want := lines(9, 3000)
	write(t, h, "a.jsonl", want)
	for e, err := range h.Store.List(ctx, ".", store.ListOptions{}) {
		must(t, err)
		if e.Info.Size != -1 && e.Info.Size != int64(len(want)) || e.Info.Stored <= 0 {
			t.Errorf("Size %d, Stored %d of a log of %d bytes", e.Info.Size, e.Info.Stored, len(want))
		}
	}
	if i := info(t, h, "a.jsonl"); i.Size != int64(len(want)) || i.Stored <= 0 || i.Version == "" {
		t.Errorf("an opened log has %+v", i)
	}
}

func testManyLogs(t *testing.T, h Harness) {
	const logs = 16
	var wg sync.WaitGroup
	name := func(i int) string { return fmt.Sprintf("d%d/log-%02d.jsonl", i%3, i) }
	for i := range logs {
		wg.Go(func() {
			l, err := h.Store.Create(ctx, name(i))
			if err != nil {
				t.Error(err)
				return
			}
			defer l.Close()
			for line := range bytes.Lines(lines(uint64(i), 100)) {
				if err := l.Append(line); err != nil {
					t.Error(err)
					return
				}
			}
			if err := l.Seal(ctx); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for i := range logs {
		wantBytes(t, h, name(i), lines(uint64(i), 100))
	}
}

// BadNames are names no store takes.
var BadNames = []string{
	"", ".", "..", "/", "/a", "a/", "a//b", "./a", "a/.", "a/./b", "a/../b", "../a", "a/..", `a\b`, `..\a`,
	"a\x00b", "a\nb", "a\x7fb", "\xff", ".a", "a/.b", ".locks/x", "a.", "a /b", "c:", "c:/a",
	strings.Repeat("x", 241), strings.Repeat("x/", 450) + "x",
}

func testBadNames(t *testing.T, h Harness) {
	for _, n := range BadNames {
		_, err := h.Store.Open(ctx, n)
		wantErr(t, fmt.Sprintf("Open(%q)", n), err, store.ErrInvalidName)
		_, err = h.Store.Create(ctx, n)
		wantErr(t, fmt.Sprintf("Create(%q)", n), err, store.ErrInvalidName)
		_, err = h.Store.Append(ctx, n)
		if !h.WriteOnce {
			wantErr(t, fmt.Sprintf("Append(%q)", n), err, store.ErrInvalidName)
		}
		if n != "." {
			for _, err = range h.Store.List(ctx, n, store.ListOptions{}) {
			}
			wantErr(t, fmt.Sprintf("List(%q)", n), err, store.ErrInvalidName)
		}
		if p, ok := store.As[store.Putter](h.Store); ok {
			_, err := p.Put(ctx, n, store.BytesBody(nil, time.Time{}), store.Cond{IfAbsent: true})
			wantErr(t, fmt.Sprintf("Put(%q)", n), err, store.ErrInvalidName)
		}
	}
	if got := names(t, h, ".", store.ListOptions{}); len(got) != 0 {
		t.Errorf("List = %q", got)
	}
}

func testCancelled(t *testing.T, h Harness) {
	write(t, h, "old.jsonl", []byte("old\n"))
	done, cancel := context.WithCancel(ctx)
	cancel()
	_, err := h.Store.Create(done, "a.jsonl")
	wantErr(t, "Create", err, context.Canceled)
	_, err = h.Store.Open(done, "old.jsonl")
	wantErr(t, "Open", err, context.Canceled)
	if !h.WriteOnce {
		_, err = h.Store.Append(done, "old.jsonl")
		wantErr(t, "Append", err, context.Canceled)
	}
	for _, err = range h.Store.List(done, ".", store.ListOptions{}) {
	}
	wantErr(t, "List", err, context.Canceled)
	l := create(t, h, "b.jsonl")
	appendTo(t, l, "one\n")
	wantErr(t, "Seal", l.Seal(done), context.Canceled)
	must(t, l.Seal(ctx))
	must(t, l.Close())
	want := []string{"b.jsonl", "old.jsonl"}
	if got := names(t, h, ".", store.ListOptions{}); !slices.Equal(got, want) {
		t.Errorf("List = %q, want %q", got, want)
	}
}

func testVersionChanges(t *testing.T, h Harness) {
	write(t, h, "a.jsonl", []byte("one\n"))
	one := info(t, h, "a.jsonl")
	if again := info(t, h, "a.jsonl"); again.Version != one.Version {
		t.Errorf("the version changed from %s to %s without a change", one.Version, again.Version)
	}
	p, ok := store.As[store.Putter](h.Store)
	if !ok {
		return
	}
	version, err := p.Put(ctx, "a.jsonl", store.BytesBody([]byte("two\n"), one.ModTime), store.Cond{IfVersion: one.Version})
	must(t, err)
	two := info(t, h, "a.jsonl")
	if two.Version == one.Version || two.Version != version {
		t.Errorf("versions: %s, then Put returned %s, then %s", one.Version, version, two.Version)
	}
}

func testPutConditions(t *testing.T, h Harness) {
	p, _ := store.As[store.Putter](h.Store)
	put := func(name, content string, c store.Cond) (string, error) {
		return p.Put(ctx, name, store.BytesBody([]byte(content), time.Time{}), c)
	}
	_, err := put("d/a.jsonl", "x\n", store.Cond{})
	if err == nil {
		t.Errorf("a Put without a condition succeeded")
	}
	_, err = put("d/a.jsonl", "x\n", store.Cond{IfVersion: "none"})
	wantErr(t, "Put if a version, of nothing", err, store.ErrChanged)
	wantMissing(t, h, "d/a.jsonl")

	one, err := put("d/a.jsonl", "one\n", store.Cond{IfAbsent: true})
	must(t, err)
	wantBytes(t, h, "d/a.jsonl", []byte("one\n"))
	_, err = put("d/a.jsonl", "other\n", store.Cond{IfAbsent: true})
	wantErr(t, "Put if absent, of what is there", err, store.ErrChanged)
	two, err := put("d/a.jsonl", "two\n", store.Cond{IfVersion: one})
	must(t, err)
	_, err = put("d/a.jsonl", "three\n", store.Cond{IfVersion: one})
	wantErr(t, "Put if an old version", err, store.ErrChanged)
	wantBytes(t, h, "d/a.jsonl", []byte("two\n"))
	if i := info(t, h, "d/a.jsonl"); i.Version != two {
		t.Errorf("Put returned version %s, Open says %s", two, i.Version)
	}
	_, err = put("plain.json", "{}", store.Cond{IfAbsent: true})
	must(t, err)
	wantBytes(t, h, "plain.json", []byte("{}"))
}

func testPutChangedBody(t *testing.T, h Harness) {
	p, _ := store.As[store.Putter](h.Store)
	good := lines(5, 30_000)
	old, err := p.Put(ctx, "old.jsonl", store.BytesBody([]byte("old\n"), time.Time{}), store.Cond{IfAbsent: true})
	must(t, err)
	for what, content := range map[string][]byte{
		"shorter": good[:len(good)-1],
		"longer":  append(slices.Clone(good), 'x'),
		"other":   append(slices.Clone(good[:len(good)-2]), 'x', '\n'),
		"empty":   nil,
	} {
		b := store.BytesBody(good, time.Time{})
		b.Open = store.BytesBody(content, time.Time{}).Open
		_, err := p.Put(ctx, "new.jsonl", b, store.Cond{IfAbsent: true})
		wantErr(t, what, err, store.ErrChanged)
		_, err = p.Put(ctx, "old.jsonl", b, store.Cond{IfVersion: old})
		wantErr(t, what, err, store.ErrChanged)
	}
	wantMissing(t, h, "new.jsonl")
	wantBytes(t, h, "old.jsonl", []byte("old\n"))
	if got := names(t, h, ".", store.ListOptions{}); !slices.Equal(got, []string{"old.jsonl"}) {
		t.Errorf("List = %q", got)
	}
}

func testPutCancelled(t *testing.T, h Harness) {
	p, _ := store.As[store.Putter](h.Store)
	old, err := p.Put(ctx, "old.jsonl", store.BytesBody([]byte("old\n"), time.Time{}), store.Cond{IfAbsent: true})
	must(t, err)
	for name, c := range map[string]store.Cond{"new.jsonl": {IfAbsent: true}, "old.jsonl": {IfVersion: old}} {
		body := lines(5, 30_000)
		for _, at := range []int{0, len(body) / 2, len(body)} {
			c2, cancel := context.WithCancel(ctx)
			b := store.BytesBody(body, time.Time{})
			b.Open = func() (io.ReadCloser, error) {
				return &tripwire{bytes.NewReader(body), at, cancel}, nil
			}
			_, err := p.Put(c2, name, b, c)
			wantErr(t, fmt.Sprintf("Put(%s) cancelled at byte %d", name, at), err, context.Canceled)
			cancel()
		}
	}
	wantMissing(t, h, "new.jsonl")
	wantBytes(t, h, "old.jsonl", []byte("old\n"))
}

// tripwire calls cancel once at least at bytes were read.
type tripwire struct {
	*bytes.Reader
	at     int
	cancel func()
}

func (r *tripwire) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p[:min(len(p), 64<<10)])
	if int(r.Size())-r.Len() >= r.at {
		r.cancel()
	}
	return n, err
}
func (r *tripwire) WriteTo(io.Writer) (int64, error) { panic("only Read is to be used") }
func (r *tripwire) Close() error                     { return nil }

func testPutOneWins(t *testing.T, h Harness) {
	p, _ := store.As[store.Putter](h.Store)
	const writers = 8
	var (
		wg  sync.WaitGroup
		won [writers]bool
	)
	for i := range writers {
		wg.Go(func() {
			_, err := p.Put(ctx, "a.jsonl", store.BytesBody(lines(uint64(i), 100), time.Time{}), store.Cond{IfAbsent: true})
			won[i] = err == nil
			if err != nil && !errors.Is(err, store.ErrChanged) && !errors.Is(err, store.ErrBusy) {
				t.Errorf("writer %d: %v", i, err)
			}
		})
	}
	wg.Wait()
	winner := slices.Index(won[:], true)
	if winner < 0 || slices.Contains(won[winner+1:], true) {
		t.Fatalf("won: %v", won)
	}
	wantBytes(t, h, "a.jsonl", lines(uint64(winner), 100))
}

func testPutModTime(t *testing.T, h Harness) {
	p, _ := store.As[store.Putter](h.Store)
	want := time.Date(2025, 3, 4, 5, 6, 7, 123456700, time.UTC)
	_, err := p.Put(ctx, "a.jsonl", store.BytesBody([]byte("x\n"), want), store.Cond{IfAbsent: true})
	must(t, err)
	if got := info(t, h, "a.jsonl").ModTime; !got.Equal(want) {
		t.Errorf("ModTime = %v, want %v", got, want)
	}
}

func testRemoveConditions(t *testing.T, h Harness) {
	r, _ := store.As[store.Remover](h.Store)
	wantErr(t, "Remove of nothing", r.Remove(ctx, "a.jsonl", "x"), fs.ErrNotExist)
	write(t, h, "a.jsonl", []byte("one\n"))
	write(t, h, "b.jsonl", []byte("two\n"))
	wantErr(t, "Remove of another version", r.Remove(ctx, "a.jsonl", "x"), store.ErrChanged)
	must(t, r.Remove(ctx, "a.jsonl", info(t, h, "a.jsonl").Version))
	wantMissing(t, h, "a.jsonl")
	wantBytes(t, h, "b.jsonl", []byte("two\n"))
}

func testLockExcludes(t *testing.T, h Harness) {
	k, _ := store.As[store.Locker](h.Store)
	unlock, err := k.Lock(ctx, "d/a.jsonl")
	must(t, err)
	_, err = k.Lock(ctx, "d/a.jsonl")
	wantErr(t, "a second Lock", err, store.ErrBusy)
	_, err = h.Store.Create(ctx, "d/a.jsonl")
	wantErr(t, "Create of a locked name", err, store.ErrBusy)
	other, err := k.Lock(ctx, "d/b.jsonl")
	must(t, err)
	must(t, other())
	must(t, unlock())
	l := create(t, h, "d/a.jsonl")
	_, err = k.Lock(ctx, "d/a.jsonl")
	wantErr(t, "Lock of a log with a writer", err, store.ErrBusy)
	must(t, l.Close())
}

func testErrorsNameOnce(t *testing.T, h Harness) {
	write(t, h, "d/taken.jsonl", nil)
	_, missing := h.Store.Open(ctx, "d/missing.jsonl")
	_, taken := h.Store.Create(ctx, "d/taken.jsonl")
	_, invalid := h.Store.Open(ctx, "d//x")
	for name, err := range map[string]error{"d/missing.jsonl": missing, "d/taken.jsonl": taken, "d//x": invalid} {
		var e *store.Error
		if !errors.As(err, &e) || e.Name != name || e.Op == "" {
			t.Errorf("%v is not a *store.Error of %s", err, name)
			continue
		}
		if n := strings.Count(err.Error(), name); n != 1 || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q names the log %d times, or has more than a line", err, n)
		}
	}
}

// wrapper is the least a wrapper can be.
type wrapper struct{ Store }

func (w wrapper) Unwrap() any { return w.Store }

func testPowersSurviveWrapping(t *testing.T, h Harness) {
	w := Harness{Store: wrapper{h.Store}}
	for what, same := range map[string]bool{
		"Putter":  can[store.Putter](h) == can[store.Putter](w),
		"Remover": can[store.Remover](h) == can[store.Remover](w),
		"Locker":  can[store.Locker](h) == can[store.Locker](w),
	} {
		if !same {
			t.Errorf("wrapping changes whether %s is found", what)
		}
	}
	if reflect.TypeOf(w.Store) != reflect.TypeFor[wrapper]() {
		t.Fatal("the case tests nothing")
	}
}

// --- what the cases are made of

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

func create(t *testing.T, h Harness, name string) store.Log {
	t.Helper()
	l, err := h.Store.Create(ctx, name)
	must(t, err)
	return l
}

func appendTo(t *testing.T, l store.Log, s string) {
	t.Helper()
	must(t, l.Append([]byte(s)))
}

// write makes a sealed log in appends of different sizes.
func write(t *testing.T, h Harness, name string, content []byte) {
	t.Helper()
	l := create(t, h, name)
	for n := 1; len(content) > 0; n = n*3 + 1 {
		n = min(n, len(content))
		must(t, l.Append(content[:n]))
		content = content[n:]
	}
	must(t, l.Seal(ctx))
	must(t, l.Close())
}

func open(t *testing.T, h Harness, name string) store.File {
	t.Helper()
	f, err := h.Store.Open(ctx, name)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	return f
}

func info(t *testing.T, h Harness, name string) store.Info {
	t.Helper()
	return open(t, h, name).Info()
}

func readRange(t *testing.T, h Harness, name string, off, n int64) []byte {
	t.Helper()
	r, err := open(t, h, name).Range(ctx, off, n)
	must(t, err)
	defer r.Close()
	got, err := io.ReadAll(r)
	must(t, err)
	return got
}

func wantBytes(t *testing.T, h Harness, name string, want []byte) {
	t.Helper()
	if got := readRange(t, h, name, 0, -1); !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes, want %d, or others", name, len(got), len(want))
	}
}

func wantMissing(t *testing.T, h Harness, name string) {
	t.Helper()
	f, err := h.Store.Open(ctx, name)
	if err == nil {
		f.Close()
	}
	wantErr(t, "Open("+name+")", err, fs.ErrNotExist)
}

// names lists a directory; a name that ends in "/" is a directory's.
func names(t *testing.T, h Harness, dir string, o store.ListOptions) []string {
	t.Helper()
	var got []string
	for e, err := range h.Store.List(ctx, dir, o) {
		must(t, err)
		if e.Dir {
			e.Name += "/"
		}
		got = append(got, e.Name)
	}
	return got
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

// noise returns n bytes of text that does not compress.
func noise(seed uint64, n int) []byte {
	r := rand.New(rand.NewPCG(seed, 2))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte('a' + r.IntN(26))
	}
	return p
}
