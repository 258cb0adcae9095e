package integration

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/rollout-sync/rollout/integration/parts"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/blob"
	"github.com/rollout-sync/rollout/store/blob/azure"
	"github.com/rollout-sync/rollout/store/storetest"
)

func TestConformance(t *testing.T) {
	each(t, 2*len(storetest.Cases()), 0, func(t *testing.T, s *service) {
		for name, prefix := range map[string]string{"plain": "", "prefixed": "team/a/"} {
			t.Run(name, func(t *testing.T) {
				s.proxy.busy.RLock()
				defer s.proxy.busy.RUnlock()
				storetest.Run(t, func(t *testing.T) storetest.Harness {
					open := s.bucket(t, prefix)
					return storetest.Harness{
						Store:     s.storeOf(t, open()),
						Reopen:    func() storetest.Store { return s.storeOf(t, open()) },
						WriteOnce: true,
					}
				})
			})
		}
	})
}

// noise returns n bytes that do not compress much.
func noise(n int) []byte {
	r := rand.New(rand.NewPCG(uint64(n), 1))
	p := make([]byte, n)
	for i := range p {
		p[i] = byte(' ' + r.IntN(90))
		if i%1000 == 999 {
			p[i] = '\n'
		}
	}
	return p
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

func wantBytes(t *testing.T, s *blob.Store, name string, want []byte) {
	t.Helper()
	f, err := s.Open(ctx, name)
	must(t, err)
	defer f.Close()
	r, err := f.Range(ctx, 0, -1)
	must(t, err)
	defer r.Close()
	got, err := io.ReadAll(r)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes, want %d, or others", name, len(got), len(want))
	}
}

// cases are sizes on both sides of what drivers send in one piece.
var sizes = []int{0, 1000, 12 << 20, 40 << 20}

// TestPut puts, meets another's object, replaces and fails, for objects of one
// request and of several.
func TestPut(t *testing.T) {
	each(t, len(sizes), 0, func(t *testing.T, s *service) {
		for _, size := range sizes {
			t.Run(strconv.Itoa(size), func(t *testing.T) {
				st := s.store(t)
				content := noise(size)
				body := store.BytesBody(content, time.Now())
				one, err := st.Put(ctx, "a.jsonl", body, store.Cond{IfAbsent: true})
				must(t, err)
				wantBytes(t, st, "a.jsonl", content)

				other := store.BytesBody(noise(size+1), time.Now())
				_, err = st.Put(ctx, "a.jsonl", other, store.Cond{IfAbsent: true})
				wantErr(t, "Put over what is there", err, store.ErrChanged)
				wantBytes(t, st, "a.jsonl", content)
				_, err = st.Put(ctx, "b.jsonl", other, store.Cond{IfVersion: one})
				wantErr(t, "Put over what is not there", err, store.ErrChanged)

				failure := errors.New("disk on fire")
				failing := store.BytesBody(content, time.Now())
				failing.Open = func() (io.ReadCloser, error) {
					return io.NopCloser(io.MultiReader(bytes.NewReader(content), failingReader{failure})), nil
				}
				_, err = st.Put(ctx, "b.jsonl", failing, store.Cond{IfAbsent: true})
				wantErr(t, "Put of a source that fails", err, failure)
				_, err = st.Put(ctx, "a.jsonl", failing, store.Cond{IfVersion: one})
				wantErr(t, "replacing Put of a source that fails", err, failure)
				_, err = st.Open(ctx, "b.jsonl")
				wantErr(t, "Open of what was not stored", err, fs.ErrNotExist)
				wantBytes(t, st, "a.jsonl", content)

				two, err := st.Put(ctx, "a.jsonl", other, store.Cond{IfVersion: one})
				must(t, err)
				_, err = st.Put(ctx, "a.jsonl", body, store.Cond{IfVersion: one})
				wantErr(t, "Put over an old version", err, store.ErrChanged)
				wantBytes(t, st, "a.jsonl", noise(size+1))
				for e, err := range st.List(ctx, ".", store.ListOptions{}) {
					must(t, err)
					if e.Info.Version != two {
						t.Errorf("List says version %q, Put %q", e.Info.Version, two)
					}
				}
				must(t, st.Remove(ctx, "a.jsonl", two))
			})
		}
	})
}

type failingReader struct{ err error }

func (r failingReader) Read([]byte) (int, error) { return 0, r.err }

// TestNoPartsLeft fails uploads in the middle: parts that were sent must not stay
// where nobody sees them and somebody pays for them.
func TestNoPartsLeft(t *testing.T) {
	s := services[0]
	parts.Add(t, parts.Entry{Part: s.name, Version: s.version, Cases: 2, Faults: 2})
	bucket := s.bucket(t, "")()
	st := s.storeOf(t, bucket)
	content := noise(60 << 20)
	for name, failure := range map[string]error{"failed.jsonl": errors.New("disk on fire"), "cancelled.jsonl": context.Canceled} {
		c, cancel := context.WithCancel(ctx)
		body := store.BytesBody(content, time.Now())
		body.Open = func() (io.ReadCloser, error) {
			return io.NopCloser(io.MultiReader(bytes.NewReader(content[:50<<20]), &tripwire{failure, cancel})), nil
		}
		_, err := st.Put(c, name, body, store.Cond{IfAbsent: true})
		wantErr(t, name, err, failure)
		cancel()
	}
	var client *awss3.Client
	bucket.As(&client)
	for n := int64(1); n <= buckets.Load(); n++ {
		name := fmt.Sprintf("bucket-%d", n)
		out, err := client.ListMultipartUploads(ctx, &awss3.ListMultipartUploadsInput{Bucket: &name})
		if err == nil && len(out.Uploads) > 0 {
			t.Errorf("%d unfinished uploads are left, of %s", len(out.Uploads), *out.Uploads[0].Key)
		}
	}
}

type tripwire struct {
	err    error
	cancel func()
}

func (r *tripwire) Read([]byte) (int, error) {
	if errors.Is(r.err, context.Canceled) {
		r.cancel()
	}
	return 0, r.err
}

func TestLostAcknowledgement(t *testing.T) {
	each(t, 4, 6, func(t *testing.T, s *service) {
		for _, lost := range []int64{1, 2} {
			t.Run(strconv.FormatInt(lost, 10), func(t *testing.T) {
				s.proxy.busy.Lock()
				defer s.proxy.busy.Unlock()
				st := s.store(t)
				s.proxy.lose.Store(lost)
				version, err := st.Put(ctx, "a.jsonl", store.BytesBody([]byte("x\n"), time.Now()), store.Cond{IfAbsent: true})
				must(t, err)
				s.proxy.lose.Store(lost)
				_, err = st.Put(ctx, "a.jsonl", store.BytesBody([]byte("y\n"), time.Now()), store.Cond{IfVersion: version})
				must(t, err)
				s.proxy.lose.Store(0)
				wantBytes(t, st, "a.jsonl", []byte("y\n"))
			})
		}
	})
}

func TestRequests(t *testing.T) {
	each(t, 4, 0, func(t *testing.T, s *service) {
		s.proxy.busy.Lock()
		defer s.proxy.busy.Unlock()
		st := s.store(t)
		count := func(what string, want int64, do func() error) {
			t.Helper()
			before := s.proxy.requests.Load()
			must(t, do())
			if got := s.proxy.requests.Load() - before; got != want {
				t.Errorf("%s takes %d requests, want %d", what, got, want)
			}
		}
		puts := int64(1)
		if s.url("any").Scheme == azure.Scheme { // whose driver does not pass on the new version
			puts = 2
		}
		count("a put", puts, func() error {
			_, err := st.Put(ctx, "a.jsonl", store.BytesBody(noise(1000), time.Now()), store.Cond{IfAbsent: true})
			return err
		})
		count("open and read", 1, func() error {
			wantBytes(t, st, "a.jsonl", noise(1000))
			return nil
		})
		count("an open of what is missing", 1, func() error {
			_, err := st.Open(ctx, "missing.jsonl")
			wantErr(t, "Open", err, fs.ErrNotExist)
			return nil
		})
		count("a list", 1, func() error { return list(ctx, st) })
	})
}

// list returns what a listing of the whole fails with.
func list(ctx context.Context, st *blob.Store) error {
	for _, err := range st.List(ctx, ".", store.ListOptions{}) {
		if err != nil {
			return err
		}
	}
	return nil
}

// put puts what is not there.
func put(ctx context.Context, st *blob.Store, name string, content []byte) error {
	_, err := st.Put(ctx, name, store.BytesBody(content, time.Now()), store.Cond{IfAbsent: true})
	return err
}

// Refused credentials and a bucket that is not there are told as what they are, in
// one line that has no secret.
func TestErrors(t *testing.T) {
	each(t, 6, 6, func(t *testing.T, s *service) {
		check := func(what string, err, want error) {
			t.Helper()
			wantErr(t, what, err, want)
			if err == nil {
				return
			}
			if text := err.Error(); strings.Contains(text, wrongSecret) || strings.Contains(text, "\n") {
				t.Errorf("%s: the error is %q", what, text)
			}
		}
		t.Run("no bucket", func(t *testing.T) {
			bucket, err := s.open("missing")
			must(t, err)
			st := s.storeOf(t, bucket)
			err = put(ctx, st, "a.jsonl", nil)
			check("Put", err, fs.ErrNotExist)
			if bare := "put a.jsonl: " + fs.ErrNotExist.Error(); err.Error() == bare {
				t.Errorf("Put does not say that it is the bucket that is missing: %v", err)
			}
			check("List", list(ctx, st), fs.ErrNotExist)
			_, err = st.Open(ctx, "a.jsonl")
			check("Open", err, fs.ErrNotExist)
		})
		t.Run("forbidden", func(t *testing.T) {
			if s.refused == nil {
				t.Skip("it asks for no credentials")
			}
			bucket, err := s.refused(s.newBucket(t))
			must(t, err)
			st := s.storeOf(t, bucket)
			check("Put", put(ctx, st, "a.jsonl", nil), fs.ErrPermission)
			check("List", list(ctx, st), fs.ErrPermission)
			_, err = st.Open(ctx, "a.jsonl")
			check("Open", err, fs.ErrPermission)
		})
	})
}

// A deadline ends every call: at once where it is over, without a request, and one to
// a server that does not answer. Nothing is stored then.
func TestDeadline(t *testing.T) {
	short, long := noise(1000), noise(20<<20)
	calls := map[string]func(ctx context.Context, st *blob.Store) error{
		"put":           func(ctx context.Context, st *blob.Store) error { return put(ctx, st, "a.jsonl", short) },
		"put, of parts": func(ctx context.Context, st *blob.Store) error { return put(ctx, st, "a.jsonl", long) },
		"open":          func(ctx context.Context, st *blob.Store) error { _, err := st.Open(ctx, "a.jsonl"); return err },
		"list":          list,
	}
	each(t, 2*len(calls), len(calls), func(t *testing.T, s *service) {
		s.proxy.busy.Lock()
		defer s.proxy.busy.Unlock()
		for name, call := range calls {
			t.Run(name, func(t *testing.T) {
				st := s.store(t)
				over, cancel := context.WithTimeout(ctx, 0)
				defer cancel()
				before := s.proxy.requests.Load()
				wantErr(t, "with a deadline that is over", call(over, st), context.DeadlineExceeded)
				if n := s.proxy.requests.Load() - before; n != 0 {
					t.Errorf("%d requests after the deadline", n)
				}
				soon, cancel := context.WithTimeout(ctx, time.Second)
				defer cancel()
				s.proxy.silent.Store(soon)
				wantErr(t, "of a server that is silent", call(soon, st), context.DeadlineExceeded)
				if s.proxy.requests.Load() == before {
					t.Error("the server was not asked")
				}
				_, err := st.Open(ctx, "a.jsonl")
				wantErr(t, "Open of what was not stored", err, fs.ErrNotExist)
			})
		}
	})
}
