package codec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

const (
	recordA = `{"timestamp":"2026-11-20T08:41:45.701Z","type":"a","payload":{"text":"{\"timestamp\":1}"}}`
	recordB = `{"timestamp":"2026-11-20T08:41:45.702Z","ordinal":1,"type":"b","payload":[]}`
)

// describe returns what a test looks at in records, one a line: the line's number,
// offset, length, and the type or what is wrong.
func describe(records []Record) string {
	var b strings.Builder
	for _, rec := range records {
		what := rec.Item.Type
		if rec.Err != nil {
			what = rec.Err.Error()
		}
		fmt.Fprintf(&b, "%d %d+%d %s\n", rec.Line, rec.Offset, rec.Length, what)
	}
	return b.String()
}

func collect(t testing.TB, r io.Reader, limit int) (records []Record) {
	t.Helper()
	for rec, err := range Records(r, limit) {
		if err != nil {
			t.Fatal(err)
		}
		rec.Bytes = bytes.Clone(rec.Bytes)
		rec.Item = Item{Type: rec.Item.Type, Ordinal: rec.Item.Ordinal}
		records = append(records, rec)
	}
	return records
}

// collectBackward brings records into the order and the numbers of collect.
func collectBackward(t testing.TB, r io.ReaderAt, size int64, limit int) (records []Record) {
	t.Helper()
	for rec, err := range RecordsBackward(r, size, limit) {
		if err != nil {
			t.Fatal(err)
		}
		rec.Bytes = bytes.Clone(rec.Bytes)
		rec.Item = Item{Type: rec.Item.Type, Ordinal: rec.Item.Ordinal}
		records = append(records, rec)
	}
	slices.Reverse(records)
	if len(records) > 0 {
		lines := -records[0].Line
		for i := range records {
			records[i].Line += lines + 1
		}
	}
	return records
}

func TestRecords(t *testing.T) {
	t.Parallel()
	a, b := len(recordA), len(recordB)
	torn := recordA[:60]
	long := `{"timestamp":"t","type":"long","payload":"` + strings.Repeat("x", 500<<10) + `"}`
	for _, tc := range []struct {
		name, in string
		limit    int
		want     []string
	}{
		{name: "empty"},
		{name: "two", in: recordA + "\n" + recordB + "\n", want: []string{
			fmt.Sprintf("1 0+%d a", a), fmt.Sprintf("2 %d+%d b", a+1, b),
		}},
		{name: "a good last line without newline", in: recordA, want: []string{fmt.Sprintf("1 0+%d a", a)}},
		{name: "a torn last line", in: recordB + "\n" + torn, want: []string{
			fmt.Sprintf("1 0+%d b", b), fmt.Sprintf("2 %d+60 cut off", b+1),
		}},
		{name: "torn and ended", in: torn + "\n" + recordB, want: []string{"1 0+60 not valid JSON", fmt.Sprintf("2 61+%d b", b)}},
		{name: "glued in a string", in: torn + recordB + "\n", want: []string{"1 0+60 cut off", fmt.Sprintf("1 60+%d b", b)}},
		{name: "glued in a value", in: recordA[:13] + recordB + "\n", want: []string{"1 0+13 cut off", fmt.Sprintf("1 13+%d b", b)}},
		{name: "glued in a word", in: `{"type":"x","payload":nul` + recordB, want: []string{"1 0+25 cut off", fmt.Sprintf("1 25+%d b", b)}},
		{name: "glued behind a byte order mark", in: "\xef\xbb\xbf" + recordA, want: []string{"1 0+3 cut off", fmt.Sprintf("1 3+%d a", a)}},
		{name: "a torn one between", in: recordB + torn + recordB + recordA + "\n", want: []string{
			fmt.Sprintf("1 0+%d b", b), fmt.Sprintf("1 %d+60 cut off", b), fmt.Sprintf("1 %d+%d b", b+60, b), fmt.Sprintf("1 %d+%d a", 2*b+60, a),
		}},
		{name: "glued and torn again", in: torn + recordB + torn, want: []string{
			"1 0+60 cut off", fmt.Sprintf("1 60+%d b", b), fmt.Sprintf("1 %d+60 cut off", 60+b),
		}},
		{name: "two torn ones", in: torn + torn, want: []string{"1 0+120 cut off"}},
		{name: "a nested object is no record", in: `{"type":"x","payload":{"a":{"timestamp":"t","type":"y","payload":1},"b` + "\n", want: []string{"1 0+70 not valid JSON"}},
		{name: "two objects, bare", in: `{"record_type":"state"} {"record_type":"state"}` + "\n", want: []string{"1 0+24 state", "1 24+23 state"}},
		{name: "text behind", in: recordB + "x\n", want: []string{fmt.Sprintf("1 0+%d not valid JSON", b+1)}},
		{name: "blank lines", in: "\n \r\n" + recordB + "\r\n\n", want: []string{
			"1 0+0 a blank line", "2 1+2 a blank line", fmt.Sprintf("3 4+%d b", b+1), fmt.Sprintf("4 %d+0 a blank line", b+6),
		}},
		{name: "NULs in front, behind and alone", in: "\x00\x00" + recordB + "\x00\n\x00\n\x00\x00\x00", want: []string{
			"1 0+2 NUL bytes", fmt.Sprintf("1 2+%d b", b), fmt.Sprintf("1 %d+1 NUL bytes", b+2),
			fmt.Sprintf("2 %d+1 NUL bytes", b+4), fmt.Sprintf("3 %d+3 NUL bytes", b+6),
		}},
		{name: "many NULs", in: strings.Repeat("\x00", 200<<10) + recordB, want: []string{"1 0+204800 NUL bytes", fmt.Sprintf("1 204800+%d b", b)}},
		{name: "invalid UTF-8", in: "{\"record_type\":\"a\xff\"}\n\xff\n", want: []string{"1 0+20 a\ufffd", "2 21+1 not a JSON object"}},
		{name: "no item", in: "[]\n{\"a\":1}\n", want: []string{"1 0+2 not a JSON object", "2 3+7 an item without a type"}},
		{name: "long lines", in: recordB + "\n" + long + "\n" + long + "\n" + recordA, want: []string{
			fmt.Sprintf("1 0+%d b", b), fmt.Sprintf("2 %d+%d long", b+1, len(long)),
			fmt.Sprintf("3 %d+%d long", b+2+len(long), len(long)), fmt.Sprintf("4 %d+%d a", b+3+2*len(long), a),
		}},
		{name: "lines over the limit", limit: 100, in: recordB + "\n" + long + "\n" + recordB + "\n" + long, want: []string{
			fmt.Sprintf("1 0+%d b", b), fmt.Sprintf("2 %d+%d a line that is too long", b+1, len(long)),
			fmt.Sprintf("3 %d+%d b", b+2+len(long), b), fmt.Sprintf("4 %d+%d a line that is too long", 2*b+3+len(long), len(long)),
		}},
		{name: "lines of the limit", limit: b, in: recordB + "\n" + recordB + " \n", want: []string{
			fmt.Sprintf("1 0+%d b", b), fmt.Sprintf("2 %d+%d a line that is too long", b+1, b+1),
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			want := strings.Join(append(tc.want, ""), "\n")
			got := collect(t, iotest.HalfReader(strings.NewReader(tc.in)), tc.limit)
			if describe(got) != want {
				t.Errorf("got\n%swant\n%s", describe(got), want)
			}
			backward := collectBackward(t, strings.NewReader(tc.in), int64(len(tc.in)), tc.limit)
			if !reflect.DeepEqual(got, backward) {
				t.Errorf("forward\n%s and backward\n%s", describe(got), describe(backward))
			}
		})
	}
}

// However many records seem to begin in a line, its time is bounded.
func TestRecordsManyTears(t *testing.T) {
	t.Parallel()
	in := strings.Repeat(`{"timestamp":`, 1<<20)
	if got := describe(collect(t, strings.NewReader(in), 0)); got != fmt.Sprintf("1 0+%d cut off\n", len(in)) {
		t.Errorf("got %s", got)
	}
}

// A hole in front of a record does not count towards its length, nor cost memory.
func TestRecordsHole(t *testing.T) {
	t.Parallel()
	const hole = 8 << 20
	r := io.MultiReader(strings.NewReader(strings.Repeat("\x00", hole)), strings.NewReader(recordB+"\n"))
	want := fmt.Sprintf("1 0+%d NUL bytes\n1 %d+%d b\n", hole, hole, len(recordB))
	if got := describe(collect(t, r, len(recordB))); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// A file that grows while it is read gives no line in two parts.
func TestRecordsGrowing(t *testing.T) {
	t.Parallel()
	r := &growing{parts: []string{"[]\n{}", "", "\x00\n"}}
	if got := describe(collect(t, r, 0)); got != "1 0+2 not a JSON object\n2 3+2 an item without a type\n" {
		t.Errorf("got\n%s", got)
	}
}

func TestRecordsError(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	for _, in := range []string{"{}\n\n\n", "{}\n\n\n\x00\x00"} {
		var last Record
		var err error
		for last, err = range Records(io.MultiReader(strings.NewReader(in), iotest.ErrReader(broken)), 0) {
		}
		if err != broken || last.Line != 4 || last.Err != nil || last.Bytes != nil {
			t.Errorf("got %+v, %v", last, err)
		}
	}
}

func TestRecordsBackwardError(t *testing.T) {
	t.Parallel()
	in := strings.Repeat(recordA+"\n", 2000)
	n := 0
	var err error
	for _, err = range RecordsBackward(strings.NewReader(in), int64(len(in))+1, 0) {
		n++
	}
	if err != io.ErrUnexpectedEOF || n != 1 {
		t.Errorf("a file that has become shorter: %v in step %d", err, n)
	}
	broken := errors.New("broken")
	n = 0
	for _, err = range RecordsBackward(failBelow{strings.NewReader(in), 1000, broken}, int64(len(in)), 0) {
		n++
	}
	if err != broken || n < 1000 {
		t.Errorf("got %v in step %d", err, n)
	}
}

type failBelow struct {
	io.ReaderAt
	off int64
	err error
}

func (r failBelow) ReadAt(p []byte, off int64) (int, error) {
	if off < r.off {
		return 0, r.err
	}
	return r.ReaderAt.ReadAt(p, off)
}

// Lines that begin and end around the borders of what is read at once.
func TestRecordsBackwardBorders(t *testing.T) {
	t.Parallel()
	for n := chunkLen - 3; n < chunkLen+3; n++ {
		in := "\n" + strings.Repeat("x", n) + "\n" + strings.Repeat("y", n) + "\n" + strings.Repeat("z", n)
		for _, limit := range []int{0, chunkLen, 100} {
			got := describe(collectBackward(t, strings.NewReader(in), int64(len(in)), limit))
			if want := describe(collect(t, strings.NewReader(in), limit)); got != want {
				t.Errorf("%d bytes, limit %d: backward\n%sforward\n%s", n, limit, got, want)
			}
		}
	}
}

// The last records of a large file cost one small read.
func TestRecordsBackwardReadsLittle(t *testing.T) {
	t.Parallel()
	in := strings.Repeat(recordA+"\n", 20000)
	r := &countReads{ReaderAt: strings.NewReader(in)}
	n := 0
	for _, err := range RecordsBackward(r, int64(len(in)), 0) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n == 100 {
			break
		}
	}
	if r.reads != 1 || r.bytes != 64<<10 {
		t.Errorf("%d reads of %d bytes", r.reads, r.bytes)
	}
}

type countReads struct {
	io.ReaderAt
	reads, bytes int
}

func (r *countReads) ReadAt(p []byte, off int64) (int, error) {
	r.reads++
	r.bytes += len(p)
	return r.ReaderAt.ReadAt(p, off)
}

func FuzzRecords(f *testing.F) {
	for _, s := range []string{
		recordA + "\n" + recordB + "\n\n" + recordA[:50] + recordB,
		"\x00\x00" + recordB + "\x00\n\x00\n", `{"record_type":"state"}{"type":"message"}` + "\r\n\xff", "\xef\xbb\xbf" + recordA + recordB[:20],
	} {
		f.Add([]byte(s), 100)
	}
	f.Fuzz(func(t *testing.T, in []byte, limit int) {
		records := collect(t, iotest.HalfReader(bytes.NewReader(in)), limit)
		var out []byte
		line := 0
		for _, rec := range records {
			if rec.Line != line {
				if line > 0 {
					out = append(out, '\n')
				}
				line++
			}
			tooLong := rec.Err == ErrTooLong
			if rec.Line != line || rec.Offset != int64(len(out)) || tooLong != (rec.Bytes == nil && rec.Err != ErrNUL) {
				t.Fatalf("%+v at %d", rec, len(out))
			}
			if tooLong && limit > 0 && rec.Length <= int64(limit) {
				t.Fatalf("%d bytes are too long", rec.Length)
			}
			out = append(out, in[rec.Offset:rec.Offset+rec.Length]...)
			if rec.Err == nil {
				if _, err := DecodeItem(rec.Bytes); err != nil {
					t.Fatal(err)
				}
			}
		}
		if len(records) > 0 && records[len(records)-1].Ended {
			out = append(out, '\n')
		}
		if !bytes.Equal(in, out) {
			t.Fatalf("the records are not the input:\n%s", describe(records))
		}
		if limit > 0 && bytes.IndexByte(in, 0) >= 0 {
			return // forward, NULs that a line begins with are not counted
		}
		backward := collectBackward(t, bytes.NewReader(in), int64(len(in)), limit)
		if describe(records) != describe(backward) {
			t.Fatalf("forward\n%s and backward\n%s", describe(records), describe(backward))
		}
	})
}

// TestDamageTable reads the lines of the table in docs/format.md.
func TestDamageTable(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../docs/format.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(doc), "### 2.1 Damage")
	table, _, _ = strings.Cut(table, "\n## ")
	rows := regexp.MustCompile("(?m)^\\| `(.*)` \\| (.*) \\|$").FindAllStringSubmatch(table, -1)
	if len(rows) < 15 {
		t.Fatalf("%d rows", len(rows))
	}
	decode := strings.NewReplacer("<a>", recordA, "<b>", recordB, "<to", recordA[:60], "⏎", "\n", "␀", "\x00", "⌁", "\xff")
	for _, row := range rows {
		var got []string
		for _, rec := range collect(t, strings.NewReader(decode.Replace(row[1])), 0) {
			if rec.Err != nil {
				got = append(got, "problem: "+rec.Err.Error())
			} else {
				got = append(got, rec.Item.Type)
			}
		}
		if strings.Join(got, ", ") != row[2] {
			t.Errorf("%s gives %s, not %s", row[1], strings.Join(got, ", "), row[2])
		}
	}
}
