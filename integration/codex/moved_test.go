//go:build linux

package codex

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rollout-sync/rollout"
	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
)

// sync runs rollout-sync on the home and its mirror and returns what it prints.
func (h *home) sync(args ...string) string {
	h.t.Helper()
	out, errs, code := h.try(nil, args...)
	if code != 0 || errs != "" {
		h.t.Errorf("rollout-sync %s ends with %d: %s%s", strings.Join(args, " "), code, out, errs)
	}
	return out
}

// try runs rollout-sync on the home and its mirror to any end.
func (h *home) try(in io.Reader, args ...string) (stdout, stderr string, code int) {
	cmd := h.rollout(args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &errs
	if err := cmd.Run(); cmd.ProcessState == nil {
		fmt.Fprint(&errs, err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// rollout is rollout-sync with the home and its mirror.
func (h *home) rollout(args ...string) *exec.Cmd {
	cmd := exec.Command(command, args...)
	cmd.Env = []string{
		"HOME=" + filepath.Join(filepath.Dir(h.work), "user"), "CODEX_HOME=" + h.dir,
		"ROLLOUT_SYNC_MIRROR=file://" + h.mirror(),
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	return cmd
}

func (h *home) mirror() string { return filepath.Join(filepath.Dir(h.work), "mirror") }

// rollouts returns the plain bytes of a home's rollouts by their paths.
func rollouts(t testing.TB, dir string) map[string]string {
	t.Helper()
	h, err := rollout.Open(dir)
	must(t, err)
	defer h.Close()
	page, err := h.List(t.Context(), listing.Query{Limit: 1000})
	must(t, err)
	all := map[string]string{}
	for _, it := range page.Items {
		f, err := h.Store().Open(t.Context(), it.Path)
		must(t, err)
		r, err := f.Range(t.Context(), 0, -1)
		must(t, err)
		b, err := io.ReadAll(r)
		must(t, err)
		must(t, r.Close())
		must(t, f.Close())
		all[it.Path] = string(b)
	}
	return all
}

// equal compares the rollouts of two homes, byte for byte.
func equal(t testing.TB, is, want map[string]string) {
	t.Helper()
	for _, path := range slices.Sorted(maps.Keys(want)) {
		if b, ok := is[path]; !ok || b != want[path] {
			t.Errorf("%s: %d bytes, want %d", path, len(b), len(want[path]))
		}
	}
	if len(is) != len(want) {
		t.Errorf("%d rollouts, want %d", len(is), len(want))
	}
}

// swap puts another directory in the place of the home, whose paths Codex keeps in
// what it sends, and returns what puts the first one back.
func (h *home) swap(dir string) (back func()) {
	h.t.Helper()
	was := h.dir + ".was"
	must(h.t, os.Rename(h.dir, was))
	must(h.t, os.Rename(dir, h.dir))
	return func() {
		must(h.t, os.Rename(h.dir, dir))
		must(h.t, os.Rename(was, h.dir))
	}
}

// restored restores all of the mirror into a directory where nothing else is but
// Codex's configuration, and returns it.
func (h *home) restored(name string) string {
	h.t.Helper()
	dir := filepath.Join(filepath.Dir(h.work), name)
	h.sync("restore", "--all", "--into", dir)
	config, err := os.ReadFile(filepath.Join(h.dir, "config.toml"))
	must(h.t, err)
	must(h.t, os.WriteFile(filepath.Join(dir, "config.toml"), config, 0o600))
	return dir
}

// move takes all that the home has through a mirror to a home that has no databases,
// and compares what Codex makes of the threads there and here. Each is a turn longer
// afterwards.
func (r *run) move() {
	r.t.Helper()
	r.halt()
	before := rollouts(r.t, r.dir)
	r.sync("push", "--idle", "0s")
	r.sync("verify", "--deep")
	var listed []string
	for line := range strings.Lines(r.sync("list", "--json", "--limit", "1000")) {
		var item struct{ Path, Where, Mirror string }
		must(r.t, json.Unmarshal([]byte(line), &item))
		if item.Where != "both" || item.Mirror != "same" {
			r.t.Errorf("list: %s", line)
		}
		listed = append(listed, item.Path)
	}
	slices.Sort(listed)
	if want := slices.Sorted(maps.Keys(before)); !slices.Equal(listed, want) {
		r.t.Errorf("listed are %q, want %q", listed, want)
	}
	there := r.restored("moved")
	equal(r.t, rollouts(r.t, there), before)
	back := r.swap(there)
	is := r.visit(before)
	back()
	if r.edited {
		r.forget()
	}
	was := r.visit(before)
	for id, was := range was {
		is := is[id]
		if is == nil {
			r.t.Errorf("there is no thread %s", id)
			continue
		}
		var files int
		var spoken bool
		for path, content := range before {
			if strings.Contains(path, id) {
				files++
				spoken = spoken || strings.Contains(content, `"UserMessage"`) || strings.Contains(content, `"user_message"`)
			}
		}
		if all := len(was.turns); files > 1 && len(is.turns) < all {
			// Codex has it from its database alone what a thread was before a revert, and
			// shows the rest without it. The model gets all.
			was.turns = was.turns[all-len(is.turns):]
		}
		if !spoken && is.row == nil {
			was.row = nil // by a database alone it lists a fork without a turn of its own
		}
		for what, pair := range map[string][2]any{
			"row": {is.row, was.row}, "turns": {is.turns, was.turns}, "input": {is.input, was.input},
		} {
			if !reflect.DeepEqual(pair[0], pair[1]) {
				a, _ := json.Marshal(pair[0])
				b, _ := json.Marshal(pair[1])
				n := 0
				for n < min(len(a), len(b)) && a[n] == b[n] {
					n++
				}
				n = max(n-200, 0)
				r.t.Errorf("thread %s: %s differ:\nmoved %.900s\nwas   %.900s", id, what, a[n:], b[n:])
			}
		}
	}
	r.t.Logf("%d threads are the same elsewhere", len(was))
}

// A thread is what Codex makes of one.
type thread struct {
	row   any   // of the list; nil if it is not there
	turns []any // with all their items
	input []any // to the model, in another turn
}

// visit has Codex list, resume and read all threads, and have another turn in each.
// Parents come before their forks, since Codex shows what a fork has of its parent only
// once that has been resumed.
func (r *run) visit(before map[string]string) map[string]*thread {
	r.t.Helper()
	r.restart()
	threads := map[string]*thread{}
	for _, archived := range []bool{false, true} {
		for _, row := range r.list(archived) {
			threads[row["id"].(string)] = &thread{row: row}
			if archived {
				_, err := r.call("thread/unarchive", object{"threadId": row["id"]})
				must(r.t, err)
			}
		}
	}
	for path := range before {
		name, err := codec.ParseName(filepath.Base(path))
		must(r.t, err)
		if id := name.Session.String(); threads[id] == nil {
			threads[id] = &thread{} // resumed all the same
		}
	}
	for _, id := range slices.Sorted(maps.Keys(threads)) { // by time
		r.open("thread/resume", object{"threadId": id})
		threads[id].turns = r.read(id)
		n := r.model.count()
		r.say(id, "next")
		inputs := r.model.since(n)
		if len(inputs) == 0 {
			r.t.Fatalf("thread %s: the model was asked nothing", id)
		}
		for _, item := range inputs[0].items {
			if bytes.Contains(item, []byte("<model_switch>")) {
				continue // 0.118 has a thread's model in its database, and tells when it is another
			}
			threads[id].input = append(threads[id].input, r.neutral(item, before))
		}
	}
	r.halt()
	return threads
}

// fields are what a list has of a thread by its files. Codex has names of legacy threads
// from session_index.jsonl, and of paginated ones from a database.
var fields = []string{"id", "path", "historyMode", "source", "cwd", "cliVersion", "modelProvider", "createdAt", "forkedFromId", "gitInfo", "name"}

// list returns what Codex lists of threads.
func (r *run) list(archived bool) []object {
	r.t.Helper()
	result, err := r.call("thread/list", object{
		"limit": 100, "archived": archived, "modelProviders": []string{},
		"sourceKinds": []string{"cli", "vscode", "exec", "appServer", "unknown"},
	})
	must(r.t, err)
	var page struct{ Data []object }
	must(r.t, json.Unmarshal(result, &page))
	for _, row := range page.Data {
		maps.DeleteFunc(row, func(key string, _ any) bool {
			return !slices.Contains(fields, key) || key == "name" && row["historyMode"] == paginated
		})
	}
	return page.Data
}

// read returns the turns that Codex shows of a thread.
func (r *run) read(id string) []any {
	r.t.Helper()
	result, err := r.call("thread/read", object{"threadId": id, "includeTurns": true})
	must(r.t, err)
	var read struct{ Thread struct{ Turns []any } }
	must(r.t, json.Unmarshal(result, &read))
	return read.Thread.Turns
}

// neutral returns an item of an input without what is another each time: ids that are not
// in the rollouts yet.
func (r *run) neutral(item json.RawMessage, before map[string]string) any {
	r.t.Helper()
	var o object
	must(r.t, json.Unmarshal(item, &o))
	delete(o, "internal_chat_message_metadata_passthrough")
	id, _ := o["id"].(string)
	isOld := false
	for _, content := range before {
		isOld = isOld || strings.Contains(content, id)
	}
	if !isOld {
		delete(o, "id")
	}
	return o
}
