package listing

import (
	"context"
	"encoding/hex"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout/codec"
)

// A filter tells what a Query wants, as early as it can be known.
type filter struct {
	Query
	id       string // hexadecimal digits
	name     string // in lower case, as is
	text     string
	origin   string
	resolved sync.Map // paths without symbolic links, by path
}

func newFilter(q Query) *filter {
	return &filter{
		Query:  q,
		id:     strings.ToLower(strings.ReplaceAll(q.ID, "-", "")),
		name:   strings.ToLower(q.Name),
		text:   strings.ToLower(q.Text),
		origin: Repository(q.Origin),
	}
}

func hexID(id uuid.UUID) string { return hex.EncodeToString(id[:]) }

// wantsName reports whether a file of that name can be wanted.
func (f *filter) wantsName(n codec.Name) bool {
	return f.id == "" || strings.HasPrefix(hexID(n.Session), f.id) || strings.HasPrefix(hexID(n.Rollout), f.id)
}

// needsDescription reports whether what others know of a rollout matters.
func (f *filter) needsDescription() bool {
	return f.name != "" || f.Archived == No || f.Archived == Only
}

// wantsDescribed reports whether a rollout can be wanted of which others than its
// file know d.
func (f *filter) wantsDescribed(d Description) bool {
	return strings.Contains(strings.ToLower(d.Name), f.name) && f.Archived.allows(d.Archived)
}

func (c Choice) allows(is bool) bool {
	switch c {
	case No:
		return !is
	case Only:
		return is
	}
	return true
}

// needsHead reports whether a head matters.
func (f *filter) needsHead() bool {
	return f.Cwd != "" || len(f.Sources) > 0 || len(f.Providers) > 0 || len(f.Models) > 0 || f.Branch != "" ||
		f.origin != "" || f.text != "" || f.Subagents == No || f.Subagents == Only || f.needsCreated()
}

// needsCreated reports whether the exact time of creation matters.
func (f *filter) needsCreated() bool {
	return f.Order != Updated && !(f.Since.IsZero() && f.Until.IsZero())
}

// wantsMeta reports whether a rollout can be wanted of which h, the head so far, has
// the session_meta.
func (f *filter) wantsMeta(h *codec.Head, where string) bool {
	return (f.AnyTurn || f.wantsCwd(h.Cwd, where)) &&
		(len(f.Sources) == 0 || slices.ContainsFunc(f.Sources, func(s string) bool { return isSource(h.Source, s) })) &&
		(len(f.Providers) == 0 || slices.Contains(f.Providers, h.Provider)) &&
		(f.Branch == "" || f.Branch == h.Git.Branch) &&
		(f.origin == "" || isRepository(h.Git.Origin, f.origin)) &&
		f.Subagents.allows(h.Subagent)
}

// wantsHead reports whether a rollout is wanted as far as its head tells.
func (f *filter) wantsHead(h *codec.Head, where string) bool {
	if !h.HasMeta && (f.Cwd != "" && !f.AnyTurn || len(f.Sources) > 0 || len(f.Providers) > 0 || f.Branch != "" || f.origin != "") {
		return false
	}
	return f.wantsMeta(h, where) &&
		(len(f.Models) == 0 || slices.Contains(f.Models, h.Model)) &&
		strings.Contains(strings.ToLower(h.FirstUserMessage), f.text)
}

// wants reports whether an item is wanted in all that is left to know.
func (f *filter) wants(it *Item) bool {
	t := it.Created
	if f.Order == Updated {
		t = it.Updated
	}
	if t == nil {
		return f.Since.IsZero() && f.Until.IsZero()
	}
	return !t.Before(f.Since) && (f.Until.IsZero() || t.Before(f.Until))
}

// interactive are the sources that Codex 0.169 lists if not told otherwise.
var interactive = []string{"cli", "vscode", "custom:atlas", "custom:chatgpt"}

// isSource reports whether source, of a session_meta, is what want names.
func isSource(source, want string) bool {
	if source == "" {
		source = "vscode"
	}
	if want == Interactive {
		return slices.Contains(interactive, source)
	}
	return source == want || strings.HasPrefix(source, want+":")
}

// Repository returns what of a repository's URL tells where it is: its host and path,
// "host/team/app", which is the same for each of the ways to write it.
func Repository(url string) string {
	if _, rest, ok := strings.Cut(url, "://"); ok {
		url = rest
	}
	host, path, ok := strings.Cut(url, "/")
	if _, h, ok := strings.Cut(host, "@"); ok {
		host = h
	}
	if ok {
		host += "/" + path
	}
	host = strings.Replace(host, ":", "/", 1) // as scp writes it
	return strings.ToLower(strings.Trim(strings.TrimSuffix(strings.TrimRight(host, "/"), ".git"), "/"))
}

func isRepository(url, want string) bool {
	is := Repository(url)
	return is == want || strings.HasSuffix(is, "/"+want)
}

// wantsCwd reports whether a directory, as a session on this machine (where is
// Local) or on another one has it, is the one that is wanted.
func (f *filter) wantsCwd(cwd, where string) bool {
	if f.Cwd == "" {
		return true
	}
	if cwd == "" {
		return false
	}
	cwd, want := filepath.Clean(cwd), filepath.Clean(f.Cwd)
	return cwd == want || where == Local && f.resolve(cwd) == f.resolve(want)
}

// resolve follows the symbolic links in a path. One that is not there, as of a
// project that is gone, leads to itself.
func (f *filter) resolve(path string) string {
	if to, ok := f.resolved.Load(path); ok {
		return to.(string)
	}
	to, err := filepath.EvalSymlinks(path)
	if err != nil {
		to = path
	}
	f.resolved.Store(path, to)
	return to
}

// hasTurnIn reports whether a turn of the rollout was in the directory that is
// wanted. It reads the rollout up to there.
func (f *filter) hasTurnIn(ctx context.Context, file *file) (bool, error) {
	r, err := file.open(ctx)
	if err != nil {
		return false, err
	}
	defer r.Close()
	for rec, err := range codec.Records(r, 0) {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return false, err
		}
		if rec.Item.Type != codec.TypeTurnContext {
			continue
		}
		if c, _ := rec.Item.Decode(); f.wantsCwd(c.(*codec.TurnContext).Cwd, file.place.Where) {
			return true, nil
		}
	}
	return false, nil
}
