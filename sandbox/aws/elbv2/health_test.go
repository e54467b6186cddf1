package elbv2

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
)

// A target that fails again and again in a long interval is waited for once.
func TestFlappingTargetsAreWaitedForOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "ideal", 1)
		defer a.Service.Close()
		group := a.networkGroup("web", types.ProtocolEnumTcp, types.TargetTypeEnumIp)
		for _, pair := range [][2]string{{"target_health_state.unhealthy.connection_termination.enabled", "false"}, {"target_health_state.unhealthy.draining_interval_seconds", "360000"}} {
			if err := a.setAttribute(group, pair[0], pair[1]); err != nil {
				t.Fatal(err)
			}
		}
		a.networkListener(a.networkBalancer(), types.ProtocolEnumTcp, split([]string{group}, 1))
		a.register(group, []types.TargetDescription{{Id: new("10.9.0.9")}})
		time.Sleep(time.Minute)
		synctest.Wait()
		for i := range 100 {
			state := []dataplane.HealthState{dataplane.Unhealthy, dataplane.Healthy}[i%2]
			for _, zone := range zones {
				a.node(zone).spec.Health(dataplane.HealthChange{
					Group: group, Zone: zone, Target: dataplane.TargetKey{ID: "10.9.0.9", Port: 80}, TargetHealth: dataplane.TargetHealth{State: state},
				})
			}
			time.Sleep(time.Minute)
		}
		synctest.Wait()
		a.Service.mu.Lock()
		waiting := len(a.timers)
		a.Service.mu.Unlock()
		if waiting > 1 {
			t.Errorf("%d timers wait for one target", waiting)
		}
	})
}
