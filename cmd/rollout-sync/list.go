package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"reflect"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollout-sync/rollout"
	"github.com/rollout-sync/rollout/catalog"
	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store/blob"
)

func (a *app) listCommand() *cobra.Command {
	var (
		q     listing.Query
		sel   filter
		where string
	)
	cmd := &cobra.Command{
		Use:   "list",
		Short: "List sessions, newest first, of the home and the mirror together",
		Long: `List shows rollouts, newest first: those of the home and of the mirror, of all
programs, archived ones too. A session that was reverted has several. Where one is
is told by: local, mirror, both; behind, if the mirror has an older version than
the home; ahead, if it has a newer one.

On a terminal the lines are cut to its width, and as much of an id is shown as it
takes to tell these sessions apart; "show" and "restore" take that much. Everything
about a session, one object a line, is in --json.`,
		Example: `  rollout-sync list --cwd . --since 7d
  rollout-sync list --sort updated --archived no --source interactive
  rollout-sync list --repo acme/app --text "flaky test" --limit 100
  rollout-sync list --where mirror --json | jq -r .id`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := sel.apply(&q); err != nil {
				return err
			}
			return a.list(cmd, q, where)
		},
	}
	f := cmd.Flags()
	sel.flags(f, &q)
	f.StringVar(&where, "where", "any", "only what is in this `place`: local, mirror or any")
	f.StringVar((*string)(&q.Order), "sort", string(listing.Created), "in the `order` of: created or updated; --since and --until go by the same")
	f.BoolVar(&q.Oldest, "oldest", false, "oldest first")
	f.IntVar(&q.Limit, "limit", 25, "at most this `number` of sessions")
	f.StringVar(&q.Cursor, "cursor", "", "go on after this `place`, which the page before has printed")
	f.IntVar(&q.MaxScan, "max-scan", 0, "look into at most this `number` of sessions (0: all)")
	f.BoolVar(&q.Light, "light", false, "only what file names and directories tell: reads no session unless it must")
	f.IntVar(&q.Preview, "preview", 0, "with --json: the first `number` of records of each")
	a.jsonFlag(cmd)
	return cmd
}

// places are the home and the mirror, those of them that a command reads.
type places struct {
	home   *rollout.Home
	mirror *blob.Store
	list   []listing.Place
	rows   *catalog.Reader // of the mirror
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
			p.rows = a.catalogOf(p.mirror, nil)
			place := mirrorPlace(p.mirror, origin)
			place.Known = p.rows.Known
			p.list = append(p.list, place)
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
		err = fmt.Errorf("%s: %w", a.shownMirror(), err)
	}
	return err
}

// mirrorPlace is the mirror with what its origins have told of the rollouts.
func mirrorPlace(m *blob.Store, origin string) listing.Place {
	facts := mirror.NewFacts(m)
	return listing.Place{
		Where: listing.Mirror, Source: m,
		Describe: func(ctx context.Context, _ string, n codec.Name) (listing.Description, error) {
			f, err := facts.Best(ctx, n, origin, "")
			return listing.Description{Path: f.Path, Archived: f.Archived, Name: f.Name}, err
		},
	}
}

// catalogOf is the mirror's catalog. cache may be nil.
func (a *app) catalogOf(m *blob.Store, cache catalog.Cache) *catalog.Reader {
	return catalog.NewReader(m, cache, func(name string, err error) {
		a.say(slog.LevelWarn, "catalog damaged", fmt.Sprintf("warning: %s cannot be used, so sessions are looked at instead (%s); \"rollout-sync catalog rebuild\" makes it anew", clean(name), oneLine(err)),
			slog.String("name", name), slog.String("error", oneLine(err)))
	})
}

func (a *app) list(cmd *cobra.Command, q listing.Query, where string) error {
	ctx := cmd.Context()
	switch {
	case q.Limit < 1:
		return usagef("--limit %d: must be at least 1", q.Limit)
	case q.MaxScan < 0 || q.Preview < 0:
		return usagef("--max-scan and --preview must not be below 0")
	case q.Order != listing.Created && q.Order != listing.Updated:
		return usagef("--sort %q: is neither created nor updated", q.Order)
	}
	if q.Preview == 0 {
		q.Preview = -1
	}
	limitMemory(lessMemoryLimit)
	p, err := a.openPlaces(ctx, where)
	if err != nil {
		return err
	}
	defer p.Close()
	if selective(q) || q.Order == listing.Updated {
		if x := a.indexOf(p, false); x != nil {
			defer x.Close()
		}
	}
	page, err := listing.Page(ctx, p.list, q)
	if errors.Is(err, listing.ErrCursor) {
		return usagef("--cursor: %w", err)
	}
	if err != nil {
		return err
	}
	if a.json {
		for _, it := range page.Items {
			a.print(it)
		}
	} else {
		t := table{width: width(a.out), colours: colours(a.out), now: time.Now(), order: q.Order, zone: time.Local}
		if _, err := io.WriteString(a.out, t.render(page.Items)); err != nil {
			return err
		}
	}
	if len(page.Items) == 0 && !a.json {
		fmt.Fprintf(a.err, "no session found; sessions looked into: %d\n", page.Scanned)
	}
	switch {
	case page.Limited:
		fmt.Fprintf(a.err, "stopped after looking into %d sessions; to go on: --cursor '%s'\n", page.Scanned, page.Next)
	case page.Next != "":
		fmt.Fprintf(a.err, "there are more: --cursor '%s'\n", page.Next)
	}
	return nil
}

// selective reports whether a list may look into many more sessions than it has.
func selective(q listing.Query) bool {
	q.Order, q.Oldest, q.Limit, q.Cursor, q.Preview, q.Light, q.MaxScan = "", false, 0, "", 0, false, 0
	for _, c := range []*listing.Choice{&q.Archived, &q.Subagents} {
		if *c == listing.Any {
			*c = ""
		}
	}
	return !reflect.DeepEqual(q, listing.Query{})
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// find returns the newest rollout of the session that id means: its id, the
// beginning of one that no other session's has, or its name.
func (a *app) find(ctx context.Context, id string, in ...listing.Place) (listing.Item, error) {
	it, err := listing.Find(ctx, in, id)
	if e, ok := errors.AsType[*listing.AmbiguousError](err); ok {
		return it, usagef("%q: %w", id, e)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return it, fmt.Errorf("there is no session %q in the home or the mirror", id)
	}
	return it, err
}
