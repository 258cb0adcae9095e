// Package codec reads and writes Codex session files ("rollouts"), of every
// generation, and the sealed container that keeps them compressed. It knows bytes
// and nothing of where they are stored.
//
// A rollout is an append-only file of lines, each one JSON object, with a [Name]
// that tells its session and when that began. There are three generations:
//
//   - G0, bare (until August 2025, Codex 0.29): a first line with id and
//     timestamp, then response items without an envelope. Codex itself does not
//     read them any more.
//   - G1, legacy (Codex 0.34 to 0.146, later on request): each line has an
//     envelope of timestamp, type and payload. A fork is a full copy.
//   - G2, paginated (from Codex 0.150 on): each line has an ordinal, too, and a
//     fork or revert refers to a byte prefix of another rollout ([Base]).
//
// [Lines] cuts a file into lines of any length, [DecodeItem] and [AppendItem] go
// from a line to an [Item] and back, and [ReadHead] reads what a listing shows.
// All of them take damaged files as they come: torn lines, invalid JSON, NUL
// bytes, invalid UTF-8. An error or a [Problem] says where and why, never what is
// written there.
//
// A [Sealer] writes a sealed file (.jsonl.zst): zstd frames cut at line ends, a
// [Trailer] with the size and hash of the plain bytes, and a seek table. Any zstd
// tool reads it. [OpenSealed] reads ranges of it, and of other zstd files, through
// ranges of stored bytes; [VerifySealed] proves that it is whole. docs/format.md
// has the bytes.
package codec
