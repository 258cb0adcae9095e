package replay

import (
	"context"
	"errors"
	"fmt"
	"iter"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
)

// LoadUntil is Load up to a point, as EndOf has it: what follows is left out.
func LoadUntil(ctx context.Context, src store.Source, name string, at Point, find Finder) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		end, err := EndOf(ctx, src, name, at, find)
		if err != nil {
			yield(Item{}, store.Wrap("load", name, err))
			return
		}
		for it, err := range Load(ctx, src, name) {
			if err == nil && end >= 0 && it.Offset >= end || !yield(it, err) {
				return
			}
		}
	}
}

// EndOf returns the offset of a point in a session's own rollout, where a line ends,
// and -1 for the end of the session. Turns are counted in the rollouts that it begins
// with by reference, too, which find finds; a point in one of those is ErrNoPoint, as
// is one that the session does not reach.
func EndOf(ctx context.Context, src store.Source, name string, at Point, find Finder) (end int64, err error) {
	if at == (Point{}) {
		return -1, nil
	}
	l, err := openLineage(ctx, src, name, find)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	stretches := len(l.stretches)
	if err := l.cutAt(ctx, at); err != nil {
		return 0, err
	}
	if len(l.stretches) < stretches {
		return 0, fmt.Errorf("%w: it is in a rollout that this one begins with", ErrNoPoint)
	}
	return l.own().end, nil
}

// LoadLast is Load of the first item, if that is a session_meta, and of all from the
// last message of the user on, with what Codex wrote in front of it for the same
// turn. It reads the session from its end, so that a few requests do for the largest
// one in a mirror; where reading from the middle is not possible, it reads all of it.
func LoadLast(ctx context.Context, src store.Source, name string) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		f, err := src.Open(ctx, name)
		if err != nil {
			yield(Item{}, err)
			return
		}
		defer f.Close()
		line, off, err := lastTurn(ctx, f)
		if err != nil {
			yield(Item{}, store.Wrap("load", name, err))
			return
		}
		if off == 0 {
			Load(ctx, src, name)(yield)
			return
		}
		head, err := f.Range(ctx, 0, off)
		if err != nil {
			yield(Item{}, err)
			return
		}
		defer head.Close()
		for it, err := range itemsOf(ctx, head, name, 1, 0) {
			if err != nil || it.Type == codec.TypeSessionMeta {
				if !yield(it, err) || err != nil {
					return
				}
			}
			break
		}
		tail, err := f.Range(ctx, off, -1)
		if err != nil {
			yield(Item{}, err)
			return
		}
		defer tail.Close()
		for it, err := range itemsOf(ctx, tail, name, line, off) {
			if !yield(it, err) {
				return
			}
		}
	}
}

// lastTurn returns where the last turn begins: the line, counted from the end, and
// its offset. It is 0 if the session is to be read from its beginning.
func lastTurn(ctx context.Context, f store.File) (line int, off int64, err error) {
	if !f.Info().Seekable || f.Info().Size < 0 {
		return 0, 0, nil
	}
	said := false
	for rec, err := range codec.RecordsBackward(&windowReader{ctx: ctx, f: f}, f.Info().Size, 0) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return 0, 0, err
		}
		switch kind := turnPart(rec); {
		case kind == partMessage:
			said = true
		case said && kind == partNone:
			return line, off, nil
		case !said:
			continue
		}
		line, off = rec.Line, rec.Offset
	}
	return 0, 0, nil
}

type part int

const (
	partNone    part = iota
	partOpening      // may stand in front of a user's message and belong to it
	partMessage      // is one
)

func turnPart(rec codec.Record) part {
	if rec.Err != nil {
		return partNone
	}
	payload, _ := rec.Item.Decode()
	switch p := payload.(type) {
	case *codec.EventUserMessage:
		return partMessage
	case *codec.EventItemCompleted:
		if item, _ := codec.DecodeTurnItem(p.Item); item != nil {
			if _, ok := item.(*codec.TurnUserMessage); ok {
				return partMessage
			}
		}
	case *codec.TurnContext, *codec.EventTaskStarted, *codec.WorldState:
		return partOpening
	case *codec.Message:
		if p.Role != "assistant" {
			if rec.Item.Timestamp == "" && p.Role == "user" {
				return partMessage // a bare line of 2025
			}
			return partOpening
		}
	case *codec.PlainMessage:
		if rec.Item.Type == codec.TypeUserMessage {
			return partMessage
		}
	}
	return partNone
}
