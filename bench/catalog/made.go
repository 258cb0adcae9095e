package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/rollout-sync/rollout/bench/lazy"
	"github.com/rollout-sync/rollout/bench/tree"
	"github.com/rollout-sync/rollout/catalog"
	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/replay"
	"github.com/rollout-sync/rollout/store"
)

// made counts what the homes wrote beside the sessions.
type made struct{ catalogFiles, catalogBytes, factsFiles, factsBytes atomic.Int64 }

// write puts the catalog and the facts of all homes below dir, as their pushes would
// have left them.
func (t *team) write(ctx context.Context, dir string) (*made, error) {
	var m made
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	first := t.At(0).Start
	for month := time.Date(first.Year(), first.Month(), 1, 0, 0, 0, 0, time.UTC); !month.After(tree.End); month = month.AddDate(0, 1, 0) {
		g.Go(func() error { return t.writeMonth(ctx, dir, month, &m) })
	}
	return &m, g.Wait()
}

func (t *team) writeMonth(ctx context.Context, dir string, month time.Time, m *made) error {
	facts := map[string]*bytes.Buffer{} // by origin
	for day := month; day.Month() == month.Month(); day = day.AddDate(0, 0, 1) {
		rows := map[string][]catalog.Row{}
		for i := t.First(day); i < t.First(day.AddDate(0, 0, 1)); i++ {
			if err := ctx.Err(); err != nil {
				return err
			}
			row, fact, err := t.pushed(i)
			if err != nil {
				return err
			}
			rows[row.Origin] = append(rows[row.Origin], row)
			if facts[row.Origin] == nil {
				facts[row.Origin] = new(bytes.Buffer)
			}
			if err := json.NewEncoder(facts[row.Origin]).Encode(fact); err != nil {
				return err
			}
		}
		for origin, rows := range rows {
			p, err := catalog.Encode(rows)
			if err != nil {
				return err
			}
			n, err := writeFile(dir, catalog.FileOf(catalog.DirOf(t.At(t.First(day)).Name()), origin), func(w io.Writer) error {
				_, err := w.Write(p)
				return err
			})
			if err != nil {
				return err
			}
			m.catalogFiles.Add(1)
			m.catalogBytes.Add(n)
		}
	}
	for origin, lines := range facts {
		n, err := writeFile(dir, path.Join("origins", origin, month.Format("2006-01")+".jsonl.zst"), func(w io.Writer) error {
			s := codec.NewSealer(w, time.Time{})
			_, err := s.Write(lines.Bytes())
			return errors.Join(err, s.Close())
		})
		if err != nil {
			return err
		}
		m.factsFiles.Add(1)
		m.factsBytes.Add(n)
	}
	return nil
}

// writeFile returns how large the file has become.
func writeFile(dir, name string, write func(io.Writer) error) (int64, error) {
	name = filepath.Join(dir, filepath.FromSlash(name))
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return 0, err
	}
	f, err := os.Create(name)
	if err != nil {
		return 0, err
	}
	if err := errors.Join(write(f), f.Close()); err != nil {
		return 0, err
	}
	info, err := os.Stat(name)
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}

// pushed returns what a push of session i writes beside it, by what a push does.
func (t *team) pushed(i int) (catalog.Row, mirror.Fact, error) {
	s := t.At(i)
	info, content := t.log(i, s)
	f := t.fact(i, s, info)
	r := catalog.Row{
		Object: catalog.ObjectOf(lazy.Object(s)), Version: info.Version, State: catalog.Current, Origin: t.origin(i), Machine: f.Machine,
		Path: f.Path, Archived: f.Archived, Name: f.Name, PlainSize: info.Size, StoredSize: info.Stored, SHA256: info.Meta[store.MetaSHA256],
	}
	r.SetName(s.Name())
	r.SetUpdated(info.ModTime)
	h, err := codec.ReadHead(bytes.NewReader(content))
	if err != nil {
		return r, f, err
	}
	r.SetHead(h)
	sum := replay.NewSummarizer()
	if _, err := sum.Write(content); err != nil {
		return r, f, err
	}
	r.SetSummary(sum.Sum())
	return r, f, nil
}
