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
// Other agents' plain events, {"type":"tool_call","item":{…},"seq":3}, are read
// like them.
//
// There are three layers. [Lines] cuts a file into lines of any length. [Records]
// and [RecordsBackward] find the items in them, whatever happened to the file:
// torn, glued and overlong lines, invalid JSON, NUL bytes, invalid UTF-8. What is
// wrong comes with its place and never quotes what is written there. An [Item] has
// the line's envelope and the raw payload, which [Item.Decode] turns into one of
// the types of this package when somebody wants it. [ReadHead] reads what a listing
// shows.
//
// Bytes are kept: a line that nobody changed is written as it was read, [Update]
// changes single values in one and no other byte, [AppendItem] writes new ones as
// Codex does, and [AppendPlain] plain events.
//
// A [Sealer] writes a sealed file (.jsonl.zst): zstd frames cut at line ends, a
// [Trailer] with the size and hash of the plain bytes, and a seek table. Any zstd
// tool reads it. [OpenSealed] reads ranges of it, and of other zstd files, through
// ranges of stored bytes; [VerifySealed] proves that it is whole. docs/format.md
// has the bytes.
//
// # Libraries
//
// zstd is github.com/klauspost/compress: the maintained one in pure Go, as fast as
// frames of 1 MiB need. Only where a foreign frame ends is found by own code,
// because its decoder does not tell.
//
// JSON is walked and decoded by own code, a page each, which fuzz tests hold to
// encoding/json. bench/ compares the libraries. encoding/json is eight times slower
// for envelopes and three times for payloads, and like goccy/go-json, which is the
// fastest for payloads (a fifth faster than this) and the second for envelopes, it
// takes "Type" for "type", which Codex does not. encoding/json/v2 fails at equal
// keys and invalid UTF-8, sonic accepts control characters or rewrites invalid
// UTF-8, gjson does not check, and fastjson, the fastest to parse a line, gives no
// payload's bytes and, like segmentio, kills the process when nesting is deep.
// New JSON is written by encoding/json, except for what needs no escaping.
package codec
