package elbv2

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"github.com/lockstep-delivery/lockstep/sandbox/aws/eventual"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/wire"
)

// Capacity is reserved in name only: a reservation has states and limits, and nothing is limited by it. The user guides tell that
// it can be lowered twice a day, that a change must wait for the one before, and that an NLB must have no TLS listener. The
// smallest and largest reservations, and that a load balancer must be active, are assumptions.
//
//	none --Modify--> pending --provisioned in each zone--> provisioned --SetSubnets--> rebalancing --> provisioned
const (
	decreasesPerDay    = 2
	minApplicationLCUs = 100
	maxApplicationLCUs = 15_000
	minNetworkLCUs     = 2_750
	maxNetworkLCUs     = 45_000
)

// reservation is the capacity that is reserved for a load balancer. The zero value is none.
type reservation struct {
	units    int32 // 0: none
	state    types.CapacityReservationStateEnum
	modified time.Time
	// lowered is when it was lowered, within the last day.
	lowered []time.Time
	// changes counts the changes, for the draws.
	changes int
}

func (c *reservation) pending() bool { return c.state == types.CapacityReservationStateEnumPending }

// remaining is how often it can still be lowered today.
func (c *reservation) remaining() int32 {
	c.lowered = slices.DeleteFunc(c.lowered, func(at time.Time) bool { return time.Since(at) >= 24*time.Hour })
	return int32(decreasesPerDay - len(c.lowered))
}

// ModifyCapacityReservation asks for capacity or gives all of it back.
func (s *Service) ModifyCapacityReservation(r eventual.Reader, in *elb.ModifyCapacityReservationInput) (*elb.ModifyCapacityReservationOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lb, err := s.balancer(r, in.LoadBalancerArn)
	if err != nil {
		return nil, err
	}
	wanted, err := wantedUnits(lb, in)
	if err != nil {
		return nil, err
	}
	c := &lb.capacity
	switch {
	case lb.value.Get().State.Code != types.LoadBalancerStateEnumActive:
		return nil, wire.Errorf("OperationNotPermitted", "Load balancer '%s' is not active", lb.name)
	case c.pending() && wanted > c.units:
		return nil, wire.Errorf("CapacityReservationPending", "A capacity reservation of load balancer '%s' is pending", lb.name)
	case c.pending():
		return nil, wire.Errorf("PriorRequestNotComplete", "The prior request for capacity of load balancer '%s' is not complete", lb.name).WithStatus(http.StatusTooManyRequests)
	case wanted > 0 && wanted < c.units && c.remaining() == 0:
		return nil, wire.Errorf("CapacityDecreaseRequestLimitExceeded", "The capacity of load balancer '%s' can be decreased %d times a day", lb.name, decreasesPerDay)
	}
	if wanted > 0 && wanted < c.units {
		c.lowered = append(c.lowered, time.Now())
	}
	if wanted != c.units {
		c.units, c.modified = wanted, time.Now()
		s.reserve(lb, types.CapacityReservationStateEnumPending)
	}
	v := lb.reserved()
	return &elb.ModifyCapacityReservationOutput{
		CapacityReservationState: v.CapacityReservationState, DecreaseRequestsRemaining: v.DecreaseRequestsRemaining,
		LastModifiedTime: v.LastModifiedTime, MinimumLoadBalancerCapacity: v.MinimumLoadBalancerCapacity,
	}, nil
}

// wantedUnits validates what a request asks for; 0 is to have none.
func wantedUnits(lb *loadBalancer, in *elb.ModifyCapacityReservationInput) (int32, error) {
	least, most := int32(minApplicationLCUs), int32(maxApplicationLCUs)
	if !lb.application() {
		least, most = minNetworkLCUs, maxNetworkLCUs
	}
	reset, minimum := deref(in.ResetCapacityReservation), in.MinimumLoadBalancerCapacity
	switch {
	case reset && minimum != nil:
		return 0, wire.Errorf("InvalidConfigurationRequest", "A minimum capacity and the reset of the reservation cannot both be specified")
	case reset:
		return 0, nil
	case minimum == nil || minimum.CapacityUnits == nil:
		return 0, wire.Errorf("ValidationError", "A minimum capacity or the reset of the reservation must be specified")
	case *minimum.CapacityUnits < least:
		return 0, wire.Errorf("InvalidConfigurationRequest", "At least %d capacity units can be reserved, not %d", least, *minimum.CapacityUnits)
	case *minimum.CapacityUnits > most:
		return 0, wire.Errorf("CapacityUnitsLimitExceeded", "At most %d capacity units can be reserved for a load balancer, not %d", most, *minimum.CapacityUnits)
	}
	for _, l := range lb.listeners {
		if l.value.Get().Protocol == types.ProtocolEnumTls {
			return 0, wire.Errorf("InvalidConfigurationRequest", "Capacity cannot be reserved for load balancer '%s', which has a TLS listener", lb.name)
		}
	}
	return *minimum.CapacityUnits, nil
}

// reserve lets a reservation be in a state until it is provisioned. AWS speaks of minutes; the provisioning of load balancers is
// the nearest that the profile has.
func (s *Service) reserve(lb *loadBalancer, state types.CapacityReservationStateEnum) {
	c := &lb.capacity
	c.state = state
	c.changes++
	number := c.changes
	event := fmt.Sprintf("capacity/%s#%d", lb.name, number)
	s.after(s.config.Draws.Once(lb.either(profile.ProvisionALB, profile.ProvisionNLB), event), func() []*node {
		if c.changes == number {
			c.state = types.CapacityReservationStateEnumProvisioned
		}
		return nil
	})
}

// reserved is the reservation as the API shows it: the units are spread over the zones.
func (lb *loadBalancer) reserved() *elb.DescribeCapacityReservationOutput {
	c := &lb.capacity
	out := &elb.DescribeCapacityReservationOutput{DecreaseRequestsRemaining: new(c.remaining()), CapacityReservationState: []types.ZonalCapacityReservationState{}}
	if !c.modified.IsZero() {
		out.LastModifiedTime = new(c.modified.UTC().Truncate(time.Millisecond))
	}
	if c.units == 0 && !c.pending() {
		return out
	}
	if c.units > 0 {
		out.MinimumLoadBalancerCapacity = &types.MinimumLoadBalancerCapacity{CapacityUnits: new(c.units)}
	}
	zones := lb.value.Get().AvailabilityZones
	for _, z := range zones {
		one := types.ZonalCapacityReservationState{
			AvailabilityZone: z.ZoneName, EffectiveCapacityUnits: new(0.0), State: &types.CapacityReservationStatus{Code: c.state},
		}
		if !c.pending() {
			*one.EffectiveCapacityUnits = float64(c.units) / float64(len(zones))
		}
		out.CapacityReservationState = append(out.CapacityReservationState, one)
	}
	return out
}

// DescribeCapacityReservation tells what is reserved for a load balancer.
func (s *Service) DescribeCapacityReservation(r eventual.Reader, in *elb.DescribeCapacityReservationInput) (*elb.DescribeCapacityReservationOutput, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	lb, err := s.balancer(r, in.LoadBalancerArn)
	if err != nil {
		return nil, err
	}
	return lb.reserved(), nil
}
