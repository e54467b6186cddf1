package simulation

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/balancing/plan"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

// mirror is what the controller's process knows of AWS; a crash loses it. Own writes are believed at once,
// evidence comes from reads only.
type mirror struct {
	w *world
	// startedAt is when the process began.
	startedAt time.Time
	// believed is what plans compare with.
	believed model.Observed
	known    bool
	// routes is the forward that the last read showed.
	routes      model.Forward
	rule        string
	routesAt    time.Time
	routesWrote time.Time
	targets     map[string]seen
	stirring    bool
	// joined are the groups with their pods as last joined, by ARN.
	joined map[string]joined
}

// joined is a group and what it was made of.
type joined struct {
	pods  int64
	read  int
	group evidence.Group
}

// seen is a read of a group's targets.
type seen struct {
	health []model.TargetHealth
	// number tells reads apart.
	number int
	at     time.Time
	wrote  time.Time
	// leaving are the addresses whose deregistration was sent since the read.
	leaving map[string]bool
}

func newMirror(w *world) *mirror {
	return &mirror{w: w, targets: map[string]seen{}, joined: map[string]joined{}}
}

// observed is what AWS is believed to have; the first call reads it.
func (m *mirror) observed() (model.Observed, error) {
	if !m.known {
		if err := m.w.account.call("DescribeLoadBalancers"); err != nil {
			return model.Observed{}, err
		}
		m.believe()
		for _, b := range m.w.bindings {
			b.wake()
		}
	}
	return m.believed, nil
}

func (m *mirror) believe() { m.believed, m.known = m.w.account.ours(), true }

// listed is called when others have made or deleted something: the lists find out some time later.
func (m *mirror) listed() {
	life := m.w.life
	m.w.after(m.w.between(time.Second, 30*time.Second), func() {
		if life == m.w.life && m.known {
			m.believe()
			m.w.balancing.wake()
		}
	})
}

// wrote notes that a call of ours to the rules has returned, and has it seen again.
func (m *mirror) wrote() {
	m.believe()
	m.routesWrote = m.w.now()
	m.seeAgain(m.w.between(50*time.Millisecond, 250*time.Millisecond))
}

// seeAgain reads the rules until they are what was written.
func (m *mirror) seeAgain(delay time.Duration) {
	life := m.w.life
	m.w.after(delay, func() {
		if life != m.w.life {
			return
		}
		if err := m.readRoutes(); err != nil || !equalForward(m.routes, m.w.aws.forward()) {
			m.seeAgain(min(5*time.Second, 2*delay+300*time.Millisecond))
			return
		}
		m.w.delivery.wake()
	})
}

func equalForward(a, b model.Forward) bool {
	return a.Stickiness == b.Stickiness && slices.EqualFunc(a.TargetGroups, b.TargetGroups, func(x, y model.WeightedTargetGroup) bool {
		return x.ARN == y.ARN && x.Weight == y.Weight
	})
}

// forward is what the rule now has.
func (a *aws) forward() model.Forward {
	if len(a.shown) == 0 {
		return model.Forward{}
	}
	return a.shown[len(a.shown)-1].forward
}

func (m *mirror) readRoutes() error {
	if err := m.w.account.call("DescribeRules"); err != nil {
		return err
	}
	m.routesAt = m.w.now()
	shown := m.w.aws.shown
	if len(shown) == 0 {
		m.routes, m.rule = model.Forward{}, ""
		return nil
	}
	newest := shown[len(shown)-1]
	m.shows(newest)
	if len(shown) > 1 && m.w.now().Before(newest.staleUntil) && m.w.chance(0.5) {
		m.shows(shown[len(shown)-2])
		return nil
	}
	// What somebody else wrote is a reason to plan anew.
	if rule := m.believedRule(); rule != nil && !equalForward(*rule, newest.forward) {
		m.believe()
		m.w.reach("foreign write in AWS noticed")
		m.w.balancing.wake()
		m.w.delivery.wake()
		for _, b := range m.w.bindings {
			b.wake()
		}
	}
	return nil
}

// shows takes the answer of a read; a rule that forwards to no group holds no split.
func (m *mirror) shows(p placed) {
	m.routes, m.rule = p.forward, p.rule
	if len(p.forward.TargetGroups) == 0 {
		m.rule = ""
	}
}

func (m *mirror) believedRule() *model.Forward {
	for _, lb := range m.believed.LoadBalancers {
		for _, l := range lb.Listeners {
			for _, r := range l.Rules {
				for _, a := range r.Actions {
					if a.Forward != nil {
						return a.Forward
					}
				}
			}
		}
	}
	return nil
}

func (m *mirror) readTargets(arn string) error {
	if err := m.w.account.call("DescribeTargetHealth"); err != nil {
		return err
	}
	s := m.targets[arn]
	s.health, s.at, s.number, s.leaving = m.w.aws.health(arn), m.w.now(), s.number+1, nil
	m.targets[arn] = s
	return nil
}

// wroteTargets notes that a call of ours to a group has returned.
func (m *mirror) wroteTargets(arn string) {
	s := m.targets[arn]
	s.wrote = m.w.now()
	m.targets[arn] = s
}

// sent notes that targets are about to be deregistered; until the next read plans count them as draining.
func (m *mirror) sent(arn string, targets []model.Target) {
	s := m.targets[arn]
	leaving := maps.Clone(s.leaving)
	if leaving == nil {
		leaving = map[string]bool{}
	}
	for _, t := range targets {
		leaving[t.ID] = true
	}
	s.leaving = leaving
	m.targets[arn] = s
}

// freshRoutes reads the rules unless that was done at or after a time and after our last write.
func (m *mirror) freshRoutes(notBefore time.Time) error {
	if m.routesAt.IsZero() || m.routesAt.Before(notBefore) || m.routesAt.Before(m.routesWrote) {
		return m.readRoutes()
	}
	return nil
}

func (m *mirror) freshTargets(arn string, notBefore time.Time) error {
	if s := m.targets[arn]; s.at.IsZero() || s.at.Before(notBefore) || s.at.Before(s.wrote) {
		return m.readTargets(arn)
	}
	return nil
}

// evidence is what AWS said, from reads that began at or after notBefore.
func (m *mirror) evidence(notBefore time.Time) (evidence.Snapshot, error) {
	out := evidence.Snapshot{SeenAt: m.w.now()}
	if _, err := m.observed(); err != nil {
		return out, err
	}
	if len(m.believed.LoadBalancers) == 0 {
		return out, nil
	}
	if err := m.freshRoutes(notBefore); err != nil {
		return out, err
	}
	lb := m.believed.LoadBalancers[0]
	out.SeenAt, out.OutdatedUntil = m.routesAt, m.outdatedUntil()
	out.LoadBalancer = evidence.LoadBalancer{ARN: lb.ARN, DNSName: lb.DNSName, Active: m.w.aws.active()}
	placement := evidence.Placement{ARN: m.rule, Weights: make(map[string]int32, 2)}
	out.Groups = make([]evidence.Group, 0, 2)
	for _, service := range []string{canaryService, stableService} {
		g := m.w.aws.groupOf(service)
		if g == nil {
			out.Groups = append(out.Groups, evidence.Group{Service: service})
			continue
		}
		if err := m.freshTargets(g.arn, notBefore); err != nil {
			return out, err
		}
		out.Groups = append(out.Groups, m.group(g))
		for _, t := range m.routes.TargetGroups {
			if t.ARN == g.arn {
				placement.Weights[service] = t.Weight
			}
		}
	}
	if m.rule == "" {
		out.Problem = "no rule forwards to the target groups of the action"
		return out, nil
	}
	out.Placements = []evidence.Placement{placement}
	return out, nil
}

// staleWindow is for how long production expects AWS to show what has been replaced.
const staleWindow = 2 * time.Minute

// outdatedUntil is as in production.
func (m *mirror) outdatedUntil() time.Time {
	rule := m.believedRule()
	switch {
	case m.routesWrote.IsZero():
		return m.startedAt.Add(staleWindow)
	case rule != nil && !equalForward(*rule, m.routes):
		return m.routesWrote.Add(staleWindow)
	}
	return time.Time{}
}

// group joins the targets of a group with the pods that have their addresses now.
func (m *mirror) group(g *group) evidence.Group {
	s, pods := m.targets[g.arn], m.w.pods.cached.revision
	if j := m.joined[g.arn]; j.pods == pods && j.read == s.number {
		j.group.Stickiness = m.routes.Stickiness
		return j.group
	}
	out := evidence.Group{Service: g.service, ARN: g.arn, SeenAt: s.at, Stickiness: m.routes.Stickiness, Targets: make([]evidence.Target, 0, len(s.health))}
	for _, t := range s.health {
		target := evidence.Target{Address: t.ID + ":" + strconv.Itoa(port), State: evidence.TargetState(t.State)}
		if p := m.w.podAt(t.ID, false); p != nil {
			target.PodUID, target.PodTemplateHash = p.uid, p.hash
		}
		out.Targets = append(out.Targets, target)
	}
	m.joined[g.arn] = joined{pods, s.number, out}
	return out
}

// healths are the counts that plans need.
func (m *mirror) healths() map[string]plan.Health {
	out := map[string]plan.Health{}
	for arn, s := range m.targets {
		if !s.at.IsZero() {
			health := slices.Clone(s.health)
			for i, t := range health {
				if s.leaving[t.ID] {
					health[i].State = "draining"
				}
			}
			out[arn] = plan.HealthOf(health, s.at)
		}
	}
	return out
}

// stirred is called when targets have changed in AWS: the pollers find out some seconds later.
func (m *mirror) stirred() {
	if m.stirring {
		return
	}
	m.stirring = true
	m.w.after(m.w.between(300*time.Millisecond, 5*time.Second), func() {
		if m != m.w.mirror {
			return
		}
		m.stirring = false
		for _, g := range m.w.aws.groups {
			if m.readTargets(g.arn) != nil {
				m.stirred() // throttled: the poller tries again
				return
			}
		}
		m.w.delivery.wake()
		m.w.balancing.wake()
		for _, b := range m.w.bindings {
			b.wake()
		}
	})
}

// audit is how often the rules are read when nobody waits.
const audit = 5 * time.Minute

// audit reads the rules now and then, also when nobody waits.
func (m *mirror) audit() {
	life := m.w.life
	m.w.after(audit, func() {
		if life == m.w.life {
			_ = m.readRoutes()
			m.audit()
		}
	})
}
