package replay

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
)

// WriteMarkdown writes entries as CommonMark: a title, what the head says of the
// session, and a heading for each turn. Messages are quoted, and tools' input and
// output are fenced blocks.
//
// Nothing from the session can break out of its place. Of a message its emphasis,
// lists, tables and code stay what they are; headings, links, images and HTML in it
// are shown as the text that they are, so nothing is loaded and no contents list is
// spoilt. A fence is longer than any in what it fences. Control characters are as
// [Clean] leaves them.
//
// As by [WriteText] the output of tools is cut, and images are left out. Memory is
// that of an entry and its text.
//
// An error is w's, or that of entries, which then stand in w as far as they came.
func WriteMarkdown(w io.Writer, entries iter.Seq2[Entry, error]) error {
	m := markdownWriter{bufio.NewWriterSize(w, writeBuffer)}
	return writeEntries(m.w, entries, m.entry)
}

type markdownWriter struct{ w *bufio.Writer }

// entry writes an entry, which ends with a blank line. A failure is w's, which
// keeps it.
func (m markdownWriter) entry(e *Entry) error {
	switch e.Kind {
	case KindSession:
		m.session(e.Session)
	case KindTurn:
		fmt.Fprintf(m.w, "## Turn %d\n\n", e.Turn)
		if e.Time != "" {
			m.line(e.Time)
		}
	case KindUser:
		m.title("User", "")
		m.quoteBroken(e.Text)
		m.images(e.Images)
	case KindAssistant:
		m.title("Assistant", "")
		m.quote(e.Text)
		m.images(e.Images)
	case KindReasoning:
		m.title("Reasoning", "")
		m.quote(e.Text)
	case KindSystem:
		m.title("System", "")
		m.quote(e.Text)
	case KindCall:
		m.title("Call "+strconv.Itoa(e.Call.Number), e.Call.Name)
		m.fence(e.Call.Input)
		for i := range e.Files {
			m.line(e.Files[i].summary())
		}
		if e.Result != nil {
			m.result(e)
		}
	case KindOutput:
		m.result(e)
	case KindModel:
		m.title("Model", e.Model.String())
	case KindCompaction:
		m.title("Compaction", "")
		m.quote(e.Text)
	case KindRollback:
		m.title("Rolled back, turns: "+strconv.FormatInt(e.Turns, 10), "")
	case KindNote:
		m.title("Note", e.Title)
		m.quote(e.Text)
	case KindError:
		m.title("Error", e.Title)
		m.quote(e.Text)
	case KindProblem:
		m.title(fmt.Sprintf("Line %d cannot be read", e.Line), "")
		m.quote(e.Text)
	case KindTurnEnd:
		if s := e.turnEndText(); s != "" {
			fmt.Fprintf(m.w, "%s\n\n", inline(strings.ToUpper(s[:1])+s[1:]))
		}
	case KindEnd:
		fmt.Fprintf(m.w, "---\n\n%s\n\n", inline(e.Totals.String()))
	}
	return nil
}

func (m markdownWriter) session(s *Session) {
	fmt.Fprint(m.w, "# Session\n\n")
	for _, f := range s.facts() {
		fmt.Fprintf(m.w, "- %s: %s\n", f[0], inlineCode(f[1]))
	}
	fmt.Fprintln(m.w)
}

// title writes who speaks, or what happened, and a name from the session.
func (m markdownWriter) title(what, name string) {
	fmt.Fprintf(m.w, "**%s**", what)
	if name != "" {
		fmt.Fprintf(m.w, " %s", inlineCode(name))
	}
	fmt.Fprint(m.w, "\n\n")
}

func (m markdownWriter) line(s string) { fmt.Fprintf(m.w, "%s\n\n", inlineCode(s)) }

func (m markdownWriter) result(e *Entry) {
	what := "Output"
	if e.Kind == KindOutput && e.Call.Number > 0 {
		what += " of call " + strconv.Itoa(e.Call.Number)
	}
	for _, s := range e.Result.facts() {
		what += ", " + s
	}
	m.title(what, "")
	m.fence(fold(e.Result.Output))
	m.images(e.Result.Images)
}

func (m markdownWriter) images(images []Image) {
	for _, im := range images {
		m.line(im.placeholder())
	}
}

// fence writes text as a code block.
func (m markdownWriter) fence(text string) {
	text = strings.TrimRight(text, "\r\n")
	if text == "" {
		return
	}
	fence := fenceFor(text)
	fmt.Fprintln(m.w, fence)
	for line := range cleanLines(text) {
		fmt.Fprintln(m.w, line)
	}
	fmt.Fprintf(m.w, "%s\n\n", fence)
}

// fenceFor returns a fence that is longer than any in a text.
func fenceFor(text string) string {
	longest := 2
	for line := range cleanLines(text) { // something may vanish from between backticks
		longest = max(longest, longestRun(line))
	}
	return strings.Repeat("`", longest+1)
}

// longestRun returns the length of the longest run of backticks.
func longestRun(s string) (longest int) {
	for {
		i := strings.IndexByte(s, '`')
		if i < 0 {
			return longest
		}
		n := runLen(s[i:])
		longest = max(longest, n)
		s = s[i+n:]
	}
}

// inlineCode returns s as a code span on one line.
func inlineCode(s string) string {
	s = oneLine(s)
	if s == "" {
		return ""
	}
	ticks := strings.Repeat("`", longestRun(s)+1)
	if s[0] == '`' || s[len(s)-1] == '`' {
		s = " " + s + " "
	}
	return ticks + s + ticks
}

// quote writes a message as a block quotation.
func (m markdownWriter) quote(text string) { m.quoteLines(text, "\n") }

// quoteBroken does, and keeps the line ends, as what people type needs it.
func (m markdownWriter) quoteBroken(text string) { m.quoteLines(text, "  \n") }

// quoteLines writes lineBreak between lines of a paragraph.
func (m markdownWriter) quoteLines(text, lineBreak string) {
	text = strings.TrimRight(text, "\r\n")
	if text == "" {
		return
	}
	var q quotation
	fence := fenceFor(text)
	end := "" // of the line before
	for line := range cleanLines(text) {
		was := q.fenced
		q.next(line)
		if was || q.fenced || line == "" {
			end = strings.TrimLeft(end, " ")
		}
		_, _ = m.w.WriteString(end) // m.w keeps its error
		end = "\n"
		switch {
		case q.fenced && !was:
			// Our own fence, at the margin behind a blank line, so that no list or
			// paragraph in front of it changes what it is.
			fmt.Fprintf(m.w, ">\n> %s%s", fence, q.language)
		case was && !q.fenced:
			fmt.Fprintf(m.w, "> %s\n>", fence)
		case line == "":
			_ = m.w.WriteByte('>')
		case was:
			fmt.Fprintf(m.w, "> %s", line)
		default:
			fmt.Fprintf(m.w, "> %s", escapeLine(line))
			end = lineBreak
		}
	}
	if q.fenced {
		fmt.Fprintf(m.w, "\n> %s", fence)
	}
	fmt.Fprint(m.w, "\n\n")
}

// quotation knows whether a line of a message is in a fenced block.
type quotation struct {
	fenced   bool
	mark     byte // of the fence: ` or ~
	length   int
	language string
}

func (q *quotation) next(line string) {
	s := strings.TrimLeft(line, " ")
	if s == "" || s[0] != '`' && s[0] != '~' {
		return
	}
	n := runLen(s)
	rest := strings.TrimSpace(s[n:])
	switch {
	case n < 3:
	case !q.fenced && (s[0] == '~' || !strings.Contains(rest, "`")):
		q.fenced, q.mark, q.length = true, s[0], n
		q.language = strings.Map(func(r rune) rune {
			if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("+-#._", r) {
				return r
			}
			return -1
		}, strings.SplitN(rest+" ", " ", 2)[0])
	case q.fenced && s[0] == q.mark && n >= q.length && rest == "":
		q.fenced = false
	}
}

// inline returns text of ours that may have some of the session's in it.
func inline(s string) string { return escapeLine(oneLine(s)) }

// escapeLine returns a line of a message that has no effect beyond itself: it is no
// heading, and has no link, image or HTML. A code span ends in the line where it
// begins, so that none can cover an escape.
func escapeLine(line string) string {
	body := strings.TrimLeft(line, " \t>")
	var b strings.Builder
	b.WriteString(line[:len(line)-len(body)])
	if body != "" && (strings.Trim(body, "= \t") == "" || strings.Trim(body, "- \t") == "") {
		b.WriteByte('\\') // would make the line above a heading
	}
	for i := 0; i < len(body); {
		n := 1
		switch c := body[i]; c {
		case '\\':
			if i+1 < len(body) && strings.IndexByte(punctuation, body[i+1]) >= 0 {
				n = 2 // escaped already
			} else {
				b.WriteByte(c) // some parsers lose count of those that escape nothing
			}
		case '`':
			n = runLen(body[i:])
			if end := spanEnd(body, i+n, n); end > 0 && !splits(body[i:end]) {
				n = end - i
				break
			}
			for range n {
				b.WriteString("\\`")
			}
			i += n
			continue
		case '<', '[', ']', '&':
			b.WriteByte('\\')
		case '#':
			if i == 0 || strings.IndexByte(" \t>", body[i-1]) >= 0 {
				b.WriteByte('\\') // a heading, perhaps within a list
			}
		}
		b.WriteString(body[i : i+n])
		i += n
	}
	return b.String()
}

// punctuation is what a backslash escapes.
const punctuation = "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"

// splits tells whether a code span, in a table, would be split into cells, and
// what it covers come to light.
func splits(span string) bool {
	return strings.Contains(span, "|") && strings.ContainsAny(span, "<[&#\\")
}

// runLen returns how often the first byte of s is repeated.
func runLen(s string) int { return len(s) - len(strings.TrimLeft(s, s[:1])) }

// spanEnd returns where the run of n backticks ends that closes a code span, else
// 0. Longer ones than maxSpan are none, so that no line is searched again and again.
func spanEnd(s string, from, n int) int {
	const maxSpan = 1000
	for i := from; i < min(len(s), from+maxSpan); {
		if s[i] != '`' {
			i++
			continue
		}
		run := runLen(s[i:])
		if i += run; run == n {
			return i
		}
	}
	return 0
}
