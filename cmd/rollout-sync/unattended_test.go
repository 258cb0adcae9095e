package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rollout-sync/rollout/internal/s3test"
	"github.com/rollout-sync/rollout/mirror"
)

// lastRun returns how the state remembers the last push.
func (tr *tree) lastRun() mirror.Run {
	tr.t.Helper()
	var st homeStatus
	tr.must(json.Unmarshal([]byte(tr.run(exitOK, "status", "--json")), &st))
	if st.Last == nil {
		tr.t.Fatal("the state knows no push")
	}
	return *st.Last
}

// A signal ends a push in the middle of an object: with the signal's exit code and one
// line, with what was done in the state, and with nothing half in the mirror. The next
// push brings the rest.
func TestPushIsInterrupted(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		signal os.Signal
		code   int
	}{
		{syscall.SIGTERM, exitTerminated},
		{os.Interrupt, exitInterrupted},
	} {
		t.Run(test.signal.String(), func(t *testing.T) {
			t.Parallel()
			tr := newTree(t, 3)
			tr.mirror = t.TempDir()
			// half returns what in the mirror is no object.
			half := func() (found []string) {
				_ = filepath.WalkDir(tr.mirror, func(file string, d fs.DirEntry, err error) error {
					if err == nil && !d.IsDir() && !strings.HasSuffix(file, ".jsonl.zst") && (filepath.Ext(file) != ".parquet" || d.Name()[0] == '.') && d.Name() != "rollout-mirror.json" && d.Name() != ".lock" {
						found = append(found, file)
					}
					return nil
				})
				return found
			}

			cmd := tr.command("push", "--idle", "0s", "--jobs", "1", "--bwlimit", "300kB")
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			stdout, err := cmd.StdoutPipe()
			tr.must(err)
			tr.must(cmd.Start())
			lines := bufio.NewScanner(stdout)
			done := 0
			for range 3 {
				if lines.Scan() {
					done++
				}
			}
			for deadline := time.Now().Add(20 * time.Second); len(half()) == 0 && time.Now().Before(deadline); {
				time.Sleep(time.Millisecond) // until it is in the middle of one
			}
			tr.must(cmd.Process.Signal(test.signal))
			for lines.Scan() {
				done++
			}
			_ = cmd.Wait()
			if got := cmd.ProcessState.ExitCode(); got != test.code {
				t.Errorf("exit code %d, want %d: %s", got, test.code, &stderr)
			}
			if got := stderr.String(); got != "rollout-sync: interrupted; what was done is kept\n" {
				t.Errorf("it says %q", got)
			}
			if left := half(); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
			if done >= len(tr.sessions) {
				t.Fatalf("all was done before the signal")
			}
			if r := tr.lastRun(); r.Actions[mirror.Uploaded] != done || r.Err == "" || r.Clean {
				t.Errorf("%d were uploaded, and the state says %+v", done, r)
			}
			out := tr.run(exitOK, "push", "--idle", "0s")
			if want := fmt.Sprintf("%d sessions, %d uploaded, ", len(tr.sessions), len(tr.sessions)-done); !strings.Contains(out, want) {
				t.Errorf("%d were done before, and the next push says %s", done, out)
			}
		})
	}
}

// A second signal ends a push at once that the first could not end.
func TestPushIsForced(t *testing.T) {
	t.Parallel()
	tr := newTree(t, 4)
	s := s3test.New(t)
	tr.mirror = s.BucketURL().String()
	tr.run(exitOK, "push", "--idle", "0s", "--max-duration", "1ns") // makes the mirror
	s.Take()
	requests := make(chan struct{}, 1000)
	s.OnRequest = func(int) { requests <- struct{}{} }
	hang := s3test.Fault{Hang: true}
	// Of two sessions, of a third, and of what there is to tell.
	s.Inject("PUT", s3test.Fault{}, s3test.Fault{}, hang, hang)
	cmd := tr.command("push", "--idle", "0s", "--jobs", "1")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	tr.must(cmd.Start())
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	puts := 0
	waitFor := func(n int) {
		t.Helper()
		for puts < n {
			select {
			case <-requests:
				puts += strings.Count(s.Take(), "PUT")
			case err := <-ended:
				t.Fatalf("it ends after %d puts with %v: %s", puts, err, &out)
			}
		}
	}
	waitFor(3)
	tr.must(cmd.Process.Signal(syscall.SIGTERM))
	waitFor(4)
	tr.must(cmd.Process.Signal(syscall.SIGTERM))
	<-ended
	if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || status.Signal() != syscall.SIGTERM {
		t.Errorf("it ends with %v", cmd.ProcessState)
	}
	s.ClearFaults()
	if out := tr.run(exitOK, "push", "--idle", "0s"); !strings.Contains(out, fmt.Sprintf("%d uploaded", len(tr.sessions)-2)) {
		t.Errorf("two were done before, and the next push says %s", out)
	}
}

// Who needs the state of another run ends at once with 11 and one line, or waits for it
// as long as it is told to, and then does its work.
func TestWait(t *testing.T) {
	t.Parallel()
	tr := newTree(t, 5)
	files, err := filepath.Glob(strings.TrimPrefix(tr.env[1], "XDG_STATE_HOME=") + "/rollout-sync/*.db")
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	state, err := mirror.OpenState(files[0])
	tr.must(err)
	defer state.Close()

	const locked = "rollout-sync: another run is at work on this home and mirror"
	for _, args := range [][]string{
		{"push"},
		{"restore", "--all"},
		{"prune", "--apply", "--same-device-ok"},
	} {
		if out := tr.run(exitLocked, args...); out != locked+" (--wait 10m would wait for it)\n" {
			t.Errorf("%q says %q", args, out)
		}
		out := tr.run(exitLocked, append(args, "--wait", "1ms")...)
		if want := "another run is at work; waiting for it, 1ms at most\n" + locked + "\n"; out != want {
			t.Errorf("%q says %q", args, out)
		}
	}
	if out := tr.run(exitUsage, "push", "--wait", "-1s"); !strings.Contains(out, "must not be negative") {
		t.Errorf("it says %q", out)
	}

	for _, test := range []struct {
		name string
		end  func(p *os.Process)
		code int
	}{
		{"a signal", func(p *os.Process) { tr.must(p.Signal(syscall.SIGTERM)) }, exitTerminated},
		{"the end of the other", func(*os.Process) { tr.must(state.Close()) }, exitOK},
	} {
		cmd := tr.command("push", "--wait", "5m")
		stdout, err := cmd.StdoutPipe()
		tr.must(err)
		tr.must(cmd.Start())
		if lines := bufio.NewScanner(stdout); !lines.Scan() || lines.Text() != "another run is at work; waiting for it, 5m0s at most" {
			t.Errorf("it says %q", lines.Text())
		}
		test.end(cmd.Process)
		_, _ = io.Copy(io.Discard, stdout)
		_ = cmd.Wait()
		if got := cmd.ProcessState.ExitCode(); got != test.code {
			t.Errorf("after %s: exit code %d, want %d", test.name, got, test.code)
		}
	}
}
