package search

import (
	"unicode"
	"unicode/utf8"

	"github.com/rollout-sync/rollout/replay"
)

// maxWord is how many bytes of a word count for an index. What is longer is in general
// no word.
const maxWord = 64

// Words calls add with the words of all that can be found in an entry: letters and
// digits, marks included, in lower case. Of a longer one they are the first 64 bytes,
// less what is only a part of a character there. A word comes as often as it is there,
// and is valid until add returns.
func Words(e *replay.Entry, add func(word []byte)) {
	var word []byte
	for _, t := range textsOf(e) {
		word = wordsOf(t.text, word, add)
	}
}

// wordsOf uses room for the words.
func wordsOf(text string, room []byte, add func(word []byte)) []byte {
	word := room[:0]
	for i := 0; i < len(text); {
		n := 1
		if c := wordByte[text[i]]; c != 0 {
			word = append(word, c)
			i++
			continue
		}
		if text[i] >= utf8.RuneSelf {
			var r rune
			if r, n = utf8.DecodeRuneInString(text[i:]); isWord(r) {
				word = utf8.AppendRune(word, lower(r))
				i += n
				continue
			}
		}
		if len(word) > 0 {
			add(cut(word))
			word = word[:0]
		}
		i += n
	}
	if len(word) > 0 {
		add(cut(word))
	}
	return word
}

// cut returns the part of a word that counts.
func cut(word []byte) []byte {
	if len(word) <= maxWord {
		return word
	}
	n := maxWord
	for !utf8.RuneStart(word[n]) {
		n--
	}
	return word[:n]
}

// wordByte is the lower case of the ASCII letters and digits, 0 of other bytes.
var wordByte = func() (t [256]byte) {
	for c := range byte(utf8.RuneSelf) {
		if isWord(rune(c)) {
			t[c] = byte(lower(rune(c)))
		}
	}
	return t
}()

// isWord reports whether r is part of a word. Marks are: what they are on is another
// letter without them.
func isWord(r rune) bool {
	if r < utf8.RuneSelf {
		return '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
	}
	return unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r)
}

// lower returns the lower case of r. That of a letter beyond ASCII is not in ASCII, as
// that of the Kelvin sign would be: what is looked for in ASCII is found in ASCII.
func lower(r rune) rune {
	if r < utf8.RuneSelf {
		if 'A' <= r && r <= 'Z' {
			r += 'a' - 'A'
		}
		return r
	}
	if l := unicode.ToLower(r); l >= utf8.RuneSelf {
		return l
	}
	return r
}

// upper returns the upper case of an ASCII byte.
func upper(c byte) byte {
	if 'a' <= c && c <= 'z' {
		c -= 'a' - 'A'
	}
	return c
}

// variants returns the runes of which r is the lower case.
func variants(r rune) []rune {
	list := []rune{r}
	for v := unicode.SimpleFold(r); v != r; v = unicode.SimpleFold(v) {
		if lower(v) == r {
			list = append(list, v)
		}
	}
	return list
}
