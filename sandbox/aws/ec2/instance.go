package ec2

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// instance is a virtual machine, without a machine. It is never changed in place.
//
//	RunInstances                StopInstances
//	   |                             |
//	pending ---> running ---> stopping ---> stopped
//	   ^            |                          |  |
//	   |            +--- TerminateInstances ---|--+
//	   |                       |               |
//	   |                 shutting-down     StartInstances
//	   |                       |               |
//	   |                   terminated          |
//	   +---------------------------------------+
//
// How long the states in between take is in the profile. A terminated instance is shown for an hour.
type instance struct {
	types.Instance
	// interfaces are their ids, in the order of attachment.
	interfaces  []string
	reservation string
	// external instances are those of a cluster or program that runs outside of this service.
	external bool
	// transition counts the changes of state, so that a late end of one is not taken for that of another.
	transition int
	terminated time.Time
}

// remembered is how long terminated instances are shown.
const remembered = time.Hour

// states are those of instances with their codes.
var states = map[types.InstanceStateName]int32{
	types.InstanceStateNamePending: 0, types.InstanceStateNameRunning: 16, types.InstanceStateNameShuttingDown: 32,
	types.InstanceStateNameTerminated: 48, types.InstanceStateNameStopping: 64, types.InstanceStateNameStopped: 80,
}

func stateOf(name types.InstanceStateName) *types.InstanceState {
	return &types.InstanceState{Name: name, Code: new(states[name])}
}

// ofInterfaces compares with something of all interfaces of an instance.
func ofInterfaces(of func(*Service, *networkInterface) []string) func(*Service, *instance) []string {
	return func(s *Service, m *instance) []string {
		return each(s.interfacesOf(m), func(n *networkInterface) []string { return of(s, n) })
	}
}

var instanceKind = kind[*instance]{
	id: func(m *instance) string { return *m.InstanceId }, ids: instanceID, idsExcludePages: true, filters: instanceFilters(),
}

func instanceFilters() filters[*instance] {
	all := filters[*instance]{
		"architecture":        func(_ *Service, m *instance) []string { return given(string(m.Architecture)) },
		"availability-zone":   func(_ *Service, m *instance) []string { return one(m.Placement.AvailabilityZone) },
		"client-token":        func(_ *Service, m *instance) []string { return one(m.ClientToken) },
		"dns-name":            func(s *Service, m *instance) []string { return one(s.shownInstance(m).PublicDnsName) },
		"image-id":            func(_ *Service, m *instance) []string { return one(m.ImageId) },
		"instance-id":         func(_ *Service, m *instance) []string { return one(m.InstanceId) },
		"instance-state-name": func(_ *Service, m *instance) []string { return given(string(m.State.Name)) },
		"instance-state-code": func(_ *Service, m *instance) []string { return given(fmt.Sprint(*m.State.Code)) },
		"instance-type":       func(_ *Service, m *instance) []string { return given(string(m.InstanceType)) },
		"ip-address":          func(s *Service, m *instance) []string { return one(s.shownInstance(m).PublicIpAddress) },
		"key-name":            func(_ *Service, m *instance) []string { return one(m.KeyName) },
		"owner-id":            func(s *Service, _ *instance) []string { return given(s.config.AccountID) },
		"private-dns-name":    func(_ *Service, m *instance) []string { return one(m.PrivateDnsName) },
		"private-ip-address":  func(_ *Service, m *instance) []string { return one(m.PrivateIpAddress) },
		"reservation-id":      func(_ *Service, m *instance) []string { return given(m.reservation) },
		"root-device-type":    func(_ *Service, m *instance) []string { return given(string(m.RootDeviceType)) },
		"subnet-id":           func(_ *Service, m *instance) []string { return one(m.SubnetId) },
		"tenancy":             func(_ *Service, m *instance) []string { return given(string(m.Placement.Tenancy)) },
		"vpc-id":              func(_ *Service, m *instance) []string { return one(m.VpcId) },
		"instance.group-id":   ofInterfaces(func(_ *Service, n *networkInterface) []string { return n.groups }),
		"instance.group-name": ofInterfaces(func(s *Service, n *networkInterface) []string {
			return each(s.groupIdentifiers(n.groups), func(g types.GroupIdentifier) []string { return one(g.GroupName) })
		}),
		"network-interface.group-name": ofInterfaces(func(s *Service, n *networkInterface) []string {
			return each(s.groupIdentifiers(n.groups), func(g types.GroupIdentifier) []string { return one(g.GroupName) })
		}),
	}
	// Most filters of interfaces are filters of their instances, too.
	for name, of := range interfaceKind.filters {
		all["network-interface."+name] = ofInterfaces(of)
	}
	return all
}

// interfacesOf are the interfaces that an instance has, in the order of devices. m may be an older version of it, with interfaces that have been
// detached since.
func (s *Service) interfacesOf(m *instance) []*networkInterface {
	var list []*networkInterface
	for _, id := range m.interfaces {
		if n, ok := s.interfaces.get(id); ok && n.attachedTo().instance == *m.InstanceId {
			list = append(list, n)
		}
	}
	slices.SortFunc(list, func(a, b *networkInterface) int { return cmp.Compare(a.attachment.device, b.attachment.device) })
	return list
}

// DescribeInstances lists instances, those that were started together in one reservation.
func (s *Service) DescribeInstances(r eventual.Reader, in *ec2.DescribeInstancesInput) (*ec2.DescribeInstancesOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget()
	found, next, err := list(s, r, instanceKind, s.instances.visible(r), query{in.InstanceIds, in.Filters, in.MaxResults, in.NextToken})
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeInstancesOutput{NextToken: next, Reservations: []types.Reservation{}}
	for _, m := range found {
		shown := s.shownInstance(m)
		shown.Tags = s.tagList(r, *m.InstanceId)
		i := slices.IndexFunc(out.Reservations, func(r types.Reservation) bool { return *r.ReservationId == m.reservation })
		if i < 0 {
			i = len(out.Reservations)
			out.Reservations = append(out.Reservations, types.Reservation{
				ReservationId: new(m.reservation), OwnerId: new(s.config.AccountID), Groups: []types.GroupIdentifier{},
			})
		}
		out.Reservations[i].Instances = append(out.Reservations[i].Instances, shown)
	}
	return out, nil
}

// forget drops the instances that were terminated long ago.
func (s *Service) forget() {
	for id, m := range s.instances.all {
		if !m.terminated.IsZero() && time.Since(m.terminated) > remembered {
			s.instances.drop(id)
			s.tags.drop(id)
		}
	}
}

func (s *Service) shownInstance(m *instance) types.Instance {
	shown := m.Instance
	shown.NetworkInterfaces, shown.SecurityGroups = []types.InstanceNetworkInterface{}, []types.GroupIdentifier{}
	for i, n := range s.interfacesOf(m) {
		shown.NetworkInterfaces = append(shown.NetworkInterfaces, s.instanceInterface(n))
		if i > 0 {
			continue
		}
		shown.SecurityGroups, shown.SourceDestCheck = s.groupIdentifiers(n.groups), new(n.check)
		if a := s.shownAssociation(n, n.primary); a != nil {
			shown.PublicIpAddress, shown.PublicDnsName = a.PublicIp, a.PublicDnsName
		}
		if len(n.six) > 0 {
			shown.Ipv6Address = new(n.six[0].String())
		}
	}
	return shown
}

// instanceInterface is the interface as DescribeInstances shows it.
func (s *Service) instanceInterface(n *networkInterface) types.InstanceNetworkInterface {
	out := types.InstanceNetworkInterface{
		NetworkInterfaceId: new(n.id), Description: new(n.description), MacAddress: new(n.mac), InterfaceType: new(string(n.kind)),
		SubnetId: new(n.subnet), VpcId: new(n.vpc), OwnerId: new(s.config.AccountID), Groups: s.groupIdentifiers(n.groups), SourceDestCheck: new(n.check),
		PrivateIpAddress: new(n.primary.String()), PrivateDnsName: new(s.privateName(n.primary)), Status: n.status(), Ipv6Addresses: []types.InstanceIpv6Address{},
		Attachment: &types.InstanceNetworkInterfaceAttachment{
			AttachmentId: new(n.attachment.id), DeviceIndex: new(n.attachment.device), Status: types.AttachmentStatusAttached, NetworkCardIndex: new(int32(0)),
			DeleteOnTermination: new(n.attachment.deleteOnTermination), AttachTime: new(n.attachment.since),
		},
		PrivateIpAddresses: []types.InstancePrivateIpAddress{}, Association: s.instanceAssociation(s.shownAssociation(n, n.primary)),
	}
	for i, a := range n.all() {
		out.PrivateIpAddresses = append(out.PrivateIpAddresses, types.InstancePrivateIpAddress{
			Primary: new(i == 0), PrivateIpAddress: new(a.String()), PrivateDnsName: new(s.privateName(a)), Association: s.instanceAssociation(s.shownAssociation(n, a)),
		})
	}
	for _, a := range n.six {
		out.Ipv6Addresses = append(out.Ipv6Addresses, types.InstanceIpv6Address{Ipv6Address: new(a.String())})
	}
	return out
}

func (s *Service) instanceAssociation(a *types.NetworkInterfaceAssociation) *types.InstanceNetworkInterfaceAssociation {
	if a == nil {
		return nil
	}
	return &types.InstanceNetworkInterfaceAssociation{PublicIp: a.PublicIp, PublicDnsName: a.PublicDnsName, IpOwnerId: a.IpOwnerId}
}

var statusKind = func() kind[*instance] {
	k := instanceKind
	k.filters = filters[*instance]{
		"availability-zone":            k.filters["availability-zone"],
		"instance-state-name":          k.filters["instance-state-name"],
		"instance-state-code":          k.filters["instance-state-code"],
		"instance-status.status":       func(_ *Service, m *instance) []string { return given(string(summary(m).Status)) },
		"system-status.status":         func(_ *Service, m *instance) []string { return given(string(summary(m).Status)) },
		"instance-status.reachability": func(_ *Service, m *instance) []string { return each(summary(m).Details, reachability) },
		"system-status.reachability":   func(_ *Service, m *instance) []string { return each(summary(m).Details, reachability) },
	}
	return k
}()

func reachability(d types.InstanceStatusDetails) []string { return given(string(d.Status)) }

// summary is what checks of an instance say: nothing goes wrong here.
func summary(m *instance) *types.InstanceStatusSummary {
	if m.State.Name != types.InstanceStateNameRunning {
		return &types.InstanceStatusSummary{Status: types.SummaryStatusNotApplicable}
	}
	return &types.InstanceStatusSummary{Status: types.SummaryStatusOk, Details: []types.InstanceStatusDetails{
		{Name: types.StatusNameReachability, Status: types.StatusTypePassed},
	}}
}

// DescribeInstanceStatus lists the states of instances, of running ones if no others are asked for.
func (s *Service) DescribeInstanceStatus(r eventual.Reader, in *ec2.DescribeInstanceStatusInput) (*ec2.DescribeInstanceStatusOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget()
	found, next, err := list(s, r, statusKind, s.instances.visible(r), query{in.InstanceIds, in.Filters, in.MaxResults, in.NextToken})
	if err != nil {
		return nil, err
	}
	out := &ec2.DescribeInstanceStatusOutput{NextToken: next, InstanceStatuses: []types.InstanceStatus{}}
	for _, m := range found {
		if m.State.Name == types.InstanceStateNameRunning || deref(in.IncludeAllInstances) {
			out.InstanceStatuses = append(out.InstanceStatuses, types.InstanceStatus{
				InstanceId: m.InstanceId, AvailabilityZone: m.Placement.AvailabilityZone, InstanceState: m.State, InstanceStatus: summary(m), SystemStatus: summary(m),
			})
		}
	}
	return out, nil
}

// enter lets an instance be in a state for as long as key says, and then in the next one. With no time to take it is in the next one at once.
func (s *Service) enter(m *instance, state, next types.InstanceStateName, key profile.Key) {
	m = changed(m, func(m *instance) {
		m.State = stateOf(state)
		m.transition++
	})
	id, number := *m.InstanceId, m.transition
	s.instances.put(id, m)
	delay := s.config.Draws.Once(key, fmt.Sprintf("%s#%d", id, number))
	if delay <= 0 {
		s.arrive(id, number, next)
		return
	}
	time.AfterFunc(delay, func() {
		s.mu.Lock()
		s.arrive(id, number, next)
		s.mu.Unlock()
		s.announce()
	})
}

// arrive ends a transition, if there was no other one since.
func (s *Service) arrive(id string, number int, state types.InstanceStateName) {
	m, ok := s.instances.get(id)
	if !ok || m.transition != number {
		return
	}
	if state == types.InstanceStateNameTerminated {
		m = s.terminated(m)
	}
	m = changed(m, func(m *instance) { m.State = stateOf(state) })
	s.instances.put(id, m)
	s.untold = append(s.untold, m.machine())
}

// terminated takes from an instance all that it had: its interfaces end, or are free again.
func (s *Service) terminated(m *instance) *instance {
	for _, n := range s.interfacesOf(m) {
		if n.attachment.deleteOnTermination {
			s.dropInterface(n)
		} else {
			s.interfaces.put(n.id, changed(n, func(n *networkInterface) { n.attachment = nil }))
		}
	}
	return changed(m, func(m *instance) {
		m.interfaces, m.terminated = nil, time.Now()
		m.PrivateIpAddress, m.PrivateDnsName, m.PublicDnsName, m.SubnetId, m.VpcId = nil, new(""), new(""), nil, nil
	})
}

// named are the instances of a request that changes states, each allowed.
func (s *Service) named(r eventual.Reader, ids []string, allowed ...types.InstanceStateName) ([]*instance, error) {
	if len(ids) == 0 {
		return nil, missingParameter("InstanceId")
	}
	var list []*instance
	for _, id := range ids {
		m, err := find(r, instanceID, s.instances, &id, "InstanceId")
		if err != nil {
			return nil, err
		}
		if len(allowed) > 0 && !slices.Contains(allowed, m.State.Name) {
			return nil, wire.Errorf("IncorrectInstanceState", "The instance '%s' is not in a state from which it can be started or stopped: %s.", id, m.State.Name)
		}
		if !slices.Contains(list, m) {
			list = append(list, m)
		}
	}
	return list, nil
}

// move lets instances begin a transition, but not those that are in one of the states in which there is nothing to do.
func (s *Service) move(list []*instance, state, next types.InstanceStateName, key profile.Key, already ...types.InstanceStateName) []types.InstanceStateChange {
	changes := []types.InstanceStateChange{}
	for _, m := range list {
		c := types.InstanceStateChange{InstanceId: m.InstanceId, PreviousState: m.State, CurrentState: m.State}
		if !slices.Contains(already, m.State.Name) {
			c.CurrentState = stateOf(state)
			s.enter(m, state, next, key)
		}
		changes = append(changes, c)
	}
	return changes
}

func (s *Service) startInstances(r eventual.Reader, in *ec2.StartInstancesInput) (func() *ec2.StartInstancesOutput, error) {
	list, err := s.named(r, in.InstanceIds, types.InstanceStateNameStopped, types.InstanceStateNamePending, types.InstanceStateNameRunning)
	if err != nil {
		return nil, err
	}
	return func() *ec2.StartInstancesOutput {
		return &ec2.StartInstancesOutput{StartingInstances: s.move(list, types.InstanceStateNamePending, types.InstanceStateNameRunning,
			profile.InstanceStart, types.InstanceStateNamePending, types.InstanceStateNameRunning)}
	}, nil
}

func (s *Service) stopInstances(r eventual.Reader, in *ec2.StopInstancesInput) (func() *ec2.StopInstancesOutput, error) {
	list, err := s.named(r, in.InstanceIds, types.InstanceStateNameRunning, types.InstanceStateNameStopping, types.InstanceStateNameStopped)
	if err != nil {
		return nil, err
	}
	return func() *ec2.StopInstancesOutput {
		for _, m := range list {
			s.withdrawPublic(m)
		}
		return &ec2.StopInstancesOutput{StoppingInstances: s.move(list, types.InstanceStateNameStopping, types.InstanceStateNameStopped,
			profile.InstanceStop, types.InstanceStateNameStopping, types.InstanceStateNameStopped)}
	}, nil
}

// withdrawPublic takes the public address that an instance got at launch. Elastic ones stay.
func (s *Service) withdrawPublic(m *instance) {
	for _, n := range s.interfacesOf(m) {
		if n.public.IsValid() {
			s.publicPool.give(n.public)
			s.interfaces.put(n.id, changed(n, func(n *networkInterface) { n.public = noAddress }))
		}
	}
}

func (s *Service) rebootInstances(r eventual.Reader, in *ec2.RebootInstancesInput) (func() *ec2.RebootInstancesOutput, error) {
	if _, err := s.named(r, in.InstanceIds, types.InstanceStateNameRunning); err != nil {
		return nil, err
	}
	return func() *ec2.RebootInstancesOutput { return &ec2.RebootInstancesOutput{} }, nil
}

func (s *Service) terminateInstances(r eventual.Reader, in *ec2.TerminateInstancesInput) (func() *ec2.TerminateInstancesOutput, error) {
	list, err := s.named(r, in.InstanceIds)
	if err != nil {
		return nil, err
	}
	return func() *ec2.TerminateInstancesOutput {
		return &ec2.TerminateInstancesOutput{TerminatingInstances: s.move(list, types.InstanceStateNameShuttingDown, types.InstanceStateNameTerminated,
			profile.InstanceStop, types.InstanceStateNameShuttingDown, types.InstanceStateNameTerminated)}
	}, nil
}
