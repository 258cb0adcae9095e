package search_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout/replay"
	"github.com/rollout-sync/rollout/search"
	"github.com/rollout-sync/rollout/store"
)

// reference finds phrases without any of the ways in which package search is fast: in
// every text of every entry of a session, as the documentation says. It returns the lines
// of the entries.
func reference(t *testing.T, src store.Source, name string, args []string) (lines []int) {
	t.Helper()
	for e, err := range replay.Entries(replay.Load(context.Background(), src, name)) {
		if errors.Is(err, replay.ErrEmpty) || errors.Is(err, replay.ErrNoMeta) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		all := !slices.ContainsFunc(args, func(arg string) bool {
			return !slices.ContainsFunc(found(e), func(text string) bool { return referencePhrase(text, arg) })
		})
		if all {
			lines = append(lines, e.Line)
		}
	}
	return lines
}

// found are the texts of an entry that can be found.
func found(e replay.Entry) (texts []string) {
	switch e.Kind {
	case replay.KindUser, replay.KindAssistant, replay.KindReasoning, replay.KindSystem,
		replay.KindCompaction, replay.KindNote, replay.KindError:
		texts = append(texts, e.Text)
	}
	if e.Call != nil {
		texts = append(texts, e.Call.Input, e.Call.Arguments)
	}
	if e.Result != nil {
		texts = append(texts, e.Result.Output)
	}
	for _, f := range e.Files {
		texts = append(texts, f.Path, f.MoveTo, f.Diff)
	}
	return texts
}

func isWord(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) || unicode.IsMark(r) }

func lower(r rune) rune {
	if l := unicode.ToLower(r); l < utf8.RuneSelf && r >= utf8.RuneSelf {
		return r
	}
	return unicode.ToLower(r)
}

var (
	colours = regexp.MustCompile(`(\x1b\[[ -?]*[@-~])+`)
	spaces  = regexp.MustCompile(`[\s\v\x{85}\p{Z}]+`)
)

// referencePhrase reports whether the phrase is in the text.
func referencePhrase(text, phrase string) bool {
	const mark = '\x1b' // between letters, where there was a colour
	colourless := []rune(colours.ReplaceAllString(text, "\x00"))
	var plain []rune
	for i, r := range colourless {
		switch {
		case r != 0:
			plain = append(plain, r)
		case i > 0 && i < len(colourless)-1 && isWord(colourless[i-1]) && isWord(colourless[i+1]):
			plain = append(plain, mark)
		}
	}
	fold := func(s string) []rune { return []rune(strings.Map(lower, spaces.ReplaceAllString(s, " "))) }
	phrase = strings.TrimSpace(phrase)
	before, prefix := strings.CutSuffix(phrase, "*")
	if last, _ := utf8.DecodeLastRuneInString(before); prefix && isWord(last) {
		phrase = before
	} else {
		prefix = false
	}
	in, want := fold(string(plain)), fold(phrase)
	for i := 0; i+len(want) <= len(in); i++ {
		end := i + len(want)
		switch {
		case !slices.Equal(in[i:end], want):
		case isWord(want[0]) && i > 0 && isWord(in[i-1]):
		case !prefix && isWord(want[len(want)-1]) && end < len(in) && isWord(in[end]):
		default:
			return true
		}
	}
	return false
}

// A writer writes random sessions of few words.
type writer struct{ *rand.Rand }

var vocabulary = strings.Fields("alpha Beta GAMMA délta ΣΊΓΜΑ привет ПРИВЕТ 中文 K Kelvin foo nfoo tfoo x1b u200b " +
	"user42 build ubuntu 7 x 31merror error ẞ ß ſ s İstanbul istanbul ǅ u0065 e\u0301 é Å å \U0001d400")

var separators = []string{
	" ", " ", " ", "\n", "\t", "\u00a0", "-", "_", ".", `"`, `\`, `\n`, "/", "\x1b[31m", "\x1b[0m", "\x1b[1m\x1b[2K", "\x1b[", "", "", "\u200b", "\a", "#*",
}

func (w writer) pick(from []string) string { return from[w.IntN(len(from))] }

func (w writer) word() string {
	switch s := w.pick(vocabulary); w.IntN(4) {
	case 0:
		return strings.ToUpper(s)
	case 1:
		return strings.ToLower(s)
	default:
		return s
	}
}

func (w writer) text() string {
	var b strings.Builder
	for range 1 + w.IntN(6) {
		b.WriteString(w.pick(separators) + w.word() + w.pick(separators))
	}
	return b.String()
}

// json encodes a string, with escapes where none are needed.
func (w writer) json(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case w.IntN(30) == 0:
			for _, u := range utf16.Encode([]rune{r}) {
				fmt.Fprintf(&b, w.pick([]string{`\u%04x`, `\u%04X`}), u)
			}
		case r == '"' || r == '\\':
			b.WriteString(`\` + string(r))
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < ' ':
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// line returns a line with random text in one of the places where it can be.
func (w writer) line(text func() string) string {
	s := func() string { return w.json(text()) }
	item, event := "response_item", "event_msg"
	enveloped := func(typ, payload string) string {
		return fmt.Sprintf(`{"timestamp":"2026-11-20T12:00:00.000Z","type":"%s","payload":%s}`, typ, payload) + "\n"
	}
	id := fmt.Sprintf(`"call_id":"%d"`, w.IntN(4))
	switch w.IntN(16) {
	case 0:
		return enveloped(event, `{"type":"user_message","message":`+s()+`}`)
	case 1:
		return enveloped(event, `{"type":"agent_message","message":`+s()+`}`)
	case 2:
		return enveloped(item, `{"type":"message","role":"assistant","content":[{"type":"output_text","text":`+s()+`},{"type":"output_text","text":`+s()+`}]}`)
	case 3:
		return enveloped(item, `{"type":"message","role":"user","content":[{"type":"input_text","text":`+s()+`}]}`)
	case 4:
		return enveloped(item, `{"type":"function_call","name":"shell",`+id+`,"arguments":`+w.json(`{"command":["bash","-lc",`+s()+`]}`)+`}`)
	case 5:
		return enveloped(item, `{"type":"function_call","name":"shell",`+id+`,"arguments":`+w.json(`{"command":["echo",`+s()+`,`+s()+`],"workdir":`+s()+`}`)+`}`)
	case 6:
		return enveloped(item, `{"type":"custom_tool_call","name":"apply_patch",`+id+`,"input":`+s()+`}`)
	case 7:
		return enveloped(item, `{"type":"function_call_output",`+id+`,"output":`+s()+`}`)
	case 8:
		return enveloped(item, `{"type":"function_call_output",`+id+`,"output":`+w.json(`{"output":`+s()+`,"metadata":{"exit_code":1}}`)+`}`)
	case 9:
		return enveloped(event, `{"type":"exec_command_end",`+id+`,"command":["ls",`+s()+`],"stdout":`+s()+`,"stderr":`+s()+`,"exit_code":0}`)
	case 10:
		return enveloped(event, `{"type":"patch_apply_end",`+id+`,"stdout":"","stderr":"","success":true,"changes":{`+s()+`:{"type":"update","unified_diff":`+s()+`,"move_path":`+s()+`}}}`)
	case 11:
		return enveloped(item, `{"type":"function_call","name":"update_plan",`+id+`,"arguments":`+w.json(`{"explanation":`+s()+`,"plan":[{"step":`+s()+`,"status":"completed"}]}`)+`}`)
	case 12:
		return enveloped(item, `{"type":"reasoning","summary":[{"type":"summary_text","text":`+s()+`}],"encrypted_content":`+s()+`}`)
	case 13:
		return enveloped(event, `{"type":"error","message":`+s()+`}`)
	case 14:
		return `{"damaged":` + s() + "\n"
	}
	return enveloped("compacted", `{"message":`+s()+`}`)
}

func meta(id uuid.UUID) string {
	return fmt.Sprintf(`{"timestamp":"2026-11-20T12:00:00.000Z","type":"session_meta","payload":{"id":"%s","timestamp":"2026-11-20T12:00:00.000Z","cwd":"/w","originator":"test","cli_version":"0.150.0","instructions":"alpha beta"}}`+"\n", id)
}

// query returns what somebody may look for: words, or something that is there.
func (w writer) query(said []string) (args []string) {
	for range 1 + w.IntN(2) {
		arg := w.word()
		if len(said) > 0 && w.IntN(2) == 0 {
			runes := []rune(w.pick(said))
			from := w.IntN(len(runes))
			arg = string(runes[from:min(len(runes), from+1+w.IntN(10))])
		}
		if w.IntN(3) == 0 {
			arg += "*"
		}
		if strings.TrimSpace(arg) != "" {
			args = append(args, arg)
		}
	}
	if len(args) == 0 {
		args = append(args, w.word())
	}
	return args
}

// answer is what a search finds: the lines of the hits, by path.
func answer(t *testing.T, s *search.Search) map[string][]int {
	t.Helper()
	s.Hits = 1 << 20
	got := map[string][]int{}
	for r, err := range s.Sessions(context.Background()) {
		if err != nil || r.Err != nil {
			t.Fatal(r.Item.Path, err, r.Err)
		}
		for _, h := range r.Hits {
			got[r.Item.Path] = append(got[r.Item.Path], h.Line)
		}
		if len(r.Hits) != r.Total {
			t.Errorf("%s: %d hits, %d in all", r.Item.Path, len(r.Hits), r.Total)
		}
	}
	return got
}

func same(a, b map[string][]int) bool { return maps.EqualFunc(a, b, slices.Equal) }
