package recorder

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"
	"unicode/utf8"

	"github.com/rollout-sync/rollout/codec"
)

// appendPlain appends an item as a plain event. On error dst comes back as it was.
func appendPlain(dst []byte, it codec.Item) ([]byte, error) {
	if it.Type == "" || len(it.Payload) == 0 {
		return dst, errors.New("an event needs a type and an item")
	}
	if !utf8.Valid(it.Payload) {
		return dst, errors.New("not valid UTF-8")
	}
	b := bytes.NewBuffer(dst)
	b.WriteString(`{"type":`)
	enc := json.NewEncoder(b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(it.Type) // a string always encodes, into memory too
	b.Truncate(b.Len() - 1) // its newline
	b.WriteString(`,"item":`)
	if err := json.Compact(b, it.Payload); err != nil {
		return dst, errors.New("not valid JSON")
	}
	b.WriteString(`,"seq":`)
	b.Write(strconv.AppendUint(nil, it.Ordinal, 10))
	b.WriteString("}\n")
	return b.Bytes(), nil
}

// isPlain reports whether an item was a plain event: Codex's have a time, and its
// bare ones of 2025 no number.
func isPlain(it codec.Item) bool { return it.Timestamp == "" && it.HasOrdinal }
