package codec

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/klauspost/compress/zstd"
)

var sealTime = time.Date(2026, 11, 20, 8, 41, 45, 701000000, time.UTC)

// seal returns the sealed file of plain, written in steps of the given size.
func seal(t testing.TB, plain []byte, step int) []byte {
	t.Helper()
	var buf bytes.Buffer
	s := NewSealer(&buf, sealTime)
	for rest := plain; len(rest) > 0; {
		n, err := s.Write(rest[:min(step, len(rest))])
		if err != nil {
			t.Fatal(err)
		}
		rest = rest[n:]
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// A file counts what is fetched of it.
type file struct {
	stored  []byte
	fetches []string // "off+n"
}

func (f *file) fetch(_ context.Context, off, n int64) (io.ReadCloser, error) {
	if off < 0 || n < 0 || off+n > int64(len(f.stored)) {
		return nil, fmt.Errorf("fetch of %d+%d outside of %d bytes", off, n, len(f.stored))
	}
	f.fetches = append(f.fetches, fmt.Sprintf("%d+%d", off, n))
	return io.NopCloser(iotest.HalfReader(bytes.NewReader(f.stored[off : off+n]))), nil
}

func open(stored []byte) *Sealed {
	return OpenSealed((&file{stored: stored}).fetch, int64(len(stored)))
}

// readRange returns what s has of a range.
func readRange(s *Sealed, off, n int64) ([]byte, error) {
	r, err := s.Range(context.Background(), off, n)
	if err != nil {
		return nil, err
	}
	b, err := io.ReadAll(r)
	return b, errors.Join(err, r.Close())
}

// frameSizes returns the plain sizes of the frames.
func frameSizes(t testing.TB, stored []byte) (sizes []int) {
	t.Helper()
	x, err := open(stored).load(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	for i, f := range x.frames[1:] {
		sizes = append(sizes, int(f.plain-x.frames[i].plain))
	}
	return sizes
}

// text returns n bytes of lines, each so long with its '\n'.
func text(n, line int) string {
	l := strings.Repeat("x", line-1) + "\n"
	return strings.Repeat(l, n/line) + strings.Repeat("y", n%line)
}

func TestSealerCuts(t *testing.T) {
	t.Parallel()
	const KiB, MiB = 1 << 10, 1 << 20
	head := g2Meta + g2Context + g2User
	fill := func(n int) string { return text(n, 100) }
	for _, tc := range []struct {
		name, plain string
		want        []int
	}{
		{"empty", "", []int{0}},
		{"one newline", "\n", []int{1}},
		{"torn", "abc", []int{3}},
		{"no message, just within 256 KiB", fill(256 * KiB), []int{256 * KiB}},
		{"no message, one byte more", fill(256*KiB + 1), []int{256*KiB - 44, 45}},
		{"a line that ends just within 256 KiB", text(512*KiB, 256*KiB), []int{256 * KiB, 256 * KiB}},
		{"a line that does not", text(512*KiB+2, 256*KiB+1), []int{512*KiB + 2}},
		{"a message", head + g2Answer + g2Answer, []int{len(head), 2 * len(g2Answer)}},
		{"a message at the end", head, []int{len(head)}},
		{"a message without newline", head[:len(head)-1], []int{len(head) - 1}},
		{"a message and the turn_context behind it", g1Meta + g1User + g1Context + g1Tokens, []int{len(g1Meta + g1User + g1Context), len(g1Tokens)}},
		{"a message too late", fill(256*KiB-44) + head + "\n", []int{256*KiB - 44, len(head) + 1}},
		{"then a megabyte", head + text(3*MiB, 1*MiB), []int{len(head), MiB, MiB, MiB}},
		{"then a bit more", head + text(3*MiB+3, 1*MiB+1), []int{len(head), MiB + 1, MiB + 1, MiB + 1}},
		{"then a bit less", head + text(3*MiB-3, 1*MiB-1), []int{len(head), 2*MiB - 2, MiB - 1}},
		{"a long line", head + text(4*MiB, 4*MiB) + "a\n", []int{len(head), 4 * MiB, 2}},
		{"a line longer than a frame", head + text(4*MiB+1, 4*MiB+1) + "a\n", []int{len(head), 4 * MiB, 3}},
		{"a short line before it", head + "a\n" + text(9*MiB, 9*MiB) + "b\n", []int{len(head), 2, 4 * MiB, 4 * MiB, MiB, 2}},
		{"a line end at the last byte of a frame", head + "a\n" + text(4*MiB-2, 4*MiB-2) + "b\n", []int{len(head), 4 * MiB, 2}},
		{"just a frame left, torn", head + "a\n" + strings.Repeat("x", 4*MiB-2), []int{len(head), 4 * MiB}},
		{"no newline at all", strings.Repeat("x", 9*MiB), []int{4 * MiB, 4 * MiB, MiB}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			plain := []byte(tc.plain)
			stored := seal(t, plain, len(plain)+1)
			if got := frameSizes(t, stored); !slices.Equal(got, tc.want) {
				t.Errorf("frames of %v plain bytes, want %v", got, tc.want)
			}
			for _, step := range []int{7<<10 + 1, 64 << 10, 5 << 20} {
				if !bytes.Equal(seal(t, plain, step), stored) {
					t.Errorf("in steps of %d bytes it becomes another file", step)
				}
			}
			trailer, err := VerifySealed(bytes.NewReader(stored))
			if err != nil {
				t.Fatal(err)
			}
			lines := int64(strings.Count(tc.plain, "\n"))
			if tc.plain != "" && !strings.HasSuffix(tc.plain, "\n") {
				lines++
			}
			want := Trailer{Size: int64(len(plain)), Lines: lines, SHA256: sha256.Sum256(plain), ModTime: sealTime}
			if trailer != want {
				t.Errorf("trailer %+v, want %+v", trailer, want)
			}
			// Any decoder reads it, of which none knows our frames.
			dec, err := zstd.NewReader(bytes.NewReader(stored))
			if err != nil {
				t.Fatal(err)
			}
			defer dec.Close()
			if got, err := io.ReadAll(dec); err != nil || !bytes.Equal(got, plain) {
				t.Errorf("a zstd decoder reads %d of %d bytes, %v", len(got), len(plain), err)
			}
		})
	}
}

// The stored bytes do not depend on how the plain ones were split, nor on whether they
// are sealed at once or their hash is known, and a Sealer holds no more than a frame, and
// a step, of them.
func TestSealerSplits(t *testing.T) {
	t.Parallel()
	const MiB = 1 << 20
	head := g2Meta + g2Context + g2User
	for name, plain := range map[string]string{
		"short lines": head + text(9*MiB, 100),
		"no message":  text(3*MiB, 1000),
		"a small one": head,
		"a torn line": head[:len(head)-1],
		"nothing":     "",
		"long lines":  head + "a\n" + text(9*MiB, 9*MiB) + text(5*MiB, 3*MiB+7),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			want := seal(t, []byte(plain), 1000)
			before := []byte("before")
			sum := sha256.Sum256([]byte(plain))
			if got, err := Seal(before, []byte(plain), sum, sealTime); err != nil || !bytes.Equal(got, append(before, want...)) {
				t.Errorf("sealed at once it becomes another file, %v", err)
			}
			for seed := range uint64(20) {
				rnd := rand.New(rand.NewPCG(seed, 1))
				var got bytes.Buffer
				s := NewSealer(&got, sealTime)
				if seed%2 == 1 {
					s.SetSum(sum)
				}
				for rest := []byte(plain); len(rest) > 0; {
					p := rest[:min(1+rnd.IntN(1<<(1+rnd.IntN(24))), len(rest))]
					if n, err := s.Write(bytes.Clone(p)); err != nil || n != len(p) {
						t.Fatal(n, err)
					}
					if n := len(s.work.plain); n > frameMax {
						t.Fatalf("%d bytes are held", n)
					}
					rest = rest[len(p):]
				}
				if err := s.Close(); err != nil || !bytes.Equal(got.Bytes(), want) {
					t.Fatalf("split by seed %d it becomes another file, %v", seed, err)
				}
			}
		})
	}
}

// The head of a session, however large that is, takes one request of 32 KiB if it
// is a typical one, with long instructions, and never more than two.
func TestHeadRequests(t *testing.T) {
	t.Parallel()
	const first = 32 << 10 // what a store reads when it opens a file
	const huge = 1 << 30   // the session's stored size
	rnd := rand.New(rand.NewPCG(3, 4))
	words := make([]string, 400)
	for i := range words {
		words[i] = strconv.FormatUint(rnd.Uint64N(1<<30), 36)
	}
	instructions := func(n int) string {
		var b strings.Builder
		for b.Len() < n {
			b.WriteString(words[rnd.IntN(len(words))] + " ")
		}
		return strings.Replace(g1Meta, `"cwd"`, `"instructions":"`+b.String()+`","cwd"`, 1)
	}
	rest := instructions(2 << 20)
	for _, tc := range []struct {
		name     string
		meta     string
		requests int
	}{
		{"typical", instructions(40 << 10), 1},
		{"a first frame of more than 32 KiB", instructions(200 << 10), 2},
		{"a head of more than a frame", instructions(600 << 10), 2},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			plain := tc.meta + g1Context + g1User + rest
			f := &file{stored: seal(t, []byte(plain), 1<<20)}
			requests := 1
			s := OpenSealed(func(ctx context.Context, off, n int64) (io.ReadCloser, error) {
				requests++
				return f.fetch(ctx, off, min(n, int64(len(f.stored))-off))
			}, huge)
			s.SetHead(f.stored[:first])
			r, err := s.Range(context.Background(), 0, -1)
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			h, err := ReadHead(r)
			if err != nil || h.FirstUserMessage != "fix the test" || requests != tc.requests {
				t.Errorf("%d requests for %q, %v", requests, h.FirstUserMessage, err)
			}
		})
	}
}

// TestGolden holds the container to docs/format.md: the bytes of its example are
// what we write, and mean what it says.
func TestGolden(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../docs/format.md")
	if err != nil {
		t.Fatal(err)
	}
	_, example, ok := strings.Cut(string(doc), "```hex\n")
	example, _, ok2 := strings.Cut(example, "```")
	if !ok || !ok2 {
		t.Fatal("no example in docs/format.md")
	}
	var stored []byte
	for _, line := range strings.Split(strings.TrimSpace(example), "\n") {
		digits := regexp.MustCompile(`^[0-9a-f]{4}  ((?:[0-9a-f]{2} )*[0-9a-f]{2})(?:   .*)?$`).FindStringSubmatch(line)
		if digits == nil {
			t.Fatalf("cannot read %q", line)
		}
		b, err := hex.DecodeString(strings.ReplaceAll(digits[1], " ", ""))
		if err != nil || line[:4] != fmt.Sprintf("%04x", len(stored)) {
			t.Fatalf("%q: %v, or not at %04x", line, err, len(stored))
		}
		stored = append(stored, b...)
	}

	plain := []byte("{\"a\":1}\n{\"b\":2}\n")
	if got := seal(t, plain, 100); !bytes.Equal(got, stored) {
		t.Errorf("we write\n%s", hex.Dump(got))
	}
	got, err := VerifySealed(bytes.NewReader(stored))
	want := Trailer{Size: 16, Lines: 2, SHA256: sha256.Sum256(plain), ModTime: sealTime}
	if err != nil || got != want {
		t.Errorf("got %+v, %v\nwant %+v", got, err, want)
	}
	if b, err := readRange(open(stored), 0, -1); err != nil || !bytes.Equal(b, plain) {
		t.Errorf("plain bytes %q, %v", b, err)
	}
}

func TestSealerModTime(t *testing.T) {
	t.Parallel()
	for _, want := range []time.Time{{}, time.Unix(0, 0), time.Unix(-1, 5), sealTime.In(time.FixedZone("", 60))} {
		var buf bytes.Buffer
		s := NewSealer(&buf, want)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		got, err := VerifySealed(&buf)
		if err != nil || !got.ModTime.Equal(want) || got.ModTime.IsZero() != want.IsZero() || got != s.Trailer() {
			t.Errorf("%v becomes %v, %v", want, got.ModTime, err)
		}
	}
}

// failAfter fails once it has taken n bytes.
type failAfter struct{ n int }

var errFull = errors.New("disk full")

func (w *failAfter) Write(p []byte) (int, error) {
	if w.n -= len(p); w.n < 0 {
		return 0, errFull
	}
	return len(p), nil
}

func TestSealerErrors(t *testing.T) {
	t.Parallel()
	plain := []byte(g2Meta + g2Context + g2User + g2Answer)
	whole := len(seal(t, plain, len(plain)))
	for _, n := range []int{0, 100, whole - 1} {
		s := NewSealer(&failAfter{n}, sealTime)
		_, err := s.Write(plain)
		if err != nil && err != errFull {
			t.Errorf("after %d bytes: Write: %v", n, err)
		}
		for range 2 {
			if err := s.Close(); err != errFull {
				t.Errorf("after %d bytes: Close: %v", n, err)
			}
			if _, err := s.Write(plain); err != errFull {
				t.Errorf("after %d bytes: Write after Close: %v", n, err)
			}
		}
		if s.Trailer() != (Trailer{}) {
			t.Errorf("after %d bytes: a trailer of a failed file", n)
		}
	}

	w := &failAfter{whole}
	s := NewSealer(w, sealTime)
	if _, err := s.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil || w.n != 0 {
		t.Fatalf("%v, %d bytes left", err, w.n)
	}
	if _, err := s.Write(plain); err == nil {
		t.Error("Write after Close succeeds")
	}
	if err := s.Close(); err == nil {
		t.Error("a second Close succeeds")
	}
}

// someSession has a head and four more frames of noise, which does not shrink.
func someSession() []byte {
	rnd := rand.NewChaCha8([32]byte{1})
	noise := make([]byte, 3<<20)
	_, _ = rnd.Read(noise)
	plain := []byte(g2Meta + g2Context + g2User)
	for b := range strings.SplitSeq(hex.EncodeToString(noise), "00") {
		plain = append(plain, b+"\n"...)
	}
	return plain
}

func TestRange(t *testing.T) {
	t.Parallel()
	plain := someSession()
	size := int64(len(plain))
	stored := seal(t, plain, 1<<20)
	x, err := open(stored).load(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	first, end := x.frames[1], x.frames[len(x.frames)-1]
	if len(x.frames) < 5 {
		t.Fatalf("only %d frames", len(x.frames)-1)
	}
	index := fmt.Sprintf("%d+%d", int64(len(stored))-tailLen, tailLen)
	all := fmt.Sprintf("0+%d", len(stored))
	frames := func(from, to int) string {
		return fmt.Sprintf("%d+%d", x.frames[from].stored, x.frames[to].stored-x.frames[from].stored)
	}
	last := len(x.frames) - 1
	for _, tc := range []struct {
		off, n  int64
		want    []byte
		fetches []string
	}{
		{0, -1, plain, []string{all}},
		{0, 0, nil, nil},
		{0, 10, plain[:10], []string{all}},
		{0, size + 1, plain, []string{all}},
		{1, 0, nil, []string{index}},
		{1, 9, plain[1:10], []string{index, frames(0, 1)}},
		{1, first.plain - 1, plain[1:first.plain], []string{index, frames(0, 1)}},
		{1, first.plain, plain[1 : first.plain+1], []string{index, frames(0, 2)}},
		{first.plain, 1, plain[first.plain : first.plain+1], []string{index, frames(1, 2)}},
		{x.frames[2].plain - 1, 2, plain[x.frames[2].plain-1 : x.frames[2].plain+1], []string{index, frames(1, 3)}},
		{first.plain, -1, plain[first.plain:], []string{index, frames(1, last)}},
		{size - 1, 5, plain[size-1:], []string{index, frames(last-1, last)}},
		{size, -1, nil, []string{index}},
		{size + 7, 5, nil, []string{index}},
		{-1, -1, plain[size-1:], []string{index, frames(last-1, last)}},
		{-5, 2, plain[size-5 : size-3], []string{index, frames(last-1, last)}},
		{-size, 3, plain[:3], []string{index, frames(0, 1)}},
		{-2 * size, -1, plain, []string{index, fmt.Sprintf("0+%d", end.stored)}},
		{1, 1<<63 - 1, plain[1:], []string{index, fmt.Sprintf("0+%d", end.stored)}},
	} {
		t.Run(fmt.Sprintf("%d+%d", tc.off, tc.n), func(t *testing.T) {
			t.Parallel()
			f := &file{stored: stored}
			got, err := readRange(OpenSealed(f.fetch, int64(len(stored))), tc.off, tc.n)
			if err != nil || !bytes.Equal(got, tc.want) {
				t.Errorf("%d bytes, %v; want %d", len(got), err, len(tc.want))
			}
			if fmt.Sprint(f.fetches) != fmt.Sprint(tc.fetches) {
				t.Errorf("fetches %v, want %v", f.fetches, tc.fetches)
			}
		})
	}
}

// Frames are decoded ahead, and yet a damaged one ends a read exactly where it
// begins, and none behind the range is read.
func TestRangeAhead(t *testing.T) {
	t.Parallel()
	const damaged = 6
	plain := strings.Repeat(benchBase64(rand.New(rand.NewPCG(5, 6)), 768<<10)+"\n", 12) // does not fit in the reader's buffer
	stored := seal(t, []byte(plain), 1<<20)
	x, err := open(stored).load(context.Background())
	if err != nil || len(x.frames) < 10 {
		t.Fatal(len(x.frames), err)
	}
	at := x.frames[damaged]
	broken := bytes.Clone(stored)
	broken[x.frames[damaged+1].stored-1] ^= 1 // of its checksum
	got, err := readRange(open(broken), 0, -1)
	var c *CorruptError
	if !errors.As(err, &c) || c.Offset != at.stored || string(got) != plain[:at.plain] {
		t.Errorf("%d bytes and %v, want %d and frame at %d", len(got), err, at.plain, at.stored)
	}
	reader := bytes.NewReader(stored)
	s := OpenSealed(func(context.Context, int64, int64) (io.ReadCloser, error) { return io.NopCloser(reader), nil }, int64(len(stored)))
	got, err = readRange(s, 0, at.plain)
	if read := reader.Size() - int64(reader.Len()); err != nil || string(got) != plain[:at.plain] || read > at.stored+16<<10 {
		t.Errorf("in front of the damage: %d bytes, %v; %d stored bytes of %d read", len(got), err, read, at.stored)
	}
	if _, err := VerifySealed(bytes.NewReader(broken)); !errors.As(err, &c) || c.Offset != at.stored {
		t.Errorf("verified: %v", err)
	}
}

// A caller that has the first bytes in hand reads the head without a fetch, and a
// small file altogether.
func TestSetHead(t *testing.T) {
	t.Parallel()
	plain := someSession()
	stored := seal(t, plain, 1<<20)
	f := &file{stored: stored}
	s := OpenSealed(f.fetch, int64(len(stored)))
	s.SetHead(stored[:32<<10])
	r, err := s.Range(context.Background(), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	h, err := ReadHead(r)
	if err != nil || h.FirstUserMessage != "fix it" || len(f.fetches) != 0 {
		t.Errorf("head %+v, %v; fetches %v", h, err, f.fetches)
	}
	rest, err := io.ReadAll(r)
	if err != nil || !bytes.HasSuffix(plain, rest) || len(rest) < len(plain)-128<<10 {
		t.Errorf("%d bytes behind the head, %v", len(rest), err)
	}
	if want := fmt.Sprintf("[%d+%d]", 32<<10, len(stored)-32<<10); fmt.Sprint(f.fetches) != want {
		t.Errorf("fetches %v, want %v", f.fetches, want)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}

	small := seal(t, plain[:1000], 1000)
	f = &file{stored: small}
	s = OpenSealed(f.fetch, int64(len(small)))
	s.SetHead(append(small, "more than the file has"...))
	if got, err := readRange(s, -10, -1); err != nil || !bytes.Equal(got, plain[990:1000]) || len(f.fetches) != 0 {
		t.Errorf("got %q, %v; fetches %v", got, err, f.fetches)
	}
}

func TestLargeTable(t *testing.T) {
	t.Parallel()
	// 9,000 tiny frames, such as a Sealer would not cut.
	var plain, stored []byte
	var entries []tableEntry
	enc := newEncoder()
	for i := range 9000 {
		line := fmt.Appendf(nil, "{\"record_type\":\"state\",\"n\":%d}\n", i)
		frame := enc.EncodeAll(line, nil)
		plain, stored = append(plain, line...), append(stored, frame...)
		entries = append(entries, tableEntry{uint32(len(frame)), uint32(len(line))})
	}
	frames := len(stored)
	sum := crc32.Checksum(stored, castagnoli)
	stored = appendTrailer(stored, Trailer{Size: int64(len(plain)), Lines: 9000, SHA256: sha256.Sum256(plain), ModTime: sealTime}, sum)
	stored = appendTable(stored, entries)
	if _, err := VerifySealed(bytes.NewReader(stored)); err != nil {
		t.Fatal(err)
	}
	f := &file{stored: stored}
	s := OpenSealed(f.fetch, int64(len(stored)))
	got, err := readRange(s, int64(len(plain))/2, 1000)
	if err != nil || !bytes.Equal(got, plain[len(plain)/2:len(plain)/2+1000]) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	want := []string{
		fmt.Sprintf("%d+%d", len(stored)-tailLen, tailLen),
		fmt.Sprintf("%d+%d", frames, len(stored)-tailLen-frames),
	}
	if len(f.fetches) != 3 || fmt.Sprint(f.fetches[:2]) != fmt.Sprint(want) {
		t.Errorf("fetches %v, want %v and the frames", f.fetches, want)
	}
}

// foreign returns zstd files that no Sealer made.
func foreign(t testing.TB, plain []byte) map[string][]byte {
	t.Helper()
	files := make(map[string][]byte)
	all := func(opts ...zstd.EOption) []byte {
		enc, err := zstd.NewWriter(nil, opts...)
		if err != nil {
			t.Fatal(err)
		}
		return enc.EncodeAll(plain, nil)
	}
	files["one frame"] = all()
	files["one frame without checksum"] = all(zstd.WithEncoderCRC(false)) // Codex's own
	var stream bytes.Buffer
	enc, err := zstd.NewWriter(&stream, zstd.WithWindowSize(64<<20))
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range [][]byte{plain[:len(plain)/3], plain[len(plain)/3:]} {
		_, err1 := enc.Write(part)
		if err := errors.Join(err1, enc.Flush()); err != nil {
			t.Fatal(err)
		}
	}
	if err := enc.Close(); err != nil {
		t.Fatal(err)
	}
	files["a stream without a size"] = stream.Bytes()
	skipped := append([]byte{0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0}, "abc"...)
	files["skippable frames around it"] = bytes.Join([][]byte{skipped, stream.Bytes(), skipped}, nil)
	return files
}

// Windows up to that of zstd --long=27 are decoded, larger ones refused before
// memory is taken for them.
func TestForeignWindow(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		descriptor byte // 10 less than the binary logarithm, times 8
		ok         bool
	}{{0x00, true}, {17 << 3, true}, {17<<3 + 1, false}, {21 << 3, false}} {
		stored := append([]byte{0x28, 0xb5, 0x2f, 0xfd, 0, tc.descriptor, 5<<3 | 1, 0, 0}, "{\"a\"}"[:5]...)
		b, err := readRange(open(stored), 0, -1)
		if tc.ok && (err != nil || string(b) != `{"a"}`) || !tc.ok && !errors.Is(err, ErrCorrupt) {
			t.Errorf("descriptor %#x: %q, %v", tc.descriptor, b, err)
		}
	}
}

// A frame of endless empty blocks is not gathered.
func TestEmptyBlocks(t *testing.T) {
	t.Parallel()
	stored := append([]byte("\x28\xb5\x2f\xfd\x24\x01"), make([]byte, 6<<20)...)
	_, err := readRange(open(stored), 0, -1)
	if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), "longer than its content") {
		t.Errorf("got %v", err)
	}
}

func TestForeign(t *testing.T) {
	t.Parallel()
	session := someSession()
	t.Run("small", func(t *testing.T) { testForeign(t, session[:5000]) })
	t.Run("large", func(t *testing.T) { testForeign(t, session) })
}

func testForeign(t *testing.T, plain []byte) {
	ctx := context.Background()
	size := int64(len(plain))
	for name, stored := range foreign(t, plain) {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := open(stored)
			if _, err := s.Trailer(ctx); err != ErrForeign {
				t.Errorf("Trailer: %v", err)
			}
			want := int64(-1)
			if strings.HasPrefix(name, "one frame") {
				want = size
			}
			if got, err := s.Size(ctx); err != nil || got != want {
				t.Errorf("Size: %d, %v, want %d", got, err, want)
			}
			if _, err := VerifySealed(bytes.NewReader(stored)); !errors.Is(err, ErrCorrupt) {
				t.Errorf("VerifySealed: %v", err)
			}
			for _, r := range [][2]int64{{0, -1}, {0, 5}, {5, 5}, {size / 2, 3 << 20}, {size - 1, -1}, {size, -1}, {size + 9, 9}, {-7, 3}, {-2 * size, 1}, {1, 0}} {
				off, n := r[0], r[1]
				if off < 0 {
					off = max(0, off+size)
				}
				off = min(off, size)
				if n < 0 || n > size-off {
					n = size - off
				}
				got, err := readRange(s, r[0], r[1])
				if err != nil || !bytes.Equal(got, plain[off:off+n]) {
					t.Errorf("Range(%d, %d): %d bytes, %v", r[0], r[1], len(got), err)
				}
			}
			r, err := s.Range(ctx, 1, -1)
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range []int{1, 0} { // nothing asked for is nothing read, in a frame too
				if got, err := r.Read(make([]byte, n)); got != n || err != nil {
					t.Errorf("Read of %d bytes: %d, %v", n, got, err)
				}
			}
			if err := r.Close(); err != nil {
				t.Error(err)
			}
			for _, cut := range []int{1, 2, 3, 4, 1000, len(stored) - 20} {
				got, err := readRange(open(stored[:len(stored)-cut]), 0, -1)
				isBorder := strings.HasPrefix(name, "skip") && cut == 11
				if !errors.Is(err, ErrCorrupt) && !isBorder || !bytes.HasPrefix(plain, got) {
					t.Errorf("with %d bytes less: %d bytes, %v", cut, len(got), err)
				}
			}
			for _, garbage := range []string{"\x28", "\x28\xb5\x2f", "garbage"} {
				if _, err := readRange(open(append(stored[:len(stored):len(stored)], garbage...)), 0, -1); !errors.Is(err, ErrCorrupt) {
					t.Errorf("with %q behind: %v", garbage, err)
				}
			}
		})
	}
}

func TestNotSealed(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	plain := []byte(g2Meta + g2Context + g2User + g2Answer)
	good := seal(t, plain, len(plain))
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	bomb := foreign(t, make([]byte, 64<<20))["one frame"]
	newer := bytes.Clone(good)
	i := bytes.Index(newer, []byte(trailerMagic))
	newer[i+len(trailerMagic)] = trailerFormat + 1
	newer = resum(newer)
	zero := bytes.Clone(good)
	zero[i+len(trailerMagic)] = 0
	zero = resum(zero)
	wrongHash := bytes.Clone(good)
	wrongHash[i+40]++
	wrongHash = resum(wrongHash)
	manyLines := bytes.Clone(good)
	manyLines[i+25]++ // above 2^40
	manyLines = resum(manyLines)
	checksums := bytes.Clone(good)
	checksums[len(checksums)-5] = 0x80 // what the descriptor says of a longer table
	nothing := appendTable(appendTrailer(nil, Trailer{SHA256: sha256.Sum256(nil)}, 0), nil)
	wrongSize := bytes.Clone(good)
	wrongSize[i+12]++
	wrongSize = resum(wrongSize)
	wrongSum := bytes.Clone(good)
	wrongSum[i+70]++
	wrongSum = resum(wrongSum)
	unchecked := sealUnchecked(t, plain)
	wrongLines := bytes.Clone(good)
	wrongLines[i+20]++
	wrongLines = resum(wrongLines)

	for _, tc := range []struct {
		name                    string
		stored                  []byte
		trailer, verify, range_ error
	}{
		{"empty", nil, ErrCorrupt, ErrCorrupt, ErrCorrupt},
		{"text", plain, ErrCorrupt, ErrCorrupt, ErrCorrupt},
		{"two of ours", join(good, good), ErrCorrupt, ErrCorrupt, ErrCorrupt},
		{"something behind", join(good, []byte("x")), ErrCorrupt, ErrCorrupt, ErrCorrupt},
		{"a bomb before ours", join(bomb, good), ErrCorrupt, ErrCorrupt, ErrCorrupt},
		{"no frames", good[i-8:], ErrCorrupt, ErrCorrupt, ErrCorrupt},
		{"no frames, and none promised", nothing, ErrCorrupt, ErrCorrupt, ErrCorrupt},
		{"more lines than bytes", manyLines, ErrCorrupt, ErrCorrupt, ErrCorrupt},
		{"a seek table of another kind", checksums, ErrCorrupt, ErrCorrupt, nil}, // not looked at
		{"a newer format", newer, errors.ErrUnsupported, errors.ErrUnsupported, errors.ErrUnsupported},
		{"format zero", zero, ErrCorrupt, ErrCorrupt, ErrCorrupt},
		{"another size", wrongSize, ErrCorrupt, ErrCorrupt, ErrCorrupt},
		{"another checksum of the frames", wrongSum, nil, ErrCorrupt, ErrCorrupt},
		{"frames without checksums", unchecked, nil, ErrCorrupt, nil},
		{"another hash", wrongHash, nil, ErrCorrupt, nil}, // the frames have checksums
		{"another number of lines", wrongLines, nil, ErrCorrupt, nil},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			if _, err := open(tc.stored).Trailer(ctx); !errors.Is(err, tc.trailer) {
				t.Errorf("Trailer: %v, want %v", err, tc.trailer)
			}
			if _, err := VerifySealed(bytes.NewReader(tc.stored)); !errors.Is(err, tc.verify) {
				t.Errorf("VerifySealed: %v, want %v", err, tc.verify)
			}
			if _, err := readRange(open(tc.stored), 0, -1); !errors.Is(err, tc.range_) {
				t.Errorf("Range: %v, want %v", err, tc.range_)
			}
		})
	}
}

// sealUnchecked is a Sealer that leaves out the frames' checksums.
func sealUnchecked(t *testing.T, plain []byte) []byte {
	t.Helper()
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderCRC(false), zstd.WithSingleSegment(true))
	if err != nil {
		t.Fatal(err)
	}
	stored := enc.EncodeAll(plain, nil)
	entry := tableEntry{uint32(len(stored)), uint32(len(plain))}
	trailer := Trailer{Size: int64(len(plain)), Lines: int64(bytes.Count(plain, newline)), SHA256: sha256.Sum256(plain)}
	stored = appendTrailer(stored, trailer, crc32.Checksum(stored, castagnoli))
	return appendTable(stored, []tableEntry{entry})
}

// resum gives the trailer of a stored file a checksum that fits.
func resum(stored []byte) []byte {
	i := bytes.Index(stored, []byte(trailerMagic))
	end := i + trailerLen - 4
	binary.LittleEndian.PutUint32(stored[end:], crc32.Checksum(stored[i:end], castagnoli))
	return stored
}

// A seek table that lies costs an error, not memory and not wrong bytes.
func TestLyingTable(t *testing.T) {
	t.Parallel()
	plain := []byte(g2Meta + g2Context + g2User + g2Answer)
	good := seal(t, plain, len(plain))
	x, err := open(good).load(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	a := tableEntry{uint32(x.frames[1].stored), uint32(x.frames[1].plain)}
	b := tableEntry{uint32(x.frames[2].stored) - a.stored, uint32(x.frames[2].plain) - a.plain}
	head := good[:len(good)-int(tableLen(2))]
	for name, entries := range map[string][]tableEntry{
		"moved border":         {{a.stored + 1, a.plain}, {b.stored - 1, b.plain}},
		"moved plain border":   {{a.stored, a.plain + 1}, {b.stored, b.plain - 1}},
		"one frame":            {{a.stored + b.stored, a.plain + b.plain}},
		"an empty one more":    {a, {0, 0}, b},
		"more than the file":   {a, {b.stored, b.plain + 1<<30}},
		"outside of the file":  {a, {b.stored + 1<<30, b.plain}},
		"wrapping around":      {{a.stored - 1<<31, a.plain}, {b.stored - 1<<31, b.plain}},
		"without entries":      {},
		"fewer than there are": {a},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			stored := appendTable(bytes.Clone(head), entries)
			if _, err := VerifySealed(bytes.NewReader(stored)); !errors.Is(err, ErrCorrupt) {
				t.Errorf("VerifySealed: %v", err)
			}
			s := open(stored)
			var failed error
			for off := range int64(len(plain)) {
				got, err := readRange(s, off, 1)
				if err == nil && string(got) != string(plain[off]) {
					t.Fatalf("byte %d is %q instead of %q", off, got, plain[off])
				}
				failed = errors.Join(failed, err)
			}
			if !errors.Is(failed, ErrCorrupt) {
				t.Errorf("no range fails: %v", failed)
			}
		})
	}

	// A skippable frame, hidden in a frame's stored size.
	hidden := "\x50\x2a\x4d\x18\x00\x00\x00\x00"
	frames := string(good[:a.stored]) + hidden + string(good[a.stored:a.stored+b.stored])
	trailer := Trailer{Size: int64(len(plain)), Lines: 4, SHA256: sha256.Sum256(plain)}
	for name, entries := range map[string][]tableEntry{
		"behind": {{a.stored + uint32(len(hidden)), a.plain}, b},
		"before": {a, {b.stored + uint32(len(hidden)), b.plain}},
	} {
		stored := appendTrailer([]byte(frames), trailer, 0)
		if _, err := readRange(open(appendTable(stored, entries)), 1, -1); !errors.Is(err, ErrCorrupt) {
			t.Errorf("a skippable frame %s a frame: %v", name, err)
		}
	}
}

// A file of a tebibyte, by its own account, with a table of more frames than
// there can be: nothing is fetched for that.
func TestHugeTable(t *testing.T) {
	t.Parallel()
	const stored = 1 << 40
	var foot []byte
	foot = binary.LittleEndian.AppendUint32(foot, maxFrames+1)
	foot = append(foot, 0)
	foot = binary.LittleEndian.AppendUint32(foot, tableMagic)
	var most int64
	s := OpenSealed(func(_ context.Context, off, n int64) (io.ReadCloser, error) {
		most = max(most, n)
		b := make([]byte, n)
		if off+n == stored {
			copy(b[n-tableFootLen:], foot)
		}
		return io.NopCloser(bytes.NewReader(b)), nil
	}, stored)
	if _, err := s.Trailer(context.Background()); !errors.Is(err, ErrCorrupt) || most != tailLen {
		t.Errorf("%v, after a fetch of %d bytes", err, most)
	}
}

// TestDamage cuts a file at each byte and flips each bit.
func TestDamage(t *testing.T) {
	t.Parallel()
	plain := []byte(g2Meta + g2Context + g2User + strings.Repeat(g2Answer, 3))
	good := seal(t, plain, len(plain))
	x, err := open(good).load(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	check := func(what string, stored []byte, isBorder bool) {
		t.Helper()
		if _, err := VerifySealed(bytes.NewReader(stored)); !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: VerifySealed: %v", what, err)
		}
		// Cut behind a frame, the rest is a whole file that is not ours.
		_, err := open(stored).Trailer(context.Background())
		if isBorder && err != ErrForeign {
			t.Errorf("%s: Trailer: %v", what, err)
		}
		got, err := readRange(open(stored), 0, -1)
		if err == nil && !bytes.Equal(got, plain) && !isBorder || !bytes.HasPrefix(plain, got) {
			t.Errorf("%s: %d of %d bytes, %v", what, len(got), len(plain), err)
		}
		if err != nil && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %v", what, err)
		}
		off := int64(len(plain) - 20)
		got, err = readRange(open(stored), off, 10)
		if err == nil && !bytes.Equal(got, plain[off:off+10]) && !isBorder || err != nil && !errors.Is(err, ErrCorrupt) {
			t.Errorf("%s: %q at %d, %v", what, got, off, err)
		}
	}
	for n := range good {
		isBorder := int64(n) == x.frames[1].stored || int64(n) == x.frames[2].stored
		check(fmt.Sprintf("cut to %d", n), good[:n], isBorder)
		if _, err := readRange(open(good[:n]), 0, -1); err == nil && !isBorder {
			t.Errorf("cut to %d: Range does not see it", n)
		}
	}
	for i := range good {
		for bit := range 8 {
			bad := bytes.Clone(good)
			bad[i] ^= 1 << bit
			check(fmt.Sprintf("bit %d of byte %d", bit, i), bad, false)
		}
		bad := bytes.Clone(good)
		bad[i] ^= 0xff
		check(fmt.Sprintf("byte %d", i), bad, false)
	}
}

// What a store fails with is not damage.
func TestFetchErrors(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	plain := someSession()
	stored := seal(t, plain, 1<<20)
	offline := errors.New("offline")
	failing := func(n int64, offline error) *Sealed { // n bytes of each fetch come, then an error
		return OpenSealed(func(_ context.Context, off, _ int64) (io.ReadCloser, error) {
			if n < 0 {
				return nil, offline
			}
			return io.NopCloser(io.MultiReader(bytes.NewReader(stored[off:min(off+n, int64(len(stored)))]), iotest.ErrReader(offline))), nil
		}, int64(len(stored)))
	}
	x, err := open(stored).load(ctx)
	if err != nil {
		t.Fatal(err)
	}
	end := x.frames[len(x.frames)-1].stored
	// The second is what a broken HTTP connection gives.
	for _, offline := range []error{offline, io.ErrUnexpectedEOF} {
		for _, n := range []int64{-1, 0, 1, 9, 10, 11, 12, 1000, end - 1, end, end + 1, end + 9, end + 80, end + 84, end + 92} {
			for _, off := range []int64{0, 1} {
				got, err := readRange(failing(n, offline), off, -1)
				if needed := end + (1-off)*84; n >= needed { // with an index, the frames are enough
					if err != nil || !bytes.Equal(got, plain[off:]) {
						t.Errorf("%d bytes, then an error, from %d: %d bytes, %v", n, off, len(got), err)
					}
				} else if !errors.Is(err, offline) || errors.Is(err, ErrCorrupt) || !bytes.HasPrefix(plain[off:], got) {
					t.Errorf("%d bytes, then an error, from %d: %d bytes, %v", n, off, len(got), err)
				}
			}
			r := io.MultiReader(bytes.NewReader(stored[:max(0, n)]), iotest.ErrReader(offline))
			if _, err := VerifySealed(r); !errors.Is(err, offline) || errors.Is(err, ErrCorrupt) {
				t.Errorf("VerifySealed, %d bytes, then an error: %v", n, err)
			}
		}
	}
	s := failing(-1, offline)
	if _, err := s.Size(ctx); err != offline {
		t.Errorf("Size: %v", err)
	}
	if _, err := s.Trailer(ctx); err != offline {
		t.Errorf("Trailer: %v", err)
	}

	// A file that has become shorter is damage.
	short := OpenSealed((&file{stored: stored}).fetch, int64(len(stored)))
	short.fetch = func(_ context.Context, off, n int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(stored[off : off+n/2])), nil
	}
	if _, err := short.Trailer(ctx); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Trailer of a shorter file: %v", err)
	}
	if _, err := readRange(short, 0, -1); !errors.Is(err, ErrCorrupt) {
		t.Errorf("Range of a shorter file: %v", err)
	}

	// More than was asked for is not taken, and of the head no more either.
	for _, head := range []int64{0, 10, 1000} {
		s := OpenSealed(func(_ context.Context, off, _ int64) (io.ReadCloser, error) {
			return io.NopCloser(bytes.NewReader(stored[off:])), nil
		}, int64(len(stored)))
		s.SetHead(stored[:head])
		got, err := io.ReadAll(&source{ctx: ctx, s: s, pos: 5, end: 100})
		if err != nil || !bytes.Equal(got, stored[5:100]) {
			t.Errorf("from a generous fetch, with a head of %d bytes: %d bytes, %v", head, len(got), err)
		}
	}

	// A failure is not kept.
	s = failing(-1, offline)
	if _, err := s.Trailer(ctx); err != offline {
		t.Errorf("Trailer: %v", err)
	}
	f := &file{stored: stored}
	s.fetch = f.fetch
	for range 2 { // but an index is
		if size, err := s.Size(ctx); err != nil || size != int64(len(plain)) || len(f.fetches) != 1 {
			t.Errorf("Size: %d, %v, fetches %v", size, err, f.fetches)
		}
	}
}

type closer struct {
	io.Reader
	closed *int
}

func (c closer) Close() error { *c.closed++; return nil }

func TestRangeClose(t *testing.T) {
	t.Parallel()
	stored := seal(t, someSession(), 1<<20)
	closed := 0
	s := OpenSealed(func(_ context.Context, off, n int64) (io.ReadCloser, error) {
		return closer{bytes.NewReader(stored[off : off+n]), &closed}, nil
	}, int64(len(stored)))
	r, err := s.Range(context.Background(), 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(r, make([]byte, 10)); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.Close(); err != nil || closed != 1 {
			t.Errorf("Close: %v, closed %d times", err, closed)
		}
	}
	if n, err := r.Read(make([]byte, 10)); n != 0 || !errors.Is(err, os.ErrClosed) {
		t.Errorf("Read after Close: %d, %v", n, err)
	}
	if _, err := s.Trailer(context.Background()); err != nil || closed != 2 {
		t.Errorf("Trailer: %v, closed %d times", err, closed)
	}
}

func FuzzSealed(f *testing.F) {
	f.Add([]byte(g2Meta+g2Context+g2User+g2Answer), 1000, uint16(0), int64(3), int64(100))
	f.Add([]byte(g1Meta+g1User+g1Context+"\n\nx"), 7, uint16(1), int64(-3), int64(-1))
	f.Add([]byte(g2Meta+strings.Repeat("x", 300<<10)), 1<<10, uint16(0), int64(0), int64(0))
	f.Fuzz(func(t *testing.T, plain []byte, step int, times uint16, off, n int64) {
		step = max(1, step)
		if times%64 == 1 { // long enough for several frames, which takes its time
			plain = bytes.Repeat(plain, frameTarget/(len(plain)+1)*9/8)
		}
		if off <= -1<<62 || off >= 1<<62 {
			t.Skip()
		}
		stored := seal(t, plain, max(step, len(plain)/1000))
		if trailer, err := VerifySealed(bytes.NewReader(stored)); err != nil || trailer.SHA256 != sha256.Sum256(plain) {
			t.Fatalf("%+v, %v", trailer, err)
		}
		s := open(stored)
		s.SetHead(stored[:min(step, len(stored))])
		size := int64(len(plain))
		from := off
		if from < 0 {
			from = max(0, from+size)
		}
		from = min(from, size)
		to := size
		if n >= 0 && n < size-from {
			to = from + n
		}
		got, err := readRange(s, off, n)
		if err != nil || !bytes.Equal(got, plain[from:to]) {
			t.Fatalf("Range(%d, %d) of %d: %d bytes, %v", off, n, size, len(got), err)
		}
	})
}

func FuzzVerifySealed(f *testing.F) {
	plain := []byte(g2Meta + g2Context + g2User + g2Answer)
	good := seal(f, plain, len(plain))
	f.Add(good)
	f.Add(good[:len(good)-3])
	f.Add(good[100:])
	for _, stored := range foreign(f, plain) {
		f.Add(stored)
	}
	f.Fuzz(func(t *testing.T, stored []byte) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		trailer, err := VerifySealed(bytes.NewReader(stored))
		runtime.ReadMemStats(&after)
		if n := after.TotalAlloc - before.TotalAlloc; n > 64<<20+64*uint64(len(stored)) {
			t.Fatalf("%d bytes allocated for a file of %d", n, len(stored))
		}
		if err != nil && !errors.Is(err, ErrCorrupt) && !errors.Is(err, errors.ErrUnsupported) {
			t.Fatal(err)
		}
		s := open(stored)
		claimed, errTrailer := s.Trailer(context.Background())
		r, errRange := s.Range(context.Background(), 0, 16<<20)
		if errRange != nil {
			t.Fatal(errRange)
		}
		got, errRange := io.ReadAll(r)
		_ = r.Close()
		if err == nil {
			if errTrailer != nil || claimed != trailer {
				t.Fatalf("verified, but the trailer is %+v, %v", claimed, errTrailer)
			}
			if errRange != nil || sha256.Sum256(got) != trailer.SHA256 {
				t.Fatalf("verified, but read %d bytes, %v", len(got), errRange)
			}
		}
		if b, err := readRange(s, 5, 9); err == nil && errRange == nil && len(got) < 16<<20 {
			if want := got[min(5, len(got)):min(14, len(got))]; !bytes.Equal(b, want) {
				t.Fatalf("bytes 5 to 14 are %q, and %q in a whole read", b, want)
			}
		}
	})
}
