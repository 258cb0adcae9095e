package catalog

import (
	"reflect"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/listing"
	"github.com/rollout-sync/rollout/replay"
	"github.com/rollout-sync/rollout/store"
)

// States of a Row.
const (
	Current  = "current"  // the version that a listing shows
	Diverged = "diverged" // a home's version that is kept beside the current one
)

// A Row is what the catalog says of one version of a rollout. Text that is not known
// is null in a file. Times are UTC.
type Row struct {
	ID        string `parquet:"id"`                    // the session's
	RolloutID string `parquet:"rollout_id"`            // the same, but after a revert
	Object    string `parquet:"object"`                // the object's key below the mirror's prefix
	Version   string `parquet:"version"`               // of the object: the store's ETag or generation
	State     string `parquet:"state,dict"`            // Current or Diverged
	Origin    string `parquet:"origin,dict"`           // the home that wrote it
	Machine   string `parquet:"machine,optional,dict"` // the name of the host that it is on

	Path     string `parquet:"path"` // in that home
	Archived bool   `parquet:"archived"`
	Name     string `parquet:"name,optional"` // that a user gave the session

	Created *time.Time `parquet:"created,optional,timestamp(microsecond)"` // as the head says
	Updated time.Time  `parquet:"updated,timestamp(microsecond)"`          // when the rollout last changed

	Cwd              string `parquet:"cwd,optional,dict"`
	GitBranch        string `parquet:"git_branch,optional,dict"`
	GitCommit        string `parquet:"git_commit,optional,dict"`
	GitOrigin        string `parquet:"git_origin,optional,dict"`
	Source           string `parquet:"source,optional,dict"` // as in codec.Head
	Subagent         bool   `parquet:"subagent"`
	Originator       string `parquet:"originator,optional,dict"`
	Provider         string `parquet:"provider,optional,dict"`
	Model            string `parquet:"model,optional,dict"` // the first
	CLIVersion       string `parquet:"cli_version,optional,dict"`
	ParentID         string `parquet:"parent_id,optional"`
	FirstUserMessage string `parquet:"first_user_message,optional"` // its first 4 KiB

	// What the rollout begins with by reference: so many first bytes of another.
	HistoryMode   string `parquet:"history_mode,optional,dict"`
	BaseRolloutID string `parquet:"base_rollout_id,optional"`
	BaseOffset    int64  `parquet:"base_offset,optional"`
	BaseOrdinal   int64  `parquet:"base_ordinal,optional"`
	BaseSHA256    string `parquet:"base_sha256,optional"` // of these bytes

	// What all of it says, as replay.Summary counts.
	Turns           int64    `parquet:"turns"`
	ToolCalls       int64    `parquet:"tool_calls"`
	FilesChanged    int64    `parquet:"files_changed"`
	Errors          int64    `parquet:"errors"`
	InputTokens     int64    `parquet:"input_tokens"`
	CachedTokens    int64    `parquet:"cached_input_tokens"`
	CacheTokens     int64    `parquet:"cache_write_input_tokens"`
	OutputTokens    int64    `parquet:"output_tokens"`
	ReasoningTokens int64    `parquet:"reasoning_output_tokens"`
	TotalTokens     int64    `parquet:"total_tokens"`
	Models          []string `parquet:"models,list"` // of all turns, in the order of their first use
	Cwds            []string `parquet:"cwds,list"`   // the same of directories

	PlainSize  int64  `parquet:"plain_size"`  // bytes
	StoredSize int64  `parquet:"stored_size"` // bytes of the object
	Lines      int64  `parquet:"lines"`
	SHA256     string `parquet:"sha256"` // of the plain bytes

	// UpdatedNS is Updated in nanoseconds since 1970.
	UpdatedNS int64 `parquet:"updated_ns"`
	// HasMeta, HeadEnd and Problems are those of codec.Head.
	HasMeta  bool      `parquet:"has_meta"`
	HeadEnd  int64     `parquet:"head_end"`
	Problems []Problem `parquet:"problems,list"`
	// Abridged tells that the head says more than the row, such as a longer first
	// message: a listing opens the object.
	Abridged bool `parquet:"abridged"`
}

// A Problem is a codec.Problem.
type Problem struct {
	Offset int64  `parquet:"offset"`
	Length int64  `parquet:"length"`
	Reason string `parquet:"reason"`
}

// maxMessage is how much of a first message a row has.
const maxMessage = 4 << 10

// SetName fills in the ids of the rollout n.
func (r *Row) SetName(n codec.Name) { r.ID, r.RolloutID = n.Session.String(), n.Rollout.String() }

// SetUpdated fills in when the rollout last changed.
func (r *Row) SetUpdated(t time.Time) {
	r.Updated, r.UpdatedNS = t.UTC().Truncate(time.Microsecond), t.UnixNano()
}

// SetHead fills in what h says, which is the head of the rollout of SetName.
func (r *Row) SetHead(h codec.Head) {
	r.HasMeta, r.HeadEnd = h.HasMeta, h.End
	r.Created = nil
	if t := h.StartTime; !t.IsZero() && t.Year() >= 1 && t.Year() <= 9999 {
		t = t.Truncate(time.Microsecond)
		r.Created = &t
	}
	r.Cwd, r.Source, r.Subagent, r.Originator = h.Cwd, h.Source, h.Subagent, h.Originator
	r.GitBranch, r.GitCommit, r.GitOrigin = h.Git.Branch, h.Git.Commit, h.Git.Origin
	r.Provider, r.Model, r.CLIVersion, r.ParentID = h.Provider, h.Model, h.CLIVersion, h.ParentID
	r.HistoryMode, r.BaseRolloutID, r.BaseOffset, r.BaseOrdinal = h.HistoryMode, h.Base.Rollout, h.Base.Offset, int64(h.Base.Ordinal)
	r.FirstUserMessage = h.FirstUserMessage
	if len(r.FirstUserMessage) > maxMessage {
		end := maxMessage
		for !utf8.RuneStart(r.FirstUserMessage[end]) {
			end--
		}
		r.FirstUserMessage = r.FirstUserMessage[:end]
	}
	r.Problems = nil
	for _, p := range h.Problems {
		r.Problems = append(r.Problems, Problem(p))
	}
	h.StartTime = h.StartTime.UTC()
	r.Abridged = !reflect.DeepEqual(h, r.head())
}

// SetSummary fills in what s says.
func (r *Row) SetSummary(s replay.Summary) {
	r.PlainSize, r.Lines = s.Size, s.Lines
	r.Turns, r.ToolCalls, r.FilesChanged, r.Errors = int64(s.Turns), int64(s.Calls), int64(s.Files), int64(s.Errors)
	t := s.Tokens
	r.InputTokens, r.CachedTokens, r.CacheTokens = t.Input, t.CachedInput, t.CacheWriteInput
	r.OutputTokens, r.ReasoningTokens, r.TotalTokens = t.Output, t.ReasoningOutput, t.Total
	r.Models, r.Cwds = s.Models, s.Cwds
}

// Summary returns what SetSummary was given.
func (r *Row) Summary() replay.Summary {
	return replay.Summary{
		Size: r.PlainSize, Lines: r.Lines, Turns: int(r.Turns), Calls: int(r.ToolCalls), Files: int(r.FilesChanged), Errors: int(r.Errors),
		Tokens: codec.TokenUsage{
			Input: r.InputTokens, CachedInput: r.CachedTokens, CacheWriteInput: r.CacheTokens,
			Output: r.OutputTokens, ReasoningOutput: r.ReasoningTokens, Total: r.TotalTokens,
		},
		Models: r.Models, Cwds: r.Cwds,
	}
}

// head returns the head that SetHead was given, unless the row is abridged.
func (r *Row) head() codec.Head {
	h := codec.Head{
		HasMeta: r.HasMeta, Cwd: r.Cwd, Originator: r.Originator, CLIVersion: r.CLIVersion,
		Source: r.Source, Subagent: r.Subagent, Provider: r.Provider, ParentID: r.ParentID,
		HistoryMode: r.HistoryMode,
		Base:        codec.Base{Rollout: r.BaseRolloutID, Ordinal: uint64(r.BaseOrdinal), Offset: r.BaseOffset},
		Git:         codec.Git{Branch: r.GitBranch, Commit: r.GitCommit, Origin: r.GitOrigin},
		Model:       r.Model, FirstUserMessage: r.FirstUserMessage, End: r.HeadEnd,
	}
	if r.HasMeta {
		h.ID = r.ID
	}
	if r.Created != nil {
		h.StartTime = r.Created.UTC()
	}
	for _, p := range r.Problems {
		h.Problems = append(h.Problems, codec.Problem(p))
	}
	return h
}

// Known returns what a listing takes from the object, false if the row does not say
// all of it.
func (r *Row) Known() (listing.Known, bool) {
	updated := time.Unix(0, r.UpdatedNS).UTC()
	if r.Abridged || !updated.Truncate(time.Microsecond).Equal(r.Updated) { // such as a time that nanoseconds cannot say
		return listing.Known{}, false
	}
	return listing.Known{
		Info: store.Info{
			Size: r.PlainSize, Seekable: true, ModTime: updated,
			Meta: map[string]string{store.MetaSHA256: r.SHA256, store.MetaLines: strconv.FormatInt(r.Lines, 10)},
		},
		Head: r.head(),
	}, true
}
