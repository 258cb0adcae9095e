// Package mem makes gocloud's in-memory bucket, memblob, a bucket for package
// blob: one that replaces conditionally, for hermetic tests.
//
// memblob knows IfNotExist and no other condition, so the Store compares
// versions itself (blob.Service.SingleWriter): several goroutines may share one
// Store, but two Stores over one bucket may overwrite each other's objects. The
// bucket is memory of this process in any case.
package mem

import (
	"fmt"
	"time"

	gcblob "gocloud.dev/blob"

	"github.com/rollout-sync/rollout/store/blob"
)

// Service returns what package blob has to know of memblob. A version is the
// time, the size and the MD5 of an object, so it differs when the bytes do even
// if the clock stands still.
func Service() blob.Service {
	return blob.Service{
		Version:      func(a *gcblob.Attributes) string { return version(a.ModTime, a.Size, a.MD5) },
		Listed:       func(o *gcblob.ListObject) string { return version(o.ModTime, o.Size, o.MD5) },
		SingleWriter: true,
	}
}

func version(t time.Time, size int64, sum []byte) string {
	return fmt.Sprintf("%x-%x-%x", t.UnixNano(), size, sum)
}
