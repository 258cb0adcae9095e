package doctor_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/gofrs/flock"
	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"

	"github.com/rollout-sync/rollout"
	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/doctor"
	"github.com/rollout-sync/rollout/store"
)

var ctx = context.Background()

const (
	day = "sessions/2026/11/20/"
	idA = "01a1f81e-6bb9-7000-8000-00000000000a"
	idB = "01a1f81e-6bb9-7000-8000-00000000000b"
	idC = "01a1f81e-6bb9-7000-8000-00000000000c"
	a   = "rollout-2026-11-20T08-41-45-" + idA + ".jsonl"
	b   = "rollout-2026-11-20T08-41-45-" + idB + ".jsonl"
	c   = "rollout-2026-11-20T08-41-45-" + idC + ".jsonl"
)

// old is when files of a test were written.
var old = time.Now().Add(-24 * time.Hour)

func meta(id, more string) string {
	return `{"timestamp":"2026-11-20T08:41:45.701Z","type":"session_meta","payload":{"id":"` + id +
		`","timestamp":"2026-11-20T08:41:45.701Z","cwd":"/w","originator":"o","cli_version":"1"` + more + "}}\n"
}

const user = `{"timestamp":"2026-11-20T08:41:46.701Z","type":"event_msg","payload":{"type":"user_message","message":"hi"}}` + "\n"

// numbered gives lines the ordinals from 0 on.
func numbered(lines string) string { return renumbered(lines, 0, 1, 2, 3) }

func renumbered(lines string, ordinals ...int) string {
	var out strings.Builder
	for i, line := range strings.SplitAfter(lines, "\n") {
		if line != "" {
			out.WriteString(strings.Replace(line, `Z","type":`, fmt.Sprintf(`Z","ordinal":%d,"type":`, ordinals[i]), 1))
		}
	}
	return out.String()
}

const paginated = `,"history_mode":"paginated"`

func session(id string) string { return meta(id, "") + user }

// based is a paginated session that begins with a part of another.
func based(id, base string, offset int) string {
	return numbered(meta(id, fmt.Sprintf(`%s,"history_base":{"thread_id":%q,"end_ordinal_exclusive":2,"end_byte_offset":%d}`, paginated, base, offset)))
}

func compressed(content string) string {
	w, err := zstd.NewWriter(nil)
	if err != nil {
		panic(err)
	}
	return string(w.EncodeAll([]byte(content), nil))
}

func sealed(content string) string {
	var out bytes.Buffer
	s := codec.NewSealer(&out, old)
	_, err := s.Write([]byte(content))
	if err := errors.Join(err, s.Close()); err != nil {
		panic(err)
	}
	return out.String()
}

// write makes a home of files. A name that ends in "/" is a directory.
func write(t *testing.T, files map[string]string) *os.Root {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Chtimes(file, old, old); err != nil {
			t.Fatal(err)
		}
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { root.Close() })
	return root
}

func examine(t *testing.T, home *os.Root, deep bool) (found []doctor.Finding) {
	t.Helper()
	r, err := doctor.Examine(ctx, doctor.Examining{Home: home, Deep: deep, Each: func(f doctor.Finding) { found = append(found, f) }})
	if err != nil {
		t.Fatal(err)
	}
	if r.Problems+r.Notes != len(found) {
		t.Errorf("%d problems and %d notes, and %d findings", r.Problems, r.Notes, len(found))
	}
	return found
}

// lines are findings as a test wants them: "problem torn PATH".
func lines(found []doctor.Finding) (got []string) {
	for _, f := range found {
		level := "problem"
		if f.Note {
			level = "note"
		}
		if f.Mendable {
			level += "*"
		}
		got = append(got, fmt.Sprintf("%s %s %s", level, f.Kind, f.Path))
		if f.Detail == "" || f.Cure == "" || strings.ContainsAny(f.Detail+f.Cure, "\n") {
			got = append(got, fmt.Sprintf("not one line: %+v", f))
		}
	}
	return got
}

func TestExamine(t *testing.T) {
	t.Parallel()
	parent := numbered(meta(idA, paginated) + user)
	parentLen := len(parent)
	agent := strings.Replace(user, "user_message", "agent_message", 1)
	big := strings.Repeat(agent, 20_000) // over 1 MiB
	for _, test := range []struct {
		name  string
		files map[string]string
		want  []string // "*" after the level: can be mended
		deep  []string // more of a deep run
		text  string   // in the detail of the first
	}{
		{name: "a fresh home"},
		{name: "a sound home", files: map[string]string{
			day + a:                  session(idA),
			day + b + ".zst":         sealed(session(idB)),
			"archived_sessions/" + c: numbered(meta(idC, paginated) + user),
			"config.toml":            "not a session",
			day + "notes.txt":        "neither",
		}},
		{name: "compressed by Codex", files: map[string]string{day + a + ".zst": compressed(session(idA))}},
		{name: "crlf and blank lines", files: map[string]string{day + a: "\n" + strings.ReplaceAll(session(idA), "\n", "\r\n")}},

		{
			name: "torn", files: map[string]string{day + a: session(idA) + user[:50]},
			want: []string{"note torn " + day + a}, text: fmt.Sprintf("from byte %d on", len(session(idA))),
		},
		{
			name: "torn, far behind", files: map[string]string{day + a: session(idA) + big + user[:50]},
			want: []string{"note torn " + day + a},
		},
		{
			name: "torn in a line that is not looked into", files: map[string]string{day + a: meta(idA, "") + `{"timestamp":"` + strings.Repeat("x", 3<<20)},
			want: []string{"note torn " + day + a}, deep: []string{"note hidden " + day + a},
		},
		{
			name: "torn inside a character", files: map[string]string{day + a: session(idA) + `{"timestamp":"` + "\xe6\x97"},
			want: []string{"problem torn " + day + a}, text: "do not read the session",
		},
		{
			name: "torn inside a character, paginated", files: map[string]string{day + a: numbered(meta(idA, paginated)+user) + `{"timestamp":"` + "\xf0\x9f\x98"},
			want: []string{"problem torn " + day + a}, text: "inside a character",
		},
		{
			name: "without the last newline", files: map[string]string{day + a: strings.TrimSuffix(session(idA), "\n")},
			want: []string{"note unended " + day + a},
		},

		{
			name: "no JSON", files: map[string]string{day + a: meta(idA, "") + "{]\n" + user},
			want: []string{"problem damaged " + day + a}, text: fmt.Sprintf("line 2, byte %d: not valid JSON", len(meta(idA, ""))),
		},
		{
			name: "no JSON, far behind", files: map[string]string{day + a: session(idA) + big + "{]\n" + user + "[]\n"},
			deep: []string{"problem damaged " + day + a},
		},
		{
			name: "NULs at the end", files: map[string]string{day + a: session(idA) + big + strings.Repeat("\x00", 4096)},
			want: []string{"problem damaged " + day + a},
		},
		{
			name: "NULs in the middle", files: map[string]string{day + a: meta(idA, "") + "\x00\x00\n" + user},
			want: []string{"problem damaged " + day + a}, text: "NUL",
		},
		{
			name: "glued", files: map[string]string{day + a: meta(idA, "") + user[:40] + user + user},
			want: []string{"problem damaged " + day + a}, text: "cut off",
		},
		{
			name: "two records in a line", files: map[string]string{day + a: session(idA) + strings.TrimSpace(user) + user},
			deep: []string{"problem damaged " + day + a},
		},
		{
			name: "empty", files: map[string]string{day + a: ""},
			want: []string{"problem damaged " + day + a}, text: "empty",
		},
		{
			name: "not UTF-8", files: map[string]string{day + a: meta(idA, "") + strings.Replace(user, "hi", "\xff", 1)},
			want: []string{"problem not_utf8 " + day + a},
		},

		{
			name: "no zstd", files: map[string]string{day + a + ".zst": session(idA), day + b + ".zst": ""},
			want: []string{"problem unreadable " + day + a + ".zst", "problem unreadable " + day + b + ".zst"},
		},
		{
			name: "a cut sealed file", files: map[string]string{day + a + ".zst": sealed(session(idA))[:100]},
			want: []string{"problem unreadable " + day + a + ".zst"},
		},
		{
			name: "a changed sealed file", files: map[string]string{day + a + ".zst": flip(sealed(session(idA) + big))},
			deep: []string{"problem unreadable " + day + a + ".zst"},
		},

		{
			name: "no session_meta", files: map[string]string{day + a: user},
			want: []string{"problem no_meta " + day + a},
		},
		{
			name: "half a session_meta", files: map[string]string{day + a: meta(idA, "")[:100]},
			want: []string{"note torn " + day + a, "problem no_meta " + day + a},
		},
		{
			name: "session_meta later", files: map[string]string{day + a: user + meta(idA, "")},
			want: []string{"problem no_meta " + day + a}, text: "not the first",
		},
		{
			name: "session_meta without a member", files: map[string]string{day + a: strings.Replace(session(idA), `"cwd"`, `"dir"`, 1)},
			want: []string{"problem no_meta " + day + a}, text: "no cwd",
		},
		{
			name: "session_meta without a timestamp", files: map[string]string{day + a: strings.Replace(session(idA), `"timestamp"`, `"time"`, 1)},
			want: []string{"problem no_meta " + day + a},
		},
		{
			name: "unknown history_mode", files: map[string]string{day + a: meta(idA, `,"history_mode":"paged"`) + user},
			want: []string{"problem no_meta " + day + a}, text: "history_mode",
		},
		{
			name: "another's id", files: map[string]string{day + a: session(idB)},
			want: []string{"problem wrong_id " + day + a}, text: idB,
		},
		{
			name: "of 2025", files: map[string]string{day + a: `{"id":"` + idA + `","timestamp":"2025-07-20T10:00:00.5Z"}` + "\n" +
				`{"type":"message","role":"user","content":[]}` + "\n" + `{"record_type":"state"}` + "\n"},
			want: []string{"note bare " + day + a},
		},
		{
			name: "no message", files: map[string]string{day + a: meta(idA, "")},
			want: []string{"note hidden " + day + a},
		},
		{
			name: "a message too late", files: map[string]string{day + a: meta(idA, "") + strings.Repeat(agent, 300) + user},
			want: []string{"note hidden " + day + a},
		},
		{
			name: "a goal and a completed item", files: map[string]string{
				day + a: meta(idA, "") + strings.Replace(user, `"user_message","message":"hi"`, `"thread_goal_updated","goal":{"objective":"x"}`, 1),
				day + b: meta(idB, "") + strings.Replace(user, `"user_message","message":"hi"`, `"item_completed","item":{"type":"UserMessage","content":[]}`, 1),
			},
		},
		{
			name: "a subagent's", files: map[string]string{day + a: meta(idA, `,"source":{"subagent":"review"}`)},
		},

		{
			name: "ordinals that do not rise", files: map[string]string{day + a: renumbered(meta(idA, paginated)+user+user, 0, 1, 1)},
			deep: []string{"problem ordinals " + day + a}, text: "ordinal 1 after 1",
		},
		{
			name: "ordinals with gaps", files: map[string]string{day + a: renumbered(meta(idA, paginated)+user+user, 5, 7, 20)},
		},
		{
			name: "no last ordinal", files: map[string]string{day + a: numbered(meta(idA, paginated)+user) + user},
			want: []string{"problem ordinals " + day + a}, text: "last record",
		},
		{
			name: "a second session_meta", files: map[string]string{day + a: numbered(meta(idA, paginated) + user + meta(idA, paginated))},
			deep: []string{"problem ordinals " + day + a}, text: "second session_meta",
		},
		{
			name: "a second session_meta of a legacy fork", files: map[string]string{day + a: meta(idA, "") + meta(idB, "") + user},
		},

		{
			name: "a fork and its base", files: map[string]string{
				day + a: parent, day + b: based(idB, idA, parentLen), "archived_sessions/" + c: based(idC, idB, len(based(idB, idA, parentLen))),
			},
		},
		{
			name: "a compressed base", files: map[string]string{
				day + a + ".zst": sealed(parent), day + b: based(idB, idA, parentLen), day + c: based(idC, idA, parentLen+1),
			},
			want: []string{"problem lineage " + day + c},
		},
		{
			name: "no base", files: map[string]string{day + b: based(idB, idA, 10)},
			want: []string{"problem lineage " + day + b}, text: "missing",
		},
		{
			name: "a short base", files: map[string]string{day + a: parent, day + b: based(idB, idA, parentLen+1)},
			want: []string{"problem lineage " + day + b}, text: "too short",
		},
		{
			name: "a base within a line", files: map[string]string{day + a: parent, day + b: based(idB, idA, parentLen-1)},
			want: []string{"problem lineage " + day + b}, text: "within a line",
		},
		{
			name: "a cycle", files: map[string]string{day + a: based(idA, idB, 10), day + b: based(idB, idA, 10)},
			want: []string{"problem lineage " + day + a, "problem lineage " + day + b}, text: "begins with itself",
		},

		{
			name: "both forms, the same", files: map[string]string{day + a: session(idA), day + a + ".zst": compressed(session(idA))},
			want: []string{"problem* forms " + day + a + ".zst"}, text: "the same bytes",
		},
		{
			name: "both forms, the plain one shorter", files: map[string]string{day + a: session(idA), day + a + ".zst": sealed(session(idA) + user)},
			want: []string{"problem* forms " + day + a}, text: "goes on",
		},
		{
			name: "both forms, the plain one longer", files: map[string]string{day + a: session(idA) + user, day + a + ".zst": sealed(session(idA))},
			want: []string{"problem* forms " + day + a + ".zst"},
		},
		{
			name: "both forms, different", files: map[string]string{day + a: session(idA) + user, day + a + ".zst": sealed(session(idA) + "\n" + user)},
			want: []string{"problem forms " + day + a + ".zst"}, text: "other bytes",
		},
		{
			name: "both forms, one damaged", files: map[string]string{day + a: session(idA), day + a + ".zst": "no zstd"},
			want: []string{"problem unreadable " + day + a + ".zst", "problem forms " + day + a + ".zst"},
		},
		{
			name: "live and archived, the same", files: map[string]string{day + a: session(idA), "archived_sessions/" + a: session(idA)},
			want: []string{"problem* duplicate archived_sessions/" + a},
		},
		{
			name: "live and archived, longer", files: map[string]string{day + a: session(idA), "archived_sessions/" + a + ".zst": compressed(session(idA) + user)},
			want: []string{"problem duplicate " + day + a}, text: "goes on",
		},
		{
			name: "in two directories, longer", files: map[string]string{day + a: session(idA), "sessions/" + a + ".zst": compressed(session(idA) + user)},
			want: []string{"problem* duplicate " + day + a}, text: "goes on",
		},
		{
			name: "in two directories, different", files: map[string]string{day + a: session(idA) + user, "sessions/" + a: session(idA) + "\n"},
			want: []string{"problem duplicate " + day + a},
		},
		{
			name: "a reverted session", files: map[string]string{
				day + a: parent,
				day + strings.Replace(a, ".jsonl", "_"+idB+".jsonl", 1): based(idA, idA, parentLen),
			},
		},

		{
			name: "another date's directory", files: map[string]string{"sessions/2026/11/21/" + a: session(idA), "sessions/" + b: session(idB)},
			want: []string{"note wrong_date sessions/2026/11/21/" + a},
		},
		{
			name: "leftovers", files: map[string]string{
				day + "." + a + ".1234.tmp": "x", day + "rollout-compress-1.tmp": "x", day + a + ".lock": "",
				"thread-writer-locks/" + idA + ".lock": "", "thread-writer-locks/.coordination.lock": "", "thread-writer-locks/odd.lock": "",
				".locks/0123.lock": "",
			},
			want: []string{
				"note* lock thread-writer-locks/" + idA + ".lock", "note* lock thread-writer-locks/odd.lock", "note* lock .locks/0123.lock",
				"note* temporary " + day + "." + a + ".1234.tmp", "note* temporary " + day + "rollout-compress-1.tmp", "note* lock " + day + a + ".lock",
			},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			home := write(t, test.files)
			for _, deep := range []bool{false, true} {
				found := examine(t, home, deep)
				want := slices.Clone(test.want)
				if deep {
					want = append(want, test.deep...)
				}
				got := lines(found)
				slices.Sort(got)
				slices.Sort(want)
				if d := cmp.Diff(want, got); d != "" {
					t.Errorf("deep %v: %s", deep, d)
				}
				if len(want) > 0 && (len(found) == 0 || !strings.Contains(found[0].Detail, test.text)) {
					t.Errorf("deep %v: no %q in %+v", deep, test.text, found)
				}
			}
		})
	}
}

// flip changes a bit in the middle, which is none of the first frame.
func flip(s string) string {
	b := []byte(s)
	b[len(b)/2] ^= 1
	return string(b)
}

// Wherever a session was cut off, that is all that is said, and whether it is within a
// character.
func TestExamineCutAnywhere(t *testing.T) {
	t.Parallel()
	meta := meta(idA, "")
	whole := meta + strings.Replace(user, "hi", "né 世界 🙂", 1)
	home := write(t, map[string]string{day + a: whole})
	for n := len(whole) - 1; n >= 0; n-- {
		file := filepath.Join(home.Name(), filepath.FromSlash(day+a))
		if err := errors.Join(os.Truncate(file, int64(n)), os.Chtimes(file, old, old)); err != nil {
			t.Fatal(err)
		}
		var want []string
		switch {
		case n == 0:
			want = append(want, "problem damaged")
		case n == len(whole)-1 || n == len(meta)-1:
			want = append(want, "note unended")
		case n == len(meta):
		case !utf8.ValidString(whole[:n]):
			want = append(want, "problem torn")
		default:
			want = append(want, "note torn")
		}
		switch {
		case n > 0 && n < len(meta)-1:
			want = append(want, "problem no_meta")
		case n > 0 && n < len(whole)-1:
			want = append(want, "note hidden")
		}
		for i := range want {
			want[i] += " " + day + a
		}
		for _, deep := range []bool{false, true} {
			if d := cmp.Diff(want, lines(examine(t, home, deep))); d != "" {
				t.Fatalf("cut to %d bytes, deep %v: %s", n, deep, d)
			}
		}
	}
}

// Whatever is in a file, it is looked at and left as it is.
func FuzzExamine(f *testing.F) {
	for _, content := range []string{
		session(idA), numbered(meta(idA, paginated) + user), based(idA, idB, 3), sealed(session(idA)), compressed(session(idA)),
		session(idA) + "\x00\x00", `{"id":"x","timestamp":"y"}`, "\n\n{}\xff",
	} {
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content string) {
		files := map[string]string{day + a: content, day + b + ".zst": content, day + c: content, day + c + ".zst": content}
		home := write(t, files)
		quick, deep := len(examine(t, home, false)), len(lines(examine(t, home, true)))
		if d := cmp.Diff(files, tree(t, home)); d != "" {
			t.Error(d)
		}
		if quick > 0 && deep == 0 {
			t.Errorf("%d findings, and none deep", quick)
		}
	})
}

// What has a writer, or had a moment ago, may be as it is.
func TestExamineWhileWritten(t *testing.T) {
	t.Parallel()
	torn := session(idA) + user[:50]
	home := write(t, map[string]string{
		day + a: torn, day + b: strings.ReplaceAll(torn, idA, idB), "thread-writer-locks/" + idA + ".lock": "",
		day + c: "", day + "new.tmp": "x",
	})
	now := time.Now()
	for _, name := range []string{day + c, day + "new.tmp"} {
		if err := home.Chtimes(name, now, now); err != nil {
			t.Fatal(err)
		}
	}
	writer := flock.New(filepath.Join(home.Name(), "thread-writer-locks", idA+".lock"))
	if ok, err := writer.TryLock(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	defer writer.Unlock()
	if d := cmp.Diff([]string{"note torn " + day + b}, lines(examine(t, home, false))); d != "" {
		t.Error(d)
	}
}

func TestExamineModes(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("it has no modes")
	}
	home := write(t, map[string]string{day + a: session(idA), day + b: session(idB), "archived_sessions/" + c: session(idC), "session_index.jsonl": ""})
	if err := os.Symlink(path.Base(a), filepath.Join(home.Name(), filepath.FromSlash(day+strings.ReplaceAll(a, idA, idC)))); err != nil {
		t.Fatal(err)
	}
	want := []string{"problem link " + day + c}
	// Behind a directory that others cannot enter its mode does not matter.
	if err := home.Chmod(".", 0o755); err != nil {
		t.Fatal(err)
	}
	if entered(filepath.Dir(home.Name())) {
		want = append(want, "problem exposed .")
	}
	if os.Getuid() != 0 { // who may read everything
		for file, mode := range map[string]fs.FileMode{day + a: 0, "archived_sessions": 0, "session_index.jsonl": 0} {
			if err := home.Chmod(file, mode); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = home.Chmod(file, 0o700) })
			want = append(want, "problem unreadable "+file)
		}
	}
	got := lines(examine(t, home, false))
	slices.Sort(got)
	slices.Sort(want)
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// entered reports whether everybody can enter a directory.
func entered(dir string) bool {
	for ; ; dir = filepath.Dir(dir) {
		if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm()&1 == 0 {
			return false
		}
		if dir == filepath.Dir(dir) {
			return true
		}
	}
}

// tree returns the content of all files of a home.
func tree(t *testing.T, home *os.Root) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := fs.WalkDir(home.FS(), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := home.ReadFile(name)
		files[name] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// An examination changes nothing. Mending moves or, of locks, removes what it says,
// keeps every byte, and leaves nothing to mend.
func TestMend(t *testing.T) {
	t.Parallel()
	const keep = "rollout-doctor/now"
	before := map[string]string{
		day + a:                                  session(idA),
		day + a + ".zst":                         sealed(session(idA) + user),
		day + b:                                  session(idB) + user,
		"archived_sessions/" + b:                 session(idB),
		day + c:                                  session(idC),
		"sessions/" + c:                          "\n" + session(idC),
		day + "x.jsonl.1.tmp":                    "x",
		"thread-writer-locks/" + idA + ".lock":   "",
		"thread-writer-locks/odd.lock":           "",
		"thread-writer-locks/.coordination.lock": "",
	}
	home := write(t, before)
	found := examine(t, home, true)
	if d := cmp.Diff(before, tree(t, home)); d != "" {
		t.Fatalf("examined: %s", d)
	}
	opened, err := rollout.Open(home.Name())
	if err != nil {
		t.Fatal(err)
	}
	defer opened.Close()
	m := doctor.Mending{Home: home, Locks: opened.Store(), Keep: keep}
	for _, f := range found {
		moved, err := doctor.Mend(ctx, m, f)
		if f.Mendable != (err == nil) || !f.Mendable && !errors.Is(err, doctor.ErrUnmendable) {
			t.Errorf("%s %s: %q, %v", f.Kind, f.Path, moved, err)
		}
	}
	want := maps.Clone(before)
	for _, file := range []string{day + a, "archived_sessions/" + b, day + "x.jsonl.1.tmp", "thread-writer-locks/odd.lock"} {
		want[keep+"/"+file] = want[file]
		delete(want, file)
	}
	delete(want, "thread-writer-locks/"+idA+".lock")
	want[".tmp/rollout-maintenance.lock"] = ""
	if d := cmp.Diff(want, tree(t, home)); d != "" {
		t.Errorf("mended: %s", d)
	}
	if d := cmp.Diff([]string{"problem duplicate " + day + c}, lines(examine(t, home, true))); d != "" {
		t.Errorf("again: %s", d)
	}
	was, err := home.Stat("sessions/" + c)
	if err != nil {
		t.Fatal(err)
	}
	if fi, err := home.Stat(keep + "/" + day + a); err != nil || !fi.ModTime().Equal(was.ModTime()) {
		t.Errorf("its time: %v, %v", fi, err)
	}
}

// What is not as it was found stays where it is.
func TestMendLooksAgain(t *testing.T) {
	t.Parallel()
	files := map[string]string{day + a: session(idA), "archived_sessions/" + a: session(idA)}
	for _, test := range []struct {
		name   string
		change func(t *testing.T, home *os.Root) (undo func())
		keep   string
		want   error
	}{
		{"it grew", func(t *testing.T, home *os.Root) func() {
			return add(t, home, "archived_sessions/"+a)
		}, "kept", doctor.ErrUnmendable},
		{"the other is gone", func(t *testing.T, home *os.Root) func() {
			return gone(t, home, day+a)
		}, "kept", doctor.ErrUnmendable},
		{"it has a writer", func(t *testing.T, home *os.Root) func() {
			return hold(t, home, "thread-writer-locks/"+idA+".lock")
		}, "kept", store.ErrBusy},
		{"Codex compresses", func(t *testing.T, home *os.Root) func() {
			return hold(t, home, ".tmp/rollout-maintenance.lock")
		}, "kept", store.ErrBusy},
		{"there is one already", func(t *testing.T, home *os.Root) func() {
			return put(t, home, "kept/archived_sessions/"+a)
		}, "kept", fs.ErrExist},
		{"kept among the sessions", func(t *testing.T, home *os.Root) func() { return func() {} }, "sessions/kept", nil},
		{"kept outside", func(t *testing.T, home *os.Root) func() { return func() {} }, "../kept", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			home := write(t, files)
			found := examine(t, home, false)
			if len(found) != 1 {
				t.Fatal(found)
			}
			defer test.change(t, home)()
			before := tree(t, home)
			opened, err := rollout.Open(home.Name())
			if err != nil {
				t.Fatal(err)
			}
			defer opened.Close()
			_, err = doctor.Mend(ctx, doctor.Mending{Home: home, Locks: opened.Store(), Keep: test.keep}, found[0])
			if err == nil || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("%v", err)
			}
			after := tree(t, home)
			for name, content := range before {
				if after[name] != content {
					t.Errorf("%s is not as it was", name)
				}
			}
		})
	}
}

func add(t *testing.T, home *os.Root, file string) func() {
	t.Helper()
	return edit(t, home, file, user)
}

func put(t *testing.T, home *os.Root, file string) func() {
	t.Helper()
	return edit(t, home, file, "another")
}

func edit(t *testing.T, home *os.Root, file, more string) func() {
	t.Helper()
	if err := home.MkdirAll(path.Dir(file), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := home.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = f.WriteString(more)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	return func() {}
}

func gone(t *testing.T, home *os.Root, file string) func() {
	t.Helper()
	if err := home.Remove(file); err != nil {
		t.Fatal(err)
	}
	return func() {}
}

func hold(t *testing.T, home *os.Root, file string) func() {
	t.Helper()
	edit(t, home, file, "")
	l := flock.New(filepath.Join(home.Name(), filepath.FromSlash(file)))
	if ok, err := l.TryLock(); !ok || err != nil {
		t.Fatal(ok, err)
	}
	return func() { _ = l.Unlock() }
}
