package cloud

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud/budget"
	"github.com/lockstep-delivery/lockstep/internal/cloud/mirror"
)

// AWS's states of a load balancer.
const (
	stateActive   = "active"
	stateImpaired = "active_impaired"
)

// Stack returns what AWS has for one stack of this cluster, from the mirror. What the mirror does not have
// yet is read first; when the budget has no token for that in time, the observation is returned as far
// as it goes, Complete false, together with a *BusyError. In a large account, as long as the first lists are
// being read, it holds the load balancer and the target groups in use, so that weights can be moved,
// Complete is false without an error, and subscribers hear when there is more. Attributes and the tags of listeners and rules
// are read later, by the audit: until then those maps are nil, which means not known (an empty map means
// that there are none beyond AWS's defaults). Subscribers hear when they are known.
func (c *Cloud) Stack(ctx context.Context, stackID string) (model.Observed, error) {
	lane := c.fillLane(stackID)
	listed, err := c.listsWithin(ctx, stackID)
	if err != nil {
		return model.Observed{Missing: "the lists of load balancers, target groups and their tags"}, err
	}
	out := model.Observed{Complete: true}
	if !listed {
		out = model.Observed{Missing: "the tags of all target groups"}
		if err := c.readBalancers(ctx, lane, time.Time{}); err != nil {
			return out, err
		}
		if err := c.readAttachedTags(ctx, lane, c.ownLoadBalancers(stackID)); err != nil {
			return out, err
		}
	}
	var failed error
	for _, arn := range c.ownLoadBalancers(stackID) {
		if err := c.fill(ctx, lane, arn); err != nil {
			if _, known := c.have.loadBalancers.Believed(arn); !known {
				continue // it is gone, and the mirror knows by now
			}
			out.Complete, out.Missing, failed = false, "listeners and rules of "+arn, err
		}
		out.LoadBalancers = append(out.LoadBalancers, c.assembleLoadBalancer(arn))
	}
	for _, arn := range c.ownTargetGroups(stackID) {
		out.TargetGroups = append(out.TargetGroups, c.assembleTargetGroup(arn))
	}
	for _, group := range c.have.securityGroups.All() {
		if model.ClusterOf(group.Tags) == c.config.ClusterName && group.Tags[model.TagStack] == stackID {
			out.SecurityGroups = append(out.SecurityGroups, c.stampGroup(group))
		}
	}
	slices.SortFunc(out.SecurityGroups, func(a, b model.ObservedSecurityGroup) int { return strings.Compare(a.GroupID, b.GroupID) })
	for _, group := range out.SecurityGroups {
		if c.have.securityGroups.Doubtful(group.GroupID) {
			return c.stackAfterDoubt(ctx, stackID, group.GroupID)
		}
	}
	return out, failed
}

// stackAfterDoubt reads a security group again whose last write was refuted or not answered.
func (c *Cloud) stackAfterDoubt(ctx context.Context, stackID, groupID string) (model.Observed, error) {
	if _, err := c.SecurityGroup(ctx, groupID); err != nil && (!errors.Is(err, ErrNotFound) || c.have.securityGroups.Doubtful(groupID)) {
		return model.Observed{Missing: "security group " + groupID}, err
	}
	return c.Stack(ctx, stackID)
}

// Prioritize has a stack filled on the traffic lane, because a weight is to be written there.
func (c *Cloud) Prioritize(stackID string) {
	c.filled.mu.Lock()
	defer c.filled.mu.Unlock()
	if c.filled.urgent == nil {
		c.filled.urgent = map[string]bool{}
	}
	c.filled.urgent[stackID] = true
}

func (c *Cloud) fillLane(stackID string) budget.Lane {
	c.filled.mu.Lock()
	defer c.filled.mu.Unlock()
	if c.filled.urgent[stackID] {
		return budget.Traffic
	}
	return budget.Configuration
}

// fill reads a load balancer's listeners, rules and certificates where they are not known.
func (c *Cloud) fill(ctx context.Context, lane budget.Lane, arn string) error {
	if _, known := c.have.listeners.Believed(arn); !known || c.have.listeners.Doubtful(arn) {
		if err := c.readListeners(ctx, lane, arn, time.Time{}); err != nil {
			return err
		}
	}
	listeners, _ := c.have.listeners.Believed(arn)
	for _, listener := range listeners {
		if _, known := c.have.routes.Believed(listener.ARN); !known || c.have.routes.Doubtful(listener.ARN) {
			if err := c.readRoutes(ctx, lane, listener.ARN, time.Time{}); err != nil {
				return err
			}
		}
		if len(listener.Certificates) == 0 {
			continue
		}
		if _, known := c.have.certificates.Believed(listener.ARN); !known || c.have.certificates.Doubtful(listener.ARN) {
			if err := c.readCertificates(ctx, lane, listener.ARN); err != nil {
				return err
			}
		}
	}
	c.filled.add(arn)
	if lb, known := c.have.loadBalancers.Believed(arn); known && lb.State == "provisioning" {
		c.watchProvisioning(arn)
	}
	return nil
}

// readListeners reads a load balancer's listeners, or joins a read that began at or after notBefore.
func (c *Cloud) readListeners(ctx context.Context, lane budget.Lane, arn string, notBefore time.Time) error {
	return untilFresh(ctx, c.have.listeners, arn, notBefore, func() error {
		return c.join(ctx, lane, "listeners "+arn, notBefore, c.have.listeners.WroteAt(arn), func(ctx context.Context) error {
			var begun mirror.Moment
			all := []model.ObservedListener{}
			in := &elb.DescribeListenersInput{LoadBalancerArn: aws.String(arn)}
			for {
				out, at, err := readELB(ctx, c, lane, arn, (*elb.Client).DescribeListeners, in)
				if errors.Is(err, ErrNotFound) && !c.young(c.have.loadBalancers.WroteAt(arn)) && !c.young(c.have.listeners.WroteAt(arn)) {
					c.forgetLoadBalancer(arn)
				}
				if err != nil {
					return err
				}
				if begun.Order == 0 {
					begun = at
				}
				for _, listener := range out.Listeners {
					all = append(all, fromListener(listener))
				}
				if aws.ToString(out.NextMarker) == "" {
					break
				}
				in.Marker = out.NextMarker
			}
			slices.SortFunc(all, func(a, b model.ObservedListener) int { return cmp.Compare(a.Port, b.Port) })
			before := c.have.listeners.Version(arn)
			c.have.listeners.Read(arn, begun, c.now(), all)
			if before != 0 && c.have.listeners.Version(arn) != before {
				c.notify(Change{StackID: c.stackOf(arn), Kind: ChangeConfiguration})
			}
			return nil
		})
	})
}

func (c *Cloud) readCertificates(ctx context.Context, lane budget.Lane, listenerARN string) error {
	since := c.have.certificates.WroteAt(listenerARN)
	return c.join(ctx, lane, "certificates "+listenerARN, time.Time{}, since, func(ctx context.Context) error {
		var begun mirror.Moment
		var first, others []string
		in := &elb.DescribeListenerCertificatesInput{ListenerArn: aws.String(listenerARN)}
		for {
			out, at, err := readELB(ctx, c, lane, listenerARN, (*elb.Client).DescribeListenerCertificates, in)
			if err != nil {
				return err
			}
			if begun.Order == 0 {
				begun = at
			}
			for _, certificate := range out.Certificates {
				if aws.ToBool(certificate.IsDefault) {
					first = []string{aws.ToString(certificate.CertificateArn)}
				} else {
					others = append(others, aws.ToString(certificate.CertificateArn))
				}
			}
			if aws.ToString(out.NextMarker) == "" {
				break
			}
			in.Marker = out.NextMarker
		}
		slices.Sort(others)
		others = slices.DeleteFunc(slices.Compact(others), func(arn string) bool { return slices.Contains(first, arn) })
		c.have.certificates.Read(listenerARN, begun, c.now(), append(first, others...))
		return nil
	})
}

// readLoadBalancer reads one load balancer's own description.
func (c *Cloud) readLoadBalancer(ctx context.Context, lane budget.Lane, arn string, notBefore time.Time) error {
	since := c.have.loadBalancers.WroteAt(arn)
	return c.join(ctx, lane, "load balancer "+arn, notBefore, since, func(ctx context.Context) error {
		out, begun, err := readELB(ctx, c, lane, arn, (*elb.Client).DescribeLoadBalancers, &elb.DescribeLoadBalancersInput{LoadBalancerArns: []string{arn}})
		if errors.Is(err, ErrNotFound) && !c.young(c.have.loadBalancers.WroteAt(arn)) {
			c.forgetLoadBalancer(arn)
		}
		if err != nil {
			return err
		}
		for _, lb := range out.LoadBalancers {
			c.sawLoadBalancer(begun, fromLoadBalancer(lb))
		}
		return nil
	})
}

// watchProvisioning reads a load balancer again and again until it is provisioned; subscribers hear of it.
func (c *Cloud) watchProvisioning(arn string) {
	c.again.mu.Lock()
	defer c.again.mu.Unlock()
	if c.again.begin(arn) == nil {
		return
	}
	c.inBackground(func(ctx context.Context) {
		for wait(ctx, c.settings.ProvisioningInterval) {
			err := c.readLoadBalancer(withoutHurry(ctx), budget.Configuration, arn, c.now())
			if err != nil && ctx.Err() == nil {
				c.log.Warn("cannot read whether a load balancer is provisioned", "loadBalancer", arn, "error", err)
			}
			if lb, known := c.have.loadBalancers.Believed(arn); !known || lb.State != "provisioning" {
				break
			}
		}
		c.again.mu.Lock()
		delete(c.again.active, arn)
		c.again.mu.Unlock()
	})
}

// assembleLoadBalancer puts together what the tables hold. SeenAt is that of the load balancer's own read.
func (c *Cloud) assembleLoadBalancer(arn string) model.ObservedLoadBalancer {
	lb, _ := c.have.loadBalancers.Believed(arn)
	_, at, _ := c.have.loadBalancers.Seen(arn)
	lb.SeenAt = at.Time
	lb.Tags, lb.Attributes = c.tagsOf(arn), c.attributesOf(arn)
	lb.ResourceID = lb.Tags[model.TagResource]
	lb.SubnetIDs, lb.SecurityGroupIDs = slices.Clone(lb.SubnetIDs), slices.Clone(lb.SecurityGroupIDs)
	listeners, _ := c.have.listeners.Believed(arn)
	for _, listener := range listeners {
		lb.Listeners = append(lb.Listeners, c.assembleListener(listener))
	}
	return lb
}

func (c *Cloud) assembleListener(listener model.ObservedListener) model.ObservedListener {
	arn := listener.ARN
	listener.Tags, listener.Attributes = c.tagsOf(arn), c.attributesOf(arn)
	if certificates, known := c.have.certificates.Believed(arn); known {
		listener.Certificates = slices.Clone(certificates)
	}
	_, listenerAt, _ := c.have.listeners.Seen(loadBalancerOf(arn))
	_, routesAt, _ := c.have.routes.Seen(arn)
	listener.SeenAt = earlier(listenerAt.Time, routesAt.Time)
	known, _ := c.have.routes.Believed(arn)
	if known.Default != nil {
		listener.DefaultActions = known.Default
	}
	listener.Rules = slices.Clone(known.Rules)
	for i := range listener.Rules {
		rule := &listener.Rules[i]
		rule.ResourceID = strconv.Itoa(int(listener.Port)) + ":" + strconv.Itoa(int(rule.Priority))
		rule.Tags = c.tagsOf(rule.ARN)
	}
	return listener
}

func (c *Cloud) assembleTargetGroup(arn string) model.ObservedTargetGroup {
	group, _ := c.have.targetGroups.Believed(arn)
	_, at, _ := c.have.targetGroups.Seen(arn)
	group.SeenAt = at.Time
	group.Tags, group.Attributes = c.tagsOf(arn), c.attributesOf(arn)
	group.ResourceID = group.Tags[model.TagResource]
	group.LoadBalancerARNs = slices.Clone(group.LoadBalancerARNs)
	group.Targets, group.TargetsSeenAt = c.believedHealth(arn)
	return group
}

// tagsOf and attributesOf give copies; nil means not known.
func (c *Cloud) tagsOf(arn string) map[string]string {
	tags, _ := c.have.tags.Believed(arn)
	return maps.Clone(tags)
}

func (c *Cloud) attributesOf(arn string) map[string]string {
	attributes, _ := c.have.attributes.Believed(arn)
	return maps.Clone(attributes)
}

func earlier(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}

// TargetGroup returns any target group of AWS by ARN, ours or not; ErrNotFound when there is none.
func (c *Cloud) TargetGroup(ctx context.Context, arn string) (model.ObservedTargetGroup, error) {
	if _, known := c.have.targetGroups.Believed(arn); !known {
		if err := c.readTargetGroups(ctx, "target group "+arn, &elb.DescribeTargetGroupsInput{TargetGroupArns: []string{arn}}); err != nil {
			return model.ObservedTargetGroup{}, err
		}
	}
	if _, known := c.have.targetGroups.Believed(arn); !known {
		return model.ObservedTargetGroup{}, notFound("DescribeTargetGroups", arn)
	}
	return c.assembleTargetGroup(arn), nil
}

// TargetGroupByName is TargetGroup by the name that is unique in account and region.
func (c *Cloud) TargetGroupByName(ctx context.Context, name string) (model.ObservedTargetGroup, error) {
	find := func() (string, bool) {
		for arn, group := range c.have.targetGroups.All() {
			if group.Name == name {
				return arn, true
			}
		}
		return "", false
	}
	if _, known := find(); !known {
		if err := c.readTargetGroups(ctx, name, &elb.DescribeTargetGroupsInput{Names: []string{name}}); err != nil {
			return model.ObservedTargetGroup{}, err
		}
	}
	arn, known := find()
	if !known {
		return model.ObservedTargetGroup{}, notFound("DescribeTargetGroups", name)
	}
	return c.assembleTargetGroup(arn), nil
}

func (c *Cloud) readTargetGroups(ctx context.Context, resource string, in *elb.DescribeTargetGroupsInput) error {
	return c.join(ctx, budget.Configuration, resource, time.Time{}, mirror.Moment{}, func(ctx context.Context) error {
		out, begun, err := readELB(ctx, c, budget.Configuration, resource, (*elb.Client).DescribeTargetGroups, in)
		if err != nil {
			return err
		}
		for _, group := range out.TargetGroups {
			c.have.targetGroups.Read(aws.ToString(group.TargetGroupArn), begun, c.now(), fromTargetGroup(group))
		}
		return nil
	})
}

// ec2Owned are the filters for what carries an ownership tag, of this cluster or of another one in the VPC: one call
// cannot ask for either of two tags with a value.
func ec2Owned(vpcID string) []types.Filter {
	return []types.Filter{filter("vpc-id", vpcID), filter("tag-key", model.TagCluster, model.TagLegacyCluster)}
}
