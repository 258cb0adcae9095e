package mirror_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
	gcblob "gocloud.dev/blob"
	"gocloud.dev/blob/memblob"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/blob"
	"github.com/rollout-sync/rollout/store/blob/dirblob"
	"github.com/rollout-sync/rollout/store/blob/mem"
	"github.com/rollout-sync/rollout/store/memfs"
)

var ctx = context.Background()

// team is a mirror and what the tests know of it without package mirror.
type team struct {
	bucket *gcblob.Bucket
	mirror *blob.Store
	calls  *counter
}

func newTeam(t *testing.T) *team {
	t.Helper()
	return newTeamIn(t, memblob.OpenBucket(nil), mem.Service())
}

func newTeamIn(t *testing.T, b *gcblob.Bucket, service blob.Service) *team {
	t.Helper()
	s := blob.New(b, &blob.Options{Service: service})
	t.Cleanup(func() { s.Close() })
	return &team{bucket: b, mirror: s, calls: &counter{Store: s}}
}

// kinds are mirrors with metadata beside the objects and without.
var kinds = map[string]func(t *testing.T) *team{
	"memory": newTeam,
	"directory": func(t *testing.T) *team {
		b, err := dirblob.OpenBucket(t.TempDir(), nil)
		if err != nil {
			t.Fatal(err)
		}
		return newTeamIn(t, b, dirblob.Service())
	},
}

// counter counts what is asked of a mirror.
type counter struct {
	mirror.Store
	opens, puts, lists atomic.Int64
}

func (c *counter) Open(ctx context.Context, name string) (store.File, error) {
	c.opens.Add(1)
	return c.Store.Open(ctx, name)
}

func (c *counter) Put(ctx context.Context, name string, b store.Body, cond store.Cond) (string, error) {
	c.puts.Add(1)
	return c.Store.Put(ctx, name, b, cond)
}

func (c *counter) List(ctx context.Context, dir string, o store.ListOptions) iter.Seq2[store.Entry, error] {
	c.lists.Add(1)
	return c.Store.List(ctx, dir, o)
}

func (c *counter) total() int64 { return c.opens.Load() + c.puts.Load() + c.lists.Load() }

// reset returns what was counted, and begins anew.
func (c *counter) reset() string {
	return fmt.Sprintf("%d opens, %d puts, %d lists", c.opens.Swap(0), c.puts.Swap(0), c.lists.Swap(0))
}

// home is a home that pushes to a team's mirror.
type home struct {
	t      *testing.T
	team   *team
	origin string
	files  *memfs.Store
	state  *mirror.State
	now    time.Time // of the pushes: later than all that the test writes
}

func (tm *team) newHome(t *testing.T, origin string) *home {
	t.Helper()
	h := &home{t: t, team: tm, origin: origin, files: memfs.New(nil), now: time.Now().Add(time.Hour)}
	h.loseState()
	return h
}

func (h *home) loseState() {
	h.state = mirror.NewState()
}

// write makes the file at path have this content.
func (h *home) write(path, content string) { h.writeAt(path, content, time.Now().Add(-time.Minute)) }

func (h *home) writeAt(path, content string, modTime time.Time) {
	h.t.Helper()
	c := store.Cond{IfAbsent: true}
	if f, err := h.files.Open(ctx, path); err == nil {
		c = store.Cond{IfVersion: f.Info().Version}
		f.Close()
	}
	if _, err := h.files.Put(ctx, path, store.BytesBody([]byte(content), modTime), c); err != nil {
		h.t.Fatal(err)
	}
}

func (h *home) remove(path string) {
	h.t.Helper()
	f, err := h.files.Open(ctx, path)
	if err != nil {
		h.t.Fatal(err)
	}
	v := f.Info().Version
	f.Close()
	if err := h.files.Remove(ctx, path, v); err != nil {
		h.t.Fatal(err)
	}
}

func (h *home) read(path string) string {
	h.t.Helper()
	content, err := readAll(h.files, path)
	if err != nil {
		h.t.Fatal(err)
	}
	return content
}

func readAll(s store.Source, path string) (string, error) {
	f, err := s.Open(ctx, path)
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

func (h *home) tryPush() (mirror.Report, error) {
	return mirror.Push(ctx, mirror.Pushing{
		Home: h.files, Mirror: h.team.calls, State: h.state, Origin: h.origin,
		Idle: 10 * time.Minute, Now: func() time.Time { return h.now },
	})
}

// push pushes and returns what became of the rollouts.
func (h *home) push() mirror.Report {
	h.t.Helper()
	r, err := h.tryPush()
	if err != nil {
		h.t.Fatal(err)
	}
	for _, f := range r.Failures {
		h.t.Errorf("%s: %v", f.Path, f.Err)
	}
	return r
}

// objects returns everything in the bucket, decoded, without the facts, the catalog
// and the root marker. It knows nothing of package mirror.
func (tm *team) objects(t *testing.T) map[string]string {
	t.Helper()
	found := map[string]string{}
	it := tm.bucket.List(nil)
	for {
		o, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		if o.Key == "rollout-mirror.json" || strings.HasPrefix(o.Key, "origins/") || strings.HasPrefix(o.Key, "catalog/") {
			continue
		}
		p, err := tm.bucket.ReadAll(ctx, o.Key)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(o.Key, ".zst") {
			p = unzstd(t, p)
		}
		found[o.Key] = string(p)
	}
}

func unzstd(t *testing.T, p []byte) []byte {
	t.Helper()
	z, err := zstd.NewReader(bytes.NewReader(p))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	p, err = io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const (
	base     = "rollout-2026-11-20T08-41-45-01a1f81e-6bb9-7000-8000-000000000001"
	file     = "sessions/2026/11/20/" + base + ".jsonl"
	archived = "archived_sessions/" + base + ".jsonl"
	key      = file + ".zst"
	id       = "01a1f81e-6bb9-7000-8000-000000000001"

	// Hashes of the contents below, by sha256sum.
	hashOne = "2c8b08da5ce60398e1f19af0e5dccc744df274b826abe585eaba68c525434806" // "one\n"
)

func historyOf(hash string) string {
	return "history/sessions/2026/11/20/" + base + "/" + hash + ".jsonl.zst"
}

func divergedOf(origin string) string {
	return "diverged/sessions/2026/11/20/" + base + "/" + origin + ".jsonl.zst"
}

// Each rule of the mirror, as a story of two homes, a and b.
func TestPushRules(t *testing.T) {
	t.Parallel()
	type step struct {
		home    string
		content string // "": the file is as it was
		does    string // something else before the push
		want    mirror.Action
	}
	for name, c := range map[string]struct {
		steps []step
		want  map[string]string
	}{
		"a new one is uploaded, a longer one extends it, an unchanged one is left alone": {
			[]step{
				{"a", "one\n", "", mirror.Uploaded},
				{"a", "", "", mirror.Unchanged},
				{"a", "one\ntwo\n", "", mirror.Extended},
			},
			map[string]string{key: "one\ntwo\n"},
		},
		"an empty one, too, and torn ones are taken as they are": {
			[]step{
				{"a", "", "empty", mirror.Uploaded},
				{"a", "one\ntor", "", mirror.Extended},
				{"a", "one\ntorn\n\xff", "", mirror.Extended},
			},
			map[string]string{key: "one\ntorn\n\xff"},
		},
		"the same from two homes": {
			[]step{{"a", "one\n", "", mirror.Uploaded}, {"b", "one\n", "", mirror.Equal}, {"b", "", "", mirror.Unchanged}},
			map[string]string{key: "one\n"},
		},
		"the mirror is ahead": {
			[]step{
				{"a", "one\ntwo\n", "", mirror.Uploaded},
				{"b", "one\n", "", mirror.Ahead},
				{"b", "one\ntwo\nthree\n", "", mirror.Extended},
				{"a", "one\ntwo\nthree\nfour\n", "", mirror.Extended},
			},
			map[string]string{key: "one\ntwo\nthree\nfour\n"},
		},
		"a rewrite keeps what it replaces": {
			[]step{
				{"a", "one\n", "", mirror.Uploaded},
				{"a", "ONE\n", "", mirror.Rewritten},
				{"a", "ONE\nTWO\n", "", mirror.Extended},
			},
			map[string]string{key: "ONE\nTWO\n", historyOf(hashOne): "one\n"},
		},
		"what a rewrite replaced is superseded in the other home": {
			[]step{
				{"a", "one\n", "", mirror.Uploaded},
				{"b", "one\n", "", mirror.Equal},
				{"a", "ONE\n", "", mirror.Rewritten},
				{"b", "", "lose state", mirror.Superseded},
				{"b", "", "", mirror.Unchanged},
			},
			map[string]string{key: "ONE\n", historyOf(hashOne): "one\n"},
		},
		"two versions stand beside each other and both grow": {
			[]step{
				{"a", "one\n", "", mirror.Uploaded},
				{"b", "uno\n", "", mirror.Diverged},
				{"b", "uno\ndos\n", "", mirror.Diverged},
				{"a", "one\ntwo\n", "", mirror.Extended},
				{"b", "", "", mirror.Unchanged},
			},
			map[string]string{key: "one\ntwo\n", divergedOf("b"): "uno\ndos\n"},
		},
		"a diverged version that is rewritten is kept as well": {
			[]step{
				{"a", "ein\n", "", mirror.Uploaded},
				{"b", "one\n", "", mirror.Diverged},
				{"b", "uno\n", "", mirror.Diverged},
			},
			map[string]string{
				key: "ein\n", divergedOf("b"): "uno\n",
				"history/diverged/sessions/2026/11/20/" + base + "/b/" + hashOne + ".jsonl.zst": "one\n",
			},
		},
		"a lost state costs nothing": {
			[]step{
				{"a", "one\n", "", mirror.Uploaded},
				{"a", "", "lose state", mirror.Equal},
				{"a", "one\ntwo\n", "lose state", mirror.Extended},
			},
			map[string]string{key: "one\ntwo\n"},
		},
		"a rewrite after a lost state is known for one by what this home told": {
			[]step{
				{"a", "one\n", "", mirror.Uploaded},
				{"a", "ONE\n", "lose state", mirror.Rewritten},
			},
			map[string]string{key: "ONE\n", historyOf(hashOne): "one\n"},
		},
		"a rewrite after state and origin are lost diverges": {
			[]step{
				{"a", "one\n", "", mirror.Uploaded},
				{"a", "ONE\n", "lose origin", mirror.Diverged},
				{"a", "ONE\nTWO\n", "", mirror.Diverged},
			},
			map[string]string{key: "one\n", divergedOf("a2"): "ONE\nTWO\n"},
		},
		"a state that is behind does not go back": {
			[]step{
				{"a", "one\n", "", mirror.Uploaded},
				{"b", "one\n", "", mirror.Equal},
				{"b", "one\ntwo\n", "", mirror.Extended},
				{"a", "ONE\n", "", mirror.Diverged},
			},
			map[string]string{key: "one\ntwo\n", divergedOf("a"): "ONE\n"},
		},
		"moving to the archive changes a fact, not an object": {
			[]step{
				{"a", "one\n", "", mirror.Uploaded},
				{"a", "", "archive", mirror.Equal},
			},
			map[string]string{key: "one\n"},
		},
	} {
		for kind, newTeam := range kinds {
			t.Run(kind+"/"+name, func(t *testing.T) {
				t.Parallel()
				tm := newTeam(t)
				homes := map[string]*home{"a": tm.newHome(t, "a"), "b": tm.newHome(t, "b")}
				for i, s := range c.steps {
					h := homes[s.home]
					switch s.does {
					case "empty":
						h.write(file, "")
					case "lose state":
						h.loseState()
					case "lose origin":
						h.loseState()
						h.origin += "2"
					case "archive":
						content := h.read(file)
						h.remove(file)
						h.write(archived, content)
					}
					if s.content != "" {
						h.write(file, s.content)
					}
					r := h.push()
					if got := r.Actions; len(got) != 1 || got[s.want] != 1 {
						t.Fatalf("step %d, %+v: %v", i+1, s, got)
					}
					if len(r.Vanished) > 0 || len(r.Foreign) > 0 {
						t.Errorf("step %d: vanished %q, foreign %q", i+1, r.Vanished, r.Foreign)
					}
				}
				if diff := cmp.Diff(c.want, tm.objects(t)); diff != "" {
					t.Errorf("the mirror has (-want +got):\n%s", diff)
				}
				v, err := mirror.Verify(ctx, mirror.Verifying{Mirror: tm.mirror, Home: homes["a"].files, Deep: true})
				if err != nil || len(v.Damaged)+len(v.Failures) > 0 {
					t.Errorf("Verify: %+v, %v", v, err)
				}
				if v.Pending > 0 {
					t.Errorf("Verify says that something of home a is not in the mirror: %+v", v)
				}
			})
		}
	}
}

func TestPushNothingToDo(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	h := tm.newHome(t, "a")
	for i := range 20 {
		h.write(fmt.Sprintf("sessions/2026/11/%02d/rollout-2026-11-%02dT08-00-00-01a1f81e-6bb9-7000-8000-0000000000%02d.jsonl", i+1, i+1, i+1), "x\n")
	}
	if r := h.push(); r.Actions[mirror.Uploaded] != 20 || r.Bytes != 40 {
		t.Fatalf("%+v", r)
	}
	tm.calls.reset()
	if r := h.push(); r.Actions[mirror.Unchanged] != 20 {
		t.Fatalf("%+v", r)
	}
	if n := tm.calls.total(); n != 0 {
		t.Errorf("a push with nothing to do made %d requests", n)
	}
}

func TestPushWaits(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	h := tm.newHome(t, "a")
	h.writeAt(file, "one\n", h.now.Add(-9*time.Minute))
	if r := h.push(); r.Actions[mirror.Waiting] != 1 {
		t.Errorf("9 minutes old: %v", r.Actions)
	}
	h.writeAt(file, "one\n", h.now.Add(24*time.Hour))
	if r := h.push(); r.Actions[mirror.Waiting] != 1 {
		t.Errorf("from the future: %v", r.Actions)
	}
	if r := h.push(); r.Actions[mirror.Uploaded] != 1 {
		t.Errorf("from the future, and as it was at the last push: %v", r.Actions)
	}
}

// A file that changed within the last two seconds may change again unseen, so it
// is looked at again.
func TestPushDistrustsFreshFiles(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	h := tm.newHome(t, "a")
	h.now = time.Now()
	h.writeAt(file, "one\n", h.now.Add(-time.Second))
	push := func() mirror.Report {
		r, err := mirror.Push(ctx, mirror.Pushing{
			Home: h.files, Mirror: tm.mirror, State: h.state, Origin: "a", Now: func() time.Time { return h.now },
		})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	for i, want := range []mirror.Action{mirror.Uploaded, mirror.Equal, mirror.Equal, mirror.Unchanged} {
		if i == 2 {
			h.now = h.now.Add(2 * time.Second)
		}
		if r := push(); r.Actions[want] != 1 {
			t.Errorf("push %d: %v, want %s", i+1, r.Actions, want)
		}
	}
}

func TestPushTwoFilesOfOneName(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	h := tm.newHome(t, "a")
	h.write(file, "one\ntwo\n")
	h.write(archived, "uno\n")
	r := h.push()
	if r.Actions[mirror.Uploaded] != 1 || r.Actions[mirror.Diverged] != 1 {
		t.Errorf("%v", r.Actions)
	}
	if r := h.push(); r.Actions[mirror.Unchanged] != 2 {
		t.Errorf("again: %v", r.Actions)
	}
	h.write(archived, "uno\ndos\n")
	if r := h.push(); r.Actions[mirror.Diverged] != 1 || r.Actions[mirror.Unchanged] != 1 {
		t.Errorf("the other grew: %v", r.Actions)
	}
	want := map[string]string{key: "one\ntwo\n", divergedOf("a"): "uno\ndos\n"}
	if diff := cmp.Diff(want, tm.objects(t)); diff != "" {
		t.Errorf("the mirror has (-want +got):\n%s", diff)
	}
}

func TestPushVanished(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	h := tm.newHome(t, "a")
	other := strings.ReplaceAll(file, "000000000001", "000000000002")
	h.write(file, "one\n")
	h.write(other, "two\n")
	h.push()

	h.remove(other)
	if r := h.push(); !slices.Equal(r.Vanished, []string{other}) {
		t.Errorf("vanished: %q", r.Vanished)
	}
	if r := h.push(); len(r.Vanished) > 0 {
		t.Errorf("told twice: %q", r.Vanished)
	}
	h.remove(file)
	if _, err := h.tryPush(); !errors.Is(err, mirror.ErrVanished) {
		t.Errorf("with nothing left: %v", err)
	}
	if got := len(tm.objects(t)); got != 2 {
		t.Errorf("the mirror has %d objects, want 2", got)
	}
}

// A home that never had a session is not one that lost them.
func TestPushOfAFreshHome(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	h := tm.newHome(t, "a")
	for range 2 {
		if r, err := h.tryPush(); err != nil || r.Rollouts != 0 || len(r.Vanished) > 0 {
			t.Errorf("%+v, %v", r, err)
		}
	}
	if n := tm.calls.total(); n != 0 {
		t.Errorf("it made %d requests", n)
	}
}

func TestPushForeignOverwrite(t *testing.T) {
	t.Parallel()
	for what, content := range map[string][]byte{
		"text":      []byte("not zstd at all, and long enough to have had a trailer of its own, if it were one\n"),
		"empty":     {},
		"other zst": zst("uno\n"),
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			tm := newTeam(t)
			h := tm.newHome(t, "a")
			h.write(file, "one\n")
			h.push()
			if err := tm.bucket.WriteAll(ctx, key, content, nil); err != nil {
				t.Fatal(err)
			}
			h.write(file, "one\ntwo\n")
			r := h.push()
			if len(r.Foreign) != 1 || r.Actions[mirror.Uploaded] != 1 {
				t.Fatalf("%+v", r)
			}
			kept, err := tm.bucket.ReadAll(ctx, r.Foreign[0])
			if err != nil || !bytes.Equal(kept, content) {
				t.Errorf("kept %q, %v", kept, err)
			}
			if got := tm.objects(t)[key]; got != "one\ntwo\n" {
				t.Errorf("the object has %q", got)
			}
		})
	}
}

func zst(content string) []byte { return encoder().EncodeAll([]byte(content), nil) }

var encoder = sync.OnceValue(func() *zstd.Encoder {
	z, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return z
})

// One rollout that cannot be read keeps no other back.
func TestPushGoesOn(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	h := tm.newHome(t, "a")
	bad := strings.ReplaceAll(file, "000000000001", "000000000002")
	h.write(file, "one\n")
	h.write(bad+".zst", "this is not zstd\n")
	r, err := h.tryPush()
	if err != nil || r.Actions[mirror.Uploaded] != 1 || len(r.Failures) != 1 {
		t.Fatalf("%+v, %v", r, err)
	}
	if f := r.Failures[0]; f.Path != bad || !errors.Is(f.Err, store.ErrCorrupt) {
		t.Errorf("%+v", f)
	}
}

func TestNewerFormatIsRefused(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	h := tm.newHome(t, "a")
	h.write(file, "one\n")
	if err := tm.bucket.WriteAll(ctx, "rollout-mirror.json", []byte(`{"format":2}`), nil); err != nil {
		t.Fatal(err)
	}
	if r, err := h.tryPush(); err == nil || !strings.Contains(err.Error(), "format 2") {
		t.Errorf("Push: %+v, %v", r, err)
	}
	if _, err := mirror.Verify(ctx, mirror.Verifying{Mirror: tm.mirror}); err == nil {
		t.Error("Verify went on")
	}
	if got := tm.objects(t); len(got) > 0 {
		t.Errorf("the mirror has %v", got)
	}
}

func TestStateIsExclusive(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "x", "state.db")
	s, err := mirror.OpenState(file)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := mirror.OpenState(file); !errors.Is(err, mirror.ErrLocked) {
		t.Errorf("a second one: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// A state that cannot be read is moved aside: it is only a cache.
func TestStateDamaged(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "state.db")
	junk := bytes.Repeat([]byte("junk"), 4096)
	if err := os.WriteFile(file, junk, 0o600); err != nil {
		t.Fatal(err)
	}
	s, err := mirror.OpenState(file)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if kept, err := os.ReadFile(file + ".damaged"); err != nil || !bytes.Equal(kept, junk) {
		t.Errorf("the old one: %d bytes, %v", len(kept), err)
	}
}

// What a state in a file remembers is there for the next process.
func TestStateLasts(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	h := tm.newHome(t, "a")
	h.write(file, "one\n")
	state := filepath.Join(t.TempDir(), "state.db")
	for i, want := range []mirror.Action{mirror.Uploaded, mirror.Unchanged} {
		var err error
		if h.state, err = mirror.OpenState(state); err != nil {
			t.Fatal(err)
		}
		if r := h.push(); r.Actions[want] != 1 {
			t.Errorf("push %d: %v", i+1, r.Actions)
		}
		if err := h.state.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestVerifyFindsDamage(t *testing.T) {
	t.Parallel()
	// So long, and so hard to compress, that no store has read the end of it when
	// it has read the beginning.
	var content string
	for r := rand.New(rand.NewPCG(1, 1)); len(content) < 600<<10; {
		content += fmt.Sprintf(`{"a":"%016x"}`+"\n", r.Uint64())
	}
	for what, c := range map[string]struct {
		damage  func(t *testing.T, b *gcblob.Bucket, p []byte, meta map[string]string)
		shallow bool // found without --deep
	}{
		"a flipped byte": {func(t *testing.T, b *gcblob.Bucket, p []byte, meta map[string]string) {
			p[len(p)*3/4] ^= 1
			rewrite(t, b, p, meta)
		}, false},
		"a flipped byte where a session begins": {func(t *testing.T, b *gcblob.Bucket, p []byte, meta map[string]string) {
			p[20] ^= 1
			rewrite(t, b, p, meta)
		}, true},
		"cut in the middle": {func(t *testing.T, b *gcblob.Bucket, p []byte, meta map[string]string) {
			rewrite(t, b, p[:len(p)/2], meta)
		}, true},
		"cut at the end of the frames": {func(t *testing.T, b *gcblob.Bucket, p []byte, meta map[string]string) {
			i := bytes.Index(p, []byte{0x5d, 0x2a, 0x4d, 0x18})
			rewrite(t, b, p[:i], meta)
		}, true},
		"empty": {func(t *testing.T, b *gcblob.Bucket, _ []byte, meta map[string]string) {
			rewrite(t, b, nil, meta)
		}, true},
		"something behind it": {func(t *testing.T, b *gcblob.Bucket, p []byte, meta map[string]string) {
			rewrite(t, b, append(p, "x"...), meta)
		}, true},
		"metadata that lie about the hash": {func(t *testing.T, b *gcblob.Bucket, p []byte, meta map[string]string) {
			meta["sha256"] = hashOne
			rewrite(t, b, p, meta)
		}, true},
		"metadata that lie about the size": {func(t *testing.T, b *gcblob.Bucket, p []byte, meta map[string]string) {
			meta["size"] = "4"
			rewrite(t, b, p, meta)
		}, true},
		"a foreign zst": {func(t *testing.T, b *gcblob.Bucket, _ []byte, _ map[string]string) {
			rewrite(t, b, zst(content), nil)
		}, true},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			tm := newTeam(t)
			h := tm.newHome(t, "a")
			other := strings.ReplaceAll(file, "000000000001", "000000000002")
			h.write(file, content)
			h.write(other, content)
			h.push()
			p, err := tm.bucket.ReadAll(ctx, key)
			if err != nil {
				t.Fatal(err)
			}
			a, err := tm.bucket.Attributes(ctx, key)
			if err != nil {
				t.Fatal(err)
			}
			c.damage(t, tm.bucket, p, a.Metadata)
			for _, deep := range []bool{false, true} {
				v, err := mirror.Verify(ctx, mirror.Verifying{Mirror: tm.mirror, Home: h.files, Deep: deep, Jobs: 2})
				if err != nil {
					t.Fatal(err)
				}
				want := 0
				if deep || c.shallow {
					want = 1
				}
				if len(v.Damaged) != want || len(v.Failures) > 0 || v.Objects != 3 {
					t.Errorf("deep=%v: %+v", deep, v)
				}
				for _, d := range v.Damaged {
					t.Log(d.Err)
					if !strings.Contains(d.Err.Error(), base) {
						t.Errorf("%v does not name the object", d.Err)
					}
				}
			}

			to := memfs.New(nil)
			r, err := mirror.Restore(ctx, mirror.Restoring{Home: to, Mirror: tm.mirror})
			if err != nil {
				t.Fatal(err)
			}
			if r.Actions[mirror.Created] != 1 || len(r.Failures) != 1 || !errors.Is(r.Failures[0].Err, store.ErrCorrupt) {
				t.Errorf("Restore: %+v", r)
			}
			if _, err := to.Open(ctx, file); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("Restore of a damaged object left a file: %v", err)
			}
		})
	}
}

// falsifying is a mirror of which each object's first reading has a wrong bit.
type falsifying struct {
	store.Source
	mu   sync.Mutex
	seen map[string]bool
}

func (m *falsifying) Open(ctx context.Context, name string) (store.File, error) {
	f, err := m.Source.Open(ctx, name)
	if err != nil || !strings.HasSuffix(name, ".zst") && !strings.HasSuffix(name, ".foreign") {
		return f, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.seen[name] {
		return f, nil
	}
	m.seen[name] = true
	return falseFile{f}, nil
}

type falseFile struct{ store.File }

func (f falseFile) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	r, err := f.File.Range(ctx, off, n)
	if err != nil {
		return nil, err
	}
	p, err := io.ReadAll(r)
	if len(p) > 0 {
		p[len(p)/2] ^= 1
	}
	return io.NopCloser(bytes.NewReader(p)), errors.Join(err, r.Close())
}

// What was falsified on its way is read again before an object is called damaged: who
// believes it moves a whole object away.
func TestVerifyReadsAgain(t *testing.T) {
	t.Parallel()
	for _, deep := range []bool{false, true} {
		tm := newTeam(t)
		h := tm.newHome(t, "a")
		h.write(file, "one\ntwo\n")
		h.push()
		rewrite(t, tm.bucket, []byte("no version"), nil) // which the next push keeps
		h.write(file, "one\ntwo\nthree\n")
		h.push()
		m := &falsifying{Source: tm.mirror, seen: map[string]bool{}}
		v, err := mirror.Verify(ctx, mirror.Verifying{Mirror: m, Deep: deep})
		if err != nil || len(v.Damaged)+len(v.Failures) > 0 || v.Objects != 3 {
			t.Errorf("deep=%v: %+v, %v", deep, v, err)
		}
		if len(m.seen) < 2 {
			t.Errorf("deep=%v: only %v was falsified", deep, m.seen)
		}
	}
}

func rewrite(t *testing.T, b *gcblob.Bucket, p []byte, meta map[string]string) {
	t.Helper()
	if err := b.WriteAll(ctx, key, p, &gcblob.WriterOptions{ContentType: "application/zstd", Metadata: meta}); err != nil {
		t.Fatal(err)
	}
}

func TestVerifyPending(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	h := tm.newHome(t, "a")
	h.write(file, "one\n")
	h.push()
	h.write(file, "one\ntwo\n")
	v, err := mirror.Verify(ctx, mirror.Verifying{Mirror: tm.mirror, Home: h.files})
	if err != nil || v.Pending != 1 || v.Compared != 1 || len(v.Damaged) > 0 {
		t.Errorf("%+v, %v", v, err)
	}
	if _, err := mirror.Verify(ctx, mirror.Verifying{Mirror: newTeam(t).mirror}); !errors.Is(err, mirror.ErrNoMirror) {
		t.Errorf("of nothing: %v", err)
	}
}

// What a rollout begins with has to be there, and in the version that it means.
func TestVerifyLineage(t *testing.T) {
	t.Parallel()
	parent := meta(rolloutID(1), "", 0) + `{"a":1}` + "\n"
	child := meta(rolloutID(2), rolloutID(1), len(parent))
	parentFile, childFile := rolloutFile(1, 20), rolloutFile(2, 20)
	for name, c := range map[string]struct {
		does          func(t *testing.T, tm *team, a *home)
		shallow, deep int // children without
	}{
		"as it was": {func(*testing.T, *team, *home) {}, 0, 0},
		"the parent grew": {func(_ *testing.T, _ *team, a *home) {
			a.write(parentFile, parent+"{}\n")
		}, 0, 0},
		"the parent was rewritten": {func(_ *testing.T, _ *team, a *home) {
			a.write(parentFile, strings.Replace(parent, `"a"`, `"b"`, 1))
		}, 0, 0},
		"the parent is gone": {func(t *testing.T, tm *team, _ *home) {
			if err := tm.bucket.Delete(ctx, parentFile+".zst"); err != nil {
				t.Fatal(err)
			}
		}, 1, 1},
		"another version is all there is": {func(t *testing.T, tm *team, a *home) {
			a.write(parentFile, strings.Replace(parent, `"a"`, `"b"`, 1))
			a.push()
			err := tm.bucket.Delete(ctx, "history/"+strings.TrimSuffix(parentFile, ".jsonl")+"/"+sha(parent)+".jsonl.zst")
			if err != nil {
				t.Fatal(err)
			}
		}, 0, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tm := newTeam(t)
			a := tm.newHome(t, "a")
			a.write(parentFile, parent)
			a.write(childFile, child)
			a.push()
			c.does(t, tm, a)
			a.push()
			for _, deep := range []bool{false, true} {
				want := c.shallow
				if deep {
					want = c.deep
				}
				v, err := mirror.Verify(ctx, mirror.Verifying{Mirror: tm.mirror, Deep: deep})
				if err != nil || v.Children != 1 || len(v.Incomplete) != want || len(v.Damaged)+len(v.Failures) > 0 {
					t.Errorf("deep=%v: %+v, %v", deep, v, err)
				}
				for _, f := range v.Incomplete {
					if f.Name != childFile || !errors.Is(f.Err, mirror.ErrLineage) || !strings.Contains(f.Err.Error(), rolloutID(1)) {
						t.Errorf("%+v", f)
					}
				}
			}
		})
	}
}

// A mirror may be pushed to while it is verified: here between the two looks at an
// object.
func TestVerifyWhilePushing(t *testing.T) {
	t.Parallel()
	for kind, newTeam := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			for _, content := range []string{"one\ntwo\n", "ONE\n"} { // longer, and as long
				tm := newTeam(t)
				h := tm.newHome(t, "a")
				h.write(file, "one\n")
				h.push()
				m := &meddling{Source: tm.mirror}
				looks := 0
				m.opened = func() {
					if looks++; looks == 2 {
						h.write(file, content)
						h.push()
					}
				}
				v, err := mirror.Verify(ctx, mirror.Verifying{Mirror: m, Deep: true})
				if err != nil || looks < 4 || len(v.Damaged)+len(v.Failures) > 0 {
					t.Errorf("%q, %d looks: %+v, %v", content, looks, v, err)
				}
			}
		})
	}
}

func TestRestore(t *testing.T) {
	t.Parallel()
	modTime := time.Date(2026, 11, 20, 9, 10, 11, 123456700, time.UTC)
	for what, c := range map[string]struct {
		here    string // "-": absent
		at      string
		want    mirror.Action
		content string
	}{
		"absent":                  {"-", file, mirror.Created, "one\ntwo\n"},
		"equal":                   {"one\ntwo\n", file, mirror.Present, "one\ntwo\n"},
		"shorter":                 {"one\n", file, mirror.Extended, "one\ntwo\n"},
		"empty":                   {"", file, mirror.Extended, "one\ntwo\n"},
		"longer":                  {"one\ntwo\nthree\n", file, mirror.Longer, "one\ntwo\nthree\n"},
		"differs":                 {"ONE\n", file, mirror.Failed, "ONE\n"},
		"differs in equal length": {"one\nTWO\n", file, mirror.Failed, "one\nTWO\n"},
		"equal, archived here":    {"one\ntwo\n", archived, mirror.Present, "one\ntwo\n"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			tm := newTeam(t)
			a := tm.newHome(t, "a")
			a.writeAt(file, "one\ntwo\n", modTime)
			a.write("session_index.jsonl", `{"id":"`+id+`","thread_name":"a name","updated_at":"2026-11-20T09:00:00Z"}`+"\n")
			a.push()

			b := tm.newHome(t, "b")
			if c.here != "-" {
				b.write(c.at, c.here)
			}
			r, err := mirror.Restore(ctx, mirror.Restoring{Home: b.files, Mirror: tm.mirror, Origin: "b"})
			if err != nil {
				t.Fatal(err)
			}
			if len(r.Actions) != 1 || r.Actions[c.want] != 1 {
				t.Errorf("%+v", r)
			}
			if c.want == mirror.Failed && !errors.Is(r.Failures[0].Err, mirror.ErrDiffers) {
				t.Errorf("%v", r.Failures[0].Err)
			}
			if got := b.read(c.at); got != c.content {
				t.Errorf("the file has %q, want %q", got, c.content)
			}
			if f, err := b.files.Open(ctx, c.at); err != nil {
				t.Error(err)
			} else if got := f.Info().ModTime; (c.want == mirror.Created || c.want == mirror.Extended) && !got.Equal(modTime) {
				t.Errorf("the file is of %v, want %v", got, modTime)
			}
			if c.want == mirror.Failed {
				return
			}
			names, err := codec.ReadThreadNames(strings.NewReader(b.read("session_index.jsonl")))
			if err != nil || names[id].Name != "a name" {
				t.Errorf("names: %v, %v", names, err)
			}
			if again, err := mirror.Restore(ctx, mirror.Restoring{Home: b.files, Mirror: tm.mirror}); err != nil || again.Names != 0 {
				t.Errorf("again: %+v, %v", again, err)
			}
		})
	}
}

// A rollout comes back to where its origin had it, and to where a home has it now.
func TestRestorePaths(t *testing.T) {
	t.Parallel()
	odd := "sessions/elsewhere/" + base + ".jsonl"
	for what, c := range map[string]struct{ was, want string }{
		"by date":       {file, file},
		"archived":      {archived, archived},
		"an odd folder": {odd, odd},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			tm := newTeam(t)
			a := tm.newHome(t, "a")
			a.write(c.was, "one\n")
			a.push()
			b := memfs.New(nil)
			if r, err := mirror.Restore(ctx, mirror.Restoring{Home: b, Mirror: tm.mirror}); err != nil || r.Actions[mirror.Created] != 1 {
				t.Fatalf("%+v, %v", r, err)
			}
			if got, err := readAll(b, c.want); got != "one\n" {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
}

// What a mirror says of paths is not believed.
func TestRestoreHostilePaths(t *testing.T) {
	t.Parallel()
	for _, p := range []string{
		"../" + base + ".jsonl", "/etc/" + base + ".jsonl", "auth.json", "config.toml", "sessions/../" + base + ".jsonl",
		"sessions/2026/11/20/rollout-2026-11-20T08-41-45-01a1f81e-6bb9-7000-8000-000000000009.jsonl",
		"sessions/.hidden/" + base + ".jsonl", "other/" + base + ".jsonl", `sessions\` + base + ".jsonl",
		"archived_sessions/deep/" + base + ".jsonl", "sessions/x\ny/" + base + ".jsonl",
	} {
		t.Run(p, func(t *testing.T) {
			t.Parallel()
			tm := newTeam(t)
			a := tm.newHome(t, "a")
			a.write(file, "one\n")
			a.push()
			fact := fmt.Sprintf(`{"rollout":%q,"path":%q,"sha256":%q,"mtime":"2026-11-20T00:00:00Z"}`+"\n", base+".jsonl", p, hashOne)
			if _, err := tm.mirror.Put(ctx, "origins/evil/2026-11.jsonl", store.BytesBody([]byte(fact), time.Time{}), store.Cond{IfAbsent: true}); err != nil {
				t.Fatal(err)
			}
			b := memfs.New(nil)
			if _, err := mirror.Restore(ctx, mirror.Restoring{Home: b, Mirror: tm.mirror, Origin: "evil"}); err != nil {
				t.Fatal(err)
			}
			if got, err := readAll(b, file); got != "one\n" {
				t.Errorf("%q, %v", got, err)
			}
			for e, err := range b.List(ctx, ".", store.ListOptions{}) {
				if err != nil || e.Name != "sessions" {
					t.Errorf("the home has %s, %v", e.Name, err)
				}
			}
		})
	}
}
