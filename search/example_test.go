package search_test

import (
	"context"
	"fmt"
	"log"

	"github.com/spf13/afero"

	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/replay"
	"github.com/rollout-sync/rollout/search"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/memfs"
)

func ExampleSearch_Sessions() {
	fs := afero.NewMemMapFs()
	path, content := session(1, user("why does it hang?"), event("agent_message", `"message":"Two threads wait for one mutex: a deadlock."`))
	if err := afero.WriteFile(fs, path, []byte(content), 0o600); err != nil {
		log.Fatal(err)
	}
	home := memfs.New(fs)

	query, err := search.Parse([]string{"one mutex", "dead*"})
	if err != nil {
		log.Fatal(err)
	}
	s := search.Search{
		Query:  query,
		Places: []listing.Place{{Where: listing.Local, Source: home}},
		Source: func(it listing.Item) (store.Source, string, error) { return home, it.Path, nil },
		Hits:   3,
	}
	for found, err := range s.Sessions(context.Background()) {
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(found.Item.ID)
		for _, h := range found.Hits {
			fmt.Printf("turn %d, line %d, %s: %s[%s]%s\n", h.Turn, h.Line, h.Kind, h.Before, h.Match, h.After)
		}
	}
	// Output:
	// 019cb7a8-0001-7000-8000-000000000001
	// turn 1, line 3, assistant: Two threads wait for [one mutex]: a deadlock.
}

func ExampleParse() {
	_, err := search.Parse([]string{"connection reset", "retr*"})
	fmt.Println(err)
	_, err = search.Parse([]string{""})
	fmt.Println(err)
	// Output:
	// <nil>
	// nothing that can be searched for: a word is empty
}

func ExampleParseRegexp() {
	_, err := search.ParseRegexp([]string{`TODO\(\w+\)`, "(?i)error"})
	fmt.Println(err)
	// Output: <nil>
}

func ExampleWords() {
	e := replay.Entry{Kind: replay.KindUser, Text: "Fix file_lock.go"}
	search.Words(&e, func(word []byte) { fmt.Println(string(word)) })
	// Output:
	// fix
	// file
	// lock
	// go
}
