package listing_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/memfs"
)

var modTime = time.Date(2026, 11, 21, 1, 2, 3, 0, time.UTC)

// noon is when the sessions of these tests begin, more or less.
var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// v7 returns a UUIDv7 of a time; of equal times the one with the greater n sorts
// higher.
func v7(t time.Time, n int) (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[:], uint64(t.UnixMilli())<<16|7<<12)
	binary.BigEndian.PutUint64(id[8:], 2<<62|uint64(n))
	return id
}

func v4(n int) (id uuid.UUID) {
	binary.BigEndian.PutUint64(id[:], uint64(n)<<32|4<<12)
	id[8] = 0x80
	return id
}

// g0, g1 and g2 are rollouts of the three generations of the format.
func g0(id uuid.UUID, start time.Time) string {
	return fmt.Sprintf(`{"id":"%s","timestamp":"%s","instructions":null,"git":{"commit_hash":"c0ffee","branch":"main"}}
{"record_type":"state"}
{"type":"message","id":null,"role":"user","content":[{"type":"input_text","text":"hello"}]}
`, id, stamp(start))
}

func g1(id uuid.UUID, start time.Time, cwd string) string {
	return fmt.Sprintf(`{"timestamp":"%s","type":"session_meta","payload":{"id":"%s","timestamp":"%[1]s","cwd":"%[3]s","originator":"codex_exec","cli_version":"0.50.0","source":"exec","git":{"commit_hash":"c0ffee","branch":"main","repository_url":"git@host:a/b.git"}}}
{"timestamp":"%[1]s","type":"event_msg","payload":{"type":"user_message","message":"fix\n  the test","images":[]}}
{"timestamp":"%[1]s","type":"turn_context","payload":{"cwd":"%[3]s","model":"gpt-5","summary":"auto"}}
`, stamp(start), id, cwd)
}

func g2(id uuid.UUID, start time.Time) string {
	return fmt.Sprintf(`{"timestamp":"%s","ordinal":0,"type":"session_meta","payload":{"session_id":"%s","id":"%[2]s","forked_from_id":"parent","timestamp":"%[1]s","cwd":"/w","originator":"codex_cli_rs","cli_version":"0.150.0","source":{"subagent":"review"},"model_provider":"openai","history_mode":"paginated"}}
{"timestamp":"%[1]s","ordinal":1,"type":"turn_context","payload":{"turn_id":"t","cwd":"/w","model":"gpt-6"}}
{"timestamp":"%[1]s","ordinal":2,"type":"event_msg","payload":{"type":"item_completed","thread_id":"x","turn_id":"t","item":{"type":"UserMessage","id":"y","content":[{"type":"text","text":"fix it"}]},"completed_at_ms":1}}
`, stamp(start), id)
}

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// dated returns the path that Codex gives to a session that begins at a wall
// clock.
func dated(wall time.Time, id uuid.UUID) string {
	return wall.Format("sessions/2006/01/02/") + codec.NewName(wall, id).String()
}

func sealed(t testing.TB, content string) string {
	t.Helper()
	var b bytes.Buffer
	s := codec.NewSealer(&b, modTime)
	if _, err := io.WriteString(s, content); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func put(t testing.TB, s store.Putter, path, content string) {
	t.Helper()
	putAt(t, s, path, content, modTime)
}

func putAt(t testing.TB, s store.Putter, path, content string, modTime time.Time) {
	t.Helper()
	body := store.BytesBody([]byte(content), modTime)
	if _, err := s.Put(context.Background(), path, body, store.Cond{IfAbsent: true}); err != nil {
		t.Fatal(err)
	}
}

// tree returns a store with these files.
func tree(t testing.TB, files map[string]string) *memfs.Store {
	t.Helper()
	s := memfs.New(nil)
	for path, content := range files {
		put(t, s, path, content)
	}
	return s
}

func local(s store.Source) []listing.Place {
	return []listing.Place{{Where: listing.Local, Source: s}}
}

func page(t testing.TB, places []listing.Place, q listing.Query) listing.Result {
	t.Helper()
	r, err := listing.Page(t.Context(), places, q)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// pages returns the items of all pages.
func pages(t testing.TB, places []listing.Place, q listing.Query) []listing.Item {
	t.Helper()
	var items []listing.Item
	for {
		r := page(t, places, q)
		items = append(items, r.Items...)
		if r.Next == "" {
			return items
		}
		if len(r.Items) == 0 {
			t.Fatalf("an empty page after %q leads to %q", q.Cursor, r.Next)
		}
		q.Cursor = r.Next
	}
}

// all returns the items of All.
func all(t testing.TB, places []listing.Place, q listing.Query) []listing.Item {
	t.Helper()
	var items []listing.Item
	for it, err := range listing.All(t.Context(), places, q) {
		if err != nil {
			t.Fatal(err)
		}
		items = append(items, it)
	}
	return items
}

// A spy tells what was asked of a Source, and fails where it is told to.
type spy struct {
	store.Source
	mu     sync.Mutex
	listed []string
	opened []string
	fail   map[string]error // by name or directory
}

func (s *spy) List(ctx context.Context, dir string, o store.ListOptions) iter.Seq2[store.Entry, error] {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.listed = append(s.listed, strings.TrimPrefix(dir, "sessions/"))
	if err := s.fail[dir]; err != nil {
		return func(yield func(store.Entry, error) bool) { yield(store.Entry{}, store.Wrap("list", dir, err)) }
	}
	return s.Source.List(ctx, dir, o)
}

func (s *spy) Open(ctx context.Context, name string) (store.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened = append(s.opened, name)
	if err := s.fail[name]; err != nil {
		return nil, store.Wrap("open", name, err)
	}
	return s.Source.Open(ctx, name)
}

// A closing source knows what is open, and how much was read.
type closing struct {
	store.Source
	mu   sync.Mutex
	open map[any]bool
	n    int
}

func (c *closing) set(what any, open bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if open {
		c.open[what] = true
	} else {
		delete(c.open, what)
	}
}

func (c *closing) Open(ctx context.Context, name string) (store.File, error) {
	f, err := c.Source.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	cf := &closingFile{f, c}
	c.set(cf, true)
	return cf, nil
}

type closingFile struct {
	store.File
	c *closing
}

func (f *closingFile) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	r, err := f.File.Range(ctx, off, n)
	if err != nil {
		return nil, err
	}
	cr := &closingReader{r, f.c}
	f.c.set(cr, true)
	return cr, nil
}

func (f *closingFile) Close() error {
	f.c.set(f, false)
	return f.File.Close()
}

type closingReader struct {
	io.ReadCloser
	c *closing
}

func (r *closingReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.c.mu.Lock()
	defer r.c.mu.Unlock()
	r.c.n += n
	return n, err
}

func (r *closingReader) Close() error {
	r.c.set(r, false)
	return r.ReadCloser.Close()
}

// A remote source tells in a List what an object store tells: when an object was
// stored, but not of when and how long its plain bytes are.
type remote struct{ store.Source }

// stored is when the objects of a remote were stored, after what they have changed.
func stored(modTime time.Time) time.Time { return modTime.Add(time.Hour) }

func (r remote) List(ctx context.Context, dir string, o store.ListOptions) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		o.NamesOnly = false
		for e, err := range r.Source.List(ctx, dir, o) {
			if !e.Dir {
				i := e.Info
				e.Info = store.Info{Size: -1, Stored: i.Stored, ChangeTime: stored(i.ModTime), Version: i.Version}
			}
			if !yield(e, err) {
				return
			}
		}
	}
}

// listed calls do before it lists a directory.
type listed struct {
	store.Source
	do func(dir string)
}

func (l *listed) List(ctx context.Context, dir string, o store.ListOptions) iter.Seq2[store.Entry, error] {
	l.do(dir)
	return l.Source.List(ctx, dir, o)
}
