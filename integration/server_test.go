package integration

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"cloud.google.com/go/storage"
	"github.com/aws/aws-sdk-go-v2/credentials"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/fsouza/fake-gcs-server/fakestorage"
	gcblob "gocloud.dev/blob"
	"gocloud.dev/blob/s3blob"

	"github.com/rollout-sync/rollout/integration/internal/server"
	"github.com/rollout-sync/rollout/integration/parts"
	"github.com/rollout-sync/rollout/store/blob"
	"github.com/rollout-sync/rollout/store/blob/gcs"
	"github.com/rollout-sync/rollout/store/blob/s3"
)

var ctx = context.Background()

const (
	accessKey = "integration"
	secretKey = "integration-secret"

	userKey    = "user" // may do what a bucket's policy says
	userSecret = "user-secret"

	wrongSecret = "d3Jvbmc=" // of base64, which Azure's have to be
)

func TestMain(m *testing.M) {
	code := 1
	func() {
		dir, err := os.MkdirTemp("", "rollout-integration-*")
		if err != nil {
			log.Print(err)
			return
		}
		defer os.RemoveAll(dir)
		workDir = dir
		log.SetOutput(io.Discard) // the S3 transfer manager logs what it returns too
		stop, err := start(dir)
		defer stop()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return
		}
		code = m.Run()
	}()
	os.Exit(code)
}

// A service is one object store, behind a proxy.
type service struct {
	name    string // in the account of parts
	version string
	absent  error // why it takes no part
	service blob.Service
	url     func(bucket string) *url.URL
	env     map[string]string // by which it is reached, besides the URL
	wrong   map[string]string // credentials that it refuses; nil if it asks for none
	proxy   *proxy
	open    func(bucket string) (*gcblob.Bucket, error)
	refused func(bucket string) (*gcblob.Bucket, error) // with such credentials; nil likewise
	create  func(bucket string) error
}

var (
	workDir  string // is removed in the end
	services []*service
	s3Client *awss3.Client // of the first, with all rights
)

// soak is true of the long run of "make soak".
var soak = os.Getenv("ROLLOUT_SOAK") != ""

// start starts all servers. Everything is hermetic: no configuration of the user
// is read, and nothing but loopback is reached.
func start(dir string) (stop func(), err error) {
	var stops []func()
	stop = func() {
		for _, s := range slices.Backward(stops) {
			s()
		}
	}
	os.Setenv("HTTP_PROXY", "")
	os.Setenv("http_proxy", "")
	starts := []func(dir string) (*service, func(), error){startVersitygw, startFakeGCS, startAzurite}
	if soak {
		starts = append(starts, startMinIO)
	}
	for _, start := range starts {
		s, stopServer, err := start(dir)
		if err != nil {
			return stop, err
		}
		services = append(services, s)
		if s.absent == nil {
			stops = append(stops, stopServer, s.proxy.Close)
		}
	}
	for _, s := range services {
		for key, value := range s.env {
			os.Setenv(key, value)
		}
	}
	s3Client = clientOf(services[0])
	return stop, nil
}

// each runs a test on every service, as an entry of the account. Cases and faults
// are how many the test has for each.
func each(t *testing.T, cases, faults int, test func(t *testing.T, s *service)) {
	for _, s := range services {
		t.Run(s.name, func(t *testing.T) {
			if s.absent != nil {
				parts.Missing(t, s.name, s.absent.Error())
			}
			parts.Add(t, parts.Entry{Part: s.name, Version: s.version, Cases: cases, Faults: faults})
			test(t, s)
		})
	}
}

// newS3 returns the service of an S3 server.
func newS3(name, version, addr string) *service {
	proxy := newProxy(addr)
	s := &service{
		name: name, version: version, service: s3.Service(), proxy: proxy,
		url: func(bucket string) *url.URL {
			return &url.URL{Scheme: s3.Scheme, Host: bucket, RawQuery: url.Values{
				"region":             {"us-east-1"},
				"use_path_style":     {"true"},
				"hostname_immutable": {"true"},
				"endpoint":           {proxy.URL},
			}.Encode()}
		},
		env: map[string]string{
			"AWS_ACCESS_KEY_ID":           accessKey,
			"AWS_SECRET_ACCESS_KEY":       secretKey,
			"AWS_EC2_METADATA_DISABLED":   "true",
			"AWS_CONFIG_FILE":             os.DevNull,
			"AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
			"AWS_CA_BUNDLE":               "",
		},
		wrong: map[string]string{"AWS_SECRET_ACCESS_KEY": wrongSecret},
	}
	client := sync.OnceValue(func() *awss3.Client { return clientOf(s) }) // one for all: each keeps connections of its own
	s.open = func(bucket string) (*gcblob.Bucket, error) { return s3blob.OpenBucket(ctx, client(), bucket, nil) }
	s.refused = func(bucket string) (*gcblob.Bucket, error) {
		return s3blob.OpenBucket(ctx, awss3.New(awss3.Options{
			BaseEndpoint: &proxy.URL, UsePathStyle: true, Region: "us-east-1",
			Credentials: credentials.NewStaticCredentialsProvider(accessKey, wrongSecret, ""),
		}), bucket, nil)
	}
	s.create = func(bucket string) error {
		_, err := client().CreateBucket(ctx, &awss3.CreateBucketInput{Bucket: &bucket})
		return err
	}
	return s
}

func clientOf(s *service) (client *awss3.Client) {
	bucket, err := s3.URLOpener{}.OpenBucketURL(ctx, s.url("any"))
	if err != nil {
		panic(err) // of a constant URL
	}
	bucket.As(&client)
	return client
}

// startFakeGCS starts the server in this process.
func startFakeGCS(string) (*service, func(), error) {
	addr, err := server.FreeAddr()
	if err != nil {
		return nil, nil, err
	}
	version, err := server.ModuleVersion("github.com/fsouza/fake-gcs-server")
	if err != nil {
		return nil, nil, err
	}
	host, port, _ := net.SplitHostPort(addr)
	var portNumber uint16
	fmt.Sscan(port, &portNumber)
	proxy := newProxy(addr)
	public := strings.TrimPrefix(proxy.URL, "http://")
	server, err := fakestorage.NewServerWithOptions(fakestorage.Options{
		Scheme: "http", Host: host, Port: portNumber, PublicHost: public, ExternalURL: proxy.URL, Writer: io.Discard,
	})
	if err != nil {
		return nil, nil, err
	}
	s := &service{
		name: "fake-gcs-server", version: version, service: gcs.Service(), proxy: proxy,
		url: func(bucket string) *url.URL { return &url.URL{Scheme: gcs.Scheme, Host: bucket} },
		env: map[string]string{"STORAGE_EMULATOR_HOST": public},
	}
	s.open = func(bucket string) (*gcblob.Bucket, error) { return gcs.URLOpener{}.OpenBucketURL(ctx, s.url(bucket)) }
	s.create = func(bucket string) error {
		b, err := s.open(bucket)
		if err != nil {
			return err
		}
		defer b.Close()
		var client *storage.Client
		b.As(&client)
		return client.Bucket(bucket).Create(ctx, "project", nil)
	}
	return s, server.Stop, nil
}

// startVersitygw starts the gateway over a directory.
func startVersitygw(dir string) (*service, func(), error) {
	dir += "/versitygw"
	iam := dir + "/iam"
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Mkdir(iam, 0o700)); err != nil {
		return nil, nil, err
	}
	// A user with no right but those that a bucket's policy gives.
	users := fmt.Sprintf(`{"accessAccounts":{%[1]q:{"access":%[1]q,"secret":%[2]q,"role":"user"}}}`, userKey, userSecret)
	if err := os.WriteFile(iam+"/users.json", []byte(users), 0o600); err != nil {
		return nil, nil, err
	}
	v, err := server.StartVersitygw(dir, accessKey, secretKey, "--iam-dir", iam)
	if err != nil {
		return nil, nil, err
	}
	return newS3("versitygw", v.Version, v.Addr), stopping(v.Server), nil
}

// stopping returns a function that stops s and says so if it has ended before.
func stopping(s *server.Server) func() {
	return func() {
		if err := s.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, err)
		}
	}
}

// A proxy stands in front of a server. Tests that look at it must not run in
// parallel with others on the same service, hence busy.
type proxy struct {
	*httptest.Server
	busy     sync.RWMutex
	requests atomic.Int64
	lose     atomic.Int64 // replies to writes still to be lost
	silent   atomic.Value // a context.Context: no request gets a reply before it ends
}

func newProxy(addr string) *proxy {
	p := &proxy{}
	target := &url.URL{Scheme: "http", Host: addr}
	forward := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(target)
			r.Out.Host = r.In.Host // it is in the signature
		},
		ErrorLog: log.New(io.Discard, "", 0),
		ModifyResponse: func(r *http.Response) error {
			isWrite := r.Request.Method == http.MethodPut || r.Request.Method == http.MethodPost
			if isWrite && r.StatusCode/100 == 2 && p.lose.Add(-1) >= 0 {
				return errors.New("lost")
			}
			return nil
		},
		ErrorHandler: func(http.ResponseWriter, *http.Request, error) {
			panic(http.ErrAbortHandler) // cuts the connection
		},
	}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.requests.Add(1)
		if c, ok := p.silent.Load().(context.Context); ok && c.Err() == nil {
			_, _ = io.Copy(io.Discard, r.Body) // else it is not seen that the client has gone
			<-r.Context().Done()
			panic(http.ErrAbortHandler)
		}
		forward.ServeHTTP(w, r)
	}))
	return p
}

var buckets atomic.Int64

// newBucket makes a new, empty bucket.
func (s *service) newBucket(t *testing.T) (name string) {
	t.Helper()
	name = fmt.Sprintf("bucket-%d", buckets.Add(1))
	if err := s.create(name); err != nil {
		t.Fatal(err)
	}
	return name
}

// bucket makes a new, empty bucket and returns how to open it.
func (s *service) bucket(t *testing.T, prefix string) (open func() *gcblob.Bucket) {
	t.Helper()
	name := s.newBucket(t)
	return func() *gcblob.Bucket {
		t.Helper()
		b, err := s.open(name)
		if err != nil {
			t.Fatal(err)
		}
		if prefix != "" {
			b = gcblob.PrefixedBucket(b, prefix)
		}
		return b
	}
}

func (s *service) storeOf(t *testing.T, bucket *gcblob.Bucket) *blob.Store {
	st := blob.New(bucket, &blob.Options{Service: s.service, SpoolDir: t.TempDir()})
	t.Cleanup(func() { st.Close() })
	return st
}

func (s *service) store(t *testing.T) *blob.Store {
	t.Helper()
	return s.storeOf(t, s.bucket(t, "")())
}
