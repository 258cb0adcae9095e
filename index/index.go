// Package index keeps on this machine what was read of sessions, in one SQLite file: the
// words that are in them, for package search, their heads, for package listing, and small
// files of a mirror.
//
// It is a cache. All of it goes by the version of what was read, so it is never wrong
// about what has changed since, and the file can be deleted at any time. A file that is
// damaged, or of another version of this package, is made anew. Several processes may use
// one file at once.
//
// Not promised: that damage is noticed which SQLite does not notice, such as a bit that
// the disk has turned in the middle of a page.
package index

import (
	"context"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"golang.org/x/sync/semaphore"
	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// version is that of the schema.
const version = 2

// schema makes an empty index. The words of a session are in one or more parts, each of
// whole entries: a row of words whose rowid is rowOf the session's id and the part's
// number. A session's version and key are null until all of it is there. AUTOINCREMENT
// gives no id twice, so what somebody still writes of a session that was removed belongs
// to none.
const schema = `
CREATE TABLE sessions (
	id      INTEGER PRIMARY KEY AUTOINCREMENT,
	place   TEXT NOT NULL,
	path    TEXT NOT NULL,
	version TEXT,
	key     BLOB,
	parts   INTEGER NOT NULL DEFAULT 0,
	more    INTEGER NOT NULL DEFAULT 0, -- it has words that are not here
	UNIQUE (place, path)
);
CREATE INDEX whole ON sessions (place, id, key) WHERE key IS NOT NULL AND NOT more; -- all that Select needs
CREATE VIRTUAL TABLE words USING fts5 (list, content='', contentless_delete=1, detail=none, tokenize=ascii);
CREATE TABLE heads (
	place   TEXT NOT NULL,
	path    TEXT NOT NULL,
	version TEXT NOT NULL,
	head    BLOB NOT NULL,
	PRIMARY KEY (place, path)
) WITHOUT ROWID;
CREATE TABLE files (
	place   TEXT NOT NULL,
	name    TEXT NOT NULL,
	version TEXT NOT NULL,
	content BLOB NOT NULL,
	PRIMARY KEY (place, name)
);
`

// ErrInUse means that the index is damaged, or is being made anew, and another process
// has it.
var ErrInUse = errors.New("the index is in use by another process")

// An Index is an open index. Its methods, and those of its Places, may be called
// concurrently.
type Index struct {
	file string
	lock *flock.Flock // shared by all who have the file open
	db   *sql.DB

	hasSession, hasHead, hasFile *sql.Stmt

	memory *semaphore.Weighted // of what is decoded

	mu      sync.Mutex
	pending pending
	err     error // the first of a write; nothing is written after it
	damaged bool
}

// wait is how long to wait for another process.
const wait = 5 * time.Second

// Open opens the index in file and makes it, and the directory, if it is not there. An
// error means that there is no index to be had: the directory cannot be written to, or it
// is ErrInUse.
func Open(file string) (*Index, error) {
	file, err := filepath.Abs(file)
	if err != nil {
		return nil, err
	}
	x, err := open(file)
	if err != nil {
		return nil, fmt.Errorf("index %s: %w", file, err)
	}
	return x, nil
}

func open(file string) (*Index, error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
	x, err := openOnce(file)
	if !isDamaged(err) {
		return x, err
	}
	if err := remove(file); err != nil {
		return nil, err
	}
	return openOnce(file)
}

// openOnce opens the file as it is.
func openOnce(file string) (_ *Index, err error) {
	x := &Index{file: file, lock: flock.New(file + ".lock"), memory: semaphore.NewWeighted(decoding)}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	const again = 10 * time.Millisecond
	if _, err := x.lock.TryRLockContext(ctx, again); err != nil {
		return nil, errors.Join(err, x.lock.Close())
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, x.close())
		}
	}()
	// SQLite gives its other files the mode of this one. Words may be secrets.
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	if x.db, err = sql.Open("sqlite", dsn(file)); err != nil {
		return nil, err
	}
	if err := x.update(ctx, schema, false); err != nil {
		return nil, err
	}
	for to, query := range map[**sql.Stmt]string{
		&x.hasSession: `SELECT 1 FROM sessions WHERE place = ? AND path = ? AND version = ?`,
		&x.hasHead:    `SELECT head FROM heads WHERE place = ? AND path = ? AND version = ?`,
		&x.hasFile:    `SELECT content FROM files WHERE place = ? AND name = ? AND version = ?`,
	} {
		if *to, err = x.db.Prepare(query); err != nil {
			return nil, err
		}
	}
	return x, nil
}

// dsn names the file to the driver. A write waits for one of another process; what is
// acknowledged may be lost when the power is, which is as if it had not been indexed.
func dsn(file string) string {
	p := url.Values{
		"_txlock": {"immediate"},
		"_pragma": {
			fmt.Sprintf("busy_timeout(%d)", wait.Milliseconds()),
			"journal_mode(WAL)", "synchronous(NORMAL)",
			"cache_size(-4000)", "journal_size_limit(16777216)",
		},
	}
	u := url.URL{Scheme: "file", OmitHost: true, Path: filepath.ToSlash(file), RawQuery: p.Encode()}
	return u.String()
}

// update brings the file to the schema: one that has none, one of another version, or any
// if anew is set.
func (x *Index) update(ctx context.Context, schema string, anew bool) error {
	if v, err := userVersion(ctx, x.db); err != nil || v == version && !anew {
		return err
	}
	return x.write(ctx, func(tx *sql.Tx) error {
		v, err := userVersion(ctx, tx) // another process may have been faster
		if err != nil || v == version && !anew {
			return err
		}
		rows, err := tx.QueryContext(ctx, `SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite\_%' ESCAPE '\' AND name NOT LIKE 'words\_%' ESCAPE '\'`)
		if err != nil {
			return err
		}
		var drop []string
		for rows.Next() {
			var name string
			if err := rows.Scan(&name); err != nil {
				return errors.Join(err, rows.Close())
			}
			drop = append(drop, fmt.Sprintf(`DROP TABLE "%s"`, name))
		}
		if err := rows.Err(); err != nil {
			return err
		}
		for _, statement := range append(drop, schema, fmt.Sprintf("PRAGMA user_version = %d", version)) {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
}

type querier interface {
	QueryRowContext(ctx context.Context, query string, args ...any) *sql.Row
}

func userVersion(ctx context.Context, db querier) (v int, err error) {
	return v, db.QueryRowContext(ctx, "PRAGMA user_version").Scan(&v)
}

// write calls do with a transaction that keeps other writers out.
func (x *Index) write(ctx context.Context, do func(*sql.Tx) error) error {
	tx, err := x.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	if err := do(tx); err != nil {
		_ = tx.Rollback() // of which err is the reason
		return err
	}
	return tx.Commit()
}

// Clear removes everything.
func (x *Index) Clear(ctx context.Context) error {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.pending = pending{}
	if err := x.noted(x.update(ctx, schema, true)); err != nil {
		return fmt.Errorf("clear the index: %w", err)
	}
	return nil
}

// Close writes what is not written yet and releases the file. An error is the first that
// there was in writing; what could not be written is not known the next time.
func (x *Index) Close() error {
	err := x.Flush(context.Background())
	x.mu.Lock()
	damaged := x.damaged
	x.mu.Unlock()
	err = errors.Join(err, x.close())
	if damaged {
		return remove(x.file)
	}
	return err
}

func (x *Index) close() error {
	var err error
	if x.db != nil {
		err = x.db.Close()
	}
	return errors.Join(err, x.lock.Close())
}

// noted keeps in mind what err tells of the file.
func (x *Index) noted(err error) error {
	if isDamaged(err) {
		x.damaged = true
	}
	return err
}

// read is noted for what does not write.
func (x *Index) read(err error) error {
	if isDamaged(err) {
		x.mu.Lock()
		defer x.mu.Unlock()
		x.damaged = true
	}
	return err
}

// isDamaged reports whether the file is no database, or not a whole one.
func isDamaged(err error) bool {
	e, ok := errors.AsType[*sqlite.Error](err)
	if !ok {
		return false
	}
	const primary = 0xff
	code := e.Code() & primary
	return code == sqlite3.SQLITE_CORRUPT || code == sqlite3.SQLITE_NOTADB
}

// remove removes a damaged index, unless somebody has it open, or has made it anew.
func remove(file string) (err error) {
	lock := flock.New(file + ".lock")
	defer func() { err = errors.Join(err, lock.Close()) }()
	if ok, err := lock.TryLock(); err != nil || !ok {
		return errors.Join(err, ErrInUse)
	}
	for _, end := range []string{"-wal", "-shm", ""} {
		if err := os.Remove(file + end); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// A key is the identity of a version of a file of a place.
type key [16]byte

func keyOf(path, version string) (k key) {
	var room [256]byte
	sum := sha256.Sum256(append(append(append(room[:0], path...), 0), version...))
	copy(k[:], sum[:])
	return k
}
