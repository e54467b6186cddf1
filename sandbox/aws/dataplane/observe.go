package dataplane

import (
	"net/netip"
	"sync"
)

// Observed is a target whose health a balancer outside this package wants to know.
type Observed struct {
	Group  string
	Target TargetKey
	// To is what is checked, From the node that checks.
	To    netip.AddrPort
	From  netip.Addr
	Check HealthCheck
	// Known is the health to go on from: InitialHealth for a new target.
	Known TargetHealth
	// FirstFailureUnhealthy works as in Config.
	FirstFailureUnhealthy bool
	// Firewall is asked about each check.
	Firewall Firewall
	// Host says what an HTTP check gives as its Host header. Nil: the target.
	Host func() string
}

// InitialHealth is the health of a target that has not been checked yet.
func InitialHealth() TargetHealth { return initialHealth().TargetHealth }

// Observation is one node's running view of the health of one target.
type Observation struct {
	o       Observed
	changed func(TargetHealth)
	watch   *watch

	mu  sync.Mutex
	now health
}

// Observe checks a target again and again, the first time now, and tells each change of its health until Stop.
func (p *Probes) Observe(o Observed, changed func(TargetHealth)) *Observation {
	o.Check = o.Check.withDefaults()
	one := &Observation{o: o, changed: changed, now: health{TargetHealth: o.Known}}
	one.watch = p.watch(probeKey{group: o.Group, target: o.Target, to: o.To, check: o.Check}, asking{o.From, o.Firewall, o.Host}, one.take)
	return one
}

// Stop ends the checks, without waiting for a change that is being told.
func (o *Observation) Stop() { o.watch.stop() }

// Refused counts a connection of real traffic that the target has refused as a failed check: a passive check. It must not be called with
// a lock that changed needs.
func (o *Observation) Refused() {
	o.take(probeResult{ReasonFailedHealthChecks, "Health checks failed"})
}

func (o *Observation) take(r probeResult) {
	o.mu.Lock() // until the change is told, so that changes are told in order
	defer o.mu.Unlock()
	before := o.now.TargetHealth
	o.now = o.now.after(r, o.o.Check, o.o.FirstFailureUnhealthy)
	if o.now.TargetHealth != before {
		o.changed(o.now.TargetHealth)
	}
}
