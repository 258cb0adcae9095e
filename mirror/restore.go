package mirror

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
)

// Home is what a Restore or a Sink writes to.
type Home interface {
	store.Source
	store.Sink
	store.Putter
}

// Restoring says what a Restore brings back, and where to.
type Restoring struct {
	Home   Home
	Mirror store.Source
	// Origin is the id under which the home pushes: its own facts come first. ""
	// believes all origins alike.
	Origin string
	// Want picks the rollouts; nil is all of them.
	Want func(codec.Name) bool
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
	Size   int64 // plain bytes of the mirror's version
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

// Restore brings current versions back to the paths they had, with their times
// and the names of their sessions. A file of the home is replaced only by one
// that begins with all its bytes; and a name only given where there is none.
// Files appear whole, durable and dated, or not at all. One rollout that fails
// does not keep it from the others; the error is of what kept it from going on.
func Restore(ctx context.Context, o Restoring) (Restoration, error) {
	r := &restorer{
		Restoring: o,
		facts:     NewFacts(o.Mirror),
		names:     map[string]codec.ThreadName{},
		result:    Restoration{Actions: map[Action]int{}},
	}
	err := r.run(ctx)
	return r.result, err
}

type restorer struct {
	Restoring
	facts  *Facts
	here   map[string][]string         // paths in the home by file name
	names  map[string]codec.ThreadName // of the sessions that were brought back
	result Restoration
}

func (r *restorer) run(ctx context.Context) error {
	if err := Check(ctx, r.Mirror); err != nil {
		return err
	}
	r.here = map[string][]string{}
	for f, err := range rollouts(ctx, r.Home, sessionsDir, archivedDir) {
		if err != nil {
			return err
		}
		r.here[f.Name.String()] = append(r.here[f.Name.String()], f.Path)
	}
	for f, err := range currents(ctx, r.Mirror) {
		if err != nil {
			return err
		}
		if r.Want != nil && !r.Want(f.Name) {
			continue
		}
		out := Restored{Key: f.Path, Name: f.Name}
		out.Err = r.one(ctx, &out)
		if err := ctx.Err(); err != nil {
			return err
		}
		r.count(out)
	}
	return r.giveNames(ctx)
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

func (r *restorer) one(ctx context.Context, out *Restored) error {
	f, err := r.Mirror.Open(ctx, out.Key)
	if err != nil {
		return err
	}
	defer f.Close()
	trailer, err := r.trailer(ctx, out.Key, f)
	if err != nil {
		return err
	}
	out.Size = trailer.Size
	hash := fmt.Sprintf("%x", trailer.SHA256)
	fact, err := r.facts.Best(ctx, out.Name, r.Origin, hash)
	if err != nil {
		return err
	}
	body := store.FileBody(ctx, f, trailer.Size, trailer.SHA256)
	body.ModTime = trailer.ModTime
	if fact.SHA256 == hash && !fact.ModTime.IsZero() {
		body.ModTime = fact.ModTime
	}
	out.Path = cmp.Or(fact.Path, out.Key)
	if here := r.here[out.Name.String()]; len(here) > 0 {
		out.Path = here[0]
	}
	if !pathAllowed(out.Path, out.Name) {
		return fmt.Errorf("%s: %w: Codex keeps no rollout there", out.Path, store.ErrInvalidName)
	}
	if err := r.bring(ctx, out, f, body); err != nil {
		return err
	}
	if fact.Name != "" {
		r.names[out.Name.Session.String()] = codec.ThreadName{ID: out.Name.Session.String(), Name: fact.Name, UpdatedAt: fact.NameTime}
	}
	return nil
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

func (r *restorer) bring(ctx context.Context, out *Restored, f store.File, body store.Body) error {
	here, err := r.Home.Open(ctx, out.Path)
	if errors.Is(err, fs.ErrNotExist) {
		out.Action = Created
		return r.put(ctx, out, body, store.Cond{IfAbsent: true})
	}
	if err != nil {
		return err
	}
	defer here.Close()
	local := &source{f: here}
	if err := local.read(ctx, body.Size); err != nil {
		return err
	}
	switch size := local.version.Size; {
	case local.version.SHA256 == body.SHA256:
		out.Action = Present
		return nil
	case size > body.Size && local.prefix == fmt.Sprintf("%x", body.SHA256):
		out.Action = Longer
		return nil
	case size < body.Size:
		remote := &source{f: f}
		if err := remote.read(ctx, size); err != nil {
			return err
		}
		if remote.prefix == local.version.hash() {
			out.Action = Extended
			return r.put(ctx, out, body, store.Cond{IfVersion: here.Info().Version})
		}
	}
	return fmt.Errorf("%s: %w", out.Path, ErrDiffers)
}

func (r *restorer) put(ctx context.Context, out *Restored, body store.Body, c store.Cond) error {
	_, err := r.Home.Put(ctx, out.Path, body, c)
	if errors.Is(err, store.ErrChanged) {
		// Which of the two changed, the file or the object? The latter is damage.
		v := verifier{Verifying: Verifying{Mirror: r.Mirror, Deep: true}}
		if _, e := v.trailer(ctx, out.Key); e != nil {
			return e
		}
	}
	return err
}

// giveNames appends to the home's names those of sessions that have none there.
func (r *restorer) giveNames(ctx context.Context) error {
	if len(r.names) == 0 {
		return nil
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
	content, err := readAll(ctx, r.Home, namesFile)
	if err != nil {
		return err
	}
	var lines []byte
	if len(content) > 0 && content[len(content)-1] != '\n' {
		lines = append(lines, '\n')
	}
	for _, id := range slices.Sorted(maps.Keys(r.names)) {
		// A name that was cleared is one too: the session has been here.
		if bytes.Contains(content, []byte(id)) {
			continue
		}
		if lines, err = codec.AppendThreadName(lines, r.names[id]); err != nil {
			return err
		}
		r.result.Names++
	}
	if r.result.Names == 0 {
		return nil
	}
	if err := l.Append(lines); err != nil {
		return err
	}
	return l.Seal(ctx)
}
