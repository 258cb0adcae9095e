package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strconv"
)

// Update returns line, without its '\n', so that its payload says what payload
// does, which Item.Decode has returned for this line and the caller has changed.
// Only the values that differ are written anew, compact; every other byte stays,
// so an unchanged payload gives the line's exact bytes: unknown members, the order
// of keys, spellings of numbers, white space, invalid UTF-8. A map or slice whose
// length changes, and an object that loses a member, is written anew as a whole.
func Update(line []byte, payload any) ([]byte, error) {
	it, err := DecodeItem(line)
	if err != nil {
		return nil, err
	}
	before, _ := it.Decode()
	if reflect.TypeOf(payload) != reflect.TypeOf(before) {
		return nil, errPayloadType
	}
	raw := it.Payload
	if u, ok := before.(*Unknown); ok {
		before, payload = u.Raw, payload.(*Unknown).Raw
	}
	was, err := marshal(before)
	if err != nil {
		return nil, err
	}
	is, err := marshal(payload)
	if err != nil {
		return nil, err
	}
	// The payload is a part of line; its capacity tells which.
	start := cap(line) - cap(raw)
	b := merge(bytes.Clone(line[:start]), raw, was, is)
	return append(b, line[start+len(raw):]...), nil
}

var errPayloadType = errors.New("a payload of another type than the line's")

// marshal returns v as compact JSON in which nothing is escaped that need not be.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	err := enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), newline), err
}

// merge appends raw with those values changed that differ between was and is,
// which say what was understood of raw and what it is to say.
func merge(dst, raw, was, is []byte) []byte {
	if bytes.Equal(was, is) {
		return append(dst, raw...)
	}
	rawParts, wasParts, isParts := parts(raw), parts(was), parts(is)
	if !mergeable(raw, was, is, rawParts, wasParts, isParts) {
		return append(dst, is...)
	}
	at, end := 0, 1 // copied up to; behind the last member
	changed := make(map[string][2][]byte)
	for key, p := range isParts {
		old := wasParts[key]
		if v := [2][]byte{was[old.start:old.end], is[p.start:p.end]}; !bytes.Equal(v[0], v[1]) {
			changed[key] = v
		}
	}
	for _, key := range slices.SortedFunc(maps.Keys(rawParts), rawParts.order) {
		p := rawParts[key]
		end = p.end
		if v, ok := changed[key]; ok {
			dst = append(dst, raw[at:p.start]...)
			dst = merge(dst, raw[p.start:p.end], v[0], v[1])
			at = p.end
			delete(changed, key)
		}
	}
	dst = append(dst, raw[at:end]...)
	for _, key := range slices.SortedFunc(maps.Keys(changed), isParts.order) {
		if dst[len(dst)-1] != '{' {
			dst = append(dst, ',')
		}
		dst = appendString(dst, key)
		dst = append(dst, ':')
		dst = append(dst, changed[key][1]...)
	}
	return append(dst, raw[end:]...)
}

// mergeable tells whether parts of raw can be changed one by one: all three are
// objects and none of the members is lost, or arrays of one length.
func mergeable(raw, was, is []byte, rawParts, wasParts, isParts partMap) bool {
	if rawParts == nil || wasParts == nil || isParts == nil || raw[0] != is[0] || was[0] != is[0] {
		return false
	}
	if is[0] == '[' {
		return len(rawParts) == len(isParts) && len(wasParts) == len(isParts)
	}
	for key := range wasParts {
		if _, ok := isParts[key]; !ok {
			return false
		}
	}
	return true
}

// A partMap has where the values of an object or array lie, by key or index. The
// last of equal keys counts.
type partMap map[string]part

type part struct{ start, end int }

func (m partMap) order(a, b string) int { return m[a].start - m[b].start }

// parts returns nil when text is neither an object nor an array.
func parts(text []byte) partMap {
	d := decoder{jsonScanner: jsonScanner{b: text}}
	m := partMap{}
	add := func(key string) {
		start := d.i
		d.raw()
		m[key] = part{start, d.i}
	}
	switch d.skipSpace() {
	case '{':
		d.members(func(key []byte) { add(string(key)) })
	case '[':
		d.elements(func() { add(strconv.Itoa(len(m))) })
	default:
		return nil
	}
	return m
}
