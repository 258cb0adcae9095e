package rollout_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rollout-sync/rollout/store/storetest"
)

// Every test that docs/guarantees.md cites exists.
func TestGuaranteesAreHeld(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("docs/guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	cited := 0
	for _, cite := range regexp.MustCompile("`([a-z/-]+)`: ([A-Za-z0-9_/., ]+)").FindAllStringSubmatch(string(doc), -1) {
		dir, names := cite[1], strings.Split(strings.TrimSpace(cite[2]), ", ")
		for _, name := range names {
			cited++
			if !isTest(t, dir, name) {
				t.Errorf("docs/guarantees.md cites %s of %s, which is not there", name, dir)
			}
		}
	}
	if cited < 15 {
		t.Errorf("only %d tests are cited", cited)
	}
}

func isTest(t *testing.T, dir, name string) bool {
	t.Helper()
	if dir == "store/storetest" {
		return slices.ContainsFunc(storetest.Cases(), func(c storetest.Case) bool { return c.Name == name })
	}
	if strings.HasSuffix(name, ".txtar") {
		_, err := os.Stat(filepath.Join(dir, name))
		return err == nil
	}
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	return slices.ContainsFunc(files, func(file string) bool {
		content, err := os.ReadFile(file)
		return err == nil && regexp.MustCompile(`\nfunc `+name+`\([tf] `).Match(content)
	})
}
