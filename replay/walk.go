package replay

import (
	"context"
	"math"
	"slices"

	"github.com/rollout-sync/rollout/codec"
)

// A walk finds where the history begins: it goes through a session from its newest
// item to its oldest, as Codex does, until the newest compaction is known that
// counts, and the settings. A rollback takes back the newest turns that it meets,
// with their compactions.
type walk struct {
	rules     rules
	open      segment // of which the beginning has not been seen
	rollbacks uint64  // turns that are still to be taken back
	base      *place  // the compaction that counts
	lost      *place  // a compaction in a turn that was taken back
	context   *span   // the settings that count
	newest    *span   // settings, whether they count or not
	last      turnEnd
}

// A segment is what belongs to a turn, or stands between turns.
type segment struct {
	used       bool
	turnID     string
	isTurn     bool // a person said something
	compaction *place
	context    *span
}

type turnEnd int

const (
	turnUnknown turnEnd = iota
	turnOpen
	turnEnded
)

// A mark is what a walk has to know of an item.
type mark struct {
	kind   markKind
	turnID string
	n      uint64 // of rollbacks
	at     span
}

type markKind byte

const (
	noMark markKind = iota
	markItem
	markTurn // an item with which a turn begins
	markCompaction
	markRollback
	markStart
	markEnd
	markContext
)

// mark returns the mark of an item.
func (r rules) mark(it codec.Item, at span) mark {
	m := mark{at: at}
	switch it.Type {
	case codec.TypeResponseItem:
		m.kind = markItem
		if e, ok, _ := r.entry(it.Payload); ok && e.turn {
			m.kind = markTurn
		}
	case codec.TypeCompacted:
		if c, err := compacted(it); err == nil {
			m.kind = markItem
			if c.ReplacementHistory != nil {
				m.kind = markCompaction
			}
		}
	case codec.TypeTurnContext:
		if v, err := it.Decode(); err == nil {
			m.kind, m.turnID = markContext, v.(*codec.TurnContext).TurnID
		}
	case "inter_agent_communication":
		m.kind = markTurn
	case codec.TypeEventMsg:
		v, err := it.Decode()
		if err != nil {
			break
		}
		switch v := v.(type) {
		case *codec.EventUserMessage:
			m.kind = markTurn
		case *codec.EventThreadRolledBack:
			m.kind, m.n = markRollback, uint64(max(0, v.NumTurns))
		case *codec.EventTaskStarted:
			m.kind, m.turnID = markStart, v.TurnID
		case *codec.EventTaskComplete:
			m.kind, m.turnID = markEnd, v.TurnID
		case *codec.EventTurnAborted:
			m.kind, m.turnID = markEnd, v.TurnID
		}
	}
	return m
}

// add takes the next older mark, and tells whether older ones matter.
func (w *walk) add(m mark) (more bool) {
	s := &w.open
	compatible := s.turnID == "" || m.turnID == "" || s.turnID == m.turnID
	switch m.kind {
	case noMark:
		return true
	case markItem:
		s.used = true
	case markTurn:
		s.used, s.isTurn = true, true
	case markCompaction:
		s.used = true
		if s.compaction == nil {
			s.compaction = &m.at.place
		}
	case markRollback:
		if w.rollbacks += m.n; w.rollbacks < m.n {
			w.rollbacks = math.MaxUint64
		}
	case markEnd:
		if w.last == turnUnknown {
			w.last = turnEnded
		}
		s.used = true
		if s.turnID == "" {
			s.turnID = m.turnID
		}
	case markContext:
		s.used = true
		if s.turnID == "" {
			s.turnID = m.turnID
		}
		if compatible && s.context == nil {
			s.context = &m.at
		}
		if w.newest == nil {
			w.newest = &m.at
		}
	case markStart:
		if w.last == turnUnknown {
			w.last = turnOpen
		}
		if s.used && compatible {
			w.finish()
		}
	}
	return w.base == nil || w.context == nil
}

// finish ends a segment, whose beginning has been reached.
func (w *walk) finish() {
	s := w.open
	w.open = segment{}
	if w.rules.keepsCompactions && w.base == nil {
		w.base = s.compaction
	}
	if w.rollbacks > 0 {
		if s.isTurn {
			w.rollbacks--
		}
		if s.compaction != nil {
			w.lost = s.compaction
		}
		return
	}
	if w.base == nil {
		w.base = s.compaction
	}
	if w.context == nil {
		w.context = s.context
	}
}

// end ends the walk.
func (w *walk) end() {
	w.finish()
	if w.context == nil {
		w.context = w.newest
	}
}

// start returns from where on the history has to be read, or after which place.
func (w *walk) start() (at place, after bool) {
	switch {
	case w.base != nil:
		return *w.base, false
	case w.lost != nil && w.rules.losesWithCompactions:
		return *w.lost, true
	}
	return place{}, false
}

// walk goes through a session from its end.
func (l *lineage) walk(ctx context.Context, r rules) (*walk, error) {
	w := &walk{rules: r}
	if l.seekable() {
		err := l.backward(ctx, func(rec placed) (bool, error) {
			it, err := usable(rec.Record)
			return err != nil || w.add(r.mark(it, span{rec.place, rec.Length})), ctx.Err()
		})
		w.end()
		return w, err
	}
	var marks []mark
	err := l.records(ctx, place{}, func(rec placed) (bool, error) {
		it, err := usable(rec.Record)
		if err != nil {
			return true, nil
		}
		m := r.mark(it, span{rec.place, rec.Length})
		n := len(marks)
		if m.kind == noMark || m.kind == markItem && n > 0 && marks[n-1].kind == markItem {
			return true, nil
		}
		marks = append(marks, m)
		return true, nil
	})
	for _, m := range slices.Backward(marks) {
		if !w.add(m) {
			break
		}
	}
	w.end()
	return w, err
}
