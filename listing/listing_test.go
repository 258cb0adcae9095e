package listing_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"path"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/memfs"
)

const misplaced = "in the directory of another date"

// Everything that homes hold, oldest first.
func TestEveryFileIsListed(t *testing.T) {
	t.Parallel()
	after := func(hours int) time.Time { return noon.Add(time.Duration(hours) * time.Hour) }
	name := func(wall time.Time, id uuid.UUID) string { return codec.NewName(wall, id).String() }
	may7 := time.Date(2025, 5, 7, 0, 0, 0, 0, time.UTC)
	far := time.UnixMilli(1<<48 - 1) // in the year 10889
	damaged := []byte(sealed(t, g1(v7(after(20), 0), after(20), "/w")))
	damaged[9] ^= 1
	files := []struct {
		path, content string
		problems      []string
	}{
		{"sessions/rollout-" + v4(1).String() + ".jsonl", "", []string{"0 bytes"}},
		{"sessions/1066/10/14/" + name(after(0), v7(after(0), 0)), g1(v7(after(0), 0), after(0), "/w"), []string{misplaced}},
		{"sessions/2025/05/07/" + name(after(0), v7(may7.Add(20*time.Hour), 0)), g2(v7(after(0), 0), after(0)), nil},
		{"sessions/2025/05/07/rollout-2025-05-07-" + v4(2).String() + ".jsonl", g0(v4(2), may7.Add(23*time.Hour)), nil},
		{"sessions/2025/05/rollout-x-" + v4(3).String() + ".jsonl", g0(v4(3), after(0)), []string{misplaced}},                                                          // clamped: May 2025
		{"sessions/2026/11/19/" + name(after(0), v4(4)), "\n \n", []string{"no session metadata", "no time of creation but the file name's, in an unknown time zone"}}, // by its name
		{"archived_sessions/" + name(after(1), v4(5)), g0(v4(5), after(1)), nil},
		{"sessions/" + name(after(2), v7(after(2), 0)), g1(v7(after(2), 0), after(2), "/w"), nil},
		{"sessions/a/b/c/" + name(after(3), v7(after(3), 0)), g1(v7(after(3), 0), after(3), "/w"), nil},
		{dated(after(4+14), v7(after(4), 0)), g1(v7(after(4), 0), after(4), "/w"), nil}, // in the easternmost zone
		{dated(after(5-12), v7(after(5), 0)), g1(v7(after(5), 0), after(5), "/w"), nil}, // in the westernmost zone
		{dated(after(6), v7(after(6), 0)), g2(v7(after(6), 0), after(6)), nil},          // three in the same ms
		{dated(after(6), v7(after(6), 1)), g2(v7(after(6), 1), after(6)), nil},          // by id
		{"archived_sessions/" + name(after(6), v7(after(6), 2)), g2(v7(after(6), 2), after(6)), nil},
		{"sessions/2026/11/20/sub/" + name(after(8), v7(after(8), 0)) + ".zst", sealed(t, g2(v7(after(8), 0), after(8))), nil},
		{strings.Replace(dated(after(9), v7(after(9), 0)), ".jsonl", "_"+v7(after(9), 1).String()+".jsonl", 1), g2(v7(after(9), 0), after(9)), nil},
		{dated(after(10), v7(after(10), 0)), "", []string{"0 bytes"}},
		{dated(after(11), v7(after(11), 0)), g1(v7(after(11), 0), after(11), "/w")[:200], []string{"torn last line", "no session metadata"}},
		{dated(after(12), v7(after(12), 0)), strings.Repeat("\x00", 50) + "\n" + g2(v7(after(12), 0), after(12)), []string{"damaged: byte 0: NUL bytes"}},
		{dated(after(13), v7(after(13), 0)), g0(v7(after(13), 0), after(13)), nil},
		{"archived_sessions/rollout-" + v4(6).String() + ".jsonl", g0(v4(6), after(14)), nil},
		{dated(after(20), v7(after(20), 0)) + ".zst", string(damaged), []string{"damaged: "}},
		{"sessions/2026/11/31/" + name(after(0), v7(after(9999), 0)), g1(v7(after(9999), 0), after(9999), "/w"), []string{misplaced}}, // no such day
		{"archived_sessions/" + name(after(480), v4(7)), g0(v4(7), after(-9999)), nil},                                                // by its name
		{"sessions/2040/01/02/" + name(after(0), v7(after(0), 9)), g1(v7(after(0), 9), after(0), "/w"), []string{misplaced}},
		{"sessions/" + name(after(0), v7(far, 0)), "{}\n", []string{"damaged: byte 0: an item without a type", "no session metadata", "no time of creation but the file name's, in an unknown time zone"}},
	}
	home := memfs.New(nil)
	for _, f := range files {
		put(t, home, f.path, f.content)
	}
	for _, path := range []string{ // not rollouts
		"sessions/rollout-notes.jsonl",
		"sessions/2026/11/20/" + name(after(1), v4(9)) + ".tmp",
		"sessions/2026/11/20/" + v4(9).String() + ".jsonl",
		name(after(1), v4(9)),
		"diverged/" + dated(after(1), v4(9)),
		"history/sessions/" + name(after(1), v4(9)),
	} {
		put(t, home, path, g1(v4(9), after(1), "/w"))
	}
	slices.Reverse(files)
	got := all(t, local(home), listing.Query{})
	for i, it := range got {
		if i >= len(files) {
			t.Errorf("more: %s", it.Path)
			continue
		}
		f := files[i]
		if want := strings.TrimSuffix(f.path, ".zst"); it.Path != want {
			t.Errorf("item %d is\n     %s\nnot  %s", i, it.Path, want)
		}
		if it.Archived != strings.HasPrefix(f.path, "archived_sessions/") || it.Where != listing.Local {
			t.Errorf("%s: archived %t, where %s", it.Path, it.Archived, it.Where)
		}
		same := func(got, want string) bool { return got == want || want == "damaged: " && strings.HasPrefix(got, want) }
		if !slices.EqualFunc(it.Problems, f.problems, same) {
			t.Errorf("%s: problems %q, want %q", it.Path, it.Problems, f.problems)
		}
	}
	if len(got) < len(files) {
		t.Errorf("%d items, want %d", len(got), len(files))
	}
	for limit := range 5 {
		if p := pages(t, local(home), listing.Query{Limit: limit + 1}); !slices.EqualFunc(p, got, samePath) {
			t.Errorf("pages of %d are not what All gives", limit+1)
		}
	}
	if _, err := json.Marshal(got); err != nil {
		t.Error(err)
	}
}

func samePath(a, b listing.Item) bool { return a.Path == b.Path && a.Where == b.Where }

func TestItem(t *testing.T) {
	t.Parallel()
	g0ID, g1ID, g2ID, lost := v4(1), v7(noon, 1), v7(noon, 2), v7(noon, 3)
	g0Text, g1Text, g2Text := g0(g0ID, noon), g1(g1ID, noon, "/w/app"), g2(g2ID, noon)
	for _, tokens := range []string{`{"total_token_usage":{"total_tokens":5}}`, `{"total_token_usage":{"total_tokens":77}}`, `null`} {
		g1Text += `{"timestamp":"t","type":"event_msg","payload":{"type":"token_count","info":` + tokens + `}}` + "\n"
	}
	const wall = "2026-11-20T14-00-00" // in a zone 2 hours east
	home := tree(t, map[string]string{
		"sessions/2026/11/20/rollout-" + wall + "-" + g0ID.String() + ".jsonl":                       g0Text,
		"sessions/2026/11/20/rollout-" + wall + "-" + g1ID.String() + ".jsonl":                       g1Text,
		"sessions/2026/11/20/rollout-" + wall + "-" + g1ID.String() + "_" + g2ID.String() + ".jsonl": g2Text,
		"archived_sessions/rollout-" + wall + "-" + lost.String() + ".jsonl":                         "",
	})
	want := []string{
		fmt.Sprintf(`{"id":"%s","rollout_id":"%[1]s","name":null,"path":"archived_sessions/rollout-%s-%[1]s.jsonl","where":"local","mirror":null,`+
			`"created":"2026-11-20T12:00:00Z","updated":"2026-11-21T01:02:03Z","cwd":null,"git":null,"source":null,"provider":null,"model":null,`+
			`"cli_version":null,"parent_id":null,"archived":true,"first_user_message":null,"preview":null,"plain_size":0,"local_size":0,"stored_size":null,`+
			`"lines":null,"tokens":null,"problems":["0 bytes"]}`, lost, wall),
		fmt.Sprintf(`{"id":"%s","rollout_id":"%s","name":null,"path":"sessions/2026/11/20/rollout-%s-%[1]s_%[2]s.jsonl","where":"local","mirror":null,`+
			`"created":"2026-11-20T12:00:00Z","updated":"2026-11-21T01:02:03Z","cwd":"/w","git":null,"source":"subagent:review","provider":"openai","model":"gpt-6",`+
			`"cli_version":"0.150.0","parent_id":"parent","archived":false,"first_user_message":"fix it","preview":null,"plain_size":%[4]d,"local_size":%[4]d,"stored_size":null,`+
			`"lines":null,"tokens":null,"problems":[]}`, g1ID, g2ID, wall, len(g2Text)),
		fmt.Sprintf(`{"id":"%s","rollout_id":"%[1]s","name":"the name","path":"sessions/2026/11/20/rollout-%s-%[1]s.jsonl","where":"local","mirror":null,`+
			`"created":"2026-11-20T12:00:00Z","updated":"2026-11-21T01:02:03Z","cwd":"/w/app","git":{"branch":"main","commit":"c0ffee","origin":"git@host:a/b.git"},"source":"exec","provider":null,"model":"gpt-5",`+
			`"cli_version":"0.50.0","parent_id":null,"archived":false,"first_user_message":"fix\n  the test","preview":null,"plain_size":%[3]d,"local_size":%[3]d,"stored_size":null,`+
			`"lines":null,"tokens":77,"problems":[]}`, g1ID, wall, len(g1Text)),
		fmt.Sprintf(`{"id":"%s","rollout_id":"%[1]s","name":null,"path":"sessions/2026/11/20/rollout-%s-%[1]s.jsonl","where":"local","mirror":null,`+
			`"created":"2026-11-20T12:00:00Z","updated":"2026-11-21T01:02:03Z","cwd":null,"git":{"branch":"main","commit":"c0ffee","origin":null},"source":null,"provider":null,"model":null,`+
			`"cli_version":null,"parent_id":null,"archived":false,"first_user_message":"hello","preview":null,"plain_size":%[3]d,"local_size":%[3]d,"stored_size":null,`+
			`"lines":null,"tokens":null,"problems":["facts: no such thing"]}`, g0ID, wall, len(g0Text)),
	}
	places := []listing.Place{{
		Where:  listing.Local,
		Source: home,
		Describe: func(_ context.Context, _ string, n codec.Name) (listing.Description, error) {
			switch n.Rollout {
			case g0ID:
				return listing.Description{}, errors.New("facts: no such thing")
			case g1ID:
				return listing.Description{Name: "the name"}, nil
			}
			return listing.Description{}, nil
		},
	}}
	items := all(t, places, listing.Query{Preview: -1})
	for i, w := range want {
		got, err := json.Marshal(items[i])
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != w {
			t.Errorf("item %d:\n got %s\nwant %s", i, got, w)
		}
	}
}

// The preview is the first records of the head, as they stand there.
func TestPreview(t *testing.T) {
	t.Parallel()
	text := g1(v7(noon, 1), noon, "/w")
	lines := strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n")
	text = strings.Replace(text, "\n", "\nnot JSON\n  \n", 1) + strings.Repeat("{}\n", 9)
	home := tree(t, map[string]string{dated(noon, v7(noon, 1)): text})
	for n, want := range map[int]int{0: 3, 1: 1, 2: 2, 3: 3, 9: 3, -1: 0} {
		it := page(t, local(home), listing.Query{Preview: n}).Items[0]
		if len(it.Preview) != want {
			t.Errorf("Preview %d: %d records, want %d", n, len(it.Preview), want)
		}
		for i, rec := range it.Preview {
			if string(rec) != strings.TrimSpace(lines[i]) {
				t.Errorf("Preview %d: record %d is %s", n, i, rec)
			}
		}
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	id, old := v7(noon, 1), v4(1)
	path := dated(noon, id)
	inArchive := "archived_sessions/" + codec.NewName(noon, id).String()
	text := g1(id, noon, "/w")
	long := text + text
	mirror := func(path, content string) map[string]string {
		return map[string]string{path + ".zst": sealed(t, content)}
	}
	facts := func(_ context.Context, path string, _ codec.Name) (listing.Description, error) {
		return listing.Description{Path: "from/" + path, Archived: true}, nil
	}
	for _, c := range []struct {
		name          string
		local, mirror map[string]string
		where, path   string
		archived      bool
		plain         int
		cwd           string
		problems      []string
		scanned       int
		state         string
	}{
		{
			"only mirror", nil, mirror(path, long),
			listing.Mirror, "from/" + path, true, len(long), "/w",
			[]string{},
			1, "",
		},
		{
			"both",
			map[string]string{path: text},
			mirror(path, long),
			listing.Both, path, false, len(long), "/w",
			[]string{},
			1, listing.Ahead,
		},
		{
			"live and archived",
			map[string]string{path: text, inArchive: long},
			nil,
			listing.Local, path, false, len(text), "/w",
			[]string{},
			1, "",
		},
		{
			"archived and mirror",
			map[string]string{inArchive: long},
			mirror(path, text),
			listing.Both, inArchive, true, len(long), "/w",
			[]string{},
			1, listing.Behind,
		},
		{
			"local damaged",
			map[string]string{path: ""},
			mirror(path, text),
			listing.Both, path, false, len(text), "/w",
			[]string{"0 bytes"},
			2, listing.Ahead,
		},
		{
			"both damaged",
			map[string]string{path: ""},
			mirror(path, "{"),
			listing.Both, path, false, 1, "",
			[]string{"0 bytes", "torn last line", "no session metadata"},
			2, listing.Ahead,
		},
		{
			"uuid v4, local damaged",
			map[string]string{dated(noon.Add(time.Hour), old): ""},
			mirror(dated(noon.Add(time.Hour), old), g1(old, noon, "/w")),
			listing.Both, dated(noon.Add(time.Hour), old), false, len(text), "/w",
			[]string{"0 bytes"},
			2, listing.Ahead,
		},
		{
			// The one by what its head says, moved to the end of its bounds; the
			// other because it is misplaced.
			"at the same bound",
			map[string]string{
				"sessions/2026/11/20/rollout-2026-12-25T00-00-00-" + old.String() + ".jsonl": g1(old, noon, "/w"),
				"archived_sessions/rollout-2026-11-20T23-59-59-" + old.String() + ".jsonl":   g1(old, noon.AddDate(1, 0, 0), "/w"),
			},
			nil,
			listing.Local, "sessions/2026/11/20/rollout-2026-12-25T00-00-00-" + old.String() + ".jsonl", false, len(text), "/w",
			[]string{misplaced},
			2, "",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			inMirror := tree(t, c.mirror)
			r := page(t, []listing.Place{
				{Where: listing.Mirror, Source: inMirror, Describe: facts},
				{Where: listing.Local, Source: tree(t, c.local)},
			}, listing.Query{})
			if len(r.Items) != 1 {
				t.Fatalf("%d items", len(r.Items))
			}
			it := r.Items[0]
			if it.Where != c.where || it.Path != c.path || it.Archived != c.archived {
				t.Errorf("got %s %s archived %t, want %s %s %t", it.Where, it.Path, it.Archived, c.where, c.path, c.archived)
			}
			if *it.PlainSize != int64(c.plain) {
				t.Errorf("plain size %d, want %d", *it.PlainSize, c.plain)
			}
			for _, content := range c.mirror {
				if it.StoredSize == nil || *it.StoredSize != int64(len(content)) {
					t.Errorf("stored size %v, want %d", it.StoredSize, len(content))
				}
			}
			if local := it.Where != listing.Mirror; local != (it.LocalSize != nil) {
				t.Errorf("local size %v of what is in %s", it.LocalSize, it.Where)
			}
			if got := deref(it.Mirror); got != c.state {
				t.Errorf("the mirror is %q, want %q", got, c.state)
			}
			if cwd := it.Cwd; cwd == nil && c.cwd != "" || cwd != nil && *cwd != c.cwd {
				t.Errorf("cwd %v, want %q", cwd, c.cwd)
			}
			if !it.Created.Equal(noon) {
				t.Errorf("created %s", it.Created)
			}
			if !slices.Equal(it.Problems, c.problems) {
				t.Errorf("problems %q, want %q", it.Problems, c.problems)
			}
			if r.Scanned != c.scanned {
				t.Errorf("%d heads read, want %d", r.Scanned, c.scanned)
			}
		})
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	day := func(n int) time.Time { return noon.AddDate(0, 0, n) }
	files := map[string]string{}
	for n := range 20 {
		cwd := "/w/even"
		if n%2 == 1 {
			cwd = "/w/odd/"
		}
		files[dated(day(n), v7(day(n), n))] = g1(v7(day(n), n), day(n), cwd)
	}
	revert := v7(day(5).Add(time.Hour), 99)
	files[strings.Replace(dated(day(5).Add(time.Hour), v7(day(3), 3)), ".jsonl", "_"+revert.String()+".jsonl", 1)] = g2(v7(day(3), 3), day(5).Add(time.Hour))
	files[dated(day(4), v7(day(4), 40))] = ""
	places := local(tree(t, files))

	id3 := v7(day(3), 3).String()
	for _, c := range []struct {
		name string
		q    listing.Query
		want []int // the day of each item
	}{
		{"cwd", listing.Query{Cwd: "/w/x/../even"}, []int{18, 16, 14, 12, 10, 8, 6, 4, 2, 0}},
		{"cwd written otherwise", listing.Query{Cwd: "/w/odd", Since: day(15)}, []int{19, 17, 15}},
		{"cwd miss", listing.Query{Cwd: "/w"}, []int{5}},
		{"since and until", listing.Query{Since: day(2), Until: day(6)}, []int{5, 5, 4, 4, 3, 2}},
		{"a ms", listing.Query{Since: day(7), Until: day(7).Add(time.Millisecond)}, []int{7}},
		{"until", listing.Query{Until: day(1)}, []int{0}},
		{"since after until", listing.Query{Since: day(6), Until: day(2)}, nil},
		{"in another zone", listing.Query{Since: day(18).In(time.FixedZone("", -9*3600))}, []int{19, 18}},
		{"id", listing.Query{ID: id3}, []int{5, 3}},
		{"id without dashes", listing.Query{ID: strings.ReplaceAll(id3, "-", "")}, []int{5, 3}},
		{"rollout id", listing.Query{ID: revert.String()}, []int{5}},
		{"prefix in capitals", listing.Query{ID: strings.ToUpper(revert.String()[:12])}, []int{5}},
		{"prefix of all", listing.Query{ID: "0", Since: day(18)}, []int{19, 18}},
		{"no id", listing.Query{ID: "xyz"}, nil},
		{"longer than an id", listing.Query{ID: id3 + "0"}, nil},
		{"combined", listing.Query{ID: id3, Until: day(4)}, []int{3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			days := func(items []listing.Item) (days []int) {
				for _, it := range items {
					days = append(days, int(it.Created.Sub(noon).Hours())/24)
				}
				return days
			}
			if got := days(all(t, places, c.q)); !slices.Equal(got, c.want) {
				t.Errorf("All: got days %v, want %v", got, c.want)
			}
			for limit := 1; limit <= 4; limit++ {
				q := c.q
				q.Limit = limit
				var got []listing.Item
				for {
					r := page(t, places, q)
					got = append(got, r.Items...)
					if len(r.Items) < limit && r.Next != "" {
						t.Errorf("a page of %d items leads to %q", len(r.Items), r.Next)
					}
					if q.Cursor = r.Next; q.Cursor == "" {
						break
					}
				}
				if got := days(got); !slices.Equal(got, c.want) {
					t.Errorf("pages of %d: got days %v, want %v", limit, got, c.want)
				}
			}
		})
	}
}

func TestCursor(t *testing.T) {
	t.Parallel()
	start := noon.Add(123 * time.Millisecond)
	home := memfs.New(nil)
	paths := map[uuid.UUID]string{}
	for n := range 8 {
		id := v7(start, n) // all in the same ms
		if n%2 == 0 {
			id = v4(n)
		}
		paths[id] = dated(start.Add(time.Duration(n)*time.Hour), id) // written in other zones
		put(t, home, paths[id], g1(id, start, "/w"))
	}
	items := all(t, local(home), listing.Query{})
	if len(items) != len(paths) {
		t.Fatalf("%d items", len(items))
	}
	for i, it := range items {
		name, err := codec.ParseName(paths[it.RolloutID][len("sessions/2026/11/20/"):])
		if err != nil {
			t.Fatal(err)
		}
		for _, cursor := range []string{
			"2026-11-20T12:00:00.123Z|" + it.RolloutID.String(),
			"2026-11-20T09:00:00.123-03:00|" + it.RolloutID.String(),
			name.Stamp + "|" + it.RolloutID.String(),
		} {
			if got := all(t, local(home), listing.Query{Cursor: cursor}); !slices.EqualFunc(got, items[i+1:], samePath) {
				t.Errorf("%q: got %d items, want %d", cursor, len(got), len(items)-i-1)
			}
		}
	}

	// A rollout that is gone still has its place.
	for cursor, want := range map[string]int{
		"2026-11-20T12:00:00.123Z|" + v7(start, 4).String(): 6,
		"2026-11-20T12-00-00|" + v7(start, 4).String():      6,
		"2026-11-20T12-00-01|" + v4(9).String():             8,
		"2026-11-20T12-00-00|" + v4(9).String():             0,
		"0000-01-01T00:00:00Z|" + uuid.Nil.String():         0,
		"9999-12-31T23:59:59.999Z|" + uuid.Max.String():     8,
	} {
		if got := all(t, local(home), listing.Query{Cursor: cursor}); len(got) != want {
			t.Errorf("%q: got %d items, want %d", cursor, len(got), want)
		}
	}
	for _, bad := range []string{
		"|", "x", "2026-11-20T12:00:00Z", "2026-11-20T12:00:00Z|", "|" + v7(start, 1).String(),
		"2026-11-20T12:00:00Z|x", "2026-11-20T12:00:00Z|{" + v7(start, 1).String() + "}",
		"2026-11-20|" + v7(start, 1).String(), "2026-11-20T12:00:00Z|" + v7(start, 1).String() + " ",
		strings.Repeat("9", 1e6),
	} {
		r, err := listing.Page(t.Context(), local(home), listing.Query{Cursor: bad})
		if !errors.Is(err, listing.ErrCursor) || len(err.Error()) > 200 {
			t.Errorf("%.80q: got %v, %.200v", bad, r, err)
		}
		for it, err := range listing.All(t.Context(), local(home), listing.Query{Cursor: bad}) {
			if !errors.Is(err, listing.ErrCursor) || it.Path != "" {
				t.Errorf("%.80q: All gives %v, %.200v", bad, it, err)
			}
		}
	}
}

func FuzzCursor(f *testing.F) {
	f.Add("2026-11-20T12:00:00.123Z|" + v7(noon, 1).String())
	f.Add("2026-11-20T12-00-00|" + v4(1).String())
	home := tree(f, map[string]string{
		dated(noon, v7(noon, 1)): g1(v7(noon, 1), noon, "/w"),
		dated(noon, v4(1)):       g1(v4(1), noon, "/w"),
	})
	f.Fuzz(func(t *testing.T, cursor string) {
		r, err := listing.Page(t.Context(), local(home), listing.Query{Cursor: cursor, Limit: 1})
		if err != nil {
			if !errors.Is(err, listing.ErrCursor) {
				t.Fatal(err)
			}
			return
		}
		if r.Next != "" && r.Next == cursor {
			t.Fatalf("%q leads to itself", cursor)
		}
	})
}

// A tree of 60 days with 30 sessions each, of which one starts every 48 minutes.
func manyDays(t *testing.T, id func(start time.Time, n int) uuid.UUID) store.Source {
	files := map[string]string{}
	for n := range 60 * 30 {
		start := noon.Add(-time.Duration(n) * 48 * time.Minute)
		files[dated(start, id(start, n))] = g1(id(start, n), start, "/w")
	}
	files["archived_sessions/rollout-2025-01-02T03-04-05-"+v7(noon.AddDate(-2, 0, 0), 0).String()+".jsonl"] = ""
	return tree(t, files)
}

// A page may be as long as the tree: it is looked at a part at a time all the same.
func TestLongPage(t *testing.T) {
	t.Parallel()
	for _, cwd := range []string{"/w", "/none"} {
		opened := &spy{Source: manyDays(t, v7)}
		oldest := path.Dir(dated(noon.AddDate(0, 0, -59), uuid.Nil))
		before := -1
		src := &listed{opened, func(dir string) {
			if dir == oldest {
				opened.mu.Lock()
				defer opened.mu.Unlock()
				before = len(opened.opened)
			}
		}}
		got := page(t, local(src), listing.Query{Cwd: cwd, Limit: 1_000_000})
		if want := map[string]int{"/w": 60 * 30, "/none": 0}[cwd]; len(got.Items) != want {
			t.Errorf("%s: %d items, want %d", cwd, len(got.Items), want)
		}
		if before < 60*30/2 {
			t.Errorf("%s: %d heads were read before the last directory was listed", cwd, before)
		}
	}
}

func TestPageReadsLittle(t *testing.T) {
	t.Parallel()
	withV7 := manyDays(t, v7)
	sparse := tree(t, map[string]string{
		"archived_sessions/" + codec.NewName(noon, v4(1)).String():                  "",
		"archived_sessions/" + codec.NewName(noon.AddDate(0, 0, 2), v4(2)).String(): g1(v4(2), noon.AddDate(0, 0, 2), "/w"),
	})
	withV4 := manyDays(t, func(_ time.Time, n int) uuid.UUID { return v4(n) })
	november := func(from, to int) (dirs []string) {
		for d := from; d <= to; d++ {
			dirs = append(dirs, fmt.Sprintf("2026/11/%02d", d))
		}
		return dirs
	}
	for _, c := range []struct {
		name  string
		home  store.Source
		q     listing.Query
		dirs  []string // with dates, that are listed
		items int
		heads int
	}{
		{"first page", withV7, listing.Query{}, november(19, 20), 25, 25},
		{"first item", withV7, listing.Query{Limit: 1}, november(19, 20), 1, 1},
		// The last one that is taken starts on 17 November at 23:36.
		{"page of 80", withV7, listing.Query{Limit: 80}, november(17, 20), 80, 80},
		{"after a cursor", withV7, listing.Query{Cursor: "2026-11-10T12:00:00Z|" + v7(noon, 1).String()}, november(9, 11), 25, 25},
		{"since", withV7, listing.Query{Limit: 99, Since: noon}, november(18, 20), 1, 31},
		{"until", withV7, listing.Query{Limit: 1, Until: noon.AddDate(0, 0, -5)}, november(14, 17), 1, 48},
		{"cwd hit", withV7, listing.Query{Limit: 1, Cwd: "/w"}, november(19, 20), 1, 16},
		// And those v4 that could, by the names, be newer than the last item.
		{"first page of v4", withV4, listing.Query{}, november(19, 20), 25, 42},
		{"first item of v4", withV4, listing.Query{Limit: 1}, november(19, 20), 1, 18},
		{"first item of few v4", sparse, listing.Query{Limit: 1}, nil, 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := &spy{Source: c.home}
			r := page(t, local(s), c.q)
			if len(r.Items) != c.items {
				t.Errorf("%d items, want %d", len(r.Items), c.items)
			}
			slices.Sort(s.listed)
			got := slices.DeleteFunc(s.listed, func(dir string) bool { return len(dir) != len("2026/11/20") })
			if !slices.Equal(got, c.dirs) {
				t.Errorf("lists\n     %q\nnot  %q", got, c.dirs)
			}
			if len(s.opened) != c.heads || r.Scanned != len(s.opened) {
				t.Errorf("opens %d files, says %d, want %d", len(s.opened), r.Scanned, c.heads)
			}
		})
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	paths := []string{dated(noon.AddDate(0, 0, 1), v7(noon.AddDate(0, 0, 1), 0)), dated(noon, v7(noon, 0)), dated(noon, v4(1))}
	world := func(fail map[string]error) *spy {
		files := map[string]string{}
		for _, path := range paths {
			files[path] = g1(v7(noon, 0), noon, "/w")
		}
		return &spy{Source: tree(t, files), fail: fail}
	}
	for dir, want := range map[string]error{
		"sessions":            broken,
		"archived_sessions":   fs.ErrPermission,
		"sessions/2026/11/20": broken,
	} {
		r, err := listing.Page(t.Context(), local(world(map[string]error{dir: want})), listing.Query{})
		if !errors.Is(err, want) || err.Error() != "local: list "+dir+": "+want.Error() || r.Items != nil {
			t.Errorf("%s: got %v, %v", dir, r, err)
		}
		n := 0
		for it, e := range listing.All(t.Context(), local(world(map[string]error{dir: want})), listing.Query{}) {
			if err = e; e == nil && it.Path == "" {
				t.Error("a zero item")
			}
			n++
		}
		if !errors.Is(err, want) || n != 1 {
			t.Errorf("%s: All ends with %v after %d", dir, err, n)
		}
	}

	// What is missing is empty.
	for _, dir := range []string{"sessions/2026", "archived_sessions"} {
		s := world(map[string]error{dir: fs.ErrNotExist})
		if got := page(t, local(s), listing.Query{}); dir == "archived_sessions" && len(got.Items) != 3 || got.Next != "" {
			t.Errorf("%s: got %d items", dir, len(got.Items))
		}
	}
	if r := page(t, local(memfs.New(nil)), listing.Query{}); r.Items == nil || len(r.Items) != 0 || r.Next != "" {
		t.Errorf("an empty home: %v", r)
	}
	if r := page(t, nil, listing.Query{}); r.Items == nil || len(r.Items) != 0 {
		t.Errorf("no places: %v", r)
	}

	// A rollout that fails is an item; one that is gone is none, and the page is
	// as long as it should be.
	for i, path := range paths {
		s := world(map[string]error{path: broken})
		r := page(t, local(s), listing.Query{Limit: 3})
		if len(r.Items) != 3 {
			t.Fatalf("%d items", len(r.Items))
		}
		for _, it := range r.Items {
			if isBad := slices.Equal(it.Problems[:min(1, len(it.Problems))], []string{"broken"}); isBad != (it.Path == path) {
				t.Errorf("%d: %s has problems %q", i, it.Path, it.Problems)
			}
		}
		s.fail[path] = fs.ErrNotExist
		r = page(t, local(s), listing.Query{Limit: 2})
		if len(r.Items) != 2 || r.Next != "" || slices.ContainsFunc(r.Items, func(it listing.Item) bool { return it.Path == path }) {
			t.Errorf("%s is gone: got %d items and %q", path, len(r.Items), r.Next)
		}
	}
}

func TestContext(t *testing.T) {
	t.Parallel()
	home := tree(t, map[string]string{dated(noon, v7(noon, 0)): "", dated(noon, v4(1)): ""})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := listing.Page(ctx, local(home), listing.Query{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	// Cancelled while a head is read: an error, not an item with a problem.
	for _, id := range []uuid.UUID{v7(noon, 0), v4(1)} {
		ctx, cancel := context.WithCancel(t.Context())
		s := cancelling{home, dated(noon, id), cancel}
		if r, err := listing.Page(ctx, local(s), listing.Query{}); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: got %v, %v", id, r, err)
		}
	}
}

type cancelling struct {
	store.Source
	name   string
	cancel func()
}

func (c cancelling) Open(ctx context.Context, name string) (store.File, error) {
	if name == c.name {
		c.cancel()
		return nil, store.Wrap("open", name, ctx.Err())
	}
	return c.Source.Open(ctx, name)
}

// All that is opened is closed, and no more is read than the head needs.
func TestFilesAreClosed(t *testing.T) {
	t.Parallel()
	files := map[string]string{}
	for n := range 20 {
		files[dated(noon, v7(noon, n))] = g1(v7(noon, n), noon, "/w") + strings.Repeat("\n", 1<<20)
	}
	c := &closing{Source: tree(t, files), open: map[any]bool{}}
	if r := page(t, local(c), listing.Query{}); len(r.Items) != 20 {
		t.Errorf("%d items", len(r.Items))
	}
	if len(c.open) > 0 {
		t.Errorf("left open: %v", slices.Collect(maps.Values(c.open)))
	}
	if c.n == 0 || c.n > 20<<17 {
		t.Errorf("%d bytes were read", c.n)
	}
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// A list that goes on lists many directories at a time, and a first page none in vain.
func TestListsAhead(t *testing.T) {
	t.Parallel()
	const days = 120
	files := map[string]string{}
	for n := range days {
		start := noon.AddDate(0, 0, -n)
		files[dated(start, v7(start, n))] = g1(v7(start, n), start, "/w")
	}
	home := tree(t, files)
	synctest.Test(t, func(t *testing.T) {
		s := &slowLists{Source: home}
		begin := time.Now()
		if got := all(t, local(s), listing.Query{Light: true}); len(got) != days {
			t.Errorf("%d sessions, want %d", len(got), days)
		}
		if took, n := time.Since(begin), s.lists.Load(); took > time.Duration(n)*time.Second/6 {
			t.Errorf("%d directories, of which each takes a second, took %v", n, took)
		}
		s = &slowLists{Source: home}
		page, err := listing.Page(t.Context(), local(s), listing.Query{Limit: 2, Light: true})
		if err != nil || len(page.Items) != 2 {
			t.Fatalf("%+v, %v", page, err)
		}
		// Both roots, a year, a month, three days: the last tells that there is more.
		if n := s.lists.Load(); n > 7 {
			t.Errorf("a page of two sessions took %d lists", n)
		}
	})
}

// slowLists takes a second for each List.
type slowLists struct {
	store.Source
	lists atomic.Int32
}

func (s *slowLists) List(ctx context.Context, dir string, o store.ListOptions) iter.Seq2[store.Entry, error] {
	s.lists.Add(1)
	time.Sleep(time.Second)
	return s.Source.List(ctx, dir, o)
}
