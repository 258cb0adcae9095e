package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/dustin/go-humanize"
	"github.com/spf13/cobra"
	"gocloud.dev/blob/memblob"

	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store/blob"
)

type pushFlags struct {
	idle        time.Duration
	live        bool
	jobs        int
	bwlimit     string
	maxDuration time.Duration
	dryRun      bool
	reconcile   bool
	metricsFile string
}

func (a *app) pushCommand() *cobra.Command {
	var p pushFlags
	cmd := &cobra.Command{
		Use:   "push",
		Short: "Bring what is new in the home to the mirror",
		Long: `Push brings every session that is new or has changed to the mirror, oldest
first, if nothing was written to it for a while. It is made for cron: run it as
often as you like; with nothing to do it makes no request.

Nothing in the mirror is ever destroyed by a push: a session that was rewritten
keeps its old version in the mirror's history, two homes that have different
versions of one session keep both, and what is deleted here stays there.

Only sessions and their names are pushed. A file with the name of a session that is
a database, a key or credentials is refused, and each push fails for it until it is
moved away; a home or mirror that everybody can read is warned of.

A session of 64 MiB or more that keeps growing is pushed again when a tenth has
been added, or after six hours: each push sends all of it.`,
		Example: `  rollout-sync push
  rollout-sync push --mirror 's3://team-sessions?region=eu-central-1&prefix=codex/'
  rollout-sync push --dry-run --json
  rollout-sync push --bwlimit 2MiB --max-duration 50m
  rollout-sync push --wait 10m --log-format json
  rollout-sync push --quiet --metrics-file /var/lib/node_exporter/rollout-sync.prom
  */15 * * * *  rollout-sync push --quiet    # in a crontab`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.push(cmd, p) },
	}
	f := cmd.Flags()
	f.DurationVar(&p.idle, "idle", 10*time.Minute, "leave sessions alone that changed less than this `time` ago")
	f.BoolVar(&p.live, "live", false, "also push sessions that are being written to, up to their last complete line")
	f.IntVar(&p.jobs, "jobs", 4, "how many sessions to push at a time")
	f.StringVar(&p.bwlimit, "bwlimit", "", "send at most this many `bytes` a second, such as 500kB or 2MiB")
	f.DurationVar(&p.maxDuration, "max-duration", 0, "begin no further session after this `time`; the next push goes on (0: no limit)")
	f.BoolVarP(&p.dryRun, "dry-run", "n", false, "only tell what would be done")
	f.BoolVar(&p.reconcile, "reconcile", false, "compare with a listing of the mirror what was pushed before; happens by itself once a week")
	f.BoolVar(&a.singleWriter, "single-writer", false, "no other push to this mirror ever runs at the same time, so its store need not know conditional writes")
	f.StringVar(&p.metricsFile, "metrics-file", "", "at the end replace this `file` by metrics for Prometheus, also if the push failed")
	_ = cmd.MarkFlagFilename("metrics-file", "prom") // there is one
	a.waitFlag(f)
	a.reportFlags(cmd)
	a.jsonFlag(cmd)
	return cmd
}

// machine is what people call this machine: the origin if they gave one, else the host's
// name, "" if it has none.
func (a *app) machine() string {
	host, _ := os.Hostname() // what has no name is none
	return cmp.Or(a.origin, host)
}

// pushed is a line of push --json.
type pushed struct {
	Action  mirror.Action `json:"action"`
	Path    string        `json:"path"`
	Key     string        `json:"key"`
	Size    int64         `json:"plain_size"`
	Foreign string        `json:"foreign,omitempty"`
	DryRun  bool          `json:"dry_run,omitempty"` // it would be done
	Error   string        `json:"error,omitempty"`
}

func (p *pushFlags) check() (bwlimit int64, err error) {
	switch {
	case p.idle < 0:
		return 0, usagef("--idle %v: must not be negative", p.idle)
	case p.jobs < 1:
		return 0, usagef("--jobs %d: at least 1", p.jobs)
	case p.maxDuration < 0:
		return 0, usagef("--max-duration %v: must not be negative", p.maxDuration)
	case p.bwlimit == "":
		return 0, nil
	}
	n, err := humanize.ParseBytes(p.bwlimit)
	if err != nil || n == 0 || n > math.MaxInt64 {
		return 0, usagef("--bwlimit %q: a number of bytes a second is wanted, such as 500kB or 2MiB", p.bwlimit)
	}
	return int64(n), nil
}

func (a *app) push(cmd *cobra.Command, p pushFlags) error {
	limitMemory(lessMemoryLimit)
	collectLess()
	r := pushRun{began: time.Now()}
	err := a.pushOnce(cmd.Context(), p, &r)
	if p.metricsFile != "" && !p.dryRun {
		err = errors.Join(err, a.writeMetrics(cmd.Context(), p.metricsFile, r, err))
	}
	return err
}

// pushOnce pushes, and keeps in r what it knows at its end.
func (a *app) pushOnce(ctx context.Context, p pushFlags, r *pushRun) (err error) {
	if a.uploadRate, err = p.check(); err != nil {
		return err
	}
	home, err := a.openHome()
	if err != nil {
		return err
	}
	defer home.Close()
	origin, err := a.originID(!p.dryRun)
	if err != nil {
		return err
	}
	state, err := a.openState(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if p.metricsFile != "" && !p.dryRun {
			r.status = statusOf(ctx, state, home)
		}
		err = errors.Join(err, state.Close())
	}()
	m, err := a.openMirror(ctx, !p.dryRun)
	if p.dryRun && errors.Is(err, mirror.ErrNoMirror) {
		m, err = blob.New(memblob.OpenBucket(nil), nil), nil // one without anything in it
	}
	if err != nil {
		return err
	}
	defer m.Close()
	a.warnExposed()

	o := mirror.Pushing{
		Home: home.Store(), Mirror: m, State: state, Origin: cmp.Or(origin, "new"), Machine: a.machine(),
		Idle: p.idle, Live: p.live, Jobs: p.jobs, DryRun: p.dryRun, Reconcile: p.reconcile, SingleWriter: a.singleWriter,
		Progress: new(mirror.Progress),
	}
	pushing, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	var refused refusal
	more := sync.OnceFunc(func() { limitMemory(lessMemoryLimit + pushedMemory*o.Progress.Rollouts.Load()) })
	o.Each = func(o mirror.Outcome) {
		more()
		a.eachPushed(o, p.dryRun, refused.of(o))
		if refused.times == maxRefused {
			giveUp(fmt.Errorf("the mirror took none of %d sessions, and no more was tried; the last: %w", maxRefused, refused.last))
		}
	}
	if p.maxDuration > 0 {
		o.Until = r.began.Add(p.maxDuration)
	}
	stop := a.watch(o.Progress, "sessions")
	defer stop()
	r.report, err = mirror.Push(pushing, o)
	stop()
	report := r.report
	if err != nil && refused.times >= maxRefused {
		err = context.Cause(pushing)
	}
	if errors.Is(err, mirror.ErrConditions) {
		err = fmt.Errorf("%w (give --single-writer if never more than one runs at a time)", err)
	}
	for _, path := range report.Vanished {
		a.say(slog.LevelWarn, "session vanished", fmt.Sprintf("vanished: %s (the mirror keeps it)", clean(path)), slog.String("path", path))
	}
	if err != nil {
		return err
	}
	a.say(slog.LevelInfo, "summary", summary(report, p.dryRun), summaryAttrs(report, p.dryRun)...)
	if report.Left > 0 {
		a.say(slog.LevelWarn, "time is up", fmt.Sprintf("time is up: %d sessions are left for the next push", report.Left), slog.Int("left", report.Left))
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

// eachPushed tells what became of a session; people, why it failed only if that is
// news.
func (a *app) eachPushed(o mirror.Outcome, dryRun, news bool) {
	attrs := []slog.Attr{slog.String("action", string(o.Action)), slog.String("path", o.Path), slog.String("key", o.Key), slog.Int64("bytes", o.Size)}
	if dryRun {
		attrs = append(attrs, slog.Bool("dry_run", true))
	}
	line := fmt.Sprintf("%-9s  %8s  %s", o.Action, size(o.Size), clean(o.Path))
	switch {
	case o.Action == mirror.Uploaded || o.Action == mirror.Extended || o.Action == mirror.Rewritten:
		a.say(slog.LevelInfo, "session pushed", line, attrs...)
	case o.Action == mirror.Diverged:
		a.say(slog.LevelInfo, "session diverged", line, attrs...)
	case o.Action == mirror.Failed:
		if line = ""; news {
			line = "failed: " + about(o.Path, o.Err)
		}
		a.say(slog.LevelError, "session failed", line, append(attrs, slog.String("error", oneLine(o.Err)))...)
	default:
		a.say(slog.LevelDebug, "session not pushed", "", attrs...)
	}
	if o.Foreign != "" {
		a.say(slog.LevelError, "object foreign", fmt.Sprintf("foreign: %s was not what was pushed there; its bytes are kept as %s", clean(o.Key), clean(o.Foreign)),
			slog.String("key", o.Key), slog.String("kept", o.Foreign))
	}
	if a.json {
		line := pushed{Action: o.Action, Path: o.Path, Key: o.Key, Size: o.Size, Foreign: o.Foreign, DryRun: dryRun}
		if o.Err != nil {
			line.Error = oneLine(o.Err)
		}
		a.print(line)
	}
}

// actions are all that a push can do, in the order in which they are worse.
var actions = []mirror.Action{
	mirror.Uploaded, mirror.Extended, mirror.Rewritten, mirror.Diverged, mirror.Unchanged,
	mirror.Equal, mirror.Ahead, mirror.Superseded, mirror.Tombstone, mirror.Waiting, mirror.Failed,
}

// summaryAttrs are those of the event that summary is a line of.
func summaryAttrs(r mirror.Report, dryRun bool) []slog.Attr {
	attrs := []slog.Attr{slog.Int("sessions", r.Rollouts)}
	for _, action := range actions {
		attrs = append(attrs, slog.Int(string(action), r.Actions[action]))
	}
	attrs = append(attrs, slog.Int("vanished", len(r.Vanished)), slog.Int("foreign", len(r.Foreign)), slog.Int("left", r.Left), slog.Int64("bytes", r.Bytes))
	if dryRun {
		attrs = append(attrs, slog.Bool("dry_run", true))
	}
	return attrs
}

// summary is the last line of a push.
func summary(r mirror.Report, dryRun bool) string {
	parts := []string{fmt.Sprintf("%d sessions", r.Rollouts)}
	for _, action := range actions {
		if n := r.Actions[action]; n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", n, action))
		}
	}
	if r.Bytes > 0 && dryRun {
		parts = append(parts, size(r.Bytes)+" to push (nothing was done)")
	} else if r.Bytes > 0 {
		parts = append(parts, size(r.Bytes)+" pushed")
	}
	return strings.Join(parts, ", ")
}
