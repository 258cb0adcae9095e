package codec

import (
	"bufio"
	"errors"
	"io"
	"iter"
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

// Lines returns the lines of r, blank ones included. It can be ranged over once,
// and may have read more of r than the lines it gave. A line may have any length;
// memory is 64 KiB and at most about twice the longest line. An error of r ends
// the iteration, with the offset of the line it fell in; what was read of that
// line is dropped.
func Lines(r io.Reader) iter.Seq2[Line, error] {
	return func(yield func(Line, error) bool) {
		br := bufio.NewReaderSize(r, 64<<10)
		var spill []byte // a line longer than br's buffer, gathered
		for offset := int64(0); ; {
			part, err := br.ReadSlice('\n')
			line := part
			if err != nil || len(spill) > 0 {
				spill = append(spill, part...)
				line = spill
			}
			switch {
			case errors.Is(err, bufio.ErrBufferFull):
				continue
			case err != nil && err != io.EOF:
				yield(Line{Offset: offset}, err)
				return
			case err == io.EOF && len(line) == 0:
				return
			}
			l := Line{Offset: offset, Bytes: line, Ended: err == nil}
			offset += int64(len(line))
			if l.Ended {
				l.Bytes = line[:len(line)-1]
			}
			if !yield(l, nil) || !l.Ended {
				return
			}
			spill = spill[:0]
		}
	}
}
