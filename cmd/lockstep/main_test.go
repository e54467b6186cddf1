package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lockstep-delivery/lockstep/internal/cli"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"lockstep": func() {
			os.Exit(run(context.Background(), cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, os.Args[1:]))
		},
	})
}

// Each script is one thing that a user types and what comes back.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata",
		Setup: func(env *testscript.Env) error {
			env.Setenv("TMPDIR", env.WorkDir)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits-2": exitsTwo},
	})
}

// exitsTwo runs a command and demands the exit code of a usage error.
func exitsTwo(ts *testscript.TestScript, _ bool, args []string) {
	var exit *exec.ExitError
	err := ts.Exec(args[0], args[1:]...)
	if !errors.As(err, &exit) || exit.ExitCode() != cli.ExitUsage {
		ts.Fatalf("%v: %v, want exit code %d", args, err, cli.ExitUsage)
	}
}
