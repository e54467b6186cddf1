package ec2

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
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

// What lets everything pass.
var (
	everything  = rule{protocol: "-1", from: -1, to: -1, cidr4: "0.0.0.0/0"}
	everything6 = rule{protocol: "-1", from: -1, to: -1, cidr6: "::/0"}
)

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
func (s *Service) parseRules(r eventual.Reader, vpc string, permissions []types.IpPermission) ([]rule, error) {
	var rules []rule
	for _, p := range permissions {
		template, err := protocolAndPorts(p)
		if err != nil {
			return nil, err
		}
		sources, err := s.sources(r, vpc, template, p)
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

func (s *Service) sources(r eventual.Reader, vpc string, template rule, p types.IpPermission) ([]rule, error) {
	var rules []rule
	var wrong error
	add := func(description *string, set func(*rule)) {
		if err := checkDescription(description); err != nil {
			wrong = err
		}
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
		l, err := find(r, prefixListID, s.prefixLists, x.PrefixListId, "prefixListId")
		if err != nil {
			return nil, err
		}
		add(x.Description, func(r *rule) { r.prefixList = *l.PrefixListId })
	}
	for _, x := range p.UserIdGroupPairs {
		group, err := s.groupOf(r, vpc, x)
		if err != nil {
			return nil, err
		}
		add(x.Description, func(r *rule) { r.group = group })
	}
	return rules, wrong
}

// checkDescription: like that of a group, but it may be empty.
func checkDescription(text *string) error {
	if deref(text) != "" && !groupText.MatchString(*text) {
		return invalidValue("Invalid rule description '%.80s': up to 255 characters of a-z, A-Z, 0-9, spaces and ._-:/()#,@[]+=&;{}!$*", *text)
	}
	return nil
}

// canonicalCIDR clears the host bits, as AWS does.
func canonicalCIDR(text string, v4 bool) (string, error) {
	block, err := netip.ParsePrefix(text)
	if err != nil || block.Addr().Is4() != v4 {
		return "", wire.Errorf("InvalidParameterValue", "CIDR block %.80s is malformed", text)
	}
	return block.Masked().String(), nil
}

// groupOf is the group that a rule of a group in a VPC names: one of the same VPC, since the sandbox has no peering.
func (s *Service) groupOf(r eventual.Reader, vpc string, pair types.UserIdGroupPair) (string, error) {
	if id := deref(pair.GroupId); id != "" {
		g, err := find(r, groupID, s.groups, pair.GroupId, "groupId")
		if err == nil && g.vpc != vpc {
			err = wire.Errorf("InvalidGroup.NotFound", "You have specified two resources that belong to different networks: '%s' is not in VPC '%s'", id, vpc)
		}
		return id, err
	}
	name := deref(pair.GroupName)
	if name == "" {
		return "", wire.Errorf("MissingParameter", "A group must be named by GroupId or GroupName")
	}
	g, ok := s.groups.first(func(g *securityGroup) bool { return g.vpc == vpc && g.name == name })
	if !ok {
		return "", wire.Errorf("InvalidGroup.NotFound", "The security group '%.80s' does not exist", name)
	}
	return g.id, nil
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
	out := types.SecurityGroupRule{
		SecurityGroupRuleId: new(r.id), GroupId: new(group), GroupOwnerId: new(s.config.AccountID), IsEgress: new(egress),
		SecurityGroupRuleArn: new(s.arn("security-group-rule", r.id)),
		IpProtocol:           new(r.protocol), FromPort: new(r.from), ToPort: new(r.to),
		CidrIpv4: optional(r.cidr4), CidrIpv6: optional(r.cidr6), PrefixListId: optional(r.prefixList), Description: optional(r.description),
	}
	if r.group != "" {
		out.ReferencedGroupInfo = &types.ReferencedSecurityGroup{GroupId: new(r.group), UserId: new(s.config.AccountID)}
		if g, ok := s.groups.get(r.group); ok { // who sees an old rule may ask for a group that is gone
			out.ReferencedGroupInfo.VpcId = new(g.vpc)
		}
	}
	return out
}

// checkRuleQuota counts the rules of a group in one direction, IPv4 and IPv6 apart: a group as source counts in both, a prefix
// list with as many as it may have.
func (s *Service) checkRuleQuota(rules []rule) error {
	v4, v6 := 0, 0
	for _, r := range rules {
		switch {
		case r.cidr4 != "":
			v4++
		case r.cidr6 != "":
			v6++
		case r.prefixList != "":
			l, _ := s.prefixLists.get(r.prefixList)
			if *l.AddressFamily == "IPv4" {
				v4 += int(*l.MaxEntries)
			} else {
				v6 += int(*l.MaxEntries)
			}
		default:
			v4, v6 = v4+1, v6+1
		}
	}
	if limit := s.config.Quotas.RulesPerGroup; v4 > limit || v6 > limit {
		return exceeded("RulesPerSecurityGroupLimitExceeded", "rules per security group", limit)
	}
	return nil
}
