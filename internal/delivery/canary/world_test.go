package canary

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/evidence"
	"github.com/lockstep-delivery/lockstep/internal/split"
)

// world is a tiny Kubernetes and AWS: what is written appears in Kubernetes at once, and in AWS and in
// the pods when the test says so, so that a row of the walk can be looked at between any two moments.
type world struct {
	t    *testing.T
	s    Snapshot
	pods int
	// last is the newest decision.
	last Decision
}

const (
	canarySvc = "shop-canary"
	stableSvc = "shop-stable"
	ingress   = "shop"
)

var start = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

// newWorld has a Rollout with replicas pods of version A that has been applied just now.
func newWorld(t *testing.T, replicas int32, steps ...v1alpha1.CanaryStep) *world {
	w := &world{t: t}
	w.s = Snapshot{
		Now: start, Settings: DefaultSettings(),
		Rollout: Rollout{
			Namespace: "ns", Name: "shop", Generation: 1, Hash: "A", StepHash: "steps",
			Spec: v1alpha1.RolloutSpec{
				Replicas: new(replicas),
				Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "shop"}},
				Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{"app": "shop"}}},
				Strategy: v1alpha1.RolloutStrategy{Canary: &v1alpha1.CanaryStrategy{
					CanaryService: canarySvc, StableService: stableSvc, Steps: steps,
					TrafficRouting: &v1alpha1.RolloutTrafficRouting{ALB: &v1alpha1.ALBTrafficRouting{Ingress: ingress, ServicePort: 80}},
				}},
			},
		},
		Services:  []Service{{Name: canarySvc}, {Name: stableSvc}},
		Ingresses: []Ingress{{Name: ingress, HasRule: true}},
	}
	return w
}

func weight(n int32) v1alpha1.CanaryStep { return v1alpha1.CanaryStep{SetWeight: new(n)} }

func pause() v1alpha1.CanaryStep { return v1alpha1.CanaryStep{Pause: &v1alpha1.RolloutPause{}} }

// stable is a world in which A has been stable for a long time.
func stable(t *testing.T, replicas int32, steps ...v1alpha1.CanaryStep) *world {
	w := newWorld(t, replicas, steps...)
	w.rest()
	if got := w.s.Rollout.Status.Phase; got != v1alpha1.PhaseHealthy {
		t.Fatalf("the first deployment ends %s (%s)\n%s", got, w.s.Rollout.Status.Message, w.last)
	}
	w.s.Now = w.s.Now.Add(time.Hour)
	w.once()
	return w
}

// image sets another template.
func (w *world) image(hash string) {
	w.s.Rollout.Hash = hash
	w.s.Rollout.Generation++
}

// look is a fresh look at everything.
func (w *world) look(notBefore time.Time) (Snapshot, error) {
	w.s.Now = w.s.Now.Add(time.Millisecond)
	w.s.Ingresses[0].Evidence.SeenAt = w.s.Now
	s := w.s
	s.Now = s.Now.Add(time.Millisecond)
	return s, nil
}

// once decides and acts one time.
func (w *world) once() Decision {
	w.t.Helper()
	d, err := Round(w.look)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, o := range d.Operations {
		w.act(&d, o)
	}
	w.s.Rollout.Status = *d.Status.DeepCopy()
	w.last = d
	return d
}

// still decides and acts until nothing more is done, with AWS and the kubelet standing still.
func (w *world) still() Decision {
	w.t.Helper()
	for range 30 {
		before := w.s.Rollout.Status.DeepCopy()
		if d := w.once(); len(d.Operations) == 0 && diff(*before, d.Status) == "" {
			return d
		}
	}
	w.t.Fatalf("the rollout finds no rest:\n%s", w.last)
	return Decision{}
}

// rest lets everything happen, also the time, until nothing changes any more.
func (w *world) rest() {
	w.t.Helper()
	for range 60 {
		d := w.still()
		w.kubelet()
		w.aws()
		if w.still(); d.Wait.Again.IsZero() && w.last.Wait.Again.IsZero() && len(w.last.Operations) == 0 {
			return
		}
		if !w.last.Wait.Again.IsZero() && w.last.Wait.Again.After(w.s.Now) {
			w.s.Now = w.last.Wait.Again
		}
		w.drained()
	}
}

func (w *world) rs(hash string) *ReplicaSet {
	for i := range w.s.ReplicaSets {
		if w.s.ReplicaSets[i].Hash == hash {
			return &w.s.ReplicaSets[i]
		}
	}
	w.t.Fatalf("no ReplicaSet %s", hash)
	return nil
}

func (w *world) named(name string) *ReplicaSet { return w.rs(strings.TrimPrefix(name, "shop-")) }

// act applies an operation to Kubernetes.
func (w *world) act(d *Decision, o Operation) {
	switch o := o.(type) {
	case CreateReplicaSet:
		w.s.ReplicaSets = append(w.s.ReplicaSets, ReplicaSet{Name: o.Name, Hash: o.Hash, CreatedAt: w.s.Now, Revision: o.Revision, DesiredReplicas: o.DesiredReplicas, Observed: true})
	case ScaleReplicaSet:
		rs := w.named(o.Name)
		rs.Replicas, rs.DesiredReplicas = o.To, o.DesiredReplicas
		if o.To == 0 {
			rs.ScaleDownDeadline = time.Time{}
		}
		w.shrink(rs, o)
	case SyncReplicaSet:
		rs := w.named(o.Name)
		rs.Revision, rs.DesiredReplicas, rs.MinReadySeconds = o.Revision, o.DesiredReplicas, o.MinReadySeconds
	case SetDeadline:
		w.named(o.Name).ScaleDownDeadline = o.At
	case DeleteReplicaSet:
		w.s.ReplicaSets = slices.DeleteFunc(w.s.ReplicaSets, func(rs ReplicaSet) bool { return rs.Name == o.Name })
	case PointService:
		for i := range w.s.Services {
			if w.s.Services[i].Name == o.Service {
				w.s.Services[i].Hash, w.s.Services[i].ManagedBy = o.To, "shop"
			}
		}
	case WriteSplit:
		action, err := split.Encode(o.Split)
		if err != nil {
			w.t.Fatal(err)
		}
		i := &w.s.Ingresses[0]
		i.Action, i.Recorded, i.Ours = action, true, true
		w.s.Now = w.s.Now.Add(2 * time.Millisecond) // A call takes its time.
		d.Written(o.Ingress, w.s.Now)
	case MarkPods:
		rs := w.named(o.ReplicaSet)
		for i := range rs.Pods {
			for _, p := range o.Pods {
				if rs.Pods[i].UID == p.UID {
					rs.Pods[i].Drain = o.Value
				}
			}
		}
	case ReleaseService:
		w.s.StrayServices = nil
	case ReleaseIngress:
		w.s.StrayIngresses = nil
	case SetRevision:
		w.s.Rollout.Revision = o.Revision
	case SetReplicas:
		w.s.Rollout.Spec.Replicas = new(o.Replicas)
	default:
		w.t.Fatalf("unknown operation %T", o)
	}
}

// shrink deletes pods as the ReplicaSet controller does, and fails if one may still get requests.
func (w *world) shrink(rs *ReplicaSet, o ScaleReplicaSet) {
	for uid := range leaving(*rs, o.To, time.Time{}) {
		for _, g := range w.s.Ingresses[0].Evidence.Groups {
			for _, target := range g.Targets {
				if target.PodUID == uid {
					w.t.Errorf("law 2: %s is deleted while it is %s in the group of %s (%s)", uid, target.State, g.Service, o)
				}
			}
		}
		rs.Pods = slices.DeleteFunc(rs.Pods, func(p Pod) bool { return p.UID == uid })
	}
	w.count(rs)
}

func (w *world) count(rs *ReplicaSet) {
	rs.Current, rs.Ready, rs.Available = int32(len(rs.Pods)), 0, 0
	for _, p := range rs.Pods {
		if p.Ready {
			rs.Ready++
			rs.Available++
		}
	}
}

// kubelet starts all pods that are wanted.
func (w *world) kubelet() {
	for i := range w.s.ReplicaSets {
		rs := &w.s.ReplicaSets[i]
		for int32(len(rs.Pods)) < rs.Replicas {
			w.pods++
			uid := fmt.Sprintf("%s-%03d", rs.Hash, w.pods)
			rs.Pods = append(rs.Pods, Pod{Name: uid, UID: uid, CreatedAt: w.s.Now, Scheduled: true, Running: true, Ready: true})
		}
		w.count(rs)
	}
}

// aws brings rules and target groups to what Kubernetes says: leaving targets drain, new ones are healthy.
func (w *world) aws() {
	w.weights()
	w.targets()
}

// weights applies the action to the rules.
func (w *world) weights() {
	e := &w.s.Ingresses[0].Evidence
	e.LoadBalancer = evidence.LoadBalancer{ARN: "lb", Active: true}
	s, err := split.Decode(w.s.Ingresses[0].Action)
	if err != nil {
		return
	}
	weights := map[string]int32{}
	for _, d := range s.Destinations {
		weights[d.Service] = d.Weight
	}
	e.Placements = []evidence.Placement{{ARN: "rule", Weights: weights}}
}

// targets applies the Services' selectors and the drain marks to the groups.
func (w *world) targets() {
	e := &w.s.Ingresses[0].Evidence
	old := e.Groups
	e.Groups = nil
	for _, service := range w.s.Services {
		g := evidence.Group{Service: service.Name, ARN: "tg-" + service.Name}
		for _, rs := range w.s.ReplicaSets {
			for _, p := range rs.Pods {
				state := evidence.Healthy
				wanted := (service.Hash == "" || service.Hash == rs.Hash) && p.Drain == ""
				if !wanted {
					state = evidence.Draining
				}
				if wanted || had(old, service.Name, p.UID) {
					g.Targets = append(g.Targets, evidence.Target{Address: p.UID, PodUID: p.UID, PodTemplateHash: rs.Hash, State: state})
				}
			}
		}
		e.Groups = append(e.Groups, g)
	}
}

func had(groups []evidence.Group, service, uid string) bool {
	for _, g := range groups {
		if g.Service == service {
			for _, t := range g.Targets {
				if t.PodUID == uid {
					return true
				}
			}
		}
	}
	return false
}

// drained ends all deregistration delays.
func (w *world) drained() {
	for i := range w.s.Ingresses[0].Evidence.Groups {
		g := &w.s.Ingresses[0].Evidence.Groups[i]
		g.Targets = slices.DeleteFunc(g.Targets, func(t evidence.Target) bool { return !t.Live() })
	}
}

// ops are the operations of a decision as text.
func ops(d Decision) []string {
	var out []string
	for _, o := range d.Operations {
		out = append(out, o.String())
	}
	return out
}

// wantOps fails unless exactly these operations were decided.
func (w *world) wantOps(d Decision, want ...string) {
	w.t.Helper()
	if got := ops(d); !slices.Equal(got, want) {
		w.t.Fatalf("operations\n got %q\nwant %q\n%s", got, want, d)
	}
}

// wantWait fails unless the decision waits for this reason.
func (w *world) wantWait(d Decision, reason string) {
	w.t.Helper()
	if d.Wait.Reason != reason {
		w.t.Fatalf("waits for %s (%s), want %s\n%s", d.Wait.Reason, d.Wait.Message, reason, d)
	}
}

func (w *world) condition(kind string) v1alpha1.RolloutCondition {
	c, _ := findCondition(w.s.Rollout.Status.Conditions, kind)
	return c
}

// drainOf is the drain of a ReplicaSet in the status.
func (w *world) drainOf(hash string) *v1alpha1.DrainStatus {
	for i := range w.s.Rollout.Status.Drains {
		if d := &w.s.Rollout.Status.Drains[i]; d.PodTemplateHash == hash {
			return d
		}
	}
	return nil
}
