package mirror

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// ErrLocked means that another run uses the same state.
var ErrLocked = errors.New("another run is at work on this home and mirror")

// State is what a home remembers of its pushes to one mirror, so that a push with
// nothing to do needs no request and reads no file. It is a cache: a push without
// it reads the home once, lists the mirror and finds the rest in what its origin has
// told. Only where that is lost as well may a rewritten rollout be kept as diverged
// instead of superseding the old version. No byte is lost.
//
// One process at a time has a state's file open, which also keeps two pushes
// apart.
type State struct{ kv }

// kv is where a State is kept. Values are JSON.
type kv interface {
	// get returns nil for what is not there.
	get(b bucket, key string) ([]byte, error)
	// snapshot calls read with a get of the values as they are now, which is cheaper
	// for many. They are valid until read returns, and nothing may be written meanwhile.
	snapshot(b bucket, read func(get func(key string) []byte) error) error
	// write puts all values, and deletes those that are nil, or does nothing.
	write(c change) error
	// each visits all values in the order of their keys, until visit returns an
	// error. They are valid during the visit, in which nothing may be written.
	each(b bucket, visit func(key string, value []byte) error) error
	Close() error
}

type bucket string

const (
	files   bucket = "files"   // path in the home → fileState
	objects bucket = "objects" // name in the mirror → objectState
	untold  bucket = "untold"  // name of a rollout → Fact that is not in the mirror yet
	rows    bucket = "rows"    // name in the mirror → whether its row is not in the catalog, or only what the facts say
	passes  bucket = "passes"  // what a pass leaves for the next, by the names below
)

var buckets = []bucket{files, objects, untold, rows, passes}

// reconciled is the time at which the state was last held against a listing.
const reconciled = "reconciled"

// fileState is a file of the home when it was last dealt with.
type fileState struct {
	Version string `json:"version,omitempty"` // Info.Version; "" if the file may have changed unnoticed
	Name    string `json:"name,omitempty"`    // the session's name among the facts
	Key     string `json:"key,omitempty"`     // of the object that has its bytes; "" if it is the current version
	Beside  bool   `json:"beside,omitempty"`  // another file of its name has the current version
	Waiting string `json:"waiting,omitempty"` // Info.Version of one with a time in the future
	Base    *Pin   `json:"base,omitempty"`    // what it begins with
}

// fileStateOf decodes value; false if there is none that makes sense. Nearly all are of
// files that are as they were, which have the version that is likely and nothing else.
// To decode those would take a tenth of a push that has nothing to do.
func fileStateOf(value []byte, likely string) (s fileState, ok bool) {
	rest, begins := bytes.CutPrefix(value, []byte(`{"version":"`))
	rest, ends := bytes.CutSuffix(rest, []byte(`"}`))
	if begins && ends && string(rest) == likely && !strings.ContainsAny(likely, `"\`) {
		return fileState{Version: likely}, true
	}
	return s, value != nil && json.Unmarshal(value, &s) == nil
}

// objectState is what this home knows of an object that has bytes of its own.
type objectState struct {
	object
	// Equal tells that the home had just the object's bytes, Base what hash they had
	// both the last time when they do not now; "" if they never had. See base.
	Equal bool   `json:"equal,omitempty"`
	Base  string `json:"base,omitempty"`
	// Pushed is when this home wrote it, if it is big; else zero.
	Pushed time.Time `json:"pushed,omitzero"`
}

// base returns the plain hash that the object and this home's file last had both:
// of a current version, what a rewrite may replace.
func (o objectState) base() string {
	if o.Equal {
		return o.SHA256
	}
	return o.Base
}

// object is a version in the mirror as it was last seen.
type object struct {
	Version string `json:"version"` // Info.Version
	Size    int64  `json:"size"`    // plain; -1 if it is no version
	SHA256  string `json:"sha256"`  // plain
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

// A change is what is to be written to a state, all of it or nothing.
type change map[bucket]map[string][]byte

// set puts a value into c.
func set[T any](c change, b bucket, key string, v T) error {
	p, err := json.Marshal(v)
	if err != nil {
		return err
	}
	if c[b] == nil {
		c[b] = map[string][]byte{}
	}
	c[b][key] = p
	return nil
}

// remove makes c remove what is there.
func (c change) remove(b bucket, keys ...string) {
	for _, key := range keys {
		if c[b] == nil {
			c[b] = map[string][]byte{}
		}
		c[b][key] = nil
	}
}

// database is a kv in a file.
type database struct{ db *bolt.DB }

func openDB(file string) (*database, error) {
	db, err := bolt.Open(file, 0o600, &bolt.Options{Timeout: 100 * time.Millisecond})
	if err != nil {
		return nil, err
	}
	err = db.Update(func(tx *bolt.Tx) error {
		for _, b := range buckets {
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
		if bkt := tx.Bucket([]byte(b)); bkt != nil {
			v = append(v, bkt.Get([]byte(key))...) // a copy: bolt's own lives as long as tx
		}
		return nil
	})
	return v, err
}

func (d *database) snapshot(b bucket, read func(get func(key string) []byte) error) error {
	return d.db.View(func(tx *bolt.Tx) error {
		bkt := tx.Bucket([]byte(b))
		return read(func(key string) []byte { return bkt.Get([]byte(key)) })
	})
}

func (d *database) write(c change) error {
	return d.db.Update(func(tx *bolt.Tx) error {
		for b, values := range c {
			bkt := tx.Bucket([]byte(b))
			// In order, which bolt writes several times as fast, and into pages that stay
			// full: sessions come about in the order of their names.
			bkt.FillPercent = 0.9
			for _, key := range slices.Sorted(maps.Keys(values)) {
				var err error
				if v := values[key]; v == nil {
					err = bkt.Delete([]byte(key))
				} else {
					err = bkt.Put([]byte(key), v)
				}
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
}

func (d *database) each(b bucket, visit func(key string, value []byte) error) error {
	return d.db.View(func(tx *bolt.Tx) error {
		bkt := tx.Bucket([]byte(b))
		if bkt == nil { // one that was only begun, and is only read
			return nil
		}
		return bkt.ForEach(func(k, v []byte) error { return visit(string(k), v) })
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

func (m *memory) snapshot(b bucket, read func(get func(key string) []byte) error) error {
	return read(func(key string) []byte {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.values[b][key]
	})
}

func (m *memory) write(c change) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	for b, values := range c {
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
	}
	return nil
}

func (m *memory) each(b bucket, visit func(key string, value []byte) error) error {
	m.mu.Lock()
	values := maps.Clone(m.values[b])
	m.mu.Unlock()
	for _, key := range slices.Sorted(maps.Keys(values)) {
		if err := visit(key, values[key]); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) Close() error { return nil }
