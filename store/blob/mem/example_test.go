package mem_test

import (
	"context"
	"fmt"
	"log"
	"time"

	"gocloud.dev/blob/memblob"

	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/blob"
	"github.com/rollout-sync/rollout/store/blob/mem"
)

func ExampleService() {
	ctx := context.Background()
	s := blob.New(memblob.OpenBucket(nil), &blob.Options{Service: mem.Service()})
	defer s.Close()
	one := store.BytesBody([]byte("one\n"), time.Time{})
	two := store.BytesBody([]byte("one\ntwo\n"), time.Time{})
	version, err := s.Put(ctx, "a.jsonl", one, store.Cond{IfAbsent: true})
	if err != nil {
		log.Fatal(err)
	}
	_, err = s.Put(ctx, "a.jsonl", two, store.Cond{IfVersion: version})
	fmt.Println(err)
	_, err = s.Put(ctx, "a.jsonl", one, store.Cond{IfVersion: version})
	fmt.Println(err)
	// Output:
	// <nil>
	// put a.jsonl: changed meanwhile
}
