//go:build linux

package codex

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout"
	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/replay"
)

// cut is how Codex cuts the outputs of tools for a model that it does not know.
var cut = replay.Truncation{Mode: "bytes", Limit: 10_000}

// check reconstructs a thread, lets Codex, started anew, go on with it, and compares.
// The thread is one turn longer afterwards.
func (r *run) check(id string) {
	r.t.Helper()
	r.halt()
	r.last = id
	state := r.reconstruct(id, replay.Point{})
	r.restart()
	r.open("thread/resume", object{"threadId": id})
	path := r.path(id)
	before, err := os.Stat(path)
	must(r.t, err)
	n := r.model.count()
	r.say(id, "next")
	inputs := r.model.since(n)
	if len(inputs) == 0 {
		r.t.Fatal("the model was asked nothing")
	}
	after, err := os.ReadFile(path)
	must(r.t, err)
	r.checks++
	if err := compare(r.version, state, inputs[0], added(after[before.Size():])); err != nil {
		r.t.Errorf("check %d, thread %s: %v", r.checks, id, err)
	}
}

func (r *run) reconstruct(id string, at replay.Point) *replay.State {
	r.t.Helper()
	h, err := rollout.Open(r.dir)
	must(r.t, err)
	defer h.Close()
	state, err := h.Reconstruct(r.t.Context(), uuid.MustParse(id), &replay.Options{At: at, Version: r.version, Truncation: cut})
	must(r.t, err)
	return state
}

// added returns the response items among the lines that a turn added.
func added(lines []byte) (items []json.RawMessage) {
	for line := range bytes.Lines(lines) {
		it, err := codec.DecodeItem(bytes.TrimSuffix(line, []byte("\n")))
		if err == nil && it.Type == codec.TypeResponseItem {
			items = append(items, it.Payload)
		}
	}
	return items
}

// compare tells how what the model was sent differs from a state and what the turn
// added, one after the other and nothing else.
func compare(version string, state *replay.State, in input, added []json.RawMessage) error {
	sent := in.items
	if in.instructions == "" {
		// 0.169 has no place of their own for the instructions, and sends them first.
		if err := checkInstructions(state.Meta, sent); err != nil {
			return err
		}
		sent = sent[1:]
	}
	want := state.Items
	if !atLeast(version, "0.118.0") {
		// 0.98 puts the turn's context also in front of what is left by a compaction
		// without its outcome.
		for i := 0; i < len(added) && len(sent) > 0 && isContext(sent[0]) && same(sent[0], added[i]) && !same(sent[0], want[0]); i++ {
			sent = sent[1:]
		}
	}
	for i, item := range want {
		if i == len(sent) {
			return fmt.Errorf("the model is sent %d items and not %d", i, len(want))
		}
		if !same(item, sent[i]) {
			return fmt.Errorf("item %d of %d (%d) differs:\nours  %.600s\nCodex %.600s", i, len(want), len(sent), item, sent[i])
		}
	}
	for i, item := range sent[len(want):] {
		if i == len(added) || !same(item, added[i]) {
			return fmt.Errorf("the model is sent item %d, which is neither in our %d nor added by the turn: %.600s", len(want)+i, len(want), item)
		}
	}
	last := sent[len(sent)-1]
	if !bytes.Contains(last, []byte(`"next"`)) {
		return fmt.Errorf("the last item is not the prompt: %.600s", last)
	}
	return nil
}

// checkInstructions tells whether an input begins with the base instructions, of
// which parts are left out that are about tools which are not there.
func checkInstructions(meta *codec.SessionMeta, sent []json.RawMessage) error {
	var first codec.Message
	if len(sent) > 0 {
		_ = json.Unmarshal(sent[0], &first)
	}
	id, err := uuid.Parse(strings.TrimPrefix(first.ID, "msg_"))
	if err != nil || id.Version() != 5 || first.Role != "developer" || len(first.Content) != 1 {
		return fmt.Errorf("the first item is not the instructions: %+v", first)
	}
	if meta.BaseInstructions == nil {
		return nil
	}
	rest := strings.Split(meta.BaseInstructions.Text, "\n")
	for line := range strings.SplitSeq(first.Content[0].Text, "\n") {
		for len(rest) > 0 && rest[0] != line {
			rest = rest[1:]
		}
		if len(rest) == 0 {
			return fmt.Errorf("the first item is not the instructions: %q", line)
		}
	}
	return nil
}

func isContext(item json.RawMessage) bool {
	var m codec.Message
	return json.Unmarshal(item, &m) == nil && len(m.Content) > 0 &&
		(m.Role == "developer" || m.Role == "user" && codec.Injected(m.Content[0].Text))
}

// same compares two items, but for what Codex keeps of its own.
func same(a, b json.RawMessage) bool {
	var x, y map[string]any
	if json.Unmarshal(a, &x) != nil || json.Unmarshal(b, &y) != nil {
		return false
	}
	for _, m := range []map[string]any{x, y} {
		delete(m, "internal_chat_message_metadata_passthrough")
	}
	return reflect.DeepEqual(x, y)
}

// seal compresses a rollout and moves it to the archive.
func seal(t *testing.T, path string) {
	t.Helper()
	b, err := os.ReadFile(path)
	must(t, err)
	home := path[:strings.Index(path, "/sessions/")]
	dir := filepath.Join(home, "archived_sessions")
	must(t, os.MkdirAll(dir, 0o700))
	f, err := os.Create(filepath.Join(dir, filepath.Base(path)+".zst"))
	must(t, err)
	s := codec.NewSealer(f, time.Time{})
	_, err = io.Copy(s, bytes.NewReader(b))
	must(t, err)
	must(t, s.Close())
	must(t, f.Close())
	must(t, os.Remove(path))
}
