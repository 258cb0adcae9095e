package mirror

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/store"
)

// Pushing says what a Push works on. All fields are required, but for those that
// have a default.
type Pushing struct {
	Home   store.Source
	Mirror Store
	State  *State
	// Origin is the id of the home on this machine, the same at each push: an
	// element of a name. Two homes with one origin overwrite each other's facts
	// and supersede each other's diverged versions.
	Origin string
	// Idle is how long ago a rollout must have changed to be pushed. 0 pushes
	// what may still grow; the next push brings the rest.
	Idle time.Duration
	// Now is the clock; nil is time.Now.
	Now func() time.Time
	// Each, if set, is called with each outcome as it is known, from one
	// goroutine.
	Each func(Outcome)
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
	Unchanged  Action = "unchanged"  // as it was when it was last pushed: not looked at
	Waiting    Action = "waiting"    // changed too short a time ago, or while it was read
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
	// Vanished are the paths of rollouts that were pushed before and are in the
	// home no more. The mirror keeps them. Each is reported once.
	Vanished []string
}

// ErrVanished means that not one of the rollouts that a home had is there any
// more, which is a disk that was not mounted rather than somebody's wish.
var ErrVanished = errors.New("all rollouts that were pushed from here have vanished")

// Push brings what is new in a home to a mirror, oldest first: every rollout that
// is not as it was at the last push and has been idle long enough. It returns an
// error, with what it did so far, when it could not go on; a rollout that could
// not be pushed is in the report and keeps no other back.
//
// A push that is interrupted at any point has lost nothing: each rollout is in
// the mirror whole or as it was before, and the state says at most what is true.
func Push(ctx context.Context, o Pushing) (Report, error) {
	p, err := newPusher(o)
	if err == nil {
		err = p.run(ctx)
	}
	return p.report, err
}

func newPusher(o Pushing) (*pusher, error) {
	p := &pusher{Pushing: o, report: Report{Actions: map[Action]int{}}, states: map[string]fileState{}}
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
	names    map[string]codec.ThreadName
	prepared bool
	report   Report

	// What is in the mirror but not told among its facts yet, all of one month.
	// The state calls a file unchanged only after its facts are told.
	month  string
	facts  []Fact
	states map[string]fileState
}

func (p *pusher) run(ctx context.Context) error {
	var err error
	if p.names, err = listing.ThreadNames(ctx, p.Home); err != nil {
		return err
	}
	todo, err := p.changed(ctx)
	if err != nil {
		return err
	}
	// Files of one name are one rollout, of which one is the first: its versions
	// may be current, the others' stand beside them. It is the one that was it
	// before, else the longest, else the one that is not archived.
	slices.SortFunc(todo, func(a, b candidate) int {
		return cmp.Or(a.oldest.Compare(b.oldest), cmp.Compare(a.key, b.key), cmp.Compare(a.rank, b.rank),
			cmp.Compare(b.Info.Stored, a.Info.Stored), cmp.Compare(b.Path, a.Path))
	})
	for i, c := range todo {
		c.second = i > 0 && todo[i-1].key == c.key
		idle, err := p.idle(c)
		if err != nil {
			return errors.Join(err, p.tellAtLast(ctx))
		}
		if !idle {
			p.count(Outcome{Path: c.Path, Key: c.key, Action: Waiting, Size: max(c.Info.Size, 0)})
			continue
		}
		if !p.prepared { // not sooner: nothing to do makes no request
			if err := prepare(ctx, p.Mirror); err != nil {
				return err
			}
			p.prepared = true
		}
		out := p.one(ctx, c)
		if err := ctx.Err(); err != nil {
			return errors.Join(err, p.tellAtLast(ctx))
		}
		p.count(out)
	}
	return p.tell(ctx)
}

// onlyOne pushes the rollout at file, and nothing else.
func (p *pusher) onlyOne(ctx context.Context, file string) (Outcome, error) {
	out := Outcome{Path: file}
	n, err := codec.ParseName(path.Base(file))
	if err != nil {
		return out, err
	}
	if p.names, err = listing.ThreadNames(ctx, p.Home); err != nil {
		return out, err
	}
	if err := prepare(ctx, p.Mirror); err != nil {
		return out, err
	}
	f, err := p.Home.Open(ctx, file)
	if err != nil {
		return out, err
	}
	c := candidate{found: found{file, n, f.Info()}, key: Key(n, file)}
	if err := f.Close(); err != nil {
		return out, err
	}
	out = p.one(ctx, c)
	return out, p.tell(ctx)
}

// tellAtLast tells what there is to tell after ctx has ended.
func (p *pusher) tellAtLast(ctx context.Context) error {
	const patience = 20 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	return p.tell(ctx)
}

func (p *pusher) count(out Outcome) {
	p.report.Actions[out.Action]++
	switch out.Action {
	case Uploaded, Extended, Rewritten, Diverged:
		p.report.Bytes += out.Size
	case Failed:
		p.report.Failures = append(p.report.Failures, out)
	}
	if out.Foreign != "" {
		p.report.Foreign = append(p.report.Foreign, out.Foreign)
	}
	if p.Each != nil {
		p.Each(out)
	}
}

// candidate is a file that may have something new.
type candidate struct {
	found
	key    string
	oldest time.Time // of all files with this key
	rank   int       // 0 for one that was the first of them before, else 1
	second bool      // another file with this key was dealt with before
}

// changed walks the home and returns the files that are not as they were, and
// reports those that have vanished. Where two files have one name and one of them
// changed, it returns both: which one is the longer may have changed.
func (p *pusher) changed(ctx context.Context) ([]candidate, error) {
	var (
		todo    []candidate
		clean   []candidate
		isDirty = map[string]bool{} // by key
		seen    = map[string]bool{} // by path
		byName  = map[string]bool{}
	)
	for r, err := range rollouts(ctx, p.Home, sessionsDir, archivedDir) {
		if err != nil {
			return nil, err
		}
		p.report.Rollouts++
		seen[r.Path], byName[path.Base(r.Path)] = true, true
		c := candidate{found: r, key: Key(r.Name, r.Path), oldest: r.Info.ModTime}
		known, ok, err := get[fileState](p.State, files, r.Path)
		if err != nil {
			return nil, err
		}
		if !ok || known.Beside {
			c.rank = 1
		}
		if ok && known.Version == r.Info.Version && known.Name == p.names[r.Name.Session.String()].Name {
			clean = append(clean, c)
			continue
		}
		isDirty[c.key] = true
		todo = append(todo, c)
	}
	if err := p.vanished(seen, byName); err != nil {
		return nil, err
	}
	for _, c := range clean {
		if isDirty[c.key] {
			todo = append(todo, c)
		} else {
			p.report.Actions[Unchanged]++
		}
	}
	oldest := map[string]time.Time{}
	for _, c := range todo {
		if t, ok := oldest[c.key]; !ok || c.oldest.Before(t) {
			oldest[c.key] = c.oldest
		}
	}
	for i := range todo {
		todo[i].oldest = oldest[todo[i].key]
	}
	return todo, nil
}

func (p *pusher) vanished(seen, byName map[string]bool) error {
	var gone []string
	known := 0
	if err := p.State.each(files, func(file string) {
		known++
		if !seen[file] {
			gone = append(gone, file)
		}
	}); err != nil {
		return err
	}
	if known > 0 && len(seen) == 0 {
		return ErrVanished
	}
	for _, file := range gone {
		if !byName[path.Base(file)] { // else it was moved
			p.report.Vanished = append(p.report.Vanished, file)
		}
	}
	return p.State.forgetFiles(gone)
}

// settle is how long after its last change a file may still be changed without
// its times showing it, on the coarsest file system (FAT: 2 s).
const settle = 2 * time.Second

func (p *pusher) one(ctx context.Context, c candidate) Outcome {
	out := Outcome{Path: c.Path, Key: c.key, Size: max(c.Info.Size, 0)}
	f, err := p.Home.Open(ctx, c.Path)
	if err != nil {
		return out.failed(err)
	}
	defer f.Close()
	src := &source{f: f, current: func() bool { return p.at(ctx, c.Path) == f.Info().Version }}
	if err := p.place(ctx, src, slot{key: c.key, second: c.second}, &out); err != nil {
		if errors.Is(err, errSourceChanged) {
			out.Action = Waiting
			return out
		}
		return out.failed(err)
	}
	out.Size = src.version.Size
	if err := p.note(ctx, c, src); err != nil {
		return out.failed(err)
	}
	return out
}

func (o Outcome) failed(err error) Outcome {
	o.Action, o.Err = Failed, err
	return o
}

// idle reports whether c has been left alone long enough. A time in the future
// says nothing, so then it is enough that nothing changed since the last push.
func (p *pusher) idle(c candidate) (bool, error) {
	now := p.Now()
	if !c.Info.ModTime.After(now) {
		return now.Sub(c.Info.ModTime) >= p.Idle, nil
	}
	known, _, err := get[fileState](p.State, files, c.Path)
	if err != nil || p.Idle == 0 || known.Waiting == c.Info.Version {
		return err == nil, err
	}
	known.Waiting = c.Info.Version
	return false, put(p.State, files, map[string]fileState{c.Path: known})
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

// note keeps what there is to tell of c, which is in the mirror now.
func (p *pusher) note(ctx context.Context, c candidate, src *source) error {
	if month := monthOf(c.Name); month != p.month || len(p.facts) >= maxUntold {
		if err := p.tell(ctx); err != nil {
			return err
		}
		p.month = month
	}
	name := p.names[c.Name.Session.String()]
	state := fileState{Name: name.Name, Beside: c.second}
	// What changed a moment ago may change again and look the same.
	i, now := src.f.Info(), p.Now()
	if now.Sub(i.ModTime) >= settle && now.Sub(i.ChangeTime) >= settle && src.current() {
		state.Version = i.Version
	}
	p.states[c.Path] = state
	if !c.second {
		p.facts = append(p.facts, Fact{
			Rollout: c.Name.String(), Path: c.Path, Archived: strings.HasPrefix(c.Path, archivedDir+"/"),
			ModTime: i.ModTime.UTC(), Size: src.version.Size, SHA256: src.version.hash(),
			Name: name.Name, NameTime: name.UpdatedAt,
		})
	}
	return nil
}

// maxUntold bounds how many rollouts a push that is killed leaves to be looked at
// again by the next.
const maxUntold = 500

// tell writes the facts that are due, and then the state that relies on them.
func (p *pusher) tell(ctx context.Context) error {
	if len(p.states) == 0 {
		return nil
	}
	if err := writeFacts(ctx, p.Mirror, p.Origin, p.month, p.facts); err != nil {
		return fmt.Errorf("facts of %s: %w", p.month, err)
	}
	err := put(p.State, files, p.states)
	p.facts, p.states = nil, map[string]fileState{}
	return err
}

// slot is a place in the mirror that holds one version after the other.
type slot struct {
	key    string
	second bool // for a file that is not the one that this home's versions are of
	own    bool // only this home writes there
}

// errSourceChanged means that a file is not what it was when it was opened.
var errSourceChanged = errors.New("changed while it was read")

// place brings the bytes of src into s, or beside it, by the rules of the package.
func (p *pusher) place(ctx context.Context, src *source, s slot, out *Outcome) error {
	// Others push to the same mirror. Each failed condition means that one of
	// them got something done, so this ends.
	const attempts = 5
	base, known, err := get[objectState](p.State, objects, s.key)
	if err != nil {
		return err
	}
	cur := &base
	if !known {
		if cur, err = p.look(ctx, s.key, out); err != nil {
			return err
		}
	}
	for range attempts {
		err = p.try(ctx, src, s, cur, known, base, out)
		if !errors.Is(err, store.ErrChanged) {
			return err
		}
		if !src.current() {
			return errSourceChanged
		}
		var e error
		if cur, e = p.look(ctx, s.key, out); e != nil {
			return e
		}
	}
	return err
}

// look returns what the slot named key holds, nil if nothing. Bytes that are no
// version, which a foreign tool put there or a disk damaged, are kept in the
// history and appear as an object without a hash.
func (p *pusher) look(ctx context.Context, key string, out *Outcome) (*objectState, error) {
	f, err := p.Mirror.Open(ctx, key)
	if err == nil {
		defer f.Close()
		i := f.Info()
		if sum := i.Meta[store.MetaSHA256]; sum != "" && i.Size >= 0 {
			return &objectState{Version: i.Version, Size: i.Size, SHA256: sum}, nil
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, nil
	case err != nil && !errors.Is(err, store.ErrCorrupt):
		return nil, err
	}
	return p.rescue(ctx, key, out)
}

func (p *pusher) rescue(ctx context.Context, key string, out *Outcome) (*objectState, error) {
	f, err := p.Mirror.Open(ctx, strings.TrimSuffix(key, logSuffix)+sealedSuffix)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	raw := &source{f: f}
	if err := raw.read(ctx, 0); err != nil {
		return nil, err
	}
	to := foreignKey(key, raw.version.hash())
	if err := p.copy(ctx, raw, to); err != nil {
		return nil, err
	}
	out.Foreign = to
	return &objectState{Version: f.Info().Version, Size: -1}, nil
}

// copy puts the bytes of src under a name that says their hash.
func (p *pusher) copy(ctx context.Context, src *source, to string) error {
	_, err := p.Mirror.Put(ctx, to, src.body(ctx), store.Cond{IfAbsent: true})
	if !errors.Is(err, store.ErrChanged) {
		return err
	}
	// Either it is there already, or src changed: then nothing is there.
	f, e := p.Mirror.Open(ctx, to)
	if e != nil {
		return err
	}
	return f.Close()
}

// try is one attempt at place. cur is what s holds, as far as known: if it is
// base, from the state, then its last word is not spoken.
func (p *pusher) try(ctx context.Context, src *source, s slot, cur *objectState, known bool, base objectState, out *Outcome) error {
	if cur == nil {
		if err := src.read(ctx, 0); err != nil {
			return err
		}
		return p.put(ctx, src, s, store.Cond{IfAbsent: true}, Uploaded, out)
	}
	ifCur := store.Cond{IfVersion: cur.Version}
	if err := src.read(ctx, max(cur.Size, 0)); err != nil {
		return err
	}
	switch {
	case cur.Size < 0:
		return p.put(ctx, src, s, ifCur, Uploaded, out)
	case src.version.Size == cur.Size && src.version.hash() == cur.SHA256:
		out.Action, out.Key = Equal, s.key
		return p.remember(s.key, *cur)
	case src.version.Size > cur.Size && src.prefix == cur.SHA256:
		return p.put(ctx, src, s, ifCur, Extended, out)
	case known && *cur == base:
		// Somebody may have got further meanwhile: look before going back.
		fresh, err := p.look(ctx, s.key, out)
		if err != nil {
			return err
		}
		if fresh == nil || *fresh != base {
			return p.try(ctx, src, s, fresh, false, base, out)
		}
	}

	f, err := p.Mirror.Open(ctx, s.key)
	if err != nil {
		return err
	}
	defer f.Close()
	if f.Info().Version != cur.Version {
		return store.ErrChanged
	}
	remote := &source{f: f}
	if err := remote.read(ctx, src.version.Size); err != nil {
		return err
	}
	if remote.version.hash() != cur.SHA256 {
		return fmt.Errorf("%s: %w: it does not decode to the bytes it says it has", s.key, store.ErrCorrupt)
	}
	if cur.Size > src.version.Size && remote.prefix == src.version.hash() {
		out.Action, out.Key = Ahead, s.key
		return nil
	}
	if s.own || !s.second && cur.SHA256 == base.SHA256 {
		if err := p.copy(ctx, remote, historyKey(s.key, cur.SHA256)); err != nil {
			return err
		}
		return p.put(ctx, src, s, ifCur, Rewritten, out)
	}
	old, err := p.Mirror.Open(ctx, historyKey(s.key, src.version.hash()))
	if err == nil {
		out.Action, out.Key = Superseded, historyKey(s.key, src.version.hash())
		return old.Close()
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err = p.place(ctx, src, slot{key: divergedKey(s.key, p.Origin), own: true}, out)
	if err == nil && (out.Action == Uploaded || out.Action == Extended || out.Action == Rewritten) {
		out.Action = Diverged
	}
	return err
}

// put writes src into s and remembers it.
func (p *pusher) put(ctx context.Context, src *source, s slot, c store.Cond, a Action, out *Outcome) error {
	v, err := p.Mirror.Put(ctx, s.key, src.body(ctx), c)
	if err != nil {
		return err
	}
	out.Action, out.Key = a, s.key
	return p.remember(s.key, objectState{Version: v, Size: src.version.Size, SHA256: src.version.hash()})
}

// remember keeps what the object at key is, which is what this home has.
func (p *pusher) remember(key string, o objectState) error {
	return put(p.State, objects, map[string]objectState{key: o})
}

// source is an open log and what is known of its plain bytes.
type source struct {
	f       store.File
	current func() bool // whether the file is still what is at its path; only of a home's
	version version     // after read
	prefix  string      // hash of the first prefixAt bytes, "" if there are fewer
	at      int64
	done    bool
}

// read hashes all bytes, and the first at of them.
func (s *source) read(ctx context.Context, at int64) error {
	if s.done && s.at == at {
		return nil
	}
	r, err := s.f.Range(ctx, 0, -1)
	if err != nil {
		return err
	}
	h := &prefixHash{Hash: sha256.New(), at: at}
	if err := copyAll(h, r); err != nil {
		return err
	}
	if h.n == at {
		h.prefix = h.Sum(nil)
	}
	s.version = version{h.n, [32]byte(h.Sum(nil))}
	s.prefix, s.at, s.done = "", at, true
	if h.prefix != nil {
		s.prefix = fmt.Sprintf("%x", h.prefix)
	}
	return nil
}

func (s *source) body(ctx context.Context) store.Body {
	return store.FileBody(ctx, s.f, s.version.Size, s.version.SHA256)
}

// prefixHash is a hash that also keeps its value after the first at bytes.
type prefixHash struct {
	hash.Hash
	n, at  int64
	prefix []byte
}

func (h *prefixHash) Write(p []byte) (int, error) {
	if left := h.at - h.n; left >= 0 && left < int64(len(p)) {
		h.Hash.Write(p[:left])
		h.prefix = h.Sum(nil)
		h.Hash.Write(p[left:])
	} else {
		h.Hash.Write(p)
	}
	h.n += int64(len(p))
	return len(p), nil
}
