package recorder_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync/atomic"
	"testing"
	"unicode/utf8"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/recorder"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/memfs"
)

// pagedLine is a line of a paginated session.
func pagedLine(ordinal uint64, text string) string {
	return fmt.Sprintf(`{"timestamp":"2026-11-20T21:41:45.678Z","ordinal":%d,"type":"event_msg","payload":{"n":%q}}`, ordinal, text) + "\n"
}

func pagedMeta() string {
	line := strings.Replace(metaLine, `"type"`, `"ordinal":0,"type"`, 1)
	return strings.Replace(line, `"legacy"`, `"paginated"`, 1)
}

func TestResume(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300<<10) // several reads from the end
	for title, c := range map[string]struct{ before, after string }{
		"legacy":                 {metaLine + noteLine("1"), noteLine("+")},
		"only metadata":          {metaLine, noteLine("+")},
		"no history mode":        {strings.Replace(metaLine, `,"history_mode":"legacy"`, "", 1), noteLine("+")},
		"without newline":        {metaLine + strings.TrimSpace(noteLine("1")), "\n" + noteLine("+")},
		"torn":                   {metaLine + noteLine("1")[:50], "\n" + noteLine("+")},
		"torn long line":         {metaLine + noteLine(long)[:290<<10], "\n" + noteLine("+")},
		"torn long foreign line": {metaLine + strings.Repeat("中", 100_000), "\n" + noteLine("+")},
		"zeros":                  {metaLine + noteLine("1") + strings.Repeat("\x00", 4096), "\n" + noteLine("+")},
		"paginated":              {pagedMeta() + pagedLine(1, "1"), pagedLine(2, "+")},
		"paginated head":         {pagedMeta(), pagedLine(1, "+")},
		"gap":                    {pagedMeta() + pagedLine(41, "1"), pagedLine(42, "+")},
		"long last line":         {pagedMeta() + pagedLine(7, long), pagedLine(8, "+")},
		"paginated no newline":   {pagedMeta() + strings.TrimSpace(pagedLine(7, long)), "\n" + pagedLine(8, "+")},
		"paginated torn":         {pagedMeta() + pagedLine(7, "1") + pagedLine(8, long)[:200<<10], "\n" + pagedLine(8, "+")},
		"glued":                  {pagedMeta() + pagedLine(7, "1")[:50] + pagedLine(8, "2"), pagedLine(9, "+")},
		"glued no newline":       {pagedMeta() + pagedLine(7, "1")[:50] + strings.TrimSpace(pagedLine(8, "2")), "\n" + pagedLine(9, "+")},
		"damaged end":            {pagedMeta() + pagedLine(7, "1") + "{bad}\n" + long + "\n\n", pagedLine(8, "+")},
	} {
		t.Run(title, func(t *testing.T) {
			stores(t, func(t *testing.T, st recorder.Store) {
				write(t, st, name, c.before)
				r, err := recorder.Resume(t.Context(), st, name, at)
				must(t, err)
				if r.ID() != id || r.Name() != name {
					t.Errorf("id %v, name %s", r.ID(), r.Name())
				}
				must(t, r.Flush(t.Context()))
				if got := read(t, st, name); got != c.before {
					t.Fatal("Resume and an idle Flush changed the file")
				}
				must(t, r.Record(t.Context(), note("+")))
				must(t, r.Close(t.Context()))
				if got := read(t, st, name); got != c.before+c.after {
					t.Errorf("got\n%.300q\nwant\n%.300q", strings.TrimPrefix(got, c.before), c.after)
				}
			})
		})
	}
}

func TestResumeChangesNothingWhenIdle(t *testing.T) {
	stores(t, func(t *testing.T, st recorder.Store) {
		before := metaLine + noteLine("1")[:50]
		write(t, st, name, before)
		r, err := recorder.Resume(t.Context(), st, name, at)
		must(t, err)
		must(t, r.Close(t.Context()))
		if got := read(t, st, name); got != before {
			t.Errorf("got\n%s", got)
		}
	})
}

func TestResumeRefuses(t *testing.T) {
	t.Parallel()
	for title, c := range map[string]struct {
		content string
		want    error
	}{
		"empty":         {"", recorder.ErrNotResumable},
		"no metadata":   {noteLine("1"), recorder.ErrNotResumable},
		"torn metadata": {metaLine[:100], recorder.ErrNotResumable},
		"no cwd":        {strings.Replace(metaLine, "cwd", "pwd", 1), recorder.ErrNotResumable},
		"no id":         {strings.Replace(metaLine, id.String(), "x", 1), recorder.ErrNotResumable},
		"bare lines": {
			`{"id":"` + id.String() + `","timestamp":"2026-11-20T21:41:45.678Z","instructions":null}` + "\n", recorder.ErrNotResumable,
		},
		"history mode of the future": {strings.Replace(metaLine, `"legacy"`, `"holographic"`, 1), recorder.ErrNotResumable},
		"paginated without ordinals": {pagedMeta() + noteLine("1"), recorder.ErrNotResumable},
	} {
		t.Run(title, func(t *testing.T) {
			stores(t, func(t *testing.T, st recorder.Store) {
				write(t, st, name, c.content)
				for range 2 { // the second would be busy if the first had kept the lock
					if _, err := recorder.Resume(t.Context(), st, name, at); !errors.Is(err, c.want) {
						t.Errorf("got %v", err)
					}
				}
				if got := read(t, st, name); got != c.content {
					t.Error("the file was changed")
				}
			})
		})
	}
	if _, err := recorder.Resume(t.Context(), memfs.New(nil), name, at); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a missing session: %v", err)
	}
}

func TestPlainEvents(t *testing.T) {
	stores(t, func(t *testing.T, st recorder.Store) {
		r, err := recorder.New(st, meta, &recorder.Options{Now: at.Now, Plain: true})
		must(t, err)
		must(t, r.Record(
			t.Context(),
			codec.Item{Type: "user_message", Payload: []byte(`{ "text": "a < é" }`)},
			codec.Item{Type: "tool_call", Payload: []byte(`{"name":"ls"}`), Ordinal: 99, Timestamp: "x"},
		))
		for _, bad := range []codec.Item{
			{Payload: []byte(`{}`)}, {Type: "error"}, {Type: "error", Payload: []byte(`{`)}, {Type: "error", Payload: []byte("\"\xff\"")},
		} {
			if err := r.Record(t.Context(), bad); err == nil {
				t.Errorf("%+v is taken", bad)
			}
		}
		must(t, r.Close(t.Context()))
		r, err = recorder.Resume(t.Context(), st, name, at)
		must(t, err)
		must(t, r.Record(t.Context(), codec.Item{Type: "tool_result", Payload: []byte(`"x"`)}))
		must(t, r.Close(t.Context()))
		_, payload, _ := strings.Cut(strings.TrimSuffix(metaLine, "}\n"), `"payload":`)
		if got, want := read(t, st, name), `{"type":"session_meta","item":`+payload+`,"seq":0}
{"type":"user_message","item":{"text":"a < é"},"seq":1}
{"type":"tool_call","item":{"name":"ls"},"seq":2}
{"type":"tool_result","item":"x","seq":3}
`; got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
		for _, o := range []*recorder.Options{nil, {Plain: true}} {
			if _, err := recorder.Fork(t.Context(), recorder.Parent{Source: st, Name: name}, st, meta, o); !errors.Is(err, errors.ErrUnsupported) {
				t.Errorf("Fork: %v", err)
			}
		}
	})
}

// Codex reads nothing of a file that is not valid UTF-8.
func TestTornInsideACharacter(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("中", 100_000)
	for title, c := range map[string]struct{ whole, torn, after string }{
		"short":     {metaLine + noteLine("1"), noteLine("é")[:strings.Index(noteLine("é"), "é")+1], noteLine("+")},
		"long":      {metaLine, noteLine(long)[:200_000], noteLine("+")},
		"paginated": {pagedMeta() + pagedLine(4, "1"), pagedLine(5, long)[:200_000], pagedLine(5, "+")},
		"glued":     {pagedMeta() + pagedLine(4, "1"), pagedLine(5, "2")[:50] + "\x00" + "中"[:1], pagedLine(5, "+")},
	} {
		if utf8.ValidString(c.torn) {
			c.torn = c.torn[:len(c.torn)-1]
		}
		t.Run(title, func(t *testing.T) {
			stores(t, func(t *testing.T, st recorder.Store) {
				write(t, st, name, c.whole+c.torn)
				r, err := recorder.Resume(t.Context(), st, name, at)
				must(t, err)
				if got := read(t, st, name); got != c.whole {
					t.Errorf("Resume left %.300q", got)
				}
				if got := read(t, st, r.Aside()); got != c.torn {
					t.Errorf("aside is %.300q", got)
				}
				base := path.Base(r.Aside())
				if path.Dir(r.Aside()) != path.Dir(name) || strings.HasPrefix(base, "rollout-") || strings.HasSuffix(base, ".tmp") {
					t.Errorf("Codex might touch %s", r.Aside())
				}
				must(t, r.Record(t.Context(), note("+")))
				must(t, r.Close(t.Context()))
				if got := read(t, st, name); got != c.whole+c.after {
					t.Errorf("got %.300q", got)
				}
			})
		})
	}

	// Without the means to move it aside nothing is changed.
	st := struct {
		store.Source
		store.Sink
	}{}
	mem := memfs.New(nil)
	st.Source, st.Sink = mem, mem
	write(t, st, name, metaLine+"\xe4")
	for range 2 { // the second would be busy if the first had kept the lock
		if _, err := recorder.Resume(t.Context(), st, name, at); !errors.Is(err, recorder.ErrTornText) {
			t.Errorf("got %v", err)
		}
	}
	if got := read(t, st, name); got != metaLine+"\xe4" {
		t.Errorf("got %q", got)
	}
}

// A crash between the two steps of moving aside, and a foreign writer.
func TestMovingAsideIsRepeatable(t *testing.T) {
	stores(t, func(t *testing.T, st recorder.Store) {
		write(t, st, name, metaLine+"\xe4")
		failing := &failingPut{Store: st, fail: 2}
		if _, err := recorder.Resume(t.Context(), failing, name, at); !errors.Is(err, errFault) {
			t.Errorf("got %v", err)
		}
		if got := read(t, st, name); got != metaLine+"\xe4" {
			t.Errorf("got %q", got)
		}
		r, err := recorder.Resume(t.Context(), st, name, at)
		must(t, err)
		must(t, r.Close(t.Context()))
		if read(t, st, name) != metaLine || read(t, st, r.Aside()) != "\xe4" {
			t.Errorf("got %q and %q", read(t, st, name), read(t, st, r.Aside()))
		}

		log, err := st.Append(t.Context(), name)
		must(t, err)
		must(t, log.Append([]byte("\xe4")))
		must(t, log.Close())
		failing = &failingPut{Store: st, before: func() {
			log, err := st.Append(t.Context(), name)
			must(t, err)
			must(t, log.Append([]byte("\xb8\xad\n")))
			must(t, log.Close())
		}}
		if _, err := recorder.Resume(t.Context(), failing, name, at); !errors.Is(err, store.ErrChanged) {
			t.Errorf("got %v", err)
		}
		if got := read(t, st, name); got != metaLine+"中\n" {
			t.Errorf("got %q", got)
		}
	})
}

// failingPut fails its put number fail, and calls before in front of the first.
type failingPut struct {
	recorder.Store
	fail   int
	before func()
}

func (f *failingPut) Put(ctx context.Context, name string, b store.Body, c store.Cond) (string, error) {
	if f.fail--; f.fail == 0 {
		return "", errFault
	}
	if f.before != nil {
		f.before()
		f.before = nil
	}
	return f.Store.(store.Putter).Put(ctx, name, b, c)
}

func TestOrdinalsRunOut(t *testing.T) {
	t.Parallel()
	st := memfs.New(nil)
	write(t, st, name, pagedMeta()+pagedLine(1<<64-2, "1"))
	r, err := recorder.Resume(t.Context(), st, name, at)
	must(t, err)
	if err := r.Record(t.Context(), note("2"), note("3")); err == nil {
		t.Error("two ordinals after the one before the last")
	}
	must(t, r.Record(t.Context(), note("last")))
	must(t, r.Close(t.Context()))
	if got := read(t, st, name); !strings.HasSuffix(got, pagedLine(1<<64-1, "last")) {
		t.Errorf("got\n%s", got)
	}
}

// A meter counts the bytes read from a store.
type meter struct {
	*memfs.Store
	n atomic.Int64
}

type meteredFile struct {
	store.File
	*meter
}

func (m *meter) Open(ctx context.Context, name string) (store.File, error) {
	f, err := m.Store.Open(ctx, name)
	return &meteredFile{f, m}, err
}

func (f *meteredFile) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	rc, err := f.File.Range(ctx, off, n)
	return struct {
		io.Reader
		io.Closer
	}{io.TeeReader(rc, f.meter), rc}, err
}

func (m *meter) Write(p []byte) (int, error) {
	m.n.Add(int64(len(p)))
	return len(p), nil
}

func TestResumeReadsOnlyTheEnds(t *testing.T) {
	t.Parallel()
	st := &meter{Store: memfs.New(nil)}
	line := pagedLine(1, strings.Repeat("x", 1000))
	user := `{"timestamp":"2026-11-20T21:41:45.678Z","ordinal":1,"type":"event_msg","payload":{"type":"user_message","message":"hi"}}` + "\n"
	write(t, st, name, pagedMeta()+user+line+strings.Repeat(line, 10_000)+pagedLine(10_001, "end"))
	r, err := recorder.Resume(t.Context(), st, name, at)
	must(t, err)
	must(t, r.Record(t.Context(), note("a"), note("b")))
	must(t, r.Record(t.Context(), note("c")))
	must(t, r.Close(t.Context()))
	if n := st.n.Load(); n > 256<<10 {
		t.Errorf("%d bytes read of a session of 10 MB", n)
	}
	if got := read(t, st.Store, name); !strings.HasSuffix(got, pagedLine(10_002, "a")+pagedLine(10_003, "b")+pagedLine(10_004, "c")) {
		t.Errorf("ends with %s", got[len(got)-300:])
	}
}
