package dns_test

import (
	"context"
	"net"
	"net/netip"
	"testing"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	elbtypes "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	mdns "github.com/miekg/dns"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/fault"
)

// routing sets how clients of a Network Load Balancer are spread over zones.
func (a *account) routing(lb elbtypes.LoadBalancer, policy string) {
	a.Helper()
	must(a.ELBv2().ModifyLoadBalancerAttributes(reader, &elb.ModifyLoadBalancerAttributesInput{
		LoadBalancerArn: lb.LoadBalancerArn,
		Attributes:      []elbtypes.LoadBalancerAttribute{{Key: new("dns_record.client_routing_policy"), Value: &policy}},
	}))(a)
}

// Section 11.1: the policy of a Network Load Balancer prefers the zone of clients in the VPC, of all or of 85 in a hundred.
func TestClientsKeepToTheirZone(t *testing.T) {
	t.Parallel()
	a := newAccount(t, nil)
	lb := a.active(a.balancer("net", elbtypes.LoadBalancerTypeEnumNetwork))
	machine := must(a.EC2().AddInstance("eu-west-1b", "client"))(t)
	pod := vpc.RealAddr(must(a.EC2().AssignPodAddress(machine.ID))(t))
	own := a.real("net")["eu-west-1b"].String()
	// alone counts the answers, of 400, that hold the address of the client's zone and no other one.
	alone := func(client netip.Addr) (answers int) {
		t.Helper()
		for range 400 {
			m := a.server.AnswerTo(client, new(mdns.Msg).SetQuestion(*lb.DNSName+".", mdns.TypeA))
			switch {
			case len(m.Answer) == 1 && m.Answer[0].(*mdns.A).A.String() == own:
				answers++
			case len(m.Answer) != 3:
				t.Fatalf("the answer is %s", say(m))
			}
		}
		return answers
	}
	for policy, want := range map[string][2]int{"any_availability_zone": {0, 0}, "partial_availability_zone_affinity": {310, 370}, "availability_zone_affinity": {400, 400}} {
		a.routing(lb, policy)
		if n := alone(pod); n < want[0] || n > want[1] {
			t.Errorf("%s: %d of 400 answers keep to the zone of the client, want %v", policy, n, want)
		}
		if n := alone(netip.MustParseAddr("127.0.0.1")); n != 0 {
			t.Errorf("%s: %d answers for a client from outside keep to a zone", policy, n)
		}
	}
}

// A client whose own zone has left the answers, here by a fault, gets the others. The question comes over the network here.
func TestClientsLeaveAZoneThatIsGone(t *testing.T) {
	t.Parallel()
	a := newAccount(t, nil).serve()
	lb := a.active(a.balancer("net", elbtypes.LoadBalancerTypeEnumNetwork))
	a.routing(lb, "availability_zone_affinity")
	machine := must(a.EC2().AddInstance("eu-west-1b", "client"))(t)
	ask := func() []mdns.RR {
		t.Helper()
		client := mdns.Client{Dialer: &net.Dialer{LocalAddr: &net.UDPAddr{IP: vpc.RealAddr(machine.Address).AsSlice()}}}
		m, _, err := client.ExchangeContext(context.Background(), new(mdns.Msg).SetQuestion(*lb.DNSName+".", mdns.TypeA), a.server.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return m.Answer
	}
	if got := ask(); len(got) != 1 {
		t.Errorf("as long as all zones are there the answer is %v", got)
	}
	must(a.AddFault(fault.Fault{Kind: fault.Zone, Zone: "eu-west-1b"}))(t)
	if got := ask(); len(got) != 2 {
		t.Errorf("without the zone of the client the answer is %v", got)
	}
}
