// Package codex asks the real Codex, so that benchmarks can stand beside it.
package codex

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// config has Codex ask nobody for anything.
const config = `model = "m"
model_provider = "mock"
check_for_update_on_startup = false
[model_providers.mock]
name = "mock"
base_url = "http://127.0.0.1:9/v1"
wire_api = "responses"
[analytics]
enabled = false
`

// Version is the one that the project's promises name.
const Version = "0.169.0"

// Find returns a codex and what to call it: bin if that is not empty, or the one that
// integration/codex has installed into the user's cache.
func Find(bin string) (path, name string, err error) {
	if bin != "" {
		out, err := exec.Command(bin, "--version").Output() // "codex-cli 0.169.0"
		return bin, strings.Replace(strings.TrimSpace(string(out)), "-cli", "", 1), err
	}
	name = "codex " + Version
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", name, err
	}
	files, err := filepath.Glob(filepath.Join(cache, "rollout-codex", Version, "node_modules/@openai/codex-*/vendor/*/bin/codex"))
	if err == nil && len(files) == 0 {
		err = errors.New("make codex installs it")
	}
	if err != nil {
		return "", name, err
	}
	return files[0], name, nil
}

// A Server is a running "codex app-server".
type Server struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Reader
	temp string
	id   int
}

// Start starts the binary bin over a home, in which it puts its files, and returns
// when it has answered for the first time.
func Start(bin, home string) (_ *Server, err error) {
	if err := os.WriteFile(filepath.Join(home, "config.toml"), []byte(config), 0o600); err != nil {
		return nil, err
	}
	s := &Server{cmd: exec.Command(bin, "app-server")}
	if s.temp, err = os.MkdirTemp("", "codex"); err != nil {
		return nil, err
	}
	s.cmd.Env = []string{"HOME=" + s.temp, "CODEX_HOME=" + home, "TMPDIR=" + s.temp, "PATH=" + os.Getenv("PATH"), "NO_PROXY=*"}
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	s.out = bufio.NewReaderSize(out, 1<<20)
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	_, err = s.Call("initialize", map[string]any{
		"clientInfo":   map[string]string{"name": "bench", "title": "bench", "version": "1"},
		"capabilities": map[string]bool{"experimentalApi": true},
	})
	if err == nil {
		_, err = io.WriteString(s.in, `{"method":"initialized","params":{}}`+"\n")
	}
	if err != nil {
		return nil, errors.Join(err, s.Close())
	}
	return s, nil
}

// Call returns the result of a method.
func (s *Server) Call(method string, params any) (json.RawMessage, error) {
	s.id++
	line, err := json.Marshal(map[string]any{"id": s.id, "method": method, "params": params})
	if err != nil {
		return nil, err
	}
	if _, err := s.in.Write(append(line, '\n')); err != nil {
		return nil, err
	}
	for {
		line, err := s.out.ReadBytes('\n') // of any length
		if err != nil {
			return nil, err
		}
		var answer struct {
			ID     *int
			Method string
			Result json.RawMessage
			Error  json.RawMessage
		}
		if json.Unmarshal(line, &answer) != nil || answer.Method != "" || answer.ID == nil || *answer.ID != s.id {
			continue // a notification
		}
		if answer.Error != nil {
			return nil, fmt.Errorf("%s: %s", method, answer.Error)
		}
		return answer.Result, nil
	}
}

// Peak returns the most bytes that it has had resident (Linux).
func (s *Server) Peak() int64 { return Peak(fmt.Sprint(s.cmd.Process.Pid)) }

// Close ends it.
func (s *Server) Close() error {
	return errors.Join(s.in.Close(), s.cmd.Wait(), os.RemoveAll(s.temp))
}

// Clean removes what it leaves in a home.
func Clean(home string) error {
	var errs []error
	for _, pattern := range []string{"*.sqlite*", "config.toml", "installation_id", "version.json"} {
		files, err := filepath.Glob(filepath.Join(home, pattern))
		errs = append(errs, err)
		for _, f := range files {
			errs = append(errs, os.Remove(f))
		}
	}
	return errors.Join(errs...)
}

// Peak returns the most bytes that a process, or "self", has had resident (Linux).
// It is not what Wait tells, which counts its parent in.
func Peak(pid string) int64 {
	status, err := os.ReadFile("/proc/" + pid + "/status")
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		var kib int64
		if n, _ := fmt.Sscanf(line, "VmHWM: %d kB", &kib); n == 1 {
			return kib << 10
		}
	}
	return 0
}
