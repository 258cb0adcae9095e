package mirror

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"sync"

	"github.com/rollout-sync/rollout/store"
)

// An index tells which objects there are in a mirror, by a listing of their
// directory where that takes fewer requests than a look at each. It is safe for
// concurrent use.
type index struct {
	m store.Source

	mu   sync.Mutex
	want map[string]int               // by directory: how many objects will be asked for
	dirs map[string]map[string]string // by directory: versions by name
	kept []string
}

const (
	// worthListing is how many looks cost as much as the listing of a directory,
	// which takes one request for each thousand objects.
	worthListing = 8
	// maxDirs bounds how many listings are kept. Rollouts come about in the order
	// of their dates.
	maxDirs = 8
)

// expect announces a question about key.
func (x *index) expect(key string) {
	if x.want == nil {
		x.want = map[string]int{}
	}
	x.want[path.Dir(key)]++
}

// version returns the version of the object, "" if there is none. ok is false if
// only a look can tell.
func (x *index) version(ctx context.Context, key string) (version string, ok bool, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	dir := path.Dir(key)
	if x.want[dir] < worthListing {
		return "", false, nil
	}
	listed := x.dirs[dir]
	if listed == nil {
		listed = map[string]string{}
		for e, err := range x.m.List(ctx, dir, store.ListOptions{Unordered: true}) {
			if errors.Is(err, fs.ErrNotExist) {
				break
			}
			if err != nil {
				return "", false, err
			}
			listed[e.Name] = e.Info.Version
		}
		if len(x.kept) == maxDirs {
			delete(x.dirs, x.kept[0])
			x.kept = x.kept[1:]
		}
		if x.dirs == nil {
			x.dirs = map[string]map[string]string{}
		}
		x.dirs[dir], x.kept = listed, append(x.kept, dir)
	}
	version, there := listed[key]
	return version, !there || version != "", nil
}
