package lifecycle

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

type stage int

const (
	held stage = iota
	pulling
	pullFailed
	creating
	running
	stopping
	exited
)

const (
	// errorShown is how long a failed pull is shown as an error before it is shown as a back-off: about
	// the time until a kubelet looks at the pod again.
	errorShown  = 3 * time.Second
	createRetry = 10 * time.Second

	exitKilled = 137
)

// container is one container of the pod and where it stands.
type container struct {
	spec *corev1.Container
	init bool

	stage stage
	run   int       // counts starts, so that late answers can be told apart
	next  time.Time // when this stage goes on by itself

	reason, message string // why it waits
	started, ready  bool
	startedAt       metav1.Time
	restarts        int32
	exit, lastExit  *corev1.ContainerStateTerminated
	crash, pull     backoff
	probes          []probe

	// hookPending and hookUntil (of a sleep) say that the postStart hook is not over yet.
	hookPending bool
	hookUntil   time.Time

	halt halt
	// killAt is when a stopping container is killed.
	killAt time.Time
}

// halt is what is known of how a container is being stopped.
type halt struct {
	hookPending bool
	hookUntil   time.Time // of a preStop sleep
	signalled   bool
	killed      bool
}

func newContainer(pod *corev1.Pod, spec *corev1.Container, init bool) *container {
	c := &container{spec: spec, init: init, reason: "ContainerCreating"}
	if len(pod.Spec.InitContainers) > 0 {
		c.reason = "PodInitializing"
	}
	return c
}

// renew points the container to its place in a newer pod object.
func (c *container) renew(pod *corev1.Pod) {
	list := pod.Spec.Containers
	if c.init {
		list = pod.Spec.InitContainers
	}
	for i := range list {
		if list[i].Name == c.spec.Name {
			c.spec = &list[i]
		}
	}
}

func (c *container) ref() Ref { return Ref{Container: c.spec.Name, Run: c.run} }

// sidecar reports whether it is an init container that keeps running beside the others.
func (c *container) sidecar() bool {
	return c.init && c.spec.RestartPolicy != nil && *c.spec.RestartPolicy == corev1.ContainerRestartPolicyAlways
}

// passed reports whether an init container lets the next one begin.
func (c *container) passed() bool {
	if c.sidecar() {
		return c.started
	}
	return c.stage == exited && c.exit.ExitCode == 0
}

// alive reports whether a process of the container runs, or may run.
func (c *container) alive() bool {
	return c.stage == creating || c.stage == running || c.stage == stopping
}

// restartable reports whether the container, which has exited, is started again.
func (c *container) restartable(pod *corev1.Pod) bool {
	policy := pod.Spec.RestartPolicy
	switch {
	case c.sidecar():
		return true
	case policy == corev1.RestartPolicyNever, c.init && c.exit.ExitCode == 0:
		return false
	case policy == corev1.RestartPolicyOnFailure:
		return c.exit.ExitCode != 0
	default:
		return true
	}
}

// proceed does what the container can do now.
func (c *container) proceed(m *Machine, now time.Time) {
	switch c.stage {
	case held:
		c.startPull(m)
	case pullFailed:
		c.proceedPullFailed(m, now)
	case creating:
		// The answer to Start is on its way.
	case running:
		if c.settled(m, now) {
			c.runProbes(m, now)
		}
	case stopping:
		c.runProbes(m, now)
		c.proceedStopping(m, now)
	case exited:
		if !m.ending && m.condemned == nil && c.restartable(m.pod) {
			c.proceedRestart(m, now)
		}
	}
}

func (c *container) startPull(m *Machine) {
	c.stage = pulling
	c.run++
	if c.reason == "" {
		c.reason = "ContainerCreating"
	}
	m.act(Pull{Ref: c.ref(), Image: c.spec.Image, Policy: c.spec.ImagePullPolicy})
}

func (c *container) pulled(m *Machine, now time.Time, message string) {
	if c.stage != pulling || m.ending || m.condemned != nil {
		return
	}
	c.pull = backoff{}
	c.stage = creating
	m.record(Record{Container: c.spec.Name, Type: corev1.EventTypeNormal, Reason: "Pulled", Message: message})
	m.act(Start{Ref: c.ref()})
}

func (c *container) pullFailed(m *Machine, now time.Time, in PullFailed) {
	if c.stage != pulling {
		return
	}
	c.stage = pullFailed
	c.reason, c.message = in.Reason, in.Message
	c.pull = c.pull.tried(now)
	c.next = now.Add(errorShown)
	c.warn(m, "Failed", fmt.Sprintf("Failed to pull image %q: %s", c.spec.Image, in.Message))
	c.warn(m, "Failed", "Error: "+in.Reason)
}

const imagePullBackOff = "ImagePullBackOff"

func (c *container) proceedPullFailed(m *Machine, now time.Time) {
	if now.Before(c.next) {
		m.wakeAt(c.next)
		return
	}
	if c.reason != imagePullBackOff {
		c.message = fmt.Sprintf("Back-off pulling image %q: %s: %s", c.spec.Image, c.reason, c.message)
		c.reason = imagePullBackOff
		c.next = c.pull.last.Add(c.pull.delay)
		m.record(Record{Container: c.spec.Name, Type: corev1.EventTypeNormal, Reason: "BackOff", Message: fmt.Sprintf("Back-off pulling image %q", c.spec.Image)})
		c.warn(m, "Failed", "Error: "+imagePullBackOff)
		m.wakeAt(c.next)
		return
	}
	c.startPull(m)
}

func (c *container) startFailed(m *Machine, now time.Time, in StartFailed) {
	if c.stage != creating {
		return
	}
	c.stage = pullFailed // it waits in the same way
	c.reason, c.message = in.Reason, in.Message
	c.next = now.Add(createRetry)
	c.pull = backoff{delay: createRetry, last: now}
	c.warn(m, "Failed", "Error: "+in.Message)
}

func (c *container) startedRunning(m *Machine, now time.Time) {
	if c.stage != creating {
		return
	}
	c.stage = running
	c.startedAt = metav1.NewTime(now)
	c.exit, c.reason, c.message = nil, "", ""
	c.hookPending, c.hookUntil = false, time.Time{}
	m.record(Record{Container: c.spec.Name, Type: corev1.EventTypeNormal, Reason: "Created", Message: "Created container: " + c.spec.Name})
	m.record(Record{Container: c.spec.Name, Type: corev1.EventTypeNormal, Reason: "Started", Message: "Started container " + c.spec.Name})
	c.started, c.ready = false, false
	if c.spec.Lifecycle == nil || c.spec.Lifecycle.PostStart == nil {
		c.settle(now)
		return
	}
	c.probes = nil
	hook := c.spec.Lifecycle.PostStart
	if d, ok := sleepHook(hook); ok {
		c.hookUntil = now.Add(d)
		return
	}
	c.hookPending = true
	m.act(RunHook{Ref: c.ref(), Kind: PostStart, Hook: hook})
}

// settle begins what a container does once it has started and its postStart hook is over: it is probed.
func (c *container) settle(now time.Time) {
	c.probes = newProbes(c.spec, now)
	c.started = c.spec.StartupProbe == nil
	c.ready = c.spec.ReadinessProbe == nil && c.started
}

// settled reports whether the postStart hook is over.
func (c *container) settled(m *Machine, now time.Time) bool {
	switch {
	case c.hookPending:
		return false
	case now.Before(c.hookUntil):
		m.wakeAt(c.hookUntil)
		return false
	case !c.hookUntil.IsZero():
		c.hookUntil = time.Time{}
		c.settle(now)
	}
	return true
}

func (c *container) exitedWith(m *Machine, now time.Time, in Exited) {
	if !c.alive() {
		return
	}
	reason := in.Reason
	switch {
	case reason != "":
	case in.Code == 0:
		reason = "Completed"
	default:
		reason = "Error"
	}
	c.stage, c.started, c.ready, c.probes = exited, false, false, nil
	c.exit = &corev1.ContainerStateTerminated{
		ExitCode: in.Code, Reason: reason, Message: in.Message, StartedAt: c.startedAt, FinishedAt: metav1.NewTime(now),
		ContainerID: containerID(m.pod, c),
	}
	c.lastExit = c.exit
	c.reason, c.message = "", ""
	c.next = now.Add(c.crash.pending(now))
}

// proceedRestart starts an exited container again when its back-off is over.
func (c *container) proceedRestart(m *Machine, now time.Time) {
	if now.Before(c.next) {
		if c.reason == "" {
			c.reason = "CrashLoopBackOff"
			c.message = fmt.Sprintf("back-off %s restarting failed container=%s pod=%s_%s(%s)",
				c.crash.delay, c.spec.Name, m.pod.Name, m.pod.Namespace, m.pod.UID)
			c.warn(m, "BackOff", fmt.Sprintf("Back-off restarting failed container %s in pod %s_%s(%s)",
				c.spec.Name, m.pod.Name, m.pod.Namespace, m.pod.UID))
		}
		m.wakeAt(c.next)
		return
	}
	c.crash = c.crash.tried(now)
	c.restarts++
	c.startPull(m)
}

// stop begins to end a running container: the preStop hook, SIGTERM, SIGKILL after grace.
func (c *container) stop(m *Machine, now time.Time, grace time.Duration, message string) {
	c.stage = stopping
	c.killAt = now.Add(grace)
	c.halt = halt{}
	m.record(Record{Container: c.spec.Name, Type: corev1.EventTypeNormal, Reason: "Killing", Message: message})
	if c.spec.Lifecycle == nil || c.spec.Lifecycle.PreStop == nil {
		return
	}
	hook := c.spec.Lifecycle.PreStop
	if d, ok := sleepHook(hook); ok {
		c.halt.hookUntil = now.Add(d)
		return
	}
	c.halt.hookPending = true
	m.act(RunHook{Ref: c.ref(), Kind: PreStop, Hook: hook})
}

// hookDone goes on after a hook. A container whose postStart hook has failed is ended.
func (c *container) hookDone(m *Machine, now time.Time, in HookDone) {
	if in.Err != "" && c.alive() {
		c.warn(m, "Failed"+in.Kind.String(), in.Kind.String()+" failed: "+in.Err)
	}
	switch {
	case in.Kind == PreStop && c.stage == stopping:
		c.halt.hookPending = false
	case in.Kind == PostStart && c.stage == running && c.hookPending:
		c.hookPending = false
		if in.Err != "" {
			c.stop(m, now, gracePeriod(m.pod), "FailedPostStartHook")
			return
		}
		c.settle(now)
	}
}

func (c *container) proceedStopping(m *Machine, now time.Time) {
	late := !now.Before(c.killAt)
	if !c.halt.signalled {
		if !late && (c.halt.hookPending || now.Before(c.halt.hookUntil)) {
			m.wakeAt(c.killAt)
			if now.Before(c.halt.hookUntil) {
				m.wakeAt(c.halt.hookUntil)
			}
			return
		}
		c.halt.signalled = true
		c.killAt = later(c.killAt, now.Add(minimumGrace))
		m.act(Signal{Ref: c.ref()})
	}
	switch {
	case now.Before(c.killAt):
		m.wakeAt(c.killAt)
	case !c.halt.killed:
		c.halt.killed = true
		m.act(Kill{Ref: c.ref()})
	}
}

// abandon ends a container that has no process when its pod ends.
func (c *container) abandon(now time.Time) {
	c.ready, c.started = false, false
	c.reason, c.message = "", ""
	if c.exit == nil {
		c.exit = &corev1.ContainerStateTerminated{
			ExitCode: exitKilled, Reason: "ContainerStatusUnknown",
			Message: "The pod ended before this container had started", FinishedAt: metav1.NewTime(now),
		}
	}
	c.stage = exited
}

func (c *container) warn(m *Machine, reason, message string) {
	m.record(Record{Container: c.spec.Name, Type: corev1.EventTypeWarning, Reason: reason, Message: message})
}

var sleepWord = regexp.MustCompile(`^(?:/(?:usr/)?bin/)?sleep (\d+(?:\.\d+)?|infinity|inf)s?$`)

// forever is what "sleep infinity" comes to.
const forever = 100 * 365 * 24 * time.Hour

// Sleep returns how long a command takes that does nothing but sleep, directly or through a shell. Of other commands
// nothing is known.
func Sleep(command []string) (time.Duration, bool) {
	line := strings.Join(command, " ")
	if len(command) == 3 && strings.HasSuffix(command[0], "sh") && command[1] == "-c" {
		line = command[2]
	}
	match := sleepWord.FindStringSubmatch(strings.TrimSpace(line))
	if match == nil {
		return 0, false
	}
	seconds, err := strconv.ParseFloat(match[1], 64)
	if err != nil || seconds > forever.Seconds() {
		return forever, err == nil
	}
	return time.Duration(seconds * float64(time.Second)), true
}

// sleepHook returns how long a hook only sleeps: the sleep action itself, or, as most manifests still have it, a
// command.
func sleepHook(h *corev1.LifecycleHandler) (time.Duration, bool) {
	switch {
	case h.Sleep != nil:
		return time.Duration(h.Sleep.Seconds) * time.Second, true
	case h.Exec != nil:
		return Sleep(h.Exec.Command)
	default:
		return 0, false
	}
}
