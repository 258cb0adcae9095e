// Package lazy has mirrors of trees that are made up as they are read, so that their
// size is no matter of memory or of a disk.
package lazy

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"iter"
	"os"
	"path"
	"strings"
	"time"

	"github.com/rollout-sync/rollout/bench/tree"
	"github.com/rollout-sync/rollout/store"
)

// Source is the mirror of a tree, without what a mirror has beside sessions.
type Source struct {
	tree.Options
	// Info returns what a List tells of session i.
	Info func(i int, s tree.Session) store.Info
	// Log returns what an Open tells of it, and its bytes.
	Log func(i int, s tree.Session) (store.Info, []byte)
}

// Object returns the name of a session in a mirror.
func Object(s tree.Session) string {
	return "sessions" + s.Start.Format("/2006/01/02/") + path.Base(s.Path)
}

func (l Source) List(_ context.Context, dir string, _ store.ListOptions) iter.Seq2[store.Entry, error] {
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
		for i := l.First(from); i < l.Sessions; {
			s := l.At(i)
			if !s.Start.Before(until) {
				return
			}
			var e store.Entry
			if depth < 3 {
				date := s.Start.Format(layouts[depth])
				e = store.Entry{Name: "sessions" + date, Dir: true}
				below, err := time.Parse(layouts[depth], date)
				if err != nil {
					return
				}
				i = l.First(after(below, depth+1))
			} else {
				e = store.Entry{Name: Object(s), Info: l.Info(i, s)}
				i++
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

func (l Source) Open(_ context.Context, name string) (store.File, error) {
	start, err := time.Parse("2006-01-02T15-04-05", fmt.Sprintf("%.19s", strings.TrimPrefix(path.Base(name), "rollout-")))
	if err != nil {
		return nil, store.Wrap("open", name, os.ErrNotExist)
	}
	for i := l.First(start); i < l.Sessions; i++ {
		s := l.At(i)
		if Object(s) == name {
			info, content := l.Log(i, s)
			return file{info, content}, nil
		}
		if s.Start.After(start.Add(time.Second)) {
			break
		}
	}
	return nil, store.Wrap("open", name, os.ErrNotExist)
}

type file struct {
	info    store.Info
	content []byte
}

func (f file) Info() store.Info { return f.info }

func (f file) Range(_ context.Context, off, n int64) (io.ReadCloser, error) {
	size := int64(len(f.content))
	if off < 0 {
		off = max(size+off, 0)
	}
	off = min(off, size)
	if n < 0 || n > size-off {
		n = size - off
	}
	return io.NopCloser(bytes.NewReader(f.content[off:][:n])), nil
}

func (file) Close() error { return nil }
