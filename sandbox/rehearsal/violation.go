package rehearsal

import (
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

// Violation is a law of docs/laws.md that was seen broken from the outside.
type Violation struct {
	// Law is the law's number.
	Law int       `json:"law"`
	At  time.Time `json:"at"`
	// What was seen, in words.
	What string `json:"what"`
}

func observed(r *v1alpha1.Rollout) bool {
	return r.Status.ObservedGeneration == strconv.FormatInt(r.Generation, 10)
}

// prematurePhase: Paused or Healthy was reported although AWS did not show the weights yet (law 4).
func prematurePhase(r *v1alpha1.Rollout, at time.Time) (Violation, bool) {
	if r.Status.Phase != v1alpha1.PhaseHealthy && r.Status.Phase != v1alpha1.PhasePaused {
		return Violation{}, false
	}
	if r.Spec.Paused || r.Spec.Strategy.Canary == nil || r.Spec.Strategy.Canary.TrafficRouting == nil {
		return Violation{}, false
	}
	for _, t := range r.Status.Traffic {
		if t.Since == nil || !maps.Equal(t.Weights, t.Intended) {
			return Violation{Law: 4, At: at, What: fmt.Sprintf("the rollout says %s while Ingress %s is to have %v and AWS shows %v",
				r.Status.Phase, t.Group, t.Intended, t.Weights)}, true
		}
	}
	return Violation{}, false
}

// earlySettling: weights counted as settled before every node of the load balancer had them (law 2), or were never
// given to AWS (law 4).
func (t trace) earlySettling(settlings []settling) []Violation {
	var broken []Violation
	for _, s := range settlings {
		if t.forgotten(s.weights, s.seen) {
			continue
		}
		carriers := t.carriers(s.weights, s.seen)
		if len(carriers) == 0 {
			broken = append(broken, Violation{Law: 4, At: s.seen, What: fmt.Sprintf(
				"weights %s counted as seen, but the last call that AWS had accepted was not for them", describe(s.weights))})
			continue
		}
		last, never := t.takenBy(carriers)
		switch {
		case len(never) > 0:
			broken = append(broken, Violation{Law: 2, At: s.settled, What: fmt.Sprintf(
				"weights %s counted as settled, but the load balancer's nodes in %s did not have them by the end of the run", describe(s.weights), strings.Join(never, ", "))})
		case last.After(s.settled):
			broken = append(broken, Violation{Law: 2, At: s.settled, What: fmt.Sprintf(
				"weights %s counted as settled %s before the last node of the load balancer had them", describe(s.weights), last.Sub(s.settled))})
		}
	}
	return broken
}

// requestsAfterStop: a pod got requests after it had been told to stop, or was killed with requests under way (law 2).
func requestsAfterStop(pods []PodEnd) []Violation {
	var broken []Violation
	for _, p := range pods {
		if p.AfterStop > 0 || p.Cut > 0 {
			broken = append(broken, Violation{Law: 2, At: p.Stopping, What: fmt.Sprintf(
				"pod %s (%s) got %d requests after it was told to stop; %d were cut off", p.Pod, p.Version, p.AfterStop, p.Cut)})
		}
	}
	return broken
}
