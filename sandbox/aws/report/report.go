// Package report makes CloudWatch metrics of what the nodes of load balancers have counted.
//
// Nodes count from their beginning; a Reporter is shown the counts again and again and reports what has
// come since. Each metric has the dimension sets that AWS publishes: load balancer, and target group, each
// also by availability zone. Not reported, because no node counts it: TargetResponseTime, connection
// counts and processed bytes of an application load balancer, consumed capacity, packets, rule evaluations.
package report

import (
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/cloudwatch"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
)

// Reporter remembers what it has been shown. It must not be used by several goroutines at once.
type Reporter struct {
	before, now map[string]uint64
	samples     []cloudwatch.Sample
}

// New returns a reporter that has seen nothing: what nodes have counted until its first look is reported then.
func New() *Reporter { return &Reporter{before: map[string]uint64{}} }

// Samples are what has come since the last look, and the health of targets as it is.
func (r *Reporter) Samples(stats []dataplane.Stats) []cloudwatch.Sample {
	r.now, r.samples = map[string]uint64{}, nil
	for _, node := range stats {
		n := subject{reporter: r, namespace: cloudwatch.ApplicationELB, balancer: cloudwatch.LoadBalancer(node.LoadBalancer), zone: node.Zone}
		if node.Network != nil {
			n.namespace = cloudwatch.NetworkELB
			n.network(node.Network)
		} else {
			n.application(node)
		}
		n.targets(node.Targets, node.Network == nil)
	}
	r.before = r.now
	return r.samples
}

// subject is what a sample is about: a node, or one target group on it.
type subject struct {
	reporter                         *Reporter
	namespace, balancer, zone, group string
}

// grown is what a counter has grown by. A counter that is smaller than before has begun anew.
func (s subject) grown(name string, total uint64) uint64 {
	key := strings.Join([]string{s.balancer, s.zone, s.group, name}, " ")
	s.reporter.now[key] = total
	if before := s.reporter.before[key]; before <= total {
		return total - before
	}
	return total
}

// count reports a counter: nothing if it has not grown, unless it is always reported.
func (s subject) count(name string, total uint64, always bool) {
	if n := s.grown(name, total); n > 0 || always {
		s.add(name, types.StandardUnitCount, float64(n))
	}
}

// add reports a value in all dimension sets.
func (s subject) add(name string, unit types.StandardUnit, value float64) {
	sets := []cloudwatch.Dimensions{{"LoadBalancer": s.balancer}, {"LoadBalancer": s.balancer, "AvailabilityZone": s.zone}}
	for _, d := range sets {
		if s.group != "" {
			d["TargetGroup"] = s.group
		}
		s.reporter.samples = append(s.reporter.samples, cloudwatch.Sample{
			Namespace: s.namespace, Name: name, Dimensions: d, Unit: unit, Values: []float64{value},
		})
	}
}

// application reports what an application load balancer's node counts itself.
func (s subject) application(node dataplane.Stats) {
	classes := map[int]uint64{}
	for status, n := range node.Generated {
		classes[status/100] += n
		switch status {
		case 500, 502, 503, 504:
			s.count(fmt.Sprintf("HTTPCode_ELB_%d_Count", status), n, false)
		}
	}
	for class, n := range classes {
		s.count(fmt.Sprintf("HTTPCode_ELB_%dXX_Count", class), n, false)
	}
	s.count("HTTP_Fixed_Response_Count", node.Fixed, false)
	s.count("HTTP_Redirect_Count", node.Redirects, false)
}

// network reports what a network load balancer's node counts.
func (s subject) network(n *dataplane.NetworkStats) {
	sum := func(by map[dataplane.Protocol]uint64) (all uint64) {
		for _, count := range by {
			all += count
		}
		return all
	}
	s.add("ActiveFlowCount", types.StandardUnitCount, float64(sum(n.ActiveFlows)))
	s.count("NewFlowCount", sum(n.NewFlows), true)
	s.add("ProcessedBytes", types.StandardUnitBytes, float64(s.grown("ProcessedBytes", sum(n.ProcessedBytes))))
	for protocol, flows := range n.ActiveFlows {
		s.add("ActiveFlowCount_"+string(protocol), types.StandardUnitCount, float64(flows))
	}
	for protocol, flows := range n.NewFlows {
		s.count("NewFlowCount_"+string(protocol), flows, false)
	}
	for protocol, bytes := range n.ProcessedBytes {
		name := "ProcessedBytes_" + string(protocol)
		s.add(name, types.StandardUnitBytes, float64(s.grown(name, bytes)))
	}
	s.count("TCP_Client_Reset_Count", n.ClientResets, true)
	s.count("TCP_Target_Reset_Count", n.TargetResets, true)
	s.count("TCP_ELB_Reset_Count", n.ELBResets, true)
	s.count("ClientTLSNegotiationErrorCount", n.ClientTLSErrors, false)
	s.count("TargetTLSNegotiationErrorCount", n.TargetTLSErrors, false)
	s.count("PortAllocationErrorCount", n.PortAllocationErrors, false)
	s.count("UnhealthyRoutingFlowCount", n.UnhealthyRoutingFlows, false)
	for protocol, flows := range n.BlockedInbound {
		s.count("SecurityGroupBlockedFlowCount_Inbound_"+string(protocol), flows, false)
	}
	for protocol, flows := range n.BlockedOutbound {
		s.count("SecurityGroupBlockedFlowCount_Outbound_"+string(protocol), flows, false)
	}
}

// groupCounts are the counters of a target group on a node.
type groupCounts struct {
	healthy, unhealthy      uint64
	requests, connectErrors uint64
	status                  [6]uint64
}

// targets reports the targets of each group, and for an application load balancer their requests.
func (s subject) targets(targets []dataplane.TargetStats, requests bool) {
	groups := map[string]*groupCounts{}
	whole := &groupCounts{}
	for _, t := range targets {
		g := groups[t.Group]
		if g == nil {
			g = &groupCounts{}
			groups[t.Group] = g
		}
		switch {
		case t.Gone:
		case t.Health.State == dataplane.Healthy:
			g.healthy++
		case t.Health.State == dataplane.Unhealthy:
			g.unhealthy++
		}
		for _, sum := range []*groupCounts{g, whole} {
			sum.requests += t.Usage.Requests
			sum.connectErrors += t.Usage.ConnectErrors
			for class, n := range t.Usage.Status {
				sum.status[class] += n
			}
		}
	}
	if requests {
		s.requests(whole, true)
	}
	for arn, g := range groups {
		one := s
		one.group = cloudwatch.LoadBalancer(arn)
		one.add("HealthyHostCount", types.StandardUnitCount, float64(g.healthy))
		one.add("UnHealthyHostCount", types.StandardUnitCount, float64(g.unhealthy))
		if requests {
			one.requests(g, false)
		}
	}
}

// requests reports those for which a target was chosen.
func (s subject) requests(g *groupCounts, always bool) {
	s.count("RequestCount", g.requests, always)
	s.count("TargetConnectionErrorCount", g.connectErrors, false)
	for class := 2; class <= 5; class++ {
		s.count(fmt.Sprintf("HTTPCode_Target_%dXX_Count", class), g.status[class], false)
	}
}
