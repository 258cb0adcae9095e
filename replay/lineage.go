package replay

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
)

// What is wrong with the rollouts that a session begins with by reference.
var (
	// ErrNoBase means that a rollout which another begins with was not found.
	ErrNoBase = errors.New("the rollout that it begins with is missing")
	// ErrBaseCycle means that rollouts begin with each other.
	ErrBaseCycle = errors.New("it begins with itself")
	// ErrBaseShort means that a rollout is shorter than the stretch of it that another
	// begins with. What follows that offset is not what it was written for.
	ErrBaseShort = errors.New("the rollout that it begins with is too short")
)

// A Finder finds a rollout by its id, which is the last UUID in its file's name: of
// a session that was reverted, one of several. Only what a paginated fork or revert
// begins with is asked for. What is not there is fs.ErrNotExist.
type Finder func(ctx context.Context, rollout string) (src store.Source, name string, err error)

// A lineage is a session's log, in stretches: those of the rollouts that it begins with,
// the oldest first, and at last its own.
type lineage struct {
	stretches []stretch
}

// A stretch is the first end bytes of a rollout.
type stretch struct {
	name string
	file store.File
	end  int64 // -1: all of it, and its size is not known
	meta *codec.SessionMeta
}

func (s stretch) size() int64 {
	if s.end >= 0 {
		return s.end
	}
	return s.file.Info().Size
}

// openLineage opens a rollout and all that it begins with. Of each only the head is
// read.
func openLineage(ctx context.Context, src store.Source, name string, find Finder) (l *lineage, err error) {
	l = &lineage{}
	defer func() {
		if err != nil {
			err = errors.Join(err, l.close())
		}
	}()
	seen := make(map[string]bool)
	child := name
	for end := int64(-1); ; {
		f, err := src.Open(ctx, name)
		if errors.Is(err, fs.ErrNotExist) && len(l.stretches) > 0 {
			err = store.Wrap("replay", child, fmt.Errorf("%w: %w", ErrNoBase, err))
		}
		if err != nil {
			return l, err
		}
		l.stretches = append([]stretch{{name: name, file: f, end: end}}, l.stretches...)
		s := &l.stretches[0]
		if size := f.Info().Size; size >= 0 && end > size {
			return l, store.Wrap("replay", child, fmt.Errorf("%w: %s has %d bytes, and not %d", ErrBaseShort, name, size, end))
		}
		if s.meta, err = s.readMeta(ctx); err != nil {
			return l, store.Wrap("replay", name, err)
		}
		if s.meta.HistoryBase == nil {
			return l, nil
		}
		id := s.meta.ID
		if n, err := codec.ParseName(path.Base(name)); err == nil {
			id = n.Rollout.String()
		}
		seen[id] = true
		base := *s.meta.HistoryBase
		switch {
		case seen[base.Rollout]:
			return l, store.Wrap("replay", name, fmt.Errorf("%w: rollout %s", ErrBaseCycle, base.Rollout))
		case find == nil:
			err = fs.ErrNotExist
		default:
			child = name
			src, name, err = find(ctx, base.Rollout)
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: rollout %s", ErrNoBase, base.Rollout)
		}
		if err != nil {
			return l, store.Wrap("replay", child, err)
		}
		end = base.Offset
	}
}

// readMeta returns the first session_meta, which Codex wants in front of all that
// the model is sent.
func (s stretch) readMeta(ctx context.Context) (meta *codec.SessionMeta, err error) {
	empty := true
	_, err = s.records(ctx, 0, func(rec codec.Record) (bool, error) {
		switch {
		case errors.Is(rec.Err, codec.ErrBlank):
			return true, nil
		case rec.Err == nil && rec.Item.Type == codec.TypeSessionMeta:
			rec.Item.Payload = bytes.Clone(rec.Item.Payload) // what is decoded has parts of it
			v, err := rec.Item.Decode()
			meta = v.(*codec.SessionMeta)
			return false, err
		}
		empty = false
		return rec.Item.Type != codec.TypeResponseItem, nil
	})
	switch {
	case err != nil || meta != nil:
	case empty:
		err = ErrEmpty
	default:
		err = ErrNoMeta
	}
	return meta, err
}

func (l *lineage) close() error {
	var errs []error
	for _, s := range l.stretches {
		errs = append(errs, s.file.Close())
	}
	return errors.Join(errs...)
}

// own is the stretch of the session's own rollout, or of the one that was cut last.
func (l *lineage) own() *stretch { return &l.stretches[len(l.stretches)-1] }

// cut ends the lineage at a place.
func (l *lineage) cut(at place) error {
	var errs []error
	for _, s := range l.stretches[at.stretch+1:] {
		errs = append(errs, s.file.Close())
	}
	l.stretches = l.stretches[:at.stretch+1]
	l.own().end = at.offset
	return errors.Join(errs...)
}

// A place is an offset in a stretch.
type place struct {
	stretch int
	offset  int64
}

// A placed is a record and its place.
type placed struct {
	codec.Record
	place
}

// A span is the place of a record and its length.
type span struct {
	place
	length int64
}

// records yields the records from a place on. They are valid until the next.
func (l *lineage) records(ctx context.Context, from place, yield func(placed) (more bool, err error)) error {
	for i := from.stretch; i < len(l.stretches); i++ {
		more, err := l.stretches[i].records(ctx, from.offset, func(rec codec.Record) (bool, error) {
			return yield(placed{rec, place{i, rec.Offset}})
		})
		if err != nil {
			return store.Wrap("replay", l.stretches[i].name, err)
		} else if !more {
			return nil
		}
		from.offset = 0
	}
	return nil
}

func (s stretch) records(ctx context.Context, from int64, yield func(codec.Record) (bool, error)) (more bool, err error) {
	n := int64(-1)
	if s.end >= 0 {
		n = s.end - from
	}
	r, err := s.file.Range(ctx, from, n)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	counted := &counter{r: r}
	for rec, err := range codec.Records(counted, 0) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return false, err
		}
		rec.Offset += from
		if more, err := yield(rec); err != nil || !more {
			return false, err
		}
	}
	if counted.n < n {
		return false, fmt.Errorf("%w: it has %d bytes, and not %d", ErrBaseShort, from+counted.n, s.end)
	}
	return true, nil
}

// A counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

// item returns the item of the record at a place.
func (l *lineage) item(ctx context.Context, at span) (codec.Item, error) {
	s := l.stretches[at.stretch]
	r, err := s.file.Range(ctx, at.offset, at.length)
	if err != nil {
		return codec.Item{}, err
	}
	line := make([]byte, at.length)
	_, err = io.ReadFull(r, line)
	var it codec.Item
	if err = errors.Join(err, r.Close()); err == nil {
		it, err = codec.DecodeItem(line)
	}
	return it, store.Wrap("replay", s.name, err)
}

// virtual returns a place's offset in all stretches together, and real the place.
func (l *lineage) virtual(at place) int64 {
	for _, s := range l.stretches[:at.stretch] {
		at.offset += s.end
	}
	return at.offset
}

func (l *lineage) real(offset int64) (at place) {
	for at.stretch < len(l.stretches)-1 && offset >= l.stretches[at.stretch].end {
		offset -= l.stretches[at.stretch].end
		at.stretch++
	}
	at.offset = offset
	return at
}

// backward yields the records from the last to the first.
func (l *lineage) backward(ctx context.Context, yield func(placed) (more bool, err error)) error {
	for i := len(l.stretches) - 1; i >= 0; i-- {
		s := l.stretches[i]
		for rec, err := range codec.RecordsBackward(&windowReader{ctx: ctx, f: s.file}, s.size(), 0) {
			more := false
			if err == nil {
				more, err = yield(placed{rec, place{i, rec.Offset}})
			}
			if err != nil {
				return store.Wrap("replay", s.name, err)
			} else if !more {
				return nil
			}
		}
	}
	return nil
}

// seekable tells whether reading backward costs no more than forward.
func (l *lineage) seekable() bool {
	for _, s := range l.stretches {
		if !s.file.Info().Seekable || s.size() < 0 {
			return false
		}
	}
	return true
}

// A windowReader reads a log at falling offsets, in front of what is asked for as
// much again, if that is less than maxWindow: from a remote store each read is a
// request.
type windowReader struct {
	ctx    context.Context
	f      store.File
	window []byte
	at     int64 // where it begins
	next   int64 // how much is read the next time
}

const (
	minWindow = 256 << 10
	maxWindow = 4 << 20
)

func (r *windowReader) ReadAt(p []byte, off int64) (int, error) {
	end := off + int64(len(p))
	if off < r.at || end > r.at+int64(len(r.window)) {
		if len(p) >= maxWindow {
			r.next = maxWindow
			return r.read(p, off)
		}
		from := max(0, min(off, end-max(r.next, minWindow)))
		r.next = min(maxWindow, 2*max(r.next, minWindow))
		if int64(cap(r.window)) < end-from {
			r.window = make([]byte, end-from)
		}
		n, err := r.read(r.window[:end-from], from)
		r.window, r.at = r.window[:n], from
		if err != nil {
			return 0, err
		}
	}
	return copy(p, r.window[off-r.at:]), nil
}

func (r *windowReader) read(p []byte, off int64) (int, error) {
	rc, err := r.f.Range(r.ctx, off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	n, err := io.ReadFull(rc, p)
	return n, errors.Join(err, rc.Close())
}
