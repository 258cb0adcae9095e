package storetest

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"sync"
	"time"

	"github.com/rollout-sync/rollout/store"
)

func testOpenMissing(t T, h Harness) {
	write(t, h, "dir/a.jsonl", nil)
	wantMissing(t, h, "b.jsonl")
	wantMissing(t, h, "dir")
	wantMissing(t, h, "dir/a.jsonl/x")
	wantMissing(t, h, "none/a.jsonl")
}

func testReadAfterWrite(t T, h Harness) {
	ctx := t.Context()
	now := map[string]string{} // the logs there are, with their bytes
	check := func(after string) {
		t.Helper()
		for _, s := range h.all() {
			listed := map[string]bool{}
			for e, err := range s.List(ctx, "d", store.ListOptions{}) {
				must(t, err)
				listed[e.Name] = true
			}
			if len(listed) != len(now) {
				t.Errorf("after %s: List has %d logs, want %d", after, len(listed), len(now))
			}
			for _, name := range []string{"d/a.jsonl", "d/b.jsonl"} {
				want, ok := now[name]
				if listed[name] != ok {
					t.Errorf("after %s: %s in List: %v", after, name, listed[name])
				}
				if ok {
					wantBytes(t, h.on(s), name, []byte(want))
				} else {
					wantMissing(t, h.on(s), name)
				}
			}
		}
	}
	write(t, h, "d/a.jsonl", []byte("one\n"))
	now["d/a.jsonl"] = "one\n"
	check("Seal")
	if appendable(h) {
		l, err := h.Store.Append(ctx, "d/a.jsonl")
		must(t, err)
		appendTo(t, l, "two\n")
		now["d/a.jsonl"] += "two\n"
		check("Append")
		must(t, l.Close())
	}
	if p, ok := store.As[store.Putter](h.Store); ok {
		version := put(t, h, "d/b.jsonl", "b\n")
		now["d/b.jsonl"] = "b\n"
		check("Put of a new log")
		_, err := p.Put(ctx, "d/b.jsonl", body("new\n"), store.Cond{IfVersion: version})
		must(t, err)
		now["d/b.jsonl"] = "new\n"
		check("Put in place of a log")
	}
	if r, ok := store.As[store.Remover](h.Store); ok {
		must(t, r.Remove(ctx, "d/a.jsonl", info(t, h, "d/a.jsonl").Version))
		delete(now, "d/a.jsonl")
		if len(now) > 0 { // a directory without logs may be there or not
			check("Remove")
		}
		write(t, h, "d/a.jsonl", []byte("again\n"))
		now["d/a.jsonl"] = "again\n"
		check("Seal of what was removed")
	}
}

// cut returns what Range(off, n) has to read of a log.
func cut(log []byte, off, n int64) []byte {
	size := int64(len(log))
	if off < 0 {
		off = max(0, size+off)
	}
	log = log[min(off, size):]
	if n >= 0 {
		log = log[:min(n, int64(len(log)))]
	}
	return log
}

func testRanges(t T, h Harness) {
	want := lines(7, 40_000) // several frames of a sealed log
	write(t, h, "a.jsonl", want)
	f := open(t, h, "a.jsonl")
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
		got, err := read(t.Context(), f, r.off, r.n)
		must(t, err)
		wantEqual(t, fmt.Sprintf("Range(%d, %d)", r.off, r.n), got, cut(want, r.off, r.n))
	}
}

func testRangesAtOnce(t T, h Harness) {
	ctx := t.Context()
	want := lines(7, 40_000)
	write(t, h, "a.jsonl", want)
	f := open(t, h, "a.jsonl")
	size := int64(len(want))

	// Two readers in turns, with Info between.
	a, err := f.Range(ctx, 0, -1)
	must(t, err)
	defer a.Close()
	b, err := f.Range(ctx, size/2, -1)
	must(t, err)
	defer b.Close()
	var first, second bytes.Buffer
	for {
		n, err := io.CopyN(&first, a, 64<<10)
		if _, err := io.CopyN(&second, b, 50<<10); err != nil && err != io.EOF {
			t.Fatalf("%v", err)
		}
		if f.Info().Size != size {
			t.Fatalf("Size = %d, want %d", f.Info().Size, size)
		}
		if n == 0 && err == io.EOF {
			break
		} else if err != io.EOF {
			must(t, err)
		}
	}
	wantEqual(t, "the first of two readers", first.Bytes(), want)
	wantEqual(t, "the second of two readers", second.Bytes(), want[size/2:])

	var wg sync.WaitGroup
	for i := range int64(8) {
		wg.Go(func() {
			off, n := size/8*i, size/4
			got, err := read(t.Context(), f, off, n)
			if err != nil || !bytes.Equal(got, cut(want, off, n)) || f.Info().Size != size {
				t.Errorf("Range(%d, %d) beside others: %d bytes, %v", off, n, len(got), err)
			}
		})
	}
	wg.Wait()
}

func testFileIsOneVersion(t T, h Harness) {
	ctx := t.Context()
	// So long that no store reads all of it ahead, and of one length, so that only
	// the bytes tell one version from the other.
	const size = 300_000
	old := append(noise(1, size-1), '\n')
	other := append(noise(2, size-1), '\n')
	changes := map[string]func(name, version string) error{}
	if p, ok := store.As[store.Putter](h.Store); ok {
		changes["put.jsonl"] = func(name, version string) error {
			_, err := p.Put(ctx, name, store.BytesBody(other, time.Time{}), store.Cond{IfVersion: version})
			return err
		}
	}
	if r, ok := store.As[store.Remover](h.Store); ok {
		changes["remove.jsonl"] = func(name, version string) error { return r.Remove(ctx, name, version) }
	}
	if appendable(h) {
		changes["append.jsonl"] = func(name, _ string) error {
			l, err := h.Store.Append(ctx, name)
			if err != nil {
				return err
			}
			return errors.Join(l.Append(other), l.Close())
		}
	}
	for name, change := range changes {
		write(t, h, name, old)
		f := open(t, h, name)
		before := f.Info()
		r, err := f.Range(ctx, 0, -1)
		must(t, err)
		begun := make([]byte, 1000)
		_, err = io.ReadFull(r, begun)
		must(t, err)
		must(t, change(name, before.Version))
		rest, err := io.ReadAll(r)
		must(t, r.Close())
		check := func(what string, got []byte, err error, want []byte) {
			t.Helper()
			if err == nil {
				wantEqual(t, name+": "+what, got, want)
			} else if wantErr(t, name+": "+what, err, store.ErrChanged); !bytes.HasPrefix(want, got) {
				t.Errorf("%s: %s has other bytes before it is ErrChanged", name, what)
			}
		}
		check("what had begun to be read", append(begun, rest...), err, old)
		for _, r := range []struct{ off, n int64 }{{0, -1}, {size - 10, -1}, {-10, -1}, {size, -1}, {100_000, 1000}} {
			got, err := read(t.Context(), f, r.off, r.n)
			check(fmt.Sprintf("Range(%d, %d)", r.off, r.n), got, err, cut(old, r.off, r.n))
		}
		if after := f.Info(); after.Size != before.Size || after.Version != before.Version {
			t.Errorf("%s: Info was %+v and is %+v", name, before, after)
		}
	}
}

func testFileAfterClose(t T, h Harness) {
	write(t, h, "a.jsonl", []byte("one\n"))
	f, err := h.Store.Open(t.Context(), "a.jsonl")
	must(t, err)
	must(t, f.Close())
	_, err = read(t.Context(), f, 0, -1)
	wantErr(t, "reading", err, fs.ErrClosed)
	wantErr(t, "a second Close", f.Close(), fs.ErrClosed)
}

func testInfoIsTrue(t T, h Harness) {
	want := lines(9, 3000)
	began := time.Now()
	write(t, h, "a.jsonl", want)
	write(t, h, "b.txt", want)
	if can[store.Putter](h) {
		put(t, h, "c.jsonl", string(want))
	}
	check := func(what string, i store.Info) {
		t.Helper()
		if i.Size != -1 && i.Size != int64(len(want)) || i.Stored <= 0 {
			t.Errorf("%s: Size %d, Stored %d of a log of %d bytes", what, i.Size, i.Stored, len(want))
		}
		const skew = time.Minute // of a service's clock
		if m := i.ModTime; !m.IsZero() && (m.Before(began.Add(-skew)) || m.After(time.Now().Add(skew))) {
			t.Errorf("%s: ModTime %v of a log written just now", what, m)
		}
		if sum, ok := i.Meta[store.MetaSHA256]; ok && sum != fmt.Sprintf("%x", sha256.Sum256(want)) {
			t.Errorf("%s: the hash %s is not the log's", what, sum)
		}
		if n, ok := i.Meta[store.MetaLines]; ok && n != strconv.Itoa(bytes.Count(want, []byte("\n"))) {
			t.Errorf("%s: %s lines are not the log's", what, n)
		}
	}
	for e, err := range h.Store.List(t.Context(), ".", store.ListOptions{}) {
		must(t, err)
		opened := info(t, h, e.Name)
		check("List of "+e.Name, e.Info)
		check("Open of "+e.Name, opened)
		if opened.Size < 0 || opened.Version == "" {
			t.Errorf("Open of %s, which the store itself wrote, does not know its size or version: %+v", e.Name, opened)
		}
		if e.Info.Stored != opened.Stored || e.Info.Version != "" && e.Info.Version != opened.Version {
			t.Errorf("%s is %+v for List, %+v for Open", e.Name, e.Info, opened)
		}
	}
}

func testVersionChanges(t T, h Harness) {
	ctx := t.Context()
	write(t, h, "a.jsonl", []byte("one\n"))
	last := info(t, h, "a.jsonl")
	changed := func(after string) store.Info {
		t.Helper()
		i := info(t, h, "a.jsonl")
		if i.Version == last.Version {
			t.Errorf("the version is the same after %s", after)
		}
		last = i
		return i
	}
	if again := info(t, h, "a.jsonl"); again.Version != last.Version {
		t.Errorf("the version changed from %s to %s without a change", last.Version, again.Version)
	}
	if appendable(h) {
		l, err := h.Store.Append(ctx, "a.jsonl")
		must(t, err)
		appendTo(t, l, "two\n")
		must(t, l.Close())
		changed("Append")
	}
	if p, ok := store.As[store.Putter](h.Store); ok {
		same := bytes.Repeat([]byte("x"), int(last.Size)) // of the same size and time
		version, err := p.Put(ctx, "a.jsonl", store.BytesBody(same, last.ModTime), store.Cond{IfVersion: last.Version})
		must(t, err)
		if i := changed("Put"); i.Version != version {
			t.Errorf("Put returned version %s, and it is %s", version, i.Version)
		}
	}
}
