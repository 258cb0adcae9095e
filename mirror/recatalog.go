package mirror

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rollout-sync/rollout/catalog"
	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/replay"
	"github.com/rollout-sync/rollout/store"
)

// Cataloguing says what a Catalog works on.
type Cataloguing struct {
	Mirror Store
	// All reads every object again. Otherwise a row of an object's present version is
	// believed.
	All bool
	// SingleWriter is as in Pushing.
	SingleWriter bool
	// Jobs is how many objects are read at a time; 0 is 1.
	Jobs int
	// Each, if set, is called with each object that was read, or could not be, one at a
	// time.
	Each func(Finding)
}

// A CatalogReport sums up a Catalog.
type CatalogReport struct {
	Rows     int
	Read     int // objects that were read
	Written  int // files of the catalog that have changed
	Removed  int // those that have no rows any more
	Failures []Finding
}

// Catalog makes the catalog of a mirror what its objects and facts say: rows that are
// missing, of a mirror that is older than its catalog or after the catalog was deleted,
// are made by reading the objects, and those of objects that are no longer there go.
// Files of all origins are written, which else only their own pushes do; a push at the
// same time is no harm. What an object of nobody's facts is of goes into the file of
// an origin "unknown".
//
// One bad object does not keep it from the others. Memory is that of the rows of a
// date.
func Catalog(ctx context.Context, o Cataloguing) (CatalogReport, error) {
	c := &cataloguer{Cataloguing: o, facts: NewFacts(o.Mirror)}
	err := c.run(ctx)
	return c.report, err
}

// unknownOrigin stands for the origin of objects of which no facts tell.
const unknownOrigin = "unknown"

type cataloguer struct {
	Cataloguing
	facts *Facts

	mu     sync.Mutex // guards what follows
	report CatalogReport
}

func (c *cataloguer) run(ctx context.Context) error {
	if err := Check(ctx, c.Mirror); err != nil {
		return err
	}
	if err := prepare(ctx, c.Mirror, c.SingleWriter); err != nil {
		return err
	}
	dates, err := c.dates(ctx)
	if err != nil {
		return err
	}
	for _, dir := range slices.Sorted(maps.Keys(dates)) {
		if err := c.date(ctx, dir, dates[dir]); err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
	}
	return nil
}

// dates returns, for each directory of the catalog that is or should be there, the
// directories that may have objects of its date, and names that are elsewhere.
func (c *cataloguer) dates(ctx context.Context) (map[string][]store.Entry, error) {
	dates := map[string][]store.Entry{}
	list := func(dir string, do func(store.Entry) error) error {
		for e, err := range c.Mirror.List(ctx, dir, store.ListOptions{Unordered: true}) {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil {
				return err
			}
			if err := do(e); err != nil {
				return err
			}
		}
		return nil
	}
	var look func(top, dir string) error
	look = func(top, dir string) error {
		if day, ok := dayOf(strings.TrimPrefix(dir, top)); ok {
			dates[catalog.DirOf(codec.Name{Stamp: day})] = append(dates[catalog.DirOf(codec.Name{Stamp: day})], store.Entry{Name: dir, Dir: true})
			return nil
		}
		return list(dir, func(e store.Entry) error {
			if e.Dir {
				return look(top, e.Name)
			}
			if n, err := nameOf(e.Name); err == nil && strings.HasSuffix(e.Name, logSuffix) {
				dates[catalog.DirOf(n)] = append(dates[catalog.DirOf(n)], e)
			}
			return nil
		})
	}
	for _, top := range []string{"", divergedDir + "/"} {
		for _, dir := range []string{sessionsDir, archivedDir} {
			if err := look(top, top+dir); err != nil {
				return nil, err
			}
		}
	}
	err := list(catalog.Dir, func(e store.Entry) error {
		if e.Dir && dates[e.Name] == nil {
			dates[e.Name] = nil
		}
		return nil
	})
	return dates, err
}

// dayOf returns the date of a directory sessions/YYYY/MM/DD.
func dayOf(dir string) (day string, ok bool) {
	day, ok = strings.CutPrefix(dir, sessionsDir+"/")
	day = strings.ReplaceAll(day, "/", "-")
	_, err := time.Parse(time.DateOnly, day)
	return day, ok && err == nil && strings.Count(dir, "/") == 3
}

// A catalogFile is a file of the catalog as it is.
type catalogFile struct {
	version string
	content []byte
	rows    map[string]catalog.Row // by object
}

// date makes the files of a directory of the catalog. places are directories and
// objects of its date.
func (c *cataloguer) date(ctx context.Context, dir string, places []store.Entry) error {
	files, err := c.files(ctx, dir)
	if err != nil {
		return err
	}
	var objects []store.Entry
	for _, place := range places {
		if !place.Dir {
			objects = append(objects, place)
			continue
		}
		for e, err := range walk(ctx, c.Mirror, store.ListOptions{Unordered: true}, place.Name) {
			if err != nil {
				return err
			}
			if n, err := nameOf(e.Name); err == nil && strings.HasSuffix(e.Name, logSuffix) && catalog.DirOf(n) == dir {
				objects = append(objects, e)
			}
		}
	}
	rows := make([]*catalog.Row, len(objects))
	g, running := errgroup.WithContext(ctx)
	g.SetLimit(max(c.Jobs, 1))
	for i, e := range objects {
		g.Go(func() (err error) {
			rows[i], err = c.row(running, e, files)
			return err
		})
	}
	if err := cmp.Or(g.Wait(), ctx.Err()); err != nil {
		return err
	}
	byOrigin := map[string][]catalog.Row{}
	for _, r := range rows {
		if r != nil {
			byOrigin[r.Origin] = append(byOrigin[r.Origin], *r)
			c.report.Rows++
		}
	}
	for origin := range files {
		byOrigin[origin] = append(byOrigin[origin], []catalog.Row{}...) // one without rows, too
	}
	for _, origin := range slices.Sorted(maps.Keys(byOrigin)) {
		if err := c.write(ctx, catalog.FileOf(dir, origin), files[origin], byOrigin[origin]); err != nil {
			return err
		}
	}
	return nil
}

// files returns the files in a directory of the catalog, by origin.
func (c *cataloguer) files(ctx context.Context, dir string) (map[string]catalogFile, error) {
	files := map[string]catalogFile{}
	for e, err := range c.Mirror.List(ctx, dir, store.ListOptions{Unordered: true}) {
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, err
		}
		origin, ok := catalog.OriginOf(e.Name)
		if e.Dir || !ok {
			continue // not ours
		}
		f := catalogFile{rows: map[string]catalog.Row{}}
		if f.content, f.version, err = catalog.Read(ctx, c.Mirror, e.Name); err != nil {
			return nil, err
		}
		rows, _ := catalog.Decode(f.content) // one that is damaged has none, and is replaced
		for _, r := range rows {
			f.rows[r.Object] = r
		}
		files[origin] = f
	}
	return files, nil
}

// row returns the row of an object, nil if it could not be read.
func (c *cataloguer) row(ctx context.Context, e store.Entry, files map[string]catalogFile) (*catalog.Row, error) {
	n, err := nameOf(e.Name)
	if err != nil {
		return nil, err
	}
	told, err := c.facts.Of(ctx, n)
	if err != nil {
		return nil, err
	}
	if !c.All && e.Info.Version != "" {
		for origin, f := range files {
			r, ok := f.rows[catalog.ObjectOf(e.Name)]
			if !ok || r.Version != e.Info.Version || r.Origin != origin {
				continue
			}
			if by, fact := writer(told, e.Name, r.SHA256); by == origin {
				setFacts(&r, fact)
				return &r, nil
			}
		}
	}
	r, err := readRow(ctx, c.Mirror, e.Name, n, told)
	if ctx.Err() != nil {
		return nil, ctx.Err()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	f := Finding{Name: e.Name, Err: err}
	switch {
	case errors.Is(err, fs.ErrNotExist): // it has gone since
		return nil, nil
	case err != nil:
		c.report.Failures = append(c.report.Failures, f)
	default:
		f.Size = r.PlainSize
		c.report.Read++
	}
	if c.Each != nil {
		c.Each(f)
	}
	return r, nil
}

// writer returns the origin that made a version of that hash, and what it has told
// of it.
func writer(told map[string]Fact, name, sha256 string) (origin string, f Fact) {
	if stateOf(name) == catalog.Diverged {
		origin = strings.TrimSuffix(path.Base(name), logSuffix)
		return origin, told[origin]
	}
	rank := func(f Fact) int {
		switch {
		case f.SHA256 != sha256:
			return 0
		case f.Wrote:
			return 2
		}
		return 1
	}
	best := 0
	origin, f = unknownOrigin, Fact{Path: name}
	for _, by := range slices.Sorted(maps.Keys(told)) {
		if r := rank(told[by]); r > best {
			best, origin, f = r, by, told[by]
		}
	}
	return origin, f
}

// readRow makes the row of an object.
func readRow(ctx context.Context, m store.Source, name string, n codec.Name, told map[string]Fact) (*catalog.Row, error) {
	f, err := m.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	i := f.Info()
	r := catalog.Row{
		Object: catalog.ObjectOf(name), Version: i.Version, State: stateOf(name),
		PlainSize: i.Size, StoredSize: i.Stored, SHA256: i.Meta[store.MetaSHA256],
	}
	if i.Version == "" || i.Size < 0 || r.SHA256 == "" {
		return nil, fmt.Errorf("%w: it is no version", store.ErrCorrupt)
	}
	origin, fact := writer(told, name, r.SHA256)
	r.Origin, r.Machine = origin, fact.Machine
	r.SetName(n)
	r.SetUpdated(i.ModTime)
	setFacts(&r, fact)
	content, err := f.Range(ctx, 0, -1)
	if err != nil {
		return nil, err
	}
	s := replay.NewSummarizer()
	all := io.TeeReader(content, s)
	h, err := codec.ReadHead(all)
	if err == nil {
		_, err = io.Copy(io.Discard, all)
	}
	if err := errors.Join(err, content.Close()); err != nil {
		return nil, err
	}
	r.SetHead(h)
	r.SetSummary(s.Sum())
	return &r, nil
}

// write makes a file have the rows, and removes one that has none.
func (c *cataloguer) write(ctx context.Context, name string, old catalogFile, rows []catalog.Row) error {
	content, err := catalog.Encode(rows)
	if err != nil || bytes.Equal(content, old.content) {
		return err
	}
	if remover, ok := store.As[store.Remover](c.Mirror); ok && len(rows) == 0 {
		if err = remover.Remove(ctx, name, old.version); err == nil {
			c.report.Removed++
		}
		return changedIsDone(err)
	}
	cond := store.Cond{IfAbsent: true}
	if old.version != "" {
		cond = store.Cond{IfVersion: old.version}
	}
	if _, err = c.Mirror.Put(ctx, name, store.BytesBody(content, time.Time{}), cond); err == nil {
		c.report.Written++
	}
	return changedIsDone(err)
}

// changedIsDone is nil for what a push of the origin has changed meanwhile, who knows
// better.
func changedIsDone(err error) error {
	if errors.Is(err, store.ErrChanged) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}
