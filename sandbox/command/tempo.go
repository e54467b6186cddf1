package command

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/lockstep-delivery/lockstep/internal/cli"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
)

func newProfile(streams cli.Streams) *cobra.Command {
	return group("profile", "Show or change how slow and how inconsistent AWS is", newProfileShow(streams), newProfileSet(streams))
}

func newProfileShow(streams cli.Streams) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "show [ideal|typical|pessimistic]",
		Short: "Print a built-in profile, or that of the running sandbox, as YAML",
		Example: `  lockstep sandbox profile show typical > mine.yaml
  lockstep sandbox profile show`,
		Args: cli.Args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) == 1 {
				text, err := profile.Text(args[0])
				if err != nil {
					return cli.UsageError{Err: err}
				}
				fmt.Fprint(streams.Out, text)
				return nil
			}
			var tempo aws.Tempo
			if err := admin(cmd.Context(), name, http.MethodGet, "profile", nil, &tempo); err != nil {
				return err
			}
			text, err := tempo.Profile.YAML()
			if err != nil {
				return err
			}
			fmt.Fprintf(streams.Out, "# scale %v, seed %d\n%s", tempo.Scale, tempo.Seed, text)
			return nil
		},
	}
	nameFlag(cmd, &name)
	return cmd
}

func newProfileSet(streams cli.Streams) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "set ideal|typical|pessimistic|FILE.yaml",
		Short: "Change the profile of the running sandbox; what is under way arrives as it would have",
		Long: `Change the profile of the running sandbox. What is under way arrives as it would have.

A file is a whole profile, as 'profile show' prints it, or names a base and only what differs:

  base: typical
  seconds:
    alb.rule_change: L(20,60)
  probabilities:
    read.old_state: 0.5`,
		Example: "  lockstep sandbox profile set pessimistic\n  lockstep sandbox profile set mine.yaml",
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			text := []byte("base: " + args[0] + "\nname: " + args[0] + "\n")
			if !slices.Contains(profile.Names(), args[0]) {
				var err error
				if text, err = os.ReadFile(args[0]); err != nil {
					return cli.Usagef("%q is no built-in profile (%v), and no file that can be read: %w", args[0], profile.Names(), err)
				}
			}
			if _, err := profile.Parse(text); err != nil {
				return cli.UsageError{Err: fmt.Errorf("%s: %w", args[0], err)}
			}
			var tempo aws.Tempo
			if err := admin(cmd.Context(), name, http.MethodPut, "profile", text, &tempo); err != nil {
				return err
			}
			printTempo(streams, tempo)
			return nil
		},
	}
	nameFlag(cmd, &name)
	return cmd
}

func newScale(streams cli.Streams) *cobra.Command {
	return group("scale", "Change the factor on every delay of AWS and of the kubelet", newScaleSet(streams))
}

func newScaleSet(streams cli.Streams) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:     "set FACTOR",
		Short:   "Set the factor on every delay of AWS and of the kubelet from now on",
		Example: "  lockstep sandbox scale set 0.1",
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			scale, err := strconv.ParseFloat(args[0], 64)
			if err != nil || !(scale >= 0.1 && scale <= 1) {
				return cli.Usagef("%q cannot be the scale: use 0.1 to 1", args[0])
			}
			var tempo aws.Tempo
			if err := admin(cmd.Context(), name, http.MethodPut, "scale", map[string]float64{"scale": scale}, &tempo); err != nil {
				return err
			}
			printTempo(streams, tempo)
			return nil
		},
	}
	nameFlag(cmd, &name)
	return cmd
}

func printTempo(streams cli.Streams, t aws.Tempo) {
	fmt.Fprintf(streams.Out, "profile %s, scale %v, seed %d\n", t.Profile.Name, t.Scale, t.Seed)
}
