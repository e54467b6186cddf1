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
		{[]string{"--aws-vpc-id", ""}, "--aws-vpc-id"},
		{[]string{"--default-target-type", "pod"}, "--default-target-type"},
		{[]string{"--default-load-balancer-scheme", "public"}, "--default-load-balancer-scheme"},
		{[]string{"--webhook-bind-port", "65536"}, "--webhook-bind-port"},
		{[]string{"--webhook-service", "lockstep:443"}, "--webhook-service"},
		{[]string{"--aws-api-endpoints", "ELB=http://127.0.0.1:4566"}, "--aws-api-endpoints"},
		{[]string{"--aws-api-endpoints", "EC2=127.0.0.1:4566"}, "--aws-api-endpoints"},
		{[]string{"--log-level", "loud"}, "--log-level"},
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
