package blob_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	gcblob "gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/gcerrors"

	"github.com/rollout-sync/rollout/store/blob"
)

// A fake is an object store such as S3 is to gocloud: conditions, metadata with
// every reply, and a driver whose Close publishes whatever it was given. It
// counts requests, and faults can be put in front of and behind each.
type fake struct {
	mu      sync.Mutex
	objects map[string]fakeObject
	clock   int
	calls   []string

	// before runs instead of the request if it returns an error; after runs when
	// the request has had its effect, and its error is what the client sees.
	before, after func(op, key string) error
	// deaf is a server that does not know conditions.
	deaf bool
	// short, if not nil, ends every reply to a read of more than 32 KiB early, in
	// this way.
	short error
	// stalled is a server whose replies to reads have no byte until the client goes.
	stalled bool
	// mute is a service whose replies to reads have no version.
	mute bool
	// written is called with what each upload asked for.
	written func(*driver.WriterOptions)
	// sent is called with how much of an upload has come, and its error ends it.
	sent func(n int) error
}

type fakeObject struct {
	bytes       []byte
	meta        map[string]string
	contentType string
	version     int
}

var errUnmet = errors.New("412")

// coded is an error to which the driver gives a code.
type coded struct {
	gcerrors.ErrorCode
	error
}

func (e coded) Unwrap() error { return e.error }

func newFake() *fake { return &fake{objects: map[string]fakeObject{}} }

func (f *fake) open() *gcblob.Bucket { return gcblob.NewBucket(f) }

func (f *fake) store(t *testing.T) *blob.Store { return newStore(t, f.open(), fakeService()) }

// call begins a request.
func (f *fake) call(ctx context.Context, op, key string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	f.mu.Lock()
	f.calls = append(f.calls, op)
	before := f.before
	f.mu.Unlock()
	if before != nil {
		return before(op, key)
	}
	return nil
}

func (f *fake) called(op, key string) error {
	if f.after != nil {
		return f.after(op, key)
	}
	return nil
}

// take returns the requests made since the last take.
func (f *fake) take() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := strings.Join(f.calls, " ")
	f.calls = nil
	return calls
}

// put plants an object behind the store's back.
func (f *fake) put(key string, p []byte, meta map[string]string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.clock++
	f.objects[key] = fakeObject{bytes: p, meta: meta, version: f.clock}
}

func (f *fake) get(key string) (fakeObject, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o, ok := f.objects[key]
	return o, ok
}

func (f *fake) keys() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Sorted(maps.Keys(f.objects))
}

func (o fakeObject) time() time.Time { return time.Unix(int64(o.version), 0) }
func (o fakeObject) etag() string    { return fmt.Sprintf("v%d", o.version) }

func (f *fake) ErrorCode(err error) gcerrors.ErrorCode {
	if c, ok := errors.AsType[coded](err); ok {
		return c.ErrorCode
	}
	if errors.Is(err, errUnmet) {
		return gcerrors.FailedPrecondition
	}
	return gcerrors.Unknown
}

var errNotThere = coded{gcerrors.NotFound, errors.New("404")}

func (f *fake) As(any) bool             { return false }
func (f *fake) ErrorAs(error, any) bool { return false }
func (f *fake) Close() error            { return nil }

func (f *fake) Attributes(ctx context.Context, key string) (*driver.Attributes, error) {
	if err := f.call(ctx, "head", key); err != nil {
		return nil, err
	}
	o, ok := f.get(key)
	if !ok {
		return nil, errNotThere
	}
	return &driver.Attributes{
		ContentType: o.contentType,
		Metadata:    o.meta,
		ModTime:     o.time(),
		Size:        int64(len(o.bytes)),
		ETag:        o.etag(),
	}, f.called("head", key)
}

type stalledReader struct{ ctx context.Context }

func (r stalledReader) Read([]byte) (int, error) {
	<-r.ctx.Done()
	return 0, r.ctx.Err()
}

type fakeReader struct {
	io.Reader
	o    fakeObject
	mute bool
}

func (r *fakeReader) Close() error { return nil }

func (r *fakeReader) Attributes() *driver.ReaderAttributes {
	return &driver.ReaderAttributes{ContentType: "x/y", ModTime: r.o.time(), Size: int64(len(r.o.bytes))}
}

func (r *fakeReader) As(i any) bool {
	p, ok := i.(*fakeObject)
	if ok {
		*p = r.o
	}
	return ok && !r.mute
}

func (f *fake) NewRangeReader(ctx context.Context, key string, off, n int64, _ *driver.ReaderOptions) (driver.Reader, error) {
	if err := f.call(ctx, "get", key); err != nil {
		return nil, err
	}
	o, ok := f.get(key)
	if !ok {
		return nil, errNotThere
	}
	size := int64(len(o.bytes))
	if off >= size {
		return nil, coded{gcerrors.InvalidArgument, errors.New("416")}
	}
	if n < 0 {
		n = size
	}
	p := bytes.NewReader(o.bytes[off:min(off+n, size)])
	var r io.Reader = p
	if f.short != nil && p.Len() > 32<<10 {
		r = &failingReader{io.LimitReader(p, 32<<10), f.short}
	}
	if f.stalled {
		r = stalledReader{ctx}
	}
	return &fakeReader{r, o, f.mute}, f.called("get", key)
}

func (f *fake) ListPaged(ctx context.Context, o *driver.ListOptions) (*driver.ListPage, error) {
	if err := f.call(ctx, "list", o.Prefix); err != nil {
		return nil, err
	}
	const pageSize = 10
	page := &driver.ListPage{}
	seen := ""
	for _, key := range f.keys() {
		if !strings.HasPrefix(key, o.Prefix) {
			continue
		}
		object := &driver.ListObject{Key: key}
		if i := strings.Index(key[len(o.Prefix):], o.Delimiter); o.Delimiter != "" && i >= 0 {
			object.Key, object.IsDir = key[:len(o.Prefix)+i+1], true
		} else {
			got, _ := f.get(key)
			object.Size, object.ModTime = int64(len(got.bytes)), got.time()
			object.AsFunc = (&fakeReader{o: got}).As
		}
		if object.Key == seen || object.Key <= string(o.PageToken) {
			continue
		}
		seen = object.Key
		if len(page.Objects) == pageSize {
			page.NextPageToken = []byte(page.Objects[pageSize-1].Key)
			break
		}
		page.Objects = append(page.Objects, object)
	}
	return page, nil
}

// fakeCond is what hooks set.
type fakeCond struct{ version, written string }

type fakeWriter struct {
	bytes.Buffer
	f           *fake
	ctx         context.Context
	key         string
	contentType string
	o           *driver.WriterOptions
	cond        *fakeCond
	err         error // that of sent
}

func (f *fake) NewTypedWriter(ctx context.Context, key, contentType string, o *driver.WriterOptions) (driver.Writer, error) {
	w := &fakeWriter{f: f, ctx: ctx, key: key, contentType: contentType, o: o, cond: &fakeCond{}}
	if f.written != nil {
		f.written(o)
	}
	if o.BeforeWrite != nil {
		if err := o.BeforeWrite(asCond(w.cond)); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func asCond(c *fakeCond) func(any) bool {
	return func(i any) bool {
		p, ok := i.(**fakeCond)
		if ok {
			*p = c
		}
		return ok
	}
}

func (w *fakeWriter) Write(p []byte) (int, error) {
	if w.f.sent != nil && w.err == nil {
		w.err = w.f.sent(w.Len() + len(p))
	}
	if w.err != nil {
		return 0, w.err
	}
	return w.Buffer.Write(p)
}

// Close publishes unless the context has ended: gocloud asks for no more, and
// calls it also when the reader of an Upload has failed.
func (w *fakeWriter) Close() error {
	if w.err != nil {
		return w.err
	}
	if err := w.f.call(w.ctx, "put", w.key); err != nil {
		return err
	}
	w.f.mu.Lock()
	old, taken := w.f.objects[w.key]
	if !w.f.deaf && (w.o.IfNotExist && taken || w.cond.version != "" && (!taken || old.etag() != w.cond.version)) {
		w.f.mu.Unlock()
		return errUnmet
	}
	w.f.clock++
	o := fakeObject{bytes: w.Bytes(), meta: w.o.Metadata, contentType: w.contentType, version: w.f.clock}
	w.f.objects[w.key] = o
	w.f.mu.Unlock()
	w.cond.written = o.etag()
	return w.f.called("put", w.key)
}

func (f *fake) Delete(ctx context.Context, key string, o *driver.DeleteOptions) error {
	cond := &fakeCond{}
	if o.BeforeDelete != nil {
		if err := o.BeforeDelete(asCond(cond)); err != nil {
			return err
		}
	}
	if err := f.call(ctx, "delete", key); err != nil {
		return err
	}
	f.mu.Lock()
	old, ok := f.objects[key]
	switch {
	case !ok:
		f.mu.Unlock()
		return errNotThere
	case !f.deaf && cond.version != "" && cond.version != old.etag():
		f.mu.Unlock()
		return errUnmet
	}
	delete(f.objects, key)
	f.mu.Unlock()
	return f.called("delete", key)
}

func (f *fake) Copy(context.Context, string, string, *driver.CopyOptions) error {
	panic("no server-side copy")
}

func (f *fake) SignedURL(context.Context, string, *driver.SignedURLOptions) (string, error) {
	panic("no signed URLs")
}

func fakeService() blob.Service {
	return blob.Service{
		Reader: func(r *gcblob.Reader) (blob.Object, bool) {
			var o fakeObject
			if !r.As(&o) {
				return blob.Object{}, false
			}
			return blob.Object{Version: o.etag(), Meta: o.meta}, true
		},
		Listed: func(l *gcblob.ListObject) string {
			var o fakeObject
			l.As(&o)
			return o.etag()
		},
		Write: func(_ *gcblob.Bucket, as func(any) bool, w blob.Write) (func() string, error) {
			var c *fakeCond
			as(&c)
			c.version = w.IfVersion
			return func() string { return c.written }, nil
		},
		Remove: func(as func(any) bool, version string) error {
			var c *fakeCond
			as(&c)
			c.version = version
			return nil
		},
	}
}
