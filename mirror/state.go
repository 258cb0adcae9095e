package mirror

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// ErrLocked means that another run uses the same state.
var ErrLocked = errors.New("another run is at work on this home and mirror")

// State is what a home remembers of its pushes to one mirror, so that a push with
// nothing to do needs no request and reads no file. It is a cache: a push without
// it is slower and may keep a rewritten rollout as diverged instead of
// superseding the old version, but loses nothing.
//
// One process at a time has it open, which also keeps two pushes apart.
type State struct{ db *bolt.DB }

// OpenState opens or makes the state in file. ErrLocked means that another process
// has it. A file that is damaged is moved aside, to file + ".damaged".
func OpenState(file string) (*State, error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	db, err := openDB(file)
	if errors.Is(err, berrors.ErrInvalid) || errors.Is(err, berrors.ErrChecksum) || errors.Is(err, berrors.ErrVersionMismatch) {
		if err := os.Rename(file, file+".damaged"); err != nil {
			return nil, err
		}
		db, err = openDB(file)
	}
	if errors.Is(err, berrors.ErrTimeout) {
		return nil, ErrLocked
	}
	if err != nil {
		return nil, fmt.Errorf("state %s: %w", file, err)
	}
	return &State{db}, nil
}

var (
	filesBucket   = []byte("files")   // path in the home → fileState
	objectsBucket = []byte("objects") // name in the mirror → objectState
)

func openDB(file string) (*bolt.DB, error) {
	db, err := bolt.Open(file, 0o600, &bolt.Options{Timeout: 100 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, b := range [][]byte{filesBucket, objectsBucket} {
			if _, err := tx.CreateBucketIfNotExists(b); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// Close closes the state and lets other processes have it.
func (s *State) Close() error { return s.db.Close() }

// fileState is a file of the home when it was last dealt with.
type fileState struct {
	Version string `json:"version,omitempty"` // Info.Version; "" if the file may have changed unnoticed
	Name    string `json:"name,omitempty"`    // the session's name among the facts
	Beside  bool   `json:"beside,omitempty"`  // another file of its name has the current version
	Waiting string `json:"waiting,omitempty"` // Info.Version of one with a time in the future
}

// objectState is an object when this home last saw it equal to its own bytes.
type objectState struct {
	Version string `json:"version"` // Info.Version
	Size    int64  `json:"size"`    // plain
	SHA256  string `json:"sha256"`  // plain; of a current version: the base
}

func get[T any](s *State, bucket []byte, key string) (v T, ok bool, err error) {
	err = s.db.View(func(tx *bolt.Tx) error {
		p := tx.Bucket(bucket).Get([]byte(key))
		ok = p != nil && json.Unmarshal(p, &v) == nil // what cannot be read is not known
		return nil
	})
	return v, ok, err
}

// record stores the state of one file, recordFiles of several, recordObject of an
// object: all of it or nothing.
func (s *State) record(path string, f fileState) error {
	return s.recordFiles(map[string]fileState{path: f})
}

func (s *State) recordFiles(files map[string]fileState) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		for path, f := range files {
			if err := put(tx, filesBucket, path, f); err != nil {
				return err
			}
		}
		return nil
	})
}

func (s *State) recordObject(key string, o objectState) error {
	return s.db.Update(func(tx *bolt.Tx) error { return put(tx, objectsBucket, key, o) })
}

func put(tx *bolt.Tx, bucket []byte, key string, v any) error {
	p, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return tx.Bucket(bucket).Put([]byte(key), p)
}

// forgetFiles drops files that are no longer at those paths.
func (s *State) forgetFiles(paths []string) error {
	return s.db.Update(func(tx *bolt.Tx) error {
		for _, p := range paths {
			if err := tx.Bucket(filesBucket).Delete([]byte(p)); err != nil {
				return err
			}
		}
		return nil
	})
}

// eachFile calls visit with the path of every file that is known.
func (s *State) eachFile(visit func(path string)) error {
	return s.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket(filesBucket).ForEach(func(k, _ []byte) error {
			visit(string(k))
			return nil
		})
	})
}
