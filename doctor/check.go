package doctor

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout/codec"
)

const (
	// headRecords and headBytes end the look at a head. Codex looks for a message
	// of the user in the first 210 records, and lists no session without.
	headRecords = 210
	headBytes   = 1 << 20
	// shortLine is the longest line that is read of a head, or when it is not known
	// to be cut off.
	shortLine = 1 << 20
	// oddLine is what Codex does not migrate, and longLine what is not read.
	oddLine  = 16 << 20
	longLine = 128 << 20
	// bigFile is from where on only one file at a time is read, in a deep run.
	bigFile = 8 << 20
)

// checked is what a look at one rollout found.
type checked struct {
	findings []Finding
	base     codec.Base // what it begins with; without a Rollout: nothing
	size     int64      // stored
	gone     bool       // it vanished meanwhile
}

// check looks at one rollout. The error is that of the context.
func (e *examiner) check(ctx context.Context, p place) (checked, error) {
	f, err := e.Home.Open(p.path())
	if errors.Is(err, fs.ErrNotExist) {
		return checked{gone: true}, nil
	}
	if err != nil {
		return checked{findings: []Finding{unreadable(p.path(), err)}}, nil
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return checked{findings: []Finding{unreadable(p.path(), err)}}, nil
	}
	c := &checker{place: p, f: f, size: fi.Size(), deep: e.Deep, moving: e.held[p.session] || e.begun.Sub(fi.ModTime()) < settle}
	if e.Deep && (c.size > bigFile || p.sealed() && c.size > bigFile/16) {
		e.big.Lock()
		defer e.big.Unlock()
	}
	err = c.read(ctx)
	if e := ctx.Err(); e != nil {
		return checked{}, e
	}
	switch {
	case err == nil:
	case errors.Is(err, codec.ErrCorrupt):
		c.find(Finding{
			Kind: Unreadable, Detail: "its compressed form is damaged: " + corruption(err), Cure: restore,
		})
	case errors.Is(err, errors.ErrUnsupported):
		c.find(Finding{Kind: Unreadable, Detail: reason(err), Cure: "update rollout-sync"})
	default:
		c.findings = append(c.findings, unreadable(p.path(), err))
	}
	out := checked{findings: c.findings, size: c.size}
	if c.meta != nil && c.meta.HistoryBase != nil {
		out.base = *c.meta.HistoryBase
	}
	return out, nil
}

func corruption(err error) string {
	var at *codec.CorruptError
	if errors.As(err, &at) {
		return fmt.Sprintf("byte %d: %s", at.Offset, at.Reason)
	}
	return reason(err)
}

// A checker looks at the records of one rollout.
type checker struct {
	place
	f        *os.File
	size     int64
	deep     bool
	moving   bool // it has a writer, or had a moment ago
	findings []Finding

	records int                // those that are not blank
	meta    *codec.SessionMeta // the first
	bare    bool
	message bool // of the user, where Codex looks for it

	complete bool // all was read
	unknown  bool // but for a line
	tailed   bool // the last line was looked at

	damaged, notUTF8, long, misnumbered spots
	ordinal                             uint64 // the last
	numbered, unnumbered                bool   // there is a last one; the last record has none
}

// spots counts records of which something is wrong.
type spots struct {
	n     int
	first string
}

func (p *spots) add(rec codec.Record, why string) {
	p.n++
	if p.n == 1 {
		p.first = fmt.Sprintf("line %d, byte %d: %s", rec.Line, rec.Offset, why)
	}
}

func (p *spots) String() string {
	if p.n == 1 {
		return p.first
	}
	return fmt.Sprintf("%d places; the first is %s", p.n, p.first)
}

func (c *checker) find(f Finding) {
	f.Path, f.session = c.path(), c.session
	c.findings = append(c.findings, f)
}

// paginated reports whether Codex holds the rollout to the rules of paginated ones.
func (c *checker) paginated() bool {
	return c.meta != nil && c.meta.HistoryMode == codec.HistoryPaginated
}

// read reads as much as is asked for, and adds what it found.
func (c *checker) read(ctx context.Context) error {
	var plain io.Reader = io.NewSectionReader(c.f, 0, c.size)
	if c.sealed() {
		s := sealed(c.f, c.size)
		_, err := s.Trailer(ctx)
		if err == nil && c.deep {
			_, err = codec.VerifySealed(io.NewSectionReader(c.f, 0, c.size))
		}
		if err != nil && !errors.Is(err, codec.ErrForeign) {
			return err
		}
		r, err := s.Range(ctx, 0, -1)
		if err != nil {
			return err
		}
		defer r.Close()
		plain = r
	}
	limit := shortLine
	if c.deep {
		limit = longLine
	}
	err := c.forward(ctx, plain, limit)
	if err == nil && !c.deep && (!c.complete || c.unknown) && !c.tailed && !c.sealed() {
		err = c.last()
	}
	c.sum()
	return err
}

// forward looks at the records from the first on.
func (c *checker) forward(ctx context.Context, r io.Reader, limit int) error {
	for rec, err := range codec.Records(r, limit) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if errors.Is(rec.Err, codec.ErrBlank) {
			continue
		}
		c.record(rec)
		if done := c.records >= headRecords || rec.Offset+rec.Length >= headBytes || c.message && c.meta != nil; done && !c.deep {
			return nil
		}
	}
	c.complete = true
	return nil
}

func (c *checker) record(rec codec.Record) {
	c.records++
	first := c.records == 1
	if c.deep && rec.Length > oddLine {
		c.long.add(rec, fmt.Sprintf("%d bytes", rec.Length))
	}
	c.unknown = c.unknown || errors.Is(rec.Err, codec.ErrTooLong)
	if !utf8.Valid(rec.Bytes) && (rec.Ended || !torn(rec)) {
		c.notUTF8.add(rec, "not UTF-8")
	}
	it := rec.Item
	switch {
	case errors.Is(rec.Err, codec.ErrTooLong):
		return
	case !rec.Ended && !errors.Is(rec.Err, codec.ErrNUL):
		c.tail(rec)
		if rec.Err != nil {
			return
		}
	case it.Type == codec.TypeSessionMeta && c.meta == nil:
	case rec.Err != nil:
		c.damaged.add(rec, rec.Err.Error())
		return
	case !rec.Alone:
		c.damaged.add(rec, "several records in one line")
	}
	whole := len(it.Payload) == len(bytes.TrimSpace(rec.Bytes)) // it has no envelope
	if first && rec.Err == nil && (whole || it.Timestamp == "") {
		c.bare = true
	}
	if c.bare {
		return
	}
	switch {
	case it.Type != codec.TypeSessionMeta:
	case c.meta == nil:
		c.sessionMeta(it)
	case c.paginated():
		c.misnumbered.add(rec, "a second session_meta, behind which Codex forgets what was before")
	}
	c.number(rec)
	if !c.message && c.records <= headRecords && it.Type == codec.TypeEventMsg {
		c.message = shows(it)
	}
}

// torn reports whether a record was cut off, wherever.
func torn(rec codec.Record) bool { return errors.Is(rec.Err, codec.ErrTorn) }

// tail looks at a record on a last line that does not end.
func (c *checker) tail(rec codec.Record) {
	c.tailed = true
	switch {
	case c.moving:
	case torn(rec) && inCharacter(rec.Bytes):
		f := Finding{
			Kind: Torn, Detail: fmt.Sprintf("the last line, from byte %d on, was cut off inside a character", rec.Offset),
			Cure: fmt.Sprintf("keep a copy and cut the line off: truncate -s %d; Codex skips it", rec.Offset),
		}
		if !c.paginated() {
			f.Detail += "; Codex 0.150 and later do not read the session"
			f.Cure = fmt.Sprintf("keep a copy and cut the line off: truncate -s %d", rec.Offset)
		}
		c.find(f)
	case rec.Err != nil:
		c.find(Finding{
			Kind: Torn, Note: true, Detail: fmt.Sprintf("the last line, from byte %d on, was cut off", rec.Offset),
			Cure: "none needed: Codex skips the line when it resumes the session; what is missing of it is lost, unless the mirror has it",
		})
	default:
		c.find(Finding{
			Kind: Unended, Note: true, Detail: "the last line has no newline",
			Cure: "none needed: Codex 0.150 and later add it when they resume the session; older ones lose the line",
		})
	}
}

// inCharacter reports whether b ends within a character.
func inCharacter(b []byte) bool {
	for n := 1; n < utf8.UTFMax && n <= len(b); n++ {
		if tail := b[len(b)-n:]; utf8.RuneStart(tail[0]) {
			return tail[0] >= utf8.RuneSelf && !utf8.FullRune(tail)
		}
	}
	return false
}

// required are the members without which Codex does not load a session.
var required = []string{"id", "timestamp", "cwd", "originator", "cli_version"}

func (c *checker) sessionMeta(it codec.Item) {
	it.Payload = bytes.Clone(it.Payload) // what is decoded has parts of it
	v, _ := it.Decode()
	meta, ok := v.(*codec.SessionMeta)
	if !ok {
		return
	}
	c.meta = meta
	refused := ""
	if meta.ID == "" || meta.Timestamp == "" || meta.Cwd == "" || meta.Originator == "" || meta.CLIVersion == "" {
		var members map[string]json.RawMessage
		_ = json.Unmarshal(it.Payload, &members) // of what is no object all are missing
		for _, name := range required {
			if _, ok := members[name]; !ok {
				refused = "its session_meta has no " + name
			}
		}
	}
	switch mode := meta.HistoryMode; {
	case refused != "":
	case it.Timestamp == "":
		refused = "its session_meta has no timestamp of its own"
	case c.records > 1:
		refused = "its session_meta is not the first record"
	case mode != "" && mode != codec.HistoryLegacy && mode != codec.HistoryPaginated:
		refused = "its session_meta has a history_mode that is not known"
	}
	if refused != "" {
		c.find(Finding{
			Kind: NoMeta, Detail: refused + "; Codex does not go on with the session",
			Cure: restore + "; rollout-sync shows what is there",
		})
	}
	if id, err := uuid.Parse(meta.ID); meta.ID != "" && (err != nil || id != c.session) {
		c.find(Finding{
			Kind: WrongID, Detail: "its session_meta is of session " + safeID(meta.ID) + "; Codex lists it as that and cannot go on with either",
			Cure: "give it the name that it had: with that id at the end",
		})
	}
}

// safeID is an id as it stands in a session, if it is one.
func safeID(id string) string {
	if u, err := uuid.Parse(id); err == nil {
		return u.String()
	}
	return "(not an id)"
}

// number looks at the ordinal of a record.
func (c *checker) number(rec codec.Record) {
	if !c.paginated() || rec.Err != nil {
		return
	}
	it := rec.Item
	c.unnumbered = !it.HasOrdinal
	switch {
	case !it.HasOrdinal:
		c.misnumbered.add(rec, "no ordinal")
	case c.numbered && it.Ordinal <= c.ordinal:
		c.misnumbered.add(rec, fmt.Sprintf("ordinal %d after %d", it.Ordinal, c.ordinal))
	default:
		c.ordinal, c.numbered = it.Ordinal, true
	}
}

// shows reports whether an item is what Codex lists a session by.
func shows(it codec.Item) bool {
	payload, _ := it.Decode()
	switch p := payload.(type) {
	case *codec.EventUserMessage:
		return true // an image, too
	case *codec.EventItemCompleted:
		item, _ := codec.DecodeTurnItem(p.Item)
		_, ok := item.(*codec.TurnUserMessage)
		return ok
	case *codec.EventThreadGoalUpdated:
		return bytes.HasPrefix(p.Goal, []byte("{"))
	}
	return false
}

// last looks at the last line of a plain rollout, of which it may have been read.
func (c *checker) last() error {
	var end [1]byte
	if _, err := c.f.ReadAt(end[:], c.size-1); err != nil {
		return err
	}
	limit := shortLine
	if end[0] != '\n' {
		limit = longLine // whether it was cut off shows only when all of it is read
	}
	for rec, err := range codec.RecordsBackward(c.f, c.size, limit) {
		switch {
		case err != nil:
			return err
		case errors.Is(rec.Err, codec.ErrBlank):
			continue
		case errors.Is(rec.Err, codec.ErrNUL):
			c.find(Finding{
				Kind: Damaged, Detail: fmt.Sprintf("NUL bytes at its end, from byte %d on, as a crash of the machine leaves them", rec.Offset),
				Cure: restore + "; Codex skips them",
			})
		case !rec.Ended && !errors.Is(rec.Err, codec.ErrTooLong):
			c.tail(rec)
		}
		c.unnumbered = c.paginated() && rec.Err == nil && !rec.Item.HasOrdinal
		return nil
	}
	return nil
}

// sum adds what only all records together tell.
func (c *checker) sum() {
	if c.damaged.n > 0 {
		c.find(Finding{
			Kind: Damaged, Detail: c.damaged.String(),
			Cure: restore + "; Codex skips such lines",
		})
	}
	if c.notUTF8.n > 0 {
		f := Finding{Kind: NotUTF8, Detail: c.notUTF8.String() + "; Codex 0.150 and later do not read the session", Cure: restore + "; rollout-sync shows what is there"}
		if c.paginated() {
			f.Detail = c.notUTF8.String() + "; Codex skips the line, and does not list the session before it is resumed"
		}
		c.find(f)
	}
	if c.misnumbered.n > 0 || c.unnumbered {
		detail := c.misnumbered.String()
		if c.unnumbered {
			detail = "its last record has no ordinal; Codex does not go on with the session"
		}
		c.find(Finding{Kind: Ordinals, Detail: detail, Cure: restore})
	}
	if c.long.n > 0 {
		c.find(Finding{
			Kind: Long, Note: true, Detail: "lines of more than 16 MiB: " + c.long.String(),
			Cure: "none needed: codex migrate-rollouts leaves such a session as it is, and over 128 MiB doctor does not look into the line",
		})
	}
	c.absent()
}

// absent adds what the rollout has not, as far as that is known.
func (c *checker) absent() {
	known := (c.complete || c.records >= headRecords) && !c.unknown
	switch {
	case c.records == 0 && c.complete && c.size == 0:
		if !c.moving {
			c.find(Finding{Kind: Damaged, Detail: "an empty file; Codex does not list it", Cure: restore})
		}
	case c.records == 0 || c.moving:
	case c.bare:
		c.find(Finding{
			Kind: Bare, Note: true, Detail: "a session without Codex's envelopes, as until August 2025; Codex does not read it any more",
			Cure: "none needed: rollout-sync lists and shows it",
		})
	case c.meta == nil && known:
		c.find(Finding{
			Kind: NoMeta, Detail: "it has no session_meta; Codex does not read the session",
			Cure: restore + "; rollout-sync shows what is there",
		})
	case c.meta != nil && known && !c.message && c.meta.HistoryBase == nil && !subagent(c.meta):
		c.find(Finding{
			Kind: Hidden, Note: true, Detail: "no message of the user in its first 210 records, where Codex looks for what to list it by",
			Cure: "none needed: codex resume ID works, and rollout-sync lists it",
		})
	}
}

// subagent reports whether another session began this one, of which nobody expects a
// message of a person.
func subagent(meta *codec.SessionMeta) bool {
	return meta.ThreadSource == "subagent" || bytes.Contains(meta.Source, []byte(`"subagent"`))
}
