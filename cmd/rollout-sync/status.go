package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollout-sync/rollout/mirror"
)

func (a *app) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Tell what is not in the mirror yet, and how the last push went",
		Long: `Status tells how many sessions of the home are pending and for how long, how many
the mirror has an earlier version of (behind) or keeps beside another home's
(diverged), and when the last push ran and how it ended.

It goes by what this home remembers of its pushes and asks the mirror for nothing:
"verify" does that. What has changed is pending, also if it was only moved. While a
push is at work, status says so and ends with 11.`,
		Example: `  rollout-sync status
  rollout-sync status --json | jq -e '.oldest_pending_seconds < 86400'    # for a monitor`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.status(cmd.Context(), time.Now()) },
	}
	a.jsonFlag(cmd)
	return cmd
}

// homeStatus is what status --json prints.
type homeStatus struct {
	Home         string      `json:"home"`
	Mirror       string      `json:"mirror"`
	Rollouts     int         `json:"rollouts"`
	Pending      int         `json:"pending"`
	PendingBytes int64       `json:"pending_bytes"`
	Oldest       *time.Time  `json:"oldest_pending"`
	OldestAge    int64       `json:"oldest_pending_seconds"`
	Behind       int         `json:"behind"`
	Diverged     int         `json:"diverged"`
	Vanished     int         `json:"vanished"`
	Last         *mirror.Run `json:"last_run"`
	Clean        *mirror.Run `json:"last_clean_run"`
}

func (a *app) status(ctx context.Context, now time.Time) error {
	home, err := a.openHome()
	if err != nil {
		return err
	}
	defer home.Close()
	file, err := a.stateFile()
	if err != nil {
		return err
	}
	st, err := mirror.ReadStatus(ctx, home.Store(), file, now)
	if errors.Is(err, mirror.ErrLocked) {
		return fmt.Errorf("a push is at work: %w", err)
	}
	if err != nil {
		return err
	}
	if a.json {
		line := homeStatus{
			Home: a.home, Mirror: a.shownMirror(), Rollouts: st.Rollouts, Pending: st.Pending, PendingBytes: st.Bytes,
			Behind: st.Behind, Diverged: st.Diverged, Vanished: st.Vanished, Last: st.Last, Clean: st.Clean,
		}
		if st.Pending > 0 {
			oldest := st.Oldest.UTC()
			line.Oldest, line.OldestAge = &oldest, int64(now.Sub(st.Oldest).Seconds())
		}
		a.print(line)
		return nil
	}
	fmt.Fprintf(a.out, "home:     %s, %d sessions\nmirror:   %s\n", clean(a.home), st.Rollouts, clean(a.shownMirror()))
	fmt.Fprintf(a.out, "pending:  %d", st.Pending)
	if st.Pending > 0 {
		fmt.Fprintf(a.out, ", %s, the oldest for %s; the mirror has an earlier version of %d", size(st.Bytes), since(now.Sub(st.Oldest)), st.Behind)
	}
	fmt.Fprintf(a.out, "\ndiverged: %d\n", st.Diverged)
	if st.Vanished > 0 {
		fmt.Fprintf(a.out, "vanished: %d (the mirror keeps them)\n", st.Vanished)
	}
	fmt.Fprintf(a.out, "last run: %s\n", lastRun(st.Last, now))
	if st.Last != nil && !st.Last.Clean {
		fmt.Fprintf(a.out, "last clean run: %s\n", lastRun(st.Clean, now))
	}
	return nil
}

// lastRun says when a push was and how it ended.
func lastRun(r *mirror.Run, now time.Time) string {
	if r == nil {
		return "none"
	}
	ended := "ended well"
	switch {
	case r.Err != "":
		ended = "ended with: " + clean(r.Err)
	case !r.Clean:
		ended = fmt.Sprintf("went through; %d failed, %d vanished, %d foreign, %d left", r.Actions[mirror.Failed], r.Vanished, r.Foreign, r.Left)
	}
	return fmt.Sprintf("%s ago (%s), took %s, %s", since(now.Sub(r.Ended)), r.Ended.Local().Format("2006-01-02 15:04"),
		r.Ended.Sub(r.Begun).Round(time.Second), ended)
}

// since says how long something took, for people.
func since(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", max(0, int(d.Seconds())))
	case d < time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}
