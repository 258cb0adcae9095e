package faults

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A network that is slow, or a clock that is wrong, costs time only.
func TestPushOverASlowNetwork(t *testing.T) {
	t.Parallel()
	s := scene{home: t.TempDir(), then: newSessions(4, 300, 20000, 100000)}
	must(t, s.then.write(s.home))
	all := map[string]fault{
		"latency":            delay(20 * time.Millisecond),
		"1 MB/s":             throttle(1 << 20),
		"a clock 10 min off": skew(10 * time.Minute), // 15 would be too much for the gateway
	}
	for name, slow := range all {
		t.Run(name, func(t *testing.T) {
			p := newProxy(func(int, *http.Request) fault { return slow })
			defer p.close()
			dir, push, err := s.begin(t, p, nil)
			must(t, err)
			_, err = push(0)
			must(t, err)
			got, err := read(dir)
			must(t, errors.Join(err, got.has(s.then, 1)))
			account(t, networkPart, gateway.Version, 1, int(p.faults.Load()))
		})
	}
}

// A hangCase is a run of which one request, the first that has this in its line, comes
// to a server that hangs from then on.
type hangCase struct {
	what     string
	args     []string
	sessions sessions
	request  string
	fault    fault
	code     int
}

func (c hangCase) String() string { return c.what }

// A server that does not answer, or that stops in the middle of taking or of sending, is
// given up after two minutes. What is sent is tried again, with a server that is well;
// what was being read is told of.
func TestServerHangs(t *testing.T) {
	t.Parallel()
	small, big := newSessions(5, 300), newSessions(6, 24<<20)
	push, restore := []string{"push", "--idle", "0s"}, []string{"restore", "--all"}
	var faults atomic.Int64
	cases := []hangCase{
		{"a small object is not answered", push, small, "PUT /", hangAnswering, 0},
		{"a part is not answered", push, big, "uploadId", hangAnswering, 0},
		{"a part is not taken", push, big, "uploadId", hangTaking, 0},
		{"a list is not answered", restore, small, "GET /BUCKET?", hangAnswering, 0},
		{"an object stops", restore, big, "GET /BUCKET/sessions", hangSending, 3},
	}
	each(t, cases, func(c hangCase) error {
		n, err := c.try(t)
		faults.Add(int64(n))
		return err
	})
	account(t, networkPart, gateway.Version, len(cases), int(faults.Load()))
}

func (c hangCase) try(t *testing.T) (faults int, err error) {
	m, home := newMachine(t), t.TempDir()
	p := newProxy(nil)
	defer p.close()
	dir, bucket, err := newBucket()
	if err != nil {
		return 0, err
	}
	mirror := p.mirror(bucket)
	if c.args[0] == "restore" {
		full := t.TempDir()
		if err := c.sessions.write(full); err != nil {
			return 0, err
		}
		if _, err := expect(newMachine(t).command(nil, pushArgs(full, mirror)...), 0); err != nil {
			return 0, err
		}
	} else if err := c.sessions.write(home); err != nil {
		return 0, err
	}
	request := strings.ReplaceAll(c.request, "BUCKET", bucket)
	var once sync.Once
	p.harm(func(_ int, r *http.Request) (f fault) {
		if strings.Contains(r.Method+" "+r.RequestURI, request) {
			once.Do(func() { f = c.fault })
		}
		return f
	})
	args := append(c.args[:len(c.args):len(c.args)], "--home", home, "--mirror", mirror)
	cmd := m.command(nil, args...)
	begin := time.Now()
	giveUp := time.AfterFunc(150*time.Second, func() { _ = cmd.Process.Kill() })
	_, err = expect(cmd, c.code)
	giveUp.Stop()
	took := time.Since(begin)
	t.Logf("%s: it took %v", c.what, took.Round(time.Second))
	if err == nil && c.code != 0 {
		got, others, e := restored(home)
		if err = e; err == nil && len(got)+len(others) > 0 {
			err = errors.New("something was restored")
		}
		if err == nil {
			_, err = expect(m.command(nil, args...), 0)
		}
	}
	if err != nil {
		return 0, fmt.Errorf("after %v: %w", took, err)
	}
	got, err := read(dir)
	if err == nil {
		err = got.has(c.sessions, 1)
	}
	if here, _, e := restored(home); err == nil {
		err = errors.Join(e, here.are(c.sessions))
	}
	return int(p.faults.Load()), err
}

// A mirror that nobody can reach by its name or address, or that takes no clock for
// right, is told of in one line.
func TestNobodyThere(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	must(t, newSessions(7, 300).write(home))
	p := newProxy(func(int, *http.Request) fault { return refuse(http.StatusForbidden, "RequestTimeTooSkewed") })
	defer p.close()
	for endpoint, want := range map[string]string{
		"http://127.0.0.1:1": "connection refused",
		// A name that is too long for any resolver to be asked.
		"https://" + strings.Repeat("a", 64) + ".invalid": "no such host",
		p.URL: "(RequestTimeTooSkewed) (set this machine's clock)",
	} {
		e, err := expect(newMachine(t).command(tries(2), pushArgs(home, mirrorURL("bucket", endpoint))...), 1)
		must(t, err)
		if strings.Count(e.err, "\n") != 1 || !strings.Contains(e.err, want) {
			t.Errorf("want %q in one line, got %s", want, e.err)
		}
		account(t, networkPart, gateway.Version, 1, 1)
	}
}
