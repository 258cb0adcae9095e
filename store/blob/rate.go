package blob

import (
	"context"
	"io"

	"golang.org/x/time/rate"
)

// rateBurst is how much may be sent at once after a pause, and the most that is
// waited for in one piece.
const rateBurst = 64 << 10

// limited returns a writer to w that keeps to the Store's rate. Waiting ends with
// ctx, which is the caller's, and with uploading, which ends when the other side of
// the upload has.
func (s *Store) limited(ctx, uploading context.Context, w io.Writer) io.Writer {
	if s.rate == nil {
		return w
	}
	return &limitedWriter{ctx, uploading, w, s.rate}
}

type limitedWriter struct {
	ctx, uploading context.Context
	w              io.Writer
	rate           *rate.Limiter
}

func (l *limitedWriter) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		part := p[:min(len(p), rateBurst)]
		if err := l.wait(len(part)); err != nil {
			return n, err
		}
		k, err := l.w.Write(part)
		if n += k; err != nil {
			return n, err
		}
		p = p[k:]
	}
	return n, nil
}

func (l *limitedWriter) wait(n int) error {
	switch err := l.rate.WaitN(l.uploading, n); {
	case err == nil:
		return nil
	case l.ctx.Err() != nil:
		return l.ctx.Err()
	case l.uploading.Err() != nil:
		return errStopped
	}
	// The turn would come after the deadline, which rate says in words of its own.
	return context.DeadlineExceeded
}
