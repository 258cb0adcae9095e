package tools

import (
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// Of runs that install at once each gets the whole, and nothing else is left.
func TestNPM(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the npm of this test is a shell script")
	}
	bin, dir, cache := t.TempDir(), filepath.Join(t.TempDir(), "tool"), t.TempDir()
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("HOME", cache)
	t.Setenv("XDG_CACHE_HOME", cache)
	t.Setenv("BEGUN", t.TempDir())
	// It ends once both runs are at work.
	script := `#!/bin/sh
mkdir node_modules && cp package-lock.json node_modules/ && mktemp "$BEGUN/XXXXXX" >/dev/null || exit 1
for i in $(seq 1000); do [ $(ls "$BEGUN" | wc -l) -ge 2 ] && exit 0; sleep 0.01; done
exit 1
`
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(os.WriteFile(filepath.Join(bin, "npm"), []byte(script), 0o700))
	must(os.Mkdir(dir, 0o700))
	must(os.WriteFile(filepath.Join(dir, "package.json"), []byte("{}"), 0o600))
	must(os.WriteFile(filepath.Join(dir, "package-lock.json"), []byte("1"), 0o600))
	var got [2]string
	var errs [2]error
	var wg sync.WaitGroup
	for i := range got {
		wg.Go(func() { got[i], errs[i] = NPM(dir) })
	}
	wg.Wait()
	must(errs[0])
	must(errs[1])
	if got[0] != got[1] {
		t.Errorf("they are in %s and in %s", got[0], got[1])
	}
	if lock, err := os.ReadFile(filepath.Join(got[0], "node_modules/package-lock.json")); string(lock) != "1" {
		t.Errorf("installed is %q, %v", lock, err)
	}
	third, err := NPM(dir)
	must(err)
	must(os.WriteFile(filepath.Join(dir, "package-lock.json"), []byte("2"), 0o600))
	fourth, err := NPM(dir)
	must(err)
	if third != got[0] || fourth == third {
		t.Errorf("the same lock is in %s, another in %s", third, fourth)
	}
	if begun, err := os.ReadDir(os.Getenv("BEGUN")); len(begun) != 3 || err != nil {
		t.Errorf("npm ran %d times, want 3: %v", len(begun), err)
	}
	if left, err := filepath.Glob(filepath.Join(filepath.Dir(fourth), "*.part-*")); len(left) > 0 || err != nil {
		t.Errorf("%s are left: %v", left, err)
	}
}
