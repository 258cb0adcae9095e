package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// Only regular files with a rollout's name, below the two directories of sessions, leave
// the machine; and one of them that is a secret makes the push fail and stays here.
func TestOnlyRolloutsLeave(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	at := func(file string) string { return filepath.Join(v.home, filepath.FromSlash(file)) }
	name := func(n string) string {
		return "rollout-2026-11-20T08-41-45-01a1f81e-6bb9-7000-8000-0000000001" + n + ".jsonl"
	}
	// What has a rollout's name and is no file.
	v.must(os.Symlink(at("auth.json"), at(secretDay+name("00"))))
	v.must(os.Symlink("../../../../auth.json", at(secretDay+name("01"))))
	v.must(os.Symlink(at("log"), at("sessions/linked")))
	v.write("log/"+name("02"), canary("linked"))
	v.must(os.Symlink(at(secretDay+secretA), at("archived_sessions/"+name("03"))))
	v.must(os.Mkdir(at(secretDay+name("04")), 0o700))
	v.write(secretDay+name("04")+"/auth.json", canary("within"))
	v.must(syscall.Mkfifo(at(secretDay+name("05")), 0o600))
	v.must(syscall.Mkfifo(at(secretDay+name("06")+".zst"), 0o600))
	if err := syscall.Mknod(at(secretDay+name("07")), syscall.S_IFCHR|0o600, 1<<8|5); err != nil && os.Getuid() == 0 { // /dev/zero
		t.Logf("no device: %v", err)
	}
	v.must(syscall.Mkfifo(at("archived_sessions/"+name("08")), 0o600))
	push := []string{"push", "--idle", "0s", "--mirror", "mirror"}
	if e := v.run(exitOK, push...); !strings.HasPrefix(lastLine(e.out), "2 sessions, 2 uploaded") || e.err != "" {
		t.Errorf("got %+v", e)
	}
	// What a person finds in the mirror.
	var got []string
	v.must(filepath.WalkDir(filepath.Join(v.dir, "mirror"), func(file string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			rel, err := filepath.Rel(filepath.Join(v.dir, "mirror"), file)
			if err != nil {
				return err
			}
			got = append(got, rel)
		}
		return err
	}))
	got = slices.DeleteFunc(got, func(file string) bool {
		return strings.HasPrefix(file, "origins/") || strings.HasPrefix(file, "catalog/v1/date=2026-11-20/") || file == ".lock"
	})
	if want := []string{"rollout-mirror.json", secretDay + secretA + ".zst", secretDay + secretB + ".zst"}; !slices.Equal(got, want) {
		t.Errorf("the mirror has %q, want %q", got, want)
	}
	v.files("mirror", canary("session"), canary("torn"))

	// Secrets under the name of a rollout.
	v.must(os.Link(at("auth.json"), at(secretDay+name("20"))))
	v.must(os.Rename(at(".credentials.json"), at("archived_sessions/"+name("21"))))
	v.write(secretDay+name("22"), "-----BEGIN OPENSSH PRIVATE KEY-----\n"+canary("key")+"\n")
	e := v.run(exitPartial, push...)
	for _, n := range []string{"20", "21", "22"} {
		if !strings.Contains(e.err, name(n)+": no rollout but a ") {
			t.Errorf("nothing of %s in %s", n, e.err)
		}
	}
	if strings.Count(e.err, "\n") != 4 || lastLine(e.err) != "rollout-sync: 3 sessions failed; the others were done\n" {
		t.Errorf("it says %s", e.err)
	}
	if again := v.run(exitPartial, push...); strings.Count(again.err, "\n") != 4 {
		t.Errorf("the second time it says %s", again.err)
	}
	v.files("mirror", canary("session"), canary("torn"))
	v.files("xdg")
}

func lastLine(s string) string {
	return s[strings.LastIndexByte(strings.TrimSuffix(s, "\n"), '\n')+1:]
}
