package spare_test

import (
	"testing"

	"github.com/rollout-sync/rollout/internal/spare"
)

func TestList(t *testing.T) {
	t.Parallel()
	made := 0
	l := spare.NewList(2, func() int {
		made++
		return made
	})
	for want := 1; want <= 3; want++ {
		if got := l.Get(); got != want {
			t.Errorf("made %d, want %d", got, want)
		}
	}
	for v := range 3 {
		l.Put(10 + v) // the last is one too many
	}
	if a, b, c := l.Get(), l.Get(), l.Get(); a != 11 || b != 10 || c != 4 {
		t.Errorf("got %d, %d, %d", a, b, c)
	}
}

func TestBuffers(t *testing.T) {
	t.Parallel()
	const largest = 3 * spare.Border
	b := spare.NewBuffers(1, 1, largest)
	for n, want := range map[int]int{0: spare.Border, spare.Border: spare.Border, spare.Border + 1: largest, largest + 1: largest} {
		if p := b.Get(n); len(p) != 0 || cap(p) != want {
			t.Errorf("for %d bytes: %d of %d, want %d", n, len(p), cap(p), want)
		}
	}
	small, large := make([]byte, 100, spare.Border), make([]byte, 200, largest+10) // it has grown
	b.Put(nil)
	b.Put(make([]byte, spare.Border-1))
	b.Put(large)
	b.Put(small)
	if p := b.Get(1)[:100]; &p[0] != &small[0] {
		t.Error("the small one is not used again")
	}
	if p := b.Get(largest)[:200]; &p[0] != &large[0] {
		t.Error("the large one is not used again")
	}
}
