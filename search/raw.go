package search

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/bits"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// A prefilter tells from the bytes of a rollout whether it is worth reading it. It never
// misses one in which the query is found: what stands in an entry stands in the bytes
// too, letter for letter, but for these, which it knows of:
//
//   - JSON may have any character as an escape, at two levels: arguments of tools are
//     JSON in a string of JSON. So letters, digits and backslashes that are written as
//     escapes are a reason to read, and so are characters beyond ASCII if there are some
//     in the query.
//   - In front of a word the escape of a line end, or another, is a letter: there are no
//     edges of words in the bytes.
//   - What a command was called with is quoted, for people, as strings of Go are. The
//     last letters of such an escape may be what a word begins with.
//
// It looks for a part of one word of each phrase.
type prefilter struct {
	needles  []needle
	useless  bool // a phrase has no word that could be looked for
	nonASCII bool // of a needle
}

// A needle is a part of a word.
type needle struct {
	ascii []byte   // in lower case, found in either
	rare  [2]int   // which bytes of ascii are the rarest
	exact [][]byte // for a word beyond ASCII: one of these
}

// overlap is how much of what was read before is looked at again with what follows:
// more than a needle or an escape is long.
const overlap = 128

// maxNeedle is how much of a word is looked for; more would not be rarer.
const maxNeedle = 32

// add has the filter look for a word of the phrase, for one that is rare.
func (f *prefilter) add(p *phrase) {
	var best needle
	for _, at := range p.wordsAt() {
		word := string(p.runes[at[0]:at[1]])
		if at[0] == 0 || p.runes[at[0]-1] == '\\' {
			word = word[len(escapeRest.FindString(word)):]
		}
		if n := newNeedle(word); n.weight() > best.weight() {
			best = n
		}
	}
	if best.weight() < 2 {
		f.useless = true
		return
	}
	f.nonASCII = f.nonASCII || best.exact != nil
	f.needles = append(f.needles, best)
}

// escapeRest is what an escape of a Go string has behind its backslash, or as much of it
// as a word can have that may go on; in lower case.
var escapeRest = regexp.MustCompile(`^(x[0-9a-f]{0,2}|u[0-9a-f]{0,8}|[abfnrtv])`)

func newNeedle(word string) needle {
	ascii := longestASCII(word)
	if len(ascii) < 3 && len(ascii) < len(word) {
		return needle{exact: spellings(word)}
	}
	n := needle{ascii: []byte(ascii[:min(len(ascii), maxNeedle)])}
	order := make([]int, len(n.ascii))
	for i := range order {
		order[i] = i
	}
	rarity := func(i int) int { return strings.IndexByte(byFrequency, n.ascii[i]) }
	slices.SortStableFunc(order, func(a, b int) int { return cmp.Compare(rarity(b), rarity(a)) })
	copy(n.rare[:], order)
	return n
}

// byFrequency are letters and digits, the most frequent first.
const byFrequency = "etaoinsrldcumpfh0g1b2y354v6w8k97xjzq"

// weight is the more the rarer the needle is.
func (n *needle) weight() int {
	if len(n.exact) > 0 {
		return len(n.exact[0])
	}
	return len(n.ascii)
}

func longestASCII(word string) (longest string) {
	for _, run := range strings.FieldsFunc(word, func(r rune) bool { return r >= utf8.RuneSelf }) {
		if len(run) > len(longest) {
			longest = run
		}
	}
	return longest
}

// spellings returns the ways to write a part of a word in upper and lower case.
func spellings(word string) [][]byte {
	const most = 3 // runes
	list := [][]byte{nil}
	n := 0
	for _, r := range word {
		if r < utf8.RuneSelf && n == 0 {
			continue
		}
		var longer [][]byte
		for _, s := range list {
			for _, v := range variants(r) {
				longer = append(longer, utf8.AppendRune(bytes.Clone(s), v))
			}
			if u := upper(byte(r)); r < utf8.RuneSelf && rune(u) != r {
				longer = append(longer, append(bytes.Clone(s), u))
			}
		}
		list = longer
		if n++; n == most {
			break
		}
	}
	return list
}

// in reports whether the needle is in b.
func (n *needle) in(b []byte) bool {
	for _, s := range n.exact {
		if bytes.Contains(b, s) {
			return true
		}
	}
	return n.ascii != nil && n.inASCII(b)
}

// inASCII looks for the two rarest bytes where they would be, in both cases and for 32
// beginnings of the needle at a time: as fast for letters that are everywhere, as in base64,
// as for rare ones.
func (n *needle) inASCII(b []byte) bool {
	starts := len(b) - len(n.ascii) + 1
	if starts <= 0 {
		return false
	}
	const lo, hi, letter = 0x0101010101010101, 0x8080808080808080, 0x2020202020202020
	first, second := lo*uint64(n.ascii[n.rare[0]]), lo*uint64(n.ascii[n.rare[1]])
	x, y := b[n.rare[0]:][:starts], b[n.rare[1]:][:starts]
	i := 0
	for ; i+32 <= starts; i += 32 {
		// Zero bytes of z are where both are. In a word, z-lo sets the top bit of each of
		// them; only above one so found can it set a wrong one.
		x, y := (*[32]byte)(x[i:]), (*[32]byte)(y[i:])
		z0 := ((binary.LittleEndian.Uint64(x[0:]) ^ first) | (binary.LittleEndian.Uint64(y[0:]) ^ second)) &^ letter
		z1 := ((binary.LittleEndian.Uint64(x[8:]) ^ first) | (binary.LittleEndian.Uint64(y[8:]) ^ second)) &^ letter
		z2 := ((binary.LittleEndian.Uint64(x[16:]) ^ first) | (binary.LittleEndian.Uint64(y[16:]) ^ second)) &^ letter
		z3 := ((binary.LittleEndian.Uint64(x[24:]) ^ first) | (binary.LittleEndian.Uint64(y[24:]) ^ second)) &^ letter
		m0, m1, m2, m3 := (z0-lo)&^z0, (z1-lo)&^z1, (z2-lo)&^z2, (z3-lo)&^z3
		if (m0|m1|m2|m3)&hi == 0 {
			continue
		}
		for k, m := range [...]uint64{m0, m1, m2, m3} {
			for m &= hi; m != 0; m &= m - 1 {
				if n.equal(b[i+8*k+bits.TrailingZeros64(m)/8:]) {
					return true
				}
			}
		}
	}
	for ; i < starts; i++ {
		if n.equal(b[i:]) {
			return true
		}
	}
	return false
}

func (n *needle) equal(b []byte) bool {
	for i, c := range n.ascii {
		if b[i] != c && b[i] != upper(c) {
			return false
		}
	}
	return true
}

// blockLen is how much is read at once.
const blockLen = 256 << 10

// mayHave reports whether the query may be found in the rollout that r reads. block is
// room for it to work in. It reads no further than it has to.
func (f *prefilter) mayHave(ctx context.Context, r io.Reader, block []byte) (bool, error) {
	if f.useless || len(f.needles) == 0 {
		return true, nil
	}
	found := make([]bool, len(f.needles))
	left := len(found)
	for kept := 0; ; {
		n, err := io.ReadFull(r, block[kept:])
		end := errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF)
		if err != nil && !end {
			return false, err
		}
		if err := ctx.Err(); err != nil {
			return false, err
		}
		read := block[:kept+n]
		if f.escaped(read) {
			return true, nil
		}
		for i := range f.needles {
			if !found[i] && f.needles[i].in(read) {
				found[i] = true
				left--
			}
		}
		if left == 0 || end {
			return left == 0, nil
		}
		kept = copy(block, read[len(read)-min(overlap, len(read)):])
	}
}

// escaped reports whether b has an escape that a needle may be written with.
func (f *prefilter) escaped(b []byte) bool {
	begin := []byte(`\u00`)
	if f.nonASCII {
		begin = begin[:2]
	}
	for {
		i := bytes.Index(b, begin)
		if i < 0 || len(b)-i < len(`\u0000`) {
			return false
		}
		v, err := strconv.ParseUint(string(b[i+2:i+6]), 16, 16)
		if err == nil && (f.nonASCII && v >= utf8.RuneSelf || v == '\\' || v < utf8.RuneSelf && isWord(rune(v))) {
			return true
		}
		b = b[i+2:]
	}
}
