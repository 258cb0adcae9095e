package mirror_test

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/memfs"
)

// opens counts what is opened of a Source.
type opens struct {
	store.Source
	n int
}

func (o *opens) Open(ctx context.Context, name string) (store.File, error) {
	o.n++
	return o.Source.Open(ctx, name)
}

// Who walks through the months reads each once; none of them is wrong when it was
// dropped and is asked for again.
func TestFactsOfManyMonths(t *testing.T) {
	t.Parallel()
	m := memfs.New(nil)
	var names []codec.Name
	for month := range 12 {
		n := codec.NewName(time.Date(2026, time.Month(month+1), 3, 0, 0, 0, 0, time.UTC), uuid.New())
		names = append(names, n)
		line := fmt.Appendf(nil, `{"rollout":"%s","name":"session %d"}`+"\n", n, month)
		key := fmt.Sprintf("origins/o/2026-%02d.jsonl", month+1)
		if _, err := m.Put(t.Context(), key, store.BytesBody(line, time.Time{}), store.Cond{IfAbsent: true}); err != nil {
			t.Fatal(err)
		}
	}
	src := &opens{Source: m}
	facts := mirror.NewFacts(src)
	for round := 1; round <= 2; round++ {
		for month, n := range names {
			for range 3 {
				f, err := facts.Best(t.Context(), n, "o", "")
				if err != nil || f.Name != fmt.Sprintf("session %d", month) {
					t.Fatalf("month %d: got %q, %v", month+1, f.Name, err)
				}
			}
		}
		if src.n != 12*round { // a year is more than is kept
			t.Errorf("after round %d %d files were opened", round, src.n)
		}
	}
}

func BenchmarkFacts(b *testing.B) {
	m := memfs.New(nil)
	var month bytes.Buffer
	var n codec.Name
	for i := range 10_000 {
		n = codec.NewName(time.Date(2026, 11, 1, 0, i, 0, 0, time.UTC), uuid.UUID{6: 0x40, 8: 0x80, 14: byte(i >> 8), 15: byte(i)})
		fmt.Fprintf(&month, `{"rollout":"%s","path":"sessions/2026/11/01/%[1]s","archived":false,"mtime":"2026-11-20T12:00:00Z","size":12345,"sha256":"%064x","wrote":true}`+"\n", n, i)
	}
	if _, err := m.Put(b.Context(), "origins/o/2026-11.jsonl", store.BytesBody(month.Bytes(), time.Time{}), store.Cond{IfAbsent: true}); err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(month.Len()), "facts-B")
	b.ReportAllocs()
	for b.Loop() {
		if f, err := mirror.NewFacts(m).Best(b.Context(), n, "o", ""); err != nil || f.Path == "" {
			b.Fatal(f, err)
		}
	}
}
