// Package azure makes an Azure Blob Storage container a bucket for package blob.
// It is a package of its own so that only programs that want Azure link the SDK.
package azure

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	azblobblob "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	gcblob "gocloud.dev/blob"
	"gocloud.dev/blob/azureblob"
	"gocloud.dev/gcerrors"

	"github.com/rollout-sync/rollout/store/blob"
)

// Scheme is the URL scheme that URLOpener is for.
const Scheme = azureblob.Scheme

// URLOpener opens "azblob" URLs with gocloud's own opener, which takes care that
// a SAS token from the environment is sent to its own account only.
type URLOpener struct{}

// OpenBucketURL opens the container named by the URL's host. It makes no request
// to it. Account and credentials are those of the AZURE_* environment.
func (URLOpener) OpenBucketURL(ctx context.Context, u *url.URL) (*gcblob.Bucket, error) {
	return gcblob.DefaultURLMux().OpenBucketURL(ctx, u)
}

// Endpoint tells where requests for a bucket of URLOpener go, by scheme and host. It
// makes no request.
func Endpoint(_ context.Context, bucket *gcblob.Bucket) (*url.URL, error) {
	var client *container.Client
	if !bucket.As(&client) {
		return nil, errors.ErrUnsupported
	}
	u, err := url.Parse(client.URL()) // which may have a SAS token in it
	if err != nil {
		return nil, errors.New("the URL of the storage account is none")
	}
	return &url.URL{Scheme: u.Scheme, Host: u.Host}, nil
}

// Service returns what package blob has to know of Azure. A version is an ETag
// without its quotes. A reply to an upload does not get through gocloud, so Put
// asks for the version.
func Service() blob.Service {
	return blob.Service{
		Reader:  readerObject,
		Version: func(a *gcblob.Attributes) string { return unquote(a.ETag) },
		Listed: func(o *gcblob.ListObject) string {
			var item container.BlobItem
			if !o.As(&item) || item.Properties == nil || item.Properties.ETag == nil {
				return ""
			}
			return unquote(string(*item.Properties.ETag))
		},
		Write: func(_ *gcblob.Bucket, as func(any) bool, w blob.Write) (func() string, error) {
			var o *azblob.UploadStreamOptions
			if !as(&o) {
				return nil, errors.ErrUnsupported
			}
			if w.IfVersion != "" {
				o.AccessConditions = ifMatch(w.IfVersion)
			}
			return nil, nil
		},
		Remove: func(as func(any) bool, version string) error {
			var o *azblobblob.DeleteOptions
			if !as(&o) {
				return errors.ErrUnsupported
			}
			o.AccessConditions = ifMatch(version)
			return nil
		},
		Error: classify,
	}
}

func unquote(etag string) string { return strings.Trim(etag, `"`) }

func ifMatch(version string) *azblob.AccessConditions {
	etag := azcore.ETag(`"` + version + `"`)
	return &azblob.AccessConditions{
		ModifiedAccessConditions: &azblobblob.ModifiedAccessConditions{IfMatch: &etag},
	}
}

func readerObject(r *gcblob.Reader) (blob.Object, bool) {
	var reply azblobblob.DownloadStreamResponse
	if !r.As(&reply) || reply.ETag == nil {
		return blob.Object{}, false
	}
	meta := make(map[string]string, len(reply.Metadata))
	for k, v := range reply.Metadata {
		if v == nil {
			continue
		}
		plain, err := url.PathUnescape(*v) // as azureblob escapes them
		if err != nil {
			plain = *v
		}
		meta[strings.ToLower(k)] = plain
	}
	return blob.Object{Version: unquote(string(*reply.ETag)), Meta: meta}, true
}

// classify judges what azureblob calls Unknown, and keeps the SDK's message, which
// has many lines and the URL, out of ours.
func classify(err error) (gcerrors.ErrorCode, string) {
	reply, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok {
		return gcerrors.Unknown, ""
	}
	if reply.ErrorCode == string(bloberror.BlobNotFound) {
		return gcerrors.NotFound, ""
	}
	msg := fmt.Sprintf("%s (%s)", http.StatusText(reply.StatusCode), reply.ErrorCode)
	switch reply.StatusCode {
	case http.StatusUnauthorized, http.StatusForbidden:
		return gcerrors.PermissionDenied, msg
	case http.StatusPreconditionFailed:
		return gcerrors.FailedPrecondition, msg
	case http.StatusRequestedRangeNotSatisfiable:
		return gcerrors.InvalidArgument, msg
	case http.StatusNotFound:
		if reply.ErrorCode == "" { // to a HEAD, which has no body to say more
			msg = ""
		}
		return gcerrors.NotFound, msg
	}
	return gcerrors.Unknown, msg
}
