package mirror_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/rollout-sync/rollout"
	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store"
)

// codexHome is a home on the disk with Codex's databases in it.
type codexHome struct {
	t   *testing.T
	dir string
	*rollout.Home
}

var databases = map[string]string{
	"state_5.sqlite": "SQLite", "thread_history_1.sqlite": "SQLite", "auth.json": "{}", "config.toml": "x", "history.jsonl": "{}\n",
}

func newCodexHome(t *testing.T) *codexHome {
	t.Helper()
	h := &codexHome{t: t, dir: t.TempDir()}
	for name, content := range databases {
		h.write(name, content)
	}
	var err error
	if h.Home, err = rollout.Open(h.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { h.Close() })
	return h
}

func (h *codexHome) path(name string) string { return filepath.Join(h.dir, filepath.FromSlash(name)) }

// at is when the databases and what is written to a home were last changed.
var at = time.Date(2026, 11, 20, 9, 10, 11, 0, time.UTC)

func (h *codexHome) write(name, content string) {
	h.t.Helper()
	if err := os.MkdirAll(filepath.Dir(h.path(name)), 0o700); err != nil {
		h.t.Fatal(err)
	}
	if strings.HasSuffix(name, ".zst") {
		z, _ := zstd.NewWriter(nil)
		content = string(z.EncodeAll([]byte(content), nil))
	}
	if err := errors.Join(os.WriteFile(h.path(name), []byte(content), 0o600), os.Chtimes(h.path(name), at, at)); err != nil {
		h.t.Fatal(err)
	}
}

// names returns the paths of all rollouts of the home, and checks that all else is as
// it was. It knows nothing of package store.
func (h *codexHome) names() (rollouts []string) {
	h.t.Helper()
	others := 0
	err := filepath.WalkDir(h.dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, _ := filepath.Rel(h.dir, p)
		name = filepath.ToSlash(name)
		want, ok := databases[name]
		if !ok {
			if !strings.HasSuffix(name, ".lock") {
				rollouts = append(rollouts, name)
			}
			return nil
		}
		content, e := os.ReadFile(p)
		i, err := d.Info()
		if err = errors.Join(e, err); err != nil || string(content) != want || !i.ModTime().Equal(at) {
			h.t.Errorf("%s was touched: %q, %v", name, content, err)
		}
		others++
		return nil
	})
	if err != nil || others != len(databases) {
		h.t.Error(others, err)
	}
	return rollouts
}

// files returns all rollouts of the home, decoded.
func (h *codexHome) files() map[string]string {
	h.t.Helper()
	found := map[string]string{}
	for _, name := range h.names() {
		content, err := os.ReadFile(h.path(name))
		if err != nil {
			h.t.Fatal(err)
		}
		if strings.HasSuffix(name, ".zst") {
			content = unzstd(h.t, content)
		}
		found[name] = string(content)
	}
	return found
}

// What becomes of a session that is in the home in any way.
func TestRestoreIntoAHome(t *testing.T) {
	t.Parallel()
	const sealed, sealedArchived = file + ".zst", archived + ".zst"
	const whole = "one\ntwo\n"
	for what, c := range map[string]struct {
		home   map[string]string
		locked bool
		want   mirror.Action
		err    error
		files  map[string]string // nil: as they were
	}{
		"absent":               {want: mirror.Created, files: map[string]string{file: whole}},
		"absent, but locked":   {locked: true, want: mirror.Failed, err: store.ErrBusy},
		"equal":                {home: map[string]string{file: whole}, want: mirror.Present},
		"equal, locked":        {home: map[string]string{file: whole}, locked: true, want: mirror.Present},
		"equal, compressed":    {home: map[string]string{sealed: whole}, want: mirror.Present},
		"equal, archived":      {home: map[string]string{archived: whole}, want: mirror.Present},
		"shorter":              {home: map[string]string{file: "one\n"}, want: mirror.Extended, files: map[string]string{file: whole}},
		"empty":                {home: map[string]string{file: ""}, want: mirror.Extended, files: map[string]string{file: whole}},
		"shorter, locked":      {home: map[string]string{file: "one\n"}, locked: true, want: mirror.Failed, err: store.ErrBusy},
		"shorter, compressed":  {home: map[string]string{sealed: "one\n"}, want: mirror.Extended, files: map[string]string{file: whole}},
		"shorter, archived":    {home: map[string]string{archived: "one\n"}, want: mirror.Extended, files: map[string]string{archived: whole}},
		"shorter, both forms":  {home: map[string]string{file: "one\n", sealed: "one\ntw"}, want: mirror.Extended, files: map[string]string{file: whole}},
		"longer":               {home: map[string]string{file: whole + "three\n"}, want: mirror.Longer},
		"longer, compressed":   {home: map[string]string{sealed: whole + "three\n"}, want: mirror.Longer},
		"diverged":             {home: map[string]string{file: "ONE\n"}, want: mirror.Failed, err: mirror.ErrDiffers},
		"diverged, compressed": {home: map[string]string{sealed: "ONE\n"}, want: mirror.Failed, err: mirror.ErrDiffers},
		"diverged, archived":   {home: map[string]string{archived: "ONE\n"}, want: mirror.Failed, err: mirror.ErrDiffers},
		"live and archived": {
			home: map[string]string{file: "one\n", archived: whole}, want: mirror.Extended,
			files: map[string]string{file: whole, archived: whole},
		},
		"live, and archived something else": {
			home: map[string]string{file: whole, sealedArchived: "ONE\n"}, want: mirror.Present,
		},
		"live something else, archived shorter": {
			home: map[string]string{file: "ONE\n", archived: "one\n"}, want: mirror.Failed, err: mirror.ErrDiffers,
		},
		"in a folder of the user's": {
			home: map[string]string{"sessions/mine/" + base + ".jsonl": "one\n"}, want: mirror.Extended,
			files: map[string]string{"sessions/mine/" + base + ".jsonl": whole},
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			tm := newTeam(t)
			a := tm.newHome(t, "a")
			a.writeAt(file, whole, at)
			a.push()
			h := newCodexHome(t)
			for name, content := range c.home {
				h.write(name, content)
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
			for _, dry := range []bool{true, false} {
				r, err := mirror.Restore(ctx, mirror.Restoring{Home: h.Store(), Mirror: tm.mirror, DryRun: dry})
				if err != nil {
					t.Fatal(err)
				}
				if dry && errors.Is(c.err, store.ErrBusy) {
					continue // it takes no lock, so it cannot know
				}
				if len(r.Actions) != 1 || r.Actions[c.want] != 1 || (c.err != nil) != (len(r.Failures) == 1) {
					t.Errorf("dry=%v: %+v, want %s", dry, r, c.want)
				} else if c.err != nil && !errors.Is(r.Failures[0].Err, c.err) {
					t.Errorf("dry=%v: %v, want %v", dry, r.Failures[0].Err, c.err)
				}
				want := c.files
				if want == nil || dry {
					want = c.home
				}
				got := h.files()
				if len(got) != len(want) {
					t.Errorf("dry=%v: the home has %q, want %q", dry, got, want)
				}
				for name, content := range want {
					if got[name] != content {
						t.Errorf("dry=%v: %s is %q, want %q", dry, name, got[name], content)
					}
				}
				if fi, err := os.Stat(h.path(file)); err == nil && !fi.ModTime().Equal(at) {
					t.Errorf("dry=%v: the time is %v", dry, fi.ModTime())
				}
			}
		})
	}
}

// One id is one rollout: a second name for it, as on a file system that takes upper
// and lower case for the same, is no second file.
func TestRestoreTwoNamesOfOneID(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	a := tm.newHome(t, "a")
	a.write("sessions/rollout-a-"+id+".jsonl", "one\n")
	a.write("sessions/rollout-A-"+id+".jsonl", "ONE\n")
	a.push()
	h := newCodexHome(t)
	r, err := mirror.Restore(ctx, mirror.Restoring{Home: h.Store(), Mirror: tm.mirror})
	if err != nil || r.Actions[mirror.Created] != 1 || len(r.Failures) != 1 || !errors.Is(r.Failures[0].Err, mirror.ErrDiffers) {
		t.Errorf("%+v, %v", r, err)
	}
	if got := h.files(); len(got) != 1 {
		t.Errorf("the home has %q", got)
	}
}

// While Codex compresses or migrates, nothing is restored.
func TestRestoreWaitsForNoMaintenance(t *testing.T) {
	t.Parallel()
	tm := newTeam(t)
	a := tm.newHome(t, "a")
	a.write(file, "one\n")
	a.push()
	h := newCodexHome(t)
	codex, err := rollout.Open(h.dir)
	if err != nil {
		t.Fatal(err)
	}
	defer codex.Close()
	unlock, err := codex.Store().Lock(ctx, mirror.MaintenanceLock)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(h.path(".tmp/rollout-maintenance.lock")); err != nil {
		t.Errorf("that is not Codex's lock: %v", err)
	}
	o := mirror.Restoring{Home: h.Store(), Mirror: tm.mirror}
	if r, err := mirror.Restore(ctx, o); !errors.Is(err, store.ErrBusy) || len(r.Actions) != 0 {
		t.Errorf("%+v, %v", r, err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // and gives it back
		if _, err := mirror.Restore(ctx, o); err != nil {
			t.Error(err)
		}
	}
}

// What is in the place of a file is left alone, and leads nowhere.
func TestRestoreSymbolicLinks(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("symbolic links need a privilege on Windows")
	}
	for what, place := range map[string]func(h *codexHome, outside string) error{
		"a link to a file":          func(h *codexHome, outside string) error { return os.Symlink(outside+"/target", h.path(file)) },
		"a link to nothing":         func(h *codexHome, outside string) error { return os.Symlink(outside+"/nothing", h.path(file)) },
		"a directory":               func(h *codexHome, _ string) error { return os.Mkdir(h.path(file), 0o700) },
		"a link to a directory":     func(h *codexHome, outside string) error { return replace(filepath.Dir(h.path(file)), outside) },
		"a link to all directories": func(h *codexHome, outside string) error { return replace(h.path("sessions"), outside) },
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			tm := newTeam(t)
			a := tm.newHome(t, "a")
			a.write(file, "one\n")
			a.push()
			h, outside := newCodexHome(t), t.TempDir()
			if err := errors.Join(
				os.WriteFile(outside+"/target", []byte("mine"), 0o600),
				os.MkdirAll(filepath.Dir(h.path(file)), 0o700), place(h, outside),
			); err != nil {
				t.Fatal(err)
			}
			r, err := mirror.Restore(ctx, mirror.Restoring{Home: h.Store(), Mirror: tm.mirror})
			if err != nil || len(r.Failures) != 1 || r.Actions[mirror.Created] > 0 {
				t.Errorf("%+v, %v", r, err)
			}
			t.Log(r.Failures)
			entries, err := os.ReadDir(outside)
			target, e := os.ReadFile(outside + "/target")
			if len(entries) != 1 || err != nil || string(target) != "mine" || e != nil {
				t.Errorf("outside there is %v (%q), %v", entries, target, errors.Join(err, e))
			}
		})
	}
}

func replace(dir, by string) error { return errors.Join(os.RemoveAll(dir), os.Symlink(by, dir)) }

// An object that does not decode to what it says is not restored, and nothing of it
// is written beyond what it says.
func TestRestoreLyingObjects(t *testing.T) {
	t.Parallel()
	bomb := strings.Repeat("\x00", 64<<20)
	for what, make := range map[string]func(t *testing.T, tm *team){
		"metadata of another size": func(t *testing.T, tm *team) {
			p, meta := sealed(t, tm)
			meta["size"] = "3"
			rewrite(t, tm.bucket, p, meta)
		},
		"more frames than it says": func(t *testing.T, tm *team) {
			p, meta := sealed(t, tm)
			z, _ := zstd.NewWriter(nil)
			rewrite(t, tm.bucket, append(z.EncodeAll([]byte(bomb), nil), p...), meta)
		},
		"a bomb without a trailer": func(t *testing.T, tm *team) {
			z, _ := zstd.NewWriter(nil)
			rewrite(t, tm.bucket, z.EncodeAll([]byte(bomb), nil), nil)
		},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			tm := newTeam(t)
			a := tm.newHome(t, "a")
			a.write(file, "one\n")
			a.push()
			make(t, tm)
			h := newCodexHome(t)
			for _, names := range [][]codec.Name{nil, {nameOf(t, file)}} {
				r, err := mirror.Restore(ctx, mirror.Restoring{Home: h.Store(), Mirror: tm.mirror, Rollouts: names})
				if err != nil || len(r.Failures) != 1 || !errors.Is(r.Failures[0].Err, store.ErrCorrupt) {
					t.Errorf("%+v, %v", r, err)
				}
			}
			if got := h.files(); len(got) > 0 {
				t.Errorf("the home has %d files", len(got))
			}
		})
	}
}

func nameOf(t *testing.T, p string) codec.Name {
	t.Helper()
	n, err := codec.ParseName(filepath.Base(p))
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// sealed returns the object of the one rollout, and its metadata.
func sealed(t *testing.T, tm *team) ([]byte, map[string]string) {
	t.Helper()
	p, err := tm.bucket.ReadAll(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	a, err := tm.bucket.Attributes(ctx, key)
	if err != nil {
		t.Fatal(err)
	}
	return p, a.Metadata
}
