package dns_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/aws-sdk-go-v2/service/route53"
	"github.com/aws/aws-sdk-go-v2/service/route53/types"
	mdns "github.com/miekg/dns"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dns"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/elbv2"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
)

var vpc = address.Mapping{Octet: 78}

// account is an emulator without a network, and a name server for it.
type account struct {
	testing.TB
	*aws.Emulator
	server *dns.Server

	mu    sync.Mutex
	nodes map[string][]*silentNode // by load balancer
}

// silentNode is a load balancer node that carries no traffic and finds targets as healthy as the test says.
type silentNode struct {
	elbv2.Node
	zone   string
	report func(dataplane.HealthChange)
}

func (silentNode) Apply(dataplane.NodeConfig) error         { return nil }
func (silentNode) ApplyGroup(dataplane.Group)               {}
func (silentNode) ApplyTargets(string, dataplane.TargetSet) {}
func (silentNode) RemoveGroup(string)                       {}
func (silentNode) Stats() dataplane.Stats                   { return dataplane.Stats{} }
func (silentNode) Close()                                   {}

// newAccount has the delays given, and none besides.
func newAccount(t testing.TB, delays map[profile.Key]string) *account {
	t.Helper()
	table, err := profile.Load("ideal")
	if err != nil {
		t.Fatal(err)
	}
	for key, text := range delays {
		if table.Seconds[key], err = profile.ParseDistribution(text); err != nil {
			t.Fatal(err)
		}
	}
	a := &account{TB: t, nodes: map[string][]*silentNode{}}
	a.Emulator, err = aws.New(aws.Config{
		VPC: vpc, Unthrottled: true, Seed: 1, Profile: table,
		NewNode: func(c dataplane.Config) elbv2.Node {
			a.mu.Lock()
			defer a.mu.Unlock()
			n := &silentNode{zone: c.Zone, report: c.Health}
			a.nodes[c.LoadBalancer] = append(a.nodes[c.LoadBalancer], n)
			return n
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	a.server, err = dns.Listen("127.0.0.1:0", dns.Config{Account: a.Emulator, Region: "eu-west-1", VPC: vpc, Seed: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(a.server.Close(), a.Emulator.Close()); err != nil {
			t.Error(err)
		}
	})
	return a
}

// serve answers over the network until the test ends.
func (a *account) serve() *account {
	ended := make(chan error, 1)
	go func() { ended <- a.server.Serve() }()
	a.Cleanup(func() {
		if err := errors.Join(a.server.Close(), <-ended); err != nil {
			a.Error(err)
		}
	})
	return a
}

func must[T any](out T, err error) func(testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
}

var reader eventual.Reader

// balancer makes a load balancer in all zones.
func (a *account) balancer(name string, kind elbtypes.LoadBalancerTypeEnum) elbtypes.LoadBalancer {
	a.Helper()
	var subnets []string
	zones := map[string]bool{}
	for _, s := range must(a.EC2().DescribeSubnets(reader, &ec2.DescribeSubnetsInput{}))(a).Subnets {
		if !zones[*s.AvailabilityZone] {
			zones[*s.AvailabilityZone] = true
			subnets = append(subnets, *s.SubnetId)
		}
	}
	return must(a.ELBv2().CreateLoadBalancer(reader, &elb.CreateLoadBalancerInput{
		Name: &name, Subnets: subnets, Type: kind, Scheme: elbtypes.LoadBalancerSchemeEnumInternal,
	}))(a).LoadBalancers[0]
}

// target is one that a load balancer uses.
type target struct {
	balancer, group string
	key             dataplane.TargetKey
}

// targets makes a group with a target in each of the zones, for a listener of a load balancer.
func (a *account) targets(lb elbtypes.LoadBalancer, port int32, crossZone bool, zones ...string) (targets []target) {
	a.Helper()
	name := fmt.Sprintf("%s-%d", *lb.LoadBalancerName, port)
	group := must(a.ELBv2().CreateTargetGroup(reader, &elb.CreateTargetGroupInput{
		Name: &name, Protocol: elbtypes.ProtocolEnumHttp, Port: &port, TargetType: elbtypes.TargetTypeEnumIp, VpcId: new(a.EC2().VPC()),
	}))(a).TargetGroups[0].TargetGroupArn
	must(a.ELBv2().ModifyTargetGroupAttributes(reader, &elb.ModifyTargetGroupAttributesInput{TargetGroupArn: group, Attributes: []elbtypes.TargetGroupAttribute{
		{Key: new("load_balancing.cross_zone.enabled"), Value: new(fmt.Sprint(crossZone))},
	}}))(a)
	must(a.ELBv2().CreateListener(reader, &elb.CreateListenerInput{
		LoadBalancerArn: lb.LoadBalancerArn, Port: &port, Protocol: elbtypes.ProtocolEnumHttp,
		DefaultActions: []elbtypes.Action{{Type: elbtypes.ActionTypeEnumForward, TargetGroupArn: group}},
	}))(a)
	for _, zone := range zones {
		node := must(a.EC2().AddInstance(zone, name+zone))(a)
		key := dataplane.TargetKey{ID: must(a.EC2().AssignPodAddress(node.ID))(a).String(), Port: uint16(port)}
		must(a.ELBv2().RegisterTargets(reader, &elb.RegisterTargetsInput{
			TargetGroupArn: group, Targets: []elbtypes.TargetDescription{{Id: &key.ID, Port: &port}},
		}))(a)
		targets = append(targets, target{*lb.LoadBalancerArn, *group, key})
	}
	return targets
}

// report lets all nodes of the load balancer find a target in a state.
func (a *account) report(t target, state dataplane.HealthState) {
	a.mu.Lock()
	nodes := a.nodes[t.balancer]
	a.mu.Unlock()
	for _, n := range nodes {
		n.report(dataplane.HealthChange{LoadBalancer: t.balancer, Zone: n.zone, Group: t.group, Target: t.key, TargetHealth: dataplane.TargetHealth{State: state}})
	}
}

// active waits until a load balancer's name is answered.
func (a *account) active(lb elbtypes.LoadBalancer) elbtypes.LoadBalancer {
	a.Helper()
	look := time.NewTicker(time.Millisecond)
	defer look.Stop()
	for len(a.Resolve(*lb.DNSName)) == 0 {
		select {
		case <-look.C:
		case <-a.Context().Done():
			a.Fatalf("%s never became active", *lb.DNSName)
		}
	}
	return lb
}

// zone makes a hosted zone with records.
func (a *account) zone(name string, sets ...types.ResourceRecordSet) (id string) {
	a.Helper()
	made := must(a.Route53().CreateHostedZone(reader, &route53.CreateHostedZoneInput{Name: &name, CallerReference: &name}))(a)
	if len(sets) > 0 {
		a.change(*made.HostedZone.Id, sets...)
	}
	return *made.HostedZone.Id
}

func (a *account) change(zone string, sets ...types.ResourceRecordSet) {
	a.Helper()
	batch := &types.ChangeBatch{}
	for _, set := range sets {
		batch.Changes = append(batch.Changes, types.Change{Action: types.ChangeActionUpsert, ResourceRecordSet: &set})
	}
	must(a.Route53().ChangeResourceRecordSets(reader, &route53.ChangeResourceRecordSetsInput{HostedZoneId: &zone, ChangeBatch: batch}))(a)
}

func set(name, kind string, ttl int64, values ...string) types.ResourceRecordSet {
	s := types.ResourceRecordSet{Name: &name, Type: types.RRType(kind), TTL: &ttl}
	for _, value := range values {
		s.ResourceRecords = append(s.ResourceRecords, types.ResourceRecord{Value: &value})
	}
	return s
}

func weighted(s types.ResourceRecordSet, identifier string, weight int64) types.ResourceRecordSet {
	s.SetIdentifier, s.Weight = &identifier, &weight
	return s
}

func alias(name, target, zone string, evaluate bool) types.ResourceRecordSet {
	return types.ResourceRecordSet{
		Name: &name, Type: types.RRTypeA, AliasTarget: &types.AliasTarget{DNSName: &target, HostedZoneId: &zone, EvaluateTargetHealth: evaluate},
	}
}

// ask asks the server without a network in between.
func (a *account) ask(name, kind string) *mdns.Msg {
	a.Helper()
	number, ok := mdns.StringToType[kind]
	if !ok {
		a.Fatalf("there is no type %s", kind)
	}
	return a.server.Answer(new(mdns.Msg).SetQuestion(mdns.Fqdn(name), number))
}

// say writes an answer in one line: the values in order, or what there is instead, with the TTL.
func say(m *mdns.Msg) string {
	var out []string
	for _, record := range m.Answer {
		fields := strings.Fields(record.String())
		out = append(out, strings.Join(append([]string{fields[3]}, fields[4:]...), " ")+" "+fields[1])
	}
	slices.Sort(out)
	if m.Rcode != mdns.RcodeSuccess {
		out = append(out, mdns.RcodeToString[m.Rcode])
	}
	for _, record := range m.Ns {
		fields := strings.Fields(record.String())
		out = append(out, "none in "+fields[0]+" for "+fields[1])
	}
	return strings.Join(out, ", ")
}

// real are the addresses at which a load balancer's nodes are served, by zone.
func (a *account) real(name string) map[string]netip.Addr {
	a.Helper()
	real := map[string]netip.Addr{}
	for _, lb := range a.LoadBalancers() {
		if lb.Name != name {
			continue
		}
		for _, n := range lb.Nodes {
			real[n.Zone] = vpc.RealAddr(n.Address)
		}
	}
	return real
}
