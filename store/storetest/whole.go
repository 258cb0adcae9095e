package storetest

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"runtime/pprof"
	"slices"
	"strings"
	"time"

	"github.com/rollout-sync/rollout/store"
)

// methods returns what a store can be asked to do with a name, by the Op of the
// errors. What succeeds is closed, and otherwise left as it is.
func methods(h Harness) map[string]func(ctx context.Context, name string) error {
	closing := func(c io.Closer, err error) error {
		if err != nil {
			return err
		}
		return c.Close()
	}
	m := map[string]func(context.Context, string) error{
		"open": func(ctx context.Context, name string) error {
			f, err := h.Store.Open(ctx, name)
			return closing(f, err)
		},
		"list": func(ctx context.Context, name string) (err error) {
			for _, err = range h.Store.List(ctx, name, store.ListOptions{}) {
			}
			return err
		},
		"create": func(ctx context.Context, name string) error {
			l, err := h.Store.Create(ctx, name)
			return closing(l, err)
		},
		"append": func(ctx context.Context, name string) error {
			l, err := h.Store.Append(ctx, name)
			return closing(l, err)
		},
	}
	if p, ok := store.As[store.Putter](h.Store); ok {
		m["put"] = func(ctx context.Context, name string) error {
			_, err := p.Put(ctx, name, body("put\n"), store.Cond{IfAbsent: true})
			return err
		}
	}
	if r, ok := store.As[store.Remover](h.Store); ok {
		m["remove"] = func(ctx context.Context, name string) error { return r.Remove(ctx, name, "x") }
	}
	if v, ok := store.As[store.Mover](h.Store); ok {
		m["move"] = func(ctx context.Context, name string) error { return v.Move(ctx, name, "x", "moved.jsonl") }
	}
	if k, ok := store.As[store.Locker](h.Store); ok {
		m["lock"] = func(ctx context.Context, name string) error {
			unlock, err := k.Lock(ctx, name)
			if err != nil {
				return err
			}
			return unlock()
		}
	}
	return m
}

func testCancelled(t T, h Harness) {
	ctx := t.Context()
	write(t, h, "old.jsonl", []byte("old\n"))
	l := create(t, h, "b.jsonl")
	appendTo(t, l, "one\n")
	f := open(t, h, "old.jsonl")

	cancelled, cancel := context.WithCancel(ctx)
	cancel()
	late, cancel := context.WithDeadline(ctx, time.Now().Add(-time.Second))
	defer cancel()
	for _, done := range []context.Context{cancelled, late} {
		for op, call := range methods(h) {
			name := "old.jsonl" // for those that need one
			switch op {
			case "append":
				if h.WriteOnce {
					continue // errors.ErrUnsupported, or that of the context
				}
			case "list":
				name = "."
			case "create", "put":
				name = op + ".jsonl"
			}
			wantErr(t, op, call(done, name), done.Err())
		}
		if r, ok := store.As[store.Remover](h.Store); ok {
			wantErr(t, "remove", r.Remove(done, "old.jsonl", f.Info().Version), done.Err())
		}
		if v, ok := store.As[store.Mover](h.Store); ok {
			wantErr(t, "move", v.Move(done, "old.jsonl", f.Info().Version, "moved.jsonl"), done.Err())
		}
		_, err := f.Range(done, 0, -1)
		wantErr(t, "range", err, done.Err())
		wantErr(t, "seal", l.Seal(done), done.Err())
	}

	must(t, l.Seal(ctx))
	must(t, l.Close())
	wantNames(t, h, ".", "b.jsonl", "old.jsonl")
	wantBytes(t, h, "b.jsonl", []byte("one\n"))
	wantBytes(t, h, "old.jsonl", []byte("old\n"))
}

func testErrors(t T, h Harness) {
	ctx := t.Context()
	write(t, h, "zone/taken.jsonl", []byte("x\n"))
	check := func(op, name string, err, want error) {
		t.Helper()
		wantErr(t, op+" "+name, err, want)
		var e *store.Error
		if !errors.As(err, &e) || e.Op != op || e.Name != name {
			t.Errorf("%v is not a *store.Error of %s %s", err, op, name)
			return
		}
		if n := strings.Count(err.Error(), name); n != 1 || strings.Contains(err.Error(), "\n") || errors.As(e.Err, &e) {
			t.Errorf("%q names the log %d times, or is wrapped twice, or has more than a line", err, n)
		}
	}
	call := methods(h)
	for op := range call {
		check(op, "zone//x", call[op](ctx, "zone//x"), store.ErrInvalidName)
	}
	check("open", "zone/missing.jsonl", call["open"](ctx, "zone/missing.jsonl"), fs.ErrNotExist)
	check("open", "zone", call["open"](ctx, "zone"), fs.ErrNotExist)
	check("create", "zone/taken.jsonl", call["create"](ctx, "zone/taken.jsonl"), fs.ErrExist)
	if h.WriteOnce {
		check("append", "zone/taken.jsonl", call["append"](ctx, "zone/taken.jsonl"), errors.ErrUnsupported)
	} else {
		check("append", "zone/missing.jsonl", call["append"](ctx, "zone/missing.jsonl"), fs.ErrNotExist)
	}

	l := create(t, h, "zone/new.jsonl")
	if h.WriteOnce {
		check("sync", "zone/new.jsonl", l.Sync(), errors.ErrUnsupported)
	} else {
		for _, op := range []string{"create", "append"} {
			check(op, "zone/new.jsonl", call[op](ctx, "zone/new.jsonl"), store.ErrBusy)
		}
	}
	done, cancel := context.WithCancel(ctx)
	cancel()
	check("open", "zone/taken.jsonl", call["open"](done, "zone/taken.jsonl"), context.Canceled)
	check("seal", "zone/new.jsonl", l.Seal(done), context.Canceled)
	must(t, l.Close())
	check("append", "zone/new.jsonl", l.Append(nil), fs.ErrClosed)
	check("sync", "zone/new.jsonl", l.Sync(), fs.ErrClosed)
	check("seal", "zone/new.jsonl", l.Seal(ctx), fs.ErrClosed)
	check("close", "zone/new.jsonl", l.Close(), fs.ErrClosed)

	if p, ok := store.As[store.Putter](h.Store); ok {
		check("put", "zone/taken.jsonl", call["put"](ctx, "zone/taken.jsonl"), store.ErrChanged)
		failure := errors.New("disk on fire")
		b := body("x\n")
		b.Open = func() (io.ReadCloser, error) { return nil, failure }
		_, err := p.Put(ctx, "zone/x.jsonl", b, store.Cond{IfAbsent: true})
		check("put", "zone/x.jsonl", err, failure)
	}
	if can[store.Remover](h) {
		check("remove", "zone/taken.jsonl", call["remove"](ctx, "zone/taken.jsonl"), store.ErrChanged)
		check("remove", "zone/missing.jsonl", call["remove"](ctx, "zone/missing.jsonl"), fs.ErrNotExist)
	}
	if can[store.Mover](h) {
		check("move", "zone/taken.jsonl", call["move"](ctx, "zone/taken.jsonl"), store.ErrChanged)
		check("move", "zone/missing.jsonl", call["move"](ctx, "zone/missing.jsonl"), fs.ErrNotExist)
	}
	if k, ok := store.As[store.Locker](h.Store); ok {
		unlock, err := k.Lock(ctx, "zone/taken.jsonl")
		must(t, err)
		check("lock", "zone/taken.jsonl", call["lock"](ctx, "zone/taken.jsonl"), store.ErrBusy)
		must(t, unlock())
	}
}

// wrapper is the least a wrapper can be.
type wrapper struct{ Store }

func (w wrapper) Unwrap() any { return w.Store }

func testPowersSurviveWrapping(t T, h Harness) {
	ctx := t.Context()
	w := h.on(wrapper{wrapper{h.Store}})
	if p, ok := store.As[store.Putter](w.Store); ok {
		version := put(t, w, "put.jsonl", "one\n")
		wantBytes(t, h, "put.jsonl", []byte("one\n"))
		_, err := p.Put(ctx, "put.jsonl", body("two\n"), store.Cond{IfVersion: version})
		must(t, err)
		wantBytes(t, h, "put.jsonl", []byte("two\n"))
	}
	if r, ok := store.As[store.Remover](w.Store); ok {
		write(t, h, "remove.jsonl", nil)
		must(t, r.Remove(ctx, "remove.jsonl", info(t, h, "remove.jsonl").Version))
		wantMissing(t, h, "remove.jsonl")
	}
	if v, ok := store.As[store.Mover](w.Store); ok {
		write(t, h, "move.jsonl", nil)
		must(t, v.Move(ctx, "move.jsonl", info(t, h, "move.jsonl").Version, "moved.jsonl"))
		wantMissing(t, h, "move.jsonl")
		wantBytes(t, h, "moved.jsonl", nil)
	}
	if k, ok := store.As[store.Locker](w.Store); ok {
		unlock, err := k.Lock(ctx, "lock.jsonl")
		must(t, err)
		_, err = h.Store.Create(ctx, "lock.jsonl")
		wantErr(t, "Create of a name that is locked through a wrapper", err, store.ErrBusy)
		must(t, unlock())
	}
	if can[store.Putter](w) != can[store.Putter](h) || can[store.Remover](w) != can[store.Remover](h) ||
		can[store.Mover](w) != can[store.Mover](h) || can[store.Locker](w) != can[store.Locker](h) {
		t.Errorf("a wrapper hides a power")
	}
}

// testNothingLeft does everything many times and counts. Goroutines are told from
// those of other tests by a label, which they inherit. Descriptors cannot be; but
// what others have opened meanwhile goes with time, so of those that are new it
// waits for most to go, and starts again when they do not. All Files, Logs and
// readers are kept until then, since the collector closes what nobody refers to.
func testNothingLeft(t T, h Harness) {
	ctx := t.Context()
	const (
		rounds   = 24
		attempts = 5
		patience = 2 * time.Second
	)
	label := fmt.Sprintf("%p", &h)
	pprof.SetGoroutineLabels(pprof.WithLabels(ctx, pprof.Labels("storetest", label)))
	defer pprof.SetGoroutineLabels(ctx)
	var kept []io.Closer
	defer func() { runtime.KeepAlive(kept) }()
	use(t, h, "warm", &kept) // a service's client keeps connections
	var goroutines int
	var left map[string]bool
	for attempt := range attempts {
		before := descriptors()
		goroutines = -countGoroutines(label)
		for round := range rounds {
			use(t, h, fmt.Sprintf("%d/%d", attempt, round), &kept)
		}
		goroutines += countGoroutines(label)
		left = descriptors()
		maps.DeleteFunc(left, func(d string, _ bool) bool { return before[d] })
		tick := time.NewTicker(10 * time.Millisecond)
		for end := time.Now().Add(patience); len(left) >= rounds/2 && time.Now().Before(end); <-tick.C {
			now := descriptors()
			maps.DeleteFunc(left, func(d string, _ bool) bool { return !now[d] })
		}
		tick.Stop()
		if goroutines < rounds/2 && len(left) < rounds/2 {
			return
		}
	}
	t.Errorf("%d rounds leave %d goroutines and %d descriptors, again and again: %v",
		rounds, goroutines, len(left), slices.Sorted(maps.Keys(left)))
}

// use makes calls that succeed, fail, and are left in the middle, in dir.
func use(t T, h Harness, dir string, kept *[]io.Closer) {
	t.Helper()
	ctx := t.Context()
	done, cancel := context.WithCancel(ctx)
	cancel()
	name := dir + "/a.jsonl"

	l := create(t, h, name)
	appendTo(t, l, "one\n")
	must(t, l.Seal(ctx))
	must(t, l.Close())
	unsealed := create(t, h, dir+"/unsealed.jsonl")
	appendTo(t, unsealed, "one\n")
	wantErr(t, "Seal", unsealed.Seal(done), context.Canceled)
	must(t, unsealed.Close())
	*kept = append(*kept, l, unsealed)
	if appendable(h) {
		l, err := h.Store.Append(ctx, name)
		must(t, err)
		must(t, l.Close())
		*kept = append(*kept, l)
	}

	f, err := h.Store.Open(ctx, name)
	must(t, err)
	r, err := f.Range(ctx, 0, -1)
	must(t, err)
	_, err = io.ReadFull(r, make([]byte, 1))
	must(t, errors.Join(err, r.Close(), f.Close()))
	*kept = append(*kept, f, r)
	for _, err := range h.Store.List(ctx, dir, store.ListOptions{}) {
		must(t, err)
		break
	}

	call := methods(h)
	for op := range call {
		call[op](done, name)
		call[op](ctx, dir+"/missing.jsonl")
	}
	if p, ok := store.As[store.Putter](h.Store); ok {
		wrong := body("one\n")
		wrong.Open = body("two\n").Open
		_, err = p.Put(ctx, dir+"/put.jsonl", wrong, store.Cond{IfAbsent: true})
		wantErr(t, "Put", err, store.ErrChanged)
		put(t, h, dir+"/put.jsonl", "put\n")
	}
	if r, ok := store.As[store.Remover](h.Store); ok {
		must(t, r.Remove(ctx, name, f.Info().Version))
	}
}

// countGoroutines counts those that have the label.
func countGoroutines(label string) (n int) {
	var b bytes.Buffer
	if err := pprof.Lookup("goroutine").WriteTo(&b, 1); err != nil {
		panic(err) // it is written to memory
	}
	// A stack, "3 @ 0x…", is followed by the labels of the goroutines that have it.
	count := 0
	for s := bufio.NewScanner(&b); s.Scan(); {
		if k := 0; strings.Contains(s.Text(), " @ ") {
			if _, err := fmt.Sscanf(s.Text(), "%d @", &k); err == nil {
				count = k
			}
		} else if strings.HasPrefix(s.Text(), "# labels: ") && strings.Contains(s.Text(), fmt.Sprintf("%q", label)) {
			n += count
		}
	}
	return n
}

// descriptors are the process's, each with what it is of; none where the system
// does not tell.
func descriptors() map[string]bool {
	const dir = "/proc/self/fd"
	entries, _ := os.ReadDir(dir)
	all := make(map[string]bool, len(entries))
	for _, e := range entries {
		of, _ := os.Readlink(filepath.Join(dir, e.Name()))
		all[e.Name()+" "+of] = true
	}
	return all
}
