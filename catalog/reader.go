package catalog

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/store"
)

// A Cache keeps files of a catalog on this machine. It may forget any, and is safe
// for concurrent use.
type Cache interface {
	// File returns the content of a file in that version, an Info.Version.
	File(ctx context.Context, name, version string) ([]byte, bool)
	// KeepFile keeps the content of a file, instead of that of other versions.
	KeepFile(name, version string, content []byte)
}

// A Reader tells what the catalog of a mirror says of the objects that a listing has
// found. It reads the files of a date when they cost fewer requests than opening the
// objects of it that it was asked about, or no more than the rows of others have spared,
// and keeps the rows of the last few. So it makes at most about as many requests as it
// was asked about objects, in whatever order. It is safe for concurrent use.
type Reader struct {
	m     store.Source
	cache Cache // may be nil
	// failed is told once of a file that cannot be read.
	failed func(name string, err error)

	mu   sync.Mutex
	days map[string]*day // by directory
	kept []*day          // those that have rows, the one that was read last at the end

	spared atomic.Int64 // rows that were found, less the requests that it took
}

// A day is the files of a date.
type day struct {
	mu     sync.Mutex // held by who lists or reads
	asked  int        // without its rows
	listed bool
	files  []store.Entry
	cached int          // how many of them the cache had
	rows   map[key]*Row // nil until they are read, and again when others were since
}

type key struct{ object, version string }

// maxDays is how many dates a Reader keeps the rows of. A listing goes from one to the
// next.
const maxDays = 3

// NewReader returns the Reader of the catalog in the mirror m. cache may be nil.
// failed, unless nil, is called with each file that cannot be read, and which is as
// if it were not there. It makes no request.
func NewReader(m store.Source, cache Cache, failed func(name string, err error)) *Reader {
	if failed == nil {
		failed = func(string, error) {}
	}
	return &Reader{m: m, cache: cache, failed: failed, days: map[string]*day{}}
}

// Row returns the row of the object with that name in the mirror, whose rollout is n,
// in the version that a listing of it has told; false if there is none, or if opening
// the object costs less than finding out. The row must not be changed.
func (r *Reader) Row(ctx context.Context, name string, n codec.Name, version string) (*Row, bool) {
	dir := DirOf(n)
	r.mu.Lock()
	d := r.days[dir]
	if d == nil {
		d = &day{}
		r.days[dir] = d
	}
	r.mu.Unlock()

	d.mu.Lock()
	defer d.mu.Unlock()
	if d.rows == nil {
		if d.asked++; !r.worthReading(ctx, d, dir) {
			return nil, false
		}
		if r.readDay(ctx, d); d.rows == nil {
			return nil, false
		}
		r.keep(d)
	}
	row := d.rows[key{ObjectOf(name), version}]
	if row != nil {
		r.spared.Add(1)
	}
	return row, row != nil
}

// Known is a listing.Place's.
func (r *Reader) Known(ctx context.Context, name string, n codec.Name, version string) (listing.Known, bool) {
	row, ok := r.Row(ctx, name, n, version)
	if !ok {
		return listing.Known{}, false
	}
	return row.Known()
}

// worthReading reports whether to read the files.
func (r *Reader) worthReading(ctx context.Context, d *day, dir string) bool {
	if !d.listed {
		if !r.worth(d, 1) {
			return false
		}
		r.spared.Add(-1)
		var files []store.Entry
		cached := 0
		for e, err := range r.m.List(ctx, dir, store.ListOptions{}) {
			if errors.Is(err, fs.ErrNotExist) {
				break
			}
			if err != nil {
				if ctx.Err() == nil {
					r.failed(dir, err)
					d.listed = true
				}
				return false
			}
			if _, ok := OriginOf(e.Name); e.Dir || !ok {
				continue
			}
			files = append(files, e)
			if _, ok := r.cachedFile(ctx, e); ok {
				cached++
			}
		}
		d.files, d.cached, d.listed = files, cached, true
	}
	return len(d.files) > 0 && r.worth(d, len(d.files)-d.cached)
}

// worth reports whether so many requests are fewer than those for the objects of d that
// had to be opened, of which as many again may be asked for, or have been spared.
func (r *Reader) worth(d *day, requests int) bool {
	return d.asked > requests || r.spared.Load() >= int64(requests)
}

func (r *Reader) cachedFile(ctx context.Context, e store.Entry) ([]byte, bool) {
	if r.cache == nil || e.Info.Version == "" {
		return nil, false
	}
	return r.cache.File(ctx, e.Name, e.Info.Version)
}

// readDay reads the files, several at a time.
func (r *Reader) readDay(ctx context.Context, d *day) {
	const parallel = 16
	r.spared.Add(int64(d.cached - len(d.files)))
	found := make([][]Row, len(d.files))
	var g errgroup.Group
	g.SetLimit(parallel)
	for i, e := range d.files {
		g.Go(func() error {
			rows, err := r.readFile(ctx, e)
			if err != nil && ctx.Err() == nil && !errors.Is(err, fs.ErrNotExist) {
				r.failed(e.Name, err)
			}
			found[i] = rows
			return nil
		})
	}
	_ = g.Wait() // they return none
	if ctx.Err() != nil {
		return
	}
	d.asked, d.rows = 0, map[key]*Row{}
	for _, rows := range found {
		for i := range rows {
			d.rows[key{rows[i].Object, rows[i].Version}] = &rows[i]
		}
	}
}

func (r *Reader) readFile(ctx context.Context, e store.Entry) ([]Row, error) {
	if content, ok := r.cachedFile(ctx, e); ok {
		if rows, err := Decode(content); err == nil { // else the cache is damaged
			return rows, nil
		}
	}
	content, version, err := Read(ctx, r.m, e.Name)
	if err != nil {
		return nil, err
	}
	rows, err := Decode(content)
	if err == nil && r.cache != nil && version != "" {
		r.cache.KeepFile(e.Name, version, content)
	}
	return rows, err
}

// keep has the rows of the days forgotten that were read longest ago.
func (r *Reader) keep(d *day) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept = append(r.kept, d)
	more := len(r.kept) - maxDays
	r.kept = slices.DeleteFunc(r.kept, func(old *day) bool {
		if more <= 0 || !old.mu.TryLock() { // who holds it is about to use the rows
			return false
		}
		defer old.mu.Unlock()
		old.rows = nil
		more--
		return true
	})
}

// maxFile bounds what is read of a file: the rows of a million rollouts of one day and
// origin take less.
const maxFile = 1 << 30

// Read returns the content of a file of the catalog, and its version.
func Read(ctx context.Context, m store.Source, name string) (content []byte, version string, err error) {
	f, err := m.Open(ctx, name)
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	rd, err := f.Range(ctx, 0, maxFile)
	if err != nil {
		return nil, "", err
	}
	content, err = io.ReadAll(rd)
	return content, f.Info().Version, errors.Join(err, rd.Close())
}
