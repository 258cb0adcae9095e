package dirblob

import (
	"errors"
	"time"

	gcblob "gocloud.dev/blob"

	"github.com/rollout-sync/rollout/store/blob"
)

// Service returns what package blob has to know of this driver. Every reply has
// the version.
func Service() blob.Service {
	return blob.Service{
		Reader: func(r *gcblob.Reader) (blob.Object, bool) {
			var i Info
			if !r.As(&i) {
				return blob.Object{}, false
			}
			meta := map[string]string{metaModTime: i.ModTime.UTC().Format(time.RFC3339Nano)}
			return blob.Object{Version: i.Version, Meta: meta}, true
		},
		Version: func(a *gcblob.Attributes) string { return version(a) },
		Listed:  func(o *gcblob.ListObject) string { return version(o) },
		Write: func(_ *gcblob.Bucket, as func(any) bool, w blob.Write) (func() string, error) {
			var pending *Write
			if !as(&pending) {
				return nil, errors.ErrUnsupported
			}
			pending.IfVersion = w.IfVersion
			return func() string { return pending.Version }, nil
		},
		Remove: func(as func(any) bool, version string) error {
			var pending *Delete
			if !as(&pending) {
				return errors.ErrUnsupported
			}
			pending.IfVersion = version
			return nil
		},
	}
}

func version(from interface{ As(any) bool }) string {
	var i Info
	from.As(&i)
	return i.Version
}
