package session

import (
	"fmt"
	"io"

	"github.com/rollout-sync/rollout/bench/tree"
	"github.com/rollout-sync/rollout/codec"
)

// compactedEvery is how many bytes of a long session a model's context holds.
const compactedEvery = 400 << 10

// Compacted writes turns of 12 tool calls until the session s has size bytes, or a
// turn more: a long session, compacted as often as one is. It returns how many turns
// those are.
func (w *Writer) Compacted(dst io.Writer, s tree.Session, size int64) (turns int, err error) {
	at := codec.FormatTime(s.Start)
	w.recent = w.recent[:0]
	since := 0
	var written int64
	line := func(typ, payload string, args ...any) {
		if err != nil {
			return
		}
		w.line = fmt.Appendf(w.line[:0], `{"timestamp":"%s","type":"%s","payload":`, at, typ)
		w.line = append(fmt.Appendf(w.line, payload, args...), "}\n"...)
		n := 0
		n, err = dst.Write(w.line)
		written, since = written+int64(n), since+n
	}
	line("session_meta", `{"id":"%s","timestamp":"%s","cwd":"%s","originator":"codex_cli_rs","cli_version":"0.118.0","source":"cli","model_provider":"openai","base_instructions":{"text":"%s"}}`, s.ID, at, tree.Cwd(s.Project), w.prompt)
	var output []byte
	for ; err == nil && written < size; turns++ {
		line("event_msg", `{"type":"task_started","turn_id":"t%d"}`, turns)
		if since > compactedEvery {
			since = 0
			line("compacted", `{"message":"summary","replacement_history":[{"type":"message","role":"user","content":[{"type":"input_text","text":"summary"}]}]}`)
		}
		line("turn_context", `{"turn_id":"t%d","cwd":"%s","approval_policy":"never","sandbox_policy":{"type":"danger-full-access"},"model":"gpt-5","summary":"auto"}`, turns, tree.Cwd(s.Project))
		line("response_item", `{"type":"message","role":"user","content":[{"type":"input_text","text":"go on"}]}`)
		line("event_msg", `{"type":"user_message","message":"go on"}`)
		for i := range 12 {
			output = w.text(output[:0], 1000)
			line("response_item", `{"type":"function_call","name":"exec_command","arguments":"{\"cmd\":\"make\"}","call_id":"c%d_%d"}`, turns, i)
			line("response_item", `{"type":"function_call_output","call_id":"c%d_%d","output":"%s"}`, turns, i, output)
			line("event_msg", `{"type":"token_count","info":null,"rate_limits":null}`)
		}
		line("response_item", `{"type":"message","role":"assistant","content":[{"type":"output_text","text":"Done."}]}`)
		line("event_msg", `{"type":"task_complete","turn_id":"t%d"}`, turns)
	}
	return turns, err
}
