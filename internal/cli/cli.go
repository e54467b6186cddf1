// Package cli holds what all commands of lockstep share: their streams and their exit codes. Each command
// is a package of its own below this one; cmd/lockstep only puts them together.
package cli

import (
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"
)

// The exit codes of lockstep.
const (
	ExitOK      = 0
	ExitFailure = 1
	// ExitUsage is for wrong flags and arguments, before anything was tried.
	ExitUsage = 2
)

// Streams are where a command reads and writes, so that tests can look.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
}

// UsageError is a mistake in flags or arguments; the command did nothing.
type UsageError struct{ Err error }

func (e UsageError) Error() string { return e.Err.Error() }
func (e UsageError) Unwrap() error { return e.Err }

// Usagef builds a UsageError.
func Usagef(format string, args ...any) error { return UsageError{fmt.Errorf(format, args...)} }

// ExitCode is the exit code for what a command returned.
func ExitCode(err error) int {
	var usage UsageError
	switch {
	case err == nil:
		return ExitOK
	case errors.As(err, &usage):
		return ExitUsage
	}
	return ExitFailure
}

// Args turns the error of a positional-argument check into a UsageError that shows the command's usage line.
func Args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := check(cmd, args); err != nil {
			return Usagef("%s: %w (usage: %s)", cmd.CommandPath(), err, cmd.UseLine())
		}
		return nil
	}
}

// Prepare makes a command tree report its errors the same way everywhere: one line, no usage text
// behind it, and exit code 2 for flags that do not parse.
func Prepare(root *cobra.Command) {
	root.SilenceErrors = true
	root.SilenceUsage = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return Usagef("%s: %w (try '%s --help')", cmd.CommandPath(), err, cmd.CommandPath())
	})
	// Without these two, cobra answers a wrong name itself, with an error that is not a UsageError.
	root.Args = func(cmd *cobra.Command, args []string) error {
		if len(args) > 0 {
			return needSubcommand(cmd, args)
		}
		return nil
	}
	root.RunE = func(cmd *cobra.Command, _ []string) error { return cmd.Help() }
	for _, command := range root.Commands() {
		if command.HasSubCommands() && command.RunE == nil {
			command.RunE = needSubcommand
			command.Args = cobra.ArbitraryArgs
		}
	}
}

func needSubcommand(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return Usagef("%s: there is no command %q (try '%s --help')", cmd.CommandPath(), args[0], cmd.CommandPath())
	}
	return Usagef("%s: name a command (try '%s --help')", cmd.CommandPath(), cmd.CommandPath())
}
