package filestore_test

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/recorder"
	"github.com/rollout-sync/rollout/store/internal/filestore"
	"github.com/rollout-sync/rollout/store/internal/vfs/crashfs"
)

const notes = 4

var (
	session = recorder.Meta{ID: uuid.MustParse("01a1f81e-b96c-7071-a214-a4467b4a9b32"), Cwd: "/w", Originator: "test", CLIVersion: "1"}
	clock   = &recorder.Options{Now: func() time.Time { return someTime }}
)

// note is the n-th item of a session.
func note(n int) codec.Item {
	return codec.Item{Type: codec.TypeEventMsg, Payload: fmt.Appendf(nil, `{"type":"user_message","message":"note %d"}`, n)}
}

// recordNotes records the notes from n on, and returns the first that Flush did not
// confirm. A session that is there is gone on with.
func recordNotes(s *filestore.Store, n int) (int, error) {
	r, err := recorder.New(s, session, clock)
	if err != nil {
		return n, err
	}
	_, err = readAll(ctx, s, r.Name())
	if err == nil {
		r, err = recorder.Resume(ctx, s, r.Name(), clock)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return n, err
	}
	for ; n < notes; n++ {
		err := r.Record(ctx, note(n))
		if err == nil {
			err = r.Flush(ctx)
		}
		if err != nil {
			return n, errors.Join(err, r.Close(ctx))
		}
	}
	return n, r.Close(ctx)
}

// wantNotes fails the test unless the session has the first n notes once each, and
// in their order.
func wantNotes(t *testing.T, what string, s *filestore.Store, n int) {
	t.Helper()
	r, err := recorder.New(s, session, clock)
	must(t, err)
	all := content(t, s, r.Name())
	rest := all
	for i := range n {
		_, after, found := strings.Cut(rest, string(note(i).Payload)+"}\n")
		if rest = after; !found || strings.Count(all, fmt.Sprintf("note %d", i)) != 1 {
			t.Errorf("%s: note %d of %d is not there once, in its place:\n%s", what, i, n, all)
			return
		}
	}
}

// A session that is gone on with after a fault has each line once.
func TestRecorderFaults(t *testing.T) {
	t.Parallel()
	points := 0
	for n := 0; ; n++ {
		fsys := crashfs.New()
		var at crashfs.Op
		hit := false
		fsys.Inject = func(op crashfs.Op) *crashfs.Fault {
			if op.N != n {
				return nil
			}
			at, hit = op, true
			return &crashfs.Fault{Err: syscall.EIO}
		}
		flushed, err := recordNotes(open(fsys), 0)
		if !hit {
			must(t, err)
			break
		}
		points++
		if !errors.Is(err, syscall.EIO) && !harmless(at) {
			t.Errorf("%v: the caller sees %v", at, err)
		}
		if _, err := recordNotes(open(fsys), flushed); err != nil {
			t.Errorf("%v: tried again: %v", at, err)
		}
		wantNotes(t, fmt.Sprint(at), open(fsys.Crash(crashfs.All, nil)), notes)
	}
	if t.Logf("%d fault points", points); points < 30 {
		t.Errorf("only %d fault points", points)
	}
}

// A session that is gone on with after a loss of power has each confirmed line once.
func TestRecorderCrash(t *testing.T) {
	t.Parallel()
	points, flushed := 0, 0
	fsys := crashfs.New()
	fsys.After = func(op crashfs.Op) {
		points++
		r := rand.New(rand.NewPCG(7, uint64(op.N)))
		for _, loss := range []crashfs.Loss{crashfs.All, crashfs.Some, crashfs.Holes} {
			what := fmt.Sprintf("power lost after %v (loss %d)", op, loss)
			disk := fsys.Crash(loss, r)
			wantNotes(t, what, open(disk), flushed)
			if flushed == 0 {
				continue // perhaps a part of the first line, which no session begins with
			}
			if _, err := recordNotes(open(disk), notes-1); err != nil {
				t.Errorf("%s: gone on: %v", what, err)
			}
			wantNotes(t, what+", gone on", open(disk.Crash(crashfs.All, nil)), flushed)
		}
	}
	s := open(fsys)
	r, err := recorder.New(s, session, clock)
	must(t, err)
	for n := range notes - 1 {
		must(t, r.Record(ctx, note(n)))
		must(t, r.Flush(ctx))
		flushed = n + 1
	}
	must(t, r.Close(ctx))
	if t.Logf("%d crash points", points); points < 25 {
		t.Errorf("only %d crash points", points)
	}
}
