package mirror

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
)

// Fact is what an origin knows of a rollout beside its bytes.
type Fact struct {
	Rollout  string    `json:"rollout"` // the file's name
	Path     string    `json:"path"`    // in the home
	Archived bool      `json:"archived"`
	ModTime  time.Time `json:"mtime"`
	Size     int64     `json:"size"`   // plain bytes of the version
	SHA256   string    `json:"sha256"` // plain hash of the version
	// Object is the Info.Version of the current version's object, if it has just
	// these bytes. A home that has lost its state finds the rest here.
	Object string `json:"object,omitempty"`
	// Wrote tells that this origin made an object of the version. Another may just have
	// the same bytes, as after a restore.
	Wrote   bool   `json:"wrote,omitempty"`
	Machine string `json:"machine,omitempty"` // as in Pushing
	// Base is what the rollout begins with by reference; nil if it does not.
	Base *Pin `json:"base,omitempty"`
	// Name is the session's name, "" if it has none; NameTime is when it got it.
	Name     string    `json:"name,omitempty"`
	NameTime time.Time `json:"name_time,omitzero"`
}

func (f Fact) equal(g Fact) bool {
	return f.Rollout == g.Rollout && f.Path == g.Path && f.Archived == g.Archived && f.ModTime.Equal(g.ModTime) &&
		f.Size == g.Size && f.SHA256 == g.SHA256 && f.Object == g.Object && f.Wrote == g.Wrote && f.Machine == g.Machine && f.Name == g.Name && f.NameTime.Equal(g.NameTime) &&
		(f.Base == g.Base || f.Base != nil && g.Base != nil && *f.Base == *g.Base)
}

// undated is the month of rollouts that have no date.
const undated = "undated"

func monthOf(n codec.Name) string {
	if year, month, _, ok := n.Date(); ok {
		return year + "-" + month
	}
	if t, ok := n.Time(); ok {
		return t.Format("2006-01")
	}
	return undated
}

func factsKey(origin, month string) string {
	return path.Join(originsDir, origin, month+logSuffix)
}

// readFacts returns a month's facts by file name. Lines that cannot be read are
// left out: they are told again by the next push of their rollout.
func readFacts(ctx context.Context, f store.File) (map[string]Fact, error) {
	content, err := readFile(ctx, f)
	if err != nil {
		return nil, err
	}
	facts := map[string]Fact{}
	for line := range bytes.Lines(content) {
		var f Fact
		if json.Unmarshal(line, &f) == nil && f.Rollout != "" {
			facts[f.Rollout] = f
		}
	}
	return facts, nil
}

// A ledger is the facts of the one origin that writes them. It keeps the months
// that were used last, so that who looks a fact up and then changes it reads the
// month once.
type ledger struct {
	m      Store
	origin string
	months map[string]*month
	kept   []string // the one that was used last at the end
}

type month struct {
	facts map[string]Fact
	cond  store.Cond // under which it may be replaced
}

func newLedger(m Store, origin string) *ledger {
	return &ledger{m: m, origin: origin, months: map[string]*month{}}
}

// read returns a month.
func (l *ledger) read(ctx context.Context, name string) (*month, error) {
	if m := l.months[name]; m != nil {
		return m, nil
	}
	m := &month{facts: map[string]Fact{}, cond: store.Cond{IfAbsent: true}}
	f, err := l.m.Open(ctx, factsKey(l.origin, name))
	switch {
	case err == nil:
		m.cond = store.Cond{IfVersion: f.Info().Version}
		m.facts, err = readFacts(ctx, f)
		if err := errors.Join(err, f.Close()); err != nil {
			return nil, err
		}
	case !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	if len(l.kept) == maxMonths {
		delete(l.months, l.kept[0])
		l.kept = l.kept[1:]
	}
	l.months[name], l.kept = m, append(l.kept, name)
	return m, nil
}

// forget makes the next read of a month a request.
func (l *ledger) forget(name string) {
	delete(l.months, name)
	l.kept = slices.DeleteFunc(l.kept, func(n string) bool { return n == name })
}

// tell adds facts, which belong to one month, to those that the origin has told
// before. Nobody else writes them, unless two machines share an origin or two
// pushes of a program overlap; then the later one tries again.
func (l *ledger) tell(ctx context.Context, name string, news []Fact) error {
	const attempts = 5
	var err error
	for range attempts {
		var m *month
		if m, err = l.read(ctx, name); err != nil {
			return err
		}
		changed := false
		for _, n := range news {
			old, ok := m.facts[n.Rollout]
			n.Wrote = n.Wrote || ok && old.Wrote && old.SHA256 == n.SHA256
			if !ok || !old.equal(n) {
				m.facts[n.Rollout] = n
				changed = true
			}
		}
		if !changed {
			return nil
		}
		var b bytes.Buffer
		enc := json.NewEncoder(&b)
		enc.SetEscapeHTML(false)
		for _, rollout := range slices.Sorted(maps.Keys(m.facts)) {
			if err := enc.Encode(m.facts[rollout]); err != nil {
				return err
			}
		}
		var version string
		version, err = l.m.Put(ctx, factsKey(l.origin, name), store.BytesBody(b.Bytes(), time.Time{}), m.cond)
		if err == nil && version != "" {
			m.cond = store.Cond{IfVersion: version}
			return nil
		}
		l.forget(name)
		if !errors.Is(err, store.ErrChanged) {
			return err
		}
	}
	return err
}

// Facts reads the facts of all origins, a month at a time as they are asked for, and
// keeps those of the last months: who goes from one to the next, as a listing does,
// reads each once. It is safe for concurrent use.
type Facts struct {
	m store.Source

	mu      sync.Mutex
	origins []string
	listed  bool
	months  map[string]*told
	kept    []string // months, the one that was read last at the end
}

// told is what all origins have told of a month, as they wrote it: there may be a
// hundred thousand facts, of which few are asked for.
type told struct {
	lines map[uuid.UUID][]toldLine // by rollout
	bytes int
}

type toldLine struct {
	origin string
	line   []byte
}

// At most so many months are kept, and so many bytes of them, but two at least: days
// at the end of a month are listed together with those of the next.
const (
	maxMonths = 4
	maxTold   = 32 << 20
)

// NewFacts returns the facts in the mirror m. It makes no request.
func NewFacts(m store.Source) *Facts { return &Facts{m: m, months: map[string]*told{}} }

// Of returns the facts that origins have told of a rollout, by origin.
func (f *Facts) Of(ctx context.Context, n codec.Name) (map[string]Fact, error) {
	month, err := f.month(ctx, monthOf(n))
	if err != nil {
		return nil, err
	}
	facts := map[string]Fact{}
	for _, l := range month.lines[n.Rollout] {
		var fact Fact
		if json.Unmarshal(l.line, &fact) == nil && fact.Rollout == n.String() {
			facts[l.origin] = fact
		}
	}
	return facts, nil
}

// month returns a month, and reads it if it is not there.
func (f *Facts) month(ctx context.Context, name string) (*told, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if t := f.months[name]; t != nil {
		return t, nil
	}
	if !f.listed {
		for e, err := range f.m.List(ctx, originsDir, store.ListOptions{}) {
			if errors.Is(err, fs.ErrNotExist) {
				break
			}
			if err != nil {
				return nil, err
			}
			if e.Dir {
				f.origins = append(f.origins, path.Base(e.Name))
			}
		}
		f.listed = true
	}
	f.forget(1) // and not three large ones while this one is read
	const parallel = 16
	contents := make([][]byte, len(f.origins))
	g, running := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i, origin := range f.origins {
		g.Go(func() (err error) {
			if contents[i], err = readAll(running, f.m, factsKey(origin, name)); errors.Is(err, fs.ErrNotExist) {
				err = nil
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	t := &told{lines: map[uuid.UUID][]toldLine{}}
	for i, content := range contents {
		t.bytes += len(content)
		for line := range bytes.Lines(content) {
			if n, ok := toldOf(line); ok {
				t.lines[n.Rollout] = append(t.lines[n.Rollout], toldLine{f.origins[i], line})
			}
		}
	}
	f.months[name], f.kept = t, append(f.kept, name)
	f.forget(2)
	return t, nil
}

// forget forgets the months that were read longest ago, as far as they are too many or
// too large, but of these not the last so many.
func (f *Facts) forget(large int) {
	sum := 0
	for _, month := range f.kept {
		sum += f.months[month].bytes
	}
	for len(f.kept) > maxMonths || sum > maxTold && len(f.kept) > large {
		sum -= f.months[f.kept[0]].bytes
		delete(f.months, f.kept[0])
		f.kept = f.kept[1:]
	}
}

// toldOf returns the rollout that a line of facts is about. Pushes write it first,
// where it need not be decoded.
func toldOf(line []byte) (codec.Name, bool) {
	if rest, ok := bytes.CutPrefix(line, []byte(`{"rollout":"`)); ok {
		name, _, _ := bytes.Cut(rest, []byte(`"`))
		if n, err := codec.ParseName(string(name)); err == nil {
			return n, true
		}
	}
	var fact Fact
	if json.Unmarshal(line, &fact) != nil {
		return codec.Name{}, false
	}
	n, err := codec.ParseName(fact.Rollout)
	return n, err == nil
}

// Best returns what to believe of a rollout of which the current version has the
// plain hash sha256: what origin says, else what the newest of those say that
// had this version, else the newest of all. The name is the newest of all.
// Paths in it are checked: one that could not be a rollout's is left empty.
func (f *Facts) Best(ctx context.Context, n codec.Name, origin, sha256 string) (Fact, error) {
	told, err := f.Of(ctx, n)
	if err != nil {
		return Fact{}, err
	}
	var best, named Fact
	rank := func(by string, f Fact) int {
		switch {
		case f.Rollout == "":
			return 0
		case by == origin && origin != "":
			return 3
		case f.SHA256 == sha256:
			return 2
		}
		return 1
	}
	var bestBy string
	for _, by := range slices.Sorted(maps.Keys(told)) {
		fact := told[by]
		if !pathAllowed(fact.Path, n) {
			fact.Path, fact.Archived = "", false
		}
		if c := cmp.Compare(rank(by, fact), rank(bestBy, best)); c > 0 || c == 0 && fact.ModTime.After(best.ModTime) {
			best, bestBy = fact, by
		}
		if fact.Name != "" && !fact.NameTime.Before(named.NameTime) {
			named = fact
		}
	}
	best.Name, best.NameTime = named.Name, named.NameTime
	return best, nil
}

// pathAllowed reports whether p, which comes from a mirror and may be hostile, is
// a path at which Codex keeps the rollout n.
func pathAllowed(p string, n codec.Name) bool {
	dir := path.Dir(p)
	return store.CheckName(p) == nil && path.Base(p) == n.String() &&
		(dir == archivedDir || dir == sessionsDir || strings.HasPrefix(dir, sessionsDir+"/"))
}
