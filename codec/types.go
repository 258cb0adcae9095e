package codec

import "encoding/json"

// The payloads of all lines that Codex 0.20 to 0.169 is known to write, and of
// plain events, field by field as they stand in the files. A json.RawMessage is
// what has several shapes, or is not for us to interpret.

// SessionMeta is the payload of a session_meta line, and the first line of a bare
// rollout.
type SessionMeta struct {
	SessionID                   string          `json:"session_id"`
	ID                          string          `json:"id"`
	ForkedFromID                string          `json:"forked_from_id"`
	ForkedFromOrdinalExclusive  *uint64         `json:"forked_from_ordinal_exclusive"`
	ParentThreadID              string          `json:"parent_thread_id"`
	Timestamp                   string          `json:"timestamp"`
	Cwd                         string          `json:"cwd"`
	RuntimeWorkspaceRoots       []string        `json:"runtime_workspace_roots"`
	Originator                  string          `json:"originator"`
	CLIVersion                  string          `json:"cli_version"`
	Source                      json.RawMessage `json:"source"` // Head.Source is its text
	ThreadSource                string          `json:"thread_source"`
	AgentNickname               string          `json:"agent_nickname"`
	AgentRole                   string          `json:"agent_role"`
	AgentType                   string          `json:"agent_type"` // older name of AgentRole
	AgentPath                   string          `json:"agent_path"`
	ModelProvider               string          `json:"model_provider"`
	Instructions                string          `json:"instructions"` // until Codex 0.80
	BaseInstructions            *Text           `json:"base_instructions"`
	DynamicTools                json.RawMessage `json:"dynamic_tools"`
	SelectedCapabilityRoots     json.RawMessage `json:"selected_capability_roots"`
	MemoryMode                  string          `json:"memory_mode"`
	HistoryMode                 string          `json:"history_mode"`
	HistoryBase                 *Base           `json:"history_base"`
	SubagentHistoryStartOrdinal *uint64         `json:"subagent_history_start_ordinal"`
	MultiAgentVersion           string          `json:"multi_agent_version"`
	ContextWindow               *ContextWindow  `json:"context_window"`
	AccountScoped               bool            `json:"account_scoped"`
	Git                         *Git            `json:"git"`
}

// Text is an object with a text.
type Text struct {
	Text string `json:"text"`
}

// Git is the state of the repository in which the session began.
type Git struct {
	Commit string `json:"commit_hash,omitempty"`
	Branch string `json:"branch,omitempty"`
	Origin string `json:"repository_url,omitempty"`
}

// A Base is the prefix of another rollout that a paginated fork or revert begins
// with, by reference (Codex: history_base).
type Base struct {
	Rollout string `json:"thread_id"`             // id of the other rollout, not of its session; empty: no base
	Ordinal uint64 `json:"end_ordinal_exclusive"` // the prefix ends in front of this ordinal
	Offset  int64  `json:"end_byte_offset"`       // and is this many plain bytes long
}

// ContextWindow names the context window that a session begins with.
type ContextWindow struct {
	WindowID string `json:"window_id"`
}

// TurnContext is the payload of a turn_context line.
type TurnContext struct {
	TurnID                  string          `json:"turn_id"`
	RootTurnID              string          `json:"root_turn_id"`
	Cwd                     string          `json:"cwd"`
	WorkspaceRoots          []string        `json:"workspace_roots"`
	CurrentDate             string          `json:"current_date"`
	Timezone                string          `json:"timezone"`
	ApprovalPolicy          json.RawMessage `json:"approval_policy"`
	ApprovalsReviewer       string          `json:"approvals_reviewer"`
	SandboxPolicy           json.RawMessage `json:"sandbox_policy"`
	PermissionProfile       json.RawMessage `json:"permission_profile"`
	Network                 json.RawMessage `json:"network"`
	FileSystemSandboxPolicy json.RawMessage `json:"file_system_sandbox_policy"`
	TruncationPolicy        json.RawMessage `json:"truncation_policy"`
	Model                   string          `json:"model"`
	CompHash                string          `json:"comp_hash"`
	Personality             string          `json:"personality"`
	CollaborationMode       json.RawMessage `json:"collaboration_mode"`
	MultiAgentVersion       string          `json:"multi_agent_version"`
	MultiAgentMode          json.RawMessage `json:"multi_agent_mode"`
	RealtimeActive          bool            `json:"realtime_active"`
	Effort                  string          `json:"effort"`
	Summary                 string          `json:"summary"`
	UserInstructions        string          `json:"user_instructions"`
	DisabledPluginIDs       []string        `json:"disabled_plugin_ids"`
}

// Compacted is the payload of a compacted line.
type Compacted struct {
	Message                    string            `json:"message"`
	ReplacementHistory         []json.RawMessage `json:"replacement_history"` // see DecodeResponseItem
	ReplacementHistoryMetadata []json.RawMessage `json:"replacement_history_metadata"`
	WindowNumber               *uint64           `json:"window_number"`
	FirstWindowID              string            `json:"first_window_id"`
	PreviousWindowID           string            `json:"previous_window_id"`
	WindowID                   json.RawMessage   `json:"window_id"` // a string; in old files the window's number
	GuardianHistory            json.RawMessage   `json:"guardian_history"`
	RetainedContext            json.RawMessage   `json:"retained_context"`
	MCPResourceOrigins         json.RawMessage   `json:"mcp_resource_origins"`
	ResumeMetadata             json.RawMessage   `json:"resume_metadata"`
	CompactionResponseID       string            `json:"compaction_response_id"`
	LatestTokenUsageRecord     *TokenUsageRecord `json:"latest_token_usage_record"`
}

// WorldState is the payload of a world_state line.
type WorldState struct {
	Full  bool            `json:"full"` // State is a baseline, else a JSON merge patch
	State json.RawMessage `json:"state"`
}

// InterAgentCommunication is the payload of a line of that type.
type InterAgentCommunication struct {
	Author          string   `json:"author"`
	Recipient       string   `json:"recipient"`
	OtherRecipients []string `json:"other_recipients"`
	Content         string   `json:"content"`
	TriggerTurn     bool     `json:"trigger_turn"`
}

// InterAgentCommunicationMetadata is the payload of a line of that type.
type InterAgentCommunicationMetadata struct {
	TriggerTurn bool `json:"trigger_turn"`
}

// SecurityRiskScore is the payload of a security_risk_score line.
type SecurityRiskScore struct {
	Scores map[string]float64 `json:"scores"`
}

// TokenUsageRecord is the payload of a token_usage_record line.
type TokenUsageRecord struct {
	ThreadID         string      `json:"thread_id"`
	TurnID           string      `json:"turn_id"`
	SessionID        string      `json:"session_id"`
	RootTurnID       string      `json:"root_turn_id"`
	ResponseID       string      `json:"response_id"`
	Usage            *TokenUsage `json:"usage"`
	TurnTokenUsage   *TokenUsage `json:"turn_token_usage"`
	ThreadTokenUsage *TokenUsage `json:"thread_token_usage"`
}

// TokenUsage counts tokens.
type TokenUsage struct {
	Input           int64 `json:"input_tokens"`
	CachedInput     int64 `json:"cached_input_tokens"`
	CacheWriteInput int64 `json:"cache_write_input_tokens"`
	Output          int64 `json:"output_tokens"`
	ReasoningOutput int64 `json:"reasoning_output_tokens"`
	Total           int64 `json:"total_tokens"`
}

// RetainedContext is the payload of a retained_context line.
type RetainedContext struct {
	Type            string           `json:"type"`
	TurnID          string           `json:"turn_id"`
	CallID          string           `json:"call_id"`
	Questions       []QuestionAnswer `json:"questions"`
	AcceptanceOrder uint64           `json:"acceptance_order"`
}

// QuestionAnswer is a question that was put to the user.
type QuestionAnswer struct {
	Question string `json:"question"`
	Answer   string `json:"answer"`
}

// RealtimeItem is the payload of a realtime_item line.
type RealtimeItem struct {
	ID                string `json:"id"`
	RealtimeSessionID string `json:"realtime_session_id"`
	Type              string `json:"type"`
	Role              string `json:"role"`
	Text              string `json:"text"`
}

// State is a bare {"record_type":"state"}.
type State struct {
	RecordType string `json:"record_type"`
}

// PlainMessage is the item of a plain event user_message, assistant_message,
// system or error.
type PlainMessage struct {
	ID      string          `json:"id"`
	Role    string          `json:"role"`
	Text    string          `json:"text"`
	Message string          `json:"message"`
	Content json.RawMessage `json:"content"` // a string, or parts
	Code    json.RawMessage `json:"code"`
}

// PlainToolCall is the item of a plain event tool_call.
type PlainToolCall struct {
	ID        string          `json:"id"`
	CallID    string          `json:"call_id"`
	Name      string          `json:"name"`
	Arguments json.RawMessage `json:"arguments"`
	Input     json.RawMessage `json:"input"`
}

// PlainToolResult is the item of a plain event tool_result.
type PlainToolResult struct {
	ID       string          `json:"id"`
	CallID   string          `json:"call_id"`
	Output   json.RawMessage `json:"output"`
	Content  json.RawMessage `json:"content"`
	IsError  bool            `json:"is_error"`
	ExitCode *int64          `json:"exit_code"`
}

// Message is a message that the model was sent, or sent.
type Message struct {
	ID               string          `json:"id"`
	Role             string          `json:"role"`
	Content          []Part          `json:"content"`
	Phase            string          `json:"phase"`
	Status           string          `json:"status"`
	EncryptedContent string          `json:"encrypted_content"`
	Passthrough      json.RawMessage `json:"internal_chat_message_metadata_passthrough"`
}

// A Part is a part of a message. Its Type ends in text, image or audio, or is that:
// input_text, output_text, input_image, input_audio in response items, and text,
// Text, image, local_image, audio, local_audio in turn items.
type Part struct {
	Type        string          `json:"type"`
	Text        string          `json:"text"`
	ImageURL    string          `json:"image_url"`
	Path        string          `json:"path"`
	Detail      string          `json:"detail"`
	Annotations json.RawMessage `json:"annotations"`
	Logprobs    json.RawMessage `json:"logprobs"`
}

// AgentMessage is a message between agents.
type AgentMessage struct {
	ID        string          `json:"id"`
	Author    string          `json:"author"`
	Recipient string          `json:"recipient"`
	Content   json.RawMessage `json:"content"`
}

// Reasoning is what the model thought.
type Reasoning struct {
	ID               string          `json:"id"`
	Summary          []Part          `json:"summary"`
	Content          []Part          `json:"content"`
	EncryptedContent string          `json:"encrypted_content"`
	Passthrough      json.RawMessage `json:"internal_chat_message_metadata_passthrough"`
}

// LocalShellCall is a call of the model's own shell tool.
type LocalShellCall struct {
	ID     string      `json:"id"`
	CallID string      `json:"call_id"`
	Status string      `json:"status"`
	Action ShellAction `json:"action"`
}

// ShellAction is what a LocalShellCall does.
type ShellAction struct {
	Type             string            `json:"type"`
	Command          []string          `json:"command"`
	TimeoutMS        *uint64           `json:"timeout_ms"`
	WorkingDirectory string            `json:"working_directory"`
	Env              map[string]string `json:"env"`
	User             string            `json:"user"`
}

// FunctionCall is a call of a tool.
type FunctionCall struct {
	ID          string          `json:"id"`
	Name        string          `json:"name"`
	Namespace   string          `json:"namespace"`
	Arguments   string          `json:"arguments"` // JSON, mostly
	CallID      string          `json:"call_id"`
	Passthrough json.RawMessage `json:"internal_chat_message_metadata_passthrough"`
}

// FunctionCallOutput is what a tool answered.
type FunctionCallOutput struct {
	ID          string          `json:"id"`
	CallID      string          `json:"call_id"`
	Output      json.RawMessage `json:"output"` // a string or an array of parts
	Passthrough json.RawMessage `json:"internal_chat_message_metadata_passthrough"`
}

// CustomToolCall is a call of a tool that takes text.
type CustomToolCall struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	CallID string `json:"call_id"`
	Name   string `json:"name"`
	Input  string `json:"input"`
}

// CustomToolCallOutput is what such a tool answered.
type CustomToolCallOutput struct {
	ID     string          `json:"id"`
	CallID string          `json:"call_id"`
	Name   string          `json:"name"`
	Output json.RawMessage `json:"output"` // a string or an array of parts
}

// ToolSearchCall is a search for tools.
type ToolSearchCall struct {
	ID        string          `json:"id"`
	CallID    string          `json:"call_id"`
	Status    string          `json:"status"`
	Execution string          `json:"execution"`
	Arguments json.RawMessage `json:"arguments"`
}

// ToolSearchOutput is what it found.
type ToolSearchOutput struct {
	ID        string          `json:"id"`
	CallID    string          `json:"call_id"`
	Status    string          `json:"status"`
	Execution string          `json:"execution"`
	Tools     json.RawMessage `json:"tools"`
}

// WebSearchCall is a web search.
type WebSearchCall struct {
	ID     string          `json:"id"`
	Status string          `json:"status"`
	Action json.RawMessage `json:"action"`
}

// ImageGenerationCall is an image that the model made.
type ImageGenerationCall struct {
	ID            string `json:"id"`
	Status        string `json:"status"`
	RevisedPrompt string `json:"revised_prompt"`
	Result        string `json:"result"` // base64
}

// Compaction is a context that the service compacted, also called
// compaction_summary.
type Compaction struct {
	ID               string `json:"id"`
	EncryptedContent string `json:"encrypted_content"`
}

// ContextCompaction is where the service compacted the context.
type ContextCompaction struct {
	ID               string `json:"id"`
	EncryptedContent string `json:"encrypted_content"`
}

// CompactionTrigger is never written by Codex itself.
type CompactionTrigger struct{}

// AdditionalTools is never written by Codex itself.
type AdditionalTools struct {
	ID    string          `json:"id"`
	Role  string          `json:"role"`
	Tools json.RawMessage `json:"tools"`
}

// ConfigurationUpdate is a response item of late 2026.
type ConfigurationUpdate struct {
	ID            string          `json:"id"`
	Configuration json.RawMessage `json:"configuration"`
}

// GhostSnapshot is a response item of 2025 that Codex skips today.
type GhostSnapshot struct {
	GhostCommit json.RawMessage `json:"ghost_commit"`
}

// EventUserMessage is what a person wrote.
type EventUserMessage struct {
	Message      string            `json:"message"`
	Kind         string            `json:"kind"`
	Images       []json.RawMessage `json:"images"`
	LocalImages  []json.RawMessage `json:"local_images"`
	Audio        []json.RawMessage `json:"audio"`
	LocalAudio   []json.RawMessage `json:"local_audio"`
	TextElements json.RawMessage   `json:"text_elements"`
}

// EventAgentMessage is what the model said.
type EventAgentMessage struct {
	Message        string          `json:"message"`
	Phase          string          `json:"phase"`
	MemoryCitation json.RawMessage `json:"memory_citation"`
}

// EventAgentReasoning is a summary of what the model thought.
type EventAgentReasoning struct {
	Text string `json:"text"`
}

// EventAgentReasoningRawContent is what the model thought.
type EventAgentReasoningRawContent struct {
	Text string `json:"text"`
}

// EventTaskStarted begins a turn; also called turn_started.
type EventTaskStarted struct {
	TurnID                string          `json:"turn_id"`
	RootTurnID            string          `json:"root_turn_id"`
	TurnAttribution       json.RawMessage `json:"turn_attribution"`
	StartedAt             int64           `json:"started_at"`
	ModelContextWindow    *int64          `json:"model_context_window"`
	CollaborationModeKind string          `json:"collaboration_mode_kind"`
}

// EventTaskComplete ends a turn; also called turn_complete.
type EventTaskComplete struct {
	TurnID             string      `json:"turn_id"`
	RootTurnID         string      `json:"root_turn_id"`
	LastAgentMessage   string      `json:"last_agent_message"`
	StartedAt          int64       `json:"started_at"`
	CompletedAt        int64       `json:"completed_at"`
	DurationMS         int64       `json:"duration_ms"`
	TimeToFirstTokenMS int64       `json:"time_to_first_token_ms"`
	Error              *EventError `json:"error"`
}

// EventTurnAborted ends a turn before its end.
type EventTurnAborted struct {
	TurnID      string `json:"turn_id"`
	Reason      string `json:"reason"`
	CompletedAt int64  `json:"completed_at"`
	DurationMS  int64  `json:"duration_ms"`
}

// EventTokenCount says how many tokens were used.
type EventTokenCount struct {
	Info       *TokenCountInfo `json:"info"`
	RateLimits json.RawMessage `json:"rate_limits"`
}

// TokenCountInfo is part of EventTokenCount.
type TokenCountInfo struct {
	TotalTokenUsage    *TokenUsage `json:"total_token_usage"`
	LastTokenUsage     *TokenUsage `json:"last_token_usage"`
	ModelContextWindow *int64      `json:"model_context_window"`
}

// EventThreadGoalUpdated is a new goal.
type EventThreadGoalUpdated struct {
	ThreadID string          `json:"thread_id"`
	TurnID   string          `json:"turn_id"`
	Goal     json.RawMessage `json:"goal"`
}

// EventThreadRolledBack takes the last turns back.
type EventThreadRolledBack struct {
	NumTurns int64 `json:"num_turns"`
}

// EventThreadSettingsApplied has the settings from here on.
type EventThreadSettingsApplied struct {
	ThreadID       string          `json:"thread_id"`
	ThreadSettings json.RawMessage `json:"thread_settings"`
}

// EventContextCompacted says that a compacted line was written.
type EventContextCompacted struct{}

// EventEnteredReviewMode begins a review.
type EventEnteredReviewMode struct {
	Target         json.RawMessage `json:"target"`
	Prompt         string          `json:"prompt"`
	UserFacingHint string          `json:"user_facing_hint"`
}

// EventExitedReviewMode ends a review.
type EventExitedReviewMode struct {
	ReviewOutput json.RawMessage `json:"review_output"`
}

// EventPatchApplyEnd is a change of files.
type EventPatchApplyEnd struct {
	CallID  string                     `json:"call_id"`
	TurnID  string                     `json:"turn_id"`
	Stdout  string                     `json:"stdout"`
	Stderr  string                     `json:"stderr"`
	Success bool                       `json:"success"`
	Changes map[string]json.RawMessage `json:"changes"` // by path
	Status  string                     `json:"status"`
}

// EventMCPToolCallEnd is the result of an MCP server's tool.
type EventMCPToolCallEnd struct {
	CallID     string          `json:"call_id"`
	Invocation MCPInvocation   `json:"invocation"`
	Duration   *Duration       `json:"duration"`
	Result     json.RawMessage `json:"result"`
}

// MCPInvocation names an MCP server's tool and its arguments.
type MCPInvocation struct {
	Server    string          `json:"server"`
	Tool      string          `json:"tool"`
	Arguments json.RawMessage `json:"arguments"`
}

// Duration is a length of time.
type Duration struct {
	Secs  int64 `json:"secs"`
	Nanos int64 `json:"nanos"`
}

// EventWebSearchEnd is a web search.
type EventWebSearchEnd struct {
	CallID string          `json:"call_id"`
	Query  string          `json:"query"`
	Action json.RawMessage `json:"action"`
}

// EventImageGenerationEnd is an image that the model made.
type EventImageGenerationEnd struct {
	CallID        string `json:"call_id"`
	Status        string `json:"status"`
	RevisedPrompt string `json:"revised_prompt"`
	Result        string `json:"result"`
	SavedPath     string `json:"saved_path"`
}

// EventSubAgentActivity is something that a subagent did.
type EventSubAgentActivity struct {
	AgentThreadID string          `json:"agent_thread_id"`
	AgentPath     string          `json:"agent_path"`
	Kind          json.RawMessage `json:"kind"`
}

// EventItemStarted begins an item of a turn.
type EventItemStarted struct {
	ThreadID    string          `json:"thread_id"`
	TurnID      string          `json:"turn_id"`
	Item        json.RawMessage `json:"item"` // see DecodeTurnItem
	StartedAtMS int64           `json:"started_at_ms"`
}

// EventItemCompleted is an item of a turn in a paginated session.
type EventItemCompleted struct {
	ThreadID      string          `json:"thread_id"`
	TurnID        string          `json:"turn_id"`
	Item          json.RawMessage `json:"item"` // see DecodeTurnItem
	StartedAtMS   int64           `json:"started_at_ms"`
	CompletedAtMS int64           `json:"completed_at_ms"`
}

// EventExecCommandEnd is a command's end, in the extended files of 2026.
type EventExecCommandEnd struct {
	CallID           string    `json:"call_id"`
	ProcessID        string    `json:"process_id"`
	TurnID           string    `json:"turn_id"`
	Command          []string  `json:"command"`
	Cwd              string    `json:"cwd"`
	Stdout           string    `json:"stdout"`
	Stderr           string    `json:"stderr"`
	AggregatedOutput string    `json:"aggregated_output"`
	ExitCode         int64     `json:"exit_code"`
	Duration         *Duration `json:"duration"`
	FormattedOutput  string    `json:"formatted_output"`
	Status           string    `json:"status"`
}

// EventError is an event error, stream_error or warning.
type EventError struct {
	Message           string          `json:"message"`
	CodexErrorInfo    json.RawMessage `json:"codex_error_info"`
	AdditionalDetails string          `json:"additional_details"`
}

// EventTurnDiff is what a turn changed so far.
type EventTurnDiff struct {
	UnifiedDiff string `json:"unified_diff"`
}

// EventPlanUpdate is the model's plan.
type EventPlanUpdate struct {
	Explanation string     `json:"explanation"`
	Plan        []PlanStep `json:"plan"`
}

// PlanStep is a step of a plan.
type PlanStep struct {
	Step   string `json:"step"`
	Status string `json:"status"`
}

// EventSessionConfigured says with what a session runs.
type EventSessionConfigured struct {
	SessionID string `json:"session_id"`
	Model     string `json:"model"`
	Cwd       string `json:"cwd"`
}

// EventShutdownComplete is the end.
type EventShutdownComplete struct{}

// TurnUserMessage is what a person wrote.
type TurnUserMessage struct {
	ID      string `json:"id"`
	Content []Part `json:"content"`
}

// TurnAgentMessage is what the model said.
type TurnAgentMessage struct {
	ID      string `json:"id"`
	Content []Part `json:"content"`
	Phase   string `json:"phase"`
}

// TurnReasoning is what the model thought.
type TurnReasoning struct {
	ID          string   `json:"id"`
	SummaryText []string `json:"summary_text"`
	RawContent  []string `json:"raw_content"`
}

// TurnCommandExecution is a command and its output.
type TurnCommandExecution struct {
	ID               string          `json:"id"`
	ProcessID        string          `json:"process_id"`
	Command          []string        `json:"command"`
	Cwd              string          `json:"cwd"` // a file: URL
	ParsedCmd        json.RawMessage `json:"parsed_cmd"`
	Source           string          `json:"source"`
	Status           string          `json:"status"`
	Stdout           string          `json:"stdout"`
	Stderr           string          `json:"stderr"`
	AggregatedOutput string          `json:"aggregated_output"`
	ExitCode         *int64          `json:"exit_code"`
	Duration         *Duration       `json:"duration"`
	FormattedOutput  string          `json:"formatted_output"`
}

// TurnFileChange is a change of files.
type TurnFileChange struct {
	ID      string                     `json:"id"`
	Changes map[string]json.RawMessage `json:"changes"` // by path
	Status  string                     `json:"status"`
	Stdout  string                     `json:"stdout"`
	Stderr  string                     `json:"stderr"`
}

// TurnContextCompaction is where the context was compacted.
type TurnContextCompaction struct {
	ID string `json:"id"`
}

// TurnPlan is the model's plan.
type TurnPlan struct {
	ID   string `json:"id"`
	Text string `json:"text"`
}

// TurnSleep is a pause.
type TurnSleep struct {
	ID         string `json:"id"`
	DurationMS int64  `json:"duration_ms"`
}
