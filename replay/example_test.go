package replay_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"os"

	"github.com/rollout-sync/rollout/replay"
	"github.com/rollout-sync/rollout/store/memfs"
)

// recorded is a store with one session.
func recorded() *memfs.Store {
	st := memfs.New(nil)
	w, err := st.Create(context.Background(), "sessions/2026/11/20/rollout-2026-11-20T08-41-45-01a1f81e-b96c-7071-a214-a4467b4a9b32.jsonl")
	if err != nil {
		log.Fatal(err)
	}
	defer w.Close()
	if err := w.Append([]byte(`{"timestamp":"2026-11-20T08:41:45.000Z","type":"session_meta","payload":{"id":"01a1f81e-b96c-7071-a214-a4467b4a9b32","cwd":"/home/me"}}
{"timestamp":"2026-11-20T08:41:46.000Z","type":"event_msg","payload":{"type":"user_message","message":"What time is it?"}}
{"timestamp":"2026-11-20T08:41:47.000Z","type":"response_item","payload":{"type":"function_call","name":"shell","arguments":"{\"command\":[\"date\",\"-u\"]}","call_id":"c1"}}
{"timestamp":"2026-11-20T08:41:48.000Z","type":"response_item","payload":{"type":"function_call_output","call_id":"c1","output":"Fri Nov 20 08:41:48 UTC 2026\n"}}
{"timestamp":"2026-11-20T08:41:49.0`)); err != nil {
		log.Fatal(err)
	}
	return st
}

func ExampleLoad() {
	const name = "sessions/2026/11/20/rollout-2026-11-20T08-41-45-01a1f81e-b96c-7071-a214-a4467b4a9b32.jsonl"
	var tally replay.Tally
	for it, err := range replay.Load(context.Background(), recorded(), name) {
		if err != nil {
			log.Fatal(err)
		}
		tally.Add(it)
		fmt.Println(it.Line, it.Offset, it.Type, it.Err)
	}
	fmt.Printf("%+v\n", tally)
	// Output:
	// 1 0 session_meta <nil>
	// 2 136 event_msg <nil>
	// 3 259 response_item <nil>
	// 4 434 response_item <nil>
	// 5 597  cut off
	// {ID:01a1f81e-b96c-7071-a214-a4467b4a9b32 Items:4 Problems:1}
}

func ExampleWriteText() {
	const name = "sessions/2026/11/20/rollout-2026-11-20T08-41-45-01a1f81e-b96c-7071-a214-a4467b4a9b32.jsonl"
	items := replay.Load(context.Background(), recorded(), name)
	if err := replay.WriteText(os.Stdout, replay.Entries(items), replay.TextOptions{}); err != nil {
		log.Fatal(err)
	}
	// Output:
	// session     01a1f81e-b96c-7071-a214-a4467b4a9b32
	// cwd         /home/me
	//
	// == turn 1, 2026-11-20T08:41:46.000Z
	//
	// user, 2026-11-20T08:41:46.000Z
	//   What time is it?
	//
	// call 1: shell
	//   date -u
	//
	// output of call 1, 1.0 s
	//   Fri Nov 20 08:41:48 UTC 2026
	//
	// line 5 cannot be read: cut off
	//
	// == turn 1: 2.0 s
	//
	// == end: 1 turn, 1 call, 2.0 s active, 1 problem
}

func ExampleWriteMarkdown() {
	const name = "sessions/2026/11/20/rollout-2026-11-20T08-41-45-01a1f81e-b96c-7071-a214-a4467b4a9b32.jsonl"
	items := replay.Load(context.Background(), recorded(), name)
	if err := replay.WriteMarkdown(os.Stdout, replay.Entries(items)); err != nil {
		log.Fatal(err)
	}
	// Output:
	// # Session
	//
	// - session: `01a1f81e-b96c-7071-a214-a4467b4a9b32`
	// - cwd: `/home/me`
	//
	// ## Turn 1
	//
	// `2026-11-20T08:41:46.000Z`
	//
	// **User**
	//
	// > What time is it?
	//
	// **Call 1** `shell`
	//
	// ```
	// date -u
	// ```
	//
	// **Output, 1.0 s**
	//
	// ```
	// Fri Nov 20 08:41:48 UTC 2026
	// ```
	//
	// **Line 5 cannot be read**
	//
	// > cut off
	//
	// Turn 1: 2.0 s
	//
	// ---
	//
	// 1 turn, 1 call, 2.0 s active, 1 problem
}

func ExampleWriteJSON() {
	const name = "sessions/2026/11/20/rollout-2026-11-20T08-41-45-01a1f81e-b96c-7071-a214-a4467b4a9b32.jsonl"
	items := replay.Load(context.Background(), recorded(), name)
	if err := replay.WriteJSON(os.Stdout, replay.Entries(items)); err != nil {
		log.Fatal(err)
	}
	// Output:
	// {"kind":"session","time":"2026-11-20T08:41:45.000Z","line":1,"session":{"id":"01a1f81e-b96c-7071-a214-a4467b4a9b32","cwd":"/home/me"}}
	// {"kind":"turn","turn":1,"time":"2026-11-20T08:41:46.000Z","line":2}
	// {"kind":"user","turn":1,"time":"2026-11-20T08:41:46.000Z","line":2,"text":"What time is it?"}
	// {"kind":"call","turn":1,"time":"2026-11-20T08:41:47.000Z","line":3,"call":{"number":1,"id":"c1","name":"shell","input":"date -u","arguments":"{\"command\":[\"date\",\"-u\"]}"},"result":{"output":"Fri Nov 20 08:41:48 UTC 2026\n","duration_ms":1000}}
	// {"kind":"problem","turn":1,"line":5,"text":"cut off"}
	// {"kind":"turn_end","turn":1,"time":"2026-11-20T08:41:48.000Z","line":5,"turn_end":{"duration_ms":2000}}
	// {"kind":"end","line":5,"totals":{"turns":1,"calls":1,"problems":1,"ended":"2026-11-20T08:41:48.000Z","active_ms":2000}}
}

func ExampleWriteHTML() {
	const name = "sessions/2026/11/20/rollout-2026-11-20T08-41-45-01a1f81e-b96c-7071-a214-a4467b4a9b32.jsonl"
	file, err := os.CreateTemp("", "transcript-*.html")
	if err != nil {
		log.Fatal(err)
	}
	defer os.Remove(file.Name())
	entries := replay.Redact(replay.Entries(replay.Load(context.Background(), recorded(), name)))
	if err := errors.Join(replay.WriteHTML(file, entries), file.Close()); err != nil {
		log.Fatal(err)
	}
}

func ExampleEntries() {
	const name = "sessions/2026/11/20/rollout-2026-11-20T08-41-45-01a1f81e-b96c-7071-a214-a4467b4a9b32.jsonl"
	for e, err := range replay.Entries(replay.Load(context.Background(), recorded(), name)) {
		if err != nil {
			log.Fatal(err)
		}
		if e.Kind == replay.KindCall && e.Result != nil {
			fmt.Printf("turn %d: %s took %d ms\n", e.Turn, e.Call.Input, e.Result.DurationMS)
		}
	}
	// Output:
	// turn 1: date -u took 1000 ms
}

func ExampleSummarizer() {
	ctx := context.Background()
	f, err := recorded().Open(ctx, "sessions/2026/11/20/rollout-2026-11-20T08-41-45-01a1f81e-b96c-7071-a214-a4467b4a9b32.jsonl")
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	r, err := f.Range(ctx, 0, -1)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	s := replay.NewSummarizer()
	if _, err := io.Copy(s, r); err != nil {
		log.Fatal(err)
	}
	sum := s.Sum()
	fmt.Println(sum.Turns, "turn,", sum.Calls, "call,", sum.Errors, "errors")
	// Output:
	// 1 turn, 1 call, 0 errors
}

func ExampleRedact() {
	const name = "sessions/2026/11/20/rollout-2026-11-20T08-41-45-01a1f81e-b96c-7071-a214-a4467b4a9b32.jsonl"
	entries := replay.Entries(replay.Load(context.Background(), recorded(), name))
	if err := replay.WriteMarkdown(io.Discard, replay.Redact(entries)); err != nil {
		log.Fatal(err)
	}
}

func ExampleFollow() {
	const name = "sessions/2026/11/20/rollout-2026-11-20T08-41-45-01a1f81e-b96c-7071-a214-a4467b4a9b32.jsonl"
	for it, err := range replay.Follow(context.Background(), recorded(), name) {
		if err != nil {
			log.Fatal(err)
		}
		if it.Line == 0 { // it waits for more
			break
		}
		fmt.Println(it.Line, it.Type)
	}
	// Output:
	// 1 session_meta
	// 2 event_msg
	// 3 response_item
	// 4 response_item
}

func ExampleClean() {
	fmt.Println(replay.Clean("\x1b[31mred\x1b[0m\a"))
	// Output:
	// red␇
}

func ExampleReconstruct() {
	const name = "sessions/2026/11/20/rollout-2026-11-20T08-41-45-01a1f81e-b96c-7071-a214-a4467b4a9b32.jsonl"
	// After its third line, where the tool has not answered yet.
	state, err := replay.Reconstruct(context.Background(), recorded(), name, &replay.Options{At: replay.AfterLine(3)})
	if err != nil {
		log.Fatal(err)
	}
	for _, item := range state.Items {
		fmt.Printf("%s\n", item)
	}
	fmt.Println("incomplete:", state.Incomplete)
	// Output:
	// {"type":"function_call","name":"shell","arguments":"{\"command\":[\"date\",\"-u\"]}","call_id":"c1"}
	// {"type":"function_call_output","call_id":"c1","output":"aborted"}
	// incomplete: true
}

func ExampleLoadUntil() {
	const name = "sessions/2026/11/20/rollout-2026-11-20T08-41-45-01a1f81e-b96c-7071-a214-a4467b4a9b32.jsonl"
	for it, err := range replay.LoadUntil(context.Background(), recorded(), name, replay.AfterLine(2), nil) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(it.Line, it.Type)
	}
	// Output:
	// 1 session_meta
	// 2 event_msg
}

func ExampleLoadLast() {
	const name = "sessions/2026/11/20/rollout-2026-11-20T08-41-45-01a1f81e-b96c-7071-a214-a4467b4a9b32.jsonl"
	for it, err := range replay.LoadLast(context.Background(), recorded(), name) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(it.Line, it.Type, it.Err)
	}
	// Output:
	// 1 session_meta <nil>
	// -4 event_msg <nil>
	// -3 response_item <nil>
	// -2 response_item <nil>
	// -1  cut off
}

func ExampleEndOf() {
	const name = "sessions/2026/11/20/rollout-2026-11-20T08-41-45-01a1f81e-b96c-7071-a214-a4467b4a9b32.jsonl"
	end, err := replay.EndOf(context.Background(), recorded(), name, replay.AfterLine(2), nil)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(end)
	_, err = replay.EndOf(context.Background(), recorded(), name, replay.AfterTurn(7), nil)
	fmt.Println(errors.Is(err, replay.ErrNoPoint))
	// Output:
	// 259
	// true
}
