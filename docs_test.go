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

// docs/format.md has the kinds and members of a transcript's JSON, and no others.
func TestTranscriptFormat(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("docs/format.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(doc), "## 5. Transcripts as JSON")
	if !ok {
		t.Fatal("docs/format.md has no section 5")
	}
	source, err := os.ReadFile("replay/entry.go")
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, m := range regexp.MustCompile("`json:\"([a-z_]+)|Kind = \"([a-z_]+)|Turn[A-Z][a-z]+ += \"([a-z]+)").FindAllStringSubmatch(string(source), -1) {
		if name := m[1] + m[2] + m[3]; name != "idle" {
			named[name] = true
		}
	}
	if len(named) < 50 {
		t.Fatalf("only %d names", len(named))
	}
	documented := map[string]bool{}
	for _, m := range regexp.MustCompile("`([a-z_]+)`").FindAllStringSubmatch(table, -1) {
		documented[m[1]] = true
	}
	for name := range named {
		if !documented[name] {
			t.Errorf("docs/format.md does not name %s", name)
		}
	}
	for name := range documented {
		if !named[name] {
			t.Errorf("docs/format.md names %s, which there is not", name)
		}
	}
}
