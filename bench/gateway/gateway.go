// Package gateway runs the S3 server that the benchmarks talk to, versitygw over a
// directory, on loopback.
package gateway

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Start starts program, a versitygw, with a bucket for each directory that there will be
// in data below dir, and what it knows of its objects in meta, and returns when it
// listens at addr. It writes a line for each request to log.
func Start(ctx context.Context, program, dir, log, accessKey, secretKey string) (addr string, stop func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	addr = l.Addr().String()
	data, meta := filepath.Join(dir, "data"), filepath.Join(dir, "meta")
	if err := errors.Join(l.Close(), os.Mkdir(data, 0o700), os.Mkdir(meta, 0o700)); err != nil {
		return "", nil, err
	}
	cmd := exec.CommandContext(ctx, program, "-a", accessKey, "-s", secretKey, "-p", addr, "--quiet", "--keep-alive", // as S3 does
		"--access-log", log, "posix", "--sidecar", meta, data)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		return "", nil, err
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is killed
		close(ended)
	}()
	stop = func() {
		_ = cmd.Process.Kill() // or it has ended by itself
		<-ended
	}
	for range 1000 {
		if c, err := net.Dial("tcp", addr); err == nil {
			return addr, stop, c.Close()
		}
		select {
		case <-ended:
			return "", nil, fmt.Errorf("versitygw has ended: %s", &out)
		case <-time.After(10 * time.Millisecond):
		}
	}
	stop()
	return "", nil, errors.New("versitygw does not answer")
}
