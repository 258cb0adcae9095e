package mirror_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/local"
)

// rolloutID returns the id of the test rollout n.
func rolloutID(n int) string { return fmt.Sprintf("01a1f81e-6bb9-7000-8000-%012d", n) }

// rolloutFile returns the path of the test rollout n, which is of a day in November.
func rolloutFile(n, day int) string {
	return fmt.Sprintf("sessions/2026/11/%02d/rollout-2026-11-%02dT08-41-45-%s.jsonl", day, day, rolloutID(n))
}

// meta returns the first line of a rollout, which begins with the first offset
// bytes of another if there is one.
func meta(id, base string, offset int) string {
	m := map[string]any{"id": id, "timestamp": "2026-11-20T08:41:45.000Z", "cwd": "/w", "originator": "test", "cli_version": "0.169.0"}
	if base != "" {
		m["history_base"] = map[string]any{"thread_id": base, "end_ordinal_exclusive": 1, "end_byte_offset": offset}
	}
	line, err := json.Marshal(map[string]any{"timestamp": "2026-11-20T08:41:45.000Z", "ordinal": 0, "type": "session_meta", "payload": m})
	if err != nil {
		panic(err)
	}
	return string(line) + "\n"
}

// pushWith pushes with other settings.
func (h *home) pushWith(change func(*mirror.Pushing)) (mirror.Report, error) {
	o := mirror.Pushing{
		Home: h.files, Mirror: h.team.calls, State: h.state, Origin: h.origin,
		Idle: 10 * time.Minute, Now: func() time.Time { return h.now },
	}
	change(&o)
	return mirror.Push(ctx, o)
}

// facts returns what origin has told of the rollouts of November 2026, by path.
func (tm *team) facts(t *testing.T, origin string) map[string]mirror.Fact {
	t.Helper()
	content, err := readAll(tm.mirror, "origins/"+origin+"/2026-11.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	facts := map[string]mirror.Fact{}
	for line := range strings.Lines(content) {
		var f mirror.Fact
		if err := json.Unmarshal([]byte(line), &f); err != nil {
			t.Fatal(err)
		}
		facts[f.Path] = f
	}
	return facts
}

// versions returns the hash of every object.
func (tm *team) versions(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for it := tm.bucket.List(nil); ; {
		o, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all[o.Key] = fmt.Sprintf("%x", o.MD5)
	}
}

// order records the order in which objects are put.
type order struct {
	mirror.Store
	mu   sync.Mutex
	puts []string
}

func (o *order) Put(ctx context.Context, name string, b store.Body, c store.Cond) (string, error) {
	v, err := o.Store.Put(ctx, name, b, c)
	o.mu.Lock()
	defer o.mu.Unlock()
	if err == nil && strings.HasPrefix(name, "sessions/") {
		o.puts = append(o.puts, name)
	}
	return v, err
}

// What others begin with goes first, whatever is older and whether or not it is
// idle, and the child says which bytes it means.
func TestPushLineage(t *testing.T) {
	t.Parallel()
	parent := meta(rolloutID(1), "", 0) + `{"a":1}` + "\n"
	child := meta(rolloutID(2), rolloutID(1), len(parent))
	grandchild := meta(rolloutID(3), rolloutID(2), len(child))
	for _, jobs := range []int{1, 4} {
		t.Run(fmt.Sprint("jobs=", jobs), func(t *testing.T) {
			t.Parallel()
			tm := newTeam(t)
			h := tm.newHome(t, "a")
			h.writeAt(rolloutFile(3, 18), grandchild, h.now.Add(-3*time.Hour))
			h.writeAt(rolloutFile(2, 19), child, h.now.Add(-2*time.Hour))
			// It is being written to, and has a torn tail.
			h.writeAt(rolloutFile(1, 20), parent+`{"b":2}`+"\n"+`{"c"`, h.now.Add(-time.Second))
			o := &order{Store: tm.mirror}
			r, err := h.pushWith(func(p *mirror.Pushing) { p.Mirror, p.Jobs = o, jobs })
			if err != nil || r.Actions[mirror.Uploaded] != 3 {
				t.Fatalf("%+v, %v", r, err)
			}
			want := []string{rolloutFile(1, 20), rolloutFile(2, 19), rolloutFile(3, 18)}
			if !slices.Equal(o.puts, want) {
				t.Errorf("put in the order %q", o.puts)
			}
			if got := tm.objects(t)[rolloutFile(1, 20)+".zst"]; got != parent+`{"b":2}`+"\n" {
				t.Errorf("of the parent there is %q", got)
			}
			facts := tm.facts(t, "a")
			wantPin := &mirror.Pin{Rollout: rolloutID(1), Offset: int64(len(parent)), SHA256: sha(parent)}
			if diff := cmp.Diff(wantPin, facts[rolloutFile(2, 19)].Base); diff != "" {
				t.Errorf("the child's pin (-want +got):\n%s", diff)
			}
			wantPin = &mirror.Pin{Rollout: rolloutID(2), Offset: int64(len(child)), SHA256: sha(child)}
			if diff := cmp.Diff(wantPin, facts[rolloutFile(3, 18)].Base); diff != "" {
				t.Errorf("the grandchild's pin (-want +got):\n%s", diff)
			}
			if base := facts[rolloutFile(1, 20)].Base; base != nil {
				t.Errorf("the parent begins with %+v", base)
			}
		})
	}
}

// A lineage that cannot be has to be kept like any other.
func TestPushOddLineage(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]map[int]string{
		"a circle":          {1: meta(rolloutID(1), rolloutID(2), 10), 2: meta(rolloutID(2), rolloutID(1), 10)},
		"itself":            {1: meta(rolloutID(1), rolloutID(1), 10)},
		"a parent too few":  {1: meta(rolloutID(1), rolloutID(9), 10)},
		"a parent too soon": {1: "", 2: meta(rolloutID(2), rolloutID(1), 10)},
		"no id":             {1: meta(rolloutID(1), "x", 10)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tm := newTeam(t)
			h := tm.newHome(t, "a")
			for n, c := range content {
				h.write(rolloutFile(n, 20), c)
			}
			if r := h.push(); r.Actions[mirror.Uploaded] != len(content) {
				t.Fatalf("%+v", r)
			}
			if got := len(tm.objects(t)); got != len(content) {
				t.Errorf("%d objects", got)
			}
			if r := h.push(); r.Actions[mirror.Unchanged] != len(content) {
				t.Errorf("again: %+v", r)
			}
		})
	}
}

// What is asked of a mirror of 30 rollouts of three days.
func TestPushRequests(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	h := tm.newHome(t, "a")
	for i := range 30 {
		h.write(rolloutFile(i, 1+i%3), meta(rolloutID(i), "", 0))
	}
	grow := func(n int) {
		f := rolloutFile(n, 1+n%3)
		h.write(f, h.read(f)+"{}\n")
	}
	for _, c := range []struct {
		name string
		does func()
		want string
	}{
		// The marker, the facts of the month and the catalog of three days are looked for
		// and written; the marker five times, to find out whether the store minds
		// conditions. The listings are of three days and of what was forgotten.
		{"first push", func() {}, "6 opens, 39 puts, 4 lists"},
		{"nothing to do", func() {}, "0 opens, 0 puts, 0 lists"},
		{"one has grown", func() { grow(7) }, "3 opens, 3 puts, 0 lists"},
		// No object is looked at: the listing and the facts tell all of them. The catalog
		// is, whether it says the same as the facts.
		{"state lost", h.loseState, "5 opens, 0 puts, 3 lists"},
		{"state lost, and one has grown", func() { h.loseState(); grow(8) }, "5 opens, 3 puts, 3 lists"},
		{"a week later", func() { h.now = h.now.Add(8 * 24 * time.Hour) }, "0 opens, 0 puts, 3 lists"},
		{"the next hour", func() { h.now = h.now.Add(time.Hour) }, "0 opens, 0 puts, 0 lists"},
		{"one is new", func() { h.write(rolloutFile(100, 4), "{}\n") }, "4 opens, 3 puts, 1 lists"},
	} {
		c.does()
		tm.calls.reset()
		h.push()
		got := tm.calls.reset()
		t.Logf("%-30s %s", c.name, got)
		if got != c.want {
			t.Errorf("%s: want %s", c.name, c.want)
		}
	}
}

// A day of which a team has more than it is worth to list is not listed to its end
// for a few sessions: they are looked at.
func TestPushIntoCrowd(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ others, looks int }{{900, 0}, {1100, 8}} {
		tm := newTeam(t)
		h := tm.newHome(t, "a")
		h.write(rolloutFile(100, 1), "{}\n")
		h.push() // the marker and the facts are there
		for i := range c.others {
			key := path.Join(path.Dir(rolloutFile(0, 20)), fmt.Sprintf("other-%04d.jsonl.zst", i))
			if err := tm.bucket.WriteAll(ctx, key, nil, nil); err != nil {
				t.Fatal(err)
			}
		}
		for i := range 8 {
			h.write(rolloutFile(i, 20), fmt.Sprintf("{\"n\":%d}\n", i))
		}
		tm.calls.reset()
		if r := h.push(); r.Actions[mirror.Uploaded] != 8 {
			t.Errorf("%+v", r)
		}
		// The marker, the facts and the catalog are read besides, what was forgotten and the
		// day listed.
		if got, want := tm.calls.reset(), fmt.Sprintf("%d opens, 10 puts, 2 lists", 3+c.looks); got != want {
			t.Errorf("%d others: %s, want %s", c.others, got, want)
		}
		reconcile := func() (changed int) {
			t.Helper()
			r, err := h.pushWith(func(p *mirror.Pushing) { p.Reconcile = true })
			if err != nil {
				t.Fatal(err)
			}
			return r.Rollouts - r.Actions[mirror.Unchanged]
		}
		if n := reconcile(); n != 0 {
			t.Errorf("%d others: %d were not as they had been", c.others, n)
		}
		if got, want := tm.calls.reset(), fmt.Sprintf("%d opens, 0 puts, 2 lists", c.looks); got != want {
			t.Errorf("reconcile, %d others: %s, want %s", c.others, got, want)
		}
		if err := tm.bucket.Delete(ctx, rolloutFile(0, 20)+".zst"); err != nil {
			t.Fatal(err)
		}
		if err := tm.bucket.WriteAll(ctx, rolloutFile(1, 20)+".zst", []byte("foreign"), nil); err != nil {
			t.Fatal(err)
		}
		other, err := tm.bucket.ReadAll(ctx, rolloutFile(3, 20)+".zst")
		if err != nil {
			t.Fatal(err)
		}
		if err := tm.bucket.WriteAll(ctx, rolloutFile(2, 20)+".zst", other, nil); err != nil {
			t.Fatal(err)
		}
		if n := reconcile(); n != 3 {
			t.Errorf("%d others: %d were not as they had been, want 3", c.others, n)
		}
	}
}

// What somebody removed from the mirror, or put there, is found out by a listing.
func TestPushReconcile(t *testing.T) {
	t.Parallel()
	for kind, newTeam := range kinds {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			tm := newTeam(t)
			h := tm.newHome(t, "a")
			for i := range 3 {
				h.write(rolloutFile(i, 20), "one\n")
			}
			h.push()
			if err := tm.bucket.Delete(ctx, rolloutFile(0, 20)+".zst"); err != nil {
				t.Fatal(err)
			}
			if err := tm.bucket.WriteAll(ctx, rolloutFile(1, 20)+".zst", []byte("foreign"), nil); err != nil {
				t.Fatal(err)
			}
			if r := h.push(); r.Actions[mirror.Unchanged] != 3 {
				t.Fatalf("before: %+v", r)
			}
			failing := func(p *mirror.Pushing) { p.Reconcile, p.Mirror = true, refusing{tm.mirror} }
			if r, err := h.pushWith(failing); err != nil || len(r.Failures) != 2 {
				t.Fatalf("to a mirror that refuses: %+v, %v", r, err)
			}
			// What that one did not get done is not forgotten.
			r, err := h.pushWith(func(p *mirror.Pushing) { p.Reconcile = true })
			if err != nil || r.Actions[mirror.Uploaded] != 2 || r.Actions[mirror.Unchanged] != 1 || len(r.Foreign) != 1 {
				t.Errorf("%+v, %v", r, err)
			}
			for i := range 3 {
				if got := tm.objects(t)[rolloutFile(i, 20)+".zst"]; got != "one\n" {
					t.Errorf("object %d: %q", i, got)
				}
			}
		})
	}
}

// ignoring is a mirror that does not mind conditions.
type ignoring struct {
	mirror.Store
	ifAbsent, ifVersion bool // which of them it minds
}

func (m ignoring) Put(ctx context.Context, name string, b store.Body, c store.Cond) (string, error) {
	f, err := m.Open(ctx, name)
	there := err == nil
	if there {
		defer f.Close()
	}
	switch {
	case c.IfAbsent && !m.ifAbsent && there, c.IfVersion != "" && !m.ifVersion && there:
		c = store.Cond{IfVersion: f.Info().Version}
	case c.IfVersion != "" && !m.ifVersion:
		c = store.Cond{IfAbsent: true}
	}
	return m.Store.Put(ctx, name, b, c)
}

// A store that ignores conditions is found out before anything is written to it.
func TestPushProbesConditions(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]ignoring{
		"none":          {},
		"only absence":  {ifAbsent: true},
		"only versions": {ifVersion: true},
		"both":          {ifAbsent: true, ifVersion: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tm := newTeam(t)
			m.Store = tm.mirror
			h := tm.newHome(t, "a")
			h.write(file, "one\n")
			good := m.ifAbsent && m.ifVersion
			for range 2 { // the second time the marker says so
				r, err := h.pushWith(func(p *mirror.Pushing) { p.Mirror = m })
				if good != (err == nil) || !good && !errors.Is(err, mirror.ErrConditions) {
					t.Fatalf("%+v, %v", r, err)
				}
			}
			if err := mirror.Check(ctx, m); err != nil {
				t.Errorf("the marker: %v", err)
			}
			if got := len(tm.objects(t)); (got == 1) != good {
				t.Errorf("the mirror has %d objects", got)
			}
			if !good {
				r, err := h.pushWith(func(p *mirror.Pushing) { p.Mirror, p.SingleWriter = m, true })
				if err != nil || r.Actions[mirror.Uploaded] != 1 {
					t.Errorf("as the single writer: %+v, %v", r, err)
				}
			}
		})
	}
}

// Many that begin a mirror at once make one.
func TestPushBeginsOnce(t *testing.T) {
	t.Parallel()
	for range 20 {
		tm := newTeam(t)
		var all sync.WaitGroup
		for i := range 4 {
			h := tm.newHome(t, fmt.Sprint("home", i))
			h.write(rolloutFile(i, 20), "one\n")
			all.Go(func() {
				if _, err := h.tryPush(); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if got := len(tm.objects(t)); got != 4 {
			t.Errorf("%d objects", got)
		}
		if err := mirror.Check(ctx, tm.mirror); err != nil {
			t.Error(err)
		}
	}
}

// A live push takes what is complete and comes back for the rest.
func TestPushLive(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	h := tm.newHome(t, "a")
	live := func(p *mirror.Pushing) { p.Live = true }
	for i, c := range []struct {
		content string
		age     time.Duration
		want    mirror.Action
		object  string
	}{
		{`{"a":1`, 0, mirror.Waiting, ""},
		{"one\ntw", 0, mirror.Uploaded, "one\n"},
		{"one\ntwo", 0, mirror.Equal, "one\n"},
		{"one\ntwo\n" + strings.Repeat("x", 200<<10), 0, mirror.Extended, "one\ntwo\n"},
		{"one\ntwo\nthr", time.Hour, mirror.Extended, "one\ntwo\nthr"},
	} {
		h.writeAt(file, c.content, h.now.Add(-c.age))
		r, err := h.pushWith(live)
		if err != nil || r.Actions[c.want] != 1 {
			t.Fatalf("push %d: %+v, %v", i+1, r, err)
		}
		if got := tm.objects(t)[key]; got != c.object {
			t.Errorf("push %d: the object has %q", i+1, got)
		}
	}
}

// A big session that keeps growing is not sent again for each turn.
func TestPushBigSessions(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	h := tm.newHome(t, "a")
	const size = 64 << 20
	f := &hollow{}
	for i, c := range []struct {
		grow  int64
		later time.Duration
		want  mirror.Action
	}{
		{size, 0, mirror.Uploaded},
		{size / 19, time.Hour, mirror.Waiting},
		{size / 19, time.Hour, mirror.Extended},
		{1 << 10, time.Hour, mirror.Waiting},
		{0, 6 * time.Hour, mirror.Extended},
		{1 << 10, -8 * time.Hour, mirror.Extended}, // a clock that was set back keeps nothing away
	} {
		h.now = h.now.Add(c.later)
		f.size += c.grow
		r, err := h.pushWith(func(p *mirror.Pushing) { p.Home, p.Mirror = hollowHome{h.files, f}, hollowMirror{tm.mirror} })
		if err != nil || r.Actions[c.want] != 1 {
			t.Fatalf("push %d: %+v, %v, want %s", i+1, r, err, c.want)
		}
	}
}

// hollow is a session of so many bytes.
type hollow struct{ size int64 }

func (f hollow) Info() store.Info {
	return store.Info{Size: f.size, Stored: f.size, Version: fmt.Sprint(f.size), ModTime: time.Unix(1e9, 0)}
}

func (f hollow) Range(_ context.Context, off, n int64) (io.ReadCloser, error) {
	if n < 0 || off+n > f.size {
		n = f.size - off
	}
	return io.NopCloser(io.LimitReader(manyX{}, n)), nil
}

func (f hollow) Close() error { return nil }

var xs = bytes.Repeat([]byte("x"), 64<<10)

type manyX struct{}

func (manyX) Read(p []byte) (int, error) { return copy(p, xs), nil }

// hollowHome is a home that has one besides.
type hollowHome struct {
	store.Source
	file *hollow
}

func (h hollowHome) Open(ctx context.Context, name string) (store.File, error) {
	if name == file {
		return *h.file, nil
	}
	return h.Source.Open(ctx, name)
}

func (h hollowHome) List(ctx context.Context, dir string, o store.ListOptions) iter.Seq2[store.Entry, error] {
	if dir == "sessions" {
		return func(yield func(store.Entry, error) bool) { yield(store.Entry{Name: file, Info: h.file.Info()}, nil) }
	}
	return h.Source.List(ctx, dir, o)
}

// hollowMirror is a mirror that keeps no session.
type hollowMirror struct{ mirror.Store }

func (m hollowMirror) Put(ctx context.Context, name string, b store.Body, c store.Cond) (string, error) {
	if name != file {
		return m.Store.Put(ctx, name, b, c)
	}
	return fmt.Sprintf("%x", b.SHA256), nil
}

func TestPushUntil(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	h := tm.newHome(t, "a")
	for i := range 5 {
		h.write(rolloutFile(i, 20), "one\n")
	}
	calls := 0
	r, err := h.pushWith(func(p *mirror.Pushing) {
		start := h.now
		p.Until = start.Add(time.Hour)
		p.Now = func() time.Time { return start.Add(time.Duration(calls) * 25 * time.Minute) }
		p.Each = func(mirror.Outcome) { calls++ }
	})
	if err != nil || r.Actions[mirror.Uploaded] != 3 || r.Left != 2 {
		t.Errorf("%+v, %v", r, err)
	}
	if r := h.push(); r.Actions[mirror.Uploaded] != 2 || r.Left != 0 {
		t.Errorf("the next push: %+v", r)
	}
}

// Jobs are done at the same time.
func TestPushJobs(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	h := tm.newHome(t, "a")
	const jobs = 3
	for i := range jobs {
		h.write(rolloutFile(i, 20), "one\n")
	}
	m := &meeting{Store: tm.mirror}
	m.all.Add(jobs)
	r, err := h.pushWith(func(p *mirror.Pushing) { p.Mirror, p.Jobs = m, jobs })
	if err != nil || r.Actions[mirror.Uploaded] != jobs {
		t.Errorf("%+v, %v", r, err)
	}
}

// meeting is a mirror in which no session is put before all are being put.
type meeting struct {
	mirror.Store
	all sync.WaitGroup
}

func (m *meeting) Put(ctx context.Context, name string, b store.Body, c store.Cond) (string, error) {
	if strings.HasPrefix(name, "sessions/") {
		m.all.Done()
		m.all.Wait()
	}
	return m.Store.Put(ctx, name, b, c)
}

// A dry run says what a push then does, and does nothing.
func TestPushDryRun(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	a, b := tm.newHome(t, "a"), tm.newHome(t, "b")
	plan := func(h *home) (r mirror.Report, outcomes []mirror.Outcome) {
		t.Helper()
		before := tm.versions(t)
		r, err := h.pushWith(func(p *mirror.Pushing) {
			p.DryRun = true
			p.Mirror = refusing{tm.mirror}
			p.Each = func(o mirror.Outcome) { outcomes = append(outcomes, o) }
		})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(before, tm.versions(t)); diff != "" {
			t.Errorf("it wrote to the mirror: %s", diff)
		}
		return r, outcomes
	}
	check := func(h *home) {
		t.Helper()
		planned, outcomes := plan(h)
		var done []mirror.Outcome
		r, err := h.pushWith(func(p *mirror.Pushing) { p.Each = func(o mirror.Outcome) { done = append(done, o) } })
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(r, planned); diff != "" {
			t.Errorf("(-done +planned):\n%s", diff)
		}
		if diff := cmp.Diff(done, outcomes); diff != "" {
			t.Errorf("(-done +planned):\n%s", diff)
		}
	}
	a.write(rolloutFile(1, 20), "one\n")
	a.write(rolloutFile(2, 20), "one\n")
	a.write("archived_sessions/"+base+".jsonl", "uno\n") // another file of the name of 1
	check(a)
	if err := tm.bucket.WriteAll(ctx, rolloutFile(2, 20)+".zst", []byte("foreign"), nil); err != nil {
		t.Fatal(err)
	}
	a.write(rolloutFile(1, 20), "ONE\n")
	a.write(rolloutFile(2, 20), "one\ntwo\n")
	a.write(rolloutFile(3, 20), "one\n")
	a.writeAt(rolloutFile(4, 20), "one\n", a.now)
	check(a)
	b.write(rolloutFile(1, 20), "one\n")
	b.write(rolloutFile(2, 20), "one\n")
	b.write(rolloutFile(3, 20), "eins\n")
	check(b)
	a.remove(rolloutFile(3, 20))
	check(a)
}

// mirrorless pushes plan, too.
func TestPushDryRunOfNothing(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	h := tm.newHome(t, "a")
	h.write(file, "one\n")
	r, err := h.pushWith(func(p *mirror.Pushing) { p.DryRun = true })
	if err != nil || r.Actions[mirror.Uploaded] != 1 {
		t.Errorf("%+v, %v", r, err)
	}
	if err := mirror.Check(ctx, tm.mirror); !errors.Is(err, mirror.ErrNoMirror) {
		t.Errorf("afterwards: %v", err)
	}
}

// A push takes no lock: a terminal may hold a session's for weeks.
func TestPushOfLockedSessions(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	h := tm.newHome(t, "a")
	h.write(file, "one\n")
	l, err := h.files.Append(ctx, file)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if r := h.push(); r.Actions[mirror.Uploaded] != 1 {
		t.Errorf("%+v", r)
	}
}

// meddling is a home in which something happens when a session is opened or read.
type meddling struct {
	store.Source
	opened, read func()
}

func (m *meddling) Open(ctx context.Context, name string) (store.File, error) {
	if m.opened != nil && strings.HasPrefix(name, "sessions/") {
		m.opened()
	}
	f, err := m.Source.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	return meddlingFile{f, m}, nil
}

type meddlingFile struct {
	store.File
	m *meddling
}

func (f meddlingFile) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	large := f.Info().Size > 8<<20
	if f.m.read != nil && off == 0 && n == f.Info().Size && large {
		f.m.read() // it was hashed, and is about to be sent
	}
	r, err := f.File.Range(ctx, off, n)
	if err != nil || f.m.read == nil || off != 0 || n >= 0 || large {
		return r, err
	}
	return &meddlingReader{ReadCloser: r, read: f.m.read}, nil // half of it was read
}

type meddlingReader struct {
	io.ReadCloser
	read func()
	n    int
}

func (r *meddlingReader) Read(p []byte) (int, error) {
	if r.n > 0 {
		r.read()
	}
	n, err := r.ReadCloser.Read(p[:min(len(p), 4)])
	r.n += n
	return n, err
}

// What changes in a home while it is pushed is pushed as it was or the next time,
// and never half.
func TestPushOfWhatChanges(t *testing.T) {
	t.Parallel()
	write := func(t *testing.T, file, content string, flag int) {
		f, err := os.OpenFile(file, os.O_WRONLY|flag, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := f.WriteString(content); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(); err != nil {
			t.Fatal(err)
		}
	}
	const small = "one\ntwo\n"
	large := strings.Repeat(strings.Repeat("x", 1023)+"\n", 8<<10) + small // too large to be held in memory
	type change func(t *testing.T, file string)
	var (
		grows change = func(t *testing.T, file string) { write(t, file, "three\n", os.O_APPEND) }
		cut   change = func(t *testing.T, file string) { write(t, file, "one\n", os.O_TRUNC) }
		over  change = func(t *testing.T, file string) { write(t, file, "ONE\nTWO\n", 0) }
		other change = func(t *testing.T, file string) {
			write(t, file+".new", "ONE\nTWO\n", os.O_CREATE)
			rename(t, file+".new", file)
		}
	)
	for name, c := range map[string]struct {
		before string
		opened bool // it happens when the file is opened, else while it is read or before it is sent
		does   change
		want   mirror.Action
		object string // then
		next   string // after the next push
	}{
		"a small one grows":           {small, false, grows, mirror.Waiting, "", small + "three\n"},
		"a small one is cut":          {small, false, cut, mirror.Waiting, "", "one\n"},
		"a small one is written over": {small, false, over, mirror.Waiting, "", "ONE\nTWO\n"},
		"a small one is replaced":     {small, false, other, mirror.Waiting, "", "ONE\nTWO\n"},
		"a large one grows":           {large, false, grows, mirror.Uploaded, large, large + "three\n"},
		"a large one is cut":          {large, false, cut, mirror.Waiting, "", "one\n"},
		"a large one is written over": {large, false, over, mirror.Waiting, "", "ONE\nTWO\n" + large[8:]},
		"a large one is replaced":     {large, false, other, mirror.Uploaded, large, "ONE\nTWO\n"},
		"it goes away": {
			small, true, func(t *testing.T, file string) { remove(t, file) },
			mirror.Waiting, "", "",
		},
		"it is archived": {
			small, true, func(t *testing.T, file string) {
				rename(t, file, filepath.Join(filepath.Dir(file), "../../../../archived_sessions", filepath.Base(file)))
			},
			mirror.Waiting, "", small,
		},
		"it is compressed": {
			small, true, func(t *testing.T, file string) {
				write(t, file+".zst", string(zst(small)), os.O_CREATE)
				remove(t, file)
			},
			mirror.Uploaded, small, small,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tm := newTeam(t)
			dir := t.TempDir()
			for _, d := range []string{"archived_sessions", path.Dir(file)} {
				if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			write(t, filepath.Join(dir, file), c.before, os.O_CREATE)
			write(t, filepath.Join(dir, rolloutFile(2, 20)), "another\n", os.O_CREATE)
			files, err := local.Open(dir, nil)
			if err != nil {
				t.Fatal(err)
			}
			defer files.Close()
			m := &meddling{Source: files}
			var happens sync.Once
			does := func() { happens.Do(func() { c.does(t, filepath.Join(dir, file)) }) }
			if m.read = does; c.opened {
				m.opened, m.read = does, nil
			}
			h := tm.newHome(t, "a")
			home := func(p *mirror.Pushing) { p.Home, p.Jobs = m, 1 }
			r, err := h.pushWith(home)
			if err != nil || r.Actions[c.want] == 0 || len(r.Failures) > 0 {
				t.Fatalf("%+v, %v", r, err)
			}
			if got := tm.objects(t)[key]; got != c.object {
				t.Errorf("the object has %d bytes, or others: %.100q", len(got), got)
			}
			if _, err := h.pushWith(home); err != nil {
				t.Fatal(err)
			}
			if got := tm.objects(t)[key]; got != c.next {
				t.Errorf("after the next push it has %d bytes, or others: %.100q", len(got), got)
			}
		})
	}
}

func rename(t *testing.T, from, to string) {
	t.Helper()
	if err := os.Rename(from, to); err != nil {
		t.Fatal(err)
	}
}

func remove(t *testing.T, file string) {
	t.Helper()
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
}

// Facts that could not be told are told by the next push, which sends no session
// again.
func TestPushTellsLater(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	h := tm.newHome(t, "a")
	h.write(file, "one\n")
	_, err := h.pushWith(func(p *mirror.Pushing) { p.Mirror = factless{tm.mirror} })
	if !errors.Is(err, errRefused) || !strings.Contains(err.Error(), "2026-11") {
		t.Fatalf("%v", err)
	}
	tm.calls.reset()
	if r := h.push(); r.Actions[mirror.Unchanged] != 1 {
		t.Errorf("%+v", r)
	}
	if got := tm.calls.reset(); got != "4 opens, 2 puts, 2 lists" {
		t.Errorf("it took %s", got)
	}
	if f := tm.facts(t, "a")[file]; f.SHA256 != hashOne {
		t.Errorf("%+v", f)
	}
}

// factless is a mirror that takes no facts.
type factless struct{ mirror.Store }

func (m factless) Put(ctx context.Context, name string, b store.Body, c store.Cond) (string, error) {
	if strings.HasPrefix(name, "origins/") {
		return "", errRefused
	}
	return m.Store.Put(ctx, name, b, c)
}

func sha(content string) string { return fmt.Sprintf("%x", sha256.Sum256([]byte(content))) }

// What was forgotten does not come back from a home that still has it.
func TestPushOfForgotten(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	a, b := tm.newHome(t, "a"), tm.newHome(t, "b")
	a.write(rolloutFile(1, 20), "one\n")
	a.write(rolloutFile(2, 20), "two\n")
	a.push()
	r, err := mirror.Forget(ctx, mirror.Forgetting{Mirror: tm.mirror, IDs: []string{rolloutID(1)}})
	if err != nil || r.Objects == 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	want := map[string]string{rolloutFile(2, 20) + ".zst": "two\n"}
	for i, c := range []struct {
		h    *home
		does func()
		want mirror.Action
	}{
		{a, func() {}, mirror.Unchanged},
		{a, func() { a.write(rolloutFile(1, 20), "one\nmore\n") }, mirror.Tombstone},
		{a, func() {}, mirror.Unchanged},
		{a, a.loseState, mirror.Tombstone},
		{b, func() { b.write(rolloutFile(1, 20), "uno\n") }, mirror.Tombstone},
	} {
		c.does()
		if r := c.h.push(); r.Actions[c.want] == 0 || r.Actions[mirror.Uploaded] > 0 {
			t.Errorf("push %d: %+v", i+1, r)
		}
		got := tm.objects(t)
		delete(got, "forgotten/"+rolloutID(1)+".json")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("push %d (-want +got):\n%s", i+1, diff)
		}
	}
	v, err := mirror.Verify(ctx, mirror.Verifying{Mirror: tm.mirror, Home: a.files})
	if err != nil || v.Pending > 0 || v.Compared != 2 {
		t.Errorf("Verify: %+v, %v", v, err)
	}
}
