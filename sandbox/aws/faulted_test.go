package aws_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/address"
	"github.com/lockstep-delivery/lockstep/sandbox/aws"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane/sockopt"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/fault"
)

// outside is a program on this machine that is no part of the sandbox, and the host that stands for it in the account.
func (w *world) outside(name, zone string) aws.Host {
	w.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, name) }))
	w.Cleanup(server.Close)
	at := netip.MustParseAddrPort(strings.TrimPrefix(server.URL, "http://"))
	host, err := w.emulator.AddHost(aws.Host{Name: name, Zone: zone, Ports: map[uint16]netip.AddrPort{8080: at}})
	if err != nil {
		w.Fatal(err)
	}
	return host
}

// behind is a world with a load balancer in front of a program outside.
func behind(t *testing.T) (w *world, group, rule string, host aws.Host) {
	t.Helper()
	vpc, err := address.Claim()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = vpc.Release() })
	w = newWorld(t, func(c *aws.Config) { c.VPC, c.WithoutTraffic = vpc.Mapping, false })
	lb := *w.loadBalancer("web").LoadBalancerArn
	w.letIn(lb)
	host, group = w.outside("shop", "eu-west-1b"), w.targetGroup("shop")
	must(w.elb.ModifyTargetGroup(ctx, &elb.ModifyTargetGroupInput{
		TargetGroupArn: &group, HealthCheckIntervalSeconds: new(int32(5)), HealthCheckTimeoutSeconds: new(int32(2)), HealthyThresholdCount: new(int32(2)),
	}))(w)
	w.register(group, host.Address.String())
	rule = w.rule(w.listener(lb, 80, fixed("404")), 1, forward(group))
	return w, group, rule, host
}

func TestAZoneThatIsStuckGoesOnWithWhatItHas(t *testing.T) {
	t.Parallel()
	w, _, rule, _ := behind(t)
	w.answers("shop")
	id, err := w.emulator.AddFault(fault.Fault{Kind: fault.Stuck, Zone: "eu-west-1c"})
	if err != nil {
		t.Fatal(err)
	}
	must(w.elb.ModifyRule(ctx, &elb.ModifyRuleInput{RuleArn: &rule, Actions: fixed("418")}))(w)
	applied := func(zone string) int {
		for _, n := range w.emulator.Applied() {
			if n.Zone == zone && n.Listeners[0].Actions[rule].Fixed != nil {
				return n.Listeners[0].Actions[rule].Fixed.Status
			}
		}
		return 0
	}
	w.eventually("two zones take the change", func() bool { return applied("eu-west-1a") == 418 && applied("eu-west-1b") == 418 })
	if got := applied("eu-west-1c"); got != 0 {
		t.Errorf("the stuck zone answers %d", got)
	}
	if body := w.get("eu-west-1c"); body != "shop" {
		t.Errorf("the stuck zone answers %q", body)
	}
	w.emulator.Faults().Remove(id)
	w.answers("418")
}

func TestTargetsThatAreToBeUnhealthyAre(t *testing.T) {
	t.Parallel()
	w, group, _, host := behind(t)
	state := func() types.TargetHealthStateEnum { return w.health(group)[host.Address.String()].State }
	w.eventually("the target is healthy", func() bool { return state() == types.TargetHealthStateEnumHealthy })
	if _, err := w.emulator.AddFault(fault.Fault{Kind: fault.Unhealthy, Resource: "targetgroup/shop/"}); err != nil {
		t.Fatal(err)
	}
	w.eventually("the target is unhealthy", func() bool { return state() == types.TargetHealthStateEnumUnhealthy })
	w.answers("shop") // the only group has no healthy target: it fails open
	w.emulator.Faults().Clear()
	w.eventually("the target is healthy again", func() bool { return state() == types.TargetHealthStateEnumHealthy })
}

func TestAZoneThatIsGoneAnswersNobody(t *testing.T) {
	t.Parallel()
	w, _, _, _ := behind(t)
	w.answers("shop")
	for says, f := range map[string]fault.Fault{
		`no zone "eu-west-1x"`: {Kind: fault.Zone, Zone: "eu-west-1x"},
		"needs a cluster":      {Kind: fault.Node, Resource: "node-1"},
	} {
		if _, err := w.emulator.AddFault(f); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
	if _, err := w.emulator.AddFault(fault.Fault{Kind: fault.Zone, Zone: "eu-west-1a"}); err != nil {
		t.Fatal(err)
	}
	if body := w.get("eu-west-1a"); body != "" {
		t.Errorf("the zone that is gone answers %q", body)
	}
	if body := w.get("eu-west-1b"); body != "shop" {
		t.Errorf("another zone answers %q", body)
	}
	w.emulator.Faults().Clear()
	w.answers("shop")
}

// A connection that is open hangs while its zone is gone, and goes on when the zone is back.
func TestAZoneThatIsGoneCutsOpenConnections(t *testing.T) {
	t.Parallel()
	if !sockopt.Filters {
		t.Skip("this system has no filters for sockets")
	}
	w, _, _, _ := behind(t)
	w.answers("shop")
	conns := map[string]net.Conn{}
	for _, node := range w.emulator.Endpoints()[0].Nodes {
		conn, err := net.Dial("tcp", node.Real[80].String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conns[node.Zone] = conn
	}
	ask := func(zone string, patience time.Duration) string {
		conn := conns[zone]
		if _, err := fmt.Fprint(conn, "GET /b HTTP/1.1\r\nHost: a\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		_ = conn.SetReadDeadline(time.Now().Add(patience))
		response, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			return err.Error()
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return string(body)
	}
	for zone := range conns {
		if body := ask(zone, 5*time.Second); body != "shop" {
			t.Fatalf("before: %s answers %q", zone, body)
		}
	}
	// The target is in none of the zones that go: in zone b, which stays.
	id, err := w.emulator.AddFault(fault.Fault{Kind: fault.Zone, Zone: "eu-west-1a"})
	if err != nil {
		t.Fatal(err)
	}
	w.eventually("the connection is cut", func() bool { return strings.Contains(ask("eu-west-1a", 50*time.Millisecond), "timeout") })
	if body := ask("eu-west-1b", 5*time.Second); body != "shop" {
		t.Errorf("in another zone: %q", body)
	}
	w.emulator.EndFault(id)
	w.eventually("the connection goes on", func() bool { return ask("eu-west-1a", time.Second) == "shop" })
	w.eventually("the journal tells that connections were cut, and that they were mended", func() bool {
		told := 0
		for _, r := range w.emulator.Journal().Since(0) {
			if r.Event == "ConnectionsCut" {
				told++
			}
		}
		return told == 2
	})
}

// get is what one zone's node answers to a new connection, nothing if it does not.
func (w *world) get(zone string) string {
	w.Helper()
	for _, node := range w.emulator.Endpoints()[0].Nodes {
		if node.Zone != zone {
			continue
		}
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 500 * time.Millisecond}
		response, err := client.Get("http://" + node.Real[80].String() + "/b")
		if err != nil {
			return ""
		}
		defer response.Body.Close()
		body, _ := io.ReadAll(response.Body)
		return string(body)
	}
	w.Fatalf("no node is in zone %s", zone)
	return ""
}

func TestAHostIsAnInstanceThatIsServedElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	host := w.outside("shop", "")
	if host.Zone != "eu-west-1a" || !host.Address.IsValid() || !strings.HasPrefix(host.ID, "i-") {
		t.Errorf("%+v", host)
	}
	again, err := w.emulator.AddHost(aws.Host{Name: "shop", Ports: map[uint16]netip.AddrPort{9090: netip.MustParseAddrPort("127.0.0.1:1")}})
	if err != nil || again.ID != host.ID || len(w.emulator.Hosts()) != 1 {
		t.Errorf("added again: %+v, %v", again, err)
	}
	for says, h := range map[string]aws.Host{
		"remove it first":        {Name: "shop", Zone: "eu-west-1b", Ports: host.Ports},
		"needs a port":           {Name: "bare"},
		"cannot be the name":     {Name: "a/b", Ports: host.Ports},
		"no zone":                {Name: "far", Zone: "us-east-1a", Ports: host.Ports},
		"address of 127.0.0.0/8": {Name: "far", Ports: map[uint16]netip.AddrPort{80: netip.MustParseAddrPort("10.0.0.1:80")}},
	} {
		if _, err := w.emulator.AddHost(h); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", says, err)
		}
	}
	if err := w.emulator.RemoveHost("shop"); err != nil || len(w.emulator.Hosts()) != 0 {
		t.Errorf("%v", err)
	}
	if err := w.emulator.RemoveHost("shop"); err == nil {
		t.Error("removed twice")
	}
}
