package mirror

import (
	"context"
	"errors"
	"hash/maphash"
	"io/fs"
	"path"
	"sync"

	"github.com/rollout-sync/rollout/store"
)

// An index tells which objects there are in a mirror, by a listing of their
// directory where that costs less than a look at each. Of a directory, in which a team
// may have a million, it holds those that it is asked about. It is safe for concurrent
// use.
type index struct {
	m    store.Source
	seed maphash.Seed

	mu   sync.Mutex
	want map[string]map[uint64]bool   // by directory: what will be asked for, by hash
	dirs map[string]map[string]string // by directory: versions by name
	kept []string
}

const (
	// worthListing is how many looks cost as much as one request of a listing.
	worthListing = 8
	// inRequest is how many objects such a request has.
	inRequest = 1000
	// maxDirs bounds how many listings are kept. Rollouts come about in the order
	// of their dates.
	maxDirs = 8
)

func newIndex(m store.Source) *index {
	return &index{m: m, seed: maphash.MakeSeed(), want: map[string]map[uint64]bool{}, dirs: map[string]map[string]string{}}
}

func (x *index) hash(key string) uint64 { return maphash.String(x.seed, key) }

// expect announces a question about key.
func (x *index) expect(key string) {
	dir := path.Dir(key)
	if x.want[dir] == nil {
		x.want[dir] = map[uint64]bool{}
	}
	x.want[dir][x.hash(key)] = true
}

// version returns the version of the object, "" if there is none. ok is false if
// only a look can tell.
func (x *index) version(ctx context.Context, key string) (version string, ok bool, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	dir := path.Dir(key)
	want := x.want[dir]
	if len(want) < worthListing || !want[x.hash(key)] {
		return "", false, nil
	}
	listed := x.dirs[dir]
	if listed == nil {
		listed = map[string]string{}
		left := len(want) * inRequest / worthListing
		for e, err := range x.m.List(ctx, dir, store.ListOptions{Unordered: true}) {
			if errors.Is(err, fs.ErrNotExist) {
				break
			}
			if err != nil {
				return "", false, err
			}
			if left == 0 {
				delete(x.want, dir) // it has cost as much as the looks by now
				return "", false, nil
			}
			left--
			if want[x.hash(e.Name)] {
				listed[e.Name] = e.Info.Version
			}
		}
		if len(x.kept) == maxDirs {
			delete(x.dirs, x.kept[0])
			x.kept = x.kept[1:]
		}
		x.dirs[dir], x.kept = listed, append(x.kept, dir)
	}
	version, there := listed[key]
	return version, !there || version != "", nil
}
