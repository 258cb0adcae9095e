package codec

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"runtime"
	"slices"
	"sync"

	"github.com/klauspost/compress/zstd"
)

// A frameReader reads a stored file frame by frame, in constant memory. What its
// underlying reader fails with is returned as it is, except that an early end is
// a *CorruptError, as is everything wrong with the bytes.
//
// It finds the end of each frame itself, from the block headers: the decoder
// would run through the frames, and takes up to three stray bytes at the end for
// a clean end.
type frameReader struct {
	r      *bufio.Reader
	pos    int64         // in the stored file, of the next byte
	sum    uint32        // CRC-32C of the data frames so far
	dec    *zstd.Decoder // of foreign frames; nil before the first
	frame  frame
	blocks blockReader
}

type frame struct {
	zstd.Header
	start   int64             // where it begins in the stored file
	trailer *[trailerLen]byte // payload, if it is our trailer
}

func newFrameReader(r io.Reader, pos int64) *frameReader {
	return &frameReader{r: bufio.NewReaderSize(r, 16<<10), pos: pos}
}

// close gives back the decoder; the frameReader must not be used any more.
func (r *frameReader) close() {
	if r.dec != nil {
		_ = r.dec.Reset(nil) // drops the reference to r; cannot fail
		decoderPool.Put(r.dec)
		r.dec = nil
	}
}

// decoderPool has decoders for one stream or frame each. Their memory is that of
// the window of a foreign frame, at most foreignWindow.
var decoderPool = sync.Pool{New: func() any {
	dec, err := zstd.NewReader(nil,
		zstd.WithDecoderConcurrency(1),
		zstd.WithDecoderLowmem(true),
		zstd.WithDecoderMaxWindow(foreignWindow))
	if err != nil {
		panic(err) // the options are constants
	}
	return dec
}}

// foreignWindow is the largest window of a foreign frame that is decoded: that of
// zstd --long=27, which is also the largest that Codex 0.169 reads.
const foreignWindow = 128 << 20

// next moves to the next frame. Of a data frame it has read nothing but the
// header: before the next next, stored must be called if it isOurs, else Read
// until its io.EOF. A skippable frame is read. io.EOF is a clean end.
func (r *frameReader) next() (frame, error) {
	r.frame = frame{start: r.pos}
	f := &r.frame
	head, err := r.r.Peek(zstd.HeaderMaxSize)
	if err != nil && err != io.EOF || len(head) == 0 {
		return *f, err
	}
	if err := f.Decode(head); errors.Is(err, io.ErrUnexpectedEOF) {
		return *f, r.cutOff()
	} else if err != nil {
		return *f, corrupt(f.start, "no zstd frame begins here")
	}
	if f.Skippable {
		return *f, r.skip()
	}
	r.blocks = blockReader{r: r, left: f.HeaderSize}
	if f.isOurs() {
		return *f, nil
	}
	if r.dec == nil {
		r.dec = decoderPool.Get().(*zstd.Decoder)
	}
	return *f, r.dec.Reset(&r.blocks)
}

func (r *frameReader) cutOff() error {
	return corrupt(r.frame.start, "this frame is cut off")
}

// skip reads the skippable frame that begins here.
func (r *frameReader) skip() error {
	f := &r.frame
	if f.SkippableSize == trailerLen {
		b, err := r.r.Peek(skippableHeadLen + trailerLen)
		if err == io.EOF {
			return r.cutOff()
		} else if err != nil {
			return err
		}
		if binary.LittleEndian.Uint32(b) == trailerID && isTrailer(b[skippableHeadLen:]) {
			f.trailer = (*[trailerLen]byte)(bytes.Clone(b[skippableHeadLen:]))
		}
	}
	n, err := io.CopyN(io.Discard, r.r, skippableHeadLen+int64(f.SkippableSize))
	r.pos += n
	if err == io.EOF {
		return r.cutOff()
	}
	return err
}

// Read reads the plain bytes of the data frame that next returned. io.EOF comes
// only when the frame's content size and checksum match, as far as it has them:
// the decoder sees to both.
func (r *frameReader) Read(p []byte) (int, error) {
	n, err := r.dec.Read(p)
	switch {
	case r.blocks.err != nil && r.blocks.err != io.EOF:
		return n, r.blocks.err
	case err != nil && err != io.EOF:
		return n, corrupt(r.frame.start, "this frame does not decode: %v", err)
	}
	return n, err
}

// isOurs reports whether the frame that next returned is such as a Sealer writes:
// small, with its size in the header and a checksum at its end.
func (f *frame) isOurs() bool {
	return !f.Skippable && f.SingleSegment && f.FrameContentSize <= frameMax && f.HasCheckSum
}

// storedMax is more than a frame of ours takes if its content cannot be compressed.
const storedMax = frameMax + 64<<10

// stored returns the stored bytes of a data frame that isOurs. It overwrites buf
// if that is large enough.
func (r *frameReader) stored(buf []byte) ([]byte, error) {
	buf = buf[:0]
	for {
		if len(buf) == cap(buf) {
			buf = slices.Grow(buf, max(int(r.frame.FrameContentSize)/4, 4<<10))
		}
		n, err := r.blocks.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		switch {
		case err == io.EOF:
			return buf, nil
		case err != nil:
			return buf, err
		case len(buf) > storedMax:
			return buf, corrupt(r.frame.start, "this frame is longer than its content")
		}
	}
}

// A decodeAhead decodes frames of ours in their order and some at the same time.
// Only decoding is concurrent: frames are read when next is called, and nothing
// has to be stopped when it is not called any more.
type decodeAhead struct {
	frames *frameReader
	width  int         // how many to decode at the same time
	jobs   []*frameJob // in flight
	spare  *frameJob   // the one before, whose buffers are free now
	held   *frameJob   // the first frame that is not ours, or the failure: after jobs
}

// maxAhead bounds the memory: each frame has up to 4 MiB, stored and decoded.
const maxAhead = 4

// A frameJob is a frame and, if that is ours, its content.
type frameJob struct {
	frame   frame
	stored  []byte
	content []byte
	err     error
	done    chan struct{}
}

// next returns the next frame, as frameReader.next does; of a frame of ours it has
// the content, checked, until the next next. It reads no frame behind those with
// the next n plain bytes; n < 0 is any number. The first frame comes alone, since
// many readers want no more, and then more and more are decoded ahead.
func (a *decodeAhead) next(n int64) *frameJob {
	width := max(a.width, 1)
	a.width = min(2*width, maxAhead, runtime.GOMAXPROCS(0))
	inFlight := int64(0)
	for _, j := range a.jobs {
		inFlight += int64(j.frame.FrameContentSize)
	}
	for a.held == nil && len(a.jobs) < width && (len(a.jobs) == 0 || n < 0 || inFlight < n) {
		j := a.read()
		if j.err != nil || !j.frame.isOurs() {
			a.held = j
			break
		}
		inFlight += int64(j.frame.FrameContentSize)
		a.jobs = append(a.jobs, j)
		if width == 1 {
			j.decode()
		} else {
			go j.decode()
		}
	}
	if len(a.jobs) == 0 {
		j := a.held
		a.held = nil
		return j
	}
	j := a.jobs[0]
	a.jobs = append(a.jobs[:0], a.jobs[1:]...)
	<-j.done
	a.spare = j
	return j
}

// read reads the next frame.
func (a *decodeAhead) read() *frameJob {
	j := a.spare
	if a.spare = nil; j == nil {
		j = new(frameJob)
	}
	j.done = make(chan struct{})
	if j.frame, j.err = a.frames.next(); j.err == nil && j.frame.isOurs() {
		j.stored, j.err = a.frames.stored(j.stored)
	}
	return j
}

func (j *frameJob) decode() {
	defer close(j.done)
	dec := decoderPool.Get().(*zstd.Decoder)
	defer decoderPool.Put(dec)
	j.content = slices.Grow(j.content[:0], int(j.frame.FrameContentSize))
	if j.content, j.err = dec.DecodeAll(j.stored, j.content); j.err != nil {
		j.err = corrupt(j.frame.start, "this frame does not decode: %v", j.err)
	}
}

// A blockReader reads the stored bytes of one data frame and ends where it ends.
type blockReader struct {
	r    *frameReader
	left int   // stored bytes up to the next thing to look at
	last bool  // the last block's header has been read
	sum  bool  // and so has the checksum's beginning, if there is one
	err  error // once it has failed or ended
}

func (b *blockReader) Read(p []byte) (int, error) {
	if b.err == nil && b.left == 0 {
		b.err = b.advance()
	}
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.r.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	b.r.pos += int64(n)
	b.r.sum = crc32.Update(b.r.sum, castagnoli, p[:n])
	if err == io.EOF {
		err = b.r.cutOff()
	}
	b.err = err
	return n, err
}

// advance sets left to the length of the next block, or of the checksum.
func (b *blockReader) advance() error {
	const headLen, sumLen = 3, 4
	if b.last {
		if b.sum || !b.r.frame.HasCheckSum {
			return io.EOF
		}
		b.sum, b.left = true, sumLen
		return nil
	}
	head, err := b.r.r.Peek(headLen)
	if err == io.EOF {
		return b.r.cutOff()
	} else if err != nil {
		return err
	}
	bits := uint32(head[0]) | uint32(head[1])<<8 | uint32(head[2])<<16
	b.last = bits&1 == 1
	b.left = headLen + int(bits>>3)
	if isRLE := bits>>1&3 == 1; isRLE { // one byte, repeated that often
		b.left = headLen + 1
	}
	return nil
}
