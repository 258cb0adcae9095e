package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/mattn/go-runewidth"
	"github.com/spf13/cobra"

	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/replay"
	"github.com/rollout-sync/rollout/search"
)

type searchFlags struct {
	filter          filter
	where           string
	regexp, noIndex bool
	limit           int
	query           listing.Query
}

func (a *app) searchCommand() *cobra.Command {
	var flags searchFlags
	cmd := &cobra.Command{
		Use:   "search WORD…",
		Short: "Find words and phrases in sessions, newest first, of the home and the mirror",
		Long: `Search finds what was said and done: messages, reasoning, what tools were called
with and what they returned, changed files. All of the words have to be in one entry
of a session: one message, or one call with its output.

Each argument is a word, or a phrase if it has spaces or punctuation in it. It is
found in upper and lower case, and as whole words: "lock" is in "dead-lock" and in
"file_lock", but not in "deadlock". "lock*" is found in "locked", too. A space stands
for any white space. With --regexp each argument is a regular expression (RE2:
https://github.com/google/re2/wiki/Syntax; "(?i)" in front is for either case).

Sessions are shown newest first, each with its first hits: the turn, the line of
the rollout's file, and what stands around. "show ID --at LINE" shows what led there.
Of a session that is in the home and in the mirror the newer version is searched.

Nothing has to be indexed: what is not is read, in the mirror too. "rollout-sync index"
makes searches fast, and changes no answer. A search indexes what it had to read, if
that is little.

--json prints one object for each hit, with what list tells of its session and:

  turn, line    where it is, counted from 1 (turn 0: outside of any)
  time          when that line was written
  kind          user, assistant, reasoning, call, output, file, note, error, system
                or compaction
  match         what was found of the first argument
  before,after  what stands beside it; all three are at most some hundred bytes,
                with control characters made visible
  hits          how many the session has; at most 1000 of them are printed`,
		Example: `  rollout-sync search deadlock
  rollout-sync search "connection reset" retry --since 30d
  rollout-sync search "panic*" --cwd . --where local
  rollout-sync search -e 'TODO\(\w+\)' --repo acme/app
  rollout-sync search deadlock --json | jq -r '[.id, .turn, .match] | @tsv'`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.search(cmd.Context(), args, flags) },
	}
	f := cmd.Flags()
	flags.filter.flags(f, &flags.query)
	f.StringVar(&flags.where, "where", "any", "only what is in this `place`: local, mirror or any")
	f.BoolVarP(&flags.regexp, "regexp", "e", false, "the arguments are regular expressions")
	f.IntVar(&flags.limit, "limit", 25, "at most this `number` of sessions")
	f.StringVar(&flags.query.Cursor, "cursor", "", "go on after this `place`, which the search before has printed")
	f.BoolVar(&flags.noIndex, "no-index", false, "read every session, and index nothing")
	a.jsonFlag(cmd)
	return cmd
}

// How many hits of a session are shown, and printed as JSON.
const (
	shownHits = 3
	jsonHits  = 1000
)

func (a *app) search(ctx context.Context, args []string, flags searchFlags) error {
	parse := search.Parse
	if flags.regexp {
		parse = search.ParseRegexp
	}
	q, err := parse(args)
	if err != nil {
		return usagef("%w", err)
	}
	if flags.limit < 1 {
		return usagef("--limit %d: must be at least 1", flags.limit)
	}
	if err := flags.filter.apply(&flags.query); err != nil {
		return err
	}
	limitMemory(lessMemoryLimit)
	collectLess()
	p, err := a.openPlaces(ctx, flags.where)
	if err != nil {
		return err
	}
	defer p.Close()
	s := &search.Search{Query: q, Places: p.list, Filter: flags.query, Source: p.source, Hits: shownHits}
	if a.json {
		s.Hits = jsonHits
	}
	var missing unindexed
	x := a.indexOf(p, flags.noIndex)
	if x != nil {
		defer x.Close()
		s.Index, s.Unindexed = x.forSearch(), missing.add
	}
	shown, failed, last := 0, 0, ""
	found := findings{width: width(a.out), colours: colours(a.out), now: time.Now()}
	for r, err := range s.Sessions(ctx) {
		if errors.Is(err, listing.ErrCursor) {
			return usagef("--cursor: %w", err)
		}
		if err != nil {
			return err
		}
		if r.Err != nil {
			fmt.Fprintln(a.err, about(r.Item.Path, r.Err))
			failed++
		}
		if r.Total == 0 {
			continue
		}
		if a.json {
			for _, h := range r.Hits {
				a.print(newJSONHit(r, h))
			}
		} else if _, err := io.WriteString(a.out, found.render(r)); err != nil {
			return err
		}
		if shown++; shown == flags.limit {
			last = r.Item.Cursor()
			break
		}
	}
	if shown == 0 && !a.json {
		fmt.Fprintln(a.err, "nothing found")
	}
	if last != "" {
		fmt.Fprintf(a.err, "there may be more: --cursor '%s'\n", last)
	}
	if x != nil {
		a.indexMissing(ctx, x, p, &missing)
	}
	if failed > 0 {
		return partial(failed, "sessions")
	}
	return nil
}

// A jsonHit is a line of the output for programs. Its names are part of the interface.
type jsonHit struct {
	ID        uuid.UUID   `json:"id"`
	RolloutID uuid.UUID   `json:"rollout_id"`
	Name      *string     `json:"name"`
	Path      string      `json:"path"`
	Where     string      `json:"where"`
	Created   *time.Time  `json:"created"`
	Cwd       *string     `json:"cwd"`
	Turn      int         `json:"turn"`
	Line      int         `json:"line"`
	Time      string      `json:"time"`
	Kind      replay.Kind `json:"kind"`
	Before    string      `json:"before"`
	Match     string      `json:"match"`
	After     string      `json:"after"`
	Hits      int         `json:"hits"`
}

func newJSONHit(s search.Session, h search.Hit) jsonHit {
	it := s.Item
	return jsonHit{
		it.ID, it.RolloutID, it.Name, it.Path, it.Where, it.Created, it.Cwd,
		h.Turn, h.Line, h.Time, h.Kind, h.Before, h.Match, h.After, s.Total,
	}
}

// findings are sessions and hits in them for people.
type findings struct {
	width   int // of the terminal; 0: none, so nothing is cut
	colours bool
	now     time.Time
	begun   bool
}

// render returns a line for the session, and one for each hit.
func (f *findings) render(s search.Session) string {
	var b strings.Builder
	if f.begun {
		b.WriteString("\n")
	}
	f.begun = true
	it := s.Item
	when := table{width: f.width, now: f.now, order: listing.Created, zone: time.Local}.when(it)
	left := f.width - len(it.ID.String()) - len(gap) - len(when) - len(gap)
	dir := clean(short(deref(it.Cwd)))
	if f.width > 0 {
		dir = cutLeft(dir, max(10, f.width/5))
		if left < len(gap)+enough+runewidth.StringWidth(dir) {
			dir = ""
		}
	}
	if dir != "" {
		left -= runewidth.StringWidth(dir) + len(gap)
		dir = gap + f.styled("2", dir)
	}
	b.WriteString(f.styled("1", it.ID.String()) + gap + f.styled("2", when) + dir)
	if text := session(it); text != "" {
		b.WriteString(gap + f.styled(sessionStyle(it), f.cut(text, left)))
	}
	b.WriteString("\n")
	for _, h := range s.Hits {
		b.WriteString(f.hit(h) + "\n")
	}
	if more := s.Total - len(s.Hits); more > 0 {
		b.WriteString(f.styled("2", fmt.Sprintf("  and %d more", more)) + "\n")
	}
	return b.String()
}

// hit returns a hit in a line: of what stands in front of the match a third at most, so
// that the match is to be seen.
func (f *findings) hit(h search.Hit) string {
	at := "  "
	if h.Turn > 0 {
		at += "turn " + strconv.Itoa(h.Turn) + ", "
	}
	at += "line " + strconv.Itoa(h.Line) + ", " + string(h.Kind) + ": "
	before, match, after := spaced(h.Before), spaced(h.Match), spaced(h.After)
	if f.width > 0 {
		left := max(f.width-len(at), 20)
		before = cutLeft(before, left/3)
		left -= runewidth.StringWidth(before)
		match = runewidth.Truncate(match, left, "…")
		after = f.cut(after, left-runewidth.StringWidth(match))
	}
	return f.styled("2", at) + before + f.styled("1;31", match) + after
}

// spaced returns s with its white space as single spaces.
func spaced(s string) string {
	text := strings.Join(strings.Fields(s), " ")
	if s != "" && text == "" {
		return " "
	}
	if strings.TrimLeft(s, " \n\t") != s {
		text = " " + text
	}
	if strings.TrimRight(s, " \n\t") != s {
		text += " "
	}
	return text
}

func (f *findings) cut(s string, width int) string {
	switch {
	case f.width == 0:
		return s
	case width < 1:
		return ""
	}
	return runewidth.Truncate(s, width, "…")
}

func (f *findings) styled(style, s string) string {
	if !f.colours || style == "" || s == "" {
		return s
	}
	return "\x1b[" + style + "m" + s + "\x1b[0m"
}
