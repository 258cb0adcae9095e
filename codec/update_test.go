package codec

import (
	"bytes"
	"encoding/json"
	"reflect"
	"testing"
)

func TestUpdate(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, line, want string
		change           func(payload any)
	}{
		{
			name:   "nothing",
			line:   ` {"type": "compacted" ,"payload":{ "message" :"\u0061<", "x":1e2},"timestamp":"t"} `,
			want:   ` {"type": "compacted" ,"payload":{ "message" :"\u0061<", "x":1e2},"timestamp":"t"} `,
			change: func(any) {},
		},
		{
			name:   "a text among unknown members and odd spellings",
			line:   ` {"type": "compacted" ,"payload":{"y":"` + "\xff" + `", "message" :"\u0061<", "x":1e2},"timestamp":"t","z":0}`,
			want:   ` {"type": "compacted" ,"payload":{"y":"` + "\xff" + `", "message" :"b\"<é", "x":1e2},"timestamp":"t","z":0}`,
			change: func(p any) { p.(*Compacted).Message = `b"<é` },
		},
		{
			name:   "nested",
			line:   `{"timestamp":"t","type":"session_meta","payload":{"git":{"u":1, "branch": "a" ,"commit_hash":"c"},"id":"i"}}`,
			want:   `{"timestamp":"t","type":"session_meta","payload":{"git":{"u":1, "branch": "b" ,"commit_hash":"c"},"id":"i"}}`,
			change: func(p any) { p.(*SessionMeta).Git.Branch = "b" },
		},
		{
			name:   "members that were not there",
			line:   `{"timestamp":"t","type":"session_meta","payload":{"git":{ },"id":"i" }}`,
			want:   `{"timestamp":"t","type":"session_meta","payload":{"git":{"commit_hash":"c","branch":"b" },"id":"i","cwd":"/w" }}`,
			change: func(p any) { m := p.(*SessionMeta); m.Cwd = "/w"; *m.Git = Git{Commit: "c", Branch: "b"} },
		},
		{
			name:   "an object that was null",
			line:   `{"timestamp":"t","type":"session_meta","payload":{"git":null,"id":"i"}}`,
			want:   `{"timestamp":"t","type":"session_meta","payload":{"git":{"branch":"b"},"id":"i"}}`,
			change: func(p any) { p.(*SessionMeta).Git = &Git{Branch: "b"} },
		},
		{
			name:   "an object that loses a member",
			line:   `{"timestamp":"t","type":"session_meta","payload":{"git":{"branch": "b","u":1},"id": "i"}}`,
			want:   `{"timestamp":"t","type":"session_meta","payload":{"git":{"commit_hash":"c"},"id": "i"}}`,
			change: func(p any) { *p.(*SessionMeta).Git = Git{Commit: "c"} },
		},
		{
			name:   "an element",
			line:   `{"timestamp":"t","type":"response_item","payload":{"type":"message","content":[{"type":"input_text", "text":"a"} , {"x":1,"text":"b"}]}}`,
			want:   `{"timestamp":"t","type":"response_item","payload":{"type":"message","content":[{"type":"input_text", "text":"a"} , {"x":1,"text":"c"}]}}`,
			change: func(p any) { p.(*Message).Content[1].Text = "c" },
		},
		{
			name:   "a number beside raw JSON",
			line:   `{"timestamp":"t","type":"event_msg","payload":{"type":"item_completed","item":{ "type":"Reasoning"},"started_at_ms": 1}}`,
			want:   `{"timestamp":"t","type":"event_msg","payload":{"type":"item_completed","item":{ "type":"Reasoning"},"started_at_ms": 2}}`,
			change: func(p any) { p.(*EventItemCompleted).StartedAtMS = 2 },
		},
		{
			name:   "a slice of another length",
			line:   `{"timestamp":"t","type":"turn_context","payload":{"workspace_roots":[ "a" ],"model":"m"}}`,
			want:   `{"timestamp":"t","type":"turn_context","payload":{"workspace_roots":["a","b"],"model":"m"}}`,
			change: func(p any) { c := p.(*TurnContext); c.WorkspaceRoots = append(c.WorkspaceRoots, "b") },
		},
		{
			name:   "equal keys",
			line:   `{"timestamp":"t","type":"turn_context","payload":{"model":"a","model":"b"}}`,
			want:   `{"timestamp":"t","type":"turn_context","payload":{"model":"a","model":"c"}}`,
			change: func(p any) { p.(*TurnContext).Model = "c" },
		},
		{
			name:   "bare",
			line:   ` {"type":"message", "role":"user"}`,
			want:   ` {"type":"message", "role":"system"}`,
			change: func(p any) { p.(*Message).Role = "system" },
		},
		{
			name:   "plain",
			line:   `{"type":"tool_call","item":{"name": "a"},"seq":3}`,
			want:   `{"type":"tool_call","item":{"name": "b"},"seq":3}`,
			change: func(p any) { p.(*PlainToolCall).Name = "b" },
		},
		{
			name:   "unknown",
			line:   `{"timestamp":"t","type":"new","payload":{"a": 1,"b": 2}}`,
			want:   `{"timestamp":"t","type":"new","payload":{"a": 1,"b": 3}}`,
			change: func(p any) { p.(*Unknown).Raw = json.RawMessage(`{"a":1,"b":3}`) },
		},
		{
			name:   "a payload that is no object",
			line:   `{"timestamp":"t","type":"turn_context","payload":7}`,
			want:   `{"timestamp":"t","type":"turn_context","payload":7}`,
			change: func(any) {},
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			it, err := DecodeItem([]byte(tc.line))
			if err != nil {
				t.Fatal(err)
			}
			payload, _ := it.Decode()
			tc.change(payload)
			got, err := Update([]byte(tc.line), payload)
			if err != nil || string(got) != tc.want {
				t.Errorf("got  %s, %v\nwant %s", got, err, tc.want)
			}
		})
	}
}

func TestUpdateRefuses(t *testing.T) {
	t.Parallel()
	const line = `{"timestamp":"t","type":"turn_context","payload":{}}`
	for name, err := range map[string]error{
		"another type": func() error { _, err := Update([]byte(line), &SessionMeta{}); return err }(),
		"no pointer":   func() error { _, err := Update([]byte(line), TurnContext{}); return err }(),
		"no item":      func() error { _, err := Update([]byte("[]"), &TurnContext{}); return err }(),
		"bad JSON": func() error {
			_, err := Update([]byte(line), &TurnContext{Network: json.RawMessage("{")})
			return err
		}(),
	} {
		if err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
}

// Whatever the line, an unchanged payload gives its bytes, and one changed text
// changes nothing but its value.
func FuzzUpdate(f *testing.F) {
	for _, s := range payloadLines {
		f.Add([]byte(s), "new\"<\xff")
	}
	f.Fuzz(func(t *testing.T, line []byte, text string) {
		it, err := DecodeItem(line)
		if err != nil {
			return
		}
		payload, _ := it.Decode()
		got, err := Update(line, payload)
		if err != nil || !bytes.Equal(got, line) {
			t.Fatalf("an unchanged payload: %v\n%q\n%q", err, got, line)
		}
		v := reflect.ValueOf(payload).Elem()
		if _, ok := payload.(*Unknown); ok {
			return
		}
		for i := range v.NumField() {
			if v.Field(i).Kind() != reflect.String {
				continue
			}
			name := v.Type().Field(i).Tag.Get("json")
			old, hasOld := parts(it.Payload)[name]
			v.Field(i).SetString(text)
			got, err := Update(line, payload)
			if err != nil {
				t.Fatal(err)
			}
			changed, err := DecodeItem(got)
			if err != nil {
				t.Fatalf("%q: %v", got, err)
			}
			p, ok := parts(changed.Payload)[name]
			if !hasOld || !ok {
				return
			}
			start := len(line) - len(it.Payload) // what surrounds the payload
			if len(got)-len(changed.Payload) != start {
				t.Fatalf("the envelope changed:\n%q\n%q", line, got)
			}
			if !bytes.Equal(it.Payload[:old.start], changed.Payload[:p.start]) || !bytes.Equal(it.Payload[old.end:], changed.Payload[p.end:]) {
				t.Fatalf("more than %s changed:\n%q\n%q", name, line, got)
			}
			return
		}
	})
}
