package simulation

import (
	"slices"
	"time"

	bindings "github.com/lockstep-delivery/lockstep/internal/balancing/binding/plan"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

// binding keeps one target group in step with the pods of its Service: the controller of a TargetGroupBinding.
type binding struct {
	actor
	service string
	// mirror is that of the process: a late call of a former one does not reach its successor's.
	mirror *mirror
	// podAt and zeroSince are lost with the process.
	podAt               map[string]string
	zeroSince, servedAt time.Time
}

func newBinding(w *world, service string) *binding {
	b := &binding{actor: actor{w: w, name: "binding of " + service}, service: service, mirror: w.mirror, podAt: map[string]string{}}
	b.round = func() { b.look(false) }
	return b
}

// look gathers a snapshot and decides; when something could leave, it looks again, afresh.
func (b *binding) look(fresh bool) {
	g := b.w.aws.groupOf(b.service)
	if g == nil || len(b.w.aws.bindings) < 2 {
		b.done(time.Time{})
		return
	}
	s, ok := b.observe(g, fresh)
	if !ok {
		b.failed()
		return
	}
	d := b.w.brain.Targets(s)
	b.w.decisions++
	if d.Wait.Fresh && !fresh {
		b.later(b.w.between(10*time.Millisecond, 150*time.Millisecond), func() { b.look(true) })
		return
	}
	again := d.Wait.Again
	if recheck := s.Now.Add(15 * time.Second); d.Wait.Fresh && (again.IsZero() || recheck.Before(again)) {
		again = recheck
	}
	b.act(g, d, again)
}

func (b *binding) observe(g *group, fresh bool) (bindings.Snapshot, bool) {
	w := b.w
	notBefore := time.Time{}
	if fresh {
		notBefore = w.now()
	}
	s := bindings.Snapshot{Now: w.now(), Fresh: fresh, Settings: bindings.Settings{Settle: w.config.Settle, Freshness: 15 * time.Second}}
	if b.mirror.freshTargets(g.arn, notBefore) != nil || b.mirror.freshRoutes(notBefore) != nil {
		return s, false
	}
	selector, _ := w.services.at(fresh).get(b.service)
	targets := b.mirror.targets[g.arn].health
	s.Pods, s.Targets = make([]bindings.Pod, 0, len(w.pods.cached.objects)), make([]bindings.Target, 0, len(targets))
	for _, o := range w.pods.cached.objects {
		p := b.pod(o.name, o.value, selector)
		if live, _ := w.pods.at(fresh).get(o.name); live != nil { // of the pods only the marks are read afresh
			p.Drain = drain(live)
		}
		s.Pods = append(s.Pods, p)
	}
	for _, t := range targets {
		known := bindings.Target{TargetHealth: t, RegisteredUID: b.podAt[t.ID]}
		known.Gone = known.RegisteredUID != "" && w.podAt(t.ID, false) == nil
		s.Targets = append(s.Targets, known)
	}
	sets := w.replicaSets.at(fresh)
	for _, o := range sets.objects {
		if o.value.hash == selector.hash {
			s.Replicas += int(o.value.replicas)
		}
	}
	if s.Share = b.share(g); !mayLeave(s) {
		b.zeroSince, s.Share = time.Time{}, bindings.Share{} // as production, which does not even look then
	}
	for _, t := range s.Targets {
		if p := w.podAt(t.ID, false); p != nil && (selector.hash == "" || selector.hash == p.hash) && !p.terminating {
			b.podAt[t.ID] = p.uid
		}
	}
	return s, true
}

// mayLeave: some target is not that of a pod which should stay.
func mayLeave(s bindings.Snapshot) bool {
	stays := func(ip string) bool {
		return slices.ContainsFunc(s.Pods, func(p bindings.Pod) bool {
			return p.IP == ip && p.Selected && p.Drain == bindings.Stay && p.Life != bindings.Dying
		})
	}
	return slices.ContainsFunc(s.Targets, func(t bindings.Target) bool { return t.Live() && !stays(t.ID) })
}

func (b *binding) pod(name string, p *pod, selector *service) bindings.Pod {
	out := bindings.Pod{Namespace: namespace, Name: name, UID: p.uid, IP: p.ip, Port: port, Owned: true, Life: bindings.Unready}
	out.Selected = selector.hash == "" || selector.hash == p.hash
	out.OtherVersion = !out.Selected
	out.Drain = drain(p)
	switch {
	case p.terminating:
		out.Life = bindings.Dying
	case p.ready:
		out.Life = bindings.Ready
	case p.containersReady:
		out.Life = bindings.Waiting
	}
	for i := range p.gates {
		if p.gates[i].service == b.service {
			out.Gate = &p.gates[i].Gate
		}
	}
	return out
}

// drain is the pod's mark.
func drain(p *pod) bindings.Drain {
	switch p.drain {
	case "":
		return bindings.Stay
	case evidence.DrainAnyway:
		return bindings.Anyway
	}
	return bindings.WhenCovered
}

// share is the weight of the group and since when it is 0, as the rollout has recorded or this process has seen.
func (b *binding) share(g *group) bindings.Share {
	m := b.mirror
	share := bindings.Share{Known: m.known && m.rule != "", SeenAt: m.routesAt}
	if believed := m.believedRule(); believed != nil {
		share.Stickiness = believed.Stickiness
		for _, t := range believed.TargetGroups {
			if t.ARN == g.arn {
				share.Weight = t.Weight
			}
		}
	}
	if !share.Known || share.Weight != 0 {
		b.zeroSince, b.servedAt = time.Time{}, share.SeenAt
		return share
	}
	if b.zeroSince.IsZero() {
		b.zeroSince = share.SeenAt
	}
	share.Since = b.zeroSince
	if r, _ := b.w.rollouts.cached.get(rolloutName); r != nil {
		for _, t := range r.status.Traffic {
			if weight, ok := t.Weights[b.service]; ok && weight == 0 && t.Since != nil && !t.Since.Time.Before(b.servedAt) {
				share.Since = t.Since.Time
			}
		}
	}
	return share
}

// act registers, then deregisters, then answers the gates; a failure of one does not stop the others.
func (b *binding) act(g *group, d bindings.Decision, again time.Time) {
	var in, out []model.Target
	for _, r := range d.Register {
		in = append(in, r.Target)
	}
	failed := false
	steps := []func(){
		func() {
			for _, r := range d.Register {
				b.podAt[r.ID] = r.PodUID
			}
			failed = b.call(g, in, b.w.aws.register) || failed
		},
		func() {
			if out = b.stillUnserved(g, d.Deregister); len(out) > 0 {
				b.mirror.sent(g.arn, out)
				failed = b.call(g, out, b.w.aws.deregister) || failed
			}
		},
		func() { b.answer(d.Gates) },
	}
	if len(in) == 0 {
		steps[0] = nil
	}
	if len(d.Deregister) == 0 {
		steps[1] = nil
	}
	b.step(steps, func() {
		if failed {
			b.done(b.w.now().Add(b.w.between(time.Second, 5*time.Second)))
			return
		}
		b.done(again)
	})
}

// stillUnserved are those that may leave now that the call is sent, as production asks.
func (b *binding) stillUnserved(g *group, deregistrations []bindings.Deregistration) []model.Target {
	var out []model.Target
	share := b.share(g)
	for _, d := range deregistrations {
		if d.Unserved && !(share.Known && share.Weight == 0) {
			b.w.reach("a share comes while targets are told to leave")
			continue
		}
		out = append(out, d.Target)
	}
	return out
}

func (b *binding) step(steps []func(), done func()) {
	if len(steps) == 0 {
		done()
		return
	}
	if steps[0] == nil {
		b.step(steps[1:], done)
		return
	}
	delay := b.w.between(5*time.Millisecond, 100*time.Millisecond)
	if b.w.faults.mayCrash(4, steps[0]) {
		return
	}
	b.later(delay, func() {
		steps[0]()
		b.step(steps[1:], done)
	})
}

func (b *binding) call(g *group, targets []model.Target, call func(string, []model.Target) error) (failed bool) {
	b.w.writes++
	err := call(g.arn, targets)
	b.mirror.wroteTargets(g.arn)
	if err != nil {
		b.w.note("  refused: %v", err)
	}
	return err != nil
}

func (b *binding) answer(changes []bindings.GateChange) {
	for _, change := range changes {
		p, _ := b.w.pods.live.get(change.Pod)
		if p == nil || p.uid != change.UID {
			continue
		}
		b.w.writes++
		b.w.pods.change(change.Pod, func(p *pod) {
			p.gates = append([]gate(nil), p.gates...)
			for i := range p.gates {
				if p.gates[i].service == b.service {
					p.gates[i].Gate = change.Gate
				}
			}
		})
		b.w.workload.readiness(change.Pod)
	}
}
