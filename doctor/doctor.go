// Package doctor finds what is wrong with a home of rollouts, and says for each
// thing what cures it. It looks at the files as they lie on the disk, behind the
// stores: both forms of a log, links, locks, temporary files, modes.
//
// [Examine] changes nothing. [Mend] does what can lose nothing: it removes a lock
// that nobody holds, and moves what another file has every byte of, out of the
// sessions into a directory where it keeps its path. No rollout is ever cut,
// written or removed.
//
// What Codex refuses was measured with versions 0.98 to 0.169.
package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/rollout-sync/rollout/codec"
)

// A Kind is what is wrong.
type Kind string

// Kinds. What a kind is about is said with its findings; which of them Codex refuses,
// too.
const (
	Unreadable Kind = "unreadable" // cannot be opened, read or decompressed
	Damaged    Kind = "damaged"    // lines that are no JSON objects, NUL bytes, cut-off or glued records, an empty file
	Torn       Kind = "torn"       // the last line was cut off
	Unended    Kind = "unended"    // the last line is whole and has no newline
	NotUTF8    Kind = "not_utf8"   // bytes that are in no UTF-8 text
	NoMeta     Kind = "no_meta"    // no session_meta at the beginning, or one that Codex cannot read
	WrongID    Kind = "wrong_id"   // the session_meta is that of another session than the file's name
	Ordinals   Kind = "ordinals"   // of a paginated rollout: missing, not rising, or a second session_meta
	Bare       Kind = "bare"       // of a generation, or by an agent, that Codex does not read
	Hidden     Kind = "hidden"     // no message of the user where Codex looks for one
	Long       Kind = "long"       // very long lines
	Lineage    Kind = "lineage"    // what it begins with by reference is missing, too short or begins with it
	Forms      Kind = "forms"      // a rollout is there plain and compressed
	Duplicate  Kind = "duplicate"  // two files have one rollout id
	WrongDate  Kind = "wrong_date" // in the directory of another date
	Link       Kind = "link"       // a symbolic link, which is not followed
	Lock       Kind = "lock"       // a writer's lock that nobody holds
	Temporary  Kind = "temporary"  // a leftover of a program that died
	Exposed    Kind = "exposed"    // others on this machine can read the home
)

// A Finding is one thing that is wrong with one file. It quotes nothing of a
// session.
type Finding struct {
	Kind Kind
	Path string // in the home, slash-separated; "." is the home itself
	// Other is the file that Path is compared with; "" if there is none.
	Other string
	// Note tells that nobody has to do anything about it.
	Note bool
	// Detail says what is wrong, and Cure what helps: one line each.
	Detail, Cure string
	// Mendable tells that Mend can do it.
	Mendable bool

	session uuid.UUID // whose lock guards Path
}

// Examining says what an Examine looks at.
type Examining struct {
	Home *os.Root // the home's directory
	// Deep reads every line. Else it is what names and directories tell, the first
	// lines up to a message of the user (210 records or 1 MiB), and of plain files
	// the last line.
	Deep bool
	// Each, if set, is called with each finding as it is known, from one goroutine.
	Each func(Finding)
	// Now is the clock; nil is time.Now.
	Now func() time.Time
}

// Report sums up an Examine.
type Report struct {
	Rollouts int // files that were looked at
	Problems int // findings that are not only notes
	Notes    int
}

// Examine looks at a home. It opens rollouts for reading only, takes a lock only for
// the instant that shows whether somebody else has it, and reads whole files only if
// it is to go deep or two files might be one. A home that is being written to may
// change meanwhile: what is not settled is left out.
//
// Memory is that of the names, some 200 bytes a rollout, and of a line for each
// processor: in a deep run up to 8 MiB, but for one at a time that may be 128 MiB long
// and takes twice its length. Longer ones are told, and not looked into.
//
// The error is that of the context; what cannot be read is a finding.
func Examine(ctx context.Context, o Examining) (Report, error) {
	if o.Now == nil {
		o.Now = time.Now
	}
	e := &examiner{Examining: o, begun: o.Now(), held: map[uuid.UUID]bool{}, bases: map[uuid.UUID]child{}}
	e.exposed()
	e.names()
	e.locks(ctx)
	for _, dir := range []string{sessionsDir, archivedDir} {
		if err := e.walk(ctx, dir); err != nil {
			return e.report, err
		}
	}
	err := e.same(ctx)
	if err == nil {
		err = e.lineages(ctx)
	}
	return e.report, err
}

const (
	sessionsDir = "sessions"
	archivedDir = "archived_sessions"

	plainSuffix  = ".jsonl"
	sealedSuffix = ".jsonl.zst"

	// settle is how long a file has been left alone that nobody writes to.
	settle = 10 * time.Second
	// leftover is from what age on Codex removes temporary files.
	leftover = 6 * time.Hour
)

// examiner is one Examine.
type examiner struct {
	Examining
	begun  time.Time
	report Report
	held   map[uuid.UUID]bool // sessions that have a writer

	places []place             // all rollouts
	bases  map[uuid.UUID]child // those that begin with another
	big    sync.Mutex          // for who reads a big file, deep
}

// A place is a rollout's file.
type place struct {
	id        uuid.UUID // the rollout's
	session   uuid.UUID
	dir, base string
	size      int64 // stored
}

func (p place) path() string   { return p.dir + "/" + p.base }
func (p place) sealed() bool   { return strings.HasSuffix(p.base, sealedSuffix) }
func (p place) plain() string  { return strings.TrimSuffix(p.path(), ".zst") }
func (p place) archived() bool { return strings.HasPrefix(p.dir, archivedDir) }

func (e *examiner) found(f Finding) {
	if f.Note {
		e.report.Notes++
	} else {
		e.report.Problems++
	}
	if e.Each != nil {
		e.Each(f)
	}
}

// walk looks at everything below dir.
func (e *examiner) walk(ctx context.Context, dir string) error {
	entries, err := fs.ReadDir(e.Home.FS(), dir)
	if err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			e.found(unreadable(dir, err))
		}
		if len(entries) == 0 {
			return nil
		}
	}
	var rollouts []place
	for _, d := range entries {
		file := dir + "/" + d.Name()
		n, err := codec.ParseName(d.Name())
		isRollout := err == nil && (strings.HasSuffix(file, plainSuffix) || strings.HasSuffix(file, sealedSuffix))
		switch {
		case d.Type()&fs.ModeSymlink != 0:
			if e.leads(file, isRollout) {
				e.found(Finding{
					Kind: Link, Path: file, Detail: "a symbolic link; Codex does not list what it leads to, and a push leaves it out",
					Cure: "put the file or directory itself here",
				})
			}
		case d.IsDir():
			if err := e.walk(ctx, file); err != nil {
				return err
			}
		case isRollout && d.Type().IsRegular():
			rollouts = append(rollouts, place{id: n.Rollout, session: n.Session, dir: dir, base: d.Name()})
			e.date(file, dir, n)
		case d.Type().IsRegular():
			e.stray(file, d)
		}
	}
	return e.look(ctx, rollouts)
}

// leads reports whether a link leads to sessions.
func (e *examiner) leads(file string, isRollout bool) bool {
	fi, err := os.Stat(filepath.Join(e.Home.Name(), filepath.FromSlash(file))) // it may lead out of the home
	return isRollout || err == nil && fi.IsDir()
}

// look looks at the rollouts of a directory, several at a time, and tells in order.
func (e *examiner) look(ctx context.Context, rollouts []place) error {
	const batch = 1024 // of whose findings are held
	for part := range slices.Chunk(rollouts, batch) {
		seen := make([]checked, len(part))
		g, ctx := errgroup.WithContext(ctx)
		g.SetLimit(runtime.GOMAXPROCS(0))
		for i := range part {
			g.Go(func() (err error) {
				seen[i], err = e.check(ctx, part[i])
				return err
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		for i, c := range seen {
			part[i].size = c.size
			if c.gone {
				continue
			}
			e.report.Rollouts++
			e.places = append(e.places, part[i])
			if c.base.Rollout != "" {
				e.bases[part[i].id] = child{part[i].path(), c.base}
			}
			for _, f := range c.findings {
				e.found(f)
			}
		}
	}
	return nil
}

// dated is a directory of Codex's.
var dated = regexp.MustCompile(`^sessions/(\d{4})/(\d{2})/(\d{2})$`)

// date tells of a file in the directory of another date than its name has.
func (e *examiner) date(file, dir string, n codec.Name) {
	is := dated.FindStringSubmatch(dir)
	year, month, day, ok := n.Date()
	if is == nil || !ok || is[1] == year && is[2] == month && is[3] == day {
		return
	}
	want := path.Join(sessionsDir, year, month, day)
	e.found(Finding{
		Kind: WrongDate, Path: file, Note: true, Detail: "its name has another date than its directory, by which it is listed",
		Cure: "leave it if Codex lists it, whose database has this path; else move it to " + want,
	})
}

// stray tells of what programs that died left between the rollouts.
func (e *examiner) stray(file string, d fs.DirEntry) {
	isLock := strings.HasSuffix(file, plainSuffix+".lock")
	if !isLock && !strings.HasSuffix(file, ".tmp") {
		return
	}
	fi, err := d.Info()
	if err != nil || e.begun.Sub(fi.ModTime()) < leftover || isLock && e.isHeld(file) {
		return
	}
	f := Finding{
		Kind: Temporary, Path: file, Note: true, Mendable: true,
		Detail: fmt.Sprintf("a temporary file of %d bytes, last written on %s", fi.Size(), fi.ModTime().Format(time.DateOnly)),
		Cure:   "none needed: nothing reads it; doctor --apply moves it away",
	}
	if isLock {
		f.Kind, f.Detail = Lock, "a lock of an older kind, which nobody holds"
	}
	e.found(f)
}

// exposed tells whether others can read the home.
func (e *examiner) exposed() {
	mode, exposed := Exposure(e.Home.Name())
	if !exposed {
		return
	}
	dir, err := filepath.Abs(e.Home.Name())
	if err != nil {
		dir = e.Home.Name()
	}
	e.found(Finding{
		Kind: Exposed, Path: ".", Detail: fmt.Sprintf("everybody on this machine can read the sessions (mode %04o)", mode),
		Cure: "chmod 700 " + dir,
	})
}

// Exposure returns the mode of a directory and whether everybody on this machine can
// get into it or see what it has: by its own mode and those of the directories above.
// Access control lists are not looked at. It is false where modes say nothing, as on
// Windows, and where they cannot be read.
func Exposure(dir string) (mode fs.FileMode, exposed bool) {
	if runtime.GOOS == "windows" {
		return 0, false
	}
	dir, err := filepath.EvalSymlinks(dir)
	if err == nil {
		dir, err = filepath.Abs(dir)
	}
	if err != nil {
		return 0, false
	}
	fi, err := os.Stat(dir)
	if err != nil || fi.Mode().Perm()&0o005 == 0 {
		return 0, false
	}
	// Who cannot get to it cannot read it.
	for at := filepath.Dir(dir); ; at = filepath.Dir(at) {
		if fi, err := os.Stat(at); err == nil && fi.Mode().Perm()&0o001 == 0 {
			return fi.Mode().Perm(), false
		}
		if at == filepath.Dir(at) {
			return fi.Mode().Perm(), true
		}
	}
}

func unreadable(file string, err error) Finding {
	f := Finding{Kind: Unreadable, Path: file, Detail: reason(err)}
	if errors.Is(err, fs.ErrPermission) {
		f.Cure = "chmod u+r it, or chown it to who runs Codex"
	} else {
		f.Cure = "try again; if it stays so, look at the disk, and " + restore
	}
	return f
}

// restore is what helps where bytes are lost.
const restore = `if the mirror has a better version, move this one out of the home and run "rollout-sync restore"`

// reason is an error without the path that os adds.
func reason(err error) string {
	var p *fs.PathError
	if errors.As(err, &p) {
		err = p.Err
	}
	return err.Error()
}

// byID sorts rollouts by id and, of one id, the file first that Codex would take: a
// live one, and of these the last by path; plain before compressed.
func byID(a, b place) int {
	return cmp.Or(slices.Compare(a.id[:], b.id[:]), cmp.Compare(rank(a), rank(b)),
		cmp.Compare(b.plain(), a.plain()), cmp.Compare(a.base, b.base))
}

func rank(p place) int {
	if p.archived() {
		return 1
	}
	return 0
}
