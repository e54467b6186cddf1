package command

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/lockstep-delivery/lockstep/internal/cli"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/elbv2"
)

func newInspect(streams cli.Streams) *cobra.Command {
	return group("inspect", "Look at what no AWS API tells", newInspectZones(streams))
}

func newInspectZones(streams cli.Streams) *cobra.Command {
	var name, output, balancer string
	cmd := &cobra.Command{
		Use:   "zones",
		Short: "Tell what the node of each zone has taken so far: rules with their weights, and targets",
		Example: `  lockstep sandbox inspect zones
  lockstep sandbox inspect zones --load-balancer web -o json`,
		Args: cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var nodes []elbv2.AppliedNode
			if err := admin(cmd.Context(), name, http.MethodGet, "applied", nil, &nodes); err != nil {
				return err
			}
			nodes = slices.DeleteFunc(nodes, func(n elbv2.AppliedNode) bool {
				return balancer != "" && n.LoadBalancer != balancer && short(n.LoadBalancer) != balancer
			})
			return printAs(streams.Out, output, nodes, func() { printNodes(streams.Out, nodes) })
		},
	}
	nameFlag(cmd, &name)
	outputFlag(cmd, &output)
	cmd.Flags().StringVar(&balancer, "load-balancer", "", "name or ARN of the only load balancer to look at")
	return cmd
}

func printNodes(w io.Writer, nodes []elbv2.AppliedNode) {
	last := ""
	for _, n := range nodes {
		if n.LoadBalancer != last {
			fmt.Fprintln(w, short(n.LoadBalancer))
			last = n.LoadBalancer
		}
		serving := ""
		if !n.Active {
			serving = " (does not serve yet)"
		}
		fmt.Fprintf(w, "  %s%s\n", n.Zone, serving)
		for _, l := range n.Listeners {
			for _, arn := range slices.Sorted(maps.Keys(l.Actions)) {
				what := "rule " + arn[strings.LastIndex(arn, "/")+1:]
				if arn == l.ARN {
					what = "default"
				}
				fmt.Fprintf(w, "    :%d %s: %s\n", l.Port, what, describeAction(l.Actions[arn]))
			}
		}
		for _, group := range slices.Sorted(maps.Keys(n.Targets)) {
			var targets []string
			for _, t := range n.Targets[group] {
				targets = append(targets, fmt.Sprintf("%s:%d", t.ID, t.Port))
			}
			fmt.Fprintf(w, "    targets of %s: %s\n", short(group), strings.Join(targets, " "))
		}
	}
	if len(nodes) == 0 {
		fmt.Fprintln(w, "no load balancer")
	}
}

func describeAction(a dataplane.Action) string {
	switch {
	case a.Forward != nil:
		var parts []string
		for _, g := range a.Forward.Groups {
			parts = append(parts, fmt.Sprintf("%s %d", short(g.ARN), g.Weight))
		}
		return "forward " + strings.Join(parts, ", ")
	case a.Redirect != nil:
		return fmt.Sprintf("redirect %d", a.Redirect.Status)
	case a.Fixed != nil:
		return fmt.Sprintf("fixed response %d", a.Fixed.Status)
	}
	return "nothing"
}

// short is the name in the ARN of a load balancer (…/app/web/0123) or a target group (…:targetgroup/web/0123).
func short(arn string) string {
	parts := strings.Split(arn, "/")
	if len(parts) < 3 {
		return arn
	}
	return parts[len(parts)-2]
}
