package simulation

import (
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	bindings "github.com/lockstep-delivery/lockstep/internal/balancing/binding/plan"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/balancing/plan"
	"github.com/lockstep-delivery/lockstep/internal/cloud/budget"
	"github.com/lockstep-delivery/lockstep/internal/delivery/canary"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
)

// A mutant is a controller that breaks one law on purpose. Each must be caught within so many seeds, with
// a law that names what it did; otherwise the simulation proves nothing about that law.
const within = 30

// caught runs the mutant until a law is seen broken, and fails when none is or when it is not one of those expected.
func caught(t *testing.T, mutant func() Brain, laws ...int) {
	t.Helper()
	caughtIn(t, func(*Config) {}, mutant, laws...)
}

// caughtIn is caught in worlds that are made such that what the mutant does matters: what only now and then goes
// wrong would take many seeds.
func caughtIn(t *testing.T, world func(*Config), mutant func() Brain, laws ...int) {
	t.Helper()
	t.Parallel()
	for seed := uint64(1); seed <= within; seed++ {
		config := Drawn(seed)
		world(&config)
		report := Run(Options{Config: config, Brain: mutant()})
		if report.Violation == nil {
			continue
		}
		for _, law := range laws {
			if report.Violation.Law == law {
				t.Logf("caught by seed %d: %s", seed, report.Violation)
				return
			}
		}
	}
	t.Errorf("no run of %d seeds shows law %v broken", within, laws)
}

// production with the rollout's decisions changed.
func rollouts(change func(canary.Snapshot) canary.Decision) func() Brain {
	return func() Brain {
		b := Production()
		b.Rollout = change
		return b
	}
}

// Both halves keep law 1, so both take every registered target for a healthy one.
func TestMutantOfLaw1SkipsTheHealthGate(t *testing.T) {
	caught(t, func() Brain {
		b := Production()
		b.Rollout = func(s canary.Snapshot) canary.Decision { return canary.Decide(allHealthy(s)) }
		b.Balancer = func(desired model.Stack, observed model.Observed, state plan.State) plan.Plan {
			health := map[string]plan.Health{}
			for arn, h := range state.Health {
				health[arn] = plan.Health{Healthy: max(1, h.Total), Total: max(1, h.Total), SeenAt: h.SeenAt}
			}
			state.Health = health
			return plan.Make(desired, observed, state)
		}
		return b
	}, 1)
}

// allHealthy takes every live target of the snapshot for a healthy one, and every pod for a ready one.
func allHealthy(s canary.Snapshot) canary.Snapshot {
	ingresses := append([]canary.Ingress(nil), s.Ingresses...)
	for i := range ingresses {
		groups := append([]evidence.Group(nil), ingresses[i].Evidence.Groups...)
		for g := range groups {
			groups[g].Targets = append([]evidence.Target(nil), groups[g].Targets...)
			for t := range groups[g].Targets {
				if target := &groups[g].Targets[t]; target.Live() {
					target.State = evidence.Healthy
				}
			}
		}
		ingresses[i].Evidence.Groups = groups
	}
	s.Ingresses = ingresses
	sets := append([]canary.ReplicaSet(nil), s.ReplicaSets...)
	for i := range sets {
		sets[i].Pods = append([]canary.Pod(nil), sets[i].Pods...)
		for p := range sets[i].Pods {
			sets[i].Pods[p].Ready = true
		}
		sets[i].Ready, sets[i].Available = sets[i].Current, sets[i].Current
	}
	s.ReplicaSets = sets
	return s
}

// The weight counts as settled the moment that it is seen: what users of the original lose requests by.
func TestMutantOfLaw2DropsTheSettleTime(t *testing.T) {
	caught(t, func() Brain {
		b := Production()
		b.Rollout = unsettled(b.Rollout)
		b.Targets = func(s bindings.Snapshot) bindings.Decision {
			s.Settings.Settle = 0
			return bindings.Plan(s)
		}
		return b
	}, 2, 3)
}

// unsettled decides as if every weight were settled as soon as it is seen.
func unsettled(decide func(canary.Snapshot) canary.Decision) func(canary.Snapshot) canary.Decision {
	return func(s canary.Snapshot) canary.Decision {
		s.Settings.Settle = 0
		return decide(s)
	}
}

// A version that no Service selects is scaled down without waiting for its targets to be gone.
func TestMutantOfLaw2DoesNotDrain(t *testing.T) {
	caught(t, rollouts(func(s canary.Snapshot) canary.Decision {
		d := canary.Decide(s)
		for _, rs := range s.ReplicaSets {
			if rs.Hash != s.Rollout.Hash && rs.Hash != s.Rollout.Status.StableRS && rs.Replicas > 0 {
				d.Operations = append(d.Operations, canary.ScaleReplicaSet{Name: rs.Name, Hash: rs.Hash, From: rs.Replicas, Reason: "mutant"})
			}
		}
		return d
	}), 2)
}

// Older targets leave before the new ones are healthy.
func TestMutantOfLaw3DeregistersFirst(t *testing.T) {
	caught(t, func() Brain {
		b := Production()
		b.Targets = func(s bindings.Snapshot) bindings.Decision {
			d := bindings.Plan(s)
			d.Deregister = nil
			selected := map[string]bool{}
			for _, p := range s.Pods {
				if p.Selected && p.Drain == bindings.Stay {
					selected[p.IP] = true
				}
			}
			for _, target := range s.Targets {
				if target.Live() && !selected[target.ID] {
					d.Deregister = append(d.Deregister, bindings.Deregistration{Target: target.Target, Reason: "mutant"})
				}
			}
			d.Wait.Fresh = false
			return d
		}
		return b
	}, 3)
}

// What was written counts as what AWS shows.
func TestMutantOfLaw4BelievesWhatItWrote(t *testing.T) {
	caught(t, rollouts(func(s canary.Snapshot) canary.Decision {
		if len(s.Rollout.Status.Traffic) > 0 && s.Rollout.Status.Traffic[0].WrittenAt != nil {
			ingresses := append([]canary.Ingress(nil), s.Ingresses...)
			e := &ingresses[0].Evidence
			e.Placements = append([]evidence.Placement(nil), e.Placements...)
			for i := range e.Placements {
				e.Placements[i].Weights = s.Rollout.Status.Traffic[0].Intended
			}
			s.Ingresses = ingresses
		}
		return canary.Decide(s)
	}), 4)
}

// Weight changes and targets are asked for like any other call: what others may spend, they may not.
func TestMutantOfLaw5HasOneLane(t *testing.T) {
	caught(t, func() Brain {
		b := Production()
		b.Lane = func(string) budget.Lane { return budget.Configuration }
		return b
	}, 5)
}

// The queue of operations is in another order: settings before weights.
func TestMutantOfLaw5QueuesWeightsLast(t *testing.T) {
	crowded := func(c *Config) { c.Faults.Crowds, c.Faults.Crash, c.Acts, c.Calm = 5, 0.05, 6, 2*time.Minute }
	caughtIn(t, crowded, func() Brain {
		b := Production()
		b.Balancer = func(desired model.Stack, observed model.Observed, state plan.State) plan.Plan {
			p := plan.Make(desired, observed, state)
			p.Operations = slices.Clone(p.Operations)
			slices.Reverse(p.Operations)
			return p
		}
		return b
	}, 5)
}

// After a restart nothing is known of when a weight was first seen, and it counts as settled.
func TestMutantOfLaw6TakesARestartForSettled(t *testing.T) {
	crashing := func(c *Config) {
		c.Profile, c.Settle, c.Far = "pessimistic", 150*time.Second, true
		c.Replicas, c.Acts, c.Calm, c.Faults = 4, 6, 5*time.Minute, Faults{Crash: 0.05}
	}
	caughtIn(t, crashing, func() Brain {
		b := Production()
		b.Restarted = func(b *Brain, now time.Time) {
			b.Rollout = func(s canary.Snapshot) canary.Decision {
				status := *s.Rollout.Status.DeepCopy()
				for i := range status.Traffic {
					if since := status.Traffic[i].Since; since != nil && since.Time.Before(now) {
						since.Time = now.Add(-time.Hour)
					}
				}
				s.Rollout.Status = status
				s.Ingresses = slices.Clone(s.Ingresses)
				for i := range s.Ingresses {
					s.Ingresses[i].ChangedAt = time.Time{} // or else the annotation tells
				}
				return canary.Decide(s)
			}
		}
		return b
	}, 2, 3)
}

// Whatever carries the stack's name is taken for ours, also what another cluster has made.
func TestMutantOfLaw7TakesWhatANeighbourHas(t *testing.T) {
	caught(t, func() Brain {
		b := Production()
		b.Mine = func(map[string]string) bool { return true }
		b.Balancer = func(desired model.Stack, observed model.Observed, state plan.State) plan.Plan {
			observed.TargetGroups = slices.Clone(observed.TargetGroups)
			for i := range observed.TargetGroups {
				tags := maps.Clone(observed.TargetGroups[i].Tags)
				tags[model.TagCluster] = cluster
				observed.TargetGroups[i].Tags = tags
			}
			return plan.Make(desired, observed, state)
		}
		return b
	}, 7)
}

// Of two load balancers with our tags the first is taken, and nobody is told.
func TestMutantOfLaw7KeepsQuietAboutASecondOwner(t *testing.T) {
	caught(t, func() Brain {
		b := Production()
		b.Balancer = func(desired model.Stack, observed model.Observed, state plan.State) plan.Plan {
			observed.LoadBalancers = observed.LoadBalancers[:min(1, len(observed.LoadBalancers))]
			return plan.Make(desired, observed, state)
		}
		return b
	}, 7)
}

// The stable version shrinks with its share though the user did not ask for that.
func TestMutantOfLaw8ScalesStableDownEarly(t *testing.T) {
	caught(t, rollouts(func(s canary.Snapshot) canary.Decision {
		strategy := *s.Rollout.Spec.Strategy.Canary
		strategy.DynamicStableScale = true
		s.Rollout.Spec.Strategy = v1alpha1.RolloutStrategy{Canary: &strategy}
		return canary.Decide(s)
	}), 8)
}

// The rollout never looks again by itself: it waits for events that do not come.
func TestMutantOfLivenessForgetsToLookAgain(t *testing.T) {
	caught(t, rollouts(func(s canary.Snapshot) canary.Decision {
		d := canary.Decide(s)
		d.Wait.Again = time.Time{}
		return d
	}), 0)
}
