package mirror

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout/catalog"
	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/store"
)

const (
	// forgottenDir has a tombstone for each id that is not to come back.
	forgottenDir    = "forgotten"
	tombstoneSuffix = ".json"
)

// Forgetting says what a Forget removes.
type Forgetting struct {
	Mirror Store // also a store.Remover, which credentials for a push should not be
	// IDs are those of sessions, with all their rollouts, or of single rollouts, or
	// beginnings of ids that begin nothing else.
	IDs []string
	// Origin is who wants it; the tombstones say so.
	Origin string
	// DryRun only says what would be removed.
	DryRun bool
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Each, if set, is called with each object as it is removed, or was not, from one
	// goroutine.
	Each func(Forgotten)
}

// Forgotten is what became of one object in a Forget.
type Forgotten struct {
	Name   string
	Stored int64 // bytes of the object
	// Facts is, of a month of facts or a date of the catalog, how many were taken out;
	// the others stay.
	Facts int
	Err   error
}

// ForgetReport sums up a Forget.
type ForgetReport struct {
	IDs      []string // whole
	Objects  int
	Stored   int64 // bytes of the objects
	Facts    int   // what origins had told of them, the catalog's rows among it
	Failures []Forgotten
}

// tombstone keeps an id from being pushed again. It has nothing of the session.
type tombstone struct {
	ID     string    `json:"id"`
	Time   time.Time `json:"time"`
	Origin string    `json:"origin,omitempty"`
}

// Forget removes sessions from a mirror for good: the one thing that does. It leaves
// a tombstone for each, which keeps every home from pushing it again, and removes all
// versions, bytes of foreign tools that are kept for them, and what all origins have
// told. An id that is whole gets its tombstone even if the mirror has nothing of it.
//
// The tombstone comes first, and whatever is left of a session leads to the rest, so a
// Forget that was interrupted is finished by the next with the same ids. A push that began before may
// still bring something; a Forget after it removes that too. Copies that the store
// itself keeps (versions of a bucket, backups) are not reached, and neither is any
// home. Rollouts that begin with a forgotten one by reference cannot be read any more.
//
// It lists all names of the mirror. An id that means several sessions is a
// *listing.AmbiguousError, the beginning of one that means none fs.ErrNotExist, and
// nothing is removed then. A mirror that cannot remove is errors.ErrUnsupported, and
// one that may not, fs.ErrPermission, after which nothing more is tried.
func Forget(ctx context.Context, o Forgetting) (ForgetReport, error) {
	f := &forgetter{Forgetting: o}
	if f.Now == nil {
		f.Now = time.Now
	}
	err := f.run(ctx)
	return f.report, err
}

type forgetter struct {
	Forgetting
	remover store.Remover
	ids     map[string]bool
	keys    map[string]codec.Name // of the rollouts to forget
	report  ForgetReport
}

func (f *forgetter) run(ctx context.Context) error {
	if err := Check(ctx, f.Mirror); err != nil {
		return err
	}
	var ok bool
	if f.remover, ok = store.As[store.Remover](f.Mirror); !ok && !f.DryRun {
		return fmt.Errorf("this mirror cannot remove anything: %w", errors.ErrUnsupported)
	}
	if err := f.resolve(ctx); err != nil {
		return err
	}
	if !f.DryRun {
		for _, id := range f.report.IDs {
			if err := f.bury(ctx, id); err != nil {
				return err
			}
		}
	}
	if err := f.facts(ctx); err != nil {
		return err
	}
	if err := f.rows(ctx); err != nil {
		return err
	}
	for _, key := range slices.Sorted(maps.Keys(f.keys)) {
		if err := f.objects(ctx, key); err != nil {
			return err
		}
	}
	return nil
}

// resolve finds out which ids and rollouts are meant.
func (f *forgetter) resolve(ctx context.Context) error {
	meant := make([]map[uuid.UUID]bool, len(f.IDs)) // sessions, or rollouts of other sessions
	names := map[string]codec.Name{}
	for i := range f.IDs {
		meant[i] = map[uuid.UUID]bool{}
	}
	for e, err := range walk(ctx, f.Mirror, store.ListOptions{Unordered: true}, sessionsDir, archivedDir, divergedDir, historyDir) {
		if err != nil {
			return err
		}
		key := keyOf(strings.TrimSuffix(e.Name, foreignSuffix))
		n, err := codec.ParseName(path.Base(key))
		if err != nil {
			continue // not ours
		}
		for i, id := range f.IDs {
			switch id = strings.ToLower(id); {
			case id != "" && strings.HasPrefix(n.Session.String(), id):
				meant[i][n.Session] = true
				names[key] = n
			case id != "" && strings.HasPrefix(n.Rollout.String(), id):
				meant[i][n.Rollout] = true
				names[key] = n
			}
		}
	}
	f.ids, f.keys = map[string]bool{}, names
	for i, id := range f.IDs {
		found := slices.SortedFunc(maps.Keys(meant[i]), func(a, b uuid.UUID) int { return strings.Compare(a.String(), b.String()) })
		whole, err := uuid.Parse(id)
		switch {
		case len(found) > 1:
			return fmt.Errorf("%.50q: %w", id, &listing.AmbiguousError{IDs: [2]uuid.UUID(found[:2])})
		case len(found) == 1:
			f.ids[found[0].String()] = true
		case err == nil && len(id) == len(whole.String()):
			f.ids[whole.String()] = true
		default:
			return fmt.Errorf("%.50q: nothing in the mirror has an id that begins so: %w", id, fs.ErrNotExist)
		}
	}
	f.report.IDs = slices.Sorted(maps.Keys(f.ids))
	return nil
}

// bury writes the tombstone of an id, unless there is one.
func (f *forgetter) bury(ctx context.Context, id string) error {
	content, err := json.Marshal(tombstone{id, f.Now().UTC().Truncate(time.Second), f.Origin})
	if err != nil {
		return err
	}
	name := tombstoneKey(id)
	_, err = f.Mirror.Put(ctx, name, store.BytesBody(append(content, '\n'), time.Time{}), store.Cond{IfAbsent: true})
	if errors.Is(err, store.ErrChanged) {
		return nil
	}
	return err
}

func tombstoneKey(id string) string { return path.Join(forgottenDir, id+tombstoneSuffix) }

// forgotten returns the ids, of sessions and of rollouts, that are not to be pushed
// again. It costs one request for each 1000.
func forgotten(ctx context.Context, m store.Source) (map[string]bool, error) {
	ids := map[string]bool{}
	for e, err := range m.List(ctx, forgottenDir, store.ListOptions{Unordered: true, NamesOnly: true}) {
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return nil, err
		}
		if id, ok := strings.CutSuffix(path.Base(e.Name), tombstoneSuffix); ok && !e.Dir {
			ids[id] = true
		}
	}
	return ids, nil
}

// isForgotten reports whether a rollout has a tombstone.
func isForgotten(ids map[string]bool, n codec.Name) bool {
	return ids[n.Session.String()] || ids[n.Rollout.String()]
}

// facts takes what origins have told out of the months in which it may stand.
func (f *forgetter) facts(ctx context.Context) error {
	months := map[string]bool{}
	for _, n := range f.keys {
		months[monthOf(n)] = true
	}
	for _, id := range f.report.IDs { // what was told of rollouts of which nothing else is left
		id := uuid.MustParse(id)
		for _, dir := range days(codec.Name{Session: id, Rollout: id}) {
			months[strings.ReplaceAll(path.Dir(strings.TrimPrefix(dir, sessionsDir+"/")), "/", "-")] = true
		}
	}
	for origin, err := range f.Mirror.List(ctx, originsDir, store.ListOptions{}) {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, month := range slices.Sorted(maps.Keys(months)) {
			key := factsKey(path.Base(origin.Name), month)
			n, err := f.untell(ctx, key)
			if n == 0 && err == nil {
				continue
			}
			if err := f.count(ctx, Forgotten{Name: key, Facts: n, Err: err}); err != nil {
				return err
			}
		}
	}
	return nil
}

// rows takes what the catalog says out of the dates in which it may stand.
func (f *forgetter) rows(ctx context.Context) error {
	dirs := map[string]bool{}
	for _, n := range f.keys {
		dirs[catalog.DirOf(n)] = true
	}
	for _, id := range f.report.IDs { // what is said of rollouts of which nothing else is left
		id := uuid.MustParse(id)
		for _, day := range days(codec.Name{Session: id, Rollout: id}) {
			if day, ok := dayOf(day); ok {
				dirs[catalog.DirOf(codec.Name{Stamp: day})] = true
			}
		}
	}
	for _, dir := range slices.Sorted(maps.Keys(dirs)) {
		for e, err := range f.Mirror.List(ctx, dir, store.ListOptions{}) {
			if errors.Is(err, fs.ErrNotExist) {
				break
			}
			if err != nil {
				return err
			}
			if _, ok := catalog.OriginOf(e.Name); e.Dir || !ok {
				continue
			}
			n, err := f.unrow(ctx, e.Name)
			if n == 0 && err == nil {
				continue
			}
			if err := f.count(ctx, Forgotten{Name: e.Name, Facts: n, Err: err}); err != nil {
				return err
			}
		}
	}
	return nil
}

// unrow takes the rows of what is forgotten out of a file of the catalog, and returns
// how many these are. A file that is damaged is removed: they may be in it.
func (f *forgetter) unrow(ctx context.Context, name string) (n int, err error) {
	for range attempts {
		content, version, err := catalog.Read(ctx, f.Mirror, name)
		if errors.Is(err, fs.ErrNotExist) {
			return 0, nil
		}
		if err != nil {
			return 0, err
		}
		rows, err := catalog.Decode(content)
		damaged := err != nil
		left := slices.DeleteFunc(slices.Clone(rows), func(r catalog.Row) bool { return f.ids[r.ID] || f.ids[r.RolloutID] })
		n = len(rows) - len(left)
		switch {
		case n == 0 && !damaged || f.DryRun:
			return n, nil
		case len(left) == 0:
			err = f.remover.Remove(ctx, name, version)
		default:
			if content, err = catalog.Encode(left); err == nil {
				_, err = f.Mirror.Put(ctx, name, store.BytesBody(content, time.Time{}), store.Cond{IfVersion: version})
			}
		}
		if !errors.Is(err, store.ErrChanged) {
			return max(n, 1), err
		}
	}
	return n, store.ErrChanged
}

// attempts bounds how often something is tried again that others have changed
// meanwhile.
const attempts = 5

// untell rewrites a month of facts without the lines about what is forgotten, and
// returns how many these are.
func (f *forgetter) untell(ctx context.Context, key string) (n int, err error) {
	for range attempts {
		if n, err = f.tryUntell(ctx, key); !errors.Is(err, store.ErrChanged) {
			return n, err
		}
	}
	return n, err
}

func (f *forgetter) tryUntell(ctx context.Context, key string) (n int, err error) {
	file, err := f.Mirror.Open(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	version := file.Info().Version
	content, err := readFile(ctx, file)
	if err := errors.Join(err, file.Close()); err != nil {
		return 0, err
	}
	var left []byte
	for line := range bytes.Lines(content) {
		var fact Fact
		name, err := codec.Name{}, json.Unmarshal(line, &fact)
		if err == nil {
			name, err = codec.ParseName(fact.Rollout)
		}
		if err == nil && isForgotten(f.ids, name) {
			n++
			continue
		}
		left = append(left, line...)
	}
	switch {
	case n == 0 || f.DryRun:
		return n, nil
	case len(left) == 0:
		return n, f.remover.Remove(ctx, key, version)
	}
	_, err = f.Mirror.Put(ctx, key, store.BytesBody(left, time.Time{}), store.Cond{IfVersion: version})
	return n, err
}

// objects removes all that belongs to the rollout at key.
func (f *forgetter) objects(ctx context.Context, key string) error {
	stem := strings.TrimSuffix(key, logSuffix)
	for e, err := range walk(ctx, f.Mirror, store.ListOptions{Unordered: true}, path.Join(divergedDir, stem), path.Join(historyDir, stem), path.Join(historyDir, divergedDir, stem)) {
		if err != nil {
			return err
		}
		if err := f.object(ctx, e.Name); err != nil {
			return err
		}
	}
	return f.object(ctx, key)
}

// object removes an object, damaged or not, which is why it asks for its stored form.
func (f *forgetter) object(ctx context.Context, name string) error {
	stored := name
	if strings.HasSuffix(name, logSuffix) {
		stored = strings.TrimSuffix(name, logSuffix) + sealedSuffix
	}
	out := Forgotten{Name: name}
	var err error
	for range attempts {
		out.Stored, err = f.remove(ctx, stored)
		if !errors.Is(err, store.ErrChanged) {
			break
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil // gone
	}
	out.Err = err
	return f.count(ctx, out)
}

func (f *forgetter) remove(ctx context.Context, stored string) (int64, error) {
	file, err := f.Mirror.Open(ctx, stored)
	if err != nil {
		return 0, err
	}
	info := file.Info()
	if err := file.Close(); err != nil || f.DryRun {
		return info.Stored, err
	}
	return info.Stored, f.remover.Remove(ctx, stored, info.Version)
}

// count notes what became of an object. Its error is of what keeps from going on.
func (f *forgetter) count(ctx context.Context, out Forgotten) error {
	err := ctx.Err()
	if errors.Is(out.Err, fs.ErrPermission) || errors.Is(out.Err, errors.ErrUnsupported) {
		err = cmp.Or(err, out.Err)
	}
	if err != nil {
		return err
	}
	switch {
	case out.Err != nil:
		f.report.Failures = append(f.report.Failures, out)
	case out.Facts > 0:
		f.report.Facts += out.Facts
	default:
		f.report.Objects++
		f.report.Stored += out.Stored
	}
	if f.Each != nil {
		f.Each(out)
	}
	return nil
}
