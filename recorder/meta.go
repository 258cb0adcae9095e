package recorder

import (
	"bytes"
	"encoding/json"
	"errors"
	"time"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout/codec"
)

// Meta is what the first line of a session says about it.
type Meta struct {
	ID         uuid.UUID // uuid.Nil: a new UUIDv7
	ForkedFrom uuid.UUID // the session that this one continues; uuid.Nil: none

	// Codex does not open a session without these three.
	Cwd        string // the directory in which the agent works
	Originator string // the program that records, e.g. "codex_cli_rs"
	CLIVersion string // its version

	Source           string // "cli", "exec", "mcp", …; "" is left out, which Codex reads as "vscode"
	Provider         string // of the model
	BaseInstructions string
	DynamicTools     json.RawMessage // the tools that the client brings, a JSON array; nil: none
	Git              codec.Git       // see ReadGit
}

// metaPayload has the keys of a legacy session_meta in the order of Codex, and
// null where Codex writes null.
type metaPayload struct {
	ID               uuid.UUID       `json:"id"`
	ForkedFrom       uuid.UUID       `json:"forked_from_id,omitzero"`
	Timestamp        string          `json:"timestamp"`
	Cwd              string          `json:"cwd"`
	Originator       string          `json:"originator"`
	CLIVersion       string          `json:"cli_version"`
	Source           string          `json:"source,omitempty"`
	Provider         *string         `json:"model_provider"`
	BaseInstructions *text           `json:"base_instructions"`
	DynamicTools     json.RawMessage `json:"dynamic_tools,omitempty"`
	HistoryMode      string          `json:"history_mode"`
	Git              git             `json:"git,omitzero"`
}

type text struct {
	Text string `json:"text"`
}

type git struct {
	Commit string `json:"commit_hash,omitempty"`
	Branch string `json:"branch,omitempty"`
	Origin string `json:"repository_url,omitempty"`
}

// item returns the session_meta of a session that begins now.
func (m Meta) item(now time.Time) (codec.Item, error) {
	switch {
	case m.Cwd == "":
		return codec.Item{}, errors.New("recorder: Meta without Cwd")
	case m.Originator == "":
		return codec.Item{}, errors.New("recorder: Meta without Originator")
	case m.CLIVersion == "":
		return codec.Item{}, errors.New("recorder: Meta without CLIVersion")
	}
	timestamp := codec.FormatTime(now)
	p := metaPayload{
		ID: m.ID, ForkedFrom: m.ForkedFrom, Timestamp: timestamp,
		Cwd: m.Cwd, Originator: m.Originator, CLIVersion: m.CLIVersion, Source: m.Source,
		DynamicTools: m.DynamicTools, HistoryMode: codec.HistoryLegacy, Git: git(m.Git),
	}
	if m.Provider != "" {
		p.Provider = &m.Provider
	}
	if m.BaseInstructions != "" {
		p.BaseInstructions = &text{m.BaseInstructions}
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(p); err != nil {
		return codec.Item{}, err
	}
	return codec.Item{Timestamp: timestamp, Type: codec.TypeSessionMeta, Payload: b.Bytes()}, nil
}
