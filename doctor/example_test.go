package doctor_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/rollout-sync/rollout"
	"github.com/rollout-sync/rollout/doctor"
)

func Example() {
	// A home with a session that is live and archived, as after a crash between the two.
	dir, err := os.MkdirTemp("", "")
	check(err)
	defer os.RemoveAll(dir)
	for _, sub := range []string{"sessions/2026/11/20", "archived_sessions"} {
		check(os.MkdirAll(filepath.Join(dir, sub), 0o700))
		check(os.WriteFile(filepath.Join(dir, sub, a), []byte(session(idA)), 0o600))
	}

	root, err := os.OpenRoot(dir)
	check(err)
	defer root.Close()
	home, err := rollout.Open(dir)
	check(err)
	defer home.Close()

	var found []doctor.Finding
	_, err = doctor.Examine(context.Background(), doctor.Examining{
		Home: root, Each: func(f doctor.Finding) { found = append(found, f) },
	})
	check(err)
	for _, f := range found {
		fmt.Println(f.Kind, f.Path)
		if f.Mendable {
			moved, err := doctor.Mend(context.Background(), doctor.Mending{Home: root, Locks: home.Store(), Keep: "kept/2026-11-25"}, f)
			check(err)
			fmt.Println("moved to", moved)
		}
	}
	// Output:
	// duplicate archived_sessions/rollout-2026-11-20T08-41-45-01a1f81e-6bb9-7000-8000-00000000000a.jsonl
	// moved to kept/2026-11-25/archived_sessions/rollout-2026-11-20T08-41-45-01a1f81e-6bb9-7000-8000-00000000000a.jsonl
}

func check(err error) {
	if err != nil {
		panic(err)
	}
}
