package mirror

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
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
// One process at a time has a state's file open, which also keeps two pushes
// apart.
type State struct{ kv }

// kv is where a State is kept. Values are JSON.
type kv interface {
	// get returns nil for what is not there.
	get(b bucket, key string) ([]byte, error)
	// write puts all values, and deletes those that are nil, or does nothing.
	write(b bucket, values map[string][]byte) error
	each(b bucket, visit func(key string)) error
	Close() error
}

type bucket string

const (
	files   bucket = "files"   // path in the home → fileState
	objects bucket = "objects" // name in the mirror → objectState
)

// fileState is a file of the home when it was last dealt with.
type fileState struct {
	Version string `json:"version,omitempty"` // Info.Version; "" if the file may have changed unnoticed
	Name    string `json:"name,omitempty"`    // the session's name among the facts
	Beside  bool   `json:"beside,omitempty"`  // another file of its name has the current version
	Waiting string `json:"waiting,omitempty"` // Info.Version of one with a time in the future
	Key     string `json:"key,omitempty"`     // name in the mirror of the version that holds the bytes
}

// objectState is an object when this home last saw it equal to its own bytes.
type objectState struct {
	Version string `json:"version"` // Info.Version
	Size    int64  `json:"size"`    // plain
	SHA256  string `json:"sha256"`  // plain; of a current version: the base
}

// NewState returns an empty state in memory, for tests and for those who push a
// home once.
func NewState() *State { return &State{&memory{values: map[bucket]map[string][]byte{}}} }

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

// get returns a value; one that cannot be read is not known.
func get[T any](s *State, b bucket, key string) (v T, ok bool, err error) {
	p, err := s.kv.get(b, key)
	if err != nil || p == nil {
		return v, false, err
	}
	return v, json.Unmarshal(p, &v) == nil, nil
}

// put stores values, all of them or none.
func put[T any](s *State, b bucket, values map[string]T) error {
	encoded := make(map[string][]byte, len(values))
	for key, v := range values {
		p, err := json.Marshal(v)
		if err != nil {
			return err
		}
		encoded[key] = p
	}
	return s.write(b, encoded)
}

// forgetFiles drops files that are no longer at those paths.
func (s *State) forgetFiles(paths []string) error {
	if len(paths) == 0 {
		return nil
	}
	gone := make(map[string][]byte, len(paths))
	for _, p := range paths {
		gone[p] = nil
	}
	return s.write(files, gone)
}

// database is a kv in a file.
type database struct{ db *bolt.DB }

func openDB(file string) (*database, error) {
	db, err := bolt.Open(file, 0o600, &bolt.Options{Timeout: 100 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, b := range []bucket{files, objects, runs} {
			if _, err := tx.CreateBucketIfNotExists([]byte(b)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return &database{db}, nil
}

func (d *database) get(b bucket, key string) (v []byte, err error) {
	err = d.db.View(func(tx *bolt.Tx) error {
		v = append(v, tx.Bucket([]byte(b)).Get([]byte(key))...) // a copy: bolt's own lives as long as tx
		return nil
	})
	return v, err
}

func (d *database) write(b bucket, values map[string][]byte) error {
	return d.db.Update(func(tx *bolt.Tx) error {
		bkt := tx.Bucket([]byte(b))
		for key, v := range values {
			var err error
			if v == nil {
				err = bkt.Delete([]byte(key))
			} else {
				err = bkt.Put([]byte(key), v)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
}

func (d *database) each(b bucket, visit func(key string)) error {
	return d.db.View(func(tx *bolt.Tx) error {
		return tx.Bucket([]byte(b)).ForEach(func(k, _ []byte) error {
			visit(string(k))
			return nil
		})
	})
}

func (d *database) Close() error { return d.db.Close() }

// memory is a kv in memory.
type memory struct {
	mu     sync.Mutex
	values map[bucket]map[string][]byte
}

func (m *memory) get(b bucket, key string) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.values[b][key], nil
}

func (m *memory) write(b bucket, values map[string][]byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.values[b] == nil {
		m.values[b] = map[string][]byte{}
	}
	for key, v := range values {
		if v == nil {
			delete(m.values[b], key)
		} else {
			m.values[b][key] = v
		}
	}
	return nil
}

func (m *memory) each(b bucket, visit func(key string)) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for key := range m.values[b] {
		visit(key)
	}
	return nil
}

func (m *memory) Close() error { return nil }
