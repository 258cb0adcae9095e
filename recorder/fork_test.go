package recorder_test

import (
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"github.com/spf13/afero"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/recorder"
	"github.com/rollout-sync/rollout/store/memfs"
)

var childID = uuid.MustParse("01a1f81e-b96c-7071-a214-0000000000ff")

const childName = "sessions/2026/11/20/rollout-2026-11-20T23-41-45-01a1f81e-b96c-7071-a214-0000000000ff.jsonl"

// childMeta is the least metadata of a fork, and childLine its line.
var (
	childMeta = recorder.Meta{ID: childID, Cwd: "/w", Originator: "test", CLIVersion: "1.2.3"}
	childLine = strings.NewReplacer(id.String()+`"`, childID.String()+`","forked_from_id":"`+id.String()+`"`).Replace(metaLine)
)

func TestForkKeepsEveryByte(t *testing.T) {
	t.Parallel()
	odd := `{"type":"from_the_future", "payload" : {"b":1e3,"a":"\u003c"}, "timestamp":"x","more":[null]}` + "\n"
	for title, c := range map[string]struct{ parent, child string }{
		"whole":           {noteLine("1") + odd + "\n" + "{damaged\n" + noteLine("2"), ""},
		"without newline": {noteLine("1") + strings.TrimSpace(noteLine("2")), noteLine("1") + noteLine("2")},
		"torn":            {noteLine("1") + noteLine("2")[:40], noteLine("1")},
		"long lines":      {strings.Repeat(noteLine(strings.Repeat("x", 700<<10)), 5), ""},
		"paginated":       {pagedLine(1, "1") + pagedLine(2, "2"), ""},
		"of a fork":       {strings.Replace(metaLine, id.String(), uuid.Nil.String(), 1) + noteLine("1"), ""},
	} {
		if c.child == "" {
			c.child = c.parent
		}
		t.Run(title, func(t *testing.T) {
			stores(t, func(t *testing.T, st recorder.Store) {
				write(t, st, name, metaLine+c.parent)
				r, err := recorder.Fork(t.Context(), recorder.Parent{Source: st, Name: name}, st, childMeta, at)
				must(t, err)
				must(t, r.Persist(t.Context()))
				want := childLine + metaLine + c.child
				if got := read(t, st, childName); got != want {
					t.Fatalf("got\n%.1000s\nwant\n%.1000s", got, want)
				}
				must(t, r.Record(t.Context(), note("+")))
				must(t, r.Close(t.Context()))
				if got := read(t, st, childName); got != want+noteLine("+") {
					t.Errorf("after Record it ends with %q", got[len(want):])
				}
				if got := read(t, st, name); got != metaLine+c.parent {
					t.Error("the parent was changed")
				}
			})
		})
	}
}

func TestForkAtAnOffset(t *testing.T) {
	t.Parallel()
	lines := []string{metaLine, noteLine("1"), "\n", noteLine("2")}
	whole := strings.Join(lines, "")
	for keep := range len(lines) + 1 {
		st := memfs.New(nil)
		write(t, st, name, whole)
		want := strings.Join(lines[:keep], "")
		r, err := recorder.Fork(t.Context(), recorder.Parent{Source: st, Name: name, End: int64(len(want))}, st, childMeta, at)
		must(t, err)
		must(t, r.Close(t.Context()))
		if keep == 0 { // all of it
			want = whole
		}
		if got := read(t, st, childName); got != childLine+want {
			t.Errorf("%d lines: got\n%s\nwant\n%s", keep, got, childLine+want)
		}
	}
	st := memfs.New(nil)
	write(t, st, name, whole)
	if _, err := recorder.Fork(t.Context(), recorder.Parent{Source: st, Name: name, End: int64(len(whole)) + 1}, st, childMeta, at); err == nil {
		t.Error("behind its end: no error")
	}
}

func TestForkRefuses(t *testing.T) {
	t.Parallel()
	for title, c := range map[string]struct {
		parent string
		want   error
	}{
		"by reference": {strings.Replace(pagedMeta(), `"history_mode"`, `"history_base":{"thread_id":"`+childID.String()+`","end_ordinal_exclusive":1,"end_byte_offset":1},"history_mode"`, 1), errors.ErrUnsupported},
		"no metadata":  {noteLine("1"), recorder.ErrNotResumable},
		"missing":      {"", fs.ErrNotExist},
	} {
		st := memfs.New(nil)
		if c.parent != "" {
			write(t, st, name, c.parent)
		}
		if _, err := recorder.Fork(t.Context(), recorder.Parent{Source: st, Name: name}, st, childMeta, at); !errors.Is(err, c.want) {
			t.Errorf("%s: %v", title, err)
		}
	}
}

// A fork that fails half way leaves nothing.
func TestForkFailsWhole(t *testing.T) {
	t.Parallel()
	parent := memfs.New(nil)
	write(t, parent, name, metaLine+strings.Repeat(noteLine(strings.Repeat("x", 700<<10)), 9))
	writes := 0
	st := memfs.New(&sick{Fs: afero.NewMemMapFs(), fail: func(op string) error {
		if op != "write" {
			return nil
		}
		if writes++; writes < 3 {
			return nil
		}
		return syscall.ENOSPC
	}})
	if _, err := recorder.Fork(t.Context(), recorder.Parent{Source: parent, Name: name}, st, childMeta, at); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("got %v", err)
	}
	if log, err := st.Create(t.Context(), childName); err != nil {
		t.Errorf("a part of the fork is left, or its lock: %v", err)
	} else {
		must(t, log.Close())
	}
}

func TestKeepCodex(t *testing.T) {
	t.Parallel()
	event := func(payload string) codec.Item {
		return codec.Item{Type: codec.TypeEventMsg, Payload: []byte(payload)}
	}
	response := func(typ string) codec.Item {
		return codec.Item{Type: codec.TypeResponseItem, Payload: []byte(`{"type":"` + typ + `","item":7}`)}
	}
	for _, c := range []struct {
		item              codec.Item
		legacy, paginated bool
	}{
		{codec.Item{Type: "turn_context"}, true, true},
		{codec.Item{Type: "compacted"}, true, true},
		{codec.Item{Type: "from_the_future", Payload: []byte(`{"type":"message"}`)}, false, false},
		{response("message"), true, true},
		{response("function_call_output"), true, true},
		{response("additional_tools"), false, false},
		{response("compaction_trigger"), false, false},
		{event(`{"type":"task_started"}`), true, true},
		{event(`{"type":"token_count"}`), true, true},
		{event(`{"type":"user_message"}`), true, false},
		{event(`{"type":"mcp_tool_call_end"}`), true, false},
		{event(`{"type":"agent_message_delta"}`), false, false},
		{event(`{"type":"exec_command_end"}`), false, false},
		{event(`{"type":"warning"}`), false, false},
		{event(`{"type":"item_completed","item":{"type":"AgentMessage"}}`), false, true},
		{event(`{"type":"item_completed","item":{"type":"Plan"}}`), true, true},
		{event(`"text"`), false, false},
	} {
		if got := recorder.KeepCodex(c.item, false); got != c.legacy {
			t.Errorf("legacy: %s %s: %v", c.item.Type, c.item.Payload, got)
		}
		if got := recorder.KeepCodex(c.item, true); got != c.paginated {
			t.Errorf("paginated: %s %s: %v", c.item.Type, c.item.Payload, got)
		}
	}
}

// What is not kept takes no ordinal, and nothing kept makes no file.
func TestKeep(t *testing.T) {
	t.Parallel()
	st := memfs.New(nil)
	keep := func(it codec.Item, paginated bool) bool {
		return paginated != strings.Contains(string(it.Payload), "drop")
	}
	o := &recorder.Options{Now: at.Now, Keep: keep}
	write(t, st, name, pagedMeta())
	r, err := recorder.Resume(t.Context(), st, name, o)
	must(t, err)
	must(t, r.Record(t.Context(), note("drop"), note("1"), note("drop"), note("2")))
	must(t, r.Close(t.Context()))
	if got := read(t, st, name); got != pagedMeta()+pagedLine(1, "1")+pagedLine(2, "2") {
		t.Errorf("got %q", got)
	}

	r, err = recorder.New(st, childMeta, o)
	must(t, err)
	must(t, r.Record(t.Context(), note("not in a legacy one")))
	must(t, r.Close(t.Context()))
	if got := read(t, st, childName); got != "" {
		t.Errorf("got %q", got)
	}
}
