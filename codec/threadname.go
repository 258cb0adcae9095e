package codec

import (
	"encoding/json"
	"errors"
	"io"
	"time"
)

// A ThreadName is a line of Codex's session_index.jsonl: the name that a user
// gave a session.
type ThreadName struct {
	ID        string
	Name      string // empty takes the name away
	UpdatedAt time.Time
}

// ReadThreadNames reads a session_index.jsonl and returns the names by session
// id. The last line of an id counts, whatever its time, as in Codex; an id whose
// name was taken away is left out. Lines that are not of this shape are skipped.
// An error is r's.
func ReadThreadNames(r io.Reader) (map[string]ThreadName, error) {
	names := make(map[string]ThreadName)
	for line, err := range Lines(r) {
		if err != nil {
			return nil, err
		}
		var e struct {
			ID        *string `json:"id"`
			Name      *string `json:"thread_name"`
			UpdatedAt string  `json:"updated_at"`
		}
		if json.Unmarshal(line.Bytes, &e) != nil || e.ID == nil || e.Name == nil {
			continue
		}
		if *e.Name == "" {
			delete(names, *e.ID)
			continue
		}
		// Codex does not look at the time, so a bad one costs only the time.
		at, _ := time.Parse(time.RFC3339, e.UpdatedAt)
		names[*e.ID] = ThreadName{ID: *e.ID, Name: *e.Name, UpdatedAt: at}
	}
	return names, nil
}

// AppendThreadName appends n as one line, '\n' included, as Codex writes it: with
// a time in UTC.
func AppendThreadName(dst []byte, n ThreadName) ([]byte, error) {
	if n.ID == "" {
		return dst, errors.New("a thread name without an id")
	}
	dst = append(dst, `{"id":`...)
	dst = appendString(dst, n.ID)
	dst = append(dst, `,"thread_name":`...)
	dst = appendString(dst, n.Name)
	dst = append(dst, `,"updated_at":"`...)
	dst = n.UpdatedAt.UTC().AppendFormat(dst, time.RFC3339Nano)
	return append(dst, "\"}\n"...), nil
}
