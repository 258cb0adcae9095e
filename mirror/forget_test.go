package mirror

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/rollout-sync/rollout/catalog"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/store"
)

const (
	revertID  = "01a1f900-0000-7000-8000-000000000009" // a later rollout of the parent's session
	revertKey = "sessions/2026/11/20/rollout-2026-11-20T12-48-10-" + parentID + "_" + revertID + ".jsonl"
)

// aTeams is a mirror of two origins with all kinds of objects of one session, and
// another session.
func aTeams(t *testing.T) (m *listed, of, others []string) {
	t.Helper()
	objects := map[string]string{
		parentKey:                                         "SECRET one\n",
		divergedKey(parentKey, "b"):                       "SECRET uno\n",
		historyKey(parentKey, sum("x")):                   "SECRET x\n",
		foreignKey(parentKey, sum("y")):                   "SECRET y",
		historyKey(divergedKey(parentKey, "b"), sum("z")): "SECRET z\n",
		revertKey: "SECRET revert\n",
	}
	for name := range objects {
		of = append(of, name)
	}
	slices.Sort(of)
	objects[childKey], objects[divergedKey(childKey, "b")] = "two\n", "dos\n"
	m = newMirror(t, objects)
	if err := prepare(t.Context(), m, false); err != nil {
		t.Fatal(err)
	}
	for _, origin := range []string{"a", "b"} {
		var facts []Fact
		rows := map[string]dueRow{}
		for _, key := range []string{parentKey, revertKey, childKey} {
			if n := rolloutOf(t, key); origin == "a" || key == parentKey { // b told of nothing else
				fact := Fact{Rollout: n.String(), Path: key, Name: map[bool]string{true: "SECRET name"}[key != childKey]}
				facts = append(facts, fact)
				row := rowOf(n, fact)
				row.Object = catalog.ObjectOf(key)
				rows[key] = dueRow{Row: row}
			}
		}
		if err := addRows(t.Context(), m, rowsKey(origin), rows); err != nil {
			t.Fatal(err)
		}
		if err := newLedger(m, origin).tell(t.Context(), "2026-11", facts); err != nil {
			t.Fatal(err)
		}
	}
	return m, of, []string{rowsKey("a"), childKey, divergedKey(childKey, "b"), factsKey("a", "2026-11"), rootMarker}
}

func rowsKey(origin string) string { return "catalog/v1/date=2026-11-20/" + origin + ".parquet" }

// rowsOf returns the rows of an origin.
func rowsOf(t *testing.T, m store.Source, origin string) []catalog.Row {
	t.Helper()
	content, _, err := catalog.Read(t.Context(), m, rowsKey(origin))
	var rows []catalog.Row
	if err == nil {
		rows, err = catalog.Decode(content)
	}
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// names returns all names in a mirror, and fails if there is a secret left.
func names(t *testing.T, m store.Source, clean bool) (all []string) {
	t.Helper()
	for e, err := range walk(t.Context(), m, store.ListOptions{}, ".") {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, e.Name)
		c := content(t, m, e.Name)
		if origin, ok := catalog.OriginOf(e.Name); ok {
			c = fmt.Sprint(rowsOf(t, m, origin))
		}
		if clean && strings.Contains(c, "SECRET") {
			t.Errorf("%s: %q", e.Name, c)
		}
	}
	slices.Sort(all)
	return all
}

func TestForget(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		id     string
		ids    []string
		rescue []string // stays
	}{
		"a whole session":   {id: parentID, ids: []string{parentID}},
		"in capitals":       {id: strings.ToUpper(parentID), ids: []string{parentID}},
		"by its beginning":  {id: "01a1f81e-6b", ids: []string{parentID}},
		"one rollout of it": {id: revertID, ids: []string{revertID}, rescue: []string{"rest"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m, of, others := aTeams(t)
			var each []string
			o := Forgetting{Mirror: m, IDs: []string{c.id}, Origin: "me", Each: func(f Forgotten) { each = append(each, f.Name) }}
			before := names(t, m, false)
			o.DryRun = true
			would, err := Forget(t.Context(), o)
			if err != nil || !slices.Equal(names(t, m, false), before) {
				t.Errorf("dry: %v, now there is %q", err, names(t, m, false))
			}
			told := each
			each, o.DryRun = nil, false
			r, err := Forget(t.Context(), o)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(would, r); d != "" || !slices.Equal(told, each) {
				t.Errorf("the dry run said (-):\n%s", d)
			}
			if !slices.Equal(r.IDs, c.ids) || r.Objects == 0 || r.Stored == 0 || r.Facts == 0 {
				t.Errorf("%+v", r)
			}
			want := append(slices.Clone(others), "forgotten/"+c.ids[0]+".json")
			if c.rescue != nil {
				want = append(want, slices.DeleteFunc(of, func(n string) bool { return n == revertKey })...)
				want = append(want, factsKey("b", "2026-11"), rowsKey("b"))
			}
			slices.Sort(want)
			if d := cmp.Diff(want, names(t, m, c.rescue == nil)); d != "" {
				t.Error(d)
			}
			facts := content(t, m, factsKey("a", "2026-11"))
			if !strings.Contains(facts, childID) || strings.Contains(facts, revertID) || strings.Contains(facts, parentID+".jsonl") != (c.rescue != nil) {
				t.Errorf("facts: %s", facts)
			}
			stone := content(t, m, "forgotten/"+c.ids[0]+".json")
			if !strings.HasPrefix(stone, `{"id":"`+c.ids[0]+`","time":"`) || !strings.HasSuffix(stone, `,"origin":"me"}`+"\n") {
				t.Errorf("the tombstone says %s", stone)
			}
			ids, err := forgotten(t.Context(), m)
			if err != nil || len(ids) != 1 || !isForgotten(ids, rolloutOf(t, revertKey)) || isForgotten(ids, rolloutOf(t, childKey)) {
				t.Errorf("%v, %v", ids, err)
			}
			if again, err := Forget(t.Context(), Forgetting{Mirror: m, IDs: c.ids}); err != nil || again.Objects+again.Facts > 0 {
				t.Errorf("again: %+v, %v", again, err)
			}
		})
	}
}

func TestForgetWhatIsNotThere(t *testing.T) {
	t.Parallel()
	m, _, _ := aTeams(t)
	before := names(t, m, false)
	for id, want := range map[string]error{"01a1f81e": &listing.AmbiguousError{}, "ff": fs.ErrNotExist, "": fs.ErrNotExist, "sessions": fs.ErrNotExist} {
		_, err := Forget(t.Context(), Forgetting{Mirror: m, IDs: []string{parentID, id}})
		_, ambiguous := errors.AsType[*listing.AmbiguousError](err)
		if errors.Is(want, fs.ErrNotExist) != errors.Is(err, fs.ErrNotExist) || ambiguous == errors.Is(want, fs.ErrNotExist) {
			t.Errorf("%q: %v", id, err)
		}
	}
	if d := cmp.Diff(before, names(t, m, false)); d != "" {
		t.Error(d)
	}
	// What was never pushed can be kept from being pushed.
	const id = "01a1f81e-6bb9-7000-8000-0000000000ff"
	if r, err := Forget(t.Context(), Forgetting{Mirror: m, IDs: []string{id}}); err != nil || r.Objects > 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if ids, err := forgotten(t.Context(), m); err != nil || !ids[id] {
		t.Errorf("%v, %v", ids, err)
	}
	if ids, err := forgotten(t.Context(), newMirror(t, nil)); err != nil || len(ids) > 0 {
		t.Errorf("%v, %v", ids, err)
	}
}

// A damaged object is removed all the same.
func TestForgetDamaged(t *testing.T) {
	t.Parallel()
	m, _, _ := aTeams(t)
	raw := strings.TrimSuffix(parentKey, logSuffix) + sealedSuffix
	f, err := m.Open(t.Context(), raw)
	if err != nil {
		t.Fatal(err)
	}
	v := f.Info().Version
	f.Close()
	if _, err := m.Put(t.Context(), raw, store.BytesBody([]byte("no zstd"), time.Time{}), store.Cond{IfVersion: v}); err != nil {
		t.Fatal(err)
	}
	if r, err := Forget(t.Context(), Forgetting{Mirror: m, IDs: []string{parentID}}); err != nil || len(r.Failures) > 0 {
		t.Errorf("%+v, %v", r, err)
	}
	for _, name := range names(t, m, true) {
		if strings.Contains(name, parentID) && !strings.HasPrefix(name, forgottenDir) {
			t.Errorf("left: %s", name)
		}
	}
}

// noDelete is a mirror whose credentials may not delete.
type noDelete struct{ *listed }

func (noDelete) Remove(_ context.Context, name, _ string) error {
	return store.Wrap("remove", name, fs.ErrPermission)
}

func TestForgetWithoutDelete(t *testing.T) {
	t.Parallel()
	m, _, _ := aTeams(t)
	var each []Forgotten
	_, err := Forget(t.Context(), Forgetting{Mirror: noDelete{m}, IDs: []string{parentID}, Each: func(f Forgotten) { each = append(each, f) }})
	if !errors.Is(err, fs.ErrPermission) {
		t.Error(err)
	}
	_, err = Forget(t.Context(), Forgetting{Mirror: struct{ Store }{m}, IDs: []string{parentID}})
	if !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}

// A Forget that ends anywhere is finished by the next, and from its first change on
// there is a tombstone.
func TestForgetEndsAnywhere(t *testing.T) {
	t.Parallel()
	points := 0
	for at := 0; ; at++ {
		m, of, others := aTeams(t)
		before := names(t, m, false)
		f := &failing{at: at}
		r, err := Forget(t.Context(), Forgetting{Mirror: failingMirror{m, f}, IDs: []string{"01a1f81e-6bb9"}})
		over := f.n <= f.at
		if err == nil && len(r.Failures) == 0 && !over {
			t.Fatalf("operation %d failed and nobody was told", at)
		}
		now := names(t, m, false)
		ids, e := forgotten(t.Context(), m)
		if e != nil || !ids[parentID] && !slices.Equal(now, before) {
			t.Errorf("operation %d: %v, %v; left: %q", at, ids, e, now)
		}
		if again, err := Forget(t.Context(), Forgetting{Mirror: m, IDs: []string{"01a1f81e-6bb9"}}); over && errors.Is(err, fs.ErrNotExist) {
			break // nothing begins so any more
		} else if errors.Is(err, fs.ErrNotExist) && slices.ContainsFunc(of, func(n string) bool { return slices.Contains(now, n) }) {
			t.Errorf("operation %d: %+v, %v", at, again, err)
		} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("operation %d: %+v, %v", at, again, err)
		}
		want := append(slices.Clone(others), "forgotten/"+parentID+".json")
		slices.Sort(want)
		if d := cmp.Diff(want, names(t, m, true)); d != "" {
			t.Errorf("operation %d: %s", at, d)
		}
		points++
	}
	if t.Logf("%d points", points); points < 20 {
		t.Error("too few")
	}
}
