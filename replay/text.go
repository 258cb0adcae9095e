package replay

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/rollout-sync/rollout/codec"
)

// WriteText writes items as a transcript that people read: a header, then the
// messages of the user and the assistant, tool calls and their output,
// compactions and errors, in the order of the session. Headings begin in the
// first column and everything from the session is indented by two spaces, so it
// cannot pass for a heading; control characters and escape sequences are made
// visible or dropped (see [Clean]), so it cannot do anything to a terminal
// either. Lines are never wrapped.
//
// Codex writes a message for the model and again as an event for people, and
// only the events tell what a person wrote from what Codex put there. So once a
// session has events of the user, or of the assistant, these are shown, and until
// then its response items, less those that begin as Codex's own do. Plain events
// are shown as they come.
//
// Output of tools is cut: of more than 20 lines the middle ones are left out and
// counted, and so is the rest of a line of more than 1,000 bytes. Memory is that
// of an item.
//
// An error is w's, or that of items, which then stand in w as far as they came.
func WriteText(w io.Writer, items iter.Seq2[Item, error]) error {
	t := text{w: bufio.NewWriter(w), calls: make(map[string]int)}
	var failed error
	for it, err := range items {
		if err != nil {
			failed = err
			break
		}
		if err := t.item(it); err != nil {
			return err
		}
	}
	t.release()
	t.header()
	return cmp.Or(t.w.Flush(), failed)
}

const (
	foldLines = 20
	foldBytes = 1000
)

// text writes one transcript.
type text struct {
	w *bufio.Writer

	meta   *meta  // the first one
	model  string // of the last turn_context
	headed bool
	// early is what was written before the header, which waits for one more item:
	// from Codex 0.50 to 0.118 the model comes behind the first message.
	early bytes.Buffer

	events [2]bool   // by role: messages come as events
	held   []message // response items that an event may follow

	calls map[string]int // numbers of calls without output, by id
	call  int            // the last number
}

type role int

const (
	user role = iota
	assistant
)

func (r role) String() string { return [...]string{"user", "assistant"}[r] }

type message struct {
	role role
	time string
	text string
}

type meta struct {
	ID         string
	Timestamp  string
	Cwd        string
	Originator string
	CLIVersion string `json:"cli_version"`
	ForkedFrom string `json:"forked_from_id"`
	Provider   string `json:"model_provider"`
	Git        struct {
		Commit string `json:"commit_hash"`
		Branch string `json:"branch"`
	}
}

// decode decodes as much of a payload as has the expected types. What has not is
// left zero: another version wrote it, and the rest is still worth showing.
func decode[T any](payload json.RawMessage) (v T) {
	_ = json.Unmarshal(payload, &v)
	return v
}

// item writes one item. An error is w's.
func (t *text) item(it Item) error {
	if it.Err != nil {
		t.block(fmt.Sprintf("line %d cannot be read: %v", it.Line, it.Err), "")
		return nil
	}
	if t.early.Len() > 0 && it.Type != codec.TypeSessionMeta && it.Type != codec.TypeTurnContext {
		t.header()
	}
	switch it.Type {
	case codec.TypeSessionMeta:
		if t.meta == nil {
			m := decode[meta](it.Payload)
			t.meta = &m
		}
	case codec.TypeTurnContext:
		t.turnContext(it)
	case codec.TypeCompacted:
		c := decode[struct{ Message string }](it.Payload)
		t.block("compaction", c.Message)
	case codec.TypeEventMsg:
		t.event(it)
	case codec.TypeResponseItem:
		t.response(it)
	case codec.TypeUserMessage, codec.TypeAssistantMessage, codec.TypeSystem, codec.TypeError, codec.TypeToolCall, codec.TypeToolResult:
		t.plain(it)
	}
	// A failed write is sticky in a bufio.Writer; this only stops early.
	_, err := t.w.Write(nil)
	return err
}

func (t *text) turnContext(it Item) {
	c := decode[struct{ Model string }](it.Payload)
	if c.Model == "" || c.Model == t.model {
		return
	}
	changed := t.model != "" || t.headed
	t.model = c.Model
	if changed {
		t.block("model "+oneLine(c.Model), "")
	}
}

// header writes the header and what had to wait for it.
func (t *text) header() {
	if t.headed {
		return
	}
	t.headed = true
	m := meta{ID: "unknown"}
	if t.meta != nil {
		m = *t.meta
	}
	for _, field := range [][2]string{
		{"session", m.ID},
		{"started", m.Timestamp},
		{"cwd", m.Cwd},
		{"git", strings.TrimSpace(m.Git.Branch + " " + m.Git.Commit)},
		{"model", t.model},
		{"provider", m.Provider},
		{"written by", strings.TrimSpace(m.Originator + " " + m.CLIVersion)},
		{"forked from", m.ForkedFrom},
	} {
		if field[1] != "" {
			fmt.Fprintf(t.w, "%-12s%s\n", field[0], oneLine(field[1]))
		}
	}
	_, _ = t.early.WriteTo(t.w) // t.w keeps its error
	t.early = bytes.Buffer{}
}

// block writes a heading and what belongs to it.
func (t *text) block(heading, body string) {
	t.release()
	var w io.Writer = &t.early
	if t.headed {
		w = t.w
	}
	fmt.Fprintf(w, "\n%s\n", heading)
	if body = strings.TrimRight(Clean(body), "\n"); body == "" {
		return
	}
	for line := range strings.SplitSeq(body, "\n") {
		if line != "" {
			line = "  " + line
		}
		fmt.Fprintln(w, line)
	}
}

// hold keeps a message that came as a response item until it is known that no
// event of its role follows.
func (t *text) hold(m message) {
	if len(t.held) > 0 && t.held[0].role != m.role {
		t.release()
	}
	if m.text != "" {
		t.held = append(t.held, m)
	}
}

// release writes the messages that were held.
func (t *text) release() {
	held := t.held
	t.held = nil
	for _, m := range held {
		t.message(m)
	}
}

func (t *text) message(m message) {
	heading := m.role.String()
	if m.time != "" {
		heading += ", " + oneLine(m.time)
	}
	t.block(heading, m.text)
}

// eventMessage writes a message that came as an event.
func (t *text) eventMessage(m message) {
	if !t.events[m.role] {
		t.events[m.role] = true
		t.held = slices.DeleteFunc(t.held, func(h message) bool { return h.role == m.role })
	}
	if m.text != "" {
		t.message(m)
	}
}

func (t *text) event(it Item) {
	e := decode[struct {
		Type        string
		Message     string
		Images      []struct{}
		LocalImages []struct{} `json:"local_images"`
		Item        struct {
			Type    string
			Content []part
		}
		NumTurns int `json:"num_turns"`
		Reason   string
		Error    struct{ Message string }
	}](it.Payload)
	switch e.Type {
	case "user_message":
		text := e.Message
		if codec.Injected(text) {
			return
		}
		if n := len(e.Images) + len(e.LocalImages); n > 0 {
			text += strings.Repeat("\n[image]", n)
		}
		t.eventMessage(message{user, it.Timestamp, text})
	case "agent_message":
		t.eventMessage(message{assistant, it.Timestamp, e.Message})
	case "item_completed":
		switch e.Item.Type {
		case "UserMessage":
			t.eventMessage(message{user, it.Timestamp, contentText(e.Item.Content)})
		case "AgentMessage":
			t.eventMessage(message{assistant, it.Timestamp, contentText(e.Item.Content)})
		}
	case "error", "stream_error":
		t.block("error", e.Message)
	case "task_complete", "turn_complete":
		if e.Error.Message != "" {
			t.block("error", e.Error.Message)
		}
	case "turn_aborted":
		t.block("turn aborted", e.Reason)
	case "thread_rolled_back":
		t.block(fmt.Sprintf("rolled back, turns: %d", e.NumTurns), "")
	}
}

func (t *text) response(it Item) {
	r := decode[responseItem](it.Payload)
	switch r.Type {
	case "message":
		for _, role := range []role{user, assistant} {
			if r.Role == role.String() && !t.events[role] {
				t.hold(message{role, it.Timestamp, contentText(r.Content)})
			}
		}
	case "function_call", "custom_tool_call", "local_shell_call", "web_search_call", "tool_search_call", "image_generation_call":
		t.toolCall(r.CallID, cmp.Or(r.Name, strings.TrimSuffix(r.Type, "_call")), r.input())
	case "function_call_output", "custom_tool_call_output", "tool_search_output":
		text, exitCode := output(r.Output)
		t.toolOutput(r.CallID, text, exitCode, false)
	}
}

func (t *text) toolCall(id, name, input string) {
	t.call++
	if id != "" {
		t.calls[id] = t.call
	}
	t.block(fmt.Sprintf("call %d: %s", t.call, oneLine(name)), input)
}

// toolOutput writes what the call with an id brought.
func (t *text) toolOutput(id, output string, exitCode int, failed bool) {
	heading := "output"
	if n, ok := t.calls[id]; ok {
		heading += " of call " + strconv.Itoa(n)
		delete(t.calls, id)
	}
	switch {
	case exitCode != 0:
		heading += fmt.Sprintf(", exit code %d", exitCode)
	case failed:
		heading += ", failed"
	}
	t.block(heading, fold(Clean(output)))
}

// plain writes a plain event, whose item is an object or the text alone. There is
// no second form of what it says.
func (t *text) plain(it Item) {
	var bare json.RawMessage
	if !bytes.HasPrefix(it.Payload, []byte("{")) {
		bare = it.Payload
	}
	payload, _ := it.Decode() // what fits of it
	switch p := payload.(type) {
	case *codec.PlainMessage:
		body := cmp.Or(p.Text, p.Message, valueText(first(p.Content, bare)))
		switch it.Type {
		case codec.TypeUserMessage:
			t.message(message{user, it.Timestamp, body})
		case codec.TypeAssistantMessage:
			t.message(message{assistant, it.Timestamp, body})
		default:
			t.block(strings.TrimSpace(it.Type+" "+oneLine(valueText(p.Code))), body)
		}
	case *codec.PlainToolCall:
		call := responseItem{Arguments: first(p.Arguments, p.Input, bare)}
		t.toolCall(cmp.Or(p.CallID, p.ID), cmp.Or(p.Name, "tool"), call.input())
	case *codec.PlainToolResult:
		text, exitCode := output(first(p.Output, p.Content, bare))
		if p.ExitCode != nil {
			exitCode = int(*p.ExitCode)
		}
		t.toolOutput(cmp.Or(p.CallID, p.ID), text, exitCode, p.IsError)
	}
}

// first returns the first value that is there.
func first(values ...json.RawMessage) json.RawMessage {
	for _, v := range values {
		if len(v) > 0 && string(v) != "null" {
			return v
		}
	}
	return nil
}

// responseItem has the members of all kinds of response items that are shown.
type responseItem struct {
	Type    string
	Role    string
	Content []part

	Name          string
	CallID        string `json:"call_id"`
	Arguments     json.RawMessage
	Input         string
	RevisedPrompt string `json:"revised_prompt"`
	Action        struct {
		Command []string
		Query   string
	}
	Output json.RawMessage
}

// input returns what a tool was called with: of a shell the command, else the
// arguments.
func (r *responseItem) input() string {
	switch {
	case r.Input != "":
		return r.Input
	case len(r.Action.Command) > 0:
		return commandLine(r.Action.Command)
	case r.Action.Query != "":
		return r.Action.Query
	case r.RevisedPrompt != "":
		return r.RevisedPrompt
	}
	arguments := string(r.Arguments)
	_ = json.Unmarshal(r.Arguments, &arguments) // JSON within a string, or no string
	var shell struct {
		Cmd     string
		Command []string
	}
	_ = json.Unmarshal([]byte(arguments), &shell)
	switch {
	case shell.Cmd != "":
		return shell.Cmd
	case len(shell.Command) > 0:
		return commandLine(shell.Command)
	}
	return arguments
}

// commandLine writes a command as one would type it, nearly.
func commandLine(command []string) string {
	if len(command) == 3 && strings.HasSuffix(command[0], "sh") && (command[1] == "-lc" || command[1] == "-c") {
		return command[2] // of bash, zsh or sh
	}
	words := slices.Clone(command)
	for i, w := range words {
		if w == "" || strings.ContainsAny(w, " \t\n\"'\\$`&|;<>()*?#~") {
			words[i] = strconv.Quote(w)
		}
	}
	return strings.Join(words, " ")
}

// valueText returns what a value says: a string, or parts like those of a message.
// Of another value it is the JSON.
func valueText(v json.RawMessage) string {
	var text string
	var content []part
	switch {
	case json.Unmarshal(v, &text) == nil:
		return text
	case json.Unmarshal(v, &content) == nil:
		return contentText(content)
	}
	return string(v)
}

// output returns what a tool answered. In a string Codex before 0.98 has an object.
func output(v json.RawMessage) (text string, exitCode int) {
	text = valueText(v)
	if !bytes.HasPrefix(v, []byte(`"`)) {
		return text, 0
	}
	var shell struct {
		Output   *string
		Metadata struct {
			ExitCode int `json:"exit_code"`
		}
	}
	if json.Unmarshal([]byte(text), &shell) == nil && shell.Output != nil {
		return *shell.Output, shell.Metadata.ExitCode
	}
	return text, 0
}

// A part is a part of a message: its Type ends in "text", "image" or "audio".
type part struct{ Type, Text string }

// contentText returns the text of parts, one below the other, without those that
// Codex added.
func contentText(parts []part) string {
	var texts []string
	for _, p := range parts {
		switch {
		case strings.HasSuffix(p.Type, "image"):
			texts = append(texts, "[image]")
		case strings.HasSuffix(p.Type, "audio"):
			texts = append(texts, "[audio]")
		case strings.TrimSpace(p.Text) == "" || codec.Injected(p.Text):
		default:
			texts = append(texts, p.Text)
		}
	}
	return strings.Join(texts, "\n")
}
