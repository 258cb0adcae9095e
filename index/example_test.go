package index_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/spf13/afero"

	"github.com/rollout-sync/rollout/index"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/search"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/memfs"
)

// A search that need not read what cannot match.
func Example() {
	dir, err := os.MkdirTemp("", "index")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	x, err := index.Open(filepath.Join(dir, "index.db"))
	if err != nil {
		log.Fatal(err)
	}
	defer x.Close()

	fs := afero.NewMemMapFs()
	const path = "sessions/rollout-019cb7a8-9f00-7000-8000-000000000001.jsonl"
	line := `{"timestamp":"t","type":"event_msg","payload":{"type":"user_message","message":"a deadlock"}}` + "\n"
	if err := afero.WriteFile(fs, path, []byte(line), 0o600); err != nil {
		log.Fatal(err)
	}
	home := memfs.New(fs)
	ctx := context.Background()
	known := x.Place("/home/user/.codex")
	if err := known.Add(ctx, home, path); err != nil {
		log.Fatal(err)
	}
	if err := x.Flush(ctx); err != nil {
		log.Fatal(err)
	}

	query, err := search.Parse([]string{"deadlock"})
	if err != nil {
		log.Fatal(err)
	}
	s := search.Search{
		Query:  query,
		Places: []listing.Place{{Where: listing.Local, Source: home}},
		Source: func(it listing.Item) (store.Source, string, error) { return home, it.Path, nil },
		Index:  map[string]search.Index{listing.Local: known},
		Hits:   1,
	}
	for found, err := range s.Sessions(ctx) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(found.Item.ID, found.Hits[0].Match)
	}
	// Output: 019cb7a8-9f00-7000-8000-000000000001 deadlock
}
