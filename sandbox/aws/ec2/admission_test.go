package ec2

import (
	"net/netip"
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
		if _, err := s.AuthorizeSecurityGroupIngress(eventual.Reader{}, in); err != nil {
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
	free := int(n.free())
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
