package search

import (
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/rollout-sync/rollout/replay"
)

// KindFile is the Kind of a Hit in the path of a changed file or in what was changed.
const KindFile replay.Kind = "file"

// A text is one in which things are found. A phrase is within one text.
type text struct {
	kind replay.Kind
	text string
}

// textsOf returns what can be found in an entry: what was said and done. What Codex or
// package replay has put into words, and what is true of all of a session, cannot: it
// would be found everywhere, or not in the bytes.
func textsOf(e *replay.Entry) (list []text) {
	add := func(k replay.Kind, texts ...string) {
		for _, t := range texts {
			if t != "" {
				list = append(list, text{k, uncoloured(t)})
			}
		}
	}
	switch e.Kind {
	case replay.KindUser, replay.KindAssistant, replay.KindReasoning, replay.KindSystem,
		replay.KindCompaction, replay.KindNote, replay.KindError:
		add(e.Kind, e.Text)
	}
	if c := e.Call; c != nil {
		add(replay.KindCall, c.Input, c.Arguments)
	}
	for i := range e.Files {
		add(KindFile, e.Files[i].Path, e.Files[i].MoveTo, e.Files[i].Diff)
	}
	if e.Result != nil {
		add(replay.KindOutput, e.Result.Output)
	}
	return list
}

// find returns what of the query is in an entry, if all of it is: the first that is found
// of the first of its terms, and whatever else is near it.
func (q *Query) find(e *replay.Entry) (h Hit, ok bool) {
	list := textsOf(e)
	for i, term := range q.terms {
		found := false
		for _, t := range list {
			start, end := term.find(t.text)
			if start < 0 {
				continue
			}
			if i == 0 {
				h = Hit{Kind: t.kind, Turn: e.Turn, Line: e.Line, Time: e.Time}
				h.Before, h.Match, h.After = around(t.text, start, end)
			}
			found = true
			break
		}
		if !found {
			return Hit{}, false
		}
	}
	return h, true
}

// How much of a text is in a Hit, in bytes.
const (
	maxBefore = 160
	maxMatch  = 400
	maxAfter  = 400
)

// around returns what was found in s and what stands beside it, harmless to a terminal.
// They are copies: s may be long, and a Hit is kept.
func around(s string, start, end int) (before, match, after string) {
	from := max(0, start-maxBefore)
	for from < start && !utf8.RuneStart(s[from]) {
		from++
	}
	if from > 0 { // not in the middle of a word
		from += max(0, strings.IndexFunc(s[from:start], unicode.IsSpace))
	}
	show := func(s string, most int) string {
		if len(s) > most {
			for !utf8.RuneStart(s[most]) && most > 0 {
				most--
			}
			s = s[:most]
		}
		return strings.Clone(replay.Clean(s))
	}
	return show(s[from:start], maxBefore), show(s[start:end], maxMatch), show(s[end:], maxAfter)
}

// uncoloured returns s without the sequences that set colours or move the cursor. Between
// letters they leave an escape character, which is none: "31merror" is nobody's word, and
// what is in another colour is another word.
func uncoloured(s string) string {
	const begin = "\x1b["
	if !strings.Contains(s, begin) {
		return s
	}
	var b strings.Builder
	b.Grow(len(s))
	for {
		text, rest, ok := strings.Cut(s, begin)
		b.WriteString(text)
		if !ok {
			return b.String()
		}
		s = s[len(text):]
		n := sequences(s)
		if n == 0 {
			b.WriteString(begin)
			s = rest
			continue
		}
		s = s[n:]
		last, _ := utf8.DecodeLastRuneInString(b.String())
		if next, _ := utf8.DecodeRuneInString(s); isWord(last) && isWord(next) {
			b.WriteByte(begin[0])
		}
	}
}

// sequences returns the length of the control sequences of ECMA-48 that s begins with.
func sequences(s string) (n int) {
	for strings.HasPrefix(s[n:], "\x1b[") {
		i := n + len("\x1b[")
		for i < len(s) && 0x20 <= s[i] && s[i] <= 0x3f {
			i++
		}
		if i == len(s) || s[i] < 0x40 || s[i] > 0x7e {
			break
		}
		n = i + 1
	}
	return n
}
