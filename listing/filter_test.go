package listing_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/store"
)

// session is a rollout whose session_meta has these members, too.
func session(n int, cwd, members, model, message string) (path, content string) {
	start := noon.Add(time.Duration(n) * time.Hour)
	at, id := stamp(start), v7(start, n)
	return dated(start, id), fmt.Sprintf(`{"timestamp":"%s","type":"session_meta","payload":{"id":"%s","timestamp":"%[1]s","cwd":"%[3]s","originator":"o","cli_version":"1"%[4]s}}
{"timestamp":"%[1]s","type":"turn_context","payload":{"cwd":"%[3]s","model":"%[5]s"}}
{"timestamp":"%[1]s","type":"event_msg","payload":{"type":"user_message","message":"%[6]s"}}
`, at, id, cwd, members, model, message)
}

func TestFiltersByHead(t *testing.T) {
	t.Parallel()
	const git = `,"git":{"branch":"%s","repository_url":"%s"}`
	files := map[string]string{}
	for n, s := range [][4]string{
		{"/w/a", `,"source":"cli","model_provider":"openai"` + fmt.Sprintf(git, "main", "git@github.com:acme/App.git"), "gpt-5", "Fix the ÉTUDE"},
		{"/w/a/", `,"source":"exec","model_provider":"azure"` + fmt.Sprintf(git, "dev", "https://me@github.com/acme/app"), "gpt-6", "two"},
		{"/w/b", `,"model_provider":"openai"` + fmt.Sprintf(git, "main", "ssh://git@host/other/app.git"), "gpt-6", "three"},
		{"/w/b", `,"source":{"subagent":"review"}`, "o3", "four"},
		{"/w/b", `,"source":"vscode","thread_source":"subagent"`, "o3", "five"},
		{"/w/b", `,"source":{"custom":"atlas"}`, "o3", "six"},
	} {
		path, content := session(n, s[0], s[1], s[2], s[3])
		if n == 5 {
			path = "archived_sessions/" + filepath.Base(path)
			content += `{"timestamp":"t","type":"turn_context","payload":{"cwd":"/w/a","model":"o3"}}` + "\n"
		}
		files[path] = content
	}
	damaged, _ := session(6, "", "", "", "")
	files[damaged] = "x\n"
	named := map[string]string{}
	for path := range files {
		name, err := codec.ParseName(filepath.Base(path))
		if err != nil {
			t.Fatal(err)
		}
		if named[name.Session.String()] = ""; name.Session == v7(noon.Add(time.Hour), 1) {
			named[name.Session.String()] = "The Second"
		}
	}
	places := local(tree(t, files))
	places[0].Describe = func(_ context.Context, _ string, n codec.Name) (listing.Description, error) {
		return listing.Description{Name: named[n.Session.String()]}, nil
	}
	for _, c := range []struct {
		q    listing.Query
		want []int
	}{
		{listing.Query{}, []int{6, 5, 4, 3, 2, 1, 0}},
		{listing.Query{Oldest: true}, []int{0, 1, 2, 3, 4, 5, 6}},
		{listing.Query{Cwd: "/w/a"}, []int{1, 0}},
		{listing.Query{Cwd: "/w/a", AnyTurn: true}, []int{5, 1, 0}},
		{listing.Query{Cwd: "/w/c", AnyTurn: true}, nil},
		{listing.Query{Sources: []string{"cli"}}, []int{0}},
		{listing.Query{Sources: []string{"vscode"}}, []int{4, 2}}, // without a source, too
		{listing.Query{Sources: []string{"subagent", "exec"}}, []int{3, 1}},
		{listing.Query{Sources: []string{"sub"}}, nil},
		{listing.Query{Sources: []string{listing.Interactive}}, []int{5, 4, 2, 0}},
		{listing.Query{Providers: []string{"azure", "x"}}, []int{1}},
		{listing.Query{Models: []string{"gpt-6", "gpt-5"}}, []int{2, 1, 0}},
		{listing.Query{Branch: "main"}, []int{2, 0}},
		{listing.Query{Origin: "acme/app"}, []int{1, 0}},
		{listing.Query{Origin: "https://github.com/acme/app/"}, []int{1, 0}},
		{listing.Query{Origin: "app"}, []int{2, 1, 0}},
		{listing.Query{Origin: "pp"}, nil},
		{listing.Query{Text: "étude"}, []int{0}},
		{listing.Query{Text: "E"}, []int{4, 2, 0}},
		{listing.Query{Archived: listing.No}, []int{6, 4, 3, 2, 1, 0}},
		{listing.Query{Archived: listing.Only}, []int{5}},
		{listing.Query{Archived: listing.Any}, []int{6, 5, 4, 3, 2, 1, 0}},
		{listing.Query{Subagents: listing.Only}, []int{4, 3}},
		{listing.Query{Subagents: listing.No}, []int{6, 5, 2, 1, 0}},
		{listing.Query{Name: "second"}, []int{1}},
		{listing.Query{Name: "third"}, nil},
		{listing.Query{Branch: "main", Models: []string{"gpt-6"}, Text: "thr"}, []int{2}},
		{listing.Query{Light: true, Branch: "dev"}, []int{1}},
	} {
		for _, order := range []listing.Order{listing.Created, listing.Updated} {
			// All files of the tree are of the same time.
			q := c.q
			q.Order = order
			if order == listing.Updated {
				q.Oldest = false
			}
			var got []int
			for _, it := range all(t, places, q) {
				got = append(got, int(it.Created.Sub(noon).Hours()))
			}
			want := slices.Clone(c.want)
			if order == listing.Updated {
				slices.Sort(want)
				slices.Reverse(want)
			}
			if !slices.Equal(got, want) {
				t.Errorf("%+v: got %v, want %v", q, got, want)
			}
		}
	}
}

// A directory is the one that is wanted by any of its names, on this machine.
func TestCwdBehindALink(t *testing.T) {
	t.Parallel()
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	real, link := filepath.Join(dir, "real"), filepath.Join(dir, "link")
	if err := os.Mkdir(real, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(real, link); err != nil {
		t.Skipf("this system makes no symbolic links: %v", err)
	}
	files := map[string]string{}
	for n, cwd := range []string{real, link} {
		path, content := session(n, filepath.ToSlash(cwd), "", "m", "x")
		files[path] = content
	}
	home := tree(t, files)
	for _, cwd := range []string{real, link} {
		for where, want := range map[string]int{listing.Local: 2, listing.Mirror: 1} {
			got := all(t, []listing.Place{{Where: where, Source: home}}, listing.Query{Cwd: cwd})
			if len(got) != want {
				t.Errorf("%s in %s: %d items, want %d", filepath.Base(cwd), where, len(got), want)
			}
		}
	}
}

// A filter that cannot be answered is an error, not an empty list.
func TestFilterWithoutFacts(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	path, content := session(1, "/w", "", "m", "x")
	places := local(tree(t, map[string]string{path: content}))
	places[0].Describe = func(context.Context, string, codec.Name) (listing.Description, error) {
		return listing.Description{}, broken
	}
	for _, q := range []listing.Query{{Name: "x"}, {Archived: listing.No}} {
		if r, err := listing.Page(t.Context(), places, q); !errors.Is(err, broken) {
			t.Errorf("%+v: got %v, %v", q, r, err)
		}
	}
	if _, err := listing.Find(t.Context(), places, "some name"); !errors.Is(err, broken) {
		t.Errorf("Find: %v", err)
	}
}

func TestMaxScan(t *testing.T) {
	t.Parallel()
	home := manyDays(t, v7)
	q := listing.Query{Cwd: "/nowhere", MaxScan: 100}
	r := page(t, local(home), q)
	if len(r.Items) != 0 || r.Scanned != 100 || !r.Limited || r.Next == "" {
		t.Fatalf("got %d items, scanned %d, limited %t, next %q", len(r.Items), r.Scanned, r.Limited, r.Next)
	}
	scanned := r.Scanned
	for r.Limited {
		q.Cursor = r.Next
		r = page(t, local(home), q)
		scanned += r.Scanned
	}
	if r.Next != "" || scanned != 60*30+1 {
		t.Errorf("in the end %d of %d are looked at, and %q is next", scanned, 60*30+1, r.Next)
	}
	// A page that is full before is none that the limit ended.
	if r := page(t, local(home), listing.Query{Limit: 25, MaxScan: 100}); r.Limited || len(r.Items) != 25 {
		t.Errorf("a full page: limited %t, %d items", r.Limited, len(r.Items))
	}
	n := 0
	var failed error
	for _, err := range listing.All(t.Context(), local(home), listing.Query{MaxScan: 300}) {
		if failed = err; err == nil {
			n++
		}
	}
	if !errors.Is(failed, listing.ErrScanLimit) || n != 300 {
		t.Errorf("All: %d items, then %v", n, failed)
	}
}

func TestLight(t *testing.T) {
	t.Parallel()
	path, content := session(1, "/w", "", "m", "x")
	gone, _ := session(2, "/w", "", "m", "x")
	home := &spy{Source: tree(t, map[string]string{path: content, gone: "damaged"})}
	items := all(t, local(home), listing.Query{Light: true})
	if len(items) != 2 {
		t.Fatalf("%d items", len(items))
	}
	it := items[1]
	if it.Path != path || it.Cwd != nil || it.Preview != nil || it.Updated == nil || *it.LocalSize != int64(len(content)) || len(it.Problems) > 0 {
		t.Errorf("got %+v", it)
	}
	if r := page(t, local(home), listing.Query{Light: true}); r.Scanned != 0 {
		t.Errorf("%d heads were read", r.Scanned)
	}
	// What a mirror's List tells is enough.
	objects := &spy{Source: tree(t, map[string]string{path + ".zst": sealed(t, content)})}
	items = all(t, []listing.Place{{Where: listing.Mirror, Source: remote{objects}}}, listing.Query{Light: true})
	if len(items) != 1 || items[0].StoredSize == nil || len(objects.opened) > 0 {
		t.Errorf("of a mirror: %d items, opened %q", len(items), objects.opened)
	}
}

// A directory of more names than are kept at a time is listed as a whole, in every
// order, and by few scans.
func TestFlatDirectory(t *testing.T) {
	t.Parallel()
	const n = 10_000
	files := map[string]string{}
	for i := range n {
		start := noon.Add(-time.Duration(i/3) * time.Minute) // of each time three
		id := v7(start, i)
		if i%50 == 0 {
			id = v4(i)
		}
		files["archived_sessions/"+codec.NewName(start.Add(time.Duration(i%25-12)*time.Hour), id).String()] = g1(id, start, "/w")
	}
	home := &spy{Source: shuffled{tree(t, files)}}
	for _, q := range []listing.Query{{Order: listing.Created}, {Order: listing.Updated}, {Order: listing.Created, Oldest: true}} {
		q.Light = true
		home.listed = nil
		got := all(t, local(home), q)
		if len(got) != n {
			t.Fatalf("%+v: %d items, want %d", q, len(got), n)
		}
		before := func(a, b listing.Item) int {
			if q.Order == listing.Updated {
				return -strings.Compare(a.RolloutID.String(), b.RolloutID.String()) // all of one time
			}
			return b.Created.Compare(*a.Created)
		}
		if q.Oldest {
			slices.Reverse(got)
		}
		// Light items know the time of a v4 only to the hour.
		known := slices.DeleteFunc(slices.Clone(got), func(it listing.Item) bool { return it.RolloutID.Version() == 4 })
		if !slices.IsSortedFunc(known, before) {
			t.Errorf("%+v: not in order", q)
		}
		if scans := len(slices.DeleteFunc(home.listed, func(dir string) bool { return dir != "archived_sessions" })); scans > 3 {
			t.Errorf("%+v: the directory was listed %d times", q, scans)
		}
	}
	if got := pages(t, local(home), listing.Query{Limit: 997, Preview: -1}); len(got) != n {
		t.Errorf("pages have %d items, want %d", len(got), n)
	}
}

// shuffled lists in no order, if it may.
type shuffled struct{ store.Source }

func (s shuffled) List(ctx context.Context, dir string, o store.ListOptions) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		var entries []store.Entry
		for e, err := range s.Source.List(ctx, dir, o) {
			if err != nil {
				yield(e, err)
				return
			}
			entries = append(entries, e)
		}
		if o.Unordered {
			r := rand.New(rand.NewPCG(1, uint64(len(entries))))
			r.Shuffle(len(entries), func(i, j int) { entries[i], entries[j] = entries[j], entries[i] })
		}
		for _, e := range entries {
			if !yield(e, nil) {
				return
			}
		}
	}
}

// A mirror is asked for no more than the design allows: three levels, the days
// that the page is from, archived_sessions for names without a date, and a request
// for each head.
func TestRequests(t *testing.T) {
	t.Parallel()
	home := &spy{Source: manyDays(t, v7)}
	mirror := []listing.Place{{Where: listing.Mirror, Source: remote{home}}}
	if r := page(t, mirror, listing.Query{}); len(r.Items) != 25 {
		t.Fatalf("%d items", len(r.Items))
	}
	if got := len(home.listed) + len(home.opened); got > 3+2+1+25 {
		t.Errorf("%d requests: lists %q, opens %d", got, home.listed, len(home.opened))
	}
}

var _ store.Source = remote{}
