package cli_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/lockstep-delivery/lockstep/internal/cli"
)

// tree is `lockstep` with a command, a group of commands, and a command that fails.
func tree() *cobra.Command {
	root := &cobra.Command{Use: "lockstep"}
	do := func(*cobra.Command, []string) error { return nil }
	one := &cobra.Command{Use: "one NAME", Args: cli.Args(cobra.ExactArgs(1)), RunE: do}
	one.Flags().Int("times", 0, "")
	group := &cobra.Command{Use: "group"}
	group.AddCommand(&cobra.Command{Use: "member", Args: cli.Args(cobra.NoArgs), RunE: do})
	fails := &cobra.Command{Use: "fails", RunE: func(*cobra.Command, []string) error { return errors.New("AWS is away") }}
	root.AddCommand(one, group, fails)
	root.SetOut(io.Discard)
	root.SetErr(io.Discard)
	cli.Prepare(root)
	return root
}

// Every mistake on the command line is one line that names it, and exit code 2; everything else that goes wrong is 1.
func TestExitCodes(t *testing.T) {
	for line, row := range map[string]struct {
		code  int
		named string
	}{
		"":                    {cli.ExitOK, ""},
		"one a":               {cli.ExitOK, ""},
		"one --times 3 a":     {cli.ExitOK, ""},
		"group member":        {cli.ExitOK, ""},
		"--help":              {cli.ExitOK, ""},
		"fails":               {cli.ExitFailure, "AWS is away"},
		"one":                 {cli.ExitUsage, "usage: lockstep one NAME"},
		"one a b":             {cli.ExitUsage, "usage: lockstep one NAME"},
		"one --nosuch a":      {cli.ExitUsage, "--nosuch"},
		"one --times often a": {cli.ExitUsage, "--times"},
		"one a --times":       {cli.ExitUsage, "--times"},
		"nosuch":              {cli.ExitUsage, `"nosuch"`},
		"--nosuch":            {cli.ExitUsage, "--nosuch"},
		"group":               {cli.ExitUsage, "name a command"},
		"group nosuch":        {cli.ExitUsage, `"nosuch"`},
		"group member a":      {cli.ExitUsage, "lockstep group member"},
	} {
		t.Run(line, func(t *testing.T) {
			root := tree()
			root.SetArgs(strings.Fields(line))
			err := root.ExecuteContext(t.Context())
			if got := cli.ExitCode(err); got != row.code {
				t.Errorf("exit code %d, want %d: %v", got, row.code, err)
			}
			if err != nil && (!strings.Contains(err.Error(), row.named) || strings.Contains(err.Error(), "\n")) {
				t.Errorf("%q is not one line that names %s", err, row.named)
			}
		})
	}
}

func TestAWrappedUsageErrorStaysOne(t *testing.T) {
	if code := cli.ExitCode(fmt.Errorf("cannot begin: %w", cli.Usagef("--name is empty"))); code != cli.ExitUsage {
		t.Errorf("exit code %d", code)
	}
}
