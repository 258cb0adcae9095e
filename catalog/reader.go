package catalog

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/store"
)

// A Cache keeps files of a catalog on this machine. It may forget any, and is safe
// for concurrent use.
type Cache interface {
	// File returns the content of a file in that version, an Info.Version.
	File(name, version string) ([]byte, bool)
	// KeepFile keeps the content of a file, instead of that of other versions.
	KeepFile(name, version string, content []byte)
}

// A Reader tells what the catalog of a mirror says of the objects that a listing has
// found. It reads the files of a date when they cost less than opening the objects
// that it was asked about, and keeps the rows of the last few. It is safe for
// concurrent use.
type Reader struct {
	m     store.Source
	cache Cache // may be nil
	// failed is told once of a file that cannot be read.
	failed func(name string, err error)

	mu   sync.Mutex
	days map[string]*day // by directory
	kept []*day          // those that have rows, the one that was read last at the end
}

// A day is the files of a date.
type day struct {
	mu     sync.Mutex // held by who lists or reads
	asked  int
	listed bool
	files  []store.Entry
	cached int // how many of them the cache had
	read   bool
	rows   map[key]*Row // nil again when others were read since
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
	if d.asked++; !d.read && !r.worthReading(ctx, d, dir) {
		return nil, false
	}
	if !d.read || d.rows == nil {
		if r.readDay(ctx, d); !d.read {
			return nil, false
		}
		r.keep(d)
	}
	row := d.rows[key{ObjectOf(name), version}]
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

// worthReading reports whether it costs less to read the files than to open as many
// objects as were asked for, and as many again as may be asked for.
func (r *Reader) worthReading(ctx context.Context, d *day, dir string) bool {
	if d.asked < 2 {
		return false // the listing is a request, too
	}
	if !d.listed {
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
			if _, ok := r.cachedFile(e); ok {
				cached++
			}
		}
		d.files, d.cached, d.listed = files, cached, true
	}
	return len(d.files) > 0 && d.asked > len(d.files)-d.cached
}

func (r *Reader) cachedFile(e store.Entry) ([]byte, bool) {
	if r.cache == nil || e.Info.Version == "" {
		return nil, false
	}
	return r.cache.File(e.Name, e.Info.Version)
}

// readDay reads the files, several at a time.
func (r *Reader) readDay(ctx context.Context, d *day) {
	const parallel = 16
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
	d.rows, d.read = map[key]*Row{}, true
	for _, rows := range found {
		for i := range rows {
			d.rows[key{rows[i].Object, rows[i].Version}] = &rows[i]
		}
	}
}

func (r *Reader) readFile(ctx context.Context, e store.Entry) ([]Row, error) {
	if content, ok := r.cachedFile(e); ok {
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
	r.kept = append(r.kept, d)
	var old *day
	if len(r.kept) > maxDays {
		old, r.kept = r.kept[0], r.kept[1:]
	}
	r.mu.Unlock()
	if old != nil && old != d && old.mu.TryLock() { // who holds it is about to use the rows
		old.rows = nil
		old.mu.Unlock()
	}
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
