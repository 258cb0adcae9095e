package mirror

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"time"

	"github.com/rollout-sync/rollout/store"
)

const (
	rootMarker = "rollout-mirror.json"
	// format is the version of the tree that the package comment shows. A mirror
	// with a higher one is refused, since its rules are not known here.
	format = 1
)

var (
	// ErrNoMirror means that there is no mirror where one was expected.
	ErrNoMirror = errors.New("there is no mirror here (a push makes one)")
	// ErrConditions means that the store writes an object even if the condition of
	// the write does not hold, so that two pushes at once can destroy what the
	// other has just written. See Pushing.SingleWriter.
	ErrConditions = errors.New("the mirror's store ignores the conditions of writes, so two pushes at once could destroy each other's work")
)

// marker is the content of rootMarker.
type marker struct {
	Format int `json:"format"`
	// Conditions says whether the store minds the conditions of writes: honoured,
	// ignored, or "" if nobody has tried yet.
	Conditions string `json:"conditions,omitempty"`
	// Probe is random, so that a marker that is rewritten is another version even
	// where versions are hashes.
	Probe string `json:"probe,omitempty"`
}

const (
	honoured = "honoured"
	ignored  = "ignored"
)

// Check returns nil if m holds a mirror that this version of the package can
// work with, ErrNoMirror if it holds none. A bucket that is not there is an error of its
// store's, if the service tells it from an empty one.
func Check(ctx context.Context, m store.Source) error {
	_, _, err := readMarker(ctx, m)
	return err
}

// readMarker returns the marker and its version.
func readMarker(ctx context.Context, m store.Source) (k marker, version string, err error) {
	f, err := m.Open(ctx, rootMarker)
	if errors.Is(err, fs.ErrNotExist) && !more(err) {
		return k, "", ErrNoMirror
	}
	if err != nil {
		return k, "", err
	}
	defer f.Close()
	content, err := readFile(ctx, f)
	if err != nil {
		return k, "", err
	}
	if err := json.Unmarshal(content, &k); err != nil || k.Format < 1 {
		return k, "", fmt.Errorf("%s: %w: it does not say which format the mirror has", rootMarker, store.ErrCorrupt)
	}
	if k.Format > format {
		return k, "", fmt.Errorf("%s: the mirror has format %d and this version knows only %d: update rollout-sync", rootMarker, k.Format, format)
	}
	return k, f.Info().Version, nil
}

// more reports whether an error of a store says more than that there is nothing of that
// name: of a bucket that is not there, services have words.
func more(err error) bool {
	e, ok := errors.AsType[*store.Error](err)
	if !ok {
		return false
	}
	_, plain := e.Err.(syscall.Errno)
	return !plain && e.Err != fs.ErrNotExist
}

func writeMarker(ctx context.Context, m Store, k marker, c store.Cond) (version string, err error) {
	k.Format = format
	content, err := json.Marshal(k)
	if err != nil {
		return "", err
	}
	return m.Put(ctx, rootMarker, store.BytesBody(append(content, '\n'), time.Time{}), c)
}

// prepare is Check for one who is going to write: it makes the mirror if there is
// none and, unless the caller is the only writer, makes sure that the store minds
// conditions. That is tried once for each mirror, with the marker itself, which
// any of the writes leaves valid; the marker keeps the answer.
func prepare(ctx context.Context, m Store, singleWriter bool) error {
	k, version, err := readMarker(ctx, m)
	if errors.Is(err, ErrNoMirror) {
		version, err = writeMarker(ctx, m, k, store.Cond{IfAbsent: true})
		if errors.Is(err, store.ErrChanged) { // somebody else was first
			k, version, err = readMarker(ctx, m)
		}
	}
	switch {
	case err != nil || singleWriter || k.Conditions == honoured:
		return err
	case k.Conditions == ignored:
		return ErrConditions
	}
	minds, err := probe(ctx, m, version)
	if err != nil {
		return err
	}
	k = marker{Conditions: honoured}
	if !minds {
		k.Conditions = ignored
	}
	if _, version, err = readMarker(ctx, m); err != nil {
		return err
	}
	// Others may be finding out the same. If one of them changes the marker now, the
	// answer stays as true, and somebody writes it down the next time.
	_, err = writeMarker(ctx, m, k, store.Cond{IfVersion: version})
	switch {
	case !minds && (err == nil || errors.Is(err, errors.ErrUnsupported)):
		return ErrConditions
	case minds && errors.Is(err, store.ErrChanged):
		return nil
	}
	return err
}

// probe reports whether writes whose condition does not hold are refused. version
// is one that the marker has or had.
func probe(ctx context.Context, m Store, version string) (minds bool, err error) {
	conditions := []store.Cond{
		{IfAbsent: true},
		{IfVersion: version}, // this one may hold,
		{IfVersion: version}, // but not twice
	}
	refused := 0
	for _, c := range conditions {
		switch _, err := writeMarker(ctx, m, marker{Probe: rand.Text()}, c); {
		case errors.Is(err, store.ErrChanged):
			refused++
		case errors.Is(err, errors.ErrUnsupported):
			return false, nil
		case err != nil:
			return false, err
		case c.IfAbsent:
			return false, nil
		}
	}
	return refused >= 2, nil
}
