package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/rollout-sync/rollout/bench/codex"
	"github.com/rollout-sync/rollout/bench/tree"
)

// compareCodex asks the real Codex for the same lists: once without its database,
// which it then makes before it answers anything, and once with it.
func compareCodex(bin, home string, o tree.Options) (err error) {
	defer func() { err = errors.Join(err, codex.Clean(home)) }()
	for _, run := range []string{"without its database", "with it"} {
		if err := askCodex(bin, home, o, run); err != nil {
			return err
		}
	}
	return nil
}

func askCodex(bin, home string, o tree.Options, run string) (err error) {
	begin := time.Now()
	s, err := codex.Start(bin, home)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	show := func(what string, items int) {
		fmt.Printf("%-22s %-24s %10s %44d\n", "codex, "+run, what, short(time.Since(begin)), items)
	}
	var next *string
	list := func(what string, extra map[string]any) error {
		items := 0
		if items, next, err = codexPage(s, extra); err == nil && what != "" {
			show(what, items)
		}
		return err
	}
	if err := list("start and first page", nil); err != nil {
		return err
	}
	begin = time.Now()
	if err := list("first page again", nil); err != nil {
		return err
	}
	for page := 2; page <= 10 && next != nil; page++ {
		begin = time.Now()
		what := ""
		if page == 10 {
			what = "tenth page"
		}
		if err := list(what, map[string]any{"cursor": *next}); err != nil {
			return err
		}
	}
	for _, c := range []struct {
		what  string
		extra map[string]any
	}{
		{"by update", map[string]any{"sortKey": "updated_at"}},
		{"cwd hit", map[string]any{"cwd": tree.Cwd(7)}},
		{"cwd miss", map[string]any{"cwd": "/nowhere"}},
	} {
		begin = time.Now()
		if err := list(c.what, c.extra); err != nil {
			return err
		}
	}
	mid := o.At(o.Sessions / 2).ID
	begin = time.Now()
	if _, err := s.Call("thread/read", map[string]any{"threadId": mid.String()}); err != nil {
		return err
	}
	show("id hit (thread/read)", 1)
	mid[15]++
	begin = time.Now()
	if _, err := s.Call("thread/read", map[string]any{"threadId": mid.String()}); err == nil {
		return errors.New("it knows a session that is not there")
	}
	show("id miss (thread/read)", 0)
	fmt.Printf("%-22s %-24s %46.1f\n", "codex, "+run, "memory", float64(s.Peak())/1e6)
	return nil
}

// codexPage asks for a page.
func codexPage(s *codex.Server, extra map[string]any) (items int, next *string, err error) {
	params := map[string]any{"limit": page, "sourceKinds": []string{"cli", "vscode", "exec", "appServer", "unknown"}, "modelProviders": []string{}}
	maps.Copy(params, extra)
	answer, err := s.Call("thread/list", params)
	if err != nil {
		return 0, nil, err
	}
	var answered struct {
		Data       []json.RawMessage
		NextCursor *string
	}
	err = json.Unmarshal(answer, &answered)
	return len(answered.Data), answered.NextCursor, err
}
