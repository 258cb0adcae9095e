package mirror_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/memfs"
)

// statusHome is a home of three rollouts, of which the second was pushed and grew and
// the third was never pushed, and the state of its pushes.
func statusHome(t *testing.T) (home *memfs.Store, file string, ids []string) {
	t.Helper()
	home, m := memfs.New(nil), newTeam(t)
	ids = []string{
		"sessions/2026/11/20/rollout-2026-11-20T08-41-45-01a1f81e-6bb9-7000-8000-000000000001.jsonl",
		"sessions/2026/11/20/rollout-2026-11-20T08-41-45-01a1f81e-6bb9-7000-8000-000000000002.jsonl",
		"archived_sessions/rollout-2026-11-20T08-41-45-01a1f81e-6bb9-7000-8000-000000000003.jsonl",
	}
	at := time.Date(2026, 11, 20, 9, 0, 0, 0, time.UTC)
	putAt := func(name, content string, at time.Time, c store.Cond) string {
		v, err := home.Put(ctx, name, store.BytesBody([]byte(content), at), c)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	putAt(ids[0], "{}\n", at, store.Cond{IfAbsent: true})
	v := putAt(ids[1], "{}\n", at, store.Cond{IfAbsent: true})
	file = filepath.Join(t.TempDir(), "state.db")
	state, err := mirror.OpenState(file)
	if err != nil {
		t.Fatal(err)
	}
	now := func() time.Time { return time.Now().Add(time.Hour) } // what was written just now has settled
	_, err = mirror.Push(ctx, mirror.Pushing{Home: home, Mirror: m.mirror, State: state, Origin: "a", Now: now})
	if err := errors.Join(err, state.Close()); err != nil {
		t.Fatal(err)
	}
	putAt(ids[1], "{}\n{}\n", at.Add(time.Hour), store.Cond{IfVersion: v})
	putAt(ids[2], "{}\n", at.Add(2*time.Hour), store.Cond{IfAbsent: true})
	return home, file, ids
}

func TestStatus(t *testing.T) {
	t.Parallel()
	home, file, ids := statusHome(t)
	at := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	mirror.SetKeys(t, file, map[string]string{
		ids[0]:                           "diverged/" + ids[0][:len(ids[0])-len(".jsonl")] + "/a.jsonl",
		"sessions/2026/11/19/gone.jsonl": "",
	})
	got, err := mirror.ReadStatus(ctx, home, file, at.Add(24*time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	want := mirror.Status{Rollouts: 3, Pending: 2, Bytes: 9, Oldest: at, Behind: 1, Diverged: 1, Vanished: 1}
	ignoreRuns := cmpopts.IgnoreFields(mirror.Status{}, "Last", "Clean") // TestRuns
	if d := cmp.Diff(want, got, ignoreRuns); d != "" {
		t.Error(d)
	}

	// A time in the future is no age.
	got, err = mirror.ReadStatus(ctx, home, file, at.Add(-24*time.Hour))
	if err != nil || !got.Oldest.Equal(at.Add(-24*time.Hour)) {
		t.Errorf("oldest %v, %v", got.Oldest, err)
	}
}

func TestRuns(t *testing.T) {
	t.Parallel()
	home, file := memfs.New(nil), filepath.Join(t.TempDir(), "state.db")
	at := time.Date(2026, 11, 20, 10, 0, 0, 0, time.UTC)
	report := mirror.Report{Rollouts: 3, Actions: map[mirror.Action]int{mirror.Uploaded: 3}, Bytes: 9}
	good := mirror.NewRun(at, at.Add(time.Minute), report, nil)
	if d := cmp.Diff(mirror.Run{Begun: at, Ended: at.Add(time.Minute), Rollouts: 3, Actions: report.Actions, Bytes: 9, Clean: true}, good); d != "" {
		t.Error(d)
	}
	bad := mirror.NewRun(at.Add(time.Hour), at.Add(2*time.Hour), report, errors.Join(errors.New("no route to host"), io.EOF))
	if bad.Clean || bad.Err != "no route to host; EOF" {
		t.Errorf("%+v", bad)
	}
	for _, r := range []mirror.Report{
		{Failures: make([]mirror.Outcome, 1)}, {Foreign: make([]string, 1)}, {Vanished: make([]string, 1)},
	} {
		if mirror.NewRun(at, at, r, nil).Clean {
			t.Errorf("%+v is clean", r)
		}
	}
	total := int64(0)
	for _, step := range []struct {
		run         mirror.Run
		last, clean *mirror.Run
	}{
		{good, &good, &good},
		{bad, &bad, &good},
	} {
		mirror.RecordRun(t, file, step.run)
		total += step.run.Bytes
		step.last.Total = total
		got, err := mirror.ReadStatus(ctx, home, file, at)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(mirror.Status{Last: step.last, Clean: step.clean}, got); d != "" {
			t.Error(d)
		}
	}
}

// A state that is not there, that a push has, or that is none.
func TestStatusStates(t *testing.T) {
	t.Parallel()
	home, file, _ := statusHome(t)
	dir := t.TempDir()
	missing, damaged := filepath.Join(dir, "missing.db"), filepath.Join(dir, "damaged.db")
	if err := os.WriteFile(damaged, make([]byte, 64<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	held := filepath.Join(dir, "held.db")
	s, err := mirror.OpenState(held)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, test := range []struct {
		name, file    string
		status, check error
		pending       int
	}{
		{"pushed", file, nil, nil, 2},
		{"missing", missing, nil, nil, 3},
		{"held", held, mirror.ErrLocked, nil, 0},
		{"damaged", damaged, store.ErrCorrupt, store.ErrCorrupt, 0},
	} {
		st, err := mirror.ReadStatus(context.Background(), home, test.file, time.Now())
		if !errors.Is(err, test.status) || err == nil && st.Pending != test.pending {
			t.Errorf("%s: %d pending, %v", test.name, st.Pending, err)
		}
		if err := mirror.CheckState(test.file); !errors.Is(err, test.check) {
			t.Errorf("%s: %v", test.name, err)
		}
	}
	if _, err := os.Stat(missing); err == nil {
		t.Error("a look at the status makes a state")
	}
}

func ExampleReadStatus() {
	home := aHome() // one session, never pushed
	st, err := mirror.ReadStatus(context.Background(), home, "no-such-state.db", time.Now())
	check(err)
	fmt.Println(st.Pending, "of", st.Rollouts, "pending; pushed before:", st.Last != nil)
	// Output: 1 of 1 pending; pushed before: false
}
