package codec

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"hash"
	"hash/crc32"
	"io"
	"runtime"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/rollout-sync/rollout/internal/spare"
)

// A Sealer writes a sealed file: Write takes the plain bytes, Close finishes it.
// The stored bytes depend on the plain bytes and the modification time alone,
// not on how they were split into writes. It holds one frame, at most 4 MiB, and
// its compressed form. A file that was not closed without an error is not
// sealed. A Sealer is for one goroutine.
type Sealer struct {
	w       io.Writer
	modTime time.Time
	err     error // the first, or errSealed; every later call returns it
	work    *sealWork
	entries []tableEntry
	stored  uint32    // CRC-32C of the frames
	hash    hash.Hash // of the plain bytes; nil: it is sum
	sum     [32]byte
	size    int64
	newline int64 // '\n' so far
	open    bool  // the last line has no '\n' yet
	trailer Trailer

	head     *headScanner // nil once the first frame is cut
	fed      int          // bytes that head has seen
	searched int          // bytes of the next frame known to have no line end to cut at
}

// sealWork is what is worth keeping between files.
type sealWork struct {
	plain  []byte // of the frame being gathered
	stored []byte // of the frame being written
}

// sealWorks are for Sealers that gather frames. Room for what a frame has as a rule is
// made at once: growing would leave as much behind again.
var sealWorks = spare.NewList(4, func() *sealWork {
	return &sealWork{plain: make([]byte, 0, frameUsual), stored: make([]byte, 0, frameUsual)}
})

// frameUsual is how large frames are unless there are long lines.
const frameUsual = frameTarget + frameTarget/4

// Frames of all Sealers are encoded some at a time, on half of the processors: who else
// works at the machine has the others, and an encoder that is not put off for what the
// others send finds its tables (1.3 MiB) where it left them, in the processor's cache.
// With all of two processors a push took a twentieth more CPU time, and a twelfth less
// time. Each encoder costs 450 µs and up to 6 MiB to make and is kept for good. It is not
// one Encoder with so many parts: that takes turns with them, so that each finds its
// tables in no cache, which was a tenth of the time.
var (
	encoding = make(chan struct{}, max(1, min(runtime.GOMAXPROCS(0)/2, maxEncoders))) // those that are at it
	encoders = spare.NewList(maxEncoders, newEncoder)
)

const maxEncoders = 8

func newEncoder() *zstd.Encoder {
	enc, err := zstd.NewWriter(nil,
		zstd.WithEncoderLevel(zstd.SpeedDefault),
		zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(true),
		zstd.WithWindowSize(frameMax), // no frame refers farther back: with twice as much it would hold 16 MiB
		zstd.WithLowerEncoderMem(true),
		zstd.WithSingleSegment(true)) // so that even the smallest frame has its content size
	if err != nil {
		panic(err) // the options are constants
	}
	return enc
}

var errSealed = errors.New("the file is sealed already")

// NewSealer returns a Sealer that writes to w and never closes it. modTime is
// the modification time that the trailer keeps; the zero Time is allowed.
func NewSealer(w io.Writer, modTime time.Time) *Sealer {
	return &Sealer{
		w:       w,
		modTime: modTime,
		work:    sealWorks.Get(),
		hash:    sha256.New(),
		head:    newHeadScanner(),
	}
}

// SetSum hands in the SHA-256 of all that will be written when the caller is certain of
// it: it is then not computed, which costs a fifth as much as to compress. It must be
// called before Write.
func (s *Sealer) SetSum(sum [32]byte) { s.hash, s.sum = nil, sum }

// Seal appends to stored what a Sealer would write for plain, of which sum is the
// SHA-256, as for SetSum.
func Seal(stored, plain []byte, sum [32]byte, modTime time.Time) ([]byte, error) {
	w := &appender{stored}
	s := &Sealer{w: w, modTime: modTime, work: new(sealWork), sum: sum, head: newHeadScanner()}
	for len(plain) > 0 {
		frame := plain
		if n := s.cut(plain); n > 0 {
			frame = plain[:n]
		}
		if err := s.frame(frame); err != nil {
			return nil, err
		}
		s.take(frame)
		plain = plain[len(frame):]
	}
	err := s.Close()
	return w.p, err
}

// An appender is a writer into which a Sealer compresses without a copy.
type appender struct{ p []byte }

func (a *appender) Write(p []byte) (int, error) {
	a.p = append(a.p, p...)
	return len(p), nil
}

// Write takes plain bytes. It writes frames to the underlying writer as they
// fill; that writer's first error is returned by this and every later call.
func (s *Sealer) Write(p []byte) (int, error) {
	const step = 64 << 10 // bounds what is searched twice for a cut, or moved
	written := 0
	for len(p) > 0 && s.err == nil {
		part := p // what is taken of it
		if gathered := len(s.work.plain); gathered > 0 {
			part = p[:min(step, len(p))]
			s.work.plain = append(roomFor(s.work.plain, len(part), frameMax+step), part...)
			for n := s.cut(s.work.plain); n > 0 && s.err == nil; n = s.cut(s.work.plain) {
				if n > gathered { // the rest is not moved but taken again
					part = part[:n-gathered]
					s.work.plain = s.work.plain[:n]
				}
				gathered -= n
				s.err = s.frame(s.work.plain[:n])
				s.work.plain = append(s.work.plain[:0], s.work.plain[n:]...)
			}
		} else if n := s.cut(p); n > 0 {
			part = p[:n] // a whole frame is not copied
			s.err = s.frame(part)
		} else {
			s.work.plain = append(roomFor(s.work.plain, len(p), frameMax+step), p...)
		}
		if s.err == nil {
			s.take(part)
			written += len(part)
			p = p[len(part):]
		}
	}
	return written, s.err
}

// roomFor returns p with room for n more. If it has none it gets what may be needed at
// most: append would grow it step by step, and leave each behind.
func roomFor(p []byte, n, most int) []byte {
	if len(p)+n <= cap(p) {
		return p
	}
	return append(make([]byte, 0, max(most, len(p)+n)), p...)
}

// take has the trailer tell of the next bytes, of which there is one at least.
func (s *Sealer) take(part []byte) {
	if s.hash != nil {
		s.hash.Write(part)
	}
	s.size += int64(len(part))
	s.newline += int64(bytes.Count(part, newline))
	s.open = part[len(part)-1] != '\n'
}

var newline = []byte{'\n'}

// Close writes what is left, the trailer and the seek table.
func (s *Sealer) Close() error {
	if s.err != nil {
		return s.err
	}
	if err := s.close(); err != nil {
		s.err = err
		return err
	}
	s.err = errSealed
	s.work.plain = s.work.plain[:0]
	if cap(s.work.plain) == frameUsual && cap(s.work.stored) == frameUsual { // as it was made
		sealWorks.Put(s.work)
	}
	s.work = nil
	return nil
}

func (s *Sealer) close() error {
	if len(s.work.plain) > 0 || len(s.entries) == 0 {
		if err := s.frame(s.work.plain); err != nil {
			return err
		}
	}
	t := Trailer{Size: s.size, Lines: s.newline, ModTime: fromUnixNano(unixNano(s.modTime))}
	if s.open {
		t.Lines++
	}
	if t.SHA256 = s.sum; s.hash != nil {
		s.hash.Sum(t.SHA256[:0])
	}
	end := appendTable(appendTrailer(nil, t, s.stored), s.entries)
	if _, err := s.w.Write(end); err != nil {
		return err
	}
	s.trailer = t
	return nil
}

// Trailer returns what Close wrote, and the zero Trailer before.
func (s *Sealer) Trailer() Trailer { return s.trailer }

// cut returns the length of the frame that plain, what no frame has yet, begins
// with, or 0 when it is not certain yet. Then the next plain is longer.
func (s *Sealer) cut(plain []byte) int {
	if s.head != nil {
		if n, ok := s.cutHead(plain); !ok || n > 0 {
			return n
		}
	}
	if len(plain) < frameTarget {
		return 0
	}
	whole := plain[:min(len(plain), frameMax)]
	from := max(frameTarget-1, s.searched)
	if i := bytes.IndexByte(whole[from:], '\n'); i >= 0 {
		return from + i + 1
	}
	s.searched = len(whole)
	if len(plain) <= frameMax {
		return 0
	}
	if i := bytes.LastIndexByte(whole[:frameTarget], '\n'); i >= 0 { // there is none behind
		return i + 1
	}
	return frameMax
}

// cutHead returns the length of the first frame: up to the end of the head, so
// that one small read gives a listing all it shows. It returns 0 and true when
// no such cut exists and the general rule holds, and false when it is not
// certain yet.
func (s *Sealer) cutHead(plain []byte) (int, bool) {
	within := plain[:min(len(plain), firstFrameMax)]
	for {
		i := bytes.IndexByte(within[s.fed:], '\n')
		if i < 0 {
			break
		}
		done := s.head.add(Line{Offset: int64(s.fed), Bytes: within[s.fed : s.fed+i], Ended: true})
		s.fed += i + 1
		if done {
			return s.fed, true
		}
	}
	if len(plain) <= firstFrameMax {
		return 0, false
	}
	if s.fed == 0 {
		s.head = nil
	}
	return s.fed, true
}

// frame writes a frame.
func (s *Sealer) frame(plain []byte) error {
	if len(s.entries) == maxFrames {
		return errors.New("too many frames for a sealed file")
	}
	if a, ok := s.w.(*appender); ok {
		start := len(a.p)
		a.p = appendFrame(a.p, plain)
		s.count(a.p[start:], plain)
		return nil
	}
	s.work.stored = appendFrame(roomFor(s.work.stored[:0], len(plain), storedMax), plain)
	if _, err := s.w.Write(s.work.stored); err != nil {
		return err
	}
	s.count(s.work.stored, plain)
	return nil
}

func appendFrame(stored, plain []byte) []byte {
	if len(plain) == 0 {
		return append(stored, emptyFrame...)
	}
	encoding <- struct{}{}
	defer func() { <-encoding }()
	enc := encoders.Get()
	defer encoders.Put(enc)
	return enc.EncodeAll(plain, stored)
}

// count takes notice of a frame that was written.
func (s *Sealer) count(stored, plain []byte) {
	s.entries = append(s.entries, tableEntry{uint32(len(stored)), uint32(len(plain))})
	s.stored = crc32.Update(s.stored, castagnoli, stored)
	s.head, s.searched = nil, 0
}
