package dirblob

import (
	"context"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"testing"

	"gocloud.dev/blob/driver"
	"gocloud.dev/blob/drivertest"

	"github.com/rollout-sync/rollout/store/internal/vfs"
)

// conformance are those tests of gocloud's suite that are about what this driver
// promises. Left out are, with the reason: TestMetadata, TestWrite and
// TestAttributes (metadata and content types would need a sidecar), TestKeys,
// TestListWeirdKeys, TestDirsWithCharactersBeforeDelimiter and the other cases of
// TestListDelimiters (keys that are no names); TestCopy and TestSignedURL skip
// themselves. Package store/storetest covers writes, through package blob.
var conformance = []string{
	"TestList", "TestListDelimiters/fwdslash", "TestRead", "TestCanceledWrite", "TestConcurrentWriteAndRead",
	"TestUploadDownload", "TestMD5", "TestDelete", "TestIfNotExist",
}

// TestGocloudConformance runs gocloud's suite, which cannot be asked for a part of
// itself, in a process of its own whose -test.run does that.
func TestGocloudConformance(t *testing.T) {
	const env = "DIRBLOB_RUN_CONFORMANCE"
	if os.Getenv(env) != "" {
		drivertest.RunConformanceTests(t, func(context.Context, *testing.T) (drivertest.Harness, error) {
			return &harness{t.TempDir()}, nil
		}, nil)
		return
	}
	t.Parallel()
	var run []string
	for _, name := range conformance {
		run = append(run, "^"+t.Name()+"$/^"+strings.ReplaceAll(name, "/", "$/^")+"$")
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run="+strings.Join(run, "|"))
	cmd.Env = append(os.Environ(), env+"=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, name := range conformance {
		if !strings.Contains(string(out), "--- PASS: "+t.Name()+"/"+name+" ") {
			t.Errorf("%s did not run\n%s", name, out)
		}
	}
}

type harness struct{ dir string }

func (h *harness) MakeDriver(context.Context) (driver.Bucket, error) {
	root, err := vfs.OpenOS(h.dir)
	if err != nil {
		return nil, err
	}
	return newBucket(root, root.Close), nil
}

func (h *harness) MakeDriverForNonexistentBucket(context.Context) (driver.Bucket, error) {
	return nil, nil
}
func (h *harness) HTTPClient() *http.Client         { return nil }
func (h *harness) SupportsCopy() bool               { return false }
func (h *harness) SupportsNonSlashDelimiters() bool { return false }
func (h *harness) Close()                           {}
