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

// The first run moves to the trash what the mirror has, the second removes it from
// there.
func ExamplePrune() {
	ctx := context.Background()
	home, m, state := aHome(), aMirror(), mirror.NewState()
	defer m.Close()
	_, err := mirror.Push(ctx, mirror.Pushing{Home: home, Mirror: m, State: state, Origin: "my-laptop"})
	check(err)
	inAnHour := func() time.Time { return time.Now().Add(time.Hour) }
	for range 2 {
		r, err := mirror.Prune(ctx, mirror.Pruning{
			Home: home, Mirror: m, State: state, Older: time.Minute, Now: inAnHour,
			Each: func(p mirror.Pruned) { fmt.Println(p.Action, p.Stored, "bytes") },
		})
		check(err)
		fmt.Println(r.Rollouts, "in the home,", r.Freed, "bytes freed")
	}
	// Output:
	// trashed 3 bytes
	// 1 in the home, 0 bytes freed
	// freed 3 bytes
	// 0 in the home, 3 bytes freed
}

func ExampleForget() {
	ctx := context.Background()
	m := aMirror()
	defer m.Close()
	_, err := mirror.Push(ctx, mirror.Pushing{Home: aHome(), Mirror: m, State: mirror.NewState(), Origin: "my-laptop"})
	check(err)
	r, err := mirror.Forget(ctx, mirror.Forgetting{Mirror: m, IDs: []string{"01a1f81e"}})
	check(err)
	fmt.Println(r.IDs, r.Objects, "objects,", r.Facts, "facts")
	// Output: [01a1f81e-6bb9-7000-8000-000000000001] 1 objects, 2 facts
}

func ExampleVersions() {
	ctx := context.Background()
	home, m, state := aHome(), aMirror(), mirror.NewState()
	defer m.Close()
	for _, content := range []string{"{}\n", "[]\n"} { // the second is a rewrite
		f, err := home.Open(ctx, file)
		check(err)
		_, err = home.Put(ctx, file, store.BytesBody([]byte(content), time.Time{}), store.Cond{IfVersion: f.Info().Version})
		check(err)
		check(f.Close())
		_, err = mirror.Push(ctx, mirror.Pushing{Home: home, Mirror: m, State: state, Origin: "my-laptop"})
		check(err)
	}
	name, err := codec.ParseName(base + ".jsonl")
	check(err)
	for v, err := range mirror.Versions(ctx, m, name) {
		check(err)
		fmt.Println(v.Kind(), v.Size, v.SHA256[:8])
	}
	// Output:
	// current 3 37517e5f
	// superseded 3 ca3d163b
}

func ExampleProgress() {
	ctx := context.Background()
	m := aMirror()
	defer m.Close()
	var p mirror.Progress // which another goroutine may read meanwhile
	_, err := mirror.Push(ctx, mirror.Pushing{Home: aHome(), Mirror: m, State: mirror.NewState(), Origin: "my-laptop", Progress: &p})
	check(err)
	fmt.Printf("%d of %d rollouts, %d of %d bytes\n", p.Done.Load(), p.Rollouts.Load(), p.Sent.Load(), p.Bytes.Load())
	// Output: 1 of 1 rollouts, 3 of 3 bytes
}

func ExampleState_Status() {
	ctx := context.Background()
	home, m, state := aHome(), aMirror(), mirror.NewState()
	defer m.Close()
	_, err := mirror.Push(ctx, mirror.Pushing{Home: home, Mirror: m, State: state, Origin: "my-laptop"})
	check(err)
	st, err := state.Status(ctx, home, time.Now())
	check(err)
	fmt.Println(st.Last.Actions[mirror.Uploaded], "uploaded,", st.Last.Total, "bytes since the state was made")
	// Output: 1 uploaded, 3 bytes since the state was made
}
