package replay_test

import (
	"context"
	"fmt"
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
	if err := replay.WriteText(os.Stdout, items); err != nil {
		log.Fatal(err)
	}
	// Output:
	// session     01a1f81e-b96c-7071-a214-a4467b4a9b32
	// cwd         /home/me
	//
	// user, 2026-11-20T08:41:46.000Z
	//   What time is it?
	//
	// call 1: shell
	//   date -u
	//
	// output of call 1
	//   Fri Nov 20 08:41:48 UTC 2026
	//
	// line 5 cannot be read: cut off
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
