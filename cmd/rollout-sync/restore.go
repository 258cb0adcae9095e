package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/blob"
	"github.com/rollout-sync/rollout/store/memfs"
)

// restoring are the flags of restore.
type restoring struct {
	all, dryRun   bool
	into, version string
	q             listing.Query
	filter        filter
	filtered      bool
}

func (a *app) restoreCommand() *cobra.Command {
	var o restoring
	cmd := &cobra.Command{
		Use:   "restore ID… | --all",
		Short: "Bring sessions back from the mirror",
		Long: `Restore brings sessions back to the paths they had in this home, or in the home
they came from, with their times and names, so that "codex resume ID" works. What
a fork or a revert begins with by reference comes with it, in the version that it
refers to.

A file is made, or replaced if the mirror's version begins with all of it; a
session that differs, or that Codex has open, is left as it is and reported. What
was interrupted goes on when it is run again. An ID may be the beginning of one if
no other begins so, or a session's name.`,
		Example: `  rollout-sync restore 0198b1aa
  rollout-sync restore --all --cwd ~/src/app --since 30d --dry-run
  rollout-sync restore --all --into ~/codex-of-the-old-laptop
  rollout-sync restore 0198b1aa --version 2c8b08da --into /tmp/before`,
		RunE: func(cmd *cobra.Command, ids []string) error {
			cmd.Flags().Visit(func(f *pflag.Flag) { o.filtered = o.filtered || f.Annotations[isFilter] != nil })
			return a.restore(cmd, o, ids)
		},
	}
	f := cmd.Flags()
	f.BoolVar(&o.all, "all", false, "every session in the mirror, or those that the filters pick")
	f.StringVar(&o.into, "into", "", "restore into this home `directory`, which is made if it is not there, instead of --home")
	_ = cmd.MarkFlagDirname("into") // there is one
	f.StringVar(&o.version, "version", "", "the version whose plain SHA-256 is this `hash` or begins so, instead of the current one")
	f.BoolVarP(&o.dryRun, "dry-run", "n", false, "only say what would be done")
	o.filter.flags(f, &o.q)
	a.waitFlag(f)
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
	SHA256 string        `json:"sha256,omitempty"`
	Error  string        `json:"error,omitempty"`
}

func (a *app) restore(cmd *cobra.Command, o restoring, ids []string) (err error) {
	ctx := cmd.Context()
	switch {
	case o.all == (len(ids) > 0):
		return usagef("restore needs the ids of sessions, or --all")
	case o.filtered && !o.all:
		return usagef("filters pick from --all; ids are picked already")
	case o.version != "" && len(ids) != 1:
		return usagef("--version needs the id of one session")
	}
	if err := o.filter.apply(&o.q); err != nil {
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
	a.home = cmp.Or(o.into, a.home)
	origin, err := a.originID(false)
	if err != nil {
		return err
	}
	r := mirror.Restoring{Mirror: m, Origin: origin, DryRun: o.dryRun}
	if r.Rollouts, err = a.chosen(ctx, o, ids, m, origin); err != nil {
		return err
	}
	if o.version != "" {
		if r.Rollouts, r.Version, err = a.chooseVersion(ctx, m, r.Rollouts, o.version); err != nil {
			return err
		}
	}
	home, err := a.homeToFill(o)
	if err != nil {
		return err
	}
	defer home.Close()
	r.Home = home.Home
	if !o.dryRun {
		if r.State, err = a.openState(ctx); err != nil {
			return err
		}
		defer func() { err = errors.Join(err, r.State.Close()) }()
	}
	var resumable []string // sessions
	var done mirror.Progress
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	r.Each = func(r mirror.Restored) {
		done.Done.Add(1)
		done.Sent.Add(max(r.Size, 0))
		if errors.Is(r.Err, syscall.ENOSPC) { // nor will the others fit
			end(r.Err)
			return
		}
		a.eachRestored(r, o.dryRun)
		written := r.Action == mirror.Created || r.Action == mirror.Extended
		if r.Err == nil && (written || !o.all) && !strings.HasPrefix(r.Path, "archived_sessions/") {
			resumable = append(resumable, r.Name.Session.String())
		}
	}
	stop := a.watch(&done, "sessions")
	defer stop()
	result, err := mirror.Restore(ctx, r)
	stop()
	if full := context.Cause(ctx); errors.Is(full, syscall.ENOSPC) {
		return full
	}
	if err != nil {
		if errors.Is(err, store.ErrBusy) {
			err = &exitError{exitLocked, err}
		}
		return err
	}
	if !a.json {
		a.sayRestored(result, o, resumable)
	}
	return failed(ctx, result.Failures, func(r mirror.Restored) error { return r.Err },
		"objects are not what was written; nothing of them was restored")
}

// sayRestored prints the sum, and how to go on.
func (a *app) sayRestored(r mirror.Restoration, o restoring, sessions []string) {
	did := [...]string{"restored", "written", "given back"}
	if o.dryRun {
		did = [...]string{"would be restored", "would be written", "would be given back"}
	}
	fmt.Fprintf(a.out, "%d %s, %d already there, %d failed, %s %s, %d names %s\n",
		r.Actions[mirror.Created]+r.Actions[mirror.Extended], did[0], r.Actions[mirror.Present]+r.Actions[mirror.Longer],
		r.Actions[mirror.Failed], size(r.Bytes), did[1], r.Names, did[2])
	if o.dryRun || len(sessions) == 0 {
		return
	}
	slices.Sort(sessions)
	sessions = slices.Compact(sessions)
	prefix := ""
	if home, err := filepath.Abs(a.home); err == nil && home != defaultHome() {
		prefix = "CODEX_HOME=" + shellWord(home) + " "
	}
	const most = 5
	for _, id := range sessions[:min(most, len(sessions))] {
		fmt.Fprintf(a.out, "go on with: %scodex resume %s\n", prefix, id)
	}
	if n := len(sessions) - most; n > 0 {
		fmt.Fprintf(a.out, "and %d more\n", n)
	}
	fmt.Fprintln(a.out, "Codex shows a restored session in its lists, with its title, after it has read the file once.")
}

// shellWord writes s as one word of a POSIX shell.
func shellWord(s string) string {
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+") == "" && s != "" {
		return s
	}
	return "'" + strings.ReplaceAll(clean(s), "'", `'\''`) + "'"
}

func (a *app) eachRestored(r mirror.Restored, dryRun bool) {
	switch {
	case errors.Is(r.Err, store.ErrBusy):
		fmt.Fprintf(a.err, "locked: %s: Codex has this session open; close it there and restore again\n", clean(cmp.Or(r.Path, r.Key)))
	case r.Err != nil:
		fmt.Fprintf(a.err, "failed: %s\n", about(cmp.Or(r.Path, r.Key), r.Err))
	}
	if a.json {
		line := restored{Action: r.Action, ID: r.Name.Session.String(), Path: r.Path, Key: r.Key, Size: r.Size, SHA256: r.SHA256}
		if r.Err != nil {
			line.Error = oneLine(r.Err)
		}
		a.print(line)
	} else if r.Action == mirror.Created || r.Action == mirror.Extended {
		would := ""
		if dryRun {
			would = "would be "
		}
		fmt.Fprintf(a.out, "%s%-8s  %8s  %s\n", would, r.Action, size(r.Size), clean(r.Path))
	}
}

// chosen returns the rollouts to restore, nil for all.
func (a *app) chosen(ctx context.Context, o restoring, ids []string, m *blob.Store, origin string) ([]codec.Name, error) {
	place := mirrorPlace(m, origin)
	names := []codec.Name{}
	add := func(it listing.Item) error {
		n, err := codec.ParseName(path.Base(it.Path))
		if err == nil && !slices.Contains(names[max(0, len(names)-1):], n) {
			names = append(names, n)
		}
		return err
	}
	pick := func(q listing.Query) error {
		q.Preview = -1
		for it, err := range listing.All(ctx, []listing.Place{place}, q) {
			if err == nil {
				err = add(it)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
	if o.all {
		if !o.filtered {
			return nil, nil
		}
		return names, pick(o.q)
	}
	for _, id := range ids {
		it, err := a.find(ctx, id, place)
		if err != nil {
			return nil, err
		}
		if it.ID == it.RolloutID {
			err = add(it)
		} else { // a reverted session: it has several
			err = pick(listing.Query{ID: it.ID.String(), Light: true})
		}
		if err != nil {
			return nil, err
		}
	}
	return names, nil
}

// chooseVersion returns the one rollout of those, and its version, whose hash begins
// with hash.
func (a *app) chooseVersion(ctx context.Context, m *blob.Store, of []codec.Name, hash string) ([]codec.Name, string, error) {
	var name codec.Name
	found := ""
	there := []string{}
	for _, n := range of {
		for v, err := range mirror.Versions(ctx, m, n) {
			if err != nil {
				return nil, "", err
			}
			there = append(there, fmt.Sprintf("%.12s (%s, %s)", v.SHA256, size(v.Size), v.Kind()))
			if strings.HasPrefix(v.SHA256, strings.ToLower(hash)) {
				if found != "" && found != v.SHA256 {
					return nil, "", usagef("--version %s: several begin so, among them %.12s and %.12s", hash, found, v.SHA256)
				}
				name, found = n, v.SHA256
			}
		}
	}
	if found == "" {
		return nil, "", fmt.Errorf("the mirror has no version %s; it has %s", hash, strings.Join(there, ", "))
	}
	return []codec.Name{name}, found, nil
}

// filled is the home that a restore fills.
type filled struct {
	mirror.Home
	Close func() error
}

// homeToFill opens the home. --into makes it, or only thinks it in a dry run.
func (a *app) homeToFill(o restoring) (filled, error) {
	if o.into != "" {
		_, err := os.Stat(o.into)
		if errors.Is(err, fs.ErrNotExist) {
			if o.dryRun {
				return filled{memfs.New(nil), func() error { return nil }}, nil
			}
			err = os.MkdirAll(o.into, 0o700)
		}
		if err != nil {
			return filled{}, err
		}
	}
	home, err := a.openHome()
	if err != nil {
		return filled{}, err
	}
	return filled{home.Store(), home.Close}, nil
}
