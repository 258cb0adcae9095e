// Command mutate breaks what keeps the guarantees, one small change at a time, and
// demands that a test notices each. Run it in the module's root:
//
//	go run ./internal/mutate [-run TEXT]   break what has TEXT in its row, else everything
//	go run ./internal/mutate -part K/N     break the K-th of N parts of it
//	go run ./internal/mutate -table        print the table for docs/guarantees.md
//
// The tree is not touched: go test takes the changed file from a temporary
// directory (-overlay). It fails if a mutation survives, does not compile, or is of
// a text that is no longer there once.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"
)

// A mutation replaces old, which is in file once, by new. test is a -run pattern
// for the tests of package dir that have to go red.
type mutation struct {
	file, what string
	old, new   string
	dir, test  string
}

func main() {
	only := flag.String("run", "", "only the mutations with this `text` in their row")
	part := flag.String("part", "1/1", "only the `K/N`-th part of the mutations")
	table := flag.Bool("table", false, "print the table, run nothing")
	flag.Parse()
	if *table {
		fmt.Print(rows(mutations))
		return
	}
	var k, n int
	if _, err := fmt.Sscanf(*part, "%d/%d", &k, &n); err != nil || k < 1 || k > n {
		fmt.Fprintf(os.Stderr, "-part %s: is not like 1/2\n", *part)
		os.Exit(2)
	}
	var chosen []mutation
	for i, m := range mutations {
		if i%n == k-1 && strings.Contains(m.row(), *only) {
			chosen = append(chosen, m)
		}
	}
	if err := run(chosen); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Printf("all %d mutations are noticed\n", len(chosen))
}

// rows is the table of docs/guarantees.md.
func rows(mutations []mutation) string {
	var b strings.Builder
	b.WriteString("| file | without | goes red |\n|---|---|---|\n")
	for _, m := range mutations {
		b.WriteString(m.row())
	}
	return b.String()
}

func (m mutation) row() string {
	name, subtest, _ := strings.Cut(m.test, "/")
	if subtest != "" {
		subtest = " (" + subtest + ")"
	}
	return fmt.Sprintf("| %s | %s | `%s`: %s%s |\n", m.file, m.what, m.dir, name, subtest)
}

// run tests everything unbroken, and then each mutation.
func run(mutations []mutation) error {
	temp, err := os.MkdirTemp("", "mutate")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)

	tests := map[string][]string{}
	for _, m := range mutations {
		if !slices.Contains(tests[m.dir], m.test) {
			tests[m.dir] = append(tests[m.dir], m.test)
		}
	}
	// Building takes most of the time, and that is not always in parallel.
	slots := runtime.NumCPU() + 1
	var unbroken errgroup.Group
	unbroken.SetLimit(slots)
	for dir, names := range tests {
		unbroken.Go(func() error {
			out, err := goTest(dir, names, "-timeout=5m")
			for _, name := range names {
				if err != nil || !strings.Contains(out, "--- PASS: "+name) {
					return fmt.Errorf("without any mutation, %s of %s does not pass: %w\n%s", name, dir, err, out)
				}
			}
			return nil
		})
	}
	if err := unbroken.Wait(); err != nil {
		return err
	}

	errs := make([]error, len(mutations))
	var broken errgroup.Group
	broken.SetLimit(slots)
	var mu sync.Mutex // of standard output
	for i, m := range mutations {
		broken.Go(func() error {
			errs[i] = m.kill(filepath.Join(temp, fmt.Sprint(i)))
			mu.Lock()
			defer mu.Unlock()
			fmt.Print(map[bool]string{true: "", false: "SURVIVES "}[errs[i] == nil], m.row())
			return nil
		})
	}
	return errors.Join(append(errs, broken.Wait())...)
}

// red is what the output of a test that fails has, and that of one that does not
// compile has not.
var red = regexp.MustCompile(`(?m)^\s*--- FAIL: |^panic: test timed out|^fatal error: `)

// kill returns an error unless the mutation is noticed.
func (m mutation) kill(temp string) error {
	fail := func(format string, args ...any) error {
		return fmt.Errorf("%s without %s: %w", m.file, m.what, fmt.Errorf(format, args...))
	}
	changed, err := m.apply()
	if err != nil {
		return fail("%w", err)
	}
	if err := os.WriteFile(temp+".go", changed, 0o600); err != nil {
		return err
	}
	path, err := filepath.Abs(m.file)
	if err != nil {
		return err
	}
	overlay, err := json.Marshal(map[string]map[string]string{"Replace": {path: temp + ".go"}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(temp+".json", overlay, 0o600); err != nil {
		return err
	}
	// A test of what several do at once may miss it, once in some hundred runs.
	const tries = 3
	var out string
	for range tries {
		if out, err = goTest(m.dir, []string{m.test}, "-timeout=60s", "-failfast", "-overlay", temp+".json"); err != nil {
			break
		}
	}
	switch {
	case err == nil:
		return fail("it survives %s of %s", m.test, m.dir)
	case !red.MatchString(out):
		return fail("%w\n%s", err, out)
	}
	return nil
}

func (m mutation) apply() ([]byte, error) {
	content, err := os.ReadFile(m.file)
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(content, []byte(m.old)); n != 1 {
		return nil, fmt.Errorf("the text %q is there %d times", m.old, n)
	}
	return bytes.Replace(content, []byte(m.old), []byte(m.new), 1), nil
}

// goTest runs tests, which may be subtests, of the package in dir.
func goTest(dir string, tests []string, flags ...string) (string, error) {
	patterns := make([]string, len(tests))
	for i, test := range tests {
		patterns[i] = "^" + strings.ReplaceAll(test, "/", "$/^") + "$"
	}
	args := append([]string{
		"test", "-C", dir, "-count=1", "-v", "-vet=off", "-run", strings.Join(patterns, "|"),
		"-gcflags=-N -l", "-ldflags=-s -w", // which are quicker to build
	}, flags...)
	out, err := exec.Command("go", args...).CombinedOutput()
	return string(out), err
}
