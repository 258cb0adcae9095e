package main

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"net/url"
	"strings"

	gcblob "gocloud.dev/blob"

	"github.com/rollout-sync/rollout/doctor"
	"github.com/rollout-sync/rollout/store/blob/dirblob"
)

// encrypted refuses a bucket to which sessions would go over a network in the clear,
// whatever makes it so: the URL, the environment or the configuration of the cloud's
// own tools.
func (a *app) encrypted(ctx context.Context, u *url.URL, b *gcblob.Bucket) error {
	endpoint := services[u.Scheme].endpoint
	if endpoint == nil || a.insecureHTTP {
		return nil
	}
	at, err := endpoint(ctx, b)
	switch {
	case err != nil:
		return fmt.Errorf("mirror %s: %w", shown(u), err)
	case at.Scheme == "https" || isLoopback(at.Hostname()):
		return nil
	case at.Scheme != "http":
		return usagef("mirror %s: its endpoint begins with neither https:// nor http://", shown(u))
	}
	return usagef("mirror %s: its endpoint is %s://%s, where everybody on the way can read sessions and change them; use https, or say --insecure-http if that is meant",
		shown(u), at.Scheme, at.Host)
}

func isLoopback(host string) bool {
	addr, err := netip.ParseAddr(host)
	return strings.EqualFold(host, "localhost") || err == nil && addr.Unmap().IsLoopback()
}

// warnExposed says which of the home and the mirror everybody on this machine can read.
func (a *app) warnExposed() {
	warn := func(what, dir string) {
		if mode, exposed := doctor.Exposure(dir); exposed {
			a.say(slog.LevelWarn, "exposed", fmt.Sprintf("warning: everybody on this machine can read the %s (mode %04o): chmod 700 %s", what, mode, clean(dir)),
				slog.String("what", what), slog.String("dir", dir), slog.String("mode", fmt.Sprintf("%04o", mode)))
		}
	}
	warn("home", a.home)
	if u, err := a.mirrorURL(); err == nil && u.Scheme == dirblob.Scheme {
		warn("mirror", u.Path)
	}
}
