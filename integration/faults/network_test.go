package faults

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

const networkPart = "network faults, S3"

// A kind is a kind of fault.
type kind struct {
	name  string
	fault fault
	times int // in a row
	// transient is what the program gets over by itself. What it does when it does
	// not try again is tried out too, but for those that are alike.
	transient, alike bool
	sending          bool // befalls only what is sent
}

// codes are those that a run may end with that tries each request that often; 0: as it
// does by itself.
func (k kind) codes(tries int) []int {
	switch {
	case k.transient && tries == 0:
		return []int{0}
	case k.name == falseReply: // what it reads of the mirror is not what was put there
		return []int{0, 1, 3, 4}
	}
	return []int{0, 1, 3}
}

const falseReply = "a false reply"

// kinds are the faults of a network, and of a server that is not well.
var kinds = []kind{
	{"a reset before the body", resetBefore, 1, true, false, false},
	{"a reset in the body", resetInBody, 1, true, false, true},
	{"a lost reply", loseReply, 1, true, false, false},
	{"500", refuse(http.StatusInternalServerError, "InternalError"), 2, true, false, false},
	{"503", refuse(http.StatusServiceUnavailable, "ServiceUnavailable"), 1, true, true, false},
	{"SlowDown", refuse(http.StatusServiceUnavailable, "SlowDown"), 2, true, true, false},
	{"a reply cut short", truncate, 1, false, false, false},
	{falseReply, falsifyReply, 1, false, false, false},
	{"a false request", falsifyRequest, 1, false, false, true},
	{"an outage", resetBefore, always, false, false, false},
}

// always is a number of faults that never ends.
const always = 1 << 30

// A pushCase is a push to S3, of which one request comes to harm.
type pushCase struct {
	what  string // is pushed
	kind  int
	tries int // at most, of each request; 0: as the program does by itself
	at    int // request
}

func (c pushCase) String() string {
	return fmt.Sprintf("push of %s, %s at request %d, %d tries", c.what, kinds[c.kind].name, c.at, c.tries)
}

// tries has the program try no more often than that, without which it waits.
func tries(n int) []string {
	if n == 0 {
		return nil
	}
	return []string{fmt.Sprintf("AWS_MAX_ATTEMPTS=%d", n)}
}

func pushArgs(home, mirror string) []string {
	return []string{"push", "--home", home, "--mirror", mirror, "--idle", "0s", "--jobs", "1", "--origin", "a"}
}

// A scene is what there is to push.
type scene struct {
	home   string   // has it all; "" where each case needs one of its own
	before sessions // are in the mirror already; the home has grown since
	then   sessions
}

// begin returns how to push the scene's home through p, where nothing is left to do
// but the push that is to be harmed, and the mirror's directory.
func (s scene) begin(t *testing.T, p *proxy, env []string) (dir string, push func(codes ...int) (ended, error), err error) {
	dir, bucket, err := newBucket()
	if err != nil {
		return "", nil, err
	}
	m := newMachine(t)
	home := cmp.Or(s.home, m.dir+"/home")
	push = func(codes ...int) (ended, error) {
		return expect(m.command(env, pushArgs(home, p.mirror(bucket))...), codes...)
	}
	if s.before == nil {
		return dir, push, nil
	}
	if err = s.before.write(home); err == nil {
		_, err = push(0)
	}
	if err == nil {
		err = s.then.write(home)
	}
	p.restart()
	return dir, push, err
}

// try does the case, and returns how many faults there were.
func (c pushCase) try(t *testing.T, s scene) (faults int, err error) {
	kind := kinds[c.kind]
	p := newProxy(nil)
	defer p.close()
	dir, push, err := s.begin(t, p, tries(c.tries))
	if err != nil {
		return 0, err
	}
	p.harm(func(n int, _ *http.Request) fault {
		if n >= c.at && n < c.at+kind.times {
			return kind.fault
		}
		return nil
	})
	e, err := push(kind.codes(c.tries)...)
	if err != nil {
		return 0, err
	}
	p.harm(nil)
	got, err := read(dir)
	switch {
	case err != nil:
	case e.code == 0:
		err = got.has(s.then, 1)
	case len(got.parts) > 0 && kind.times != always: // else it cannot clean up
		err = fmt.Errorf("parts of an upload are left: %q", got.parts)
	default:
		err = got.sessions.among(s.before, s.then)
		for name := range s.before {
			if got.sessions[name] == nil {
				err = errors.Join(err, fmt.Errorf("%s is gone", name))
			}
		}
	}
	if failed := strings.Count(e.err, "\n"); err == nil && failed > len(s.then)+1 {
		err = fmt.Errorf("%d lines on standard error:\n%s", failed, e.err)
	}
	if err != nil {
		return 0, fmt.Errorf("code %d, then: %w\n%s", e.code, err, e.err)
	}
	if e.code != 0 {
		if e2, err := push(0); err != nil {
			return 0, fmt.Errorf("the push after that which ended with %d: %w\n%s", e.code, err, e.err+e2.err)
		}
		if got, err = read(dir); err == nil {
			got.parts = nil
			err = got.has(s.then, 1)
		}
		if err != nil {
			return 0, fmt.Errorf("after a push with code %d and another: %w\n%s", e.code, err, e.err)
		}
	}
	return int(p.faults.Load()), nil
}

// requestsOf returns those of a push of the home that nothing befalls.
func requestsOf(t *testing.T, s scene) []string {
	t.Helper()
	p := newProxy(nil)
	defer p.close()
	dir, push, err := s.begin(t, p, nil)
	must(t, err)
	_, err = push(0)
	must(t, err)
	got, err := read(dir)
	must(t, errors.Join(err, got.has(s.then, 1)))
	return p.requests
}

// Whatever befalls any one request of a push: it ends with 0 only if the mirror has all
// of it, a transient fault is got over, and the next push ends with 0 and leaves what
// one without any fault would have.
func TestPushOverABadNetwork(t *testing.T) {
	t.Parallel()
	scenes := map[string]scene{}
	for name, sizes := range map[string][]int{"small sessions": {300, 1000, 5000, 30000, 60000, 100000}, "a big session": {24 << 20}} {
		s := scene{home: t.TempDir(), then: newSessions(1, sizes...)}
		must(t, s.then.write(s.home))
		scenes[name] = s
	}
	small := scenes["small sessions"].then
	scenes["grown sessions"] = scene{before: small, then: small.grown(2)}
	var cases []pushCase
	for name, s := range scenes {
		for at, request := range requestsOf(t, s) {
			if name == "a big session" && !strings.Contains(request, "upload") {
				continue // as of a small one
			}
			for kind := range kinds {
				if !kinds[kind].alike {
					cases = append(cases, pushCase{name, kind, 1, at + 1})
				}
				if kinds[kind].transient && name != "grown sessions" {
					cases = append(cases, pushCase{name, kind, 0, at + 1})
				}
			}
		}
	}
	var faults atomic.Int64
	each(t, cases, func(c pushCase) error {
		n, err := c.try(t, scenes[c.what])
		faults.Add(int64(n))
		return err
	})
	t.Logf("%d cases, %d faults", len(cases), faults.Load())
	account(t, networkPart, gateway.Version, len(cases), int(faults.Load()))
}
