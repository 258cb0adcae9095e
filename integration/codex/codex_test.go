//go:build linux

package codex

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout"
	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/integration/parts"
	"github.com/rollout-sync/rollout/recorder"
	"github.com/rollout-sync/rollout/replay"
)

const (
	legacy    = "legacy"
	paginated = "paginated"
)

// A run is one scenario with one version of Codex in one history mode.
type run struct {
	*home
	mode string
	*server
	checks int
	edited bool   // a file was changed in a way that Codex's databases do not know of
	last   string // thread that was checked
}

// restart starts Codex anew.
func (r *run) restart() {
	r.halt()
	r.server = r.serve()
}

// halt stops Codex.
func (r *run) halt() {
	if r.server != nil {
		r.server.stop()
		r.server = nil
	}
}

const pixel = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

type scenario struct {
	name string
	mode string // "": both
	from string // the oldest version that can do it
	to   string // and the newest
	// kills is how often Codex is killed.
	kills int
	run   func(*run)
}

var scenarios = []scenario{
	{name: "turns", run: func(r *run) {
		id := r.start(r.mode)
		r.say(id, "one: é 中 😀 \"quoted\" <b>&amp;</b> \u2028 tab\t")
		r.say(id, "two")
		_, err := r.call("thread/name/set", object{"threadId": id, "name": "a name"})
		must(r.t, err)
		r.check(id)
		r.check(id)
	}},
	{name: "tools", run: func(r *run) {
		id := r.start(r.mode)
		r.say(id, "RUN:echo hello")
		r.say(id, "PARALLEL:3")
		r.say(id, "RUN:echo failing >&2; exit 3")
		r.say(id, "RUN:printf '\\033[31mred\\033[0m\\000\\377'")
		r.say(id, "RUN:seq 1 100000")
		r.check(id)
		r.check(id)
	}},
	{name: "exec", run: func(r *run) {
		r.halt()
		must(r.t, r.exec("one"))
		h, err := rollout.Open(r.dir)
		must(r.t, err)
		defer h.Close()
		it, err := h.Latest(r.t.Context(), "")
		must(r.t, err)
		must(r.t, r.exec("resume", it.ID.String(), "RUN:echo two"))
		r.check(it.ID.String())
	}},
	{name: "images", run: func(r *run) {
		id := r.start(r.mode)
		r.say(id, "look", object{"type": "image", "url": pixel})
		file := filepath.Join(r.work, "x.png")
		must(r.t, os.WriteFile(file, png(), 0o600))
		r.say(id, "and here", object{"type": "localImage", "path": file})
		r.check(id)
	}},
	{name: "compaction by hand", run: func(r *run) {
		id := r.start(r.mode)
		r.say(id, "one")
		r.say(id, "RUN:echo two")
		r.compact(id)
		r.check(id)
		r.say(id, "three")
		r.compact(id)
		r.compact(id)
		r.say(id, "four")
		r.check(id)
		r.check(id)
	}},
	{name: "compaction by itself", run: func(r *run) {
		id := r.start(r.mode)
		r.say(id, "one")
		r.say(id, "TOKENS:200000")
		r.say(id, "three")
		r.check(id)
		r.say(id, "RUN:echo x\nTOKENS:200000") // in the middle of the turn
		r.check(id)
		r.check(id)
	}},
	{name: "fork", run: func(r *run) {
		id := r.start(r.mode)
		r.say(id, "one")
		second := r.say(id, "RUN:echo two")
		r.say(id, "three")
		fork := r.fork(id, nil)
		r.check(fork)
		r.say(fork, "of the fork")
		again := r.fork(fork, nil)
		r.say(again, "of the fork's fork")
		r.check(again)
		if atLeast(r.version, "0.150.0") {
			at := r.fork(id, object{"lastTurnId": second})
			r.halt()
			is, was := r.reconstruct(at, replay.Point{}), r.reconstruct(id, replay.AfterTurn(2))
			if !reflect.DeepEqual(is.Items, was.Items) {
				r.t.Errorf("a fork at turn 2 has %d items, and turn 2 %d", len(is.Items), len(was.Items))
			}
			r.check(at)
			if atLeast(r.version, "0.169.0") {
				at := r.fork(id, object{"beforeTurnId": second})
				r.say(at, "another second")
				r.check(at)
			}
		}
		r.check(id)
		r.fork(id, nil) // which is moved without a turn of its own
	}},
	{name: "fork after compaction", run: func(r *run) {
		id := r.start(r.mode)
		r.say(id, "one")
		r.compact(id)
		r.say(id, "two")
		fork := r.fork(id, nil)
		r.check(fork)
		r.compact(fork)
		r.say(fork, "three")
		r.check(fork)
	}},
	{name: "rollback", mode: legacy, to: "0.150.0", run: func(r *run) {
		id := r.start(r.mode)
		for _, word := range []string{"one", "RUN:echo two", "three", "four"} {
			r.say(id, word)
		}
		r.rollback(id, 1)
		r.check(id)
		r.rollback(id, 1) // of the first turn since a restart, which told the context again
		r.check(id)
		r.rollback(id, 2)
		r.say(id, "another three")
		r.check(id)
		r.rollback(id, 100)
		r.check(id)
	}},
	{name: "rollback over a compaction", mode: legacy, to: "0.150.0", run: func(r *run) {
		id := r.start(r.mode)
		r.say(id, "one")
		r.compact(id)
		r.say(id, "two")
		r.say(id, "TOKENS:200000")
		r.say(id, "RUN:echo four")
		r.rollback(id, 1)
		r.check(id)
		r.rollback(id, 3)
		r.check(id)
	}},
	{name: "revert", mode: paginated, from: "0.169.0", run: func(r *run) {
		id := r.start(r.mode)
		r.say(id, "one")
		second := r.say(id, "RUN:echo two")
		third := r.say(id, "three")
		r.revert(id, third)
		r.check(id)
		r.say(id, "another three")
		r.check(id)
		r.revert(id, second)
		r.check(id)
	}},
	{name: "revert over a compaction", mode: paginated, from: "0.169.0", run: func(r *run) {
		id := r.start(r.mode)
		r.say(id, "one")
		r.compact(id)
		second := r.say(id, "two")
		r.compact(id)
		third := r.say(id, "three")
		r.revert(id, third)
		r.check(id)
		r.revert(id, second)
		r.check(id)
	}},
	{name: "killed", kills: 3, run: func(r *run) {
		id := r.start(r.mode)
		r.say(id, "one")
		for _, word := range []string{"HANG", "CALLHANG:echo x", "RUN:echo begun; sleep 1000"} {
			n := r.model.count()
			if !r.loaded[id] {
				r.open("thread/resume", object{"threadId": id})
			}
			r.begin(id, word)
			r.model.await(n)
			switch word {
			case "CALLHANG:echo x":
				r.model.await(n + 1)
				r.settle(id, `"function_call_output"`)
			case "HANG":
				r.settle(id, "HANG")
			default:
				r.settle(id, `sleep 1000`+`\",`)
			}
			r.kill()
			r.server = nil
			r.check(id)
		}
	}},
	{name: "interrupted", run: func(r *run) {
		id := r.start(r.mode)
		r.say(id, "one")
		for _, word := range []string{"HANG", "RUN:echo begun; sleep 1000"} {
			n := r.model.count()
			turn := r.begin(id, word)
			r.model.await(n)
			if word != "HANG" {
				r.settle(id, `sleep 1000`+`\",`)
			}
			_, err := r.call("turn/interrupt", object{"threadId": id, "turnId": turn})
			must(r.t, err)
			r.end(id, turn)
			r.check(id)
		}
	}},
	{name: "failed", run: func(r *run) {
		id := r.start(r.mode)
		r.say(id, "one")
		r.say(id, "FAIL")
		r.check(id)
	}},
	{name: "settings", run: func(r *run) {
		id := r.start(r.mode)
		r.say(id, "one")
		other := filepath.Join(r.work, "other")
		must(r.t, os.Mkdir(other, 0o700))
		r.settings = object{"cwd": other, "effort": "high", "sandboxPolicy": object{"type": "readOnly"}}
		r.say(id, "two")
		r.settings = object{"model": "another-model"}
		r.say(id, "three")
		r.settings = nil
		r.check(id)
		r.check(id)
	}},
	{name: "torn", run: func(r *run) {
		id := r.start(r.mode)
		r.say(id, "one")
		r.say(id, "two")
		tear := func(b []byte) []byte { return b[:len(b)-40] }
		r.edit(id, tear)
		r.check(id)
		r.check(id)
		r.edit(id, tear) // and so it is moved
	}},
	{name: "rollback of the only compaction", mode: legacy, to: "0.150.0", run: func(r *run) {
		id := r.start(r.mode)
		r.say(id, "one")
		r.say(id, "TOKENS:200000")
		r.say(id, "three")
		r.rollback(id, 1)
		r.check(id)
	}},
	{name: "compaction without its outcome", mode: legacy, run: func(r *run) {
		id := r.start(r.mode)
		r.say(id, "one", object{"type": "image", "url": pixel})
		r.say(id, "SAY:1000 "+strings.Repeat("long ", 30_000))
		r.say(id, "RUN:echo three")
		r.compact(id)
		r.say(id, "four")
		r.compact(id)
		r.say(id, "five")
		r.edit(id, withoutOutcome)
		r.check(id)
		r.check(id)
	}},
	{name: "calls and outputs that do not match", run: func(r *run) {
		id := r.start(r.mode)
		r.say(id, "one")
		r.edit(id, func(b []byte) []byte {
			for i, line := range []string{
				`"type":"response_item","payload":{"type":"message","role":"user","content":[{"type":"input_text","text":"two"}]}`,
				`"type":"response_item","payload":{"type":"function_call","id":"fc_1","name":"f","arguments":"{}","call_id":"c1"}`,
				`"type":"response_item","payload":{"type":"function_call","name":"f","arguments":"{}","call_id":"c2"}`,
				`"type":"response_item","payload":{"type":"custom_tool_call","id":"ctc_1","name":"f","input":"x","call_id":"c3"}`,
				`"type":"response_item","payload":{"type":"local_shell_call","id":"lsh_1","call_id":"c4","status":"completed","action":{"type":"exec","command":["true"],"timeout_ms":null,"working_directory":null,"env":null,"user":null}}`,
				`"type":"response_item","payload":{"type":"function_call_output","call_id":"c5","output":"of no call"}`,
				`"type":"response_item","payload":{"type":"custom_tool_call_output","call_id":"c6","output":"of no call"}`,
				`"type":"response_item","payload":{"type":"message","role":"system","content":[{"type":"input_text","text":"system"}]}`,
				`"type":"response_item","payload":{"type":"from_the_future","text":"x"}`,
				`"type":"from_the_future","payload":{}`,
				`"type":"response_item","payload":{"type":"message","role":"assistant","content":[{"type":"output_text","text":"three"}]}`,
			} {
				ordinal := ""
				if r.mode == paginated {
					ordinal = fmt.Sprintf(`"ordinal":%d,`, 1000+i)
				}
				b = append(b, `{"timestamp":"2026-11-20T08:41:45.701Z",`+ordinal+line+"}\n"...)
			}
			return b
		})
		r.check(id)
	}},
	{name: "parent compressed, and archived", mode: paginated, from: "0.169.0", run: func(r *run) {
		id := r.start(r.mode)
		r.say(id, "one")
		r.say(id, "RUN:echo two")
		fork := r.fork(id, nil)
		r.say(fork, "three")
		r.halt()
		seal(r.t, r.path(id))
		r.edited = true
		r.check(fork)
	}},
	{name: "fork by rollout", run: func(r *run) {
		id := r.start(r.mode)
		r.say(id, "one")
		r.say(id, "RUN:echo two")
		r.say(id, "three")
		h, err := rollout.Open(r.dir)
		must(r.t, err)
		defer h.Close()
		rec, err := h.Fork(r.t.Context(), uuid.MustParse(id), replay.AfterTurn(2), recorder.Meta{Cwd: r.work, Originator: "rollout", CLIVersion: "0.0.0", Provider: "mock"})
		must(r.t, err)
		must(r.t, rec.Close(r.t.Context()))
		r.check(rec.ID().String())

		// And from the middle of a turn, where a call has no output yet.
		b, err := os.ReadFile(r.path(id))
		must(r.t, err)
		call := bytes.Index(b, []byte(`"function_call"`))
		lines := bytes.Count(b[:call], []byte("\n")) + 1
		rec, err = h.Fork(r.t.Context(), uuid.MustParse(id), replay.AfterLine(lines), recorder.Meta{Cwd: r.work, Originator: "rollout", CLIVersion: "0.0.0", Provider: "mock"})
		must(r.t, err)
		must(r.t, rec.Close(r.t.Context()))
		was := r.reconstruct(id, replay.AfterLine(lines))
		if is := r.reconstruct(rec.ID().String(), replay.Point{}); !reflect.DeepEqual(is.Items, was.Items) || !was.Incomplete {
			r.t.Errorf("a fork at line %d has %d items, and that line %d", lines, len(is.Items), len(was.Items))
		}
		r.check(rec.ID().String())
	}},
}

// withoutOutcome returns a rollout as Codex wrote it until 0.98, with compactions
// that only have their summary.
func withoutOutcome(b []byte) []byte {
	var out []byte
	for line := range bytes.Lines(b) {
		if it, err := codec.DecodeItem(bytes.TrimSuffix(line, []byte("\n"))); err == nil && it.Type == codec.TypeCompacted {
			var c struct {
				Message string `json:"message"`
			}
			_ = json.Unmarshal(it.Payload, &c) // Codex wrote it
			it.Payload, _ = json.Marshal(c)
			line, _ = codec.AppendItem(nil, it)
		}
		out = append(out, line...)
	}
	return out
}

func png() []byte {
	return []byte("\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\x00\x01\x00\x00\x00\x01\x08\x06\x00\x00\x00\x1f\x15\xc4\x89\x00\x00\x00\rIDATx\xdacd\xf8\xcfP\x0f\x00\x03\x86\x01\x80Z4}k\x00\x00\x00\x00IEND\xaeB`\x82")
}

func (r *run) compact(id string) {
	r.t.Helper()
	s := r.server
	if !s.loaded[id] {
		s.open("thread/resume", object{"threadId": id})
	}
	s.mu.Lock()
	before := len(s.notices)
	s.mu.Unlock()
	_, err := s.call("thread/compact/start", object{"threadId": id})
	must(r.t, err)
	must(r.t, s.until("compaction", func() bool {
		return slices.ContainsFunc(s.notices[before:], func(m message) bool { return m.Method == "turn/completed" })
	}))
}

func (r *run) fork(id string, more object) string {
	r.t.Helper()
	params := object{"threadId": id}
	for k, v := range more {
		params[k] = v
	}
	return r.open("thread/fork", params)
}

func (r *run) rollback(id string, n int) {
	r.t.Helper()
	if !r.loaded[id] {
		r.open("thread/resume", object{"threadId": id})
	}
	_, err := r.call("thread/rollback", object{"threadId": id, "numTurns": n})
	must(r.t, err)
}

func (r *run) revert(id, before string) {
	r.t.Helper()
	if !r.loaded[id] {
		r.open("thread/resume", object{"threadId": id})
	}
	_, err := r.call("thread/revert", object{"threadId": id, "beforeTurnId": before})
	must(r.t, err)
}

// path returns a thread's newest rollout.
func (r *run) path(id string) (newest string) {
	r.t.Helper()
	var at string
	must(r.t, filepath.WalkDir(filepath.Join(r.dir, "sessions"), func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.Contains(d.Name(), id) && strings.HasSuffix(path, ".jsonl") && filepath.Base(path) > at {
			newest, at = path, filepath.Base(path)
		}
		return err
	}))
	if newest == "" {
		r.t.Fatalf("thread %s has no rollout", id)
	}
	return newest
}

// settle waits until the file of a thread has this text.
func (r *run) settle(id, text string) {
	r.t.Helper()
	poll(r.t, text, func() bool {
		b, err := os.ReadFile(r.path(id))
		return err == nil && bytes.Contains(b, []byte(text))
	})
}

// poll waits for what another process does.
func poll(t *testing.T, what string, is func() bool) {
	t.Helper()
	for start := time.Now(); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Since(start) > patience {
			t.Fatalf("%q does not come", what)
		}
	}
}

// edit stops Codex and changes the file of a thread.
func (r *run) edit(id string, change func([]byte) []byte) {
	r.t.Helper()
	r.halt()
	r.edited = true
	path := r.path(id)
	b, err := os.ReadFile(path)
	must(r.t, err)
	must(r.t, os.WriteFile(path, change(b), 0o600))
}

func TestHistory(t *testing.T) {
	need(t)
	if binaries[bare] != "" {
		t.Run(bare+"/exec", bareHistory)
	}
	for _, version := range versions {
		if binaries[version] == "" {
			continue
		}
		for _, s := range scenarios {
			for _, mode := range []string{legacy, paginated} {
				switch {
				case s.mode != "" && s.mode != mode,
					mode == paginated && !atLeast(version, "0.150.0"),
					mode == legacy && s.name == "exec" && atLeast(version, "0.150.0"), // which cannot be told
					s.from != "" && !atLeast(version, s.from),
					s.to != "" && !atLeast(s.to, version):
					continue
				}
				t.Run(version+"/"+mode+"/"+s.name, func(t *testing.T) {
					t.Parallel()
					parts.Add(t, parts.Entry{Part: part, Version: version, Cases: 1, Faults: s.kills})
					r := &run{home: newHome(t, version), mode: mode}
					r.restart()
					s.run(r)
					r.move()
					if newest := versions[0]; version != newest && binaries[newest] != "" {
						r.halt()
						r.version, r.binary = newest, binaries[newest]
						r.check(r.last)
					}
					t.Logf("%d times the model was sent what we reconstructed", r.checks)
				})
			}
		}
	}
}

// bareHistory is TestHistory for Codex 0.20, which has no ids of threads to resume
// by, and sends its context, which is not in the file, in front of the history.
func bareHistory(t *testing.T) {
	parts.Add(t, parts.Entry{Part: part, Version: bare, Cases: 1})
	h := newHome(t, bare)
	must(t, h.exec("one"))
	for _, words := range []string{"PARALLEL:2", "RUN:exit 3", "three"} {
		r := &run{home: h}
		home, err := rollout.Open(h.dir)
		must(t, err)
		defer home.Close()
		it, err := home.Latest(t.Context(), "")
		must(t, err)
		state := r.reconstruct(it.ID.String(), replay.Point{})
		n := h.model.count()
		must(t, h.exec("-c", "experimental_resume="+filepath.Join(h.dir, filepath.FromSlash(it.Path)), words))
		sent := h.model.since(n)[0].items
		for len(sent) > 0 && isContext(sent[0]) {
			sent = sent[1:]
		}
		if len(sent) != len(state.Items)+1 || !bytes.Contains(sent[len(sent)-1], []byte(words)) {
			t.Fatalf("%q: the model is sent %d items, and we have %d", words, len(sent), len(state.Items))
		}
		for i, item := range state.Items {
			if !same(item, sent[i]) {
				t.Errorf("%q: item %d differs:\nours  %.600s\nCodex %.600s", words, i, item, sent[i])
			}
		}
	}
}

// atLeast tells whether a version is not older than another, by its place in
// versions.
func atLeast(version, than string) bool {
	return slices.Index(versions, version) <= slices.Index(versions, than)
}
