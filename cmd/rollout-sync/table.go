package main

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mattn/go-runewidth"

	"github.com/rollout-sync/rollout/listing"
)

// A table is a list of sessions for people.
type table struct {
	width   int // of the terminal; 0: none, so nothing is cut or short
	colours bool
	now     time.Time
	order   listing.Order
	zone    *time.Location
}

// wide is from how many columns on there is room for whole ids.
const wide = 140

// enough is how much of a session's name or message tells what it is about.
const enough = 28

// gap is what stands between columns.
const gap = "  "

// A column has cells of one width. Its style is a Select Graphic Rendition of
// ECMA-48, such as "2" for faint.
type column struct {
	title string
	style func(listing.Item) string
	cell  func(listing.Item) string
	right bool
	width int
}

// render returns the lines: a heading, and one for each item.
func (t table) render(items []listing.Item) string {
	if len(items) == 0 {
		return ""
	}
	id := 36
	if t.width > 0 && t.width < wide {
		id = idLen(items)
	}
	plain := func(listing.Item) string { return "" }
	faint := func(listing.Item) string { return "2" }
	columns := []column{
		{title: "ID", style: plain, cell: func(it listing.Item) string { return it.ID.String()[:id] }},
		{title: strings.ToUpper(string(t.order)), style: faint, cell: t.when},
		{title: "WHERE", style: whereStyle, cell: where},
		{title: "SIZE", style: faint, cell: plainSize, right: true},
		{title: "DIRECTORY", style: faint, cell: func(it listing.Item) string { return clean(short(deref(it.Cwd))) }},
		{title: "SESSION", style: sessionStyle, cell: session},
	}
	for i := range columns {
		c := &columns[i]
		c.width = runewidth.StringWidth(c.title)
		for _, it := range items {
			c.width = max(c.width, runewidth.StringWidth(c.cell(it)))
		}
		if c.title == "DIRECTORY" && t.width > 0 {
			c.width = min(c.width, max(10, t.width/5))
		}
	}
	for need := columns[len(columns)-1].width; t.width > 0; {
		left := t.width
		for _, c := range columns[:len(columns)-1] {
			left -= c.width + len(gap)
		}
		if left >= min(need, enough) || len(columns) == 2 {
			columns[len(columns)-1].width = max(min(need, left), 1)
			break
		}
		// The least of what is there is left out.
		i := slices.IndexFunc(columns, func(c column) bool { return c.title == "SIZE" })
		if i < 0 {
			i = len(columns) - 2
		}
		columns = slices.Delete(columns, i, i+1)
	}
	var b strings.Builder
	line := func(cell, style func(c column) string) {
		var cells []string
		for i, c := range columns {
			text := cell(c)
			switch {
			case t.width == 0 && i == len(columns)-1:
			case c.title == "DIRECTORY" && t.width > 0:
				text = runewidth.FillRight(cutLeft(text, c.width), c.width)
			case c.right:
				text = runewidth.FillLeft(text, c.width)
			default:
				text = runewidth.FillRight(runewidth.Truncate(text, c.width, "…"), c.width)
			}
			if i == len(columns)-1 {
				text = strings.TrimRight(text, " ")
			}
			if s := style(c); t.colours && s != "" {
				text = "\x1b[" + s + "m" + text + "\x1b[0m"
			}
			cells = append(cells, text)
		}
		b.WriteString(strings.Join(cells, gap) + "\n")
	}
	line(func(c column) string { return c.title }, func(column) string { return "2" })
	for _, it := range items {
		line(func(c column) string { return c.cell(it) }, func(c column) string { return c.style(it) })
	}
	return b.String()
}

// idLen is how much of the ids tells the sessions of a list apart: the time that a
// UUIDv7 begins with, or more. What takes all of it is one session several times.
func idLen(items []listing.Item) int {
	for n := 13; n < 36; n++ {
		seen, apart := map[string]string{}, true
		for _, it := range items {
			id := it.ID.String()
			other, ok := seen[id[:n]]
			apart = apart && (!ok || other == id)
			seen[id[:n]] = id
		}
		if apart {
			return n
		}
	}
	return 36
}

// when is the time that the list goes by.
func (t table) when(it listing.Item) string {
	at := it.Created
	if t.order == listing.Updated {
		at = it.Updated
	}
	switch {
	case at == nil:
		return "?"
	case t.width == 0:
		return at.In(t.zone).Format("2006-01-02 15:04")
	}
	const day = 24 * time.Hour
	switch d := t.now.Sub(*at); {
	case d < -time.Minute:
		return at.In(t.zone).Format(time.DateOnly) // of a clock that was wrong
	case d < time.Minute:
		return "now"
	case d < time.Hour:
		return fmt.Sprintf("%dm ago", d/time.Minute)
	case d < day:
		return fmt.Sprintf("%dh ago", d/time.Hour)
	case d < 30*day:
		return fmt.Sprintf("%dd ago", d/day)
	case d < 365*day:
		return fmt.Sprintf("%dmo ago", d/(30*day))
	default:
		return fmt.Sprintf("%dy ago", d/(365*day))
	}
}

// where tells in a word where a session is and, if that is known, what is newer.
func where(it listing.Item) string {
	switch m := deref(it.Mirror); m {
	case listing.Behind, listing.Ahead:
		return m
	}
	return it.Where
}

func whereStyle(it listing.Item) string {
	switch where(it) {
	case listing.Local, listing.Behind:
		return "33" // yellow: not, or not all, in the mirror
	}
	return "2"
}

func plainSize(it listing.Item) string {
	if it.PlainSize == nil {
		return "?"
	}
	return size(*it.PlainSize)
}

// session is what a person knows a session by, and what is wrong with it.
func session(it listing.Item) string {
	text := cmp.Or(deref(it.Name), deref(it.FirstUserMessage))
	if it.Archived {
		text = "(archived) " + text
	}
	switch {
	case len(it.Problems) > 0:
		text += " [" + strings.Join(it.Problems, "; ") + "]"
	case it.Name == nil && it.FirstUserMessage == nil && it.CLIVersion != nil:
		text += "(no message yet)"
	}
	return strings.Join(strings.Fields(clean(text)), " ")
}

func sessionStyle(it listing.Item) string {
	switch {
	case len(it.Problems) > 0:
		return "31" // red
	case it.Archived:
		return "2"
	case it.Name != nil:
		return "1" // bold
	}
	return ""
}

// short writes a path as a shell would show it, from the user's home on.
func short(path string) string {
	home, err := os.UserHomeDir()
	if err != nil || home == "/" {
		return path
	}
	if rest, ok := strings.CutPrefix(path, home); ok && (rest == "" || os.IsPathSeparator(rest[0])) {
		return "~" + rest
	}
	return path
}

// cutLeft shortens a path to the end of it, which says more.
func cutLeft(path string, width int) string {
	if n := runewidth.StringWidth(path); n > width {
		return runewidth.TruncateLeft(path, n-width+1, "…")
	}
	return path
}
