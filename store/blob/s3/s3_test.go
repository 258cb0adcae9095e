package s3

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"log"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	gcblob "gocloud.dev/blob"
	"gocloud.dev/blob/s3blob"
	"gocloud.dev/gcerrors"

	"github.com/rollout-sync/rollout/internal/s3test"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/blob"
	"github.com/rollout-sync/rollout/store/storetest"
)

var ctx = context.Background()

func TestMain(m *testing.M) {
	// No test reads what the user has configured.
	for key, value := range map[string]string{
		"AWS_CONFIG_FILE":             os.DevNull,
		"AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
		"AWS_CA_BUNDLE":               "",
		"AWS_MAX_ATTEMPTS":            "",
		"AWS_PROFILE":                 "",
	} {
		os.Setenv(key, value)
	}
	log.SetOutput(io.Discard) // the transfer manager logs what it returns too
	m.Run()
}

// openBucket opens the bucket as callers do, but for the pauses between tries.
func openBucket(t *testing.T, s *s3test.Server) *gcblob.Bucket {
	b, err := URLOpener{}.OpenBucketURL(ctx, s.BucketURL())
	must(t, err)
	var client *s3.Client
	b.As(&client)
	b, err = s3blob.OpenBucket(ctx, s3.New(client.Options(), func(o *s3.Options) {
		o.Retryer = retry.AddWithMaxBackoffDelay(o.Retryer, time.Millisecond)
	}), s3test.BucketName, nil)
	must(t, err)
	return b
}

func newStore(t *testing.T, b *gcblob.Bucket) *blob.Store {
	st := blob.New(b, &blob.Options{Service: Service(), SpoolDir: t.TempDir()})
	t.Cleanup(func() { st.Close() })
	return st
}

func openStore(t *testing.T, s *s3test.Server) *blob.Store { return newStore(t, openBucket(t, s)) }

func TestConformance(t *testing.T) {
	t.Parallel()
	for name, prefix := range map[string]string{"plain": "", "prefixed": "team/a/"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			storetest.Run(t, func(t *testing.T) storetest.Harness {
				s := s3test.New(t)
				open := func() storetest.Store {
					b := openBucket(t, s)
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

func wantRequests(t *testing.T, s *s3test.Server, want string) {
	t.Helper()
	if got := s.Take(); got != want {
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
	slowDown := s3test.Fault{Status: http.StatusServiceUnavailable, Code: "SlowDown"}
	for _, tt := range []struct {
		name   string
		faults []s3test.Fault
		want   error  // nil: all is read
		msg    string // in the error
		tries  int
	}{
		{"no fault", nil, nil, "", 1},
		{"404", []s3test.Fault{{Status: 404, Code: "NoSuchKey"}}, fs.ErrNotExist, "", 1},
		{"no bucket", []s3test.Fault{{Status: 404, Code: "NoSuchBucket"}}, fs.ErrNotExist, "NoSuchBucket", 1},
		{"403", []s3test.Fault{{Status: 403, Code: "AccessDenied"}}, fs.ErrPermission, "AccessDenied", 1},
		{"401", []s3test.Fault{{Status: 401, Code: "Unauthorized"}}, fs.ErrPermission, "Unauthorized", 1},
		{"400", []s3test.Fault{{Status: 400, Code: "InvalidRequest"}}, nil, "InvalidRequest", 1},
		{"501", []s3test.Fault{{Status: 501, Code: "NotImplemented"}}, errors.ErrUnsupported, "NotImplemented", 1},
		{"503 once", []s3test.Fault{slowDown}, nil, "", 2},
		{"429 once", []s3test.Fault{{Status: 429, Code: "TooManyRequests"}}, nil, "", 2},
		{"500 once", []s3test.Fault{{Status: 500, Code: "InternalError"}}, nil, "", 2},
		{"503, then 404", []s3test.Fault{slowDown, {Status: 404, Code: "NoSuchKey"}}, fs.ErrNotExist, "", 2},
		{"503 to the last try", slices.Repeat([]s3test.Fault{slowDown}, maxAttempts-1), nil, "", maxAttempts},
		{"503 for ever", slices.Repeat([]s3test.Fault{slowDown}, 2*maxAttempts), nil, "SlowDown", maxAttempts},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := s3test.New(t)
			st := openStore(t, s)
			_, err := put(st, "a.bin", content, store.Cond{IfAbsent: true})
			must(t, err)
			s.Take()
			s.Inject("GET", tt.faults...)
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
			s.ClearFaults()
			wantBytes(t, st, "a.bin", content) // no failure is remembered
		})
	}
}

// TestBrokenReads breaks connections before, and in, the reply to a read. net/http
// has tries of its own, which makes their number nobody's promise.
func TestBrokenReads(t *testing.T) {
	t.Parallel()
	content := noise(200 << 10)
	s := s3test.New(t)
	st := openStore(t, s)
	_, err := put(st, "a.bin", content, store.Cond{IfAbsent: true})
	must(t, err)
	s.Inject("GET", s3test.Fault{Reset: true}, s3test.Fault{Lose: true})
	wantBytes(t, st, "a.bin", content)

	s.Inject("GET", s3test.Fault{Cut: 1000})
	_, err = st.Open(ctx, "a.bin")
	wantErr(t, "Open of a cut reply", err, io.ErrUnexpectedEOF)
	s.Inject("GET", s3test.Fault{}, s3test.Fault{Cut: 100 << 10})
	got, err := read(ctx, st, "a.bin", 0)
	wantErr(t, "reading a cut reply", err, io.ErrUnexpectedEOF)
	if !bytes.HasPrefix(content, got) {
		t.Errorf("got %d bytes that were never stored", len(got))
	}
	wantBytes(t, st, "a.bin", content)
}

// TestNoReply has a server that hangs asked again.
func TestNoReply(t *testing.T) {
	t.Parallel()
	s := s3test.New(t)
	var client *s3.Client
	openBucket(t, s).As(&client)
	bounded, ok := client.Options().HTTPClient.(*awshttp.BuildableClient)
	if !ok || bounded.GetTransport().ResponseHeaderTimeout != replyTimeout {
		t.Fatal("the wait for a reply is not bounded")
	}
	b, err := s3blob.OpenBucket(ctx, s3.New(client.Options(), func(o *s3.Options) {
		o.HTTPClient = bounded.WithTransportOptions(func(t *http.Transport) { t.ResponseHeaderTimeout = 200 * time.Millisecond })
	}), s3test.BucketName, nil)
	must(t, err)
	s.Inject("GET", s3test.Fault{Hang: true})
	_, err = newStore(t, b).Open(ctx, "a.bin")
	wantErr(t, "Open", err, fs.ErrNotExist)
}

// TestWrites puts faults in front of, and behind, the request that publishes.
func TestWrites(t *testing.T) {
	t.Parallel()
	conflict := s3test.Fault{Status: http.StatusConflict, Code: errConflict}
	slowDown := s3test.Fault{Status: http.StatusServiceUnavailable, Code: "SlowDown"}
	for _, tt := range []struct {
		name     string
		faults   []s3test.Fault
		want     error  // nil with an empty msg: it is stored
		msg      string // in the error
		requests string // but for a large object's parts; "" is not promised
		large    string // the same for an object of several parts
		wantOne  error  // of a large object, where it differs
	}{
		{name: "no fault", requests: "PUT", large: "COMPLETE"},
		{name: "reset", faults: []s3test.Fault{{Reset: true}, {Reset: true}}},
		{name: "503 once", faults: []s3test.Fault{slowDown}, requests: "PUT PUT", large: "COMPLETE COMPLETE"},
		{
			name: "503 for ever", faults: slices.Repeat([]s3test.Fault{slowDown}, 2*maxAttempts), msg: "SlowDown",
			requests: times(maxAttempts, "PUT") + " HEAD",
			large:    times(maxAttempts, "COMPLETE") + " ABORT PARTS HEAD",
		},
		{name: "acknowledgement lost", faults: []s3test.Fault{{Lose: true}}},
		{name: "acknowledgement lost twice", faults: []s3test.Fault{{Lose: true}, {Reset: true}}},
		{name: "acknowledgement lost for ever", faults: append([]s3test.Fault{{Lose: true}}, slices.Repeat([]s3test.Fault{{Reset: true}}, 3*maxAttempts)...)},
		{name: "acknowledgement lost, then 503 for ever", faults: append([]s3test.Fault{{Lose: true}}, slices.Repeat([]s3test.Fault{slowDown}, maxAttempts)...)},
		{
			name: "conflict", faults: []s3test.Fault{conflict}, requests: "PUT PUT",
			large: "COMPLETE ABORT PARTS HEAD", wantOne: store.ErrChanged,
		},
		{
			name: "conflict for ever", faults: slices.Repeat([]s3test.Fault{conflict}, 2*maxAttempts), want: store.ErrChanged,
			requests: times(maxAttempts, "PUT") + " HEAD", large: "COMPLETE ABORT PARTS HEAD",
		},
		{
			name: "412", faults: []s3test.Fault{{Status: 412, Code: "PreconditionFailed"}}, want: store.ErrChanged,
			requests: "PUT HEAD", large: "COMPLETE ABORT PARTS HEAD",
		},
		{
			name: "403", faults: []s3test.Fault{{Status: 403, Code: "AccessDenied"}}, want: fs.ErrPermission, msg: "AccessDenied",
			requests: "PUT", large: "COMPLETE ABORT PARTS",
		},
		{
			name: "400", faults: []s3test.Fault{{Status: 400, Code: "InvalidRequest"}}, msg: "InvalidRequest",
			requests: "PUT HEAD", large: "COMPLETE ABORT PARTS HEAD",
		},
	} {
		for _, large := range []bool{false, true} {
			for _, replace := range []bool{false, true} {
				name := tt.name
				kind, content, requests, want := "PUT", noise(1000), tt.requests, tt.want
				if large {
					name += ", large"
					kind, content, requests = "COMPLETE", noise(9<<20), tt.large
					if tt.wantOne != nil {
						want = tt.wantOne
					}
				}
				if replace {
					name += ", replacing"
				}
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					s := s3test.New(t)
					st := openStore(t, s)
					c := store.Cond{IfAbsent: true}
					old := []byte("old")
					if replace {
						version, err := put(st, "a.bin", old, c)
						must(t, err)
						c = store.Cond{IfVersion: version}
					}
					s.Take()
					s.Inject(kind, tt.faults...)
					version, err := put(st, "a.bin", content, c)
					got := strings.TrimSpace(strings.ReplaceAll(strings.TrimPrefix(s.Take(), "CREATE"), " PART ", " "))
					got = strings.TrimSpace(strings.ReplaceAll(" "+got+" ", " PART ", " "))
					if requests != "" && got != requests {
						t.Errorf("requests: %s; want %s", got, requests)
					}
					if n := s.Unfinished(); n != 0 {
						t.Errorf("%d uploads are unfinished", n)
					}
					if want == nil && tt.msg == "" {
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
					if want != nil {
						wantErr(t, "Put", err, want)
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

// TestOneRequest has what is stored in no more than a part go in one request.
func TestOneRequest(t *testing.T) {
	t.Parallel()
	s := s3test.New(t)
	st := openStore(t, s)
	for _, tt := range []struct {
		name    string
		content []byte
		want    string
	}{
		{"empty.bin", nil, "PUT"},
		{"part.bin", noise(8 << 20), "PUT"},
		{"more.bin", noise(8<<20 + 1), "CREATE"},
		{"small.jsonl", noise(7 << 20), "PUT"},
		{"compressible.jsonl", bytes.Repeat([]byte("one line and another\n"), 1<<20), "PUT"},
		{"more.jsonl", noise(9 << 20), "CREATE"},
	} {
		s.Take()
		_, err := put(st, tt.name, tt.content, store.Cond{IfAbsent: true})
		must(t, err)
		if got, _, _ := strings.Cut(s.Take(), " "); got != tt.want {
			t.Errorf("%s: %s; want %s", tt.name, got, tt.want)
		}
		wantBytes(t, st, tt.name, tt.content)
	}
}

// A recorder keeps the header of what is put, and answers itself if nobody else does.
type recorder struct {
	s3.HTTPClient
	mu   sync.Mutex
	puts []http.Header
}

func (r *recorder) Do(req *http.Request) (*http.Response, error) {
	if req.Method == http.MethodPut {
		r.mu.Lock()
		r.puts = append(r.puts, req.Header.Clone())
		r.mu.Unlock()
	}
	if r.HTTPClient != nil {
		return r.HTTPClient.Do(req)
	}
	if _, err := io.Copy(io.Discard, req.Body); err != nil {
		return nil, err
	}
	answer := http.Header{"Etag": {`"1"`}}
	return &http.Response{StatusCode: http.StatusOK, Header: answer, Body: http.NoBody, Request: req}, nil
}

// Content is not signed, without TLS either, and its checksum is sent.
func TestUnsigned(t *testing.T) {
	t.Parallel()
	const small, large = 1000, 9 << 20
	record := func(u *url.URL, answered bool, size int) []http.Header {
		b, err := URLOpener{}.OpenBucketURL(ctx, u)
		must(t, err)
		var client *s3.Client
		b.As(&client)
		var r recorder
		b, err = s3blob.OpenBucket(ctx, s3.New(client.Options(), func(o *s3.Options) {
			if answered {
				r.HTTPClient = o.HTTPClient
			}
			o.HTTPClient = &r
		}), s3test.BucketName, nil)
		must(t, err)
		_, err = put(newStore(t, b), "a.bin", noise(size), store.Cond{IfAbsent: true})
		must(t, err)
		return r.puts
	}
	for size, want := range map[int]int{small: 1, large: 2} {
		puts := record(s3test.New(t).BucketURL(), true, size)
		if len(puts) != want {
			t.Errorf("%d bytes: %d requests, want %d", size, len(puts), want)
		}
		for _, h := range puts {
			if got := h.Get("X-Amz-Content-Sha256"); got != "UNSIGNED-PAYLOAD" {
				t.Errorf("%d bytes: signed as %q", size, got)
			}
			if h.Get("X-Amz-Checksum-Crc32") == "" {
				t.Errorf("%d bytes: no checksum: %v", size, h)
			}
		}
	}
	u := s3test.New(t).BucketURL()
	q := u.Query()
	q.Set("endpoint", "https://127.0.0.1:1")
	u.RawQuery = q.Encode()
	puts := record(u, false, small)
	if len(puts) != 1 || puts[0].Get("X-Amz-Content-Sha256") != "STREAMING-UNSIGNED-PAYLOAD-TRAILER" {
		t.Errorf("over TLS: %v", puts)
	}
}

// TestParts breaks off parts of an upload, which are sent again by themselves.
func TestParts(t *testing.T) {
	t.Parallel()
	slowDown := s3test.Fault{Status: http.StatusServiceUnavailable, Code: "SlowDown"}
	s := s3test.New(t)
	st := openStore(t, s)
	content := noise(20 << 20)
	s.Inject("CREATE", slowDown)
	s.Inject("PART", s3test.Fault{Reset: true}, slowDown, s3test.Fault{Lose: true})
	_, err := put(st, "a.bin", content, store.Cond{IfAbsent: true})
	must(t, err)
	wantBytes(t, st, "a.bin", content)

	s.Inject("PART", slices.Repeat([]s3test.Fault{slowDown}, 10*maxAttempts)...)
	s.Inject("ABORT", slowDown)
	if _, err := put(st, "b.bin", content, store.Cond{IfAbsent: true}); err == nil || !strings.Contains(err.Error(), "SlowDown") {
		t.Errorf("Put: %v", err)
	}
	if n := s.Unfinished(); n != 0 {
		t.Errorf("%d uploads are unfinished", n)
	}
}

// TestRemove loses the acknowledgement of a removal.
func TestRemove(t *testing.T) {
	t.Parallel()
	s := s3test.New(t)
	st := openStore(t, s)
	version, err := put(st, "a.bin", []byte("a"), store.Cond{IfAbsent: true})
	must(t, err)
	s.Inject("DELETE", s3test.Fault{Status: http.StatusServiceUnavailable, Code: "SlowDown"}, s3test.Fault{Lose: true})
	must(t, st.Remove(ctx, "a.bin", version))
	_, err = st.Open(ctx, "a.bin")
	wantErr(t, "Open", err, fs.ErrNotExist)

	s.Inject("LIST", s3test.Fault{Status: http.StatusServiceUnavailable, Code: "SlowDown"}, s3test.Fault{Reset: true})
	for e, err := range st.List(ctx, ".", store.ListOptions{}) {
		t.Errorf("List has %v, %v", e, err)
	}
}

// TestDeadline has a server hang, or turn requests away for longer than the caller
// is willing to wait.
func TestDeadline(t *testing.T) {
	t.Parallel()
	s := s3test.New(t)
	bucket, err := URLOpener{}.OpenBucketURL(ctx, s.BucketURL()) // with pauses that are longer
	must(t, err)
	st := newStore(t, bucket)
	version, err := put(st, "a.bin", []byte("a"), store.Cond{IfAbsent: true})
	must(t, err)
	hang := []s3test.Fault{{Hang: true}}
	busy := slices.Repeat([]s3test.Fault{{Status: http.StatusServiceUnavailable, Code: "SlowDown"}}, 2*maxAttempts)
	for what, faults := range map[string][]s3test.Fault{"hangs": hang, "is busy": busy} {
		for kind, do := range map[string]func(context.Context) error{
			"GET":    func(c context.Context) error { _, err := st.Open(c, "a.bin"); return err },
			"DELETE": func(c context.Context) error { return st.Remove(c, "a.bin", version) },
			"LIST": func(c context.Context) error {
				for _, err := range st.List(c, ".", store.ListOptions{}) {
					return err
				}
				return nil
			},
			"PUT": func(c context.Context) error {
				_, err := st.Put(c, "b.bin", store.BytesBody(nil, time.Now()), store.Cond{IfAbsent: true})
				return err
			},
		} {
			s.Inject(kind, faults...)
			c, cancel := context.WithTimeout(ctx, 50*time.Millisecond)
			wantErr(t, kind+" of a server that "+what, do(c), context.DeadlineExceeded)
			cancel()
			s.ClearFaults()
		}
	}

	// What was stored, and not acknowledged in time, is a success all the same.
	c, cancel := context.WithCancel(ctx)
	defer cancel()
	s.Stored = cancel
	_, err = st.Put(c, "c.bin", store.BytesBody(nil, time.Now()), store.Cond{IfAbsent: true})
	must(t, err)
}

// reply is the error that the SDK makes of a reply; code and text are empty where
// the reply has no body, as those to HEAD.
func reply(status int, code, text string) error {
	inner := error(errors.New("no body"))
	if code != "" {
		inner = &smithy.GenericAPIError{Code: code, Message: text}
	}
	return &smithy.OperationError{ServiceID: "S3", OperationName: "GetObject", Err: &awshttp.ResponseError{
		ResponseError: &smithyhttp.ResponseError{
			Response: &smithyhttp.Response{Response: &http.Response{StatusCode: status}},
			Err:      inner,
		},
		RequestID: "4711",
	}}
}

func TestClassify(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		code gcerrors.ErrorCode
		msg  string
	}{
		{errors.New("x"), gcerrors.Unknown, ""},
		{reply(404, "NoSuchKey", "The specified key does not exist."), gcerrors.NotFound, ""},
		{reply(404, "NoSuchBucket", "No such bucket"), gcerrors.Unknown, "No such bucket (NoSuchBucket)"}, // s3blob knows it
		{reply(403, "SignatureDoesNotMatch", "It does not match"), gcerrors.PermissionDenied, "It does not match (SignatureDoesNotMatch)"},
		{reply(403, "", ""), gcerrors.PermissionDenied, ""},
		{reply(401, "Unauthorized", ""), gcerrors.PermissionDenied, "Unauthorized"},
		{reply(409, "ConditionalRequestConflict", ""), gcerrors.FailedPrecondition, "ConditionalRequestConflict"},
		{reply(412, "", ""), gcerrors.FailedPrecondition, ""},
		{reply(416, "InvalidRange", ""), gcerrors.InvalidArgument, "InvalidRange"},
		{reply(501, "NotImplemented", "A header"), gcerrors.Unimplemented, "A header (NotImplemented)"},
		{reply(503, "SlowDown", "Reduce your rate"), gcerrors.Unknown, "Reduce your rate (SlowDown)"},
	} {
		code, msg := classify(tt.err)
		if code != tt.code || msg != tt.msg {
			t.Errorf("%v: got %v %q, want %v %q", tt.err, code, msg, tt.code, tt.msg)
		}
	}
}

// Endpoint tells where requests go, whatever says so.
func TestEndpoint(t *testing.T) {
	config := t.TempDir() + "/config"
	must(t, os.WriteFile(config, []byte("[default]\nendpoint_url = http://configured.example\n"), 0o600))
	for _, tc := range []struct{ params, env, value, want string }{
		{params: "", want: "https://s3.eu-west-1.amazonaws.com"},
		{params: "&accelerate=true", want: "https://s3.eu-west-1.amazonaws.com"},
		{params: "&disable_https=true", want: "http://s3.eu-west-1.amazonaws.com"},
		{params: "&endpoint=http://minio.example:9000", want: "http://minio.example:9000"},
		{params: "&endpoint=http://minio.example:9000&hostname_immutable=true&use_path_style=true", want: "http://minio.example:9000"},
		{env: "AWS_ENDPOINT_URL", value: "http://10.0.0.1", want: "http://10.0.0.1"},
		{env: "AWS_ENDPOINT_URL_S3", value: "http://10.0.0.1", want: "http://10.0.0.1"},
		{env: "AWS_ENDPOINT_URL", value: "http://10.0.0.1", params: "&endpoint=https://files.example", want: "https://files.example"},
		{env: "AWS_CONFIG_FILE", value: config, want: "http://configured.example"},
	} {
		t.Run(tc.env+tc.params, func(t *testing.T) {
			if tc.env != "" {
				t.Setenv(tc.env, tc.value)
			}
			u, err := url.Parse("s3://bucket?region=eu-west-1&anonymous=true" + tc.params)
			must(t, err)
			b, err := URLOpener{}.OpenBucketURL(ctx, u)
			must(t, err)
			defer b.Close()
			if got, err := Endpoint(ctx, b); err != nil || got.String() != tc.want {
				t.Errorf("got %v and %v, want %s", got, err, tc.want)
			}
		})
	}
}

// The environment says how often a request is tried.
func TestMaxAttempts(t *testing.T) {
	s := s3test.New(t)
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	b, err := URLOpener{}.OpenBucketURL(ctx, s.BucketURL())
	must(t, err)
	defer b.Close()
	s.Inject("GET", s3test.Fault{Status: 503, Code: "SlowDown"}, s3test.Fault{Status: 503, Code: "SlowDown"})
	_, err = b.ReadAll(ctx, "a")
	if got := s.Take(); err == nil || got != "GET" {
		t.Errorf("requests: %s, and %v", got, err)
	}
}

// A 404 that breaks off in its body makes the SDK log, on the standard error of the
// moment in which the client was made.
func TestSilence(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(http.StatusNotFound)
	}))
	defer server.Close()
	stderr, err := os.Create(filepath.Join(t.TempDir(), "stderr"))
	must(t, err)
	defer stderr.Close()
	defer func(was *os.File) { os.Stderr = was }(os.Stderr)
	os.Stderr = stderr
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	t.Setenv("AWS_ACCESS_KEY_ID", "x")
	t.Setenv("AWS_SECRET_ACCESS_KEY", "x")
	b, err := URLOpener{}.OpenBucketURL(ctx, &url.URL{Scheme: Scheme, Host: "bucket", RawQuery: url.Values{
		"region": {"us-east-1"}, "use_path_style": {"true"}, "endpoint": {server.URL},
	}.Encode()})
	must(t, err)
	defer b.Close()
	if _, err := b.NewReader(ctx, "a", nil); err == nil {
		t.Error("there is something")
	}
	if said, err := os.ReadFile(stderr.Name()); err != nil || len(said) > 0 {
		t.Errorf("the SDK says %s%v", said, err)
	}
}
