package ec2

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// This file is what somebody in the same process asks who runs machines: a kubelet, or a program outside.

// Instance is a machine as its kubelet sees it.
type Instance struct {
	ID      string
	Zone    string
	Address netip.Addr // private, primary
	// Interface is the id of the network interface that owns Address and the addresses of pods.
	Interface string
	Subnet    string
}

// NodeSpec is a machine that is to be started for a cluster.
type NodeSpec struct {
	Name string
	// Cluster is the name in the tag kubernetes.io/cluster/<name>. Empty: the one of the configuration.
	Cluster string
	// Zone is where, in its private subnet.
	Zone string
}

// AddInstance starts an instance in the private subnet of a zone, with the security group of the
// nodes. It fails if there is no such zone or its subnet is full.
func (s *Service) AddInstance(zone, name string) (Instance, error) {
	return s.AddNode(NodeSpec{Name: name, Zone: zone})
}

// AddNode is AddInstance for a node of a certain cluster. Several clusters can share the VPC; the security group of nodes is then that of all.
func (s *Service) AddNode(spec NodeSpec) (Instance, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	fail := func(format string, args ...any) (Instance, error) {
		return Instance{}, fmt.Errorf("cannot start instance %s: %w", spec.Name, fmt.Errorf(format, args...))
	}
	home := s.privateSubnet(spec.Zone)
	if home == nil {
		return fail("there is no zone %q, only %s", spec.Zone, strings.Join(s.config.Zones, ", "))
	}
	id := s.config.IDs.EC2("i", spec.Name)
	face := interfaceSpec{name: spec.Name, subnet: home, groups: []string{s.nodeGroup}, kind: types.NetworkInterfaceTypeInterface}
	if err := face.check(); err != nil {
		return fail("%w", err)
	}
	n := s.newInterface(face)
	n.check = false // pods send from addresses of theirs
	n.attachment = &attachment{id: s.config.IDs.EC2("eni-attach", spec.Name), instance: id, deleteOnTermination: true, since: time.Now().UTC()}
	s.interfaces.settle(n.id, n)
	m := s.newInstance(id, *home.AvailabilityZone, []*networkInterface{n}, "r-"+id[2:])
	m.external = true
	s.instances.settle(id, m)
	s.setTags(id, "Name", spec.Name, clusterTag(cmp.Or(spec.Cluster, s.config.Cluster)), "owned")
	return Instance{ID: id, Zone: *home.AvailabilityZone, Address: n.primary, Interface: n.id, Subnet: *home.SubnetId}, nil
}

// RemoveInstance terminates an instance: its interfaces and every address of it go, at once. It stays visible as
// terminated. One that is terminated already stays so.
func (s *Service) RemoveInstance(id string) error {
	s.mu.Lock()
	m, ok := s.instances.get(id)
	if ok && m.State.Name != types.InstanceStateNameTerminated {
		m = changed(s.terminated(m), func(m *instance) {
			m.State = stateOf(types.InstanceStateNameTerminated)
			m.transition++
		})
		s.instances.settle(id, m)
		s.untold = append(s.untold, m.machine())
	}
	s.mu.Unlock()
	if !ok {
		return fmt.Errorf("cannot terminate instance %s: there is none of that id", id)
	}
	s.announce()
	return nil
}

// AssignPodAddress gives an instance's interface one more address of its subnet, for a pod.
func (s *Service) AssignPodAddress(instance string) (netip.Addr, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.instances.get(instance)
	if !ok || len(m.interfaces) == 0 {
		return netip.Addr{}, fmt.Errorf("cannot assign a pod address on instance %s: there is none of that id that runs", instance)
	}
	n, _ := s.interfaces.get(m.interfaces[0])
	home, _ := s.subnets.get(n.subnet)
	a, ok := s.take(home)
	if !ok {
		return netip.Addr{}, fmt.Errorf("cannot assign a pod address on instance %s: subnet %s is full", instance, n.subnet)
	}
	s.byAddress[place{n.vpc, a}] = n.id
	s.interfaces.settle(n.id, changed(n, func(n *networkInterface) { n.secondary = append(n.secondary, a) }))
	return a, nil
}

// ReleasePodAddress takes a pod's address back. It fails if the address is no pod's.
func (s *Service) ReleasePodAddress(a netip.Addr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.owner(a)
	if n == nil || n.primary == a {
		return fmt.Errorf("cannot release %s: it is the address of no pod", a)
	}
	home, _ := s.subnets.get(n.subnet)
	delete(s.byAddress, place{n.vpc, a})
	s.interfaces.settle(n.id, changed(n, func(n *networkInterface) {
		n.secondary = slices.DeleteFunc(slices.Clone(n.secondary), func(other netip.Addr) bool { return other == a })
	}))
	home.give(a)
	return nil
}

// InstanceState is what registering an instance as a target needs.
type InstanceState struct {
	VPC     string
	Address netip.Addr
	Zone    string
	Running bool
}

// InstanceByID finds an instance that is not terminated.
func (s *Service) InstanceByID(id string) (InstanceState, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.instances.get(id)
	if !ok || m.State.Name == types.InstanceStateNameTerminated {
		return InstanceState{}, false
	}
	a, _ := netip.ParseAddr(deref(m.PrivateIpAddress))
	return InstanceState{
		VPC: deref(m.VpcId), Address: a, Zone: *m.Placement.AvailabilityZone, Running: m.State.Name == types.InstanceStateNameRunning,
	}, true
}

func (s *Service) privateSubnet(zone string) *subnet {
	n, ok := s.subnets.first(func(n *subnet) bool {
		name := s.config.Cluster + "-private-" + zone
		tags, _ := s.tags.get(*n.SubnetId)
		return *n.VpcId == s.vpc && *n.AvailabilityZone == zone && tags["Name"] == name
	})
	if !ok {
		n, ok = s.subnets.first(func(n *subnet) bool { return *n.VpcId == s.vpc && *n.AvailabilityZone == zone && !s.public(n) })
	}
	if !ok {
		return nil
	}
	return n
}

// Machine is an instance and the state in which it is.
type Machine struct {
	ID    string                  `json:"id"`
	State types.InstanceStateName `json:"state"`
}

func (m *instance) machine() Machine { return Machine{*m.InstanceId, m.State.Name} }

// MachineByID tells how an instance is at this moment. One of which nothing is known any more has ended.
func (s *Service) MachineByID(id string) Machine {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, ok := s.instances.get(id)
	if !ok {
		return Machine{id, types.InstanceStateNameTerminated}
	}
	return m.machine()
}

// announce tells of the instances that have changed. The caller holds no lock.
func (s *Service) announce() {
	s.mu.Lock()
	news := s.untold
	s.untold = nil
	s.mu.Unlock()
	if s.config.Changed == nil {
		return
	}
	for _, m := range news {
		s.config.Changed(m)
	}
}
