package codec

import (
	"encoding/binary"
	"math/bits"
	"strings"
)

// A jsonScanner walks over JSON text, checking it as encoding/json does (a fuzz
// test compares them). Every line of a session passes through here, and
// encoding/json, which decodes an envelope at 150 MB/s, would be most of the time
// that loading a session takes.
type jsonScanner struct {
	b     []byte
	i     int
	space bool // there was white space between tokens
}

// maxDepth is encoding/json's limit.
const maxDepth = 10000

// skipSpace goes to the next token and returns its first byte, 0 at the end.
func (s *jsonScanner) skipSpace() byte {
	for ; s.i < len(s.b); s.i++ {
		switch c := s.b[s.i]; c {
		case ' ', '\t', '\r', '\n':
			s.space = true
		default:
			return c
		}
	}
	return 0
}

// take goes past c if it is the next token.
func (s *jsonScanner) take(c byte) bool {
	if s.skipSpace() != c || s.i == len(s.b) {
		return false
	}
	s.i++
	return true
}

// value goes past the next value.
func (s *jsonScanner) value(depth int) bool {
	switch c := s.skipSpace(); c {
	case '"':
		return s.str()
	case '{':
		return s.object(depth, func(_, _ []byte) {})
	case '[':
		return s.array(depth)
	case 't':
		return s.literal("true")
	case 'f':
		return s.literal("false")
	case 'n':
		return s.literal("null")
	default:
		return s.number()
	}
}

// object goes past an object and calls member with the text of each key, quoted,
// and each value.
func (s *jsonScanner) object(depth int, member func(key, value []byte)) bool {
	if depth == maxDepth || !s.take('{') {
		return false
	}
	if s.take('}') {
		return true
	}
	for {
		s.skipSpace()
		start := s.i
		if !s.str() {
			return false
		}
		key := s.b[start:s.i]
		if !s.take(':') {
			return false
		}
		s.skipSpace()
		start = s.i
		if !s.value(depth + 1) {
			return false
		}
		member(key, s.b[start:s.i])
		if s.take('}') {
			return true
		}
		if !s.take(',') {
			return false
		}
	}
}

func (s *jsonScanner) array(depth int) bool {
	if depth == maxDepth || !s.take('[') {
		return false
	}
	if s.take(']') {
		return true
	}
	for {
		if !s.value(depth + 1) {
			return false
		}
		if s.take(']') {
			return true
		}
		if !s.take(',') {
			return false
		}
	}
}

func (s *jsonScanner) literal(text string) bool {
	if len(s.b)-s.i < len(text) || string(s.b[s.i:s.i+len(text)]) != text {
		return false
	}
	s.i += len(text)
	return true
}

func (s *jsonScanner) number() bool {
	s.oneOf("-")
	if !s.oneOf("0") && !s.digits() {
		return false
	}
	if s.oneOf(".") && !s.digits() {
		return false
	}
	if s.oneOf("eE") {
		s.oneOf("+-")
		return s.digits()
	}
	return true
}

func (s *jsonScanner) oneOf(set string) bool {
	if s.i == len(s.b) || strings.IndexByte(set, s.b[s.i]) < 0 {
		return false
	}
	s.i++
	return true
}

// unescaped is what a letter says behind a backslash; 0: nothing.
var unescaped = [256]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

func (s *jsonScanner) digits() bool {
	start := s.i
	for s.i < len(s.b) && '0' <= s.b[s.i] && s.b[s.i] <= '9' {
		s.i++
	}
	return s.i > start
}

// str goes past a string.
func (s *jsonScanner) str() bool {
	if s.i == len(s.b) || s.b[s.i] != '"' {
		return false
	}
	s.i++
	for {
		s.ordinary()
		if s.i == len(s.b) {
			return false
		}
		switch s.b[s.i] {
		case '"':
			s.i++
			return true
		case '\\':
			s.i++
			if s.i < len(s.b) && unescaped[s.b[s.i]] != 0 {
				s.i++
			} else if !s.oneOf("u") || !s.hex4() {
				return false
			}
		default: // a control byte
			return false
		}
	}
}

// hex4 goes past four hexadecimal digits.
func (s *jsonScanner) hex4() bool {
	for range 4 {
		if !s.oneOf("0123456789abcdefABCDEF") {
			return false
		}
	}
	return true
}

// ordinary goes past bytes that mean nothing in a string: all but quotes,
// backslashes and control bytes. Eight at a time: in a word, x-lo sets the top
// bit of each zero byte of x; only above a byte so found can it set a wrong one.
func (s *jsonScanner) ordinary() {
	const lo, hi = 0x0101010101010101, 0x8080808080808080
	for ; len(s.b)-s.i >= 8; s.i += 8 {
		w := binary.LittleEndian.Uint64(s.b[s.i:])
		quote, slash := w^(lo*'"'), w^(lo*'\\')
		found := ((w-lo*0x20)&^w | (quote-lo)&^quote | (slash-lo)&^slash) & hi
		if found != 0 {
			s.i += bits.TrailingZeros64(found) / 8
			return
		}
	}
	for s.i < len(s.b) && s.b[s.i] >= 0x20 && s.b[s.i] != '"' && s.b[s.i] != '\\' {
		s.i++
	}
}
