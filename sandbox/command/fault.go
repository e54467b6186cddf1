package command

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/lockstep-delivery/lockstep/internal/cli"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/fault"
)

func newFault(streams cli.Streams) *cobra.Command {
	return group("fault", "Let AWS calls, load balancer nodes, targets, zones or machines fail for a time",
		newFaultAdd(streams), newFaultList(streams), newFaultRemove(streams))
}

func newFaultAdd(streams cli.Streams) *cobra.Command {
	var name string
	var f fault.Fault
	var after, lasts time.Duration
	kinds, does := fault.Kinds()
	var long strings.Builder
	long.WriteString("Put a fault into force and print its id. The kinds:\n\n")
	for _, kind := range kinds {
		fmt.Fprintf(&long, "  %-10s %s\n", kind, does[kind])
	}
	cmd := &cobra.Command{
		Use:   "add KIND",
		Short: "Put a fault into force",
		Long:  long.String(),
		Example: `  lockstep sandbox fault add throttle --operation 'elasticloadbalancing:Modify*' --for 2m
  lockstep sandbox fault add stuck --zone eu-west-1b --after 30s --for 3m
  lockstep sandbox fault add unhealthy --resource targetgroup/web-canary --for 1m
  lockstep sandbox fault add error --status 503 --code ServiceUnavailable --every 3
  lockstep sandbox fault add zone --zone eu-west-1c --for 5m`,
		Args: cli.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			f.Kind = fault.Kind(args[0])
			if after < 0 || lasts < 0 {
				return cli.Usagef("--after and --for are times to come: they cannot be negative")
			}
			begin := time.Now().Add(after)
			if after > 0 {
				f.From = begin
			}
			if lasts > 0 {
				f.Until = begin.Add(lasts)
			}
			if err := f.Validate(); err != nil {
				return cli.UsageError{Err: err}
			}
			var added struct {
				ID string `json:"id"`
			}
			if err := admin(cmd.Context(), name, http.MethodPost, "faults", f, &added); err != nil {
				return err
			}
			fmt.Fprintln(streams.Out, added.ID)
			return nil
		},
	}
	nameFlag(cmd, &name)
	flags := cmd.Flags()
	flags.DurationVar(&after, "after", 0, "begin after this time (default now)")
	flags.DurationVar(&lasts, "for", 0, "end after this time (default never)")
	flags.StringArrayVar(&f.Operations, "operation", nil, "only calls that match service:Operation, with * and ?; can be repeated")
	flags.StringVar(&f.Caller, "caller", "", "only calls with this in the user agent, or with this access key")
	flags.StringVar(&f.Resource, "resource", "", "only what has this in a name, id, address or ARN")
	flags.StringVar(&f.Zone, "zone", "", "only this availability zone (kinds stuck, unhealthy and zone)")
	flags.IntVar(&f.Every, "every", 0, "only every n-th call that matches")
	flags.DurationVar(&f.Delay, "delay", 0, "by how much calls are late, or how old a change is until reads show it")
	flags.IntVar(&f.Status, "status", 0, "HTTP status of an error (default 500)")
	flags.StringVar(&f.Code, "code", "", "code of an error (default InternalFailure)")
	flags.StringVar(&f.Message, "message", "", "message of an error")
	flags.StringVar(&f.ID, "id", "", "id of the fault; one of the same id is replaced (default a new one)")
	return cmd
}

func newFaultList(streams cli.Streams) *cobra.Command {
	var name, output string
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List faults, those to come and those whose time is over among them",
		Example: "  lockstep sandbox fault list -o json",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var faults []fault.Fault
			if err := admin(cmd.Context(), name, http.MethodGet, "faults", nil, &faults); err != nil {
				return err
			}
			return printAs(streams.Out, output, faults, func() {
				table := tabwriter.NewWriter(streams.Out, 0, 0, 2, ' ', 0)
				defer table.Flush()
				fmt.Fprintln(table, "ID\tKIND\tWHEN\tHITS")
				for _, f := range faults {
					fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", f.ID, f.Kind, when(f, time.Now()), hits(f))
				}
			})
		},
	}
	nameFlag(cmd, &name)
	outputFlag(cmd, &output)
	return cmd
}

// when tells the time of a fault as seen from now.
func when(f fault.Fault, now time.Time) string {
	left := func(until time.Time) string { return until.Sub(now).Round(time.Second).String() }
	switch {
	case !f.Until.IsZero() && !now.Before(f.Until):
		return "over"
	case now.Before(f.From) && f.Until.IsZero():
		return "from in " + left(f.From)
	case now.Before(f.From):
		return "from in " + left(f.From) + " to in " + left(f.Until)
	case f.Until.IsZero():
		return "now"
	}
	return "now, for " + left(f.Until)
}

// hits tells the filter of a fault.
func hits(f fault.Fault) string {
	var parts []string
	add := func(format, value string) {
		if value != "" {
			parts = append(parts, fmt.Sprintf(format, value))
		}
	}
	add("%s", strings.Join(f.Operations, " or "))
	add("of %s", f.Caller)
	add("on %s", f.Resource)
	add("in %s", f.Zone)
	if f.Every > 1 {
		parts = append(parts, fmt.Sprintf("one in %d", f.Every))
	}
	if f.Delay > 0 {
		parts = append(parts, "by "+f.Delay.String())
	}
	return cmp.Or(strings.Join(parts, ", "), "everything")
}

func newFaultRemove(streams cli.Streams) *cobra.Command {
	var name string
	var all bool
	cmd := &cobra.Command{
		Use:     "remove ID...",
		Short:   "End faults",
		Example: "  lockstep sandbox fault remove fault-1\n  lockstep sandbox fault remove --all",
		RunE: func(cmd *cobra.Command, ids []string) error {
			if all == (len(ids) > 0) {
				return cli.Usagef("say which faults end: their ids, or --all")
			}
			if all {
				return admin(cmd.Context(), name, http.MethodDelete, "faults", nil, nil)
			}
			for _, id := range ids {
				if err := admin(cmd.Context(), name, http.MethodDelete, "faults/"+url.PathEscape(id), nil, nil); err != nil {
					return err
				}
			}
			return nil
		},
	}
	nameFlag(cmd, &name)
	cmd.Flags().BoolVar(&all, "all", false, "end all")
	return cmd
}
