package cloud

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/internal/cloud/budget"
	"github.com/lockstep-delivery/lockstep/internal/cloud/mirror"
)

// filterValues is how many values a filter of EC2 is given; AWS takes 200 in all.
const filterValues = 199

// networkCache keeps what changes seldom: subnets and interfaces, and when a question about security
// groups was last answered into the mirror.
type networkCache struct {
	mu         sync.Mutex
	subnets    []Subnet
	subnetsAt  time.Time
	interfaces map[string]knownInterface // by address or instance id
	answers    map[string]time.Time
}

type knownInterface struct {
	list []NetworkInterface
	at   time.Time
}

func (n *networkCache) answered(question string, since time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	at, ok := n.answers[question]
	return ok && at.After(since)
}

func (n *networkCache) answer(question string, now time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.answers == nil {
		n.answers = map[string]time.Time{}
	}
	n.answers[question] = now
}

// forgetGroups has questions about security groups asked again: one was written.
func (n *networkCache) forgetGroups() {
	n.mu.Lock()
	defer n.mu.Unlock()
	clear(n.answers)
}

func question(about string, filters []types.Filter) string {
	var b strings.Builder
	b.WriteString(about)
	for _, f := range filters {
		fmt.Fprintf(&b, " %s=%s", aws.ToString(f.Name), strings.Join(f.Values, ","))
	}
	return b.String()
}

// readVPC goes on the most urgent lane: without it nothing else starts.
func (c *Cloud) readVPC(ctx context.Context, id string) (VPC, error) {
	out, _, err := readEC2(ctx, c, budget.Traffic, id, (*ec2.Client).DescribeVpcs, &ec2.DescribeVpcsInput{VpcIds: []string{id}})
	if err != nil {
		return VPC{}, fmt.Errorf("cannot read VPC %s: %w", id, err)
	}
	if len(out.Vpcs) != 1 {
		return VPC{}, fmt.Errorf("cannot read VPC %s: %w", id, notFound("DescribeVpcs", id))
	}
	vpc := VPC{ID: id}
	for _, association := range out.Vpcs[0].CidrBlockAssociationSet {
		vpc.CIDRs = append(vpc.CIDRs, aws.ToString(association.CidrBlock))
	}
	if len(vpc.CIDRs) == 0 && out.Vpcs[0].CidrBlock != nil {
		vpc.CIDRs = append(vpc.CIDRs, *out.Vpcs[0].CidrBlock)
	}
	for _, association := range out.Vpcs[0].Ipv6CidrBlockAssociationSet {
		vpc.CIDRs = append(vpc.CIDRs, aws.ToString(association.Ipv6CidrBlock))
	}
	return vpc, nil
}

// Subnets returns the VPC's subnets sorted by id, as they were at most NetworkTTL ago.
func (c *Cloud) Subnets(ctx context.Context) ([]Subnet, error) {
	known := func() ([]Subnet, bool) {
		c.network.mu.Lock()
		defer c.network.mu.Unlock()
		return slices.Clone(c.network.subnets), !c.network.subnetsAt.IsZero() && c.now().Sub(c.network.subnetsAt) < c.settings.NetworkTTL
	}
	if subnets, fresh := known(); fresh {
		return subnets, nil
	}
	err := c.join(ctx, budget.Configuration, "subnets", time.Time{}, mirror.Moment{}, func(ctx context.Context) error {
		subnets, err := c.readSubnets(ctx)
		if err != nil {
			return err
		}
		c.network.mu.Lock()
		defer c.network.mu.Unlock()
		c.network.subnets, c.network.subnetsAt = subnets, c.now()
		return nil
	})
	subnets, _ := known()
	return subnets, err
}

func (c *Cloud) readSubnets(ctx context.Context) ([]Subnet, error) {
	ofVPC := []types.Filter{filter("vpc-id", c.vpc.ID)}
	public, main := map[string]bool{}, false
	tables := &ec2.DescribeRouteTablesInput{Filters: ofVPC}
	for {
		out, _, err := readEC2(ctx, c, budget.Configuration, c.vpc.ID, (*ec2.Client).DescribeRouteTables, tables)
		if err != nil {
			return nil, err
		}
		for _, table := range out.RouteTables {
			reaches := slices.ContainsFunc(table.Routes, func(r types.Route) bool { return strings.HasPrefix(aws.ToString(r.GatewayId), "igw-") })
			for _, association := range table.Associations {
				if aws.ToBool(association.Main) {
					main = reaches
				}
				if association.SubnetId != nil {
					public[*association.SubnetId] = reaches
				}
			}
		}
		if aws.ToString(out.NextToken) == "" {
			break
		}
		tables.NextToken = out.NextToken
	}
	var subnets []Subnet
	in := &ec2.DescribeSubnetsInput{Filters: ofVPC}
	for {
		out, _, err := readEC2(ctx, c, budget.Configuration, c.vpc.ID, (*ec2.Client).DescribeSubnets, in)
		if err != nil {
			return nil, err
		}
		for _, s := range out.Subnets {
			subnet := fromSubnet(s)
			reaches, own := public[subnet.ID]
			subnet.Public = own && reaches || !own && main
			subnets = append(subnets, subnet)
		}
		if aws.ToString(out.NextToken) == "" {
			break
		}
		in.NextToken = out.NextToken
	}
	slices.SortFunc(subnets, func(a, b Subnet) int { return strings.Compare(a.ID, b.ID) })
	return subnets, nil
}

func fromSubnet(s types.Subnet) Subnet {
	subnet := Subnet{ID: aws.ToString(s.SubnetId), Zone: aws.ToString(s.AvailabilityZone), CIDR: aws.ToString(s.CidrBlock),
		FreeAddresses: aws.ToInt32(s.AvailableIpAddressCount), Tags: fromEC2Tags(s.Tags)}
	for _, association := range s.Ipv6CidrBlockAssociationSet {
		subnet.IPv6CIDR = aws.ToString(association.Ipv6CidrBlock)
	}
	return subnet
}

// NetworkInterfacesByAddress returns the VPC's interfaces that have any of the private addresses, sorted by id.
// Addresses that are known are not asked for again within NetworkTTL.
func (c *Cloud) NetworkInterfacesByAddress(ctx context.Context, addresses []string) ([]NetworkInterface, error) {
	var v4, v6 []string
	for _, address := range addresses {
		if strings.Contains(address, ":") {
			v6 = append(v6, address)
		} else {
			v4 = append(v4, address)
		}
	}
	found, err := c.interfaces(ctx, "addresses.private-ip-address", v4, func(n NetworkInterface) []string { return n.Addresses })
	if err != nil || len(v6) == 0 {
		return found, err
	}
	more, err := c.interfaces(ctx, "ipv6-addresses.ipv6-address", v6, func(n NetworkInterface) []string { return n.Addresses })
	return distinct(append(found, more...)), err
}

// NetworkInterfacesByInstance returns the interfaces that are attached to the instances, sorted by id.
func (c *Cloud) NetworkInterfacesByInstance(ctx context.Context, instanceIDs []string) ([]NetworkInterface, error) {
	return c.interfaces(ctx, "attachment.instance-id", instanceIDs, func(n NetworkInterface) []string { return []string{n.InstanceID} })
}

// interfaces finds interfaces by a filter whose values an interface answers to are given by keys.
func (c *Cloud) interfaces(ctx context.Context, by string, values []string, keys func(NetworkInterface) []string) ([]NetworkInterface, error) {
	found, missing := c.network.knownInterfaces(values, c.now().Add(-c.settings.NetworkTTL))
	for part := range slices.Chunk(missing, filterValues) {
		read, err := c.readInterfaces(ctx, by, part)
		if err != nil {
			return nil, err
		}
		c.network.keepInterfaces(part, read, keys, c.now(), c.settings.NetworkTTL)
		found = append(found, read...)
	}
	return distinct(found), nil
}

func (n *networkCache) knownInterfaces(values []string, since time.Time) (found []NetworkInterface, missing []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, value := range values {
		// An address without an interface is asked for again: the interface may be on its way.
		if known, ok := n.interfaces[value]; ok && known.at.After(since) && len(known.list) > 0 {
			found = append(found, known.list...)
		} else {
			missing = append(missing, value)
		}
	}
	return found, missing
}

func (n *networkCache) keepInterfaces(asked []string, read []NetworkInterface, keys func(NetworkInterface) []string, now time.Time, ttl time.Duration) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.interfaces == nil {
		n.interfaces = map[string]knownInterface{}
	}
	maps.DeleteFunc(n.interfaces, func(_ string, known knownInterface) bool { return now.Sub(known.at) >= ttl })
	for _, value := range asked {
		known := knownInterface{at: now}
		for _, i := range read {
			if slices.Contains(keys(i), value) {
				known.list = append(known.list, i)
			}
		}
		n.interfaces[value] = known
	}
}

func (c *Cloud) readInterfaces(ctx context.Context, by string, values []string) ([]NetworkInterface, error) {
	var found []NetworkInterface
	in := &ec2.DescribeNetworkInterfacesInput{Filters: []types.Filter{filter("vpc-id", c.vpc.ID), filter(by, values...)}}
	for {
		out, _, err := readEC2(ctx, c, budget.Firewall, by, (*ec2.Client).DescribeNetworkInterfaces, in)
		if err != nil {
			return nil, err
		}
		for _, i := range out.NetworkInterfaces {
			found = append(found, fromInterface(i))
		}
		if aws.ToString(out.NextToken) == "" {
			return found, nil
		}
		in.NextToken = out.NextToken
	}
}

func fromInterface(i types.NetworkInterface) NetworkInterface {
	out := NetworkInterface{ID: aws.ToString(i.NetworkInterfaceId)}
	for _, group := range i.Groups {
		out.Groups = append(out.Groups, aws.ToString(group.GroupId))
	}
	for _, address := range i.PrivateIpAddresses {
		out.Addresses = append(out.Addresses, aws.ToString(address.PrivateIpAddress))
	}
	if len(out.Addresses) == 0 && i.PrivateIpAddress != nil {
		out.Addresses = append(out.Addresses, *i.PrivateIpAddress)
	}
	for _, address := range i.Ipv6Addresses {
		out.Addresses = append(out.Addresses, aws.ToString(address.Ipv6Address))
	}
	if i.Attachment != nil {
		out.InstanceID = aws.ToString(i.Attachment.InstanceId)
	}
	return out
}

func distinct(list []NetworkInterface) []NetworkInterface {
	slices.SortFunc(list, func(a, b NetworkInterface) int { return strings.Compare(a.ID, b.ID) })
	return slices.CompactFunc(list, func(a, b NetworkInterface) bool { return a.ID == b.ID })
}

func notFound(operation, resource string) error {
	return &APIError{Operation: operation, Resource: resource, Kind: KindNotFound, Code: "NotFound", Message: "AWS does not list it"}
}

func isGone(err error) bool { return errors.Is(err, ErrNotFound) }
