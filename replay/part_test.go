package replay_test

import (
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"

	"github.com/rollout-sync/rollout/replay"
)

// places returns where items are and what they are: line:offset:type.
func itemPlaces(t testing.TB, items iter.Seq2[replay.Item, error]) (list []string) {
	t.Helper()
	for it, err := range items {
		must(t, err)
		list = append(list, fmt.Sprintf("%d:%d:%s", it.Line, it.Offset, it.Type))
	}
	return list
}

func userMessage(text string) string { return happening("user_message", `,"message":`+quote(text)) }

func TestLoadLast(t *testing.T) {
	t.Parallel()
	const bare = `{"id":"x","timestamp":"2025-07-20T10:00:00Z"}` + "\n"
	bareMessage := func(text string) string { return messageJSON("user", text) + "\n" }
	paginated := happening("item_completed", `,"item":{"type":"UserMessage","content":[]}`)
	for title, c := range map[string]struct{ before, last string }{
		"turns of today": {
			metaLine + turn("t1", said("one"), userMessage("one"), answered("1")),
			started("t2") + settings("t2", "m") + said("two") + userMessage("two") + answered("2") + call("c") + result("c", "x") + ended("t2"),
		},
		"paginated": {
			metaLine + turn("t1", said("one"), paginated, answered("1")),
			started("t2") + world(true, "{}") + settings("t2", "m") + said("two") + paginated + answered("2"),
		},
		"without task_started": {
			metaLine + said("one") + userMessage("one") + settings("", "m") + answered("1"),
			said("two") + userMessage("two") + settings("", "m") + answered("2"),
		},
		"bare": {
			bare + bareMessage("one") + messageJSON("assistant", "1") + "\n",
			bareMessage("two") + messageJSON("assistant", "2") + "\n",
		},
		"torn":      {metaLine + turn("t1", said("one"), userMessage("one")), started("t2") + said("two") + userMessage("two") + "{torn"},
		"bad lines": {metaLine + turn("t1", userMessage("one")) + "bad\n", started("t2") + userMessage("two") + "\n\nbad\n" + answered("2")},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			src := session(t, c.before+c.last)
			all := itemPlaces(t, replay.Load(t.Context(), src, name))
			lines := strings.Count(c.before+c.last, "\n")
			if !strings.HasSuffix(c.last, "\n") {
				lines++
			}
			var want []string
			for it, err := range replay.Load(t.Context(), src, name) {
				must(t, err)
				switch {
				case it.Line == 1:
					want = append(want, fmt.Sprintf("%d:%d:%s", it.Line, it.Offset, it.Type))
				case it.Offset >= int64(len(c.before)):
					want = append(want, fmt.Sprintf("%d:%d:%s", it.Line-1-lines, it.Offset, it.Type))
				}
			}
			got := itemPlaces(t, replay.LoadLast(t.Context(), view{Source: src, seekable: true}, name))
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("got\n%s\nwant\n%s\nof\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"), strings.Join(all, "\n"))
			}
			// Where reading from the end is no use, all is read.
			if got := itemPlaces(t, replay.LoadLast(t.Context(), view{Source: src}, name)); strings.Join(got, "\n") != strings.Join(all, "\n") {
				t.Errorf("not seekable: got\n%s", strings.Join(got, "\n"))
			}
		})
	}
}

// What Load says of a whole session is said of a short one.
func TestLoadLastOfLittle(t *testing.T) {
	t.Parallel()
	for content, want := range map[string]error{"": replay.ErrEmpty, "\n \n": replay.ErrEmpty, eventLine: replay.ErrNoMeta} {
		var got error
		for _, err := range replay.LoadLast(t.Context(), view{Source: session(t, content), seekable: true}, name) {
			got = err
		}
		if !errors.Is(got, want) {
			t.Errorf("%q: got %v, want %v", content, got, want)
		}
	}
}

func TestLoadLastReadsTheTail(t *testing.T) {
	t.Parallel()
	long := turn("t", said("x"), userMessage("x"), answered(strings.Repeat("long ", 1000)))
	count := &counts{}
	src := view{Source: session(t, metaLine+strings.Repeat(long, 4000)), seekable: true, count: count}
	if got := itemPlaces(t, replay.LoadLast(t.Context(), src, name)); len(got) != 7 {
		t.Errorf("%d items", len(got))
	}
	if count.opens != 1 || count.ranges > 3 || count.bytes > 1<<20 {
		t.Errorf("%+v of %d bytes", *count, 4000*len(long))
	}
}

func TestLoadUntil(t *testing.T) {
	t.Parallel()
	first := metaLine + turn("t1", said("one"), userMessage("one"), answered("1"))
	second := turn("t2", said("two"), userMessage("two"))
	src := session(t, first+second)
	all := itemPlaces(t, replay.Load(t.Context(), src, name))
	for title, c := range map[string]struct {
		at   replay.Point
		want int // items
	}{
		"the end": {replay.Point{}, len(all)},
		"line 0":  {replay.AfterLine(0), 0},
		"line 3":  {replay.AfterLine(3), 3},
		"turn 1":  {replay.AfterTurn(1), strings.Count(first, "\n")},
		"turn 2":  {replay.AfterTurn(2), len(all)},
	} {
		got := itemPlaces(t, replay.LoadUntil(t.Context(), src, name, c.at, nil))
		if strings.Join(got, "\n") != strings.Join(all[:c.want], "\n") {
			t.Errorf("%s: got %d items, want %d", title, len(got), c.want)
		}
	}
	for _, at := range []replay.Point{replay.AfterTurn(3), replay.AfterLine(99)} {
		for _, err := range replay.LoadUntil(t.Context(), src, name, at, nil) {
			if !errors.Is(err, replay.ErrNoPoint) {
				t.Errorf("%+v: got %v", at, err)
			}
		}
	}
}

// Of a fork by reference the turns of its base count, and are not its own.
func TestLoadUntilOfAFork(t *testing.T) {
	t.Parallel()
	a, b := rolloutID(1), rolloutID(2)
	first := envelope("session_meta", `{"id":"`+a+`"}`) + turn("t1", said("one"), userMessage("one"))
	own := child(b, a, len(first)) + turn("t2", said("two"), userMessage("two"))
	tr := newTree(t, map[string]string{a: first, b: own + turn("t3", said("three"), userMessage("three"))})
	if got := itemPlaces(t, replay.LoadUntil(t.Context(), tr, tr.names[b], replay.AfterTurn(2), tr.find)); len(got) != strings.Count(own, "\n") {
		t.Errorf("%d items, want %d", len(got), strings.Count(own, "\n"))
	}
	for _, err := range replay.LoadUntil(t.Context(), tr, tr.names[b], replay.AfterTurn(0), tr.find) {
		if !errors.Is(err, replay.ErrNoPoint) {
			t.Errorf("got %v", err)
		}
	}
}

func TestEndOfTurns(t *testing.T) {
	t.Parallel()
	note := func(n int) string { return answered(fmt.Sprint(n)) }
	developer := envelope("response_item", messageJSON("developer", "x"))
	// A turn in the order of the versions of Codex, and in that of an agent that
	// records no more than it needs.
	dialects := map[string]func(n int) string{
		"0.118 and later": func(n int) string {
			return started("t") + settings("t", "m") + developer + said("x") + userMessage("x") + answered("y") + userMessage("and") + ended("t") + note(n)
		},
		"0.98": func(n int) string { return said("x") + userMessage("x") + settings("t", "m") + answered("y") + note(n) },
		"0.36": func(n int) string { return settings("t", "m") + said("x") + userMessage("x") + answered("y") + note(n) },
		"0.169": func(n int) string {
			return started("t") + said("x") + happening("item_completed", `,"item":{"type":"UserMessage"}`) +
				happening("item_completed", `,"item":{"type":"AgentMessage"}`) + ended("t") + note(n)
		},
		"bare": func(n int) string { return userMessage("x") + happening("agent_message", `,"message":"y"`) + note(n) },
	}
	for dialect, turn := range dialects {
		for title, c := range map[string]struct {
			parts []string
			turns int
			keep  int // parts; -1: an error
		}{
			"the first":        {[]string{turn(1), turn(2), turn(3)}, 1, 1},
			"the second":       {[]string{turn(1), turn(2), turn(3)}, 2, 2},
			"the last":         {[]string{turn(1), turn(2), turn(3)}, 3, 3},
			"too many":         {[]string{turn(1), turn(2)}, 3, -1},
			"rolled back":      {[]string{turn(1), turn(2) + rolledBack(1), turn(3), turn(4)}, 2, 3},
			"in front of that": {[]string{turn(1), turn(2) + rolledBack(1), turn(3)}, 1, 2},
			"all rolled back":  {[]string{turn(1), turn(2) + rolledBack(9)}, 1, -1},
			"behind a preface": {[]string{note(0) + turn(1), turn(2)}, 1, 1},
		} {
			src := session(t, metaLine+strings.Join(c.parts, ""))
			end, err := replay.EndOf(t.Context(), src, name, replay.AfterTurn(c.turns), nil)
			if c.keep < 0 {
				if !errors.Is(err, replay.ErrNoPoint) {
					t.Errorf("%s, %s: got %v", dialect, title, err)
				}
				continue
			}
			must(t, err)
			if want := len(metaLine + strings.Join(c.parts[:c.keep], "")); end != int64(want) && !(end == -1 && c.keep == len(c.parts)) {
				t.Errorf("%s, %s: got %d, want %d", dialect, title, end, want)
			}
		}
	}
}

// Turns are counted in the other forms too, though nothing marks them there.
func TestEndOfTurnsWithoutEvents(t *testing.T) {
	t.Parallel()
	bareMessage := func(role, text string) string { return messageJSON(role, text) + "\n" }
	plain := func(typ, text string) string {
		return `{"type":"` + typ + `","item":{"text":"` + text + `"},"seq":1}` + "\n"
	}
	for title, c := range map[string]struct {
		meta  string
		turns [2]string
	}{
		"bare lines": {
			`{"id":"5973b6c0-94b8-487b-a530-2aeb6098ae0e","timestamp":"2025-05-07T17:24:21Z","instructions":null}` + "\n",
			[2]string{
				bareMessage("user", "<environment_context>x</environment_context>") + bareMessage("user", "one") + `{"record_type":"state"}` + "\n" + bareMessage("assistant", "1"),
				bareMessage("user", "two") + bareMessage("assistant", "2"),
			},
		},
		"plain events": {
			`{"type":"session_meta","item":{"id":"5973b6c0-94b8-487b-a530-2aeb6098ae0e"},"seq":0}` + "\n",
			[2]string{plain("user_message", "one") + plain("assistant_message", "1"), plain("user_message", "two")},
		},
	} {
		src := session(t, c.meta+c.turns[0]+c.turns[1])
		for turn, want := range []int{len(c.meta), len(c.meta + c.turns[0])} {
			end, err := replay.EndOf(t.Context(), src, name, replay.AfterTurn(turn), nil)
			if err != nil || end != int64(want) {
				t.Errorf("%s, turn %d: got %d, %v, want %d", title, turn, end, err, want)
			}
		}
		if _, err := replay.EndOf(t.Context(), src, name, replay.AfterTurn(3), nil); !errors.Is(err, replay.ErrNoPoint) {
			t.Errorf("%s: got %v", title, err)
		}
	}
}
