package main

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/spf13/cobra"

	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/mirror"
)

func (a *app) forgetCommand() *cobra.Command {
	var apply, dryRun bool
	cmd := &cobra.Command{
		Use:   "forget ID…",
		Short: "Remove sessions from the mirror for good",
		Long: `Forget removes sessions from the mirror: all versions, and what all homes have
told of them. It is for what must not be there, such as a secret that was leaked;
nothing brings it back. A tombstone without content, forgotten/ID.json, keeps every
home from pushing it again.

An ID is that of a session, with all its rollouts, or of a single rollout, or the
beginning of one if nothing else begins so. Homes are not touched: delete the
session there, too. Versions that the bucket itself keeps, and backups of it, are
not reached. It needs credentials that may delete, which "push" should not have.`,
		Example: `  rollout-sync forget 0198b1aa-0000-7000-8000-000000000001 --dry-run
  rollout-sync forget 0198b1aa-0000-7000-8000-000000000001 --apply`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, ids []string) error { return a.forget(cmd, ids, apply, dryRun) },
	}
	applyFlags(cmd.Flags(), &apply, &dryRun)
	a.jsonFlag(cmd)
	return cmd
}

// forgotten is a line of forget --json.
type forgotten struct {
	Name   string `json:"name"`
	Stored int64  `json:"stored_size"`
	Facts  int    `json:"facts,omitempty"`
	Done   bool   `json:"removed"`
	Error  string `json:"error,omitempty"`
}

func (a *app) forget(cmd *cobra.Command, ids []string, apply, dryRun bool) error {
	ctx := cmd.Context()
	apply, err := a.decided(apply, dryRun)
	if err != nil {
		return err
	}
	m, err := a.openMirror(ctx, false)
	if err != nil {
		return err
	}
	defer m.Close()
	if err := a.checkMirror(ctx, m); err != nil {
		return err
	}
	origin, err := a.originID(false)
	if err != nil {
		return err
	}
	r, err := mirror.Forget(ctx, mirror.Forgetting{
		Mirror: m, IDs: ids, Origin: origin, DryRun: !apply,
		Each: func(f mirror.Forgotten) { a.eachForgotten(f, apply) },
	})
	if _, ok := errors.AsType[*listing.AmbiguousError](err); ok {
		return usagef("%w", err)
	}
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("these credentials may not delete from the mirror; nothing more was tried: %w", err)
	case err != nil:
		return err
	}
	if !a.json {
		would := ""
		if !apply {
			would = "would be "
		}
		fmt.Fprintf(a.out, "%d ids %sforgotten: %d objects, %s, and %d facts\n", len(r.IDs), would, r.Objects, size(r.Stored), r.Facts)
		if apply {
			fmt.Fprintln(a.out, "No home pushes them again. Homes that have them keep them: delete them there, too.")
		}
	}
	if n := len(r.Failures); n > 0 {
		return &exitError{exitPartial, fmt.Errorf("%d objects could not be removed; run it again", n)}
	}
	return nil
}

func (a *app) eachForgotten(f mirror.Forgotten, apply bool) {
	if f.Err != nil {
		fmt.Fprintf(a.err, "failed: %s\n", about(f.Name, f.Err))
	}
	switch {
	case a.json:
		line := forgotten{Name: f.Name, Stored: f.Stored, Facts: f.Facts, Done: apply && f.Err == nil}
		if f.Err != nil {
			line.Error = oneLine(f.Err)
		}
		a.print(line)
	case f.Err == nil:
		would, what := "", size(f.Stored)
		if !apply {
			would = "would be "
		}
		if f.Facts > 0 {
			what = fmt.Sprintf("%d facts", f.Facts)
		}
		fmt.Fprintf(a.out, "%sremoved   %8s  %s\n", would, what, clean(f.Name))
	}
}
