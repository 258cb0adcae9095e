package integration

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/rollout-sync/rollout/integration/parts"
	"github.com/rollout-sync/rollout/integration/tools"
)

// queries returns the blocks of a kind of docs/query.md.
func queries(t *testing.T, kind string) (blocks []string) {
	t.Helper()
	doc, err := os.ReadFile("../docs/query.md")
	must(t, err)
	for _, m := range regexp.MustCompile("(?s)```([a-z]+)\n(.*?)```").FindAllStringSubmatch(string(doc), -1) {
		switch m[1] {
		case kind:
			blocks = append(blocks, m[2])
		case "sh", "sql":
		default:
			t.Errorf("docs/query.md has a block of %s, which no test runs", m[1])
		}
	}
	return blocks
}

// newQueried pushes a home to the mirror where the page has it, and returns the
// user's home directory and how many calls of the tool shell were recorded. All
// sessions are cut off at the end. One has several frames, one a line that is in
// several, and two have a call as their first line.
func newQueried(t *testing.T) (user string, shells int) {
	t.Helper()
	home := emptyHome(t)
	dir := filepath.Join(home, "sessions/2026/01/02")
	const call = `{"timestamp":"2026-01-04T03:04:05.000Z","type":"response_item","payload":{"type":"function_call","name":%q,"arguments":%q}}` + "\n"
	appendTo := func(file, text string) {
		f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
		must(t, err)
		_, err = f.WriteString(text)
		must(t, err)
		must(t, f.Close())
	}
	writeSession(t, dir, 0, 1000)
	writeSession(t, dir, 1, 3<<20)
	appendTo(writeSession(t, dir, 2, 1000), fmt.Sprintf(call, "apply_patch", strings.Repeat("x", 40<<20)))
	for i := 3; i < 5; i++ {
		must(t, os.WriteFile(writeSession(t, dir, i, 0), fmt.Appendf(nil, call, "shell", "ls"), 0o600))
	}
	files, err := filepath.Glob(dir + "/*")
	must(t, err)
	for _, file := range files {
		appendTo(file, `{"timestamp":"2026-`)
		content, err := os.ReadFile(file)
		must(t, err)
		shells += strings.Count(string(content), `"name":"shell"`)
	}
	user = t.TempDir()
	if stdout, stderr, code := runCommand(t, map[string]string{"HOME": user}, "push", "--idle", "0s", "--home", home); code != 0 {
		t.Fatalf("%d: %s%s", code, stdout, stderr)
	}
	return user, shells
}

// The shell commands of docs/query.md answer what they say.
func TestShellQueries(t *testing.T) {
	versions := map[string]string{}
	for _, tool := range []string{"zstd", "jq"} {
		out, err := exec.Command(tool, "--version").Output()
		if err != nil {
			parts.Missing(t, tool, err.Error())
		}
		versions[tool] = regexp.MustCompile(`[0-9]+\.[0-9.]*[0-9]`).FindString(string(out))
	}
	blocks := queries(t, "sh")
	user, shells := newQueried(t)
	want := []string{
		"",
		fmt.Sprintf("%d shell\n1 apply_patch\n", shells),
		"this is session 1\n",
	}
	for tool, version := range versions {
		parts.Add(t, parts.Entry{Part: tool, Version: version, Cases: len(want) - 1})
	}
	const mark = "@@@\n"
	cmd := exec.Command("sh", "-euc", strings.Join(blocks, "echo @@@\n"))
	cmd.Env = []string{"HOME=" + user, "PATH=" + os.Getenv("PATH")}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("%v: %s", err, &stderr)
	}
	got := strings.Split(regexp.MustCompile(`(?m)^ +`).ReplaceAllString(string(out), ""), mark)
	if !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// DuckDB answers the queries of docs/query.md.
func TestSQLQueries(t *testing.T) {
	installed, err := tools.NPM("duckdb")
	if err != nil {
		parts.Missing(t, "duckdb", err.Error())
	}
	script, err := filepath.Abs("duckdb/query.js")
	must(t, err)
	statements, err := json.Marshal(queries(t, "sql"))
	must(t, err)
	user, shells := newQueried(t)
	cmd := exec.Command("node", script, installed)
	cmd.Dir = filepath.Join(user, ".local/share/rollout-sync/mirror")
	cmd.Stdin = strings.NewReader(string(statements))
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	var answer struct {
		Version string
		Rows    json.RawMessage
	}
	must(t, json.Unmarshal(out, &answer))
	parts.Add(t, parts.Entry{Part: "duckdb", Version: answer.Version, Cases: 3})
	want := fmt.Sprintf(`[[],[["shell","%d"],["apply_patch","1"]],`+
		`[["/work","3","2026-01-01 03:04:05","2026-01-03 03:04:05"]],`+
		`[["%s","this is session 0"],["%s","this is session 1"],["%s","this is session 2"]]]`,
		shells, sessionID(0), sessionID(1), sessionID(2))
	if string(answer.Rows) != want {
		t.Errorf("got  %.2000s\nwant %s", answer.Rows, want)
	}
}
