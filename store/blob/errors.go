package blob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"strings"

	"gocloud.dev/gcerrors"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
)

// errorOf turns an error of the bucket into one of package store. unmet is what a
// condition that did not hold means here: store.ErrChanged or fs.ErrExist. Details
// are kept for the cases that nobody handles by kind.
func (s *Store) errorOf(ctx context.Context, err, unmet error) error {
	if err == nil {
		return nil
	}
	if done := ctx.Err(); done != nil {
		return done
	}
	code, msg := s.code(err)
	var kind error
	switch code {
	case gcerrors.FailedPrecondition, gcerrors.AlreadyExists:
		return unmet
	case gcerrors.NotFound:
		if msg == "" {
			return fs.ErrNotExist
		}
		kind = fs.ErrNotExist
	case gcerrors.PermissionDenied:
		kind = fs.ErrPermission
	case gcerrors.Unimplemented:
		kind = errors.ErrUnsupported
	}
	if msg == "" {
		msg = message(err)
	}
	if kind != nil {
		msg = kind.Error() + ": " + msg
	}
	return &serviceError{msg, kind, err}
}

// code is the one place that says what an error of the bucket is, and, if the
// service knows better words than the error has, in which.
func (s *Store) code(err error) (code gcerrors.ErrorCode, msg string) {
	if errors.Is(err, store.ErrChanged) { // a hook of the Service says so
		return gcerrors.FailedPrecondition, ""
	}
	if s.service.Error != nil {
		if code, msg = s.service.Error(err); code != gcerrors.Unknown {
			return code, msg
		}
	}
	return gcerrors.Code(err), msg
}

// message returns what err says in one line: without gocloud's own words, which
// repeat the key, without the paths of the os, and without the URL of a request,
// which may hold a signature.
func message(err error) string {
	for {
		inner := cause(err)
		if inner == nil {
			break
		}
		err = inner
	}
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// cause returns what err is about, if its own words are better left out.
func cause(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	switch e := err.(type) {
	case *fs.PathError:
		return e.Err
	case *os.LinkError:
		return e.Err
	case interface{ Unwrap() []error }: // of gocloud: the cause, then a code
		return e.Unwrap()[0]
	}
	return nil
}

// A serviceError is an error of the service in words of ours.
type serviceError struct {
	msg   string
	kind  error // what else it is; may be nil
	cause error
}

func (e *serviceError) Error() string        { return e.msg }
func (e *serviceError) Unwrap() error        { return e.cause }
func (e *serviceError) Is(target error) bool { return target == e.kind }

// corrupt turns an error of the sealed container into store.ErrCorrupt and leaves
// any other as it is.
func corrupt(err error) error {
	if errors.Is(err, codec.ErrCorrupt) {
		return fmt.Errorf("%w: %w", store.ErrCorrupt, err)
	}
	return err
}
