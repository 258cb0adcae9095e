package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/rollout-sync/rollout/internal/s3test"
	"github.com/rollout-sync/rollout/store/storetest"
)

// checkServer runs check-store on the bucket of a server and returns the lines of
// JSON for the rules that are broken, by case, and the last one.
func checkServer(t *testing.T, ctx context.Context, s *s3test.Server, wantCode int, args ...string) (broken map[string]checkedRule, last checkedStore, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	u := withParam(s.BucketURL(), "prefix", "team/")
	args = append([]string{"check-store", "--json", u.String()}, args...)
	if code := run(ctx, args, stdio{strings.NewReader(""), &out, &errs}); code != wantCode {
		t.Errorf("exit code %d, want %d: %s", code, wantCode, &errs)
	}
	broken = map[string]checkedRule{}
	for line := range bytes.Lines(out.Bytes()) {
		var rule checkedRule
		if err := json.Unmarshal(line, &rule); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		if rule.Case == "" {
			if err := json.Unmarshal(line, &last); err != nil {
				t.Fatal(err)
			}
		} else if !rule.OK {
			broken[rule.Case] = rule
		}
	}
	return broken, last, errs.String()
}

// It tells a good store from one that ignores conditions, says what follows, and
// leaves what was in the bucket, and nothing else.
func TestCheckStore(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		deaf    bool
		deny    []string
		args    []string
		code    int
		verdict string
	}{
		"good":           {verdict: "Any number of machines may push to it"},
		"deaf":           {deaf: true, code: exitFailure, verdict: "This store ignores conditions"},
		"single writer":  {deaf: true, args: []string{"--single-writer"}, verdict: "if pushes have --single-writer"},
		"only to append": {deny: []string{"DELETE"}, verdict: "These credentials may not remove anything"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := s3test.New(t)
			s.Deaf, s.Deny = c.deaf, c.deny
			before := []string{"rollout-check-of-mine", "team/rollout-mirror.json", "zoo"}
			for _, key := range before {
				s.Put(key, "mine")
			}
			broken, last, stderr := checkServer(t, t.Context(), s, c.code, c.args...)
			for name := range broken {
				if !slices.Contains(slices.Concat(conditionCases, alsoConditionCases), name) {
					t.Errorf("%s is broken: %q", name, broken[name].Problems)
				}
			}
			if len(broken) > 0 != (c.code != 0) || last.Broken != len(broken) || last.Rules < 40 {
				t.Errorf("broken are %d, and said to be %d of %d", len(broken), last.Broken, last.Rules)
			}
			if got := strings.Join(last.Verdict, "\n"); !strings.Contains(got, c.verdict) {
				t.Errorf("the verdict is %q, want %q", got, c.verdict)
			}
			after := slices.DeleteFunc(s.Keys(), func(key string) bool {
				return last.Left > 0 && strings.HasPrefix("s3://"+s3test.BucketName+"/"+key, last.LeftAt+"/")
			})
			if !slices.Equal(after, before) {
				t.Errorf("the bucket has %q, and had %q", after, before)
			}
			for _, key := range before {
				if got := s.Get(key); got != "mine" {
					t.Errorf("%s is %q", key, got)
				}
			}
			if got := len(s.Keys()) - len(before); got != last.Left || last.Left > 0 != (c.deny != nil) || last.Left > 0 != strings.Contains(stderr, "left below "+last.LeftAt+": ") {
				t.Errorf("%d objects are left, and said to be %d: %s", got, last.Left, stderr)
			}
		})
	}
}

// The verdict is as bad as what is broken.
func TestVerdict(t *testing.T) {
	t.Parallel()
	bucket := withParam(s3test.New(t).BucketURL(), "prefix", "x/")
	for _, c := range []struct {
		broken string
		single bool
		want   string
	}{
		{"", false, "Any number of machines"},
		{"PutOneWins", false, "Pushes need --single-writer"},
		{"PutOneWins Errors", false, "Pushes need --single-writer"},
		{"PutOneWins RoundTrip", false, "Do not use this store"},
		{"PutOneWins", true, "Do not use this store"},
		{"Errors", false, "Do not use this store"},
		{"RemoveConditions", false, "forget can remove"},
	} {
		broken := map[string]bool{}
		for _, name := range strings.Fields(c.broken) {
			broken[name] = true
		}
		got := strings.Join(verdict(broken, &scratch{url: bucket, single: c.single}), "\n")
		if !strings.Contains(got, c.want) {
			t.Errorf("broken: %s: %q, want %q", c.broken, got, c.want)
		}
	}
	for _, name := range slices.Concat(conditionCases, alsoConditionCases, []string{removeCase}) {
		if !slices.ContainsFunc(storetest.Cases(), func(c storetest.Case) bool { return c.Name == name }) {
			t.Errorf("%s is no case", name)
		}
	}
}

// What keeps a store from being checked at all is one line.
func TestCheckStoreThatDoesNotAnswer(t *testing.T) {
	t.Parallel()
	for what, c := range map[string]struct {
		put  s3test.Fault
		want string
	}{
		"wrong credentials": {s3test.Fault{Status: http.StatusForbidden, Code: "InvalidAccessKeyId"}, "permission denied"},
		"no bucket":         {s3test.Fault{Status: http.StatusNotFound, Code: "NoSuchBucket"}, "NoSuchBucket"},
		"no conditions":     {s3test.Fault{Status: http.StatusNotImplemented, Code: "NotImplemented"}, "it refuses conditional writes"},
	} {
		t.Run(what, func(t *testing.T) {
			t.Parallel()
			s := s3test.New(t)
			s.Inject("PUT", c.put)
			broken, last, stderr := checkServer(t, t.Context(), s, exitFailure)
			if len(broken) > 0 || last.Rules > 0 {
				t.Errorf("rules were checked")
			}
			if !strings.Contains(stderr, c.want) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("it says %q, want one line with %q", stderr, c.want)
			}
		})
	}
}

// A signal ends it soon, and nothing is left.
func TestCheckStoreIsInterrupted(t *testing.T) {
	t.Parallel()
	s := s3test.New(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	s.OnRequest = func(n int) {
		if n == 500 { // in the midst of the cases
			cancel(interrupted{syscall.SIGTERM})
		}
	}
	_, last, stderr := checkServer(t, ctx, s, exitTerminated)
	if last.Rules > 0 {
		t.Error("it went on to the end")
	}
	if want := "rollout-sync: interrupted; what was written is removed\n"; stderr != want {
		t.Errorf("it says %q, want %q", stderr, want)
	}
	if keys := s.Keys(); len(keys) > 0 {
		t.Errorf("left are %q", keys)
	}
}
