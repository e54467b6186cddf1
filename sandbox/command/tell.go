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

func printOverview(w io.Writer, o sandbox.Overview) {
	fmt.Fprintf(w, "\nload balancers: %d\n", len(o.LoadBalancers))
	for _, lb := range o.LoadBalancers {
		fmt.Fprintf(w, "  %s (%s) %s\n", lb.Name, lb.State, lb.DNSName)
		for _, url := range lb.URLs {
			fmt.Fprintf(w, "    curl -H 'Host: %s' %s/\n", lb.DNSName, url)
		}
	}
	fmt.Fprintf(w, "AWS calls: %d", o.Calls)
	if len(o.Unmodelled) > 0 {
		fmt.Fprintf(w, "; not modelled, answered with an error: %s", strings.Join(o.Unmodelled, ", "))
	}
	fmt.Fprintln(w)
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
	cmd := &cobra.Command{
		Use:     "journal",
		Short:   "Print every call that the emulated AWS got, as JSON lines",
		Example: "  lockstep sandbox journal | grep ModifyRule\n  lockstep sandbox journal -f",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			state, err := sandbox.Running(name)
			if err != nil {
				return err
			}
			return stream(cmd.Context(), sandbox.JournalURL(state, follow), streams.Out)
		},
	}
	nameFlag(cmd, &name)
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "keep printing calls as they come")
	return cmd
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
	if ctx.Err() != nil {
		return nil
	}
	return lines.Err()
}
