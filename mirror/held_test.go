package mirror

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/rollout-sync/rollout/store"
)

// fakeFile says that it has size bytes, and takes as many as are stored.
type fakeFile struct {
	store.File
	size    int64
	stored  int64
	content string
	err     error
}

func (f *fakeFile) Info() store.Info { return store.Info{Size: f.size, Stored: f.stored} }
func (f *fakeFile) Close() error     { return nil }

func (f *fakeFile) Range(context.Context, int64, int64) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(f.content)), f.err
}

// What is held is what a file has, and what cannot be held is left as it is, with its
// place free for the next.
func TestHold(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	h := newHolder(1)
	for range 3 {
		for what, c := range map[string]struct {
			f    fakeFile
			held bool
		}{
			"as it was":         {fakeFile{size: 4, content: "one\n"}, true},
			"cut":               {fakeFile{size: 8, content: "one\n"}, true},
			"empty":             {fakeFile{}, true},
			"grown":             {fakeFile{size: 4, content: "one\ntwo\n"}, false},
			"broken":            {fakeFile{size: 4, err: broken}, false},
			"compressed":        {fakeFile{size: -1}, false},
			"the largest":       {fakeFile{size: heldMax, content: strings.Repeat("x", heldMax)}, true},
			"larger":            {fakeFile{size: heldMax + 1, content: strings.Repeat("x", heldMax+1)}, false},
			"large, and broken": {fakeFile{size: heldMax, err: broken}, false},
		} {
			f := h.hold(t.Context(), &c.f)
			held, ok := f.(*heldFile)
			if ok != c.held {
				t.Errorf("%s: held %v", what, ok)
			}
			if ok && string(held.bytes(0, -1)) != c.f.content {
				t.Errorf("%s: it has %d bytes", what, len(held.bytes(0, -1)))
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// What is too large to be held has one of the places of the larger ones, what is small,
// compressed or not, one of the smaller ones.
func TestHoldPlaces(t *testing.T) {
	t.Parallel()
	h := newHolder(1)
	for _, f := range []*fakeFile{{size: 1, stored: 1, content: "x"}, {size: -1, stored: 1}} {
		small := h.hold(t.Context(), f)
		if small == store.File(f) || len(h.smaller) != 0 {
			t.Errorf("%+v has no place of the smaller ones", f)
		}
		if err := small.Close(); err != nil {
			t.Error(err)
		}
	}
	large := &fakeFile{size: 1 << 20, content: strings.Repeat("x", 1<<20)}
	tooLarge := &fakeFile{size: heldMax + 1}
	done, cancel := context.WithCancel(t.Context())
	cancel()
	first, second := h.hold(t.Context(), tooLarge), h.hold(t.Context(), large)
	if len(h.larger) != 0 {
		t.Fatalf("%d of the places are free", len(h.larger))
	}
	for _, f := range []store.File{large, tooLarge, &fakeFile{size: -1, stored: 1 << 20}} {
		if h.hold(done, f) != f {
			t.Error("there is a third place")
		}
	}
	for _, f := range []store.File{first, second} {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
		if _, ok := h.hold(t.Context(), large).(*heldFile); !ok {
			t.Error("its place is not left")
		}
	}
}
