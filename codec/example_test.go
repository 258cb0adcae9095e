package codec_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout/codec"
)

const session = `{"timestamp":"2026-11-20T08:41:45.701Z","type":"session_meta","payload":{"id":"01a1f81e-6bb9-7a10-beb6-d7dfd0348be6","timestamp":"2026-11-20T08:41:45.657Z","cwd":"/w/repo","originator":"codex_cli_rs","cli_version":"0.118.0","source":"cli"}}
{"timestamp":"2026-11-20T08:41:47.240Z","type":"turn_context","payload":{"cwd":"/w/repo","model":"gpt-5"}}
{"timestamp":"2026-11-20T08:41:47.241Z","type":"event_msg","payload":{"type":"user_message","message":"fix the test"}}
{"timestamp":"2026-11-20T08:41:52.102Z","type":"event_msg","payload":{"type":"agent_message","message":"Done."}}
`

func ExampleParseName() {
	n, err := codec.ParseName("rollout-2026-11-20T09-41-45-01a1f81e-6bb9-7a10-beb6-d7dfd0348be6.jsonl.zst")
	if err != nil {
		log.Fatal(err)
	}
	year, month, day, _ := n.Date()
	at, _ := n.Time()
	fmt.Println(n.Session)
	fmt.Printf("sessions/%s/%s/%s/%s\n", year, month, day, n)
	fmt.Println(at.Format(time.RFC3339Nano))

	_, err = codec.ParseName("notes.jsonl")
	fmt.Println(errors.Is(err, codec.ErrName))
	// Output:
	// 01a1f81e-6bb9-7a10-beb6-d7dfd0348be6
	// sessions/2026/11/20/rollout-2026-11-20T09-41-45-01a1f81e-6bb9-7a10-beb6-d7dfd0348be6.jsonl
	// 2026-11-20T08:41:45.657Z
	// true
}

func ExampleNewName() {
	id := uuid.MustParse("01a1f81e-6bb9-7a10-beb6-d7dfd0348be6")
	local := time.Date(2026, 11, 20, 9, 41, 45, 0, time.FixedZone("CET", 60*60))
	fmt.Println(codec.NewName(local, id))
	// Output:
	// rollout-2026-11-20T09-41-45-01a1f81e-6bb9-7a10-beb6-d7dfd0348be6.jsonl
}

func ExampleLines() {
	for line, err := range codec.Lines(strings.NewReader("{}\n\n{\"torn")) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%d %q %v\n", line.Offset, line.Bytes, line.Ended)
	}
	// Output:
	// 0 "{}" true
	// 3 "" true
	// 4 "{\"torn" false
}

func ExampleRecords() {
	damaged := "{\"timestamp\":\"2026-11-20T08:41:45.701Z\",\"type\":\"event_m" + session[strings.Index(session, "\n")+1:] + "\x00\x00"
	for rec, err := range codec.Records(strings.NewReader(damaged), 0) {
		if err != nil {
			log.Fatal(err)
		}
		if rec.Err != nil {
			fmt.Printf("line %d, byte %d, length %d: %v\n", rec.Line, rec.Offset, rec.Length, rec.Err)
			continue
		}
		fmt.Printf("line %d, byte %d: %s\n", rec.Line, rec.Offset, rec.Item.Type)
	}
	// Output:
	// line 1, byte 0, length 55: cut off
	// line 1, byte 55: turn_context
	// line 2, byte 162: event_msg
	// line 3, byte 281: event_msg
	// line 4, byte 394, length 2: NUL bytes
}

func ExampleAppendRecords() {
	// A crash cut off a line, and the next one was glued to it.
	line := codec.Line{Ended: true, Bytes: []byte(`{"timestamp":"t","type":"event_m{"timestamp":"t","type":"compacted","payload":{}}`)}
	for _, rec := range codec.AppendRecords(nil, line) {
		fmt.Println(rec.Offset, rec.Item.Type, rec.Err)
	}
	// Output:
	// 0  cut off
	// 32 compacted <nil>
}

func ExampleRecordsBackward() {
	for rec, err := range codec.RecordsBackward(strings.NewReader(session), int64(len(session)), 0) {
		if err != nil {
			log.Fatal(err)
		}
		payload, _ := rec.Item.Decode()
		if m, ok := payload.(*codec.EventUserMessage); ok {
			fmt.Printf("line %d from the end: %s\n", -rec.Line, m.Message)
			break
		}
	}
	// Output:
	// line 2 from the end: fix the test
}

func ExampleItem_Decode() {
	it, err := codec.DecodeItem([]byte(`{"timestamp":"2026-11-20T08:41:45.701Z","type":"response_item","payload":{"type":"function_call","name":"shell","call_id":"call_1"}}`))
	if err != nil {
		log.Fatal(err)
	}
	payload, err := it.Decode()
	if err != nil {
		log.Fatal(err)
	}
	switch p := payload.(type) {
	case *codec.FunctionCall:
		fmt.Println(p.Name, p.CallID)
	case *codec.Unknown:
		fmt.Println(p.Type, len(p.Raw), "bytes")
	}
	// Output:
	// shell call_1
}

func ExampleUpdate() {
	line := []byte(`{"timestamp":"…","type":"session_meta","payload":{"git": {"branch": "main", "new": 1e2}, "id":"\u0061"}}`)
	it, err := codec.DecodeItem(line)
	if err != nil {
		log.Fatal(err)
	}
	payload, err := it.Decode()
	if err != nil {
		log.Fatal(err)
	}
	payload.(*codec.SessionMeta).Git.Branch = "fix"
	line, err = codec.Update(line, payload)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Printf("%s\n", line)
	// Output:
	// {"timestamp":"…","type":"session_meta","payload":{"git": {"branch": "fix", "new": 1e2}, "id":"\u0061"}}
}

func ExampleDecodeItem() {
	for line, err := range codec.Lines(strings.NewReader(session)) {
		if err != nil {
			log.Fatal(err)
		}
		it, err := codec.DecodeItem(line.Bytes)
		if err != nil {
			fmt.Printf("byte %d: %v\n", line.Offset, err)
			continue
		}
		fmt.Printf("%s %s, %d bytes\n", it.Timestamp, it.Type, len(it.Payload))
	}
	// Output:
	// 2026-11-20T08:41:45.701Z session_meta, 167 bytes
	// 2026-11-20T08:41:47.240Z turn_context, 33 bytes
	// 2026-11-20T08:41:47.241Z event_msg, 48 bytes
	// 2026-11-20T08:41:52.102Z event_msg, 42 bytes
}

func ExampleAppendItem() {
	line, err := codec.AppendItem(nil, codec.Item{
		Timestamp: "2026-11-20T08:41:47.241Z",
		Type:      codec.TypeEventMsg,
		Payload:   []byte(`{ "type": "user_message", "message": "a <b>" }`),
	})
	fmt.Printf("%s%v\n", line, err)
	// Output:
	// {"timestamp":"2026-11-20T08:41:47.241Z","type":"event_msg","payload":{"type":"user_message","message":"a <b>"}}
	// <nil>
}

func ExampleReadHeadWhile() {
	// The directory is known from the first line, so no more is read.
	h, err := codec.ReadHeadWhile(strings.NewReader(session), func(_ codec.Record, h *codec.Head) bool { return !h.HasMeta })
	if err != nil {
		panic(err)
	}
	fmt.Println(h.Cwd, h.FirstUserMessage == "")
	// Output: /w/repo true
}

func ExampleReadHead() {
	h, err := codec.ReadHead(strings.NewReader(session))
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(h.StartTime, h.Source, h.Model)
	fmt.Println(h.FirstUserMessage)
	fmt.Println(h.End, "of", len(session), "bytes read, problems:", len(h.Problems))
	// Output:
	// 2026-11-20 08:41:45.657 +0000 UTC cli gpt-5
	// fix the test
	// 467 of 580 bytes read, problems: 0
}

func ExampleReadThreadNames() {
	index, err := codec.AppendThreadName(nil, codec.ThreadName{ID: "a", Name: "first name"})
	if err != nil {
		log.Fatal(err)
	}
	index, err = codec.AppendThreadName(index, codec.ThreadName{ID: "a", Name: "second name"})
	if err != nil {
		log.Fatal(err)
	}
	names, err := codec.ReadThreadNames(bytes.NewReader(index))
	if err != nil {
		log.Fatal(err)
	}
	for _, id := range slices.Sorted(maps.Keys(names)) {
		fmt.Println(id, names[id].Name)
	}
	// Output:
	// a second name
}

func ExampleAppendThreadName() {
	line, err := codec.AppendThreadName(nil, codec.ThreadName{
		ID:        "01a1f81e-6bb9-7a10-beb6-d7dfd0348be6",
		Name:      "the flaky test",
		UpdatedAt: time.Date(2026, 11, 20, 8, 51, 38, 85376129, time.UTC),
	})
	fmt.Printf("%s%v\n", line, err)
	// Output:
	// {"id":"01a1f81e-6bb9-7a10-beb6-d7dfd0348be6","thread_name":"the flaky test","updated_at":"2026-11-20T08:51:38.085376129Z"}
	// <nil>
}

func ExampleSealer() {
	var stored bytes.Buffer
	s := codec.NewSealer(&stored, time.Date(2026, 11, 20, 8, 41, 52, 0, time.UTC))
	if _, err := io.WriteString(s, session); err != nil {
		log.Fatal(err)
	}
	if err := s.Close(); err != nil {
		log.Fatal(err)
	}
	t, err := codec.VerifySealed(&stored)
	fmt.Println(t == s.Trailer(), err)
	fmt.Println(t.Size, t.Lines, t.ModTime)
	// Output:
	// true <nil>
	// 580 4 2026-11-20 08:41:52 +0000 UTC
}

func ExampleOpenSealed() {
	ctx := context.Background()
	var object bytes.Buffer // stands for an object in a bucket
	sealer := codec.NewSealer(&object, time.Time{})
	if _, err := io.WriteString(sealer, session); err != nil {
		log.Fatal(err)
	}
	if err := sealer.Close(); err != nil {
		log.Fatal(err)
	}

	fetch := func(_ context.Context, off, n int64) (io.ReadCloser, error) {
		return io.NopCloser(io.NewSectionReader(bytes.NewReader(object.Bytes()), off, n)), nil
	}
	s := codec.OpenSealed(fetch, int64(object.Len()))
	t, err := s.Trailer(ctx)
	if err != nil {
		log.Fatal(err)
	}
	r, err := s.Range(ctx, -29, -1)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	end, err := io.ReadAll(r)
	fmt.Printf("%d bytes, the last ones %q, %v\n", t.Size, end, err)
	// Output:
	// 580 bytes, the last ones "message\",\"message\":\"Done.\"}}\n", <nil>
}

func ExampleVerifySealed() {
	var stored bytes.Buffer
	s := codec.NewSealer(&stored, time.Time{})
	if _, err := io.WriteString(s, session); err != nil {
		log.Fatal(err)
	}
	if err := s.Close(); err != nil {
		log.Fatal(err)
	}
	cut := stored.Bytes()[:100]
	_, err := codec.VerifySealed(bytes.NewReader(cut))
	fmt.Println(errors.Is(err, codec.ErrCorrupt), err)
	// Output:
	// true byte 0: this frame is cut off
}

func ExampleUnquote() {
	item, err := codec.DecodeItem([]byte(`{"timestamp":"t","type":"response_item","payload":{"type":"function_call_output","output":"ok\n"}}`))
	if err != nil {
		log.Fatal(err)
	}
	payload, err := item.Decode()
	if err != nil {
		log.Fatal(err)
	}
	text, ok := codec.Unquote(payload.(*codec.FunctionCallOutput).Output)
	fmt.Printf("%q %v\n", text, ok)
	// Output:
	// "ok\n" true
}

func ExampleTurns() {
	var turns codec.Turns
	for line, err := range codec.Lines(strings.NewReader(session)) {
		if err != nil {
			log.Fatal(err)
		}
		if it, err := codec.DecodeItem(line.Bytes); err == nil {
			turns.Add(it, line.Offset)
		}
	}
	fmt.Println("turns begin at", turns.Starts)
	// Output:
	// turns begin at [241]
}
