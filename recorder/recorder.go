// Package recorder records a session through a [store.Sink], in Codex's own
// format: lines that every Codex from 0.34 on lists, reads and resumes.
//
// # Guarantees
//
//   - The lines of a session are in the order in which Record was called, those
//     of one call together; none is torn and none is written twice, by a retry
//     after a failure neither.
//   - When Flush returns nil, everything recorded before it is as durable as
//     [Options].Sync says. On a write-once store, which cannot sync, it is in the
//     store's spool, and becomes durable and visible when Seal or Close returns
//     nil; of a process that dies before, nothing is left.
//   - The first error of the store is kept: that call and every later one return
//     it, Err shows it, and nothing more is taken. What no Flush confirmed stays
//     in memory for Retry. Nothing is lost silently.
//   - Memory is bounded: 1 MiB may be pending and as much be on its way to the
//     disk. Then Record waits for the store, as long as its context lets it.
//   - The name is known at once, the file is made with the first line to write, or
//     as [Options].AwaitPersist says. A session into which nothing is recorded
//     leaves no file.
//   - A session has one writer, as long as every writer takes the store's lock.
//     A second one gets [store.ErrBusy].
//
// # Contexts
//
// A call whose context ends leaves all of its effect or none, and is not an error
// of the store: it may be made again.
package recorder

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"path"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
)

// Options adjusts a Recorder. The zero value is usable, and so is a nil *Options.
type Options struct {
	// Sync says when what was flushed is put on the disk, and so what a loss of
	// power may take. The death of the process alone takes nothing that was
	// flushed, whatever Sync is.
	//
	//   - 0: in each Flush, which callers at one time share. Nothing that a Flush
	//     confirmed is lost.
	//   - d > 0: at most d after the Flush, in the background, and sooner when
	//     1 MiB has gathered. What was flushed in the last d may be lost; if the
	//     disk refuses it, Err and the next call tell.
	//   - SyncNever: by Seal and Close, or when the system likes to. Everything
	//     since the session was opened may be lost.
	Sync time.Duration

	// Plain records a new session as plain events,
	//
	//	{"type":"tool_call","item":{…},"seq":3}
	//
	// with whatever types the caller gives them and their number in place of the
	// time, for programs that do not read Codex's format. Codex does not read this
	// one. Resume goes on in the format that it finds, and does not look at Plain.
	Plain bool

	// AwaitPersist puts off the file of a new session until Persist, Seal or
	// Close: before, Flush does nothing and returns nil, what is recorded is in
	// memory alone, and when 1 MiB of it is, Record returns ErrNotPersisted. So a
	// session that turns out not to be wanted leaves nothing if its Recorder is
	// dropped without a Close; Close writes what was recorded, since nobody said
	// that it may be lost. A Fork of more than 1 MiB has its file at once, and
	// with Resume, whose session has one, AwaitPersist means nothing.
	AwaitPersist bool

	// Keep tells which items are recorded; the others are dropped. nil keeps all
	// of them, KeepCodex those that Codex would. It gets the item as it was given
	// to Record, and is called by one goroutine at a time.
	Keep func(it codec.Item, paginated bool) bool

	// Durable is called with each batch of lines as soon as it is as durable as
	// Sync says, or, with SyncNever, written: an index fed from it is never ahead
	// of the session. Batches come in order and without a gap, off is where one
	// begins in the log, and the first one of a resumed session may begin with the
	// newline that its last line lacked. lines is valid until Durable returns. It
	// is called by one goroutine at a time, and must not call the Recorder.
	Durable func(off int64, lines []byte)

	// Now tells the time; nil is time.Now. The location of its times is the one
	// whose wall clock names the file of a new session.
	Now func() time.Time
}

// SyncNever is the Options.Sync that leaves it to the system.
const SyncNever time.Duration = -1

// ErrNotPersisted is what Record returns when 1 MiB waits for Persist, see
// Options.AwaitPersist. Nothing was recorded by that call: it may be made again
// after Persist.
var ErrNotPersisted = errors.New("1 MiB waits for Persist")

// maxPending is how many bytes may wait in memory before Record has to write, and
// how many may be written before they are synced.
const maxPending = 1 << 20

// A Recorder records one session. Its methods may be called concurrently.
type Recorder struct {
	sink      store.Sink
	name      string
	id        uuid.UUID
	aside     string
	paginated bool
	o         Options // with Now, and Plain as the session is

	// turn holds a token while somebody uses the fields below it. It is a lock
	// that can be waited for with a context. Who has it may lock mu, not the
	// other way round, so that recording goes on while the log is synced.
	turn      chan struct{}
	log       store.Log // nil until the file is made, and between a failure and its Retry
	made      bool      // there is a file
	size      int64     // of the log when it was closed because of a failure
	confirmed int64     // bytes of the log that need no further Flush
	kept      []byte    // what follows them
	unwritten int       // of kept, bytes at its end that are not in the log
	moved     int64     // items that were moved from pending to kept, ever
	flushed   int64     // items that need no further Flush
	unsynced  bool      // a Sync failed: what is in the log may not be on the disk
	timer     *time.Timer
	armed     bool // timer will sync
	writeOnce bool // the log cannot Sync, and its Seal may be tried again
	sealed    bool

	mu       sync.Mutex
	pending  []byte // lines to be moved to kept
	recorded int64  // items ever accepted
	ordinal  uint64 // of the last item, if they are numbered
	finished bool   // Seal or Close has begun
	closed   bool
	err      error // the first failure of the store since the last Retry
}

// newRecorder returns a recorder whose first write begins with lead.
func newRecorder(sink store.Sink, name string, id uuid.UUID, lead []byte, o *Options) *Recorder {
	r := &Recorder{sink: sink, name: name, id: id, turn: make(chan struct{}, 1), pending: lead}
	if o != nil {
		r.o = *o
	}
	if r.o.Now == nil {
		r.o.Now = time.Now
	}
	return r
}

// New returns a recorder of a new session, of history mode legacy: one file that
// stands on its own. It does no I/O: the file is made by the first write, in
// sessions/YYYY/MM/DD of the local date. If the name is taken by then, that write
// returns fs.ErrExist.
func New(sink store.Sink, m Meta, o *Options) (*Recorder, error) {
	if m.ID == uuid.Nil {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, err
		}
		m.ID = id
	}
	r := newRecorder(sink, "", m.ID, nil, o)
	now := r.o.Now()
	r.name = path.Join("sessions", now.Format("2006/01/02"), codec.NewName(now, m.ID).String())
	meta, err := m.item(now)
	if err == nil {
		r.pending, err = r.appendLine(nil, meta)
	}
	if err != nil {
		return nil, err
	}
	return r, nil
}

// numbered reports whether items have ordinals.
func (r *Recorder) numbered() bool { return r.paginated || r.o.Plain }

// appendLine appends an item as one line.
func (r *Recorder) appendLine(dst []byte, it codec.Item) ([]byte, error) {
	if r.o.Plain {
		return codec.AppendPlain(dst, it)
	}
	return codec.AppendItem(dst, it)
}

// Name is the name of the session's log in the store.
func (r *Recorder) Name() string { return r.name }

// ID is the session's id.
func (r *Recorder) ID() uuid.UUID { return r.id }

// Err returns the first failure of the store since the last Retry, nil if there
// was none.
func (r *Recorder) Err() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

// Record adds items at the end of the session, all or none. An item without a
// timestamp gets the time of the call, and each gets the ordinal that it has to
// have: the next one in a paginated session or one of plain events, else none. An
// item that could not be read back is refused. Payloads are not kept after the
// call.
//
// Items are held in memory until Flush, Seal or Close, or until 1 MiB is pending:
// then Record waits until it is flushed, before it takes more, or returns
// ErrNotPersisted.
func (r *Recorder) Record(ctx context.Context, items ...codec.Item) error {
	return r.record(ctx, func() error { return r.accept(items) })
}

// record calls accept, with mu held, when there is room in pending.
func (r *Recorder) record(ctx context.Context, accept func() error) error {
	if err := ctx.Err(); err != nil {
		return r.wrap("record", err)
	}
	for {
		r.mu.Lock()
		err := r.usable()
		full := len(r.pending) >= maxPending && r.recorded > 0
		if err == nil && !full {
			err = r.wrap("record", accept())
		}
		r.mu.Unlock()
		if err != nil || !full {
			return err
		}
		if err := r.drain(ctx); err != nil {
			return err
		}
	}
}

func (r *Recorder) wrap(op string, err error) error { return store.Wrap(op, r.name, err) }

// usable reports why nothing more can be recorded. The caller holds mu.
func (r *Recorder) usable() error {
	if r.finished {
		return r.wrap("record", fs.ErrClosed)
	}
	return r.err
}

// accept encodes items into pending. The caller holds mu.
func (r *Recorder) accept(items []codec.Item) (err error) {
	lines, ordinal, kept := r.pending, r.ordinal, int64(0)
	now := codec.FormatTime(r.o.Now())
	for _, it := range items {
		if r.o.Keep != nil && !r.o.Keep(it, r.paginated) {
			continue
		}
		if it.Timestamp == "" {
			it.Timestamp = now
		}
		it.HasOrdinal = r.numbered()
		if it.HasOrdinal {
			if ordinal == math.MaxUint64 {
				return errors.New("no ordinal is left")
			}
			ordinal++
			it.Ordinal = ordinal
		}
		if lines, err = r.appendLine(lines, it); err != nil {
			return err
		}
		kept++
	}
	r.pending, r.ordinal = lines, ordinal
	r.recorded += kept
	return nil
}

// drain flushes what is pending.
func (r *Recorder) drain(ctx context.Context) error {
	if err := r.take(ctx); err != nil {
		return err
	}
	defer r.give()
	if r.awaits() {
		return r.wrap("record", ErrNotPersisted)
	}
	return r.commit(ctx)
}

// awaits reports whether only Persist, Seal and Close may make the file. The
// caller has the turn.
func (r *Recorder) awaits() bool { return r.o.AwaitPersist && !r.made }

// take waits for the turn.
func (r *Recorder) take(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return r.wrap("record", err)
	}
	select {
	case r.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return r.wrap("record", ctx.Err())
	}
}

func (r *Recorder) give() { <-r.turn }

// commit writes what is pending and makes it as durable as the policy says. The
// caller has the turn, as for all methods below that use what it guards.
func (r *Recorder) commit(ctx context.Context) error {
	if err := r.write(ctx); err != nil {
		return err
	}
	switch {
	case r.o.Sync < 0:
		r.confirm()
	case r.o.Sync > 0 && len(r.kept) < maxPending:
		r.syncLater()
	default:
		if err := r.sync(); err != nil {
			return err
		}
	}
	r.flushed = r.moved
	return nil
}

// write moves everything pending into the log, which it makes if there is none.
func (r *Recorder) write(ctx context.Context) error {
	if err := r.Err(); err != nil {
		return err
	}
	r.move()
	if r.unwritten == 0 {
		return nil
	}
	if r.log == nil {
		log, err := r.sink.Create(ctx, r.name)
		switch {
		case err != nil && ended(ctx, err):
			return err
		case err != nil:
			return r.fail(err)
		}
		r.log, r.made = log, true
	}
	if err := r.log.Append(r.kept[len(r.kept)-r.unwritten:]); err != nil {
		return r.fail(err)
	}
	r.unwritten = 0
	return nil
}

// move moves what is pending to kept. The two are buffers that are swapped where
// that is possible: one is filled while the other is written.
func (r *Recorder) move() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unwritten += len(r.pending)
	if len(r.kept) == 0 {
		r.kept, r.pending = r.pending, r.kept
	} else {
		r.kept = append(r.kept, r.pending...)
		r.pending = r.pending[:0]
	}
	r.moved = r.recorded
}

// sync makes durable what was written.
func (r *Recorder) sync() error {
	if r.log == nil {
		return nil
	}
	err := r.log.Sync()
	if r.writeOnce = errors.Is(err, errors.ErrUnsupported); err != nil && !r.writeOnce {
		r.unsynced = true
		return r.fail(err)
	}
	r.confirm()
	return nil
}

// syncLater sees to it that what was written is synced in time.
func (r *Recorder) syncLater() {
	if r.armed || len(r.kept) == 0 {
		return
	}
	r.armed = true
	if r.timer != nil {
		r.timer.Reset(r.o.Sync)
		return
	}
	r.timer = time.AfterFunc(r.o.Sync, func() {
		r.turn <- struct{}{}
		defer r.give()
		r.armed = false
		if len(r.kept) > 0 && r.Err() == nil {
			_ = r.sync() // the failure is kept
		}
	})
}

// confirm ends the care for what was written.
func (r *Recorder) confirm() {
	if len(r.kept) == 0 {
		return
	}
	if r.o.Durable != nil {
		r.o.Durable(r.confirmed, r.kept)
	}
	r.confirmed += int64(len(r.kept))
	if r.kept = r.kept[:0]; cap(r.kept) > 2*maxPending {
		r.kept = nil // of one big item; not to be held for all time
	}
}

// ended reports whether err only says that ctx ended: no failure of the store.
func ended(ctx context.Context, err error) bool {
	return ctx.Err() != nil && errors.Is(err, ctx.Err())
}

// fail makes err, a failure of the store, the answer to all that follows.
func (r *Recorder) fail(err error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = err
	return err
}

// Persist makes the session's file now, even if nothing is recorded yet, and is
// otherwise Flush. Once there is a file it is Flush alone.
func (r *Recorder) Persist(ctx context.Context) error { return r.flush(ctx, true) }

// Flush returns nil when everything recorded before it is as durable as
// Options.Sync says (see the package comment for write-once stores). Callers at
// one time share one Sync. Nothing recorded, nothing done: no file is made. Nor is
// one before Persist if Options.AwaitPersist is set, and then nil says nothing.
func (r *Recorder) Flush(ctx context.Context) error { return r.flush(ctx, false) }

func (r *Recorder) flush(ctx context.Context, persist bool) error {
	r.mu.Lock()
	recorded, err := r.recorded, r.usable()
	r.mu.Unlock()
	if err != nil {
		return err
	}
	if err := r.take(ctx); err != nil {
		return err
	}
	defer r.give()
	switch {
	case !persist && r.awaits():
		return nil
	case r.flushed >= recorded && (r.made || !persist):
		return nil // by somebody else, while we waited for the turn, or long ago
	}
	return r.commit(ctx)
}

// Retry makes up for a failure of the store, when its cause, such as a full disk,
// is gone: it opens the log again and writes and syncs what was not confirmed.
// When it returns nil the recorder is as if there had been no failure. It does
// nothing if there was none.
//
// It returns store.ErrChanged if the log is not as this Recorder left it, because
// somebody else wrote to it meanwhile, and an error if the store could not take
// back what it wrote and did not sync; then only Resume helps. In a write-once
// store there is no second chance: it is errors.ErrUnsupported.
func (r *Recorder) Retry(ctx context.Context) error {
	if err := r.take(ctx); err != nil {
		return err
	}
	defer r.give()
	r.mu.Lock()
	err, closed := r.err, r.closed
	r.mu.Unlock()
	if closed {
		return r.wrap("retry", fs.ErrClosed)
	}
	if err == nil {
		return nil
	}
	if err := r.reopen(ctx); err != nil {
		return r.wrap("retry", err)
	}
	_ = r.fail(nil)
	if err := r.write(ctx); err != nil {
		return err
	}
	if err := r.sync(); err != nil {
		return err
	}
	r.flushed = r.moved
	return nil
}

// reopen gets a log that works, and finds out what is not in it.
func (r *Recorder) reopen(ctx context.Context) error {
	if r.log != nil {
		r.size = r.log.Size()
		_ = r.log.Close() // it failed before
		r.log = nil
	}
	if !r.made {
		return nil // write makes it
	}
	log, err := r.sink.Append(ctx, r.name)
	if r.confirmed == 0 && r.size == 0 && errors.Is(err, fs.ErrNotExist) {
		// The store took back a file of which nothing had remained.
		r.made, r.unsynced, r.unwritten = false, false, len(r.kept)
		return nil
	} else if err != nil {
		return err
	}
	switch size := log.Size(); {
	case size != r.size || size < r.confirmed:
		err = fmt.Errorf("%w: it has %d bytes, and %d were left", store.ErrChanged, size, r.size)
	case r.unsynced && size > r.confirmed:
		err = fmt.Errorf("bytes that could not be synced were left after byte %d: %w", r.confirmed, r.Err())
	default:
		r.unwritten = int(r.confirmed + int64(len(r.kept)) - size)
	}
	if err != nil {
		return errors.Join(err, log.Close())
	}
	r.log, r.unsynced = log, false
	return nil
}

// Seal ends the recording: it writes and syncs what is pending and seals the log,
// which in a write-once store publishes it. Once it has begun, nothing more is
// recorded. A Seal that failed may be called again, after Retry if Err tells of a
// failure, and as often as it takes: nothing is lost before Close.
func (r *Recorder) Seal(ctx context.Context) error {
	if err := r.take(ctx); err != nil {
		return err
	}
	defer r.give()
	return r.seal(ctx)
}

func (r *Recorder) seal(ctx context.Context) error {
	r.mu.Lock()
	closed, idle := r.closed, r.recorded == 0
	r.finished = true
	r.mu.Unlock()
	if closed {
		return r.wrap("seal", fs.ErrClosed)
	}
	if r.sealed || idle && r.log == nil && r.Err() == nil {
		return nil
	}
	if !idle {
		if err := r.write(ctx); err != nil {
			return err
		}
	}
	if err := r.Err(); err != nil {
		return err
	}
	if err := r.sync(); err != nil {
		return err
	}
	r.flushed = r.moved
	err := r.log.Seal(ctx)
	if r.sealed = err == nil; r.sealed || r.writeOnce || ended(ctx, err) {
		return err
	}
	return r.fail(err)
}

// Close is Seal, unless that was done, and releases the writer's lock. It does so
// when it fails, too, and then what was not confirmed is lost: who wants to try
// again calls Seal or Retry before. Only when ctx ended is it not closed, and
// Close has to be called again. After it every call returns an error that is
// fs.ErrClosed.
func (r *Recorder) Close(ctx context.Context) error {
	if err := r.take(ctx); err != nil {
		return err
	}
	defer r.give()
	err := r.seal(ctx)
	r.mu.Lock()
	closed := r.closed
	r.closed = err == nil || !ended(ctx, err)
	released := r.closed
	r.mu.Unlock()
	if closed {
		return r.wrap("close", fs.ErrClosed)
	}
	if released {
		err = errors.Join(err, r.release())
	}
	return r.wrap("close", err)
}

// release gives everything back.
func (r *Recorder) release() error {
	if r.timer != nil {
		r.timer.Stop()
	}
	if r.log == nil {
		return nil
	}
	r.size = r.log.Size()
	err := r.log.Close()
	r.log = nil
	return err
}
