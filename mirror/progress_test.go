package mirror_test

import (
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/memfs"
)

// halfReader is a mirror that reads the first half of each rollout, says so, and then
// puts it, read once more.
type halfReader struct {
	mirror.Store
	read func(n int64)
}

func (m *halfReader) Put(ctx context.Context, name string, b store.Body, c store.Cond) (string, error) {
	if strings.HasPrefix(name, "sessions/") {
		r, err := b.Open()
		if err != nil {
			return "", err
		}
		n, err := io.CopyN(io.Discard, r, b.Size/2)
		if err != nil {
			return "", err
		}
		if err := r.Close(); err != nil {
			return "", err
		}
		m.read(n)
		open := b.Open
		b.Open = func() (io.ReadCloser, error) {
			r, err := open()
			return struct{ io.ReadCloser }{r}, err // so that no store takes it whole
		}
	}
	return m.Store.Put(ctx, name, b, c)
}

// What is told of a push grows within a rollout, counts no byte twice, and in the end
// is all that there was to do: what was sent, what the mirror had already, and what
// waited until another began with it.
func TestPushProgress(t *testing.T) {
	t.Parallel()
	const dir = "sessions/2026/11/20/rollout-2026-11-20T08-41-45-01a1f81e-6bb9-7000-8000-00000000000"
	home, m := memfs.New(nil), newTeam(t)
	at := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	put := func(name, content string) {
		at = at.Add(time.Minute)
		if _, err := home.Put(ctx, name, store.BytesBody([]byte(content), at), store.Cond{IfAbsent: true}); err != nil {
			t.Fatal(err)
		}
	}
	line := `{"text":"` + strings.Repeat("x", 988) + `"}` + "\n" // 1000 bytes
	put(dir+"1.jsonl", strings.Repeat(line, 100))
	other := mirror.Pushing{Home: home, Mirror: m.mirror, State: mirror.NewState(), Origin: "other"}
	if _, err := mirror.Push(ctx, other); err != nil {
		t.Fatal(err)
	}
	put(dir+"2.jsonl", strings.Repeat(line, 200))
	put(dir+"3.jsonl", strings.Repeat(line, 300))

	var (
		p    mirror.Progress
		last int64
		sent []int64 // at the middle of each upload
	)
	grown := func() {
		t.Helper()
		if now := p.Sent.Load(); now < last {
			t.Errorf("%d bytes were sent, and before that %d", now, last)
		} else {
			last = now
		}
	}
	half := &halfReader{Store: m.mirror, read: func(n int64) {
		grown()
		sent = append(sent, p.Sent.Load())
	}}
	done := int64(0)
	r, err := mirror.Push(ctx, mirror.Pushing{
		Home: home, Mirror: half, State: mirror.NewState(), Origin: "this", Progress: &p,
		Each: func(mirror.Outcome) {
			grown()
			if done++; p.Done.Load() != done || p.Rollouts.Load() != 3 || p.Bytes.Load() != 600_000 {
				t.Errorf("%d of %d rollouts and %d bytes, at outcome %d", p.Done.Load(), p.Rollouts.Load(), p.Bytes.Load(), done)
			}
		},
	})
	if err != nil || r.Actions[mirror.Equal] != 1 || r.Actions[mirror.Uploaded] != 2 {
		t.Fatal(r.Actions, err)
	}
	if len(sent) != 2 || sent[0] != 200_000 || sent[1] != 450_000 {
		t.Errorf("in the middle of the uploads %d bytes were sent", sent)
	}
	if p.Sent.Load() != 600_000 || p.Done.Load() != 3 {
		t.Errorf("in the end %d bytes of %d rollouts", p.Sent.Load(), p.Done.Load())
	}
}

// In the end the plan is what was done: of a compressed rollout the plain size is known
// when it was read, and one that waited is done when another begins with it.
func TestPushProgressIsCorrected(t *testing.T) {
	t.Parallel()
	parent := meta(rolloutID(1), "", 0) + `{"a":1}` + "\n"
	tests := map[string]struct {
		fill func(h *home)
		done int64
	}{
		"nothing to do": {func(*home) {}, 0},
		"a compressed rollout": {func(h *home) {
			packed := zst(strings.Repeat(`{"text":"the same again"}`+"\n", 1000))
			if _, err := h.files.Put(ctx, rolloutFile(1, 20)+".zst", store.BytesBody(packed, time.Now()), store.Cond{IfAbsent: true}); err != nil {
				t.Fatal(err)
			}
		}, 1},
		"a parent that waited": {func(h *home) {
			h.writeAt(rolloutFile(2, 19), meta(rolloutID(2), rolloutID(1), len(parent)), h.now.Add(-2*time.Hour))
			h.writeAt(rolloutFile(1, 20), parent, h.now.Add(-time.Second))
		}, 2},
		"one that waits": {func(h *home) {
			h.writeAt(rolloutFile(1, 20), parent, h.now.Add(-time.Second))
		}, 0},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newTeam(t).newHome(t, "a")
			test.fill(h)
			var p mirror.Progress
			r, err := h.pushWith(func(o *mirror.Pushing) { o.Progress = &p })
			if err != nil || len(r.Failures) > 0 {
				t.Fatal(r, err)
			}
			if p.Rollouts.Load() != test.done || p.Done.Load() != test.done {
				t.Errorf("%d of %d rollouts", p.Done.Load(), p.Rollouts.Load())
			}
			if p.Bytes.Load() != r.Bytes || p.Sent.Load() != r.Bytes {
				t.Errorf("%d of %d bytes, of a push of %d", p.Sent.Load(), p.Bytes.Load(), r.Bytes)
			}
		})
	}
}
