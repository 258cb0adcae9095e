// Package mirror keeps a copy of a home's rollouts in another store, for a whole
// team in one tree, so that nothing that was ever pushed can be lost by a later
// push, and brings them back.
//
// # The tree
//
//	rollout-mirror.json                       format version, and whether the store minds conditions
//	sessions/YYYY/MM/DD/rollout-….jsonl       current version; the date is the file name's own
//	diverged/<path>/<origin>.jsonl            another home's version that neither extends nor supersedes it
//	history/<path>/<plain hash>.jsonl         what a rewrite superseded
//	history/<path>/<stored hash>.foreign      what somebody else's tool had put in the place of a version
//	origins/<origin>/YYYY-MM.jsonl            facts that only that origin writes, see [Fact]
//	forgotten/<id>.json                       what is not to be pushed again
//
// <path> is the current version's name without its suffix. Names follow the name
// of the rollout's file, so moving it to archived_sessions/ changes a fact, not
// an object; a rollout without a date in its name keeps its path. In an object
// store each .jsonl is a sealed .jsonl.zst.
//
// # What decides
//
// A version is identified by the size and SHA-256 of its plain bytes. Times and
// sizes only tell where to look again. A [Push] destroys nothing: every Put has a
// condition, and what a rewrite replaces is copied to history/ first. What becomes
// of a home's version, by the current one of its name:
//
//	there is none                             it becomes current
//	it is the beginning of the home's         the home's replaces it
//	it begins with the home's                 nothing to do: the mirror is ahead
//	it is what this home had before (base)    it goes to history, the home's replaces it
//	the home's is in history                  nothing to do: it was superseded
//	else                                      the home's goes to diverged, and grows there
//
// # Requests
//
// With nothing to do a Push makes none. Else it reads the marker, lists what was
// forgotten once something is new, writes each new version with one Put, and reads
// and writes the facts of each month concerned once. What the state does not know of
// is looked for by opening the object, or by a listing of the directory as far as a
// request of that saves eight looks. A replacement costs no request more: the state knows the
// version that it is a condition of. TestPushRequests has the numbers.
//
// # Lineage
//
// A fork or revert of a paginated session begins with the first bytes of another
// rollout, by reference. Push brings that one first, and the fact of the child says
// which bytes it means ([Pin]): the parent may be rewritten later, or diverge, and the
// child goes with the version that has them.
package mirror

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"path"
	"slices"
	"strings"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
)

// Store is what a mirror is kept in: the conditions of its Put are what makes it
// safe for several homes to push at once.
type Store interface {
	store.Source
	store.Putter
}

const (
	sessionsDir = "sessions"
	archivedDir = "archived_sessions"
	divergedDir = "diverged"
	historyDir  = "history"
	originsDir  = "origins"

	logSuffix     = ".jsonl"
	sealedSuffix  = ".jsonl.zst"
	foreignSuffix = ".foreign"

	namesFile = "session_index.jsonl"
)

// maxSmall bounds what is read whole: the marker and a month of facts. The facts
// of one origin and month take some 300 bytes a rollout.
const maxSmall = 256 << 20

func readAll(ctx context.Context, s store.Source, name string) ([]byte, error) {
	f, err := s.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return readFile(ctx, f)
}

func readFile(ctx context.Context, f store.File) ([]byte, error) {
	r, err := f.Range(ctx, 0, maxSmall)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	// Facts are kept as they are read: a buffer that had grown would be twice as large.
	b := bytes.NewBuffer(make([]byte, 0, min(max(f.Info().Size, 0), maxSmall)+bytes.MinRead))
	_, err = b.ReadFrom(r)
	return b.Bytes(), err
}

// Key returns the name in the mirror of the rollout that a home has at p.
func Key(n codec.Name, p string) string {
	if year, month, day, ok := n.Date(); ok {
		return path.Join(sessionsDir, year, month, day, n.String())
	}
	return p
}

// inPlace reports whether p is the rollout's name in the mirror as well.
func inPlace(n codec.Name, p string) bool {
	year, month, day, ok := n.Date()
	return !ok || path.Dir(p) == sessionsDir+"/"+year+"/"+month+"/"+day
}

func divergedKey(key, origin string) string {
	return path.Join(divergedDir, strings.TrimSuffix(key, logSuffix), origin+logSuffix)
}

func historyKey(key, hash string) string {
	return path.Join(historyDir, strings.TrimSuffix(key, logSuffix), hash+logSuffix)
}

func foreignKey(key, storedHash string) string {
	return path.Join(historyDir, strings.TrimSuffix(key, logSuffix), storedHash+foreignSuffix)
}

// found is a rollout where a walk found it.
type found struct {
	Path string
	Name codec.Name
	Info store.Info
}

// rollouts yields every rollout below dirs, each once, in no particular order. A
// directory that is missing holds none.
func rollouts(ctx context.Context, s store.Source, dirs ...string) iter.Seq2[found, error] {
	return func(yield func(found, error) bool) {
		// In order, because otherwise one that is there plain and compressed comes twice.
		for e, err := range walk(ctx, s, store.ListOptions{}, dirs...) {
			if err != nil {
				yield(found{}, err)
				return
			}
			if r, ok := foundAt(e); ok && !yield(r, nil) {
				return
			}
		}
	}
}

// foundAt returns the rollout that e is; false of what is none, and never touched.
func foundAt(e store.Entry) (found, bool) {
	if !strings.HasSuffix(e.Name, logSuffix) {
		return found{}, false
	}
	n, err := codec.ParseName(path.Base(e.Name))
	return found{e.Name, n, e.Info}, err == nil
}

// walk yields every log below dirs.
func walk(ctx context.Context, s store.Source, o store.ListOptions, dirs ...string) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		dirs := slices.Clone(dirs)
		for len(dirs) > 0 {
			dir := dirs[len(dirs)-1]
			dirs = dirs[:len(dirs)-1]
			for e, err := range s.List(ctx, dir, o) {
				switch {
				case errors.Is(err, fs.ErrNotExist):
					// A directory that is not there, or not any more.
				case err != nil:
					yield(store.Entry{}, err)
					return
				case e.Dir:
					dirs = append(dirs, e.Name)
				case !yield(e, nil):
					return
				}
			}
		}
	}
}

// currents yields the current version of every rollout in the mirror.
func currents(ctx context.Context, m store.Source) iter.Seq2[found, error] {
	return func(yield func(found, error) bool) {
		for r, err := range rollouts(ctx, m, sessionsDir, archivedDir) {
			// An object that lies elsewhere than its name says is not ours.
			if err == nil && Key(r.Name, r.Path) != r.Path {
				continue
			}
			if !yield(r, err) || err != nil {
				return
			}
		}
	}
}

// Match reports whether an id that a person typed means the rollout: it is the
// session's or the rollout's id, or begins one of them.
func Match(id string, n codec.Name) bool {
	id = strings.ToLower(id)
	return id != "" && (strings.HasPrefix(n.Session.String(), id) || strings.HasPrefix(n.Rollout.String(), id))
}

// version identifies plain bytes.
type version struct {
	Size   int64
	SHA256 [32]byte
}

func (v version) hash() string { return fmt.Sprintf("%x", v.SHA256) }

// copyAll reads r to its end.
func copyAll(dst io.Writer, r io.ReadCloser) error {
	_, err := io.Copy(dst, r)
	return errors.Join(err, r.Close())
}
