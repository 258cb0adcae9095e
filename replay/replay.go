// Package replay reads sessions back, of every generation of Codex's format and
// from any [store.Source]: item by item with [Load], and as a transcript for
// people with [WriteText].
package replay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
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

// ErrTorn is the Err of a last line that was cut off, by a crash or because it is
// still being written.
var ErrTorn = errors.New("cut off at the end of the file")

// An Item is a line of a session that is not blank.
type Item struct {
	// Item is what the line says. Its Payload and Metadata are valid until the
	// next item is asked for.
	codec.Item
	Line   int   // counted from 1, blank lines too
	Offset int64 // of the line in the plain bytes
	// Err tells why the line is no item, which then is zero: ErrTorn, or what is
	// wrong with it, which never quotes it. Codex skips such lines.
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
		r, err := f.Range(ctx, 0, -1)
		if err != nil {
			yield(Item{}, err)
			return
		}
		defer r.Close()

		it := Item{}
		empty, hasMeta := true, false
		for line, err := range codec.Lines(r) {
			if err == nil {
				err = ctx.Err()
			}
			if err != nil {
				yield(Item{}, store.Wrap("load", name, err))
				return
			}
			it.Line++
			it.Offset = line.Offset
			if len(bytes.TrimSpace(line.Bytes)) == 0 {
				continue
			}
			it.Item, it.Err = codec.DecodeItem(line.Bytes)
			if it.Err != nil && !line.Ended {
				it.Err = ErrTorn
			}
			empty = false
			hasMeta = hasMeta || it.Type == codec.TypeSessionMeta
			if !yield(it, nil) {
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

// A Tally sums up a session whose items are added to it one by one. The zero
// value is ready.
type Tally struct {
	ID       string // the session's: that of the first session_meta
	Items    int
	Problems int // lines that are no items
}

// Add adds an item.
func (t *Tally) Add(it Item) {
	if it.Err != nil {
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
