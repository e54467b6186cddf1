package cloud

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud/budget"
	"github.com/lockstep-delivery/lockstep/internal/cloud/mirror"
)

// CreateLoadBalancer creates an Application Load Balancer with the security groups in the given order. Its
// attributes are not set by this call; what is observed has none yet.
func (c *Cloud) CreateLoadBalancer(ctx context.Context, lb model.LoadBalancer, securityGroupIDs []string) (model.ObservedLoadBalancer, error) {
	in := &elb.CreateLoadBalancerInput{
		Name: aws.String(lb.Name), Type: types.LoadBalancerTypeEnumApplication, Scheme: types.LoadBalancerSchemeEnum(lb.Scheme),
		IpAddressType: types.IpAddressType(lb.IPAddressType), SecurityGroups: securityGroupIDs, Tags: toTags(lb.Tags),
	}
	for _, subnet := range lb.SubnetIDs {
		in.SubnetMappings = append(in.SubnetMappings, types.SubnetMapping{SubnetId: aws.String(subnet)})
	}
	out, err := writeELB(ctx, c, budget.Configuration, lb.Name, (*elb.Client).CreateLoadBalancer, in)
	if err == nil && len(out.LoadBalancers) != 1 {
		err = fmt.Errorf("cannot use AWS's answer to CreateLoadBalancer for %s: it holds %d load balancers", lb.Name, len(out.LoadBalancers))
	}
	if err != nil {
		c.doubtLists(err)
		return model.ObservedLoadBalancer{}, err
	}
	created := fromLoadBalancer(out.LoadBalancers[0])
	wrote(c, c.have.loadBalancers, created.ARN, created)
	wrote(c, c.have.listeners, created.ARN, []model.ObservedListener{})
	wrote(c, c.have.attributes, created.ARN, map[string]string{})
	c.wroteTags(created.ARN, lb.Tags)
	c.filled.add(created.ARN)
	if created.State != stateActive {
		c.watchProvisioning(created.ARN)
	}
	return c.assembleLoadBalancer(created.ARN), nil
}

// DeleteLoadBalancer deletes a load balancer with its listeners; one that is gone already is a success.
func (c *Cloud) DeleteLoadBalancer(ctx context.Context, arn string) error {
	_, err := writeELB(ctx, c, budget.Configuration, arn, (*elb.Client).DeleteLoadBalancer, &elb.DeleteLoadBalancerInput{LoadBalancerArn: aws.String(arn)})
	if err = c.forgiveGone(err, arn); err == nil {
		c.forgetLoadBalancer(arn)
	}
	return err
}

// SetSecurityGroups replaces the security groups of a load balancer.
func (c *Cloud) SetSecurityGroups(ctx context.Context, loadBalancerARN string, groupIDs []string) error {
	return c.writeLoadBalancer(loadBalancerARN, func() error {
		_, err := writeELB(ctx, c, budget.Configuration, loadBalancerARN, (*elb.Client).SetSecurityGroups,
			&elb.SetSecurityGroupsInput{LoadBalancerArn: aws.String(loadBalancerARN), SecurityGroups: groupIDs})
		return err
	}, func(lb *model.ObservedLoadBalancer) { lb.SecurityGroupIDs = slices.Clone(groupIDs) })
}

// SetSubnets replaces the subnets, and so the zones, of a load balancer.
func (c *Cloud) SetSubnets(ctx context.Context, loadBalancerARN string, subnetIDs []string) error {
	in := &elb.SetSubnetsInput{LoadBalancerArn: aws.String(loadBalancerARN)}
	for _, subnet := range subnetIDs {
		in.SubnetMappings = append(in.SubnetMappings, types.SubnetMapping{SubnetId: aws.String(subnet)})
	}
	return c.writeLoadBalancer(loadBalancerARN, func() error {
		_, err := writeELB(ctx, c, budget.Configuration, loadBalancerARN, (*elb.Client).SetSubnets, in)
		return err
	}, func(lb *model.ObservedLoadBalancer) { lb.SubnetIDs = slices.Sorted(slices.Values(subnetIDs)) })
}

// SetIPAddressType sets ipv4, dualstack or dualstack-without-public-ipv4.
func (c *Cloud) SetIPAddressType(ctx context.Context, loadBalancerARN, ipAddressType string) error {
	return c.writeLoadBalancer(loadBalancerARN, func() error {
		_, err := writeELB(ctx, c, budget.Configuration, loadBalancerARN, (*elb.Client).SetIpAddressType,
			&elb.SetIpAddressTypeInput{LoadBalancerArn: aws.String(loadBalancerARN), IpAddressType: types.IpAddressType(ipAddressType)})
		return err
	}, func(lb *model.ObservedLoadBalancer) { lb.IPAddressType = ipAddressType })
}

func (c *Cloud) writeLoadBalancer(arn string, write func() error, change func(*model.ObservedLoadBalancer)) error {
	return bracket(c, c.have.loadBalancers, arn, write, func(lb model.ObservedLoadBalancer) model.ObservedLoadBalancer {
		change(&lb)
		return lb
	})
}

// ModifyLoadBalancerAttributes sets the named attributes and leaves the others.
func (c *Cloud) ModifyLoadBalancerAttributes(ctx context.Context, arn string, attributes map[string]string) error {
	in := &elb.ModifyLoadBalancerAttributesInput{LoadBalancerArn: aws.String(arn)}
	for _, key := range sortedKeys(attributes) {
		in.Attributes = append(in.Attributes, types.LoadBalancerAttribute{Key: aws.String(key), Value: aws.String(attributes[key])})
	}
	return c.writeAttributes(arn, attributes, func() error {
		_, err := writeELB(ctx, c, budget.Configuration, arn, (*elb.Client).ModifyLoadBalancerAttributes, in)
		return err
	})
}

// CreateTargetGroup creates a target group in the cloud's VPC. Its attributes are not set by this call.
func (c *Cloud) CreateTargetGroup(ctx context.Context, group model.TargetGroup) (model.ObservedTargetGroup, error) {
	out, err := writeELB(ctx, c, budget.Configuration, group.Name, (*elb.Client).CreateTargetGroup, toCreateTargetGroup(group, c.vpc.ID))
	if err == nil && len(out.TargetGroups) != 1 {
		err = fmt.Errorf("cannot use AWS's answer to CreateTargetGroup for %s: it holds %d target groups", group.Name, len(out.TargetGroups))
	}
	if err != nil {
		c.doubtLists(err)
		return model.ObservedTargetGroup{}, err
	}
	created := fromTargetGroup(out.TargetGroups[0])
	wrote(c, c.have.targetGroups, created.ARN, created)
	wrote(c, c.have.attributes, created.ARN, map[string]string{})
	c.wroteTags(created.ARN, group.Tags)
	return c.assembleTargetGroup(created.ARN), nil
}

// ModifyTargetGroup changes the health check; a field without value keeps what the group has.
func (c *Cloud) ModifyTargetGroup(ctx context.Context, arn string, check model.HealthCheck) error {
	in := &elb.ModifyTargetGroupInput{
		TargetGroupArn: aws.String(arn), HealthCheckProtocol: types.ProtocolEnum(check.Protocol), HealthCheckPort: set(check.Port),
		HealthCheckPath: set(check.Path), HealthCheckIntervalSeconds: seconds(check.Interval), HealthCheckTimeoutSeconds: seconds(check.Timeout),
		HealthyThresholdCount: positive(check.HealthyThreshold), UnhealthyThresholdCount: positive(check.UnhealthyThreshold), Matcher: toMatcher(check),
	}
	var answer *elb.ModifyTargetGroupOutput
	return bracket(c, c.have.targetGroups, arn, func() (err error) {
		answer, err = writeELB(ctx, c, budget.Configuration, arn, (*elb.Client).ModifyTargetGroup, in)
		return err
	}, func(group model.ObservedTargetGroup) model.ObservedTargetGroup {
		if len(answer.TargetGroups) == 1 {
			group.HealthCheck = fromTargetGroup(answer.TargetGroups[0]).HealthCheck
		}
		return group
	})
}

// ModifyTargetGroupAttributes sets the named attributes and leaves the others.
func (c *Cloud) ModifyTargetGroupAttributes(ctx context.Context, arn string, attributes map[string]string) error {
	in := &elb.ModifyTargetGroupAttributesInput{TargetGroupArn: aws.String(arn)}
	for _, key := range sortedKeys(attributes) {
		in.Attributes = append(in.Attributes, types.TargetGroupAttribute{Key: aws.String(key), Value: aws.String(attributes[key])})
	}
	return c.writeAttributes(arn, attributes, func() error {
		_, err := writeELB(ctx, c, budget.Configuration, arn, (*elb.Client).ModifyTargetGroupAttributes, in)
		return err
	})
}

// DeleteTargetGroup deletes a target group; one that is gone already is a success.
func (c *Cloud) DeleteTargetGroup(ctx context.Context, arn string) error {
	_, err := writeELB(ctx, c, budget.Configuration, arn, (*elb.Client).DeleteTargetGroup, &elb.DeleteTargetGroupInput{TargetGroupArn: aws.String(arn)})
	if err = c.forgiveGone(err, arn); err == nil {
		c.forgetTargetGroup(arn)
	}
	return err
}

// CreateListener adds a listener; its rules are created one by one with CreateRule.
func (c *Cloud) CreateListener(ctx context.Context, loadBalancerARN string, listener model.Listener) (model.ObservedListener, error) {
	in := &elb.CreateListenerInput{
		LoadBalancerArn: aws.String(loadBalancerARN), Port: aws.Int32(listener.Port), Protocol: types.ProtocolEnum(listener.Protocol),
		DefaultActions: toActions(listener.DefaultActions), SslPolicy: set(listener.SSLPolicy), Tags: toTags(listener.Tags),
	}
	if len(listener.Certificates) > 0 {
		in.Certificates = []types.Certificate{{CertificateArn: aws.String(listener.Certificates[0])}}
	}
	var created model.ObservedListener
	err := bracket(c, c.have.listeners, loadBalancerARN, func() error {
		out, err := writeELB(ctx, c, budget.Configuration, loadBalancerARN, (*elb.Client).CreateListener, in)
		if err == nil && len(out.Listeners) != 1 {
			err = fmt.Errorf("cannot use AWS's answer to CreateListener on %s: it holds %d listeners", loadBalancerARN, len(out.Listeners))
		}
		if err == nil {
			created = fromListener(out.Listeners[0])
		}
		return err
	}, func(all []model.ObservedListener) []model.ObservedListener {
		return append(slices.Clone(all), created)
	})
	if err != nil {
		return model.ObservedListener{}, err
	}
	wrote(c, c.have.routes, created.ARN, routes{Default: created.DefaultActions, Rules: []model.ObservedRule{}})
	wrote(c, c.have.attributes, created.ARN, map[string]string{})
	c.wroteTags(created.ARN, listener.Tags)
	c.seeAgain(created.ARN, configurationSeeAgain)
	if len(listener.Certificates) > 0 {
		wrote(c, c.have.certificates, created.ARN, listener.Certificates[:1:1])
		err = c.syncCertificates(ctx, created.ARN, listener.Certificates)
	}
	return c.assembleListener(created), err
}

// DeleteListener deletes a listener with its rules; one that is gone already is a success.
func (c *Cloud) DeleteListener(ctx context.Context, arn string) error {
	lb := loadBalancerOf(arn)
	c.have.listeners.BeginWrite(lb)
	_, err := writeELB(ctx, c, budget.Configuration, arn, (*elb.Client).DeleteListener, &elb.DeleteListenerInput{ListenerArn: aws.String(arn)})
	err = c.forgiveGone(err, arn)
	c.have.listeners.EndWrite(lb, c.moment(), result(err), func(all []model.ObservedListener, _ bool) []model.ObservedListener {
		return slices.DeleteFunc(slices.Clone(all), func(l model.ObservedListener) bool { return l.ARN == arn })
	})
	if err == nil {
		c.forgetListener(arn)
	}
	return err
}

// addBesideDefault adds the certificates that a listener is to have besides a new default one, before that takes the
// place of the old: else the names of the old one would be answered with the new one until it is added.
func (c *Cloud) addBesideDefault(ctx context.Context, listenerARN string, wanted []string) error {
	if len(wanted) < 2 {
		return nil
	}
	listeners, _ := c.have.listeners.Believed(loadBalancerOf(listenerARN))
	i := slices.IndexFunc(listeners, func(l model.ObservedListener) bool { return l.ARN == listenerARN })
	if i < 0 || len(listeners[i].Certificates) == 0 || listeners[i].Certificates[0] == wanted[0] {
		return nil
	}
	// What is in the list already is added once more without effect; the default one may be in it, unseen.
	in := &elb.AddListenerCertificatesInput{ListenerArn: aws.String(listenerARN)}
	for _, certificate := range wanted[1:] {
		in.Certificates = append(in.Certificates, types.Certificate{CertificateArn: aws.String(certificate)})
	}
	return bracket(c, c.have.certificates, listenerARN, func() error {
		_, err := writeELB(ctx, c, budget.Configuration, listenerARN, (*elb.Client).AddListenerCertificates, in)
		return err
	}, func(have []string) []string {
		out := slices.Clone(have) // the default one is the first, and now in the list as well
		for _, certificate := range wanted[1:] {
			if len(out) > 0 && !slices.Contains(out[1:], certificate) {
				out = append(out, certificate)
			}
		}
		return out
	})
}

// syncCertificates makes the additional certificates of a listener those of the list after its first.
func (c *Cloud) syncCertificates(ctx context.Context, listenerARN string, wanted []string) error {
	if _, known := c.have.certificates.Believed(listenerARN); !known {
		if err := c.readCertificates(ctx, budget.Configuration, listenerARN); err != nil {
			return err
		}
	}
	have, _ := c.have.certificates.Believed(listenerARN)
	var add, remove []types.Certificate
	for _, certificate := range wanted[1:] {
		if !slices.Contains(have, certificate) {
			add = append(add, types.Certificate{CertificateArn: aws.String(certificate)})
		}
	}
	for _, certificate := range have {
		if !slices.Contains(wanted, certificate) {
			remove = append(remove, types.Certificate{CertificateArn: aws.String(certificate)})
		}
	}
	if len(add)+len(remove) == 0 {
		return nil
	}
	return bracket(c, c.have.certificates, listenerARN, func() error {
		if len(add) > 0 {
			_, err := writeELB(ctx, c, budget.Configuration, listenerARN, (*elb.Client).AddListenerCertificates,
				&elb.AddListenerCertificatesInput{ListenerArn: aws.String(listenerARN), Certificates: add})
			if err != nil {
				return err
			}
		}
		if len(remove) > 0 {
			_, err := writeELB(ctx, c, budget.Configuration, listenerARN, (*elb.Client).RemoveListenerCertificates,
				&elb.RemoveListenerCertificatesInput{ListenerArn: aws.String(listenerARN), Certificates: remove})
			return err
		}
		return nil
	}, func([]string) []string { return slices.Clone(wanted) })
}

// AddTags sets tags on an ELBv2 resource (by ARN) or an EC2 one (by id, such as sg-...).
func (c *Cloud) AddTags(ctx context.Context, arn string, tags map[string]string) error {
	if len(tags) == 0 {
		return nil
	}
	if !strings.HasPrefix(arn, "arn:") {
		return c.changeSecurityGroup(arn, func() error {
			_, err := writeEC2(ctx, c, budget.Configuration, arn, (*ec2.Client).CreateTags, &ec2.CreateTagsInput{Resources: []string{arn}, Tags: toEC2Tags(tags)})
			return err
		}, func(group *model.ObservedSecurityGroup) { group.Tags = with(group.Tags, tags) })
	}
	return c.writeTags(arn, func() error {
		_, err := writeELB(ctx, c, budget.Configuration, arn, (*elb.Client).AddTags, &elb.AddTagsInput{ResourceArns: []string{arn}, Tags: toTags(tags)})
		return err
	}, func(old map[string]string) map[string]string { return with(old, tags) })
}

// RemoveTags removes tags by key, from a resource named as for AddTags.
func (c *Cloud) RemoveTags(ctx context.Context, arn string, keys []string) error {
	if len(keys) == 0 {
		return nil
	}
	if !strings.HasPrefix(arn, "arn:") {
		return c.changeSecurityGroup(arn, func() error {
			_, err := writeEC2(ctx, c, budget.Configuration, arn, (*ec2.Client).DeleteTags, &ec2.DeleteTagsInput{Resources: []string{arn}, Tags: toEC2TagKeys(keys)})
			return err
		}, func(group *model.ObservedSecurityGroup) { group.Tags = without(group.Tags, keys) })
	}
	return c.writeTags(arn, func() error {
		_, err := writeELB(ctx, c, budget.Configuration, arn, (*elb.Client).RemoveTags, &elb.RemoveTagsInput{ResourceArns: []string{arn}, TagKeys: keys})
		return err
	}, func(old map[string]string) map[string]string { return without(old, keys) })
}

func with(old, more map[string]string) map[string]string {
	merged := maps.Clone(old)
	if merged == nil {
		merged = map[string]string{}
	}
	maps.Copy(merged, more)
	return merged
}

func without(old map[string]string, keys []string) map[string]string {
	left := with(old, nil)
	for _, key := range keys {
		delete(left, key)
	}
	return left
}

func (c *Cloud) writeTags(arn string, write func() error, change func(map[string]string) map[string]string) error {
	return bracket(c, c.have.tags, arn, write, change)
}

// writeAttributes merges the written attributes into the known ones. Where nothing is known, nothing becomes
// known: the map would look complete.
func (c *Cloud) writeAttributes(arn string, attributes map[string]string, write func() error) error {
	return bracket(c, c.have.attributes, arn, write, func(old map[string]string) map[string]string { return with(old, attributes) })
}

// bracket carries out one write to one row. A row that was never read stays unread.
func bracket[T any](c *Cloud, table *mirror.Table[T], key string, write func() error, change func(T) T) error {
	table.BeginWrite(key)
	err := write()
	if _, known := table.Believed(key); known {
		table.EndWrite(key, c.moment(), result(err), func(old T, _ bool) T { return change(old) })
	} else {
		table.EndWrite(key, c.moment(), result(err), nil)
	}
	return err
}

// wrote puts a resource that we have created into its table.
func wrote[T any](c *Cloud, table *mirror.Table[T], key string, value T) {
	table.BeginWrite(key)
	table.EndWrite(key, c.moment(), mirror.Accepted, func(T, bool) T { return value })
}

func (c *Cloud) wroteTags(arn string, tags map[string]string) {
	wrote(c, c.have.tags, arn, with(tags, nil))
}

// forgiveGone makes a deletion of something that is gone a success.
func (c *Cloud) forgiveGone(err error, resource string) error {
	if errors.Is(err, ErrNotFound) {
		c.log.Debug("already gone", "resource", resource)
		return nil
	}
	return err
}

func withListener(all []model.ObservedListener, arn string, change func(*model.ObservedListener)) []model.ObservedListener {
	all = slices.Clone(all)
	for i := range all {
		if all[i].ARN == arn {
			change(&all[i])
		}
	}
	return all
}
