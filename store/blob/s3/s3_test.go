package s3

import (
	"errors"
	"net/http"
	"testing"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"gocloud.dev/gcerrors"
)

// reply is the error that the SDK makes of a reply; code and text are empty where
// the reply has no body, as those to HEAD.
func reply(status int, code, text string) error {
	inner := error(errors.New("no body"))
	if code != "" {
		inner = &smithy.GenericAPIError{Code: code, Message: text}
	}
	return &smithy.OperationError{ServiceID: "S3", OperationName: "GetObject", Err: &awshttp.ResponseError{
		ResponseError: &smithyhttp.ResponseError{
			Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}},
			Err:      inner,
		},
		RequestID: "4711",
	}}
}

// The rest of this package is tested against a server, in module integration.
func TestClassify(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		code gcerrors.ErrorCode
		msg  string
	}{
		{errors.New("x"), gcerrors.Unknown, ""},
		{reply(404, "NoSuchKey", "The specified key does not exist."), gcerrors.NotFound, ""},
		{reply(404, "NoSuchBucket", "No such bucket"), gcerrors.Unknown, "No such bucket (NoSuchBucket)"}, // s3blob knows it
		{reply(403, "SignatureDoesNotMatch", "It does not match"), gcerrors.PermissionDenied, "It does not match (SignatureDoesNotMatch)"},
		{reply(403, "", ""), gcerrors.PermissionDenied, ""},
		{reply(401, "Unauthorized", ""), gcerrors.PermissionDenied, "Unauthorized"},
		{reply(409, "ConditionalRequestConflict", ""), gcerrors.FailedPrecondition, "ConditionalRequestConflict"},
		{reply(412, "", ""), gcerrors.FailedPrecondition, ""},
		{reply(416, "InvalidRange", ""), gcerrors.InvalidArgument, "InvalidRange"},
		{reply(501, "NotImplemented", "A header"), gcerrors.Unimplemented, "A header (NotImplemented)"},
		{reply(503, "SlowDown", "Reduce your rate"), gcerrors.Unknown, "Reduce your rate (SlowDown)"},
	} {
		code, msg := classify(tt.err)
		if code != tt.code || msg != tt.msg {
			t.Errorf("%v: got %v %q, want %v %q", tt.err, code, msg, tt.code, tt.msg)
		}
	}
}
