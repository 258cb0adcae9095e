package bench

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/recorder"
	"github.com/rollout-sync/rollout/store/local"
)

// items returns n items of about 740 bytes, the median of real sessions.
func items(b *testing.B, n int) []codec.Item {
	b.Helper()
	list := make([]codec.Item, n)
	for i := range list {
		payload, err := json.Marshal(map[string]any{
			"type": "function_call_output", "call_id": fmt.Sprintf("call_%06d", i), "output": strings.Repeat("a line of output\n", 35),
		})
		if err != nil {
			b.Fatal(err)
		}
		list[i] = codec.Item{Type: "response_item", Payload: payload}
	}
	return list
}

// Recording, encoding included, not synced, beside a bare loop of write(2) of the
// same lines.
func BenchmarkRecord(b *testing.B) {
	list := items(b, 1000)
	b.Run("v=recorder", func(b *testing.B) {
		s, err := local.Open(b.TempDir(), nil)
		if err != nil {
			b.Fatal(err)
		}
		defer s.Close()
		r, err := recorder.New(s, recorder.Meta{Cwd: "/", Originator: "bench", CLIVersion: "0"}, nil)
		if err != nil {
			b.Fatal(err)
		}
		ctx := context.Background()
		for i := 0; b.Loop(); i++ {
			if err := r.Record(ctx, list[i%len(list)]); err != nil {
				b.Fatal(err)
			}
		}
		if err := r.Close(ctx); err != nil {
			b.Fatal(err)
		}
	})
	b.Run("v=write", func(b *testing.B) {
		f, err := os.OpenFile(filepath.Join(b.TempDir(), "x"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
		if err != nil {
			b.Fatal(err)
		}
		defer f.Close()
		lines := make([][]byte, len(list))
		for i, it := range list {
			it.Timestamp = "2026-01-02T03:04:05.678Z"
			if lines[i], err = codec.AppendItem(nil, it); err != nil {
				b.Fatal(err)
			}
		}
		for i := 0; b.Loop(); i++ {
			if _, err := f.Write(lines[i%len(lines)]); err != nil {
				b.Fatal(err)
			}
		}
	})
}
