package store_test

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"slices"
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

// Each case that the package comment cites exists, and each line of its table
// that promises something cites one.
func TestGuaranteesAreTested(t *testing.T) {
	t.Parallel()
	f, err := parser.ParseFile(token.NewFileSet(), "store.go", nil, parser.ParseComments|parser.PackageClauseOnly)
	if err != nil {
		t.Fatal(err)
	}
	cited := citedCases(f.Doc)
	if len(cited) < 10 {
		t.Fatalf("only %q cited", cited)
	}
	for _, name := range cited {
		if !slices.ContainsFunc(storetest.Cases(), func(c storetest.Case) bool { return c.Name == name }) {
			t.Errorf("the package comment cites %s, which is no case of storetest", name)
		}
	}
}

func citedCases(doc *ast.CommentGroup) (names []string) {
	for _, group := range regexp.MustCompile(`(?m)^\t +\(([A-Z][A-Za-z, ]+)\)$`).FindAllStringSubmatch(doc.Text(), -1) {
		names = append(names, strings.Split(group[1], ", ")...)
	}
	return names
}

type plain struct{}

func (plain) Power() string { return "power" }

type wrapped struct{ inner any }

func (w wrapped) Unwrap() any { return w.inner }

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
