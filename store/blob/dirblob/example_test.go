package dirblob_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"

	gcblob "gocloud.dev/blob"

	"github.com/rollout-sync/rollout/store/blob"
	"github.com/rollout-sync/rollout/store/blob/dirblob"
)

func ExampleOpenBucket() {
	home, err := os.MkdirTemp("", "example")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(home)
	dir := filepath.Join(home, "mirror")

	_, err = dirblob.OpenBucket(dir, nil)
	fmt.Println("missing:", os.IsNotExist(err))
	bucket, err := dirblob.OpenBucket(dir, &dirblob.Options{Create: true})
	if err != nil {
		log.Fatal(err)
	}
	s := blob.New(bucket, &blob.Options{Service: dirblob.Service()})
	fmt.Println(s.Close())
	// Output:
	// missing: true
	// <nil>
}

func ExampleURLOpener() {
	var mux gcblob.URLMux
	mux.RegisterBucket(dirblob.Scheme, dirblob.URLOpener{})
	bucket, err := mux.OpenBucket(context.Background(), "file:///var/lib/sessions?create_dir=true&prefix=team/")
	if err != nil {
		log.Fatal(err)
	}
	s := blob.New(bucket, &blob.Options{Service: dirblob.Service()})
	defer s.Close()
}
