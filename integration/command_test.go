package integration

import (
	"bytes"
	"encoding/json"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	awss3 "github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/rollout-sync/rollout/integration/parts"
)

// command builds rollout-sync, once.
var command = sync.OnceValues(func() (string, error) {
	build := exec.Command("go", "build", "-o", workDir, "./cmd/rollout-sync")
	build.Dir = ".."
	output, err := build.CombinedOutput()
	if err != nil {
		err = errors.New(string(output))
	}
	return filepath.Join(workDir, "rollout-sync"), err
})

// runCommand runs rollout-sync with variables added to a bare environment, and
// returns its output and exit code.
func runCommand(t *testing.T, env map[string]string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	path, err := command()
	must(t, err)
	cmd := exec.CommandContext(t.Context(), path, args...)
	for k, v := range env {
		cmd.Env = append(cmd.Env, k+"="+v)
	}
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// account is an environment that has nothing but what reaches the service, with
// variables that differ.
func (s *service) account(t *testing.T, differ map[string]string) map[string]string {
	env := maps.Clone(s.env)
	maps.Copy(env, differ)
	env["HOME"] = t.TempDir()
	return env
}

// The S3 server keeps the rules, by the word of the command itself.
func TestCheckStore(t *testing.T) {
	s := services[0]
	parts.Add(t, parts.Entry{Part: s.name, Version: s.version, Cases: 3, Faults: 2})
	s.proxy.busy.Lock()
	defer s.proxy.busy.Unlock()
	mirror := s.url(s.newBucket(t)).String()
	before := s.proxy.requests.Load()
	stdout, stderr, code := runCommand(t, s.account(t, nil), "check-store", mirror)
	if code != 0 || stderr != "" || !strings.Contains(stdout, "Any number of machines may push to it") {
		t.Errorf("exit code %d: %s%s", code, stdout, stderr)
	}
	t.Logf("%d requests", s.proxy.requests.Load()-before)

	stdout, stderr, code = runCommand(t, s.account(t, s.wrong), "check-store", mirror)
	if code != 1 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "permission denied") {
		t.Errorf("with wrong credentials, exit code %d: %s%s", code, stdout, stderr)
	}
	stdout, stderr, code = runCommand(t, s.account(t, nil), "check-store", s.url("missing").String())
	if code != 1 || stdout != "" || strings.Count(stderr, "\n") != 1 || !strings.Contains(stderr, "NoSuchBucket") {
		t.Errorf("without a bucket, exit code %d: %s%s", code, stdout, stderr)
	}
}

// grant gives the user what a policy of docs/operations.md allows.
func grant(t *testing.T, bucket, heading string) {
	t.Helper()
	doc, err := os.ReadFile("../docs/operations.md")
	must(t, err)
	m := regexp.MustCompile("(?s)\n### " + heading + "\n.*?```json\n(.*?)```").FindSubmatch(doc)
	if m == nil {
		t.Fatalf("docs/operations.md has no policy for %s", heading)
	}
	var policy map[string]any
	must(t, json.Unmarshal(bytes.ReplaceAll(m[1], []byte("team-sessions"), []byte(bucket)), &policy))
	for _, s := range policy["Statement"].([]any) {
		s.(map[string]any)["Principal"] = map[string]any{"AWS": userKey} // it is a bucket's now
	}
	text, err := json.Marshal(policy)
	must(t, err)
	document := string(text)
	_, err = s3Client.PutBucketPolicy(ctx, &awss3.PutBucketPolicyInput{Bucket: &bucket, Policy: &document})
	must(t, err)
}

// Where the documented policies are enforced, a writer pushes, and neither deletes nor
// leaves parts of uploads; a reader reads, and does not push.
func TestDocumentedPolicies(t *testing.T) {
	s := services[0]
	parts.Add(t, parts.Entry{Part: s.name, Version: s.version, Cases: 8})
	s.proxy.busy.RLock()
	defer s.proxy.busy.RUnlock()
	bucket := s.newBucket(t)
	user := s.account(t, map[string]string{"AWS_ACCESS_KEY_ID": userKey, "AWS_SECRET_ACCESS_KEY": userSecret})
	home := t.TempDir()
	dir := filepath.Join(home, "sessions/2026/01/02")
	must(t, os.MkdirAll(dir, 0o700))
	const id = "019b7ca9-8c88-7000-8000-000000000001"
	file := filepath.Join(dir, "rollout-2026-01-02T03-04-05-"+id+".jsonl")
	head := `{"timestamp":"2026-01-02T03:04:05.000Z","type":"session_meta","payload":{"id":"` + id + `","timestamp":"2026-01-02T03:04:05.000Z","cwd":"/w","originator":"x","cli_version":"0.1.0"}}` + "\n"
	content := append([]byte(head), noise(12<<20)...) // which goes in parts
	must(t, os.WriteFile(file, content, 0o600))
	do := func(want int, args ...string) string {
		t.Helper()
		args = slices.Concat([]string{args[0], "--mirror", s.url(bucket).String()}, args[1:])
		stdout, stderr, code := runCommand(t, user, args...)
		if code != want {
			t.Fatalf("%q ends with %d, want %d: %s%s", args, code, want, stdout, stderr)
		}
		return stdout + stderr
	}
	push := []string{"push", "--idle", "0s", "--home", home}

	if out := do(1, "check-store"); !strings.Contains(out, "permission denied") {
		t.Errorf("without a policy: %s", out)
	}
	grant(t, bucket, "S3: reader")
	if out := do(1, push...); !strings.Contains(out, "permission denied") {
		t.Errorf("a reader that pushes: %s", out)
	}
	grant(t, bucket, "S3: writer")
	do(0, push...)
	must(t, os.WriteFile(file, append(content, head...), 0o600)) // it grows
	do(0, push...)
	out := do(0, "check-store")
	if !strings.Contains(out, "These credentials may not remove anything") || !strings.Contains(out, "left below s3://"+bucket+"/rollout-check-") {
		t.Errorf("check-store of a writer: %s", out)
	}
	grant(t, bucket, "S3: reader")
	do(0, "verify", "--deep", "--home", home)
	do(0, "restore", id, "--home", t.TempDir())

	uploads, err := s3Client.ListMultipartUploads(ctx, &awss3.ListMultipartUploadsInput{Bucket: &bucket})
	must(t, err)
	if len(uploads.Uploads) > 0 {
		t.Errorf("%d uploads are unfinished", len(uploads.Uploads))
	}
}
