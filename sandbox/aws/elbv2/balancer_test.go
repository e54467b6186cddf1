package elbv2

import (
	"testing"
	"testing/synctest"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// A load balancer that is made again is the same only if everything is that was asked for, its addresses among it; it still is after the
// account was kept and taken over.
func TestTheSameLoadBalancerAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "ideal", 1)
		defer a.Service.Close()
		home, err := a.network.AddInstance(zones[0], "home")
		if err != nil {
			t.Fatal(err)
		}
		subnet, ok := a.network.SubnetByID(home.Subnet)
		if !ok {
			t.Fatal("no subnet")
		}
		one := subnet.Prefix.Addr()
		for range 100 {
			one = one.Next()
		}
		again := func(s *Service, address string) string {
			_, err := s.CreateLoadBalancer(reader, &elb.CreateLoadBalancerInput{
				Name: new("inner"), Type: types.LoadBalancerTypeEnumNetwork, Scheme: types.LoadBalancerSchemeEnumInternal,
				SubnetMappings: []types.SubnetMapping{{SubnetId: &home.Subnet, PrivateIPv4Address: &address}},
			})
			return code(err)
		}
		for i := range 2 {
			if got := again(a.Service, one.String()); got != "" {
				t.Errorf("call %d: %q", i, got)
			}
		}
		if got := again(a.Service, one.Next().String()); got != "DuplicateLoadBalancerName" {
			t.Errorf("at another address: %q", got)
		}
		text, err := a.Export()
		if err != nil {
			t.Fatal(err)
		}
		b := New(a.Service.config)
		defer b.Close()
		if err := b.Import(text); err != nil {
			t.Fatal(err)
		}
		if got := again(b, one.String()); got != "" {
			t.Errorf("after a restart: %q", got)
		}
	})
}

// A call that is refused half-way leaves the zones of a load balancer as they were, in their order.
func TestSubnetsThatAreRefusedChangeNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "ideal", 1)
		defer a.Service.Close()
		internal := func(in *elb.CreateLoadBalancerInput) { in.Scheme = types.LoadBalancerSchemeEnumInternal }
		lb := a.networkBalancer(internal)
		nodes := a.balancers[lb].nodes
		taken := nodes[0].address.String()
		narrow := a.networkBalancer(func(in *elb.CreateLoadBalancerInput) {
			internal(in)
			in.Name, in.Subnets = new("narrow"), in.Subnets[1:]
		})
		before := a.Balancers()
		_, err := a.SetSubnets(reader, &elb.SetSubnetsInput{LoadBalancerArn: &narrow, SubnetMappings: []types.SubnetMapping{
			{SubnetId: &nodes[0].subnet, PrivateIPv4Address: &taken}, {SubnetId: &nodes[2].subnet},
		}})
		if got := code(err); got != "ResourceInUse" {
			t.Errorf("an address that is taken: %q", got)
		}
		for i, after := range a.Balancers() {
			for j, n := range after.Nodes {
				if n != before[i].Nodes[j] {
					t.Errorf("%s had its node %d at %v and has it at %v", after.Name, j, before[i].Nodes[j], n)
				}
			}
		}
	})
}
