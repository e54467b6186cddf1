package cloud

import (
	"slices"
	"sync"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
)

// index finds load balancers and target groups by their tags. It is made anew when a table behind it has
// changed, which is seldom: neither weights nor health are in them.
type index struct {
	mu   sync.Mutex
	made [3]uint64
	// loadBalancers and targetGroups are ARNs by stack tag, resources are target groups' by resource tag;
	// sorted, of all clusters.
	loadBalancers, targetGroups, resources map[string][]string
}

// byTag gives the index of what is known now. The maps must not be written to.
func (c *Cloud) byTag() (loadBalancers, targetGroups, resources map[string][]string) {
	x := &c.index
	x.mu.Lock()
	defer x.mu.Unlock()
	now := [3]uint64{c.have.tags.Changes(), c.have.loadBalancers.Changes(), c.have.targetGroups.Changes()}
	if x.made == now {
		return x.loadBalancers, x.targetGroups, x.resources
	}
	tags := c.have.tags.All()
	x.loadBalancers, x.targetGroups, x.resources = map[string][]string{}, map[string][]string{}, map[string][]string{}
	add := func(to map[string][]string, key, arn string) {
		if key != "" {
			to[key] = append(to[key], arn)
		}
	}
	for _, arn := range c.have.loadBalancers.Keys() {
		add(x.loadBalancers, tags[arn][model.TagStack], arn)
	}
	for _, arn := range c.have.targetGroups.Keys() {
		add(x.targetGroups, tags[arn][model.TagStack], arn)
		add(x.resources, tags[arn][model.TagResource], arn)
	}
	x.made = now
	return x.loadBalancers, x.targetGroups, x.resources
}

// ownLoadBalancers and ownTargetGroups are those of this cluster with the stack tag, sorted.
func (c *Cloud) ownLoadBalancers(stackID string) []string {
	loadBalancers, _, _ := c.byTag()
	return c.carrying(loadBalancers[stackID], c.config.ClusterName)
}

func (c *Cloud) ownTargetGroups(stackID string) []string {
	_, targetGroups, _ := c.byTag()
	return c.carrying(targetGroups[stackID], c.config.ClusterName)
}

// carrying keeps the resources with the cluster's tag; "*" stands for any cluster.
func (c *Cloud) carrying(arns []string, cluster string) []string {
	return slices.DeleteFunc(slices.Clone(arns), func(arn string) bool {
		tags, _ := c.have.tags.Believed(arn)
		owner := model.ClusterOf(tags)
		return owner != cluster && (cluster != "*" || owner == "")
	})
}
