package azure_test

import (
	"cmp"
	"encoding/xml"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A server is as much of Azure Blob Storage as package blob uses: block blobs of
// one container, conditions, ranges, metadata, listings. What it answers follows
// the REST reference, version 2026-06-06.
type server struct {
	*httptest.Server
	mu       sync.Mutex
	blobs    map[string]*object
	blocks   map[string][]byte
	clock    int
	requests []string
	refuse   int // status of every reply, if not 0
}

type object struct {
	bytes  []byte
	header http.Header // content type and metadata
	etag   string
	time   time.Time
}

const container = "cont"

func newServer(t *testing.T) *server {
	s := &server{blobs: map[string]*object{}, blocks: map[string][]byte{}}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	return s
}

// take returns the requests since the last take.
func (s *server) take() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	got := strings.Join(s.requests, " ")
	s.requests = nil
	return got
}

func fail(w http.ResponseWriter, status int, code string) {
	w.Header().Set("x-ms-error-code", code)
	w.WriteHeader(status)
}

func (s *server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	q := r.URL.Query()
	s.requests = append(s.requests, strings.TrimSuffix(r.Method+":"+q.Get("comp"), ":"))
	if s.refuse != 0 {
		fail(w, s.refuse, "AuthorizationFailure")
		return
	}
	key, isBlob := strings.CutPrefix(r.URL.Path, "/"+container+"/")
	if !isBlob {
		s.list(w, q.Get("prefix"), q.Get("delimiter"))
		return
	}
	blob, there := s.blobs[key]
	if r.Method == http.MethodPut && q.Get("comp") == "block" {
		s.blocks[q.Get("blockid")] = body
		w.WriteHeader(http.StatusCreated)
		return
	}
	if r.Method != http.MethodPut && !there {
		fail(w, http.StatusNotFound, "BlobNotFound")
		return
	}
	if match := r.Header.Get("If-Match"); match != "" && (!there || match != blob.etag) {
		fail(w, http.StatusPreconditionFailed, "ConditionNotMet")
		return
	}
	if r.Header.Get("If-None-Match") == "*" && there {
		fail(w, http.StatusConflict, "BlobAlreadyExists")
		return
	}
	switch r.Method {
	case http.MethodPut:
		s.put(w, r, key, body)
	case http.MethodDelete:
		delete(s.blobs, key)
		w.WriteHeader(http.StatusAccepted)
	default:
		blob.serve(w, r)
	}
}

func (s *server) put(w http.ResponseWriter, r *http.Request, key string, body []byte) {
	if r.URL.Query().Get("comp") == "blocklist" {
		var list struct{ Latest []string }
		if err := xml.Unmarshal(body, &list); err != nil {
			fail(w, http.StatusBadRequest, "InvalidXmlDocument")
			return
		}
		body = nil
		for _, id := range list.Latest {
			body = append(body, s.blocks[id]...)
		}
	}
	s.clock++
	blob := &object{
		bytes:  body,
		header: http.Header{"Content-Type": {r.Header.Get("x-ms-blob-content-type")}},
		etag:   fmt.Sprintf(`"0x%X"`, s.clock),
		time:   time.Unix(int64(s.clock), 0).UTC(),
	}
	for k, v := range r.Header {
		if strings.HasPrefix(strings.ToLower(k), "x-ms-meta-") {
			blob.header[k] = v
		}
	}
	s.blobs[key] = blob
	w.Header().Set("ETag", blob.etag)
	w.Header().Set("Last-Modified", blob.time.Format(http.TimeFormat))
	w.WriteHeader(http.StatusCreated)
}

func (o *object) serve(w http.ResponseWriter, r *http.Request) {
	maps.Copy(w.Header(), o.header)
	date := o.time.Format(http.TimeFormat)
	for k, v := range map[string]string{"ETag": o.etag, "Last-Modified": date, "x-ms-creation-time": date} {
		w.Header().Set(k, v)
	}
	first, last, size := 0, len(o.bytes)-1, len(o.bytes)
	status := http.StatusOK
	if asked := cmp.Or(r.Header.Get("x-ms-range"), r.Header.Get("Range")); asked != "" {
		if n, _ := fmt.Sscanf(asked, "bytes=%d-%d", &first, &last); n == 0 || first >= size {
			fail(w, http.StatusRequestedRangeNotSatisfiable, "InvalidRange")
			return
		}
		last = min(last, size-1)
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, last, size))
		status = http.StatusPartialContent
	}
	w.Header().Set("Content-Length", fmt.Sprint(last+1-first))
	w.WriteHeader(status)
	if r.Method == http.MethodGet {
		_, _ = w.Write(o.bytes[first : last+1])
	}
}

func (s *server) list(w http.ResponseWriter, prefix, delimiter string) {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="utf-8"?><EnumerationResults><Blobs>`)
	name := func(s string) {
		b.WriteString("<Name>")
		_ = xml.EscapeText(&b, []byte(s))
		b.WriteString("</Name>")
	}
	seen := ""
	for _, key := range slices.Sorted(maps.Keys(s.blobs)) {
		rest, ok := strings.CutPrefix(key, prefix)
		if !ok {
			continue
		}
		if dir, _, isDir := strings.Cut(rest, delimiter); isDir {
			if dir != seen {
				b.WriteString("<BlobPrefix>")
				name(prefix + dir + delimiter)
				b.WriteString("</BlobPrefix>")
			}
			seen = dir
			continue
		}
		blob := s.blobs[key]
		b.WriteString("<Blob>")
		name(key)
		fmt.Fprintf(&b, "<Properties><Last-Modified>%s</Last-Modified><Etag>%s</Etag><Content-Length>%d</Content-Length></Properties></Blob>",
			blob.time.Format(http.TimeFormat), strings.Trim(blob.etag, `"`), len(blob.bytes))
	}
	b.WriteString(`</Blobs><NextMarker /></EnumerationResults>`)
	w.Header().Set("Content-Type", "application/xml")
	_, _ = io.WriteString(w, b.String())
}
