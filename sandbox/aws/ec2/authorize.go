package ec2

import (
	"slices"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// change is what the four operations on rules have in common.
type change struct {
	groupID, groupName *string
	permissions        []types.IpPermission
	ruleIDs            []string
	egress             bool
	dryRun             *bool
}

// AuthorizeSecurityGroupIngress adds inbound rules: all of them, or none if one is there already.
func (s *Service) AuthorizeSecurityGroupIngress(r eventual.Reader, in *ec2.AuthorizeSecurityGroupIngressInput) (*ec2.AuthorizeSecurityGroupIngressOutput, error) {
	permissions := in.IpPermissions
	if in.IpProtocol != nil {
		p := types.IpPermission{IpProtocol: in.IpProtocol, FromPort: in.FromPort, ToPort: in.ToPort}
		if in.CidrIp != nil {
			p.IpRanges = []types.IpRange{{CidrIp: in.CidrIp}}
		}
		if in.SourceSecurityGroupName != nil {
			p.UserIdGroupPairs = []types.UserIdGroupPair{{GroupName: in.SourceSecurityGroupName}}
		}
		permissions = []types.IpPermission{p}
	}
	added, err := s.authorize(r, change{groupID: in.GroupId, groupName: in.GroupName, permissions: permissions, dryRun: in.DryRun})
	if err != nil {
		return nil, err
	}
	return &ec2.AuthorizeSecurityGroupIngressOutput{Return: new(true), SecurityGroupRules: added}, nil
}

// AuthorizeSecurityGroupEgress adds outbound rules.
func (s *Service) AuthorizeSecurityGroupEgress(r eventual.Reader, in *ec2.AuthorizeSecurityGroupEgressInput) (*ec2.AuthorizeSecurityGroupEgressOutput, error) {
	added, err := s.authorize(r, change{groupID: in.GroupId, permissions: in.IpPermissions, egress: true, dryRun: in.DryRun})
	if err != nil {
		return nil, err
	}
	return &ec2.AuthorizeSecurityGroupEgressOutput{Return: new(true), SecurityGroupRules: added}, nil
}

func (s *Service) authorize(r eventual.Reader, c change) ([]types.SecurityGroupRule, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, err := s.group(r, c.groupID, c.groupName)
	if err != nil {
		return nil, err
	}
	added, err := s.parseRules(c.permissions)
	if err != nil {
		return nil, err
	}
	g := value.Get()
	rules := slices.Clone(g.rules(c.egress))
	for _, one := range added {
		if slices.ContainsFunc(rules, one.same) {
			return nil, wire.Errorf("InvalidPermission.Duplicate", "the specified rule \"peer: %s, %s, from port: %d, to port: %d, ALLOW\" already exists",
				one.cidr4+one.cidr6+one.group, one.protocol, one.from, one.to)
		}
		rules = append(rules, one)
	}
	if tooMany(rules) {
		return nil, wire.Errorf("RulesPerSecurityGroupLimitExceeded", "The maximum number of rules per security group, %d, has been reached.", maxRules)
	}
	if err := dryRun(c.dryRun); err != nil {
		return nil, err
	}
	s.withIDs(rules[len(rules)-len(added):]...)
	s.change(value, g.with(c.egress, rules))
	shown := []types.SecurityGroupRule{}
	for _, one := range rules[len(rules)-len(added):] {
		shown = append(shown, s.shown(one, g.id, c.egress))
	}
	return shown, nil
}

// RevokeSecurityGroupIngress removes inbound rules: all of them, or none if one does not exist.
func (s *Service) RevokeSecurityGroupIngress(r eventual.Reader, in *ec2.RevokeSecurityGroupIngressInput) (*ec2.RevokeSecurityGroupIngressOutput, error) {
	permissions := in.IpPermissions
	if in.IpProtocol != nil {
		p := types.IpPermission{IpProtocol: in.IpProtocol, FromPort: in.FromPort, ToPort: in.ToPort}
		if in.CidrIp != nil {
			p.IpRanges = []types.IpRange{{CidrIp: in.CidrIp}}
		}
		permissions = []types.IpPermission{p}
	}
	revoked, err := s.revoke(r, change{groupID: in.GroupId, groupName: in.GroupName, permissions: permissions, ruleIDs: in.SecurityGroupRuleIds, dryRun: in.DryRun})
	if err != nil {
		return nil, err
	}
	return &ec2.RevokeSecurityGroupIngressOutput{Return: new(true), RevokedSecurityGroupRules: revoked}, nil
}

// RevokeSecurityGroupEgress removes outbound rules.
func (s *Service) RevokeSecurityGroupEgress(r eventual.Reader, in *ec2.RevokeSecurityGroupEgressInput) (*ec2.RevokeSecurityGroupEgressOutput, error) {
	revoked, err := s.revoke(r, change{groupID: in.GroupId, permissions: in.IpPermissions, ruleIDs: in.SecurityGroupRuleIds, egress: true, dryRun: in.DryRun})
	if err != nil {
		return nil, err
	}
	return &ec2.RevokeSecurityGroupEgressOutput{Return: new(true), RevokedSecurityGroupRules: revoked}, nil
}

func (s *Service) revoke(r eventual.Reader, c change) ([]types.RevokedSecurityGroupRule, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	value, err := s.group(r, c.groupID, c.groupName)
	if err != nil {
		return nil, err
	}
	g := value.Get()
	removed, err := s.chosen(g, c)
	if err != nil {
		return nil, err
	}
	if err := dryRun(c.dryRun); err != nil {
		return nil, err
	}
	rules := slices.DeleteFunc(slices.Clone(g.rules(c.egress)), func(one rule) bool { return slices.ContainsFunc(removed, one.same) })
	s.change(value, g.with(c.egress, rules))
	shown := []types.RevokedSecurityGroupRule{}
	for _, one := range removed {
		full := s.shown(one, g.id, c.egress)
		gone := types.RevokedSecurityGroupRule{
			SecurityGroupRuleId: full.SecurityGroupRuleId, GroupId: full.GroupId, IsEgress: full.IsEgress, IpProtocol: full.IpProtocol,
			FromPort: full.FromPort, ToPort: full.ToPort, CidrIpv4: full.CidrIpv4, CidrIpv6: full.CidrIpv6, Description: full.Description,
		}
		if one.group != "" {
			gone.ReferencedGroupId = new(one.group)
		}
		shown = append(shown, gone)
	}
	return shown, nil
}

// chosen finds the rules of g that a revocation names, by id or by what they permit.
func (s *Service) chosen(g *securityGroup, c change) ([]rule, error) {
	var found []rule
	rules := g.rules(c.egress)
	if len(c.ruleIDs) > 0 {
		for _, id := range c.ruleIDs {
			i := slices.IndexFunc(rules, func(r rule) bool { return r.id == id })
			if i < 0 {
				return nil, wire.Errorf("InvalidSecurityGroupRuleId.NotFound", "The security group rule ID '%s' does not exist", id)
			}
			found = append(found, rules[i])
		}
		return found, nil
	}
	named, err := s.parseRules(c.permissions)
	if err != nil {
		return nil, err
	}
	for _, one := range named {
		i := slices.IndexFunc(rules, one.same)
		if i < 0 {
			return nil, wire.Errorf("InvalidPermission.NotFound", "The specified rule does not exist in this security group.")
		}
		found = append(found, rules[i])
	}
	return found, nil
}

// DescribeSecurityGroupRules lists single rules.
func (s *Service) DescribeSecurityGroupRules(r eventual.Reader, in *ec2.DescribeSecurityGroupRulesInput) (*ec2.DescribeSecurityGroupRulesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []types.SecurityGroupRule
	for _, g := range s.visibleGroups(r) {
		for _, one := range g.ingress {
			all = append(all, s.shown(one, g.id, false))
		}
		for _, one := range g.egress {
			all = append(all, s.shown(one, g.id, true))
		}
	}
	sortRules(all)
	k := kind[types.SecurityGroupRule]{
		id:       func(r types.SecurityGroupRule) string { return *r.SecurityGroupRuleId },
		notFound: "InvalidSecurityGroupRuleId.NotFound", malformed: "InvalidSecurityGroupRuleId.Malformed", prefix: "sgr-",
		filters: map[string]func(types.SecurityGroupRule) []string{
			"group-id":               func(r types.SecurityGroupRule) []string { return one(r.GroupId) },
			"security-group-rule-id": func(r types.SecurityGroupRule) []string { return one(r.SecurityGroupRuleId) },
			"is-egress":              func(r types.SecurityGroupRule) []string { return []string{strconv.FormatBool(*r.IsEgress)} },
		},
	}
	found, next, err := find(k, all, s.tags, query{in.SecurityGroupRuleIds, in.Filters, in.MaxResults, in.NextToken})
	if err != nil {
		return nil, err
	}
	for i := range found {
		found[i].Tags = s.tagList(*found[i].SecurityGroupRuleId)
	}
	return &ec2.DescribeSecurityGroupRulesOutput{SecurityGroupRules: found, NextToken: next}, nil
}
