package ec2

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// securityGroup is a security group. It is never changed in place.
type securityGroup struct {
	id, name, description string
	ingress, egress       []rule
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

const maxGroups = 2500

var (
	groupName  = regexp.MustCompile(`^[a-zA-Z0-9 ._\-:/()#,@\[\]+=&;{}!$*]{1,255}$`)
	groupKinds = kind[*securityGroup]{
		id:       func(g *securityGroup) string { return g.id },
		notFound: "InvalidGroup.NotFound", malformed: "InvalidGroupId.Malformed", prefix: "sg-",
	}
)

// CreateSecurityGroup makes a group that lets everything out and nothing in.
func (s *Service) CreateSecurityGroup(_ eventual.Reader, in *ec2.CreateSecurityGroupInput) (*ec2.CreateSecurityGroupOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	name, description := deref(in.GroupName), deref(in.Description)
	if name == "" {
		return nil, wire.Errorf("MissingParameter", "The request must contain the parameter GroupName")
	}
	if description == "" {
		return nil, wire.Errorf("MissingParameter", "The request must contain the parameter GroupDescription")
	}
	if vpc := deref(in.VpcId); vpc != "" && vpc != *s.vpc.VpcId {
		return nil, wire.Errorf("InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", vpc)
	}
	switch {
	case strings.EqualFold(name, "default"):
		return nil, wire.Errorf("InvalidGroup.Reserved", "The security group name '%s' is reserved", name)
	case strings.HasPrefix(name, "sg-"), !groupName.MatchString(name):
		return nil, wire.Errorf("InvalidParameterValue", "Value (%.80s) for parameter GroupName is invalid", name)
	case !groupName.MatchString(description):
		return nil, wire.Errorf("InvalidParameterValue", "Value (%.80s) for parameter GroupDescription is invalid", description)
	}
	for _, g := range s.groups {
		if strings.EqualFold(g.Get().name, name) {
			return nil, wire.Errorf("InvalidGroup.Duplicate", "The security group '%s' already exists for VPC '%s'", name, *s.vpc.VpcId)
		}
	}
	if len(s.groups) >= maxGroups {
		return nil, wire.Errorf("SecurityGroupLimitExceeded", "The maximum number of security groups, %d, has been reached", maxGroups)
	}
	tags, err := tagsFor(in.TagSpecifications, types.ResourceTypeSecurityGroup)
	if err != nil {
		return nil, err
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	g := &securityGroup{id: s.config.IDs.EC2("sg", name), name: name, description: description}
	g.egress = s.withIDs(rule{protocol: "-1", from: -1, to: -1, cidr4: "0.0.0.0/0"})
	s.groups[g.id] = eventual.New(s.model, "sg/"+name, g)
	s.inForce[g.id] = newInForce(g)
	s.tags[g.id] = tags
	return &ec2.CreateSecurityGroupOutput{GroupId: new(g.id), SecurityGroupArn: new(s.groupARN(g.id)), Tags: s.tagList(g.id)}, nil
}

func (s *Service) groupARN(id string) string {
	return fmt.Sprintf("arn:aws:ec2:%s:%s:security-group/%s", s.config.Region, s.config.AccountID, id)
}

// DeleteSecurityGroup deletes a group that no interface and no rule of another group uses.
func (s *Service) DeleteSecurityGroup(r eventual.Reader, in *ec2.DeleteSecurityGroupInput) (*ec2.DeleteSecurityGroupOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.group(r, in.GroupId, in.GroupName)
	if err != nil {
		return nil, err
	}
	id := g.Get().id
	if g.Get().name == "default" {
		return nil, wire.Errorf("CannotDelete", "the specified group: \"%s\" name: \"default\" cannot be deleted by a user", id)
	}
	for _, n := range s.interfaces {
		if slices.Contains(n.groups, id) {
			return nil, wire.Errorf("DependencyViolation", "resource %s has a dependent object: interface %s", id, n.id)
		}
	}
	for _, other := range s.groups {
		o := other.Get()
		if o.id != id && slices.ContainsFunc(slices.Concat(o.ingress, o.egress), func(r rule) bool { return r.group == id }) {
			return nil, wire.Errorf("DependencyViolation", "resource %s has a dependent object: a rule of %s", id, o.id)
		}
	}
	if err := dryRun(in.DryRun); err != nil {
		return nil, err
	}
	delete(s.groups, id)
	delete(s.inForce, id)
	delete(s.tags, id)
	return &ec2.DeleteSecurityGroupOutput{Return: new(true), GroupId: new(id)}, nil
}

// group finds the group that a write is about.
func (s *Service) group(r eventual.Reader, id, name *string) (*eventual.Value[*securityGroup], error) {
	switch {
	case deref(id) != "":
		g := s.groups[*id]
		if g == nil && !strings.HasPrefix(*id, "sg-") {
			return nil, wire.Errorf("InvalidGroupId.Malformed", "Invalid id: \"%s\" (expecting \"sg-...\")", *id)
		}
		if g == nil || !g.Found(r) {
			return nil, wire.Errorf("InvalidGroup.NotFound", "The security group '%s' does not exist", *id)
		}
		return g, nil
	case deref(name) != "":
		// In a VPC other than the default one groups are known by id only.
		return nil, wire.Errorf("InvalidGroup.NotFound", "The security group '%s' does not exist in default VPC", *name)
	}
	return nil, wire.Errorf("MissingParameter", "The request must contain the parameter groupName or groupId")
}

// DescribeSecurityGroups lists groups with their rules.
func (s *Service) DescribeSecurityGroups(r eventual.Reader, in *ec2.DescribeSecurityGroupsInput) (*ec2.DescribeSecurityGroupsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k := groupKinds
	k.filters = s.groupFilters()
	q := query{in.GroupIds, in.Filters, in.MaxResults, in.NextToken}
	if len(in.GroupNames) > 0 {
		q.filters = append(slices.Clone(q.filters), types.Filter{Name: new("group-name"), Values: in.GroupNames})
	}
	found, next, err := find(k, s.visibleGroups(r), s.tags, q)
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeSecurityGroupsOutput{NextToken: next, SecurityGroups: []types.SecurityGroup{}}
	for _, g := range found {
		out.SecurityGroups = append(out.SecurityGroups, types.SecurityGroup{
			GroupId: new(g.id), GroupName: new(g.name), Description: new(g.description), VpcId: s.vpc.VpcId,
			OwnerId: new(s.config.AccountID), SecurityGroupArn: new(s.groupARN(g.id)), Tags: s.tagList(g.id),
			IpPermissions: s.permissions(g.ingress), IpPermissionsEgress: s.permissions(g.egress),
		})
	}
	return out, nil
}

func (s *Service) visibleGroups(r eventual.Reader) []*securityGroup {
	var all []*securityGroup
	for _, v := range s.groups {
		if g, ok := v.Read(r); ok {
			all = append(all, g)
		}
	}
	return all
}

func (s *Service) groupFilters() map[string]func(*securityGroup) []string {
	filters := map[string]func(*securityGroup) []string{
		"description": func(g *securityGroup) []string { return []string{g.description} },
		"group-id":    func(g *securityGroup) []string { return []string{g.id} },
		"group-name":  func(g *securityGroup) []string { return []string{g.name} },
		"owner-id":    func(*securityGroup) []string { return []string{s.config.AccountID} },
		"vpc-id":      func(*securityGroup) []string { return []string{*s.vpc.VpcId} },
	}
	of := map[string]func(rule) string{
		"cidr":           func(r rule) string { return r.cidr4 },
		"ipv6-cidr":      func(r rule) string { return r.cidr6 },
		"from-port":      func(r rule) string { return fmt.Sprint(r.from) },
		"to-port":        func(r rule) string { return fmt.Sprint(r.to) },
		"protocol":       func(r rule) string { return r.protocol },
		"group-id":       func(r rule) string { return r.group },
		"prefix-list-id": func(r rule) string { return r.prefixList },
		"user-id": func(r rule) string {
			if r.group == "" {
				return ""
			}
			return s.config.AccountID
		},
		"group-name": func(r rule) string {
			if g := s.groups[r.group]; g != nil {
				return g.Get().name
			}
			return ""
		},
	}
	for prefix, egress := range map[string]bool{"ip-permission.": false, "egress.ip-permission.": true} {
		for name, value := range of {
			filters[prefix+name] = func(g *securityGroup) []string {
				var values []string
				for _, r := range g.rules(egress) {
					if v := value(r); v != "" {
						values = append(values, v)
					}
				}
				return values
			}
		}
	}
	return filters
}
