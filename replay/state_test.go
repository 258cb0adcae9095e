package replay_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math/rand/v2"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"

	"gocloud.dev/blob/memblob"

	"github.com/rollout-sync/rollout/replay"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/blob"
	"github.com/rollout-sync/rollout/store/memfs"
)

// envelope is a line of a session.
func envelope(typ, payload string) string {
	return fmt.Sprintf(`{"timestamp":"t","type":%q,"payload":%s}`, typ, payload) + "\n"
}

func quote(s string) string {
	b, _ := json.Marshal(s) // a string always encodes
	return string(b)
}

func messageJSON(role, text string) string {
	typ := "input_text"
	if role == "assistant" {
		typ = "output_text"
	}
	return fmt.Sprintf(`{"type":"message","role":%q,"content":[{"type":%q,"text":%s}]}`, role, typ, quote(text))
}

func said(text string) string     { return envelope("response_item", messageJSON("user", text)) }
func answered(text string) string { return envelope("response_item", messageJSON("assistant", text)) }

func call(id string) string {
	return envelope("response_item", `{"type":"function_call","name":"f","arguments":"{}","call_id":"`+id+`"}`)
}

func result(id, text string) string {
	return envelope("response_item", fmt.Sprintf(`{"type":"function_call_output","call_id":%q,"output":%s}`, id, quote(text)))
}

func happening(typ, more string) string { return envelope("event_msg", `{"type":"`+typ+`"`+more+`}`) }
func started(id string) string          { return happening("task_started", `,"turn_id":"`+id+`"`) }
func ended(id string) string            { return happening("task_complete", `,"turn_id":"`+id+`"`) }
func rolledBack(n int) string {
	return happening("thread_rolled_back", fmt.Sprintf(`,"num_turns":%d`, n))
}

func settings(id, model string) string {
	return envelope("turn_context", fmt.Sprintf(`{"turn_id":%q,"model":%q}`, id, model))
}

func world(full bool, s string) string {
	return envelope("world_state", fmt.Sprintf(`{"full":%v,"state":%s}`, full, s))
}

func compactedTo(items ...string) string {
	return envelope("compacted", `{"message":"summary","replacement_history":[`+strings.Join(items, ",")+`]}`)
}

// turn is a turn of Codex 0.118 or later with these items.
func turn(id string, items ...string) string {
	return started(id) + settings(id, "model of "+id) + strings.Join(items, "") + ended(id)
}

// brief returns items in a few words.
func brief(t testing.TB, items []json.RawMessage) string {
	t.Helper()
	var b []string
	for _, item := range items {
		var v struct {
			Type, Role, ID string
			CallID         string `json:"call_id"`
			Output         json.RawMessage
			Content        []struct{ Text string }
		}
		if err := json.Unmarshal(item, &v); err != nil {
			t.Fatalf("%v in %s", err, item)
		}
		switch {
		case v.Type == "message":
			text := ""
			for _, p := range v.Content {
				text += p.Text
			}
			b = append(b, v.Role[:1]+":"+text)
		case v.Output != nil:
			b = append(b, v.CallID+"="+strings.Trim(string(v.Output), `"`))
		default:
			b = append(b, v.Type+" "+v.CallID)
		}
	}
	return strings.Join(b, " ")
}

func TestReconstruct(t *testing.T) {
	t.Parallel()
	const context = "<environment_context>\n  <cwd>/w</cwd>\n</environment_context>"
	for title, c := range map[string]struct {
		lines   string
		version string
		want    string
		turns   int
		model   string
		world   string
		open    bool
		bad     int
	}{
		"G0": {
			lines: `{"id":"i","timestamp":"t","instructions":null}` + "\n" + `{"record_type":"state"}` + "\n" +
				messageJSON("user", "one") + "\n" + messageJSON("assistant", "1") + "\n",
			want: "u:one a:1", turns: 1,
		},
		"turns": {
			lines: metaLine + turn("t1", said("one"), answered("1")) + turn("t2", said("two"), answered("2")),
			want:  "u:one a:1 u:two a:2", turns: 2, model: "model of t2",
		},
		"what is said is events, too": {
			lines: metaLine + said("one") + happening("user_message", `,"message":"one"`) + happening("agent_message", `,"message":"1"`) + answered("1"),
			want:  "u:one a:1", turns: 1,
		},
		"what the model is not sent": {
			lines: metaLine + envelope("response_item", messageJSON("system", "s")) + said("one") +
				envelope("response_item", `{"type":"from_the_future"}`) + envelope("response_item", `{"type":"ghost_snapshot","ghost_commit":{}}`) +
				envelope("from_the_future", `{}`) + answered("1"),
			want: "u:one a:1", turns: 1,
		},
		"damage": {
			lines: metaLine + said("one") + "{bad}\n" + answered("1")[:30] + answered("glued") +
				strings.TrimSpace(said("two")) + said("objects") + strings.Replace(said("?"), "?", "\xff", 1) +
				envelope("response_item", `{"type":"message","role":"user","content":3}`) + answered("1") + answered("torn")[:50],
			want: "u:one a:1", turns: 1, bad: 8,
		},
		"calls and outputs": {
			lines: metaLine + said("one") + call("c1") + call("c2") + result("c2", "r2") + result("c3", "r3") + answered("1"),
			want:  "u:one function_call c1 c1=aborted function_call c2 c2=r2 a:1", turns: 1,
		},
		"the last turn is open":  {lines: metaLine + turn("t1", said("one"), answered("1")) + started("t2") + said("two"), want: "u:one a:1 u:two", turns: 2, model: "model of t1", open: true},
		"and aborted":            {lines: metaLine + started("t1") + said("one") + happening("turn_aborted", `,"turn_id":"t1"`), want: "u:one", turns: 1},
		"it has no answer":       {lines: metaLine + said("one"), want: "u:one", turns: 1, open: true},
		"it waits for the model": {lines: metaLine + said("one") + call("c1") + result("c1", "r"), want: "u:one function_call c1 c1=r", turns: 1, open: true},
		"compaction": {
			lines: metaLine + turn("t1", said("one"), answered("1")) + turn("t2", compactedTo(messageJSON("user", "one"), messageJSON("user", "sum"))) + turn("t3", said("three")),
			want:  "u:one u:sum u:three", turns: 3, model: "model of t3",
		},
		"two compactions": {
			lines: metaLine + turn("t1", said("one")) + started("t2") + compactedTo(messageJSON("user", "A")) + ended("t2") + turn("t3", said("three")) + started("t4") + compactedTo(messageJSON("user", "B")) + ended("t4"),
			want:  "u:B", turns: 1, model: "model of t3",
		},
		"compaction within a turn": {
			lines: metaLine + turn("t1", said("one"), call("c1"), result("c1", "r"), compactedTo(messageJSON("user", "one")), answered("1")),
			want:  "u:one a:1", turns: 1, model: "model of t1",
		},
		"compaction without its outcome": {
			lines: metaLine + said("one") + answered("1") + said(context) + said("two") + call("c1") + envelope("compacted", `{"message":"sum"}`) + said("three"),
			want:  "u:one u:two u:sum u:three", turns: 4, open: true,
		},
		"a compaction of which the metadata does not fit": {
			lines: metaLine + said("one") + envelope("compacted", `{"message":"sum","replacement_history":7}`) + answered("1"),
			want:  "u:one a:1", turns: 1, bad: 1,
		},
		"rollback": {
			lines: metaLine + turn("t1", said("one"), answered("1")) + turn("t2", said("two"), answered("2")) + turn("t3", said("three")) + rolledBack(2),
			want:  "u:one a:1", turns: 1, model: "model of t1",
		},
		"rollback, and on": {
			lines: metaLine + turn("t1", said("one")) + turn("t2", said("two")) + rolledBack(1) + turn("t3", said("three")) + turn("t4", said("four")) + rolledBack(1),
			want:  "u:one u:three", turns: 2, model: "model of t3",
		},
		"rollback of more than there is": {
			lines: metaLine + said(context) + turn("t1", said("one"), answered("1")) + rolledBack(100),
			want:  "u:" + context, model: "model of t1",
		},
		"a turn that ends when another has begun": {
			lines: metaLine + turn("t1", said("one")) + started("t2") + compactedTo(messageJSON("user", "sum")) + started("t3") + said("three") + ended("t2") + rolledBack(1),
			want:  "u:one", turns: 1, model: "model of t1",
		},
		"rollback of nothing": {lines: metaLine + said("one") + answered("1") + rolledBack(0), want: "u:one a:1", turns: 1},
		"rollback takes the context of the turn along": {
			lines: metaLine + said(context) + turn("t1", said("one"), answered("1")) + started("t2") + said(context) + said("two") + ended("t2") + rolledBack(1),
			want:  "u:" + context + " u:one a:1", turns: 1, model: "model of t1",
		},
		"rollback leaves the context of the turn, by 0.98": {
			lines:   metaLine + turn("t1", said("one"), answered("1")) + turn("t2", said(context), said("two"), answered("2")) + rolledBack(1),
			version: "0.98.0", want: "u:one a:1 u:" + context, turns: 1, model: "model of t1",
		},
		"rollback of a compaction": {
			lines: metaLine + turn("t1", said("one"), answered("1")) + turn("t2", compactedTo(messageJSON("user", "sum")), said("two")) + rolledBack(1),
			want:  "u:one a:1", turns: 1, model: "model of t1",
		},
		"rollback of a compaction, by 0.150": {
			lines:   metaLine + turn("t1", said("one"), answered("1")) + turn("t2", compactedTo(messageJSON("user", "sum")), said("two")) + rolledBack(1) + turn("t3", said("three")),
			version: "0.150.0", want: "u:three", turns: 1, model: "model of t3",
		},
		"rollback of a compaction, by 0.98": {
			lines:   metaLine + turn("t1", said("one"), answered("1")) + turn("t2", compactedTo(messageJSON("user", "sum")), said("two")) + rolledBack(1),
			version: "0.98.0", want: "u:sum", turns: 1, model: "model of t1",
		},
		"rollback of the newer of two compactions": {
			lines: metaLine + turn("t1", compactedTo(messageJSON("user", "A"))) + turn("t2", said("two")) + turn("t3", compactedTo(messageJSON("user", "B")), said("three")) + rolledBack(1),
			want:  "u:A u:two", turns: 2, model: "model of t2",
		},
		"world": {
			lines: metaLine + world(false, `{"lost":1}`) + world(true, `{"a":1,"b":{"c":2,"d":3},"e":[1]}`) + world(false, `{"a":null,"b":{"c":4},"e":[2],"f":{"g":null}}`) + said("one") + answered("1"),
			want:  "u:one a:1", turns: 1, world: `{"b":{"c":4,"d":3},"e":[2],"f":{}}`,
		},
		"world after a compaction": {
			lines: metaLine + world(true, `{"a":1}`) + compactedTo() + world(false, `{"b":1}`),
		},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			for _, seekable := range []bool{true, false} {
				src := view{Source: session(t, c.lines), seekable: seekable}
				s, err := replay.Reconstruct(t.Context(), src, name, &replay.Options{Version: c.version})
				must(t, err)
				model := ""
				if s.Context != nil {
					model = s.Context.Model
				}
				if got := brief(t, s.Items); got != c.want || s.Turns != c.turns || model != c.model || s.Incomplete != c.open ||
					len(s.Problems) != c.bad || string(s.World) != c.world {
					t.Errorf("seekable %v: got %s, %d turns, %s, incomplete %v, %d problems %v, world %s\nwant %s, %d turns, %s, incomplete %v, %d problems, world %s",
						seekable, got, s.Turns, model, s.Incomplete, len(s.Problems), s.Problems, s.World, c.want, c.turns, c.model, c.open, c.bad, c.world)
				}
			}
		})
	}
}

// A view is a Source whose files say what it says, and counts what is read of them.
type view struct {
	store.Source
	seekable bool
	count    *counts
}

type counts struct{ opens, ranges, bytes int }

func (v view) Open(ctx context.Context, name string) (store.File, error) {
	f, err := v.Source.Open(ctx, name)
	if err == nil && v.count != nil {
		v.count.opens++
	}
	return viewFile{f, v}, err
}

type viewFile struct {
	store.File
	v view
}

func (f viewFile) Info() store.Info {
	info := f.File.Info()
	if info.Seekable = f.v.seekable; !f.v.seekable {
		info.Size = -1
	}
	return info
}

func (f viewFile) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	r, err := f.File.Range(ctx, off, n)
	if f.v.count == nil {
		return r, err
	}
	f.v.count.ranges++
	return countedReader{r, f.v.count}, err
}

type countedReader struct {
	io.ReadCloser
	c *counts
}

func (r countedReader) Read(p []byte) (int, error) {
	n, err := r.ReadCloser.Read(p)
	r.c.bytes += n
	return n, err
}

func TestReconstructCuts(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("中", 100) // 300 bytes
	for title, c := range map[string]struct {
		context string
		o       replay.Options
		want    string
	}{
		"not":            {want: long},
		"bytes":          {o: replay.Options{Truncation: replay.Truncation{Mode: "bytes", Limit: 100}}, want: strings.Repeat("中", 20) + "…60 chars truncated…" + strings.Repeat("中", 20)},
		"tokens":         {o: replay.Options{Truncation: replay.Truncation{Mode: "tokens", Limit: 25}}, want: strings.Repeat("中", 20) + "…45 tokens truncated…" + strings.Repeat("中", 20)},
		"wide enough":    {o: replay.Options{Truncation: replay.Truncation{Mode: "bytes", Limit: 250}}, want: long},
		"as the session": {context: `,"truncation_policy":{"mode":"bytes","limit":100}`, want: strings.Repeat("中", 20) + "…60 chars truncated…" + strings.Repeat("中", 20)},
		"twice, by 0.98": {
			o:    replay.Options{Version: "0.98.0", Truncation: replay.Truncation{Mode: "bytes", Limit: 100}},
			want: strings.Repeat("中", 20) + "…20 chars truncated…" + strings.Repeat("中", 20),
		},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			lines := metaLine + envelope("turn_context", `{"model":"m"`+c.context+`}`) + said("one") + call("c1") + result("c1", long)
			s, err := replay.Reconstruct(t.Context(), session(t, lines), name, &c.o)
			must(t, err)
			if got, want := brief(t, s.Items), "u:one function_call c1 c1="+c.want; got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
	parts := `{"type":"function_call_output","call_id":"c1","output":[{"type":"input_text","text":"0123456789"},{"type":"input_image","image_url":"x"},{"type":"input_text","text":""},{"type":"input_text","text":"` + strings.Repeat("y", 100) + `"},{"type":"input_text","text":"z"}]}`
	lines := metaLine + call("c1") + envelope("response_item", parts)
	s, err := replay.Reconstruct(t.Context(), session(t, lines), name, &replay.Options{Truncation: replay.Truncation{Mode: "bytes", Limit: 20}})
	must(t, err)
	const want = `[{"type":"input_text","text":"0123456789"},{"type":"input_image","image_url":"x"},{"type":"input_text","text":"yyyyyyy…86 chars truncated…yyyyyyy"},{"type":"input_text","text":"[omitted 1 text items ...]"}]`
	if got := string(s.Items[1]); !strings.Contains(got, want) {
		t.Errorf("got %s", got)
	}
}

func TestReconstructIDs(t *testing.T) {
	t.Parallel()
	lines := metaLine + envelope("response_item", `{"type":"function_call","id":"fc_000007_0","name":"f","arguments":"{}","call_id":"c","internal_chat_message_metadata_passthrough":{"turn_id":"t"}}`)
	for version, want := range map[string]string{
		// The second id is what Codex 0.169 sent for this call.
		"": `{"type":"function_call","id":"fc_000007_0","name":"f","arguments":"{}","call_id":"c"} ` +
			`{"type":"function_call_output","id":"fco_895e4408-3e7a-5556-98a5-c6339ebdd5be","call_id":"c","output":"aborted"}`,
		"0.118.0": `{"type":"function_call","name":"f","arguments":"{}","call_id":"c"} {"type":"function_call_output","call_id":"c","output":"aborted"}`,
	} {
		s, err := replay.Reconstruct(t.Context(), session(t, lines), name, &replay.Options{Version: version})
		must(t, err)
		if got := fmt.Sprintf("%s %s", s.Items[0], s.Items[1]); got != want {
			t.Errorf("%q: got  %s\nwant %s", version, got, want)
		}
	}
}

// A tree is a store with rollouts, by id.
type tree struct {
	store.Source
	names map[string]string
}

func newTree(t testing.TB, rollouts map[string]string) tree {
	t.Helper()
	st := memfs.New(nil)
	tr := tree{st, map[string]string{}}
	for id, content := range rollouts {
		tr.names[id] = path.Join("sessions", "rollout-2026-11-20T08-41-45-"+id+".jsonl")
		log, err := st.Create(t.Context(), tr.names[id])
		must(t, err)
		must(t, log.Append([]byte(content)))
		must(t, log.Close())
	}
	return tr
}

func (tr tree) find(_ context.Context, id string) (store.Source, string, error) {
	if n, ok := tr.names[id]; ok {
		return tr, n, nil
	}
	return nil, "", fs.ErrNotExist
}

func rolloutID(n int) string { return fmt.Sprintf("01a1f81e-b96c-7071-a214-%012d", n) }

// child is the first line of a rollout that begins with a stretch of another.
func child(id, base string, end int) string {
	return envelope("session_meta", fmt.Sprintf(`{"id":%q,"history_mode":"paginated","history_base":{"thread_id":%q,"end_ordinal_exclusive":0,"end_byte_offset":%d}}`, id, base, end))
}

func TestReconstructLineage(t *testing.T) {
	t.Parallel()
	a, b, c := rolloutID(1), rolloutID(2), rolloutID(3)
	first := envelope("session_meta", `{"id":"`+a+`"}`) + turn("t1", said("one"), answered("1"))
	second := turn("t2", said("two"), answered("2"))
	ofB := child(b, a, len(first)) + turn("t3", said("three"))
	for title, tc := range map[string]struct {
		rollouts map[string]string
		want     string
		err      error
	}{
		"child":                {map[string]string{a: first + second, b: ofB}, "u:one a:1 u:three", nil},
		"grandchild":           {map[string]string{a: first + second, b: ofB + turn("t4", said("four")), c: child(c, b, len(ofB)) + turn("t5", said("five"))}, "u:one a:1 u:three u:five", nil},
		"call over the border": {map[string]string{a: first + call("c1"), b: child(b, a, len(first+call("c1"))) + result("c1", "r")}, "u:one a:1 function_call c1 c1=r", nil},
		"compacted":            {map[string]string{a: first, b: ofB + turn("t4", compactedTo(messageJSON("user", "sum")))}, "u:sum", nil},
		"base is compacted": {
			map[string]string{
				a: first + turn("t2", compactedTo(messageJSON("user", "sum"))) + second,
				b: child(b, a, len(first+turn("t2", compactedTo(messageJSON("user", "sum"))))) + turn("t3", said("three")),
			},
			"u:sum u:three", nil,
		},
		"base too short":        {map[string]string{a: first[:len(first)-1], b: ofB}, "", replay.ErrBaseShort},
		"no base":               {map[string]string{b: ofB}, "", replay.ErrNoBase},
		"of itself":             {map[string]string{a: child(a, a, 10)}, "", replay.ErrBaseCycle},
		"of each other":         {map[string]string{a: child(a, b, len(child(a, b, 100))), b: child(b, a, len(child(b, a, 100)))}, "", replay.ErrBaseCycle},
		"base without metadata": {map[string]string{a: said("one"), b: child(b, a, len(said("one")))}, "", replay.ErrNoMeta},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			tr := newTree(t, tc.rollouts)
			ids := slices.Sorted(maps.Keys(tc.rollouts))
			for _, seekable := range []bool{true, false} {
				find := func(ctx context.Context, id string) (store.Source, string, error) {
					_, name, err := tr.find(ctx, id)
					return view{Source: tr, seekable: seekable}, name, err
				}
				s, err := replay.Reconstruct(t.Context(), view{Source: tr, seekable: seekable}, tr.names[ids[len(ids)-1]], &replay.Options{Find: find})
				if !errors.Is(err, tc.err) {
					t.Fatalf("seekable %v: got error %v, want %v", seekable, err, tc.err)
				}
				if err != nil {
					continue
				}
				if got := brief(t, s.Items); got != tc.want || s.Meta.ID != ids[len(ids)-1] {
					t.Errorf("seekable %v: got %s of %s, want %s", seekable, got, s.Meta.ID, tc.want)
				}
			}
		})
	}
	tr := newTree(t, map[string]string{b: ofB})
	if _, err := replay.Reconstruct(t.Context(), tr, tr.names[b], nil); !errors.Is(err, replay.ErrNoBase) {
		t.Errorf("without Find: %v", err)
	}
	broken := errors.New("broken")
	find := func(context.Context, string) (store.Source, string, error) { return nil, "", broken }
	if _, err := replay.Reconstruct(t.Context(), tr, tr.names[b], &replay.Options{Find: find}); !errors.Is(err, broken) || errors.Is(err, replay.ErrNoBase) {
		t.Errorf("got %v", err)
	}
}

func TestReconstructFails(t *testing.T) {
	t.Parallel()
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	for title, c := range map[string]struct {
		ctx   context.Context
		lines string
		at    replay.Point
		err   error
	}{
		"empty":        {t.Context(), "\n", replay.Point{}, replay.ErrEmpty},
		"no metadata":  {t.Context(), said("one"), replay.Point{}, replay.ErrNoMeta},
		"cancelled":    {cancelled, metaLine, replay.Point{}, context.Canceled},
		"no such line": {t.Context(), metaLine + said("one"), replay.AfterLine(3), replay.ErrNoPoint},
		"no such turn": {t.Context(), metaLine + said("one"), replay.AfterTurn(2), replay.ErrNoPoint},
		"no ordinals":  {t.Context(), metaLine + said("one"), replay.AfterOrdinal(0), replay.ErrNoPoint},
		"plain events": {t.Context(), `{"type":"session_meta","item":{"id":"i"},"seq":0}` + "\n" + `{"type":"user_message","item":{"text":"one"},"seq":1}` + "\n", replay.Point{}, errors.ErrUnsupported},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			_, err := replay.Reconstruct(c.ctx, session(t, c.lines), name, &replay.Options{At: c.at})
			if !errors.Is(err, c.err) {
				t.Errorf("got %v, want %v", err, c.err)
			}
		})
	}
	if _, err := replay.Reconstruct(t.Context(), memfs.New(nil), name, nil); !errors.Is(err, fs.ErrNotExist) || errors.Is(err, replay.ErrNoBase) {
		t.Errorf("missing: %v", err)
	}
}

func TestPoints(t *testing.T) {
	t.Parallel()
	a, b := rolloutID(1), rolloutID(2)
	number := func(lines string, from int) string {
		var out strings.Builder
		for l := range strings.Lines(lines) {
			out.WriteString(strings.Replace(l, `"type"`, fmt.Sprintf(`"ordinal":%d,"type"`, from), 1))
			from += 2 // with gaps
		}
		return out.String()
	}
	talk := func(id, text string) string {
		return started(id) + said(text) + happening("item_completed", `,"item":{"type":"UserMessage","content":[]}`) + answered("re "+text) + ended(id)
	}
	first := number(envelope("session_meta", `{"id":"`+a+`"}`)+talk("t1", "one")+talk("t2", "two"), 0) // 11 lines, ordinals 0 to 20
	own := number(strings.Replace(child(b, a, len(first)), `"end_ordinal_exclusive":0`, `"end_ordinal_exclusive":22`, 1)+talk("t3", "three"), 22)
	tr := newTree(t, map[string]string{a: first, b: own})
	for _, c := range []struct {
		at   replay.Point
		want string
		open bool
	}{
		{replay.Point{}, "u:one a:re one u:two a:re two u:three a:re three", false},
		{replay.AfterLine(0), "u:one a:re one u:two a:re two", false},
		{replay.AfterLine(2), "u:one a:re one u:two a:re two", true},
		{replay.AfterLine(3), "u:one a:re one u:two a:re two u:three", true},
		{replay.AfterLine(6), "u:one a:re one u:two a:re two u:three a:re three", false},
		{replay.AfterTurn(0), "", false},
		{replay.AfterTurn(1), "u:one a:re one", false},
		{replay.AfterTurn(2), "u:one a:re one u:two a:re two", false},
		{replay.AfterTurn(3), "u:one a:re one u:two a:re two u:three a:re three", false},
		{replay.AfterOrdinal(4), "u:one", true},
		{replay.AfterOrdinal(7), "u:one", true},
		{replay.AfterOrdinal(8), "u:one a:re one", true},
		{replay.AfterOrdinal(20), "u:one a:re one u:two a:re two", false},
		{replay.AfterOrdinal(26), "u:one a:re one u:two a:re two u:three", true},
		{replay.AfterOrdinal(1000), "u:one a:re one u:two a:re two u:three a:re three", false},
	} {
		for _, seekable := range []bool{true, false} {
			find := func(ctx context.Context, id string) (store.Source, string, error) {
				return view{Source: tr, seekable: seekable}, tr.names[id], nil
			}
			s, err := replay.Reconstruct(t.Context(), view{Source: tr, seekable: seekable}, tr.names[b], &replay.Options{At: c.at, Find: find})
			must(t, err)
			if got := brief(t, s.Items); got != c.want || s.Incomplete != c.open || s.Meta.ID != b {
				t.Errorf("%+v, seekable %v: got %s, incomplete %v, of %s\nwant %s, incomplete %v", c.at, seekable, got, s.Incomplete, s.Meta.ID, c.want, c.open)
			}
		}
	}
}

// TestReconstructIsOneHistory holds against each other, over sessions made at
// random: reading backward and forward, a point and the session cut there and,
// where that is what Codex does, the items one after the other.
func TestReconstructIsOneHistory(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		rng := rand.New(rand.NewPCG(seed, 7))
		content, lines := randomSession(rng)
		src := session(t, content)
		versions := []string{"", "0.150.0", "0.98.0"}
		for _, version := range versions {
			o := replay.Options{Version: version}
			whole, err := replay.Reconstruct(t.Context(), src, name, &o)
			must(t, err)
			forward, err := replay.Reconstruct(t.Context(), view{Source: src}, name, &o)
			must(t, err)
			if !reflect.DeepEqual(whole, forward) {
				t.Fatalf("seed %d, version %q: backward\n%s\nforward\n%s\n%s", seed, version, brief(t, whole.Items), brief(t, forward.Items), content)
			}
			if version == "0.98.0" {
				if got, want := brief(t, whole.Items), oneByOne(lines); got != want {
					t.Fatalf("seed %d: got\n%s\nwant\n%s\n%s", seed, got, want, content)
				}
			}
			n := rng.IntN(len(lines)) + 1
			o.At = replay.AfterLine(n)
			at, err := replay.Reconstruct(t.Context(), src, name, &o)
			must(t, err)
			o.At = replay.Point{}
			cut, err := replay.Reconstruct(t.Context(), session(t, strings.Join(strings.SplitAfter(content, "\n")[:n], "")), name, &o)
			must(t, err)
			if !reflect.DeepEqual(at, cut) {
				t.Fatalf("seed %d, version %q: after line %d\n%s\ncut there\n%s\n%s", seed, version, n, brief(t, at.Items), brief(t, cut.Items), content)
			}
		}
		if !strings.Contains(content, "thread_rolled_back") {
			s, err := replay.Reconstruct(t.Context(), src, name, nil)
			must(t, err)
			if got, want := brief(t, s.Items), oneByOne(lines); got != want {
				t.Fatalf("seed %d: got\n%s\nwant\n%s\n%s", seed, got, want, content)
			}
		}
	}
}

// A step is a line of a session: its kind and its words.
type step struct {
	kind  string
	words []string
	n     int
}

// randomSession makes a session and says what is in it, line by line.
func randomSession(rng *rand.Rand) (content string, steps []step) {
	var b strings.Builder
	add := func(l string, s step) {
		b.WriteString(l)
		steps = append(steps, s)
	}
	word := 0
	next := func() string { word++; return fmt.Sprintf("w%d", word) }
	add(metaLine, step{kind: "meta"})
	tasks, rollbacks := rng.IntN(4) > 0, rng.IntN(2) > 0
	for turn := range rng.IntN(8) {
		id := fmt.Sprintf("t%d", turn)
		if tasks {
			add(started(id), step{kind: "start"})
		}
		for range rng.IntN(7) {
			switch rng.IntN(9) {
			case 0, 1:
				w := next()
				add(said(w), step{kind: "said", words: []string{w}})
			case 2, 3:
				w := next()
				add(answered(w), step{kind: "answer", words: []string{w}})
			case 4:
				add(settings(id, next()), step{kind: "settings"})
			case 5:
				if rng.IntN(2) == 0 {
					continue
				}
				w := []string{next(), next()}
				add(compactedTo(messageJSON("user", w[0]), messageJSON("user", w[1])), step{kind: "compacted", words: w})
			case 6:
				if rng.IntN(2) == 0 {
					continue
				}
				w := next()
				add(envelope("compacted", `{"message":"`+w+`"}`), step{kind: "summary", words: []string{w}})
			case 7:
				add([]string{"{bad\n", "\n", "{}\n", said("a")[:20] + said("b")}[rng.IntN(4)], step{kind: "damage"})
			case 8:
				add(world(rng.IntN(2) == 0, `{"`+next()+`":1}`), step{kind: "world"})
			}
		}
		switch rng.IntN(6) {
		case 0:
			add(happening("turn_aborted", `,"turn_id":"`+id+`"`), step{kind: "end"})
		case 1: // cut off
		default:
			if tasks {
				add(ended(id), step{kind: "end"})
			}
		}
		if rollbacks && rng.IntN(3) == 0 {
			n := rng.IntN(4)
			add(rolledBack(n), step{kind: "rollback", n: n})
		}
	}
	return b.String(), steps
}

// oneByOne goes through a session from its beginning, as Codex does while it goes on.
func oneByOne(steps []step) string {
	var items []string
	isTurn := func(item string) bool { return strings.HasPrefix(item, "u:") }
	for _, s := range steps {
		switch s.kind {
		case "said":
			items = append(items, "u:"+s.words[0])
		case "answer":
			items = append(items, "a:"+s.words[0])
		case "compacted":
			items = []string{"u:" + s.words[0], "u:" + s.words[1]}
		case "summary":
			items = append(slices.DeleteFunc(items, func(item string) bool { return !isTurn(item) }), "u:"+s.words[0])
		case "rollback":
			for n := s.n; n > 0; n-- {
				i := len(items) - 1
				for i >= 0 && !isTurn(items[i]) {
					i--
				}
				if i < 0 {
					break
				}
				items = items[:i]
			}
		}
	}
	return strings.Join(items, " ")
}

func FuzzReconstruct(f *testing.F) {
	for seed := range uint64(20) {
		content, _ := randomSession(rand.New(rand.NewPCG(seed, 8)))
		f.Add([]byte(content), int(seed))
	}
	f.Fuzz(func(t *testing.T, content []byte, n int) {
		src := session(t, string(content))
		for _, at := range []replay.Point{{}, replay.AfterLine(n), replay.AfterTurn(n), replay.AfterOrdinal(uint64(n))} {
			o := &replay.Options{At: at}
			backward, err := replay.Reconstruct(t.Context(), src, name, o)
			forward, forwardErr := replay.Reconstruct(t.Context(), view{Source: src}, name, o)
			if !reflect.DeepEqual(backward, forward) || (err == nil) != (forwardErr == nil) {
				t.Fatalf("%+v: backward %+v, %v\nforward %+v, %v", at, backward, err, forward, forwardErr)
			}
			if err != nil {
				continue
			}
			for _, item := range backward.Items {
				if !json.Valid(item) {
					t.Fatalf("not JSON: %q", item)
				}
			}
		}
	})
}

func TestReconstructReadsTheTail(t *testing.T) {
	t.Parallel()
	old := turn("t0", said("one"), answered(strings.Repeat("long ", 20_000)))
	content := metaLine + strings.Repeat(old, 200) + // 20 MB
		turn("t1", compactedTo(messageJSON("user", "sum"))) + strings.Repeat(turn("t2", said("two"), answered("2")), 500)
	for title, st := range map[string]interface {
		store.Source
		store.Sink
	}{
		"plain":  memfs.New(nil),
		"sealed": blob.New(memblob.OpenBucket(nil), &blob.Options{SpoolDir: t.TempDir()}),
	} {
		t.Run(title, func(t *testing.T) {
			log, err := st.Create(t.Context(), name)
			must(t, err)
			must(t, log.Append([]byte(content)))
			must(t, log.Seal(t.Context()))
			must(t, log.Close())
			count := &counts{}
			s, err := replay.Reconstruct(t.Context(), view{Source: st, seekable: true, count: count}, name, nil)
			must(t, err)
			if len(s.Items) != 1001 || brief(t, s.Items[:1]) != "u:sum" {
				t.Errorf("got %d items", len(s.Items))
			}
			if count.opens != 1 || count.ranges > 5 || count.bytes > 2<<20 {
				t.Errorf("%d bytes were read in %d ranges of %d files", count.bytes, count.ranges, count.opens)
			}
		})
	}
}

func TestReconstructLongLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 9<<20)
	s, err := replay.Reconstruct(t.Context(), session(t, metaLine+turn("t1", said("one"), answered(long))+turn("t2", said("two"))), name, nil)
	must(t, err)
	if got := brief(t, s.Items); got != "u:one a:"+long+" u:two" {
		t.Errorf("got %d bytes: %.100s", len(got), got)
	}
}
