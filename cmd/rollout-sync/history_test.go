package main

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout"
	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/recorder"
	"github.com/rollout-sync/rollout/replay"
)

func TestWriteHistory(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	h, err := rollout.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	id := uuid.MustParse("01a1f81e-b96c-7071-a214-a4467b4a9b32")
	r, err := h.New(recorder.Meta{ID: id, Cwd: "/w", Originator: "test", CLIVersion: "1.2.3"})
	if err != nil {
		t.Fatal(err)
	}
	item := func(words string) string {
		return `{"type":"message","role":"user","content":[{"type":"input_text","text":"` + words + `"}]}`
	}
	for _, words := range []string{"one <b>", "two"} {
		err := r.Record(t.Context(),
			codec.Item{Type: codec.TypeResponseItem, Payload: json.RawMessage(item(words))},
			codec.Item{Type: codec.TypeEventMsg, Payload: json.RawMessage(`{"type":"user_message","message":"` + words + `"}`)},
		)
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := r.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	it, err := h.Find(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	p := &places{home: h, list: []listing.Place{h.Place()}}
	for at, want := range map[string]string{
		"":       "[\n" + item("one <b>") + ",\n" + item("two") + "\n]\n",
		"turn:1": "[\n" + item("one <b>") + "\n]\n",
		"2":      "[\n" + item("one <b>") + "\n]\n",
		"1":      "[]\n",
	} {
		var out bytes.Buffer
		a := &app{stdio: stdio{nil, &out, &bytes.Buffer{}}}
		point, err := parsePoint(at)
		if err != nil {
			t.Fatal(err)
		}
		if err := a.writeHistory(t.Context(), h.Store(), it.Path, replay.Options{At: point, Find: p.find}); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); got != want {
			t.Errorf("--at %q: got %s, want %s", at, got, want)
		}
	}
	for _, at := range []string{"x", "turn:", "turn:-1", "-1", "99999999999"} {
		if _, err := parsePoint(at); err == nil || exitCode(t.Context(), err) != exitUsage {
			t.Errorf("--at %q: got %v", at, err)
		}
	}
}
