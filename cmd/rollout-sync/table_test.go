package main

import (
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/mattn/go-runewidth"

	"github.com/rollout-sync/rollout/listing"
)

var tableNow = time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)

func tableItems() []listing.Item {
	at := func(d time.Duration) *time.Time { return new(tableNow.Add(-d)) }
	return []listing.Item{
		{
			ID: uuid.MustParse("01a1f827-61ae-72c1-81b3-4b5026b79781"), Where: listing.Both, Mirror: new(listing.Behind),
			Created: at(90 * time.Second), Updated: at(30 * time.Second), PlainSize: new(int64(46 << 10)), Cwd: new("/srv/very/long/way/to/the/project"),
			FirstUserMessage: new("please\n  look at \x1b[31mthis\x1b[0m: 端末の幅を超える長い文章は切られる、はみ出さない、はみ出さない、はみ出さない、はみ出さない"), CLIVersion: new("1"),
		},
		{
			ID: uuid.MustParse("01a1f827-61ae-72c1-81b3-4b5026b79782"), Where: listing.Mirror,
			Created: at(50 * time.Hour), Updated: at(49 * time.Hour), PlainSize: new(int64(3)), Name: new("a name"), FirstUserMessage: new("not shown"), Archived: true,
		},
		{ID: uuid.MustParse("01a1f900-0000-7000-8000-000000000001"), Where: listing.Local, Problems: []string{"0 bytes", "torn"}},
		{ID: uuid.MustParse("01a1f900-0000-7000-8000-000000000002"), Where: listing.Local, Created: at(-time.Hour), CLIVersion: new("1")},
	}
}

var escape = regexp.MustCompile("\x1b\\[[0-9;]*m")

func TestTableFits(t *testing.T) {
	t.Parallel()
	for _, width := range []int{40, 60, 80, 99, 100, 139, 140, 200} {
		for _, colours := range []bool{false, true} {
			text := table{width: width, colours: colours, now: tableNow, order: listing.Created, zone: time.UTC}.render(tableItems())
			if colours != strings.Contains(text, "\x1b[") {
				t.Errorf("width %d, colours %t: %q", width, colours, text)
			}
			text = escape.ReplaceAllString(text, "")
			if strings.Contains(text, "\x1b") {
				t.Errorf("an escape sequence of a session came through: %q", text)
			}
			for line := range strings.Lines(text) {
				if n := runewidth.StringWidth(strings.TrimRight(line, "\n")); n > max(width, 56) {
					t.Errorf("width %d: a line of %d columns: %s", width, n, line)
				}
			}
			if n := strings.Count(text, "\n"); n != 5 {
				t.Errorf("width %d: %d lines", width, n)
			}
		}
	}
}

func TestTable(t *testing.T) {
	t.Parallel()
	items := tableItems()
	items[1].ID[2] = 0xff // so that the first digits tell it apart
	for _, c := range []struct {
		width int
		order listing.Order
		want  string
	}{
		{80, listing.Created, `
ID             CREATED     WHERE   SESSION
01a1f827-61ae  1m ago      behind  please look at this: 端末の幅を超える長い文…
01a1ff27-61ae  2d ago      mirror  (archived) a name
01a1f900-0000  ?           local   [0 bytes; torn]
01a1f900-0000  2026-11-25  local   (no message yet)
`},
		{110, listing.Updated, `
ID             UPDATED  WHERE       SIZE  DIRECTORY               SESSION
01a1f827-61ae  now      behind  46.0 KiB  …ng/way/to/the/project  please look at this: 端末の幅を超える長い文…
01a1ff27-61ae  2d ago   mirror       3 B                          (archived) a name
01a1f900-0000  ?        local          ?                          [0 bytes; torn]
01a1f900-0000  ?        local          ?                          (no message yet)
`},
		{0, listing.Created, `
ID                                    CREATED           WHERE       SIZE  DIRECTORY                          SESSION
01a1f827-61ae-72c1-81b3-4b5026b79781  2026-11-25 11:58  behind  46.0 KiB  /srv/very/long/way/to/the/project  please look at this: 端末の幅を超える長い文章は切られる、はみ出さない、はみ出さない、はみ出さない、はみ出さない
01a1ff27-61ae-72c1-81b3-4b5026b79782  2026-11-23 10:00  mirror       3 B                                     (archived) a name
01a1f900-0000-7000-8000-000000000001  ?                 local          ?                                     [0 bytes; torn]
01a1f900-0000-7000-8000-000000000001  2026-11-25 13:00  local          ?                                     (no message yet)
`},
	} {
		items[3].ID = items[2].ID // of one session: nothing to tell apart
		got := "\n" + table{width: c.width, now: tableNow, order: c.order, zone: time.UTC}.render(items)
		if got != c.want {
			t.Errorf("width %d: got%swant%s", c.width, got, c.want)
		}
	}
}
