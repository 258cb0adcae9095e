package codec

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"
	"time"
)

func TestDecodeItem(t *testing.T) {
	t.Parallel()
	const at = "2026-11-20T08:41:45.701Z"
	for _, tc := range []struct {
		name, line string
		want       Item
		err        error
	}{
		{
			name: "legacy (G1)",
			line: `{"timestamp":"2026-11-20T08:41:45.701Z","type":"event_msg","payload":{"type":"user_message","message":"hi"}}`,
			want: Item{Timestamp: at, Type: TypeEventMsg, Payload: json.RawMessage(`{"type":"user_message","message":"hi"}`)},
		},
		{
			name: "paginated (G2), with metadata",
			line: `{"timestamp":"2026-11-20T08:41:45.701Z","ordinal":0,"type":"response_item","payload":{"type":"message"},"metadata":{"history_sequence":24}}`,
			want: Item{
				Timestamp: at, HasOrdinal: true, Type: TypeResponseItem,
				Payload: json.RawMessage(`{"type":"message"}`), Metadata: json.RawMessage(`{"history_sequence":24}`),
			},
		},
		{
			name: "any order, white space, nulls, unknown keys, the last of equal keys",
			line: " {\t\"payload\" : [1, 2] , \"x\":{\"type\":\"y\"},\"ordinal\":null,\"metadata\":null,\"type\":\"a\",\"type\":\"b\",\"timestamp\":\"" + at + "\"}\r",
			want: Item{Timestamp: at, Type: "b", Payload: json.RawMessage(`[1, 2]`)},
		},
		{
			name: "escapes and bad UTF-8 in the strings",
			line: "{\"\\u0074imestamp\":\"\xffé\",\"type\":\"a\\/b\",\"payload\":\"\xff\",\"ordinal\":18446744073709551615}",
			want: Item{Timestamp: "\ufffdé", Type: "a/b", Ordinal: 1<<64 - 1, HasOrdinal: true, Payload: json.RawMessage("\"\xff\"")},
		},
		{
			name: "first bare line (G0)",
			line: `{"id":"x","timestamp":"2026-11-20T08:41:45.701Z","instructions":null}`,
			want: Item{
				Timestamp: at, Type: TypeSessionMeta,
				Payload: json.RawMessage(`{"id":"x","timestamp":"2026-11-20T08:41:45.701Z","instructions":null}`),
			},
		},
		{
			name: "bare state (G0)",
			line: ` {"record_type":"state"} `,
			want: Item{Type: TypeState, Payload: json.RawMessage(`{"record_type":"state"}`)},
		},
		{
			name: "bare response item (G0)",
			line: `{"type":"message","id":null,"role":"user","content":[]}`,
			want: Item{Type: TypeResponseItem, Payload: json.RawMessage(`{"type":"message","id":null,"role":"user","content":[]}`)},
		},
		{
			name: "plain event",
			line: `{"type":"tool_call","item":{"name":"x"},"seq":3}`,
			want: Item{Type: TypeToolCall, Ordinal: 3, HasOrdinal: true, Payload: json.RawMessage(`{"name":"x"}`)},
		},
		{name: "a plain event with a text for its number", line: `{"type":"x","item":{},"seq":"1"}`, err: errOrdinal},
		{name: "an item without a type", line: `{"item":{}}`, err: errNoType},
		{name: "nothing", line: "", err: errNotObject},
		{name: "an array", line: "[]", err: errNotObject},
		{name: "NUL bytes", line: "\x00\x00", err: errNotObject},
		{name: "torn", line: `{"timestamp":"2026-11-20T08:41:45.701Z","type":"ev`, err: errNotJSON},
		{name: "two objects", line: `{"type":"message"}{"type":"message"}`, err: errNotJSON},
		{name: "bad payload", line: `{"timestamp":"t","type":"x","payload":{"a":01}}`, err: errNotJSON},
		{name: "NUL behind", line: "{\"record_type\":\"state\"}\x00", err: errNotJSON},
		{name: "no timestamp", line: `{"type":"x","payload":{}}`, err: errNoTimestamp},
		{name: "no type", line: `{"timestamp":"t","payload":{}}`, err: errNoType},
		{name: "a number for a type", line: `{"timestamp":"t","type":1,"payload":{}}`, err: errNoType},
		{name: "no payload", line: `{"timestamp":"t","type":"x"}`, err: errNoPayload},
		{name: "nothing known", line: `{"a":1}`, err: errNoType},
		{name: "a negative ordinal", line: `{"timestamp":"t","type":"x","payload":{},"ordinal":-1}`, err: errOrdinal},
		{name: "a text for an ordinal", line: `{"timestamp":"t","type":"x","payload":{},"ordinal":"1"}`, err: errOrdinal},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := DecodeItem([]byte(tc.line))
			if err != tc.err || !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got %+v, %v\nwant %+v, %v", got, err, tc.want, tc.err)
			}
		})
	}
}

func TestAppendItem(t *testing.T) {
	t.Parallel()
	payload := json.RawMessage("{ \"a\" :\n[ 1, \"<&> é\\n\u2028\" ] }")
	for _, tc := range []struct {
		name string
		item Item
		want string
	}{
		{
			"legacy",
			Item{Timestamp: "t", Type: "x", Payload: json.RawMessage(`{"a":"<&>"}`)},
			`{"timestamp":"t","type":"x","payload":{"a":"<&>"}}` + "\n",
		},
		{
			"paginated",
			Item{Timestamp: "t", HasOrdinal: true, Type: "x", Payload: json.RawMessage(`1`), Metadata: json.RawMessage(`{"m": 1}`)},
			`{"timestamp":"t","ordinal":0,"type":"x","payload":1,"metadata":{"m":1}}` + "\n",
		},
		{
			"to be compacted",
			Item{Timestamp: "t", Type: "a\"<é", Payload: payload},
			`{"timestamp":"t","type":"a\"<é","payload":{"a":[1,"<&> é\n` + "\u2028" + `"]}}` + "\n",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			got, err := AppendItem([]byte("before\n"), tc.item)
			if err != nil || string(got) != "before\n"+tc.want {
				t.Fatalf("got %s, %v\nwant %s", got, err, tc.want)
			}
			back, err := DecodeItem(bytes.TrimSuffix([]byte(tc.want), []byte("\n")))
			if err != nil {
				t.Fatal(err)
			}
			again, err := AppendItem(nil, back)
			if err != nil || string(again) != tc.want {
				t.Errorf("decoded and encoded again: %s, %v", again, err)
			}
		})
	}
}

func TestFormatTime(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 20, 9, 41, 45, 7_999_999, time.FixedZone("", 3600))
	if got := FormatTime(at); got != "2026-11-20T08:41:45.007Z" {
		t.Errorf("got %s", got)
	}
}

func TestAppendItemRefuses(t *testing.T) {
	t.Parallel()
	good := json.RawMessage("{}")
	for name, it := range map[string]Item{
		"no timestamp":  {Type: "x", Payload: good},
		"no type":       {Timestamp: "t", Payload: good},
		"no payload":    {Timestamp: "t", Type: "x"},
		"bad payload":   {Timestamp: "t", Type: "x", Payload: json.RawMessage(`{"a"}`)},
		"two payloads":  {Timestamp: "t", Type: "x", Payload: json.RawMessage(`{}{}`)},
		"bad metadata":  {Timestamp: "t", Type: "x", Payload: good, Metadata: json.RawMessage(`{`)},
		"invalid UTF-8": {Timestamp: "t", Type: "x", Payload: json.RawMessage("\"\xff\"")},
	} {
		if got, err := AppendItem([]byte("before"), it); err == nil || string(got) != "before" {
			t.Errorf("%s: got %q, %v", name, got, err)
		}
	}
}

func TestAppendPlain(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		item Item
		want string // "" refused
	}{
		"event":           {Item{Type: "x", Payload: json.RawMessage(`{"a":"<&>"}`)}, `{"type":"x","item":{"a":"<&>"},"seq":0}` + "\n"},
		"to be compacted": {Item{Type: "a\"<é", Payload: json.RawMessage(" [1, 2]"), Ordinal: 7}, `{"type":"a\"<é","item":[1,2],"seq":7}` + "\n"},
		"left out":        {Item{Timestamp: "t", Type: "x", Payload: json.RawMessage("1"), Metadata: json.RawMessage("2")}, `{"type":"x","item":1,"seq":0}` + "\n"},
		"no type":         {Item{Payload: json.RawMessage("1")}, ""},
		"no payload":      {Item{Type: "x"}, ""},
		"bad payload":     {Item{Type: "x", Payload: json.RawMessage(`{"a"}`)}, ""},
		"invalid UTF-8":   {Item{Type: "x", Payload: json.RawMessage("\"\xff\"")}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := AppendPlain([]byte("before\n"), tc.item)
			if string(got) != "before\n"+tc.want || (err != nil) != (tc.want == "") {
				t.Fatalf("got %s, %v\nwant %s", got, err, tc.want)
			}
			if err != nil {
				return
			}
			back, err := DecodeItem(bytes.TrimSuffix([]byte(tc.want), newline))
			if err != nil || back.Type != tc.item.Type || back.Ordinal != tc.item.Ordinal || !back.HasOrdinal {
				t.Errorf("decoded: %+v, %v", back, err)
			}
		})
	}
}

func TestNesting(t *testing.T) {
	t.Parallel()
	for _, depth := range []int{maxDepth, maxDepth + 1} {
		for _, brackets := range [][2]string{{"[", "]"}, {`{"a":`, "}"}} {
			text := []byte(strings.Repeat(brackets[0], depth) + "1" + strings.Repeat(brackets[1], depth))
			if got, want := validJSON(text), json.Valid(text); got != want {
				t.Errorf("%d times %s: valid = %v, encoding/json says %v", depth, brackets[0], got, want)
			}
		}
	}
}

func validJSON(text []byte) bool {
	_, err := appendValue(nil, text)
	return err == nil || err == errNotUTF8
}

// FuzzJSON compares our walk over JSON with encoding/json.
func FuzzJSON(f *testing.F) {
	for _, s := range []string{
		`{"timestamp":"t","ordinal":7,"type":"x","payload":{"a":[1,-2.5e+3,true,false,null,"\u00e9\"\\\/\b\f\n\r\t"]}}`,
		`[0,-0,0.1,1E-9,10]`, "01", "1.", "1e", "-", "+1", "tru", "nul", `"`, `"\u12"`, `"\x"`, "\"\t\"", "{,}", "[1,]", `{"a"}`, `{"a":1,}`, " 1 ", "",
		`"1234567"`, `"12345678"`, `"1234567\\"`, `"12345678\\9"`, "\"\xff\x80\"", "\"\x1f\"", "\"       \x7f\"", "\"abc\x01defghijkl\"", "\"abcdefg\\\x01hijkl\"",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if got, want := validJSON(text), json.Valid(text); got != want {
			t.Fatalf("valid = %v, encoding/json says %v", got, want)
		}
		it, err := DecodeItem(text)
		if err != nil {
			return
		}
		var want map[string]json.RawMessage
		if err := json.Unmarshal(text, &want); err != nil {
			t.Fatal(err)
		}
		payload, ok := want["payload"]
		if !ok {
			payload = bytes.Trim(text, " \t\r\n")
		}
		if !bytes.Equal(it.Payload, payload) {
			t.Fatalf("payload %q, want %q", it.Payload, payload)
		}
		for key, got := range map[string]string{"timestamp": it.Timestamp, "type": it.Type} {
			var s string
			if ok && (json.Unmarshal(want[key], &s) != nil || s != got) {
				t.Fatalf("%s is %q, want %q", key, got, s)
			}
		}
		line, err := AppendItem(nil, it)
		if err != nil {
			return // bare, or not UTF-8
		}
		back, err := DecodeItem(line)
		if err != nil || back.Type != it.Type || back.Timestamp != it.Timestamp || back.Ordinal != it.Ordinal || back.HasOrdinal != it.HasOrdinal {
			t.Fatalf("%s becomes %+v, %v", line, back, err)
		}
	})
}
