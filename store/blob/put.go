package blob

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"strconv"
	"time"

	gcblob "gocloud.dev/blob"
	"gocloud.dev/gcerrors"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/internal/spare"
	"github.com/rollout-sync/rollout/store"
)

// Metadata of an object, beside store.MetaSHA256 and MetaLines. Azure wants them to be
// identifiers.
const (
	metaSize    = "size"
	metaModTime = "mtime" // RFC 3339, nanoseconds, UTC
	metaPut     = "put"   // of the Put or Seal that made it
)

const (
	// S3 takes no more than 10,000 parts, and an upload of unknown length only
	// finds out at the end; that leaves room for what does not compress.
	minPart  = 8 << 20
	maxParts = 9000
	// The S3 driver, the greediest, holds two parts more than it sends at a time.
	concurrency = 2
	heldParts   = concurrency + 2
	maxBuffers  = 40 << 20

	// wholeMax is the most plain bytes that are sealed in memory before they are
	// sent, and the most stored bytes that are: what S3 gets in one request. A larger
	// one would be refused, if its condition does not hold, by servers that break the
	// connection meanwhile, for which it would be sent again (versitygw 1.8).
	wholeMax = minPart

	// lookTime bounds the look at an object after an upload.
	lookTime = 30 * time.Second
)

// Put stores b sealed, or as it is if the name does not end in ".jsonl". It
// streams, and reads b once; the service's client retries parts by itself. Of a
// store.BytesBody up to 8 MiB the stored form is made in memory instead, which costs
// less than half of what a stream does beside the compression. A put
// whose acknowledgement was lost is recognised and nil. The metadata that only
// the whole body would tell (lines) are left out.
func (s *Store) Put(ctx context.Context, name string, b store.Body, c store.Cond) (string, error) {
	var stored int64
	version, err := s.put(ctx, name, b, c, &stored)
	if err == nil && b.Stored != nil {
		b.Stored(stored)
	}
	return version, store.Wrap("put", name, err)
}

func (s *Store) put(ctx context.Context, name string, b store.Body, c store.Cond, stored *int64) (string, error) {
	if err := s.check(ctx, name); err != nil {
		return "", err
	}
	if err := c.Check(); err != nil {
		return "", err
	}
	if b.ModTime.IsZero() {
		b.ModTime = time.Now()
	}
	u := upload{
		name:   name,
		cond:   c,
		id:     rand.Text(),
		size:   b.Size,
		tell:   true,
		meta:   metadata(codec.Trailer{Size: b.Size, SHA256: b.SHA256, ModTime: b.ModTime}),
		stored: stored,
	}
	if b.Size <= wholeMax && s.rate == nil { // who limits the rate has no use for speed
		r, err := b.Open()
		if err != nil {
			return "", err
		}
		defer r.Close()
		if p, sum, ok := store.Whole(r); ok {
			if int64(len(p)) != b.Size || sum != b.SHA256 {
				return "", errHash
			}
			return s.putWhole(ctx, u, p, sum, b.ModTime)
		}
		b.Open = func() (io.ReadCloser, error) { return openReader{r}, nil }
	}
	u.fill = func(w io.Writer) error { return fill(ctx, name, &countingWriter{w, stored}, b) }
	return s.upload(ctx, u)
}

// An openReader is closed by who opened it.
type openReader struct{ io.Reader }

func (openReader) Close() error  { return nil }
func (r openReader) Unwrap() any { return r.Reader }

var errHash = fmt.Errorf("%w: the source's hash is not the one it had", store.ErrChanged)

// storedForms are buffers for the stored form of what is put whole: few need more than
// half as much as is plain.
var storedForms = spare.NewBuffers(4, 2, wholeMax/2)

// putWhole makes the object of p, whose hash is sum.
func (s *Store) putWhole(ctx context.Context, u upload, p []byte, sum [32]byte, modTime time.Time) (string, error) {
	if u.content = p; !isSealed(u.name) {
		*u.stored = int64(len(p))
		return s.upload(ctx, u)
	}
	need := u.size // about, of what does not compress
	if err := s.buffers.Acquire(ctx, need); err != nil {
		return "", err
	}
	defer s.buffers.Release(need)
	var err error
	if u.content, err = codec.Seal(storedForms.Get(len(p)), p, sum, modTime); err != nil {
		return "", err
	}
	*u.stored = int64(len(u.content))
	version, err := s.upload(ctx, u)
	if err == nil { // or a client may be reading it still
		storedForms.Put(u.content)
	}
	return version, err
}

// metadata returns what an object's metadata repeat. Lines that are not known
// are 0, as are those of an empty log, which therefore go unsaid.
func metadata(t codec.Trailer) map[string]string {
	m := map[string]string{
		store.MetaSHA256: hex.EncodeToString(t.SHA256[:]),
		metaSize:         strconv.FormatInt(t.Size, 10),
		metaModTime:      t.ModTime.UTC().Format(time.RFC3339Nano),
	}
	if t.Lines > 0 {
		m[store.MetaLines] = strconv.FormatInt(t.Lines, 10)
	}
	return m
}

// fill writes the stored form of b. That b is what it promises is seen at the end, before
// the upload is completed, by the sealer's hash, unless b sees to it by itself: one more,
// as Body.Reader has, would take a fifth of the time that the compression takes.
func fill(ctx context.Context, name string, w io.Writer, b store.Body) (err error) {
	r, err := b.Open()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	z := newSealer(name, w, b.ModTime)
	if s, ok := z.(*codec.Sealer); ok && store.Checked(r) {
		s.SetSum(b.SHA256)
	}
	n, err := io.Copy(z, io.LimitReader(&contextReader{ctx, r}, b.Size+1))
	if err != nil {
		return err
	}
	if n != b.Size {
		return fmt.Errorf("%w: the source has not the %d bytes that it had", store.ErrChanged, b.Size)
	}
	if err := z.Close(); err != nil {
		return err
	}
	if z.Trailer().SHA256 != b.SHA256 {
		return errHash
	}
	return nil
}

// An upload is one object to be made.
type upload struct {
	name string
	cond store.Cond
	id   string // random, to know the object by
	size int64  // at least what will be stored, about
	tell bool   // the version is wanted, if it costs a request
	meta map[string]string
	fill func(io.Writer) error // writes the stored bytes; nil: they are content

	content []byte
	stored  *int64 // of a Put: becomes the object's length
}

// A countingWriter counts what is written.
type countingWriter struct {
	w io.Writer
	n *int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	*c.n += int64(n)
	return n, err
}

// errStopped is what the other side of an upload sees when one side has failed;
// never the failure itself, since a driver may take an error that wraps io.EOF
// for the end (azblob does).
var errStopped = errors.New("upload stopped")

// upload makes the object, under its condition, and returns its version.
func (s *Store) upload(ctx context.Context, u upload) (version string, err error) {
	if u.cond.IfVersion != "" && !s.service.conditional() {
		return "", errors.ErrUnsupported
	}
	key := keyOf(u.name)
	unlock := func() {}
	defer func() { unlock() }()
	var fillErr error
	if u.fill != nil {
		need := min(2*u.size, heldParts*u.part(), maxBuffers)
		if err := s.buffers.Acquire(ctx, need); err != nil {
			return "", err
		}
		defer s.buffers.Release(need)
		version, unlock, fillErr, err = s.stream(ctx, key, u)
	} else {
		if s.service.SingleWriter {
			if unlock, err = s.hold(ctx, key, u.cond); err != nil {
				return "", err
			}
		}
		version, err = s.send(ctx, key, u, nil)
	}
	switch {
	case fillErr != nil && !errors.Is(fillErr, errStopped):
		return "", fillErr
	case err == nil && fillErr != nil:
		return "", fmt.Errorf("%w before its end, and the service calls it complete", errStopped)
	case fillErr != nil:
		return "", s.refusal(ctx, u, err) // nothing was committed
	case err != nil:
		return s.settle(ctx, key, u, err)
	}
	if version == "" && u.tell {
		return s.stored(ctx, key, u.id)
	}
	return version, nil
}

// part is how large the parts of an upload of unknown length are.
func (u *upload) part() int64 { return max(minPart, u.size/maxParts+1) }

// send makes the object of what r reads, of u.content if that is nil. It returns its
// version if the service told it.
func (s *Store) send(ctx context.Context, key string, u upload, r io.Reader) (string, error) {
	meta := maps.Clone(u.meta)
	if isStoredForm(u.name) {
		// Whoever opens the log without ".zst" would take these for its own.
		meta = map[string]string{metaModTime: meta[metaModTime]}
	}
	meta[metaPut] = u.id
	o := &gcblob.WriterOptions{
		BufferSize:     int(u.part()),
		MaxConcurrency: concurrency,
		ContentType:    contentType(key),
		Metadata:       meta,
		IfNotExist:     u.cond.IfAbsent,
	}
	w := Write{IfVersion: u.cond.IfVersion, PartSize: u.part(), Concurrency: concurrency}
	if s.service.SingleWriter {
		w.IfVersion = ""
	}
	if r == nil {
		content := bytes.NewReader(u.content)
		r = content
		w.Take = func() []byte {
			content.Reset(nil)
			return u.content
		}
	}
	var version func() string
	if s.service.Write != nil {
		o.BeforeWrite = func(as func(any) bool) (err error) {
			version, err = s.service.Write(s.bucket, as, w)
			return err
		}
	}
	// Upload, because a NewWriter of azblob panics when its upload fails.
	if err := s.bucket.Upload(ctx, key, r, o); err != nil || version == nil {
		return "", err
	}
	return version(), nil
}

// stream makes the object of what u.fill writes, and returns what that failed with and
// what the upload did. Up to wholeMax stored bytes are gathered and sent as a whole,
// which takes less time and memory than parts do; but not where the rate is limited.
func (s *Store) stream(ctx context.Context, key string, u upload) (version string, unlock func(), fillErr, err error) {
	// A context to cancel, because Upload goes on to Close, and so to publish what
	// it has, after the reader has failed (memblob, gcsblob).
	uploading, cancel := context.WithCancel(ctx)
	defer cancel()
	pr, pw := io.Pipe()
	var sent chan error // what came of the upload, if it has begun
	begin := func(head []byte) io.Writer {
		sent = make(chan error, 1)
		r := io.MultiReader(bytes.NewReader(head), pr)
		go func() {
			var err error
			version, err = s.send(uploading, key, u, r)
			pr.CloseWithError(errStopped)
			cancel() // who waits for the rate
			sent <- err
		}()
		return s.limited(ctx, uploading, pw)
	}
	w := &headWriter{then: begin}
	if s.rate == nil {
		const frames = 4 << 10 // what a stored form has beside what cannot be compressed
		w.head = make([]byte, 0, min(u.size+frames, wholeMax))
	}
	fillErr = u.fill(w)
	if unlock = func() {}; fillErr == nil && s.service.SingleWriter {
		unlock, fillErr = s.hold(ctx, key, u.cond)
	}
	switch {
	case sent == nil && fillErr == nil:
		u.content = w.head
		version, err = s.send(ctx, key, u, nil)
		return version, unlock, nil, err
	case sent == nil:
		return "", unlock, fillErr, nil
	case fillErr != nil:
		cancel()
		pw.CloseWithError(errStopped)
	default:
		pw.Close()
	}
	err = <-sent // and version
	return version, unlock, fillErr, err
}

// A headWriter keeps what it has room for, and what is more goes to another writer.
type headWriter struct {
	head []byte
	then func(head []byte) io.Writer // called once, with what was kept
	w    io.Writer                   // that it returned
}

func (w *headWriter) Write(p []byte) (int, error) {
	if w.w == nil && len(p) <= cap(w.head)-len(w.head) {
		w.head = append(w.head, p...)
		return len(p), nil
	}
	if w.w == nil {
		w.w = w.then(w.head)
		w.head = nil
	}
	return w.w.Write(p)
}

// settle finds out what became of an upload that was sent whole and ended with
// err. The context may be done; the answer is wanted all the same.
func (s *Store) settle(ctx context.Context, key string, u upload, err error) (string, error) {
	code, _ := s.code(err)
	switch code {
	case gcerrors.PermissionDenied, gcerrors.NotFound, gcerrors.InvalidArgument, gcerrors.Unimplemented:
		return "", s.refusal(ctx, u, err)
	}
	a, lookErr := s.look(ctx, key)
	switch {
	case lookErr != nil || a.Metadata[metaPut] == "":
	case a.Metadata[metaPut] == u.id:
		return s.service.version(a), nil
	case u.cond.IfAbsent && ctx.Err() == nil:
		return "", store.ErrChanged // the refusal came as a broken connection
	}
	return "", s.refusal(ctx, u, err)
}

// refusal is what an upload that did not happen returns. S3 says of a version that
// is to be replaced and is not there at all that it was not found.
func (s *Store) refusal(ctx context.Context, u upload, err error) error {
	err = s.errorOf(ctx, err, store.ErrChanged)
	if u.cond.IfVersion != "" && err == fs.ErrNotExist {
		return store.ErrChanged
	}
	return err
}

// stored returns the version of the object that the put of that id has made, ""
// if the service does not say.
func (s *Store) stored(ctx context.Context, key, id string) (string, error) {
	a, err := s.look(ctx, key)
	if err != nil {
		return "", nil
	}
	if got := a.Metadata[metaPut]; got != "" && got != id {
		return "", fmt.Errorf("%w: replaced right after it was stored", store.ErrChanged)
	}
	return s.service.version(a), nil
}

// look asks for an object's attributes, also when ctx is done.
func (s *Store) look(ctx context.Context, key string) (*gcblob.Attributes, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), lookTime)
	defer cancel()
	return s.bucket.Attributes(ctx, key)
}

// hold compares the object with c and keeps every other writer of this Store away
// until unlock.
func (s *Store) hold(ctx context.Context, key string, c store.Cond) (unlock func(), err error) {
	unlock, err = s.locks.lock(ctx, key)
	if err != nil {
		return func() {}, err
	}
	a, err := s.bucket.Attributes(ctx, key)
	if err != nil {
		err = s.errorOf(ctx, err, store.ErrChanged)
	}
	switch {
	case errors.Is(err, fs.ErrNotExist) && c.IfAbsent:
		return unlock, nil
	case errors.Is(err, fs.ErrNotExist):
		err = store.ErrChanged
	case err == nil && (c.IfAbsent || s.service.version(a) != c.IfVersion):
		err = store.ErrChanged
	}
	if err != nil {
		unlock()
		return func() {}, err
	}
	return unlock, nil
}

// contentType returns the type that an object of this key gets. gocloud would
// look into the bytes.
func contentType(key string) string {
	switch path.Ext(key) {
	case sealedExt:
		return "application/zstd"
	case ".json":
		return "application/json"
	}
	return "application/octet-stream"
}
