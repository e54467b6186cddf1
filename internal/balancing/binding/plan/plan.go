// Package plan decides which pods are the targets of a target group, which targets may leave it now, and
// what the pods' readiness gates say. It performs nothing and knows no clock: the same snapshot gives the
// same decision, in tests, in the simulation and in production.
//
// A target that is alive leaves only when enough others are healthy (the third law: make before break):
//
//	the target's pod                          leaves
//	----------------------------------------  ---------------------------------------------------------
//	is dying, or not ready                    at once
//	is gone, or its address is another pod's  at once
//	was taken out of the Service by hand      at once
//	is of another version than the Service's  as many as healthy(all) - wanted, or when the share is 0 and settled;
//	                                          all of the new must be healthy when no ReplicaSet tells how many are wanted
//	is marked to be drained                   the same
//	listens on a port that no longer counts   the same
//	is not known (a foreign target)           when it is not healthy, or as many of ours are healthy as wanted, and one
//
// Start reading at Plan.
package plan

import (
	"cmp"
	"fmt"
	"net"
	"slices"
	"strconv"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
)

// Decision is what is safe to do now. Register is carried out before Deregister; neither needs the other
// to have succeeded.
type Decision struct {
	Register   []Registration
	Deregister []Deregistration
	Gates      []GateChange
	// Unanswered counts pods that wait on the binding's gate; while there are any, target health is watched.
	Unanswered int
	// Settling says that targets are on their way in or out, so that target health is watched.
	Settling bool
	Wait     Wait
}

// Registration is a target to register, and the pod that it is for.
type Registration struct {
	model.Target
	PodUID string
}

// Deregistration is a target to deregister, and why.
type Deregistration struct {
	model.Target
	Reason string
	// Unserved says that it is alive, and leaves only because the group has no share. Whoever sends the call asks
	// once more right before: somebody's weights may have been carried out since the plan was made.
	Unserved bool
}

// GateChange is a pod condition to write.
type GateChange struct {
	Namespace, Pod, UID string
	Gate
}

// Wait says what the binding waits for.
type Wait struct {
	// Reason is for a person; empty when nothing is waited for.
	Reason string
	// Fresh asks for another decision on a fresh snapshot: something could leave if it agrees.
	Fresh bool
	// Again is when time alone may change the decision; zero when it does not.
	Again time.Time
}

// Plan decides for one snapshot.
func Plan(s Snapshot) Decision {
	g := group(s)
	var d Decision
	d.Register = g.missing(s)
	d.Deregister, d.Wait = g.leaving(s)
	d.Gates, d.Unanswered = gates(s, g)
	d.Settling = len(d.Register) > 0 || len(d.Deregister) > 0 || d.Wait.Reason != "" || d.Unanswered > 0 || g.starting
	return d
}

// member is a live target and its pod, if it has one.
type member struct {
	Target
	pod *Pod
}

// grouped is a snapshot sorted by what must happen to each pod and target.
type grouped struct {
	// wanted are the pods that should be targets now.
	wanted []*Pod
	// staying targets belong to wanted pods.
	staying []member
	// dead targets leave at once; by reason.
	dead []Deregistration
	// leavers are alive and leave when enough others are healthy.
	leavers []member
	// foreign targets belong to no pod that we know: somebody else registered them, or their pod went away
	// while no controller ran.
	foreign []member
	// registered is the state of each address that AWS has, live or draining.
	registered map[string]*Target
	// need is how many healthy targets must remain while the group serves.
	need int
	// starting says that a staying target has not become healthy yet.
	starting bool
}

func group(s Snapshot) grouped {
	g := grouped{registered: make(map[string]*Target, len(s.Targets)), staying: make([]member, 0, len(s.Targets))}
	g.wanted = wantedPods(s.Pods)
	if s.Removal != "" {
		g.wanted = nil
	}
	g.need = needed(s)

	wantedAt := make(map[string]*Pod, len(g.wanted))
	for _, p := range g.wanted {
		wantedAt[Address(p.IP, p.Port)] = p
	}
	owner := owners(s.Pods)
	for i, t := range s.Targets {
		address := Address(t.ID, t.Port)
		g.registered[address] = &s.Targets[i]
		if !t.Live() {
			continue
		}
		if p := wantedAt[address]; p != nil {
			g.staying = append(g.staying, member{t, p})
			g.starting = g.starting || t.State != healthy
			continue
		}
		g.sort(member{t, owner[t.ID]})
	}
	return g
}

// sort files a live target that is not wanted under dead, leavers or foreign.
func (g *grouped) sort(m member) {
	dead := func(reason string) {
		g.dead = append(g.dead, Deregistration{Target: m.Target.Target, Reason: reason})
	}
	p := m.pod
	switch {
	case p == nil && m.TakenBy != "":
		dead("its address now belongs to pod " + m.TakenBy)
	case p == nil && m.Gone:
		dead("its pod is gone")
	case p == nil:
		g.foreign = append(g.foreign, m)
	case m.RegisteredUID != "" && m.RegisteredUID != p.UID:
		dead(fmt.Sprintf("its address now belongs to pod %s/%s", p.Namespace, p.Name))
	case p.Life == Dying:
		dead(fmt.Sprintf("pod %s is terminating", p.Name))
	case p.Life == Unready || p.Life == Lost:
		dead(fmt.Sprintf("pod %s is not ready", p.Name))
	case !p.Selected && !p.OtherVersion && !p.Owned:
		dead(fmt.Sprintf("pod %s was taken out of the Service", p.Name))
	default:
		g.leavers = append(g.leavers, m)
	}
}

// wantedPods are the pods that should be targets. Pods on lost nodes count only when there are no others:
// then sending to them is better than to nobody.
func wantedPods(pods []Pod) []*Pod {
	var serving, lost []*Pod
	for i := range pods {
		p := &pods[i]
		if !p.Selected || p.Drain != Stay || p.IP == "" || p.Port == 0 {
			continue
		}
		switch p.Life {
		case Ready, Waiting:
			serving = append(serving, p)
		case Lost:
			lost = append(lost, p)
		}
	}
	if len(serving) == 0 {
		serving = lost
	}
	slices.SortFunc(serving, func(a, b *Pod) int {
		return cmp.Or(cmp.Compare(a.IP, b.IP), cmp.Compare(a.Port, b.Port), cmp.Compare(a.UID, b.UID))
	})
	return serving
}

// needed is how many healthy targets the Service asks for: its pods that are meant to stay, those that are
// still starting and those still to be created included.
func needed(s Snapshot) int {
	staying, marked := 0, 0
	for _, p := range s.Pods {
		switch {
		case !p.Selected || p.Life == Dying:
		case p.Drain != Stay:
			marked++
		default:
			staying++
		}
	}
	return max(staying, s.Replicas-marked)
}

// owners gives for each address the pod that has it now. Of several (dying pods, and pods on the host's
// network, share addresses) the one that lives and is selected.
func owners(pods []Pod) map[string]*Pod {
	rank := func(p *Pod) int {
		r := 0
		if p.Life != Dying {
			r += 2
		}
		if p.Selected {
			r++
		}
		return r
	}
	owner := make(map[string]*Pod, len(pods))
	for i := range pods {
		p := &pods[i]
		if other := owner[p.IP]; p.IP != "" && (other == nil || rank(p) > rank(other)) {
			owner[p.IP] = p
		}
	}
	return owner
}

// missing are the wanted pods that AWS does not have, or has as draining.
func (g grouped) missing(s Snapshot) []Registration {
	room := len(g.wanted)
	if s.Settings.MaxTargets > 0 {
		room = max(0, s.Settings.MaxTargets-len(s.Targets))
	}
	var missing []Registration
	seen := make(map[string]bool, len(g.wanted))
	for _, p := range g.wanted {
		address := Address(p.IP, p.Port)
		if t, ok := g.registered[address]; (ok && t.Live()) || seen[address] {
			continue
		}
		if len(missing) == room {
			break
		}
		seen[address] = true
		missing = append(missing, Registration{Target: model.Target{ID: p.IP, Port: p.Port}, PodUID: p.UID})
	}
	return missing
}

// Address is the name under which a target is known: ip:port.
func Address(ip string, port int32) string { return net.JoinHostPort(ip, strconv.Itoa(int(port))) }
