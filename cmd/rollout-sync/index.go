package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"path/filepath"
	"runtime"
	"sync"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/index"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/search"
	"github.com/rollout-sync/rollout/store"
)

func (a *app) indexCommand() *cobra.Command {
	var (
		q       listing.Query
		sel     filter
		where   string
		rebuild bool
	)
	cmd := &cobra.Command{
		Use:   "index",
		Short: "Bring the index up to date that makes search fast",
		Long: `Index reads the sessions that are new in the home, or have changed, so that search
need not: it keeps on this machine which words are in each, in
$XDG_CACHE_HOME/rollout-sync/index.db (by default below ~/.cache). What is no longer
there is forgotten. With nothing to do it reads nothing, so it is good for cron.

With --where mirror or any it also reads the sessions that are in the mirror alone,
once; they are not kept.

The index is a cache, and no answer depends on it. It can be deleted at any time, and
it has the words of your sessions in it: only you can read it.`,
		Example: `  rollout-sync index
  rollout-sync index --where any --since 90d
  */15 * * * *  rollout-sync index --quiet    # in a crontab`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := sel.apply(&q); err != nil {
				return err
			}
			filtered := false
			cmd.Flags().VisitAll(func(f *pflag.Flag) {
				_, is := f.Annotations[isFilter]
				filtered = filtered || is && f.Changed
			})
			return a.index(cmd.Context(), where, q, filtered, rebuild)
		},
	}
	f := cmd.Flags()
	sel.flags(f, &q)
	f.StringVar(&where, "where", listing.Local, "only what is in this `place`: local, mirror or any")
	f.BoolVar(&rebuild, "rebuild", false, "forget everything first")
	a.reportFlags(cmd)
	return cmd
}

// An openIndex is the index for the home and the mirror.
type openIndex struct {
	*index.Index
	places map[string]*index.Place // by listing.Local and listing.Mirror
}

// openIndex opens the index and has the places know what is in there.
func (a *app) openIndex(p *places) (*openIndex, error) {
	home, err := filepath.Abs(a.home)
	if err != nil {
		return nil, err
	}
	mirror, err := a.mirrorURL()
	if err != nil {
		return nil, err
	}
	x, err := index.Open(filepath.Join(xdg("XDG_CACHE_HOME", ".cache"), "index.db"))
	if err != nil {
		return nil, err
	}
	all := map[string]*index.Place{listing.Local: x.Place(home), listing.Mirror: x.Place(mirror.String())}
	for i := range p.list {
		of := all[p.list[i].Where]
		p.list[i].Known, p.list[i].Learn = of.Known, of.Learn
		if p.list[i].Where == listing.Mirror {
			p.rows = a.catalogOf(p.mirror, of)
			p.list[i].Known = func(ctx context.Context, path string, n codec.Name, version string) (listing.Known, bool) {
				if k, ok := of.Known(ctx, path, n, version); ok {
					return k, true
				}
				return p.rows.Known(ctx, path, n, version)
			}
		}
	}
	return &openIndex{x, all}, nil
}

// indexOf is openIndex for what can do without: nil, of which it tells, if there is none.
func (a *app) indexOf(p *places, not bool) *openIndex {
	if not {
		return nil
	}
	x, err := a.openIndex(p)
	if err != nil {
		fmt.Fprintf(a.err, "warning: going on without the index: %s\n", oneLine(err))
		return nil
	}
	return x
}

func (x *openIndex) forSearch() map[string]search.Index {
	all := map[string]search.Index{}
	for where, p := range x.places {
		all[where] = p
	}
	return all
}

// name returns where an item is in a place.
func name(it listing.Item, where string) (string, error) {
	if where == listing.Local {
		return it.Path, nil
	}
	n, err := codec.ParseName(path.Base(it.Path))
	return mirror.Key(n, it.Path), err
}

// An indexRun is what the command does.
type indexRun struct {
	*openIndex
	places *places
	done   mirror.Progress

	mu      sync.Mutex
	indexed int
	failed  int
}

func (a *app) index(ctx context.Context, where string, q listing.Query, filtered, rebuild bool) error {
	p, err := a.openPlaces(ctx, where)
	if err != nil {
		return err
	}
	defer p.Close()
	x, err := a.openIndex(p)
	if err != nil {
		return err
	}
	if rebuild {
		err = x.Clear(ctx)
	}
	run := &indexRun{openIndex: x, places: p}
	if err == nil {
		err = a.runIndex(ctx, run, q, filtered)
	}
	if err := errors.Join(err, x.Close()); err != nil {
		return err
	}
	sessions, bytes := run.done.Done.Load(), run.done.Sent.Load()
	a.say(slog.LevelInfo, "summary", fmt.Sprintf("%d sessions, %d indexed (%s)", sessions, run.indexed, size(bytes)),
		slog.Int64("sessions", sessions), slog.Int("indexed", run.indexed), slog.Int64("bytes", bytes), slog.Int("failed", run.failed))
	if run.failed > 0 {
		return partial(run.failed, "sessions")
	}
	return nil
}

func (a *app) runIndex(ctx context.Context, run *indexRun, q listing.Query, filtered bool) error {
	stop := a.watch(&run.done, "sessions")
	defer stop()
	q.Preview = -1
	there := map[string]map[string]bool{listing.Local: {}, listing.Mirror: {}}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	var err error
	for it, e := range listing.All(gctx, run.places.list, q) {
		if err = e; err != nil {
			break
		}
		for where, names := range there {
			if it.Where == where || it.Where == listing.Both {
				if n, err := name(it, where); err == nil {
					names[n] = true
				}
			}
		}
		g.Go(func() error { return a.indexItem(gctx, run, it) })
	}
	err = errors.Join(err, g.Wait())
	if err == nil && !filtered {
		for _, of := range run.places.list {
			err = errors.Join(err, run.openIndex.places[of.Where].Retain(ctx, func(path string) bool { return there[of.Where][path] }))
		}
	}
	return err
}

// indexItem indexes a session unless it is. An error is of the index or the context.
func (a *app) indexItem(ctx context.Context, run *indexRun, it listing.Item) error {
	defer run.done.Done.Add(1)
	src, path, err := run.places.source(it)
	if err != nil {
		return nil // it has no name that could be in the index
	}
	of := run.openIndex.places[it.Newest()]
	if it.Version != "" && of.Has(ctx, path, it.Version) {
		return nil
	}
	err = of.Add(ctx, src, path)
	var failed *store.Error
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil && (ctx.Err() != nil || !errors.As(err, &failed)):
		return err
	}
	run.mu.Lock()
	defer run.mu.Unlock()
	if err != nil {
		run.failed++
		a.say(slog.LevelError, "session failed", about(path, err), slog.String("path", path), slog.String("error", oneLine(err)))
		return nil
	}
	run.indexed++
	run.done.Sent.Add(plainBytes(it))
	return nil
}

// plainBytes is how many bytes it takes to read an item, nearly.
func plainBytes(it listing.Item) int64 {
	const ratio = 6 // of plain bytes to stored ones
	switch {
	case it.PlainSize != nil:
		return *it.PlainSize
	case it.LocalSize != nil:
		return ratio * *it.LocalSize
	case it.StoredSize != nil:
		return ratio * *it.StoredSize
	}
	return 0
}

// unindexed are the sessions that a search had to read.
type unindexed struct {
	items []listing.Item
	count int
	bytes int64
}

// littleToIndex is how many bytes a search indexes by the way.
const littleToIndex = 64 << 20

func (u *unindexed) add(it listing.Item) {
	u.count++
	if u.bytes += plainBytes(it); u.bytes > littleToIndex {
		u.items = nil
		return
	}
	u.items = append(u.items, it)
}

// indexMissing indexes what a search had to read if it is little, else it says how to. A
// failure is none of the search: it read these sessions, and tells of those that it could
// not.
func (a *app) indexMissing(ctx context.Context, x *openIndex, p *places, missing *unindexed) {
	if missing.bytes > littleToIndex {
		fmt.Fprintf(a.err, "%d sessions had to be read, since they are not in the index; \"rollout-sync index\" makes the next search fast\n", missing.count)
		return
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, it := range missing.items {
		g.Go(func() error {
			src, path, err := p.source(it)
			if err == nil {
				_ = x.places[it.Newest()].Add(ctx, src, path) // what fails is read again the next time
			}
			return nil
		})
	}
	_ = g.Wait() // they return none
}
