package codec

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"iter"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// benchSession returns 64 MiB of lines in the shape of real sessions: half of them
// under 600 bytes, a tenth over 2.3 KB, up to 58 KB; instructions that come again,
// tool outputs, JSON in strings, and reasoning that cannot be compressed.
var benchSession = sync.OnceValue(func() []byte {
	rnd := rand.New(rand.NewPCG(1, 2))
	b := []byte(g2Meta + g2Context + g2User)
	instructions := benchText(rnd, 20<<10)
	for ordinal := 3; len(b) < 64<<20; ordinal++ {
		item := func(kind, payload string, args ...any) {
			b = fmt.Appendf(b, `{"timestamp":"2026-11-20T08:41:%02d.%03dZ","ordinal":%d,"type":"%s","payload":`, rnd.IntN(60), rnd.IntN(1000), ordinal, kind)
			b = fmt.Appendf(b, payload+"}\n", args...)
		}
		size := min(int(300*rnd.ExpFloat64()), 16<<10)
		if rnd.IntN(40) == 0 {
			size = 2000 + rnd.IntN(40<<10)
		}
		switch id := rnd.Uint64(); rnd.IntN(12) {
		case 0:
			item("turn_context", `{"turn_id":"%x","cwd":"/w/repo","approval_policy":"never","sandbox_policy":{"type":"danger-full-access"},"model":"gpt-5","effort":"medium","summary":"auto","user_instructions":"%s"}`, id, instructions[:rnd.IntN(4)*500])
		case 1, 2:
			item("event_msg", `{"type":"token_count","info":{"total_token_usage":{"input_tokens":%d,"cached_input_tokens":40,"output_tokens":80,"reasoning_output_tokens":20,"total_tokens":34052},"last_token_usage":{"input_tokens":8559,"cached_input_tokens":10,"output_tokens":20,"reasoning_output_tokens":5,"total_tokens":8579},"model_context_window":258400},"rate_limits":{"primary":null,"secondary":null}}`, rnd.IntN(99999))
		case 3:
			item("response_item", `{"type":"reasoning","id":"rs_%x","summary":[{"type":"summary_text","text":"**Thinking**"}],"content":null,"encrypted_content":"%s"}`, id, benchBase64(rnd, size/2))
		case 4, 5:
			item("response_item", `{"type":"function_call","id":"fc_%x","name":"shell","arguments":"{\"command\":[\"bash\",\"-lc\",\"%s\"]}","call_id":"call_%x"}`, id, benchText(rnd, size/4), id)
		case 6, 7, 8:
			item("response_item", `{"type":"function_call_output","id":"fco_%x","call_id":"call_%x","output":"%s"}`, id, id, benchText(rnd, size*2))
		case 9:
			item("response_item", `{"type":"message","id":"msg_%x","role":"assistant","content":[{"type":"output_text","text":"%s"}]}`, id, benchText(rnd, size))
		case 10:
			item("event_msg", `{"type":"item_completed","thread_id":"%x","turn_id":"%x","item":{"type":"AgentMessage","id":"msg_%x","content":[{"type":"Text","text":"%s"}]},"started_at_ms":1795164226551,"completed_at_ms":1795164226551}`, id, id, id, benchText(rnd, size))
		case 11:
			item("event_msg", `{"type":"agent_message","message":"%s","phase":"final"}`, benchText(rnd, size))
		}
	}
	return b
})

// benchText returns about n bytes of what stands in a JSON string.
func benchText(rnd *rand.Rand, n int) string {
	words := strings.Fields(`func return err the of test main.go: if nil { } package string for range error line 0x1f \"quoted\" <b> é not found src/codec/item.go:42 warning: value is a an to and //`)
	var b strings.Builder
	for b.Len() < n {
		for range 3 + rnd.IntN(10) {
			b.WriteString(words[rnd.IntN(len(words))] + " ")
		}
		fmt.Fprintf(&b, `%d\n`, rnd.IntN(10000))
	}
	return b.String()
}

func benchBase64(rnd *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rnd.Uint32())
	}
	return base64.StdEncoding.EncodeToString(b)
}

// BenchmarkRecords reads all lines, forward and backward, with their payloads as they
// stand there or, which typed is, decoded. bench/ has decoding alone, beside the
// libraries that might do it.
func BenchmarkRecords(b *testing.B) {
	text := benchSession()
	forward := func() iter.Seq2[Record, error] { return Records(bytes.NewReader(text), 0) }
	backward := func() iter.Seq2[Record, error] {
		return RecordsBackward(bytes.NewReader(text), int64(len(text)), 0)
	}
	for _, tc := range []struct {
		name    string
		records func() iter.Seq2[Record, error]
		typed   bool
	}{
		{"order=forward/payload=raw", forward, false},
		{"order=forward/payload=typed", forward, true},
		{"order=backward/payload=raw", backward, false},
	} {
		b.Run(tc.name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				for rec, err := range tc.records() {
					if err != nil || rec.Err != nil {
						b.Fatal(err, rec.Err)
					}
					if !tc.typed {
						continue
					}
					if _, err := rec.Item.Decode(); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

func BenchmarkAppendItem(b *testing.B) {
	var items []Item
	for line := range bytes.Lines(benchSession()[:1<<20]) {
		if it, err := DecodeItem(line); err == nil {
			items = append(items, it)
		}
	}
	var buf []byte
	b.ReportAllocs()
	for b.Loop() {
		buf = buf[:0]
		for _, it := range items {
			var err error
			if buf, err = AppendItem(buf, it); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.SetBytes(int64(len(buf)))
}

// BenchmarkSeal seals, and in turns with it does what sealing cannot do without:
// compress the same frames, and hash. x-bare and x-bare+hash are its speed over
// theirs.
func BenchmarkSeal(b *testing.B) {
	plain := benchSession()
	enc := newEncoder()
	var sealing, encoding, hashing time.Duration
	b.SetBytes(int64(len(plain)))
	b.ReportAllocs()
	var frames [][]byte
	var stored []byte
	for rest := plain; len(rest) > 0; {
		n := min(len(rest), frameTarget)
		frames, rest = append(frames, rest[:n]), rest[n:]
	}
	for b.Loop() {
		start := time.Now()
		s := NewSealer(io.Discard, sealTime)
		_, err := s.Write(plain)
		if err := errors.Join(err, s.Close()); err != nil {
			b.Fatal(err)
		}
		sealing += time.Since(start)

		b.StopTimer()
		start = time.Now()
		for _, f := range frames {
			stored = enc.EncodeAll(f, stored[:0])
		}
		encoding += time.Since(start)
		start = time.Now()
		sha256.Sum256(plain)
		hashing += time.Since(start)
		b.StartTimer()
	}
	b.ReportMetric(encoding.Seconds()/sealing.Seconds(), "x-bare")
	b.ReportMetric((encoding+hashing).Seconds()/sealing.Seconds(), "x-bare+hash")
}

// BenchmarkRange reads a sealed file back, in turns with zstd's decoder alone:
// x-bare is its speed over that.
func BenchmarkRange(b *testing.B) {
	plain := benchSession()
	stored := seal(b, plain, 1<<20)
	fetch := func(_ context.Context, off, n int64) (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(stored[off : off+n])), nil
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		b.Fatal(err)
	}
	defer dec.Close()
	for _, tc := range []struct {
		name   string
		off, n int64
	}{{"part=whole", 0, -1}, {"part=end", -4096, -1}, {"part=head", 0, 1000}} {
		b.Run(tc.name, func(b *testing.B) {
			b.ReportAllocs()
			var total int64
			var reading, bare time.Duration
			for b.Loop() {
				start := time.Now()
				r, err := OpenSealed(fetch, int64(len(stored))).Range(context.Background(), tc.off, tc.n)
				if err != nil {
					b.Fatal(err)
				}
				if total, err = io.Copy(io.Discard, r); err != nil {
					b.Fatal(err)
				}
				_ = r.Close()
				reading += time.Since(start)
				if tc.n >= 0 || tc.off != 0 {
					continue
				}
				b.StopTimer()
				start = time.Now()
				err = dec.Reset(bytes.NewReader(stored))
				if err == nil {
					_, err = io.Copy(io.Discard, dec)
				}
				if err != nil {
					b.Fatal(err)
				}
				bare += time.Since(start)
				b.StartTimer()
			}
			b.SetBytes(total)
			if bare > 0 {
				b.ReportMetric(bare.Seconds()/reading.Seconds(), "x-bare")
			}
		})
	}
}
