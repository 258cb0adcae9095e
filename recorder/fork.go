package recorder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
)

// A Parent is what a Fork begins with.
type Parent struct {
	Source store.Source
	Name   string
	// End is the offset up to which its lines are taken over, 0 all of them:
	// replay.EndOf has it for a line or a turn. The new session may begin within a
	// turn.
	End int64
}

// Fork returns a recorder of a new session that begins as another one did: its own
// session_meta, with ForkedFrom set to the parent's id, and then the parent's
// lines, byte for byte, its session_meta too. That is what Codex makes of a fork of
// history mode legacy. The parent is read once, and may have a writer; a last line of
// it that is torn is left out.
//
// Of a paginated parent, which has no events that a legacy session is shown by, the
// model is sent all of it and Codex's user gets to see little.
//
// As with New the file is made by the first write: Persist makes it now. A parent
// that begins with a part of another rollout, by reference, and one of plain
// events, which are numbered, are errors.ErrUnsupported.
//
// The errors are those of New, Resume and the store.
func Fork(ctx context.Context, p Parent, sink store.Sink, m Meta, o *Options) (_ *Recorder, err error) {
	f, err := p.Source.Open(ctx, p.Name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	head, id, err := readHead(ctx, f)
	plain := o != nil && o.Plain
	if err == nil && !plain {
		plain, err = beginsPlain(ctx, f)
	}
	switch {
	case err != nil:
	case head.Base.Rollout != "":
		err = fmt.Errorf("%w: its beginning is a part of rollout %s", errors.ErrUnsupported, head.Base.Rollout)
	case plain:
		err = fmt.Errorf("%w: it has plain events, or would", errors.ErrUnsupported)
	}
	end := int64(-1)
	if size := f.Info().Size; err == nil && p.End > 0 {
		if end = p.End; size >= 0 && end > size {
			err = fmt.Errorf("it has %d bytes and not %d", size, end)
		}
	}
	if err != nil {
		return nil, store.Wrap("fork", p.Name, err)
	}
	m.ForkedFrom = id
	r, err := New(sink, m, o)
	if err != nil {
		return nil, err
	}
	await := r.o.AwaitPersist
	r.o.AwaitPersist = false // for the parent's lines, of which there may be many
	err = r.copyLines(ctx, f, end)
	r.o.AwaitPersist = await
	if err != nil {
		return nil, store.Wrap("fork", p.Name, errors.Join(err, r.discard(context.WithoutCancel(ctx))))
	}
	return r, nil
}

// copyLines records the lines of f up to offset end, as they are.
func (r *Recorder) copyLines(ctx context.Context, f store.File, end int64) error {
	return eachLine(ctx, f, end, func(line codec.Line) error {
		if !line.Ended {
			if _, err := codec.DecodeItem(line.Bytes); err != nil {
				return nil // torn
			}
		}
		return r.record(ctx, func() error {
			r.pending = append(append(r.pending, line.Bytes...), '\n')
			r.recorded++
			return nil
		})
	})
}

func eachLine(ctx context.Context, f store.File, end int64, do func(codec.Line) error) (err error) {
	rc, err := f.Range(ctx, 0, end)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rc.Close()) }()
	for line, err := range codec.Lines(rc) {
		if err == nil {
			err = do(line)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// discard gives up a session that New began, and what is written of it, if the
// store can remove that and nobody else has written to it.
func (r *Recorder) discard(ctx context.Context) error {
	r.turn <- struct{}{}
	defer r.give()
	r.mu.Lock()
	r.finished, r.closed = true, true
	r.mu.Unlock()
	err := r.release()
	source, canRead := store.As[store.Source](r.sink)
	remover, canRemove := store.As[store.Remover](r.sink)
	if !r.made || !canRead || !canRemove {
		return err
	}
	f, e := source.Open(ctx, r.name)
	if errors.Is(e, fs.ErrNotExist) {
		return err // it stayed empty, or the store is write-once
	} else if e != nil {
		return errors.Join(err, e)
	}
	info := f.Info()
	if e = f.Close(); e == nil && info.Size == r.size {
		e = remover.Remove(ctx, r.name, info.Version)
	}
	return errors.Join(err, e)
}
