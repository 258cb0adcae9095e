package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
)

// reporting is how a command that runs unattended says what it does.
type reporting struct {
	quiet         bool
	format, level string
	log           *slog.Logger // nil: lines for people
	running       string       // the command
	began         time.Time
}

// reportFlags adds the flags of a command that runs unattended.
func (a *app) reportFlags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.BoolVarP(&a.quiet, "quiet", "q", false, "say only what went wrong")
	f.StringVar(&a.format, "log-format", "", "log to standard error instead of printing lines for people: `text` or json")
	f.StringVar(&a.level, "log-level", "", "log what is at least as grave: debug, info, warn or error; implies --log-format text (default info)")
	for flag, values := range map[string][]string{"log-format": {"text", "json"}, "log-level": {"debug", "info", "warn", "error"}} {
		_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp)) // there is one
	}
}

// begin opens the log, if one is wanted.
func (a *app) begin(cmd *cobra.Command) error {
	a.running, a.began = cmd.Name(), time.Now()
	if a.format == "" && a.level == "" {
		return nil
	}
	level := slog.LevelInfo
	switch a.level {
	case "":
		if a.quiet {
			level = slog.LevelWarn
		}
	case "debug", "info", "warn", "error":
		if a.quiet {
			return errors.New("--quiet and --log-level exclude each other")
		}
		_ = level.UnmarshalText([]byte(a.level)) // one of its names
	default:
		return fmt.Errorf("--log-level %q: one of debug, info, warn and error is wanted", a.level)
	}
	o := &slog.HandlerOptions{Level: level}
	switch a.format {
	case "", "text":
		a.log = slog.New(slog.NewTextHandler(a.err, o))
	case "json":
		a.log = slog.New(slog.NewJSONHandler(a.err, o))
	default:
		return fmt.Errorf("--log-format %q: text or json is wanted", a.format)
	}
	mirror := ""
	if u, err := a.mirrorURL(); err == nil {
		mirror = shown(u)
	}
	a.say(slog.LevelInfo, "begun", "", slog.String("command", a.running), slog.String("home", a.home), slog.String("mirror", mirror))
	return nil
}

// say tells of an event: to the log, or, if there is none, to people, for whom line is,
// if there is one. They see what went wrong on standard error; the rest is on standard
// output, if neither --json nor --quiet is given.
//
// The names of events, and their attributes, are part of the interface. Nothing secret
// may be in them: a mirror is given as shown, an error as oneLine.
func (a *app) say(level slog.Level, event, line string, attrs ...slog.Attr) {
	switch {
	case a.log != nil:
		a.log.LogAttrs(context.Background(), level, event, attrs...)
	case line == "":
	case level >= slog.LevelWarn:
		fmt.Fprintln(a.err, line)
	case !a.json && !a.quiet:
		fmt.Fprintln(a.out, line)
	}
}

// ended tells how a command ended that returned err, of which code is the exit code.
func (a *app) ended(code int, err error) {
	attrs := []slog.Attr{slog.String("command", a.running), slog.Int("exit_code", code), slog.Float64("seconds", time.Since(a.began).Seconds())}
	level, line := slog.LevelInfo, ""
	if err != nil {
		line = fmt.Sprintf("%s: %s", program, oneLine(err))
		attrs = append(attrs, slog.String("error", oneLine(err)))
		level = slog.LevelError
		if code == exitLocked || code == exitInterrupted || code == exitTerminated {
			level = slog.LevelWarn // nothing is wrong
		}
	}
	a.say(level, "ended", line, attrs...)
}
