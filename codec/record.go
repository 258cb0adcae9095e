package codec

import (
	"bytes"
	"errors"
	"io"
	"iter"
	"slices"
)

// A Record is an item of a rollout or, with Err set, a piece of it that is none.
// The records of a line, nearly always one, cover it without a gap.
type Record struct {
	// Line numbers the line: from 1 on or, backward, from -1 down.
	Line int
	// Offset is where the record begins, counted from where reading began, and
	// Length its length, without a '\n'.
	Offset, Length int64
	// Bytes is the record as it stands there, with the white space around it; nil
	// with ErrNUL and ErrTooLong. It is valid until the next iteration, as are the
	// slices in Item.
	Bytes []byte
	// Ended tells that the record's line has its '\n'.
	Ended bool
	// Alone tells that the record is all of its line. Codex skips a line of several.
	Alone bool
	// Item is what the record says. It is not all zero with every Err: an item
	// may be known and lack what Codex needs to load it.
	Item Item
	// Err tells why the record is no item: ErrBlank, ErrNUL, ErrTorn, ErrTooLong
	// or what else is wrong with it. It never quotes it.
	Err error

	bare bool // the item has no envelope of Codex's
}

// What the Err of a Record may be.
var (
	// ErrBlank is the Err of a line that has nothing but white space, if that.
	ErrBlank = errors.New("a blank line")
	// ErrNUL is the Err of a run of NUL bytes, as a crash of the machine leaves
	// them.
	ErrNUL = errors.New("NUL bytes")
	// ErrTorn is the Err of a record that was cut off: at the end of the file, by
	// a crash or because it is still being written, or by a record glued to it.
	ErrTorn = errors.New("cut off")
	// ErrTooLong is the Err of a line over the caller's limit.
	ErrTooLong = errors.New("a line that is too long")
)

// Records returns the records of r, which is read as by Lines. Damage is no error
// but the Err of a Record, and costs nothing but the records that it fell on:
//
//   - The last line of a file counts without its '\n' if it is a JSON object, and
//     is ErrTorn if not.
//   - Records on one line are separated: complete objects, one after the other,
//     and the complete ones that follow a torn one, which Codex before 0.150 glues
//     to it when it resumes. Such a record is known by its beginning,
//     {"timestamp":.
//   - NUL bytes are separated from what they stand in front of or behind.
//   - Invalid UTF-8 within strings is none.
//
// With limit > 0 a line of more than so many bytes is skipped as ErrTooLong, in
// constant memory; so is, with any limit, a run of NULs that a line begins with.
func Records(r io.Reader, limit int) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		s := newLineReader(r, limit)
		var records []Record
		for number := 1; ; number++ {
			clear(records) // else they keep the last line, besides the next one
			records = records[:0]
			offset := s.offset
			nuls := s.skipNUL()
			if nuls > 0 {
				records = append(records, Record{Line: number, Offset: offset, Length: nuls, Ended: true, Err: ErrNUL})
			}
			l, length, err := s.next()
			switch {
			case err == io.EOF && nuls == 0:
				return
			case err != nil && err != io.EOF:
				yield(Record{Line: number, Offset: l.Offset}, err)
				return
			case nuls > 0:
				records[0].Ended = l.Ended
			}
			if nuls == 0 || length > 0 {
				records = appendRecords(records, l, length, number)
			}
			records[0].Alone = len(records) == 1
			for _, rec := range records {
				if !yield(rec, nil) {
					return
				}
			}
		}
	}
}

// AppendRecords appends the records of one line, as Records returns them but with the
// Line 0, and returns dst. They are parts of the line.
func AppendRecords(dst []Record, l Line) []Record {
	return appendRecords(dst, l, int64(len(l.Bytes)), 0)
}

// RecordsBackward returns the records of the first size bytes of r, the last one
// first, otherwise as Records does. Ranged over again it reads them again. It
// reads no more than is needed, in pieces of 64 KiB or, for long lines, more. An
// error of r ends the iteration. A file that has become shorter is
// io.ErrUnexpectedEOF.
func RecordsBackward(r io.ReaderAt, size int64, limit int) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		s := &backwardReader{r: r, pos: size, limit: limit}
		var records []Record
		for number := -1; ; number-- {
			clear(records) // else they keep the last line, besides the next one
			l, length, err := s.next()
			if err == io.EOF {
				return
			} else if err != nil {
				yield(Record{Line: number, Offset: l.Offset}, err)
				return
			}
			records = appendRecords(records[:0], l, length, number)
			records[0].Alone = len(records) == 1
			for _, rec := range slices.Backward(records) {
				if !yield(rec, nil) {
					return
				}
			}
		}
	}
}

// appendRecords appends the records of a line that has a number and, if it was too
// long, fewer bytes than its length.
func appendRecords(dst []Record, l Line, length int64, number int) []Record {
	if length > int64(len(l.Bytes)) {
		return append(dst, Record{Line: number, Offset: l.Offset, Length: length, Ended: l.Ended, Err: ErrTooLong})
	}
	for rest, more := l.Bytes, true; more; more = len(rest) > 0 {
		rec := firstRecord(rest, l.Ended)
		rec.Line, rec.Ended = number, l.Ended
		rec.Offset = l.Offset + int64(len(l.Bytes)-len(rest))
		dst = append(dst, rec)
		rest = rest[rec.Length:]
	}
	return dst
}

// firstRecord returns the record that b, a line or the rest of one, begins with:
// its Bytes, Length, Item and Err.
func firstRecord(b []byte, ended bool) Record {
	if n := leadingNUL(b); n > 0 {
		return Record{Length: int64(n), Err: ErrNUL}
	}
	if len(bytes.TrimSpace(b)) == 0 {
		return Record{Bytes: b, Length: int64(len(b)), Err: ErrBlank}
	}
	it, enveloped, n, err := decodeItem(b)
	if n > 0 && endsAt(b, n) {
		return Record{Bytes: b[:n], Length: int64(n), Item: it, Err: err, bare: !enveloped}
	}
	if n := gluedRecord(b); n > 0 {
		return Record{Bytes: b[:n], Length: int64(n), Err: ErrTorn}
	}
	switch {
	case !ended:
		err = ErrTorn
	case n > 0:
		err = errNotJSON
	}
	return Record{Bytes: b, Length: int64(len(b)), Err: err}
}

// endsAt tells whether an object that ends at b[n] may be a record: nothing
// follows it, or another one, or NULs.
func endsAt(b []byte, n int) bool { return n == len(b) || b[n] == '{' || b[n] == 0 }

// recordStart is how Codex begins a record. It is in no string of a record, where
// its quotes are escaped.
var recordStart = []byte(`{"timestamp":`)

// maxTears is how many places in one damaged line are tried: each costs up to a
// walk over the rest.
const maxTears = 64

// gluedRecord returns where in b, which is no record, the first complete one
// begins, else 0.
func gluedRecord(b []byte) int {
	at := 0
	for range maxTears {
		i := bytes.Index(b[at+1:], recordStart)
		if i < 0 {
			return 0
		}
		at += 1 + i
		_, enveloped, n, err := decodeItem(b[at:])
		if err == nil && enveloped && endsAt(b[at:], n) {
			return at
		}
	}
	return 0
}
