package dirblob

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strings"
	"syscall"

	"gocloud.dev/blob/driver"
)

// defaultPageSize is large because every page reads its directory anew.
const defaultPageSize = 10_000

// ListPaged reads one directory if there is a delimiter, else the tree. A page
// token is the last key of the page before, so that objects that come and go
// between pages are neither repeated nor the cause of a gap.
func (b *bucket) ListPaged(ctx context.Context, o *driver.ListOptions) (*driver.ListPage, error) {
	if o.Delimiter != "" && o.Delimiter != "/" {
		return nil, errUnsupported
	}
	if o.BeforeList != nil {
		if err := o.BeforeList(func(any) bool { return false }); err != nil {
			return nil, err
		}
	}
	l := &lister{
		b:      b,
		ctx:    ctx,
		prefix: o.Prefix,
		after:  string(o.PageToken),
		flat:   o.Delimiter == "/",
		size:   cmp.Or(o.PageSize, defaultPageSize),
		page:   &driver.ListPage{},
	}
	dir, _ := path.Split(o.Prefix)
	if dir != "" && checkKey(strings.TrimSuffix(dir, "/")) != nil {
		return l.page, nil
	}
	if err := l.walk(dir); err != nil && !errors.Is(err, errFull) {
		return nil, err
	}
	return l.page, nil
}

// errFull ends a walk whose page is full.
var errFull = errors.New("page full")

type lister struct {
	b      *bucket
	ctx    context.Context // of the one ListPaged
	prefix string
	after  string
	flat   bool
	size   int
	page   *driver.ListPage
}

// walk lists what is below dir, which is "" or ends in "/", in the order of the
// keys: a directory sorts as its name with the "/".
func (l *lister) walk(dir string) error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	entries, err := l.read(dir)
	if err != nil {
		return err
	}
	var keys []string
	for _, e := range entries {
		key := dir + e.Name()
		if checkKey(e.Name()) != nil {
			continue // a name of ours, or nobody's
		}
		switch {
		case e.IsDir():
			key += "/"
			// Whatever is below it sorts with it.
			if key <= l.after && (l.flat || !strings.HasPrefix(l.after, key)) {
				continue
			}
			if !strings.HasPrefix(key, l.prefix) && !strings.HasPrefix(l.prefix, key) {
				continue
			}
		case key <= l.after || !strings.HasPrefix(key, l.prefix):
			continue
		}
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		isDir := strings.HasSuffix(key, "/")
		if isDir && !l.flat {
			if err := l.walk(key); err != nil {
				return err
			}
			continue
		}
		if err := l.add(key, isDir); err != nil {
			return err
		}
	}
	return nil
}

func (l *lister) read(dir string) (entries []fs.DirEntry, err error) {
	f, err := l.b.fsys.OpenDir(cmp.Or(strings.TrimSuffix(dir, "/"), "."))
	if err == nil {
		entries, err = f.ReadDir(-1)
		err = errors.Join(err, f.Close())
	}
	if dir != "" && (errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR)) {
		return nil, nil // nothing has that prefix
	}
	return entries, err
}

// add adds an object or a directory to the page. What is no object, or has gone
// meanwhile, is left out.
func (l *lister) add(key string, isDir bool) error {
	o := &driver.ListObject{Key: key, IsDir: isDir}
	if !isDir {
		fi, err := l.b.stat(key)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		o.Size, o.ModTime, o.AsFunc = fi.Size(), changed(fi), asInfo(l.b.info(key, fi))
	}
	if n := len(l.page.Objects); n == l.size {
		l.page.NextPageToken = []byte(l.page.Objects[n-1].Key)
		return errFull
	}
	l.page.Objects = append(l.page.Objects, o)
	return nil
}
