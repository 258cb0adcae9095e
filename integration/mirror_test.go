package integration

import (
	"bufio"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// sessionID is the id of the i-th session.
func sessionID(i int) string { return fmt.Sprintf("019b7ca9-8c88-7000-8000-%012d", i) }

// writeSession writes a session of at least size bytes into a home, a user's message
// first. Each mebibyte is another, so that none can be taken for another.
func writeSession(t *testing.T, dir string, i, size int) (file string) {
	t.Helper()
	const lines = 1024
	must(t, os.MkdirAll(dir, 0o700))
	file = filepath.Join(dir, fmt.Sprintf("rollout-2026-01-%02dT03-04-05-%s.jsonl", i%28+1, sessionID(i)))
	f, err := os.Create(file)
	must(t, err)
	defer f.Close()
	w := bufio.NewWriterSize(f, 1<<20)
	line := func(kind, payload string) int {
		n, err := fmt.Fprintf(w, `{"timestamp":"2026-01-%02dT03:04:05.000Z","type":%q,"payload":%s}`+"\n", i%28+1, kind, payload)
		must(t, err)
		return n
	}
	n := line("session_meta", fmt.Sprintf(`{"id":%q,"timestamp":"2026-01-%02dT03:04:05.000Z","cwd":"/work","originator":"x","cli_version":"0.1.0"}`, sessionID(i), i%28+1))
	n += line("event_msg", fmt.Sprintf(`{"type":"user_message","message":"this is session %d","kind":"plain"}`, i))
	hex := fmt.Sprintf("%x", noise(512*lines))
	for block := 0; n < size; block++ {
		for l := 0; l < lines && n < size; l++ {
			n += line("response_item", fmt.Sprintf(`{"type":"function_call","name":"shell","arguments":"{\"n\":%d,\"x\":\"%s\"}","call_id":"c%d"}`, block, hex[l*1024:(l+1)*1024-100], l))
		}
	}
	must(t, w.Flush())
	return file
}

// newHome makes a home of n sessions in as many days.
func newHome(t *testing.T, n int) string {
	home := emptyHome(t)
	for i := range n {
		writeSession(t, filepath.Join(home, fmt.Sprintf("sessions/2026/01/%02d", i%28+1)), i, 1000<<i)
	}
	return home
}

// emptyHome makes a home that nobody else can read.
func emptyHome(t *testing.T) string {
	home := filepath.Join(t.TempDir(), "home")
	must(t, os.Mkdir(home, 0o700))
	return home
}

// hashes returns the hash of each session of a home, by its path there.
func hashes(t *testing.T, home string) map[string]string {
	t.Helper()
	sums := map[string]string{}
	for _, dir := range []string{"sessions", "archived_sessions"} {
		err := filepath.WalkDir(filepath.Join(home, dir), func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				if os.IsNotExist(err) {
					return nil
				}
				return err
			}
			f, err := os.Open(path)
			if err != nil {
				return err
			}
			defer f.Close()
			h := sha256.New()
			if _, err := io.Copy(h, f); err != nil {
				return err
			}
			name, err := filepath.Rel(home, path)
			sums[filepath.ToSlash(name)] = fmt.Sprintf("%x", h.Sum(nil))
			return err
		})
		must(t, err)
	}
	return sums
}

func wantSameSessions(t *testing.T, got, want string) {
	t.Helper()
	restored, original := hashes(t, got), hashes(t, want)
	if !maps.Equal(restored, original) {
		t.Errorf("restored is\n%v\nwant\n%v", restored, original)
	}
}

// A user runs the command for one mirror, with an environment that stays.
type user struct {
	t      *testing.T
	env    map[string]string
	mirror string
}

// run runs a command, which has to end with that exit code.
func (u user) run(want int, command string, args ...string) (stdout, stderr string) {
	u.t.Helper()
	args = slices.Concat([]string{command, "--mirror", u.mirror}, args)
	stdout, stderr, code := runCommand(u.t, u.env, args...)
	if code != want {
		u.t.Fatalf("%q ends with %d, want %d: %s%s", args, code, want, stdout, stderr)
	}
	return stdout, stderr
}

// refused runs commands that ask the mirror. Each has to fail, and to say why in one
// line that has no secret. That has onPush in it for a push, and onOthers else.
func (u user) refused(home, onPush, onOthers string) {
	u.t.Helper()
	for _, args := range [][]string{
		{"push", "--idle", "0s", "--home", home},
		{"list", "--where", "mirror", "--home", home},
		{"show", sessionID(0), "--home", filepath.Join(home, "none")},
		{"verify", "--home", home},
		{"restore", "--all", "--home", home},
	} {
		why := onOthers
		if args[0] == "push" {
			why = onPush
		}
		_, stderr := u.run(1, args[0], args[1:]...)
		if strings.Count(stderr, "\n") != 1 || !strings.HasPrefix(stderr, "rollout-sync: ") || !strings.Contains(stderr, why) {
			u.t.Errorf("%q says %q, want one line with %q", args, stderr, why)
		}
		for _, secret := range u.env {
			if strings.Contains(secret, "secret") && strings.Contains(stderr, secret) || strings.Contains(stderr, wrongSecret) {
				u.t.Errorf("%q tells a secret: %s", args, stderr)
			}
		}
	}
}

// TestMirror takes a home to each service and back, by the command.
func TestMirror(t *testing.T) {
	each(t, 10, 0, func(t *testing.T, s *service) {
		s.proxy.busy.Lock()
		defer s.proxy.busy.Unlock()
		const sessions = 12
		home := newHome(t, sessions-2)
		writeSession(t, filepath.Join(home, "sessions/2026/01/12"), sessions-1, 50<<20)
		archived := writeSession(t, filepath.Join(home, "archived_sessions"), sessions-2, 100<<10)
		torn, err := os.OpenFile(archived, os.O_APPEND|os.O_WRONLY, 0)
		must(t, err)
		_, err = torn.WriteString(`{"timestamp":"2026-`)
		must(t, errors.Join(err, torn.Close()))
		must(t, os.WriteFile(filepath.Join(home, "session_index.jsonl"),
			fmt.Appendf(nil, `{"id":%q,"thread_name":"the third","updated_at":"2026-01-03T03:04:05Z"}`+"\n", sessionID(2)), 0o600))
		u := user{t, s.account(t, nil), s.url(s.newBucket(t)).String()}
		other := emptyHome(t)

		if _, stderr := u.run(0, "push", "--idle", "0s", "--home", home, "--max-duration", "1ns"); !strings.Contains(stderr, fmt.Sprintf("%d sessions are left", sessions)) {
			t.Errorf("a push whose time is up says %q", stderr)
		}
		u.run(0, "push", "--idle", "0s", "--home", home)

		stdout, _ := u.run(0, "list", "--where", "mirror", "--json", "--limit", "100", "--home", other)
		var ids []string
		for d := json.NewDecoder(strings.NewReader(stdout)); d.More(); {
			var item struct{ ID, Name string }
			must(t, d.Decode(&item))
			ids = append(ids, item.ID)
			if (item.Name == "the third") != (item.ID == sessionID(2)) {
				t.Errorf("%s has the name %q", item.ID, item.Name)
			}
		}
		slices.Sort(ids)
		if len(slices.Compact(ids)) != sessions || ids[0] != sessionID(0) {
			t.Errorf("listed are %q", ids)
		}
		for _, i := range []int{0, sessions - 1} {
			if stdout, _ := u.run(0, "show", sessionID(i), "--home", other); !strings.Contains(stdout, fmt.Sprintf("this is session %d\n", i)) {
				t.Errorf("shown is %.1000s", stdout)
			}
		}
		u.run(0, "verify", "--deep", "--home", home)
		u.run(0, "restore", "--all", "--home", other)
		wantSameSessions(t, other, home)

		// Files of the last two seconds are looked at again.
		requests := int64(-1)
		for deadline := time.Now().Add(time.Minute); requests != 0 && time.Now().Before(deadline); {
			before := s.proxy.requests.Load()
			u.run(0, "push", "--idle", "0s", "--home", home)
			requests = s.proxy.requests.Load() - before
		}
		if requests != 0 {
			t.Errorf("a push with nothing to do makes %d requests", requests)
		}
	})
}

// A session of a gigabyte goes to the first service, and in the long run to all, and
// comes back.
func TestLargeSession(t *testing.T) {
	each(t, 1, 0, func(t *testing.T, s *service) {
		if s != services[0] && !soak {
			t.Skip("only in the long run")
		}
		s.proxy.busy.RLock()
		defer s.proxy.busy.RUnlock()
		home, other := emptyHome(t), emptyHome(t)
		writeSession(t, filepath.Join(home, "sessions/2026/01/01"), 0, 1<<30)
		u := user{t, s.account(t, nil), s.url(s.newBucket(t)).String()}
		u.run(0, "push", "--idle", "0s", "--home", home)
		if stdout, _ := u.run(0, "list", "--where", "mirror", "--json", "--home", other); !strings.Contains(stdout, sessionID(0)) {
			t.Errorf("listed is %q", stdout)
		}
		u.run(0, "verify", "--deep", "--home", home)
		u.run(0, "restore", sessionID(0), "--home", other)
		wantSameSessions(t, other, home)
	})
}

// What a service refuses ends each command with 1 and one clear line.
func TestRefused(t *testing.T) {
	each(t, 10, 10, func(t *testing.T, s *service) {
		s.proxy.busy.RLock()
		defer s.proxy.busy.RUnlock()
		home := newHome(t, 2)
		t.Run("no bucket", func(t *testing.T) {
			why := "no bucket is ever made"
			onOthers := why
			if s.name == "fake-gcs-server" { // as GCS: of an object in it, it says that the object is missing
				onOthers = "there is no mirror here"
			}
			user{t, s.account(t, nil), s.url("missing").String()}.refused(home, why, onOthers)
		})
		t.Run("forbidden", func(t *testing.T) {
			if s.wrong == nil {
				t.Skip("it asks for no credentials")
			}
			const why = "permission denied"
			user{t, s.account(t, s.wrong), s.url(s.newBucket(t)).String()}.refused(home, why, why)
		})
	})
}
