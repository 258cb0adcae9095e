// Package parts keeps account of the parts in a run of these tests that nobody here
// wrote: which took part, in which version, in how many cases, how many faults they
// were put through, and what was lost. The command in table prints it and holds it
// against must-run.txt.
package parts

import (
	"encoding/json"
	"os"
	"testing"
)

// File is the environment variable that names the file of the account. Tests add
// lines to it, also of several processes at a time; without it no account is kept.
const File = "ROLLOUT_PARTS"

// An Entry is what one test adds: a line of the file, in JSON.
type Entry struct {
	Part    string `json:"part"`
	Version string `json:"version"`
	Cases   int    `json:"cases"`  // what was tried
	Faults  int    `json:"faults"` // kills, broken requests and the like on the way
	Losses  int    `json:"losses"` // bytes, sessions or names that were not there afterwards; fails the test too
	// Missing is why the part took no part, "" if it did.
	Missing string `json:"missing,omitempty"`
}

// Add adds e to the account at the end of the test, if that has not been skipped.
// A test that has failed with no loss of its own counts as one.
func Add(t testing.TB, e Entry) {
	t.Helper()
	t.Cleanup(func() {
		if t.Skipped() {
			return
		}
		if t.Failed() && e.Losses == 0 {
			e.Losses = 1
		}
		add(t, e)
	})
}

// Missing skips the test, whose part cannot be had here, and says why in one line.
// Whether the run may do without it is not decided here but by must-run.txt.
func Missing(t testing.TB, part, why string) {
	t.Helper()
	add(t, Entry{Part: part, Missing: why})
	t.Skipf("%s took no part: %s", part, why)
}

func add(t testing.TB, e Entry) {
	t.Helper()
	name := os.Getenv(File)
	if name == "" {
		return
	}
	line, err := json.Marshal(e)
	if err != nil {
		t.Error(err)
		return
	}
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		t.Error(err)
		return
	}
	if _, err := f.Write(append(line, '\n')); err != nil { // one write, so that lines stay whole
		t.Error(err)
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
