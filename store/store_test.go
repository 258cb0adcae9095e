package store_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"iter"
	"log"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/storetest"
)

func TestCheckName(t *testing.T) {
	t.Parallel()
	for _, good := range []string{
		"a", "a.jsonl", "sessions/2026/11/20/x.jsonl", "a b", "é/中", "a-b_c@d", "..a"[2:], "a..b",
		strings.Repeat("x", 240), strings.Repeat("x/", 449) + "x",
	} {
		if err := store.CheckName(good); err != nil {
			t.Errorf("CheckName(%q) = %v", good, err)
		}
	}
	for _, bad := range storetest.BadNames {
		if err := store.CheckName(bad); !errors.Is(err, store.ErrInvalidName) {
			t.Errorf("CheckName(%q) = %v", bad, err)
		}
	}
}

func FuzzCheckName(f *testing.F) {
	for _, n := range append(storetest.BadNames, "a", "a/b.jsonl") {
		f.Add(n)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if store.CheckName(name) != nil {
			return
		}
		if !fs.ValidPath(name) || !filepath.IsLocal(filepath.FromSlash(name)) || strings.ContainsAny(name, "\\\x00\n") {
			t.Errorf("%q is taken", name)
		}
	})
}

func TestOrdered(t *testing.T) {
	t.Parallel()
	const n = 5000
	shuffled := func(yield func(store.Entry, error) bool) {
		for i := range n {
			for range 2 { // each twice
				if !yield(store.Entry{Name: fmt.Sprintf("%04d", i*7919%n)}, nil) {
					return
				}
			}
		}
	}
	for _, o := range []store.ListOptions{
		{},
		{Desc: true},
		{Limit: 7},
		{Desc: true, Limit: 1500},
		{Desc: true, Limit: 3, Before: "2500"},
		{Before: "0003"},
	} {
		var want, got []string
		for i := range n {
			if name := fmt.Sprintf("%04d", i); o.Before == "" || name < o.Before {
				want = append(want, name)
			}
		}
		if o.Desc {
			slices.Reverse(want)
		}
		if o.Limit > 0 && o.Limit < len(want) {
			want = want[:o.Limit]
		}
		for e, err := range store.Ordered(o, shuffled) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, e.Name)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%+v: got %d names from %.20q, want %d from %.20q", o, len(got), got, len(want), want)
		}
	}

	broken := errors.New("broken")
	var failing iter.Seq2[store.Entry, error] = func(yield func(store.Entry, error) bool) {
		_ = yield(store.Entry{Name: "a"}, nil) && yield(store.Entry{}, broken)
	}
	for e, err := range store.Ordered(store.ListOptions{}, failing) {
		if err != broken || e.Name != "" {
			t.Errorf("got %v, %v", e, err)
		}
	}
}

func TestWrap(t *testing.T) {
	t.Parallel()
	_, osErr := os.Open(filepath.Join(t.TempDir(), "x"))
	once := store.Wrap("open", "n", osErr)
	for err, want := range map[error]string{
		once:                          "open n: no such file or directory",
		store.Wrap("read", "n", once): "open n: no such file or directory",
		store.Wrap("o", "n", errors.Join(osErr, nil)): "o n: no such file or directory",
		store.Wrap("o", "n", store.ErrBusy):           "o n: another writer holds it",
	} {
		if err.Error() != want {
			t.Errorf("got %q, want %q", err, want)
		}
	}
	if !errors.Is(once, fs.ErrNotExist) {
		t.Error("the cause is lost")
	}
	if store.Wrap("open", "n", nil) != nil {
		t.Error("Wrap of nil is not nil")
	}
}

func TestBodyReader(t *testing.T) {
	t.Parallel()
	b := store.BytesBody([]byte("hello"), time.Time{})
	for _, content := range []string{"hello", "hell", "hello!", "jello", ""} {
		b.Open = func() (io.ReadCloser, error) {
			return io.NopCloser(iotest.OneByteReader(strings.NewReader(content))), nil
		}
		r, err := b.Reader(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(r)
		if content == "hello" {
			if string(got) != content || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
		} else if !errors.Is(err, store.ErrChanged) {
			t.Errorf("%q: got %v", content, err)
		}
	}
}

// fixed is a file with these bytes.
type fixed struct {
	store.File
	content string
}

func (fixed) Info() store.Info { return store.Info{} }

func (f fixed) Range(_ context.Context, off, n int64) (io.ReadCloser, error) {
	return io.NopCloser(iotest.OneByteReader(io.NewSectionReader(strings.NewReader(f.content), off, n))), nil
}

func TestReading(t *testing.T) {
	t.Parallel()
	read := store.NewReading()
	for _, part := range []string{"he", "", "llo"} {
		if n, err := io.WriteString(read, part); n != len(part) || err != nil {
			t.Errorf("Write: %d, %v", n, err)
		}
	}
	if want := sha256.Sum256([]byte("hello")); read.Size() != 5 || read.SHA256() != want {
		t.Errorf("read %d bytes, %x", read.Size(), read.SHA256())
	}
	for content, want := range map[string]error{
		"hello": nil, "hello, and more": nil, // the same at its beginning
		"hell": store.ErrChanged, "jello": store.ErrChanged, "": store.ErrChanged,
	} {
		r, err := read.Body(t.Context(), fixed{content: content}).Open()
		if err != nil {
			t.Fatal(err)
		}
		if !store.Checked(r) || !store.Checked(struct {
			io.Reader
			wrapped
		}{r, wrapped{r}}) {
			t.Error("it is not said that it is checked")
		}
		if got, err := io.ReadAll(r); !errors.Is(err, want) || err == nil && string(got) != "hello" {
			t.Errorf("%q: got %q, %v", content, got, err)
		}
	}
	b := store.FileBody(t.Context(), fixed{content: "hello"}, read.Size(), read.SHA256())
	if r, err := b.Open(); err != nil || store.Checked(r) {
		t.Errorf("the reader of a FileBody is checked, %v", err)
	}
}

// Every guarantee in the package's comments cites the cases of storetest that hold
// it, every case that is cited exists, and every case is cited.
func TestGuaranteesAreTested(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	cited := map[string]bool{}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, comment := range f.Comments {
			for _, name := range citedCases(comment.Text()) {
				cited[name] = true
			}
		}
		for _, line := range unheldLines(f.Doc.Text()) {
			t.Errorf("%s: no case holds the guarantee %q", file, line)
		}
	}
	for _, c := range storetest.Cases() {
		if !cited[c.Name] {
			t.Errorf("no comment cites case %s, which holds that %s", c.Name, c.Rule)
		}
		delete(cited, c.Name)
	}
	for name := range cited {
		t.Errorf("a comment cites %s, which is no case of storetest", name)
	}
}

var citation = regexp.MustCompile(`\(cases?\s+([A-Z]\w+(?:,\s+[A-Z]\w+)*)\)`)

// citedCases returns what a comment cites, as (case A) or (cases A, B).
func citedCases(comment string) (names []string) {
	for _, m := range citation.FindAllStringSubmatch(comment, -1) {
		for name := range strings.SplitSeq(m[1], ",") {
			names = append(names, strings.TrimSpace(name))
		}
	}
	return names
}

// unheldLines returns the lines of a comment's table that have no citation below
// them. A line begins with the name of what it promises, what belongs to it is
// indented, and the line of the columns' names is one that is.
func unheldLines(comment string) (lines []string) {
	var last string // and not held yet
	flush := func() {
		if last != "" {
			lines = append(lines, last)
		}
	}
	for line := range strings.Lines(comment) {
		row, ok := strings.CutPrefix(line, "\t")
		switch {
		case !ok:
		case row[0] != ' ':
			flush()
			last = strings.TrimSpace(row)
		case citation.MatchString(row):
			last = ""
		}
	}
	flush()
	return lines
}

// suites says of the packages below this one that do not run the suite why, or
// which directory's tests run it over them.
var suites = map[string]string{
	"blob/dirblob":        "blob",
	"blob/mem":            "blob",
	"internal":            "because what is below it is tested as local and memfs",
	"storetest":           "because it is the suite",
	"blob/internal/stall": "because it is a connection",
}

// Every package below this one runs the suite, itself or in the tests of another
// that imports it, or there is a reason why not.
func TestSuiteIsRun(t *testing.T) {
	t.Parallel()
	packages := map[string]bool{}
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		dir := filepath.ToSlash(filepath.Dir(file))
		if err == nil && d.IsDir() && d.Name() == "testdata" {
			return fs.SkipDir
		}
		if err == nil && dir != "." && strings.HasSuffix(file, ".go") {
			if strings.HasPrefix(dir, "internal/") {
				dir = "internal"
			}
			packages[dir] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for dir := range packages {
		elsewhere, excepted := suites[dir]
		switch {
		case strings.HasPrefix(elsewhere, "because "):
		case excepted:
			if !runsSuite(t, elsewhere, "github.com/rollout-sync/rollout/store/"+dir) {
				t.Errorf("the tests of %s do not run storetest over %s", elsewhere, dir)
			}
		case !runsSuite(t, dir, ""):
			t.Errorf("the tests of %s do not run storetest", dir)
		}
	}
	for dir := range suites {
		if !packages[dir] {
			t.Errorf("there is no package %s", dir)
		}
	}
}

// runsSuite reports whether the tests in dir call storetest.Run and, unless over
// is "", import that.
func runsSuite(t *testing.T, dir, over string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(filepath.FromSlash(dir), "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	runs, imports := false, over == ""
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range f.Imports {
			imports = imports || i.Path.Value == strconv.Quote(over)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			if call, ok := n.(*ast.SelectorExpr); ok && call.Sel.Name == "Run" {
				x, ok := call.X.(*ast.Ident)
				runs = runs || ok && x.Name == "storetest"
			}
			return true
		})
	}
	return runs && imports
}

type plain struct{}

func (plain) Power() string { return "power" }

type wrapped struct{ inner any }

func (w wrapped) Unwrap() any { return w.inner }

func ExampleReading() {
	ctx := context.Background()
	file := fixed{content: `{"type":"event_msg"}` + "\n"}
	read := store.NewReading()
	r, err := file.Range(ctx, 0, 100)
	if err != nil {
		log.Fatal(err)
	}
	if _, err := io.Copy(read, r); err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%d bytes, %.4x…\n", read.Size(), read.SHA256())

	file.content = `{"type":"something"}` + "\n" // as long as before
	again, err := read.Body(ctx, file).Open()
	if err != nil {
		log.Fatal(err)
	}
	_, err = io.Copy(io.Discard, again)
	fmt.Println(errors.Is(err, store.ErrChanged))
	// Output:
	// 21 bytes, 2d8fa333…
	// true
}

func ExampleAs() {
	type powerful interface{ Power() string }
	s := wrapped{wrapped{plain{}}}
	p, ok := store.As[powerful](s)
	fmt.Println(p.Power(), ok)
	_, ok = store.As[store.Putter](s)
	fmt.Println(ok)
	// Output:
	// power true
	// false
}
