package replay

import (
	"fmt"
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Clean returns s with nothing in it that could do something to a terminal or
// change the order in which text appears: escape sequences for colours and cursor
// movement are dropped, other control characters are replaced by their pictures
// (␛ for ESC), bidirectional controls and what is not UTF-8 by U+FFFD. Tabs and
// newlines stay, "\r\n" becomes "\n".
func Clean(s string) string {
	if !strings.ContainsFunc(s, isHarmful) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for i := 0; i < len(s); {
		if n := csi(s[i:]); n > 0 {
			i += n
			continue
		}
		if strings.HasPrefix(s[i:], "\r\n") {
			i++
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		i += n
		switch {
		case !isHarmful(r):
			b.WriteRune(r)
		case r < 0x20:
			b.WriteRune('␀' + r)
		case r == 0x7f:
			b.WriteRune('␡')
		default:
			b.WriteRune(utf8.RuneError)
		}
	}
	return b.String()
}

// isHarmful reports whether r must not reach a terminal. U+FFFD is also what
// ranging over a string makes of invalid bytes.
func isHarmful(r rune) bool {
	if 0x20 <= r && r < 0x7f {
		return false
	}
	return unicode.IsControl(r) && r != '\n' && r != '\t' || unicode.Is(unicode.Bidi_Control, r) ||
		r == '\u2028' || r == '\u2029' || r == utf8.RuneError
}

// csi returns the length of the control sequence that s begins with, else 0.
func csi(s string) int {
	if !strings.HasPrefix(s, "\x1b[") {
		return 0
	}
	for i := 2; i < len(s); i++ {
		switch c := s[i]; {
		case 0x40 <= c && c <= 0x7e:
			return i + 1
		case c < 0x20 || c > 0x3f:
			return 0
		}
	}
	return 0
}

// oneLine returns s for a heading.
func oneLine(s string) string {
	return strings.Join(strings.Fields(Clean(s)), " ")
}

// cleanLines returns the lines of Clean(s), of which a copy is made only of one at a
// time.
func cleanLines(s string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for line := range strings.SplitSeq(s, "\n") {
			if !yield(Clean(strings.TrimSuffix(line, "\r"))) {
				return
			}
		}
	}
}

// fold leaves out the middle of a long output and the ends of its long lines, and
// cleans the rest.
func fold(s string) string {
	s = strings.TrimRight(s, "\r\n")
	if s == "" {
		return ""
	}
	n := strings.Count(s, "\n") + 1
	var b strings.Builder
	i := 0
	for line := range strings.SplitSeq(s, "\n") {
		switch {
		case i < foldLines/2 || i >= n-foldLines/2:
			line = Clean(strings.TrimSuffix(line, "\r"))
			if cut := max(0, len(line)-foldBytes); cut > 0 {
				for !utf8.RuneStart(line[len(line)-cut]) {
					cut++
				}
				line = fmt.Sprintf("%s… [%d more bytes]", line[:len(line)-cut], cut)
			}
			b.WriteString(line + "\n")
		case i == foldLines/2:
			fmt.Fprintf(&b, "… [%d lines left out]\n", n-foldLines)
		}
		i++
	}
	return b.String()
}
