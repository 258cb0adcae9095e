// Package dirblob makes a directory a bucket of gocloud.dev/blob that is as
// durable and as atomic as a local store; gocloud's own fileblob is neither.
//
// # URLs
//
// URLOpener opens "file:///abs/dir", with "?create_dir=true" to create what is
// missing. A prefix ("?prefix=team/") is what gocloud's URLMux makes of it.
//
// # Files
//
// An object is a file of its key, of mode 0600 in directories of mode 0700, and
// nothing else: no sidecar. So of an object's metadata only mtime (RFC 3339) is
// kept, as the file's modification time, and whatever is to stand on its own has
// to say the rest itself, as sealed logs do. The elements of a key are names by
// store.CheckName, apart from a ".zst" at the end. Those that begin with a dot are the driver's own, for the lock and for
// temporary files, and are neither listed nor reachable; symbolic links and
// other special files are no objects. Nothing outside the directory is reached.
// A directory stays when its last object goes, and is listed; List with a
// delimiter other than "/" is not supported, and neither are Copy and SignedURL.
//
// # Guarantees
//
// An object is written to a temporary file beside it, synced, and given its name:
// by link(2) if it must not exist, which no second process can do too, else by
// rename(2); then the directory is synced. A crash leaves the old object or the
// new one, and at worst a hidden temporary file. Readers see one of both, and one
// who has it open reads it to the end. Conditions on a version hold between all
// processes that use this package: they are compared under an OS lock (flock,
// LockFileEx) of the file ".lock". A version is the file's size, times and inode.
// Not promised: network file systems.
//
// # As
//
//   - Reader, Attributes, ListObject: *Info
//   - WriterOptions.BeforeWrite: **Write
//   - DeleteOptions.BeforeDelete: **Delete
package dirblob

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	gcblob "gocloud.dev/blob"
	"gocloud.dev/blob/driver"
	"gocloud.dev/gcerrors"

	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/internal/vfs"
)

// Scheme is the URL scheme that URLOpener is for.
const Scheme = "file"

const (
	createParam = "create_dir"
	metaModTime = "mtime"
	lockName    = ".lock"
	// lockPoll is how often a lock that another process holds is tried again; it
	// holds it for a rename and the sync of a directory.
	lockPoll = 2 * time.Millisecond
)

// Options changes what OpenBucket does. The zero value is usable.
type Options struct {
	// Create makes the directory, and those above it, if it is missing.
	Create bool
}

// OpenBucket returns the directory dir as a bucket. If it is missing the error is
// fs.ErrNotExist unless o says to create it. A nil o is the zero Options.
func OpenBucket(dir string, o *Options) (*gcblob.Bucket, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if o != nil && o.Create {
		if err := mkdirAll(dir); err != nil {
			return nil, err
		}
	}
	root, err := vfs.OpenOS(dir)
	if err != nil {
		return nil, err
	}
	return gcblob.NewBucket(newBucket(root, root.Close)), nil
}

// mkdirAll makes dir durably.
func mkdirAll(dir string) error {
	if fi, err := os.Stat(dir); err == nil && fi.IsDir() {
		return nil
	}
	parent, name := filepath.Split(dir)
	parent = filepath.Clean(parent)
	if parent != dir {
		if err := mkdirAll(parent); err != nil {
			return err
		}
	}
	root, err := vfs.OpenOS(parent)
	if err != nil {
		return err
	}
	return errors.Join(root.MkdirAll(name), root.SyncDir("."), root.Close())
}

// URLOpener opens "file" URLs, for a gcblob.URLMux.
type URLOpener struct{}

// OpenBucketURL is OpenBucket of the URL's path.
func (URLOpener) OpenBucketURL(_ context.Context, u *url.URL) (*gcblob.Bucket, error) {
	dir, err := Path(u)
	if err != nil {
		return nil, err
	}
	var o Options
	for param, values := range u.Query() {
		if param != createParam {
			return nil, fmt.Errorf("open %s: unknown parameter %q", u.Redacted(), param)
		}
		if o.Create, err = strconv.ParseBool(values[0]); err != nil {
			return nil, fmt.Errorf("open %s: %s: %w", u.Redacted(), param, err)
		}
	}
	return OpenBucket(dir, &o)
}

// Path returns the directory that a "file" URL names.
func Path(u *url.URL) (string, error) {
	dir := u.Path
	if runtime.GOOS == "windows" {
		dir = strings.TrimPrefix(dir, "/") // of "/C:/dir"
	}
	dir = filepath.FromSlash(dir)
	if u.Host != "" || u.Opaque != "" || !filepath.IsAbs(dir) {
		return "", fmt.Errorf("open %s: a directory is file:/// and an absolute path", u.Redacted())
	}
	return dir, nil
}

// Info is what the driver knows of an object beyond gocloud's attributes.
type Info struct {
	Version string    // differs whenever the file does
	ModTime time.Time // the file's mtime; gocloud's ModTime is the ctime, where there is one
}

// Write is a write about to begin; BeforeWrite may set IfVersion.
type Write struct {
	IfVersion string // if not "": only in place of this version
	Version   string // set by a Close that succeeded: the new one
}

// Delete is a deletion about to begin; BeforeDelete may set IfVersion.
type Delete struct {
	IfVersion string
}

// bucket implements driver.Bucket.
type bucket struct {
	fsys  vfs.FS
	close func() error
	turn  chan struct{} // holds one token: whose turn it is in this process
}

func newBucket(fsys vfs.FS, close func() error) *bucket {
	b := &bucket{fsys: fsys, close: close, turn: make(chan struct{}, 1)}
	b.turn <- struct{}{}
	return b
}

func (b *bucket) Close() error { return b.close() }

var (
	errUnsupported = errors.New("dirblob does not do that")
	errUnmet       = errors.New("the object is not the version that was asked for")
)

func (b *bucket) ErrorCode(err error) gcerrors.ErrorCode {
	switch {
	case errors.Is(err, errUnmet), errors.Is(err, fs.ErrExist):
		return gcerrors.FailedPrecondition
	case errors.Is(err, fs.ErrNotExist):
		return gcerrors.NotFound
	case errors.Is(err, fs.ErrPermission):
		return gcerrors.PermissionDenied
	case errors.Is(err, store.ErrInvalidName):
		return gcerrors.InvalidArgument
	case errors.Is(err, errUnsupported):
		return gcerrors.Unimplemented
	}
	return gcerrors.Unknown
}

func (b *bucket) As(any) bool                   { return false }
func (b *bucket) ErrorAs(err error, i any) bool { return errors.As(err, i) }

func (b *bucket) Copy(context.Context, string, string, *driver.CopyOptions) error {
	return errUnsupported
}

func (b *bucket) SignedURL(context.Context, string, *driver.SignedURLOptions) (string, error) {
	return "", errUnsupported
}

// lock keeps all other writers, of this process and of others, away until unlock.
// It fails if the context is done.
func (b *bucket) lock(ctx context.Context) (unlock func() error, err error) {
	select {
	case <-b.turn:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	l, err := b.waitLock(ctx)
	if err != nil {
		b.turn <- struct{}{}
		return nil, err
	}
	return func() error {
		err := l.Close()
		b.turn <- struct{}{}
		return err
	}, nil
}

// waitLock takes the lock between processes.
func (b *bucket) waitLock(ctx context.Context) (io.Closer, error) {
	poll := time.NewTicker(lockPoll)
	defer poll.Stop()
	for {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		l, err := b.fsys.Lock(lockName)
		if !errors.Is(err, vfs.ErrLocked) {
			return l, err
		}
		select {
		case <-poll.C:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// checkKey returns an error unless each element of key is a name, or one with
// ".zst": a log's object may have a name as long as a name can be, and all keys
// may have a prefix.
func checkKey(key string) error {
	for element := range strings.SplitSeq(key, "/") {
		if err := store.CheckName(element); err != nil && store.CheckName(strings.TrimSuffix(element, ".zst")) != nil {
			return err
		}
	}
	return nil
}

// stat describes an object; whatever else may lie under the name is not there.
func (b *bucket) stat(key string) (fs.FileInfo, error) {
	if err := checkKey(key); err != nil {
		return nil, err
	}
	fi, err := b.fsys.Lstat(key)
	if errors.Is(err, syscall.ENOTDIR) || err == nil && !fi.Mode().IsRegular() {
		return nil, fs.ErrNotExist
	}
	return fi, err
}

// compare returns errUnmet unless the object is that version.
func (b *bucket) compare(key, version string) error {
	fi, err := b.stat(key)
	if errors.Is(err, fs.ErrNotExist) || err == nil && b.fsys.Version(key, fi) != version {
		return errUnmet
	}
	return err
}

func (b *bucket) info(key string, fi fs.FileInfo) Info {
	return Info{Version: b.fsys.Version(key, fi), ModTime: fi.ModTime()}
}

// asInfo is the As of all that has an Info.
func asInfo(info Info) func(any) bool {
	return func(i any) bool {
		p, ok := i.(*Info)
		if ok {
			*p = info
		}
		return ok
	}
}

// changed is gocloud's ModTime: when the object became what it is.
func changed(fi fs.FileInfo) time.Time {
	if t := vfs.ChangeTime(fi); !t.IsZero() {
		return t
	}
	return fi.ModTime()
}

func contentType(key string) string {
	if path.Ext(key) == ".zst" {
		return "application/zstd"
	}
	return "application/octet-stream"
}

func (b *bucket) Attributes(ctx context.Context, key string) (*driver.Attributes, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	fi, err := b.stat(key)
	if err != nil {
		return nil, err
	}
	info := b.info(key, fi)
	return &driver.Attributes{
		ContentType: contentType(key),
		Metadata:    map[string]string{metaModTime: info.ModTime.UTC().Format(time.RFC3339Nano)},
		ModTime:     changed(fi),
		Size:        fi.Size(),
		ETag:        strconv.Quote(info.Version),
		AsFunc:      asInfo(info),
	}, nil
}

func (b *bucket) NewRangeReader(ctx context.Context, key string, offset, length int64, o *driver.ReaderOptions) (driver.Reader, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if _, err := b.stat(key); err != nil { // before Open, which may wait for a pipe
		return nil, err
	}
	if o.BeforeRead != nil {
		if err := o.BeforeRead(func(any) bool { return false }); err != nil {
			return nil, err
		}
	}
	f, err := b.fsys.Open(key)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	offset = min(offset, fi.Size())
	if length < 0 || length > fi.Size()-offset {
		length = fi.Size() - offset
	}
	return &reader{
		Reader: io.NewSectionReader(f, offset, length),
		ctx:    ctx,
		file:   f,
		attrs:  driver.ReaderAttributes{ContentType: contentType(key), ModTime: changed(fi), Size: fi.Size()},
		as:     asInfo(b.info(key, fi)),
	}, nil
}

type reader struct {
	io.Reader
	ctx   context.Context // of the one NewRangeReader
	file  vfs.File
	attrs driver.ReaderAttributes
	as    func(any) bool
}

func (r *reader) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.Reader.Read(p)
}

func (r *reader) Close() error                         { return r.file.Close() }
func (r *reader) Attributes() *driver.ReaderAttributes { return &r.attrs }
func (r *reader) As(i any) bool                        { return r.as(i) }

func (b *bucket) Delete(ctx context.Context, key string, o *driver.DeleteOptions) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	if _, err := b.stat(key); err != nil {
		return err
	}
	d := &Delete{}
	if o.BeforeDelete != nil {
		as := func(i any) bool {
			p, ok := i.(**Delete)
			if ok {
				*p = d
			}
			return ok
		}
		if err := o.BeforeDelete(as); err != nil {
			return err
		}
	}
	unlock, err := b.lock(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if d.IfVersion != "" {
		if err := b.compare(key, d.IfVersion); err != nil {
			return err
		}
	}
	if err := b.fsys.Remove(key); err != nil {
		return err
	}
	return b.fsys.SyncDir(path.Dir(key))
}
