package bench

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

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

// encodedLines returns the lines that the items become.
func encodedLines(b *testing.B, list []codec.Item) [][]byte {
	b.Helper()
	lines := make([][]byte, len(list))
	for i, it := range list {
		it.Timestamp = "2026-01-02T03:04:05.678Z"
		var err error
		if lines[i], err = codec.AppendItem(nil, it); err != nil {
			b.Fatal(err)
		}
	}
	return lines
}

func newRecorder(b *testing.B, o *recorder.Options) *recorder.Recorder {
	b.Helper()
	s, err := local.Open(b.TempDir(), nil)
	if err != nil {
		b.Fatal(err)
	}
	r, err := recorder.New(s, recorder.Meta{Cwd: "/", Originator: "bench", CLIVersion: "0"}, o)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := errors.Join(r.Close(context.Background()), s.Close()); err != nil {
			b.Error(err)
		}
	})
	return r
}

func newFile(b *testing.B) *os.File {
	b.Helper()
	f, err := os.OpenFile(filepath.Join(b.TempDir(), "x"), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { f.Close() })
	return f
}

// Recording, encoding included, not synced, beside a bare loop of write(2) of the
// same lines.
func BenchmarkRecord(b *testing.B) {
	list := items(b, 1000)
	encoded := encodedLines(b, list)
	b.Run("v=recorder", func(b *testing.B) {
		ctx := context.Background()
		r := newRecorder(b, &recorder.Options{Sync: recorder.SyncNever})
		b.SetBytes(int64(len(encoded[0])))
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if err := r.Record(ctx, list[i%len(list)]); err != nil {
				b.Fatal(err)
			}
		}
		if err := r.Flush(ctx); err != nil {
			b.Fatal(err)
		}
	})
	b.Run("v=write", func(b *testing.B) {
		f := newFile(b)
		b.SetBytes(int64(len(encoded[0])))
		for i := 0; b.Loop(); i++ {
			if _, err := f.Write(encoded[i%len(encoded)]); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// Recording durably with 64 callers at a time, each of which waits for its line to
// be on the disk, beside one loop of write(2) and fsync(2) of the same lines.
func BenchmarkRecordDurable(b *testing.B) {
	const callers = 64
	list := items(b, 1000)
	encoded := encodedLines(b, list)
	b.Run("v=recorder", func(b *testing.B) {
		r := newRecorder(b, nil)
		var mu sync.Mutex
		var flushes []time.Duration
		b.ReportAllocs()
		b.SetParallelism((callers + runtime.GOMAXPROCS(0) - 1) / runtime.GOMAXPROCS(0))
		b.RunParallel(func(pb *testing.PB) {
			ctx := context.Background()
			var own []time.Duration
			for i := 0; pb.Next(); i++ {
				start := time.Now()
				if err := errors.Join(r.Record(ctx, list[i%len(list)]), r.Flush(ctx)); err != nil {
					b.Error(err)
				}
				own = append(own, time.Since(start))
			}
			mu.Lock()
			defer mu.Unlock()
			flushes = append(flushes, own...)
		})
		report(b, flushes)
	})
	b.Run("v=fsync", func(b *testing.B) {
		f := newFile(b)
		var syncs []time.Duration
		for i := 0; b.Loop(); i++ {
			start := time.Now()
			_, err := f.Write(encoded[i%len(encoded)])
			if err := errors.Join(err, f.Sync()); err != nil {
				b.Fatal(err)
			}
			syncs = append(syncs, time.Since(start))
		}
		report(b, syncs)
	})
}

// report reports how long one call took.
func report(b *testing.B, calls []time.Duration) {
	b.Helper()
	slices.Sort(calls)
	b.ReportMetric(float64(len(calls))/b.Elapsed().Seconds(), "lines/s")
	b.ReportMetric(float64(calls[len(calls)/2].Microseconds()), "p50-µs")
	b.ReportMetric(float64(calls[len(calls)*99/100].Microseconds()), "p99-µs")
}
