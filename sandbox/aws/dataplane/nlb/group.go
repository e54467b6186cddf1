package nlb

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
)

// group is a target group as this node knows it. Guarded by Node.mu, as targets are. Methods that return flows return those that have to end:
// they were taken, and are to be cut when the lock is released.
type group struct {
	node       *Node
	arn        string
	settings   *dataplane.Group // nil: not applied
	setVersion uint64
	targets    map[dataplane.TargetKey]*target
	order      []*target // as given by the control API

	// eligible are the targets that get new flows: the healthy ones, or all when the group fails open.
	eligible  []*target
	failsOpen bool
	requests  uint64
}

// apply takes new settings. Health checks with other settings start afresh, at once, and the state of targets is kept.
func (g *group) apply(settings dataplane.Group) []*flow {
	settings.MinimumHealthy = max(settings.MinimumHealthy, 1)
	settings.HealthCheck.ProxyProtocol = settings.Network.ProxyProtocol
	if g.settings != nil && settings.Version != 0 && settings.Version <= g.settings.Version {
		return nil
	}
	recheck := g.settings == nil || g.settings.HealthCheck != settings.HealthCheck
	g.settings = &settings
	for _, t := range g.order {
		if recheck && t.State == dataplane.Registered {
			t.beginChecks()
		}
	}
	g.node.journal(dataplane.Event{Kind: dataplane.GroupApplied, Group: g.arn, Version: settings.Version})
	return g.refresh()
}

// applyTargets makes the given set the set of the node.
func (g *group) applyTargets(set dataplane.TargetSet) (doomed []*flow) {
	if set.Version != 0 && set.Version <= g.setVersion {
		return nil
	}
	g.setVersion = set.Version
	order := make([]*target, 0, len(set.Targets))
	kept := make(map[dataplane.TargetKey]*target, len(set.Targets))
	for _, want := range set.Targets {
		key := want.Key()
		if kept[key] != nil {
			continue
		}
		t := g.targets[key]
		if t != nil && (t.Address != want.Address || t.over && want.State == dataplane.Registered) {
			doomed = append(doomed, t.leave()...)
			t = nil
		}
		if t == nil {
			t = newTarget(g, want)
			if want.State == dataplane.Registered {
				t.register()
			}
		}
		t.Zone = want.Zone
		switch {
		case t.over: // its delay is over, and the control API has yet to take it from the set
		case want.State == dataplane.Draining:
			t.drain(want)
		case t.State == dataplane.Draining: // registered again; its flows have stayed
			t.register()
		}
		kept[key] = t
		order = append(order, t)
	}
	for key, t := range g.targets {
		if kept[key] != t {
			doomed = append(doomed, t.leave()...)
		}
	}
	g.targets, g.order = kept, order
	g.node.journal(dataplane.Event{Kind: dataplane.TargetsApplied, Group: g.arn, Version: set.Version})
	return append(doomed, g.refresh()...)
}

// remove forgets the group: no new flows, no checks. Flows go on, since it is not their target that has gone but the reference to the group.
func (g *group) remove() {
	if g.settings == nil && len(g.targets) == 0 {
		return
	}
	for _, t := range g.order {
		t.end(0)
	}
	g.settings, g.setVersion, g.order = nil, 0, nil
	clear(g.targets)
	g.refresh()
	g.node.journal(dataplane.Event{Kind: dataplane.GroupRemoved, Group: g.arn})
}

// refresh decides who gets new flows, and takes the flows of targets that are unhealthy while others are not.
func (g *group) refresh() []*flow {
	g.eligible, g.failsOpen = nil, false
	if g.settings == nil {
		return nil
	}
	var healthy, unhealthy, all, anywhere []*target
	elsewhere := 0 // healthy targets of other zones
	for _, t := range g.order {
		if t.State != dataplane.Registered {
			continue
		}
		anywhere = append(anywhere, t)
		if g.settings.SameZoneOnly && t.Zone != g.node.config.Zone && t.Zone != "all" {
			if t.usable {
				elsewhere++
			}
			continue
		}
		all = append(all, t)
		switch {
		case t.usable:
			healthy = append(healthy, t)
		case t.health.State == dataplane.Unhealthy:
			unhealthy = append(unhealthy, t)
		}
	}
	switch {
	case len(healthy) >= g.settings.MinimumHealthy && len(healthy)*100 >= g.settings.MinimumHealthyPercent*len(all):
		g.eligible = healthy
	case len(healthy) == 0 && len(unhealthy) == 0: // nobody, or only targets in their first checks
	case len(healthy) == 0 && elsewhere == 0:
		g.eligible, g.failsOpen = anywhere, true
	default:
		g.eligible, g.failsOpen = all, true
	}
	if g.failsOpen || !g.settings.Network.TerminateUnhealthy {
		return nil
	}
	var doomed []*flow
	for _, t := range unhealthy {
		doomed = append(doomed, t.takeFlows("the target is unhealthy")...)
	}
	return doomed
}

// target is one registration of a target in a group of this node. A target that left and comes back is a new one.
type target struct {
	dataplane.Target
	group *group
	key   dataplane.TargetKey
	at    netip.AddrPort // VPC
	hash  uint64

	health dataplane.TargetHealth
	// usable targets get new flows: the healthy ones, and for a while those that are no longer healthy.
	usable bool
	checks *dataplane.Observation
	round  int // of checks; results of an older round no longer count
	stops  int // changes of health, to name their draws
	over   bool
	timer  *time.Timer // end of the deregistration delay

	flows map[*flow]struct{}
	usage dataplane.TargetUsage
}

func newTarget(g *group, t dataplane.Target) *target {
	h := fnv.New64a()
	_, _ = fmt.Fprint(h, t.Key())
	return &target{
		group: g, key: t.Key(), at: netip.AddrPortFrom(t.Address, t.Port), hash: mix(h.Sum64()),
		Target: t, health: dataplane.InitialHealth(), flows: map[*flow]struct{}{},
	}
}

// register (again) makes the target wait for its first check.
func (t *target) register() {
	t.State, t.DrainUntil = dataplane.Registered, time.Time{}
	t.stopTimer()
	t.health, t.usable = dataplane.InitialHealth(), false
	t.report()
	t.beginChecks()
}

func (t *target) stopTimer() {
	if t.timer != nil {
		t.timer.Stop()
		t.timer = nil
	}
}

// beginChecks starts the checks of the group's present settings, the first one now.
func (t *target) beginChecks() {
	g, c := t.group, t.group.node.config
	t.endChecks()
	if g.settings == nil {
		return
	}
	port := t.Port
	if g.settings.HealthCheck.Port != 0 {
		port = g.settings.HealthCheck.Port
	}
	round := t.round
	t.checks = c.Probes.Observe(dataplane.Observed{
		Group: g.arn, Target: t.key, To: netip.AddrPortFrom(t.Address, port), From: c.Address, Check: g.settings.HealthCheck,
		Known: t.health, FirstFailureUnhealthy: c.FirstFailureUnhealthy, Firewall: c.Firewall, Host: func() string { return g.node.host(g.arn) },
	}, func(h dataplane.TargetHealth) {
		g.node.change(func() []*flow {
			if round != t.round {
				return nil
			}
			return t.found(h)
		})
	})
}

func (t *target) endChecks() {
	t.round++
	if t.checks != nil {
		t.checks.Stop()
		t.checks = nil
	}
}

// found takes a change of health. A target that is no longer healthy gets flows for a while yet.
func (t *target) found(h dataplane.TargetHealth) []*flow {
	former := t.health.State
	t.health = h
	t.report()
	if h.State == former {
		return nil
	}
	t.stops++
	switch {
	case h.State == dataplane.Healthy:
		t.usable = true
	case t.usable:
		stops := t.stops
		delay := t.group.node.config.Delays.UnhealthyStop(fmt.Sprintf("%s/%s:%d#%d", t.group.arn, t.key.ID, t.key.Port, stops))
		if delay > 0 {
			time.AfterFunc(delay, func() {
				t.group.node.change(func() []*flow {
					if t.stops != stops || t.over {
						return nil
					}
					t.usable = false
					return t.group.refresh()
				})
			})
			return nil
		}
		t.usable = false
	}
	return t.group.refresh()
}

func (t *target) report() {
	c := t.group.node.config
	if c.Health != nil {
		c.Health(dataplane.HealthChange{LoadBalancer: c.LoadBalancer, Zone: c.Zone, Group: t.group.arn, Target: t.key, TargetHealth: t.health, At: time.Now()})
	}
}

// drain ends new flows now; those that are there end when the delay is over, if the group says so.
func (t *target) drain(want dataplane.Target) {
	now, until := time.Now(), want.DrainUntil
	if until.IsZero() {
		if t.State == dataplane.Draining && t.timer != nil {
			return // already counting
		}
		until = now
		if t.group.settings != nil {
			until = now.Add(t.group.settings.DeregistrationDelay)
		}
	}
	t.stopTimer()
	if t.State != dataplane.Draining || t.checks != nil {
		t.State, t.usable = dataplane.Draining, false
		t.endChecks()
		t.group.node.journal(dataplane.Event{At: now, Kind: dataplane.TargetDraining, Group: t.group.arn, Target: t.key})
	}
	t.DrainUntil = until
	t.timer = time.AfterFunc(max(0, until.Sub(now)), func() {
		t.group.node.change(func() []*flow {
			if t.State != dataplane.Draining || !t.DrainUntil.Equal(until) {
				return nil
			}
			return t.leave()
		})
	})
}

// leave is the end of a registration. Its flows end with it or go on, as the group says.
func (t *target) leave() []*flow {
	if t.over {
		return nil
	}
	var doomed []*flow
	if s := t.group.settings; s != nil && s.Network.TerminateDeregistered {
		doomed = t.takeFlows("")
	}
	t.end(len(doomed))
	return doomed
}

// end records that the node no longer knows the registration.
func (t *target) end(cut int) {
	if t.over {
		return
	}
	t.over, t.usable = true, false
	t.endChecks()
	t.stopTimer()
	n := t.group.node
	if len(n.gone) == goneKept {
		n.gone = append(n.gone[:0], n.gone[goneKept/10:]...)
	}
	usage := t.snapshot()
	n.gone = append(n.gone, dataplane.TargetStats{Group: t.group.arn, Target: t.key, Gone: true, Usage: usage})
	n.journal(dataplane.Event{Kind: dataplane.TargetGone, Group: t.group.arn, Target: t.key, Usage: usage, Cut: cut})
}

// takeFlows takes all flows of the target; why is for the journal.
func (t *target) takeFlows(why string) []*flow {
	var taken []*flow
	for f := range t.flows {
		taken = append(taken, f)
		t.group.node.forget(f)
	}
	if why != "" && len(taken) > 0 {
		t.group.node.journal(dataplane.Event{Kind: dataplane.FlowsCut, Group: t.group.arn, Target: t.key, Cut: len(taken), Reason: why})
	}
	return taken
}
