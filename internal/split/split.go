// Package split holds the one type for a split of traffic: which share of the requests at one
// Ingress action goes to which Service. The rollout half decides a Split, writes it to the Ingress
// with Encode, and the load balancer half reads it with Decode; nothing else in Lockstep encodes or
// parses an actions annotation.
//
// The package is pure: it imports neither Kubernetes nor the AWS SDK.
//
//	s := split.Split{Destinations: []split.Destination{
//		{Service: "canary", Port: "80", Weight: 10},
//		{Service: "stable", Port: "80", Weight: 90},
//	}}
//	annotation, err := split.Encode(s)
package split

import (
	"fmt"
	"time"
)

// Limits of a forward action, from the ELBv2 API reference (TargetGroupTuple, ForwardActionConfig
// and TargetGroupStickinessConfig).
const (
	MaxWeight          = 999
	MaxDestinations    = 5
	MinStickiness      = time.Second
	MaxStickiness      = 604800 * time.Second
	DefaultTotalWeight = 100
)

// Split is a weighted forward to one or more Services. The order of the destinations is kept, since
// existing tools write the canary first and the stable Service last; it has no meaning for traffic.
type Split struct {
	Destinations []Destination
	// Stickiness keeps a client on the target group that served it first; zero means off.
	Stickiness time.Duration
}

// Destination is one Service and its relative weight.
type Destination struct {
	Service string
	// Port is the Service's port as the user wrote it: a decimal number or a port name.
	Port string
	// Weight is relative to the sum of all weights, 0 to 999.
	Weight int32
}

// Weight returns the weight of a Service, and whether the split names it at all.
func (s Split) Weight(service string) (int32, bool) {
	for _, d := range s.Destinations {
		if d.Service == service {
			return d.Weight, true
		}
	}
	return 0, false
}

// Total is the sum of the weights.
func (s Split) Total() int32 {
	var total int32
	for _, d := range s.Destinations {
		total += d.Weight
	}
	return total
}

// Equal reports whether two splits send traffic the same way: same Services and ports with the same
// weights in any order, and the same stickiness.
func (s Split) Equal(other Split) bool {
	if len(s.Destinations) != len(other.Destinations) || s.Stickiness != other.Stickiness {
		return false
	}
	for _, d := range s.Destinations {
		if !other.contains(d) {
			return false
		}
	}
	return true
}

func (s Split) contains(wanted Destination) bool {
	for _, d := range s.Destinations {
		if d == wanted {
			return true
		}
	}
	return false
}

// Validate reports the first rule of the ELBv2 API that the split breaks: at least one destination
// and at most five, each named once with a port and a weight of 0 to 999, stickiness of 1 s to 7 days.
func (s Split) Validate() error {
	if len(s.Destinations) == 0 {
		return fmt.Errorf("a forward needs at least one target group")
	}
	if len(s.Destinations) > MaxDestinations {
		return fmt.Errorf("a forward to %d target groups: AWS allows at most %d", len(s.Destinations), MaxDestinations)
	}
	seen := map[string]bool{}
	for i, d := range s.Destinations {
		switch {
		case d.Service == "":
			return fmt.Errorf("targetGroups[%d]: serviceName is empty", i)
		case d.Port == "":
			return fmt.Errorf("targetGroups[%d] (%s): servicePort is empty", i, d.Service)
		case d.Weight < 0 || d.Weight > MaxWeight:
			return fmt.Errorf("targetGroups[%d] (%s): weight %d is outside 0 to %d", i, d.Service, d.Weight, MaxWeight)
		case seen[d.Service+":"+d.Port]:
			return fmt.Errorf("targetGroups[%d]: %s:%s is named twice", i, d.Service, d.Port)
		}
		seen[d.Service+":"+d.Port] = true
	}
	if s.Stickiness != 0 && (s.Stickiness < MinStickiness || s.Stickiness > MaxStickiness) {
		return fmt.Errorf("stickiness of %s is outside 1 s to 604800 s", s.Stickiness)
	}
	return nil
}
