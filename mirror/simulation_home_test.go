package mirror_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/afero"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/memfs"
)

// edit is what Codex or a user does in a home.
func (m *machine) edit(r *rand.Rand) string { return choose(r, edits, m) }

var edits = []choice[*machine]{
	{5, (*machine).start},
	{22, (*machine).append},
	{4, (*machine).tear},
	{5, (*machine).compress},
	{5, (*machine).archive},
	{5, (*machine).rewrite},
	{2, (*machine).cutShort},
	{3, (*machine).copyFromOther},
	{3, (*machine).revert},
	{4, (*machine).fork},
	{2, (*machine).remove},
	{3, (*machine).name},
}

// machine is a home, its clock and what it remembers of its pushes.
type machine struct {
	w      *world
	label  string
	afs    afero.Fs
	files  *memfs.Store
	logs   map[string]*logFile // by path
	origin string
	skew   time.Duration

	memory
	backup memory
}

// memory is a state and what is in it, as far as a rewrite depends on it: by
// rollout, what the home last saw equal on both sides, unless that is not certain.
type memory struct {
	state *mirror.State
	base  map[string]string
	hazy  map[string]bool
}

func (m memory) clone() memory {
	return memory{mirror.CopyState(m.state), maps.Clone(m.base), maps.Clone(m.hazy)}
}

func (m memory) forget(rollout string) { m.hazy[rollout] = true }

func (m memory) learn(rollout, content string) {
	m.base[rollout] = content
	delete(m.hazy, rollout)
}

// logFile is a rollout as a home has it.
type logFile struct {
	content string
	modTime time.Time
	packed  bool // only the compressed form is there
}

func (m *machine) loseState() {
	m.memory = memory{mirror.NewState(), map[string]string{}, map[string]bool{}}
	m.backup = m.clone()
}

func (m *machine) loseOrigin() { m.origin = fmt.Sprint(m.label, m.w.id()) }

// time is what the machine's clock says, never the same twice.
func (m *machine) time() time.Time { return m.w.now.Add(m.skew + time.Duration(m.w.id())) }

func (m *machine) jump(r *rand.Rand) string {
	m.skew = []time.Duration{0, -30 * time.Hour, -20 * time.Minute, 20 * time.Minute, 40 * time.Hour}[r.IntN(5)]
	return fmt.Sprint("has its clock at ", m.skew)
}

func (m *machine) stateFromBackup(r *rand.Rand) string {
	if r.IntN(2) == 0 {
		m.backup = m.clone()
		return "saves its state"
	}
	m.memory = m.backup.clone()
	return "has a state from a backup"
}

// Files. What fails here is a fault of the simulation.

func (m *machine) paths() []string { return slices.Sorted(maps.Keys(m.logs)) }

// pick returns one of the logs, "" if there is none.
func (m *machine) pick(r *rand.Rand) string {
	all := m.paths()
	if len(all) == 0 {
		return ""
	}
	return all[r.IntN(len(all))]
}

// write makes the plain file p have this content.
func (m *machine) write(p, content string, modTime time.Time) {
	c := store.Cond{IfAbsent: true}
	if f, err := m.files.Open(ctx, p); err == nil {
		c = store.Cond{IfVersion: f.Info().Version}
		f.Close()
	}
	_, err := m.files.Put(ctx, p, store.BytesBody([]byte(content), modTime), c)
	m.w.must(err)
	m.logs[p] = &logFile{content: content, modTime: modTime}
}

// grow appends in place, as a writer that has the file open does.
func (m *machine) grow(p, more string) {
	l := m.logs[p]
	if l.packed { // Codex unpacks before it appends
		m.write(p, l.content, l.modTime)
		l = m.logs[p]
	}
	f, err := m.afs.OpenFile(p, os.O_RDWR, 0)
	m.w.must(err)
	_, err = f.Seek(0, io.SeekEnd)
	m.w.must(err)
	_, err = f.WriteString(more)
	m.w.must(errors.Join(err, f.Close()))
	l.content, l.modTime = l.content+more, m.time()
	m.w.must(m.afs.Chtimes(p, l.modTime, l.modTime))
}

func (m *machine) drop(p string) {
	f, err := m.files.Open(ctx, p)
	m.w.must(err)
	v := f.Info().Version
	f.Close()
	m.w.must(m.files.Remove(ctx, p, v))
	delete(m.logs, p)
}

// Names and lineage, by what the format says of them.

// basis is the history_base of a session_meta.
type basis struct {
	Rollout string `json:"thread_id"`
	Ordinal int    `json:"end_ordinal_exclusive"`
	Offset  int    `json:"end_byte_offset"`
}

func basisOf(content string) (b basis, ok bool) {
	line, _, _ := strings.Cut(content, "\n")
	var meta struct {
		Payload struct {
			Base *basis `json:"history_base"`
		} `json:"payload"`
	}
	if json.Unmarshal([]byte(line), &meta) != nil || meta.Payload.Base == nil {
		return b, false
	}
	return *meta.Payload.Base, true
}

func fileName(p string) codec.Name {
	n, err := codec.ParseName(path.Base(p))
	if err != nil {
		panic(err)
	}
	return n
}

// prefixOf returns the name of the rollout that b means and its first bytes, if
// all logs here that are called so have them.
func prefixOf(contents map[string]string, b basis) (rollout, prefix string, ok bool) {
	for p, c := range contents {
		if fileName(p).Rollout.String() != b.Rollout {
			continue
		}
		if len(c) < b.Offset || ok && prefix != c[:b.Offset] {
			return "", "", false
		}
		rollout, prefix, ok = path.Base(p), c[:b.Offset], true
	}
	return rollout, prefix, ok
}

// referenced reports whether a fork or a revert here begins with bytes of p.
func (m *machine) referenced(p string) bool {
	id := fileName(p).Rollout.String()
	for _, l := range m.logs {
		if b, ok := basisOf(l.content); ok && b.Rollout == id {
			return true
		}
	}
	return false
}

func (m *machine) contents() map[string]string {
	c := map[string]string{}
	for p, l := range m.logs {
		c[p] = l.content
	}
	return c
}

// Edits.

const maxRollouts = 14

// idPrefix is what all ids of a simulation have in common, and no story tells.
const idPrefix = "01a1f81e-6bb9-7000-8000-00000000"

func (m *machine) newID() uuid.UUID { return uuid.MustParse(fmt.Sprintf("%s%04x", idPrefix, m.w.id())) }

func (m *machine) line(ordinal int) string {
	text := fmt.Sprint("line ", m.w.id())
	if m.w.ids%97 == 0 { // more than a store reads of an object's beginning
		noise := make([]byte, 40<<10)
		r := rand.NewChaCha8([32]byte{byte(m.w.ids), byte(m.w.ids >> 8)})
		r.Read(noise)
		text += fmt.Sprintf(" %x", noise)
	}
	return fmt.Sprintf(`{"timestamp":%q,"ordinal":%d,"type":"event_msg","payload":{"type":"user_message","message":"%s g0"}}`+"\n",
		m.now(), ordinal, text)
}

func (m *machine) now() string { return m.w.now.Add(m.skew).Format("2006-01-02T15:04:05.000Z") }

// begin makes the file of a rollout; b is what it begins with by reference.
func (m *machine) begin(r *rand.Rand, n codec.Name, b *basis) string {
	m.w.rollouts++
	meta := map[string]any{
		"id": n.Session, "timestamp": m.now(), "cwd": "/w", "originator": "sim", "cli_version": "0.169.0", "history_mode": "paginated",
	}
	ordinal := 0
	if b != nil {
		meta["history_base"], ordinal = b, b.Ordinal
	}
	payload, err := json.Marshal(meta)
	m.w.must(err)
	content := fmt.Sprintf(`{"timestamp":%q,"ordinal":%d,"type":"session_meta","payload":%s}`+"\n", m.now(), ordinal, payload)
	for range r.IntN(3) {
		ordinal++
		content += m.line(ordinal)
	}
	dir := "odd"
	if year, month, day, ok := n.Date(); ok {
		dir = path.Join(year, month, day)
	}
	p := path.Join("sessions", dir, n.String())
	m.write(p, content, m.time())
	return p
}

func (m *machine) start(r *rand.Rand) string {
	if m.w.rollouts >= maxRollouts {
		return ""
	}
	n := codec.NewName(m.w.now.Add(m.skew), m.newID())
	switch r.IntN(8) {
	case 0:
		n.Stamp = ""
	case 1:
		n.Stamp = n.Stamp[:len("2026-11-20")]
	}
	return "starts " + m.begin(r, n, nil)
}

func (m *machine) append(r *rand.Rand) string {
	p := m.pick(r)
	if p == "" {
		return m.start(r)
	}
	var more string
	content := m.logs[p].content
	if content != "" && !strings.HasSuffix(content, "\n") {
		more = "\n" // as Codex does behind what was torn
	}
	for range 1 + r.IntN(3) {
		more += m.line(strings.Count(content+more, "\n"))
	}
	m.grow(p, more)
	return fmt.Sprintf("appends to %s: %s", p, brief(m.logs[p].content))
}

func (m *machine) tear(r *rand.Rand) string {
	p := m.pick(r)
	if p == "" {
		return ""
	}
	line := m.line(0)
	m.grow(p, line[:1+r.IntN(len(line)-1)])
	return fmt.Sprintf("tears %s: %s", p, brief(m.logs[p].content))
}

func (m *machine) compress(r *rand.Rand) string {
	p := m.pick(r)
	if p == "" || m.logs[p].packed {
		return ""
	}
	l := *m.logs[p]
	both := r.IntN(4) == 0
	m.drop(p)
	packed := store.BytesBody(zst(l.content), l.modTime)
	_, err := m.files.Put(ctx, p+".zst", packed, store.Cond{IfAbsent: true})
	m.w.must(err)
	if both {
		f, err := m.afs.Create(p)
		m.w.must(err)
		_, err = f.WriteString(l.content)
		m.w.must(errors.Join(err, f.Close(), m.afs.Chtimes(p, l.modTime, l.modTime)))
	}
	l.packed = !both
	m.logs[p] = &l
	return fmt.Sprintf("compresses %s, both forms are there: %v", p, both)
}

// archive moves a log to or from the archive, or leaves one in both places.
func (m *machine) archive(r *rand.Rand) string {
	p := m.pick(r)
	if p == "" || strings.HasPrefix(p, "sessions/odd/") {
		return "" // its name in the mirror is its path
	}
	l := *m.logs[p]
	to := path.Join("archived_sessions", path.Base(p))
	if to == p {
		year, month, day, _ := fileName(p).Date()
		to = path.Join("sessions", year, month, day, path.Base(p))
		l.modTime = m.time()
	}
	m.write(to, l.content, l.modTime)
	if r.IntN(6) == 0 {
		return fmt.Sprintf("copies %s to %s", p, to)
	}
	m.drop(p)
	return fmt.Sprintf("moves %s to %s", p, to)
}

var generation = regexp.MustCompile(` g\d+"`)

// rewrite gives a log other bytes, in place and with the time it had.
func (m *machine) rewrite(r *rand.Rand) string {
	p := m.pick(r)
	if p == "" || m.referenced(p) && r.IntN(8) > 0 {
		return ""
	}
	l := m.logs[p]
	to := ` g1"` // the same wherever it is done
	if r.IntN(2) == 0 {
		to = fmt.Sprintf(` g%d"`, m.w.id())
	}
	m.write(p, generation.ReplaceAllString(l.content, to), l.modTime)
	return fmt.Sprintf("rewrites %s: %s", p, brief(m.logs[p].content))
}

// cutShort takes some of the end away, and may go on from there.
func (m *machine) cutShort(r *rand.Rand) string {
	p := m.pick(r)
	if p == "" || m.referenced(p) && r.IntN(8) > 0 {
		return ""
	}
	l := m.logs[p]
	content := l.content[:r.IntN(len(l.content)+1)]
	if r.IntN(2) == 0 {
		content += m.line(0)
	}
	m.write(p, content, m.time())
	return fmt.Sprintf("cuts %s: %s", p, brief(content))
}

// copyFromOther brings a log here as another machine has it, without the mirror.
func (m *machine) copyFromOther(r *rand.Rand) string {
	o := m.w.machines[r.IntN(len(m.w.machines))]
	p := o.pick(r)
	if o == m || p == "" || m.referenced(p) && r.IntN(8) > 0 {
		return ""
	}
	m.write(p, o.logs[p].content, o.logs[p].modTime)
	return fmt.Sprintf("has %s from %s: %s", p, o.label, brief(m.logs[p].content))
}

func (m *machine) fork(r *rand.Rand) string {
	b, p := m.cutOff(r)
	if p == "" {
		return ""
	}
	n := codec.NewName(m.w.now.Add(m.skew), m.newID())
	return fmt.Sprintf("forks %s at %d: %s", p, b.Offset, m.begin(r, n, &b))
}

// forkAndGoOn leaves a fork that is idle of a session that is not, and pushes.
func (m *machine) forkAndGoOn(r *rand.Rand) string {
	b, p := m.cutOff(r)
	if p == "" {
		return ""
	}
	did := fmt.Sprintf("forks %s at %d: %s, and goes on with it", p, b.Offset, m.begin(r, codec.NewName(m.w.now.Add(m.skew), m.newID()), &b))
	m.w.now = m.w.now.Add(11 * time.Minute)
	m.grow(p, m.line(b.Ordinal))
	m.w.tell("%s %s", m.label, did)
	return m.push(r, idle, []fault{noFault, crashBefore}[r.IntN(2)])
}

func (m *machine) revert(r *rand.Rand) string {
	b, p := m.cutOff(r)
	if p == "" {
		return ""
	}
	n := codec.NewName(m.w.now.Add(m.skew), m.newID())
	n.Session = fileName(p).Session
	return fmt.Sprintf("reverts %s to %d: %s", p, b.Offset, m.begin(r, n, &b))
}

// cutOff picks a log and the end of one of its lines.
func (m *machine) cutOff(r *rand.Rand) (b basis, p string) {
	p = m.pick(r)
	if p == "" || m.w.rollouts >= maxRollouts {
		return b, ""
	}
	var ends []int
	content := m.logs[p].content
	for i := range len(content) {
		if content[i] == '\n' {
			ends = append(ends, i+1)
		}
	}
	if len(ends) == 0 {
		return b, ""
	}
	i := r.IntN(len(ends))
	return basis{Rollout: fileName(p).Rollout.String(), Ordinal: i + 1, Offset: ends[i]}, p
}

func (m *machine) remove(r *rand.Rand) string {
	p := m.pick(r)
	if p == "" || m.referenced(p) && r.IntN(8) > 0 {
		return ""
	}
	m.drop(p)
	return "deletes " + p
}

const index = "session_index.jsonl"

func (m *machine) name(r *rand.Rand) string {
	p := m.pick(r)
	if p == "" {
		return ""
	}
	n := codec.ThreadName{ID: fileName(p).Session.String(), UpdatedAt: m.time()}
	if r.IntN(6) > 0 {
		n.Name = fmt.Sprint("name ", m.w.id())
	}
	content, _ := readAll(m.files, index)
	line, err := codec.AppendThreadName([]byte(content), n)
	m.w.must(err)
	m.w.must(afero.WriteFile(m.afs, index, line, 0o600))
	return fmt.Sprintf("calls %s %q", n.ID, n.Name)
}

func (m *machine) names() map[string]codec.ThreadName {
	content, _ := readAll(m.files, index)
	names, err := codec.ReadThreadNames(strings.NewReader(content))
	m.w.must(err)
	return names
}

// lookAround finds out which logs there are now.
func (m *machine) lookAround() {
	w := m.w
	m.logs = map[string]*logFile{}
	for _, root := range []string{"sessions", "archived_sessions"} {
		if ok, _ := afero.DirExists(m.afs, root); !ok {
			continue
		}
		w.must(afero.Walk(m.afs, root, func(p string, fi os.FileInfo, err error) error {
			if err != nil || fi.IsDir() {
				return err
			}
			plain, packed := strings.CutSuffix(p, ".zst")
			if both, _ := afero.Exists(m.afs, plain); packed && both {
				return nil
			}
			content, err := readAll(m.files, plain)
			m.logs[plain] = &logFile{content: content, modTime: fi.ModTime(), packed: packed}
			return err
		}))
	}
}
