package replay_test

import (
	"bytes"
	"flag"
	"io"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rollout-sync/rollout/replay"
)

var update = flag.Bool("update", false, "write the golden files anew")

// ours is what is the same in every page.
var ours = regexp.MustCompile(`(?s)(<style>|'sha256-).*?('|</style>)`)

// formats are the ways to write a transcript.
var formats = map[string]func(io.Writer, iter.Seq2[replay.Entry, error]) error{
	".txt": func(w io.Writer, entries iter.Seq2[replay.Entry, error]) error {
		return replay.WriteText(w, entries, replay.TextOptions{})
	},
	".md":   replay.WriteMarkdown,
	".json": replay.WriteJSON,
	".html": replay.WriteHTML,
}

// transcribed returns a session in a format.
func transcribed(t testing.TB, format, session string) string {
	t.Helper()
	var b bytes.Buffer
	must(t, formats[format](&b, entriesOf(t, session)))
	return b.String()
}

func entriesOf(t testing.TB, content string) iter.Seq2[replay.Entry, error] {
	t.Helper()
	return replay.Entries(replay.Load(t.Context(), session(t, content), name))
}

// Sessions of each generation, of plain events, and one full of malice, in each
// format. After a change look at what -update changes.
func TestGolden(t *testing.T) {
	t.Parallel()
	sessions, err := filepath.Glob("testdata/golden/*.jsonl")
	must(t, err)
	if len(sessions) < 5 {
		t.Fatalf("only %d sessions", len(sessions))
	}
	for _, file := range sessions {
		for format := range formats {
			golden := strings.TrimSuffix(file, ".jsonl") + format
			t.Run(filepath.Base(golden), func(t *testing.T) {
				t.Parallel()
				content, err := os.ReadFile(file)
				must(t, err)
				got := transcribed(t, format, string(content))
				got = ours.ReplaceAllString(got, "$1…$2")
				if *update {
					must(t, os.WriteFile(golden, []byte(got), 0o600))
					return
				}
				want, err := os.ReadFile(golden)
				must(t, err)
				if got != string(want) {
					t.Errorf("got\n%s\nwant\n%s", got, want)
				}
			})
		}
	}
}
