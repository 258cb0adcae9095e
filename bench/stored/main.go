// Command stored measures how many bytes a mirror stores for each byte that was
// recorded, beside what others store for the same sessions.
//
//	go run ./stored [-size MB] [-seed N] [-restic FILE]
//
// The sessions are as large and as compressible as real ones (bench/session), in a
// home as Codex has it; the mirror is what the real rollout-sync makes of it in a
// directory. Needs the commands zstd and restic; what is not there is named and left
// out. All that is written is in one temporary directory, which is removed.
package main

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/klauspost/compress/zstd"

	"github.com/rollout-sync/rollout/bench/session"
	"github.com/rollout-sync/rollout/bench/tree"
)

func main() {
	size := flag.Int64("size", 256, "`MB` of sessions")
	seed := flag.Uint64("seed", 1, "of the sessions")
	restic := flag.String("restic", "restic", "the restic to compare with")
	dir := flag.String("dir", "", "where the temporary directory is made")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *dir, *size*1e6, *seed, *restic); err != nil {
		fmt.Fprintln(os.Stderr, "stored:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, dir string, size int64, seed uint64, restic string) error {
	temp, err := os.MkdirTemp(dir, "rollout-bench-stored-*")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	home, mirror := filepath.Join(temp, "home"), filepath.Join(temp, "mirror")

	var raw int64
	w, o, sessions := session.New(seed), tree.Options{Sessions: 1 << 12, Days: 120}, 0
	for ; raw < size && sessions < o.Sessions; sessions++ {
		n, err := w.File(home, o, sessions, min(w.Size(), size-raw), 0)
		if err != nil {
			return err
		}
		raw += n
	}

	// Users of their own: what a program remembers of others' homes is not there.
	if err := command(ctx, temp, "..", "go", "build", "-o", filepath.Join(temp, "rollout-sync"), "./cmd/rollout-sync"); err != nil {
		return err
	}
	if err := command(ctx, temp, ".", filepath.Join(temp, "rollout-sync"), "push", "--quiet", "--home", home, "--mirror", mirror); err != nil {
		return err
	}
	whole, err := stored(mirror, nil)
	if err != nil {
		return err
	}
	var c containers
	objects, err := stored(filepath.Join(mirror, "sessions"), c.add)
	if err != nil {
		return err
	}
	if c.objects != sessions {
		return fmt.Errorf("%d objects of %d sessions", c.objects, sessions)
	}
	oneFrame, err := encoded(home)
	if err != nil {
		return err
	}

	fmt.Printf("%d sessions, %.1f MB, %d frames: bytes stored\n\n", sessions, float64(raw)/1e6, c.frames)
	row := func(what string, n int64) {
		fmt.Printf("%-52s %12d  %.4f of raw  %.3f of the mirror\n", what, n, float64(n)/float64(raw), float64(n)/float64(whole))
	}
	row("raw", raw)
	row("mirror, all of it", whole)
	row("  one frame a session, by the same encoder", oneFrame)
	row("  its cut into frames", objects-c.index-oneFrame)
	row("  trailers and seek tables", c.index)
	row("  facts of the origin, and the marker", whole-objects)
	for _, level := range []string{"-3", "-19"} {
		out := filepath.Join(temp, "zstd"+level)
		n, err := peer(ctx, temp, out, []string{"zstd", "-q", level, "-r", home, "--output-dir-flat", out})
		if err := told(err, "zstd "+level+", each file", n, row); err != nil {
			return err
		}
	}
	for _, compression := range []string{"auto", "max"} {
		repo := filepath.Join(temp, "restic-"+compression)
		args := []string{restic, "--repo", repo, "--no-cache", "--quiet"}
		n, err := peer(ctx, temp, repo,
			append(args, "init", "--repository-version", "2"),
			append(args, "--compression", compression, "backup", home))
		if err := told(err, "restic, compression "+compression, n, row); err != nil {
			return err
		}
	}
	return nil
}

// told prints a peer's row, or that the peer is not there.
func told(err error, what string, n int64, row func(string, int64)) error {
	if errors.Is(err, exec.ErrNotFound) {
		fmt.Printf("%-52s missing: %v\n", what, err)
		return nil
	}
	if err == nil {
		row(what, n)
	}
	return err
}

// peer runs commands that write to out, and returns what is stored there then. It
// removes out: there may be little room.
func peer(ctx context.Context, user, out string, commands ...[]string) (int64, error) {
	if err := os.Mkdir(out, 0o700); err != nil {
		return 0, err
	}
	for _, args := range commands {
		if err := command(ctx, user, ".", args...); err != nil {
			return 0, err
		}
	}
	n, err := stored(out, nil)
	return n, errors.Join(err, os.RemoveAll(out))
}

// command runs a program in dir as somebody whose home directory is user.
func command(ctx context.Context, user, dir string, args ...string) error {
	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Dir = dir
	cmd.Env = []string{"HOME=" + user, "TMPDIR=" + user, "PATH=" + os.Getenv("PATH"), "RESTIC_PASSWORD=bench"}
	if args[0] == "go" {
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%s: %w: %s", strings.Join(args, " "), err, &stderr)
	}
	return nil
}

// stored returns how many bytes the files below dir have, and hands each to look
// unless that is nil.
func stored(dir string, look func([]byte) error) (int64, error) {
	var n int64
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		if look == nil {
			info, err := d.Info()
			if err == nil {
				n += info.Size()
			}
			return err
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		n += int64(len(content))
		if err := look(content); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		return nil
	})
	return n, err
}

// containers are sealed files, and what of them is none of the frames.
type containers struct {
	objects, frames int
	index           int64 // bytes of trailers and seek tables
}

// add counts a file, by docs/format.md.
func (c *containers) add(stored []byte) error {
	const trailer, footer = 84, 17
	end := len(stored) - 9 // the number of frames, a descriptor, a magic number
	if end < 0 || binary.LittleEndian.Uint32(stored[end+5:]) != 0x8F92EAB1 {
		return errors.New("no seek table")
	}
	frames := int(binary.LittleEndian.Uint32(stored[end:]))
	c.objects++
	c.frames += frames
	c.index += int64(trailer + footer + 8*frames)
	return nil
}

// encoded returns how many bytes the files below dir have when each is one frame, with
// the checksum and the content size that ours have.
func encoded(dir string) (n int64, err error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderCRC(true), zstd.WithSingleSegment(true))
	if err != nil {
		return 0, err
	}
	var buf []byte
	_, err = stored(dir, func(plain []byte) error {
		buf = enc.EncodeAll(plain, buf[:0])
		n += int64(len(buf))
		return nil
	})
	return n, err
}
