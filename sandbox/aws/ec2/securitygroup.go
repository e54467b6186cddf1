package ec2

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// securityGroup is a security group. It is never changed in place.
type securityGroup struct {
	id, vpc, name, description string
	ingress, egress            []rule
}

func (g *securityGroup) rules(egress bool) []rule {
	if egress {
		return g.egress
	}
	return g.ingress
}

// with is the group with other rules in one direction.
func (g *securityGroup) with(egress bool, rules []rule) *securityGroup {
	changed := *g
	if egress {
		changed.egress = rules
	} else {
		changed.ingress = rules
	}
	return &changed
}

var groupText = regexp.MustCompile(`^[a-zA-Z0-9 ._\-:/()#,@\[\]+=&;{}!$*]{1,255}$`)

var groupKind = kind[*securityGroup]{
	id: func(g *securityGroup) string { return g.id }, ids: groupID, filters: groupFilters(),
}

func groupFilters() filters[*securityGroup] {
	all := filters[*securityGroup]{
		"description": func(_ *Service, g *securityGroup) []string { return given(g.description) },
		"group-id":    func(_ *Service, g *securityGroup) []string { return given(g.id) },
		"group-name":  func(_ *Service, g *securityGroup) []string { return given(g.name) },
		"owner-id":    func(s *Service, _ *securityGroup) []string { return given(s.config.AccountID) },
		"vpc-id":      func(_ *Service, g *securityGroup) []string { return given(g.vpc) },
	}
	of := map[string]func(*Service, rule) string{
		"cidr":           func(_ *Service, r rule) string { return r.cidr4 },
		"ipv6-cidr":      func(_ *Service, r rule) string { return r.cidr6 },
		"from-port":      func(_ *Service, r rule) string { return fmt.Sprint(r.from) },
		"to-port":        func(_ *Service, r rule) string { return fmt.Sprint(r.to) },
		"protocol":       func(_ *Service, r rule) string { return r.protocol },
		"group-id":       func(_ *Service, r rule) string { return r.group },
		"prefix-list-id": func(_ *Service, r rule) string { return r.prefixList },
		"user-id": func(s *Service, r rule) string {
			if r.group == "" {
				return ""
			}
			return s.config.AccountID
		},
		"group-name": func(s *Service, r rule) string {
			if g, ok := s.groups.get(r.group); ok {
				return g.name
			}
			return ""
		},
	}
	for prefix, egress := range map[string]bool{"ip-permission.": false, "egress.ip-permission.": true} {
		for name, value := range of {
			all[prefix+name] = func(s *Service, g *securityGroup) []string {
				return each(g.rules(egress), func(r rule) []string { return given(value(s, r)) })
			}
		}
	}
	return all
}

// createSecurityGroup makes a group that lets everything out and nothing in.
func (s *Service) createSecurityGroup(r eventual.Reader, in *ec2.CreateSecurityGroupInput) (func() *ec2.CreateSecurityGroupOutput, error) {
	name, description := deref(in.GroupName), deref(in.Description)
	switch {
	case name == "":
		return nil, missingParameter("GroupName")
	case description == "":
		return nil, missingParameter("GroupDescription")
	}
	v, err := s.vpcNamed(r, in.VpcId)
	if err != nil {
		return nil, err
	}
	switch {
	case strings.EqualFold(name, "default"):
		return nil, wire.Errorf("InvalidGroup.Reserved", "The security group name '%s' is reserved", name)
	case strings.HasPrefix(name, "sg-"), !groupText.MatchString(name):
		return nil, invalidValue("Value (%.80s) for parameter GroupName is invalid", name)
	case !groupText.MatchString(description):
		return nil, invalidValue("Value (%.80s) for parameter GroupDescription is invalid", description)
	}
	for _, g := range s.groups.all {
		if g.vpc == *v.VpcId && strings.EqualFold(g.name, name) {
			return nil, wire.Errorf("InvalidGroup.Duplicate", "The security group '%s' already exists for VPC '%s'", name, *v.VpcId)
		}
	}
	if s.groups.count() >= s.config.Quotas.SecurityGroups {
		return nil, exceeded("SecurityGroupLimitExceeded", "security groups", s.config.Quotas.SecurityGroups)
	}
	tags, err := tagsFor(in.TagSpecifications, types.ResourceTypeSecurityGroup)
	if err != nil {
		return nil, err
	}
	return func() *ec2.CreateSecurityGroupOutput {
		g := &securityGroup{id: s.config.IDs.EC2("sg", name), vpc: *v.VpcId, name: name, description: description}
		g.egress = s.withIDs(everything)
		if len(v.prefixes6) > 0 {
			g.egress = append(g.egress, s.withIDs(everything6)...)
		}
		s.groups.put(g.id, g)
		s.groupsInForce[g.id] = begin(g.name, g)
		s.tags.settle(g.id, tags)
		return &ec2.CreateSecurityGroupOutput{GroupId: new(g.id), SecurityGroupArn: new(s.arn("security-group", g.id)), Tags: tagList(tags)}
	}, nil
}

// deleteSecurityGroup deletes a group that no interface and no rule of another group uses.
func (s *Service) deleteSecurityGroup(r eventual.Reader, in *ec2.DeleteSecurityGroupInput) (func() *ec2.DeleteSecurityGroupOutput, error) {
	g, err := s.group(r, in.GroupId, in.GroupName)
	if err != nil {
		return nil, err
	}
	if g.name == "default" {
		return nil, wire.Errorf("CannotDelete", "the specified group: \"%s\" name: \"default\" cannot be deleted by a user", g.id)
	}
	for _, n := range s.interfaces.all {
		if slices.Contains(n.groups, g.id) {
			return nil, wire.Errorf("DependencyViolation", "resource %s has a dependent object: interface %s", g.id, n.id)
		}
	}
	for _, o := range s.groups.all {
		if o.id != g.id && slices.ContainsFunc(slices.Concat(o.ingress, o.egress), func(r rule) bool { return r.group == g.id }) {
			return nil, wire.Errorf("DependencyViolation", "resource %s has a dependent object: a rule of %s", g.id, o.id)
		}
	}
	if time.Now().Before(s.held[g.id]) {
		return nil, wire.Errorf("DependencyViolation", "resource %s has a dependent object", g.id)
	}
	return func() *ec2.DeleteSecurityGroupOutput {
		s.dropGroup(g.id)
		return &ec2.DeleteSecurityGroupOutput{Return: new(true), GroupId: new(g.id)}
	}, nil
}

// release notes that something does not use a group any more, which AWS takes a while to notice.
func (s *Service) release(id string) {
	s.releases++
	delay := s.config.Draws.Once(profile.ReferenceRelease, fmt.Sprintf("%s#%d", id, s.releases))
	if delay > 0 && s.groups.has(id) {
		s.held[id] = time.Now().Add(delay)
	}
}

func (s *Service) dropGroup(id string) {
	g, _ := s.groups.get(id)
	for _, r := range slices.Concat(g.ingress, g.egress) {
		s.tags.drop(r.id)
	}
	s.groups.drop(id)
	delete(s.groupsInForce, id)
	delete(s.held, id)
	s.tags.drop(id)
}

// group finds the group that a write is about. By name only those of the default VPC can be found.
func (s *Service) group(r eventual.Reader, id, name *string) (*securityGroup, error) {
	switch {
	case deref(id) != "":
		return find(r, groupID, s.groups, id, "groupId")
	case deref(name) != "":
		v, ok := s.defaultVPC()
		if ok {
			if g, ok := s.groups.first(func(g *securityGroup) bool { return g.vpc == *v.VpcId && g.name == *name }); ok {
				return find(r, groupID, s.groups, &g.id, "groupId")
			}
		}
		return nil, wire.Errorf("InvalidGroup.NotFound", "The security group '%.80s' does not exist in default VPC", *name)
	}
	return nil, wire.Errorf("MissingParameter", "The request must contain the parameter groupName or groupId")
}

// DescribeSecurityGroups lists groups with their rules.
func (s *Service) DescribeSecurityGroups(r eventual.Reader, in *ec2.DescribeSecurityGroupsInput) (*ec2.DescribeSecurityGroupsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	all := s.groups.visible(r)
	if len(in.GroupNames) > 0 {
		named := []*securityGroup{}
		v, ok := s.defaultVPC()
		for _, name := range in.GroupNames {
			i := slices.IndexFunc(all, func(g *securityGroup) bool { return ok && g.vpc == *v.VpcId && g.name == name })
			if i < 0 {
				return nil, wire.Errorf("InvalidGroup.NotFound", "The security group '%.80s' does not exist in default VPC", name)
			}
			named = append(named, all[i])
		}
		all = named
	}
	found, next, err := list(s, r, groupKind, all, query{in.GroupIds, in.Filters, in.MaxResults, in.NextToken})
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeSecurityGroupsOutput{NextToken: next, SecurityGroups: []types.SecurityGroup{}}
	for _, g := range found {
		out.SecurityGroups = append(out.SecurityGroups, types.SecurityGroup{
			GroupId: new(g.id), GroupName: new(g.name), Description: new(g.description), VpcId: new(g.vpc),
			OwnerId: new(s.config.AccountID), SecurityGroupArn: new(s.arn("security-group", g.id)), Tags: s.tagList(r, g.id),
			IpPermissions: s.permissions(g.ingress), IpPermissionsEgress: s.permissions(g.egress),
		})
	}
	return out, nil
}

// groupsFor checks the groups of a network interface: of its VPC, and not too many.
func (s *Service) groupsFor(r eventual.Reader, v *vpc, ids []string) ([]string, error) {
	if len(ids) == 0 {
		return []string{v.defaultGroup}, nil
	}
	var list []string
	for _, id := range ids {
		g, err := find(r, groupID, s.groups, &id, "groupId")
		switch {
		case err != nil:
			return nil, err
		case g.vpc != *v.VpcId:
			return nil, wire.Errorf("InvalidGroup.NotFound", "The security group '%s' does not exist in VPC '%s'", id, *v.VpcId)
		case !slices.Contains(list, id):
			list = append(list, id)
		}
	}
	if len(list) > s.config.Quotas.GroupsPerInterface {
		return nil, exceeded("SecurityGroupsPerInterfaceLimitExceeded", "security groups per interface", s.config.Quotas.GroupsPerInterface)
	}
	return list, nil
}
