package codec

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"time"
)

// The sealed container, as docs/format.md specifies it. These numbers are in
// files that must stay readable for ever: do not change them. Readers would
// follow other cuts, but not larger frames.
const (
	firstFrameMax = 256 << 10 // plain bytes of the first frame, when it can be cut there
	frameTarget   = 1 << 20   // a frame is cut at the first line end from here on
	frameMax      = 4 << 20   // plain bytes of any frame

	trailerID     = 0x184D2A5D // skippable frame, little-endian
	trailerMagic  = "rollseal"
	trailerFormat = 1 // zero is invalid
	trailerLen    = 8 + 4 + 8 + 8 + 8 + 32 + 4 + 4

	tableID       = 0x184D2A5E // fixed by the zstd seekable format 0.1.0
	tableMagic    = 0x8F92EAB1
	tableEntryLen = 8
	tableFootLen  = 9

	skippableHeadLen = 8 // id, length of what follows

	// maxFrames bounds the seek table to 8 MiB; a file of so many frames has
	// at least half a tebibyte.
	maxFrames = 1 << 20
)

// emptyFrame is the frame of an empty file, as the zstd command writes it; the
// encoder would leave out size and checksum.
const emptyFrame = "\x28\xb5\x2f\xfd\x24\x00\x01\x00\x00\x99\xe9\xd8\x51"

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

var (
	// ErrCorrupt is what every *CorruptError is.
	ErrCorrupt = errors.New("damaged")
	// ErrForeign means that a file begins like zstd and does not end as a sealed
	// file does: Codex's compression or the zstd command made it. Whether such a
	// file is whole shows only when it is decoded, and not even then if it has
	// been cut between two frames.
	ErrForeign = errors.New("zstd without a rollout trailer")
)

// A CorruptError tells that a stored file is not what its writer wrote. It
// never quotes contents.
type CorruptError struct {
	Offset int64 // in the stored file: where the damaged part begins
	Reason string
}

func (e *CorruptError) Error() string { return fmt.Sprintf("byte %d: %s", e.Offset, e.Reason) }

// Is makes every CorruptError ErrCorrupt.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

func corrupt(offset int64, format string, args ...any) error {
	return &CorruptError{Offset: offset, Reason: fmt.Sprintf(format, args...)}
}

// A Trailer is what a sealed file says about its plain bytes. Trailers are
// comparable with ==.
type Trailer struct {
	Size    int64     // plain bytes
	Lines   int64     // number of '\n', plus one for a last line without
	SHA256  [32]byte  // of the plain bytes; with Size, the identity of a version
	ModTime time.Time // to the nanosecond, in UTC; the zero Time is kept
}

// A tableEntry is one frame's sizes in bytes.
type tableEntry struct{ stored, plain uint32 }

// appendTrailer appends the skippable frame that carries t and the CRC-32C of all
// stored bytes in front of it. Without that, some of their bits would be
// unchecked: those that one decoder ignores and another may not.
func appendTrailer(dst []byte, t Trailer, frames uint32) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, trailerID)
	dst = binary.LittleEndian.AppendUint32(dst, trailerLen)
	start := len(dst)
	dst = append(dst, trailerMagic...)
	dst = binary.LittleEndian.AppendUint32(dst, trailerFormat)
	dst = binary.LittleEndian.AppendUint64(dst, uint64(t.Size))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(t.Lines))
	dst = binary.LittleEndian.AppendUint64(dst, uint64(unixNano(t.ModTime)))
	dst = append(dst, t.SHA256[:]...)
	dst = binary.LittleEndian.AppendUint32(dst, frames)
	return binary.LittleEndian.AppendUint32(dst, crc32.Checksum(dst[start:], castagnoli))
}

// noTime is how a trailer writes the zero Time, which is outside of what
// nanoseconds since 1970 can say.
const noTime = -1 << 63

func unixNano(t time.Time) int64 {
	if t.IsZero() {
		return noTime
	}
	return t.UnixNano()
}

func fromUnixNano(ns int64) time.Time {
	if ns == noTime {
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// isTrailer tells whether the payload of a trailerID frame is ours, of
// whatever format: every format keeps the length, the magic and the checksum.
func isTrailer(payload []byte) bool {
	return len(payload) == trailerLen && bytes.HasPrefix(payload, []byte(trailerMagic))
}

// parseTrailer reads a payload that isTrailer, stored at at, and returns what
// appendTrailer was given.
func parseTrailer(payload []byte, at int64) (t Trailer, frames uint32, err error) {
	le := binary.LittleEndian
	sum := len(payload) - 4
	if crc32.Checksum(payload[:sum], castagnoli) != le.Uint32(payload[sum:]) {
		return Trailer{}, 0, corrupt(at, "the trailer's checksum does not match")
	}
	p := payload[len(trailerMagic):]
	switch format := le.Uint32(p); {
	case format == 0:
		return Trailer{}, 0, corrupt(at, "trailer format 0")
	case format != trailerFormat:
		return Trailer{}, 0, fmt.Errorf("trailer format %d, this program knows %d: %w", format, trailerFormat, errors.ErrUnsupported)
	}
	t = Trailer{
		Size:    int64(le.Uint64(p[4:])),
		Lines:   int64(le.Uint64(p[12:])),
		SHA256:  [32]byte(p[28:60]),
		ModTime: fromUnixNano(int64(le.Uint64(p[20:]))),
	}
	if t.Size < 0 || t.Lines < 0 || t.Lines > t.Size {
		return Trailer{}, 0, corrupt(at, "impossible sizes in the trailer")
	}
	return t, le.Uint32(p[60:]), nil
}

// tableLen is the stored length of the seek table of n frames.
func tableLen(n int) int64 {
	return skippableHeadLen + int64(n)*tableEntryLen + tableFootLen
}

// appendTable appends the skippable frame that is the seek table.
func appendTable(dst []byte, entries []tableEntry) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, tableID)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(entries)*tableEntryLen+tableFootLen))
	for _, e := range entries {
		dst = binary.LittleEndian.AppendUint32(dst, e.stored)
		dst = binary.LittleEndian.AppendUint32(dst, e.plain)
	}
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(entries)))
	dst = append(dst, 0) // descriptor: no checksums here, the frames have their own
	return binary.LittleEndian.AppendUint32(dst, tableMagic)
}
