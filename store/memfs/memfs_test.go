package memfs_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"testing"

	"github.com/spf13/afero"

	"github.com/rollout-sync/rollout/store/memfs"
	"github.com/rollout-sync/rollout/store/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	for name, afs := range map[string]func(t *testing.T) afero.Fs{
		"MemMapFs":   func(*testing.T) afero.Fs { return nil },
		"OsFs":       func(t *testing.T) afero.Fs { return afero.NewBasePathFs(afero.NewOsFs(), t.TempDir()) },
		"BasePathFs": func(*testing.T) afero.Fs { return based() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, func(t *testing.T) storetest.Harness {
				return storetest.Harness{Store: memfs.New(afs(t))}
			})
		})
	}
}

func based() afero.Fs {
	mem := afero.NewMemMapFs()
	if err := mem.MkdirAll("/deep/down", 0o700); err != nil {
		panic(err)
	}
	return afero.NewBasePathFs(mem, "/deep/down")
}

func ExampleNew() {
	ctx := context.Background()
	s := memfs.New(nil)
	l, err := s.Create(ctx, "notes.jsonl")
	if err != nil {
		panic(err)
	}
	defer l.Close()
	if err := l.Append([]byte("{}\n")); err != nil {
		panic(err)
	}
	f, err := s.Open(ctx, "notes.jsonl")
	if err != nil {
		panic(err)
	}
	defer f.Close()
	r, err := f.Range(ctx, 0, -1)
	if err != nil {
		panic(err)
	}
	defer r.Close()
	fmt.Println(io.Copy(os.Stdout, r))
	// Output:
	// {}
	// 3 <nil>
}
