package recorder_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/rollout-sync/rollout/store/local"
)

// A real disk that is full, and has room again.
func TestRealDiskFull(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=1m"); err != nil {
		t.Skipf("only root may mount a small disk (TestDiskFullAndBack does without): %v", err)
	}
	t.Cleanup(func() { must(t, syscall.Unmount(dir, syscall.MNT_DETACH)) })
	st, err := local.Open(dir, nil)
	must(t, err)
	defer st.Close()
	r := newRecorder(t, st)
	must(t, r.Record(t.Context(), note("0")))
	must(t, r.Flush(t.Context()))
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 2<<20), 0o600); !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("the disk is not full: %v", err)
	}
	big := strings.Repeat("x", 100<<10)
	must(t, r.Record(t.Context(), note("1"), note(big)))
	for _, call := range []func() error{
		func() error { return r.Flush(t.Context()) },
		func() error { return r.Retry(t.Context()) },
		r.Err,
	} {
		if err := call(); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("got %v", err)
		}
	}
	if got := read(t, st, name); got != metaLine+noteLine("0") {
		t.Errorf("on a full disk there are %d bytes", len(got))
	}
	must(t, os.Remove(filler))
	must(t, r.Retry(t.Context()))
	must(t, r.Record(t.Context(), note("2")))
	must(t, r.Close(t.Context()))
	if got := read(t, st, name); got != metaLine+noteLine("0")+noteLine("1")+noteLine(big)+noteLine("2") {
		t.Errorf("got %d bytes", len(got))
	}
}
