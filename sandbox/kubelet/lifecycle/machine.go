package lifecycle

import (
	"cmp"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
)

const (
	networkRetry = 5 * time.Second
	// A volume that cannot be set up is tried again after volumeRetry, which doubles up to volumeRetryMost.
	volumeRetry     = 500 * time.Millisecond
	volumeRetryMost = 2*time.Minute + 2*time.Second
	// minimumGrace is what a process gets between SIGTERM and SIGKILL even if its preStop hook has
	// used up the grace period.
	minimumGrace = 2 * time.Second
)

// Machine is the life of one pod. It is not safe for concurrent use.
type Machine struct {
	pod     *corev1.Pod
	hostIP  netip.Addr
	volumes volumes
	network network
	// containers are the init containers in order, then the others.
	containers []*container
	// ending says that the pod is being stopped; deadline is when what is left of it is killed.
	ending   bool
	deadline time.Time
	finished bool
	// condemned is why the pod fails, whatever its containers do; nil if it does not.
	condemned *Condemned

	started    time.Time
	conditions []corev1.PodCondition
	status     corev1.PodStatus
	// shown is what status was made from.
	shown shown

	do   []Action
	wake time.Time
}

// volumes is where the pod's volumes stand. Nothing of a pod begins before all are there.
type volumes struct {
	up, asked bool
	delay     time.Duration
	retry     time.Time
}

type network struct {
	addr  netip.Addr
	asked bool
	retry time.Time
	down  bool // given back
}

// New returns the life of a pod that has just been bound to the node with the address hostIP. Nothing
// happens before the first Advance.
func New(pod *corev1.Pod, hostIP netip.Addr) *Machine {
	m := &Machine{pod: pod, hostIP: hostIP}
	for i := range pod.Spec.InitContainers {
		m.containers = append(m.containers, newContainer(pod, &pod.Spec.InitContainers[i], true))
	}
	for i := range pod.Spec.Containers {
		m.containers = append(m.containers, newContainer(pod, &pod.Spec.Containers[i], false))
	}
	return m
}

// Pod returns the newest pod object that the machine has seen.
func (m *Machine) Pod() *corev1.Pod { return m.pod }

// Addr returns the pod's address; it is invalid before the network is up.
func (m *Machine) Addr() netip.Addr { return m.network.addr }

// Status returns the pod's status as the kubelet writes it: only what a kubelet owns, without the
// conditions of other writers. The caller must not change it.
func (m *Machine) Status() corev1.PodStatus { return m.status }

// Advance takes what has happened and returns what to do at now, which must not go backwards.
func (m *Machine) Advance(now time.Time, inputs ...Input) Work {
	m.do, m.wake = nil, time.Time{}
	if m.started.IsZero() {
		m.started = now
	}
	for _, in := range inputs {
		m.take(now, in)
	}
	m.proceed(now)
	return Work{Do: m.do, Wake: m.wake, StatusChanged: m.renewStatus(now), Finished: m.finished}
}

func (m *Machine) take(now time.Time, in Input) {
	switch in := in.(type) {
	case Observed:
		m.observe(now, in.Pod)
	case Removed:
		m.end(now, gracePeriod(m.pod))
	case VolumesUp:
		m.volumes.up = true
	case VolumesFailed:
		m.volumesFailed(now, in)
	case NetworkUp:
		m.network.addr = in.Addr
	case NetworkFailed:
		m.network = network{retry: now.Add(networkRetry)}
		m.record(Record{Type: corev1.EventTypeWarning, Reason: "FailedCreatePodSandBox", Message: in.Message})
	case Pulled:
		m.with(in.Ref, func(c *container) { c.pulled(m, now, in.Message) })
	case PullFailed:
		m.with(in.Ref, func(c *container) { c.pullFailed(m, now, in) })
	case Started:
		m.with(in.Ref, func(c *container) { c.startedRunning(m, now) })
	case StartFailed:
		m.with(in.Ref, func(c *container) { c.startFailed(m, now, in) })
	case Exited:
		m.with(in.Ref, func(c *container) { c.exitedWith(m, now, in) })
	case Probed:
		m.with(in.Ref, func(c *container) { c.probed(m, now, in) })
	case HookDone:
		m.with(in.Ref, func(c *container) { c.hookDone(m, now, in) })
	case Condemned:
		m.condemn(in, corev1.EventTypeWarning)
	}
}

func (m *Machine) with(ref Ref, f func(*container)) {
	for _, c := range m.containers {
		if c.spec.Name == ref.Container && c.run == ref.Run {
			f(c)
		}
	}
}

// observe takes a newer pod object. A change of the pod's own spec is taken at the next start of a
// container; a deletion begins, or shortens, the end.
func (m *Machine) observe(now time.Time, pod *corev1.Pod) {
	m.pod = pod
	for _, c := range m.containers {
		c.renew(pod)
	}
	if pod.DeletionTimestamp != nil {
		m.end(now, gracePeriod(pod))
	}
}

func gracePeriod(pod *corev1.Pod) time.Duration {
	seconds := int64(corev1.DefaultTerminationGracePeriodSeconds)
	switch {
	case pod.DeletionGracePeriodSeconds != nil:
		seconds = *pod.DeletionGracePeriodSeconds
	case pod.Spec.TerminationGracePeriodSeconds != nil:
		seconds = *pod.Spec.TerminationGracePeriodSeconds
	}
	return max(time.Duration(seconds)*time.Second, time.Second)
}

// end begins the pod's end, or brings its deadline nearer. It never puts it off.
func (m *Machine) end(now time.Time, grace time.Duration) {
	deadline := now.Add(grace)
	if m.ending && !deadline.Before(m.deadline) {
		return
	}
	m.ending, m.deadline = true, deadline
	for _, c := range m.containers {
		if c.stage == stopping {
			c.killAt = minTime(c.killAt, deadline)
		}
	}
}

// proceed does all that can be done now, and notes when there will be more.
func (m *Machine) proceed(now time.Time) {
	switch {
	case m.ending:
		m.proceedEnding(now)
	case m.overdue(now):
		m.proceedCondemned(now)
	case len(m.pod.Spec.Volumes) > 0 && !m.volumes.up:
		m.setUpVolumes(now)
	case !m.network.addr.IsValid():
		m.setUpNetwork(now)
	default:
		m.proceedContainers(now)
	}
}

// overdue reports whether the pod is to fail, and condemns it when its active deadline has passed.
func (m *Machine) overdue(now time.Time) bool {
	seconds := m.pod.Spec.ActiveDeadlineSeconds
	if m.condemned != nil || seconds == nil || m.done() {
		return m.condemned != nil
	}
	deadline := m.started.Add(time.Duration(*seconds) * time.Second)
	if now.Before(deadline) {
		m.wakeAt(deadline)
		return false
	}
	m.condemn(Condemned{Reason: "DeadlineExceeded", Message: "Pod was active on the node longer than the specified deadline"}, corev1.EventTypeNormal)
	return true
}

// condemn decides that the pod fails, and says so in an event. The first reason stays.
func (m *Machine) condemn(why Condemned, event string) {
	if m.condemned == nil && !m.done() {
		m.condemned = &why
		m.record(Record{Type: event, Reason: why.Reason, Message: why.Message})
	}
}

// done reports whether the pod has come to its end by itself.
func (m *Machine) done() bool {
	phase := m.phase()
	return phase == corev1.PodSucceeded || phase == corev1.PodFailed
}

func (m *Machine) setUpVolumes(now time.Time) {
	if m.volumes.asked {
		return
	}
	if now.Before(m.volumes.retry) {
		m.wakeAt(m.volumes.retry)
		return
	}
	m.volumes.asked = true
	m.act(SetUpVolumes{})
}

func (m *Machine) volumesFailed(now time.Time, in VolumesFailed) {
	delay := min(max(2*m.volumes.delay, volumeRetry), volumeRetryMost)
	m.volumes = volumes{delay: delay, retry: now.Add(delay)}
	for _, message := range in.Messages {
		m.record(Record{Type: corev1.EventTypeWarning, Reason: "FailedMount", Message: message})
	}
}

func (m *Machine) setUpNetwork(now time.Time) {
	if m.network.asked {
		return
	}
	if now.Before(m.network.retry) {
		m.wakeAt(m.network.retry)
		return
	}
	m.network.asked = true
	m.act(SetUpNetwork{})
}

func (m *Machine) proceedContainers(now time.Time) {
	if m.done() {
		m.stopSidecars(now)
		m.tearDownNetwork()
		return
	}
	for _, c := range m.containers {
		c.proceed(m, now)
		if c.init && !c.passed() {
			return // the following are held until this one is done
		}
	}
}

// proceedCondemned stops all containers of a pod that is to fail, and keeps those that wait from starting. Its object stays.
func (m *Machine) proceedCondemned(now time.Time) {
	m.stopContainers(now, func() time.Duration { return cmp.Or(m.condemned.Grace, gracePeriod(m.pod)) })
	m.tearDownNetwork()
}

// stopSidecars ends the restartable init containers of a pod whose own containers are done.
func (m *Machine) stopSidecars(now time.Time) {
	for _, c := range m.containers {
		if c.alive() && c.stage != stopping {
			c.stop(m, now, gracePeriod(m.pod), "Stopping container "+c.spec.Name)
		}
		c.proceed(m, now)
	}
}

// proceedEnding stops the containers, restartable init containers after the others, and gives the
// address back when all are gone.
func (m *Machine) proceedEnding(now time.Time) {
	if m.finished {
		return
	}
	m.stopContainers(now, func() time.Duration { return m.deadline.Sub(now) })
	m.finished = m.tearDownNetwork()
}

// stopContainers stops what runs, restartable init containers after the others, and gives up what does not.
func (m *Machine) stopContainers(now time.Time, grace func() time.Duration) {
	for i := len(m.containers) - 1; i >= 0; i-- {
		c := m.containers[i]
		if !c.alive() {
			c.abandon(now)
			continue
		}
		if c.stage != stopping && !(c.sidecar() && m.anyAlive()) {
			c.stop(m, now, grace(), "Stopping container "+c.spec.Name)
		}
		c.proceed(m, now)
	}
}

// tearDownNetwork gives the address back once no process is left; it reports whether that is done.
func (m *Machine) tearDownNetwork() bool {
	for _, c := range m.containers {
		if c.alive() {
			return false
		}
	}
	if m.network.asked && !m.network.addr.IsValid() {
		return false // the answer has to come first, or the address would be lost
	}
	if m.network.addr.IsValid() && !m.network.down {
		m.network.down = true
		m.act(TearDownNetwork{})
	}
	return true
}

// anyAlive reports whether a container of the pod's own, not a sidecar, still runs.
func (m *Machine) anyAlive() bool {
	for _, c := range m.containers {
		if !c.sidecar() && c.alive() {
			return true
		}
	}
	return false
}

func (m *Machine) act(a Action) { m.do = append(m.do, a) }

func (m *Machine) record(r Record) { m.act(r) }

func (m *Machine) wakeAt(t time.Time) {
	if !t.IsZero() && (m.wake.IsZero() || t.Before(m.wake)) {
		m.wake = t
	}
}

func minTime(a, b time.Time) time.Time {
	if a.Before(b) {
		return a
	}
	return b
}
