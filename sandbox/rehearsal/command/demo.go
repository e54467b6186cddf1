// Package command holds the command `lockstep demo`.
package command

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/lockstep-delivery/lockstep/internal/cli"
	"github.com/lockstep-delivery/lockstep/sandbox"
	"github.com/lockstep-delivery/lockstep/sandbox/rehearsal"
)

// ErrLost says that requests were lost, a law was broken, or the release did not end. The report says which.
var ErrLost = errors.New("the rehearsal failed")

// NewDemo is the command `lockstep demo`.
func NewDemo(streams cli.Streams) *cobra.Command {
	o := rehearsal.DemoOptions{Options: rehearsal.Options{Progress: streams.Out}}
	var output string
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run a canary under load in a sandbox, change the image in the middle, and report lost requests",
		Example: `  lockstep demo
  lockstep demo --seed 7 --profile pessimistic --output out/demo.json
  lockstep demo --disturb kill,edit`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Rate < 1 || o.Rate > 20000 {
				return cli.Usagef("--rate is %v: use 1 to 20000", o.Rate)
			}
			for _, name := range o.Disturb {
				if !slices.Contains(rehearsal.Disturbances(), name) {
					return cli.Usagef("--disturb names %q: use %s", name, strings.Join(rehearsal.Disturbances(), ", "))
				}
			}
			if err := check(&o.Options); err != nil {
				return err
			}
			report, err := rehearsal.Demo(cmd.Context(), o)
			if report.Requests.Sent == 0 && err != nil {
				return err
			}
			// What was measured is told even if the sandbox did not end cleanly.
			return errors.Join(err, tell(report, streams.Out, output))
		},
	}
	flags := cmd.Flags()
	flags.Int64Var(&o.Seed, "seed", 1, "seed of every random draw")
	flags.StringVar(&o.Profile, "profile", "typical", "how AWS behaves in time: ideal, typical, pessimistic, or a YAML file")
	flags.Float64Var(&o.Scale, "scale", 0.1, "factor on every simulated delay and on the settle time, 0.1 to 1")
	flags.Float64Var(&o.Rate, "rate", 1000, "requests per second")
	flags.DurationVar(&o.Settle, "settle-time", 150*time.Second, "the controller's settle time, before --scale")
	flags.StringSliceVar(&o.Disturb, "disturb", nil, "what goes wrong at a moment drawn from the seed: "+strings.Join(rehearsal.Disturbances(), ", "))
	flags.StringVar(&o.Controller, "controller", "", "executable whose command 'controller' is rehearsed (default this one)")
	flags.StringVar(&o.ControllerLog, "controller-log", "", "file for the controller's log (default in the sandbox's folder)")
	localCommands(flags, &o.Options)
	flags.StringVar(&output, "output", "out/demo.json", "file for the report")
	return cmd
}

// tell prints the report and writes it to a file. It is ErrLost when the rehearsal did not pass.
func tell(report rehearsal.Report, w io.Writer, output string) error {
	report.Print(w)
	if err := report.WriteFile(output); err != nil {
		return err
	}
	fmt.Fprintf(w, "everything: %s\n", output)
	if !report.Passed() {
		return ErrLost
	}
	return nil
}

// localCommands is the flag of that name, as 'lockstep sandbox up' has it.
func localCommands(flags *pflag.FlagSet, o *rehearsal.Options) {
	f := flags.VarPF((*allowed)(&o.NoCommands), "local-commands", "", "let containers of Jobs and shells run their commands as processes of this machine, with your rights")
	f.NoOptDefVal = "true"
}

// allowed is the flag of something that a bool forbids.
type allowed bool

func (a *allowed) String() string { return strconv.FormatBool(!bool(*a)) }
func (*allowed) Type() string     { return "bool" }

// Set implements pflag.Value.
func (a *allowed) Set(text string) error {
	on, err := strconv.ParseBool(text)
	*a = allowed(!on)
	return err
}

// check refuses options of a rehearsal that cannot be, and finds the controller if none is named.
func check(o *rehearsal.Options) error {
	if err := (sandbox.Config{Name: "check", Profile: o.Profile, Scale: o.Scale}).Validate(); err != nil {
		return cli.UsageError{Err: err}
	}
	if o.Settle <= 0 {
		return cli.Usagef("--settle-time is %s: use more than 0", o.Settle)
	}
	if o.Controller == "" {
		self, err := os.Executable()
		if err != nil {
			return fmt.Errorf("cannot find the lockstep executable: %w", err)
		}
		o.Controller = self
	}
	return nil
}
