package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/rollout-sync/rollout/bench/codex"
	"github.com/rollout-sync/rollout/replay"
	"github.com/rollout-sync/rollout/store/local"
)

// As a child of a benchmark this program reconstructs once, so that what it holds
// at most is not what others held before.
const childVar = "ROLLOUT_BENCH_RECONSTRUCT"

func TestMain(m *testing.M) {
	child := os.Getenv(childVar)
	if child == "" {
		os.Exit(m.Run())
	}
	dir, turn, _ := strings.Cut(child, "|")
	n, err := strconv.Atoi(turn)
	if err == nil {
		err = reconstruct(dir, n)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(regexp.MustCompile(`VmHWM:\s*(\d+)`).FindStringSubmatch(string(status))[1])
	os.Exit(0)
}

// reconstruct reconstructs the session in dir, after a turn; -1: at its end.
func reconstruct(dir string, turn int) (err error) {
	st, err := local.Open(dir, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	o := &replay.Options{}
	if turn >= 0 {
		o.At = replay.AfterTurn(turn)
	}
	s, err := replay.Reconstruct(context.Background(), st, bigName, o)
	if err == nil && (len(s.Items) == 0 || len(s.Problems) > 0) {
		err = fmt.Errorf("%d items, %d problems", len(s.Items), len(s.Problems))
	}
	return err
}

const bigName = "sessions/2026/11/20/rollout-2026-11-20T08-41-45-01a1f81e-b96c-7071-a214-a4467b4a9b32.jsonl"

// bigSession writes a session of at least so many bytes: turns of 12 tool calls,
// compacted every 400 KB, as a model's context is. It returns its directory and
// how many turns it has.
func bigSession(b *testing.B, size int64) (dir string, turns int) {
	b.Helper()
	dir = b.TempDir()
	path := filepath.Join(dir, filepath.FromSlash(bigName))
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		b.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	w := bufio.NewWriter(f)
	written, since := int64(0), 0
	line := func(typ, payload string) {
		n, _ := fmt.Fprintf(w, `{"timestamp":"2026-11-20T08:41:45.701Z","type":%q,"payload":%s}`+"\n", typ, payload)
		written, since = written+int64(n), since+n
	}
	line("session_meta", `{"id":"01a1f81e-b96c-7071-a214-a4467b4a9b32","timestamp":"2026-11-20T08:41:45.701Z","cwd":"/w","originator":"o","cli_version":"0.118.0","source":"cli","history_mode":"legacy"}`)
	output := strings.Repeat(`a line of output\n`, 60)
	for ; written < size; turns++ {
		line("event_msg", fmt.Sprintf(`{"type":"task_started","turn_id":"t%d"}`, turns))
		if since > 400<<10 {
			since = 0
			line("compacted", `{"message":"summary","replacement_history":[{"type":"message","role":"user","content":[{"type":"input_text","text":"summary"}]}]}`)
		}
		line("turn_context", fmt.Sprintf(`{"turn_id":"t%d","cwd":"/w","approval_policy":"never","sandbox_policy":{"type":"danger-full-access"},"model":"m","summary":"auto"}`, turns))
		line("response_item", `{"type":"message","role":"user","content":[{"type":"input_text","text":"go on"}]}`)
		line("event_msg", `{"type":"user_message","message":"go on"}`)
		for i := range 12 {
			line("response_item", fmt.Sprintf(`{"type":"function_call","name":"exec_command","arguments":"{\"cmd\":\"make\"}","call_id":"c%d_%d"}`, turns, i))
			line("response_item", fmt.Sprintf(`{"type":"function_call_output","call_id":"c%d_%d","output":"%s"}`, turns, i, output))
			line("event_msg", `{"type":"token_count","info":null,"rate_limits":null}`)
		}
		line("response_item", `{"type":"message","role":"assistant","content":[{"type":"output_text","text":"Done."}]}`)
		line("event_msg", fmt.Sprintf(`{"type":"task_complete","turn_id":"t%d"}`, turns))
	}
	if err := errors.Join(w.Flush(), f.Close()); err != nil {
		b.Fatal(err)
	}
	return dir, turns
}

// The state of a session of 500 MB at its end, which is found from there, and after
// its last turn but one, for which all turns before have to be counted, beside jq -c
// and the real Codex (the binary that ROLLOUT_BENCH_CODEX names) reading the same
// file. x-jq and x-codex are how many times as fast; MB-peak is what a process that
// does nothing else has resident at most (Linux). ROLLOUT_BENCH_MB is another size.
func BenchmarkReconstruct(b *testing.B) {
	size := int64(500)
	if mb, err := strconv.ParseInt(os.Getenv("ROLLOUT_BENCH_MB"), 10, 64); err == nil {
		size = mb
	}
	dir, turns := bigSession(b, size<<20)
	info, err := os.Stat(filepath.Join(dir, filepath.FromSlash(bigName)))
	if err != nil {
		b.Fatal(err)
	}
	var jq float64 // seconds
	b.Run("v=jq", func(b *testing.B) {
		if _, err := exec.LookPath("jq"); err != nil {
			b.Skip(err)
		}
		b.SetBytes(info.Size())
		for b.Loop() {
			cmd := exec.Command("jq", "-c", ".", filepath.Join(dir, filepath.FromSlash(bigName)))
			cmd.Stdout = io.Discard
			if err := cmd.Run(); err != nil {
				b.Fatal(err)
			}
		}
		jq = b.Elapsed().Seconds() / float64(b.N)
	})
	var codexTime float64 // seconds
	b.Run("v=codex", func(b *testing.B) {
		bin := os.Getenv("ROLLOUT_BENCH_CODEX")
		if bin == "" {
			b.Skip("ROLLOUT_BENCH_CODEX names no codex")
		}
		server, err := codex.Start(bin, dir)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(info.Size())
		for b.Loop() {
			params := map[string]any{"threadId": "01a1f81e-b96c-7071-a214-a4467b4a9b32", "includeTurns": true}
			if _, err := server.Call("thread/read", params); err != nil {
				b.Fatal(err)
			}
		}
		codexTime = b.Elapsed().Seconds() / float64(b.N)
		b.ReportMetric(float64(server.Peak())/(1<<20), "MB-peak")
		if err := errors.Join(server.Close(), codex.Clean(dir)); err != nil {
			b.Fatal(err)
		}
	})
	for _, c := range []struct {
		name string
		turn int
	}{{"v=end", -1}, {"v=turn", turns - 1}} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(info.Size())
			for b.Loop() {
				if err := reconstruct(dir, c.turn); err != nil {
					b.Fatal(err)
				}
			}
			if jq > 0 {
				b.ReportMetric(jq/(b.Elapsed().Seconds()/float64(b.N)), "x-jq")
			}
			if codexTime > 0 {
				b.ReportMetric(codexTime/(b.Elapsed().Seconds()/float64(b.N)), "x-codex")
			}
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%s|%d", childVar, dir, c.turn))
			out, err := cmd.Output()
			if err != nil {
				b.Fatal(err)
			}
			if kb, err := strconv.Atoi(strings.TrimSpace(string(out))); err == nil {
				b.ReportMetric(float64(kb)/1024, "MB-peak")
			}
		})
	}
}
