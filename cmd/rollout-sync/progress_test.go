package main

import (
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/mattn/go-runewidth"

	"github.com/rollout-sync/rollout/mirror"
)

func TestMeter(t *testing.T) {
	t.Parallel()
	const mib = 1 << 20
	began := time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC)
	for _, test := range []struct {
		name                        string
		rollouts, done, bytes, sent int64
		took                        time.Duration
		width                       int
		want                        string
	}{
		{"a day's work", 300, 20, 50 * mib, 10 * mib, 10 * time.Second, 80, "10.0 MiB of 50.0 MiB   20%  [==          ]  40s left  1.0 MiB/s  20/300 sessions"},
		{"a wide terminal", 300, 20, 50 * mib, 10 * mib, 10 * time.Second, 200, "10.0 MiB of 50.0 MiB   20%  [=======                               ]  40s left  1.0 MiB/s  20/300 sessions"},
		{"a first run", 912345, 12345, 1 << 40, 1 << 36, 5 * time.Hour, 80, "64.0 GiB of 1.0 TiB    6%  75h00m left  3.6 MiB/s  12345/912345 sessions"},
		{"a narrow terminal", 300, 20, 50 * mib, 10 * mib, 10 * time.Second, 40, "10.0 MiB of 50.0 MiB   20%  40s left  1."},
		{"nothing yet", 300, 0, 50 * mib, 0, time.Second, 80, "0 B of 50.0 MiB    0%  [                                ]  0 B/s  0/300 sessions"},
		{"done", 300, 300, 50 * mib, 50 * mib, 100 * time.Second, 80, "50.0 MiB of 50.0 MiB  100%  [==========]  0s left  512.0 KiB/s  300/300 sessions"},
		{"empty sessions", 3, 1, 0, 0, time.Second, 80, "0 B of 0 B  100%  [======================================]  0 B/s  1/3 sessions"},
		{"no plan", 0, 1234, 0, 10 * mib, 100 * time.Second, 80, "1234 sessions  10.0 MiB  102.4 KiB/s  1m40s"},
		{"no width", 0, 1234, 0, 10 * mib, 100 * time.Second, 0, ""},
	} {
		var p mirror.Progress
		p.Rollouts.Store(test.rollouts)
		p.Done.Store(test.done)
		p.Bytes.Store(test.bytes)
		p.Sent.Store(test.sent)
		m := meter{progress: &p, noun: "sessions", began: began}
		got := m.line(began.Add(test.took), test.width)
		if got != test.want || runewidth.StringWidth(got) > test.width {
			t.Errorf("%s:\n got %q\nwant %q", test.name, got, test.want)
		}
	}
}

// The rate is that of the beginning at first, and forgets it with time.
func TestRate(t *testing.T) {
	t.Parallel()
	var r rate
	if got := r.at(0, 0); got != 0 {
		t.Errorf("at once the rate is %v", got)
	}
	n, at := int64(0), time.Duration(0)
	grow := func(seconds int, perSecond int64) (got float64) {
		for range seconds {
			n, at = n+perSecond, at+time.Second
			got = r.at(at, n)
		}
		return got
	}
	for _, step := range []struct {
		seconds   int
		perSecond int64
		want      float64
	}{
		{1, 1000, 1000}, // from the first second on
		{60, 1000, 1000},
		{30, 0, 430}, // the latest half minute weighs somewhat more than the minute before
		{600, 0, 0},
		{600, 50, 50},
	} {
		if got := grow(step.seconds, step.perSecond); math.Abs(got-step.want) > 10 {
			t.Errorf("after %d seconds of %d the rate is %v, want %v", step.seconds, step.perSecond, got, step.want)
		}
	}
	if got := r.at(at, n); math.Abs(got-50) > 1 {
		t.Errorf("the same moment again: %v", got)
	}
}

// Nothing is drawn where nobody sees it.
func TestNoProgressWithoutATerminal(t *testing.T) {
	t.Parallel()
	var out, err strings.Builder
	a := &app{stdio: stdio{os.Stdin, &out, &err}}
	stop := a.watch(new(mirror.Progress), "sessions")
	if a.out != &out || a.err != &err {
		t.Error("the output was replaced")
	}
	stop()
	stop()
	if out.Len()+err.Len() > 0 {
		t.Errorf("drawn are %q and %q", &out, &err)
	}
}
