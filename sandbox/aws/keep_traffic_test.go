package aws_test

import (
	"testing"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
)

// After a restart load balancers listen where they did, and serve the programs that are still there.
func TestTrafficGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	vpc, err := address.Claim()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = vpc.Release() })
	dir := t.TempDir()
	open := func() *world {
		return newWorld(t, func(c *aws.Config) { c.VPC, c.WithoutTraffic, c.DataDir = vpc.Mapping, false, dir })
	}
	first := open()
	lb := *first.loadBalancer("web").LoadBalancerArn
	first.letIn(lb)
	group := first.targetGroup("shop")
	first.register(group, first.outside("shop", "eu-west-1b").Address.String())
	first.rule(first.listener(lb, 80, fixed("404")), 1, forward(group))
	first.answers("shop")
	before := first.emulator.Endpoints()
	if err := first.emulator.Close(); err != nil {
		t.Fatal(err)
	}
	again := open()
	again.answers("shop")
	for i, node := range again.emulator.Endpoints()[0].Nodes {
		if node.Address != before[0].Nodes[i].Address || node.Real[80] != before[0].Nodes[i].Real[80] {
			t.Errorf("a node was at %v, and is at %v", before[0].Nodes[i], node)
		}
	}
}
