package recorder_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"os"
	"time"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/recorder"
	"github.com/rollout-sync/rollout/store/memfs"
)

func Example() {
	ctx := context.Background()
	st := memfs.New(nil)
	r, err := recorder.New(st, recorder.Meta{
		ID:  uuid.MustParse("01a1f81e-b96c-7071-a214-a4467b4a9b32"), // to print it; leave it out
		Cwd: "/home/me/project", Originator: "my_agent", CLIVersion: "1.0.0",
	}, &recorder.Options{Now: func() time.Time { return time.Date(2026, 11, 20, 8, 41, 45, 0, time.UTC) }})
	if err != nil {
		log.Fatal(err)
	}
	// Codex lists a session by the event, and sends the response item to the model.
	err = r.Record(
		ctx,
		codec.Item{Type: codec.TypeEventMsg, Payload: []byte(`{"type":"user_message","message":"Hello"}`)},
		codec.Item{Type: codec.TypeResponseItem, Payload: []byte(`{"type":"message","role":"user","content":[{"type":"input_text","text":"Hello"}]}`)},
	)
	if err != nil {
		log.Fatal(err)
	}
	if err := r.Flush(ctx); err != nil { // durable from here on
		log.Fatal(err)
	}
	if err := r.Close(ctx); err != nil {
		log.Fatal(err)
	}

	f, err := st.Open(ctx, r.Name())
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	lines, err := f.Range(ctx, 0, -1)
	if err != nil {
		log.Fatal(err)
	}
	defer lines.Close()
	fmt.Println(r.Name())
	_, _ = io.Copy(os.Stdout, lines)
	// Output:
	// sessions/2026/11/20/rollout-2026-11-20T08-41-45-01a1f81e-b96c-7071-a214-a4467b4a9b32.jsonl
	// {"timestamp":"2026-11-20T08:41:45.000Z","type":"session_meta","payload":{"id":"01a1f81e-b96c-7071-a214-a4467b4a9b32","timestamp":"2026-11-20T08:41:45.000Z","cwd":"/home/me/project","originator":"my_agent","cli_version":"1.0.0","model_provider":null,"base_instructions":null,"history_mode":"legacy"}}
	// {"timestamp":"2026-11-20T08:41:45.000Z","type":"event_msg","payload":{"type":"user_message","message":"Hello"}}
	// {"timestamp":"2026-11-20T08:41:45.000Z","type":"response_item","payload":{"type":"message","role":"user","content":[{"type":"input_text","text":"Hello"}]}}
}
