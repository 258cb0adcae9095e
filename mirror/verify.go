package mirror

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"path"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
)

// Verifying says what a Verify looks at.
type Verifying struct {
	Mirror store.Source
	// Home, if set, is compared with the mirror.
	Home store.Source
	// Deep reads and decodes every byte. Otherwise an object's trailer, seek table
	// and metadata are held against each other, and of a lineage and of a home's
	// rollout only the lengths against the mirror's.
	Deep bool
	// Jobs is how many objects are looked at at a time; 0 is 1.
	Jobs int
	// Each, if set, is called with each object and each rollout of the home, in no
	// particular order, one at a time.
	Each func(Finding)
}

// Finding is what Verify says of one object, or of one rollout of the home.
type Finding struct {
	Name string
	Size int64 // plain bytes
	// Pending is true of a rollout of the home of which the mirror does not have
	// all bytes: it was not pushed yet, or what was pushed is damaged.
	Pending bool
	// Err is what is wrong: store.ErrCorrupt for what does not match its hash,
	// ErrLineage for a rollout that begins with what the mirror does not have.
	Err error
}

// Verification sums up a Verify.
type Verification struct {
	Objects    int
	Bytes      int64 // plain bytes of the objects
	Children   int   // objects that begin with another rollout by reference
	Compared   int   // rollouts of the home
	Pending    int
	Damaged    []Finding // what is not what was written
	Incomplete []Finding // what begins with something that is not there
	Failures   []Finding // what could not be looked at
}

// Verify holds every object of a mirror against its own hash, what rollouts begin
// with against the mirror, and a home against it. One bad object does not keep it
// from the others; the error is of what kept it from going on. Pushes may go on
// meanwhile.
func Verify(ctx context.Context, o Verifying) (Verification, error) {
	v := &verifier{
		Verifying: o,
		lineage:   newLineage(o.Mirror, NewFacts(o.Mirror)),
		forgotten: sync.OnceValues(func() (map[string]bool, error) { return forgotten(ctx, o.Mirror) }),
	}
	err := v.run(ctx)
	return v.result, err
}

type verifier struct {
	Verifying
	lineage   *lineage
	forgotten func() (map[string]bool, error)

	mu     sync.Mutex // guards what follows
	result Verification
}

func (v *verifier) run(ctx context.Context) error {
	if err := Check(ctx, v.Mirror); err != nil {
		return err
	}
	err := v.all(ctx, walk(ctx, v.Mirror, store.ListOptions{Unordered: true}, sessionsDir, archivedDir, divergedDir, historyDir, originsDir),
		func(ctx context.Context, name string) (f Finding, ok bool) {
			f.Name = name
			var check func(context.Context, string) (int64, error)
			switch {
			case strings.HasSuffix(name, logSuffix):
				check = v.object
			case strings.HasSuffix(name, foreignSuffix):
				check = v.foreign
			default:
				return f, false // not ours
			}
			f.Size, f.Err = check(ctx, name)
			if errors.Is(f.Err, store.ErrCorrupt) { // the object, or what came of it this time
				f.Size, f.Err = check(ctx, name)
			}
			v.mu.Lock()
			defer v.mu.Unlock()
			v.result.Objects++
			v.result.Bytes += f.Size
			return f, true
		})
	if err != nil || v.Home == nil {
		return err
	}
	return v.all(ctx, walk(ctx, v.Home, store.ListOptions{}, sessionsDir, archivedDir),
		func(ctx context.Context, name string) (Finding, bool) {
			n, err := codec.ParseName(path.Base(name))
			if err != nil || !strings.HasSuffix(name, logSuffix) {
				return Finding{}, false
			}
			f := v.local(ctx, name, n)
			if f.Pending && f.Err == nil {
				// What was forgotten is not wanted there.
				ids, err := v.forgotten()
				f.Pending, f.Err = !isForgotten(ids, n), err
			}
			v.mu.Lock()
			defer v.mu.Unlock()
			v.result.Compared++
			if f.Pending {
				v.result.Pending++
			}
			return f, true
		})
}

// all looks at logs, Jobs at a time.
func (v *verifier) all(ctx context.Context, logs iter.Seq2[store.Entry, error], look func(context.Context, string) (Finding, bool)) error {
	jobs, running := errgroup.WithContext(ctx)
	jobs.SetLimit(max(v.Jobs, 1))
	var failed error
	for e, err := range logs {
		if failed = err; err != nil || running.Err() != nil {
			break
		}
		jobs.Go(func() error {
			f, ok := look(running, e.Name)
			if err := running.Err(); err != nil {
				return err
			}
			if ok {
				v.found(f)
			}
			return nil
		})
	}
	return cmp.Or(failed, jobs.Wait())
}

func (v *verifier) found(f Finding) {
	v.mu.Lock()
	defer v.mu.Unlock()
	switch {
	case errors.Is(f.Err, store.ErrCorrupt):
		v.result.Damaged = append(v.result.Damaged, f)
	case errors.Is(f.Err, ErrLineage):
		v.result.Incomplete = append(v.result.Incomplete, f)
	case f.Err != nil:
		v.result.Failures = append(v.result.Failures, f)
	}
	if v.Each != nil {
		v.Each(f)
	}
}

// object checks a sealed log and what it begins with, and returns its plain size.
func (v *verifier) object(ctx context.Context, key string) (size int64, err error) {
	// A push may replace it between two requests.
	const attempts = 3
	for range attempts {
		size, err = v.version(ctx, key)
		if !errors.Is(err, store.ErrChanged) && !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return size, err
}

func (v *verifier) version(ctx context.Context, key string) (int64, error) {
	trailer, err := v.trailer(ctx, key)
	if err != nil {
		return 0, err
	}
	hash := fmt.Sprintf("%x", trailer.SHA256)
	if said := strings.TrimSuffix(path.Base(key), logSuffix); strings.HasPrefix(key, historyDir+"/") && said != hash {
		return trailer.Size, damaged(key, "its name says hash %.12s…, its trailer %.12s…", said, hash)
	}
	f, err := v.Mirror.Open(ctx, key)
	if err != nil {
		return trailer.Size, err
	}
	defer f.Close()
	if err := agree(key, f.Info(), trailer); err != nil {
		// Unless it was replaced between the two requests, they contradict each other.
		if again, e := v.trailer(ctx, key); e == nil && again.SHA256 != trailer.SHA256 {
			err = store.ErrChanged
		}
		return trailer.Size, err
	}
	return trailer.Size, v.begins(ctx, key, f)
}

// begins checks that the mirror has what a version begins with.
func (v *verifier) begins(ctx context.Context, key string, f store.File) error {
	if strings.HasPrefix(key, originsDir+"/") {
		return nil
	}
	n, err := codec.ParseName(path.Base(keyOf(key)))
	if err != nil {
		return nil // it lies elsewhere than it would as ours
	}
	pin, ok, err := v.lineage.pin(ctx, n, f)
	if errors.Is(err, errNoMeta) || err == nil && !ok {
		return nil
	}
	if err != nil {
		return err
	}
	v.mu.Lock()
	v.result.Children++
	v.mu.Unlock()
	if !v.Deep {
		pin.SHA256 = "" // else its parent would have to be read
	}
	if _, err := v.lineage.version(ctx, pin); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return nil
}

// agree compares what the store says of an object with the object's own trailer.
func agree(key string, i store.Info, t codec.Trailer) error {
	if i.Size != t.Size {
		return damaged(key, "its metadata say %d bytes, its trailer %d", i.Size, t.Size)
	}
	hash := fmt.Sprintf("%x", t.SHA256)
	if said := i.Meta[store.MetaSHA256]; said != hash {
		return damaged(key, "its metadata say hash %.12s…, its trailer %.12s…", said, hash)
	}
	return nil
}

func damaged(name, format string, args ...any) error {
	return fmt.Errorf("%s: %w: %s", name, store.ErrCorrupt, fmt.Sprintf(format, args...))
}

// trailer returns the trailer of a sealed log after checking it against the seek
// table, or, deep, against everything.
func (v *verifier) trailer(ctx context.Context, key string) (codec.Trailer, error) {
	f, err := v.Mirror.Open(ctx, strings.TrimSuffix(key, logSuffix)+sealedSuffix)
	if err != nil {
		return codec.Trailer{}, err
	}
	defer f.Close()
	trailer, err := v.readTrailer(ctx, f)
	switch {
	case errors.Is(err, codec.ErrForeign):
		err = damaged(key, "byte %d: it ends without a trailer", f.Info().Stored)
	case errors.Is(err, codec.ErrCorrupt):
		err = fmt.Errorf("%s: %w: %w", key, store.ErrCorrupt, err)
	}
	return trailer, err
}

func (v *verifier) readTrailer(ctx context.Context, f store.File) (codec.Trailer, error) {
	if !v.Deep {
		return codec.OpenSealed(f.Range, f.Info().Stored).Trailer(ctx)
	}
	r, err := f.Range(ctx, 0, -1)
	if err != nil {
		return codec.Trailer{}, err
	}
	trailer, err := codec.VerifySealed(r)
	return trailer, errors.Join(err, r.Close())
}

// foreign checks bytes that are no version but were kept: their name has their
// hash.
func (v *verifier) foreign(ctx context.Context, key string) (int64, error) {
	f, err := v.Mirror.Open(ctx, key)
	if err != nil {
		return 0, err
	}
	defer f.Close()
	size := f.Info().Stored
	if !v.Deep {
		return size, nil
	}
	src := &source{f: f}
	if err := src.read(ctx, 0); err != nil {
		return size, err
	}
	if said := strings.TrimSuffix(path.Base(key), foreignSuffix); said != src.version.hash() {
		return size, damaged(key, "its name says hash %.12s…, its bytes have %.12s…", said, src.version.hash())
	}
	return size, nil
}

// local compares a rollout of the home with the mirror. What differs is pending:
// the home is not held to the mirror, it may have grown or been rewritten.
func (v *verifier) local(ctx context.Context, file string, n codec.Name) Finding {
	out := Finding{Name: file}
	f, err := v.Home.Open(ctx, file)
	if err != nil {
		out.Err = err
		return out
	}
	defer f.Close()
	src := &source{f: f}
	out.Size = f.Info().Size
	if v.Deep || out.Size < 0 {
		if out.Err = src.read(ctx, 0); out.Err != nil {
			return out
		}
		out.Size = src.version.Size
	}
	out.Pending, out.Err = v.pending(ctx, Key(n, file), src, out.Size)
	return out
}

// pending reports whether none of the versions at key has the bytes of src.
func (v *verifier) pending(ctx context.Context, key string, src *source, size int64) (bool, error) {
	for e, err := range versions(ctx, v.Mirror, key) {
		if err != nil {
			return false, err
		}
		has, err := v.has(ctx, e.Name, src, size)
		if has || err != nil {
			return false, err
		}
	}
	return true, nil
}

// has reports whether a version in the mirror begins with the bytes of src.
func (v *verifier) has(ctx context.Context, key string, src *source, size int64) (bool, error) {
	f, err := v.Mirror.Open(ctx, key)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, store.ErrCorrupt) {
		return false, nil // the objects were looked at before
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	i := f.Info()
	switch {
	case i.Size < size || i.Meta[store.MetaSHA256] == "":
		return false, nil
	case !v.Deep:
		return true, nil
	case i.Size == size:
		return i.Meta[store.MetaSHA256] == src.version.hash(), nil
	}
	r, err := f.Range(ctx, 0, size)
	if err != nil {
		return false, err
	}
	h := sha256.New()
	if err := copyAll(h, r); err != nil {
		return false, err
	}
	return [32]byte(h.Sum(nil)) == src.version.SHA256, nil
}
