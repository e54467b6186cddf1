package dataplane

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// group is a target group as this node knows it. Rules hold groups by pointer, also before (and after) the
// node knows anything of them: such a group has no targets.
type group struct {
	node *Node
	arn  string

	mu         sync.Mutex // held by whoever changes the group
	settings   *Group     // nil: not applied
	setVersion uint64
	targets    map[TargetKey]*target
	order      []*target // as given by the control API

	pool atomic.Pointer[pool] // what requests see; replaced as a whole
	turn atomic.Uint64        // round robin
	late bool                 // a refresh has been put off
	// forgotten: the node has another record of the group, or none.
	forgotten bool

	requests  atomic.Uint64
	opened    atomic.Uint64  // requests while it has failed open
	generated map[int]uint64 // by status; guarded by mu, since errors are rare
	times     times
}

// Health changes of larger groups are taken in together after refreshDelay: ten thousand targets that become healthy one by one
// would otherwise build ten thousand pools of up to ten thousand targets.
const (
	refreshAtOnce = 1000
	refreshDelay  = 10 * time.Millisecond
)

// pool is what a request needs to know of a group, as of one moment.
type pool struct {
	settings Group
	// eligible are the targets that get new requests: the healthy ones, or all registered ones when the group fails open.
	eligible []*target
	ramp     ramp
	// open: the group has failed open. enough and enoughForDNS: it has the healthy targets that routing and DNS ask for.
	open, enough, enoughForDNS bool
}

func newGroup(n *Node, arn string) *group {
	g := &group{node: n, arn: arn, targets: map[TargetKey]*target{}, generated: map[int]uint64{}}
	g.turn.Store(n.draw())
	g.pool.Store(&pool{})
	return g
}

// apply takes new settings. Health checks with other settings start afresh, at once, and the state of targets is kept. It is false if the group is
// forgotten.
func (g *group) apply(settings Group) bool {
	settings.HealthCheck.Version = cmp.Or(settings.HealthCheck.Version, settings.ProtocolVersion)
	settings.HealthCheck = settings.HealthCheck.withDefaults()
	if settings.Algorithm == "" {
		settings.Algorithm = RoundRobin
	}
	settings.MinimumHealthy = max(settings.MinimumHealthy, 1)
	if settings.Algorithm != WeightedRandom {
		settings.Mitigate = false
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.forgotten {
		return false
	}
	if g.settings != nil && settings.Version != 0 && settings.Version <= g.settings.Version {
		return true
	}
	recheck := g.settings == nil || g.settings.HealthCheck != settings.HealthCheck
	g.settings = &settings
	for _, t := range g.order {
		if recheck && t.State == Registered {
			t.beginChecks()
		}
	}
	g.refresh()
	g.node.journal(Event{Kind: GroupApplied, Group: g.arn, Version: settings.Version})
	return true
}

// applyTargets makes the given set the set of the node. It is false if the group is forgotten.
func (g *group) applyTargets(set TargetSet) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.forgotten {
		return false
	}
	if set.Version != 0 && set.Version <= g.setVersion {
		return true
	}
	g.setVersion = set.Version
	now := time.Now()
	order := make([]*target, 0, len(set.Targets))
	kept := make(map[TargetKey]*target, len(set.Targets))
	for _, want := range set.Targets {
		key := want.Key()
		if kept[key] != nil {
			continue
		}
		t := g.targets[key]
		if t != nil && (t.Address != want.Address || t.over && want.State == Registered) {
			t.leave()
			t = nil
		}
		if t == nil {
			t = newTarget(g, want)
			if want.State == Registered {
				t.register()
			}
		}
		t.Zone = want.Zone
		switch {
		case t.over: // its delay is over, and the control API has yet to take it from the set
		case want.State == Draining:
			t.drain(want, now)
		case t.State == Draining: // registered again
			t.register()
		}
		kept[key] = t
		order = append(order, t)
	}
	for key, t := range g.targets {
		if kept[key] != t {
			t.leave()
		}
	}
	g.targets, g.order = kept, order
	g.refresh()
	g.node.journal(Event{Kind: TargetsApplied, Group: g.arn, Version: set.Version})
	return true
}

// remove forgets the group: no new requests, no checks. Requests in flight end as they will, since it is not their
// target that has gone but the reference to the group.
func (g *group) remove() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.known() {
		return
	}
	for _, t := range g.order {
		t.retire()
	}
	g.settings, g.setVersion, g.order = nil, 0, nil
	clear(g.targets)
	g.refresh()
	g.node.journal(Event{Kind: GroupRemoved, Group: g.arn})
}

// refreshSoon is refresh for changes of health, the one thing that may take effect a moment later. Called with g.mu held.
func (g *group) refreshSoon() {
	if len(g.order) <= refreshAtOnce {
		g.refresh()
		return
	}
	if g.late {
		return
	}
	g.late = true
	time.AfterFunc(refreshDelay, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.late = false
		g.refresh()
	})
}

// refresh publishes who gets new requests. Called with g.mu held, after each change of membership, health or settings.
func (g *group) refresh() {
	if g.settings == nil {
		g.pool.Store(&pool{})
		return
	}
	p := &pool{settings: *g.settings}
	var healthy, all []*target
	unhealthy := 0
	for _, t := range g.order {
		if t.State != Registered || g.settings.SameZoneOnly && t.Zone != g.node.config.Zone && t.Zone != "all" {
			continue
		}
		all = append(all, t)
		switch t.health.State {
		case Healthy:
			healthy = append(healthy, t)
		case Unhealthy:
			unhealthy++
		}
	}
	enough := len(healthy) >= g.settings.MinimumHealthy && len(healthy)*100 >= g.settings.MinimumHealthyPercent*len(all)
	switch {
	case g.settings.Function:
		p.eligible = all
	case enough:
		p.eligible = healthy
	case len(healthy) == 0 && unhealthy == 0:
		// Only targets in their first checks: a real load balancer is seen to answer 503 here, it does not fail open.
	default:
		p.eligible, p.open = all, len(all) > 0
	}
	p.enough = enough
	p.enoughForDNS = len(all) > 0 && len(healthy) >= g.settings.DNSMinimumHealthy && len(healthy)*100 >= g.settings.DNSMinimumHealthyPercent*len(all)
	p.ramp = newRamp(p.eligible, g.settings.SlowStart, time.Now())
	if g.settings.SameZoneOnly {
		p.settings.Stickiness, p.settings.AppCookie = 0, AppCookie{} // not supported without cross-zone
	}
	g.pool.Store(p)
}

// stats is what became of the requests for the group. Called with g.mu held.
func (g *group) stats() GroupStats {
	p := g.pool.Load()
	return GroupStats{
		Requests: g.requests.Load(), Generated: maps.Clone(g.generated), Opened: g.opened.Load(), Times: g.times.snapshot(),
		Routing: p.enough, DNS: p.enoughForDNS,
	}
}

// count records an answer that the node made itself for a request to the group.
func (g *group) count(status int) {
	g.mu.Lock()
	g.generated[status]++
	g.mu.Unlock()
}

// choose picks a target, or returns nil when nobody gets requests.
func (g *group) choose(p *pool, now time.Time) *target {
	n := uint64(len(p.eligible))
	if n == 0 {
		return nil
	}
	switch p.settings.Algorithm {
	case LeastOutstanding:
		start := g.turn.Add(1) // ties go around
		best := p.eligible[start%n]
		for i := uint64(1); i < n; i++ {
			if t := p.eligible[(start+i)%n]; t.usage.inFlight.Load() < best.usage.inFlight.Load() {
				best = t
			}
		}
		return best
	case WeightedRandom:
		return g.weightedRandom(p)
	}
	return g.roundRobin(p, now)
}

// sticky finds the target of a stickiness cookie if it may still be used.
func (p *pool) sticky(key TargetKey) *target {
	i := slices.IndexFunc(p.eligible, func(t *target) bool { return t.key == key })
	if i < 0 {
		return nil
	}
	return p.eligible[i]
}

// target is one registration of a target in a group of this node. A target that left and comes back is a new one.
type target struct {
	group *group
	key   TargetKey
	at    netip.AddrPort // VPC

	// Guarded by group.mu.
	Target
	health health
	checks *watch
	round  int // of checks; results of an older round no longer count
	over   bool
	timer  *time.Timer
	// slowSince is when slow start began, the zero time if it did not.
	slowSince time.Time
	anomaly   anomaly

	usage usage
	flights
}

func newTarget(g *group, t Target) *target {
	made := &target{group: g, key: t.Key(), at: netip.AddrPortFrom(t.Address, t.Port), Target: t, health: initialHealth()}
	made.anomaly.share.Store(fullShare)
	return made
}

// register (again) makes the target wait for its first check.
func (t *target) register() {
	t.State, t.DrainUntil = Registered, time.Time{}
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
	t.flights.open()
	t.health = initialHealth()
	t.report()
	t.beginChecks()
}

// beginChecks starts the checks of the group's present settings, the first one now.
func (t *target) beginChecks() {
	g := t.group
	t.endChecks()
	if g.settings == nil || g.settings.Function {
		return
	}
	hc := g.settings.HealthCheck
	port := t.Port
	if hc.Port != 0 {
		port = hc.Port
	}
	round := t.round
	key := probeKey{group: g.arn, target: t.key, to: netip.AddrPortFrom(t.Address, port), check: hc}
	t.checks = g.node.probes.watch(key, asking{from: g.node.config.Address, wall: g.node.config.Firewall}, func(r probeResult) { t.checked(round, r) })
}

func (t *target) endChecks() {
	t.round++
	if t.checks != nil {
		t.checks.stop()
		t.checks = nil
	}
}

func (t *target) checked(round int, r probeResult) {
	g := t.group
	g.mu.Lock()
	defer g.mu.Unlock()
	if round != t.round || g.settings == nil {
		return
	}
	before := t.health.TargetHealth
	t.health = t.health.after(r, g.settings.HealthCheck, g.node.config.FirstFailureUnhealthy)
	if t.health.TargetHealth == before {
		return
	}
	if t.health.State != before.State {
		if t.health.State == Healthy {
			g.beginSlowStart(t, time.Now())
		}
		g.refreshSoon()
	}
	t.report()
}

func (t *target) report() {
	c := t.group.node.config
	if c.Health != nil {
		c.Health(HealthChange{LoadBalancer: c.LoadBalancer, Zone: c.Zone, Group: t.group.arn, Target: t.key, TargetHealth: t.health.TargetHealth, At: time.Now(),
			Anomalous: t.anomaly.anomalous, Mitigated: t.anomaly.share.Load() < fullShare})
	}
}

// drain ends new requests now, and those in flight when the delay is over.
func (t *target) drain(want Target, now time.Time) {
	until := want.DrainUntil
	if until.IsZero() {
		if t.State == Draining && t.timer != nil {
			return // already counting
		}
		until = now
		if t.group.settings != nil {
			until = now.Add(t.group.settings.DeregistrationDelay)
		}
	}
	if t.timer != nil {
		t.timer.Stop()
	}
	if t.State != Draining || !t.flights.closing() {
		t.State = Draining
		t.endChecks()
		t.flights.close()
		t.group.node.journal(Event{At: now, Kind: TargetDraining, Group: t.group.arn, Target: t.key})
	}
	t.DrainUntil = until
	t.timer = time.AfterFunc(max(0, until.Sub(now)), func() {
		t.group.mu.Lock()
		defer t.group.mu.Unlock()
		if t.State == Draining && t.DrainUntil.Equal(until) {
			t.leave()
		}
	})
}

// leave is the end of a registration: whatever is still in flight is cut off.
func (t *target) leave() {
	if t.over {
		return
	}
	cut := t.end()
	cut.Cut = t.flights.cut()
	t.group.node.journal(cut)
}

// retire is the end of a registration that leaves requests in flight alone.
func (t *target) retire() {
	if !t.over {
		t.group.node.journal(t.end())
	}
}

func (t *target) end() Event {
	t.over = true
	t.endChecks()
	t.flights.close()
	if t.timer != nil {
		t.timer.Stop()
	}
	t.group.node.retire(t)
	return Event{Kind: TargetGone, Group: t.group.arn, Target: t.key, Usage: t.usage.snapshot()}
}
