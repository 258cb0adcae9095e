package integration

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"
)

// startChild starts a server and waits until it answers at addr. It is killed by
// stop, or, where the system can do that, when this process goes without. If it ends
// by itself its output is printed.
func startChild(cmd *exec.Cmd, addr string) (stop func(), err error) {
	name := filepath.Base(cmd.Path)
	var output bytes.Buffer
	cmd.Stdout, cmd.Stderr = &output, &output
	dieWithParent(cmd)
	var stopped atomic.Bool
	started, exited := make(chan error, 1), make(chan struct{})
	go func() {
		// A child that dies with its parent dies with the parent's thread.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			err = cmd.Wait()
			if !stopped.Load() {
				fmt.Fprintf(os.Stderr, "%s has ended: %v\n%s\n", name, err, &output)
			}
		}
		close(exited)
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	stop = func() {
		stopped.Store(true)
		_ = cmd.Process.Kill()
		<-exited
	}
	deadline := time.Now().Add(time.Minute)
	for {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			return stop, c.Close()
		}
		select {
		case <-exited:
			return nil, fmt.Errorf("%s has ended", name)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			stop()
			return nil, fmt.Errorf("%s does not answer: %w\n%s", name, err, &output)
		}
	}
}
