package ec2

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
)

// Instance is a machine as its kubelet sees it.
type Instance struct {
	ID      string
	Zone    string
	Address netip.Addr // private, primary
	// Interface is the id of the network interface that owns Address and the addresses of pods.
	Interface string
	Subnet    string
}

// AddInstance starts an instance in the private subnet of a zone, with the security group of the
// nodes. It fails if there is no such zone or its subnet is full.
func (s *Service) AddInstance(zone, name string) (Instance, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	home := s.privateSubnet(zone)
	if home == nil {
		return Instance{}, fmt.Errorf("cannot start instance %s: there is no zone %q, only %s", name, zone, strings.Join(s.config.Zones, ", "))
	}
	id := s.config.IDs.EC2("i", name)
	n, err := s.addInterface(interfaceSpec{name: name, subnet: home, groups: []string{s.nodeGroup}, kind: types.NetworkInterfaceTypeInterface})
	if err != nil {
		return Instance{}, fmt.Errorf("cannot start instance %s: %w", name, err)
	}
	n.instance, n.attachment = id, s.config.IDs.EC2("eni-attach", name)
	s.instances[id] = &types.Instance{
		InstanceId: new(id), InstanceType: types.InstanceTypeM5Large, ImageId: new("ami-0123456789abcdef0"),
		State:     &types.InstanceState{Name: types.InstanceStateNameRunning, Code: new(int32(16))},
		Placement: &types.Placement{AvailabilityZone: new(zone), Tenancy: types.TenancyDefault},
		VpcId:     s.vpc.VpcId, SubnetId: home.SubnetId, LaunchTime: new(time.Now().UTC()),
		PrivateIpAddress: new(n.primary.String()), PrivateDnsName: new(s.privateName(n.primary)),
		Architecture: types.ArchitectureValuesX8664, RootDeviceType: types.DeviceTypeEbs, Hypervisor: types.HypervisorTypeXen,
		SourceDestCheck: new(false),
	}
	s.setTags(id, "Name", name, s.clusterTag(), "owned")
	return Instance{ID: id, Zone: zone, Address: n.primary, Interface: n.id, Subnet: *home.SubnetId}, nil
}

// RemoveInstance terminates an instance: its interface and every address of it go. It stays visible as
// terminated.
func (s *Service) RemoveInstance(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	machine := s.instances[id]
	if machine == nil {
		return fmt.Errorf("cannot terminate instance %s: there is none of that id", id)
	}
	for _, n := range s.interfacesOf(id) {
		s.dropInterface(n)
	}
	gone := *machine
	gone.State = &types.InstanceState{Name: types.InstanceStateNameTerminated, Code: new(int32(48))}
	gone.PrivateIpAddress, gone.PrivateDnsName, gone.SubnetId, gone.VpcId = nil, new(""), nil, nil
	s.instances[id] = &gone
	return nil
}

// AssignPodAddress gives an instance's interface one more address of its subnet, for a pod.
func (s *Service) AssignPodAddress(instance string) (netip.Addr, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	owned := s.interfacesOf(instance)
	if len(owned) == 0 {
		return netip.Addr{}, fmt.Errorf("cannot assign a pod address on instance %s: there is none of that id that runs", instance)
	}
	n := owned[0]
	a, ok := n.subnet.take()
	if !ok {
		return netip.Addr{}, fmt.Errorf("cannot assign a pod address on instance %s: subnet %s is full", instance, *n.subnet.SubnetId)
	}
	n.secondary = append(n.secondary, a)
	s.byAddress[a] = n
	s.readdressed(n)
	return a, nil
}

// ReleasePodAddress takes a pod's address back. It fails if the address is no pod's.
func (s *Service) ReleasePodAddress(a netip.Addr) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.byAddress[a]
	if n == nil || n.primary == a {
		return fmt.Errorf("cannot release %s: it is the address of no pod", a)
	}
	n.secondary = slices.DeleteFunc(n.secondary, func(other netip.Addr) bool { return other == a })
	delete(s.byAddress, a)
	s.readdressed(n)
	n.subnet.give(a)
	return nil
}

// InstanceState is what registering an instance as a target needs.
type InstanceState struct {
	Address netip.Addr
	Zone    string
	Running bool
}

// InstanceByID finds an instance that is not terminated.
func (s *Service) InstanceByID(id string) (InstanceState, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	machine := s.instances[id]
	if machine == nil || machine.State.Name == types.InstanceStateNameTerminated {
		return InstanceState{}, false
	}
	a, _ := netip.ParseAddr(deref(machine.PrivateIpAddress))
	return InstanceState{Address: a, Zone: *machine.Placement.AvailabilityZone, Running: machine.State.Name == types.InstanceStateNameRunning}, true
}

func (s *Service) privateSubnet(zone string) *subnet {
	for _, n := range s.subnets {
		if !n.public && *n.AvailabilityZone == zone {
			return n
		}
	}
	return nil
}

func (s *Service) privateName(a netip.Addr) string {
	return "ip-" + strings.ReplaceAll(a.String(), ".", "-") + "." + s.config.Region + ".compute.internal"
}

// DescribeInstances lists instances, each in a reservation of its own.
func (s *Service) DescribeInstances(_ eventual.Reader, in *ec2.DescribeInstancesInput) (*ec2.DescribeInstancesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*types.Instance
	for _, machine := range s.instances {
		all = append(all, machine)
	}
	found, next, err := find(s.instanceKind(), all, s.tags, query{in.InstanceIds, in.Filters, in.MaxResults, in.NextToken})
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeInstancesOutput{NextToken: next, Reservations: []types.Reservation{}}
	for _, machine := range found {
		shown := *machine
		shown.Tags = s.tagList(*machine.InstanceId)
		for _, n := range s.interfacesOf(*machine.InstanceId) {
			shown.NetworkInterfaces = append(shown.NetworkInterfaces, s.instanceInterface(n))
			shown.SecurityGroups = s.groupIdentifiers(n.groups)
		}
		out.Reservations = append(out.Reservations, types.Reservation{
			ReservationId: new("r-" + (*machine.InstanceId)[2:]), OwnerId: new(s.config.AccountID), Instances: []types.Instance{shown},
		})
	}
	return out, nil
}

func (s *Service) instanceKind() kind[*types.Instance] {
	return kind[*types.Instance]{
		id:       func(i *types.Instance) string { return *i.InstanceId },
		notFound: "InvalidInstanceID.NotFound", malformed: "InvalidInstanceID.Malformed", prefix: "i-", idsExcludePages: true,
		filters: map[string]func(*types.Instance) []string{
			"instance-id":         func(i *types.Instance) []string { return one(i.InstanceId) },
			"instance-type":       func(i *types.Instance) []string { return []string{string(i.InstanceType)} },
			"instance-state-name": func(i *types.Instance) []string { return []string{string(i.State.Name)} },
			"instance-state-code": func(i *types.Instance) []string { return []string{fmt.Sprint(*i.State.Code)} },
			"private-ip-address":  func(i *types.Instance) []string { return one(i.PrivateIpAddress) },
			"private-dns-name":    func(i *types.Instance) []string { return one(i.PrivateDnsName) },
			"subnet-id":           func(i *types.Instance) []string { return one(i.SubnetId) },
			"vpc-id":              func(i *types.Instance) []string { return one(i.VpcId) },
			"availability-zone":   func(i *types.Instance) []string { return one(i.Placement.AvailabilityZone) },
			"network-interface.addresses.private-ip-address": func(i *types.Instance) []string {
				var addresses []string
				for _, n := range s.interfacesOf(*i.InstanceId) {
					addresses = append(addresses, n.addresses()...)
				}
				return addresses
			},
			"instance.group-id": func(i *types.Instance) []string {
				var groups []string
				for _, n := range s.interfacesOf(*i.InstanceId) {
					groups = append(groups, n.groups...)
				}
				return groups
			},
		},
	}
}
