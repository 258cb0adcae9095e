package mirror

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
)

// Home is what a Restore or a Sink writes to.
type Home interface {
	store.Source
	store.Sink
	store.Putter
}

// MaintenanceLock is the log whose lock Codex holds while it compresses or migrates
// the rollouts of a home, if the home's store knows where Codex has that lock.
// Restore and Prune hold it too. Nothing is ever written under this name.
const MaintenanceLock = "rollout-maintenance"

// Restoring says what a Restore brings back, and where to.
type Restoring struct {
	// Home may be empty, but not missing. If it is a store.Locker it is locked.
	Home   Home
	Mirror store.Source
	// State, if set, learns which versions the home has now: when Codex rewrites one
	// of them (a migration), the next Push supersedes the mirror's version instead of
	// keeping both as diverged.
	State *State
	// Origin is the id under which the home pushes: its own facts come first. ""
	// believes all origins alike.
	Origin string
	// Rollouts are those to bring back, in this order, with what they begin with by
	// reference; nil is all in the mirror, the newest first.
	Rollouts []codec.Name
	// Version is the plain hash of the version that is wanted of the one rollout in
	// Rollouts, see Versions; "" is the current one of each.
	Version string
	// DryRun only says what would be done. It writes nothing and takes no lock, so it
	// does not see which sessions are locked.
	DryRun bool
	// Each, if set, is called with each rollout as it is done, from one goroutine.
	Each func(Restored)
}

// What a Restore can do with a rollout, beside Extended and Failed.
const (
	Created Action = "created" // it was not there
	Present Action = "present" // the home has exactly this
	Longer  Action = "longer"  // the home has this and more
)

// Restored is what became of one rollout in a Restore.
type Restored struct {
	Path   string // in the home
	Key    string // in the mirror
	Name   codec.Name
	Action Action
	Size   int64  // plain bytes of the mirror's version
	SHA256 string // its plain hash
	Err    error
}

// Restoration sums up a Restore.
type Restoration struct {
	Actions  map[Action]int
	Bytes    int64      // plain bytes of what was written
	Names    int        // names of sessions that were given back
	Failures []Restored // those that failed
}

// ErrDiffers means that the home has another version of a rollout, neither the
// beginning of the mirror's nor its continuation. It is left as it is.
var ErrDiffers = errors.New("the home has another version, which is left as it is")

// Restore brings rollouts back to the paths they had, with their times and the
// names of their sessions, each after what it begins with by reference. A file of the home is replaced only by one that begins with all its
// bytes, under the lock of its session; a session that has a writer is
// store.ErrBusy, and left alone. A name is only given where there is none. Files
// appear whole, durable and dated, or not at all. One rollout that fails does not
// keep it from the others; the error is of what kept it from going on, which is
// store.ErrBusy if Codex is at work on all of the home.
//
// Of what a rollout begins with it takes the version that has those bytes. That is
// not always the current one, which then is ErrDiffers, as a home has one version
// of each. If the home has another version, or the mirror has none that fits, the
// rollout is ErrLineage and not restored.
//
// A Restore that was interrupted is finished by the next, which reads what is in
// the home but does not download it again.
//
// Nothing in a mirror is believed: a path has to be one at which Codex keeps that
// rollout, and no more is written than the size that an object's own trailer
// states, however much it decodes to. Memory does not grow with a rollout's size.
func Restore(ctx context.Context, o Restoring) (r Restoration, err error) {
	facts := NewFacts(o.Mirror)
	rs := &restorer{
		Restoring: o,
		facts:     facts,
		lineage:   newLineage(o.Mirror, facts),
		here:      map[uuid.UUID][]string{},
		brought:   map[uuid.UUID]string{},
		whole:     map[Pin]bool{},
		names:     map[string]codec.ThreadName{},
		result:    Restoration{Actions: map[Action]int{}},
	}
	if o.Version != "" && len(o.Rollouts) != 1 {
		return rs.result, errors.New("a version is that of one rollout")
	}
	if !o.DryRun {
		unlock, e := lockHome(ctx, o.Home)
		if e != nil {
			return rs.result, e
		}
		defer func() { err = errors.Join(err, unlock()) }()
	}
	err = rs.run(ctx)
	return rs.result, err
}

// lockHome keeps Codex from compressing and migrating the rollouts of a home.
func lockHome(ctx context.Context, home store.Source) (unlock func() error, err error) {
	l, ok := store.As[store.Locker](home)
	if !ok {
		return func() error { return nil }, nil
	}
	unlock, err = l.Lock(ctx, MaintenanceLock)
	if errors.Is(err, store.ErrBusy) {
		err = fmt.Errorf("%w: Codex is compressing or migrating the home's rollouts, or another restore or prune is at work", store.ErrBusy)
	}
	return unlock, err
}

type restorer struct {
	Restoring
	facts   *Facts
	lineage *lineage
	here    map[uuid.UUID][]string // paths in the home by rollout id
	brought map[uuid.UUID]string   // the versions that came, or would come, in this run
	whole   map[Pin]bool           // what the home has, with all that it begins with
	names   map[string]codec.ThreadName
	result  Restoration
}

func (r *restorer) run(ctx context.Context) error {
	if err := Check(ctx, r.Mirror); err != nil {
		return err
	}
	for f, err := range rollouts(ctx, r.Home, sessionsDir, archivedDir) {
		if err != nil {
			return err
		}
		r.here[f.Name.Rollout] = append(r.here[f.Name.Rollout], f.Path)
	}
	for f, err := range r.wanted(ctx) {
		if err != nil {
			return err
		}
		out, done := r.one(ctx, f)
		if err := ctx.Err(); err != nil {
			return err
		}
		if !done {
			r.count(out)
		}
	}
	return r.giveNames(ctx)
}

// wanted yields the rollouts to restore. A fork or revert is younger than what it
// begins with: the newest first, so that it says which version is needed before
// another one is there.
func (r *restorer) wanted(ctx context.Context) iter.Seq2[found, error] {
	return func(yield func(found, error) bool) {
		if r.Rollouts == nil {
			for e, err := range newestFirst(ctx, r.Mirror, sessionsDir, archivedDir) {
				n, bad := codec.ParseName(path.Base(e.Name))
				if err == nil && (bad != nil || Key(n, e.Name) != e.Name) {
					continue // not ours
				}
				if !yield(found{e.Name, n, e.Info}, err) || err != nil {
					return
				}
			}
			return
		}
		for _, n := range r.Rollouts {
			f, err := found{Key(n, ""), n, store.Info{}}, error(nil)
			if f.Path == "" { // it has no date
				if f.Path, err = r.lineage.find(ctx, n.Rollout.String()); errors.Is(err, fs.ErrNotExist) {
					f.Path, err = n.String(), nil
				}
			}
			if !yield(f, err) || err != nil {
				return
			}
		}
	}
}

// newestFirst is walk in descending order of the names.
func newestFirst(ctx context.Context, s store.Source, dirs ...string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		for _, dir := range dirs {
			for e, err := range s.List(ctx, dir, store.ListOptions{Desc: true}) {
				switch {
				case errors.Is(err, fs.ErrNotExist):
				case err != nil:
					yield(store.Entry{}, err)
					return
				case e.Dir:
					for e, err := range newestFirst(ctx, s, e.Name) {
						if !yield(e, err) || err != nil {
							return
						}
					}
				case !yield(e, nil):
					return
				}
			}
		}
	}
}

func (r *restorer) count(out Restored) {
	switch {
	case out.Err != nil:
		out.Action = Failed
		r.result.Failures = append(r.result.Failures, out)
	case out.Action == Created || out.Action == Extended:
		r.result.Bytes += out.Size
	}
	r.result.Actions[out.Action]++
	if r.Each != nil {
		r.Each(out)
	}
}

// one restores a rollout that was asked for. done tells that it was, for one that
// begins with it.
func (r *restorer) one(ctx context.Context, f found) (out Restored, done bool) {
	out = Restored{Key: f.Path, Name: f.Name}
	if r.Version != "" {
		if out.Key, out.Err = r.byHash(ctx, f.Path); out.Err != nil {
			return out, false
		}
	}
	if r.brought[f.Name.Rollout] == out.Key {
		return out, true
	}
	out.Err = r.restore(ctx, &out)
	return out, false
}

// byHash returns the key of the wanted version.
func (r *restorer) byHash(ctx context.Context, key string) (string, error) {
	for v, err := range versionsOf(ctx, r.Mirror, key) {
		if err != nil {
			return key, err
		}
		if v.SHA256 == r.Version {
			return v.Key, nil
		}
	}
	return key, fmt.Errorf("%s: version %.12s…: %w", key, r.Version, fs.ErrNotExist)
}

// restore brings a version that is not here, after what it begins with.
func (r *restorer) restore(ctx context.Context, out *Restored) error {
	f, err := r.Mirror.Open(ctx, out.Key)
	if err != nil {
		return err
	}
	defer f.Close()
	pin, refers, err := r.lineage.pin(ctx, out.Name, f)
	if err != nil && !errors.Is(err, errNoMeta) {
		return err
	}
	if refers {
		if err := r.begin(ctx, out.Name, pin); err != nil {
			return fmt.Errorf("%s: %w", out.Key, err)
		}
	}
	return r.bring(ctx, out, f)
}

// begin sees to it that the home has what p means, which the rollout n begins with,
// and what that begins with in turn.
func (r *restorer) begin(ctx context.Context, n codec.Name, p Pin) error {
	var missing []Restored // the parent first, its own parent next
	pins := []Pin{}
	seen := map[string]bool{n.Rollout.String(): true}
	for refers := true; refers && !r.whole[p]; {
		if seen[p.Rollout] {
			return fmt.Errorf("%w: it begins with itself", ErrLineage)
		}
		seen[p.Rollout] = true
		pins = append(pins, p)
		parent, next, more, err := r.parent(ctx, p)
		if err != nil {
			return err
		}
		if parent.Key != "" {
			missing = append(missing, parent)
		}
		p, refers = next, more
	}
	for _, parent := range slices.Backward(missing) {
		parent.Err = r.bringKey(ctx, &parent)
		if err := ctx.Err(); err != nil {
			return err
		}
		r.count(parent)
		if parent.Err != nil {
			return fmt.Errorf("%w: %w", ErrLineage, parent.Err)
		}
	}
	for _, p := range pins {
		r.whole[p] = true
	}
	return nil
}

// parent finds what p means: in the home, or else the version to bring, whose Key is
// set. next is what that begins with.
func (r *restorer) parent(ctx context.Context, p Pin) (out Restored, next Pin, refers bool, err error) {
	id, err := uuid.Parse(p.Rollout)
	if err != nil {
		return out, next, false, fmt.Errorf("%w: rollout %.50q", ErrLineage, p.Rollout)
	}
	var source store.Source = r.Home
	var at string
	for _, file := range r.copies(id) {
		_, begins, err := beginsWith(ctx, r.Home, file, p)
		if err != nil {
			return out, next, false, err
		}
		if begins {
			at = file
			break
		}
	}
	if at == "" {
		e, err := r.lineage.version(ctx, p)
		if err != nil {
			return out, next, false, err
		}
		source, at = r.Mirror, e.Name
		out.Key = e.Name
		if r.brought[id] == e.Name { // it came in a dry run
			out.Key = ""
		}
	}
	if out.Name, err = codec.ParseName(path.Base(keyOf(at))); err != nil {
		return out, next, false, err
	}
	f, err := source.Open(ctx, at)
	if err != nil {
		return out, next, false, err
	}
	defer f.Close()
	next, refers, err = r.lineage.pin(ctx, out.Name, f)
	if errors.Is(err, errNoMeta) {
		err = nil
	}
	return out, next, refers, err
}

// copies returns the paths at which the home has a rollout, the live ones first:
// these are what Codex reads.
func (r *restorer) copies(id uuid.UUID) []string {
	archived := func(p string) int {
		if strings.HasPrefix(p, archivedDir+"/") {
			return 1
		}
		return 0
	}
	slices.SortFunc(r.here[id], func(a, b string) int { return cmp.Or(archived(a)-archived(b), strings.Compare(a, b)) })
	return r.here[id]
}

func (r *restorer) bringKey(ctx context.Context, out *Restored) error {
	f, err := r.Mirror.Open(ctx, out.Key)
	if err != nil {
		return err
	}
	defer f.Close()
	return r.bring(ctx, out, f)
}

// bring makes the home have the version in f, which what it begins with precedes.
func (r *restorer) bring(ctx context.Context, out *Restored, f store.File) error {
	trailer, err := r.trailer(ctx, out.Key, f)
	if err != nil {
		return err
	}
	out.Size, out.SHA256 = trailer.Size, fmt.Sprintf("%x", trailer.SHA256)
	fact, err := r.facts.Best(ctx, out.Name, r.Origin, out.SHA256)
	if err != nil {
		return err
	}
	body := store.FileBody(ctx, f, trailer.Size, trailer.SHA256)
	body.ModTime = trailer.ModTime
	if fact.SHA256 == out.SHA256 && !fact.ModTime.IsZero() {
		body.ModTime = fact.ModTime
	}
	if out.Action, out.Path, err = r.judge(ctx, out, f, body); err != nil {
		return err
	}
	if out.Action == Created {
		if out.Path = cmp.Or(fact.Path, keyOf(out.Key)); !pathAllowed(out.Path, out.Name) {
			return fmt.Errorf("%s: %w: Codex keeps no rollout there", out.Path, store.ErrInvalidName)
		}
		if err := r.put(ctx, out, body, store.Cond{IfAbsent: true}); err != nil {
			return err
		}
	}
	r.brought[out.Name.Rollout] = out.Key
	// A session that was reverted has several rollouts, not all told at the same time.
	if id := out.Name.Session.String(); fact.Name != "" && !fact.NameTime.Before(r.names[id].UpdatedAt) {
		r.names[id] = codec.ThreadName{ID: id, Name: fact.Name, UpdatedAt: fact.NameTime}
	}
	if out.Action == Longer {
		return nil
	}
	return r.remember(out, f)
}

// trailer returns what the object itself says of its bytes, which its metadata
// must not contradict.
func (r *restorer) trailer(ctx context.Context, key string, f store.File) (codec.Trailer, error) {
	v := verifier{Verifying: Verifying{Mirror: r.Mirror}}
	trailer, err := v.trailer(ctx, key)
	if err == nil {
		err = agree(key, f.Info(), trailer)
	}
	return trailer, err
}

// judge compares the home with the version in f, and replaces what that continues.
func (r *restorer) judge(ctx context.Context, out *Restored, f store.File, body store.Body) (Action, string, error) {
	differs := ""
	if r.DryRun && r.brought[out.Name.Rollout] != "" {
		differs = out.Key // another version would be there by now
	}
	for _, file := range r.copies(out.Name.Rollout) {
		action, version, err := r.compare(ctx, file, f, body)
		switch {
		case errors.Is(err, fs.ErrNotExist): // vanished
		case err != nil:
			return "", file, err
		case action == "":
			differs = cmp.Or(differs, file)
		case action != Extended:
			return action, file, nil
		case differs == "":
			out.Path = file
			return action, file, r.put(ctx, out, body, store.Cond{IfVersion: version})
		}
	}
	if differs != "" {
		return "", differs, fmt.Errorf("%s: %w", differs, ErrDiffers)
	}
	return Created, "", nil
}

// compare says what the version in f is to the file of the home: Present, Longer, or
// Extended if it continues it; "" if it differs.
func (r *restorer) compare(ctx context.Context, file string, f store.File, body store.Body) (Action, string, error) {
	here, err := r.Home.Open(ctx, file)
	if errors.Is(err, store.ErrCorrupt) {
		return "", "", fmt.Errorf("%s: %w: it is damaged", file, ErrDiffers)
	}
	if err != nil {
		return "", "", err
	}
	defer here.Close()
	local := &source{f: here}
	if err := local.read(ctx, body.Size); err != nil {
		return "", "", err
	}
	switch size := local.version.Size; {
	case local.version.SHA256 == body.SHA256:
		return Present, "", nil
	case size > body.Size && local.prefix == fmt.Sprintf("%x", body.SHA256):
		return Longer, "", nil
	case size < body.Size:
		begins, err := hashPrefix(ctx, f, size)
		if err != nil {
			return "", "", err
		}
		if begins == local.version.hash() {
			return Extended, here.Info().Version, nil
		}
	}
	return "", "", nil
}

// put writes a file of the home, whose lock the store takes for it.
func (r *restorer) put(ctx context.Context, out *Restored, body store.Body, c store.Cond) error {
	if r.DryRun {
		return nil
	}
	_, err := r.Home.Put(ctx, out.Path, body, c)
	if err == nil && c.IfAbsent {
		r.here[out.Name.Rollout] = append(r.here[out.Name.Rollout], out.Path)
	}
	if !errors.Is(err, store.ErrChanged) {
		return err
	}
	// Which of the two changed, the file or the object? The latter is damage.
	v := verifier{Verifying: Verifying{Mirror: r.Mirror, Deep: true}}
	if _, e := v.trailer(ctx, out.Key); e != nil {
		return e
	}
	if here, e := r.Home.Open(ctx, out.Path); e == nil {
		return errors.Join(err, here.Close())
	} else if c.IfAbsent && errors.Is(e, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w: what is there is no regular file", out.Path, ErrDiffers)
	}
	return err
}

// remember keeps what the object is, which the home has now, where a Push looks for
// the base: the current version, or the home's own diverged one.
func (r *restorer) remember(out *Restored, f store.File) error {
	current := keyOf(out.Key)
	if r.State == nil || r.DryRun || out.Key != current && out.Key != divergedKey(current, r.Origin) {
		return nil
	}
	o := object{Version: f.Info().Version, Size: out.Size, SHA256: out.SHA256}
	c := change{}
	if err := set(c, objects, out.Key, objectState{object: o, Equal: true}); err != nil {
		return err
	}
	return r.State.write(c)
}

// giveNames appends to the home's names those of sessions that have none there.
func (r *restorer) giveNames(ctx context.Context) error {
	if len(r.names) == 0 {
		return nil
	}
	if r.DryRun {
		content, err := readAll(ctx, r.Home, namesFile)
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		_, err = r.newNames(content, err)
		return err
	}
	l, err := r.Home.Append(ctx, namesFile)
	if errors.Is(err, fs.ErrNotExist) {
		l, err = r.Home.Create(ctx, namesFile)
	}
	if err != nil {
		return err
	}
	return errors.Join(r.appendNames(ctx, l), l.Close())
}

func (r *restorer) appendNames(ctx context.Context, l store.Log) error {
	// Read under the lock, so that nobody names a session in between.
	lines, err := r.newNames(readAll(ctx, r.Home, namesFile))
	if err != nil || r.result.Names == 0 {
		return err
	}
	if err := l.Append(lines); err != nil {
		return err
	}
	return l.Seal(ctx)
}

// newNames returns the lines to append to the content of namesFile, and counts them.
func (r *restorer) newNames(content []byte, err error) (lines []byte, _ error) {
	if err != nil {
		return nil, err
	}
	if len(content) > 0 && content[len(content)-1] != '\n' {
		lines = append(lines, '\n')
	}
	for _, id := range slices.Sorted(maps.Keys(r.names)) {
		// A name that was cleared is one too: the session has been here.
		if bytes.Contains(content, []byte(id)) {
			continue
		}
		if lines, err = codec.AppendThreadName(lines, r.names[id]); err != nil {
			return nil, err
		}
		r.result.Names++
	}
	return lines, nil
}
