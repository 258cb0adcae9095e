// Package session writes sessions that are as large and as compressible as real
// ones, the same for the same seed, for the benchmarks.
package session

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"time"

	"github.com/rollout-sync/rollout/bench/tree"
	"github.com/rollout-sync/rollout/codec"
)

// What lines are like in real homes: half have no more than 740 bytes, nine in ten
// no more than 3.5 KB, one in some thousands is an image or an output of MBs.
const (
	lineMedian = 740
	lineP90    = 3500
	bigEvery   = 4000
	bigMin     = 512 << 10
	bigMax     = 4 << 20

	// Codex 0.118 writes the base instructions into each head.
	instructions = 20_000
)

// What a session has in all: log-normal too.
const (
	sizeMedian = 200 << 10
	sizeSigma  = 1.6
	sizeMin    = 32 << 10
	sizeMax    = 64 << 20
)

// z90 is how many standard deviations above its median the ninth decile of a normal
// distribution is.
const z90 = 1.2816

// A Writer makes sessions. Its text is not the same from one session to the next,
// but for the instructions, and is repeated within a session as outputs of tools
// are.
type Writer struct {
	rnd    *rand.Rand
	words  [1 << 12]string // by a Zipf law, the most frequent ones many times
	prompt string
	line   []byte
	recent []byte // text that is repeated now and then
}

// New returns a Writer whose sessions depend on seed and their order alone.
func New(seed uint64) *Writer {
	w := &Writer{rnd: rand.New(rand.NewPCG(seed, 8))}
	const letters = "etaoinshrdlucmfwypvbgkjqxz_./(){}:=-0123456789"
	vocabulary := make([]string, 1200)
	for i := range vocabulary {
		b := make([]byte, 2+w.rnd.IntN(9))
		for j := range b {
			b[j] = letters[min(w.rnd.IntN(len(letters)), w.rnd.IntN(len(letters)))]
		}
		vocabulary[i] = string(b) + " "
	}
	zipf := rand.NewZipf(w.rnd, 1.1, 8, uint64(len(vocabulary)-1))
	for i := range w.words {
		w.words[i] = vocabulary[zipf.Uint64()]
	}
	w.prompt = string(w.text(nil, instructions))
	return w
}

// Size returns how large a session might be.
func (w *Writer) Size() int64 {
	size := sizeMedian * math.Exp(sizeSigma*w.rnd.NormFloat64())
	return int64(min(max(size, sizeMin), sizeMax))
}

// Write writes lines of the session s until it has size bytes, or a line more. If
// line is not 0, each line but the head has at least so many.
func (w *Writer) Write(dst io.Writer, s tree.Session, size, line int64) error {
	at := codec.FormatTime(s.Start)
	w.recent = w.recent[:0]
	w.line = fmt.Appendf(w.line[:0], `{"timestamp":"%s","type":"session_meta","payload":{"id":"%s","timestamp":"%s","cwd":"%s","originator":"codex_cli_rs","cli_version":"0.118.0","source":"cli","model_provider":"openai","base_instructions":{"text":"%s"},"git":{"commit_hash":"c0ffee","branch":"main","repository_url":"git@host:team/project-%03d.git"}}}`+"\n",
		at, s.ID, at, tree.Cwd(s.Project), w.prompt, s.Project)
	w.line = fmt.Appendf(w.line, `{"timestamp":"%s","type":"event_msg","payload":{"type":"user_message","message":"fix the test of project %d","images":[]}}`+"\n", at, s.Project)
	for n := int64(0); ; {
		m, err := dst.Write(w.line)
		if err != nil {
			return err
		}
		if n += int64(m); n >= size {
			return nil
		}
		w.next(s, line)
	}
}

// next makes a line.
func (w *Writer) next(s tree.Session, atLeast int64) {
	sigma := math.Log(float64(lineP90)/lineMedian) / z90
	want := int(lineMedian * math.Exp(sigma*w.rnd.NormFloat64()))
	kind := w.rnd.IntN(6)
	if w.rnd.IntN(bigEvery) == 0 {
		want, kind = bigMin+w.rnd.IntN(bigMax-bigMin), 4+w.rnd.IntN(2)
	}
	if atLeast > 0 {
		want, kind = int(atLeast), 4+kind%2
	}
	at := codec.FormatTime(s.Start.Add(time.Duration(w.rnd.IntN(3600_000)) * time.Millisecond))
	id := w.rnd.Uint64()
	b := fmt.Appendf(w.line[:0], `{"timestamp":"%s","type":"`, at)
	want = max(want-200, 0) // what is around it
	switch kind {
	case 0:
		b = fmt.Appendf(b, `event_msg","payload":{"type":"token_count","info":{"total_token_usage":{"input_tokens":%d,"cached_input_tokens":%d,"output_tokens":%d,"reasoning_output_tokens":20,"total_tokens":%d},"model_context_window":258400},"rate_limits":{"primary":null,"secondary":null},"note":"`, id%1e6, id%1e5, id%1e4, id%1e6)
		b = append(w.text(b, want-200), `"}}`...)
	case 1:
		b = fmt.Appendf(b, `response_item","payload":{"type":"reasoning","id":"rs_%x","summary":[],"content":null,"encrypted_content":"`, id)
		b = append(w.base64(b, want), `"}}`...)
	case 2:
		b = fmt.Appendf(b, `response_item","payload":{"type":"message","id":"msg_%x","role":"assistant","content":[{"type":"output_text","text":"`, id)
		b = append(w.text(b, want), `"}]}}`...)
	case 3:
		b = fmt.Appendf(b, `response_item","payload":{"type":"function_call","id":"fc_%x","name":"shell","arguments":"{\"command\":[\"bash\",\"-lc\",\"`, id)
		b = fmt.Appendf(w.text(b, want), `\"]}","call_id":"call_%x"}}`, id)
	case 4:
		b = fmt.Appendf(b, `response_item","payload":{"type":"function_call_output","call_id":"call_%x","output":"`, id)
		b = append(w.text(b, want), `"}}`...)
	case 5:
		if want < 64<<10 { // no image is so small
			b = fmt.Appendf(b, `turn_context","payload":{"turn_id":"%x","cwd":"%s","approval_policy":"never","sandbox_policy":{"type":"danger-full-access"},"model":"gpt-5","summary":"auto","user_instructions":"%s`, id, tree.Cwd(s.Project), w.prompt[:min(want, 4000)])
			b = append(b, `"}}`...)
			break
		}
		b = append(b, `response_item","payload":{"type":"message","role":"user","content":[{"type":"input_image","image_url":"data:image/png;base64,`...)
		b = append(w.base64(b, want), `"}]}}`...)
	}
	w.line = append(b, '\n')
}

// text appends n bytes of text, or some more.
func (w *Writer) text(b []byte, n int) []byte {
	end := len(b) + n
	for len(b) < end {
		if len(w.recent) > 4096 && w.rnd.IntN(8) == 0 {
			from := w.rnd.IntN(len(w.recent) - 2048)
			part := w.recent[from : from+min(512+w.rnd.IntN(1536), end-len(b)+16)]
			// Whole words, as they are.
			part = part[bytes.IndexByte(part, ' ')+1:]
			b = append(append(b, part[:max(bytes.LastIndexByte(part, ' '), 0)]...), ' ')
			continue
		}
		start := len(b)
		for r, i := w.rnd.Uint64(), 0; i < 5 && len(b) < end; i++ {
			b = append(b, w.words[r%uint64(len(w.words))]...)
			r /= uint64(len(w.words))
		}
		if len(w.recent) < 64<<10 {
			w.recent = append(w.recent, b[start:]...)
		} else {
			copy(w.recent[w.rnd.IntN(len(w.recent)-64):], b[start:])
		}
	}
	return b
}

// base64 appends n bytes that do not compress, or a few more.
func (w *Writer) base64(b []byte, n int) []byte {
	var raw [48 * 8]byte
	for end := len(b) + n; len(b) < end; {
		for i := 0; i < len(raw); i += 8 {
			r := w.rnd.Uint64()
			for j := range 8 {
				raw[i+j] = byte(r >> (8 * j))
			}
		}
		b = base64.StdEncoding.AppendEncode(b, raw[:min(len(raw), (end-len(b))/4*3+3)])
	}
	return b
}

// File writes session i of a tree below home, last changed when it began, and
// returns its bytes.
func (w *Writer) File(home string, o tree.Options, i int, size, line int64) (int64, error) {
	s := o.At(i)
	file := filepath.Join(home, filepath.FromSlash(s.Path))
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return 0, err
	}
	f, err := os.Create(file)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	if err := w.Write(f, s, size, line); err != nil {
		return 0, err
	}
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	if err := f.Close(); err != nil {
		return 0, err
	}
	return info.Size(), os.Chtimes(file, s.Start, s.Start)
}
