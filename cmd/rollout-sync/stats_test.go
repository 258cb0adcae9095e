package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"testing"

	"github.com/mattn/go-runewidth"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/replay"
	"github.com/rollout-sync/rollout/store/memfs"
)

func statsGroups() []*group {
	usage := codec.TokenUsage{Input: 1_234_567_890, CachedInput: 1_100_000_000, Output: 9_999, ReasoningOutput: 120, Total: 1_234_577_889}
	return []*group{
		{names: []string{"github.com/a-team-with-a-name/a-project-with-a-longer-one", "gpt-5"}, total: total{1200, 34_567, 999_950, usage, 5 << 40, 1 << 40}},
		{names: []string{"", "端末\x1b[31m"}, total: total{Sessions: 1}},
	}
}

func TestStatsTable(t *testing.T) {
	t.Parallel()
	for width, want := range map[int]string{
		200: `
REPOSITORY                                                 MODEL  SESSIONS  TURNS  CALLS  INPUT  CACHED  OUTPUT  REASONING  TOKENS     SIZE   STORED
github.com/a-team-with-a-name/a-project-with-a-longer-one  gpt-5      1200  34.6k   1.0M   1.2G    1.1G    9999        120    1.2G  5.0 TiB  1.0 TiB
-                                                          端末          1      0      0      0       0       0          0       0      0 B      0 B
total                                                                 1201  34.6k   1.0M   1.2G    1.1G    9999        120    1.2G  5.0 TiB  1.0 TiB
`,
		80: `
REPOSITORY                 MODEL  SESSIONS  TURNS  CALLS  INPUT  OUTPUT     SIZE
…roject-with-a-longer-one  gpt-5      1200  34.6k   1.0M   1.2G    9999  5.0 TiB
-                          端末          1      0      0      0       0      0 B
total                                 1201  34.6k   1.0M   1.2G    9999  5.0 TiB
`,
	} {
		got := "\n" + renderStats([]string{"repository", "model"}, statsGroups(), width, false)
		if got != want {
			t.Errorf("width %d: got%s", width, got)
		}
	}
}

// A session that cannot be read does not keep the others from being summed up.
func TestStatsGoOn(t *testing.T) {
	t.Parallel()
	home := memfs.New(nil)
	for i := range 50 {
		name := fmt.Sprintf("sessions/2026/03/04/rollout-2026-03-04T07-03-27-019cb7a8-9f00-7000-8000-0000000000%02d.jsonl", i)
		w, err := home.Create(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(w.Append([]byte(`{"timestamp":"2026-03-04T07:03:27Z","type":"session_meta","payload":{"id":"x"}}`+"\n")), w.Close()); err != nil {
			t.Fatal(err)
		}
	}
	told := 0
	s := statistics{
		by:     []grouper{modelOf},
		groups: map[string]*group{},
		done:   new(mirror.Progress),
		failed: func(listing.Item, error) { told++ },
		summary: func(_ context.Context, it listing.Item) (replay.Summary, error) {
			if strings.HasSuffix(it.Path, "7.jsonl") {
				return replay.Summary{}, fs.ErrPermission
			}
			return replay.Summary{Turns: 2, Tokens: codec.TokenUsage{Input: 3}, Models: []string{"behind the head"}}, nil
		},
	}
	if err := s.collect(t.Context(), []listing.Place{{Where: listing.Local, Source: home}}, listing.Query{}); err != nil {
		t.Fatal(err)
	}
	if g := s.groups["behind the head"]; len(s.groups) != 2 || g.Sessions != 45 || g.Turns != 90 || g.Input != 135 || s.groups[""].Sessions != 5 {
		t.Errorf("got %+v", s.groups)
	}
	if code := exitCode(t.Context(), s.err(t.Context())); code != exitPartial || told != 5 {
		t.Errorf("exit code %d, told of %d", code, told)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.collect(ctx, []listing.Place{{Where: listing.Local, Source: home}}, listing.Query{}); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestStatsTableFits(t *testing.T) {
	t.Parallel()
	for width := 20; width < 200; width++ {
		text := renderStats([]string{"repository", "model"}, statsGroups(), width, false)
		for line := range strings.Lines(text) {
			if n := runewidth.StringWidth(strings.TrimSuffix(line, "\n")); n > width || strings.Contains(line, "\x1b") {
				t.Errorf("width %d: a line of %d columns: %q", width, n, line)
			}
		}
		if coloured := renderStats([]string{"repository", "model"}, statsGroups(), width, true); escape.ReplaceAllString(coloured, "") != text {
			t.Errorf("width %d: in colours %s", width, coloured)
		}
	}
}
