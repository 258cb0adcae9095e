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
	if a, b, c := l.Get(), l.Get(), l.Get(); a != 10 || b != 11 || c != 4 {
		t.Errorf("got %d, %d, %d", a, b, c)
	}
}

func TestBuffers(t *testing.T) {
	t.Parallel()
	b := spare.NewBuffers(1, 1)
	if p := b.Get(10); len(p) != 0 || cap(p) != 0 {
		t.Errorf("at first there are %d of %d bytes", len(p), cap(p))
	}
	b.Put(make([]byte, 2*spare.Border))
	b.Put(make([]byte, 100))
	if p := b.Get(spare.Border); len(p) != 0 || cap(p) != 100 {
		t.Errorf("small: %d of %d bytes", len(p), cap(p))
	}
	if p := b.Get(spare.Border + 1); len(p) != 0 || cap(p) != 2*spare.Border {
		t.Errorf("large: %d of %d bytes", len(p), cap(p))
	}
}
