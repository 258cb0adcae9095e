package mirror

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/store"
)

// Pushing says what a Push works on. The first four fields are required.
type Pushing struct {
	Home   store.Source
	Mirror Store
	State  *State
	// Origin is the id of the home on this machine, the same at each push: an
	// element of a name. Two homes with one origin overwrite each other's facts
	// and supersede each other's diverged versions.
	Origin string
	// Machine is the name of the host, for those who ask the catalog; it may be empty.
	Machine string
	// Idle is how long ago a rollout must have changed to be pushed. 0 pushes
	// what may still grow; the next push brings the rest.
	Idle time.Duration
	// Live pushes also what is not idle, up to its last complete line.
	Live bool
	// Jobs is how many rollouts are pushed at a time; 0 is 1.
	Jobs int
	// Until, if set, is when no further rollout is begun. What is on its way is
	// finished.
	Until time.Time
	// DryRun does nothing but say what would be done: the home and the mirror are
	// read, and neither the mirror nor the state is written.
	DryRun bool
	// Reconcile holds what the state says of the mirror against a listing of it,
	// which finds what somebody else removed or replaced. Push does that by itself
	// once a week.
	Reconcile bool
	// SingleWriter says that nobody else writes to the mirror while this push
	// does, so that its store need not mind conditions.
	SingleWriter bool
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Each, if set, is called with each outcome as it is known, one at a time.
	Each func(Outcome)
	// Progress, if set, is kept up to date meanwhile.
	Progress *Progress
}

// Action is what a Push did with a rollout.
type Action string

// What a Push can do. Only those up to Diverged wrote something.
const (
	Uploaded   Action = "uploaded"   // the mirror did not have it
	Extended   Action = "extended"   // the mirror had the beginning
	Rewritten  Action = "rewritten"  // the mirror had what this home had before; that is in history now
	Diverged   Action = "diverged"   // the mirror has another home's version; this one is beside it
	Equal      Action = "equal"      // the mirror has exactly this
	Ahead      Action = "ahead"      // the mirror has this and more
	Superseded Action = "superseded" // the mirror has this in its history
	Tombstone  Action = "forgotten"  // it was forgotten in the mirror, and is not pushed again
	Unchanged  Action = "unchanged"  // as it was when it was last pushed: not looked at
	Waiting    Action = "waiting"    // changed too short a time ago, while it was read, or too little: see Push
	Failed     Action = "failed"     // see Outcome.Err
)

// Outcome is what became of one rollout in a Push.
type Outcome struct {
	Path    string // in the home
	Key     string // name in the mirror of the version that now holds the bytes
	Action  Action
	Size    int64  // plain bytes
	Foreign string // name under which bytes that a foreign tool had put there are kept; "" if none were
	Err     error
}

// Report sums up a Push.
type Report struct {
	Rollouts int            // found in the home
	Actions  map[Action]int // how many of them ended how
	Bytes    int64          // plain bytes of the versions that were written
	Failures []Outcome      // those that failed
	Foreign  []string       // see Outcome.Foreign
	Left     int            // that were not begun before Pushing.Until
	// Vanished are the paths of rollouts that were pushed before and are in the
	// home no more. The mirror keeps them. Each is reported once.
	Vanished []string
}

// ErrVanished means that not one of the rollouts that a home had is there any
// more, which is a disk that was not mounted rather than somebody's wish.
var ErrVanished = errors.New("all rollouts that were pushed from here have vanished")

// Push brings what is new in a home to a mirror, oldest first: every rollout that
// is not as it was at the last push and has been idle long enough. A rollout that
// others begin with by reference goes before them, idle or not. One of 64 MiB or
// more that is in the mirror already is pushed again when it has grown by a tenth,
// or six hours after the last time.
//
// Push returns an error, with what it did so far, when it could not go on; a
// rollout that could not be pushed is in the report and keeps no other back. With
// nothing to do it makes no request.
//
// A push that is interrupted at any point has lost nothing: each rollout is in
// the mirror whole or as it was before, and the state says at most what is true.
func Push(ctx context.Context, o Pushing) (Report, error) {
	p, err := newPusher(o)
	if err != nil {
		return p.report, err
	}
	begun := p.Now()
	err = p.run(ctx)
	if !p.DryRun {
		err = errors.Join(err, p.State.recordRun(newRun(begun, p.Now(), p.report, err)))
	}
	return p.report, err
}

func newPusher(o Pushing) (*pusher, error) {
	p := &pusher{
		Pushing: o,
		report:  Report{Actions: map[Action]int{}},
		due:     change{},
		planned: map[string]string{},
		rows:    map[string]dueRow{},
		ledger:  newLedger(o.Mirror, o.Origin),
		index:   newIndex(o.Mirror),
		holder:  newHolder(max(o.Jobs, 1)),
	}
	if p.Now == nil {
		p.Now = time.Now
	}
	if err := store.CheckName(path.Join(originsDir, p.Origin)); err != nil || strings.Contains(p.Origin, "/") {
		return p, fmt.Errorf("origin %q: must be one element of a name", p.Origin)
	}
	return p, nil
}

type pusher struct {
	Pushing
	names  map[string]codec.ThreadName
	index  *index
	holder *holder

	pending map[uuid.UUID]bool        // the rollouts that this pass found to do, until they are done
	waiting map[uuid.UUID][]candidate // those of them that are not idle
	lost    map[string]bool           // objects that are not as the state says; nil if nobody has looked

	mu      sync.Mutex        // guards what follows
	planned map[string]string // what a dry run would write: path in the home by name in the mirror
	report  Report
	// forgotten are ids, nil if nobody has asked yet.
	forgotten map[string]bool
	ledger    *ledger
	due       change            // is to be saved in the state
	dues      int               // rollouts in it
	untold    int               // facts since the last that were told
	rows      map[string]dueRow // for the catalog, by name in the mirror; an earlier pass may have left others
	saved     time.Time
	told      time.Time
}

func (p *pusher) run(ctx context.Context) error {
	var err error
	if p.names, err = listing.ThreadNames(ctx, p.Home); err != nil {
		return err
	}
	if err := p.reconcile(ctx); err != nil {
		return err
	}
	todo, err := p.scan(ctx)
	if err != nil {
		return err
	}
	p.pending, p.waiting = map[uuid.UUID]bool{}, map[uuid.UUID][]candidate{}
	ready := todo[:0]
	for _, group := range todo {
		p.pending[group[0].rollout()] = true
		if group, err = p.ready(ctx, group); err != nil {
			return err
		}
		if len(group) > 0 {
			ready = append(ready, group)
		}
	}
	return p.push(ctx, ready)
}

// push pushes groups, and what they begin with, and tells of it.
func (p *pusher) push(ctx context.Context, groups [][]candidate) error {
	some, err := p.someUntold()
	if err != nil {
		return err
	}
	if len(groups) > 0 || some {
		if err := p.expect(ctx, groups); err != nil {
			return errors.Join(err, p.save())
		}
	}
	p.Progress.plan(groups...)
	err = p.rounds(ctx, groups)
	for _, group := range p.waiting {
		for _, c := range group {
			p.count(Outcome{Path: c.path, Key: c.key(), Action: Waiting, Size: max(c.size, 0)})
		}
	}
	if p.DryRun {
		return err
	}
	if ctx.Err() != nil {
		// What is done is worth telling, as the last thing.
		const patience = 20 * time.Second
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
		defer cancel()
		ctx = last
	}
	if err := errors.Join(err, p.tell(ctx)); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return errors.Join(p.reconciledLocked(), p.saveLocked())
}

// expect makes sure that there is a mirror that can be written to, and prepares
// for what groups will ask of it.
func (p *pusher) expect(ctx context.Context, groups [][]candidate) error {
	if p.DryRun {
		if err := Check(ctx, p.Mirror); err != nil && !errors.Is(err, ErrNoMirror) {
			return err
		}
	} else if err := prepare(ctx, p.Mirror, p.SingleWriter); err != nil {
		return err
	}
	for _, group := range groups {
		key := group[0].key()
		if _, known, err := p.object(key); err != nil {
			return err
		} else if !known {
			p.index.expect(key)
		}
	}
	p.saved, p.told = time.Now(), time.Now()
	return nil
}

// rounds pushes groups; those that begin with others of the pass, after these.
func (p *pusher) rounds(ctx context.Context, groups [][]candidate) error {
	var later [][]candidate
	for len(groups) > 0 {
		more, err := p.round(ctx, groups)
		if err != nil {
			return err
		}
		groups, later = p.next(append(later, more...))
	}
	return nil
}

// next splits groups that begin with others into those whose turn it is, with
// what they wait for, and the rest.
func (p *pusher) next(groups [][]candidate) (now, later [][]candidate) {
	undone := map[uuid.UUID]bool{}
	for _, group := range groups {
		undone[group[0].rollout()] = true
	}
	for _, group := range groups {
		base := group[0].base
		if parent, ok := p.waiting[base]; ok {
			delete(p.waiting, base)
			p.Progress.plan(parent)
			undone[base] = true
			now = append(now, parent)
		}
		if undone[base] {
			later = append(later, group)
		} else {
			now = append(now, inOrder(group))
		}
	}
	if len(now) > 0 {
		return now, later
	}
	for _, group := range later { // they begin with each other
		now = append(now, inOrder(group))
	}
	return now, nil
}

// inOrder marks a group as one that need not wait for others any more.
func inOrder(group []candidate) []candidate {
	for i := range group {
		group[i].ordered = true
	}
	return group
}

// round pushes groups, Jobs at a time, and returns those that begin with others
// of the pass. An error ends the pass.
func (p *pusher) round(ctx context.Context, groups [][]candidate) (later [][]candidate, err error) {
	jobs, running := errgroup.WithContext(ctx)
	var mu sync.Mutex
	var next atomic.Int64
	for range min(max(p.Jobs, 1), len(groups)) { // with goroutines that last, their stacks grow once
		jobs.Go(func() error {
			for i := int(next.Add(1)) - 1; i < len(groups) && running.Err() == nil; i = int(next.Add(1)) - 1 {
				rest, err := p.group(running, groups[i])
				if err != nil {
					return err
				}
				if len(rest) > 0 {
					mu.Lock()
					later = append(later, rest)
					mu.Unlock()
				}
			}
			return nil
		})
	}
	if err := jobs.Wait(); err != nil {
		return nil, err
	}
	return later, ctx.Err()
}

// group pushes files of one name, one after the other, and returns those that were
// not begun because the first of them begins with another rollout of the pass.
func (p *pusher) group(ctx context.Context, group []candidate) (rest []candidate, err error) {
	for i := range group {
		c := &group[i]
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if !p.Until.IsZero() && !p.Now().Before(p.Until) {
			p.mu.Lock()
			p.report.Left++
			p.mu.Unlock()
			continue
		}
		w := watch{progress: p.Progress}
		out, wait := p.one(ctx, c, &w)
		switch {
		case wait:
			return group[i:], nil
		case ctx.Err() != nil:
			return nil, ctx.Err()
		}
		w.done(c, out.Size)
		p.count(out)
		if err := p.tellSome(ctx); err != nil {
			return nil, err
		}
	}
	return nil, nil
}

// onlyOne pushes the rollout at file, what it begins with, and nothing else.
func (p *pusher) onlyOne(ctx context.Context, file string) (Outcome, error) {
	failed := Outcome{Path: file, Action: Failed}
	var err error
	if p.names, err = listing.ThreadNames(ctx, p.Home); err != nil {
		return failed, err
	}
	p.pending, p.waiting = map[uuid.UUID]bool{}, map[uuid.UUID][]candidate{}
	c, base, err := p.open(ctx, file)
	for err == nil && base != "" {
		var id uuid.UUID
		if id, err = uuid.Parse(base); err != nil || p.pending[id] {
			break
		}
		var parent candidate
		if file, err = p.find(ctx, base); err == nil {
			parent, base, err = p.open(ctx, file)
		}
		p.pending[id], p.waiting[id] = true, []candidate{parent}
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNoMeta) {
		return failed, err
	}
	out := failed
	each := p.Each
	p.Each = func(o Outcome) {
		switch {
		case o.Path == c.path:
			out = o
		case each != nil:
			each(o)
		}
	}
	return out, p.push(ctx, [][]candidate{{c}})
}

// settle is how long after its last change a file may still be changed without
// its times showing it, on the coarsest file system (FAT: 2 s).
const settle = 2 * time.Second

// one pushes one file. wait is true if it begins with a rollout of the pass that
// has to be pushed before; then nothing was done.
func (p *pusher) one(ctx context.Context, c *candidate, w *watch) (out Outcome, wait bool) {
	out = Outcome{Path: c.path, Key: c.key(), Size: max(c.size, 0)}
	f, err := p.Home.Open(ctx, c.path)
	if errors.Is(err, fs.ErrNotExist) { // moved or removed since it was found
		out.Action = Waiting
		return out, false
	}
	if err != nil {
		return out.failed(err), false
	}
	f = p.holder.hold(ctx, f)
	defer f.Close()
	src := &source{f: f, name: c.name(), watch: w, sums: !p.DryRun}
	base, pin, err := p.bring(ctx, c, src, &out)
	switch {
	case base != uuid.Nil:
		c.base = base
		return out, true
	case errors.Is(err, errSourceChanged), errors.Is(err, store.ErrChanged) && p.at(ctx, c.path) != f.Info().Version:
		out.Action = Waiting
		return out, false
	case err != nil:
		return out.failed(err), false
	}
	out.Size = src.version.Size
	if err := p.note(ctx, c, src, out, pin); err != nil {
		return out.failed(err), false
	}
	return out, false
}

// bring brings src, which is c, into the mirror, and returns what it begins with.
// If that is a rollout of the pass that has to be pushed before, it only returns
// its id.
func (p *pusher) bring(ctx context.Context, c *candidate, src *source, out *Outcome) (first uuid.UUID, pin *Pin, err error) {
	base, err := src.base(ctx)
	if err != nil && !errors.Is(err, errNoMeta) { // without one, it begins with nothing that could be pushed
		return uuid.Nil, nil, err
	}
	if base.Rollout != "" && !c.ordered {
		if id, err := uuid.Parse(base.Rollout); err == nil && p.pending[id] {
			return id, nil, nil
		}
	}
	if c.live {
		if src.limit, err = lastLineEnd(ctx, src.f); err != nil {
			return uuid.Nil, nil, err
		}
	} else {
		src.current = func() bool { return p.at(ctx, c.path) == src.f.Info().Version }
		if _, ok := src.f.(*heldFile); ok && !src.current() {
			return uuid.Nil, nil, errSourceChanged // it may have been read half before and half after
		}
	}
	if err := p.place(ctx, src, slot{key: c.key(), second: c.second}, out); err != nil {
		return uuid.Nil, nil, err
	}
	pin, err = p.pin(ctx, c, base)
	return uuid.Nil, pin, err
}

func (o Outcome) failed(err error) Outcome {
	o.Action, o.Err = Failed, err
	return o
}

// at returns the version of the file at path, "" if there is none.
func (p *pusher) at(ctx context.Context, path string) string {
	f, err := p.Home.Open(ctx, path)
	if err != nil {
		return ""
	}
	defer f.Close()
	return f.Info().Version
}

// find returns the path in the home of the rollout with that id.
func (p *pusher) find(ctx context.Context, rollout string) (string, error) {
	it, err := listing.Rollout(ctx, []listing.Place{{Where: listing.Local, Source: p.Home}}, rollout)
	return it.Path, err
}

// pin returns what c begins with, nil if that is nothing.
func (p *pusher) pin(ctx context.Context, c *candidate, base codec.Base) (*Pin, error) {
	if base.Rollout == "" {
		return nil, nil
	}
	known, _, err := get[fileState](p.State, files, c.path)
	if err != nil {
		return nil, err
	}
	if old := known.Base; old != nil && old.Rollout == base.Rollout && old.Offset == base.Offset && old.SHA256 != "" {
		return old, nil
	}
	// What this home told once counts more than what its parent is by now.
	told, err := p.fact(ctx, c.name())
	if err != nil {
		return nil, err
	}
	if old := told.Base; old != nil && old.Rollout == base.Rollout && old.Offset == base.Offset && old.SHA256 != "" {
		return old, nil
	}
	pin := Pin{Rollout: base.Rollout, Offset: base.Offset}
	file, err := p.find(ctx, base.Rollout)
	var f store.File
	if err == nil {
		f, err = p.Home.Open(ctx, file)
	}
	if err == nil {
		pin, err = pinOf(ctx, f, base)
		err = errors.Join(err, f.Close())
	}
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, ErrLineage) || errors.Is(err, store.ErrCorrupt) {
		err = nil // there is nothing to pin it to
	}
	return &pin, err
}

// note keeps what there is to tell of c, which is in the mirror now.
func (p *pusher) note(ctx context.Context, c *candidate, src *source, out Outcome, pin *Pin) error {
	n := c.name()
	name := p.names[n.Session.String()]
	i, now := src.f.Info(), p.Now()
	state := fileState{Name: name.Name, Beside: c.second, Base: pin}
	if out.Key != c.key() {
		state.Key = out.Key
	}
	// What changed a moment ago may change again and look the same.
	changed := i.ChangeTime
	if changed.IsZero() {
		changed = i.ModTime
	}
	if now.Sub(changed).Abs() >= settle &&
		(src.limit == 0 || src.limit == i.Size) && p.at(ctx, c.path) == i.Version {
		state.Version = i.Version
	}
	if i.ModTime.After(now) {
		state.Waiting = i.Version // it has been idle long enough, should it have to be looked at again
	}
	fact := Fact{
		Rollout: n.String(), Path: c.path, Archived: strings.HasPrefix(c.path, archivedDir+"/"),
		ModTime: i.ModTime.UTC(), Size: src.version.Size, SHA256: src.version.hash(), Base: pin,
		Name: name.Name, NameTime: name.UpdatedAt,
		Wrote: wrote(out.Action), Machine: p.Machine,
	}
	row, err := p.row(ctx, src, fact)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if o, ok, err := p.objectLocked(c.key()); err != nil {
		return err
	} else if ok && o.SHA256 == fact.SHA256 {
		fact.Object = o.Version
	}
	if !c.second && out.Action != Tombstone {
		if err := set(p.due, untold, fact.Rollout, fact); err != nil {
			return err
		}
	}
	if err := p.noteRowLocked(out.Key, row); err != nil {
		return err
	}
	p.dues++
	p.untold++
	return set(p.due, files, c.path, state)
}

// wrote reports whether the action made an object.
func wrote(a Action) bool {
	return a == Uploaded || a == Extended || a == Rewritten || a == Diverged
}

func (p *pusher) count(out Outcome) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.report.Actions[out.Action]++
	if wrote(out.Action) {
		p.report.Bytes += out.Size
	}
	if out.Action == Failed {
		p.report.Failures = append(p.report.Failures, out)
	}
	if out.Foreign != "" {
		p.report.Foreign = append(p.report.Foreign, out.Foreign)
	}
	if p.Each != nil {
		p.Each(out)
	}
}

// What a pass that is killed leaves to be looked at again by the next, and for how
// long, or how many, other homes wait for the facts of one that takes hours. Each
// time the facts of a month are told all of them are written.
const (
	maxDues   = 500
	saveAfter = 5 * time.Second
	maxUntold = 4000
	tellAfter = 10 * time.Minute
)

// tellSome saves or tells what is due, if it is much or some time has passed.
func (p *pusher) tellSome(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch {
	case p.DryRun:
		return nil
	case time.Since(p.told) >= tellAfter || p.untold >= maxUntold:
		return p.tellLocked(ctx)
	case p.dues >= maxDues || time.Since(p.saved) >= saveAfter:
		return p.saveLocked()
	}
	return nil
}

// tell saves what is due, and writes the facts that are untold.
func (p *pusher) tell(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tellLocked(ctx)
}

// save writes to the state what is due.
func (p *pusher) save() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.saveLocked()
}

func (p *pusher) saveLocked() error {
	if p.DryRun || len(p.due) == 0 {
		return nil
	}
	err := p.State.write(p.due)
	p.due, p.dues, p.saved = change{}, 0, time.Now()
	return err
}

var errFound = errors.New("found")

// someUntold reports whether there are facts, or rows of the catalog, that are not in
// the mirror yet, as after a push that was killed.
func (p *pusher) someUntold() (bool, error) {
	for _, b := range []bucket{untold, rows} {
		err := p.State.each(b, func(string, []byte) error { return errFound })
		if errors.Is(err, errFound) {
			return true, nil
		}
		if err != nil {
			return false, err
		}
	}
	return false, nil
}

func (p *pusher) tellLocked(ctx context.Context) error {
	if err := p.saveLocked(); err != nil {
		return err
	}
	p.told, p.untold = time.Now(), 0
	var month string
	var facts []Fact
	tell := func() error {
		if len(facts) == 0 {
			return nil
		}
		if err := p.ledger.tell(ctx, month, facts); err != nil {
			return fmt.Errorf("facts of %s: %w", month, err)
		}
		for _, f := range facts {
			p.due.remove(untold, f.Rollout)
		}
		facts = facts[:0]
		return nil
	}
	// By name, and so by month.
	err := p.State.each(untold, func(rollout string, value []byte) error {
		var f Fact
		n, err := codec.ParseName(rollout)
		if err != nil || json.Unmarshal(value, &f) != nil {
			p.due.remove(untold, rollout) // nobody can make anything of it
			return nil
		}
		if m := monthOf(n); m != month {
			if err := tell(); err != nil {
				return err
			}
			month = m
		}
		facts = append(facts, f)
		return nil
	})
	if err == nil {
		err = tell()
	}
	if err == nil {
		err = p.catalogLocked(ctx)
	}
	return errors.Join(err, p.saveLocked())
}
