package bench

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	"github.com/bytedance/sonic"
	goccy "github.com/goccy/go-json"
	"github.com/tidwall/gjson"
	"github.com/valyala/fastjson"

	"github.com/rollout-sync/rollout/codec"
)

// lines returns 16 MiB of lines in the shape of real sessions: mostly some hundred
// bytes, now and then 40 KB; tool outputs, JSON in strings, base64.
func lines(b *testing.B) []byte {
	b.Helper()
	rnd := rand.New(rand.NewPCG(1, 2))
	words := strings.Fields(`func return err the of test main.go: if nil { } <b> é package range error 0x1f \"quoted\" warning: value not found`)
	text := func(n int) string {
		var s strings.Builder
		for s.Len() < n {
			for range 10 {
				s.WriteString(words[rnd.IntN(len(words))] + " ")
			}
			s.WriteString(`\n`)
		}
		return s.String()
	}
	var out []byte
	for ordinal := 0; len(out) < 16<<20; ordinal++ {
		size := min(int(300*rnd.ExpFloat64()), 16<<10)
		if rnd.IntN(40) == 0 {
			size = rnd.IntN(40 << 10)
		}
		id := rnd.Uint64()
		kind, payload := "response_item", ""
		switch rnd.IntN(5) {
		case 0:
			kind, payload = "event_msg", fmt.Sprintf(`{"type":"token_count","info":{"total_token_usage":{"input_tokens":%d,"cached_input_tokens":40,"output_tokens":80,"reasoning_output_tokens":20,"total_tokens":34052},"model_context_window":258400},"rate_limits":{"primary":null}}`, ordinal)
		case 1:
			payload = fmt.Sprintf(`{"type":"reasoning","id":"rs_%x","summary":[{"type":"summary_text","text":"**Thinking**"}],"content":null,"encrypted_content":"%s"}`, id, base64.StdEncoding.EncodeToString([]byte(text(size/2))))
		case 2:
			payload = fmt.Sprintf(`{"type":"function_call","id":"fc_%x","name":"shell","arguments":"{\"command\":[\"bash\",\"-lc\",\"%s\"]}","call_id":"call_%x"}`, id, text(size/4), id)
		case 3:
			payload = fmt.Sprintf(`{"type":"function_call_output","id":"fco_%x","call_id":"call_%x","output":"%s"}`, id, id, text(size*2))
		case 4:
			payload = fmt.Sprintf(`{"type":"message","id":"msg_%x","role":"assistant","content":[{"type":"output_text","text":"%s"}]}`, id, text(size))
		}
		out = fmt.Appendf(out, `{"timestamp":"2026-11-20T08:41:45.%03dZ","ordinal":%d,"type":"%s","payload":%s}`+"\n", rnd.IntN(1000), ordinal, kind, payload)
	}
	return out
}

// envelope is a line, payload left raw, for the libraries.
type envelope struct {
	Timestamp string          `json:"timestamp"`
	Ordinal   *uint64         `json:"ordinal"`
	Type      string          `json:"type"`
	Payload   json.RawMessage `json:"payload"`
	Metadata  json.RawMessage `json:"metadata"`
}

// Envelopes of lines, beside the libraries that might decode them. gjson and
// fastjson do less: gjson does not check the line, fastjson gives no payload bytes.
func BenchmarkEnvelope(b *testing.B) {
	text := lines(b)
	var parser fastjson.Parser
	for _, lib := range []struct {
		name   string
		decode func(line []byte) error
	}{
		{"codec", func(line []byte) error { _, err := codec.DecodeItem(line); return err }},
		{"encoding-json", func(line []byte) error { return json.Unmarshal(line, new(envelope)) }},
		{"goccy", func(line []byte) error { return goccy.Unmarshal(line, new(envelope)) }},
		{"sonic-std", func(line []byte) error { return sonic.ConfigStd.Unmarshal(line, new(envelope)) }},
		{"gjson", func(line []byte) error {
			gjson.GetManyBytes(line, "timestamp", "ordinal", "type", "payload")
			return nil
		}},
		{"fastjson", func(line []byte) error { _, err := parser.ParseBytes(line); return err }},
	} {
		b.Run("lib="+lib.name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				for line := range bytes.Lines(text) {
					if err := lib.decode(line); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}

// Payloads into codec's types, by codec and by the libraries.
func BenchmarkTyped(b *testing.B) {
	text := lines(b)
	type item struct {
		codec.Item
		typ reflect.Type
	}
	var items []item
	for line := range bytes.Lines(text) {
		it, err := codec.DecodeItem(line)
		if err != nil {
			b.Fatal(err)
		}
		payload, err := it.Decode()
		if err != nil {
			b.Fatal(err)
		}
		items = append(items, item{it, reflect.TypeOf(payload).Elem()})
	}
	into := func(unmarshal func([]byte, any) error) func(item) error {
		return func(it item) error { return unmarshal(it.Payload, reflect.New(it.typ).Interface()) }
	}
	for _, lib := range []struct {
		name   string
		decode func(item) error
	}{
		{"codec", func(it item) error { _, err := it.Decode(); return err }},
		{"encoding-json", into(json.Unmarshal)},
		{"goccy", into(func(p []byte, v any) error { return goccy.Unmarshal(p, v) })},
		{"sonic-std", into(sonic.ConfigStd.Unmarshal)},
	} {
		b.Run("lib="+lib.name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				for _, it := range items {
					if err := lib.decode(it); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
