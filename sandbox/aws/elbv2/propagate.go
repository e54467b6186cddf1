package elbv2

import (
	"fmt"
	"maps"
	"math"
	"time"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/dataplane"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
)

// How a change reaches the nodes:
//
//	API call --+-- node of zone a: takes it after 2 s
//	           +-- node of zone b: takes it after 9 s
//	           +-- node of zone c: takes it after 3 s
//
// Each node draws for itself. On one node, changes of one thing (a listener with its rules, one
// target, the attributes) are taken in order: a newer one that arrives first makes the older one
// skipped. Changes of different things overtake each other.

// change is something that the nodes of a load balancer have to learn.
type change struct {
	key profile.Key
	// what is said of it in the journal.
	what string
	// lane names the thing that changes. Empty: apply looks after the order itself.
	lane string
	// apply changes the node. It runs under the lock.
	apply func(n *node)
	// number is that of the change among those of its load balancer.
	number int
}

// Application says that a node has taken a change. Only the journal may tell: AWS has no API for it.
type Application struct {
	LoadBalancer string `json:"loadBalancer"`
	Zone         string `json:"zone"`
	// Change is the operation and the resource, Number its place among the changes of the load balancer.
	Change string `json:"change"`
	Number int    `json:"number"`
	// Called is when the API accepted the change.
	Called time.Time `json:"called"`
	// Taken is when the node took it.
	Taken time.Time `json:"taken"`
}

// Acceptance says that the API has accepted a change that nodes have to learn of. Numbers have the order of acceptance; a node that learns
// of a newer change of the same thing first never takes the older one.
type Acceptance struct {
	LoadBalancer string    `json:"loadBalancer"`
	Change       string    `json:"change"`
	Number       int       `json:"number"`
	Called       time.Time `json:"called"`
}

// event names the newest change of a load balancer for the draws: the same in each run.
func (lb *loadBalancer) event() string { return fmt.Sprintf("%s#%d", lb.name, lb.changes) }

// propagate lets each node of a load balancer learn of a change at its own moment. The caller holds the
// lock.
func (s *Service) propagate(lb *loadBalancer, c change) {
	lb.changes++
	c.number = lb.changes
	called := time.Now()
	if s.config.Accepted != nil {
		s.config.Accepted(Acceptance{LoadBalancer: lb.arn, Change: c.what, Number: c.number, Called: called})
	}
	for _, n := range lb.everyNode() {
		n.expect(c.number)
		delay := s.config.Draws.PerNode(c.key, lb.event(), n.zone)
		s.after(delay, func() []*node { return s.take(n, c, called) })
	}
}

// take makes a node learn of a change, unless it already knows a newer one.
func (s *Service) take(n *node, c change, called time.Time) []*node {
	if n.gone || n.balancer.deleted {
		return nil
	}
	if s.config.Hold != nil {
		if wait := s.config.Hold(n.zone, n.balancer.arn); wait > 0 {
			s.after(wait, func() []*node { return s.take(n, c, called) })
			return nil
		}
	}
	n.arrived(c.number)
	if c.lane != "" && !n.newer(c.lane, c.number) {
		return nil
	}
	c.apply(n)
	if s.config.Applied != nil {
		s.config.Applied(Application{LoadBalancer: n.balancer.arn, Zone: n.zone, Change: c.what, Number: c.number, Called: called, Taken: time.Now()})
	}
	return []*node{n}
}

// newer notes that a change of a lane is taken; it is false if a newer one was taken before.
func (n *node) newer(lane string, number int) bool {
	if n.lanes[lane] > number {
		return false
	}
	n.lanes[lane] = number
	return true
}

func (n *node) expect(number int) {
	if n.underway == nil {
		n.underway = map[int]bool{}
	}
	n.underway[number] = true
}

// arrived notes that a change is not on its way any more, and drops the lanes in which none that is on its way can be too late: there is
// one for each target that ever was, and targets come and go for ever.
func (n *node) arrived(number int) {
	delete(n.underway, number)
	if len(n.lanes) < 2*n.remembered+100 {
		return
	}
	oldest := math.MaxInt
	for other := range n.underway {
		oldest = min(oldest, other)
	}
	draining := map[string]bool{} // whose end looks for the change that began it
	for arn, g := range n.groups {
		for key, t := range g.targets {
			if !t.DrainUntil.IsZero() {
				draining[targetLane(arn, key)] = true
			}
		}
	}
	maps.DeleteFunc(n.lanes, func(lane string, taken int) bool { return taken < oldest && taken < number && !draining[lane] })
	n.remembered = len(n.lanes)
}

func targetLane(group string, key dataplane.TargetKey) string {
	return fmt.Sprintf("%s/%s:%d", group, key.ID, key.Port)
}

// The keys of the profile differ between the two kinds of load balancers.

func (lb *loadBalancer) either(application, network profile.Key) profile.Key {
	if lb.application() {
		return application
	}
	return network
}

func (lb *loadBalancer) ruleChange() profile.Key {
	return lb.either(profile.ALBRuleChange, profile.NLBListenerChange)
}

func (lb *loadBalancer) attributeChange() profile.Key {
	return lb.either(profile.ALBAttribute, profile.NLBAttribute)
}

// changeListener lets the nodes learn what a listener and its rules now say.
func (s *Service) changeListener(l *listener, what string) {
	s.changeListenerAt(l.balancer.ruleChange(), l, what)
}

// changeListenerAt is changeListener at the pace of a key of the profile.
func (s *Service) changeListenerAt(key profile.Key, l *listener, what string) {
	document := s.listenerDocument(l)
	s.propagate(l.balancer, change{key: key, what: what, lane: l.arn, apply: func(n *node) {
		n.listeners[l.arn] = document
		if document.deleted {
			delete(n.listeners, l.arn)
		}
		n.stale = true
		n.forget(s)
	}})
}

// changeTargets lets the nodes learn that targets are registered, or that they drain. A node drains for the
// whole deregistration delay from the moment it learns of it, which may be later than the API says.
func (s *Service) changeTargets(g *targetGroup, what string, key profile.Key, targets []*target, state dataplane.TargetState) {
	delay := g.delay()
	var registrations []dataplane.Target
	for _, t := range targets {
		registrations = append(registrations, t.registration(state))
	}
	number := g.balancer.changes + 1
	s.propagate(g.balancer, change{key: key, what: what, apply: func(n *node) {
		if !n.needs(s, g.arn) || n.lanes[g.arn] > number {
			return // said before the group was last announced, which said all
		}
		known := n.group(s, g.arn)
		for _, t := range registrations {
			lane := targetLane(g.arn, t.Key())
			if !n.newer(lane, number) {
				continue
			}
			known.targetsChanged = true
			if state == dataplane.Registered {
				known.targets[t.Key()] = t
				continue
			}
			if _, had := known.targets[t.Key()]; had && delay > 0 {
				t.DrainUntil = time.Now().Add(delay)
				s.endDraining(n, g.arn, t, number)
			}
			known.drain(t)
		}
	}})
}

// announce lets the nodes learn which targets a group has that has come into use. A node may know the group
// from an earlier use, with targets that have left since.
func (s *Service) announce(g *targetGroup) {
	present := map[dataplane.TargetKey]dataplane.Target{}
	for key, t := range g.targets {
		present[key] = t.registration(dataplane.Registered)
	}
	number := g.balancer.changes + 1
	key := g.balancer.either(profile.ALBRegister, profile.NLBRegister)
	s.propagate(g.balancer, change{key: key, what: "attach " + g.arn, apply: func(n *node) {
		if !n.newer(g.arn, number) || !n.needs(s, g.arn) {
			return
		}
		known := n.group(s, g.arn)
		known.targetsChanged = true
		for key, t := range known.targets {
			// What drains leaves by itself.
			_, there := present[key]
			if !there && t.State == dataplane.Registered && n.newer(targetLane(g.arn, key), number) {
				delete(known.targets, key)
			}
		}
		for key, t := range present {
			if n.newer(targetLane(g.arn, key), number) {
				known.targets[key] = t
			}
		}
	}})
}

// drain keeps a target that the node has until its time is over, and drops it if that is now.
func (g *nodeGroup) drain(t dataplane.Target) {
	if t.DrainUntil.IsZero() {
		delete(g.targets, t.Key())
		return
	}
	g.targets[t.Key()] = t
}

// endDraining takes a draining target from a node when its deregistration delay is over.
func (s *Service) endDraining(n *node, group string, t dataplane.Target, number int) {
	s.after(time.Until(t.DrainUntil), func() []*node {
		known := n.groups[group]
		if known == nil || n.lanes[targetLane(group, t.Key())] != number {
			return nil
		}
		delete(known.targets, t.Key())
		known.targetsChanged = true
		return []*node{n}
	})
}
