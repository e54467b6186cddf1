package command

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-delivery/lockstep/internal/cli"
	"github.com/lockstep-delivery/lockstep/sandbox"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/journal"
)

func newStatus(streams cli.Streams) *cobra.Command {
	var name, output string
	cmd := &cobra.Command{
		Use:     "status",
		Short:   "Tell what a sandbox runs: its addresses, load balancers and what was asked of AWS",
		Example: "  lockstep sandbox status\n  lockstep sandbox status -o json",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			state, err := sandbox.Running(name)
			if err != nil {
				return err
			}
			if state, err = asItIs(cmd.Context(), state); err != nil {
				return err
			}
			overview, err := sandbox.Inspect(cmd.Context(), state)
			if err != nil {
				return err
			}
			switch output {
			case "json":
				encoder := json.NewEncoder(streams.Out)
				encoder.SetIndent("", "  ")
				return encoder.Encode(struct {
					sandbox.State
					sandbox.Overview
				}{state, overview})
			case "table":
				describe(streams.Out, state)
				printOverview(streams.Out, overview)
				return nil
			}
			return cli.Usagef("--output is %q: use table or json", output)
		},
	}
	nameFlag(cmd, &name)
	cmd.Flags().StringVarP(&output, "output", "o", "table", "table or json")
	return cmd
}

// asItIs is the state with the profile and the scale that are in force, which may have changed since the start.
func asItIs(ctx context.Context, state sandbox.State) (sandbox.State, error) {
	var tempo aws.Tempo
	if err := admin(ctx, state.Name, http.MethodGet, "profile", nil, &tempo); err != nil {
		return sandbox.State{}, err
	}
	state.Profile, state.Scale = tempo.Profile.Name, tempo.Scale
	return state, nil
}

func printOverview(w io.Writer, o sandbox.Overview) {
	fmt.Fprintf(w, "\nload balancers: %d\n", len(o.LoadBalancers))
	for _, lb := range o.LoadBalancers {
		fmt.Fprintf(w, "  %s (%s) %s\n", lb.Name, lb.State, lb.DNSName)
		for _, url := range lb.URLs {
			fmt.Fprintf(w, "    curl -H 'Host: %s' %s/\n", lb.DNSName, url)
		}
	}
	fmt.Fprintf(w, "AWS calls: %d\n", o.Calls)
	if len(o.Unmodelled) > 0 {
		fmt.Fprintln(w, "not modelled, answered with an error:")
	}
	for _, call := range o.Unmodelled {
		fmt.Fprintf(w, "  %s: %d\n", call.Operation, call.Calls)
	}
}

func newEnv(streams cli.Streams) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:     "env",
		Short:   "Print the shell variables with which kubectl and any AWS SDK or CLI work in the sandbox",
		Example: "  eval \"$(lockstep sandbox env)\" && kubectl get nodes",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			state, err := sandbox.Running(name)
			if err != nil {
				return err
			}
			if state, err = asItIs(cmd.Context(), state); err != nil {
				return err
			}
			for _, variable := range state.Environment() {
				key, value, _ := strings.Cut(variable, "=")
				fmt.Fprintf(streams.Out, "export %s='%s'\n", key, strings.ReplaceAll(value, "'", `'\''`))
			}
			overview, err := sandbox.Inspect(cmd.Context(), state)
			if err != nil {
				return err
			}
			for _, lb := range overview.LoadBalancers {
				for _, url := range lb.URLs {
					fmt.Fprintf(streams.Out, "# %s: curl -H 'Host: %s' %s/\n", lb.Name, lb.DNSName, url)
				}
			}
			return nil
		},
	}
	nameFlag(cmd, &name)
	return cmd
}

func newJournal(streams cli.Streams) *cobra.Command {
	var name string
	var follow bool
	var filter journal.Filter
	cmd := &cobra.Command{
		Use:     "journal",
		Short:   "Print every call that the emulated AWS got and every data-plane event, as JSON lines",
		Example: "  lockstep sandbox journal --operation '*:ModifyRule' --event NodeApplied\n  lockstep sandbox journal -f --failed",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			state, err := sandbox.Running(name)
			if err != nil {
				return err
			}
			if _, err := journal.FilterOf(filter.Query()); err != nil {
				return cli.UsageError{Err: err}
			}
			return stream(cmd.Context(), journalURL(state, follow, filter), streams.Out)
		},
	}
	nameFlag(cmd, &name)
	flags := cmd.Flags()
	flags.BoolVarP(&follow, "follow", "f", false, "keep printing calls as they come")
	flags.StringArrayVar(&filter.Operations, "operation", nil, "only calls that match service:Operation, with * and ?; can be repeated")
	flags.StringArrayVar(&filter.Events, "event", nil, "only data-plane events of this kind, with * and ?; can be repeated")
	flags.StringVar(&filter.Caller, "caller", "", "only calls with this in the user agent, or with this access key")
	flags.StringVar(&filter.Resource, "resource", "", "only calls with this in a parameter")
	flags.BoolVar(&filter.Failed, "failed", false, "only calls that were answered with an error")
	return cmd
}

func journalURL(state sandbox.State, follow bool, filter journal.Filter) string {
	query := filter.Query()
	if follow {
		query.Set("follow", "1")
	}
	return state.AWSEndpoint + "/_lockstep/journal?" + query.Encode()
}

// stream copies lines as they arrive; being interrupted is how a follower ends.
func stream(ctx context.Context, url string, w io.Writer) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("cannot read the journal: %w", err)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("cannot read the journal: the sandbox answers %s", response.Status)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		if _, err := fmt.Fprintln(w, lines.Text()); err != nil {
			return err
		}
	}
	if err := lines.Err(); err != nil && ctx.Err() == nil {
		return fmt.Errorf("the journal broke off: the sandbox has been killed, or records came faster than they were read: %w", err)
	}
	return nil
}
