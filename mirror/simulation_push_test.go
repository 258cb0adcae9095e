package mirror_test

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store"
)

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
		m.w.witness.saw(path.Base(p), l.content[:strings.LastIndex(l.content, "\n")+1])
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
		l.saw(path.Base(p), c[:strings.LastIndex(c, "\n")+1])
	}
	w.must(l.look())
	w.must(l.settled())
	if len(a.twice) > 0 {
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
			if a.edit == "" {
				content = a.expected(p, content)
			} else if a.idle > 0 { // it may not have been idle any more
				content = content[:strings.LastIndex(content, "\n")+1]
			}
			if ok && !slices.Contains(contents, content) {
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
	if errors.Is(a.err, mirror.ErrVanished) && (len(a.m.logs) == 0 || a.edit != "") { // the only one may have moved
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
	if a.edit != "" { // which may have changed what it begins with
		for _, c := range held {
			if b, ok := basisOf(c); ok {
				for _, home := range []map[string]string{a.before, a.m.contents()} {
					if _, prefix, ok := prefixOf(home, b); ok {
						w.pin(rollout, prefix, false)
					}
				}
			}
		}
		return
	}
	if o.Action == mirror.Unchanged {
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
		if p != o.Path && path.Base(p) == rollout {
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
	w.pin(child, prefix, sure && !w.twins[child])
}

// pin remembers what a rollout began with when it was pushed; sure, if the mirror
// knows it.
func (w *world) pin(child, prefix string, sure bool) {
	p := w.pins[child]
	if p.sums == nil {
		p.sums = map[[32]byte]bool{}
	}
	p.sums[sha256.Sum256([]byte(prefix))] = true
	p.sure = p.sure || sure
	w.pins[child] = p
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
