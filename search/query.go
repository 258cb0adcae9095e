package search

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A Query is what is searched for: several words, phrases or regular expressions, all
// of which have to be in one entry of a session. It may be used concurrently.
type Query struct {
	terms []term
	raw   prefilter
	words []Word
}

// A term is one of the things that have to be there.
type term interface {
	// find returns where the first one is in s, or a start below 0.
	find(s string) (start, end int)
}

// A Word is one that has to be in whatever matches a Query: letters and digits in
// lower case, cut as Words does.
type Word struct {
	Text   string
	Prefix bool // more letters and digits may follow
}

// ErrQuery is what is wrong with a query, for people.
var ErrQuery = errors.New("nothing that can be searched for")

// Parse returns the query for words and phrases, one in each of args.
//
// A phrase is found in either case: of ASCII, and of what else Unicode has one lower
// case letter for. White space in it stands for any white space. Where it begins or
// ends with a letter or a digit it is found only where a word begins or ends; a "*"
// behind a word, at the end, stands for the rest of one. Words are letters and digits:
// "command" is in "exec_command".
func Parse(args []string) (Query, error) {
	var q Query
	for _, arg := range args {
		p, err := newPhrase(arg)
		if err != nil {
			return Query{}, err
		}
		q.terms = append(q.terms, p)
		q.words = append(q.words, p.words()...)
		q.raw.add(p)
	}
	return q.checked()
}

// ParseRegexp returns the query for regular expressions in the syntax of package
// regexp, one in each of args. An index is of no use to them: every session is read.
func ParseRegexp(args []string) (Query, error) {
	var q Query
	for _, arg := range args {
		re, err := regexp.Compile(arg)
		if err != nil {
			return Query{}, fmt.Errorf("%w: %w", ErrQuery, err)
		}
		q.terms = append(q.terms, expression{re})
	}
	return q.checked()
}

func (q Query) checked() (Query, error) {
	if len(q.terms) == 0 {
		return Query{}, ErrQuery
	}
	return q, nil
}

// Words returns the words that are in every session that matches, none if there is none
// that is sure to be.
func (q Query) Words() []Word { return slices.Clone(q.words) }

type expression struct{ *regexp.Regexp }

func (e expression) find(s string) (start, end int) {
	at := e.FindStringIndex(s)
	if at == nil {
		return -1, -1
	}
	return at[0], at[1]
}

// A phrase is looked for rune by rune.
type phrase struct {
	runes  []rune // in lower case; a ' ' is any white space
	prefix bool   // the last word may go on
	first  [utf8.RuneSelf]bool
}

// newPhrase returns the phrase that a user has written.
func newPhrase(arg string) (*phrase, error) {
	arg = strings.ToValidUTF8(strings.TrimSpace(arg), string(utf8.RuneError))
	p := &phrase{}
	if before, ok := strings.CutSuffix(arg, "*"); ok {
		if last, _ := utf8.DecodeLastRuneInString(before); isWord(last) {
			arg, p.prefix = before, true
		}
	}
	if arg == "" {
		return nil, fmt.Errorf("%w: a word is empty", ErrQuery)
	}
	space := false
	for _, r := range arg {
		if unicode.IsSpace(r) {
			space = true
			continue
		}
		if space {
			p.runes = append(p.runes, ' ')
			space = false
		}
		p.runes = append(p.runes, lower(r))
	}
	if r := p.runes[0]; r < utf8.RuneSelf {
		p.first[r] = true
		p.first[upper(byte(r))] = true
	}
	return p, nil
}

func (p *phrase) find(s string) (start, end int) {
	ascii := p.runes[0] < utf8.RuneSelf
	for i := 0; i < len(s); i++ {
		if c := s[i]; c < utf8.RuneSelf && !p.first[c] || c >= utf8.RuneSelf && (ascii || !utf8.RuneStart(c)) {
			continue
		}
		if end := p.at(s, i); end >= 0 {
			return i, end
		}
	}
	return -1, -1
}

// at returns where the phrase ends that begins at i, or -1.
func (p *phrase) at(s string, i int) int {
	if isWord(p.runes[0]) {
		if before, _ := utf8.DecodeLastRuneInString(s[:i]); isWord(before) {
			return -1
		}
	}
	for _, want := range p.runes {
		if want == ' ' {
			rest := strings.TrimLeftFunc(s[i:], unicode.IsSpace)
			if len(rest) == len(s)-i {
				return -1
			}
			i = len(s) - len(rest)
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		if n == 0 || lower(r) != want {
			return -1
		}
		i += n
	}
	if !isWord(p.runes[len(p.runes)-1]) {
		return i
	}
	for {
		behind, n := utf8.DecodeRuneInString(s[i:])
		switch {
		case !isWord(behind):
			return i
		case !p.prefix:
			return -1
		}
		i += n
	}
}

// words returns the words of the phrase. Each is a whole word of the text that it is
// found in, but the last of a prefix.
func (p *phrase) words() (list []Word) {
	for _, at := range p.wordsAt() {
		w := Word{Text: string(cut([]byte(string(p.runes[at[0]:at[1]]))))}
		w.Prefix = p.prefix && at[1] == len(p.runes)
		list = append(list, w)
	}
	return list
}

// wordsAt returns where the words of the phrase are in its runes.
func (p *phrase) wordsAt() (list [][2]int) {
	for i := 0; i < len(p.runes); {
		n := slices.IndexFunc(p.runes[i:], func(r rune) bool { return !isWord(r) })
		if n < 0 {
			n = len(p.runes) - i
		}
		if n > 0 {
			list = append(list, [2]int{i, i + n})
		}
		i += n + 1
	}
	return list
}
