package doctor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/replay"
)

// same tells of rollouts that are there more than once.
func (e *examiner) same(ctx context.Context) error {
	slices.SortFunc(e.places, byID)
	for rest := e.places; len(rest) > 0; {
		n := 1
		for n < len(rest) && rest[n].id == rest[0].id {
			n++
		}
		if err := e.copies(ctx, rest[:n]); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// copies compares the files of one rollout with the one that is to stay.
func (e *examiner) copies(ctx context.Context, files []place) error {
	best := files[0]
	for _, other := range files[1:] {
		f := Finding{Kind: Duplicate, Path: other.path(), Other: best.path(), session: other.session}
		if other.plain() == best.plain() {
			f.Kind = Forms
		}
		rel, err := compare(ctx, e.Home, other, best)
		if e := ctx.Err(); e != nil {
			return e
		}
		if err != nil {
			f.Detail, f.Cure = fmt.Sprintf("cannot be compared with %s: %s", best.path(), reason(err)), "see what is said of the two files"
			e.found(f)
			continue
		}
		// A database of Codex's has the path of one file, most likely that of the
		// first: without it Codex 0.169 does not find the session any more. Of two
		// forms it has one path.
		f.Mendable = rel == equal || rel == shorter || rel == longer && f.Kind == Forms
		if rel == longer {
			f.Path, f.Other = best.path(), other.path()
			best = other
		}
		f.Detail, f.Cure = copyDetail(f, rel)
		e.found(f)
	}
	return nil
}

func copyDetail(f Finding, rel relation) (detail, cure string) {
	what := "the same rollout is in " + f.Other
	if f.Kind == Forms {
		what = "the rollout is also there in its other form, " + f.Other
	}
	switch rel {
	case equal:
		detail = what + ", with the same bytes"
	case different:
		return what + ", with other bytes", "compare the two, and move the one out of the home that is not wanted; of two forms Codex takes the .jsonl"
	default:
		detail = what + ", which begins with all of this one and goes on"
	}
	if !f.Mendable {
		return detail, "while Codex does not run, move this one out of the home and the other to its path, which is the one that Codex knows"
	}
	return detail, "doctor --apply moves this one out of the sessions"
}

// A relation is what the bytes of a file are to those of another.
type relation int

const (
	equal     relation = iota
	shorter            // the other begins with all of it
	longer             // it begins with all of the other
	different          // neither
)

// compare compares the plain bytes of two rollouts.
func compare(ctx context.Context, home *os.Root, a, b place) (relation, error) {
	ra, err := openPlain(ctx, home, a.path(), a.sealed())
	if err != nil {
		return different, err
	}
	defer ra.Close()
	rb, err := openPlain(ctx, home, b.path(), b.sealed())
	if err != nil {
		return different, err
	}
	defer rb.Close()
	const piece = 64 << 10
	pa, pb := make([]byte, piece), make([]byte, piece)
	for {
		n, err := readFull(ctx, ra, pa)
		if err != nil {
			return different, err
		}
		m, err := readFull(ctx, rb, pb)
		if err != nil {
			return different, err
		}
		switch {
		case !bytes.Equal(pa[:min(n, m)], pb[:min(n, m)]):
			return different, nil
		case n < m:
			return shorter, nil
		case n > m:
			return longer, nil
		case n < piece:
			return equal, nil
		}
	}
}

// readFull reads until p is full or the end.
func readFull(ctx context.Context, r io.Reader, p []byte) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	n, err := io.ReadFull(r, p)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return n, err
}

// plainReader reads the plain bytes of a file.
type plainReader struct {
	io.ReadCloser
	f *os.File
}

func (r plainReader) Close() error { return errors.Join(r.ReadCloser.Close(), r.f.Close()) }

func openPlain(ctx context.Context, home *os.Root, file string, isSealed bool) (io.ReadCloser, error) {
	f, err := home.Open(file)
	if err != nil || !isSealed {
		return f, err
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	r, err := sealed(f, fi.Size()).Range(ctx, 0, -1)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return plainReader{r, f}, nil
}

// sealed reads the compressed file f.
func sealed(f *os.File, stored int64) *codec.Sealed {
	return codec.OpenSealed(func(_ context.Context, off, n int64) (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(f, off, n)), nil
	}, stored)
}

// A child is a rollout that begins with a part of another.
type child struct {
	path string
	base codec.Base
}

// lineages tells of rollouts whose beginning is not there. It needs e.places sorted.
func (e *examiner) lineages(ctx context.Context) error {
	ids := slices.SortedFunc(maps.Keys(e.bases), func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
	for _, id := range ids {
		c := e.bases[id]
		why, err := e.fault(ctx, id, c)
		if err != nil {
			return err
		}
		if why == nil {
			continue
		}
		f := Finding{Kind: Lineage, Path: c.path, Detail: why.Error() + "; Codex does not read the session"}
		f.Cure = `run "rollout-sync restore" with the id of this session, which brings what it begins with, if the mirror has it`
		if errors.Is(why, replay.ErrBaseCycle) {
			f.Cure = restore
		}
		e.found(f)
	}
	return nil
}

// fault returns what is wrong with what a rollout begins with.
func (e *examiner) fault(ctx context.Context, id uuid.UUID, c child) (why, err error) {
	base, err := uuid.Parse(c.base.Rollout)
	if err != nil {
		return fmt.Errorf("%w: its history_base is not an id", replay.ErrNoBase), nil
	}
	for at, steps := base, 0; ; steps++ {
		if at == id || steps > len(e.bases) {
			return fmt.Errorf("%w: rollout %s", replay.ErrBaseCycle, base), nil
		}
		next, ok := e.bases[at]
		if !ok {
			break
		}
		if at, err = uuid.Parse(next.base.Rollout); err != nil {
			break // told of that one
		}
	}
	i, ok := slices.BinarySearchFunc(e.places, base, func(p place, id uuid.UUID) int { return slices.Compare(p.id[:], id[:]) })
	if !ok {
		return fmt.Errorf("%w: rollout %s", replay.ErrNoBase, base), nil
	}
	for ; i < len(e.places) && e.places[i].id == base; i++ { // one of the copies is enough
		why, err = e.holds(ctx, e.places[i], c.base.Offset)
		if why == nil || err != nil {
			return nil, err
		}
	}
	return why, nil
}

// holds returns what is wrong with p as the beginning, up to offset, of another.
func (e *examiner) holds(ctx context.Context, p place, offset int64) (why, err error) {
	size := p.size
	f, err := e.Home.Open(p.path())
	if err != nil {
		return nil, ctx.Err() // it is unreadable, or gone
	}
	defer f.Close()
	if p.sealed() {
		if size, err = sealed(f, p.size).Size(ctx); err != nil || size < 0 {
			return nil, ctx.Err() // it is damaged, or does not tell
		}
	}
	switch {
	case offset > size:
		return fmt.Errorf("%w: %s has %d bytes, and not %d", replay.ErrBaseShort, p.path(), size, offset), nil
	case offset < 1 || p.sealed():
		return nil, nil
	}
	var end [1]byte
	if _, err := f.ReadAt(end[:], offset-1); err == nil && end[0] != '\n' {
		return fmt.Errorf("what it begins with ends within a line of %s, at byte %d", p.path(), offset), nil
	}
	return nil, nil
}

// names looks whether the names of the sessions can be read.
func (e *examiner) names() {
	const file = "session_index.jsonl"
	f, err := e.Home.Open(file)
	if err == nil {
		err = f.Close()
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		e.found(unreadable(file, err))
	}
}
