package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTable(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	account, list := filepath.Join(dir, "account"), filepath.Join(dir, "list")
	for name, text := range map[string]string{
		account: `{"part":"b","version":"2","cases":3,"faults":4}
{"part":"a","version":"1","cases":1}
{"part":"b","version":"2","cases":2,"losses":1}
{"part":"c","missing":"no npm"}
`,
		list: "# must\n\na\nb\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var b strings.Builder
	if err := run(&b, account, []string{list}); err != nil {
		t.Error(err)
	}
	const want = `  part  version  cases  faults  losses
     a        1      1       0       0
     b        2      5       4       1
c took no part: no npm
`
	if b.String() != want {
		t.Errorf("prints\n%s, want\n%s", b.String(), want)
	}
	if err := os.WriteFile(list, []byte("a\nc\nd\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := run(&b, account, []string{list})
	if err == nil || !strings.HasSuffix(err.Error(), "these must take part, and did not: c, d") {
		t.Errorf("without c and d: %v", err)
	}
}
