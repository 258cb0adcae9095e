package codec

import (
	"errors"
	"testing"
	"time"

	"github.com/google/uuid"
)

const (
	idV7 = "01a1f81e-6bb9-7a10-beb6-d7dfd0348be6" // 2026-11-20T08:41:45.657Z
	idV4 = "5b333900-1f1a-4d8e-9a0b-3c2f5e6d7a81"
)

func TestParseName(t *testing.T) {
	t.Parallel()
	v7, v4 := uuid.MustParse(idV7), uuid.MustParse(idV4)
	for _, tc := range []struct {
		base    string
		want    Name
		date    string
		wall    string
		hasTime bool
	}{
		{
			base: "rollout-2026-11-20T09-41-45-" + idV7 + ".jsonl",
			want: Name{"2026-11-20T09-41-45", v7, v7},
			date: "2026/11/20", wall: "2026-11-20T09:41:45Z", hasTime: true,
		},
		{
			base: "rollout-2026-11-20T09-41-45-" + idV4 + "_" + idV7 + ".jsonl", // a revert's
			want: Name{"2026-11-20T09-41-45", v4, v7},
			date: "2026/11/20", wall: "2026-11-20T09:41:45Z", hasTime: true,
		},
		{
			base: "rollout-2025-05-07-" + idV4 + ".jsonl", // before July 2025
			want: Name{"2025-05-07", v4, v4},
			date: "2025/05/07", wall: "2025-05-07T00:00:00Z",
		},
		{base: "rollout-" + idV4 + ".jsonl", want: Name{"", v4, v4}},
		{base: "rollout-2026-13-20T08-41-45-" + idV4 + ".jsonl", want: Name{"2026-13-20T08-41-45", v4, v4}},
		{base: "rollout-2026-11-20T08-41-45.5-" + idV4 + ".jsonl", want: Name{"2026-11-20T08-41-45.5", v4, v4}},
		{base: "rollout-my copy-" + idV4 + ".jsonl", want: Name{"my copy", v4, v4}},
	} {
		for _, suffix := range []string{"", ".zst"} {
			got, err := ParseName(tc.base + suffix)
			if err != nil || got != tc.want {
				t.Errorf("ParseName(%q) = %v, %v", tc.base+suffix, got, err)
				continue
			}
			if got.String() != tc.base {
				t.Errorf("String() = %q, want %q", got.String(), tc.base)
			}
			y, m, d, ok := got.Date()
			if date := y + "/" + m + "/" + d; ok != (tc.date != "") || ok && date != tc.date {
				t.Errorf("%q: Date() = %v, %v", tc.base, date, ok)
			}
			wall, ok := got.Wall()
			if ok != (tc.wall != "") || ok && wall.Format(time.RFC3339Nano) != tc.wall {
				t.Errorf("%q: Wall() = %v, %v", tc.base, wall, ok)
			}
			at, ok := got.Time()
			if ok != tc.hasTime || ok && at.Format(time.RFC3339Nano) != "2026-11-20T08:41:45.657Z" {
				t.Errorf("%q: Time() = %v, %v", tc.base, at, ok)
			}
		}
	}
}

func TestParseNameRefuses(t *testing.T) {
	t.Parallel()
	for _, base := range []string{
		"",
		"rollout-.jsonl",
		"rollout-2026-11-20T08-41-45.jsonl",
		"2026-11-20T08-41-45-" + idV7 + ".jsonl",
		"rollout-2026-11-20T08-41-45-" + idV7,
		"rollout-2026-11-20T08-41-45-" + idV7 + ".jsonl.gz",
		"rollout-2026-11-20T08-41-45-" + idV7 + ".jsonl.zst.zst",
		"rollout-2026-11-20T08-41-45-" + idV7[:35] + ".jsonl",
		"rollout-2026-11-20T08-41-45" + idV7 + ".jsonl",
		"rollout-2026-11-20T08-41-45_" + idV7 + ".jsonl",
		"rollout--" + idV7 + ".jsonl",
		"rollout-2026-11-20T08-41-45-01A1F81E-6BB9-7A10-BEB6-D7DFD0348BE6.jsonl",
		"rollout-2026-11-20T08-41-45-" + idV7 + "_" + idV7 + ".jsonl", // String would be another
		"sessions/rollout-2026-11-20T08-41-45-" + idV7 + ".jsonl",
		"rollout-../../x-" + idV7 + ".jsonl",
		`rollout-..\x-` + idV7 + ".jsonl",
		"rollout-a\x00b-" + idV7 + ".jsonl",
		"rollout-a\xffb-" + idV7 + ".jsonl",
	} {
		if n, err := ParseName(base); !errors.Is(err, ErrName) {
			t.Errorf("ParseName(%q) = %v, %v; want ErrName", base, n, err)
		}
	}
}

func TestNewName(t *testing.T) {
	t.Parallel()
	zone := time.FixedZone("", 2*60*60)
	n := NewName(time.Date(2026, 11, 20, 0, 41, 45, 999, zone), uuid.MustParse(idV7))
	want := "rollout-2026-11-20T00-41-45-" + idV7 + ".jsonl"
	if n.String() != want {
		t.Errorf("got %s, want %s", n, want)
	}
	if got, err := ParseName(want); err != nil || got != n {
		t.Errorf("ParseName gives %v, %v", got, err)
	}
}

func FuzzParseName(f *testing.F) {
	f.Add("rollout-2026-11-20T08-41-45-" + idV7 + ".jsonl.zst")
	f.Add("rollout-2025-05-07-" + idV4 + "_" + idV7 + ".jsonl")
	f.Add("rollout-" + idV4 + ".jsonl")
	f.Fuzz(func(t *testing.T, base string) {
		n, err := ParseName(base)
		if err != nil {
			if !errors.Is(err, ErrName) {
				t.Fatal(err)
			}
			return
		}
		if s := n.String(); s != base && s+".zst" != base {
			t.Fatalf("%q becomes %q", base, s)
		}
		if again, err := ParseName(n.String()); err != nil || again != n {
			t.Fatalf("%v becomes %v, %v", n, again, err)
		}
		if y, m, d, ok := n.Date(); ok && (len(y) != 4 || len(m) != 2 || len(d) != 2) {
			t.Fatalf("date %q/%q/%q", y, m, d)
		}
		n.Wall()
		n.Time()
	})
}
