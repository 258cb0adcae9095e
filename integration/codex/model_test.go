//go:build linux

package codex

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// A model stands in for the model: it answers POST /v1/responses, which is all that
// Codex asks of a provider, and keeps what it was sent. What it answers is told by
// words in the last thing that the user said:
//
//	RUN:<command>    a call of the shell tool, and then a message
//	PARALLEL:<n>     so many calls at once
//	TOKENS:<n>       the usage that the answer claims
//	HANG             half an answer, and then nothing
//	CALLHANG:<cmd>   a call of the shell tool, and after its output nothing
//	FAIL             a failed response
//	SAY:<n>          an answer of so many bytes
type model struct {
	*httptest.Server
	mu       sync.Mutex
	inputs   []input
	arrived  *sync.Cond
	closing  chan struct{}
	sequence int
}

// An input is what the model was sent at once.
type input struct {
	thread       string
	items        []json.RawMessage
	instructions string
}

func newModel(t *testing.T) *model {
	m := &model{closing: make(chan struct{})}
	m.arrived = sync.NewCond(&m.mu)
	m.Server = httptest.NewServer(m)
	t.Cleanup(func() {
		close(m.closing)
		m.Close()
	})
	return m
}

// since returns what came after the first n requests.
func (m *model) since(n int) []input {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.inputs[n:len(m.inputs):len(m.inputs)]
}

func (m *model) count() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.inputs)
}

// await waits until more than n requests have come.
func (m *model) await(n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.inputs) <= n {
		m.arrived.Wait()
	}
}

func (m *model) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost || !strings.HasSuffix(r.URL.Path, "/responses") {
		http.NotFound(w, r)
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	var request struct {
		Input        []json.RawMessage
		Instructions string
		Tools        []struct{ Name string }
	}
	if err := json.Unmarshal(body, &request); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	thread := r.Header.Get("thread-id")
	for _, key := range []string{"session-id", "session_id", "conversation_id"} {
		if thread == "" {
			thread = r.Header.Get(key)
		}
	}
	m.mu.Lock()
	m.sequence++
	n := m.sequence
	m.inputs = append(m.inputs, input{thread, request.Input, request.Instructions})
	m.arrived.Broadcast()
	m.mu.Unlock()

	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Connection", "close")
	isOld := slices.ContainsFunc(request.Tools, func(tool struct{ Name string }) bool { return tool.Name == "shell" })
	for _, event := range answer(request.Input, n, isOld) {
		if event == nil {
			if f, ok := w.(http.Flusher); ok {
				f.Flush()
			}
			select {
			case <-r.Context().Done():
			case <-m.closing:
			}
			return
		}
		b, _ := json.Marshal(event) // of maps and strings
		fmt.Fprintf(w, "data: %s\n\n", b)
	}
}

type object = map[string]any

// answer returns the events of an answer; nil in it is where it hangs. isOld tells that
// the shell tool is that of before 0.98.
func answer(items []json.RawMessage, n int, isOld bool) []object {
	said, outputs := lastSaid(items)
	id := func(prefix string) string { return fmt.Sprintf("%s_%06d", prefix, n) }
	done := func(item object) object { return object{"type": "response.output_item.done", "item": item} }
	thought := done(object{
		"type": "reasoning", "id": id("rs"), "content": nil, "encrypted_content": "Z0FBQUFBbW9jaw==",
		"summary": []object{{"type": "summary_text", "text": "**Thinking**"}},
	})
	says := func(text string) object {
		return done(object{
			"type": "message", "role": "assistant", "id": id("msg"),
			"content": []object{{"type": "output_text", "text": text}},
		})
	}
	call := func(i int, command string) object {
		tool := "exec_command"
		arguments, _ := json.Marshal(object{"cmd": command, "yield_time_ms": 20_000})
		if isOld {
			tool = "shell"
			arguments, _ = json.Marshal(object{"command": []string{"sh", "-c", command}})
		}
		return done(object{
			"type": "function_call", "id": fmt.Sprintf("%s_%d", id("fc"), i), "name": tool,
			"call_id": fmt.Sprintf("%s_%d", id("call"), i), "arguments": string(arguments),
		})
	}
	response := object{"id": id("resp")}
	completed := object{"type": "response.completed", "response": response}
	word := func(key string) (string, bool) {
		_, rest, ok := strings.Cut(said, key+":")
		rest, _, _ = strings.Cut(rest, "\n")
		return rest, ok
	}
	if text, ok := word("TOKENS"); ok {
		var tokens int
		fmt.Sscan(text, &tokens)
		response["usage"] = object{"input_tokens": tokens - 10, "output_tokens": 10, "total_tokens": tokens}
	}
	if strings.Contains(said, "CONTEXT CHECKPOINT") {
		return []object{says("The user asked for things, and the assistant did them."), completed}
	}
	if command, ok := word("CALLHANG"); ok {
		if outputs > 0 {
			return []object{{"type": "response.created", "response": object{}}, nil}
		}
		return []object{thought, call(0, command), completed}
	}
	switch command, ok := word("RUN"); {
	case ok && outputs == 0:
		return []object{thought, says("I will run it."), call(0, command), completed}
	case strings.Contains(said, "HANG"):
		return []object{
			{"type": "response.output_item.added", "item": object{"type": "message", "role": "assistant", "id": id("msg"), "content": []object{}}},
			{"type": "response.output_text.delta", "item_id": id("msg"), "delta": "Half an ans"},
			nil,
		}
	case strings.Contains(said, "FAIL"):
		return []object{{"type": "response.failed", "response": object{"id": id("resp"), "error": object{"code": "invalid_prompt", "message": "no"}}}}
	}
	if text, ok := word("PARALLEL"); ok && outputs == 0 {
		var calls int
		fmt.Sscan(text, &calls)
		events := []object{thought}
		for i := range calls {
			events = append(events, call(i, fmt.Sprintf("echo number %d", i)))
		}
		return append(events, completed)
	}
	text := fmt.Sprintf("Answer %d.", n)
	if size, ok := word("SAY"); ok {
		var bytes int
		fmt.Sscan(size, &bytes)
		text = strings.Repeat("words ", bytes/6)
	}
	return []object{thought, says(text), completed}
}

// lastSaid returns what the user said last, and how many outputs of tools follow.
func lastSaid(items []json.RawMessage) (said string, outputs int) {
	for i := len(items) - 1; i >= 0; i-- {
		var item struct {
			Type, Role string
			Content    []struct{ Text string }
		}
		_ = json.Unmarshal(items[i], &item) // what does not fit is no message
		if strings.HasSuffix(item.Type, "_output") {
			outputs++
		}
		if item.Type != "message" || item.Role != "user" {
			continue
		}
		for _, part := range item.Content {
			said += part.Text + "\n"
		}
		if !strings.HasPrefix(said, "<environment_context>") && !strings.HasPrefix(said, "# AGENTS.md") {
			return said, outputs
		}
		said = ""
	}
	return said, outputs
}
