package replay

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
	"unicode/utf8"

	"github.com/rollout-sync/rollout/codec"
)

// A glance is what the beginning of a line tells, if it is as Codex writes it: with
// its keys in their order, and no white space.
type glance struct {
	kind glanceKind
	end  int    // how much was looked at
	id   []byte // of the call, with glanceCommand
}

type glanceKind int

const (
	glanceNothing glanceKind = iota // all of it has to be read
	glanceEntry                     // an entry that is no message and no part of a call, or none
	glanceMessage                   // a response item that is a message, or part of one
	glanceUser                      // an event that is a message, of a role
	glanceAssistant
	glanceReasoning
	glanceCall    // a call of a tool
	glanceOutput  // of a call
	glanceCommand // an event that tells how a call of a shell ended
	glanceTokens  // a token_count
	glanceRecord  // a token_usage_record
	glanceContext // a turn_context
)

// headLen is how much of a line is looked at.
const headLen = 512

// recordStart is how Codex begins a record, see [codec.Records].
const recordStart = `{"timestamp":`

// glanceAt looks at the beginning of a line.
func glanceAt(head []byte) (g glance) {
	r := reading{head, true}
	r.skip(recordStart)
	r.text()
	if r.skipIf(`,"ordinal":`) {
		r.number()
	}
	r.skip(`,"type":`)
	typ := r.text()
	r.skip(`,"payload":`)
	switch string(typ) {
	case codec.TypeResponseItem:
		r.skip(`{"type":`)
		switch string(r.text()) {
		case "message", "reasoning":
			g.kind = glanceMessage
		case "function_call_output", "custom_tool_call_output", "tool_search_output":
			g.kind = glanceOutput
		case "function_call", "custom_tool_call":
			g.kind = glanceCall
		}
	case codec.TypeEventMsg:
		r.skip(`{"type":`)
		switch string(r.text()) {
		case "token_count":
			g.kind = glanceTokens
		case "user_message":
			g.kind = glanceUser
		case "agent_message":
			g.kind = glanceAssistant
		case "agent_reasoning", "agent_reasoning_raw_content":
			g.kind = glanceReasoning
		case "item_completed":
			g = glanceAtItem(&r)
		case "thread_settings_applied":
			g.kind = glanceEntry
		}
	case codec.TypeTurnContext:
		g.kind = glanceContext
		r.skip("{")
		for r.skipIf(`"turn_id":`) || r.skipIf(`"root_turn_id":`) {
			r.text()
			r.skip(",")
		}
	case "token_usage_record":
		g.kind = glanceRecord
	case codec.TypeSessionMeta, codec.TypeCompacted, "world_state", "retained_context", "security_risk_score",
		"inter_agent_communication_metadata":
		g.kind = glanceEntry
	}
	g.end = len(head) - len(r.b) // in front of a brace that may be a glued record's
	if !r.ok {
		g.kind = glanceNothing
	}
	return g
}

// glanceAtItem goes on with an item_completed.
func glanceAtItem(r *reading) (g glance) {
	for r.skipIf(`,"thread_id":`) || r.skipIf(`,"turn_id":`) {
		r.text()
	}
	r.skip(`,"item":{"type":`)
	switch string(r.text()) {
	case "UserMessage":
		g.kind = glanceUser
	case "AgentMessage":
		g.kind = glanceAssistant
	case "Reasoning":
		g.kind = glanceReasoning
	case "CommandExecution":
		g.kind = glanceCommand
		r.skip(`,"id":`)
		g.id = r.text()
		r.ok = r.ok && isPlain(g.id)
	}
	return g
}

// A reading is what is left to be read of a line. Once it is not as expected, ok is
// false.
type reading struct {
	b  []byte
	ok bool
}

// skipIf goes past text, if that comes next.
func (r *reading) skipIf(text string) bool {
	if len(r.b) < len(text) || string(r.b[:len(text)]) != text {
		return false
	}
	r.b = r.b[len(text):]
	return true
}

func (r *reading) skip(text string) { r.ok = r.skipIf(text) && r.ok }

// text goes past a string that is not empty, and returns it as it stands there. One with
// quotes in it makes that what follows is not as expected.
func (r *reading) text() []byte {
	if r.skipIf(`"`) {
		if i := bytes.IndexByte(r.b, '"'); i > 0 {
			text := r.b[:i]
			r.b = r.b[i+1:]
			return text
		}
	}
	r.ok = false
	return nil
}

// isPlain tells whether the inside of a string is what it says.
func isPlain(text []byte) bool {
	for _, c := range text {
		if c < 0x20 || c == '\\' || c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// number goes past a number from 0 on, of at most 18 digits, and returns it.
func (r *reading) number() int64 {
	n, i := int64(0), 0
	for ; i < len(r.b) && i < 18 && '0' <= r.b[i] && r.b[i] <= '9'; i++ {
		n = 10*n + int64(r.b[i]-'0')
	}
	if i == 0 || i > 1 && r.b[0] == '0' {
		r.ok = false
	}
	r.b = r.b[i:]
	return n
}

// A tokenCount is what a token_count or a token_usage_record tells.
type tokenCount struct {
	total, last       codec.TokenUsage
	hasTotal, hasLast bool
}

// tokenCountOf returns what a token_count tells, of which b is what stands behind its
// type, if that is as expected and the line ends as it should.
func tokenCountOf(b []byte) (c tokenCount, ok bool) {
	r := reading{b, true}
	if c.hasTotal = !r.skipIf(`,"info":null`); c.hasTotal {
		r.skip(`,"info":{"total_token_usage":`)
		r.usage(&c.total)
		if c.hasLast = r.skipIf(`,"last_token_usage":`); c.hasLast {
			r.usage(&c.last)
		}
		r.skip(`,"model_context_window":`)
		if !r.skipIf("null") {
			r.number()
		}
		r.skip("}")
	}
	if !r.ok {
		return c, false
	}
	// Its strings have no braces, and to count them is quick.
	open, closed := bytes.Count(r.b, []byte("{")), bytes.Count(r.b, []byte("}"))
	if open+2 == closed && bytes.HasSuffix(r.b, []byte("}}")) && nextRecord(r.b) < 0 {
		return c, true
	}
	_, ok = closing(r.b, "")
	return c, ok
}

// usageRecordOf returns what a token_usage_record tells, of which b is the payload, if
// that is as expected and the line ends as it should.
func usageRecordOf(b []byte) (c tokenCount, ok bool) {
	c.hasTotal, c.hasLast = true, true
	r := reading{b, true}
	r.skip("{")
	for r.skipIf(`"thread_id":`) || r.skipIf(`"turn_id":`) || r.skipIf(`"session_id":`) || r.skipIf(`"root_turn_id":`) || r.skipIf(`"response_id":`) {
		r.text()
		r.skip(",")
	}
	r.skip(`"usage":`)
	r.usage(&c.last)
	r.skip(`,"turn_token_usage":`)
	r.usage(new(codec.TokenUsage))
	r.skip(`,"thread_token_usage":`)
	r.usage(&c.total)
	return c, r.ok && string(r.b) == "}}"
}

// usage goes past the tokens that were used.
func (r *reading) usage(u *codec.TokenUsage) {
	r.skip(`{"input_tokens":`)
	u.Input = r.number()
	r.skip(`,"cached_input_tokens":`)
	u.CachedInput = r.number()
	if r.skipIf(`,"cache_write_input_tokens":`) {
		u.CacheWriteInput = r.number()
	}
	r.skip(`,"output_tokens":`)
	u.Output = r.number()
	r.skip(`,"reasoning_output_tokens":`)
	u.ReasoningOutput = r.number()
	r.skip(`,"total_tokens":`)
	u.Total = r.number()
	r.skip("}")
}

// callID returns the id of a call, of which b is what stands behind its type, if the
// line ends as it should. The id is empty if there is none.
func callID(b []byte) (id []byte, ok bool) {
	call, end := b, `"}}`
	if i := nextObject(b); i >= 0 {
		// Behind the id Codex 0.150 and later have an object, with none in it.
		const passthrough = `,"internal_chat_message_metadata_passthrough":`
		object := b[i:]
		if !bytes.HasSuffix(b[:i], []byte(passthrough)) || nextObject(object[1:]) >= 0 ||
			!bytes.HasSuffix(object, []byte("}}}")) || bytes.IndexByte(object, '}') != len(object)-3 {
			return closing(b, callIDKey)
		}
		call, end = b[:i-len(passthrough)], `"`
	}
	call, ok = bytes.CutSuffix(call, []byte(end))
	if i := bytes.LastIndexByte(call, '"'); ok && i >= 0 && bytes.HasSuffix(call[:i], []byte(callIDKey)) && isPlain(call[i+1:]) {
		return call[i+1:], true
	}
	return closing(b, callIDKey)
}

const callIDKey = `,"call_id":`

// closing tells whether in b, the rest of a payload, this ends one byte before b does:
// then it is not cut off, and nothing is glued to it. It returns the string that is the
// payload's member of that key, with the comma in front and the colon behind, or
// nothing; one that does not say itself is not ok.
func closing(b []byte, key string) (value []byte, ok bool) {
	depth := 1
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return value, i == len(b)-2 && b[i+1] == '}' && isPlain(value)
			}
		case '"':
			start := i + 1
			if i = stringEnd(b, start); i < 0 {
				return nil, false
			}
			if depth == 1 && key != "" && len(key) < start && string(b[start-1-len(key):start-1]) == key {
				value = b[start:i]
			}
		case '\\': // in no string, as it seems: this is glued to one
			return nil, false
		}
	}
	return nil, false
}

// stringEnd returns where the string ends whose inside begins at b[i], or -1.
func stringEnd(b []byte, i int) int {
	for start := i; ; i++ {
		n := bytes.IndexByte(b[i:], '"')
		if n < 0 {
			return -1
		}
		i += n
		slashes := 0
		for j := i - 1; j >= start && b[j] == '\\'; j-- {
			slashes++
		}
		if slashes%2 == 0 {
			return i
		}
	}
}

// nextRecord returns where in b a record may begin, -1 if nowhere.
func nextRecord(b []byte) int {
	for i := 0; ; i++ {
		n := nextObject(b[i:])
		if n < 0 {
			return -1
		}
		if i += n; bytes.HasPrefix(b[i:], []byte(recordStart)) {
			return i
		}
	}
}

// nextObject returns where in b an object begins that has a member, -1 if nowhere: a
// brace in front of a quote, which in a string has a backslash.
func nextObject(b []byte) int {
	const window = 32
	// Window by window through what has many quotes, and from there to the next quote,
	// which is far where a long string begins. To go from brace to brace takes longer: code
	// has many, and each costs as much as some hundred bytes.
	for i, block := 0, 4*window; ; {
		for end := i + block; i < end && len(b)-i > window; i += window {
			p := (*[window + 1]byte)(b[i:])
			m0, m1, m2, m3 := braceQuote(p[0:9]), braceQuote(p[8:17]), braceQuote(p[16:25]), braceQuote(p[24:33])
			switch {
			case m0|m1|m2|m3 == 0:
				continue
			case m0 != 0:
				return i + bits.TrailingZeros64(m0)/8
			case m1 != 0:
				return i + 8 + bits.TrailingZeros64(m1)/8
			case m2 != 0:
				return i + 16 + bits.TrailingZeros64(m2)/8
			}
			return i + 24 + bits.TrailingZeros64(m3)/8
		}
		if len(b)-i <= window {
			for ; i < len(b)-1; i++ {
				if b[i] == '{' && b[i+1] == '"' {
					return i
				}
			}
			return -1
		}
		n := bytes.IndexByte(b[i+1:], '"')
		if n < 0 {
			return -1
		}
		if i += n; n < 8*window {
			block *= 2
		}
	}
}

// braceQuote looks at eight places at once, and at the byte behind. It sets the top bit
// of the first byte that is a brace in front of a quote, and only above it perhaps a
// wrong one: 0 means that there is none.
func braceQuote(b []byte) uint64 {
	const lo, hi = 0x0101010101010101, 0x8080808080808080
	zero := binary.LittleEndian.Uint64(b[:8]) ^ lo*'{' | binary.LittleEndian.Uint64(b[1:9]) ^ lo*'"'
	return (zero - lo) &^ zero & hi
}

// appendContext appends what a turn_context begins with behind its turn, up to its
// model: where the same stands, cwd and model are the same. It appends nothing if the
// line is not as expected.
func appendContext(dst, line []byte, c *codec.TurnContext) []byte {
	g := glanceAt(line[:min(len(line), headLen)])
	if g.kind != glanceContext || c.Cwd == "" || !isPlain([]byte(c.Model)) || c.Model == "" {
		return dst
	}
	rest, key := line[g.end:], `,"model":"`+c.Model+`"`
	i := bytes.Index(rest, []byte(key))
	if i < 0 {
		return dst
	}
	// Both must be the payload's own.
	front := slices.Concat([]byte(","), rest[:i], []byte("}}"))
	if cwd, ok := closing(front, `,"cwd":`); !ok || string(cwd) != c.Cwd {
		return dst
	}
	return append(dst, rest[:i+len(key)]...)
}
