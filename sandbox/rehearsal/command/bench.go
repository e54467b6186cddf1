package command

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-delivery/lockstep/internal/cli"
	"github.com/lockstep-delivery/lockstep/sandbox/rehearsal"
)

// NewBench is the command `lockstep bench`: measurements that docs/benchmarks.md quotes.
func NewBench(streams cli.Streams) *cobra.Command {
	bench := &cobra.Command{Use: "bench", Short: "Measure Lockstep in a sandbox"}
	o := rehearsal.PromoteOptions{
		Options: rehearsal.Options{Progress: streams.Err, Seed: 1, Profile: "ideal", Scale: 0.1, Settle: 150 * time.Second},
	}
	promote := &cobra.Command{
		Use:     "promote",
		Short:   "From a promote to the weight call received by AWS, and the AWS calls of a weight change and of an abort",
		Example: "  lockstep bench promote --count 50\n  lockstep bench promote --count 40 --every 1s",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.Count < 1 || o.Count > 90 {
				return cli.Usagef("--count is %d: use 1 to 90", o.Count)
			}
			if o.Every < 0 || o.Every > time.Minute {
				return cli.Usagef("--every is %s: use 0s to 1m", o.Every)
			}
			if err := check(&o.Options); err != nil {
				return err
			}
			report, err := rehearsal.Promote(cmd.Context(), o)
			if err != nil {
				return err
			}
			report.Print(streams.Out)
			return nil
		},
	}
	promote.Flags().IntVar(&o.Count, "count", 50, "number of promotes, 1 to 90")
	promote.Flags().DurationVar(&o.Every, "every", 500*time.Millisecond, "time between promotes; below 333ms AWS's own limit of 3 changes/s is measured once its burst of 20 is used up")
	promote.Flags().StringVar(&o.Controller, "controller", "", "executable whose command 'controller' is measured (default this one)")
	promote.Flags().StringVar(&o.ControllerLog, "controller-log", "", "file for the controller's log (default in the sandbox's folder)")
	localCommands(promote.Flags(), &o.Options)
	bench.AddCommand(promote)
	return bench
}
