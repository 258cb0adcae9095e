// Command push measures the real rollout-sync: what a push costs, beside rclone
// and beside what cannot be avoided, and what all commands take of memory.
//
//	go run ./push [-rows 5,6,8] [-size MB] [-sessions N] [-big MB] [-line MB] [-rounds N] [-rclone FILE] [-seed N] [-dir DIR]
//
// Row 5: the first push, its CPU time beside zstd and SHA-256 of the same bytes, its
// wall time through a slow link beside rclone. Row 6: a push with nothing to do,
// beside rclone. Row 8: the memory of each command for a large session, and for long
// lines. Before the rows stands what else was measured.
//
// Each figure is of a process of its own: its time, its user and system CPU seconds,
// the most memory that it had resident. What is compared works on the same bytes, in turns,
// against one S3 server (versitygw) on loopback, whose log counts the requests.
// Needs Linux or macOS, and the modules of Go's proxy for the server and rclone.
// All that is written is in one temporary directory, which is removed.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/rollout-sync/rollout/bench/row"
)

type settings struct {
	rows     string
	sizeMB   int64
	sessions int
	bigMB    int64
	lineMB   int64
	rounds   int
	rclone   string
	seed     uint64
	dir      string
}

func main() {
	if len(os.Args) > 1 && strings.HasPrefix(os.Args[1], "=") {
		os.Exit(part(os.Args[1], os.Args[2:]))
	}
	var s settings
	flag.StringVar(&s.rows, "rows", "5,6,8", "which rows")
	flag.Int64Var(&s.sizeMB, "size", 512, "row 5: `MB` of sessions")
	flag.IntVar(&s.sessions, "sessions", 10_000, "row 6: how many")
	flag.Int64Var(&s.bigMB, "big", 1000, "row 8: `MB` of the one large session")
	flag.Int64Var(&s.lineMB, "line", 100, "row 8: `MB` of each long line")
	flag.IntVar(&s.rounds, "rounds", 5, "how often what is timed is run")
	flag.StringVar(&s.rclone, "rclone", "", "the rclone to compare with (default: built from its module)")
	flag.Uint64Var(&s.seed, "seed", 1, "of the data")
	flag.StringVar(&s.dir, "dir", "", "where the temporary directory is made")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, s); err != nil {
		fmt.Fprintln(os.Stderr, "push:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, s settings) (err error) {
	dir, err := os.MkdirTemp(s.dir, "rollout-bench-push-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	m, err := newMachine(ctx, dir, s)
	if err != nil {
		return err
	}
	defer m.close()
	rows := map[string]func(context.Context) ([]row.Result, error){"5": m.row5, "6": m.row6, "8": m.row8}
	var results []row.Result
	for r := range strings.SplitSeq(s.rows, ",") {
		f, ok := rows[r]
		if !ok {
			return fmt.Errorf("there is no row %q here", r)
		}
		fmt.Printf("load %s\n", load())
		lines, err := f(ctx)
		if err != nil {
			return fmt.Errorf("row %s: %w", r, err)
		}
		results = append(results, lines...)
	}
	fmt.Printf("load %s\n", load())
	return row.Report(results...)
}

// rcloneModule is the peer, as a module and version.
const (
	rcloneModule  = "github.com/rclone/rclone"
	rcloneVersion = "v1.75.1"
)

// build builds what is measured, and what it is measured against, into dir.
func (m *machine) build(ctx context.Context, dir string) (gateway string, err error) {
	m.ours = filepath.Join(dir, "rollout-sync")
	if _, err := output(ctx, "..", "go", "build", "-o", m.ours, "./cmd/rollout-sync"); err != nil {
		return "", err
	}
	if gateway, err = output(ctx, filepath.Join("..", "integration"), "go", "tool", "-n", "versitygw"); err != nil {
		return "", err
	}
	m.rcloneName = "rclone " + rcloneVersion
	if m.settings.rclone != "" {
		m.rclone = m.settings.rclone
		version, err := output(ctx, dir, m.rclone, "version")
		m.rcloneName, _, _ = strings.Cut(version, "\n")
		return gateway, err
	}
	if strings.ContainsAny(m.rows, "56") {
		if _, err := output(ctx, dir, "go", "install", rcloneModule+"@"+rcloneVersion); err != nil {
			m.rcloneMissing, _, _ = strings.Cut(err.Error(), "\n")
			return gateway, nil
		}
		m.rclone = filepath.Join(dir, "rclone")
	}
	return gateway, nil
}

func output(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOBIN="+dir)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// load is what others ask of the machine, if it says.
func load() string {
	b, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return "unknown"
	}
	return strings.Join(strings.Fields(string(b))[:3], " ")
}

const rowFormat = "%-44s %-26s %-26s %-26s %s\n"

func title(format string, args ...any) {
	fmt.Printf("\n"+format+"\n", args...)
	fmt.Printf(rowFormat, "", "ours", "against", "ratio", "promised")
}

func line(what string, ours, against, ratio any, promised string) {
	fmt.Printf(rowFormat, what, fmt.Sprint(ours), fmt.Sprint(against), fmt.Sprint(ratio), promised)
}

func seconds(d time.Duration) float64 { return d.Seconds() }
