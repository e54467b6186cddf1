package ec2

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/resourceid"
)

func newService(t *testing.T, name string) *Service {
	t.Helper()
	p, err := profile.Load(name)
	if err != nil {
		t.Fatal(err)
	}
	return New(Config{
		Region: "eu-west-1", AccountID: "123456789012", Zones: []string{"eu-west-1a", "eu-west-1b"}, CIDR: netip.MustParsePrefix("10.9.0.0/16"),
		Cluster: "test", IDs: resourceid.NewSource(1), Draws: profile.NewDraws(p, 1, 1),
	})
}

// The API shows a rule at once, packets feel it later: who revokes before the new rule is felt cuts traffic.
func TestRulesReachPacketsLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, "typical")
		machine, err := s.AddInstance("eu-west-1a", "node")
		if err != nil {
			t.Fatal(err)
		}
		client, target := netip.MustParseAddr("192.168.1.1"), netip.AddrPortFrom(machine.Address, 80)
		in := &ec2.AuthorizeSecurityGroupIngressInput{GroupId: new(s.nodeGroup), IpPermissions: []types.IpPermission{{
			IpProtocol: new("tcp"), FromPort: new(int32(80)), ToPort: new(int32(80)), IpRanges: []types.IpRange{{CidrIp: new("192.168.0.0/16")}},
		}}}
		if _, err := change(s, s.authorizeSecurityGroupIngress, eventual.Reader{}, in); err != nil {
			t.Fatal(err)
		}
		if s.Admits(client, target) {
			t.Error("packets feel a rule at the moment of the call")
		}
		time.Sleep(10 * time.Second) // the distribution is cut at 10 s
		synctest.Wait()
		if !s.Admits(client, target) {
			t.Error("packets do not feel a rule after 10 s")
		}
	})
}

func TestFilterPatterns(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		pattern, value string
		want           bool
	}{
		{"ELB app/web/*", "ELB app/web/1/2", true},
		{"*shared", "shared", true},
		{"sh?red", "shared", true},
		{"sh?red", "shred", false},
		{"a[bc]", "ab", false},
		{"a[*", "a[b", true},
		{`a\*`, "a*", true},
		{`a\*`, "ab", false},
		{"Shared*", "shared", false},
		{"*", "", true},
	} {
		if got := anyLike(tt.pattern, []string{tt.value}); got != tt.want {
			t.Errorf("%q matches %q: %v", tt.pattern, tt.value, got)
		}
	}
}

func TestAFullSubnetSaysSoAndIsReusedAfterwards(t *testing.T) {
	t.Parallel()
	s := newService(t, "ideal")
	n := s.privateSubnet("eu-west-1a")
	free := n.free()
	given := map[netip.Addr]bool{}
	var last netip.Addr
	for range free {
		a, ok := n.take()
		if !ok || given[a] || !n.prefix.Contains(a) || a == n.prefix.Addr() {
			t.Fatalf("address %s after %d of %d: %v", a, len(given), free, ok)
		}
		given[a], last = true, a
	}
	if a, ok := n.take(); ok {
		t.Errorf("a full subnet gave %s", a)
	}
	n.give(last)
	if a, ok := n.take(); !ok || a != last {
		t.Errorf("the only free address is %s, got %s %v", last, a, ok)
	}
}

// VPCs with the same block share no addresses before they must.
func TestAnAddressOfAnotherVPCIsGivenLast(t *testing.T) {
	t.Parallel()
	p := newPool(netip.MustParsePrefix("10.0.0.0/28"))
	other := netip.MustParseAddr("10.0.0.4")
	avoid := func(a netip.Addr) bool { return a == other }
	free := p.free()
	for i := range free {
		a, ok := p.takeBut(avoid)
		if !ok || (a == other) != (i == free-1) || p.free() != free-i-1 {
			t.Errorf("address %s is number %d of %d (%v), and %d are left", a, i+1, free, ok, p.free())
		}
	}
	if a, ok := p.takeBut(avoid); ok {
		t.Errorf("a full pool gave %s", a)
	}
}

// Section 6.3, hop by hop: what a Network Load Balancer passes on is judged by the client's address, or by a rule that names a group of the
// load balancer, and always by the outbound rules of the load balancer.
func TestPassesOnEveryHop(t *testing.T) {
	s := newService(t, "ideal")
	me := eventual.Reader{}
	machine, err := s.AddInstance("eu-west-1a", "node")
	if err != nil {
		t.Fatal(err)
	}
	group := func(name string) string {
		out, err := change(s, s.createSecurityGroup, me, &ec2.CreateSecurityGroupInput{GroupName: &name, Description: new("test"), VpcId: new(s.VPC())})
		if err != nil {
			t.Fatal(err)
		}
		return *out.GroupId
	}
	rule := func(protocol string, port int32) types.IpPermission {
		return types.IpPermission{IpProtocol: &protocol, FromPort: &port, ToPort: &port}
	}
	allow := func(id string, p types.IpPermission) {
		if _, err := change(s, s.authorizeSecurityGroupIngress, me, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &id, IpPermissions: []types.IpPermission{p}}); err != nil {
			t.Fatal(err)
		}
	}
	front := group("front")
	_, with, err := s.AddBalancerInterface("with", machine.Subnet, []string{front}, true, netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	_, without, err := s.AddBalancerInterface("without", machine.Subnet, nil, true, netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	fromClients, fromFront, datagrams := rule("tcp", 80), rule("tcp", 81), rule("udp", 53)
	fromClients.IpRanges = []types.IpRange{{CidrIp: new("192.168.0.0/16")}}
	fromFront.UserIdGroupPairs = []types.UserIdGroupPair{{GroupId: &front}}
	datagrams.IpRanges = fromClients.IpRanges
	for _, p := range []types.IpPermission{fromClients, fromFront, datagrams} {
		allow(s.nodeGroup, p)
	}
	allow(front, fromClients)
	client, stranger := netip.MustParseAddr("192.168.1.1"), netip.MustParseAddr("172.16.0.1")
	target := func(port uint16) netip.AddrPort { return netip.AddrPortFrom(machine.Address, port) }
	for _, c := range []struct {
		name string
		p    Packet
		want bool
	}{
		{"client-to-balancer", Packet{"tcp", client, netip.AddrPortFrom(with, 80), netip.Addr{}}, true},
		{"stranger-to-balancer", Packet{"tcp", stranger, netip.AddrPortFrom(with, 80), netip.Addr{}}, false},
		{"anybody-to-balancer-without-groups", Packet{"tcp", stranger, netip.AddrPortFrom(without, 99), netip.Addr{}}, true},
		{"client-through-balancer-by-its-address", Packet{"tcp", client, target(80), without}, true},
		{"stranger-through-balancer-by-its-address", Packet{"tcp", stranger, target(80), without}, false},
		{"stranger-through-balancer-by-the-group", Packet{"tcp", stranger, target(81), with}, true},
		{"balancer-without-groups-does-not-help", Packet{"tcp", stranger, target(81), without}, false},
		{"node-by-its-group", Packet{"tcp", with, target(81), netip.Addr{}}, true},
		{"node-by-its-address", Packet{"tcp", with, target(80), netip.Addr{}}, false},
		{"udp-has-rules-of-its-own", Packet{"udp", client, target(53), without}, true},
		{"tcp-on-a-udp-rule", Packet{"tcp", client, target(53), without}, false},
		{"udp-on-a-tcp-rule", Packet{"udp", client, target(80), without}, false},
	} {
		if got := s.Passes(c.p); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	everything := []types.IpPermission{{IpProtocol: new("-1"), IpRanges: []types.IpRange{{CidrIp: new("0.0.0.0/0")}}}}
	if _, err := change(s, s.revokeSecurityGroupEgress, me, &ec2.RevokeSecurityGroupEgressInput{GroupId: &front, IpPermissions: everything}); err != nil {
		t.Fatal(err)
	}
	if s.Passes(Packet{"tcp", stranger, target(81), with}) || s.Passes(Packet{"tcp", with, target(81), netip.Addr{}}) {
		t.Error("a balancer that may send nothing sends")
	}
	if !s.Passes(Packet{"tcp", client, netip.AddrPortFrom(with, 80), netip.Addr{}}) {
		t.Error("outbound rules keep clients out")
	}
}

// Each interface takes a change at its own moment, none goes back to what was before a newer change, and in the end all are the same.
func TestInterfacesFeelRulesEachAtItsOwnMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, "pessimistic")
		var targets []netip.AddrPort
		for i := range 6 {
			machine, err := s.AddInstance("eu-west-1a", fmt.Sprint("node-", i))
			if err != nil {
				t.Fatal(err)
			}
			targets = append(targets, netip.AddrPortFrom(machine.Address, 80))
		}
		permission := []types.IpPermission{{IpProtocol: new("tcp"), FromPort: new(int32(80)), ToPort: new(int32(80)), IpRanges: []types.IpRange{{CidrIp: new("0.0.0.0/0")}}}}
		retry := func(call func() error) {
			for call() != nil {
				time.Sleep(time.Second)
			}
		}
		retry(func() error {
			_, err := change(s, s.authorizeSecurityGroupIngress, eventual.Reader{}, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: new(s.nodeGroup), IpPermissions: permission})
			return err
		})
		admitted := func() (open int) {
			for _, to := range targets {
				if s.Admits(netip.MustParseAddr("192.168.1.1"), to) {
					open++
				}
			}
			return open
		}
		mixed, before := false, 0
		for range 70 {
			open := admitted()
			if open < before {
				t.Fatalf("of %d interfaces that had taken the rule %d are left", before, open)
			}
			mixed, before = mixed || open > 0 && open < len(targets), open
			time.Sleep(time.Second)
		}
		if !mixed || before != len(targets) {
			t.Errorf("interfaces differed: %v, in the end %d of %d have the rule", mixed, before, len(targets))
		}
		retry(func() error {
			_, err := change(s, s.revokeSecurityGroupIngress, eventual.Reader{}, &ec2.RevokeSecurityGroupIngressInput{GroupId: new(s.nodeGroup), IpPermissions: permission})
			return err
		})
		time.Sleep(70 * time.Second)
		if open := admitted(); open != 0 {
			t.Errorf("%d interfaces admit what was revoked", open)
		}
		for range 50 {
			time.Sleep(time.Minute)
			s.mu.Lock()
			g, _ := s.groups.get(s.nodeGroup)
			s.changeGroup(g)
			s.mu.Unlock()
		}
		if n := len(s.groupsInForce[s.nodeGroup].versions); n > 12 {
			t.Errorf("%d versions are kept", n)
		}
	})
}

// A group that nothing uses any more counts as used for a while, as users of AWS have seen.
func TestAGroupIsReleasedLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newService(t, "pessimistic")
		me := eventual.Reader{Stale: &eventual.Staleness{}}
		made, err := change(s, s.createSecurityGroup, me, &ec2.CreateSecurityGroupInput{GroupName: new("front"), Description: new("x"), VpcId: new(s.VPC())})
		if err != nil {
			t.Fatal(err)
		}
		id, _, err := s.AddBalancerInterface("ELB", *s.privateSubnet("eu-west-1a").SubnetId, []string{*made.GroupId}, false, netip.Addr{})
		if err != nil {
			t.Fatal(err)
		}
		s.DropBalancerInterface(id)
		remove := func() error {
			_, err := change(s, s.deleteSecurityGroup, me, &ec2.DeleteSecurityGroupInput{GroupId: made.GroupId})
			return err
		}
		if err := remove(); err == nil || !strings.Contains(err.Error(), "DependencyViolation") {
			t.Errorf("at once: %v", err)
		}
		time.Sleep(2 * time.Minute) // the distribution is cut at 120 s
		if err := remove(); err != nil {
			t.Errorf("after two minutes: %v", err)
		}
	})
}
