package elbv2

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// walk is a random history of calls on one load balancer.
type walk struct {
	*account
	random    *rand.Rand
	balancer  string
	groups    []string
	addresses []string
	subnets   []string
	// layer4 is a walk on a Network Load Balancer.
	layer4 bool
}

// step makes one random call. What AWS refuses (a priority in use, a group in use, a stale read) is part
// of the history.
func (w *walk) step() (string, error) {
	pick := func(list []string) *string { return new(list[w.random.IntN(len(list))]) }
	var listeners, rules []string
	w.mu.Lock()
	for arn := range w.Service.listeners {
		listeners = append(listeners, arn)
	}
	for arn, one := range w.Service.rules {
		if one != one.listener.byDefault {
			rules = append(rules, arn)
		}
	}
	w.mu.Unlock()
	slices.Sort(listeners)
	slices.Sort(rules)
	listeners, rules = append(listeners, "arn:listener/none"), append(rules, "arn:listener-rule/none")
	reader := eventual.Reader{Caller: "walk"}
	targets := []types.TargetDescription{{Id: pick(w.addresses)}, {Id: pick(w.addresses)}}
	actions := split(w.groups[w.random.IntN(len(w.groups)-1):], w.random.Int32N(3), w.random.Int32N(3))
	var err error
	operation := []string{
		"CreateListener", "DeleteListener", "ModifyListener", "CreateRule", "ModifyRule", "DeleteRule", "SetRulePriorities", "RegisterTargets",
		"RegisterTargets", "DeregisterTargets", "ModifyTargetGroup", "ModifyTargetGroupAttributes", "ModifyLoadBalancerAttributes", "SetSubnets",
	}[w.random.IntN(14)]
	switch operation {
	case "CreateListener":
		protocol := types.ProtocolEnumHttp
		if w.layer4 {
			protocol = types.ProtocolEnumTcp
		}
		_, err = w.CreateListener(reader, &elb.CreateListenerInput{LoadBalancerArn: &w.balancer, Port: new(80 + w.random.Int32N(2)), Protocol: protocol, DefaultActions: actions})
	case "DeleteListener":
		if w.random.IntN(4) == 0 {
			_, err = w.DeleteListener(reader, &elb.DeleteListenerInput{ListenerArn: pick(listeners)})
		}
	case "ModifyListener":
		_, err = w.ModifyListener(reader, &elb.ModifyListenerInput{ListenerArn: pick(listeners), DefaultActions: actions})
	case "CreateRule":
		_, err = w.CreateRule(reader, &elb.CreateRuleInput{ListenerArn: pick(listeners), Priority: new(1 + w.random.Int32N(5)), Actions: actions,
			Conditions: []types.RuleCondition{{Field: new("path-pattern"), Values: []string{fmt.Sprint("/", w.random.IntN(9))}}}})
	case "ModifyRule":
		_, err = w.ModifyRule(reader, &elb.ModifyRuleInput{RuleArn: pick(rules), Actions: actions})
	case "DeleteRule":
		_, err = w.DeleteRule(reader, &elb.DeleteRuleInput{RuleArn: pick(rules)})
	case "SetRulePriorities":
		_, err = w.SetRulePriorities(reader, &elb.SetRulePrioritiesInput{RulePriorities: []types.RulePriorityPair{{RuleArn: pick(rules), Priority: new(1 + w.random.Int32N(5))}}})
	case "RegisterTargets":
		_, err = w.RegisterTargets(reader, &elb.RegisterTargetsInput{TargetGroupArn: pick(w.groups), Targets: targets})
	case "DeregisterTargets":
		_, err = w.DeregisterTargets(reader, &elb.DeregisterTargetsInput{TargetGroupArn: pick(w.groups), Targets: targets})
	case "ModifyTargetGroup":
		_, err = w.ModifyTargetGroup(reader, &elb.ModifyTargetGroupInput{TargetGroupArn: pick(w.groups), HealthCheckIntervalSeconds: new(6 + w.random.Int32N(50))})
	case "ModifyTargetGroupAttributes":
		_, err = w.ModifyTargetGroupAttributes(reader, &elb.ModifyTargetGroupAttributesInput{TargetGroupArn: pick(w.groups), Attributes: []types.TargetGroupAttribute{
			{Key: new("deregistration_delay.timeout_seconds"), Value: new(fmt.Sprint(w.random.IntN(3) * 20))},
		}})
	case "ModifyLoadBalancerAttributes":
		attribute := types.LoadBalancerAttribute{Key: new("idle_timeout.timeout_seconds"), Value: new(fmt.Sprint(1 + w.random.IntN(100)))}
		if w.layer4 {
			attribute = types.LoadBalancerAttribute{Key: new("load_balancing.cross_zone.enabled"), Value: new(fmt.Sprint(w.random.IntN(2) == 0))}
		}
		_, err = w.ModifyLoadBalancerAttributes(reader, &elb.ModifyLoadBalancerAttributesInput{LoadBalancerArn: &w.balancer, Attributes: []types.LoadBalancerAttribute{attribute}})
	case "SetSubnets":
		if w.random.IntN(4) == 0 {
			w.random.Shuffle(len(w.subnets), func(i, j int) { w.subnets[i], w.subnets[j] = w.subnets[j], w.subnets[i] })
			_, err = w.SetSubnets(reader, &elb.SetSubnetsInput{LoadBalancerArn: &w.balancer, Subnets: w.subnets[:2+w.random.IntN(2)]})
		}
	}
	return operation, err
}

// Whatever is called, in whatever order changes reach the nodes: in the end every node acts on exactly what
// the API says, and nothing is left of what is gone.
func TestNodesConvergeToTheAPI(t *testing.T) {
	outcomes := map[string]int{}
	for seed := range uint64(60) {
		synctest.Test(t, func(t *testing.T) {
			w := &walk{layer4: seed%3 == 2, account: newAccount(t, []string{"typical", "pessimistic", "ideal"}[seed/3%3], seed), random: rand.New(rand.NewPCG(seed, 1))}
			defer w.Service.Close()
			for _, name := range []string{"a", "b", "c"} {
				if w.layer4 {
					w.groups = append(w.groups, w.networkGroup(name, types.ProtocolEnumTcp, types.TargetTypeEnumIp))
				} else {
					w.groups = append(w.groups, w.groupARN(name))
				}
			}
			if w.layer4 {
				w.balancer = w.networkBalancer()
			} else {
				w.balancer = w.balancerARN()
			}
			for i := range 6 {
				pod, err := w.network.AddInstance(zones[i%3], fmt.Sprint("pod-", i))
				if err != nil {
					t.Fatal(err)
				}
				w.addresses = append(w.addresses, pod.Address.String())
				if i < 3 {
					w.subnets = append(w.subnets, pod.Subnet)
				}
			}
			for range 150 {
				operation, err := w.step()
				var refused *wire.Error
				switch {
				case err == nil:
					outcomes[operation]++
				case errors.As(err, &refused):
					outcomes[operation+" "+refused.Code]++
				default:
					t.Fatal(err)
				}
				time.Sleep(time.Duration(w.random.Int64N(int64(10 * time.Second))))
			}
			time.Sleep(time.Hour)
			synctest.Wait()
			w.checkNodes(seed)
		})
		if t.Failed() {
			break
		}
	}
	for _, operation := range []string{"CreateRule", "SetRulePriorities", "SetSubnets", "DeregisterTargets", "DeleteListener", "CreateRule PriorityInUse", "CreateRule ListenerNotFound", "CreateRule UnsupportedProtocol"} {
		if outcomes[operation] == 0 {
			t.Errorf("in no walk did it come to %s: %v", operation, outcomes)
		}
	}
}

func (w *walk) checkNodes(seed uint64) {
	w.Helper()
	lb := w.balancers[w.balancer]
	if len(lb.leaving) > 0 || len(lb.nodes) < 2 {
		w.Fatalf("seed %d: %d nodes, %d still leaving", seed, len(lb.nodes), len(lb.leaving))
	}
	fresh := &node{balancer: lb, zone: "truth", listeners: map[string]listenerDocument{}, groups: map[string]*nodeGroup{}, lanes: map[string]int{}, attributes: lb.attributes}
	w.catchUp(fresh)
	config, _ := w.nodeConfig(fresh)
	byArn := cmpopts.SortSlices(func(a, b dataplane.Listener) bool { return a.ARN < b.ARN })
	byRule := cmpopts.SortSlices(func(a, b dataplane.Rule) bool { return a.ARN < b.ARN })
	for _, n := range lb.nodes {
		told := n.traffic.(*recorder)
		last, _ := told.last()
		if diff := cmp.Diff(config, last, byArn, byRule, cmpopts.IgnoreFields(dataplane.NodeConfig{}, "Version")); diff != "" {
			w.Fatalf("seed %d: node of %s (-API +node):\n%s", seed, n.zone, diff)
		}
		for _, arn := range w.groups {
			g := w.targetGroups[arn]
			if !g.inUse() {
				if told.groups[arn].ARN != "" {
					w.Fatalf("seed %d: node of %s still has group %s", seed, n.zone, g.name)
				}
				continue
			}
			if len(g.targets) == 0 && told.groups[arn].ARN == "" {
				continue // nobody told the node of a group without targets, but a listener must not refer to it
			}
			want, got := settingsOf(g).dataplane(arn, 0, lb.attributes), told.groups[arn]
			if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(dataplane.Group{}, "Version")); diff != "" {
				w.Fatalf("seed %d: node of %s, group %s (-API +node):\n%s", seed, n.zone, g.name, diff)
			}
			keys := func(yield func(string) bool) {
				for _, t := range told.targets[arn].Targets {
					if !yield(fmt.Sprint(t.ID, t.State)) {
						return
					}
				}
			}
			var registered []string
			for _, t := range g.targets {
				if lb.serves(t.zone) {
					registered = append(registered, fmt.Sprint(t.key.ID, dataplane.Registered))
				}
			}
			slices.Sort(registered)
			if diff := cmp.Diff(registered, slices.Sorted(keys), cmpopts.EquateEmpty()); diff != "" {
				w.Fatalf("seed %d: node of %s, targets of group %s (-API +node):\n%s", seed, n.zone, g.name, diff)
			}
		}
	}
}
