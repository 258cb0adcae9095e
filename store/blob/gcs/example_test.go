package gcs_test

import (
	"context"
	"log"

	gcblob "gocloud.dev/blob"

	"github.com/rollout-sync/rollout/store/blob"
	"github.com/rollout-sync/rollout/store/blob/gcs"
)

func ExampleURLOpener() {
	var mux gcblob.URLMux
	mux.RegisterBucket(gcs.Scheme, gcs.URLOpener{})
	bucket, err := mux.OpenBucket(context.Background(), "gs://team-sessions?prefix=mirror/")
	if err != nil {
		log.Fatal(err)
	}
	s := blob.New(bucket, &blob.Options{Service: gcs.Service()})
	defer s.Close()
}
