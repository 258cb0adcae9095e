package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/rollout-sync/rollout/integration/parts"
	"github.com/rollout-sync/rollout/integration/tools"
)

// asked are the headings of docs/query.md with what a test runs, and the kind of it.
var asked = map[string]string{"The catalog": "sql", "zstd and jq": "sh", "DuckDB": "sql"}

// queries returns what a test runs below a heading of docs/query.md.
func queries(t *testing.T, heading string) (blocks []string) {
	t.Helper()
	doc, err := os.ReadFile("../docs/query.md")
	must(t, err)
	below := ""
	for _, m := range regexp.MustCompile("(?ms)^##+ ([^\n]*)$|^```([a-z][a-z ]*)\n(.*?)^```$").FindAllStringSubmatch(string(doc), -1) {
		switch kind := m[2]; {
		case kind == "":
			below = m[1]
		case kind == "sql athena", kind == "sql bigquery": // which cannot be had here
		case kind != asked[below]:
			t.Errorf("docs/query.md has a block of %s below %q, which no test runs", kind, below)
		case below == heading:
			blocks = append(blocks, m[3])
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
	writeSession(t, dir, 0, 1000)
	writeSession(t, dir, 1, 3<<20)
	appendTo(t, writeSession(t, dir, 2, 1000), fmt.Sprintf(call, "apply_patch", strings.Repeat("x", 40<<20)))
	for i := 3; i < 5; i++ {
		must(t, os.WriteFile(writeSession(t, dir, i, 0), fmt.Appendf(nil, call, "shell", "ls"), 0o600))
	}
	files, err := filepath.Glob(dir + "/*")
	must(t, err)
	for _, file := range files {
		appendTo(t, file, `{"timestamp":"2026-`)
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

func appendTo(t *testing.T, file, text string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_APPEND|os.O_WRONLY, 0)
	must(t, err)
	_, err = f.WriteString(text)
	must(t, errors.Join(err, f.Close()))
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
	blocks := queries(t, "zstd and jq")
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

// duckDB runs statements in a directory, as an entry of the account, and returns the
// rows of each.
func duckDB(t *testing.T, dir string, statements []string) (rows []json.RawMessage) {
	t.Helper()
	installed, err := tools.NPM("duckdb")
	if err != nil {
		parts.Missing(t, "duckdb", err.Error())
	}
	script, err := filepath.Abs("duckdb/query.js")
	must(t, err)
	in, err := json.Marshal(statements)
	must(t, err)
	cmd := exec.Command("node", script, installed)
	cmd.Dir = dir
	cmd.Stdin = bytes.NewReader(in)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	var answer struct {
		Version string
		Rows    []json.RawMessage
	}
	must(t, json.Unmarshal(out, &answer))
	parts.Add(t, parts.Entry{Part: "duckdb", Version: answer.Version, Cases: len(statements)})
	return answer.Rows
}

// wantRows compares the rows of each statement.
func wantRows(t *testing.T, got []json.RawMessage, want ...string) {
	t.Helper()
	if len(got) != len(want) {
		t.Fatalf("%d answers, want %d", len(got), len(want))
	}
	for i := range want {
		if string(got[i]) != want[i] {
			t.Errorf("answer %d is\n%.2000s, want\n%s", i, got[i], want[i])
		}
	}
}

// DuckDB answers what docs/query.md asks of the lines of sessions.
func TestLineQueries(t *testing.T) {
	user, shells := newQueried(t)
	rows := duckDB(t, filepath.Join(user, ".local/share/rollout-sync/mirror"), queries(t, "DuckDB"))
	wantRows(t, rows, "[]",
		fmt.Sprintf(`[["shell","%d"],["apply_patch","1"]]`, shells),
		`[["/work","3","2026-01-01 03:04:05","2026-01-03 03:04:05"]]`,
		fmt.Sprintf(`[["%s","this is session 0"],["%s","this is session 1"],["%s","this is session 2"]]`, sessionID(0), sessionID(1), sessionID(2)))
}

// A pushed is a session of TestCatalogQueries.
type pushed struct {
	id, stamp, repository string
	models                []string // a turn each
	parent                string   // whose subagent it is, "" of none
	tokens, errors        int
}

func (p pushed) file(home string) string {
	return filepath.Join(home, "sessions/2026", "rollout-"+p.stamp+"-"+p.id+".jsonl")
}

func (p pushed) write(t *testing.T, home string) {
	t.Helper()
	must(t, os.MkdirAll(filepath.Dir(p.file(home)), 0o700))
	must(t, os.WriteFile(p.file(home), []byte(p.lines()), 0o600))
}

func (p pushed) lines() string {
	source, git := `"cli"`, "null"
	if p.parent != "" {
		source = fmt.Sprintf(`{"subagent":{"thread_spawn":{"parent_thread_id":%q}}}`, p.parent)
	}
	if p.repository != "" {
		git = fmt.Sprintf(`{"repository_url":%q}`, p.repository)
	}
	lines := line("session_meta", `{"id":%q,"timestamp":"2026-01-02T03:04:05.000Z","cwd":"/work","originator":"x","cli_version":"0.1.0","source":%s,"git":%s}`, p.id, source, git)
	for i, model := range p.models {
		lines += aTurn(i, model)
	}
	lines += strings.Repeat(line("event_msg", `{"type":"error","message":"it broke"}`), p.errors)
	return lines + tokens(p.tokens, p.tokens)
}

func line(kind, payload string, args ...any) string {
	return fmt.Sprintf(`{"timestamp":"2026-01-02T03:04:05.000Z","type":%q,"payload":%s}`+"\n", kind, fmt.Sprintf(payload, args...))
}

func aTurn(n int, model string) string {
	return line("event_msg", `{"type":"task_started","turn_id":"%d"}`, n) +
		line("turn_context", `{"turn_id":"%d","cwd":"/work","model":%q}`, n, model) +
		line("event_msg", `{"type":"user_message","message":"go on"}`) +
		line("event_msg", `{"type":"task_complete","turn_id":"%d"}`, n)
}

// tokens tells how many tokens all turns together took and how many the last one, of
// which 3 are cached input and 2 are output.
func tokens(total, last int) string {
	return line("event_msg", `{"type":"token_count","info":{"total_token_usage":{"total_tokens":%d},`+
		`"last_token_usage":{"input_tokens":%d,"cached_input_tokens":3,"output_tokens":2,"total_tokens":%d}}}`, total, last-2, last)
}

// objects returns the sizes of the objects below a prefix of a bucket of the S3 server,
// by key.
func objects(t *testing.T, bucket, prefix string) map[string]int64 {
	t.Helper()
	list, err := s3Client.ListObjectsV2(ctx, &awss3.ListObjectsV2Input{Bucket: &bucket, Prefix: &prefix})
	must(t, err)
	sizes := map[string]int64{}
	for _, o := range list.Contents {
		sizes[*o.Key] = *o.Size
	}
	return sizes
}

// copyCatalog returns a directory with the files of the catalog in a bucket: DuckDB
// reads from a bucket only with an extension that it would have to download.
func copyCatalog(t *testing.T, bucket string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for key := range objects(t, bucket, "catalog/") {
		o, err := s3Client.GetObject(ctx, &awss3.GetObjectInput{Bucket: &bucket, Key: &key})
		must(t, err)
		content, err := io.ReadAll(o.Body)
		must(t, errors.Join(err, o.Body.Close()))
		file := filepath.Join(dir, filepath.FromSlash(key))
		must(t, os.MkdirAll(filepath.Dir(file), 0o700))
		must(t, os.WriteFile(file, content, 0o600))
	}
	return dir
}

// DuckDB answers what docs/query.md asks of the catalog of an S3 server's mirror: of
// two homes; after one has pushed what the other had, whose row the view must leave out;
// and after the catalog was deleted and made again.
func TestCatalogQueries(t *testing.T) {
	s := services[0]
	if s.absent != nil {
		parts.Missing(t, s.name, s.absent.Error())
	}
	parts.Add(t, parts.Entry{Part: s.name, Version: s.version, Cases: 3})
	s.proxy.busy.RLock()
	defer s.proxy.busy.RUnlock()
	bucket := s.newBucket(t)
	u := user{t, s.account(t, nil), s.url(bucket).String()}
	a, b := emptyHome(t), emptyHome(t)
	push := func(home string) {
		t.Helper()
		u.run(0, "push", "--idle", "0s", "--home", home)
	}

	const undated = "11111111-2222-4333-8444-555555555555"
	first := pushed{id: sessionID(0), stamp: "2026-01-01T03-04-05", repository: "https://github.com/acme/api.git", models: []string{"gpt-5"}, tokens: 1000}
	size := 0
	for home, sessions := range map[string][]pushed{
		a: {
			first,
			{id: sessionID(1), stamp: "2026-01-31T03-04-05", repository: "git@github.com:acme/api.git", models: []string{"gpt-5-mini", "gpt-5"}, tokens: 2000, errors: 2},
			{id: sessionID(2), stamp: "2026-02-01T03-04-05", repository: "ssh://git@github.com/acme/api", models: []string{"gpt-5"}, tokens: 4000},
		},
		b: {
			{id: sessionID(3), stamp: "2026-01-31T03-04-06", repository: "git@github.com:acme/api.git", models: []string{"gpt-5-mini"}, parent: sessionID(1), tokens: 300},
			{id: sessionID(4), stamp: "2026-01-05T03-04-05", repository: "https://github.com/acme/api-docs", models: []string{"gpt-6"}, tokens: 50, errors: 3},
			{id: undated, stamp: "some text", tokens: 7},
		},
	} {
		for _, p := range sessions {
			p.write(t, home)
			size += len(p.lines())
		}
	}
	push(b)
	pushed{id: sessionID(4), stamp: "2026-01-05T03-04-05", models: []string{"gpt-5"}, tokens: 1 << 40, errors: 9}.write(t, a) // it diverges
	push(a)

	machine, err := os.Hostname()
	must(t, err)
	statements := append(queries(t, "The catalog"),
		"SELECT state, count(*) FROM read_parquet('catalog/v1/*/*.parquet') GROUP BY 1 ORDER BY 1",
		"SELECT type, converted_type, count(*) // (SELECT count(*) FROM glob('catalog/v1/*/*.parquet')) FROM parquet_schema('catalog/v1/*/*.parquet') GROUP BY ALL ORDER BY ALL",
		"SELECT column_name, column_type FROM (DESCRIBE rollouts)")
	// The first session has had so many turns, and has taken so many tokens.
	check := func(when string, turns, total, current int) {
		t.Run(when, func(t *testing.T) {
			stored := int64(0)
			for _, n := range objects(t, bucket, "sessions/") {
				stored += n
			}
			values := map[string]any{
				"s0": sessionID(0), "s1": sessionID(1), "s2": sessionID(2), "s3": sessionID(3), "s4": sessionID(4), "undated": undated,
				"on": machine, "size": size, "stored": stored, "current": current,
				"turns": turns, "allTurns": turns + 5, "total": total, "input": total - 2*turns, "cached": 3 * turns, "output": 2 * turns,
			}
			var want []string
			for _, rows := range []string{
				`[]`,
				`[["2026-01-01","$s0","$on",["gpt-5"],"$total"],["2026-01-31","$s1","$on",["gpt-5-mini","gpt-5"],"2000"],["2026-01-31","$s3","$on",["gpt-5-mini"],"300"]]`,
				`[["2026-01","gpt-5","1","$input","$cached","$output"],["2026-01","gpt-5-mini","2","2296","6","4"],["2026-01","gpt-6","1","48","3","2"],` +
					`["2026-02","gpt-5","1","3998","3","2"],[null,null,"1","5","3","2"]]`,
				`[["$on","6","$allTurns","$size","$stored"]]`,
				`[["$s2","$on","0","1","4000"],["$s1","$on","1","3","2300"],["$s0","$on","0","$turns","$total"],["$s4","$on","0","1","50"],["$undated","$on","0","0","7"]]`,
				`[["2026-01-31","$s1","0.1.0","2","2","0"]]`,
				`[["current","$current"],["diverged","1"]]`,
				`[["BOOLEAN",null,"4"],["BYTE_ARRAY","UTF8","27"],["INT64","INT_64","19"],["INT64","TIMESTAMP_MICROS","2"],[null,"LIST","3"],[null,null,"5"]]`,
			} {
				want = append(want, os.Expand(rows, func(name string) string { return fmt.Sprint(values[name]) }))
			}
			rows := duckDB(t, copyCatalog(t, bucket), statements)
			last := len(rows) - 1
			wantRows(t, rows[:last], want...)
			wantColumns(t, rows[last])
		})
	}
	check("pushed", 1, 1000, 6)

	u.run(0, "restore", sessionID(0), "--home", b)
	more := aTurn(1, "gpt-5") + tokens(1500, 500)
	size += len(more)
	appendTo(t, first.file(b), more)
	push(b)
	check("pushed by the other home", 2, 1500, 7)

	for key := range objects(t, bucket, "catalog/") {
		_, err := s3Client.DeleteObject(ctx, &awss3.DeleteObjectInput{Bucket: &bucket, Key: &key})
		must(t, err)
	}
	u.run(0, "catalog", "rebuild")
	check("rebuilt", 2, 1500, 6)
}

// wantColumns compares the columns that DuckDB sees with those of the table for Athena
// in docs/query.md, which nothing else tries.
func wantColumns(t *testing.T, described json.RawMessage) {
	t.Helper()
	doc, err := os.ReadFile("../docs/query.md")
	must(t, err)
	table := regexp.MustCompile(`(?s)CREATE EXTERNAL TABLE rollout_versions \((.*?)\n\)`).FindSubmatch(doc)
	if table == nil {
		t.Fatal("docs/query.md has no table for Athena")
	}
	types := map[string]string{
		"string": "VARCHAR", "boolean": "BOOLEAN", "bigint": "BIGINT", "timestamp": "TIMESTAMP WITH TIME ZONE", "array<string>": "VARCHAR[]",
	}
	var want [][2]string
	for _, m := range regexp.MustCompile(`(\w+) ([^\s,]+)`).FindAllSubmatch(table[1], -1) {
		want = append(want, [2]string{string(m[1]), types[string(m[2])]})
	}
	want = append(want, // which nobody asks for, and the partition
		[2]string{"has_meta", "BOOLEAN"}, [2]string{"head_end", "BIGINT"},
		[2]string{"problems", `STRUCT("offset" BIGINT, length BIGINT, reason VARCHAR)[]`},
		[2]string{"abridged", "BOOLEAN"}, [2]string{"date", "DATE"})
	var got [][2]string
	must(t, json.Unmarshal(described, &got))
	if !slices.Equal(got, want) {
		t.Errorf("the columns are\n%q, want\n%q", got, want)
	}
}
