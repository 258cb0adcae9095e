package integration

import (
	"debug/buildinfo"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/rollout-sync/rollout/integration/internal/server"
	"github.com/rollout-sync/rollout/integration/tools"
)

// minioVersion is the newest commit; its releases are no versions of a Go module.
const minioVersion = "v0.0.0-20260212201848-7aac2a2c5b7c"

// startMinIO starts MinIO, which is built in the user's cache the first time. It is
// not in go.mod, whose other modules it would hold to versions of its own.
func startMinIO(dir string) (*service, func(), error) {
	absent := func(err error) (*service, func(), error) {
		return &service{name: "minio", absent: err}, nil, nil
	}
	installed, err := tools.Go("github.com/minio/minio", minioVersion)
	if err != nil {
		return absent(err)
	}
	program := filepath.Join(installed, "minio")
	info, err := buildinfo.ReadFile(program)
	if err != nil {
		return absent(err)
	}
	addr, err := server.FreeAddr()
	if err != nil {
		return nil, nil, err
	}
	console, err := server.FreeAddr()
	if err != nil {
		return nil, nil, err
	}
	dir += "/minio"
	cmd := exec.Command(program, "server", "--quiet", "--address", addr, "--console-address", console, "--config-dir", dir+"/config", dir+"/data")
	cmd.Env = append(os.Environ(), "MINIO_ROOT_USER="+accessKey, "MINIO_ROOT_PASSWORD="+secretKey, "MINIO_BROWSER=off", "MINIO_UPDATE=off")
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, nil, err
	}
	cmd.Dir = dir
	child, err := server.Start(cmd, addr)
	if err != nil {
		return nil, nil, err
	}
	return newS3("minio", info.Main.Version, addr), stopping(child), nil
}
