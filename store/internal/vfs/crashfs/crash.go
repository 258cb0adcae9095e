package crashfs

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
)

// Loss is what a loss of power does to what was not synced.
type Loss int

const (
	// All of it is gone.
	All Loss = 0
	// Some of it is: each change of a file up to a random one, that one perhaps
	// in part, as ext4 does with files that grow; and random names.
	Some Loss = 1
	// Holes is as Some, but of each file random changes, so that bytes in its
	// middle may be zeros.
	Holes Loss = 2
)

// Crash returns the file system as it comes back after a loss of power in this
// instant, in which nothing was open and all is on the disk. random is not used if
// all is lost.
func (f *FS) Crash(loss Loss, random *rand.Rand) *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	c := &crash{to: New(), loss: loss, random: random, copies: map[*node]*node{}}
	c.to.nodes, c.to.clock = f.nodes, f.clock
	c.to.root = c.copy(f.root)
	return c.to
}

type crash struct {
	to     *FS
	loss   Loss
	random *rand.Rand
	copies map[*node]*node
}

func (c *crash) copy(n *node) *node {
	if made := c.copies[n]; made != nil {
		return made
	}
	made := &node{id: n.id, changed: n.changed}
	c.copies[n] = made
	if n.entries == nil {
		made.data, made.modTime = slices.Clone(n.written.data), n.written.modTime
		for _, change := range c.kept(n.changes) {
			change.apply(&made.data, &made.modTime)
		}
		made.written = diskFile{slices.Clone(made.data), made.modTime}
		return made
	}
	names := maps.Clone(n.synced)
	for _, e := range n.renames {
		switch {
		case c.loss == All || c.random.IntN(2) == 0:
		case e.node == nil:
			delete(names, e.name)
		default:
			names[e.name] = e.node
		}
	}
	made.entries = map[string]*node{}
	// In an order that is always the same, for the sake of random: temporary files
	// have other names each time.
	byAge := func(a, b string) int { return cmp.Compare(names[a].id, names[b].id) }
	for _, name := range slices.SortedFunc(maps.Keys(names), byAge) {
		made.entries[name] = c.copy(names[name])
	}
	made.syncDir()
	return made
}

func (c *crash) kept(changes []change) (kept []change) {
	if c.loss == All || len(changes) == 0 {
		return nil
	}
	whole := c.random.IntN(len(changes) + 1) // for Some: this many, and a part of the next
	for i, change := range changes {
		if c.loss == Some && i > whole {
			break
		}
		if c.loss == Some && i == whole || c.loss == Holes && c.random.IntN(2) == 0 {
			if change.write == nil {
				continue
			}
			change.write = change.write[:c.random.IntN(len(change.write)+1)]
			if len(change.write) == 0 {
				continue
			}
		}
		kept = append(kept, change)
	}
	return kept
}

// Kill returns the file system as the next process finds it when all others have
// died in this instant: locks are free, and what was not synced is there, but
// still not synced.
func (f *FS) Kill() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	to := New()
	to.nodes, to.clock = f.nodes, f.clock
	copies := map[*node]*node{}
	var clone func(n *node) *node
	clone = func(n *node) *node {
		if n == nil || copies[n] != nil {
			return copies[n]
		}
		made := new(*n)
		copies[n] = made
		made.data, made.written.data = slices.Clone(n.data), slices.Clone(n.written.data)
		made.changes = slices.Clone(n.changes)
		each := func(m map[string]*node) map[string]*node {
			m = maps.Clone(m)
			for name, n := range m {
				m[name] = clone(n)
			}
			return m
		}
		made.entries, made.synced = each(n.entries), each(n.synced)
		made.renames = slices.Clone(n.renames)
		for i := range made.renames {
			made.renames[i].node = clone(made.renames[i].node)
		}
		return made
	}
	to.root = clone(f.root)
	return to
}

// Files returns the names of all files, sorted.
func (f *FS) Files() (files []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var walk func(dir string, n *node)
	walk = func(dir string, n *node) {
		for name, n := range n.entries {
			name = path.Join(dir, name)
			if n.entries == nil {
				files = append(files, name)
			} else {
				walk(name, n)
			}
		}
	}
	walk(".", f.root)
	slices.Sort(files)
	return files
}
