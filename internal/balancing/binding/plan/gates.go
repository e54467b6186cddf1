package plan

import (
	"cmp"
	"slices"
)

// Reasons of the readiness gate condition that are not AWS's own.
const (
	ReasonNotNeeded    = "NotNeeded"
	ReasonRegistration = "Elb.RegistrationInProgress"
	ReasonHealthy      = "Healthy"
)

// gates says what the readiness gates of the pods become, and how many pods still wait on theirs.
//
// A gate that is True turns False only when AWS finds the target unhealthy: never because we deregister it,
// or because the group is not used for a while. A pod that no longer needs the group does not wait on it.
func gates(s Snapshot, g grouped) (changes []GateChange, unanswered int) {
	for _, p := range s.Pods {
		if p.Gate == nil || p.Life == Dying {
			continue
		}
		next, answered := gateOf(s, g, p)
		if !answered {
			unanswered++
		}
		if next != *p.Gate {
			changes = append(changes, GateChange{Namespace: p.Namespace, Pod: p.Name, UID: p.UID, Gate: next})
		}
	}
	slices.SortFunc(changes, func(a, b GateChange) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Pod, b.Pod), cmp.Compare(a.UID, b.UID))
	})
	return changes, unanswered
}

// gateOf is the condition that a pod's gate should have, and whether it needs no further watching.
func gateOf(s Snapshot, g grouped, p Pod) (next Gate, answered bool) {
	now := *p.Gate
	if s.Removal != "" || !p.Selected {
		if now.Status == GateTrue {
			return now, true
		}
		message := "The Service no longer selects the pod"
		if s.Removal != "" {
			message = "The targets are removed: " + s.Removal
		}
		return Gate{Status: GateTrue, Reason: ReasonNotNeeded, Message: message}, true
	}
	if p.Drain != Stay || (now.Status == GateTrue && now.Reason == ReasonNotNeeded) {
		return now, true
	}
	t, registered := g.registered[Address(p.IP, p.Port)]
	registered = registered && t.Live()
	switch {
	case registered && t.State == healthy:
		if now.Status == GateTrue {
			return now, true
		}
		return Gate{Status: GateTrue, Reason: ReasonHealthy, Message: "The target is healthy"}, true
	case registered && (t.State == unhealthy || now.Status != GateTrue):
		return Gate{Status: GateFalse, Reason: t.Reason, Message: t.Description}, false
	case now.Status == GateTrue:
		return now, true
	case p.Port == 0:
		return Gate{Status: GateFalse, Reason: "PortNotFound",
			Message: "No container of the pod has the port that the Service port targets: add it to the pod or correct the Service's targetPort"}, true
	case p.Life == Waiting && p.IP != "":
		return Gate{Status: GateFalse, Reason: ReasonRegistration, Message: "Target registration is in progress"}, false
	}
	return now, true
}
