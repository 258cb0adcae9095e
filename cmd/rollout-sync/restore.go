package main

import (
	"cmp"
	"fmt"
	"strings"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/mirror"
)

func (a *app) restoreCommand() *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:   "restore ID… | --all",
		Short: "Bring sessions back from the mirror",
		Long: `Restore brings sessions back to the paths they had in this home, or in the home
they came from, with their times and names, so that "codex resume ID" works.

A file is made, or replaced if the mirror's version begins with all of it; a
session that differs is left as it is and reported. An ID may be the beginning
of one if no other begins so, or a session's name.`,
		Example: `  rollout-sync restore 0198b1aa
  rollout-sync restore --all --home ~/.codex`,
		RunE: func(cmd *cobra.Command, ids []string) error { return a.restore(cmd, all, ids) },
	}
	cmd.Flags().BoolVar(&all, "all", false, "every session in the mirror")
	a.jsonFlag(cmd)
	return cmd
}

// restored is a line of restore --json.
type restored struct {
	Action mirror.Action `json:"action"`
	ID     string        `json:"id"`
	Path   string        `json:"path"`
	Key    string        `json:"key"`
	Size   int64         `json:"plain_size"`
	Error  string        `json:"error,omitempty"`
}

func (a *app) restore(cmd *cobra.Command, all bool, ids []string) error {
	ctx := cmd.Context()
	if all == (len(ids) > 0) {
		return usagef("restore needs the ids of sessions, or --all")
	}
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
	origin, err := a.originID(false)
	if err != nil {
		return err
	}
	var want func(codec.Name) bool
	if !all {
		chosen := map[uuid.UUID]bool{}
		for _, id := range ids {
			item, err := a.find(ctx, id, a.mirrorPlace(m, origin))
			if err != nil {
				return err
			}
			chosen[item.ID] = true
		}
		// All rollouts of a session: without the others it cannot be read.
		want = func(n codec.Name) bool { return chosen[n.Session] }
	}
	var resumable []string
	r, err := mirror.Restore(ctx, mirror.Restoring{
		Home: home.Store(), Mirror: m, Origin: origin, Want: want,
		Each: func(r mirror.Restored) {
			a.eachRestored(r)
			if r.Err == nil && !strings.HasPrefix(r.Path, "archived_sessions/") {
				resumable = append(resumable, r.Name.Session.String())
			}
		},
	})
	if err != nil {
		return err
	}
	if !a.json {
		fmt.Fprintf(a.out, "%d restored, %d already there, %d failed, %s written, %d names given back\n",
			r.Actions[mirror.Created]+r.Actions[mirror.Extended], r.Actions[mirror.Present]+r.Actions[mirror.Longer],
			r.Actions[mirror.Failed], size(r.Bytes), r.Names)
		switch len(resumable) {
		case 0:
		case 1:
			fmt.Fprintf(a.out, "go on with: codex resume %s\n", resumable[0])
		default:
			fmt.Fprintln(a.out, "go on with: codex resume ID")
		}
	}
	damaged := 0
	for _, f := range r.Failures {
		if exitCode(ctx, f.Err) == exitIntegrity {
			damaged++
		}
	}
	switch {
	case damaged > 0:
		return integrity(damaged, "objects are not what was written; nothing of them was restored")
	case len(r.Failures) > 0:
		return partial(len(r.Failures), "sessions")
	}
	return nil
}

func (a *app) eachRestored(r mirror.Restored) {
	if r.Err != nil {
		fmt.Fprintf(a.err, "failed: %s\n", about(cmp.Or(r.Path, r.Key), r.Err))
	}
	if a.json {
		line := restored{Action: r.Action, ID: r.Name.Session.String(), Path: r.Path, Key: r.Key, Size: r.Size}
		if r.Err != nil {
			line.Error = oneLine(r.Err)
		}
		a.print(line)
	} else if r.Action == mirror.Created || r.Action == mirror.Extended {
		fmt.Fprintf(a.out, "%-8s  %8s  %s\n", r.Action, size(r.Size), clean(r.Path))
	}
}
