package mirror_test

import (
	"crypto/sha256"
	"flag"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/spf13/afero"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/store/memfs"
)

var (
	simSeeds = flag.Int("seeds", 40, "how many worlds TestSimulation plays")
	simSteps = flag.Int("steps", 250, "how many steps in each")
	simSeed  = flag.Int("seed", -1, "only this world of TestSimulation, and its story with -v")
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
	if underRace {
		n = (n + 3) / 4
	}
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
