package simulation

import "github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"

// simpler are ways to make a world smaller or calmer. The random draws of a run shift with each of them, so
// what is left need not be the least possible, only less.
var simpler = []func(*Config){
	func(c *Config) { c.Faults.Edits, c.Faults.Reverter = 0, false },
	func(c *Config) { c.Faults.Crash, c.Faults.LateCalls = 0, false },
	func(c *Config) { c.Faults.LateCalls = false },
	func(c *Config) { c.Faults.Storms = 0 },
	func(c *Config) { c.Faults.LostPods = 0 },
	func(c *Config) { c.Faults.Crowds = 0 },
	func(c *Config) { c.Faults.Neighbour, c.Faults.Twin = false, false },
	func(c *Config) { c.Faults.SlowWatch = 0 },
	func(c *Config) { c.Restarts = 0 },
	func(c *Config) { c.Restarts = min(c.Restarts, 1) },
	func(c *Config) { c.Acts = 1 },
	func(c *Config) { c.Acts = max(1, c.Acts-1) },
	func(c *Config) { c.Stickiness = 0 },
	func(c *Config) { c.DynamicStableScale = false },
	func(c *Config) { c.Gates = false },
	func(c *Config) { c.Far = false },
	func(c *Config) { c.Profile = "ideal" },
	func(c *Config) {
		if c.Profile == "pessimistic" { // from ideal it would go to and fro for ever
			c.Profile = "typical"
		}
	},
	func(c *Config) { c.Threshold, c.MaxUnavailable, c.MinReady = nil, nil, 0 },
	func(c *Config) { c.ScaleDownDelay, c.AbortDelay = nil, nil },
	func(c *Config) { c.Zones = 1 },
	func(c *Config) { c.Steps = c.Steps[: len(c.Steps)/2 : len(c.Steps)/2] },
	func(c *Config) { c.Steps = append([]v1alpha1.CanaryStep(nil), c.Steps[len(c.Steps)/2:]...) },
	func(c *Config) { c.Replicas = max(1, c.Replicas/2) },
}

// Reduced makes a failed run simpler as long as the same law stays broken, and returns the simplest with its trace.
func Reduced(failed Report, brain Brain) Report {
	least := failed.Config
	for again := true; again; {
		again = false
		for _, simplify := range simpler {
			tried := least
			simplify(&tried)
			if tried.String() == least.String() {
				continue
			}
			if r := Run(Options{Config: tried, Brain: brain}); r.Violation != nil && r.Violation.Law == failed.Violation.Law {
				least, again = tried, true
			}
		}
	}
	return Run(Options{Config: least, Brain: brain, Trace: true})
}
