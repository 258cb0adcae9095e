package replay

import (
	"bytes"
	"hash/maphash"
	"slices"

	"github.com/rollout-sync/rollout/codec"
)

// A Summary is what all lines of a rollout tell together. The numbers are those of
// [Entries] on the same bytes, see [Summarizer].
type Summary struct {
	Size   int64 // plain bytes
	Lines  int64 // a last one without '\n', too
	Turns  int
	Calls  int
	Errors int // entries of KindError
	Files  int // different paths that were changed; of more than 65,536 so many
	Tokens codec.TokenUsage
	// Models and Cwds are the different models and working directories of all turns,
	// in the order in which they first come, at most 64 of each and none over 4 KiB.
	// MoreModels and MoreCwds tell that there are others.
	Models     []string
	MoreModels bool
	Cwds       []string
	MoreCwds   bool
}

const (
	maxFiles    = 1 << 16
	maxDistinct = 64
	maxName     = 4 << 10
)

// A Summarizer sums up a rollout, of any generation, whose plain bytes are written to
// it in pieces of any size. It is made to run beside a compressor, at a small part of
// what that takes: of most lines it reads the beginning alone, by which it knows that
// they cannot change a number, and looks no further than for a record that is glued
// to them. For the others the rules are those of [Entries], and so are the numbers, for
// all that Codex writes and for what a crash leaves of it: lines that are cut off, glued
// to one another, or NUL. They may differ
//
//   - in Calls and Tokens, by a line that was changed between its beginning and its
//     end and is no JSON any more: it counts here;
//   - in Files, by an event with changes that comes when Entries waits for the output of
//     its call no longer, and has no entry for them: they count here;
//   - by keys that stand twice in a line, and by records of other programs on one
//     line with Codex's.
//
// Memory is about 4 MiB and the longest line that may change a number, three times as
// much while that is gathered. A Summarizer is for one goroutine.
type Summarizer struct {
	b       *entryBuilder // it gets the lines that may change a number
	summary Summary
	files   map[uint64]struct{} // hashes of paths
	seed    maphash.Seed
	context []byte // of the last turn_context, from the cwd to the model
	records []codec.Record

	// The line of which a Write had a part only.
	part    []byte // what there is of it, or the end of what was passed over
	passing bool   // it cannot change a number
	reading bool   // it may, so all of it is gathered
	begun   bool   // there is something behind the last '\n'
}

// NewSummarizer returns a Summarizer that has seen nothing.
func NewSummarizer() *Summarizer {
	s := &Summarizer{files: make(map[uint64]struct{}), seed: maphash.MakeSeed()}
	s.b = &entryBuilder{calls: make(map[string]*openCall)}
	s.b.yield = func(e Entry, _ error) bool {
		if e.Kind == KindError {
			s.summary.Errors++
		}
		return true
	}
	s.b.changed = s.file
	return s
}

// Write takes the next bytes of the rollout. It keeps none of p, and never fails.
func (s *Summarizer) Write(p []byte) (int, error) {
	s.summary.Size += int64(len(p))
	for rest := p; len(rest) > 0; {
		i := bytes.IndexByte(rest, '\n')
		if s.begun = i < 0; !s.begun {
			s.summary.Lines++
		}
		switch {
		case i < 0:
			s.gather(rest, false)
			return len(p), nil
		case len(s.part) > 0:
			s.gather(rest[:i], true)
		default:
			s.line(rest[:i])
		}
		rest = rest[i+1:]
	}
	return len(p), nil
}

// Sum ends the rollout and returns its summary. Nothing may be written afterwards.
func (s *Summarizer) Sum() Summary {
	if len(s.part) > 0 {
		s.gather(nil, true)
	}
	if s.begun {
		s.summary.Lines++
	}
	s.b.finish(true)
	t := s.b.totals
	s.summary.Turns, s.summary.Calls, s.summary.Files = t.Turns, t.Calls, len(s.files)
	if t.Tokens != nil {
		s.summary.Tokens = *t.Tokens
	}
	return s.summary
}

// maxKept is how large a buffer is kept for the next line.
const maxKept = 1 << 20

// gather takes a part of a line. What the line is follows from headLen bytes of it, or
// all if it is shorter, however it is cut.
func (s *Summarizer) gather(part []byte, ended bool) {
	for again := true; again; {
		again = false
		if s.passing {
			part = s.passOver(part)
		}
		if s.passing {
			break
		}
		if n := cap(s.part); n > maxKept && len(s.part)+len(part) > n {
			// append would grow by a quarter, and leave as much behind as four lines have.
			s.part = append(make([]byte, 0, 2*n), s.part...)
		}
		s.part = append(s.part, part...)
		if ended || s.reading || len(s.part) < headLen {
			break
		}
		var g glance
		if g, again = s.passes(s.part); again {
			s.passing, part, s.part = true, s.part[g.end:], s.part[:0]
		}
		s.reading = !again
	}
	if !ended {
		return
	}
	if !s.passing {
		s.line(s.part)
	}
	s.passing, s.reading, s.part = false, false, s.part[:0]
	if cap(s.part) > maxKept {
		s.part = nil
	}
}

// passOver passes over a part of a line, up to where a record begins, which it leaves
// to be gathered: the beginning of its first bytes in s.part, and what it returns.
func (s *Summarizer) passOver(part []byte) []byte {
	const most = len(recordStart) - 1 // bytes of its beginning that are not enough
	var room [2 * most]byte
	edge := append(append(room[:0], s.part...), part[:min(len(part), most)]...)
	if i := nextRecord(edge); i >= 0 && i < len(s.part) {
		s.passing, s.part = false, s.part[i:]
		return part
	}
	if i := nextRecord(part); i >= 0 {
		s.passing, s.part = false, s.part[:0]
		return part[i:]
	}
	if len(part) < most {
		part = edge
	}
	s.part = append(s.part[:0], part[max(0, len(part)-most):]...)
	return nil
}

// line takes a line.
func (s *Summarizer) line(line []byte) {
	for len(line) > 0 {
		g, passes := s.passes(line)
		if !passes {
			if !s.counts(g, line) {
				s.read(line)
			}
			return
		}
		line = line[g.end:]
		i := nextRecord(line)
		if i < 0 {
			return
		}
		line = line[i:]
	}
}

// read takes a line that may change a number in a way of its own.
func (s *Summarizer) read(line []byte) {
	s.records = codec.AppendRecords(s.records[:0], codec.Line{Bytes: line, Ended: true})
	for _, rec := range s.records {
		switch {
		case rec.Err == codec.ErrBlank:
			continue
		case rec.Err != nil:
			rec.Item = codec.Item{}
		case rec.Item.Type == codec.TypeTurnContext:
			s.turnContext(rec)
		}
		s.b.item(Item{Item: rec.Item, Line: 1, Err: rec.Err})
	}
	clear(s.records)
}

// passes tells whether a line cannot change a number, and what it is. In the state that
// the builder is in, most cannot, whatever else they say: only messages of the user
// begin turns that no line begins, and only when something else came behind the last
// one.
func (s *Summarizer) passes(line []byte) (glance, bool) {
	g := glanceAt(line[:min(len(line), headLen)])
	b := s.b
	if b.events[roleUser] && g.kind == glanceCall {
		return g, false
	}
	if b.turn.open && !b.turn.explicit && !b.turn.answered || len(b.held) > 0 && b.held[0].role == roleUser {
		return glance{}, false
	}
	switch g.kind {
	case glanceEntry:
		return g, true
	case glanceMessage:
		return g, b.events[roleUser] || b.turn.explicit
	case glanceUser:
		return g, b.events[roleUser] && b.turn.explicit
	case glanceAssistant:
		return g, b.events[roleAssistant]
	case glanceReasoning:
		return g, b.events[roleReasoning]
	case glanceContext:
		return g, len(s.context) > 0 && bytes.HasPrefix(line[g.end:], s.context)
	// Of a call that waits, the output is no entry: it is not known what waits once these
	// are passed over. From the user's first event on that makes no difference.
	case glanceCall:
		return glance{}, false
	case glanceOutput:
		return g, b.events[roleUser]
	case glanceCommand:
		return g, b.events[roleUser] && b.calls[string(g.id)] != nil
	}
	return g, false
}

// passedCall stands for calls of which nothing is known but their ids.
var passedCall = &openCall{done: true}

// counts counts what a line says, if it is easily found, and tells whether it was.
func (s *Summarizer) counts(g glance, line []byte) bool {
	b := s.b
	switch rest := line[g.end:]; g.kind {
	case glanceTokens:
		c, ok := tokenCountOf(rest)
		if ok && !b.records {
			s.tokens(&c)
		}
		return ok
	case glanceRecord:
		c, ok := usageRecordOf(rest)
		if ok {
			b.records = true
			s.tokens(&c)
		}
		return ok
	case glanceCall:
		id, ok := callID(rest)
		if ok {
			b.release()
			b.totals.Calls++
			b.turn.answered = true
		}
		if ok && len(id) > 0 {
			b.remember(string(id), passedCall)
		}
		return ok
	}
	return false
}

func (s *Summarizer) tokens(c *tokenCount) {
	switch {
	case c.hasLast:
		s.b.count(&c.last, &c.total)
	case c.hasTotal:
		s.b.count(nil, &c.total)
	}
}

// turnContext takes what a turn runs with.
func (s *Summarizer) turnContext(rec codec.Record) {
	payload, _ := rec.Item.Decode() // what fits of it
	c := payload.(*codec.TurnContext)
	s.summary.Models, s.summary.MoreModels = distinct(s.summary.Models, s.summary.MoreModels, c.Model)
	s.summary.Cwds, s.summary.MoreCwds = distinct(s.summary.Cwds, s.summary.MoreCwds, c.Cwd)
	s.context = appendContext(s.context[:0], rec.Bytes, c)
}

// distinct adds name to those that are not empty and differ, within limits, and tells
// whether there are more.
func distinct(names []string, more bool, name string) ([]string, bool) {
	switch {
	case name == "" || slices.Contains(names, name):
		return names, more
	case len(names) == maxDistinct || len(name) > maxName:
		return names, true
	}
	return append(names, name), more
}

func (s *Summarizer) file(files []File) {
	for _, f := range files {
		if len(s.files) < maxFiles {
			s.files[maphash.String(s.seed, f.Path)] = struct{}{}
		}
	}
}
