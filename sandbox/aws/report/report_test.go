package report_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/cloudwatch"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/report"
)

const (
	account  = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:"
	balancer = account + "loadbalancer/app/web/1"
	group    = account + "targetgroup/api/2"
)

// lines shows the samples of one dimension set, sorted: the load balancer's own, or the target group's.
func lines(samples []cloudwatch.Sample, dimensions cloudwatch.Dimensions) []string {
	var all []string
	for _, s := range samples {
		if cmp.Equal(s.Dimensions, dimensions) {
			all = append(all, fmt.Sprintf("%s %s %v", s.Namespace, s.Name, s.Values[0]))
		}
	}
	slices.Sort(all)
	return all
}

func target(state dataplane.HealthState, requests, good, bad uint64) dataplane.TargetStats {
	return dataplane.TargetStats{
		Group: group, Health: dataplane.TargetHealth{State: state},
		Usage: dataplane.TargetUsage{Requests: requests, Status: [6]uint64{2: good, 5: bad}},
	}
}

func TestOnlyWhatHasComeSinceIsReported(t *testing.T) {
	t.Parallel()
	r := report.New()
	r.Samples([]dataplane.Stats{{
		LoadBalancer: balancer, Zone: "a", Generated: map[int]uint64{503: 1}, Fixed: 4,
		Targets: []dataplane.TargetStats{target(dataplane.Healthy, 10, 10, 0)},
	}})
	second := r.Samples([]dataplane.Stats{{
		LoadBalancer: balancer, Zone: "a", Generated: map[int]uint64{502: 1, 503: 3}, Fixed: 4,
		Targets: []dataplane.TargetStats{target(dataplane.Healthy, 17, 16, 1), target(dataplane.Unhealthy, 2, 1, 1)},
	}})
	own := []string{
		"AWS/ApplicationELB ConsumedLCUs 0",
		"AWS/ApplicationELB HTTPCode_ELB_502_Count 1", "AWS/ApplicationELB HTTPCode_ELB_503_Count 2", "AWS/ApplicationELB HTTPCode_ELB_5XX_Count 3",
		"AWS/ApplicationELB HTTPCode_Target_2XX_Count 7", "AWS/ApplicationELB HTTPCode_Target_5XX_Count 2", "AWS/ApplicationELB RequestCount 9",
	}
	ofGroup := []string{
		"AWS/ApplicationELB AnomalousHostCount 0",
		"AWS/ApplicationELB HTTPCode_Target_2XX_Count 7", "AWS/ApplicationELB HTTPCode_Target_5XX_Count 2", "AWS/ApplicationELB HealthyHostCount 1",
		"AWS/ApplicationELB HealthyStateDNS 0", "AWS/ApplicationELB HealthyStateRouting 0", "AWS/ApplicationELB MitigatedHostCount 0",
		"AWS/ApplicationELB RequestCount 9", "AWS/ApplicationELB RequestCountPerTarget 4.5", "AWS/ApplicationELB UnHealthyHostCount 1",
		"AWS/ApplicationELB UnhealthyStateDNS 1", "AWS/ApplicationELB UnhealthyStateRouting 1",
	}
	for why, tt := range map[string]struct {
		dimensions cloudwatch.Dimensions
		want       []string
	}{
		"load balancer":         {cloudwatch.Dimensions{"LoadBalancer": "app/web/1"}, own},
		"zone":                  {cloudwatch.Dimensions{"LoadBalancer": "app/web/1", "AvailabilityZone": "a"}, own},
		"target group":          {cloudwatch.Dimensions{"LoadBalancer": "app/web/1", "TargetGroup": "targetgroup/api/2"}, ofGroup},
		"target group and zone": {cloudwatch.Dimensions{"LoadBalancer": "app/web/1", "TargetGroup": "targetgroup/api/2", "AvailabilityZone": "a"}, ofGroup},
	} {
		if diff := cmp.Diff(tt.want, lines(second, tt.dimensions)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", why, diff)
		}
	}
}

func TestANewNodeBeginsAnew(t *testing.T) {
	t.Parallel()
	r := report.New()
	at := func(requests uint64) []string {
		return lines(r.Samples([]dataplane.Stats{{LoadBalancer: balancer, Zone: "a", Targets: []dataplane.TargetStats{target(dataplane.Initial, requests, 0, 0)}}}),
			cloudwatch.Dimensions{"LoadBalancer": "app/web/1"})
	}
	for _, tt := range []struct {
		total uint64
		want  string
	}{{5, "5"}, {5, "0"}, {2, "2"}} {
		if got := at(tt.total); !slices.Equal(got, []string{"AWS/ApplicationELB ConsumedLCUs 0", "AWS/ApplicationELB RequestCount " + tt.want}) {
			t.Errorf("after %d: %v, want %s", tt.total, got, tt.want)
		}
	}
}

// TestAGroupWithoutTargetsHasNoHealth: nodes remember what targets did that have left, and go on saying so when the group is long deleted.
func TestAGroupWithoutTargetsHasNoHealth(t *testing.T) {
	t.Parallel()
	left := target(dataplane.Healthy, 3, 3, 0)
	left.Gone = true
	r := report.New()
	for _, want := range []string{"AWS/ApplicationELB HTTPCode_Target_2XX_Count 3 AWS/ApplicationELB RequestCount 3 AWS/ApplicationELB RequestCountPerTarget 3", ""} {
		got := lines(r.Samples([]dataplane.Stats{{LoadBalancer: balancer, Zone: "a", Targets: []dataplane.TargetStats{left}}}),
			cloudwatch.Dimensions{"LoadBalancer": "app/web/1", "TargetGroup": "targetgroup/api/2"})
		if strings.Join(got, " ") != want {
			t.Errorf("got %v, want %s", got, want)
		}
	}
}

func TestNetworkLoadBalancers(t *testing.T) {
	t.Parallel()
	got := lines(report.New().Samples([]dataplane.Stats{{
		LoadBalancer: account + "loadbalancer/net/web/1", Zone: "a", Network: &dataplane.NetworkStats{
			ActiveFlows: map[dataplane.Protocol]uint64{dataplane.TCP: 2, dataplane.TLS: 1}, NewFlows: map[dataplane.Protocol]uint64{dataplane.TCP: 7},
			ProcessedBytes: map[dataplane.Protocol]uint64{dataplane.TCP: 100}, TargetResets: 3,
		},
	}}), cloudwatch.Dimensions{"LoadBalancer": "net/web/1"})
	want := []string{
		"AWS/NetworkELB ActiveFlowCount 3", "AWS/NetworkELB ActiveFlowCount_TCP 2", "AWS/NetworkELB ActiveFlowCount_TLS 1",
		"AWS/NetworkELB NewFlowCount 7", "AWS/NetworkELB NewFlowCount_TCP 7", "AWS/NetworkELB ProcessedBytes 100",
		"AWS/NetworkELB ProcessedBytes_TCP 100", "AWS/NetworkELB TCP_Client_Reset_Count 0", "AWS/NetworkELB TCP_ELB_Reset_Count 0",
		"AWS/NetworkELB TCP_Target_Reset_Count 3",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestWhatAnApplicationLoadBalancerCounts(t *testing.T) {
	t.Parallel()
	node := dataplane.Stats{
		LoadBalancer: balancer, Zone: "a", Requests: 10, Redirects: 2, RedirectsTooLong: 1, Generated: map[int]uint64{460: 1}, ClientConnections: 5, TargetConnections: 1,
		NewConnections: 400, NewTargetConnections: 100, Processed: 5_000_000, ClientTLSErrors: 3, NonCompliant: 4, InvalidDropped: 5, InvalidForwarded: 6,
		GRPC: 7, NonSticky: 8, RuleEvaluations: 40_100, Rejected: 9,
		Targets: []dataplane.TargetStats{{Group: group, Usage: dataplane.TargetUsage{Requests: 6, ConnectErrors: 3, TLSErrors: 1}, Anomalous: true, Mitigated: true}},
		Groups: map[string]dataplane.GroupStats{group: {
			Opened: 11, Routing: true, Times: []dataplane.Measured{{Seconds: 0.1, Count: 3}, {Seconds: 2, Count: 1}},
		}},
	}
	r := report.New()
	first := r.Samples([]dataplane.Stats{node})
	var own []string
	for _, line := range lines(first, cloudwatch.Dimensions{"LoadBalancer": "app/web/1"}) {
		own = append(own, strings.TrimPrefix(line, "AWS/ApplicationELB "))
	}
	want := []string{
		"ActiveConnectionCount 6", "ClientTLSNegotiationErrorCount 3", "ConsumedLCUs 4", "DesyncMitigationMode_NonCompliant_Request_Count 4",
		"DroppedInvalidHeaderRequestCount 5", "ForwardedInvalidHeaderRequestCount 6", "GrpcRequestCount 7", "HTTPCode_ELB_3XX_Count 2", "HTTPCode_ELB_4XX_Count 1",
		"HTTP_Redirect_Count 2", "HTTP_Redirect_Url_Limit_Exceeded_Count 1", "NewConnectionCount 500", "NonStickyRequestCount 8", "ProcessedBytes 5e+06",
		"RejectedConnectionCount 9", "RequestCount 10", "RuleEvaluations 40100", "TargetConnectionErrorCount 3", "TargetResponseTime 0.1", "TargetTLSNegotiationErrorCount 1",
	}
	if diff := cmp.Diff(want, own); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	alone := lines(first, cloudwatch.Dimensions{"TargetGroup": "targetgroup/api/2"})
	if !slices.Contains(alone, "AWS/ApplicationELB RequestCountPerTarget 10") || slices.Contains(alone, "AWS/ApplicationELB HealthyHostCount 0") {
		t.Errorf("by target group alone: %v", alone)
	}
	ofGroup := lines(first, cloudwatch.Dimensions{"LoadBalancer": "app/web/1", "TargetGroup": "targetgroup/api/2"})
	for _, one := range []string{"AnomalousHostCount 1", "MitigatedHostCount 1", "HealthyStateRouting 1", "UnhealthyStateDNS 1", "UnhealthyRoutingRequestCount 11"} {
		if !slices.Contains(ofGroup, "AWS/ApplicationELB "+one) {
			t.Errorf("%s is missing in %v", one, ofGroup)
		}
	}
	node.Groups = map[string]dataplane.GroupStats{group: {Times: []dataplane.Measured{{Seconds: 0.1, Count: 3}, {Seconds: 2, Count: 3}}}}
	for _, s := range r.Samples([]dataplane.Stats{node}) {
		if s.Name == "TargetResponseTime" && (!slices.Equal(s.Values, []float64{2}) || !slices.Equal(s.Counts, []float64{2})) {
			t.Errorf("times since the last look: %v, %v times", s.Values, s.Counts)
		}
	}
}

// What groups have counted that a node has forgotten is the load balancer's alone, and is not reported again when it moves into their sum.
func TestForgottenGroupsAreOfTheLoadBalancer(t *testing.T) {
	t.Parallel()
	r := report.New()
	look := func(name string, requests uint64) []cloudwatch.Sample {
		one := dataplane.TargetStats{Group: name, Gone: true, Usage: dataplane.TargetUsage{Requests: requests}}
		return r.Samples([]dataplane.Stats{{LoadBalancer: balancer, Zone: "a", Targets: []dataplane.TargetStats{one}}})
	}
	look(group, 10)
	moved := look("", 12)
	if got, want := lines(moved, cloudwatch.Dimensions{"LoadBalancer": "app/web/1"}), "AWS/ApplicationELB RequestCount 2"; !slices.Contains(got, want) {
		t.Errorf("of the load balancer %q are reported, want %s", got, want)
	}
	for _, s := range moved {
		if _, named := s.Dimensions["TargetGroup"]; named || s.Dimensions["LoadBalancer"] == "" {
			t.Errorf("%s is reported for %v", s.Name, s.Dimensions)
		}
	}
}
