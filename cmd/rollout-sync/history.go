package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/replay"
	"github.com/rollout-sync/rollout/store"
)

// atLast is the value of --at for the end of a session and what leads to it.
const atLast = "last"

// parsePoint reads the value of --at: a number of lines, turn:N, or "" or last for
// the end.
func parsePoint(at string) (replay.Point, error) {
	number, isTurn := strings.CutPrefix(at, "turn:")
	n, err := strconv.ParseUint(number, 10, 31)
	switch {
	case at == "", at == atLast:
		return replay.Point{}, nil
	case err != nil:
		return replay.Point{}, usagef("--at %q: is none of LINE, turn:N and last", at)
	case isTurn:
		return replay.AfterTurn(int(n)), nil
	}
	return replay.AfterLine(int(n)), nil
}

// find is a replay.Finder in the home and the mirror.
func (p *places) find(ctx context.Context, rollout string) (store.Source, string, error) {
	it, err := listing.Rollout(ctx, p.list, rollout)
	if err != nil {
		return nil, "", err
	}
	return p.source(it)
}

// writeHistory prints what the model would be sent as a JSON array, an item a line.
// What was skipped is told of on stderr, as by reportBad.
func (a *app) writeHistory(ctx context.Context, src store.Source, name string, o replay.Options) error {
	s, err := replay.Reconstruct(ctx, src, name, &o)
	if err != nil {
		return err
	}
	for _, bad := range s.Problems {
		fmt.Fprintf(a.err, "%s: byte %d: %s\n", clean(bad.Name), bad.Offset, oneLine(bad.Err))
	}
	return writeItems(a.out, s.Items)
}

func writeItems(w io.Writer, items []json.RawMessage) error {
	if len(items) == 0 {
		_, err := io.WriteString(w, "[]\n")
		return err
	}
	for i, item := range items {
		before := ",\n"
		if i == 0 {
			before = "[\n"
		}
		if _, err := io.WriteString(w, before); err != nil {
			return err
		}
		if _, err := w.Write(item); err != nil {
			return err
		}
	}
	_, err := io.WriteString(w, "\n]\n")
	return err
}
