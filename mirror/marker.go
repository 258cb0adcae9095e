package mirror

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
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
// work with, ErrNoMirror if it holds none.
func Check(ctx context.Context, m store.Source) error {
	_, _, err := readMarker(ctx, m)
	return err
}

// readMarker returns the marker and its version.
func readMarker(ctx context.Context, m store.Source) (k marker, version string, err error) {
	f, err := m.Open(ctx, rootMarker)
	if errors.Is(err, fs.ErrNotExist) {
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
	// Each try that fails means that somebody else got on with the same.
	const attempts = 5
	var err error
	for range attempts {
		var k marker
		var version string
		k, version, err = readMarker(ctx, m)
		if errors.Is(err, ErrNoMirror) {
			k = marker{}
			version, err = writeMarker(ctx, m, k, store.Cond{IfAbsent: true})
		}
		switch {
		case errors.Is(err, store.ErrChanged):
			continue
		case err != nil || singleWriter || k.Conditions == honoured:
			return err
		case k.Conditions == ignored:
			return ErrConditions
		}
		err = probe(ctx, m, version)
		if !errors.Is(err, store.ErrChanged) {
			return err
		}
	}
	return err
}

// probe finds out whether writes whose condition does not hold are refused, and
// writes it down. version is the marker's. ErrChanged means that somebody else
// changed the marker meanwhile.
func probe(ctx context.Context, m Store, version string) error {
	stale := store.Cond{IfVersion: version}
	_, err := writeMarker(ctx, m, marker{Probe: rand.Text()}, store.Cond{IfAbsent: true})
	if errors.Is(err, store.ErrChanged) {
		version, err = writeMarker(ctx, m, marker{Probe: rand.Text()}, stale)
		if err == nil {
			_, err = writeMarker(ctx, m, marker{Probe: rand.Text()}, stale)
			if errors.Is(err, store.ErrChanged) {
				_, err = writeMarker(ctx, m, marker{Conditions: honoured}, store.Cond{IfVersion: version})
				return err
			}
		}
	}
	switch {
	case errors.Is(err, errors.ErrUnsupported):
		return ErrConditions // and there is no way to write it down
	case err != nil:
		return err
	}
	if _, version, err = readMarker(ctx, m); err != nil {
		return err
	}
	if _, err := writeMarker(ctx, m, marker{Conditions: ignored}, store.Cond{IfVersion: version}); err != nil {
		return err
	}
	return ErrConditions
}
