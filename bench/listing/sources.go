package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"path"
	"sort"
	"strings"
	"sync/atomic"
	"time"

	"github.com/rollout-sync/rollout/bench/tree"
	"github.com/rollout-sync/rollout/store"
)

// counting counts what a Source is asked for: a List of an object store takes a
// request for every thousand entries.
type counting struct {
	store.Source
	opened, lists atomic.Int64
}

func (c *counting) Open(ctx context.Context, name string) (store.File, error) {
	c.opened.Add(1)
	return c.Source.Open(ctx, name)
}

func (c *counting) List(ctx context.Context, dir string, o store.ListOptions) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		n := 0
		for e, err := range c.Source.List(ctx, dir, o) {
			if n%1000 == 0 {
				c.lists.Add(1)
			}
			n++
			if !yield(e, err) {
				return
			}
		}
		if n == 0 {
			c.lists.Add(1)
		}
	}
}

// lazy is a mirror of a tree that is made up as it is read, so that its size is no
// matter of memory.
type lazy struct{ tree.Options }

// first returns the first session that begins at t or later.
func (l lazy) first(t time.Time) int {
	return sort.Search(l.Sessions, func(i int) bool { return !l.At(i).Start.Before(t) })
}

func (l lazy) List(_ context.Context, dir string, _ store.ListOptions) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		date, ok := strings.CutPrefix(dir, "sessions")
		if !ok {
			return
		}
		layouts := []string{"/2006", "/2006/01", "/2006/01/02"}
		depth := strings.Count(date, "/")
		from, until := l.At(0).Start, tree.End.AddDate(0, 0, 1)
		if depth > 0 {
			var err error
			if from, err = time.Parse(layouts[depth-1], date); err != nil {
				return
			}
			until = after(from, depth)
		}
		for i := l.first(from); i < l.Sessions; {
			s := l.At(i)
			if !s.Start.Before(until) {
				return
			}
			e := store.Entry{Name: "sessions" + s.Start.Format("/2006/01/02/") + path.Base(s.Path)}
			e.Info = store.Info{Size: -1, Stored: 1000, Version: "1", ChangeTime: s.Start.Add(time.Hour)}
			i++
			if depth < 3 {
				date := s.Start.Format(layouts[depth])
				e = store.Entry{Name: "sessions" + date, Dir: true}
				below, err := time.Parse(layouts[depth], date)
				if err != nil {
					return
				}
				i = l.first(after(below, depth+1))
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// after returns the end of a year, month or day.
func after(t time.Time, depth int) time.Time {
	return [...]time.Time{t.AddDate(1, 0, 0), t.AddDate(0, 1, 0), t.AddDate(0, 0, 1)}[depth-1]
}

func (l lazy) Open(_ context.Context, name string) (store.File, error) {
	name = path.Base(name)
	start, err := time.Parse("2006-01-02T15-04-05", strings.TrimPrefix(name, "rollout-")[:19])
	if err != nil {
		return nil, store.Wrap("open", name, err)
	}
	for i := l.first(start); i < l.Sessions; i++ {
		switch s := l.At(i); {
		case path.Base(s.Path) == name:
			return file{s}, nil
		case s.Start.After(start.Add(time.Second)):
			i = l.Sessions
		}
	}
	return nil, store.Wrap("open", name, os.ErrNotExist)
}

type file struct{ tree.Session }

func (f file) Info() store.Info {
	return store.Info{Size: 1000, Stored: 1000, Version: "1", ModTime: f.Start, ChangeTime: f.Start.Add(time.Hour)}
}

func (f file) Range(context.Context, int64, int64) (io.ReadCloser, error) {
	var b bytes.Buffer
	at := f.Start.Format("2006-01-02T15:04:05.000Z")
	fmt.Fprintf(&b, `{"timestamp":"%s","type":"session_meta","payload":{"id":"%s","timestamp":"%[1]s","cwd":"%[3]s","originator":"o","cli_version":"1"}}`+"\n", at, f.ID, tree.Cwd(f.Project))
	fmt.Fprintf(&b, `{"timestamp":"%s","type":"event_msg","payload":{"type":"user_message","message":"hello"}}`+"\n", at)
	return io.NopCloser(&b), nil
}

func (file) Close() error { return nil }
