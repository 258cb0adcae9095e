package index

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/replay"
	"github.com/rollout-sync/rollout/search"
	"github.com/rollout-sync/rollout/store"
)

// A Place is what an Index knows of one home or mirror. It is a search.Index, and its
// Known and Learn are those of a listing.Place.
type Place struct {
	x    *Index
	name string
}

// Place returns the part of the index for what is under a name, such as a home's directory
// or a mirror's URL, which has to be the same every time.
func (x *Index) Place(name string) *Place { return &Place{x, name} }

// Known returns what Learn was told of the version of a file.
func (p *Place) Known(ctx context.Context, path string, _ codec.Name, version string) (k listing.Known, ok bool) {
	content, ok := p.get(ctx, p.x.hasHead, path, version)
	return k, ok && json.Unmarshal(content, &k) == nil
}

// Learn keeps what was read of a file, in place of what was known of another version.
func (p *Place) Learn(path, version string, k listing.Known) {
	content, err := json.Marshal(k)
	if err != nil {
		return // it has a time that JSON cannot say
	}
	p.x.add(pendingRow{insertHead, []any{p.name, path, version, content}}, len(path)+len(content))
}

// File returns the content of a file that was kept.
func (p *Place) File(ctx context.Context, name, version string) ([]byte, bool) {
	return p.get(ctx, p.x.hasFile, name, version)
}

// KeepFile keeps the content of a small file, in place of another version of it.
func (p *Place) KeepFile(name, version string, content []byte) {
	p.x.add(pendingRow{insertFile, []any{p.name, name, version, append([]byte{}, content...)}}, len(name)+len(content))
}

const (
	insertHead = `INSERT OR REPLACE INTO heads (place, path, version, head) VALUES (?, ?, ?, ?)`
	insertFile = `INSERT OR REPLACE INTO files (place, name, version, content) VALUES (?, ?, ?, ?)`
)

func (p *Place) get(ctx context.Context, query *sql.Stmt, name, version string) (content []byte, ok bool) {
	err := query.QueryRowContext(ctx, p.name, name, version).Scan(&content)
	return content, p.x.read(err) == nil
}

// Has implements search.Index.
func (p *Place) Has(ctx context.Context, path, version string) bool {
	var one int
	return p.x.read(p.x.hasSession.QueryRowContext(ctx, p.name, path, version).Scan(&one)) == nil
}

// Select implements search.Index. It takes the memory of 16 bytes or two for each session
// that is ruled out.
func (p *Place) Select(ctx context.Context, words []search.Word) (without func(path, version string) bool, err error) {
	var keys sql.RawBytes
	// In one row: what takes each out of the database takes longer than to find it.
	rows, err := p.x.db.QueryContext(ctx, `SELECT CAST(group_concat(key, '') AS BLOB) FROM sessions
		WHERE place = ? AND key IS NOT NULL AND NOT more
		AND id NOT IN (SELECT rowid >> `+partBits+` FROM words WHERE words MATCH ?)`, p.name, match(words))
	if err != nil {
		return nil, fmt.Errorf("read the index: %w", p.x.read(err))
	}
	defer rows.Close()
	ruledOut := map[key]struct{}{}
	for rows.Next() {
		if err := rows.Scan(&keys); err != nil {
			return nil, err
		}
		ruledOut = make(map[key]struct{}, len(keys)/len(key{}))
		for k := range slices.Chunk(keys, len(key{})) {
			if len(k) == len(key{}) {
				ruledOut[key(k)] = struct{}{}
			}
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the index: %w", p.x.read(err))
	}
	return func(path, version string) bool {
		_, ok := ruledOut[keyOf(path, version)]
		return ok
	}, nil
}

// match returns the FTS5 query for all of the words, in which letters and digits need no
// escape.
func match(words []search.Word) string {
	var all []string
	for _, w := range words {
		s := `"` + w.Text + `"`
		if w.Prefix {
			s += " *"
		}
		all = append(all, s)
	}
	return strings.Join(all, " AND ")
}

const (
	// maxPart is from how many bytes of different words on a part ends with the entry.
	maxPart = 1 << 20
	// maxEntry is how many an entry can have. One with more may have any.
	maxEntry = 2 << 20
	// decoding is how many bytes of rollouts may be decoded at a time.
	decoding = 64 << 20
)

// Add has the index know the words of the session at path in src, in the version that is
// there now, in place of those of another one. It reads all of it. The errors are those of
// replay.Load, but for replay.ErrEmpty and replay.ErrNoMeta: such a session has words, too,
// or none; and those of Flush.
//
// It may be written some time later, see Flush. Memory is that of the different words of
// 1 MiB, or of one entry, and twice the longest line; sessions with long lines wait for
// each other.
func (p *Place) Add(ctx context.Context, src store.Source, path string) error {
	f, err := src.Open(ctx, path)
	if err != nil {
		return err
	}
	defer f.Close()
	size := f.Info().Size
	if size < 0 || size > decoding {
		size = decoding
	}
	if err := p.x.memory.Acquire(ctx, size); err != nil {
		return err
	}
	defer p.x.memory.Release(size)
	g := gatherer{seen: make(map[string]struct{})}
	s := &session{place: p.name, path: path, version: f.Info().Version}
	for e, err := range replay.Entries(replay.LoadFile(ctx, f, path)) {
		if errors.Is(err, replay.ErrEmpty) || errors.Is(err, replay.ErrNoMeta) {
			break
		}
		if err != nil {
			return err
		}
		search.Words(&e, g.add)
		s.more = s.more || g.more
		if len(g.text) > maxPart {
			if err := p.x.addPart(ctx, part{s, string(g.text), false}); err != nil {
				return err
			}
			clear(g.seen)
			g.text = g.text[:0]
		}
	}
	return p.x.addPart(ctx, part{s, string(g.text), true})
}

// A gatherer gathers words, each once.
type gatherer struct {
	seen map[string]struct{}
	text []byte // the words, with a space behind each
	more bool   // there were too many
}

func (g *gatherer) add(word []byte) {
	if _, ok := g.seen[string(word)]; ok {
		return
	}
	if len(g.text) > maxPart+maxEntry {
		g.more = true
		return
	}
	g.seen[string(word)] = struct{}{}
	g.text = append(append(g.text, word...), ' ')
}

// Retain forgets what is in this place but for the paths that keep says.
func (p *Place) Retain(ctx context.Context, keep func(path string) bool) error {
	if err := p.x.Flush(ctx); err != nil {
		return err
	}
	return p.x.retain(ctx, p.name, keep)
}
