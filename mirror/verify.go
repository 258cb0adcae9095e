package mirror

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"strings"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
)

// Verifying says what a Verify looks at.
type Verifying struct {
	Mirror store.Source
	// Home, if set, is compared with the mirror.
	Home store.Source
	// Deep reads and decodes every byte. Otherwise an object's trailer, seek table
	// and metadata are held against each other, and a home's rollout against the
	// size of the mirror's.
	Deep bool
	// Each, if set, is called with each object and each rollout of the home, from
	// one goroutine.
	Each func(Finding)
}

// Finding is what Verify says of one object, or of one rollout of the home.
type Finding struct {
	Name string
	Size int64 // plain bytes
	// Pending is true of a rollout of the home of which the mirror does not have
	// all bytes: it was not pushed yet, or what was pushed is damaged.
	Pending bool
	// Err is what is wrong: store.ErrCorrupt for what does not match its hash.
	Err error
}

// Verification sums up a Verify.
type Verification struct {
	Objects  int
	Bytes    int64 // plain bytes of the objects
	Compared int   // rollouts of the home
	Pending  int
	Damaged  []Finding // what is not what was written
	Failures []Finding // what could not be looked at
}

// Verify holds every object of a mirror against its own hash, and a home against
// the mirror. One bad object does not keep it from the others; the error is of
// what kept it from going on.
func Verify(ctx context.Context, o Verifying) (Verification, error) {
	v := &verifier{Verifying: o}
	err := v.run(ctx)
	return v.result, err
}

type verifier struct {
	Verifying
	result Verification
}

func (v *verifier) run(ctx context.Context) error {
	if err := Check(ctx, v.Mirror); err != nil {
		return err
	}
	for e, err := range walk(ctx, v.Mirror, store.ListOptions{Unordered: true}, sessionsDir, archivedDir, divergedDir, historyDir, originsDir) {
		if err != nil {
			return err
		}
		f := Finding{Name: e.Name}
		switch {
		case strings.HasSuffix(e.Name, logSuffix):
			f.Size, f.Err = v.object(ctx, e.Name)
		case strings.HasSuffix(e.Name, foreignSuffix):
			f.Size, f.Err = v.foreign(ctx, e.Name)
		default:
			continue // not ours
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		v.result.Objects++
		v.result.Bytes += f.Size
		v.found(f)
	}
	if v.Home == nil {
		return nil
	}
	for r, err := range rollouts(ctx, v.Home, sessionsDir, archivedDir) {
		if err != nil {
			return err
		}
		f := v.local(ctx, r)
		if err := ctx.Err(); err != nil {
			return err
		}
		v.result.Compared++
		if f.Pending {
			v.result.Pending++
		}
		v.found(f)
	}
	return nil
}

func (v *verifier) found(f Finding) {
	switch {
	case errors.Is(f.Err, store.ErrCorrupt):
		v.result.Damaged = append(v.result.Damaged, f)
	case f.Err != nil:
		v.result.Failures = append(v.result.Failures, f)
	}
	if v.Each != nil {
		v.Each(f)
	}
}

// object checks a sealed log and returns its plain size.
func (v *verifier) object(ctx context.Context, key string) (int64, error) {
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
	return trailer.Size, agree(key, f.Info(), trailer)
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
func (v *verifier) local(ctx context.Context, r found) Finding {
	out := Finding{Name: r.Path}
	f, err := v.Home.Open(ctx, r.Path)
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
	out.Pending, out.Err = v.pending(ctx, Key(r.Name, r.Path), src, out.Size)
	return out
}

// pending reports whether none of the versions at key has the bytes of src.
func (v *verifier) pending(ctx context.Context, key string, src *source, size int64) (bool, error) {
	for _, dir := range []string{path.Dir(key), divergedDir + "/" + strings.TrimSuffix(key, logSuffix), historyDir + "/" + strings.TrimSuffix(key, logSuffix)} {
		for e, err := range v.Mirror.List(ctx, dir, store.ListOptions{}) {
			if errors.Is(err, fs.ErrNotExist) {
				break
			}
			if err != nil {
				return false, err
			}
			if e.Dir || dir == path.Dir(key) && e.Name != key || !strings.HasSuffix(e.Name, logSuffix) {
				continue
			}
			has, err := v.has(ctx, e.Name, src, size)
			if has || err != nil {
				return false, err
			}
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
