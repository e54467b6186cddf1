// Package report makes CloudWatch metrics of what the nodes of load balancers have counted.
//
// Nodes count from their beginning; a Reporter is shown the counts again and again and reports what has
// come since. Each metric has the dimension sets that AWS publishes: load balancer, and target group, each
// also by availability zone; those of requests also target group alone. Not reported: what belongs to features that are not
// modelled (Lambda, WAF, logs, QUIC), and the packets of a network load balancer.
//
// What is open at a moment (ActiveConnectionCount) and consumed capacity are reported at each look with the weight of the part of a minute
// between looks, so that Sum and Average over a minute are both what AWS shows. A capacity unit here is what is used per second of the
// dimension of which most is used; AWS bills by the hour.
package report

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/cloudwatch/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/cloudwatch"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
)

// Interval is how often a Reporter is to be shown the counts.
const Interval = 10 * time.Second

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
		n.targets(node, node.Network == nil)
	}
	r.before = r.now
	return r.samples
}

// subject is what a sample is about: a node, or one target group on it.
type subject struct {
	reporter                         *Reporter
	namespace, balancer, zone, group string
	alone                            bool // also by target group alone
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
	s.samples(cloudwatch.Sample{Name: name, Unit: unit, Values: []float64{value}})
}

// level reports what is so at the moment, as a part of a minute.
func (s subject) level(name string, unit types.StandardUnit, value float64) {
	s.samples(cloudwatch.Sample{Name: name, Unit: unit, Values: []float64{value}, Counts: []float64{Interval.Minutes()}})
}

func (s subject) samples(sample cloudwatch.Sample) {
	sample.Namespace = s.namespace
	sets := []cloudwatch.Dimensions{{"LoadBalancer": s.balancer}, {"LoadBalancer": s.balancer, "AvailabilityZone": s.zone}}
	if s.alone {
		sets = append(sets, cloudwatch.Dimensions{}, cloudwatch.Dimensions{"AvailabilityZone": s.zone})
	}
	for _, d := range sets {
		if s.group != "" {
			d["TargetGroup"] = s.group
		}
		sample.Dimensions = d
		s.reporter.samples = append(s.reporter.samples, sample)
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
	classes[3] += node.Redirects
	for class, n := range classes {
		if class == 5 || class == 4 || class == 3 {
			s.count(fmt.Sprintf("HTTPCode_ELB_%dXX_Count", class), n, false)
		}
	}
	for name, n := range map[string]uint64{
		"HTTP_Fixed_Response_Count": node.Fixed, "HTTP_Redirect_Count": node.Redirects, "HTTP_Redirect_Url_Limit_Exceeded_Count": node.RedirectsTooLong,
		"ClientTLSNegotiationErrorCount": node.ClientTLSErrors, "DesyncMitigationMode_NonCompliant_Request_Count": node.NonCompliant,
		"DroppedInvalidHeaderRequestCount": node.InvalidDropped, "ForwardedInvalidHeaderRequestCount": node.InvalidForwarded,
		"GrpcRequestCount": node.GRPC, "IPv6RequestCount": node.IPv6Requests, "NonStickyRequestCount": node.NonSticky,
		"RejectedConnectionCount": node.Rejected, "RuleEvaluations": node.RuleEvaluations,
	} {
		s.count(name, n, false)
	}
	made, bytes := s.grown("NewConnectionCount", node.NewConnections+node.NewTargetConnections), s.grown("ProcessedBytes", node.Processed)
	open := float64(node.ClientConnections + node.TargetConnections)
	if made > 0 {
		s.add("NewConnectionCount", types.StandardUnitCount, float64(made))
	}
	if bytes > 0 {
		s.add("ProcessedBytes", types.StandardUnitBytes, float64(bytes))
	}
	if open > 0 {
		s.level("ActiveConnectionCount", types.StandardUnitCount, open)
	}
	evaluated := float64(s.grown("evaluations for capacity", node.RuleEvaluations)) - 10*float64(s.grown("requests for capacity", node.Requests))
	seconds := Interval.Seconds()
	s.level("ConsumedLCUs", types.StandardUnitCount, max(
		float64(made)/seconds/25, open/3000, float64(bytes)/seconds*3600/1e9, evaluated/seconds/1000, 0))
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
	s.count("ProcessedPackets", n.Packets, false)
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
	healthy, unhealthy, registered     uint64
	anomalous, mitigated               uint64
	requests, connectErrors, tlsErrors uint64
	status                             [6]uint64
}

// targets reports the targets of each group, and for an application load balancer their requests.
func (s subject) targets(node dataplane.Stats, requests bool) {
	groups := map[string]*groupCounts{}
	whole := &groupCounts{}
	for _, t := range node.Targets {
		g := groups[t.Group]
		if g == nil {
			g = &groupCounts{}
			groups[t.Group] = g
		}
		g.take(t)
		for _, sum := range []*groupCounts{g, whole} {
			sum.requests += t.Usage.Requests + t.Usage.ConnectErrors + t.Usage.TLSErrors
			sum.connectErrors += t.Usage.ConnectErrors
			sum.tlsErrors += t.Usage.TLSErrors
			for class, n := range t.Usage.Status {
				sum.status[class] += n
			}
		}
	}
	if requests {
		s.requests(whole, true)
		var times []dataplane.Measured
		for _, g := range node.Groups {
			times = append(times, g.Times...)
		}
		s.times(times)
	}
	for arn, g := range groups {
		if arn == "" { // the sum of those that are long gone is of no group
			continue
		}
		one := s
		one.group = cloudwatch.LoadBalancer(arn)
		if g.registered > 0 { // without, nobody is checked
			one.add("HealthyHostCount", types.StandardUnitCount, float64(g.healthy))
			one.add("UnHealthyHostCount", types.StandardUnitCount, float64(g.unhealthy))
			if requests {
				one.health(g, node.Groups[arn])
			}
		}
		if requests {
			one.groupOf(g, node.Groups[arn])
		}
	}
}

// take counts a target by what it is at the moment.
func (g *groupCounts) take(t dataplane.TargetStats) {
	if t.Gone || t.Draining {
		return
	}
	g.registered++
	switch t.Health.State {
	case dataplane.Healthy:
		g.healthy++
	case dataplane.Unhealthy:
		g.unhealthy++
	}
	if t.Anomalous {
		g.anomalous++
	}
	if t.Mitigated {
		g.mitigated++
	}
}

// health reports what the health of its targets means for a target group of an application load balancer.
func (s subject) health(g *groupCounts, more dataplane.GroupStats) {
	s.add("AnomalousHostCount", types.StandardUnitCount, float64(g.anomalous))
	s.add("MitigatedHostCount", types.StandardUnitCount, float64(g.mitigated))
	for name, healthy := range map[string]bool{"Routing": more.Routing, "DNS": more.DNS} {
		yes, no := 1.0, 0.0
		if !healthy {
			yes, no = no, yes
		}
		s.add("HealthyState"+name, types.StandardUnitCount, yes)
		s.add("UnhealthyState"+name, types.StandardUnitCount, no)
	}
}

// groupOf reports the requests for a target group of an application load balancer.
func (s subject) groupOf(g *groupCounts, more dataplane.GroupStats) {
	s.count("UnhealthyRoutingRequestCount", more.Opened, false)
	s.alone = true
	if n := s.grown("requests per target", g.requests); n > 0 {
		s.add("RequestCountPerTarget", types.StandardUnitCount, float64(n)/math.Max(1, float64(g.registered)))
	}
	s.requests(g, false)
	s.times(more.Times)
}

// requests reports those for which a target was chosen.
func (s subject) requests(g *groupCounts, always bool) {
	s.count("RequestCount", g.requests, always)
	s.count("TargetConnectionErrorCount", g.connectErrors, false)
	s.count("TargetTLSNegotiationErrorCount", g.tlsErrors, false)
	for class := 2; class <= 5; class++ {
		s.count(fmt.Sprintf("HTTPCode_Target_%dXX_Count", class), g.status[class], false)
	}
}

// times reports how long targets took, in seconds.
func (s subject) times(all []dataplane.Measured) {
	sums := map[float64]uint64{}
	for _, m := range all {
		sums[m.Seconds] += m.Count
	}
	sample := cloudwatch.Sample{Name: "TargetResponseTime", Unit: types.StandardUnitSeconds}
	for _, seconds := range slices.Sorted(maps.Keys(sums)) {
		if n := s.grown(fmt.Sprint("TargetResponseTime ", seconds), sums[seconds]); n > 0 {
			sample.Values, sample.Counts = append(sample.Values, seconds), append(sample.Counts, float64(n))
		}
	}
	if len(sample.Values) > 0 {
		s.samples(sample)
	}
}
