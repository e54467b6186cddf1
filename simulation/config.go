package simulation

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
)

// Config is one world, before anything has happened in it.
type Config struct {
	Seed     uint64
	Replicas int32
	Zones    int
	// Profile names the delays of AWS; Far has rule changes take up to the settle time, evenly.
	Profile string
	Far     bool
	Settle  time.Duration

	// Takeover begins with what other controllers have deployed; else the first deployment is Lockstep's.
	Takeover bool

	Steps               []v1alpha1.CanaryStep
	DynamicStableScale  bool
	Stickiness          time.Duration
	ScaleDownDelay      *int32
	AbortDelay          *int32
	MinReady            int32
	MaxUnavailable      *intstr.IntOrString
	Threshold           *v1alpha1.ReplicaProgressThreshold
	DeregistrationDelay time.Duration
	CheckInterval       time.Duration
	Gates               bool
	StartMin, StartMax  time.Duration

	// Plain leaves nothing to chance: every duration is the middle of its range. Stories are told like that.
	Plain bool

	// Acts is how many things people do, Calm how long they wait between them at most.
	Acts int
	Calm time.Duration
	// Restarts is how often they ask for new pods, at any time.
	Restarts int
	// Faults are the kinds that happen.
	Faults Faults
}

// Faults says which kinds of faults happen in a run, and how often.
type Faults struct {
	// Crash is the chance of a crash before each operation.
	Crash float64
	// LateCalls have an operation of the crashed process arrive after its successor has begun.
	LateCalls bool
	// Storms is the number of throttle storms of some minutes.
	Storms int
	// Crowds is the number of times in which other stacks spend what they may of the call budget.
	Crowds int
	// Neighbour has another cluster with resources of the same names in the account, Twin somebody make a load
	// balancer with our tags.
	Neighbour, Twin bool
	// LostPods is the number of pods that stop by themselves.
	LostPods int
	// SlowWatch delays what the caches hear by up to that.
	SlowWatch time.Duration
	// Edits is the number of foreign writes of the annotation; a Reverter answers each of our writes with its own.
	Edits    int
	Reverter bool
}

// Drawn makes the world of a seed.
func Drawn(seed uint64) Config {
	r := rand.New(rand.NewPCG(seed, 0))
	seconds := func(choices ...int) time.Duration { return time.Duration(choices[r.IntN(len(choices))]) * time.Second }
	chance := func(p float64) bool { return r.Float64() < p }
	c := Config{
		Seed: seed, Replicas: int32(1 + r.IntN(6)), Zones: 1 + r.IntN(3), Settle: 150 * time.Second,
		Profile:             []string{"ideal", "typical", "typical", "pessimistic", "pessimistic"}[r.IntN(5)],
		DynamicStableScale:  chance(0.25),
		DeregistrationDelay: seconds(0, 5, 10, 30, 60, 300),
		CheckInterval:       seconds(5, 10, 15, 30),
		Gates:               chance(0.6),
		Acts:                1 + r.IntN(6), Calm: seconds(20, 120, 600),
	}
	c.Far = chance(0.3)
	if !c.Far && c.Profile != "pessimistic" && chance(0.3) {
		c.Settle = time.Minute
	}
	c.StartMin = seconds(0, 1, 5)
	c.StartMax = c.StartMin + seconds(1, 10, 30)
	if chance(0.3) {
		c.Stickiness = seconds(30, 120, 600)
	}
	if chance(0.5) && !c.DynamicStableScale {
		c.ScaleDownDelay = new(int32(seconds(0, 1, 30, 200).Seconds()))
	}
	if chance(0.4) {
		c.AbortDelay = new(int32(seconds(0, 1, 60).Seconds()))
	}
	if chance(0.2) {
		c.MinReady = int32(1 + r.IntN(20))
	}
	if chance(0.2) {
		c.MaxUnavailable = new(intstr.FromString([]string{"0%", "25%", "50%"}[r.IntN(3)]))
	}
	if chance(0.15) {
		c.Threshold = &v1alpha1.ReplicaProgressThreshold{Type: "Percent", Value: int32(50 + r.IntN(50))}
	}
	c.Steps = drawnSteps(r)
	c.Faults = drawnFaults(r)
	more := rand.New(rand.NewPCG(seed, 2)) // a source of its own: what is drawn above stays as it is
	c.Takeover = more.IntN(8) > 0
	if more.IntN(4) == 0 {
		c.Faults.Crowds = 1 + more.IntN(3)
	}
	c.Faults.Neighbour, c.Faults.Twin = more.IntN(4) == 0, more.IntN(8) == 0
	if restarts := rand.New(rand.NewPCG(seed, 3)); restarts.IntN(3) == 0 {
		c.Restarts = 1 + restarts.IntN(3)
	}
	return c
}

func drawnSteps(r *rand.Rand) []v1alpha1.CanaryStep {
	var steps []v1alpha1.CanaryStep
	weight := int32(0)
	for range r.IntN(5) {
		if r.IntN(6) == 0 {
			scale := &v1alpha1.SetCanaryScale{MatchTrafficWeight: true}
			switch r.IntN(3) {
			case 0:
				scale = &v1alpha1.SetCanaryScale{Replicas: new(int32(1 + r.IntN(4)))}
			case 1:
				scale = &v1alpha1.SetCanaryScale{Weight: new(int32(10 + r.IntN(90)))}
			}
			steps = append(steps, v1alpha1.CanaryStep{SetCanaryScale: scale})
		}
		if weight = min(100, weight+int32(5+r.IntN(45))); r.IntN(12) == 0 {
			weight = int32(r.IntN(101)) // also down, and to 0 and 100
		}
		steps = append(steps, v1alpha1.CanaryStep{SetWeight: new(weight)})
		switch r.IntN(4) {
		case 0:
			steps = append(steps, v1alpha1.CanaryStep{Pause: &v1alpha1.RolloutPause{}})
		case 1, 2:
			steps = append(steps, v1alpha1.CanaryStep{Pause: &v1alpha1.RolloutPause{Duration: new(intstr.FromInt32(int32(1 + r.IntN(200))))}})
		}
	}
	return steps
}

func drawnFaults(r *rand.Rand) Faults {
	var f Faults
	some := func(p float64) bool { return r.Float64() < p }
	if some(0.5) {
		f.Crash, f.LateCalls = []float64{0.01, 0.05, 0.2}[r.IntN(3)], some(0.5)
	}
	if some(0.3) {
		f.Storms = 1 + r.IntN(2)
	}
	if some(0.3) {
		f.LostPods = 1 + r.IntN(3)
	}
	if some(0.3) {
		f.SlowWatch = time.Duration(1+r.IntN(8)) * time.Second
	}
	if some(0.3) {
		f.Edits, f.Reverter = 1+r.IntN(3), some(0.3)
	}
	return f
}

// spec is the Rollout's spec.
func (c Config) spec() v1alpha1.RolloutSpec {
	return v1alpha1.RolloutSpec{
		Replicas: new(c.Replicas), MinReadySeconds: c.MinReady,
		Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "shop"}},
		Strategy: v1alpha1.RolloutStrategy{Canary: &v1alpha1.CanaryStrategy{
			CanaryService: canaryService, StableService: stableService, Steps: c.Steps,
			DynamicStableScale: c.DynamicStableScale, ScaleDownDelaySeconds: c.ScaleDownDelay, AbortScaleDownDelaySeconds: c.AbortDelay,
			MaxUnavailable: c.MaxUnavailable, ReplicaProgressThreshold: c.Threshold,
			TrafficRouting: &v1alpha1.RolloutTrafficRouting{ALB: &v1alpha1.ALBTrafficRouting{Ingress: ingressName, ServicePort: 80, StickinessConfig: c.stickiness()}},
		}},
	}
}

func (c Config) stickiness() *v1alpha1.StickinessConfig {
	if c.Stickiness == 0 {
		return nil
	}
	return &v1alpha1.StickinessConfig{Enabled: true, DurationSeconds: int64(c.Stickiness.Seconds())}
}

// String tells the config on one line.
func (c Config) String() string {
	var parts []string
	for _, s := range c.Steps {
		switch {
		case s.SetWeight != nil:
			parts = append(parts, fmt.Sprint(*s.SetWeight))
		case s.Pause != nil && s.Pause.Duration != nil:
			parts = append(parts, s.Pause.Duration.String()+"s")
		case s.Pause != nil:
			parts = append(parts, "pause")
		case s.SetCanaryScale.Replicas != nil:
			parts = append(parts, fmt.Sprintf("scale %d", *s.SetCanaryScale.Replicas))
		case s.SetCanaryScale.Weight != nil:
			parts = append(parts, fmt.Sprintf("scale %d%%", *s.SetCanaryScale.Weight))
		default:
			parts = append(parts, "scale matches")
		}
	}
	text := func(v *int32) string {
		if v == nil {
			return "default"
		}
		return fmt.Sprint(*v)
	}
	return fmt.Sprintf("seed %d: takeover=%t, %d pods, %d zones, %s far=%t settle=%s, steps [%s], dynamicStableScale=%t sticky=%s scaleDownDelay=%s abortDelay=%s minReady=%d deregistration=%s checks=%s gates=%t start %s-%s, %d acts within %s, %d restarts, faults %+v",
		c.Seed, c.Takeover, c.Replicas, c.Zones, c.Profile, c.Far, c.Settle, strings.Join(parts, ", "), c.DynamicStableScale, c.Stickiness, text(c.ScaleDownDelay), text(c.AbortDelay), c.MinReady,
		c.DeregistrationDelay, c.CheckInterval, c.Gates, c.StartMin, c.StartMax, c.Acts, c.Calm, c.Restarts, c.Faults)
}
