package store

import (
	"iter"
	"slices"
	"strings"
)

// Ordered returns entries, which may come in any order, in the order and within
// the bounds that o asks for, one of each name. It is for those who implement
// List over something unsorted. With a Limit it holds at most twice that many
// entries at a time, else all of them.
func Ordered(o ListOptions, entries iter.Seq2[Entry, error]) iter.Seq2[Entry, error] {
	compare := func(a, b Entry) int { return strings.Compare(a.Name, b.Name) }
	if o.Desc {
		compare = func(a, b Entry) int { return strings.Compare(b.Name, a.Name) }
	}
	return func(yield func(Entry, error) bool) {
		var kept []Entry
		settle := func() {
			slices.SortFunc(kept, compare)
			kept = slices.CompactFunc(kept, func(a, b Entry) bool { return a.Name == b.Name })
			if o.Limit > 0 && len(kept) > o.Limit {
				kept = kept[:o.Limit]
			}
		}
		for e, err := range entries {
			if err != nil {
				yield(Entry{}, err)
				return
			}
			if o.Before != "" && e.Name >= o.Before {
				continue
			}
			kept = append(kept, e)
			if o.Limit > 0 && len(kept) >= 2*o.Limit+1024 {
				settle()
			}
		}
		settle()
		for _, e := range kept {
			if !yield(e, nil) {
				return
			}
		}
	}
}
