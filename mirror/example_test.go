package mirror_test

import (
	"context"
	"fmt"
	"time"

	"gocloud.dev/blob/memblob"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/recorder"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/blob"
	"github.com/rollout-sync/rollout/store/blob/mem"
	"github.com/rollout-sync/rollout/store/memfs"
)

// aHome has one session; aMirror is empty. Both are in memory.
func aHome() *memfs.Store {
	home := memfs.New(nil)
	_, err := home.Put(context.Background(), file, store.BytesBody([]byte("{}\n"), time.Time{}), store.Cond{IfAbsent: true})
	check(err)
	return home
}

func aMirror() *blob.Store {
	return blob.New(memblob.OpenBucket(nil), &blob.Options{Service: mem.Service()})
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}

func ExamplePush() {
	ctx := context.Background()
	m := aMirror()
	defer m.Close()
	report, err := mirror.Push(ctx, mirror.Pushing{
		Home: aHome(), Mirror: m, State: mirror.NewState(), Origin: "my-laptop",
		Each: func(o mirror.Outcome) { fmt.Println(o.Action, o.Key) },
	})
	check(err)
	fmt.Println(report.Rollouts, "rollout,", report.Bytes, "bytes")
	// Output:
	// uploaded sessions/2026/11/20/rollout-2026-11-20T08-41-45-01a1f81e-6bb9-7000-8000-000000000001.jsonl
	// 1 rollout, 3 bytes
}

func ExampleVerify() {
	ctx := context.Background()
	home, m := aHome(), aMirror()
	defer m.Close()
	_, err := mirror.Push(ctx, mirror.Pushing{Home: home, Mirror: m, State: mirror.NewState(), Origin: "my-laptop"})
	check(err)
	v, err := mirror.Verify(ctx, mirror.Verifying{Mirror: m, Home: home, Deep: true})
	check(err)
	fmt.Println(v.Objects, "objects,", len(v.Damaged), "damaged,", v.Pending, "pending")
	// Output: 2 objects, 0 damaged, 0 pending
}

func ExampleRestore() {
	ctx := context.Background()
	m := aMirror()
	defer m.Close()
	_, err := mirror.Push(ctx, mirror.Pushing{Home: aHome(), Mirror: m, State: mirror.NewState(), Origin: "my-laptop"})
	check(err)

	r, err := mirror.Restore(ctx, mirror.Restoring{
		Home: memfs.New(nil), Mirror: m,
		Each: func(r mirror.Restored) { fmt.Println(r.Action, r.Path) },
	})
	check(err)
	fmt.Println(r.Bytes, "bytes")
	// Output:
	// created sessions/2026/11/20/rollout-2026-11-20T08-41-45-01a1f81e-6bb9-7000-8000-000000000001.jsonl
	// 3 bytes
}

// An agent that records to its disk and, when a session ends, to the team's mirror.
func ExampleNewSink() {
	ctx := context.Background()
	m := aMirror()
	defer m.Close()
	sink := mirror.NewSink(memfs.New(nil), mirror.Pushing{
		Mirror: m, Origin: "my-laptop",
		Each: func(o mirror.Outcome) { fmt.Println(o.Action, o.Err) },
	})
	r, err := recorder.New(sink, recorder.Meta{Cwd: "/home/me/app", Originator: "my_agent", CLIVersion: "1.0.0"}, nil)
	check(err)
	check(r.Record(ctx, codec.Item{
		Type: codec.TypeEventMsg, Payload: []byte(`{"type":"user_message","message":"hello"}`),
	}))
	check(r.Close(ctx))

	// Before the program ends: what does not get through is pushed another time.
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	check(sink.Wait(ctx))
	// Output: uploaded <nil>
}
