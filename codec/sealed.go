package codec

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"sort"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// A Fetch reads n bytes of a stored file from offset off. A Sealed asks only for
// ranges inside of the file and may close the reader before its end. What a
// Fetch or its reader fails with comes back to the caller as it is.
type Fetch func(ctx context.Context, off, n int64) (io.ReadCloser, error)

// A Sealed reads a compressed file, ours or a foreign one, through ranges of its
// stored bytes. It is safe for concurrent use.
type Sealed struct {
	fetch  Fetch
	stored int64
	head   []byte

	mu      sync.Mutex
	index   *index // nil: not known
	foreign bool   // there is no index
	claimed int64  // plain size of a foreign file by its first frame, or -1
}

// An index is a sealed file's trailer and seek table.
type index struct {
	trailer Trailer
	frames  []span // one more than there are frames: the last is where they end
}

// A span is where a frame begins, in the stored file and in the plain bytes.
type span struct{ stored, plain int64 }

// tailLen is how much of a file's end is fetched first: enough for the seek table
// of some 8,000 frames, that is 8 GiB of plain bytes.
const tailLen = 64 << 10

// OpenSealed returns a Sealed of a file that has the given number of stored
// bytes. It does no I/O.
func OpenSealed(fetch Fetch, stored int64) *Sealed {
	return &Sealed{fetch: fetch, stored: stored}
}

// SetHead hands in the file's first bytes when the caller has them already; they
// are then not fetched again. It must be called before the other methods, and
// head must not change afterwards.
func (s *Sealed) SetHead(head []byte) {
	s.head = head[:min(int64(len(head)), s.stored)]
}

// Trailer returns the trailer of a file that a Sealer wrote. The error is
// ErrForeign for other zstd files, ErrCorrupt for a file that is damaged at its
// end or not zstd at all, and errors.ErrUnsupported for a format that is newer
// than this program. The frames are not looked at.
func (s *Sealed) Trailer(ctx context.Context) (Trailer, error) {
	x, err := s.load(ctx)
	if err != nil {
		return Trailer{}, err
	}
	return x.trailer, nil
}

// Size returns the number of plain bytes: the trailer's or, of a foreign file,
// what its first frame's header claims, taking that for the only frame, as Codex
// 0.169 does. It is -1 when the header has none and only decoding would tell.
func (s *Sealed) Size(ctx context.Context) (int64, error) {
	x, err := s.load(ctx)
	if errors.Is(err, ErrForeign) {
		return s.claimed, nil // does not change any more
	} else if err != nil {
		return -1, err
	}
	return x.trailer.Size, nil
}

// Range returns a reader of n plain bytes from off; n < 0 means up to the end,
// off < 0 counts from the end, and what lies outside of the file is left out. It
// makes one fetch, of the frames needed, when the reader is first read; besides,
// the index is fetched once, unless off is 0. A range that begins at 0 and ends
// early takes only what it decodes from the fetched reader before closing it. From
// the second frame on up to four are decoded at the same time, no more than there
// are processors, and none behind the range. ctx must live as long as the reader.
//
// The reader returns bytes of our frames only after their checksum has matched,
// and io.EOF only when the range is complete by what the file says of itself;
// otherwise its error is ErrCorrupt. Foreign frames are streamed, and their
// checksum, if they have one, is known at their end. A negative off costs a
// foreign file a decoding of its own, to count.
func (s *Sealed) Range(ctx context.Context, off, n int64) (io.ReadCloser, error) {
	if off == 0 {
		return s.open(ctx, nil, 0, n), nil
	}
	x, err := s.load(ctx)
	switch {
	case errors.Is(err, ErrForeign):
		if off < 0 {
			size, err := s.count(ctx)
			if err != nil {
				return nil, err
			}
			off = max(0, size+off)
		}
		return s.open(ctx, nil, off, n), nil
	case err != nil:
		return nil, err
	}
	size := x.trailer.Size
	if off < 0 {
		off = max(0, size+off)
	}
	off = min(off, size)
	if n < 0 || n > size-off {
		n = size - off
	}
	return s.open(ctx, x.cover(off, n), off, n), nil
}

// cover returns the spans of the frames with n plain bytes from off, and where
// they end.
func (x *index) cover(off, n int64) []span {
	frames := x.frames
	first := sort.Search(len(frames)-1, func(i int) bool { return frames[i+1].plain > off })
	last := sort.Search(len(frames)-1, func(i int) bool { return frames[i].plain >= off+n })
	return frames[min(first, last) : last+1]
}

// open returns a reader of n plain bytes from off. Without spans it begins with
// the file's first byte.
func (s *Sealed) open(ctx context.Context, spans []span, off, n int64) *rangeReader {
	src := &source{ctx: ctx, s: s, end: s.stored}
	r := &rangeReader{src: src, spans: spans, skip: off, left: n}
	if len(spans) > 0 {
		src.pos, src.end = spans[0].stored, spans[len(spans)-1].stored
		r.skip = off - spans[0].plain
	}
	r.frames = newFrameReader(src, src.pos)
	r.ahead.frames = r.frames
	return r
}

// count decodes the file and returns the number of plain bytes.
func (s *Sealed) count(ctx context.Context) (int64, error) {
	r := s.open(ctx, nil, 0, -1)
	defer r.Close()
	return io.Copy(io.Discard, r)
}

// load returns the index, which it fetches once. A failure is not kept.
func (s *Sealed) load(ctx context.Context) (*index, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.index == nil && !s.foreign {
		x, err := s.readIndex(ctx)
		if err != nil {
			return nil, err
		}
		s.index, s.foreign = x, x == nil
	}
	if s.foreign {
		return nil, ErrForeign
	}
	return s.index, nil
}

// readIndex reads the trailer and the seek table, which lie at the file's end. It
// returns nil if the file is foreign.
func (s *Sealed) readIndex(ctx context.Context) (*index, error) {
	const trailerStored = skippableHeadLen + trailerLen
	le := binary.LittleEndian

	tail, err := s.read(ctx, s.stored-min(s.stored, tailLen), s.stored)
	if err != nil {
		return nil, err
	}
	if len(tail) < tableFootLen || le.Uint32(tail[len(tail)-4:]) != tableMagic {
		return nil, s.notSealed(ctx, tail)
	}
	n := int64(le.Uint32(tail[len(tail)-tableFootLen:]))
	if n == 0 || n > maxFrames || trailerStored+tableLen(int(n)) > s.stored {
		return nil, s.notSealed(ctx, tail)
	}
	at := s.stored - tableLen(int(n)) - trailerStored // also where the frames end
	end := tail
	if missing := s.stored - int64(len(tail)) - at; missing > 0 {
		front, err := s.read(ctx, at, at+missing)
		if err != nil {
			return nil, err
		}
		end = append(front, tail...)
	} else {
		end = tail[-missing:]
	}
	payload, table := end[skippableHeadLen:trailerStored], end[trailerStored:]
	if le.Uint32(end) != trailerID || le.Uint32(end[4:]) != trailerLen || !isTrailer(payload) {
		return nil, s.notSealed(ctx, tail)
	}
	x := &index{frames: make([]span, 1, n+1)}
	if x.trailer, _, err = parseTrailer(payload, at); err != nil {
		return nil, err
	}
	entries := make([]tableEntry, n)
	var next span
	fits := true
	for i := range entries {
		e := table[skippableHeadLen+i*tableEntryLen:]
		entries[i] = tableEntry{stored: le.Uint32(e), plain: le.Uint32(e[4:])}
		isEmpty := entries[i].stored == 0 || entries[i].plain == 0 && n > 1
		fits = fits && !isEmpty && entries[i].plain <= frameMax
		next.stored += int64(entries[i].stored)
		next.plain += int64(entries[i].plain)
		x.frames = append(x.frames, next)
	}
	if !fits || next != (span{at, x.trailer.Size}) || !bytes.Equal(table, appendTable(nil, entries)) {
		return nil, corrupt(at+trailerStored, "the seek table does not fit the file")
	}
	return x, nil
}

// notSealed says what a file is that does not end in a trailer and a seek table:
// nil for a foreign file.
func (s *Sealed) notSealed(ctx context.Context, tail []byte) error {
	begin := appendTrailer(nil, Trailer{}, 0)[:skippableHeadLen+len(trailerMagic)]
	if i := bytes.LastIndex(tail, begin); i >= 0 {
		return corrupt(s.stored-int64(len(tail)-i), "what follows from the trailer on is damaged or cut off")
	}
	head, err := s.read(ctx, 0, min(s.stored, zstd.HeaderMaxSize))
	if err != nil {
		return err
	}
	var h zstd.Header
	if err := h.Decode(head); err != nil {
		return corrupt(0, "not a zstd file")
	}
	s.claimed = -1
	if h.HasFCS && h.FrameContentSize < 1<<63 {
		s.claimed = int64(h.FrameContentSize)
	}
	return nil
}

// read returns the stored bytes from off to end.
func (s *Sealed) read(ctx context.Context, off, end int64) ([]byte, error) {
	src := &source{ctx: ctx, s: s, pos: off, end: end}
	defer src.Close()
	b := make([]byte, end-off)
	_, err := io.ReadFull(src, b)
	return b, err
}

// A source reads stored bytes from pos to end: what the head has of them, then
// one fetch, which it makes when it must.
type source struct {
	ctx      context.Context // of the one range that is read
	s        *Sealed
	pos, end int64
	rc       io.ReadCloser
}

func (r *source) Read(p []byte) (int, error) {
	if r.pos >= r.end {
		return 0, io.EOF
	}
	p = p[:min(int64(len(p)), r.end-r.pos)]
	if r.rc == nil {
		if r.pos < int64(len(r.s.head)) {
			n := copy(p, r.s.head[r.pos:])
			r.pos += int64(n)
			return n, nil
		}
		rc, err := r.s.fetch(r.ctx, r.pos, r.end-r.pos)
		if err != nil {
			return 0, err
		}
		r.rc = rc
	}
	n, err := r.rc.Read(p)
	r.pos += int64(n)
	if err == io.EOF {
		err = nil
		if r.pos < r.end {
			err = corrupt(r.pos, "the file ends here instead of at byte %d", r.s.stored)
		}
	}
	return n, err
}

func (r *source) Close() error {
	if r.rc == nil {
		return nil
	}
	return r.rc.Close()
}

// A rangeReader reads plain bytes.
type rangeReader struct {
	src    *source
	frames *frameReader
	ahead  decodeAhead
	spans  []span // of the frames still to come, if the index is known
	skip   int64  // plain bytes still to be dropped
	left   int64  // plain bytes still to be returned; < 0: up to the end
	count  int    // data frames seen
	plain  int64  // their content
	ready  []byte // the part of a frame's content to be returned
	stream bool   // in a foreign frame
	err    error
}

func (r *rangeReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for {
		for len(r.ready) == 0 && !r.stream && r.err == nil {
			r.err = r.next()
		}
		if len(r.ready) > 0 {
			n := copy(p, r.ready)
			r.ready = r.ready[n:]
			return n, nil
		}
		if r.err != nil {
			return 0, r.err
		}
		if r.left >= 0 {
			p = p[:min(int64(len(p)), r.left)]
		}
		n, err := r.frames.Read(p)
		r.plain += int64(n)
		if r.left > 0 {
			r.left -= int64(n)
		}
		r.stream = err == nil && r.left != 0
		if err != io.EOF {
			r.err = err
		}
		if n > 0 || r.err != nil {
			return n, r.err
		}
	}
}

// next makes the next frame ready, or returns nil to be called again.
func (r *rangeReader) next() error {
	if r.left == 0 {
		return io.EOF
	}
	want := r.left
	if want > 0 {
		want += r.skip
	}
	j := r.ahead.next(want)
	f, err := j.frame, j.err
	switch {
	case err == io.EOF && (r.spans != nil || r.count == 0):
		return corrupt(f.start, "a frame is missing here")
	case err != nil:
		return err
	case r.spans != nil && !f.isOurs():
		return corrupt(f.start, "the seek table does not fit this frame")
	case f.trailer != nil:
		return r.end(f)
	case f.Skippable:
		return nil
	}
	r.count++
	if !f.isOurs() {
		n, err := io.CopyN(io.Discard, r.frames, r.skip)
		r.skip -= n
		r.plain += n
		if err == io.EOF {
			return nil
		}
		r.stream = err == nil
		return err
	}
	r.plain += int64(len(j.content))
	if r.spans != nil {
		if int64(len(j.content)) != r.spans[1].plain-r.spans[0].plain {
			return corrupt(f.start, "the seek table does not fit this frame")
		}
		r.spans = r.spans[1:]
	}
	dropped := min(r.skip, int64(len(j.content)))
	r.skip -= dropped
	r.ready = j.content[dropped:]
	if r.left >= 0 {
		r.ready = r.ready[:min(int64(len(r.ready)), r.left)]
		r.left -= int64(len(r.ready))
	}
	return nil
}

// end checks the trailer that follows the frames of a file read from its first
// byte; io.EOF means that they were all. The seek table need not be read: its
// length must be that of the frames seen, and the rest of the file.
func (r *rangeReader) end(f frame) error {
	t, sum, err := parseTrailer(f.trailer[:], f.start)
	switch {
	case err != nil:
		return err
	case t.Size != r.plain || sum != r.frames.sum || r.count == 0:
		return corrupt(f.start, "the trailer does not fit the frames")
	case r.frames.pos+tableLen(r.count) != r.src.end:
		return corrupt(r.frames.pos, "the seek table is not all that follows the trailer")
	}
	return io.EOF
}

// Close ends the fetch. It may be called more than once.
func (r *rangeReader) Close() error {
	if r.frames == nil {
		return nil
	}
	r.frames.close()
	r.frames = nil
	r.ready, r.stream, r.err = nil, false, fs.ErrClosed
	return r.src.Close()
}

// VerifySealed reads a whole sealed file and returns its trailer if everything in
// it is as its Sealer wrote it, to the bit: each frame decodes to its checksum;
// all frames together have the size, the hash, the lines and the stored checksum
// that the trailer says; the seek table has their sizes; and nothing follows.
// Anything else, foreign files included, is ErrCorrupt, a newer format
// errors.ErrUnsupported, and what r fails with comes back as it is. Memory is
// that of a few frames, each at most 4 MiB, and the seek table.
func VerifySealed(r io.Reader) (Trailer, error) {
	frames := newFrameReader(r, 0)
	defer frames.close()
	var (
		ahead   = decodeAhead{frames: frames}
		entries []tableEntry
		got     Trailer
		hash    = sha256.New()
		open    bool // the last line has no '\n'
	)
	for {
		j := ahead.next(-1)
		f, err := j.frame, j.err
		switch {
		case err == io.EOF:
			return Trailer{}, corrupt(f.start, "the file ends without a trailer")
		case err != nil:
			return Trailer{}, err
		case f.trailer != nil:
			hash.Sum(got.SHA256[:0])
			if open {
				got.Lines++
			}
			return verifyEnd(frames, f, got, entries)
		case !f.isOurs() || len(entries) == maxFrames:
			return Trailer{}, corrupt(f.start, "a frame such as no sealed file has")
		}
		plain := j.content
		hash.Write(plain)
		got.Size += int64(len(plain))
		got.Lines += int64(bytes.Count(plain, newline))
		if len(plain) > 0 {
			open = plain[len(plain)-1] != '\n'
		}
		entries = append(entries, tableEntry{uint32(len(j.stored)), uint32(len(plain))})
	}
}

// verifyEnd checks what follows the frames: got is what the trailer must say, but
// for the time.
func verifyEnd(frames *frameReader, f frame, got Trailer, entries []tableEntry) (Trailer, error) {
	t, sum, err := parseTrailer(f.trailer[:], f.start)
	if err != nil {
		return Trailer{}, err
	}
	got.ModTime = t.ModTime
	if t != got || sum != frames.sum || len(entries) == 0 {
		return Trailer{}, corrupt(f.start, "the trailer does not fit the frames")
	}
	at := frames.pos
	want := appendTable(nil, entries)
	table, err := io.ReadAll(io.LimitReader(frames.r, int64(len(want))+1))
	if err != nil {
		return Trailer{}, err
	}
	if !bytes.Equal(table, want) {
		return Trailer{}, corrupt(at, "the seek table does not fit the frames, or is not the end of the file")
	}
	return t, nil
}
