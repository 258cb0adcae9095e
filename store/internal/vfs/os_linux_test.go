package vfs_test

import (
	"syscall"
	"testing"
)

// SyncDir asks the system: /proc is a directory that cannot be synced, and says so.
func TestSyncDirSyncs(t *testing.T) {
	t.Parallel()
	wantErr(t, "SyncDir of /proc", openOS(t, "/proc").SyncDir("."), syscall.EINVAL)
}
