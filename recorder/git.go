package recorder

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/rollout-sync/rollout/codec"
)

// gitLimit is how long ReadGit takes at most for callers who do not say. A
// repository on a slow disk is no reason to keep somebody waiting who wants to
// begin a session.
const gitLimit = 2 * time.Second

// ReadGit asks the program git for Meta.Git: the commit and the branch that are
// checked out in dir, and the URL of the remote origin, without a name and a
// password that may be in it. What git does not tell is left out: all of it where
// dir is in no repository, there is no git, or ctx is over, or two seconds if ctx
// has no deadline. Call it before New: nothing in this package runs a program while
// it records.
func ReadGit(ctx context.Context, dir string) codec.Git {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, gitLimit)
		defer cancel()
	}
	git := func(args ...string) string {
		cmd := exec.CommandContext(ctx, "git", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GIT_OPTIONAL_LOCKS=0", "GIT_TERMINAL_PROMPT=0")
		cmd.WaitDelay = time.Second // for what git itself started
		out, err := cmd.Output()
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(out))
	}
	g := codec.Git{Commit: git("rev-parse", "--verify", "--quiet", "HEAD")}
	g.Branch = git("symbolic-ref", "--quiet", "--short", "HEAD")
	g.Origin = git("config", "--get", "remote.origin.url")
	if u, err := url.Parse(g.Origin); err == nil && u.Scheme != "" && u.Scheme != "ssh" {
		u.User = nil
		g.Origin = u.String()
	}
	return g
}
