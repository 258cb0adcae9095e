package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/rollout-sync/rollout/bench/row"
	"github.com/rollout-sync/rollout/bench/session"
	"github.com/rollout-sync/rollout/bench/tree"
)

const mb = 1e6

// perObject is what an object may cost of CPU time beyond its bytes.
const perObject = time.Millisecond

// settle waits until no file is so new that it might change again unnoticed.
func settle(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(2500 * time.Millisecond):
		return nil
	}
}

// row5 pushes sessions of all sizes: CPU beside what cannot be avoided, and time
// through a slow link beside rclone.
func (m *machine) row5(ctx context.Context) ([]row.Result, error) {
	home := m.path("home5")
	w := session.New(m.seed)
	var total int64
	o := tree.Options{Sessions: 1 << 12, Days: 120}
	n := 0
	for ; total < m.sizeMB*mb && n < o.Sessions; n++ {
		size, err := w.File(home, o, n, min(w.Size(), m.sizeMB*mb-total), 0)
		if err != nil {
			return nil, err
		}
		total += size
	}
	if err := settle(ctx); err != nil {
		return nil, err
	}
	var least, cpu, wall, slow, peer, rss, restic, zstd, bareCPU, bareSlow row.Sample
	var requests, objects int
	for i := range m.rounds {
		t, err := m.process(ctx, "limit", m.self, "=limit", home)
		if err != nil {
			return nil, err
		}
		least = append(least, seconds(t.CPU))

		before, err := m.requests()
		if err != nil {
			return nil, err
		}
		if t, objects, err = m.push5(ctx, home, m.addr, fmt.Sprintf("five-%d", i)); err != nil {
			return nil, err
		}
		after, err := m.requests()
		if err != nil {
			return nil, err
		}
		cpu, wall, rss = append(cpu, seconds(t.CPU)), append(wall, seconds(t.Wall)), append(rss, float64(t.RSS)/mb)
		requests = after - before

		if t, _, err = m.push5(ctx, home, m.link, fmt.Sprintf("five-slow-%d", i)); err != nil {
			return nil, err
		}
		slow = append(slow, seconds(t.Wall))
		if t, err = m.bare5(ctx, home, m.addr); err != nil {
			return nil, err
		}
		bareCPU = append(bareCPU, seconds(t.CPU))
		if t, err = m.bare5(ctx, home, m.link); err != nil {
			return nil, err
		}
		bareSlow = append(bareSlow, seconds(t.Wall))
		if m.rclone != "" {
			const bucket = "five-rclone"
			if err := m.bucket(bucket); err != nil {
				return nil, err
			}
			t, err := m.copy(ctx, m.link, home, bucket, "--transfers", "8", "--s3-disable-checksum")
			if err := errors.Join(err, m.drop(bucket)); err != nil {
				return nil, err
			}
			peer = append(peer, seconds(t.Wall))
		}
		if _, err := exec.LookPath("restic"); err == nil {
			const bucket = "five-restic"
			if err := m.bucket(bucket); err != nil {
				return nil, err
			}
			t, err := m.backup(ctx, m.link, home, bucket)
			if err := errors.Join(err, m.drop(bucket)); err != nil {
				return nil, err
			}
			restic = append(restic, seconds(t.Wall))
		}
		if _, err := exec.LookPath("zstd"); err == nil {
			t, err := m.process(ctx, "zstd", "sh", "-c", `find "$1" -type f | xargs zstd -3 -q -c >/dev/null`, "sh", home)
			if err != nil {
				return nil, err
			}
			zstd = append(zstd, seconds(t.CPU))
		}
	}
	title("Row 5: push of %d sessions, %.0f MB, into S3 on loopback; %d rounds", n, float64(total)/mb, m.rounds)
	bytesOnly, bareOnly := make(row.Sample, len(cpu)), make(row.Sample, len(cpu))
	for i := range cpu {
		bytesOnly[i] = cpu[i] - seconds(time.Duration(objects)*perObject)
		bareOnly[i] = bareCPU[i] - seconds(time.Duration(n)*perObject)
	}
	line("CPU s, against zstd + SHA-256", cpu, least, cpu.Over(least), "")
	line("CPU s less 1 ms an object, the same", bytesOnly, least, bytesOnly.Over(least), "≤ 1.25")
	line("the same by a bare push", bareOnly, least, bareOnly.Over(least), "≤ 1.25")
	line("CPU s, against a bare push", cpu, bareCPU, cpu.Over(bareCPU), "")
	line("wall s at 100 MB/s, against rclone raw", slow, peer, peer.Over(slow), "≥ 2")
	line("the same by a bare push", bareSlow, peer, peer.Over(bareSlow), "≥ 2")
	line("wall s at 100 MB/s, against a bare push", slow, bareSlow, slow.Over(bareSlow), "")
	line("the same, against restic backup", slow, restic, restic.Over(slow), "")
	line("CPU s, against zstd -3 of each file", cpu, zstd, cpu.Over(zstd), "")
	line("wall s on loopback", wall, "-", "-", "")
	line("requests a session", fmt.Sprintf("%.2f", float64(requests)/float64(n)), "-", "-", "")
	line("objects: sessions, facts and the catalog", objects, "-", "-", "")
	line("RSS MB", rss, 134, "-", "≤ 134")
	work := fmt.Sprintf("push %d MB", m.sizeMB)
	slowly := fmt.Sprintf("%s at %.0f MB/s", work, linkRate/mb)
	const leastName, bareName = "zstd + SHA-256", "bare push"
	return []row.Result{
		{
			Row: 5, Work: work + ", CPU less 1 ms an object", Unit: "s", Ours: bytesOnly,
			Limit: least, LimitName: leastName, Ratio: bytesOnly.Over(least), Promise: row.AtMost(1.25),
		},
		{
			Row: 5, Work: "the same by a bare push instead of ours", Unit: "s", Ours: bareOnly,
			Limit: least, LimitName: leastName, Ratio: bareOnly.Over(least), Promise: row.AtMost(1.25),
		},
		{
			Row: 5, Work: work + ", CPU", Unit: "s", Ours: cpu,
			Limit: bareCPU, LimitName: bareName, Ratio: cpu.Over(bareCPU),
		},
		{
			Row: 5, Work: slowly, Unit: "s", Ours: slow,
			Peer: peer, PeerName: m.rcloneName, Missing: m.rcloneMissing, Ratio: peer.Over(slow), Promise: row.AtLeast(2),
		},
		{
			Row: 5, Work: "the same by a bare push instead of ours", Unit: "s", Ours: bareSlow,
			Peer: peer, PeerName: m.rcloneName, Missing: m.rcloneMissing, Ratio: peer.Over(bareSlow), Promise: row.AtLeast(2),
		},
		{
			Row: 5, Work: slowly, Unit: "s", Ours: slow,
			Limit: bareSlow, LimitName: bareName, Ratio: slow.Over(bareSlow),
		},
		{
			Row: 5, Work: slowly, Unit: "s", Ours: slow,
			Peer: restic, PeerName: "restic backup", Missing: missing(restic), Ratio: restic.Over(slow),
		},
		{
			Row: 5, Work: work + ", CPU", Unit: "s", Ours: cpu,
			Peer: zstd, PeerName: "zstd -3 of each file", Missing: missing(zstd), Ratio: cpu.Over(zstd),
		},
	}, os.RemoveAll(home)
}

// missing says why there is no sample of a program that is taken from the path.
func missing(s row.Sample) string {
	if len(s) == 0 {
		return "it is not installed"
	}
	return ""
}

// push5 pushes everything for the first time, and tells how many objects it makes.
func (m *machine) push5(ctx context.Context, home, addr, bucket string) (t took, objects int, err error) {
	if err := m.bucket(bucket); err != nil {
		return took{}, 0, err
	}
	t, err = m.sync(ctx, bucket, home, s3URL(addr, bucket), "push")
	err = errors.Join(err, filepath.WalkDir(m.data(bucket), func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			objects++
		}
		return err
	}))
	return t, objects, errors.Join(err, m.drop(bucket), os.RemoveAll(m.path(bucket)))
}

// bare5 puts everything into a bucket by the shortest program that can.
func (m *machine) bare5(ctx context.Context, home, addr string) (took, error) {
	const bucket = "five-bare"
	if err := m.bucket(bucket); err != nil {
		return took{}, err
	}
	t, err := m.process(ctx, "bare", m.self, "=bare", home, "http://"+addr+"/"+bucket)
	return t, errors.Join(err, m.drop(bucket))
}

// rcloneNothing are the ways in which rclone may find out that nothing is to do. The
// last does not compare with what is there, only with the clock: it misses what was
// moved, compressed or not copied the last time.
var rcloneNothing = []string{
	"--fast-list --checkers 16 --update --use-server-modtime",
	"--fast-list --checkers 16 --size-only",
	"--checkers 16 --size-only",
}

const rcloneByClock = "--max-age 1m --no-traverse"

// row6 pushes many small sessions, and again.
func (m *machine) row6(ctx context.Context) ([]row.Result, error) {
	home := m.path("home6")
	o := tree.Options{Sessions: m.sessions, Days: 365, Archived: 0.1, Prompt: 500, Body: 1000}
	if err := tree.Make(home, o); err != nil {
		return nil, err
	}
	if err := settle(ctx); err != nil {
		return nil, err
	}
	const bucket, peerBucket = "six", "six-rclone"
	if err := errors.Join(m.bucket(bucket), m.bucket(peerBucket)); err != nil {
		return nil, err
	}
	dir, s3 := m.path("mirror6"), s3URL(m.addr, bucket)
	counted := func(run func() (took, error)) (took, int, error) {
		before, err := m.requests()
		if err != nil {
			return took{}, 0, err
		}
		t, err := run()
		if err != nil {
			return t, 0, err
		}
		after, err := m.requests()
		return t, after - before, err
	}
	ours := func(mirror string) func() (took, error) {
		return func() (took, error) { return m.sync(ctx, "six", home, mirror, "push") }
	}
	peer := func(flags string) func() (took, error) {
		return func() (took, error) { return m.copy(ctx, m.addr, home, peerBucket, strings.Fields(flags)...) }
	}
	firstDir, _, err := counted(ours(dir))
	if err != nil {
		return nil, err
	}
	firstS3, firstRequests, err := counted(ours(s3))
	if err != nil {
		return nil, err
	}
	var firstPeer took
	var firstPeerRequests int
	if m.rclone != "" {
		if firstPeer, firstPeerRequests, err = counted(peer("--transfers 8")); err != nil {
			return nil, err
		}
	}

	var nothingDir, nothing, cpu, rss, bare, clock row.Sample
	requests := 0
	peers := make([]row.Sample, len(rcloneNothing))
	for range m.rounds {
		t, err := m.process(ctx, "limit", m.self, "=walk", home)
		if err != nil {
			return nil, err
		}
		bare = append(bare, seconds(t.Wall))
		if t, err = ours(dir)(); err != nil {
			return nil, err
		}
		nothingDir = append(nothingDir, seconds(t.Wall))
		t, n, err := counted(ours(s3))
		if err != nil {
			return nil, err
		}
		nothing, cpu, rss = append(nothing, seconds(t.Wall)), append(cpu, seconds(t.CPU)), append(rss, float64(t.RSS)/mb)
		requests += n
		if m.rclone == "" {
			continue
		}
		for i, flags := range rcloneNothing {
			t, err := peer(flags)()
			if err != nil {
				return nil, err
			}
			peers[i] = append(peers[i], seconds(t.Wall))
		}
		if t, err = peer(rcloneByClock)(); err != nil {
			return nil, err
		}
		clock = append(clock, seconds(t.Wall))
	}
	title("Row 6: push of %d small sessions; %d rounds", m.sessions, m.rounds)
	for i, flags := range rcloneNothing {
		line("nothing to do, wall s, against rclone", nothing, peers[i], peers[i].Over(nothing), "≥ 10; rclone "+flags)
	}
	line("nothing to do, wall s, rclone not comparing", nothing, clock, clock.Over(nothing), "rclone "+rcloneByClock)
	line("nothing to do, wall s, a walk and lstat", nothing, bare, nothing.Over(bare), "")
	line("nothing to do, wall s, directory", nothingDir, "-", "-", "")
	line("nothing to do, CPU s", cpu, "-", "-", "")
	line("nothing to do, RSS MB", rss, 134, "-", "≤ 134")
	line("nothing to do, requests", requests, "-", "-", "0")
	first := func(what string, t took, requests int) {
		line("first push, "+what, fmt.Sprintf("%.1f s", t.Wall.Seconds()), fmt.Sprintf("CPU %.1f s", t.CPU.Seconds()),
			fmt.Sprintf("RSS %.0f MB", float64(t.RSS)/mb), fmt.Sprintf("%.3f requests a session", float64(requests)/float64(m.sessions)))
	}
	first("directory", firstDir, 0)
	first("S3", firstS3, firstRequests)
	if m.rclone != "" {
		first("S3, rclone --transfers 8", firstPeer, firstPeerRequests)
	}
	fastest := 0
	for i := range peers {
		if m.rclone != "" && peers[i].Median() < peers[fastest].Median() {
			fastest = i
		}
	}
	work := fmt.Sprintf("push with nothing to do, %d sessions", m.sessions)
	all := row.Sample{float64(requests)} // of all rounds: none may make any
	return []row.Result{
		{
			Row: 6, Work: work, Unit: "s", Ours: nothing,
			Peer: peers[fastest], PeerName: m.rcloneName + " " + rcloneNothing[fastest], Missing: m.rcloneMissing,
			Limit: bare, LimitName: "walk and lstat", Ratio: peers[fastest].Over(nothing), Promise: row.AtLeast(10),
		},
		{Row: 6, Work: work, Unit: "requests", Ours: all, Ratio: all, Promise: row.AtMost(0)},
	}, errors.Join(m.drop(bucket), m.drop(peerBucket), os.RemoveAll(dir), os.RemoveAll(home))
}

// row8 tells the memory of every command, for one large session and for one of long
// lines.
func (m *machine) row8(ctx context.Context) ([]row.Result, error) {
	var results []row.Result
	for i, k := range []struct {
		name       string
		size, line int64
		longest    int64 // line, at most
	}{
		{"large", m.bigMB * mb, 0, 5 * mb},
		{"lines", 4 * m.lineMB * mb, m.lineMB * mb, m.lineMB*mb + 1000},
	} {
		home, empty, back := m.path(k.name), m.path(k.name+"-empty"), m.path(k.name+"-back")
		o := tree.Options{Sessions: 2, Days: 2}
		size, err := session.New(m.seed+uint64(i)).File(home, o, 1, k.size, k.line)
		if err != nil {
			return nil, err
		}
		if err := errors.Join(os.Mkdir(empty, 0o700), os.Mkdir(back, 0o700), m.bucket(k.name)); err != nil {
			return nil, err
		}
		if err := settle(ctx); err != nil {
			return nil, err
		}
		id := o.At(1).ID.String()
		dir, s3 := m.path(k.name+"-mirror"), s3URL(m.addr, k.name)
		allowed := float64(128<<20+2*k.longest) / mb
		var most float64
		var worst string // of the commands
		var failed []string
		title("Row 8: one session of %.0f MB, lines of up to %.0f MB: RSS MB", float64(size)/mb, float64(k.longest)/mb)
		for _, c := range []struct {
			what, home, mirror string
			args               []string
		}{
			{"push, S3", home, s3, []string{"push"}},
			{"push, directory", home, dir, []string{"push"}},
			{"push, nothing to do", home, s3, []string{"push"}},
			{"verify --deep, S3", home, s3, []string{"verify", "--deep"}},
			{"verify --deep, directory", home, dir, []string{"verify", "--deep"}},
			{"list, home", home, dir, []string{"list"}},
			{"list, S3", empty, s3, []string{"list"}},
			{"show, home", home, dir, []string{"show", id}},
			{"show, S3", empty, s3, []string{"show", id}},
			{"show jsonl, home", home, dir, []string{"show", "--format", "jsonl", id}},
			{"show jsonl, S3", empty, s3, []string{"show", "--format", "jsonl", id}},
			{"restore, S3", back, s3, []string{"restore", id}},
			{"restore, S3, it is there", back, s3, []string{"restore", id}},
		} {
			t, err := m.sync(ctx, k.name+"-user", c.home, c.mirror, c.args[0], c.args[1:]...)
			if err != nil {
				line(c.what, "failed", "-", "-", err.Error())
				failed = append(failed, c.what)
				continue
			}
			rss := float64(t.RSS) / mb
			line(c.what, fmt.Sprintf("%.0f", rss), fmt.Sprintf("%.0f", allowed), fmt.Sprintf("%.2f", rss/allowed), fmt.Sprintf("≤ 1; took %.1f s", t.Wall.Seconds()))
			if rss > most {
				most, worst = rss, c.what
			}
		}
		results = append(results, row.Result{
			Row: 8, Work: fmt.Sprintf("memory, a session of %.0f MB, lines of up to %.0f MB: %s", float64(size)/mb, float64(k.longest)/mb, worst),
			Unit: "MB", Ours: row.Sample{most}, Limit: row.Sample{allowed}, LimitName: "promised",
			Ratio: row.Sample{most / allowed}, Promise: row.AtMost(1), Failed: strings.Join(failed, ", "),
		})
		if err := errors.Join(m.drop(k.name), os.RemoveAll(home), os.RemoveAll(dir), os.RemoveAll(back)); err != nil {
			return nil, err
		}
	}
	return results, nil
}
