package globalaccelerator

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	ga "github.com/aws/aws-sdk-go-v2/service/globalaccelerator"
	"github.com/aws/aws-sdk-go-v2/service/globalaccelerator/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

func (s *Service) listener(arn *string) (*listener, error) {
	found := s.listeners[deref(arn)]
	if found == nil {
		return nil, wire.Errorf("ListenerNotFoundException", "There is no listener '%.200s'", deref(arn))
	}
	return found, nil
}

func checkPorts(ranges []types.PortRange) error {
	for _, r := range ranges {
		if from, to := deref(r.FromPort), deref(r.ToPort); from < 1 || to > 65_535 || from > to {
			return wire.Errorf("InvalidPortRangeException", "%d to %d is no range of ports", from, to)
		}
	}
	return nil
}

// CreateListener adds a listener to an accelerator.
func (s *Service) CreateListener(_ eventual.Reader, in *ga.CreateListenerInput) (*ga.CreateListenerOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.accelerator(in.AcceleratorArn)
	if err != nil {
		return nil, err
	}
	if known := s.listeners[s.requests[deref(in.IdempotencyToken)]]; known != nil && in.IdempotencyToken != nil {
		return &ga.CreateListenerOutput{Listener: new(known.Listener)}, nil
	}
	if err := checkPorts(in.PortRanges); err != nil {
		return nil, err
	}
	if len(in.PortRanges) == 0 {
		return nil, invalid("A listener needs a range of ports")
	}
	if len(s.listenersOf(a)) >= maxListeners {
		return nil, wire.Errorf("LimitExceededException", "An accelerator can have at most %d listeners", maxListeners)
	}
	arn := *a.AcceleratorArn + "/listener/" + s.config.IDs.Hex(8, "ga listener", *a.AcceleratorArn)
	l := &listener{accelerator: a, Listener: types.Listener{
		ListenerArn: &arn, PortRanges: in.PortRanges, Protocol: cmp.Or(in.Protocol, types.ProtocolTcp), ClientAffinity: cmp.Or(in.ClientAffinity, types.ClientAffinityNone),
	}}
	s.listeners[arn] = l
	if in.IdempotencyToken != nil {
		s.requests[*in.IdempotencyToken] = arn
	}
	s.changed(a)
	return &ga.CreateListenerOutput{Listener: new(l.Listener)}, nil
}

// DescribeListener tells of a listener.
func (s *Service) DescribeListener(_ eventual.Reader, in *ga.DescribeListenerInput) (*ga.DescribeListenerOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.listener(in.ListenerArn)
	if err != nil {
		return nil, err
	}
	return &ga.DescribeListenerOutput{Listener: new(l.Listener)}, nil
}

// UpdateListener changes ports, protocol and affinity.
func (s *Service) UpdateListener(_ eventual.Reader, in *ga.UpdateListenerInput) (*ga.UpdateListenerOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.listener(in.ListenerArn)
	if err != nil {
		return nil, err
	}
	if err := checkPorts(in.PortRanges); err != nil {
		return nil, err
	}
	if len(in.PortRanges) > 0 {
		l.PortRanges = in.PortRanges
	}
	l.Protocol, l.ClientAffinity = cmp.Or(in.Protocol, l.Protocol), cmp.Or(in.ClientAffinity, l.ClientAffinity)
	s.changed(l.accelerator)
	return &ga.UpdateListenerOutput{Listener: new(l.Listener)}, nil
}

// DeleteListener deletes a listener that has no endpoint group.
func (s *Service) DeleteListener(_ eventual.Reader, in *ga.DeleteListenerInput) (*ga.DeleteListenerOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.listener(in.ListenerArn)
	if err != nil {
		return nil, err
	}
	if len(s.groupsOf(l)) > 0 {
		return nil, wire.Errorf("AssociatedEndpointGroupFoundException", "The listener has endpoint groups")
	}
	delete(s.listeners, *l.ListenerArn)
	s.changed(l.accelerator)
	return &ga.DeleteListenerOutput{}, nil
}

// ListListeners lists the listeners of an accelerator by ARN.
func (s *Service) ListListeners(_ eventual.Reader, in *ga.ListListenersInput) (*ga.ListListenersOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	a, err := s.accelerator(in.AcceleratorArn)
	if err != nil {
		return nil, err
	}
	found, next, err := page(s.listenersOf(a), func(l *listener) string { return *l.ListenerArn }, in.NextToken, in.MaxResults)
	if err != nil {
		return nil, err
	}
	out := &ga.ListListenersOutput{Listeners: []types.Listener{}, NextToken: next}
	for _, l := range found {
		out.Listeners = append(out.Listeners, l.Listener)
	}
	return out, nil
}

func (s *Service) group(arn *string) (*group, error) {
	found := s.groups[deref(arn)]
	if found == nil {
		return nil, wire.Errorf("EndpointGroupNotFoundException", "There is no endpoint group '%.200s'", deref(arn))
	}
	return found, nil
}

func (s *Service) groupsOf(l *listener) []*group {
	of := slices.DeleteFunc(slices.Collect(maps.Values(s.groups)), func(g *group) bool { return g.listener != l })
	slices.SortFunc(of, func(x, y *group) int { return strings.Compare(*x.EndpointGroupArn, *y.EndpointGroupArn) })
	return of
}

const defaultWeight = 128

func describe(configurations []types.EndpointConfiguration) ([]types.EndpointDescription, error) {
	list := []types.EndpointDescription{}
	for _, c := range configurations {
		if deref(c.EndpointId) == "" {
			return nil, invalid("An endpoint needs an id")
		}
		weight := cmp.Or(c.Weight, new(int32(defaultWeight)))
		if *weight < 0 || *weight > 255 {
			return nil, invalid("The weight %d is not between 0 and 255", *weight)
		}
		list = append(list, types.EndpointDescription{
			EndpointId: c.EndpointId, Weight: weight, HealthState: types.HealthStateHealthy,
			ClientIPPreservationEnabled: new(c.ClientIPPreservationEnabled == nil || *c.ClientIPPreservationEnabled),
		})
	}
	return list, nil
}

// CreateEndpointGroup adds an endpoint group to a listener, one per region.
func (s *Service) CreateEndpointGroup(_ eventual.Reader, in *ga.CreateEndpointGroupInput) (*ga.CreateEndpointGroupOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.listener(in.ListenerArn)
	if err != nil {
		return nil, err
	}
	if known := s.groups[s.requests[deref(in.IdempotencyToken)]]; known != nil && in.IdempotencyToken != nil {
		return &ga.CreateEndpointGroupOutput{EndpointGroup: new(known.EndpointGroup)}, nil
	}
	region := deref(in.EndpointGroupRegion)
	if region == "" {
		return nil, invalid("An endpoint group needs a region")
	}
	for _, other := range s.groupsOf(l) {
		if *other.EndpointGroupRegion == region {
			return nil, wire.Errorf("EndpointGroupAlreadyExistsException", "The listener has an endpoint group in %s", region)
		}
	}
	endpoints, err := describe(in.EndpointConfigurations)
	if err != nil {
		return nil, err
	}
	arn := *l.ListenerArn + "/endpoint-group/" + s.config.IDs.Hex(12, "endpoint group", *l.ListenerArn)
	g := &group{listener: l, EndpointGroup: types.EndpointGroup{
		EndpointGroupArn: &arn, EndpointGroupRegion: &region, EndpointDescriptions: endpoints, PortOverrides: in.PortOverrides,
		HealthCheckIntervalSeconds: cmp.Or(in.HealthCheckIntervalSeconds, new(int32(30))), HealthCheckPath: cmp.Or(in.HealthCheckPath, new("/")),
		HealthCheckPort: cmp.Or(in.HealthCheckPort, l.PortRanges[0].FromPort), HealthCheckProtocol: cmp.Or(in.HealthCheckProtocol, types.HealthCheckProtocolTcp),
		ThresholdCount: cmp.Or(in.ThresholdCount, new(int32(3))), TrafficDialPercentage: cmp.Or(in.TrafficDialPercentage, new(float32(100))),
	}}
	s.groups[arn] = g
	if in.IdempotencyToken != nil {
		s.requests[*in.IdempotencyToken] = arn
	}
	s.changed(l.accelerator)
	return &ga.CreateEndpointGroupOutput{EndpointGroup: new(g.EndpointGroup)}, nil
}

// DescribeEndpointGroup tells of an endpoint group.
func (s *Service) DescribeEndpointGroup(_ eventual.Reader, in *ga.DescribeEndpointGroupInput) (*ga.DescribeEndpointGroupOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.group(in.EndpointGroupArn)
	if err != nil {
		return nil, err
	}
	return &ga.DescribeEndpointGroupOutput{EndpointGroup: new(g.EndpointGroup)}, nil
}

// UpdateEndpointGroup changes what is given; endpoints are replaced as a whole.
func (s *Service) UpdateEndpointGroup(_ eventual.Reader, in *ga.UpdateEndpointGroupInput) (*ga.UpdateEndpointGroupOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.group(in.EndpointGroupArn)
	if err != nil {
		return nil, err
	}
	if in.EndpointConfigurations != nil {
		endpoints, err := describe(in.EndpointConfigurations)
		if err != nil {
			return nil, err
		}
		g.EndpointDescriptions = endpoints
	}
	if in.PortOverrides != nil {
		g.PortOverrides = in.PortOverrides
	}
	g.HealthCheckIntervalSeconds = cmp.Or(in.HealthCheckIntervalSeconds, g.HealthCheckIntervalSeconds)
	g.HealthCheckPath, g.HealthCheckPort = cmp.Or(in.HealthCheckPath, g.HealthCheckPath), cmp.Or(in.HealthCheckPort, g.HealthCheckPort)
	g.HealthCheckProtocol = cmp.Or(in.HealthCheckProtocol, g.HealthCheckProtocol)
	g.ThresholdCount, g.TrafficDialPercentage = cmp.Or(in.ThresholdCount, g.ThresholdCount), cmp.Or(in.TrafficDialPercentage, g.TrafficDialPercentage)
	s.changed(g.listener.accelerator)
	return &ga.UpdateEndpointGroupOutput{EndpointGroup: new(g.EndpointGroup)}, nil
}

// DeleteEndpointGroup deletes an endpoint group.
func (s *Service) DeleteEndpointGroup(_ eventual.Reader, in *ga.DeleteEndpointGroupInput) (*ga.DeleteEndpointGroupOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.group(in.EndpointGroupArn)
	if err != nil {
		return nil, err
	}
	delete(s.groups, *g.EndpointGroupArn)
	s.changed(g.listener.accelerator)
	return &ga.DeleteEndpointGroupOutput{}, nil
}

// ListEndpointGroups lists the endpoint groups of a listener by ARN.
func (s *Service) ListEndpointGroups(_ eventual.Reader, in *ga.ListEndpointGroupsInput) (*ga.ListEndpointGroupsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.listener(in.ListenerArn)
	if err != nil {
		return nil, err
	}
	found, next, err := page(s.groupsOf(l), func(g *group) string { return *g.EndpointGroupArn }, in.NextToken, in.MaxResults)
	if err != nil {
		return nil, err
	}
	out := &ga.ListEndpointGroupsOutput{EndpointGroups: []types.EndpointGroup{}, NextToken: next}
	for _, g := range found {
		out.EndpointGroups = append(out.EndpointGroups, g.EndpointGroup)
	}
	return out, nil
}

// AddEndpoints adds endpoints to a group; one that is there already gets its new weight.
func (s *Service) AddEndpoints(_ eventual.Reader, in *ga.AddEndpointsInput) (*ga.AddEndpointsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.group(in.EndpointGroupArn)
	if err != nil {
		return nil, err
	}
	added, err := describe(in.EndpointConfigurations)
	if err != nil {
		return nil, err
	}
	kept := g.without(func(id string) bool {
		return slices.ContainsFunc(added, func(d types.EndpointDescription) bool { return *d.EndpointId == id })
	})
	g.EndpointDescriptions = slices.Concat(kept, added)
	s.changed(g.listener.accelerator)
	return &ga.AddEndpointsOutput{EndpointGroupArn: g.EndpointGroupArn, EndpointDescriptions: added}, nil
}

func (g *group) without(gone func(id string) bool) []types.EndpointDescription {
	return slices.DeleteFunc(slices.Clone(g.EndpointDescriptions), func(d types.EndpointDescription) bool { return gone(*d.EndpointId) })
}

// RemoveEndpoints removes endpoints from a group.
func (s *Service) RemoveEndpoints(_ eventual.Reader, in *ga.RemoveEndpointsInput) (*ga.RemoveEndpointsOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	g, err := s.group(in.EndpointGroupArn)
	if err != nil {
		return nil, err
	}
	g.EndpointDescriptions = g.without(func(id string) bool {
		return slices.ContainsFunc(in.EndpointIdentifiers, func(one types.EndpointIdentifier) bool { return deref(one.EndpointId) == id })
	})
	s.changed(g.listener.accelerator)
	return &ga.RemoveEndpointsOutput{}, nil
}
