package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/mattn/go-runewidth"
	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"

	"github.com/rollout-sync/rollout/mirror"
)

// watch shows how far p is, in one line on the terminal that standard error is. It
// shows nothing if that is none, and if output is for programs or not wanted. What is
// printed meanwhile appears above the line. stop takes it away again, and may be called
// twice.
func (a *app) watch(p *mirror.Progress, noun string) (stop func()) {
	tty := terminal(a.err)
	if tty == nil || a.json || a.quiet || a.log != nil || os.Getenv("TERM") == "dumb" {
		return func() {}
	}
	const refresh = 500 * time.Millisecond
	lines := mpb.New(mpb.WithOutput(tty), mpb.WithRefreshRate(refresh))
	m := &meter{progress: p, noun: noun, began: time.Now()}
	line, err := lines.Add(0, mpb.BarFillerFunc(func(w io.Writer, s decor.Statistics) error {
		_, err := io.WriteString(w, m.line(time.Now(), s.AvailableWidth-1)) // some terminals wrap a full line
		return err
	}), mpb.BarFillerTrim())
	if err != nil { // of lines that are over
		return func() {}
	}
	stdio := a.stdio
	a.err = lines
	if terminal(a.out) != nil {
		a.out = &output{Writer: lines}
	}
	return sync.OnceFunc(func() {
		line.Abort(true)
		lines.Wait()
		a.stdio = stdio
	})
}

// A meter writes how far a mirror.Progress is, how fast it grows, and how long it will
// take. It is for one goroutine.
type meter struct {
	progress *mirror.Progress
	noun     string
	began    time.Time
	rate     rate
}

// line returns a line of at most width columns.
func (m *meter) line(now time.Time, width int) string {
	total, done := m.progress.Rollouts.Load(), m.progress.Done.Load()
	bytes, sent := m.progress.Bytes.Load(), m.progress.Sent.Load()
	took := now.Sub(m.began)
	rate := m.rate.at(took, sent)
	perSecond := size(int64(rate)) + "/s"
	if total == 0 { // nobody knows how much there is to do
		line := fmt.Sprintf("%d %s  %s  %s  %s", done, m.noun, size(sent), perSecond, span(took))
		return runewidth.Truncate(line, width, "")
	}
	part := 1.0
	if bytes > 0 {
		part = min(1, float64(sent)/float64(bytes))
	}
	left := ""
	if seconds := float64(bytes-sent) / rate; rate > 0 && seconds < math.MaxInt32 {
		left = span(time.Duration(seconds*float64(time.Second))) + " left  "
	}
	before := fmt.Sprintf("%s of %s  %3d%%  ", size(sent), size(bytes), int(100*part))
	behind := fmt.Sprintf("%s%s  %d/%d %s", left, perSecond, done, total, m.noun)
	return runewidth.Truncate(before+bar(part, width-len(before)-len(behind)-len("  "))+behind, width, "")
}

// bar returns a bar of at most width columns, and a gap behind it, or nothing where there
// is no room.
func bar(part float64, width int) string {
	const least, most = 8, 40
	if width < least {
		return ""
	}
	width = min(width, most) - len("[]")
	full := int(part * float64(width))
	return "[" + strings.Repeat("=", full) + strings.Repeat(" ", width-full) + "]  "
}

// span says how long something takes, in two units: more would only flicker.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%02dm", int(d.Hours()), int(d.Minutes())%60)
}

// rate is how fast a number grows: the latest half minute weighs as much as all before.
type rate struct {
	since     time.Duration // of the last look
	n         int64         // then
	perSecond float64       // as if it had been 0 before the beginning
}

// at returns the rate if the number is n so long after the beginning.
func (r *rate) at(since time.Duration, n int64) float64 {
	const half = 30 * time.Second
	left := func(d time.Duration) float64 { return math.Exp2(-float64(d) / float64(half)) }
	if d := since - r.since; d > 0 {
		r.perSecond = left(d)*r.perSecond + (1-left(d))*float64(n-r.n)/d.Seconds()
		r.since, r.n = since, n
	}
	if r.since == 0 {
		return 0
	}
	return r.perSecond / (1 - left(r.since))
}
