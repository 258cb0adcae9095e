// Command listing measures how lists are found, in homes and mirrors of up to a
// million sessions, beside the real Codex on the same home:
//
//	go run ./listing [-rows 3,7] [-sizes 1000,50000,1000000] [-dir DIR] [-codex FILE] [-rounds N]
//	go run ./listing -all [-sizes …] …
//
// Row 3: the first page of a home, beside Codex on the home of the middle size, with
// and without its database, and beside itself on the least and the largest home. Row
// 7: the requests for the first page of the largest mirror. With -all, a table of
// every kind of list instead, which takes long.
//
// What is measured is a process of its own each time, so that its memory can be told.
// Homes are real files, the same ones every time; if DIR is given, they are kept
// there for the next time. Mirrors are made up as they are read. What is read of a
// home is in the page cache, except in the lines "cold" of -all, for which the
// system's caches are dropped (that takes root).
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rollout-sync/rollout/bench/codex"
	"github.com/rollout-sync/rollout/bench/lazy"
	"github.com/rollout-sync/rollout/bench/row"
	"github.com/rollout-sync/rollout/bench/tree"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/store/local"
)

func main() {
	rows := flag.String("rows", "3,7", "which rows")
	all := flag.Bool("all", false, "no rows, but a table of every kind of list")
	sizes := flag.String("sizes", "1000,50000,1000000", "how many sessions, a list")
	dir := flag.String("dir", "", "where the homes are made and kept (default: a temporary directory, which is removed)")
	codexBin := flag.String("codex", "", "the codex to compare with (default: the one that make codex installs)")
	rounds := flag.Int("rounds", 5, "how often each is measured")
	cell := flag.String("cell", "", "measure this one cell and print it; for the program itself")
	flag.Parse()
	var err error
	if *cell != "" {
		err = measure(*cell)
	} else {
		err = run(*rows, *all, *sizes, *dir, *codexBin, *rounds)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "listing:", err)
		os.Exit(1)
	}
}

func run(rows string, all bool, sizes, dir, codexBin string, rounds int) (err error) {
	var b bench
	for size := range strings.SplitSeq(sizes, ",") {
		n, err := strconv.Atoi(size)
		if err != nil {
			return err
		}
		b.sizes = append(b.sizes, n)
	}
	if b.dir = dir; dir == "" {
		if b.dir, err = os.MkdirTemp("", "rollout-bench-listing-*"); err != nil {
			return err
		}
		defer os.RemoveAll(b.dir)
	}
	if b.self, err = os.Executable(); err != nil {
		return err
	}
	b.rounds = rounds
	b.codex, b.codexName, b.codexMissing = codex.Find(codexBin)
	if all {
		return b.table()
	}
	var results []row.Result
	for r := range strings.SplitSeq(rows, ",") {
		var lines []row.Result
		switch r {
		case "3":
			lines, err = b.row3()
		case "7":
			lines, err = b.row7()
		default:
			err = errors.New("there is no such row here")
		}
		if err != nil {
			return fmt.Errorf("row %s: %w", r, err)
		}
		results = append(results, lines...)
	}
	return row.Report(results...)
}

type bench struct {
	sizes        []int
	dir          string
	rounds       int
	self         string
	codex        string
	codexName    string
	codexMissing error
}

// A kind is a shape of home or mirror.
type kind struct {
	name string
	tree.Options
	mirror bool
}

// kindsOf returns what is measured with n sessions.
func kindsOf(n int) []kind {
	days := 365
	if n > 500_000 {
		days = 1000
	}
	o := tree.Options{Sessions: n, Days: days, Prompt: 20_000, Body: 20_000} // as large as those of Codex 0.118
	if n > 100_000 {
		o.Prompt, o.Body = 500, 1000 // a disk is only so large
	}
	half := o
	half.Archived, half.Prompt, half.Body = 0.5, 500, 1000
	return []kind{{"home", o, false}, {"home, half archived", half, false}, {"mirror", o, true}}
}

// ops are what is measured, in this order.
var ops = []string{
	"first page", "first page, cold", "tenth page", "by update", "cwd hit", "cwd miss", "cwd miss, cold", "id hit", "id miss", "name miss",
	"all ids", "heads read and no more",
}

// barePage is what the first page cannot be had without.
const barePage = "first page, bare"

// A result is a cell.
type result struct {
	Time     time.Duration
	Items    int
	Opened   int64 // files, or objects
	Requests int64 // to the mirror, or directories listed
	RSS      int64 // bytes
}

// home returns where the home of a kind is, which it makes unless it is there.
func (b *bench) home(k kind) (string, error) {
	home := filepath.Join(b.dir, fmt.Sprintf("%d-%v-%d", k.Sessions, k.Archived, k.Body))
	return home, k.prepare(home)
}

func (b *bench) table() error {
	fmt.Printf("%-22s %-24s %10s %10s %8s %8s %8s %6s\n", "", "", "median", "max", "opened", "lists", "RSS MB", "items")
	for _, n := range b.sizes {
		for _, k := range kindsOf(n) {
			home, err := b.home(k)
			if err != nil {
				return err
			}
			for _, op := range ops {
				if k.mirror && (strings.HasSuffix(op, "cold") || op == "heads read and no more") {
					continue
				}
				var results []result
				op, cold := strings.CutSuffix(op, ", cold")
				for i := range b.rounds + 1 {
					if cold && dropCaches() != nil {
						break // not root
					}
					r, err := k.run(b.self, home, op)
					if err != nil {
						return fmt.Errorf("%s, %d, %s: %w", k.name, n, op, err)
					}
					if i > 0 { // the first one has read it into the page cache
						results = append(results, r)
					}
				}
				if cold {
					op += ", cold"
				}
				if len(results) == 0 {
					continue
				}
				slices.SortFunc(results, func(a, b result) int { return int(a.Time - b.Time) })
				m := results[len(results)/2]
				fmt.Printf("%-22s %-24s %10s %10s %8d %8d %8.1f %6d\n", fmt.Sprintf("%s, %d", k.name, n), op,
					short(m.Time), short(results[len(results)-1].Time), m.Opened, m.Requests, float64(m.RSS)/1e6, m.Items)
			}
			if b.codexMissing == nil && !k.mirror && k.Archived == 0 && n <= 50_000 {
				if err := compareCodex(b.codex, home, k.Options); err != nil {
					return fmt.Errorf("codex: %w", err)
				}
			}
		}
	}
	return nil
}

func short(d time.Duration) string {
	switch {
	case d < 10*time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	case d < time.Second:
		return d.Round(time.Millisecond).String()
	}
	return d.Round(10 * time.Millisecond).String()
}

// prepare makes a home unless it is there.
func (k kind) prepare(home string) error {
	if k.mirror {
		return nil
	}
	done := filepath.Join(home, "made")
	if _, err := os.Stat(done); err == nil {
		return nil
	}
	if err := tree.Make(home, k.Options); err != nil {
		return err
	}
	return os.WriteFile(done, nil, 0o600)
}

func dropCaches() error {
	return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0)
}

// A job is what a process of its own is told to measure.
type job struct {
	Home string
	Op   string
	tree.Options
	Mirror bool
}

func (k kind) run(self, home, op string) (result, error) {
	spec, err := json.Marshal(job{home, op, k.Options, k.mirror})
	if err != nil {
		return result{}, err
	}
	cmd := exec.Command(self, "-cell", string(spec))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return result{}, err
	}
	var r result
	if err := json.Unmarshal(out, &r); err != nil {
		return result{}, err
	}
	return r, nil
}

// measure runs one job and prints its result.
func measure(spec string) error {
	var j job
	if err := json.Unmarshal([]byte(spec), &j); err != nil {
		return err
	}
	ctx := context.Background()
	c := &lazy.Counting{}
	where := listing.Local
	if j.Mirror {
		c.Source, where = mirror(j.Options), listing.Mirror
	} else {
		st, err := local.Open(j.Home, nil)
		if err != nil {
			return err
		}
		defer st.Close()
		c.Source = st
	}
	places := []listing.Place{{Where: where, Source: c}}
	pages := func(q listing.Query, n int) (r listing.Result, err error) {
		for range n {
			c.Reset()
			start = time.Now()
			if r, err = listing.Page(ctx, places, q); err != nil {
				return r, err
			}
			q.Cursor = r.Next
		}
		return r, nil
	}
	mid := j.At(j.Sessions / 2)
	absent := mid.ID
	absent[15]++
	items := 0
	start = time.Now()
	var r listing.Result
	var err error
	switch j.Op {
	case "first page":
		r, err = pages(listing.Query{}, 1)
	case barePage:
		items, err = firstHeads(j.Home, page)
	case "tenth page":
		r, err = pages(listing.Query{}, 10)
	case "by update":
		r, err = pages(listing.Query{Order: listing.Updated}, 1)
	case "cwd hit":
		r, err = pages(listing.Query{Cwd: tree.Cwd(7)}, 1)
	case "cwd miss":
		r, err = pages(listing.Query{Cwd: "/nowhere"}, 1)
	case "id hit":
		_, err = listing.Find(ctx, places, mid.ID.String())
		items = 1
	case "id miss":
		err = missing(listing.Find(ctx, places, absent.String()))
	case "name miss":
		err = missing(listing.Find(ctx, places, "no such name"))
	case "all ids":
		for _, err = range listing.All(ctx, places, listing.Query{Light: true}) {
			if err != nil {
				break
			}
			if items++; j.Mirror && items == 10_000 {
				break // a made-up mirror is slow
			}
		}
	case "heads read and no more":
		items, err = readHeads(j.Home)
	default:
		err = fmt.Errorf("no op %q", j.Op)
	}
	if err != nil {
		return err
	}
	took := time.Since(start)
	return json.NewEncoder(os.Stdout).Encode(result{
		Time: took, Items: items + len(r.Items), Opened: c.Opened.Load(), Requests: c.Lists.Load(), RSS: codex.Peak("self"),
	})
}

// start is when what is measured began.
var start time.Time

func missing(_ listing.Item, err error) error {
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("found what is not there: %w", err)
}

// readHeads does what cannot be avoided to read every head: it opens and reads the
// first 64 KiB of every file, one after the other.
func readHeads(home string) (n int, err error) {
	buf := make([]byte, 64<<10)
	err = filepath.WalkDir(filepath.Join(home, "sessions"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n++
		return readHead(path, buf)
	})
	return n, err
}

// firstHeads does that for the newest files, at most so many.
func firstHeads(home string, most int) (n int, err error) {
	buf := make([]byte, 64<<10)
	var below func(string) error
	below = func(dir string) error {
		entries, err := os.ReadDir(dir) // in order
		if err != nil {
			return err
		}
		for _, e := range slices.Backward(entries) {
			path := filepath.Join(dir, e.Name())
			switch {
			case n == most:
				return nil
			case e.IsDir():
				err = below(path)
			default:
				n++
				err = readHead(path, buf)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	return n, below(filepath.Join(home, "sessions"))
}

func readHead(path string, buf []byte) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.ReadFull(f, buf); err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && err != io.EOF {
		return err
	}
	return nil
}
