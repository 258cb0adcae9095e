// Package versitygw runs the S3 server of that name, over a directory, for tests.
package versitygw

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// A Server is a running versitygw.
type Server struct {
	Addr    string // of loopback
	Data    string // a directory for each bucket, with a file for each object
	Version string

	cmd    *exec.Cmd
	said   bytes.Buffer
	exited chan struct{}
}

// Start builds the version that go.mod names, starts it with its files below dir and
// returns when it answers. These credentials may do everything.
func Start(dir, access, secret string) (*Server, error) {
	path, err := output("go", "tool", "-n", "versitygw")
	if err != nil {
		return nil, err
	}
	s := &Server{Data: filepath.Join(dir, "data"), exited: make(chan struct{})}
	if s.Version, err = output("go", "list", "-m", "-f", "{{.Version}}", "github.com/versity/versitygw"); err != nil {
		return nil, err
	}
	if s.Addr, err = freeAddr(); err != nil {
		return nil, err
	}
	sidecar := filepath.Join(dir, "meta")
	if err := errors.Join(os.Mkdir(s.Data, 0o700), os.Mkdir(sidecar, 0o700)); err != nil {
		return nil, err
	}
	s.cmd = exec.Command(path, "-a", access, "-s", secret, "-p", s.Addr, "--quiet", "posix", "--sidecar", sidecar, s.Data)
	s.cmd.Dir = dir
	s.cmd.Stdout, s.cmd.Stderr = &s.said, &s.said
	dieWithParent(s.cmd)
	started := make(chan error, 1)
	go func() {
		// A child that dies with its parent dies with the parent's thread.
		runtime.LockOSThread()
		err := s.cmd.Start()
		started <- err
		if err == nil {
			_ = s.cmd.Wait()
		}
		close(s.exited)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(30 * time.Second); ; {
		c, err := net.DialTimeout("tcp", s.Addr, time.Second)
		if err == nil {
			return s, c.Close()
		}
		select {
		case <-s.exited:
			return nil, s.Stop()
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("versitygw does not answer: %w", err), s.Stop())
		}
	}
}

// Stop ends the server. It is an error if that has ended before.
func (s *Server) Stop() error {
	select {
	case <-s.exited:
		return fmt.Errorf("versitygw has ended: %v: %s", s.cmd.ProcessState, &s.said)
	default:
	}
	_ = s.cmd.Process.Kill()
	<-s.exited
	return nil
}

func output(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, &stderr)
	}
	return strings.TrimSpace(string(out)), nil
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
