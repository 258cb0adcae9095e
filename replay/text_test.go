package replay_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/rollout-sync/rollout/replay"
)

// Colours are around headings of ours, and change nothing else.
func TestTextColors(t *testing.T) {
	t.Parallel()
	ours := regexp.MustCompile("\x1b\\[[0-9;]*m")
	for _, file := range []string{"testdata/golden/rich.jsonl", "testdata/golden/malice.jsonl"} {
		content, err := os.ReadFile(file)
		must(t, err)
		var b strings.Builder
		must(t, replay.WriteText(&b, entriesOf(t, string(content)), replay.TextOptions{Color: true}))
		for line := range strings.Lines(b.String()) {
			if strings.HasPrefix(line, " ") && strings.Contains(line, "\x1b") {
				t.Errorf("%s: %q is the session's and coloured", file, line)
			}
		}
		if n := len(ours.FindAllString(b.String(), -1)); n < 20 {
			t.Errorf("%s: only %d colours", file, n)
		}
		if got := ours.ReplaceAllString(b.String(), ""); got != transcribed(t, ".txt", string(content)) {
			t.Errorf("%s: without colours it is\n%s", file, got)
		}
	}
}

// heading is how a line begins that is not the session's.
var heading = regexp.MustCompile(`^(session|started|cwd|git|model|provider|written by|forked from|parent|begins with|== turn|== end:|user|assistant|reasoning|` +
	`system|compaction|call \d+:|files changed by call|output|rolled back, turns:|error|line \d+ cannot be read:|message from|realtime|` +
	`goal|review|subagent|plan|warning)`)

// Each line of a transcript is a heading or indented, and harmless.
func FuzzText(f *testing.F) {
	for _, s := range fuzzSeeds(f) {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, content string) {
		for line := range strings.SplitSeq(transcribedLoosely(t, ".txt", content), "\n") {
			if line != "" && !strings.HasPrefix(line, "  ") && !heading.MatchString(line) {
				t.Errorf("%q", line)
			}
			if replay.Clean(line) != line {
				t.Errorf("%q is harmful", line)
			}
		}
	})
}
