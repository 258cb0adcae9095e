// Package recorder records a session through a [store.Sink], in Codex's own
// format: lines that every Codex from 0.34 on lists, reads and resumes.
//
// # Guarantees
//
//   - The lines of a session are in the order in which Record was called, those
//     of one call together; none is torn and none is written twice.
//   - When Flush returns nil, everything recorded before it is durable: it is in
//     the log and Sync confirmed it. On a write-once store, which cannot do that,
//     it is in the store's spool and becomes durable and visible when Close seals.
//   - The first error of the store is final: that call and every later one return
//     it, and what no Flush confirmed may be lost. Nothing is lost silently.
//   - Memory is bounded: Record waits for the store when 1 MiB is pending.
//   - The name is known at once, the file is made with the first line to write. A
//     session into which nothing is recorded leaves no file.
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
	// Now tells the time; nil is time.Now. The location of its times is the one
	// whose wall clock names the file of a new session.
	Now func() time.Time
}

func (o *Options) clock() func() time.Time {
	if o == nil || o.Now == nil {
		return time.Now
	}
	return o.Now
}

// maxPending is how many bytes may wait in memory before Record has to write.
const maxPending = 1 << 20

// A Recorder records one session. Its methods may be called concurrently.
type Recorder struct {
	sink      store.Sink
	name      string
	id        uuid.UUID
	now       func() time.Time
	paginated bool

	// turn holds a token while somebody uses the fields below it. It is a lock
	// that can be waited for with a context. Who has it may lock mu, not the
	// other way round, so that recording goes on while the log is synced.
	turn    chan struct{}
	log     store.Log // nil until the file is made
	spare   []byte    // the other buffer: one is filled while one is written
	written int64     // items in the log
	flushed int64     // of them, items that need no further Flush

	mu       sync.Mutex
	pending  []byte // lines for the log
	recorded int64  // items ever accepted; those after written are in pending
	ordinal  uint64 // of the last item, in a paginated session
	closed   bool
	err      error // the first failure of the store
}

// newRecorder returns a recorder whose first write begins with lead.
func newRecorder(sink store.Sink, name string, id uuid.UUID, lead []byte, o *Options) *Recorder {
	return &Recorder{
		sink: sink, name: name, id: id, now: o.clock(),
		turn: make(chan struct{}, 1), pending: lead,
	}
}

// New returns a recorder of a new session. It does no I/O: the file is made by
// the first write, in sessions/YYYY/MM/DD of the local date. If the name is taken
// by then, that write returns fs.ErrExist.
func New(sink store.Sink, m Meta, o *Options) (*Recorder, error) {
	now := o.clock()()
	if m.ID == uuid.Nil {
		id, err := uuid.NewV7()
		if err != nil {
			return nil, err
		}
		m.ID = id
	}
	line, err := m.line(now)
	if err != nil {
		return nil, err
	}
	name := codec.NewName(now, m.ID).String()
	name = path.Join("sessions", now.Format("2006/01/02"), name)
	return newRecorder(sink, name, m.ID, line, o), nil
}

// Name is the name of the session's log in the store.
func (r *Recorder) Name() string { return r.name }

// ID is the session's id.
func (r *Recorder) ID() uuid.UUID { return r.id }

// Record adds items at the end of the session, all or none. An item without a
// timestamp gets the time of the call, and each gets the ordinal that it has to
// have: the next one in a paginated session, else none. An item that Codex could
// not read back is refused. Payloads are not kept after the call.
//
// Items are held in memory until Flush or Close, or until 1 MiB is pending:
// then Record waits for it to be written, before it takes more.
func (r *Recorder) Record(ctx context.Context, items ...codec.Item) error {
	if err := ctx.Err(); err != nil {
		return store.Wrap("record", r.name, err)
	}
	for {
		r.mu.Lock()
		if err := r.usable(); err != nil {
			r.mu.Unlock()
			return err
		}
		if len(r.pending) < maxPending || r.recorded == 0 {
			err := r.accept(items)
			r.mu.Unlock()
			return store.Wrap("record", r.name, err)
		}
		r.mu.Unlock()
		if err := r.drain(ctx); err != nil {
			return err
		}
	}
}

// usable reports why nothing more can be recorded. The caller holds mu.
func (r *Recorder) usable() error {
	if r.closed {
		return store.Wrap("record", r.name, fs.ErrClosed)
	}
	return r.err
}

// accept encodes items into pending. The caller holds mu.
func (r *Recorder) accept(items []codec.Item) (err error) {
	lines, ordinal := r.pending, r.ordinal
	now := formatTime(r.now())
	for _, it := range items {
		if it.Timestamp == "" {
			it.Timestamp = now
		}
		it.HasOrdinal = r.paginated
		if r.paginated {
			if ordinal == math.MaxUint64 {
				return errors.New("no ordinal is left")
			}
			ordinal++
			it.Ordinal = ordinal
		}
		if lines, err = codec.AppendItem(lines, it); err != nil {
			return err
		}
	}
	r.pending, r.ordinal = lines, ordinal
	r.recorded += int64(len(items))
	return nil
}

// drain writes what is pending.
func (r *Recorder) drain(ctx context.Context) error {
	if err := r.take(ctx); err != nil {
		return err
	}
	defer r.give()
	return r.write(ctx)
}

// take waits for the turn.
func (r *Recorder) take(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return store.Wrap("record", r.name, err)
	}
	select {
	case r.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return store.Wrap("record", r.name, ctx.Err())
	}
}

func (r *Recorder) give() { <-r.turn }

// write moves everything pending into the log, which it makes if there is none.
// The caller has the turn.
func (r *Recorder) write(ctx context.Context) error {
	r.mu.Lock()
	err, none := r.err, len(r.pending) == 0
	r.mu.Unlock()
	if err != nil || none {
		return err
	}
	if r.log == nil {
		log, err := r.sink.Create(ctx, r.name)
		switch {
		case err != nil && ended(ctx, err):
			return err
		case err != nil:
			return r.fail(err)
		}
		r.log = log
	}
	r.mu.Lock()
	lines, recorded := r.pending, r.recorded
	r.pending = r.spare[:0]
	r.mu.Unlock()

	err = r.log.Append(lines)
	if r.spare = lines; cap(lines) > 2*maxPending {
		r.spare = nil // of one big item; not to be kept for all time
	}
	if err != nil {
		return r.fail(err)
	}
	r.written = recorded
	return nil
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

// Flush returns nil when everything recorded before it is durable (see the package
// comment for write-once stores). Callers at one time share one Sync. Nothing
// recorded, nothing done: no file is made.
func (r *Recorder) Flush(ctx context.Context) error {
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
	if r.flushed >= recorded {
		return nil // by somebody else, while we waited for the turn, or long ago
	}
	if err := r.write(ctx); err != nil {
		return err
	}
	if err := r.log.Sync(); err != nil && !errors.Is(err, errors.ErrUnsupported) {
		return r.fail(err)
	}
	r.flushed = r.written
	return nil
}

// Close writes what is pending, seals the log, which makes it durable and, in a
// write-once store, visible, and releases the writer's lock. When it returns an
// error of the store the recorder is closed all the same; when ctx ended first it
// is not, and Close has to be called again. After it every call returns an error
// that is fs.ErrClosed.
func (r *Recorder) Close(ctx context.Context) error {
	if err := r.take(ctx); err != nil {
		return err
	}
	defer r.give()
	r.mu.Lock()
	closed, err := r.closed, r.err
	r.closed = true // nothing more is recorded
	idle := r.recorded == 0
	r.mu.Unlock()
	if closed {
		return store.Wrap("close", r.name, fs.ErrClosed)
	}
	if err == nil && !idle {
		err = r.write(ctx)
	}
	if err == nil && r.log != nil {
		err = r.log.Seal(ctx)
	}
	if err != nil && ended(ctx, err) {
		r.mu.Lock()
		r.closed = false
		r.mu.Unlock()
		return err
	}
	if err == nil {
		r.flushed = r.written
	} else {
		_ = r.fail(err)
	}
	if r.log != nil {
		err = errors.Join(err, r.log.Close())
	}
	return store.Wrap("close", r.name, err)
}
