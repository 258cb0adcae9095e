package mirror

import "testing"

// NewRun is the Run of a push.
var NewRun = newRun

// RecordRun records a run in the state in file, as a Push does at its end.
func RecordRun(t *testing.T, file string, r Run) {
	t.Helper()
	inState(t, file, func(s *State) error { return s.recordRun(r) })
}

// SetKeys sets the keys of files in the state in file.
func SetKeys(t *testing.T, file string, keys map[string]string) {
	t.Helper()
	inState(t, file, func(s *State) error {
		c := change{}
		for path, key := range keys {
			known, _, err := get[fileState](s, files, path)
			if err != nil {
				return err
			}
			known.Key = key
			if err := set(c, files, path, known); err != nil {
				return err
			}
		}
		return s.write(c)
	})
}

func inState(t *testing.T, file string, do func(*State) error) {
	t.Helper()
	s, err := OpenState(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := do(s); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
}

// SecretIn says what a file with these bytes is, if it is not to be pushed.
var SecretIn = secretIn
