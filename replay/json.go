package replay

import (
	"bufio"
	"bytes"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"strconv"
	"unicode/utf8"
)

// WriteJSON writes each entry as one line of JSON, in the names of [Entry] and
// complete: nothing is folded, and images stand there as they are in the session.
// Empty members are left out. Names and meanings stay; members and kinds may be
// added.
//
// Characters that could do something to a terminal (see [Clean]) are escaped, which
// changes no value; only what is not UTF-8 becomes U+FFFD. Memory is that of an
// entry, and a few MiB for its JSON.
//
// An error is w's, or that of entries, which then stand in w as far as they came.
func WriteJSON(w io.Writer, entries iter.Seq2[Entry, error]) error {
	out := bufio.NewWriterSize(w, writeBuffer)
	return writeEntries(out, entries, newJSONWriter(out).write)
}

// longString is the length from which on a string is not encoded with its entry but
// piece by piece: encoding/json has copies of all that it encodes.
const longString = 1 << 20

type jsonWriter struct {
	out  escaper
	text bytes.Buffer
	enc  *json.Encoder // to text
	mark string        // is in no entry, since it is random
}

func newJSONWriter(out *bufio.Writer) *jsonWriter {
	j := &jsonWriter{out: escaper{out}, mark: rand.Text()}
	j.enc = json.NewEncoder(&j.text)
	j.enc.SetEscapeHTML(false)
	return j
}

// encode returns the JSON of v and a line end, until the next call.
func (j *jsonWriter) encode(v any) ([]byte, error) {
	j.text.Reset()
	err := j.enc.Encode(v)
	return j.text.Bytes(), err
}

// write writes an entry. In place of each long string a mark and the string's number
// are encoded.
func (j *jsonWriter) write(e *Entry) error {
	var long []string
	var back []func()
	take := func(p *string) {
		if s := *p; len(s) >= longString {
			*p = fmt.Sprintf("%s%d.", j.mark, len(long))
			long, back = append(long, s), append(back, func() { *p = s })
		}
	}
	e.texts(take)
	for _, images := range e.images() {
		for i := range images {
			take(&images[i].URL)
		}
	}
	text, err := j.encode(e)
	for _, f := range back {
		f()
	}
	if len(long) > 0 {
		text = bytes.Clone(text)
	}
	for err == nil {
		before, after, ok := bytes.Cut(text, []byte(j.mark))
		_, _ = j.out.Write(before)
		if !ok {
			break
		}
		number, after, _ := bytes.Cut(after, []byte("."))
		var i int
		if i, err = strconv.Atoi(string(number)); err == nil {
			err = j.pieces(long[i])
		}
		text = after
	}
	return err
}

// pieces writes what stands between the quotes of a string in JSON.
func (j *jsonWriter) pieces(s string) error {
	const most = 64 << 10
	for s != "" {
		n := min(most, len(s))
		for back := 0; back < utf8.UTFMax && n < len(s) && n > 1 && !utf8.RuneStart(s[n]); back++ {
			n--
		}
		text, err := j.encode(s[:n])
		if err != nil {
			return err
		}
		_, _ = j.out.Write(text[1 : len(text)-len("\"\n")])
		s = s[n:]
	}
	return nil
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
