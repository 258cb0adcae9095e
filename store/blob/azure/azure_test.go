package azure_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"time"

	azcontainer "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	gcblob "gocloud.dev/blob"
	"gocloud.dev/blob/azureblob"

	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/blob"
	"github.com/rollout-sync/rollout/store/blob/azure"
	"github.com/rollout-sync/rollout/store/storetest"
)

var ctx = context.Background()

func openBucket(t *testing.T, s *server) *gcblob.Bucket {
	client, err := azcontainer.NewClientWithNoCredential(s.URL+"/"+container+"?sig=SECRET", nil)
	must(t, err)
	b, err := azureblob.OpenBucket(ctx, client, nil)
	must(t, err)
	return b
}

func openStore(t *testing.T, s *server) *blob.Store {
	st := blob.New(openBucket(t, s), &blob.Options{Service: azure.Service(), SpoolDir: t.TempDir()})
	t.Cleanup(func() { st.Close() })
	return st
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for name, prefix := range map[string]string{"plain": "", "prefixed": "team/a/"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, func(t *testing.T) storetest.Harness {
				b := openBucket(t, newServer(t))
				if prefix != "" {
					b = gcblob.PrefixedBucket(b, prefix)
				}
				st := blob.New(b, &blob.Options{Service: azure.Service(), SpoolDir: t.TempDir()})
				t.Cleanup(func() { st.Close() })
				return storetest.Harness{Store: st, WriteOnce: true}
			})
		})
	}
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

// TestFailingSource is about objects of one block and of several: the SDK takes an
// error that wraps io.EOF for the end, and gocloud's NewWriter panics.
func TestFailingSource(t *testing.T) {
	t.Parallel()
	failure := errors.New("disk on fire")
	for _, size := range []int{0, 1000, 20 << 20} {
		s := newServer(t)
		st := openStore(t, s)
		content := make([]byte, size)
		rand.NewChaCha8([32]byte{}).Read(content)
		b := store.BytesBody(content, time.Now())
		b.Open = func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(content), failingReader{errors.Join(failure, io.EOF)})), nil
		}
		for _, name := range []string{"a.jsonl", "a.bin"} {
			_, err := st.Put(ctx, name, b, store.Cond{IfAbsent: true})
			wantErr(t, "Put", err, failure)
			_, err = st.Open(ctx, name)
			wantErr(t, "Open", err, fs.ErrNotExist)
		}
		old, err := st.Put(ctx, "a.bin", store.BytesBody(content, time.Now()), store.Cond{IfAbsent: true})
		must(t, err)
		_, err = st.Put(ctx, "a.bin", b, store.Cond{IfVersion: old})
		wantErr(t, "replacing Put", err, failure)
		f, err := st.Open(ctx, "a.bin")
		must(t, err)
		if f.Info().Version != old {
			t.Error("the old object was replaced")
		}
	}
}

func TestRequests(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	st := openStore(t, s)
	version, err := st.Put(ctx, "a.jsonl", store.BytesBody([]byte("x\n"), time.Now()), store.Cond{IfAbsent: true})
	must(t, err)
	if got := s.take(); got != "PUT HEAD" {
		t.Errorf("Put: %s", got)
	}
	f, err := st.Open(ctx, "a.jsonl")
	must(t, err)
	if got := s.take(); got != "GET" {
		t.Errorf("Open: %s", got)
	}
	if f.Info().Version != version || f.Info().Meta["size"] != "2" {
		t.Errorf("Info = %+v, Put returned version %q", f.Info(), version)
	}
	for e, err := range st.List(ctx, ".", store.ListOptions{}) {
		must(t, err)
		if e.Info.Version != version {
			t.Errorf("List has version %q, want %q", e.Info.Version, version)
		}
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	st := openStore(t, s)
	s.mu.Lock()
	s.refuse = http.StatusForbidden
	s.mu.Unlock()
	_, err := st.Open(ctx, "a.jsonl")
	wantErr(t, "Open", err, fs.ErrPermission)
	if got, want := err.Error(), "open a.jsonl: permission denied: Forbidden (AuthorizationFailure)"; got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	s.Close()
	c, cancel := context.WithTimeout(ctx, 100*time.Millisecond) // the SDK's retries last longer
	defer cancel()
	_, err = st.Open(c, "a.jsonl")
	wantErr(t, "Open without a server", err, context.DeadlineExceeded)
	if strings.Contains(err.Error(), "SECRET") {
		t.Errorf("the error tells the signature: %v", err)
	}
}
