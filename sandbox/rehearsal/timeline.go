package rehearsal

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	elbv2 "github.com/lockstep-delivery/lockstep/api/elbv2/v1beta1"
	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

// WeightChange is the way of one split from the decision to the point where it counts as settled. Times that
// have not come are zero.
type WeightChange struct {
	// Weights are the intended ones by Service.
	Weights map[string]int32 `json:"weights"`
	// Decided is when the controller decided it; Written when the Ingress's annotation had it.
	Decided time.Time `json:"decided"`
	Written time.Time `json:"written,omitzero"`
	// Accepted is when AWS received the ModifyRule or ModifyListener call that it then carried out.
	Accepted time.Time `json:"accepted,omitzero"`
	// Applied is when the last of the load balancer's nodes had it, or something newer. No API of AWS tells this.
	Applied time.Time `json:"applied,omitzero"`
	// NotApplied are the zones of the nodes that did not have it by the end.
	NotApplied []string `json:"notApplied,omitempty"`
	// Seen is when the read of AWS began that showed it in every rule; Settled when it counted as settled.
	Seen    time.Time `json:"seen,omitzero"`
	Settled time.Time `json:"settled,omitzero"`
}

// PhaseChange is one change of the rollout's phase.
type PhaseChange struct {
	At      time.Time `json:"at"`
	Phase   string    `json:"phase"`
	Message string    `json:"message,omitempty"`
	// Step is the index of the canary step, and Waiting what evidence was waited for.
	Step    int32  `json:"step"`
	Waiting string `json:"waiting,omitempty"`
}

// settling is one time at which a split counted as settled. A split may settle twice: when somebody else moved the
// weights in between, the wait begins anew.
type settling struct {
	weights map[string]int32
	// seen is when the read of AWS began from which on the settle time ran.
	seen, settled time.Time
}

// timeline follows one rollout, its ReplicaSets and the bindings of its target groups from the outside.
type timeline struct {
	mu      sync.Mutex
	changed chan struct{} // closed and replaced at each change
	rollout *v1alpha1.Rollout
	sets    map[string]appsv1.ReplicaSet
	seen    recorded
}

// recorded is what a timeline keeps.
type recorded struct {
	weights   []WeightChange
	settlings []settling
	phases    []PhaseChange
	broken    []Violation
	// services are the Services of target groups, by ARN, also of those that are gone.
	services map[string]string
}

// follow watches the rollout, its ReplicaSets and bindings until the context ends. A watch that the API server closes, as
// it does under load, is begun anew from a fresh list.
func follow(ctx context.Context, config *rest.Config, scheme *runtime.Scheme, key client.ObjectKey) (*timeline, error) {
	t := &timeline{changed: make(chan struct{}), sets: map[string]appsv1.ReplicaSet{}, seen: recorded{services: map[string]string{}}}
	informers, err := cache.New(config, cache.Options{Scheme: scheme, DefaultNamespaces: map[string]cache.Config{key.Namespace: {}}})
	if err != nil {
		return nil, err
	}
	for _, object := range []client.Object{&v1alpha1.Rollout{}, &appsv1.ReplicaSet{}, &elbv2.TargetGroupBinding{}} {
		informer, err := informers.GetInformer(ctx, object, cache.BlockUntilSynced(false))
		if err != nil {
			return nil, err
		}
		_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc:    func(object any) { t.note(object, key) },
			UpdateFunc: func(_, object any) { t.note(object, key) },
			DeleteFunc: t.forget,
		})
		if err != nil {
			return nil, err
		}
	}
	go func() { _ = informers.Start(ctx) }() // its only error is that it was started twice
	return t, nil
}

func (t *timeline) forget(object any) {
	set, ok := object.(*appsv1.ReplicaSet)
	if !ok {
		return // the rollout's end is the rehearsal's own doing; a set that was missed has no pods left; bindings are kept
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.sets, set.Labels[v1alpha1.HashLabel])
	t.announce()
}

func (t *timeline) note(object any, key client.ObjectKey) {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch object := object.(type) {
	case *v1alpha1.Rollout:
		if object.Name != key.Name {
			return
		}
		t.rollout = object
		t.noteWeights(object)
		t.notePhase(object)
	case *appsv1.ReplicaSet:
		t.sets[object.Labels[v1alpha1.HashLabel]] = *object
	case *elbv2.TargetGroupBinding:
		t.seen.services[object.Spec.TargetGroupARN] = object.Spec.ServiceRef.Name
	}
	t.announce()
}

// announce wakes whoever waits for a change; the lock is held.
func (t *timeline) announce() {
	close(t.changed)
	t.changed = make(chan struct{})
}

// noteWeights adds a new split, or completes the times of the newest one.
func (t *timeline) noteWeights(r *v1alpha1.Rollout) {
	for _, traffic := range r.Status.Traffic {
		if traffic.DecidedAt == nil {
			continue
		}
		decided := traffic.DecidedAt.Time
		i := slices.IndexFunc(t.seen.weights, func(w WeightChange) bool {
			return w.Decided.Equal(decided) && maps.Equal(w.Weights, traffic.Intended)
		})
		if i < 0 {
			t.seen.weights = append(t.seen.weights, WeightChange{Weights: traffic.Intended, Decided: decided})
			i = len(t.seen.weights) - 1
		}
		change := &t.seen.weights[i]
		first(&change.Written, traffic.WrittenAt)
		if maps.Equal(traffic.Weights, traffic.Intended) {
			first(&change.Seen, traffic.Since)
			first(&change.Settled, traffic.SettledAt)
			t.noteSettling(traffic)
		}
	}
}

func (t *timeline) noteSettling(traffic v1alpha1.TrafficStatus) {
	if traffic.Since == nil || traffic.SettledAt == nil {
		return
	}
	now := settling{weights: traffic.Intended, seen: traffic.Since.Time, settled: traffic.SettledAt.Time}
	known := slices.ContainsFunc(t.seen.settlings, func(s settling) bool {
		return s.seen.Equal(now.seen) && s.settled.Equal(now.settled) && maps.Equal(s.weights, now.weights)
	})
	if !known {
		t.seen.settlings = append(t.seen.settlings, now)
	}
}

// first keeps the first time that was given.
func first(at *time.Time, given *metav1.MicroTime) {
	if at.IsZero() && given != nil {
		*at = given.Time
	}
}

func (t *timeline) notePhase(r *v1alpha1.Rollout) {
	now := PhaseChange{At: time.Now(), Phase: r.Status.Phase, Message: r.Status.Message}
	if r.Status.CurrentStepIndex != nil {
		now.Step = *r.Status.CurrentStepIndex
	}
	for _, c := range r.Status.Conditions {
		if c.Type == v1alpha1.ConditionTrafficVerified && c.Status == metav1.ConditionFalse {
			now.Waiting = c.Message
		}
	}
	last := PhaseChange{}
	if n := len(t.seen.phases); n > 0 {
		last = t.seen.phases[n-1]
	}
	last.At = now.At
	if last == now {
		return
	}
	t.seen.phases = append(t.seen.phases, now)
	if !observed(r) {
		return
	}
	if v, broken := prematurePhase(r, now.At); broken {
		t.seen.broken = append(t.seen.broken, v)
	}
}

// latest returns what is known now, and a channel that closes at the next change.
func (t *timeline) latest() (*v1alpha1.Rollout, map[string]appsv1.ReplicaSet, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.rollout, maps.Clone(t.sets), t.changed
}

// until waits for a state of the rollout.
func (t *timeline) until(ctx context.Context, what string, done func(*v1alpha1.Rollout, map[string]appsv1.ReplicaSet) bool) error {
	for {
		rollout, sets, changed := t.latest()
		if rollout != nil && done(rollout, sets) {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return t.inVain(context.Cause(ctx), what, rollout)
		}
	}
}

func (t *timeline) inVain(cause error, what string, r *v1alpha1.Rollout) error {
	state := "the rollout does not exist"
	if r != nil {
		state = "it is " + r.Status.Phase + ": " + r.Status.Message
		for _, c := range r.Status.Conditions {
			if c.Type == v1alpha1.ConditionTrafficVerified && c.Status == metav1.ConditionFalse {
				state += "; waiting for " + c.Message
			}
		}
	}
	return &TimeoutError{What: what, State: state, Err: cause}
}

// TimeoutError says what a rehearsal waited for in vain, and how things stood then.
type TimeoutError struct {
	What, State string
	Err         error
}

func (e *TimeoutError) Error() string {
	return "waited in vain for " + e.What + " (" + e.State + "): " + e.Err.Error()
}

func (e *TimeoutError) Unwrap() error { return e.Err }

// record returns copies of what was noted.
func (t *timeline) record() recorded {
	t.mu.Lock()
	defer t.mu.Unlock()
	return recorded{
		weights: slices.Clone(t.seen.weights), settlings: slices.Clone(t.seen.settlings), phases: slices.Clone(t.seen.phases),
		broken: slices.Clone(t.seen.broken), services: maps.Clone(t.seen.services),
	}
}
