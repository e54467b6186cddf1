package ec2

import (
	"maps"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
)

// built is what the network of a new account has that calls can change.
type built struct {
	groups map[string]*securityGroup
	tags   map[string]map[string]string
}

func (s *Service) remember() built {
	b := built{groups: map[string]*securityGroup{}, tags: map[string]map[string]string{}}
	for id, g := range s.groups {
		b.groups[id] = g.Get()
	}
	for id, tags := range s.tags {
		b.tags[id] = maps.Clone(tags)
	}
	return b
}

// Reset makes the network what it was at first, but for instances with their addresses and tags: whoever runs them still
// does. The interfaces of load balancers go.
func (s *Service) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, n := range s.interfaces {
		if n.balancer {
			s.dropInterface(n)
		}
	}
	clear(s.groups)
	clear(s.inForce)
	for id, g := range s.built.groups {
		s.groups[id] = eventual.Settled(s.model, id, g)
		s.inForce[id] = newInForce(g)
	}
	for _, n := range s.interfaces {
		n.groups = []string{s.nodeGroup}
	}
	s.tellAll()
	for id, machine := range s.instances {
		if machine.State.Name == types.InstanceStateNameTerminated {
			delete(s.instances, id)
		}
	}
	for id := range s.tags {
		if s.instances[id] == nil && s.interfaces[id] == nil {
			delete(s.tags, id)
		}
	}
	for id, tags := range s.built.tags {
		s.tags[id] = maps.Clone(tags)
	}
	for _, n := range s.subnets {
		n.cursor = n.prefix.Addr()
		for range 3 {
			n.cursor = n.cursor.Next()
		}
	}
}
