package applytest

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/balancing/plan"
	"github.com/lockstep-delivery/lockstep/internal/cloud"
)

// CreateTargetGroup makes a target group without targets.
func (w *World) CreateTargetGroup(_ context.Context, group model.TargetGroup) (model.ObservedTargetGroup, error) {
	if err := w.begin("CreateTargetGroup"); err != nil {
		return model.ObservedTargetGroup{}, err
	}
	defer w.mu.Unlock()
	if slices.ContainsFunc(w.groups, func(g model.ObservedTargetGroup) bool { return g.Name == group.Name }) {
		return model.ObservedTargetGroup{}, refuse("CreateTargetGroup", cloud.KindConflict, "DuplicateTargetGroupName", group.Name)
	}
	group.Attributes, group.Tags = map[string]string{}, maps.Clone(group.Tags)
	made := model.ObservedTargetGroup{TargetGroup: group, ARN: w.arn("targetgroup", group.Name), SeenAt: w.Now}
	w.groups = append(w.groups, made)
	return made, nil
}

func (w *World) targetGroup(operation, arn string) (*model.ObservedTargetGroup, error) {
	for i := range w.groups {
		if w.groups[i].ARN == arn {
			return &w.groups[i], nil
		}
	}
	return nil, refuse(operation, cloud.KindNotFound, "TargetGroupNotFound", arn)
}

// ModifyTargetGroup changes the health check.
func (w *World) ModifyTargetGroup(_ context.Context, arn string, check model.HealthCheck) error {
	if err := w.begin("ModifyTargetGroup"); err != nil {
		return err
	}
	defer w.mu.Unlock()
	g, err := w.targetGroup("ModifyTargetGroup", arn)
	if err == nil {
		g.HealthCheck = check
	}
	return err
}

// ModifyTargetGroupAttributes sets attributes.
func (w *World) ModifyTargetGroupAttributes(_ context.Context, arn string, attributes map[string]string) error {
	if err := w.begin("ModifyTargetGroupAttributes"); err != nil {
		return err
	}
	defer w.mu.Unlock()
	g, err := w.targetGroup("ModifyTargetGroupAttributes", arn)
	if err == nil {
		g.Attributes = joined(g.Attributes, attributes)
	}
	return err
}

func joined(maps_ ...map[string]string) map[string]string {
	out := map[string]string{}
	for _, m := range maps_ {
		maps.Copy(out, m)
	}
	return out
}

// DeleteTargetGroup deletes a target group that no rule names.
func (w *World) DeleteTargetGroup(_ context.Context, arn string) error {
	if err := w.begin("DeleteTargetGroup"); err != nil {
		return err
	}
	defer w.mu.Unlock()
	uses := func(actions []model.Action) bool {
		return slices.ContainsFunc(actions, func(a model.Action) bool {
			return a.Forward != nil && slices.ContainsFunc(a.Forward.TargetGroups, func(g model.WeightedTargetGroup) bool { return g.ARN == arn })
		})
	}
	for _, lb := range w.balancer {
		for _, l := range lb.Listeners {
			if uses(l.DefaultActions) || slices.ContainsFunc(l.Rules, func(r model.ObservedRule) bool { return uses(r.Actions) }) {
				return refuse("DeleteTargetGroup", cloud.KindConflict, "ResourceInUse", arn)
			}
		}
	}
	if _, err := w.targetGroup("DeleteTargetGroup", arn); err != nil {
		return err
	}
	w.groups = slices.DeleteFunc(w.groups, func(g model.ObservedTargetGroup) bool { return g.ARN == arn })
	return nil
}

// CreateLoadBalancer makes an active load balancer.
func (w *World) CreateLoadBalancer(_ context.Context, lb model.LoadBalancer, securityGroupIDs []string) (model.ObservedLoadBalancer, error) {
	if err := w.begin("CreateLoadBalancer"); err != nil {
		return model.ObservedLoadBalancer{}, err
	}
	defer w.mu.Unlock()
	lb.SecurityGroups, lb.Attributes, lb.Tags = nil, map[string]string{}, maps.Clone(lb.Tags)
	made := model.ObservedLoadBalancer{
		LoadBalancer: lb, ARN: w.arn("loadbalancer/app", lb.Name), DNSName: lb.Name + ".elb.amazonaws.com", State: "active",
		SecurityGroupIDs: securityGroupIDs, SeenAt: w.Now,
	}
	w.balancer = append(w.balancer, made)
	return made, nil
}

func (w *World) loadBalancer(operation, arn string) (*model.ObservedLoadBalancer, error) {
	for i := range w.balancer {
		if w.balancer[i].ARN == arn {
			return &w.balancer[i], nil
		}
	}
	return nil, refuse(operation, cloud.KindNotFound, "LoadBalancerNotFound", arn)
}

// DeleteLoadBalancer deletes a load balancer with its listeners, unless it is protected.
func (w *World) DeleteLoadBalancer(_ context.Context, arn string) error {
	if err := w.begin("DeleteLoadBalancer"); err != nil {
		return err
	}
	defer w.mu.Unlock()
	lb, err := w.loadBalancer("DeleteLoadBalancer", arn)
	if err != nil {
		return err
	}
	if lb.Attributes["deletion_protection.enabled"] == "true" {
		return refuse("DeleteLoadBalancer", cloud.KindConflict, "OperationNotPermitted", arn)
	}
	w.balancer = slices.DeleteFunc(w.balancer, func(lb model.ObservedLoadBalancer) bool { return lb.ARN == arn })
	return nil
}

func (w *World) changeBalancer(operation, arn string, change func(*model.ObservedLoadBalancer)) error {
	if err := w.begin(operation); err != nil {
		return err
	}
	defer w.mu.Unlock()
	lb, err := w.loadBalancer(operation, arn)
	if err == nil {
		change(lb)
	}
	return err
}

// SetSecurityGroups replaces the attached security groups.
func (w *World) SetSecurityGroups(_ context.Context, arn string, groupIDs []string) error {
	return w.changeBalancer("SetSecurityGroups", arn, func(lb *model.ObservedLoadBalancer) { lb.SecurityGroupIDs = groupIDs })
}

// SetSubnets replaces the subnets.
func (w *World) SetSubnets(_ context.Context, arn string, subnetIDs []string) error {
	return w.changeBalancer("SetSubnets", arn, func(lb *model.ObservedLoadBalancer) { lb.SubnetIDs = subnetIDs })
}

// SetIPAddressType changes the address type.
func (w *World) SetIPAddressType(_ context.Context, arn, ipAddressType string) error {
	return w.changeBalancer("SetIpAddressType", arn, func(lb *model.ObservedLoadBalancer) { lb.IPAddressType = ipAddressType })
}

// ModifyLoadBalancerAttributes sets attributes.
func (w *World) ModifyLoadBalancerAttributes(_ context.Context, arn string, attributes map[string]string) error {
	return w.changeBalancer("ModifyLoadBalancerAttributes", arn, func(lb *model.ObservedLoadBalancer) { lb.Attributes = joined(lb.Attributes, attributes) })
}

// CreateListener adds a listener without rules.
func (w *World) CreateListener(_ context.Context, arn string, l model.Listener) (model.ObservedListener, error) {
	if err := w.begin("CreateListener"); err != nil {
		return model.ObservedListener{}, err
	}
	defer w.mu.Unlock()
	lb, err := w.loadBalancer("CreateListener", arn)
	if err != nil {
		return model.ObservedListener{}, err
	}
	if slices.ContainsFunc(lb.Listeners, func(have model.ObservedListener) bool { return have.Port == l.Port }) {
		return model.ObservedListener{}, refuse("CreateListener", cloud.KindConflict, "DuplicateListener", arn)
	}
	if l.DefaultActions, err = w.checked("CreateListener", l.DefaultActions); err != nil {
		return model.ObservedListener{}, err
	}
	l.Tags, l.Rules, l.Hold = maps.Clone(l.Tags), nil, ""
	made := model.ObservedListener{Listener: l, ARN: w.arn("listener/app", l.ResourceID), SeenAt: w.Now}
	lb.Listeners = append(lb.Listeners, made)
	return made, nil
}

// DeleteListener deletes a listener with its rules.
func (w *World) DeleteListener(_ context.Context, arn string) error {
	if err := w.begin("DeleteListener"); err != nil {
		return err
	}
	defer w.mu.Unlock()
	if _, err := w.listener("DeleteListener", arn); err != nil {
		return err
	}
	for i := range w.balancer {
		w.balancer[i].Listeners = slices.DeleteFunc(w.balancer[i].Listeners, func(l model.ObservedListener) bool { return l.ARN == arn })
	}
	return nil
}

// tagsOf finds the tags of a resource by ARN or security-group id.
func (w *World) tagsOf(arn string) *map[string]string {
	for b := range w.balancer {
		lb := &w.balancer[b]
		if lb.ARN == arn {
			return &lb.Tags
		}
		for l := range lb.Listeners {
			if lb.Listeners[l].ARN == arn {
				return &lb.Listeners[l].Tags
			}
			for r := range lb.Listeners[l].Rules {
				if lb.Listeners[l].Rules[r].ARN == arn {
					return &lb.Listeners[l].Rules[r].Tags
				}
			}
		}
	}
	for g := range w.groups {
		if w.groups[g].ARN == arn {
			return &w.groups[g].Tags
		}
	}
	for g := range w.firewall {
		if w.firewall[g].GroupID == arn {
			return &w.firewall[g].Tags
		}
	}
	return nil
}

// AddTags adds or replaces tags.
func (w *World) AddTags(_ context.Context, arn string, tags map[string]string) error {
	if err := w.begin("AddTags"); err != nil {
		return err
	}
	defer w.mu.Unlock()
	if have := w.tagsOf(arn); have != nil {
		*have = joined(*have, tags)
		return nil
	}
	return refuse("AddTags", cloud.KindNotFound, "RuleNotFound", arn)
}

// RemoveTags removes tags.
func (w *World) RemoveTags(_ context.Context, arn string, keys []string) error {
	if err := w.begin("RemoveTags"); err != nil {
		return err
	}
	defer w.mu.Unlock()
	if have := w.tagsOf(arn); have != nil {
		*have = joined(*have)
		maps.DeleteFunc(*have, func(k, _ string) bool { return slices.Contains(keys, k) })
		return nil
	}
	return refuse("RemoveTags", cloud.KindNotFound, "RuleNotFound", arn)
}

// CreateBinding makes a binding object.
func (w *World) CreateBinding(_ context.Context, targetGroupARN string, b model.Binding) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.bindings = append(w.bindings, plan.ObservedBinding{Binding: b, TargetGroupARN: targetGroupARN})
	return nil
}

// UpdateBinding changes the binding object of that name.
func (w *World) UpdateBinding(_ context.Context, targetGroupARN string, b model.Binding) error {
	return w.changeBinding(b.Namespace, b.Name, func(have *plan.ObservedBinding) { have.Binding = b })
}

// DeleteBinding deletes a binding object.
func (w *World) DeleteBinding(_ context.Context, namespace, name string) error {
	err := w.changeBinding(namespace, name, func(have *plan.ObservedBinding) { have.Deleting = true })
	if !w.BindingsLinger {
		w.FinishBindings()
	}
	return err
}

// MarkBinding notes since when its group is unused.
func (w *World) MarkBinding(_ context.Context, namespace, name string, unusedSince time.Time) error {
	return w.changeBinding(namespace, name, func(have *plan.ObservedBinding) { have.UnusedSince = unusedSince })
}

func (w *World) changeBinding(namespace, name string, change func(*plan.ObservedBinding)) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.bindings {
		if w.bindings[i].Namespace == namespace && w.bindings[i].Name == name {
			change(&w.bindings[i])
		}
	}
	return nil
}
