package simulation

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"time"

	"github.com/lockstep-delivery/lockstep/api/rollouts/v1alpha1"
	"github.com/lockstep-delivery/lockstep/internal/delivery/canary"
	"github.com/lockstep-delivery/lockstep/sandbox/aws/profile"
)

// Options are one run.
type Options struct {
	Config Config
	// Brain decides; its zero value is that of production.
	Brain Brain
	// Trace keeps what happened, line by line.
	Trace bool
}

// Report is what came of a run.
type Report struct {
	Config    Config
	Violation *Violation
	// Reached counts situations that are rare and should come up in a batch of runs.
	Reached map[string]int
	// Simulated is virtual time; Decisions counts calls of decision functions, Writes those to Kubernetes and AWS.
	Simulated time.Duration
	Decisions int
	Writes    int
	// Rollouts counts versions that became stable.
	Rollouts int
	Trace    []string
	// End is the phase and message of the rollout in the end.
	End string
}

// world is one run.
type world struct {
	clock
	config Config
	brain  Brain
	rand   *rand.Rand
	draws  *profile.Draws

	revision    int64
	rollouts    *table[rollout]
	replicaSets *table[replicaSet]
	services    *table[service]
	ingresses   *table[ingress]
	pods        *table[pod]

	// setsCached and setsLive are what was last gathered of the cache and of the API server.
	setsCached, setsLive setsSeen

	workload  *workload
	aws       *aws
	account   *account
	mirror    *mirror
	delivery  *delivery
	balancing *balancing
	bindings  []*binding
	laws      *laws
	faults    *faults
	people    *people

	// life is the number of the process; what an older one had planned does not happen.
	life int
	down bool

	// shownAction is the split that was last written by the rollout.
	shownAction string
	images      int
	retried     bool
	// stable is the version that was last published as such.
	stable string
	calmAt time.Time

	violation *Violation
	reached   map[string]int
	tracing   bool
	trace     []string
	decisions int
	writes    int
	promoted  int
}

// profiles are read once.
var profiles = sync.OnceValue(func() map[string]*profile.Profile {
	all := map[string]*profile.Profile{}
	for _, name := range profile.Names() {
		p, err := profile.Load(name)
		if err != nil {
			panic(err) // they are built in
		}
		all[name] = p
	}
	return all
})

// Run plays one world to its end: a first deployment, acts and faults, calm, and the proof that nothing is
// written any more once the wish is fulfilled. It stops at the first broken law.
func Run(o Options) Report {
	w := newWorld(o)
	if w.config.Takeover {
		w.takeOver()
	} else {
		w.deploy()
	}
	if w.violation == nil {
		w.people.begin()
		w.faults.begin(time.Duration(w.config.Acts+1) * w.config.Calm)
		w.untilCalm()
	}
	if w.violation == nil {
		w.untilRest()
	}
	return w.report()
}

func newWorld(o Options) *world {
	w := &world{config: o.Config, brain: o.Brain, tracing: o.Trace, reached: map[string]int{}, images: 1}
	if w.brain.Rollout == nil {
		w.brain = Production()
	}
	w.rand = rand.New(rand.NewPCG(w.config.Seed, 1))
	w.draws = profile.NewDraws(profiles()[w.config.Profile], w.config.Seed, 1)
	w.rollouts, w.replicaSets, w.services = newTable[rollout](w), newTable[replicaSet](w), newTable[service](w)
	w.ingresses, w.pods = newTable[ingress](w), newTable[pod](w)
	w.workload, w.laws, w.faults, w.people = newWorkload(w), &laws{w: w, grownAt: map[string]time.Time{}}, &faults{w: w}, &people{w: w}
	w.aws, w.account = newAWS(w), newAccount(w)
	w.process()
	w.connect()
	return w
}

// connect says who hears of what.
func (w *world) connect() {
	bindings := func() {
		for _, b := range w.bindings {
			b.wake()
		}
	}
	w.rollouts.changed = func(string) { w.delivery.wake() }
	w.replicaSets.changed = func(string) { w.delivery.wake() }
	w.services.changed = func(string) { w.delivery.wake(); bindings() }
	w.ingresses.changed = func(string) { w.delivery.wake(); w.balancing.wake() }
	w.pods.changed = func(string) { w.delivery.wake(); bindings() }
	w.replicaSets.stored = func(name string) { w.workload.poke(name) }
	w.pods.stored = func(name string) {
		hash, _, _ := strings.Cut(name, "-")
		w.workload.poke(rolloutName + "-" + hash)
	}
}

// deploy applies the manifests and waits until the first version serves.
func (w *world) deploy() {
	w.services.put(canaryService, &service{})
	w.services.put(stableService, &service{})
	w.ingresses.put(ingressName, &ingress{writer: "kubectl", writtenAt: w.now(), other: "kubectl", otherAt: w.now()})
	w.rollouts.put(rolloutName, &rollout{generation: 1, image: "A", spec: w.config.spec()})
	w.laws.wanted = w.config.Replicas
	w.start()
	end := w.now().Add(2 * time.Hour)
	for w.violation == nil && w.phase() != v1alpha1.PhaseHealthy {
		if !w.step(end) {
			w.violate(0, "the first deployment does not end: %s", w.phaseText())
		}
	}
	for settled := w.now().Add(w.config.Settle + time.Minute); w.violation == nil && w.step(settled); {
	}
	w.laws.judging = true
	w.note("the first version is stable; from now on every request counts")
	w.judge()
}

// start begins a process: it lists, and looks at everything.
func (w *world) start() {
	w.down = false
	w.life++
	w.rollouts.relist()
	w.replicaSets.relist()
	w.services.relist()
	w.ingresses.relist()
	w.pods.relist()
	if w.brain.Restarted != nil && w.laws.judging {
		w.brain.Restarted(&w.brain, w.now())
	}
	w.mirror.startedAt = w.now()
	w.mirror.audit()
	w.delivery.wake()
	w.balancing.wake()
	for _, b := range w.bindings {
		b.wake()
	}
}

// stop ends the process with everything that it knew.
func (w *world) stop() {
	w.life++
	w.down = true
	w.process()
}

// process makes controllers that know nothing yet.
func (w *world) process() {
	w.mirror = newMirror(w)
	w.account.restarted()
	w.delivery, w.balancing = newDelivery(w), newBalancing(w)
	w.bindings = []*binding{newBinding(w, canaryService), newBinding(w, stableService)}
}

// untilCalm plays until people and faults have come to an end.
func (w *world) untilCalm() {
	end := w.now().Add(24 * time.Hour)
	for w.violation == nil && w.calmAt.IsZero() && w.step(end) {
	}
}

// calm ends the faults; from then on people only help the rollout to its end.
func (w *world) calm() {
	w.faults.quiet = true
	w.calmAt = w.now()
	w.note("people and faults come to rest")
}

// patience is how long a rollout may take when nothing stands in its way: steps, settle times, deregistration
// delays and pauses of the longest kind, several times over.
const patience = 6 * time.Hour

// untilRest plays until the wish is fulfilled, and then for a while in which nothing may be written.
func (w *world) untilRest() {
	end := w.now().Add(patience)
	for w.violation == nil {
		next := w.now().Add(time.Minute)
		for w.violation == nil && w.step(next) {
		}
		if w.violation != nil {
			return
		}
		w.people.carryOn()
		if why := w.unfulfilled(); why == "" {
			break
		} else if w.now().After(end) {
			w.describe()
			w.violate(0, "the rollout does not end in %s: %s; %s", patience, why, w.phaseText())
		}
	}
	// What is settled is still noted, once.
	for settled := w.now().Add(w.config.Settle + time.Minute); w.violation == nil && w.step(settled); {
	}
	before := w.writes
	for quiet := w.now().Add(20 * time.Minute); w.violation == nil && w.step(quiet); {
	}
	if w.violation == nil && w.writes != before {
		w.violate(0, "%d writes after the wish was fulfilled", w.writes-before)
	}
	if why := w.unfulfilled(); w.violation == nil && why != "" {
		w.violate(0, "the rollout does not stay where it was: %s", why)
	}
}

// unfulfilled says what is not as it was wished for; empty when all is.
func (w *world) unfulfilled() string {
	r, _ := w.rollouts.live.get(rolloutName)
	s := r.status
	version, phase := r.image, v1alpha1.PhaseHealthy
	if s.Abort {
		version, phase = s.StableRS, v1alpha1.PhaseDegraded
	}
	if s.Phase != phase || s.StableRS != version {
		return fmt.Sprintf("phase is %s with stable version %s, wanted is %s with %s", s.Phase, s.StableRS, phase, version)
	}
	if !verified(s) {
		return "TrafficVerified is False"
	}
	if !s.RestartedAt.Equal(r.spec.RestartAt) {
		return "a restart is not done"
	}
	if now := w.now(); now.Before(w.aws.busyUntil) || now.Before(w.account.crowdedUntil) || w.account.twin != "" {
		return "others still disturb"
	}
	if w.balancing.open > 0 {
		return fmt.Sprintf("%d operations on the load balancer are open", w.balancing.open)
	}
	for _, name := range []string{canaryService, stableService} {
		if hash := w.laws.hash(name); hash != version {
			return fmt.Sprintf("Service %s selects %s", name, hash)
		}
		healthy := int32(0)
		for _, t := range w.aws.groupOf(name).targets {
			if p := w.podAt(t.ip, true); p == nil || p.hash != version {
				return fmt.Sprintf("%s is still a target (%s) in the group of %s", w.named(t.ip), t.state, name)
			}
			if t.state == "healthy" {
				healthy++
			}
		}
		if healthy != *r.spec.Replicas {
			return fmt.Sprintf("%d of %d pods are healthy in the group of %s", healthy, *r.spec.Replicas, name)
		}
	}
	for _, t := range w.aws.forward().TargetGroups {
		if g := w.aws.group(t.ARN); (g.service == stableService) != (t.Weight == 100) {
			return "AWS has " + w.aws.describe(w.aws.forward())
		}
	}
	for _, o := range w.replicaSets.live.objects {
		name, rs := o.name, o.value
		wanted := int32(0)
		if rs.hash == version {
			wanted = *r.spec.Replicas
		}
		if kept := s.Abort && rs.hash == r.image && w.config.AbortDelay != nil && *w.config.AbortDelay == 0; kept {
			continue
		}
		if _, all := w.workload.podsOf(rs.hash); rs.replicas != wanted || len(all) != int(wanted) {
			return fmt.Sprintf("ReplicaSet %s has %d of %d pods, wanted are %d", name, len(all), rs.replicas, wanted)
		}
	}
	return ""
}

// describe puts the state of everything into the trace.
func (w *world) describe() {
	r, _ := w.rollouts.live.get(rolloutName)
	w.note("image %s, stable %s, replicas %d, step %v, traffic %+v", r.image, r.status.StableRS, *r.spec.Replicas, r.status.CurrentStepIndex, r.status.Traffic)
	for _, o := range w.pods.live.objects {
		w.note("pod %s %+v", o.name, *o.value)
	}
	for _, g := range w.aws.groups {
		for _, t := range g.targets {
			w.note("target of %s: %s %s", g.service, w.named(t.ip), t.state)
		}
	}
}

// published is called when the rollout's status has been stored.
func (w *world) published(s v1alpha1.RolloutStatus) {
	w.note("status: %s", phaseOf(s))
	if s.StableRS != w.stable {
		w.stable = s.StableRS
		w.promoted++
	}
	for _, c := range s.Conditions {
		if c.Type == v1alpha1.ConditionTrafficContested && c.Status == "True" {
			w.reach("TrafficContested")
		}
	}
	if w.laws.asleep && w.laws.wanted > 0 && s.Phase == v1alpha1.PhaseHealthy && s.AvailableReplicas > 0 {
		w.awake()
	}
}

// awake judges traffic again after pods had not been wanted, when the nodes have heard of the new ones.
func (w *world) awake() {
	since := w.laws.resizedAt
	w.after(w.config.Settle+time.Minute, func() {
		if w.laws.resizedAt.Equal(since) && w.laws.wanted > 0 && w.laws.asleep {
			w.laws.asleep = false
			w.reach("back from 0 pods")
			w.judge()
		}
	})
}

func (w *world) phase() string {
	r, _ := w.rollouts.live.get(rolloutName)
	return r.status.Phase
}

func (w *world) phaseText() string {
	r, _ := w.rollouts.live.get(rolloutName)
	return phaseOf(r.status)
}

func (w *world) settings() canary.Settings {
	s := canary.DefaultSettings()
	s.Settle = w.config.Settle
	return s
}

// podAt is the pod that has an address, nil when none has; a live one before one that is being deleted.
func (w *world) podAt(ip string, fresh bool) *pod {
	var found *pod
	for _, o := range w.pods.at(fresh).objects {
		if p := o.value; p.ip == ip && (found == nil || found.terminating) {
			found = p
		}
	}
	return found
}

// named is an address with the pod that has or had it.
func (w *world) named(ip string) string {
	if proc := w.workload.processes[ip]; proc != nil {
		return proc.pod + " (" + ip + ")"
	}
	return ip
}

// lag is how long a node takes to learn of a change.
func (w *world) lag(key profile.Key, event, zone string) time.Duration {
	if w.config.Far && key == profile.ALBRuleChange {
		return w.between(0, w.config.Settle-2*time.Second)
	}
	return w.draws.PerNode(key, event, zone)
}

func (w *world) watchDelay() time.Duration {
	if slow := w.config.Faults.SlowWatch; slow > 0 && !w.faults.quiet && w.chance(0.1) {
		return w.between(0, slow)
	}
	return w.between(time.Millisecond, 50*time.Millisecond)
}

func (w *world) between(a, b time.Duration) time.Duration {
	switch {
	case b <= a:
		return a
	case w.config.Plain:
		return a + (b-a)/2
	}
	return a + time.Duration(w.rand.Int64N(int64(b-a)))
}

func (w *world) chance(p float64) bool {
	switch {
	case w.config.Plain:
		return p > 0.5
	case p <= 0:
		return false
	}
	return w.rand.Float64() < p
}

func (w *world) intn(n int) int {
	if w.config.Plain {
		return 0
	}
	return w.rand.IntN(n)
}

func (w *world) reach(what string) {
	if w.laws.judging {
		w.reached[what]++
	}
}

func (w *world) note(format string, args ...any) {
	if w.tracing {
		w.trace = append(w.trace, w.now().Sub(epoch).Round(time.Millisecond).String()+"  "+fmt.Sprintf(format, args...))
	}
}

func (w *world) violate(law int, format string, args ...any) {
	if w.violation == nil {
		w.violation = &Violation{Law: law, At: w.now().Sub(epoch), What: fmt.Sprintf(format, args...)}
		w.note("VIOLATION: %s", w.violation)
	}
}

func (w *world) report() Report {
	return Report{
		Config: w.config, Violation: w.violation, Reached: w.reached, Simulated: w.now().Sub(epoch), Decisions: w.decisions,
		Writes: w.writes, Rollouts: w.promoted, Trace: w.trace, End: w.phaseText(),
	}
}
