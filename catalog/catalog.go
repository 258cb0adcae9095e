// Package catalog is the table of what a mirror holds: a row for each version of a
// rollout, with what a listing tells of it and what only reading all of it would, in
// Parquet files that DuckDB, Athena, BigQuery, Spark and Trino read as they are.
//
// # The tree
//
//	catalog/v1/date=YYYY-MM-DD/<origin>.parquet
//
// The date is that of the rollout's name, which is where its object lies; of a name
// without one it is that of the UUIDv7, and else Hive's name for no value,
// __HIVE_DEFAULT_PARTITION__. An origin writes files of its own name alone, so that
// no two machines ever write the same object, and a file has the rows of the objects
// that this origin wrote. Columns may be added in v1; none changes its meaning or goes.
//
// # What it is worth
//
// The catalog is derived from the mirror's objects and facts. It can be deleted and
// made again at any time, and nothing that keeps data safe reads it. It may be behind:
// push writes it after the objects, one that was killed may not have noted what it had
// made, which a rebuild finds, and another origin may have replaced an object since. But a row names the version of the object that it is of, which a listing of
// the objects tells too. So who holds a row against a listing knows whether it is
// true, and a [Reader] only tells what is; what has no true row is looked at itself.
//
// Who reads the files alone sees two rows of a rollout that two origins have pushed.
// The one with the later updated is nearer to what the mirror has.
package catalog

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
	"github.com/parquet-go/parquet-go"
	parquetzstd "github.com/parquet-go/parquet-go/compress/zstd"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store"
)

// Dir is the directory of a mirror with a directory for each date.
const Dir = "catalog/v1"

const (
	suffix  = ".parquet"
	datePre = "date="
	// undated is what Hive calls the partition of rows without a value.
	undated = "__HIVE_DEFAULT_PARTITION__"
)

// DirOf returns the directory with the rows of rollouts of n's date.
func DirOf(n codec.Name) string {
	date := undated
	if year, month, day, ok := n.Date(); ok {
		date = year + "-" + month + "-" + day
	} else if t, ok := n.Time(); ok && t.Year() <= 9999 {
		date = t.Format("2006-01-02")
	}
	return path.Join(Dir, datePre+date)
}

// FileOf returns the file of an origin, which is an element of a name, in a directory
// of DirOf.
func FileOf(dir, origin string) string { return path.Join(dir, origin+suffix) }

// OriginOf returns the origin whose file it is, false if it is no file of a catalog.
func OriginOf(file string) (origin string, ok bool) {
	return strings.CutSuffix(path.Base(file), suffix)
}

// compression is zstd, which BigQuery, Athena and DuckDB read, with an encoder that is
// kept. Those of parquet-go are made anew after each garbage collection, and that takes
// longer than the encoding of a day of one home.
type compression struct{ parquetzstd.Codec }

var encoder = sync.OnceValue(func() *zstd.Encoder {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true),
		zstd.WithWindowSize(1<<20), zstd.WithZeroFrames(true), zstd.WithEncoderCRC(false))
	if err != nil {
		panic(err) // the options are constants
	}
	return enc
})

func (*compression) Encode(dst, src []byte) ([]byte, error) {
	return encoder().EncodeAll(src, dst[:0]), nil
}

// The key and the value in a file's metadata by which it is known to be whole: the
// SHA-256 of the file, with zeros for the hash itself. Parquet has checksums of pages
// alone, and its reader trusts the rest.
const (
	sumKey    = "rollout.sum"
	sumPrefix = "sha256:"
)

var noSum = strings.Repeat("0", hex.EncodedLen(sha256.Size))

// schema is that of the files that Encode makes.
var schema = parquet.SchemaOf(Row{})

// Encode returns a file with the rows, in the order of their objects. The same rows
// make the same bytes.
func Encode(rows []Row) ([]byte, error) {
	rows = slices.Clone(rows)
	slices.SortFunc(rows, func(a, b Row) int { return strings.Compare(a.Object, b.Object) })
	var b bytes.Buffer
	// Pages and encodings that Spark 3.2 and Iceberg's reader know, too.
	w := parquet.NewGenericWriter[Row](&b, schema, parquet.Compression(&compression{}), parquet.CreatedBy("rollout", "1", ""),
		parquet.DataPageVersion(1), parquet.DefaultEncodingFor(parquet.ByteArray, &parquet.Plain),
		parquet.KeyValueMetadata(sumKey, sumPrefix+noSum))
	if _, err := w.Write(rows); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	seal(b.Bytes())
	return b.Bytes(), nil
}

// seal writes the sum into p.
func seal(p []byte) {
	if at := sumAt(p); at != nil {
		copy(at, noSum)
		sum := sha256.Sum256(p)
		hex.Encode(at, sum[:])
	}
}

// sumAt returns where in p the sum stands, nil if it has none.
func sumAt(p []byte) []byte {
	i := bytes.LastIndex(p, []byte(sumPrefix))
	if i < 0 || len(p)-i < len(sumPrefix)+len(noSum) {
		return nil
	}
	return p[i+len(sumPrefix):][:len(noSum)]
}

// Decode returns the rows of a file. Columns that it does not know are left out, and
// those that the file does not have are zero. What is no such file, or not as it was
// written, is store.ErrCorrupt.
func Decode(p []byte) ([]Row, error) {
	at := sumAt(p)
	if at == nil {
		return nil, fmt.Errorf("%w: not a file of a catalog", store.ErrCorrupt)
	}
	h := sha256.New()
	i := bytes.LastIndex(p, []byte(sumPrefix)) + len(sumPrefix)
	h.Write(p[:i])
	h.Write([]byte(noSum))
	h.Write(p[i+len(noSum):])
	if hex.EncodeToString(h.Sum(nil)) != string(at) {
		return nil, fmt.Errorf("%w: it is not as it was written", store.ErrCorrupt)
	}
	rows, err := decode(p)
	if err != nil {
		return nil, fmt.Errorf("%w: not a catalog: %w", store.ErrCorrupt, err)
	}
	return rows, nil
}

// decode reads what may be hostile all the same: anybody can make a sum.
func decode(p []byte) (rows []Row, err error) {
	defer func() {
		if r := recover(); r != nil { // parquet-go does, over some files
			rows, err = nil, fmt.Errorf("%v", r)
		}
	}()
	f, err := parquet.OpenFile(bytes.NewReader(p), int64(len(p)), parquet.SkipPageIndex(true), parquet.SkipBloomFilters(true))
	if err != nil {
		return nil, err
	}
	if err := check(f.Schema(), schema); err != nil {
		return nil, err
	}
	if f.NumRows() < 0 {
		return nil, fmt.Errorf("%d rows", f.NumRows())
	}
	r := parquet.NewGenericReader[Row](f)
	defer r.Close()
	// Not as many at once as the file says it has, which costs nothing to say; and no
	// more than it has, of which the end is looked for in each column.
	batch := make([]Row, min(1024, f.NumRows()))
	for left := f.NumRows(); left > 0; clear(batch) {
		n, err := r.Read(batch[:min(left, int64(len(batch)))])
		rows = append(rows, batch[:n]...)
		left -= int64(n)
		if left > 0 && (err != nil || n == 0) {
			return nil, fmt.Errorf("row %d: %w", len(rows), cmp.Or(err, io.ErrUnexpectedEOF))
		}
	}
	for i := range rows {
		r := &rows[i]
		if r.Updated = r.Updated.UTC(); r.Created != nil {
			*r.Created = r.Created.UTC()
		}
		if len(r.Problems) == 0 {
			r.Problems = nil
		}
	}
	return rows, nil
}

// check returns an error unless the columns that both know are of the same type, which
// parquet-go takes for granted: it would read a number as the address of a text.
func check(file, ours parquet.Node) error {
	known := map[string]parquet.Node{}
	for _, f := range ours.Fields() {
		known[f.Name()] = f
	}
	for _, f := range file.Fields() {
		our, ok := known[f.Name()]
		switch {
		case !ok:
		case f.Leaf() != our.Leaf() || f.Leaf() && f.Type().Kind() != our.Type().Kind() || f.Repeated() != our.Repeated():
			return fmt.Errorf("column %.50q is of another type", f.Name())
		case !f.Leaf():
			if err := check(f, our); err != nil {
				return err
			}
		}
	}
	return nil
}

// Sealed objects of a mirror, by their names and by their keys.
const (
	logSuffix    = ".jsonl"
	sealedSuffix = ".zst"
)

// ObjectOf returns the key of the object that has a log of that name.
func ObjectOf(name string) string {
	if strings.HasSuffix(name, logSuffix) {
		return name + sealedSuffix
	}
	return name
}
