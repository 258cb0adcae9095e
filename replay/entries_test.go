package replay_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rollout-sync/rollout/replay"
)

// line is a line with a time, so many milliseconds after the session began.
func line(ms int, kind, payload string) string {
	return fmt.Sprintf(`{"timestamp":"2026-11-20T08:00:%02d.%03dZ","type":%q,"payload":%s}`, ms/1000, ms%1000, kind, payload) + "\n"
}

func event(ms int, payload string) string { return line(ms, "event_msg", payload) }
func item(ms int, payload string) string  { return line(ms, "response_item", payload) }

func functionCall(ms int, id string) string {
	return item(ms, `{"type":"function_call","name":"exec_command","arguments":"{\"cmd\":\"run `+id+`\"}","call_id":"`+id+`"}`)
}

func functionOutput(ms int, id, output string) string {
	quoted, _ := json.Marshal(output) // a string always encodes
	return item(ms, `{"type":"function_call_output","call_id":"`+id+`","output":`+string(quoted)+`}`)
}

// summary says of each entry what a test looks at.
func summary(t testing.TB, content string) string {
	t.Helper()
	var got []string
	for e, err := range entriesOf(t, content) {
		must(t, err)
		s := string(e.Kind)
		switch e.Kind {
		case replay.KindSession, replay.KindEnd:
			continue
		case replay.KindTurn:
			s = fmt.Sprintf("turn %d", e.Turn)
		case replay.KindTurnEnd:
			s = fmt.Sprintf("end %d %s %d ms", e.Turn, e.TurnEnd.Status, e.TurnEnd.DurationMS)
			if e.TurnEnd.Tokens != nil {
				s += fmt.Sprintf(" %d+%d tokens", e.TurnEnd.Tokens.Input, e.TurnEnd.Tokens.Output)
			}
		case replay.KindCall, replay.KindOutput:
			s += fmt.Sprintf(" %d", e.Call.Number)
			for _, f := range e.Files {
				s += " " + f.Change + " " + f.Path
			}
			if r := e.Result; r != nil {
				s += fmt.Sprintf(" %q", r.Output)
				if r.ExitCode != nil {
					s += fmt.Sprintf(" exit %d", *r.ExitCode)
				}
				if r.Failed {
					s += " failed"
				}
				if r.DurationMS > 0 {
					s += fmt.Sprintf(" %d ms", r.DurationMS)
				}
			}
		default:
			s += " " + e.Title + e.Text
		}
		got = append(got, strings.TrimSpace(s))
	}
	return strings.Join(got, "\n")
}

func TestCallsFindTheirResults(t *testing.T) {
	t.Parallel()
	commandEnd := func(ms int, id string, code int) string {
		return event(ms, fmt.Sprintf(`{"type":"item_completed","item":{"type":"CommandExecution","id":%q,"command":["/bin/bash","-lc","run it"],"aggregated_output":"from the event","exit_code":%d,"duration":{"secs":1,"nanos":250000000}}}`, id, code))
	}
	started, complete := event(0, `{"type":"task_started"}`), event(9000, `{"type":"task_complete","duration_ms":7000}`)
	for title, c := range map[string]struct{ content, want string }{
		"one after the other": {
			functionCall(1, "a") + functionOutput(31, "a", "A") + functionCall(40, "b") + functionOutput(50, "b", "B"),
			"call 1 \"A\" 30 ms\ncall 2 \"B\" 10 ms",
		},
		"at once, in another order": {
			functionCall(1, "a") + functionCall(2, "b") + g1Message("assistant", "meanwhile") + functionOutput(12, "b", "B") + functionOutput(21, "a", "A"),
			"call 1 \"A\" 20 ms\ncall 2 \"B\" 10 ms\nassistant meanwhile",
		},
		"with what an event knows": {
			started + functionCall(1, "a") + commandEnd(5, "a", 3) + functionOutput(9, "a", "A") + complete,
			"turn 1\ncall 1 \"A\" exit 3 failed 1250 ms\nend 1 complete 7000 ms",
		},
		"an event alone": {
			started + functionCall(1, "a") + commandEnd(5, "a", 0) + complete,
			"turn 1\ncall 1 \"from the event\" exit 0 1250 ms\nend 1 complete 7000 ms",
		},
		"an event of no call": {
			commandEnd(5, "a", 0) + commandEnd(6, "a", 0), "call 1 \"from the event\" exit 0 1250 ms",
		},
		"an event behind the result": {
			functionCall(1, "a") + functionOutput(9, "a", "A") + commandEnd(10, "a", 1), "call 1 \"A\" 8 ms",
		},
		"of 2026, extended": {
			functionCall(1, "a") + event(2, `{"type":"exec_command_end","call_id":"a","command":["ls"],"aggregated_output":"x","exit_code":1,"duration":{"secs":2,"nanos":0}}`) + functionOutput(3, "a", "A"),
			"call 1 \"A\" exit 1 failed 2000 ms",
		},
		"without a result": {
			started + functionCall(1, "a") + event(5, `{"type":"turn_aborted","reason":"interrupted"}`), "turn 1\ncall 1\nend 1 aborted 5 ms",
		},
		"a result of no call":  {functionOutput(3, "a", "A"), "output 0 \"A\""},
		"a result that is two": {functionCall(1, "a") + functionOutput(1, "a", "A") + functionOutput(1, "a", "B"), "call 1 \"A\"\noutput 1 \"B\""},
		"a result behind the message that ends its turn": {
			response("user", "a") + functionCall(1, "a") + response("user", "b") + functionOutput(9, "a", "A") + functionOutput(9, "a", "B"),
			"turn 1\nuser a\ncall 1\nend 1  0 ms\nturn 2\nuser b\noutput 1 \"A\" 8 ms\noutput 0 \"B\"\nend 2  0 ms",
		},
		"a result in the next turn": {
			started + functionCall(1, "a") + started + functionOutput(9, "a", "A") + complete,
			"turn 1\ncall 1\nend 1 incomplete 1 ms\nturn 2\noutput 0 \"A\"\nend 2 complete 7000 ms",
		},
		"a patch": {
			functionCall(1, "a") +
				event(2, `{"type":"patch_apply_end","call_id":"a","success":true,"changes":{"/b":{"update":{"unified_diff":"+x","move_path":null}},"/a":{"type":"add","content":"x"}}}`) +
				functionOutput(2, "a", "A"),
			"call 1 add /a update /b \"A\" 1 ms",
		},
		"a patch that failed": {
			event(2, `{"type":"patch_apply_end","call_id":"a","success":false,"stderr":"no","changes":{"/a":{"delete":{"content":"x"}}}}`),
			"call 1 delete /a \"no\" failed",
		},
		"an MCP server's": {
			functionCall(1, "a") + event(2, `{"type":"mcp_tool_call_end","call_id":"a","invocation":{"server":"s","tool":"t"},"duration":{"secs":0,"nanos":70000000},"result":{"Ok":{"content":[{"type":"text","text":"from the event"}]}}}`) + functionOutput(2, "a", "A"),
			"call 1 \"A\" 70 ms",
		},
		"a patch of no call": {
			g1Message("user", "a") + g1Message("assistant", "b") + event(2, `{"type":"patch_apply_end","call_id":"a","success":true,"stdout":"yes","changes":{"/a":{"add":{"content":"x"}}}}`),
			"turn 1\nuser a\nassistant b\ncall 1 add /a \"yes\"\nend 1  0 ms",
		},
		"of MCP alone": {
			event(2, `{"type":"mcp_tool_call_end","call_id":"a","invocation":{"server":"s","tool":"t"},"result":{"Ok":{"content":[{"type":"text","text":"from the event"}]}}}`),
			"call 1 \"from the event\"",
		},
		"calls that wait for nothing": {
			item(1, `{"type":"web_search_call","action":{"type":"open_page","url":"http://x"}}`) + event(1, `{"type":"web_search_end","call_id":"ws","query":"q"}`) +
				item(1, `{"type":"image_generation_call","result":"AAAA"}`) + functionCall(1, ""),
			"call 1\ncall 2 \"\"\ncall 3",
		},
		"a measure that is none": {
			functionCall(1, "a") + event(5, `{"type":"item_completed","item":{"type":"CommandExecution","id":"a","exit_code":0,"duration":{"secs":0,"nanos":1623}}}`) + functionOutput(61, "a", "A"),
			"call 1 \"A\" exit 0 60 ms",
		},
		// What Codex puts around the output.
		"0.20":             {functionOutput(1, "", `{"output":"A\n","metadata":{"exit_code":3,"duration_seconds":1.5}}`), `output 0 "A\n" exit 3 failed 1500 ms`},
		"0.98":             {functionOutput(1, "", "Chunk ID: 1\nWall time: 0.25 seconds\nProcess exited with code 3\nOriginal token count: 4\nOutput:\nA\nOutput:\n"), `output 0 "A\nOutput:\n" exit 3 failed 250 ms`},
		"0.118":            {functionOutput(1, "", "Command: /bin/bash -lc 'a\nOutput:\nb'\nChunk ID: 1\nWall time: 0.25 seconds\nProcess exited with code 0\nOutput:\n"), `output 0 "" exit 0 250 ms`},
		"still running":    {functionOutput(1, "", "Chunk ID: 1\nWall time: 2 seconds\nProcess running with session ID 7\nOutput:\nA"), `output 0 "Process running with session ID 7\nA" 2000 ms`},
		"a patch, 0.118":   {functionOutput(1, "", "Wall time: 0.0 seconds\nOutput:\n{\"output\":\"A\",\"metadata\":{\"exit_code\":0,\"duration_seconds\":0.0}}"), `output 0 "A" exit 0`},
		"a patch, 0.150":   {functionOutput(1, "", "Wall time: 0.0 seconds\nOutput:\nExit code: 0\nWall time: 0 seconds\nOutput:\nA"), `output 0 "A" exit 0`},
		"not Codex's":      {functionOutput(1, "", "Wall time: long\nA"), `output 0 "Wall time: long\nA"`},
		"not Codex's too":  {functionOutput(1, "", "Output:\nA"), `output 0 "Output:\nA"`},
		"JSON of the tool": {functionOutput(1, "", `{"output":1}`), `output 0 "{\"output\":1}"`},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			if got := summary(t, metaLine+c.content); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

func TestTurns(t *testing.T) {
	t.Parallel()
	tokens := func(ms, total, last int) string {
		return event(ms, fmt.Sprintf(`{"type":"token_count","info":{"total_token_usage":{"input_tokens":%d,"output_tokens":7},"last_token_usage":{"input_tokens":%d,"output_tokens":1,"total_tokens":9}}}`, total, last))
	}
	say := func(ms int, role, text string) string {
		return event(ms, fmt.Sprintf(`{"type":"%s_message","message":%q}`, role, text))
	}
	for title, c := range map[string]struct{ content, want string }{
		"begun and ended by events": {
			event(0, `{"type":"task_started"}`) + say(1, "user", "a") + say(2, "agent", "b") + say(3, "user", "steer") + say(4, "agent", "c") +
				event(5, `{"type":"task_complete"}`) + event(9, `{"type":"turn_started"}`) + say(10, "user", "d") + event(29, `{"type":"turn_complete","duration_ms":15}`),
			"turn 1\nuser a\nassistant b\nuser steer\nassistant c\nend 1 complete 5 ms\nturn 2\nuser d\nend 2 complete 15 ms",
		},
		"not ended": {
			event(0, `{"type":"task_started"}`) + say(1, "user", "a") + event(5000, `{"type":"task_started"}`) + say(5001, "agent", "b"),
			"turn 1\nuser a\nend 1 incomplete 1 ms\nturn 2\nassistant b\nend 2 incomplete 1 ms",
		},
		"from the user's messages": {
			say(0, "user", "a") + say(1, "user", "and") + say(20, "agent", "b") + say(9000, "user", "c") + say(9010, "agent", "d"),
			"turn 1\nuser a\nuser and\nassistant b\nend 1  20 ms\nturn 2\nuser c\nassistant d\nend 2  10 ms",
		},
		"aborted": {
			say(0, "user", "a") + event(7, `{"type":"turn_aborted","reason":"interrupted"}`) + event(8, `{"type":"thread_rolled_back","num_turns":1}`) + event(9, `{"type":"turn_aborted"}`),
			"turn 1\nuser a\nend 1 aborted 7 ms\nrollback\nend 0 aborted 0 ms",
		},
		"with an error": {
			event(0, `{"type":"task_started"}`) + event(2, `{"type":"stream_error","message":"x"}`) + event(3, `{"type":"warning","message":"y"}`) +
				event(5, `{"type":"task_complete","error":{"message":"z"}}`),
			"turn 1\nerror x\nnote warningy\nerror z\nend 1 complete 5 ms",
		},
		"with tokens": {
			say(0, "user", "a") + tokens(1, 10, 10) + tokens(2, 10, 10) + tokens(3, 30, 20) + say(4, "user", "b") + tokens(5, 35, 5) +
				// A resume by Codex 0.50 counts anew; behind a compaction there is only a total.
				say(6, "user", "c") + tokens(7, 4, 4) + event(8, `{"type":"token_count","info":{"total_token_usage":{"input_tokens":4,"total_tokens":1},"last_token_usage":{"total_tokens":500}}}`),
			"turn 1\nuser a\nusage\nusage\nuser b\nusage\nuser c\nusage\nusage\nend 1  8 ms 39+4 tokens",
		},
		"with token records": {
			event(0, `{"type":"task_started"}`) + line(1, "token_usage_record", `{"usage":{"input_tokens":5,"output_tokens":2},"thread_token_usage":{"input_tokens":5}}`) +
				tokens(2, 7, 7) + event(3, `{"type":"task_complete"}`),
			"turn 1\nusage\nend 1 complete 3 ms 5+2 tokens",
		},
		"what else happens": {
			line(0, "inter_agent_communication", `{"author":"/root","recipient":"/root/a","content":"go"}`) +
				line(0, "realtime_item", `{"type":"transcript_segment","role":"user","text":"hi"}`) +
				event(0, `{"type":"thread_goal_updated","goal":{"objective":"o"}}`) + event(0, `{"type":"entered_review_mode","user_facing_hint":"h"}`) +
				event(0, `{"type":"exited_review_mode","review_output":{"overall_explanation":"e"}}`) + event(0, `{"type":"sub_agent_activity","agent_path":"/root/a","kind":"started"}`) +
				event(0, `{"type":"item_completed","item":{"type":"Plan","text":"p"}}`) + line(0, "from_the_future", `{}`),
			"note message from /root to /root/ago\nnote realtime userhi\nnote goalo\nnote review beginsh\nnote review endse\nnote subagent /root/astarted\nnote planp",
		},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			if got := summary(t, metaLine+c.content); got != c.want {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// Images of the user come with their data, from whichever form has it.
func TestUserImages(t *testing.T) {
	t.Parallel()
	const url = "data:image/png;base64,AAAA"
	response := item(1, `{"type":"message","role":"user","content":[{"type":"input_text","text":"<image name=[Image #1]>"},{"type":"input_image","image_url":"`+url+`"},{"type":"input_text","text":"look"}]}`)
	for title, content := range map[string]string{
		"response item alone": response,
		"event with data":     response + event(1, `{"type":"user_message","message":"look","images":["`+url+`"]}`),
		"event with a path":   response + event(1, `{"type":"user_message","message":"look","images":[],"local_images":["/w/x.png"]}`),
		"paginated":           response + event(1, `{"type":"item_completed","item":{"type":"UserMessage","content":[{"type":"local_image","path":"/w/x.png"},{"type":"text","text":"look"}]}}`),
		"plain":               `{"type":"user_message","item":{"content":[{"type":"image","image_url":"` + url + `"},{"type":"text","text":"look"}]},"seq":1}` + "\n",
	} {
		found := 0
		for e, err := range entriesOf(t, metaLine+content) {
			must(t, err)
			if e.Kind == replay.KindUser {
				found++
				if e.Text != "look" || len(e.Images) != 1 || e.Images[0].URL != url {
					t.Errorf("%s: got %+v", title, e)
				}
			}
		}
		if found != 1 {
			t.Errorf("%s: %d messages", title, found)
		}
	}
}

// A call that never gets its result does not hold the session back for ever.
func TestEntriesWaitingIsBounded(t *testing.T) {
	t.Parallel()
	big := strings.Repeat("x", 100_000)
	for title, c := range map[string]struct {
		filler string
		most   int // of items that are read before the call is yielded
	}{
		"many":  {g1Message("assistant", "a"), 1010},
		"large": {g1Message("assistant", big), 20},
	} {
		content := metaLine + functionCall(1, "a") + strings.Repeat(c.filler, 2000) + functionOutput(9, "a", "A")
		read := 0
		items := func(yield func(replay.Item, error) bool) {
			for it, err := range replay.Load(t.Context(), session(t, content), name) {
				if read++; !yield(it, err) {
					return
				}
			}
		}
		var calls []string
		for e, err := range replay.Entries(items) {
			must(t, err)
			switch e.Kind {
			case replay.KindCall:
				calls = append(calls, fmt.Sprintf("call %v", e.Result != nil))
				if read > c.most {
					t.Errorf("%s: the call comes after %d items", title, read)
				}
			case replay.KindOutput:
				calls = append(calls, fmt.Sprintf("output %d", e.Call.Number))
			}
		}
		if got := strings.Join(calls, ", "); got != "call false, output 1" {
			t.Errorf("%s: got %s", title, got)
		}
	}
	// Nor do as many as there may be take memory for ever.
	var b strings.Builder
	for i := range 20_000 {
		b.WriteString(functionCall(1, fmt.Sprint(i)))
	}
	b.WriteString(functionOutput(2, "19999", "A"))
	got := summary(t, metaLine+b.String())
	if n := strings.Count(got, "call "); n != 20_000 || !strings.HasSuffix(got, `call 20000 "A" 1 ms`) {
		t.Errorf("got %d calls, the last %q", n, got[strings.LastIndex(got, "\n"):])
	}
}

// Entries can be left anywhere, and ranged over again.
func TestEntriesBreak(t *testing.T) {
	t.Parallel()
	content, err := os.ReadFile(filepath.Join("testdata", "golden", "rich.jsonl"))
	must(t, err)
	entries := entriesOf(t, string(content))
	for n := 1; ; n++ {
		got := 0
		for range entries {
			if got++; got == n {
				break
			}
		}
		if got < n {
			if n < 30 {
				t.Errorf("only %d entries", n)
			}
			break
		}
	}
}

// Each line of WriteJSON is JSON that says what the entry does, and harmless to a
// terminal.
func FuzzJSON(f *testing.F) {
	for _, s := range fuzzSeeds(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, content string) {
		lines := strings.SplitAfter(transcribedLoosely(t, ".json", content), "\n")
		n := 0
		for e, err := range entriesOf(t, content) {
			if err != nil {
				break
			}
			var got replay.Entry
			if err := json.Unmarshal([]byte(lines[n]), &got); err != nil {
				t.Fatalf("%q: %v", lines[n], err)
			}
			if got.Kind != e.Kind || got.Text != strings.ToValidUTF8(e.Text, "\ufffd") {
				t.Errorf("got %+v, want %+v", got, e)
			}
			if s := strings.TrimSuffix(lines[n], "\n"); replay.Clean(s) != s {
				t.Errorf("%q is harmful", s)
			}
			n++
		}
		if n != len(lines)-1 {
			t.Errorf("%d entries, %d lines", n, len(lines)-1)
		}
	})
}

// BenchmarkTranscript writes a session of many turns in each format; none only loads
// it.
func BenchmarkTranscript(b *testing.B) {
	content, err := os.ReadFile(filepath.Join("testdata", "golden", "rich.jsonl"))
	must(b, err)
	head, body, _ := strings.Cut(string(content), "\n")
	long := head + "\n" + strings.Repeat(body[:strings.LastIndex(body, "\n{this")+1], 500)
	src := session(b, long)
	run := func(format string, transcribe func(*testing.B)) {
		b.Run("format="+format, func(b *testing.B) {
			b.SetBytes(int64(len(long)))
			b.ReportAllocs()
			for b.Loop() {
				transcribe(b)
			}
		})
	}
	run("none", func(b *testing.B) {
		for _, err := range replay.Load(b.Context(), src, name) {
			must(b, err)
		}
	})
	for _, format := range slices.Sorted(maps.Keys(formats)) {
		run(format[1:], func(b *testing.B) {
			must(b, formats[format](nowhere{}, replay.Entries(replay.Load(b.Context(), src, name))))
		})
	}
}

type nowhere struct{}

func (nowhere) Write(p []byte) (int, error) { return len(p), nil }
