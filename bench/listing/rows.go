package main

import (
	"errors"
	"fmt"
	"time"

	"github.com/rollout-sync/rollout/bench/codex"
	"github.com/rollout-sync/rollout/bench/row"
	"github.com/rollout-sync/rollout/bench/tree"
)

const page = 25 // sessions

// same is how much longer the first page of the largest home may take than that of
// the least and still be said to take the same time. A page is a millisecond or two,
// and days of few sessions are more directories, days of many are longer ones.
const same = 1.5

// A timed home has the milliseconds of its first page: of the listing, and of what
// that cannot do without.
type timed struct {
	kind
	home        string
	ours, limit row.Sample
}

// measure adds a round.
func (t *timed) measure(self string) error {
	for _, c := range []struct {
		op    string
		times *row.Sample
	}{{barePage, &t.limit}, {"first page", &t.ours}} {
		r, err := t.run(self, t.home, c.op)
		if err != nil {
			return err
		}
		if r.Items != min(page, t.Sessions) {
			return fmt.Errorf("%s: %d items", c.op, r.Items)
		}
		*c.times = append(*c.times, ms(r.Time))
	}
	return nil
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// row3 lists the first page of homes of all sizes. Codex lists that of the middle
// one: for the largest it would take hours.
func (b *bench) row3() (_ []row.Result, err error) {
	var homes []*timed
	for _, n := range b.sizes {
		t := &timed{kind: kindsOf(n)[0]}
		if t.home, err = b.home(t.kind); err != nil {
			return nil, err
		}
		if err := t.measure(b.self); err != nil {
			return nil, err
		}
		t.ours, t.limit = nil, nil // that was into the page cache
		homes = append(homes, t)
	}
	least, middle, most := homes[0], homes[(len(homes)-1)/2], homes[len(homes)-1]

	var cold, warm row.Sample
	missing := ""
	firstPage := func() error { return nil }
	if b.codexMissing != nil {
		missing = b.codexMissing.Error()
	} else {
		defer func() { err = errors.Join(err, codex.Clean(middle.home)) }()
		begin := time.Now() // it makes its database before it answers anything
		s, err := codex.Start(b.codex, middle.home)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		firstPage = func() error {
			items, _, err := codexPage(s, nil)
			if err == nil && items != min(page, middle.Sessions) {
				err = fmt.Errorf("%s: %d items", b.codexName, items)
			}
			return err
		}
		if err := firstPage(); err != nil {
			return nil, err
		}
		took := ms(time.Since(begin))
		for range b.rounds { // once is enough: it takes a minute
			cold = append(cold, took)
		}
	}
	for range b.rounds {
		begin := time.Now()
		if err := firstPage(); err != nil {
			return nil, err
		}
		if missing == "" {
			warm = append(warm, ms(time.Since(begin)))
		}
		for _, t := range homes {
			if err := t.measure(b.self); err != nil {
				return nil, err
			}
		}
	}
	compare := func(peer row.Sample, name string, promise row.Bound) row.Result {
		return row.Result{
			Row: 3, Work: fmt.Sprintf("list, first page of %d in a home", middle.Sessions), Unit: "ms", Ours: middle.ours,
			Peer: peer, PeerName: b.codexName + name, Missing: missing,
			Limit: middle.limit, LimitName: "the 25 heads read", Ratio: peer.Over(middle.ours), Promise: promise,
		}
	}
	return []row.Result{
		compare(cold, " without its database", row.AtLeast(1000)),
		compare(warm, " with it", row.AtLeast(1)),
		{
			Row: 3, Work: fmt.Sprintf("list, first page of %d in a home", most.Sessions), Unit: "ms", Ours: most.ours,
			Peer: least.ours, PeerName: fmt.Sprintf("ours of %d", least.Sessions),
			Limit: most.limit, LimitName: "the 25 heads read", Ratio: most.ours.Over(least.ours), Promise: row.AtMost(same),
		},
	}, nil
}

// row7 counts the requests for the first page of the largest mirror, without those
// for the heads.
func (b *bench) row7() ([]row.Result, error) {
	kinds := kindsOf(b.sizes[len(b.sizes)-1])
	k := kinds[len(kinds)-1]
	r, err := k.run(b.self, "", "first page")
	if err != nil {
		return nil, err
	}
	if r.Items != min(page, k.Sessions) {
		return nil, fmt.Errorf("%d items", r.Items)
	}
	yesterday := tree.End.Truncate(24*time.Hour).AddDate(0, 0, -1)
	newest := k.Sessions - k.First(yesterday)
	// Years, months, days and archived_sessions, in which rollouts without a date in
	// their names may be, and the two days themselves.
	allowed := row.Sample{float64(4 + (newest+999)/1000)}
	ours := row.Sample{float64(r.Requests)}
	return []row.Result{{
		Row: 7, Work: fmt.Sprintf("list, first page of %d in a mirror", k.Sessions), Unit: "requests", Ours: ours,
		Limit: allowed, LimitName: "promised", Ratio: ours.Over(allowed), Promise: row.AtMost(1),
	}}, nil
}
