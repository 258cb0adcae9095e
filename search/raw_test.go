package search

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf16"
	"unicode/utf8"
)

// encoded returns s as JSON with random escapes, at one level or at two.
func encoded(r *rand.Rand, s string, levels int) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, c := range s {
		switch {
		case r.IntN(12) == 0:
			for _, u := range utf16.Encode([]rune{c}) {
				format := `\u%04x`
				if r.IntN(2) == 0 {
					format = `\u%04X`
				}
				fmt.Fprintf(&b, format, u)
			}
		case c == '"' || c == '\\':
			b.WriteString(`\` + string(c))
		case c == '\n':
			b.WriteString(`\n`)
		case c < ' ':
			fmt.Fprintf(&b, `\u%04x`, c)
		default:
			b.WriteRune(c)
		}
	}
	b.WriteByte('"')
	if levels > 1 {
		return encoded(r, b.String(), levels-1)
	}
	return b.String()
}

// What is found in a text must not be missed in its bytes, however it is encoded and
// wherever a block ends.
func FuzzPrefilterMissesNothing(f *testing.F) {
	for seed := range uint64(8) {
		f.Add(seed, "the mutex was held by\nnobody, said the Kernel: délta ПРИВЕТ 中文 \x1b[31merror\x1b[0m", "mutex")
	}
	f.Fuzz(func(t *testing.T, seed uint64, text, arg string) {
		r := rand.New(rand.NewPCG(seed, 3))
		text = strings.ToValidUTF8(strings.Repeat(text+" ", 1+r.IntN(3)), "?")
		for range 8 {
			checkPrefilter(t, r, text, arg)
			from := r.IntN(len(text))
			arg = strings.ToValidUTF8(text[from:min(len(text), from+1+r.IntN(20))], "")
		}
	})
}

func checkPrefilter(t *testing.T, r *rand.Rand, text, arg string) {
	p, err := newPhrase(arg)
	if err != nil {
		return
	}
	if start, _ := p.find(text); start < 0 {
		return
	}
	var f prefilter
	f.add(p)
	raw := strings.Repeat("-", r.IntN(200)) + encoded(r, text, 1+r.IntN(2))
	block := make([]byte, 2*overlap+r.IntN(50))
	if ok, err := f.mayHave(t.Context(), strings.NewReader(raw), block); !ok || err != nil {
		t.Errorf("%q is in %q, and was missed in %s (%v)", arg, text, raw, err)
	}
}

// What is not there is not read again.
func TestPrefilterRulesOut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		arg, raw string
		may      bool
	}{
		{"mutex", `"a MUTEX"`, true},
		{"mutex", `"mute"`, false},
		{"mutex", `"\u001b[31mmute\u003c"`, false},
		{"mutex", `"mute\u0078"`, true},
		{"mutex", `"\\\\u005cu0078"`, true},
		{"mutex", `"é\u00e9"`, false},
		{"délta", `"delta"`, true}, // a part is looked for
		{"délta", `"dellt"`, false},
		{"délta", `"xDÉLTAx"`, true},
		{"été", `"\u00e9"`, true},
		{"été", `"ete"`, false},
		{"привет", `"ПРИВЕТ"`, true},
		{"привет", `"привод"`, true}, // a part is looked for
		{"привет", `"пока"`, false},
		{"中文", `"中国"`, false},
		{"->", `""`, true}, // there is no word
		{"x", `""`, true},  // it may be what a quoted command has for another character
	} {
		p, err := newPhrase(c.arg)
		if err != nil {
			t.Fatal(err)
		}
		var f prefilter
		f.add(p)
		if may, err := f.mayHave(t.Context(), strings.NewReader(c.raw), make([]byte, blockLen)); may != c.may || err != nil {
			t.Errorf("%q in %s: %t, %v", c.arg, c.raw, may, err)
		}
	}
}

// Of every letter that Unicode has, the other case is known.
func TestVariants(t *testing.T) {
	t.Parallel()
	for r := rune(utf8.RuneSelf); r <= 0x10ffff; r++ {
		if l := lower(r); l != r && !strings.ContainsRune(string(variants(l)), r) {
			t.Errorf("%c is a lower case of %c, which is not known", l, r)
		}
	}
}

func BenchmarkPrefilter(b *testing.B) {
	r := rand.New(rand.NewPCG(1, 1))
	words := strings.Fields("the output of tests is in a file that was read by nobody, and deadlocks are rare: 0x3f, error")
	var line bytes.Buffer
	for line.Len() < 8<<20 {
		line.WriteString(words[r.IntN(len(words))] + " ")
	}
	for _, word := range []string{"deadbolt", "needle", "zebra", "thursday", "her", "привет"} {
		b.Run("word="+word, func(b *testing.B) {
			p, err := newPhrase(word)
			if err != nil {
				b.Fatal(err)
			}
			var f prefilter
			f.add(p)
			b.SetBytes(int64(line.Len()))
			block := make([]byte, blockLen)
			for b.Loop() {
				if ok, err := f.mayHave(b.Context(), bytes.NewReader(line.Bytes()), block); ok || err != nil {
					b.Fatal(ok, err)
				}
			}
		})
	}
}
