//go:build linux

package codex

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout"
	"github.com/rollout-sync/rollout/store"
)

// Codex and we keep each other out of a thread. Codex has locked what it has open since
// July 2026; older ones lock nothing.
func init() {
	scenarios = append(scenarios, scenario{name: "locks", kills: 2, from: "0.150.0", run: func(r *run) {
		id := r.start(r.mode)
		r.say(id, "one")
		path := r.path(id)
		before := rollouts(r.t, r.dir)
		h, err := rollout.Open(r.dir)
		must(r.t, err)
		defer h.Close()

		// Codex has it open.
		name, err := filepath.Rel(r.dir, path)
		must(r.t, err)
		if log, err := h.Store().Append(r.t.Context(), name); !errors.Is(err, store.ErrBusy) {
			r.t.Errorf("Append: %v", err)
			if err == nil {
				must(r.t, log.Close())
			}
		}
		if _, err := h.Resume(r.t.Context(), uuid.MustParse(id)); !errors.Is(err, store.ErrBusy) {
			r.t.Errorf("Resume: %v", err)
		}
		if err := h.Delete(r.t.Context(), uuid.MustParse(id)); !errors.Is(err, store.ErrBusy) {
			r.t.Errorf("Delete: %v", err)
		}
		items := turn(r.mode, "more", "call_a")
		r.ends(1, "another writer holds it", "record", "--resume", id)
		r.sync("push", "--idle", "0s", "--live")
		// A longer version, from another home, would replace it.
		other := *r.home
		other.dir = r.restored("other")
		(&run{home: &other, mode: r.mode}).record(items, "--resume", id)
		other.sync("push", "--idle", "0s")
		r.ends(3, "Codex has this session open", "restore", id)
		prune := []string{"prune", "--apply", "--same-device-ok", "--older-than", "0d"}
		poll(r.t, "a prune that comes to the open thread", func() bool { // once it is 2 s old
			out := r.sync(prune...)
			return strings.Contains(out, "Codex has this session open")
		})
		equal(r.t, rollouts(r.t, r.dir), before)
		r.say(id, "two")
		if b := rollouts(r.t, r.dir)[name]; !strings.HasPrefix(b, before[name]) || !strings.Contains(b, "two") {
			r.t.Errorf("Codex's turn is not in %s", name)
		}

		// Closed, it is anybody's.
		r.halt()
		must(r.t, os.WriteFile(path, []byte(before[name]), 0o600))
		r.forget()
		r.sync("restore", id)
		equal(r.t, rollouts(r.t, r.dir), rollouts(r.t, other.dir))
		r.check(id)

		// We have it open.
		r.halt()
		rec, err := h.Resume(r.t.Context(), uuid.MustParse(id))
		must(r.t, err)
		r.restart()
		for _, method := range []string{"thread/resume", "thread/archive"} {
			if _, err := r.call(method, object{"threadId": id}); err == nil || !strings.Contains(err.Error(), "already has an active writer") {
				r.t.Errorf("%s: %v", method, err)
			}
		}
		r.read(id)
		items = turn(r.mode, "while Codex waits", "call_b")
		must(r.t, rec.Record(r.t.Context(), items...))
		must(r.t, rec.Close(r.t.Context()))
		r.recorded(id, items)

		// The death of one lets the other in.
		r.halt()
		cmd := r.rollout("record", "--resume", id)
		in, err := cmd.StdinPipe()
		must(r.t, err)
		must(r.t, cmd.Start())
		items = turn(r.mode, "of one that is killed", "call_c")
		_, err = in.Write(lines(items))
		must(r.t, err)
		r.settle(id, "The answer to: of one that is killed") // it is on the disk, and the end of the input does not come
		r.restart()
		if _, err := r.call("thread/resume", object{"threadId": id}); err == nil || !strings.Contains(err.Error(), "already has an active writer") {
			r.t.Errorf("thread/resume: %v", err)
		}
		must(r.t, cmd.Process.Kill())
		_ = cmd.Wait() // it was killed
		r.recorded(id, items)
		r.kill() // with the thread open
		r.server = nil
		items = turn(r.mode, "after Codex was killed", "call_d")
		r.record(items, "--resume", id)
		r.recorded(id, items)

		// And pruned, when nobody has it open, it comes back.
		r.halt()
		r.sync("push", "--idle", "0s")
		before = rollouts(r.t, r.dir)
		poll(r.t, "a prune", func() bool { return strings.Contains(r.sync(prune...), "; the next prune frees the space") })
		r.sync(prune...)
		equal(r.t, rollouts(r.t, r.dir), nil)
		r.sync("restore", id)
		equal(r.t, rollouts(r.t, r.dir), before)
		r.check(id)
	}})
}

// ends runs rollout-sync, which has to say something and to end with a code.
func (h *home) ends(code int, says string, args ...string) {
	h.t.Helper()
	out, errs, is := h.try(strings.NewReader("{}"), args...)
	if is != code || !strings.Contains(out+errs, says) {
		h.t.Errorf("rollout-sync %s ends with %d, want %d and %q: %s%s", strings.Join(args, " "), is, code, says, out, errs)
	}
}
