package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
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
)

// knownStrings saves an allocation for each of these, keys and types.
var knownStrings = func() map[string]string {
	m := make(map[string]string)
	for _, s := range []string{
		"timestamp", "ordinal", "type", "payload", "metadata", "id", "record_type",
		TypeSessionMeta, TypeTurnContext, TypeResponseItem, TypeEventMsg, TypeCompacted, TypeState,
		"world_state", "token_usage_record",
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
	// Ordinal numbers the items of a paginated session (G2), with gaps; other
	// sessions have none.
	Ordinal    uint64
	HasOrdinal bool
	Type       string
	// Payload is any JSON value, valid but not interpreted. Of a bare line it is
	// the whole object.
	Payload json.RawMessage
	// Metadata is what stands beside the payload of a response item since August
	// 2026, nil if nothing.
	Metadata json.RawMessage
}

// DecodeItem decodes one line, without its '\n'. Lines of 2025 without an envelope
// (G0) get the type that they would have today: TypeSessionMeta for the first,
// TypeState for {"record_type":"state"}, TypeResponseItem for the others. Unknown
// types are not an error, unknown keys are dropped, and the last of equal keys
// counts.
//
// An error means that the line is not valid JSON or has not the shape of any
// generation (Codex skips such lines too); it says why and never quotes the line.
// Payload and Metadata are parts of line, not copies. Strings are made valid
// UTF-8; Payload and Metadata are as they are.
func DecodeItem(line []byte) (Item, error) {
	it, bare, err := decodeItem(line)
	if err == nil && !bare && it.Timestamp == "" {
		err = errNoTimestamp
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

// decodeItem also takes an envelope without a timestamp, which Codex lists and
// does not load, and tells whether there is an envelope.
func decodeItem(line []byte) (it Item, bare bool, err error) {
	s := jsonScanner{b: line}
	if s.skipSpace() != '{' {
		return Item{}, false, errNotObject
	}
	start := s.i
	var timestamp, ordinal, typ, payload, metadata, id, recordType []byte
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
		}
	})
	end := s.i
	if s.skipSpace(); !ok || s.i < len(line) {
		return Item{}, false, errNotJSON
	}

	it.Timestamp, _ = unquote(timestamp)
	var hasType bool
	it.Type, hasType = unquote(typ)
	if payload != nil {
		if !hasType {
			return Item{}, false, errNoType
		}
		it.Payload = payload
		if !isNull(metadata) {
			it.Metadata = metadata
		}
		if !isNull(ordinal) {
			if it.Ordinal, err = strconv.ParseUint(string(ordinal), 10, 64); err != nil {
				return Item{}, false, errOrdinal
			}
			it.HasOrdinal = true
		}
		return it, false, nil
	}

	it.Payload = line[start:end]
	_, hasID := unquote(id)
	switch record, ok := unquote(recordType); {
	case ok:
		it.Type = record
	case hasType && timestamp == nil:
		it.Type = TypeResponseItem
	case !hasType && hasID && it.Timestamp != "":
		it.Type = TypeSessionMeta
	case hasType:
		return Item{}, false, errNoPayload
	default:
		return Item{}, false, errNoType
	}
	return it, true, nil
}

func isNull(value []byte) bool { return len(value) == 0 || value[0] == 'n' }

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
