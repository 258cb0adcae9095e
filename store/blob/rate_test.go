package blob_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/blob"
)

const (
	uploadRate = 1 << 20
	burst      = 64 << 10
)

// noise returns n bytes that do not compress.
func noise(n int) []byte {
	p := make([]byte, n)
	rand.NewChaCha8([32]byte{1}).Read(p)
	return p
}

// limitedStore returns a Store that takes uploadRate bytes a second. It is for use
// in a bubble, where time passes only while all wait; not for logs that are sealed,
// since the encoders are kept for others.
func limitedStore(t *testing.T, f *fake) *blob.Store {
	s := blob.New(f.open(), &blob.Options{Service: fakeService(), SpoolDir: t.TempDir(), UploadRate: uploadRate})
	t.Cleanup(func() { s.Close() })
	return s
}

// All uploads of a Store share its rate, whichever way they come.
func TestUploadRate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFake()
		s := limitedStore(t, f)
		start := time.Now()
		done := make(chan error, 3)
		content := noise(3 << 20)
		for _, name := range []string{"a.bin", "b.bin"} {
			go func() {
				_, err := s.Put(ctx, name, body(content), store.Cond{IfAbsent: true})
				done <- err
			}()
		}
		go func() {
			l, err := s.Create(ctx, "c.bin")
			if err == nil {
				err = errors.Join(l.Append(content), l.Seal(ctx), l.Close())
			}
			done <- err
		}()
		for range cap(done) {
			must(t, <-done)
		}
		var stored int
		for _, key := range f.keys() {
			o, _ := f.get(key)
			stored += len(o.bytes)
		}
		took := time.Since(start)
		least := time.Duration(stored-burst) * time.Second / uploadRate
		if most := least + 2*time.Second*burst/uploadRate; took < least || took > most {
			t.Errorf("%d bytes take %v, want %v to %v", stored, took, least, most)
		}
	})
}

// Who waits for the rate is not kept from ending: by its context, which may say
// beforehand that there is no time, or by the end of its upload. Nothing is stored.
func TestUploadRateIsCancelled(t *testing.T) {
	t.Parallel()
	failure := errors.New("the line was cut")
	for what, c := range map[string]struct {
		begin  func(context.Context) (context.Context, context.CancelFunc)
		sent   func(n int) error
		want   error
		within time.Duration
	}{
		"cancelled": {
			begin: func(ctx context.Context) (context.Context, context.CancelFunc) {
				ctx, cancel := context.WithCancel(ctx)
				time.AfterFunc(time.Millisecond, cancel)
				return ctx, cancel
			},
			want: context.Canceled, within: time.Millisecond,
		},
		"no time": {
			begin: func(ctx context.Context) (context.Context, context.CancelFunc) {
				return context.WithTimeout(ctx, time.Millisecond) // the second burst comes later
			},
			want: context.DeadlineExceeded, within: 0,
		},
		"upload failed": {
			begin: context.WithCancel,
			sent: func(n int) error {
				if n < burst {
					return nil
				}
				time.Sleep(time.Millisecond) // until the next part waits
				return failure
			},
			want: failure, within: time.Millisecond,
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				f := newFake()
				f.sent = c.sent
				s := limitedStore(t, f)
				ctx, cancel := c.begin(t.Context())
				defer cancel()
				start := time.Now()
				_, err := s.Put(ctx, "a.bin", body(noise(10<<20)), store.Cond{IfAbsent: true})
				wantErr(t, "Put", err, c.want)
				if took := time.Since(start); took > c.within {
					t.Errorf("it took %v", took)
				}
				if keys := f.keys(); len(keys) > 0 {
					t.Errorf("stored: %q", keys)
				}
			})
		})
	}
}
