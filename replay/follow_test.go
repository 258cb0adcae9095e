package replay_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollout-sync/rollout/replay"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/memfs"
)

const (
	liveName     = "sessions/2026/11/20/rollout-2026-11-20T08-41-45-01a1f81e-b96c-7071-a214-a4467b4a9b32.jsonl"
	archivedName = "archived_sessions/rollout-2026-11-20T08-41-45-01a1f81e-b96c-7071-a214-a4467b4a9b32.jsonl"
)

// following runs Follow in a bubble. next waits for it to wait, and returns what
// came since.
func following(t *testing.T, src store.Source) (next func() string, stop func()) {
	ctx, cancel := context.WithCancel(t.Context())
	var mu sync.Mutex
	var got []string
	done := make(chan struct{})
	go func() {
		defer close(done)
		for it, err := range replay.Follow(ctx, src, liveName) {
			mu.Lock()
			switch {
			case errors.Is(err, context.Canceled):
				got = append(got, "canceled")
			case errors.Is(err, fs.ErrNotExist):
				got = append(got, "gone")
			case errors.Is(err, store.ErrChanged):
				got = append(got, "rewritten")
			case err != nil:
				got = append(got, err.Error())
			case it.Line == 0:
				got = append(got, "idle")
			case it.Err != nil:
				got = append(got, fmt.Sprintf("%d@%d: %v", it.Line, it.Offset, it.Err))
			default:
				got = append(got, fmt.Sprintf("%d@%d: %s", it.Line, it.Offset, it.Type))
			}
			mu.Unlock()
		}
	}()
	next = func() string {
		time.Sleep(time.Second) // of the bubble
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		s := strings.Join(got, ", ")
		got = nil
		return s
	}
	stop = func() {
		cancel()
		<-done
	}
	return next, stop
}

// write changes the store: content "" removes.
func write(t *testing.T, st *memfs.Store, name, content string) {
	t.Helper()
	file, err := st.Open(t.Context(), name)
	if err == nil {
		must(t, st.Remove(t.Context(), name, file.Info().Version))
		must(t, file.Close())
	}
	if content == "" {
		return
	}
	log, err := st.Create(t.Context(), name)
	must(t, err)
	must(t, log.Append([]byte(content)))
	must(t, log.Close())
}

func appendTo(t *testing.T, st *memfs.Store, name, content string) {
	t.Helper()
	log, err := st.Append(t.Context(), name)
	must(t, err)
	must(t, log.Append([]byte(content)))
	must(t, log.Close())
}

func TestFollow(t *testing.T) {
	t.Parallel()
	expect := func(t *testing.T, got, want string) {
		t.Helper()
		if got != want {
			t.Fatalf("got  %s\nwant %s", got, want)
		}
	}
	t.Run("appended", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			st := memfs.New(nil)
			write(t, st, liveName, metaLine+eventLine[:20])
			next, stop := following(t, st)
			expect(t, next(), "1@0: session_meta, idle")
			expect(t, next(), "")
			appendTo(t, st, liveName, eventLine[20:40])
			expect(t, next(), "")
			appendTo(t, st, liveName, eventLine[40:]+"\n"+eventLine+"{bad}\n")
			expect(t, next(), "2@66: event_msg, 4@139: event_msg, 5@211: not valid JSON, idle")
			appendTo(t, st, liveName, eventLine[:30]+eventLine)
			expect(t, next(), "6@217: cut off, 6@247: event_msg, idle")
			appendTo(t, st, liveName, eventLine)
			expect(t, next(), "7@319: event_msg, idle")
			stop()
			expect(t, next(), "canceled")
		})
	})
	t.Run("archived and back", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			st := memfs.New(nil)
			write(t, st, liveName, metaLine)
			next, stop := following(t, st)
			expect(t, next(), "1@0: session_meta, idle")
			write(t, st, liveName, "")
			write(t, st, archivedName, metaLine)
			expect(t, next(), "")
			appendTo(t, st, archivedName, eventLine)
			expect(t, next(), "2@66: event_msg, idle")
			write(t, st, archivedName, "") // for a moment nowhere
			expect(t, next(), "")
			write(t, st, liveName, metaLine+eventLine+eventLine)
			expect(t, next(), "3@138: event_msg, idle")
			stop()
		})
	})
	for title, content := range map[string]struct{ now, want string }{
		"gone":              {"", "gone"},
		"cut":               {metaLine, "rewritten"},
		"rewritten, longer": {metaLine + strings.ReplaceAll(eventLine+eventLine, "7", "8"), "rewritten"},
		"replaced by what extends it": {
			metaLine + eventLine + eventLine, "3@138: event_msg, idle",
		},
	} {
		t.Run(title, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				st := memfs.New(nil)
				write(t, st, liveName, metaLine+eventLine)
				next, stop := following(t, st)
				expect(t, next(), "1@0: session_meta, 2@66: event_msg, idle")
				write(t, st, liveName, content.now)
				got := next() + next() + next()
				stop()
				expect(t, got, content.want)
			})
		})
	}
	t.Run("never there", func(t *testing.T) {
		t.Parallel()
		for it, err := range replay.Follow(t.Context(), memfs.New(nil), liveName) {
			if !errors.Is(err, fs.ErrNotExist) || it.Line != 0 {
				t.Errorf("got %+v, %v", it, err)
			}
		}
	})
	t.Run("left", func(t *testing.T) {
		t.Parallel()
		st := memfs.New(nil)
		write(t, st, liveName, metaLine)
		for range replay.Follow(t.Context(), st, liveName) {
			break
		}
	})
}

// A call is shown when it is made, and its output when that comes.
func TestFollowedCall(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		st := memfs.New(nil)
		write(t, st, liveName, metaLine+response("user", "go"))
		r, w := io.Pipe()
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			w.CloseWithError(replay.WriteText(w, replay.Entries(replay.Follow(ctx, st, liveName)), replay.TextOptions{}))
		}()
		chunks := make(chan string)
		go func() {
			defer close(chunks)
			for buf := make([]byte, 1000); ; {
				n, err := r.Read(buf)
				if err != nil {
					return
				}
				chunks <- string(buf[:n])
			}
		}()
		next := func() string { return <-chunks }
		if s := next(); !strings.Contains(s, "user, t\n  go\n") {
			t.Errorf("got %q", s)
		}
		appendTo(t, st, liveName, `{"timestamp":"t","type":"response_item","payload":{"type":"function_call","name":"f","call_id":"c"}}`+"\n")
		if s := next(); s != "\ncall 1: f\n" {
			t.Errorf("got %q", s)
		}
		appendTo(t, st, liveName, output("done"))
		if s := next(); s != "\noutput of call 1\n  done\n" {
			t.Errorf("got %q", s)
		}
		cancel()
		if s, ok := <-chunks; ok {
			t.Errorf("got %q", s)
		}
	})
}
