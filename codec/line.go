package codec

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"iter"
	"runtime"
)

// A Line is one line of a rollout.
type Line struct {
	// Offset is where the line begins, counted from where reading began.
	Offset int64
	// Bytes is the line without its '\n'. It is valid until the next iteration.
	Bytes []byte
	// Ended tells that the line has its '\n'. The last line of a file may lack
	// it: torn by a crash, still being written, or whole all the same (Codex
	// accepts valid JSON there).
	Ended bool
}

// Lines returns the lines of r as they are, blank and damaged ones included. It
// can be ranged over once, and may have read more of r than the lines it gave. A
// line may have any length; memory is 64 KiB and, from 1 MiB on, twice the longest
// line while it is read, and once afterwards. An error of r ends the iteration, with the offset of the line it fell in;
// what was read of that line is dropped.
func Lines(r io.Reader) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		for s := newLineReader(r, 0); ; {
			l, _, err := s.next()
			if err == io.EOF || !yield(l, err) || err != nil {
				return
			}
		}
	}
}

// A lineReader reads lines.
type lineReader struct {
	r      *bufio.Reader
	offset int64
	limit  int      // lines that are longer are not kept; <= 0: none
	spill  []byte   // a line longer than r's buffer, gathered
	pieces [][]byte // of a line that spill has no room for, until its end is found
	end    bool     // what follows has been written after the end was seen

	alone   chan struct{} // unless nil, is sent to before a line takes more than pieceLen
	isAlone bool          // it was
}

func newLineReader(r io.Reader, limit int) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, chunkLen), limit: limit}
}

// reset makes s read r from its beginning on. It keeps buffers of usual size.
func (s *lineReader) reset(r io.Reader) {
	s.r.Reset(r)
	if cap(s.spill) > pieceLen {
		s.spill = nil
	}
	*s = lineReader{r: s.r, limit: s.limit, spill: s.spill[:0]}
}

const (
	chunkLen = 64 << 10 // how much is read at once
	pieceLen = 1 << 20  // up to where room for a line grows
)

// next returns the next line and its length. A line over the limit has no Bytes.
// io.EOF is the end.
func (s *lineReader) next() (l Line, length int64, err error) {
	if s.end {
		return Line{}, 0, io.EOF
	}
	l.Offset = s.offset
	s.spill, s.pieces = s.spill[:0], nil
	for {
		part, err := s.r.ReadSlice('\n')
		switch l.Ended = err == nil; {
		case l.Ended:
			s.offset++
			part = part[:len(part)-1]
		case err == io.EOF && length == 0 && len(part) == 0:
			return Line{}, 0, io.EOF
		case err != io.EOF && !errors.Is(err, bufio.ErrBufferFull):
			return Line{Offset: l.Offset}, 0, err
		}
		tooLong := s.limit > 0 && length+int64(len(part)) > int64(s.limit)
		length += int64(len(part))
		inParts := length > int64(len(part)) || err != nil
		switch {
		case tooLong:
			s.spill, s.pieces = s.spill[:0], nil
		case inParts:
			s.gather(part)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		switch {
		case tooLong:
		case inParts:
			l.Bytes = s.gathered()
		default:
			l.Bytes = part
		}
		s.offset += length
		s.end = !l.Ended
		return l, length, nil
	}
}

// gather adds part, of at most chunkLen, to the line.
func (s *lineReader) gather(part []byte) {
	if s.pieces == nil {
		if len(s.spill)+len(part) <= max(cap(s.spill), pieceLen) {
			s.spill = append(s.spill, part...)
			return
		}
		if s.alone != nil && !s.isAlone {
			s.alone <- struct{}{}
			s.isAlone = true
		}
		s.pieces, s.spill = [][]byte{s.spill}, nil
	}
	last := &s.pieces[len(s.pieces)-1]
	if cap(*last)-len(*last) < len(part) {
		s.pieces = append(s.pieces, make([]byte, 0, pieceLen))
		last = &s.pieces[len(s.pieces)-1]
	}
	*last = append(*last, part...)
}

// gathered returns the line. One in pieces is copied once, to what it takes: by growing
// on, room for 100 MB would leave behind 400 MB of smaller ones. The pieces are garbage
// then, and so is what was decoded of the line before: of a long line neither may be
// there still when as much is made room for again.
func (s *lineReader) gathered() []byte {
	const long = 32 << 20 // to copy as much takes longer than to collect garbage
	length := len(s.spill)
	for _, p := range s.pieces {
		length += len(p)
	}
	if length >= long {
		runtime.GC()
	}
	if s.pieces == nil {
		return s.spill
	}
	s.spill, s.pieces = bytes.Join(s.pieces, nil), nil
	if length >= long {
		runtime.GC()
	}
	return s.spill
}

// skipNUL goes past NUL bytes, at the beginning of a line, and returns how many
// there were. Such a run may be the hole of a sparse file, longer than memory.
func (s *lineReader) skipNUL() int64 {
	start := s.offset
	for !s.end {
		// What a failure leaves is seen by next.
		_, err := s.r.Peek(1)
		buffered, _ := s.r.Peek(s.r.Buffered())
		n := leadingNUL(buffered)
		_, _ = s.r.Discard(n)
		s.offset += int64(n)
		if err != nil || n < len(buffered) {
			break
		}
	}
	return s.offset - start
}

func leadingNUL(b []byte) int {
	for i, c := range b {
		if c != 0 {
			return i
		}
	}
	return len(b)
}

// A backwardReader reads lines from the end of a file to its beginning.
type backwardReader struct {
	r     io.ReaderAt
	pos   int64 // what lies behind was read
	limit int
	room  []byte // memory for buf, which lies at its end
	buf   []byte // what was read from pos on and not returned; ends with a line
}

// next returns the line in front, as lineReader's next does.
func (s *backwardReader) next() (l Line, length int64, err error) {
	if s.pos == 0 && len(s.buf) == 0 {
		return Line{}, 0, io.EOF
	}
	if len(s.buf) == 0 {
		if err := s.fill(); err != nil {
			return Line{Offset: s.pos}, 0, err
		}
	}
	if l.Ended = s.buf[len(s.buf)-1] == '\n'; l.Ended {
		s.buf = s.buf[:len(s.buf)-1]
	}
	dropped := int64(0) // bytes of a line over the limit
	for searched := 0; ; {
		if i := bytes.LastIndexByte(s.buf[:len(s.buf)-searched], '\n'); i >= 0 {
			l.Bytes = s.buf[i+1:]
			s.buf = s.buf[:i+1]
			break
		}
		if s.pos == 0 {
			l.Bytes, s.buf = s.buf, nil
			break
		}
		if s.limit > 0 && dropped+int64(len(s.buf)) > int64(s.limit) {
			dropped += int64(len(s.buf))
			s.buf = nil
		}
		searched = len(s.buf)
		if err := s.fill(); err != nil {
			return Line{Offset: s.pos}, 0, err
		}
	}
	l.Offset = s.pos + int64(len(s.buf))
	length = int64(len(l.Bytes)) + dropped
	if s.limit > 0 && length > int64(s.limit) {
		l.Bytes = nil
	}
	return l, length, nil
}

// fill reads what is in front of buf: as much as there is in buf, so that a long
// line takes few reads, which may be requests, and is not copied often.
func (s *backwardReader) fill() error {
	n := int(min(s.pos, max(chunkLen, int64(len(s.buf)))))
	if need := n + len(s.buf); need > len(s.room) {
		s.room = make([]byte, max(need, 2*chunkLen))
	}
	buf := s.room[len(s.room)-n-len(s.buf):]
	copy(buf[n:], s.buf)
	if got, err := s.r.ReadAt(buf[:n], s.pos-int64(n)); got < n {
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return err
	}
	s.pos -= int64(n)
	s.buf = buf
	return nil
}
