// Package gcs makes a Google Cloud Storage bucket a bucket for package blob. It is
// a package of its own so that only programs that want GCS link the SDK.
package gcs

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"cloud.google.com/go/storage"
	gcblob "gocloud.dev/blob"
	"gocloud.dev/blob/gcsblob"
	"gocloud.dev/gcerrors"
	"gocloud.dev/gcp"
	"google.golang.org/api/googleapi"

	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/blob"
	"github.com/rollout-sync/rollout/store/blob/internal/stall"
)

// Scheme is the URL scheme that URLOpener is for.
const Scheme = gcsblob.Scheme

const (
	// maxAttempts bounds how often one request is tried. The SDK's own bound is the
	// context alone, so that a server that is down would hang us. Its pauses are
	// random, at most 1, 2, 4 … seconds, and a tenth of that between those of an
	// upload.
	maxAttempts = 5
	// replyTimeout bounds the wait for a reply to a request that was sent whole, and
	// for a connection to go on in the middle of either.
	replyTimeout = 2 * time.Minute
)

// URLOpener opens "gs" URLs with gocloud's opener and parameters. Unlike gocloud's
// default opener it prints nothing, and gives up a request after some tries.
type URLOpener struct{}

// OpenBucketURL opens the bucket named by the URL's host. It makes no request to
// it. Credentials are Google's application default credentials, or none if the
// URL says anonymous=true or STORAGE_EMULATOR_HOST (host:port) is set.
func (URLOpener) OpenBucketURL(ctx context.Context, u *url.URL) (*gcblob.Bucket, error) {
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = replyTimeout
	stall.Bound(transport, replyTimeout)
	opener := &gcsblob.URLOpener{Client: gcp.NewAnonymousHTTPClient(transport)}
	anonymous, _ := strconv.ParseBool(u.Query().Get("anonymous"))
	if !anonymous && u.Query().Get("access_id") != "-" && os.Getenv("STORAGE_EMULATOR_HOST") == "" {
		credentials, err := gcp.DefaultCredentials(ctx)
		if err != nil {
			return nil, fmt.Errorf("open %s: %w", u.Redacted(), err)
		}
		opener.TokenSource = gcp.CredentialsTokenSource(credentials)
		if opener.Client, err = gcp.NewHTTPClient(transport, opener.TokenSource); err != nil {
			return nil, fmt.Errorf("open %s: %w", u.Redacted(), err)
		}
	}
	bucket, err := opener.OpenBucketURL(ctx, u)
	if err != nil {
		return nil, err
	}
	limit(bucket)
	return bucket, nil
}

// Endpoint tells where requests for a bucket of URLOpener go, by scheme and host. It
// makes no request.
func Endpoint(context.Context, *gcblob.Bucket) (*url.URL, error) {
	host := os.Getenv("STORAGE_EMULATOR_HOST")
	switch { // as package storage reads it
	case host == "":
		return &url.URL{Scheme: "https", Host: "storage.googleapis.com"}, nil
	case !strings.Contains(host, "://"):
		return &url.URL{Scheme: "http", Host: host}, nil
	}
	u, err := url.Parse(host)
	if err != nil {
		return nil, errors.New("STORAGE_EMULATOR_HOST is neither host:port nor a URL")
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

// limit is the retry policy that package blob states, for GCS, but for what
// prepareWrite has to add. What is worth a retry is the SDK's to say.
func limit(bucket *gcblob.Bucket) {
	var client *storage.Client
	if bucket.As(&client) {
		client.SetRetry(storage.WithMaxAttempts(maxAttempts))
	}
}

// Service returns what package blob has to know of GCS. A version is a generation.
func Service() blob.Service {
	return blob.Service{
		Reader: readerObject,
		Version: func(a *gcblob.Attributes) string {
			var attrs storage.ObjectAttrs
			a.As(&attrs)
			return version(attrs.Generation)
		},
		Listed: func(o *gcblob.ListObject) string {
			var attrs storage.ObjectAttrs
			o.As(&attrs)
			return version(attrs.Generation)
		},
		Write: prepareWrite,
		Remove: func(as func(any) bool, version string) error {
			var handle **storage.ObjectHandle
			if !as(&handle) {
				return errors.ErrUnsupported
			}
			return only(handle, version)
		},
		Error: classify,
	}
}

func version(generation int64) string {
	if generation <= 0 {
		return ""
	}
	return strconv.FormatInt(generation, 10)
}

// only makes what is done with the handle conditional.
func only(handle **storage.ObjectHandle, version string) error {
	generation, err := strconv.ParseInt(version, 10, 64)
	if err != nil || generation <= 0 {
		return store.ErrChanged // there is no such version
	}
	*handle = (*handle).If(storage.Conditions{GenerationMatch: generation})
	return nil
}

func readerObject(r *gcblob.Reader) (blob.Object, bool) {
	var reader *storage.Reader
	if !r.As(&reader) || reader.Attrs.Generation <= 0 {
		return blob.Object{}, false
	}
	meta := map[string]string{}
	for k, v := range reader.Metadata() {
		meta[strings.ToLower(k)] = v
	}
	return blob.Object{Version: version(reader.Attrs.Generation), Meta: meta}, true
}

// prepareWrite bounds the tries of each part, which WithMaxAttempts does not, and
// gets hold of the writer, which knows the new generation.
func prepareWrite(_ *gcblob.Bucket, as func(any) bool, w blob.Write) (func() string, error) {
	var (
		handle   **storage.ObjectHandle
		writer   *storage.Writer
		failures atomic.Int32
	)
	if !as(&handle) {
		return nil, errors.ErrUnsupported
	}
	if w.IfVersion != "" {
		if err := only(handle, w.IfVersion); err != nil {
			return nil, err
		}
	}
	*handle = (*handle).Retryer(storage.WithErrorFunc(func(err error) bool {
		return err != nil && failures.Add(1) < maxAttempts && storage.ShouldRetry(err)
	}))
	if !as(&writer) {
		return nil, errors.ErrUnsupported
	}
	writer.ProgressFunc = func(int64) { failures.Store(0) }
	return func() string {
		attrs := writer.Attrs()
		if attrs == nil {
			return ""
		}
		return version(attrs.Generation)
	}, nil
}

// classify judges what gcsblob calls Unknown, and NotFound where the service says
// that something is forbidden.
func classify(err error) (gcerrors.ErrorCode, string) {
	if errors.Is(err, storage.ErrObjectNotExist) {
		return gcerrors.NotFound, ""
	}
	reply, ok := errors.AsType[*googleapi.Error](err)
	if !ok {
		return gcerrors.Unknown, ""
	}
	msg := fmt.Sprintf("%s (%d)", http.StatusText(reply.Code), reply.Code)
	if reply.Message != "" {
		msg = fmt.Sprintf("%s (%d)", reply.Message, reply.Code)
	}
	switch reply.Code {
	case http.StatusUnauthorized, http.StatusForbidden:
		return gcerrors.PermissionDenied, msg
	case http.StatusPreconditionFailed:
		return gcerrors.FailedPrecondition, msg
	case http.StatusRequestedRangeNotSatisfiable:
		return gcerrors.InvalidArgument, msg
	case http.StatusNotFound:
		return gcerrors.NotFound, msg
	}
	return gcerrors.Unknown, msg
}
