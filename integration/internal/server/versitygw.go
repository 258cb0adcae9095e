package server

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Versitygw is an S3 server over a directory.
type Versitygw struct {
	*Server
	Version string
	Data    string // a directory for each bucket, with a file for each object
}

// StartVersitygw builds the version that go.mod names, and starts it with its files
// below dir. These credentials may do everything; args are more of its options.
func StartVersitygw(dir, access, secret string, args ...string) (*Versitygw, error) {
	path, err := output("go", "tool", "-n", "versitygw")
	if err != nil {
		return nil, err
	}
	v := &Versitygw{Data: filepath.Join(dir, "data")}
	if v.Version, err = ModuleVersion("github.com/versity/versitygw"); err != nil {
		return nil, err
	}
	addr, err := FreeAddr()
	if err != nil {
		return nil, err
	}
	sidecar := filepath.Join(dir, "meta")
	if err := errors.Join(os.Mkdir(v.Data, 0o700), os.Mkdir(sidecar, 0o700)); err != nil {
		return nil, err
	}
	args = append([]string{"-a", access, "-s", secret, "-p", addr, "--quiet"}, args...)
	cmd := exec.Command(path, append(args, "posix", "--sidecar", sidecar, v.Data)...)
	cmd.Dir = dir
	v.Server, err = Start(cmd, addr)
	return v, err
}

// ModuleVersion returns the version of a module that the tests are built with.
func ModuleVersion(module string) (string, error) {
	return output("go", "list", "-m", "-f", "{{.Version}}", module)
}

func output(name string, args ...string) (string, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%s %s: %w\n%s", name, strings.Join(args, " "), err, &stderr)
	}
	return strings.TrimSpace(string(out)), nil
}
