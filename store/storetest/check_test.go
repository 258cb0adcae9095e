package storetest

import (
	"context"
	"errors"
	"strings"
	"testing"
)

// However a case ends, Check returns, and what the case wanted done in the end is.
func TestCheck(t *testing.T) {
	t.Parallel()
	stop := errors.New("the user has seen enough")
	for what, c := range map[string]struct {
		test func(T, context.CancelCauseFunc)
		want string // "" if the rule is kept
	}{
		"kept":      {func(T, context.CancelCauseFunc) {}, ""},
		"broken":    {func(t T, _ context.CancelCauseFunc) { t.Errorf("one"); t.Errorf("two") }, "one\ntwo"},
		"fatal":     {func(t T, _ context.CancelCauseFunc) { t.Fatalf("one"); t.Errorf("two") }, "one"},
		"panic":     {func(T, context.CancelCauseFunc) { panic("at sea") }, "panic: at sea"},
		"cancelled": {func(t T, cancel context.CancelCauseFunc) { cancel(stop); t.Errorf("no answer") }, stop.Error()},
		"cleanup": {func(t T, _ context.CancelCauseFunc) {
			t.Cleanup(func() {
				if t.Context().Err() == nil {
					t.Errorf("the context goes on")
				}
			})
			t.Cleanup(func() { panic("at the end") })
		}, "panic: at the end"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancelCause(t.Context())
			defer cancel(nil)
			cleaned := 0
			err := Case{test: func(t T, _ Harness) {
				t.Cleanup(func() { cleaned++ })
				c.test(t, cancel)
			}}.Check(ctx, Harness{})
			if got := errorText(err); got != c.want {
				t.Errorf("Check returns %q, want %q", got, c.want)
			}
			if ctx.Err() != nil && !errors.Is(err, stop) {
				t.Errorf("%v is not the cause of the end", err)
			}
			if cleaned != 1 {
				t.Errorf("what is to be done at the end is done %d times", cleaned)
			}
		})
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return strings.TrimSpace(err.Error())
}

// Every case keeps to its context: one that ends stops it.
func TestCheckIsCancelled(t *testing.T) {
	t.Parallel()
	stop := errors.New("the user has seen enough")
	for _, c := range Cases() {
		h := newBroken(newMemory(true)).harness()
		if c.Applies != nil && !c.Applies(h) {
			continue
		}
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(stop)
		if err := c.Check(ctx, h); !errors.Is(err, stop) {
			t.Errorf("%s: %v", c.Name, err)
		}
	}
}
