package simulation

import (
	"context"
	"fmt"
	"time"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/balancing/apply"
	bindings "github.com/lockstep-delivery/lockstep/internal/balancing/binding/plan"
	"github.com/lockstep-delivery/lockstep/internal/balancing/plan"
)

// takeOver makes a world in which another rollout controller and another load balancer controller have deployed the
// first version long ago and have just been stopped. Lockstep finds everything in place and nothing of its own in
// the rollout's status, and every request counts from its first round on.
func (w *world) takeOver() {
	const version = "A"
	long := w.now().Add(-time.Hour)
	w.services.put(canaryService, &service{hash: version, managedBy: rolloutName})
	w.services.put(stableService, &service{hash: version, managedBy: rolloutName})
	w.shownAction = w.action(0, 100)
	w.ingresses.put(ingressName, &ingress{action: w.shownAction, writer: "rollouts-controller", writtenAt: long, other: "rollouts-controller", otherAt: long, recorded: true})
	w.rollouts.put(rolloutName, &rollout{generation: 1, revision: 1, image: version, spec: w.config.spec(), status: v1alpha1.RolloutStatus{
		ObservedGeneration: "1", Phase: v1alpha1.PhaseHealthy, StableRS: version, CurrentPodHash: version, CurrentStepHash: stepHash,
		CurrentStepIndex: new(int32(len(w.config.Steps))),
	}})
	w.stable = version
	w.laws.wanted = w.config.Replicas
	w.found()
	w.populate(version, long)
	n := w.config.Replicas
	w.replicaSets.put(rolloutName+"-"+version, &replicaSet{
		hash: version, created: long, revision: 1, replicas: n, desired: n, minReady: w.config.MinReady, generation: 1, observed: 1, current: n, ready: n, available: n,
	})
	w.laws.judging = true
	w.start()
	for settled := w.now().Add(w.config.Settle + time.Minute); w.violation == nil && w.step(settled); {
	}
	w.note("what others had deployed is taken over")
}

// found makes the load balancer and all that belongs to it, at once and without a call budget.
func (w *world) found() {
	w.aws.founding = true
	defer func() { w.aws.founding = false }()
	in, _ := w.ingresses.live.get(ingressName)
	for range 20 {
		stack, _ := w.balancing.translated(in)
		p := plan.Make(stack, w.aws.Observed(stackID), plan.State{
			Now: w.now(), Cluster: cluster, Settle: w.config.Settle, Bindings: w.aws.bindings, BackendGroupID: w.aws.BackendGroupID(),
		})
		if len(p.Operations) == 0 {
			return
		}
		round := apply.Round{Cloud: w.aws, Objects: w.aws, BackendGroupID: w.aws.BackendGroupID(), Now: w.now()}
		if result := round.Do(context.Background(), p.Operations); result.Err != nil {
			break
		}
		w.aws.bindings = w.aws.Bindings()
	}
	w.violate(0, "the load balancer cannot be made")
}

// populate makes the pods of a version, which serve and are healthy in both groups on every node.
func (w *world) populate(version string, since time.Time) {
	k := w.workload
	for range w.config.Replicas {
		k.made++
		name, ip := fmt.Sprintf("%s-%d", version, k.made), k.free[0]
		k.free = k.free[1:]
		p := &pod{
			uid: "uid-" + name, hash: version, created: since, ip: ip, scheduled: true, running: true,
			containersReady: true, ready: true, readySince: since,
		}
		for _, service := range []string{canaryService, stableService} {
			if w.config.Gates {
				p.gates = append(p.gates, gate{service: service, Gate: bindings.Gate{Status: "True"}})
			}
		}
		k.processes[ip] = &process{pod: name, uid: p.uid, hash: version, ip: ip, serving: true}
		w.pods.put(name, p)
		for _, g := range w.aws.groups {
			w.aws.changes++
			g.targets = append(g.targets, &target{ip: ip, state: "healthy", serial: w.aws.changes})
			for _, n := range w.aws.nodes {
				known := n.group(g.arn)
				known.targets = append(known.targets, &knownTarget{ip: ip, serial: w.aws.changes, state: fit})
			}
		}
	}
}
