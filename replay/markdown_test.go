package replay_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"

	"github.com/rollout-sync/rollout/replay"
)

// brokenMarkdown returns what in a transcript is not as WriteMarkdown promises, read
// as CommonMark with GitHub's extensions.
func brokenMarkdown(t testing.TB, source, content string) (found []string) {
	t.Helper()
	var want []string
	for e, err := range entriesOf(t, content) {
		switch {
		case err != nil:
		case e.Kind == replay.KindSession:
			want = append(want, "1 Session")
		case e.Kind == replay.KindTurn:
			want = append(want, fmt.Sprintf("2 Turn %d", e.Turn))
		}
	}
	var headings []string
	root := goldmark.New(goldmark.WithExtensions(extension.GFM)).Parser().Parse(text.NewReader([]byte(source)))
	err := ast.Walk(root, func(n ast.Node, entering bool) (ast.WalkStatus, error) {
		switch n := n.(type) {
		case *ast.Heading:
			if entering {
				headings = append(headings, fmt.Sprintf("%d %s", n.Level, n.Lines().Value([]byte(source))))
			}
		case *ast.HTMLBlock, *ast.RawHTML, *ast.Image, *ast.Link:
			found = append(found, n.Kind().String())
		}
		return ast.WalkContinue, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(headings, "\n"), strings.Join(want, "\n"); got != want {
		found = append(found, fmt.Sprintf("headings %q instead of %q", got, want))
	}
	return found
}

func TestMarkdownKeepsItsStructure(t *testing.T) {
	t.Parallel()
	sessions, err := filepath.Glob("testdata/golden/*.jsonl")
	must(t, err)
	var contents []string
	for _, file := range sessions {
		content, err := os.ReadFile(file)
		must(t, err)
		contents = append(contents, string(content))
	}
	for _, message := range []string{
		"# a", "a\n===", "a\n---", "- # a", "> # a", "> a\n> ---", "1. a\n   ---", "- a\n  - b\n    ===", "- - -", "***",
		"<b>", "\\<b>", "\\\\<b>", "`<b>`", "`` ` <b>", "`a\n`<b>`", "\\`<b>`", "<!-- ", "&lt;b&gt; &#35; a",
		"```\n<b>", "~~~\n```\n<b>\n~~~\n<b>", "- ~~~\n<b>\n~~~ x", "    <b>\n<b>", "- ```\n  x\n<b>\n  ```\n<b>", "````\n```\n<b>\n````\n<b>",
		"```a`b\n<b>", "   ```\n<b>\n   ```\n<b>", "\t```\n<b>", "[a](javascript:x)", "[a]: http://x\n\n[a]", "![a](b)", "\\[a](b)", "\\\\[a](b)",
		"| a | `b | <b>` |\n|---|---|\n| `c | <b>` | d |", "| a |\n|---|\n| `x\\|<b>` |", "a\\", "`", "``", "[^1]: a\n\n[^1]", "\x00<b>\x1b[31m", "a\r\n===\r\n",
		"- [ ] # a", "*_~> \\  \n_<b>", "* # a\n+ ## b\n1) # c", "#", "#\ta", "a\n=", "|a|\n|-|\n# b",
	} {
		contents = append(contents, metaLine+g1Message("assistant", message)+g1Message("user", message)+output(message))
	}
	for _, content := range contents {
		source := transcribed(t, ".md", content)
		if found := brokenMarkdown(t, source, content); found != nil {
			t.Errorf("%s in\n%s", found, source)
		}
	}
}

func FuzzMarkdown(f *testing.F) {
	f.Add("- ```\n  x\n<b>\n  ```\n# a\n===")
	f.Add("| a | `b | <b>` |\n|---|---|")
	f.Fuzz(func(t *testing.T, message string) {
		if len(message) > 1000 {
			return // the parser is slow with some
		}
		content := metaLine + response("user", "a") + response("assistant", message) + output(message)
		source := transcribedLoosely(t, ".md", content)
		if found := brokenMarkdown(t, source, content); found != nil {
			t.Errorf("%s in\n%s", found, source)
		}
	})
}
