package replay

import (
	"cmp"
	"encoding/json"
	"maps"
)

// maxOpenCalls is how many calls are remembered that neither wait nor have a
// result.
const maxOpenCalls = 4096

// An openCall is what is known of a call, for its result.
type openCall struct {
	entry  *waitingEntry // nil when it has been yielded
	number int
	name   string
	at     string // the time of its line
	done   bool   // it has its result
	shown  bool   // it was yielded with what an event brought, so its output is not needed
	callEnd
}

// A callEnd is what an event says of the end of a call.
type callEnd struct {
	exitCode   *int64
	failed     bool
	durationMS int64
}

// complete adds to a result what only the event knows.
func (c *callEnd) complete(r *Result) {
	if r.ExitCode == nil {
		r.ExitCode = c.exitCode
	}
	r.Failed = r.Failed || c.failed || r.ExitCode != nil && *r.ExitCode != 0
	r.DurationMS = cmp.Or(c.durationMS, r.DurationMS)
}

// callOf queues a call with what it was called with: JSON, or text.
func (b *entryBuilder) callOf(id, name, arguments string) {
	c := Call{Name: name, Input: toolInput(arguments)}
	if c.Input != arguments {
		c.Arguments = arguments
	}
	b.call(id, Entry{Call: &c})
}

// call queues a call. With an id and without a result it waits for that.
func (b *entryBuilder) call(id string, e Entry) {
	b.release() // perhaps a turn begins
	b.totals.Calls++
	e.Kind, e.Call.Number, e.Call.ID = KindCall, b.totals.Calls, id
	w := &waitingEntry{Entry: e}
	if id != "" {
		w.call = &openCall{entry: w, number: e.Call.Number, name: e.Call.Name, at: b.time, done: e.Result != nil}
		w.open = !w.call.done
		b.remember(id, w.call)
	}
	b.pushWaiting(w)
}

// remember keeps what is known of a call until its turn ends.
func (b *entryBuilder) remember(id string, c *openCall) {
	if len(b.calls) >= maxOpenCalls {
		maps.DeleteFunc(b.calls, func(_ string, c *openCall) bool { return c.entry == nil })
	}
	b.calls[id] = c
}

// callEnded takes what an event says of a call: c if it is the first to tell of it,
// and an output, which is the result unless the call's own output follows.
func (b *entryBuilder) callEnded(id string, c Call, changes map[string]json.RawMessage, output string, end callEnd) {
	r := &Result{Output: output}
	end.complete(r)
	files := fileChanges(changes)
	if b.changed != nil {
		b.changed(files)
	}
	known := b.calls[id]
	if known == nil {
		b.call(id, Entry{Call: &c, Result: r, Files: files})
		return
	}
	if known.entry != nil {
		b.change(known.entry, func(e *Entry) {
			e.Files = append(e.Files, files...)
			if !known.done {
				e.Result = r
			}
		})
	}
	if !known.done {
		known.callEnd = end
	}
}

// result takes what a call brought.
func (b *entryBuilder) result(id string, r Result) {
	known := b.calls[id]
	if known == nil {
		known = &openCall{done: true, at: b.time}
	}
	known.complete(&r)
	r.DurationMS = cmp.Or(r.DurationMS, milliseconds(known.at, b.time))
	if !known.done && known.entry != nil {
		b.release() // perhaps a turn begins, and the call waits no longer
	}
	waits := !known.done && known.entry != nil
	known.done = true
	switch {
	case known.shown:
		known.shown = false
		return
	case !waits:
		b.push(Entry{Kind: KindOutput, Call: &Call{Number: known.number, ID: id, Name: known.name}, Result: &r})
		return
	}
	b.turn.until = cmp.Or(b.time, b.turn.until)
	b.change(known.entry, func(e *Entry) { e.Result = &r })
	known.entry.open = false
	b.drain()
}
