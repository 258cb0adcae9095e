package main

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store"
)

func (a *app) verifyCommand() *cobra.Command {
	var (
		deep bool
		jobs int
	)
	cmd := &cobra.Command{
		Use:   "verify",
		Short: "Check the mirror against its own hashes and the home against the mirror",
		Long: `Verify reads the trailer, the seek table and the metadata of every object in
the mirror and holds them against each other; with --deep it reads, decodes and
hashes every byte. It makes sure that what sessions begin with by reference, after a
fork or a revert, is there. Then it tells which sessions of the home the mirror does
not have yet.

It ends with 4 if something is damaged, with 3 if something is missing or could not
be looked at. Sessions that are not in the mirror yet are no failure.`,
		Example: `  rollout-sync verify
  rollout-sync verify --deep --json
  rollout-sync verify --quiet || mail -s "the mirror is damaged" me    # from cron`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.verify(cmd, deep, jobs) },
	}
	cmd.Flags().BoolVar(&deep, "deep", false, "read, decode and hash every byte")
	cmd.Flags().IntVar(&jobs, "jobs", 4, "how many objects to look at at a time")
	a.reportFlags(cmd)
	a.jsonFlag(cmd)
	return cmd
}

// verified is a line of verify --json.
type verified struct {
	Name    string `json:"name"`
	Size    int64  `json:"plain_size"`
	Pending bool   `json:"pending"`
	Damaged bool   `json:"damaged"`
	Missing bool   `json:"missing"` // what it begins with is not there
	Error   string `json:"error,omitempty"`
}

func (a *app) verify(cmd *cobra.Command, deep bool, jobs int) error {
	if jobs < 1 {
		return usagef("--jobs %d: at least 1", jobs)
	}
	ctx := cmd.Context()
	m, err := a.openMirror(ctx, false)
	if err != nil {
		return err
	}
	defer m.Close()
	home, err := a.openHome()
	if err != nil {
		return err
	}
	defer home.Close()
	var done mirror.Progress
	stop := a.watch(&done, "checked")
	defer stop()
	v, err := mirror.Verify(ctx, mirror.Verifying{Mirror: m, Home: home.Store(), Deep: deep, Jobs: jobs, Each: func(f mirror.Finding) {
		done.Done.Add(1)
		done.Sent.Add(max(f.Size, 0))
		a.eachVerified(f)
	}})
	stop()
	if err != nil {
		return err
	}
	a.say(slog.LevelInfo, "summary",
		fmt.Sprintf("mirror: %d objects, %s, %d damaged; %d begin with another session, %d of these without it\nhome:   %d sessions, %d not in the mirror",
			v.Objects, size(v.Bytes), len(v.Damaged), v.Children, len(v.Incomplete), v.Compared, v.Pending),
		slog.Int("objects", v.Objects), slog.Int64("bytes", v.Bytes), slog.Int("damaged", len(v.Damaged)), slog.Int("incomplete", len(v.Incomplete)),
		slog.Int("failed", len(v.Failures)), slog.Int("sessions", v.Compared), slog.Int("pending", v.Pending))
	if a.log == nil && !a.json {
		a.cure(v)
	}
	switch {
	case len(v.Damaged) > 0:
		return integrity(len(v.Damaged), "objects are not what was written")
	case len(v.Incomplete) > 0:
		return &exitError{exitPartial, fmt.Errorf("%d sessions begin with what the mirror does not have", len(v.Incomplete))}
	case len(v.Failures) > 0:
		return &exitError{exitPartial, fmt.Errorf("%d could not be checked", len(v.Failures))}
	}
	return nil
}

// cure says what to do about what was found.
func (a *app) cure(v mirror.Verification) {
	if len(v.Damaged) > 0 {
		fmt.Fprintln(a.err, "damaged objects: move each away with the store's own tool, then push --reconcile from a home that still has the session")
	}
	if len(v.Incomplete) > 0 {
		fmt.Fprintln(a.err, "incomplete sessions: push from the home that has the session they begin with")
	}
	if v.Pending > 0 && !a.quiet {
		fmt.Fprintln(a.err, "pending sessions: the next push brings those that are idle")
	}
}

func (a *app) eachVerified(f mirror.Finding) {
	attrs := []slog.Attr{slog.String("name", f.Name), slog.Int64("bytes", f.Size)}
	switch {
	case f.Err != nil:
		word := "failed"
		switch {
		case errors.Is(f.Err, store.ErrCorrupt):
			word = "damaged"
		case errors.Is(f.Err, mirror.ErrLineage):
			word = "incomplete"
		}
		a.say(slog.LevelError, word, word+": "+about(f.Name, f.Err), append(attrs, slog.String("error", oneLine(f.Err)))...)
	case f.Pending:
		a.say(slog.LevelInfo, "session pending", fmt.Sprintf("pending  %8s  %s", size(f.Size), clean(f.Name)), attrs...)
	default:
		a.say(slog.LevelDebug, "verified", "", attrs...)
	}
	if a.json {
		line := verified{Name: f.Name, Size: f.Size, Pending: f.Pending, Damaged: errors.Is(f.Err, store.ErrCorrupt), Missing: errors.Is(f.Err, mirror.ErrLineage)}
		if f.Err != nil {
			line.Error = oneLine(f.Err)
		}
		a.print(line)
	}
}
