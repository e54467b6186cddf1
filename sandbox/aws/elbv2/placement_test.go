package elbv2

import (
	"testing"
	"testing/synctest"
	"time"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
)

// A zone that is taken away serves on until it has heard of it, and learns what changes meanwhile; a
// zone that is added begins with everything that the load balancer has.
func TestZonesComeAndGo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "typical", 2)
		defer a.Service.Close()
		lb, group := a.balancerARN(), a.groupARN("api")
		listener := a.listenerARN(lb, split([]string{group}, 1))
		pod, err := a.network.AddInstance(zones[2], "pod")
		if err != nil {
			t.Fatal(err)
		}
		a.register(group, []types.TargetDescription{{Id: new(pod.Address.String())}})
		time.Sleep(10 * time.Minute)
		subnets := map[string]string{}
		for _, z := range retry(a, a.DescribeLoadBalancers, &elb.DescribeLoadBalancersInput{LoadBalancerArns: []string{lb}}).LoadBalancers[0].AvailabilityZones {
			subnets[*z.ZoneName] = *z.SubnetId
		}

		leaving := a.node(zones[2])
		retry(a, a.SetSubnets, &elb.SetSubnetsInput{LoadBalancerArn: &lb, Subnets: []string{subnets[zones[0]], subnets[zones[1]]}})
		a.wantHealth(group, "unused", "Target.NotInUse") // its zone is not enabled
		retry(a, a.ModifyListener, &elb.ModifyListenerInput{ListenerArn: &listener, DefaultActions: []types.Action{
			{Type: types.ActionTypeEnumFixedResponse, FixedResponseConfig: &types.FixedResponseActionConfig{StatusCode: new("204")}},
		}})
		time.Sleep(50 * time.Second) // a zone takes at least 60 s to go, a rule at most 40 s to arrive
		synctest.Wait()
		if last, ended := leaving.last(); ended || last.Listeners[0].Default.Fixed == nil || last.Listeners[0].Default.Fixed.Status != 204 {
			t.Errorf("the leaving node is closed: %v, and acts on %+v", ended, last.Listeners)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if _, ended := leaving.last(); !ended || len(a.Applied()) != 2 {
			t.Errorf("the node of a zone that was taken away is still there: %+v", a.Applied())
		}

		retry(a, a.ModifyListener, &elb.ModifyListenerInput{ListenerArn: &listener, DefaultActions: split([]string{group}, 1)})
		near, err := a.network.AddInstance(zones[0], "near")
		if err != nil {
			t.Fatal(err)
		}
		a.register(group, []types.TargetDescription{{Id: new(near.Address.String())}})
		time.Sleep(time.Minute)
		for _, zone := range zones[:2] {
			a.node(zone).spec.Health(dataplane.HealthChange{Group: group, Zone: zone, Target: dataplane.TargetKey{ID: near.Address.String(), Port: 8080}, TargetHealth: dataplane.TargetHealth{State: dataplane.Healthy}})
		}
		time.Sleep(3 * time.Second)
		state := func() types.TargetHealthStateEnum {
			return retry(a, a.DescribeTargetHealth, &elb.DescribeTargetHealthInput{
				TargetGroupArn: &group, Targets: []types.TargetDescription{{Id: new(near.Address.String())}},
			}).TargetHealthDescriptions[0].TargetHealth.State
		}
		if state() != types.TargetHealthStateEnumHealthy {
			t.Fatalf("a target that all nodes find healthy is %s", state())
		}
		retry(a, a.SetSubnets, &elb.SetSubnetsInput{LoadBalancerArn: &lb, Subnets: []string{subnets[zones[0]], subnets[zones[1]], subnets[zones[2]]}})
		if state() != types.TargetHealthStateEnumHealthy {
			t.Errorf("a target becomes %s because a zone is added", state())
		}
		retry(a, a.SetSubnets, &elb.SetSubnetsInput{LoadBalancerArn: &lb, Subnets: []string{subnets[zones[0]], subnets[zones[2]]}})
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		added := a.node(zones[2])
		if last, _ := added.last(); added == leaving || len(last.Listeners) != 1 {
			t.Error("the new node does not serve the listener")
		}
		if set := added.known(group); len(set.Targets) != 2 || set.Targets[0].State != dataplane.Registered {
			t.Errorf("the new node has targets %+v", set.Targets)
		}
	})
}
