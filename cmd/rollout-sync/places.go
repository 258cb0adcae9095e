package main

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/pflag"
	gcblob "gocloud.dev/blob"

	"github.com/rollout-sync/rollout"
	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store/blob"
	"github.com/rollout-sync/rollout/store/blob/azure"
	"github.com/rollout-sync/rollout/store/blob/dirblob"
	"github.com/rollout-sync/rollout/store/blob/gcs"
	"github.com/rollout-sync/rollout/store/blob/s3"
)

const program = "rollout-sync"

func defaultHome() string {
	if dir := os.Getenv("CODEX_HOME"); dir != "" {
		return dir
	}
	return underHome(".codex")
}

func defaultMirror() string { return filepath.Join(xdg("XDG_DATA_HOME", ".local/share"), "mirror") }

// xdg returns the program's directory of one of the kinds of the XDG base
// directory specification.
func xdg(variable, fallback string) string {
	if dir := os.Getenv(variable); filepath.IsAbs(dir) { // a relative one is to be ignored, says the specification
		return filepath.Join(dir, program)
	}
	return filepath.Join(underHome(fallback), program)
}

func underHome(dir string) string {
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	return filepath.Join(home, filepath.FromSlash(dir))
}

func (a *app) openHome() (*rollout.Home, error) {
	if a.home == "" {
		return nil, usagef("--home is needed: this machine names no home directory")
	}
	h, err := rollout.Open(a.home)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no Codex home at %s (set --home or CODEX_HOME)", a.home)
	}
	return h, err
}

// mirrorURL returns the mirror as a URL; a path means a directory.
func (a *app) mirrorURL() (*url.URL, error) {
	if !strings.Contains(a.mirror, "://") {
		dir, err := filepath.Abs(a.mirror)
		if err != nil || a.mirror == "" {
			return nil, usagef("--mirror %q: not a directory or URL", a.mirror)
		}
		return &url.URL{Scheme: "file", Path: filepath.ToSlash(dir)}, nil
	}
	u, err := url.Parse(a.mirror)
	if err != nil {
		// The error would quote the URL, and a URL may hold what is secret.
		return nil, usagef("--mirror: not a URL")
	}
	if u.User != nil {
		return nil, usagef("--mirror: credentials do not belong in a URL; use the environment of the cloud's own tools")
	}
	return u, nil
}

// openMirror opens the mirror. make makes a directory that is not there.
func (a *app) openMirror(ctx context.Context, make bool) (*blob.Store, error) {
	u, err := a.mirrorURL()
	if err != nil {
		return nil, err
	}
	isDir := u.Scheme == dirblob.Scheme
	if !isDir {
		a.remote = shown(u)
	}
	if isDir && make {
		u = withParam(u, "create_dir", "true")
	}
	b, service, err := openBucket(ctx, u)
	if err == nil {
		if err = a.encrypted(ctx, u, b); err != nil {
			b.Close()
		}
	}
	if isDir && errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%s: %w", a.shownMirror(), mirror.ErrNoMirror)
	}
	if err != nil {
		return nil, err
	}
	service.SingleWriter = service.SingleWriter || a.singleWriter
	return blob.New(b, &blob.Options{Service: service, UploadRate: a.uploadRate}), nil
}

// openBucket opens what a mirror's URL names, below its prefix if it has one.
func openBucket(ctx context.Context, u *url.URL) (*gcblob.Bucket, blob.Service, error) {
	kind, ok := services[u.Scheme]
	switch {
	case !ok:
		return nil, blob.Service{}, usagef("--mirror: %s:// is none of s3:// gs:// azblob:// file://", u.Scheme)
	case u.Scheme != dirblob.Scheme && strings.Trim(u.Path, "/") != "":
		// gocloud would leave it out, and use the whole bucket.
		return nil, blob.Service{}, usagef("--mirror %s: a bucket has no path; write %s://%s?prefix=%s/", shown(u), u.Scheme, u.Host, strings.Trim(u.Path, "/"))
	}
	mux := new(gcblob.URLMux) // which knows prefixes
	mux.RegisterBucket(u.Scheme, kind.opener)
	escaped := *u // an error may quote it
	escaped.RawQuery = u.Query().Encode()
	b, err := mux.OpenBucketURL(ctx, &escaped)
	if err != nil {
		return nil, blob.Service{}, fmt.Errorf("mirror %s: %w", shown(u), withoutQuery{err})
	}
	return b, kind.service, nil
}

// shown is a mirror's URL for people: with its prefix and without its other parameters.
func shown(u *url.URL) string {
	return u.Scheme + "://" + u.Host + path.Join("/", u.Path, u.Query().Get(prefixParam))
}

// shownMirror is the mirror for people, as it was given but for what may be secret.
func (a *app) shownMirror() string {
	u, err := a.mirrorURL()
	if err != nil || !strings.Contains(a.mirror, "://") {
		return a.mirror
	}
	return shown(u)
}

// withoutQuery is an error that quotes a URL, less its parameters.
type withoutQuery struct{ error }

var query = regexp.MustCompile(`\?\S*?(:?)(\s|$)`)

func (e withoutQuery) Error() string { return query.ReplaceAllString(e.error.Error(), "$1$2") }
func (e withoutQuery) Unwrap() error { return e.error }

// services are the object stores that a URL can name, by its scheme.
var services = map[string]struct {
	opener  gcblob.BucketURLOpener
	service blob.Service
	// endpoint tells where requests go; nil if there are none.
	endpoint func(context.Context, *gcblob.Bucket) (*url.URL, error)
}{
	s3.Scheme:      {s3.URLOpener{}, s3.Service(), s3.Endpoint},
	gcs.Scheme:     {gcs.URLOpener{}, gcs.Service(), gcs.Endpoint},
	azure.Scheme:   {azure.URLOpener{}, azure.Service(), azure.Endpoint},
	dirblob.Scheme: {dirblob.URLOpener{}, dirblob.Service(), nil},
}

// prefixParam is gocloud's parameter of a URL for what all keys begin with.
const prefixParam = "prefix"

func withParam(u *url.URL, name, value string) *url.URL {
	with := *u
	q := u.Query()
	q.Set(name, value)
	with.RawQuery = q.Encode()
	return &with
}

// stateFile is where this home remembers its pushes to the mirror.
func (a *app) stateFile() (string, error) {
	u, err := a.mirrorURL()
	if err != nil {
		return "", err
	}
	home, err := filepath.Abs(a.home)
	if err != nil {
		return "", err
	}
	both := sha256.Sum256([]byte(home + "\x00" + u.String()))
	return filepath.Join(xdg("XDG_STATE_HOME", ".local/state"), fmt.Sprintf("%x.db", both[:8])), nil
}

// openState opens what this home remembers of its pushes to the mirror. It waits for
// another run that has it, as long as --wait says.
func (a *app) openState(ctx context.Context) (*mirror.State, error) {
	if a.wait < 0 {
		return nil, usagef("--wait %v: must not be negative", a.wait)
	}
	file, err := a.stateFile()
	if err != nil {
		return nil, err
	}
	state, err := mirror.OpenState(file)
	switch {
	case !errors.Is(err, mirror.ErrLocked):
		return state, err
	case a.wait == 0:
		return nil, fmt.Errorf("%w (--wait 10m would wait for it)", err)
	}
	a.say(slog.LevelInfo, "waiting", fmt.Sprintf("another run is at work; waiting for it, %v at most", a.wait), slog.Float64("seconds", a.wait.Seconds()))
	const again = 250 * time.Millisecond
	for end := time.Now().Add(a.wait); errors.Is(err, mirror.ErrLocked) && time.Now().Before(end); {
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(again):
		}
		state, err = mirror.OpenState(file)
	}
	return state, err
}

// waitFlag adds the flag of a command that needs the state for itself.
func (a *app) waitFlag(f *pflag.FlagSet) {
	f.DurationVar(&a.wait, "wait", 0, "wait up to this `time`, such as 10m, for another run on this home and mirror (0: end at once, with 11)")
}

// originsFile says which origin a home is.
func originsFile() string { return filepath.Join(xdg("XDG_CONFIG_HOME", ".config"), "origins.json") }

// originID returns the id under which the home pushes from this machine: the
// flag's, else the one that was made for it, which is made now if make is set.
func (a *app) originID(make bool) (string, error) {
	if a.origin != "" {
		return a.origin, nil
	}
	home, err := filepath.Abs(a.home)
	if err != nil {
		return "", err
	}
	file := originsFile()
	origins := map[string]string{} // by home
	content, err := os.ReadFile(file)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return "", err
	default:
		if err := json.Unmarshal(content, &origins); err != nil {
			return "", fmt.Errorf("%s: %w (it says which origin a home is; mend it, or give --origin)", file, err)
		}
	}
	if id := origins[home]; id != "" || !make {
		return id, nil
	}
	origins[home] = uuid.NewString()
	if content, err = json.MarshalIndent(origins, "", "\t"); err != nil {
		return "", err
	}
	return origins[home], writeFile(file, append(content, '\n'))
}

// writeFile replaces a small file as a whole.
func writeFile(file string, content []byte) error {
	dir := filepath.Dir(file)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".*.tmp")
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
