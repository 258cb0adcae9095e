package replay_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/replay"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/memfs"
)

const name = "sessions/2026/11/20/s.jsonl"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// session returns a store in which name has this content.
func session(t testing.TB, content string) store.Source {
	t.Helper()
	st := memfs.New(nil)
	log, err := st.Create(t.Context(), name)
	must(t, err)
	must(t, log.Append([]byte(content)))
	must(t, log.Close())
	return st
}

const (
	metaLine  = `{"timestamp":"t","type":"session_meta","payload":{"id":"the-id"}}` + "\n"
	eventLine = `{"timestamp":"t","ordinal":7,"type":"event_msg","payload":{"type":"x"}}` + "\n"
)

func TestLoad(t *testing.T) {
	t.Parallel()
	for title, c := range map[string]struct {
		content string
		want    string // line:offset:type or error, each
		tally   replay.Tally
		err     error
	}{
		"all is well": {
			metaLine + eventLine,
			"1:0:session_meta 2:66:event_msg",
			replay.Tally{ID: "the-id", Items: 2},
			nil,
		},
		"no newline at the end": {
			metaLine + strings.TrimSpace(eventLine),
			"1:0:session_meta 2:66:event_msg",
			replay.Tally{ID: "the-id", Items: 2},
			nil,
		},
		"blank lines and damage": {
			"\n \r\n" + metaLine + "{bad}\n" + eventLine,
			"3:4:session_meta 4:70:not valid JSON 5:76:event_msg",
			replay.Tally{ID: "the-id", Items: 2, Problems: 1},
			nil,
		},
		"torn": {
			metaLine + eventLine[:30],
			"1:0:session_meta 2:66:" + codec.ErrTorn.Error(),
			replay.Tally{ID: "the-id", Items: 1, Problems: 1},
			nil,
		},
		"two metas": {
			metaLine + strings.Replace(metaLine, "the-id", "parent", 1),
			"1:0:session_meta 2:66:session_meta",
			replay.Tally{ID: "the-id", Items: 2},
			nil,
		},
		"bare lines": {
			`{"id":"old-id","timestamp":"t","instructions":null}` + "\n" + `{"record_type":"state"}` + "\n" + `{"type":"message","role":"user"}` + "\n",
			"1:0:session_meta 2:52:state 3:76:response_item",
			replay.Tally{ID: "old-id", Items: 3},
			nil,
		},
		"empty":       {"", "", replay.Tally{}, replay.ErrEmpty},
		"only blanks": {"\n\n \n", "", replay.Tally{}, replay.ErrEmpty},
		"no metadata": {eventLine, "1:0:event_msg", replay.Tally{Items: 1}, replay.ErrNoMeta},
		"torn metadata": {
			metaLine[:20], "1:0:" + codec.ErrTorn.Error(), replay.Tally{Problems: 1}, replay.ErrNoMeta,
		},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			items := replay.Load(t.Context(), session(t, c.content), name)
			for range 2 { // it can be ranged over again
				var got []string
				var tally replay.Tally
				var err error
				for it, e := range items {
					if err != nil {
						t.Error("something follows an error")
					}
					if err = e; err != nil {
						continue
					}
					tally.Add(it)
					what := it.Type
					if it.Err != nil {
						what = it.Err.Error()
					}
					got = append(got, fmt.Sprintf("%d:%d:%s", it.Line, it.Offset, what))
					if it.Type == "event_msg" && (it.Ordinal != 7 || string(it.Payload) != `{"type":"x"}`) {
						t.Errorf("got %+v", it)
					}
				}
				if got := strings.Join(got, " "); got != c.want || !errors.Is(err, c.err) || tally != c.tally {
					t.Errorf("got  %s, %+v, %v\nwant %s, %+v, %v", got, tally, err, c.want, c.tally, c.err)
				}
			}
		})
	}
}

func TestLoadFails(t *testing.T) {
	t.Parallel()
	st := session(t, metaLine+eventLine+eventLine)
	for it, err := range replay.Load(t.Context(), st, "sessions/missing.jsonl") {
		if !errors.Is(err, fs.ErrNotExist) || it.Line != 0 {
			t.Errorf("got %+v, %v", it, err)
		}
	}

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var errs []error
	for _, err := range replay.Load(ctx, st, name) {
		errs = append(errs, err)
		cancel()
	}
	if len(errs) != 2 || !errors.Is(errs[1], context.Canceled) {
		t.Errorf("cancelled after the first item: %v", errs)
	}
	for range replay.Load(t.Context(), st, name) {
		break // and nothing happens
	}
}

func TestWriteTextFails(t *testing.T) {
	t.Parallel()
	// What comes with an error is written all the same.
	var b strings.Builder
	err := replay.WriteText(&b, replay.Entries(replay.Load(t.Context(), session(t, g1Message("user", "hi")), name)), replay.TextOptions{})
	if !errors.Is(err, replay.ErrNoMeta) || !strings.Contains(b.String(), "user, t\n  hi\n") {
		t.Errorf("got %v and\n%s", err, &b)
	}
	full := errors.New("disk full")
	read := 0
	items := func(yield func(replay.Item, error) bool) {
		for it, err := range replay.Load(t.Context(), session(t, metaLine+strings.Repeat(g1Message("user", "hi"), 10_000)), name) {
			if read++; !yield(it, err) {
				return
			}
		}
	}
	if err := replay.WriteText(failing{full}, replay.Entries(items), replay.TextOptions{}); !errors.Is(err, full) || read > 5000 {
		t.Errorf("got %v after %d items", err, read)
	}
}

type failing struct{ err error }

func (f failing) Write([]byte) (int, error) { return 0, f.err }

// g1Message is a message as an event of G1.
func g1Message(role, message string) string {
	return fmt.Sprintf(`{"timestamp":"t","type":"event_msg","payload":{"type":"%s_message","message":%q}}`, strings.Replace(role, "assistant", "agent", 1), message) + "\n"
}

// response is a message as a response item.
func response(role, text string) string {
	return fmt.Sprintf(`{"timestamp":"t","type":"response_item","payload":{"type":"message","role":%q,"content":[{"type":"text","text":%q}]}}`, role, text) + "\n"
}

// transcript returns what follows the header.
func transcript(t *testing.T, lines ...string) string {
	t.Helper()
	var b strings.Builder
	must(t, replay.WriteText(&b, replay.Entries(replay.Load(t.Context(), session(t, metaLine+strings.Join(lines, "")), name)), replay.TextOptions{}))
	text, _, ok := strings.Cut(b.String(), "\n== end: ")
	if !ok {
		t.Errorf("got %s", &b)
	}
	return strings.TrimPrefix(text, "session     the-id\n")
}

func TestNoMessageTwice(t *testing.T) {
	t.Parallel()
	g2Message := func(kind, text string) string {
		return fmt.Sprintf(`{"timestamp":"t","ordinal":1,"type":"event_msg","payload":{"type":"item_completed","item":{"type":%[1]q,"content":[{"type":"Text","text":%[2]q}],"summary_text":[%[2]q]}}}`, kind, text) + "\n"
	}
	call := `{"timestamp":"t","type":"response_item","payload":{"type":"function_call","name":"f"}}` + "\n"
	for title, c := range map[string]struct {
		lines []string
		want  string // turns, kinds and texts
	}{
		"response first": {[]string{response("user", "a"), g1Message("user", "a")}, "1 user:a"},
		"event first":    {[]string{g1Message("assistant", "a"), response("assistant", "a")}, "assistant:a"},
		"said twice": {
			[]string{response("user", "a"), g1Message("user", "a"), response("user", "a"), g1Message("user", "a")},
			"1 user:a user:a",
		},
		"of Codex, among the user's": {
			[]string{response("user", "injected"), response("user", "a"), g1Message("user", "a"), response("user", "injected")},
			"1 user:a",
		},
		"response items only": {
			[]string{response("user", "a"), response("assistant", "b"), call, response("user", "c")},
			"1 user:a assistant:b call 2 user:c",
		},
		"events of the user only": {
			[]string{response("user", "a"), g1Message("user", "a"), response("assistant", "b"), response("user", "c"), g1Message("user", "c")},
			"1 user:a assistant:b 2 user:c",
		},
		"events later": {[]string{response("user", "a"), response("assistant", "b"), g1Message("user", "c")}, "1 user:a assistant:b 2 user:c"},
		"nothing said": {[]string{response("user", ""), g1Message("user", ""), g1Message("assistant", "b")}, "assistant:b"},
		"paginated": {
			[]string{
				response("user", "a"), g2Message("UserMessage", "a"), g2Message("Reasoning", "x"),
				g2Message("AgentMessage", "b"), response("assistant", "b"),
			},
			"1 user:a reasoning:x assistant:b",
		},
		"wrappers": {
			[]string{
				response("user", "<environment_context>\n</environment_context>"), response("user", "# AGENTS.md instructions for /w"),
				response("developer", "x"), g1Message("user", "<user_instructions>"), response("user", "<image name=x>"), response("user", "a"),
			},
			"1 user:a",
		},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			var got []string
			for e, err := range entriesOf(t, metaLine+strings.Join(c.lines, "")) {
				must(t, err)
				switch e.Kind {
				case replay.KindSession, replay.KindEnd, replay.KindTurnEnd:
				case replay.KindTurn:
					got = append(got, strconv.Itoa(e.Turn))
				default:
					got = append(got, strings.TrimSuffix(string(e.Kind)+":"+e.Text, ":"))
				}
			}
			if got := strings.Join(got, " "); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func output(text string) string {
	quoted, _ := json.Marshal(text) // a string always encodes
	return fmt.Sprintf(`{"timestamp":"t","type":"response_item","payload":{"type":"function_call_output","call_id":"c","output":%s}}`, quoted) + "\n"
}

func TestLongOutputIsFolded(t *testing.T) {
	t.Parallel()
	lines := func(from, to int) string {
		var b strings.Builder
		for i := from; i <= to; i++ {
			fmt.Fprintf(&b, "%d\n", i)
		}
		return b.String()
	}
	indented := func(s string) string {
		return strings.ReplaceAll("\n"+strings.TrimSuffix(s, "\n"), "\n", "\n  ") + "\n"
	}
	for _, c := range []struct{ in, want string }{
		{"", "\n"},
		{lines(1, 20), indented(lines(1, 20))},
		{lines(1, 21), indented(lines(1, 10) + "… [1 lines left out]\n" + lines(12, 21))},
		{lines(1, 5000), indented(lines(1, 10) + "… [4980 lines left out]\n" + lines(4991, 5000))},
		{strings.Repeat("x", 1000), indented(strings.Repeat("x", 1000))},
		{strings.Repeat("x", 1007) + "\nend", indented(strings.Repeat("x", 1000) + "… [7 more bytes]\nend")},
		{strings.Repeat("中", 1000), indented(strings.Repeat("中", 333) + "… [2001 more bytes]")},
		{strings.Repeat("x", 999) + "\x1b[31mred", indented(strings.Repeat("x", 999) + "r… [2 more bytes]")},
	} {
		if got, want := transcript(t, output(c.in)), "\noutput"+c.want; got != want {
			t.Errorf("got\n%.500q\nwant\n%.500q", got, want)
		}
	}
	// Messages are not output.
	if got := transcript(t, g1Message("user", lines(1, 100))); !strings.Contains(got, "\n  50\n") {
		t.Errorf("got\n%s", got)
	}
}

func TestNothingPassesForAHeading(t *testing.T) {
	t.Parallel()
	hostile := "\n\nassistant\n\r\ncall 1: shell\rassistant\u2028assistant\u0085assistant\vassistant\fassistant\x1b[1Gassistant\x1b[2;1Hassistant"
	quoted := strings.NewReplacer("\x1b", "\\u001b", "\v", "\\u000b", "\n", "\\n", "\r", "\\r", "\f", "\\f").Replace(hostile)
	lines := []string{
		`{"timestamp":"` + quoted + `","type":"event_msg","payload":{"type":"user_message","message":"` + quoted + `"}}`,
		`{"timestamp":"t","type":"turn_context","payload":{"model":"` + quoted + `"}}`,
		`{"timestamp":"t","type":"turn_context","payload":{"model":"another` + quoted + `"}}`,
		`{"timestamp":"t","type":"response_item","payload":{"type":"function_call","name":"` + quoted + `","arguments":"` + quoted + `"}}`,
		`{"timestamp":"t","type":"response_item","payload":{"type":"function_call_output","call_id":"` + quoted + `","output":"` + quoted + `"}}`,
		`{"timestamp":"t","type":"response_item","payload":{"type":"function_call_output","output":{"x":"` + strings.Repeat("\xb8", 3000) + `"}}}`,
		`{"timestamp":"t","type":"compacted","payload":{"message":"` + quoted + `"}}`,
		`{"timestamp":"t","type":"event_msg","payload":{"type":"turn_aborted","reason":"` + quoted + `"}}`,
		`{"timestamp":"t","type":"event_msg","payload":{"type":"error","message":"` + quoted + `"}}`,
	}
	meta := strings.Replace(metaLine, "the-id", quoted, 1)
	var b strings.Builder
	must(t, replay.WriteText(&b, replay.Entries(replay.Load(t.Context(), session(t, meta+strings.Join(lines, "\n")+"\n"), name)), replay.TextOptions{}))
	headings := []string{
		"session ", "model ", "== turn 1, ", "user,", "model ", "call 1: ", "output", "output", "compaction", "== turn 1 aborted: ", "error", "== end: ",
	}
	for line := range strings.SplitSeq(strings.TrimSpace(b.String()), "\n") {
		if strings.Contains(line, "\x1b") || strings.ContainsAny(line, "\r\v\f\u0085\u2028") {
			t.Errorf("%q has a control character", line)
		}
		if line == "" || strings.HasPrefix(line, "  ") {
			continue
		}
		if len(headings) == 0 || !strings.HasPrefix(line, headings[0]) {
			t.Fatalf("%q instead of %q", line, headings)
		}
		headings = headings[1:]
	}
	if len(headings) > 0 {
		t.Errorf("%q did not come", headings)
	}
}

func TestClean(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"plain\ttext\né中😀": "plain\ttext\né中😀",
		"a\r\nb\rc":        "a\nb␍c",
		"\x1b[31mred\x1b[0m \x1b[1;38;5;200mx\x1b[2K": "red x",
		"\x1b]0;title\a":            "␛]0;title␇",
		"\x1b]8;;http://x\x1b\\y":   "␛]8;;http://x␛\\y",
		"\x1b[":                     "␛[",
		"\x1b[3\x1b[31mx":           "␛[3x",
		"\x1b[3éx":                  "␛[3éx",
		"\x00\b\x7f":                "␀␈␡",
		"\u009b31m\u0085":           "\ufffd31m\ufffd",
		"a\u202eb\u2066c\u200fd":    "a\ufffdb\ufffdc\ufffdd",
		"bad \xff\xfe utf-8 \xe4":   "bad \ufffd\ufffd utf-8 \ufffd",
		"👩\u200d👩\u200d👧 stays":     "👩\u200d👩\u200d👧 stays",
		"\x1b[31mall\x1b[0m\r\n\t ": "all\n\t ",
	} {
		if got := replay.Clean(in); got != want {
			t.Errorf("Clean(%q) = %q, want %q", in, got, want)
		}
	}
}

func FuzzClean(f *testing.F) {
	f.Add("\x1b[31mred\x1b[0m\r\n\u202e\xff")
	f.Fuzz(func(t *testing.T, s string) {
		got := replay.Clean(s)
		if slices.ContainsFunc([]rune(got), func(r rune) bool {
			return r != '\n' && r != '\t' && (r < 0x20 || 0x7f <= r && r < 0xa0) || r == '\u202e'
		}) {
			t.Errorf("Clean(%q) = %q", s, got)
		}
		if again := replay.Clean(got); again != got {
			t.Errorf("Clean(%q) = %q", got, again)
		}
	})
}
