package replay_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/replay"
)

// summed is the Summary of a rollout that is written in pieces of up to n bytes.
func summed(content string, n int) replay.Summary {
	s := replay.NewSummarizer()
	for p := []byte(content); len(p) > 0; {
		piece := bytes.Clone(p[:min(n, len(p))])
		if k, err := s.Write(piece); k != len(piece) || err != nil {
			panic("a Summarizer failed")
		}
		clear(piece) // it keeps none of it
		p = p[len(piece):]
	}
	return s.Sum()
}

// recordsOf returns what Load does, without its errors.
func recordsOf(content string) iter.Seq2[replay.Item, error] {
	return func(yield func(replay.Item, error) bool) {
		for rec, err := range codec.Records(strings.NewReader(content), 0) {
			if errors.Is(rec.Err, codec.ErrBlank) {
				continue
			}
			it := replay.Item{Line: rec.Line, Offset: rec.Offset, Err: rec.Err}
			if rec.Err == nil {
				it.Item = rec.Item
			}
			if !yield(it, err) {
				return
			}
		}
	}
}

// fromEntries is the Summary that entries and items make.
func fromEntries(t testing.TB, content string) (want replay.Summary) {
	t.Helper()
	want.Size = int64(len(content))
	var files []string
	for e, err := range replay.Entries(recordsOf(content)) {
		must(t, err)
		switch e.Kind {
		case replay.KindEnd:
			want.Turns, want.Calls = e.Totals.Turns, e.Totals.Calls
			if e.Totals.Tokens != nil {
				want.Tokens = *e.Totals.Tokens
			}
		case replay.KindError:
			want.Errors++
		}
		for _, f := range e.Files {
			files = append(files, f.Path)
		}
	}
	want.Lines = int64(strings.Count(content, "\n"))
	if content != "" && !strings.HasSuffix(content, "\n") {
		want.Lines++
	}
	slices.Sort(files)
	want.Files = len(slices.Compact(files))
	for it := range recordsOf(content) {
		payload, _ := it.Decode()
		if c, ok := payload.(*codec.TurnContext); ok {
			if c.Model != "" && !slices.Contains(want.Models, c.Model) {
				want.Models = append(want.Models, c.Model)
			}
			if c.Cwd != "" && !slices.Contains(want.Cwds, c.Cwd) {
				want.Cwds = append(want.Cwds, c.Cwd)
			}
		}
	}
	return want
}

func checkSummary(t testing.TB, content string, pieces ...int) {
	t.Helper()
	want := fromEntries(t, content)
	for _, n := range append(pieces, len(content)+1) {
		if got := summed(content, n); !reflect.DeepEqual(got, want) {
			t.Fatalf("in pieces of %d bytes\ngot  %+v\nwant %+v\n%.20000s", n, got, want, content)
		}
	}
}

// Sessions as Codex of each generation writes them, cut anywhere.
func TestSummaryOfGolden(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/golden/*.jsonl")
	must(t, err)
	for _, file := range files {
		content, err := os.ReadFile(file)
		must(t, err)
		checkSummary(t, string(content), 1, 7, 100, 1000)
	}
}

// A sessionMaker makes sessions of lines that Codex may write, in an order that it may
// not.
type sessionMaker struct {
	rnd   *rand.Rand
	at    int
	calls []string
	total int
	paged bool
}

func (m *sessionMaker) one(of ...string) string { return of[m.rnd.IntN(len(of))] }

func (m *sessionMaker) line(typ, payload string) string {
	m.at++
	ordinal := ""
	if m.paged {
		ordinal = fmt.Sprintf(`"ordinal":%d,`, m.at)
	}
	metadata := ""
	if typ == "response_item" && m.rnd.IntN(8) == 0 {
		metadata = `,"metadata":{"client_authored":true}`
	}
	return fmt.Sprintf(`{"timestamp":"2026-11-20T08:%02d:%02d.%03dZ",%s"type":"%s","payload":%s%s}`, m.at/60%60, m.at%60, m.rnd.IntN(1000), ordinal, typ, payload, metadata)
}

func (m *sessionMaker) event(payload string) string { return m.line("event_msg", payload) }
func (m *sessionMaker) item(payload string) string  { return m.line("response_item", payload) }

// text is the inside of a string.
func (m *sessionMaker) text() string {
	s := m.one("ok", "", "x", `say \"hi\" {\"timestamp\":1}`, `func() { return }\n}}`, "<environment_context>", `back\\slash\\`, "é中😀", `\u0041{\"a\":{}}`, "{{{[[[", `"}}`[1:])
	if m.rnd.IntN(20) == 0 {
		s += strings.Repeat(s+"0123456789", m.rnd.IntN(200))
	}
	return s
}

func (m *sessionMaker) call() string {
	if len(m.calls) == 0 || m.rnd.IntN(6) == 0 {
		return fmt.Sprint("unknown_", m.rnd.IntN(20))
	}
	return m.calls[max(0, len(m.calls)-1-m.rnd.IntN(3))]
}

func (m *sessionMaker) newCall() string {
	id := fmt.Sprint("call_", m.at)
	m.calls = append(m.calls, id)
	return id
}

func (m *sessionMaker) usage(n int) string {
	cache := m.one("", `"cache_write_input_tokens":3,`)
	return fmt.Sprintf(`{"input_tokens":%d,"cached_input_tokens":%d,%s"output_tokens":%d,"reasoning_output_tokens":1,"total_tokens":%d}`, n, n/2, cache, n%7, n+n%7)
}

func (m *sessionMaker) changes() string {
	return fmt.Sprintf(`{"/w/%d":{"update":{"unified_diff":"+%s","move_path":null}},"/w/%d":{"type":"add","content":"x"}}`, m.rnd.IntN(8), m.text(), m.rnd.IntN(99))
}

// next makes a line of a kind that a session of G1 or G2 has.
func (m *sessionMaker) next() string {
	tail := m.one("", "", `,"internal_chat_message_metadata_passthrough":{"turn_id":"t"}`)
	switch m.rnd.IntN(34) {
	case 0:
		return m.line("session_meta", `{"id":"i","timestamp":"2026-11-20T08:00:00Z","cwd":"/w","base_instructions":{"text":"`+m.text()+`"}}`)
	case 1, 2:
		return m.event(`{"type":"user_message","message":"` + m.text() + `","images":[]}`)
	case 3, 4:
		role := m.one("user", "assistant", "developer")
		return m.item(`{"type":"message","id":"msg_1","role":"` + role + `","content":[{"type":"input_text","text":"` + m.text() + `"}]` + tail + `}`)
	case 5:
		return m.item(`{"type":"reasoning","id":"rs","summary":[` + m.one("", `{"type":"summary_text","text":"`+m.text()+`"}`) + `],"content":null,"encrypted_content":"gAAAA"}`)
	case 6, 7:
		return m.event(m.one(`{"type":"agent_message","message":"`, `{"type":"agent_reasoning","text":"`) + m.text() + `"}`)
	case 8, 9, 10, 11:
		return m.item(`{"type":"function_call","id":"fc","name":"shell","arguments":"{\"cmd\":\"` + m.text() + `\"}","call_id":"` + m.newCall() + `"` + tail + `}`)
	case 12:
		return m.item(`{"type":"custom_tool_call","status":"completed","call_id":"` + m.newCall() + `","name":"apply_patch","input":"` + m.text() + `"}`)
	case 13, 14, 15:
		return m.item(`{"type":"` + m.one("function_call_output", "custom_tool_call_output") + `","call_id":"` + m.call() + `","output":` + m.one(`"`+m.text()+`"`, `[{"type":"input_text","text":"`+m.text()+`"}]`) + tail + `}`)
	case 16, 17, 18:
		last := m.rnd.IntN(100)
		m.total += last * m.rnd.IntN(2)
		switch m.rnd.IntN(6) {
		case 0:
			return m.event(`{"type":"token_count","info":null,"rate_limits":{"primary":{"used_percent":1.5},"secondary":null}}`)
		case 1:
			return m.event(`{"type":"token_count","info":{"total_token_usage":` + m.usage(m.total) + `,"model_context_window":258400},"rate_limits":null,"note":"` + m.text() + `"}`)
		case 2:
			return m.event(`{"type":"token_count","info":{"last_token_usage":` + m.usage(last) + `,"total_token_usage":` + m.usage(m.total) + `}}`)
		}
		return m.event(`{"type":"token_count","info":{"total_token_usage":` + m.usage(m.total) + `,"last_token_usage":` + m.usage(last) + `,"model_context_window":null},"rate_limits":{"limit_id":"codex","primary":null}}`)
	case 19:
		if m.rnd.IntN(6) > 0 {
			return m.event(`{"type":"agent_message","message":"x"}`)
		}
		m.total += m.rnd.IntN(2)
		turn := m.one("", `,"turn_token_usage":`+m.usage(7))
		return m.line("token_usage_record", `{"thread_id":"t","turn_id":"t1","session_id":"s","root_turn_id":"t1","response_id":"resp_1","usage":`+m.usage(5)+turn+`,"thread_token_usage":`+m.usage(m.total)+`}`)
	case 20, 21:
		turn := m.one(`"turn_id":"t1",`, fmt.Sprintf(`"turn_id":"t%d","root_turn_id":"t%d",`, m.at, m.at), "")
		return m.line("turn_context", `{`+turn+`"cwd":"`+m.one("/w", "/w", "/w", "/v", "")+`","sandbox_policy":{"mode":"x","model":"a"},"model":"`+m.one("a", "a", "b")+`","collaboration_mode":{"settings":{"model":"c"}},"summary":"auto","user_instructions":"`+m.text()+`"}`)
	case 22:
		return m.event(`{"type":"` + m.one("task_started", "turn_started") + `","turn_id":"t"}`)
	case 23:
		return m.event(m.one(`{"type":"task_complete","last_agent_message":"x"}`, `{"type":"turn_complete","error":{"message":"z"}}`, `{"type":"turn_aborted","reason":"interrupted"}`))
	case 24:
		return m.event(m.one(`{"type":"error","message":"e"}`, `{"type":"stream_error","message":"e"}`, `{"type":"warning","message":"e"}`, `{"type":"thread_rolled_back","num_turns":1}`, `{"type":"context_compacted"}`, `{"type":"thread_settings_applied","thread_settings":{}}`))
	case 25:
		return m.line(m.one("compacted", "world_state", "from_the_future"), `{"message":"x","replacement_history":[{"timestamp":"t","type":"event_msg","payload":{"type":"task_started"}}]}`)
	case 26:
		// In front of the output of its call.
		id := m.newCall()
		call := m.item(`{"type":"function_call","name":"apply_patch","arguments":"","call_id":"` + id + `"}`)
		return call + "\n" + m.event(`{"type":"patch_apply_end","call_id":"`+id+`","success":true,"changes":`+m.changes()+`}`)
	case 27:
		return m.event(`{"type":"patch_apply_end","call_id":"new` + fmt.Sprint(m.at) + `","success":true,"changes":` + m.changes() + `}`)
	case 28:
		return m.event(`{"type":"exec_command_end","call_id":"` + m.call() + `","command":["ls"],"exit_code":0}`)
	case 29:
		return m.item(m.one(`{"type":"web_search_call","action":{"type":"search"}}`, `{"type":"local_shell_call","call_id":"l","status":"completed","action":{"type":"exec","command":["ls"]}}`, `{"type":"agent_message","author":"a"}`, `{"type":"compaction","encrypted_content":"x"}`))
	default:
		if !m.paged {
			return m.event(`{"type":"agent_message","message":"x"}`)
		}
		item := m.one(
			`{"type":"UserMessage","id":"u","content":[{"type":"text","text":"`+m.text()+`"}]}`,
			`{"type":"AgentMessage","id":"a","content":[{"type":"Text","text":"`+m.text()+`"}]}`,
			`{"type":"Reasoning","id":"r","summary_text":["`+m.text()+`"]}`,
			`{"type":"CommandExecution","id":"`+m.call()+`","command":["ls"],"exit_code":1,"aggregated_output":"`+m.text()+`"}`,
			`{"type":"CommandExecution","id":"`+m.call()+`","command":["ls"],"exit_code":1,"aggregated_output":"`+m.text()+`"}`,
			`{"type":"FileChange","id":"new`+fmt.Sprint(m.at)+`","changes":`+m.changes()+`,"status":"completed"}`,
			`{"type":"Plan","id":"p","text":"`+m.text()+`"}`,
		)
		return m.event(`{"type":"item_completed","thread_id":"h","turn_id":"t","item":` + item + `,"completed_at_ms":1}`)
	}
}

// old makes a line of a kind that G0 or plain events have.
func (m *sessionMaker) old() string {
	m.at++
	return m.one(
		`{"id":"i","timestamp":"2026-11-20T08:00:00Z","instructions":null}`,
		`{"record_type":"state"}`,
		`{"type":"message","role":"`+m.one("user", "assistant")+`","content":[{"type":"input_text","text":"`+m.text()+`"}]}`,
		`{"type":"function_call","name":"shell","arguments":"","call_id":"`+m.newCall()+`"}`,
		`{"type":"function_call_output","call_id":"`+m.call()+`","output":"`+m.text()+`"}`,
		`{"type":"user_message","item":{"text":"`+m.text()+`"},"seq":1}`,
		`{"type":"tool_call","item":{"name":"t","call_id":"`+m.newCall()+`"},"seq":2}`,
		`{"type":"error","item":{"message":"e","code":"c"},"seq":3}`,
	)
}

// session makes a session of n lines.
func (m *sessionMaker) session(n int) string {
	m.paged = m.rnd.IntN(3) == 0
	tasks, old, damage := m.rnd.IntN(2) == 0, m.rnd.IntN(8) == 0, m.rnd.IntN(2) == 0
	var b strings.Builder
	for range n {
		line := m.next()
		switch {
		case old && m.rnd.IntN(4) > 0:
			line = m.old()
		case !tasks && strings.Contains(line, "_started"):
			continue
		}
		if damage && m.rnd.IntN(8) == 0 {
			end := len(line) - 1
			switch m.rnd.IntN(6) {
			case 0: // glued to the next one
				b.WriteString(line[:m.rnd.IntN(end)])
				continue
			case 1:
				line = line[:m.rnd.IntN(end)]
			case 2:
				line = line[:m.rnd.IntN(end)] + strings.Repeat("\x00", 1+m.rnd.IntN(5000)) + m.one("", m.next())
			case 3:
				line += m.one(" ", "\r", m.next(), "}", "\x00")
			case 4:
				line = m.one("", " ", "no JSON", "{", `{"timestamp":`, `[1]`, "\xff\xfe", `{"type":"event_msg","payload":{"type":"task_started"},"timestamp":"t"}`, `{ "timestamp":"t", "type":"event_msg", "payload":{"type":"task_started"}}`)
			case 5:
				line = strings.Replace(line, "2026-11-20T", m.one("", `\u0032`, "x"), 1)
			}
		}
		b.WriteString(line + "\n")
	}
	s := b.String()
	if m.rnd.IntN(2) == 0 {
		s = s[:len(s)-m.rnd.IntN(min(300, len(s)+1))]
	}
	return s
}

func TestSummaryIsThatOfEntries(t *testing.T) {
	t.Parallel()
	const seeds = 300
	turns := 0
	for seed := range uint64(seeds) {
		m := &sessionMaker{rnd: rand.New(rand.NewPCG(seed, 12))}
		content := m.session(1 + m.rnd.IntN(60))
		checkSummary(t, content, 1+m.rnd.IntN(1000))
		turns += fromEntries(t, content).Turns
	}
	if turns < seeds {
		t.Errorf("only %d turns", turns)
	}
}

// What is rare among the sessions above.
func TestSummaryOfRareLines(t *testing.T) {
	t.Parallel()
	user := g1Message("user", "a") + g1Message("assistant", "b")
	start := event(1, `{"type":"task_started"}`)
	call := strings.TrimSuffix(functionCall(1, "c"), "\n")
	passed := strings.TrimSuffix(call, "}}") + `,"internal_chat_message_metadata_passthrough":{"turn_id":"t"}}}`
	upTo := func(line, end string) string {
		before, _, ok := strings.Cut(line, end)
		if !ok {
			t.Fatalf("no %s in %s", end, line)
		}
		return before + end
	}
	for title, content := range map[string]string{
		"a payload that is a record":          user + upTo(metaLine, `"payload":`) + functionCall(2, "d"),
		"an object that is a record":          user + upTo(passed, `_passthrough":`) + event(2, `{"type":"turn_complete","error":{"message":"z"}}`),
		"a record in a key":                   user + upTo(passed, `{"turn_`) + event(2, `{"type":"thread_settings_applied","thread_settings":{}}`),
		"a record in a string":                user + upTo(call, `"exec_`) + functionOutput(2, "c", `say "hi" {"timestamp":1}`),
		"a call that is cut off behind an id": user + strings.TrimSuffix(passed, "}") + "\n" + strings.TrimSuffix(passed, "}}}") + "},\"\n" + call[:len(call)-1],
		"the output twice, no event yet":      functionCall(1, "c") + functionOutput(2, "c", "x") + response("user", "a") + functionOutput(3, "c", "y") + user,
		"an event and its output, turns late": start + functionCall(1, "c") + event(2, `{"type":"exec_command_end","call_id":"c"}`) + event(3, `{"type":"task_complete"}`) +
			response("user", "a") + functionOutput(4, "c", "x") + user,
		"a count that is cut off": user + upTo(event(2, `{"type":"token_count","info":{"total_token_usage":{"input_tokens":1,"cached_input_tokens":0,"output_tokens":1,"reasoning_output_tokens":0,"total_tokens":2},"last_token_usage":{"input_tokens":1,"cached_input_tokens":0,"output_tokens":1,"reasoning_output_tokens":0,"total_tokens":2},"model_context_window":1},"rate_limits":{"primary":{"x":{}},"y":1}}`), `{}}`) + "\n",
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			checkSummary(t, metaLine+content, 1, 60)
		})
	}
}

// A line may be cut anywhere.
func TestSummaryOfCutLines(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		m := &sessionMaker{rnd: rand.New(rand.NewPCG(seed, 13))}
		content := m.session(12)
		want := fromEntries(t, content)
		for i := range len(content) {
			s := replay.NewSummarizer()
			_, _ = io.WriteString(s, content[:i])
			_, _ = io.WriteString(s, content[i:])
			if got := s.Sum(); !reflect.DeepEqual(got, want) {
				t.Fatalf("cut at %d\ngot  %+v\nwant %+v\n%s", i, got, want, content)
			}
		}
	}
}

// What cannot change a number is passed over, however long it is.
func TestSummaryKeepsNoLongLines(t *testing.T) { // not parallel: others allocate, too
	s := replay.NewSummarizer()
	head := metaLine + event(0, `{"type":"task_started"}`) + g1Message("user", "a")
	_, _ = io.WriteString(s, head+strings.TrimSuffix(functionOutput(1, "a", "x"), "\"}}\n"))
	piece := []byte(strings.Repeat("0123456789abcde ", 4<<10))
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range 1000 {
		_, _ = s.Write(piece)
	}
	_, _ = io.WriteString(s, "\"}}\n"+functionCall(2, "b"))
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 1<<20 {
		t.Errorf("took %d bytes", n)
	}
	if got := s.Sum(); got.Turns != 1 || got.Calls != 1 {
		t.Errorf("got %+v", got)
	}
}

// One that may change a number is not gathered in ever larger room, a little larger each
// time, all of which would stay behind until the next garbage collection.
func TestSummaryMemory(t *testing.T) { // not parallel: it counts what is allocated
	const size = 20 << 20
	s := replay.NewSummarizer()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	piece := bytes.Repeat([]byte("x"), 32<<10)
	for n := 0; n < size; n += len(piece) {
		if _, err := s.Write(piece); err != nil {
			t.Fatal(err)
		}
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 4*size {
		t.Errorf("%d MiB were allocated for a line of %d MiB", got>>20, size>>20)
	}
}

func TestSummaryIsBounded(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	b.WriteString(metaLine)
	for i := range 100 {
		fmt.Fprintf(&b, `{"timestamp":"t","type":"turn_context","payload":{"cwd":"/w/%d","model":"m%d"}}`+"\n", i, i%3)
	}
	long := strings.Repeat("x", 5000)
	fmt.Fprintf(&b, `{"timestamp":"t","type":"turn_context","payload":{"cwd":"/w/1","model":"%s"}}`+"\n", long)
	got := summed(b.String(), b.Len())
	if len(got.Cwds) != 64 || got.Cwds[63] != "/w/63" || !got.MoreCwds || !slices.Equal(got.Models, []string{"m0", "m1", "m2"}) || !got.MoreModels {
		t.Errorf("got %+v", got)
	}
}

// The event with the changes may come behind the output of its call, which Entries has
// yielded by then.
func TestSummaryHasLateChanges(t *testing.T) {
	t.Parallel()
	content := metaLine + functionCall(1, "a") + functionOutput(2, "a", "A") +
		event(3, `{"type":"patch_apply_end","call_id":"a","success":true,"changes":{"/a":{"type":"add","content":"x"}}}`)
	if got := summed(content, len(content)); got.Files != 1 || got.Calls != 1 {
		t.Errorf("got %+v", got)
	}
}

// FuzzSummarizer compares a Summarizer with Entries, where they promise the same.
func FuzzSummarizer(f *testing.F) {
	for _, s := range fuzzSeeds(f) {
		f.Add(s, 100)
	}
	for seed := range uint64(50) {
		m := &sessionMaker{rnd: rand.New(rand.NewPCG(seed, 14))}
		f.Add(m.session(10), 30)
	}
	f.Fuzz(func(t *testing.T, content string, n int) {
		got := summed(content, len(content)+1)
		if cut := summed(content, max(n, 1)); !reflect.DeepEqual(cut, got) {
			t.Errorf("in pieces of %d bytes\ngot  %+v\nwant %+v", n, cut, got)
		}
		if !promised(content) {
			return
		}
		want := fromEntries(t, content)
		if got.Files >= want.Files {
			want.Files = got.Files
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %+v\nwant %+v", got, want)
		}
	})
}

// promised tells whether a Summarizer promises the numbers of Entries.
func promised(content string) bool {
	for rec := range codec.Records(strings.NewReader(content), 0) {
		switch line := string(rec.Bytes); {
		case errors.Is(rec.Err, codec.ErrBlank) || errors.Is(rec.Err, codec.ErrNUL):
		case rec.Err != nil && (strings.Contains(line, "_call") || strings.Contains(line, "token_count")):
			return false
		case rec.Err == nil && (hasTwins(json.NewDecoder(strings.NewReader(line))) || !rec.Alone && !strings.Contains(line, `"payload"`)):
			return false
		}
	}
	return true
}

// hasTwins tells whether an object in the next value has a key twice.
func hasTwins(d *json.Decoder) bool {
	open, err := d.Token()
	if err != nil {
		return true
	}
	if open != json.Delim('{') && open != json.Delim('[') {
		return false
	}
	keys := make(map[json.Token]bool)
	for d.More() {
		if open == json.Delim('{') {
			key, err := d.Token()
			if err != nil || keys[key] {
				return true
			}
			keys[key] = true
		}
		if hasTwins(d) {
			return true
		}
	}
	_, err = d.Token()
	return err != nil
}

// BenchmarkSummary sums up turns as Codex 0.150 writes them, beside what is done with
// the same bytes anyway, and beside finding the ends of their lines.
func BenchmarkSummary(b *testing.B) {
	code := `\tfor rest := p; len(rest) > 0; {\n\t\ti := bytes.IndexByte(rest, '\\n')\n\t\tfmt.Println(\"%s\", map[string]int{\"a\": 1})\n\t}\n`
	var content bytes.Buffer
	content.WriteString(metaLine + g1Message("user", "a") + g1Message("assistant", "b"))
	for i := 0; content.Len() < 4<<20; i++ {
		content.WriteString(event(i, `{"type":"task_started","turn_id":"t"}`) + event(i, `{"type":"user_message","message":"go on","images":[]}`))
		content.WriteString(line(i, "turn_context", `{"turn_id":"t`+fmt.Sprint(i)+`","cwd":"/srv/repo","approval_policy":"never","sandbox_policy":{"type":"danger-full-access"},"model":"gpt-5","collaboration_mode":{"mode":"default"},"summary":"auto"}`))
		for j := range 40 {
			id := fmt.Sprintf("call_%024d", 40*i+j)
			usage := fmt.Sprintf(`{"input_tokens":%d,"cached_input_tokens":10,"cache_write_input_tokens":0,"output_tokens":20,"reasoning_output_tokens":5,"total_tokens":11357}`, 11337+40*i+j)
			content.WriteString(item(i, `{"type":"reasoning","id":"rs_01a1f81fe32e73d3","summary":[],"content":null,"encrypted_content":"`+strings.Repeat("gAAAAABo0x9Zk3TtQbq8r", 50)+`"}`))
			content.WriteString(item(i, `{"type":"function_call","id":"fc_7e536e7c0907462393d07ed65a484010","name":"exec_command","arguments":"{\"cmd\": \"sed -n 1,200p a.go\", \"yield_time_ms\": 20000}","call_id":"`+id+`","internal_chat_message_metadata_passthrough":{"turn_id":"t"}}`))
			content.WriteString(item(i, `{"type":"function_call_output","call_id":"`+id+`","output":"`+strings.Repeat(code, 16)+`"}`))
			content.WriteString(event(i, `{"type":"token_count","info":{"total_token_usage":`+usage+`,"last_token_usage":`+usage+`,"model_context_window":258400},"rate_limits":{"limit_id":"codex","primary":{"used_percent":12.0,"window_minutes":300,"resets_at":1795164225},"secondary":null}}`))
		}
		content.WriteString(event(i, `{"type":"task_complete","turn_id":"t"}`))
	}
	for _, what := range []struct {
		name string
		run  func([]byte)
	}{
		{"summary", func(p []byte) {
			s := replay.NewSummarizer()
			_, _ = s.Write(p)
			if s.Sum().Calls == 0 {
				b.Fatal("no calls")
			}
		}},
		{"sha256", func(p []byte) { sha256.Sum256(p) }},
		{"lines", func(p []byte) {
			for i := 0; i >= 0; p = p[i+1:] {
				i = bytes.IndexByte(p, '\n')
			}
		}},
	} {
		b.Run("work="+what.name, func(b *testing.B) {
			b.SetBytes(int64(content.Len()))
			for b.Loop() {
				what.run(content.Bytes())
			}
		})
	}
}
