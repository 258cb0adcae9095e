package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"time"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
)

const (
	// followInterval is how often Follow looks for more: a person waits for it.
	followInterval = 500 * time.Millisecond
	// followMisses is how often in a row the session may be missing. Codex moves
	// and compresses files in steps that leave moments without one.
	followMisses = 4
	// followCheck is how many bytes in front of its place Follow compares, to
	// notice that a session was rewritten.
	followCheck = 4 << 10
)

// Follow reads a session like [Load] and goes on with what is appended, which it
// looks for twice a second, until ctx is done. When it has yielded all that is
// there it yields, once and without an error, an Item whose Line is 0, and waits.
// A line counts when it has its '\n'.
//
// The session is opened by its name each time, so it is followed when it is
// compressed, and also to Codex's archived_sessions and back. Follow ends with an
// error that is fs.ErrNotExist when the session is gone, and store.ErrChanged when
// what was read is no longer what is there. Else the last error is ctx's.
//
// Memory is that of the longest line. Each look is an Open: do not follow a session
// in a store where that costs money.
func Follow(ctx context.Context, src store.Source, name string) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		f := follower{src: src, name: name}
		ticker := time.NewTicker(followInterval)
		defer ticker.Stop()
		for misses := 0; ; {
			n := f.offset
			goOn, err := f.look(ctx, yield)
			switch {
			case !goOn:
				return
			case ctx.Err() != nil:
				yield(Item{}, store.Wrap("follow", name, ctx.Err()))
				return
			case errors.Is(err, fs.ErrNotExist) && misses < followMisses && f.opened:
				misses++
			case err != nil:
				yield(Item{}, store.Wrap("follow", name, err))
				return
			default:
				misses = 0
				if (!f.idle || f.offset > n) && !yield(Item{}, nil) {
					return
				}
				f.idle = true
			}
			select {
			case <-ctx.Done():
			case <-ticker.C:
			}
		}
	}
}

// follower is a place in a session.
type follower struct {
	src    store.Source
	name   string
	opened bool   // once
	idle   bool   // the caller knows that it has everything
	seen   string // the version that was looked at
	offset int64  // all in front of it was yielded
	lines  int    // that many lines
	tail   []byte // the last bytes in front of offset
}

// look yields what was appended. goOn is false when the caller has enough.
func (f *follower) look(ctx context.Context, yield func(Item, error) bool) (goOn bool, err error) {
	file, err := f.open(ctx)
	if err != nil {
		return true, err
	}
	defer file.Close()
	info := file.Info()
	if info.Version != "" && info.Version == f.seen {
		return true, nil
	}
	r, err := file.Range(ctx, f.offset-int64(len(f.tail)), -1)
	if err != nil {
		return true, err
	}
	defer r.Close()
	was := make([]byte, len(f.tail))
	if n, err := io.ReadFull(r, was); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return true, err
	} else if !bytes.Equal(was[:n], f.tail) {
		return true, fmt.Errorf("%w: it was rewritten", store.ErrChanged)
	}
	base, lines := f.offset, f.lines
	for rec, err := range codec.Records(r, 0) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return true, err
		}
		if !rec.Ended {
			break
		}
		f.advance(base+rec.Offset+rec.Length+1, lines+rec.Line, rec.Bytes)
		if errors.Is(rec.Err, codec.ErrBlank) {
			continue
		}
		it := Item{Line: f.lines, Offset: base + rec.Offset, Err: rec.Err}
		if it.Err == nil {
			it.Item = rec.Item
		}
		if !yield(it, nil) {
			return false, nil
		}
	}
	f.seen = info.Version
	return true, nil
}

// open opens the session, which may have been moved.
func (f *follower) open(ctx context.Context) (store.File, error) {
	file, err := f.src.Open(ctx, f.name)
	if other := moved(f.name); errors.Is(err, fs.ErrNotExist) && f.opened && other != "" {
		if file, err = f.src.Open(ctx, other); err == nil {
			f.name = other
		}
	}
	if f.opened = f.opened || err == nil; errors.Is(err, fs.ErrNotExist) && f.opened {
		err = fmt.Errorf("it is gone: %w", fs.ErrNotExist)
	}
	return file, err
}

// moved returns where Codex moves a session to when it is archived, or back; "" if
// the name does not tell.
func moved(name string) string {
	const archive = "archived_sessions"
	base := path.Base(name)
	if path.Dir(name) != archive {
		return path.Join(archive, base)
	}
	n, err := codec.ParseName(base)
	year, month, day, ok := n.Date()
	if err != nil || !ok {
		return ""
	}
	return path.Join("sessions", year, month, day, base)
}

// advance goes to the end of a record, to where offset is.
func (f *follower) advance(offset int64, line int, record []byte) {
	f.offset, f.lines = offset, line
	f.tail = append(f.tail[:0], record[max(0, len(record)-followCheck):]...)
	f.tail = append(f.tail, '\n')
}
