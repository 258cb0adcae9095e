package listing_test

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/memfs"
)

// home has three sessions. It stands for local.Open of a Codex home.
func home(ctx context.Context) store.Source {
	s := memfs.New(nil)
	for _, name := range []string{
		"sessions/2026/11/19/rollout-2026-11-19T08-03-00-01a1f2d4-9400-7000-8000-000000000001.jsonl",
		"sessions/2026/11/20/rollout-2026-11-20T08-03-00-01a1f7fa-f000-7000-8000-000000000002.jsonl",
		"archived_sessions/rollout-2026-11-18T08-03-00-01a1edae-3800-7000-8000-000000000003.jsonl",
	} {
		line := []byte(`{"timestamp":"t","type":"event_msg","payload":{"type":"user_message","message":"fix the test"}}` + "\n")
		if _, err := s.Put(ctx, name, store.BytesBody(line, time.Time{}), store.Cond{IfAbsent: true}); err != nil {
			panic(err)
		}
	}
	return s
}

func ExamplePage() {
	ctx := context.Background()
	places := []listing.Place{{Where: listing.Local, Source: home(ctx)}}
	q := listing.Query{Limit: 2}
	for n := 1; ; n++ {
		page, err := listing.Page(ctx, places, q)
		if err != nil {
			panic(err)
		}
		for _, it := range page.Items {
			fmt.Println(n, it.Created.Format(time.DateTime), *it.FirstUserMessage)
		}
		if page.Next == "" {
			break
		}
		q.Cursor = page.Next
	}
	// Output:
	// 1 2026-11-20 08:03:00 fix the test
	// 1 2026-11-19 08:03:00 fix the test
	// 2 2026-11-18 08:03:00 fix the test
}

func ExampleAll() {
	ctx := context.Background()
	places := []listing.Place{{Where: listing.Local, Source: home(ctx)}}
	for it, err := range listing.All(ctx, places, listing.Query{}) {
		if err != nil {
			panic(err)
		}
		fmt.Println(it.ID, it.Archived)
	}
	// Output:
	// 01a1f7fa-f000-7000-8000-000000000002 false
	// 01a1f2d4-9400-7000-8000-000000000001 false
	// 01a1edae-3800-7000-8000-000000000003 true
}

func ExampleFind() {
	ctx := context.Background()
	places := []listing.Place{{Where: listing.Local, Source: home(ctx)}}
	it, err := listing.Find(ctx, places, "01a1f2d4") // an id, the beginning of one, or a name
	if err != nil {
		panic(err)
	}
	fmt.Println(it.ID, *it.FirstUserMessage)
	// Output: 01a1f2d4-9400-7000-8000-000000000001 fix the test
}

func ExampleRollout() {
	ctx := context.Background()
	places := []listing.Place{{Where: listing.Local, Source: home(ctx)}}
	it, err := listing.Rollout(ctx, places, "01a1f2d4-9400-7000-8000-000000000001")
	if err != nil {
		panic(err)
	}
	fmt.Println(it.Path)
	_, err = listing.Rollout(ctx, places, "01a1f2d4-9400-7000-8000-0000000000ff")
	fmt.Println(errors.Is(err, fs.ErrNotExist))
	// Output:
	// sessions/2026/11/19/rollout-2026-11-19T08-03-00-01a1f2d4-9400-7000-8000-000000000001.jsonl
	// true
}

func ExampleRepository() {
	fmt.Println(listing.Repository("git@github.com:acme/app.git"))
	fmt.Println(listing.Repository("https://github.com/acme/app"))
	// Output:
	// github.com/acme/app
	// github.com/acme/app
}
