//go:build linux

package codex

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout"
	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/recorder"
)

// What we record is listed, read and gone on with, also in a thread that Codex began;
// and so is what we compress.
func init() {
	scenarios = append(scenarios, scenario{name: "recorded by rollout", run: func(r *run) {
		theirs := r.start(r.mode)
		r.say(theirs, "one")
		r.halt()

		h, err := rollout.Open(r.dir)
		must(r.t, err)
		defer h.Close()
		rec, err := h.New(recorder.Meta{Cwd: r.work, Originator: "rollout", CLIVersion: "0.0.0", Provider: "mock"})
		must(r.t, err)
		ours := turn(legacy, "by the package <b> é 中 \u2028", "call_a")
		must(r.t, rec.Record(r.t.Context(), ours...))
		must(r.t, rec.Close(r.t.Context()))
		r.recorded(rec.ID().String(), ours)

		piped := turn(legacy, "by the command", "call_b")
		id := r.record(piped, "--meta", "cwd="+r.work, "--meta", "originator=rollout", "--meta", "model_provider=mock")
		r.recorded(id, piped)

		more := turn(legacy, "more of it", "call_c") // after a turn of Codex's
		r.record(more, "--resume", id)
		r.recorded(id, more)
		more = turn(r.mode, "in Codex's own", "call_d")
		r.record(more, "--resume", theirs)
		r.recorded(theirs, more)
	}}, scenario{name: "compressed by rollout", from: "0.150.0", run: func(r *run) { // Codex reads it from 0.137 on
		sealed, mirrored := r.start(r.mode), r.start(r.mode)
		r.say(sealed, "one")
		r.say(sealed, "RUN:echo two")
		r.say(mirrored, "PARALLEL:2")
		r.compact(mirrored)
		r.say(mirrored, "two")
		turns := map[string][]any{sealed: r.read(sealed), mirrored: r.read(mirrored)}
		r.halt()
		plain := rollouts(r.t, r.dir)
		r.sync("push", "--idle", "0s")

		path := r.path(sealed)
		b, err := os.ReadFile(path)
		must(r.t, err)
		var out bytes.Buffer
		s := codec.NewSealer(&out, time.Now())
		_, err = s.Write(b)
		must(r.t, err)
		must(r.t, s.Close())
		must(r.t, os.WriteFile(path+".zst", out.Bytes(), 0o600))
		must(r.t, os.Remove(path))

		path = r.path(mirrored)
		name, err := filepath.Rel(r.dir, path)
		must(r.t, err)
		b, err = os.ReadFile(filepath.Join(r.mirror(), name+".zst"))
		must(r.t, err)
		must(r.t, os.WriteFile(path+".zst", b, 0o600))
		must(r.t, os.Remove(path))

		equal(r.t, rollouts(r.t, r.dir), plain)
		r.forget()
		r.restart()
		listed := map[string]bool{}
		for _, row := range r.list(false) {
			listed[row["id"].(string)] = true
		}
		for id, want := range turns {
			if !listed[id] {
				r.t.Errorf("Codex does not list thread %s", id)
			}
			r.check(id)
			is := r.read(id)
			if is = is[:len(is)-1]; !reflect.DeepEqual(is, want) {
				r.t.Errorf("of the compressed thread %s Codex shows\n%.600v\nand before\n%.600v", id, is, want)
			}
		}
		for path, b := range rollouts(r.t, r.dir) { // which Codex has decompressed
			if !strings.HasPrefix(b, plain[path]) || b == plain[path] {
				r.t.Errorf("%s is not what it was with a turn added", path)
			}
		}
	}})
}

// forget removes Codex's databases.
func (r *run) forget() {
	r.t.Helper()
	r.halt()
	databases, err := filepath.Glob(filepath.Join(r.dir, "*.sqlite*"))
	must(r.t, err)
	for _, file := range databases {
		must(r.t, os.Remove(file))
	}
}

// record has "rollout-sync record" record items, and returns the session's id.
func (r *run) record(items []codec.Item, args ...string) string {
	r.t.Helper()
	r.halt()
	out, errs, code := r.try(bytes.NewReader(lines(items)), append([]string{"record", "--json"}, args...)...)
	var told struct {
		ID    string
		Items int
	}
	if err := json.Unmarshal([]byte(out), &told); err != nil || code != 0 || errs != "" || told.Items != len(items) {
		r.t.Fatalf("record ends with %d: %s%s", code, out, errs)
	}
	return told.ID
}

// lines are what "rollout-sync record" reads.
func lines(items []codec.Item) (b []byte) {
	for _, it := range items {
		b = fmt.Appendf(b, `{"type":%q,"payload":%s}`+"\n", it.Type, it.Payload)
	}
	return b
}

// recorded checks that Codex lists a thread, shows the turn that we recorded as its last
// and goes on with it.
func (r *run) recorded(id string, turn []codec.Item) {
	r.t.Helper()
	var texts []string // what a user has to see
	var want []json.RawMessage
	for _, it := range turn {
		var m struct {
			Type, ID string
			Content  []struct{ Text string }
		}
		must(r.t, json.Unmarshal(it.Payload, &m))
		if it.Type == codec.TypeResponseItem {
			want = append(want, it.Payload)
			if m.Type == "message" {
				texts = append(texts, m.Content[0].Text)
			}
		}
	}
	n := r.model.count()
	r.check(id)
	var isListed bool
	for _, row := range r.list(false) {
		isListed = isListed || row["id"] == id
	}
	if !isListed {
		r.t.Errorf("Codex does not list thread %s", id)
	}
	turns := r.read(id)
	if len(turns) < 2 {
		r.t.Fatalf("of thread %s Codex shows %d turns", id, len(turns))
	}
	shown := fmt.Sprint(turns[len(turns)-2]) // Codex's own is behind it
	for _, text := range texts {
		if !strings.Contains(shown, text) {
			r.t.Errorf("of thread %s Codex does not show %q in %s", id, text, shown)
		}
	}
	for _, item := range r.model.since(n)[0].items {
		if len(want) > 0 && same(item, want[0]) {
			want = want[1:]
		}
	}
	if len(want) > 0 {
		r.t.Errorf("the model is not sent %s", want[0])
	}
}

// turn returns a turn with a call of a tool, as Codex records it.
func turn(mode, said, call string) []codec.Item {
	id := uuid.Must(uuid.NewV7()).String()
	item := func(kind string, payload object) codec.Item {
		b, _ := json.Marshal(payload) // of maps and strings
		return codec.Item{Type: kind, Payload: b}
	}
	shows := func(legacyType, text, paginatedType string, content object) codec.Item {
		if mode == legacy {
			return item(codec.TypeEventMsg, object{"type": legacyType, "message": text})
		}
		return item(codec.TypeEventMsg, object{
			"type": "item_completed", "thread_id": id, "turn_id": id, "started_at_ms": 1795164107241, "completed_at_ms": 1795164107241,
			"item": object{"type": paginatedType, "id": uuid.NewString(), "content": []object{content}},
		})
	}
	answer := "The answer to: " + said
	return []codec.Item{
		item(codec.TypeEventMsg, object{"type": "task_started", "turn_id": id, "model_context_window": 258400}),
		item(codec.TypeResponseItem, object{"type": "message", "role": "user", "content": []object{{"type": "input_text", "text": said}}}),
		shows("user_message", said, "UserMessage", object{"type": "text", "text": said, "text_elements": []string{}}),
		item(codec.TypeResponseItem, object{"type": "function_call", "name": "exec_command", "arguments": `{"cmd":"echo hello"}`, "call_id": call}),
		item(codec.TypeResponseItem, object{"type": "function_call_output", "call_id": call, "output": "hello\n"}),
		item(codec.TypeResponseItem, object{"type": "message", "role": "assistant", "content": []object{{"type": "output_text", "text": answer}}}),
		shows("agent_message", answer, "AgentMessage", object{"type": "Text", "text": answer}),
		item(codec.TypeEventMsg, object{"type": "task_complete", "turn_id": id, "last_agent_message": answer}),
	}
}
