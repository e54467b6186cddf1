package aws_test

import (
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// listing is a describe operation: it returns the ids that a filter leaves.
type listing func(filters ...types.Filter) ([]string, error)

// texts collects something of each resource.
func texts[T any](list []T, of func(T) *string) []string {
	var found []string
	for _, one := range list {
		found = append(found, *of(one))
	}
	return found
}

// Each filter of the table is tried with a value that matches, one that does not, and a wildcard; and every operation refuses a filter that it does
// not have.
func TestEC2Filters(t *testing.T) {
	t.Parallel()
	w := ec2World(t)
	p := newPlace(w, "10.210.0.0/16")
	v6 := must(w.ec2.AssociateVpcCidrBlock(ctx, &ec2.AssociateVpcCidrBlockInput{VpcId: &p.vpc, AmazonProvidedIpv6CidrBlock: new(true)}))(w).Ipv6CidrBlockAssociation
	block6 := (*v6.Ipv6CidrBlock)[:len(*v6.Ipv6CidrBlock)-2] + "64"
	s6 := must(w.ec2.AssociateSubnetCidrBlock(ctx, &ec2.AssociateSubnetCidrBlockInput{SubnetId: &p.public, Ipv6CidrBlock: &block6}))(w).Ipv6CidrBlockAssociation
	list := *must(w.ec2.CreateManagedPrefixList(ctx, &ec2.CreateManagedPrefixListInput{PrefixListName: new("offices"), AddressFamily: new("IPv4"), MaxEntries: new(int32(2))}))(w).PrefixList.PrefixListId
	other := p.securityGroup("other")
	permissions := []types.IpPermission{{
		IpProtocol: new("tcp"), FromPort: new(int32(8000)), ToPort: new(int32(8010)), IpRanges: []types.IpRange{{CidrIp: new("172.20.0.0/16")}},
		Ipv6Ranges: []types.Ipv6Range{{CidrIpv6: new("2001:db8:9::/48")}}, PrefixListIds: []types.PrefixListId{{PrefixListId: &list}},
		UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: &other}},
	}}
	rules := must(w.ec2.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: &p.group, IpPermissions: permissions}))(w).SecurityGroupRules
	must(w.ec2.AuthorizeSecurityGroupEgress(ctx, &ec2.AuthorizeSecurityGroupEgressInput{GroupId: &p.group, IpPermissions: permissions}))(w)
	instance := p.run(1)[0]
	eni := must(w.ec2.CreateNetworkInterface(ctx, &ec2.CreateNetworkInterfaceInput{SubnetId: &p.public, Description: new("filtered"), Ipv6AddressCount: new(int32(1)), SecondaryPrivateIpAddressCount: new(int32(1))}))(w).NetworkInterface
	rule := *rules[0].SecurityGroupRuleId
	must(w.ec2.CreateTags(ctx, &ec2.CreateTagsInput{
		Resources: []string{p.vpc, p.public, p.routes, p.gateway, p.group, instance, *eni.NetworkInterfaceId, rule}, Tags: []types.Tag{{Key: new("colour"), Value: new("blue")}},
	}))(w)
	machine := byID(must(w.ec2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{instance}}))(w).Reservations, instance)
	subnet := must(w.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: []string{p.public}}))(w).Subnets[0]
	vpc := must(w.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{VpcIds: []string{p.vpc}}))(w).Vpcs[0]
	balancer := w.loadBalancer("filtered")
	_ = balancer
	const account = "123456789012"

	listings := map[string]listing{
		"Subnets": func(f ...types.Filter) ([]string, error) {
			out, err := w.ec2.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: f})
			if err != nil {
				return nil, err
			}
			return texts(out.Subnets, func(s types.Subnet) *string { return s.SubnetId }), nil
		},
		"Vpcs": func(f ...types.Filter) ([]string, error) {
			out, err := w.ec2.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{Filters: f})
			if err != nil {
				return nil, err
			}
			return texts(out.Vpcs, func(v types.Vpc) *string { return v.VpcId }), nil
		},
		"SecurityGroups": func(f ...types.Filter) ([]string, error) {
			out, err := w.ec2.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: f})
			if err != nil {
				return nil, err
			}
			return texts(out.SecurityGroups, func(g types.SecurityGroup) *string { return g.GroupId }), nil
		},
		"SecurityGroupRules": func(f ...types.Filter) ([]string, error) {
			out, err := w.ec2.DescribeSecurityGroupRules(ctx, &ec2.DescribeSecurityGroupRulesInput{Filters: f})
			if err != nil {
				return nil, err
			}
			return texts(out.SecurityGroupRules, func(r types.SecurityGroupRule) *string { return r.SecurityGroupRuleId }), nil
		},
		"NetworkInterfaces": func(f ...types.Filter) ([]string, error) {
			out, err := w.ec2.DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{Filters: f})
			if err != nil {
				return nil, err
			}
			return texts(out.NetworkInterfaces, func(n types.NetworkInterface) *string { return n.NetworkInterfaceId }), nil
		},
		"RouteTables": func(f ...types.Filter) ([]string, error) {
			out, err := w.ec2.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{Filters: f})
			if err != nil {
				return nil, err
			}
			return texts(out.RouteTables, func(r types.RouteTable) *string { return r.RouteTableId }), nil
		},
		"AvailabilityZones": func(f ...types.Filter) ([]string, error) {
			out, err := w.ec2.DescribeAvailabilityZones(ctx, &ec2.DescribeAvailabilityZonesInput{Filters: f})
			if err != nil {
				return nil, err
			}
			return texts(out.AvailabilityZones, func(z types.AvailabilityZone) *string { return z.ZoneName }), nil
		},
		"InternetGateways": func(f ...types.Filter) ([]string, error) {
			out, err := w.ec2.DescribeInternetGateways(ctx, &ec2.DescribeInternetGatewaysInput{Filters: f})
			if err != nil {
				return nil, err
			}
			return texts(out.InternetGateways, func(g types.InternetGateway) *string { return g.InternetGatewayId }), nil
		},
		"Instances": func(f ...types.Filter) ([]string, error) {
			out, err := w.ec2.DescribeInstances(ctx, &ec2.DescribeInstancesInput{Filters: f})
			if err != nil {
				return nil, err
			}
			var found []string
			for _, r := range out.Reservations {
				found = append(found, texts(r.Instances, func(i types.Instance) *string { return i.InstanceId })...)
			}
			return found, nil
		},
	}
	gone := []string{"outpost-arn"} // no resource ever has it
	// Of each filter: a value that matches the resource, one that matches nothing, and a pattern that matches the resource.
	for operation, c := range map[string]struct {
		id      string
		filters map[string][3]string
	}{
		"Subnets": {p.public, map[string][3]string{
			"availability-zone": {"eu-west-1a", "eu-west-1z", "eu-west-1?"}, "availability-zone-id": {"euw1-az1", "euw1-az9", "euw1-*"},
			"available-ip-address-count": {"248", "7", "24?"}, "cidr-block": {"10.210.1.0/24", "10.210.1.0/25", "10.210.1.*"}, "default-for-az": {"false", "true", "f*"},
			"ipv6-cidr-block-association.ipv6-cidr-block": {block6, "2001:db8::/64", "2001:db8:12*"}, "ipv6-cidr-block-association.association-id": {*s6.AssociationId, "subnet-cidr-assoc-0", "subnet-cidr-assoc-*"},
			"ipv6-cidr-block-association.state": {"associated", "failed", "assoc*"}, "ipv6-native": {"false", "true", "?alse"}, "map-public-ip-on-launch": {"false", "maybe", "f????"},
			"outpost-arn": {"", "arn", "arn*"}, "owner-id": {account, "1", "12345*"}, "state": {"available", "pending", "avail*"}, "subnet-arn": {*subnet.SubnetArn, "arn", "*" + p.public},
			"subnet-id": {p.public, "subnet-00000000", p.public[:12] + "*"}, "tag:colour": {"blue", "Blue", "b*e"}, "tag-key": {"colour", "Colour", "col*"}, "vpc-id": {p.vpc, "vpc-00000000", p.vpc[:9] + "*"},
		}},
		"SecurityGroups": {p.group, func() map[string][3]string {
			all := map[string][3]string{
				"description": {"test", "Test", "te?t"}, "group-id": {p.group, "sg-00000000", p.group[:9] + "*"}, "group-name": {"web", "Web", "w*"}, "owner-id": {account, "1", "1*2"},
				"tag:colour": {"blue", "red", "?lue"}, "tag-key": {"colour", "shape", "*our"}, "vpc-id": {p.vpc, "vpc-00000000", p.vpc[:9] + "*"},
			}
			for _, prefix := range []string{"ip-permission.", "egress.ip-permission."} {
				for name, values := range map[string][3]string{
					"cidr": {"172.20.0.0/16", "172.20.0.0/24", "172.20.*"}, "ipv6-cidr": {"2001:db8:9::/48", "2001:db8::/48", "*:9::/48"}, "from-port": {"8000", "1", "80?0"}, "to-port": {"8010", "1", "801?"},
					"protocol": {"tcp", "udp", "t?p"}, "group-id": {other, "sg-00000000", other[:9] + "*"}, "group-name": {"other", "nobody", "oth*"}, "prefix-list-id": {list, "pl-00000000", list[:9] + "*"},
					"user-id": {account, "1", "1234*"},
				} {
					all[prefix+name] = values
				}
			}
			return all
		}()},
		"SecurityGroupRules": {rule, map[string][3]string{
			"group-id": {p.group, "sg-00000000", p.group[:9] + "*"}, "security-group-rule-id": {rule, "sgr-00000000", rule[:9] + "*"}, "tag:colour": {"blue", "red", "bl*"},
		}},
		"NetworkInterfaces": {*eni.NetworkInterfaceId, map[string][3]string{
			"addresses.private-ip-address": {*eni.PrivateIpAddresses[1].PrivateIpAddress, "10.210.9.9", (*eni.PrivateIpAddresses[1].PrivateIpAddress)[:9] + "*"}, "addresses.primary": {"true", "maybe", "tr*"},
			"ipv6-addresses.ipv6-address": {*eni.Ipv6Addresses[0].Ipv6Address, "2001:db8::1", "2001:*"}, "availability-zone": {"eu-west-1a", "eu-west-1z", "eu-*"}, "description": {"filtered", "Filtered", "filt*"},
			"group-id": {*eni.Groups[0].GroupId, "sg-00000000", "sg-*"}, "interface-type": {"interface", "efa", "inter*"}, "mac-address": {*eni.MacAddress, "00:00:00:00:00:00", "02:00:*"},
			"network-interface-id": {*eni.NetworkInterfaceId, "eni-00000000", "eni-*"}, "owner-id": {account, "1", "1*"}, "private-dns-name": {*eni.PrivateDnsName, "ip", "ip-10-210-*"},
			"private-ip-address": {*eni.PrivateIpAddress, "10.0.0.1", "10.210.1.*"}, "requester-managed": {"false", "maybe", "fal*"}, "status": {"available", "attaching", "av*"},
			"subnet-id": {p.public, "subnet-00000000", p.public[:12] + "*"}, "tag:colour": {"blue", "red", "bl*"}, "tag-key": {"colour", "shape", "c*"}, "vpc-id": {p.vpc, "vpc-00000000", p.vpc[:9] + "*"},
		}},
		"Vpcs": {p.vpc, map[string][3]string{
			"cidr": {"10.210.0.0/16", "10.0.0.0/8", "10.210.*"}, "cidr-block-association.cidr-block": {"10.210.0.0/16", "10.0.0.0/8", "10.210.*"},
			"cidr-block-association.association-id":       {*vpc.CidrBlockAssociationSet[0].AssociationId, "vpc-cidr-assoc-0", "vpc-cidr-*"},
			"cidr-block-association.state":                {"associated", "failed", "ass*"},
			"ipv6-cidr-block-association.ipv6-cidr-block": {*v6.Ipv6CidrBlock, "2001:db8::/56", "2001:*"}, "ipv6-cidr-block-association.association-id": {*v6.AssociationId, "vpc-cidr-assoc-0", "vpc-cidr-*"},
			"ipv6-cidr-block-association.state": {"associated", "failed", "ass*"}, "dhcp-options-id": {*vpc.DhcpOptionsId, "dopt-00000000", (*vpc.DhcpOptionsId)[:9] + "*"}, "is-default": {"false", "true", "f*"},
			"owner-id": {account, "1", "1*"}, "state": {"available", "pending", "av*"}, "tag:colour": {"blue", "red", "b*"}, "tag-key": {"colour", "shape", "co*"}, "vpc-id": {p.vpc, "vpc-00000000", p.vpc[:9] + "*"},
		}},
		"RouteTables": {p.routes, map[string][3]string{
			"association.main": {"false", "maybe", "f*"}, "association.subnet-id": {p.public, "subnet-00000000", p.public[:12] + "*"}, "association.route-table-id": {p.routes, "rtb-00000000", p.routes[:9] + "*"},
			"route.gateway-id": {p.gateway, "igw-00000000", p.gateway[:9] + "*"}, "route.destination-cidr-block": {"0.0.0.0/0", "1.0.0.0/8", "0.0.0.*"}, "route.state": {"active", "blackhole", "act*"},
			"route-table-id": {p.routes, "rtb-00000000", p.routes[:9] + "*"}, "owner-id": {account, "1", "1*"}, "tag:colour": {"blue", "red", "b*"}, "tag-key": {"colour", "shape", "co*"}, "vpc-id": {p.vpc, "vpc-00000000", p.vpc[:9] + "*"},
		}},
		"AvailabilityZones": {"eu-west-1b", map[string][3]string{
			"group-name": {"eu-west-1", "eu-west-2", "eu-*"}, "region-name": {"eu-west-1", "eu-west-2", "eu-*"}, "state": {"available", "impaired", "av*"}, "zone-id": {"euw1-az2", "euw1-az9", "euw1-az?"},
			"zone-name": {"eu-west-1b", "eu-west-1z", "*b"}, "zone-type": {"availability-zone", "local-zone", "avail*"}, "opt-in-status": {"opt-in-not-required", "opted-in", "opt-in-*"},
		}},
		"InternetGateways": {p.gateway, map[string][3]string{
			"attachment.state": {"available", "detached", "av*"}, "attachment.vpc-id": {p.vpc, "vpc-00000000", p.vpc[:9] + "*"}, "internet-gateway-id": {p.gateway, "igw-00000000", p.gateway[:9] + "*"},
			"owner-id": {account, "1", "1*"}, "tag:colour": {"blue", "red", "b*"}, "tag-key": {"colour", "shape", "co*"},
		}},
		"Instances": {instance, map[string][3]string{
			"instance-id": {instance, "i-00000000", instance[:9] + "*"}, "instance-state-name": {"running", "stopped", "run*"}, "private-ip-address": {*machine.PrivateIpAddress, "10.0.0.1", "10.210.1.*"},
			"private-dns-name": {*machine.PrivateDnsName, "ip", "ip-10-210-*"}, "network-interface.addresses.private-ip-address": {*machine.PrivateIpAddress, "10.0.0.1", "10.210.1.*"},
			"subnet-id": {p.public, "subnet-00000000", p.public[:12] + "*"}, "vpc-id": {p.vpc, "vpc-00000000", p.vpc[:9] + "*"}, "tag:colour": {"blue", "red", "b*"}, "tag-key": {"colour", "shape", "co*"},
			"availability-zone": {"eu-west-1a", "eu-west-1z", "eu-*"}, "instance.group-id": {p.group, "sg-00000000", p.group[:9] + "*"}, "instance-type": {"m5.large", "m5.small", "m5.*"},
			"network-interface.subnet-id": {p.public, "subnet-00000000", p.public[:12] + "*"}, "instance-state-code": {"16", "80", "1?"},
		}},
	} {
		find := listings[operation]
		for name, values := range c.filters {
			t.Run(operation+"/"+name, func(t *testing.T) {
				for i, what := range []string{"matches", "does-not-match", "wildcard"} {
					if values[i] == "" {
						continue
					}
					found, err := find(filter(name, values[i]))
					if err != nil {
						t.Fatalf("%s: %v", what, err)
					}
					if want := i != 1 && !slices.Contains(gone, name); slices.Contains(found, c.id) != want {
						t.Errorf("%s: %s leaves %v", what, values[i], found)
					}
				}
				if values[0] == "" {
					return
				}
				// Values are alternatives, filters must all hold.
				if found, err := find(filter(name, values[1], values[0])); err != nil || !slices.Contains(found, c.id) {
					t.Errorf("one of two values: %v %v", found, err)
				}
				if found, err := find(filter(name, values[0]), filter(name, values[1])); err != nil || slices.Contains(found, c.id) {
					t.Errorf("two filters: %v %v", found, err)
				}
			})
		}
		t.Run(operation+"/unknown", func(t *testing.T) {
			if _, err := find(filter("colour", "blue")); code(err) != "InvalidParameterValue" {
				t.Errorf("a filter that there is not: %v", err)
			}
			many := make([]string, 201)
			for i := range many {
				many[i] = "x"
			}
			if _, err := find(filter("state", many...)); code(err) != "FilterLimitExceeded" && code(err) != "InvalidParameterValue" {
				t.Errorf("201 values: %v", err)
			}
		})
	}
	t.Run("NetworkInterfaces/attachment", func(t *testing.T) {
		own := *machine.NetworkInterfaces[0].NetworkInterfaceId
		for name, value := range map[string]string{"attachment.instance-id": instance, "attachment.status": "attached"} {
			if found, err := listings["NetworkInterfaces"](filter(name, value)); err != nil || !slices.Contains(found, own) || slices.Contains(found, *eni.NetworkInterfaceId) {
				t.Errorf("%s %v %v", name, found, err)
			}
		}
	})
	t.Run("NetworkInterfaces/requester", func(t *testing.T) {
		for name, value := range map[string]string{"requester-id": "amazon-elb", "requester-managed": "true", "description": "ELB app/filtered/*"} {
			if found, err := listings["NetworkInterfaces"](filter(name, value)); err != nil || len(found) != 3 {
				t.Errorf("%s %v %v", name, found, err)
			}
		}
	})
}
