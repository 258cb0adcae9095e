package mirror_test

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/rollout-sync/rollout"
	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store"
)

// What becomes of a session that is in the home in any way, while the mirror has
// "one\ntwo\n".
func TestPruneAHome(t *testing.T) {
	t.Parallel()
	const sealedFile, whole = file + ".zst", "one\ntwo\n"
	for what, c := range map[string]struct {
		home   map[string]string
		locked bool
		spoil  bool // the object
		want   mirror.Action
		err    error
	}{
		"equal":                            {home: map[string]string{file: whole}, want: mirror.Trashed},
		"equal, locked":                    {home: map[string]string{file: whole}, locked: true, want: mirror.Kept, err: store.ErrBusy},
		"equal, compressed":                {home: map[string]string{sealedFile: whole}, want: mirror.Trashed},
		"equal, archived":                  {home: map[string]string{archived: whole}, want: mirror.Trashed},
		"shorter":                          {home: map[string]string{file: "one\n"}, want: mirror.Trashed},
		"empty":                            {home: map[string]string{file: ""}, want: mirror.Trashed},
		"longer":                           {home: map[string]string{file: whole + "three\n"}, want: mirror.Kept, err: mirror.ErrNotMirrored},
		"diverged":                         {home: map[string]string{file: "one\nTWO\n"}, want: mirror.Kept, err: mirror.ErrNotMirrored},
		"diverged, and shorter":            {home: map[string]string{file: "ONE\n"}, want: mirror.Kept, err: mirror.ErrNotMirrored},
		"equal, and the object is damaged": {home: map[string]string{file: whole}, spoil: true, want: mirror.Failed, err: store.ErrCorrupt},
		"both forms":                       {home: map[string]string{file: whole, sealedFile: whole}, want: mirror.Trashed},
		"both forms, the compressed one is shorter": {home: map[string]string{file: whole, sealedFile: "one\n"}, want: mirror.Trashed},
		"both forms, the plain one was cut short":   {home: map[string]string{file: "one\n", sealedFile: whole}, want: mirror.Trashed},
		"both forms, the compressed one differs":    {home: map[string]string{file: whole, sealedFile: "uno\n"}, want: mirror.Kept, err: mirror.ErrForms},
		"both forms, the compressed one is damaged": {home: map[string]string{file: whole, sealedFile: "-"}, want: mirror.Kept, err: mirror.ErrForms},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			tm := newTeam(t)
			a := tm.newHome(t, "a")
			a.writeAt(file, whole, at)
			a.push()
			if c.spoil {
				p, meta := sealed(t, tm)
				p[bytes.Index(p, []byte(whole))] ^= 1
				rewrite(t, tm.bucket, p, meta)
			}
			h := newCodexHome(t)
			for name, content := range c.home {
				h.write(name, content)
				if content == "-" {
					if err := os.WriteFile(h.path(name), []byte("no zstd"), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			if c.locked {
				codex, err := rollout.Open(h.dir)
				if err != nil {
					t.Fatal(err)
				}
				defer codex.Close()
				unlock, err := codex.Store().Lock(ctx, file)
				if err != nil {
					t.Fatal(err)
				}
				defer unlock()
			}
			var got []mirror.Pruned
			o := mirror.Pruning{
				Home: h.Store(), Mirror: tm.mirror, Older: time.Hour, Each: func(p mirror.Pruned) { got = append(got, p) },
			}
			// The ctime is now: too young.
			if r, err := mirror.Prune(ctx, o); err != nil || r.Rollouts != 1 || len(got) > 0 {
				t.Errorf("%+v, %v", r, err)
			}
			o.Now = func() time.Time { return time.Now().Add(2 * time.Hour) }
			r, err := mirror.Prune(ctx, o)
			if err != nil {
				t.Fatal(err)
			}
			if len(got) != 1 || got[0].Action != c.want || !errors.Is(got[0].Err, c.err) {
				t.Fatalf("%+v, want %s, %v", got, c.want, c.err)
			}
			if c.want != mirror.Trashed {
				h.is(c.home)
				return
			}
			var moved string
			for name, content := range h.raw() {
				if !strings.HasPrefix(name, mirror.TrashDir+"/") || moved != "" {
					t.Errorf("the home has %s", name)
				}
				moved = name
				if strings.HasSuffix(name, ".zst") {
					content = string(unzstd(t, []byte(content)))
				}
				if !strings.HasPrefix(whole, content) {
					t.Errorf("the trash has %q", content)
				}
				if fi, err := os.Stat(h.path(name)); err != nil || !fi.ModTime().Equal(at) || r.Trashed != fi.Size() {
					t.Errorf("%v, %v; %d bytes", fi, err, r.Trashed)
				}
			}
			o.Now = func() time.Time { return time.Now().Add(3 * time.Hour) }
			again, err := mirror.Prune(ctx, o)
			if err != nil || again.Actions[mirror.Freed] != 1 || again.Freed != r.Trashed || len(h.raw()) > 0 {
				t.Errorf("%+v, %v; left: %q", again, err, h.raw())
			}
		})
	}
}

// raw returns the rollouts of the home as they lie there.
func (h *codexHome) raw() map[string]string {
	h.t.Helper()
	got := map[string]string{}
	for _, name := range h.names() {
		content, err := os.ReadFile(h.path(name))
		if err != nil {
			h.t.Fatal(err)
		}
		got[name] = string(content)
	}
	return got
}

// is checks that the home has these files.
func (h *codexHome) is(want map[string]string) {
	h.t.Helper()
	got := h.raw()
	if len(got) != len(want) {
		h.t.Errorf("the home has %q, want %q", got, want)
	}
	for name, content := range want {
		if content == "-" {
			content = "no zstd"
		} else if strings.HasSuffix(name, ".zst") {
			z, _ := zstd.NewWriter(nil)
			content = string(z.EncodeAll([]byte(content), nil))
		}
		if got[name] != content {
			h.t.Errorf("%s is %q, want %q", name, got[name], content)
		}
	}
}
