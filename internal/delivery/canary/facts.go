package canary

import (
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

// facts are a snapshot with the names that the questions use. The status in it is the one to be
// published, as far as it is known when a question is asked.
type facts struct {
	Snapshot
	strategy *v1alpha1.CanaryStrategy
	alb      *v1alpha1.ALBTrafficRouting
	// replicas is spec.replicas.
	replicas int32
	// next is the ReplicaSet of the present template, stable the last fully promoted one; nil when absent.
	next, stable *ReplicaSet
	// others are neither, newest revision first.
	others []ReplicaSet
	status v1alpha1.RolloutStatus
}

func newFacts(s Snapshot, status v1alpha1.RolloutStatus) facts {
	f := facts{Snapshot: s, strategy: s.Rollout.Spec.Strategy.Canary, status: status, replicas: 1}
	if s.Rollout.Spec.Replicas != nil {
		f.replicas = *s.Rollout.Spec.Replicas
	}
	f.alb = f.strategy.TrafficRouting.ALB
	for i, rs := range s.ReplicaSets {
		if rs.Hash == s.Rollout.Hash {
			f.next = &s.ReplicaSets[i]
		}
		if rs.Hash == status.StableRS {
			f.stable = &s.ReplicaSets[i]
		}
		if rs.Hash != s.Rollout.Hash && rs.Hash != status.StableRS {
			f.others = append(f.others, rs)
		}
	}
	slices.SortStableFunc(f.others, func(a, b ReplicaSet) int {
		return int(b.Revision - a.Revision)
	})
	return f
}

// promoted: the present template is the stable one.
func (f facts) promoted() bool { return f.status.StableRS != "" && f.status.StableRS == f.Rollout.Hash }

func (f facts) paused() bool { return f.Rollout.Spec.Paused && !f.status.Abort }

// service returns the canary or stable Service as it is.
func (f facts) service(name string) Service {
	for _, s := range f.Services {
		if s.Name == name {
			return s
		}
	}
	return Service{Name: name, Missing: true}
}

func (f facts) canaryHash() string { return f.service(f.strategy.CanaryService).Hash }
func (f facts) stableHash() string { return f.service(f.strategy.StableService).Hash }

// recorded is the canary's weight in the split that was last intended.
func (f facts) recorded() int32 {
	if f.status.Canary.Weights == nil {
		return 0
	}
	return f.status.Canary.Weights.Canary.Weight
}

func (f facts) traffic(ingress string) *v1alpha1.TrafficStatus {
	for i := range f.status.Traffic {
		if f.status.Traffic[i].Group == ingress {
			return &f.status.Traffic[i]
		}
	}
	return nil
}

// unseen says what is not known of AWS; empty when every Ingress was read completely.
func (f facts) unseen() string {
	for _, i := range f.Ingresses {
		if why := i.unseen(); why != "" {
			return why
		}
	}
	return ""
}

func (i Ingress) unseen() string {
	switch {
	case i.EvidenceError != "":
		return fmt.Sprintf("AWS could not be asked about Ingress %s: %s", i.Name, i.EvidenceError)
	case i.Evidence.SeenAt.IsZero():
		return fmt.Sprintf("AWS has not been asked about Ingress %s yet", i.Name)
	case i.Evidence.Problem != "":
		return fmt.Sprintf("Ingress %s: %s", i.Name, i.Evidence.Problem)
	}
	return ""
}

// seenAt is when the oldest of the reads began, of the weights and of the targets.
func (i Ingress) seenAt() time.Time {
	oldest := i.Evidence.SeenAt
	for _, g := range i.Evidence.Groups {
		if g.ARN != "" && !g.SeenAt.IsZero() && g.SeenAt.Before(oldest) {
			oldest = g.SeenAt
		}
	}
	return oldest
}

// carriesNothing: AWS was read completely and no load balancer exists, so no request can be lost.
func (i Ingress) carriesNothing() bool { return i.unseen() == "" && i.Evidence.LoadBalancer.ARN == "" }

// healthy is the number of healthy targets of a ReplicaSet in the Service's group, in the worst Ingress.
// AWS's answer may be some seconds old, so a pod counts only while Kubernetes calls it ready too, and has no
// drain mark, with which it leaves at any moment. An empty hash counts all that AWS calls healthy.
func (f facts) healthy(service, hash string) int32 {
	ready := map[string]bool{}
	for _, rs := range f.ReplicaSets {
		for _, p := range rs.Pods {
			ready[p.UID] = rs.Hash == hash && p.Ready && !p.Terminating && p.Drain == ""
		}
	}
	least := -1
	for _, i := range f.Ingresses {
		n := 0
		if g, ok := i.Evidence.Group(service); ok {
			for _, t := range g.Targets {
				if t.State == evidence.Healthy && (hash == "" || ready[t.PodUID]) {
					n++
				}
			}
		}
		if least < 0 || n < least {
			least = n
		}
	}
	return int32(max(least, 0))
}

// liveOthers is the number of live targets of other ReplicaSets in the Service's group, in the worst Ingress.
func (f facts) liveOthers(service, hash string) int32 {
	most := 0
	for _, i := range f.Ingresses {
		if g, ok := i.Evidence.Group(service); ok {
			most = max(most, g.LiveOthers(hash))
		}
	}
	return int32(most)
}

// holding is the number of targets of a ReplicaSet in all groups, draining ones included.
func (f facts) holding(hash string) int32 {
	n := 0
	for _, i := range f.Ingresses {
		for _, g := range i.Evidence.Groups {
			n += g.Holding(hash)
		}
	}
	return int32(n)
}

// shown says why AWS does not show the intended split yet; empty when every rule of every Ingress has it,
// by a read begun after it was written.
func (f facts) shown() string {
	if why := f.unseen(); why != "" {
		return why
	}
	for _, i := range f.Ingresses {
		e := f.traffic(i.Name)
		_, same := f.inEveryRule(i)
		switch {
		case e == nil || e.WrittenAt == nil:
			return fmt.Sprintf("the split is being written to Ingress %s", i.Name)
		case i.carriesNothing():
			return fmt.Sprintf("Ingress %s has no load balancer yet", i.Name)
		case !i.Evidence.LoadBalancer.Active:
			return fmt.Sprintf("the load balancer of Ingress %s is being provisioned", i.Name)
		case len(i.Evidence.Placements) == 0:
			return fmt.Sprintf("no rule of the load balancer of Ingress %s holds action %s yet", i.Name, f.rootService())
		case e.Weights == nil && !same:
			return fmt.Sprintf("the rules of Ingress %s have different weights", i.Name)
		case e.Weights != nil && !maps.Equal(e.Weights, e.Intended):
			return fmt.Sprintf("Ingress %s: AWS shows %s, intended is %s%s", i.Name, f.describe(e.Weights), f.describe(e.Intended), i.delay())
		case e.Since == nil && e.Weights != nil && i.outdated():
			return fmt.Sprintf("Ingress %s: AWS shows the split, which until %s may be an answer from before the last write", i.Name, i.Evidence.OutdatedUntil.UTC().Format(time.TimeOnly))
		case e.Since == nil:
			return fmt.Sprintf("Ingress %s: the split has to be seen again after it was written", i.Name)
		}
	}
	return ""
}

// delay says that the write of a weight waits for AWS's limits; empty when it does not.
func (i Ingress) delay() string {
	d := i.Evidence.Delay
	if d.Since.IsZero() {
		return ""
	}
	return fmt.Sprintf("; the write waits since %s: %s", d.Since.UTC().Format(time.TimeOnly), d.Reason)
}

func (f facts) describe(weights map[string]int32) string {
	c, s := f.strategy.CanaryService, f.strategy.StableService
	return fmt.Sprintf("%s %d, %s %d", c, weights[c], s, weights[s])
}

func (f facts) rootService() string {
	if f.alb.RootService != "" {
		return f.alb.RootService
	}
	return f.strategy.StableService
}

// settled reports whether every Ingress has shown its present weights for the settle time, with the
// Service at the given weight when one is named; otherwise when that can be at the earliest, and why not.
func (f facts) settled(service string, weight int32) (ok bool, at time.Time, why string) {
	if !lawTwo {
		return true, time.Time{}, ""
	}
	if why := f.unseen(); why != "" {
		return false, time.Time{}, why
	}
	for _, i := range f.Ingresses {
		if i.carriesNothing() {
			continue
		}
		e := f.traffic(i.Name)
		switch {
		case e == nil || e.Since == nil || e.Weights == nil:
			return false, time.Time{}, fmt.Sprintf("the weights of Ingress %s are not in place yet", i.Name)
		case service != "" && e.Weights[service] != weight:
			return false, time.Time{}, fmt.Sprintf("Ingress %s: AWS shows %s at %d", i.Name, service, e.Weights[service])
		}
		if i.rewritten(e) {
			return false, time.Time{}, fmt.Sprintf("Ingress %s: the action was written anew at %s, and the weights have to be seen since", i.Name, i.ChangedAt.UTC().Format(time.TimeOnly))
		}
		if until := i.Evidence.UnansweredUntil; until.After(f.Now) {
			return false, until, fmt.Sprintf("Ingress %s: a write that AWS did not answer may still change the weights until %s", i.Name, until.UTC().Format(time.TimeOnly))
		}
		if end := e.Since.Add(f.Settings.Settle); end.After(at) {
			at = end
		}
	}
	if at.After(f.Now) {
		return false, at, fmt.Sprintf("the weights have been in place since %s and count as settled at %s",
			at.Add(-f.Settings.Settle).UTC().Format(time.TimeOnly), at.UTC().Format(time.TimeOnly))
	}
	return true, at, ""
}

// confirmed reports whether this snapshot is the second, fresh look that an act was waiting for.
func (f facts) confirmed(act string) bool {
	if !lawTwo {
		return true
	}
	if !slices.Contains(f.Confirming, act) || f.Asked.IsZero() || f.Now.Sub(f.Asked) > freshFor {
		return false
	}
	for _, i := range f.Ingresses {
		if i.unseen() != "" || i.seenAt().Before(f.Asked) {
			return false
		}
	}
	return true
}

// freshFor is how long a fresh look is good for; a slower one is repeated.
const freshFor = 30 * time.Second

// confirm is the wait for the second look before an act.
func (f facts) confirm(act string) Wait {
	return Wait{
		Reason: "Confirming", Message: "reading once more before: " + act, Evidence: true,
		Fresh: f.Now, Confirm: []string{act}, Again: f.Now.Add(f.Settings.Poll),
	}
}

// watch makes a wait look at AWS every now and then: at once if the evidence is old, else when it will be.
func (f facts) watch(w Wait) Wait { return f.watchEvery(f.Settings.Poll, w) }

// watchTargets is watch for the health of targets, which the evidence's source polls by itself while
// somebody asks for it: our own questions are only for the case that its news were missed.
func (f facts) watchTargets(w Wait) Wait { return f.watchEvery(4*f.Settings.Poll, w) }

func (f facts) watchEvery(poll time.Duration, w Wait) Wait {
	again := time.Time{}
	for _, i := range f.Ingresses {
		if i.EvidenceError != "" {
			again = earlier(again, f.Now.Add(poll))
			continue
		}
		next := i.seenAt().Add(poll)
		if e := f.traffic(i.Name); e != nil && e.WrittenAt != nil && e.WrittenAt.Add(poll).After(next) {
			// The half that writes reads back by itself and wakes us; asking meanwhile costs calls.
			next = e.WrittenAt.Add(poll)
		}
		if !next.After(f.Now) && !i.seenAt().Equal(f.Now) {
			w.Fresh, next = f.Now, f.Now.Add(poll)
		}
		again = earlier(again, next)
	}
	if again.IsZero() {
		again = f.Now.Add(poll)
	}
	w.Again = earlier(w.Again, again)
	return w
}

// earlier returns the earlier of two times, where zero means never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
