package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"unicode/utf16"
	"unicode/utf8"
)

// unmarshal decodes text, a JSON value, into what v points to. It differs from
// encoding/json, which takes three times as long, in these ways:
//
//   - keys match as they are written, as in Codex: "Type" is not "type";
//   - a json.RawMessage is a part of text, not a copy;
//   - a member of the wrong type stays zero and the others are decoded still.
//
// Strings become valid UTF-8 as there. It knows the kinds of types that the
// payloads have: no interfaces, arrays, embedded structs or json.Unmarshalers.
// The error is errMember or, for text that is not valid, perhaps errNotJSON: the
// walk that found text has checked it already.
func unmarshal(text []byte, v any) error {
	d := decoder{jsonScanner: jsonScanner{b: text}}
	d.decode(reflect.ValueOf(v).Elem())
	if d.invalid {
		return errNotJSON
	}
	return d.err
}

var errMember = errors.New("a member of an unexpected type")

type decoder struct {
	jsonScanner
	err     error
	invalid bool // stop: the text is not JSON
}

var rawType = reflect.TypeFor[json.RawMessage]()

// decode goes past the next value and sets v to it. null leaves v zero.
func (d *decoder) decode(v reflect.Value) {
	c := d.skipSpace()
	if v.Type() == rawType {
		v.SetBytes(d.raw())
		return
	}
	if c == 'n' {
		d.raw()
		return
	}
	switch v.Kind() {
	case reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		d.decode(v.Elem())
		return
	case reflect.String:
		if s, ok := unquote(d.raw()); ok {
			v.SetString(s)
			return
		}
		d.err = errMember
		return
	case reflect.Struct:
		if c == '{' {
			d.decodeStruct(v)
			return
		}
	case reflect.Slice:
		if c == '[' {
			d.decodeSlice(v)
			return
		}
	case reflect.Map:
		if c == '{' {
			d.decodeMap(v)
			return
		}
	default:
		if text := d.raw(); !d.invalid && !decodeScalar(v, text) {
			d.err = errMember
		}
		return
	}
	d.err = errMember
	d.raw()
}

// raw goes past the next value and returns it.
func (d *decoder) raw() []byte {
	start := d.i
	if !d.value(0) {
		d.invalid = true
		return nil
	}
	return d.b[start:d.i:d.i]
}

// decodeScalar sets v to a number or truth value, if text is one that fits.
func decodeScalar(v reflect.Value, text []byte) bool {
	var err error
	switch v.Kind() {
	case reflect.Bool:
		if text[0] != 't' && text[0] != 'f' {
			return false
		}
		v.SetBool(text[0] == 't')
	case reflect.Int64:
		var n int64
		if n, err = strconv.ParseInt(string(text), 10, 64); err == nil {
			v.SetInt(n)
		}
	case reflect.Uint64:
		var n uint64
		if n, err = strconv.ParseUint(string(text), 10, 64); err == nil {
			v.SetUint(n)
		}
	case reflect.Float64:
		var n float64
		if n, err = strconv.ParseFloat(string(text), 64); err == nil {
			v.SetFloat(n)
		}
	default:
		panic("codec: no payload has a " + v.Type().String())
	}
	return err == nil
}

func (d *decoder) decodeStruct(v reflect.Value) {
	fields := fieldsOf(v.Type())
	d.members(func(key []byte) {
		if i, ok := fields[string(key)]; ok {
			field := v.Field(i)
			field.SetZero() // the last of equal keys counts
			d.decode(field)
			return
		}
		d.raw()
	})
}

func (d *decoder) decodeMap(v reflect.Value) {
	v.Set(reflect.MakeMap(v.Type()))
	d.members(func(key []byte) {
		elem := reflect.New(v.Type().Elem()).Elem()
		d.decode(elem)
		v.SetMapIndex(reflect.ValueOf(string(key)), elem)
	})
}

// members goes past an object and calls member behind each key, to go past the
// value.
func (d *decoder) members(member func(key []byte)) {
	d.take('{')
	for more := !d.take('}'); more; more = d.more('}') {
		d.skipSpace()
		start := d.i
		if d.invalid = !d.str(); d.invalid {
			return
		}
		key := d.b[start+1 : d.i-1]
		if !isPlain(key) {
			s, _ := unquote(d.b[start:d.i])
			key = []byte(s)
		}
		if d.invalid = !d.take(':'); d.invalid {
			return
		}
		d.skipSpace()
		member(key)
	}
}

// more goes past a comma or the end of an object or array, and tells which.
func (d *decoder) more(end byte) bool {
	if d.invalid || d.take(end) {
		return false
	}
	d.invalid = !d.take(',')
	return !d.invalid
}

func (d *decoder) decodeSlice(v reflect.Value) {
	v.Set(reflect.MakeSlice(v.Type(), 0, 1)) // [] is not null
	d.elements(func() {
		n := v.Len()
		if n == v.Cap() {
			v.Grow(1)
		}
		v.SetLen(n + 1)
		d.decode(v.Index(n))
	})
}

// elements goes past an array and calls element in front of each, to go past it.
func (d *decoder) elements(element func()) {
	d.take('[')
	for more := !d.take(']'); more; more = d.more(']') {
		d.skipSpace()
		element()
	}
}

var fieldCache sync.Map // by reflect.Type, of map[string]int

// fieldsOf returns the numbers of a struct's fields by their JSON names.
func fieldsOf(t reflect.Type) map[string]int {
	if m, ok := fieldCache.Load(t); ok {
		return m.(map[string]int)
	}
	m := make(map[string]int)
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		m[name] = i
	}
	fieldCache.Store(t, m)
	return m
}

// isPlain tells whether the inside of a JSON string says itself.
func isPlain(inner []byte) bool {
	return bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner)
}

// Unquote returns what a member of a payload says that is a string, as valid UTF-8,
// and false if it is none. It copies once, where encoding/json does twice. It must
// be valid JSON, as all that is decoded here is.
func Unquote(v json.RawMessage) (string, bool) { return unquote(v) }

// unquote returns what a JSON string says, as valid UTF-8, and false when the
// text, which is valid JSON or nothing, is not a string.
func unquote(text []byte) (string, bool) {
	if len(text) == 0 || text[0] != '"' {
		return "", false
	}
	inner := text[1 : len(text)-1]
	if name, ok := knownStrings[string(inner)]; ok {
		return name, true
	}
	if isPlain(inner) {
		return string(inner), true
	}
	if !utf8.Valid(inner) {
		var s string
		err := json.Unmarshal(text, &s)
		return s, err == nil
	}
	var b strings.Builder
	b.Grow(len(inner))
	for {
		i := bytes.IndexByte(inner, '\\')
		if i < 0 {
			b.Write(inner)
			return b.String(), true
		}
		b.Write(inner[:i])
		inner = inner[i+1:]
		c := inner[0]
		inner = inner[1:]
		if c != 'u' {
			b.WriteByte(unescaped[c])
			continue
		}
		r := hex4(inner)
		inner = inner[4:]
		if utf16.IsSurrogate(r) && bytes.HasPrefix(inner, []byte(`\u`)) {
			if pair := utf16.DecodeRune(r, hex4(inner[2:])); pair != utf8.RuneError {
				r, inner = pair, inner[6:]
			}
		}
		b.WriteRune(r) // U+FFFD for half a pair
	}
}

// hex4 returns the value of four hexadecimal digits.
func hex4(b []byte) rune {
	n, _ := strconv.ParseUint(string(b[:4]), 16, 16)
	return rune(n)
}
