// Package s3 makes an S3 bucket, of Amazon or of a compatible server, a bucket for
// package blob. It is a package of its own so that only programs that want S3
// link the SDK.
//
// Conditional writes (If-None-Match, If-Match) are in S3 since 2024, and not in
// all compatible servers: one that does not know them overwrites. Find out before
// relying on them, or set SingleWriter in the Service.
package s3

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/feature/s3/transfermanager"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	"github.com/aws/smithy-go/middleware"
	gcblob "gocloud.dev/blob"
	"gocloud.dev/blob/s3blob"
	"gocloud.dev/gcerrors"

	"github.com/rollout-sync/rollout/store/blob"
	"github.com/rollout-sync/rollout/store/blob/internal/stall"
)

// Scheme is the URL scheme that URLOpener is for.
const Scheme = s3blob.Scheme

const (
	// maxAttempts bounds how often one request is tried, unless AWS_MAX_ATTEMPTS
	// says otherwise. Each pause between two tries is random, at most 2, 4, 8 …
	// seconds; one that would exceed maxPause is just that, which none does.
	maxAttempts = 5
	maxPause    = 16 * time.Second
	// replyTimeout bounds the wait for a reply to a request that was sent whole, and
	// for a connection to go on in the middle of either.
	replyTimeout = 2 * time.Minute

	// abortTimeout bounds the clean-up after an upload that failed; without it the
	// transfer manager uses the upload's context, which is done by then, and
	// leaves the parts behind to be paid for (transfermanager v0.4.3).
	abortTimeout = 30 * time.Second
	// abortPause is how long after an abort to look what is left; each further
	// pause is twice as long.
	abortPause = 250 * time.Millisecond
)

// errConflict is the code of a conditional write that met another write.
const errConflict = "ConditionalRequestConflict"

// URLOpener opens "s3" URLs as gocloud's s3blob does, with one other default:
// response_checksum_validation=when_required, since checksums of whole objects
// do not fit ranges and the SDK warns of each. It logs nothing: that would go to
// stderr, and what is worth knowing is in the errors.
type URLOpener struct{}

// OpenBucketURL opens the bucket named by the URL's host. It makes no request to
// it. Credentials are those of the AWS SDK: the environment, shared files, the
// instance.
func (URLOpener) OpenBucketURL(ctx context.Context, u *url.URL) (*gcblob.Bucket, error) {
	const param = "response_checksum_validation"
	q := u.Query()
	if !q.Has(param) {
		q.Set(param, "when_required")
	}
	with := *u
	with.RawQuery = q.Encode()
	opener := new(s3blob.URLOpener)
	bucket, err := opener.OpenBucketURL(ctx, &with)
	if err != nil {
		return nil, err
	}
	var client *s3.Client
	if !bucket.As(&client) {
		return nil, fmt.Errorf("open %s: %w", u.Redacted(), errors.ErrUnsupported)
	}
	return s3blob.OpenBucket(ctx, s3.New(client.Options(), limit, silence, unsigned), u.Host, &opener.Options)
}

// Endpoint tells where requests for a bucket of URLOpener go, by scheme and host: what
// the URL, the environment and the shared files say together. It makes no request.
func Endpoint(ctx context.Context, bucket *gcblob.Bucket) (*url.URL, error) {
	var client *s3.Client
	if !bucket.As(&client) {
		return nil, errors.ErrUnsupported
	}
	if client.Options().Region == "" {
		return nil, errors.New("no region: set AWS_REGION, or region= in the URL")
	}
	var sent stopped
	_, err := client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: aws.String("bucket")}, func(o *s3.Options) {
		o.HTTPClient, o.Retryer, o.Credentials = &sent, aws.NopRetryer{}, aws.CredentialsProviderFunc(noCredentials)
		o.UsePathStyle, o.UseAccelerate = true, false // or the host would begin with the bucket
	})
	if sent.url == nil {
		return nil, err
	}
	return &url.URL{Scheme: sent.url.Scheme, Host: sent.url.Host}, nil
}

// noCredentials are for a request that is not sent: the real ones may take one.
func noCredentials(context.Context) (aws.Credentials, error) {
	return aws.Credentials{AccessKeyID: "none", SecretAccessKey: "none"}, nil
}

// stopped is an HTTP client that sends nothing and keeps the URL of its last request.
type stopped struct{ url *url.URL }

func (s *stopped) Do(r *http.Request) (*http.Response, error) {
	s.url = r.URL
	return nil, errors.ErrUnsupported
}

func silence(o *s3.Options) { o.Logger = logging.Nop{} }

// limit is the retry policy that package blob states, for S3. What is worth a
// retry is the SDK's to say, who lacks the word of Cloudflare R2 for SlowDown.
func limit(o *s3.Options) {
	o.Retryer = retry.AddWithErrorCodes(o.Retryer, "TooManyRequests")
	o.Retryer = retry.AddWithMaxBackoffDelay(o.Retryer, maxPause)
	attempts := maxAttempts
	if n, err := strconv.Atoi(os.Getenv("AWS_MAX_ATTEMPTS")); err == nil && n > 0 {
		attempts = n // gocloud's own retryer keeps the SDK from looking at it
	}
	o.Retryer = retry.AddWithMaxAttempts(o.Retryer, attempts)
	if c, ok := o.HTTPClient.(*awshttp.BuildableClient); ok {
		o.HTTPClient = c.WithTransportOptions(func(t *http.Transport) {
			t.ResponseHeaderTimeout = replyTimeout
			stall.Bound(t, replyTimeout)
		})
	}
}

// unsigned has the content of an object not signed over HTTP either: the SDK does that
// where there is no TLS, which costs another SHA-256 of all that is sent. Who can change
// bytes on the way to a server can change those on the way back as well, which nobody
// signs; mistakes the server finds by the CRC-32 that is sent too.
func unsigned(o *s3.Options) {
	const payload = "UNSIGNED-PAYLOAD"
	o.APIOptions = append(o.APIOptions, func(stack *middleware.Stack) error {
		if id := stack.ID(); id != "PutObject" && id != "UploadPart" {
			return nil
		}
		return stack.Initialize.Add(middleware.InitializeMiddlewareFunc(payload, func(
			ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler,
		) (middleware.InitializeOutput, middleware.Metadata, error) {
			return next.HandleInitialize(v4.SetPayloadHash(ctx, payload), in)
		}), middleware.Before)
	})
}

// Service returns what package blob has to know of S3. A version is an ETag
// without its quotes.
func Service() blob.Service {
	return blob.Service{
		Reader:  readerObject,
		Version: func(a *gcblob.Attributes) string { return unquote(a.ETag) },
		Listed: func(o *gcblob.ListObject) string {
			var object types.Object
			o.As(&object)
			return unquote(aws.ToString(object.ETag))
		},
		Write: prepareWrite,
		Remove: func(as func(any) bool, version string) error {
			var in *s3.DeleteObjectInput
			if !as(&in) {
				return errors.ErrUnsupported
			}
			in.IfMatch = quote(version)
			return nil
		},
		Error: classify,
	}
}

func quote(version string) *string { return aws.String(`"` + version + `"`) }
func unquote(etag string) string   { return strings.Trim(etag, `"`) }

func readerObject(r *gcblob.Reader) (blob.Object, bool) {
	var out s3.GetObjectOutput
	if !r.As(&out) || aws.ToString(out.ETag) == "" {
		return blob.Object{}, false
	}
	meta := make(map[string]string, len(out.Metadata))
	for k, v := range out.Metadata {
		if plain, err := url.PathUnescape(v); err == nil { // as s3blob escapes them
			v = plain
		}
		meta[strings.ToLower(k)] = v
	}
	return blob.Object{Version: unquote(*out.ETag), Meta: meta}, true
}

// prepareWrite gives the upload a transfer manager of its own, which cleans up
// after a failure and tells the new ETag.
func prepareWrite(bucket *gcblob.Bucket, as func(any) bool, w blob.Write) (func() string, error) {
	var (
		client  *s3.Client
		manager *transfermanager.Client
		in      *transfermanager.UploadObjectInput
	)
	if !bucket.As(&client) || !as(&manager) || !as(&in) {
		return nil, errors.ErrUnsupported
	}
	if w.IfVersion != "" {
		in.IfMatch = quote(w.IfVersion)
	}
	watched := &watchedClient{Client: client}
	if w.Take != nil {
		watched.content = w.Take()
	}
	*manager = *transfermanager.New(watched, func(o *transfermanager.Options) {
		o.RequestChecksumCalculation = client.Options().RequestChecksumCalculation
		o.PartSizeBytes = w.PartSize
		o.MultipartUploadThreshold = w.PartSize // its default would be twice as much to hold
		o.Concurrency = w.Concurrency
		o.FailTimeout = abortTimeout
	})
	return func() string {
		etag, _ := watched.etag.Load().(string)
		return unquote(etag)
	}, nil
}

// A watchedClient keeps the ETag of the object that it completes, makes sure of
// what it aborts, and asks again where a condition could not be judged. What is in
// memory it sends from there: the transfer manager v0.4.3 reads the first part into a
// buffer that it lets grow.
type watchedClient struct {
	*s3.Client
	etag    atomic.Value // string
	content []byte       // of the object, if the manager was given none
}

func (c *watchedClient) PutObject(ctx context.Context, in *s3.PutObjectInput, o ...func(*s3.Options)) (*s3.PutObjectOutput, error) {
	if c.content != nil {
		in.Body = bytes.NewReader(c.content)
	}
	out, err := c.Client.PutObject(ctx, in, append(slices.Clip(o), retryConflict)...)
	if err == nil {
		c.etag.Store(aws.ToString(out.ETag))
	}
	return out, err
}

// retryConflict has a PutObject that met another write of the same key tried again,
// as Amazon's reference says, for who won is then known. The parts of a larger
// object would have to be sent again too, so that one is refused.
func retryConflict(o *s3.Options) {
	o.Retryer = retry.AddWithErrorCodes(o.Retryer, errConflict)
}

func (c *watchedClient) CompleteMultipartUpload(ctx context.Context, in *s3.CompleteMultipartUploadInput, o ...func(*s3.Options)) (*s3.CompleteMultipartUploadOutput, error) {
	out, err := c.Client.CompleteMultipartUpload(ctx, in, o...)
	if err == nil {
		c.etag.Store(aws.ToString(out.ETag))
	}
	return out, err
}

// AbortMultipartUpload aborts until nothing of the upload is left, or the context
// ends. A part that was under way when its connection was cut may be stored after
// the abort, so Amazon's reference says to look for parts and to abort again.
func (c *watchedClient) AbortMultipartUpload(ctx context.Context, in *s3.AbortMultipartUploadInput, o ...func(*s3.Options)) (*s3.AbortMultipartUploadOutput, error) {
	for pause := abortPause; ; pause *= 2 {
		out, err := c.Client.AbortMultipartUpload(ctx, in, o...)
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return out, cmp.Or(err, ctx.Err())
		}
		look := &s3.ListPartsInput{Bucket: in.Bucket, Key: in.Key, UploadId: in.UploadId}
		_, lookErr := c.Client.ListParts(ctx, look, o...)
		if api, ok := errors.AsType[smithy.APIError](lookErr); ok && api.ErrorCode() == "NoSuchUpload" {
			return &s3.AbortMultipartUploadOutput{}, nil
		}
		if lookErr != nil { // such as one who may write and not look
			return out, err
		}
	}
}

// classify judges what s3blob calls Unknown.
func classify(err error) (gcerrors.ErrorCode, string) {
	code, msg := gcerrors.Unknown, ""
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		switch api.ErrorCode() {
		case "NoSuchKey", "NotFound":
			return gcerrors.NotFound, ""
		case errConflict:
			code = gcerrors.FailedPrecondition
		case "InvalidRange":
			code = gcerrors.InvalidArgument
		case "NotImplemented":
			code = gcerrors.Unimplemented
		}
		msg = api.ErrorCode()
		if text := api.ErrorMessage(); text != "" {
			msg = fmt.Sprintf("%s (%s)", text, msg)
		}
	}
	if reply, ok := errors.AsType[*awshttp.ResponseError](err); ok {
		switch reply.HTTPStatusCode() {
		case http.StatusUnauthorized, http.StatusForbidden:
			code = gcerrors.PermissionDenied
		case http.StatusPreconditionFailed:
			code = gcerrors.FailedPrecondition
		}
	}
	return code, msg
}
