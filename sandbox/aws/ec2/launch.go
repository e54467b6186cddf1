package ec2

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

var noAddress netip.Addr

// launch is what RunInstances is to make, as often as asked.
type launch struct {
	count int
	home  *subnet
	// faces are the interfaces of each instance, existing an interface that is attached instead of the first.
	faces    []face
	existing *networkInterface

	tags, interfaceTags map[string]string
}

type face struct {
	interfaceSpec
	device int32
	keep   bool // on termination
}

func (s *Service) runInstances(r eventual.Reader, in *ec2.RunInstancesInput) (func() *ec2.RunInstancesOutput, error) {
	l, err := s.launch(r, in)
	if err != nil {
		return nil, err
	}
	return func() *ec2.RunInstancesOutput {
		out := &ec2.RunInstancesOutput{
			ReservationId: new(s.config.IDs.EC2("r", "")), OwnerId: new(s.config.AccountID), Groups: []types.GroupIdentifier{}, Instances: []types.Instance{},
		}
		for i := range l.count {
			m := s.start(l, in, *out.ReservationId)
			m.AmiLaunchIndex = new(int32(i))
			m.State = stateOf(types.InstanceStateNamePending)
			s.tags.settle(*m.InstanceId, l.tags)
			shown := s.shownInstance(m)
			shown.Tags = tagList(l.tags)
			out.Instances = append(out.Instances, shown)
			s.enter(m, types.InstanceStateNamePending, types.InstanceStateNameRunning, profile.InstanceStart)
		}
		return out
	}, nil
}

// launch checks a request.
func (s *Service) launch(r eventual.Reader, in *ec2.RunInstancesInput) (*launch, error) {
	least, most := deref(in.MinCount), deref(in.MaxCount)
	switch {
	case in.MinCount == nil:
		return nil, missingParameter("MinCount")
	case in.MaxCount == nil:
		return nil, missingParameter("MaxCount")
	case least < 1 || most < least || most > 1000:
		return nil, invalidValue("Value (%d) for parameter maxCount is invalid: it must be from minCount, which is at least 1, to 1000", most)
	case deref(in.ImageId) == "" && in.LaunchTemplate == nil:
		return nil, missingParameter("ImageId")
	case in.LaunchTemplate != nil:
		return nil, wire.Errorf("UnsupportedOperation", "The sandbox does not model launch templates")
	}
	if err := imageID.check(*in.ImageId); err != nil {
		return nil, err
	}
	if in.InstanceType != "" && !slices.Contains(in.InstanceType.Values(), in.InstanceType) {
		return nil, invalidValue("Invalid value '%.40s' for InstanceType.", in.InstanceType)
	}
	l := &launch{}
	var err error
	others := []types.ResourceType{types.ResourceTypeInstance, types.ResourceTypeNetworkInterface, types.ResourceTypeVolume, types.ResourceTypeSpotInstancesRequest}
	if l.tags, err = tagsFor(in.TagSpecifications, types.ResourceTypeInstance, others[1:]...); err != nil {
		return nil, err
	}
	if l.interfaceTags, err = tagsFor(in.TagSpecifications, types.ResourceTypeNetworkInterface, types.ResourceTypeInstance, types.ResourceTypeVolume, types.ResourceTypeSpotInstancesRequest); err != nil {
		return nil, err
	}
	if len(in.NetworkInterfaces) > 0 {
		err = s.launchInterfaces(r, in, l)
	} else {
		err = s.launchSimple(r, in, l)
	}
	if err != nil {
		return nil, err
	}
	return l, s.fit(l, int(least), int(most))
}

// fit decides how many instances there is room for.
func (s *Service) fit(l *launch, least, most int) error {
	l.count = most
	perInstance := map[*pool]int{}
	for _, f := range l.faces {
		perInstance[f.subnet.pool] += 1 + len(f.secondary) + f.more
		if most > 1 && (f.primary.IsValid() || len(f.secondary)+len(f.six) > 0) {
			return invalidCombination("Addresses can be named for one instance only")
		}
	}
	for p, each := range perInstance {
		l.count = min(l.count, p.free()/each)
	}
	if l.existing != nil && most > 1 {
		return invalidCombination("A network interface can be attached to one instance only")
	}
	if l.count < least {
		return wire.Errorf("InsufficientFreeAddressesInSubnet", "There are not enough free addresses in subnet '%s' to satisfy the requested number of instances.", *l.home.SubnetId)
	}
	if s.interfaces.count()+l.count*len(l.faces) > s.config.Quotas.NetworkInterfaces {
		return exceeded("NetworkInterfaceLimitExceeded", "network interfaces", s.config.Quotas.NetworkInterfaces)
	}
	return nil
}

// launchSimple is a request that describes the one interface by the parameters of the instance.
func (s *Service) launchSimple(r eventual.Reader, in *ec2.RunInstancesInput, l *launch) error {
	home, err := s.launchSubnet(r, in.SubnetId, in.Placement)
	if err != nil {
		return err
	}
	groups, err := s.launchGroups(r, home, in.SecurityGroupIds, in.SecurityGroups)
	if err != nil {
		return err
	}
	f := face{interfaceSpec: interfaceSpec{subnet: home, groups: groups, kind: types.NetworkInterfaceTypeInterface, public: *home.MapPublicIpOnLaunch}}
	more6 := in.Ipv6AddressCount
	if more6 == nil && len(in.Ipv6Addresses) == 0 && *home.AssignIpv6AddressOnCreation {
		more6 = new(int32(1))
	}
	if err := f.addresses(addressRequest{primary: in.PrivateIpAddress, six: in.Ipv6Addresses, more6: more6}); err != nil {
		return err
	}
	l.home, l.faces = home, []face{f}
	return nil
}

func (s *Service) launchSubnet(r eventual.Reader, id *string, where *types.Placement) (*subnet, error) {
	if id != nil {
		return find(r, subnetID, s.subnets, id, "subnetId")
	}
	v, ok := s.defaultVPC()
	if !ok {
		return nil, wire.Errorf("VPCIdNotSpecified", "No default VPC for this user: specify a subnet ID")
	}
	var zone *string
	if where != nil {
		zone = where.AvailabilityZone
	}
	name, err := s.zoneNamed(zone, nil)
	if err != nil {
		return nil, err
	}
	n, ok := s.subnets.first(func(n *subnet) bool { return *n.VpcId == *v.VpcId && *n.AvailabilityZone == name && *n.DefaultForAz })
	if !ok {
		return nil, wire.Errorf("MissingInput", "No default subnet for availability zone '%s'", name)
	}
	return n, nil
}

func (s *Service) launchGroups(r eventual.Reader, home *subnet, ids, names []string) ([]string, error) {
	v, _ := s.vpcs.get(*home.VpcId)
	ids = slices.Clone(ids)
	for _, name := range names {
		g, err := s.group(r, nil, &name)
		if err != nil {
			return nil, err
		}
		ids = append(ids, g.id)
	}
	return s.groupsFor(r, v, ids)
}

// launchInterfaces is a request that describes each interface.
func (s *Service) launchInterfaces(r eventual.Reader, in *ec2.RunInstancesInput, l *launch) error {
	if in.SubnetId != nil || len(in.SecurityGroupIds)+len(in.SecurityGroups) > 0 || in.PrivateIpAddress != nil {
		return invalidCombination("Network interfaces and an instance-level subnet ID, security groups or private address may not be specified on the same request")
	}
	devices := map[int32]bool{}
	for _, spec := range in.NetworkInterfaces {
		device := deref(spec.DeviceIndex)
		if spec.DeviceIndex == nil || devices[device] {
			return invalidValue("Each network interface requires a device index of its own.")
		}
		devices[device] = true
		if spec.NetworkInterfaceId != nil {
			n, err := s.mine(r, spec.NetworkInterfaceId)
			if err != nil {
				return err
			}
			if n.attachment != nil {
				return wire.Errorf("InvalidNetworkInterface.InUse", "The network interface '%s' is in use: attachment %s.", n.id, n.attachment.id)
			}
			if device != 0 || l.existing != nil {
				return wire.Errorf("UnsupportedOperation", "The sandbox attaches existing interfaces at launch at device index 0 only: use AttachNetworkInterface")
			}
			l.existing = n
			home, _ := s.subnets.get(n.subnet)
			l.home = cmp.Or(l.home, home)
			continue
		}
		home, err := s.launchSubnet(r, spec.SubnetId, in.Placement)
		if err != nil {
			return err
		}
		if l.home = cmp.Or(l.home, home); *l.home.AvailabilityZone != *home.AvailabilityZone || *l.home.VpcId != *home.VpcId {
			return invalidCombination("All interfaces of an instance must be in one availability zone and VPC")
		}
		groups, err := s.launchGroups(r, home, spec.Groups, nil)
		if err != nil {
			return err
		}
		f := face{device: device, keep: spec.DeleteOnTermination != nil && !*spec.DeleteOnTermination, interfaceSpec: interfaceSpec{
			description: deref(spec.Description), subnet: home, groups: groups, kind: types.NetworkInterfaceTypeInterface,
			public: deref(spec.AssociatePublicIpAddress) || spec.AssociatePublicIpAddress == nil && device == 0 && *home.MapPublicIpOnLaunch,
		}}
		if err := f.addresses(addressRequest{spec.PrivateIpAddress, spec.PrivateIpAddresses, spec.SecondaryPrivateIpAddressCount, spec.Ipv6Addresses, spec.Ipv6AddressCount}); err != nil {
			return err
		}
		for _, other := range l.faces {
			for _, a := range other.named() {
				if slices.Contains(f.named(), a) && other.subnet.pool == f.subnet.pool {
					return invalidValue("Address %s is given twice", a)
				}
			}
		}
		l.faces = append(l.faces, f)
	}
	if !devices[0] {
		return invalidCombination("An instance needs a network interface at device index 0")
	}
	slices.SortFunc(l.faces, func(a, b face) int { return cmp.Compare(a.device, b.device) })
	return nil
}

// start makes one instance with its interfaces. The caller puts it into its table.
func (s *Service) start(l *launch, in *ec2.RunInstancesInput, reservation string) *instance {
	id, now := s.config.IDs.EC2("i", ""), time.Now().UTC()
	var faces []*networkInterface
	attach := func(n *networkInterface, device int32, keep bool) {
		a := &attachment{id: s.config.IDs.EC2("eni-attach", ""), instance: id, device: device, deleteOnTermination: !keep, since: now}
		n = changed(n, func(n *networkInterface) { n.attachment = a })
		s.interfaces.put(n.id, n)
		faces = append(faces, n)
	}
	if l.existing != nil {
		attach(l.existing, 0, true)
	}
	for _, f := range l.faces {
		f.reserve()
	}
	for _, f := range l.faces {
		n := s.newInterface(f.interfaceSpec)
		s.tags.settle(n.id, l.interfaceTags)
		attach(n, f.device, f.keep)
	}
	m := s.newInstance(id, *l.home.AvailabilityZone, faces, reservation)
	m.InstanceType, m.ImageId = cmp.Or(in.InstanceType, types.InstanceTypeM5Large), in.ImageId
	m.KeyName, m.ClientToken = in.KeyName, in.ClientToken
	return m
}

// newInstance is an instance with its interfaces, the first one first.
func (s *Service) newInstance(id, zone string, faces []*networkInterface, reservation string) *instance {
	first := faces[0]
	m := &instance{
		Instance: types.Instance{
			InstanceId: new(id), InstanceType: types.InstanceTypeM5Large, ImageId: new("ami-0123456789abcdef0"), AmiLaunchIndex: new(int32(0)),
			State:     stateOf(types.InstanceStateNameRunning),
			Placement: &types.Placement{AvailabilityZone: new(zone), AvailabilityZoneId: new(s.zoneIDOf(zone)), Tenancy: types.TenancyDefault, GroupName: new("")},
			VpcId:     new(first.vpc), SubnetId: new(first.subnet), LaunchTime: new(time.Now().UTC()), PublicDnsName: new(""),
			PrivateIpAddress: new(first.primary.String()), PrivateDnsName: new(s.privateName(first.primary)), Monitoring: &types.Monitoring{State: types.MonitoringStateDisabled},
			Architecture: types.ArchitectureValuesX8664, RootDeviceType: types.DeviceTypeEbs, Hypervisor: types.HypervisorTypeXen,
			VirtualizationType: types.VirtualizationTypeHvm, EbsOptimized: new(false), BlockDeviceMappings: []types.InstanceBlockDeviceMapping{},
		},
		reservation: reservation,
	}
	for _, n := range faces {
		m.interfaces = append(m.interfaces, n.id)
	}
	return m
}
