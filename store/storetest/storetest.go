// Package storetest is the conformance suite of package store: what a store has
// to do to be used by the recorder, listing, replay and mirror. Anyone who writes
// a store, or wraps one, runs it on theirs:
//
//	func TestStore(t *testing.T) {
//		storetest.Run(t, func(t *testing.T) storetest.Harness {
//			return storetest.Harness{Store: mystore.New(t.TempDir())}
//		})
//	}
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
type Harness struct {
	// Store is empty and used by one case only.
	Store Store
	// WriteOnce is true of a store in which a log becomes visible at Seal and
	// never grows.
	WriteOnce bool
}

// Case is one rule of the contract.
type Case struct {
	Name string
	Rule string // printed when the case fails
	// Applies reports whether the rule concerns the store; nil: all stores.
	Applies func(Harness) bool
	test    func(*testing.T, Harness)
}

// Run runs every case that applies, in parallel, each on a harness of its own.
func Run(t *testing.T, open func(t *testing.T) Harness) {
	for _, c := range cases {
		t.Run(c.Name, func(t *testing.T) {
			t.Parallel()
			h := open(t)
			if c.Applies != nil && !c.Applies(h) {
				return // not a skip: there is nothing here that could be tested
			}
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("the rule: %s", c.Rule)
				}
			})
			c.test(t, h)
		})
	}
}

// Cases returns all cases in the order in which Run runs them.
func Cases() []Case { return slices.Clone(cases) }

func appendable(h Harness) bool { return !h.WriteOnce }
func writeOnce(h Harness) bool  { return h.WriteOnce }

func can[T any](h Harness) bool {
	_, ok := store.As[T](h.Store)
	return ok
}

var cases = []Case{
	{"RoundTrip", "what was appended and sealed is read back, byte for byte", nil, testRoundTrip},
	{"EmptyLog", "a log that was sealed without a byte is there and empty", nil, testEmptyLog},
	{"LargeLog", "a log of many megabytes and a very long line are read back whole, and from the middle", nil, testLargeLog},
	{"AppendIsVisible", "an Append is visible to whoever opens the log next", appendable, testAppendIsVisible},
	{"NothingBeforeSeal", "nothing of a log is visible before Seal, and never if it is closed without", writeOnce, testNothingBeforeSeal},
	{"SyncOrUnsupported", "Sync makes durable, or is errors.ErrUnsupported and does no harm", nil, testSyncOrUnsupported},
	{"CreateTaken", "Create of a name that is taken is fs.ErrExist and leaves the old bytes", nil, testCreateTaken},
	{"OneWriterWins", "of many who create one name at once exactly one seals it, and its bytes are whole", nil, testOneWriterWins},
	{"AppendBusy", "a log with a writer is ErrBusy for another, until the first closes", appendable, testAppendBusy},
	{"AppendContinues", "Append changes no byte, and what it adds comes after what was there", appendable, testAppendContinues},
	{"AppendMissing", "Append to a missing log is fs.ErrNotExist, or errors.ErrUnsupported", nil, testAppendMissing},
	{"UseAfterSeal", "after Seal only Close may be called; the rest is fs.ErrClosed", nil, testUseAfterSeal},
	{"UseAfterClose", "after Close everything is fs.ErrClosed", nil, testUseAfterClose},
	{"KeepsNoBuffer", "Append does not keep the caller's slice", nil, testKeepsNoBuffer},
	{"OpenMissing", "Open of what is not there is fs.ErrNotExist, also of a directory", nil, testOpenMissing},
	{"Ranges", "Range reads inside, to the end, from the end, and nothing past it", nil, testRanges},
	{"ListOrder", "List yields what lies directly below a directory, each once, in byte order", nil, testListOrder},
	{"ListNewestFirst", "List obeys Desc, Before and Limit, also together", nil, testListNewestFirst},
	{"ListBreak", "a List may be left at every position and ranged again", nil, testListBreak},
	{"ListSizes", "List tells no size that is not the log's", nil, testListSizes},
	{"ManyLogs", "many logs written at once do not disturb each other", nil, testManyLogs},
	{"BadNames", "a name outside the grammar is ErrInvalidName in every method", nil, testBadNames},
	{"Cancelled", "a context that is done before a call leaves no effect", nil, testCancelled},
	{"VersionChanges", "Info.Version changes when the bytes do", nil, testVersionChanges},
	{"PutConditions", "Put happens if its condition holds, else ErrChanged and the old bytes; no condition is refused", can[store.Putter], testPutConditions},
	{"PutChangedBody", "a body without the size and hash it claims is ErrChanged and leaves no trace", can[store.Putter], testPutChangedBody},
	{"PutCancelled", "a Put whose context ends during the body leaves no trace", can[store.Putter], testPutCancelled},
	{"PutOneWins", "of many who Put one free name at once exactly one succeeds", can[store.Putter], testPutOneWins},
	{"PutModTime", "Put keeps the body's time", can[store.Putter], testPutModTime},
	{"RemoveConditions", "Remove removes the version it names, and nothing else", can[store.Remover], testRemoveConditions},
	{"LockExcludes", "Lock is ErrBusy while it is held, by a writer too", can[store.Locker], testLockExcludes},
	{"ErrorsNameOnce", "an error names its operation and its log once", nil, testErrorsNameOnce},
	{"PowersSurviveWrapping", "what As finds in a store it finds through a wrapper", nil, testPowersSurviveWrapping},
}

// ctx is for the calls of a case that are not about contexts.
var ctx = context.Background()
