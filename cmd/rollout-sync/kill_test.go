package main

import (
	"bytes"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

var kills = flag.Int("kills", 25, "how many times TestKillPush kills a push")

// A push that is killed at any moment leaves whole objects, of versions that the
// home had, and none older than before. The check knows files and zstd, and
// nothing of package mirror.
func TestKillPush(t *testing.T) {
	t.Parallel()
	const seed = 8
	r := rand.New(rand.NewPCG(seed, seed))
	dir := t.TempDir()
	home, mirror := filepath.Join(dir, "home"), filepath.Join(dir, "mirror")
	push := func() *exec.Cmd {
		cmd := exec.Command(program, "push", "--home", home, "--mirror", mirror, "--idle", "0s", "--jobs", "3")
		for _, kind := range []string{"DATA", "STATE", "CONFIG", "CACHE"} {
			cmd.Env = append(cmd.Environ(), "XDG_"+kind+"_HOME="+dir+"/"+kind)
		}
		return cmd
	}

	const sessions = 24
	versions := make([][][]byte, sessions) // what each ever had
	name := func(i int) string { return fmt.Sprintf("rollout-2026-11-20T08-41-45-01a1f81e-6bb9-7000-8000-%012d", i) }
	change := func(i int) {
		var content []byte
		if n := len(versions[i]); n > 0 && r.IntN(4) > 0 { // else another, as after a migration
			content = slices.Clone(versions[i][n-1])
		}
		more := make([]byte, r.IntN(400<<10))
		for i := range more {
			more[i] = "0123456789abcdef"[r.IntN(16)]
		}
		content = fmt.Appendf(content, `{"n":%d,"more":"%s"}`+"\n", r.Uint32(), more)
		versions[i] = append(versions[i], content)
		file := filepath.Join(home, "sessions/2026/11/20", name(i)+".jsonl")
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	current := make([]int, sessions) // versions in the mirror, -1: none
	kept := map[string]bool{}        // by name and version: that were in the mirror once
	// check returns of how many sessions the mirror has what the home has. After a
	// kill between an object and the state a rewrite may stand beside what it replaces.
	check := func() (upToDate int) {
		here := map[string]bool{}
		err := filepath.WalkDir(mirror, func(file string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() || !strings.HasSuffix(file, ".zst") || strings.HasPrefix(d.Name(), ".") ||
				strings.Contains(file, "origins") {
				return err
			}
			p, err := os.ReadFile(file)
			if err != nil {
				return err
			}
			z, err := zstd.NewReader(bytes.NewReader(p))
			if err != nil {
				return err
			}
			defer z.Close()
			if p, err = io.ReadAll(z); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			for i := range sessions {
				if !strings.Contains(file, name(i)) {
					continue
				}
				v := slices.IndexFunc(versions[i], func(v []byte) bool { return bytes.Equal(v, p) })
				if v < 0 {
					return fmt.Errorf("%s has %d bytes that session %d never had", file, len(p), i)
				}
				here[fmt.Sprint(i, "/", v)] = true
				if v == len(versions[i])-1 {
					upToDate++
				}
				if filepath.Base(file) != name(i)+".jsonl.zst" {
					continue
				}
				if v < current[i] {
					return fmt.Errorf("the current version of session %d was %d and is %d", i, current[i], v)
				}
				current[i] = v
			}
			return nil
		})
		if err != nil && !os.IsNotExist(err) {
			t.Fatalf("seed %d: %v", seed, err)
		}
		for was := range kept {
			var i, v int
			if _, err := fmt.Sscanf(was, "%d/%d", &i, &v); err != nil {
				t.Fatal(err)
			}
			// It is there, or one that it is the beginning of.
			if !here[was] && !slices.ContainsFunc(versions[i], func(w []byte) bool {
				return bytes.HasPrefix(w, versions[i][v]) && here[fmt.Sprint(i, "/", slices.IndexFunc(versions[i], func(x []byte) bool { return bytes.Equal(x, w) }))]
			}) {
				t.Fatalf("seed %d: version %d of session %d is lost", seed, v, i)
			}
		}
		for is := range here {
			kept[is] = true
		}
		return upToDate
	}
	for i := range sessions {
		current[i] = -1
		change(i)
	}
	took := 300 * time.Millisecond
	killed := 0
	for range *kills {
		cmd := push()
		start := time.Now()
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		end := time.AfterFunc(time.Duration(r.Int64N(int64(took))), func() { _ = cmd.Process.Kill() })
		err := cmd.Wait()
		end.Stop()
		if err == nil {
			took = min(took, time.Since(start))
		} else {
			killed++
		}
		check()
		for range 1 + r.IntN(6) {
			change(r.IntN(sessions))
		}
	}
	if killed < *kills/4 {
		t.Errorf("only %d of %d pushes were killed", killed, *kills)
	}
	if out, err := push().CombinedOutput(); err != nil {
		t.Fatalf("the push at the end: %v\n%s", err, out)
	}
	if n := check(); n != sessions {
		t.Errorf("seed %d: after the push at the end %d of %d sessions are up to date", seed, n, sessions)
	}
}
