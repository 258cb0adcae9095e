package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"

	"github.com/spf13/cobra"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/replay"
	"github.com/rollout-sync/rollout/store"
)

func (a *app) showCommand() *cobra.Command {
	var format, where string
	cmd := &cobra.Command{
		Use:   "show ID",
		Short: "Print a session, from the home or else from the mirror",
		Long: `Show prints a session as a transcript. An ID may be the beginning of one if no
other begins so, or a session's name.

With --format jsonl it prints the rollout's own bytes, unchanged.`,
		Example: `  rollout-sync show 0198b1aa | less
  rollout-sync show "fix the build" --format jsonl | jq -c .type`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return a.show(cmd, args[0], format, where) },
	}
	cmd.Flags().StringVar(&format, "format", "text", "how: `text` or jsonl")
	cmd.Flags().StringVar(&where, "where", "any", "from this `place`: local, mirror or any")
	return cmd
}

func (a *app) show(cmd *cobra.Command, id, format, where string) error {
	ctx := cmd.Context()
	if format != "text" && format != "jsonl" {
		return usagef("--format %q: is none of text and jsonl", format)
	}
	p, err := a.openPlaces(ctx, where)
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
	if format == "jsonl" {
		return a.showBytes(ctx, src, name)
	}
	return replay.WriteText(a.out, replay.Entries(a.reportBad(name, replay.Load(ctx, src, name))), replay.TextOptions{})
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

// source returns where to read an item.
func (p *places) source(it listing.Item) (store.Source, string, error) {
	if it.Where != listing.Mirror {
		return p.home.Store(), it.Path, nil
	}
	n, err := codec.ParseName(path.Base(it.Path))
	return p.mirror, mirror.Key(n, it.Path), err
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
