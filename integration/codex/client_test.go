//go:build linux

package codex

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long anything that Codex does may take.
const patience = 60 * time.Second

// A home is a CODEX_HOME, used by one version of Codex with a model of its own.
type home struct {
	t       *testing.T
	version string
	binary  string
	dir     string // CODEX_HOME
	work    string // where the agent works
	model   *model
	// settings are sent with each turn.
	settings object
}

func newHome(t *testing.T, version string) *home {
	root := t.TempDir()
	h := &home{
		t: t, version: version, binary: binaries[version],
		dir: filepath.Join(root, "home"), work: filepath.Join(root, "work"), model: newModel(t),
	}
	for _, dir := range []string{h.dir, h.work, filepath.Join(root, "tmp"), filepath.Join(root, "user")} {
		must(t, os.Mkdir(dir, 0o700))
	}
	must(t, os.WriteFile(filepath.Join(h.work, "AGENTS.md"), []byte("Be brief.\n"), 0o600))
	must(t, os.WriteFile(filepath.Join(h.dir, "config.toml"), fmt.Appendf(nil, `
model = "mock-model"
model_provider = "mock"
approval_policy = "never"
sandbox_mode = "danger-full-access"
check_for_update_on_startup = false
model_auto_compact_token_limit = 100000

[model_providers.mock]
name = "mock"
base_url = "%s/v1"
env_key = "MOCK_API_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0

[analytics]
enabled = false

[projects.%q]
trust_level = "trusted"
`, h.model.URL, h.work), 0o600))
	return h
}

func (h *home) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, h.binary, args...)
	root := filepath.Dir(h.dir)
	cmd.Dir = h.work
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + filepath.Join(root, "user"), "CODEX_HOME=" + h.dir,
		"TMPDIR=" + filepath.Join(root, "tmp"), "MOCK_API_KEY=mock", "NO_PROXY=*", "TZ=UTC",
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

// A server is a running "codex app-server".
type server struct {
	h      *home
	cmd    *exec.Cmd
	in     io.WriteCloser
	loaded map[string]bool // threads

	mu      sync.Mutex
	changed *sync.Cond
	calls   int
	answers map[int]message
	notices []message
	begun   int // notices that came before the last turn began; 0.98 numbers turns anew when it resumes
	gone    bool
}

type message struct {
	ID     *int            `json:"id"`
	Method string          `json:"method"`
	Params json.RawMessage `json:"params"`
	Result json.RawMessage `json:"result"`
	Error  *struct {
		Message string `json:"message"`
	} `json:"error"`
}

func (h *home) serve() *server {
	cmd := h.command(context.Background(), "app-server")
	in, err := cmd.StdinPipe()
	must(h.t, err)
	out, err := cmd.StdoutPipe()
	must(h.t, err)
	must(h.t, cmd.Start())
	s := &server{h: h, cmd: cmd, in: in, loaded: map[string]bool{}, answers: map[int]message{}}
	s.changed = sync.NewCond(&s.mu)
	read := make(chan struct{})
	go func() {
		defer close(read)
		s.read(out)
	}()
	h.t.Cleanup(func() { s.kill(); <-read })
	_, err = s.call("initialize", object{
		"clientInfo":   object{"name": "check", "title": "check", "version": "0.1"},
		"capabilities": object{"experimentalApi": true},
	})
	must(h.t, err)
	s.send(object{"method": "initialized", "params": object{}})
	return s
}

func (s *server) read(out io.Reader) {
	r := bufio.NewReader(out)
	for {
		line, err := r.ReadBytes('\n')
		s.mu.Lock()
		var m message
		switch {
		case err != nil:
			s.gone = true
		case json.Unmarshal(line, &m) != nil:
		case m.ID != nil && m.Method != "":
			go s.send(object{"id": *m.ID, "error": object{"code": -1, "message": "no"}})
		case m.ID != nil:
			s.answers[*m.ID] = m
		default:
			s.notices = append(s.notices, m)
		}
		s.changed.Broadcast()
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

func (s *server) send(o object) {
	b, _ := json.Marshal(o)            // of maps and strings
	_, _ = s.in.Write(append(b, '\n')) // a server that is gone does not answer
}

// until waits for a condition that is looked at whenever something comes.
func (s *server) until(what string, is func() bool) error {
	timer := time.AfterFunc(patience, func() { s.changed.Broadcast() })
	defer timer.Stop()
	start := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	for !is() {
		if s.gone {
			return errors.New(what + ": Codex has ended")
		}
		if time.Since(start) > patience {
			return errors.New(what + ": Codex does not answer")
		}
		s.changed.Wait()
	}
	return nil
}

func (s *server) call(method string, params object) (json.RawMessage, error) {
	s.mu.Lock()
	s.calls++
	id := s.calls
	s.mu.Unlock()
	s.send(object{"id": id, "method": method, "params": params})
	var m message
	err := s.until(method, func() (ok bool) { m, ok = s.answers[id]; return ok })
	if err == nil && m.Error != nil {
		err = errors.New(method + ": " + m.Error.Message)
	}
	return m.Result, err
}

// stop ends the server as a user would, kill as the system would.
func (s *server) stop() {
	_ = s.in.Close()
	timer := time.AfterFunc(patience, func() { _ = s.cmd.Process.Kill() })
	_ = s.cmd.Wait()
	timer.Stop()
}

func (s *server) kill() {
	_ = syscall.Kill(-s.cmd.Process.Pid, syscall.SIGKILL)
	_ = s.cmd.Wait() // an error the second time
}

// start begins a thread in a history mode. Before 0.150 there is only one.
func (s *server) start(mode string) string {
	params := object{"cwd": s.h.work}
	if atLeast(s.h.version, "0.150.0") {
		params["historyMode"] = mode
	}
	return s.open("thread/start", params)
}

func (s *server) open(method string, params object) string {
	s.h.t.Helper()
	result, err := s.call(method, params)
	must(s.h.t, err)
	var r struct{ Thread struct{ ID string } }
	must(s.h.t, json.Unmarshal(result, &r))
	s.loaded[r.Thread.ID] = true
	return r.Thread.ID
}

// begin begins a turn, resuming the thread first if that has not been done.
func (s *server) begin(thread string, prompt string, more ...object) string {
	s.h.t.Helper()
	if !s.loaded[thread] {
		s.open("thread/resume", object{"threadId": thread})
	}
	in := append([]object{{"type": "text", "text": prompt}}, more...)
	params := object{"threadId": thread, "input": in}
	for k, v := range s.h.settings {
		params[k] = v
	}
	s.mu.Lock()
	s.begun = len(s.notices)
	s.mu.Unlock()
	result, err := s.call("turn/start", params)
	must(s.h.t, err)
	var r struct{ Turn struct{ ID string } }
	must(s.h.t, json.Unmarshal(result, &r))
	return r.Turn.ID
}

// end waits for the end of the turn that was begun last and returns its status.
func (s *server) end(thread, turn string) (status string) {
	s.h.t.Helper()
	must(s.h.t, s.until("turn/completed", func() bool {
		for _, m := range s.notices[s.begun:] {
			var p struct {
				ThreadID string
				Turn     struct{ ID, Status string }
			}
			if m.Method == "turn/completed" && json.Unmarshal(m.Params, &p) == nil && p.ThreadID == thread && (turn == "" || p.Turn.ID == turn) {
				status = p.Turn.Status
				return true
			}
		}
		return false
	}))
	return status
}

// say has a whole turn.
func (s *server) say(thread, prompt string, more ...object) (turn string) {
	s.h.t.Helper()
	turn = s.begin(thread, prompt, more...)
	s.end(thread, turn)
	return turn
}

// exec runs "codex exec".
func (h *home) exec(args ...string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := h.command(ctx, append([]string{"exec", "--skip-git-repo-check"}, args...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("codex exec %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}
