package mirror

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"hash/maphash"
	"io"
	"io/fs"
	"iter"
	"path"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
)

// A candidate is a file that may have something new. A home has a million of
// them when it is pushed for the first time, so it holds little.
type candidate struct {
	path    string
	modTime int64 // Unix nanoseconds
	size    int64 // plain, -1 if not known
	stored  int64
	known   bool // it was dealt with before
	second  bool // another file of its name has the current version
	live    bool // only up to its last complete line
	// base is the rollout of this pass that it begins with, ordered that it need
	// not wait for it any more.
	base    uuid.UUID
	ordered bool
}

func newCandidate(file string, i store.Info) candidate {
	return candidate{path: file, modTime: i.ModTime.UnixNano(), size: i.Size, stored: i.Stored}
}

func (c *candidate) name() codec.Name {
	n, _ := codec.ParseName(path.Base(c.path)) // it was parsed when it was found
	return n
}

func (c *candidate) key() string { return Key(c.name(), c.path) }

func (c *candidate) rollout() uuid.UUID { return c.name().Rollout }

// open returns the file at path as a candidate, and the id of the rollout that it
// begins with, "" if there is none.
func (p *pusher) open(ctx context.Context, file string) (c candidate, base string, err error) {
	if _, err := codec.ParseName(path.Base(file)); err != nil {
		return c, "", err
	}
	f, err := p.Home.Open(ctx, file)
	if err != nil {
		return c, "", err
	}
	defer f.Close()
	b, err := baseOf(ctx, f)
	return newCandidate(file, f.Info()), b.Rollout, err
}

// scan walks the home and returns the files that are not as they were, the
// oldest first, those of one name together and first the one of which the current
// version is. It counts the others, and reports those that have vanished.
func (p *pusher) scan(ctx context.Context) ([][]candidate, error) {
	var (
		todo []candidate
		seed = maphash.MakeSeed()
		// Names of unchanged files that have the current version and are not where
		// their name says; of the others a look tells.
		elsewhere = map[uint64]bool{}
		beside    []candidate // unchanged files that another one stood in front of
		// Files that the state knows, and those that are as they were.
		there, unchanged int
	)
	look := func(r found, value []byte) {
		p.report.Rollouts++
		if value != nil {
			there++
		}
		known, ok := fileStateOf(value, r.Info.Version)
		clean := ok && known.Version == r.Info.Version
		if clean && len(p.names) > 0 || known.Name != "" {
			clean = clean && known.Name == p.names[r.Name.Session.String()].Name
		}
		if clean && len(p.lost) > 0 {
			clean = !p.lost[cmp.Or(known.Key, Key(r.Name, r.Path))]
		}
		if clean && !known.Beside {
			unchanged++
			if !inPlace(r.Name, r.Path) {
				elsewhere[maphash.String(seed, path.Base(r.Path))] = true
			}
			return
		}
		c := newCandidate(r.Path, r.Info)
		c.known, c.second = ok, ok && known.Beside
		if clean {
			beside = append(beside, c)
		} else {
			todo = append(todo, c)
		}
	}
	err := p.State.snapshot(files, func(get func(string) []byte) error {
		for r, err := range atOnce(ctx, p.Home, sessionsDir, archivedDir) {
			if err != nil {
				return err
			}
			look(r, get(r.Path))
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if err := p.vanished(ctx, there, todo); err != nil {
		return nil, err
	}
	// Of what was seen before it is settled which is the first, as long as it is there.
	first := func(c candidate) (bool, error) {
		if elsewhere[maphash.String(seed, path.Base(c.path))] {
			return false, nil
		}
		key := c.key()
		if key == c.path {
			return true, nil
		}
		known, ok, err := get[fileState](p.State, files, key)
		return !ok || known.Beside || p.at(ctx, key) == "", err
	}
	firsts := map[string]bool{} // names of files that have the current version and have changed
	for _, c := range todo {
		if c.known && !c.second {
			firsts[path.Base(c.path)] = true
		}
	}
	for _, c := range beside {
		ok, err := first(c)
		if err != nil {
			return nil, err
		}
		if ok && !firsts[path.Base(c.path)] {
			todo = append(todo, c)
		} else {
			unchanged++
		}
	}
	if unchanged > 0 {
		p.report.Actions[Unchanged] = unchanged
	}
	groups := group(todo)
	for _, g := range groups {
		if !g[0].known || g[0].second {
			ok, err := first(g[0])
			if err != nil {
				return nil, err
			}
			g[0].second = !ok
		}
		for i := range g[1:] {
			g[i+1].second = true
		}
	}
	return groups, nil
}

// atOnce yields what rollouts does, and looks at several directories at a time, while
// its caller deals with what was found.
func atOnce(ctx context.Context, s store.Source, dirs ...string) iter.Seq2[found, error] {
	const (
		lists = 4   // directories at a time
		batch = 256 // rollouts that are handed over together
	)
	type part struct {
		found []found
		dirs  []string
		err   error
		last  bool // of its directory
	}
	return func(yield func(found, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		parts := make(chan part, lists)
		list := func(dir string) {
			var p part
			for e, err := range s.List(ctx, dir, store.ListOptions{}) {
				if r, ok := foundAt(e); err != nil {
					p.err = err
					break
				} else if e.Dir {
					p.dirs = append(p.dirs, e.Name)
				} else if ok {
					p.found = append(p.found, r)
				}
				if len(p.found) == batch {
					parts <- p
					p = part{}
				}
			}
			if errors.Is(p.err, fs.ErrNotExist) { // a directory that is not there, or not any more
				p.err = nil
			}
			p.last = true
			parts <- p
		}
		running := 0
		// The goroutines end before the range does: what they read may be closed then.
		defer func() {
			for cancel(); running > 0; {
				if p := <-parts; p.last {
					running--
				}
			}
		}()
		for len(dirs) > 0 || running > 0 {
			for ; len(dirs) > 0 && running < lists; running++ {
				go list(dirs[0])
				dirs = dirs[1:]
			}
			p := <-parts
			if p.last {
				running--
			}
			dirs = append(p.dirs, dirs...)
			for _, r := range p.found {
				if !yield(r, nil) {
					return
				}
			}
			if p.err != nil {
				yield(found{}, p.err)
				return
			}
		}
	}
}

// group returns files in groups of one name, the group with the oldest file first.
func group(files []candidate) [][]candidate {
	slices.SortFunc(files, func(a, b candidate) int {
		rank := func(c candidate) int {
			if c.known && !c.second {
				return 0
			}
			return 1
		}
		// The one that was it before, else the longest, else the one that is not
		// archived.
		return cmp.Or(cmp.Compare(path.Base(a.path), path.Base(b.path)), cmp.Compare(rank(a), rank(b)),
			cmp.Compare(b.stored, a.stored), cmp.Compare(b.path, a.path))
	})
	var groups [][]candidate
	for len(files) > 0 {
		n := 1
		for n < len(files) && path.Base(files[n].path) == path.Base(files[0].path) && files[n].key() == files[0].key() {
			n++
		}
		groups = append(groups, files[:n:n])
		files = files[n:]
	}
	oldest := func(g []candidate) int64 {
		t := g[0].modTime
		for _, c := range g[1:] {
			t = min(t, c.modTime)
		}
		return t
	}
	slices.SortStableFunc(groups, func(a, b []candidate) int { return cmp.Compare(oldest(a), oldest(b)) })
	return groups
}

// vanished reports the files that the state knows and that are there no more, and
// forgets them. there is how many of the known ones are there.
func (p *pusher) vanished(ctx context.Context, there int, todo []candidate) error {
	known := 0
	if err := p.State.each(files, func(string, []byte) error { known++; return nil }); err != nil {
		return err
	}
	if known == there {
		return nil
	}
	moved := map[string]bool{}
	for _, c := range todo {
		if !c.known {
			moved[path.Base(c.path)] = true
		}
	}
	var (
		gone []string
		dir  string
		here map[string]bool
	)
	err := p.State.each(files, func(file string, _ []byte) error {
		if d := path.Dir(file); d != dir || here == nil {
			dir, here = d, map[string]bool{}
			for e, err := range p.Home.List(ctx, d, store.ListOptions{Unordered: true, NamesOnly: true}) {
				if errors.Is(err, fs.ErrNotExist) {
					break
				}
				if err != nil {
					return err
				}
				here[e.Name] = true
			}
		}
		if !here[file] {
			gone = append(gone, file)
		}
		return nil
	})
	if err != nil {
		return err
	}
	var vanished []string
	for _, file := range gone {
		c := candidate{path: file}
		name := path.Base(file)
		if moved[name] || p.at(ctx, path.Join(archivedDir, name)) != "" || p.at(ctx, c.key()) != "" {
			continue
		}
		vanished = append(vanished, file)
	}
	if p.report.Rollouts == 0 && len(vanished) == known {
		return ErrVanished
	}
	p.report.Vanished = vanished
	if len(gone) > 0 && !p.DryRun {
		forget := change{}
		forget.remove(files, gone...)
		return p.State.write(forget)
	}
	return nil
}

// big sessions that are in the mirror are pushed again when they have grown by a
// tenth, or some hours after the last time: each push sends all of them.
const (
	big       = 64 << 20
	bigGrowth = 10 // a part of the size
	bigAfter  = 6 * time.Hour
)

// ready returns those of a group that are to be pushed now. The others wait, and
// so do those behind them.
func (p *pusher) ready(ctx context.Context, group []candidate) ([]candidate, error) {
	now := p.Now()
	for i := range group {
		c := &group[i]
		idle, err := p.idle(ctx, c, now)
		if err != nil {
			return nil, err
		}
		c.live = !idle
		grown := true
		if o, ok, err := p.object(c.key()); err != nil {
			return nil, err
		} else if since := now.Sub(o.Pushed); ok && o.Size >= big && c.size > o.Size && since >= 0 && since < bigAfter {
			grown = c.size >= o.Size+o.Size/bigGrowth
		}
		if (!idle && !p.Live) || !grown {
			for j := range group[i+1:] {
				if _, err := p.idle(ctx, &group[i+1+j], now); err != nil { // which waits from now on as well
					return nil, err
				}
			}
			p.waiting[c.rollout()] = group[i:]
			return group[:i], nil
		}
	}
	return group, nil
}

// idle reports whether c has been left alone long enough. A time in the future
// says nothing, so then it is enough that nothing changed since the last push.
func (p *pusher) idle(ctx context.Context, c *candidate, now time.Time) (bool, error) {
	changed := time.Unix(0, c.modTime)
	if !changed.After(now) {
		return now.Sub(changed) >= p.Idle, nil
	}
	if p.Idle == 0 {
		return true, nil
	}
	known, _, err := get[fileState](p.State, files, c.path)
	if err != nil {
		return false, err
	}
	version := p.at(ctx, c.path)
	if known.Waiting == version {
		return true, nil
	}
	known.Waiting, known.Version = version, ""
	return false, set(p.due, files, c.path, known)
}

// reconcileAfter is how long a push believes its state of what the mirror has.
const reconcileAfter = 7 * 24 * time.Hour

// reconcile compares what the state says of the mirror with listings of it, if it
// is time to. What is not there, or not as it was, counts as not known from then
// on, and the files that rely on it as changed.
func (p *pusher) reconcile(ctx context.Context) error {
	last, ok, err := get[time.Time](p.State, passes, reconciled)
	if err != nil {
		return err
	}
	if since := p.Now().Sub(last); !p.Reconcile && ok && since >= 0 && since < reconcileAfter {
		return nil
	}
	p.lost = map[string]bool{}
	// What the state says of one directory: that is this home's, while the mirror may
	// have a million objects there.
	dir, known := "", map[string]string{} // version by name
	compare := func() error {
		if len(known) == 0 {
			return nil
		}
		// A listing to the end may cost more than a look at each that it has not shown.
		left := max(inRequest, len(known)*inRequest/worthListing)
		for e, err := range p.Mirror.List(ctx, dir, store.ListOptions{Unordered: true}) {
			if errors.Is(err, fs.ErrNotExist) {
				break
			}
			if err != nil {
				return err
			}
			if v, ok := known[e.Name]; ok && (e.Info.Version == "" || e.Info.Version == v) {
				delete(known, e.Name)
			}
			if left--; left == 0 {
				break
			}
		}
		for key, v := range known {
			if left == 0 {
				there, err := p.isThere(ctx, key, v)
				if err != nil {
					return err
				}
				if there {
					continue
				}
			}
			p.lost[key] = true
		}
		clear(known)
		return nil
	}
	// In the order of names, and so directory by directory.
	err = p.State.each(objects, func(key string, value []byte) error {
		if d := path.Dir(key); d != dir {
			if err := compare(); err != nil {
				return err
			}
			dir = d
		}
		var o objectState
		if json.Unmarshal(value, &o) != nil {
			p.lost[key] = true
			return nil
		}
		known[key] = o.Version
		return nil
	})
	if err != nil {
		return err
	}
	return compare()
}

// isThere reports whether an object has a version.
func (p *pusher) isThere(ctx context.Context, key, version string) (bool, error) {
	f, err := p.Mirror.Open(ctx, key)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, store.ErrCorrupt) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	return f.Info().Version == version, f.Close()
}

// reconciled notes that the state and the mirror agree, if everything that was
// lost was dealt with: else the next pass starts again.
func (p *pusher) reconciledLocked() error {
	if p.lost == nil || p.DryRun || p.report.Left > 0 || len(p.report.Failures) > 0 {
		return nil
	}
	for key := range p.lost {
		p.due.remove(objects, key) // no file relies on it
	}
	return set(p.due, passes, reconciled, p.Now())
}

// lastLineEnd returns the offset behind the last '\n' of f, errSourceChanged if
// there is none yet. 0 is all of it.
func lastLineEnd(ctx context.Context, f store.File) (int64, error) {
	const piece = 64 << 10
	if f.Info().Size < 0 {
		return 0, nil // compressed, which nobody writes to
	}
	buf := make([]byte, piece)
	for end := f.Info().Size; end > 0; {
		start := max(0, end-piece)
		n, err := readAt(ctx, f, buf[:end-start], start)
		if err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			return start + int64(i) + 1, nil
		}
		end = start
	}
	return 0, errSourceChanged
}

func readAt(ctx context.Context, f store.File, p []byte, off int64) (int, error) {
	r, err := f.Range(ctx, off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	n, err := io.ReadFull(r, p)
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = errSourceChanged // it was as long when it was opened
	}
	return n, errors.Join(err, r.Close())
}
