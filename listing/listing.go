// Package listing lists rollouts, newest first, a page at a time, over any
// [store.Source]: a home's files, a mirror's objects, or both at once.
//
// # Order
//
// A rollout's place in the order is its true time to the millisecond, later ones
// first, and among equal times its rollout id, the greater first. The true time
// is the one in a UUIDv7 rollout id; for other ids it is that of the head's
// session_meta; without that it is the wall clock in the file name, read as UTC.
//
// Codex's directories sessions/YYYY/MM/DD bound the times of what lies in them.
// They are local time, so the bounds are 14 hours wider than the date on each
// side, and the time in a file name bounds in the same way what the head may
// say. A time outside its bounds is moved to the nearer bound. So a rollout in
// the directory of another date is listed with that date, and nothing older has
// to be read before a page can end. Directories that are not a date have the
// bounds of the one above; without any, as directly below sessions and in
// archived_sessions, they are listed for every page.
//
// # Merging
//
// Files with the same place in the order are one [Item]: a session that is in a
// home and in its mirror, or live and archived. The local file stands for it, of
// several the live one, then the first by path. What its head does not tell
// because it is damaged is taken from the next. The time that a misplaced
// file is moved to is not shared by its copy in the right place: these are two
// items.
package listing

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"time"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
)

// Values of Item.Where. The first two are for Place.Where.
const (
	Local  = "local"
	Mirror = "mirror"
	Both   = "both"
)

// A Place is a tree of rollouts, in the directories sessions and
// archived_sessions of Source.
type Place struct {
	Where  string // Local or Mirror
	Source store.Source
	// Describe, unless nil, tells of a rollout what its file at path does not; of
	// the files of one item only the one that stands for it is asked about. It may
	// be called concurrently. Its error is a problem of that one item.
	Describe func(ctx context.Context, path string, n codec.Name) (Description, error)
}

// A Description is what others than a rollout's file know of it. The zero value
// is nothing.
type Description struct {
	Path     string // where the file lies in its home, if that is not its path in the Source
	Archived bool   // also true of what lies in archived_sessions
	Name     string // that a user gave the session
}

// namesFile is where Codex keeps the names that users gave sessions.
const namesFile = "session_index.jsonl"

// ThreadNames returns the names of a home's sessions by session id; none if the
// home has no session_index.jsonl.
func ThreadNames(ctx context.Context, home store.Source) (map[string]codec.ThreadName, error) {
	f, err := home.Open(ctx, namesFile)
	if errors.Is(err, fs.ErrNotExist) {
		return map[string]codec.ThreadName{}, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := f.Range(ctx, 0, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	names, err := codec.ReadThreadNames(r)
	return names, store.Wrap("read", namesFile, err)
}

// A Query selects rollouts. The zero value is all of them.
type Query struct {
	// Cwd is the directory that the session began in, compared as a clean path.
	Cwd string
	// Created at Since or later, and before Until. A rollout whose time of
	// creation and place in the order are more than a day apart may be missed.
	Since, Until time.Time
	// ID is a session's or rollout's id or the beginning of one, in either case,
	// with or without the dashes.
	ID string
	// Limit is how many items a page has at most; 0 is 25. All ignores it.
	Limit int
	// Cursor is a Result.Next: what follows it is listed, however the tree has
	// grown since. It can also be "YYYY-MM-DDThh-mm-ss|<rollout id>", with the
	// time from a file name.
	Cursor string
}

// An Item is one rollout. Nil is what is not known, or not without reading more
// than a head.
type Item struct {
	ID        uuid.UUID `json:"id"` // the session's
	RolloutID uuid.UUID `json:"rollout_id"`
	Name      *string   `json:"name"`
	Path      string    `json:"path"`
	Where     string    `json:"where"`
	// Created is what the head says; else what the rollout id says; else, which
	// is a problem, the wall clock in the file name, read as UTC.
	Created          *time.Time `json:"created"`
	Updated          *time.Time `json:"updated"`
	Cwd              *string    `json:"cwd"`
	Git              *Git       `json:"git"`
	Source           *string    `json:"source"` // as in codec.Head
	Provider         *string    `json:"provider"`
	Model            *string    `json:"model"`
	CLIVersion       *string    `json:"cli_version"`
	ParentID         *string    `json:"parent_id"`
	Archived         bool       `json:"archived"`
	FirstUserMessage *string    `json:"first_user_message"`
	Preview          *string    `json:"preview"`     // the first user message, short and on one line
	PlainSize        *int64     `json:"plain_size"`  // of the file that stands for it, if known
	StoredSize       *int64     `json:"stored_size"` // in the mirror, if it is there
	Lines            *int64     `json:"lines"`
	// Problems says what is wrong with the files whose heads were read; never nil.
	Problems []string `json:"problems"`

	at position
}

// Git is the state of the repository in which a session began.
type Git struct {
	Branch *string `json:"branch"`
	Commit *string `json:"commit"`
	Origin *string `json:"origin"`
}

// A Result is a page.
type Result struct {
	Items []Item
	// Next is the Cursor of the next page, empty if this is the last one. If the
	// Query has a Cwd, Since or Until the next page may be empty.
	Next    string
	Scanned int // heads read
}

const defaultLimit = 25

// Page returns the newest rollouts that q selects. It reads the heads of those
// that it returns and of those without whose heads it cannot tell, and lists no
// directory all of which is older than the page or newer than q.Cursor.
//
// A rollout that cannot be read is an item with Problems, one that vanishes
// meanwhile is none, and a directory that is missing is empty. An error is
// ErrCursor, the context's, or from listing a directory.
func Page(ctx context.Context, places []Place, q Query) (Result, error) {
	s, err := newSearch(ctx, places, q)
	if err != nil {
		return Result{}, err
	}
	limit := q.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	items := []Item{}
	for end := false; len(items) < limit && !end; {
		n := limit - len(items)
		if s.selective() {
			n = max(n, parallel)
		}
		var found []Item
		if found, end, err = s.step(ctx, n); err != nil {
			return Result{}, err
		}
		items = append(items, found...)
	}
	more := len(items) > limit
	if !more {
		if more, err = s.more(ctx); err != nil {
			return Result{}, err
		}
	}
	r := Result{Items: items[:min(limit, len(items))], Scanned: int(s.scanned.Load())}
	if more {
		r.Next = r.Items[limit-1].at.String()
	}
	return r, nil
}

// All returns everything that q selects, in the order and with the errors of
// Page. An error ends the sequence and comes with a zero Item. It holds the names
// in the directories that overlap in time, and a few items.
func All(ctx context.Context, places []Place, q Query) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		s, err := newSearch(ctx, places, q)
		for end := false; err == nil && !end; {
			var items []Item
			items, end, err = s.step(ctx, 4*parallel)
			for _, it := range items {
				if !yield(it, nil) {
					return
				}
			}
		}
		if err != nil {
			yield(Item{}, err)
		}
	}
}

// Rollout returns the rollout with this id: the last UUID in its file's name, of
// which a session that was reverted has several. If it is in no place it is
// fs.ErrNotExist.
func Rollout(ctx context.Context, places []Place, id string) (Item, error) {
	for it, err := range All(ctx, places, Query{ID: id}) {
		if err != nil {
			return Item{}, err
		}
		if it.RolloutID.String() == id {
			return it, nil
		}
	}
	return Item{}, store.Wrap("find", id, fs.ErrNotExist)
}
