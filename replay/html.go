package replay

import (
	"bufio"
	"cmp"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// WriteHTML writes entries as one HTML file that stands alone: it loads nothing,
// and needs no script to be read. Tools' input and output are complete and folded
// in <details>; it is laid out for phones, wide windows and paper, light and dark.
//
// Nothing from a session can do anything. All of it is escaped text, with control
// characters as [Clean] leaves them; addresses in it are no links. The one exception
// are images of type PNG, JPEG, GIF or WebP that are data: URLs; for others there is
// a word. Should a browser see something else in it all the same, the file's own
// content security policy forbids everything but its one style sheet and such
// images. Of Markdown in messages fenced blocks, code spans, strong emphasis and
// headings are shown as such.
//
// Memory is that of an entry, and of a line for each turn: the contents come at the
// end of the file, and the style sheet puts them first.
//
// An error is w's, or that of entries; w then has what came before it, as a whole
// file that says so.
func WriteHTML(w io.Writer, entries iter.Seq2[Entry, error]) error {
	h := htmlWriter{w: bufio.NewWriterSize(w, writeBuffer)}
	err := writeEntries(h.w, entries, h.entry)
	h.close(err)
	return cmp.Or(err, h.w.Flush())
}

//go:embed transcript.css
var styleFile string

// style is the style sheet and policy allows it and no other. A hash is of what a
// browser sees, which has no carriage returns.
var style, policy = func() (style, policy string) {
	style = strings.ReplaceAll(styleFile, "\r", "")
	sum := sha256.Sum256([]byte(style))
	return style, "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) +
		"'; img-src data:; base-uri 'none'; form-action 'none'"
}()

type htmlWriter struct {
	w      *bufio.Writer
	early  []Entry // what came before the title was known
	begun  bool
	inTurn bool
	untold bool // of the turn: what it is about

	contents []contentsLine
	totals   string
	context  contextChart
}

// A contentsLine is a turn in the table of contents.
type contentsLine struct {
	turn  int
	title string
	bad   bool
}

// maxEarly is how many entries the title is waited for.
const maxEarly = 16

// entry writes an entry. A failure is w's, which keeps it.
func (h *htmlWriter) entry(e *Entry) error {
	if h.begun {
		h.write(e)
		return nil
	}
	h.early = append(h.early, *e)
	switch e.Kind {
	case KindSession, KindTurn, KindModel, KindUsage: // which are small
		if len(h.early) < maxEarly {
			return nil
		}
	}
	h.begin()
	return nil
}

// begin writes the head of the file and what had to wait for it.
func (h *htmlWriter) begin() {
	h.begun = true
	title := "A session"
	var session *Session
	for _, e := range h.early {
		switch {
		case e.Kind == KindSession:
			session = e.Session
			title = "Session " + session.ID
		case e.Kind == KindUser:
			title = saidTitle(&e)
		}
	}
	h.raw("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta http-equiv=\"Content-Security-Policy\" content=\"")
	_, _ = h.w.WriteString(policy) // ours; what is ours is not escaped, quotes and all
	h.raw("\">\n<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"color-scheme\" content=\"light dark\">\n" +
		"<meta name=\"referrer\" content=\"no-referrer\">\n<title>")
	h.text(title)
	h.raw("</title>\n<style>")
	_, _ = h.w.WriteString(style)
	h.raw("</style>\n</head>\n<body>\n<header>\n<a class=\"skip\" href=\"#contents\">Contents</a>\n<h1>")
	h.text(title)
	h.raw("</h1>\n")
	if session != nil {
		h.raw("<dl>\n")
		for _, f := range session.facts() {
			h.raw("<dt>")
			h.text(f[0])
			h.raw("</dt><dd>")
			h.text(oneLine(f[1]))
			h.raw("</dd>\n")
		}
		h.raw("</dl>\n")
	}
	h.raw("</header>\n<main>\n")
	for i := range h.early {
		h.write(&h.early[i])
	}
	h.early = nil
}

// close writes the end of the file.
func (h *htmlWriter) close(failed error) {
	if !h.begun {
		h.begin()
	}
	h.endTurn()
	if failed != nil {
		h.raw("<section class=\"mark bad\"><h3>The session could not be read further</h3></section>\n")
	}
	h.raw("</main>\n<section class=\"totals\">\n")
	if h.totals != "" {
		h.raw("<p>")
		h.text(h.totals)
		h.raw("</p>\n")
	}
	h.chart()
	h.raw("</section>\n")
	if len(h.contents) > 0 {
		h.raw("<nav id=\"contents\">\n<h2>Turns</h2>\n<ol>\n")
		for _, c := range h.contents {
			h.raw("<li")
			if c.bad {
				h.raw(" class=\"bad\"")
			}
			h.raw("><a href=\"#turn-")
			h.int(c.turn)
			h.raw("\"><b>")
			h.int(c.turn)
			h.raw("</b> ")
			h.text(c.title)
			h.raw("</a></li>\n")
		}
		h.raw("</ol>\n</nav>\n")
	}
	h.raw("</body>\n</html>\n")
}

func (h *htmlWriter) write(e *Entry) {
	switch e.Kind {
	case KindTurn:
		h.endTurn()
		h.inTurn, h.untold = true, true
		h.contents = append(h.contents, contentsLine{turn: e.Turn})
		h.raw("<section class=\"turn\" id=\"turn-")
		h.int(e.Turn)
		h.raw("\">\n<h2><a href=\"#turn-")
		h.int(e.Turn)
		h.raw("\">Turn ")
		h.int(e.Turn)
		h.raw("</a> ")
		h.text(timeText(e.Time))
		h.raw("</h2>\n")
	case KindUser:
		h.about(saidTitle(e))
		h.raw("<section class=\"say user\"><h3>User</h3>")
		h.say(e)
	case KindAssistant:
		h.raw("<section class=\"say\"><h3>Assistant</h3>")
		h.say(e)
	case KindSystem:
		h.raw("<section class=\"say\"><h3>System</h3>")
		h.say(e)
	case KindReasoning:
		h.reasoning(e.Text)
	case KindCall, KindOutput:
		h.call(e)
	case KindModel:
		h.raw("<section class=\"mark\">")
		h.mark("Model", e.Model.String(), "")
	case KindCompaction:
		h.about("Context compacted")
		h.raw("<section class=\"mark\">")
		h.mark("Context compacted", "", e.Text)
	case KindRollback:
		h.raw("<section class=\"mark warn\">")
		h.mark("Rolled back, turns: ", strconv.FormatInt(e.Turns, 10), "")
	case KindNote:
		h.raw("<section class=\"mark\">")
		h.mark("", e.Title, e.Text)
	case KindError:
		h.bad()
		h.raw("<section class=\"mark bad\">")
		h.mark("Error", e.Title, e.Text)
	case KindProblem:
		h.raw("<section class=\"mark warn\">")
		h.mark("Cannot be read: line", strconv.Itoa(e.Line), e.Text)
	case KindUsage:
		h.context.add(e.Usage)
	case KindTurnEnd:
		if e.TurnEnd.Status == TurnAborted || e.TurnEnd.Status == TurnIncomplete {
			h.bad()
			h.raw("<p class=\"end bad\">")
		} else {
			h.raw("<p class=\"end\">")
		}
		h.text(e.turnEndText())
		h.raw("</p>\n")
		h.endTurn()
	case KindEnd:
		h.totals = e.Totals.String()
	}
}

// about says in the table of contents what the turn is about, once.
func (h *htmlWriter) about(title string) {
	if h.untold {
		h.contents[len(h.contents)-1].title = title
		h.untold = false
	}
}

// saidTitle returns the beginning of a message, for a heading.
func saidTitle(e *Entry) string {
	title := firstLine(e.Text)
	if title == "" && len(e.Images) > 0 {
		title = oneLine(e.Images[0].placeholder())
	}
	return title
}

// bad marks the turn in the table of contents.
func (h *htmlWriter) bad() {
	if h.inTurn {
		h.contents[len(h.contents)-1].bad = true
	}
}

func (h *htmlWriter) endTurn() {
	if h.inTurn {
		h.raw("</section>\n")
		h.inTurn, h.untold = false, false
	}
}

// say writes what somebody said and ends the section.
func (h *htmlWriter) say(e *Entry) {
	h.message(e.Text)
	h.images(e.Images)
	h.raw("</section>\n")
}

// mark writes a heading of ours and of the session's, a text, and ends the section.
func (h *htmlWriter) mark(ours markup, title, text string) {
	h.raw("<h3>")
	h.raw(ours)
	h.raw(" <b>")
	h.text(oneLine(title))
	h.raw("</b></h3>")
	if strings.Count(text, "\n") < 12 {
		h.message(text)
	} else {
		h.raw("<details><summary>")
		h.text(firstLine(text))
		h.raw("</summary>")
		h.message(text)
		h.raw("</details>")
	}
	h.raw("</section>\n")
}

func (h *htmlWriter) reasoning(text string) {
	h.raw("<details class=\"think\"><summary>Reasoning: ")
	h.text(strings.Trim(firstLine(text), "*# "))
	h.raw("</summary>")
	h.message(text)
	h.raw("</details>\n")
}

func (h *htmlWriter) call(e *Entry) {
	c, r := e.Call, e.Result
	if r != nil && r.Failed {
		h.raw("<div class=\"call failed\"><details>")
	} else {
		h.raw("<div class=\"call\"><details>")
	}
	h.raw("<summary><b>")
	if e.Kind == KindOutput {
		h.raw("Output ")
		if c.Number > 0 {
			h.raw("of call ")
			h.int(c.Number)
			h.raw(": ")
		}
	}
	h.text(oneLine(c.Name))
	h.raw("</b> <code>")
	if isPatch(c.Input) {
		h.text(patchedFiles(c.Input))
	} else {
		h.text(firstLine(c.Input))
	}
	h.raw("</code>")
	if r != nil {
		if r.Failed {
			h.raw(" <i class=\"bad\">")
		} else {
			h.raw(" <i>")
		}
		h.text(strings.Join(r.facts(), ", "))
		h.raw("</i>")
	}
	h.raw("</summary>\n<div class=\"body\">")
	if c.Input != firstLine(c.Input) { // else the summary has it all
		h.block("Input", c.Input)
	}
	if !isPatch(c.Input) { // which says the same
		for i := range e.Files {
			h.diff(&e.Files[i])
		}
	}
	if r == nil {
		h.raw("<h4>No output</h4>")
	} else {
		h.block("Output", r.Output)
		h.images(r.Images)
	}
	h.raw("</div></details>")
	if len(e.Files) > 0 {
		h.raw("<ul class=\"files\">")
		for i := range e.Files {
			h.file(&e.Files[i])
		}
		h.raw("</ul>")
	}
	h.raw("</div>\n")
}

// block writes a text of a tool, unless it is empty.
func (h *htmlWriter) block(heading markup, text string) {
	if text = strings.TrimRight(text, "\r\n"); text == "" {
		return
	}
	h.raw("<h4>")
	h.raw(heading)
	h.raw("</h4><pre class=\"wrap\">")
	if isPatch(text) {
		h.diffLines(text)
	} else {
		h.text(text)
	}
	h.raw("</pre>")
}

func isPatch(input string) bool { return strings.HasPrefix(input, "*** Begin Patch\n") }

// patchedFiles returns the names of the files that a patch changes, for a heading.
func patchedFiles(patch string) string {
	var files []string
	for line := range strings.Lines(patch) {
		what, file, ok := strings.Cut(line, " File: ")
		if ok && strings.HasPrefix(what, "*** ") && len(files) < 5 {
			files = append(files, strings.TrimSpace(file))
		}
	}
	return firstLine(strings.Join(files, ", "))
}

func (h *htmlWriter) file(f *File) {
	h.raw("<li>")
	h.text(oneLine(f.Change))
	h.raw(" ")
	h.text(oneLine(f.Path))
	if f.MoveTo != "" {
		h.raw(" → ")
		h.text(oneLine(f.MoveTo))
	}
	added, removed := f.counts()
	if added > 0 {
		h.raw(" <ins>+")
		h.int(added)
		h.raw("</ins>")
	}
	if removed > 0 {
		h.raw(" <del>−")
		h.int(removed)
		h.raw("</del>")
	}
	h.raw("</li>")
}

// diff writes what a file was changed to.
func (h *htmlWriter) diff(f *File) {
	if f.Diff == "" {
		return
	}
	h.raw("<h4>")
	h.text(oneLine(f.Change + " " + f.Path))
	h.raw("</h4><pre>")
	switch f.Change {
	case "add":
		h.raw("<ins>")
		h.text(f.Diff)
		h.raw("</ins>")
	case "delete":
		h.raw("<del>")
		h.text(f.Diff)
		h.raw("</del>")
	default:
		h.diffLines(f.Diff)
	}
	h.raw("</pre>")
}

func (h *htmlWriter) diffLines(text string) {
	for line := range strings.Lines(text) {
		switch line[0] {
		case '+':
			h.raw("<ins>")
			h.text(line)
			h.raw("</ins>")
		case '-':
			h.raw("<del>")
			h.text(line)
			h.raw("</del>")
		case '@', '*':
			h.raw("<u>")
			h.text(line)
			h.raw("</u>")
		default:
			h.text(line)
		}
	}
}

// message writes a message and what of its Markdown is safe line by line.
func (h *htmlWriter) message(text string) {
	if text = strings.Trim(text, "\r\n"); text == "" {
		return
	}
	var q quotation
	open, blank := false, 0 // a block of text, blank lines in front of what comes next in it
	for line := range cleanLines(text) {
		was := q.fenced
		q.next(line)
		switch {
		case q.fenced != was:
			switch {
			case !q.fenced:
				h.raw("</pre>")
			case open:
				h.raw("</div><pre>")
			default:
				h.raw("<pre>")
			}
			open, blank = false, 0
		case was:
			h.text(line)
			h.raw("\n")
		case strings.TrimSpace(line) == "":
			blank++
		default:
			if !open {
				h.raw("<div class=\"text\">")
				open, blank = true, -1
			}
			for range blank + 1 {
				h.raw("\n")
			}
			blank = 0
			h.line(line)
		}
	}
	switch {
	case q.fenced:
		h.raw("</pre>\n")
	case open:
		h.raw("</div>\n")
	}
}

// line writes a line of a message that is not in a fenced block.
func (h *htmlWriter) line(line string) {
	if level := len(line) - len(strings.TrimLeft(line, "#")); 0 < level && level <= 6 && strings.HasPrefix(line[level:], " ") {
		h.raw("<h4>")
		h.spans(line[level+1:])
		h.raw("</h4>")
		return
	}
	if strings.HasPrefix(line, "|") { // a row of a table
		h.raw("<samp>")
		h.text(line)
		h.raw("</samp>")
		return
	}
	h.spans(line)
}

// spans writes a line with code spans and strong emphasis.
func (h *htmlWriter) spans(s string) {
	for s != "" {
		i := strings.IndexAny(s, "`*")
		if i < 0 {
			break
		}
		h.text(s[:i])
		s = s[i:]
		n := runLen(s)
		end := 0
		switch {
		case s[0] == '`':
			if end = spanEnd(s, n, n); end > 0 {
				h.raw("<code>")
				h.text(strings.TrimSpace(s[n : end-n]))
				h.raw("</code>")
			}
		case n == 2:
			if end = strings.Index(s[n:], "**"); end > 0 && !strings.Contains(s[n:n+end], "`") {
				h.raw("<strong>")
				h.text(s[n : n+end])
				h.raw("</strong>")
				end += n + 2
			} else {
				end = 0
			}
		}
		if end == 0 {
			end = n
			h.text(s[:n])
		}
		s = s[end:]
	}
	h.text(s)
}

func (h *htmlWriter) images(images []Image) {
	for _, im := range images {
		if !im.isSafe() {
			h.raw("<span class=\"noimage\">")
			h.text(oneLine(im.placeholder()))
			h.raw("</span>\n")
			continue
		}
		h.raw("<img alt=\"\" src=\"")
		h.text(im.URL)
		h.raw("\">\n")
	}
}

// isSafe tells whether an image may be shown in a page: it is a data: URL of a type
// that cannot hold anything but a picture, as SVG can.
func (im Image) isSafe() bool {
	rest, ok := strings.CutPrefix(im.URL, "data:image/")
	kind, data, ok2 := strings.Cut(rest, ";base64,")
	if !ok || !ok2 || kind != "png" && kind != "jpeg" && kind != "gif" && kind != "webp" {
		return false
	}
	for i := range len(data) {
		c := data[i]
		if !('a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '+' || c == '/' || c == '=') {
			return false
		}
	}
	return data != ""
}

// timeText returns a timestamp without what a reader does not need.
func timeText(timestamp string) string {
	t, err := time.Parse(time.RFC3339, timestamp)
	if err != nil {
		return oneLine(timestamp)
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}

// firstLine returns the first line that says something, cut, for a heading.
func firstLine(s string) string {
	const maxRunes, maxBytes = 120, 1000
	s = strings.TrimLeft(s, " \t\r\n")
	s, _, _ = strings.Cut(s, "\n")
	if len(s) > maxBytes {
		s = s[:maxBytes]
		for !utf8.ValidString(s) && len(s) > maxBytes-utf8.UTFMax {
			s = s[:len(s)-1]
		}
	}
	s = oneLine(s)
	if utf8.RuneCountInString(s) > maxRunes {
		s = string([]rune(s)[:maxRunes-1]) + "…"
	}
	return s
}

// A markup is a part of the page that is ours: a constant in this file. A string
// that is not constant cannot become one without being seen, so what comes from a
// session can only go through text.
type markup string

func (h *htmlWriter) raw(m markup) { _, _ = h.w.WriteString(string(m)) } // h.w keeps its error

func (h *htmlWriter) int(n int) { _, _ = h.w.WriteString(strconv.Itoa(n)) }

// text writes what a session says: harmless (see Clean), and escaped for text and
// for attributes in quotes.
func (h *htmlWriter) text(s string) {
	for line := range strings.Lines(s) { // so that Clean copies no more than a line
		_, _ = htmlEscaper.WriteString(h.w, Clean(line))
	}
}

// htmlEscaper escapes as html.EscapeString does, but copies nothing.
var htmlEscaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&#34;", "'", "&#39;")

// A contextChart keeps the size of the context over time, in at most maxBars bars.
type contextChart struct {
	bars   []int64 // each the most of so many responses
	per, n int     // responses to a bar, responses in the last one
	window int64
}

const maxBars = 200

func (c *contextChart) add(u *Usage) {
	c.window = max(c.window, u.Window)
	if u.Last == nil || u.Last.Total <= 0 {
		return
	}
	if c.per == 0 {
		c.per = 1
	}
	if c.n++; len(c.bars) > 0 && c.n <= c.per {
		last := &c.bars[len(c.bars)-1]
		*last = max(*last, u.Last.Total)
		return
	}
	if len(c.bars) == maxBars {
		for i := range maxBars / 2 {
			c.bars[i] = max(c.bars[2*i], c.bars[2*i+1])
		}
		c.bars = c.bars[:maxBars/2]
		c.per *= 2
	}
	c.bars = append(c.bars, u.Last.Total)
	c.n = 1
}

// chart draws the size of the context over time.
func (h *htmlWriter) chart() {
	c := &h.context
	if len(c.bars) < 2 {
		return
	}
	const height = 100
	top := c.window
	for _, n := range c.bars {
		top = max(top, n)
	}
	h.raw("<svg role=\"img\" aria-label=\"Size of the context over time\" preserveAspectRatio=\"none\" viewBox=\"0 0 ")
	h.int(len(c.bars))
	h.raw(" 100\">")
	for i, n := range c.bars {
		bar := max(1, int(float64(n)/float64(top)*height))
		h.raw("<rect x=\"")
		h.int(i)
		h.raw("\" y=\"")
		h.int(height - bar)
		h.raw("\" width=\"1\" height=\"")
		h.int(bar)
		h.raw("\"/>")
	}
	h.raw("</svg>\n<small>Tokens in the context over time, up to ")
	h.text(thousands(top))
	h.raw("</small>\n")
}
