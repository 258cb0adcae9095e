// Command record measures what recording a line costs, beside what cannot be avoided:
//
//	go run ./record [-rows 1,2] [-lines N] [-durable N] [-rounds N] [-seed N] [-dir DIR]
//
// Row 1: lines are queued and written, their encoding included, but not synced,
// beside a bare loop of write(2) of the same lines. Row 2: 64 callers at a time, each
// of which waits for its line to be on the disk, beside a loop of write(2) and
// fsync(2) of the same lines. The directory decides what is measured of the disk.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rollout-sync/rollout/bench/row"
	"github.com/rollout-sync/rollout/bench/session"
	"github.com/rollout-sync/rollout/bench/tree"
	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/recorder"
	"github.com/rollout-sync/rollout/store/local"
)

// callers is how many record durably at a time.
const callers = 64

type bench struct {
	dir    string
	rounds int
	items  []codec.Item
	lines  [][]byte // what the items become
}

func main() {
	rows := flag.String("rows", "1,2", "which rows")
	lines := flag.Int("lines", 100_000, "row 1: how many a round")
	durable := flag.Int("durable", 20_000, "row 2: how many a round; one by one, a twentieth")
	rounds := flag.Int("rounds", 5, "how often each is run")
	seed := flag.Uint64("seed", 1, "of the data")
	dir := flag.String("dir", "", "where the temporary directory is made")
	flag.Parse()
	if err := run(*rows, *lines, *durable, *rounds, *seed, *dir); err != nil {
		fmt.Fprintln(os.Stderr, "record:", err)
		os.Exit(1)
	}
}

func run(rows string, lines, durable, rounds int, seed uint64, dir string) (err error) {
	if dir, err = os.MkdirTemp(dir, "rollout-bench-record-*"); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	b := &bench{dir: dir, rounds: rounds}
	if b.items, b.lines, err = data(seed); err != nil {
		return err
	}
	var results []row.Result
	for r := range strings.SplitSeq(rows, ",") {
		var result row.Result
		switch r {
		case "1":
			result, err = b.queued(lines)
		case "2":
			result, err = b.durable(durable)
		default:
			err = errors.New("there is no such row here")
		}
		if err != nil {
			return fmt.Errorf("row %s: %w", r, err)
		}
		results = append(results, result)
	}
	return row.Report(results...)
}

// data returns items, and the lines that they become: a session without its head.
func data(seed uint64) (items []codec.Item, lines [][]byte, err error) {
	var text bytes.Buffer
	if err := session.New(seed).Write(&text, tree.Options{Sessions: 1, Days: 1}.At(0), 32<<20, 0); err != nil {
		return nil, nil, err
	}
	for line := range bytes.Lines(text.Bytes()) {
		it, err := codec.DecodeItem(line)
		if err != nil {
			return nil, nil, err
		}
		if it.Type == "session_meta" {
			continue
		}
		it.Timestamp = "" // the recorder gives it one
		items, lines = append(items, it), append(lines, line)
	}
	return items, lines, nil
}

// record runs f with a new recorder, and returns the seconds that f took.
func (b *bench) record(o *recorder.Options, f func(context.Context, *recorder.Recorder) error) (_ float64, err error) {
	ctx := context.Background()
	home := filepath.Join(b.dir, "home")
	if err := os.Mkdir(home, 0o700); err != nil {
		return 0, err
	}
	s, err := local.Open(home, nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close(), os.RemoveAll(home)) }()
	r, err := recorder.New(s, recorder.Meta{Cwd: "/", Originator: "bench", CLIVersion: "0"}, o)
	if err != nil {
		return 0, err
	}
	start := time.Now()
	err = f(ctx, r)
	took := time.Since(start)
	return took.Seconds(), errors.Join(err, r.Close(ctx))
}

// write writes n lines, one write(2) each, and returns the seconds that took.
func (b *bench) write(n int, sync bool) (_ float64, err error) {
	f, err := os.OpenFile(filepath.Join(b.dir, "x"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, f.Close(), os.Remove(f.Name())) }()
	start := time.Now()
	for i := range n {
		if _, err := f.Write(b.lines[i%len(b.lines)]); err != nil {
			return 0, err
		}
		if !sync {
			continue
		}
		if err := f.Sync(); err != nil {
			return 0, err
		}
	}
	return time.Since(start).Seconds(), nil
}

func (b *bench) queued(n int) (row.Result, error) {
	var ours, limit row.Sample // µs a line
	for range b.rounds {
		least, err := b.write(n, false)
		if err != nil {
			return row.Result{}, err
		}
		took, err := b.record(&recorder.Options{Sync: recorder.SyncNever}, func(ctx context.Context, r *recorder.Recorder) error {
			for i := range n {
				if err := r.Record(ctx, b.items[i%len(b.items)]); err != nil {
					return err
				}
			}
			return r.Flush(ctx)
		})
		if err != nil {
			return row.Result{}, err
		}
		limit, ours = append(limit, least*1e6/float64(n)), append(ours, took*1e6/float64(n))
	}
	return row.Result{
		Row: 1, Work: fmt.Sprintf("record %d lines, not synced", n), Unit: "µs/line", Ours: ours,
		Limit: limit, LimitName: "write(2)", Ratio: ours.Over(limit), Promise: row.AtMost(2.5),
	}, nil
}

func (b *bench) durable(n int) (row.Result, error) {
	alone := max(n/20, 1)
	var ours, limit row.Sample // lines a second
	for range b.rounds {
		most, err := b.write(alone, true)
		if err != nil {
			return row.Result{}, err
		}
		took, err := b.record(nil, func(ctx context.Context, r *recorder.Recorder) error {
			g, ctx := errgroup.WithContext(ctx)
			for c := range callers {
				g.Go(func() error {
					for i := c; i < n; i += callers {
						if err := errors.Join(r.Record(ctx, b.items[i%len(b.items)]), r.Flush(ctx)); err != nil {
							return err
						}
					}
					return nil
				})
			}
			return g.Wait()
		})
		if err != nil {
			return row.Result{}, err
		}
		limit, ours = append(limit, float64(alone)/most), append(ours, float64(n)/took)
	}
	return row.Result{
		Row: 2, Work: fmt.Sprintf("record %d lines durably, %d callers", n, callers), Unit: "lines/s", Ours: ours,
		Limit: limit, LimitName: "one fsync(2) a line", Ratio: ours.Over(limit), Promise: row.AtLeast(10),
	}, nil
}
