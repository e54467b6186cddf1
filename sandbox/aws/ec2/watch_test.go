package ec2

import (
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
)

// watched is a load balancer's interface whose sources are watched.
type watched struct {
	*testing.T
	*Service
	group string
	to    netip.AddrPort
	told  Sources // guarded by the service's lock, with which it is told
}

func newWatched(t *testing.T, profile string) *watched {
	t.Helper()
	w := &watched{T: t, Service: newService(t, profile)}
	w.group = w.defaultGroup
	home := *w.privateSubnet("eu-west-1a").SubnetId
	_, a, err := w.AddBalancerInterface("ELB app/web", home, []string{w.group}, false, netip.Addr{})
	if err != nil {
		t.Fatal(err)
	}
	w.to = netip.AddrPortFrom(a, 80)
	t.Cleanup(w.Watch(w.to, func(s Sources) { w.told = s }))
	return w
}

func (w *watched) permission(cidr, group string) []types.IpPermission {
	p := types.IpPermission{IpProtocol: new("tcp"), FromPort: new(int32(80)), ToPort: new(int32(80))}
	if cidr != "" {
		p.IpRanges = []types.IpRange{{CidrIp: &cidr}}
	}
	if group != "" {
		p.UserIdGroupPairs = []types.UserIdGroupPair{{GroupId: &group}}
	}
	return []types.IpPermission{p}
}

func (w *watched) authorize(p []types.IpPermission) {
	w.Helper()
	if _, err := change(w.Service, w.authorizeSecurityGroupIngress, eventual.Reader{}, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &w.group, IpPermissions: p}); err != nil {
		w.Fatal(err)
	}
}

func (w *watched) revoke(p []types.IpPermission) {
	w.Helper()
	if _, err := change(w.Service, w.revokeSecurityGroupIngress, eventual.Reader{}, &ec2.RevokeSecurityGroupIngressInput{GroupId: &w.group, IpPermissions: p}); err != nil {
		w.Fatal(err)
	}
}

// lets says whether a client is among the sources that were told last.
func (w *watched) lets(client netip.Addr) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return !slices.Contains(w.told.Denied, client) && slices.ContainsFunc(w.told.Allowed, func(b netip.Prefix) bool { return b.Contains(client) })
}

// Who watches is told of a rule when packets begin to feel it, and not before.
func TestWatchTellsWhenPacketsFeelARule(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWatched(t, "typical")
		client := netip.MustParseAddr("192.168.1.1")
		step := func(open bool, call func()) {
			t.Helper()
			begun := time.Now()
			call()
			for w.Admits(client, w.to) != open {
				if w.lets(client) == open {
					t.Fatalf("after %v it is told that the client may connect: %v, and packets do not feel it", time.Since(begun), open)
				}
				time.Sleep(time.Millisecond)
			}
			synctest.Wait()
			if w.lets(client) != open || time.Since(begun) == 0 {
				t.Errorf("after %v packets feel that the client may connect: %v, and it is not told", time.Since(begun), open)
			}
		}
		step(true, func() { w.authorize(w.permission("192.168.0.0/16", "")) })
		step(false, func() { w.revoke(w.permission("192.168.0.0/16", "")) })
	})
}

// A group as source is the addresses of the interfaces that carry it, as they come and go.
func TestWatchTellsTheMembersOfAGroup(t *testing.T) {
	t.Parallel()
	w := newWatched(t, "ideal")
	machine, err := w.AddInstance("eu-west-1b", "node")
	if err != nil {
		t.Fatal(err)
	}
	if w.lets(machine.Address) {
		t.Error("an instance may connect before any rule says so")
	}
	w.authorize(w.permission("", w.nodeGroup))
	pod, err := w.AssignPodAddress(machine.ID)
	if err != nil {
		t.Fatal(err)
	}
	if !w.lets(machine.Address) || !w.lets(pod) || w.lets(netip.MustParseAddr("192.168.1.1")) {
		t.Errorf("told %v", w.told)
	}
	if err := w.ReleasePodAddress(pod); err != nil {
		t.Fatal(err)
	}
	if w.lets(pod) {
		t.Errorf("an address that was released is told: %v", w.told)
	}
	if err := w.RemoveInstance(machine.ID); err != nil {
		t.Fatal(err)
	}
	if w.lets(machine.Address) {
		t.Errorf("an instance that has ended is told: %v", w.told)
	}
}

// A sender whose own groups let nothing out is denied, and may again as soon as the API says so.
func TestWatchTellsWhoMaySendNothing(t *testing.T) {
	t.Parallel()
	w := newWatched(t, "ideal")
	machine, err := w.AddInstance("eu-west-1b", "node")
	if err != nil {
		t.Fatal(err)
	}
	w.authorize(w.permission("0.0.0.0/0", ""))
	all := []types.IpPermission{{IpProtocol: new("-1"), IpRanges: []types.IpRange{{CidrIp: new("0.0.0.0/0")}}}}
	if _, err := change(w.Service, w.revokeSecurityGroupEgress, eventual.Reader{}, &ec2.RevokeSecurityGroupEgressInput{GroupId: &w.nodeGroup, IpPermissions: all}); err != nil {
		t.Fatal(err)
	}
	if w.lets(machine.Address) || !w.lets(netip.MustParseAddr("192.168.1.1")) {
		t.Errorf("told %v", w.told)
	}
	if _, err := change(w.Service, w.authorizeSecurityGroupEgress, eventual.Reader{}, &ec2.AuthorizeSecurityGroupEgressInput{GroupId: &w.nodeGroup, IpPermissions: all}); err != nil {
		t.Fatal(err)
	}
	if !w.lets(machine.Address) {
		t.Errorf("told %v", w.told)
	}
}
