// Package tree makes homes of many sessions, the same ones for the same seed, for
// the benchmarks.
package tree

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/google/uuid"

	"github.com/rollout-sync/rollout/codec"
)

// Options describes a tree.
type Options struct {
	Sessions int
	Days     int     // over which they are spread, evenly, the last one End
	Archived float64 // the share that lies in archived_sessions, every so manieth
	Prompt   int     // bytes of base instructions in each head
	Body     int     // bytes behind the head, in lines of some 740
}

// End is when the newest session of a tree begins.
var End = time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)

// Projects is how many directories the sessions of a tree work in.
const Projects = 200

// Cwd returns the directory of a project, 0 to Projects-1.
func Cwd(project int) string { return fmt.Sprintf("/home/user/projects/project-%03d", project) }

// A Session is one of a tree.
type Session struct {
	ID      uuid.UUID
	Start   time.Time
	Project int
	Path    string // slash-separated, in the home
}

// At returns session i of a tree, 0 being the oldest.
func (o Options) At(i int) Session {
	r := rand.New(rand.NewPCG(uint64(i), 1))
	start := o.start(i)
	s := Session{Start: start, Project: r.IntN(Projects)}
	binary.BigEndian.PutUint64(s.ID[:], uint64(start.UnixMilli())<<16|7<<12|uint64(r.IntN(1<<12)))
	binary.BigEndian.PutUint64(s.ID[8:], 2<<62|r.Uint64()>>2)
	dir := start.Format("sessions/2006/01/02/")
	if int(float64(i+1)*o.Archived) > int(float64(i)*o.Archived) {
		dir = "archived_sessions/"
	}
	s.Path = dir + s.Name().String()
	return s
}

func (o Options) start(i int) time.Time {
	apart := time.Duration(o.Days) * 24 * time.Hour / time.Duration(o.Sessions)
	return End.Add(-apart * time.Duration(o.Sessions-1-i)).Truncate(time.Millisecond)
}

// First returns the first session that begins at t or later.
func (o Options) First(t time.Time) int {
	return sort.Search(o.Sessions, func(i int) bool { return !o.start(i).Before(t) })
}

// Name returns the name of the session's file.
func (s Session) Name() codec.Name { return codec.NewName(s.Start, s.ID) }

// Make writes the tree below dir.
func Make(dir string, o Options) error {
	prompt := strings.Repeat("You are a coding agent. ", o.Prompt/24+1)[:o.Prompt]
	for d := range o.Days + 2 {
		day := End.AddDate(0, 0, 1-d).Format("sessions/2006/01/02")
		if err := os.MkdirAll(filepath.Join(dir, day), 0o755); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "archived_sessions"), 0o755); err != nil {
		return err
	}
	var g errgroup.Group
	workers := 2 * runtime.NumCPU()
	for w := range workers {
		g.Go(func() error {
			for i := w; i < o.Sessions; i += workers {
				s := o.At(i)
				file := filepath.Join(dir, filepath.FromSlash(s.Path))
				if err := os.WriteFile(file, o.content(s, prompt), 0o644); err != nil {
					return err
				}
				used := s.Start.Add(time.Duration(i%97) * time.Minute)
				if err := os.Chtimes(file, used, used); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}

// content returns a session as Codex 0.118 writes it.
func (o Options) content(s Session, prompt string) []byte {
	var b []byte
	at := codec.FormatTime(s.Start)
	line := func(typ, payload string, args ...any) {
		b = fmt.Appendf(b, `{"timestamp":"%s","type":"%s","payload":%s}`+"\n", at, typ, fmt.Sprintf(payload, args...))
	}
	cwd := Cwd(s.Project)
	line("session_meta", `{"id":"%s","timestamp":"%s","cwd":"%s","originator":"codex_cli_rs","cli_version":"0.118.0","source":"cli","model_provider":"openai","base_instructions":{"text":"%s"},"git":{"commit_hash":"c0ffee","branch":"main","repository_url":"git@host:team/project-%03d.git"}}`,
		s.ID, at, cwd, prompt, s.Project)
	line("event_msg", `{"type":"task_started","turn_id":"t1","model_context_window":258400}`)
	line("response_item", `{"type":"message","role":"user","content":[{"type":"input_text","text":"<environment_context>\n  <cwd>%s</cwd>\n</environment_context>"}]}`, cwd)
	line("response_item", `{"type":"message","role":"user","content":[{"type":"input_text","text":"fix the test of project %d"}]}`, s.Project)
	line("event_msg", `{"type":"user_message","message":"fix the test of project %d","images":[]}`, s.Project)
	line("turn_context", `{"turn_id":"t1","cwd":"%s","approval_policy":"never","sandbox_policy":{"type":"danger-full-access"},"model":"gpt-5","summary":"auto"}`, cwd)
	for n := 0; len(b) < o.Prompt+o.Body; n++ {
		line("response_item", `{"type":"function_call_output","call_id":"call_%d","output":"%s"}`, n, strings.Repeat("ok  \\tpackage\\t0.01s\\n", 30))
	}
	line("event_msg", `{"type":"task_complete","turn_id":"t1","last_agent_message":"done"}`)
	return b
}
