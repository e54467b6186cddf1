package elbv2

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/ec2"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/resourceid"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// recorder is a node that carries nothing and remembers what it was told.
type recorder struct {
	spec NodeSpec

	mu      sync.Mutex
	configs []told
	groups  map[string]dataplane.Group
	targets map[string]dataplane.TargetSet
	removed []string
	closed  bool
}

type told struct {
	at     time.Duration
	config dataplane.NodeConfig
}

func (r *recorder) Apply(c dataplane.NodeConfig) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.configs) > 0 && c.Version <= r.configs[len(r.configs)-1].config.Version {
		return errors.New("a version that is not newer")
	}
	r.configs = append(r.configs, told{time.Since(epoch), c})
	return nil
}
func (r *recorder) ApplyGroup(g dataplane.Group) {
	r.mu.Lock()
	r.groups[g.ARN] = g
	r.mu.Unlock()
}
func (r *recorder) ApplyTargets(group string, set dataplane.TargetSet) {
	r.mu.Lock()
	r.targets[group] = set
	r.mu.Unlock()
}
func (r *recorder) RemoveGroup(group string) {
	r.mu.Lock()
	r.removed = append(r.removed, group)
	delete(r.groups, group)
	delete(r.targets, group)
	r.mu.Unlock()
}

// last is what the node was told last of its listeners, ended says that it was closed.
func (r *recorder) last() (config dataplane.NodeConfig, ended bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.configs) > 0 {
		config = r.configs[len(r.configs)-1].config
	}
	return config, r.closed
}

// dropped says whether the node was told to remove a group.
func (r *recorder) dropped(group string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Contains(r.removed, group)
}

// known is what the node was last told of the targets of a group.
func (r *recorder) known(group string) dataplane.TargetSet {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.targets[group]
}

func (r *recorder) Stats() dataplane.Stats { return dataplane.Stats{} }
func (r *recorder) Close()                 { r.mu.Lock(); r.closed = true; r.mu.Unlock() }

// epoch is when time begins in a synctest bubble.
var epoch = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

// account is the service alone, in virtual time.
type account struct {
	*testing.T
	*Service
	network *ec2.Service
	told    sync.Mutex
	nodes   map[string]*recorder // by zone
}

// node is the newest node of a zone.
func (a *account) node(zone string) *recorder {
	a.told.Lock()
	defer a.told.Unlock()
	return a.nodes[zone]
}

var zones = []string{"eu-west-1a", "eu-west-1b", "eu-west-1c"}

func newAccount(t *testing.T, profileName string, seed uint64) *account {
	t.Helper()
	p, err := profile.Load(profileName)
	if err != nil {
		t.Fatal(err)
	}
	ids, draws := resourceid.NewSource(seed), profile.NewDraws(p, seed, 1)
	a := &account{T: t, nodes: map[string]*recorder{}}
	a.network = ec2.New(ec2.Config{
		Region: "eu-west-1", AccountID: "123456789012", Zones: zones, CIDR: netip.MustParsePrefix("10.9.0.0/16"), Cluster: "test", IDs: ids, Draws: draws,
	})
	a.Service = New(Config{
		Region: "eu-west-1", AccountID: "123456789012", Network: a.network, IDs: ids, Draws: draws,
		NewNode: func(spec NodeSpec) Node {
			r := &recorder{spec: spec, groups: map[string]dataplane.Group{}, targets: map[string]dataplane.TargetSet{}}
			a.told.Lock()
			defer a.told.Unlock()
			a.nodes[spec.Zone] = r
			return r
		},
	})
	t.Cleanup(a.Service.Close)
	return a
}

// retry repeats a call that stale reads may refuse for a while.
func retry[I, O any](a *account, call func(eventual.Reader, *I) (*O, error), in *I) *O {
	a.Helper()
	for range 1000 {
		out, err := call(eventual.Reader{Caller: "test"}, in)
		var refused *wire.Error
		if err == nil {
			return out
		}
		if !errors.As(err, &refused) || len(refused.Code) < 8 || refused.Code[len(refused.Code)-8:] != "NotFound" {
			a.Fatal(err)
		}
		time.Sleep(100 * time.Millisecond)
	}
	a.Fatal("not found for ever")
	return nil
}

func (a *account) balancerARN() string {
	a.Helper()
	in := &elb.CreateLoadBalancerInput{Name: new("web")}
	for _, zone := range zones {
		machine, err := a.network.AddInstance(zone, "node-"+zone)
		if err != nil {
			a.Fatal(err)
		}
		in.Subnets = append(in.Subnets, machine.Subnet)
	}
	return *retry(a, a.CreateLoadBalancer, in).LoadBalancers[0].LoadBalancerArn
}

func (a *account) groupARN(name string) string {
	a.Helper()
	return *retry(a, a.CreateTargetGroup, &elb.CreateTargetGroupInput{
		Name: &name, Protocol: types.ProtocolEnumHttp, Port: new(int32(8080)), VpcId: new(a.network.VPC()), TargetType: types.TargetTypeEnumIp,
	}).TargetGroups[0].TargetGroupArn
}

func split(groups []string, weights ...int32) []types.Action {
	c := &types.ForwardActionConfig{}
	for i, w := range weights {
		c.TargetGroups = append(c.TargetGroups, types.TargetGroupTuple{TargetGroupArn: &groups[i], Weight: &w})
	}
	return []types.Action{{Type: types.ActionTypeEnumForward, ForwardConfig: c}}
}

func (a *account) listenerARN(lb string, actions []types.Action) string {
	a.Helper()
	return *retry(a, a.CreateListener, &elb.CreateListenerInput{
		LoadBalancerArn: &lb, Port: new(int32(80)), Protocol: types.ProtocolEnumHttp, DefaultActions: actions,
	}).Listeners[0].ListenerArn
}

// weights is the row of weights of the second group that a node was told, with the times.
func (r *recorder) weights() (row []int, at []time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.configs {
		if len(c.config.Listeners) == 0 || c.config.Listeners[0].Default.Forward == nil {
			continue
		}
		row = append(row, c.config.Listeners[0].Default.Forward.Groups[1].Weight)
		at = append(at, c.at)
	}
	return row, at
}

// history runs ten weight changes, some seconds apart, and returns what each zone's node was told when.
func history(t *testing.T, seed uint64) (rows map[string][]int, times map[string][]time.Duration) {
	rows, times = map[string][]int{}, map[string][]time.Duration{}
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "typical", seed)
		lb := a.balancerARN()
		groups := []string{a.groupARN("stable"), a.groupARN("canary")}
		listener := a.listenerARN(lb, split(groups, 100, 0))
		time.Sleep(10 * time.Minute) // until the load balancer is active
		for weight := range int32(10) {
			retry(a, a.ModifyListener, &elb.ModifyListenerInput{ListenerArn: &listener, DefaultActions: split(groups, 100-weight, weight+1)})
			time.Sleep(2 * time.Second)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		for zone, r := range a.nodes {
			rows[zone], times[zone] = r.weights()
		}
		a.Service.Close()
	})
	return rows, times
}

// A node takes changes in order, may skip some, ends with the newest; each node has moments of its own;
// and the same seed gives the same history.
func TestNodesTakeChangesInOrderAtTheirOwnMoments(t *testing.T) {
	skipped := false
	for seed := range uint64(5) {
		rows, times := history(t, seed)
		if len(rows) != len(zones) {
			t.Fatalf("seed %d: nodes in %d zones", seed, len(rows))
		}
		for zone, row := range rows {
			if !slices.IsSorted(row) || row[len(row)-1] != 10 {
				t.Errorf("seed %d: node of %s was told %v", seed, zone, row)
			}
			skipped = skipped || len(row) < 11
		}
		if slices.Equal(times[zones[0]], times[zones[1]]) || slices.Equal(times[zones[1]], times[zones[2]]) {
			t.Errorf("seed %d: two nodes switched at the same moments: %v", seed, times)
		}
		again, timesAgain := history(t, seed)
		if fmt.Sprint(rows, times) != fmt.Sprint(again, timesAgain) {
			t.Errorf("seed %d does not repeat:\n%v %v\n%v %v", seed, rows, times, again, timesAgain)
		}
	}
	if !skipped {
		t.Error("in five runs no node skipped a change: overtaking is not modelled")
	}
}

// TestAnomaliesAreShown: one node finds an anomaly, and shifts traffic; the API tells when it is asked.
func TestAnomaliesAreShown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "ideal", 1)
		defer a.Service.Close()
		lb, group := a.balancerARN(), a.groupARN("api")
		pod, err := a.network.AddInstance(zones[0], "pod")
		if err != nil {
			t.Fatal(err)
		}
		target := []types.TargetDescription{{Id: new(pod.Address.String())}}
		a.register(group, target)
		a.listenerARN(lb, split([]string{group}, 1))
		time.Sleep(time.Minute)
		synctest.Wait()
		report := func(anomalous, mitigated bool) {
			a.node(zones[1]).spec.Health(dataplane.HealthChange{
				Group: group, Zone: zones[1], Target: dataplane.TargetKey{ID: *target[0].Id, Port: 8080},
				TargetHealth: dataplane.TargetHealth{State: dataplane.Healthy}, Anomalous: anomalous, Mitigated: mitigated,
			})
		}
		for _, tt := range []struct {
			anomalous, mitigated bool
			want                 types.AnomalyDetection
		}{
			{false, false, types.AnomalyDetection{Result: "normal", MitigationInEffect: "no"}},
			{true, false, types.AnomalyDetection{Result: "anomalous", MitigationInEffect: "no"}},
			{true, true, types.AnomalyDetection{Result: "anomalous", MitigationInEffect: "yes"}},
			{false, false, types.AnomalyDetection{Result: "normal", MitigationInEffect: "no"}},
		} {
			report(tt.anomalous, tt.mitigated)
			in := &elb.DescribeTargetHealthInput{TargetGroupArn: &group, Include: []types.DescribeTargetHealthInputIncludeEnum{"AnomalyDetection"}}
			got := retry(a, a.DescribeTargetHealth, in).TargetHealthDescriptions[0].AnomalyDetection
			if got == nil || got.Result != tt.want.Result || got.MitigationInEffect != tt.want.MitigationInEffect {
				t.Errorf("after %v, %v: got %+v", tt.anomalous, tt.mitigated, got)
			}
			in.Include = nil
			if got := retry(a, a.DescribeTargetHealth, in).TargetHealthDescriptions[0].AnomalyDetection; got != nil {
				t.Errorf("told without being asked: %+v", got)
			}
		}
	})
}

func TestTargetsGoThroughTheirStates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "typical", 3)
		defer a.Service.Close()
		lb, group := a.balancerARN(), a.groupARN("api")
		groups := []string{group}
		pod, err := a.network.AddInstance(zones[0], "pod")
		if err != nil {
			t.Fatal(err)
		}
		target := []types.TargetDescription{{Id: new(pod.Address.String())}}
		a.register(group, target)
		a.wantHealth(group, "unused", "Target.NotInUse")

		listener := a.listenerARN(lb, split(groups, 1))
		a.wantHealth(group, "initial", "Elb.RegistrationInProgress")
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		report := func(zone string, h dataplane.TargetHealth) {
			a.node(zone).spec.Health(dataplane.HealthChange{Group: group, Zone: zone, Target: dataplane.TargetKey{ID: *target[0].Id, Port: 8080}, TargetHealth: h})
		}
		for _, zone := range zones {
			if set := a.node(zone).known(group); len(set.Targets) != 1 || set.Targets[0].State != dataplane.Registered {
				t.Fatalf("node of %s has targets %+v", zone, set.Targets)
			}
			report(zone, dataplane.TargetHealth{State: dataplane.Initial})
		}
		a.wantHealth(group, "initial", "Elb.InitialHealthChecking")
		report(zones[0], dataplane.TargetHealth{State: dataplane.Healthy})
		report(zones[1], dataplane.TargetHealth{State: dataplane.Healthy})
		time.Sleep(time.Minute)
		a.wantHealth(group, "initial", "Elb.InitialHealthChecking") // one node has not found it healthy yet
		report(zones[2], dataplane.TargetHealth{State: dataplane.Healthy})
		time.Sleep(2100 * time.Millisecond) // aggregation takes up to 2 s
		a.wantHealth(group, "healthy", "")
		report(zones[1], dataplane.TargetHealth{State: dataplane.Unhealthy, Reason: dataplane.ReasonTimeout})
		time.Sleep(2100 * time.Millisecond)
		a.wantHealth(group, "unhealthy", "Target.Timeout")

		retry(a, a.DeregisterTargets, &elb.DeregisterTargetsInput{TargetGroupArn: &group, Targets: target})
		a.wantHealth(group, "draining", "Target.DeregistrationInProgress")
		time.Sleep(299 * time.Second)
		a.wantHealth(group, "draining", "Target.DeregistrationInProgress")
		for _, zone := range zones {
			if set := a.node(zone).known(group); len(set.Targets) != 1 || set.Targets[0].State != dataplane.Draining {
				t.Errorf("node of %s has targets %+v", zone, set.Targets)
			}
		}
		time.Sleep(2 * time.Second)
		a.wantHealth(group, "unused", "Target.NotRegistered")
		time.Sleep(time.Minute) // a node drains from the moment it has learned, up to 60 s later
		for _, zone := range zones {
			if set := a.node(zone).known(group); len(set.Targets) != 0 {
				t.Errorf("node of %s still has %+v", zone, set.Targets)
			}
		}

		// Registered once more while it drains: back to the beginning.
		a.register(group, target)
		retry(a, a.DeregisterTargets, &elb.DeregisterTargetsInput{TargetGroupArn: &group, Targets: target})
		a.register(group, target)
		a.wantHealth(group, "initial", "Elb.RegistrationInProgress")
		time.Sleep(10 * time.Minute)
		a.wantHealth(group, "initial", "Elb.RegistrationInProgress")
		for _, zone := range zones {
			if set := a.node(zone).known(group); len(set.Targets) != 1 || set.Targets[0].State != dataplane.Registered {
				t.Errorf("node of %s lost a target that was registered again: %+v", zone, set.Targets)
			}
		}

		retry(a, a.DeleteListener, &elb.DeleteListenerInput{ListenerArn: &listener})
		a.wantHealth(group, "unused", "Target.NotInUse")
		_, err = a.DeleteTargetGroup(eventual.Reader{}, &elb.DeleteTargetGroupInput{TargetGroupArn: &group})
		if err == nil {
			t.Error("a target group could be deleted at the moment its last reference went")
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		for _, zone := range zones {
			if !a.node(zone).dropped(group) {
				t.Errorf("node of %s still checks a group that nothing refers to", zone)
			}
		}
		retry(a, a.DeleteTargetGroup, &elb.DeleteTargetGroupInput{TargetGroupArn: &group})
	})
}

func (a *account) register(group string, targets []types.TargetDescription) {
	a.Helper()
	retry(a, a.RegisterTargets, &elb.RegisterTargetsInput{TargetGroupArn: &group, Targets: targets})
}

// wantHealth checks the state of the only target that was ever in a group.
func (a *account) wantHealth(group, state, reason string) {
	a.Helper()
	synctest.Wait()
	out := retry(a, a.DescribeTargetHealth, &elb.DescribeTargetHealthInput{TargetGroupArn: &group})
	if len(out.TargetHealthDescriptions) == 0 {
		if state != "unused" || reason != "Target.NotRegistered" {
			a.Fatalf("want %s %s, but there is no target", state, reason)
		}
		return
	}
	if h := out.TargetHealthDescriptions[0].TargetHealth; string(h.State) != state || string(h.Reason) != reason {
		a.Fatalf("want %s %s, got %s %s", state, reason, h.State, h.Reason)
	}
}

func TestLoadBalancerIsProvisionedForMinutes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "typical", 1)
		defer a.Service.Close()
		a.balancerARN()
		name := a.Balancers()[0].DNSName
		time.Sleep(time.Minute)
		if a.Balancers()[0].Active || a.Resolve(name) != nil {
			t.Error("a load balancer serves after a minute")
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if !a.Balancers()[0].Active || len(a.Resolve(name)) != 3 {
			t.Errorf("after three minutes the load balancer is not there: %v", a.Resolve(name))
		}
	})
}
