package filestore_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/internal/filestore"
	"github.com/rollout-sync/rollout/store/internal/vfs"
	"github.com/rollout-sync/rollout/store/internal/vfs/crashfs"
)

var ctx = context.Background()

// open returns the store on a file system, with the locks of package local.
func open(fsys vfs.FS) *filestore.Store {
	return filestore.New(fsys, func(name string) filestore.Lock {
		return filestore.Lock{File: ".locks/" + strings.ReplaceAll(name, "/", "_"), Gate: ".locks/gate"}
	})
}

// read returns what a store has under a name, and false if there is nothing.
func read(t *testing.T, s store.Source, name string) (content string, there bool) {
	t.Helper()
	content, err := readAll(ctx, s, name)
	if errors.Is(err, fs.ErrNotExist) {
		return "", false
	}
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return content, true
}

func readAll(ctx context.Context, s store.Source, name string) (string, error) {
	f, err := s.Open(ctx, name)
	if err != nil {
		return "", err
	}
	defer f.Close()
	r, err := f.Range(ctx, 0, -1)
	if err != nil {
		return "", err
	}
	defer r.Close()
	p, err := io.ReadAll(r)
	return string(p), err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// zst returns content as a sealed log.
func zst(t *testing.T, content string) string {
	t.Helper()
	var b bytes.Buffer
	z := codec.NewSealer(&b, time.Unix(1, 0))
	_, err := io.WriteString(z, content)
	must(t, errors.Join(err, z.Close()))
	return b.String()
}

// put makes a file as it is, durably.
func put(t *testing.T, s *filestore.Store, name, content string) {
	t.Helper()
	_, err := s.Put(ctx, name, body(content), store.Cond{IfAbsent: true})
	must(t, err)
}

var someTime = time.Date(2025, 3, 4, 5, 6, 7, 8000, time.UTC)

func body(content string) store.Body { return store.BytesBody([]byte(content), someTime) }

// state is what a log may be found to be. The tail was appended, but no Sync has
// confirmed it: any part of it may be missing.
type state struct {
	absent     bool
	sure, tail string
	put        bool // it has the time of body
}

func (s state) String() string {
	if s.absent {
		return "absent"
	}
	return fmt.Sprintf("%q and perhaps of %q", s.sure, s.tail)
}

// allows reports whether a log that was found may be that. Bytes of the tail may be
// zeros if the loss of power left holes.
func (s state) allows(content string, there bool, loss crashfs.Loss) bool {
	if s.absent || !there {
		return s.absent && !there
	}
	rest, ok := strings.CutPrefix(content, s.sure)
	if !ok || len(rest) > len(s.tail) {
		return false
	}
	for i := range len(rest) {
		if rest[i] != s.tail[i] && (rest[i] != 0 || loss != crashfs.Holes) {
			return false
		}
	}
	return true
}

// world is a store and what it has acknowledged. Its methods are the store's, on
// logs by name, and note before each call what may become of the log.
type world struct {
	t    *testing.T
	fs   *crashfs.FS
	s    *filestore.Store
	logs map[string]store.Log // open
	want map[string][]state   // each log is one of these
	seen map[string]string    // what a reader sees of the logs that are there
	call string               // under way
}

func newWorld(t *testing.T) *world {
	fsys := crashfs.New()
	return &world{
		t: t, fs: fsys, s: open(fsys),
		logs: map[string]store.Log{}, want: map[string][]state{}, seen: map[string]string{},
	}
}

// may adds what the log may be from now on, and is says what it is for sure.
func (w *world) may(name string, s state) { w.want[name] = append(w.states(name), s) }
func (w *world) is(name string, s state)  { w.want[name] = []state{s} }

func (w *world) states(name string) []state {
	if s := w.want[name]; s != nil {
		return slices.Clone(s)
	}
	return []state{{absent: true}}
}

func (w *world) create(name string) {
	w.call = "create"
	w.may(name, state{})
	l, err := w.s.Create(ctx, name)
	must(w.t, err)
	w.logs[name], w.seen[name] = l, ""
}

func (w *world) append(name, line string) {
	w.call = "append"
	w.tail(name, line)
	must(w.t, w.logs[name].Append([]byte(line)))
	w.seen[name] += line
}

// tail adds a line that is being appended.
func (w *world) tail(name, line string) {
	states := w.states(name)
	for i := range states {
		if !states[i].absent {
			states[i].tail, states[i].put = states[i].tail+line, false
		}
	}
	w.want[name] = states
}

func (w *world) sync(name string) {
	w.call = "sync"
	must(w.t, w.logs[name].Sync())
	w.is(name, state{sure: w.seen[name]})
}

func (w *world) seal(name string) {
	w.call = "seal"
	must(w.t, w.logs[name].Seal(ctx))
	w.is(name, state{sure: w.seen[name]})
}

func (w *world) close(name string) {
	w.call = "close"
	must(w.t, w.logs[name].Close())
	delete(w.logs, name)
}

func (w *world) reopen(name string) {
	w.call = "reopen"
	if _, err := w.fs.Lstat(name); err != nil {
		w.call = "unseal"
	}
	l, err := w.s.Append(ctx, name)
	must(w.t, err)
	w.logs[name] = l
}

func (w *world) putNew(name, content string) {
	w.call = "put if absent"
	w.may(name, state{sure: content, put: true})
	_, err := w.s.Put(ctx, name, body(content), store.Cond{IfAbsent: true})
	must(w.t, err)
	w.is(name, state{sure: content, put: true})
	w.seen[name] = content
}

func (w *world) replace(name, content string) {
	w.call = "put if version"
	v := w.version(name)
	w.may(name, state{sure: content, put: true})
	_, err := w.s.Put(ctx, name, body(content), store.Cond{IfVersion: v})
	must(w.t, err)
	w.is(name, state{sure: content, put: true})
	w.seen[name] = content
}

func (w *world) remove(name string) {
	w.call = "remove"
	v := w.version(name)
	w.may(name, state{absent: true})
	must(w.t, w.s.Remove(ctx, name, v))
	w.is(name, state{absent: true})
	delete(w.seen, name)
}

func (w *world) version(name string) string {
	f, err := w.s.Open(ctx, name)
	must(w.t, err)
	defer f.Close()
	return f.Info().Version
}

// plant has a log in its sealed form there, and, unless it is "-", in its plain one.
func (w *world) plant(name, plain, sealed string) {
	plant(w.t, w.fs, name, plain, sealed)
	w.seen[name], _ = read(w.t, w.s, name)
	w.is(name, state{sure: w.seen[name]})
}

func plant(t *testing.T, fsys vfs.FS, name, plain, sealed string) {
	t.Helper()
	put(t, open(fsys), name+".zst", zst(t, sealed))
	if plain == "-" {
		return
	}
	const part = "part" // Put of the name itself would remove the other form
	put(t, open(fsys), part, plain)
	must(t, fsys.Rename(part, name))
	must(t, errors.Join(fsys.SyncDir("."), fsys.SyncDir(path.Dir(name))))
}

// after checks a file system that came back after a loss of power, or after the
// death of the process: each log is what it may be, and there is nothing else.
func (w *world) after(c *crashfs.FS, what string, loss crashfs.Loss) {
	w.t.Helper()
	s := open(c)
	for name, states := range w.want {
		content, there := read(w.t, s, name)
		ok := slices.ContainsFunc(states, func(st state) bool { return st.allows(content, there, loss) })
		if !ok {
			w.t.Errorf("%s in %s: %s is %q, %v; want one of %v", what, w.call, name, content, there, states)
		}
		if len(states) == 1 && states[0].put {
			if f, err := s.Open(ctx, name); err == nil {
				if got := f.Info().ModTime; !got.Equal(someTime) {
					w.t.Errorf("%s in %s: %s is of %v", what, w.call, name, got)
				}
				f.Close()
			}
		}
	}
	for _, file := range c.Files() {
		if w.want[strings.TrimSuffix(file, ".zst")] == nil && !vfs.Hidden(file) && !strings.HasPrefix(file, ".locks/") {
			w.t.Errorf("%s in %s: there is %s", what, w.call, file)
		}
	}
	w.list(s, ".", what)
}

func (w *world) list(s store.Source, dir, what string) {
	for e, err := range s.List(ctx, dir, store.ListOptions{}) {
		switch {
		case err != nil:
			w.t.Errorf("%s in %s: List(%s): %v", what, w.call, dir, err)
		case e.Dir:
			w.list(s, e.Name, what)
		case w.want[e.Name] == nil:
			w.t.Errorf("%s in %s: List has %s", what, w.call, e.Name)
		}
	}
}

// goesOn has another process go on with every log: what it then acknowledges is
// durable, whoever made the file and the directories above it.
func (w *world) goesOn(c *crashfs.FS, what string) {
	w.t.Helper()
	const line = "by another\n"
	s := open(c)
	acknowledged := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(w.want)) {
		content, there := read(w.t, s, name)
		l, err := s.Append(ctx, name)
		if !there && errors.Is(err, fs.ErrNotExist) {
			l, err = s.Create(ctx, name)
		}
		if err == nil {
			err = errors.Join(l.Append([]byte(line)), l.Sync(), l.Close())
		}
		if err != nil {
			w.t.Errorf("%s in %s: to go on with %s: %v", what, w.call, name, err)
			continue
		}
		acknowledged[name] = content + line
	}
	s = open(c.Crash(crashfs.All, nil))
	for name, want := range acknowledged {
		if got, _ := read(w.t, s, name); got != want {
			w.t.Errorf("%s in %s, another process, and then a loss of power: %s is %q, want %q", what, w.call, name, got, want)
		}
	}
}

// scripts have every call that changes a log, in every state that it may be in.
// The logs that they find were there before.
var scripts = []struct {
	name  string
	plant func(*world)
	run   func(*world)
}{
	{"log", func(*world) {}, func(w *world) {
		const a, b = "2026/11/20/a.jsonl", "2026/11/21/b.jsonl"
		w.create(a)
		w.append(a, "a1\n")
		w.append(a, "a2\n")
		w.sync(a)
		w.append(a, strings.Repeat("x", 100)+"\n")
		w.append(a, "a4\n")
		w.seal(a)
		w.close(a)

		w.create(b)
		w.append(b, "b1\n")
		w.close(b) // not acknowledged
		w.reopen(b)
		w.append(b, "b2\n")
		w.sync(b) // the name too
		w.sync(b)
		w.close(b)
		w.create("empty.jsonl")
		w.close("empty.jsonl")
		w.remove(a)
		w.create(a)
		w.append(a, "again\n")
		w.seal(a)
		w.close(a)
	}},
	{"put", func(*world) {}, func(w *world) {
		const name = "2026/put.jsonl"
		w.putNew(name, "p1\n")
		w.replace(name, "p1\np2\n")
		w.replace(name, "")
		w.reopen(name)
		w.append(name, "p3\n")
		w.seal(name)
		w.close(name)
		w.replace(name, "instead\n")
		w.remove(name)
		w.putNew(name, "p4\n")
		w.putNew("2026/11/plain.txt", "p5\n")
		w.replace("2026/11/plain.txt", "p6\n")
	}},
	{"sealed", func(w *world) { w.plant("d/log.jsonl", "-", "one\ntwo\n") }, forms},
	{"both forms", func(w *world) { w.plant("d/log.jsonl", "one\ntwo\n", "one\ntwo\n") }, forms},
	{"plain form cut short", func(w *world) { w.plant("d/log.jsonl", "one\nt", "one\ntwo\n") }, forms},
	{"replace sealed", func(w *world) { w.plant("d/log.jsonl", "-", "one\ntwo\n") }, replaceForms},
	{"replace plain form cut short", func(w *world) { w.plant("d/log.jsonl", "one\nt", "one\ntwo\n") }, replaceForms},
	{"replace both forms", func(w *world) { w.plant("d/log.jsonl", "one\ntwo\n", "one\ntwo\n") }, replaceForms},
	{"remove sealed", func(w *world) { w.plant("d/log.jsonl", "-", "one\ntwo\n") }, removeForms},
	{"remove both forms", func(w *world) { w.plant("d/log.jsonl", "other\n", "one\ntwo\n") }, removeForms},
	{"remove plain form cut short", func(w *world) { w.plant("d/log.jsonl", "one\nt", "one\ntwo\n") }, removeForms},
}

func forms(w *world) {
	const name = "d/log.jsonl"
	w.reopen(name)
	w.append(name, "more\n")
	w.sync(name)
	w.append(name, "more\n")
	w.close(name)
}

func replaceForms(w *world) { w.replace("d/log.jsonl", "o") } // a prefix of the old one
func removeForms(w *world)  { w.remove("d/log.jsonl") }

// random is a workload of calls at random, of which each is possible.
func random(w *world, r *rand.Rand, calls int) {
	names := []string{"a.jsonl", "d/b.jsonl", "d/e/c.jsonl", "d/e/other", "z.jsonl", "both.jsonl"}
	line := func() string { return strings.Repeat(string(rune('a'+r.IntN(26))), r.IntN(12)) + "\n" }
	for range calls {
		name := names[r.IntN(len(names))]
		_, there := w.seen[name]
		_, isOpen := w.logs[name]
		var does []func()
		switch {
		case isOpen:
			does = []func(){
				func() { w.append(name, line()) },
				func() { w.append(name, line()) },
				func() { w.sync(name) },
				func() { w.close(name) },
				func() { w.seal(name); w.close(name) },
			}
		case there:
			does = []func(){
				func() { w.reopen(name) },
				func() { w.reopen(name) },
				func() { w.replace(name, w.seen[name]+line()) },
				func() { w.replace(name, w.seen[name][:r.IntN(len(w.seen[name])+1)]) },
				func() { w.remove(name) },
			}
		default:
			does = []func(){
				func() { w.create(name) },
				func() { w.putNew(name, line()) },
			}
		}
		does[r.IntN(len(does))]()
	}
}
