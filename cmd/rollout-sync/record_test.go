package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/rollout-sync/rollout"
)

// However the input of record ends, the session is whole, and may be gone on with.
func TestRecordEnds(t *testing.T) {
	t.Parallel()
	for title, c := range map[string]struct {
		end  func(p *os.Process, in io.Closer) error
		code int
	}{
		"closed input": {func(_ *os.Process, in io.Closer) error { return in.Close() }, exitPartial}, // because of the bad line
		"SIGTERM":      {func(p *os.Process, _ io.Closer) error { return p.Signal(syscall.SIGTERM) }, exitTerminated},
		"SIGINT":       {func(p *os.Process, _ io.Closer) error { return p.Signal(os.Interrupt) }, exitInterrupted},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			if runtime.GOOS == "windows" && c.code != exitPartial {
				return // has no such signals
			}
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Fatal(err)
				}
			}
			exe, err := os.Executable()
			must(err)
			dir := t.TempDir()
			// Under this name the test binary is the program.
			cmd := &exec.Cmd{Path: exe, Args: []string{program, "record", "--home", dir, "--json", "--meta", "cwd=/w"}}
			in, err := cmd.StdinPipe()
			must(err)
			out, err := cmd.StdoutPipe()
			must(err)
			warnings, err := cmd.StderrPipe()
			must(err)
			must(cmd.Start())

			// Once a bad line is told of, what was in front of it is recorded.
			const item = `{"type":"event_msg","payload":{"type":"user_message","message":"%s"}}` + "\n"
			_, err = fmt.Fprintf(in, item+"bad\n", "hello")
			must(err)
			if w := bufio.NewScanner(warnings); !w.Scan() || !strings.HasPrefix(w.Text(), "line 2: ") {
				t.Errorf("standard error has %q", w.Text())
			}
			must(c.end(cmd.Process, in))
			var got recorded
			must(json.NewDecoder(out).Decode(&got))
			_ = cmd.Wait() // its code follows
			if code := cmd.ProcessState.ExitCode(); code != c.code {
				t.Errorf("exit code %d", code)
			}
			b, err := os.ReadFile(filepath.Join(dir, filepath.FromSlash(got.Path)))
			must(err)
			if strings.Count(string(b), "\n") != 2 || !strings.HasSuffix(string(b), `"message":"hello"}}`+"\n") || got.Items != 1 {
				t.Errorf("recorded %+v: %s", got, b)
			}
			home, err := rollout.Open(dir)
			must(err)
			defer home.Close()
			r, err := home.Resume(t.Context(), got.ID)
			must(err)
			must(r.Close(t.Context()))
		})
	}
}
