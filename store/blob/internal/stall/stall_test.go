package stall

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"time"
)

// client returns one that waits that long, and a server that takes the first bytes of a
// request, and goes on with the handler.
func client(t *testing.T, d time.Duration, h http.HandlerFunc) (*http.Client, string) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	transport := &http.Transport{}
	Bound(transport, d)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}, s.URL
}

// A server that stops is given up, wherever that is.
func TestStalled(t *testing.T) {
	t.Parallel()
	for name, stop := range map[string]func(w http.ResponseWriter, r *http.Request){
		"in the request": func(http.ResponseWriter, *http.Request) {},
		"before the reply": func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
		},
		"in the reply": func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Length", "1000")
			_, _ = w.Write(make([]byte, 10))
			_ = http.NewResponseController(w).Flush()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			over := make(chan struct{})
			c, url := client(t, time.Second, func(w http.ResponseWriter, r *http.Request) {
				stop(w, r)
				<-over
			})
			defer close(over)
			reply, err := c.Post(url, "", bytes.NewReader(make([]byte, 64<<20))) // more than the system takes for it
			if err == nil {
				_, err = io.Copy(io.Discard, reply.Body)
				reply.Body.Close()
			}
			if !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// One that is slow, and takes longer than that over all, is not: a reply may take as
// long to come as there is something to send.
func TestSlow(t *testing.T) {
	t.Parallel()
	const d, size = time.Second, 64 << 20
	begin := time.Now()
	c, url := client(t, d, func(w http.ResponseWriter, r *http.Request) {
		for range 16 {
			n, _ := io.CopyN(io.Discard, r.Body, size/16)
			<-time.After(d / 10)
			if n < size/16 {
				return
			}
		}
		_, _ = w.Write([]byte("all"))
	})
	reply, err := c.Post(url, "", bytes.NewReader(make([]byte, size)))
	if err != nil {
		t.Fatal(err)
	}
	defer reply.Body.Close()
	if got, err := io.ReadAll(reply.Body); err != nil || string(got) != "all" || time.Since(begin) < d {
		t.Errorf("after %v got %q, %v", time.Since(begin), got, err)
	}
}
