package search_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/spf13/afero"

	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/replay"
	"github.com/rollout-sync/rollout/search"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/memfs"
)

// session returns a path in a home, the later the greater i is, and what lies there.
func session(i int, lines ...string) (path, content string) {
	id := fmt.Sprintf("019cb7a8-%04x-7000-8000-%012d", i, i)
	content = fmt.Sprintf(`{"timestamp":"2026-03-04T07:03:27Z","type":"session_meta","payload":{"id":"%s","timestamp":"2026-03-04T07:03:27Z","cwd":"/w","originator":"o","cli_version":"1"}}`+"\n", id)
	return "sessions/2026/03/04/rollout-2026-03-04T07-03-27-" + id + ".jsonl", content + strings.Join(lines, "\n") + "\n"
}

func event(typ, rest string) string {
	return `{"timestamp":"2026-03-04T07:03:28Z","type":"event_msg","payload":{"type":"` + typ + `",` + rest + `}}`
}

func item(typ, rest string) string {
	return `{"timestamp":"2026-03-04T07:03:28Z","type":"response_item","payload":{"type":"` + typ + `",` + rest + `}}`
}

func user(text string) string { return event("user_message", `"message":"`+text+`"`) }

// home returns a store of sessions, of which each has the lines.
func home(t *testing.T, sessions ...[]string) *memfs.Store {
	t.Helper()
	afs := afero.NewMemMapFs()
	for i, lines := range sessions {
		path, content := session(i, lines...)
		if err := afero.WriteFile(afs, path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return memfs.New(afs)
}

// in returns a Search of a home.
func in(t *testing.T, src store.Source, args ...string) *search.Search {
	t.Helper()
	q, err := search.Parse(args)
	if err != nil {
		t.Fatal(err)
	}
	return &search.Search{
		Query:  q,
		Places: []listing.Place{{Where: listing.Local, Source: src}},
		Source: func(it listing.Item) (store.Source, string, error) { return src, it.Path, nil },
		Hits:   3,
	}
}

// What of an entry is found, and what it is called.
func TestKinds(t *testing.T) {
	t.Parallel()
	const call = `"call_id":"1"`
	for _, c := range []struct {
		line string
		want string // "" is not found
	}{
		{user("needle"), "user"},
		{event("agent_message", `"message":"a needle"`), "assistant"},
		{event("agent_reasoning", `"text":"a needle"`), "reasoning"},
		{event("error", `"message":"needle"`), "error"},
		{item("function_call", `"name":"shell",`+call+`,"arguments":"{\"cmd\":\"find needle\"}"`), "call"},
		{item("function_call", `"name":"shell",`+call+`,"arguments":"{\"cmd\":\"find\",\"workdir\":\"/needle\"}"`), "call"},
		{item("function_call_output", call+`,"output":"\u001b[31mneedle\u001b[0m"`), "output"},
		{event("patch_apply_end", call+`,"success":true,"changes":{"/w/needle.go":{"type":"delete"}}`), "file"},
		{event("patch_apply_end", call+`,"success":true,"changes":{"/w/x.go":{"type":"update","unified_diff":"+needle"}}`), "file"},
		{event("entered_review_mode", `"prompt":"needle"`), "note"},
		{`{"timestamp":"t","type":"compacted","payload":{"message":"needle"}}`, "compaction"},
		{`{"type":"system","item":{"text":"needle"},"seq":1}`, "system"},
		{item("function_call", `"name":"needle",`+call+`,"arguments":"{}"`), ""},
		{item("reasoning", `"summary":[],"encrypted_content":"needle"`), ""},
		{item("message", `"role":"user","content":[{"type":"input_image","image_url":"data:needle"}]`), ""},
		{item("message", `"role":"developer","content":[{"type":"input_text","text":"needle"}]`), ""},
		{`{"timestamp":"t","type":"turn_context","payload":{"cwd":"/needle","model":"needle"}}`, ""},
		{"needle", ""},
	} {
		got := ""
		for s, err := range in(t, home(t, []string{c.line}), "needle").Sessions(t.Context()) {
			if err != nil || s.Err != nil {
				t.Fatal(err, s.Err)
			}
			got = string(s.Hits[0].Kind)
		}
		if got != c.want {
			t.Errorf("found as %q, want %q: %s", got, c.want, c.line)
		}
	}
}

func TestHits(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("word é ", 200)
	src := home(t, []string{user("nothing")}, []string{
		user("first " + long + "needle\\u001b]0;\\u0007 " + long), event("agent_message", `"message":"thread"`),
		user("second needle and thread"), event("agent_message", `"message":"THREAD, Needle"`), user("the needle"), user("a needle"),
	})
	var got []search.Session
	for s, err := range in(t, src, "needle").Sessions(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, s)
	}
	if len(got) != 1 || got[0].Total != 5 || len(got[0].Hits) != 3 {
		t.Fatalf("%+v", got)
	}
	if it := got[0].Item; it.Cwd == nil || *it.Cwd != "/w" || it.FirstUserMessage == nil {
		t.Errorf("the item does not tell what its head does: %+v", it)
	}
	h := got[0].Hits[0]
	if h.Match != "needle" || h.Line != 2 || h.Turn != 1 || h.Time == "" || len(h.Before) > 160 || len(h.After) > 410 ||
		!strings.HasPrefix(h.After, "␛]0;␇ word é") || !strings.HasSuffix(h.Before, " word é ") || strings.ContainsRune(h.Before+h.After, 0xfffd) {
		t.Errorf("%+v", h)
	}
	if h := got[0].Hits[1]; h != (search.Hit{Kind: replay.KindUser, Turn: 2, Line: 4, Time: h.Time, Before: "second ", Match: "needle", After: " and thread"}) {
		t.Errorf("%+v", h)
	}
	for s, err := range in(t, src, "thread", "needle").Sessions(t.Context()) {
		if err != nil || s.Total != 2 || s.Hits[0].Match != "thread" {
			t.Errorf("both in one entry: %+v, %v", s, err)
		}
	}
}

func TestParse(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		arg, text string
		found     bool
	}{
		{"lock", "a dead-lock", true},
		{"lock", "file_lock(2)", true},
		{"lock", "deadlock", false},
		{"lock", "locks", false},
		{"lock*", "the Locks", true},
		{"lock*", "deadlock", false},
		{"*", "a * b", true},
		{"a *", "a * b", true},
		{"foo.Bar()", "call FOO.bar() now", true},
		{"foo.Bar()", "xfoo.Bar()", false},
		{"two  words", "two\\n\\twords", true},
		{"two words", "twowords", false},
		{"->", "p->next", true},
		{"délta", "DÉLTA", true},
		{"kelvin", "\u212aelvin", false}, // its sign is another letter
		{"cafe", "cafe\u0301", false},
		{"100", "1000", false},
	} {
		found := false
		for s, err := range in(t, home(t, []string{user(c.text)}), c.arg).Sessions(t.Context()) {
			if err != nil || s.Err != nil {
				t.Fatal(err, s.Err)
			}
			found = true
		}
		if found != c.found {
			t.Errorf("%q in %q: %t", c.arg, c.text, found)
		}
	}
	for _, args := range [][]string{nil, {""}, {" \n"}, {"a", ""}} {
		if _, err := search.Parse(args); !errors.Is(err, search.ErrQuery) {
			t.Errorf("%q: %v", args, err)
		}
	}
	for _, args := range [][]string{nil, {"("}} {
		if _, err := search.ParseRegexp(args); !errors.Is(err, search.ErrQuery) {
			t.Errorf("regexp %q: %v", args, err)
		}
	}
}

func TestRegexp(t *testing.T) {
	t.Parallel()
	s := in(t, home(t, []string{user("port 8080")}, []string{user("port eighty")}), "x")
	var err error
	if s.Query, err = search.ParseRegexp([]string{`p..t`, `\d+`}); err != nil {
		t.Fatal(err)
	}
	n := 0
	for r, err := range s.Sessions(t.Context()) {
		if n++; err != nil || r.Hits[0].Match != "port" {
			t.Errorf("%+v, %v", r, err)
		}
	}
	if n != 1 {
		t.Errorf("%d sessions", n)
	}
}

// A counted source counts what is opened.
type counted struct {
	store.Source
	opens atomic.Int64
	fail  string // a part of the path of what cannot be opened
}

var errFailed = errors.New("failed")

func (c *counted) Open(ctx context.Context, name string) (store.File, error) {
	c.opens.Add(1)
	if c.fail != "" && strings.Contains(name, c.fail) {
		return nil, errFailed
	}
	return c.Source.Open(ctx, name)
}

// Sessions come newest first, and not many more are opened than are asked for.
func TestOrderAndEnd(t *testing.T) {
	t.Parallel()
	var all [][]string
	for i := range 500 {
		all = append(all, []string{user(fmt.Sprintf("needle %d", i))})
	}
	c := &counted{Source: home(t, all...)}
	n := 0
	for s, err := range in(t, c, "needle").Sessions(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if want := fmt.Sprintf(" %d", 499-n); s.Hits[0].After != want {
			t.Errorf("session %d is%s, not%s", n, s.Hits[0].After, want)
		}
		if n++; n == 3 {
			break
		}
	}
	if n := c.opens.Load(); n > 40 {
		t.Errorf("%d sessions were opened for three", n)
	}
}

func TestUnreadable(t *testing.T) {
	t.Parallel()
	c := &counted{Source: home(t, []string{user("needle")}, []string{user("needle")}, []string{user("needle")}), fail: "-8000-000000000001"}
	var got []string
	for s, err := range in(t, c, "needle").Sessions(t.Context()) {
		if err != nil {
			t.Fatal(err)
		}
		if s.Err != nil && (!errors.Is(s.Err, errFailed) || s.Total > 0) {
			t.Errorf("%+v", s)
		}
		got = append(got, fmt.Sprint(s.Total, s.Err != nil))
	}
	if want := "[1 false 0 true 1 false]"; fmt.Sprint(got) != want {
		t.Errorf("%v, want %s", got, want)
	}
}

func TestCancelled(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var last error
	for s, err := range in(t, home(t, []string{user("needle")}), "needle").Sessions(ctx) {
		if last = err; s.Err != nil {
			last = s.Err
		}
	}
	if !errors.Is(last, context.Canceled) {
		t.Errorf("error %v", last)
	}
}

// A fixed index says one thing of every session.
type fixed struct{ known, may bool }

func (f fixed) Select(context.Context, []search.Word) (func(path, version string) bool, error) {
	return func(string, string) bool { return f.known && !f.may }, nil
}

func (f fixed) Has(context.Context, string, string) bool { return f.known }

// A broken index fails, and says that it knows all.
type broken struct{}

func (broken) Select(context.Context, []search.Word) (func(path, version string) bool, error) {
	return nil, fs.ErrInvalid
}

func (broken) Has(context.Context, string, string) bool { return true }

func TestIndexRulesOut(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		index                   search.Index
		found, opens, unindexed int
	}{
		{nil, 2, 2, 0},
		{fixed{true, false}, 0, 0, 0},
		{fixed{true, true}, 2, 2, 0},
		{fixed{false, true}, 2, 2, 2},
		{broken{}, 2, 2, 2},
	} {
		src := &counted{Source: home(t, []string{user("needle")}, []string{user("needle")})}
		s := in(t, src, "needle")
		s.Index = map[string]search.Index{listing.Local: c.index}
		found, unindexed := 0, 0
		s.Unindexed = func(listing.Item) { unindexed++ }
		for _, err := range s.Sessions(t.Context()) {
			if err != nil {
				t.Fatal(err)
			}
			found++
		}
		if found != c.found || src.opens.Load() != int64(c.opens) || unindexed != c.unindexed {
			t.Errorf("%v: %d found, %d opened, %d not indexed; want %+v", c.index, found, src.opens.Load(), unindexed, c)
		}
	}
}
