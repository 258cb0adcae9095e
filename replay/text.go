package replay

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"strconv"
	"strings"
	"time"

	"github.com/rollout-sync/rollout/codec"
)

// TextOptions are options of [WriteText].
type TextOptions struct {
	// Color marks headings by the colours of a terminal, which has to understand
	// ECMA-48.
	Color bool
}

// WriteText writes entries for a terminal: what the head says of the session, then
// its turns. Headings begin in the first column and everything from the session is
// indented by two spaces, so it cannot pass for a heading; control characters and
// escape sequences are made visible or dropped (see [Clean]), so it cannot do
// anything to a terminal either. Lines are never wrapped.
//
// Output of tools is cut: of more than 20 lines the middle ones are left out and
// counted, and so is the rest of a line of more than 1,000 bytes. Left out are
// images, token counts within a turn, and what files were changed to. Memory is
// that of an entry.
//
// An error is w's, or that of entries, which then stand in w as far as they came.
func WriteText(w io.Writer, entries iter.Seq2[Entry, error], o TextOptions) error {
	t := textWriter{w: bufio.NewWriterSize(w, writeBuffer), color: o.Color}
	return writeEntries(t.w, entries, t.entry)
}

// writeBuffer is how much is written at once.
const writeBuffer = 64 << 10

// writeEntries calls write for each entry. What it writes to w goes out whenever
// there is nothing more for now.
func writeEntries(w *bufio.Writer, entries iter.Seq2[Entry, error], write func(*Entry) error) error {
	for e, err := range entries {
		switch {
		case err != nil:
		case e.Kind == KindIdle:
			err = w.Flush()
		default:
			err = write(&e)
		}
		if err == nil {
			_, err = w.Write(nil) // a failed write is sticky; this only stops early
		}
		if err != nil {
			_ = w.Flush() // of what came before an error of entries
			return err
		}
	}
	return w.Flush()
}

const (
	foldLines = 20
	foldBytes = 1000
)

type textWriter struct {
	w     *bufio.Writer
	color bool
	begun bool // something was written
}

// Styles of headings: parameters of ECMA-48's SGR.
const (
	styleTurn    = "1;36" // bold, cyan
	styleSpeaker = "1"    // bold
	stylePlain   = ""
	styleDim     = "2"
	styleBad     = "1;31" // bold, red
)

// entry writes an entry. A failure is w's, which keeps it.
func (t *textWriter) entry(e *Entry) error {
	switch e.Kind {
	case KindSession:
		t.session(e.Session)
	case KindTurn:
		t.block(styleTurn, "== turn "+strconv.Itoa(e.Turn)+at(e.Time), "")
	case KindUser, KindAssistant:
		t.block(styleSpeaker, string(e.Kind)+at(e.Time), withImages(e.Text, e.Images))
	case KindReasoning, KindCompaction:
		t.block(styleDim, string(e.Kind), e.Text)
	case KindSystem:
		t.block(stylePlain, "system", e.Text)
	case KindCall:
		t.block(stylePlain, fmt.Sprintf("call %d: %s", e.Call.Number, oneLine(e.Call.Name)), e.Call.Input)
		if len(e.Files) > 0 {
			t.block(styleDim, fmt.Sprintf("files changed by call %d", e.Call.Number), filesText(e.Files))
		}
		if e.Result != nil {
			t.result(e)
		}
	case KindOutput:
		t.result(e)
	case KindModel:
		t.block(styleDim, "model "+oneLine(e.Model.String()), "")
	case KindRollback:
		t.block(styleDim, fmt.Sprintf("rolled back, turns: %d", e.Turns), "")
	case KindNote:
		t.block(styleDim, oneLine(e.Title), e.Text)
	case KindError:
		t.block(styleBad, strings.TrimSpace("error "+oneLine(e.Title)), e.Text)
	case KindProblem:
		t.block(styleBad, fmt.Sprintf("line %d cannot be read: %s", e.Line, oneLine(e.Text)), "")
	case KindTurnEnd:
		style := styleDim
		if e.TurnEnd.Status == TurnAborted || e.TurnEnd.Status == TurnIncomplete {
			style = styleBad
		}
		if s := e.turnEndText(); s != "" {
			t.block(style, "== "+s, "")
		}
	case KindEnd:
		t.block(styleTurn, "== end: "+e.Totals.String(), "")
	}
	return nil
}

func (t *textWriter) session(s *Session) {
	for _, field := range s.facts() {
		fmt.Fprintf(t.w, "%s%s\n", t.styled(styleDim, fmt.Sprintf("%-12s", field[0])), oneLine(field[1]))
	}
	t.begun = true
}

func (t *textWriter) result(e *Entry) {
	heading, style := "output", styleDim
	if e.Call.Number > 0 {
		heading += " of call " + strconv.Itoa(e.Call.Number)
	}
	if e.Result.Failed {
		style = styleBad
	}
	for _, s := range e.Result.facts() {
		heading += ", " + s
	}
	t.block(style, heading, withImages(fold(e.Result.Output), e.Result.Images))
}

func (t *textWriter) styled(style, s string) string {
	if !t.color || style == "" {
		return s
	}
	return "\x1b[" + style + "m" + s + "\x1b[m"
}

// block writes a heading and what belongs to it.
func (t *textWriter) block(style, heading, body string) {
	if t.begun {
		_ = t.w.WriteByte('\n') // t.w keeps its error
	}
	t.begun = true
	fmt.Fprintln(t.w, t.styled(style, heading))
	if body = strings.TrimRight(body, "\r\n"); body == "" {
		return
	}
	for line := range cleanLines(body) {
		if line != "" {
			_, _ = t.w.WriteString("  ")
		}
		_, _ = t.w.WriteString(line)
		_ = t.w.WriteByte('\n')
	}
}

// at returns a timestamp for the end of a heading.
func at(timestamp string) string {
	if timestamp == "" {
		return ""
	}
	return ", " + oneLine(timestamp)
}

// withImages returns a text and below it a line for each image.
func withImages(text string, images []Image) string {
	if len(images) == 0 {
		return text
	}
	var b strings.Builder
	if text = strings.TrimRight(text, "\n"); text != "" {
		b.WriteString(text + "\n")
	}
	for _, im := range images {
		b.WriteString(im.placeholder() + "\n")
	}
	return b.String()
}

// placeholder stands for an image that is not shown.
func (im Image) placeholder() string {
	if im.Path == "" {
		return "[image]"
	}
	return "[image " + im.Path + "]"
}

// What the formats for people say in the same words.

// facts returns names and values for the head of a transcript.
func (s *Session) facts() (facts [][2]string) {
	var git, base string
	if s.Git != nil {
		git = strings.TrimSpace(s.Git.Branch + " " + s.Git.Commit)
		if s.Git.Origin != "" {
			git += " of " + s.Git.Origin
		}
	}
	if s.Base != nil {
		base = fmt.Sprintf("%s, up to item %d, which are not shown here", s.Base.Rollout, s.Base.Ordinal)
	}
	id := s.ID
	if id == "" {
		id = "unknown"
	}
	for _, f := range [][2]string{
		{"session", id},
		{"started", s.Started},
		{"cwd", s.Cwd},
		{"git", git},
		{"model", s.Model.String()},
		{"provider", s.Provider},
		{"written by", strings.TrimSpace(s.Originator + " " + s.CLIVersion)},
		{"forked from", s.ForkedFrom},
		{"parent", s.ParentID},
		{"begins with", base},
	} {
		if f[1] != "" {
			facts = append(facts, f)
		}
	}
	return facts
}

// String returns the name, and the effort if it is known.
func (m *Model) String() string {
	if m == nil {
		return ""
	}
	return strings.TrimSpace(m.Name + " " + m.Effort)
}

// facts returns what is worth saying of a result beside its output.
func (r *Result) facts() (facts []string) {
	switch {
	case r.ExitCode != nil && *r.ExitCode != 0:
		facts = append(facts, fmt.Sprintf("exit code %d", *r.ExitCode))
	case r.Failed:
		facts = append(facts, "failed")
	}
	if r.DurationMS > 0 {
		facts = append(facts, durationText(r.DurationMS))
	}
	return facts
}

// turnEndText says how a turn ended, "" if there is nothing to say.
func (e *Entry) turnEndText() string {
	end, what := e.TurnEnd, "turn"
	if e.Turn > 0 {
		what += " " + strconv.Itoa(e.Turn)
	}
	if end.Status != "" {
		what += " " + end.Status
	}
	var facts []string
	if end.Reason != "" {
		facts = append(facts, oneLine(end.Reason))
	}
	if end.DurationMS > 0 {
		facts = append(facts, durationText(end.DurationMS))
	}
	if end.Tokens != nil {
		facts = append(facts, tokensText(end.Tokens))
	}
	switch {
	case len(facts) > 0:
		return what + ": " + strings.Join(facts, ", ")
	case end.Status == "":
		return ""
	}
	return what
}

// String says it in a line.
func (t *Totals) String() string {
	facts := []string{count(t.Turns, "turn"), count(t.Calls, "call")}
	if t.ActiveMS > 0 {
		facts = append(facts, durationText(t.ActiveMS)+" active")
	}
	if t.Tokens != nil {
		facts = append(facts, tokensText(t.Tokens))
	}
	if t.Problems > 0 {
		facts = append(facts, count(t.Problems, "problem"))
	}
	return strings.Join(facts, ", ")
}

func count(n int, what string) string {
	if n != 1 {
		what += "s"
	}
	return thousands(int64(n)) + " " + what
}

func tokensText(u *codec.TokenUsage) string {
	return thousands(u.Input) + " tokens in, " + thousands(u.Output) + " out"
}

// thousands writes a number with commas.
func thousands(n int64) string {
	s := strconv.FormatInt(n, 10)
	first := 0
	if n < 0 {
		first = 1
	}
	for i := len(s) - 3; i > first; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// durationText writes a duration to two or three digits.
func durationText(ms int64) string {
	switch d := time.Duration(ms) * time.Millisecond; {
	case d < time.Second:
		return fmt.Sprintf("%d ms", ms)
	case d < time.Minute:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d < time.Hour:
		return fmt.Sprintf("%d min %d s", ms/60_000, ms/1000%60)
	default:
		return fmt.Sprintf("%d h %d min", ms/3_600_000, ms/60_000%60)
	}
}

func filesText(files []File) string {
	var b strings.Builder
	for i := range files {
		b.WriteString(files[i].summary() + "\n")
	}
	return b.String()
}

// summary says in a line what was done to a file.
func (f *File) summary() string {
	s := oneLine(f.Change) + " " + oneLine(f.Path)
	if f.MoveTo != "" {
		s += " → " + oneLine(f.MoveTo)
	}
	added, removed := f.counts()
	if added > 0 {
		s += fmt.Sprintf(" +%d", added)
	}
	if removed > 0 {
		s += fmt.Sprintf(" −%d", removed)
	}
	return s
}

// counts returns how many lines a change adds and removes.
func (f *File) counts() (added, removed int) {
	lines := strings.Count(f.Diff, "\n")
	if f.Diff != "" && !strings.HasSuffix(f.Diff, "\n") {
		lines++
	}
	switch f.Change {
	case "add":
		return lines, 0
	case "delete":
		return 0, lines
	}
	for line := range strings.Lines(f.Diff) {
		switch {
		case strings.HasPrefix(line, "+++ "), strings.HasPrefix(line, "--- "):
		case line[0] == '+':
			added++
		case line[0] == '-':
			removed++
		}
	}
	return added, removed
}
