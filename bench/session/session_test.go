package session

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	"github.com/rollout-sync/rollout/bench/tree"
)

// The distribution is what the benchmarks are said to be measured with.
func TestWrite(t *testing.T) {
	t.Parallel()
	s := tree.Options{Sessions: 1, Days: 1}.At(0)
	var a, b bytes.Buffer
	for _, dst := range []*bytes.Buffer{&a, &b} {
		if err := New(1).Write(dst, s, 32<<20, 0); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(a.Bytes(), b.Bytes()) {
		t.Fatal("one seed, two sessions")
	}
	var sizes []int
	for line := range bytes.Lines(a.Bytes()) {
		if !json.Valid(line) {
			t.Fatalf("no JSON: %.200s", line)
		}
		sizes = append(sizes, len(line))
	}
	slices.Sort(sizes)
	p50, p90 := sizes[len(sizes)/2], sizes[len(sizes)*9/10]
	if p50 < 600 || p50 > 900 || p90 < 2500 || p90 > 4500 || sizes[len(sizes)-1] < bigMin {
		t.Errorf("p50 %d, p90 %d, longest %d", p50, p90, sizes[len(sizes)-1])
	}
}

// A long session has the turns that it says.
func TestCompacted(t *testing.T) {
	t.Parallel()
	s := tree.Options{Sessions: 1, Days: 1}.At(0)
	var text bytes.Buffer
	turns, err := New(1).Compacted(&text, s, 2<<20)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text.Bytes()) {
		if !json.Valid(line) {
			t.Fatalf("no JSON: %.200s", line)
		}
	}
	if n := bytes.Count(text.Bytes(), []byte(`"task_started"`)); n != turns || text.Len() < 2<<20 {
		t.Errorf("%d turns of %d, %d bytes", n, turns, text.Len())
	}
	if n := bytes.Count(text.Bytes(), []byte(`"compacted"`)); n < 4 || n > 5 {
		t.Errorf("compacted %d times", n)
	}
}
