package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/rollout-sync/rollout/doctor"
	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store"
)

func (a *app) doctorCommand() *cobra.Command {
	var deep, apply bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Find what is wrong with the home, and what cures it",
		Long: `Doctor looks at the home as it lies on the disk, and at this program's own state
and configuration, and tells what is wrong: damaged, torn and unreadable sessions,
sessions that are there twice, that begin with one that is missing, or that Codex
refuses or does not list, locks and temporary files of programs that died, a home
that others can read. With each comes the cure in one line. Notes are what nobody
has to do anything about; of each kind the first is shown, and all in --json.

It is quick: it reads names, the beginnings of sessions and their last lines.
--deep reads every line. It asks the mirror for nothing; that is "verify".

--apply does what loses nothing, and no more: it removes locks that nobody holds,
and moves leftovers, and files of which another has every byte, to a directory
rollout-doctor in the home, with their path; moving one back undoes it. It never
cuts, changes or removes a session.

It ends with 0 if there is nothing but notes, also after --apply has done the rest,
and with 3 if something needs a person.`,
		Example: `  rollout-sync doctor
  rollout-sync doctor --deep --json | jq -r 'select(.level == "problem").path'
  rollout-sync doctor --apply`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.doctor(cmd.Context(), deep, apply) },
	}
	cmd.Flags().BoolVar(&deep, "deep", false, "read every line of every session")
	cmd.Flags().BoolVar(&apply, "apply", false, "do what can lose nothing; originals are kept")
	a.jsonFlag(cmd)
	return cmd
}

// diagnosed is a line of doctor --json.
type diagnosed struct {
	Kind     doctor.Kind `json:"kind"`
	Level    string      `json:"level"` // problem or note
	Path     string      `json:"path"`
	Other    string      `json:"other,omitempty"`
	Detail   string      `json:"detail"`
	Cure     string      `json:"cure"`
	Mendable bool        `json:"mendable"`
	Mended   bool        `json:"mended"`
	Moved    string      `json:"moved,omitempty"`
	Error    string      `json:"error,omitempty"`
}

// Kinds of what is not in the home.
const (
	stateKind  doctor.Kind = "state"
	configKind doctor.Kind = "config"
)

func (a *app) doctor(ctx context.Context, deep, apply bool) error {
	home, err := a.openHome()
	if err != nil {
		return err
	}
	defer home.Close()
	root, err := os.OpenRoot(a.home)
	if err != nil {
		return err
	}
	defer root.Close()

	type sum struct {
		doctor.Finding // the first
		n              int
	}
	var mendable []doctor.Finding
	var sums []sum
	problems, notes := 0, 0
	tell := func(f doctor.Finding) {
		if f.Note {
			notes++
		} else {
			problems++
		}
		switch {
		case apply && f.Mendable:
			mendable = append(mendable, f) // not while the home is walked
		case f.Note && !a.json: // there may be one for every session
			if i := slices.IndexFunc(sums, func(s sum) bool { return s.Kind == f.Kind }); i >= 0 {
				sums[i].n++
			} else {
				sums = append(sums, sum{f, 1})
			}
		default:
			a.diagnose(f, "", nil, false)
		}
	}
	a.ownFiles(tell)
	report, err := doctor.Examine(ctx, doctor.Examining{Home: root, Deep: deep, Each: tell})
	if err != nil {
		return err
	}
	for _, s := range sums {
		if s.n > 1 {
			s.Detail = fmt.Sprintf("%s (and %d more, see --json)", s.Detail, s.n-1)
		}
		a.diagnose(s.Finding, "", nil, false)
	}
	mended, left := 0, problems
	m := doctor.Mending{Home: root, Locks: home.Store(), Keep: doctor.KeepAt(time.Now())}
	for _, f := range mendable {
		if err := ctx.Err(); err != nil {
			return err
		}
		moved, err := doctor.Mend(ctx, m, f)
		if err == nil {
			mended++
			if !f.Note {
				left--
			}
		}
		a.diagnose(f, moved, err, err == nil)
	}
	if !a.json {
		fmt.Fprintf(a.out, "%d sessions, %d problems, %d notes", report.Rollouts, problems, notes)
		if apply {
			fmt.Fprintf(a.out, ", %d mended", mended)
		}
		fmt.Fprintln(a.out)
	}
	if left > 0 {
		return &exitError{exitPartial, fmt.Errorf("%d problems are left, each with its cure", left)}
	}
	return nil
}

func (a *app) diagnose(f doctor.Finding, moved string, err error, mended bool) {
	level := "problem"
	if f.Note {
		level = "note"
	}
	if a.json {
		line := diagnosed{
			Kind: f.Kind, Level: level, Path: f.Path, Other: f.Other, Detail: f.Detail, Cure: f.Cure,
			Mendable: f.Mendable, Mended: mended, Moved: moved,
		}
		if err != nil {
			line.Error = oneLine(err)
		}
		a.print(line)
		return
	}
	fmt.Fprintf(a.out, "%s: %s: %s: %s\n", level, f.Kind, clean(f.Path), clean(f.Detail))
	switch {
	case err != nil:
		fmt.Fprintf(a.out, "    not mended: %s\n", about(f.Path, err))
	case moved != "":
		fmt.Fprintf(a.out, "    moved to %s\n", clean(moved))
	case mended:
		fmt.Fprintln(a.out, "    removed")
	default:
		fmt.Fprintf(a.out, "    cure: %s\n", clean(f.Cure))
	}
}

// ownFiles tells what is wrong with the program's own files.
func (a *app) ownFiles(tell func(doctor.Finding)) {
	file, err := a.stateFile()
	if err == nil {
		err = mirror.CheckState(file)
	}
	switch {
	case err == nil:
	case errors.Is(err, store.ErrCorrupt):
		tell(doctor.Finding{
			Kind: stateKind, Path: file, Note: true, Detail: oneLine(err),
			Cure: "none needed: the next push moves it aside and looks at every session again",
		})
	default:
		tell(doctor.Finding{Kind: stateKind, Path: file, Detail: oneLine(err), Cure: "let who runs rollout-sync read and write it"})
	}
	file = originsFile()
	content, err := os.ReadFile(file)
	origins := map[string]string{}
	if err == nil {
		err = json.Unmarshal(content, &origins)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		tell(doctor.Finding{
			Kind: configKind, Path: file, Detail: oneLine(err),
			Cure: "mend it, or give --origin: it says which origin a home is, by which the mirror knows its facts",
		})
	}
}
