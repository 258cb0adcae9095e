package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rollout-sync/rollout/bench/gateway"
)

const (
	accessKey = "bench"
	secretKey = "bench-secret"
	linkRate  = 100e6 // bytes a second

	// memory is a file system for the server's objects: on two processors, its writing
	// to a disk would be most of what a push is waited for. Row 8 may not fit.
	memory = "/dev/shm"
)

// A machine has the programs, and the S3 server that they talk to.
type machine struct {
	settings
	temp               string
	objects            string // directory of what the server keeps
	self, ours, rclone string // binaries; rclone is "" if it cannot be had
	rcloneName         string
	rcloneMissing      string // why it cannot be had
	addr, link         string // of the server, and of a slow link to it
	stop               []func()
}

func newMachine(ctx context.Context, dir string, s settings) (_ *machine, err error) {
	m := &machine{settings: s, temp: dir}
	if m.self, err = os.Executable(); err != nil {
		return nil, err
	}
	if err = os.Mkdir(m.path("bin"), 0o700); err != nil {
		return nil, err
	}
	server, err := m.build(ctx, m.path("bin"))
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			m.close()
		}
	}()
	m.objects = m.path("objects")
	if info, err := os.Stat(memory); err == nil && info.IsDir() && !strings.Contains(s.rows, "8") {
		if m.objects, err = os.MkdirTemp(memory, "rollout-bench-push-*"); err != nil {
			return nil, err
		}
		m.stop = append(m.stop, func() { os.RemoveAll(m.objects) })
	} else if err := os.Mkdir(m.objects, 0o700); err != nil {
		return nil, err
	}
	addr, stop, err := gateway.Start(ctx, server, m.objects, m.path("requests"), accessKey, secretKey)
	if err != nil {
		return nil, err
	}
	m.addr, m.stop = addr, append(m.stop, stop)
	return m, m.slowLink()
}

func (m *machine) close() {
	for _, f := range slices.Backward(m.stop) {
		f()
	}
}

func (m *machine) path(elem ...string) string {
	return filepath.Join(append([]string{m.temp}, elem...)...)
}

// data and meta are where the server keeps the objects of a bucket.
func (m *machine) data(bucket string) string { return filepath.Join(m.objects, "data", bucket) }
func (m *machine) meta(bucket string) string { return filepath.Join(m.objects, "meta", bucket) }

// bucket makes an empty bucket: to the server, every directory is one.
func (m *machine) bucket(name string) error { return os.Mkdir(m.data(name), 0o755) }

// drop removes a bucket and all that is in it.
func (m *machine) drop(name string) error {
	return errors.Join(os.RemoveAll(m.data(name)), os.RemoveAll(m.meta(name)))
}

// requests returns how many the server has answered, by its log.
func (m *machine) requests() (int, error) {
	f, err := os.Open(m.path("requests"))
	if err != nil {
		return 0, err
	}
	defer f.Close()
	buf, n := make([]byte, 1<<20), -1 // its first line is none
	for {
		k, err := f.Read(buf)
		n += bytes.Count(buf[:k], []byte{'\n'})
		if err == io.EOF {
			return n, nil
		}
		if err != nil {
			return 0, err
		}
	}
}

// slowLink forwards to the server, and takes in no more than linkRate of all
// connections together.
func (m *machine) slowLink() error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	m.link = l.Addr().String()
	m.stop = append(m.stop, func() { l.Close() })
	var t throttle
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				s, err := net.Dial("tcp", m.addr)
				if err != nil {
					return
				}
				defer s.Close()
				go func() {
					_, _ = io.Copy(c, s)
					c.Close()
				}()
				buf := make([]byte, 64<<10)
				for {
					n, err := c.Read(buf)
					t.pass(n)
					if _, e := s.Write(buf[:n]); err != nil || e != nil {
						return
					}
				}
			}()
		}
	}()
	return nil
}

// A throttle lets linkRate bytes a second pass.
type throttle struct {
	mu   sync.Mutex
	free time.Time // when the link is free again
}

func (t *throttle) pass(n int) {
	t.mu.Lock()
	now := time.Now()
	if t.free.Before(now.Add(-5 * time.Millisecond)) {
		t.free = now.Add(-5 * time.Millisecond) // a sleep is not exact
	}
	t.free = t.free.Add(time.Duration(float64(n) / linkRate * float64(time.Second)))
	until := t.free
	t.mu.Unlock()
	time.Sleep(time.Until(until))
}

// env is the environment of a user, who has a home directory of his own for what
// programs remember.
func (m *machine) env(user string) []string {
	return []string{
		"HOME=" + m.path(user), "TMPDIR=" + m.temp, "PATH=" + os.Getenv("PATH"),
		"AWS_ACCESS_KEY_ID=" + accessKey, "AWS_SECRET_ACCESS_KEY=" + secretKey,
		"AWS_EC2_METADATA_DISABLED=true", "NO_PROXY=*",
	}
}

// process runs a program as user and tells what it took.
func (m *machine) process(ctx context.Context, user string, args ...string) (took, error) {
	if err := os.MkdirAll(m.path(user), 0o700); err != nil {
		return took{}, err
	}
	cmd := exec.CommandContext(ctx, m.self, append([]string{"=run"}, args...)...)
	cmd.Env = m.env(user)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return took{}, fmt.Errorf("%s: %w: %s", args[0], err, &stderr)
	}
	var t took
	if err := json.Unmarshal(out, &t); err != nil {
		return took{}, err
	}
	if t.Code != 0 {
		return t, fmt.Errorf("%s: exit code %d: %s", strings.Join(args, " "), t.Code, &stderr)
	}
	return t, nil
}

func s3URL(addr, bucket string) string {
	return "s3://" + bucket + "?region=us-east-1&use_path_style=true&hostname_immutable=true&endpoint=http://" + addr
}

// sync runs rollout-sync as user.
func (m *machine) sync(ctx context.Context, user, home, mirror, command string, args ...string) (took, error) {
	return m.process(ctx, user, append([]string{m.ours, command, "--home", home, "--mirror", mirror}, args...)...)
}

// backup makes a first snapshot with restic, in a repository that is made for it.
func (m *machine) backup(ctx context.Context, addr, home, bucket string) (took, error) {
	restic := []string{"restic", "--repo", "s3:http://" + addr + "/" + bucket, "--password-command", "echo bench", "--no-cache", "--quiet"}
	if _, err := m.process(ctx, "restic", append(restic, "init", "--repository-version", "2")...); err != nil {
		return took{}, err
	}
	return m.process(ctx, "restic", append(restic, "backup", home)...)
}

// copy runs rclone.
func (m *machine) copy(ctx context.Context, addr, home, bucket string, args ...string) (took, error) {
	to := fmt.Sprintf(`:s3,provider=Other,env_auth=true,endpoint="http://%s",force_path_style=true,region=us-east-1,no_check_bucket=true:%s`, addr, bucket)
	return m.process(ctx, "rclone", append([]string{m.rclone, "--config", "", "copy", home, to}, args...)...)
}
