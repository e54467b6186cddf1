package dataplane

import (
	"io"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"
)

func TestSituation8DeregisteredTargetGetsNothingNew(t *testing.T) {
	w := newWorld(t)
	a, b := w.serve("a"), w.serve("b")
	w.healthyGroup("g", a.Target, b.Target)
	w.forwarding(only("g"))
	w.drain(a.Target, b.Target)
	for range 10 {
		w.wantTarget("b")
	}
	w.awaitEvent(TargetDraining, a.Key())
}

// slow makes a target hold its requests until it is let go.
func (a *app) slow(name string) (arrived <-chan struct{}, letGo func()) {
	in, out := make(chan struct{}, 100), make(chan struct{})
	a.on(func(w http.ResponseWriter, r *http.Request) {
		in <- struct{}{}
		<-out
		_, _ = io.WriteString(w, name)
	})
	return in, func() { close(out) }
}

type answer struct {
	status int
	body   string
}

func (w *world) async(path string) <-chan answer {
	c := make(chan answer, 1)
	go func() {
		res, err := w.client.Get(w.url(path))
		if err != nil {
			c <- answer{0, err.Error()}
			return
		}
		defer res.Body.Close()
		body, _ := io.ReadAll(res.Body)
		c <- answer{res.StatusCode, string(body)}
	}()
	return c
}

func TestSituation8InFlightRequestEndsWell(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.healthyGroup("g", a.Target)
	w.forwarding(only("g"))
	arrived, letGo := a.slow("late")
	got := w.async("/")
	<-arrived
	w.drain(a.Target)
	letGo()
	if g := <-got; g != (answer{200, "late"}) {
		t.Fatalf("got %v", g)
	}
}

// TestDrainingBetweenChoiceAndUse: the request has chosen a target and is still connecting when the target begins to drain. It has
// not been handed over, so it goes elsewhere.
func TestDrainingBetweenChoiceAndUse(t *testing.T) {
	var slow atomic.Pointer[netip.Addr]
	connecting, goOn := make(chan struct{}), make(chan struct{})
	w := newWorld(t, func(c *Config) {
		c.Firewall = rules(func(p Packet) bool {
			if a := slow.Load(); a != nil && *a == p.To.Addr() {
				connecting <- struct{}{}
				<-goOn
			}
			return true
		})
	})
	a, b := w.serve("a"), w.serve("b")
	a.on(func(rw http.ResponseWriter, _ *http.Request) { t.Error("a got the request"); rw.WriteHeader(500) })
	group := quick("g")
	group.HealthCheck.Interval = time.Hour
	w.node.ApplyGroup(group)
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{a.Target}})
	w.awaitState(a.Target, Healthy)
	w.forwarding(only("g"))
	slow.Store(&a.Address)
	got := w.async("/")
	<-connecting
	w.node.ApplyTargets("g", TargetSet{Targets: []Target{a.Target, b.Target}})
	w.awaitState(b.Target, Healthy)
	w.drain(a.Target, b.Target)
	close(goOn)
	if g := <-got; g != (answer{200, "b"}) {
		t.Fatalf("got %v", g)
	}
}

func TestSituation9RequestLongerThanTheDelay(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.healthyGroup("g", a.Target)
	w.forwarding(only("g"))
	arrived, letGo := a.slow("late")
	defer letGo()
	got := w.async("/")
	<-arrived
	leaving := a.Target
	leaving.DrainUntil = time.Now().Add(50 * time.Millisecond)
	w.drain(leaving)
	if g := <-got; g.status != 502 {
		t.Fatalf("got %v", g)
	}
	if e := w.awaitEvent(TargetGone, a.Key()); e.Cut != 1 || e.Usage.Requests != 1 {
		t.Fatalf("event %+v", e)
	}
}

func TestSituation10OnlyDrainingLeft(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.healthyGroup("g", a.Target)
	w.forwarding(only("g"))
	w.drain(a.Target)
	w.wantOwn(503)
}

func TestSituation11TargetClosesWhileDraining(t *testing.T) {
	w := newWorld(t)
	a := w.serve("a")
	w.healthyGroup("g", a.Target)
	w.forwarding(only("g"))
	arrived, letGo := a.slow("late")
	defer letGo()
	got := w.async("/")
	<-arrived
	w.drain(a.Target)
	_ = a.server.Close()
	if g := <-got; g.status != 502 {
		t.Fatalf("got %v", g)
	}
}
