//go:build linux

package codex

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store/blob"
	"github.com/rollout-sync/rollout/store/blob/dirblob"
)

// Pushes run one after the other while Codex writes, archives, compresses, migrates and
// is killed. Each version that one told of is whole in the mirror afterwards; move sees
// that the last is what the home has.
func init() {
	scenarios = append(scenarios, scenario{name: "pushed all the while", kills: rounds, run: func(r *run) {
		p := r.pushAllTheWhile()
		grows, moves, rests := r.start(r.mode), r.start(r.mode), r.start(r.mode)
		for _, id := range []string{grows, moves, rests} {
			r.say(id, "one")
			r.say(id, "RUN:echo two")
		}
		call := func(method, id string) {
			r.t.Helper()
			_, err := r.call(method, object{"threadId": id})
			must(r.t, err)
			r.loaded[id] = false
		}
		for range rounds {
			r.restart()
			r.say(grows, "SAY:100000")
			call("thread/archive", moves)
			r.say(grows, "RUN:seq 1 1000")
			r.say(r.fork(grows, nil), "of the fork") // else Codex lists it by its database alone
			call("thread/unarchive", moves)
			switch turn := r.say(moves, "back"); {
			case r.mode == paginated && atLeast(r.version, "0.169.0"):
				r.revert(moves, turn)
				r.say(moves, "back again")
			case r.mode == legacy && !atLeast(r.version, "0.169.0"):
				r.rollback(moves, 1)
			}
			r.compact(grows)

			n := r.model.count()
			r.begin(grows, "HANG")
			r.model.await(n)
			r.kill()
			r.server = nil
			p.more() // of the torn turn
			if atLeast(r.version, "0.169.0") {
				r.restart()
				r.compress(rests)
				p.more()
				r.say(rests, "which decompresses it")
				if r.mode == legacy {
					r.say(r.start(r.mode), "of a thread that is to be migrated")
					r.halt()
					r.migrate()
					p.more()
				}
			}
		}
		r.halt()
		p.end()
		p.check()
		r.check(moves)
		r.check(grows)
	}})
}

const rounds = 2

// compress has Codex compress a thread that it does not have open, as it does by itself
// with what has rested for a week.
func (r *run) compress(id string) {
	r.t.Helper()
	file := r.path(id)
	ago := time.Now().Add(-8 * 24 * time.Hour)
	must(r.t, os.Chtimes(file, ago, ago))
	// The mark that it has done so lately.
	if err := os.Remove(filepath.Join(r.dir, ".tmp/rollout-compression.lock")); err != nil && !os.IsNotExist(err) {
		r.t.Fatal(err)
	}
	_, err := r.call("rollout/compress", object{})
	must(r.t, err)
	poll(r.t, "a compressed rollout", func() bool {
		_, err := os.Stat(file)
		return os.IsNotExist(err)
	})
	if _, err := os.Stat(file + ".zst"); err != nil {
		r.t.Error(err)
	}
}

// migrate has Codex make all threads paginated, in place.
func (r *run) migrate() {
	r.t.Helper()
	cmd := r.command(r.t.Context(), "migrate-rollouts", "--apply")
	if out, err := cmd.CombinedOutput(); err != nil || bytes.Contains(out, []byte(": 0 migrated")) {
		r.t.Errorf("codex migrate-rollouts: %v: %s", err, out)
	}
}

// pushes run one after the other until they are ended.
type pushes struct {
	h      *home
	mirror *blob.Store
	stop   chan struct{}
	done   chan struct{}
	begun  chan struct{} // a push begins
	told   map[version]bool
	n      int
}

// A version of a rollout is one that a push said is in the mirror.
type version struct {
	name   codec.Name
	size   int64
	sha256 string
}

func (h *home) pushAllTheWhile() *pushes {
	h.sync("push") // makes the mirror
	b, err := dirblob.OpenBucket(h.mirror(), nil)
	must(h.t, err)
	p := &pushes{
		h: h, mirror: blob.New(b, &blob.Options{Service: dirblob.Service()}), told: map[version]bool{},
		stop: make(chan struct{}), done: make(chan struct{}), begun: make(chan struct{}),
	}
	go func() {
		defer close(p.done)
		for {
			select {
			case <-p.stop:
				return
			case p.begun <- struct{}{}:
			default:
			}
			if err := p.push(); err != nil {
				h.t.Errorf("push %d: %v", p.n, err)
				return
			}
		}
	}()
	h.t.Cleanup(func() {
		p.end()
		must(h.t, p.mirror.Close())
	})
	return p
}

// more waits until a push that has begun after now is at its end.
func (p *pushes) more() {
	p.h.t.Helper()
	for range 2 {
		select {
		case <-p.begun:
		case <-p.done:
			p.h.t.Fatal("no push runs")
		}
	}
}

func (p *pushes) end() {
	select {
	case <-p.stop:
	default:
		close(p.stop)
	}
	<-p.done
}

// push pushes, and keeps what it says that it did.
func (p *pushes) push() error {
	out, errs, code := p.h.try(nil, "push", "--live", "--idle", "0s", "--json")
	if code != 0 || errs != "" {
		return fmt.Errorf("code %d: %s%s", code, out, errs)
	}
	p.n++
	facts := mirror.NewFacts(p.mirror)
	for line := range strings.Lines(out) {
		var done struct {
			Action mirror.Action
			Path   string
			Size   int64 `json:"plain_size"`
		}
		if err := json.Unmarshal([]byte(line), &done); err != nil {
			return err
		}
		switch done.Action {
		case mirror.Uploaded, mirror.Extended, mirror.Rewritten, mirror.Diverged:
		default: // nothing was written
			continue
		}
		name, err := codec.ParseName(path.Base(done.Path))
		if err != nil {
			return err
		}
		all, err := facts.Of(p.h.t.Context(), name)
		if err != nil {
			return err
		}
		if len(all) != 1 {
			return fmt.Errorf("%d facts after %s", len(all), line)
		}
		for _, f := range all {
			if f.Size != done.Size {
				return fmt.Errorf("fact %+v after %s", f, line)
			}
			p.told[version{name, f.Size, f.SHA256}] = true
		}
	}
	return nil
}

// check sees that each version that a push told of is whole in the mirror, by itself or
// as the beginning of another.
func (p *pushes) check() {
	t := p.h.t
	t.Helper()
	for told := range p.told {
		found := false
		for v, err := range mirror.Versions(t.Context(), p.mirror, told.name) {
			must(t, err)
			if found || v.Size < told.size {
				continue
			}
			f, err := p.mirror.Open(t.Context(), v.Key)
			must(t, err)
			r, err := f.Range(t.Context(), 0, told.size)
			must(t, err)
			hash := sha256.New()
			_, err = io.Copy(hash, r)
			must(t, err)
			must(t, r.Close())
			must(t, f.Close())
			found = fmt.Sprintf("%x", hash.Sum(nil)) == told.sha256
		}
		if !found {
			t.Errorf("%s: %d bytes that were pushed are nowhere", told.name, told.size)
		}
	}
	t.Logf("%d versions by %d pushes", len(p.told), p.n)
}
