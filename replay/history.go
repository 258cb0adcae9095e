package replay

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout/codec"
)

// A history is what the model has been told, as Codex keeps it in memory.
type history struct {
	rules    rules
	entries  []entry
	truncate Truncation
}

// An entry is a response item and what has to be known of it.
type entry struct {
	raw    json.RawMessage
	kind   string // its type, of calls and outputs only
	callID string
	id     string // of calls, and of what a person says
	// turn tells that a turn begins with it: a message of a person, or between
	// agents.
	turn bool
	// context tells that Codex put it there to tell of a turn's circumstances.
	context bool
	answer  bool // a message of the model
	// isSaid tells that it is a message of a person, or the summary of a compaction.
	isSaid    bool
	isSummary bool
}

// entry returns the entry of a response item; false if the model is not sent it. An
// error means that Codex could not read it.
func (r rules) entry(raw json.RawMessage) (e entry, ok bool, err error) {
	v, err := codec.DecodeResponseItem(raw)
	if err != nil {
		return entry{}, false, err
	}
	e = entry{raw: raw}
	switch v := v.(type) {
	case *codec.Message:
		switch v.Role {
		case "system":
			return e, false, nil
		case "user":
			e.context = anyPart(v.Content, isUserContext)
			e.isSaid, e.id = !e.context, v.ID
			e.isSummary = e.isSaid && strings.HasPrefix(saidIn(v.Content), summaryPrefix)
			e.turn = e.isSaid && !(e.isSummary && r.summaryIsNoTurn)
		case "assistant":
			e.answer = true
		case "developer":
			e.context = anyPart(v.Content, isDeveloperContext)
		}
	case *codec.AgentMessage:
		e.turn = true
	case *codec.FunctionCall:
		e.kind, e.callID, e.id = "function_call", v.CallID, v.ID
	case *codec.LocalShellCall:
		e.kind, e.callID, e.id = "local_shell_call", v.CallID, v.ID
	case *codec.CustomToolCall:
		e.kind, e.callID, e.id = "custom_tool_call", v.CallID, v.ID
	case *codec.ToolSearchCall:
		e.kind, e.callID, e.id = "tool_search_call", v.CallID, v.ID
	case *codec.FunctionCallOutput:
		e.kind, e.callID = "function_call_output", v.CallID
	case *codec.CustomToolCallOutput:
		e.kind, e.callID = "custom_tool_call_output", v.CallID
	case *codec.ToolSearchOutput:
		e.kind, e.callID = "tool_search_output", v.CallID
		if v.Execution == "server" {
			e.callID = ""
		}
	case *codec.Reasoning, *codec.WebSearchCall, *codec.ImageGenerationCall, *codec.Compaction, *codec.ContextCompaction:
	default:
		return e, false, nil
	}
	return e, true, nil
}

// isCut tells whether it has an output that may be too long for the model.
func (e entry) isCut() bool {
	return e.kind == "function_call_output" || e.kind == "custom_tool_call_output"
}

// record adds a response item.
func (h *history) record(raw json.RawMessage) error {
	e, ok, err := h.rules.entry(raw)
	if !ok {
		return err
	}
	if e.isCut() {
		e.raw = h.truncate.output(e.raw)
	}
	h.add(e)
	return nil
}

// add adds an entry whose item is a part of something, as a copy.
func (h *history) add(e entry) {
	if !h.rules.sendsIDs {
		e.id = ""
	}
	e.raw = h.rules.sent(e.raw)
	h.entries = append(h.entries, e)
}

// replace makes a compaction's items the history.
func (h *history) replace(items []json.RawMessage) {
	h.entries = make([]entry, 0, len(items))
	for _, raw := range items {
		if e, ok, _ := h.rules.entry(raw); ok {
			h.add(e)
		}
	}
}

// compact does what a compaction without its outcome did: what the user said stays,
// the newest of it, and the summary.
func (h *history) compact(summary string) {
	budget := compactTokens
	var said []userMessage
	for i := len(h.entries) - 1; i >= 0 && budget > 0; i-- {
		e := h.entries[i]
		if !e.isSaid || e.isSummary {
			continue
		}
		v, _ := codec.DecodeResponseItem(e.raw) // as it was when it came
		text := saidIn(v.(*codec.Message).Content)
		m := userMessage{Type: "message", Role: "user"}
		if h.rules.keepsSaid {
			m.ID = e.id
		}
		if n := tokens(text); n <= budget {
			m.Content = []inputText{{"input_text", text}}
			budget -= n
		} else {
			before, mark, after := Truncation{"tokens", budget}.split(text)
			m.Content = []inputText{{"input_text", before + mark + after}}
			if h.rules.keepsSaid {
				m.Content = []inputText{{"input_text", before}, {"input_text", mark}, {"input_text", after}}
			}
			budget = 0
		}
		said = append(said, m)
	}
	slices.Reverse(said)
	said = append(said, userMessage{Type: "message", Role: "user", Content: []inputText{{"input_text", cmp.Or(summary, "(no summary available)")}}})
	h.entries = make([]entry, 0, len(said))
	for _, m := range said {
		e, _, _ := h.rules.entry(marshal(m)) // it is one
		h.entries = append(h.entries, e)
	}
}

type userMessage struct {
	Type    string      `json:"type"`
	ID      string      `json:"id,omitempty"`
	Role    string      `json:"role"`
	Content []inputText `json:"content"`
}

type inputText struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

// compactTokens is how much of what the user said a compaction keeps.
const compactTokens = 20_000

// summaryPrefix begins the summaries of compactions.
const summaryPrefix = "Another language model started to solve this problem and produced a summary of its thinking process. " +
	"You also have access to the state of the tools that were used by that language model. " +
	"Use this to build on the work that has already been done and avoid duplicating work. " +
	"Here is the summary produced by the other language model, use the information in this summary to assist with your own analysis:\n"

// rollBack takes back the last n turns. What stands in front of the first turn
// stays.
func (h *history) rollBack(n int64) {
	var turns []int
	for i, e := range h.entries {
		if e.turn {
			turns = append(turns, i)
		}
	}
	if n <= 0 || len(turns) == 0 {
		return
	}
	cut := turns[max(0, int64(len(turns))-n)]
	for !h.rules.keepsContext && cut > turns[0] && h.entries[cut-1].context {
		cut--
	}
	h.entries = h.entries[:cut:cut]
}

// items returns what the model is sent: as every call has to have an output, and
// every output a call, a call without one is answered, and an output without one
// left out.
func (h *history) items() []json.RawMessage {
	if h.rules.cutsTwice {
		for i, e := range h.entries {
			if e.isCut() {
				h.entries[i].raw = h.truncate.output(e.raw)
			}
		}
	}
	calls, outputs := make(map[string]bool), make(map[string]bool)
	for _, e := range h.entries {
		switch e.kind {
		case "function_call", "local_shell_call":
			calls["function_call_output"+e.callID] = true
		case "custom_tool_call", "tool_search_call":
			calls[outputOf[e.kind]+e.callID] = true
		case "function_call_output", "custom_tool_call_output", "tool_search_output":
			outputs[e.kind+e.callID] = true
		}
	}
	items := make([]json.RawMessage, 0, len(h.entries))
	for _, e := range h.entries {
		output, isCall := outputOf[e.kind]
		if e.kind != "" && !isCall && e.callID != "" && !calls[e.kind+e.callID] {
			continue
		}
		items = append(items, e.raw)
		if isCall && e.callID != "" && !outputs[output+e.callID] {
			items = append(items, aborted(output, e))
		}
	}
	return items
}

var outputOf = map[string]string{
	"function_call":    "function_call_output",
	"local_shell_call": "function_call_output",
	"custom_tool_call": "custom_tool_call_output",
	"tool_search_call": "tool_search_output",
}

// aborted returns the output that Codex gives a call which has none.
func aborted(kind string, call entry) json.RawMessage {
	var o struct {
		Type      string `json:"type"`
		ID        string `json:"id,omitempty"`
		CallID    string `json:"call_id"`
		Status    string `json:"status,omitempty"`
		Execution string `json:"execution,omitempty"`
		Output    string `json:"output,omitempty"`
		Tools     *[]int `json:"tools,omitempty"`
	}
	prefix := "fco"
	o.Type, o.CallID, o.Output = kind, call.callID, "aborted"
	switch kind {
	case "custom_tool_call_output":
		prefix = "ctco"
	case "tool_search_output":
		prefix = "tso"
		o.Output, o.Status, o.Execution, o.Tools = "", "completed", "client", &[]int{}
	}
	if call.id != "" {
		o.ID = prefix + "_" + uuid.NewSHA1(abortedSpace, []byte(prefix+":"+call.id)).String()
	}
	return marshal(o)
}

// abortedSpace is the name space of the ids of outputs that Codex makes up, from
// 0.150 on. They are derived from the call's, so that they are always the same.
var abortedSpace = uuid.MustParse("90d38d3e-6a5b-4d52-bfe2-2f1e634bfac4")

// sent returns a copy of an item as it is sent to a provider that is not OpenAI's.
func (r rules) sent(raw json.RawMessage) json.RawMessage {
	if r.sendsIDs && !bytes.Contains(raw, []byte(passthrough)) {
		return bytes.Clone(raw)
	}
	return edit(raw, func(key string, value json.RawMessage) json.RawMessage {
		if key == passthrough || key == "id" && !r.sendsIDs {
			return nil
		}
		return value
	})
}

const passthrough = "internal_chat_message_metadata_passthrough"

// edit returns a copy of an object with each member's value changed; nil takes the
// member away.
func edit(object json.RawMessage, change func(key string, value json.RawMessage) json.RawMessage) json.RawMessage {
	d := json.NewDecoder(bytes.NewReader(object))
	if _, err := d.Token(); err != nil {
		return bytes.Clone(object)
	}
	b := []byte("{")
	for d.More() {
		key, err := d.Token()
		name, ok := key.(string)
		var value json.RawMessage
		if err != nil || !ok || d.Decode(&value) != nil {
			return bytes.Clone(object)
		}
		if value = change(name, value); value == nil {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(append(b, marshal(name)...), ':')
		b = append(b, value...)
	}
	return append(b, '}')
}

// marshal encodes what always can be.
func marshal(v any) json.RawMessage {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}

func anyPart(parts []codec.Part, is func(text string) bool) bool {
	for _, p := range parts {
		if p.Type == "input_text" && is(strings.TrimSpace(p.Text)) {
			return true
		}
	}
	return false
}

// saidIn returns the text of a message of a person, without the tags around images.
func saidIn(parts []codec.Part) string {
	var b strings.Builder
	for i, p := range parts {
		opens := strings.HasPrefix(p.Text, "<image") && i+1 < len(parts) && parts[i+1].Type == "input_image"
		closes := p.Text == "</image>" && i > 0 && parts[i-1].Type == "input_image"
		if p.Type == "input_text" && !opens && !closes {
			b.WriteString(p.Text)
		}
	}
	return b.String()
}

// userContext are the beginnings and ends of what Codex puts into messages of the
// role user, and does not take for a turn: those of 0.98 to 0.169.
var userContext = [][2]string{
	{"# AGENTS.md instructions", "</INSTRUCTIONS>"},
	{"<environment_context>", "</environment_context>"},
	{"<skill>", "</skill>"},
	{"<user_shell_command>", "</user_shell_command>"},
	{"<turn_aborted>", "</turn_aborted>"},
	{"<subagent_notification>", "</subagent_notification>"},
	{"<additional_context>", "</additional_context>"},
	{"<extension_context>", "</extension_context>"},
	{"<external_", ">"},
	{"<goal_context>", "</goal_context>"},
	{"<hook_prompt", "</hook_prompt>"},
	{"Warning: The maximum number of unified exec processes you can keep open is", ""},
}

func isUserContext(text string) bool {
	for _, c := range userContext {
		if hasFold(text, c[0]) && len(text) >= len(c[1]) && strings.EqualFold(text[len(text)-len(c[1]):], c[1]) {
			return true
		}
	}
	return false
}

// developerContext are the beginnings of what Codex tells with a turn's context in
// messages of the role developer, and takes back with it.
var developerContext = []string{
	"<permissions instructions>", "<model_switch>", "<collaboration_mode>", "<multi_agent_mode>",
	"<realtime_conversation>", "<skills_instructions>", "<personality_spec>", "<token_budget>",
	"<token_budget_reminder>", "<context_window>", "<context_window_guidance>", "<rollout_budget>",
}

func isDeveloperContext(text string) bool {
	for _, c := range developerContext {
		if hasFold(text, c) {
			return true
		}
	}
	return false
}

func hasFold(text, prefix string) bool {
	return len(text) >= len(prefix) && strings.EqualFold(text[:len(prefix)], prefix)
}

// Truncation is how much of a tool's output a model is sent (Codex:
// truncation_policy), a property of the model: Codex 0.98 to 0.118 store the whole
// output, and cut it for the model, 0.150 and later cut it before they store it.
// They leave a fifth more than the limit, for the characters that JSON needs.
type Truncation struct {
	Mode  string `json:"mode"` // "bytes", "tokens" of four bytes each, or "": nothing is cut
	Limit int    `json:"limit"`
}

// output returns a tool's output with its text cut.
func (t Truncation) output(raw json.RawMessage) json.RawMessage {
	if t.Mode == "" || len(raw) <= t.Limit {
		return raw
	}
	t.Limit = int(math.Ceil(float64(t.Limit) * 1.2))
	return edit(raw, func(key string, value json.RawMessage) json.RawMessage {
		if key != "output" {
			return value
		}
		var text string
		if json.Unmarshal(value, &text) == nil {
			if cut := t.text(text); cut != text {
				return marshal(cut)
			}
			return value
		}
		var parts []json.RawMessage
		if json.Unmarshal(value, &parts) != nil {
			return value
		}
		return t.parts(parts)
	})
}

// parts cuts the texts among the parts of an output, all together.
func (t Truncation) parts(parts []json.RawMessage) json.RawMessage {
	kept, omitted := parts[:0:0], 0
	for _, raw := range parts {
		var p codec.Part
		if json.Unmarshal(raw, &p) != nil || p.Type != "input_text" {
			kept = append(kept, raw)
			continue
		}
		cost := len(p.Text)
		if t.Mode == "tokens" {
			cost = tokens(p.Text)
		}
		switch {
		case p.Text == "":
		case t.Limit == 0:
			omitted++
		case cost <= t.Limit:
			kept = append(kept, raw)
			t.Limit -= cost
		default:
			kept = append(kept, marshal(inputText{"input_text", t.text(p.Text)}))
			t.Limit = 0
		}
	}
	if omitted > 0 {
		kept = append(kept, marshal(inputText{"input_text", fmt.Sprintf("[omitted %d text items ...]", omitted)}))
	}
	return marshal(kept)
}

// text takes the middle out of a text that is too long.
func (t Truncation) text(s string) string {
	before, mark, after := t.split(s)
	return before + mark + after
}

// split returns what is left of a text, and a mark of what is not, if it is too long.
func (t Truncation) split(s string) (before, mark, after string) {
	limit := t.Limit
	if t.Mode == "tokens" {
		limit *= 4
	}
	if len(s) <= limit {
		return s, "", ""
	}
	left, right := limit/2, len(s)-(limit-limit/2)
	for left > 0 && !utf8.RuneStart(s[left]) {
		left--
	}
	for right < len(s) && !utf8.RuneStart(s[right]) {
		right++
	}
	mark = fmt.Sprintf("…%d chars truncated…", utf8.RuneCountInString(s[left:right]))
	if t.Mode == "tokens" {
		mark = fmt.Sprintf("…%d tokens truncated…", (len(s)-limit+3)/4)
	}
	return s[:left], mark, s[right:]
}

// tokens is about how many tokens a text has.
func tokens(s string) int { return (len(s) + 3) / 4 }
