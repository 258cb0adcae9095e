package replay_test

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"golang.org/x/net/html"

	"github.com/rollout-sync/rollout/replay"
)

// allowed are the elements of a transcript and their attributes. None of them can
// run anything or lead anywhere but to a place within the file.
var allowed = map[string]string{
	"html": "lang", "head": "", "meta": "charset http-equiv content name", "title": "", "style": "", "body": "",
	"header": "", "main": "", "nav": "id", "section": "class id", "div": "class", "p": "class", "span": "class",
	"h1": "", "h2": "", "h3": "", "h4": "", "a": "href class", "b": "", "i": "class", "small": "", "strong": "",
	"dl": "", "dt": "", "dd": "", "ol": "", "ul": "class", "li": "class", "details": "class", "summary": "",
	"pre": "class", "code": "", "samp": "", "ins": "", "del": "", "u": "", "img": "alt src",
	"svg": "role aria-label preserveaspectratio viewbox", "rect": "x y width height",
}

var (
	safeImage = regexp.MustCompile(`^data:image/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]+$`)
	fragment  = regexp.MustCompile(`^#(contents|turn-[0-9]+)$`)
	class     = regexp.MustCompile(`^[a-z ]*$`)
)

// inert returns what in a page could do something.
func inert(page string) (found []string) {
	root, err := html.Parse(strings.NewReader(page))
	if err != nil {
		return []string{err.Error()}
	}
	styles := 0
	for n := range root.Descendants() {
		switch n.Type {
		case html.CommentNode:
			found = append(found, "a comment")
		case html.TextNode:
			if strings.ContainsAny(n.Data, "\x00\x1b\u202e\u2066\u009b\u2028\r") {
				found = append(found, fmt.Sprintf("%.80q", n.Data))
			}
		case html.ElementNode:
			attributes, ok := allowed[n.Data]
			if !ok {
				found = append(found, "<"+n.Data+">")
			}
			if n.Data == "style" {
				styles++
			}
			for _, a := range n.Attr {
				bad := !slices.Contains(strings.Fields(attributes), strings.ToLower(a.Key))
				switch a.Key {
				case "href":
					bad = bad || !fragment.MatchString(a.Val)
				case "src":
					bad = bad || !safeImage.MatchString(a.Val)
				case "class":
					bad = bad || !class.MatchString(a.Val)
				}
				if bad {
					found = append(found, fmt.Sprintf("<%s %s=%.80q>", n.Data, a.Key, a.Val))
				}
			}
		}
	}
	if styles != 1 {
		found = append(found, fmt.Sprintf("%d style sheets", styles))
	}
	return found
}

func TestHTMLIsInert(t *testing.T) {
	t.Parallel()
	sessions, err := filepath.Glob("testdata/golden/*.jsonl")
	must(t, err)
	for _, file := range sessions {
		content, err := os.ReadFile(file)
		must(t, err)
		if found := inert(transcribed(t, ".html", string(content))); found != nil {
			t.Errorf("%s: %s", file, found)
		}
	}
	// And this test can fail.
	for _, bad := range []string{
		"<script>", "<p onclick=x>", "<a href=javascript:x>", "<img src=data:image/svg+xml;base64,AA>", "<img src=http://x>",
		"<iframe>", "<style>", "<!-- -->", "<p>\u202e", "<object>", "<p style=x>", "<base href=x>", "<form>",
	} {
		if inert("<style></style>"+bad) == nil {
			t.Errorf("%s passes", bad)
		}
	}
}

// The policy allows the style sheet by its hash, and nothing else.
func TestHTMLPolicy(t *testing.T) {
	t.Parallel()
	page := transcribed(t, ".html", metaLine)
	style := regexp.MustCompile(`(?s)<style>(.*)</style>`).FindStringSubmatch(page)
	policy := regexp.MustCompile(`<meta http-equiv="Content-Security-Policy" content="([^"]*)">`).FindStringSubmatch(page)
	if style == nil || policy == nil {
		t.Fatalf("got %s", page)
	}
	sum := sha256.Sum256([]byte(style[1]))
	want := "default-src 'none'; style-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'; img-src data:; base-uri 'none'; form-action 'none'"
	if policy[1] != want {
		t.Errorf("got  %s\nwant %s", policy[1], want)
	}
	if strings.Index(page, policy[0]) > strings.Index(page, "<title>") {
		t.Error("the policy comes behind something from the session")
	}
	if strings.Contains(style[1], "url(") || strings.Contains(style[1], "@import") {
		t.Error("the style sheet loads something")
	}
}

// What was written when reading fails is a whole page that says so.
func TestHTMLOfAFailure(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	n := 0
	items := func(yield func(replay.Item, error) bool) {
		for it, err := range replay.Load(ctx, session(t, metaLine+g1Message("user", "hi")+g1Message("assistant", "ho")), name) {
			if n++; n == 2 {
				cancel()
			}
			if !yield(it, err) {
				return
			}
		}
	}
	var b strings.Builder
	err := replay.WriteHTML(&b, replay.Entries(items))
	if !errors.Is(err, context.Canceled) || !strings.Contains(b.String(), "could not be read further") || !strings.HasSuffix(b.String(), "</html>\n") {
		t.Errorf("got %v and\n%s", err, &b)
	}
}

func FuzzHTML(f *testing.F) {
	for _, s := range fuzzSeeds(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, content string) {
		if found := inert(transcribedLoosely(t, ".html", content)); found != nil {
			t.Errorf("%q: %s", content, found)
		}
	})
}

// fuzzSeeds are the lines of the golden sessions.
func fuzzSeeds(f *testing.F) (seeds []string) {
	f.Helper()
	sessions, err := filepath.Glob("testdata/golden/*.jsonl")
	must(f, err)
	for _, file := range sessions {
		content, err := os.ReadFile(file)
		must(f, err)
		seeds = append(seeds, string(content))
		for line := range strings.Lines(string(content)) {
			seeds = append(seeds, metaLine+line)
		}
	}
	return seeds
}

// transcribedLoosely is transcribed of what may be no session.
func transcribedLoosely(t testing.TB, format, content string) string {
	t.Helper()
	var b strings.Builder
	err := formats[format](&b, entriesOf(t, content))
	if err != nil && !errors.Is(err, replay.ErrEmpty) && !errors.Is(err, replay.ErrNoMeta) {
		t.Fatal(err)
	}
	return b.String()
}
