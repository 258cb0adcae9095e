package mirror

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
)

// ErrLineage means that what a rollout begins with by reference (a paginated fork
// or revert: the first bytes of another rollout) is not where it is looked for.
// Without it Codex cannot read the rollout.
var ErrLineage = errors.New("what it begins with is missing")

// A Pin is what a rollout begins with by reference: the first Offset plain bytes
// of the rollout with the id Rollout.
type Pin struct {
	Rollout string `json:"rollout"`
	Offset  int64  `json:"offset"`
	// SHA256 is the hash of those bytes, "" where it is not known.
	SHA256 string `json:"sha256,omitempty"`
}

// maxMeta bounds what is read to find a session_meta. Those that Codex 0.169
// writes have some 20 KB; tools that an editor hands it come on top.
const maxMeta = 16 << 20

// maxMetaLines bounds the same in lines. Codex writes it as the first.
const maxMetaLines = 10

// errNoMeta means that the beginning of a rollout does not say what it refers to.
var errNoMeta = errors.New("no session_meta can be read")

// baseOf returns what a rollout begins with by reference; no Rollout in it means
// nothing. It reads up to the session_meta, at most maxMeta and maxMetaLines. If
// there is none
// it is errNoMeta: the rollout may refer to anything.
func baseOf(ctx context.Context, f store.File) (codec.Base, error) {
	r, err := f.Range(ctx, 0, maxMeta)
	if err != nil {
		return codec.Base{}, err
	}
	n := 0
	head, err := codec.ReadHeadWhile(r, func(_ codec.Record, h *codec.Head) bool {
		n++
		return !h.HasMeta && n < maxMetaLines
	})
	if err = errors.Join(err, r.Close()); err != nil {
		return codec.Base{}, err
	}
	return baseIn(head)
}

// baseIn is baseOf of a head.
func baseIn(head codec.Head) (codec.Base, error) {
	switch {
	case !head.HasMeta:
		return codec.Base{}, errNoMeta
	case head.Base.Rollout != "" && head.Base.Offset < 0:
		return codec.Base{}, fmt.Errorf("%w: it begins with %d bytes of another rollout", errNoMeta, head.Base.Offset)
	}
	return head.Base, nil
}

// pinOf returns the Pin of b as its parent, which f is a version of, has it. A
// version that is too short is ErrLineage.
func pinOf(ctx context.Context, f store.File, b codec.Base) (Pin, error) {
	sum, err := hashPrefix(ctx, f, b.Offset)
	return Pin{b.Rollout, b.Offset, sum}, err
}

// hashPrefix returns the hash of the first n plain bytes of f, ErrLineage if there
// are fewer.
func hashPrefix(ctx context.Context, f store.File, n int64) (string, error) {
	r, err := f.Range(ctx, 0, n)
	if err != nil {
		return "", err
	}
	h := sha256.New()
	read, err := io.Copy(h, r)
	if err := errors.Join(err, r.Close()); err != nil {
		return "", err
	}
	if read < n {
		return "", fmt.Errorf("%w: %d bytes of it are needed and there are %d", ErrLineage, n, read)
	}
	return fmt.Sprintf("%x", h.Sum(nil)), nil
}

// versions yields every version that the mirror has of a rollout: the current one
// first, then those of homes that diverged, then what rewrites superseded in
// either. It costs one request for the current one and a listing for each
// directory with others.
func versions(ctx context.Context, m store.Source, key string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		f, err := m.Open(ctx, key)
		switch {
		case err == nil:
			if !yield(store.Entry{Name: key, Info: f.Info()}, f.Close()) {
				return
			}
		case errors.Is(err, store.ErrCorrupt): // there is one; who opens it gets the error
			if !yield(store.Entry{Name: key, Info: store.Info{Size: -1}}, nil) {
				return
			}
		case !errors.Is(err, fs.ErrNotExist):
			yield(store.Entry{}, err)
			return
		}
		stem := strings.TrimSuffix(key, logSuffix)
		for e, err := range walk(ctx, m, store.ListOptions{Unordered: true}, path.Join(historyDir, divergedDir, stem), path.Join(historyDir, stem), path.Join(divergedDir, stem)) {
			if err == nil && !strings.HasSuffix(e.Name, logSuffix) {
				continue // foreign bytes are no version
			}
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// keyOf returns the key of the rollout of which the object at name is a version.
func keyOf(name string) string {
	if below, ok := strings.CutPrefix(name, historyDir+"/"); ok {
		name = path.Dir(below) + logSuffix
	}
	if below, ok := strings.CutPrefix(name, divergedDir+"/"); ok {
		name = path.Dir(below) + logSuffix
	}
	return name
}

// A Version is one of those that the mirror has of a rollout.
type Version struct {
	Key    string
	Size   int64     // plain bytes
	SHA256 string    // plain hash
	Stored time.Time // when it came to the mirror; zero where the store does not say
}

// Kind says in a word what kind of version it is.
func (v Version) Kind() string {
	switch {
	case strings.HasPrefix(v.Key, historyDir+"/"):
		return "superseded"
	case strings.HasPrefix(v.Key, divergedDir+"/"):
		return "diverged"
	}
	return "current"
}

// Versions yields the versions that the mirror has of a rollout, each once: the
// current one first, then those of homes that diverged, then what rewrites
// superseded. Damaged ones are left out. Each costs one request, beside the
// listings. A rollout that is not in the mirror has none.
func Versions(ctx context.Context, m store.Source, n codec.Name) iter.Seq2[Version, error] {
	return func(yield func(Version, error) bool) {
		key := Key(n, "")
		if key == "" { // it has no date
			var err error
			if key, err = newLineage(m, nil).find(ctx, n.Rollout.String()); errors.Is(err, fs.ErrNotExist) {
				return
			} else if err != nil {
				yield(Version{}, err)
				return
			}
		}
		versionsOf(ctx, m, key)(yield)
	}
}

func versionsOf(ctx context.Context, m store.Source, key string) iter.Seq2[Version, error] {
	return func(yield func(Version, error) bool) {
		for e, err := range versions(ctx, m, key) {
			if err != nil {
				yield(Version{}, err)
				return
			}
			info, _, err := beginsWith(ctx, m, e.Name, Pin{})
			if err != nil {
				yield(Version{}, err)
				return
			}
			sum := info.Meta[store.MetaSHA256]
			if sum != "" && !yield(Version{e.Name, info.Size, sum, info.ChangeTime}, nil) {
				return
			}
		}
	}
}

// lineage finds what the rollouts of a mirror begin with. Its methods may be
// called concurrently.
type lineage struct {
	m     store.Source
	facts *Facts

	mu   sync.Mutex
	keys map[string]string // by rollout id; "" if the mirror has none
	odd  map[string]string // the rollouts that do not lie where their id leads; nil if not known
}

func newLineage(m store.Source, facts *Facts) *lineage {
	return &lineage{m: m, facts: facts, keys: map[string]string{}}
}

// find returns the key of the rollout with this id, fs.ErrNotExist if the mirror
// has none. The time in a UUIDv7 leads to at most three days, each one listing.
// Only for an id that is not there all names are listed, once for all such ids.
func (l *lineage) find(ctx context.Context, rollout string) (string, error) {
	id, err := uuid.Parse(rollout)
	if err != nil {
		return "", fmt.Errorf("rollout %.50q: %w", rollout, fs.ErrNotExist)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	key, ok := l.keys[id.String()]
	if !ok {
		if key, err = l.look(ctx, id); err != nil {
			return "", err
		}
		l.keys[id.String()] = key
	}
	if key == "" {
		return "", fmt.Errorf("rollout %s: %w", id, fs.ErrNotExist)
	}
	return key, nil
}

func (l *lineage) look(ctx context.Context, id uuid.UUID) (string, error) {
	for _, dir := range days(codec.Name{Session: id, Rollout: id}) {
		for e, err := range l.m.List(ctx, dir, store.ListOptions{Unordered: true, NamesOnly: true}) {
			if errors.Is(err, fs.ErrNotExist) {
				break
			}
			if err != nil {
				return "", err
			}
			n, err := codec.ParseName(path.Base(e.Name))
			if err == nil && !e.Dir && n.Rollout == id && Key(n, e.Name) == e.Name {
				return e.Name, nil
			}
		}
	}
	if l.odd == nil {
		odd := map[string]string{}
		for r, err := range currents(ctx, l.m) {
			if err != nil {
				return "", err
			}
			if !slices.Contains(days(r.Name), path.Dir(r.Path)) {
				odd[r.Name.Rollout.String()] = r.Path
			}
		}
		l.odd = odd
	}
	return l.odd[id.String()], nil
}

// days returns the directories in which a rollout may lie by the time in its id: a
// directory's date is that of a wall clock somewhere on earth.
func days(n codec.Name) (dirs []string) {
	t, ok := n.Time()
	if !ok {
		return nil
	}
	for _, d := range []time.Duration{0, -14 * time.Hour, 14 * time.Hour} {
		if dir := path.Join(sessionsDir, t.Add(d).Format("2006/01/02")); !slices.Contains(dirs, dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// pin returns what the version in f of the rollout n begins with, and whether
// there is something. The hash is what an origin has told of this version, else of
// another one that begins with the same; errNoMeta is as for baseOf.
func (l *lineage) pin(ctx context.Context, n codec.Name, f store.File) (p Pin, ok bool, err error) {
	b, err := baseOf(ctx, f)
	if err != nil || b.Rollout == "" {
		return Pin{}, false, err
	}
	told, err := l.facts.Of(ctx, n)
	if err != nil {
		return Pin{}, false, err
	}
	p = Pin{Rollout: b.Rollout, Offset: b.Offset}
	for _, origin := range slices.Sorted(maps.Keys(told)) {
		fact := told[origin]
		if fact.Base == nil || fact.Base.SHA256 == "" || fact.Base.Rollout != p.Rollout || fact.Base.Offset != p.Offset {
			continue
		}
		if p.SHA256 = fact.Base.SHA256; fact.SHA256 == f.Info().Meta[store.MetaSHA256] {
			break
		}
	}
	return p, true, nil
}

// version returns the version that p means: the current one if it begins with the
// pinned bytes, else another that does. Without a hash the length has to do. If
// there is none it is ErrLineage.
//
// The current one costs one request, and reading its first p.Offset bytes; each
// other version the same, if it is long enough.
func (l *lineage) version(ctx context.Context, p Pin) (store.Entry, error) {
	key, err := l.find(ctx, p.Rollout)
	if errors.Is(err, fs.ErrNotExist) {
		return store.Entry{}, fmt.Errorf("%w: rollout %.50q is not in the mirror", ErrLineage, p.Rollout)
	}
	if err != nil {
		return store.Entry{}, err
	}
	for e, err := range versions(ctx, l.m, key) {
		if err != nil {
			return store.Entry{}, err
		}
		info, begins, err := beginsWith(ctx, l.m, e.Name, p)
		if err != nil {
			return store.Entry{}, err
		}
		if begins {
			e.Info = info
			return e, nil
		}
	}
	return store.Entry{}, fmt.Errorf("%w: the mirror has no version of %s with the %d bytes that it refers to", ErrLineage, key, p.Offset)
}

// beginsWith reports whether the version at name has the pinned bytes. One that is
// damaged, or gone by now, has not.
func beginsWith(ctx context.Context, m store.Source, name string, p Pin) (store.Info, bool, error) {
	f, err := m.Open(ctx, name)
	if err == nil {
		defer f.Close()
		info, sum := f.Info(), ""
		switch said := info.Meta[store.MetaSHA256]; {
		case info.Size >= 0 && info.Size < p.Offset:
			return info, false, nil
		case p.SHA256 == "" && info.Size >= 0:
			return info, true, nil
		case info.Size == p.Offset && said != "":
			sum = said
		default:
			sum, err = hashPrefix(ctx, f, p.Offset)
		}
		if err == nil {
			return info, p.SHA256 == "" || sum == p.SHA256, nil
		}
	}
	for _, no := range []error{fs.ErrNotExist, store.ErrCorrupt, ErrLineage} {
		if errors.Is(err, no) {
			return store.Info{}, false, nil
		}
	}
	return store.Info{}, false, err
}
