package dirblob

import (
	"context"
	"errors"
	"io"
	"time"

	"gocloud.dev/blob/driver"

	"github.com/rollout-sync/rollout/store/internal/vfs"
)

func (b *bucket) NewTypedWriter(ctx context.Context, key, _ string, o *driver.WriterOptions) (driver.Writer, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	w := &writer{b: b, ctx: ctx, key: key, ifNotExist: o.IfNotExist}
	// A time that is none is as good as no time: now.
	w.modTime, _ = time.Parse(time.RFC3339Nano, o.Metadata[metaModTime])
	if o.BeforeWrite != nil {
		as := func(i any) bool {
			p, ok := i.(**Write)
			if ok {
				*p = &w.pending
			}
			return ok
		}
		if err := o.BeforeWrite(as); err != nil {
			return nil, err
		}
	}
	return w, nil
}

// A writer makes one object.
type writer struct {
	b          *bucket
	ctx        context.Context // of the one NewTypedWriter
	key        string
	modTime    time.Time
	ifNotExist bool
	pending    Write

	pipe *io.PipeWriter // of Write; nil before the first
	done chan struct{}  // closed when err is final; nil before Write or Upload
	err  error
}

// Write hands p to the goroutine that makes the object.
func (w *writer) Write(p []byte) (int, error) {
	w.start()
	return w.pipe.Write(p)
}

func (w *writer) start() {
	if w.done != nil {
		return
	}
	r, pipe := io.Pipe()
	w.pipe, w.done = pipe, make(chan struct{})
	go func() {
		defer close(w.done)
		w.err = w.make(r)
		r.CloseWithError(w.err)
	}()
}

// Upload makes the object from r, which must end with io.EOF itself; any other
// error leaves no object. Close returns the error: gocloud does not look into
// those of Upload.
func (w *writer) Upload(r io.Reader) error {
	w.done = make(chan struct{})
	defer close(w.done)
	w.err = w.make(r)
	return nil
}

// Close waits until the object is there, durably, or is not.
func (w *writer) Close() error {
	w.start() // of an object without bytes
	if w.pipe != nil {
		w.pipe.Close()
	}
	<-w.done
	return w.err
}

// make writes the file and gives it its name if the context and the condition
// allow it.
func (w *writer) make(r io.Reader) (err error) {
	var unlock func() error
	defer func() {
		if unlock != nil {
			err = errors.Join(err, unlock())
		}
	}()
	fill := func(dst io.Writer) error {
		_, err := io.Copy(dst, r)
		return err
	}
	publish := func(temp, name string) (err error) {
		if unlock, err = w.b.lock(w.ctx); err != nil {
			return err
		}
		if w.ifNotExist {
			return w.b.fsys.Link(temp, name)
		}
		if version := w.pending.IfVersion; version != "" {
			if err := w.b.compare(name, version); err != nil {
				return err
			}
		}
		return w.b.fsys.Rename(temp, name)
	}
	if err := w.ctx.Err(); err != nil {
		return err
	}
	if err := vfs.WriteFile(w.b.fsys, w.key, w.modTime, fill, publish); err != nil {
		return err
	}
	// Link and the removal of the temporary name change the ctime, so only now.
	if fi, err := w.b.stat(w.key); err == nil {
		w.pending.Version = w.b.fsys.Version(w.key, fi)
	}
	return nil
}
