package rollout_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rollout-sync/rollout/store/storetest"
)

// Every test that docs/guarantees.md and docs/scale.md cite exists.
func TestGuaranteesAreHeld(t *testing.T) {
	t.Parallel()
	for file, atLeast := range map[string]int{"docs/guarantees.md": 15, "docs/scale.md": 2} {
		doc, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		cited := 0
		for _, cite := range regexp.MustCompile("`([a-z/-]+)`: ([A-Za-z0-9_/., ]+)").FindAllStringSubmatch(string(doc), -1) {
			dir, names := cite[1], strings.Split(strings.TrimSpace(cite[2]), ", ")
			for _, name := range names {
				cited++
				if !isTest(t, dir, name) {
					t.Errorf("%s cites %s of %s, which is not there", file, name, dir)
				}
			}
		}
		if cited < atLeast {
			t.Errorf("%s cites only %d tests", file, cited)
		}
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

// docs/format.md has the kinds and members of a transcript's JSON, and no others, and
// the members of what a mirror has as JSON.
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
	table, mirrorTable, ok := strings.Cut(table, "## 6. The mirror")
	if !ok {
		t.Fatal("docs/format.md has no section 6")
	}
	for _, file := range []string{"facts", "lineage", "marker", "forget"} {
		source, err := os.ReadFile("mirror/" + file + ".go")
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("`json:\"([a-z0-9_]+)").FindAllStringSubmatch(string(source), -1) {
			if !strings.Contains(mirrorTable, "`"+m[1]+"`") {
				t.Errorf("docs/format.md does not name %s of mirror/%s.go", m[1], file)
			}
		}
	}
	_, columns, ok := strings.Cut(mirrorTable, "## 7. The catalog")
	if !ok {
		t.Fatal("docs/format.md has no section 7")
	}
	rows, err := os.ReadFile("catalog/row.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("`parquet:\"([a-z0-9_]+)").FindAllStringSubmatch(string(rows), -1) {
		if !strings.Contains(columns, "`"+m[1]+"`") {
			t.Errorf("docs/format.md does not name the column %s of the catalog", m[1])
		}
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

// Every JSON document in docs/operations.md can be taken as it is, and no policy
// there allows by a wildcard, or lets anybody but the forgetter delete.
func TestOperationsDocuments(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	type statement struct {
		Sid, Effect, Principal string
		Action, Resource       any // a string or a list
		Condition              map[string]map[string]string
	}
	policies, others := 0, 0
	for _, section := range regexp.MustCompile(`(?m)^##`).Split(string(doc), -1) {
		heading, _, _ := strings.Cut(section, "\n")
		for _, m := range regexp.MustCompile("(?s)```json\n(.*?)```").FindAllStringSubmatch(section, -1) {
			if !strings.Contains(m[1], "Statement") {
				others++
				if !json.Valid([]byte(m[1])) {
					t.Errorf("%s: no JSON: %s", heading, m[1])
				}
				continue
			}
			policies++
			var policy struct {
				Version   string
				Statement []statement
			}
			d := json.NewDecoder(strings.NewReader(m[1]))
			d.DisallowUnknownFields()
			if err := d.Decode(&policy); err != nil || policy.Version != "2012-10-17" || len(policy.Statement) == 0 {
				t.Errorf("%s: %v: %s", heading, err, m[1])
			}
			for _, s := range policy.Statement {
				allows := s.Effect == "Allow"
				switch actions := fmt.Sprint(s.Action); {
				case !allows && s.Effect != "Deny", allows != (s.Principal == ""), allows != (s.Condition == nil), s.Resource == nil:
					t.Errorf("%s: %s is no statement", heading, s.Sid)
				case allows && strings.Contains(actions, "*"):
					t.Errorf("%s: %s allows %s", heading, s.Sid, actions)
				case allows && strings.Contains(actions, "Delete") && !strings.Contains(heading, "forgetter"):
					t.Errorf("%s: %s may delete", heading, s.Sid)
				}
			}
		}
	}
	if policies < 4 || others < 2 {
		t.Errorf("%d policies and %d other documents", policies, others)
	}
}
