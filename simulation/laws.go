package simulation

import (
	"fmt"
	"maps"
	"time"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/delivery/canary"
	"github.com/lockstep-delivery/lockstep/internal/split"
)

// Violation is a broken law.
type Violation struct {
	// Law is its number in docs/laws.md; 0 is that every run ends.
	Law  int
	At   time.Duration
	What string
}

func (v Violation) String() string {
	name := fmt.Sprintf("law %d", v.Law)
	if v.Law == 0 {
		name = "liveness"
	}
	return fmt.Sprintf("%s is broken after %s: %s", name, v.At.Round(time.Millisecond), v.What)
}

// laws watches every act and every moment. It looks at the world itself, never at what controllers believe.
type laws struct {
	w *world
	// judging begins when the first deployment is complete: before it nothing can be lost.
	judging bool
	// asleep: people wanted no pods, so no answer is what was asked for.
	asleep bool
	// faultAt is the newest fault that stopped a pod, editAt the newest hand of others on the weights.
	faultAt, editAt time.Time
	// resizedAt is when people last changed the number of pods.
	resizedAt time.Time
	wanted    int32
	// completeAt is when the stable version was last seen to be all there beside a canary with a share.
	completeAt time.Time
	// lateAt is when a call of a former leader last came late; strayedAt when AWS was last given a weight that is
	// not ours, and strandedAt when such a late call deregistered targets under it.
	lateAt, strayedAt, strandedAt time.Time
	// overriddenAt is when such a late call itself gave AWS a weight that is not ours.
	overriddenAt time.Time
	// grownAt is when the ReplicaSet of a version was last made larger, by its hash.
	grownAt map[string]time.Time
	// revivedAt is when a target became healthy while none was.
	revivedAt time.Time
	// unmarkedAt is when a drain mark was last taken back, which a deregistration may cross on its way.
	unmarkedAt time.Time
	// splits are the times of the newest writes of the annotation.
	splits []time.Time
}

func (l *laws) faulted(string) { l.faultAt = l.w.now() }
func (l *laws) meddled()       { l.editAt = l.w.now() }

func (l *laws) resized(replicas int32) {
	l.resizedAt, l.wanted = l.w.now(), replicas
	if replicas == 0 {
		l.asleep = true
	}
}

func (l *laws) lately(at time.Time, window time.Duration) bool {
	return !at.IsZero() && l.w.now().Sub(at) < window
}

// excuse is a reason for which a broken law may be nobody's mistake, for a while after something happened.
// docs/laws.md says why each cannot be avoided.
type excuse struct {
	name   string
	at     time.Time
	window time.Duration
}

func (l *laws) lost(window time.Duration) excuse { return excuse{"a pod was lost", l.faultAt, window} }

// edited: others wrote the annotation, or a call of a former leader came late.
func (l *laws) edited(window time.Duration) excuse {
	return excuse{"others changed the weights", l.editAt, window}
}

// sized: while the rollout is paused by people, a size that they wish for is not made.
func (l *laws) sized(window time.Duration) excuse {
	e := excuse{"people changed the size", l.resizedAt, window}
	if r, _ := l.w.rollouts.live.get(rolloutName); r.spec.Paused {
		e.at = l.w.now()
	}
	return e
}

// unmarked: the call that relied on the mark may be on its way.
func (l *laws) unmarked() excuse {
	return excuse{"a drain mark was just taken back", l.unmarkedAt, time.Second}
}

// crossed: a weight that others want was on its way when the targets were told to leave.
func (l *laws) crossed(p placed) excuse {
	e := excuse{name: "a foreign weight crossed a deregistration", window: time.Second}
	if l.stray(p.forward) {
		e.at = p.since
	}
	return e
}

// grown: when the call was sent, fewer pods were wanted of the version that the Service selects.
func (l *laws) grown(hash string) excuse {
	return excuse{"a version grew while a call was on its way", l.grownAt[hash], time.Second}
}

// revived: the plan was made when no group had a healthy target, by a read of the last two seconds.
func (l *laws) revived() excuse {
	return excuse{"a target became healthy while a call was on its way", l.revivedAt, 3 * time.Second}
}

// stranded: nodes still have a foreign weight when a late call empties its group.
func (l *laws) stranded() excuse {
	return excuse{"a late call met a foreign weight", l.strandedAt, l.w.config.Settle}
}

// late: a call of a former leader was decided on what was true then.
func (l *laws) late() excuse {
	return excuse{"a late call of a former leader", l.lateAt, time.Millisecond}
}

// overridden: production looks for the weights of a late call at least every 30 s, the simulation by the audit alone.
func (l *laws) overridden() excuse {
	return excuse{"a late call of a former leader changed the weights", l.overriddenAt, audit}
}

// reviving is called before a target is shown healthy.
func (l *laws) reviving() {
	for _, g := range l.w.aws.groups {
		for _, t := range g.targets {
			if t.state == "healthy" {
				return
			}
		}
	}
	l.revivedAt = l.w.now()
}

// broken notes that a law is broken, unless an excuse holds; how many runs need one is counted.
func (l *laws) broken(law int, excuses []excuse, format string, args ...any) {
	for _, e := range excuses {
		// What has to be done about it waits while AWS throttles.
		at := e.at
		if storm := l.w.aws.busyUntil; !at.IsZero() && storm.After(at) && e.window >= time.Minute {
			at = storm
		}
		if l.lately(at, e.window) {
			l.w.note("  law %d, excused since %s: %s", law, e.name, fmt.Sprintf(format, args...))
			l.w.reach(fmt.Sprintf("law %d excused: %s", law, e.name))
			return
		}
	}
	l.w.violate(law, format, args...)
}

// on says whether traffic is judged at all.
func (l *laws) on() bool { return l.judging && !l.asleep }

// stopping: law 2, a pod is told to stop, so no node may send to it any more. Law 8: nor may it be needed.
func (l *laws) stopping(name string, p *pod) {
	if !l.judging || p.ip == "" {
		return
	}
	proc := l.w.workload.processes[p.ip]
	if proc == nil || proc.faulty || !proc.serving {
		return
	}
	for _, n := range l.w.aws.nodes {
		for _, d := range n.routes {
			if !n.carries(d) {
				continue
			}
			targets, _ := n.group(d.arn).eligible()
			for _, t := range targets {
				if t.ip == p.ip {
					l.w.violate(2, "pod %s is told to stop while the node in %s sends to it (group of %s, weight %d)", name, n.zone, l.w.aws.group(d.arn).service, d.weight)
				}
			}
		}
	}
}

// scaling: law 8, the stable version keeps its size until the new one is stable.
func (l *laws) scaling(op canary.ScaleReplicaSet) {
	r, _ := l.w.rollouts.live.get(rolloutName)
	if op.To > op.From {
		l.grownAt[op.Hash] = l.w.now()
		for _, o := range l.w.pods.live.objects {
			if p := o.value; p.hash == op.Hash && p.drain != "" && !p.terminating && op.From >= *r.spec.Replicas {
				l.w.reach("a restart goes on while pods drain")
				break
			}
		}
	}
	if op.To < op.From && op.To < *r.spec.Replicas && op.To > 0 && op.Hash == r.status.StableRS && r.status.StableRS != r.image {
		l.w.reach("stable shrinks with its share")
	}
	if !l.judging || l.w.config.DynamicStableScale || r.status.StableRS == r.image || op.Hash != r.status.StableRS {
		return
	}
	if op.To < *r.spec.Replicas && op.To < op.From {
		l.w.violate(8, "the stable ReplicaSet %s is scaled from %d to %d of %d pods while version %s is not stable yet", op.Name, op.From, op.To, *r.spec.Replicas, r.image)
	}
}

// pointed: law 8, the stable Service keeps selecting the stable version.
func (l *laws) pointed(op canary.PointService, from string) {
	r, _ := l.w.rollouts.live.get(rolloutName)
	if l.judging && op.Service == stableService && from == r.status.StableRS && op.To != from {
		l.w.violate(8, "%s while %s is the stable version", op, from)
	}
}

// writing: law 1, the canary's share rises only over pods that are healthy, and alone when it rises from 0.
func (l *laws) writing(s split.Split) {
	before, err := split.Decode(l.w.shownAction)
	now, _ := s.Weight(canaryService)
	was, _ := before.Weight(canaryService)
	action, _ := split.Encode(s)
	l.w.shownAction = action
	l.busy()
	if err != nil || now <= was || !l.on() {
		return
	}
	excuses := []excuse{l.lost(time.Minute), l.sized(5 * time.Minute), l.late()}
	g, service := l.w.aws.groupOf(canaryService), l.hash(canaryService)
	healthy, others := 0, 0
	for _, t := range g.targets {
		switch p := l.w.podAt(t.ip, true); {
		case t.state == "draining":
		case p != nil && p.hash == service && t.state == "healthy":
			healthy++
		case p == nil || p.hash != service:
			others++
		}
	}
	wanted := l.needed(now)
	if healthy < wanted {
		l.broken(1, excuses, "the canary's share rises from %d to %d with %d healthy pods of %s, %d are wanted", was, now, healthy, service, wanted)
	}
	if was == 0 && others > 0 {
		l.broken(1, excuses, "the canary's share rises from 0 while %d targets of other versions are live in its group", others)
	}
}

// busy: liveness, the annotation is not written over and over.
func (l *laws) busy() {
	const many, window = 15, 10 * time.Second
	l.splits = append(l.splits, l.w.now())
	if len(l.splits) > many {
		l.splits = l.splits[1:]
		if l.w.now().Sub(l.splits[0]) < window {
			l.w.violate(0, "the annotation is written %d times within %s", many, l.w.now().Sub(l.splits[0]))
		}
	}
}

// needed is how many healthy pods a share needs at least, whatever the steps say about the size.
func (l *laws) needed(weight int32) int {
	r, _ := l.w.rollouts.live.get(rolloutName)
	for _, s := range l.w.config.Steps {
		if s.SetCanaryScale != nil {
			return 1
		}
	}
	n := (weight**r.spec.Replicas + 99) / 100
	if t := l.w.config.Threshold; t != nil {
		n = (n*t.Value + 99) / 100
	}
	return int(max(1, n))
}

func (l *laws) hash(service string) string {
	s, _ := l.w.services.live.get(service)
	return s.hash
}

// stray: the forward gives weights that Lockstep does not want.
func (l *laws) stray(forward model.Forward) bool {
	intended, err := split.Decode(l.w.shownAction)
	weight, _ := intended.Weight(canaryService)
	return err != nil || l.weights(placed{forward: forward})[canaryService] != weight
}

// modified: law 1, no share rises to a group without healthy targets while another has some.
func (l *laws) modified(before *model.Forward, actions []model.Action) {
	if before == nil || !l.on() || actions[0].Forward == nil {
		return
	}
	after := actions[0].Forward
	if l.stray(*after) {
		l.strayedAt = l.w.now()
		if l.lateAt.Equal(l.strayedAt) {
			l.overriddenAt = l.lateAt
		}
	}
	share := func(f *model.Forward, arn string) (float64, bool) {
		total, own, named := int32(0), int32(0), false
		for _, t := range f.TargetGroups {
			total += t.Weight
			if t.ARN == arn {
				own, named = t.Weight, true
			}
		}
		if total == 0 {
			return 0, named
		}
		return float64(own) / float64(total), named
	}
	healthy := func(arn string) int {
		n := 0
		if g := l.w.aws.group(arn); g != nil {
			for _, t := range g.targets {
				if t.state == "healthy" {
					n++
				}
			}
		}
		return n
	}
	others := 0
	for _, t := range before.TargetGroups {
		others += healthy(t.ARN)
	}
	for _, t := range after.TargetGroups {
		was, _ := share(before, t.ARN)
		if now, _ := share(after, t.ARN); now > was && healthy(t.ARN) == 0 && others > 0 {
			l.broken(1, []excuse{l.revived(), l.late()}, "AWS is told to give %.0f %% to the group of %s, which has no healthy target, while others have %d", 100*now, l.w.aws.group(t.ARN).service, others)
		}
	}
}

// deregistering: law 3, a target that is alive leaves a group that serves only when enough others are healthy.
func (l *laws) deregistering(g *group, targets []model.Target) {
	if l.lateAt.Equal(l.w.now()) && l.lately(l.strayedAt, l.w.config.Settle) {
		l.strandedAt = l.w.now()
	}
	if !l.on() || !l.serves(g) {
		return
	}
	newest := l.w.aws.shown[len(l.w.aws.shown)-1]
	excuses := []excuse{l.lost(time.Minute), l.unmarked(), l.grown(l.hash(g.service)), l.crossed(newest), l.late()}
	leaves := map[string]bool{}
	for _, t := range targets {
		leaves[t.ID] = true
	}
	alive, before, after := 0, 0, 0
	for _, t := range g.targets {
		p := l.w.podAt(t.ip, true)
		if p == nil || p.terminating || t.state != "healthy" || !l.w.workload.processes[t.ip].serving {
			continue
		}
		before++
		switch {
		case !leaves[t.ip]:
			after++
		case p.ready:
			alive++
		}
	}
	if need := min(before, l.need(g)); alive > 0 && after < need {
		l.broken(3, excuses, "%d live targets leave the group of %s, which serves: %d healthy ones remain, %d are needed", alive, g.service, after, need)
	}
}

// need is the number of pods that the Service selects and that are to stay.
func (l *laws) need(g *group) int {
	n, hash := 0, l.hash(g.service)
	for _, o := range l.w.replicaSets.live.objects {
		if o.value.hash == hash {
			n += int(o.value.replicas)
		}
	}
	for _, o := range l.w.pods.live.objects {
		if p := o.value; p.hash == hash && p.drain != "" && !p.terminating {
			n--
		}
	}
	return n
}

// serves: some node gives the group a share, or may still do so.
func (l *laws) serves(g *group) bool {
	for _, t := range l.w.aws.forward().TargetGroups {
		if t.ARN == g.arn && t.Weight > 0 {
			return true
		}
	}
	for _, n := range l.w.aws.nodes {
		for _, d := range n.routes {
			if d.arn == g.arn && n.carries(d) {
				return true
			}
		}
	}
	return false
}

// wayBack: law 8, while the canary has a share and is not stable yet, the stable version is all there and
// healthy in its group (with dynamicStableScale: as much of it as its share needs, which others judge).
func (l *laws) wayBack(status v1alpha1.RolloutStatus) {
	r, _ := l.w.rollouts.live.get(rolloutName)
	if !l.on() || l.w.config.DynamicStableScale || status.StableRS == r.image || l.hash(canaryService) == status.StableRS {
		return
	}
	served := int32(0)
	for _, t := range l.w.aws.forward().TargetGroups {
		if l.w.aws.group(t.ARN).service == canaryService {
			served = t.Weight
		}
	}
	if served == 0 {
		return
	}
	healthy := int32(0)
	for _, t := range l.w.aws.groupOf(stableService).targets {
		if p := l.w.podAt(t.ip, true); p != nil && p.hash == status.StableRS && !p.terminating && t.state == "healthy" {
			healthy++
		}
	}
	if healthy >= *r.spec.Replicas {
		l.completeAt = l.w.now()
		return
	}
	excuses := []excuse{l.lost(10 * time.Minute)}
	if l.faultAt.After(l.completeAt) && l.w.config.Faults.Crash > 0 { // as below
		excuses = append(excuses, l.lost(20*time.Minute))
	}
	if l.resizedAt.After(l.completeAt) { // since then it has not been complete; a controller that crashes takes long
		excuses = append(excuses, l.sized(20*time.Minute))
	}
	l.broken(8, excuses, "the canary has %d %% and only %d of %d pods of the stable version %s could take them back", served, healthy, *r.spec.Replicas, status.StableRS)
}

// publishing: law 4, nothing counts as done before AWS shows the weights, and a wait for them is visible.
func (l *laws) publishing(old, status v1alpha1.RolloutStatus) {
	l.wayBack(status)
	l.restarted(old, status)
	if !l.judging || len(status.Traffic) == 0 {
		return
	}
	newest := l.w.aws.shown[len(l.w.aws.shown)-1]
	shown := l.weights(newest)
	// What was seen may be published only by the look after the next, which waits for a cache that lags.
	if len(old.Traffic) > 0 && !l.shownWithin(old.Traffic[0].Intended, 4*time.Second+longestLag) && l.stepped(old, status) {
		l.w.violate(4, "step %d counts as done though AWS has %v and intended was %v", *old.CurrentStepIndex, shown, old.Traffic[0].Intended)
	}
	if maps.Equal(shown, status.Traffic[0].Intended) {
		return
	}
	differs := fmt.Sprintf("AWS has %v and intended is %v", shown, status.Traffic[0].Intended)
	switch {
	case len(status.PauseConditions) > 0 && len(old.PauseConditions) == 0 && (len(old.Traffic) == 0 || !l.shownLately(old.Traffic[0].Intended)):
		l.broken(4, []excuse{l.overridden()}, "a pause begins though %s", differs)
	case l.shownLately(status.Traffic[0].Intended):
		// Another call of ours has overtaken the read; the next look sees it.
	case status.Phase == v1alpha1.PhaseHealthy && old.Phase != v1alpha1.PhaseHealthy:
		l.broken(4, []excuse{l.overridden()}, "Healthy is reported though %s", differs)
	case status.StableRS != old.StableRS:
		l.w.violate(4, "version %s becomes stable though %s", status.StableRS, differs)
	case verified(status) && l.w.now().Sub(newest.since) > 10*time.Second:
		// What another hand did in AWS is found by the audit at the latest.
		l.broken(4, []excuse{l.edited(audit)}, "TrafficVerified is not False though %s", differs)
	}
}

// restarted: a restart counts as done only when no pod of the stable version is left from before it.
func (l *laws) restarted(old, status v1alpha1.RolloutStatus) {
	r, _ := l.w.rollouts.live.get(rolloutName)
	at := r.spec.RestartAt
	if !l.judging || at == nil || !status.RestartedAt.Equal(at) || old.RestartedAt.Equal(at) || status.CurrentPodHash != old.CurrentPodHash {
		return // A new template ends a restart.
	}
	l.w.reach("restarted")
	for _, o := range l.w.pods.live.objects {
		// A pod that was made just before may not have been known.
		if p := o.value; p.hash == status.StableRS && !p.terminating && p.created.Add(longestLag).Before(at.Time) {
			l.w.violate(0, "the restart of %s counts as done though pod %s is from before it", at.Format(time.TimeOnly), o.name)
		}
	}
}

// weights are those of a forward by Service.
func (l *laws) weights(p placed) map[string]int32 {
	weights := map[string]int32{}
	for _, t := range p.forward.TargetGroups {
		if g := l.w.aws.group(t.ARN); g != nil {
			weights[g.service] = t.Weight
		}
	}
	return weights
}

// shownLately: AWS had these weights at some moment of the last seconds. The next split may have been written,
// and even have reached AWS, before the status of the last one is published.
func (l *laws) shownLately(weights map[string]int32) bool {
	return l.shownWithin(weights, 3*time.Second)
}

// shownWithin: AWS had these weights at some moment of the window.
func (l *laws) shownWithin(weights map[string]int32, window time.Duration) bool {
	for i := len(l.w.aws.shown) - 1; i >= 0; i-- {
		if maps.Equal(l.weights(l.w.aws.shown[i]), weights) {
			return true
		}
		if l.lately(l.w.aws.shown[i].since, window) {
			continue
		}
		return false
	}
	return false
}

// stepped: a setWeight step counts as done that did not before, by no wish of a person.
func (l *laws) stepped(old, status v1alpha1.RolloutStatus) bool {
	if old.CurrentStepIndex == nil || status.CurrentStepIndex == nil || status.Abort || status.PromoteFull || status.CurrentPodHash != old.CurrentPodHash || status.StableRS == status.CurrentPodHash {
		return false
	}
	was, is := *old.CurrentStepIndex, *status.CurrentStepIndex
	return is > was && int(was) < len(l.w.config.Steps) && l.w.config.Steps[was].SetWeight != nil
}

func verified(s v1alpha1.RolloutStatus) bool {
	for _, c := range s.Conditions {
		if c.Type == v1alpha1.ConditionTrafficVerified {
			return c.Status == "True"
		}
	}
	return true
}
