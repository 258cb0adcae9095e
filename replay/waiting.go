package replay

// Limits of what waits for the results of calls.
const (
	maxWaitingBytes   = 1 << 20
	maxWaitingEntries = 1000
)

// An entryQueue yields entries in order: an entry that is not complete keeps back
// those behind it.
type entryQueue struct {
	yield   func(Entry, error) bool
	stopped bool // yield has returned false
	waiting []*waitingEntry
	size    int // of the texts in waiting
}

// A waitingEntry is an entry in the queue.
type waitingEntry struct {
	Entry
	open bool      // it is not complete
	call *openCall // of a call that has an id
}

// add queues an entry, or yields it if nothing is waited for.
func (q *entryQueue) add(w *waitingEntry) {
	q.waiting = append(q.waiting, w)
	q.size += w.size()
	q.drain()
}

// change changes an entry that waits.
func (q *entryQueue) change(w *waitingEntry, f func(*Entry)) {
	q.size -= w.size()
	f(&w.Entry)
	q.size += w.size()
}

// drain yields what is complete, and calls that waited long enough.
func (q *entryQueue) drain() {
	for len(q.waiting) > 0 && !q.stopped {
		w := q.waiting[0]
		tooLong := w.call != nil && (len(q.waiting) > maxWaitingEntries || q.size > maxWaitingBytes)
		if w.open && !tooLong {
			return
		}
		q.waiting[0] = nil
		q.waiting = q.waiting[1:]
		q.size -= w.size()
		if w.call != nil {
			w.call.entry = nil
			w.call.shown = !w.call.done && w.Result != nil
		}
		q.stopped = !q.yield(w.Entry, nil)
	}
}

// giveUp no longer waits for the results of those calls.
func (q *entryQueue) giveUp(which func(*waitingEntry) bool) {
	for _, w := range q.waiting {
		if w.call != nil && which(w) {
			w.open = false
		}
	}
	q.drain()
}
