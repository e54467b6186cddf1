package plan

import (
	"fmt"
	"slices"
	"time"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
)

// securityGroups makes and authorises; it revokes only when every wanted source has been seen in place.
func (s *situation) securityGroups() {
	if s.desired.BackendGroup != nil && s.state.BackendGroupID == "" {
		s.add(stageFirewall, CreateBackendGroup{*s.desired.BackendGroup})
	}
	for _, wanted := range s.desired.SecurityGroups {
		have := s.firewall[wanted.ResourceID]
		if have == nil {
			s.add(stageFirewall, CreateSecurityGroup{wanted})
			if len(wanted.Ingress) > 0 {
				s.add(stageFirewall, AuthorizeIngress{Ref{ResourceID: wanted.ResourceID}, wanted.Ingress})
			}
			continue
		}
		ref := Ref{wanted.ResourceID, have.GroupID}
		missing, extra := without(wanted.Ingress, have.Ingress), without(have.Ingress, wanted.Ingress)
		switch {
		case len(missing) > 0:
			s.add(stageFirewall, AuthorizeIngress{ref, missing})
			if len(extra) > 0 {
				s.wait(Wait{Reason: "security group " + wanted.ResourceID + ": the old sources are revoked when the new ones are seen in place"})
			}
		case len(extra) > 0:
			s.revoke(ref, have, extra)
		}
		s.tags(ref, wanted.Tags, have.Tags)
	}
}

// revoke takes old sources away when the new ones have been in place for the settle time, and a read since
// then still shows them: until then clients of both could be cut off.
func (s *situation) revoke(ref Ref, have *model.ObservedSecurityGroup, extra []model.Permission) {
	since, known := s.state.OverlapSince[ref.ARN]
	if !known {
		since = s.state.Now
	}
	settled := since.Add(s.state.FirewallSettle)
	if s.state.FirewallSettle == 0 || known && !s.state.Now.Before(settled) && !have.SeenAt.Before(settled) {
		s.add(stageRemoval, RevokeIngress{ref, extra})
		return
	}
	s.out.Overlaps = append(s.out.Overlaps, ref.ARN)
	w := Wait{Reason: "security group " + ref.ResourceID + ": old sources are revoked when the new ones have been effective for a while", Until: settled}
	if known && !s.state.Now.Before(settled) {
		s.out.StaleGroups, w.Until = true, time.Time{}
	}
	s.wait(w)
}

// groupID resolves a reference to a security group; empty while it does not exist.
func (s *situation) groupID(r model.SecurityGroupRef) string {
	switch {
	case r.GroupID != "":
		return r.GroupID
	case r.Backend:
		return s.state.BackendGroupID
	case s.firewall[r.ResourceID] != nil:
		return s.firewall[r.ResourceID].GroupID
	}
	return ""
}

// known fills in the ids of the security groups that exist.
func (s *situation) known(refs []model.SecurityGroupRef) []model.SecurityGroupRef {
	out := slices.Clone(refs)
	for i := range out {
		out[i].GroupID = s.groupID(out[i])
	}
	return out
}

func (s *situation) targetGroups() {
	for _, wanted := range s.desired.TargetGroups {
		have := s.groups[wanted.ResourceID]
		if have == nil {
			s.add(stageGroups, CreateTargetGroup{wanted})
			if len(wanted.Attributes) > 0 {
				s.add(stageGroups, SetTargetGroupAttributes{Ref{ResourceID: wanted.ResourceID}, wanted.Attributes})
			}
			continue
		}
		ref := Ref{wanted.ResourceID, have.ARN}
		if wanted.HealthCheck != have.HealthCheck {
			s.add(stageSettings, ModifyTargetGroup{ref, wanted.HealthCheck})
		}
		if changed := differing(wanted.Attributes, have.Attributes); len(changed) > 0 {
			s.add(stageSettings, SetTargetGroupAttributes{ref, changed})
		}
		s.tags(ref, wanted.Tags, have.Tags)
	}
}

func (s *situation) loadBalancer() {
	wanted := *s.desired.LoadBalancer
	wanted.SecurityGroups = s.known(wanted.SecurityGroups)
	if s.balancer == nil {
		s.add(stageBalancer, CreateLoadBalancer{wanted})
		if len(wanted.Attributes) > 0 {
			s.add(stageBalancer, SetLoadBalancerAttributes{Ref{ResourceID: wanted.ResourceID}, wanted.Attributes})
		}
		return
	}
	have := s.balancer
	ref := Ref{wanted.ResourceID, have.ARN}
	if wanted.Scheme != have.Scheme {
		s.block("load balancer "+have.Name, "its scheme is "+string(have.Scheme)+", which AWS cannot change into "+string(wanted.Scheme)+" in place",
			"set the scheme back, or move to a new Ingress with the other scheme and delete this one when clients have followed its DNS name")
	}
	if have.State == "failed" {
		s.block("load balancer "+have.Name, "AWS could not set it up (state failed)", "see its reason in the AWS console, then delete it")
	}
	s.attach(ref, wanted, have)
	if len(wanted.SubnetIDs) > 0 && !sameSet(wanted.SubnetIDs, have.SubnetIDs) {
		s.add(stageBalancer, SetSubnets{ref, wanted.SubnetIDs})
	}
	if have.IPAddressType != "" && wanted.IPAddressType != have.IPAddressType {
		s.add(stageBalancer, SetIPAddressType{ref, wanted.IPAddressType})
	}
	if changed := differing(wanted.Attributes, have.Attributes); len(changed) > 0 {
		s.add(stageSettings, SetLoadBalancerAttributes{ref, changed})
	}
	s.tags(ref, wanted.Tags, have.Tags)
}

// maxSecurityGroups is how many security groups AWS attaches to a load balancer by default.
const maxSecurityGroups = 5

// attach changes the security groups of a load balancer: the new ones come beside the old ones, which go when
// the new have been effective for the settle time and pods let traffic of them in. Where AWS has no room for
// both, they are exchanged at once.
func (s *situation) attach(ref Ref, wanted model.LoadBalancer, have *model.ObservedLoadBalancer) {
	if !s.securityGroupsDiffer(wanted, *have) {
		return
	}
	both := slices.Clone(wanted.SecurityGroups)
	for _, id := range have.SecurityGroupIDs {
		if !slices.ContainsFunc(wanted.SecurityGroups, func(r model.SecurityGroupRef) bool { return r.GroupID == id }) {
			both = append(both, model.SecurityGroupRef{GroupID: id})
		}
	}
	missing := slices.ContainsFunc(wanted.SecurityGroups, func(r model.SecurityGroupRef) bool { return !slices.Contains(have.SecurityGroupIDs, r.GroupID) })
	switch {
	case len(both) == len(wanted.SecurityGroups) || len(both) > maxSecurityGroups:
		s.add(stageBalancer, SetSecurityGroups{ref, wanted.SecurityGroups})
	case missing:
		s.add(stageBalancer, SetSecurityGroups{ref, both})
		s.wait(Wait{Reason: "load balancer " + have.Name + ": its old security groups stay until the new ones are effective"})
	default:
		s.detach(ref, wanted, have)
	}
}

// detach takes the old security groups from a load balancer that has the new ones for the settle time.
func (s *situation) detach(ref Ref, wanted model.LoadBalancer, have *model.ObservedLoadBalancer) {
	since, known := s.state.OverlapSince[ref.ARN]
	if !known {
		since = s.state.Now
	}
	settled := since.Add(s.state.FirewallSettle)
	pending := slices.ContainsFunc(s.state.Bindings, func(b ObservedBinding) bool { return b.Pending })
	if !pending && (s.state.FirewallSettle == 0 || known && !s.state.Now.Before(settled)) {
		s.add(stageRemoval, SetSecurityGroups{ref, wanted.SecurityGroups})
		return
	}
	if !settled.After(s.state.Now) {
		settled = s.state.Now.Add(s.state.FirewallSettle) // the bindings' turn
	}
	s.out.Overlaps = append(s.out.Overlaps, ref.ARN)
	s.wait(Wait{Reason: "load balancer " + have.Name + ": its old security groups are detached when the new ones have been effective for a while and every binding lets their traffic in", Until: settled})
}

func (s *situation) securityGroupsDiffer(wanted model.LoadBalancer, have model.ObservedLoadBalancer) bool {
	var ids []string
	for _, r := range wanted.SecurityGroups {
		ids = append(ids, r.GroupID) // "" for one that will be made, which differs from all
	}
	return !sameSet(ids, have.SecurityGroupIDs)
}

// bindings compares TargetGroupBinding objects by the ARN of their group; an existing one keeps its name.
func (s *situation) bindings() {
	for _, wanted := range s.desired.Bindings {
		wanted.Ingress = slices.Clone(wanted.Ingress)
		for i := range wanted.Ingress {
			wanted.Ingress[i].Source.GroupID = s.groupID(wanted.Ingress[i].Source)
		}
		ref := Ref{ResourceID: wanted.TargetGroup}
		group := s.groups[wanted.TargetGroup]
		if s.nameTaken(wanted, group) {
			continue
		}
		if group == nil {
			s.add(stageBindings, CreateBinding{ref, wanted})
			continue
		}
		ref.ARN = group.ARN
		i := slices.IndexFunc(s.state.Bindings, func(b ObservedBinding) bool { return b.TargetGroupARN == group.ARN })
		if i < 0 {
			s.add(stageBindings, CreateBinding{ref, wanted})
			continue
		}
		have := s.state.Bindings[i]
		if have.Deleting {
			s.wait(Wait{Reason: "binding " + have.Namespace + "/" + have.Name + " is being deleted and is made again when it is gone"})
			continue
		}
		wanted.Name = have.Name
		if s.bindingDiffers(wanted, have) {
			s.add(stageBindings, UpdateBinding{ref, wanted})
		}
		if !have.UnusedSince.IsZero() {
			s.add(stageBindings, MarkBinding{Namespace: have.Namespace, Name: have.Name})
		}
	}
}

// nameTaken reports that the name of a wanted binding is that of one for another target group: the group was
// deleted by somebody and is made anew. The old binding goes when the new group is known; until then AWS may
// only not have listed the group that the binding has.
func (s *situation) nameTaken(wanted model.Binding, group *model.ObservedTargetGroup) bool {
	if group != nil && slices.ContainsFunc(s.state.Bindings, func(b ObservedBinding) bool { return b.TargetGroupARN == group.ARN }) {
		return false
	}
	i := slices.IndexFunc(s.state.Bindings, func(b ObservedBinding) bool { return b.Namespace == wanted.Namespace && b.Name == wanted.Name })
	if i < 0 {
		return false
	}
	old := s.state.Bindings[i]
	if group != nil && !old.Deleting && s.lost(old.TargetGroupARN) {
		s.add(stageBindings, DeleteBinding{old.Namespace, old.Name})
	}
	s.wait(Wait{Reason: fmt.Sprintf("binding %s/%s is for target group %s and is made again for the one that takes its place", old.Namespace, old.Name, shortARN(old.TargetGroupARN))})
	return true
}

// lost reports that a target group is not there any more, as far as lists and rules tell.
func (s *situation) lost(arn string) bool { return s.byARN[arn] == nil && !s.live[arn] }

func (s *situation) bindingDiffers(wanted model.Binding, have ObservedBinding) bool {
	if wanted.Service != have.Service || wanted.ServicePort != have.ServicePort {
		return true
	}
	for k, v := range wanted.Labels {
		if have.Labels[k] != v {
			return true
		}
	}
	if len(wanted.Ingress) != len(have.Ingress) {
		return true
	}
	for i, w := range wanted.Ingress {
		if w.Port != have.Ingress[i].Port || w.Source.GroupID != have.Ingress[i].Source.GroupID {
			return true
		}
	}
	return false
}
