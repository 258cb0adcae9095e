package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store"
)

// Exit codes. They are part of the interface: scripts and monitors rely on them.
const (
	exitOK          = 0
	exitFailure     = 1
	exitUsage       = 2
	exitPartial     = 3  // some sessions failed, the others were done
	exitIntegrity   = 4  // something does not match its hash
	exitLocked      = 11 // another run is at work
	exitInterrupted = 130
	exitTerminated  = 143
)

// exitError is an error that knows its exit code.
type exitError struct {
	code int
	err  error
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

func usagef(format string, args ...any) error {
	return &exitError{exitUsage, fmt.Errorf(format, args...)}
}

// partial is what a command returns that told of n failures already.
func partial(n int, what string) error {
	return &exitError{exitPartial, fmt.Errorf("%d %s failed; the others were done", n, what)}
}

// integrity is what a command returns that told of n damaged things already.
func integrity(n int, what string) error {
	return &exitError{exitIntegrity, fmt.Errorf("%d %s", n, what)}
}

// failed is what a command returns that told of the failures of sessions already:
// integrity, in these words, if one is damage, else partial. nil if there are none.
func failed[T any](ctx context.Context, failures []T, err func(T) error, damage string) error {
	damaged := 0
	for _, f := range failures {
		if exitCode(ctx, err(f)) == exitIntegrity {
			damaged++
		}
	}
	switch {
	case damaged > 0:
		return integrity(damaged, damage)
	case len(failures) > 0:
		return partial(len(failures), "sessions")
	}
	return nil
}

func exitCode(ctx context.Context, err error) int {
	var (
		coded *exitError
		stop  interrupted
	)
	switch {
	case err == nil:
		return exitOK
	case errors.As(context.Cause(ctx), &stop):
		return stop.code()
	case errors.As(err, &coded):
		return coded.code
	case errors.Is(err, mirror.ErrLocked):
		return exitLocked
	case errors.Is(err, store.ErrCorrupt):
		return exitIntegrity
	}
	return exitFailure
}

// oneLine makes an error one line, as joined errors are not.
func oneLine(err error) string {
	return clean(strings.ReplaceAll(err.Error(), "\n", "; "))
}

// about is oneLine of an error about name, which it then says, once.
func about(name string, err error) string {
	if line := oneLine(err); strings.Contains(line, clean(name)) {
		return line
	}
	return clean(name) + ": " + oneLine(err)
}
