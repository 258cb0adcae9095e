// Package s3test is an S3 server for tests, which can be told to fail in every way
// in which servers and networks do.
package s3test

import (
	"cmp"
	"crypto/md5"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// A Server is as much of S3 as package blob uses: one bucket, addressed by path,
// with conditions, ranges, metadata, listings in pages and multi-part uploads. It
// follows the API reference, and believes every signature. Requests are told apart
// by kind: GET, HEAD, PUT, DELETE and LIST, and of multi-part uploads CREATE, PART,
// PARTS, COMPLETE and ABORT.
type Server struct {
	*httptest.Server
	// Deaf is a server that does not know conditions: it ignores them. It is to be
	// set while no request is under way, by OnRequest or in Change, like the next four.
	Deaf bool
	// Gone is whether somebody has removed the bucket.
	Gone bool
	// Deny has the kinds of requests that the client may not make: 403.
	Deny []string
	// Stored, if not nil, is called by each PUT, which is then not answered.
	Stored func()
	// OnRequest, if not nil, is called before the nth request is looked at.
	OnRequest func(n int)

	mu       sync.Mutex
	objects  map[string]object
	uploads  map[string]*upload
	clock    int
	requests []string
	faults   map[string][]Fault // of the next requests of each kind, in order
}

type object struct {
	bytes  []byte
	header http.Header // content type and metadata
	etag   string
	time   time.Time
}

type upload struct {
	key    string
	header http.Header
	parts  map[int][]byte
}

// Change calls f, which may set the fields, while no request is looked at: those of a
// client that has gone may still come.
func (s *Server) Change(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f()
}

// BucketName is that of the one bucket.
const BucketName = "bucket"

const (
	// pageSize is less than what is asked for, as the reference allows.
	pageSize = 5
	minPart  = 5 << 20
)

// New starts a server that ends with the test.
func New(t testing.TB) *Server {
	s := &Server{objects: map[string]object{}, uploads: map[string]*upload{}, faults: map[string][]Fault{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// BucketURL is for the opener of package store/blob/s3.
func (s *Server) BucketURL() *url.URL {
	return &url.URL{Scheme: "s3", Host: BucketName, RawQuery: url.Values{
		"region":             {"us-east-1"},
		"anonymous":          {"true"},
		"use_path_style":     {"true"},
		"hostname_immutable": {"true"},
		"endpoint":           {s.URL},
	}.Encode()}
}

// A Fault is what becomes of a request that is not simply answered.
type Fault struct {
	Status int    // the answer, with Code, and nothing happens
	Code   string // of the answer
	Reset  bool   // nothing happens, and the connection is reset
	Lose   bool   // what was asked for happens, and the connection is reset
	Hang   bool   // nothing happens, and the client has to go
	Cut    int    // the connection ends after so many bytes of the answer's body
}

// Inject gives the next requests of that kind faults, one each.
func (s *Server) Inject(kind string, faults ...Fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[kind] = append(s.faults[kind], faults...)
}

// ClearFaults takes back the faults that are left.
func (s *Server) ClearFaults() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.faults)
}

// Put plants an object.
func (s *Server) Put(key, content string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(key, object{bytes: []byte(content), header: http.Header{}, etag: etag([]byte(content))}, nil)
}

// Get returns an object's bytes, "" if it is not there.
func (s *Server) Get(key string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return string(s.objects[key].bytes)
}

// Keys returns those of all objects, sorted.
func (s *Server) Keys() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.objects))
}

// Take returns the kinds of the requests since the last Take.
func (s *Server) Take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := strings.Join(s.requests, " ")
	s.requests = nil
	return got
}

// Unfinished returns the number of uploads that were neither completed nor aborted.
func (s *Server) Unfinished() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.uploads)
}

// kindOf names what a request is for.
func kindOf(r *http.Request) string {
	q := r.URL.Query()
	switch {
	case r.URL.Path == "/"+BucketName || r.URL.Path == "/"+BucketName+"/":
		return "LIST"
	case q.Has("uploads"):
		return "CREATE"
	case q.Has("partNumber"):
		return "PART"
	case q.Has("uploadId"):
		return map[string]string{"POST": "COMPLETE", "DELETE": "ABORT", "GET": "PARTS"}[r.Method]
	}
	return r.Method
}

type response struct {
	status int
	header http.Header
	body   []byte
}

func failure(status int, code string) response {
	return xmlResponse(status, struct {
		XMLName xml.Name `xml:"Error"`
		Code    string
		Message string
	}{Code: code, Message: "as the test wants it"})
}

func xmlResponse(status int, v any) response {
	body, err := xml.Marshal(v)
	if err != nil {
		panic(err)
	}
	return response{status, http.Header{"Content-Type": {"application/xml"}}, body}
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	kind := kindOf(r)
	s.mu.Lock()
	s.requests = append(s.requests, kind)
	if s.OnRequest != nil {
		s.OnRequest(len(s.requests))
	}
	var f Fault
	if queue := s.faults[kind]; len(queue) > 0 {
		f, s.faults[kind] = queue[0], queue[1:]
	}
	var answer response
	switch {
	case s.Gone:
		answer = failure(http.StatusNotFound, "NoSuchBucket")
	case slices.Contains(s.Deny, kind):
		answer = failure(http.StatusForbidden, "AccessDenied")
	case f.Status != 0:
		answer = failure(f.Status, f.Code)
	case !f.Reset && !f.Hang:
		answer = s.answer(kind, r, body)
		if kind == "PUT" && s.Stored != nil {
			s.Stored()
			f.Hang = true
		}
	}
	s.mu.Unlock()

	switch {
	case f.Hang:
		<-r.Context().Done()
		return
	case f.Reset || f.Lose:
		reset(w)
		return
	}
	maps.Copy(w.Header(), answer.header)
	if answer.status != http.StatusNoContent {
		w.Header().Set("Content-Length", cmp.Or(w.Header().Get("Content-Length"), strconv.Itoa(len(answer.body))))
	}
	w.WriteHeader(answer.status)
	if r.Method == http.MethodHead {
		return
	}
	if f.Cut > 0 {
		_, _ = w.Write(answer.body[:f.Cut])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}
	_, _ = w.Write(answer.body)
}

// reset ends a connection as a peer does that has lost its memory.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		panic(err)
	}
	_ = conn.(*net.TCPConn).SetLinger(0)
	_ = conn.Close()
}

func (s *Server) answer(kind string, r *http.Request, body []byte) response {
	q := r.URL.Query()
	if kind == "LIST" {
		return s.list(q.Get("prefix"), q.Get("delimiter"), q.Get("continuation-token"))
	}
	key, ok := strings.CutPrefix(r.URL.Path, "/"+BucketName+"/")
	if !ok {
		return failure(http.StatusNotFound, "NoSuchBucket")
	}
	if strings.HasPrefix(r.Header.Get("X-Amz-Content-Sha256"), "STREAMING") {
		return failure(http.StatusNotImplemented, "NotImplemented")
	}
	o, there := s.objects[key]
	switch kind {
	case "PUT", "COMPLETE", "DELETE":
		match := r.Header.Get("If-Match")
		switch {
		case s.Deaf:
		case match != "" && !there:
			return failure(http.StatusNotFound, "NoSuchKey")
		case match != "" && match != o.etag, r.Header.Get("If-None-Match") == "*" && there:
			return failure(http.StatusPreconditionFailed, "PreconditionFailed")
		}
	case "GET", "HEAD":
		if !there {
			return failure(http.StatusNotFound, "NoSuchKey")
		}
		return o.answer(r)
	}
	switch kind {
	case "PUT":
		return s.put(key, object{bytes: body, header: kept(r.Header), etag: etag(body)}, nil)
	case "DELETE":
		delete(s.objects, key)
		return response{status: http.StatusNoContent}
	case "CREATE":
		s.clock++
		id := strconv.Itoa(s.clock)
		s.uploads[id] = &upload{key, kept(r.Header), map[int][]byte{}}
		return xmlResponse(http.StatusOK, struct {
			XMLName  xml.Name `xml:"InitiateMultipartUploadResult"`
			UploadId string
		}{UploadId: id})
	}
	return s.multipart(kind, q.Get("uploadId"), q.Get("partNumber"), body)
}

func (s *Server) multipart(kind, id, part string, body []byte) response {
	u := s.uploads[id]
	if u == nil {
		return failure(http.StatusNotFound, "NoSuchUpload")
	}
	switch kind {
	case "PART":
		n, err := strconv.Atoi(part)
		if err != nil || n < 1 || n > 10_000 {
			return failure(http.StatusBadRequest, "InvalidArgument")
		}
		u.parts[n] = body
		return response{status: http.StatusOK, header: http.Header{"Etag": {etag(body)}}}
	case "PARTS":
		return xmlResponse(http.StatusOK, struct {
			XMLName xml.Name `xml:"ListPartsResult"`
		}{})
	case "ABORT":
		delete(s.uploads, id)
		return response{status: http.StatusNoContent}
	}
	var list struct {
		Part []struct {
			PartNumber int
			ETag       string
		}
	}
	if err := xml.Unmarshal(body, &list); err != nil {
		return failure(http.StatusBadRequest, "MalformedXML")
	}
	o := object{header: u.header}
	last := 0
	for i, p := range list.Part {
		content, ok := u.parts[p.PartNumber]
		switch {
		case !ok || p.ETag != etag(content):
			return failure(http.StatusBadRequest, "InvalidPart")
		case p.PartNumber <= last:
			return failure(http.StatusBadRequest, "InvalidPartOrder")
		case i < len(list.Part)-1 && len(content) < minPart:
			return failure(http.StatusBadRequest, "EntityTooSmall")
		}
		last = p.PartNumber
		o.bytes = append(o.bytes, content...)
	}
	o.etag = fmt.Sprintf(`"%s-%d"`, strings.Trim(etag(o.bytes), `"`), len(list.Part))
	delete(s.uploads, id)
	return s.put(u.key, o, struct {
		XMLName xml.Name `xml:"CompleteMultipartUploadResult"`
		Key     string
		ETag    string
	}{Key: u.key, ETag: o.etag})
}

// put stores o and answers with v, or without a body.
func (s *Server) put(key string, o object, v any) response {
	s.clock++
	o.time = time.Unix(int64(s.clock), 0).UTC()
	s.objects[key] = o
	if v != nil {
		return xmlResponse(http.StatusOK, v)
	}
	return response{status: http.StatusOK, header: http.Header{"Etag": {o.etag}}}
}

func etag(p []byte) string { return fmt.Sprintf(`"%x"`, md5.Sum(p)) }

// kept returns those of a request's headers that belong to the object.
func kept(h http.Header) http.Header {
	h = h.Clone()
	maps.DeleteFunc(h, func(k string, _ []string) bool {
		return k != "Content-Type" && !strings.HasPrefix(k, "X-Amz-Meta-")
	})
	return h
}

func (o object) answer(r *http.Request) response {
	h := o.header.Clone()
	h.Set("ETag", o.etag)
	h.Set("Last-Modified", o.time.Format(http.TimeFormat))
	size := len(o.bytes)
	asked := r.Header.Get("Range")
	if asked == "" {
		h.Set("Content-Length", strconv.Itoa(size))
		return response{http.StatusOK, h, o.bytes}
	}
	first, last := 0, size-1
	if n, _ := fmt.Sscanf(asked, "bytes=%d-%d", &first, &last); n == 0 || first >= size {
		return failure(http.StatusRequestedRangeNotSatisfiable, "InvalidRange")
	}
	last = min(last, size-1)
	h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, size))
	return response{http.StatusPartialContent, h, o.bytes[first : last+1]}
}

// list answers with one page; a token is the last key, or prefix, of the page
// before.
func (s *Server) list(prefix, delimiter, token string) response {
	type content struct {
		Key          string
		LastModified string
		ETag         string
		Size         int
	}
	type commonPrefix struct{ Prefix string }
	var page struct {
		XMLName               xml.Name `xml:"ListBucketResult"`
		IsTruncated           bool
		NextContinuationToken string `xml:",omitempty"`
		Contents              []content
		CommonPrefixes        []commonPrefix
	}
	last := token
	for _, key := range slices.Sorted(maps.Keys(s.objects)) {
		rest, ok := strings.CutPrefix(key, prefix)
		if !ok {
			continue
		}
		dir, _, isDir := strings.Cut(rest, delimiter)
		isDir = isDir && delimiter != ""
		name := key
		if isDir {
			name = prefix + dir + delimiter
		}
		if name <= last {
			continue
		}
		if len(page.Contents)+len(page.CommonPrefixes) == pageSize {
			page.IsTruncated, page.NextContinuationToken = true, last
			break
		}
		last = name
		if isDir {
			page.CommonPrefixes = append(page.CommonPrefixes, commonPrefix{name})
			continue
		}
		o := s.objects[key]
		page.Contents = append(page.Contents, content{key, o.time.Format(time.RFC3339), o.etag, len(o.bytes)})
	}
	return xmlResponse(http.StatusOK, page)
}
