package ec2

import (
	"slices"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// ruleChange is what the operations on rules have in common.
type ruleChange struct {
	groupID, groupName *string
	permissions        []types.IpPermission
	ruleIDs            []string
	egress             bool
	tags               []types.TagSpecification
}

// single is the permission of a request in the old form, with one source in parameters of its own.
type single struct {
	protocol, cidr, group *string
	from, to              *int32
}

func (o single) permissions(listed []types.IpPermission) ([]types.IpPermission, error) {
	if o.protocol == nil && o.cidr == nil && o.group == nil && o.from == nil && o.to == nil {
		return listed, nil
	}
	if len(listed) > 0 {
		return nil, invalidCombination("The parameter 'ipPermissions' may not be used with parameters that describe one permission")
	}
	p := types.IpPermission{IpProtocol: o.protocol, FromPort: o.from, ToPort: o.to}
	if o.cidr != nil {
		p.IpRanges = []types.IpRange{{CidrIp: o.cidr}}
	}
	if o.group != nil {
		p.UserIdGroupPairs = []types.UserIdGroupPair{{GroupName: o.group}}
	}
	return []types.IpPermission{p}, nil
}

// authorizeSecurityGroupIngress adds inbound rules: all of them, or none if one is there already.
func (s *Service) authorizeSecurityGroupIngress(r eventual.Reader, in *ec2.AuthorizeSecurityGroupIngressInput) (func() *ec2.AuthorizeSecurityGroupIngressOutput, error) {
	permissions, err := single{in.IpProtocol, in.CidrIp, in.SourceSecurityGroupName, in.FromPort, in.ToPort}.permissions(in.IpPermissions)
	if err != nil {
		return nil, err
	}
	add, err := s.authorize(r, ruleChange{groupID: in.GroupId, groupName: in.GroupName, permissions: permissions, tags: in.TagSpecifications})
	if err != nil {
		return nil, err
	}
	return func() *ec2.AuthorizeSecurityGroupIngressOutput {
		return &ec2.AuthorizeSecurityGroupIngressOutput{Return: new(true), SecurityGroupRules: add()}
	}, nil
}

func (s *Service) authorizeSecurityGroupEgress(r eventual.Reader, in *ec2.AuthorizeSecurityGroupEgressInput) (func() *ec2.AuthorizeSecurityGroupEgressOutput, error) {
	permissions, err := single{in.IpProtocol, in.CidrIp, in.SourceSecurityGroupName, in.FromPort, in.ToPort}.permissions(in.IpPermissions)
	if err != nil {
		return nil, err
	}
	add, err := s.authorize(r, ruleChange{groupID: in.GroupId, permissions: permissions, egress: true, tags: in.TagSpecifications})
	if err != nil {
		return nil, err
	}
	return func() *ec2.AuthorizeSecurityGroupEgressOutput {
		return &ec2.AuthorizeSecurityGroupEgressOutput{Return: new(true), SecurityGroupRules: add()}
	}, nil
}

func (s *Service) authorize(r eventual.Reader, c ruleChange) (func() []types.SecurityGroupRule, error) {
	g, err := s.group(r, c.groupID, c.groupName)
	if err != nil {
		return nil, err
	}
	added, err := s.parseRules(r, g.vpc, c.permissions)
	if err != nil {
		return nil, err
	}
	tags, err := tagsFor(c.tags, types.ResourceTypeSecurityGroupRule)
	if err != nil {
		return nil, err
	}
	rules := slices.Clone(g.rules(c.egress))
	for _, one := range added {
		if slices.ContainsFunc(rules, one.same) {
			return nil, duplicate(one)
		}
		rules = append(rules, one)
	}
	if err := s.checkRuleQuota(rules); err != nil {
		return nil, err
	}
	return func() []types.SecurityGroupRule {
		added := s.withIDs(rules[len(rules)-len(added):]...)
		s.changeGroup(g.with(c.egress, rules))
		shown := []types.SecurityGroupRule{}
		for _, one := range added {
			if len(tags) > 0 {
				s.tags.settle(one.id, tags)
			}
			full := s.shown(one, g.id, c.egress)
			full.Tags = tagList(tags)
			shown = append(shown, full)
		}
		return shown
	}, nil
}

func duplicate(r rule) error {
	return wire.Errorf("InvalidPermission.Duplicate", "the specified rule \"peer: %s, %s, from port: %d, to port: %d, ALLOW\" already exists",
		r.cidr4+r.cidr6+r.group+r.prefixList, r.protocol, r.from, r.to)
}

// revokeSecurityGroupIngress removes inbound rules: all of them, or none if one does not exist.
func (s *Service) revokeSecurityGroupIngress(r eventual.Reader, in *ec2.RevokeSecurityGroupIngressInput) (func() *ec2.RevokeSecurityGroupIngressOutput, error) {
	permissions, err := single{in.IpProtocol, in.CidrIp, in.SourceSecurityGroupName, in.FromPort, in.ToPort}.permissions(in.IpPermissions)
	if err != nil {
		return nil, err
	}
	remove, unknown, err := s.revoke(r, ruleChange{groupID: in.GroupId, groupName: in.GroupName, permissions: permissions, ruleIDs: in.SecurityGroupRuleIds})
	if err != nil {
		return nil, err
	}
	return func() *ec2.RevokeSecurityGroupIngressOutput {
		return &ec2.RevokeSecurityGroupIngressOutput{Return: new(true), RevokedSecurityGroupRules: remove(), UnknownIpPermissions: unknown}
	}, nil
}

func (s *Service) revokeSecurityGroupEgress(r eventual.Reader, in *ec2.RevokeSecurityGroupEgressInput) (func() *ec2.RevokeSecurityGroupEgressOutput, error) {
	permissions, err := single{in.IpProtocol, in.CidrIp, in.SourceSecurityGroupName, in.FromPort, in.ToPort}.permissions(in.IpPermissions)
	if err != nil {
		return nil, err
	}
	remove, unknown, err := s.revoke(r, ruleChange{groupID: in.GroupId, permissions: permissions, ruleIDs: in.SecurityGroupRuleIds, egress: true})
	if err != nil {
		return nil, err
	}
	return func() *ec2.RevokeSecurityGroupEgressOutput {
		return &ec2.RevokeSecurityGroupEgressOutput{Return: new(true), RevokedSecurityGroupRules: remove(), UnknownIpPermissions: unknown}
	}, nil
}

func (s *Service) revoke(r eventual.Reader, c ruleChange) (remove func() []types.RevokedSecurityGroupRule, unknown []types.IpPermission, err error) {
	g, err := s.group(r, c.groupID, c.groupName)
	if err != nil {
		return nil, nil, err
	}
	removed, unknown, err := s.chosen(r, g, c)
	if err != nil {
		return nil, nil, err
	}
	return func() []types.RevokedSecurityGroupRule {
		s.changeGroup(g.with(c.egress, slices.DeleteFunc(slices.Clone(g.rules(c.egress)), func(one rule) bool { return slices.ContainsFunc(removed, one.same) })))
		shown := []types.RevokedSecurityGroupRule{}
		for _, one := range removed {
			s.tags.drop(one.id)
			shown = append(shown, types.RevokedSecurityGroupRule{
				SecurityGroupRuleId: new(one.id), GroupId: new(g.id), IsEgress: new(c.egress), IpProtocol: new(one.protocol), FromPort: new(one.from), ToPort: new(one.to),
				CidrIpv4: optional(one.cidr4), CidrIpv6: optional(one.cidr6), PrefixListId: optional(one.prefixList), ReferencedGroupId: optional(one.group),
				Description: optional(one.description),
			})
		}
		return shown
	}, unknown, nil
}

// chosen finds the rules of g that a revocation names, by id or by what they permit. What does not exist is an error, but in the default
// VPC only listed.
func (s *Service) chosen(r eventual.Reader, g *securityGroup, c ruleChange) (found []rule, unknown []types.IpPermission, err error) {
	rules := g.rules(c.egress)
	if len(c.ruleIDs) > 0 {
		if len(c.permissions) > 0 {
			return nil, nil, invalidCombination("The parameters 'ipPermissions' and 'securityGroupRuleIds' exclude each other")
		}
		for _, id := range c.ruleIDs {
			i := slices.IndexFunc(rules, func(r rule) bool { return r.id == id })
			if i < 0 {
				return nil, nil, ruleID.missing(id)
			}
			found = append(found, rules[i])
		}
		return found, nil, nil
	}
	named, err := s.parseRules(r, g.vpc, c.permissions)
	if err != nil {
		return nil, nil, err
	}
	v, _ := s.vpcs.get(g.vpc)
	var missing []rule
	for _, one := range named {
		i := slices.IndexFunc(rules, one.same)
		switch {
		case i >= 0:
			found = append(found, rules[i])
		case *v.IsDefault:
			missing = append(missing, one)
		default:
			return nil, nil, wire.Errorf("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
		}
	}
	if len(missing) > 0 {
		unknown = s.permissions(missing)
	}
	return found, unknown, nil
}

// modifySecurityGroupRules replaces what rules permit; they keep their ids, and the kind of their source.
func (s *Service) modifySecurityGroupRules(r eventual.Reader, in *ec2.ModifySecurityGroupRulesInput) (func() *ec2.ModifySecurityGroupRulesOutput, error) {
	g, err := s.group(r, in.GroupId, nil)
	if err != nil {
		return nil, err
	}
	if len(in.SecurityGroupRules) == 0 {
		return nil, missingParameter("SecurityGroupRule")
	}
	next := *g
	next.ingress, next.egress = slices.Clone(g.ingress), slices.Clone(g.egress)
	for _, update := range in.SecurityGroupRules {
		id := deref(update.SecurityGroupRuleId)
		if id == "" || update.SecurityGroupRule == nil {
			return nil, missingParameter("SecurityGroupRule.SecurityGroupRuleId")
		}
		rules := next.ingress
		i := slices.IndexFunc(rules, func(r rule) bool { return r.id == id })
		if i < 0 {
			rules = next.egress
			i = slices.IndexFunc(rules, func(r rule) bool { return r.id == id })
		}
		if i < 0 {
			return nil, ruleID.missing(id)
		}
		wanted, err := s.requested(r, g.vpc, update.SecurityGroupRule)
		if err != nil {
			return nil, err
		}
		if (wanted.cidr4 == "") != (rules[i].cidr4 == "") || (wanted.cidr6 == "") != (rules[i].cidr6 == "") ||
			(wanted.group == "") != (rules[i].group == "") || (wanted.prefixList == "") != (rules[i].prefixList == "") {
			return nil, invalidCombination("The source of rule '%s' must stay of the same kind", id)
		}
		if j := slices.IndexFunc(rules, wanted.same); j >= 0 && j != i {
			return nil, duplicate(wanted)
		}
		wanted.id = id
		rules[i] = wanted
	}
	for _, rules := range [][]rule{next.ingress, next.egress} {
		if err := s.checkRuleQuota(rules); err != nil {
			return nil, err
		}
	}
	return func() *ec2.ModifySecurityGroupRulesOutput {
		s.changeGroup(&next)
		return &ec2.ModifySecurityGroupRulesOutput{Return: new(true)}
	}, nil
}

// requested is the rule that a modification asks for.
func (s *Service) requested(r eventual.Reader, vpc string, q *types.SecurityGroupRuleRequest) (rule, error) {
	p := types.IpPermission{IpProtocol: q.IpProtocol, FromPort: q.FromPort, ToPort: q.ToPort}
	if q.CidrIpv4 != nil {
		p.IpRanges = []types.IpRange{{CidrIp: q.CidrIpv4, Description: q.Description}}
	}
	if q.CidrIpv6 != nil {
		p.Ipv6Ranges = []types.Ipv6Range{{CidrIpv6: q.CidrIpv6, Description: q.Description}}
	}
	if q.PrefixListId != nil {
		p.PrefixListIds = []types.PrefixListId{{PrefixListId: q.PrefixListId, Description: q.Description}}
	}
	if q.ReferencedGroupId != nil {
		p.UserIdGroupPairs = []types.UserIdGroupPair{{GroupId: q.ReferencedGroupId, Description: q.Description}}
	}
	rules, err := s.parseRules(r, vpc, []types.IpPermission{p})
	if err != nil {
		return rule{}, err
	}
	if len(rules) != 1 {
		return rule{}, invalidCombination("A rule has exactly one source")
	}
	return rules[0], nil
}

func (s *Service) updateSecurityGroupRuleDescriptionsIngress(r eventual.Reader, in *ec2.UpdateSecurityGroupRuleDescriptionsIngressInput) (func() *ec2.UpdateSecurityGroupRuleDescriptionsIngressOutput, error) {
	describe, err := s.describeRules(r, ruleChange{groupID: in.GroupId, groupName: in.GroupName, permissions: in.IpPermissions}, in.SecurityGroupRuleDescriptions)
	if err != nil {
		return nil, err
	}
	return func() *ec2.UpdateSecurityGroupRuleDescriptionsIngressOutput {
		describe()
		return &ec2.UpdateSecurityGroupRuleDescriptionsIngressOutput{Return: new(true)}
	}, nil
}

func (s *Service) updateSecurityGroupRuleDescriptionsEgress(r eventual.Reader, in *ec2.UpdateSecurityGroupRuleDescriptionsEgressInput) (func() *ec2.UpdateSecurityGroupRuleDescriptionsEgressOutput, error) {
	describe, err := s.describeRules(r, ruleChange{groupID: in.GroupId, groupName: in.GroupName, permissions: in.IpPermissions, egress: true}, in.SecurityGroupRuleDescriptions)
	if err != nil {
		return nil, err
	}
	return func() *ec2.UpdateSecurityGroupRuleDescriptionsEgressOutput {
		describe()
		return &ec2.UpdateSecurityGroupRuleDescriptionsEgressOutput{Return: new(true)}
	}, nil
}

// describeRules gives rules that exist, named by what they permit or by id, other descriptions.
func (s *Service) describeRules(r eventual.Reader, c ruleChange, byID []types.SecurityGroupRuleDescription) (func(), error) {
	g, err := s.group(r, c.groupID, c.groupName)
	if err != nil {
		return nil, err
	}
	if (len(c.permissions) > 0) == (len(byID) > 0) {
		return nil, invalidCombination("Exactly one of 'ipPermissions' and 'securityGroupRuleDescriptions' must be given")
	}
	rules := slices.Clone(g.rules(c.egress))
	for _, d := range byID {
		i := slices.IndexFunc(rules, func(r rule) bool { return r.id == deref(d.SecurityGroupRuleId) })
		if i < 0 {
			return nil, ruleID.missing(deref(d.SecurityGroupRuleId))
		}
		if err := checkDescription(d.Description); err != nil {
			return nil, err
		}
		rules[i].description = deref(d.Description)
	}
	if len(c.permissions) > 0 {
		named, err := s.parseRules(r, g.vpc, c.permissions)
		if err != nil {
			return nil, err
		}
		for _, one := range named {
			i := slices.IndexFunc(rules, one.same)
			if i < 0 {
				return nil, wire.Errorf("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
			}
			rules[i].description = one.description
		}
	}
	return func() { s.groups.put(g.id, g.with(c.egress, rules)) }, nil
}

var ruleKind = kind[types.SecurityGroupRule]{
	id: func(r types.SecurityGroupRule) string { return *r.SecurityGroupRuleId }, ids: ruleID,
	filters: filters[types.SecurityGroupRule]{
		"group-id":               func(_ *Service, r types.SecurityGroupRule) []string { return one(r.GroupId) },
		"security-group-rule-id": func(_ *Service, r types.SecurityGroupRule) []string { return one(r.SecurityGroupRuleId) },
	},
}

// DescribeSecurityGroupRules lists single rules.
func (s *Service) DescribeSecurityGroupRules(r eventual.Reader, in *ec2.DescribeSecurityGroupRulesInput) (*ec2.DescribeSecurityGroupRulesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []types.SecurityGroupRule
	for _, g := range s.groups.visible(r) {
		for _, one := range g.ingress {
			all = append(all, s.shown(one, g.id, false))
		}
		for _, one := range g.egress {
			all = append(all, s.shown(one, g.id, true))
		}
	}
	found, next, err := list(s, r, ruleKind, all, query{in.SecurityGroupRuleIds, in.Filters, in.MaxResults, in.NextToken})
	if err != nil {
		return nil, err
	}
	for i := range found {
		found[i].Tags = s.tagList(r, *found[i].SecurityGroupRuleId)
	}
	return &ec2.DescribeSecurityGroupRulesOutput{SecurityGroupRules: found, NextToken: next}, nil
}
