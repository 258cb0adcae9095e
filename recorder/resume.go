package recorder

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
)

// Errors of Resume that tell why a session is not appended to. Nothing was
// changed.
var (
	// ErrNotResumable means that Codex would not read what was appended: the
	// session has no session_meta with all that Codex requires, as in the files
	// of 2025 without envelopes, or a history mode that is not known here, or is
	// paginated and without ordinals.
	ErrNotResumable = errors.New("the session cannot be resumed")
	// ErrTornText means that the last line was torn inside a character. Codex
	// reads nothing at all of a file that is not valid UTF-8.
	ErrTornText = errors.New("the last line is torn inside a character")
)

const (
	historyLegacy    = "legacy"
	historyPaginated = "paginated"
)

// Store is what Resume needs: the session is read before it is appended to.
type Store interface {
	store.Source
	store.Sink
}

// Resume returns a recorder that goes on with a session of any history mode,
// under the writer's lock, which Close releases. It changes no byte; a last line
// without its newline gets one with the first write, be it whole, which keeps it,
// or torn, which leaves it as one bad line that readers skip.
//
// The errors are ErrNotResumable, ErrTornText and those of the store:
// store.ErrBusy if the session has a writer, errors.ErrUnsupported if the store
// is write-once.
func Resume(ctx context.Context, st Store, name string, o *Options) (*Recorder, error) {
	log, err := st.Append(ctx, name)
	if err != nil {
		return nil, err
	}
	r, err := resume(ctx, st, log, name, o)
	if err != nil {
		return nil, store.Wrap("resume", name, errors.Join(err, log.Close()))
	}
	return r, nil
}

func resume(ctx context.Context, st Store, log store.Log, name string, o *Options) (r *Recorder, err error) {
	f, err := st.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()

	head, id, err := readHead(ctx, f)
	if err != nil {
		return nil, err
	}
	paginated := head.HistoryMode == historyPaginated
	end, err := readTail(ctx, f, log.Size(), paginated)
	if err != nil {
		return nil, err
	}
	var lead []byte
	if !end.ended {
		lead = []byte("\n")
	}
	r = newRecorder(st, name, id, lead, o)
	r.log, r.paginated, r.ordinal = log, paginated, end.ordinal
	return r, nil
}

// readHead returns the head of a session that Codex would resume, and its id.
func readHead(ctx context.Context, f store.File) (codec.Head, uuid.UUID, error) {
	rc, err := f.Range(ctx, 0, -1)
	if err != nil {
		return codec.Head{}, uuid.Nil, err
	}
	h, err := codec.ReadHead(rc)
	if err := errors.Join(err, rc.Close()); err != nil {
		return codec.Head{}, uuid.Nil, err
	}
	id, err := uuid.Parse(h.ID)
	switch {
	case !h.HasMeta:
		return h, id, fmt.Errorf("%w: it has no session_meta", ErrNotResumable)
	case err != nil || h.StartTime.IsZero() || h.Cwd == "" || h.Originator == "" || h.CLIVersion == "":
		return h, id, fmt.Errorf("%w: its session_meta lacks id, timestamp, cwd, originator or cli_version", ErrNotResumable)
	case h.HistoryMode != "" && h.HistoryMode != historyLegacy && h.HistoryMode != historyPaginated:
		return h, id, fmt.Errorf("%w: history mode %.40q is not known", ErrNotResumable, h.HistoryMode)
	}
	return h, id, nil
}

// A tail is how a session ends.
type tail struct {
	ended   bool   // with a newline
	ordinal uint64 // of the last item
}

// readTail reads a session of size bytes from its end, as much of it as it takes
// to see the last line and, if ordinals is set, the last item.
func readTail(ctx context.Context, f store.File, size int64, ordinals bool) (tail, error) {
	for n := int64(64 << 10); ; n *= 2 {
		n = min(n, size)
		rc, err := f.Range(ctx, size-n, n)
		if err != nil {
			return tail{}, err
		}
		b, err := io.ReadAll(rc)
		if err := errors.Join(err, rc.Close()); err != nil {
			return tail{}, err
		}
		t, found, err := parseTail(b, n == size, ordinals)
		if err != nil || found || n == size {
			return t, err
		}
	}
}

// parseTail looks for the end of a session in its last bytes. It is not found
// when there have to be more of them, which whole says there are not.
func parseTail(b []byte, whole, ordinals bool) (t tail, found bool, err error) {
	lines := bytes.Split(b, []byte("\n"))
	last := lines[len(lines)-1]
	t.ended = len(last) == 0
	if !whole {
		lines = lines[1:] // it may begin before b
	}
	if len(lines) == 0 {
		return t, false, nil
	}
	if !utf8.Valid(last) {
		return t, false, ErrTornText
	}
	if !ordinals {
		return t, true, nil
	}
	for i := len(lines) - 1; i >= 0; i-- {
		it, err := codec.DecodeItem(lines[i])
		if err != nil {
			continue // blank, torn or damaged
		}
		if !it.HasOrdinal {
			return t, false, fmt.Errorf("%w: it is paginated, and its last item has no ordinal", ErrNotResumable)
		}
		t.ordinal = it.Ordinal
		return t, true, nil
	}
	return t, false, nil
}
