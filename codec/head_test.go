package codec

import (
	"errors"
	"fmt"
	"io"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf8"
)

// Lines of each generation, as the Codex version named in front wrote them,
// shortened.
const (
	// 0.20
	g0Meta    = `{"id":"` + idV4 + `","timestamp":"2025-07-20T08:57:53.993Z","instructions":null,"git":{"commit_hash":"5e36f25","branch":"main"}}` + "\n"
	g0State   = `{"record_type":"state"}` + "\n"
	g0Context = `{"type":"message","id":null,"role":"user","content":[{"type":"input_text","text":"<environment_context>\n  <cwd>/w</cwd>\n</environment_context>"}]}` + "\n"
	g0User    = `{"type":"message","id":null,"role":"user","content":[{"type":"input_text","text":"hello é \"there\""}]}` + "\n"
	g0Image   = `{"type":"message","id":null,"role":"user","content":[{"type":"input_image","image_url":"data:image/png;base64,iVBO"}]}` + "\n"
	g0Answer  = `{"type":"message","id":"msg_1","role":"assistant","content":[{"type":"output_text","text":"hi"}]}` + "\n"

	// 0.50
	g1Meta     = `{"timestamp":"2026-01-20T08:56:49.545Z","type":"session_meta","payload":{"id":"` + idV7 + `","timestamp":"2026-01-20T08:56:49.535Z","cwd":"/w/repo","originator":"codex_exec","cli_version":"0.50.0","instructions":null,"source":"exec","git":{"commit_hash":"5e36f25","branch":"main","repository_url":"git@host:a/b.git"}}}` + "\n"
	g1Agents   = `{"timestamp":"2026-01-20T08:56:49.583Z","type":"response_item","payload":{"type":"message","role":"user","content":[{"type":"input_text","text":"# AGENTS.md instructions for /w\n\n<INSTRUCTIONS>x</INSTRUCTIONS>"}]}}` + "\n"
	g1Response = `{"timestamp":"2026-01-20T08:56:49.667Z","type":"response_item","payload":{"type":"message","role":"user","content":[{"type":"input_text","text":"fix the test"}]}}` + "\n"
	g1User     = `{"timestamp":"2026-01-20T08:56:49.667Z","type":"event_msg","payload":{"type":"user_message","message":"fix the test","images":[]}}` + "\n"
	g1Answer   = `{"timestamp":"2026-01-20T08:56:49.667Z","type":"response_item","payload":{"type":"message","role":"assistant","content":[{"type":"output_text","text":"an answer"}]}}` + "\n"
	g1Another  = `{"timestamp":"2026-01-20T08:56:49.667Z","type":"response_item","payload":{"type":"message","role":"user","content":[{"type":"input_text","text":"another"}]}}` + "\n"
	g1Context  = `{"timestamp":"2026-01-20T08:56:49.681Z","type":"turn_context","payload":{"cwd":"/w/repo","approval_policy":"never","model":"gpt-5","summary":"auto"}}` + "\n"
	g1Tokens   = `{"timestamp":"2026-01-20T08:56:49.684Z","type":"event_msg","payload":{"type":"token_count","info":null}}` + "\n"

	// 0.98: an image by name
	g1ImageItem = `{"timestamp":"2026-02-20T08:50:07.895Z","type":"response_item","payload":{"type":"message","role":"user","content":[{"type":"input_text","text":"<image name=[Image #1]>"},{"type":"input_image","image_url":"data:"},{"type":"input_text","text":"</image>"},{"type":"input_text","text":"look at this"}]}}` + "\n"

	// 0.150
	g2Meta    = `{"timestamp":"2026-11-20T08:42:05.701Z","ordinal":0,"type":"session_meta","payload":{"session_id":"` + idV7 + `","id":"` + idV7 + `","timestamp":"2026-11-20T08:42:05.672Z","cwd":"/w/repo","originator":"codex_cli_rs","cli_version":"0.150.0","source":"cli","model_provider":"openai","base_instructions":{"text":"You are"},"history_mode":"paginated"}}` + "\n"
	g2Fork    = `{"timestamp":"2026-11-20T08:43:12.701Z","ordinal":100,"type":"session_meta","payload":{"id":"` + idV7 + `","forked_from_id":"` + idV4 + `","timestamp":"2026-11-20T08:43:12.672Z","cwd":"/w/repo","originator":"codex_exec","cli_version":"0.150.0","source":"exec","model_provider":"openai","history_mode":"paginated","history_base":{"thread_id":"` + idV4 + `","end_ordinal_exclusive":100,"end_byte_offset":76205}}}` + "\n"
	g2Context = `{"timestamp":"2026-11-20T08:42:05.924Z","ordinal":1,"type":"turn_context","payload":{"turn_id":"t","cwd":"/w/repo","model":"gpt-6"}}` + "\n"
	g2User    = `{"timestamp":"2026-11-20T08:42:05.956Z","ordinal":2,"type":"event_msg","payload":{"type":"item_completed","thread_id":"x","turn_id":"t","item":{"type":"UserMessage","id":"y","content":[{"type":"local_image","path":"/w/img.png"},{"type":"text","text":"fix ","text_elements":[]},{"type":"text","text":"it"}]},"completed_at_ms":1}}` + "\n"
	g2Answer  = `{"timestamp":"2026-11-20T08:42:06.956Z","ordinal":3,"type":"event_msg","payload":{"type":"item_completed","thread_id":"x","turn_id":"t","item":{"type":"AgentMessage","id":"z","content":[{"type":"Text","text":"done"}]}}}` + "\n"
)

func userEvent(message, rest string) string {
	return `{"timestamp":"t","type":"event_msg","payload":{"type":"user_message","message":"` + message + `"` + rest + "}}\n"
}

func at(s string) time.Time {
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		panic(err)
	}
	return t
}

func TestReadHead(t *testing.T) {
	t.Parallel()
	g1 := Head{
		HasMeta: true, ID: idV7, StartTime: at("2026-01-20T08:56:49.535Z"), Cwd: "/w/repo",
		Originator: "codex_exec", CLIVersion: "0.50.0", Source: "exec",
		Git: Git{Commit: "5e36f25", Branch: "main", Origin: "git@host:a/b.git"},
	}
	with := func(h Head, change func(*Head)) Head { change(&h); return h }
	for _, tc := range []struct {
		name string
		in   string
		read string // the part of in that is the head, if not all
		want Head   // but for End
	}{
		{
			name: "G0",
			in:   g0Meta + g0State + g0Context + g0User + g0State + g0Answer,
			read: g0Meta + g0State + g0Context + g0User,
			want: Head{
				HasMeta: true, ID: idV4, StartTime: at("2025-07-20T08:57:53.993Z"),
				Git: Git{Commit: "5e36f25", Branch: "main"}, FirstUserMessage: `hello é "there"`,
			},
		},
		{
			name: "G0, an image only",
			in:   g0Meta + g0Image + g0User,
			read: g0Meta + g0Image,
			want: Head{
				HasMeta: true, ID: idV4, StartTime: at("2025-07-20T08:57:53.993Z"),
				Git: Git{Commit: "5e36f25", Branch: "main"}, FirstUserMessage: "[Image]",
			},
		},
		{
			name: "G1, the turn_context behind the message",
			in:   g1Meta + g1Agents + g1Response + g1User + g1Context + g1Tokens,
			read: g1Meta + g1Agents + g1Response + g1User + g1Context,
			want: with(g1, func(h *Head) { h.FirstUserMessage, h.Model = "fix the test", "gpt-5" }),
		},
		{
			name: "G1, the turn_context before the message",
			in:   g1Meta + g1Context + g1User + g1Tokens,
			read: g1Meta + g1Context + g1User,
			want: with(g1, func(h *Head) { h.FirstUserMessage, h.Model = "fix the test", "gpt-5" }),
		},
		{
			name: "G1, no turn_context there",
			in:   g1Meta + g1User + g1Tokens + g1Context,
			read: g1Meta + g1User + g1Tokens,
			want: with(g1, func(h *Head) { h.FirstUserMessage = "fix the test" }),
		},
		{
			name: "G1, response items only",
			in:   g1Meta + g1Answer + g1Agents + g1Response + g1Another + g1Context,
			want: with(g1, func(h *Head) { h.FirstUserMessage, h.Model = "fix the test", "gpt-5" }),
		},
		{
			name: "G1, image tags around an image",
			in:   g1Meta + g1ImageItem,
			want: with(g1, func(h *Head) { h.FirstUserMessage = "look at this" }),
		},
		{
			name: "no turn yet",
			in:   g1Meta + g1Agents,
			want: g1,
		},
		{
			name: "an editor's prefix, blank lines and CRLF",
			in:   "\n \r\n" + g1Meta + "\r\n" + g1Context + userEvent(`# Context\n## My request for Codex:\n  do it\n`, ""),
			want: with(g1, func(h *Head) { h.FirstUserMessage, h.Model = "do it", "gpt-5" }),
		},
		{
			name: "empty messages do not count",
			in:   g1Context + userEvent(" ", `,"images":null`) + userEvent("", `,"images":["data:","data:"]`),
			want: Head{FirstUserMessage: "[Image]", Model: "gpt-5", Problems: []Problem{{Reason: "no session_meta"}}},
		},
		{
			name: "sound only",
			in:   g1Meta + g1Context + userEvent("", `,"images":[],"local_audio":["x"]`),
			want: with(g1, func(h *Head) { h.FirstUserMessage, h.Model = "[Audio]", "gpt-5" }),
		},
		{
			name: "G2",
			in:   g2Meta + g2Context + g1Response + g2User + g2Answer,
			read: g2Meta + g2Context + g1Response + g2User,
			want: Head{
				HasMeta: true, ID: idV7, StartTime: at("2026-11-20T08:42:05.672Z"), Cwd: "/w/repo",
				Originator: "codex_cli_rs", CLIVersion: "0.150.0", Source: "cli", Provider: "openai",
				HistoryMode: "paginated", Model: "gpt-6", FirstUserMessage: "fix it",
			},
		},
		{
			name: "G2 fork",
			in:   g2Fork,
			want: Head{
				HasMeta: true, ID: idV7, StartTime: at("2026-11-20T08:43:12.672Z"), Cwd: "/w/repo",
				Originator: "codex_exec", CLIVersion: "0.150.0", Source: "exec", Provider: "openai",
				HistoryMode: "paginated", ParentID: idV4, Base: Base{Rollout: idV4, Ordinal: 100, Offset: 76205},
			},
		},
		{
			name: "a legacy fork: the first session_meta counts",
			in:   g1Meta + g2Fork + g1User + g1Context,
			want: with(g1, func(h *Head) { h.FirstUserMessage, h.Model = "fix the test", "gpt-5" }),
		},
		{
			name: "session_meta comes late",
			in:   g1Context + g1Meta + g1User,
			want: with(g1, func(h *Head) {
				h.FirstUserMessage, h.Model = "fix the test", "gpt-5"
				h.Problems = []Problem{{int64(len(g1Context)), int64(len(g1Meta) - 1), "session_meta is not the first item"}}
			}),
		},
		{
			name: "damage",
			in:   "\x00\x00\n" + g1Meta + "{bad\n[]\n{\"a\":\"\xff\"}\n" + g1User[:len(g1User)-20],
			want: with(g1, func(h *Head) {
				n := int64(len(g1Meta))
				h.Problems = []Problem{
					{0, 2, "NUL bytes"},
					{3 + n, 4, "not valid JSON"},
					{8 + n, 2, "not a JSON object"},
					{11 + n, 9, "not valid UTF-8"},
					{11 + n, 9, "an item without a type"},
					{21 + n, int64(len(g1User) - 20), "cut off"},
				}
			}),
		},
		{
			name: "a last line without newline",
			in:   g1Meta + g1Context + strings.TrimSuffix(g1User, "\n"),
			want: with(g1, func(h *Head) { h.FirstUserMessage, h.Model = "fix the test", "gpt-5" }),
		},
		{
			name: "bad UTF-8 inside of the message",
			in:   g1Meta + g1Context + userEvent("a\xffb", ""),
			want: with(g1, func(h *Head) {
				h.FirstUserMessage, h.Model = "a\ufffdb", "gpt-5"
				h.Problems = []Problem{{int64(len(g1Meta + g1Context)), int64(len(userEvent("a\xffb", "")) - 1), "not valid UTF-8"}}
			}),
		},
		{
			name: "an envelope without timestamp, members of wrong types",
			in:   `{"type":"session_meta","payload":{"id":"x","cwd":7,"git":[],"source":3,"model_provider":null}}`,
			want: Head{HasMeta: true, ID: "x", Problems: []Problem{
				{0, 94, "a member of an unexpected type"},
				{0, 94, "session_meta without a valid timestamp"},
			}},
		},
		{
			name: "plain events",
			in: `{"type":"session_meta","item":{"id":"x","timestamp":"2026-11-20T08:41:45Z"},"seq":0}` + "\n" +
				`{"type":"assistant_message","item":{"text":"hello"},"seq":1}` + "\n" +
				`{"type":"user_message","item":{"content":[{"type":"text","text":" fix it "}]},"seq":2}` + "\n",
			want: Head{HasMeta: true, ID: "x", StartTime: at("2026-11-20T08:41:45Z"), FirstUserMessage: "fix it"},
		},
		{
			name: "a glued line",
			in:   g1Meta + g1Context[:30] + g1Context + g1User,
			want: with(g1, func(h *Head) {
				h.FirstUserMessage, h.Model = "fix the test", "gpt-5"
				h.Problems = []Problem{{int64(len(g1Meta)), 30, "cut off"}}
			}),
		},
		{name: "empty", in: "", want: Head{Problems: []Problem{{Reason: "an empty file"}}}},
		{
			name: "no session", in: "{}\n",
			want: Head{Problems: []Problem{{0, 2, "an item without a type"}, {Reason: "no session_meta"}}},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if tc.read == "" {
				tc.read = tc.in
			}
			tc.want.End = int64(len(tc.read))
			for _, in := range []string{tc.in, tc.read} {
				got, err := ReadHead(iotest.OneByteReader(strings.NewReader(in)))
				if err != nil || !reflect.DeepEqual(got, tc.want) {
					t.Errorf("got  %+v, %v\nwant %+v", got, err, tc.want)
				}
			}
		})
	}
}

func TestSource(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ in, want, parent string }{
		{`"cli"`, "cli", ""},
		{`"something new"`, "something new", ""},
		{`null`, "", ""},
		{`{"custom":"atlas"}`, "custom:atlas", ""},
		{`{"internal":"memory_consolidation"}`, "internal:memory_consolidation", ""},
		{`{"subagent":"review"}`, "subagent:review", ""},
		{`{"subagent":{"thread_spawn":{"parent_thread_id":"p","depth":1}}}`, "subagent:thread_spawn", "p"},
		{`{"subagent":{"other":"guardian"}}`, "subagent:guardian", ""},
		{`{"subagent":{"new":{}}}`, "subagent", ""},
		{`{"subagent":7}`, "subagent", ""},
		{`{}`, "", ""},
		{`[1]`, "", ""},
	} {
		meta := `{"timestamp":"t","type":"session_meta","payload":{"source":` + tc.in + `}}`
		h, err := ReadHead(strings.NewReader(meta))
		if err != nil || h.Source != tc.want || h.ParentID != tc.parent {
			t.Errorf("%s: source %q, parent %q, %v; want %q, %q", tc.in, h.Source, h.ParentID, err, tc.want, tc.parent)
		}
	}
}

// Codex hides a session whose first message comes after some 210 lines. We find
// it, up to a limit in bytes.
func TestInjected(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]bool{
		"\n<environment_context>\n  <cwd>/w</cwd>": true, "# AGENTS.md instructions for /w": true,
		"<image name=[Image #1]>": true, " </image>": true,
		"": false, "fix <image": false, "see <environment_context>": false, "# AGENTS": false,
	} {
		if got := Injected(text); got != want {
			t.Errorf("Injected(%q) = %v", text, got)
		}
	}
}

func TestReadHeadLimit(t *testing.T) {
	t.Parallel()
	filler := strings.Repeat(g1Tokens, headLimit/len(g1Tokens)) // a bit less than the limit
	last := g1Tokens[:len(g1Tokens)-2] + strings.Repeat(" ", 100<<10) + "}\n"
	for _, tc := range []struct {
		name, in string
		want     string
		end      int
	}{
		{"within", filler + userEvent("found", ""), "found", len(filler) + len(userEvent("found", ""))},
		{"beyond", filler + last + userEvent("found", ""), "", len(filler) + len(last)},
	} {
		h, err := ReadHead(strings.NewReader(tc.in))
		if err != nil || h.FirstUserMessage != tc.want || h.End != int64(tc.end) {
			t.Errorf("%s: found %q, end %d, %v; want end %d", tc.name, h.FirstUserMessage, h.End, err, tc.end)
		}
	}
}

func TestReadHeadManyProblems(t *testing.T) {
	t.Parallel()
	h, err := ReadHead(strings.NewReader(strings.Repeat("x\n", 1000)))
	if err != nil || len(h.Problems) != maxProblems {
		t.Errorf("%d problems, %v", len(h.Problems), err)
	}
	if last := h.Problems[maxProblems-1]; last.Reason != "no session_meta" {
		t.Errorf("the last problem is %+v", last)
	}
}

func TestReadHeadError(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	h, err := ReadHead(io.MultiReader(strings.NewReader(g1Meta+g1User[:9]), iotest.ErrReader(broken)))
	if err != broken || h.ID != idV7 || len(h.Problems) != 0 {
		t.Errorf("got %+v, %v", h, err)
	}
}

func FuzzReadHead(f *testing.F) {
	f.Add([]byte(g0Meta + g0State + g0Context + g0User))
	f.Add([]byte(g1Meta + g1Agents + g1Response + g1User + g1Context))
	f.Add([]byte(g2Fork + g2Context + g2User))
	f.Add([]byte(`{"timestamp":"t","type":"session_meta","payload":{"source":{"subagent":{"other":"x"}}}}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		h, err := ReadHead(strings.NewReader(string(in)))
		if err != nil {
			t.Fatal(err)
		}
		if h.End > int64(len(in)) || len(h.Problems) > maxProblems {
			t.Fatalf("end %d of %d, %d problems", h.End, len(in), len(h.Problems))
		}
		for _, p := range h.Problems {
			if p.Offset < 0 || p.Length < 0 || p.Offset+p.Length > h.End {
				t.Fatalf("problem %+v outside of %d bytes", p, h.End)
			}
		}
		if text := fmt.Sprint(h); !utf8.ValidString(text) {
			t.Fatalf("not UTF-8: %q", text)
		}
		// The head is all that counts: reading only that much gives the same.
		again, err := ReadHead(strings.NewReader(string(in[:h.End])))
		if err != nil || !reflect.DeepEqual(again, h) {
			t.Fatalf("of %d bytes %+v\nof the head %+v, %v", len(in), h, again, err)
		}
	})
}

func TestReadHeadWhile(t *testing.T) {
	t.Parallel()
	in := "not JSON\n \n" + g1Meta + g1Context + g1User + g1User
	whole, err := ReadHead(strings.NewReader(in))
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for n := 1; ; n++ {
		records := 0
		seen = nil
		h, err := ReadHeadWhile(strings.NewReader(in), func(rec Record, h *Head) bool {
			records++
			seen = append(seen, rec.Item.Type)
			if h.End != rec.Offset+rec.Length+1 {
				t.Errorf("after record %d the head ends at %d", records, h.End)
			}
			return records < n
		})
		if err != nil {
			t.Fatal(err)
		}
		if records < n {
			if !reflect.DeepEqual(h, whole) {
				t.Errorf("got %+v, want %+v", h, whole)
			}
			break
		}
		if h.HasMeta != (n >= 2) || (h.FirstUserMessage != "") != (n >= 4) {
			t.Errorf("after %d records the head is %+v", n, h)
		}
	}
	if want := []string{"", TypeSessionMeta, TypeTurnContext, TypeEventMsg}; !slices.Equal(seen, want) {
		t.Errorf("got the records %q, want %q", seen, want)
	}
}

func TestHeadSubagent(t *testing.T) {
	t.Parallel()
	for members, want := range map[string]bool{
		``:                                     false,
		`"source":"cli",`:                      false,
		`"source":"subagents",`:                false,
		`"thread_source":"user",`:              false,
		`"source":{"subagent":"review"},`:      true,
		`"source":{"subagent":{"other":"x"}},`: true,
		`"thread_source":"subagent",`:          true,
	} {
		h, err := ReadHead(strings.NewReader(`{"timestamp":"t","type":"session_meta","payload":{` + members + `"id":"x"}}`))
		if err != nil || h.Subagent != want {
			t.Errorf("%s: got %t, %v", members, h.Subagent, err)
		}
	}
}

// Of heads with long lines one is read at a time, however many are begun; those without
// are not kept waiting.
func TestLongHeadsWait(t *testing.T) {
	t.Parallel()
	meta := `{"timestamp":"2026-11-20T08:00:00.000Z","type":"session_meta","payload":{"id":"a","cwd":"/w","base_instructions":{"text":"` + strings.Repeat("x", 4<<20) + `"}}}` + "\n"
	first, feed := io.Pipe()
	done := make(chan error)
	read := func(r io.Reader) {
		h, err := ReadHead(r)
		if err == nil && !h.HasMeta {
			err = errors.New("no metadata")
		}
		done <- err
	}
	go read(first)
	if _, err := io.WriteString(feed, meta[:3<<20]); err != nil {
		t.Fatal(err)
	}
	var ended atomic.Bool
	second := &passing{Reader: strings.NewReader(meta), at: 2 << 20, do: func() {
		if !ended.Load() {
			t.Error("the second is read while the first is")
		}
	}}
	begun := make(chan struct{})
	go read(&passing{Reader: second, at: 1 << 19, do: func() { close(begun) }})
	<-begun
	if h, err := ReadHead(strings.NewReader(`{"timestamp":"2026-11-20T08:00:00.000Z","type":"session_meta","payload":{"id":"a","cwd":"/w"}}` + "\n")); err != nil || h.Cwd != "/w" {
		t.Errorf("a short one: %+v, %v", h, err)
	}
	for range 100000 {
		runtime.Gosched() // so that the second gets where it has to wait
	}
	ended.Store(true)
	if _, err := io.WriteString(feed, meta[3<<20:]); err != nil {
		t.Fatal(err)
	}
	if err := feed.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// passing calls do when so many bytes were read.
type passing struct {
	io.Reader
	n, at int
	do    func()
}

func (p *passing) Read(b []byte) (int, error) {
	n, err := p.Reader.Read(b)
	if p.n < p.at && p.n+n >= p.at {
		p.do()
	}
	p.n += n
	return n, err
}
