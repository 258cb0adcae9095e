package main

import (
	"fmt"
	"time"

	"github.com/rollout-sync/rollout/bench/lazy"
	"github.com/rollout-sync/rollout/bench/tree"
	"github.com/rollout-sync/rollout/store"
)

// mirror returns the mirror of a tree, of sessions that are a head and no more.
func mirror(o tree.Options) lazy.Source {
	info := func(_ int, s tree.Session) store.Info {
		return store.Info{Size: -1, Stored: 1000, Version: "1", ChangeTime: s.Start.Add(time.Hour)}
	}
	return lazy.Source{Options: o, Info: info, Log: func(i int, s tree.Session) (store.Info, []byte) {
		known := info(i, s)
		known.Size, known.ModTime = 1000, s.Start
		at := s.Start.Format("2006-01-02T15:04:05.000Z")
		b := fmt.Appendf(nil, `{"timestamp":"%s","type":"session_meta","payload":{"id":"%s","timestamp":"%[1]s","cwd":"%[3]s","originator":"o","cli_version":"1"}}`+"\n", at, s.ID, tree.Cwd(s.Project))
		b = fmt.Appendf(b, `{"timestamp":"%s","type":"event_msg","payload":{"type":"user_message","message":"hello"}}`+"\n", at)
		return known, b
	}}
}
