// Package storetest is the conformance suite of package store: what a store has
// to do to be used by the recorder, listing, replay and mirror. Anyone who writes
// a store, or wraps one, runs it on theirs:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) storetest.Harness {
//			dir := t.TempDir()
//			return storetest.Harness{
//				Store:  mystore.New(dir),
//				Reopen: func() storetest.Store { return mystore.New(dir) },
//			}
//		})
//	}
//
// A program without go test, such as one that looks at a user's own bucket, runs
// each of [Cases] by [Case.Check].
//
// Every case is one rule of the contract, and package store says which holds
// which guarantee. Three things that package store promises are not to be seen
// from here, and are left to the store's own tests: what survives a loss of power,
// that damage is [store.ErrCorrupt], and that a refusal of the system or service
// is fs.ErrPermission.
package storetest

import (
	"context"
	"slices"
	"testing"

	"github.com/rollout-sync/rollout/store"
)

// Store is what every store implements. Optional powers are found with store.As
// and tested where they are there.
type Store interface {
	store.Source
	store.Sink
}

// Harness is a store to be tested, and what the suite cannot find out by itself.
// Only Store must be set.
type Harness struct {
	// Store is empty and used by one case only.
	Store Store
	// Reopen returns another Store on the same data, such as a second process has
	// while the first goes on; nil where there can be none.
	Reopen func() Store
	// Fail makes the next append, or sync, of stored bytes fail with err below the
	// store, an append after some of the bytes; nil where a test cannot do that.
	Fail func(op Op, err error)
	// WriteOnce is true of a store in which a log becomes visible at Seal and
	// never grows.
	WriteOnce bool
	// FoldsCase is true of a store that takes "A" and "a" for the same name, as
	// the file systems of macOS and Windows do.
	FoldsCase bool
	// LongLine is the length of the line of case LongLine; 0 is 16 MiB, more than
	// any buffer and several frames of a sealed log, and quick.
	LongLine int
}

// Op is what Harness.Fail makes fail.
type Op int

// The operations of a Log that change what is stored.
const (
	OpAppend Op = iota + 1
	OpSync
)

// Case is one rule of the contract.
type Case struct {
	Name string
	Rule string // printed when the case fails
	// Applies reports whether the rule concerns the store; nil: all stores.
	Applies func(Harness) bool
	test    func(T, Harness)
}

// T is what a case needs of a *testing.T, and what Check is for it.
type T interface {
	Helper()
	// Context is for the calls of a case that are not about contexts.
	Context() context.Context
	Cleanup(func())
	Failed() bool
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any) // must be called by the case's own goroutine
}

// Run runs every case that applies, in parallel, each on a harness of its own.
// A case that does not concern the store is not run at all, so that the output
// of go test -v lists what was tested; open is called once more than there are
// cases, to find that out.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	t.Helper()
	about := open(t)
	for _, c := range cases {
		if c.Applies != nil && !c.Applies(about) {
			continue
		}
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("the rule: %s", c.Rule)
				}
			})
			c.test(t, open(t))
		})
	}
}

// Cases returns all cases in the order in which Run runs them.
func Cases() []Case { return slices.Clone(cases) }

func appendable(h Harness) bool    { return !h.WriteOnce }
func writeOnce(h Harness) bool     { return h.WriteOnce }
func caseSensitive(h Harness) bool { return !h.FoldsCase }
func failing(h Harness) bool       { return h.Fail != nil && !h.WriteOnce }

func can[T any](h Harness) bool {
	_, ok := store.As[T](h.Store)
	return ok
}

var cases = []Case{
	{"RoundTrip", "what was appended and sealed is read back, byte for byte", nil, testRoundTrip},
	{"EmptyLog", "a log that was sealed without a byte is there and empty", nil, testEmptyLog},
	{"LargeLog", "a log of many megabytes that hardly compress is read back whole, and from the middle", nil, testLargeLog},
	{"LongLine", "one Append of many megabytes is read back whole, and what follows it", nil, testLongLine},
	{"KeepsNoBuffer", "Append does not keep the caller's slice", nil, testKeepsNoBuffer},

	{"CallOrder", "Append, Sync, Seal and Close in any order do what each says; after Seal all but Close, and after Close all, is fs.ErrClosed", nil, testCallOrder},
	{"AppendIsVisible", "an Append is visible to whoever opens the log next", appendable, testAppendIsVisible},
	{"NothingBeforeSeal", "nothing of a log is visible before Seal, and never if it is closed without", writeOnce, testNothingBeforeSeal},
	{"SyncOrUnsupported", "Sync makes durable, or is errors.ErrUnsupported and does no harm", nil, testSyncOrUnsupported},
	{"SealedStays", "a sealed log is not changed by anything that was refused", nil, testSealedStays},
	{"Poisoned", "after a failed Append or Sync the log has what was acknowledged, and every later call returns the first error", failing, testPoisoned},

	{"CreateTaken", "Create of a name that is taken is fs.ErrExist and leaves the old bytes", nil, testCreateTaken},
	{"CreateTwice", "of two Logs of one new name one is refused: ErrBusy at Create, or fs.ErrExist at Seal", nil, testCreateTwice},
	{"OneWriterWins", "of many who create one name at once exactly one seals it, and its bytes are whole", nil, testOneWriterWins},
	{"ManyLogs", "many logs written at once do not disturb each other", nil, testManyLogs},
	{"AppendBusy", "a log with a writer is ErrBusy for another, until the first closes", appendable, testAppendBusy},
	{"AppendContinues", "Append changes no byte, and what it adds comes after what was there", appendable, testAppendContinues},
	{"AppendMissing", "Append to a missing log is fs.ErrNotExist, or errors.ErrUnsupported", nil, testAppendMissing},

	{"OpenMissing", "Open of what is not there is fs.ErrNotExist, also of a directory", nil, testOpenMissing},
	{"ReadAfterWrite", "what was written, replaced or removed is so for every Open and List that begins later, in every Store on the data", nil, testReadAfterWrite},
	{"Ranges", "Range reads inside, to the end, from the end, and nothing past it", nil, testRanges},
	{"RangesAtOnce", "the readers of one File do not disturb each other, nor does Info", nil, testRangesAtOnce},
	{"FileIsOneVersion", "a File shows the log as it was when it was opened, or is ErrChanged; never a mixture", nil, testFileIsOneVersion},
	{"FileAfterClose", "after File.Close reading is fs.ErrClosed, and so is a second Close", nil, testFileAfterClose},
	{"InfoIsTrue", "Info, of Open or List, says of a log what is so or that it does not know", nil, testInfoIsTrue},
	{"VersionChanges", "Info.Version changes when the bytes do", nil, testVersionChanges},

	{"ListOrder", "List yields what lies directly below a directory, each once, in byte order", nil, testListOrder},
	{"ListNewestFirst", "List obeys Desc, Before and Limit, also together", nil, testListNewestFirst},
	{"ListUnordered", "an unordered List yields the same, each at most twice, and so does one of names only", nil, testListUnordered},
	{"ListBreak", "a List may be left at every position and ranged again", nil, testListBreak},
	{"ListCancelled", "a List whose context ends has all entries or ends with the context's error", nil, testListCancelled},
	{"ListWhileWriting", "who lists may write, and who writes never shows in a List as a part, twice, or under another name", nil, testListWhileWriting},

	{"BadNames", "a name outside the grammar is ErrInvalidName in every method", nil, testBadNames},
	{"GoodNames", "every name in the grammar means a log of its own, up to the limits of length", nil, testGoodNames},
	{"NamesByCase", "names that differ by case only are two names", caseSensitive, testNamesByCase},
	{"StoredForm", "a name in .jsonl.zst means the stored bytes; the log is listed once, under the name that Open takes", can[store.Putter], testStoredForm},

	{"PutConditions", "Put happens if its condition holds, else ErrChanged and the old bytes; no condition is refused", can[store.Putter], testPutConditions},
	{"PutConditionsLarge", "the same holds for what is so large that it is sent in parts", can[store.Putter], testPutConditionsLarge},
	{"PutChangedBody", "a body without the size and hash it claims is ErrChanged and leaves no trace", can[store.Putter], testPutChangedBody},
	{"PutFailingBody", "a body's own error is returned, after one try, and leaves no trace", can[store.Putter], testPutFailingBody},
	{"PutCancelled", "a Put whose context ends during the body leaves no trace", can[store.Putter], testPutCancelled},
	{"PutOneWins", "of many who Put one free name at once exactly one succeeds", can[store.Putter], testPutOneWins},
	{"PutBody", "Put closes what it opens, one reader after the other, and a body may be put again", can[store.Putter], testPutBody},
	{"PutModTime", "Put keeps the body's time", can[store.Putter], testPutModTime},
	{"PutTellsStored", "Put tells how many bytes are stored, once it has", can[store.Putter], testPutTellsStored},
	{"RemoveConditions", "Remove removes the version it names, and nothing else", can[store.Remover], testRemoveConditions},
	{"MoveConditions", "Move gives the version it names another name, if that is free, and nothing else", can[store.Mover], testMoveConditions},
	{"LockExcludes", "Lock is ErrBusy while it is held, by a writer too", can[store.Locker], testLockExcludes},

	{"Cancelled", "a context that is done before a call leaves no effect", nil, testCancelled},
	{"Errors", "an error is of its kind by errors.Is, and names its operation and its log once", nil, testErrors},
	{"PowersSurviveWrapping", "what As finds through a wrapper acts on the logs of the store", nil, testPowersSurviveWrapping},
	{"NothingLeft", "no goroutine and no descriptor is left by what was closed, refused or cancelled", nil, testNothingLeft},
}
