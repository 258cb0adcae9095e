package azure_test

import (
	"context"
	"log"

	gcblob "gocloud.dev/blob"

	"github.com/rollout-sync/rollout/store/blob"
	"github.com/rollout-sync/rollout/store/blob/azure"
)

func ExampleURLOpener() {
	var mux gcblob.URLMux
	mux.RegisterBucket(azure.Scheme, azure.URLOpener{})
	bucket, err := mux.OpenBucket(context.Background(), "azblob://team-sessions?storage_account=team&prefix=mirror/")
	if err != nil {
		log.Fatal(err)
	}
	s := blob.New(bucket, &blob.Options{Service: azure.Service()})
	defer s.Close()
}
