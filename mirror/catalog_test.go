package mirror_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"reflect"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	gcblob "gocloud.dev/blob"

	"github.com/rollout-sync/rollout/catalog"
	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store"
)

// rows returns the rows of the catalog by object and origin.
func (tm *team) rows(t testing.TB) map[string]catalog.Row {
	t.Helper()
	rows := map[string]catalog.Row{}
	for dir, err := range tm.mirror.List(ctx, catalog.Dir, store.ListOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		for e, err := range tm.mirror.List(ctx, dir.Name, store.ListOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			content, _, err := catalog.Read(ctx, tm.mirror, e.Name)
			if err != nil {
				t.Fatal(err)
			}
			of, err := catalog.Decode(content)
			if err != nil {
				t.Fatal(err)
			}
			for _, r := range of {
				if origin, _ := catalog.OriginOf(e.Name); r.Origin != origin {
					t.Errorf("%s has a row of %s", e.Name, r.Origin)
				}
				rows[r.Object+" "+r.Origin] = r
			}
		}
	}
	return rows
}

// loseCatalog removes the catalog.
func (tm *team) loseCatalog(t *testing.T) {
	t.Helper()
	for _, key := range tm.keys(t, "catalog/") {
		if err := tm.bucket.Delete(ctx, key); err != nil {
			t.Fatal(err)
		}
	}
}

// catalogBytes returns the files of the catalog.
func (tm *team) catalogBytes(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, key := range tm.keys(t, "catalog/") {
		p, err := tm.bucket.ReadAll(ctx, key)
		if err != nil {
			t.Fatal(err)
		}
		files[key] = string(p)
	}
	return files
}

// keys returns the keys in the bucket that begin so.
func (tm *team) keys(t *testing.T, prefix string) (keys []string) {
	t.Helper()
	for it := tm.bucket.List(&gcblob.ListOptions{Prefix: prefix}); ; {
		o, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
			return keys
		}
		if err != nil {
			t.Fatal(err)
		}
		keys = append(keys, o.Key)
	}
}

// An openCounter counts what is opened.
type openCounter struct {
	store.Source
	n atomic.Int64
}

func (c *openCounter) Open(ctx context.Context, name string) (store.File, error) {
	c.n.Add(1)
	return c.Source.Open(ctx, name)
}

// aPlace is a mirror for a listing, without the catalog.
func aPlace(m store.Source) listing.Place {
	facts := mirror.NewFacts(m)
	return listing.Place{
		Where: listing.Mirror, Source: m,
		Describe: func(ctx context.Context, _ string, n codec.Name) (listing.Description, error) {
			f, err := facts.Best(ctx, n, "", "")
			return listing.Description{Path: f.Path, Archived: f.Archived, Name: f.Name}, err
		},
	}
}

// listed returns what a listing of a mirror says, but for lines, and how many objects
// it has opened.
func listed(t testing.TB, m store.Source, withCatalog bool, q listing.Query) (said string, opened int64) {
	t.Helper()
	q.Preview = -1
	count := &openCounter{Source: m}
	p := aPlace(m)
	p.Source = count
	if withCatalog {
		p.Known = catalog.NewReader(m, nil, func(name string, err error) { t.Errorf("%s: %v", name, err) }).Known
	}
	for it, err := range listing.All(ctx, []listing.Place{p}, q) {
		if err != nil {
			t.Fatal(err)
		}
		it.Lines = nil
		line, err := json.Marshal(it)
		if err != nil {
			t.Fatal(err)
		}
		said += string(line) + "\n"
	}
	return said, count.n.Load()
}

// A session of two turns, with calls, tokens and changes of files.
func aSession(n int, cwd string) string {
	at := func(second int) string { return fmt.Sprintf("2026-11-20T08:%02d:%02d.000Z", n%60, second) }
	return meta(rolloutID(n), "", 0) +
		`{"timestamp":"` + at(1) + `","ordinal":1,"type":"turn_context","payload":{"cwd":"` + cwd + `","model":"gpt-5","approval_policy":"never"}}` + "\n" +
		`{"timestamp":"` + at(2) + `","ordinal":2,"type":"event_msg","payload":{"type":"task_started","turn_id":"1"}}` + "\n" +
		`{"timestamp":"` + at(3) + `","ordinal":3,"type":"event_msg","payload":{"type":"user_message","message":"look into ` + cwd + `"}}` + "\n" +
		`{"timestamp":"` + at(4) + `","ordinal":4,"type":"response_item","payload":{"type":"function_call","name":"shell","arguments":"{}","call_id":"c1"}}` + "\n" +
		`{"timestamp":"` + at(5) + `","ordinal":5,"type":"response_item","payload":{"type":"function_call_output","call_id":"c1","output":"done"}}` + "\n" +
		`{"timestamp":"` + at(6) + `","ordinal":6,"type":"event_msg","payload":{"type":"token_count","info":{"total_token_usage":{"input_tokens":100,"cached_input_tokens":40,"output_tokens":7,"reasoning_output_tokens":2,"total_tokens":107},"last_token_usage":{"input_tokens":100,"cached_input_tokens":40,"output_tokens":7,"reasoning_output_tokens":2,"total_tokens":107}}}}` + "\n" +
		`{"timestamp":"` + at(7) + `","ordinal":7,"type":"event_msg","payload":{"type":"task_complete","turn_id":"1"}}` + "\n" +
		`{"timestamp":"` + at(8) + `","ordinal":8,"type":"event_msg","payload":{"type":"task_started","turn_id":"2"}}` + "\n" +
		`{"timestamp":"` + at(9) + `","ordinal":9,"type":"event_msg","payload":{"type":"error","message":"it broke"}}` + "\n"
}

// busyTeam has pushed all kinds of rollouts from two homes.
func busyTeam(t *testing.T, tm *team) (a, b *home) {
	t.Helper()
	a, b = tm.newHome(t, "a"), tm.newHome(t, "b")
	for n := range 12 {
		a.write(rolloutFile(n, 1+n%3), aSession(n, fmt.Sprint("/w/", n%4)))
	}
	a.write(strings.Replace(rolloutFile(20, 4), path.Dir(rolloutFile(0, 4)), "archived_sessions", 1), aSession(20, "/w/old"))
	a.write("sessions/odd/rollout-"+rolloutID(21)+".jsonl", aSession(21, "/w/odd"))
	a.write("sessions/odd/rollout-11111111-2222-4333-8444-555555555555.jsonl", aSession(22, "/w/none"))
	a.write("session_index.jsonl", `{"id":"`+rolloutID(1)+`","thread_name":"flaky","updated_at":"2026-11-20T09:00:00Z"}`+"\n")
	parent := aSession(30, "/w/parent")
	a.write(rolloutFile(30, 5), parent)
	a.write(rolloutFile(31, 5), meta(rolloutID(31), rolloutID(30), len(parent)))
	a.write(rolloutFile(40, 6), "no session\n\x00torn")
	a.write(rolloutFile(41, 6), "")
	a.write(rolloutFile(42, 6), aSession(42, "/w/"+strings.Repeat("long", 20))+`{"timestamp":"2026-11-20T08:00:00.000Z","ordinal":10,"type":"response_item","payload":{"type":"message","role":"assistant","content":[{"type":"output_text","text":"`+strings.Repeat("large ", 2<<20)+`"}]}}`+"\n")
	a.write(rolloutFile(43, 6), strings.Replace(aSession(43, "/w/43"), "look into", strings.Repeat("ü long first message", 1000), 1))
	a.push()
	b.write(rolloutFile(3, 1), aSession(3, "/another"))
	b.write(rolloutFile(50, 7), aSession(50, "/w/b"))
	if r := b.push(); r.Actions[mirror.Diverged] != 1 {
		t.Fatalf("%v", r.Actions)
	}
	return a, b
}

// A catalog that was deleted is made again as it was, from the objects, and one that
// is as it should be is left alone.
func TestCatalogIsMadeAgain(t *testing.T) {
	t.Parallel()
	for name, bucket := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tm := bucket(t)
			busyTeam(t, tm)
			want := tm.catalogBytes(t)
			if len(want) < 8 {
				t.Fatalf("only %d files", len(want))
			}
			r, err := mirror.Catalog(ctx, mirror.Cataloguing{Mirror: tm.mirror, Jobs: 3})
			if err != nil || r.Read+r.Written+r.Removed+len(r.Failures) > 0 || r.Rows != len(tm.rows(t)) {
				t.Errorf("nothing is wrong with it, and: %+v, %v", r, err)
			}
			for _, all := range []bool{false, true} {
				if !all {
					tm.loseCatalog(t)
				}
				r, err := mirror.Catalog(ctx, mirror.Cataloguing{Mirror: tm.mirror, All: all, Jobs: 3})
				if err != nil || r.Read != r.Rows || r.Rows != len(tm.rows(t)) || len(r.Failures) > 0 {
					t.Errorf("%+v, %v", r, err)
				}
				got := tm.catalogBytes(t)
				for file := range want {
					if got[file] != want[file] {
						t.Errorf("%s is another", file)
					}
				}
				if len(got) != len(want) {
					t.Errorf("%d files, want %d", len(got), len(want))
				}
			}
		})
	}
}

// Rows say what the objects do.
func TestCatalogRows(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	a, _ := busyTeam(t, tm)
	rows := tm.rows(t)
	r := rows[rolloutFile(1, 2)+".zst a"]
	if r.Turns != 2 || r.ToolCalls != 1 || r.Errors != 1 || r.InputTokens != 100 || r.CachedTokens != 40 || r.OutputTokens != 7 || r.ReasoningTokens != 2 || r.TotalTokens != 107 ||
		r.Name != "flaky" || r.Model != "gpt-5" || r.FirstUserMessage != "look into /w/1" || r.State != catalog.Current || r.Path != rolloutFile(1, 2) || r.Lines != 10 || r.Abridged {
		t.Errorf("%+v", r)
	}
	for _, r := range rows {
		f, err := tm.mirror.Open(ctx, strings.TrimSuffix(r.Object, ".zst"))
		if err != nil {
			t.Fatal(err)
		}
		i := f.Info()
		f.Close()
		if r.Version != i.Version || r.PlainSize != i.Size || r.StoredSize != i.Stored || r.SHA256 != i.Meta[store.MetaSHA256] || !time.Unix(0, r.UpdatedNS).Equal(i.ModTime) {
			t.Errorf("the row says %+v, the object %+v", r, i)
		}
		if lines := i.Meta[store.MetaLines]; lines != "" && lines != fmt.Sprint(r.Lines) {
			t.Errorf("%s: %d lines, the object says %s", r.Object, r.Lines, lines)
		}
	}
	if d := rows["diverged/"+strings.TrimSuffix(rolloutFile(3, 1), ".jsonl")+"/b.jsonl.zst b"]; d.State != catalog.Diverged || !slices.Equal(d.Cwds, []string{"/another"}) {
		t.Errorf("%+v", d)
	}

	// What others know of a rollout may become another without another version.
	a.write("session_index.jsonl", `{"id":"`+rolloutID(1)+`","thread_name":"solid","updated_at":"2026-11-20T10:00:00Z"}`+"\n")
	a.push()
	renamed := tm.rows(t)[r.Object+" a"]
	if r.Name = "solid"; !reflect.DeepEqual(r, renamed) {
		t.Errorf("%+v, want %+v", renamed, r)
	}
	before := tm.catalogBytes(t)
	a.loseState()
	if a.push(); !reflect.DeepEqual(before, tm.catalogBytes(t)) {
		t.Error("a push without a state has changed the catalog")
	}
}

// A list is the same with the catalog and without it, whether that is complete, behind
// or of other versions.
func TestCatalogListsTheSame(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	a, b := busyTeam(t, tm)
	same := func(when string, mayOpen bool) {
		t.Helper()
		for _, q := range []listing.Query{
			{},
			{Cwd: "/w/1"},
			{Text: "look"},
			{Models: []string{"gpt-5"}},
			{Name: "fla"},
			{Archived: listing.Only},
			{Since: time.Date(2026, 11, 20, 8, 41, 45, 0, time.UTC)},
			{Cwd: "/none"},
			{Branch: "main"},
			{ID: rolloutID(3)},
		} {
			for _, q.Order = range []listing.Order{listing.Created, listing.Updated} {
				want, heads := listed(t, tm.mirror, false, q)
				got, opened := listed(t, tm.mirror, true, q)
				if got != want {
					t.Errorf("%s, %+v: with the catalog\n%s\nwithout\n%s", when, q, got, want)
				}
				if opened >= heads && heads > 3 && !mayOpen {
					t.Errorf("%s, %+v: %d objects are opened, without the catalog %d", when, q, opened, heads)
				}
			}
		}
	}
	same("complete", false)
	a.write(rolloutFile(1, 2), aSession(1, "/w/1")+aSession(1, "/w/later"))
	b.write(rolloutFile(2, 3), aSession(2, "/w/2")+aSession(2, "/w/b")) // what a has written becomes b's
	for _, h := range []*home{a, b} {
		if _, err := h.pushWith(func(p *mirror.Pushing) { p.Mirror = rowless{tm.mirror} }); !errors.Is(err, errRefused) {
			t.Fatalf("%v", err)
		}
	}
	same("behind", false)
	a.push()
	b.push()
	same("complete again", false)
	tm.loseCatalog(t)
	same("lost", true)
}

// rowless is a mirror that takes no rows.
type rowless struct{ mirror.Store }

func (m rowless) Put(ctx context.Context, name string, b store.Body, c store.Cond) (string, error) {
	if strings.HasPrefix(name, catalog.Dir) {
		return "", errRefused
	}
	return m.Store.Put(ctx, name, b, c)
}

// Rows that could not be written are written by the next push; of what was forgotten
// meanwhile they are not.
func TestCatalogLater(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	h := tm.newHome(t, "a")
	h.write(rolloutFile(1, 20), aSession(1, "/w"))
	h.write(rolloutFile(2, 20), aSession(2, "/w"))
	h.write(rolloutFile(3, 20), aSession(3, "/w"))
	if _, err := h.pushWith(func(p *mirror.Pushing) { p.Mirror = rowless{tm.mirror} }); !errors.Is(err, errRefused) || !strings.Contains(err.Error(), "catalog") {
		t.Fatalf("%v", err)
	}
	if _, err := mirror.Forget(ctx, mirror.Forgetting{Mirror: tm.mirror, IDs: []string{rolloutID(2)}}); err != nil {
		t.Fatal(err)
	}
	h.write(rolloutFile(3, 20), h.read(rolloutFile(3, 20))) // so that it is looked at again
	h.push()
	rows := tm.rows(t)
	if len(rows) != 2 || rows[rolloutFile(1, 20)+".zst a"].ID != rolloutID(1) || rows[rolloutFile(3, 20)+".zst a"].Turns != 2 {
		t.Errorf("%+v", rows)
	}
}

// Of ten homes that push at once no row is lost, even where two have one origin, as a
// home has of which two pushes overlap.
func TestCatalogOfTen(t *testing.T) {
	t.Parallel()
	for name, bucket := range kinds {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tm := bucket(t)
			tm.newHome(t, "first").push()
			var all sync.WaitGroup
			const homes, each = 10, 8
			for i := range homes {
				h := tm.newHome(t, fmt.Sprint("home", max(1, i)))
				all.Go(func() {
					for n := range each { // a push each, of the same two days
						h.write(rolloutFile(100*i+n, 20+n%2), aSession(100*i+n, "/w"))
						if _, err := h.tryPush(); err != nil {
							t.Error(err)
						}
					}
				})
			}
			all.Wait()
			rows := tm.rows(t)
			for i := range homes {
				for n := range each {
					if r := rows[fmt.Sprintf("%s.zst home%d", rolloutFile(100*i+n, 20+n%2), max(1, i))]; r.ID != rolloutID(100*i+n) {
						t.Errorf("home %d has no row of %d", i, n)
					}
				}
			}
			if len(rows) != homes*each {
				t.Errorf("%d rows", len(rows))
			}
		})
	}
}

// A file that is damaged is as if it were not there, and is made anew.
func TestCatalogDamaged(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	busyTeam(t, tm)
	want := tm.catalogBytes(t)
	heads, _ := listed(t, tm.mirror, false, listing.Query{})
	file := catalog.FileOf("catalog/v1/date=2026-11-01", "a")
	if err := tm.bucket.WriteAll(ctx, file, []byte(want[file][:200]), nil); err != nil {
		t.Fatal(err)
	}
	var failed []string
	p := aPlace(tm.mirror)
	p.Known = catalog.NewReader(tm.mirror, nil, func(name string, _ error) { failed = append(failed, name) }).Known
	n := 0
	for _, err := range listing.All(ctx, []listing.Place{p}, listing.Query{Preview: -1}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if want := strings.Count(heads, "\n"); n != want || !slices.Equal(failed, []string{file}) {
		t.Errorf("%d of %d items, and %q failed", n, want, failed)
	}
	if _, err := mirror.Catalog(ctx, mirror.Cataloguing{Mirror: tm.mirror}); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(want, tm.catalogBytes(t)) {
		t.Error("it was not made as it was")
	}
}
