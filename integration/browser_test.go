package integration

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rollout-sync/rollout/integration/parts"
	"github.com/rollout-sync/rollout/replay"
	"github.com/rollout-sync/rollout/store/local"
)

// chromium returns the browser and its version. ROLLOUT_CHROMIUM may be the path of
// another than the first that is found.
func chromium(t *testing.T) (path, version string) {
	t.Helper()
	names := []string{"chromium", "chromium-browser", "google-chrome", "chrome"}
	if path := os.Getenv("ROLLOUT_CHROMIUM"); path != "" {
		names = []string{path}
	}
	for _, name := range names {
		path, err := exec.LookPath(name)
		if err != nil {
			continue
		}
		out, err := exec.CommandContext(t.Context(), path, "--version").Output()
		if err != nil {
			t.Fatal(err)
		}
		return path, regexp.MustCompile(`[0-9]+\.[0-9.]*[0-9]`).FindString(string(out))
	}
	parts.Missing(t, "chromium", fmt.Sprintf("there is none of %q; install one, or set ROLLOUT_CHROMIUM to its path", names))
	return "", ""
}

// TestTranscriptInABrowser opens a session full of malice in a browser. Neither does
// anything in it run or load anything when the page's policy is taken away, nor
// when hostile markup gets into the page unescaped. With both at once it does, so
// that the test would see it.
func TestTranscriptInABrowser(t *testing.T) {
	browser, version := chromium(t)
	parts.Add(t, parts.Entry{Part: "chromium", Version: version, Cases: 4})
	const hostile = `<script>document.title = "owned"; fetch("http://leak.invalid/fetch")</script>
<img src="http://leak.invalid/image" onerror="document.title = 'owned'">
<svg><image href="http://leak.invalid/svg"/></svg><style>main { background: url(http://leak.invalid/style) }</style>
<p style="background: url(http://leak.invalid/attribute)">x</p><link rel="stylesheet" href="http://leak.invalid/link">
<iframe src="http://leak.invalid/frame"></iframe><object data="http://leak.invalid/object"></object>
<video src="http://leak.invalid/video" autoplay></video><base href="http://leak.invalid/">`
	session, err := os.ReadFile("../replay/testdata/golden/malice.jsonl")
	if err != nil {
		t.Fatal(err)
	}
	if n := bytes.Count(session, []byte("leak.invalid")); n < 20 {
		t.Fatalf("the session tries to load only %d things", n)
	}
	policy := regexp.MustCompile(`<meta http-equiv="Content-Security-Policy"[^>]*>`)

	for name, c := range map[string]struct {
		change func(page string) string
		owned  bool
	}{
		"as it is":       {func(page string) string { return page }, false},
		"without policy": {func(page string) string { return policy.ReplaceAllLiteralString(page, "") }, false},
		"with hostile markup": {
			func(page string) string { return strings.Replace(page, "<main>", "<main>"+hostile, 1) }, false,
		},
		"with neither": {
			func(page string) string {
				return strings.Replace(policy.ReplaceAllLiteralString(page, ""), "<main>", "<main>"+hostile, 1)
			}, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			var requests atomic.Int64
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				w.Header().Set("Access-Control-Allow-Origin", "*")
			}))
			defer server.Close()
			page := strings.ReplaceAll(c.change(htmlTranscript(t, session)), "http://leak.invalid", server.URL)
			file := filepath.Join(t.TempDir(), "page.html")
			if err := os.WriteFile(file, []byte(page), 0o600); err != nil {
				t.Fatal(err)
			}
			dom := openPage(t, browser, file)
			if !strings.Contains(dom, `id="turn-1"`) {
				t.Fatalf("the browser shows %.2000s", dom)
			}
			owned := strings.Contains(dom, "<title>owned</title>")
			if n := requests.Load(); owned != c.owned || (n > 0) != c.owned {
				t.Errorf("something ran: %v; %d requests", owned, n)
			}
		})
	}
}

// htmlTranscript returns a session as HTML.
func htmlTranscript(t *testing.T, session []byte) string {
	t.Helper()
	const name = "s.jsonl"
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), session, 0o600); err != nil {
		t.Fatal(err)
	}
	st, err := local.Open(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	var b strings.Builder
	if err := replay.WriteHTML(&b, replay.Entries(replay.Load(t.Context(), st, name))); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// openPage returns a page as it is some time after the browser has opened it.
func openPage(t *testing.T, browser, file string) (dom string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	args := []string{
		"--headless=new", "--disable-gpu", "--no-first-run", "--disable-background-networking",
		"--user-data-dir=" + t.TempDir(), "--virtual-time-budget=5000", "--dump-dom", "file://" + filepath.ToSlash(file),
	}
	if os.Geteuid() == 0 { // whom its sandbox does not serve
		args = append([]string{"--no-sandbox"}, args...)
	}
	cmd := exec.CommandContext(ctx, browser, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, &stderr)
	}
	return string(out)
}
