package mirror

import (
	"context"
	"path"
	"sync"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
)

// Sink is a store.Sink that writes to a home and, when a rollout is sealed there,
// pushes it to mirrors by the rules of Push. A mirror that fails never blocks or
// fails the writer: Seal returns when the home has the rollout, the push goes on
// beside it, and what did not get through is brought by the next Push.
type Sink struct {
	home    Home
	mirrors []Pushing
	pushes  sync.WaitGroup
}

// NewSink returns a Sink that writes to home. Of each of the mirrors, Home is
// home and Idle is 0, whatever they say. A nil State is one in memory, which is
// what an agent wants: a State in a file would keep every other push away for as
// long as the agent runs. Pushing.Each tells what became of each rollout, failures
// included, from one goroutine at a time.
func NewSink(home Home, mirrors ...Pushing) *Sink {
	s := &Sink{home: home}
	for _, m := range mirrors {
		m.Home, m.Idle = home, 0
		if m.State == nil {
			m.State = NewState()
		}
		if each := m.Each; each != nil {
			var mu sync.Mutex
			m.Each = func(o Outcome) {
				mu.Lock()
				defer mu.Unlock()
				each(o)
			}
		}
		s.mirrors = append(s.mirrors, m)
	}
	return s
}

// Create implements store.Sink.
func (s *Sink) Create(ctx context.Context, name string) (store.Log, error) {
	return s.log(name)(s.home.Create(ctx, name))
}

// Append implements store.Sink.
func (s *Sink) Append(ctx context.Context, name string) (store.Log, error) {
	return s.log(name)(s.home.Append(ctx, name))
}

// Unwrap lets store.As find the home's other powers.
func (s *Sink) Unwrap() any { return s.home }

// Wait returns when no push is on its way any more, or with ctx's error. Programs
// call it before they end, with as much patience as they have.
func (s *Sink) Wait(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		s.pushes.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Sink) log(name string) func(store.Log, error) (store.Log, error) {
	return func(l store.Log, err error) (store.Log, error) {
		if err != nil {
			return nil, err
		}
		if _, err := codec.ParseName(path.Base(name)); err != nil {
			return l, nil // no rollout, so not for a mirror
		}
		return &sinkLog{Log: l, sink: s, name: name}, nil
	}
}

// sinkLog is a log whose Seal also pushes.
type sinkLog struct {
	store.Log
	sink *Sink
	name string
}

func (l *sinkLog) Seal(ctx context.Context) error {
	if err := l.Log.Seal(ctx); err != nil {
		return err
	}
	// The push outlives the call, and with it the call's context.
	ctx = context.WithoutCancel(ctx)
	for _, m := range l.sink.mirrors {
		l.sink.pushes.Go(func() { pushOne(ctx, m, l.name) })
	}
	return nil
}

// pushOne pushes the rollout at file. What fails is an outcome like any other.
func pushOne(ctx context.Context, o Pushing, file string) {
	p, err := newPusher(o)
	out := Outcome{Path: file, Action: Failed}
	if err == nil {
		out, err = p.onlyOne(ctx, file)
	}
	if err != nil {
		out = out.failed(err)
	}
	if o.Each != nil {
		o.Each(out)
	}
}
