package catalog_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/parquet-go/parquet-go"

	"github.com/rollout-sync/rollout/catalog"
	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/replay"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/memfs"
)

var noon = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// aName returns a rollout's name of the n-th hour after noon.
func aName(n int) codec.Name {
	at := noon.Add(time.Duration(n) * time.Hour)
	id := uuid.UUID{6: 0x70, 8: 0x80, 15: byte(n), 14: byte(n >> 8)}
	ms := at.UnixMilli()
	for i := range 6 {
		id[i] = byte(ms >> (8 * (5 - i)))
	}
	return codec.NewName(at, id)
}

// aHead returns some head of n.
func aHead(r *rand.Rand, n codec.Name) codec.Head {
	text := func(s string) string {
		if r.IntN(3) == 0 {
			return ""
		}
		return s + fmt.Sprint(r.IntN(5))
	}
	if r.IntN(8) == 0 {
		return codec.Head{End: 7, Problems: []codec.Problem{{Offset: 0, Length: 7, Reason: "cut off"}}}
	}
	h := codec.Head{
		HasMeta: true, ID: n.Session.String(), StartTime: noon.Add(time.Duration(r.IntN(1e9)) * time.Millisecond),
		Cwd: text("/w/"), Originator: text("codex_"), CLIVersion: text("0.16"), Source: text("subagent:"), Subagent: r.IntN(2) == 0,
		Provider: text("openai"), ParentID: text("parent"), HistoryMode: text("paginated"),
		Base: codec.Base{Rollout: text("base"), Ordinal: uint64(r.IntN(9)), Offset: int64(r.IntN(9))},
		Git:  codec.Git{Commit: text("c"), Branch: text("b"), Origin: text("o")}, Model: text("gpt-"),
		FirstUserMessage: text("ü\x00\u202e look "), End: int64(r.IntN(1 << 20)),
	}
	switch r.IntN(8) {
	case 0:
		h.FirstUserMessage = strings.Repeat("ü", 2049) // a byte more than fits
	case 1:
		h.StartTime = h.StartTime.Add(1) // no microsecond
	case 2:
		h.ID = uuid.NewString() // of another session, as in a legacy fork
	case 3:
		h.StartTime = time.Time{}
	}
	return h
}

func aRow(r *rand.Rand, n codec.Name) (catalog.Row, codec.Head, replay.Summary) {
	h := aHead(r, n)
	s := replay.Summary{
		Size: 100, Lines: 3, Turns: r.IntN(9), Calls: r.IntN(9), Files: r.IntN(9), Errors: r.IntN(9),
		Tokens: codec.TokenUsage{Input: r.Int64N(1e9), CachedInput: 3, CacheWriteInput: 4, Output: 5, ReasoningOutput: 6, Total: 7},
		Models: []string{"gpt-5", "gpt-6"}, Cwds: []string{"/w"},
	}
	row := catalog.Row{
		Object: "sessions/2026/11/20/" + n.String() + ".zst", Version: fmt.Sprint(r.IntN(99)), State: catalog.Current,
		Origin: "o", Machine: "m", Path: "sessions/2026/11/20/" + n.String(), PlainSize: 100, StoredSize: 50, Lines: 3, SHA256: "abc",
	}
	row.SetName(n)
	row.SetUpdated(noon.Add(time.Duration(r.IntN(1e9))))
	row.SetHead(h)
	row.SetSummary(s)
	return row, h, s
}

// What went in comes out: each row, and of it the head and the summary, unless it says
// that the head has more.
func TestRowsComeBack(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	var rows []catalog.Row
	var heads []codec.Head
	abridged := 0
	for n := range 3000 {
		row, h, s := aRow(r, aName(n))
		if got := row.Summary(); !reflect.DeepEqual(got, s) {
			t.Fatalf("%+v, want %+v", got, s)
		}
		rows, heads = append(rows, row), append(heads, h)
	}
	p, err := catalog.Encode(rows)
	if err != nil {
		t.Fatal(err)
	}
	shuffled := slices.Clone(rows)
	r.Shuffle(len(rows), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	if again, _ := catalog.Encode(shuffled); !bytes.Equal(p, again) {
		t.Error("the same rows make other bytes")
	}
	got, err := catalog.Decode(p)
	if err != nil || len(got) != len(rows) {
		t.Fatalf("%d rows, %v", len(got), err)
	}
	for i := range got {
		k, ok := got[i].Known()
		if !ok {
			abridged++
			continue
		}
		if !reflect.DeepEqual(k.Head, heads[i]) {
			t.Fatalf("row %d: head %+v, want %+v", i, k.Head, heads[i])
		}
		if k.Info.Size != 100 || k.Info.Meta[store.MetaLines] != "3" || k.Info.Meta[store.MetaSHA256] != "abc" || k.Info.ModTime.UnixNano() != rows[i].UpdatedNS {
			t.Fatalf("row %d: %+v", i, k.Info)
		}
		if a, b := got[i].Summary(), rows[i].Summary(); !reflect.DeepEqual(a, b) {
			t.Fatalf("row %d: %+v, want %+v", i, a, b)
		}
	}
	if abridged < 200 || abridged > 1500 {
		t.Errorf("%d of %d are abridged", abridged, len(rows))
	}
}

// Files of a later version have columns that this one does not know, and those of an
// earlier one lack some.
func TestOtherColumns(t *testing.T) {
	t.Parallel()
	type later struct {
		catalog.Row
		Later string `parquet:"later,optional"`
	}
	type earlier struct {
		ID     string `parquet:"id"`
		Object string `parquet:"object"`
		Turns  int64  `parquet:"turns"`
	}
	row, _, _ := aRow(rand.New(rand.NewPCG(3, 4)), aName(1))
	check := func(p *bytes.Buffer, want catalog.Row) {
		t.Helper()
		catalog.Seal(p.Bytes())
		got, err := catalog.Decode(p.Bytes())
		if err != nil || len(got) != 1 {
			t.Fatalf("%d rows, %v", len(got), err)
		}
		if got[0].ID != want.ID || got[0].Object != want.Object || got[0].Turns != want.Turns || got[0].Cwd != want.Cwd {
			t.Errorf("%+v", got[0])
		}
	}
	sum := parquet.KeyValueMetadata("rollout.sum", "sha256:"+strings.Repeat("0", 64))
	var p bytes.Buffer
	if err := parquet.Write(&p, []later{{row, "more"}}, sum); err != nil {
		t.Fatal(err)
	}
	check(&p, row)
	p.Reset()
	if err := parquet.Write(&p, []earlier{{row.ID, row.Object, row.Turns}}, sum); err != nil {
		t.Fatal(err)
	}
	check(&p, catalog.Row{ID: row.ID, Object: row.Object, Turns: row.Turns})

	// One that says it has a column, and has it of another type.
	p.Reset()
	if err := parquet.Write(&p, []struct {
		ID int64 `parquet:"id"`
	}{{1 << 40}}, sum); err != nil {
		t.Fatal(err)
	}
	catalog.Seal(p.Bytes())
	if _, err := catalog.Decode(p.Bytes()); !errors.Is(err, store.ErrCorrupt) {
		t.Errorf("numbers for texts: %v", err)
	}
}

func TestDirOf(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]string{
		"rollout-2026-11-20T08-41-45-01a1f81e-6bb9-7000-8000-000000000001.jsonl":     "catalog/v1/date=2026-11-20",
		"rollout-2025-07-01-11111111-2222-4333-8444-555555555555.jsonl":              "catalog/v1/date=2025-07-01",
		"rollout-01a1f81e-6bb9-7000-8000-000000000001.jsonl":                         "catalog/v1/date=2026-11-20",
		"rollout-some text-11111111-2222-4333-8444-555555555555.jsonl":               "catalog/v1/date=__HIVE_DEFAULT_PARTITION__",
		"rollout-2026-13-40T08-41-45-11111111-2222-4333-8444-555555555555.jsonl":     "catalog/v1/date=__HIVE_DEFAULT_PARTITION__",
		"rollout-2026-11-21T00-10-00-01a1f81e-6bb9-7000-8000-000000000001.jsonl":     "catalog/v1/date=2026-11-21",
		"rollout-ffffffff-ffff-7fff-8fff-ffffffffffff.jsonl":                         "catalog/v1/date=__HIVE_DEFAULT_PARTITION__",
		"rollout-2026-11-20T08-41-45-01a1f81e-6bb9-7000-8000-000000000001.jsonl.zst": "catalog/v1/date=2026-11-20",
		"rollout-0000-01-01T00-00-00-01a1f81e-6bb9-7000-8000-000000000001.jsonl":     "catalog/v1/date=0000-01-01",
		"rollout-2026-02-29T00-00-00-11111111-2222-4333-8444-555555555555.jsonl":     "catalog/v1/date=__HIVE_DEFAULT_PARTITION__",
	} {
		n, err := codec.ParseName(name)
		if err != nil {
			t.Fatal(err)
		}
		if got := catalog.DirOf(n); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
	}
}

// A bit that was flipped anywhere is noticed.
func TestDecodeDamaged(t *testing.T) {
	t.Parallel()
	row, _, _ := aRow(rand.New(rand.NewPCG(7, 8)), aName(1))
	p, err := catalog.Encode([]catalog.Row{row})
	if err != nil {
		t.Fatal(err)
	}
	for i := range p {
		damaged := bytes.Clone(p)
		damaged[i] ^= 1 << (i % 8)
		for what, p := range map[string][]byte{"flipped": damaged, "cut": p[:i]} {
			if _, err := catalog.Decode(p); !errors.Is(err, store.ErrCorrupt) {
				t.Errorf("%s at %d: %v", what, i, err)
			}
		}
	}
}

// A mirror counts what is asked of it.
type counted struct {
	store.Source
	mu    sync.Mutex
	opens []string
}

func (c *counted) Open(ctx context.Context, name string) (store.File, error) {
	c.mu.Lock()
	c.opens = append(c.opens, name)
	c.mu.Unlock()
	return c.Source.Open(ctx, name)
}

// memory is a Cache.
type memory struct {
	mu    sync.Mutex
	files map[string][]byte
}

func (m *memory) File(_ context.Context, name, version string) ([]byte, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p, ok := m.files[name+"@"+version]
	return p, ok
}

func (m *memory) KeepFile(name, version string, p []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[name+"@"+version] = p
}

// mirrorOf returns a mirror with a catalog of two origins on each of some days.
func mirrorOf(t *testing.T, days int) (m *memfs.Store, rows []catalog.Row) {
	t.Helper()
	m = memfs.New(nil)
	r := rand.New(rand.NewPCG(9, 10))
	for day := range days {
		for _, origin := range []string{"a", "b"} {
			var of []catalog.Row
			for hour := range 6 {
				n := aName(24*day + hour)
				if origin == "b" {
					n = aName(24*day + hour + 6)
				}
				row, _, _ := aRow(r, n)
				row.Object, row.Origin = fmt.Sprintf("%s/%s.zst", catalog.DirOf(n), n), origin
				of = append(of, row)
			}
			p, err := catalog.Encode(of)
			if err != nil {
				t.Fatal(err)
			}
			n, _ := codec.ParseName(strings.TrimSuffix(of[0].Object[len("catalog/v1/date=2026-11-20/"):], ".zst"))
			if _, err := m.Put(t.Context(), catalog.FileOf(catalog.DirOf(n), origin), store.BytesBody(p, noon), store.Cond{IfAbsent: true}); err != nil {
				t.Fatal(err)
			}
			rows = append(rows, of...)
		}
	}
	return m, rows
}

// Whoever asks concurrently, in whatever order, gets what the files say, and no date
// is read before it has cost as much not to.
func TestReader(t *testing.T) {
	t.Parallel()
	m, rows := mirrorOf(t, 6)
	cache := &memory{files: map[string][]byte{}}
	for _, round := range []string{"first", "cached"} {
		src := &counted{Source: m}
		reader := catalog.NewReader(src, cache, func(name string, err error) { t.Errorf("%s: %v", name, err) })
		ask := func(row catalog.Row, version string) (*catalog.Row, bool) {
			name := strings.TrimSuffix(row.Object, ".zst")
			n, err := codec.ParseName(name[strings.LastIndex(name, "/")+1:])
			if err != nil {
				t.Error(err)
			}
			return reader.Row(t.Context(), name, n, version)
		}
		var all sync.WaitGroup
		for worker := range 8 {
			all.Go(func() {
				r := rand.New(rand.NewPCG(uint64(worker), 1))
				refused := map[string]int{}
				for i := range len(rows) {
					want := rows[min(len(rows)-1, i+r.IntN(12))] // a listing jumps a little
					got, ok := ask(want, want.Version)
					if !ok {
						refused[want.Object[:26]]++
					} else if !reflect.DeepEqual(*got, want) {
						t.Errorf("%+v, want %+v", *got, want)
					}
					if _, ok := ask(want, "another"); ok {
						t.Error("a row of another version")
					}
				}
				for date, n := range refused {
					if n > 3 {
						t.Errorf("%s: %d were refused", date, n)
					}
				}
			})
		}
		all.Wait()
		if round == "cached" && len(src.opens) > 0 {
			t.Errorf("%q were opened that the cache has", src.opens)
		}
		if round == "first" && len(src.opens) != 12 {
			t.Errorf("%d files were opened, want 12", len(src.opens))
		}
	}
	src := &counted{Source: m}
	reader := catalog.NewReader(src, nil, nil)
	for i, row := range rows[:3] { // two files: two that are opened cost as much
		n, _ := codec.ParseName(strings.TrimSuffix(row.Object[len("catalog/v1/date=2026-11-20/"):], ".zst"))
		if _, ok := reader.Row(t.Context(), strings.TrimSuffix(row.Object, ".zst"), n, row.Version); ok != (i == 2) {
			t.Errorf("ask %d: %t", i, ok)
		}
	}
}

// Reading the catalog costs at most as many requests as opening the objects, in
// whatever order they are asked about, and once it has spared some, a date is not
// waited for.
func TestReaderCost(t *testing.T) {
	t.Parallel()
	const days, files = 8, 3
	m, rows := mirrorOf(t, days)
	var dates [days][]catalog.Row
	for i, row := range rows {
		dates[i*days/len(rows)] = append(dates[i*days/len(rows)], row)
	}
	for _, date := range dates { // of one origin more
		p, err := catalog.Encode(date[:1])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Put(t.Context(), catalog.FileOf(path.Dir(date[0].Object), "c"), store.BytesBody(p, noon), store.Cond{IfAbsent: true}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name           string
		of             func(i int) catalog.Row
		asked          int
		refused, opens int // at most
	}{
		{"one date after the other", func(i int) catalog.Row { return rows[i] }, len(rows), files, days * files},
		{"by turns", func(i int) catalog.Row { return dates[i%days][i/days%12] }, 5 * len(rows), 5 * len(rows), 5 * len(rows)},
	} {
		src := &counted{Source: m}
		reader := catalog.NewReader(src, nil, nil)
		refused := 0
		for i := range c.asked {
			row := c.of(i)
			name := strings.TrimSuffix(row.Object, ".zst")
			n, err := codec.ParseName(path.Base(name))
			if err != nil {
				t.Fatal(err)
			}
			if got, ok := reader.Row(t.Context(), name, n, row.Version); !ok {
				refused++
			} else if got.Object != row.Object {
				t.Fatalf("%s: %s, want %s", c.name, got.Object, row.Object)
			}
		}
		if refused > c.refused || len(src.opens) > c.opens {
			t.Errorf("%s: asked for %d, %d were refused and %d files opened, want at most %d and %d", c.name, c.asked, refused, len(src.opens), c.refused, c.opens)
		}
	}
}

func TestReaderOfNothing(t *testing.T) {
	t.Parallel()
	reader := catalog.NewReader(memfs.New(nil), nil, func(name string, err error) { t.Errorf("%s: %v", name, err) })
	for range 10 {
		if _, ok := reader.Known(t.Context(), "sessions/2026/11/20/"+aName(0).String(), aName(0), "v"); ok {
			t.Error("a row")
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for range 10 {
		if _, ok := reader.Known(ctx, "sessions/2026/11/20/"+aName(0).String(), aName(0), "v"); ok {
			t.Error("a row")
		}
	}
}

func Example() {
	n := codec.NewName(noon, uuid.MustParse("01a1f81e-6bb9-7000-8000-000000000001"))
	row := catalog.Row{Object: "sessions/2026/11/20/" + n.String() + ".zst", Version: "etag", State: catalog.Current, Origin: "laptop", PlainSize: 100, SHA256: "…"}
	row.SetName(n)
	row.SetUpdated(noon)
	row.SetHead(codec.Head{HasMeta: true, ID: n.Session.String(), Cwd: "/src/app"})
	content, err := catalog.Encode([]catalog.Row{row})
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx, m := context.Background(), memfs.New(nil)
	file := catalog.FileOf(catalog.DirOf(n), "laptop")
	if _, err := m.Put(ctx, file, store.BytesBody(content, noon), store.Cond{IfAbsent: true}); err != nil {
		fmt.Println(err)
		return
	}

	reader := catalog.NewReader(m, nil, nil)
	place := listing.Place{Where: listing.Mirror, Source: m, Known: reader.Known}
	for range 2 { // the first costs no less than a look at the object
		k, ok := place.Known(ctx, "sessions/2026/11/20/"+n.String(), n, "etag")
		fmt.Printf("%s %t %q\n", file, ok, k.Head.Cwd)
	}
	// Output:
	// catalog/v1/date=2026-11-20/laptop.parquet false ""
	// catalog/v1/date=2026-11-20/laptop.parquet true "/src/app"
}
