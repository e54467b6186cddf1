package lifecycle

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// phase says where the pod as a whole stands, from the states of its containers.
func (m *Machine) phase() corev1.PodPhase {
	var waiting, runningNow, failed, done int
	for _, c := range m.containers {
		switch {
		case c.init:
			if c.stage == exited && c.exit.ExitCode != 0 && !c.restartable(m.pod) {
				return corev1.PodFailed
			}
			if !c.passed() && !m.finished {
				waiting++
			}
		case c.stage == running || c.stage == stopping:
			runningNow++
		case c.stage == exited && (m.finished || !c.restartable(m.pod)):
			done++
			if c.exit.ExitCode != 0 {
				failed++
			}
		case c.lastExit != nil: // between two runs
			runningNow++
		default:
			waiting++
		}
	}
	switch {
	case m.condemned != nil && !slices.ContainsFunc(m.containers, (*container).alive):
		return corev1.PodFailed
	case waiting > 0:
		return corev1.PodPending
	case runningNow > 0:
		return corev1.PodRunning
	case failed > 0:
		return corev1.PodFailed
	default:
		return corev1.PodSucceeded
	}
}

// shown is everything that the status is made from, in a form that is cheap to compare: most of what
// happens to a pod, such as a probe that succeeds again, changes nothing of it.
type shown struct {
	pod            *corev1.Pod
	addr           netip.Addr
	down, finished bool
	condemned      bool
	containers     []shownContainer
}

type shownContainer struct {
	stage           stage
	run             int
	reason, message string
	started, ready  bool
	restarts        int32
	exit, lastExit  *corev1.ContainerStateTerminated
}

func (s shown) equal(o shown) bool {
	return s.pod == o.pod && s.addr == o.addr && s.down == o.down && s.finished == o.finished && s.condemned == o.condemned && slices.Equal(s.containers, o.containers)
}

// renewStatus makes the status anew if there is reason to; it reports whether it has changed.
func (m *Machine) renewStatus(now time.Time) bool {
	s := shown{pod: m.pod, addr: m.network.addr, down: m.network.down, finished: m.finished, condemned: m.condemned != nil}
	s.containers = make([]shownContainer, 0, len(m.containers))
	for _, c := range m.containers {
		s.containers = append(s.containers, shownContainer{c.stage, c.run, c.reason, c.message, c.started, c.ready, c.restarts, c.exit, c.lastExit})
	}
	if s.equal(m.shown) {
		return false
	}
	m.shown = s
	status := m.makeStatus(now)
	if equality.Semantic.DeepEqual(status, m.status) {
		return false
	}
	m.status = status
	return true
}

func (m *Machine) makeStatus(now time.Time) corev1.PodStatus {
	phase := m.phase()
	m.updateConditions(now, phase)
	s := corev1.PodStatus{
		Phase:      phase,
		StartTime:  new(metav1.NewTime(m.started)),
		HostIP:     m.hostIP.String(),
		HostIPs:    []corev1.HostIP{{IP: m.hostIP.String()}},
		Conditions: append([]corev1.PodCondition(nil), m.conditions...),
	}
	if m.condemned != nil {
		s.Reason, s.Message = m.condemned.Reason, m.condemned.Message
	}
	if a := m.network.addr; a.IsValid() {
		s.PodIP, s.PodIPs = a.String(), []corev1.PodIP{{IP: a.String()}}
	}
	for _, c := range m.containers {
		if c.init {
			s.InitContainerStatuses = append(s.InitContainerStatuses, c.status(m.pod))
		} else {
			s.ContainerStatuses = append(s.ContainerStatuses, c.status(m.pod))
		}
	}
	return s
}

func (c *container) status(pod *corev1.Pod) corev1.ContainerStatus {
	s := corev1.ContainerStatus{
		Name: c.spec.Name, Image: c.spec.Image, Ready: c.ready, RestartCount: c.restarts, Started: new(c.started),
	}
	if c.init && !c.sidecar() {
		s.Ready = c.passed()
	}
	if !c.startedAt.IsZero() {
		s.ImageID, s.ContainerID = c.spec.Image, containerID(pod, c)
	}
	switch {
	case c.stage == running || c.stage == stopping:
		s.State.Running = &corev1.ContainerStateRunning{StartedAt: c.startedAt}
	case c.stage == exited && c.reason == "":
		s.State.Terminated = c.exit
	default:
		s.State.Waiting = &corev1.ContainerStateWaiting{Reason: c.reason, Message: c.message}
	}
	if c.lastExit != nil && s.State.Terminated == nil {
		s.LastTerminationState.Terminated = c.lastExit
	}
	return s
}

func containerID(pod *corev1.Pod, c *container) string {
	return fmt.Sprintf("sandbox://%s/%s/%d", pod.UID, c.spec.Name, c.run)
}

// updateConditions computes the kubelet's own conditions. Those of others are only read, as readiness gates.
func (m *Machine) updateConditions(now time.Time, phase corev1.PodPhase) {
	var notInitialized, notReady []string
	for _, c := range m.containers {
		switch {
		case c.init && !c.passed() && !c.sidecar(), c.sidecar() && !c.started:
			notInitialized = append(notInitialized, c.spec.Name)
		case (!c.init || c.sidecar()) && !c.ready:
			notReady = append(notReady, c.spec.Name)
		}
	}
	initialized := verdict{ok: len(notInitialized) == 0, reason: "ContainersNotInitialized",
		message: fmt.Sprintf("containers with incomplete status: %v", notInitialized)}
	if m.ending && m.finished {
		initialized.ok = initialized.ok || m.initialized()
	}
	containers := verdict{ok: len(notReady) == 0 && initialized.ok, reason: "ContainersNotReady",
		message: fmt.Sprintf("containers with unready status: %v", notReady)}
	switch phase {
	case corev1.PodSucceeded:
		containers = verdict{reason: "PodCompleted"}
	case corev1.PodFailed:
		containers = verdict{reason: "PodFailed"}
	}
	ready := containers
	if ready.ok {
		ready = readinessGates(m.pod)
	}
	m.setCondition(now, corev1.PodReadyToStartContainers, verdict{ok: m.network.addr.IsValid() && !m.network.down})
	m.setCondition(now, corev1.PodInitialized, initialized)
	m.setCondition(now, corev1.PodReady, ready)
	m.setCondition(now, corev1.ContainersReady, containers)
	m.setCondition(now, corev1.PodScheduled, verdict{ok: true})
}

// initialized reports whether the pod has once been initialized.
func (m *Machine) initialized() bool {
	for _, c := range m.conditions {
		if c.Type == corev1.PodInitialized {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// verdict is the state of a condition; reason and message are for when it does not hold.
type verdict struct {
	ok              bool
	reason, message string
}

// readinessGates says whether the conditions that others write, and that the pod wants, are all True.
func readinessGates(pod *corev1.Pod) verdict {
	var missing []string
	for _, gate := range pod.Spec.ReadinessGates {
		if why := gateOpen(pod, gate.ConditionType); why != "" {
			missing = append(missing, why)
		}
	}
	return verdict{ok: len(missing) == 0, reason: "ReadinessGatesNotReady", message: strings.Join(missing, ", ")}
}

func gateOpen(pod *corev1.Pod, gate corev1.PodConditionType) string {
	for _, c := range pod.Status.Conditions {
		if c.Type != gate {
			continue
		}
		if c.Status == corev1.ConditionTrue {
			return ""
		}
		return fmt.Sprintf("the status of pod readiness gate %q is not \"True\", but %v", gate, c.Status)
	}
	return fmt.Sprintf("corresponding condition of pod readiness gate %q does not exist.", gate)
}

func (m *Machine) setCondition(now time.Time, kind corev1.PodConditionType, v verdict) {
	c := corev1.PodCondition{Type: kind, Status: corev1.ConditionFalse, Reason: v.reason, Message: v.message}
	if v.ok {
		c = corev1.PodCondition{Type: kind, Status: corev1.ConditionTrue}
	}
	c.LastTransitionTime = metav1.NewTime(now)
	for i := range m.conditions {
		if old := &m.conditions[i]; old.Type == kind {
			if old.Status == c.Status {
				c.LastTransitionTime = old.LastTransitionTime
			}
			*old = c
			return
		}
	}
	m.conditions = append(m.conditions, c)
}
