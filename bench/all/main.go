// Command all runs the benchmarks of all rows, one after the other, and prints one
// table of what is promised and what was measured; what else they print goes to
// standard error:
//
//	go run ./all [-rows 1,2,…] [-size tiny|default|full] [-codex FILE] [-rclone FILE] [-dir DIR]
//
// At the size "full" sessions are as large and as many as the promises say, which
// takes long, and some 30 GB; at "default" they take less than 20 minutes on two
// processors; at "tiny" it is only seen that everything works. A promise that is not kept is no
// failure, but a row that cannot be measured is.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/rollout-sync/rollout/bench/row"
)

// A plan is how a row is measured.
type plan struct {
	command string            // and its arguments
	peer    string            // the flag for another binary of it
	args    map[string]string // more of them, by size
}

// plans has row 1 first.
var plans = []plan{
	{"record -rows 1", "", map[string]string{"tiny": "-lines 1000 -rounds 2"}},
	{"record -rows 2", "", map[string]string{"tiny": "-durable 200 -rounds 2"}},
	{"listing -rows 3", "codex", map[string]string{"tiny": "-sizes 100,200,300 -rounds 2"}},
	{"reconstruct", "codex", map[string]string{"tiny": "-size 5 -rounds 2"}},
	{"push -rows 5", "rclone", map[string]string{"tiny": "-size 5 -rounds 2", "full": "-size 2000"}},
	{"push -rows 6", "rclone", map[string]string{"tiny": "-sessions 100 -rounds 2", "full": "-sessions 100000"}},
	{"listing -rows 7", "", nil},
	{"push -rows 8", "", map[string]string{"tiny": "-big 5 -line 1", "full": "-big 10000"}},
}

func main() {
	rows := flag.String("rows", "1,2,3,4,5,6,7,8", "which rows")
	size := flag.String("size", "default", "how much is measured: tiny, default or full")
	codex := flag.String("codex", "", "the codex to compare with (default: the one that make codex installs)")
	rclone := flag.String("rclone", "", "the rclone to compare with (default: built from its module)")
	dir := flag.String("dir", "", "where the temporary directories are made")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *rows, *size, map[string]string{"codex": *codex, "rclone": *rclone}, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "all:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, rows, size string, peers map[string]string, dir string) error {
	if !slices.Contains([]string{"tiny", "default", "full"}, size) {
		return fmt.Errorf("there is no size %q", size)
	}
	temp, err := os.MkdirTemp(dir, "rollout-bench-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	var results []row.Result
	failed := 0
	for r := range strings.SplitSeq(rows, ",") {
		n, err := strconv.Atoi(r)
		if err != nil || n < 1 || n > len(plans) {
			return fmt.Errorf("there is no row %q", r)
		}
		begin := time.Now()
		lines, err := measure(ctx, temp, plans[n-1], size, peers)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			failed++
			lines = []row.Result{{Row: n, Failed: err.Error()}}
		}
		results = append(results, lines...)
		fmt.Fprintf(os.Stderr, "row %d took %v\n\n", n, time.Since(begin).Round(time.Second))
	}
	if err := row.Print(os.Stdout, results); err != nil || failed == 0 {
		return err
	}
	return fmt.Errorf("%d rows could not be measured", failed)
}

// measure runs the command of a row, and returns what it has found.
func measure(ctx context.Context, temp string, p plan, size string, peers map[string]string) ([]row.Result, error) {
	args := append(strings.Fields(p.command), strings.Fields(p.args[size])...)
	if peer := peers[p.peer]; peer != "" {
		args = append(args, "-"+p.peer, peer)
	}
	command := strings.Join(args, " ")
	fmt.Fprintln(os.Stderr, command)
	collected := filepath.Join(temp, "rows")
	bin := filepath.Join(temp, args[0])
	for _, args := range [][]string{{"go", "build", "-o", bin, "./" + args[0]}, append([]string{bin}, args[1:]...)} {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) } // it cleans up
		cmd.Env = append(os.Environ(), "TMPDIR="+temp, row.Collect+"="+collected)
		cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("%s: %w", command, err)
		}
	}
	results, err := row.Read(collected)
	return results, errors.Join(err, os.Remove(collected))
}
