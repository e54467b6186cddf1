// Package applytest is a small model of AWS and of the TargetGroupBinding objects, for tests of plans:
// what apply carries out is what the next plan observes. It refuses what AWS refuses (priorities in use,
// groups in use, unknown groups), has no delays, and sends no traffic.
package applytest

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/balancing/plan"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
)

// World is AWS and Kubernetes as one stack sees them. The zero value is empty and ready to use.
type World struct {
	// Now is the time of reads.
	Now time.Time
	// RuleLimit is the number of rules of a listener; 0 means 100.
	RuleLimit int
	// Refuse may answer a call, by its AWS operation, with an error instead of carrying it out.
	Refuse func(operation string) error
	// BindingsLinger keeps deleted bindings until FinishBindings.
	BindingsLinger bool
	// RefuseCertificate is one that AWS does not take.
	RefuseCertificate string

	mu       sync.Mutex
	calls    []string
	serial   int
	balancer []model.ObservedLoadBalancer
	groups   []model.ObservedTargetGroup
	firewall []model.ObservedSecurityGroup
	bindings []plan.ObservedBinding
}

// Calls returns the AWS operations called since the last time, refused ones included.
func (w *World) Calls() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	calls := w.calls
	w.calls = nil
	return calls
}

// Observed returns what AWS has for a stack.
func (w *World) Observed(stackID string) model.Observed {
	w.mu.Lock()
	defer w.mu.Unlock()
	o := model.Observed{Complete: true}
	for _, lb := range w.balancer {
		if lb.Tags[model.TagStack] == stackID {
			lb.Listeners = slices.Clone(lb.Listeners)
			for i := range lb.Listeners {
				lb.Listeners[i].Rules = slices.Clone(lb.Listeners[i].Rules)
				lb.Listeners[i].SeenAt = w.Now
			}
			o.LoadBalancers = append(o.LoadBalancers, lb)
		}
	}
	for _, g := range w.groups {
		if g.Tags[model.TagStack] == stackID {
			g.TargetsSeenAt = w.Now
			o.TargetGroups = append(o.TargetGroups, g)
		}
	}
	for _, g := range w.firewall {
		if g.Tags[model.TagStack] == stackID {
			g.SeenAt = w.Now
			o.SecurityGroups = append(o.SecurityGroups, g)
		}
	}
	return o
}

// Bindings returns the binding objects.
func (w *World) Bindings() []plan.ObservedBinding {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.bindings)
}

// BackendGroupID is the shared security group, or empty.
func (w *World) BackendGroupID() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, g := range w.firewall {
		if g.Tags[model.TagBackendResource] == model.BackendSecurityGroup {
			return g.GroupID
		}
	}
	return ""
}

// SetTargets gives every target group whose resource id ends in suffix so many healthy and unhealthy targets.
func (w *World) SetTargets(suffix string, healthy, unhealthy int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.groups {
		if !strings.HasSuffix(w.groups[i].ResourceID, suffix) {
			continue
		}
		w.groups[i].Targets = nil
		for n := range healthy + unhealthy {
			state := "healthy"
			if n >= healthy {
				state = "unhealthy"
			}
			w.groups[i].Targets = append(w.groups[i].Targets, model.TargetHealth{Target: model.Target{ID: fmt.Sprintf("10.0.0.%d", n), Port: 8080}, State: state})
		}
	}
}

// HealthyTargets is how many targets of a group are healthy.
func (w *World) HealthyTargets(targetGroupARN string) int {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, g := range w.groups {
		if g.ARN == targetGroupARN {
			return plan.HealthOf(g.Targets, w.Now).Healthy
		}
	}
	return 0
}

// SetOldestTargets is SetTargets for the oldest group with the suffix only: one that is being replaced.
func (w *World) SetOldestTargets(suffix string, healthy int) {
	w.mu.Lock()
	var rest []model.ObservedTargetGroup
	for i := range w.groups {
		if strings.HasSuffix(w.groups[i].ResourceID, suffix) {
			rest = slices.Clone(w.groups[i+1:])
			w.groups = w.groups[: i+1 : i+1]
			break
		}
	}
	w.mu.Unlock()
	w.SetTargets(suffix, healthy, 0)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.groups = append(w.groups, rest...)
}

// FinishBindings takes away bindings that are being deleted.
func (w *World) FinishBindings() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bindings = slices.DeleteFunc(w.bindings, func(b plan.ObservedBinding) bool { return b.Deleting })
}

// begin notes a call and answers with the refusal, if there is one. The lock is held when it returns nil.
func (w *World) begin(operation string) error {
	w.mu.Lock()
	w.calls = append(w.calls, operation)
	if w.Refuse != nil {
		if err := w.Refuse(operation); err != nil {
			w.mu.Unlock()
			return err
		}
	}
	return nil
}

func (w *World) arn(kind, name string) string {
	w.serial++
	return fmt.Sprintf("arn:aws:elasticloadbalancing:eu-west-1:123456789012:%s/%s/%016x", kind, name, w.serial)
}

func refuse(operation string, kind cloud.Kind, code, resource string) error {
	return &cloud.APIError{Service: "Elastic Load Balancing v2", Operation: operation, Code: code, Message: "refused", Kind: kind, Resource: resource}
}

func (w *World) rule(operation, arn string) (*model.ObservedListener, int, error) {
	for b := range w.balancer {
		for l := range w.balancer[b].Listeners {
			listener := &w.balancer[b].Listeners[l]
			for r := range listener.Rules {
				if listener.Rules[r].ARN == arn {
					return listener, r, nil
				}
			}
		}
	}
	return nil, 0, refuse(operation, cloud.KindNotFound, "RuleNotFound", arn)
}

func (w *World) listener(operation, arn string) (*model.ObservedListener, error) {
	for b := range w.balancer {
		for l := range w.balancer[b].Listeners {
			if w.balancer[b].Listeners[l].ARN == arn {
				return &w.balancer[b].Listeners[l], nil
			}
		}
	}
	return nil, refuse(operation, cloud.KindNotFound, "ListenerNotFound", arn)
}

// checked refuses forwards to groups that do not exist, and returns the actions without resource ids, as
// AWS would give them.
func (w *World) checked(operation string, actions []model.Action) ([]model.Action, error) {
	out := slices.Clone(actions)
	for i, a := range out {
		if a.Forward == nil {
			continue
		}
		forward := *a.Forward
		forward.TargetGroups = slices.Clone(forward.TargetGroups)
		for j := range forward.TargetGroups {
			g := &forward.TargetGroups[j]
			if !slices.ContainsFunc(w.groups, func(have model.ObservedTargetGroup) bool { return have.ARN == g.ARN }) {
				return nil, refuse(operation, cloud.KindNotFound, "TargetGroupNotFound", g.ARN)
			}
			g.ResourceID = ""
		}
		if len(forward.TargetGroups) > 5 {
			return nil, refuse(operation, cloud.KindLimit, "TooManyTargetGroups", "")
		}
		out[i].Forward = &forward
	}
	return out, nil
}

// ModifyRule changes a rule in place.
func (w *World) ModifyRule(_ context.Context, arn string, actions []model.Action, conditions []model.Condition) error {
	if err := w.begin("ModifyRule"); err != nil {
		return err
	}
	defer w.mu.Unlock()
	listener, i, err := w.rule("ModifyRule", arn)
	if err != nil {
		return err
	}
	if actions != nil {
		if listener.Rules[i].Actions, err = w.checked("ModifyRule", actions); err != nil {
			return err
		}
	}
	if conditions != nil {
		listener.Rules[i].Conditions = conditions
	}
	return nil
}

// ModifyListener changes default actions, policy and certificates, as far as they are given.
func (w *World) ModifyListener(_ context.Context, arn string, wanted model.Listener) error {
	if err := w.begin("ModifyListener"); err != nil {
		return err
	}
	defer w.mu.Unlock()
	listener, err := w.listener("ModifyListener", arn)
	if err != nil {
		return err
	}
	if w.RefuseCertificate != "" && slices.Contains(wanted.Certificates, w.RefuseCertificate) {
		return refuse("ModifyListener", cloud.KindInvalid, "CertificateNotFound", w.RefuseCertificate)
	}
	actions, err := w.checked("ModifyListener", wanted.DefaultActions)
	if err != nil {
		return err
	}
	if wanted.DefaultActions != nil {
		listener.DefaultActions = actions
	}
	if len(wanted.Certificates) > 0 {
		listener.Certificates = wanted.Certificates
	}
	listener.SSLPolicy = cmp.Or(wanted.SSLPolicy, listener.SSLPolicy)
	return nil
}

// SetRulePriorities moves rules, all or none.
func (w *World) SetRulePriorities(_ context.Context, priorities map[string]int32) error {
	if err := w.begin("SetRulePriorities"); err != nil {
		return err
	}
	defer w.mu.Unlock()
	for arn := range priorities {
		listener, _, err := w.rule("SetRulePriorities", arn)
		if err != nil {
			return err
		}
		taken := map[int32]bool{}
		for _, r := range listener.Rules {
			p, moves := priorities[r.ARN]
			if !moves {
				p = r.Priority
			}
			if taken[p] {
				return refuse("SetRulePriorities", cloud.KindConflict, "PriorityInUse", arn)
			}
			taken[p] = true
		}
	}
	for arn, p := range priorities {
		listener, i, _ := w.rule("SetRulePriorities", arn)
		listener.Rules[i].Priority = p
	}
	return nil
}

// CreateRule adds a rule.
func (w *World) CreateRule(_ context.Context, listenerARN string, rule model.Rule) (model.ObservedRule, error) {
	if err := w.begin("CreateRule"); err != nil {
		return model.ObservedRule{}, err
	}
	defer w.mu.Unlock()
	listener, err := w.listener("CreateRule", listenerARN)
	if err != nil {
		return model.ObservedRule{}, err
	}
	limit := w.RuleLimit
	if limit == 0 {
		limit = 100
	}
	if len(listener.Rules) >= limit {
		return model.ObservedRule{}, refuse("CreateRule", cloud.KindLimit, "TooManyRules", listenerARN)
	}
	if slices.ContainsFunc(listener.Rules, func(r model.ObservedRule) bool { return r.Priority == rule.Priority }) {
		return model.ObservedRule{}, refuse("CreateRule", cloud.KindConflict, "PriorityInUse", listenerARN)
	}
	if rule.Actions, err = w.checked("CreateRule", rule.Actions); err != nil {
		return model.ObservedRule{}, err
	}
	rule.Hold, rule.Tags = "", maps.Clone(rule.Tags)
	made := model.ObservedRule{Rule: rule, ARN: w.arn("listener-rule/app", rule.ResourceID)}
	listener.Rules = append(listener.Rules, made)
	return made, nil
}

// DeleteRule deletes a rule.
func (w *World) DeleteRule(_ context.Context, arn string) error {
	if err := w.begin("DeleteRule"); err != nil {
		return err
	}
	defer w.mu.Unlock()
	listener, i, err := w.rule("DeleteRule", arn)
	if err == nil {
		listener.Rules = slices.Delete(slices.Clone(listener.Rules), i, i+1)
	}
	return err
}

// CreateSecurityGroup makes a security group.
func (w *World) CreateSecurityGroup(_ context.Context, sg model.SecurityGroup) (string, error) {
	if err := w.begin("CreateSecurityGroup"); err != nil {
		return "", err
	}
	defer w.mu.Unlock()
	w.serial++
	sg.Ingress, sg.Tags = nil, maps.Clone(sg.Tags)
	w.firewall = append(w.firewall, model.ObservedSecurityGroup{SecurityGroup: sg, GroupID: fmt.Sprintf("sg-%04d", w.serial), SeenAt: w.Now})
	return w.firewall[len(w.firewall)-1].GroupID, nil
}

// DeleteSecurityGroup deletes a security group that no load balancer has.
func (w *World) DeleteSecurityGroup(_ context.Context, groupID string) error {
	if err := w.begin("DeleteSecurityGroup"); err != nil {
		return err
	}
	defer w.mu.Unlock()
	for _, lb := range w.balancer {
		if slices.Contains(lb.SecurityGroupIDs, groupID) {
			return refuse("DeleteSecurityGroup", cloud.KindConflict, "DependencyViolation", groupID)
		}
	}
	before := len(w.firewall)
	w.firewall = slices.DeleteFunc(w.firewall, func(g model.ObservedSecurityGroup) bool { return g.GroupID == groupID })
	if len(w.firewall) == before {
		return refuse("DeleteSecurityGroup", cloud.KindNotFound, "InvalidGroup.NotFound", groupID)
	}
	return nil
}

func (w *World) group(operation, groupID string) (*model.ObservedSecurityGroup, error) {
	for i := range w.firewall {
		if w.firewall[i].GroupID == groupID {
			return &w.firewall[i], nil
		}
	}
	return nil, refuse(operation, cloud.KindNotFound, "InvalidGroup.NotFound", groupID)
}

// AuthorizeIngress adds permissions, all or none.
func (w *World) AuthorizeIngress(_ context.Context, groupID string, permissions []model.Permission) error {
	if err := w.begin("AuthorizeSecurityGroupIngress"); err != nil {
		return err
	}
	defer w.mu.Unlock()
	g, err := w.group("AuthorizeSecurityGroupIngress", groupID)
	if err != nil {
		return err
	}
	for _, p := range permissions {
		if slices.Contains(g.Ingress, p) {
			return refuse("AuthorizeSecurityGroupIngress", cloud.KindConflict, "InvalidPermission.Duplicate", groupID)
		}
	}
	g.Ingress = append(slices.Clone(g.Ingress), permissions...)
	return nil
}

// RevokeIngress takes permissions away, all or none.
func (w *World) RevokeIngress(_ context.Context, groupID string, permissions []model.Permission) error {
	if err := w.begin("RevokeSecurityGroupIngress"); err != nil {
		return err
	}
	defer w.mu.Unlock()
	g, err := w.group("RevokeSecurityGroupIngress", groupID)
	if err != nil {
		return err
	}
	for _, p := range permissions {
		if !slices.Contains(g.Ingress, p) {
			return refuse("RevokeSecurityGroupIngress", cloud.KindNotFound, "InvalidPermission.NotFound", groupID)
		}
	}
	g.Ingress = slices.DeleteFunc(slices.Clone(g.Ingress), func(p model.Permission) bool { return slices.Contains(permissions, p) })
	return nil
}
