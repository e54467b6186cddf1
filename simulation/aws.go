package simulation

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/balancing/apply/applytest"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/balancing/plan"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
)

// stackID is the tag value of the one Ingress.
const stackID = namespace + "/" + ingressName

// aws is AWS as its API has it: what was accepted, not what nodes do. Load balancers, listeners, rules and
// groups are those of applytest.World; targets, delays and throttling are added here.
type aws struct {
	*applytest.World
	w *world

	// bindings are the objects as they were after the last change.
	bindings []plan.ObservedBinding

	groups []*group
	nodes  []*node
	// busyUntil is the end of a throttle storm.
	busyUntil time.Time
	// founding: the load balancer is made as if long ago.
	founding bool
	changes  int
	// shown are the weights of the rule since when, the newest last.
	shown []placed
	// activeAt is when the load balancer is provisioned.
	activeAt time.Time
}

// placed is the forward of the rule since a time.
type placed struct {
	since   time.Time
	rule    string
	forward model.Forward
	// staleUntil is how long reads may still show the one before.
	staleUntil time.Time
}

// group is a target group.
type group struct {
	arn     string
	service string
	targets []*target
}

// target is a registration as the API has it.
type target struct {
	ip    string
	state string
	// serial tells registrations of one address apart.
	serial int
}

func newAWS(w *world) *aws {
	a := &aws{World: &applytest.World{}, w: w}
	for i := range w.config.Zones {
		a.nodes = append(a.nodes, newNode(w, fmt.Sprintf("zone-%c", 'a'+i)))
	}
	a.Refuse = func(operation string) error { return a.w.account.call(operation) }
	return a
}

// bucket is a token bucket.
type bucket struct {
	size, rate, tokens float64
	at                 time.Time
}

func (b *bucket) take(now time.Time) (wait time.Duration) {
	b.refill(now)
	if b.tokens >= 1 {
		b.tokens--
		return 0
	}
	return time.Duration((1 - b.tokens) / b.rate * float64(time.Second))
}

func (b *bucket) refill(now time.Time) {
	if b.at.IsZero() {
		b.tokens = b.size
	}
	b.tokens = min(b.size, b.tokens+b.rate*now.Sub(b.at).Seconds())
	b.at = now
}

func (a *aws) group(arn string) *group {
	for _, g := range a.groups {
		if g.arn == arn {
			return g
		}
	}
	return nil
}

func (a *aws) groupOf(service string) *group {
	for _, g := range a.groups {
		if g.service == service {
			return g
		}
	}
	return nil
}

// CreateLoadBalancer makes one that is provisioned some time later.
func (a *aws) CreateLoadBalancer(ctx context.Context, lb model.LoadBalancer, ids []string) (model.ObservedLoadBalancer, error) {
	made, err := a.World.CreateLoadBalancer(ctx, lb, ids)
	if err == nil {
		a.activeAt = a.w.now()
		if a.founding {
			return made, nil
		}
		a.activeAt = a.w.now().Add(a.w.draws.Once(profile.ProvisionALB, lb.Name))
		a.w.at(a.activeAt, func() { a.w.mirror.stirred() })
	}
	return made, err
}

func (a *aws) active() bool { return !a.activeAt.IsZero() && !a.w.now().Before(a.activeAt) }

// CreateTargetGroup makes a group of the Service that its tag names.
func (a *aws) CreateTargetGroup(ctx context.Context, g model.TargetGroup) (model.ObservedTargetGroup, error) {
	made, err := a.World.CreateTargetGroup(ctx, g)
	if err == nil {
		service := stableService
		if g.ResourceID == stackID+"-"+canaryService+":80" {
			service = canaryService
		}
		a.groups = append(a.groups, &group{arn: made.ARN, service: service})
	}
	return made, err
}

// CreateRule makes a rule and tells the nodes.
func (a *aws) CreateRule(ctx context.Context, listener string, rule model.Rule) (model.ObservedRule, error) {
	made, err := a.World.CreateRule(ctx, listener, rule)
	if err == nil {
		a.placed(made.ARN, rule.Actions)
	}
	return made, err
}

// ModifyRule changes a rule and tells the nodes.
func (a *aws) ModifyRule(ctx context.Context, arn string, actions []model.Action, conditions []model.Condition) error {
	var before *model.Forward
	if len(a.shown) > 0 {
		before = &a.shown[len(a.shown)-1].forward
	}
	err := a.World.ModifyRule(ctx, arn, actions, conditions)
	if err == nil && actions != nil {
		a.w.laws.modified(before, actions)
		a.placed(arn, actions)
	}
	return err
}

// placed records what the rule now forwards to, and lets each node learn of it at its own moment.
func (a *aws) placed(rule string, actions []model.Action) {
	for _, action := range actions {
		var forward model.Forward // another action than a forward leads to no target
		if action.Forward != nil {
			forward = *action.Forward
		}
		a.changes++
		now, event := a.w.now(), fmt.Sprintf("rule#%d", a.changes)
		p := placed{since: now, rule: rule, forward: forward}
		if a.founding {
			a.shown = append(a.shown, p)
			for _, n := range a.nodes {
				n.route(a.changes, p.forward)
			}
			continue
		}
		if a.w.draws.Chance(a.w.draws.Profile().Probabilities[profile.ReadOldState], event) {
			p.staleUntil = now.Add(a.w.draws.Once(profile.ReadWindow, event))
			a.w.reach("stale read")
		}
		a.shown = append(a.shown, p)
		a.w.note("AWS accepts %s", a.describe(p.forward))
		a.use(p.forward)
		for _, n := range a.nodes {
			change := a.changes
			a.w.after(a.w.lag(profile.ALBRuleChange, event, n.zone), func() { n.route(change, p.forward) })
		}
	}
}

func (a *aws) describe(f model.Forward) string {
	if len(f.TargetGroups) == 0 {
		return "an answer without any target"
	}
	text := ""
	for _, t := range f.TargetGroups {
		if g := a.group(t.ARN); g != nil {
			text += fmt.Sprintf(" %s=%d", g.service, t.Weight)
		}
	}
	return "forward" + text
}

// use starts the checks of groups that a rule now names.
func (a *aws) use(f model.Forward) {
	for _, t := range f.TargetGroups {
		if g := a.group(t.ARN); g != nil {
			for _, target := range g.targets {
				if target.state == "unused" {
					target.state = "initial"
					a.tell(g, target)
				}
			}
		}
	}
}

func (a *aws) used(g *group) bool {
	return len(a.shown) > 0 && slices.ContainsFunc(a.shown[len(a.shown)-1].forward.TargetGroups, func(t model.WeightedTargetGroup) bool { return t.ARN == g.arn })
}

// register makes addresses targets; one that is registered already stays as it is.
func (a *aws) register(arn string, targets []model.Target) error {
	if err := a.w.account.call("RegisterTargets"); err != nil {
		return err
	}
	g := a.group(arn)
	for _, t := range targets {
		have := g.find(t.ID)
		if have != nil && have.state != "draining" {
			continue
		}
		if have == nil {
			have = &target{ip: t.ID}
			g.targets = append(g.targets, have)
		}
		a.changes++
		have.serial, have.state = a.changes, "unused"
		a.w.note("AWS registers %s in %s", a.w.named(t.ID), g.service)
		if a.used(g) {
			have.state = "initial"
			a.tell(g, have)
		}
	}
	a.w.mirror.stirred()
	return nil
}

func (g *group) find(ip string) *target {
	for _, t := range g.targets {
		if t.ip == ip {
			return t
		}
	}
	return nil
}

// tell lets each node learn of a registered target.
func (a *aws) tell(g *group, t *target) {
	serial, ip, arn := t.serial, t.ip, g.arn
	event := fmt.Sprintf("register#%d", serial)
	for _, n := range a.nodes {
		a.w.after(a.w.lag(profile.ALBRegister, event, n.zone), func() { n.register(arn, ip, serial) })
	}
}

// deregister takes targets out: nodes stop sending at their own moments, AWS shows the target until the
// deregistration delay is over.
func (a *aws) deregister(arn string, targets []model.Target) error {
	if err := a.w.account.call("DeregisterTargets"); err != nil {
		return err
	}
	g := a.group(arn)
	a.w.laws.deregistering(g, targets)
	for _, t := range targets {
		have := g.find(t.ID)
		if have == nil || have.state == "draining" {
			continue
		}
		a.w.note("AWS deregisters %s from %s", a.w.named(t.ID), g.service)
		a.changes++
		have.serial = a.changes
		serial, ip := have.serial, have.ip
		if have.state == "unused" {
			g.targets = slices.DeleteFunc(g.targets, func(t *target) bool { return t == have })
			continue
		}
		have.state = "draining"
		event := fmt.Sprintf("deregister#%d", serial)
		for _, n := range a.nodes {
			a.w.after(a.w.lag(profile.ALBDeregister, event, n.zone), func() { n.deregister(arn, ip, serial) })
		}
		a.w.after(a.w.config.DeregistrationDelay, func() {
			if have.serial == serial && have.state == "draining" {
				g.targets = slices.DeleteFunc(g.targets, func(t *target) bool { return t == have })
				a.w.mirror.stirred()
			}
		})
	}
	a.w.mirror.stirred()
	return nil
}

// health is what DescribeTargetHealth says.
func (a *aws) health(arn string) []model.TargetHealth {
	g := a.group(arn)
	if g == nil {
		return nil
	}
	all := make([]model.TargetHealth, 0, len(g.targets))
	for _, t := range g.targets {
		all = append(all, model.TargetHealth{Target: model.Target{ID: t.ip, Port: port}, State: t.state})
	}
	return all
}

// agree recomputes the state that the API shows of a target from what the nodes have found.
func (a *aws) agree(arn, ip string, serial int) {
	a.w.after(a.w.draws.Once(profile.ALBHealthAggregate, fmt.Sprintf("health#%d/%d", serial, a.w.micros)), func() {
		g := a.group(arn)
		t := g.find(ip)
		if t == nil || t.serial != serial || t.state == "draining" {
			return
		}
		state := "healthy"
		for _, n := range a.nodes {
			switch known := n.find(arn, ip); {
			case known == nil || known.serial != serial || known.state == checking:
				if state == "healthy" {
					state = "initial"
				}
			case known.state == unfit:
				state = "unhealthy"
			}
		}
		if state == "initial" && t.state != "initial" || state == t.state {
			return
		}
		if state == "healthy" {
			a.w.laws.reviving()
		}
		t.state = state
		a.w.note("AWS shows %s in %s %s", a.w.named(ip), g.service, state)
		a.w.mirror.stirred()
	})
}

// answering and silent tell the nodes' health checks that a process has begun or ceased to answer.
func (a *aws) answering(ip string) {
	for _, n := range a.nodes {
		n.checks(ip)
	}
}

func (a *aws) silent(ip string) { a.answering(ip) }
