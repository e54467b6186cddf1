package controller

import (
	"errors"
	"strings"
	"testing"

	"github.com/lockstep-delivery/lockstep/internal/cli"
)

func TestVariablesStandForFlagsThatAreNotGiven(t *testing.T) {
	var o options
	cmd := New(cli.Streams{})
	cmd.ResetFlags()
	o.bind(cmd)
	if err := cmd.ParseFlags([]string{"--cluster-name", "given"}); err != nil {
		t.Fatal(err)
	}
	variables := map[string]string{
		"LOCKSTEP_CLUSTER_NAME": "other", "LOCKSTEP_AWS_VPC_ID": "vpc-1", "LOCKSTEP_WEBHOOK_BIND_PORT": "0", "LOCKSTEP_INGRESS_CLASS": "",
	}
	if err := fromEnvironment(cmd.Flags(), func(name string) string { return variables[name] }); err != nil {
		t.Fatal(err)
	}
	if o.clusterName != "given" || o.vpcID != "vpc-1" || o.webhookPort != 0 || o.ingressClass != "alb" {
		t.Errorf("cluster %q, VPC %q, port %d, class %q", o.clusterName, o.vpcID, o.webhookPort, o.ingressClass)
	}
}

func TestAWrongVariableIsAUsageErrorThatNamesIt(t *testing.T) {
	cmd := New(cli.Streams{})
	err := fromEnvironment(cmd.Flags(), func(name string) string {
		return map[string]string{"LOCKSTEP_SETTLE_TIME": "soon"}[name]
	})
	var usage cli.UsageError
	if !errors.As(err, &usage) || !strings.Contains(err.Error(), "LOCKSTEP_SETTLE_TIME") {
		t.Errorf("%v", err)
	}
}
