package mirror

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/replay"
	"github.com/rollout-sync/rollout/store"
)

// slot is a place in the mirror that holds one version after the other.
type slot struct {
	key    string
	second bool // for a file that is not the one that this home's versions are of
	own    bool // only this home writes there
}

// ErrNotTaken means that the mirror failed to store a version. It is as likely to fail
// with the next.
var ErrNotTaken = errors.New("the mirror did not take it")

// notTaken makes an error of Put ErrNotTaken, unless only its condition failed.
func notTaken(err error) error {
	if errors.Is(err, store.ErrChanged) {
		return err
	}
	return notTakenError{err}
}

type notTakenError struct{ error }

func (e notTakenError) Unwrap() error        { return e.error }
func (e notTakenError) Is(target error) bool { return target == ErrNotTaken }

// errSourceChanged means that a file is not what it was when it was opened.
var errSourceChanged = errors.New("changed while it was read")

// object returns what is known of the object at key.
func (p *pusher) object(key string) (objectState, bool, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.objectLocked(key)
}

func (p *pusher) objectLocked(key string) (o objectState, ok bool, err error) {
	if v := p.due[objects][key]; v != nil {
		err := json.Unmarshal(v, &o)
		return o, true, err
	}
	if p.lost[key] {
		return o, false, nil
	}
	return get[objectState](p.State, objects, key)
}

// remember keeps what the object at key is.
func (p *pusher) remember(key string, o objectState) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.lost, key)
	return set(p.due, objects, key, o)
}

// place brings the bytes of src into s, or beside it, by the rules of the package.
func (p *pusher) place(ctx context.Context, src *source, s slot, out *Outcome) error {
	// Others push to the same mirror. Each failed condition means that one of
	// them got something done, so this ends.
	const attempts = 5
	if err := refuse(ctx, src.f); err != nil {
		return err
	}
	known, ok, err := p.object(s.key)
	if err != nil {
		return err
	}
	a := attempt{pusher: p, src: src, slot: s, out: out, base: known.base()}
	if ok {
		a.cur, a.seen = &known.object, p.plannedAt(s.key) != ""
	} else if err = a.find(ctx); err != nil {
		return err
	}
	for range attempts {
		err = a.try(ctx)
		if !errors.Is(err, store.ErrChanged) {
			return err
		}
		if src.current != nil && !src.current() {
			return errSourceChanged
		}
		if err := a.look(ctx); err != nil {
			return err
		}
	}
	if src.current == nil { // a file that is written to may have been rewritten
		return errSourceChanged
	}
	return err
}

// An attempt is one at bringing src into a slot.
type attempt struct {
	*pusher
	src  *source
	slot slot
	out  *Outcome

	cur  *object // what the slot holds; nil: nothing
	seen bool    // cur was looked at in this pass
	base string  // plain hash that the slot and this home last had both; "": none
}

// find finds out what the slot holds of which the state knows nothing. What this
// home has told of the object tells more of it, if it is still the same: all that
// a look would, and that this home had its bytes.
func (a *attempt) find(ctx context.Context) error {
	version, ok, err := a.index.version(ctx, a.slot.key)
	if err != nil {
		return err
	}
	if !ok {
		if err := a.look(ctx); err != nil || a.cur == nil {
			return err
		}
		version = a.cur.Version
	}
	if version == "" {
		a.cur, a.seen = nil, true
		return nil
	}
	if !a.slot.own {
		fact, err := a.fact(ctx, a.src.name)
		if err != nil {
			return err
		}
		if fact.Object == version {
			a.cur, a.base = &object{Version: version, Size: fact.Size, SHA256: fact.SHA256}, fact.SHA256
			return nil
		}
	}
	if a.seen {
		return nil
	}
	return a.look(ctx)
}

// fact returns what this home has told of a rollout.
func (p *pusher) fact(ctx context.Context, n codec.Name) (Fact, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	m, err := p.ledger.read(ctx, monthOf(n))
	if err != nil {
		return Fact{}, err
	}
	return m.facts[n.String()], nil
}

// look finds out what the slot holds. Bytes that are no version, which a foreign
// tool put there or a disk damaged, are kept in the history and appear as an
// object without a hash.
func (a *attempt) look(ctx context.Context) error {
	a.seen = true
	f, err := a.Mirror.Open(ctx, a.slot.key)
	if err == nil {
		defer f.Close()
		i := f.Info()
		if sum := i.Meta[store.MetaSHA256]; sum != "" && i.Size >= 0 {
			a.cur = &object{Version: i.Version, Size: i.Size, SHA256: sum}
			return nil
		}
	}
	switch {
	case errors.Is(err, fs.ErrNotExist):
		a.cur = nil
		return nil
	case err != nil && !errors.Is(err, store.ErrCorrupt):
		return err
	}
	return a.rescue(ctx)
}

// rescue keeps the stored bytes of what is in the slot and is no version.
func (a *attempt) rescue(ctx context.Context) error {
	f, err := a.Mirror.Open(ctx, strings.TrimSuffix(a.slot.key, logSuffix)+sealedSuffix)
	if err != nil {
		return err
	}
	defer f.Close()
	raw := &source{f: f}
	if err := raw.read(ctx, 0); err != nil {
		return err
	}
	to := foreignKey(a.slot.key, raw.version.hash())
	if err := a.copy(ctx, raw, to); err != nil {
		return err
	}
	a.out.Foreign = to
	a.cur = &object{Version: f.Info().Version, Size: -1}
	return nil
}

// copy puts the bytes of src under a name that says their hash.
func (p *pusher) copy(ctx context.Context, src *source, to string) error {
	if p.DryRun {
		return nil
	}
	_, err := p.Mirror.Put(ctx, to, src.body(ctx), store.Cond{IfAbsent: true})
	if !errors.Is(err, store.ErrChanged) {
		return err
	}
	// Either it is there already, or src changed: then nothing is there.
	f, e := p.Mirror.Open(ctx, to)
	if e != nil {
		return err
	}
	return f.Close()
}

// try brings src into the slot, or beside it, if the slot holds cur.
func (a *attempt) try(ctx context.Context) error {
	src, cur := a.src, a.cur
	if cur == nil {
		if tombstone, err := a.tombstone(ctx, src.name); err != nil || tombstone != "" {
			a.out.Action, a.out.Key = Tombstone, tombstone
			return err
		}
		if err := src.read(ctx, 0); err != nil {
			return err
		}
		return a.put(ctx, store.Cond{IfAbsent: true}, Uploaded)
	}
	if err := src.read(ctx, max(cur.Size, 0)); err != nil {
		return err
	}
	ifCur := store.Cond{IfVersion: cur.Version}
	switch {
	case cur.Size < 0:
		return a.put(ctx, ifCur, Uploaded)
	case src.version.Size == cur.Size && src.version.hash() == cur.SHA256:
		a.out.Action, a.out.Key = Equal, a.slot.key
		return a.remember(a.slot.key, objectState{object: *cur, Equal: true})
	case src.version.Size > cur.Size && src.prefix == cur.SHA256:
		return a.put(ctx, ifCur, Extended)
	case !a.seen:
		// Somebody may have got further meanwhile: look before going back.
		if err := a.look(ctx); err != nil {
			return err
		}
		return a.try(ctx)
	}

	f, err := a.open(ctx)
	if err != nil {
		return err
	}
	defer f.Close()
	remote := &source{f: f}
	err = remote.read(ctx, src.version.Size)
	if err == nil && remote.version.hash() != cur.SHA256 {
		err = store.ErrCorrupt
	}
	if errors.Is(err, store.ErrCorrupt) { // it does not decode to the bytes it says it has
		if err := a.rescue(ctx); err != nil {
			return err
		}
		return a.try(ctx)
	}
	if err != nil {
		return err
	}
	if cur.Size > src.version.Size && remote.prefix == src.version.hash() {
		a.out.Action, a.out.Key = Ahead, a.slot.key
		return a.remember(a.slot.key, objectState{object: *cur, Base: a.base})
	}
	if a.slot.own || !a.slot.second && cur.SHA256 == a.base {
		if err := a.copy(ctx, remote, historyKey(a.slot.key, cur.SHA256)); err != nil {
			return err
		}
		return a.put(ctx, ifCur, Rewritten)
	}
	return a.beside(ctx)
}

// open opens what the slot holds.
func (a *attempt) open(ctx context.Context) (store.File, error) {
	if file := a.plannedAt(a.slot.key); file != "" {
		return a.Home.Open(ctx, file)
	}
	f, err := a.Mirror.Open(ctx, a.slot.key)
	if err == nil && f.Info().Version != a.cur.Version {
		err = errors.Join(store.ErrChanged, f.Close())
	}
	return f, err
}

// plannedAt returns the path of the file that this dry run would have put at key.
func (p *pusher) plannedAt(key string) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.planned[key]
}

// beside finds src in the slot's history, or brings it beside the slot.
func (a *attempt) beside(ctx context.Context) error {
	key := historyKey(a.slot.key, a.src.version.hash())
	f, err := a.Mirror.Open(ctx, key)
	if err == nil {
		a.out.Action, a.out.Key = Superseded, key
		o := object{Version: f.Info().Version, Size: a.src.version.Size, SHA256: a.src.version.hash()}
		return errors.Join(a.remember(key, objectState{object: o}), f.Close())
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	err = a.place(ctx, a.src, slot{key: divergedKey(a.slot.key, a.Origin), own: true}, a.out)
	if err == nil && (a.out.Action == Uploaded || a.out.Action == Extended || a.out.Action == Rewritten) {
		a.out.Action = Diverged
	}
	return err
}

// tombstone returns the name of the tombstone that keeps n from being pushed, "" if
// there is none. The first call of a pass lists them.
func (p *pusher) tombstone(ctx context.Context, n codec.Name) (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.tombstoneLocked(ctx, n)
}

func (p *pusher) tombstoneLocked(ctx context.Context, n codec.Name) (string, error) {
	if p.forgotten == nil {
		var err error
		if p.forgotten, err = forgotten(ctx, p.Mirror); err != nil {
			return "", err
		}
	}
	for _, id := range []uuid.UUID{n.Session, n.Rollout} {
		if p.forgotten[id.String()] {
			return tombstoneKey(id.String()), nil
		}
	}
	return "", nil
}

// put writes src into the slot and remembers it.
func (a *attempt) put(ctx context.Context, c store.Cond, did Action) error {
	if a.DryRun && !a.seen { // a push would find out from the condition
		if err := a.look(ctx); err != nil {
			return err
		}
		return a.try(ctx)
	}
	version := ""
	if a.DryRun {
		a.mu.Lock()
		a.planned[a.slot.key] = a.out.Path
		a.mu.Unlock()
	} else {
		var err error
		body := a.src.body(ctx)
		body.Stored = func(n int64) { a.src.stored = n }
		if version, err = a.Mirror.Put(ctx, a.slot.key, body, c); err != nil {
			return notTaken(err)
		}
	}
	a.out.Action, a.out.Key = did, a.slot.key
	o := object{Version: version, Size: a.src.version.Size, SHA256: a.src.version.hash()}
	state := objectState{object: o, Equal: true}
	if o.Size >= big {
		state.Pushed = a.Now().UTC()
	}
	return a.remember(a.slot.key, state)
}

// source is an open log and what is known of its plain bytes.
type source struct {
	f       store.File
	name    codec.Name
	watch   *watch      // may be nil
	limit   int64       // only so many bytes; 0: all
	current func() bool // whether the file is still what is at its path; nil if that does not matter
	version version     // after read
	prefix  string      // hash of the first prefixAt bytes, "" if there are fewer
	at      int64
	done    bool
	held    store.Body     // after read of a heldFile
	reading *store.Reading // after that of any other
	stored  int64          // bytes of the object that was made of it
	// sum sums up what was read of a file that is not held, if sums is set.
	sums bool
	sum  *replay.Summarizer
	head *codec.Head // of a heldFile, after base
}

// base is baseOf. Of what is in memory it reads all of the head, for the catalog.
func (s *source) base(ctx context.Context) (codec.Base, error) {
	held, ok := s.f.(*heldFile)
	if !ok {
		return baseOf(ctx, s.f)
	}
	head, err := codec.ReadHead(bytes.NewReader(held.p))
	if err != nil {
		return codec.Base{}, err
	}
	s.head = &head
	return baseIn(head)
}

// read hashes all bytes, and the first at of them.
func (s *source) read(ctx context.Context, at int64) error {
	if s.done && s.at == at {
		return nil
	}
	n := s.limit
	if n == 0 {
		n = -1
	}
	if held, ok := s.f.(*heldFile); ok {
		p := held.bytes(0, n)
		s.held = store.BytesBody(p, s.f.Info().ModTime)
		s.version = version{s.held.Size, s.held.SHA256}
		if s.prefix, s.at, s.done = "", at, true; at <= int64(len(p)) {
			s.prefix = fmt.Sprintf("%x", sha256.Sum256(p[:at]))
		}
		return nil
	}
	r, err := s.f.Range(ctx, 0, n)
	if err != nil {
		return err
	}
	h := &splitHash{Reading: store.NewReading(), at: at}
	var to io.Writer = h
	if s.sums {
		s.sum = replay.NewSummarizer()
		to = io.MultiWriter(h, s.sum)
	}
	if err := copyAll(to, r); err != nil {
		return err
	}
	if h.Size() == at {
		h.keep()
	}
	s.version, s.reading = version{h.Size(), h.SHA256()}, h.Reading
	s.prefix, s.at, s.done = h.prefix, at, true
	return nil
}

func (s *source) body(ctx context.Context) store.Body {
	if s.held.Open != nil {
		return s.watch.body(s.held)
	}
	return s.watch.body(s.reading.Body(ctx, s.f))
}

// splitHash is a Reading that also keeps the hash of the first at bytes.
type splitHash struct {
	*store.Reading
	at     int64
	prefix string
}

func (h *splitHash) Write(p []byte) (int, error) {
	n := len(p)
	if left := h.at - h.Size(); left >= 0 && left < int64(n) {
		_, _ = h.Reading.Write(p[:left])
		h.keep()
		p = p[left:]
	}
	_, _ = h.Reading.Write(p)
	return n, nil
}

func (h *splitHash) keep() { h.prefix = fmt.Sprintf("%x", h.SHA256()) }
