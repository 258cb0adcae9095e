// Package replay reads sessions back, of every generation of Codex's format and
// from any [store.Source]: item by item with [Load], or with [Follow] as they are
// written. [Entries] makes of items what people look at, and [WriteText],
// [WriteMarkdown], [WriteHTML] and [WriteJSON] write that:
//
//	items := replay.Load(ctx, src, name)
//	err := replay.WriteHTML(w, replay.Redact(replay.Entries(items)))
//
// All of it streams: the memory that it takes does not depend on how long a session
// is, but on its longest line. [Reconstruct] returns the state from which an agent
// goes on: what its model would be sent.
package replay

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"iter"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
)

// Errors that end a Load after everything else was yielded.
var (
	// ErrEmpty means that the session has no line, or only blank ones.
	ErrEmpty = errors.New("the session is empty")
	// ErrNoMeta means that no line says what session it is. Codex reads nothing
	// of such a file.
	ErrNoMeta = errors.New("the session has no metadata")
)

// An Item is a record of a session: a line that is not blank, or one of several
// on a damaged line.
type Item struct {
	// Item is what the line says. Its Payload and Metadata are valid until the
	// next item is asked for.
	codec.Item
	// Line is counted from 1, blank lines too, or from the end, of which the last is
	// -1 (see LoadLast); 0 is no record (see Follow).
	Line   int
	Offset int64 // of the record in the plain bytes
	// Err tells why the record is no item, which then is zero: codec.ErrTorn,
	// codec.ErrNUL or what else is wrong with it, which never quotes it. Codex
	// skips the lines of such records.
	Err error
}

// Load reads a session from its first line to its last. Lines that cannot be read
// are yielded with their Err. An error ends the sequence and comes with a zero
// Item: it is ErrEmpty or ErrNoMeta, found at the end, or the store's.
//
// Memory is that of the longest line. Ranging over it again reads the session
// again, as it is then.
func Load(ctx context.Context, src store.Source, name string) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		f, err := src.Open(ctx, name)
		if err != nil {
			yield(Item{}, err)
			return
		}
		defer f.Close()
		LoadFile(ctx, f, name)(yield)
	}
}

// LoadFile is Load of a log that is open, which it does not close. What it reads, each
// time, is that version.
func LoadFile(ctx context.Context, f store.File, name string) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		r, err := f.Range(ctx, 0, -1)
		if err != nil {
			yield(Item{}, err)
			return
		}
		defer r.Close()

		empty, hasMeta := true, false
		for it, err := range itemsOf(ctx, r, name, 1, 0) {
			empty = false
			hasMeta = hasMeta || it.Type == codec.TypeSessionMeta
			if !yield(it, err) || err != nil {
				return
			}
		}
		switch {
		case empty:
			yield(Item{}, store.Wrap("load", name, ErrEmpty))
		case !hasMeta:
			yield(Item{}, store.Wrap("load", name, ErrNoMeta))
		}
	}
}

// itemsOf returns the items of what r reads: a rollout from an offset on, which is
// where a line begins.
func itemsOf(ctx context.Context, r io.Reader, name string, line int, off int64) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		for rec, err := range codec.Records(r, 0) {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(Item{}, store.Wrap("load", name, err))
				return
			}
			if errors.Is(rec.Err, codec.ErrBlank) {
				continue
			}
			it := Item{Line: line + rec.Line - 1, Offset: off + rec.Offset, Err: rec.Err}
			if it.Err == nil {
				it.Item = rec.Item
			}
			if !yield(it, nil) {
				return
			}
		}
	}
}

// A Tally sums up a session whose items are added to it one by one. The zero
// value is ready.
type Tally struct {
	ID       string // the session's: that of the first session_meta
	Items    int
	Problems int // lines that are no items
}

// Add adds an item.
func (t *Tally) Add(it Item) {
	switch {
	case it.Line == 0:
		return
	case it.Err != nil:
		t.Problems++
		return
	}
	t.Items++
	if t.ID == "" && it.Type == codec.TypeSessionMeta {
		var meta struct{ ID string }
		// An id that is no string is none.
		_ = json.Unmarshal(it.Payload, &meta)
		t.ID = meta.ID
	}
}
