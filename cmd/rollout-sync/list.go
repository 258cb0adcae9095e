package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/rollout-sync/rollout"
	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store/blob"
)

func (a *app) listCommand() *cobra.Command {
	var (
		q            listing.Query
		since, until string
		where        string
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List sessions, newest first, of the home and the mirror together",
		Example: `  rollout-sync list --cwd . --since 2026-11-01
  rollout-sync list --where mirror --json | jq -r .id`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			if q.Cwd != "" {
				if q.Cwd, err = filepath.Abs(q.Cwd); err != nil {
					return err
				}
			}
			if q.Since, err = parseTime("since", since); err != nil {
				return err
			}
			if q.Until, err = parseTime("until", until); err != nil {
				return err
			}
			return a.list(cmd, q, where)
		},
	}
	f := cmd.Flags()
	f.StringVar(&q.Cwd, "cwd", "", "only sessions that began in this `directory`")
	f.StringVar(&since, "since", "", "only sessions created at this `time` or later (2026-11-20, in local time, or RFC 3339)")
	f.StringVar(&until, "until", "", "only sessions created before this `time`")
	f.StringVar(&q.ID, "id", "", "only sessions whose `id` is this or begins so")
	f.StringVar(&where, "where", "any", "only what is in this `place`: local, mirror or any")
	f.IntVar(&q.Limit, "limit", 25, "at most this `number` of sessions")
	f.StringVar(&q.Cursor, "cursor", "", "go on after this `place`, which the page before has printed")
	a.jsonFlag(cmd)
	return cmd
}

// parseTime reads a date, which is local midnight, or a time.
func parseTime(flag, s string) (time.Time, error) {
	if s == "" {
		return time.Time{}, nil
	}
	if t, err := time.Parse(time.RFC3339, s); err == nil {
		return t, nil
	}
	t, err := time.ParseInLocation(time.DateOnly, s, time.Local)
	if err != nil {
		return t, usagef("--%s %q: write 2026-11-20 or 2026-11-20T08:00:00Z", flag, s)
	}
	return t, nil
}

// places are the home and the mirror, those of them that a command reads.
type places struct {
	home   *rollout.Home
	mirror *blob.Store
	list   []listing.Place
}

func (p *places) Close() error {
	var errs []error
	if p.home != nil {
		errs = append(errs, p.home.Close())
	}
	if p.mirror != nil {
		errs = append(errs, p.mirror.Close())
	}
	return errors.Join(errs...)
}

// openPlaces opens what where says. With "any" one of the two may be missing.
func (a *app) openPlaces(ctx context.Context, where string) (_ *places, err error) {
	if where != "any" && where != listing.Local && where != listing.Mirror {
		return nil, usagef("--where %q: is none of local, mirror and any", where)
	}
	p := &places{}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.Close())
		}
	}()
	var missing []error
	if where != listing.Mirror {
		if p.home, err = a.openHome(); err == nil {
			p.list = append(p.list, p.home.Place())
		} else {
			missing = append(missing, err)
		}
	}
	if where != listing.Local {
		p.mirror, err = a.openMirror(ctx, false)
		if err == nil {
			err = a.checkMirror(ctx, p.mirror)
		}
		switch {
		case err == nil:
			origin, err := a.originID(false)
			if err != nil {
				return nil, err
			}
			p.list = append(p.list, a.mirrorPlace(p.mirror, origin))
		case errors.Is(err, mirror.ErrNoMirror):
			missing = append(missing, err)
		default:
			return nil, err
		}
	}
	if len(p.list) == 0 {
		return nil, errors.Join(missing...)
	}
	return p, nil
}

// checkMirror is mirror.Check that names the mirror.
func (a *app) checkMirror(ctx context.Context, m *blob.Store) error {
	err := mirror.Check(ctx, m)
	if errors.Is(err, mirror.ErrNoMirror) {
		err = fmt.Errorf("%s: %w", a.mirror, err)
	}
	return err
}

// mirrorPlace is the mirror with what its origins have told of the rollouts.
func (a *app) mirrorPlace(m *blob.Store, origin string) listing.Place {
	facts := mirror.NewFacts(m)
	return listing.Place{
		Where: listing.Mirror, Source: m,
		Describe: func(ctx context.Context, _ string, n codec.Name) (listing.Description, error) {
			f, err := facts.Best(ctx, n, origin, "")
			return listing.Description{Path: f.Path, Archived: f.Archived, Name: f.Name}, err
		},
	}
}

func (a *app) list(cmd *cobra.Command, q listing.Query, where string) error {
	ctx := cmd.Context()
	if q.Limit < 1 {
		return usagef("--limit %d: must be at least 1", q.Limit)
	}
	p, err := a.openPlaces(ctx, where)
	if err != nil {
		return err
	}
	defer p.Close()
	page, err := listing.Page(ctx, p.list, q)
	if errors.Is(err, listing.ErrCursor) {
		return usagef("--cursor: %w", err)
	}
	if err != nil {
		return err
	}
	for _, it := range page.Items {
		if a.json {
			a.print(it)
			continue
		}
		a.printItem(it)
	}
	if page.Next != "" {
		fmt.Fprintf(a.err, "there are more: --cursor '%s'\n", page.Next)
	}
	return nil
}

func (a *app) printItem(it listing.Item) {
	created := strings.Repeat(" ", len("2006-01-02 15:04"))
	if it.Created != nil {
		created = it.Created.Local().Format("2006-01-02 15:04")
	}
	text := cmp.Or(deref(it.Name), deref(it.Preview))
	if len(it.Problems) > 0 {
		text = strings.TrimSpace(text + " [" + strings.Join(it.Problems, "; ") + "]")
	}
	line := fmt.Sprintf("%s  %s  %-6s  %s", created, it.ID, it.Where, clean(text))
	fmt.Fprintln(a.out, cut(line, width(a.out)))
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// cut shortens a line to a number of characters; 0 is no limit.
func cut(line string, width int) string {
	if width <= 0 || utf8.RuneCountInString(line) <= width {
		return line
	}
	return string([]rune(line)[:width-1]) + "…"
}

// find returns the newest rollout of the session that id means: its id, the
// beginning of one that no other session's has, or its name.
func (a *app) find(ctx context.Context, id string, in ...listing.Place) (listing.Item, error) {
	var found *listing.Item
	for _, q := range []listing.Query{{ID: id}, {}} {
		for it, err := range listing.All(ctx, in, q) {
			if err != nil {
				return listing.Item{}, err
			}
			if q.ID == "" && deref(it.Name) != id {
				continue
			}
			if found != nil && found.ID != it.ID {
				return listing.Item{}, usagef("%q means several sessions, among them %s and %s", id, found.ID, it.ID)
			}
			if found == nil { // the newest rollout of the session
				found = &it
			}
		}
		if found != nil {
			return *found, nil
		}
	}
	return listing.Item{}, fmt.Errorf("there is no session %q in the home or the mirror", id)
}
