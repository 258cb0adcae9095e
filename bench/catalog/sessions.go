package main

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"

	"github.com/rollout-sync/rollout/bench/lazy"
	"github.com/rollout-sync/rollout/bench/tree"
	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/mirror"
	"github.com/rollout-sync/rollout/store"
)

// rare is how many sessions have what is rare: less than a page, so that who looks for
// it looks at all sessions.
const rare = 20

// What is rare, each of sessions of its own.
const (
	rareCwd = iota + 1
	rareModel
	rareProvider
	rareBranch
	rareRepository
	rareText
	rareSource
	rareName
)

// A team is the sessions of a tree, pushed by several homes. Everything depends on
// the number of a session alone.
type team struct {
	tree.Options
	Origins int

	prompt string // what each session begins with
	words  []string
}

// promptLen is less than Codex writes, of which 0.118 has 20,000 bytes in each session:
// to make and to read that a million times would be most of what is measured.
const promptLen = 500

func newTeam(o tree.Options, origins int) *team {
	t := &team{Options: o, Origins: origins}
	r := rand.New(rand.NewPCG(0, 5))
	const letters = "etaoinshrdlucmfwypvbgkjqxz"
	for range 4000 {
		b := make([]byte, 2+r.IntN(9))
		for i := range b {
			b[i] = letters[min(r.IntN(len(letters)), r.IntN(len(letters)))]
		}
		t.words = append(t.words, string(b))
	}
	t.prompt = t.text(r, promptLen)
	return t
}

// text returns n bytes of words, or a few more.
func (t *team) text(r *rand.Rand, n int) string {
	var b strings.Builder
	for b.Len() < n {
		b.WriteString(t.words[r.IntN(len(t.words))])
		b.WriteByte(' ')
	}
	return b.String()
}

// has reports whether session i is one that has what is rare.
func (t *team) has(i, what int) bool {
	every := max(t.Sessions/rare, rareName+1)
	return i%every == what
}

// origin returns the home that pushed session i.
func (t *team) origin(i int) string {
	return fmt.Sprintf("%032x", 0xabc0+uint64(i)*2654435761>>8%uint64(t.Origins))
}

// objects returns the mirror without what the homes write beside sessions.
func (t *team) objects() lazy.Source {
	return lazy.Source{Options: t.Options, Info: t.info, Log: t.log}
}

// info is what a LIST of an object store tells of session i.
func (t *team) info(i int, s tree.Session) store.Info {
	r := rand.New(rand.NewPCG(uint64(i), 6))
	// What zstd makes of a session so small, with all of Codex's instructions.
	stored := storedMin + r.Int64N(storedMin/8)
	// A push comes every quarter of an hour.
	pushed := updated(i, s).Truncate(15 * time.Minute).Add(15*time.Minute + time.Duration(r.IntN(60))*time.Second)
	return store.Info{Size: -1, Stored: stored, Version: fmt.Sprintf("%016x%016x", r.Uint64(), r.Uint64()), ChangeTime: pushed}
}

const storedMin = 9000

// updated is when session i last changed.
func updated(i int, s tree.Session) time.Time {
	return s.Start.Add(time.Minute + time.Duration(i%97)*time.Minute)
}

// log is what an Open tells of session i, and its bytes.
func (t *team) log(i int, s tree.Session) (store.Info, []byte) {
	content, lines := t.content(i, s)
	info := t.info(i, s)
	sum := sha256.Sum256(content)
	info.Size, info.Seekable, info.ModTime = int64(len(content)), true, updated(i, s)
	info.Meta = map[string]string{store.MetaSHA256: hex.EncodeToString(sum[:]), store.MetaLines: strconv.Itoa(lines)}
	return info, content
}

// content returns a small session as Codex writes it.
func (t *team) content(i int, s tree.Session) (content []byte, lines int) {
	r := rand.New(rand.NewPCG(uint64(i), 7))
	pick := func(what int, rare string, usual ...string) string {
		if t.has(i, what) {
			return rare
		}
		return usual[r.IntN(len(usual))]
	}
	source := pick(rareSource, `"mcp"`, `"cli"`, `"cli"`, `"vscode"`, `"exec"`)
	if r.IntN(20) == 0 && !t.has(i, rareSource) {
		source = fmt.Sprintf(`{"subagent":{"thread_spawn":{"parent_thread_id":"%s","depth":1}}}`, t.At(max(i-1, 0)).ID)
	}
	cwd := pick(rareCwd, "/home/user/rare", tree.Cwd(s.Project))
	repository := pick(rareRepository, "git@host:team/rare.git", fmt.Sprintf("git@host:team/project-%03d.git", s.Project))
	branch := pick(rareBranch, "rare", "main", "main", "next", "fix/"+t.words[r.IntN(200)])
	provider := pick(rareProvider, "rare", "openai", "openai", "openai", "azure")
	model := pick(rareModel, "rare", "gpt-5", "gpt-5-codex", "gpt-5-mini")
	message := t.text(r, 40+r.IntN(300))
	message += pick(rareText, "Rare needle", "please")

	b := make([]byte, 0, promptLen+3<<10)
	at := s.Start
	line := func(typ, payload string, args ...any) {
		b = fmt.Appendf(b, `{"timestamp":"%s","type":"%s","payload":`, codec.FormatTime(at), typ)
		b = append(fmt.Appendf(b, payload, args...), "}\n"...)
		at = at.Add(1234 * time.Millisecond)
		lines++
	}
	line("session_meta", `{"id":"%s","timestamp":"%s","cwd":"%s","originator":"codex_cli_rs","cli_version":"0.118.%d","source":%s,"model_provider":"%s","base_instructions":{"text":"%s"},"git":{"commit_hash":"%016x%016x%08x","branch":"%s","repository_url":"%s"}}`,
		s.ID, codec.FormatTime(at), cwd, i*4/t.Sessions, source, provider, t.prompt, r.Uint64(), r.Uint64(), r.Uint32(), branch, repository)
	tokens := r.IntN(20_000)
	for turn := range 1 + r.IntN(8)/7 {
		line("turn_context", `{"turn_id":"%d","cwd":"%s","approval_policy":"never","sandbox_policy":{"type":"danger-full-access"},"model":"%s","summary":"auto"}`, turn, cwd, model)
		line("event_msg", `{"type":"user_message","message":"%s","images":[]}`, message)
		line("response_item", `{"type":"function_call","name":"shell","arguments":"{\"command\":[\"go\",\"test\"]}","call_id":"call_%d"}`, turn)
		line("response_item", `{"type":"function_call_output","call_id":"call_%d","output":"ok"}`, turn)
		tokens += r.IntN(20_000)
		line("event_msg", `{"type":"token_count","info":{"total_token_usage":{"input_tokens":%d,"cached_input_tokens":%d,"output_tokens":%d,"reasoning_output_tokens":20,"total_tokens":%d},"model_context_window":258400},"rate_limits":{"primary":null,"secondary":null}}`,
			tokens, tokens/2, tokens/10, tokens+tokens/10)
		line("event_msg", `{"type":"task_complete","turn_id":"%d","last_agent_message":"done"}`, turn)
	}
	return b, lines
}

// fact is what the home that pushed session i tells of it.
func (t *team) fact(i int, s tree.Session, known store.Info) mirror.Fact {
	f := mirror.Fact{
		Rollout: s.Name().String(), Path: lazy.Object(s), ModTime: known.ModTime, Size: known.Size, SHA256: known.Meta[store.MetaSHA256],
		Object: known.Version, Wrote: true, Machine: "host-" + t.origin(i)[28:],
	}
	if i%10 == 0 {
		f.Archived, f.Path = true, "archived_sessions/"+f.Rollout
	}
	switch {
	case t.has(i, rareName):
		f.Name = "the rare one"
	case i%50 == 1:
		f.Name = "session " + strconv.Itoa(i)
	}
	if f.Name != "" {
		f.NameTime = known.ModTime
	}
	return f
}
