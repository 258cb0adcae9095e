package codec

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"
)

func TestLines(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 300<<10)         // several of the reader's buffers
	pieces := strings.Repeat("0123456", 500_000) // 3.5 MB
	for _, tc := range []struct {
		name, in string
		want     []string // the lines' text, with '\n' if they have one
	}{
		{"empty", "", nil},
		{"one", "a\n", []string{"a\n"}},
		{"unterminated", "a\nb", []string{"a\n", "b"}},
		{"blank", "\n\r\n \n", []string{"\n", "\r\n", " \n"}},
		{"long", long + "\nb\n", []string{long + "\n", "b\n"}},
		{"long and torn", "a\n" + long, []string{"a\n", long}},
		{"two long", long + "\n" + long + "\n", []string{long + "\n", long + "\n"}},
		{"longer than what room grows to", pieces + "\n" + long + "\n" + pieces[:2<<20] + "\n" + long + pieces, []string{
			pieces + "\n", long + "\n", pieces[:2<<20] + "\n", long + pieces,
		}},
		{"as long as what room grows to", pieces[:1<<20-1] + "\n" + pieces[:1<<20] + "\n" + pieces[:1<<20+1], []string{
			pieces[:1<<20-1] + "\n", pieces[:1<<20] + "\n", pieces[:1<<20+1],
		}},
		{"as long as the buffer", long[:64<<10-1] + "\n" + long[:64<<10] + "\n", []string{long[:64<<10-1] + "\n", long[:64<<10] + "\n"}},
		{"bytes that are no text", "\x00\xff\n\x00", []string{"\x00\xff\n", "\x00"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			for name, r := range map[string]io.Reader{
				"whole":   strings.NewReader(tc.in),
				"by half": iotest.HalfReader(strings.NewReader(tc.in)),
				"EOF":     iotest.DataErrReader(strings.NewReader(tc.in)),
			} {
				var offset int64
				i := 0
				for line, err := range Lines(r) {
					if err != nil {
						t.Fatal(name, err)
					}
					if i == len(tc.want) {
						t.Fatal(name, "one line too many")
					}
					want := tc.want[i]
					text, ended := strings.CutSuffix(want, "\n")
					if line.Offset != offset || string(line.Bytes) != text || line.Ended != ended {
						t.Fatalf("%s: line %d is {%d, %d bytes, %v}, want {%d, %d bytes, %v}",
							name, i, line.Offset, len(line.Bytes), line.Ended, offset, len(text), ended)
					}
					offset += int64(len(want))
					i++
				}
				if i != len(tc.want) {
					t.Fatalf("%s: %d lines, want %d", name, i, len(tc.want))
				}
			}
		})
	}
}

// A long line is not gathered in ever larger room, all of which would stay behind
// until the next garbage collection.
func TestLinesMemory(t *testing.T) { // not parallel: it counts what is allocated
	const size = 32 << 20
	in := strings.Repeat("x", size)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for line, err := range Lines(strings.NewReader(in)) {
		if err != nil || len(line.Bytes) != size {
			t.Fatalf("%d bytes, %v", len(line.Bytes), err)
		}
	}
	runtime.ReadMemStats(&after)
	if got := after.TotalAlloc - before.TotalAlloc; got > 2*size+8<<20 {
		t.Errorf("%d MiB were allocated for a line of %d MiB", got>>20, size>>20)
	}
}

func TestLinesError(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	r := io.MultiReader(strings.NewReader("one\ntwo\nthr"), iotest.ErrReader(broken))
	var got []string
	for line, err := range Lines(r) {
		if err != nil {
			if err != broken || line.Offset != 8 || line.Bytes != nil {
				t.Errorf("error %v with %+v", err, line)
			}
			got = append(got, "error")
			continue
		}
		got = append(got, string(line.Bytes))
	}
	if want := "one two error"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// A file that grows while it is read: what follows the end is not looked at, so
// that no line comes in two parts.
func TestLinesGrowing(t *testing.T) {
	t.Parallel()
	r := &growing{parts: []string{"a\nb", "", "c\n"}}
	var got []string
	for line, err := range Lines(r) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(line.Bytes))
	}
	if want := "a b"; strings.Join(got, " ") != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// growing is at its end where a part is empty, and then goes on.
type growing struct{ parts []string }

func (g *growing) Read(p []byte) (int, error) {
	if len(g.parts) == 0 || g.parts[0] == "" {
		g.parts = g.parts[min(1, len(g.parts)):]
		return 0, io.EOF
	}
	n := copy(p, g.parts[0])
	g.parts = g.parts[1:]
	return n, nil
}

func TestLinesStop(t *testing.T) {
	t.Parallel()
	n := 0
	for range Lines(strings.NewReader("a\nb\nc\n")) {
		if n++; n == 2 {
			break
		}
	}
	if n != 2 {
		t.Errorf("%d iterations", n)
	}
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("a\nb\n\nc"))
	f.Add([]byte(strings.Repeat("x", 70<<10) + "\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		var out []byte
		for line, err := range Lines(iotest.HalfReader(bytes.NewReader(in))) {
			if err != nil {
				t.Fatal(err)
			}
			if line.Offset != int64(len(out)) || bytes.IndexByte(line.Bytes, '\n') >= 0 {
				t.Fatalf("a line at %d instead of %d", line.Offset, len(out))
			}
			out = append(out, line.Bytes...)
			if line.Ended {
				out = append(out, '\n')
			}
		}
		if !bytes.Equal(in, out) {
			t.Fatal("the lines are not the input")
		}
	})
}
