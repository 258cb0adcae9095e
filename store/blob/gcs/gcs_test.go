package gcs

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/storage"
	gcblob "gocloud.dev/blob"
	"gocloud.dev/blob/gcsblob"
	"gocloud.dev/gcerrors"
	"gocloud.dev/gcp"
	"google.golang.org/api/googleapi"
	"google.golang.org/api/option"

	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/blob"
	"github.com/rollout-sync/rollout/store/storetest"
)

var ctx = context.Background()

// openBucket opens the bucket as URLOpener does, with pauses of its own between
// tries if pause is not 0.
func openBucket(t *testing.T, s *server, pause time.Duration) *gcblob.Bucket {
	client := &gcp.HTTPClient{Client: *s.Client()}
	b, err := gcsblob.OpenBucket(ctx, client, bucketName, &gcsblob.Options{ClientOptions: []option.ClientOption{
		option.WithEndpoint(s.URL + "/storage/v1/"),
		option.WithHTTPClient(s.Client()), // whatever STORAGE_EMULATOR_HOST says
	}})
	must(t, err)
	limit(b)
	var sdk *storage.Client
	if b.As(&sdk) && pause != 0 {
		sdk.SetRetry(pausing(t, storage.WithBackoff, pause))
	}
	return b
}

// pausing is with(Backoff{Initial: pause, Max: pause}), whose type is in a module
// that is not ours to name.
func pausing[Backoff any](t *testing.T, with func(Backoff) storage.RetryOption, pause time.Duration) storage.RetryOption {
	var b Backoff
	must(t, json.Unmarshal(fmt.Appendf(nil, `{"Initial": %d, "Max": %[1]d}`, pause), &b))
	return with(b)
}

func newStore(t *testing.T, b *gcblob.Bucket) *blob.Store {
	st := blob.New(b, &blob.Options{Service: Service(), SpoolDir: t.TempDir()})
	t.Cleanup(func() { st.Close() })
	return st
}

func openStore(t *testing.T, s *server) *blob.Store {
	return newStore(t, openBucket(t, s, time.Millisecond))
}

func TestConformance(t *testing.T) {
	t.Parallel()
	for name, prefix := range map[string]string{"plain": "", "prefixed": "team/a/"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, func(t *testing.T) storetest.Harness {
				s := newServer(t)
				open := func() storetest.Store {
					b := openBucket(t, s, time.Millisecond)
					if prefix != "" {
						b = gcblob.PrefixedBucket(b, prefix)
					}
					return newStore(t, b)
				}
				return storetest.Harness{Store: open(), Reopen: open, WriteOnce: true}
			})
		})
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantErr(t *testing.T, what string, err error, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("%s: got %v, want %v", what, err, want)
	}
}

func wantRequests(t *testing.T, s *server, want string) {
	t.Helper()
	if got := s.take(); got != want {
		t.Errorf("requests: %s; want %s", got, want)
	}
}

// noise returns n bytes that do not compress.
func noise(n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{byte(n)}).Read(p)
	return p
}

func put(st *blob.Store, name string, p []byte, c store.Cond) (string, error) {
	return st.Put(ctx, name, store.BytesBody(p, time.Now()), c)
}

func read(ctx context.Context, st *blob.Store, name string, off int64) ([]byte, error) {
	f, err := st.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	r, err := f.Range(ctx, off, -1)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

func wantBytes(t *testing.T, st *blob.Store, name string, want []byte) {
	t.Helper()
	if got, err := read(ctx, st, name, 0); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%s has %d bytes, %v; want %d", name, len(got), err, len(want))
	}
}

func times(n int, what string) string { return strings.TrimSpace(strings.Repeat(what+" ", n)) }

// TestReads puts faults in front of the one request of an Open.
func TestReads(t *testing.T) {
	t.Parallel()
	content := noise(200 << 10)
	for _, tt := range []struct {
		name   string
		faults []fault
		want   error  // nil with an empty msg: it opens
		msg    string // in the error
		tries  int
	}{
		{"no fault", nil, nil, "", 1},
		{"404", []fault{{status: 404}}, fs.ErrNotExist, "", 1},
		{"403", []fault{{status: 403}}, fs.ErrPermission, "(403)", 1},
		{"401", []fault{{status: 401}}, fs.ErrPermission, "(401)", 1},
		{"400", []fault{{status: 400}}, nil, "(400)", 1},
		{"503 once", []fault{{status: 503}}, nil, "", 2},
		{"429 once", []fault{{status: 429}}, nil, "", 2},
		{"500 once", []fault{{status: 500}}, nil, "", 2},
		{"503, then 404", []fault{{status: 503}, {status: 404}}, fs.ErrNotExist, "", 2},
		{"503 to the last try", slices.Repeat([]fault{{status: 503}}, maxAttempts-1), nil, "", maxAttempts},
		{"503 for ever", slices.Repeat([]fault{{status: 503}}, 2*maxAttempts), nil, "(503)", maxAttempts},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			st := openStore(t, s)
			_, err := put(st, "a.bin", content, store.Cond{IfAbsent: true})
			must(t, err)
			s.take()
			s.inject("GET", tt.faults...)
			f, err := st.Open(ctx, "a.bin")
			wantRequests(t, s, times(tt.tries, "GET"))
			if tt.want == nil && tt.msg == "" {
				must(t, err)
				must(t, f.Close())
				return
			}
			if err == nil || !strings.Contains(err.Error(), tt.msg) || strings.Contains(err.Error(), "\n") {
				t.Errorf("got %v, want %s", err, tt.msg)
			}
			if tt.want != nil {
				wantErr(t, "Open", err, tt.want)
			}
			s.mu.Lock()
			clear(s.faults)
			s.mu.Unlock()
			wantBytes(t, st, "a.bin", content) // no failure is remembered
		})
	}
}

// TestBrokenReads breaks connections before, and in, the reply to a read, which the
// SDK resumes. net/http has tries of its own, which makes their number nobody's
// promise.
func TestBrokenReads(t *testing.T) {
	t.Parallel()
	content := noise(200 << 10)
	s := newServer(t)
	st := openStore(t, s)
	_, err := put(st, "a.bin", content, store.Cond{IfAbsent: true})
	must(t, err)
	s.inject("GET", fault{reset: true}, fault{lose: true}, fault{cut: 1000}, fault{}, fault{cut: 100 << 10}, fault{cut: -1})
	wantBytes(t, st, "a.bin", content)

	// It may break any number of times, as long as there is progress.
	s.inject("GET", append([]fault{{}}, slices.Repeat([]fault{{cut: 10 << 10}}, 3*maxAttempts)...)...)
	wantBytes(t, st, "a.bin", content)

	// The SDK would go on for ever.
	const many = 1000
	s.take()
	s.inject("GET", slices.Repeat([]fault{{cut: -1}}, many)...)
	_, err = st.Open(ctx, "a.bin")
	if n := strings.Count(s.take(), "GET"); err == nil || !strings.Contains(err.Error(), "broke") || n > 10 {
		t.Errorf("after %d requests, Open: %v", n, err)
	}
}

// TestNoReply has a server that hangs asked again.
func TestNoReply(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.Client().Transport.(*http.Transport).ResponseHeaderTimeout = 200 * time.Millisecond
	st := openStore(t, s)
	s.inject("GET", fault{hang: true})
	_, err := st.Open(ctx, "a.bin")
	wantErr(t, "Open", err, fs.ErrNotExist)
}

// TestWrites puts faults in front of, and behind, the request that publishes.
func TestWrites(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		faults []fault
		want   error  // nil with an empty msg: it is stored
		msg    string // in the error
		tries  int    // of the request that publishes; 0 is not promised
		look   bool   // what became of it is asked for
	}{
		{name: "no fault", tries: 1},
		{name: "reset", faults: []fault{{reset: true}, {reset: true}}},
		{name: "503 once", faults: []fault{{status: 503}}, tries: 2},
		{name: "503 for ever", faults: slices.Repeat([]fault{{status: 503}}, 2*maxAttempts), msg: "(503)", tries: maxAttempts, look: true},
		{name: "429 once", faults: []fault{{status: 429}}, tries: 2},
		{name: "acknowledgement lost", faults: []fault{{lose: true}}},
		{name: "acknowledgement lost twice", faults: []fault{{lose: true}, {reset: true}}},
		{name: "acknowledgement lost for ever", faults: append([]fault{{lose: true}}, slices.Repeat([]fault{{reset: true}}, 3*maxAttempts)...)},
		{name: "acknowledgement lost, then 503 for ever", faults: append([]fault{{lose: true}}, slices.Repeat([]fault{{status: 503}}, maxAttempts)...)},
		{name: "412", faults: []fault{{status: 412}}, want: store.ErrChanged, tries: 1, look: true},
		{name: "403", faults: []fault{{status: 403}}, want: fs.ErrPermission, msg: "(403)", tries: 1},
		{name: "400", faults: []fault{{status: 400}}, msg: "(400)", tries: 1},
	} {
		for _, large := range []bool{false, true} {
			for _, replace := range []bool{false, true} {
				name := tt.name
				kind, content, faults := "UPLOAD", noise(1000), tt.faults
				if large { // of two chunks, of which the last publishes
					name += ", large"
					kind, content, faults = "CHUNK", noise(9<<20), slices.Concat([]fault{{}}, tt.faults)
				}
				if replace {
					name += ", replacing"
				}
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					s := newServer(t)
					b := openBucket(t, s, time.Millisecond)
					st := newStore(t, b)
					c := store.Cond{IfAbsent: true}
					old := []byte("old")
					if replace {
						version, err := put(st, "a.bin", old, c)
						must(t, err)
						c = store.Cond{IfVersion: version}
					}
					s.take()
					s.inject(kind, faults...)
					version, err := put(st, "a.bin", content, c)
					want := times(tt.tries, kind)
					if large {
						want = "CREATE CHUNK " + want
					}
					if tt.look {
						want += " ATTRS"
					}
					if got := s.take(); tt.tries > 0 && got != want {
						t.Errorf("requests: %s; want %s", got, want)
					}
					if tt.want == nil && tt.msg == "" {
						must(t, err)
						wantBytes(t, st, "a.bin", content)
						f, err := st.Open(ctx, "a.bin")
						must(t, err)
						if got := f.Info().Version; got != version {
							t.Errorf("Put returned version %q, it is %q", version, got)
						}
						return
					}
					if err == nil || !strings.Contains(err.Error(), tt.msg) {
						t.Errorf("got %v, want %s", err, tt.msg)
					}
					if tt.want != nil {
						wantErr(t, "Put", err, tt.want)
					}
					if replace {
						wantBytes(t, st, "a.bin", old)
					} else if _, err := st.Open(ctx, "a.bin"); !errors.Is(err, fs.ErrNotExist) {
						t.Errorf("Open of what was refused: %v", err)
					}
				})
			}
		}
	}
}

// TestParts breaks off parts of an upload, which are sent again by themselves, and
// whose tries are counted one part at a time.
func TestParts(t *testing.T) {
	t.Parallel()
	busy := slices.Repeat([]fault{{status: http.StatusServiceUnavailable}}, maxAttempts-1)
	s := newServer(t)
	st := openStore(t, s)
	content := noise(20 << 20)
	s.inject("CREATE", fault{status: http.StatusServiceUnavailable})
	s.inject("CHUNK", slices.Concat(busy[1:], []fault{{}}, busy, []fault{{}, {lose: true}, {reset: true}})...)
	_, err := put(st, "a.bin", content, store.Cond{IfAbsent: true})
	must(t, err)
	wantBytes(t, st, "a.bin", content)
}

// TestRemove loses the acknowledgement of a removal.
func TestRemove(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	st := openStore(t, s)
	version, err := put(st, "a.bin", []byte("a"), store.Cond{IfAbsent: true})
	must(t, err)
	s.inject("DELETE", fault{status: http.StatusServiceUnavailable}, fault{lose: true})
	must(t, st.Remove(ctx, "a.bin", version))
	_, err = st.Open(ctx, "a.bin")
	wantErr(t, "Open", err, fs.ErrNotExist)

	s.inject("LIST", fault{status: http.StatusServiceUnavailable}, fault{reset: true})
	for e, err := range st.List(ctx, ".", store.ListOptions{}) {
		t.Errorf("List has %v, %v", e, err)
	}
}

// TestDeadline has a server hang, or turn requests away for longer than the caller
// is willing to wait.
func TestDeadline(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	st := newStore(t, openBucket(t, s, time.Hour))
	version, err := put(st, "a.bin", []byte("a"), store.Cond{IfAbsent: true})
	must(t, err)
	hang := []fault{{hang: true}}
	busy := slices.Repeat([]fault{{status: http.StatusServiceUnavailable}}, 2*maxAttempts)
	for what, faults := range map[string][]fault{"hangs": hang, "is busy": busy} {
		for kind, do := range map[string]func(context.Context) error{
			"GET":    func(c context.Context) error { _, err := st.Open(c, "a.bin"); return err },
			"DELETE": func(c context.Context) error { return st.Remove(c, "a.bin", version) },
			"LIST": func(c context.Context) error {
				for _, err := range st.List(c, ".", store.ListOptions{}) {
					return err
				}
				return nil
			},
			"UPLOAD": func(c context.Context) error {
				_, err := st.Put(c, "b.bin", store.BytesBody(nil, time.Now()), store.Cond{IfAbsent: true})
				return err
			},
		} {
			s.inject(kind, faults...)
			c, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			wantErr(t, kind+" of a server that "+what, do(c), context.DeadlineExceeded)
			cancel()
			s.mu.Lock()
			clear(s.faults)
			s.mu.Unlock()
		}
	}

	// What was stored, and not acknowledged in time, is a success all the same.
	c, cancel := context.WithCancel(ctx)
	defer cancel()
	s.stored = cancel
	_, err = st.Put(c, "c.bin", store.BytesBody(nil, time.Now()), store.Cond{IfAbsent: true})
	must(t, err)
}

func TestClassify(t *testing.T) {
	t.Parallel()
	reply := func(code int, msg string) error {
		return fmt.Errorf("wrapped: %w", &googleapi.Error{Code: code, Message: msg})
	}
	for _, tt := range []struct {
		err  error
		code gcerrors.ErrorCode
		msg  string
	}{
		{errors.New("x"), gcerrors.Unknown, ""},
		{storage.ErrObjectNotExist, gcerrors.NotFound, ""},
		{errors.Join(storage.ErrObjectNotExist, reply(404, "")), gcerrors.NotFound, ""},
		{reply(404, "The specified bucket does not exist."), gcerrors.NotFound, "The specified bucket does not exist. (404)"},
		{reply(403, "No access"), gcerrors.PermissionDenied, "No access (403)"},
		{reply(401, ""), gcerrors.PermissionDenied, "Unauthorized (401)"},
		{reply(412, ""), gcerrors.FailedPrecondition, "Precondition Failed (412)"},
		{reply(416, ""), gcerrors.InvalidArgument, "Requested Range Not Satisfiable (416)"},
		{reply(503, ""), gcerrors.Unknown, "Service Unavailable (503)"},
	} {
		code, msg := classify(tt.err)
		if code != tt.code || msg != tt.msg {
			t.Errorf("%v: got %v %q, want %v %q", tt.err, code, msg, tt.code, tt.msg)
		}
	}
}

func TestNoSuchGeneration(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"", "0", "-1", "x", "99999999999999999999"} {
		handle := new(storage.ObjectHandle)
		if err := only(&handle, version); !errors.Is(err, store.ErrChanged) {
			t.Errorf("%q: %v", version, err)
		}
	}
}
