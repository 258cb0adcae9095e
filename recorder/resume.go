package recorder

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"
	"time"
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
	// ErrTornText means that the last line was torn inside a character, and the
	// store is no store.Putter with which it could be moved aside. Codex reads
	// nothing at all of a file that is not valid UTF-8.
	ErrTornText = errors.New("the last line is torn inside a character")
)

// Store is what Resume needs: the session is read before it is appended to.
type Store interface {
	store.Source
	store.Sink
}

// Resume returns a recorder that goes on with a session of any history mode,
// under the writer's lock, which Close releases. A compressed one is made plain by
// the store. A last line without its newline gets one with the first write, be it
// whole, which keeps it, or torn, which leaves it as one bad line that readers
// skip.
//
// Resume itself changes no byte of the session, with one exception: a last line
// that is torn inside a character makes Codex refuse the whole file, so it is
// moved into a log of its own beside the session's, which Aside names.
//
// The errors are ErrNotResumable, ErrTornText and those of the store:
// store.ErrBusy if the session has a writer, errors.ErrUnsupported if the store
// is write-once.
func Resume(ctx context.Context, st Store, name string, o *Options) (*Recorder, error) {
	r, torn, err := resume(ctx, st, name, o)
	if err != nil || torn == nil {
		return r, err
	}
	aside, err := moveAside(ctx, st, name, torn)
	if err != nil {
		return nil, store.Wrap("resume", name, err)
	}
	if r, torn, err = resume(ctx, st, name, o); torn != nil {
		return nil, store.Wrap("resume", name, store.ErrChanged)
	} else if err != nil {
		return nil, err
	}
	r.aside = aside
	return r, nil
}

// Aside is the name of the log to which Resume moved a last line that was torn
// inside a character; "" if there was none.
func (r *Recorder) Aside() string { return r.aside }

// resume is Resume, unless the session is torn inside a character: then it returns
// what is to be moved aside.
func resume(ctx context.Context, st Store, name string, o *Options) (*Recorder, *tornText, error) {
	log, err := st.Append(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	r, torn, err := readEnds(ctx, st, log, name, o)
	if err != nil || torn != nil {
		err = errors.Join(err, log.Close())
		return nil, torn, store.Wrap("resume", name, err)
	}
	return r, nil, nil
}

func readEnds(ctx context.Context, st Store, log store.Log, name string, o *Options) (r *Recorder, torn *tornText, err error) {
	f, err := st.Open(ctx, name)
	if err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()

	head, id, err := readHead(ctx, f)
	if err != nil {
		return nil, nil, err
	}
	r = newRecorder(st, name, id, nil, o)
	r.log, r.made, r.confirmed = log, true, log.Size()
	r.paginated = head.HistoryMode == codec.HistoryPaginated
	if r.o.Plain, err = beginsPlain(ctx, f); err != nil {
		return nil, nil, err
	}
	var open []byte
	if open, r.ordinal, err = readTail(ctx, f, log.Size(), r.numbered()); err != nil {
		return nil, nil, err
	}
	if !utf8.Valid(open) {
		return nil, &tornText{open, log.Size() - int64(len(open))}, nil
	}
	if len(open) > 0 {
		r.pending = []byte("\n")
	}
	return r, nil, nil
}

// beginsPlain reports whether the first item of a session is a plain event: Codex's
// have a time, and its bare ones of 2025 no number.
func beginsPlain(ctx context.Context, f store.File) (plain bool, err error) {
	rc, err := f.Range(ctx, 0, -1)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, rc.Close()) }()
	for line, err := range codec.Lines(rc) {
		if err != nil {
			return false, err
		}
		if it, err := codec.DecodeItem(line.Bytes); err == nil {
			return it.Timestamp == "" && it.HasOrdinal, nil
		}
	}
	return false, nil
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
	case h.HistoryMode != "" && h.HistoryMode != codec.HistoryLegacy && h.HistoryMode != codec.HistoryPaginated:
		return h, id, fmt.Errorf("%w: history mode %.40q is not known", ErrNotResumable, h.HistoryMode)
	}
	return h, id, nil
}

// readTail reads a session of size bytes from its end, as much of it as it takes.
// It returns the last line, if that has no newline, and, if numbered is set, the
// ordinal of the last item.
func readTail(ctx context.Context, f store.File, size int64, numbered bool) (open []byte, ordinal uint64, err error) {
	r := readerAt{ctx, f}
	start := size // of open
	for rec, err := range codec.RecordsBackward(r, size, 0) {
		if err != nil {
			return nil, 0, err
		}
		if !rec.Ended {
			start = rec.Offset // a line may be several records
		} else if !numbered {
			break
		}
		if !numbered || rec.Err != nil {
			continue
		}
		if !rec.Item.HasOrdinal {
			return nil, 0, fmt.Errorf("%w: its items are numbered, and the last one has no number", ErrNotResumable)
		}
		ordinal, numbered = rec.Item.Ordinal, false
	}
	open = make([]byte, size-start)
	_, err = r.ReadAt(open, start)
	return open, ordinal, err
}

// A readerAt reads a log at any offset.
type readerAt struct {
	ctx context.Context
	f   store.File
}

func (r readerAt) ReadAt(p []byte, off int64) (int, error) {
	rc, err := r.f.Range(r.ctx, off, int64(len(p)))
	if err != nil {
		return 0, err
	}
	n, err := io.ReadFull(rc, p)
	return n, errors.Join(err, rc.Close())
}

// A tornText is a last line that is not valid UTF-8.
type tornText struct {
	line []byte
	off  int64 // where it begins
}

// moveAside cuts a torn line off the session, after it was stored durably beside
// it. It takes the writer's lock for each of the two, and the second is done only
// if the session still ends with that line.
func moveAside(ctx context.Context, st Store, name string, torn *tornText) (aside string, err error) {
	put, ok := store.As[store.Putter](st)
	if !ok {
		return "", ErrTornText
	}
	// Codex leaves alone what is called neither rollout-* nor *.tmp. The hash
	// makes it a name that is taken only by the very same line.
	session := strings.TrimSuffix(strings.TrimPrefix(path.Base(name), "rollout-"), ".jsonl")
	aside = path.Join(path.Dir(name), fmt.Sprintf("torn-%s-%.8x", session, sha256.Sum256(torn.line)))
	_, err = put.Put(ctx, aside, store.BytesBody(torn.line, time.Time{}), store.Cond{IfAbsent: true})
	if err != nil && !errors.Is(err, store.ErrChanged) {
		return "", err
	}

	f, err := st.Open(ctx, name)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	sum := func(off, n int64) ([32]byte, error) {
		rc, err := f.Range(ctx, off, n)
		if err != nil {
			return [32]byte{}, err
		}
		hash := sha256.New()
		_, err = io.Copy(hash, rc)
		return [32]byte(hash.Sum(nil)), errors.Join(err, rc.Close())
	}
	line, err := sum(torn.off, -1)
	if err == nil && line != sha256.Sum256(torn.line) {
		err = store.ErrChanged
	}
	if err != nil {
		return "", err
	}
	info := f.Info()
	body := store.Body{Size: torn.off, ModTime: info.ModTime, Open: func() (io.ReadCloser, error) {
		return f.Range(ctx, 0, torn.off)
	}}
	if body.SHA256, err = sum(0, torn.off); err != nil {
		return "", err
	}
	_, err = put.Put(ctx, name, body, store.Cond{IfVersion: info.Version})
	return aside, err
}
