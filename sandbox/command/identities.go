package command

import (
	"net/http"

	"github.com/spf13/cobra"

	"github.com/lockstep-delivery/lockstep/internal/cli"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

func newIdentities(streams cli.Streams) *cobra.Command {
	return group("identities", "Change who may call the AWS account of a running sandbox, and what", newIdentitiesSet(streams))
}

func newIdentitiesSet(cli.Streams) *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use:   "set FILE.yaml",
		Short: "Replace users and roles with those of a file",
		Long: `Replace the users and roles of the account with those of a YAML file, which is the one that 'up --identities' takes. They
count when the time has passed that the profile gives to IAM. The owner's key stays as it is.

  users:
  - name: deployer
    accessKeyId: AKIADEPLOYER00000000
    secretAccessKey: deployer-secret
    policies:
    - Statement: [{Effect: Allow, Action: "elasticloadbalancing:*", Resource: "*"}]
  roles:
  - name: controller
    maxSessionDuration: 1h
    policies: [controller.json]

A policy is a document as IAM takes it, or the path of a file with one. Who has an empty list may do nothing; a list that is left
out lets everything be done. Without roles, every name is that of a role that may do everything.`,
		Example: "  lockstep sandbox identities set identities.yaml",
		Args:    cli.Args(cobra.ExactArgs(1)),
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := aws.InlineIdentities(args[0])
			if err != nil {
				return cli.UsageError{Err: err}
			}
			return admin(cmd.Context(), name, http.MethodPut, "identities", text, nil)
		},
	}
	nameFlag(cmd, &name)
	return cmd
}
