package faults

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// sessions are the bytes of rollouts, by path in a home.
type sessions map[string][]byte

const day = "sessions/2026/11/20/"

// path is that of the n'th session.
func path(n int) string {
	return fmt.Sprintf(day+"rollout-2026-11-20T08-41-45-01a1f81e-6bb9-7000-8000-%012d.jsonl", n)
}

// id is that of a session at a path.
func id(path string) string {
	return path[len(path)-len("01a1f81e-6bb9-7000-8000-000000000000.jsonl"):][:36]
}

// session is the n'th, of about that size, which hardly compresses.
func session(r *rand.Rand, n, size int) []byte {
	b := fmt.Appendf(nil, `{"timestamp":"2026-11-20T08:41:45.000Z","type":"session_meta","payload":{"id":"%s","timestamp":"2026-11-20T08:41:45.000Z","cwd":"/w","originator":"x","cli_version":"0.1.0"}}`+"\n", id(path(n)))
	return slices.Concat(b, lines(r, max(size-len(b), 0)))
}

// lines are about so many bytes of lines that are JSON.
func lines(r *rand.Rand, size int) (b []byte) {
	const most = 4000
	for size > 0 {
		b = append(b, `{"timestamp":"2026-11-20T08:41:46.000Z","type":"event_msg","payload":{"type":"user_message","message":"`...)
		n := min(most, size)
		for range n {
			b = append(b, "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_"[r.Uint32()>>26])
		}
		b = append(b, `"}}`+"\n"...)
		size -= n + 100
	}
	return b
}

// newSessions are sessions of these sizes.
func newSessions(seed uint64, sizes ...int) sessions {
	r := rand.New(rand.NewPCG(seed, seed))
	s := sessions{}
	for n, size := range sizes {
		s[path(n)] = session(r, n, size)
	}
	return s
}

// write puts the sessions into a home, in order, so that the first is the oldest.
func (s sessions) write(home string) error {
	for _, name := range slices.Sorted(maps.Keys(s)) {
		file := filepath.Join(home, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(file), 0o700), os.WriteFile(file, s[name], 0o600)); err != nil {
			return err
		}
	}
	return nil
}

// grown are sessions that begin with these.
func (s sessions) grown(seed uint64) sessions {
	r := rand.New(rand.NewPCG(seed, seed))
	more := sessions{}
	for _, name := range slices.Sorted(maps.Keys(s)) {
		more[name] = slices.Concat(s[name], lines(r, 1000))
	}
	return more
}

// files are the regular files below a directory, by their path there.
func files(dir string) ([]string, error) {
	var names []string
	err := filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		name, err := filepath.Rel(dir, file)
		names = append(names, filepath.ToSlash(name))
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return names, err
}

// decoded returns what the zstd file decompresses to.
func decoded(file string) ([]byte, error) {
	p, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	plain, err := decoder.DecodeAll(p, nil)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return plain, nil
}

var decoder, _ = zstd.NewReader(nil) // of no stream, so there is no error

// A copyOf is what a mirror, by its files, has.
type copyOf struct {
	sessions sessions // by path in the home; their current versions
	others   []string // all other objects
	parts    []string // of uploads that were not completed
}

// read reads the mirror in a directory, which may be a bucket of the gateway. What is
// no zstd throughout is an error.
func read(dir string) (c copyOf, err error) {
	names, err := files(dir)
	if err != nil {
		return c, err
	}
	c.sessions = sessions{}
	for _, name := range names {
		switch plain, isSession := strings.CutSuffix(name, ".zst"); {
		case strings.HasPrefix(name, ".sgwtmp/"):
			c.parts = append(c.parts, name)
		case strings.HasPrefix(filepath.Base(name), "."): // of a directory as mirror: no object yet
		case isSession:
			content, err := decoded(filepath.Join(dir, name))
			if err != nil {
				return c, err
			}
			if strings.HasPrefix(name, "sessions/") {
				c.sessions[plain] = content
				continue
			}
			fallthrough
		default:
			c.others = append(c.others, name)
		}
	}
	return c, nil
}

// has returns an error unless the mirror has exactly these sessions and, beside its
// marker, the facts of so many homes and a catalog, nothing else.
func (c copyOf) has(want sessions, homes int) error {
	if err := c.sessions.are(want); err != nil {
		return err
	}
	if len(c.parts) > 0 {
		return fmt.Errorf("parts of uploads are left: %q", c.parts)
	}
	facts, rows := 0, 0
	for _, name := range c.others {
		switch {
		case name == "rollout-mirror.json":
		case strings.HasPrefix(name, "origins/"):
			facts++
		case strings.HasPrefix(name, "catalog/v1/date="): // unless what was brought was by a push that was killed
			rows++
		default:
			return fmt.Errorf("the mirror has %s too", name)
		}
	}
	if facts != homes || len(c.others) != homes+rows+1 {
		return fmt.Errorf("the mirror of %d homes has beside sessions %q", homes, c.others)
	}
	return nil
}

// are returns an error unless these are exactly those.
func (s sessions) are(want sessions) error {
	if err := s.among(want); err != nil {
		return err
	}
	if len(s) != len(want) {
		return fmt.Errorf("of %d sessions %d are there", len(want), len(s))
	}
	return nil
}

// among returns an error if one is not in any of those, with just these bytes.
func (s sessions) among(versions ...sessions) error {
	for name, content := range s {
		if !slices.ContainsFunc(versions, func(v sessions) bool { return v[name] != nil && bytes.Equal(v[name], content) }) {
			return fmt.Errorf("%s has %d bytes that are not the session's", name, len(content))
		}
	}
	return nil
}

// restored reads the sessions of a home, and names all other files but the locks that
// Codex has too.
func restored(home string) (s sessions, others []string, err error) {
	names, err := files(home)
	s = sessions{}
	for _, name := range names {
		switch {
		case name == ".tmp/rollout-maintenance.lock" || strings.HasPrefix(name, "thread-writer-locks/"):
		case !strings.HasPrefix(name, "sessions/") || !strings.HasSuffix(name, ".jsonl") || strings.HasPrefix(filepath.Base(name), "."):
			others = append(others, name)
		default:
			var e error
			s[name], e = os.ReadFile(filepath.Join(home, name))
			err = errors.Join(err, e)
		}
	}
	return s, others, err
}
