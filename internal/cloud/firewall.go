package cloud

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud/budget"
	"github.com/lockstep-delivery/lockstep/internal/cloud/mirror"
)

// CreateSecurityGroup creates a security group in the cloud's VPC. Its ingress rules are not set by this call.
func (c *Cloud) CreateSecurityGroup(ctx context.Context, sg model.SecurityGroup) (groupID string, err error) {
	in := &ec2.CreateSecurityGroupInput{GroupName: aws.String(sg.Name), Description: aws.String(sg.Description), VpcId: aws.String(c.vpc.ID)}
	if len(sg.Tags) > 0 {
		in.TagSpecifications = []types.TagSpecification{{ResourceType: types.ResourceTypeSecurityGroup, Tags: toEC2Tags(sg.Tags)}}
	}
	out, err := writeEC2(ctx, c, budget.Firewall, sg.Name, (*ec2.Client).CreateSecurityGroup, in)
	if err != nil {
		c.doubtLists(err)
		return "", err
	}
	id := aws.ToString(out.GroupId)
	group := model.ObservedSecurityGroup{GroupID: id, VPCID: c.vpc.ID, SecurityGroup: model.SecurityGroup{
		ResourceID: sg.Tags[model.TagResource], Name: sg.Name, Description: sg.Description, Tags: with(sg.Tags, nil)}}
	wrote(c, c.have.securityGroups, id, group)
	c.network.forgetGroups()
	return id, nil
}

// DeleteSecurityGroup deletes a security group; one that is gone already is a success.
func (c *Cloud) DeleteSecurityGroup(ctx context.Context, groupID string) error {
	_, err := writeEC2(ctx, c, budget.Firewall, groupID, (*ec2.Client).DeleteSecurityGroup, &ec2.DeleteSecurityGroupInput{GroupId: aws.String(groupID)})
	if err = c.forgiveGone(err, groupID); err == nil {
		c.have.securityGroups.Forget(groupID, c.moment())
		c.network.forgetGroups()
	}
	return err
}

// AuthorizeIngress adds ingress rules, all or none. Rules that exist already make it fail with ErrConflict
// (InvalidPermission.Duplicate); the next observation then is a fresh one.
func (c *Cloud) AuthorizeIngress(ctx context.Context, groupID string, permissions []model.Permission) error {
	if len(permissions) == 0 {
		return nil
	}
	return c.changeSecurityGroup(groupID, func() error {
		_, err := writeEC2(ctx, c, budget.Firewall, groupID, (*ec2.Client).AuthorizeSecurityGroupIngress,
			&ec2.AuthorizeSecurityGroupIngressInput{GroupId: aws.String(groupID), IpPermissions: toPermissions(permissions)})
		return err
	}, func(group *model.ObservedSecurityGroup) {
		group.Ingress = canonicalIngress(append(slices.Clone(group.Ingress), permissions...))
	})
}

// RevokeIngress takes ingress rules away. A rule that is gone already fails the call with ErrNotFound
// (InvalidPermission.NotFound) and nothing is revoked; the next observation then is a fresh one.
func (c *Cloud) RevokeIngress(ctx context.Context, groupID string, permissions []model.Permission) error {
	if len(permissions) == 0 {
		return nil
	}
	return c.changeSecurityGroup(groupID, func() error {
		_, err := writeEC2(ctx, c, budget.Firewall, groupID, (*ec2.Client).RevokeSecurityGroupIngress,
			&ec2.RevokeSecurityGroupIngressInput{GroupId: aws.String(groupID), IpPermissions: toPermissions(permissions)})
		return err
	}, func(group *model.ObservedSecurityGroup) {
		group.Ingress = slices.DeleteFunc(slices.Clone(group.Ingress), func(have model.Permission) bool {
			return slices.ContainsFunc(permissions, func(gone model.Permission) bool { return identity(gone) == identity(have) })
		})
	})
}

// identity is a permission without its description, which is no part of a rule's identity.
func identity(p model.Permission) model.Permission {
	p.Description = ""
	return p
}

func (c *Cloud) changeSecurityGroup(id string, write func() error, change func(*model.ObservedSecurityGroup)) error {
	err := bracket(c, c.have.securityGroups, id, write, func(group model.ObservedSecurityGroup) model.ObservedSecurityGroup {
		change(&group)
		return group
	})
	c.network.forgetGroups()
	return err
}

// SecurityGroup returns a security group by id, as it was read at most NetworkTTL ago or written by us.
func (c *Cloud) SecurityGroup(ctx context.Context, groupID string) (model.ObservedSecurityGroup, error) {
	if group, ok := c.knownGroup(groupID); ok {
		return group, nil
	}
	err := c.join(ctx, budget.Firewall, "sg "+groupID, time.Time{}, c.have.securityGroups.WroteAt(groupID), func(ctx context.Context) error {
		_, err := c.readSecurityGroups(ctx, budget.Firewall, groupID, &ec2.DescribeSecurityGroupsInput{GroupIds: []string{groupID}})
		return err
	})
	if err != nil {
		return model.ObservedSecurityGroup{}, err
	}
	if group, ok := c.have.securityGroups.Believed(groupID); ok {
		return c.stampGroup(group), nil
	}
	return model.ObservedSecurityGroup{}, notFound("DescribeSecurityGroups", groupID)
}

func (c *Cloud) knownGroup(id string) (model.ObservedSecurityGroup, bool) {
	group, ok := c.have.securityGroups.Believed(id)
	if !ok || c.have.securityGroups.Doubtful(id) {
		return group, false
	}
	_, at, _ := c.have.securityGroups.Seen(id)
	wrote := c.have.securityGroups.WroteAt(id)
	latest := at.Time
	if wrote.Time.After(latest) {
		latest = wrote.Time
	}
	return c.stampGroup(group), c.now().Sub(latest) < c.settings.NetworkTTL
}

func (c *Cloud) stampGroup(group model.ObservedSecurityGroup) model.ObservedSecurityGroup {
	_, at, _ := c.have.securityGroups.Seen(group.GroupID)
	group.SeenAt = at.Time
	return group
}

// SecurityGroupsByTag returns the VPC's security groups that carry all the tags, sorted by id.
func (c *Cloud) SecurityGroupsByTag(ctx context.Context, tags map[string]string) ([]model.ObservedSecurityGroup, error) {
	filters := []types.Filter{filter("vpc-id", c.vpc.ID)}
	for _, key := range sortedKeys(tags) {
		filters = append(filters, filter("tag:"+key, tags[key]))
	}
	return c.securityGroupsWhere(ctx, filters, func(group model.ObservedSecurityGroup) bool {
		for key, value := range tags {
			if group.Tags[key] != value {
				return false
			}
		}
		return true
	})
}

// SecurityGroupsByName returns the VPC's security groups whose tag Name is one of the names, sorted by id.
func (c *Cloud) SecurityGroupsByName(ctx context.Context, names []string) ([]model.ObservedSecurityGroup, error) {
	if len(names) == 0 {
		return nil, nil
	}
	return c.securityGroupsWhere(ctx, []types.Filter{filter("vpc-id", c.vpc.ID), filter("tag:Name", names...)}, func(group model.ObservedSecurityGroup) bool {
		return slices.Contains(names, group.Tags["Name"])
	})
}

// securityGroupsWhere asks AWS at most once per NetworkTTL for one question. What we created ourselves is
// in the answer even if AWS does not list it yet.
func (c *Cloud) securityGroupsWhere(ctx context.Context, filters []types.Filter, matches func(model.ObservedSecurityGroup) bool) ([]model.ObservedSecurityGroup, error) {
	question := question("groups", filters)
	if !c.network.answered(question, c.now().Add(-c.settings.NetworkTTL)) {
		err := c.join(ctx, budget.Firewall, question, time.Time{}, mirror.Moment{}, func(ctx context.Context) error {
			_, err := c.readSecurityGroups(ctx, budget.Firewall, question, &ec2.DescribeSecurityGroupsInput{Filters: filters})
			if err == nil {
				c.network.answer(question, c.now())
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	var found []model.ObservedSecurityGroup
	for _, group := range c.have.securityGroups.All() {
		if group.VPCID == c.vpc.ID && matches(group) {
			found = append(found, c.stampGroup(group))
		}
	}
	slices.SortFunc(found, func(a, b model.ObservedSecurityGroup) int { return strings.Compare(a.GroupID, b.GroupID) })
	return found, nil
}

// readSecurityGroups reads all pages into the mirror and returns the ids and when the read began.
func (c *Cloud) readSecurityGroups(ctx context.Context, lane budget.Lane, resource string, in *ec2.DescribeSecurityGroupsInput) (ids map[string]bool, err error) {
	ids = map[string]bool{}
	var begun mirror.Moment
	for {
		out, at, err := readEC2(ctx, c, lane, resource, (*ec2.Client).DescribeSecurityGroups, in)
		if err != nil {
			if len(in.GroupIds) == 1 && isGone(err) && !c.young(c.have.securityGroups.WroteAt(in.GroupIds[0])) {
				c.have.securityGroups.Forget(in.GroupIds[0], c.moment())
			}
			return nil, err
		}
		if begun.Order == 0 {
			begun = at
		}
		for _, sg := range out.SecurityGroups {
			group := fromSecurityGroup(sg)
			ids[group.GroupID] = true
			c.sawSecurityGroup(begun, group)
		}
		if aws.ToString(out.NextToken) == "" {
			return ids, nil
		}
		in.NextToken = out.NextToken
	}
}

func fromSecurityGroup(sg types.SecurityGroup) model.ObservedSecurityGroup {
	tags := fromEC2Tags(sg.Tags)
	return model.ObservedSecurityGroup{GroupID: aws.ToString(sg.GroupId), VPCID: aws.ToString(sg.VpcId), SecurityGroup: model.SecurityGroup{
		ResourceID: tags[model.TagResource], Name: aws.ToString(sg.GroupName), Description: aws.ToString(sg.Description),
		Ingress: fromPermissions(sg.IpPermissions), Tags: tags,
	}}
}

// toPermissions gives each source its own IpPermission: AWS takes them so, and errors stay readable.
func toPermissions(permissions []model.Permission) []types.IpPermission {
	out := make([]types.IpPermission, 0, len(permissions))
	for _, p := range permissions {
		permission := types.IpPermission{IpProtocol: aws.String(p.Protocol)}
		if p.Protocol != "-1" {
			permission.FromPort, permission.ToPort = aws.Int32(p.FromPort), aws.Int32(p.ToPort)
		}
		switch description := set(p.Description); {
		case p.CIDR != "":
			permission.IpRanges = []types.IpRange{{CidrIp: aws.String(p.CIDR), Description: description}}
		case p.IPv6CIDR != "":
			permission.Ipv6Ranges = []types.Ipv6Range{{CidrIpv6: aws.String(p.IPv6CIDR), Description: description}}
		case p.PrefixListID != "":
			permission.PrefixListIds = []types.PrefixListId{{PrefixListId: aws.String(p.PrefixListID), Description: description}}
		case p.SourceGroupID != "":
			permission.UserIdGroupPairs = []types.UserIdGroupPair{{GroupId: aws.String(p.SourceGroupID), Description: description}}
		}
		out = append(out, permission)
	}
	return out
}

// fromPermissions takes AWS's merged permissions apart: one for each source.
func fromPermissions(permissions []types.IpPermission) []model.Permission {
	out := []model.Permission{}
	for _, p := range permissions {
		base := model.Permission{Protocol: aws.ToString(p.IpProtocol), FromPort: aws.ToInt32(p.FromPort), ToPort: aws.ToInt32(p.ToPort)}
		for _, r := range p.IpRanges {
			base := base
			base.CIDR, base.Description = aws.ToString(r.CidrIp), aws.ToString(r.Description)
			out = append(out, base)
		}
		for _, r := range p.Ipv6Ranges {
			base := base
			base.IPv6CIDR, base.Description = aws.ToString(r.CidrIpv6), aws.ToString(r.Description)
			out = append(out, base)
		}
		for _, r := range p.PrefixListIds {
			base := base
			base.PrefixListID, base.Description = aws.ToString(r.PrefixListId), aws.ToString(r.Description)
			out = append(out, base)
		}
		for _, r := range p.UserIdGroupPairs {
			base := base
			base.SourceGroupID, base.Description = aws.ToString(r.GroupId), aws.ToString(r.Description)
			out = append(out, base)
		}
	}
	return canonicalIngress(out)
}

// canonicalIngress sorts permissions and drops doubles.
func canonicalIngress(permissions []model.Permission) []model.Permission {
	slices.SortFunc(permissions, func(a, b model.Permission) int {
		return cmp.Or(strings.Compare(a.Protocol, b.Protocol), cmp.Compare(a.FromPort, b.FromPort), cmp.Compare(a.ToPort, b.ToPort),
			strings.Compare(a.CIDR, b.CIDR), strings.Compare(a.IPv6CIDR, b.IPv6CIDR), strings.Compare(a.PrefixListID, b.PrefixListID),
			strings.Compare(a.SourceGroupID, b.SourceGroupID), strings.Compare(a.Description, b.Description))
	})
	return slices.CompactFunc(permissions, func(a, b model.Permission) bool { return identity(a) == identity(b) })
}

func toEC2Tags(tags map[string]string) []types.Tag {
	var out []types.Tag
	for _, key := range sortedKeys(tags) {
		out = append(out, types.Tag{Key: aws.String(key), Value: aws.String(tags[key])})
	}
	return out
}

func toEC2TagKeys(keys []string) []types.Tag {
	var out []types.Tag
	for _, key := range keys {
		out = append(out, types.Tag{Key: aws.String(key)})
	}
	return out
}

func fromEC2Tags(tags []types.Tag) map[string]string {
	out := make(map[string]string, len(tags))
	for _, t := range tags {
		out[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return out
}

func filter(name string, values ...string) types.Filter {
	return types.Filter{Name: aws.String(name), Values: values}
}
