package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
)

// Mending says how a Mend works.
type Mending struct {
	Home *os.Root
	// Locks are those that the writers of rollouts take.
	Locks store.Locker
	// Keep is the directory in the home that gets what is moved: outside of sessions
	// and archived_sessions, and the better for a date in its name. It is made when
	// it is needed.
	Keep string
}

// ErrUnmendable means that a finding is not, or not any more, one that can be mended
// without losing anything.
var ErrUnmendable = errors.New("needs a person")

// Mend does what a mendable finding needs, and returns to where the file was moved,
// "" if it was a lock, which is removed. It looks again first, under the lock of the
// session and, for rollouts, under Codex's lock for maintenance: what is not as it was
// found is ErrUnmendable, what somebody is writing to store.ErrBusy. A file that was
// moved has its bytes, times and mode, and nothing is ever replaced by it. Moving it
// back undoes it.
func Mend(ctx context.Context, m Mending, f Finding) (moved string, err error) {
	if !f.Mendable {
		return "", store.Wrap("mend", f.Path, ErrUnmendable)
	}
	switch {
	case f.Kind == Lock && f.session != [16]byte{}:
		err = m.unlock(ctx, f)
	case f.Kind == Lock:
		if err = m.free(f.Path); err == nil {
			moved, err = m.move(f.Path)
		}
	case f.Kind == Temporary:
		moved, err = m.move(f.Path)
	default:
		moved, err = m.copy(ctx, f)
	}
	return moved, store.Wrap("mend", f.Path, err)
}

// lock takes the writer's lock of a session.
func (m Mending) lock(ctx context.Context, f Finding) (unlock func() error, err error) {
	return m.Locks.Lock(ctx, codec.Name{Stamp: "doctor", Session: f.session, Rollout: f.session}.String())
}

// unlock removes the lock's file by taking the lock and giving it back.
func (m Mending) unlock(ctx context.Context, f Finding) error {
	unlock, err := m.lock(ctx, f)
	if err != nil {
		return err
	}
	return unlock()
}

// free returns an error if somebody has the lock of a file.
func (m Mending) free(file string) error {
	l := existing(m.Home, file)
	ok, err := l.TryLock()
	if err != nil {
		return err
	}
	if !ok {
		return store.ErrBusy
	}
	return l.Unlock()
}

// copy moves a file that another has all of.
func (m Mending) copy(ctx context.Context, f Finding) (moved string, err error) {
	unlock, err := m.lock(ctx, f)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if err := m.Home.MkdirAll(path.Dir(maintenance), 0o700); err != nil {
		return "", err
	}
	l := flock.New(filepath.Join(m.Home.Name(), filepath.FromSlash(maintenance)), flock.SetPermissions(0o600))
	if ok, err := l.TryLock(); err != nil {
		return "", err
	} else if !ok {
		return "", fmt.Errorf("%w: Codex is at work on its files", store.ErrBusy)
	}
	defer func() { err = errors.Join(err, l.Unlock()) }()

	rel, err := compare(ctx, m.Home, placeAt(f.Path), placeAt(f.Other))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "", fmt.Errorf("%w: one of the two is gone", ErrUnmendable)
	case err != nil:
		return "", err
	case rel != equal && rel != shorter:
		return "", fmt.Errorf("%w: it changed meanwhile", ErrUnmendable)
	}
	return m.move(f.Path)
}

func placeAt(file string) place { return place{dir: path.Dir(file), base: path.Base(file)} }

// move moves a file to where it is kept, under a name that nothing has there.
func (m Mending) move(file string) (string, error) {
	if !fs.ValidPath(m.Keep) || strings.HasPrefix(m.Keep+"/", sessionsDir+"/") || strings.HasPrefix(m.Keep+"/", archivedDir+"/") {
		return "", fmt.Errorf("%q is no place to keep files in", m.Keep)
	}
	to := path.Join(m.Keep, file)
	if err := m.Home.MkdirAll(path.Dir(to), 0o700); err != nil {
		return "", err
	}
	if _, err := m.Home.Lstat(to); !errors.Is(err, fs.ErrNotExist) {
		return "", errors.Join(err, fmt.Errorf("%s: %w", to, fs.ErrExist))
	}
	return to, m.Home.Rename(file, to)
}

// KeepAt is a directory to keep what is moved at a time.
func KeepAt(t time.Time) string { return path.Join("rollout-doctor", t.Format("2006-01-02T15-04-05")) }
