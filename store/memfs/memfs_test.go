package memfs_test

import (
	"io/fs"
	"runtime"
	"sync"
	"testing"

	"github.com/spf13/afero"

	"github.com/rollout-sync/rollout/store/memfs"
	"github.com/rollout-sync/rollout/store/storetest"
)

func TestStore(t *testing.T) {
	t.Parallel()
	for name, afs := range map[string]func(t *testing.T) afero.Fs{
		"MemMapFs":   func(*testing.T) afero.Fs { return afero.NewMemMapFs() },
		"OsFs":       func(t *testing.T) afero.Fs { return afero.NewBasePathFs(afero.NewOsFs(), t.TempDir()) },
		"BasePathFs": func(*testing.T) afero.Fs { return based() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, func(t *testing.T) storetest.Harness {
				f := &failing{Fs: afs(t), next: map[storetest.Op]error{}}
				return storetest.Harness{Store: memfs.New(f), Fail: f.fail, FoldsCase: name == "OsFs" && foldsCase}
			})
		})
	}
}

// foldsCase says what the file systems of such a system usually do.
const foldsCase = runtime.GOOS == "darwin" || runtime.GOOS == "windows"

// failing is a file system whose next operation of a kind fails, if it is told so.
type failing struct {
	afero.Fs
	mu   sync.Mutex
	next map[storetest.Op]error
}

func (f *failing) fail(op storetest.Op, err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.next[op] = err
}

func (f *failing) failure(op storetest.Op) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	err := f.next[op]
	delete(f.next, op)
	return err
}

func (f *failing) OpenFile(name string, flag int, perm fs.FileMode) (afero.File, error) {
	file, err := f.Fs.OpenFile(name, flag, perm)
	if err != nil {
		return nil, err
	}
	return failingFile{file, f}, nil
}

type failingFile struct {
	afero.File
	fs *failing
}

func (f failingFile) Write(p []byte) (int, error) {
	if err := f.fs.failure(storetest.OpAppend); err != nil {
		n, _ := f.File.Write(p[:len(p)/2])
		return n, err
	}
	return f.File.Write(p)
}

func (f failingFile) Sync() error {
	if err := f.fs.failure(storetest.OpSync); err != nil {
		return err
	}
	return f.File.Sync()
}

func based() afero.Fs {
	mem := afero.NewMemMapFs()
	if err := mem.MkdirAll("/deep/down", 0o700); err != nil {
		panic(err)
	}
	return afero.NewBasePathFs(mem, "/deep/down")
}
