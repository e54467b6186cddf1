package elbv2

import (
	"testing"
	"testing/synctest"
	"time"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// An application load balancer can be the target of several groups, one for each port: nodes follow its move in all of them.
func TestAFrontOfTwoPortsFollows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "ideal", 1)
		defer a.Service.Close()
		web, lb := a.balancerARN(), a.networkBalancer()
		groups := map[string]string{}
		for port, name := range map[int32]string{80: "plain", 443: "secured", 8080: "other"} {
			retry(a, a.CreateListener, &elb.CreateListenerInput{LoadBalancerArn: &web, Port: &port, Protocol: types.ProtocolEnumHttp, DefaultActions: fixedAction()})
			groups[name] = *retry(a, a.CreateTargetGroup, &elb.CreateTargetGroupInput{
				Name: &name, Protocol: types.ProtocolEnumTcp, Port: &port, VpcId: new(a.network.VPC()), TargetType: types.TargetTypeEnumAlb,
			}).TargetGroups[0].TargetGroupArn
			retry(a, a.CreateListener, &elb.CreateListenerInput{LoadBalancerArn: &lb, Port: &port, Protocol: types.ProtocolEnumTcp, DefaultActions: split([]string{groups[name]}, 1)})
			a.register(groups[name], []types.TargetDescription{{Id: &web}})
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		var subnets []string
		left := a.balancers[web].nodes[0].address
		for _, n := range a.balancers[web].nodes[1:] {
			subnets = append(subnets, n.subnet)
		}
		retry(a, a.SetSubnets, &elb.SetSubnetsInput{LoadBalancerArn: &web, Subnets: subnets})
		time.Sleep(time.Minute)
		synctest.Wait()
		for name, group := range groups {
			if got := a.balancers[lb].nodes[0].traffic.(*recorder).known(group).Targets[0].Address; got == left {
				t.Errorf("group %s: a node goes on to %s, which the load balancer has left", name, got)
			}
		}
	})
}
