package gcs

import (
	"crypto/md5"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"mime/multipart"
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

// A server is as much of Google Cloud Storage as package blob uses: one bucket,
// uploads, attributes, listings in pages and removals of the JSON API, downloads
// of the XML API, with generations and conditions on them.
type server struct {
	*httptest.Server
	mu       sync.Mutex
	objects  map[string]object
	sessions map[string]*session
	clock    int64
	requests []string
	faults   map[string][]fault // of the next requests of each kind, in order
	stored   func()             // if not nil, called by each UPLOAD, which is not answered
}

type object struct {
	bytes      []byte
	attrs      attrs
	generation int64
}

// attrs are what an upload says of its object.
type attrs struct {
	Name        string            `json:"name"`
	ContentType string            `json:"contentType,omitempty"`
	Metadata    map[string]string `json:"metadata,omitempty"`
}

// A session is a resumable upload.
type session struct {
	attrs attrs
	query url.Values
	bytes []byte
	done  *response // what a client that asks again is told again
}

const (
	bucketName = "bucket"
	// pageSize is less than what is asked for, as the reference allows.
	pageSize = 5
	// chunk is what the size of each but the last chunk must be a multiple of.
	chunk = 256 << 10
)

func newServer(t *testing.T) *server {
	s := &server{objects: map[string]object{}, sessions: map[string]*session{}, faults: map[string][]fault{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// A fault is what becomes of a request that is not simply answered.
type fault struct {
	status int  // the answer, and nothing happens
	reset  bool // nothing happens, and the connection is reset
	lose   bool // what was asked for happens, and the connection is reset
	hang   bool // nothing happens, and the client has to go
	cut    int  // the connection ends after so many bytes of the answer's body; -1 is none
}

// inject gives the next requests of that kind faults, one each.
func (s *server) inject(kind string, faults ...fault) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults[kind] = append(s.faults[kind], faults...)
}

// take returns the requests since the last take.
func (s *server) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := strings.Join(s.requests, " ")
	s.requests = nil
	return got
}

const (
	apiPath     = "/storage/v1/b/" + bucketName + "/o"
	uploadPath  = "/upload" + apiPath
	sessionPath = "/session/"
	xmlPath     = "/" + bucketName + "/"
)

// kindOf names what a request is for.
func kindOf(r *http.Request) string {
	path := r.URL.EscapedPath()
	switch {
	case path == apiPath:
		return "LIST"
	case path == uploadPath && r.URL.Query().Get("uploadType") == "resumable":
		return "CREATE"
	case path == uploadPath:
		return "UPLOAD"
	case strings.HasPrefix(path, sessionPath):
		return "CHUNK"
	case strings.HasPrefix(path, xmlPath):
		return "GET"
	case r.Method == http.MethodGet:
		return "ATTRS"
	}
	return r.Method
}

type response struct {
	status int
	header http.Header
	body   []byte
}

func failure(status int) response {
	r := jsonResponse(map[string]any{"error": map[string]any{"code": status, "message": "as the test wants it"}})
	r.status = status
	return r
}

func jsonResponse(v any) response {
	body, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return response{http.StatusOK, http.Header{"Content-Type": {"application/json"}}, body}
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	kind := kindOf(r)
	s.mu.Lock()
	s.requests = append(s.requests, kind)
	var f fault
	if queue := s.faults[kind]; len(queue) > 0 {
		f, s.faults[kind] = queue[0], queue[1:]
	}
	var answer response
	switch {
	case f.status != 0:
		answer = failure(f.status)
	case !f.reset && !f.hang:
		answer = s.answer(kind, r, body)
		if kind == "UPLOAD" && s.stored != nil {
			s.stored()
			f.hang = true
		}
	}
	s.mu.Unlock()

	switch {
	case f.hang:
		<-r.Context().Done()
		return
	case f.reset || f.lose:
		reset(w)
		return
	}
	maps.Copy(w.Header(), answer.header)
	if answer.status != http.StatusNoContent {
		w.Header().Set("Content-Length", strconv.Itoa(len(answer.body)))
	}
	w.WriteHeader(answer.status)
	if f.cut != 0 {
		_, _ = w.Write(answer.body[:max(0, f.cut)])
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

func (s *server) answer(kind string, r *http.Request, body []byte) response {
	q := r.URL.Query()
	path := r.URL.EscapedPath()
	switch kind {
	case "LIST":
		return s.list(q.Get("prefix"), q.Get("delimiter"), q.Get("pageToken"))
	case "CREATE":
		var a attrs
		if err := json.Unmarshal(body, &a); err != nil {
			return failure(http.StatusBadRequest)
		}
		a.Name = q.Get("name")
		if bad := s.unmet(a.Name, q); bad != 0 {
			return failure(bad)
		}
		s.clock++
		id := strconv.FormatInt(s.clock, 10)
		s.sessions[id] = &session{attrs: a, query: q}
		return response{http.StatusOK, http.Header{"Location": {s.URL + sessionPath + id}}, nil}
	case "UPLOAD":
		return s.upload(r, q, body)
	case "CHUNK":
		return s.chunk(strings.TrimPrefix(path, sessionPath), r.Header.Get("Content-Range"), body)
	}
	escaped, ok := strings.CutPrefix(path, xmlPath)
	if !ok {
		escaped, ok = strings.CutPrefix(path, apiPath+"/")
	}
	name, err := url.PathUnescape(escaped)
	if !ok || err != nil {
		return failure(http.StatusNotFound)
	}
	o, there := s.objects[name]
	if g := q.Get("generation"); !there || g != "" && g != strconv.FormatInt(o.generation, 10) {
		return failure(http.StatusNotFound)
	}
	switch kind {
	case "GET":
		return o.answer(r)
	case "ATTRS":
		return jsonResponse(o.resource())
	}
	if bad := s.unmet(name, q); bad != 0 {
		return failure(bad)
	}
	delete(s.objects, name)
	return response{status: http.StatusNoContent}
}

// unmet returns the status of a request whose condition does not hold, else 0.
func (s *server) unmet(name string, q url.Values) int {
	if want := q.Get("ifGenerationMatch"); want != "" && want != strconv.FormatInt(s.objects[name].generation, 10) {
		return http.StatusPreconditionFailed
	}
	return 0
}

// upload stores what comes in one request: attributes, then bytes.
func (s *server) upload(r *http.Request, q url.Values, body []byte) response {
	_, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil {
		return failure(http.StatusBadRequest)
	}
	parts := multipart.NewReader(strings.NewReader(string(body)), params["boundary"])
	var content [2][]byte
	for i := range content {
		part, err := parts.NextRawPart()
		if err == nil {
			content[i], err = io.ReadAll(part)
		}
		if err != nil {
			return failure(http.StatusBadRequest)
		}
	}
	var a attrs
	if err := json.Unmarshal(content[0], &a); err != nil {
		return failure(http.StatusBadRequest)
	}
	a.Name = q.Get("name")
	return s.put(a, q, content[1])
}

// chunk takes a part of a resumable upload, or more of one than it lacks.
func (s *server) chunk(id, contentRange string, body []byte) response {
	u := s.sessions[id]
	if u == nil {
		return failure(http.StatusNotFound)
	}
	if u.done != nil {
		return *u.done
	}
	asked, total, _ := strings.Cut(strings.TrimPrefix(contentRange, "bytes "), "/")
	if asked != "*" {
		var first, last int
		_, err := fmt.Sscanf(asked, "%d-%d", &first, &last)
		if err != nil || last-first+1 != len(body) || first > len(u.bytes) || total == "*" && len(body)%chunk != 0 {
			return failure(http.StatusBadRequest)
		}
		u.bytes = append(u.bytes[:first], body...)
	}
	if total == "*" {
		return response{http.StatusOK, http.Header{
			"X-Http-Status-Code-Override": {"308"},
			"Range":                       {fmt.Sprintf("bytes=0-%d", len(u.bytes)-1)},
		}, nil}
	}
	if total != strconv.Itoa(len(u.bytes)) {
		return failure(http.StatusBadRequest)
	}
	done := s.put(u.attrs, u.query, u.bytes)
	u.done, u.bytes = &done, nil
	return done
}

func (s *server) put(a attrs, q url.Values, content []byte) response {
	if bad := s.unmet(a.Name, q); bad != 0 {
		return failure(bad)
	}
	s.clock++
	o := object{slices.Clip(content), a, s.clock}
	s.objects[a.Name] = o
	return jsonResponse(o.resource())
}

func (o object) time() time.Time { return time.Unix(o.generation, 0).UTC() }

// resource is an object as the JSON API describes it.
func (o object) resource() any {
	sum := md5.Sum(o.bytes)
	return struct {
		attrs
		Generation     int64     `json:"generation,string"`
		Metageneration int64     `json:"metageneration,string"`
		Size           int       `json:"size,string"`
		MD5            []byte    `json:"md5Hash"`
		Etag           string    `json:"etag"`
		Created        time.Time `json:"timeCreated"`
		Updated        time.Time `json:"updated"`
	}{o.attrs, o.generation, 1, len(o.bytes), sum[:], fmt.Sprintf("e%d", o.generation), o.time(), o.time()}
}

func (o object) answer(r *http.Request) response {
	h := http.Header{
		"Content-Type":          {o.attrs.ContentType},
		"Last-Modified":         {o.time().Format(http.TimeFormat)},
		"X-Goog-Generation":     {strconv.FormatInt(o.generation, 10)},
		"X-Goog-Metageneration": {"1"},
	}
	for k, v := range o.attrs.Metadata {
		h.Set("X-Goog-Meta-"+k, v)
	}
	size := len(o.bytes)
	asked := r.Header.Get("Range")
	if asked == "" {
		return response{http.StatusOK, h, o.bytes}
	}
	first, last := 0, size-1
	if n, _ := fmt.Sscanf(asked, "bytes=%d-%d", &first, &last); n == 0 || first >= size {
		return failure(http.StatusRequestedRangeNotSatisfiable)
	}
	last = min(last, size-1)
	h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, size))
	return response{http.StatusPartialContent, h, o.bytes[first : last+1]}
}

// list answers with one page; a token is the last name, or prefix, of the page
// before.
func (s *server) list(prefix, delimiter, token string) response {
	var page struct {
		Items         []any    `json:"items,omitempty"`
		Prefixes      []string `json:"prefixes,omitempty"`
		NextPageToken string   `json:"nextPageToken,omitempty"`
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
		if len(page.Items)+len(page.Prefixes) == pageSize {
			page.NextPageToken = last
			break
		}
		last = name
		if isDir {
			page.Prefixes = append(page.Prefixes, name)
		} else {
			page.Items = append(page.Items, s.objects[key].resource())
		}
	}
	return jsonResponse(page)
}
