package storetest

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/rollout-sync/rollout/store"
)

// BadNames are names no store takes.
var BadNames = []string{
	"", ".", "..", "/", "/a", "a/", "a//b", "./a", "a/.", "a/./b", "a/../b", "../a", "a/..", "../../etc/passwd",
	`a\b`, `..\a`, `\a`, `\\host\share`, "c:", "c:/a", "a:stream", "a/b:c",
	"a\x00b", "\x00", "a\nb", "a\rb", "a\tb", "a\x1b[2Jb", "a\x7fb",
	"\xff", "a/\xc3", "\xed\xa0\x80", // not UTF-8: a stray byte, half a rune, a surrogate
	".a", "a/.b", ".locks/x", ".tmp", "...", "a.", "a/b.", "a /b", "a ", " ",
	strings.Repeat("x", 241), "a/" + strings.Repeat("é", 121), strings.Repeat("x/", 450) + "x",
}

func testBadNames(t T, h Harness) {
	for _, n := range BadNames {
		for op, call := range methods(h) {
			if op == "list" && n == "." {
				continue // the root
			}
			wantErr(t, fmt.Sprintf("%s %q", op, n), call(t.Context(), n), store.ErrInvalidName)
		}
	}
	wantNames(t, h, ".")
}

// goodNames are names every store takes. Those that some system does not take, as
// Windows does not take "a?" or "con", are not among them.
var goodNames = func() []string {
	element := strings.Repeat("e", 240)
	longest := path.Join(element, element, element, strings.Repeat("n", 900-3*241-len(".jsonl"))+".jsonl")
	return []string{
		"n", "n.jsonl", "n.json", "nn.jsonl", "n.jsonl.jsonl", "n..jsonl", " n.jsonl", "n n.jsonl", "-n.jsonl", "~n.jsonl",
		"n%2fn.jsonl", "n%n.jsonl", "n+n.jsonl", "n#n.jsonl", "n&n=n;n.jsonl", "n@n,n!n$n.jsonl", "n'n`n.jsonl", "(n)[n]{n}^n.jsonl",
		"é/ü.jsonl", "会话/记录.jsonl", "🦀.jsonl", "e\u0301\u200d.jsonl", // a combining and an invisible rune
		"d/d/d/d/d/d/d/d/n.jsonl", "d.jsonl/n.jsonl",
		strings.Repeat("m", 240-len(".jsonl")) + ".jsonl", strings.Repeat("é", 117) + ".jsonl", strings.Repeat("l", 240), longest,
	}
}()

func testGoodNames(t T, h Harness) {
	for i, name := range goodNames {
		content := fmt.Sprintf("%d\n", i)
		if i%2 == 0 && can[store.Putter](h) {
			put(t, h, name, content)
		} else {
			write(t, h, name, []byte(content))
		}
	}
	for i, name := range goodNames {
		wantBytes(t, h, name, fmt.Appendf(nil, "%d\n", i))
		if !slices.Contains(names(t, h, path.Dir(name), store.ListOptions{}), name) {
			t.Errorf("List of its directory does not have %q, of %d bytes", name, len(name))
		}
	}
}

func testNamesByCase(t T, h Harness) {
	for _, name := range []string{"case.jsonl", "Case.jsonl", "CASE/a.jsonl", "Case/a.jsonl"} {
		write(t, h, name, []byte(name))
	}
	wantNames(t, h, ".", "CASE/", "Case/", "Case.jsonl", "case.jsonl")
	for _, name := range []string{"case.jsonl", "Case.jsonl", "CASE/a.jsonl", "Case/a.jsonl"} {
		wantBytes(t, h, name, []byte(name))
	}
	wantMissing(t, h, "case/a.jsonl")
	wantMissing(t, h, "CASE.jsonl")
}

// A zstd frame of one block that is not compressed: magic number, header, size of
// the content, header of the block, content.
const (
	plainForm  = "hello\n"
	storedForm = "\x28\xb5\x2f\xfd" + "\x20" + "\x06" + "\x31\x00\x00" + plainForm
)

func testStoredForm(t T, h Harness) {
	put(t, h, "a.jsonl.zst", storedForm)
	wantBytes(t, h, "a.jsonl.zst", []byte(storedForm))
	switch got := names(t, h, ".", store.ListOptions{}); {
	case slices.Equal(got, []string{"a.jsonl"}):
		wantBytes(t, h, "a.jsonl", []byte(plainForm))
	case slices.Equal(got, []string{"a.jsonl.zst"}): // a store that knows no compression
		wantMissing(t, h, "a.jsonl")
	default:
		t.Errorf("List = %q", got)
	}

	write(t, h, "b.jsonl", lines(1, 10))
	f, err := h.Store.Open(t.Context(), "b.jsonl.zst")
	if err != nil {
		wantMissing(t, h, "b.jsonl.zst") // it is not held compressed
		return
	}
	defer f.Close()
	got, err := read(t.Context(), f, 0, -1)
	must(t, err)
	if i := info(t, h, "b.jsonl"); int64(len(got)) != i.Stored || !strings.HasPrefix(string(got), storedForm[:4]) {
		t.Errorf("b.jsonl.zst has %d bytes %.10q, and b.jsonl says it is held in %d", len(got), got, i.Stored)
	}
}
