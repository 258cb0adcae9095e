//go:build linux

package codex

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/rollout-sync/rollout/integration/parts"
)

// versions of Codex, the newest first. Each is a turning point of the format; see
// docs/format.md.
var versions = []string{"0.169.0", "0.150.0", "0.118.0", "0.98.0"}

// bare is a version that writes the bare lines of 2025, and has no app-server.
const bare = "0.20.0"

// usual are those that are tested unless all are asked for.
var usual = []string{"0.169.0", "0.118.0"}

var (
	binaries = map[string]string{} // by version
	missing  error                 // why there are none
	command  string                // rollout-sync
)

// need leaves a test out where Codex cannot be had.
func need(t *testing.T) {
	t.Helper()
	if missing != nil {
		parts.Missing(t, part, missing.Error())
	}
}

// part is the name in the account of parts.
const part = "codex"

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// inside is set for the process that has no network but loopback: to rollout-sync,
// which is built where there is one.
const inside = "ROLLOUT_CODEX_INSIDE"

// isolated is a shell script that runs a command where nothing but loopback can be
// reached. The hosts that Codex asks for its models refuse the connection at once:
// without a resolver they cost 5 seconds each time it starts.
const isolated = `ip link set lo up &&
printf '127.0.0.1 localhost chatgpt.com api.openai.com ab.chatgpt.com github.com api.github.com\n' >"$0" &&
mount --bind "$0" /etc/hosts && exec "$@"`

// TestMain installs Codex, builds rollout-sync and then runs the tests in a network namespace of their
// own, with the model server that they start, so that "offline" is a fact.
func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	wanted := usual
	switch v := os.Getenv("ROLLOUT_CODEX_VERSIONS"); v {
	case "":
	case "all":
		wanted = append(slices.Clone(versions), bare)
	default:
		wanted = strings.Split(v, ",")
	}
	for _, version := range wanted {
		if binaries[version], missing = install(version); missing != nil {
			return m.Run()
		}
	}
	if command = os.Getenv(inside); command != "" {
		return m.Run()
	}
	dir, err := os.MkdirTemp("", "rollout-codex")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	command = filepath.Join(dir, "rollout-sync")
	build := exec.Command("go", "build", "-o", command, "./cmd/rollout-sync")
	build.Dir = "../.."
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "%v: %s", err, out)
		return 1
	}
	isolate := []string{"-rnm", "sh", "-c", isolated, filepath.Join(dir, "hosts")}
	if out, err := exec.Command("unshare", append(isolate, "true")...).CombinedOutput(); err != nil {
		missing = fmt.Errorf("no network namespace: unshare: %w: %s", err, out)
		return m.Run()
	}
	cmd := exec.Command("unshare", append(append(isolate, os.Args[0]), os.Args[1:]...)...)
	cmd.Env = append(os.Environ(), inside+"="+command)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		return exit.ExitCode()
	} else if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// install returns the path of Codex's binary, which it has npm download into the
// user's cache the first time.
func install(version string) (string, error) {
	if runtime.GOARCH != "amd64" {
		return "", errors.New("Codex is run on linux/amd64 only")
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(cache, "rollout-codex", version)
	find := func() string {
		for _, path := range []string{
			"codex-linux-x64/vendor/x86_64-unknown-linux-musl/bin/codex",
			"codex-linux-x64/vendor/x86_64-unknown-linux-musl/codex/codex",
			"codex/vendor/x86_64-unknown-linux-musl/codex/codex",
			"codex/bin/codex-x86_64-unknown-linux-musl",
		} {
			path = filepath.Join(dir, "node_modules", "@openai", path)
			if _, err := os.Stat(path); err == nil {
				return path
			}
		}
		return ""
	}
	if path := find(); path != "" || os.Getenv(inside) != "" {
		return path, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	cmd := exec.Command("npm", "install", "--prefix", dir, "--no-audit", "--no-fund", "--ignore-scripts", "@openai/codex@"+version)
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("npm install @openai/codex@%s: %w: %s", version, err, out)
	}
	if path := find(); path != "" {
		return path, nil
	}
	return "", fmt.Errorf("@openai/codex@%s has no binary where they were so far", version)
}
