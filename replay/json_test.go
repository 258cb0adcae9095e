package replay_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/rollout-sync/rollout/replay"
)

// Long strings are written piece by piece, and make the same line as all at once.
func TestWriteJSONLongStrings(t *testing.T) {
	t.Parallel()
	const long = 3 << 20
	r := rand.New(rand.NewPCG(1, 1))
	runes := []rune{'a', '"', '\\', '\n', '<', 'é', '漢', '😀', '\u202e', '\u2028', 0x1b, 0, utf8.RuneError}
	text := func() string {
		var b strings.Builder
		for b.Len() < long {
			b.WriteRune(runes[r.IntN(len(runes))])
			if r.IntN(50) == 0 {
				b.WriteByte(byte(r.Uint32())) // perhaps no UTF-8
			}
		}
		return b.String()
	}
	e := replay.Entry{
		Kind: replay.KindCall, Line: 3, Title: text(), Text: strings.Repeat("\x80", long),
		Call: &replay.Call{Input: text(), Arguments: "short"},
		Result: &replay.Result{
			Output: text(),
			Images: []replay.Image{{URL: "data:image/png;base64," + strings.Repeat("A", long)}, {URL: "https://" + text()}},
		},
	}
	var got bytes.Buffer
	err := replay.WriteJSON(&got, func(yield func(replay.Entry, error) bool) {
		yield(replay.Entry{Kind: replay.KindUser, Text: "before"}, nil)
		yield(e, nil)
		yield(replay.Entry{Kind: replay.KindUser, Text: "after"}, nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	lines := bytes.Split(got.Bytes(), []byte("\n"))
	if len(lines) != 4 || !bytes.Contains(lines[0], []byte(`"before"`)) || !bytes.Contains(lines[2], []byte(`"after"`)) {
		t.Fatalf("%d lines", len(lines))
	}
	want, err := json.Marshal(e)
	if err != nil {
		t.Fatal(err)
	}
	var a, b replay.Entry
	if err := errors.Join(json.Unmarshal(want, &a), json.Unmarshal(lines[1], &b)); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(a, b) {
		t.Error("the entry comes back as another one")
	}
	if i := bytes.IndexFunc(lines[1], func(r rune) bool { return r == '\u202e' || r == 0x1b }); i >= 0 {
		t.Errorf("byte %d could do something to a terminal", i)
	}
	if len(e.Text) != long || len(e.Call.Input) < long {
		t.Error("the entry was changed")
	}
}
