package blob_test

import (
	"context"
	"fmt"
	"io"
	"log"

	"gocloud.dev/blob/memblob"

	"github.com/rollout-sync/rollout/store/blob"
)

func ExampleNew() {
	ctx := context.Background()
	s := blob.New(memblob.OpenBucket(nil), nil)
	defer s.Close()

	l, err := s.Create(ctx, "2026/11/20/a.jsonl")
	if err != nil {
		log.Fatal(err)
	}
	defer l.Close()
	if err := l.Append([]byte("{}\n")); err != nil {
		log.Fatal(err)
	}
	if err := l.Seal(ctx); err != nil { // nothing is visible before
		log.Fatal(err)
	}

	f, err := s.Open(ctx, "2026/11/20/a.jsonl")
	if err != nil {
		log.Fatal(err)
	}
	defer f.Close()
	r, err := f.Range(ctx, 0, -1)
	if err != nil {
		log.Fatal(err)
	}
	defer r.Close()
	p, err := io.ReadAll(r)
	fmt.Printf("%s %v", p, err)
	// Output: {}
	//  <nil>
}
