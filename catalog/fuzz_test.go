package catalog_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/rollout-sync/rollout/catalog"
	"github.com/rollout-sync/rollout/store"
)

// What was made to be harmful has a sum, too.
func FuzzDecode(f *testing.F) {
	r := rand.New(rand.NewPCG(5, 6))
	var rows []catalog.Row
	for n := range 3 {
		row, _, _ := aRow(r, aName(n))
		rows = append(rows, row)
	}
	p, err := catalog.Encode(rows)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(p)
	f.Add(p[:len(p)/2])
	f.Fuzz(func(t *testing.T, p []byte) {
		p = bytes.Clone(p)
		catalog.Seal(p)
		rows, err := catalog.Decode(p)
		if err != nil && (!errors.Is(err, store.ErrCorrupt) || rows != nil) {
			t.Errorf("%d rows, %v", len(rows), err)
		}
	})
}
