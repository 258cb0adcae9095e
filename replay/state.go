package replay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
)

// A State is what an agent that goes on with a session begins with.
type State struct {
	// Meta is the session's own metadata.
	Meta *codec.SessionMeta
	// Items is what the model would be sent, in front of what the next turn adds:
	// response items, as Codex sends them to a provider that is not OpenAI's.
	Items []json.RawMessage
	// Context has the settings of the last turn that counts and has some; nil if
	// none has.
	Context *codec.TurnContext
	// World is what the model has been told of its surroundings since the last
	// compaction, an object; nil if nothing, as before Codex 0.143.
	World json.RawMessage
	// Turns is how many turns Items has, as Codex counts them for a rollback:
	// messages of a person, and between agents. A compaction keeps some of them.
	Turns int
	// Incomplete tells that the last turn has not come to its end, nor was it
	// aborted: the session is in use, or was cut off.
	Incomplete bool
	// Problems are the lines among those that Items comes from that Codex skips,
	// and so they were here: at most 100.
	Problems []Problem
}

// A Problem is a place in a rollout that was skipped.
type Problem struct {
	Name   string // of the rollout
	Offset int64  // of the record in its plain bytes
	Err    error  // which never quotes it
}

// Options are the options of Reconstruct. Nil is the zero value.
type Options struct {
	// At is up to where the session counts; the zero value is all of it.
	At Point
	// Find finds what the session begins with by reference. Nil finds nothing.
	Find Finder
	// Version is that of the Codex which goes on, such as "0.118.0"; "" is the newest
	// known here, 0.169.0. They differ in a few things: see docs/replay.md. An older
	// one than the one that wrote the session is not modelled.
	Version string
	// Truncation is that of the model which goes on. Without it the last
	// turn_context's counts, which has one in Codex 0.50 to 0.98; and else nothing
	// is cut.
	Truncation Truncation
}

// A Point is a place in a session. The zero Point is its end.
type Point struct {
	kind pointKind
	n    uint64
}

type pointKind int

const (
	atEnd pointKind = iota
	afterLine
	afterOrdinal
	afterTurn
)

// AfterLine is behind the line n, counted from 1, of the session's own rollout;
// in front of it if n is 0.
func AfterLine(n int) Point { return Point{afterLine, uint64(max(0, n))} }

// AfterOrdinal is behind the item with this ordinal, or with the next lower one, of
// a paginated session.
func AfterOrdinal(n uint64) Point { return Point{afterOrdinal, n} }

// AfterTurn is behind turn n, counted from 1 and as [codec.Turns] does, also those
// of the rollouts that the session begins with; in front of the first if n is 0.
func AfterTurn(n int) Point { return Point{afterTurn, uint64(max(0, n))} }

// ErrNoPoint means that a session does not reach as far as a Point.
var ErrNoPoint = errors.New("the session has no such place")

// Reconstruct returns the state in which a session is: what Codex sends to the
// model when it goes on with it, of every generation. docs/replay.md tells how that
// comes about, and on which versions it was compared.
//
// A session is read from its end to the newest compaction that counts, and from
// there on again, so what is in front of that costs nothing: a few requests of a
// remote store. It is read from the beginning if its File is not Seekable or has no
// known size, and in part for a Point that is a turn, a line or an ordinal.
//
// Memory is that of the Items, of the longest line, and 8 MiB; without Seekable
// also some 100 bytes a turn.
//
// The errors are ErrEmpty, ErrNoMeta, ErrNoPoint, ErrNoBase, ErrBaseCycle,
// ErrBaseShort and those of the store and of Find. Lines that Codex would skip are
// no error but Problems; so is what is not valid UTF-8, for which Codex 0.169
// refuses a whole session that is not paginated. Plain events are
// errors.ErrUnsupported: no model of Codex was sent them.
func Reconstruct(ctx context.Context, src store.Source, name string, o *Options) (_ *State, err error) {
	if o == nil {
		o = &Options{}
	}
	l, err := openLineage(ctx, src, name, o.Find)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	s := &State{Meta: l.own().meta}
	if err := l.cutAt(ctx, o.At); err != nil {
		return nil, store.Wrap("replay", name, err)
	}
	h := history{rules: rulesOf(o.Version), truncate: o.Truncation}
	w, err := l.walk(ctx, h.rules)
	if err != nil {
		return nil, err
	}
	if w.context != nil {
		it, err := l.item(ctx, *w.context)
		if err != nil {
			return nil, err
		}
		if v, err := it.Decode(); err == nil {
			s.Context = v.(*codec.TurnContext)
		}
	}
	if h.truncate == (Truncation{}) && s.Context != nil {
		_ = json.Unmarshal(s.Context.TruncationPolicy, &h.truncate) // none is none
	}
	if err := s.replay(ctx, l, w, &h); err != nil {
		return nil, err
	}
	s.Items = h.items()
	for _, e := range h.entries {
		if e.turn {
			s.Turns++
		}
	}
	s.Incomplete = w.last == turnOpen || w.last == turnUnknown && h.unanswered()
	return s, nil
}

// replay reads on from where a walk has ended.
func (s *State) replay(ctx context.Context, l *lineage, w *walk, h *history) error {
	from, after := w.start()
	return l.records(ctx, from, func(rec placed) (bool, error) {
		if after && rec.place == from {
			return true, nil
		}
		it, err := usable(rec.Record)
		if errors.Is(err, codec.ErrBlank) {
			return true, nil
		}
		if err != nil {
			s.problem(l, rec, err)
			return true, nil
		}
		switch it.Type {
		case codec.TypeResponseItem:
			if err := h.record(it.Payload); err != nil {
				s.problem(l, rec, err)
			}
		case codec.TypeCompacted:
			c, err := compacted(it)
			if err != nil {
				s.problem(l, rec, err)
				return true, nil
			}
			switch {
			case c.ReplacementHistory == nil:
				h.compact(c.Message)
			case w.base != nil && rec.place == *w.base,
				w.rules.keepsCompactions, w.rules.losesWithCompactions:
				h.replace(c.ReplacementHistory)
			default:
				return true, nil // taken back
			}
			s.World = nil
		case "world_state":
			if v, err := it.Decode(); err == nil {
				s.world(v.(*codec.WorldState))
			}
		case codec.TypeEventMsg:
			if v, err := it.Decode(); err == nil {
				if r, ok := v.(*codec.EventThreadRolledBack); ok {
					h.rollBack(r.NumTurns)
				}
			}
		case codec.TypeUserMessage, codec.TypeAssistantMessage, codec.TypeToolCall, codec.TypeToolResult, codec.TypeSystem:
			return false, fmt.Errorf("%w: it has plain events", errors.ErrUnsupported)
		}
		return true, nil
	})
}

const maxProblems = 100

func (s *State) problem(l *lineage, rec placed, err error) {
	if len(s.Problems) < maxProblems {
		s.Problems = append(s.Problems, Problem{l.stretches[rec.stretch].name, rec.Offset, err})
	}
}

var (
	errGlued = errors.New("not the only record of its line")
	errUTF8  = errors.New("not valid UTF-8")
)

// usable returns the item of a record if Codex would read it.
func usable(rec codec.Record) (codec.Item, error) {
	switch {
	case rec.Err != nil:
		return codec.Item{}, rec.Err
	case !rec.Alone:
		return codec.Item{}, errGlued
	case !utf8.Valid(rec.Bytes):
		return codec.Item{}, errUTF8
	}
	return rec.Item, nil
}

// compacted decodes a compaction. What Codex does not read, such as metadata that
// does not fit, makes the line none.
func compacted(it codec.Item) (*codec.Compacted, error) {
	v, err := it.Decode()
	if err != nil {
		return nil, err
	}
	return v.(*codec.Compacted), nil
}

// world takes over a world_state: all of it, or a JSON merge patch (RFC 7396).
func (s *State) world(w *codec.WorldState) {
	switch {
	case w.Full:
		s.World = bytes.Clone(w.State)
	case s.World != nil: // else Codex ignores it, too
		s.World = mergePatch(s.World, w.State)
	}
}

func mergePatch(target, patch json.RawMessage) json.RawMessage {
	var p map[string]json.RawMessage
	if json.Unmarshal(patch, &p) != nil || p == nil {
		return bytes.Clone(patch)
	}
	var t map[string]json.RawMessage
	if json.Unmarshal(target, &t) != nil || t == nil {
		t = make(map[string]json.RawMessage)
	}
	for key, value := range p {
		if string(bytes.TrimSpace(value)) == "null" {
			delete(t, key)
		} else {
			t[key] = mergePatch(t[key], value)
		}
	}
	return marshal(t)
}

// unanswered tells whether the last turn has no answer yet.
func (h *history) unanswered() bool {
	for i := len(h.entries) - 1; i >= 0; i-- {
		e := h.entries[i]
		if e.turn || e.kind != "" {
			return true
		} else if e.answer {
			return false
		}
	}
	return false
}

// cutAt cuts the lineage at a point.
func (l *lineage) cutAt(ctx context.Context, p Point) error {
	var at place
	var err error
	switch p.kind {
	case atEnd:
		return nil
	case afterLine:
		at, err = l.afterLine(ctx, p.n)
	case afterOrdinal:
		at, err = l.afterOrdinal(ctx, p.n)
	case afterTurn:
		at, err = l.afterTurn(ctx, p.n)
	}
	if err != nil {
		return err
	}
	return l.cut(at)
}

func (l *lineage) afterLine(ctx context.Context, n uint64) (place, error) {
	at := place{len(l.stretches) - 1, 0}
	line := uint64(0)
	if n == 0 {
		return at, nil
	}
	more, err := l.own().records(ctx, 0, func(rec codec.Record) (bool, error) {
		line = uint64(rec.Line)
		at.offset = rec.Offset
		return line <= n, nil
	})
	switch {
	case err != nil:
		return at, err
	case !more && line > n: // at the line behind it
	case line < n:
		return at, fmt.Errorf("%w: it has %d lines", ErrNoPoint, line)
	default:
		at.offset = l.own().end
	}
	return at, nil
}

func (l *lineage) afterOrdinal(ctx context.Context, n uint64) (place, error) {
	i := len(l.stretches) - 1
	for i > 0 && l.stretches[i].meta.HistoryBase.Ordinal > n {
		i--
	}
	at := place{i, l.stretches[i].end}
	numbered := false
	_, err := l.stretches[i].records(ctx, 0, func(rec codec.Record) (bool, error) {
		if rec.Err == nil && rec.Item.HasOrdinal {
			numbered = true
			if rec.Item.Ordinal > n {
				at.offset = rec.Offset
				return false, nil
			}
		}
		return true, nil
	})
	if err == nil && !numbered {
		err = fmt.Errorf("%w: its items have no ordinals", ErrNoPoint)
	}
	return at, err
}

func (l *lineage) afterTurn(ctx context.Context, n uint64) (place, error) {
	var turns codec.Turns
	err := l.records(ctx, place{}, func(rec placed) (bool, error) {
		if it, err := usable(rec.Record); err == nil {
			turns.Add(it, l.virtual(rec.place))
		}
		return true, nil
	})
	switch {
	case err != nil:
		return place{}, err
	case n < uint64(len(turns.Starts)):
		return l.real(turns.Starts[n]), nil
	case n > uint64(len(turns.Starts)):
		return place{}, fmt.Errorf("%w: it has %d turns", ErrNoPoint, len(turns.Starts))
	}
	return place{len(l.stretches) - 1, l.own().end}, nil
}
