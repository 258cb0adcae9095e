package codec

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// ErrName means that a file name is not a rollout's.
var ErrName = errors.New("not a rollout's file name")

// A Name is what a rollout's file name says:
//
//	rollout-<stamp>-<session>[_<rollout>].jsonl[.zst]
//
// Names are comparable with ==, and the zero Name is none.
type Name struct {
	// Stamp is the local wall-clock time at which the session began, to the
	// second ("2026-11-20T08-41-45") or, until July 2025, the day
	// ("2026-11-20"). Codex lists files whatever stands there, or nothing, so
	// any other text is kept too; Wall tells whether it is a time.
	Stamp string
	// Session is the session's id (Codex: thread id), a UUIDv7 from Codex 0.50
	// on and a UUIDv4 before.
	Session uuid.UUID
	// Rollout is the file's own id. It differs from Session in files made by a
	// revert, which have two ids in their names.
	Rollout uuid.UUID
}

const (
	namePrefix  = "rollout-"
	plainSuffix = ".jsonl"
	zstdSuffix  = ".zst"

	stampSecond = "2006-01-02T15-04-05"
	stampDay    = "2006-01-02"

	uuidLen = 36 // 8-4-4-4-12, the only form that Codex writes
)

// ParseName reads a file name: the last element of a path, with or without
// ".zst". An error is ErrName.
func ParseName(base string) (Name, error) {
	n, ok := parseName(strings.TrimSuffix(base, zstdSuffix))
	if !ok {
		return Name{}, fmt.Errorf("%w: %.100q", ErrName, base)
	}
	return n, nil
}

func parseName(base string) (n Name, ok bool) {
	s, ok := strings.CutPrefix(base, namePrefix)
	if !ok {
		return Name{}, false
	}
	if s, ok = strings.CutSuffix(s, plainSuffix); !ok {
		return Name{}, false
	}
	if s, n.Rollout, ok = cutUUID(s); !ok {
		return Name{}, false
	}
	n.Session = n.Rollout
	if first, isPair := strings.CutSuffix(s, "_"); isPair {
		if s, n.Session, ok = cutUUID(first); !ok || n.Session == n.Rollout {
			return Name{}, false
		}
	}
	if s != "" {
		if n.Stamp, ok = strings.CutSuffix(s, "-"); !ok || n.Stamp == "" {
			return Name{}, false
		}
	}
	unsafe := func(r rune) bool { return r == '/' || r == '\\' || unicode.IsControl(r) }
	if !utf8.ValidString(n.Stamp) || strings.ContainsFunc(n.Stamp, unsafe) {
		return Name{}, false
	}
	return n, true
}

// cutUUID takes a UUID off the end of s. Only the form that String writes is
// one, so that a Name gives back the text it was parsed from.
func cutUUID(s string) (rest string, id uuid.UUID, ok bool) {
	i := len(s) - uuidLen
	if i < 0 {
		return "", uuid.Nil, false
	}
	id, err := uuid.Parse(s[i:])
	if err != nil || strings.ContainsAny(s[i:], "ABCDEF") {
		return "", uuid.Nil, false
	}
	return s[:i], id, true
}

// NewName names the rollout of a session that begins at wall. The name and the
// date directory carry wall's own wall clock: pass local time, as Codex does.
func NewName(wall time.Time, id uuid.UUID) Name {
	return Name{Stamp: wall.Format(stampSecond), Session: id, Rollout: id}
}

// String returns the name of the uncompressed file, from which ParseName gets n.
func (n Name) String() string {
	var b strings.Builder
	b.WriteString(namePrefix)
	if n.Stamp != "" {
		b.WriteString(n.Stamp + "-")
	}
	b.WriteString(n.Session.String())
	if n.Rollout != n.Session {
		b.WriteString("_" + n.Rollout.String())
	}
	b.WriteString(plainSuffix)
	return b.String()
}

// Date returns the parts of Stamp that name Codex's date directory
// (sessions/<year>/<month>/<day>), and false when Stamp is not a time.
func (n Name) Date() (year, month, day string, ok bool) {
	if _, ok := n.Wall(); !ok {
		return "", "", "", false
	}
	return n.Stamp[:4], n.Stamp[5:7], n.Stamp[8:10], true
}

// Wall returns Stamp read as if it were UTC, as Codex's listing reads it. That
// is off from the true time by the offset of the zone in which the session
// began, which the name does not tell. It returns false when Stamp is not a time.
func (n Name) Wall() (time.Time, bool) {
	var layout string
	switch len(n.Stamp) { // time.Parse would let fractions of a second pass
	case len(stampSecond):
		layout = stampSecond
	case len(stampDay):
		layout = stampDay
	default:
		return time.Time{}, false
	}
	t, err := time.Parse(layout, n.Stamp)
	return t, err == nil
}

// Time returns the time inside Rollout, to the millisecond and in UTC, and false
// when Rollout is not a UUIDv7.
func (n Name) Time() (time.Time, bool) {
	if n.Rollout.Version() != 7 || n.Rollout.Variant() != uuid.RFC4122 {
		return time.Time{}, false
	}
	ms := binary.BigEndian.Uint64(n.Rollout[:8]) >> 16
	return time.UnixMilli(int64(ms)).UTC(), true
}
