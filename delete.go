package rollout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"time"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/store"
)

// ErrReferenced means that a session cannot be deleted, because another one begins
// with a part of it by reference, or may do so.
var ErrReferenced = errors.New("another session refers to it")

// namesFile is where Codex keeps the names that users gave sessions.
const namesFile = "session_index.jsonl"

// Delete removes a session: all its rollouts, live and archived, plain and
// compressed, and its name. Mirrors keep it; `rollout-sync forget` is for those.
// Codex's databases may show it until Codex looks at the files again.
//
// It reads the head of every rollout of the home. If one of another session refers
// to this one, or cannot be read, so that it might, it is ErrReferenced, and
// nothing is removed. A session that has a writer is store.ErrBusy, one that is not
// there fs.ErrNotExist.
func (h *Home) Delete(ctx context.Context, id uuid.UUID) error {
	return store.Wrap("delete", id.String(), h.delete(ctx, id))
}

func (h *Home) delete(ctx context.Context, id uuid.UUID) error {
	var files, others []string
	own := map[string]bool{} // rollout ids
	for _, dir := range []string{"sessions", "archived_sessions"} {
		err := h.walk(ctx, dir, func(file string, n codec.Name) {
			if n.Session != id {
				others = append(others, file)
				return
			}
			files = append(files, file)
			own[n.Rollout.String()] = true
		})
		if err != nil {
			return err
		}
	}
	if len(files) == 0 {
		return fs.ErrNotExist
	}
	for _, file := range others {
		base, err := h.base(ctx, file)
		switch {
		case errors.Is(err, fs.ErrNotExist): // gone meanwhile
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return fmt.Errorf("%w, or may: %s: %w", ErrReferenced, file, err)
		case own[base]:
			return fmt.Errorf("%w: %s", ErrReferenced, file)
		}
	}
	for _, file := range files {
		if err := h.remove(ctx, file); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return h.clearName(ctx, id)
}

// walk calls do with the rollouts in dir and below.
func (h *Home) walk(ctx context.Context, dir string, do func(file string, n codec.Name)) error {
	for e, err := range h.store.List(ctx, dir, store.ListOptions{}) {
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return err
		case e.Dir:
			if err := h.walk(ctx, e.Name, do); err != nil {
				return err
			}
		default:
			if n, err := codec.ParseName(path.Base(e.Name)); err == nil {
				do(e.Name, n)
			}
		}
	}
	return nil
}

// base returns the id of the rollout that one begins with by reference, "" if none.
func (h *Home) base(ctx context.Context, file string) (id string, err error) {
	f, err := h.store.Open(ctx, file)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r, err := f.Range(ctx, 0, -1)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	head, err := codec.ReadHead(r)
	if err == nil && !head.HasMeta {
		err = errors.New("it has no session_meta")
	}
	return head.Base.Rollout, err
}

func (h *Home) remove(ctx context.Context, file string) error {
	f, err := h.store.Open(ctx, file)
	if err != nil {
		return err
	}
	version := f.Info().Version
	if err := f.Close(); err != nil { // Windows removes only what is closed
		return err
	}
	return h.store.Remove(ctx, file, version)
}

// clearName takes a session's name away, as Codex does: by a line that says so.
func (h *Home) clearName(ctx context.Context, id uuid.UUID) (err error) {
	names, err := listing.ThreadNames(ctx, h.store)
	if err != nil || names[id.String()].Name == "" {
		return err
	}
	log, err := h.store.Append(ctx, namesFile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.Close()) }()
	f, err := h.store.Open(ctx, namesFile)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	r, err := f.Range(ctx, -1, 1)
	if err != nil {
		return err
	}
	last, err := io.ReadAll(r)
	if err := errors.Join(err, r.Close()); err != nil {
		return err
	}
	var line []byte
	if string(last) != "\n" {
		line = append(line, '\n')
	}
	line, err = codec.AppendThreadName(line, codec.ThreadName{ID: id.String(), UpdatedAt: time.Now()})
	if err != nil {
		return err
	}
	if err := log.Append(line); err != nil {
		return err
	}
	return log.Seal(ctx)
}
