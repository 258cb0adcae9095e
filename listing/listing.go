// Package listing lists rollouts, a page at a time, over any [store.Source]: a
// home's files, a mirror's objects, or both at once.
//
// # Order
//
// A rollout's place in the order of [Created], the usual one, is its true time to
// the millisecond, later ones first, and among equal times its rollout id, the
// greater first. The true time is the one in a UUIDv7 rollout id; for other ids it
// is that of the head's session_meta; without that it is the wall clock in the file
// name, read as UTC.
//
// Codex's directories sessions/YYYY/MM/DD bound the times of what lies in them.
// They are local time, so the bounds are 14 hours wider than the date on each
// side, and the time in a file name bounds in the same way what the head may
// say. A time outside its bounds is moved to the nearer bound. So a rollout in
// the directory of another date is listed with that date, which is one of its
// Problems, and nothing older has to be read before a page can end. Directories
// that are not a date have the bounds of the one above; without any, as directly
// below sessions and in archived_sessions, they are listed for every page.
//
// The order of [Updated] goes by when a rollout last changed: its file's mtime, in
// a mirror that of the file it was made from, and no later than the object. It needs
// a look at everything. A mirror's objects are opened, in the order in which they
// were stored, until no other can be as new.
//
// # Merging
//
// Files of the same rollout are one [Item]: one that is in a home and in its mirror,
// or live and archived. The local file stands for it, of several the live one, then
// the first by path; what it does not tell because it is damaged is taken from the
// next. Size, lines and time of update are those of the newest version.
//
// A copy is found where it belongs: below sessions by the date in its name, or in
// archived_sessions. The time to which a file in the directory of another date is
// moved is not shared by its copy in the right place; these are one item only if the
// Place's Describe tells of the one at the path of the other, else two.
//
// # Cost
//
// A page of Created reads the heads of its items and of those without whose heads it
// cannot tell, in parallel, and lists the directories that overlap with it in time.
// Memory is that of a page, of at most 32,768 names of each directory that overlaps
// with it, and of 4,096 of each of the at most 15 that are listed ahead. A directory of
// more, and in the order of Updated a place of more, is listed again when these are used
// up.
package listing

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
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
	// Known, unless nil, returns what is known of the file at path in that version, an
	// Info.Version; false means that the file is opened. It may be called concurrently.
	// What it returns has to be what the file says: the list is the same with it and
	// without, but that it may know an Item's Lines where else they would be nil.
	Known func(ctx context.Context, path string, n codec.Name, version string) (Known, bool)
	// Skip, unless nil, reports that nothing is wanted of the file at path in that version,
	// an Info.Version that a List has told: a rollout of whose files that is true is not
	// listed. It may be called concurrently, and of a file that it does not skip again.
	Skip func(path, version string) bool
	// Learn, unless nil, is told what was read of a file, for Known to know. It may be
	// called concurrently, and must not change what it is told.
	Learn func(path, version string, k Known)
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

// An Order is what a list goes by.
type Order string

// Orders; none is Created.
const (
	Created Order = "created"
	Updated Order = "updated"
)

// A Choice is what becomes of a kind of rollouts.
type Choice string

// Choices; none is Any.
const (
	Any  Choice = "any"  // with the others
	No   Choice = "no"   // only the others
	Only Choice = "only" // without the others
)

// Interactive is a name for the sources that Codex lists if not told otherwise: cli,
// vscode, custom:atlas and custom:chatgpt.
const Interactive = "interactive"

// A Query selects rollouts: those to which everything in it applies. The zero value
// is all of them, of all sources and archived ones too.
type Query struct {
	// ID is a session's or rollout's id or the beginning of one, in either case,
	// with or without the dashes.
	ID string
	// Name is a part of the name that a user gave the session, in either case.
	Name string
	// Cwd is the directory that the session began in. Paths are compared clean; on
	// this machine, symbolic links in them are followed.
	Cwd string
	// AnyTurn has Cwd apply to every turn, not to the session's beginning alone. It
	// reads all of the sessions that did not begin there.
	AnyTurn bool
	// At Since or later, and before Until, by what Order goes by. A rollout whose
	// time of creation and place in the order are more than a day apart may be
	// missed.
	Since, Until time.Time
	// Sources are values of codec.Head.Source, beginnings of them up to a colon, such
	// as "subagent", or Interactive. A session that has none is one of "vscode", as
	// for Codex.
	Sources []string
	// Providers and Models are names of model providers and of the first model.
	Providers, Models []string
	// Branch is the git branch, and Origin the URL of the repository, of which
	// scheme, user and ".git" do not matter, or the end of its path: "team/app".
	Branch, Origin string
	// Text is a part of the first user message, in either case.
	Text string
	// Archived are sessions that Codex hides. Subagents are those that another
	// session began.
	Archived, Subagents Choice

	Order  Order
	Oldest bool // the other way round: the oldest and, of equal times, the least id first
	// Limit is how many items a page has at most; 0 is 25. All ignores it.
	Limit int
	// Cursor is a Result.Next of the same Order: what follows it is listed, however
	// the tree has grown since. It can also be "YYYY-MM-DDThh-mm-ss|<rollout id>",
	// with the time from a file name, in the order of Created.
	Cursor string
	// MaxScan is how many heads are looked at at most, known ones too; 0 is no limit.
	MaxScan int
	// Light items have what names, directories and the store tell. Heads are read
	// only if something else in the Query needs it.
	Light bool
	// Versions has Light items tell of Mirror and Version, too. For a rollout that is in
	// both places and not known, see Place.Known, both files are opened.
	Versions bool
	// Preview is how many of its first records an item has, as far as its head goes,
	// see codec.ReadHead; 0 is 5, and less is none.
	Preview int
}

// An Item is one rollout. Nil is what is not known, or not without reading more
// than a head.
type Item struct {
	ID        uuid.UUID `json:"id"` // the session's
	RolloutID uuid.UUID `json:"rollout_id"`
	Name      *string   `json:"name"`
	Path      string    `json:"path"`
	Where     string    `json:"where"`
	// Mirror compares the two versions of an item that is in both places: the
	// mirror's is the Same, Behind or Ahead. It goes by size and time; what a version
	// is worth only hashes tell.
	Mirror *string `json:"mirror"`
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
	// Preview are the first records, as they stand there.
	Preview []json.RawMessage `json:"preview"`
	// PlainSize is the number of plain bytes.
	PlainSize  *int64 `json:"plain_size"`
	LocalSize  *int64 `json:"local_size"`  // bytes of the home's file, if there is one
	StoredSize *int64 `json:"stored_size"` // bytes of the mirror's object, if there is one
	Lines      *int64 `json:"lines"`
	// Tokens is the session's total, if the last 64 KiB of a plain file in the home
	// tell it.
	Tokens *int64 `json:"tokens"`
	// Problems says what is wrong with the files whose heads were read; never nil.
	Problems []string `json:"problems"`
	// Version is the Info.Version of the file that the item tells of, see Newest; ""
	// if it is not known.
	Version string `json:"-"`

	at position
}

// Cursor returns the Query.Cursor with which the list that has the item goes on behind
// it.
func (it *Item) Cursor() string { return it.at.String() }

// Values of Item.Mirror.
const (
	Same   = "same"
	Behind = "behind"
	Ahead  = "ahead"
)

// Git is the state of the repository in which a session began.
type Git struct {
	Branch *string `json:"branch"`
	Commit *string `json:"commit"`
	Origin *string `json:"origin"`
}

// A Result is a page.
type Result struct {
	Items []Item
	// Next is the Cursor of the next page, empty if this is the last one. The next
	// page may be empty if not everything is wanted.
	Next    string
	Scanned int // heads looked at
	// Limited tells that MaxScan ended the page: what follows Next was not looked at.
	Limited bool
}

const (
	defaultLimit   = 25
	defaultPreview = 5
)

// Page returns the first rollouts that q selects.
//
// A rollout that cannot be read is an item with Problems, one that vanishes
// meanwhile is none, and a directory that is missing is empty. An error is
// ErrCursor, the context's, or from listing a directory.
func Page(ctx context.Context, places []Place, q Query) (Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	s, err := newSearch(ctx, places, q)
	defer s.end(cancel)
	if err != nil {
		return Result{}, err
	}
	limit := q.Limit
	if limit <= 0 {
		limit = defaultLimit
	}
	items := []Item{}
	for end := false; len(items) < limit && !end && !s.limited; {
		var found []Item
		if found, end, err = s.step(ctx, min(limit-len(items), maxBatch)); err != nil {
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
	r := Result{
		Items:   items[:min(limit, len(items))],
		Scanned: int(s.scanned.Load()),
		Limited: s.limited && len(items) <= limit,
	}
	switch {
	case r.Limited:
		r.Next = s.last.String()
	case more:
		r.Next = r.Items[limit-1].at.String()
	}
	return r, nil
}

// ErrScanLimit ends All when Query.MaxScan heads were read.
var ErrScanLimit = errors.New("the limit of what may be looked at is reached")

// All returns everything that q selects, in the order and with the errors of
// Page. An error ends the sequence and comes with a zero Item; it may also be
// ErrScanLimit.
func All(ctx context.Context, places []Place, q Query) iter.Seq2[Item, error] {
	return func(yield func(Item, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		s, err := newSearch(ctx, places, q)
		defer s.end(cancel)
		s.all = true
		for end := false; err == nil && !end; {
			var items []Item
			items, end, err = s.step(ctx, maxBatch)
			for _, it := range items {
				if !yield(it, nil) {
					return
				}
			}
			if err == nil && s.limited {
				err = fmt.Errorf("%w: %d", ErrScanLimit, q.MaxScan)
			}
		}
		if err != nil {
			yield(Item{}, err)
		}
	}
}
