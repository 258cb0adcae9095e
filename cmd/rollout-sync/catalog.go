package main

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/rollout-sync/rollout/mirror"
)

func (a *app) catalogCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "catalog",
		Short: "The table of what the mirror holds, which other tools can ask",
		Long: `The mirror has a catalog: Parquet files with a row for each session, which "list"
reads instead of the sessions, and which DuckDB, Athena, BigQuery and others can be
asked. A push keeps it. Nothing that keeps sessions safe depends on it: it can be
deleted and made again.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(a.catalogRebuildCommand())
	return cmd
}

func (a *app) catalogRebuildCommand() *cobra.Command {
	o := mirror.Cataloguing{}
	cmd := &cobra.Command{
		Use:   "rebuild",
		Short: "Make the catalog what the sessions in the mirror say",
		Long: `Rebuild makes the rows that the catalog lacks, by reading the sessions that they
are of, and takes away those of sessions that are no longer there. That is of use
after the catalog was deleted or damaged, or once for a mirror that is older than its
catalog. It writes the rows of all homes; pushes may go on meanwhile.`,
		Example: `  rollout-sync catalog rebuild
  rollout-sync catalog rebuild --all --jobs 16`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.catalogRebuild(cmd, o) },
	}
	cmd.Flags().BoolVar(&o.All, "all", false, "read every session again, also those that the catalog has a row of")
	cmd.Flags().IntVar(&o.Jobs, "jobs", 4, "how many sessions to read at a time")
	cmd.Flags().BoolVar(&o.SingleWriter, "single-writer", false, "no push to this mirror runs at the same time, so its store need not know conditional writes")
	a.reportFlags(cmd)
	a.jsonFlag(cmd)
	return cmd
}

// catalogued is a line of catalog rebuild --json.
type catalogued struct {
	Name  string `json:"name"`
	Size  int64  `json:"plain_size"`
	Error string `json:"error,omitempty"`
}

func (a *app) catalogRebuild(cmd *cobra.Command, o mirror.Cataloguing) error {
	if o.Jobs < 1 {
		return usagef("--jobs %d: at least 1", o.Jobs)
	}
	ctx := cmd.Context()
	a.singleWriter = o.SingleWriter
	m, err := a.openMirror(ctx, false)
	if err != nil {
		return err
	}
	defer m.Close()
	if err := a.checkMirror(ctx, m); err != nil {
		return err
	}
	var done mirror.Progress
	stop := a.watch(&done, "read")
	defer stop()
	o.Mirror = m
	o.Each = func(f mirror.Finding) {
		done.Done.Add(1)
		done.Sent.Add(max(f.Size, 0))
		attrs := []slog.Attr{slog.String("name", f.Name), slog.Int64("bytes", f.Size)}
		line := catalogued{Name: f.Name, Size: f.Size}
		if f.Err != nil {
			line.Error = oneLine(f.Err)
			a.say(slog.LevelError, "session failed", "failed: "+about(f.Name, f.Err), append(attrs, slog.String("error", line.Error))...)
		} else {
			a.say(slog.LevelDebug, "session read", "", attrs...)
		}
		if a.json {
			a.print(line)
		}
	}
	r, err := mirror.Catalog(ctx, o)
	stop()
	if errors.Is(err, mirror.ErrConditions) {
		err = fmt.Errorf("%w (give --single-writer if no push runs meanwhile)", err)
	}
	if err != nil {
		return err
	}
	a.say(slog.LevelInfo, "summary",
		fmt.Sprintf("%d rows; %d sessions were read, %d files written, %d removed", r.Rows, r.Read, r.Written, r.Removed),
		slog.Int("rows", r.Rows), slog.Int("read", r.Read), slog.Int("written", r.Written), slog.Int("removed", r.Removed), slog.Int("failed", len(r.Failures)))
	if len(r.Failures) > 0 {
		return partial(len(r.Failures), "sessions")
	}
	return nil
}
