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
	o := rehearsal.DemoOptions{Options: rehearsal.Options{Progress: streams.Err, Seed: 1, Profile: "ideal", Scale: 0.1, Settle: 150 * time.Second}, Rate: 1}
	count := 50
	promote := &cobra.Command{
		Use:     "promote",
		Short:   "From a promote to the weight call received by AWS, and the AWS calls of a weight change and of an abort",
		Example: "  lockstep bench promote --count 50",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			if count < 1 || count > 90 {
				return cli.Usagef("--count is %d: use 1 to 90", count)
			}
			if err := check(&o); err != nil {
				return err
			}
			report, err := rehearsal.Promote(cmd.Context(), o.Options, count)
			if err != nil {
				return err
			}
			report.Print(streams.Out)
			return nil
		},
	}
	promote.Flags().IntVar(&count, "count", count, "number of promotes, 1 to 90")
	bench.AddCommand(promote)
	return bench
}
