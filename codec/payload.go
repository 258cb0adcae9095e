package codec

import (
	"bytes"
	"encoding/json"
)

// Decode decodes the payload. It returns a pointer to the type that payloads of
// the item's type have here, *SessionMeta to *State, with a second level for
// response items and events: *Message, *EventUserMessage, … What this package has
// no type for is an *Unknown and no error.
//
// If members have other types than expected there is an error, and the others are
// decoded all the same. Members that the type has not are left out: the payload's
// bytes keep them, and [Update] changes a member without touching another. Keys match
// exactly, and a json.RawMessage is a part of the payload.
func (it Item) Decode() (any, error) {
	switch it.Type {
	case TypeResponseItem:
		return DecodeResponseItem(it.Payload)
	case TypeEventMsg:
		return decodeTagged(it.Payload, eventTypes)
	}
	return decodeAs(lineTypes[it.Type], it.Type, it.Payload)
}

// DecodeResponseItem decodes one response item, such as *Message: the payload of a
// line of that type or an element of Compacted.ReplacementHistory. It is like
// Item.Decode.
func DecodeResponseItem(payload json.RawMessage) (any, error) {
	return decodeTagged(payload, responseTypes)
}

// DecodeTurnItem decodes EventItemCompleted.Item, into *TurnUserMessage and so on.
// It is like Item.Decode.
func DecodeTurnItem(payload json.RawMessage) (any, error) {
	return decodeTagged(payload, turnItemTypes)
}

// Unknown is a payload of a type that this package does not know.
type Unknown struct {
	Type string // of the line or, of response items and events, their own
	Raw  json.RawMessage
}

// A payloadDecoder decodes into a new value and returns a pointer to it.
type payloadDecoder func(payload json.RawMessage) (any, error)

func as[T any](payload json.RawMessage) (any, error) {
	v := new(T)
	err := unmarshal(payload, v)
	return v, err
}

func decodeAs(decode payloadDecoder, name string, payload json.RawMessage) (any, error) {
	if decode == nil {
		return &Unknown{name, payload}, nil
	}
	return decode(payload)
}

func decodeTagged(payload json.RawMessage, types map[string]payloadDecoder) (any, error) {
	name := tag(payload)
	return decodeAs(types[name], name, payload)
}

// tag returns the first member "type" of an object, "" if there is none.
func tag(payload json.RawMessage) string {
	d := decoder{jsonScanner: jsonScanner{b: payload}}
	if !d.take('{') {
		return ""
	}
	for more := !d.take('}'); more; more = d.more('}') {
		d.skipSpace()
		key, _ := unquote(d.raw())
		d.invalid = d.invalid || !d.take(':')
		value := d.raw()
		if key == "type" {
			name, _ := unquote(bytes.TrimSpace(value))
			return name
		}
	}
	return ""
}

var lineTypes = map[string]payloadDecoder{
	TypeSessionMeta:                      as[SessionMeta],
	TypeTurnContext:                      as[TurnContext],
	TypeCompacted:                        as[Compacted],
	"world_state":                        as[WorldState],
	"inter_agent_communication":          as[InterAgentCommunication],
	"inter_agent_communication_metadata": as[InterAgentCommunicationMetadata],
	"security_risk_score":                as[SecurityRiskScore],
	"token_usage_record":                 as[TokenUsageRecord],
	"retained_context":                   as[RetainedContext],
	"realtime_item":                      as[RealtimeItem],
	TypeState:                            as[State],
	TypeUserMessage:                      as[PlainMessage],
	TypeAssistantMessage:                 as[PlainMessage],
	TypeSystem:                           as[PlainMessage],
	TypeError:                            as[PlainMessage],
	TypeToolCall:                         as[PlainToolCall],
	TypeToolResult:                       as[PlainToolResult],
}

var responseTypes = map[string]payloadDecoder{
	"message":                 as[Message],
	"agent_message":           as[AgentMessage],
	"reasoning":               as[Reasoning],
	"local_shell_call":        as[LocalShellCall],
	"function_call":           as[FunctionCall],
	"function_call_output":    as[FunctionCallOutput],
	"custom_tool_call":        as[CustomToolCall],
	"custom_tool_call_output": as[CustomToolCallOutput],
	"tool_search_call":        as[ToolSearchCall],
	"tool_search_output":      as[ToolSearchOutput],
	"web_search_call":         as[WebSearchCall],
	"image_generation_call":   as[ImageGenerationCall],
	"compaction":              as[Compaction],
	"compaction_summary":      as[Compaction],
	"context_compaction":      as[ContextCompaction],
	"compaction_trigger":      as[CompactionTrigger],
	"additional_tools":        as[AdditionalTools],
	"configuration_update":    as[ConfigurationUpdate],
	"ghost_snapshot":          as[GhostSnapshot],
}

var eventTypes = map[string]payloadDecoder{
	"user_message":                as[EventUserMessage],
	"agent_message":               as[EventAgentMessage],
	"agent_reasoning":             as[EventAgentReasoning],
	"agent_reasoning_raw_content": as[EventAgentReasoningRawContent],
	"task_started":                as[EventTaskStarted],
	"turn_started":                as[EventTaskStarted],
	"task_complete":               as[EventTaskComplete],
	"turn_complete":               as[EventTaskComplete],
	"turn_aborted":                as[EventTurnAborted],
	"token_count":                 as[EventTokenCount],
	"thread_goal_updated":         as[EventThreadGoalUpdated],
	"thread_rolled_back":          as[EventThreadRolledBack],
	"thread_settings_applied":     as[EventThreadSettingsApplied],
	"context_compacted":           as[EventContextCompacted],
	"entered_review_mode":         as[EventEnteredReviewMode],
	"exited_review_mode":          as[EventExitedReviewMode],
	"patch_apply_end":             as[EventPatchApplyEnd],
	"mcp_tool_call_end":           as[EventMCPToolCallEnd],
	"web_search_end":              as[EventWebSearchEnd],
	"image_generation_end":        as[EventImageGenerationEnd],
	"sub_agent_activity":          as[EventSubAgentActivity],
	"item_started":                as[EventItemStarted],
	"item_completed":              as[EventItemCompleted],
	"exec_command_end":            as[EventExecCommandEnd],
	"error":                       as[EventError],
	"stream_error":                as[EventError],
	"warning":                     as[EventError],
	"turn_diff":                   as[EventTurnDiff],
	"plan_update":                 as[EventPlanUpdate],
	"session_configured":          as[EventSessionConfigured],
	"shutdown_complete":           as[EventShutdownComplete],
}

var turnItemTypes = map[string]payloadDecoder{
	"UserMessage":       as[TurnUserMessage],
	"AgentMessage":      as[TurnAgentMessage],
	"Reasoning":         as[TurnReasoning],
	"CommandExecution":  as[TurnCommandExecution],
	"FileChange":        as[TurnFileChange],
	"ContextCompaction": as[TurnContextCompaction],
	"Plan":              as[TurnPlan],
	"Sleep":             as[TurnSleep],
}
