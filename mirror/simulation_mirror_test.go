package mirror_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/klauspost/compress/zstd"
	gcblob "gocloud.dev/blob"
)

// witness is what a simulation knows of a mirror: by listing the bucket and
// decoding what is there, without package mirror or store/blob; and its own copies
// of all that has to be there.
type witness struct {
	bucket  *gcblob.Bucket
	zstd    *zstd.Decoder
	objects map[string]object
	// owed are the contents that were pushed, by rollout; of those that begin
	// another only the other.
	owed map[string][]string
	// had are the hashes of all contents that a home had during a push.
	had map[string]map[[32]byte]bool
	// scars are bytes that a foreign tool put over an object, by key, and those
	// that were replaced since, which have to be kept.
	scars map[string][]byte
	kept  map[string][][]byte
}

// object is what lies in the bucket under a key.
type object struct {
	stamp   string // differs when the object does
	rollout string // the name of the rollout's file, "" for what is none's
	raw     []byte
	plain   string // decoded
}

func newWitness(b *gcblob.Bucket) *witness {
	z, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	return &witness{
		bucket: b, zstd: z, objects: map[string]object{}, owed: map[string][]string{},
		had: map[string]map[[32]byte]bool{}, scars: map[string][]byte{}, kept: map[string][][]byte{},
	}
}

// tree is every key that a mirror may have.
var tree = func() *regexp.Regexp {
	rollout := `(sessions|archived_sessions)/([^/]+/)*rollout-[^/]+`
	return regexp.MustCompile(`^(rollout-mirror\.json` +
		`|` + rollout + `\.jsonl\.zst` +
		`|diverged/` + rollout + `/[^/]+\.jsonl\.zst` +
		`|history/(diverged/` + rollout + `/[^/]+|` + rollout + `)/[0-9a-f]{64}\.(jsonl\.zst|foreign)` +
		`|origins/[^/]+/(\d{4}-\d\d|undated)\.jsonl\.zst` +
		`|catalog/v1/date=(\d{4}-\d\d-\d\d|__HIVE_DEFAULT_PARTITION__)/[^/]+\.parquet)$`)
}()

// look reads what changed in the bucket. An error is of what must not be so,
// whatever happened: a key that is not of the tree or has gone, an object that
// does not decode, a version that is not what its name says.
func (v *witness) look() error {
	seen := map[string]object{}
	it := v.bucket.List(nil)
	for {
		o, err := it.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		stamp := fmt.Sprint(o.ModTime.UnixNano(), o.Size, o.MD5)
		old, ok := v.objects[o.Key]
		if ok && old.stamp == stamp && len(o.MD5) > 0 {
			seen[o.Key] = old
			continue
		}
		raw, err := v.bucket.ReadAll(ctx, o.Key)
		if err != nil {
			return err
		}
		n, err := v.read(o.Key, raw)
		if err != nil {
			return err
		}
		n.stamp = stamp
		seen[o.Key] = n
	}
	for key := range v.objects {
		if _, ok := seen[key]; !ok && !strings.HasPrefix(key, "catalog/") { // which a rebuild may remove
			return fmt.Errorf("%s has gone from the mirror", key)
		}
	}
	v.objects = seen
	for key, raw := range v.scars {
		if !bytes.Equal(seen[key].raw, raw) {
			delete(v.scars, key)
			v.kept[rolloutOf(key)] = append(v.kept[rolloutOf(key)], raw)
		}
	}
	return v.hasKept()
}

func (v *witness) read(key string, raw []byte) (object, error) {
	o := object{rollout: rolloutOf(key), raw: raw}
	switch {
	case !tree.MatchString(key):
		return o, fmt.Errorf("%s is not of the tree", key)
	case bytes.Equal(raw, v.scars[key]) && v.scars[key] != nil:
		return o, nil
	case strings.HasSuffix(key, ".foreign"):
		if said := strings.TrimSuffix(path.Base(key), ".foreign"); said != fmt.Sprintf("%x", sha256.Sum256(raw)) {
			return o, fmt.Errorf("%s does not have the bytes that its name says", key)
		}
		return o, nil
	case !strings.HasSuffix(key, ".zst"):
		return o, nil
	}
	plain, err := v.zstd.DecodeAll(raw, nil)
	if err != nil {
		return o, fmt.Errorf("%s: %w", key, err)
	}
	if said, ok := strings.CutSuffix(path.Base(key), ".jsonl.zst"); ok && strings.HasPrefix(key, "history/") &&
		said != fmt.Sprintf("%x", sha256.Sum256(plain)) {
		return o, fmt.Errorf("%s does not decode to the bytes that its name says", key)
	}
	o.plain = string(plain)
	return o, nil
}

// rolloutOf returns the name of the file of which key holds a version.
func rolloutOf(key string) string {
	for e := range strings.SplitSeq(key, "/") {
		if strings.HasPrefix(e, "rollout-") && e != "rollout-mirror.json" {
			return strings.TrimSuffix(strings.TrimSuffix(e, ".zst"), ".jsonl") + ".jsonl"
		}
	}
	return ""
}

func isCurrent(key string) bool {
	return strings.HasPrefix(key, "sessions/") || strings.HasPrefix(key, "archived_sessions/")
}

// current returns the current version of a rollout.
func (v *witness) current(rollout string) (content string, ok bool) {
	for key, o := range v.objects {
		if o.rollout == rollout && isCurrent(key) && v.scars[key] == nil {
			return o.plain, true
		}
	}
	return "", false
}

// scarred reports whether a foreign tool ever touched the rollout.
func (v *witness) scarred(rollout string) bool {
	if len(v.kept[rollout]) > 0 {
		return true
	}
	for key := range v.scars {
		if rolloutOf(key) == rollout {
			return true
		}
	}
	return false
}

// holds reports whether an object is, or begins with, this content of a rollout.
func (v *witness) holds(rollout, content string) bool {
	for key, o := range v.objects {
		if o.rollout == rollout && v.scars[key] == nil && !strings.HasSuffix(key, ".foreign") && strings.HasPrefix(o.plain, content) {
			return true
		}
	}
	return false
}

// isHistory reports whether the history of the current versions has the content.
func (v *witness) isHistory(rollout, content string) bool {
	for key, o := range v.objects {
		if o.rollout == rollout && strings.HasPrefix(key, "history/") && !strings.HasPrefix(key, "history/diverged/") &&
			strings.HasSuffix(key, fmt.Sprintf("/%x.jsonl.zst", sha256.Sum256([]byte(content)))) {
			return true
		}
	}
	return false
}

// owe makes content one that has to be in the mirror from now on.
func (v *witness) owe(rollout, content string) {
	for _, c := range v.owed[rollout] {
		if strings.HasPrefix(c, content) {
			return
		}
	}
	kept := slices.DeleteFunc(v.owed[rollout], func(c string) bool { return strings.HasPrefix(content, c) })
	v.owed[rollout] = append(kept, content)
}

// settled returns an error if something that was pushed is not there.
func (v *witness) settled() error {
	for rollout, contents := range v.owed {
		for _, c := range contents {
			if !v.holds(rollout, c) {
				return fmt.Errorf("%s: lost is %s\nthe mirror has\n%s", rollout, brief(c), v.tell(rollout))
			}
		}
	}
	return nil
}

// saw remembers that a home had the content during a push.
func (v *witness) saw(rollout, content string) {
	if v.had[rollout] == nil {
		v.had[rollout] = map[[32]byte]bool{}
	}
	v.had[rollout][sha256.Sum256([]byte(content))] = true
}

// hasKept returns an error if the bytes of a foreign tool are not there any more:
// as they were, or, if they were a version, as one.
func (v *witness) hasKept() error {
	for rollout, all := range v.kept {
	next:
		for _, raw := range all {
			for _, o := range v.objects {
				if o.rollout == rollout && bytes.Equal(o.raw, raw) {
					continue next
				}
			}
			if plain, err := v.zstd.DecodeAll(raw, nil); err != nil || !v.holds(rollout, string(plain)) {
				return fmt.Errorf("%s: what a foreign tool had put there is lost: %.60q", rollout, raw)
			}
		}
	}
	return nil
}

// tell lists what the mirror has of a rollout.
func (v *witness) tell(rollout string) string {
	var b strings.Builder
	for key, o := range v.objects {
		if o.rollout == rollout {
			fmt.Fprintf(&b, "\t%s: %s\n", key, brief(o.plain))
		}
	}
	return b.String()
}

// brief is a content as a story tells it: its length and some of its hash.
func brief(content string) string {
	sum := sha256.Sum256([]byte(content))
	return fmt.Sprintf("%d:%x", len(content), sum[:2])
}
