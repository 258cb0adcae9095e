package listing

import (
	"container/heap"
	"context"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
)

// An AmbiguousError means that what Find was given means several sessions.
type AmbiguousError struct{ IDs [2]uuid.UUID } // two of these

func (e *AmbiguousError) Error() string {
	return fmt.Sprintf("it means several sessions, among them %s and %s", e.IDs[0], e.IDs[1])
}

// Find returns the newest rollout of the session that ref means: an id of a session
// or of a rollout, the beginning of one, or the whole of the name that a user gave a
// session. Ids come before names.
//
// A UUIDv7, or its first eight digits or more, leads to the days around its time;
// what is found there is meant, whatever else might begin so. If nothing is, and
// for names, shorter beginnings and other ids, the names of all rollouts are looked
// at, each once. Later days are looked at for a paginated session only: others have
// one rollout.
//
// The item has no Preview, whose records may be of any length. If there is no such
// rollout it is fs.ErrNotExist, if there are several an *AmbiguousError; other errors
// are those of Page.
func Find(ctx context.Context, places []Place, ref string) (Item, error) {
	f := &finder{places: places, ref: ref, id: hexDigits(ref), window: always}
	f.window, f.idOnly = idWindow(f.id)
	it, err := f.find(ctx)
	return it, store.Wrap("find", ref, err)
}

// Rollout returns the rollout with this id: the last UUID in its file's name, of
// which a session that was reverted has several. It looks where Find does. If there
// is none it is fs.ErrNotExist.
func Rollout(ctx context.Context, places []Place, id string) (Item, error) {
	f := &finder{places: places, ref: id, id: hexDigits(id), rollout: true}
	f.window, f.idOnly = idWindow(f.id)
	if !f.idOnly {
		return Item{}, store.Wrap("find", id, fs.ErrNotExist)
	}
	it, err := f.find(ctx)
	return it, store.Wrap("find", id, err)
}

// hexDigits returns the digits of what may be the beginning of an id, else "".
func hexDigits(ref string) string {
	digits := strings.ToLower(strings.ReplaceAll(ref, "-", ""))
	if len(digits) > 32 || strings.Trim(digits, "0123456789abcdef") != "" {
		return ""
	}
	return digits
}

// idWindow returns the times that a UUIDv7 has that begins so, and whether the id is
// whole.
func idWindow(digits string) (window span, whole bool) {
	const timeLen = 12 // 48 bits
	whole = len(digits) == 32
	if len(digits) < 8 || len(digits) > timeLen && digits[timeLen] != '7' {
		return always, whole
	}
	pad := strings.Repeat("0", timeLen)
	lo, _ := strconv.ParseInt((digits + pad)[:timeLen], 16, 64) // digits are
	hi, _ := strconv.ParseInt((digits + strings.ReplaceAll(pad, "0", "f"))[:timeLen], 16, 64)
	return span{lo, hi}.within(always), whole
}

// A finder looks for rollouts by name, in no order.
type finder struct {
	places  []Place
	ref     string
	id      string // hexadecimal digits; "" if ref is no id
	idOnly  bool   // ref can be no name
	rollout bool   // ref is the id of a rollout, not of a session
	window  span

	mu         sync.Mutex
	ids, named []*node
	outside    []*node // directories that were not listed
	err        error   // why a name is not known
}

func (f *finder) find(ctx context.Context) (Item, error) {
	var all []*node
	for i := range f.places {
		all = append(all, roots(&f.places[i])...)
	}
	if err := f.walk(ctx, all); err != nil {
		return Item{}, err
	}
	it, mode, err := f.newest(ctx, f.ids)
	found := err == nil && it != nil
	if err != nil || found && (f.rollout || mode != codec.HistoryPaginated) {
		return deref(it), err
	}
	left := f.outside
	if found {
		left = slices.DeleteFunc(left, func(n *node) bool { return n.hi < f.window.lo })
	}
	f.window = always
	if err := f.walk(ctx, left); err != nil {
		return Item{}, err
	}
	if it, _, err = f.newest(ctx, f.ids); it == nil && err == nil {
		it, _, err = f.newest(ctx, f.named)
	}
	if it == nil && err == nil {
		if err = f.err; err == nil {
			err = fs.ErrNotExist
		}
	}
	return deref(it), err
}

func deref(it *Item) Item {
	if it == nil {
		return Item{}
	}
	return *it
}

// walk looks at what lies in dirs and below, as far as it is in the window, and keeps
// the other directories.
func (f *finder) walk(ctx context.Context, dirs []*node) error {
	f.outside = nil
	enter := func(dir *node) bool {
		if dir.overlaps(f.window) {
			return true
		}
		f.outside = append(f.outside, dir)
		return false
	}
	return walk(ctx, dirs, store.ListOptions{Unordered: true, NamesOnly: true}, enter, func(dir *node, e store.Entry) { f.look(ctx, dir, e) })
}

// look keeps a file that is meant.
func (f *finder) look(ctx context.Context, dir *node, e store.Entry) {
	name, err := codec.ParseName(path.Base(e.Name))
	if err != nil {
		return
	}
	file := newFile(dir.dir.place, e, name)
	matched := &f.ids
	isSession := !f.rollout && strings.HasPrefix(hexID(name.Session), f.id)
	if f.id == "" || !isSession && !strings.HasPrefix(hexID(name.Rollout), f.id) {
		if f.idOnly {
			return
		}
		d, err := file.describe(ctx)
		if err != nil {
			f.mu.Lock()
			defer f.mu.Unlock()
			f.err = err
			return
		}
		if d.Name != f.ref || d.Name == "" {
			return
		}
		matched = &f.named
	}
	n := file.node(dir.span)
	f.mu.Lock()
	defer f.mu.Unlock()
	*matched = append(*matched, n)
}

// newest returns the newest of those of nodes that are still there, and the mode of
// its history, or nil.
func (f *finder) newest(ctx context.Context, nodes []*node) (it *Item, mode string, err error) {
	s := &search{places: f.places, Query: Query{Preview: -1}, filter: newFilter(Query{}), window: always}
	var session uuid.UUID
	for _, n := range nodes {
		if len(n.files) == 0 {
			continue // vanished when it was looked at before
		}
		id := n.files[0].name.Session
		if s.queue.Len() > 0 && id != session {
			return nil, "", &AmbiguousError{[2]uuid.UUID{session, id}}
		}
		session = id
		heap.Push(&s.queue, n)
	}
	for {
		n, err := s.next(ctx)
		if n == nil || err != nil {
			return nil, "", err
		}
		it := new(Item)
		wanted, err := s.item(ctx, n, it)
		if err != nil {
			return nil, "", err
		}
		if wanted {
			return it, n.head().HistoryMode, nil
		}
	}
}
