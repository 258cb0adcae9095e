package main

import (
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/mattn/go-runewidth"

	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/replay"
	"github.com/rollout-sync/rollout/search"
)

// What is found fits the terminal, with the match in sight, and does nothing to it.
func TestFindings(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	long := strings.Repeat("日本 word ", 60)
	s := search.Session{
		Item: listing.Item{
			ID: uuid.MustParse("019cb7a8-9f00-7000-8000-000000000001"), Created: new(now.Add(-2 * time.Hour)), Cwd: new("/srv/a/directory/with/a/long/name"),
			FirstUserMessage: new("fix\x1b]0;x\x07 the\ntest " + long),
		},
		Hits: []search.Hit{
			{Kind: replay.KindAssistant, Turn: 12, Line: 345, Before: long, Match: "the\n\tmutex", After: " " + long},
			{Kind: replay.KindCall, Line: 7, Match: strings.Repeat("m", 300)},
		},
		Total: 5,
	}
	for _, width := range []int{40, 80, 200} {
		f := findings{width: width, now: now}
		lines := strings.Split(strings.TrimSuffix(f.render(s), "\n"), "\n")
		if len(lines) != 4 {
			t.Fatalf("%d columns: %q", width, lines)
		}
		for _, line := range lines {
			if n := runewidth.StringWidth(line); n > max(width, 56) || strings.ContainsFunc(line, func(r rune) bool { return r < ' ' }) {
				t.Errorf("%d columns: %d in %q", width, n, line)
			}
		}
		for i, part := range []string{"019cb7a8-9f00-7000-8000-000000000001  2h ago", "  turn 12, line 345, assistant: …", "  line 7, call: mmmm", "  and 3 more"} {
			if !strings.HasPrefix(lines[i], part) {
				t.Errorf("%d columns: %q does not begin with %q", width, lines[i], part)
			}
		}
		if !strings.Contains(lines[1], "the mutex") && width > 40 {
			t.Errorf("%d columns: the match is not to be seen in %q", width, lines[1])
		}
	}
	f := findings{colours: true, now: now}
	if got := f.render(s); !strings.Contains(got, "\x1b[1;31mthe mutex\x1b[0m") || strings.Contains(got, "\x1b]") {
		t.Errorf("in colours: %q", got)
	}
	if again := f.render(s); !strings.HasPrefix(again, "\n") {
		t.Error("sessions are not set apart")
	}
}
