package nlb

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
)

// Table 4.4: each new flow draws a group; existing flows stay when weights change; weight 0 ends them after a while.
func TestWeightedGroups(t *testing.T) {
	closing := make(chan struct{}, 1)
	w := newWorld(t, func(c *Config) {
		c.Delays.WeightZeroClose = func(string) time.Duration { closing <- struct{}{}; return time.Second }
	})
	a, b := w.serve("a"), w.serve("b")
	w.group("stable", []*app{a})
	w.group("canary", []*app{b})
	split := func(stable, canary int) {
		w.listen(dataplane.TCP, dataplane.Forward{Groups: []dataplane.WeightedGroup{{ARN: "stable", Weight: stable}, {ARN: "canary", Weight: canary}}})
	}
	split(3, 1)
	old := map[string]*client{}
	seen := map[string]int{}
	for range 80 {
		c := w.dial()
		name, _, err := c.say("x")
		if err != nil {
			t.Fatal(err)
		}
		seen[name]++
		old[name] = c
	}
	if seen["b"] < 8 || seen["b"] > 36 {
		t.Errorf("a quarter of 80 flows: %v", seen)
	}
	split(0, 1)
	for range 5 {
		w.wantAnswer(w.dial(), "b")
	}
	<-closing
	w.wantAnswer(old["a"], "a") // for a while
	w.wantReset(old["a"])
	if e := w.event(dataplane.FlowsCut); e.Group != "stable" || e.Cut != seen["a"] {
		t.Errorf("cut: %+v, want %d", e, seen["a"])
	}
	w.wantAnswer(old["b"], "b")
}

// A weight that is back before the time has come ends nothing.
func TestWeightComesBack(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Delays.WeightZeroClose = func(string) time.Duration { return 400 * time.Millisecond }
	})
	a, b := w.serve("a"), w.serve("b")
	w.group("stable", []*app{a})
	w.group("canary", []*app{b})
	split := func(stable, canary int) {
		w.listen(dataplane.TCP, dataplane.Forward{Groups: []dataplane.WeightedGroup{{ARN: "stable", Weight: stable}, {ARN: "canary", Weight: canary}}})
	}
	split(1, 0)
	c := w.dial()
	w.wantAnswer(c, "a")
	split(0, 1)
	split(1, 1)
	past := time.NewTimer(500 * time.Millisecond)
	<-past.C
	w.wantAnswer(c, "a")
	split(0, 0)
	w.wantRefusal() // nobody has a weight
}

// No group takes the place of another: the share of an empty one is refused.
func TestNoFailOverBetweenGroups(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.group("full", []*app{a})
	w.group("empty", nil)
	w.listen(dataplane.TCP, to("full", "empty"))
	refused := 0
	for range 40 {
		c, err := dialAny(w)
		if err == nil {
			_, _, err = c.say("x")
		}
		if err != nil {
			refused++
		}
	}
	if refused < 8 || refused > 32 {
		t.Errorf("%d of 40 flows were refused, want about half", refused)
	}
}

// Stickiness of the action keeps a client address on the group that it got, until the weight of that is 0.
func TestGroupStickiness(t *testing.T) {
	w := newWorld(t)
	a, b := w.serve("a"), w.serve("b")
	w.group("one", []*app{a})
	w.group("two", []*app{b})
	f := to("one", "two")
	f.StickySource = true
	w.listen(dataplane.TCP, f)
	clients := map[string]netip.Addr{}
	for len(clients) < 2 {
		from, first := address(), ""
		for range 4 {
			name, _, err := w.dialFrom(from).say("x")
			if err != nil || first != "" && name != first {
				t.Fatalf("client of %s comes to %s, %v", first, name, err)
			}
			first = name
		}
		clients[first] = from
	}
	f.Groups = []dataplane.WeightedGroup{{ARN: "one", Weight: 1}, {ARN: "two", Weight: 999}}
	w.listen(dataplane.TCP, f)
	w.wantAnswer(w.dialFrom(clients["a"]), "a")
	f.Groups = []dataplane.WeightedGroup{{ARN: "one", Weight: 0}, {ARN: "two", Weight: 1}}
	w.listen(dataplane.TCP, f)
	w.wantAnswer(w.dialFrom(clients["a"]), "b")
}

// Section 4.5: a listener that is switched to another group may refuse for a while; flows stay where they are.
func TestSwitchOfGroups(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Delays.ListenerGap = func(string) time.Duration { return time.Second }
	})
	a, b := w.serve("a"), w.serve("b")
	w.group("blue", []*app{a})
	w.group("green", []*app{b})
	w.listen(dataplane.TCP, to("blue"))
	old := w.dial()
	w.wantAnswer(old, "a")
	w.listen(dataplane.TCP, to("green"))
	w.wantRefusal()
	w.eventually("green answers", func() bool {
		c, err := dialAny(w)
		if err != nil {
			return false
		}
		name, _, err := c.say("x")
		return err == nil && name == "b"
	})
	w.wantAnswer(old, "a")
	w.node.RemoveGroup("blue")
	w.wantAnswer(old, "a")
}

// What makes no sense is refused and changes nothing.
func TestApplyRefusesWhatMakesNoSense(t *testing.T) {
	w := newWorld(t)
	w.listen(dataplane.TCP, to("g"))
	for name, l := range map[string]dataplane.Listener{
		"no-action":         {Port: 1, Protocol: dataplane.TCP},
		"redirect":          {Port: 1, Protocol: dataplane.TCP, Default: dataplane.Action{Redirect: &dataplane.Redirect{}}},
		"http":              {Port: 1, Protocol: dataplane.HTTP, Default: dataplane.Action{Forward: new(to("g"))}},
		"no-certificate":    {Port: 1, Protocol: dataplane.TLS, Default: dataplane.Action{Forward: new(to("g"))}},
		"same-port-twice":   {Port: 2, Protocol: dataplane.TCP, Default: dataplane.Action{Forward: new(to("g"))}},
		"forward-to-no-one": {Port: 1, Protocol: dataplane.TCP, Default: dataplane.Action{Forward: &dataplane.Forward{}}},
	} {
		other := dataplane.Listener{Port: 2, Protocol: dataplane.TCP, Default: dataplane.Action{Forward: new(to("g"))}}
		if err := w.node.Apply(dataplane.NodeConfig{Version: 7, Listeners: []dataplane.Listener{l, other}}); err == nil {
			t.Errorf("%s is accepted", name)
		}
	}
	if v := w.node.Stats().ConfigVersion; v != 0 {
		t.Errorf("version %d is in force", v)
	}
}

// A listener remembers a bounded number of clients.
func TestStickyClientsAreBounded(t *testing.T) {
	l, err := compile(dataplane.Listener{Port: 1, Protocol: dataplane.TCP, Default: dataplane.Action{Forward: new(to("a", "b"))}})
	if err != nil {
		t.Fatal(err)
	}
	first := netip.MustParseAddr("10.0.0.0")
	for client := first; len(l.order) < stickyKept; client = client.Next() {
		l.stick(client, "a", time.Time{})
	}
	l.stick(netip.MustParseAddr("11.0.0.0"), "b", time.Time{})
	if _, known := l.sticky[first]; known || len(l.sticky) != stickyKept || len(l.order) != stickyKept {
		t.Errorf("%d clients are remembered, the first of them: %v", len(l.sticky), known)
	}
}

// Of the flows of a target that leaves each goes to another target, and no other flow moves.
func TestHashMovesOnlyWhatItMust(t *testing.T) {
	var all []*target
	g := &group{arn: "g"}
	for i := range 5 {
		all = append(all, newTarget(g, dataplane.Target{ID: fmt.Sprint("i-", i), Port: 1}))
	}
	before, after := &group{eligible: all}, &group{eligible: all[1:]}
	share := map[*target]int{}
	for flow := range uint64(5000) {
		was, is := before.choose(mix(flow)), after.choose(mix(flow))
		share[was]++
		if was != all[0] && was != is {
			t.Fatalf("flow %d moves from %v to %v", flow, was.key, is.key)
		}
	}
	for _, one := range all {
		if share[one] < 800 || share[one] > 1200 {
			t.Errorf("%v has %d of 5000 flows", one.key, share[one])
		}
	}
}

// A weight that comes back to 0 gives the flows their full time again: the end that was planned the first time is off.
func TestWeightIsZeroTwice(t *testing.T) {
	w := newWorld(t, func(c *Config) {
		c.Delays.WeightZeroClose = func(string) time.Duration { return time.Hour }
	})
	a, b := w.serve("a"), w.serve("b")
	w.group("stable", []*app{a})
	w.group("canary", []*app{b})
	split := func(stable, canary int) {
		w.listen(dataplane.TCP, dataplane.Forward{Groups: []dataplane.WeightedGroup{{ARN: "stable", Weight: stable}, {ARN: "canary", Weight: canary}}})
	}
	split(1, 0)
	c := w.dial()
	w.wantAnswer(c, "a")
	split(0, 1)
	split(1, 0)
	split(0, 1)
	w.node.closeWeightless(8080, "stable", 1) // as when the first time is over
	w.wantAnswer(c, "a")
	w.node.closeWeightless(8080, "stable", 3)
	w.wantReset(c)
}
