package main

import (
	"context"
	"errors"
	"io"
	"log"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	// No test reads what the user has configured.
	for _, name := range []string{"AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"} {
		os.Setenv(name, os.DevNull)
	}
	os.Unsetenv("AWS_PROFILE")
	log.SetOutput(io.Discard) // as main does
	testscript.Main(m, map[string]func(){
		program: func() {
			os.Exit(withSignals(func(ctx context.Context) int {
				return run(ctx, os.Args[1:], stdio{os.Stdin, os.Stdout, os.Stderr})
			}))
		},
	})
}

func TestScripts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			for _, dir := range []string{"DATA", "STATE", "CONFIG", "CACHE"} {
				e.Setenv("XDG_"+dir+"_HOME", e.WorkDir+"/xdg/"+dir)
			}
			e.Setenv("TZ", "UTC")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			// exits CODE PROGRAM ARGS… runs a program that must end with CODE.
			"exits": func(ts *testscript.TestScript, neg bool, args []string) {
				if neg || len(args) < 2 {
					ts.Fatalf("usage: exits CODE PROGRAM ARGS…")
				}
				want, err := strconv.Atoi(args[0])
				ts.Check(err)
				got := 0
				if err := ts.Exec(args[1], args[2:]...); err != nil {
					var exit *exec.ExitError
					if !errors.As(err, &exit) {
						ts.Fatalf("%v", err)
					}
					got = exit.ExitCode()
				}
				if got != want {
					ts.Fatalf("exit code %d, want %d", got, want)
				}
			},
			// cut FILE N cuts a file to its first N bytes.
			"cut": func(ts *testscript.TestScript, _ bool, args []string) {
				n, err := strconv.ParseInt(args[1], 10, 64)
				ts.Check(err)
				ts.Check(os.Truncate(ts.MkAbs(args[0]), n))
			},
			// spoil FILE OFFSET puts a byte there that is in no UTF-8 text.
			"spoil": func(ts *testscript.TestScript, _ bool, args []string) {
				off, err := strconv.ParseInt(args[1], 10, 64)
				ts.Check(err)
				f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_WRONLY, 0)
				ts.Check(err)
				_, err = f.WriteAt([]byte{0xff}, off)
				ts.Check(errors.Join(err, f.Close()))
			},
			// settle waits until a file's times show that it was not changed just now.
			"settle": func(*testscript.TestScript, bool, []string) { settle() },
			// dated FILE TIME sets the time of a file, isdated checks it.
			"dated": func(ts *testscript.TestScript, _ bool, args []string) {
				at, err := parseTime("", args[1], time.Now())
				ts.Check(err)
				ts.Check(os.Chtimes(ts.MkAbs(args[0]), at, at))
			},
			"isdated": func(ts *testscript.TestScript, _ bool, args []string) {
				want, err := parseTime("", args[1], time.Now())
				ts.Check(err)
				fi, err := os.Stat(ts.MkAbs(args[0]))
				ts.Check(err)
				if !fi.ModTime().Equal(want) {
					ts.Fatalf("%s is of %v", args[0], fi.ModTime())
				}
			},
		},
	})
}

// settle waits until the times of files show that they were not changed just now:
// what prune asks for is 2 s. There is no way to set a ctime.
func settle() { time.Sleep(2100 * time.Millisecond) }
