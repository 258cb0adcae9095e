package s3_test

import (
	"context"
	"log"

	gcblob "gocloud.dev/blob"

	"github.com/rollout-sync/rollout/store/blob"
	"github.com/rollout-sync/rollout/store/blob/s3"
)

func ExampleURLOpener() {
	var mux gcblob.URLMux
	mux.RegisterBucket(s3.Scheme, s3.URLOpener{})
	bucket, err := mux.OpenBucket(context.Background(), "s3://team-sessions?region=eu-central-1&prefix=mirror/")
	if err != nil {
		log.Fatal(err)
	}
	s := blob.New(bucket, &blob.Options{Service: s3.Service()})
	defer s.Close()
}
