// Package crashfs is a vfs.FS in memory that can lose power and fail, for tests of
// what survives. No program links it.
//
// It promises what POSIX does and no more. Sync of a file makes its bytes and its
// time durable, but not its name. SyncDir makes the names in a directory durable:
// neither the bytes behind them nor the name of the directory. Everything else may
// or may not be on the disk after a loss of power, in any combination: each change
// of a file's bytes or time, and each name that was made or removed; a rename is
// two of them. After a Sync that failed, what it should have written is lost, as
// on Linux: it can still be read, but no later Sync brings it to the disk.
package crashfs

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rollout-sync/rollout/store/internal/vfs"
)

// Op is an operation on the file system.
type Op struct {
	N    int    // how many were before it
	Kind string // the method, in lower case; Close of a lock is "unlock"
	Name string
	// Write is true of an operation on a file that was opened for writing, and of
	// one that changes names.
	Write bool
}

func (o Op) String() string { return fmt.Sprintf("%d %s %s", o.N, o.Kind, o.Name) }

// A Fault is how an operation fails.
type Fault struct {
	// Err is what the operation returns. nil is a write that is short and does not
	// say so.
	Err error
	// Done is true if it has its effect all the same. Else it has none, but that a
	// Close always closes and a Write writes the first half.
	Done bool
}

// FS is a file system. The fields may be set while no operation is under way.
type FS struct {
	// Inject is asked before each operation how it fails; nil is not at all.
	Inject func(Op) *Fault
	// After is called after each operation. It may take clones.
	After func(Op)

	mu    sync.Mutex
	root  *node
	locks map[*node]bool
	ops   int
	nodes int
	clock int64 // ticks with every change
}

// New returns an empty file system.
func New() *FS {
	f := &FS{locks: map[*node]bool{}}
	f.root = f.node(true)
	return f
}

// node is a file or a directory, as the running system sees it and as it is on the
// disk.
type node struct {
	id      int
	changed int64

	data    []byte // of a file
	modTime time.Time
	written diskFile
	changes []change // not synced

	entries map[string]*node // of a directory, else nil
	synced  map[string]*node
	renames []entry // not synced
}

// diskFile is what a file has on the disk.
type diskFile struct {
	data    []byte
	modTime time.Time
}

// change of a file. Exactly one of the fields but off is set.
type change struct {
	write    []byte
	off      int
	truncate *int
	modTime  time.Time
}

// entry is a name that got a node, or lost it (nil).
type entry struct {
	name string
	node *node
}

func (f *FS) node(dir bool) *node {
	f.nodes++
	n := &node{id: f.nodes, modTime: f.now()}
	n.written.modTime = n.modTime
	if dir {
		n.entries, n.synced = map[string]*node{}, map[string]*node{}
	}
	return n
}

func (f *FS) now() time.Time {
	f.clock++
	return time.Unix(1_800_000_000, f.clock*1000).UTC()
}

func (n *node) change(f *FS, c change) {
	n.changes = append(n.changes, c)
	c.apply(&n.data, &n.modTime)
	if c.modTime.IsZero() {
		n.modTime = f.now()
		n.changes = append(n.changes, change{modTime: n.modTime})
	}
	n.changed = f.clock
}

func (c change) apply(data *[]byte, modTime *time.Time) {
	switch {
	case c.write != nil:
		if grow := c.off + len(c.write) - len(*data); grow > 0 {
			*data = append(*data, make([]byte, grow)...)
		}
		copy((*data)[c.off:], c.write)
	case c.truncate != nil:
		if *c.truncate > len(*data) {
			*data = append(*data, make([]byte, *c.truncate-len(*data))...)
		}
		*data = (*data)[:*c.truncate:*c.truncate]
	default:
		*modTime = c.modTime
	}
}

func (n *node) set(f *FS, name string, to *node) {
	n.renames = append(n.renames, entry{name, to})
	if to == nil {
		delete(n.entries, name)
	} else {
		n.entries[name] = to
		f.clock++
		to.changed = f.clock // link and rename change the ctime
	}
}

func (n *node) sync() {
	for _, c := range n.changes {
		c.apply(&n.written.data, &n.written.modTime)
	}
	n.changes = nil
}

func (n *node) syncDir() {
	n.synced, n.renames = maps.Clone(n.entries), nil
}

// do is one operation: act, unless it is to fail.
func (f *FS) do(op Op, act func(*Fault) error) error {
	f.mu.Lock()
	op.N = f.ops
	f.ops++
	f.mu.Unlock()
	var fault *Fault
	if f.Inject != nil {
		fault = f.Inject(op)
	}
	f.mu.Lock()
	err := act(fault)
	f.mu.Unlock()
	if f.After != nil {
		f.After(op)
	}
	return err
}

// op is an operation that either happens or does not.
func (f *FS) op(kind, name string, write bool, act func() error) error {
	return f.do(Op{Kind: kind, Name: name, Write: write}, func(fault *Fault) error {
		if fault != nil && !fault.Done {
			return fault.Err
		}
		if err := act(); fault == nil {
			return err
		}
		return fault.Err
	})
}

// Ops is how many operations there were.
func (f *FS) Ops() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ops
}

func (f *FS) find(name string) (*node, error) {
	n := f.root
	if name == "." {
		return n, nil
	}
	for e := range strings.SplitSeq(name, "/") {
		if n.entries == nil {
			return nil, &fs.PathError{Op: "find", Path: name, Err: syscall.ENOTDIR}
		}
		n = n.entries[e]
		if n == nil {
			return nil, &fs.PathError{Op: "find", Path: name, Err: syscall.ENOENT}
		}
	}
	return n, nil
}

// parent returns the directory of name, and what has that name, or nil.
func (f *FS) parent(name string) (dir, n *node, err error) {
	dir, err = f.find(path.Dir(name))
	if err == nil && dir.entries == nil {
		err = &fs.PathError{Op: "find", Path: name, Err: syscall.ENOTDIR}
	}
	if err != nil {
		return nil, nil, err
	}
	return dir, dir.entries[path.Base(name)], nil
}

func (f *FS) open(kind, name string, write bool) (*handle, error) {
	h := &handle{fs: f, name: name, write: write}
	err := f.op(kind, name, write, func() (err error) {
		h.node, err = f.find(name)
		if err == nil && write && h.node.entries != nil {
			err = &fs.PathError{Op: kind, Path: name, Err: syscall.EISDIR}
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

// Open implements vfs.FS, as all that follows.
func (f *FS) Open(name string) (vfs.File, error) { return f.open("open", name, false) }

func (f *FS) OpenDir(name string) (vfs.Dir, error) { return f.open("open", name, false) }

func (f *FS) Append(name string) (vfs.File, error) { return f.open("append", name, true) }

func (f *FS) Create(name string) (vfs.File, error) {
	h := &handle{fs: f, name: name, write: true}
	err := f.op("create", name, true, func() error {
		dir, n, err := f.parent(name)
		if err == nil && n != nil {
			err = &fs.PathError{Op: "create", Path: name, Err: syscall.EEXIST}
		}
		if err == nil {
			h.node = f.node(false)
			dir.set(f, path.Base(name), h.node)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return h, nil
}

func (f *FS) Lstat(name string) (fi fs.FileInfo, err error) {
	err = f.op("lstat", name, false, func() error {
		n, err := f.find(name)
		if err == nil {
			fi = n.info(name)
		}
		return err
	})
	return fi, err
}

func (f *FS) MkdirAll(dir string) error {
	if dir == "." {
		return nil
	}
	if err := f.MkdirAll(path.Dir(dir)); err != nil {
		return err
	}
	return f.op("mkdir", dir, true, func() error {
		parent, n, err := f.parent(dir)
		switch {
		case err != nil:
			return err
		case n == nil:
			parent.set(f, path.Base(dir), f.node(true))
		case n.entries == nil:
			return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
		}
		return nil
	})
}

func (f *FS) Link(old, name string) error {
	return f.op("link", name, true, func() error {
		n, err := f.find(old)
		if err != nil {
			return err
		}
		dir, taken, err := f.parent(name)
		if err == nil && taken != nil {
			err = &fs.PathError{Op: "link", Path: name, Err: syscall.EEXIST}
		}
		if err == nil {
			dir.set(f, path.Base(name), n)
		}
		return err
	})
}

func (f *FS) Rename(old, name string) error {
	return f.op("rename", name, true, func() error {
		from, n, err := f.parent(old)
		if err == nil && n == nil {
			err = &fs.PathError{Op: "rename", Path: old, Err: syscall.ENOENT}
		}
		if err != nil {
			return err
		}
		to, _, err := f.parent(name)
		if err == nil {
			from.set(f, path.Base(old), nil)
			to.set(f, path.Base(name), n)
		}
		return err
	})
}

func (f *FS) Remove(name string) error {
	return f.op("remove", name, true, func() error {
		dir, n, err := f.parent(name)
		switch {
		case err != nil:
			return err
		case n == nil:
			return &fs.PathError{Op: "remove", Path: name, Err: syscall.ENOENT}
		case len(n.entries) > 0:
			return &fs.PathError{Op: "remove", Path: name, Err: syscall.ENOTEMPTY}
		}
		dir.set(f, path.Base(name), nil)
		return nil
	})
}

func (f *FS) Chtimes(name string, modTime time.Time) error {
	return f.op("chtimes", name, true, func() error {
		n, err := f.find(name)
		if err == nil {
			f.clock++
			n.change(f, change{modTime: modTime})
		}
		return err
	})
}

func (f *FS) SyncDir(name string) error {
	return f.op("syncdir", name, true, func() error {
		n, err := f.find(name)
		if err == nil {
			n.syncDir()
		}
		return err
	})
}

func (f *FS) Version(_ string, fi fs.FileInfo) string {
	i := fi.(info)
	return fmt.Sprintf("%x-%x-%x-%x", i.size, i.modTime.UnixNano(), i.changed, i.id)
}

func (f *FS) Lock(name string) (io.Closer, error) {
	if err := f.MkdirAll(path.Dir(name)); err != nil {
		return nil, err
	}
	l := &lock{fs: f, name: name}
	err := f.op("lock", name, true, func() error {
		dir, n, err := f.parent(name)
		if err != nil {
			return err
		}
		if n == nil {
			n = f.node(false)
			dir.set(f, path.Base(name), n)
		}
		if f.locks[n] {
			return vfs.ErrLocked
		}
		l.node = n
		f.locks[n] = true
		return nil
	})
	if err != nil {
		return nil, err
	}
	return l, nil
}

type lock struct {
	fs   *FS
	name string
	node *node
}

func (l *lock) Close() error {
	return l.fs.do(Op{Kind: "unlock", Name: l.name, Write: true}, func(fault *Fault) error {
		delete(l.fs.locks, l.node)
		return fault.err()
	})
}

func (f *Fault) err() error {
	if f == nil {
		return nil
	}
	return f.Err
}

// handle is an open file or directory.
type handle struct {
	fs     *FS
	name   string
	node   *node
	write  bool
	closed bool
	pos    int // of Read and ReadDir
}

func (h *handle) op(kind string, act func() error) error {
	return h.fs.op(kind, h.name, h.write, func() error {
		if h.closed {
			return fs.ErrClosed
		}
		return act()
	})
}

func (h *handle) Read(p []byte) (n int, err error) {
	err = h.op("read", func() error {
		n = copy(p, h.node.data[min(h.pos, len(h.node.data)):])
		h.pos += n
		if n == 0 && len(p) > 0 {
			return io.EOF
		}
		return nil
	})
	return n, err
}

func (h *handle) ReadAt(p []byte, off int64) (n int, err error) {
	err = h.op("readat", func() error {
		n = copy(p, h.node.data[min(off, int64(len(h.node.data))):])
		if n < len(p) {
			return io.EOF
		}
		return nil
	})
	return n, err
}

func (h *handle) Write(p []byte) (n int, err error) {
	err = h.fs.do(Op{Kind: "write", Name: h.name, Write: true}, func(fault *Fault) error {
		if h.closed || !h.write {
			return fs.ErrClosed
		}
		n = len(p)
		if fault != nil && !fault.Done {
			n /= 2
		}
		if n > 0 {
			h.node.change(h.fs, change{write: slices.Clone(p[:n]), off: len(h.node.data)})
		}
		return fault.err()
	})
	return n, err
}

func (h *handle) Truncate(size int64) error {
	return h.op("truncate", func() error {
		to := int(size)
		h.node.change(h.fs, change{truncate: &to})
		return nil
	})
}

func (h *handle) Sync() error {
	return h.fs.do(Op{Kind: "sync", Name: h.name, Write: h.write}, func(fault *Fault) error {
		switch {
		case h.closed:
			return fs.ErrClosed
		case fault == nil || fault.Done:
			h.node.sync()
		default:
			h.node.changes = nil
		}
		return fault.err()
	})
}

func (h *handle) Stat() (fi fs.FileInfo, err error) {
	err = h.op("stat", func() error {
		fi = h.node.info(h.name)
		return nil
	})
	return fi, err
}

func (h *handle) Lstat(element string) (fi fs.FileInfo, err error) {
	err = h.fs.op("lstat", path.Join(h.name, element), false, func() error {
		n := h.node.entries[element]
		if n == nil {
			return &fs.PathError{Op: "lstat", Path: element, Err: syscall.ENOENT}
		}
		fi = n.info(element)
		return nil
	})
	return fi, err
}

func (h *handle) ReadDir(n int) (entries []fs.DirEntry, err error) {
	err = h.op("readdir", func() error {
		if h.node.entries == nil {
			return &fs.PathError{Op: "readdir", Path: h.name, Err: syscall.ENOTDIR}
		}
		names := slices.Sorted(maps.Keys(h.node.entries))
		names = names[min(h.pos, len(names)):]
		if n > 0 {
			names = names[:min(n, len(names))]
			if len(names) == 0 {
				return io.EOF
			}
		}
		h.pos += len(names)
		for _, name := range names {
			entries = append(entries, fs.FileInfoToDirEntry(h.node.entries[name].info(name)))
		}
		return nil
	})
	return entries, err
}

func (h *handle) Close() error {
	return h.fs.do(Op{Kind: "close", Name: h.name, Write: h.write}, func(fault *Fault) error {
		if h.closed {
			return fs.ErrClosed
		}
		h.closed = true
		return fault.err()
	})
}

// info is a node as it was.
type info struct {
	name    string
	dir     bool
	size    int64
	modTime time.Time
	changed int64
	id      int
}

func (n *node) info(name string) info {
	return info{path.Base(name), n.entries != nil, int64(len(n.data)), n.modTime, n.changed, n.id}
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) ModTime() time.Time { return i.modTime }
func (i info) IsDir() bool        { return i.dir }
func (i info) Sys() any           { return nil }

func (i info) Mode() fs.FileMode {
	if i.dir {
		return fs.ModeDir | 0o700
	}
	return 0o600
}
