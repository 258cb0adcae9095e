package replay

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"iter"
	"runtime"
	"slices"
	"strings"
	"time"

	"github.com/rollout-sync/rollout/codec"
)

// Entries turns the items of a session, of any generation, into what people look
// at: turns, messages, calls with their results, and what else happened, in the
// order of the session and each once.
//
// Codex writes most of it twice, for the model and again as an event for people,
// and only the events tell what a person wrote from what Codex put there. So once
// a session has events of the user, of the assistant or of reasoning, these are
// entries, and until then its response items, less those that begin as Codex's own
// do. Of calls the response items are the entries, and events add what only they
// know: exit codes, durations, changes of files. Left out are the instructions of
// Codex and of developers, encrypted content, and lines of types that are not
// known.
//
// A call waits for its result, and what follows waits behind it, until its turn
// ends, Follow waits, or more than 1 MiB or 1,000 entries wait. A result that comes
// later is a KindOutput. So memory is that of the longest line and about 1 MiB.
//
// An entry belongs to the caller. An error is that of items; what was there before
// comes before it. It can be ranged over as often as items can.
func Entries(items iter.Seq2[Item, error]) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		b := &entryBuilder{entryQueue: entryQueue{yield: yield}, calls: make(map[string]*openCall)}
		for it, err := range items {
			if err != nil {
				b.finish(errors.Is(err, ErrNoMeta))
				if !b.stopped {
					yield(Entry{}, err)
				}
				return
			}
			if b.item(it); b.stopped {
				return
			}
		}
		b.finish(true)
	}
}

// A role is who said something. Each comes as response items and, from Codex 0.50
// on, as events.
type role int

const (
	roleUser role = iota
	roleAssistant
	roleReasoning
	roleCount
)

var roleKinds = [roleCount]Kind{KindUser, KindAssistant, KindReasoning}

// entryBuilder builds the entries of one session.
type entryBuilder struct {
	entryQueue
	line int    // of the current item
	time string // the same, "" if it has none

	begun   bool
	session *waitingEntry // until the head is complete
	hasMeta bool
	model   Model // of the last turn_context

	events [roleCount]bool // the role's messages come as events
	held   []heldMessage   // response items that an event may follow
	images []Image         // of the user's last response item, for its event

	calls map[string]*openCall // by id
	turn  turnState

	counted usageCount // the last one in the file: a resume by Codex 0.50 begins anew
	records bool       // it has token_usage_record lines, so the other counts say nothing new
	totals  Totals     // so far

	changed func([]File) // is told of changes of files as they come, if it is not nil
}

// A usageCount is how many tokens a session has used so far, if that is known.
type usageCount struct {
	known bool
	codec.TokenUsage
}

// turnState is the last turn.
type turnState struct {
	open     bool // it goes on
	explicit bool // a line began it, and one will end it
	answered bool // something in it is not the user's
	started  string
	until    string            // the time of the last thing in it
	spent    *codec.TokenUsage // by it
}

// A heldMessage is a message that may come again as an event.
type heldMessage struct {
	role role
	Entry
}

// item takes the next item.
func (b *entryBuilder) item(it Item) {
	if it.Line == 0 {
		b.idle()
		return
	}
	b.line, b.time = it.Line, it.Timestamp
	b.totals.Ended = cmp.Or(b.time, b.totals.Ended)
	if !b.begun {
		b.begin()
	}
	if it.Err != nil {
		b.settleSession()
		b.totals.Problems++
		b.push(Entry{Kind: KindProblem, Text: it.Err.Error()})
		return
	}
	if it.Type != codec.TypeSessionMeta && it.Type != codec.TypeTurnContext {
		b.settleSession()
	}
	if it.Type == codec.TypeResponseItem {
		b.endMessages()
	}
	payload, _ := it.Decode() // what fits of it: another version wrote the rest
	switch p := payload.(type) {
	case *codec.SessionMeta:
		b.meta(p)
	case *codec.TurnContext:
		b.turnContext(p)
	case *codec.Compacted:
		b.push(Entry{Kind: KindCompaction, Text: p.Message})
	case *codec.TokenUsageRecord:
		b.records = true
		b.usage(&Usage{Last: p.Usage, Total: p.ThreadTokenUsage})
	case *codec.InterAgentCommunication:
		b.note("message from "+p.Author+" to "+p.Recipient, p.Content)
	case *codec.RealtimeItem:
		if p.Text != "" {
			b.note("realtime "+p.Role, p.Text)
		}
	case *codec.PlainMessage:
		b.plainMessage(it, p)
	case *codec.PlainToolCall:
		input := firstValue(p.Arguments, p.Input, bareValue(it))
		b.callOf(cmp.Or(p.CallID, p.ID), cmp.Or(p.Name, "tool"), valueText(input))
	case *codec.PlainToolResult:
		r := toolResult(firstValue(p.Output, p.Content, bareValue(it)))
		if p.ExitCode != nil {
			r.ExitCode = p.ExitCode
		}
		r.Failed = r.Failed || p.IsError
		b.result(cmp.Or(p.CallID, p.ID), r)
	default:
		switch it.Type {
		case codec.TypeResponseItem:
			b.response(payload)
		case codec.TypeEventMsg:
			b.event(it, payload)
		}
	}
}

// begin queues the head of the session, which waits for its metadata and model.
// From Codex 0.50 to 0.98 the model comes behind the first message.
func (b *entryBuilder) begin() {
	b.begun = true
	b.session = &waitingEntry{Entry: Entry{Kind: KindSession, Line: b.line, Session: &Session{}}, open: true}
	b.add(b.session)
}

// settleSession gives up waiting for the head when there is something to show.
func (b *entryBuilder) settleSession() {
	if b.session == nil {
		return
	}
	if slices.ContainsFunc(b.waiting[1:], func(w *waitingEntry) bool { return w.Kind != KindTurn }) {
		b.settle()
	}
}

func (b *entryBuilder) settle() {
	if b.session != nil {
		b.session.open = false
		b.session = nil
		b.drain()
	}
}

func (b *entryBuilder) meta(m *codec.SessionMeta) {
	if b.hasMeta || b.session == nil {
		b.hasMeta = true
		return
	}
	b.hasMeta = true
	s := b.session.Session
	model := s.Model
	*s = Session{
		ID: cmp.Or(m.ID, m.SessionID), ForkedFrom: m.ForkedFromID, ParentID: m.ParentThreadID, Base: m.HistoryBase,
		Started: m.Timestamp, Cwd: m.Cwd, Git: m.Git, Model: model,
		Provider: m.ModelProvider, Originator: m.Originator, CLIVersion: m.CLIVersion,
	}
	b.session.Time = b.time
}

func (b *entryBuilder) turnContext(c *codec.TurnContext) {
	model := Model{c.Model, c.Effort}
	if model.Name == "" || model == b.model {
		return
	}
	first := b.model == (Model{})
	b.model = model
	if first && b.session != nil {
		b.session.Session.Model = &model
		if b.hasMeta {
			b.settle()
		}
		return
	}
	b.push(Entry{Kind: KindModel, Model: &model})
}

// push queues an entry, or yields it if nothing is waited for. Whatever was held
// comes before it.
func (b *entryBuilder) push(e Entry) { b.pushWaiting(&waitingEntry{Entry: e}) }

func (b *entryBuilder) pushWaiting(w *waitingEntry) {
	b.release()
	w.Line, w.Time = cmp.Or(w.Line, b.line), cmp.Or(w.Time, b.time)
	if b.turn.open {
		w.Turn = b.totals.Turns
	}
	b.turn.until = cmp.Or(w.Time, b.turn.until)
	switch w.Kind {
	case KindTurn, KindUser, KindUsage, KindModel:
	default:
		b.turn.answered = true
	}
	b.add(w)
}

// idle tells that there is nothing more for now. Only a call that has ended waits
// on, for its output, which comes at once.
func (b *entryBuilder) idle() {
	b.release()
	b.settle()
	b.giveUp(func(w *waitingEntry) bool { return w.Result == nil })
	if !b.stopped {
		b.stopped = !b.yield(Entry{Kind: KindIdle}, nil)
	}
}

// finish ends the session. Whole tells that all of it was read.
func (b *entryBuilder) finish(whole bool) {
	b.release()
	b.settle()
	if whole {
		b.giveUpTurn()
	}
	b.giveUp(everyCall)
	if whole {
		b.push(Entry{Kind: KindEnd, Totals: &b.totals})
	}
}

func everyCall(*waitingEntry) bool { return true }

func (b *entryBuilder) note(title, text string) {
	b.push(Entry{Kind: KindNote, Title: title, Text: text})
}

// Turns.

// beginTurn begins a turn, at the current line unless e has another.
func (b *entryBuilder) beginTurn(e Entry, explicit bool) {
	b.totals.Turns++
	b.turn = turnState{open: true, explicit: explicit, started: cmp.Or(e.Time, b.time)}
	// A result belongs to the turn of its call.
	clear(b.calls)
	e.Kind = KindTurn
	b.push(e)
}

// endTurn ends the turn, if there is one, at a time.
func (b *entryBuilder) endTurn(end TurnEnd, at string) {
	b.release()
	if !b.turn.open {
		return
	}
	b.giveUp(everyCall)
	if end.DurationMS == 0 {
		end.DurationMS = milliseconds(b.turn.started, at)
	}
	end.Tokens = b.turn.spent
	b.totals.ActiveMS += end.DurationMS
	b.push(Entry{Kind: KindTurnEnd, Time: at, TurnEnd: &end})
	b.turn = turnState{}
}

// giveUpTurn ends the turn, if there is one, without a line that does.
func (b *entryBuilder) giveUpTurn() {
	b.release()
	end := TurnEnd{}
	if b.turn.explicit {
		end.Status = TurnIncomplete
	}
	b.endTurn(end, b.turn.until)
}

// addTokens adds u to the sum. A total beyond input and output is no use: behind a
// compaction Codex writes the size of the context there.
func addTokens(sum **codec.TokenUsage, u *codec.TokenUsage) {
	if u == nil || u.Input+u.Output == 0 {
		return
	}
	if *sum == nil {
		*sum = new(codec.TokenUsage)
	}
	s := *sum
	s.Input += u.Input
	s.CachedInput += u.CachedInput
	s.CacheWriteInput += u.CacheWriteInput
	s.Output += u.Output
	s.ReasoningOutput += u.ReasoningOutput
	s.Total = s.Input + s.Output
}

// usage is told after each response of the model, often twice.
func (b *entryBuilder) usage(u *Usage) {
	if b.count(u.Last, u.Total) {
		b.push(Entry{Kind: KindUsage, Usage: u})
	}
}

// count counts the tokens that the last response took, if their total is another one
// than before.
func (b *entryBuilder) count(last, total *codec.TokenUsage) bool {
	if total == nil || b.counted == (usageCount{true, *total}) {
		return false
	}
	b.counted = usageCount{true, *total}
	addTokens(&b.totals.Tokens, last)
	addTokens(&b.turn.spent, last)
	return true
}

// milliseconds returns the time between two timestamps, 0 if it is not known.
func milliseconds(from, to string) int64 {
	if from == to {
		return 0
	}
	start, err := time.Parse(time.RFC3339, from)
	end, err2 := time.Parse(time.RFC3339, to)
	if err != nil || err2 != nil || end.Before(start) {
		return 0
	}
	return end.Sub(start).Milliseconds()
}

// Messages.

// hold keeps a message that came as a response item until it is known that no
// event of its role follows.
func (b *entryBuilder) hold(r role, e Entry) {
	if b.events[r] || e.Text == "" && len(e.Images) == 0 {
		return
	}
	if b.heldSize() > maxWaitingBytes || len(b.held) == maxHeld || len(b.held) > 0 && b.held[0].role != r {
		b.release()
	}
	e.Kind, e.Line, e.Time = roleKinds[r], b.line, b.time
	b.held = append(b.held, heldMessage{r, e})
}

// endMessages lets go of what was kept of large messages for their events, which would
// have come by now. It would be there still when as much again is decoded.
func (b *entryBuilder) endMessages() {
	of := Entry{Images: b.images}
	large := max(b.heldSize(), of.size()) > maxWaitingBytes
	b.images, of.Images = nil, nil
	if large {
		b.release()
		runtime.GC()
	}
}

func (b *entryBuilder) heldSize() int {
	size := 0
	for i := range b.held {
		size += b.held[i].size()
	}
	return size
}

// maxHeld is how many messages are held. In front of the first event of the user
// Codex writes fewer.
const maxHeld = 32

// release queues the messages that were held.
func (b *entryBuilder) release() {
	held := b.held
	b.held = nil
	for _, h := range held {
		b.message(h.Entry)
	}
}

// eventMessage queues a message that came as an event.
func (b *entryBuilder) eventMessage(r role, e Entry) {
	if !b.events[r] {
		b.events[r] = true
		if len(b.held) > 0 && b.held[0].role == r {
			b.held = nil
		}
	}
	if e.Text == "" && len(e.Images) == 0 {
		return
	}
	b.release()
	e.Kind = roleKinds[r]
	b.message(e)
}

func (b *entryBuilder) message(e Entry) {
	if e.Kind == KindUser && (!b.turn.open || !b.turn.explicit && b.turn.answered) {
		b.giveUpTurn()
		b.beginTurn(Entry{Line: e.Line, Time: e.Time}, false)
	}
	b.push(e)
}

// userImages fills in images of which an event has only the path, from the
// response item in front of it.
func (b *entryBuilder) userImages(images []Image) []Image {
	from := b.images
	b.images = nil
	if len(images) == len(from) {
		for i := range images {
			images[i].URL = cmp.Or(images[i].URL, from[i].URL)
		}
	}
	return images
}

func (b *entryBuilder) plainMessage(it Item, p *codec.PlainMessage) {
	text := cmp.Or(p.Text, p.Message)
	var images []Image
	if text == "" {
		text, images = valueParts(firstValue(p.Content, bareValue(it)))
	}
	e := Entry{Text: text, Images: images}
	switch it.Type {
	case codec.TypeUserMessage:
		e.Kind = KindUser
	case codec.TypeAssistantMessage:
		e.Kind = KindAssistant
	case codec.TypeError:
		e.Kind, e.Title = KindError, valueText(p.Code)
	default:
		e.Kind = KindSystem
	}
	b.message(e)
}

// response takes the payload of a response item.
func (b *entryBuilder) response(payload any) {
	switch p := payload.(type) {
	case *codec.Message:
		text, images := partsText(p.Content)
		switch p.Role {
		case "user":
			if b.images = images; b.events[roleUser] {
				return
			}
			b.hold(roleUser, Entry{Text: text, Images: images})
		case "assistant":
			b.hold(roleAssistant, Entry{Text: text, Images: images})
		}
	case *codec.Reasoning:
		text, _ := partsText(p.Summary)
		b.hold(roleReasoning, Entry{Text: text})
	case *codec.AgentMessage:
		b.note("message from "+p.Author+" to "+p.Recipient, valueText(p.Content))
	case *codec.FunctionCall:
		name := p.Name
		if p.Namespace != "" {
			name = p.Namespace + "." + name
		}
		b.callOf(p.CallID, name, p.Arguments)
	case *codec.CustomToolCall:
		b.callOf(p.CallID, p.Name, p.Input)
	case *codec.LocalShellCall:
		b.call(p.CallID, Entry{Call: &Call{Name: "local_shell", Input: commandLine(p.Action.Command)}})
	case *codec.ToolSearchCall:
		b.callOf(p.CallID, "tool_search", valueText(p.Arguments))
	case *codec.WebSearchCall:
		b.call("", Entry{Call: &Call{Name: "web_search", Input: searchText(p.Action)}})
	case *codec.ImageGenerationCall:
		var r *Result
		if p.Result != "" {
			r = &Result{Images: []Image{{URL: "data:image/png;base64," + p.Result}}}
		}
		b.call("", Entry{Call: &Call{Name: "image_generation", Input: p.RevisedPrompt}, Result: r})
	case *codec.FunctionCallOutput:
		b.result(p.CallID, toolResult(p.Output))
	case *codec.CustomToolCallOutput:
		b.result(p.CallID, toolResult(p.Output))
	case *codec.ToolSearchOutput:
		b.result(p.CallID, toolResult(p.Tools))
	}
}

// event takes the payload of an event.
func (b *entryBuilder) event(it Item, payload any) {
	switch p := payload.(type) {
	case *codec.EventUserMessage:
		if codec.Injected(p.Message) {
			return
		}
		var images []Image
		for _, v := range p.Images {
			images = append(images, Image{URL: valueText(v)})
		}
		for _, v := range p.LocalImages {
			images = append(images, Image{Path: valueText(v)})
		}
		b.eventMessage(roleUser, Entry{Text: p.Message, Images: b.userImages(images)})
	case *codec.EventAgentMessage:
		b.eventMessage(roleAssistant, Entry{Text: p.Message})
	case *codec.EventAgentReasoning:
		b.eventMessage(roleReasoning, Entry{Text: p.Text})
	case *codec.EventAgentReasoningRawContent:
		b.eventMessage(roleReasoning, Entry{Text: p.Text})
	case *codec.EventItemCompleted:
		b.turnItem(p)
	case *codec.EventTaskStarted:
		b.giveUpTurn()
		b.beginTurn(Entry{TurnID: p.TurnID}, true)
	case *codec.EventTaskComplete:
		if p.Error != nil && p.Error.Message != "" {
			b.push(Entry{Kind: KindError, Text: p.Error.Message})
		}
		b.endTurn(TurnEnd{Status: TurnComplete, DurationMS: p.DurationMS}, b.time)
	case *codec.EventTurnAborted:
		end := TurnEnd{Status: TurnAborted, Reason: p.Reason, DurationMS: p.DurationMS}
		if !b.turn.open {
			b.push(Entry{Kind: KindTurnEnd, TurnEnd: &end})
			return
		}
		b.endTurn(end, b.time)
	case *codec.EventTokenCount:
		if i := p.Info; i != nil && !b.records {
			u := &Usage{Last: i.LastTokenUsage, Total: i.TotalTokenUsage}
			if i.ModelContextWindow != nil {
				u.Window = *i.ModelContextWindow
			}
			b.usage(u)
		}
	case *codec.EventThreadRolledBack:
		b.push(Entry{Kind: KindRollback, Turns: p.NumTurns})
	case *codec.EventError:
		var tag struct{ Type string }
		_ = json.Unmarshal(it.Payload, &tag) // it was found by its type
		if tag.Type == "warning" {
			b.note("warning", p.Message)
			return
		}
		b.push(Entry{Kind: KindError, Text: p.Message})
	case *codec.EventThreadGoalUpdated:
		var goal struct{ Objective string }
		if json.Unmarshal(p.Goal, &goal) == nil && goal.Objective != "" {
			b.note("goal", goal.Objective)
		}
	case *codec.EventEnteredReviewMode:
		b.note("review begins", cmp.Or(p.UserFacingHint, p.Prompt))
	case *codec.EventExitedReviewMode:
		var out struct {
			Explanation string `json:"overall_explanation"`
		}
		_ = json.Unmarshal(p.ReviewOutput, &out) // null when it was interrupted
		b.note("review ends", out.Explanation)
	case *codec.EventSubAgentActivity:
		b.note("subagent "+cmp.Or(p.AgentPath, p.AgentThreadID), valueText(p.Kind))
	case *codec.EventExecCommandEnd:
		b.callEnded(p.CallID, Call{Name: "shell", Input: commandLine(p.Command)}, nil, cmp.Or(p.AggregatedOutput, joinOutput(p.Stdout, p.Stderr)),
			callEnd{exitCode: &p.ExitCode, durationMS: milli(p.Duration)})
	case *codec.EventPatchApplyEnd:
		b.callEnded(p.CallID, Call{Name: "apply_patch"}, p.Changes, joinOutput(p.Stdout, p.Stderr), callEnd{failed: !p.Success})
	case *codec.EventMCPToolCallEnd:
		call := Call{Name: p.Invocation.Server + "." + p.Invocation.Tool, Input: valueText(p.Invocation.Arguments)}
		b.callEnded(p.CallID, call, nil, mcpText(p.Result), callEnd{durationMS: milli(p.Duration)})
	}
}

// turnItem takes an item of a turn of a paginated session.
func (b *entryBuilder) turnItem(e *codec.EventItemCompleted) {
	payload, _ := codec.DecodeTurnItem(e.Item) // what fits of it
	switch p := payload.(type) {
	case *codec.TurnUserMessage:
		text, images := partsText(p.Content)
		b.eventMessage(roleUser, Entry{Text: text, Images: b.userImages(images)})
	case *codec.TurnAgentMessage:
		text, images := partsText(p.Content)
		b.eventMessage(roleAssistant, Entry{Text: text, Images: images})
	case *codec.TurnReasoning:
		text := strings.Join(append(p.SummaryText, p.RawContent...), "\n\n")
		b.eventMessage(roleReasoning, Entry{Text: text})
	case *codec.TurnPlan:
		b.note("plan", p.Text)
	case *codec.TurnCommandExecution:
		b.callEnded(p.ID, Call{Name: "shell", Input: commandLine(p.Command)}, nil, cmp.Or(p.AggregatedOutput, joinOutput(p.Stdout, p.Stderr)),
			callEnd{exitCode: p.ExitCode, durationMS: milli(p.Duration)})
	case *codec.TurnFileChange:
		b.callEnded(p.ID, Call{Name: "apply_patch"}, p.Changes, joinOutput(p.Stdout, p.Stderr), callEnd{failed: p.Status == "failed"})
	}
}

// bareValue returns the item of a plain event if it is no object.
func bareValue(it Item) json.RawMessage {
	if bytes.HasPrefix(it.Payload, []byte("{")) {
		return nil
	}
	return it.Payload
}
