package storetest_test

import (
	"context"
	"fmt"

	"github.com/rollout-sync/rollout/store/memfs"
	"github.com/rollout-sync/rollout/store/storetest"
)

// A program that is no test checks a store case by case, each on an empty one.
func ExampleCase_Check() {
	for _, c := range storetest.Cases() {
		h := storetest.Harness{Store: memfs.New(nil)}
		if c.Applies != nil && !c.Applies(h) {
			continue
		}
		if err := c.Check(context.Background(), h); err != nil {
			fmt.Printf("%s: %s: %v\n", c.Name, c.Rule, err)
		}
	}
	fmt.Println("done")
	// Output: done
}
