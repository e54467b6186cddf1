package dataplane

import (
	"cmp"
	"time"
)

// The life of a target's health as one node sees it:
//
//	            1 pass
//	  initial ─────────────▶ healthy ◀──┐
//	     │                      │       │ healthyThreshold passes in a row
//	     │ unhealthyThreshold   │ unhealthyThreshold
//	     │ failures in a row    ▼ failures in a row
//	     └─────────────────▶ unhealthy ─┘

// health counts the results of checks.
type health struct {
	TargetHealth
	passes, failures int // in a row
}

func initialHealth() health {
	return health{TargetHealth: TargetHealth{Initial, ReasonInitialHealthChecking, "Initial health checks in progress"}}
}

// after returns the health after one more result, and leaves the receiver alone.
func (h health) after(r probeResult, hc HealthCheck, firstFailure bool) health {
	if r.passed() {
		h.passes, h.failures = h.passes+1, 0
		if h.State == Initial || h.State == Unhealthy && h.passes >= hc.HealthyThreshold {
			h.TargetHealth = TargetHealth{State: Healthy}
		}
		return h
	}
	h.passes, h.failures = 0, h.failures+1
	switch {
	case h.State == Unhealthy, // with the newest reason
		h.failures >= hc.UnhealthyThreshold,
		h.State == Initial && firstFailure:
		h.TargetHealth = TargetHealth{Unhealthy, r.reason, r.description}
	}
	return h
}

// withDefaults fills in what the AWS API fills in for groups of an Application Load Balancer.
func (h HealthCheck) withDefaults() HealthCheck {
	h.Protocol = cmp.Or(h.Protocol, HTTP)
	h.Path = cmp.Or(h.Path, "/")
	h.Interval = cmp.Or(h.Interval, 30*time.Second)
	h.Timeout = cmp.Or(h.Timeout, 5*time.Second)
	h.HealthyThreshold = cmp.Or(h.HealthyThreshold, 5)
	h.UnhealthyThreshold = cmp.Or(h.UnhealthyThreshold, 2)
	if h.Version == GRPC {
		h.Matcher = cmp.Or(h.Matcher, "12")
	}
	h.Matcher = cmp.Or(h.Matcher, "200")
	return h
}
