package cloud

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"

	"github.com/lockstep-delivery/lockstep/internal/cloud/budget"
	"github.com/lockstep-delivery/lockstep/internal/cloud/mirror"
)

// startRetry is the pause after the first lists could not be read.
const startRetry = 5 * time.Second

// Start does what is done on nobody's behalf, until the context ends: it reads the lists, completes what
// has been filled (attributes, tags of listeners and rules), and reads everything that is filled again once
// in each AuditInterval to find what others have changed. All of that is on the slowest lane. Only the
// leader should run it; Start has the form that a controller manager expects.
func (c *Cloud) Start(ctx context.Context) error {
	ctx = withoutHurry(ctx)
	c.takeOver()
	for {
		err := c.readLists(ctx, budget.Configuration, time.Time{})
		if err == nil {
			break
		}
		if ctx.Err() != nil {
			return nil
		}
		c.log.Warn("cannot read the lists of load balancers and target groups", "error", err)
		if !wait(ctx, startRetry) {
			return nil
		}
	}
	c.completeFilled(ctx)
	ticker := time.NewTicker(c.settings.AuditInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-c.filled.added:
			c.completeFilled(ctx)
		case <-ticker.C:
			c.audit(ctx)
		}
	}
}

// completeFilled reads what is not known yet of the load balancers that were filled.
func (c *Cloud) completeFilled(ctx context.Context) {
	for _, arn := range c.filled.all() {
		resources := c.resourcesOf(arn)
		unknown := slices.DeleteFunc(slices.Clone(resources), func(arn string) bool {
			_, known := c.have.attributes.Believed(arn)
			return known && !c.have.attributes.Doubtful(arn) || !hasAttributes(arn)
		})
		for _, resource := range unknown {
			c.auditStep(ctx, resource, c.readAttributes(ctx, resource))
		}
		untagged := c.untagged(resources)
		if len(untagged) > 0 {
			c.auditStep(ctx, arn, c.listTags(ctx, budget.Audit, untagged))
		}
		if len(unknown)+len(untagged) > 0 {
			c.notify(Change{StackID: c.stackOf(arn), Kind: ChangeConfiguration})
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// audit reads everything again that is filled. What differs from what is believed is notified by the reads.
func (c *Cloud) audit(ctx context.Context) {
	began := c.now()
	c.auditStep(ctx, "lists", c.readLists(ctx, budget.Audit, began))
	for _, arn := range c.filled.all() {
		c.auditStep(ctx, arn, c.readListeners(ctx, budget.Audit, arn, began))
		listeners, _ := c.have.listeners.Believed(arn)
		for _, listener := range listeners {
			c.auditStep(ctx, listener.ARN, c.readRoutes(ctx, budget.Audit, listener.ARN, began))
			if len(listener.Certificates) > 0 {
				c.auditStep(ctx, listener.ARN, c.readCertificates(ctx, budget.Audit, listener.ARN))
			}
		}
		resources := c.resourcesOf(arn)
		for _, resource := range resources {
			if hasAttributes(resource) {
				c.auditStep(ctx, resource, c.readAttributes(ctx, resource))
			}
		}
		c.auditStep(ctx, arn, c.listTags(ctx, budget.Audit, resources))
		if ctx.Err() != nil {
			return
		}
	}
}

func (c *Cloud) auditStep(ctx context.Context, resource string, err error) {
	if err != nil && ctx.Err() == nil && !errors.Is(err, ErrNotFound) {
		c.log.Warn("cannot audit", "resource", resource, "error", err)
	}
}

// resourcesOf are a load balancer, its listeners and rules, and the target groups of its stack.
func (c *Cloud) resourcesOf(arn string) []string {
	resources := []string{arn}
	listeners, _ := c.have.listeners.Believed(arn)
	for _, listener := range listeners {
		resources = append(resources, listener.ARN)
		known, _ := c.have.routes.Believed(listener.ARN)
		for _, rule := range known.Rules {
			resources = append(resources, rule.ARN)
		}
	}
	if stack := c.stackOf(arn); stack != "" {
		resources = append(resources, c.ownTargetGroups(stack)...)
	}
	return resources
}

// hasAttributes: rules have none.
func hasAttributes(arn string) bool { return kindOfARN(arn) != "listener-rule" }

func (c *Cloud) readAttributes(ctx context.Context, arn string) error {
	attributes := map[string]string{}
	var begun mirror.Moment
	switch kindOfARN(arn) {
	case "loadbalancer":
		out, at, err := readELB(ctx, c, budget.Audit, arn, (*elb.Client).DescribeLoadBalancerAttributes, &elb.DescribeLoadBalancerAttributesInput{LoadBalancerArn: aws.String(arn)})
		if err != nil {
			return err
		}
		begun = at
		for _, a := range out.Attributes {
			attributes[aws.ToString(a.Key)] = aws.ToString(a.Value)
		}
	case "targetgroup":
		out, at, err := readELB(ctx, c, budget.Audit, arn, (*elb.Client).DescribeTargetGroupAttributes, &elb.DescribeTargetGroupAttributesInput{TargetGroupArn: aws.String(arn)})
		if err != nil {
			return err
		}
		begun = at
		for _, a := range out.Attributes {
			attributes[aws.ToString(a.Key)] = aws.ToString(a.Value)
		}
	case "listener":
		out, at, err := readELB(ctx, c, budget.Audit, arn, (*elb.Client).DescribeListenerAttributes, &elb.DescribeListenerAttributesInput{ListenerArn: aws.String(arn)})
		if err != nil {
			return err
		}
		begun = at
		for _, a := range out.Attributes {
			attributes[aws.ToString(a.Key)] = aws.ToString(a.Value)
		}
	}
	before := c.have.attributes.Version(arn)
	c.have.attributes.Read(arn, begun, c.now(), attributes)
	if before != 0 && c.have.attributes.Version(arn) != before {
		c.notify(Change{StackID: c.stackOf(arn), Kind: ChangeConfiguration})
	}
	return nil
}
