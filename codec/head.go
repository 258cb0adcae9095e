package codec

import (
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"time"
	"unicode/utf8"
)

// A Head is what the beginning of a rollout says about its session. Fields that
// it says nothing about are zero; all strings are valid UTF-8.
type Head struct {
	// HasMeta tells whether there is a session_meta. The first one counts: a
	// legacy fork copies its parent's, and Codex adds more when it changes a
	// session's metadata. Without it, all fields down to Git are zero.
	HasMeta    bool
	ID         string    // the session's id
	StartTime  time.Time // UTC
	Cwd        string
	Originator string // the program, e.g. "codex_cli_rs"
	CLIVersion string
	// Source is how the session was begun: "cli", "vscode", "exec", "mcp",
	// "unknown", "custom:x", "internal:x", "subagent:review",
	// "subagent:thread_spawn", "subagent:x". Empty means that the file has none,
	// which Codex reads as "vscode".
	Source string
	// Subagent tells that another session began this one, by Source or by the
	// thread_source of Codex 0.135 and later.
	Subagent    bool
	Provider    string // model provider
	ParentID    string // the session that this one was forked from or spawned by
	HistoryMode string // HistoryLegacy or HistoryPaginated; none before Codex 0.143
	Base        Base
	Git         Git

	// Model is that of the first turn_context.
	Model string
	// FirstUserMessage is the text of the first message that a person wrote,
	// whole; see ReadHead.
	FirstUserMessage string
	// End is the offset behind the last line that was looked at.
	End int64
	// Problems lists what is wrong in front of End, at most 100 entries.
	Problems []Problem
}

// The modes of a history. A legacy one is all in its file; a paginated one may begin
// with a part of another rollout and, after a revert, go on in another.
const (
	HistoryLegacy    = "legacy"
	HistoryPaginated = "paginated"
)

// A Problem is a place in a rollout that a reader has to skip or should know
// about. It never quotes contents.
type Problem struct {
	Offset int64 // of the line
	Length int64 // of the line without its '\n'
	Reason string
}

const (
	// headLimit ends the search for a first user message. Codex 0.169 gives up
	// after some 210 lines, and then hides the session.
	headLimit   = 1 << 20
	maxProblems = 100
)

// ReadHead reads a rollout of any generation from its first byte up to the first
// user message, and one line more if no turn_context came before, since from
// Codex 0.50 to 0.118 it comes next. It gives up at 1 MiB: from there on no new
// line is begun, but one that has been begun is read to its end, so memory is
// that of the longest line. It may have read more of r than Head.End.
//
// The first user message is, whichever comes first,
//
//   - the message of an event user_message (G1);
//   - the text of a completed UserMessage item (G2);
//   - a bare message of the role user (G0) that Codex did not put there (see
//     [Injected]);
//   - the item of a plain event user_message.
//
// If there is none of them, the first response item that is such a message
// counts; Codex 0.169 does not list these sessions. What stands in front of "##
// My request for Codex:" is the editor's and is cut off, and a message without
// text is "[Image]" or "[Audio]".
//
// Damage is no error but a Problem: lines that are not JSON, torn, not UTF-8 or
// not of the known shapes, a missing session_meta, an empty file. An error is
// r's, and comes with what was found before it.
func ReadHead(r io.Reader) (Head, error) {
	return ReadHeadWhile(r, func(Record, *Head) bool { return true })
}

// ReadHeadWhile is like ReadHead and hands on each record but blank ones, with the
// head as far as it is known then. It ends where more returns false, as if the
// head ended there. More must keep neither, and read no other head.
func ReadHeadWhile(r io.Reader, more func(Record, *Head) bool) (Head, error) {
	lines := headLines.Get().(*lineReader)
	defer headLines.Put(lines)
	lines.reset(r)
	lines.alone = longHeads
	defer func() {
		if lines.isAlone {
			<-lines.alone
		}
		lines.reset(nil)
	}()
	s := newHeadScanner()
	s.more = more
	for {
		line, _, err := lines.next()
		switch {
		case err == io.EOF:
			return s.finish(), nil
		case err != nil:
			return s.finish(), err
		case s.add(line) || s.head.End >= headLimit:
			return s.finish(), nil
		}
	}
}

// longHeads has one at a time read heads with lines of more than 1 MiB: a listing reads
// many heads at once, and a line may have 100 MB.
var longHeads = make(chan struct{}, 1)

// headLines keeps buffers: a listing reads many heads that need the like.
var headLines = sync.Pool{New: func() any { return newLineReader(nil, 0) }}

// A headScanner takes the lines of a rollout one by one.
type headScanner struct {
	head     Head
	records  []Record // of one line
	items    int      // decoded lines
	more     func(Record, *Head) bool
	found    bool   // the first user message
	fallback string // the first user message among response items
}

func newHeadScanner() *headScanner {
	return &headScanner{more: func(Record, *Head) bool { return true }}
}

// add takes the next line and reports whether the head ends with it.
func (s *headScanner) add(line Line) (done bool) {
	s.head.End = line.Offset + int64(len(line.Bytes))
	if line.Ended {
		s.head.End++
	}
	s.records = appendRecords(s.records[:0], line, int64(len(line.Bytes)), 0)
	for _, rec := range s.records {
		if rec.Err == ErrBlank {
			continue
		}
		done = s.record(rec) || done
		done = !s.more(rec, &s.head) || done
	}
	return done
}

func (s *headScanner) record(rec Record) (done bool) {
	if !utf8.Valid(rec.Bytes) {
		s.problem(rec, errNotUTF8)
	}
	if rec.Err != nil && rec.Err != errNoTimestamp {
		s.problem(rec, rec.Err)
		return s.found
	}
	it := rec.Item
	if s.found {
		s.turnContext(rec)
		return true
	}
	s.items++
	var message string
	switch it.Type {
	case TypeSessionMeta:
		s.sessionMeta(rec)
	case TypeTurnContext:
		s.turnContext(rec)
	case TypeEventMsg, TypeUserMessage:
		message = userText(it)
	case TypeResponseItem:
		m := userText(it)
		if rec.bare {
			message = m
		} else if s.fallback == "" {
			s.fallback = m
		}
	}
	if message == "" {
		return false
	}
	s.found = true
	s.head.FirstUserMessage = message
	return rec.bare || s.head.Model != ""
}

// finish returns the head of the lines so far.
func (s *headScanner) finish() Head {
	h := s.head
	if !s.found {
		h.FirstUserMessage = s.fallback
	}
	if s.items == 0 && len(h.Problems) == 0 {
		h.Problems = append(h.Problems, Problem{Reason: "an empty file"})
	} else if !h.HasMeta {
		h.Problems = append(h.Problems, Problem{Reason: "no session_meta"})
	}
	return h
}

func (s *headScanner) problem(rec Record, err error) {
	if len(s.head.Problems) < maxProblems-1 { // finish may add one
		p := Problem{Offset: rec.Offset, Length: rec.Length, Reason: err.Error()}
		s.head.Problems = append(s.head.Problems, p)
	}
}

// decode decodes a payload. Members of the wrong type are a Problem and stay zero.
func decode[T any](s *headScanner, rec Record) (v T) {
	if err := unmarshal(rec.Item.Payload, &v); err != nil {
		s.problem(rec, err)
	}
	return v
}

var (
	errLateMeta  = errors.New("session_meta is not the first item")
	errStartTime = errors.New("session_meta without a valid timestamp")
)

// headMeta is what a head takes of a SessionMeta, whose instructions alone are some
// 20 KB.
type headMeta struct {
	ID             string          `json:"id"`
	ForkedFromID   string          `json:"forked_from_id"`
	ParentThreadID string          `json:"parent_thread_id"`
	Timestamp      string          `json:"timestamp"`
	Cwd            string          `json:"cwd"`
	Originator     string          `json:"originator"`
	CLIVersion     string          `json:"cli_version"`
	Source         json.RawMessage `json:"source"`
	ThreadSource   string          `json:"thread_source"`
	ModelProvider  string          `json:"model_provider"`
	HistoryMode    string          `json:"history_mode"`
	HistoryBase    *Base           `json:"history_base"`
	Git            *Git            `json:"git"`
}

func (s *headScanner) sessionMeta(rec Record) {
	if s.head.HasMeta {
		return
	}
	if s.items > 1 {
		s.problem(rec, errLateMeta)
	}
	m := decode[headMeta](s, rec)
	h := &s.head
	h.HasMeta = true
	h.ID, h.Cwd, h.Originator, h.CLIVersion = m.ID, m.Cwd, m.Originator, m.CLIVersion
	h.Provider, h.HistoryMode = m.ModelProvider, m.HistoryMode
	if m.HistoryBase != nil {
		h.Base = *m.HistoryBase
	}
	if m.Git != nil {
		h.Git = *m.Git
	}
	var spawner string
	h.Source, spawner = sourceText(m.Source)
	h.Subagent = m.ThreadSource == "subagent" || strings.HasPrefix(h.Source, "subagent:")
	h.ParentID = cmp.Or(m.ForkedFromID, m.ParentThreadID, spawner)
	start, err := time.Parse(time.RFC3339, m.Timestamp)
	if err != nil {
		s.problem(rec, errStartTime)
		return
	}
	h.StartTime = start.UTC()
}

// sourceText returns a source as one string and, of a spawned subagent, the
// session that spawned it.
func sourceText(source json.RawMessage) (text, spawner string) {
	if text, ok := unquote(source); ok {
		return text, ""
	}
	var object map[string]json.RawMessage
	if unmarshal(source, &object) != nil || len(object) != 1 {
		return "", ""
	}
	for kind, inner := range object {
		var spawn struct {
			Spawn *struct {
				Parent string `json:"parent_thread_id"`
			} `json:"thread_spawn"`
			Other string `json:"other"`
		}
		var isText bool
		text, isText = unquote(inner)
		switch {
		case isText:
		case unmarshal(inner, &spawn) != nil:
		case spawn.Spawn != nil:
			text, spawner = "thread_spawn", spawn.Spawn.Parent
		default:
			text = spawn.Other
		}
		text = strings.TrimSuffix(kind+":"+text, ":")
	}
	return text, spawner
}

func (s *headScanner) turnContext(rec Record) {
	if rec.Item.Type == TypeTurnContext && s.head.Model == "" {
		s.head.Model = decode[TurnContext](s, rec).Model
	}
}

// userText returns the text of an item if that is a message that a person wrote,
// else "". Members of other types than expected do not hide it.
func userText(it Item) string {
	payload, _ := it.Decode()
	switch p := payload.(type) {
	case *EventUserMessage:
		return prompt(p.Message, len(p.Images)+len(p.LocalImages) > 0, len(p.Audio)+len(p.LocalAudio) > 0)
	case *EventItemCompleted:
		if tag(p.Item) == "UserMessage" {
			item, _ := DecodeTurnItem(p.Item)
			return contentText(item.(*TurnUserMessage).Content)
		}
	case *Message:
		if p.Role == "user" {
			return messageText(p.Content)
		}
	case *PlainMessage:
		if it.Type == TypeUserMessage {
			return p.text()
		}
	}
	return ""
}

// text returns what a plain message says, wherever it does.
func (p *PlainMessage) text() string {
	var parts []Part
	if unmarshal(p.Content, &parts) == nil && len(parts) > 0 {
		return contentText(parts)
	}
	content, _ := unquote(p.Content)
	return prompt(cmp.Or(p.Text, p.Message, content), false, false)
}

// messageText returns the text of a response item of the role user, "" for a
// wrapper.
func messageText(content []Part) string {
	if slices.ContainsFunc(content, func(p Part) bool { return isWrapper(strings.TrimSpace(p.Text)) }) {
		return ""
	}
	return contentText(slices.DeleteFunc(content, func(p Part) bool { return isImageTag(strings.TrimSpace(p.Text)) }))
}

// Injected reports whether a text is not a person's, though it stands in a message
// of the role user: it begins as what Codex 0.20 to 0.169 puts there, such as
// <environment_context> or the instructions from AGENTS.md, or names the image
// that it stands in front of or behind.
func Injected(text string) bool {
	text = strings.TrimSpace(text)
	return isWrapper(text) || isImageTag(text)
}

// isImageTag tells whether Codex 0.98 or later wrote text around an image.
func isImageTag(text string) bool {
	return strings.HasPrefix(text, "<image") && strings.HasSuffix(text, ">") || text == "</image>"
}

func isWrapper(text string) bool {
	return slices.ContainsFunc(wrappers, func(w string) bool { return strings.HasPrefix(text, w) })
}

// wrappers are a selection of the fragments that Codex 0.20 to 0.169 writes.
var wrappers = []string{
	"# AGENTS.md instructions",
	"<INSTRUCTIONS>",
	"<apps_instructions>",
	"<collaboration_mode>",
	"<environment_context>",
	"<hook_prompt",
	"<permissions instructions>",
	"<skill>",
	"<skills_instructions>",
	"<subagent_notification>",
	"<subagents>",
	"<turn_aborted>",
	"<user_action>",
	"<user_instructions>",
	"<user_shell_command>",
}

func contentText(parts []Part) string {
	var text strings.Builder
	var hasImage, hasAudio bool
	for _, p := range parts {
		text.WriteString(p.Text)
		hasImage = hasImage || strings.HasSuffix(p.Type, "image")
		hasAudio = hasAudio || strings.HasSuffix(p.Type, "audio")
	}
	return prompt(text.String(), hasImage, hasAudio)
}

// prompt returns what a person wrote of a message's text.
func prompt(text string, hasImage, hasAudio bool) string {
	if _, request, ok := strings.Cut(text, "## My request for Codex:"); ok {
		text = request
	}
	switch text = strings.TrimSpace(text); {
	case text != "":
		return text
	case hasImage:
		return "[Image]"
	case hasAudio:
		return "[Audio]"
	}
	return ""
}
