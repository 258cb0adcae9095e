package main

import (
	"bytes"
	"os"
	"testing"
)

// Every mutation can be made, and docs/guarantees.md has the table as it is.
func TestTable(t *testing.T) {
	t.Chdir("../..")
	for _, m := range mutations {
		if _, err := m.apply(); err != nil {
			t.Errorf("%s without %s: %v; change the row in internal/mutate/table.go", m.file, m.what, err)
		}
	}
	doc, err := os.ReadFile("docs/guarantees.md")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(doc, []byte(rows(mutations))) {
		t.Error("docs/guarantees.md does not have what go run ./internal/mutate -table prints")
	}
}
