// Package server runs servers as child processes, on loopback, for tests.
package server

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"path/filepath"
	"runtime"
	"time"
)

// A Server is a child process. Where the system can do that it is killed when this
// process goes without Stop.
type Server struct {
	Addr string

	cmd    *exec.Cmd
	said   bytes.Buffer
	exited chan struct{}
}

// Start starts a server and returns when it answers at addr.
func Start(cmd *exec.Cmd, addr string) (*Server, error) {
	s := &Server{Addr: addr, cmd: cmd, exited: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &s.said, &s.said
	dieWithParent(cmd)
	started := make(chan error, 1)
	go func() {
		// A child that dies with its parent dies with the parent's thread.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(s.exited)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(time.Minute); ; {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			return s, c.Close()
		}
		select {
		case <-s.exited:
			return nil, s.Stop()
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("%s does not answer: %w\n%s", s.name(), err, &s.said), s.Stop())
		}
	}
}

// Stop ends the server. It is an error, with all that the server said, if that has
// ended by itself.
func (s *Server) Stop() error {
	select {
	case <-s.exited:
		return fmt.Errorf("%s has ended: %v\n%s", s.name(), s.cmd.ProcessState, &s.said)
	default:
	}
	_ = s.cmd.Process.Kill()
	<-s.exited
	return nil
}

func (s *Server) name() string { return filepath.Base(s.cmd.Path) }

// FreeAddr returns an address of loopback at which nobody listens.
func FreeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
