package memfs_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/google/uuid"
	"gocloud.dev/blob/memblob"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/recorder"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/blob"
	"github.com/rollout-sync/rollout/store/blob/mem"
	"github.com/rollout-sync/rollout/store/memfs"
)

func ExampleNew() {
	ctx := context.Background()
	s := memfs.New(nil)
	l, err := s.Create(ctx, "notes.jsonl")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	if err := l.Append([]byte("{}\n")); err != nil {
		panic(err)
	}
	f, err := s.Open(ctx, "notes.jsonl")
	if err != nil {
		panic(err)
	}
	defer f.Close()
	r, err := f.Range(ctx, 0, -1)
	if err != nil {
		panic(err)
	}
	defer r.Close()
	fmt.Println(io.Copy(os.Stdout, r))
	// Output:
	// {}
	// 3 <nil>
}

// runAgent stands for your agent: it records what it does in the store that it is
// given, in its tests this one.
func runAgent(ctx context.Context, sink store.Sink) error {
	r, err := recorder.New(sink, recorder.Meta{
		ID:  uuid.MustParse("01a1f81e-b96c-7071-a214-a4467b4a9b32"), // to print it; leave it out
		Cwd: "/home/me/project", Originator: "my_agent", CLIVersion: "1.0.0",
	}, &recorder.Options{Now: func() time.Time { return time.Date(2026, 11, 20, 8, 41, 45, 0, time.UTC) }})
	if err != nil {
		return err
	}
	err = r.Record(ctx, codec.Item{Type: codec.TypeEventMsg, Payload: []byte(`{"type":"user_message","message":"Fix the test"}`)})
	if err != nil {
		return err
	}
	return r.Close(ctx)
}

// The test of an agent that touches no disk: what it recorded is listed, pushed to
// a mirror, and found there.
func Example() {
	ctx := context.Background()
	home := memfs.New(nil)
	if err := runAgent(ctx, home); err != nil {
		panic(err)
	}

	team := blob.New(memblob.OpenBucket(nil), &blob.Options{Service: mem.Service()})
	defer team.Close()
	_, err := mirror.Push(ctx, mirror.Pushing{
		Home: home, Mirror: team, State: mirror.NewState(), Origin: "test",
		Each: func(o mirror.Outcome) { fmt.Println(o.Action, o.Err) },
	})
	if err != nil {
		panic(err)
	}

	for _, place := range []listing.Place{{Where: listing.Local, Source: home}, {Where: listing.Mirror, Source: team}} {
		page, err := listing.Page(ctx, []listing.Place{place}, listing.Query{})
		if err != nil {
			panic(err)
		}
		for _, it := range page.Items {
			fmt.Println(it.Where, it.ID, *it.FirstUserMessage)
		}
	}
	// Output:
	// uploaded <nil>
	// local 01a1f81e-b96c-7071-a214-a4467b4a9b32 Fix the test
	// mirror 01a1f81e-b96c-7071-a214-a4467b4a9b32 Fix the test
}
