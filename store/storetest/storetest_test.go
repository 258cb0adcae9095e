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
	"os"
	"path"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollout-sync/rollout/store"
)

var ctx = context.Background()

var ways = map[bool]string{false: "Appendable", true: "WriteOnce"}

func TestReference(t *testing.T) {
	t.Parallel()
	for writeOnce, way := range ways {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			Run(t, func(*testing.T) Harness { return newBroken(newMemory(writeOnce)).harness() })
		})
	}
}

// A fault breaks one guarantee of a store, the one that its case holds.
type fault struct {
	of        string // the case
	what      string
	writeOnce bool
	breaks    func(t *testing.T, b *broken)
}

// Each case fails on a store that breaks its rule and is otherwise correct, and
// there is such a store for each case.
func TestFaults(t *testing.T) {
	t.Parallel()
	for _, f := range faults {
		t.Run(f.of+"/"+f.what, func(t *testing.T) {
			t.Parallel()
			i := slices.IndexFunc(cases, func(c Case) bool { return c.Name == f.of })
			if i < 0 {
				t.Fatal("there is no such case")
			}
			b := newBroken(newMemory(f.writeOnce))
			f.breaks(t, b)
			h := b.harness()
			if c := cases[i]; c.Applies != nil && !c.Applies(h) {
				t.Fatal("the case does not concern the store")
			}
			if err := cases[i].Check(t.Context(), h); err == nil {
				t.Error("the case does not notice")
			} else {
				first, _, _ := strings.Cut(err.Error(), "\n")
				t.Log(first)
			}
		})
	}
	for _, c := range cases {
		if !slices.ContainsFunc(faults, func(f fault) bool { return f.of == c.Name }) {
			t.Errorf("no fault shows that %s can fail", c.Name)
		}
	}
}

var faults = []fault{
	{"RoundTrip", "a byte is another", false, func(_ *testing.T, b *broken) {
		b.logs(func(l *brokenLog) {
			l.append = func(p []byte) error { return l.l.Append(bytes.ReplaceAll(p, []byte("9"), []byte("8"))) }
		})
	}},
	{"EmptyLog", "an empty log is not kept", true, func(_ *testing.T, b *broken) {
		b.logs(func(l *brokenLog) {
			l.close = func() error {
				if l.Size() == 0 {
					delete(b.m.logs, l.l.name)
				}
				return l.l.Close()
			}
		})
	}},
	{"LargeLog", "a read ends at 4 MiB", false, func(_ *testing.T, b *broken) {
		b.files(func(f *brokenFile) {
			f.rng = func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
				r, err := f.f.Range(ctx, off, n)
				return io.NopCloser(io.LimitReader(r, 4<<20)), err
			}
		})
	}},
	{"LongLine", "an append ends at 8 MiB", false, func(_ *testing.T, b *broken) {
		b.logs(func(l *brokenLog) {
			l.append = func(p []byte) error { return l.l.Append(p[:min(len(p), 8<<20)]) }
		})
	}},
	{"KeepsNoBuffer", "slices are kept until Seal", true, func(_ *testing.T, b *broken) {
		b.logs(func(l *brokenLog) {
			var parts [][]byte
			l.append = func(p []byte) error { parts = append(parts, p); return nil }
			l.seal = func(ctx context.Context) error {
				for _, p := range parts {
					l.l.Append(p)
				}
				return l.l.Seal(ctx)
			}
		})
	}},

	{"CallOrder", "Sync after Seal succeeds", false, func(_ *testing.T, b *broken) {
		b.logs(func(l *brokenLog) {
			l.sync = func() error {
				if l.l.sealed {
					return nil
				}
				return l.l.Sync()
			}
		})
	}},
	{"CallOrder", "a second Close succeeds", true, func(_ *testing.T, b *broken) {
		b.logs(func(l *brokenLog) {
			l.close = func() error { l.l.Close(); return nil }
		})
	}},
	{"AppendIsVisible", "bytes are buffered until Sync", false, func(_ *testing.T, b *broken) {
		b.logs(func(l *brokenLog) {
			var buffer []byte
			l.append = func(p []byte) error { buffer = append(buffer, p...); return nil }
			l.size = func() int64 { return l.l.Size() + int64(len(buffer)) }
			flush := func() { l.l.Append(buffer); buffer = nil }
			l.sync = func() error { flush(); return l.l.Sync() }
			l.seal = func(ctx context.Context) error { flush(); return l.l.Seal(ctx) }
			l.close = func() error { flush(); return l.l.Close() }
		})
	}},
	{"NothingBeforeSeal", "Close publishes", true, func(_ *testing.T, b *broken) {
		b.logs(func(l *brokenLog) {
			l.close = func() error { l.l.Seal(ctx); return l.l.Close() }
		})
	}},
	{"SyncOrUnsupported", "Sync does nothing and says so", false, func(_ *testing.T, b *broken) {
		b.logs(func(l *brokenLog) {
			l.sync = func() error { return errors.ErrUnsupported }
		})
	}},
	{"SyncOrUnsupported", "Sync does nothing and does not say so", true, func(_ *testing.T, b *broken) {
		b.logs(func(l *brokenLog) {
			l.sync = func() error { return nil }
		})
	}},
	{"SealedStays", "a refused Put touches the log", true, func(_ *testing.T, b *broken) {
		b.put = func(ctx context.Context, name string, body store.Body, c store.Cond) (string, error) {
			version, err := b.m.Put(ctx, name, body, c)
			if o, ok := b.m.logs[name]; ok && err != nil {
				b.m.set(name, o.bytes, o.modTime)
			}
			return version, err
		}
	}},
	{"Poisoned", "a log goes on after a failed Append", false, func(_ *testing.T, b *broken) {
		b.logs(func(l *brokenLog) {
			l.append = func(p []byte) error { err := l.l.Append(p); l.l.err = nil; return err }
		})
	}},
	{"Poisoned", "a failed Sync leaves what it did not confirm", false, func(_ *testing.T, b *broken) {
		b.logs(func(l *brokenLog) {
			l.sync = func() error { l.l.synced = len(l.l.bytes); return l.l.Sync() }
		})
	}},
	{"Poisoned", "a failed Sync cuts another's bytes", false, func(_ *testing.T, b *broken) {
		b.logs(func(l *brokenLog) {
			l.sync = func() error {
				err := l.l.Sync()
				if err != nil && !errors.Is(err, fs.ErrClosed) {
					l.l.keep(0)
				}
				return err
			}
		})
	}},

	{"CreateTaken", "the old bytes are gone", false, func(_ *testing.T, b *broken) {
		b.create = func(ctx context.Context, name string) (store.Log, error) {
			l, err := b.m.Create(ctx, name)
			if errors.Is(err, fs.ErrExist) {
				b.m.set(name, nil, time.Time{})
			}
			return l, err
		}
	}},
	{"CreateTwice", "the second writer is not told", true, func(_ *testing.T, b *broken) {
		b.logs(func(l *brokenLog) {
			l.seal = func(ctx context.Context) error {
				if err := l.l.Seal(ctx); !errors.Is(err, fs.ErrExist) {
					return err
				}
				return nil
			}
		})
	}},
	{"CreateTwice", "the second writer is let in", false, func(_ *testing.T, b *broken) {
		b.create = func(ctx context.Context, name string) (store.Log, error) {
			if o, ok := b.m.logs[name]; ok && b.m.locked[name] {
				return &memLog{m: b.m, name: name, bytes: o.bytes}, nil
			}
			return b.m.Create(ctx, name)
		}
	}},
	{"OneWriterWins", "the last one wins", true, func(_ *testing.T, b *broken) {
		b.create = func(_ context.Context, name string) (store.Log, error) { return &memLog{m: b.m, name: name}, nil }
		b.logs(func(l *brokenLog) {
			l.seal = func(context.Context) error {
				return l.l.do("seal", func() error { b.m.set(l.l.name, l.l.bytes, time.Time{}); return nil })
			}
		})
	}},
	{"ManyLogs", "the ninth loses its bytes", false, func(_ *testing.T, b *broken) {
		var n atomic.Int32
		b.logs(func(l *brokenLog) {
			if n.Add(1) == 9 {
				l.append = func([]byte) error { return nil }
			}
		})
	}},
	{"AppendBusy", "there may be two writers", false, func(_ *testing.T, b *broken) {
		b.append = func(ctx context.Context, name string) (store.Log, error) {
			b.m.unlock(name)
			return b.m.Append(ctx, name)
		}
	}},
	{"AppendContinues", "a torn line is cut off", false, func(_ *testing.T, b *broken) {
		b.append = func(ctx context.Context, name string) (store.Log, error) {
			l, err := b.m.Append(ctx, name)
			if err == nil {
				l := l.(*memLog)
				l.keep(bytes.LastIndexByte(l.bytes, '\n') + 1)
			}
			return l, err
		}
	}},
	{"AppendMissing", "Append creates", false, func(_ *testing.T, b *broken) {
		b.append = func(ctx context.Context, name string) (store.Log, error) {
			if l, err := b.m.Append(ctx, name); !errors.Is(err, fs.ErrNotExist) {
				return l, err
			}
			return b.m.Create(ctx, name)
		}
	}},

	{"OpenMissing", "a directory is an empty log", false, func(_ *testing.T, b *broken) {
		b.open = func(ctx context.Context, name string) (store.File, error) {
			for range b.m.List(ctx, name, store.ListOptions{}) {
				return &memFile{name: name}, nil
			}
			return b.m.Open(ctx, name)
		}
	}},
	{"ReadAfterWrite", "Open remembers what was missing", false, func(_ *testing.T, b *broken) {
		missing := map[string]error{}
		b.open = func(ctx context.Context, name string) (store.File, error) {
			if err := missing[name]; err != nil {
				return nil, err
			}
			f, err := b.m.Open(ctx, name)
			missing[name] = err
			return f, err
		}
	}},
	{"ReadAfterWrite", "List comes late", true, func(_ *testing.T, b *broken) {
		b.entries(func(entries []store.Entry) []store.Entry {
			return slices.DeleteFunc(entries, func(e store.Entry) bool {
				return e.Info.Version == fmt.Sprintf("v%d", b.m.clock)
			})
		})
	}},
	{"Ranges", "what lies past the end is an error", false, func(_ *testing.T, b *broken) {
		b.files(func(f *brokenFile) {
			f.rng = func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
				if off+n > int64(len(f.f.bytes)) {
					return nil, io.ErrUnexpectedEOF
				}
				return f.f.Range(ctx, off, n)
			}
		})
	}},
	{"RangesAtOnce", "readers share their offset", false, func(_ *testing.T, b *broken) {
		b.files(func(f *brokenFile) {
			shared := &struct {
				sync.Mutex
				bytes.Reader
			}{}
			f.rng = func(_ context.Context, off, n int64) (io.ReadCloser, error) {
				shared.Lock()
				defer shared.Unlock()
				shared.Reset(cut(f.f.bytes, off, n))
				return io.NopCloser(readFunc(func(p []byte) (int, error) {
					shared.Lock()
					defer shared.Unlock()
					return shared.Read(p)
				})), nil
			}
		})
	}},
	{"FileIsOneVersion", "Range reads what is there now", false, func(_ *testing.T, b *broken) {
		b.files(func(f *brokenFile) {
			f.rng = func(_ context.Context, off, n int64) (io.ReadCloser, error) {
				return io.NopCloser(bytes.NewReader(cut(b.m.logs[f.f.name].bytes, off, n))), nil
			}
		})
	}},
	{"FileAfterClose", "a File stays open", false, func(_ *testing.T, b *broken) {
		b.files(func(f *brokenFile) {
			f.close = func() error { return nil }
		})
	}},
	{"InfoIsTrue", "List tells the stored size as that of the log", false, func(_ *testing.T, b *broken) {
		b.entries(func(entries []store.Entry) []store.Entry {
			for i := range entries {
				entries[i].Info.Size += 100
			}
			return entries
		})
	}},
	{"InfoIsTrue", "a wrong hash", true, func(_ *testing.T, b *broken) {
		b.files(func(f *brokenFile) {
			f.info = func() store.Info {
				i := f.f.Info()
				i.Meta = map[string]string{store.MetaSHA256: strings.Repeat("0", 64)}
				return i
			}
		})
	}},
	{"VersionChanges", "the version is size and time", false, func(_ *testing.T, b *broken) {
		b.put = func(ctx context.Context, name string, body store.Body, c store.Cond) (string, error) {
			old := b.m.logs[name]
			version, err := b.m.Put(ctx, name, body, c)
			if o := b.m.logs[name]; len(o.bytes) == len(old.bytes) && o.modTime.Equal(old.modTime) {
				o.version = old.version
				b.m.logs[name] = o
				version = o.info().Version
			}
			return version, err
		}
	}},

	{"ListOrder", "directories are sorted as keys are", false, func(_ *testing.T, b *broken) {
		b.entries(func(entries []store.Entry) []store.Entry {
			key := func(e store.Entry) string {
				if e.Dir {
					return e.Name + "/"
				}
				return e.Name
			}
			slices.SortFunc(entries, func(a, b store.Entry) int { return cmp.Compare(key(a), key(b)) })
			return entries
		})
	}},
	{"ListNewestFirst", "Desc forgets Before", false, func(_ *testing.T, b *broken) {
		b.list = func(ctx context.Context, dir string, o store.ListOptions) iter.Seq2[store.Entry, error] {
			if o.Desc {
				o.Before = ""
			}
			return b.m.List(ctx, dir, o)
		}
	}},
	{"ListUnordered", "Limit is looked at all the same", false, func(_ *testing.T, b *broken) {
		b.list = func(ctx context.Context, dir string, o store.ListOptions) iter.Seq2[store.Entry, error] {
			return b.m.List(ctx, dir, store.ListOptions{Desc: o.Desc, Before: o.Before, Limit: o.Limit, NamesOnly: o.NamesOnly})
		}
	}},
	{"ListUnordered", "it knows nothing of the logs", false, func(_ *testing.T, b *broken) {
		b.list = func(ctx context.Context, dir string, o store.ListOptions) iter.Seq2[store.Entry, error] {
			o.NamesOnly = o.Unordered
			return b.m.List(ctx, dir, o)
		}
	}},
	{"ListBreak", "a List goes on where it was left", false, func(_ *testing.T, b *broken) {
		b.list = func(ctx context.Context, dir string, o store.ListOptions) iter.Seq2[store.Entry, error] {
			next, _ := iter.Pull2(b.m.List(ctx, dir, o))
			return func(yield func(store.Entry, error) bool) {
				for e, err, ok := next(); ok && yield(e, err); e, err, ok = next() {
				}
			}
		}
	}},
	{"ListCancelled", "it ends as if that were all", false, func(_ *testing.T, b *broken) {
		b.list = func(ctx context.Context, dir string, o store.ListOptions) iter.Seq2[store.Entry, error] {
			return func(yield func(store.Entry, error) bool) {
				for e, err := range b.m.List(context.WithoutCancel(ctx), dir, o) {
					if ctx.Err() != nil || !yield(e, err) {
						return
					}
				}
			}
		}
	}},
	{"ListCancelled", "it goes on after the error", false, func(_ *testing.T, b *broken) {
		b.list = func(ctx context.Context, dir string, o store.ListOptions) iter.Seq2[store.Entry, error] {
			return func(yield func(store.Entry, error) bool) {
				for e, err := range b.m.List(context.WithoutCancel(ctx), dir, o) {
					if ctx.Err() != nil {
						e, err = store.Entry{}, ctx.Err()
					}
					if !yield(e, err) {
						return
					}
				}
			}
		}
	}},
	{"ListWhileWriting", "nothing can be created meanwhile", false, func(_ *testing.T, b *broken) {
		var listing atomic.Int32
		b.list = func(ctx context.Context, dir string, o store.ListOptions) iter.Seq2[store.Entry, error] {
			return func(yield func(store.Entry, error) bool) {
				listing.Add(1)
				defer listing.Add(-1)
				b.m.List(ctx, dir, o)(yield)
			}
		}
		b.create = func(ctx context.Context, name string) (store.Log, error) {
			if listing.Load() > 0 {
				return nil, store.ErrBusy
			}
			return b.m.Create(ctx, name)
		}
	}},
	{"ListWhileWriting", "temporary names are listed", true, func(_ *testing.T, b *broken) {
		b.entries(func(entries []store.Entry) []store.Entry {
			if len(entries) > 0 && strings.HasPrefix(entries[0].Name, "d/") {
				entries = append(entries, store.Entry{Name: "d/z.tmp"})
			}
			return entries
		})
	}},

	{"BadNames", "Open cleans them", false, func(_ *testing.T, b *broken) {
		b.open = func(ctx context.Context, name string) (store.File, error) { return b.m.Open(ctx, path.Clean(name)) }
	}},
	{"GoodNames", "long ones are not listed", true, func(_ *testing.T, b *broken) {
		b.entries(func(entries []store.Entry) []store.Entry {
			return slices.DeleteFunc(entries, func(e store.Entry) bool { return store.CheckName(e.Name+".zst") != nil })
		})
	}},
	{"NamesByCase", "they are folded", true, func(_ *testing.T, b *broken) {
		b.create = func(ctx context.Context, name string) (store.Log, error) {
			return b.m.Create(ctx, strings.ToLower(name))
		}
		b.open = func(ctx context.Context, name string) (store.File, error) {
			return b.m.Open(ctx, strings.ToLower(name))
		}
	}},
	{"StoredForm", "it has the plain bytes", true, func(_ *testing.T, b *broken) {
		b.open = func(ctx context.Context, name string) (store.File, error) {
			if plain, ok := strings.CutSuffix(name, ".zst"); ok {
				if f, err := b.m.Open(ctx, plain); err == nil {
					return f, nil
				}
			}
			return b.m.Open(ctx, name)
		}
	}},

	{"PutConditions", "a version of nothing is none", true, func(_ *testing.T, b *broken) {
		b.put = func(ctx context.Context, name string, body store.Body, c store.Cond) (string, error) {
			if _, ok := b.m.logs[name]; !ok && c == (store.Cond{IfVersion: c.IfVersion}) {
				c = store.Cond{IfAbsent: true}
			}
			return b.m.Put(ctx, name, body, c)
		}
	}},
	{"PutConditionsLarge", "a large one is not looked at", true, func(_ *testing.T, b *broken) {
		b.put = func(ctx context.Context, name string, body store.Body, c store.Cond) (string, error) {
			if l, ok := b.m.logs[name]; ok && body.Size > 8<<20 {
				c = store.Cond{IfVersion: l.info().Version}
			}
			return b.m.Put(ctx, name, body, c)
		}
	}},
	{"PutChangedBody", "it is believed", false, func(_ *testing.T, b *broken) {
		b.put = func(ctx context.Context, name string, body store.Body, c store.Cond) (string, error) {
			r, err := body.Open()
			if err != nil {
				return "", err
			}
			p, err := io.ReadAll(r)
			if err = errors.Join(err, r.Close()); err != nil {
				return "", err
			}
			return b.m.Put(ctx, name, store.BytesBody(p, body.ModTime), c)
		}
	}},
	{"PutFailingBody", "it is tried again", true, func(_ *testing.T, b *broken) {
		b.put = func(ctx context.Context, name string, body store.Body, c store.Cond) (string, error) {
			version, err := b.m.Put(ctx, name, body, c)
			if err != nil && !errors.Is(err, store.ErrChanged) {
				return b.m.Put(ctx, name, body, c)
			}
			return version, err
		}
	}},
	{"PutFailingBody", "a part is stored", true, func(_ *testing.T, b *broken) {
		b.put = func(ctx context.Context, name string, body store.Body, c store.Cond) (string, error) {
			version, err := b.m.Put(ctx, name, body, c)
			if err != nil && !errors.Is(err, store.ErrChanged) {
				b.m.set(name, []byte("part"), time.Time{})
			}
			return version, err
		}
	}},
	{"PutCancelled", "it goes on to the end", false, func(_ *testing.T, b *broken) {
		b.put = func(ctx context.Context, name string, body store.Body, c store.Cond) (string, error) {
			if ctx.Err() == nil {
				ctx = context.WithoutCancel(ctx)
			}
			return b.m.Put(ctx, name, body, c)
		}
	}},
	{"PutOneWins", "the last one wins", true, func(_ *testing.T, b *broken) {
		b.put = func(_ context.Context, name string, body store.Body, _ store.Cond) (string, error) {
			r, err := body.Open()
			if err != nil {
				return "", err
			}
			p, err := io.ReadAll(r)
			b.m.mu.Lock()
			defer b.m.mu.Unlock()
			return b.m.set(name, p, body.ModTime), err
		}
	}},
	{"PutBody", "it is not closed", false, func(_ *testing.T, b *broken) {
		b.put = func(ctx context.Context, name string, body store.Body, c store.Cond) (string, error) {
			open := body.Open
			body.Open = func() (io.ReadCloser, error) {
				r, err := open()
				return io.NopCloser(r), err
			}
			return b.m.Put(ctx, name, body, c)
		}
	}},
	{"PutModTime", "it is in seconds", true, func(_ *testing.T, b *broken) {
		b.put = func(ctx context.Context, name string, body store.Body, c store.Cond) (string, error) {
			body.ModTime = body.ModTime.Truncate(time.Second)
			return b.m.Put(ctx, name, body, c)
		}
	}},
	{"PutTellsStored", "it is told before, whatever happens", false, func(_ *testing.T, b *broken) {
		b.put = func(ctx context.Context, name string, body store.Body, c store.Cond) (string, error) {
			if body.Stored != nil {
				body.Stored(body.Size)
				body.Stored = nil
			}
			return b.m.Put(ctx, name, body, c)
		}
	}},
	{"RemoveConditions", "any version is removed", true, func(_ *testing.T, b *broken) {
		b.remove = func(ctx context.Context, name, _ string) error {
			return b.m.Remove(ctx, name, b.m.logs[name].info().Version)
		}
	}},
	{"MoveConditions", "what has the name is replaced", false, func(_ *testing.T, b *broken) {
		b.move = func(ctx context.Context, name, version, to string) error {
			if o, ok := b.m.logs[to]; ok && to != name {
				if err := b.m.Remove(ctx, to, o.info().Version); err != nil {
					return err
				}
			}
			return b.m.Move(ctx, name, version, to)
		}
	}},
	{"LockExcludes", "a writer does not take it", false, func(_ *testing.T, b *broken) {
		b.logs(func(l *brokenLog) { b.m.unlock(l.l.name) })
	}},

	{"Cancelled", "Create does not look", false, func(_ *testing.T, b *broken) {
		b.create = func(ctx context.Context, name string) (store.Log, error) {
			return b.m.Create(context.WithoutCancel(ctx), name)
		}
	}},
	{"Errors", "an error of the system comes out as it is", false, func(_ *testing.T, b *broken) {
		b.open = func(ctx context.Context, name string) (store.File, error) {
			f, err := b.m.Open(ctx, name)
			if errors.Is(err, fs.ErrNotExist) {
				err = fs.ErrNotExist
			}
			return f, err
		}
	}},
	{"PowersSurviveWrapping", "a prefix is not known to Lock", false, func(_ *testing.T, b *broken) {
		b.lock = func(ctx context.Context, name string) (func() error, error) { return b.m.Lock(ctx, "prefix/"+name) }
	}},
	{"NothingLeft", "a goroutine is", true, func(t *testing.T, b *broken) {
		b.open = func(ctx context.Context, name string) (store.File, error) {
			go func() { <-t.Context().Done() }()
			return b.m.Open(ctx, name)
		}
	}},
	{"NothingLeft", "a descriptor is", false, func(t *testing.T, b *broken) {
		if len(descriptors()) == 0 {
			t.Skip("this system does not tell how many there are")
		}
		b.open = func(ctx context.Context, name string) (store.File, error) {
			d, err := os.Open(os.DevNull)
			must(t, err)
			t.Cleanup(func() { d.Close() })
			return b.m.Open(ctx, name)
		}
	}},
}

type readFunc func([]byte) (int, error)

func (f readFunc) Read(p []byte) (int, error) { return f(p) }
