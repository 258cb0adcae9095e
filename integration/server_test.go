package integration

import (
	"bytes"
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
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"cloud.google.com/go/storage"
	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/fsouza/fake-gcs-server/fakestorage"
	gcblob "gocloud.dev/blob"
	"gocloud.dev/blob/s3blob"

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

// A service is one kind of object store.
type service struct {
	name    string
	service blob.Service
	proxy   *proxy
	open    func(bucket string) (*gcblob.Bucket, error)
	create  func(bucket string) error
}

var (
	workDir  string // is removed in the end
	services []*service
	s3URL    url.URL       // but for the bucket
	s3Client *awss3.Client // with all rights; for all, since each keeps connections of its own
)

// start starts all servers. Everything is hermetic: no configuration of the user
// is read, and nothing but loopback is reached.
func start(dir string) (stop func(), err error) {
	var stops []func()
	stop = func() {
		for _, s := range stops {
			s()
		}
	}
	for key, value := range map[string]string{
		"AWS_ACCESS_KEY_ID":           accessKey,
		"AWS_SECRET_ACCESS_KEY":       secretKey,
		"AWS_EC2_METADATA_DISABLED":   "true",
		"AWS_CONFIG_FILE":             os.DevNull,
		"AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
		"AWS_CA_BUNDLE":               "",
		"HTTP_PROXY":                  "",
		"http_proxy":                  "",
	} {
		os.Setenv(key, value)
	}
	gateway, stopGateway, err := startVersitygw(dir)
	if err != nil {
		return stop, err
	}
	stops = append(stops, stopGateway)
	s3proxy := newProxy(gateway)
	stops = append(stops, s3proxy.Close)
	s3URL = url.URL{Scheme: s3.Scheme, Host: "any", RawQuery: url.Values{
		"region":             {"us-east-1"},
		"use_path_style":     {"true"},
		"hostname_immutable": {"true"},
		"endpoint":           {s3proxy.URL},
	}.Encode()}
	first, err := s3.URLOpener{}.OpenBucketURL(ctx, &s3URL)
	if err != nil {
		return stop, err
	}
	first.As(&s3Client)
	services = append(services, &service{
		name:    "versitygw",
		service: s3.Service(),
		proxy:   s3proxy,
		open:    func(bucket string) (*gcblob.Bucket, error) { return s3blob.OpenBucket(ctx, s3Client, bucket, nil) },
		create: func(bucket string) error {
			_, err := s3Client.CreateBucket(ctx, &awss3.CreateBucketInput{Bucket: &bucket})
			return err
		},
	})

	addr, err := freeAddr()
	if err != nil {
		return stop, err
	}
	gcsproxy := newProxy(addr)
	stops = append(stops, gcsproxy.Close)
	host, port, _ := net.SplitHostPort(addr)
	var portNumber uint16
	fmt.Sscan(port, &portNumber)
	public := strings.TrimPrefix(gcsproxy.URL, "http://")
	fakeGCS, err := fakestorage.NewServerWithOptions(fakestorage.Options{
		Scheme: "http", Host: host, Port: portNumber, PublicHost: public, ExternalURL: gcsproxy.URL, Writer: io.Discard,
	})
	if err != nil {
		return stop, err
	}
	stops = append(stops, fakeGCS.Stop)
	os.Setenv("STORAGE_EMULATOR_HOST", public)
	services = append(services, &service{
		name:    "fake-gcs-server",
		service: gcs.Service(),
		proxy:   gcsproxy,
		open:    openGCS,
		create: func(bucket string) error {
			b, err := openGCS(bucket)
			if err != nil {
				return err
			}
			defer b.Close()
			var client *storage.Client
			b.As(&client)
			return client.Bucket(bucket).Create(ctx, "project", nil)
		},
	})
	return stop, nil
}

func openGCS(bucket string) (*gcblob.Bucket, error) {
	return gcs.URLOpener{}.OpenBucketURL(ctx, &url.URL{Scheme: gcs.Scheme, Host: bucket})
}

// startVersitygw starts the gateway over a directory and waits until it answers.
func startVersitygw(dir string) (addr string, stop func(), err error) {
	build := exec.Command("go", "tool", "-n", "versitygw")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr bytes.Buffer
	build.Stderr = &stderr
	path, err := build.Output()
	if err != nil {
		return "", nil, fmt.Errorf("building versitygw: %w\n%s", err, &stderr)
	}
	if addr, err = freeAddr(); err != nil {
		return "", nil, err
	}
	data, sidecar, iam := dir+"/data", dir+"/meta", dir+"/iam"
	if err := errors.Join(os.Mkdir(data, 0o700), os.Mkdir(sidecar, 0o700), os.Mkdir(iam, 0o700)); err != nil {
		return "", nil, err
	}
	// A user with no right but those that a bucket's policy gives.
	users := fmt.Sprintf(`{"accessAccounts":{%[1]q:{"access":%[1]q,"secret":%[2]q,"role":"user"}}}`, userKey, userSecret)
	if err := os.WriteFile(iam+"/users.json", []byte(users), 0o600); err != nil {
		return "", nil, err
	}
	var output bytes.Buffer
	cmd := exec.Command(strings.TrimSpace(string(path)), "-a", accessKey, "-s", secretKey, "-p", addr, "--quiet", "--iam-dir", iam,
		"posix", "--sidecar", sidecar, data)
	cmd.Dir = dir
	cmd.Stdout, cmd.Stderr = &output, &output
	dieWithParent(cmd)
	started, exited := make(chan error, 1), make(chan struct{})
	go func() {
		// A child that dies with its parent dies with the parent's thread.
		runtime.LockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
		close(exited)
	}()
	if err := <-started; err != nil {
		return "", nil, err
	}
	stop = func() {
		_ = cmd.Process.Kill()
		<-exited
	}
	deadline := time.Now().Add(30 * time.Second)
	for {
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			return addr, stop, c.Close()
		}
		select {
		case <-exited:
			return "", nil, fmt.Errorf("versitygw has ended: %s", &output)
		case <-time.After(10 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			stop()
			return "", nil, fmt.Errorf("versitygw does not answer: %w\n%s", err, &output)
		}
	}
}

func freeAddr() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}

// A proxy stands in front of a server. Tests that look at it must not run in
// parallel with others on the same service, hence busy.
type proxy struct {
	*httptest.Server
	busy     sync.RWMutex
	requests atomic.Int64
	lose     atomic.Int64 // replies to writes still to be lost
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
			if isWrite && r.StatusCode == http.StatusOK && p.lose.Add(-1) >= 0 {
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
