package blob

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"iter"
	"strings"

	gcblob "gocloud.dev/blob"

	"github.com/rollout-sync/rollout/store"
)

// List asks for the keys directly below dir, 1000 in a request. Objects and
// directories are listed in the order of their keys, which is not that of their
// names ("a-b.jsonl.zst" comes before "a/"); so it stops early only where no
// later key can have a name that belongs in front, and holds the entries of one
// level, or twice o.Limit; unordered it holds none. Keys that are not those of a log are left out. An
// entry's Size is -1 if the log is sealed, and its ModTime is not known;
// ChangeTime is when the object was stored.
func (s *Store) List(ctx context.Context, dir string, o store.ListOptions) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		var found iter.Seq2[store.Entry, error]
		if o.Unordered {
			found = s.level(ctx, dir, store.ListOptions{})
		} else {
			found = store.Ordered(o, s.level(ctx, dir, o))
		}
		for e, err := range found {
			if !yield(e, store.Wrap("list", dir, err)) {
				return
			}
		}
	}
}

// level yields all that List may have to, in the order of the keys.
func (s *Store) level(ctx context.Context, dir string, o store.ListOptions) iter.Seq2[store.Entry, error] {
	return func(yield func(store.Entry, error) bool) {
		prefix := ""
		if dir != "." {
			if err := store.CheckName(dir); err != nil {
				yield(store.Entry{}, err)
				return
			}
			prefix = dir + "/"
		}
		if s.closed.Load() {
			yield(store.Entry{}, fs.ErrClosed)
			return
		}
		bound := o.Before          // no name from here on is wanted
		first := map[string]bool{} // the o.Limit first names, to lower the bound
		limit := o.Limit > 0 && !o.Desc
		objects := s.bucket.List(&gcblob.ListOptions{Prefix: prefix, Delimiter: "/"})
		for {
			if err := ctx.Err(); err != nil {
				yield(store.Entry{}, err)
				return
			}
			object, err := objects.Next(ctx)
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				yield(store.Entry{}, s.errorOf(ctx, err, store.ErrChanged))
				return
			}
			if bound != "" && settled(bound, object.Key) {
				return
			}
			e, ok := s.entry(object)
			if !ok {
				continue
			}
			if limit && (o.Before == "" || e.Name < o.Before) && len(first) < o.Limit {
				first[e.Name] = true
				if len(first) == o.Limit {
					bound = ""
					for name := range first {
						bound = max(bound, name)
					}
				}
			}
			if !yield(e, nil) {
				return
			}
		}
	}
}

// settled reports whether every key from key on has a name that is not less than
// bound. A name is its key, or its key without a "/" or ".zst" at the end: where
// that puts it before bound it is a prefix of bound.
func settled(bound, key string) bool {
	if key < bound {
		return false
	}
	for i := 1; i < len(bound); i++ {
		name := bound[:i]
		if name+"/" >= key || isSealed(name) && name+sealedExt >= key {
			return false
		}
	}
	return true
}

// entry returns what a listed object is to callers. A key that ends in ".jsonl"
// is nobody's: that log is the object with ".zst".
func (s *Store) entry(o *gcblob.ListObject) (store.Entry, bool) {
	if o.IsDir {
		name := strings.TrimSuffix(o.Key, "/")
		return store.Entry{Name: name, Dir: true}, store.CheckName(name) == nil
	}
	if isSealed(o.Key) {
		return store.Entry{}, false
	}
	e := store.Entry{Name: o.Key, Info: store.Info{
		Size:       o.Size,
		Stored:     o.Size,
		Seekable:   true,
		ChangeTime: o.ModTime,
		Version:    s.service.listed(o),
	}}
	if isStoredForm(o.Key) {
		e.Name = strings.TrimSuffix(o.Key, sealedExt)
		e.Info.Size, e.Info.Seekable = -1, false
	}
	return e, store.CheckName(e.Name) == nil
}
