package listing

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
)

// A file is a rollout in one place.
type file struct {
	place     *Place
	path      string
	name      codec.Name
	bounds    span // of its directory
	misplaced bool // its time is not in these, so the directory is of another date
	skipped   bool // its place has said so

	info    store.Info
	looked  bool        // info is what Open tells
	read    *Known      // what the place knew of it
	head    *codec.Head // nil until it was read
	preview []json.RawMessage
	tokens  *int64
	err     error // why there is not more

	described bool
	desc      Description
	descErr   error
}

func (f *file) isSame(o *file) bool { return f.place == o.place && f.path == o.path }

func (f *file) hasMeta() bool { return f.head != nil && f.head.HasMeta }

func (f *file) archived() bool { return strings.HasPrefix(f.path, archivedDir+"/") }

// compare is negative if f rather than o stands for the rollout that both are.
func (f *file) compare(o *file) int {
	first := func(is bool) int {
		if is {
			return 0
		}
		return 1
	}
	return cmp.Or(
		cmp.Compare(first(f.place.Where == Local), first(o.place.Where == Local)),
		cmp.Compare(first(!f.archived()), first(!o.archived())),
		cmp.Compare(f.path, o.path),
	)
}

// updated is when the file changed, in ms. What a mirror has did so before it was
// stored.
func (f *file) updated() int64 {
	t := f.info.ModTime
	if stored := f.info.ChangeTime; f.place.Where == Mirror && !stored.IsZero() && stored.Before(t) {
		t = stored
	}
	return always.clamp(t.UnixMilli())
}

// updateSpan returns the bounds of updated as far as a List tells: a file in a
// mirror changed after its session began, and before it was stored.
func (f *file) updateSpan() span {
	if !f.info.ModTime.IsZero() {
		return span{f.updated(), f.updated()}
	}
	bounds := always
	if !f.info.ChangeTime.IsZero() {
		bounds.hi = always.clamp(f.info.ChangeTime.UnixMilli())
	}
	if t, ok := f.name.Time(); ok {
		bounds.lo = min(always.clamp(t.UnixMilli()), bounds.hi)
	}
	return bounds
}

// skip has the place say whether the file is skipped.
func (f *file) skip() bool {
	f.skipped = f.skipped || f.place.Skip != nil && f.info.Version != "" && f.place.Skip(f.path, f.info.Version)
	return f.skipped
}

// look has the file's info complete, and reports false if the file is not there.
func (f *file) look(ctx context.Context) bool {
	if f.looked {
		return true
	}
	if _, ok := f.known(ctx); ok {
		return true
	}
	o, err := f.place.Source.Open(ctx, f.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false
	case err != nil:
		f.err = err
	default:
		f.info = o.Info()
		f.err = o.Close()
	}
	f.looked = true
	return true
}

// describe returns what the place knows of the file.
func (f *file) describe(ctx context.Context) (Description, error) {
	if !f.described {
		f.described = true
		if f.place.Describe != nil {
			f.desc, f.descErr = f.place.Describe(ctx, f.path, f.name)
		}
		f.desc.Archived = f.desc.Archived || f.archived()
	}
	return f.desc, f.descErr
}

// open returns a reader of the whole file.
func (f *file) open(ctx context.Context) (io.ReadCloser, error) {
	o, err := f.place.Source.Open(ctx, f.path)
	if err != nil {
		return nil, err
	}
	r, err := o.Range(ctx, 0, -1)
	if err != nil {
		return nil, errors.Join(err, o.Close())
	}
	return &opened{r, o}, nil
}

type opened struct {
	io.ReadCloser
	file store.File
}

func (o *opened) Close() error { return errors.Join(o.ReadCloser.Close(), o.file.Close()) }

// readHead reads as much of the head as it takes to know that it is not wanted, or
// all and what else an item tells. It returns fs.ErrNotExist and what else Open says.
func (s *search) readHead(ctx context.Context, f *file) error {
	s.scanned.Add(1)
	records := s.Preview
	if records == 0 {
		records = defaultPreview
	}
	if records < 0 {
		if k, ok := f.known(ctx); ok && (k.Tail || !f.hasTail() || !s.filter.wantsHead(&k.Head, f.place.Where)) {
			f.head, f.tokens = &k.Head, k.Tokens
			return nil
		}
	}
	f.head = &codec.Head{}
	o, err := f.place.Source.Open(ctx, f.path)
	if err != nil {
		return err
	}
	defer o.Close()
	f.info, f.looked = o.Info(), true
	r, err := o.Range(ctx, 0, -1)
	if err != nil {
		return err
	}
	defer r.Close()
	*f.head, err = codec.ReadHeadWhile(r, func(rec codec.Record, h *codec.Head) bool {
		if h.HasMeta && f.place.Learn == nil && !s.filter.wantsMeta(h, f.place.Where) {
			return false
		}
		if len(f.preview) < records && rec.Err == nil {
			f.preview = append(f.preview, bytes.Clone(bytes.TrimSpace(rec.Bytes)))
		}
		return true
	})
	tail := err == nil && f.hasTail() && s.filter.wantsHead(f.head, f.place.Where)
	if tail {
		f.tokens, err = readTokens(ctx, o)
	}
	if err == nil && f.place.Learn != nil && f.info.Version != "" {
		f.place.Learn(f.path, f.info.Version, Known{f.info, *f.head, f.tokens, tail})
	}
	return err
}

// hasTail reports whether the end of the file is cheap to read.
func (f *file) hasTail() bool { return f.place.Where == Local && f.info.Size == f.info.Stored }

// tailLen is where the newest token count is looked for. With every answer of the
// model there is one.
const tailLen = 64 << 10

// readTokens returns how many tokens the end of a rollout says that the session took.
func readTokens(ctx context.Context, f store.File) (*int64, error) {
	r, err := f.Range(ctx, -tailLen, -1)
	if err != nil {
		return nil, err
	}
	tail, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return nil, err
	}
	if !bytes.Contains(tail, []byte(`"token_`)) { // spares most of those that have none
		return nil, nil
	}
	for rec, err := range codec.RecordsBackward(bytes.NewReader(tail), int64(len(tail)), 0) {
		if err != nil {
			return nil, err
		}
		if rec.Err != nil {
			continue
		}
		payload, _ := rec.Item.Decode()
		switch p := payload.(type) {
		case *codec.EventTokenCount:
			if p.Info != nil && p.Info.TotalTokenUsage != nil {
				return &p.Info.TotalTokenUsage.Total, nil
			}
		case *codec.TokenUsageRecord:
			if p.ThreadTokenUsage != nil {
				return &p.ThreadTokenUsage.Total, nil
			}
		}
	}
	return nil, nil
}

// read reads the heads of n's files up to the first that has one, and takes away
// those that have vanished.
func (s *search) read(ctx context.Context, n *node) {
	slices.SortStableFunc(n.files, (*file).compare)
	var there []*file
	found := false
	for _, f := range n.files {
		if !found && f.head == nil {
			f.err = s.readHead(ctx, f)
			if errors.Is(f.err, fs.ErrNotExist) {
				continue
			}
		}
		found = found || f.hasMeta()
		there = append(there, f)
	}
	n.files = there
}

// head returns what n's heads tell.
func (n *node) head() *codec.Head {
	for _, f := range n.files {
		if f.hasMeta() {
			return f.head
		}
	}
	if h := n.files[0].head; h != nil {
		return h
	}
	return &noHead
}

// noHead is what is known of a head that was not read. It must not change.
var noHead codec.Head

// items returns the items of those of the rollouts that are wanted.
func (s *search) items(ctx context.Context, rollouts []*node) ([]Item, error) {
	found := s.unused
	if s.unused = nil; cap(found) < len(rollouts) {
		found = make([]Item, len(rollouts))
	}
	found = found[:len(rollouts)]
	wanted := make([]bool, len(rollouts))
	failed := make([]error, len(rollouts))
	err := inParallel(ctx, len(rollouts), func(i int) { wanted[i], failed[i] = s.item(ctx, rollouts[i], &found[i]) })
	if err := cmp.Or(err, errors.Join(failed...)); err != nil {
		return nil, err
	}
	items := found[:0]
	for i := range found {
		if wanted[i] {
			items = append(items, found[i])
		}
	}
	if len(items) == 0 { // as for most of a search
		s.unused = found
	}
	return items, nil
}

// item makes it of the rollout n, and reports false if it is not wanted. An error is of
// what has to be known to tell.
func (s *search) item(ctx context.Context, n *node, it *Item) (wanted bool, err error) {
	slices.SortStableFunc(n.files, (*file).compare)
	if s.filter.needsDescription() {
		d, err := n.files[0].describe(ctx)
		if err != nil {
			return false, fmt.Errorf("%s: %w", n.files[0].path, err)
		}
		if !s.filter.wantsDescribed(d) {
			return false, nil
		}
	}
	if s.filter.needsHead() || !s.Light {
		s.read(ctx, n)
		if len(n.files) == 0 {
			return false, nil
		}
		first, h := n.files[0], n.head()
		if !s.filter.wantsHead(h, first.place.Where) {
			return false, nil
		}
		if s.AnyTurn && !s.filter.wantsCwd(h.Cwd, first.place.Where) {
			has, err := s.filter.hasTurnIn(ctx, first)
			if err == nil && !has {
				return false, nil
			}
			first.err = cmp.Or(first.err, err) // what cannot be read to its end may have one
		}
	}
	if !s.gather(ctx, n) || !slices.ContainsFunc(n.files, func(f *file) bool { return !f.skip() }) {
		return false, nil
	}
	s.complete(ctx, n)
	if len(n.files) == 0 {
		return false, nil
	}
	n.toItem(ctx, it)
	return s.filter.wants(it), nil
}

// gather adds copies of n to its files that are at another place in the order, and
// reports false if that is where the item is listed.
func (s *search) gather(ctx context.Context, n *node) bool {
	known := len(n.files)
	for i := range s.places {
		p := &s.places[i]
		for _, at := range s.copies(ctx, n, p) {
			c := &file{place: p, path: at, name: n.files[0].name, bounds: boundsOf(at)}
			c.misplaced = !s.byUpdate() && n.lo != c.bounds.clamp(n.lo)
			if slices.ContainsFunc(n.files, c.isSame) || !c.look(ctx) {
				continue
			}
			if s.byUpdate() && c.updated() > n.lo || n.files[0].misplaced {
				return false
			}
			n.files = append(n.files, c)
		}
	}
	switch {
	case len(n.files) == known:
	case s.Light:
		slices.SortStableFunc(n.files, (*file).compare)
	default:
		s.read(ctx, n)
	}
	return true
}

// copies returns where p may have a copy of n that is at another place in the order.
func (s *search) copies(ctx context.Context, n *node, p *Place) []string {
	first := n.files[0]
	home := func() (at string, dated bool) {
		year, month, day, dated := first.name.Date()
		return path.Join(liveDir, year, month, day, first.name.String()), dated
	}
	if s.byUpdate() {
		at, dated := home()
		paths := []string{at}
		if p.Where == Local || !dated {
			paths = append(paths, path.Join(archivedDir, first.name.String()), path.Join(liveDir, first.name.String()))
		}
		return paths
	}
	switch {
	case len(s.places) == 1 || p == first.place:
	case first.misplaced:
		at, _ := home()
		c := &file{place: p, path: at, name: first.name}
		if d, err := c.describe(ctx); err == nil && d.Path == first.path {
			return []string{at}
		}
	case !n.isIn(p.Where):
		if d, err := first.describe(ctx); err == nil && d.Path != "" && d.Path != first.path {
			return []string{d.Path}
		}
	}
	return nil
}

func (n *node) isIn(where string) bool { return n.in(where) != nil }

// in returns the file that stands for n in a kind of place, nil if there is none.
func (n *node) in(where string) *file {
	i := slices.IndexFunc(n.files, func(f *file) bool { return f.place.Where == where })
	if i < 0 {
		return nil
	}
	return n.files[i]
}

// complete looks at those files of which more has to be known, and takes away those
// that have vanished.
func (s *search) complete(ctx context.Context, n *node) {
	both := n.isIn(Local) && n.isIn(Mirror) && (!s.Light || s.Versions)
	n.files = slices.DeleteFunc(n.files, func(f *file) bool {
		return (f.info.Version == "" || both) && !f.look(ctx)
	})
}

// toItem makes it what n's files tell.
func (n *node) toItem(ctx context.Context, it *Item) {
	first, head := n.files[0], n.head()
	newest := first
	*it = Item{
		ID:        first.name.Session,
		RolloutID: first.name.Rollout,
		Path:      first.path,
		Where:     first.place.Where,
		Problems:  []string{},
		at:        n.at(),
	}
	l, m := n.in(Local), n.in(Mirror)
	if l != nil {
		it.LocalSize = new(l.info.Stored)
	}
	if m != nil {
		it.StoredSize = new(m.info.Stored)
	}
	if l != nil && m != nil {
		it.Where = Both
		if it.Mirror = compareVersions(l, m); it.Mirror != nil && *it.Mirror == Ahead {
			newest = m
		}
	}
	it.Updated = knownTime(newest.info.ModTime)
	it.Version = newest.info.Version
	sized := newest
	if i := slices.IndexFunc(n.files, func(f *file) bool { return f.info.Size >= 0 }); newest.info.Size < 0 && i >= 0 {
		sized = n.files[i]
	}
	if sized.info.Size >= 0 {
		it.PlainSize, it.Lines = new(sized.info.Size), lines(sized.info)
	}
	for _, f := range n.files {
		for _, p := range f.problems(ctx) {
			if !slices.Contains(it.Problems, p) { // the same in both places
				it.Problems = append(it.Problems, p)
			}
		}
		if it.Preview == nil {
			it.Preview = f.preview
		}
		if it.Tokens == nil {
			it.Tokens = f.tokens
		}
	}
	it.AddHead(head)
	if it.Created == nil {
		if t, ok := first.name.Time(); ok {
			it.Created = knownTime(t)
		}
	}
	if it.Created == nil {
		if wall, ok := first.name.Wall(); ok {
			it.Created = &wall
			if first.head != nil {
				it.Problems = append(it.Problems, "no time of creation but the file name's, in an unknown time zone")
			}
		}
	}
	d, err := first.describe(ctx)
	if err != nil {
		it.Problems = append(it.Problems, reason(err))
	}
	it.Path = cmp.Or(d.Path, it.Path)
	it.Archived = d.Archived
	it.Name = known(d.Name)
}

// AddHead has a Light item tell what the head of its file says.
func (it *Item) AddHead(h *codec.Head) {
	it.Cwd = known(h.Cwd)
	if h.Git != (codec.Git{}) {
		it.Git = &Git{Branch: known(h.Git.Branch), Commit: known(h.Git.Commit), Origin: known(h.Git.Origin)}
	}
	it.Source = known(h.Source)
	it.Provider = known(h.Provider)
	it.Model = known(h.Model)
	it.CLIVersion = known(h.CLIVersion)
	it.ParentID = known(h.ParentID)
	it.FirstUserMessage = known(h.FirstUserMessage)
	if t := knownTime(h.StartTime); t != nil {
		it.Created = t
	}
}

// Newest returns where the version is that the item tells of, Local or Mirror.
func (it *Item) Newest() string {
	if it.Where == Mirror || it.Mirror != nil && *it.Mirror == Ahead {
		return Mirror
	}
	return Local
}

// compareVersions tells how the mirror's version m relates to the local one. A local
// file that is shorter and changed last was rewritten.
func compareVersions(l, m *file) *string {
	switch {
	case !l.looked || !m.looked || l.info.Size < 0 || m.info.Size < 0:
		return nil
	case l.info.Size == m.info.Size:
		return new(Same)
	case m.info.Size > l.info.Size && !l.info.ModTime.After(m.info.ModTime):
		return new(Ahead)
	}
	return new(Behind)
}

// problems says what is wrong with the file as far as it was read.
func (f *file) problems(ctx context.Context) []string {
	var list []string
	if f.misplaced && f.bounds != always {
		list = append(list, "in the directory of another date")
	}
	if f.err != nil {
		list = append(list, reason(f.err))
	}
	if f.head == nil {
		return list
	}
	for _, p := range f.head.Problems {
		if p.Length == 0 {
			continue // one of the whole file, named below
		}
		slog.DebugContext(ctx, "bad line", "place", f.place.Where, "path", f.path, "offset", p.Offset, "length", p.Length, "reason", p.Reason)
		if p.Offset+p.Length == f.head.End {
			list = append(list, "torn last line")
		} else {
			list = append(list, fmt.Sprintf("damaged: byte %d: %s", p.Offset, p.Reason))
		}
	}
	switch {
	case f.err != nil || f.head.HasMeta:
	case f.info.Size == 0:
		list = append(list, "0 bytes")
	default:
		list = append(list, "no session metadata")
	}
	return list
}

// reason returns what a store says without the name, which the item has.
func reason(err error) string {
	if e, ok := errors.AsType[*store.Error](err); ok {
		err = e.Err
	}
	return err.Error()
}

// lines returns the number of lines, of a file whose store counted them.
func lines(i store.Info) *int64 {
	s, ok := i.Meta[store.MetaLines]
	if !ok {
		return nil
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return nil
	}
	return new(n)
}

func known(s string) *string {
	if s == "" {
		return nil
	}
	return new(s)
}

// knownTime returns nil also for times that JSON cannot say, which ids and files
// can have.
func knownTime(t time.Time) *time.Time {
	t = t.UTC()
	if t.IsZero() || t.Year() < 0 || t.Year() > 9999 {
		return nil
	}
	return new(t)
}
