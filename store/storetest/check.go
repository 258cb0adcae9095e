package storetest

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
)

// Check runs the case on h in a program that is not a test, and returns nil if the
// store keeps the rule, else what it did instead: an error that joins one for each
// thing. A panic of the store is one, unless it comes from a goroutine of the
// store's own. When ctx ends the case ends too, as soon as the store obeys, and
// Check returns its cause, which says nothing about the store. Check is for cases
// that apply, and leaves in the store what the case has written.
func (c Case) Check(ctx context.Context, h Harness) error {
	caseCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	t := &checked{ctx: caseCtx}
	done := make(chan struct{})
	go func() { // that Fatalf can end
		defer close(done)
		defer t.protect(func() {
			cancel() // as in go test
			for _, f := range slices.Backward(t.cleanups) {
				t.protect(f)
			}
		})
		t.protect(func() { c.test(t, h) })
	}()
	<-done
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t.mu.Lock() // a goroutine of a case that gave up may still have something to say
	defer t.mu.Unlock()
	return errors.Join(t.failures...)
}

// checked is the T of Check.
type checked struct {
	ctx      context.Context
	cleanups []func() // in the order of the calls
	mu       sync.Mutex
	failures []error
}

func (t *checked) Helper()                  {}
func (t *checked) Context() context.Context { return t.ctx }
func (t *checked) Cleanup(f func())         { t.cleanups = append(t.cleanups, f) }

func (t *checked) Failed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.failures) > 0
}

func (t *checked) Errorf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failures = append(t.failures, fmt.Errorf(format, args...))
}

func (t *checked) Fatalf(format string, args ...any) {
	t.Errorf(format, args...)
	runtime.Goexit()
}

// protect makes a panic of f a failure.
func (t *checked) protect(f func()) {
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("panic: %v", p)
		}
	}()
	f()
}
