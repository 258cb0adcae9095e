package main

import (
	"path/filepath"
	"regexp"
	"strconv"
	"time"

	"github.com/spf13/pflag"

	"github.com/rollout-sync/rollout/listing"
)

// filter is what the flags say that pick sessions, as far as a listing.Query cannot
// hold it.
type filter struct{ since, until string }

// isFilter annotates the flags that pick sessions.
const isFilter = "filter"

// flags adds the flags that pick sessions, for q.
func (s *filter) flags(to *pflag.FlagSet, q *listing.Query) {
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.StringVar(&q.Cwd, "cwd", "", "only sessions that began in this `directory`")
	f.BoolVar(&q.AnyTurn, "any-turn", false, "with --cwd: also those that came there later (reads the sessions)")
	f.StringVar(&s.since, "since", "", "only sessions created at this `time` or later: 2026-11-20 (local time), RFC 3339, or ago: 7d, 12h")
	f.StringVar(&s.until, "until", "", "only sessions created before this `time`")
	f.StringSliceVar(&q.Sources, "source", nil, "only sessions from these `sources`: cli, vscode, exec, mcp, subagent, custom, …, or interactive, which is what Codex lists by itself")
	f.StringSliceVar(&q.Providers, "provider", nil, "only sessions with these model `providers`")
	f.StringSliceVar(&q.Models, "model", nil, "only sessions that began with these `models`")
	f.StringVar(&q.Branch, "branch", "", "only sessions that began on this git `branch`")
	f.StringVar(&q.Origin, "repo", "", "only sessions in the git `repository` with this URL, or with this end of one: acme/app")
	f.StringVar(&q.ID, "id", "", "only sessions whose `id` is this or begins so")
	f.StringVar(&q.Name, "name", "", "only sessions whose name has this `text` in it")
	f.StringVar(&q.Text, "text", "", "only sessions whose first message has this `text` in it")
	choiceVar(f, &q.Archived, "archived", "archived sessions: `any`, no or only")
	choiceVar(f, &q.Subagents, "subagents", "sessions that other sessions began: `any`, no or only")
	f.VisitAll(func(one *pflag.Flag) {
		one.Annotations = map[string][]string{isFilter: {}}
		to.AddFlag(one)
	})
}

// apply completes q by what the flags say.
func (s *filter) apply(q *listing.Query) (err error) {
	if q.Cwd != "" {
		if q.Cwd, err = filepath.Abs(q.Cwd); err != nil {
			return err
		}
	}
	now := time.Now()
	if q.Since, err = parseTime("since", s.since, now); err != nil {
		return err
	}
	if q.Until, err = parseTime("until", s.until, now); err != nil {
		return err
	}
	for flag, c := range map[string]listing.Choice{"archived": q.Archived, "subagents": q.Subagents} {
		if c != listing.Any && c != listing.No && c != listing.Only {
			return usagef("--%s %q: is none of any, no and only", flag, c)
		}
	}
	if q.AnyTurn && q.Cwd == "" {
		return usagef("--any-turn needs --cwd")
	}
	return nil
}

// choiceVar adds a flag that is any, no or only.
func choiceVar(f *pflag.FlagSet, c *listing.Choice, name, usage string) {
	*c = listing.Any
	f.StringVar((*string)(c), name, string(*c), usage)
}

// ago is a time before now: a number of weeks, days, hours or minutes.
var ago = regexp.MustCompile(`^(\d{1,4})([wdhm])$`)

// parseTime reads a date, which is local midnight, a time, or how long before now.
func parseTime(flag, s string, now time.Time) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if m := ago.FindStringSubmatch(s); m != nil {
		n, _ := strconv.Atoi(m[1]) // four digits are a number
		switch m[2] {
		case "w":
			return now.AddDate(0, 0, -7*n), nil
		case "d":
			return now.AddDate(0, 0, -n), nil
		case "h":
			return now.Add(-time.Duration(n) * time.Hour), nil
		}
		return now.Add(-time.Duration(n) * time.Minute), nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	t, err := time.ParseInLocation(time.DateOnly, s, time.Local)
	if err != nil {
		return t, usagef("--%s %q: write 2026-11-20, 2026-11-20T08:00:00Z, or 7d for seven days ago", flag, s)
	}
	return t, nil
}
