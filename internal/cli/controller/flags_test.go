package controller

import (
	"errors"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/lockstep-delivery/lockstep/internal/cli"
)

// A wrong flag is told in one line that names it, before anything is tried, and exits with 2.
func TestWrongFlags(t *testing.T) {
	right := []string{"--cluster-name", "shop", "--aws-vpc-id", "vpc-1"}
	for _, c := range []struct {
		flags []string
		named string
	}{
		{[]string{"--settle-time", "0"}, "--settle-time"},
		{[]string{"--settle-time", "-1s"}, "--settle-time"},
		{[]string{"--settle-time", "soon"}, "--settle-time"},
		{[]string{"--controllers", "both"}, "--controllers"},
		{[]string{"--controllers", ""}, "--controllers"},
		{[]string{"--cluster-name", ""}, "--cluster-name"},
		{[]string{"--default-target-type", "pod"}, "--default-target-type"},
		{[]string{"--default-load-balancer-scheme", "public"}, "--default-load-balancer-scheme"},
		{[]string{"--webhook-bind-port", "65536"}, "--webhook-bind-port"},
		{[]string{"--webhook-service", "lockstep:443"}, "--webhook-service"},
		{[]string{"--aws-api-endpoints", "ELB=http://127.0.0.1:4566"}, "--aws-api-endpoints"},
		{[]string{"--aws-api-endpoints", "EC2=127.0.0.1:4566"}, "--aws-api-endpoints"},
		{[]string{"--log-level", "loud"}, "--log-level"},
		{[]string{"--backend-security-group", "shared"}, "--backend-security-group"},
		{[]string{"--default-ssl-policy", ""}, "--default-ssl-policy"},
		{[]string{"--default-tags", "elbv2.k8s.aws/cluster=other"}, "--default-tags"},
		{[]string{"--external-managed-tags", "ingress.k8s.aws/stack"}, "--external-managed-tags"},
		{[]string{"--external-managed-tags", "team", "--default-tags", "team=shop"}, "--external-managed-tags"},
		{[]string{"--sync-period", "0s"}, "--sync-period"},
		{[]string{"--ingress-max-concurrent-reconciles", "0"}, "--ingress-max-concurrent-reconciles"},
		{[]string{"--targetgroupbinding-max-concurrent-reconciles", "-1"}, "--targetgroupbinding-max-concurrent-reconciles"},
		{[]string{"--targetgroupbinding-requeue-duration", "0"}, "--targetgroupbinding-requeue-duration"},
		{[]string{"--tolerate-non-existent-backend-action=perhaps"}, "--tolerate-non-existent-backend-action"},
		{[]string{"--feature-gates", "ALBSingleSubnet=on"}, "--feature-gates"},
		{[]string{"--leader-election-id", ""}, "--leader-election-id"},
		{[]string{"--aws-max-retries", "many"}, "--aws-max-retries"},
		{[]string{"--no-such-flag"}, "--no-such-flag"},
		{[]string{"argument"}, "argument"},
	} {
		t.Run(strings.Join(c.flags, " "), func(t *testing.T) {
			root := &cobra.Command{Use: "lockstep"}
			root.AddCommand(New(cli.Streams{}))
			cli.Prepare(root)
			root.SetArgs(append(append([]string{"controller"}, right...), c.flags...))
			err := root.ExecuteContext(t.Context())
			var usage cli.UsageError
			if !errors.As(err, &usage) || !strings.Contains(err.Error(), c.named) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%v", err)
			}
		})
	}
}
