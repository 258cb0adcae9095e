package main

import (
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/replay"
)

func (a *app) statsCommand() *cobra.Command {
	var (
		q             listing.Query
		sel           filter
		where, format string
		by            []string
	)
	cmd := &cobra.Command{
		Use:   "stats",
		Short: "Sum up sessions: turns, calls, tokens and bytes by day, model, repository or machine",
		Long: `Stats sums up the rollouts that "list" would show, of the home and the mirror, each
once: how many there are, their turns, calls of tools, tokens and bytes. It reads those
of the home, and takes those that are in the mirror alone from the mirror's catalog,
or reads them where that has none.

A session belongs to the day, in local time, on which it was created, to the model
and the repository that it began with, and to the machine whose home has it or, if it
is only in the mirror, from which it was pushed last. A fork that copied what it
began with has its numbers, too.

Input tokens include the cached ones, and output tokens those of reasoning. Bytes are
those of the sessions, and what their copies take in the mirror.

The table has round numbers, as many of them as fit the terminal. Those in csv (RFC
4180) and json (an object a line) are exact; their members only ever become more.`,
		Example: `  rollout-sync stats --since 30d
  rollout-sync stats --by repository,model --since 2026-11-01
  rollout-sync stats --by day --format csv > days.csv
  rollout-sync stats --by machine --where mirror --format json | jq -s 'max_by(.total_tokens)'`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := sel.apply(&q); err != nil {
				return err
			}
			return a.stats(cmd.Context(), q, where, by, format)
		},
	}
	f := cmd.Flags()
	sel.flags(f, &q)
	f.StringVar(&where, "where", "any", "only what is in this `place`: local, mirror or any")
	f.StringSliceVar(&by, "by", []string{"day"}, "a line for each of these `groups`: day, model, repository, machine, or several of them joined by commas")
	f.StringVar(&format, "format", "table", "how: `table`, csv or json")
	return cmd
}

// A total is what rollouts have together.
type total struct {
	Sessions int64 `json:"sessions"`
	Turns    int64 `json:"turns"`
	Calls    int64 `json:"calls"`
	codec.TokenUsage
	PlainSize  int64 `json:"plain_size"`
	StoredSize int64 `json:"stored_size"`
}

func (t *total) add(o total) {
	t.Sessions += o.Sessions
	t.Turns += o.Turns
	t.Calls += o.Calls
	t.Input += o.Input
	t.CachedInput += o.CachedInput
	t.CacheWriteInput += o.CacheWriteInput
	t.Output += o.Output
	t.ReasoningOutput += o.ReasoningOutput
	t.Total += o.Total
	t.PlainSize += o.PlainSize
	t.StoredSize += o.StoredSize
}

// A group is the rollouts that have the same in what they are grouped by.
type group struct {
	names []string // "" is not known
	total
}

// A grouper tells what of a rollout it is grouped by; "" if that is not known.
type grouper func(context.Context, listing.Item, replay.Summary) (string, error)

func (a *app) stats(ctx context.Context, q listing.Query, where string, by []string, format string) error {
	write := map[string]func([]string, []*group) error{"table": a.statsTable, "csv": a.statsCSV, "json": a.statsJSON}[format]
	if write == nil {
		return usagef("--format %q: is none of table, csv and json", format)
	}
	for i, name := range by {
		if !slices.Contains([]string{"day", "model", "repository", "machine"}, name) || slices.Contains(by[:i], name) {
			return usagef("--by %q: give day, model, repository and machine, each once", strings.Join(by, ","))
		}
	}
	if len(by) == 0 {
		return usagef("--by: give day, model, repository or machine")
	}
	p, err := a.openPlaces(ctx, where)
	if err != nil {
		return err
	}
	defer p.Close()
	if x := a.indexOf(p, false); x != nil {
		defer x.Close()
	}
	groupers := make([]grouper, len(by))
	for i, name := range by {
		switch name {
		case "day":
			groupers[i] = dayOf
		case "model":
			groupers[i] = modelOf
		case "repository":
			groupers[i] = repositoryOf
		case "machine":
			if groupers[i], err = a.machines(p); err != nil {
				return err
			}
		}
	}
	a.json = format != "table" // nothing else is for people, then
	var done mirror.Progress
	stop := a.watch(&done, "read")
	defer stop()
	s := statistics{groups: map[string]*group{}, by: groupers, summary: p.summary, failed: func(it listing.Item, err error) {
		fmt.Fprintln(a.err, about(it.Path, err))
	}, done: &done}
	err = s.collect(ctx, p.list, q)
	stop()
	if err != nil {
		return err
	}
	groups := slices.SortedFunc(maps.Values(s.groups), func(a, b *group) int { return slices.CompareFunc(a.names, b.names, compareNames) })
	if err := write(by, groups); err != nil {
		return err
	}
	return s.err(ctx)
}

// compareNames has what is not known last.
func compareNames(a, b string) int {
	if a == "" || b == "" {
		a, b = b, a
	}
	return strings.Compare(a, b)
}

func dayOf(_ context.Context, it listing.Item, _ replay.Summary) (string, error) {
	if it.Created == nil {
		return "", nil
	}
	return it.Created.In(time.Local).Format(time.DateOnly), nil
}

// modelOf also finds a model that comes behind the head.
func modelOf(_ context.Context, it listing.Item, sum replay.Summary) (string, error) {
	if it.Model == nil && len(sum.Models) > 0 {
		return sum.Models[0], nil
	}
	return deref(it.Model), nil
}

func repositoryOf(_ context.Context, it listing.Item, _ replay.Summary) (string, error) {
	if it.Git == nil {
		return "", nil
	}
	return listing.Repository(deref(it.Git.Origin)), nil
}

// machines returns the grouper by the origin of rollouts.
func (a *app) machines(p *places) (grouper, error) {
	own, err := a.originID(false)
	if err != nil {
		return nil, err
	}
	facts := mirror.NewFacts(p.mirror)
	return func(ctx context.Context, it listing.Item, _ replay.Summary) (string, error) {
		if it.Where != listing.Mirror {
			return cmp.Or(a.machine(), own), nil
		}
		n, err := codec.ParseName(path.Base(it.Path))
		if err != nil {
			return "", err
		}
		told, err := facts.Of(ctx, n)
		newest := ""
		for origin, fact := range told {
			if newest == "" || fact.ModTime.After(told[newest].ModTime) || fact.ModTime.Equal(told[newest].ModTime) && origin < newest {
				newest = origin
			}
		}
		return cmp.Or(told[newest].Machine, newest), err
	}, nil
}

// statistics sums up rollouts by groups.
type statistics struct {
	by []grouper
	// summary returns what a rollout has. It and by are called concurrently.
	summary func(context.Context, listing.Item) (replay.Summary, error)
	failed  func(listing.Item, error) // is told of each failure, one at a time
	done    *mirror.Progress

	mu       sync.Mutex
	groups   map[string]*group // by their names
	failures []error
}

// readers is how many rollouts are read at a time.
const readers = 4

// collect sums up what q selects. A rollout that fails counts with what is known of it.
func (s *statistics) collect(ctx context.Context, in []listing.Place, q listing.Query) error {
	q.Preview = -1
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(readers)
	for it, err := range listing.All(ctx, in, q) {
		if err != nil {
			return errors.Join(err, g.Wait())
		}
		g.Go(func() error {
			s.add(ctx, it)
			return ctx.Err()
		})
	}
	return g.Wait()
}

func (s *statistics) add(ctx context.Context, it listing.Item) {
	sum, err := s.summary(ctx, it)
	names := make([]string, len(s.by))
	for i, by := range s.by {
		var e error
		names[i], e = by(ctx, it, sum)
		err = errors.Join(err, e)
	}
	if ctx.Err() != nil {
		return
	}
	t := total{Sessions: 1, Turns: int64(sum.Turns), Calls: int64(sum.Calls), TokenUsage: sum.Tokens, PlainSize: sum.Size}
	if it.StoredSize != nil {
		t.StoredSize = *it.StoredSize
	}
	s.done.Done.Add(1)
	s.done.Sent.Add(sum.Size)
	s.mu.Lock()
	defer s.mu.Unlock()
	key := strings.Join(names, "\x00")
	of := s.groups[key]
	if of == nil {
		of = &group{names: names}
		s.groups[key] = of
	}
	of.add(t)
	if err != nil {
		s.failures = append(s.failures, err)
		s.failed(it, err)
	}
}

// err is what the command returns that told of the failures already.
func (s *statistics) err(ctx context.Context) error {
	return failed(ctx, s.failures, func(err error) error { return err }, "sessions are damaged")
}

// summary reads an item and sums it up: with an error, as far as it got.
func (p *places) summary(ctx context.Context, it listing.Item) (replay.Summary, error) {
	src, name, err := p.source(it)
	if err != nil {
		return replay.Summary{}, err
	}
	if it.Newest() == listing.Mirror && it.Version != "" {
		n, err := codec.ParseName(path.Base(name))
		if err != nil {
			return replay.Summary{}, err
		}
		if row, ok := p.rows.Row(ctx, name, n, it.Version); ok {
			return row.Summary(), nil
		}
	}
	f, err := src.Open(ctx, name)
	if err != nil {
		return replay.Summary{}, err
	}
	defer f.Close()
	r, err := f.Range(ctx, 0, -1)
	if err != nil {
		return replay.Summary{}, err
	}
	s := replay.NewSummarizer()
	_, err = io.CopyBuffer(s, struct{ io.Reader }{r}, make([]byte, 256<<10))
	return s.Sum(), errors.Join(err, r.Close())
}

// figures are what there is to tell of a group, in the order of csv.
var figures = []struct {
	name string // in csv, and in json
	of   func(*total) int64

	title string             // in the table; "" is not in it
	text  func(int64) string // there
	spare int                // the greater, the sooner it is left out of a narrow table; 0: never
}{
	{"sessions", func(t *total) int64 { return t.Sessions }, "SESSIONS", round, 0},
	{"turns", func(t *total) int64 { return t.Turns }, "TURNS", round, 3},
	{"calls", func(t *total) int64 { return t.Calls }, "CALLS", round, 4},
	{"input_tokens", func(t *total) int64 { return t.Input }, "INPUT", round, 2},
	{"cached_input_tokens", func(t *total) int64 { return t.CachedInput }, "CACHED", round, 7},
	{"cache_write_input_tokens", func(t *total) int64 { return t.CacheWriteInput }, "", nil, 0},
	{"output_tokens", func(t *total) int64 { return t.Output }, "OUTPUT", round, 1},
	{"reasoning_output_tokens", func(t *total) int64 { return t.ReasoningOutput }, "REASONING", round, 8},
	{"total_tokens", func(t *total) int64 { return t.Total }, "TOKENS", round, 6},
	{"plain_size", func(t *total) int64 { return t.PlainSize }, "SIZE", size, 2},
	{"stored_size", func(t *total) int64 { return t.StoredSize }, "STORED", size, 5},
}

func (a *app) statsCSV(by []string, groups []*group) error {
	w := csv.NewWriter(a.out)
	w.UseCRLF = true // RFC 4180
	head := slices.Clone(by)
	for _, f := range figures {
		head = append(head, f.name)
	}
	lines := [][]string{head}
	for _, g := range groups {
		var line []string
		for _, name := range g.names {
			line = append(line, clean(name))
		}
		for _, f := range figures {
			line = append(line, strconv.FormatInt(f.of(&g.total), 10))
		}
		lines = append(lines, line)
	}
	return w.WriteAll(lines)
}

// statsLine is a line of stats --format json. Null is what is not known, and what the
// sessions are not grouped by.
type statsLine struct {
	Day        *string `json:"day"`
	Model      *string `json:"model"`
	Repository *string `json:"repository"`
	Machine    *string `json:"machine"`
	total
}

func (a *app) statsJSON(by []string, groups []*group) error {
	for _, g := range groups {
		line := statsLine{total: g.total}
		for i, name := range g.names {
			if name != "" {
				*map[string]**string{"day": &line.Day, "model": &line.Model, "repository": &line.Repository, "machine": &line.Machine}[by[i]] = &name
			}
		}
		a.print(line)
	}
	return nil
}

func (a *app) statsTable(by []string, groups []*group) error {
	if len(groups) == 0 {
		fmt.Fprintln(a.err, "no session found")
		return nil
	}
	_, err := io.WriteString(a.out, renderStats(by, groups, width(a.out), colours(a.out)))
	return err
}

// renderStats returns a table of groups, and their sum below if there are several. It
// is at most width columns wide, unless that is 0.
func renderStats(by []string, groups []*group, width int, colours bool) string {
	rows := make([][]string, len(groups)+2)
	spare := make([]int, len(by)) // of each column
	for i, name := range by {
		rows[0] = append(rows[0], strings.ToUpper(name))
		for j, g := range groups {
			rows[j+1] = append(rows[j+1], cmp.Or(clean(g.names[i]), "-"))
		}
		rows[len(groups)+1] = append(rows[len(groups)+1], []string{"total", ""}[min(i, 1)])
	}
	all := new(group)
	for _, g := range groups {
		all.add(g.total)
	}
	for _, f := range figures {
		if f.title == "" {
			continue
		}
		rows[0] = append(rows[0], f.title)
		for i, g := range append(groups[:len(groups):len(groups)], all) {
			rows[i+1] = append(rows[i+1], f.text(f.of(&g.total)))
		}
		spare = append(spare, f.spare)
	}
	if len(groups) == 1 {
		rows = rows[:2]
	}
	var widths []int
	for i := range spare {
		widths = append(widths, 0)
		for _, row := range rows {
			widths[i] = max(widths[i], runewidth.StringWidth(row[i]))
		}
	}
	if width > 0 {
		widths = fit(rows, spare, widths, len(by), width)
	}
	var b strings.Builder
	for n, row := range rows {
		var cells []string
		for i, text := range row {
			if i < len(by) {
				text = runewidth.FillRight(cutLeft(text, widths[i]), widths[i])
			} else {
				text = runewidth.FillLeft(text, widths[i])
			}
			cells = append(cells, text)
		}
		line := strings.Join(cells, gap)
		if colours && (n == 0 || n == len(groups)+1) {
			line = "\x1b[" + map[bool]string{true: "2", false: "1"}[n == 0] + "m" + line + "\x1b[0m"
		}
		b.WriteString(line + "\n")
	}
	return b.String()
}

// fit has the columns of a table fit into width, and returns their widths: names, the
// first ones, are cut to a quarter of it, then figures are left out, then names get
// what room there is.
func fit(rows [][]string, spare, widths []int, names, width int) []int {
	full := slices.Clone(widths[:names])
	room := func() int {
		left := width + len(gap)
		for _, w := range widths {
			left -= w + len(gap)
		}
		return left
	}
	if room() < 0 {
		for i := range names {
			widths[i] = min(widths[i], max(10, width/4))
		}
	}
	for most := slices.Max(spare); room() < 0 && most > 0; most = slices.Max(spare) {
		i := slices.Index(spare, most)
		spare, widths = slices.Delete(spare, i, i+1), slices.Delete(widths, i, i+1)
		for j := range rows {
			rows[j] = slices.Delete(rows[j], i, i+1)
		}
	}
	for i := range names {
		widths[i] = min(full[i], max(1, widths[i]+room()))
	}
	return widths
}

// round prints a number for people.
func round(n int64) string {
	if n < 10_000 {
		return strconv.FormatInt(n, 10)
	}
	v, prefix := float64(n)/1000, 0
	for v >= 999.95 && prefix < len("kMGTPE")-1 {
		v, prefix = v/1000, prefix+1
	}
	return fmt.Sprintf("%.1f%c", v, "kMGTPE"[prefix])
}
