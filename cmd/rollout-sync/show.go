package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/spf13/cobra"

	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/replay"
	"github.com/rollout-sync/rollout/store"
)

// showFlags are the flags of show.
type showFlags struct {
	format, where, at       string
	redact, follow, history bool
}

func (a *app) showCommand() *cobra.Command {
	var flags showFlags
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Print a session, from the home or else from the mirror",
		Long: `Show prints a session as a transcript. An ID may be the beginning of one if no
other begins so, or a session's name.

The formats:

  text      for a terminal: turns, messages, calls and their results; long output
            of tools is folded. In colours on a terminal, unless NO_COLOR is set
  markdown  the same to paste or publish; nothing in it can break its structure
  html      one page that stands alone, for any browser, phones too: complete, with
            images, output folded away, and nothing in it loads or runs anything
  json      for programs: one object for each thing, complete, a line each
            (docs/format.md, section 5)
  jsonl     the rollout's own bytes, unchanged

--redact masks what looks like a key, a token or a password in a URL, in the
shapes that it knows. It is a help and no promise: read what you publish. It does
not apply to jsonl, whose bytes are the session itself.

--at shows the session up to a line of its file or to the end of a turn, counted
from 1, or with "last" only what came since the last message of the user, for which
the largest session is read from its end. A turn counts if the user said something in
it and it was not rolled back, as in Codex, also in what a fork begins with; numbers
in a transcript go on with every turn of its file. --history prints what the model
would be sent to go on from there, as a JSON array.

--follow goes on with what a running session appends, until it is interrupted. It
follows a session in the home, also when Codex archives or compresses it, and
ends when it is gone or was rewritten.`,
		Example: `  rollout-sync show 0198b1aa | less
  rollout-sync show "fix the build" --format html --redact > build.html
  rollout-sync show 0198b1aa --follow
  rollout-sync show 0198b1aa --at last
  rollout-sync show 0198b1aa --at turn:3 --history | jq length
  rollout-sync show 0198b1aa --format json | jq -r 'select(.kind == "call").call.input'
  rollout-sync show 0198b1aa --format jsonl | jq -c .type`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.show(cmd.Context(), args[0], flags) },
	}
	f := cmd.Flags()
	f.StringVar(&flags.format, "format", "text", "how: `text`, markdown, html, json or jsonl")
	f.StringVar(&flags.where, "where", "any", "from this `place`: local, mirror or any")
	f.BoolVar(&flags.redact, "redact", false, "mask what looks like a secret")
	f.StringVar(&flags.at, "at", "", "up to this `point`: LINE, turn:N or last")
	f.BoolVar(&flags.history, "history", false, "what the model would be sent, as JSON")
	f.BoolVar(&flags.follow, "follow", false, "go on with what is appended")
	return cmd
}

func (a *app) show(ctx context.Context, id string, flags showFlags) error {
	write := map[string]func(io.Writer, iter.Seq2[replay.Entry, error]) error{
		"text": func(w io.Writer, entries iter.Seq2[replay.Entry, error]) error {
			return replay.WriteText(w, entries, replay.TextOptions{Color: colours(w)})
		},
		"markdown": replay.WriteMarkdown,
		"html":     replay.WriteHTML,
		"json":     replay.WriteJSON,
	}[flags.format]
	switch {
	case write == nil && flags.format != "jsonl":
		return usagef("--format %q: is none of text, markdown, html, json and jsonl", flags.format)
	case write == nil && flags.redact:
		return usagef("--redact: --format jsonl prints the bytes as they are")
	case flags.follow && (write == nil || flags.format == "html"):
		return usagef("--follow: not with --format %s; text, markdown and json can be followed", flags.format)
	case flags.follow && (flags.at != "" || flags.history):
		return usagef("--follow: not with --at or --history")
	case write == nil && flags.at != "" && !flags.history:
		return usagef("--at: --format jsonl prints all bytes as they are")
	case flags.history && (flags.format != "text" || flags.redact):
		return usagef("--history: is JSON as the model gets it; --format and --redact do not apply")
	}
	point, err := parsePoint(flags.at)
	if err != nil {
		return err
	}
	p, err := a.openPlaces(ctx, flags.where)
	if err != nil {
		return err
	}
	defer p.Close()
	it, err := a.find(ctx, id, p.list...)
	if err != nil {
		return err
	}
	src, name, err := p.source(it)
	if err != nil {
		return err
	}
	switch {
	case flags.history:
		return a.writeHistory(ctx, src, name, replay.Options{At: point, Find: p.find})
	case write == nil:
		return a.showBytes(ctx, src, name)
	}
	items := replay.LoadUntil(ctx, src, name, point, p.find)
	if flags.at == atLast {
		items = replay.LoadLast(ctx, src, name)
	}
	if flags.follow {
		if it.Where == listing.Mirror {
			return usagef("--follow: the session %s is only in the mirror, where nothing is appended", it.ID)
		}
		items = replay.Follow(ctx, src, name)
	}
	entries := replay.Entries(a.reportBad(name, items))
	if flags.redact {
		entries = replay.Redact(entries)
	}
	return write(a.out, entries)
}

// reportBad tells of the lines of a session that are no items.
func (a *app) reportBad(name string, items iter.Seq2[replay.Item, error]) iter.Seq2[replay.Item, error] {
	return func(yield func(replay.Item, error) bool) {
		for it, err := range items {
			if it.Err != nil {
				fmt.Fprintf(a.err, "%s: line %d, byte %d: %s\n", clean(name), it.Line, it.Offset, oneLine(it.Err))
			}
			if !yield(it, err) {
				return
			}
		}
	}
}

// source returns where to read the newest version of an item.
func (p *places) source(it listing.Item) (store.Source, string, error) {
	where := it.Newest()
	n, err := name(it, where)
	if where == listing.Local {
		return p.home.Store(), n, err
	}
	return p.mirror, n, err
}

func (a *app) showBytes(ctx context.Context, src store.Source, name string) error {
	f, err := src.Open(ctx, name)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := f.Range(ctx, 0, -1)
	if err != nil {
		return err
	}
	_, err = io.Copy(a.out, r)
	return errors.Join(err, r.Close())
}
