package mirror_test

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/afero"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store"
	"github.com/rollout-sync/rollout/store/memfs"
)

var (
	simSeeds = flag.Int("seeds", 40, "how many worlds TestSimulation plays")
	simSteps = flag.Int("steps", 250, "how many steps in each")
	simSeed  = flag.Int("seed", -1, "only this world of TestSimulation, and its story with -v")
)

// What the simulation found and does not look at until it is mended.
const (
	// A file with a time in the future never counts as clean.
	futureNeverRests = true
	// A file that was beside another of its name stays the second one when the first
	// is gone: its facts are not told, its rewrites diverge.
	secondForever = true
	// When several rollouts of a session had names, any of these comes back.
	anyName = true
	// Of two files of one name the first has two outcomes, if the second begins with
	// another rollout of the pass.
	outcomesTwice = true
	// What a rollout began with is forgotten if its parent is gone from the home, the
	// state is lost and it is pushed again.
	pinsAreForgotten = true
	// A restore does not look at what a rollout begins with.
	restoreKnowsNoLineage = true
)

// Three homes push to one mirror, in any order and at the same time, and whatever
// Codex, users, clocks and crashes do to them:
//
//   - every byte that a push said is in the mirror stays there, under some version
//     of its rollout; what a foreign tool put over one stays as well;
//   - the current version is what a home had, is never behind what a home has that
//     just pushed, and a rewrite of it supersedes it;
//   - a fresh machine gets back each current version, the newest name of its session
//     and, of what a fork or a revert begins with, the bytes that it referred to;
//   - a push deletes nothing, leaves nothing outside the tree and, with nothing to
//     do, asks nothing.
//
// A world is played again, step by step, with -seed; those that push several
// rollouts at a time (jobs) only roughly.
func TestSimulation(t *testing.T) {
	t.Parallel()
	first, n := 0, *simSeeds
	if *simSeed >= 0 {
		first, n = *simSeed, 1
	}
	for seed := first; seed < first+n; seed++ {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, seed)
			for w.step = 1; w.step <= *simSteps; w.step++ {
				w.play()
			}
			w.rest()
		})
	}
}

// world is three machines, their mirror and what has to be in it.
type world struct {
	t        *testing.T
	seed     int
	r        *rand.Rand
	team     *team
	witness  *witness
	machines []*machine
	now      time.Time
	ids      int // how many things have got a number
	rollouts int // how many there are
	step     int
	story    []string
	pins     map[string]pins // by child
	twins    map[string]bool // rollouts of which a home has had two files
	told     map[teller]codec.ThreadName
	unsure   map[teller]bool // what was told last is not known
}

// pins are the hashes of what a rollout began with when it was pushed, of which the
// mirror knows one if sure is true.
type pins struct {
	sums map[[32]byte]bool
	sure bool
}

func (p pins) has(prefix string) bool { return p.sums[sha256.Sum256([]byte(prefix))] }

// teller is an origin that tells of a rollout.
type teller struct{ rollout, origin string }

func newWorld(t *testing.T, seed int) *world {
	kind := "memory"
	if seed%8 == 1 {
		kind = "directory"
	}
	tm := kinds[kind](t)
	w := &world{
		t: t, seed: seed, r: rand.New(rand.NewPCG(uint64(seed), 8)), team: tm, witness: newWitness(tm.bucket),
		now:  time.Date(2026, 11, 20, 8, 0, 0, 0, time.UTC),
		pins: map[string]pins{}, twins: map[string]bool{}, told: map[teller]codec.ThreadName{}, unsure: map[teller]bool{},
	}
	for _, label := range []string{"a", "b", "c"} {
		m := &machine{w: w, label: label, afs: afero.NewMemMapFs(), logs: map[string]*logFile{}}
		m.files = memfs.New(m.afs)
		m.loseState()
		m.loseOrigin()
		w.machines = append(w.machines, m)
	}
	return w
}

// foreign reports whether a foreign tool writes to the mirror of this world.
func (w *world) foreign() bool { return w.seed%8 == 7 }

// jobs is how many rollouts are pushed at a time in this world.
func (w *world) jobs() int {
	if w.seed%8 == 3 {
		return 3
	}
	return 1
}

func (w *world) id() int {
	w.ids++
	return w.ids
}

func (w *world) tell(format string, args ...any) {
	line := fmt.Sprintf("%3d ", w.step) + strings.ReplaceAll(fmt.Sprintf(format, args...), idPrefix, "…")
	w.story = append(w.story, line)
	if *simSeed >= 0 {
		w.t.Log(line)
	}
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	const end = 30
	w.t.Fatalf("step %d: %s\nplay it again with -run 'TestSimulation' -seed %d -steps %d; it ended so:\n%s",
		w.step, strings.ReplaceAll(fmt.Sprintf(format, args...), idPrefix, "…"), w.seed, *simSteps, strings.Join(w.story[max(0, len(w.story)-end):], "\n"))
}

func (w *world) must(err error) {
	w.t.Helper()
	if err != nil {
		w.fail("%v", err)
	}
}

// choice is one of several things to do. do returns what it did, "" for nothing.
type choice[T any] struct {
	weight int
	do     func(T, *rand.Rand) string
}

// choose does one of the choices.
func choose[T any](r *rand.Rand, choices []choice[T], on T) string {
	total := 0
	for _, c := range choices {
		total += c.weight
	}
	n := r.IntN(total)
	for _, c := range choices {
		if n -= c.weight; n < 0 {
			return c.do(on, r)
		}
	}
	panic("no choice")
}

// play is one step.
func (w *world) play() {
	w.now = w.now.Add(time.Duration(w.r.IntN(12)) * time.Minute)
	m := w.machines[w.r.IntN(len(w.machines))]
	if did := choose(w.r, steps, m); did != "" {
		w.tell("%s %s", m.label, did)
	}
	if w.step%80 == 0 {
		w.rest()
	}
}

var steps = []choice[*machine]{
	{58, (*machine).edit},
	{10, func(m *machine, r *rand.Rand) string { return m.push(r, idle, noFault) }},
	{3, func(m *machine, r *rand.Rand) string { return m.push(r, live, noFault) }},
	{5, func(m *machine, r *rand.Rand) string { return m.push(r, everything, noFault) }},
	{9, func(m *machine, r *rand.Rand) string {
		faults := []fault{crashBefore, crashAfter, failOnce, failedPut, lostAck, retriedAck}
		return m.push(r, []what{idle, live, everything}[r.IntN(3)], faults[r.IntN(len(faults))])
	}},
	{4, (*machine).pushTogether},
	{1, (*machine).dryRun},
	{2, (*machine).forkAndGoOn},
	{6, (*machine).restore},
	{2, (*machine).jump},
	{1, func(m *machine, _ *rand.Rand) string { m.loseState(); return "loses its state" }},
	{1, func(m *machine, _ *rand.Rand) string {
		m.loseState()
		m.loseOrigin()
		return "is " + m.origin + " now, without a state"
	}},
	{1, (*machine).stateFromBackup},
	{1, (*machine).overwrite},
}

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

// Pushes.

// what is to be pushed.
type what int

const (
	everything what = iota
	idle
	live // the idle ones, and what is complete of the others
)

// attempt is one push and what is known of it.
type attempt struct {
	m       *machine
	state   *mirror.State
	gate    *gate
	idle    time.Duration
	live    bool
	dry     bool
	now     time.Time
	edit    string            // what happened to the home meanwhile
	before  map[string]string // contents by path
	times   map[string]time.Time
	names   map[string]codec.ThreadName
	current map[string]string // of the mirror, by rollout

	outcomes map[string]mirror.Outcome
	twice    []mirror.Outcome // those of a file that had one already
	report   mirror.Report
	err      error
}

func (m *machine) attempt(push what, g *gate) *attempt {
	a := &attempt{
		m: m, state: m.state, gate: g, live: push == live, now: m.time(), before: m.contents(), names: m.names(),
		times: map[string]time.Time{}, current: map[string]string{}, outcomes: map[string]mirror.Outcome{},
	}
	if push != everything {
		a.idle = 10 * time.Minute
	}
	seen := map[string]bool{}
	for p, l := range m.logs {
		if seen[path.Base(p)] {
			m.w.twins[path.Base(p)] = true
		}
		seen[path.Base(p)] = true
		a.times[p] = l.modTime
		m.w.witness.saw(path.Base(p), l.content)
		m.w.witness.saw(path.Base(p), a.expected(p, l.content))
		if c, ok := m.w.witness.current(path.Base(p)); ok {
			a.current[path.Base(p)] = c
		}
	}
	return a
}

func (a *attempt) run(home store.Source) {
	defer a.gate.baton.leave(a.gate.me)
	a.report, a.err = mirror.Push(ctx, mirror.Pushing{
		Home: home, Mirror: gated{a.m.w.team.mirror, a.gate}, State: a.gate.state(a.state), Origin: a.m.origin,
		Idle: a.idle, Live: a.live, DryRun: a.dry, Jobs: a.m.w.jobs(), Now: func() time.Time { return a.now },
		Each: func(o mirror.Outcome) {
			if first, ok := a.outcomes[o.Path]; ok {
				a.twice = append(a.twice, first, o)
			}
			a.outcomes[o.Path] = o
		},
	})
}

func (a *attempt) String() string {
	s := "pushes"
	switch {
	case a.live:
		s += " what is idle, and what is complete of the rest"
	case a.idle > 0:
		s += " what is idle"
	}
	if a.gate.fault != noFault {
		s += fmt.Sprintf(", %s operation %d", a.gate.fault, a.gate.at)
		if !a.gate.hit {
			s += ", which it does not reach"
		}
	}
	if a.edit != "" {
		s += "; meanwhile it " + a.edit
	}
	s += ":"
	for _, p := range slices.Sorted(maps.Keys(a.outcomes)) {
		o := a.outcomes[p]
		s += fmt.Sprintf("\n\t%s %s %s", p, o.Action, brief(a.before[p]))
		if o.Err != nil {
			s += ": " + o.Err.Error()
		}
	}
	if a.err != nil {
		s += "\n\t" + a.err.Error()
	}
	return s
}

func (m *machine) push(r *rand.Rand, push what, f fault) string {
	g := &gate{fault: f, at: 1 + r.IntN(40)}
	if f.ofPuts() {
		g.at = 1 + r.IntN(6)
	}
	a := m.attempt(push, g)
	home := store.Source(m.files)
	if r.IntN(5) == 0 {
		home = &disturbed{Source: m.files, at: 1 + r.IntN(30), do: func() { a.edit = m.edit(r) }}
	}
	a.run(home)
	m.w.tell("%s %s", m.label, a)
	m.w.judge(a, true)
	return ""
}

// pushTogether pushes two homes at once, or one home twice: from a second process
// with a state of its own.
func (m *machine) pushTogether(r *rand.Rand) string {
	b := newBaton(r)
	o := m.w.machines[r.IntN(len(m.w.machines))]
	first := m.attempt(everything, &gate{baton: b, me: 0})
	second := o.attempt(everything, &gate{baton: b, me: 1})
	if r.IntN(4) == 0 {
		second.gate.fault, second.gate.at = crashBefore, 1+r.IntN(30)
	}
	if o == m {
		second.state = mirror.NewState()
		if r.IntN(2) == 0 {
			second.state = mirror.CopyState(m.state)
		}
	}
	var wg sync.WaitGroup
	wg.Go(func() { first.run(m.files) })
	wg.Go(func() { second.run(o.files) })
	wg.Wait()
	m.w.tell("%s %s\nat the same time %s %s", m.label, first, o.label, second)
	m.w.judge(first, false)
	m.w.judge(second, false)
	if o == m {
		for p := range m.logs {
			m.forget(path.Base(p))
		}
		if r.IntN(2) == 0 {
			m.state = second.state
		}
	}
	return ""
}

// dryRun asks what a push would do, and pushes.
func (m *machine) dryRun(r *rand.Rand) string {
	w := m.w
	push := []what{idle, live, everything}[r.IntN(3)]
	plan := m.attempt(push, &gate{})
	plan.dry = true
	before := maps.Clone(w.witness.objects)
	plan.run(m.files)
	w.must(w.witness.look())
	for key, o := range w.witness.objects {
		if o.stamp != before[key].stamp {
			w.fail("a dry run wrote %s", key)
		}
	}
	a := m.attempt(push, &gate{})
	a.now = plan.now
	a.run(m.files)
	w.tell("%s plans and %s", m.label, a)
	w.judge(a, true)
	for p := range m.logs {
		// A push that has nothing to write need not look whether the mirror has more.
		would, did := plan.outcomes[p].Action, a.outcomes[p].Action
		if isIn(would) != isIn(did) || (wrote(would) || wrote(did)) && would != did && !w.twins[path.Base(p)] {
			w.fail("%s would be %s and was %s", p, would, did)
		}
	}
	return ""
}

// isIn reports whether an outcome says that the mirror has the content.
func isIn(a mirror.Action) bool { return a != mirror.Waiting && a != mirror.Failed }

func wrote(a mirror.Action) bool {
	return a == mirror.Uploaded || a == mirror.Extended || a == mirror.Rewritten || a == mirror.Diverged
}

// judge looks at the mirror after a push; alone, if nobody else pushed meanwhile.
func (w *world) judge(a *attempt, alone bool) {
	w.t.Helper()
	m, l := a.m, w.witness
	after := m.contents()
	for p, c := range after {
		l.saw(path.Base(p), c)
		l.saw(path.Base(p), a.expected(p, c))
	}
	w.must(l.look())
	w.must(l.settled())
	if len(a.twice) > 0 && !outcomesTwice {
		w.fail("two outcomes of one file: %v", a.twice)
	}

	quiet := alone && !a.gate.hit
	if quiet {
		w.judgeReport(a)
	}
	for _, p := range slices.Sorted(maps.Keys(a.before)) {
		if _, ok := a.outcomes[p]; !ok && a.err == nil && after[p] == a.before[p] {
			w.judgeOutcome(a, mirror.Outcome{Path: p, Action: mirror.Unchanged}, []string{a.expected(p, a.before[p])}, quiet)
		}
	}
	for _, p := range slices.Sorted(maps.Keys(a.outcomes)) {
		var contents []string
		for _, c := range []map[string]string{a.before, after} {
			content, ok := c[p]
			if content = a.expected(p, content); ok && !slices.Contains(contents, content) {
				contents = append(contents, content)
			}
		}
		w.judgeOutcome(a, a.outcomes[p], contents, quiet)
	}
	for key, o := range l.objects {
		if isCurrent(key) && l.scars[key] == nil && !l.scarred(o.rollout) && !l.had[o.rollout][sha256.Sum256([]byte(o.plain))] {
			w.fail("no home ever had what is current of %s: %s", key, brief(o.plain))
		}
	}
	w.learn(a, quiet)
}

// judgeReport is of a push that nothing kept from its work.
func (w *world) judgeReport(a *attempt) {
	w.t.Helper()
	r := a.report
	if errors.Is(a.err, mirror.ErrVanished) && len(a.m.logs) == 0 {
		return
	}
	for _, f := range r.Failures {
		w.fail("%s: %v", f.Path, f.Err)
	}
	w.must(a.err)
	if a.edit != "" {
		return
	}
	n := 0
	for _, count := range r.Actions {
		n += count
	}
	if n -= len(a.twice) / 2; n != len(a.before) || r.Rollouts != n {
		w.fail("the report has %d outcomes of %d rollouts, and there are %d", n, r.Rollouts, len(a.before))
	}
	for p, o := range a.outcomes {
		old := a.now.Sub(a.times[p])
		due := a.idle == 0 || old >= a.idle || a.live && strings.Contains(a.before[p], "\n") && !a.m.logs[p].packed
		if o.Action == mirror.Waiting && due && !w.twins[path.Base(p)] {
			w.fail("%s of %v ago waits", p, old)
		}
	}
	for _, p := range r.Vanished {
		if _, ok := a.before[p]; ok {
			w.fail("%s is called vanished and is there", p)
		}
	}
	for _, f := range r.Foreign {
		if !w.witness.scarred(rolloutOf(f)) {
			w.fail("%s: nobody but us wrote there", f)
		}
	}
}

// judgeOutcome holds what a push says of a rollout against the mirror. contents
// are what its file may have had when it was read.
func (w *world) judgeOutcome(a *attempt, o mirror.Outcome, contents []string, quiet bool) {
	w.t.Helper()
	l, rollout := w.witness, path.Base(o.Path)
	if !isIn(o.Action) || l.scarred(rollout) && !wrote(o.Action) {
		return
	}
	held := slices.DeleteFunc(slices.Clone(contents), func(c string) bool { return !l.holds(rollout, c) })
	if len(held) == 0 {
		w.fail("%s is called %s and not in the mirror: %s\nwhich has\n%s", o.Path, o.Action, brief(contents[0]), l.tell(rollout))
	}
	for _, c := range held {
		l.owe(rollout, c)
	}
	if a.edit != "" || o.Action == mirror.Unchanged {
		return
	}
	content := held[0]
	w.judgeLineage(a, path.Base(o.Path), content, quiet && a.err == nil)
	if !quiet || a.either(o.Path) {
		return
	}
	current, ok := l.current(rollout)
	if !ok || len(current) < len(content) && strings.HasPrefix(content, current) {
		w.fail("%s was pushed (%s), and current is behind it\n%s", o.Path, o.Action, l.tell(rollout))
	}
	if o.Action == mirror.Diverged && l.isHistory(rollout, content) {
		w.fail("%s is diverged, and in the history it is as well\n%s", o.Path, l.tell(rollout))
	}
	for p := range a.before {
		if p != o.Path && path.Base(p) == rollout || w.twins[rollout] && secondForever {
			return // which of the two is the first is the push's to know
		}
	}
	_, told := w.told[teller{rollout, a.m.origin}]
	if _, ok := a.m.base[rollout]; !ok && (told || w.unsure[teller{rollout, a.m.origin}]) {
		return // the home may have it from what it told
	}
	if was, ok := a.current[rollout]; ok && !a.m.hazy[rollout] && current != a.m.newest(rollout, was, content) {
		w.fail("%s was pushed (%s) when the home's base was %s and current %s\n%s", o.Path, o.Action,
			brief(a.m.base[rollout]), brief(was), l.tell(rollout))
	}
}

// judgeLineage: what a rollout that was pushed begins with is in the mirror too,
// idle or not.
func (w *world) judgeLineage(a *attempt, child, content string, sure bool) {
	w.t.Helper()
	b, ok := basisOf(content)
	if !ok {
		return
	}
	parent, prefix, ok := prefixOf(a.before, b)
	if p := w.pins[child]; !ok && pinsAreForgotten {
		p.sure = false
		w.pins[child] = p
	}
	if !ok || w.witness.scarred(parent) {
		return
	}
	for p, o := range a.outcomes {
		if path.Base(p) == parent && o.Action == mirror.Failed {
			return // the next push has it
		}
	}
	if !w.witness.holds(parent, prefix) {
		w.fail("%s was pushed, and of %s, which it begins with, the mirror does not have %s:\n%s",
			child, parent, brief(prefix), w.witness.tell(parent))
	}
	w.witness.owe(parent, prefix)
	p := w.pins[child]
	if p.sums == nil {
		p.sums = map[[32]byte]bool{}
	}
	p.sums[sha256.Sum256([]byte(prefix))] = true
	p.sure = p.sure || sure && !w.twins[child]
	w.pins[child] = p
	w.judgeLineage(a, parent, prefix, false) // which may be pushed, or not be told of, later
}

// newest returns what has to be current when a home that has content has pushed.
func (m memory) newest(rollout, current, content string) string {
	base, ok := m.base[rollout]
	switch {
	case strings.HasPrefix(content, current):
		return content
	case strings.HasPrefix(current, content):
		return current
	case ok && base == current: // the rewrite of what nobody changed
		return content
	}
	return current // another home's, and content is in history or stands beside it
}

// expected is what a push brings of a file that has content: of one that is not
// idle, but is pushed, only the complete lines.
func (a *attempt) expected(p, content string) string {
	if age := a.now.Sub(a.times[p]); a.idle > 0 && age < a.idle {
		return content[:strings.LastIndex(content, "\n")+1]
	}
	return content
}

// either reports whether a push may bring the file whole or without its torn end:
// a time in the future does not tell whether the file is idle.
func (a *attempt) either(p string) bool {
	return a.idle > 0 && a.now.Before(a.times[p]) && !strings.HasSuffix(a.before[p], "\n")
}

// learn remembers what the home and the mirror know of each other now.
func (w *world) learn(a *attempt, quiet bool) {
	m := a.m
	sure := quiet && a.edit == "" && a.err == nil
	for p := range m.logs {
		if _, ok := a.before[p]; !ok {
			m.forget(path.Base(p))
			w.twins[path.Base(p)] = true // one that was moved may have been seen twice
		}
	}
	for p, content := range a.before {
		rollout := path.Base(p)
		o, ok := a.outcomes[p]
		unchanged := !ok && a.err == nil
		switch {
		case !sure || a.either(p):
			m.forget(rollout)
		case ok && slices.Contains([]mirror.Action{mirror.Uploaded, mirror.Extended, mirror.Rewritten, mirror.Equal}, o.Action) &&
			!strings.HasPrefix(o.Key, "diverged/"):
			m.learn(rollout, a.expected(p, content))
		}
		by := teller{rollout, m.origin}
		switch {
		case !sure:
			w.unsure[by] = true
		case unchanged || isIn(o.Action):
			w.told[by] = a.names[fileName(p).Session.String()]
			delete(w.unsure, by)
		}
	}
}

// overwrite is a foreign tool that writes to the mirror.
func (m *machine) overwrite(r *rand.Rand) string {
	w, l := m.w, m.w.witness
	var keys []string
	for key := range l.objects {
		if isCurrent(key) || strings.HasPrefix(key, "diverged/") {
			keys = append(keys, key)
		}
	}
	if !w.foreign() || len(keys) == 0 {
		return ""
	}
	slices.Sort(keys)
	key := keys[r.IntN(len(keys))]
	bytes := [][]byte{{}, fmt.Appendf(nil, "what foreign tool %d wrote", w.id()), zst(fmt.Sprintf("foreign %d\n", w.id()))}[r.IntN(3)]
	w.must(w.team.bucket.WriteAll(ctx, key, bytes, nil))
	if old := l.scars[key]; old != nil {
		delete(l.scars, key) // the tool's own loss
	}
	l.scars[key] = bytes
	w.must(l.look())
	rollout := rolloutOf(key)
	l.owed[rollout] = slices.DeleteFunc(l.owed[rollout], func(c string) bool { return !l.holds(rollout, c) })
	for _, m := range w.machines {
		m.forget(rollout)
		m.backup.forget(rollout)
	}
	return fmt.Sprintf("sees a foreign tool overwrite %s", key)
}

// Restores.

func (m *machine) restore(r *rand.Rand) string {
	w := m.w
	o := mirror.Restoring{Home: m.files, Mirror: w.team.mirror, Origin: m.origin}
	did := "restores all"
	if r.IntN(2) == 0 {
		var all []string
		for key := range w.witness.objects {
			if isCurrent(key) {
				all = append(all, rolloutOf(key))
			}
		}
		if len(all) == 0 {
			return ""
		}
		slices.Sort(all)
		want := fileName(all[r.IntN(len(all))])
		o.Want = func(n codec.Name) bool { return n == want }
		did = "restores " + want.String()
	}
	if r.IntN(6) == 0 {
		g := &gate{fault: crashBefore, at: 1 + r.IntN(30)}
		o.Mirror = gated{w.team.mirror, g}
		did += fmt.Sprint(", crashes before operation ", g.at)
	}
	_, err := mirror.Restore(ctx, o)
	if err != nil && !errors.Is(err, errFault) && !errors.Is(err, mirror.ErrNoMirror) {
		w.fail("%s: %v", did, err)
	}
	for _, p := range m.paths() {
		l := m.logs[p]
		content, err := readAll(m.files, p)
		if err != nil || !strings.HasPrefix(content, l.content) {
			w.fail("%s, and %s is %s, %v; it was %s", did, p, brief(content), err, brief(l.content))
		}
	}
	m.lookAround()
	return did
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

// rest lets all homes push what they have, and looks at what can be said then.
func (w *world) rest() {
	w.t.Helper()
	w.tell("all rest")
	if futureNeverRests {
		for _, m := range w.machines {
			m.skew = 0
			for _, l := range m.logs {
				if l.modTime.After(w.now) {
					w.now = l.modTime
				}
			}
		}
	}
	for range 2 {
		w.now = w.now.Add(time.Hour)
		for _, m := range w.machines {
			a := m.attempt(idle, &gate{})
			a.run(m.files)
			w.tell("%s %s", m.label, a)
			w.judge(a, true)
		}
	}
	for _, m := range w.machines {
		w.now = w.now.Add(time.Hour)
		count := &counter{Store: w.team.mirror}
		r, err := mirror.Push(ctx, mirror.Pushing{
			Home: m.files, Mirror: count, State: m.state, Origin: m.origin,
			Idle: 10 * time.Minute, Now: m.time,
		})
		if errors.Is(err, mirror.ErrVanished) && len(m.logs) == 0 {
			continue
		}
		if err != nil || r.Actions[mirror.Unchanged] != len(m.logs) || count.total() > 0 {
			w.fail("%s has nothing to do, and does %v, %v, with %d requests", m.label, r.Actions, err, count.total())
		}
	}
	w.restoreAfresh("fresh")
	w.restoreAfresh(w.machines[w.r.IntN(len(w.machines))].origin)
	v, err := mirror.Verify(ctx, mirror.Verifying{Mirror: w.team.mirror, Deep: true})
	if errors.Is(err, mirror.ErrNoMirror) && len(w.witness.objects) == 0 {
		return
	}
	if err != nil || len(v.Failures) > 0 || len(v.Damaged) > 0 && len(w.witness.scars) == 0 {
		w.fail("Verify: %+v, %v", v, err)
	}
}

// restoreAfresh restores everything on a machine that has nothing; if it has the
// origin of another one, to the paths there.
func (w *world) restoreAfresh(origin string) {
	w.t.Helper()
	l := w.witness
	if len(l.objects) == 0 {
		return
	}
	fresh := &machine{w: w, afs: afero.NewMemMapFs()}
	fresh.files = memfs.New(fresh.afs)
	r, err := mirror.Restore(ctx, mirror.Restoring{Home: fresh.files, Mirror: w.team.mirror, Origin: origin})
	w.must(err)
	failed := map[string]error{} // by key
	for _, f := range r.Failures {
		failed[f.Key+".zst"] = f.Err
	}
	fresh.lookAround()
	got := map[string]string{} // by rollout
	for p, f := range fresh.logs {
		if _, twice := got[path.Base(p)]; twice {
			w.fail("%s was restored twice", p)
		}
		got[path.Base(p)] = f.content
		w.judgePlace(origin, p, f)
	}
	for key, o := range l.objects {
		if isCurrent(key) && l.scars[key] == nil {
			w.judgeRestored(o, got, failed[key])
		}
	}
	w.judgeNames(fresh.names(), got)
}

// judgeRestored: what came back of a rollout of which o is current, and err is what
// the restore says, is that version; or it is the one that another begins with. And
// what it begins with itself came back with it.
func (w *world) judgeRestored(o object, got map[string]string, err error) {
	w.t.Helper()
	content, ok := got[o.rollout]
	if ok != (err == nil || errors.Is(err, mirror.ErrDiffers)) || ok && err == nil && content != o.plain {
		if !ok && errors.Is(err, mirror.ErrLineage) && !w.fits(o.plain, o.rollout, got, false) {
			return
		}
		w.fail("restored is %s of %s (%v), and current is %s", brief(content), o.rollout, err, brief(o.plain))
	}
	if ok && err != nil && !w.needed(o, content, got) {
		w.fail("restored is %s of %s (%v), and nothing needs another version than the current one, %s", brief(content), o.rollout, err, brief(o.plain))
	}
	if ok && !restoreKnowsNoLineage && !w.fits(content, o.rollout, got, true) {
		w.fail("%s was restored without what it begins with", o.rollout)
	}
}

// fits reports whether what content, of a rollout, begins with is among what was
// restored; unsure is the answer where the mirror need not know what that is.
func (w *world) fits(content, rollout string, got map[string]string, unsure bool) bool {
	b, ok := basisOf(content)
	switch {
	case !ok:
		return true
	case !w.pins[rollout].sure && unsure:
		return true
	case len(w.pins[rollout].sums) > 1 && !unsure:
		return false // which of them the mirror goes by is for the homes to say
	}
	for parent, c := range got {
		switch {
		case fileName(parent).Rollout.String() != b.Rollout:
		case w.twins[parent]:
			return unsure // so it is for the push to say which of the files is meant
		default:
			return len(c) >= b.Offset && w.pins[rollout].has(c[:b.Offset]) && w.fits(c[:b.Offset], parent, got, unsure)
		}
	}
	return false
}

// needed reports whether a restored rollout begins with content and not with o.
func (w *world) needed(o object, content string, got map[string]string) bool {
	for child, c := range got {
		if b, ok := basisOf(c); ok && b.Rollout == fileName(o.rollout).Rollout.String() &&
			len(content) >= b.Offset && (len(o.plain) < b.Offset || o.plain[:b.Offset] != content[:b.Offset]) && w.witness.holds(o.rollout, content) && child != o.rollout {
			return true
		}
	}
	return false
}

// judgePlace: what a home has itself is restored to where it has it, and with the
// time it has.
func (w *world) judgePlace(origin, p string, f *logFile) {
	w.t.Helper()
	for _, m := range w.machines {
		var here []string
		for q := range m.logs {
			if path.Base(q) == path.Base(p) {
				here = append(here, q)
			}
		}
		if m.origin != origin || len(here) != 1 || w.twins[path.Base(p)] || w.witness.scarred(path.Base(p)) {
			continue
		}
		l := m.logs[here[0]]
		if here[0] != p || l.content == f.content && !l.modTime.Equal(f.modTime) {
			w.fail("%s: %s of %v is restored to %s with time %v", m.label, here[0], l.modTime, p, f.modTime)
		}
	}
}

// judgeNames: a session has the newest of the names that its rollouts had in any
// home when they were last pushed from there.
func (w *world) judgeNames(names map[string]codec.ThreadName, restored map[string]string) {
	w.t.Helper()
	want := map[string]codec.ThreadName{}
	unsure := map[string]bool{}
	for by := range w.unsure {
		unsure[fileName(by.rollout).Session.String()] = true
	}
	for rollout := range restored {
		if n := fileName(rollout); anyName && n.Session != n.Rollout {
			unsure[n.Session.String()] = true
		}
	}
	for by, n := range w.told {
		session := fileName(by.rollout).Session.String()
		if _, ok := restored[by.rollout]; ok && n.Name != "" && !n.UpdatedAt.Before(want[session].UpdatedAt) {
			want[session] = n
		}
	}
	for session, n := range want {
		if !unsure[session] && names[session].Name != n.Name {
			w.fail("session %s is called %q after a restore, want %q", session, names[session].Name, n.Name)
		}
	}
}
