package command

import (
	"fmt"
	"net/http"
	"os"

	"github.com/spf13/cobra"

	"github.com/lockstep-delivery/lockstep/internal/cli"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

func newReset(streams cli.Streams) *cobra.Command {
	var name, file string
	cmd := &cobra.Command{
		Use:   "reset",
		Short: "Empty the AWS account of a running sandbox, or make it what a fixture says",
		Long: `Empty the AWS account of a running sandbox: load balancers, security groups, certificates, hosted zones, tags, hosts, faults
and all else that calls have made. Its network, the cluster's instances, profile, scale and journal stay.

A fixture is a YAML file of hosts and calls, which are then carried out at once, in their order:

  hosts:
  - {name: shop, zone: eu-west-1a, ports: {"8080": "127.0.0.1:3000"}}
  calls:
  - as: blue
    service: elbv2
    operation: CreateTargetGroup
    input: {Name: blue, Protocol: HTTP, Port: 8080, VpcId: "${vpc}", TargetType: ip}
  - service: elbv2
    operation: RegisterTargets
    input: {TargetGroupArn: "${blue.TargetGroups[0].TargetGroupArn}", Targets: [{Id: "${host.shop}", Port: 8080}]}`,
		Example: "  lockstep sandbox reset\n  lockstep sandbox reset --fixture shop.yaml",
		Args:    cli.Args(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			var text []byte
			if file != "" {
				var err error
				if text, err = os.ReadFile(file); err != nil {
					return cli.UsageError{Err: fmt.Errorf("cannot read --fixture: %w", err)}
				}
				if _, err := aws.ParseFixture(text); err != nil {
					return cli.UsageError{Err: fmt.Errorf("%s: %w", file, err)}
				}
			}
			return admin(cmd.Context(), name, http.MethodPost, "reset", text, nil)
		},
	}
	nameFlag(cmd, &name)
	cmd.Flags().StringVar(&file, "fixture", "", "YAML file with what the account begins with")
	return cmd
}
