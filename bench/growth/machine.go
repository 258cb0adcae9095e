package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/rollout-sync/rollout/bench/gateway"
)

const (
	accessKey = "bench"
	secretKey = "bench-secret"
)

// took is what a process took.
type took struct {
	Wall              time.Duration
	RSS               int64 // bytes, the most that were resident
	Gets, Lists, Puts int64 // requests
	Code              int
}

// measure runs a program between us and the system: how much memory a process had
// includes what its parent had when it was forked, so that has to be little.
func measure(args []string) int {
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stderr = os.Stderr
	start := time.Now()
	err := cmd.Run()
	t := took{Wall: time.Since(start)}
	if cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	t.RSS = cmd.ProcessState.SysUsage().(*syscall.Rusage).Maxrss << 10
	t.Code = cmd.ProcessState.ExitCode()
	if err := json.NewEncoder(os.Stdout).Encode(t); err != nil {
		return 1
	}
	return 0
}

// A machine has rollout-sync and the S3 server that it talks to.
type machine struct {
	temp       string
	self, ours string // binaries
	addr       string // of the server
	stop       func()
}

func newMachine(ctx context.Context, temp string) (*machine, error) {
	m := &machine{temp: temp}
	var err error
	if m.self, err = os.Executable(); err != nil {
		return nil, err
	}
	m.ours = m.path("rollout-sync")
	if _, err := output(ctx, "..", "go", "build", "-o", m.ours, "./cmd/rollout-sync"); err != nil {
		return nil, err
	}
	server, err := output(ctx, filepath.Join("..", "integration"), "go", "tool", "-n", "versitygw")
	if err != nil {
		return nil, err
	}
	m.addr, m.stop, err = gateway.Start(ctx, server, m.temp, m.log(), accessKey, secretKey)
	return m, err
}

func (m *machine) close() { m.stop() }

func (m *machine) path(elem ...string) string {
	return filepath.Join(append([]string{m.temp}, elem...)...)
}

// data is where the server keeps the objects of a bucket: every directory is one.
func (m *machine) data(bucket string) string { return m.path("data", bucket) }

func (m *machine) log() string { return m.path("requests") }

// sync runs rollout-sync with home and the mirror in bucket and tells what it took.
func (m *machine) sync(ctx context.Context, bucket, home, args string) (took, error) {
	user := m.path(bucket + "-user") // who remembers nothing of the other bucket
	if err := os.MkdirAll(user, 0o700); err != nil {
		return took{}, err
	}
	if err := os.Truncate(m.log(), 0); err != nil { // the server appends
		return took{}, err
	}
	mirror := "s3://" + bucket + "?region=us-east-1&use_path_style=true&hostname_immutable=true&endpoint=http://" + m.addr
	cmd := exec.CommandContext(ctx, m.self, append([]string{"=run", m.ours, "--home", home, "--mirror", mirror}, strings.Fields(args)...)...)
	cmd.Env = []string{
		"HOME=" + user, "TMPDIR=" + m.temp, "PATH=" + os.Getenv("PATH"),
		"AWS_ACCESS_KEY_ID=" + accessKey, "AWS_SECRET_ACCESS_KEY=" + secretKey, "AWS_EC2_METADATA_DISABLED=true",
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return took{}, fmt.Errorf("%s: %w: %s", args, err, &stderr)
	}
	var t took
	if err := json.Unmarshal(out, &t); err != nil {
		return t, err
	}
	if t.Code != 0 {
		return t, fmt.Errorf("%s: exit code %d: %s", args, t.Code, &stderr)
	}
	err = m.count(&t)
	return t, err
}

// count counts the requests in the server's log, by what they are charged as. It is
// written before a request is answered.
func (m *machine) count(t *took) error {
	f, err := os.Open(m.log())
	if err != nil {
		return err
	}
	defer f.Close()
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		const operation = 7
		fields := strings.Fields(lines.Text())
		if len(fields) <= operation {
			return fmt.Errorf("%q in the server's log", lines.Text())
		}
		switch op, ok := strings.CutPrefix(fields[operation], "s3_"); {
		case !ok:
			return fmt.Errorf("%q in the server's log", lines.Text())
		case strings.HasPrefix(op, "Get"), strings.HasPrefix(op, "Head"):
			t.Gets++
		case strings.HasPrefix(op, "List"):
			t.Lists++
		default:
			t.Puts++
		}
	}
	return lines.Err()
}

func output(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, &stderr)
	}
	return strings.TrimSpace(string(out)), nil
}
