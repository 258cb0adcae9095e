package listing

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout/codec"
)

// ErrCursor means that Query.Cursor is not a cursor.
var ErrCursor = errors.New("not a cursor")

// A position is a place in the order. No two items have the same.
type position struct {
	time int64 // in ms since 1970
	id   uuid.UUID
}

func compareID(a, b uuid.UUID) int { return bytes.Compare(a[:], b[:]) }

const cursorTime = "2006-01-02T15:04:05.000Z07:00"

func (p position) String() string {
	return time.UnixMilli(p.time).UTC().Format(cursorTime) + "|" + p.id.String()
}

// parseCursor returns the place that a cursor names. If its time is only the one
// of a file name, named is true.
func parseCursor(s string) (p position, named bool, err error) {
	stamp, id, _ := strings.Cut(s, "|")
	t, err := time.Parse(time.RFC3339, stamp)
	if err != nil {
		named = true
		t, err = time.Parse("2006-01-02T15-04-05", stamp)
	}
	if err == nil {
		p.id, err = uuid.Parse(id)
	}
	if err != nil || p.id.String() != id {
		return position{}, false, fmt.Errorf("%w: %.100q", ErrCursor, s)
	}
	p.time = t.UnixMilli()
	return p, named, nil
}

// locate returns the place of the rollout p.id, given the time in its file name.
// If it is gone, that is where it would have been as far as can be told.
func (s *search) locate(ctx context.Context, p position) (position, error) {
	q := Query{ID: p.id.String(), Light: true}
	l := &search{Query: q, places: s.places, filter: newFilter(q), window: span{p.time, p.time}.widen()}
	l.addRoots()
	ctx, cancel := context.WithCancel(ctx)
	defer l.end(cancel)
	defer func() { s.scanned.Add(l.scanned.Load()) }()
	for {
		n, err := l.next(ctx)
		switch {
		case err != nil:
			return position{}, err
		case n == nil:
			if t, ok := (codec.Name{Rollout: p.id}).Time(); ok {
				p.time = always.clamp(t.UnixMilli())
			}
			return p, nil
		case n.id == p.id:
			return n.at(), nil
		}
	}
}
