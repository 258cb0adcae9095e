package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rollout-sync/rollout/store"
)

// plant writes logs whose order as names is not that of their paths or keys, and
// returns what List has to make of them. One directory has the name of a log but
// for its suffix.
func plant(t T, h Harness) (root []string) {
	t.Helper()
	for _, n := range []string{
		"a-b.jsonl", "a.jsonl", "a/x.jsonl", "a/y/z.jsonl", "aa.jsonl", "B.jsonl", "b/c.jsonl", "é.jsonl", "a b.jsonl", "c.txt",
	} {
		write(t, h, n, []byte(n+"\n"))
	}
	return []string{"B.jsonl", "a/", "a b.jsonl", "a-b.jsonl", "a.jsonl", "aa.jsonl", "b/", "c.txt", "é.jsonl"}
}

func testListOrder(t T, h Harness) {
	wantNames(t, h, ".")
	wantNames(t, h, ".", plant(t, h)...)
	wantNames(t, h, "a", "a/x.jsonl", "a/y/")
	wantNames(t, h, "a/y", "a/y/z.jsonl")
	for _, dir := range []string{"none", "a/none", "a.jsonl", "a/y/z.jsonl"} {
		for e, err := range h.Store.List(t.Context(), dir, store.ListOptions{}) {
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("List(%q), which is no directory, yields %q, %v", dir, e.Name, err)
			}
		}
	}
}

func testListNewestFirst(t T, h Harness) {
	all := plant(t, h)
	for _, desc := range []bool{false, true} {
		for _, before := range append([]string{"", "0", "zz", "a.jsonll"}, all...) {
			before = strings.TrimSuffix(before, "/")
			for _, limit := range []int{0, 1, 2, len(all), len(all) + 5} {
				o := store.ListOptions{Desc: desc, Before: before, Limit: limit}
				want := slices.DeleteFunc(slices.Clone(all), func(n string) bool {
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

func testListUnordered(t T, h Harness) {
	ctx := t.Context()
	plant(t, h)
	want := map[string]store.Entry{}
	for e, err := range h.Store.List(ctx, ".", store.ListOptions{}) {
		must(t, err)
		want[e.Name] = e
	}
	for _, o := range []store.ListOptions{
		{Unordered: true},
		{Unordered: true, Desc: true, Before: "a", Limit: 1}, // not looked at
		{Unordered: true, NamesOnly: true},
		{NamesOnly: true},
	} {
		times := map[string]int{}
		for e, err := range h.Store.List(ctx, ".", o) {
			must(t, err)
			times[e.Name]++
			w, ok := want[e.Name]
			if !ok || e.Dir != w.Dir {
				t.Errorf("List(%+v) yields %q, which is not there", o, e.Name)
			}
			if got := e.Info.Version; got != w.Info.Version && !(o.NamesOnly && got == "") {
				t.Errorf("List(%+v): %q has version %q, want %q", o, e.Name, got, w.Info.Version)
			}
		}
		for name := range want {
			if n := times[name]; n == 0 || n > 2 || n > 1 && !o.Unordered {
				t.Errorf("List(%+v) yields %q %d times", o, name, n)
			}
		}
	}
	for e, err := range h.Store.List(ctx, "none", store.ListOptions{Unordered: true}) {
		if !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("an unordered List of no directory yields %q, %v", e.Name, err)
		}
	}
}

func testListBreak(t T, h Harness) {
	all := plant(t, h)
	seq := h.Store.List(t.Context(), ".", store.ListOptions{})
	for stop := range len(all) + 1 {
		var got []string
		for e, err := range seq {
			must(t, err)
			if e.Dir {
				e.Name += "/"
			}
			if got = append(got, e.Name); len(got) > stop {
				break
			}
		}
		if want := all[:min(stop+1, len(all))]; !slices.Equal(got, want) {
			t.Errorf("left after %d entries, List has %q, want %q", stop+1, got, want)
		}
	}
}

func testListCancelled(t T, h Harness) {
	all := plant(t, h)
	for at := -1; at < len(all); at++ { // the entry at which the context ends; -1: before
		cancelled, cancel := context.WithCancel(t.Context())
		if at < 0 {
			cancel()
		}
		var (
			n     int
			ended error
		)
		for e, err := range h.Store.List(cancelled, ".", store.ListOptions{}) {
			if ended != nil {
				t.Fatalf("cancelled at %d: the sequence goes on after %v", at, ended)
			}
			if ended = err; err != nil {
				if e.Name != "" || e.Dir {
					t.Errorf("cancelled at %d: the error comes with %q", at, e.Name)
				}
				continue
			}
			if n == at {
				cancel()
			}
			n++
		}
		cancel()
		switch {
		case ended != nil:
			wantErr(t, fmt.Sprintf("List cancelled at %d", at), ended, context.Canceled)
		case at < 0 || n < len(all):
			t.Errorf("List cancelled at %d ends without an error after %d of %d entries", at, n, len(all))
		}
	}
}

func testListWhileWriting(t T, h Harness) {
	ctx := t.Context()
	p, isPutter := store.As[store.Putter](h.Store)
	content := lines(3, 200)
	writeWhole := func(h Harness, name string) error { // whole, in one way or the other
		if isPutter && strings.Contains(name, "put") {
			_, err := p.Put(ctx, name, store.BytesBody(content, time.Time{}), store.Cond{IfAbsent: true})
			return err
		}
		l, err := h.Store.Create(ctx, name)
		if err != nil {
			return err
		}
		for part := range slices.Chunk(content, len(content)/2+1) {
			err = errors.Join(err, l.Append(part))
		}
		return errors.Join(err, l.Seal(ctx), l.Close())
	}

	// From inside of the loop.
	old := plant(t, h)
	seen := map[string]int{}
	for e, err := range h.Store.List(ctx, ".", store.ListOptions{}) {
		must(t, err)
		seen[e.Name]++
		if strings.HasPrefix(e.Name, "new-") {
			continue
		}
		must(t, writeWhole(h, "new-"+e.Name))
		must(t, writeWhole(h, "new-put-"+e.Name))
		if !e.Dir && appendable(h) {
			l, err := h.Store.Append(ctx, e.Name)
			must(t, err)
			appendTo(t, l, "more\n")
			must(t, l.Close())
		}
	}
	for _, name := range old {
		if name = strings.TrimSuffix(name, "/"); seen[name] != 1 {
			t.Errorf("List has %s %d times", name, seen[name])
		}
	}
	for name, n := range seen {
		if n != 1 || !slices.Contains(old, name) && !slices.Contains(old, name+"/") && !strings.HasPrefix(name, "new-") {
			t.Errorf("List has %s %d times", name, n)
		}
	}

	// From others.
	const writers, each = 4, 6
	var (
		wg      sync.WaitGroup
		stores  = h.all()
		known   = map[string]bool{}
		stopped = make(chan struct{})
	)
	for i := range writers {
		var mine []string
		for j := range each {
			mine = append(mine, fmt.Sprintf("d/%d-create-%d.jsonl", j, i), fmt.Sprintf("d/%d-put-%d.jsonl", j, i))
		}
		for _, name := range mine {
			known[name] = true
		}
		wg.Go(func() {
			for _, name := range mine {
				if err := writeWhole(h.on(stores[i%len(stores)]), name); err != nil {
					t.Errorf("writing %s while others list: %v", name, err)
				}
			}
		})
	}
	go func() {
		defer close(stopped)
		wg.Wait()
	}()
	for going := true; going; {
		select {
		case <-stopped:
			going = false // one last time, for what there is in the end
		default:
		}
		last := ""
		n := 0
		for e, err := range h.Store.List(ctx, "d", store.ListOptions{}) {
			if errors.Is(err, fs.ErrNotExist) {
				break // nothing was written yet
			}
			must(t, err)
			n++
			if !known[e.Name] || e.Name <= last {
				t.Fatalf("List has %q after %q while others write", e.Name, last)
			}
			last = e.Name
			f, err := h.Store.Open(ctx, e.Name)
			must(t, err)
			got, err := read(t.Context(), f, 0, -1)
			must(t, errors.Join(err, f.Close()))
			whole := bytes.Equal(got, content)
			growing := appendable(h) && (strings.Contains(e.Name, "create") || !isPutter)
			if !whole && !(growing && bytes.HasPrefix(content, got)) {
				t.Fatalf("%s is listed with %d of %d bytes, or others", e.Name, len(got), len(content))
			}
		}
		if !going && n != len(known) {
			t.Errorf("List has %d logs in the end, want %d", n, len(known))
		}
	}
}
