package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rollout-sync/rollout"
	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/blob/dirblob"
)

// pruning are the flags of prune.
type pruning struct {
	older         string
	apply, dryRun bool
	sameDevice    bool
	q             listing.Query
	filter        filter
	filtered      bool
}

func (a *app) pruneCommand() *cobra.Command {
	var o pruning
	cmd := &cobra.Command{
		Use:   "prune",
		Short: "Free the disk of sessions that the mirror has",
		Long: `Prune moves sessions to a trash folder in the home, and frees the disk of those
that an earlier run has moved there. Run it twice; "restore" brings back what was
pruned.

With --apply, every session that is taken away was downloaded from the mirror,
decoded and compared with the file on this disk before, in the same run; and again
before it leaves the trash. Sessions stay that the mirror does not have exactly so,
that Codex has open, or that a session that stays refers to (a fork or revert).
Without --apply it only says what it would do, and downloads nothing.`,
		Example: `  rollout-sync prune --older-than 90d
  rollout-sync prune --older-than 90d --apply
  rollout-sync prune --source subagent --apply
  rollout-sync prune --apply --quiet --wait 1h    # from cron`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cmd.Flags().Visit(func(f *pflag.Flag) { o.filtered = o.filtered || f.Annotations[isFilter] != nil })
			return a.prune(cmd, o)
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.older, "older-than", "30d", "only sessions that were not changed in any way for this `time`: 30d, 4w, 12h")
	applyFlags(f, &o.apply, &o.dryRun)
	f.BoolVar(&o.sameDevice, "same-device-ok", false, "also with a mirror on the disk that the home is on")
	o.filter.flags(f, &o.q)
	a.waitFlag(f)
	a.reportFlags(cmd)
	a.jsonFlag(cmd)
	return cmd
}

// applyFlags adds the flags of a command that takes something away.
func applyFlags(f *pflag.FlagSet, apply, dryRun *bool) {
	f.BoolVar(apply, "apply", false, "do it")
	f.BoolVarP(dryRun, "dry-run", "n", false, "only say what would be done; the default on a terminal")
}

// decided returns whether to do it. Where nobody looks on, it has to be said.
func (a *app) decided(apply, dryRun bool) (bool, error) {
	switch {
	case apply && dryRun:
		return false, usagef("--apply and --dry-run exclude each other")
	case !apply && !dryRun && terminal(a.out) == nil:
		return false, usagef("say --apply, or --dry-run to see what would be done")
	}
	return apply, nil
}

// pruned is a line of prune --json.
type pruned struct {
	Action mirror.Action `json:"action"`
	Path   string        `json:"path"`
	Key    string        `json:"key"`
	Stored int64         `json:"stored_size"`
	Reason string        `json:"reason,omitempty"`
}

func (a *app) prune(cmd *cobra.Command, o pruning) (err error) {
	ctx := cmd.Context()
	apply, err := a.decided(o.apply, o.dryRun)
	if err != nil {
		return err
	}
	now := time.Now()
	before, err := parseTime("older-than", o.older, now)
	if err != nil || before.IsZero() || before.After(now) || !ago.MatchString(o.older) {
		return usagef("--older-than %q: write 30d, 4w or 12h", o.older)
	}
	if err := o.filter.apply(&o.q); err != nil {
		return err
	}
	home, err := a.openHome()
	if err != nil {
		return err
	}
	defer home.Close()
	m, err := a.openMirror(ctx, false)
	if err != nil {
		return err
	}
	defer m.Close()
	if err := a.checkMirror(ctx, m); err != nil {
		return err
	}
	if err := a.otherDevice(o.sameDevice); err != nil {
		return err
	}
	p := mirror.Pruning{Home: home.Store(), Mirror: m, Older: now.Sub(before), DryRun: !apply, Each: func(p mirror.Pruned) { a.eachPruned(p, apply) }}
	if p.Rollouts, err = prunable(ctx, home, o); err != nil {
		return err
	}
	if apply {
		if p.State, err = a.openState(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, p.State.Close()) }()
	}
	r, err := mirror.Prune(ctx, p)
	if err == nil && apply {
		err = a.clearTrash()
	}
	if err != nil {
		if errors.Is(err, store.ErrBusy) {
			err = &exitError{exitLocked, err}
		}
		return err
	}
	a.sayPruned(r, apply)
	return failed(ctx, r.Failures, func(p mirror.Pruned) error { return p.Err },
		"sessions are not in the mirror as they were written; they were kept")
}

func (a *app) sayPruned(r mirror.PruneReport, apply bool) {
	stay := r.Rollouts - r.Actions[mirror.Trashed]
	would := ""
	if !apply {
		would = "would be "
	}
	line := fmt.Sprintf("%s %sfreed, %s %smoved to the trash, %d of %d sessions stay",
		size(r.Freed), would, size(r.Trashed), would, stay, r.Rollouts)
	switch {
	case !apply:
		line += "\nNothing was changed. With --apply the mirror's objects are downloaded and compared first."
	case r.Actions[mirror.Trashed] > 0:
		line += fmt.Sprintf("\nThey are in %s; the next prune frees the space.", clean(path.Join(a.home, mirror.TrashDir)))
	}
	attrs := []slog.Attr{
		slog.Int("sessions", r.Rollouts), slog.Int("stay", stay), slog.Int64("freed_bytes", r.Freed), slog.Int64("trashed_bytes", r.Trashed),
		slog.Int("failed", len(r.Failures)),
	}
	if !apply {
		attrs = append(attrs, slog.Bool("dry_run", true))
	}
	a.say(slog.LevelInfo, "summary", line, attrs...)
}

func (a *app) eachPruned(p mirror.Pruned, apply bool) {
	why := ""
	if p.Err != nil {
		why = reason(p)
	}
	if a.json {
		a.print(pruned{Action: p.Action, Path: p.Path, Key: p.Key, Stored: p.Stored, Reason: why})
	}
	attrs := []slog.Attr{slog.String("action", string(p.Action)), slog.String("path", p.Path), slog.String("key", p.Key), slog.Int64("stored_bytes", p.Stored)}
	would := ""
	if !apply {
		would = "would be "
		attrs = append(attrs, slog.Bool("dry_run", true))
	}
	switch p.Action {
	case mirror.Failed:
		a.say(slog.LevelError, "session failed", "failed: "+about(p.Path, p.Err), append(attrs, slog.String("error", why))...)
	case mirror.Kept:
		a.say(slog.LevelInfo, "session kept", fmt.Sprintf("kept      %8s  %s: %s", size(p.Stored), clean(p.Path), why), append(attrs, slog.String("reason", why))...)
	default:
		a.say(slog.LevelInfo, "session pruned", fmt.Sprintf("%s%-8s  %8s  %s", would, p.Action, size(p.Stored), clean(p.Path)), attrs...)
	}
}

// reason says in a few words why a session was kept.
func reason(p mirror.Pruned) string {
	if errors.Is(p.Err, store.ErrBusy) {
		return "Codex has this session open"
	}
	return oneLine(p.Err)
}

// prunable returns the rollouts that the filters pick, nil without filters.
func prunable(ctx context.Context, home *rollout.Home, o pruning) ([]codec.Name, error) {
	if !o.filtered {
		return nil, nil
	}
	names := []codec.Name{}
	o.q.Preview = -1
	for it, err := range listing.All(ctx, []listing.Place{home.Place()}, o.q) {
		if err != nil {
			return nil, err
		}
		n, err := codec.ParseName(path.Base(it.Path))
		if err != nil {
			return nil, err
		}
		names = append(names, n)
	}
	return names, nil
}

// otherDevice refuses a mirror that would be lost with the home's disk, unless that
// is wanted.
func (a *app) otherDevice(ok bool) error {
	u, err := a.mirrorURL()
	if err != nil || ok || u.Scheme != dirblob.Scheme {
		return err
	}
	same, err := sameDevice(a.home, u.Path)
	if err == nil && same {
		err = usagef("the mirror is on the disk that the home is on and would be lost with it; say --same-device-ok if that is meant")
	}
	return err
}

// clearTrash removes the empty directories of the trash.
func (a *app) clearTrash() error {
	root, err := os.OpenRoot(a.home)
	if err != nil {
		return err
	}
	defer root.Close()
	var dirs []string
	err = fs.WalkDir(root.FS(), mirror.TrashDir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, p)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for i := len(dirs) - 1; i >= 0 && err == nil; i-- {
		_ = root.Remove(dirs[i]) // one that is not empty stays
	}
	return err
}
