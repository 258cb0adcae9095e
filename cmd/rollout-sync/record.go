package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"github.com/rollout-sync/rollout"
	"github.com/rollout-sync/rollout/codec"
	"github.com/rollout-sync/rollout/recorder"
)

func (a *app) recordCommand() *cobra.Command {
	var o recordFlags
	cmd := &cobra.Command{
		Use:   "record",
		Short: "Record a session from items on standard input",
		Long: `Record reads items from standard input, one JSON object a line, and records them
as a session of the home, in Codex's own format: each needs a "type" and a
"payload", and may have a "timestamp". What was read is on the disk whenever the
input pauses, and at its end; then the session's id and path are printed. A line
that is no item is reported with its number and not recorded. A signal ends the
session as the end of the input does.

--meta says what the session's first line says of it: id, timestamp, cwd,
originator, cli_version, source, model_provider, base_instructions, git_commit,
git_branch, git_origin. What is not given has a sensible value; that of git_* is
what git says of cwd.

--resume goes on with a session that is there, unless something else has it open.

--sync says what a loss of power may take. With "each" it is nothing that was
read before a pause; with a time such as 100ms it is what was read in the last
100 ms, and many short pauses cost less; with "none" it is whatever the system
has not yet written. The death of this process alone takes nothing in any case.`,
		Example: `  echo '{"type":"event_msg","payload":{"type":"user_message","message":"hi"}}' |
    rollout-sync record --meta originator=my_agent --meta cli_version=1.0.0`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.record(cmd.Context(), o) },
	}
	cmd.Flags().StringArrayVar(&o.meta, "meta", nil, "a `key=value` about the session")
	cmd.Flags().StringVar(&o.resume, "resume", "", "go on with the session of this `id`")
	cmd.Flags().StringVar(&o.sync, "sync", "each", "put what was read on the disk in `each` pause, after a time (100ms), or none")
	a.jsonFlag(cmd)
	return cmd
}

type recordFlags struct {
	meta         []string
	resume, sync string
}

// recorded is what record --json prints.
type recorded struct {
	ID    uuid.UUID `json:"id"`
	Path  string    `json:"path"`
	Items int       `json:"items"`
}

func (a *app) record(ctx context.Context, o recordFlags) error {
	sync, err := parseSync(o.sync)
	if err != nil {
		return err
	}
	if o.resume != "" && len(o.meta) > 0 {
		return usagef("--meta tells about a new session, and --resume goes on with one")
	}
	home, err := a.openHome()
	if err != nil {
		return err
	}
	defer home.Close()
	r, err := a.recorder(ctx, home, o, &recorder.Options{Sync: sync})
	if err != nil {
		return err
	}
	items, bad, err := a.recordLines(ctx, r)
	// The session ends here, also because of a signal: what was read is kept.
	if err := errors.Join(err, r.Close(context.WithoutCancel(ctx))); err != nil {
		return err
	}
	switch {
	case items == 0:
		fmt.Fprintln(a.err, "nothing was recorded")
	case a.json:
		a.print(recorded{r.ID(), r.Name(), items})
	default:
		fmt.Fprintf(a.out, "%s  %s\n", r.ID(), r.Name())
	}
	if bad > 0 {
		return &exitError{exitPartial, fmt.Errorf("%d lines were not recorded", bad)}
	}
	return ctx.Err()
}

// recorder returns the recorder of the session that the flags name.
func (a *app) recorder(ctx context.Context, home *rollout.Home, flags recordFlags, o *recorder.Options) (*recorder.Recorder, error) {
	if flags.resume == "" {
		meta, now, err := parseMeta(flags.meta)
		if err != nil {
			return nil, err
		}
		if meta.Git == (codec.Git{}) {
			meta.Git = recorder.ReadGit(ctx, meta.Cwd)
		}
		o.Now = now
		return recorder.New(home.Store(), meta, o)
	}
	it, err := a.find(ctx, flags.resume, home.Place())
	if err != nil {
		return nil, err
	}
	if it.Archived {
		return nil, fmt.Errorf("%s: %w: it is archived", it.Path, recorder.ErrNotResumable)
	}
	r, err := recorder.Resume(ctx, home.Store(), it.Path, o)
	if err == nil && r.Aside() != "" {
		fmt.Fprintf(a.err, "the last line was torn inside a character, and is now %s\n", clean(r.Aside()))
	}
	return r, err
}

// parseSync reads the value of --sync.
func parseSync(text string) (time.Duration, error) {
	switch text {
	case "each":
		return 0, nil
	case "none":
		return recorder.SyncNever, nil
	}
	d, err := time.ParseDuration(text)
	if err != nil || d <= 0 {
		return 0, usagef("--sync %q: write each, none, or a time such as 100ms", text)
	}
	return d, nil
}

// recordLines records the lines of standard input until its end or that of ctx.
func (a *app) recordLines(ctx context.Context, r *recorder.Recorder) (items, bad int, err error) {
	in := bufio.NewReaderSize(a.input(ctx), 64<<10)
	number := 0
	for line, err := range codec.Lines(in) {
		if ctx.Err() != nil {
			return items, bad, nil
		}
		if err != nil {
			return items, bad, fmt.Errorf("standard input: %w", err)
		}
		number++
		if len(bytes.TrimSpace(line.Bytes)) == 0 {
			continue
		}
		it, err := parseItem(line.Bytes)
		if err == nil {
			err = r.Record(context.WithoutCancel(ctx), it)
		}
		// Flush tells a failure of the store, which is final, from a bad line.
		if err != nil || in.Buffered() == 0 {
			if err := r.Flush(context.WithoutCancel(ctx)); err != nil {
				return items, bad, err
			}
		}
		if err != nil {
			bad++
			fmt.Fprintf(a.err, "line %d: %s\n", number, oneLine(err))
			continue
		}
		items++
	}
	return items, bad, nil
}

// input is standard input up to the end of ctx, which a read alone would not
// notice.
func (a *app) input(ctx context.Context) io.Reader {
	r, w := io.Pipe()
	go func() {
		_, err := io.Copy(w, a.in)
		w.CloseWithError(err)
	}()
	context.AfterFunc(ctx, func() { w.CloseWithError(ctx.Err()) })
	return r
}

// parseItem reads an item as it is given to record: without what the recorder
// adds, and with nothing guessed.
func parseItem(line []byte) (codec.Item, error) {
	var it struct {
		Timestamp string          `json:"timestamp"`
		Type      string          `json:"type"`
		Payload   json.RawMessage `json:"payload"`
		Metadata  json.RawMessage `json:"metadata"`
	}
	if err := json.Unmarshal(line, &it); err != nil {
		return codec.Item{}, errors.New("not a JSON object with a type and a payload")
	}
	if it.Type == "" || it.Payload == nil {
		return codec.Item{}, errors.New("an item needs a type and a payload")
	}
	return codec.Item{Timestamp: it.Timestamp, Type: it.Type, Payload: it.Payload, Metadata: it.Metadata}, nil
}

// parseMeta reads the values of --meta, and returns the clock for the session,
// which begins at the given time.
func parseMeta(pairs []string) (recorder.Meta, func() time.Time, error) {
	m := recorder.Meta{Originator: program, CLIVersion: version(), Source: "exec"}
	now := time.Now
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		if !ok {
			return m, nil, usagef("--meta %q: write key=value", pair)
		}
		var err error
		switch key {
		case "id":
			m.ID, err = uuid.Parse(value)
		case "timestamp":
			var start time.Time
			start, err = time.Parse(time.RFC3339, value)
			now = startingAt(start.Local())
		case "cwd":
			m.Cwd = value
		case "originator":
			m.Originator = value
		case "cli_version":
			m.CLIVersion = value
		case "source":
			m.Source = value
		case "model_provider":
			m.Provider = value
		case "base_instructions":
			m.BaseInstructions = value
		case "git_commit":
			m.Git.Commit = value
		case "git_branch":
			m.Git.Branch = value
		case "git_origin":
			m.Git.Origin = value
		default:
			return m, nil, usagef("--meta %q: there is no such key (see rollout-sync record --help)", key)
		}
		if err != nil {
			return m, nil, usagef("--meta %s: %w", key, err)
		}
	}
	if m.Cwd == "" {
		var err error
		if m.Cwd, err = os.Getwd(); err != nil {
			return m, nil, err
		}
	}
	return m, now, nil
}

// startingAt is a clock that is first asked for the start of the session, and
// then for the times of what is recorded.
func startingAt(start time.Time) func() time.Time {
	started := false
	return func() time.Time {
		if started {
			return time.Now()
		}
		started = true
		return start
	}
}
