package mirror_test

import (
	"context"
	"errors"
	"sync"
	"testing"

	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/memfs"
)

// refusing is a mirror that takes nothing.
type refusing struct{ mirror.Store }

var errRefused = errors.New("refused")

func (refusing) Put(context.Context, string, store.Body, store.Cond) (string, error) {
	return "", errRefused
}

func TestSink(t *testing.T) {
	t.Parallel()
	good, bad := newTeam(t), newTeam(t)
	home := memfs.New(nil)
	var mu sync.Mutex
	outcomes := map[string]mirror.Outcome{}
	note := func(which string) func(mirror.Outcome) {
		return func(o mirror.Outcome) {
			mu.Lock()
			defer mu.Unlock()
			outcomes[which] = o
		}
	}
	s := mirror.NewSink(home,
		mirror.Pushing{Mirror: good.mirror, Origin: "agent", Each: note("good")},
		mirror.Pushing{Mirror: refusing{bad.mirror}, Origin: "agent", Each: note("bad")})
	l, err := s.Create(ctx, file)
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Append([]byte("one\n")); err != nil {
		t.Fatal(err)
	}
	if err := l.Sync(); err != nil {
		t.Fatal(err)
	}
	if got := good.objects(t); len(got) > 0 {
		t.Errorf("pushed before Seal: %v", got)
	}
	// The context of the Seal is not that of the push.
	sealing, cancel := context.WithCancel(ctx)
	if err := l.Seal(sealing); err != nil {
		t.Errorf("a mirror that refuses failed the agent: %v", err)
	}
	cancel()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	if got := good.objects(t)[key]; got != "one\n" {
		t.Errorf("the mirror has %q", got)
	}
	if o := outcomes["good"]; o.Action != mirror.Uploaded || o.Err != nil {
		t.Errorf("%+v", o)
	}
	if o := outcomes["bad"]; o.Action != mirror.Failed || !errors.Is(o.Err, errRefused) {
		t.Errorf("%+v", o)
	}
	if _, ok := store.As[store.Putter](s); !ok {
		t.Error("the home's powers are hidden")
	}

	// What is no rollout stays at home.
	l, err = s.Create(ctx, "session_index.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Seal(ctx), l.Close(), s.Wait(ctx)); err != nil {
		t.Fatal(err)
	}
	if got := len(good.objects(t)); got != 1 {
		t.Errorf("the mirror has %d objects", got)
	}
}
