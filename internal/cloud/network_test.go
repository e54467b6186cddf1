package cloud_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

func TestTheNetworkIsRead(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	c := a.connect(t, cloud.Settings{})
	ctx := t.Context()
	if vpc := c.VPC(); !slices.Equal(vpc.CIDRs, []string{"10.78.0.0/16"}) {
		t.Errorf("VPC %+v", vpc)
	}
	subnets := must(c.Subnets(ctx))(t)
	public, zones := 0, map[string]bool{}
	for _, subnet := range subnets {
		zones[subnet.Zone] = true
		if subnet.Public {
			public++
		}
	}
	if len(subnets) != 6 || public != 3 || len(zones) != 3 {
		t.Errorf("%d subnets in %d zones, %d of them public: %+v", len(subnets), len(zones), public, subnets)
	}
	instance := must(a.EC2().AddInstance("eu-west-1a", "node"))(t)
	pod := must(a.EC2().AssignPodAddress(instance.ID))(t)
	byAddress := must(c.NetworkInterfacesByAddress(ctx, []string{pod.String(), "10.78.255.1"}))(t)
	byInstance := must(c.NetworkInterfacesByInstance(ctx, []string{instance.ID}))(t)
	if len(byAddress) != 1 || len(byInstance) != 1 || byAddress[0].InstanceID != instance.ID || !slices.Contains(byAddress[0].Addresses, pod.String()) ||
		!slices.Equal(byAddress[0].Groups, []string{a.EC2().NodeSecurityGroup()}) {
		t.Errorf("interfaces by address %+v, by instance %+v", byAddress, byInstance)
	}
	before := a.calls("Describe")
	must(c.NetworkInterfacesByAddress(ctx, []string{pod.String()}))(t)
	must(c.Subnets(ctx))(t)
	if n := a.calls("Describe") - before; n != 0 {
		t.Errorf("asking again made %d calls", n)
	}
	id := must(c.CreateSecurityGroup(ctx, model.SecurityGroup{Name: "backend", Description: "d", Tags: map[string]string{
		model.TagCluster: "test", model.TagBackendResource: model.BackendSecurityGroup, "Name": "shared"}}))(t)
	byTag := must(c.SecurityGroupsByTag(ctx, map[string]string{model.TagCluster: "test", model.TagBackendResource: model.BackendSecurityGroup}))(t)
	byName := must(c.SecurityGroupsByName(ctx, []string{"shared"}))(t)
	if len(byTag) != 1 || len(byName) != 1 || byTag[0].GroupID != id || byName[0].GroupID != id {
		t.Errorf("by tag %+v, by name %+v", byTag, byName)
	}
}

// The SDK's default chain finds endpoint, region and credentials in the environment, as any tool's does.
func TestTheDefaultChainIsHonoured(t *testing.T) {
	a := newAccount(t)
	for key, value := range map[string]string{
		"AWS_ENDPOINT_URL": a.endpoint, "AWS_REGION": "eu-west-1",
		"AWS_ACCESS_KEY_ID": aws.DefaultAccessKeyID, "AWS_SECRET_ACCESS_KEY": aws.DefaultSecretAccessKey,
	} {
		t.Setenv(key, value)
	}
	c, err := cloud.New(t.Context(), cloud.Config{ClusterName: "test", VPCID: a.EC2().VPC()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	observed := must(c.Stack(t.Context(), stackID))(t)
	if diff := cmp.Diff(model.Observed{Complete: true}, observed); diff != "" {
		t.Error(diff)
	}
	_, err = cloud.New(t.Context(), cloud.Config{ClusterName: "test", VPCID: "vpc-00000000000000000"})
	if !errors.Is(err, cloud.ErrNotFound) || !strings.Contains(err.Error(), "vpc-00000000000000000") {
		t.Errorf("an unknown VPC gives %v", err)
	}
	t.Setenv("AWS_SECRET_ACCESS_KEY", "wrong")
	if _, err = cloud.New(t.Context(), cloud.Config{ClusterName: "test", VPCID: a.EC2().VPC()}); !errors.Is(err, cloud.ErrDenied) {
		t.Errorf("wrong credentials give %v", err)
	}
}
