package elbv2

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// Pods come and go at other addresses for as long as an account lives: nodes do not remember them all, and still drain those that leave.
func TestNodesForgetTargetsThatHaveLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "typical", 1)
		defer a.Service.Close()
		lb, group := a.balancerARN(), a.groupARN("web")
		a.listenerARN(lb, split([]string{group}, 1))
		time.Sleep(10 * time.Minute)
		if err := a.setAttribute(group, "deregistration_delay.timeout_seconds", "30"); err != nil {
			t.Fatal(err)
		}
		const rounds, pods = 40, 50
		most := 0
		for round := range rounds {
			var targets []types.TargetDescription
			for pod := range pods {
				targets = append(targets, types.TargetDescription{Id: new(fmt.Sprintf("192.168.%d.%d", round, pod+1)), AvailabilityZone: new("all")})
			}
			a.register(group, targets)
			time.Sleep(20 * time.Second) // less than a change may take: there is always one on its way
			retry(a, a.DeregisterTargets, &elb.DeregisterTargetsInput{TargetGroupArn: &group, Targets: targets})
			a.Service.mu.Lock()
			for _, n := range a.balancers[lb].nodes {
				most = max(most, len(n.lanes))
			}
			a.Service.mu.Unlock()
		}
		if most > rounds*pods/2 {
			t.Errorf("a node remembers %d things of %d targets, of which at most %d were there at once", most, rounds*pods, 5*pods)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		for _, zone := range zones {
			if left := a.node(zone).known(group).Targets; len(left) != 0 {
				t.Errorf("the node of %s still has %d targets", zone, len(left))
			}
		}
	})
}
