package faults

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

const overlapPart = "overlapping runs"

// together runs commands at the same time, and returns how many ended with which code.
func together(t *testing.T, cmds ...*exec.Cmd) map[int]int {
	t.Helper()
	codes := map[int]int{}
	var (
		all sync.WaitGroup
		mu  sync.Mutex
	)
	for _, cmd := range cmds {
		all.Go(func() {
			e, err := run(cmd)
			mu.Lock()
			defer mu.Unlock()
			if codes[e.code]++; err == nil {
				err = e.wants(0, 11)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	return codes
}

// Of pushes of one home at once each does all there is to do, or ends with 11; those
// that wait do not. Whoever does it, it is done once.
func TestPushesOfOneHome(t *testing.T) {
	t.Parallel()
	all := newSessions(30, 300, 5000, 20000, 50000, 100000)
	for _, runs := range []int{2, 10} {
		for _, wait := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d, wait %t", runs, wait), func(t *testing.T) {
				m := newMachine(t)
				must(t, all.write(m.dir+"/home"))
				p := newProxy(nil)
				defer p.close()
				dir, bucket, err := newBucket()
				must(t, err)
				cmds := make([]*exec.Cmd, runs)
				for i := range cmds {
					args := pushArgs(m.dir+"/home", p.mirror(bucket))
					if wait {
						args = append(args, "--wait", "1m")
					}
					cmds[i] = m.command(nil, args...)
				}
				codes := together(t, cmds...)
				if codes[0] == 0 || wait && codes[11] > 0 {
					t.Errorf("so many ended with these codes: %v", codes)
				}
				got, err := read(dir)
				must(t, errors.Join(err, got.has(all, 1)))
				puts := 0
				for _, r := range p.requests {
					if strings.HasPrefix(r, "PUT /"+bucket+"/sessions/") {
						puts++
					}
				}
				if puts != len(all) {
					t.Errorf("%d sessions were put %d times", len(all), puts)
				}
				account(t, overlapPart, gateway.Version, 1, runs-1)
			})
		}
	}
}

// Ten homes on ten machines push to one mirror at once: sessions of their own, one that
// all have, one of which each has more than the one before, and one that each went on
// with in its own way. All of it is there afterwards, the longest as the current one,
// and nothing twice.
func TestTenHomesIntoOneMirror(t *testing.T) {
	t.Parallel()
	t.Run("directory", func(t *testing.T) {
		dir := t.TempDir()
		tenHomes(t, dir, dir)
		account(t, overlapPart, kernel(), 1, homes-1)
	})
	t.Run("S3", func(t *testing.T) {
		dir, bucket, err := newBucket()
		must(t, err)
		// The gateway judges a condition some time before it writes, and writes an
		// object's metadata after its bytes. S3 does it all at once, as the gateway
		// does if it gets one request at a time.
		var one sync.Mutex
		p := newProxy(func(int, *http.Request) fault {
			return func(p *proxy, w http.ResponseWriter, r *http.Request) {
				one.Lock()
				defer one.Unlock()
				p.forward(w, r, nil)
			}
		})
		defer p.close()
		tenHomes(t, dir, p.mirror(bucket))
		account(t, overlapPart, gateway.Version, 1, homes-1)
	})
}

const homes = 10

// tenHomes are pushed to the mirror, whose files are in dir.
func tenHomes(t *testing.T, dir, mirror string) {
	common := newSessions(31, 20000, 3000, 4000)
	same, growing, forked := path(0), path(1), path(2)
	var pushes []func() *exec.Cmd
	want := sessions{same: common[same], growing: common[growing]}
	forks := map[string]bool{} // contents
	for i := range homes {
		m := newMachine(t)
		own := path(100 + i)
		fork := fmt.Appendf(slices.Clone(common[forked]), `{"timestamp":"2026-11-20T08:41:47.000Z","type":"event_msg","payload":{"n":%d}}`+"\n", i)
		want[own] = newSessions(32, 1000)[path(0)]
		want[growing] = fmt.Appendf(slices.Clone(want[growing]), `{"timestamp":"2026-11-20T08:41:47.000Z","type":"event_msg","payload":{"n":%d}}`+"\n", i)
		forks[string(fork)] = true
		must(t, sessions{own: want[own], same: want[same], growing: want[growing], forked: fork}.write(m.dir+"/home"))
		pushes = append(pushes, func() *exec.Cmd {
			return m.command(nil, "push", "--home", m.dir+"/home", "--mirror", mirror, "--idle", "0s", "--origin", fmt.Sprintf("home-%d", i))
		})
	}
	for range 2 { // once more, and there is nothing to do
		cmds := make([]*exec.Cmd, homes)
		for i, push := range pushes {
			cmds[i] = push()
		}
		if codes := together(t, cmds...); codes[0] != homes {
			t.Errorf("so many ended with these codes: %v", codes)
		}
	}
	got, err := read(dir)
	must(t, err)
	if !forks[string(got.sessions[forked])] {
		t.Error("the current version of the session that all went on with is none of theirs")
	}
	delete(forks, string(got.sessions[forked]))
	delete(got.sessions, forked)
	var others []string
	for _, name := range got.others {
		if !strings.HasPrefix(name, "diverged/"+strings.TrimSuffix(forked, ".jsonl")) {
			others = append(others, name)
			continue
		}
		content, err := decoded(dir + "/" + name)
		must(t, err)
		if !forks[string(content)] {
			t.Errorf("%s is none of theirs, or there twice", name)
		}
		delete(forks, string(content))
	}
	if len(forks) > 0 {
		t.Errorf("of %d versions %d are lost", homes, len(forks))
	}
	got.others = others
	must(t, got.has(want, homes))
}

// Restores into one home at once, and restores while the home is pushed: each does what
// there is to do, or ends with 11, and what there is afterwards is all there is.
func TestOverlappingRestores(t *testing.T) {
	t.Parallel()
	all := newSessions(33, 300, 5000, 20000, 50000, 100000, 1<<20)
	full := t.TempDir()
	must(t, all.write(full))
	for what, second := range map[string]string{"two restores": "restore", "a restore and a push": "push"} {
		t.Run(what, func(t *testing.T) {
			m := newMachine(t)
			home, mirror := m.dir+"/home", m.dir+"/mirror"
			_, err := expect(newMachine(t).command(nil, "push", "--home", full, "--mirror", mirror, "--idle", "0s", "--origin", "full"), 0)
			must(t, err)
			here := newSessions(34, 700, 800)
			here = sessions{path(200): here[path(0)], path(201): here[path(1)]}
			must(t, here.write(home))
			restore := func() *exec.Cmd { return m.command(nil, "restore", "--all", "--home", home, "--mirror", mirror) }
			want := maps.Clone(all)
			maps.Copy(want, here)
			for range 5 {
				other := restore()
				if second == "push" {
					other = m.command(nil, pushArgs(home, mirror)...)
				}
				together(t, restore(), other)
				got, _, err := restored(home)
				must(t, errors.Join(err, got.among(want)))
			}
			_, err = expect(restore(), 0)
			must(t, err)
			_, err = expect(m.command(nil, pushArgs(home, mirror)...), 0)
			must(t, err)
			got, others, err := restored(home)
			must(t, errors.Join(err, got.are(want)))
			if len(others) > 0 {
				t.Errorf("there is %q", others)
			}
			c, err := read(mirror)
			must(t, errors.Join(err, c.has(want, 2)))
			account(t, overlapPart, kernel(), 5, 5)
		})
	}
}
