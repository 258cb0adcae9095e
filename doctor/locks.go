package doctor

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/gofrs/flock"
	"github.com/google/uuid"
)

const (
	locksDir = "thread-writer-locks"
	// gate is held, for an instant, by who takes or gives back a writer's lock.
	gate = locksDir + "/.coordination.lock"
	// ownLocks are of a store that was opened in the home without Codex's locks.
	ownLocks = ".locks"
	// maintenance is held by who replaces rollouts: Codex when it compresses or
	// migrates them.
	maintenance = ".tmp/rollout-maintenance.lock"
)

// locks finds out who is being written to, and tells of the locks of the dead. Such a
// lock locks nobody out: the system released it with the process.
func (e *examiner) locks(ctx context.Context) {
	// Nobody takes a lock while we try it, and so is refused for nothing.
	if open, ok := e.shut(ctx); ok {
		defer open()
	}
	for _, file := range e.lockFiles(locksDir) {
		id, err := uuid.Parse(strings.TrimSuffix(filepath.Base(file), ".lock"))
		switch {
		case e.isHeld(file):
			if err == nil {
				e.held[id] = true
			}
		case err == nil:
			e.found(Finding{
				Kind: Lock, Path: file, Note: true, Mendable: true, session: id, Detail: "a writer's lock that nobody holds",
				Cure: "none needed: it locks nobody out; doctor --apply removes it",
			})
		default:
			e.found(Finding{
				Kind: Lock, Path: file, Note: true, Mendable: true, Detail: "a lock that is no session's and that nobody holds",
				Cure: "none needed: it locks nobody out; doctor --apply moves it away",
			})
		}
	}
	for _, file := range e.lockFiles(ownLocks) {
		if !e.isHeld(file) {
			e.found(Finding{
				Kind: Lock, Path: file, Note: true, Mendable: true, Detail: "a lock of an older kind, which nobody holds",
				Cure: "none needed: it locks nobody out; doctor --apply moves it away",
			})
		}
	}
}

// lockFiles are the lock files in a directory, but for the gate.
func (e *examiner) lockFiles(dir string) []string {
	entries, err := fs.ReadDir(e.Home.FS(), dir)
	if err != nil && !os.IsNotExist(err) {
		e.found(unreadable(dir, err))
	}
	var files []string
	for _, d := range entries {
		file := dir + "/" + d.Name()
		if d.Type().IsRegular() && file != gate && (strings.HasSuffix(file, ".lock") || dir == ownLocks) {
			files = append(files, file)
		}
	}
	return files
}

// shut takes the gate, if there is one.
func (e *examiner) shut(ctx context.Context) (open func(), ok bool) {
	const patience = time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	l := existing(e.Home, gate)
	if ok, err := l.TryLockContext(ctx, time.Millisecond); !ok || err != nil {
		return nil, false
	}
	return func() { _ = l.Unlock() }, true
}

// isHeld reports whether somebody has, or might have, the lock of a file.
func (e *examiner) isHeld(file string) bool {
	l := existing(e.Home, file)
	if ok, err := l.TryLock(); !ok || err != nil {
		return !os.IsNotExist(err)
	}
	_ = l.Unlock()
	return false
}

// existing is the lock of a file that is not made if it is missing.
func existing(home *os.Root, file string) *flock.Flock {
	return flock.New(filepath.Join(home.Name(), filepath.FromSlash(file)), flock.SetFlag(os.O_RDONLY))
}
