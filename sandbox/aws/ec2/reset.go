package ec2

import (
	"maps"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// built is what the network of a new account has.
type built struct {
	vpcs        map[string]*vpc
	subnets     map[string]*subnet
	routeTables map[string]*types.RouteTable
	gateways    map[string]*types.InternetGateway
	groups      map[string]*securityGroup
	tags        map[string]map[string]string
}

func (s *Service) remember() built {
	return built{
		s.vpcs.truths(), s.subnets.truths(), s.routeTables.truths(), s.gateways.truths(), s.groups.truths(), s.tags.truths(),
	}
}

// Reset makes the network what it was at first, but for instances that somebody runs, with their first interfaces, addresses and tags: they run on.
// Those that calls have started go, and so do the interfaces of load balancers. Config.Changed is told of an instance that was stopped and runs again.
func (s *Service) Reset() {
	s.reset()
	s.announce()
}

func (s *Service) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	stays := func(n *networkInterface) bool {
		m, ok := s.instances.get(n.attachedTo().instance)
		return ok && m.external && n.attachment.device == 0
	}
	for _, n := range s.interfaces.all {
		if !stays(n) {
			s.dropInterface(n)
		}
	}
	s.vpcs.restore(s.built.vpcs, nil)
	s.subnets.restore(s.built.subnets, nil)
	s.routeTables.restore(s.built.routeTables, nil)
	s.gateways.restore(s.built.gateways, nil)
	s.groups.restore(s.built.groups, nil)
	s.addresses.restore(nil, nil)
	s.prefixLists.restore(nil, nil)
	clear(s.groupsInForce)
	clear(s.listsInForce)
	for id, g := range s.groups.all {
		s.groupsInForce[id] = begin(g.name, g)
	}
	s.tokens = newTokens()
	clear(s.held)
	s.publicPool, s.blocks6 = newPool(publicBlock), 0
	for _, n := range s.subnets.all {
		n.rewind()
	}
	for id, n := range s.interfaces.all {
		s.interfaces.settle(id, changed(n, func(n *networkInterface) {
			n.groups, n.six, n.public, n.check, n.description = []string{s.nodeGroup}, nil, noAddress, false, ""
		}))
	}
	for id, m := range s.instances.all {
		left := s.interfacesOf(m)
		if !m.external || len(left) == 0 {
			s.instances.drop(id)
			continue
		}
		runs := changed(m, func(m *instance) {
			m.State, m.interfaces = stateOf(types.InstanceStateNameRunning), []string{left[0].id}
			m.transition++
		})
		s.instances.settle(id, runs)
		if m.State.Name != types.InstanceStateNameRunning {
			s.untold = append(s.untold, runs.machine())
		}
	}
	for id := range s.tags.all {
		if !s.instances.has(id) && !s.interfaces.has(id) {
			s.tags.drop(id)
		}
	}
	s.tellAll()
	for id, tags := range s.built.tags {
		s.tags.settle(id, maps.Clone(tags))
	}
}
