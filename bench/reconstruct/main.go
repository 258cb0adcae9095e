// Command reconstruct measures how the state of one long session is found, beside
// jq -c and the real Codex reading the same file:
//
//	go run ./reconstruct [-size MB] [-rounds N] [-codex FILE] [-seed N] [-dir DIR]
//
// Row 4: at the session's end, which is found from there, and after its last turn but
// one, for which all turns before have to be counted; and the memory of that. Each is
// a process of its own.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/rollout-sync/rollout/bench/codex"
	"github.com/rollout-sync/rollout/bench/row"
	"github.com/rollout-sync/rollout/bench/session"
	"github.com/rollout-sync/rollout/bench/tree"
	"github.com/rollout-sync/rollout/replay"
	"github.com/rollout-sync/rollout/store/local"
)

// memory is what reconstructing may take beside the history.
const memory = 64 << 20

func main() {
	size := flag.Int64("size", 500, "`MB` of the session")
	rounds := flag.Int("rounds", 3, "how often each is run")
	codexBin := flag.String("codex", "", "the codex to compare with (default: the one that make codex installs)")
	seed := flag.Uint64("seed", 1, "of the data")
	dir := flag.String("dir", "", "where the temporary directory is made")
	job := flag.String("job", "", "do this and tell what it took; for the program itself")
	flag.Parse()
	var err error
	if *job != "" {
		err = child(*job)
	} else {
		err = run(*size*1e6, *rounds, *codexBin, *seed, *dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "reconstruct:", err)
		os.Exit(1)
	}
}

func run(size int64, rounds int, codexBin string, seed uint64, dir string) (err error) {
	if dir, err = os.MkdirTemp(dir, "rollout-bench-reconstruct-*"); err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	s := tree.Options{Sessions: 1, Days: 1}.At(0)
	file := filepath.Join(dir, filepath.FromSlash(s.Path))
	turns, err := write(file, s, size, seed)
	if err != nil {
		return err
	}
	jq := "jq -c"
	jqBin, jqMissing := exec.LookPath("jq")
	codexBin, codexName, codexMissing := codex.Find(codexBin)

	var read, end, turn, endRSS, endRatio, turnRSS, turnRatio, jqTime, codexTime, codexRSS row.Sample
	for range rounds {
		r, err := start(job{File: file})
		if err != nil {
			return err
		}
		read = append(read, r.Time.Seconds())
		for _, c := range []struct {
			job
			time, rss, ratio *row.Sample
		}{
			{job{dir, s.Path, -1, ""}, &end, &endRSS, &endRatio},
			{job{dir, s.Path, turns - 1, ""}, &turn, &turnRSS, &turnRatio},
		} {
			if r, err = start(c.job); err != nil {
				return err
			}
			*c.time = append(*c.time, r.Time.Seconds())
			*c.rss = append(*c.rss, float64(r.RSS)/1e6)
			*c.ratio = append(*c.ratio, float64(r.RSS)/float64(memory+r.History))
		}
		if jqMissing == nil {
			begin := time.Now()
			if err := exec.Command(jqBin, "-c", ".", file).Run(); err != nil { // its output goes nowhere
				return fmt.Errorf("jq: %w", err)
			}
			jqTime = append(jqTime, time.Since(begin).Seconds())
		}
		if codexMissing == nil {
			took, rss, err := readByCodex(codexBin, dir, s.ID.String())
			if err != nil {
				return fmt.Errorf("codex: %w", err)
			}
			codexTime, codexRSS = append(codexTime, took.Seconds()), append(codexRSS, float64(rss)/1e6)
		}
	}

	what := fmt.Sprintf("load %d MB, reconstruct ", size/1e6)
	atEnd, atTurn := what+"at its end", what+"after its last turn but one"
	why := func(err error) string {
		if err == nil {
			return ""
		}
		return err.Error()
	}
	compare := func(work string, ours, peer row.Sample, name, missing string, promise row.Bound) row.Result {
		return row.Result{
			Row: 4, Work: work, Unit: "s", Ours: ours, Peer: peer, PeerName: name, Missing: missing,
			Limit: read, LimitName: "read(2)", Ratio: peer.Over(ours), Promise: promise,
		}
	}
	hold := func(work string, ours, ratio row.Sample) row.Result {
		return row.Result{
			Row: 4, Work: work + ", memory", Unit: "MB", Ours: ours, Peer: codexRSS, PeerName: codexName, Missing: why(codexMissing),
			Ratio: ratio, Promise: row.AtMost(1),
		}
	}
	return row.Report(
		compare(atEnd, end, codexTime, codexName, why(codexMissing), row.AtLeast(4)),
		compare(atTurn, turn, codexTime, codexName, why(codexMissing), row.AtLeast(4)),
		compare(atEnd, end, jqTime, jq, why(jqMissing), row.Bound{}),
		compare(atTurn, turn, jqTime, jq, why(jqMissing), row.Bound{}),
		hold(atEnd, endRSS, endRatio),
		hold(atTurn, turnRSS, turnRatio),
	)
}

// write writes the session, and returns how many turns it has.
func write(file string, s tree.Session, size int64, seed uint64) (turns int, err error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return 0, err
	}
	f, err := os.Create(file)
	if err != nil {
		return 0, err
	}
	w := bufio.NewWriterSize(f, 1<<20)
	turns, err = session.New(seed).Compacted(w, s, size)
	return turns, errors.Join(err, w.Flush(), f.Close())
}

// readByCodex returns how long Codex took to read the session, and its memory.
func readByCodex(bin, home, id string) (took time.Duration, rss int64, err error) {
	s, err := codex.Start(bin, home)
	if err != nil {
		return 0, 0, err
	}
	begin := time.Now()
	_, err = s.Call("thread/read", map[string]any{"threadId": id, "includeTurns": true})
	took, rss = time.Since(begin), s.Peak()
	return took, rss, errors.Join(err, s.Close(), codex.Clean(home))
}

// A job is what a process of its own does: it reconstructs the session Name in Home
// after a turn, or at its end if that is -1; or it reads File and no more.
type job struct {
	Home, Name string
	Turn       int
	File       string
}

type result struct {
	Time    time.Duration
	History int64 // bytes of the history
	RSS     int64 // bytes, the most that were resident
}

func start(j job) (r result, err error) {
	self, err := os.Executable()
	if err != nil {
		return r, err
	}
	spec, err := json.Marshal(j)
	if err != nil {
		return r, err
	}
	cmd := exec.Command(self, "-job", string(spec))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return r, err
	}
	return r, json.Unmarshal(out, &r)
}

func child(spec string) (err error) {
	var j job
	if err := json.Unmarshal([]byte(spec), &j); err != nil {
		return err
	}
	begin := time.Now()
	var r result
	if j.File != "" {
		err = read(j.File)
	} else {
		r.History, err = reconstruct(j)
	}
	if err != nil {
		return err
	}
	r.Time, r.RSS = time.Since(begin), codex.Peak("self")
	return json.NewEncoder(os.Stdout).Encode(r)
}

// reconstruct returns how many bytes the history has.
func reconstruct(j job) (history int64, err error) {
	st, err := local.Open(j.Home, nil)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	o := &replay.Options{}
	if j.Turn >= 0 {
		o.At = replay.AfterTurn(j.Turn)
	}
	s, err := replay.Reconstruct(context.Background(), st, j.Name, o)
	if err != nil {
		return 0, err
	}
	if len(s.Items) == 0 || len(s.Problems) > 0 {
		return 0, fmt.Errorf("%d items, %d problems", len(s.Items), len(s.Problems))
	}
	for _, it := range s.Items {
		history += int64(len(it))
	}
	return history, nil
}

// read does what cannot be avoided where every line counts.
func read(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	buf := make([]byte, 1<<20)
	for {
		if _, err := f.Read(buf); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
	}
}
