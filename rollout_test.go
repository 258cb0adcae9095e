package rollout_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/gofrs/flock"
	"github.com/google/uuid"

	"github.com/rollout-sync/rollout"
	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/recorder"
	"github.com/rollout-sync/rollout/replay"
	"github.com/rollout-sync/rollout/store"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func openHome(t *testing.T) (home *rollout.Home, dir string) {
	t.Helper()
	dir = t.TempDir()
	home, err := rollout.Open(dir)
	must(t, err)
	t.Cleanup(func() { must(t, home.Close()) })
	return home, dir
}

var meta = recorder.Meta{Cwd: "/w", Originator: "test", CLIVersion: "1"}

func message(text string) codec.Item {
	return codec.Item{Type: codec.TypeEventMsg, Payload: fmt.Appendf(nil, `{"type":"user_message","message":%q}`, text)}
}

// record records a session that says text.
func record(t *testing.T, home *rollout.Home, text string) uuid.UUID {
	t.Helper()
	r, err := home.New(meta)
	must(t, err)
	must(t, r.Record(t.Context(), message(text)))
	must(t, r.Close(t.Context()))
	return r.ID()
}

// put writes a file of the home.
func put(t *testing.T, dir, name, content string) {
	t.Helper()
	file := filepath.Join(dir, filepath.FromSlash(name))
	must(t, os.MkdirAll(filepath.Dir(file), 0o700))
	must(t, os.WriteFile(file, []byte(content), 0o600))
}

// said returns what a session's items say, in order.
func said(t *testing.T, home *rollout.Home, id uuid.UUID) string {
	t.Helper()
	var all []string
	for it, err := range home.Replay(t.Context(), id) {
		must(t, err)
		if it.Type == codec.TypeEventMsg {
			_, text, _ := strings.Cut(string(it.Payload), `"message":"`)
			all = append(all, strings.TrimSuffix(text, `"}`))
		}
	}
	return strings.Join(all, " ")
}

func TestResume(t *testing.T) {
	t.Parallel()
	home, _ := openHome(t)
	id := record(t, home, "one")
	r, err := home.Resume(t.Context(), id)
	must(t, err)
	must(t, r.Record(t.Context(), message("two")))
	must(t, r.Close(t.Context()))
	if got := said(t, home, id); got != "one two" {
		t.Errorf("got %s", got)
	}
}

func TestMissingSession(t *testing.T) {
	t.Parallel()
	home, _ := openHome(t)
	record(t, home, "another")
	id := uuid.New()
	_, findErr := home.Find(t.Context(), id)
	_, resumeErr := home.Resume(t.Context(), id)
	var replayErr error
	for _, err := range home.Replay(t.Context(), id) {
		replayErr = err
	}
	for op, err := range map[string]error{"Find": findErr, "Resume": resumeErr, "Replay": replayErr} {
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), id.String()) {
			t.Errorf("%s: %v", op, err)
		}
	}
	if _, err := rollout.Open(filepath.Join(t.TempDir(), "missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open of a missing directory: %v", err)
	}
}

// A reverted session has two rollouts, of which the newer one counts.
func TestRevertedSession(t *testing.T) {
	t.Parallel()
	home, dir := openHome(t)
	id := uuid.MustParse("01a1f81e-6bb9-7000-8000-000000000001")
	line := func(text string) string {
		return `{"timestamp":"2026-11-20T08:41:45.701Z","type":"session_meta","payload":{"id":"` + id.String() + `","timestamp":"2026-11-20T08:41:45.672Z","cwd":"/w","originator":"test","cli_version":"1"}}` + "\n" +
			`{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"user_message","message":"` + text + `"}}` + "\n"
	}
	put(t, dir, "sessions/2026/11/20/rollout-2026-11-20T08-41-45-"+id.String()+".jsonl", line("old"))
	put(t, dir, "sessions/2026/11/20/rollout-2026-11-20T08-41-50-"+id.String()+"_01a1f81e-7f41-7000-8000-000000000002.jsonl", line("new"))
	if got := said(t, home, id); got != "new" {
		t.Errorf("got %s", got)
	}
	r, err := home.List(t.Context(), listing.Query{})
	must(t, err)
	if len(r.Items) != 2 {
		t.Errorf("%d items", len(r.Items))
	}
}

func TestArchivedSessionIsNotResumed(t *testing.T) {
	t.Parallel()
	home, dir := openHome(t)
	id := record(t, home, "hi")
	archive(t, home, dir, id)
	if _, err := home.Resume(t.Context(), id); !errors.Is(err, recorder.ErrNotResumable) {
		t.Errorf("got %v", err)
	}
	if got := said(t, home, id); got != "hi" {
		t.Errorf("got %s", got)
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	home, dir := openHome(t)
	named, unnamed := record(t, home, "a"), record(t, home, "b")
	name := func(id uuid.UUID) string {
		it, err := home.Find(t.Context(), id)
		must(t, err)
		if it.Name == nil {
			return ""
		}
		return *it.Name
	}
	if got := name(named); got != "" {
		t.Errorf("without an index the name is %q", got)
	}
	line := func(name string) string {
		return fmt.Sprintf(`{"id":%q,"thread_name":%q,"updated_at":"2026-11-20T08:41:46Z"}`, named, name) + "\n"
	}
	put(t, dir, "session_index.jsonl", line("first name")+line("second name"))
	if a, b := name(named), name(unnamed); a != "second name" || b != "" {
		t.Errorf("got %q and %q", a, b)
	}

	must(t, os.Remove(filepath.Join(dir, "session_index.jsonl")))
	must(t, os.Mkdir(filepath.Join(dir, "session_index.jsonl"), 0o700))
	place := home.Place()
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := place.Describe(ended, "", codec.Name{Session: named}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if _, err := place.Describe(t.Context(), "", codec.Name{Session: named}); err != nil {
		t.Errorf("an error was kept, or a directory read: %v", err)
	}
}

// While Codex has a session open it holds these locks, and while we have, it
// finds them held.
func TestLocksAreThoseOfCodex(t *testing.T) {
	t.Parallel()
	home, dir := openHome(t)
	id := record(t, home, "hi")
	it, err := home.Find(t.Context(), id)
	must(t, err)
	locks := filepath.Join(dir, "thread-writer-locks")
	revert := strings.TrimSuffix(it.Path, ".jsonl") + "_" + uuid.NewString() + ".jsonl"
	put(t, dir, "notes.jsonl", "")
	for name, file := range map[string]string{
		it.Path:               filepath.Join(locks, id.String()+".lock"),
		revert:                filepath.Join(locks, id.String()+".lock"),
		"session_index.jsonl": filepath.Join(dir, "session_index.jsonl.lock"),
		"notes.jsonl":         filepath.Join(dir, "notes.jsonl.lock"),
	} {
		codex := flock.New(file)
		must(t, codex.Lock())
		if _, err := home.Store().Lock(t.Context(), name); !errors.Is(err, store.ErrBusy) {
			t.Errorf("%s under Codex's lock: %v", name, err)
		}
		if name == it.Path {
			if _, err := home.Resume(t.Context(), id); !errors.Is(err, store.ErrBusy) {
				t.Errorf("Resume under Codex's lock: %v", err)
			}
		}
		must(t, codex.Unlock())

		unlock, err := home.Store().Lock(t.Context(), name)
		must(t, err)
		if held, err := codex.TryLock(); held || err != nil {
			t.Errorf("%s: Codex gets a lock that we have: %v", name, err)
		}
		must(t, unlock())
		if _, err := os.Stat(file); strings.HasPrefix(file, locks) != errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s afterwards: %v", file, err)
		}
	}
	if _, err := os.Stat(filepath.Join(locks, ".coordination.lock")); err != nil {
		t.Errorf("the gate: %v", err)
	}
}

func TestLatest(t *testing.T) {
	t.Parallel()
	home, dir := openHome(t)
	if _, err := home.Latest(t.Context(), ""); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in an empty home: %v", err)
	}
	older, newer := record(t, home, "older"), record(t, home, "newer")
	m := meta
	m.Cwd = "/elsewhere"
	r, err := home.New(m)
	must(t, err)
	must(t, r.Record(t.Context(), message("elsewhere")))
	must(t, r.Close(t.Context()))

	latest := func(cwd string) uuid.UUID {
		t.Helper()
		it, err := home.Latest(t.Context(), cwd)
		must(t, err)
		return it.ID
	}
	if latest("/w") != newer || latest("") != r.ID() {
		t.Errorf("got %v and %v", latest("/w"), latest(""))
	}
	archive(t, home, dir, newer)
	if latest("/w") != older {
		t.Errorf("got %v", latest("/w"))
	}
	if _, err := home.Latest(t.Context(), "/nowhere"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// archive moves a session as Codex does.
func archive(t *testing.T, home *rollout.Home, dir string, id uuid.UUID) {
	t.Helper()
	it, err := home.Find(t.Context(), id)
	must(t, err)
	must(t, os.MkdirAll(filepath.Join(dir, "archived_sessions"), 0o700))
	must(t, os.Rename(filepath.Join(dir, it.Path), filepath.Join(dir, "archived_sessions", filepath.Base(it.Path))))
}

func TestFork(t *testing.T) {
	t.Parallel()
	home, _ := openHome(t)
	parent := record(t, home, "one")
	r, err := home.Resume(t.Context(), parent)
	must(t, err)
	must(t, r.Record(t.Context(), message("two")))
	must(t, r.Close(t.Context()))
	for at, want := range map[replay.Point]string{{}: "one two three", replay.AfterTurn(1): "one three", replay.AfterLine(2): "one three"} {
		r, err := home.Fork(t.Context(), parent, at, meta)
		must(t, err)
		must(t, r.Record(t.Context(), message("three")))
		must(t, r.Close(t.Context()))
		if got := said(t, home, r.ID()); got != want {
			t.Errorf("%+v: got %s", at, got)
		}
		it, err := home.Find(t.Context(), r.ID())
		must(t, err)
		if it.ParentID == nil || *it.ParentID != parent.String() {
			t.Errorf("the parent is %v", it.ParentID)
		}
	}
	for _, at := range []replay.Point{replay.AfterTurn(3), replay.AfterLine(9), replay.AfterLine(0), replay.AfterOrdinal(1)} {
		if _, err := home.Fork(t.Context(), parent, at, meta); !errors.Is(err, replay.ErrNoPoint) {
			t.Errorf("%+v: got %v", at, err)
		}
	}
	if got := said(t, home, parent); got != "one two" {
		t.Errorf("the parent says %s", got)
	}
}

func TestDelete(t *testing.T) {
	t.Parallel()
	const id, other = "01a1f81e-6bb9-7000-8000-000000000001", "01a1f81e-6bb9-7000-8000-000000000002"
	const day = "sessions/2026/11/20/rollout-2026-11-20T08-41-45-"
	session := func(id, base string) string {
		if base != "" {
			base = `,"history_mode":"paginated","history_base":{"thread_id":"` + base + `","end_ordinal_exclusive":1,"end_byte_offset":1}`
		}
		return `{"timestamp":"2026-11-20T08:41:45.701Z","ordinal":1,"type":"session_meta","payload":{"id":"` + id +
			`","timestamp":"2026-11-20T08:41:45.672Z","cwd":"/w","originator":"test","cli_version":"1"` + base + "}}\n"
	}
	own := map[string]string{
		day + id + ".jsonl":     session(id, ""),
		day + id + ".jsonl.zst": "an older form",
		day + id + "_01a1f81e-7f41-7000-8000-000000000003.jsonl":         session(id, id), // after a revert
		"archived_sessions/rollout-2026-11-20T08-41-45-" + id + ".jsonl": session(id, ""),
	}
	name := func(id, name string) string {
		return fmt.Sprintf(`{"id":%q,"thread_name":%q,"updated_at":"2026-11-20T08:41:46Z"}`, id, name) + "\n"
	}
	for title, c := range map[string]struct {
		others map[string]string
		locked bool
		want   error
	}{
		"alone":            {nil, false, nil},
		"beside others":    {map[string]string{day + other + ".jsonl": session(other, "")}, false, nil},
		"with a writer":    {nil, true, store.ErrBusy},
		"of a fork":        {map[string]string{day + other + ".jsonl": session(other, id)}, false, rollout.ErrReferenced},
		"of its revert":    {map[string]string{day + other + ".jsonl": session(other, "01a1f81e-7f41-7000-8000-000000000003")}, false, rollout.ErrReferenced},
		"archived fork":    {map[string]string{"archived_sessions/rollout-2026-11-20T08-41-45-" + other + ".jsonl": session(other, id)}, false, rollout.ErrReferenced},
		"unreadable head":  {map[string]string{day + other + ".jsonl": session(other, id)[:90]}, false, rollout.ErrReferenced},
		"unreadable bytes": {map[string]string{day + other + ".jsonl.zst": "no zstd"}, false, rollout.ErrReferenced},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			home, dir := openHome(t)
			for file, content := range own {
				put(t, dir, file, content)
			}
			for file, content := range c.others {
				put(t, dir, file, content)
			}
			put(t, dir, "session_index.jsonl", name(id, "mine")+strings.TrimSpace(name(other, "theirs")))
			if c.locked {
				unlock, err := home.Store().Lock(t.Context(), day+id+".jsonl")
				must(t, err)
				defer func() { must(t, unlock()) }()
			}
			err := home.Delete(t.Context(), uuid.MustParse(id))
			if !errors.Is(err, c.want) {
				t.Errorf("got %v", err)
			}
			for file := range own {
				if _, err := os.Stat(filepath.Join(dir, file)); (err == nil) != (c.want != nil) {
					t.Errorf("%s: %v", file, err)
				}
			}
			for file := range c.others {
				if _, err := os.Stat(filepath.Join(dir, file)); err != nil {
					t.Error(err)
				}
			}
			names, err := listing.ThreadNames(t.Context(), home.Store())
			must(t, err)
			if (names[id].Name == "mine") != (c.want != nil) || names[other].Name != "theirs" {
				t.Errorf("names %v", names)
			}
			if err := home.Delete(t.Context(), uuid.MustParse(id)); !errors.Is(err, c.want) && !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("again: %v", err)
			}
		})
	}
}

func TestReconstructFindsTheParent(t *testing.T) {
	t.Parallel()
	home, dir := openHome(t)
	const parent, child = "01a1f81e-b96c-7071-a214-a4467b4a9b32", "01a1f81e-b96c-7071-a214-a4467b4a9b33"
	said := func(text string) string {
		return `{"timestamp":"t","ordinal":1,"type":"response_item","payload":{"type":"message","role":"user","content":[{"type":"input_text","text":"` + text + `"}]}}` + "\n"
	}
	first := `{"timestamp":"t","ordinal":0,"type":"session_meta","payload":{"id":"` + parent + `","history_mode":"paginated"}}` + "\n" + said("one")
	base := fmt.Sprintf(`{"thread_id":%q,"end_ordinal_exclusive":2,"end_byte_offset":%d}`, parent, len(first))
	put(t, dir, "sessions/2026/11/20/rollout-2026-11-20T08-41-46-"+child+".jsonl",
		`{"timestamp":"t","ordinal":2,"type":"session_meta","payload":{"id":"`+child+`","history_mode":"paginated","history_base":`+base+`}}`+"\n"+said("three"))
	id := uuid.MustParse(child)
	if _, err := home.Reconstruct(t.Context(), id, nil); !errors.Is(err, replay.ErrNoBase) {
		t.Errorf("without the parent: %v", err)
	}
	put(t, dir, "archived_sessions/rollout-2026-11-20T08-41-45-"+parent+".jsonl", first+said("two"))
	s, err := home.Reconstruct(t.Context(), id, nil)
	must(t, err)
	if got := fmt.Sprintf("%s", s.Items); strings.Count(got, `"text"`) != 2 || !strings.Contains(got, `"one"`) || !strings.Contains(got, `"three"`) {
		t.Errorf("got %s", got)
	}
	if _, err := home.Reconstruct(t.Context(), uuid.Nil, nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a session that is not there: %v", err)
	}
}
