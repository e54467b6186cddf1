package plan

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
)

// removeUnused lets go of target groups and security groups that nothing asks for any more. The targets
// of a group leave only when no rule has named it for the settle time, since AWS's nodes may send requests
// there until then; since when is noted on the binding, so that a restart loses nothing.
func (s *situation) removeUnused() {
	for i := range s.observed.TargetGroups {
		g := &s.observed.TargetGroups[i]
		if s.groups[g.ResourceID] != g {
			s.removeGroup(g)
		}
	}
	s.removeBindings()
	for i := range s.observed.SecurityGroups {
		g := &s.observed.SecurityGroups[i]
		wanted := slices.ContainsFunc(s.desired.SecurityGroups, func(w model.SecurityGroup) bool { return w.ResourceID == g.ResourceID })
		attached := s.balancer != nil && slices.Contains(s.balancer.SecurityGroupIDs, g.GroupID)
		if !attached && (!wanted || s.firewall[g.ResourceID] != g) {
			s.add(stageRemoval, DeleteSecurityGroup{Group: Ref{g.ResourceID, g.GroupID}})
		}
	}
}

// removeBindings deletes bindings of target groups that somebody else deleted, apart from those that nameTaken
// judges.
func (s *situation) removeBindings() {
	for _, b := range s.state.Bindings {
		wanted := slices.ContainsFunc(s.desired.Bindings, func(w model.Binding) bool { return w.Namespace == b.Namespace && w.Name == b.Name })
		if !wanted && s.lost(b.TargetGroupARN) && !b.Deleting {
			s.add(stageRemoval, DeleteBinding{b.Namespace, b.Name})
		}
	}
}

func (s *situation) removeGroup(g *model.ObservedTargetGroup) {
	i := slices.IndexFunc(s.state.Bindings, func(b ObservedBinding) bool { return b.TargetGroupARN == g.ARN })
	if i < 0 {
		if !s.live[g.ARN] {
			s.add(stageRemoval, DeleteTargetGroup{Ref{g.ResourceID, g.ARN}})
		}
		return
	}
	b := s.state.Bindings[i]
	name := b.Namespace + "/" + b.Name
	leaves := b.UnusedSince.Add(s.state.Settle)
	switch {
	case b.Deleting:
		s.wait(Wait{Reason: fmt.Sprintf("target group %s is deleted when binding %s is gone", g.Name, name)})
	case s.live[g.ARN] && !b.UnusedSince.IsZero():
		s.add(stageRemoval, MarkBinding{Namespace: b.Namespace, Name: b.Name})
	case s.live[g.ARN]: // a rule still names it: held back, or about to change
	case b.UnusedSince.IsZero():
		s.add(stageRemoval, MarkBinding{Namespace: b.Namespace, Name: b.Name, UnusedSince: s.state.Now})
		s.wait(Wait{Reason: fmt.Sprintf("no rule names target group %s any more; its targets leave after the settle time of %s", g.Name, s.state.Settle), Until: s.state.Now.Add(s.state.Settle)})
	case s.state.Now.Before(leaves):
		s.wait(Wait{Reason: fmt.Sprintf("no rule names target group %s since %s; its targets leave after the settle time of %s", g.Name, b.UnusedSince.UTC().Format("15:04:05"), s.state.Settle), Until: leaves})
	default:
		s.add(stageRemoval, DeleteBinding{b.Namespace, b.Name})
		s.wait(Wait{Reason: fmt.Sprintf("target group %s is deleted when binding %s is gone", g.Name, name)})
	}
}

// removeAll deletes a stack that nobody wants: bindings, listeners, load balancer, then what they used.
// A load balancer whose protection has not been read goes first: when AWS refuses, nothing was touched.
func (s *situation) removeAll() {
	for _, lb := range s.observed.LoadBalancers {
		if lb.Attributes["deletion_protection.enabled"] == "true" {
			s.block("load balancer "+lb.Name, "it is protected from deletion", "switch deletion_protection.enabled off")
			return
		}
	}
	unread := slices.ContainsFunc(s.observed.LoadBalancers, func(lb model.ObservedLoadBalancer) bool { return lb.Attributes == nil })
	if !unread {
		for _, b := range s.state.Bindings {
			if !b.Deleting {
				s.add(stageRemoval, DeleteBinding{b.Namespace, b.Name})
			}
		}
	}
	for _, lb := range s.observed.LoadBalancers {
		for _, l := range lb.Listeners {
			if !unread {
				s.add(stageRemoval, DeleteListener{Ref{strconv.Itoa(int(l.Port)), l.ARN}})
			}
		}
		s.add(stageRemoval, DeleteLoadBalancer{Ref{lb.ResourceID, lb.ARN}})
	}
	if len(s.observed.LoadBalancers) > 0 {
		s.wait(Wait{Reason: "target groups and security groups are deleted when the load balancer is gone"})
		return
	}
	for _, g := range s.observed.TargetGroups {
		if slices.ContainsFunc(s.state.Bindings, func(b ObservedBinding) bool { return b.TargetGroupARN == g.ARN }) {
			s.wait(Wait{Reason: fmt.Sprintf("target group %s is deleted when its binding is gone", g.Name)})
			continue
		}
		s.add(stageRemoval, DeleteTargetGroup{Ref{g.ResourceID, g.ARN}})
	}
	for _, g := range s.observed.SecurityGroups {
		s.add(stageRemoval, DeleteSecurityGroup{Group: Ref{g.ResourceID, g.GroupID}})
	}
	if len(s.observed.TargetGroups)+len(s.observed.SecurityGroups)+len(s.state.Bindings) > 0 {
		return
	}
	if s.state.Alone && s.state.BackendGroupID != "" {
		s.add(stageRemoval, DeleteSecurityGroup{Group: Ref{model.BackendSecurityGroup, s.state.BackendGroupID}, Shared: true})
		return
	}
	s.out.Gone = true
}
