// Package rollout keeps the sessions of coding agents: it records, lists and
// replays them, in the files and the format of OpenAI's Codex. A session's file,
// an append-only JSONL log, is a rollout; the directory that has them all is a
// home (~/.codex).
//
// This package joins the others for the most usual case, a home on this machine.
// Each of them also works alone, and over any store:
//
//	recorder     records a session; Flush returns when it is on the disk
//	listing      pages of sessions, newest first, of several stores at once
//	replay       sessions item by item, as transcripts, and the state to go on from
//	mirror       copies homes to a mirror, verifies it and restores from it
//	catalog      the table of what a mirror holds, in Parquet, for listings and others
//	search       words, phrases and expressions in what was said and done
//	index        keeps on this machine what makes listings and searches fast
//	doctor       what is wrong with a home, and what cures it
//	store        what a store has to do, and what it promises
//	store/local  files in a directory
//	store/memfs  files in memory, for tests
//	store/blob   compressed objects in a bucket (S3, GCS, Azure) or a directory
//	codec        lines, items, file names and the compressed form
//
// The command rollout-sync does all of it from a shell or from cron.
package rollout

import (
	"context"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"sync"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/recorder"
	"github.com/rollout-sync/rollout/replay"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/local"
)

// A Home is a directory of sessions that is laid out as Codex's. Codex may use it
// at the same time: a session that it has open is busy here, and the other way
// round. Its methods may be called concurrently.
type Home struct {
	store *local.Store
}

// Open returns the home in dir, which must exist.
func Open(dir string) (*Home, error) {
	st, err := local.Open(dir, &local.Options{Lock: lock})
	if err != nil {
		return nil, err
	}
	return &Home{st}, nil
}

// maintenance is the name whose lock is the one that Codex holds while it compresses
// or migrates rollouts: mirror.MaintenanceLock.
const maintenance = "rollout-maintenance"

// lock names the files that Codex locks: one for each session, all its rollouts
// together, one for all at once, and one beside any other file.
func lock(name string) local.Lock {
	const dir = "thread-writer-locks/"
	if name == maintenance {
		return local.Lock{File: ".tmp/rollout-maintenance.lock"}
	}
	n, err := codec.ParseName(path.Base(name))
	if err != nil {
		return local.Lock{File: name + ".lock"}
	}
	return local.Lock{File: dir + n.Session.String() + ".lock", Gate: dir + ".coordination.lock"}
}

// Close releases the home. Its recorders have to be closed before.
func (h *Home) Close() error { return h.store.Close() }

// Store returns the home's files.
func (h *Home) Store() *local.Store { return h.store }

// New returns a recorder of a new session. Its file is made with the first line.
// For options, use recorder.New over Store.
func (h *Home) New(m recorder.Meta) (*recorder.Recorder, error) {
	return recorder.New(h.store, m, nil)
}

// Resume returns a recorder that goes on with a session. An archived one is
// recorder.ErrNotResumable, as for Codex.
func (h *Home) Resume(ctx context.Context, id uuid.UUID) (*recorder.Recorder, error) {
	it, err := h.Find(ctx, id)
	if err != nil {
		return nil, err
	}
	if it.Archived {
		return nil, store.Wrap("resume", it.Path, fmt.Errorf("%w: it is archived", recorder.ErrNotResumable))
	}
	return recorder.Resume(ctx, h.store, it.Path, nil)
}

// Fork returns a recorder of a new session, about which m tells, that begins as
// another one did, up to a point: replay.AfterTurn, AfterLine or AfterOrdinal; the
// zero Point is all of it. The errors are those of recorder.Fork and replay.EndOf.
func (h *Home) Fork(ctx context.Context, id uuid.UUID, at replay.Point, m recorder.Meta) (*recorder.Recorder, error) {
	it, err := h.Find(ctx, id)
	if err != nil {
		return nil, err
	}
	end, err := replay.EndOf(ctx, h.store, it.Path, at, h.find)
	if err == nil && end == 0 {
		err = fmt.Errorf("%w: nothing is in front of it", replay.ErrNoPoint)
	}
	if err != nil {
		return nil, store.Wrap("fork", it.Path, err)
	}
	return recorder.Fork(ctx, recorder.Parent{Source: h.store, Name: it.Path, End: max(end, 0)}, h.store, m, nil)
}

// find is a replay.Finder.
func (h *Home) find(ctx context.Context, rollout string) (store.Source, string, error) {
	it, err := listing.Rollout(ctx, []listing.Place{h.Place()}, rollout)
	return h.store, it.Path, err
}

// List returns a page of sessions, newest first, with the names that users gave
// them. An item is one rollout; a session that was reverted has several.
func (h *Home) List(ctx context.Context, q listing.Query) (listing.Result, error) {
	return listing.Page(ctx, []listing.Place{h.Place()}, q)
}

// Find returns a session's newest rollout. A session that is not there is
// fs.ErrNotExist.
func (h *Home) Find(ctx context.Context, id uuid.UUID) (listing.Item, error) {
	return listing.Find(ctx, []listing.Place{h.Place()}, id.String())
}

// Latest returns the session that was used last of those that began in the directory
// cwd and are not archived; cwd "" is any. If there is none it is fs.ErrNotExist.
func (h *Home) Latest(ctx context.Context, cwd string) (listing.Item, error) {
	r, err := h.List(ctx, listing.Query{Cwd: cwd, Archived: listing.No, Order: listing.Updated, Limit: 1})
	if err == nil && len(r.Items) == 0 {
		err = fs.ErrNotExist
	}
	if err != nil {
		return listing.Item{}, store.Wrap("find", "latest", err)
	}
	return r.Items[0], nil
}

// Replay reads a session, as replay.Load does.
func (h *Home) Replay(ctx context.Context, id uuid.UUID) iter.Seq2[replay.Item, error] {
	return func(yield func(replay.Item, error) bool) {
		it, err := h.Find(ctx, id)
		if err != nil {
			yield(replay.Item{}, err)
			return
		}
		replay.Load(ctx, h.store, it.Path)(yield)
	}
}

// Reconstruct returns the state of a session, as replay.Reconstruct does. What it
// begins with by reference is looked for in the home, unless o.Find is set; o may be
// nil.
func (h *Home) Reconstruct(ctx context.Context, id uuid.UUID, o *replay.Options) (*replay.State, error) {
	it, err := h.Find(ctx, id)
	if err != nil {
		return nil, err
	}
	var withFind replay.Options
	if o != nil {
		withFind = *o
	}
	if withFind.Find == nil {
		withFind.Find = h.find
	}
	return replay.Reconstruct(ctx, h.store, it.Path, &withFind)
}

// Place returns the home for package listing, with the sessions' names as they
// are when the first is asked for.
func (h *Home) Place() listing.Place {
	var mu sync.Mutex
	var names map[string]codec.ThreadName
	return listing.Place{
		Where: listing.Local, Source: h.store,
		Describe: func(ctx context.Context, _ string, n codec.Name) (_ listing.Description, err error) {
			mu.Lock()
			defer mu.Unlock()
			if names == nil {
				if names, err = listing.ThreadNames(ctx, h.store); err != nil {
					return listing.Description{}, err
				}
			}
			return listing.Description{Name: names[n.Session.String()].Name}, nil
		},
	}
}
