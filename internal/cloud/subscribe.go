package cloud

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/lockstep-delivery/lockstep/internal/balancing/model"
)

// subscribers are told of changes in the order in which they subscribed.
type subscribers struct {
	mu   sync.Mutex
	next int
	list map[int]func(Change)
}

// Subscribe calls changed after each change of the mirror that somebody may act on, until cancel. It is
// called on the goroutine that noticed the change and must not block: put a key in a queue, no more.
func (c *Cloud) Subscribe(changed func(Change)) (cancel func()) {
	s := &c.subscribers
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.list == nil {
		s.list = map[int]func(Change){}
	}
	id := s.next
	s.next++
	s.list[id] = changed
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.list, id)
	}
}

func (c *Cloud) notify(change Change) {
	s := &c.subscribers
	s.mu.Lock()
	var list []func(Change)
	for _, id := range slices.Sorted(maps.Keys(s.list)) {
		list = append(list, s.list[id])
	}
	s.mu.Unlock()
	for _, changed := range list {
		changed(change)
	}
}

// notifyTraffic tells that a listener's routes were written or seen anew.
func (c *Cloud) notifyTraffic(listenerARN string) {
	c.notify(Change{StackID: c.stackOf(loadBalancerOf(listenerARN)), Kind: ChangeTraffic})
}

// stackOf returns the stack tag's value of a load balancer or target group, as far as it is known.
func (c *Cloud) stackOf(arn string) string {
	tags, _ := c.have.tags.Believed(arn)
	return tags[model.TagStack]
}

// ELBv2's ARNs hold those of their parents:
//
//	arn:aws:elasticloadbalancing:R:A:loadbalancer/app/name/lb
//	arn:aws:elasticloadbalancing:R:A:listener/app/name/lb/listener
//	arn:aws:elasticloadbalancing:R:A:listener-rule/app/name/lb/listener/rule

// listenerOf gives the listener of a rule.
func listenerOf(ruleARN string) string {
	return parent(ruleARN, ":listener-rule/", ":listener/")
}

// loadBalancerOf gives the load balancer of a listener.
func loadBalancerOf(listenerARN string) string {
	return parent(listenerARN, ":listener/", ":loadbalancer/")
}

// kindOfARN gives loadbalancer, targetgroup, listener or listener-rule.
func kindOfARN(arn string) string {
	resource := arn[strings.LastIndexByte(arn, ':')+1:]
	kind, _, _ := strings.Cut(resource, "/")
	return kind
}

func parent(arn, kind, parentKind string) string {
	last := strings.LastIndexByte(arn, '/')
	if last < 0 {
		return arn
	}
	return strings.Replace(arn[:last], kind, parentKind, 1)
}
