package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	"github.com/rollout-sync/rollout/catalog"
	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/replay"
	"github.com/rollout-sync/rollout/store"
)

// A dueRow is what is to be written to the catalog.
type dueRow struct {
	catalog.Row
	// Facts tells that only what the facts say is known: they go into a row of the same
	// version, if there is one.
	Facts bool
}

// row returns what the catalog is to say of src, but which object it is: all of it if
// the object was just made.
func (p *pusher) row(ctx context.Context, src *source, f Fact) (dueRow, error) {
	r := dueRow{Row: rowOf(src.name, f), Facts: true}
	if !f.Wrote || p.DryRun {
		return r, nil
	}
	r.Origin, r.StoredSize, r.Facts = p.Origin, src.stored, false
	n := src.limit
	if n == 0 {
		n = src.version.Size // the file may have grown since
	}
	held, ok := src.f.(*heldFile)
	if !ok {
		rd, err := src.f.Range(ctx, 0, n)
		if err != nil {
			return r, err
		}
		h, err := codec.ReadHead(rd)
		if err := errors.Join(err, rd.Close()); err != nil {
			return r, err
		}
		r.SetHead(h)
		r.SetSummary(src.sum.Sum())
		return r, nil
	}
	content, h := held.bytes(0, n), *src.head
	if src.limit > 0 && h.End > src.limit {
		var err error
		if h, err = codec.ReadHead(bytes.NewReader(content)); err != nil {
			return r, err
		}
	}
	src.sum = replay.NewSummarizer()
	_, _ = src.sum.Write(content) // it takes everything
	r.SetHead(h)
	r.SetSummary(src.sum.Sum())
	return r, nil
}

// noteRowLocked keeps r, which is of the object of that name, until it is written; the
// state, only that it is due, since the row quotes the session. Of an object whose
// version the store does not tell nobody could know that it is the one.
func (p *pusher) noteRowLocked(name string, r dueRow) error {
	o, ok, err := p.objectLocked(name)
	if err != nil || !ok || o.Version == "" {
		return err
	}
	if r.Facts { // an earlier pass may have left all of it to be written
		due, _, err := get[bool](p.State, rows, name)
		if err != nil || due {
			return err
		}
	}
	r.Object, r.Version, r.State = catalog.ObjectOf(name), o.Version, stateOf(name)
	p.rows[name] = r
	return set(p.due, rows, name, !r.Facts)
}

// rowOf returns what a fact says of a version that it is of.
func rowOf(n codec.Name, f Fact) catalog.Row {
	r := catalog.Row{Machine: f.Machine, PlainSize: f.Size, SHA256: f.SHA256}
	r.SetName(n)
	r.SetUpdated(f.ModTime)
	setFacts(&r, f)
	return r
}

// setFacts fills in what may become another without another version, and reports
// whether it has.
func setFacts(r *catalog.Row, f Fact) bool {
	old := *r
	r.Path, r.Archived, r.Name = f.Path, f.Archived, f.Name
	if f.Base != nil && f.SHA256 == r.SHA256 {
		r.BaseSHA256 = f.Base.SHA256
	}
	return r.Path != old.Path || r.Archived != old.Archived || r.Name != old.Name || r.BaseSHA256 != old.BaseSHA256
}

// catalogLocked writes the rows that are due to the catalog. The objects that they
// are of are in the mirror.
func (p *pusher) catalogLocked(ctx context.Context) error {
	var dir string
	news := map[string]dueRow{}
	write := func() error {
		if len(news) == 0 {
			return nil
		}
		if err := addRows(ctx, p.Mirror, catalog.FileOf(dir, p.Origin), news); err != nil {
			return fmt.Errorf("catalog: %w", err)
		}
		for name := range news {
			p.due.remove(rows, name)
			delete(p.rows, name)
		}
		clear(news)
		return nil
	}
	// By name, and so by date.
	err := p.State.each(rows, func(name string, _ []byte) error {
		n, err := nameOf(name)
		if err != nil {
			p.due.remove(rows, name) // nobody can make anything of it
			return nil
		}
		r, ok := p.rows[name]
		if !ok {
			if r.Row, ok, err = p.oldRowLocked(ctx, name, n); err != nil {
				return fmt.Errorf("catalog: %w", err)
			}
		}
		if !ok {
			p.due.remove(rows, name)
			return nil
		}
		if d := catalog.DirOf(n); d != dir {
			if err := write(); err != nil {
				return err
			}
			dir = d
		}
		news[name] = r
		return nil
	})
	if err == nil {
		err = write()
	}
	return err
}

// oldRowLocked returns the row of the object of that name, which an earlier pass has
// not written; false if there is none to write any more.
func (p *pusher) oldRowLocked(ctx context.Context, name string, n codec.Name) (catalog.Row, bool, error) {
	if tombstone, err := p.tombstoneLocked(ctx, n); err != nil || tombstone != "" {
		return catalog.Row{}, false, err
	}
	m, err := p.ledger.read(ctx, monthOf(n))
	if err != nil {
		return catalog.Row{}, false, err
	}
	r, err := readRow(ctx, p.Mirror, name, n, map[string]Fact{p.Origin: m.facts[n.String()]})
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, store.ErrCorrupt) {
		return catalog.Row{}, false, nil
	}
	if err != nil || r.Origin != p.Origin { // another has replaced the object
		return catalog.Row{}, false, err
	}
	return *r, true, nil
}

// nameOf returns the rollout of which a current or diverged version has that name in
// the mirror.
func nameOf(name string) (codec.Name, error) {
	if stateOf(name) == catalog.Diverged {
		name = path.Dir(name) + logSuffix
	}
	return codec.ParseName(path.Base(name))
}

// stateOf returns what the version of that name in the mirror is.
func stateOf(name string) string {
	if strings.HasPrefix(name, divergedDir+"/") {
		return catalog.Diverged
	}
	return catalog.Current
}

// addRows puts rows into a file of the catalog, instead of those of the same objects.
func addRows(ctx context.Context, m Store, file string, news map[string]dueRow) error {
	return changeRows(ctx, m, file, func(old []catalog.Row) (rows []catalog.Row, changed bool) {
		byObject := map[string]dueRow{}
		for _, r := range news {
			byObject[r.Object] = r
		}
		for _, r := range old {
			n, ok := byObject[r.Object]
			switch {
			case ok && n.Facts && n.Version == r.Version:
				is := setFacts(&r, Fact{Path: n.Path, Archived: n.Archived, Name: n.Name, SHA256: r.SHA256, Base: &Pin{SHA256: n.BaseSHA256}})
				changed = is || changed
			case ok && !n.Facts:
				continue // it is replaced
			}
			rows = append(rows, r)
		}
		for _, r := range byObject {
			if !r.Facts {
				rows, changed = append(rows, r.Row), true
			}
		}
		return rows, changed
	})
}

// changeRows replaces the rows of a file by what change makes of them, if it says that
// they have changed. It may be called more than once.
func changeRows(ctx context.Context, m Store, file string, change func([]catalog.Row) (rows []catalog.Row, changed bool)) error {
	var err error
	for range attempts {
		content, version, readErr := catalog.Read(ctx, m, file)
		cond := store.Cond{IfVersion: version}
		var old []catalog.Row
		switch {
		case errors.Is(readErr, fs.ErrNotExist):
			cond = store.Cond{IfAbsent: true}
		case readErr != nil:
			return readErr
		default:
			// One that is damaged is made anew. A rebuild finds what else was in it.
			old, _ = catalog.Decode(content)
		}
		rows, changed := change(old)
		if !changed {
			return nil
		}
		if content, err = catalog.Encode(rows); err != nil {
			return err
		}
		if _, err = m.Put(ctx, file, store.BytesBody(content, time.Time{}), cond); !errors.Is(err, store.ErrChanged) {
			return err
		}
	}
	return err
}
