package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"
)

// part is this program as one of its own parts, as a process of its own:
//
//	=run FILE ARG…   runs another program and tells what it took
//	=limit DIR       compresses and hashes every file, and nothing else
//	=bare DIR URL    and puts them, some at a time, into a bucket, and nothing else
//	=walk DIR        finds every file and its times, and nothing else
func part(name string, args []string) int {
	var err error
	switch name {
	case "=run":
		return measure(args)
	case "=limit":
		err = limit(args[0])
	case "=bare":
		err = bare(args[0], args[1])
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

// bare is what no push into a bucket can do without, as simple as it can be: files are
// read whole, in whatever memory that takes, nothing is asked, looked at or kept.
func bare(dir, bucket string) error {
	enc, err := zstd.NewWriter(nil)
	if err != nil {
		return err
	}
	const jobs = 4 // as many as push has
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: jobs}}
	names := make(chan string)
	group, ctx := errgroup.WithContext(context.Background())
	group.Go(func() error {
		defer close(names)
		return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				select {
				case names <- path:
				case <-ctx.Done():
					err = ctx.Err()
				}
			}
			return err
		})
	})
	for range jobs {
		group.Go(func() error {
			var plain bytes.Buffer
			var stored []byte
			for name := range names {
				f, err := os.Open(name)
				if err != nil {
					return err
				}
				plain.Reset()
				_, err = plain.ReadFrom(f)
				if err := errors.Join(err, f.Close()); err != nil {
					return err
				}
				sum := sha256.Sum256(plain.Bytes())
				stored = enc.EncodeAll(plain.Bytes(), stored[:0])
				if err := put(ctx, client, fmt.Sprintf("%s/%x", bucket, sum), stored); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// put makes an object.
func put(ctx context.Context, client *http.Client, url string, content []byte) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, url, bytes.NewReader(content))
	if err != nil {
		return err
	}
	const unsigned = "UNSIGNED-PAYLOAD"
	req.Header.Set("X-Amz-Content-Sha256", unsigned)
	key := aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secretKey}
	if err := v4.NewSigner().SignHTTP(ctx, key, req, unsigned, "s3", "us-east-1", time.Now()); err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode != http.StatusOK {
		err = errors.Join(err, errors.New(resp.Status))
	}
	return errors.Join(err, resp.Body.Close())
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
