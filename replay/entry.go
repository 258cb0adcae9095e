package replay

import (
	"strings"

	"github.com/rollout-sync/rollout/codec"
)

// A Kind tells what an [Entry] is. Kinds are part of the format of [WriteJSON].
// There may be more of them one day: leave out what you do not know.
type Kind string

// The kinds of entries, and which fields of Entry they have beside Kind, Turn, Time
// and Line.
const (
	KindSession    Kind = "session"    // Session; always the first entry, and the only one of its kind
	KindTurn       Kind = "turn"       // a turn begins: TurnID
	KindUser       Kind = "user"       // what a person wrote: Text, Images
	KindAssistant  Kind = "assistant"  // what the model said: Text
	KindReasoning  Kind = "reasoning"  // a summary of what the model thought: Text
	KindSystem     Kind = "system"     // instructions in a session of plain events: Text
	KindCall       Kind = "call"       // a call of a tool: Call, Files and, if it is known by then, Result
	KindOutput     Kind = "output"     // the Result of a Call whose entry came without, or of none
	KindModel      Kind = "model"      // another model from here on: Model
	KindCompaction Kind = "compaction" // the context was compacted: Text, the summary, if the file has it
	KindRollback   Kind = "rollback"   // the last Turns turns were taken back
	KindNote       Kind = "note"       // something else that happened: Title, Text
	KindError      Kind = "error"      // Title, a code if there is one, and Text
	KindUsage      Kind = "usage"      // tokens used so far: Usage
	KindTurnEnd    Kind = "turn_end"   // a turn ends: TurnEnd
	KindProblem    Kind = "problem"    // a line that cannot be read: Text says why, and never quotes it
	KindEnd        Kind = "end"        // Totals; the last entry of a session that was read to its end
	// KindIdle is no part of the session: [Follow] has come to the end of what is
	// there and waits. Writers write out what they have, and nothing for it.
	KindIdle Kind = "idle"
)

// An Entry is one thing to look at in a session. Of the fields those are set that
// its Kind names, and have something to say. The names in JSON are those of
// [WriteJSON], and stable.
type Entry struct {
	Kind Kind `json:"kind"`
	// Turn counts the turns from 1 on; 0 is outside of any.
	Turn int `json:"turn,omitempty"`
	// Time is when the line was written, as it stands there: by Codex always UTC
	// with milliseconds.
	Time string `json:"time,omitempty"`
	Line int    `json:"line,omitempty"` // the first line that tells of it, from 1 on

	Title  string  `json:"title,omitempty"`
	Text   string  `json:"text,omitempty"`
	Images []Image `json:"images,omitempty"`

	Session *Session `json:"session,omitempty"`
	Model   *Model   `json:"model,omitempty"`
	Call    *Call    `json:"call,omitempty"`
	Result  *Result  `json:"result,omitempty"`
	Files   []File   `json:"files,omitempty"`
	Usage   *Usage   `json:"usage,omitempty"`
	TurnID  string   `json:"turn_id,omitempty"`
	TurnEnd *TurnEnd `json:"turn_end,omitempty"`
	Turns   int64    `json:"turns,omitempty"`
	Totals  *Totals  `json:"totals,omitempty"`
}

// Session is what the head of a session says of it.
type Session struct {
	ID         string `json:"id,omitempty"`
	ForkedFrom string `json:"forked_from,omitempty"`
	ParentID   string `json:"parent_id,omitempty"` // the session that a subagent works for
	// Base is the prefix of another rollout that the session begins with. It is not
	// a part of the entries: they are those of one rollout.
	Base       *codec.Base `json:"base,omitempty"`
	Started    string      `json:"started,omitempty"`
	Cwd        string      `json:"cwd,omitempty"`
	Git        *codec.Git  `json:"git,omitempty"`
	Model      *Model      `json:"model,omitempty"` // the first one
	Provider   string      `json:"provider,omitempty"`
	Originator string      `json:"originator,omitempty"`
	CLIVersion string      `json:"cli_version,omitempty"`
}

// A Model is a model and how hard it has to think.
type Model struct {
	Name   string `json:"name"`
	Effort string `json:"effort,omitempty"`
}

// An Image is an image of a message or of a tool's output.
type Image struct {
	URL  string `json:"url,omitempty"`  // in general a data: URL
	Path string `json:"path,omitempty"` // of a file, where the session has no more than that
}

// A Call is a call of a tool.
type Call struct {
	Number int    `json:"number,omitempty"` // in the session, from 1 on; 0 if the call is not there
	ID     string `json:"id,omitempty"`
	Name   string `json:"name,omitempty"`
	// Input is what the tool was called with, for people: of a shell the command, of
	// a plan its steps, else the same as Arguments.
	Input string `json:"input,omitempty"`
	// Arguments are the arguments as they stand there, mostly JSON, if Input is not
	// all of them.
	Arguments string `json:"arguments,omitempty"`
}

// A Result is what a call brought.
type Result struct {
	Output string  `json:"output"` // without the lines that Codex puts in front of it
	Images []Image `json:"images,omitempty"`
	// ExitCode is nil if it is not known: not every tool has one.
	ExitCode *int64 `json:"exit_code,omitempty"`
	Failed   bool   `json:"failed,omitempty"` // an exit code that is not 0, or the tool says so
	// DurationMS is what Codex measured, or else the time from the line of the call
	// to that of its output, which includes the wait for an approval; 0 if neither
	// is known. Measures below 1 ms do not count: Codex 0.150 writes such for
	// commands that ran for much longer.
	DurationMS int64 `json:"duration_ms,omitempty"`
}

// A File is a change of a file.
type File struct {
	Path   string `json:"path"`
	Change string `json:"change"` // add, update, delete, or what else stands there
	MoveTo string `json:"move_to,omitempty"`
	Diff   string `json:"diff,omitempty"` // of an update a unified diff, else the file's content
}

// Usage is the use of tokens.
type Usage struct {
	Last   *codec.TokenUsage `json:"last,omitempty"`           // by the last response of the model
	Total  *codec.TokenUsage `json:"total,omitempty"`          // by the session so far
	Window int64             `json:"context_window,omitempty"` // how many tokens the model can be sent
}

// What TurnEnd.Status may be. It is empty for sessions that tell nothing of turns
// (those of Codex 0.98 and older, and plain events): there a turn goes from one
// message of the user to the next.
const (
	TurnComplete   = "complete"
	TurnAborted    = "aborted"
	TurnIncomplete = "incomplete" // no line says that it ended
)

// TurnEnd sums up a turn.
type TurnEnd struct {
	Status string `json:"status,omitempty"`
	Reason string `json:"reason,omitempty"` // of an abort
	// DurationMS is what Codex measured, or else the time from its first line to
	// its last.
	DurationMS int64             `json:"duration_ms,omitempty"`
	Tokens     *codec.TokenUsage `json:"tokens,omitempty"` // used by the turn
}

// Totals sum up a session.
type Totals struct {
	Turns    int    `json:"turns"`
	Calls    int    `json:"calls"`
	Problems int    `json:"problems"`
	Ended    string `json:"ended,omitempty"` // the time of the last line
	// ActiveMS is the duration of all turns together. Between them a session may
	// have slept for months.
	ActiveMS int64             `json:"active_ms,omitempty"`
	Tokens   *codec.TokenUsage `json:"tokens,omitempty"`
}

// size is about how much memory the texts of e take.
func (e *Entry) size() (n int) {
	e.texts(func(s *string) { n += len(*s) })
	for _, images := range e.images() {
		for _, im := range images {
			n += len(im.URL)
		}
	}
	return n
}

// texts calls f for each text of e but Kind and what identifies an image, a call
// or a status: for all that may say something.
func (e *Entry) texts(f func(*string)) {
	f(&e.Title)
	f(&e.Text)
	if s := e.Session; s != nil {
		for _, p := range []*string{&s.Cwd, &s.Provider, &s.Originator, &s.CLIVersion} {
			f(p)
		}
		if s.Git != nil {
			f(&s.Git.Branch)
			f(&s.Git.Commit)
			f(&s.Git.Origin)
		}
		if s.Model != nil {
			f(&s.Model.Name)
		}
	}
	if e.Model != nil {
		f(&e.Model.Name)
	}
	if c := e.Call; c != nil {
		f(&c.Name)
		f(&c.Input)
		f(&c.Arguments)
	}
	if e.Result != nil {
		f(&e.Result.Output)
	}
	for i := range e.Files {
		f(&e.Files[i].Path)
		f(&e.Files[i].MoveTo)
		f(&e.Files[i].Diff)
	}
	if e.TurnEnd != nil {
		f(&e.TurnEnd.Reason)
	}
	for _, images := range e.images() {
		for i := range images {
			f(&images[i].Path)
			if !strings.HasPrefix(images[i].URL, "data:") {
				f(&images[i].URL)
			}
		}
	}
}

// images returns the images of e, wherever they are.
func (e *Entry) images() [2][]Image {
	all := [2][]Image{e.Images}
	if e.Result != nil {
		all[1] = e.Result.Images
	}
	return all
}
