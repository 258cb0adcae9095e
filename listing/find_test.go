package listing_test

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
)

// reverted is the path of another rollout of a session.
func reverted(wall time.Time, session, rollout uuid.UUID) string {
	return strings.Replace(dated(wall, session), ".jsonl", "_"+rollout.String()+".jsonl", 1)
}

func TestFind(t *testing.T) {
	t.Parallel()
	day := func(n int) time.Time { return noon.AddDate(0, 0, n) }
	legacy, paged, old := v7(day(-40), 1), v7(day(-30), 2), v4(0xabc)
	last := v7(day(-10), 3)
	twin := v7(day(-40), 7) // begins as legacy does
	files := map[string]string{
		dated(day(-40), legacy):                                           g1(legacy, day(-40), "/w"),
		dated(day(-30), paged):                                            g2(paged, day(-30)),
		reverted(day(-20), paged, v7(day(-20), 9)):                        g2(paged, day(-20)),
		reverted(day(-10), paged, last):                                   g2(paged, day(-10)),
		"archived_sessions/" + codec.NewName(day(-5), old).String():       g1(old, day(-5), "/w"),
		dated(day(-3), v7(day(-60), 4)):                                   g1(v7(day(-60), 4), day(-60), "/w"), // by hand
		"sessions/odd/" + codec.NewName(day(-2), v7(day(-2), 5)).String(): "",
	}
	for n := range 300 { // one every other hour, from noon on backwards
		start := noon.Add(-time.Duration(2*n) * time.Hour)
		files[dated(start, v7(start, 100+n))] = g1(v7(start, 100+n), start, "/w")
	}
	home := tree(t, files)
	put(t, home, dated(day(-40), twin), g1(twin, day(-40), "/w"))
	names := map[uuid.UUID]string{paged: "the fork", old: "beef", v7(noon, 100): "twice", v7(noon.Add(-2*time.Hour), 101): "twice"}
	for _, c := range []struct {
		name, ref string
		want      uuid.UUID // the rollout
		err       error
		lists     int // of days, at most; 0: all of them, once
	}{
		{"id", legacy.String(), legacy, nil, 3},
		{"in capitals, without dashes", strings.ToUpper(strings.ReplaceAll(legacy.String(), "-", "")), legacy, nil, 3},
		{"a session with reverts", paged.String(), last, nil, 40},
		{"a rollout of it", last.String(), last, nil, 20},
		{"a beginning that is a time", legacy.String()[:18], uuid.UUID{}, &listing.AmbiguousError{}, 3},
		{"a beginning", v7(noon.Add(-50*time.Hour), 125).String()[:13], v7(noon.Add(-50*time.Hour), 125), nil, 3},
		{"a short beginning", "00000abc", old, nil, 0},
		{"a beginning of all", "0", uuid.UUID{}, &listing.AmbiguousError{}, 0},
		{"uuid v4", old.String(), old, nil, 0},
		{"in the directory of another date", v7(day(-60), 4).String(), v7(day(-60), 4), nil, 0},
		{"in an odd place", v7(day(-2), 5).String(), v7(day(-2), 5), nil, 3},
		{"a name", "the fork", last, nil, 0},
		{"a name that could be an id", "beef", old, nil, 0},
		{"two of a name", "twice", uuid.UUID{}, &listing.AmbiguousError{}, 0},
		{"a part of a name", "the", uuid.UUID{}, fs.ErrNotExist, 0},
		{"no id", v7(day(-40), 99).String(), uuid.UUID{}, fs.ErrNotExist, 0},
		{"nothing", "", uuid.UUID{}, fs.ErrNotExist, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := &spy{Source: home}
			places := local(s)
			places[0].Describe = func(_ context.Context, _ string, n codec.Name) (listing.Description, error) {
				return listing.Description{Name: names[n.Session]}, nil
			}
			it, err := listing.Find(t.Context(), places, c.ref)
			switch _, ambiguous := errors.AsType[*listing.AmbiguousError](err); {
			case c.err == nil && err != nil, c.err == fs.ErrNotExist && !errors.Is(err, c.err), c.err != nil && c.err != fs.ErrNotExist && !ambiguous:
				t.Fatalf("got %v, want %v", err, c.err)
			}
			if it.RolloutID != c.want || it.Preview != nil {
				t.Errorf("got %s with a preview of %d", it.RolloutID, len(it.Preview))
			}
			slices.Sort(s.listed)
			if twice := len(slices.Compact(slices.Clone(s.listed))); twice < len(s.listed) {
				t.Errorf("directories were listed twice: %q", s.listed)
			}
			days := slices.DeleteFunc(s.listed, func(dir string) bool { return len(dir) != len("2026/11/20") })
			if c.lists > 0 && len(days) > c.lists {
				t.Errorf("%d days were listed: %q", len(days), days)
			}
			if len(s.opened) > 4 {
				t.Errorf("%d heads were read", len(s.opened))
			}
		})
	}
}

// A session that is in the home and in the mirror is one, whichever is newer.
func TestFindInBoth(t *testing.T) {
	t.Parallel()
	id := v7(noon, 1)
	text := g1(id, noon, "/w")
	home := tree(t, map[string]string{"archived_sessions/" + codec.NewName(noon, id).String(): text[:len(text)-1]})
	mirror := tree(t, map[string]string{dated(noon, id) + ".zst": sealed(t, text)})
	it, err := listing.Find(t.Context(), append(local(home), listing.Place{Where: listing.Mirror, Source: remote{mirror}}), id.String()[:13])
	if err != nil || it.Where != listing.Both || deref(it.Mirror) != listing.Ahead || *it.PlainSize != int64(len(text)) || !it.Archived {
		t.Errorf("got %+v, %v", it, err)
	}
}

func TestFindErrors(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	id := v7(noon, 1)
	home := &spy{Source: tree(t, map[string]string{dated(noon, id): g1(id, noon, "/w")}), fail: map[string]error{"archived_sessions": broken}}
	if _, err := listing.Find(t.Context(), local(home), id.String()); !errors.Is(err, broken) || !strings.Contains(err.Error(), "archived_sessions") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := listing.Find(ctx, local(home.Source), id.String()); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

// A rollout is found by its own id, not by its session's.
func TestRollout(t *testing.T) {
	t.Parallel()
	session, other := v7(noon, 1), v7(noon.Add(time.Hour), 2)
	home := tree(t, map[string]string{
		dated(noon, session):                                       g2(session, noon),
		reverted(noon.Add(time.Hour), session, other):              g2(session, noon),
		dated(noon.AddDate(0, 0, -9), v7(noon, 9)):                 g2(v7(noon, 9), noon), // in the directory of another date
		"archived_sessions/" + codec.NewName(noon, v4(3)).String(): g1(v4(3), noon, "/w"),
	})
	for _, id := range []uuid.UUID{session, other, v7(noon, 9), v4(3)} {
		it, err := listing.Rollout(t.Context(), local(home), id.String())
		if err != nil || it.RolloutID != id {
			t.Errorf("%s: got %s, %v", id, it.RolloutID, err)
		}
	}
	for _, id := range []string{v7(noon, 7).String(), session.String()[:13], "", "x"} {
		if it, err := listing.Rollout(t.Context(), local(home), id); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%q: got %s, %v", id, it.RolloutID, err)
		}
	}
}

// What vanishes between the look at its name and that at its head is not there.
func TestFindVanished(t *testing.T) {
	t.Parallel()
	id, old := v7(noon, 1), v4(2)
	home := &spy{
		Source: tree(t, map[string]string{dated(noon, id): g2(id, noon), dated(noon, old): g1(old, noon, "/w")}),
		fail:   map[string]error{dated(noon, id): fs.ErrNotExist, dated(noon, old): fs.ErrNotExist},
	}
	for _, ref := range []string{id.String(), id.String()[:8], old.String()} {
		if it, err := listing.Find(t.Context(), local(home), ref); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got %s, %v", ref, it.RolloutID, err)
		}
	}
}
