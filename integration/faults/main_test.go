package faults

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/rollout-sync/rollout/integration/internal/server"
	"github.com/rollout-sync/rollout/integration/parts"
)

const (
	accessKey = "faults"
	secretKey = "do-not-show-this"
)

var (
	program string // the real one
	gateway *server.Versitygw
)

func TestMain(m *testing.M) {
	flag.Parse()
	_ = flag.Set("test.parallel", "6") // most of the tests wait most of the time
	code := 1
	func() {
		dir, err := os.MkdirTemp("", "rollout-faults-*")
		if err == nil {
			defer os.RemoveAll(dir)
			err = start(dir)
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return
		}
		code = m.Run()
		if err := gateway.Stop(); err != nil { // then nothing that a test says of S3 counts
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}()
	os.Exit(code)
}

func start(dir string) (err error) {
	if err := os.Chmod(dir, 0o711); err != nil { // another user runs the program too
		return err
	}
	program = filepath.Join(dir, "rollout-sync")
	build := exec.Command("go", "build", "-o", program, "./cmd/rollout-sync")
	build.Dir = "../.."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w: %s", err, out)
	}
	gateway, err = server.StartVersitygw(dir, accessKey, secretKey)
	return err
}

// A machine is where rollout-sync runs: a state and a configuration of its own, and
// nothing of the machine's that runs the test.
type machine struct {
	dir string
	env []string
}

func newMachine(t *testing.T) *machine {
	t.Helper()
	dir := t.TempDir()
	return &machine{dir, []string{
		"HOME=" + dir, "TMPDIR=" + dir,
		"AWS_ACCESS_KEY_ID=" + accessKey, "AWS_SECRET_ACCESS_KEY=" + secretKey,
		"AWS_EC2_METADATA_DISABLED=true", "AWS_CONFIG_FILE=" + os.DevNull, "AWS_SHARED_CREDENTIALS_FILE=" + os.DevNull,
	}}
}

// command is rollout-sync on the machine, with variables added to its environment.
func (m *machine) command(env []string, args ...string) *exec.Cmd {
	return &exec.Cmd{Path: program, Args: append([]string{program}, args...), Env: append(m.env[:len(m.env):len(m.env)], env...)}
}

// ended is how a run ended.
type ended struct {
	code     int // -1: by a signal
	out, err string
}

func run(cmd *exec.Cmd) (ended, error) {
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		return ended{}, err
	}
	e := ended{cmd.ProcessState.ExitCode(), out.String(), errs.String()}
	return e, e.check()
}

// line is what each line on standard error may look like.
var line = regexp.MustCompile(`^(error|failed|warning|damaged|vanished|incomplete|damaged objects): .|^rollout-sync: .`)

// check returns an error if standard error has something that is not for people to
// read, or if a run failed without a word.
func (e ended) check() error {
	if strings.Contains(e.out+e.err, secretKey) {
		return errors.New("the output has the secret key")
	}
	for l := range strings.Lines(e.err) {
		if !line.MatchString(l) {
			return fmt.Errorf("standard error has the line %q", l)
		}
	}
	if e.err == "" && e.code > 0 {
		return fmt.Errorf("it ends with %d and says nothing", e.code)
	}
	return nil
}

// wants returns an error unless the run ended with one of the codes.
func (e ended) wants(codes ...int) error {
	for _, c := range codes {
		if e.code == c {
			return nil
		}
	}
	return fmt.Errorf("exit code %d, not %v:\n%s%s", e.code, codes, e.out, e.err)
}

// expect runs a command to its end, which has to be of one of the codes.
func expect(cmd *exec.Cmd, codes ...int) (ended, error) {
	e, err := run(cmd)
	if err == nil {
		err = e.wants(codes...)
	}
	if err != nil {
		err = fmt.Errorf("%s: %w", strings.Join(cmd.Args[1:2], ""), err)
	}
	return e, err
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// workers are how many cases are tried at a time: most of them wait most of the time.
const workers = 12

// each does the cases, several at a time; it returns when all are done.
func each[C fmt.Stringer](t *testing.T, cases []C, do func(C) error) {
	t.Helper()
	var all sync.WaitGroup
	next := make(chan C)
	for range min(workers, len(cases)) {
		all.Go(func() {
			for c := range next {
				if err := do(c); err != nil {
					t.Errorf("%v: %v", c, err)
				}
			}
		})
	}
	for _, c := range cases {
		next <- c
	}
	close(next)
	all.Wait()
}

var buckets atomic.Int64

// newBucket makes an empty bucket, and returns where it and what it is called.
func newBucket() (dir, name string, err error) {
	name = fmt.Sprintf("bucket-%d", buckets.Add(1))
	dir = filepath.Join(gateway.Data, name)
	return dir, name, os.Mkdir(dir, 0o700)
}

// account adds a part that took part to the account of the run.
func account(t *testing.T, part, version string, cases, faults int) {
	t.Helper()
	parts.Add(t, parts.Entry{Part: part, Version: version, Cases: cases, Faults: faults})
}

// kernel is the version of the system, whose files and signals are put to the test.
func kernel() string {
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		return strings.TrimSpace(string(b))
	}
	return runtime.GOOS
}
