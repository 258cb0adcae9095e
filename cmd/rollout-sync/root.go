package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// app is one run of the program.
type app struct {
	stdio
	reporting
	home, mirror, origin string
	json                 bool
	remote               string // the mirror, for people, once it is opened, if it is no directory
	insecureHTTP         bool
	singleWriter         bool          // the store's conditions need not hold
	wait                 time.Duration // for another run on the same state
	uploadRate           int64         // bytes a second; 0: no limit
	// whenInterrupted says what then becomes of what was done; "" is the rule: it
	// is kept.
	whenInterrupted string
}

// run is the program: it returns the exit code.
func run(ctx context.Context, args []string, std stdio) int {
	out := &output{Writer: std.out}
	a := &app{stdio: stdio{std.in, out, std.err}}
	root := a.command()
	root.SetArgs(args)
	root.SetIn(std.in)
	root.SetOut(out)
	root.SetErr(std.err)
	started := false
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		if err := flagsFromEnv(cmd.Flags()); err != nil {
			return err
		}
		if err := a.begin(cmd); err != nil {
			return err
		}
		started = true
		return nil
	}
	err := root.ExecuteContext(ctx)
	if err != nil && !started {
		err = usagef("%w (see rollout-sync --help)", err) // cobra's: a flag, an argument, a command
	}
	if err == nil && out.err != nil {
		err = fmt.Errorf("standard output: %w", out.err)
	}
	code := exitCode(ctx, err)
	if err != nil {
		err = a.advised(err)
		if code == exitInterrupted || code == exitTerminated {
			err = fmt.Errorf("%w; %s", context.Cause(ctx), cmp.Or(a.whenInterrupted, "what was done is kept"))
		}
	}
	a.ended(code, err)
	return code
}

func (a *app) command() *cobra.Command {
	root := &cobra.Command{
		Use:   "rollout-sync",
		Short: "Mirror, list, show, verify and restore the sessions of coding agents",
		Long: `rollout-sync keeps a verified, compressed copy of the sessions that Codex
records (rollouts: ~/.codex/sessions/…/rollout-….jsonl) in a directory or in an
object store, lists and shows them from both sides, and brings them back so
that "codex resume" works.

Every command takes the same two places: --home, where the sessions are, and
--mirror, where their copy is. Any flag can be given as an environment variable
too: --mirror as ROLLOUT_SYNC_MIRROR, and so on. Credentials come from the
environment that the clouds' own tools use (AWS_*, GOOGLE_APPLICATION_CREDENTIALS,
AZURE_*).

Exit codes: 0 done, also when there was nothing to do; 1 failure; 2 usage;
3 some sessions failed and the others were done; 4 something does not match its
hash; 11 another run is at work; 130 and 143 interrupted. Treat any other as
failure.`,
		SilenceUsage:  true,
		SilenceErrors: true,
		// They would be lines of their own in an error.
		DisableSuggestions: true,
	}
	f := root.PersistentFlags()
	f.StringVar(&a.home, "home", defaultHome(), "the Codex home `directory`")
	f.StringVar(&a.mirror, "mirror", defaultMirror(), "where the copy is: a directory or a `URL` (s3:// gs:// azblob:// file://)")
	f.StringVar(&a.origin, "origin", "", "the `id` of this home on this machine (default: made once and kept beside the configuration)")
	f.BoolVar(&a.insecureHTTP, "insecure-http", false, "let sessions go over a network unencrypted; else that is refused, but on this machine")
	root.AddCommand(a.pushCommand(), a.listCommand(), a.searchCommand(), a.showCommand(), a.statsCommand(), a.verifyCommand(),
		a.restoreCommand(), a.pruneCommand(), a.forgetCommand(), a.recordCommand(), a.checkStoreCommand(), a.demoCommand(), a.versionCommand(),
		a.statusCommand(), a.doctorCommand(), a.indexCommand(), a.catalogCommand())
	a.addCompletion(root)
	return root
}

// flagsFromEnv sets the flags that were not given from ROLLOUT_SYNC_*.
func flagsFromEnv(flags *pflag.FlagSet) (err error) {
	flags.VisitAll(func(f *pflag.Flag) {
		name := "ROLLOUT_SYNC_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		if v := os.Getenv(name); v != "" && !f.Changed && err == nil {
			if e := flags.Set(f.Name, v); e != nil {
				err = fmt.Errorf("%s: %w", name, e)
			}
		}
	})
	return err
}

func (a *app) jsonFlag(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&a.json, "json", false, "print one JSON object a line")
}

// print prints v as one line of JSON. What cannot be written is known to a.out.
func (a *app) print(v any) {
	enc := json.NewEncoder(a.out)
	enc.SetEscapeHTML(false)
	_ = enc.Encode(v) // an error of a.out: our types can all be encoded
}

// output remembers the first error of a writer, so that not every print has to be
// checked and none is lost.
type output struct {
	io.Writer
	err error
}

func (o *output) Write(p []byte) (int, error) {
	n, err := o.Writer.Write(p)
	if o.err == nil {
		o.err = err
	}
	return n, err
}
