package row

import (
	"bytes"
	"path/filepath"
	"strings"
	"testing"
)

func TestMet(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		ratio   Sample
		promise Bound
		want    string
	}{
		{Sample{9, 11, 10}, AtLeast(10), "yes"},
		{Sample{9, 11, 9.9}, AtLeast(10), "NO"},
		{Sample{9, 1, 2.5}, AtMost(2.5), "yes"},
		{Sample{1, 2.6, 9}, AtMost(2.5), "NO"},
		{Sample{0}, AtMost(0), "yes"},
		{Sample{1}, AtMost(0), "NO"},
		{nil, AtMost(0), "not measured"},
		{Sample{1}, Bound{}, "-"},
	} {
		if got := (Result{Ratio: c.ratio, Promise: c.promise}).Met(); got != c.want {
			t.Errorf("%v %v: %s, want %s", c.ratio, c.promise, got, c.want)
		}
	}
}

// What one program collects, another prints, and each figure stands in its column.
func TestCollect(t *testing.T) {
	file := filepath.Join(t.TempDir(), "rows")
	t.Setenv(Collect, file)
	a := Result{
		Row: 5, Work: "push", Unit: "s", Ours: Sample{3, 1, 2}, Peer: Sample{8, 4, 6}, PeerName: "rclone",
		Limit: Sample{1}, LimitName: "zstd", Ratio: Sample{8, 4, 6}.Over(Sample{3, 1, 2}), Promise: AtLeast(2),
	}
	b := Result{Row: 3, Work: "list", PeerName: "codex", Missing: "not installed", Promise: AtLeast(1000)}
	if err := Report(a); err != nil {
		t.Fatal(err)
	}
	if err := Report(b, Result{Row: 6, Failed: "no server"}); err != nil {
		t.Fatal(err)
	}
	results, err := Read(file)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := Print(&out, results); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		got = append(got, strings.Join(strings.Fields(line), " "))
	}
	want := []string{
		"row work ours peer limit ratio promised met",
		"5 push 2 s 6 s rclone 1 s zstd 3 (2.67–4) ≥ 2 yes",
		"3 list - codex missing: not installed - - ≥ 1000 not measured",
		"6 failed: no server NO",
	}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s", out.String())
	}
}
