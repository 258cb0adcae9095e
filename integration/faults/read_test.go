package faults

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
)

// A readCase is a command that reads a mirror in S3, of which one request comes to
// harm.
type readCase struct {
	command string
	kind    int
	tries   int
	at      int
}

func (c readCase) String() string {
	return fmt.Sprintf("%s, %s at request %d, %d tries", c.command, kinds[c.kind].name, c.at, c.tries)
}

// A reader is a command that reads a mirror: what it is run with, and what has to be
// true of its end.
type reader struct {
	args  []string
	check func(e ended, home string) error
}

// Whatever befalls any one request of a command that reads a mirror: it ends with 0 and
// the truth, or else says that something is wrong; and in the home, or in what was
// printed of a session, are only bytes that the session has.
func TestReadOverABadNetwork(t *testing.T) {
	t.Parallel()
	all := newSessions(3, 300, 20000, 200000, 3<<20)
	big := path(3)
	home := t.TempDir()
	must(t, all.write(home))
	_, bucket, err := newBucket()
	must(t, err)
	p := newProxy(nil)
	defer p.close()
	_, err = expect(newMachine(t).command(nil, pushArgs(home, p.mirror(bucket))...), 0)
	must(t, err)

	whole := map[string]string{} // output without faults
	readers := map[string]reader{
		"restore": {[]string{"restore", "--all"}, func(e ended, home string) error {
			got, others, err := restored(home)
			switch {
			case len(others) > 0:
				return fmt.Errorf("the home has %q too", others)
			case err == nil && e.code == 0:
				return got.are(all)
			}
			return errors.Join(err, got.among(all))
		}},
		"verify": {[]string{"verify", "--deep"}, func(e ended, _ string) error {
			if e.code == 0 && e.out != whole["verify"] {
				return fmt.Errorf("it says %s", e.out)
			}
			return nil
		}},
		"list": {[]string{"list", "--where", "mirror", "--json"}, func(e ended, _ string) error {
			return sameList(e, whole["list"])
		}},
		"show": {[]string{"show", id(big), "--where", "mirror", "--format", "jsonl"}, func(e ended, _ string) error {
			if want := string(all[big]); e.out != want && (e.code == 0 || !strings.HasPrefix(want, e.out)) {
				return fmt.Errorf("it printed %d bytes, of %d, or others", len(e.out), len(want))
			}
			return nil
		}},
	}
	// runReader runs a command over the proxy, on a machine with an empty home.
	runReader := func(name string, m *machine, p *proxy, env []string) (ended, error) {
		home := m.dir + "/home"
		if err := os.MkdirAll(home, 0o700); err != nil {
			return ended{}, err
		}
		e, err := run(m.command(env, append(readers[name].args, "--home", home, "--mirror", p.mirror(bucket))...))
		if err == nil {
			err = readers[name].check(e, home)
		}
		if err != nil {
			err = fmt.Errorf("code %d: %w\n%s", e.code, err, e.err)
		}
		return e, err
	}
	var cases []readCase
	for name := range readers {
		p := newProxy(nil)
		m := newMachine(t)
		must(t, os.Mkdir(m.dir+"/home", 0o700))
		e, err := expect(m.command(nil, append(readers[name].args, "--home", m.dir+"/home", "--mirror", p.mirror(bucket))...), 0)
		must(t, err)
		whole[name] = e.out
		must(t, readers[name].check(e, m.dir+"/home"))
		for at := range p.requests {
			for kind := range kinds {
				if kinds[kind].sending {
					continue
				}
				if !kinds[kind].alike {
					cases = append(cases, readCase{name, kind, 1, at + 1})
				}
				if kinds[kind].transient && !kinds[kind].alike {
					cases = append(cases, readCase{name, kind, 0, at + 1})
				}
			}
		}
		p.close()
	}
	var faults atomic.Int64
	each(t, cases, func(c readCase) error {
		kind := kinds[c.kind]
		p := newProxy(func(n int, _ *http.Request) fault {
			if n >= c.at && n < c.at+kind.times {
				return kind.fault
			}
			return nil
		})
		defer p.close()
		m := newMachine(t)
		e, err := runReader(c.command, m, p, tries(c.tries))
		if err != nil {
			return err
		}
		faults.Add(p.faults.Load())
		err = e.wants(kind.codes(c.tries)...)
		if err != nil || e.code == 0 {
			return err
		}
		p.harm(nil)
		after, err := runReader(c.command, m, p, nil)
		if err == nil {
			err = after.wants(0)
		}
		if err != nil {
			return fmt.Errorf("it ended with %d, and the one after it: %w", e.code, err)
		}
		return nil
	})
	t.Logf("%d cases, %d faults", len(cases), faults.Load())
	account(t, networkPart, gateway.Version, len(cases), int(faults.Load()))
}

// count is how many lines a session has, which the catalog tells if it can be read.
var count = regexp.MustCompile(`"lines":(null|\d+),`)

// sameList returns an error if a list that ended with 0 differs from the right one but
// in items that say themselves that they have a problem.
func sameList(e ended, right string) error {
	if e.code != 0 || e.out == right {
		return nil
	}
	got, want := strings.Split(e.out, "\n"), strings.Split(right, "\n")
	if len(got) != len(want) {
		return fmt.Errorf("%d lines, want %d", len(got), len(want))
	}
	for i, line := range got {
		if count.ReplaceAllString(line, "") == count.ReplaceAllString(want[i], "") {
			continue
		}
		var item struct{ Problems []string }
		if err := json.Unmarshal([]byte(line), &item); err != nil || len(item.Problems) == 0 {
			return fmt.Errorf("the line %s, want %s (%w)", line, want[i], err)
		}
	}
	return nil
}
