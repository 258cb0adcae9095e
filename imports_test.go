package rollout_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/rollout-sync/rollout"

// rules say what the packages below a directory may import of this module and of
// others, beside the standard library. The first that matches counts.
var rules = []struct {
	dir    string
	may    []string // each with all below it
	reason string
}{
	{"internal/spare", nil, "a list of buffers knows nothing of what is in them"},
	{"internal/mutate", []string{"golang.org/x/sync"}, "it knows the rooms as text"},
	{"codec", []string{module + "/internal/spare", "github.com/klauspost/compress", "github.com/google/uuid"}, "codec is bytes and items: a leaf that everything may use"},
	{"store/storetest", []string{module + "/store"}, "the suite tests any store, so it knows none"},
	{"store/internal/vfs", []string{module + "/store/internal/vfs", "golang.org/x/sys"}, "the seam below the stores knows nothing of them"},
	{"store/internal/filestore", []string{module + "/store", module + "/store/internal/vfs", module + "/codec"}, "it reads sealed logs, so it needs codec, and no more"},
	{"store/local", []string{module + "/store", module + "/store/internal"}, "stores do not know each other"},
	{"store/memfs", []string{module + "/store", module + "/store/internal", "github.com/spf13/afero"}, "stores do not know each other"},
	{"store/blob/s3", []string{module + "/store/blob", "gocloud.dev", "github.com/aws"}, "one cloud's types stay in one package"},
	{"store/blob/gcs", []string{module + "/store", "gocloud.dev", "cloud.google.com/go", "google.golang.org"}, "one cloud's types stay in one package"},
	{"store/blob/azure", []string{module + "/store/blob", "gocloud.dev", "github.com/Azure"}, "one cloud's types stay in one package"},
	{"store/blob", []string{module + "/store", module + "/codec", module + "/internal/spare", "gocloud.dev/blob", "gocloud.dev/gcerrors", "golang.org/x/sync", "golang.org/x/time"}, "no cloud's SDK below the portable store"},
	{"store", nil, "the abstraction knows nothing below or above it"},
	{"recorder", []string{module + "/codec", module + "/store", "github.com/google/uuid"}, "it records through a Sink, whichever"},
	{"listing", []string{module + "/codec", module + "/store", "github.com/google/uuid", "golang.org/x/sync"}, "it lists any Source"},
	{"replay", []string{module + "/codec", module + "/store", "github.com/google/uuid"}, "it replays from any Source"},
	{"catalog", []string{module + "/codec", module + "/store", module + "/listing", module + "/replay", "github.com/klauspost/compress", "github.com/parquet-go/parquet-go", "golang.org/x/sync"}, "it says of any Source what a listing and a replay would"},
	{"mirror", []string{module + "/catalog", module + "/codec", module + "/internal/spare", module + "/store", module + "/listing", module + "/replay", "github.com/google/uuid", "golang.org/x/sync", "go.etcd.io/bbolt"}, "it mirrors any Source to any Putter"},
	{"search", []string{module + "/codec", module + "/store", module + "/listing", module + "/replay", "golang.org/x/sync"}, "it searches any Source, with any index"},
	{"index", []string{module + "/codec", module + "/store", module + "/listing", module + "/replay", module + "/search", "github.com/gofrs/flock", "golang.org/x/sync", "modernc.org/sqlite"}, "it keeps what listing and search ask for; SQLite stays in here"},
	{"doctor", []string{module + "/codec", module + "/store", module + "/replay", "github.com/gofrs/flock", "github.com/google/uuid", "golang.org/x/sync"}, "it looks at a home's files behind the stores"},
	{"cmd", []string{""}, "the only place that picks stores"},
	{".", []string{module, "github.com/google/uuid"}, "it joins the rooms"},
}

// backends are named by nothing above package store but the root and cmd.
var backends = []string{module + "/store/local", module + "/store/memfs", module + "/store/blob"}

func TestImportDirection(t *testing.T) {
	t.Parallel()
	checked := map[string]bool{}
	err := filepath.WalkDir(".", func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		file = filepath.ToSlash(file)
		if d.IsDir() && (file == "integration" || file == "bench" || strings.HasPrefix(d.Name(), ".") && file != "." || d.Name() == "testdata") {
			return fs.SkipDir // modules of their own
		}
		if !strings.HasSuffix(file, ".go") || strings.HasSuffix(file, "_test.go") {
			return nil
		}
		i := slices.IndexFunc(rules, func(r struct {
			dir    string
			may    []string
			reason string
		},
		) bool {
			return r.dir == "." || path.Dir(file) == r.dir || strings.HasPrefix(file, r.dir+"/")
		})
		rule := rules[i]
		checked[rule.dir] = true
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") {
				continue // the standard library
			}
			below := func(may string) bool {
				return may == "" || imported == may || strings.HasPrefix(imported, may+"/")
			}
			if !slices.ContainsFunc(rule.may, below) {
				t.Errorf("%s imports %s: %s", file, imported, rule.reason)
			}
			named := slices.ContainsFunc(backends, below)
			if named && rule.dir != "." && rule.dir != "cmd" && !strings.HasPrefix(rule.dir, "store/") {
				t.Errorf("%s imports %s: nothing above package store names a backend", file, imported)
			}
			if strings.HasPrefix(rule.dir, "store/blob/") || rule.dir == "cmd" {
				continue
			}
			if slices.ContainsFunc([]string{module + "/store/blob/s3", module + "/store/blob/gcs", module + "/store/blob/azure"}, below) {
				t.Errorf("%s imports %s: only cmd picks a cloud", file, imported)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, rule := range rules {
		if !checked[rule.dir] {
			t.Errorf("no package is held to the rule of %s", rule.dir)
		}
	}
}
