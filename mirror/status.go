package mirror

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/store"
)

// A Run is how a Push went, as the state remembers it.
type Run struct {
	Begun time.Time `json:"begun"`
	Ended time.Time `json:"ended"`
	// Err is why the push could not go on, in one line; "" if it could.
	Err string `json:"error,omitempty"`

	Rollouts int            `json:"rollouts"`       // found in the home
	Actions  map[Action]int `json:"actions"`        // how many of them ended how
	Bytes    int64          `json:"bytes"`          // plain bytes of the versions that were written
	Total    int64          `json:"bytes_total"`    // Bytes of all runs since the state was made
	Foreign  int            `json:"foreign"`        // see Report.Foreign
	Vanished int            `json:"vanished"`       // see Report.Vanished
	Left     int            `json:"left,omitempty"` // not begun because time was up
	Clean    bool           `json:"clean"`          // it went through, and nothing failed, vanished or was foreign
}

// Names among the passes.
const (
	lastRun  = "last run"       // Run
	cleanRun = "last clean run" // the last Run that was Clean
)

// newRun is the Run of a push that returned r and err.
func newRun(begun, ended time.Time, r Report, err error) Run {
	run := Run{
		Begun: begun.UTC(), Ended: ended.UTC(), Rollouts: r.Rollouts, Actions: r.Actions, Bytes: r.Bytes,
		Foreign: len(r.Foreign), Vanished: len(r.Vanished), Left: r.Left,
		Clean: err == nil && len(r.Failures)+len(r.Foreign)+len(r.Vanished) == 0,
	}
	if err != nil {
		run.Err = strings.ReplaceAll(err.Error(), "\n", "; ") // joined errors
	}
	return run
}

// recordRun remembers how a push went. It is for its end, whatever that is; what a push
// that was killed did is told by the next.
func (s *State) recordRun(r Run) error {
	c := change{}
	before, _, err := get[Run](s, passes, lastRun)
	r.Total = before.Total + r.Bytes
	if err == nil {
		err = set(c, passes, lastRun, r)
	}
	if err == nil && r.Clean {
		err = set(c, passes, cleanRun, r)
	}
	if err != nil {
		return err
	}
	return s.write(c)
}

// A Status is how far a home is mirrored, as far as the home's own state tells: what
// others did to the mirror since the last push is not in it.
type Status struct {
	Rollouts int // in the home
	// Pending are the rollouts that changed since they were pushed, or never were;
	// Bytes is what they take on the disk. The next push looks at them, and may find
	// that there is nothing new in them.
	Pending int
	Bytes   int64
	// Oldest is when the pending rollout last changed that waits the longest; zero if
	// none is pending. A time in the future counts as now.
	Oldest time.Time
	// Behind are those pending of which the mirror has an earlier version.
	Behind int
	// Diverged are rollouts that the mirror keeps beside another home's version.
	Diverged int
	// Vanished are rollouts that were pushed and are in the home no more, and that no
	// push has told of yet.
	Vanished int
	// Last is the last push, and Clean the last that had nothing to complain about;
	// nil if there was none.
	Last, Clean *Run
}

// ReadStatus compares a home with the state of its pushes in file. It makes no request
// to the mirror and changes nothing; it lists the home and opens none of its rollouts.
//
// ErrLocked means that a push is at work. While the state is read, which takes
// milliseconds, a push that begins finds it locked and tries again for a tenth of a
// second. A state that is not there is that of a home that was never pushed, one that
// cannot be read is store.ErrCorrupt. Memory is some 300 bytes a rollout.
func ReadStatus(ctx context.Context, home store.Source, file string, now time.Time) (Status, error) {
	s, err := readState(file)
	if err != nil {
		return Status{}, err
	}
	known, err := s.known()
	if err := errors.Join(err, s.Close()); err != nil {
		return Status{}, err
	}
	return known.compare(ctx, home, now)
}

// Status is what ReadStatus tells, of a state that is open. It is not for the time of
// a Push.
func (s *State) Status(ctx context.Context, home store.Source, now time.Time) (Status, error) {
	known, err := s.known()
	if err != nil {
		return Status{}, err
	}
	return known.compare(ctx, home, now)
}

// compare compares a home with what is known, and uses that up.
func (k known) compare(ctx context.Context, home store.Source, now time.Time) (Status, error) {
	st := Status{Last: k.last, Clean: k.clean}
	names, err := listing.ThreadNames(ctx, home)
	if err != nil {
		return st, err
	}
	for r, err := range rollouts(ctx, home, sessionsDir, archivedDir) {
		if err != nil {
			return st, err
		}
		st.Rollouts++
		was, ok := k.files[r.Path]
		delete(k.files, r.Path)
		if strings.HasPrefix(was.Key, divergedDir+"/") {
			st.Diverged++
		}
		if ok && was.Version == r.Info.Version && was.Name == names[r.Name.Session.String()].Name {
			continue
		}
		st.Pending++
		st.Bytes += max(r.Info.Stored, 0)
		if was.mirrored {
			st.Behind++
		}
		at := r.Info.ModTime
		if at.After(now) {
			at = now
		}
		if st.Oldest.IsZero() || at.Before(st.Oldest) {
			st.Oldest = at
		}
	}
	st.Vanished = len(k.files)
	return st, nil
}

// A knownFile is a file that was dealt with.
type knownFile struct {
	fileState
	mirrored bool // the mirror has a version of it
}

// known is what a state knows.
type known struct {
	files       map[string]knownFile // that were dealt with, by path
	last, clean *Run
}

func (s *State) known() (known, error) {
	k := known{files: map[string]knownFile{}}
	err := s.each(files, func(file string, v []byte) error {
		var f knownFile
		if json.Unmarshal(v, &f.fileState) != nil {
			return nil
		}
		n, _ := codec.ParseName(path.Base(file)) // it was parsed when it was found
		o, err := s.get(objects, cmp.Or(f.Key, Key(n, file)))
		f.mirrored = o != nil
		k.files[file] = f
		return err
	})
	if err != nil {
		return k, err
	}
	if k.last, err = s.run(lastRun); err != nil {
		return k, err
	}
	k.clean, err = s.run(cleanRun)
	return k, err
}

// run returns the Run among the passes, nil if there is none.
func (s *State) run(name string) (*Run, error) {
	r, ok, err := get[Run](s, passes, name)
	if !ok {
		return nil, err
	}
	return &r, err
}

// readState opens the state in file to read it, or an empty one if there is none.
func readState(file string) (*State, error) {
	db, err := bolt.Open(file, 0o600, &bolt.Options{ReadOnly: true, Timeout: 100 * time.Millisecond})
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return NewState(), nil
	case errors.Is(err, berrors.ErrTimeout):
		return nil, ErrLocked
	case errors.Is(err, berrors.ErrInvalid) || errors.Is(err, berrors.ErrChecksum) || errors.Is(err, berrors.ErrVersionMismatch):
		return nil, fmt.Errorf("state %s: %w: %w", file, store.ErrCorrupt, err)
	case err != nil:
		return nil, fmt.Errorf("state %s: %w", file, err)
	}
	return &State{&database{db}}, nil
}

// CheckState returns why the state in file cannot be read: nil if it can, and if there
// is none or a push is at work on it.
func CheckState(file string) error {
	s, err := readState(file)
	switch {
	case errors.Is(err, ErrLocked):
		return nil
	case err != nil:
		return err
	}
	_, err = s.known()
	return errors.Join(err, s.Close())
}
