package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"strings"
	"time"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
)

// TrashDir is where in a home Prune moves what it takes away, each run in a directory
// of its own: TrashDir/<time>/<path>. Codex does not look there.
const TrashDir = "rollout-sync-trash"

// Pruning says what a Prune takes away.
type Pruning struct {
	// Home has to be a store.Mover and store.Remover. If it is a store.Locker, it is
	// locked, and so is each session.
	Home   store.Source
	Mirror store.Source
	// State, if set, is that of the pushes from Home to Mirror. What is taken away
	// does not count as vanished for the next Push.
	State *State
	// Older is how long ago a rollout must have changed in any way to be taken away:
	// by the later of its mtime and ctime.
	Older time.Duration
	// Rollouts are those that may be taken away; nil is all.
	Rollouts []codec.Name
	// DryRun only says what would be done, going by what the mirror's objects say of
	// themselves. It writes nothing, takes no lock and downloads no object.
	DryRun bool
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Each, if set, is called with each rollout that is old enough, and each in the
	// trash, as it is done, from one goroutine.
	Each func(Pruned)
}

// What a Prune can do with a rollout, beside Failed.
const (
	Trashed Action = "trashed" // moved to the trash
	Freed   Action = "freed"   // removed from the trash, where an earlier run had moved it
	Kept    Action = "kept"    // left where it is, see Pruned.Err
)

// Why a rollout is kept, beside store.ErrBusy and store.ErrChanged.
var (
	// ErrNotMirrored means that the current version in the mirror does not begin with
	// all bytes of a rollout.
	ErrNotMirrored = errors.New("the mirror does not have it as its current version")
	// ErrReferenced means that a rollout that stays begins with a part of this one by
	// reference, or may: its own beginning cannot be read.
	ErrReferenced = errors.New("a rollout that stays refers to it, or may")
	// ErrForms means that a rollout lies there plain and compressed, and the
	// compressed form has bytes that the plain one has not.
	ErrForms = errors.New("its compressed form has other bytes")
)

// Pruned is what became of one rollout in a Prune.
type Pruned struct {
	Path   string // in the home, before
	Key    string // in the mirror
	Action Action
	Stored int64 // bytes on the disk
	Err    error // why it was kept, or what failed
}

// PruneReport sums up a Prune.
type PruneReport struct {
	Rollouts int            // in the home
	Actions  map[Action]int // of those that are old enough and those in the trash
	Trashed  int64          // bytes that were moved to the trash, and still take their place
	Freed    int64          // bytes that were removed from the trash
	Failures []Pruned       // those that failed
}

// Prune frees the disk of rollouts that the mirror has, in two runs: one moves them
// to the trash, the next removes from there what still is in the mirror.
//
// In the mirror is what Prune itself, in this run, has downloaded, decoded and
// hashed, and that begins with all the bytes it has hashed of the home's file, in
// the current version, which is the one that Restore brings back. At the moment at
// which the file is moved it has no writer, and its size, times and inode are those
// it had when it was read. A file stays whole under one of its two names, whatever
// happens meanwhile; a run that was interrupted is finished by the next.
//
// It keeps what a rollout that stays begins with by reference. A rollout whose
// beginning cannot be read may refer to any that is not certainly younger. One
// rollout that is kept, or fails, does not keep it from the others; the error is of
// what kept it from going on, which is store.ErrBusy if Codex is at work on all of
// the home.
//
// Not promised: that a fork which Codex begins while Prune is at work, of a rollout
// that has not changed for o.Older, finds it where it was. It is in the trash then,
// and in the mirror.
func Prune(ctx context.Context, o Pruning) (report PruneReport, err error) {
	p := &pruner{Pruning: o, report: PruneReport{Actions: map[Action]int{}}, referred: map[string]bool{}, children: map[string][]*oldRollout{}}
	if p.Now == nil {
		p.Now = time.Now
	}
	var canMove, canRemove bool
	p.mover, canMove = store.As[store.Mover](o.Home)
	p.remover, canRemove = store.As[store.Remover](o.Home)
	if !canMove || !canRemove {
		return p.report, fmt.Errorf("prune: the home's files cannot be moved: %w", errors.ErrUnsupported)
	}
	if !o.DryRun {
		unlock, e := lockHome(ctx, o.Home)
		if e != nil {
			return p.report, e
		}
		defer func() { err = errors.Join(err, unlock()) }()
	}
	err = p.run(ctx)
	return p.report, err
}

type pruner struct {
	Pruning
	mover   store.Mover
	remover store.Remover
	trash   string // of this run
	report  PruneReport

	referred map[string]bool          // rollouts that what stays begins with
	children map[string][]*oldRollout // by the rollout that they begin with
	// unread is the time up to which rollouts may be referred to by what stays and
	// cannot be read.
	unread int64
}

// oldRollout is a rollout that is old enough.
type oldRollout struct {
	found
	base string // the rollout that it begins with, "" if none
	bad  bool   // base is not known
	done bool
}

func (p *pruner) run(ctx context.Context) error {
	if err := Check(ctx, p.Mirror); err != nil {
		return err
	}
	p.unread = math.MinInt64
	p.trash = path.Join(TrashDir, p.Now().UTC().Format("2006-01-02T15-04-05.000Z"))
	for r, err := range rollouts(ctx, p.Home, TrashDir) {
		if err != nil {
			return err
		}
		p.free(ctx, r)
		if err := ctx.Err(); err != nil {
			return err
		}
	}
	candidates, err := p.candidates(ctx)
	if err != nil {
		return err
	}
	// Those that cannot be read may refer to any other: they go first.
	for _, bad := range []bool{true, false} {
		for _, c := range candidates {
			if c.bad == bad {
				p.prune(ctx, c)
			}
			if err := ctx.Err(); err != nil {
				return err
			}
		}
	}
	return nil
}

// candidates returns what may be taken away, and notes what all else begins with.
func (p *pruner) candidates(ctx context.Context) ([]*oldRollout, error) {
	var wanted map[codec.Name]bool
	if p.Rollouts != nil {
		wanted = map[codec.Name]bool{}
		for _, n := range p.Rollouts {
			wanted[n] = true
		}
	}
	var all []*oldRollout
	for r, err := range rollouts(ctx, p.Home, sessionsDir, archivedDir) {
		if err != nil {
			return nil, err
		}
		p.report.Rollouts++
		c := &oldRollout{found: r}
		c.base, err = p.base(ctx, r.Path)
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone meanwhile
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		c.bad = err != nil
		if (wanted == nil || wanted[r.Name]) && p.old(r.Info) {
			all = append(all, c)
			if c.base != "" {
				p.children[c.base] = append(p.children[c.base], c)
			}
		} else {
			p.stays(c)
		}
	}
	return all, nil
}

func (p *pruner) base(ctx context.Context, file string) (string, error) {
	f, err := p.Home.Open(ctx, file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := baseOf(ctx, f)
	return b.Rollout, err
}

// old reports whether a file has been as it is for long enough, and was not changed
// so short a time ago that its times may not show the next change.
func (p *pruner) old(i store.Info) bool {
	changed := i.ModTime
	if i.ChangeTime.After(changed) {
		changed = i.ChangeTime
	}
	return p.Now().Sub(changed) >= max(p.Older, settle)
}

// stays notes what a rollout that stays begins with.
func (p *pruner) stays(c *oldRollout) {
	switch t, ok := c.Name.Time(); {
	case c.base != "":
		p.referred[c.base] = true
	case c.bad && !ok:
		p.unread = math.MaxInt64
	case c.bad:
		p.unread = max(p.unread, t.UnixMilli())
	}
}

// isReferred reports whether what stays may begin with a part of the rollout n. What
// does is younger, if the ids tell the times.
func (p *pruner) isReferred(n codec.Name) bool {
	t, ok := n.Time()
	return p.referred[n.Rollout.String()] || p.unread > math.MinInt64 && (!ok || t.UnixMilli() <= p.unread)
}

// prune takes c away, after all that begins with it.
func (p *pruner) prune(ctx context.Context, c *oldRollout) {
	if c.done || ctx.Err() != nil {
		return
	}
	c.done = true
	for _, child := range p.children[c.Name.Rollout.String()] {
		p.prune(ctx, child)
	}
	out := Pruned{Path: c.Path, Key: Key(c.Name, c.Path), Stored: c.Info.Stored}
	out.Err = ErrReferenced
	if !p.isReferred(c.Name) {
		out.Err = p.take(ctx, c, &out)
	}
	if ctx.Err() != nil {
		return
	}
	out.Action = Trashed
	if out.Err != nil {
		p.stays(c)
		out.Action = keptOrFailed(out.Err)
	}
	p.count(out)
}

// keptOrFailed tells the reasons to keep a rollout from failures.
func keptOrFailed(err error) Action {
	for _, why := range []error{ErrNotMirrored, ErrReferenced, ErrForms, store.ErrBusy, store.ErrChanged, fs.ErrNotExist} {
		if errors.Is(err, why) {
			return Kept
		}
	}
	return Failed
}

func (p *pruner) count(out Pruned) {
	p.report.Actions[out.Action]++
	switch out.Action {
	case Trashed:
		p.report.Trashed += out.Stored
	case Freed:
		p.report.Freed += out.Stored
	case Failed:
		p.report.Failures = append(p.report.Failures, out)
	}
	if p.Each != nil {
		p.Each(out)
	}
}

// take moves c to the trash if the mirror has it.
func (p *pruner) take(ctx context.Context, c *oldRollout, out *Pruned) error {
	if err := p.probe(ctx, c.Path); err != nil { // before the work
		return err
	}
	version, err := p.inMirror(ctx, c.Path, out)
	if err != nil || p.DryRun {
		return err
	}
	if version != c.Info.Version {
		return fmt.Errorf("%s: %w", c.Path, store.ErrChanged)
	}
	// First, so that no crash leaves a file that the State takes for vanished.
	if p.State != nil {
		gone := change{}
		gone.remove(files, c.Path)
		if err := p.State.write(gone); err != nil {
			return err
		}
	}
	return p.mover.Move(ctx, c.Path, version, path.Join(p.trash, c.Path))
}

// probe returns store.ErrBusy if the log has a writer.
func (p *pruner) probe(ctx context.Context, file string) error {
	l, ok := store.As[store.Locker](p.Home)
	if !ok || p.DryRun {
		return nil
	}
	unlock, err := l.Lock(ctx, file)
	if err != nil {
		return err
	}
	return unlock()
}

// free removes from the trash what an earlier run has moved there, if the mirror
// still has it.
func (p *pruner) free(ctx context.Context, r found) {
	was := r.Path
	for range 2 { // TrashDir/<time>/
		_, was, _ = strings.Cut(was, "/")
	}
	out := Pruned{Path: r.Path, Key: Key(r.Name, was), Action: Freed, Stored: r.Info.Stored}
	version, err := p.inMirror(ctx, r.Path, &out)
	if err == nil && !p.DryRun {
		err = p.remover.Remove(ctx, r.Path, version)
	}
	if ctx.Err() != nil {
		return
	}
	if out.Err = err; err != nil {
		out.Action = keptOrFailed(err)
	}
	p.count(out)
}

// inMirror returns the version of a file of the home, all bytes of which the mirror
// has.
func (p *pruner) inMirror(ctx context.Context, file string, out *Pruned) (version string, err error) {
	f, err := p.Home.Open(ctx, file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	out.Stored = f.Info().Stored
	local := &source{f: f}
	if err := local.read(ctx, 0); err != nil {
		return "", err
	}
	if err := p.otherForm(ctx, file, f); err != nil {
		return "", err
	}
	return f.Info().Version, p.has(ctx, out.Key, local.version)
}

// has returns nil if the current version at key begins with the bytes that v
// identifies.
func (p *pruner) has(ctx context.Context, key string, v version) error {
	f, err := p.Mirror.Open(ctx, key)
	if errors.Is(err, fs.ErrNotExist) {
		return ErrNotMirrored
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if f.Info().Size < v.Size {
		return ErrNotMirrored // not worth a download
	}
	check := verifier{Verifying: Verifying{Mirror: p.Mirror, Deep: !p.DryRun}}
	trailer, err := check.trailer(ctx, key)
	if err == nil {
		err = agree(key, f.Info(), trailer)
	}
	if err != nil {
		return err
	}
	sum := fmt.Sprintf("%x", trailer.SHA256)
	if trailer.Size != v.Size {
		if sum, err = hashPrefix(ctx, f, v.Size); err != nil {
			return err
		}
	}
	if sum != v.hash() {
		return ErrNotMirrored
	}
	return nil
}

// otherForm returns ErrForms if a file lies there compressed, too, and that form has
// bytes that f has not.
func (p *pruner) otherForm(ctx context.Context, file string, f store.File) error {
	z, err := p.Home.Open(ctx, strings.TrimSuffix(file, logSuffix)+sealedSuffix)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer z.Close()
	if z.Info().Version == f.Info().Version {
		return nil // f is the compressed form; a plain one beside it is a part of it
	}
	r, err := codec.OpenSealed(z.Range, z.Info().Stored).Range(ctx, 0, -1)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrForms, err)
	}
	other := store.NewReading()
	if err := copyAll(other, r); err != nil {
		return fmt.Errorf("%w: %w", ErrForms, err)
	}
	if begins, err := hashPrefix(ctx, f, other.Size()); err != nil || begins != fmt.Sprintf("%x", other.SHA256()) {
		return ErrForms
	}
	return nil
}
