package lifecycle

import (
	"time"

	corev1 "k8s.io/api/core/v1"
)

// probe is one probe of a running container. Probes run at fixed times from the container's start
// (initialDelaySeconds, then every periodSeconds), one at a time.
type probe struct {
	kind     ProbeKind
	spec     *corev1.Probe
	next     time.Time
	inFlight bool
	// ok and count are the last result and how often it came in a row.
	ok    bool
	count int32
}

func newProbes(spec *corev1.Container, now time.Time) []probe {
	var list []probe
	for _, p := range []probe{
		{kind: Startup, spec: spec.StartupProbe},
		{kind: Liveness, spec: spec.LivenessProbe},
		{kind: Readiness, spec: spec.ReadinessProbe},
	} {
		if p.spec != nil {
			p.next = now.Add(time.Duration(p.spec.InitialDelaySeconds) * time.Second)
			list = append(list, p)
		}
	}
	return list
}

// due reports whether a probe of this kind is run in the container's present state: the startup
// probe alone until it succeeds, then the others; only readiness once the container is being stopped.
func (c *container) due(kind ProbeKind) bool {
	switch {
	case kind == Startup:
		return !c.started && c.stage == running
	case kind == Liveness:
		return c.started && c.stage == running
	default:
		return c.started
	}
}

func (c *container) runProbes(m *Machine, now time.Time) {
	for i := range c.probes {
		p := &c.probes[i]
		if p.inFlight || !c.due(p.kind) {
			continue
		}
		if now.Before(p.next) {
			m.wakeAt(p.next)
			continue
		}
		p.inFlight = true
		p.next = later(p.next.Add(period(p.spec)), now)
		m.act(Probe{Ref: c.ref(), Kind: p.kind, Spec: p.spec})
	}
}

// probed takes a result; what it means begins when it has come often enough in a row.
func (c *container) probed(m *Machine, now time.Time, in Probed) {
	p := c.probe(in.Kind)
	if p == nil {
		return
	}
	p.inFlight = false
	if !c.due(in.Kind) {
		return
	}
	if p.ok != in.OK {
		p.ok, p.count = in.OK, 0
	}
	p.count++
	if !in.OK {
		c.warn(m, "Unhealthy", in.Kind.String()+" probe failed: "+in.Message)
	}
	switch {
	case in.OK && p.count >= max(p.spec.SuccessThreshold, 1):
		c.probeHolds(in.Kind, now)
	case !in.OK && p.count >= failures(p.spec):
		c.probeFails(m, now, p)
	}
}

func (c *container) probeHolds(kind ProbeKind, now time.Time) {
	switch kind {
	case Readiness:
		c.ready = true
	case Startup:
		c.started = true
		c.ready = c.spec.ReadinessProbe == nil
		for i := range c.probes { // those that could not run before need not wait for their next turn
			c.probes[i].next = later(c.startedAt.Add(time.Duration(c.probes[i].spec.InitialDelaySeconds)*time.Second), now)
		}
	}
}

func (c *container) probeFails(m *Machine, now time.Time, p *probe) {
	if p.kind == Readiness {
		c.ready = false
		return
	}
	grace := gracePeriod(m.pod)
	if p.spec.TerminationGracePeriodSeconds != nil {
		grace = time.Duration(*p.spec.TerminationGracePeriodSeconds) * time.Second
	}
	what := map[ProbeKind]string{Startup: "startup", Liveness: "liveness"}[p.kind]
	c.stop(m, now, grace, "Container "+c.spec.Name+" failed "+what+" probe, will be restarted")
}

func (c *container) probe(kind ProbeKind) *probe {
	for i := range c.probes {
		if c.probes[i].kind == kind {
			return &c.probes[i]
		}
	}
	return nil
}

// failures and period are what the API server fills in where a manifest says nothing.
func failures(p *corev1.Probe) int32 {
	if p.FailureThreshold <= 0 {
		return 3
	}
	return p.FailureThreshold
}

func period(p *corev1.Probe) time.Duration {
	if p.PeriodSeconds <= 0 {
		return 10 * time.Second
	}
	return time.Duration(p.PeriodSeconds) * time.Second
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}
