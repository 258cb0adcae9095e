package recorder

import (
	"encoding/json"
	"slices"

	"github.com/rollout-sync/rollout/codec"
)

// KeepCodex is an Options.Keep with the policy of Codex (August to October 2026):
// everything that a session is rebuilt from, and not what only says how it came
// about, such as deltas, beginnings, approvals and warnings. In a paginated session
// a completed item stands for the events that a legacy one has for it. Like Codex
// it drops types that it does not know.
func KeepCodex(it codec.Item, paginated bool) bool {
	if it.Type != codec.TypeResponseItem && it.Type != codec.TypeEventMsg {
		return slices.Contains(keptTypes, it.Type)
	}
	var payload struct {
		Type string
		Item struct{ Type string }
	}
	// A payload whose other members are of another shape still has its type.
	_ = json.Unmarshal(it.Payload, &payload)
	switch {
	case it.Type == codec.TypeResponseItem:
		return slices.Contains(keptResponses, payload.Type)
	case payload.Type == "item_completed":
		return paginated || payload.Item.Type == "Plan" || payload.Item.Type == "Sleep"
	default:
		return slices.Contains(keptEvents, payload.Type) || !paginated && slices.Contains(keptLegacyEvents, payload.Type)
	}
}

var (
	keptTypes = []string{
		codec.TypeSessionMeta, codec.TypeCompacted, codec.TypeTurnContext, "world_state",
		"inter_agent_communication", "inter_agent_communication_metadata",
		"security_risk_score", "token_usage_record", "retained_context", "realtime_item",
	}
	keptResponses = []string{
		"message", "agent_message", "reasoning", "local_shell_call",
		"function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output",
		"tool_search_call", "tool_search_output", "web_search_call", "image_generation_call",
		"compaction", "compaction_summary", "context_compaction",
	}
	keptEvents = []string{
		"token_count", "thread_goal_updated", "thread_rolled_back", "turn_aborted",
		"task_started", "turn_started", "task_complete", "turn_complete", "thread_settings_applied",
	}
	keptLegacyEvents = []string{
		"user_message", "agent_message", "agent_reasoning", "agent_reasoning_raw_content",
		"entered_review_mode", "exited_review_mode", "patch_apply_end", "context_compacted",
		"mcp_tool_call_end", "web_search_end", "image_generation_end", "sub_agent_activity",
	}
)
