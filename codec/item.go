package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"time"
	"unicode/utf8"
)

// Types of items that this module interprets. There are others, and more with
// each version of Codex.
const (
	TypeSessionMeta  = "session_meta"
	TypeTurnContext  = "turn_context"
	TypeResponseItem = "response_item"
	TypeEventMsg     = "event_msg"
	TypeCompacted    = "compacted"
	TypeState        = "state" // generation G0 only

	// Plain events only, which have TypeSessionMeta, too.
	TypeUserMessage      = "user_message"
	TypeAssistantMessage = "assistant_message"
	TypeToolCall         = "tool_call"
	TypeToolResult       = "tool_result"
	TypeSystem           = "system"
	TypeError            = "error"
)

// knownStrings saves an allocation for each of these, keys and types.
var knownStrings = func() map[string]string {
	m := make(map[string]string)
	for _, s := range []string{
		"timestamp", "ordinal", "type", "payload", "metadata", "id", "record_type", "item", "seq",
		TypeSessionMeta, TypeTurnContext, TypeResponseItem, TypeEventMsg, TypeCompacted, TypeState,
		TypeUserMessage, TypeAssistantMessage, TypeToolCall, TypeToolResult, TypeSystem, TypeError,
		"world_state", "token_usage_record", "message", "reasoning", "function_call", "function_call_output",
		"item_completed", "token_count", "user", "assistant", "input_text", "output_text", "summary_text",
	} {
		m[s] = s
	}
	return m
}()

// An Item is what one line says.
type Item struct {
	// Timestamp is the time of writing, as it stands there: by Codex always UTC
	// with milliseconds, "2026-11-20T08:41:45.701Z". Empty in bare lines but the
	// first.
	Timestamp string
	// Ordinal numbers the items of a paginated session (G2), with gaps, and plain
	// events; other sessions have none.
	Ordinal    uint64
	HasOrdinal bool
	Type       string
	// Payload is any JSON value, valid but not interpreted: Decode does that. Of a
	// bare line it is the whole object.
	Payload json.RawMessage
	// Metadata is what stands beside the payload of a response item since August
	// 2026, nil if nothing.
	Metadata json.RawMessage
}

// DecodeItem decodes one line, without its '\n'. Lines of 2025 without an envelope
// (G0) get the type that they would have today: TypeSessionMeta for the first,
// TypeState for {"record_type":"state"}, TypeResponseItem for the others. A plain
// event, {"type":"tool_call","item":{…},"seq":3}, has its item as the payload and
// its seq as the ordinal. Unknown types are not an error, unknown keys are dropped
// ([Update] keeps them), and the last of equal keys counts.
//
// An error means that the line is not valid JSON or has not the shape of any
// generation (Codex skips such lines too); it says why and never quotes the line.
// Payload and Metadata are parts of line, not copies. Strings are made valid
// UTF-8; Payload and Metadata are as they are.
func DecodeItem(line []byte) (Item, error) {
	it, _, n, err := decodeItem(line)
	if n > 0 && n < len(line) {
		err = errNotJSON
	}
	if err != nil {
		return Item{}, err
	}
	return it, nil
}

var (
	errNotJSON     = errors.New("not valid JSON")
	errNotObject   = errors.New("not a JSON object")
	errNoTimestamp = errors.New("an item without a timestamp")
	errNoType      = errors.New("an item without a type")
	errNoPayload   = errors.New("an item without a payload")
	errOrdinal     = errors.New("an item whose ordinal is not a number from 0")
)

// decodeItem decodes the object that b begins with. It returns where that ends,
// white space behind it included, or 0 if there is none, and whether it has an
// envelope of Codex's. With errNoTimestamp the item comes, too: Codex lists a
// session whose first line has none, and does not load it.
func decodeItem(b []byte) (it Item, enveloped bool, n int, err error) {
	s := jsonScanner{b: b}
	if s.skipSpace() != '{' {
		return Item{}, false, 0, errNotObject
	}
	start := s.i
	var timestamp, ordinal, typ, payload, metadata, id, recordType, item, seq []byte
	ok := s.object(0, func(key, value []byte) {
		name, _ := unquote(key)
		switch name {
		case "timestamp":
			timestamp = value
		case "ordinal":
			ordinal = value
		case "type":
			typ = value
		case "payload":
			payload = value
		case "metadata":
			metadata = value
		case "id":
			id = value
		case "record_type":
			recordType = value
		case "item":
			item = value
		case "seq":
			seq = value
		}
	})
	if !ok {
		return Item{}, false, 0, errNotJSON
	}
	it.Payload = b[start:s.i]
	s.skipSpace()
	n = s.i

	it.Timestamp, _ = unquote(timestamp)
	var hasType bool
	it.Type, hasType = unquote(typ)
	switch {
	case payload != nil:
		enveloped = true
		it.Payload = payload
		if !isNull(metadata) {
			it.Metadata = metadata
		}
	case item != nil && hasType:
		it.Payload, ordinal = item, seq
	default:
		it.Type, err = bareType(it, hasType, timestamp != nil, id, recordType)
		if err != nil {
			return Item{}, false, n, err
		}
		return it, false, n, nil
	}
	if !hasType {
		return Item{}, false, n, errNoType
	}
	if !isNull(ordinal) {
		if it.Ordinal, err = strconv.ParseUint(string(ordinal), 10, 64); err != nil {
			return Item{}, false, n, errOrdinal
		}
		it.HasOrdinal = true
	}
	if enveloped && it.Timestamp == "" {
		err = errNoTimestamp
	}
	return it, enveloped, n, err
}

// bareType returns the type that a line without an envelope (G0) would have today.
func bareType(it Item, hasType, hasTimestamp bool, id, recordType []byte) (string, error) {
	_, hasID := unquote(id)
	switch record, ok := unquote(recordType); {
	case ok:
		return record, nil
	case hasType && !hasTimestamp:
		return TypeResponseItem, nil
	case !hasType && hasID && it.Timestamp != "":
		return TypeSessionMeta, nil
	case hasType:
		return "", errNoPayload
	}
	return "", errNoType
}

func isNull(value []byte) bool { return len(value) == 0 || value[0] == 'n' }

// FormatTime writes a time as the timestamps in a session are: in UTC, to the
// millisecond.
func FormatTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }

// AppendItem appends it as one line, '\n' included, in the bytes that Codex would
// write: an envelope with the keys in its order, no white space, nothing escaped
// that need not be (Codex's search looks for "<", not for "\u003c"). It refuses
// an item that Codex could not read back, in particular text that is not UTF-8:
// one such byte makes Codex 0.169 reject the whole file. On error dst comes back
// as it was.
func AppendItem(dst []byte, it Item) ([]byte, error) {
	switch {
	case it.Timestamp == "":
		return dst, errNoTimestamp
	case it.Type == "":
		return dst, errNoType
	case len(it.Payload) == 0:
		return dst, errNoPayload
	}
	line := append(dst, `{"timestamp":`...)
	line = appendString(line, it.Timestamp)
	if it.HasOrdinal {
		line = append(line, `,"ordinal":`...)
		line = strconv.AppendUint(line, it.Ordinal, 10)
	}
	line = append(line, `,"type":`...)
	line = appendString(line, it.Type)
	line = append(line, `,"payload":`...)
	line, err := appendValue(line, it.Payload)
	if err == nil && len(it.Metadata) > 0 {
		line = append(line, `,"metadata":`...)
		line, err = appendValue(line, it.Metadata)
	}
	if err != nil {
		return dst, err
	}
	return append(line, "}\n"...), nil
}

// AppendPlain appends it as one line of plain events, '\n' included: its type, its
// payload as the item and its ordinal as the seq. What else it has is left out, and
// what AppendItem refuses in these is refused. On error dst comes back as it was.
func AppendPlain(dst []byte, it Item) ([]byte, error) {
	switch {
	case it.Type == "":
		return dst, errNoType
	case len(it.Payload) == 0:
		return dst, errNoPayload
	}
	line := append(dst, `{"type":`...)
	line = appendString(line, it.Type)
	line = append(line, `,"item":`...)
	line, err := appendValue(line, it.Payload)
	if err != nil {
		return dst, err
	}
	line = append(line, `,"seq":`...)
	line = strconv.AppendUint(line, it.Ordinal, 10)
	return append(line, "}\n"...), nil
}

// appendString appends s as a JSON string.
func appendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < 0x20 || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			var b bytes.Buffer
			enc := json.NewEncoder(&b)
			enc.SetEscapeHTML(false)
			_ = enc.Encode(s) // a string always encodes, into memory too
			return append(dst, bytes.TrimSuffix(b.Bytes(), newline)...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

// appendValue appends a JSON value without white space.
func appendValue(dst []byte, value json.RawMessage) ([]byte, error) {
	s := jsonScanner{b: value}
	ok := s.value(0)
	if s.skipSpace(); !ok || s.i < len(value) {
		return dst, errNotJSON
	}
	if !utf8.Valid(value) {
		return dst, errNotUTF8
	}
	if !s.space {
		return append(dst, value...), nil
	}
	b := bytes.NewBuffer(dst)
	err := json.Compact(b, value)
	return b.Bytes(), err
}

var errNotUTF8 = errors.New("not valid UTF-8")
