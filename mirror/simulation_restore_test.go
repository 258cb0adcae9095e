package mirror_test

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"path"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spf13/afero"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store/memfs"
)

func (m *machine) restore(r *rand.Rand) string {
	w := m.w
	o := mirror.Restoring{Home: m.files, Mirror: w.team.mirror, Origin: m.origin}
	if r.IntN(2) == 0 {
		o.State = m.state
		o.Each = func(f mirror.Restored) {
			switch f.Action {
			case mirror.Created, mirror.Extended, mirror.Present:
				m.forget(f.Name.String()) // of which version, a push finds out
			}
		}
	}
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
		o.Rollouts = []codec.Name{want}
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

// restFor is no whole number of minutes, as everything else is: a file that seems to
// be of the very time at which it is pushed is not believed.
const restFor = time.Hour + 17*time.Second

// rest lets all homes push what they have, and looks at what can be said then.
func (w *world) rest() {
	w.t.Helper()
	w.tell("all rest")
	for range 2 {
		w.now = w.now.Add(restFor)
		for _, m := range w.machines {
			a := m.attempt(idle, &gate{})
			a.run(m.files)
			w.tell("%s %s", m.label, a)
			w.judge(a, true)
		}
	}
	for _, m := range w.machines {
		w.now = w.now.Add(restFor)
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
	for _, m := range w.machines {
		w.judgeFacts(m)
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
	if w.step > *simSteps { // the last time; it takes as long as all the rest
		w.judgeCatalog()
	}
}

// judgeCatalog: no row of a version that is in the mirror is wrong, and a list is the
// same with the catalog and without it, before and after it was rebuilt.
func (w *world) judgeCatalog() {
	w.t.Helper()
	heads, _ := listed(w.t, w.team.mirror, false, listing.Query{})
	before := w.team.rows(w.t)
	for _, when := range []string{"as it is", "rebuilt"} {
		if rows, _ := listed(w.t, w.team.mirror, true, listing.Query{}); rows != heads {
			w.fail("with the catalog %s the list is\n%s\nwithout it\n%s", when, rows, heads)
		}
		r, err := mirror.Catalog(ctx, mirror.Cataloguing{Mirror: w.team.mirror, All: true})
		if err != nil || len(r.Failures) > 0 && len(w.witness.scars) == 0 {
			w.fail("Catalog: %+v, %v", r, err)
		}
	}
	for name, is := range w.team.rows(w.t) {
		if was, ok := before[name]; ok && was.Version == is.Version {
			// What its home told last was of another version, unless it has this one.
			was.Path, was.Archived, was.Name, was.Machine, was.BaseSHA256 = is.Path, is.Archived, is.Name, is.Machine, is.BaseSHA256
			if !reflect.DeepEqual(was, is) {
				w.fail("a push has written\n%+v\nand a rebuild\n%+v", was, is)
			}
		}
	}
	w.must(w.witness.look())
}

// judgeFacts: of each of its rollouts a home that rests has told where it is, and
// which bytes of which time it has.
func (w *world) judgeFacts(m *machine) {
	w.t.Helper()
	type fact struct {
		Rollout string    `json:"rollout"`
		Path    string    `json:"path"`
		SHA256  string    `json:"sha256"`
		ModTime time.Time `json:"mtime"`
	}
	facts := map[string]fact{}
	for key, o := range w.witness.objects {
		if !strings.HasPrefix(key, "origins/"+m.origin+"/") {
			continue
		}
		for line := range strings.Lines(o.plain) {
			var f fact
			w.must(json.Unmarshal([]byte(line), &f))
			facts[f.Rollout] = f
		}
	}
	for p, l := range m.logs {
		rollout := path.Base(p)
		f := facts[rollout]
		if sum := fmt.Sprintf("%x", sha256.Sum256([]byte(l.content))); !w.twins[rollout] && (f.Path != p || f.SHA256 != sum || !f.ModTime.Equal(l.modTime)) {
			w.fail("%s has %s, %s, of %v and has told %+v", m.label, p, brief(l.content), l.modTime, f)
		}
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
	if ok && !w.fits(content, o.rollout, got, true) {
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
