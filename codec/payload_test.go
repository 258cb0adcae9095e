package codec

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// samples has a line of every type, as Codex writes it but for the length, and the
// type that Decode gives for it; behind a space, that of DecodeTurnItem.
var samples = []struct{ want, line string }{
	{"SessionMeta", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"session_meta","payload":{"session_id":"s","id":"i","timestamp":"2026-08-17T09:00:00.101Z","cwd":"/w/app","originator":"codex_cli_rs","cli_version":"0.150.0","source":{"subagent":{"thread_spawn":{"parent_thread_id":"p","depth":1}}},"thread_source":"user","model_provider":null,"base_instructions":{"text":"You are…"},"history_mode":"paginated","history_base":{"thread_id":"p","end_ordinal_exclusive":45,"end_byte_offset":53065},"context_window":{"window_id":"w-1"},"git":{"commit_hash":"abc123","branch":"main","repository_url":"git@host:a/b.git"}}}`},
	{"TurnContext", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"turn_context","payload":{"turn_id":"t1","cwd":"/w/app","current_date":"2026-08-17","timezone":"Europe/Madrid","approval_policy":"never","sandbox_policy":{"type":"danger-full-access"},"model":"gpt-5","effort":"medium","summary":"auto"}}`},
	{"Compacted", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"compacted","payload":{"message":"","replacement_history":[{"type":"message","role":"user","content":[{"type":"input_text","text":"…"}]},{"type":"compaction","encrypted_content":"gAAA"}],"window_number":2,"first_window_id":"w-1","previous_window_id":"w-1","window_id":"w-2","compaction_response_id":null,"latest_token_usage_record":null}}`},
	{"WorldState", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"world_state","payload":{"full":true,"state":{"cwd":"/w/app"}}}`},
	{"InterAgentCommunication", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"inter_agent_communication","payload":{"author":"/root","recipient":"/root/child","other_recipients":[],"content":"go","trigger_turn":false}}`},
	{"InterAgentCommunicationMetadata", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"inter_agent_communication_metadata","payload":{"trigger_turn":true}}`},
	{"SecurityRiskScore", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"security_risk_score","payload":{"scores":{"action_risk":0.12}}}`},
	{"TokenUsageRecord", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"token_usage_record","payload":{"thread_id":"th","turn_id":"t1","session_id":"s","root_turn_id":"t1","response_id":"resp_1","usage":{"input_tokens":10,"cached_input_tokens":0,"cache_write_input_tokens":0,"output_tokens":5,"reasoning_output_tokens":0,"total_tokens":15},"turn_token_usage":{"input_tokens":10},"thread_token_usage":{"input_tokens":10}}}`},
	{"RetainedContext", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"retained_context","payload":{"type":"verified_answer","turn_id":"t1","call_id":"c1","questions":[{"question":"Which?","answer":"B"}],"acceptance_order":3}}`},
	{"RealtimeItem", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"realtime_item","payload":{"id":"i1","realtime_session_id":"r1","type":"transcript_segment","role":"user","text":"hi"}}`},
	{"SessionMeta", `{"id":"111d3519","timestamp":"2026-11-20T08:57:53.993Z","instructions":null,"git":{"commit_hash":"5e36f2","branch":"main"}}`},
	{"State", `{"record_type":"state"}`},
	{"Message", `{"type":"message","id":null,"role":"user","content":[{"type":"input_text","text":"PLAN it"}]}`},
	{"PlainMessage", `{"type":"user_message","item":{"text":"fix the test"},"seq":1}`},
	{"PlainMessage", `{"type":"assistant_message","item":{"content":[{"type":"text","text":"Done."}]},"seq":2}`},
	{"PlainToolCall", `{"type":"tool_call","item":{"call_id":"c1","name":"shell","arguments":{"cmd":"ls"}},"seq":3}`},
	{"PlainToolResult", `{"type":"tool_result","item":{"call_id":"c1","output":"a\nb","exit_code":0},"seq":4}`},
	{"PlainMessage", `{"type":"system","item":{"message":"resumed"},"seq":5}`},
	{"PlainMessage", `{"type":"error","item":{"message":"HTTP 500","code":500},"seq":6}`},
	{"SessionMeta", `{"type":"session_meta","item":{"id":"i","cwd":"/w"},"seq":0}`},
	{"Message", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"response_item","payload":{"type":"message","id":"msg_1","role":"assistant","content":[{"type":"output_text","text":"hi","annotations":[]}],"phase":"final"}}`},
	{"AgentMessage", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"response_item","payload":{"type":"agent_message","author":"/root","recipient":"/root/child","content":[{"type":"input_text","text":"x"}]}}`},
	{"Reasoning", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"response_item","payload":{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"**Thinking**"}],"content":null,"encrypted_content":null}}`},
	{"LocalShellCall", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"response_item","payload":{"type":"local_shell_call","call_id":"c1","status":"completed","action":{"type":"exec","command":["ls","-l"],"timeout_ms":1000}}}`},
	{"FunctionCall", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"response_item","payload":{"type":"function_call","name":"shell","arguments":"{\"command\": [\"ls\"]}","call_id":"c1"}}`},
	{"FunctionCallOutput", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"response_item","payload":{"type":"function_call_output","call_id":"c1","output":"Plan updated"}}`},
	{"CustomToolCall", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"response_item","payload":{"type":"custom_tool_call","status":"completed","call_id":"c1","name":"apply_patch","input":"*** Begin Patch"}}`},
	{"CustomToolCallOutput", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"response_item","payload":{"type":"custom_tool_call_output","call_id":"c1","output":[{"type":"input_text","text":"x"}]}}`},
	{"ToolSearchCall", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"response_item","payload":{"type":"tool_search_call","call_id":"c1","execution":"client","arguments":{"query":"x"}}}`},
	{"ToolSearchOutput", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"response_item","payload":{"type":"tool_search_output","call_id":"c1","status":"completed","execution":"client","tools":[]}}`},
	{"WebSearchCall", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"response_item","payload":{"type":"web_search_call","status":"completed","action":{"type":"search","query":"weather"}}}`},
	{"ImageGenerationCall", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"response_item","payload":{"type":"image_generation_call","id":"ig_1","status":"completed","revised_prompt":"a cat","result":"aGk="}}`},
	{"Compaction", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"response_item","payload":{"type":"compaction","encrypted_content":"gAAA"}}`},
	{"Compaction", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"response_item","payload":{"type":"compaction_summary","encrypted_content":"gAAA"}}`},
	{"ContextCompaction", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"response_item","payload":{"type":"context_compaction","encrypted_content":"gAAA"}}`},
	{"CompactionTrigger", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"response_item","payload":{"type":"compaction_trigger"}}`},
	{"AdditionalTools", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"response_item","payload":{"type":"additional_tools","role":"developer","tools":[]}}`},
	{"ConfigurationUpdate", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"response_item","payload":{"type":"configuration_update","configuration":{}}}`},
	{"GhostSnapshot", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"response_item","payload":{"type":"ghost_snapshot","ghost_commit":{"id":"a"}}}`},
	{"EventUserMessage", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"user_message","message":"fix","kind":"plain","images":["data:image/png;base64,aGk="],"local_images":[],"text_elements":[]}}`},
	{"EventAgentMessage", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"agent_message","message":"Done.","phase":"final","memory_citation":null}}`},
	{"EventAgentReasoning", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"agent_reasoning","text":"**Thinking**"}}`},
	{"EventAgentReasoningRawContent", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"agent_reasoning_raw_content","text":"hm"}}`},
	{"EventTaskStarted", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"task_started","turn_id":"t1","model_context_window":258400,"collaboration_mode_kind":"default"}}`},
	{"EventTaskStarted", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"turn_started","turn_id":"t1","model_context_window":null}}`},
	{"EventTaskComplete", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"task_complete","turn_id":"t1","last_agent_message":null,"error":{"message":"m"}}}`},
	{"EventTaskComplete", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"turn_complete","turn_id":"t1","last_agent_message":"x","duration_ms":75}}`},
	{"EventTurnAborted", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"turn_aborted","turn_id":"t1","reason":"interrupted"}}`},
	{"EventTokenCount", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"token_count","info":{"total_token_usage":{"input_tokens":33972,"total_tokens":34052},"model_context_window":null},"rate_limits":{"primary":null}}}`},
	{"EventThreadGoalUpdated", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"thread_goal_updated","thread_id":"th","goal":{"objective":"x"}}}`},
	{"EventThreadRolledBack", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"thread_rolled_back","num_turns":1}}`},
	{"EventThreadSettingsApplied", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"thread_settings_applied","thread_id":"th","thread_settings":{"model":"m"}}}`},
	{"EventContextCompacted", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"context_compacted"}}`},
	{"EventEnteredReviewMode", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"entered_review_mode","target":{"type":"uncommittedChanges"},"user_facing_hint":"changes"}}`},
	{"EventExitedReviewMode", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"exited_review_mode","review_output":null}}`},
	{"EventPatchApplyEnd", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"patch_apply_end","call_id":"c1","stdout":"Success","stderr":"","success":true,"changes":{"/w/a.txt":{"type":"add","content":"hello\n"}},"status":"completed"}}`},
	{"EventMCPToolCallEnd", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"mcp_tool_call_end","call_id":"c1","invocation":{"server":"s","tool":"t","arguments":{}},"duration":{"secs":1,"nanos":5},"result":{"Ok":{"content":[]}}}}`},
	{"EventWebSearchEnd", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"web_search_end","call_id":"c1","query":"weather","action":{"type":"search"}}}`},
	{"EventImageGenerationEnd", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"image_generation_end","call_id":"c1","status":"completed","result":"aGk="}}`},
	{"EventSubAgentActivity", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"sub_agent_activity","agent_thread_id":"a","kind":"started"}}`},
	{"EventItemStarted", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"item_started","thread_id":"th","turn_id":"t1","item":{"type":"Plan","id":"p"}}}`},
	{"EventExecCommandEnd", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"exec_command_end","call_id":"c1","command":["ls"],"cwd":"/w","stdout":"","aggregated_output":"x","exit_code":3,"duration":{"secs":0,"nanos":1}}}`},
	{"EventError", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"error","message":"m"}}`},
	{"EventError", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"stream_error","message":"m"}}`},
	{"EventError", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"warning","message":"m"}}`},
	{"EventTurnDiff", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"turn_diff","unified_diff":"--- a"}}`},
	{"EventPlanUpdate", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"plan_update","explanation":null,"plan":[{"step":"a","status":"pending"}]}}`},
	{"EventSessionConfigured", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"session_configured","session_id":"s","model":"m","cwd":"/w"}}`},
	{"EventShutdownComplete", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"shutdown_complete"}}`},
	{"EventItemCompleted TurnUserMessage", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"item_completed","thread_id":"th","turn_id":"t1","item":{"type":"UserMessage","id":"i1","content":[{"type":"text","text":"one","text_elements":[]}]},"started_at_ms":1,"completed_at_ms":2}}`},
	{"EventItemCompleted TurnAgentMessage", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"item_completed","thread_id":"th","turn_id":"t1","item":{"type":"AgentMessage","id":"i1","content":[{"type":"Text","text":"I will run it."}]},"started_at_ms":1,"completed_at_ms":2}}`},
	{"EventItemCompleted TurnReasoning", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"item_completed","thread_id":"th","turn_id":"t1","item":{"type":"Reasoning","id":"i1","summary_text":["**Thinking**"],"raw_content":[]},"started_at_ms":1,"completed_at_ms":2}}`},
	{"EventItemCompleted TurnCommandExecution", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"item_completed","thread_id":"th","turn_id":"t1","item":{"type":"CommandExecution","id":"i1","process_id":"66339","command":["/bin/bash","-lc","exit 3"],"cwd":"file:///w/repo","parsed_cmd":[{"type":"unknown","cmd":"exit 3"}],"source":"agent","status":"failed","stdout":"","stderr":"","aggregated_output":"","exit_code":3,"duration":{"secs":0,"nanos":4947},"formatted_output":""},"started_at_ms":1,"completed_at_ms":2}}`},
	{"EventItemCompleted TurnFileChange", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"item_completed","thread_id":"th","turn_id":"t1","item":{"type":"FileChange","id":"i1","changes":{"/w/a.txt":{"type":"add","content":"hello\n"}},"status":"completed","stdout":"Success","stderr":""},"started_at_ms":1,"completed_at_ms":2}}`},
	{"EventItemCompleted TurnContextCompaction", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"item_completed","thread_id":"th","turn_id":"t1","item":{"type":"ContextCompaction","id":"i1"},"started_at_ms":1,"completed_at_ms":2}}`},
	{"EventItemCompleted TurnPlan", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"item_completed","thread_id":"th","turn_id":"t1","item":{"type":"Plan","id":"i1","text":"1. a"},"started_at_ms":1,"completed_at_ms":2}}`},
	{"EventItemCompleted TurnSleep", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"item_completed","thread_id":"th","turn_id":"t1","item":{"type":"Sleep","id":"i1","duration_ms":100},"started_at_ms":1,"completed_at_ms":2}}`},
	{"Unknown", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"new_type","payload":{"a":1}}`},
	{"Unknown", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"response_item","payload":{"type":"new_item","a":1}}`},
	{"Unknown", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"new_event","a":1}}`},
	{"EventItemCompleted Unknown", `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"item_completed","thread_id":"th","turn_id":"t1","item":{"type":"NewItem","id":"i1"},"started_at_ms":1,"completed_at_ms":2}}`},
}

var payloadLines = func() (lines []string) {
	for _, s := range samples {
		lines = append(lines, s.line)
	}
	return lines
}()

func TestDecode(t *testing.T) {
	t.Parallel()
	for _, tc := range samples {
		it, err := DecodeItem([]byte(tc.line))
		if err != nil {
			t.Fatalf("%s: %v", tc.line, err)
		}
		payload, err := it.Decode()
		if err != nil {
			t.Errorf("%s: %v", tc.line, err)
		}
		raw, got := it.Payload, typeName(payload)
		if item, ok := payload.(*EventItemCompleted); ok {
			raw = item.Item
			if payload, err = DecodeTurnItem(raw); err != nil {
				t.Errorf("%s: %v", tc.line, err)
			}
			got += " " + typeName(payload)
		}
		if got != tc.want {
			t.Errorf("%s: got %s, want %s", tc.line, got, tc.want)
		}
		if u, ok := payload.(*Unknown); ok {
			if !bytes.Equal(u.Raw, raw) || !strings.HasPrefix(strings.ToLower(u.Type), "new") {
				t.Errorf("%s: got %+v", tc.line, u)
			}
			continue
		}
		sameMembers(t, raw, payload)
	}
}

func typeName(payload any) string { return reflect.TypeOf(payload).Elem().Name() }

// sameMembers checks that every member of raw but the type is a field of payload
// and has its value. The samples have only members that are known.
func sameMembers(t *testing.T, raw []byte, payload any) {
	t.Helper()
	encoded, err := marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	var got, want map[string]any
	if err := errors.Join(json.Unmarshal(encoded, &got), json.Unmarshal(raw, &want)); err != nil {
		t.Fatal(err)
	}
	for name, value := range want {
		switch g, ok := got[name]; {
		case name == "type" && !ok:
		case !ok:
			t.Errorf("%T has no %s", payload, name)
		case !contains(g, value):
			t.Errorf("%T: %s is %v, want %v", payload, name, g, value)
		}
	}
}

// contains tells whether got is want, or has it and zero values besides.
func contains(got, want any) bool {
	switch w := want.(type) {
	case nil:
		return got == nil || reflect.ValueOf(got).IsZero()
	case map[string]any:
		g, _ := got.(map[string]any)
		for name, value := range w {
			if member, ok := g[name]; !ok && name != "text_elements" || ok && !contains(member, value) {
				return false
			}
		}
		return true
	case []any:
		g, ok := got.([]any)
		return ok && slices.EqualFunc(g, w, contains)
	}
	return reflect.DeepEqual(got, want)
}

// Every type of the tables has a sample.
func TestSamplesAreComplete(t *testing.T) {
	t.Parallel()
	all := strings.Join(payloadLines, "\n")
	for _, types := range []map[string]payloadDecoder{lineTypes, responseTypes, eventTypes, turnItemTypes} {
		for name := range types {
			if !strings.Contains(all, `"`+name+`"`) {
				t.Errorf("%s has no sample", name)
			}
		}
	}
}

func TestDecodeTolerates(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name    string
		payload string
		want    any
		err     error
	}{
		{"members of wrong types", `{"type":"task_complete","turn_id":7,"error":[],"duration_ms":1.5,"completed_at":3}`, &EventTaskComplete{CompletedAt: 3, Error: &EventError{}}, errMember},
		{"the type last, keys in other cases, nulls", `{"Message":"no","message":"yes","kind":null,"type":"user_message"}`, &EventUserMessage{Message: "yes"}, nil},
		{"the last of equal keys", `{"type":"error","message":"a","message":"b"}`, &EventError{Message: "b"}, nil},
		{"the last of equal keys, null", `{"type":"error","message":"a","message":null}`, &EventError{}, nil},
		{"half a surrogate pair", `{"type":"error","message":"\ud83d\u0041\ud83d"}`, &EventError{Message: "\ufffdA\ufffd"}, nil},
		{"escapes", `{"type":"error","\u006dessage":"\ud83d\ude00\ud83d\n\u00e9\/"}`, &EventError{Message: "😀\ufffd\né/"}, nil},
		{"invalid UTF-8", "{\"type\":\"error\",\"message\":\"\xff\\n\"}", &EventError{Message: "\ufffd\n"}, nil},
		{"no object", `[1]`, &Unknown{Raw: json.RawMessage(`[1]`)}, nil},
		{"nothing", "", &Unknown{}, nil},
		{"not JSON", `{"type":"error","message":"a"`, &EventError{Message: "a"}, errNotJSON},
		{"not JSON at all", `{"type":"error",`, &EventError{}, errNotJSON},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			it := Item{Type: TypeEventMsg, Payload: json.RawMessage(tc.payload)}
			if got, err := it.Decode(); !errors.Is(err, tc.err) || !contains(asMap(t, got), asMap(t, tc.want)) || reflect.TypeOf(got) != reflect.TypeOf(tc.want) {
				t.Errorf("got %+v, %v, want %+v, %v", got, err, tc.want, tc.err)
			}
		})
	}
}

func asMap(t *testing.T, v any) any {
	t.Helper()
	if u, ok := v.(*Unknown); ok {
		return string(u.Raw)
	}
	encoded, err := marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	var m any
	if err := json.Unmarshal(encoded, &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// everything has fields of all kinds. Keys that are digits have no case, in which
// we differ from encoding/json.
type everything struct {
	S string            `json:"1"`
	B bool              `json:"2"`
	I int64             `json:"3"`
	U uint64            `json:"4"`
	F float64           `json:"5"`
	R json.RawMessage   `json:"6"`
	P *everything       `json:"7"`
	L []string          `json:"8"`
	M map[string]string `json:"9"`
	N []everything      `json:"0"`
}

// FuzzUnmarshal compares our decoder with encoding/json.
func FuzzUnmarshal(f *testing.F) {
	for _, s := range []string{
		`{"1":"a\n\u00e9\ud83d\ude00\ud83d","2":true,"3":-1,"4":1,"5":1e2,"6":[ 1],"7":{"1":"x","7":null},"8":["a",null,1],"9":{"\u0061":"b"},"0":[{"3":2},{"4":3}]}`,
		`{"1":1,"2":1,"3":1.5,"4":-1,"5":"a","7":[],"8":{},"9":[],"0":1}`, `{"3":9223372036854775808,"5":1e999}`, `[]`, `null`, ` {"6" : null } `, "{\"1\":\"\xff\\t\",\"\\u0031\":\"b\"}",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var got, want everything
		err := unmarshal(text, &got) // no panic, whatever it is
		if !json.Valid(text) || hasEqualKeys(text) {
			return
		}
		wantErr := json.Unmarshal(text, &want)
		if (err != nil) != (wantErr != nil) || !reflect.DeepEqual(got, want) {
			t.Fatalf("got  %+v, %v\nwant %+v, %v", got, err, want, wantErr)
		}
	})
}

// hasEqualKeys tells whether an object has two equal keys, of which we take the
// last while encoding/json mixes them.
func hasEqualKeys(text []byte) bool {
	dec := json.NewDecoder(bytes.NewReader(text))
	var keys []map[string]bool // of the objects and, nil, arrays around
	isKey := false
	for {
		token, err := dec.Token()
		if err == io.EOF {
			return false
		}
		inObject := len(keys) > 0 && keys[len(keys)-1] != nil
		switch v := token.(type) {
		case json.Delim:
			switch v {
			case '{':
				keys = append(keys, map[string]bool{})
				isKey = true
				continue
			case '[':
				keys = append(keys, nil)
				continue
			}
			keys = keys[:len(keys)-1]
			isKey = len(keys) > 0 && keys[len(keys)-1] != nil
			continue
		case string:
			if inObject && isKey {
				if keys[len(keys)-1][v] {
					return true
				}
				keys[len(keys)-1][v] = true
				isKey = false
				continue
			}
		}
		isKey = inObject
	}
}
