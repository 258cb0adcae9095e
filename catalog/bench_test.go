package catalog_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/rollout-sync/rollout/catalog"
)

func BenchmarkEncode(b *testing.B) {
	benchmark(b, func(p []byte, rows []catalog.Row) error { _, err := catalog.Encode(rows); return err })
}

func BenchmarkDecode(b *testing.B) {
	benchmark(b, func(p []byte, rows []catalog.Row) error { _, err := catalog.Decode(p); return err })
}

func benchmark(b *testing.B, do func(p []byte, rows []catalog.Row) error) {
	for _, n := range []int{1, 10, 300, 10000} {
		b.Run(fmt.Sprintf("rows=%d", n), func(b *testing.B) {
			r := rand.New(rand.NewPCG(1, 1))
			var rows []catalog.Row
			for i := range n {
				row, _, _ := aRow(r, aName(i))
				rows = append(rows, row)
			}
			p, err := catalog.Encode(rows)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(len(p)), "file-B")
			b.ReportAllocs()
			for b.Loop() {
				if err := do(p, rows); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
