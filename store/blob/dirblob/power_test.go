package dirblob

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	gcblob "gocloud.dev/blob"

	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/blob"
	"github.com/rollout-sync/rollout/store/internal/vfs/crashfs"
	"github.com/rollout-sync/rollout/store/memfs"
)

// A push to a directory loses power at each of its operations: what the one before
// confirmed is there, every object is whole and a version that the home had, none is
// older than before, and the next push, which knows nothing, brings the rest. The check knows the bucket and zstd, and nothing of package mirror.
func TestPushLosesPower(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 1))
	home := memfs.New(nil)
	name := func(i int) string {
		return fmt.Sprintf("sessions/2026/11/20/rollout-2026-11-20T08-41-45-01a1f81e-6bb9-7000-8000-%012d.jsonl", i)
	}
	versions := map[string][]string{} // what the home ever had
	change := func(i int, content string) {
		c := store.Cond{IfAbsent: true}
		if f, err := home.Open(ctx, name(i)); err == nil {
			c = store.Cond{IfVersion: f.Info().Version}
			must(t, f.Close())
		}
		_, err := home.Put(ctx, name(i), store.BytesBody([]byte(content), time.Unix(1e9, 0)), c)
		must(t, err)
		versions[name(i)] = append(versions[name(i)], content)
	}
	push := func(fsys *crashfs.FS, state *mirror.State) error {
		m := blob.New(gcblob.NewBucket(newBucket(fsys, func() error { return nil })), &blob.Options{Service: Service()})
		defer m.Close()
		report, err := mirror.Push(ctx, mirror.Pushing{Home: home, Mirror: m, State: state, Origin: "a"})
		if len(report.Failures) > 0 {
			err = errors.Join(err, report.Failures[0].Err)
		}
		return err
	}
	// check holds what is in the mirror against what the home had, and returns it.
	check := func(t *testing.T, fsys *crashfs.FS, before map[string]string) map[string]string {
		t.Helper()
		b := gcblob.NewBucket(newBucket(fsys, func() error { return nil }))
		defer b.Close()
		objects := map[string]string{}
		for it := b.List(nil); ; {
			o, err := it.Next(ctx)
			if errors.Is(err, io.EOF) {
				break
			}
			must(t, err)
			if !strings.HasSuffix(o.Key, ".zst") || strings.HasPrefix(o.Key, "origins/") {
				continue
			}
			p, err := b.ReadAll(ctx, o.Key)
			must(t, err)
			z, err := zstd.NewReader(bytes.NewReader(p))
			must(t, err)
			p, err = io.ReadAll(z)
			z.Close()
			if err != nil {
				t.Fatalf("%s: %v", o.Key, err)
			}
			objects[o.Key] = string(p)
		}
		index := func(key, content string) int {
			for i := range versions {
				if strings.Contains(key, strings.TrimSuffix(i, ".jsonl")) {
					for n, v := range versions[i] {
						if v == content {
							return n
						}
					}
				}
			}
			return -1
		}
		for key, content := range objects {
			if index(key, content) < 0 {
				t.Fatalf("%s has %q, which the home never had", key, content)
			}
		}
		for key, content := range before {
			now, ok := objects[key]
			if !ok || index(key, now) < index(key, content) {
				t.Fatalf("%s had %q and has %q", key, content, now)
			}
			held := false
			for k, c := range objects {
				held = held || strings.HasPrefix(c, content) && strings.Contains(k, strings.TrimSuffix(strings.TrimPrefix(key, "history/"), ".jsonl.zst"))
			}
			if !held {
				t.Fatalf("%q of %s is lost", content, key)
			}
		}
		return objects
	}

	fsys, state := crashfs.New(), mirror.NewState()
	confirmed := map[string]string{}
	points := 0
	for step, changes := range []func(){
		func() { change(1, "one\n"); change(2, "two\n") },
		func() { change(1, "one\nmore\n"); change(3, "three\n") },
		func() { change(1, "rewritten\n"); change(2, "two\ntwo\n") },
	} {
		changes()
		var crashed []*crashfs.FS
		fsys.After = func(op crashfs.Op) {
			if op.Write {
				for _, loss := range []crashfs.Loss{crashfs.All, crashfs.Some, crashfs.Holes} {
					crashed = append(crashed, fsys.Crash(loss, r))
				}
			}
		}
		must(t, push(fsys, state))
		fsys.After = nil
		for i, c := range crashed {
			check(t, c, confirmed)
			if err := push(c, mirror.NewState()); err != nil {
				t.Fatalf("step %d, crash %d: the next push: %v", step, i, err)
			}
			after := check(t, c, confirmed)
			for file, v := range versions {
				if !contains(after, v[len(v)-1]) {
					t.Fatalf("step %d, crash %d: the last version of %s is not there after the next push", step, i, file)
				}
			}
		}
		points += len(crashed)
		confirmed = check(t, fsys, confirmed)
	}
	if points < 150 {
		t.Errorf("only %d crashes", points)
	}
	t.Logf("%d crashes", points)
}

func contains(objects map[string]string, content string) bool {
	for _, c := range objects {
		if c == content {
			return true
		}
	}
	return false
}
