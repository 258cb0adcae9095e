// Command search measures how fast rollout-sync finds a word in sessions, beside rg and
// zstdgrep over the same files, and the real Codex's own search:
//
//	go run ./search [-size MB] [-sessions N] [-rounds N] [-dir DIR] [-rg FILE] [-zstdgrep FILE] [-codex FILE] [-cold] [-where local]
//
// The sessions are as large and as compressible as real ones (bench/session), in a home as
// Codex has it and in a mirror in a directory; with -sessions they are so many, and each is
// smaller by as much. The word is in the oldest of them alone, so that all have to be looked into:
// without an index, and with one, for which the program is run once before. Codex gets
// the time to know all sessions, and is asked for one page by a server that is running; it
// reads all files for each page, and may not have found the session by then. All is in the
// page cache, if that is large enough; with -cold each but Codex is run once more after the
// system's caches were dropped (that takes root).
//
// A peer that is not there is named, and left out. All that is written is in one temporary
// directory, which is removed.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/rollout-sync/rollout/bench/codex"
	"github.com/rollout-sync/rollout/bench/row"
	"github.com/rollout-sync/rollout/bench/session"
	"github.com/rollout-sync/rollout/bench/tree"
)

// word is in one session.
const word = "heisenbug"

func main() {
	var b bench
	size := flag.Int64("size", 1000, "`MB` of sessions, in the home and as much in the mirror")
	flag.IntVar(&b.sessions, "sessions", 0, "in so `many` sessions (default: as large as real ones)")
	flag.StringVar(&b.codex, "codex", "", "the codex to compare with (default: the one that make codex installs)")
	flag.IntVar(&b.rounds, "rounds", 5, "how often each is measured")
	flag.StringVar(&b.rg, "rg", "rg", "the rg to compare with")
	flag.StringVar(&b.zstdgrep, "zstdgrep", "zstdgrep", "the zstdgrep to compare with")
	flag.BoolVar(&b.cold, "cold", false, "measure each once more, with the system's caches dropped")
	flag.StringVar(&b.where, "where", "local,mirror", "what is searched")
	dir := flag.String("dir", "", "where the temporary directory is made")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := b.run(ctx, *dir, *size*1e6); err != nil {
		fmt.Fprintln(os.Stderr, "search:", err)
		stop()
		os.Exit(1)
	}
}

type bench struct {
	rounds       int
	sessions     int
	rg, zstdgrep string
	codex, where string
	cold         bool

	temp, home, mirror, program string
}

func (b *bench) run(ctx context.Context, dir string, size int64) (err error) {
	if b.temp, err = os.MkdirTemp(dir, "rollout-bench-search-*"); err != nil {
		return err
	}
	defer os.RemoveAll(b.temp)
	b.home, b.mirror, b.program = filepath.Join(b.temp, "home"), filepath.Join(b.temp, "mirror"), filepath.Join(b.temp, "rollout-sync")
	sessions, size, err := b.make(size)
	if err != nil {
		return err
	}
	build := exec.CommandContext(ctx, "go", "build", "-o", b.program, "./cmd/rollout-sync")
	build.Dir, build.Env, build.Stderr = "..", append(os.Environ(), "CGO_ENABLED=0"), os.Stderr
	if err := build.Run(); err != nil {
		return err
	}
	places := strings.Split(b.where, ",")
	if slices.Contains(places, "mirror") {
		if _, err := b.measure(ctx, b.ours("push", "--quiet", "--idle", "0s"), ""); err != nil {
			return err
		}
	}
	if b.cold {
		if err := dropCaches(); err != nil {
			return fmt.Errorf("-cold: %w", err)
		}
	}
	about := fmt.Sprintf("search of %d sessions, %d MB", sessions, size/1e6)
	where := map[string]struct {
		dir  string
		name string
		peer []string
	}{
		"local": {b.home, "rg -i", []string{b.rg, "-il", word, b.home}},
		"mirror": {filepath.Join(b.mirror, "sessions"), "zstdgrep -i", []string{
			"sh", "-c", `find "$1" -type f -print0 | xargs -0 -n 64 -P "$(getconf _NPROCESSORS_ONLN)" "$2" -il "$3"`, "sh",
			filepath.Join(b.mirror, "sessions"), b.zstdgrep, word,
		}},
	}
	var results []row.Result
	for _, place := range places {
		p := where[place]
		if err := warm(p.dir); err != nil {
			return err
		}
		search := b.ours("search", "--where", place, word, "--json")
		read := row.Result{Row: 9, Work: about + ", " + place + ", not indexed", Unit: "s", PeerName: p.name, Promise: row.AtMost(2)}
		if err := b.compare(ctx, &read, append(search, "--no-index"), p.peer, false); err != nil {
			return err
		}
		took, err := b.measure(ctx, b.ours("index", "--quiet", "--where", place), "")
		if err != nil {
			return err
		}
		info, err := os.Stat(filepath.Join(b.temp, "cache", "rollout-sync", "index.db"))
		if err != nil {
			return err
		}
		fmt.Printf("%s: indexed in %.1f s, the index has %.1f MB\n", place, took, float64(info.Size())/1e6)
		indexed := row.Result{Row: 9, Work: about + ", " + place + ", indexed", Unit: "s", Peer: read.Peer, PeerName: p.name, Missing: read.Missing}
		if err := b.compare(ctx, &indexed, search, nil, false); err != nil {
			return err
		}
		results = append(results, read, indexed)
		if place == "local" {
			r := row.Result{
				Row: 9, Work: about + ", local, indexed", Unit: "s", Ours: indexed.Ours, Promise: row.AtLeast(20),
			}
			if r.Peer, r.PeerName, err = b.askCodex(); err != nil {
				r.Missing = err.Error()
			}
			r.Ratio = r.Peer.Over(r.Ours)
			results = append(results, r)
		}
		if !b.cold {
			continue
		}
		read = row.Result{Row: 9, Work: about + ", " + place + ", not indexed, cold", Unit: "s", PeerName: p.name}
		if err := b.compare(ctx, &read, append(search, "--no-index"), p.peer, true); err != nil {
			return err
		}
		indexed = row.Result{Row: 9, Work: about + ", " + place + ", indexed, cold", Unit: "s", Peer: read.Peer, PeerName: p.name, Missing: read.Missing}
		if err := b.compare(ctx, &indexed, search, nil, true); err != nil {
			return err
		}
		results = append(results, read, indexed)
	}
	return row.Report(results...)
}

// warm has the system read all files of a directory.
func warm(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, struct{ io.Reader }{f})
		return errors.Join(err, f.Close())
	})
}

// askCodex returns how long Codex's search takes for its first page.
func (b *bench) askCodex() (took row.Sample, name string, err error) {
	bin, name, err := codex.Find(b.codex)
	if err != nil {
		return nil, name, err
	}
	name += " thread/search"
	defer func() { err = errors.Join(err, codex.Clean(b.home)) }()
	s, err := codex.Start(bin, b.home)
	if err != nil {
		return nil, name, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	for i := range b.rounds + 1 {
		begin := time.Now()
		if _, err := s.Call("thread/search", map[string]any{"searchTerm": word, "limit": 25}); err != nil {
			return nil, name, err
		}
		if i > 0 { // the first time it looks at what is new
			took = append(took, time.Since(begin).Seconds())
		}
	}
	return took, name, nil
}

// make makes the home, and returns how many sessions it has and how large they are.
func (b *bench) make(size int64) (sessions int, total int64, err error) {
	w := session.New(1)
	var sizes []int64
	for left := size; left > 0 && b.sessions == 0 || len(sizes) < b.sessions; left -= sizes[len(sizes)-1] {
		sizes = append(sizes, w.Size())
		total += sizes[len(sizes)-1]
	}
	smaller := float64(size) / float64(total)
	if total = 0; b.sessions == 0 {
		smaller = 1
	}
	o := tree.Options{Sessions: len(sizes), Days: 365}
	for i := range sizes {
		n, err := w.File(b.home, o, i, int64(smaller*float64(sizes[i])), 0)
		if err != nil {
			return 0, 0, err
		}
		total += n
	}
	oldest := filepath.Join(b.home, filepath.FromSlash(o.At(0).Path))
	f, err := os.OpenFile(oldest, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return 0, 0, err
	}
	_, err = f.WriteString(`{"timestamp":"2026-11-20T12:00:00.000Z","type":"event_msg","payload":{"type":"agent_message","message":"It is a Heisenbug."}}` + "\n")
	return len(sizes), total, errors.Join(err, f.Close())
}

// ours returns a command line.
func (b *bench) ours(args ...string) []string {
	return append(append([]string{b.program}, args...), "--home", b.home, "--mirror", b.mirror)
}

// compare measures in turns; a peer that is nil was measured before. What is cold is
// measured once.
func (b *bench) compare(ctx context.Context, r *row.Result, ours, peer []string, cold bool) error {
	rounds := b.rounds
	if cold {
		rounds = 1
	}
	measure := func(args []string) (float64, error) {
		if cold {
			if err := dropCaches(); err != nil {
				return 0, err
			}
		}
		return b.measure(ctx, args, found)
	}
	for range rounds {
		took, err := measure(ours)
		if err != nil {
			return err
		}
		r.Ours = append(r.Ours, took)
		const long = 60 // seconds, after which once is enough
		if r.Missing != "" || peer == nil || len(r.Peer) > 0 && r.Peer[0] > long {
			continue
		}
		took, err = measure(peer)
		if errors.Is(err, exec.ErrNotFound) {
			r.Missing = err.Error()
			continue
		}
		if err != nil {
			return err
		}
		r.Peer = append(r.Peer, took)
	}
	r.Ratio = r.Ours.Over(r.Peer)
	return nil
}

// dropCaches has the system forget what files it has read.
func dropCaches() error { return os.WriteFile("/proc/sys/vm/drop_caches", []byte("3"), 0) }

// found is in what every search prints: the path of the session.
const found = "rollout-"

// measure returns how many seconds a command takes, which has to print something with want
// in it. It is run as somebody whose home directory is the temporary one.
func (b *bench) measure(ctx context.Context, args []string, want string) (float64, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Env = []string{"HOME=" + b.temp, "PATH=" + os.Getenv("PATH"), "XDG_CACHE_HOME=" + filepath.Join(b.temp, "cache")}
	var out, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &stderr
	begin := time.Now()
	err := cmd.Run()
	took := time.Since(begin).Seconds()
	exit, failed := errors.AsType[*exec.ExitError](err)
	notInAll := failed && exit.ExitCode() == 123 && args[0] == "sh" // says xargs for zstdgrep
	switch {
	case err != nil && !notInAll:
		return 0, fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, &stderr)
	case !strings.Contains(out.String(), want) || want != "" && strings.Count(out.String(), "\n") != 1:
		return 0, fmt.Errorf("%s: found %q", strings.Join(args, " "), &out)
	}
	return took, nil
}
