// Package store is the one abstraction behind the recorder, listing, replay and
// mirror: named, append-only logs that can be created, appended to, sealed, read
// at any offset and listed. A store knows names and bytes. It knows nothing of
// what the bytes mean.
//
// # Names
//
// A name is a slash-separated relative path such as "a/b/c.jsonl". [CheckName]
// has the grammar; every method returns an error that is [ErrInvalidName] for
// anything else, and nothing outside a store's root can be reached by a name
// (case BadNames). Every name in the grammar can be a log of its own, unless the
// file system below takes upper and lower case for the same (cases GoodNames,
// NamesByCase).
//
// A log whose name ends in ".jsonl" may be held compressed, under its name with
// ".zst" added. Callers always use the name without ".zst" and always see plain
// bytes and plain offsets; [Info].Stored tells what the store holds. A name that
// does end in ".zst" means the stored bytes themselves, as they are (case
// StoredForm).
//
// # Guarantees
//
// Under each line are the cases of package storetest that hold it, for every
// store that runs the suite. A case sees what calls do; what is left of
// acknowledged bytes after a loss of power is for a store's own tests to show.
//
//	                   local              memfs              blob
//	visible            each Append        each Append        all of it, at Seal
//	                   (cases AppendIsVisible, NothingBeforeSeal, CallOrder)
//	durable            after Sync, Seal,  never              after Seal, Put, Remove,
//	                   Put, Remove, Move                     if the service is
//	                   (case SyncOrUnsupported)
//	Append             whole or not       whole or not       whole or not
//	                   (cases RoundTrip, EmptyLog, LargeLog, LongLine)
//	after a failure    cut back, and      cut back, and      nothing to be seen, and
//	                   poisoned           poisoned           poisoned
//	                   (case Poisoned)
//	Put                all or nothing     all or nothing     all or nothing
//	                   (cases PutChangedBody, PutFailingBody, PutBody)
//	create-only        yes                yes                yes
//	                   (cases CreateTaken, CreateTwice, OneWriterWins, PutOneWins)
//	one writer         by an OS lock      within one Store   the first to Seal
//	                   (cases AppendBusy, CreateTwice, LockExcludes)
//	a sealed log       may grow by        may grow by        changes by Put and
//	                   Append             Append             Remove only
//	                   (cases SealedStays, AppendContinues)
//	an open File       keeps its bytes    keeps its bytes    its bytes or ErrChanged
//	                   (case FileIsOneVersion)
//	order of List      of bytes           of bytes           of bytes
//	                   (cases ListOrder, ListNewestFirst, ListUnordered)
//	List meanwhile     has no part and no temporary name, none twice; may be written in
//	                   (case ListWhileWriting)
//	read after write   yes                yes                if the service does
//	                   (case ReadAfterWrite)
//	concurrent use     yes                yes                yes
//	                   (cases ManyLogs, RangesAtOnce, OneWriterWins)
//	several processes  yes                no                 if the service knows
//	                                                         conditions
//	                   (cases ReadAfterWrite, AppendBusy, OneWriterWins, PutOneWins)
//	a cancelled call   leaves nothing     leaves nothing     leaves nothing
//	                   (cases Cancelled, PutCancelled, ListCancelled)
//	who retries        nobody             nobody             the service's client, never
//	                                                         what a body failed with
//	                   (case PutFailingBody)
//	after Close        no goroutine and no descriptor is left
//	                   (case NothingLeft)
//
// Not promised:
//
//   - anything on a network file system, where neither locks nor the order of
//     writes can be relied on;
//   - that a writer that does not use this package is kept out. What another
//     program changes in a directory, in the instant in which it is replaced, may
//     be lost; so may one of the objects that two Stores write at once in a bucket
//     whose service knows no conditions;
//   - that a List is a snapshot: what is written or removed meanwhile may be in it
//     or not;
//   - that a sealed log stays as it is where logs can be appended to, or that what
//     was neither synced nor sealed survives anything;
//   - an order between logs: the Sync of one says nothing of another.
//
// # Contexts
//
// A context that is done before a call leaves no effect. One that ends during a
// call leaves all of the effect or none, and the error wraps the context's.
//
// # Errors
//
// An error is wrapped once, in [*Error], and is found with [errors.Is]:
// [fs.ErrNotExist], [fs.ErrExist], [fs.ErrPermission], [fs.ErrClosed],
// [errors.ErrUnsupported], [ErrBusy], [ErrCorrupt], [ErrInvalidName],
// [ErrChanged] (case Errors). Asking for what a store cannot do is
// errors.ErrUnsupported; it is never ignored.
package store

import (
	"context"
	"io"
	"iter"
	"time"
)

// A Source reads logs. Its methods may be called concurrently.
type Source interface {
	// Open returns the log of that name as it is now, in one request where the
	// store is remote. A missing log is fs.ErrNotExist, and so is a directory (case
	// OpenMissing); one whose stored form is damaged is ErrCorrupt, from Open or
	// from the File's Range.
	Open(ctx context.Context, name string) (File, error)

	// List yields the entries directly below dir ("." is the root), each once,
	// in ascending byte order of their names unless o says otherwise. An error
	// ends the sequence and comes with a zero Entry. A dir that holds nothing
	// yields nothing where the store has no directories, and fs.ErrNotExist
	// where it has and dir is missing or a log. It may be left at any entry and
	// ranged over again (case ListBreak).
	List(ctx context.Context, dir string, o ListOptions) iter.Seq2[Entry, error]
}

// ListOptions selects what List yields. The zero value is everything, ascending.
type ListOptions struct {
	Desc   bool   // descending byte order
	Before string // only names that sort before this one; "" is no bound
	Limit  int    // at most that many entries; 0 is no limit

	// Unordered yields the entries as they are found, in any order, in memory that
	// does not grow with their number; a log whose two forms are both there may come
	// twice (case ListUnordered). Desc, Before and Limit are not looked at.
	Unordered bool
	// NamesOnly leaves Info zero where the store would have to look at each log
	// for it.
	NamesOnly bool
}

// Entry is a log or a directory directly below the listed one.
type Entry struct {
	Name string // the full name, not only its last element
	Dir  bool
	Info Info // of a log; only what the store knows without opening it
}

// Info describes a log: what is so, or that it is not known (case InfoIsTrue).
type Info struct {
	Size       int64             // plain bytes; -1 when not known without reading more
	Stored     int64             // bytes as the store holds them
	Seekable   bool              // reading from the middle does not cost reading all before it
	ModTime    time.Time         // when the plain bytes last changed; zero when not known
	ChangeTime time.Time         // when the file last changed in any way (ctime); zero when the store has none
	Version    string            // differs whenever the stored form does (case VersionChanges); "" when not known
	Meta       map[string]string // what the store keeps beside the bytes; do not modify
}

// Keys in Info.Meta, for logs of which the store knows it without reading them.
const (
	MetaSHA256 = "sha256" // of the plain bytes, in lower-case hexadecimal
	MetaLines  = "lines"  // their number, in decimal; a last one without '\n' counts
)

// A File is an open log. Info and Range may be called concurrently.
type File interface {
	// Info describes the log as it was when it was opened.
	Info() Info

	// Range reads n plain bytes from offset off: off < 0 counts from the end,
	// n < 0 reads to the end. What lies outside the log is left out, so a range
	// past the end is empty (case Ranges). The reader must be closed, and the
	// context must live as long as it is read. Reading a log that was replaced or
	// removed since Open is ErrChanged where the store cannot keep the old bytes
	// readable.
	Range(ctx context.Context, off, n int64) (io.ReadCloser, error)

	// Close releases the file. Readers from Range must be closed before. A Range
	// or a second Close after it is fs.ErrClosed (case FileAfterClose).
	Close() error
}

// A Sink writes logs. Its methods may be called concurrently.
type Sink interface {
	// Create makes a new, empty log and takes its writer's lock. A name that is
	// taken is fs.ErrExist and leaves the old bytes as they were; a name that
	// somebody is creating is ErrBusy or, in a write-once store, fs.ErrExist from
	// the Seal of all but the first.
	Create(ctx context.Context, name string) (Log, error)

	// Append opens an existing log for more bytes at its end and takes its
	// writer's lock; it changes no byte. A log that has a writer is ErrBusy, a
	// missing one fs.ErrNotExist (case AppendMissing). A write-once store returns
	// errors.ErrUnsupported.
	Append(ctx context.Context, name string) (Log, error)
}

// A Log is a log being written by its one writer. Its methods must not be called
// concurrently.
//
// After a failed Append or Sync the Log is poisoned: it has cut off the bytes
// that were not acknowledged (all since the last successful Sync if a Sync
// failed, else those of the failed Append) or says in the error that it could
// not; every later Append, Sync and Seal returns the first error. Bytes that
// this Log did not write are never cut.
type Log interface {
	// Append adds p at the end, whole or not at all. It does not keep p (case
	// KeepsNoBuffer).
	Append(p []byte) error
	// Size is the number of plain bytes in the log, with what was appended.
	Size() int64
	// Sync returns nil when everything appended survives a loss of power, the
	// name of the log too. A write-once store returns errors.ErrUnsupported, and
	// is none the worse for it.
	Sync() error
	// Seal declares the log finished: Sync where there is one, and publish where
	// nothing was visible before. After it only Close may be called.
	Seal(ctx context.Context) error
	// Close releases the lock and all resources. It publishes nothing, and
	// acknowledges nothing: what neither Sync nor Seal confirmed may be lost. A
	// second Close returns fs.ErrClosed.
	Close() error
}

// A Putter stores a whole log at once.
type Putter interface {
	// Put stores b under name if c holds, else returns ErrChanged and leaves what
	// is there (cases PutConditions, PutConditionsLarge). When Put returns nil, name has exactly b's
	// bytes, durably, and version is the Info.Version they are found under. Readers
	// see the old bytes or the new ones, never a part. A body that does not have
	// the size and hash it claims is ErrChanged, one that fails is its own error,
	// and nothing is stored.
	Put(ctx context.Context, name string, b Body, c Cond) (version string, err error)
}

// A Remover removes logs.
type Remover interface {
	// Remove deletes the log if its Info.Version is version, else returns
	// ErrChanged. A missing log is fs.ErrNotExist (case RemoveConditions).
	Remove(ctx context.Context, name, version string) error
}

// A Mover gives logs other names.
type Mover interface {
	// Move gives the log the name to if its Info.Version is version, else returns
	// ErrChanged. A missing log is fs.ErrNotExist, and a name that is taken
	// fs.ErrExist. The bytes and their ModTime stay. When Move returns nil the log
	// has the new name alone, durably; after a failure it may have both (case
	// MoveConditions). Names of which one ends in ".jsonl" and the other does not are
	// errors.ErrUnsupported.
	Move(ctx context.Context, name, version, to string) error
}

// A Locker hands out the locks that writers take.
type Locker interface {
	// Lock takes the writer's lock of name, whether or not the log exists, or
	// returns ErrBusy at once. unlock must be called once.
	Lock(ctx context.Context, name string) (unlock func() error, err error)
}

// Cond says when a Put may happen: exactly one field must be set. The zero value
// is refused, so that nothing is overwritten by an oversight.
type Cond struct {
	IfAbsent  bool   // only if the name is free
	IfVersion string // only if Info.Version is this
}

// Body is the content of a Put: plain bytes that can be read again, so that a
// store may retry, and whose size and hash are known before, so that a source
// that changes meanwhile is caught.
type Body struct {
	Size    int64
	SHA256  [32]byte
	ModTime time.Time // becomes Info.ModTime (case PutModTime); zero is the time of the Put
	// Open returns a reader of all bytes from the start. It may be called more
	// than once, one after the other.
	Open func() (io.ReadCloser, error)
	// Stored, unless nil, is called by a Put that returns nil, before it does, with
	// the Info.Stored of what it has stored (case PutTellsStored).
	Stored func(n int64)
}

// As returns s, or the first store that s wraps, as a T. It is how optional
// powers are found: a wrapper has a method Unwrap() any that returns what it
// wraps, and shows by its own methods what it changes: one that changes names
// must have every power itself (case PowersSurviveWrapping).
func As[T any](s any) (T, bool) {
	for {
		if t, ok := s.(T); ok {
			return t, true
		}
		w, ok := s.(interface{ Unwrap() any })
		if !ok {
			var zero T
			return zero, false
		}
		s = w.Unwrap()
	}
}
