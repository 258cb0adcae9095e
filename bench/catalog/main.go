// Command catalog measures what a mirror's catalog spares a listing: time, requests
// and bytes of each filter, beside the same by the heads of the sessions.
//
//	go run ./catalog [-sessions N] [-days N] [-origins N] [-sample N] [-dir DIR]
//
// The sessions are made up as they are read (bench/lazy); the catalog and the facts of
// the homes are real files, made by what a push makes them by; if DIR is given, they are
// kept there for the next time. Requests are those to an object store: a LIST has 1000 names, and a
// GET is the first 32 KiB, or the rest. The same in memory takes no time, so the times
// are those of the program, and of making up the sessions that it opens.
//
// "heads" is a listing without the catalog, "catalog" the command's, and "cached" one
// with all files of the catalog on this machine. Each is a process of its own, so that
// its memory can be told, and all three have to find the same, to the byte. Before that
// a sample of the catalog's rows is held against their sessions.
package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"iter"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"reflect"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/rollout-sync/rollout/bench/codex"
	"github.com/rollout-sync/rollout/bench/lazy"
	"github.com/rollout-sync/rollout/bench/tree"
	"github.com/rollout-sync/rollout/catalog"
	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/local"
)

// A job is what a process of its own is told to measure.
type job struct {
	Dir                     string
	Sessions, Days, Origins int
	How, What               string
}

func (j job) team() *team {
	return newTeam(tree.Options{Sessions: j.Sessions, Days: j.Days}, j.Origins)
}

// A result is what it has measured.
type result struct {
	Time            time.Duration
	Gets, Lists     int64
	Bytes           int64
	RSS             int64
	Found, LookedAt int
	Opened          int64 // sessions
	Damaged         int   // files of the catalog
	Sum             [sha256.Size]byte
}

// ways are how a listing knows what is in a session.
var ways = []string{"heads", "catalog", "cached"}

func main() {
	var j job
	flag.IntVar(&j.Sessions, "sessions", 1_000_000, "in the mirror")
	flag.IntVar(&j.Days, "days", 365, "over which they are spread")
	flag.IntVar(&j.Origins, "origins", 10, "homes that pushed them")
	sample := flag.Int("sample", 10_000, "rows that are held against their sessions")
	dir := flag.String("dir", "", "where the files of the mirror are made and kept (default: a temporary directory, which is removed)")
	only := flag.String("filters", "", "measure only those with this in their `name`")
	cell := flag.String("cell", "", "measure this one cell and print it; for the program itself")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	if *cell != "" {
		err = measure(ctx, *cell)
	} else {
		err = run(ctx, j, *sample, *dir, *only)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "catalog:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, j job, sample int, dir, only string) (err error) {
	if dir == "" {
		if dir, err = os.MkdirTemp("", "rollout-bench-catalog-*"); err != nil {
			return err
		}
		defer os.RemoveAll(dir)
	}
	j.Dir = filepath.Join(dir, fmt.Sprintf("%d-%d-%d", j.Sessions, j.Days, j.Origins))
	if err := j.make(ctx); err != nil {
		return err
	}
	if err := j.check(ctx, sample); err != nil {
		return err
	}
	const format = "%-28s %-8s %9v %9v %6v %9v %9v %7v %10v %6v\n"
	fmt.Printf(format, "filter", "by", "time", "GET", "LIST", "MB read", "opened", "RSS MB", "looked at", "found")
	for _, f := range filters() {
		if !strings.Contains(f.name, only) {
			continue
		}
		var first result
		for i, how := range ways {
			j.How, j.What = how, f.name
			r, err := j.run(ctx)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", f.name, how, err)
			}
			if i == 0 {
				first = r
			} else if r.Sum != first.Sum || r.Damaged > 0 {
				return fmt.Errorf("%s: by %s %d sessions, by %s %d, and not the same; %d damaged files", f.name, ways[0], first.Found, how, r.Found, r.Damaged)
			}
			fmt.Printf(format, f.name, how, r.Time.Round(time.Millisecond), r.Gets, r.Lists, fmt.Sprintf("%.1f", mb(r.Bytes)),
				r.Opened, r.RSS>>20, r.LookedAt, r.Found)
		}
	}
	return nil
}

// make makes the files of the mirror unless they are there, and tells of them.
func (j job) make(ctx context.Context) error {
	done := filepath.Join(j.Dir, "made")
	told, err := os.ReadFile(done)
	if errors.Is(err, fs.ErrNotExist) {
		begin := time.Now()
		m, err := j.team().write(ctx, j.Dir)
		if err != nil {
			return err
		}
		told = fmt.Appendf(nil, "%d sessions of %d homes in %d days: %d files of the catalog, %.1f MB, and %d of facts, %.1f MB, made in %v\n",
			j.Sessions, j.Origins, j.Days, m.catalogFiles.Load(), mb(m.catalogBytes.Load()), m.factsFiles.Load(), mb(m.factsBytes.Load()), time.Since(begin).Round(time.Second))
		if err := os.WriteFile(done, told, 0o600); err != nil {
			return err
		}
	} else if err != nil {
		return err
	}
	_, err = os.Stdout.Write(told)
	return err
}

func mb(n int64) float64 { return float64(n) / 1e6 }

// run measures in a process of its own.
func (j job) run(ctx context.Context) (r result, err error) {
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	spec, err := json.Marshal(j)
	if err != nil {
		return r, err
	}
	cmd := exec.CommandContext(ctx, self, "-cell", string(spec))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(out, &r)
}

// A filter is what is measured.
type filter struct {
	name  string
	query listing.Query
}

// filters have their names by how many sessions they select.
func filters() []filter {
	month := time.Date(2026, 6, 1, 0, 0, 0, 0, time.UTC)
	june := listing.Query{Since: month, Until: month.AddDate(0, 1, 0)}
	repository := june
	repository.Origin, repository.Limit = "team/project-007", 1_000_000
	return []filter{
		{"none", listing.Query{}},
		{"none, by update", listing.Query{Order: listing.Updated}},
		{"cwd of 1 in 200", listing.Query{Cwd: tree.Cwd(7)}},
		{"cwd of 20", listing.Query{Cwd: "/home/user/rare"}},
		{"cwd of none", listing.Query{Cwd: "/nowhere"}},
		{"name of 20", listing.Query{Name: "rare one"}},
		{"subagents only", listing.Query{Subagents: listing.Only}},
		{"archived only", listing.Query{Archived: listing.Only}},
		{"a month, first page", june},
		{"a month and repository, all", repository},
		{"model of 20", listing.Query{Models: []string{"rare"}}},
		{"provider of 20", listing.Query{Providers: []string{"rare"}}},
		{"branch of 20", listing.Query{Branch: "rare"}},
		{"repository of 20", listing.Query{Origin: "team/rare"}},
		{"text of 20", listing.Query{Text: "rare needle"}},
		{"source of 20", listing.Query{Sources: []string{"mcp"}}},
	}
}

// measure runs one job and prints its result.
func measure(ctx context.Context, spec string) error {
	var j job
	if err := json.Unmarshal([]byte(spec), &j); err != nil {
		return err
	}
	debug.SetMemoryLimit(192 << 20) // as the command does
	m, err := j.open()
	if err != nil {
		return err
	}
	defer m.Close()
	sessions := &lazy.Counting{Source: m.sessions}
	counting := &lazy.Counting{Source: mirrorSource{sessions, m.files}}
	var r result
	facts := mirror.NewFacts(counting)
	place := listing.Place{
		Where: listing.Mirror, Source: counting,
		Describe: func(ctx context.Context, _ string, n codec.Name) (listing.Description, error) {
			f, err := facts.Best(ctx, n, "", "")
			return listing.Description{Path: f.Path, Archived: f.Archived, Name: f.Name}, err
		},
	}
	var cache catalog.Cache
	switch j.How {
	case "cached":
		cache = onDisk(j.Dir)
		fallthrough
	case "catalog":
		place.Known = catalog.NewReader(counting, cache, func(string, error) { r.Damaged++ }).Known
	}
	var q listing.Query
	for _, f := range filters() {
		if f.name == j.What {
			q = f.query
		}
	}
	q.Preview = -1
	begin := time.Now()
	page, err := listing.Page(ctx, []listing.Place{place}, q)
	if err != nil {
		return err
	}
	r.Time = time.Since(begin)
	text, err := json.Marshal(page.Items)
	if err != nil {
		return err
	}
	r.Sum = sha256.Sum256(append(text, page.Next...))
	r.Found, r.LookedAt, r.Opened = len(page.Items), page.Scanned, sessions.Opened.Load()
	r.Gets, r.Lists, r.Bytes = counting.Gets.Load(), counting.Lists.Load(), counting.Bytes.Load()
	r.RSS = codex.Peak("self")
	return json.NewEncoder(os.Stdout).Encode(r)
}

// onDisk is a cache that has all files of the catalog: those of the mirror.
type onDisk string

func (dir onDisk) File(_ context.Context, name, _ string) ([]byte, bool) {
	p, err := os.ReadFile(filepath.Join(string(dir), filepath.FromSlash(name)))
	return p, err == nil
}

func (onDisk) KeepFile(string, string, []byte) {}

// check holds rows of the catalog, so many of all, against their sessions.
func (j job) check(ctx context.Context, sample int) error {
	m, err := j.open()
	if err != nil {
		return err
	}
	defer m.Close()
	rnd := rand.New(rand.NewPCG(1, 8))
	all, left := j.Sessions, min(sample, j.Sessions)
	checked := 0
	objects := map[string]bool{}
	err = filepath.WalkDir(filepath.Join(j.Dir, filepath.FromSlash(catalog.Dir)), func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		p, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rows, err := catalog.Decode(p)
		if err != nil {
			return err
		}
		for _, r := range rows {
			// Each has the same chance.
			if rnd.IntN(max(all, 1)) < left {
				left--
				checked++
				objects[r.Object] = true
				if err := same(ctx, m, r); err != nil {
					return fmt.Errorf("%s: %s: %w", name, r.Object, err)
				}
			}
			all--
		}
		return nil
	})
	if err != nil {
		return err
	}
	if all != 0 || len(objects) != checked {
		return fmt.Errorf("%d sessions more than rows, and of %d rows %d objects", all, checked, len(objects))
	}
	fmt.Printf("%d rows of %d say what their sessions do\n", checked, j.Sessions)
	return nil
}

// same returns an error unless r says what a listing takes from its session.
func same(ctx context.Context, m *openMirror, r catalog.Row) error {
	k, ok := r.Known()
	if !ok {
		return errors.New("the row does not say all")
	}
	f, err := m.sessions.Open(ctx, strings.TrimSuffix(r.Object, ".zst"))
	if err != nil {
		return err
	}
	defer f.Close()
	content, err := f.Range(ctx, 0, -1)
	if err != nil {
		return err
	}
	defer content.Close()
	h, err := codec.ReadHead(content)
	if err != nil {
		return err
	}
	i := f.Info()
	if !reflect.DeepEqual(k.Head, h) {
		return fmt.Errorf("head %+v, want %+v", k.Head, h)
	}
	if k.Info.Size != i.Size || !k.Info.ModTime.Equal(i.ModTime) || !reflect.DeepEqual(k.Info.Meta, i.Meta) || r.Version != i.Version || r.StoredSize != i.Stored {
		return fmt.Errorf("%+v of %s, %d bytes, want %+v", k.Info, r.Version, r.StoredSize, i)
	}
	return nil
}

// An openMirror is sessions that are made up, and the files beside them.
type openMirror struct {
	sessions lazy.Source
	files    *local.Store
}

func (j job) open() (*openMirror, error) {
	files, err := local.Open(j.Dir, nil)
	if err != nil {
		return nil, err
	}
	return &openMirror{j.team().objects(), files}, nil
}

func (m *openMirror) Close() error { return m.files.Close() }

// mirrorSource is both.
type mirrorSource struct {
	sessions store.Source
	files    store.Source
}

func (m mirrorSource) of(name string) store.Source {
	if name == "sessions" || strings.HasPrefix(name, "sessions/") {
		return m.sessions
	}
	return m.files
}

func (m mirrorSource) Open(ctx context.Context, name string) (store.File, error) {
	return m.of(name).Open(ctx, name)
}

func (m mirrorSource) List(ctx context.Context, dir string, o store.ListOptions) iter.Seq2[store.Entry, error] {
	return m.of(dir).List(ctx, dir, o)
}
