package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"golang.org/x/term"

	"github.com/rollout-sync/rollout/replay"
)

// clean makes text from a session or a mirror harmless to a terminal, and one line.
func clean(s string) string {
	return strings.NewReplacer("\n", " ", "\t", " ").Replace(replay.Clean(s))
}

// size prints a number of bytes for people.
func size(n int64) string {
	const unit = 1024
	if n < unit {
		return fmt.Sprintf("%d B", n)
	}
	v, prefix := float64(n)/unit, 0
	for v >= unit {
		v, prefix = v/unit, prefix+1
	}
	return fmt.Sprintf("%.1f %ciB", v, "KMGTPE"[prefix])
}

// terminal returns the terminal that w is, nil if it is none.
func terminal(w io.Writer) *os.File {
	if o, ok := w.(*output); ok {
		w = o.Writer
	}
	if f, ok := w.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return f
	}
	return nil
}

// width returns the width of the terminal that w is, 0 if it is none.
func width(w io.Writer) int {
	f := terminal(w)
	if f == nil {
		return 0
	}
	n, _, err := term.GetSize(int(f.Fd()))
	if err != nil {
		return 0
	}
	return n
}

// colours tells whether w is a terminal that is to have colours (no-color.org). On
// Windows it is one that surely understands them.
func colours(w io.Writer) bool {
	return terminal(w) != nil && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb" &&
		(runtime.GOOS != "windows" || os.Getenv("WT_SESSION") != "")
}
