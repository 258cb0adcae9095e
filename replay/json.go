package replay

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"unicode/utf8"
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
	enc := json.NewEncoder(escaper{out})
	enc.SetEscapeHTML(false)
	return writeEntries(out, entries, func(e *Entry) error { return enc.Encode(e) })
}

// An escaper writes lines of JSON with what encoding/json leaves of harmful
// characters, all of which are in strings, escaped. A failure is kept by w.
type escaper struct{ w *bufio.Writer }

func (e escaper) Write(line []byte) (int, error) {
	rest := line
	for {
		i := bytes.IndexFunc(rest, func(r rune) bool { return r != '\n' && r != utf8.RuneError && isHarmful(r) })
		if i < 0 {
			_, _ = e.w.Write(rest)
			return len(line), nil
		}
		_, _ = e.w.Write(rest[:i])
		r, n := utf8.DecodeRune(rest[i:])
		fmt.Fprintf(e.w, `\u%04x`, r)
		rest = rest[i+n:]
	}
}
