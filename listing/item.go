package listing

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
)

// A file is a rollout in one place.
type file struct {
	place *Place
	path  string
	name  codec.Name
	info  store.Info
	head  *codec.Head // nil until it was read
	err   error       // why there is not more of the head
}

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

// read reads the heads of n's files up to the first that has one, and takes away
// those that have vanished.
func (s *search) read(ctx context.Context, n *node) {
	slices.SortStableFunc(n.files, (*file).compare)
	var there []*file
	found := false
	for _, f := range n.files {
		if !found && f.head == nil {
			s.scanned.Add(1)
			var head codec.Head
			head, f.err = f.readHead(ctx)
			f.head = &head
			if errors.Is(f.err, fs.ErrNotExist) {
				continue
			}
		}
		found = found || f.hasMeta()
		there = append(there, f)
	}
	n.files = there
}

func (f *file) readHead(ctx context.Context) (codec.Head, error) {
	o, err := f.place.Source.Open(ctx, f.path)
	if err != nil {
		return codec.Head{}, err
	}
	defer o.Close()
	f.info = o.Info()
	r, err := o.Range(ctx, 0, -1)
	if err != nil {
		return codec.Head{}, err
	}
	defer r.Close()
	return codec.ReadHead(r)
}

// problems says what is wrong with the file as far as it was read.
func (f *file) problems() []string {
	var list []string
	if f.err != nil {
		list = append(list, reason(f.err))
	}
	for _, p := range f.head.Problems {
		switch {
		case p.Length == 0: // one of the whole file, named below
		case p.Offset+p.Length == f.head.End:
			list = append(list, "torn last line")
		default:
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

// items returns the items of those of the rollouts that are wanted.
func (s *search) items(ctx context.Context, rollouts []*node) ([]Item, error) {
	found := make([]*Item, len(rollouts))
	err := inParallel(ctx, len(rollouts), func(i int) {
		n := rollouts[i]
		s.read(ctx, n)
		if len(n.files) == 0 {
			return
		}
		if it := n.item(); s.wants(it) {
			n.files[0].describe(ctx, it)
			found[i] = it
		}
	})
	if err != nil {
		return nil, err
	}
	var items []Item
	for _, it := range found {
		if it != nil {
			items = append(items, *it)
		}
	}
	return items, nil
}

// item returns what n's files tell, once they were read.
func (n *node) item() *Item {
	first := n.files[0]
	it := &Item{
		ID:         first.name.Session,
		RolloutID:  first.name.Rollout,
		Path:       first.path,
		Where:      first.place.Where,
		Updated:    knownTime(first.info.ModTime),
		Archived:   first.archived(),
		StoredSize: new(first.info.Stored),
		Problems:   []string{},
		at:         n.at(),
	}
	head := first.head
	for _, f := range n.files {
		if f.place.Where != it.Where {
			it.Where = Both
		}
		if it.PlainSize == nil && f.info.Size >= 0 {
			it.PlainSize = new(f.info.Size)
			it.Lines = lines(f.info)
		}
		if f.head != nil {
			for _, p := range f.problems() {
				if !slices.Contains(it.Problems, p) { // the same in both places
					it.Problems = append(it.Problems, p)
				}
			}
		}
		if f.hasMeta() && !head.HasMeta {
			head = f.head
		}
	}
	if i := slices.IndexFunc(n.files, func(f *file) bool { return f.place.Where == Mirror }); i > 0 {
		it.StoredSize = new(n.files[i].info.Stored)
	}
	it.Cwd = known(head.Cwd)
	if head.Git != (codec.Git{}) {
		it.Git = &Git{Branch: known(head.Git.Branch), Commit: known(head.Git.Commit), Origin: known(head.Git.Origin)}
	}
	it.Source = known(head.Source)
	it.Provider = known(head.Provider)
	it.Model = known(head.Model)
	it.CLIVersion = known(head.CLIVersion)
	it.ParentID = known(head.ParentID)
	it.FirstUserMessage = known(head.FirstUserMessage)
	it.Preview = known(preview(head.FirstUserMessage))
	it.Created = knownTime(head.StartTime)
	if t, ok := first.name.Time(); it.Created == nil && ok {
		it.Created = knownTime(t)
	}
	if wall, ok := first.name.Wall(); it.Created == nil && ok {
		it.Created = &wall
		it.Problems = append(it.Problems, "no time of creation but the file name's, in an unknown time zone")
	}
	return it
}

// describe adds what the place knows.
func (f *file) describe(ctx context.Context, it *Item) {
	if f.place.Describe == nil {
		return
	}
	d, err := f.place.Describe(ctx, f.path, f.name)
	if err != nil {
		it.Problems = append(it.Problems, reason(err))
		return
	}
	it.Path = cmp.Or(d.Path, it.Path)
	it.Archived = it.Archived || d.Archived
	it.Name = known(d.Name)
}

// lines returns the number of lines, of a file whose store counted them.
func lines(i store.Info) *int64 {
	n, err := strconv.ParseInt(i.Meta[store.MetaLines], 10, 64)
	if err != nil {
		return nil
	}
	return &n
}

func known(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// knownTime returns nil also for times that JSON cannot say, which ids and files
// can have.
func knownTime(t time.Time) *time.Time {
	t = t.UTC()
	if t.IsZero() || t.Year() < 0 || t.Year() > 9999 {
		return nil
	}
	return &t
}

const previewLen = 120 // characters

// preview returns the beginning of a message on one line.
func preview(message string) string {
	var b strings.Builder
	left := previewLen
	for word := range strings.FieldsSeq(message) {
		if b.Len() > 0 {
			b.WriteByte(' ')
			left--
		}
		for _, r := range word {
			if left <= 0 {
				return b.String() + "…"
			}
			b.WriteRune(r)
			left--
		}
	}
	return b.String()
}
