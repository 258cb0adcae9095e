// Package blob keeps sealed logs in an object store: S3, GCS, Azure, a directory
// or memory, through gocloud.dev/blob.
//
// # Objects
//
// The log "a/b.jsonl" is the object "a/b.jsonl.zst": the sealed container of
// package codec, which stands on its own and which zstd, jq and DuckDB read.
// Every other name is an object of that key, byte for byte; so "a/b.jsonl.zst"
// names the stored bytes of "a/b.jsonl". Metadata repeat what the container
// says (sha256, size, mtime, and lines if they were known before the upload), so
// that Open needs one request; if they contradict it the object is ErrCorrupt.
// The metadatum put is a random number of the one Put or Seal that made the
// object.
//
// # Guarantees
//
// Those of package store for a write-once store. The service makes objects
// durable and atomic; this package makes sure that it is never asked to commit
// a part: an upload whose source fails, changes or is cancelled ends with a
// cancelled context before the driver sees the failure, because a driver's Close
// would publish what it has. Conditions are the service's own (Service), checked
// where the object is published.
//
// A lost acknowledgement is recognised: after an upload that failed in a way that
// may hide a success, the object's metadata are read, and the put number tells
// whether it is ours. The same bytes under another number are another writer's,
// and ErrChanged; so of several writers of one name exactly one succeeds, even if
// they write the same.
//
// # Requests
//
// Where nothing has to be tried again:
//
//	Open     1 for an object with our metadata, else 1 more for its end; 1 more
//	         where the service's reply lacks the version
//	Range    0 inside the first 32 KiB of the object, else 1; and 1 for each File
//	         in which a Range did not begin at 0, for the seek table
//	List     1 for each 1000 keys directly below the directory
//	Put      1 for less than 8 MiB, else 2 and 1 for each 8 MiB; 1 more where the
//	         driver does not pass on the new version, and after a failure that may
//	         hide a success
//	Create   1
//	Seal     as Put, without the version
//	Remove   2; at S3 3
//
// # Retries
//
// The service's client tries a request again, one request at a time, so that a
// large upload goes on with the part that failed. This package adds no try of its
// own: it only asks what became of an upload. As the URLOpeners of the packages
// below set it:
//
//	                   S3                 GCS                Azure (its SDK's own)
//	tries at most      5                  5                  4
//	pauses at most     2, 4, 8, 16 s      1, 2, 4, 8 s       1, 3.1, 7.3 s
//	                                      (uploads a tenth)
//	of random length   from 0             from 0             from 0.6 of that
//	no reply           after 2 minutes    after 2 minutes    the context's to end
//	a reply cut short  the reader's error resumed, at most   the reader's error
//	                                      5 times in a row
//	                                      without a byte
//	tried again        a connection refused or broken, no reply in time, too many
//	                   requests, 5xx; and at S3 a small upload that met another of
//	                   the same key (409)
//	never              not found, not permitted, a condition that does not hold,
//	                   and all else that is the request's fault
//
// A connection that is broken may count for less than a try, since net/http asks
// once more by itself where it had been idle. Pauses, like everything else, end
// with the context. A reply to a read of which no byte comes for 2 minutes is
// os.ErrDeadlineExceeded. A connection to S3 or GCS that stops for so long in the
// middle of a request, or of any other reply, is broken, and counts as a try; so
// everything there ends even without a deadline. What must end at Azure needs one: a
// server that stops in the middle of taking an upload, or of telling a listing, is
// given up by the system's TCP alone.
//
// The error at the end is that of the last try. That of an upload is
// store.ErrChanged if another's object is there, and nil if its own is.
//
// # Memory
//
// A Put or Seal holds a frame of 4 MiB and its compressed form, and up to 8 MiB of the
// stored form, or what the driver buffers of one that is larger: at most 32 MiB for
// objects up to 70 GiB. Uploads wait for each other when they would buffer more than
// 40 MiB together, so one large one runs at a time, beside small ones. A Put of a
// store.BytesBody of up to 8 MiB holds its stored form alone; at most 12 MiB of buffers
// for it are kept for the next, or 20 MiB where contents do not compress.
package blob

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"sync/atomic"

	gcblob "gocloud.dev/blob"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/rollout-sync/rollout/store"
)

const (
	logExt    = ".jsonl"
	sealedExt = ".zst"
)

// Options changes what New returns. The zero value is usable.
type Options struct {
	// Service says how the bucket's service is asked for what gocloud leaves out.
	Service Service
	// SpoolDir is where a Log from Create gathers its sealed bytes until Seal; ""
	// is os.TempDir().
	SpoolDir string
	// UploadRate bounds how many stored bytes a second the uploads of the Store send
	// together; 0 or less is no limit. In any span of time they take at most
	// UploadRate times its length, and 64 KiB, from what is to be stored. Of an
	// object of several parts the driver gathers one, of 8 MiB as a rule, before it
	// sends it as fast as the network goes, so a meter on the wire sees the rate as a
	// mean over parts. Not counted is what the service's client sends again, and all
	// else that is not the content of an object. Waiting ends with the context: at
	// once where its deadline comes before the turn.
	UploadRate int64
}

// Store is a store.Source, Sink, Putter and Remover over a bucket. It is safe for
// concurrent use, also by several processes where the Service is conditional.
type Store struct {
	bucket   *gcblob.Bucket
	service  Service
	spoolDir string
	buffers  *semaphore.Weighted // bytes that uploads may buffer
	rate     *rate.Limiter       // bytes that uploads may send; nil: any
	locks    keyLocks            // of a SingleWriter
	closed   atomic.Bool
}

var (
	_ store.Source  = (*Store)(nil)
	_ store.Sink    = (*Store)(nil)
	_ store.Putter  = (*Store)(nil)
	_ store.Remover = (*Store)(nil)
)

// New returns a Store of what is in bucket, which belongs to it from then on. It
// makes no request. A nil o is the zero Options.
func New(bucket *gcblob.Bucket, o *Options) *Store {
	if o == nil {
		o = &Options{}
	}
	s := &Store{
		bucket:   bucket,
		service:  o.Service,
		spoolDir: o.SpoolDir,
		buffers:  semaphore.NewWeighted(maxBuffers),
	}
	if o.UploadRate > 0 {
		s.rate = rate.NewLimiter(rate.Limit(o.UploadRate), rateBurst)
	}
	return s
}

// Close releases the bucket. Logs and Files must be closed before; every later
// call returns fs.ErrClosed.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return fs.ErrClosed
	}
	return s.bucket.Close()
}

// check is what every operation on a name begins with.
func (s *Store) check(ctx context.Context, name string) error {
	if err := store.CheckName(name); err != nil {
		return err
	}
	if s.closed.Load() {
		return fs.ErrClosed
	}
	return ctx.Err()
}

// isSealed reports whether the log is held as a sealed container.
func isSealed(name string) bool { return strings.HasSuffix(name, logExt) }

// isStoredForm reports whether the name means the stored bytes of another log,
// whose metadata are then about other bytes than these.
func isStoredForm(name string) bool { return strings.HasSuffix(name, logExt+sealedExt) }

func keyOf(name string) string {
	if isSealed(name) {
		return name + sealedExt
	}
	return name
}

// Append returns errors.ErrUnsupported: objects do not grow.
func (s *Store) Append(ctx context.Context, name string) (store.Log, error) {
	err := s.check(ctx, name)
	if err == nil {
		err = errors.ErrUnsupported
	}
	return nil, store.Wrap("append", name, err)
}

// Remove deletes the log if it is still that version. The version is compared
// first, and again by the service as it deletes; S3-compatible servers that do
// not know conditional deletes ignore the latter, which leaves a window of one
// round trip. A Service that cannot replace conditionally removes nothing:
// errors.ErrUnsupported.
func (s *Store) Remove(ctx context.Context, name, version string) error {
	err := s.check(ctx, name)
	if err == nil {
		err = s.remove(ctx, keyOf(name), version)
	}
	return store.Wrap("remove", name, err)
}

func (s *Store) remove(ctx context.Context, key, version string) error {
	if !s.service.SingleWriter && s.service.Remove == nil {
		return errors.ErrUnsupported
	}
	if s.service.SingleWriter {
		unlock, err := s.locks.lock(ctx, key)
		if err != nil {
			return err
		}
		defer unlock()
	}
	a, err := s.bucket.Attributes(ctx, key)
	if err != nil {
		return s.errorOf(ctx, err, store.ErrChanged)
	}
	if s.service.version(a) != version {
		return store.ErrChanged
	}
	o := &gcblob.DeleteOptions{}
	if !s.service.SingleWriter {
		o.BeforeDelete = func(as func(any) bool) error { return s.service.Remove(as, version) }
	}
	err = s.errorOf(ctx, s.bucket.DeleteWithOptions(ctx, key, o), store.ErrChanged)
	if errors.Is(err, fs.ErrNotExist) {
		// It was there: the client lost an acknowledgement and asked again, or
		// somebody else removed it. It is gone, as asked.
		return nil
	}
	return err
}
