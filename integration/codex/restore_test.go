//go:build linux

package codex

import (
	"bytes"
	"os"
	"path/filepath"
	"time"

	"gocloud.dev/blob/memblob"

	"github.com/rollout-sync/rollout"
	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store/blob"
	"github.com/rollout-sync/rollout/store/blob/mem"
)

// A rollout that was restored on a machine where nothing else is, with no databases,
// is gone on with; and a fork has the history that it had, although what it begins with
// was rewritten in the mirror since.
func init() {
	scenarios = append(scenarios, scenario{name: "restored", run: func(r *run) {
		id := r.start(r.mode)
		r.say(id, "one")
		r.say(id, "RUN:echo two")
		fork := r.fork(id, nil)
		r.say(fork, "of the fork")
		again := r.fork(fork, nil)
		r.say(again, "of the fork's fork")
		r.halt()

		m := blob.New(memblob.OpenBucket(nil), &blob.Options{Service: mem.Service()})
		defer m.Close()
		state := mirror.NewState()
		r.push(m, state)
		r.edit(id, func(b []byte) []byte { return bytes.ReplaceAll(b, []byte("RUN:echo two"), []byte("RUN:echo 2")) })
		if report := r.push(m, state); report.Actions[mirror.Rewritten] != 1 {
			r.t.Fatalf("the second push: %+v", report)
		}
		parent := r.path(id)
		r.restore(m, r.path(again))
		r.check(again)
		r.restore(m, parent)
		r.check(id)
	}})
}

func (r *run) push(m *blob.Store, state *mirror.State) mirror.Report {
	r.t.Helper()
	h, err := rollout.Open(r.dir)
	must(r.t, err)
	defer h.Close()
	report, err := mirror.Push(r.t.Context(), mirror.Pushing{
		Home: h.Store(), Mirror: m, State: state, Origin: "here", Now: func() time.Time { return time.Now().Add(time.Hour) },
	})
	must(r.t, err)
	for _, f := range report.Failures {
		r.t.Error(f.Path, f.Err)
	}
	return report
}

// restore restores a rollout into a new home, and goes on there.
func (r *run) restore(m *blob.Store, path string) {
	r.t.Helper()
	r.halt()
	name, err := codec.ParseName(filepath.Base(path))
	must(r.t, err)
	config, err := os.ReadFile(filepath.Join(r.dir, "config.toml"))
	must(r.t, err)
	dir := filepath.Join(filepath.Dir(r.dir), "restored-"+name.Rollout.String())
	must(r.t, os.Mkdir(dir, 0o700))
	must(r.t, os.WriteFile(filepath.Join(dir, "config.toml"), config, 0o600))
	h, err := rollout.Open(dir)
	must(r.t, err)
	defer h.Close()
	result, err := mirror.Restore(r.t.Context(), mirror.Restoring{Home: h.Store(), Mirror: m, Rollouts: []codec.Name{name}})
	must(r.t, err)
	for _, f := range result.Failures {
		r.t.Error(f.Key, f.Err)
	}
	r.dir = dir
	r.t.Logf("restored %v", result.Actions)
}
