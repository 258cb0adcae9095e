package faults

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rollout-sync/rollout/integration/parts"
)

const (
	fullPart     = "full disk"
	readOnlyPart = "read-only disk"
	rightsPart   = "rights taken away"
)

// smallDisk mounts a disk of 8 MiB.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=8m"); err != nil {
		parts.Missing(t, fullPart, "only root may mount a small disk: "+err.Error())
	}
	t.Cleanup(func() { must(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	return dir
}

// fill takes all that is free on a disk but so many bytes, until free.
func fill(t *testing.T, disk string, but int64) (free func()) {
	t.Helper()
	filler := filepath.Join(disk, "filler")
	if err := os.WriteFile(filler, make([]byte, 9<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	info, err := os.Stat(filler)
	must(t, err)
	must(t, os.Truncate(filler, max(info.Size()-but, 0)))
	return func() { must(t, os.Remove(filler)) }
}

// A command on a disk that is full, from the beginning or in its middle, ends with 1 and
// one line that says so; what was there stays, what is new is whole or not there, and
// with room again the same command does it all.
func TestDiskIsFull(t *testing.T) {
	t.Parallel()
	before := newSessions(20, 5000, 30000, 60000, 90000, 300000, 300000, 300000, 300000)
	all := before.grown(21)
	for what, prepare := range map[string]func(t *testing.T, m *machine, disk string) diskCase{
		"mirror": func(t *testing.T, m *machine, disk string) diskCase {
			home, mirror := m.dir+"/home", disk+"/mirror"
			must(t, before.write(home))
			push := m.command(nil, pushArgs(home, mirror)...)
			_, err := expect(push, 0)
			must(t, errors.Join(err, all.write(home)))
			return diskCase{pushArgs(home, mirror), func(done bool) error {
				got, err := read(mirror)
				if err == nil && done {
					return got.has(all, 1)
				}
				if err == nil && len(got.sessions) != len(before) {
					err = errors.New("a session is gone")
				}
				return errors.Join(err, got.sessions.among(before, all))
			}}
		},
		"state": func(t *testing.T, m *machine, disk string) diskCase {
			home, mirror := m.dir+"/home", m.dir+"/mirror"
			must(t, all.write(home))
			m.env = append(m.env, "XDG_STATE_HOME="+disk)
			return diskCase{pushArgs(home, mirror), func(done bool) error {
				got, err := read(mirror)
				if err == nil && done {
					return got.has(all, 1)
				}
				return errors.Join(err, got.sessions.among(all))
			}}
		},
		"home": func(t *testing.T, m *machine, disk string) diskCase {
			full, home, mirror := m.dir+"/full", disk+"/home", m.dir+"/mirror"
			begun := sessions{path(4): before[path(4)]}
			must(t, errors.Join(all.write(full), begun.write(home)))
			_, err := expect(m.command(nil, pushArgs(full, mirror)...), 0)
			must(t, err)
			return diskCase{[]string{"restore", "--all", "--home", home, "--mirror", mirror}, func(done bool) error {
				got, others, err := restored(home)
				switch {
				case len(others) > 0:
					return fmt.Errorf("the home has %q too", others)
				case err == nil && done:
					return got.are(all)
				case err == nil && got[path(4)] == nil:
					return errors.New("what was there is gone")
				}
				return errors.Join(err, got.among(all, begun))
			}}
		},
	} {
		for _, room := range []int64{0, 400 << 10} {
			t.Run(fmt.Sprintf("%s/%d KiB left", what, room>>10), func(t *testing.T) {
				disk, m := smallDisk(t), newMachine(t)
				c := prepare(t, m, disk)
				free := fill(t, disk, room)
				e, err := run(m.command(nil, c.args...))
				must(t, err)
				if e.code != 0 || room == 0 { // a state takes less
					must(t, e.wants(1))
					lines := strings.Split(strings.TrimSpace(e.err), "\n")
					if last := lines[len(lines)-1]; !strings.Contains(last, "no space left on device") || len(lines) > 2 {
						t.Errorf("it says:\n%s", e.err)
					}
				}
				must(t, c.check(e.code == 0))
				free()
				_, err = expect(m.command(nil, c.args...), 0)
				must(t, errors.Join(err, c.check(true)))
				account(t, fullPart, kernel(), 1, 1)
			})
		}
	}
	t.Run("record", func(t *testing.T) {
		disk, m := smallDisk(t), newMachine(t)
		must(t, os.Mkdir(disk+"/home", 0o700))
		items := func(n int) *strings.Reader {
			return strings.NewReader(strings.Repeat(`{"type":"event_msg","payload":{"type":"user_message","message":"`+strings.Repeat("x", 1000)+"\"}}\n", n))
		}
		record := func(args ...string) *exec.Cmd { return m.command(nil, append(args, "--home", disk+"/home")...) }
		id := id(path(1))
		first := record("record", "--meta", "id="+id)
		first.Stdin = items(10)
		_, err := expect(first, 0)
		must(t, err)
		names, err := filepath.Glob(disk + "/home/sessions/*/*/*/*")
		must(t, err)
		had, err := os.ReadFile(names[0])
		must(t, err)
		free := fill(t, disk, 100<<10)
		again := record("record", "--resume", id)
		again.Stdin = items(1000)
		e, err := expect(again, 1)
		must(t, err)
		if !strings.Contains(e.err, "no space left on device") || strings.Count(e.err, "\n") != 1 {
			t.Errorf("it says:\n%s", e.err)
		}
		now, err := os.ReadFile(names[0])
		must(t, err)
		if !strings.HasPrefix(string(now), string(had)) || !strings.HasSuffix(string(now), "\n") {
			t.Errorf("of %d bytes there are %d, or a line that is cut off", len(had), len(now))
		}
		free()
		last := record("record", "--resume", id)
		last.Stdin = items(10)
		_, err = expect(last, 0)
		must(t, err)
		then, err := os.ReadFile(names[0])
		must(t, err)
		if !strings.HasPrefix(string(then), string(now)) || strings.Count(string(then), "\n") != strings.Count(string(now), "\n")+10 {
			t.Errorf("with room again %d bytes became %d", len(now), len(then))
		}
		account(t, fullPart, kernel(), 1, 1)
	})
}

// A diskCase is a command, and what has to be true when it is done and when not.
type diskCase struct {
	args  []string
	check func(done bool) error
}

// A home that cannot be written to is pushed as any other; what writes says so and
// leaves it as it is.
func TestReadOnlyHome(t *testing.T) {
	t.Parallel()
	m := newMachine(t)
	home, mirror := m.dir+"/home", m.dir+"/mirror"
	all := newSessions(22, 300, 5000, 50000)
	must(t, all.write(home))
	if err := syscall.Mount(home, home, "", syscall.MS_BIND, ""); err != nil {
		parts.Missing(t, readOnlyPart, "only root may mount: "+err.Error())
	}
	t.Cleanup(func() { must(t, syscall.Unmount(home, syscall.MNT_DETACH)) })
	must(t, syscall.Mount("", home, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""))
	_, err := expect(m.command(nil, pushArgs(home, mirror)...), 0)
	must(t, err)
	got, err := read(mirror)
	must(t, errors.Join(err, got.has(all, 1)))
	more := newSessions(23, 300, 5000, 50000, 1000) // one that the read-only home lacks
	more[path(0)], more[path(1)], more[path(2)] = all[path(0)], all[path(1)], all[path(2)]
	must(t, more.write(m.dir+"/other"))
	_, err = expect(newMachine(t).command(nil, "push", "--home", m.dir+"/other", "--mirror", mirror, "--idle", "0s"), 0)
	must(t, err)
	settle()
	commands := [][]string{
		{"restore", "--all", "--mirror", mirror},
		{"prune", "--older-than", "0d", "--apply", "--same-device-ok", "--mirror", mirror},
		{"record"},
	}
	for _, args := range commands {
		cmd := m.command(nil, append(args, "--home", home)...)
		cmd.Stdin = strings.NewReader(`{"type":"event_msg","payload":{}}` + "\n")
		e, err := expect(cmd, 1)
		must(t, err)
		if !strings.Contains(e.err, "read-only file system") || strings.Count(e.err, "\n") != 1 {
			t.Errorf("%s says:\n%s", args[0], e.err)
		}
	}
	here, others, err := restored(home)
	must(t, errors.Join(err, here.are(all)))
	if len(others) > 0 {
		t.Errorf("there is %q", others)
	}
	account(t, readOnlyPart, kernel(), len(commands)+1, len(commands)+1)
}

// nobody is a user without rights, where the test runs as one who may become it.
const nobody = 65534

// A file that becomes unreadable while a push is at work is told of, and the others are
// pushed; so are directories. With the rights back the next push brings the rest.
func TestRightsAreTakenAway(t *testing.T) {
	t.Parallel()
	all := newSessions(24, 300, 5000, 20000, 50000)
	for what, take := range map[string]string{"a file": path(3), "a directory": "sessions/2026/11/21"} {
		t.Run(what, func(t *testing.T) {
			m := newMachine(t)
			home := m.dir + "/home"
			want := sessions{}
			for name, content := range all {
				if name == path(3) && what == "a directory" {
					name = strings.NewReplacer("/20/", "/21/", "2026-11-20", "2026-11-21").Replace(name)
				}
				want[name] = content
			}
			must(t, want.write(home))
			if os.Getuid() == 0 {
				must(t, exec.Command("chown", "-R", fmt.Sprint(nobody), m.dir).Run())
				must(t, os.Chmod(filepath.Dir(m.dir), 0o755))
			}
			p := newProxy(nil)
			defer p.close()
			dir, bucket, err := newBucket()
			must(t, err)
			push := func(codes ...int) ended {
				t.Helper()
				cmd := m.command(nil, pushArgs(home, p.mirror(bucket))...)
				if os.Getuid() == 0 {
					cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
				}
				e, err := expect(cmd, codes...)
				must(t, err)
				return e
			}
			info, err := os.Stat(filepath.Join(home, take))
			must(t, err)
			p.harm(func(_ int, r *http.Request) fault {
				if r.Method == http.MethodPut && strings.Contains(r.URL.Path, id(path(0))) {
					must(t, os.Chmod(filepath.Join(home, take), 0))
				}
				return nil
			})
			e := push(3)
			if !strings.Contains(e.err, "permission denied") || !strings.Contains(e.err, take) {
				t.Errorf("it says:\n%s", e.err)
			}
			got, err := read(dir)
			must(t, errors.Join(err, got.sessions.among(want)))
			if len(got.sessions) != len(want)-1 {
				t.Errorf("%d sessions were pushed, of %d that could be", len(got.sessions), len(want)-1)
			}
			p.harm(nil)
			must(t, os.Chmod(filepath.Join(home, take), info.Mode()))
			push(0)
			got, err = read(dir)
			must(t, errors.Join(err, got.has(want, 1)))
			account(t, rightsPart, kernel(), 1, 1)
		})
	}
}
