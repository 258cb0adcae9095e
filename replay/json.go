package replay

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"iter"
)

// WriteJSON writes each entry as one line of JSON, in the names of [Entry] and
// complete: nothing is folded, and images stand there as they are in the session.
// Empty members are left out. Names and meanings stay; members and kinds may be
// added.
//
// Characters that could do something to a terminal (see [Clean]) are escaped, which
// changes no value; only what is not UTF-8 becomes U+FFFD. Memory is that of an
// entry and its JSON.
//
// An error is w's, or that of entries, which then stand in w as far as they came.
func WriteJSON(w io.Writer, entries iter.Seq2[Entry, error]) error {
	out := bufio.NewWriterSize(w, writeBuffer)
	var line bytes.Buffer
	enc := json.NewEncoder(&line)
	enc.SetEscapeHTML(false)
	return writeEntries(out, entries, func(e *Entry) error {
		line.Reset()
		if err := enc.Encode(e); err != nil {
			return err
		}
		writeEscaped(out, line.Bytes())
		if line.Cap() > maxWaitingBytes {
			line = bytes.Buffer{} // not for longer than it is needed
		}
		return nil
	})
}

// writeEscaped writes a line of JSON with what encoding/json leaves of harmful
// characters, all of which are in strings, escaped. An error is kept by w.
func writeEscaped(w *bufio.Writer, line []byte) {
	for {
		i := bytes.IndexFunc(line, func(r rune) bool { return r != '\ufffd' && isHarmful(r) })
		if i < 0 {
			_, _ = w.Write(line)
			return
		}
		_, _ = w.Write(line[:i])
		r := []rune(string(line[i:min(i+4, len(line))]))[0]
		fmt.Fprintf(w, `\u%04x`, r)
		line = line[i+len(string(r)):]
	}
}
