package cloud_test

import (
	"log/slog"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
	"github.com/lockstep-delivery/lockstep/internal/cloud/budget"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

// What controllers of version 1 made carries another cluster tag and is this cluster's nevertheless.
func TestStacksOfVersionOneAreFound(t *testing.T) {
	t.Parallel()
	a := newAccount(t)
	c := a.connect(t, cloud.Settings{})
	w := create(t, c)
	for _, resource := range []string{w.lb, w.stable, w.canary, w.groupID} {
		check(t, c.AddTags(t.Context(), resource, map[string]string{model.TagLegacyCluster: "test"}))
		check(t, c.RemoveTags(t.Context(), resource, []string{model.TagCluster}))
	}
	for cluster, found := range map[string]bool{"test": true, "other": false} {
		c, err := cloud.New(t.Context(), cloud.Config{
			ClusterName: cluster, VPCID: a.EC2().VPC(), Region: "eu-west-1", Logger: slog.New(slog.DiscardHandler),
			Endpoints:   map[string]string{budget.ELBv2: a.endpoint, budget.EC2: a.endpoint},
			Credentials: credentials.NewStaticCredentialsProvider(aws.DefaultAccessKeyID, aws.DefaultSecretAccessKey, ""),
		})
		check(t, err)
		defer c.Close()
		observed := must(c.Stack(t.Context(), stackID))(t)
		balancers, groups, walls := len(observed.LoadBalancers), len(observed.TargetGroups), len(observed.SecurityGroups)
		if found && (balancers != 1 || groups != 2 || walls != 1) || !found && balancers+groups+walls > 0 {
			t.Errorf("cluster %s has %d load balancers, %d target groups and %d security groups", cluster, balancers, groups, walls)
		}
	}
}

// A resource that has both tags belongs to whom the newer one names.
func TestTheNewerClusterTagWins(t *testing.T) {
	tags := map[string]string{model.TagLegacyCluster: "before", model.TagCluster: "now"}
	if got := model.ClusterOf(tags); got != "now" {
		t.Errorf("it belongs to %s", got)
	}
}
