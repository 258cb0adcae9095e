package filestore_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/rollout-sync/rollout/store/internal/filestore"
	"github.com/rollout-sync/rollout/store/internal/vfs/crashfs"
)

const moved = "trash/x/log.jsonl"

func moveIt(s *filestore.Store) error {
	f, err := s.Open(ctx, theLog)
	if err != nil {
		return err
	}
	version := f.Info().Version
	if err := f.Close(); err != nil {
		return err
	}
	return s.Move(ctx, theLog, version, moved)
}

// The power fails, the process dies, or an operation fails, at each operation of a
// Move: the log is there under one of the names, or both, and whole.
func TestMove(t *testing.T) {
	t.Parallel()
	points := map[string]int{}
	for name, forms := range map[string][2]string{
		"plain": {"one\ntwo\n", ""}, "sealed": {"-", "one\ntwo\n"},
		"both forms": {"one\ntwo\n", "one\n"}, "a plain form cut short": {"one\n", "one\ntwo\n"},
	} {
		plant := twoForms(forms[0], forms[1])
		if forms[1] == "" {
			plant = plain(theLog, forms[0])
		}
		check := func(disk *crashfs.FS, what string, done bool) {
			t.Helper()
			s := open(disk)
			was, is := content(t, s, theLog), content(t, s, moved)
			for _, c := range []string{was, is} {
				if c != "-" && c != "one\ntwo\n" {
					t.Errorf("%s: the log is %q and %q", what, was, is)
				}
			}
			if was == is && was == "-" || done && (was != "-" || is == "-") {
				t.Errorf("%s: the log is %q and %q", what, was, is)
			}
		}
		fsys := crashfs.New()
		plant(t, fsys)
		fsys.After = func(op crashfs.Op) {
			points[name]++
			what := fmt.Sprintf("%s, after %v", name, op)
			check(fsys.Crash(crashfs.All, nil), what+", power lost", false)
			check(fsys.Kill(), what+", killed", false)
		}
		must(t, moveIt(open(fsys)))
		fsys.After = nil
		check(fsys.Crash(crashfs.All, nil), name+", power lost at last", true)

		for _, how := range faults {
			if how.cancels {
				continue
			}
			for n := 0; ; n++ {
				fsys := crashfs.New()
				plant(t, fsys)
				first, hit := fsys.Ops()+n, false
				var at crashfs.Op
				fsys.Inject = func(op crashfs.Op) *crashfs.Fault {
					if op.N != first && (!hit || !how.stays) {
						return nil
					}
					f := how.of(op)
					if f != nil && !hit {
						hit, at = true, op
					}
					return f
				}
				err := moveIt(open(fsys))
				fsys.Inject = nil
				what := fmt.Sprintf("%s, %s at %v", name, how.name, at)
				if hit && !errors.Is(err, how.seen) && (err != nil || !harmless(at)) {
					t.Errorf("%s: the caller sees %v", what, err)
				}
				check(fsys.Kill(), what, err == nil)
				check(fsys.Crash(crashfs.All, nil), what+", then power lost", err == nil)
				if fsys.Ops() <= first {
					break
				}
				points[name+", faults"]++
			}
		}
	}
	floor(t, "points", points, map[string]int{
		"plain": 20, "sealed": 20, "both forms": 20, "a plain form cut short": 20,
		"plain, faults": 80, "sealed, faults": 80, "both forms, faults": 80, "a plain form cut short, faults": 80,
	})
}
