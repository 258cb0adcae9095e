package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/klauspost/compress/zstd"
)

// part is this program as one of its own parts, as a process of its own:
//
//	=run FILE ARG…   runs another program and tells what it took
//	=limit DIR       compresses and hashes every file, and nothing else
//	=walk DIR        finds every file and its times, and nothing else
func part(name string, args []string) int {
	var err error
	switch name {
	case "=run":
		return measure(args)
	case "=limit":
		err = limit(args[0])
	case "=walk":
		err = walk(args[0])
	default:
		err = fmt.Errorf("no part %q", name)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// took is what a process took.
type took struct {
	Wall, CPU time.Duration
	RSS       int64 // bytes, the most that were resident
	Code      int
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
	t.CPU = cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()
	t.RSS = maxRSS(cmd.ProcessState.SysUsage().(*syscall.Rusage))
	t.Code = cmd.ProcessState.ExitCode()
	if err := json.NewEncoder(os.Stdout).Encode(t); err != nil {
		return 1
	}
	return 0
}

// limit is what a push cannot do without: default zstd and SHA-256 of all bytes.
func limit(dir string) error {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	sum := sha256.New()
	buf := make([]byte, 1<<20)
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		enc.Reset(io.Discard)
		sum.Reset()
		for {
			n, err := f.Read(buf)
			sum.Write(buf[:n])
			if _, err := enc.Write(buf[:n]); err != nil {
				return err
			}
			if err == io.EOF {
				return enc.Close()
			}
			if err != nil {
				return err
			}
		}
	})
}

// walk is what a push with nothing to do cannot do without.
func walk(dir string) error {
	return filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			_, err = d.Info()
		}
		return err
	})
}
