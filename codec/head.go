package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
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
	Source      string
	Provider    string // model provider
	ParentID    string // the session that this one was forked from or spawned by
	HistoryMode string // "legacy", "paginated"; none before Codex 0.143
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

// Git is the state of the repository in which the session began.
type Git struct{ Commit, Branch, Origin string }

// A Base is the prefix of another rollout that a paginated fork or revert begins
// with, by reference (Codex: history_base).
type Base struct {
	Rollout string // id of the other rollout, not of its session; empty: no base
	Ordinal uint64 // the prefix ends in front of this ordinal
	Offset  int64  // and is this many plain bytes long
}

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
//   - a bare message of the role user (G0) that is not a wrapper: text that Codex
//     put there, such as <environment_context> or the instructions from AGENTS.md.
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
	s := newHeadScanner()
	for line, err := range Lines(r) {
		if err != nil {
			return s.finish(), err
		}
		if s.add(line) || s.head.End >= headLimit {
			break
		}
	}
	return s.finish(), nil
}

// A headScanner takes the lines of a rollout one by one.
type headScanner struct {
	head     Head
	items    int    // decoded lines
	found    bool   // the first user message
	fallback string // the first user message among response items
}

func newHeadScanner() *headScanner { return new(headScanner) }

// add takes the next line and reports whether the head ends with it.
func (s *headScanner) add(line Line) (done bool) {
	s.head.End = line.Offset + int64(len(line.Bytes))
	if line.Ended {
		s.head.End++
	}
	text := bytes.TrimSpace(line.Bytes)
	if len(text) == 0 {
		return false
	}
	if !utf8.Valid(text) {
		s.problem(line, errNotUTF8.Error())
	}
	it, bare, err := decodeItem(text)
	if err != nil {
		if errors.Is(err, errNotJSON) && !line.Ended {
			err = errors.New("a line cut off at the end of the file")
		}
		s.problem(line, err.Error())
		return s.found
	}
	if s.found {
		s.turnContext(line, it)
		return true
	}
	s.items++
	var message string
	switch it.Type {
	case TypeSessionMeta:
		s.sessionMeta(line, it)
	case TypeTurnContext:
		s.turnContext(line, it)
	case TypeEventMsg:
		message = eventText(it.Payload)
	case TypeResponseItem:
		m := messageText(it.Payload)
		if bare {
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
	return bare || s.head.Model != ""
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

func (s *headScanner) problem(line Line, reason string) {
	if len(s.head.Problems) < maxProblems-1 { // finish may add one
		p := Problem{Offset: line.Offset, Length: int64(len(line.Bytes)), Reason: reason}
		s.head.Problems = append(s.head.Problems, p)
	}
}

// decode decodes payload into v. Members of the wrong type are a Problem and stay
// zero.
func (s *headScanner) decode(line Line, payload json.RawMessage, v any) {
	if err := json.Unmarshal(payload, v); err != nil {
		s.problem(line, "a member of an unexpected type")
	}
}

func (s *headScanner) sessionMeta(line Line, it Item) {
	if s.head.HasMeta {
		return
	}
	if s.items > 1 {
		s.problem(line, "session_meta is not the first item")
	}
	var m struct {
		ID             string
		Timestamp      string
		Cwd            string
		Originator     string
		CLIVersion     string          `json:"cli_version"`
		Source         json.RawMessage `json:"source"`
		Provider       string          `json:"model_provider"`
		ForkedFromID   string          `json:"forked_from_id"`
		ParentThreadID string          `json:"parent_thread_id"`
		HistoryMode    string          `json:"history_mode"`
		HistoryBase    struct {
			Rollout string `json:"thread_id"`
			Ordinal uint64 `json:"end_ordinal_exclusive"`
			Offset  int64  `json:"end_byte_offset"`
		} `json:"history_base"`
		Git struct {
			Commit string `json:"commit_hash"`
			Branch string `json:"branch"`
			Origin string `json:"repository_url"`
		} `json:"git"`
	}
	s.decode(line, it.Payload, &m)
	h := &s.head
	h.HasMeta = true
	h.ID, h.Cwd, h.Originator, h.CLIVersion = m.ID, m.Cwd, m.Originator, m.CLIVersion
	h.Provider, h.HistoryMode = m.Provider, m.HistoryMode
	h.Base, h.Git = Base(m.HistoryBase), Git(m.Git)
	var spawner string
	h.Source, spawner = sourceText(m.Source)
	for _, id := range []string{m.ForkedFromID, m.ParentThreadID, spawner} {
		if h.ParentID == "" {
			h.ParentID = id
		}
	}
	start, err := time.Parse(time.RFC3339, m.Timestamp)
	if err != nil {
		s.problem(line, "session_meta without a valid timestamp")
		return
	}
	h.StartTime = start.UTC()
}

// sourceText returns a source as one string and, of a spawned subagent, the
// session that spawned it.
func sourceText(source json.RawMessage) (text, spawner string) {
	if json.Unmarshal(source, &text) == nil {
		return text, ""
	}
	var object map[string]json.RawMessage
	if json.Unmarshal(source, &object) != nil || len(object) != 1 {
		return "", ""
	}
	for kind, inner := range object {
		var spawn struct {
			Spawn *struct {
				Parent string `json:"parent_thread_id"`
			} `json:"thread_spawn"`
			Other string `json:"other"`
		}
		switch {
		case json.Unmarshal(inner, &text) == nil:
		case json.Unmarshal(inner, &spawn) != nil:
		case spawn.Spawn != nil:
			text, spawner = "thread_spawn", spawn.Spawn.Parent
		default:
			text = spawn.Other
		}
		text = strings.TrimSuffix(kind+":"+text, ":")
	}
	return text, spawner
}

func (s *headScanner) turnContext(line Line, it Item) {
	if it.Type != TypeTurnContext || s.head.Model != "" {
		return
	}
	var context struct{ Model string }
	s.decode(line, it.Payload, &context)
	s.head.Model = context.Model
}

// An ignored is a JSON value that only counts.
type ignored struct{}

func (*ignored) UnmarshalJSON([]byte) error { return nil }

// eventText returns the text of an event that is a user message, else "".
func eventText(payload json.RawMessage) string {
	var event struct {
		Type        string
		Message     string
		Images      []ignored
		LocalImages []ignored `json:"local_images"`
		Audio       []ignored
		LocalAudio  []ignored `json:"local_audio"`
		Item        struct {
			Type    string
			Content []contentPart
		}
	}
	// An event whose type matches and a member of which does not is still shown.
	_ = json.Unmarshal(payload, &event)
	switch {
	case event.Type == "user_message":
		return prompt(event.Message, len(event.Images)+len(event.LocalImages) > 0, len(event.Audio)+len(event.LocalAudio) > 0)
	case event.Type == "item_completed" && event.Item.Type == "UserMessage":
		return contentText(event.Item.Content)
	}
	return ""
}

// messageText returns the text of a response item that is a message of the user,
// and "" for other items and for wrappers.
func messageText(payload json.RawMessage) string {
	var item struct {
		Type    string
		Role    string
		Content []contentPart
	}
	_ = json.Unmarshal(payload, &item)
	if item.Type != "message" || item.Role != "user" {
		return ""
	}
	var parts []contentPart
	for _, p := range item.Content {
		text := strings.TrimSpace(p.Text)
		for _, w := range wrappers {
			if strings.HasPrefix(text, w) {
				return ""
			}
		}
		// Codex 0.98 and later name an image before and after it.
		if isTag := strings.HasPrefix(text, "<image") && strings.HasSuffix(text, ">") || text == "</image>"; !isTag {
			parts = append(parts, p)
		}
	}
	return contentText(parts)
}

// wrappers are how messages begin that have the role user and are not a person's:
// a selection of the fragments that Codex 0.20 to 0.169 writes.
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

// A contentPart is a part of a message: of type input_text, input_image,
// input_audio in response items, and text, image, local_image, audio, local_audio
// in UserMessage items.
type contentPart struct{ Type, Text string }

func contentText(parts []contentPart) string {
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
