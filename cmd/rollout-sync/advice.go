package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"strings"
	"syscall"

	"github.com/rollout-sync/rollout/mirror"
)

// advised is an error with what there is to do about it, where one cause is by far the
// likeliest: a bucket, a disk.
func (a *app) advised(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return fmt.Errorf("%w (make room and run it again)", err)
	}
	_, local := errors.AsType[*fs.PathError](err)
	if a.remote == "" || local {
		return err
	}
	advice := ""
	_, network := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, mirror.ErrNoMirror):
		if strings.Contains(err.Error(), a.remote) {
			return err
		}
		return fmt.Errorf("%s: %w", a.remote, err)
	case strings.Contains(err.Error(), "RequestTimeTooSkewed"): // of S3, which says that it forbids it
		advice = "set this machine's clock"
	case errors.Is(err, fs.ErrPermission):
		advice = "check the credentials, and what they are allowed to do"
	case errors.Is(err, fs.ErrNotExist):
		advice = "check the bucket's name; no bucket is ever made"
	case network:
		advice = "check the network, and the endpoint; run it again"
	default:
		return err
	}
	return fmt.Errorf("mirror %s: %w (%s)", a.remote, err, advice)
}

// maxRefused is how many sessions in a row a mirror may refuse before a push gives up:
// then it is not a session that is to blame, and each further one would take as many
// tries as the first.
const maxRefused = 8

// A refusal is what a mirror says that takes nothing.
type refusal struct {
	said  string // in so many words, without the name of a session
	times int    // in a row
	last  error
}

// of notes what became of a session. It returns whether that is news.
func (r *refusal) of(o mirror.Outcome) (news bool) {
	if !errors.Is(o.Err, mirror.ErrNotTaken) {
		if wrote := o.Err == nil && o.Action != mirror.Waiting; wrote {
			*r = refusal{}
		}
		return true
	}
	said := strings.ReplaceAll(oneLine(o.Err), o.Key, "")
	news = said != r.said
	r.said, r.last = said, o.Err
	r.times++
	return news
}
