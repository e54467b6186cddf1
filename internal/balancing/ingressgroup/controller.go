// Package ingressgroup is the controller that gives Ingresses their load balancers.
//
// It decides nothing itself. Each round has one path:
//
//	observe (observe.go) -> ingress.Translate -> plan.Make -> apply -> status (act.go)
//
// A weight change takes the same path as everything else. It is fast because action annotations enter the
// queue at a high priority, the plan needs no reads, traffic operations come first and nothing waits: a
// call without a token ends the round.
//
// Nothing is remembered between rounds but which events were told already, and since when old sources of a
// security group overlap with new ones (a restart makes them stay a little longer). Start reading at Reconcile.
package ingressgroup

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/lockstep-delivery/lockstep/internal/balancing/apply"
	"github.com/lockstep-delivery/lockstep/internal/balancing/ingress"
	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/balancing/plan"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
	"github.com/lockstep-delivery/lockstep/internal/kube"
)

// Cloud is what the controller needs of the cloud room; *cloud.Cloud has it.
type Cloud interface {
	apply.Cloud
	Stack(ctx context.Context, stackID string) (model.Observed, error)
	Prioritize(stackID string)
	TargetHealth(ctx context.Context, targetGroupARN string, notBefore time.Time) (health []model.TargetHealth, seenAt time.Time, err error)
	TargetGroupByName(ctx context.Context, name string) (model.ObservedTargetGroup, error)
	Subnets(ctx context.Context) ([]cloud.Subnet, error)
	SecurityGroupsByTag(ctx context.Context, tags map[string]string) ([]model.ObservedSecurityGroup, error)
	SecurityGroupsByName(ctx context.Context, names []string) ([]model.ObservedSecurityGroup, error)
	VPC() cloud.VPC
	Subscribe(changed func(cloud.Change)) (cancel func())
}

// Options of the controller. Cloud and Settings.Cluster are required.
type Options struct {
	Cloud    Cloud
	Settings ingress.Settings
	// Settle is how long AWS may go on using a target group that no rule names any more; default 150 s.
	Settle time.Duration
	// FirewallSettle is how long old sources of the load balancer's security group stay beside new ones; default 30 s.
	FirewallSettle time.Duration
	// HealthAge is how old the read of a target group may be when a share rises on it; default 30 s.
	HealthAge time.Duration
	// Recheck is how soon health that is waited for is looked at again without an event; default 5 s.
	Recheck time.Duration
	// SharedPatience is how long the last Ingress of the cluster waits for the shared security group to be
	// unused, before it goes and leaves the group there; default 2 min.
	SharedPatience time.Duration
	// Workers is the number of Ingresses worked on at a time; default 10.
	Workers int
	// Now is the time; default time.Now.
	Now    func() time.Time
	Logger *slog.Logger
	// Name tells controllers in one process apart; default "ingress".
	Name string
}

func (o Options) withDefaults() Options {
	for _, d := range []struct {
		field *time.Duration
		value time.Duration
	}{{&o.Settle, 150 * time.Second}, {&o.FirewallSettle, 30 * time.Second}, {&o.HealthAge, 30 * time.Second}, {&o.Recheck, 5 * time.Second}, {&o.SharedPatience, 2 * time.Minute}} {
		if *d.field == 0 {
			*d.field = d.value
		}
	}
	if o.Workers == 0 {
		o.Workers = 10
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Name == "" {
		o.Name = "ingress"
	}
	return o
}

// Controller gives Ingresses their load balancers.
type Controller struct {
	Options
	// client reads from the cache and writes to the API server; live reads from the API server.
	client client.Client
	live   client.Reader
	events events.EventRecorder

	mu sync.Mutex
	// backendGroupID is the shared security group once it is known; it is asked for again when a call says
	// that something is not found.
	backendGroupID string
	// told are the last events of each Ingress, so that each is told once.
	told map[types.NamespacedName]map[string]bool
	// overlaps are plan.State.OverlapSince of each Ingress.
	overlaps map[types.NamespacedName]map[string]time.Time
	// sharedRefused is since when AWS has refused an Ingress to delete the shared security group.
	sharedRefused map[types.NamespacedName]time.Time
}

// Reconcile makes one pass over an Ingress.
func (c *Controller) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	key := request.NamespacedName
	kube.CountPass(c.Name, key)
	object := &networkingv1.Ingress{}
	if err := c.client.Get(ctx, key, object); err != nil {
		if apierrors.IsNotFound(err) {
			c.tell(nil, key, nil)
			c.remember(&round{key: key})
			c.forgetRefusal(key)
			return reconcile.Result{}, nil
		}
		return reconcile.Result{}, fmt.Errorf("cannot read Ingress %s: %w", key, err)
	}
	r := &round{key: key, ingress: object.DeepCopy()}
	err := c.pass(ctx, r)
	c.count(r, err)
	c.stage(r, "")
	return c.finish(ctx, r, err)
}

// round is one pass over one Ingress.
type round struct {
	key      types.NamespacedName
	ingress  *networkingv1.Ingress
	claim    ingress.Claim
	objects  ingress.Objects
	observed model.Observed
	stack    model.Stack
	state    plan.State

	plan   plan.Plan
	result apply.Result
	events []ingress.Event
	timing
}

func (c *Controller) pass(ctx context.Context, r *round) error {
	var err error
	c.stage(r, stageFetch)
	if r.objects, err = c.kubernetesObjects(ctx, r.ingress); err != nil {
		return err
	}
	if r.claim, _, err = ingress.Claimed(c.Settings, r.objects); err != nil || r.claim == ingress.Foreign {
		return err
	}
	c.stage(r, stageBuild)
	seen := c.observe(ctx, r)
	if seen != nil && len(r.observed.LoadBalancers) == 0 {
		return seen
	}
	resolved, err := c.resolve(ctx, r)
	if err != nil {
		return errors.Join(seen, err)
	}
	stack, told, err := ingress.Translate(c.Settings, r.objects, resolved)
	r.stack, r.events = stack, told
	if err != nil {
		return err
	}
	if err := c.shared(ctx, r); err != nil {
		return err
	}
	c.decide(ctx, r)
	c.stage(r, stageDeploy)
	return errors.Join(seen, c.act(ctx, r))
}

// decide plans; where that needs the health of target groups, it is read and planned once more. A read
// that cannot be had now only leaves its share where it is.
func (c *Controller) decide(ctx context.Context, r *round) {
	c.mu.Lock()
	r.state.OverlapSince = c.overlaps[r.key]
	c.mu.Unlock()
	r.plan = plan.Make(r.stack, r.observed, r.state)
	defer c.remember(r)
	if r.plan.StaleGroups {
		c.readGroupsAgain(ctx, r)
	}
	if len(r.plan.Reads) == 0 {
		return
	}
	r.state.Health, r.state.ReadSince = map[string]plan.Health{}, c.Now()
	for _, arn := range r.plan.Reads {
		health, seenAt, err := c.Cloud.TargetHealth(ctx, arn, r.state.ReadSince)
		if err != nil {
			c.Logger.Warn("cannot read targets", "ingress", r.key.String(), "targetGroup", arn, "error", err)
			continue
		}
		r.state.Health[arn] = plan.HealthOf(health, seenAt)
	}
	r.state.Now = c.Now()
	r.plan = plan.Make(r.stack, r.observed, r.state)
}

// remember keeps what the next plan needs to know of this one.
func (c *Controller) remember(r *round) {
	after := plan.Overlapping(r.state.OverlapSince, r.plan, r.state.Now)
	c.mu.Lock()
	defer c.mu.Unlock()
	if delete(c.overlaps, r.key); len(after) > 0 {
		c.overlaps[r.key] = after
	}
}

// readGroupsAgain has the stack's security groups read from AWS and plans once more.
func (c *Controller) readGroupsAgain(ctx context.Context, r *round) {
	groups, err := c.Cloud.SecurityGroupsByTag(ctx, map[string]string{model.TagStack: r.stack.ID})
	if err != nil {
		c.Logger.Warn("cannot read security groups", "ingress", r.key.String(), "error", err)
		return
	}
	groups = slices.DeleteFunc(groups, func(g model.ObservedSecurityGroup) bool { return model.ClusterOf(g.Tags) != c.Settings.Cluster })
	r.observed.SecurityGroups = groups
	for i := range groups {
		groups[i].ResourceID = groups[i].Tags[model.TagResource]
	}
	r.plan = plan.Make(r.stack, r.observed, r.state)
}

// at once: something was done, and what it led to is looked at next.
const atOnce = time.Millisecond

// staleRetry is when to try again a write that met a newer object than the cache had.
const staleRetry = 50 * time.Millisecond

// finish tells what came of a pass, and says when to make the next one.
func (c *Controller) finish(ctx context.Context, r *round, err error) (reconcile.Result, error) {
	if ctx.Err() != nil {
		return reconcile.Result{}, ctx.Err()
	}
	said := r.events
	for _, b := range r.plan.Blocked {
		said = append(said, ingress.Event{Warning: true, Reason: "FailedDeployModel", Message: b.String()})
	}
	for _, w := range r.plan.Waits {
		said = append(said, ingress.Event{Reason: "Waiting", Message: w.Reason})
	}
	if message := throttled(r, err); message != "" {
		said = append(said, ingress.Event{Warning: true, Reason: "FailedDeployModel", Message: message})
	}
	wait, soon := cloud.RetryAfter(err)
	invalid, isInvalid := errors.AsType[*ingress.InvalidError](err)
	switch {
	case isInvalid:
		said = append(said, ingress.Event{Warning: true, Reason: "FailedBuildModel", Message: invalid.Error()})
		err = nil // until somebody corrects it, which is an event
	case soon:
		if errors.Is(err, cloud.ErrDenied) || errors.Is(err, cloud.ErrLimit) || errors.Is(err, cloud.ErrInvalid) {
			said = append(said, ingress.Event{Warning: true, Reason: "FailedDeployModel", Message: err.Error()})
		}
		err = nil
	case apierrors.IsConflict(err): // the cache was behind
		wait, soon, err = staleRetry, true, nil
	case err != nil:
		said = append(said, ingress.Event{Warning: true, Reason: "FailedDeployModel", Message: err.Error()})
	}
	c.tell(r.ingress, r.key, said)
	if err != nil {
		return reconcile.Result{}, err
	}
	result := reconcile.Result{RequeueAfter: c.next(r)}
	if soon {
		result.RequeueAfter = max(wait, atOnce)
	}
	if len(r.result.Outcomes) > 0 && err == nil {
		c.Logger.Info("reconciled", "ingress", r.key.String(), "operations", len(r.result.Outcomes), "again", result.RequeueAfter.String())
	}
	return result, nil
}

// throttled says which call AWS refused for its rate, if it did.
func throttled(r *round, err error) string {
	tried := []error{err}
	for _, o := range r.result.Outcomes {
		tried = append(tried, o.Err)
	}
	for _, err := range tried {
		if errors.Is(err, cloud.ErrThrottled) {
			return fmt.Sprintf("%v; it is tried again by itself", err)
		}
	}
	return ""
}

// next is when to look again without an event; zero for never.
func (c *Controller) next(r *round) time.Duration {
	now := c.Now()
	var at time.Time
	sooner := func(t time.Time) {
		if at.IsZero() || t.Before(at) {
			at = t
		}
	}
	if !r.result.Again.IsZero() {
		sooner(r.result.Again)
	} else if len(r.result.Outcomes) > 0 {
		sooner(now)
	}
	for _, w := range r.plan.Waits {
		switch {
		case !w.Until.IsZero():
			sooner(w.Until)
		case len(w.TargetGroups) > 0:
			sooner(now.Add(c.Recheck))
		}
	}
	if len(r.plan.Reads) > 0 || r.plan.StaleGroups || r.claim != ingress.Foreign && r.observed.Missing != "" {
		sooner(now.Add(c.Recheck))
	}
	if at.IsZero() {
		return 0
	}
	return max(at.Sub(now), atOnce)
}

// tell sends the events that were not sent in the last pass.
func (c *Controller) tell(about *networkingv1.Ingress, key types.NamespacedName, said []ingress.Event) {
	now := map[string]bool{}
	for _, e := range said {
		now[e.Reason+" "+e.Message] = true
	}
	c.mu.Lock()
	before := c.told[key]
	if delete(c.told, key); len(now) > 0 {
		c.told[key] = now
	}
	c.mu.Unlock()
	for _, e := range said {
		if before[e.Reason+" "+e.Message] {
			continue
		}
		c.event(about, e)
	}
}

// maxMessage is the longest note that the events API takes.
const maxMessage = 1024

func (c *Controller) event(about *networkingv1.Ingress, e ingress.Event) {
	kind, level := "Normal", slog.LevelInfo
	if e.Warning {
		kind, level = "Warning", slog.LevelWarn
	}
	c.Logger.Log(context.Background(), level, e.Message, "ingress", about.Namespace+"/"+about.Name, "reason", e.Reason)
	c.events.Eventf(about, nil, kind, e.Reason, "Reconcile", "%s", strings.ToValidUTF8(e.Message[:min(len(e.Message), maxMessage)], ""))
}
