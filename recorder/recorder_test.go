package recorder_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"gocloud.dev/blob/memblob"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/recorder"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/blob"
	"github.com/rollout-sync/rollout/store/blob/mem"
	"github.com/rollout-sync/rollout/store/local"
	"github.com/rollout-sync/rollout/store/memfs"
)

var (
	id = uuid.MustParse("01a1f81e-b96c-7071-a214-a4467b4a9b32")

	// meta is the least that makes a session.
	meta = recorder.Meta{ID: id, Cwd: "/w", Originator: "test", CLIVersion: "1.2.3"}

	// at is a clock that stands still, two hours east: 23:41:45 is 21:41:45 UTC.
	at = &recorder.Options{Now: func() time.Time {
		return time.Date(2026, 11, 20, 23, 41, 45, 678e6, time.FixedZone("", 2*60*60))
	}}
)

const (
	name = "sessions/2026/11/20/rollout-2026-11-20T23-41-45-01a1f81e-b96c-7071-a214-a4467b4a9b32.jsonl"

	metaLine = `{"timestamp":"2026-11-20T21:41:45.678Z","type":"session_meta","payload":{` +
		`"id":"01a1f81e-b96c-7071-a214-a4467b4a9b32","timestamp":"2026-11-20T21:41:45.678Z","cwd":"/w",` +
		`"originator":"test","cli_version":"1.2.3","model_provider":null,"base_instructions":null,"history_mode":"legacy"}}` + "\n"
)

// note is an item that says text, and noteLine its line at the time of at.
func note(text string) codec.Item {
	return codec.Item{Type: "event_msg", Payload: fmt.Appendf(nil, `{"n":%q}`, text)}
}

func noteLine(text string) string {
	return fmt.Sprintf(`{"timestamp":"2026-11-20T21:41:45.678Z","type":"event_msg","payload":{"n":%q}}`, text) + "\n"
}

// stores runs a test over every store that a session can be resumed in.
func stores(t *testing.T, test func(t *testing.T, st recorder.Store)) {
	t.Parallel()
	t.Run("memfs", func(t *testing.T) {
		t.Parallel()
		test(t, memfs.New(nil))
	})
	t.Run("local", func(t *testing.T) {
		t.Parallel()
		st, err := local.Open(t.TempDir(), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = st.Close() })
		test(t, st)
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func newRecorder(t *testing.T, sink store.Sink) *recorder.Recorder {
	t.Helper()
	r, err := recorder.New(sink, meta, at)
	must(t, err)
	return r
}

// read returns the bytes of a log, "" if there is none.
func read(t *testing.T, st store.Source, name string) string {
	t.Helper()
	f, err := st.Open(t.Context(), name)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	must(t, err)
	defer f.Close()
	rc, err := f.Range(t.Context(), 0, -1)
	must(t, err)
	defer rc.Close()
	b, err := io.ReadAll(rc)
	must(t, err)
	return string(b)
}

func write(t *testing.T, st store.Sink, name, content string) {
	t.Helper()
	log, err := st.Create(t.Context(), name)
	must(t, err)
	must(t, log.Append([]byte(content)))
	must(t, log.Close())
}

func TestGolden(t *testing.T) {
	t.Parallel()
	st := memfs.New(nil)
	r, err := recorder.New(st, recorder.Meta{
		ID: id, ForkedFrom: uuid.MustParse("01a1f827-8998-7800-9c95-d138cdfeb06a"),
		Cwd: "/w/<é>", Originator: "my_agent", CLIVersion: "1.2.3", Source: "exec", Provider: "openai",
		BaseInstructions: "You are \"an agent\".\n",
		DynamicTools:     json.RawMessage(`[{"name":"look_up"}]`),
		Git:              codec.Git{Commit: "5e36f2", Branch: "main", Origin: "git@host:a/b.git"},
	}, at)
	must(t, err)
	must(t, r.Record(t.Context(), codec.Item{
		Timestamp: "2026-11-20T21:00:00.000Z", // of the caller: kept
		Ordinal:   7, HasOrdinal: true,        // not of this mode: dropped
		Type: codec.TypeEventMsg, Payload: []byte(`{"type": "user_message", "message": "a < b"}`),
	}, codec.Item{
		Type:     codec.TypeResponseItem,
		Payload:  []byte(`{"type":"message","role":"user","content":[{"type":"input_text","text":"é\n中 \u0000"}]}`),
		Metadata: []byte(`{"client_authored":true}`),
	}))
	must(t, r.Close(t.Context()))
	const want = `{"timestamp":"2026-11-20T21:41:45.678Z","type":"session_meta","payload":{"id":"01a1f81e-b96c-7071-a214-a4467b4a9b32","forked_from_id":"01a1f827-8998-7800-9c95-d138cdfeb06a","timestamp":"2026-11-20T21:41:45.678Z","cwd":"/w/<é>","originator":"my_agent","cli_version":"1.2.3","source":"exec","model_provider":"openai","base_instructions":{"text":"You are \"an agent\".\n"},"dynamic_tools":[{"name":"look_up"}],"history_mode":"legacy","git":{"commit_hash":"5e36f2","branch":"main","repository_url":"git@host:a/b.git"}}}
{"timestamp":"2026-11-20T21:00:00.000Z","type":"event_msg","payload":{"type":"user_message","message":"a < b"}}
{"timestamp":"2026-11-20T21:41:45.678Z","type":"response_item","payload":{"type":"message","role":"user","content":[{"type":"input_text","text":"é\n中 \u0000"}]},"metadata":{"client_authored":true}}
`
	if got := read(t, st, name); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	h, err := codec.ReadHead(strings.NewReader(want))
	if err != nil || h.ID != id.String() || h.FirstUserMessage != "a < b" || h.Git.Branch != "main" || len(h.Problems) != 0 {
		t.Errorf("read back as %+v, %v", h, err)
	}
}

func TestNew(t *testing.T) {
	t.Parallel()
	for _, missing := range []func(*recorder.Meta){
		func(m *recorder.Meta) { m.Cwd = "" },
		func(m *recorder.Meta) { m.Originator = "" },
		func(m *recorder.Meta) { m.CLIVersion = "" },
	} {
		m := meta
		missing(&m)
		if _, err := recorder.New(nil, m, nil); err == nil {
			t.Errorf("%+v is taken", m)
		}
	}
	m := meta
	m.ID = uuid.Nil
	r, err := recorder.New(nil, m, nil)
	must(t, err)
	if r.ID().Version() != 7 || !strings.Contains(r.Name(), r.ID().String()) {
		t.Errorf("id %v, name %s", r.ID(), r.Name())
	}
}

func TestFileComesWithTheFirstLine(t *testing.T) {
	stores(t, func(t *testing.T, st recorder.Store) {
		idle := newRecorder(t, st)
		must(t, idle.Flush(t.Context()))
		must(t, idle.Close(t.Context()))

		r := newRecorder(t, st)
		if r.Name() != name || r.ID() != id {
			t.Fatalf("name %s, id %v", r.Name(), r.ID())
		}
		must(t, r.Flush(t.Context()))
		must(t, r.Record(t.Context(), note("1"), note("2")))
		must(t, r.Record(t.Context(), note("3")))
		if got := read(t, st, name); got != "" {
			t.Fatalf("before Flush there is %q", got)
		}
		for range 2 {
			must(t, r.Flush(t.Context()))
			if got, want := read(t, st, name), metaLine+noteLine("1")+noteLine("2")+noteLine("3"); got != want {
				t.Fatalf("got\n%s\nwant\n%s", got, want)
			}
		}
		must(t, r.Record(t.Context(), note("4")))
		must(t, r.Close(t.Context()))
		if got := read(t, st, name); !strings.HasSuffix(got, noteLine("3")+noteLine("4")) {
			t.Errorf("after Close there is\n%s", got)
		}
	})
}

func TestLongMetadataMakesNoFile(t *testing.T) {
	t.Parallel()
	st := memfs.New(nil)
	m := meta
	m.BaseInstructions = strings.Repeat("x", 2<<20)
	r, err := recorder.New(st, m, at)
	must(t, err)
	must(t, r.Record(t.Context(), note("1")))
	if got := read(t, st, name); got != "" {
		t.Errorf("before Flush there are %d bytes", len(got))
	}
	must(t, r.Close(t.Context()))
}

func TestUseAfterClose(t *testing.T) {
	t.Parallel()
	r := newRecorder(t, memfs.New(nil))
	must(t, r.Record(t.Context(), note("1")))
	must(t, r.Close(t.Context()))
	for op, err := range map[string]error{
		"Record": r.Record(t.Context(), note("2")),
		"Flush":  r.Flush(t.Context()),
		"Close":  r.Close(t.Context()),
	} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s: %v", op, err)
		}
	}
}

func TestBadItemIsRefusedWithItsBatch(t *testing.T) {
	t.Parallel()
	st := memfs.New(nil)
	r := newRecorder(t, st)
	for _, bad := range []codec.Item{
		{Payload: []byte(`{}`)},
		{Type: "event_msg"},
		{Type: "event_msg", Payload: []byte(`{"a":`)},
		{Type: "event_msg", Payload: []byte("\"\xff\"")},
	} {
		if err := r.Record(t.Context(), note("lost"), bad); err == nil {
			t.Errorf("%+v is taken", bad)
		}
	}
	must(t, r.Record(t.Context(), note("1")))
	must(t, r.Close(t.Context()))
	if got := read(t, st, name); got != metaLine+noteLine("1") {
		t.Errorf("got\n%s", got)
	}
}

func TestSecondWriter(t *testing.T) {
	stores(t, func(t *testing.T, st recorder.Store) {
		first := newRecorder(t, st)
		must(t, first.Record(t.Context(), note("1")))
		must(t, first.Flush(t.Context()))

		if _, err := recorder.Resume(t.Context(), st, name, at); !errors.Is(err, store.ErrBusy) {
			t.Errorf("Resume of a session with a writer: %v", err)
		}
		second := newRecorder(t, st)
		must(t, second.Record(t.Context(), note("x")))
		if err := second.Flush(t.Context()); !errors.Is(err, store.ErrBusy) {
			t.Errorf("Flush of another with the same id: %v", err)
		}
		must(t, first.Close(t.Context()))

		third := newRecorder(t, st)
		must(t, third.Record(t.Context(), note("x")))
		if err := third.Flush(t.Context()); !errors.Is(err, fs.ErrExist) {
			t.Errorf("Flush of a new one with the same id: %v", err)
		}
		resumed, err := recorder.Resume(t.Context(), st, name, at)
		must(t, err)
		must(t, resumed.Close(t.Context()))
		if got := read(t, st, name); got != metaLine+noteLine("1") {
			t.Errorf("got\n%s", got)
		}
	})
}

func TestConcurrentUse(t *testing.T) {
	stores(t, func(t *testing.T, st recorder.Store) {
		const writers, batches = 8, 20
		r := newRecorder(t, st)
		var wg sync.WaitGroup
		for w := range writers {
			wg.Go(func() {
				for b := range batches {
					// Big enough that some of them find the buffer full.
					n := fmt.Sprintf("%d.%02d%s", w, b, strings.Repeat("-", 10<<10))
					if err := errors.Join(
						r.Record(t.Context(), note(n+"a"), note(n+"b")),
						r.Flush(t.Context()),
					); err != nil {
						t.Error(err)
					}
					if b%10 == 0 && !strings.Contains(read(t, st, name), n+"b") {
						t.Errorf("%.4s was flushed and is not there", n)
					}
				}
			})
		}
		wg.Wait()
		must(t, r.Close(t.Context()))

		lines := strings.SplitAfter(strings.TrimPrefix(read(t, st, name), metaLine), "\n")
		if len(lines) != writers*batches*2+1 {
			t.Fatalf("%d lines", len(lines)-1)
		}
		next := make([]int, writers)
		for pair := range slices.Chunk(lines[:len(lines)-1], 2) {
			var w, b int
			_, text, _ := strings.Cut(pair[0], `{"n":"`)
			_, err := fmt.Sscanf(text, "%1d.%02d", &w, &b)
			must(t, err)
			if b != next[w] || pair[1] != strings.Replace(pair[0], `-a"`, `-b"`, 1) {
				t.Fatalf("out of order at %.100s and %.100s", pair[0], pair[1])
			}
			next[w]++
		}
	})
}

// A gate is a sink whose logs wait in Append and Sync until they are let go.
type gate struct {
	store.Sink
	mu      sync.Mutex
	appends []int // bytes
	syncs   int
	hold    chan struct{}
}

type gateLog struct {
	store.Log
	*gate
}

func (g *gate) Create(ctx context.Context, name string) (store.Log, error) {
	l, err := g.Sink.Create(ctx, name)
	return &gateLog{l, g}, err
}

func (l *gateLog) Append(p []byte) error {
	<-l.hold
	l.mu.Lock()
	l.appends = append(l.appends, len(p))
	l.mu.Unlock()
	return l.Log.Append(p)
}

func (l *gateLog) Sync() error {
	<-l.hold
	l.mu.Lock()
	l.syncs++
	l.mu.Unlock()
	return l.Log.Sync()
}

func TestFlushesShareASync(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := &gate{Sink: memfs.New(nil), hold: make(chan struct{})}
		r := newRecorder(t, g)
		var wg sync.WaitGroup
		recordAndFlush := func(text string) {
			wg.Go(func() {
				if err := errors.Join(r.Record(t.Context(), note(text)), r.Flush(t.Context())); err != nil {
					t.Error(err)
				}
			})
		}
		recordAndFlush("first")
		synctest.Wait() // in Append
		for range 64 {
			recordAndFlush("next")
		}
		synctest.Wait() // all recorded, all waiting for the turn
		close(g.hold)
		wg.Wait()
		if g.syncs != 2 || len(g.appends) != 2 {
			t.Errorf("%d syncs and %d writes for 65 flushes", g.syncs, len(g.appends))
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memfs.New(nil)
		g := &gate{Sink: st, hold: make(chan struct{})}
		r := newRecorder(t, g)
		big := note(strings.Repeat("x", 300<<10))
		accepted := 0
		go func() {
			for range 20 {
				if r.Record(t.Context(), big) == nil {
					accepted++
				}
			}
		}()
		synctest.Wait() // the writer is held in Append
		if accepted != 4 {
			t.Errorf("%d items of 300 KiB taken by a store that is stuck", accepted)
		}

		// Somebody fills the other buffer while the first is written. Whoever is
		// left waiting can give up, and then nothing of it was recorded.
		for range 4 {
			must(t, r.Record(t.Context(), big))
		}
		ctx, cancel := context.WithCancel(t.Context())
		result := make(chan error)
		go func() { result <- r.Record(ctx, note("given up")) }()
		synctest.Wait()
		cancel()
		if err := <-result; !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}

		close(g.hold)
		synctest.Wait()
		must(t, r.Close(t.Context()))
		got := read(t, st, name)
		if strings.Contains(got, "given up") || strings.Count(got, "\n") != 1+20+4 {
			t.Errorf("%d lines", strings.Count(got, "\n"))
		}
		for _, n := range g.appends {
			if n == 0 || n > 1400<<10 {
				t.Errorf("%d bytes were pending", n)
			}
		}
	})
}

// A faulty sink fails one of its operations, once.
type faulty struct {
	store.Sink
	op string
}

type faultyLog struct {
	store.Log
	*faulty
}

var errFault = errors.New("disk on fire")

func (f *faulty) fault(op string) error {
	if f.op != op {
		return nil
	}
	f.op = ""
	return errFault
}

func (f *faulty) Create(ctx context.Context, name string) (store.Log, error) {
	if err := f.fault("create"); err != nil {
		return nil, err
	}
	l, err := f.Sink.Create(ctx, name)
	return &faultyLog{l, f}, err
}

func (l *faultyLog) Append(p []byte) error { return errors.Join(l.fault("append"), l.Log.Append(p)) }
func (l *faultyLog) Sync() error           { return errors.Join(l.fault("sync"), l.Log.Sync()) }

func (l *faultyLog) Seal(ctx context.Context) error {
	if err := l.fault("seal"); err != nil {
		return err
	}
	return l.Log.Seal(ctx)
}

func TestFirstErrorIsFinal(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"create", "append", "sync"} {
		t.Run(op, func(t *testing.T) {
			t.Parallel()
			st := memfs.New(nil)
			r := newRecorder(t, &faulty{Sink: st, op: op})
			must(t, r.Record(t.Context(), note("1")))
			for op, err := range map[string]error{
				"the Flush that failed": r.Flush(t.Context()),
				"Flush":                 r.Flush(t.Context()),
				"Record":                r.Record(t.Context(), note("2")),
			} {
				if !errors.Is(err, errFault) {
					t.Errorf("%s: %v", op, err)
				}
			}
			if err := r.Close(t.Context()); !errors.Is(err, errFault) {
				t.Errorf("Close: %v", err)
			}
			if err := r.Close(t.Context()); !errors.Is(err, fs.ErrClosed) {
				t.Errorf("second Close: %v", err)
			}
			if log, err := st.Append(t.Context(), name); errors.Is(err, store.ErrBusy) {
				t.Error("the lock was not released")
			} else if err == nil {
				must(t, log.Close())
			}
		})
	}

	r := newRecorder(t, &faulty{Sink: memfs.New(nil), op: "seal"})
	must(t, r.Record(t.Context(), note("1")))
	if err := r.Close(t.Context()); !errors.Is(err, errFault) {
		t.Errorf("Close: %v", err)
	}

	// Big records are written before a Flush; their failure is not swallowed.
	r = newRecorder(t, &faulty{Sink: memfs.New(nil), op: "append"})
	must(t, r.Record(t.Context(), note(strings.Repeat("x", 2<<20))))
	for range 2 {
		if err := r.Record(t.Context(), note("2")); !errors.Is(err, errFault) {
			t.Errorf("Record: %v", err)
		}
	}
}

// Calls that wait while another one fails do not come back with nil.
func TestWaitingCallsFailToo(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"append", "seal"} {
		synctest.Test(t, func(t *testing.T) {
			g := &gate{Sink: &faulty{Sink: memfs.New(nil), op: op}, hold: make(chan struct{})}
			r := newRecorder(t, g)
			must(t, r.Record(t.Context(), note("1")))
			var results []chan error
			begin := func(call func(context.Context) error) {
				result := make(chan error)
				results = append(results, result)
				go func() { result <- call(t.Context()) }()
				synctest.Wait()
			}
			begin(r.Flush) // is held
			must(t, r.Record(t.Context(), note("2")))
			begin(r.Close)
			begin(r.Flush)
			close(g.hold)
			for i, result := range results {
				// A Seal fails when everything was synced.
				if err := <-result; errors.Is(err, errFault) == (op == "seal" && i != 1) {
					t.Errorf("%s: call %d: %v", op, i, err)
				}
			}
		})
	}
}

func TestEndedContext(t *testing.T) {
	stores(t, func(t *testing.T, st recorder.Store) {
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		r := newRecorder(t, st)
		must(t, r.Record(t.Context(), note("0")))
		must(t, r.Flush(t.Context()))
		must(t, r.Record(t.Context(), note("1")))
		for range 20 { // were it left to chance, one of them would show it
			for op, err := range map[string]error{
				"Record": r.Record(ended, note("lost")),
				"Flush":  r.Flush(ended),
				"Close":  r.Close(ended),
			} {
				if !errors.Is(err, context.Canceled) {
					t.Errorf("%s: %v", op, err)
				}
			}
		}
		if got := read(t, st, name); got != metaLine+noteLine("0") {
			t.Fatalf("they left\n%s", got)
		}
		must(t, r.Record(t.Context(), note("2")))
		must(t, r.Close(t.Context()))
		if got := read(t, st, name); got != metaLine+noteLine("0")+noteLine("1")+noteLine("2") {
			t.Errorf("got\n%s", got)
		}
	})
}

// A canceller cancels a context in the middle of an operation.
type canceller struct {
	store.Sink
	op     string
	cancel context.CancelFunc
}

type cancelLog struct {
	store.Log
	*canceller
}

func (c *canceller) during(op string) {
	if c.op == op {
		c.cancel()
	}
}

func (c *canceller) Create(ctx context.Context, name string) (store.Log, error) {
	c.during("create")
	l, err := c.Sink.Create(ctx, name)
	if err != nil {
		return nil, err
	}
	return &cancelLog{l, c}, nil
}

func (l *cancelLog) Seal(ctx context.Context) error {
	l.during("seal")
	return l.Log.Seal(ctx)
}

func TestContextThatEndsMeanwhile(t *testing.T) {
	t.Parallel()
	for _, op := range []string{"create", "seal"} {
		st := memfs.New(nil)
		ctx, cancel := context.WithCancel(t.Context())
		r := newRecorder(t, &canceller{Sink: st, op: op, cancel: cancel})
		must(t, r.Record(ctx, note("1")))
		if err := r.Close(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", op, err)
		}
		if err := r.Record(t.Context(), note("2")); !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s: Record when Close has begun: %v", op, err)
		}
		must(t, r.Close(t.Context()))
		if got := read(t, st, name); got != metaLine+noteLine("1") {
			t.Errorf("%s: got\n%s", op, got)
		}
	}
}

func TestWriteOnceStore(t *testing.T) {
	t.Parallel()
	st := blob.New(memblob.OpenBucket(nil), &blob.Options{Service: mem.Service(), SpoolDir: t.TempDir()})
	defer st.Close()
	r := newRecorder(t, st)
	must(t, r.Record(t.Context(), note("1")))
	must(t, r.Flush(t.Context()))
	must(t, r.Record(t.Context(), note("2")))
	must(t, r.Flush(t.Context()))
	if got := read(t, st, name); got != "" {
		t.Errorf("before Close there is %q", got)
	}
	must(t, r.Close(t.Context()))
	if got := read(t, st, name); got != metaLine+noteLine("1")+noteLine("2") {
		t.Errorf("got\n%s", got)
	}
	if _, err := recorder.Resume(t.Context(), st, name, at); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Resume: %v", err)
	}

	second := newRecorder(t, st)
	must(t, second.Record(t.Context(), note("x")))
	if err := second.Close(t.Context()); !errors.Is(err, fs.ErrExist) {
		t.Errorf("Close of another with the same name: %v", err)
	}
}
