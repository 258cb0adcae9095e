package server

import (
	"os/exec"
	"syscall"
)

// dieWithParent has the child killed when this process goes without stopping it.
func dieWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
