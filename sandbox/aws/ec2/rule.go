package ec2

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// rule is one source (or destination) with one protocol and port range: what has an sgr- id of its own.
// Exactly one of cidr4, cidr6, prefixList and group is set.
type rule struct {
	id          string
	protocol    string // tcp, udp, icmp, icmpv6, a number, or -1 for all
	from, to    int32  // ports, or ICMP type and code; -1 is all
	cidr4       string
	cidr6       string
	prefixList  string
	group       string
	description string
}

// same says whether two rules permit the same. Id and description are not part of it.
func (r rule) same(other rule) bool {
	r.id, r.description, other.id, other.description = "", "", "", ""
	return r == other
}

// withIDs gives each rule its id.
func (s *Service) withIDs(rules ...rule) []rule {
	for i := range rules {
		rules[i].id = s.config.IDs.EC2("sgr", "")
	}
	return rules
}

var protocolNames = map[string]string{"6": "tcp", "17": "udp", "1": "icmp", "58": "icmpv6"}

// parseRules takes permissions apart into rules in the canonical form in which AWS keeps them.
func (s *Service) parseRules(permissions []types.IpPermission) ([]rule, error) {
	var rules []rule
	for _, p := range permissions {
		template, err := protocolAndPorts(p)
		if err != nil {
			return nil, err
		}
		sources, err := s.sources(template, p)
		if err != nil {
			return nil, err
		}
		if len(sources) == 0 {
			return nil, wire.Errorf("InvalidParameterValue", "A permission of protocol %s names no source", template.protocol)
		}
		rules = append(rules, sources...)
	}
	if len(rules) == 0 {
		return nil, wire.Errorf("MissingParameter", "Either 'ipPermissions' or 'securityGroupRuleIds' should be provided.")
	}
	return rules, nil
}

func protocolAndPorts(p types.IpPermission) (rule, error) {
	protocol := strings.ToLower(deref(p.IpProtocol))
	if name, ok := protocolNames[protocol]; ok {
		protocol = name
	}
	r := rule{protocol: protocol, from: -1, to: -1}
	switch protocol {
	case "":
		return r, wire.Errorf("MissingParameter", "The request must contain the parameter ipProtocol")
	case "tcp", "udp":
		if p.FromPort == nil || p.ToPort == nil {
			return r, wire.Errorf("InvalidParameterValue", "Invalid value 'null' for portRange. Must specify both from and to ports with TCP/UDP.")
		}
		r.from, r.to = *p.FromPort, *p.ToPort
		if r.from < 0 || r.to > 65535 || r.from > r.to {
			return r, wire.Errorf("InvalidParameterValue", "Invalid TCP/UDP port range (%d:%d)", r.from, r.to)
		}
	case "icmp", "icmpv6":
		if p.FromPort != nil {
			r.from = *p.FromPort
		}
		if p.ToPort != nil {
			r.to = *p.ToPort
		}
	case "-1":
	default:
		if n, err := strconv.Atoi(protocol); err != nil || n < 0 || n > 255 {
			return r, wire.Errorf("InvalidPermission.Malformed", "Invalid protocol '%s'", protocol)
		}
	}
	return r, nil
}

func (s *Service) sources(template rule, p types.IpPermission) ([]rule, error) {
	var rules []rule
	add := func(description *string, set func(*rule)) {
		r := template
		r.description = deref(description)
		set(&r)
		rules = append(rules, r)
	}
	for _, x := range p.IpRanges {
		block, err := canonicalCIDR(deref(x.CidrIp), true)
		if err != nil {
			return nil, err
		}
		add(x.Description, func(r *rule) { r.cidr4 = block })
	}
	for _, x := range p.Ipv6Ranges {
		block, err := canonicalCIDR(deref(x.CidrIpv6), false)
		if err != nil {
			return nil, err
		}
		add(x.Description, func(r *rule) { r.cidr6 = block })
	}
	for _, x := range p.PrefixListIds {
		// There are no prefix lists yet, so every one is unknown.
		return nil, wire.Errorf("InvalidPrefixListID.NotFound", "The prefix list ID '%s' does not exist", deref(x.PrefixListId))
	}
	for _, x := range p.UserIdGroupPairs {
		group, err := s.groupOf(x)
		if err != nil {
			return nil, err
		}
		add(x.Description, func(r *rule) { r.group = group })
	}
	return rules, nil
}

// canonicalCIDR clears the host bits, as AWS does.
func canonicalCIDR(text string, v4 bool) (string, error) {
	block, err := netip.ParsePrefix(text)
	if err != nil || block.Addr().Is4() != v4 {
		return "", wire.Errorf("InvalidParameterValue", "CIDR block %.80s is malformed", text)
	}
	return block.Masked().String(), nil
}

func (s *Service) groupOf(pair types.UserIdGroupPair) (string, error) {
	if id := deref(pair.GroupId); id != "" {
		if s.groups[id] == nil {
			return "", wire.Errorf("InvalidGroup.NotFound", "You have specified two resources that belong to different networks, or the security group '%s' does not exist", id)
		}
		return id, nil
	}
	name := deref(pair.GroupName)
	if name == "" {
		return "", wire.Errorf("MissingParameter", "A group must be named by GroupId or GroupName")
	}
	for id, g := range s.groups {
		if g.Get().name == name {
			return id, nil
		}
	}
	return "", wire.Errorf("InvalidGroup.NotFound", "The security group '%s' does not exist", name)
}

// permissions joins rules of one protocol and port range into one permission with several sources, as
// DescribeSecurityGroups shows them.
func (s *Service) permissions(rules []rule) []types.IpPermission {
	type head struct {
		protocol string
		from, to int32
	}
	index := map[head]int{}
	list := []types.IpPermission{}
	for _, r := range rules {
		h := head{r.protocol, r.from, r.to}
		i, known := index[h]
		if !known {
			i = len(list)
			index[h] = i
			p := types.IpPermission{
				IpProtocol: new(r.protocol), IpRanges: []types.IpRange{}, Ipv6Ranges: []types.Ipv6Range{},
				PrefixListIds: []types.PrefixListId{}, UserIdGroupPairs: []types.UserIdGroupPair{},
			}
			if r.hasPorts() {
				p.FromPort, p.ToPort = new(r.from), new(r.to)
			}
			list = append(list, p)
		}
		p := &list[i]
		var description *string
		if r.description != "" {
			description = new(r.description)
		}
		switch {
		case r.cidr4 != "":
			p.IpRanges = append(p.IpRanges, types.IpRange{CidrIp: new(r.cidr4), Description: description})
		case r.cidr6 != "":
			p.Ipv6Ranges = append(p.Ipv6Ranges, types.Ipv6Range{CidrIpv6: new(r.cidr6), Description: description})
		case r.prefixList != "":
			p.PrefixListIds = append(p.PrefixListIds, types.PrefixListId{PrefixListId: new(r.prefixList), Description: description})
		default:
			p.UserIdGroupPairs = append(p.UserIdGroupPairs, types.UserIdGroupPair{GroupId: new(r.group), UserId: new(s.config.AccountID), Description: description})
		}
	}
	return list
}

func (r rule) hasPorts() bool {
	return slices.Contains([]string{"tcp", "udp", "icmp", "icmpv6"}, r.protocol)
}

// shown is the rule as DescribeSecurityGroupRules shows it.
func (s *Service) shown(r rule, group string, egress bool) types.SecurityGroupRule {
	optional := func(text string) *string {
		if text == "" {
			return nil
		}
		return &text
	}
	out := types.SecurityGroupRule{
		SecurityGroupRuleId: new(r.id), GroupId: new(group), GroupOwnerId: new(s.config.AccountID), IsEgress: new(egress),
		SecurityGroupRuleArn: new(fmt.Sprintf("arn:aws:ec2:%s:%s:security-group-rule/%s", s.config.Region, s.config.AccountID, r.id)),
		IpProtocol:           new(r.protocol), FromPort: new(r.from), ToPort: new(r.to),
		CidrIpv4: optional(r.cidr4), CidrIpv6: optional(r.cidr6), PrefixListId: optional(r.prefixList), Description: optional(r.description),
	}
	if r.group != "" {
		out.ReferencedGroupInfo = &types.ReferencedSecurityGroup{GroupId: new(r.group), UserId: new(s.config.AccountID)}
	}
	return out
}

// Quota of rules of a group in one direction, IPv4 and IPv6 counted apart; a group counts in both.
const maxRules = 60

func tooMany(rules []rule) bool {
	v4, v6 := 0, 0
	for _, r := range rules {
		if r.cidr6 == "" {
			v4++
		}
		if r.cidr4 == "" {
			v6++
		}
	}
	return v4 > maxRules || v6 > maxRules
}

func sortRules(rules []types.SecurityGroupRule) {
	slices.SortFunc(rules, func(a, b types.SecurityGroupRule) int {
		return cmp.Compare(*a.SecurityGroupRuleId, *b.SecurityGroupRuleId)
	})
}
