package faults

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const killPart = "kill -9"

var (
	kills = flag.Int("kills", 130, "how many times each of the commands push, restore, prune and record is killed at a random moment")
	seed  = flag.Uint64("seed", uint64(time.Now().UnixNano()), "of the random moments and sizes; printed by tests that fail")
)

// A killer kills runs of a command at random moments.
type killer struct {
	t      *testing.T
	r      *rand.Rand
	within time.Duration // follows how long a run takes, so that about one in six ends by itself
	killed int
}

func newKiller(t *testing.T, stream uint64) *killer {
	t.Helper()
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("-seed %d", *seed)
		}
	})
	return &killer{t: t, r: rand.New(rand.NewPCG(*seed, stream)), within: 100 * time.Millisecond}
}

// left tells whether there are kills left to do.
func (k *killer) left() bool { return k.killed < *kills }

// kill runs the command and kills it at any moment. A run that is done before has to end
// with 0.
func (k *killer) kill(cmd *exec.Cmd) (done bool) {
	k.t.Helper()
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	must(k.t, cmd.Start())
	end := time.AfterFunc(time.Duration(k.r.Int64N(int64(k.within))), func() { _ = cmd.Process.Kill() })
	_ = cmd.Wait() // its state says it
	end.Stop()
	switch cmd.ProcessState.ExitCode() {
	case 0:
		k.within -= k.within / 10
		return true
	case -1:
		k.within += k.within / 50
		k.killed++
	default:
		k.t.Fatalf("%s", &out)
	}
	return false
}

// account adds the kills.
func (k *killer) account() {
	k.t.Logf("%d kills, within %v", k.killed, k.within)
	account(k.t, killPart, kernel(), k.killed, k.killed)
}

// sizes are n random sizes of sessions.
func (k *killer) sizes(n, most int) (sizes []int) {
	for range n {
		sizes = append(sizes, 300+k.r.IntN(most))
	}
	return sizes
}

// A push that is killed at any moment leaves in the mirror whole versions of sessions
// that the home has or had, none older than before and none beside it.
func TestKillPush(t *testing.T) {
	t.Parallel()
	k := newKiller(t, 1)
	m := newMachine(t)
	home, mirror := m.dir+"/home", m.dir+"/mirror"
	now := newSessions(*seed, k.sizes(8, 30000)...)
	must(t, now.write(home))
	versions := map[string][][]byte{} // that the home had
	current := map[string]int{}       // that the mirror has
	for name, content := range now {
		versions[name], current[name] = [][]byte{content}, -1
	}
	push := func() *exec.Cmd {
		return m.command(nil, "push", "--home", home, "--mirror", mirror, "--idle", "0s", "--jobs", "3")
	}
	check := func() {
		t.Helper()
		got, err := read(mirror)
		must(t, err)
		for name, content := range got.sessions {
			v := slices.IndexFunc(versions[name], func(v []byte) bool { return bytes.Equal(v, content) })
			if v < current[name] || v < 0 {
				t.Fatalf("%s had version %d and has %d", name, current[name], v)
			}
			current[name] = v
		}
		for name, v := range current {
			if v >= 0 && got.sessions[name] == nil {
				t.Fatalf("%s is gone", name)
			}
		}
		for _, name := range got.others {
			if name != "rollout-mirror.json" && !strings.HasPrefix(name, "origins/") && !strings.HasPrefix(name, "catalog/") {
				t.Fatalf("there is %s", name)
			}
		}
	}
	for k.left() {
		k.kill(push())
		check()
		for range 1 + k.r.IntN(4) {
			name := path(k.r.IntN(len(now)))
			now[name] = slices.Concat(now[name], lines(k.r, k.r.IntN(3000)))
			versions[name] = append(versions[name], now[name])
		}
		must(t, now.write(home))
	}
	_, err := expect(push(), 0)
	must(t, err)
	check()
	got, err := read(mirror)
	must(t, errors.Join(err, got.has(now, 1)))
	k.account()
}

// A push to S3 that is killed at any of its requests, before the server has it or after,
// is finished by the next, which leaves what one alone would have. Parts of an upload
// that nobody completes are left to the bucket's lifecycle.
func TestKillPushAtEachRequest(t *testing.T) {
	t.Parallel()
	var cases []killCase
	for what, sizes := range map[string][]int{"small sessions": {300, 5000, 100000}, "a big session": {24 << 20}} {
		s := scene{home: t.TempDir(), then: newSessions(1, sizes...)}
		must(t, s.then.write(s.home))
		for at, request := range requestsOf(t, s) {
			if what == "a big session" && !strings.Contains(request, "upload") {
				continue
			}
			cases = append(cases, killCase{what, s, at + 1, false}, killCase{what, s, at + 1, true})
		}
	}
	var killed atomic.Int64
	each(t, cases, func(c killCase) error {
		p := newProxy(nil)
		defer p.close()
		dir, bucket, err := newBucket()
		if err != nil {
			return err
		}
		m := newMachine(t)
		cmd := m.command(nil, pushArgs(c.scene.home, p.mirror(bucket))...)
		p.harm(func(n int, _ *http.Request) fault {
			if n != c.at {
				return nil
			}
			killed.Add(1)
			return func(p *proxy, w http.ResponseWriter, r *http.Request) {
				if c.after {
					p.forward(w, r, func(*http.Response) error { return cmd.Process.Kill() })
					return
				}
				_ = cmd.Process.Kill()
				reset(w)
			}
		})
		if _, err := expect(cmd, -1); err != nil {
			return err
		}
		got, err := read(dir)
		if err == nil {
			err = got.sessions.among(c.scene.then)
		}
		if err == nil {
			_, err = expect(m.command(nil, pushArgs(c.scene.home, p.mirror(bucket))...), 0)
		}
		if err != nil {
			return err
		}
		if got, err = read(dir); err == nil {
			got.parts = nil
			err = got.has(c.scene.then, 1)
		}
		return err
	})
	account(t, killPart, kernel(), len(cases), int(killed.Load()))
}

// A killCase is a push that is killed at a request.
type killCase struct {
	what  string
	scene scene
	at    int
	after bool // the server has it
}

func (c killCase) String() string {
	return fmt.Sprintf("push of %s, killed at request %d, after it %t", c.what, c.at, c.after)
}

// A restore that is killed at any moment leaves whole sessions, and what the home had of
// them, and no more of what was restored is missing later.
func TestKillRestore(t *testing.T) {
	t.Parallel()
	k := newKiller(t, 2)
	m := newMachine(t)
	mirror := m.dir + "/mirror"
	before := newSessions(*seed, k.sizes(8, 60000)...)
	all := before.grown(*seed)
	must(t, all.write(m.dir+"/full"))
	_, err := expect(m.command(nil, pushArgs(m.dir+"/full", mirror)...), 0)
	must(t, err)
	for n := 0; k.left(); n++ {
		home := fmt.Sprintf("%s/home-%d", m.dir, n)
		must(t, os.Mkdir(home, 0o700))
		begun := sessions{}
		for i := range len(all) / 2 { // the beginnings of some are there
			begun[path(2*i)] = before[path(2*i)]
		}
		must(t, begun.write(home))
		restore := func() *exec.Cmd { return m.command(nil, "restore", "--all", "--home", home, "--mirror", mirror) }
		whole := sessions{}
		check := func() {
			t.Helper()
			got, others, err := restored(home)
			must(t, errors.Join(err, got.among(all, begun)))
			for name := range begun {
				if got[name] == nil {
					t.Fatalf("%s is gone", name)
				}
			}
			for name := range whole {
				if !bytes.Equal(got[name], all[name]) {
					t.Fatalf("%s was restored and is not any more", name)
				}
			}
			for _, name := range others {
				if strings.HasPrefix(filepath.Base(name), "rollout-2") {
					t.Fatalf("there is %s", name)
				}
			}
			for name, content := range got {
				if bytes.Equal(content, all[name]) {
					whole[name] = content
				}
			}
		}
		for done := false; !done && k.left(); {
			done = k.kill(restore())
			check()
		}
		_, err := expect(restore(), 0)
		must(t, err)
		check()
		must(t, whole.are(all))
	}
	k.account()
}

// A prune that is killed at any moment leaves each session whole where it was, in the
// trash, or, if it has been there before, in the mirror alone.
func TestKillPrune(t *testing.T) {
	t.Parallel()
	k := newKiller(t, 3)
	m := newMachine(t)
	mirror := m.dir + "/mirror"
	all := newSessions(*seed, k.sizes(10, 30000)...)
	homes := make([]string, 1+*kills/10)
	for i := range homes {
		homes[i] = fmt.Sprintf("%s/home-%d", m.dir, i)
		must(t, all.write(homes[i]))
	}
	_, err := expect(m.command(nil, pushArgs(homes[0], mirror)...), 0)
	must(t, err)
	prune := func(home string) *exec.Cmd {
		return m.command(nil, "prune", "--home", home, "--mirror", mirror, "--older-than", "0d", "--apply", "--same-device-ok")
	}
	for round := 0; k.left(); round++ {
		settle()
		for _, home := range homes {
			k.kill(prune(home))
			here, trash, err := pruned(home)
			must(t, errors.Join(err, here.among(all), trash.among(all)))
			for name := range all {
				if round == 0 && here[name] == nil && trash[name] == nil {
					t.Fatalf("%s: %s is gone from the home and never was in the trash", home, name)
				}
			}
		}
		got, err := read(mirror)
		must(t, errors.Join(err, got.has(all, 1)))
	}
	// What the last kill moved has changed just now, and again when its other name, in
	// the trash, goes; so it takes up to three.
	for range 3 {
		settle()
		for _, home := range homes {
			_, err := expect(prune(home), 0)
			must(t, err)
		}
	}
	for _, home := range homes {
		here, trash, err := pruned(home)
		must(t, errors.Join(err, here.are(nil), trash.are(nil)))
	}
	_, err = expect(m.command(nil, "restore", "--all", "--home", homes[0], "--mirror", mirror), 0)
	must(t, err)
	got, _, err := restored(homes[0])
	must(t, errors.Join(err, got.are(all)))
	k.account()
}

// settle returns when what was changed before has not changed just now any more, by the
// clock of the file system, which rollout-sync does not trust for two seconds.
func settle() { <-time.After(2100 * time.Millisecond) }

// pruned returns the sessions of a home, and those in its trash.
func pruned(home string) (here, trash sessions, err error) {
	here, others, err := restored(home)
	trash = sessions{}
	for _, name := range others {
		if rest, ok := strings.CutPrefix(name, "rollout-sync-trash/"); ok && err == nil {
			_, original, _ := strings.Cut(rest, "/")
			trash[original], err = os.ReadFile(filepath.Join(home, name))
		}
	}
	return here, trash, err
}

// A record that is killed at any moment leaves lines that are whole, in order, each
// once, but for the last; and the next one goes on behind them.
func TestKillRecord(t *testing.T) {
	t.Parallel()
	k := newKiller(t, 4)
	m := newMachine(t)
	must(t, os.Mkdir(m.dir+"/home", 0o700))
	for n := 0; k.left(); n++ {
		s := newRecorded(t, k, m, n)
		for range 15 {
			if !k.left() {
				break
			}
			s.record(func(cmd *exec.Cmd) { k.kill(cmd) })
		}
		s.record(func(cmd *exec.Cmd) {
			_, err := expect(cmd, 0)
			must(t, err)
		})
	}
	k.account()
}

// recorded is a session of record.
type recorded struct {
	t    *testing.T
	k    *killer
	m    *machine
	id   string
	next int          // the first item that is not in the file
	torn map[int]bool // lines that a kill cut off
	was  []byte
}

func newRecorded(t *testing.T, k *killer, m *machine, n int) *recorded {
	return &recorded{t: t, k: k, m: m, id: fmt.Sprintf("01a1f81e-6bb9-7000-8000-%012d", n), torn: map[int]bool{}}
}

// record gives items to a run of record, as do runs it, and looks at the file.
func (s *recorded) record(do func(*exec.Cmd)) {
	s.t.Helper()
	file, err := s.file()
	must(s.t, err)
	args := []string{"record", "--home", s.m.dir + "/home", "--resume", s.id}
	if file == "" {
		args = []string{"record", "--home", s.m.dir + "/home", "--meta", "id=" + s.id}
	}
	cmd := s.m.command(nil, args...)
	in, err := cmd.StdinPipe()
	must(s.t, err)
	end := s.next + 40
	sent := make(chan struct{})
	go func() {
		defer close(sent)
		defer in.Close()
		r := rand.New(rand.NewPCG(*seed, uint64(s.next)))
		for i := s.next; i < end; i++ {
			size := r.IntN(2000)
			if r.IntN(20) == 0 {
				size *= 100
			}
			if _, err := fmt.Fprintf(in, `{"type":"event_msg","payload":{"type":"user_message","n":%d,"message":"%s"}}`+"\n", i, strings.Repeat("x", size)); err != nil {
				return // it has been killed
			}
		}
	}()
	do(cmd)
	<-sent
	done := cmd.ProcessState.ExitCode() == 0
	if file, err = s.file(); err != nil || file == "" && !done {
		must(s.t, err)
		return
	}
	now, err := os.ReadFile(file)
	must(s.t, err)
	if !bytes.Contains(now, []byte("\n")) { // dead before its first line was whole
		must(s.t, os.Remove(file))
		return
	}
	if !bytes.HasPrefix(now, s.was) {
		s.t.Fatalf("the %d bytes that were there are not the beginning of the %d now", len(s.was), len(now))
	}
	s.was = now
	all := bytes.SplitAfter(now, []byte("\n"))
	s.next = 0
	for i, line := range all {
		var item struct {
			Type    string
			Payload struct{ N *int }
		}
		switch err := json.Unmarshal(line, &item); {
		case len(line) == 0:
		case err != nil && i == len(all)-1 && !done:
			s.torn[i] = true
		case err != nil && s.torn[i]:
		case err != nil:
			s.t.Fatalf("line %d: %v", i, err)
		case item.Type == "session_meta" && i == 0:
		case item.Payload.N == nil || *item.Payload.N != s.next:
			s.t.Fatalf("line %d is not item %d: %.100s", i, s.next, line)
		default:
			s.next++
		}
	}
	if done && s.next != end {
		s.t.Fatalf("%d items are recorded, of %d", s.next, end)
	}
}

// file returns the session's, "" if there is none.
func (s *recorded) file() (string, error) {
	names, err := filepath.Glob(s.m.dir + "/home/sessions/*/*/*/rollout-*" + s.id + ".jsonl")
	if len(names) != 1 {
		return "", err
	}
	return names[0], err
}
