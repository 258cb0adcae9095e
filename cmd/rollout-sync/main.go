// Command rollout-sync mirrors the sessions that Codex and other agents record,
// lists, shows and verifies them, and brings them back.
package main

import (
	"context"
	"io"
	"log"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

func main() {
	// Libraries below gocloud write to the standard logger what comes back as an
	// error as well.
	log.SetOutput(io.Discard)
	if os.Getenv("GOMEMLIMIT") == "" {
		limitMemory = func(limit int64) { debug.SetMemoryLimit(limit) }
	}
	limitMemory(memoryLimit)
	if os.Getenv("GOGC") == "" {
		collectLess = func() { debug.SetGCPercent(lessGCPercent) }
	}
	os.Exit(withSignals(func(ctx context.Context) int {
		return run(ctx, os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr})
	}))
}

// From where on memory is freed at the cost of time. Only lines of some 100 MB, and
// histories as large, need so much: what a line leaves behind, half again as much, is
// freed before it is decoded. A push decodes no line but the first.
const (
	memoryLimit     = 192 << 20
	lessMemoryLimit = 80 << 20 // of a push, of a search, and of what decodes heads and rows
	pushedMemory    = 200      // bytes more for each session that a push has to do, of which it keeps the path and more
)

// lessGCPercent spares a push that has nothing to do an eighth of its time, and a search
// of 50,000 indexed sessions a tenth; the limit holds all the same.
const lessGCPercent = 400

// collectLess has the process collect garbage later, if the user has not said when.
var collectLess = func() {}

// limitMemory sets the limit of the process, if it is ours and the user has set none.
var limitMemory = func(int64) {}

type stdio struct {
	in       io.Reader
	out, err io.Writer
}

// withSignals calls run with a context that the first SIGINT or SIGTERM ends, and
// returns its code, or 128 and the signal's number if that is why it ended. A
// second signal ends the process at once.
func withSignals(run func(context.Context) int) int {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		s := <-signals
		signal.Reset(os.Interrupt, syscall.SIGTERM)
		cancel(interrupted{s})
	}()
	return run(ctx)
}

// interrupted is the cause of a context that a signal ended.
type interrupted struct{ os.Signal }

func (i interrupted) Error() string { return "interrupted" }

func (i interrupted) code() int {
	if i.Signal == syscall.SIGTERM {
		return exitTerminated
	}
	return exitInterrupted
}
