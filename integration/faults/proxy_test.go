package faults

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"sync"
	"sync/atomic"
	"time"
)

// A fault is what befalls a request on its way.
type fault func(*proxy, http.ResponseWriter, *http.Request)

// A proxy stands between one run and the server, and lets requests come to harm.
type proxy struct {
	*httptest.Server
	faults atomic.Int64 // that befell a request
	closed chan struct{}

	mu       sync.Mutex
	harms    func(n int, r *http.Request) fault
	requests []string // method and URI
}

// newProxy returns a proxy with harm, which may be nil.
func newProxy(harm func(n int, r *http.Request) fault) *proxy {
	p := &proxy{harms: harm, closed: make(chan struct{})}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		p.requests = append(p.requests, r.Method+" "+r.RequestURI)
		var f fault
		if p.harms != nil {
			f = p.harms(len(p.requests), r)
		}
		p.mu.Unlock()
		if f == nil {
			p.forward(w, r, nil)
			return
		}
		f(p, w, r)
	}))
	return p
}

// harm sets what befalls the n'th request, counted from 1 since restart.
func (p *proxy) harm(harm func(n int, r *http.Request) fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.harms = harm
}

func (p *proxy) restart() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.requests = nil
}

func (p *proxy) close() {
	close(p.closed)
	p.Server.Close()
}

// mirror is the URL of a bucket behind the proxy.
func (p *proxy) mirror(bucket string) string { return mirrorURL(bucket, p.URL) }

func mirrorURL(bucket, endpoint string) string {
	u := url.URL{Scheme: "s3", Host: bucket, RawQuery: url.Values{
		"region":             {"us-east-1"},
		"use_path_style":     {"true"},
		"hostname_immutable": {"true"},
		"endpoint":           {endpoint},
	}.Encode()}
	return u.String()
}

// transport is one for all proxies, so that they do not run out of ports.
var transport = &http.Transport{MaxIdleConnsPerHost: 64, DisableCompression: true}

// forward passes the request on, and the reply back as change leaves it. An error of
// change breaks the connection.
func (p *proxy) forward(w http.ResponseWriter, r *http.Request, change func(*http.Response) error) {
	reverse := httputil.ReverseProxy{
		Transport: transport,
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: gateway.Addr})
			r.Out.Host = r.In.Host // it is in the signature
		},
		ErrorLog:       log.New(io.Discard, "", 0),
		ModifyResponse: change,
		ErrorHandler:   func(w http.ResponseWriter, _ *http.Request, _ error) { reset(w) },
		FlushInterval:  -1,
	}
	reverse.ServeHTTP(w, r)
}

// harmed counts a fault. A fault that does not fit its request, since that has no
// body to falsify, is none.
func (p *proxy) harmed() { p.faults.Add(1) }

// reset breaks the connection: the client gets "connection reset by peer".
func reset(w http.ResponseWriter) {
	if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
		_ = c.(*net.TCPConn).SetLinger(0)
		c.Close()
		return
	}
	panic(http.ErrAbortHandler)
}

func resetBefore(p *proxy, w http.ResponseWriter, _ *http.Request) {
	p.harmed()
	reset(w)
}

func resetInBody(p *proxy, w http.ResponseWriter, r *http.Request) {
	p.harmed()
	_, _ = io.CopyN(io.Discard, r.Body, r.ContentLength/2)
	reset(w)
}

func loseReply(p *proxy, w http.ResponseWriter, r *http.Request) {
	p.forward(w, r, func(reply *http.Response) error {
		p.harmed()
		_, err := io.Copy(io.Discard, reply.Body)
		return errors.Join(err, errors.New("lost"))
	})
}

// refuse answers as S3 does when it is not well.
func refuse(status int, code string) fault {
	return func(p *proxy, w http.ResponseWriter, r *http.Request) {
		p.harmed()
		_, _ = io.Copy(io.Discard, r.Body)
		refusal(w, status, code)
	}
}

func refusal(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/xml")
	w.WriteHeader(status)
	fmt.Fprintf(w, `<?xml version="1.0" encoding="UTF-8"?><Error><Code>%s</Code><Message>The proxy says so.</Message></Error>`, code)
}

// truncate ends the reply in the middle; one without a body never comes.
func truncate(p *proxy, w http.ResponseWriter, r *http.Request) {
	p.forward(w, r, func(reply *http.Response) error {
		p.harmed()
		if reply.ContentLength <= 0 || r.Method == http.MethodHead {
			return errors.New("cut")
		}
		reply.Body = body{io.MultiReader(io.LimitReader(reply.Body, reply.ContentLength/2), failing{}), reply.Body}
		return nil
	})
}

// falsifyReply changes one byte of an object, and makes anything else no XML.
func falsifyReply(p *proxy, w http.ResponseWriter, r *http.Request) {
	p.forward(w, r, func(reply *http.Response) error {
		if reply.ContentLength <= 0 || r.Method == http.MethodHead {
			return nil
		}
		p.harmed()
		b, err := io.ReadAll(reply.Body)
		if err != nil {
			return err
		}
		if reply.Header.Get("Content-Type") == "application/xml" {
			b[len(b)/2] = '<'
		} else {
			b[len(b)/2] ^= 0x20
		}
		reply.Body = body{bytes.NewReader(b), reply.Body}
		return nil
	})
}

// falsifyRequest changes one byte of what is sent.
func falsifyRequest(p *proxy, w http.ResponseWriter, r *http.Request) {
	if r.ContentLength > 0 {
		p.harmed()
		b, err := io.ReadAll(r.Body)
		if err != nil {
			reset(w)
			return
		}
		b[len(b)/2] ^= 0x20
		r.Body = io.NopCloser(bytes.NewReader(b))
	}
	p.forward(w, r, nil)
}

// hangTaking takes the request, but for its body, and never answers.
func hangTaking(p *proxy, _ http.ResponseWriter, _ *http.Request) {
	p.harmed()
	<-p.closed
}

// hangAnswering takes all of the request and never answers.
func hangAnswering(p *proxy, _ http.ResponseWriter, r *http.Request) {
	p.harmed()
	_, _ = io.Copy(io.Discard, r.Body)
	<-p.closed
}

// hangSending sends half of the reply, and then nothing.
func hangSending(p *proxy, w http.ResponseWriter, r *http.Request) {
	p.forward(w, r, func(reply *http.Response) error {
		p.harmed()
		rest := readerFunc(func([]byte) (int, error) {
			<-p.closed
			return 0, errors.New("closed")
		})
		reply.Body = body{io.MultiReader(io.LimitReader(reply.Body, reply.ContentLength/2), rest), reply.Body}
		return nil
	})
}

// delay makes each way of a request longer.
func delay(d time.Duration) fault {
	return func(p *proxy, w http.ResponseWriter, r *http.Request) {
		p.harmed()
		<-time.After(d)
		p.forward(w, r, func(*http.Response) error {
			<-time.After(d)
			return nil
		})
	}
}

// throttle lets so many bytes a second through, in each direction.
func throttle(rate int) fault {
	slow := func(r io.Reader) io.Reader {
		return readerFunc(func(p []byte) (int, error) {
			n, err := r.Read(p[:min(len(p), rate/50+1)])
			<-time.After(time.Duration(n) * time.Second / time.Duration(rate))
			return n, err
		})
	}
	return func(p *proxy, w http.ResponseWriter, r *http.Request) {
		p.harmed()
		r.Body = body{slow(r.Body), r.Body}
		p.forward(w, r, func(reply *http.Response) error {
			reply.Body = body{slow(reply.Body), reply.Body}
			return nil
		})
	}
}

// skew is a server whose clock is ahead by that much, and which takes no request that
// was signed at another time.
func skew(ahead time.Duration) fault {
	return func(p *proxy, w http.ResponseWriter, r *http.Request) {
		now := time.Now().Add(ahead)
		signed, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
		if err == nil && signed.Sub(now).Abs() < ahead/2 {
			p.forward(w, r, func(reply *http.Response) error {
				reply.Header.Set("Date", now.UTC().Format(http.TimeFormat))
				return nil
			})
			return
		}
		p.harmed()
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Date", now.UTC().Format(http.TimeFormat))
		refusal(w, http.StatusForbidden, "RequestTimeTooSkewed")
	}
}

// A body reads from one and closes the other.
type body struct {
	io.Reader
	io.Closer
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("cut") }

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
