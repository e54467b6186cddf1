// Package apply carries out the operations of a plan: one switch, one call each.
//
// It never waits. A call that the budget has no token for ends the round, with the time to come again;
// the next round makes a new plan from what is true then, so an old intent is never sent late. What is
// already gone was deleted successfully, what is already allowed was authorised successfully.
//
//	result := apply.Round{Cloud: cloud, Objects: objects}.Do(ctx, p.Operations)
package apply

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/balancing/plan"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
)

// Cloud is the part of the cloud room that changes load balancers; *cloud.Cloud has it.
type Cloud interface {
	// HealthyTargets is how many targets of a group are healthy as far as is known now, without a call. Those that
	// are about to leave are not.
	HealthyTargets(targetGroupARN string) int

	ModifyRule(ctx context.Context, arn string, actions []model.Action, conditions []model.Condition) error
	ModifyListener(ctx context.Context, arn string, listener model.Listener) error
	SetRulePriorities(ctx context.Context, priorities map[string]int32) error
	CreateRule(ctx context.Context, listenerARN string, rule model.Rule) (model.ObservedRule, error)
	DeleteRule(ctx context.Context, arn string) error

	CreateSecurityGroup(ctx context.Context, sg model.SecurityGroup) (groupID string, err error)
	DeleteSecurityGroup(ctx context.Context, groupID string) error
	AuthorizeIngress(ctx context.Context, groupID string, permissions []model.Permission) error
	RevokeIngress(ctx context.Context, groupID string, permissions []model.Permission) error

	CreateTargetGroup(ctx context.Context, group model.TargetGroup) (model.ObservedTargetGroup, error)
	ModifyTargetGroup(ctx context.Context, arn string, check model.HealthCheck) error
	ModifyTargetGroupAttributes(ctx context.Context, arn string, attributes map[string]string) error
	DeleteTargetGroup(ctx context.Context, arn string) error

	CreateLoadBalancer(ctx context.Context, lb model.LoadBalancer, securityGroupIDs []string) (model.ObservedLoadBalancer, error)
	DeleteLoadBalancer(ctx context.Context, arn string) error
	SetSecurityGroups(ctx context.Context, loadBalancerARN string, groupIDs []string) error
	SetSubnets(ctx context.Context, loadBalancerARN string, subnetIDs []string) error
	SetIPAddressType(ctx context.Context, loadBalancerARN, ipAddressType string) error
	ModifyLoadBalancerAttributes(ctx context.Context, arn string, attributes map[string]string) error
	CreateListener(ctx context.Context, loadBalancerARN string, listener model.Listener) (model.ObservedListener, error)
	DeleteListener(ctx context.Context, arn string) error

	AddTags(ctx context.Context, arn string, tags map[string]string) error
	RemoveTags(ctx context.Context, arn string, keys []string) error
}

// Objects writes TargetGroupBinding objects. A binding's sources have their GroupID set. Deleting what is
// gone succeeds.
type Objects interface {
	CreateBinding(ctx context.Context, targetGroupARN string, b model.Binding) error
	UpdateBinding(ctx context.Context, targetGroupARN string, b model.Binding) error
	DeleteBinding(ctx context.Context, namespace, name string) error
	MarkBinding(ctx context.Context, namespace, name string, unusedSince time.Time) error
}

// Round is one application of a plan.
type Round struct {
	Cloud   Cloud
	Objects Objects
	// BackendGroupID is the shared security group, empty while there is none.
	BackendGroupID string
	Now            time.Time
}

// Outcome is what became of one operation.
type Outcome struct {
	Operation plan.Operation
	// Err is nil when it was carried out.
	Err error
}

// Result is what became of a round.
type Result struct {
	// Outcomes are in the order tried; operations after the end of the round are absent.
	Outcomes []Outcome
	// Again is when to make a new plan: AWS or the budget asked for it. Zero otherwise.
	Again time.Time
	// Err joins what went wrong, apart from what waiting alone resolves.
	Err error
	// BackendGroupID is the shared security group when the round made it.
	BackendGroupID string
}

// inUseRetry is when a resource that was still in use is tried again: its user has just been deleted and
// AWS detaches in the background.
const inUseRetry = 3 * time.Second

// sharedRetry is when the shared security group is looked for that somebody else was faster to make.
const sharedRetry = 100 * time.Millisecond

// round is the state of one Do.
type round struct {
	Round
	operations []plan.Operation
	// made are the ARNs and ids of what this round made, by resource id.
	made   map[string]string
	result Result

	crowd
}

// Do carries out operations until one fails that the next ones rely on. Operations on settings, tags and
// removals that are refused do not end the round.
func (r Round) Do(ctx context.Context, operations []plan.Operation) Result {
	d := &round{Round: r, operations: operations, made: map[string]string{},
		crowd: crowd{placed: map[plan.Ref]bool{}, reused: map[string]bool{}}}
	for _, op := range operations {
		if d.skips(op) {
			continue
		}
		if !isRoute(op) && d.crowdedOut() {
			break
		}
		create, isRule := op.(plan.CreateRule)
		err := d.do(ctx, op)
		if isRule && errors.Is(err, cloud.ErrLimit) {
			d.crowded, d.limit = append(d.crowded, create), err
		} else if d.record(op, err) {
			return d.result
		} else if isRule {
			d.placed[placeOf(create)] = true
		}
		if isRule && d.makeRoom(ctx) {
			return d.result
		}
	}
	d.crowdedOut()
	return d.result
}

// record notes an outcome and says whether the round is over.
func (d *round) record(op plan.Operation, err error) (over bool) {
	d.result.Outcomes = append(d.result.Outcomes, Outcome{op, err})
	if err == nil {
		return false
	}
	if errors.Is(err, errHealthLost) {
		d.again(d.Now)
		return true
	}
	if wait, soon := cloud.RetryAfter(err); soon {
		d.again(d.Now.Add(wait))
		return true
	}
	if errors.Is(err, cloud.ErrConflict) {
		switch op.(type) {
		case plan.CreateBackendGroup: // another stack has just made it: the next round finds it
			d.again(d.Now.Add(sharedRetry))
			return true
		case plan.DeleteSecurityGroup, plan.DeleteTargetGroup:
			d.again(d.Now.Add(inUseRetry))
			return false
		}
	}
	d.result.Err = errors.Join(d.result.Err, fmt.Errorf("cannot %s: %w", op, err))
	switch op := op.(type) {
	case plan.ModifyListener:
		return op.Listener.DefaultActions != nil // nothing relies on certificates
	case plan.ModifyTargetGroup, plan.SetTargetGroupAttributes, plan.SetLoadBalancerAttributes, plan.AddTags, plan.RemoveTags,
		plan.RevokeIngress, plan.MarkBinding, plan.UpdateBinding:
		return false // nothing relies on these
	}
	return true
}

func (d *round) again(at time.Time) {
	if d.result.Again.IsZero() || at.Before(d.result.Again) {
		d.result.Again = at
	}
}

func (d *round) do(ctx context.Context, op plan.Operation) error {
	switch op := op.(type) {
	case plan.ModifyRule:
		actions, err := d.actions(op.Actions)
		if err = cmp.Or(err, d.stillHealthy(op.Raises)); err != nil {
			return err
		}
		return d.Cloud.ModifyRule(ctx, op.Rule.ARN, actions, op.Conditions)
	case plan.ModifyListener:
		actions, err := d.actions(op.Listener.DefaultActions)
		if err = cmp.Or(err, d.stillHealthy(op.Raises)); err != nil {
			return err
		}
		op.Listener.DefaultActions = actions
		return d.Cloud.ModifyListener(ctx, op.Target.ARN, op.Listener)
	case plan.SetRulePriorities:
		return d.Cloud.SetRulePriorities(ctx, op.Priorities)
	case plan.CreateRule:
		return d.createRule(ctx, op)
	case plan.DeleteRule:
		return gone(d.Cloud.DeleteRule(ctx, op.Rule.ARN))

	case plan.CreateSecurityGroup:
		return d.make(op.Group.ResourceID, func() (string, error) { return d.Cloud.CreateSecurityGroup(ctx, op.Group) })
	case plan.CreateBackendGroup:
		id, err := d.Cloud.CreateSecurityGroup(ctx, op.Group)
		if err == nil {
			d.BackendGroupID, d.result.BackendGroupID = id, id
		}
		return err
	case plan.AuthorizeIngress:
		return d.eachPermission(ctx, op.Group, op.Permissions, d.Cloud.AuthorizeIngress, cloud.ErrConflict)
	case plan.RevokeIngress:
		return d.eachPermission(ctx, op.Group, op.Permissions, d.Cloud.RevokeIngress, cloud.ErrNotFound)
	case plan.DeleteSecurityGroup:
		return gone(d.Cloud.DeleteSecurityGroup(ctx, op.Group.ARN))

	case plan.CreateTargetGroup:
		return d.make(op.Group.ResourceID, func() (string, error) {
			g, err := d.Cloud.CreateTargetGroup(ctx, op.Group)
			return g.ARN, err
		})
	case plan.ModifyTargetGroup:
		return d.Cloud.ModifyTargetGroup(ctx, op.Group.ARN, op.HealthCheck)
	case plan.SetTargetGroupAttributes:
		return d.with(op.Group, func(arn string) error { return d.Cloud.ModifyTargetGroupAttributes(ctx, arn, op.Attributes) })
	case plan.DeleteTargetGroup:
		return gone(d.Cloud.DeleteTargetGroup(ctx, op.Group.ARN))
	case plan.CreateBinding:
		return d.binding(op.Group, op.Binding, func(arn string, b model.Binding) error { return d.Objects.CreateBinding(ctx, arn, b) })
	case plan.UpdateBinding:
		return d.binding(op.Group, op.Binding, func(arn string, b model.Binding) error { return d.Objects.UpdateBinding(ctx, arn, b) })
	case plan.DeleteBinding:
		return d.Objects.DeleteBinding(ctx, op.Namespace, op.Name)
	case plan.MarkBinding:
		return d.Objects.MarkBinding(ctx, op.Namespace, op.Name, op.UnusedSince)

	case plan.CreateLoadBalancer:
		return d.createLoadBalancer(ctx, op.LoadBalancer)
	case plan.SetSecurityGroups:
		ids, err := d.groupIDs(op.Groups)
		if err != nil {
			return err
		}
		return d.Cloud.SetSecurityGroups(ctx, op.LoadBalancer.ARN, ids)
	case plan.SetSubnets:
		return d.Cloud.SetSubnets(ctx, op.LoadBalancer.ARN, op.SubnetIDs)
	case plan.SetIPAddressType:
		return d.Cloud.SetIPAddressType(ctx, op.LoadBalancer.ARN, op.IPAddressType)
	case plan.SetLoadBalancerAttributes:
		return d.with(op.LoadBalancer, func(arn string) error { return d.Cloud.ModifyLoadBalancerAttributes(ctx, arn, op.Attributes) })
	case plan.DeleteLoadBalancer:
		return gone(d.Cloud.DeleteLoadBalancer(ctx, op.LoadBalancer.ARN))
	case plan.CreateListener:
		return d.createListener(ctx, op)
	case plan.DeleteListener:
		return gone(d.Cloud.DeleteListener(ctx, op.Listener.ARN))

	case plan.AddTags:
		return d.Cloud.AddTags(ctx, op.Resource.ARN, op.Tags)
	case plan.RemoveTags:
		return d.Cloud.RemoveTags(ctx, op.Resource.ARN, op.Keys)
	}
	return fmt.Errorf("operation %T is not known", op)
}

// errHealthLost: a group whose share was to rise has lost its healthy targets since the plan was made.
var errHealthLost = errors.New("its targets have left since it was planned")

// stillHealthy asks once more, right before a share rises, whether there is somebody to serve it (law 1). Of the two
// halves of a race, the raise is the one that can wait: the targets that leave may be dead.
func (d *round) stillHealthy(targetGroupARNs []string) error {
	for _, arn := range targetGroupARNs {
		if d.Cloud.HealthyTargets(arn) == 0 {
			return fmt.Errorf("cannot raise the share of target group %s: %w", arn, errHealthLost)
		}
	}
	return nil
}

// gone takes "not found" for the success of a deletion.
func gone(err error) error {
	if errors.Is(err, cloud.ErrNotFound) {
		return nil
	}
	return err
}

// make remembers the ARN of something new.
func (d *round) make(resourceID string, create func() (string, error)) error {
	arn, err := create()
	if err == nil {
		d.made[resourceID] = arn
	}
	return err
}

// with resolves a reference, also to what this round has made.
func (d *round) with(r plan.Ref, do func(arn string) error) error {
	arn := r.ARN
	if arn == "" {
		arn = d.made[r.ResourceID]
	}
	if arn == "" {
		return fmt.Errorf("%s does not exist in this round", r.ResourceID)
	}
	return do(arn)
}

func (d *round) createRule(ctx context.Context, op plan.CreateRule) error {
	actions, err := d.actions(op.Rule.Actions)
	if err != nil {
		return err
	}
	op.Rule.Actions = actions
	return d.with(op.Listener, func(arn string) error {
		_, err := d.Cloud.CreateRule(ctx, arn, op.Rule)
		return err
	})
}

func (d *round) createListener(ctx context.Context, op plan.CreateListener) error {
	actions, err := d.actions(op.Listener.DefaultActions)
	if err != nil {
		return err
	}
	op.Listener.DefaultActions = actions
	return d.with(op.LoadBalancer, func(arn string) error {
		return d.make(op.Listener.ResourceID, func() (string, error) {
			l, err := d.Cloud.CreateListener(ctx, arn, op.Listener)
			return l.ARN, err
		})
	})
}

func (d *round) createLoadBalancer(ctx context.Context, lb model.LoadBalancer) error {
	ids, err := d.groupIDs(lb.SecurityGroups)
	if err != nil {
		return err
	}
	return d.make(lb.ResourceID, func() (string, error) {
		made, err := d.Cloud.CreateLoadBalancer(ctx, lb, ids)
		return made.ARN, err
	})
}

func (d *round) binding(group plan.Ref, b model.Binding, write func(arn string, b model.Binding) error) error {
	b.Ingress = slices.Clone(b.Ingress)
	for i := range b.Ingress {
		id, err := d.groupID(b.Ingress[i].Source)
		if err != nil {
			return err
		}
		b.Ingress[i].Source.GroupID = id
	}
	return d.with(group, func(arn string) error { return write(arn, b) })
}

// eachPermission sends all permissions at once and, where AWS says that one of them is there (or gone)
// already and so did nothing, one by one.
func (d *round) eachPermission(ctx context.Context, group plan.Ref, permissions []model.Permission, send func(context.Context, string, []model.Permission) error, already error) error {
	return d.with(group, func(id string) error {
		err := send(ctx, id, permissions)
		if !errors.Is(err, already) || len(permissions) == 1 {
			return unless(already, err)
		}
		for _, p := range permissions {
			if err := unless(already, send(ctx, id, []model.Permission{p})); err != nil {
				return err
			}
		}
		return nil
	})
}

func unless(already, err error) error {
	if errors.Is(err, already) {
		return nil
	}
	return err
}

// actions fills in the ARNs of target groups that this round has made.
func (d *round) actions(actions []model.Action) ([]model.Action, error) {
	out := slices.Clone(actions)
	for i, a := range out {
		if a.Forward == nil {
			continue
		}
		forward := *a.Forward
		forward.TargetGroups = slices.Clone(forward.TargetGroups)
		for j := range forward.TargetGroups {
			g := &forward.TargetGroups[j]
			if g.ARN == "" {
				g.ARN = d.made[g.ResourceID]
			}
			if g.ARN == "" {
				return nil, fmt.Errorf("target group %s does not exist in this round", g.ResourceID)
			}
		}
		out[i].Forward = &forward
	}
	return out, nil
}

func (d *round) groupIDs(refs []model.SecurityGroupRef) ([]string, error) {
	var ids []string
	for _, r := range refs {
		id, err := d.groupID(r)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	return ids, nil
}

func (d *round) groupID(r model.SecurityGroupRef) (string, error) {
	id := r.GroupID
	switch {
	case id != "":
	case r.Backend:
		id = d.BackendGroupID
	default:
		id = d.made[r.ResourceID]
	}
	if id == "" {
		return "", fmt.Errorf("security group %s does not exist in this round", r.ResourceID)
	}
	return id, nil
}
