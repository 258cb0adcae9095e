package store

import (
	"errors"
	"io/fs"
	"os"
	"strings"
)

// Errors a store returns beside those of io/fs and errors.ErrUnsupported.
var (
	// ErrBusy means that another writer holds the log.
	ErrBusy = errors.New("another writer holds it")
	// ErrCorrupt means that stored bytes are not what was written.
	ErrCorrupt = errors.New("damaged")
	// ErrInvalidName means that a name is not in the grammar of CheckName.
	ErrInvalidName = errors.New("invalid name")
	// ErrChanged means that a condition did not hold: the log, or the body to be
	// put, is not the version that was asked for.
	ErrChanged = errors.New("changed meanwhile")
)

// Error is how a store reports a failure: the operation, the log, and why.
type Error struct {
	Op   string // "open", "list", "create", "append", "sync", "seal", "put", "remove", "lock", …
	Name string
	Err  error
}

func (e *Error) Error() string { return e.Op + " " + e.Name + ": " + e.Err.Error() }
func (e *Error) Unwrap() error { return e.Err }

// Wrap returns err as an *Error, nil for nil. An err that is an *Error already is
// returned as it is, and the paths that os adds to its errors are dropped, so
// that a message names the log once.
func Wrap(op, name string, err error) error {
	if err == nil {
		return nil
	}
	if j, ok := err.(interface{ Unwrap() []error }); ok && len(j.Unwrap()) == 1 {
		err = j.Unwrap()[0] // an errors.Join of which one thing failed
	}
	switch e := err.(type) {
	case *Error:
		return e
	case *fs.PathError:
		err = e.Err
	case *os.LinkError:
		err = e.Err
	case *os.SyscallError:
		err = e.Err
	}
	return &Error{Op: op, Name: name, Err: err}
}

// Limits of a name, in bytes: what ext4, NTFS, S3 and GCS all take.
const (
	maxName    = 900
	maxElement = 240
)

// CheckName returns an error that is ErrInvalidName unless name is a name: valid
// by fs.ValidPath, not ".", without backslash, colon or control bytes, valid
// UTF-8, at most 900 bytes, each element at most 240 bytes and not beginning
// with a dot (such names belong to the stores themselves, for locks and
// temporary files) nor ending with one or with a space (Windows drops those).
func CheckName(name string) error {
	if reason := nameFault(name); reason != "" {
		return &nameError{reason}
	}
	return nil
}

type nameError struct{ reason string }

func (e *nameError) Error() string        { return ErrInvalidName.Error() + ": " + e.reason }
func (e *nameError) Is(target error) bool { return target == ErrInvalidName }

func nameFault(name string) string {
	switch {
	case name == "." || !fs.ValidPath(name):
		return "not a clean relative slash-separated path"
	case len(name) > maxName:
		return "longer than 900 bytes"
	}
	for i := range len(name) {
		if c := name[i]; c < 0x20 || c == 0x7f || c == '\\' || c == ':' {
			return "contains a control byte, a backslash or a colon"
		}
	}
	for e := range strings.SplitSeq(name, "/") {
		switch {
		case e[0] == '.':
			return "an element begins with a dot"
		case e[len(e)-1] == '.' || e[len(e)-1] == ' ':
			return "an element ends with a dot or a space"
		case len(e) > maxElement:
			return "an element is longer than 240 bytes"
		}
	}
	return ""
}
