package cloud

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"golang.org/x/sync/errgroup"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
	"github.com/lockstep-delivery/lockstep/internal/cloud/budget"
	"github.com/lockstep-delivery/lockstep/internal/cloud/mirror"
)

// arnsPerTagRead is AWS's bound on resources of one DescribeTags; tagReads how many run at once.
const (
	arnsPerTagRead = 20
	tagReads       = 4
)

// filledSet knows what has been filled beyond the lists.
type filledSet struct {
	mu sync.Mutex
	// listedAt is when the last complete list of everything began; zero: never, or in doubt. balancersAt is
	// the same for load balancers and their tags alone.
	listedAt, balancersAt mirror.Moment
	doubtedAt             mirror.Moment // lists that began before say nothing
	// running is the first list of everything, while it is read in the background.
	running *listing
	partial map[string]bool // stacks that were answered before everything was listed
	urgent  map[string]bool // stacks whose fill goes on the traffic lane
	arns    map[string]bool // load balancers that are filled and so audited
	added   chan struct{}   // holds an element when a load balancer was added
}

func (f *filledSet) add(arn string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.arns == nil {
		f.arns = map[string]bool{}
	}
	if f.arns[arn] {
		return
	}
	f.arns[arn] = true
	select {
	case f.added <- struct{}{}:
	default:
	}
}

// all are the filled load balancers, sorted.
func (f *filledSet) all() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return sortedKeys(f.arns)
}

func (f *filledSet) listed() mirror.Moment {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.listedAt
}

// doubtLists has the lists read again before anything is taken for missing: a creation has failed since
// something with the same name exists, or nobody knows whether it happened.
func (c *Cloud) doubtLists(err error) {
	if result(err) == mirror.Refused {
		return
	}
	c.filled.mu.Lock()
	defer c.filled.mu.Unlock()
	c.filled.listedAt, c.filled.balancersAt, c.filled.doubtedAt = mirror.Moment{}, mirror.Moment{}, c.moment()
}

// listing is a list of everything on its way.
type listing struct {
	done chan struct{}
	err  error // set when done is closed
}

// listPatience is how long a stack waits for the list of everything before it is answered in part.
const listPatience = time.Second

// listsWithin reports whether everything has been listed, and waits for that a short while. The list
// goes on without the one who waits; the stack's subscribers hear when it is complete.
func (c *Cloud) listsWithin(ctx context.Context, stackID string) (complete bool, err error) {
	if c.filled.listed().Order != 0 {
		return true, nil
	}
	running := c.listInBackground()
	timer := time.NewTimer(listPatience)
	defer timer.Stop()
	select {
	case <-running.done:
		return c.filled.listed().Order != 0, running.err
	case <-ctx.Done():
		return false, ctx.Err()
	case <-timer.C:
	}
	c.filled.mu.Lock()
	defer c.filled.mu.Unlock()
	if c.filled.partial == nil {
		c.filled.partial = map[string]bool{}
	}
	c.filled.partial[stackID] = true
	return false, nil
}

func (c *Cloud) listInBackground() *listing {
	c.filled.mu.Lock()
	defer c.filled.mu.Unlock()
	if c.filled.running != nil {
		return c.filled.running
	}
	l := &listing{done: make(chan struct{}), err: context.Canceled}
	c.filled.running = l
	if !c.inBackground(func(ctx context.Context) {
		l.err = c.readLists(withoutHurry(ctx), budget.Configuration, time.Time{})
		c.filled.mu.Lock()
		c.filled.running = nil
		waiting := c.filled.partial
		c.filled.partial = nil
		c.filled.mu.Unlock()
		close(l.done)
		for _, stack := range sortedKeys(waiting) {
			c.notify(Change{StackID: stack, Kind: ChangeConfiguration})
		}
	}) {
		close(l.done) // the cloud is closed
	}
	return l
}

// readLists reads all load balancers, target groups, tags of the VPC and the cluster's security groups,
// unless that has been done at or after notBefore.
func (c *Cloud) readLists(ctx context.Context, lane budget.Lane, notBefore time.Time) error {
	if at := c.filled.listed(); at.Order != 0 && !at.Time.Before(notBefore) {
		return nil
	}
	return c.join(ctx, lane, "lists", notBefore, mirror.Moment{}, func(ctx context.Context) error {
		began := c.moment()
		if err := c.readBalancers(ctx, lane, notBefore); err != nil {
			return err
		}
		if err := c.listSecurityGroups(ctx, lane); err != nil {
			return err
		}
		if err := c.listTags(ctx, lane, c.untagged(c.have.targetGroups.Keys())); err != nil {
			return err
		}
		c.filled.mu.Lock()
		defer c.filled.mu.Unlock()
		if c.filled.balancersAt.Order != 0 && c.filled.balancersAt.Before(began) {
			began = c.filled.balancersAt // read by somebody else a little earlier
		}
		if c.filled.doubtedAt.Before(began) {
			c.filled.listedAt = began
		}
		return nil
	})
}

// readBalancers reads the lists of load balancers and target groups and the tags of the load balancers: what is
// needed to find where a weight is to be changed. Tags cost one call for twenty resources, so those of
// target groups are the longest part of a start.
func (c *Cloud) readBalancers(ctx context.Context, lane budget.Lane, notBefore time.Time) error {
	c.filled.mu.Lock()
	at := c.filled.balancersAt
	c.filled.mu.Unlock()
	if at.Order != 0 && !at.Time.Before(notBefore) {
		return nil
	}
	return c.join(ctx, lane, "balancers", notBefore, mirror.Moment{}, func(ctx context.Context) error {
		began := c.moment()
		if err := c.listLoadBalancers(ctx, lane); err != nil {
			return err
		}
		if err := c.listTargetGroups(ctx, lane); err != nil {
			return err
		}
		if err := c.listTags(ctx, lane, c.untagged(c.have.loadBalancers.Keys())); err != nil {
			return err
		}
		c.filled.mu.Lock()
		defer c.filled.mu.Unlock()
		if c.filled.doubtedAt.Before(began) {
			c.filled.balancersAt = began
		}
		return nil
	})
}

// readAttachedTags reads the tags of the target groups that load balancers use, where they are not known.
func (c *Cloud) readAttachedTags(ctx context.Context, lane budget.Lane, loadBalancers []string) error {
	var attached []string
	for arn, group := range c.have.targetGroups.All() {
		if slices.ContainsFunc(group.LoadBalancerARNs, func(lb string) bool { return slices.Contains(loadBalancers, lb) }) {
			attached = append(attached, arn)
		}
	}
	slices.Sort(attached)
	return c.listTags(ctx, lane, c.untagged(attached))
}

func (c *Cloud) listLoadBalancers(ctx context.Context, lane budget.Lane) error {
	var begun mirror.Moment
	listed := map[string]bool{}
	in := &elb.DescribeLoadBalancersInput{}
	for {
		out, at, err := readELB(ctx, c, lane, "", (*elb.Client).DescribeLoadBalancers, in)
		if err != nil {
			return err
		}
		if begun.Order == 0 {
			begun = at
		}
		for _, lb := range out.LoadBalancers {
			if aws.ToString(lb.VpcId) == c.vpc.ID {
				listed[aws.ToString(lb.LoadBalancerArn)] = true
				c.sawLoadBalancer(begun, fromLoadBalancer(lb))
			}
		}
		if aws.ToString(out.NextMarker) == "" {
			break
		}
		in.Marker = out.NextMarker
	}
	for _, arn := range c.have.loadBalancers.Keys() {
		if !listed[arn] && c.have.loadBalancers.Missing(arn, begun, c.now()) {
			c.forgetLoadBalancer(arn)
		}
	}
	return nil
}

func (c *Cloud) sawLoadBalancer(begun mirror.Moment, lb model.ObservedLoadBalancer) {
	before := c.have.loadBalancers.Version(lb.ARN)
	c.have.loadBalancers.Read(lb.ARN, begun, c.now(), lb)
	if before != 0 && c.have.loadBalancers.Version(lb.ARN) != before {
		c.notify(Change{StackID: c.stackOf(lb.ARN), Kind: ChangeConfiguration})
	}
}

func (c *Cloud) listTargetGroups(ctx context.Context, lane budget.Lane) error {
	var begun mirror.Moment
	listed := map[string]bool{}
	in := &elb.DescribeTargetGroupsInput{}
	for {
		out, at, err := readELB(ctx, c, lane, "", (*elb.Client).DescribeTargetGroups, in)
		if err != nil {
			return err
		}
		if begun.Order == 0 {
			begun = at
		}
		for _, group := range out.TargetGroups {
			if aws.ToString(group.VpcId) == c.vpc.ID {
				listed[aws.ToString(group.TargetGroupArn)] = true
				c.sawTargetGroup(begun, fromTargetGroup(group))
			}
		}
		if aws.ToString(out.NextMarker) == "" {
			break
		}
		in.Marker = out.NextMarker
	}
	for _, arn := range c.have.targetGroups.Keys() {
		if !listed[arn] && c.have.targetGroups.Missing(arn, begun, c.now()) {
			c.forgetTargetGroup(arn)
		}
	}
	return nil
}

// sawTargetGroup and sawSecurityGroup take up what a list shows, and tell of what others have changed.
func (c *Cloud) sawTargetGroup(begun mirror.Moment, group model.ObservedTargetGroup) {
	known := c.have.targetGroups.Version(group.ARN) != 0
	if c.have.targetGroups.Read(group.ARN, begun, c.now(), group) == mirror.Changed && known {
		c.notify(Change{StackID: c.stackOf(group.ARN), TargetGroupARN: group.ARN, Kind: ChangeConfiguration})
	}
}

func (c *Cloud) sawSecurityGroup(begun mirror.Moment, group model.ObservedSecurityGroup) {
	before, known := c.have.securityGroups.Believed(group.GroupID)
	if c.have.securityGroups.Read(group.GroupID, begun, c.now(), group) == mirror.Changed && known {
		c.notifyGroup(before)
	}
}

// notifyGroup tells the stack of a security group of this cluster that it has changed.
func (c *Cloud) notifyGroup(group model.ObservedSecurityGroup) {
	if stack := group.Tags[model.TagStack]; stack != "" && model.ClusterOf(group.Tags) == c.config.ClusterName {
		c.notify(Change{StackID: stack, Kind: ChangeConfiguration})
	}
}

func (c *Cloud) listSecurityGroups(ctx context.Context, lane budget.Lane) error {
	began := c.moment()
	listed, err := c.readSecurityGroups(ctx, lane, "", &ec2.DescribeSecurityGroupsInput{Filters: ec2Owned(c.vpc.ID)})
	if err != nil {
		return err
	}
	for id, group := range c.have.securityGroups.All() {
		if model.ClusterOf(group.Tags) == c.config.ClusterName && !listed[id] && c.have.securityGroups.Missing(id, began, c.now()) {
			c.notifyGroup(group)
		}
	}
	return nil
}

// untagged keeps the resources whose tags are not known.
func (c *Cloud) untagged(arns []string) []string {
	return slices.DeleteFunc(arns, func(arn string) bool {
		_, known := c.have.tags.Believed(arn)
		return known && !c.have.tags.Doubtful(arn)
	})
}

// listTags reads the tags of resources into the mirror, 20 with each call. A resource that is gone
// meanwhile makes AWS refuse the whole call; then its part is read one by one.
func (c *Cloud) listTags(ctx context.Context, lane budget.Lane, arns []string) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(tagReads)
	for part := range slices.Chunk(arns, arnsPerTagRead) {
		group.Go(func() error {
			err := c.readTags(ctx, lane, part)
			if !errors.Is(err, ErrNotFound) {
				return err
			}
			for _, arn := range part {
				if err := c.readTags(ctx, lane, []string{arn}); err != nil && !errors.Is(err, ErrNotFound) {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func (c *Cloud) readTags(ctx context.Context, lane budget.Lane, arns []string) error {
	out, begun, err := readELB(ctx, c, lane, arns[0], (*elb.Client).DescribeTags, &elb.DescribeTagsInput{ResourceArns: arns})
	if err != nil {
		return err
	}
	for _, description := range out.TagDescriptions {
		arn := aws.ToString(description.ResourceArn)
		before := c.have.tags.Version(arn)
		c.have.tags.Read(arn, begun, c.now(), fromTags(description.Tags))
		if before != 0 && c.have.tags.Version(arn) != before {
			c.notify(Change{StackID: c.stackOf(arn), Kind: ChangeConfiguration})
		}
	}
	return nil
}

// young reports whether AWS's reads may not show yet what we wrote then: a write that was accepted proves that
// the resource exists, whatever a read says soon after.
func (c *Cloud) young(wrote mirror.Moment) bool {
	return wrote.Order != 0 && c.now().Sub(wrote.Time) < c.settings.StaleWindow
}

// forgetLoadBalancer drops a load balancer that is gone, with its listeners.
func (c *Cloud) forgetLoadBalancer(arn string) {
	stack := c.stackOf(arn)
	listeners, _ := c.have.listeners.Believed(arn)
	for _, listener := range listeners {
		c.forgetListener(listener.ARN)
	}
	at := c.moment()
	c.have.listeners.Forget(arn, at)
	c.have.loadBalancers.Forget(arn, at)
	c.have.attributes.Forget(arn, at)
	c.have.tags.Forget(arn, at)
	c.filled.mu.Lock()
	delete(c.filled.arns, arn)
	c.filled.mu.Unlock()
	c.notify(Change{StackID: stack, Kind: ChangeConfiguration})
}

// forgetListener drops what is known below a listener that is gone; the load balancer's list of listeners
// is for the next read to correct.
func (c *Cloud) forgetListener(arn string) {
	at := c.moment()
	if known, ok := c.have.routes.Believed(arn); ok {
		for _, rule := range known.Rules {
			c.have.tags.Forget(rule.ARN, at)
		}
	}
	c.have.routes.Forget(arn, at)
	c.late.forget(arn)
	c.have.certificates.Forget(arn, at)
	c.have.attributes.Forget(arn, at)
	c.have.tags.Forget(arn, at)
	c.have.listeners.Doubt(loadBalancerOf(arn))
}

func (c *Cloud) forgetTargetGroup(arn string) {
	stack := c.stackOf(arn)
	at := c.moment()
	c.have.targetGroups.Forget(arn, at)
	c.have.targets.Forget(arn, at)
	c.have.attributes.Forget(arn, at)
	c.have.tags.Forget(arn, at)
	c.notify(Change{StackID: stack, TargetGroupARN: arn, Kind: ChangeConfiguration})
}
