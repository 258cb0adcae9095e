package main

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/rollout-sync/rollout/internal/s3test"
)

const (
	secretDay = "sessions/2026/11/20/"
	secretA   = "rollout-2026-11-20T08-41-45-01a1f81e-6bb9-7000-8000-00000000000a.jsonl"
	secretB   = "rollout-2026-11-20T08-41-45-01a1f81e-6bb9-7000-8000-00000000000b.jsonl"
	secretID  = "01a1f81e-6bb9-7000-8000-00000000000a"
)

// A vault is a home full of secrets, with two sessions among them.
type vault struct {
	t         *testing.T
	dir, home string
	env       []string
	wrote     strings.Builder // standard output and error of all runs but those that print sessions
}

// canary is a secret that has the name of its place in it.
func canary(place string) string { return "hunter2" + place }

func newVault(t *testing.T) *vault {
	t.Helper()
	dir := t.TempDir()
	v := &vault{t: t, dir: dir, home: filepath.Join(dir, "home")}
	v.env = append(os.Environ(),
		"HOME="+filepath.Join(dir, "user"),
		"AWS_EC2_METADATA_DISABLED=true", "AWS_MAX_ATTEMPTS=1",
		"AWS_ACCESS_KEY_ID="+canary("keyid"), "AWS_SECRET_ACCESS_KEY="+canary("secretkey"), "AWS_SESSION_TOKEN="+canary("sessiontoken"),
		"AZURE_STORAGE_ACCOUNT=team", "AZURE_STORAGE_SAS_TOKEN=sv=1&sig="+canary("sas"),
		"OPENAI_API_KEY="+canary("openai"),
	)
	for _, kind := range []string{"DATA", "STATE", "CONFIG", "CACHE"} {
		v.env = append(v.env, "XDG_"+kind+"_HOME="+filepath.Join(dir, "xdg", kind))
	}
	auth := `{"OPENAI_API_KEY":"` + canary("auth") + `"}`
	for file, content := range map[string]string{
		"auth.json":              auth,
		".credentials.json":      `{"a":{"access_token":"` + canary("mcp") + `"}}`,
		"config.toml":            `experimental_bearer_token = "` + canary("config") + `"`,
		"history.jsonl":          `{"session_id":"` + secretID + `","text":"` + canary("history") + `"}` + "\n",
		"state_5.sqlite":         "SQLite format 3\x00" + canary("state"),
		"log/codex-tui.log":      canary("log"),
		"memories/MEMORY.md":     canary("memory"),
		"session_index.jsonl":    `{"id":"` + secretID + `","thread_name":"a name","updated_at":"2026-11-20T08:41:45Z","more":"` + canary("index") + `"}` + "\n",
		secretDay + "notes.txt":  canary("notes"),
		secretDay + "auth.json":  auth,
		secretDay + ".env":       canary("env"),
		secretDay + "rollout.db": canary("db"),
		secretDay + strings.Replace(secretA, ".jsonl", ".jsonl.bak", 1): canary("bak"),
		"rollout-" + secretA:         canary("name"),
		"backup/" + secretA:          canary("backup"),
		"archived_sessions/x.sqlite": canary("archived"),
		secretDay + secretA:          secretSession(secretID, canary("session")),
		secretDay + secretB:          secretSession(strings.Replace(secretID, "0a", "0b", 1), canary("torn")) + `{"torn`,
	} {
		v.write(file, content)
	}
	return v
}

func secretSession(id, secret string) string {
	return `{"timestamp":"2026-11-20T08:41:45.842Z","type":"session_meta","payload":{"id":"` + id + `","timestamp":"2026-11-20T08:41:45.672Z","cwd":"/w","originator":"x","cli_version":"0.169.0"}}
{"timestamp":"2026-11-20T08:41:46.000Z","type":"event_msg","payload":{"type":"user_message","message":"` + "what is wrong here?" + `"}}
{"timestamp":"2026-11-20T08:41:47.000Z","type":"response_item","payload":{"type":"function_call_output","call_id":"c","output":"export KEY=` + secret + `"}}
`
}

func (v *vault) write(file, content string) {
	v.t.Helper()
	file = filepath.Join(v.home, filepath.FromSlash(file))
	v.must(os.MkdirAll(filepath.Dir(file), 0o700))
	v.must(os.WriteFile(file, []byte(content), 0o600))
}

func (v *vault) must(err error) {
	v.t.Helper()
	if err != nil {
		v.t.Fatal(err)
	}
}

// anyCode is any exit code.
const anyCode = -2

// run runs the program to its end and keeps what it wrote.
func (v *vault) run(code int, args ...string) ended {
	v.t.Helper()
	exe, err := os.Executable()
	v.must(err)
	e := try(v.t, &exec.Cmd{Path: exe, Args: append([]string{program}, args...), Env: append(v.env, "ROLLOUT_SYNC_HOME="+v.home), Dir: v.dir})
	if code != anyCode && e.code != code {
		v.t.Errorf("%q ends with %d, want %d: %s", args, e.code, code, e.err)
	}
	fmt.Fprintf(&v.wrote, "%q\n", args[:1])
	v.wrote.WriteString(e.out + e.err)
	return e
}

var canaries = regexp.MustCompile(`hunter2[a-z]+`)

// found returns the canaries in p, also where they are compressed or in base64.
func found(p []byte) (secrets []string) {
	for _, m := range canaries.FindAll(p, -1) {
		secrets = append(secrets, string(m))
	}
	if enc := base64.StdEncoding.EncodeToString([]byte("hunter2")); bytes.Contains(p, []byte(enc[:8])) {
		secrets = append(secrets, "base64")
	}
	if bytes.HasPrefix(p, []byte{0x28, 0xb5, 0x2f, 0xfd}) {
		if z, err := zstd.NewReader(bytes.NewReader(p)); err == nil {
			defer z.Close()
			plain, _ := io.ReadAll(z)
			secrets = append(secrets, found(plain)...)
		}
	}
	return secrets
}

// files checks that of all files below dir only those that may have one have a secret.
func (v *vault) files(dir string, may ...string) {
	v.t.Helper()
	n := 0
	v.must(filepath.WalkDir(filepath.Join(v.dir, dir), func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		n++
		content, err := os.ReadFile(file)
		for _, secret := range found(content) {
			if !strings.Contains(file, secretID[:34]) || !slices.Contains(may, secret) {
				v.t.Errorf("%s has %s", file, secret)
			}
		}
		return err
	}))
	if n == 0 {
		v.t.Errorf("there is nothing in %s", dir)
	}
}

// Nothing that the program writes has a secret in it but the objects of the sessions
// that have it, whatever it is told to do, and whether it can.
func TestNoSecretIsWritten(t *testing.T) {
	t.Parallel()
	v := newVault(t)
	s := s3test.New(t)
	nobody, err := net.Listen("tcp", "127.0.0.1:0")
	v.must(err)
	v.must(nobody.Close())
	q := s.BucketURL().Query()
	q.Del("anonymous") // so that requests are signed
	bucket := "s3://bucket?" + q.Encode()
	q.Set("endpoint", "http://"+nobody.Addr().String())
	unreachable := "s3://bucket?" + q.Encode()
	commands := [][]string{
		{"push", "--idle", "0s"},
		{"push", "--idle", "0s", "--json"},
		{"push", "--idle", "0s", "--reconcile", "--log-format", "json", "--log-level", "debug", "--metrics-file", filepath.Join(v.dir, "xdg", "metrics.prom")},
		{"status"},
		{"status", "--json"},
		{"list"},
		{"list", "--json"},
		{"list", "--where", "mirror", "--json"},
		{"verify", "--deep"},
		{"restore", "--all", "--into", filepath.Join(v.dir, "into")},
		{"restore", secretID, "--dry-run", "--json"},
		{"prune", "--older-than", "0d", "--same-device-ok", "--dry-run", "--json"},
		{"forget", secretID, "--dry-run"},
		{"check-store"},
		{"show", secretID, "--where", "mirror", "--redact", "--format", "jsonl"},
	}
	for _, m := range []string{"mirror", bucket} {
		for _, args := range commands[:len(commands)-1] {
			v.run(exitOK, append(args, "--mirror", m)...)
		}
	}
	v.run(exitOK, "doctor", "--deep", "--json")
	v.run(exitOK, "doctor")

	// Failing in each way, with credentials and parameters in the wrong places.
	for _, m := range []string{
		unreachable,
		bucket + "&secretaccesskey=" + canary("parameter"),
		bucket + "&sse=" + canary("value"),
		"s3://" + canary("user") + ":" + canary("password") + "@bucket?region=eu-west-1",
		"s3://bucket?region=eu-west-1&endpoint=http://" + canary("endpointuser") + ":" + canary("endpointpassword") + "@minio.example",
		"azblob://container?storage_account=other&token=" + canary("azure"),
		"azblob://container?domain=" + nobody.Addr().String() + "&protocol=http",
		"gs://bucket?token=" + canary("google"),
		"%zz://" + canary("nourl"),
		"ftp://" + canary("ftpuser") + ":" + canary("ftppassword") + "@host/",
	} {
		for _, args := range [][]string{commands[0], commands[5], commands[8], commands[9], commands[11], commands[12], commands[13]} {
			e := v.run(anyCode, append(args, "--mirror", m)...)
			if e.code == exitOK || strings.Count(e.err, "\n") != 1 {
				t.Errorf("%q: code %d and %s", args, e.code, e.err)
			}
		}
		v.run(anyCode, append(commands[2], "--mirror", m)...) // which logs
		v.run(anyCode, "status", "--mirror", m)
		v.run(anyCode, "status", "--mirror", m, "--json")
	}
	s.Change(func() { s.Deny = []string{"GET", "HEAD", "PUT", "LIST"} })
	for _, args := range commands {
		v.run(anyCode, append(args, "--mirror", bucket)...)
	}

	if secrets := found([]byte(v.wrote.String())); len(secrets) > 0 {
		t.Errorf("%q in\n%s", secrets, v.wrote.String())
	}
	v.files("xdg")
	v.files("mirror", canary("session"), canary("torn"))
	v.files("into", canary("session"), canary("torn"))
	keys := s.Keys()
	for _, key := range keys {
		for _, secret := range found([]byte(s.Get(key))) {
			if !strings.Contains(key, secretID[:34]) || secret != canary("session") && secret != canary("torn") {
				t.Errorf("%s has %s", key, secret)
			}
		}
	}
	if len(keys) < 4 {
		t.Errorf("the bucket has %q", keys)
	}
	if v.wrote.Len() < 10_000 {
		t.Errorf("only %d bytes were written", v.wrote.Len())
	}
}
