package nlb

import (
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
)

// draining is the target as the control API gives it while it drains.
func draining(t *app, d time.Duration) dataplane.Target {
	gone := t.Target
	gone.State, gone.DrainUntil = dataplane.Draining, time.Now().Add(d)
	return gone
}

func (w *world) set(arn string, targets ...dataplane.Target) {
	w.node.ApplyTargets(arn, dataplane.TargetSet{Targets: targets})
}

// Table 4.2, deregistration: existing connections go on, new ones go elsewhere, and nothing is cut at the end of the delay.
func TestDeregisteredTargetKeepsItsFlows(t *testing.T) {
	w := newWorld(t)
	a, b := w.serve("a"), w.serve("b")
	w.group("g", []*app{a})
	w.listen(dataplane.TCP, to("g"))
	old := w.dial()
	w.wantAnswer(old, "a")
	w.set("g", draining(a, 20*time.Millisecond), b.Target)
	w.state("g", b.Target, dataplane.Healthy)
	for range 5 {
		w.wantAnswer(w.dial(), "b")
	}
	if e := w.event(dataplane.TargetGone); e.Cut != 0 || e.Usage.InFlight != 1 {
		t.Errorf("at the end of the delay %+v", e)
	}
	w.wantAnswer(old, "a")
	w.set("g", b.Target)
	w.wantAnswer(old, "a")
}

// With connection termination the rest is cut by RST when the delay is over, and not before.
func TestConnectionTermination(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.group("g", []*app{a}, func(g *dataplane.Group) { g.Network.TerminateDeregistered = true })
	w.listen(dataplane.TCP, to("g"))
	c := w.dial()
	w.wantAnswer(c, "a")
	w.set("g", draining(a, time.Hour))
	w.wantRefusal() // nobody is left for new ones
	w.wantAnswer(c, "a")
	w.set("g", draining(a, 20*time.Millisecond))
	if e := w.event(dataplane.TargetGone); e.Cut != 1 {
		t.Errorf("%d flows are cut at the end of the delay", e.Cut)
	}
	w.wantReset(c)
}

// Registered again while it drains: initial, the old flows remain.
func TestRegisteredAgain(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.group("g", []*app{a}, func(g *dataplane.Group) { g.Network.TerminateDeregistered = true })
	w.listen(dataplane.TCP, to("g"))
	c := w.dial()
	w.wantAnswer(c, "a")
	w.set("g", draining(a, 500*time.Millisecond))
	w.set("g", a.Target)
	w.mu.Lock()
	last := w.changes[len(w.changes)-1]
	w.mu.Unlock()
	if last.State != dataplane.Initial && last.State != dataplane.Healthy {
		t.Errorf("registered again, it is %s", last.State)
	}
	w.state("g", a.Target, dataplane.Healthy)
	past := time.NewTimer(600 * time.Millisecond)
	<-past.C
	w.wantAnswer(c, "a")
	w.wantAnswer(w.dial(), "a")
}

// Unhealthy: new flows go elsewhere and flows are cut, unless the group says otherwise, or fails open.
func TestUnhealthyTarget(t *testing.T) {
	for _, c := range []struct {
		name            string
		terminate, open bool
	}{{"flows-are-cut", true, false}, {"unless-termination-is-off", false, false}, {"or-the-group-fails-open", true, true}} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t)
			a, b := w.serve("a"), w.serve("b")
			targets := []*app{a, b}
			if c.open {
				targets = targets[:1]
			}
			w.group("g", targets, func(g *dataplane.Group) { g.Network.TerminateUnhealthy = c.terminate })
			w.listen(dataplane.TCP, to("g"))
			flow := w.dial()
			for {
				name, _, err := flow.say("x")
				if err != nil {
					t.Fatal(err)
				}
				if name == "a" {
					break
				}
				flow = w.dial()
			}
			_ = a.listener.Close() // checks fail, connections stay
			w.state("g", a.Target, dataplane.Unhealthy)
			switch {
			case c.open:
				if s := w.node.Stats(); s.Network.ActiveFlows[dataplane.TCP] != 1 {
					t.Errorf("%v flows are left", s.Network.ActiveFlows)
				}
				w.wantAnswer(flow, "a")
				w.wantRefusal() // it is tried all the same
				if n := w.node.Stats().Network.UnhealthyRoutingFlows; n != 1 {
					t.Errorf("%d flows went to a group that fails open", n)
				}
				a.open(w)
				w.state("g", a.Target, dataplane.Healthy)
			case c.terminate:
				w.wantReset(flow)
				if e := w.event(dataplane.FlowsCut); e.Target != a.Key() {
					t.Errorf("flows of %v were cut", e.Target)
				}
			default:
				w.wantAnswer(flow, "a")
			}
			if !c.open {
				for range 5 {
					w.wantAnswer(w.dial(), "b")
				}
			}
		})
	}
}

// New connections go to a target for a while after it was found unhealthy.
func TestUnhealthyTargetIsUsedForAWhile(t *testing.T) {
	stop := make(chan string, 1)
	w := newWorld(t, func(c *Config) {
		c.Delays.UnhealthyStop = func(event string) time.Duration { stop <- event; return time.Second }
	})
	a, b := w.serve("a"), w.serve("b")
	w.group("g", []*app{a, b})
	w.listen(dataplane.TCP, to("g"))
	_ = a.listener.Close()
	w.state("g", a.Target, dataplane.Unhealthy)
	<-stop
	begun := time.Now()
	refused := 0
	for refused == 0 && time.Since(begun) < time.Second {
		if c, err := dialAny(w); err != nil {
			refused++
		} else if _, _, err := c.say("x"); err != nil {
			refused++
		}
	}
	if refused == 0 {
		t.Error("no new flow went to the unhealthy target in the time it takes to stop")
	}
	w.eventually("all go to b", func() bool { return w.node.Stats().Requests > 0 && time.Since(begun) > 1100*time.Millisecond })
	for range 10 {
		w.wantAnswer(w.dial(), "b")
	}
}

// Cross-zone off: own targets only, also when they are unhealthy; those of all zones when nobody is healthy anywhere.
func TestZones(t *testing.T) {
	w := newWorld(t)
	here, there := w.serve("here"), w.serve("there")
	there.Zone = "zone-b"
	g := w.group("g", []*app{here, there})
	w.listen(dataplane.TCP, to("g"))
	for range 8 {
		w.wantAnswer(w.dial(), "here")
	}
	_ = here.listener.Close()
	w.state("g", here.Target, dataplane.Unhealthy)
	w.wantRefusal() // the zone fails open to its own
	g.SameZoneOnly = false
	w.node.ApplyGroup(g)
	for range 4 {
		w.wantAnswer(w.dial(), "there")
	}
	g.SameZoneOnly = true
	w.node.ApplyGroup(g)
	_ = there.listener.Close()
	w.state("g", there.Target, dataplane.Unhealthy)
	here.open(w)
	there.open(w)
	w.firewall(func(p dataplane.Packet) bool { return p.To == w.at || p.Via.IsValid() }) // checks go on failing
	seen := map[string]bool{}
	w.eventually("targets of all zones are used", func() bool {
		c, err := dialAny(w)
		if err != nil {
			return false
		}
		name, _, _ := c.say("x")
		seen[name] = true
		return seen["here"] && seen["there"]
	})
}

// Passive checks: targets that refuse real traffic are unhealthy long before the next check.
func TestPassiveChecks(t *testing.T) {
	w := newWorld(t)
	a, b := w.serve("a"), w.serve("b")
	w.group("g", []*app{a, b}, func(g *dataplane.Group) { g.HealthCheck.Interval = time.Hour })
	w.listen(dataplane.TCP, to("g"))
	_ = a.listener.Close()
	w.eventually("a is unhealthy", func() bool {
		if c, err := dialAny(w); err == nil {
			_, _, _ = c.say("x")
		}
		return w.node.Health("g")[a.Key()].State == dataplane.Unhealthy
	})
	w.wantAnswer(w.dial(), "b")
	if u := w.node.Stats().Targets[0].Usage; u.ConnectErrors < 2 {
		t.Errorf("usage of the target that refuses: %+v", u)
	}
}

// A source address sticks to a target for as long as the targets stay what they are.
func TestTargetStickiness(t *testing.T) {
	w := newWorld(t)
	targets := []*app{w.serve("a"), w.serve("b"), w.serve("c")}
	w.group("g", targets, func(g *dataplane.Group) { g.Network.StickySource = true })
	w.listen(dataplane.TCP, to("g"))
	seen := map[string]bool{}
	for range 8 {
		from, first := address(), ""
		for range 4 {
			name, _, err := w.dialFrom(from).say("x")
			if err != nil || first != "" && name != first {
				t.Fatalf("client of %s comes to %s, %v", first, name, err)
			}
			first = name
		}
		seen[first] = true
	}
	if len(seen) < 2 {
		t.Errorf("8 clients all stick to %v", seen)
	}
}

// An HTTP check names the node and the port of its listener, and not the target.
func TestHostOfHealthChecks(t *testing.T) {
	w := newWorld(t)
	hosts := make(chan string, 100)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case hosts <- r.Host + " " + r.UserAgent():
		default:
		}
	}))
	_ = server.Listener.Close()
	a := &app{name: "a", Target: dataplane.Target{Address: address(), Port: 9000, Zone: "zone-a"}}
	l, err := net.Listen("tcp", netip.AddrPortFrom(a.Address, a.Port).String())
	if err != nil {
		t.Fatal(err)
	}
	server.Listener = l
	server.Start()
	defer server.Close()
	w.listen(dataplane.TCP, to("g"))
	w.group("g", []*app{a}, func(g *dataplane.Group) { g.HealthCheck.Protocol, g.HealthCheck.Matcher = dataplane.HTTP, "200-399" })
	if got, want := <-hosts, w.at.String()+" ELB-HealthChecker/2.0"; got != want {
		t.Errorf("the check is for %q, want %q", got, want)
	}
}
