package index_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/afero"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/index"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/search"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/memfs"
)

const place = "/home/user/.codex"

func open(t *testing.T, file string) *index.Index {
	t.Helper()
	x, err := index.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	return x
}

func closeIndex(t *testing.T, x *index.Index) {
	t.Helper()
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
}

func path(i int) string { return fmt.Sprintf("sessions/rollout-%d.jsonl", i) }

// home returns a store of sessions in which the user says the texts.
func home(t *testing.T, texts ...string) store.Source {
	t.Helper()
	fs := afero.NewMemMapFs()
	for i, text := range texts {
		write(t, fs, path(i), text)
	}
	return memfs.New(fs)
}

func write(t *testing.T, fs afero.Fs, path, text string) {
	t.Helper()
	content := `{"timestamp":"t","type":"session_meta","payload":{"id":"x"}}` + "\n"
	for line := range strings.SplitSeq(text, "\n") {
		content += fmt.Sprintf(`{"timestamp":"t","type":"event_msg","payload":{"type":"user_message","message":%q}}`+"\n", line)
	}
	if err := afero.WriteFile(fs, path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func version(t *testing.T, src store.Source, path string) string {
	t.Helper()
	f, err := src.Open(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	return f.Info().Version
}

func add(t *testing.T, x *index.Index, src store.Source, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if err := x.Place(place).Add(t.Context(), src, path); err != nil {
			t.Fatal(err)
		}
	}
	if err := x.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}

// ask returns what the index says of a session: unknown, may or cannot have the words.
func ask(t *testing.T, x *index.Index, src store.Source, path string, args ...string) string {
	t.Helper()
	q, err := search.Parse(args)
	if err != nil {
		t.Fatal(err)
	}
	without, err := x.Place(place).Select(t.Context(), q.Words())
	if err != nil {
		t.Fatal(err)
	}
	v := version(t, src, path)
	known, ruledOut := x.Place(place).Has(t.Context(), path, v), without(path, v)
	switch {
	case !known && !ruledOut:
		return "unknown"
	case known && !ruledOut:
		return "may"
	case known:
		return "cannot"
	}
	return "unknown, and ruled out"
}

func TestSelect(t *testing.T) {
	t.Parallel()
	x := open(t, filepath.Join(t.TempDir(), "not", "there", "50%", "index.db"))
	defer closeIndex(t, x)
	long := strings.Repeat("y", 70)
	src := home(t, "the Quick brown-fox ÉTÉ 中文\nanother entry "+long, "the quick fox", "")
	add(t, x, src, path(0), path(1), path(2))
	for _, c := range []struct {
		args []string
		want [3]string
	}{
		{[]string{"quick"}, [3]string{"may", "may", "cannot"}},
		{[]string{"BROWN"}, [3]string{"may", "cannot", "cannot"}},
		{[]string{"brown-fox"}, [3]string{"may", "cannot", "cannot"}},
		{[]string{"bro"}, [3]string{"cannot", "cannot", "cannot"}},
		{[]string{"bro*"}, [3]string{"may", "cannot", "cannot"}},
		{[]string{"qui*", "fox"}, [3]string{"may", "may", "cannot"}},
		{[]string{"été"}, [3]string{"may", "cannot", "cannot"}},
		{[]string{"中*"}, [3]string{"may", "cannot", "cannot"}},
		{[]string{long}, [3]string{"may", "cannot", "cannot"}},
		{[]string{long + long}, [3]string{"may", "cannot", "cannot"}}, // as far as words count
		{[]string{long[:64] + "*"}, [3]string{"may", "cannot", "cannot"}},
		{[]string{"AND", "or", "NOT", "near"}, [3]string{"cannot", "cannot", "cannot"}},
	} {
		for i, want := range c.want {
			if got := ask(t, x, src, path(i), c.args...); got != want {
				t.Errorf("%q: session %d %s, want %s", c.args, i, got, want)
			}
		}
	}
}

// Another version of a session is another one, in another place too.
func TestVersions(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "index.db")
	x := open(t, file)
	fs := afero.NewMemMapFs()
	src := memfs.New(fs)
	write(t, fs, path(0), "before")
	add(t, x, src, path(0))
	if got := ask(t, x, src, path(0), "after"); got != "cannot" {
		t.Errorf("it %s have what was not there", got)
	}
	write(t, fs, path(0), "after it was changed")
	if got := ask(t, x, src, path(0), "after"); got != "unknown" {
		t.Errorf("a new version %s", got)
	}
	add(t, x, src, path(0))
	closeIndex(t, x)
	x = open(t, file)
	defer closeIndex(t, x)
	for word, want := range map[string]string{"after": "may", "before": "cannot"} {
		if got := ask(t, x, src, path(0), word); got != want {
			t.Errorf("%q: a new version %s", word, got)
		}
	}
	if x.Place("another").Has(t.Context(), path(0), version(t, src, path(0))) {
		t.Error("a session of one place is known in another")
	}
	if err := x.Place(place).Retain(t.Context(), func(string) bool { return false }); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, x, src, path(0), "after"); got != "unknown" {
		t.Errorf("a session that was forgotten %s", got)
	}
}

// The words of a large session are in several parts, and those of an entry in one.
func TestParts(t *testing.T) {
	t.Parallel()
	x := open(t, filepath.Join(t.TempDir(), "index.db"))
	defer closeIndex(t, x)
	var text strings.Builder
	for i := range 8 {
		fmt.Fprintf(&text, "first%d ", i)
		for j := range 40_000 {
			fmt.Fprintf(&text, "%x ", i<<40|j<<20)
		}
		fmt.Fprintf(&text, "last%d\n", i)
	}
	src := home(t, text.String())
	add(t, x, src, path(0))
	for i := range 8 {
		args := []string{fmt.Sprintf("first%d", i), fmt.Sprintf("last%d", i)}
		if got := ask(t, x, src, path(0), args...); got != "may" {
			t.Errorf("%q: it %s", args, got)
		}
	}
	if got := ask(t, x, src, path(0), "first0", "last7"); got != "cannot" {
		t.Errorf("what is far apart %s be in one entry", got)
	}
	add(t, x, home(t, "short"), path(0))
	if got := ask(t, x, src, path(0), "first0"); got != "unknown" {
		t.Errorf("what was replaced %s", got)
	}
}

// An entry with more words than are kept may have any.
func TestHugeEntry(t *testing.T) {
	t.Parallel()
	x := open(t, filepath.Join(t.TempDir(), "index.db"))
	defer closeIndex(t, x)
	var text strings.Builder
	for i := range 500_000 {
		fmt.Fprintf(&text, "%07x ", i)
	}
	src := home(t, text.String()+"last")
	add(t, x, src, path(0))
	if got := ask(t, x, src, path(0), "0000000", "last"); got != "may" {
		t.Errorf("it %s have its words", got)
	}
}

// What was learned is known, of that version alone, also when many learn at once.
func TestKnown(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "index.db")
	x := open(t, file)
	k := listing.Known{
		Info: store.Info{Size: 7, Seekable: true, ModTime: time.Unix(1, 2).UTC(), Meta: map[string]string{"lines": "3"}},
		Head: codec.Head{HasMeta: true, Cwd: "/w", FirstUserMessage: "hi\x1b", Problems: []codec.Problem{{Offset: 1, Length: 2, Reason: "torn"}}},
		Tail: true, Tokens: new(int64(5)),
	}
	const many = 5000
	done := make(chan bool)
	for w := range 4 {
		go func() {
			for i := w; i < many; i += 4 {
				x.Place(place).Learn(path(i), "v1", k)
			}
			done <- true
		}()
	}
	for range 4 {
		<-done
	}
	x.Place(place).Learn(path(1), "v2", k)
	closeIndex(t, x)
	x = open(t, file)
	defer closeIndex(t, x)
	for i := range many {
		v := "v1"
		if i == 1 {
			v = "v2"
		}
		got, ok := x.Place(place).Known(t.Context(), path(i), codec.Name{}, v)
		if diff := cmp.Diff(k, got); !ok || diff != "" {
			t.Fatalf("%d: %t %s", i, ok, diff)
		}
	}
	if _, ok := x.Place(place).Known(t.Context(), path(1), codec.Name{}, "v1"); ok {
		t.Error("a version is known that was replaced")
	}
}

func TestFiles(t *testing.T) {
	t.Parallel()
	x := open(t, filepath.Join(t.TempDir(), "index.db"))
	defer closeIndex(t, x)
	p := x.Place("s3://bucket")
	p.KeepFile("catalog/a", "1", []byte("old"))
	p.KeepFile("catalog/a", "2", []byte("new"))
	p.KeepFile("catalog/b", "1", nil)
	if err := x.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, ok := p.File(t.Context(), "catalog/a", "2"); !ok || string(got) != "new" {
		t.Errorf("%q %t", got, ok)
	}
	if got, ok := p.File(t.Context(), "catalog/b", "1"); !ok || len(got) > 0 {
		t.Errorf("%q %t", got, ok)
	}
	if _, ok := p.File(t.Context(), "catalog/a", "1"); ok {
		t.Error("a version that was replaced is there")
	}
}

// Whatever becomes of the file, it is made anew, or there is an error, and nothing is
// ruled out that is there.
func TestDamage(t *testing.T) {
	t.Parallel()
	var texts []string
	for i := range 200 {
		texts = append(texts, fmt.Sprintf("word%d common other%d", i, i%7))
	}
	src := home(t, texts...)
	whole := filepath.Join(t.TempDir(), "index.db")
	x := open(t, whole)
	for i := range texts {
		add(t, x, src, path(i))
	}
	closeIndex(t, x)
	content, err := os.ReadFile(whole)
	if err != nil {
		t.Fatal(err)
	}
	const page = 4096
	damage := map[string]func(b []byte) []byte{
		"empty": func([]byte) []byte { return nil },
		"text": func([]byte) []byte {
			return []byte("not a database, but longer than the head of one, to be sure of it; and on it goes, so")
		},
		"half":      func(b []byte) []byte { return b[:len(b)/2] },
		"torn page": func(b []byte) []byte { return b[:len(b)-page/2] },
	}
	for n := range len(content) / page {
		damage[fmt.Sprint("page ", n)] = func(b []byte) []byte {
			for i := range page {
				b[n*page+i] = byte(i * n)
			}
			return b
		}
		damage[fmt.Sprint("zero page ", n)] = func(b []byte) []byte {
			clear(b[n*page : (n+1)*page])
			return b
		}
	}
	for name, harm := range damage {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "index.db")
			if err := os.WriteFile(file, harm(bytes.Clone(content)), 0o600); err != nil {
				t.Fatal(err)
			}
			x := open(t, file)
			for _, word := range []string{"common", "word42", "other3"} {
				q, err := search.Parse([]string{word})
				if err != nil {
					t.Fatal(err)
				}
				without, err := x.Place(place).Select(t.Context(), q.Words())
				if err != nil {
					continue // nothing is known
				}
				for i, text := range texts {
					if strings.Contains(text+" ", word+" ") && without(path(i), version(t, src, path(i))) {
						t.Fatalf("session %d is ruled out for %s", i, word)
					}
				}
			}
			_ = x.Place(place).Add(t.Context(), src, path(0)) // it may have seen the damage
			_ = x.Close()
			x = open(t, file)
			add(t, x, src, path(0))
			if got := ask(t, x, src, path(0), "word0"); got != "may" {
				t.Errorf("afterwards it %s", got)
			}
			closeIndex(t, x)
		})
	}
}

func TestAnotherVersionOfTheSchema(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "index.db")
	src := home(t, "hello")
	x := open(t, file)
	add(t, x, src, path(0))
	closeIndex(t, x)
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	b[63]++ // the least byte of user_version
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
	x = open(t, file)
	defer closeIndex(t, x)
	if got := ask(t, x, src, path(0), "hello"); got != "unknown" {
		t.Errorf("a session in another version of the index %s", got)
	}
	add(t, x, src, path(0))
	if err := x.Clear(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := ask(t, x, src, path(0), "hello"); got != "unknown" {
		t.Errorf("a session in a cleared index %s", got)
	}
	add(t, x, src, path(0))
	if got := ask(t, x, src, path(0), "world"); got != "cannot" {
		t.Errorf("a session in an index made anew %s", got)
	}
}

func TestNobodyElseMayReadIt(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "cache")
	x := open(t, filepath.Join(dir, "index.db"))
	defer closeIndex(t, x)
	add(t, x, home(t, "secret"), path(0))
	list, err := os.ReadDir(dir)
	if err != nil || len(list) < 3 {
		t.Fatal(list, err)
	}
	for _, e := range list {
		if i, err := e.Info(); err != nil || i.Mode()&0o077 != 0 {
			t.Errorf("%s: %v, %v", e.Name(), i.Mode(), err)
		}
	}
}

func TestUnwritable(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := index.Open(filepath.Join(file, "index.db")); !errors.Is(err, fs.ErrNotExist) && err == nil {
		t.Error("an index in no directory")
	}
}

// A damaged index that somebody else has open is left to him.
func TestDamagedInUse(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "index.db")
	x := open(t, file)
	add(t, x, home(t, "hello"), path(0))
	closeIndex(t, x)
	x = open(t, file)
	if err := os.WriteFile(file, []byte(strings.Repeat("not a database ", 500)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := index.Open(file); !errors.Is(err, index.ErrInUse) {
		t.Errorf("error %v, want ErrInUse", err)
	}
	_ = x.Close() // it may tell
	closeIndex(t, open(t, file))
}

// crowd is how many processes write at once.
const crowd = 4

// TestMain is also the process that TestProcesses starts.
func TestMain(m *testing.M) {
	file := os.Getenv("INDEX_TEST_FILE")
	if file == "" {
		os.Exit(m.Run())
	}
	if err := writeAlone(file, os.Getenv("INDEX_TEST_PROCESS")); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// sessions are those that each process adds: some are the same ones.
func sessions() (src store.Source, n int) {
	const many = 300
	fs := afero.NewMemMapFs()
	at := time.Unix(0, 0)
	for i := range many {
		line := fmt.Sprintf(`{"timestamp":"t","type":"event_msg","payload":{"type":"user_message","message":"common word%d"}}`+"\n", i)
		_ = afero.WriteFile(fs, path(i), []byte(line), 0o600) // in memory
		_ = fs.Chtimes(path(i), at, at)
	}
	return memfs.New(fs), many
}

func writeAlone(file, process string) error {
	number, err := strconv.Atoi(process)
	if err != nil {
		return err
	}
	x, err := index.Open(file)
	if err != nil {
		return err
	}
	src, n := sessions()
	fmt.Println("begun")
	for round := true; round; round = number < 0 { // a negative one goes on until it is killed
		for i := range n {
			if i%crowd != number && i%3 != 0 && number >= 0 {
				continue
			}
			if err := x.Place(place).Add(context.Background(), src, path(i)); err != nil {
				return err
			}
			if i%16 == 0 {
				if err := x.Flush(context.Background()); err != nil {
					return err
				}
			}
		}
	}
	return x.Close()
}

func process(t *testing.T, file string, number int) *exec.Cmd {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), "INDEX_TEST_FILE="+file, fmt.Sprint("INDEX_TEST_PROCESS=", number))
	cmd.Stderr = os.Stderr
	return cmd
}

func TestProcesses(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "index.db")
	var all []*exec.Cmd
	for i := range crowd {
		cmd := process(t, file, i)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		all = append(all, cmd)
	}
	for _, cmd := range all {
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
	}
	checkSessions(t, file, true)
}

// A process that is killed leaves an index in which nothing is wrong.
func TestKilled(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "index.db")
	for range 5 {
		cmd := process(t, file, -1)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if _, err := out.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		x := open(t, file) // while it is written
		src, n := sessions()
		for seen := 0; seen < n/4; { // until it is somewhere in the middle
			seen = 0
			for i := range n {
				if x.Place(place).Has(t.Context(), path(i), version(t, src, path(i))) {
					seen++
				}
			}
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // it was killed
		closeIndex(t, x)
		checkSessions(t, file, false)
	}
}

// checkSessions looks whether what is known of the sessions is right.
func checkSessions(t *testing.T, file string, all bool) {
	t.Helper()
	x := open(t, file)
	defer closeIndex(t, x)
	src, n := sessions()
	for i := range n {
		got := ask(t, x, src, path(i), "common", fmt.Sprintf("word%d", i))
		if got != "may" && (all || got != "unknown") {
			t.Errorf("session %d %s", i, got)
		}
		if got := ask(t, x, src, path(i), "absent"); got != "cannot" && (all || got != "unknown") {
			t.Errorf("session %d %s have what it has not", i, got)
		}
	}
}
