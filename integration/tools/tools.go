// Package tools installs programs that the tests run, each pinned, below the user's
// cache directory, where the next run finds them.
package tools

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
)

// NPM installs what the package.json and package-lock.json in dir ask for, and runs
// no script of it. It returns the directory that has the node_modules, whose name has
// the hash of both files.
func NPM(dir string) (string, error) {
	files := map[string][]byte{"package.json": nil, "package-lock.json": nil}
	hash := sha256.New()
	for _, name := range []string{"package.json", "package-lock.json"} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return "", err
		}
		files[name] = b
		hash.Write(b)
	}
	return install(filepath.Base(dir)+"-"+hex.EncodeToString(hash.Sum(nil)[:8]), func(work string) error {
		for name, b := range files {
			if err := os.WriteFile(filepath.Join(work, name), b, 0o600); err != nil {
				return err
			}
		}
		cmd := exec.Command("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund")
		cmd.Dir = work
		return run(cmd)
	})
}

// Go builds a program of a module, with that module's own choice of dependencies, and
// returns the directory that it is in.
func Go(pkg, version string) (string, error) {
	return install(path.Base(pkg)+"-"+version, func(work string) error {
		cmd := exec.Command("go", "install", pkg+"@"+version)
		cmd.Env = append(os.Environ(), "GOBIN="+work, "CGO_ENABLED=0")
		return run(cmd)
	})
}

// install returns the directory of that name in the cache, which make fills if it is
// not there. Several runs may do that at once, since a directory gets its name only
// when it is complete.
func install(name string, make func(work string) error) (string, error) {
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	cache = filepath.Join(cache, "rollout-integration")
	target := filepath.Join(cache, name)
	if _, err := os.Stat(target); err == nil {
		return target, nil
	}
	if err := os.MkdirAll(cache, 0o700); err != nil {
		return "", err
	}
	work, err := os.MkdirTemp(cache, name+".part-")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(work)
	if err := make(work); err != nil {
		return "", err
	}
	if err := os.Rename(work, target); err != nil {
		if _, err := os.Stat(target); err == nil { // another run was faster
			return target, nil
		}
		return "", err
	}
	return target, nil
}

func run(cmd *exec.Cmd) error {
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%q: %w: %s", cmd.Args, err, strings.Join(strings.Fields(string(out)), " "))
	}
	return nil
}
