package replay_test

import (
	"strings"
	"testing"

	"github.com/rollout-sync/rollout/replay"
)

func TestTranscripts(t *testing.T) {
	t.Parallel()
	for title, c := range map[string]struct{ session, want string }{
		"G0": {
			`{"id":"d5ebb799-be32-45c1-953c-e2a464138788","timestamp":"2025-08-01T08:57:54.064Z","instructions":null,"git":{"commit_hash":"5e36f2","branch":"main"}}
{"record_type":"state"}
{"type":"message","id":null,"role":"user","content":[{"type":"input_text","text":"<environment_context>\nCurrent working directory: /w\n</environment_context>"}]}
{"type":"message","id":null,"role":"user","content":[{"type":"input_text","text":"list the files"},{"type":"input_image","image_url":"data:image/png;base64,AAAA"}]}
{"record_type":"state"}
{"type":"reasoning","id":"rs_1","summary":[{"type":"summary_text","text":"**Listing**"}],"encrypted_content":"Z0=="}
{"type":"message","id":"m1","role":"assistant","content":[{"type":"output_text","text":"I will look."}]}
{"type":"function_call","id":"fc_1","name":"shell","arguments":"{\"command\": [\"bash\", \"-lc\", \"ls; exit 3\"], \"timeout_ms\": 60000}","call_id":"call_1"}
{"type":"function_call_output","call_id":"call_1","output":"{\"output\":\"a.txt\\n\\u001b[31mred\\u001b[0m\\n\",\"metadata\":{\"exit_code\":3,\"duration_seconds\":0.0}}"}
{"type":"local_shell_call","call_id":"call_2","status":"completed","action":{"type":"exec","command":["grep","-c","a b"]}}
{"type":"message","id":"m2","role":"assistant","content":[{"type":"output_text","text":"One file:\n\n    a.txt"}]}
`,
			`session     d5ebb799-be32-45c1-953c-e2a464138788
started     2025-08-01T08:57:54.064Z
git         main 5e36f2

user
  list the files
  [image]

assistant
  I will look.

call 1: shell
  ls; exit 3

output of call 1, exit code 3
  a.txt
  red

call 2: local_shell
  grep -c "a b"

assistant
  One file:

      a.txt
`,
		},
		"G1": {
			`{"timestamp":"2026-01-20T08:56:49.545Z","type":"session_meta","payload":{"id":"01a1f82c-367f-7a10-beb6-d7dfd0348be6","timestamp":"2026-01-20T08:56:49.535Z","cwd":"/w/repo","originator":"codex_exec","cli_version":"0.50.0","instructions":null,"source":"exec","model_provider":"openai","forked_from_id":"01a1f827-8998-7800-9c95-d138cdfeb06a"}}
{"timestamp":"2026-01-20T08:56:49.546Z","type":"session_meta","payload":{"id":"01a1f827-8998-7800-9c95-d138cdfeb06a","timestamp":"2026-01-19T00:00:00.000Z","cwd":"/elsewhere","originator":"codex_exec","cli_version":"0.50.0"}}
{"timestamp":"2026-01-20T08:56:49.550Z","type":"response_item","payload":{"type":"message","role":"user","content":[{"type":"input_text","text":"# AGENTS.md instructions for /w/repo\n\n<INSTRUCTIONS>\nbe nice\n</INSTRUCTIONS>"},{"type":"input_text","text":"<environment_context>\n</environment_context>"}]}}
{"timestamp":"2026-01-20T08:56:49.560Z","type":"response_item","payload":{"type":"message","role":"user","content":[{"type":"input_text","text":"<image name=[Image #1]>"},{"type":"input_image","image_url":"data:image/png;base64,AAAA"},{"type":"input_text","text":"</image>"},{"type":"input_text","text":"look"}]}}
{"timestamp":"2026-01-20T08:56:49.561Z","type":"event_msg","payload":{"type":"user_message","message":"look","images":["data:image/png;base64,AAAA"],"local_images":[]}}
{"timestamp":"2026-01-20T08:56:49.570Z","type":"turn_context","payload":{"cwd":"/w/repo","approval_policy":"never","sandbox_policy":{"mode":"danger-full-access"},"model":"gpt-5","summary":"auto"}}
{"timestamp":"2026-01-20T08:56:50.000Z","type":"event_msg","payload":{"type":"agent_reasoning","text":"**Thinking**"}}
{"timestamp":"2026-01-20T08:56:50.001Z","type":"event_msg","payload":{"type":"agent_message","message":"I will run it."}}
{"timestamp":"2026-01-20T08:56:50.002Z","type":"response_item","payload":{"type":"message","role":"assistant","content":[{"type":"output_text","text":"I will run it."}]}}
{"timestamp":"2026-01-20T08:56:50.003Z","type":"response_item","payload":{"type":"function_call","name":"update_plan","arguments":"{\"plan\": []}","call_id":"call_a"}}
{"timestamp":"2026-01-20T08:56:50.004Z","type":"response_item","payload":{"type":"custom_tool_call","name":"apply_patch","input":"*** Begin Patch\n*** End Patch","call_id":"call_b"}}
{"timestamp":"2026-01-20T08:56:50.005Z","type":"response_item","payload":{"type":"custom_tool_call_output","call_id":"call_b","output":[{"type":"input_text","text":"Success."},{"type":"input_image","image_url":"x"}]}}
{"timestamp":"2026-01-20T08:56:50.006Z","type":"response_item","payload":{"type":"function_call_output","call_id":"call_a","output":"Plan updated"}}
{"timestamp":"2026-01-20T08:56:50.007Z","type":"response_item","payload":{"type":"web_search_call","status":"completed","action":{"type":"search","query":"go iterators"}}}
{"timestamp":"2026-01-20T08:57:00.000Z","type":"turn_context","payload":{"cwd":"/w/repo","model":"gpt-5"}}
{"timestamp":"2026-01-20T08:57:38.994Z","type":"compacted","payload":{"message":"The user asked for things."}}
{"timestamp":"2026-01-20T08:57:38.995Z","type":"event_msg","payload":{"type":"context_compacted"}}
{"timestamp":"2026-01-20T08:57:39.000Z","type":"turn_context","payload":{"cwd":"/w/repo","approval_policy":"never","sandbox_policy":{"mode":"danger-full-access"},"model":"gpt-5-mini","summary":"auto"}}
{"timestamp":"2026-01-20T08:57:39.100Z","type":"event_msg","payload":{"type":"thread_rolled_back","num_turns":1}}
not a line of Codex
{"timestamp":"2026-01-20T08:57:39.200Z","type":"event_msg","payload":{"type":"error","message":"stream disconnected"}}
{"timestamp":"2026-01-20T08:57:39.300Z","type":"event_msg","payload":{"type":"turn_aborted","reason":"interrupted"}}
{"timestamp":"2026-01-20T08:57:40.0`,
			`session     01a1f82c-367f-7a10-beb6-d7dfd0348be6
started     2026-01-20T08:56:49.535Z
cwd         /w/repo
model       gpt-5
provider    openai
written by  codex_exec 0.50.0
forked from 01a1f827-8998-7800-9c95-d138cdfeb06a

user, 2026-01-20T08:56:49.561Z
  look
  [image]

assistant, 2026-01-20T08:56:50.001Z
  I will run it.

call 1: update_plan
  {"plan": []}

call 2: apply_patch
  *** Begin Patch
  *** End Patch

output of call 2
  Success.
  [image]

output of call 1
  Plan updated

call 3: web_search
  go iterators

compaction
  The user asked for things.

model gpt-5-mini

rolled back, turns: 1

line 20 cannot be read: not a JSON object

error
  stream disconnected

turn aborted
  interrupted

line 23 cannot be read: cut off
`,
		},
		"G2": {
			`{"timestamp":"2026-11-20T08:41:45.701Z","ordinal":0,"type":"session_meta","payload":{"session_id":"01a1f81e-6bb9-7000-8000-000000000001","id":"01a1f81e-6bb9-7000-8000-000000000001","timestamp":"2026-11-20T08:41:45.672Z","cwd":"/w/repo","originator":"codex_exec","cli_version":"0.169.0","source":"exec","model_provider":"openai","history_mode":"paginated"}}
{"timestamp":"2026-11-20T08:41:45.702Z","ordinal":1,"type":"event_msg","payload":{"type":"task_started","turn_id":"t1"}}
{"timestamp":"2026-11-20T08:41:45.703Z","ordinal":2,"type":"turn_context","payload":{"cwd":"/w/repo","model":"gpt-5","summary":"auto"}}
{"timestamp":"2026-11-20T08:41:45.710Z","ordinal":3,"type":"response_item","payload":{"type":"message","id":"msg_1","role":"user","content":[{"type":"input_text","text":"run it"}]},"metadata":{"client_authored":true}}
{"timestamp":"2026-11-20T08:41:45.711Z","ordinal":4,"type":"event_msg","payload":{"type":"item_completed","turn_id":"t1","item":{"type":"UserMessage","id":"u1","content":[{"type":"local_image","path":"/w/x.png"},{"type":"text","text":"run it","text_elements":[]}]},"completed_at_ms":1795164107241}}
{"timestamp":"2026-11-20T08:41:46.000Z","ordinal":6,"type":"event_msg","payload":{"type":"item_completed","turn_id":"t1","item":{"type":"AgentMessage","id":"msg_2","content":[{"type":"Text","text":"Running."}]},"completed_at_ms":1795164107241}}
{"timestamp":"2026-11-20T08:41:46.001Z","ordinal":7,"type":"response_item","payload":{"type":"message","id":"msg_2","role":"assistant","content":[{"type":"output_text","text":"Running."}]}}
{"timestamp":"2026-11-20T08:41:46.002Z","ordinal":8,"type":"response_item","payload":{"type":"function_call","id":"fc_1","name":"exec_command","arguments":"{\"cmd\": \"make test\", \"yield_time_ms\": 20000}","call_id":"call_1"}}
{"timestamp":"2026-11-20T08:41:46.100Z","ordinal":9,"type":"event_msg","payload":{"type":"item_completed","turn_id":"t1","item":{"type":"CommandExecution","id":"call_1","command":["/bin/bash","-lc","make test"],"status":"completed","aggregated_output":"ok\n","exit_code":0}}}
{"timestamp":"2026-11-20T08:41:46.101Z","ordinal":10,"type":"response_item","payload":{"type":"function_call_output","id":"fco_1","call_id":"call_1","output":"Process exited with code 0\nOutput:\nok\n"}}
{"timestamp":"2026-11-20T08:41:46.200Z","ordinal":11,"type":"compacted","payload":{"message":"","replacement_history":[]}}
{"timestamp":"2026-11-20T08:41:46.300Z","ordinal":12,"type":"event_msg","payload":{"type":"task_complete","turn_id":"t1","last_agent_message":null,"error":{"message":"high demand","codex_error_info":"internal_server_error"}}}
`,
			`session     01a1f81e-6bb9-7000-8000-000000000001
started     2026-11-20T08:41:45.672Z
cwd         /w/repo
model       gpt-5
provider    openai
written by  codex_exec 0.169.0

user, 2026-11-20T08:41:45.711Z
  [image]
  run it

assistant, 2026-11-20T08:41:46.000Z
  Running.

call 1: exec_command
  make test

output of call 1
  Process exited with code 0
  Output:
  ok

compaction

error
  high demand
`,
		},
		"plain events": {
			`{"type":"session_meta","item":{"id":"the-id","timestamp":"2026-11-20T08:41:45.672Z","cwd":"/w","originator":"my_agent","cli_version":"1.2.3"},"seq":0}
{"type":"system","item":{"text":"You are an agent."},"seq":1}
{"type":"user_message","item":{"text":"list the \u001b[31mfiles"},"seq":2}
{"type":"assistant_message","item":{"content":[{"type":"text","text":"I will look."}]},"seq":3}
{"type":"tool_call","item":{"call_id":"c1","name":"shell","arguments":{"cmd":"ls"}},"seq":4}
{"type":"tool_call","item":{"id":"c2","name":"fetch","input":{"url":"x"}},"seq":5}
{"type":"tool_call","item":{"name":"now","arguments":null},"seq":6}
{"type":"tool_result","item":{"id":"c2","content":[{"type":"text","text":"not found"}],"is_error":true},"seq":7}
{"type":"tool_result","item":{"call_id":"c1","output":"a.txt\n","exit_code":3},"seq":8}
{"type":"tool_result","item":{"output":{"files":1}},"seq":9}
{"type":"tool_call","item":"date","seq":10}
{"type":"tool_result","item":"today","seq":11}
{"type":"assistant_message","item":{"content":"One file."},"seq":12}
{"type":"error","item":{"message":"too fast","code":429},"seq":13}
{"type":"user_message","item":"thanks","seq":14}
{"type":"my_own","item":{"text":"not shown"},"seq":15}
`,
			`session     the-id
started     2026-11-20T08:41:45.672Z
cwd         /w
written by  my_agent 1.2.3

system
  You are an agent.

user
  list the files

assistant
  I will look.

call 1: shell
  ls

call 2: fetch
  {"url":"x"}

call 3: now

output of call 2, failed
  not found

output of call 1, exit code 3
  a.txt

output
  {"files":1}

call 4: tool
  date

output
  today

assistant
  One file.

error 429
  too fast

user
  thanks
`,
		},
		"damaged head": {
			"{\n" + metaLine + g1Message("user", "hi"),
			`session     the-id

line 1 cannot be read: not valid JSON

user, t
  hi
`,
		},
		"metadata only": {metaLine, "session     the-id\n"},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			var b strings.Builder
			must(t, replay.WriteText(&b, replay.Load(t.Context(), session(t, c.session), name)))
			if got := b.String(); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}
