package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollout-sync/rollout/mirror"
)

func (a *app) pushCommand() *cobra.Command {
	var idle time.Duration
	cmd := &cobra.Command{
		Use:   "push",
		Short: "Bring what is new in the home to the mirror",
		Long: `Push brings every session that is new or has changed to the mirror, oldest
first, if nothing was written to it for a while. It is made for cron: run it as
often as you like; with nothing to do it makes no request.

Nothing in the mirror is ever destroyed by a push: a session that was rewritten
keeps its old version in the mirror's history, two homes that have different
versions of one session keep both, and what is deleted here stays there.`,
		Example: `  rollout-sync push
  rollout-sync push --mirror 's3://team-sessions?region=eu-central-1&prefix=codex/'
  */15 * * * *  rollout-sync push    # in a crontab`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.push(cmd, idle) },
	}
	cmd.Flags().DurationVar(&idle, "idle", 10*time.Minute, "leave sessions alone that changed less than this `time` ago")
	a.jsonFlag(cmd)
	return cmd
}

// pushed is a line of push --json.
type pushed struct {
	Action  mirror.Action `json:"action"`
	Path    string        `json:"path"`
	Key     string        `json:"key"`
	Size    int64         `json:"plain_size"`
	Foreign string        `json:"foreign,omitempty"`
	Error   string        `json:"error,omitempty"`
}

func (a *app) push(cmd *cobra.Command, idle time.Duration) (err error) {
	ctx := cmd.Context()
	if idle < 0 {
		return usagef("--idle %v: must not be negative", idle)
	}
	home, err := a.openHome()
	if err != nil {
		return err
	}
	defer home.Close()
	origin, err := a.originID(true)
	if err != nil {
		return err
	}
	state, err := a.openState()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, state.Close()) }()
	m, err := a.openMirror(ctx, true)
	if err != nil {
		return err
	}
	defer m.Close()

	report, err := mirror.Push(ctx, mirror.Pushing{
		Home: home.Store(), Mirror: m, State: state, Origin: origin, Idle: idle, Each: a.eachPushed,
	})
	for _, path := range report.Vanished {
		fmt.Fprintf(a.err, "vanished: %s (the mirror keeps it)\n", clean(path))
	}
	if err != nil {
		return err
	}
	if !a.json {
		fmt.Fprintln(a.out, summary(report))
	}
	switch {
	case len(report.Foreign) > 0:
		return integrity(len(report.Foreign), "objects in the mirror were not what was pushed there; their bytes are kept in its history, and the sessions were pushed again")
	case len(report.Failures) > 0:
		return partial(len(report.Failures), "sessions")
	case len(report.Vanished) > 0:
		return &exitError{exitPartial, fmt.Errorf("%d sessions have vanished from the home since the last push", len(report.Vanished))}
	}
	return nil
}

func (a *app) eachPushed(o mirror.Outcome) {
	if o.Err != nil {
		fmt.Fprintf(a.err, "failed: %s\n", about(o.Path, o.Err))
	}
	if o.Foreign != "" {
		fmt.Fprintf(a.err, "foreign: %s was not what was pushed there; its bytes are kept as %s\n", clean(o.Key), clean(o.Foreign))
	}
	if a.json {
		line := pushed{Action: o.Action, Path: o.Path, Key: o.Key, Size: o.Size, Foreign: o.Foreign}
		if o.Err != nil {
			line.Error = oneLine(o.Err)
		}
		a.print(line)
		return
	}
	switch o.Action {
	case mirror.Uploaded, mirror.Extended, mirror.Rewritten, mirror.Diverged:
		fmt.Fprintf(a.out, "%-9s  %8s  %s\n", o.Action, size(o.Size), clean(o.Path))
	}
}

// summary is the last line of a push, in the order in which actions are worse.
func summary(r mirror.Report) string {
	parts := []string{fmt.Sprintf("%d sessions", r.Rollouts)}
	for _, action := range []mirror.Action{
		mirror.Uploaded, mirror.Extended, mirror.Rewritten, mirror.Diverged, mirror.Unchanged,
		mirror.Equal, mirror.Ahead, mirror.Superseded, mirror.Waiting, mirror.Failed,
	} {
		if n := r.Actions[action]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, action))
		}
	}
	if r.Bytes > 0 {
		parts = append(parts, size(r.Bytes)+" pushed")
	}
	return strings.Join(parts, ", ")
}
