package mirror_test

import (
	"strings"
	"testing"
	"time"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store/memfs"
)

// What the simulation found once, as short stories.

// A file that was beside another of its name is the first one when that is gone: a
// rewrite of it supersedes, and its path is told.
func TestPushSecondBecomesFirst(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	h := tm.newHome(t, "a")
	h.write(file, "one\n")
	h.write(archived, "one\n")
	h.push()
	h.remove(file)
	h.write(archived, "ONE\n")
	if r := h.push(); r.Actions[mirror.Rewritten] != 1 {
		t.Errorf("%v", r.Actions)
	}
	if got := tm.objects(t)[key]; got != "ONE\n" {
		t.Errorf("current is %q", got)
	}
	if told := tm.facts(t, "a"); len(told) != 1 || told[archived].Path == "" {
		t.Errorf("told is %v", told)
	}
}

// What a rollout begins with is not forgotten when its parent and the state are gone.
func TestPushKeepsPins(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	h := tm.newHome(t, "a")
	parent, child := rolloutFile(1, 20), rolloutFile(2, 20)
	content := meta(rolloutID(1), "", 0)
	h.write(parent, content)
	h.write(child, meta(rolloutID(2), rolloutID(1), len(content)))
	h.push()
	h.remove(parent)
	h.loseState()
	h.push()
	if b := tm.facts(t, "a")[child].Base; b == nil || b.SHA256 != sha(content) {
		t.Errorf("%s begins with %+v", child, b)
	}
}

// Each file has one outcome, also when two have one name and only the second of
// them begins with another rollout of the pass.
func TestPushTellsOnce(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	h := tm.newHome(t, "a")
	h.write(rolloutFile(2, 20), meta(rolloutID(2), "", 0))
	h.write(file, "this says nothing of what it begins with, and is longer than what is in the archive"+strings.Repeat(".", 1000)+"\n")
	h.write(archived, meta(rolloutID(1), rolloutID(2), 1))
	times := map[string]int{}
	if _, err := h.pushWith(func(o *mirror.Pushing) { o.Each = func(o mirror.Outcome) { times[o.Path]++ } }); err != nil {
		t.Fatal(err)
	}
	for path, n := range times {
		if n != 1 {
			t.Errorf("%s has %d outcomes", path, n)
		}
	}
}

// Of a file whose time is in the future nothing is asked again once it was pushed.
func TestPushOfTheFutureRests(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	h := tm.newHome(t, "a")
	h.writeAt(file, "one\n", h.now.Add(24*time.Hour))
	for i, want := range []mirror.Action{mirror.Waiting, mirror.Uploaded, mirror.Unchanged, mirror.Unchanged} {
		if r := h.push(); r.Actions[want] != 1 {
			t.Errorf("push %d: %v, want %s", i+1, r.Actions, want)
		}
	}
}

// A session that was reverted gets the newest of the names that its rollouts had.
func TestRestoreNewestName(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	h := tm.newHome(t, "a")
	name := func(name, at string) {
		h.write("session_index.jsonl", `{"id":"`+id+`","thread_name":"`+name+`","updated_at":"2026-11-20T`+at+`Z"}`+"\n")
	}
	reverted := strings.TrimSuffix(file, ".jsonl") + "_01a1f81e-6bb9-7000-8000-000000000002.jsonl"
	name("old", "09:00:00")
	h.write(file, "one\n")
	h.write(reverted, "two\n")
	h.push()
	for _, gone := range []string{file, reverted} {
		other := map[string]string{file: reverted, reverted: file}[gone]
		content := h.read(gone)
		h.remove(gone)
		name("new of "+other, "10:00:00")
		h.push()
		b := memfs.New(nil)
		if _, err := mirror.Restore(ctx, mirror.Restoring{Home: b, Mirror: tm.mirror}); err != nil {
			t.Fatal(err)
		}
		index, err := readAll(b, "session_index.jsonl")
		if err != nil {
			t.Fatal(err)
		}
		names, err := codec.ReadThreadNames(strings.NewReader(index))
		if got := names[id].Name; err != nil || got != "new of "+other {
			t.Errorf("without %s: %q, %v", gone, got, err)
		}
		name("old", "09:00:00")
		h.write(gone, content)
		h.push()
	}
}
