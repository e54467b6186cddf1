package consistency

import (
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
)

// lane is a listener on one node, or of a load balancer if there is no zone. Changes of its rules are changes of it.
type lane struct{ balancer, zone, listener string }

// laneOf is the lane of a change as the journal names it; ok is false for a change that is not one of listeners and rules.
func laneOf(balancer, change string) (lane, bool) {
	_, arn, _ := strings.Cut(change, " ")
	switch {
	case strings.Contains(arn, ":listener-rule/"):
		return lane{balancer: balancer, listener: listenerOf(arn)}, true
	case strings.Contains(arn, ":listener/"):
		return lane{balancer: balancer, listener: arn}, true
	}
	return lane{}, false
}

// lag is the longest time that a change may be under way to a node; ok is false for changes that nothing is claimed of.
func (h *History) lag(balancer, change string) (longest time.Duration, ok bool) {
	either := func(application profile.Key, network ...profile.Key) time.Duration {
		if strings.Contains(balancer, "/app/") {
			return h.most(application)
		}
		for _, key := range network {
			longest = max(longest, h.most(key))
		}
		return longest
	}
	operation, _, _ := strings.Cut(change, " ")
	switch _, listener := laneOf(balancer, change); {
	case listener:
		return either(profile.ALBRuleChange, profile.NLBListenerChange, profile.NLBWeightChange), true
	case operation == "RegisterTargets":
		return either(profile.ALBRegister, profile.NLBRegister), true
	case operation == "DeregisterTargets":
		return either(profile.ALBDeregister, profile.NLBDeregister), true
	}
	return 0, false
}

// checkApplied holds what the journal says of nodes to the claims on order and lag. It needs no look into nodes, so that it counts for Network
// Load Balancers as well.
func (h *History) checkApplied() []Violation {
	var found []Violation
	newest := map[lane]int{}
	zones := map[string]map[string]bool{}
	taken := map[lane][]int{} // places in h.Applied
	for i, a := range h.Applied {
		if zones[a.LoadBalancer] == nil {
			zones[a.LoadBalancer] = map[string]bool{}
		}
		zones[a.LoadBalancer][a.Zone] = true
		if a.Taken.Before(a.Called) {
			found = append(found, violated("order", "node of %s took %s before it was accepted", a.Zone, a.Change))
		}
		if longest, ok := h.lag(a.LoadBalancer, a.Change); ok && a.Taken.After(a.Called.Add(longest)) {
			found = append(found, violated("lag", "node of %s took %s %s after it was accepted", a.Zone, a.Change, a.Taken.Sub(a.Called)))
		}
		at, ok := laneOf(a.LoadBalancer, a.Change)
		if !ok {
			continue
		}
		at.zone = a.Zone
		if a.Number < newest[at] {
			found = append(found, violated("order", "node of %s took change %d, %s, after change %d", a.Zone, a.Number, a.Change, newest[at]))
		}
		newest[at] = max(newest[at], a.Number)
		taken[at] = append(taken[at], i)
	}
	return append(found, h.checkArrived(zones, taken)...)
}

// checkArrived looks for changes that no node of a zone has taken in time, nor a newer one in their place.
func (h *History) checkArrived(zones map[string]map[string]bool, taken map[lane][]int) []Violation {
	var found []Violation
	ended := map[string]time.Time{}
	for i := range h.Calls {
		if c := &h.Calls[i]; c.Operation == "DeleteLoadBalancer" && c.Code == "" {
			ended[c.Parameters["LoadBalancerArn"]] = c.Received
		}
	}
	for _, a := range h.Accepted {
		longest, ok := h.lag(a.LoadBalancer, a.Change)
		at, listener := laneOf(a.LoadBalancer, a.Change)
		due := a.Called.Add(longest)
		if end, gone := ended[a.LoadBalancer]; !ok || !listener || !due.Before(h.End) || gone && end.Before(due) {
			continue
		}
		for _, zone := range slices.Sorted(maps.Keys(zones[a.LoadBalancer])) {
			at.zone = zone
			if !slices.ContainsFunc(taken[at], func(i int) bool { return h.Applied[i].Number >= a.Number && !h.Applied[i].Taken.After(due) }) {
				found = append(found, violated("lag", "node of %s has not taken change %d, %s, nor a newer one, %s after it was accepted", zone, a.Number, a.Change, longest))
			}
		}
	}
	return found
}
