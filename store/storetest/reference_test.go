package storetest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rollout-sync/rollout/store"
)

// A memory is the least that keeps the contract: logs in a map. It is what the
// suite itself is tested with.
type memory struct {
	writeOnce bool

	mu     sync.Mutex
	logs   map[string]object
	locked map[string]bool
	clock  int          // of versions
	fail   map[Op]error // what the next operation returns
}

// An object is what a name means. Its bytes are never changed, only replaced by
// others or by longer ones.
type object struct {
	bytes   []byte
	version int
	modTime time.Time
}

func (o object) info() store.Info {
	size := int64(len(o.bytes))
	return store.Info{Size: size, Stored: size, Seekable: true, ModTime: o.modTime, Version: fmt.Sprintf("v%d", o.version)}
}

func newMemory(writeOnce bool) *memory {
	return &memory{writeOnce: writeOnce, logs: map[string]object{}, locked: map[string]bool{}, fail: map[Op]error{}}
}

// do runs f, unless the context is done or the name is none, alone.
func (m *memory) do(ctx context.Context, op, name string, f func() error) error {
	err := ctx.Err()
	if err == nil && !(op == "list" && name == ".") {
		err = store.CheckName(name)
	}
	if err == nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		err = f()
	}
	return store.Wrap(op, name, err)
}

func (m *memory) set(name string, p []byte, modTime time.Time) string {
	m.clock++
	o := object{p, m.clock, cmp.Or(modTime, time.Now())}
	m.logs[name] = o
	return o.info().Version
}

// check compares what name means with a condition.
func (m *memory) check(name string, c store.Cond) error {
	o, ok := m.logs[name]
	if c.IfAbsent == ok || ok && o.info().Version != c.IfVersion {
		return store.ErrChanged
	}
	return nil
}

// lock takes the writer's lock of name.
func (m *memory) lock(name string) error {
	if m.locked[name] {
		return store.ErrBusy
	}
	m.locked[name] = true
	return nil
}

func (m *memory) Open(ctx context.Context, name string) (f store.File, err error) {
	err = m.do(ctx, "open", name, func() error {
		o, ok := m.logs[name]
		if !ok {
			return fs.ErrNotExist
		}
		f = &memFile{object: o, name: name}
		return nil
	})
	return f, err
}

func (m *memory) List(ctx context.Context, dir string, o store.ListOptions) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		var found []store.Entry
		prefix := dir + "/"
		if dir == "." {
			prefix = ""
		}
		err := m.do(ctx, "list", dir, func() error {
			for name, o := range m.logs {
				rest, ok := strings.CutPrefix(name, prefix)
				if !ok {
					continue
				}
				if element, _, deeper := strings.Cut(rest, "/"); deeper {
					found = append(found, store.Entry{Name: prefix + element, Dir: true})
				} else {
					found = append(found, store.Entry{Name: name, Info: o.info()})
				}
			}
			return nil
		})
		if err != nil {
			yield(store.Entry{}, err)
			return
		}
		entries := func(yield func(store.Entry, error) bool) {
			for _, e := range found {
				if !yield(e, nil) {
					return
				}
			}
		}
		if !o.Unordered {
			entries = store.Ordered(o, entries)
		}
		for e, err := range entries {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(store.Entry{}, err)
				return
			}
			if o.NamesOnly {
				e.Info = store.Info{}
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

func (m *memory) Create(ctx context.Context, name string) (l store.Log, err error) {
	err = m.do(ctx, "create", name, func() error {
		if !m.writeOnce {
			if err := m.lock(name); err != nil {
				return err
			}
		}
		if _, ok := m.logs[name]; ok {
			delete(m.locked, name)
			return fs.ErrExist
		}
		if !m.writeOnce {
			m.set(name, nil, time.Time{})
		}
		l = &memLog{m: m, name: name}
		return nil
	})
	return l, err
}

func (m *memory) Append(ctx context.Context, name string) (l store.Log, err error) {
	err = m.do(ctx, "append", name, func() error {
		o, ok := m.logs[name]
		switch {
		case m.writeOnce:
			return errors.ErrUnsupported
		case !ok:
			return fs.ErrNotExist
		}
		l = &memLog{m: m, name: name, bytes: o.bytes, synced: len(o.bytes)}
		return m.lock(name)
	})
	return l, err
}

func (m *memory) Put(ctx context.Context, name string, b store.Body, c store.Cond) (version string, err error) {
	put := func() error {
		if err := c.Check(); err != nil {
			return err
		}
		r, err := b.Reader(ctx)
		if err != nil {
			return err
		}
		p, err := io.ReadAll(r)
		if err = errors.Join(err, r.Close()); err != nil {
			return err
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.locked[name] {
			return store.ErrBusy
		}
		if err := cmp.Or(ctx.Err(), m.check(name, c)); err != nil {
			return err
		}
		version = m.set(name, p, b.ModTime)
		if b.Stored != nil {
			b.Stored(m.logs[name].info().Stored)
		}
		return nil
	}
	if err := m.do(ctx, "put", name, func() error { return nil }); err != nil {
		return "", err
	}
	return version, store.Wrap("put", name, put())
}

func (m *memory) Remove(ctx context.Context, name, version string) error {
	return m.do(ctx, "remove", name, func() error {
		if _, ok := m.logs[name]; !ok {
			return fs.ErrNotExist
		}
		if err := m.check(name, store.Cond{IfVersion: version}); err != nil {
			return err
		}
		delete(m.logs, name)
		return nil
	})
}

func (m *memory) Move(ctx context.Context, name, version, to string) error {
	err := cmp.Or(store.CheckName(name), store.CheckName(to))
	if err == nil && strings.HasSuffix(name, ".jsonl") != strings.HasSuffix(to, ".jsonl") {
		err = errors.ErrUnsupported
	}
	if err != nil {
		return store.Wrap("move", name, err)
	}
	return m.do(ctx, "move", name, func() error {
		if _, ok := m.logs[name]; !ok {
			return fs.ErrNotExist
		}
		if err := m.check(name, store.Cond{IfVersion: version}); err != nil {
			return err
		}
		if _, ok := m.logs[to]; ok {
			return fs.ErrExist
		}
		m.logs[to] = m.logs[name]
		delete(m.logs, name)
		return nil
	})
}

func (m *memory) Lock(ctx context.Context, name string) (unlock func() error, err error) {
	err = m.do(ctx, "lock", name, func() error { return m.lock(name) })
	return func() error { m.unlock(name); return nil }, err
}

func (m *memory) unlock(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.locked, name)
}

// Fail is the harness's.
func (m *memory) Fail(op Op, err error) { m.fail[op] = err }

type memLog struct {
	m      *memory
	name   string
	bytes  []byte
	synced int
	sealed bool
	closed bool
	err    error
}

func (l *memLog) Size() int64 { return int64(len(l.bytes)) }

// do runs f, unless the log is at its end, alone.
func (l *memLog) do(op string, f func() error) error {
	if l.closed || l.sealed {
		return store.Wrap(op, l.name, fs.ErrClosed)
	}
	if l.err != nil {
		return l.err
	}
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	return store.Wrap(op, l.name, f())
}

// keep is what becomes of the first n bytes of the log: those that are seen.
func (l *memLog) keep(n int) {
	l.bytes = l.bytes[:n:n]
	if !l.m.writeOnce {
		l.m.set(l.name, l.bytes, time.Time{})
	}
}

// failure returns what was to happen to op, and poisons the log with it.
func (l *memLog) failure(op Op) error {
	err := l.m.fail[op]
	delete(l.m.fail, op)
	l.err = store.Wrap("write", l.name, err)
	return l.err
}

func (l *memLog) Append(p []byte) error {
	return l.do("append", func() error {
		if err := l.failure(OpAppend); err != nil {
			return err
		}
		l.bytes = append(l.bytes, p...)
		l.keep(len(l.bytes))
		return nil
	})
}

func (l *memLog) Sync() error {
	return l.do("sync", func() error {
		if l.m.writeOnce {
			return errors.ErrUnsupported
		}
		if err := l.failure(OpSync); err != nil {
			l.keep(l.synced)
			return err
		}
		l.synced = len(l.bytes)
		return nil
	})
}

func (l *memLog) Seal(ctx context.Context) error {
	return l.do("seal", func() error {
		if err := ctx.Err(); err != nil {
			return err
		}
		if l.m.writeOnce {
			if l.m.check(l.name, store.Cond{IfAbsent: true}) != nil {
				return fs.ErrExist
			}
			l.m.set(l.name, l.bytes, time.Time{})
		}
		l.sealed = true
		return nil
	})
}

func (l *memLog) Close() error {
	if l.closed {
		return store.Wrap("close", l.name, fs.ErrClosed)
	}
	l.closed = true
	if !l.m.writeOnce {
		l.m.unlock(l.name)
	}
	return nil
}

type memFile struct {
	object
	name   string
	closed atomic.Bool
}

func (f *memFile) Info() store.Info { return f.info() }

func (f *memFile) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if f.closed.Load() {
		return nil, store.Wrap("read", f.name, fs.ErrClosed)
	}
	if err := ctx.Err(); err != nil {
		return nil, store.Wrap("read", f.name, err)
	}
	return io.NopCloser(bytes.NewReader(cut(f.bytes, off, n))), nil
}

func (f *memFile) Close() error {
	if f.closed.Swap(true) {
		return store.Wrap("close", f.name, fs.ErrClosed)
	}
	return nil
}

// A broken store is a memory of which some methods are others. It does not lock
// names if it is write-once.
type broken struct {
	create, append func(context.Context, string) (store.Log, error)
	open           func(context.Context, string) (store.File, error)
	list           func(context.Context, string, store.ListOptions) iter.Seq2[store.Entry, error]
	put            func(context.Context, string, store.Body, store.Cond) (string, error)
	remove         func(context.Context, string, string) error
	move           func(context.Context, string, string, string) error
	lock           func(context.Context, string) (func() error, error)

	m *memory
}

func newBroken(m *memory) *broken {
	return &broken{m.Create, m.Append, m.Open, m.List, m.Put, m.Remove, m.Move, m.Lock, m}
}

func (b *broken) Create(ctx context.Context, name string) (store.Log, error) {
	return b.create(ctx, name)
}

func (b *broken) Append(ctx context.Context, name string) (store.Log, error) {
	return b.append(ctx, name)
}

func (b *broken) Open(ctx context.Context, name string) (store.File, error) { return b.open(ctx, name) }

func (b *broken) List(ctx context.Context, dir string, o store.ListOptions) iter.Seq2[store.Entry, error] {
	return b.list(ctx, dir, o)
}

func (b *broken) Put(ctx context.Context, name string, body store.Body, c store.Cond) (string, error) {
	return b.put(ctx, name, body, c)
}

func (b *broken) Remove(ctx context.Context, name, version string) error {
	return b.remove(ctx, name, version)
}

func (b *broken) Move(ctx context.Context, name, version, to string) error {
	return b.move(ctx, name, version, to)
}

// A locking store is a broken one that hands out its locks.
type locking struct{ *broken }

func (b locking) Lock(ctx context.Context, name string) (func() error, error) {
	return b.lock(ctx, name)
}

// harness returns the harness of b; other Stores on its data break the same.
func (b *broken) harness() Harness {
	h := Harness{Store: b, WriteOnce: b.m.writeOnce, Fail: b.m.Fail}
	if !b.m.writeOnce {
		h.Store = locking{b}
	}
	h.Reopen = func() Store { return h.Store }
	return h
}

// logs makes change what every Log does that the store hands out.
func (b *broken) logs(change func(l *brokenLog)) {
	wrap := func(inner func(context.Context, string) (store.Log, error)) func(context.Context, string) (store.Log, error) {
		return func(ctx context.Context, name string) (store.Log, error) {
			l, err := inner(ctx, name)
			if err != nil {
				return nil, err
			}
			broken := &brokenLog{l.Append, l.Size, l.Sync, l.Seal, l.Close, l.(*memLog)}
			change(broken)
			return broken, nil
		}
	}
	b.create, b.append = wrap(b.create), wrap(b.append)
}

// A brokenLog is a memLog of which some methods are others.
type brokenLog struct {
	append func([]byte) error
	size   func() int64
	sync   func() error
	seal   func(context.Context) error
	close  func() error

	l *memLog
}

func (l *brokenLog) Append(p []byte) error          { return l.append(p) }
func (l *brokenLog) Size() int64                    { return l.size() }
func (l *brokenLog) Sync() error                    { return l.sync() }
func (l *brokenLog) Seal(ctx context.Context) error { return l.seal(ctx) }
func (l *brokenLog) Close() error                   { return l.close() }

// files makes change what every File does that the store hands out.
func (b *broken) files(change func(f *brokenFile)) {
	open := b.open
	b.open = func(ctx context.Context, name string) (store.File, error) {
		f, err := open(ctx, name)
		if err != nil {
			return nil, err
		}
		broken := &brokenFile{f.Info, f.Range, f.Close, f.(*memFile)}
		change(broken)
		return broken, nil
	}
}

// A brokenFile is a memFile of which some methods are others.
type brokenFile struct {
	info  func() store.Info
	rng   func(ctx context.Context, off, n int64) (io.ReadCloser, error)
	close func() error

	f *memFile
}

func (f *brokenFile) Info() store.Info { return f.info() }
func (f *brokenFile) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	return f.rng(ctx, off, n)
}
func (f *brokenFile) Close() error { return f.close() }

// entries makes change what a List yields.
func (b *broken) entries(change func([]store.Entry) []store.Entry) {
	list := b.list
	b.list = func(ctx context.Context, dir string, o store.ListOptions) iter.Seq2[store.Entry, error] {
		return func(yield func(store.Entry, error) bool) {
			var entries []store.Entry
			for e, err := range list(ctx, dir, o) {
				if err != nil {
					yield(e, err)
					return
				}
				entries = append(entries, e)
			}
			for _, e := range change(slices.Clip(entries)) {
				if !yield(e, nil) {
					return
				}
			}
		}
	}
}
