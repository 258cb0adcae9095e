package index

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
)

// pending is what is not written yet.
type pending struct {
	parts []part
	rows  []pendingRow
	size  int
}

// maxPending is how many bytes are written together: a transaction for each session would
// take most of the time.
const maxPending = 4 << 20

// A pendingRow is a row for a table that has one for each path.
type pendingRow struct {
	insert string
	values []any
}

// A session is one whose words are being added.
type session struct {
	place, path, version string
	id                   int64 // 0: not yet in the file
	parts                int64
	more                 bool // it has words that are not added
}

// A part is the words of some entries of a session, each once.
type part struct {
	*session
	words string
	last  bool
}

// partBits is how many bits of a rowid are the part's number.
const partBits = "20"

func rowOf(id, part int64) int64 { return id<<20 | part }

// add has a row written. It fails as Flush does, of which Close tells.
func (x *Index) add(r pendingRow, size int) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.err != nil {
		return
	}
	x.pending.rows = append(x.pending.rows, r)
	x.pending.size += size
	if x.pending.size > maxPending {
		_ = x.flush(context.Background()) // it is x.err
	}
}

func (x *Index) addPart(ctx context.Context, p part) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.err != nil {
		return x.err
	}
	x.pending.parts = append(x.pending.parts, p)
	x.pending.size += len(p.words)
	if x.pending.size <= maxPending {
		return nil
	}
	return x.flush(ctx)
}

// Flush writes what was added.
func (x *Index) Flush(ctx context.Context) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.flush(ctx)
}

func (x *Index) flush(ctx context.Context) error {
	if x.err != nil || len(x.pending.parts)+len(x.pending.rows) == 0 {
		return x.err
	}
	all := x.pending
	x.pending = pending{}
	err := x.write(ctx, func(tx *sql.Tx) error {
		for _, p := range all.parts {
			if err := p.insert(ctx, tx); err != nil {
				return err
			}
		}
		for _, r := range all.rows {
			if _, err := tx.ExecContext(ctx, r.insert, r.values...); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		x.err = fmt.Errorf("write the index: %w", x.noted(err))
	}
	return x.err
}

// insert adds the part. If somebody else has replaced the session meanwhile, it is of none.
func (p part) insert(ctx context.Context, tx *sql.Tx) error {
	if p.id == 0 {
		if err := p.begin(ctx, tx); err != nil {
			return err
		}
	}
	number := p.parts
	p.parts++
	update, values := `UPDATE sessions SET parts = ? WHERE id = ?`, []any{p.parts, p.id}
	if p.last {
		k := keyOf(p.path, p.version)
		update, values = `UPDATE sessions SET parts = ?, version = ?, key = ?, more = ? WHERE id = ?`, []any{p.parts, p.version, k[:], p.more, p.id}
	}
	if _, err := tx.ExecContext(ctx, update, values...); err != nil {
		return err
	}
	_, err := tx.ExecContext(ctx, `INSERT INTO words (rowid, list) VALUES (?, ?)`, rowOf(p.id, number), p.words)
	return err
}

// begin inserts the session, in place of another version of it.
func (s *session) begin(ctx context.Context, tx *sql.Tx) error {
	var id, parts int64
	err := tx.QueryRowContext(ctx, `SELECT id, parts FROM sessions WHERE place = ? AND path = ?`, s.place, s.path).Scan(&id, &parts)
	if err == nil {
		err = forget(ctx, tx, id, parts)
	}
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		return err
	}
	return tx.QueryRowContext(ctx, `INSERT INTO sessions (place, path) VALUES (?, ?) RETURNING id`, s.place, s.path).Scan(&s.id)
}

// forget removes a session with its words.
func forget(ctx context.Context, tx *sql.Tx, id, parts int64) error {
	for n := range parts {
		if _, err := tx.ExecContext(ctx, `DELETE FROM words WHERE rowid = ?`, rowOf(id, n)); err != nil {
			return err
		}
	}
	_, err := tx.ExecContext(ctx, `DELETE FROM sessions WHERE id = ?`, id)
	return err
}

// retain forgets the sessions and heads of a place but for the paths that keep says.
func (x *Index) retain(ctx context.Context, place string, keep func(path string) bool) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	sessions, err := x.gone(ctx, `SELECT path FROM sessions WHERE place = ?`, place, keep)
	if err != nil {
		return err
	}
	heads, err := x.gone(ctx, `SELECT path FROM heads WHERE place = ?`, place, keep)
	if err != nil || len(sessions)+len(heads) == 0 {
		return err
	}
	err = x.write(ctx, func(tx *sql.Tx) error {
		for _, path := range sessions {
			var id, parts int64
			err := tx.QueryRowContext(ctx, `SELECT id, parts FROM sessions WHERE place = ? AND path = ?`, place, path).Scan(&id, &parts)
			if err == nil {
				err = forget(ctx, tx, id, parts)
			}
			if err != nil && !errors.Is(err, sql.ErrNoRows) {
				return err
			}
		}
		for _, path := range heads {
			if _, err := tx.ExecContext(ctx, `DELETE FROM heads WHERE place = ? AND path = ?`, place, path); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("write the index: %w", x.noted(err))
	}
	return nil
}

// gone returns the paths that query selects and keep does not.
func (x *Index) gone(ctx context.Context, query, place string, keep func(path string) bool) (paths []string, err error) {
	rows, err := x.db.QueryContext(ctx, query, place)
	if err != nil {
		return nil, fmt.Errorf("read the index: %w", x.noted(err))
	}
	defer rows.Close()
	for rows.Next() {
		var path string
		if err := rows.Scan(&path); err != nil {
			return nil, err
		}
		if !keep(path) {
			paths = append(paths, path)
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read the index: %w", x.noted(err))
	}
	return paths, nil
}
