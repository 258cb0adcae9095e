package gcs

import (
	"errors"
	"fmt"
	"testing"

	"cloud.google.com/go/storage"
	"gocloud.dev/gcerrors"
	"google.golang.org/api/googleapi"

	"github.com/rollout-sync/rollout/store"
)

// The rest of this package is tested against a server, in module integration.
func TestClassify(t *testing.T) {
	t.Parallel()
	reply := func(code int, msg string) error {
		return fmt.Errorf("wrapped: %w", &googleapi.Error{Code: code, Message: msg})
	}
	for _, tt := range []struct {
		err  error
		code gcerrors.ErrorCode
		msg  string
	}{
		{errors.New("x"), gcerrors.Unknown, ""},
		{storage.ErrObjectNotExist, gcerrors.NotFound, ""},
		{errors.Join(storage.ErrObjectNotExist, reply(404, "")), gcerrors.NotFound, ""},
		{reply(404, "The specified bucket does not exist."), gcerrors.NotFound, "The specified bucket does not exist. (404)"},
		{reply(403, "No access"), gcerrors.PermissionDenied, "No access (403)"},
		{reply(401, ""), gcerrors.PermissionDenied, "Unauthorized (401)"},
		{reply(412, ""), gcerrors.FailedPrecondition, "Precondition Failed (412)"},
		{reply(416, ""), gcerrors.InvalidArgument, "Requested Range Not Satisfiable (416)"},
		{reply(503, ""), gcerrors.Unknown, "Service Unavailable (503)"},
	} {
		code, msg := classify(tt.err)
		if code != tt.code || msg != tt.msg {
			t.Errorf("%v: got %v %q, want %v %q", tt.err, code, msg, tt.code, tt.msg)
		}
	}
}

func TestNoSuchGeneration(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"", "0", "-1", "x", "99999999999999999999"} {
		handle := new(storage.ObjectHandle)
		if err := only(&handle, version); !errors.Is(err, store.ErrChanged) {
			t.Errorf("%q: %v", version, err)
		}
	}
}
