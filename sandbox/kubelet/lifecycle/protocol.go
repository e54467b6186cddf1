package lifecycle

import (
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// Input is something that has happened to the pod.
type Input interface{ input() }

type (
	// Observed is the newest pod object of the API server.
	Observed struct{ Pod *corev1.Pod }
	// Removed says that the pod object is gone from the API server.
	Removed struct{}
	// VolumesUp answers SetUpVolumes: containers can mount them.
	VolumesUp struct{}
	// VolumesFailed answers SetUpVolumes; it will be tried again. There is one message for each volume.
	VolumesFailed struct{ Messages []string }
	// NetworkUp answers SetUpNetwork: the pod has an address.
	NetworkUp struct{ Addr netip.Addr }
	// NetworkFailed answers SetUpNetwork; it will be tried again.
	NetworkFailed struct{ Message string }
	// Pulled answers Pull. Message is the text of the event that says so.
	Pulled struct {
		Ref
		Message string
	}
	// PullFailed answers Pull. Reason is the waiting reason to show, such as ErrImagePull.
	PullFailed struct {
		Ref
		Reason, Message string
	}
	// Started answers Start: the process runs.
	Started struct{ Ref }
	// StartFailed answers Start. Reason is the waiting reason to show, such as CreateContainerConfigError.
	StartFailed struct {
		Ref
		Reason, Message string
	}
	// Exited says that the process has ended, by itself or because it was told to. An empty Reason stands for Completed
	// or Error, as Code says.
	Exited struct {
		Ref
		Code            int32
		Reason, Message string
	}
	// Condemned says that the pod is to fail, whatever its containers do, for a reason such as Evicted. Grace is how long the containers have to end;
	// zero stands for what the pod gives them.
	Condemned struct {
		Reason, Message string
		Grace           time.Duration
	}
	// Probed answers Probe. Message says what went wrong if it is not OK.
	Probed struct {
		Ref
		Kind    ProbeKind
		OK      bool
		Message string
	}
	// HookDone answers RunHook. Err is empty if the hook went well.
	HookDone struct {
		Ref
		Kind HookKind
		Err  string
	}
)

// Ref names one run of a container. An input for an earlier run is ignored: it comes too late.
type Ref struct {
	Container string
	Run       int
}

// ProbeKind says what a probe decides.
type ProbeKind int

// The three kinds of probes.
const (
	Startup ProbeKind = iota
	Liveness
	Readiness
)

// String returns the kind as it begins an event's message.
func (k ProbeKind) String() string {
	return [...]string{"Startup", "Liveness", "Readiness"}[k]
}

// HookKind says when a hook runs.
type HookKind int

// The two kinds of hooks.
const (
	PostStart HookKind = iota
	PreStop
)

// String returns the kind as it begins an event's message.
func (k HookKind) String() string { return [...]string{"PostStartHook", "PreStopHook"}[k] }

// Action is something to carry out now. Answers come back as an Input.
type Action interface{ action() }

type (
	// SetUpVolumes fills the pod's volumes; a pod without any is not asked for. Answer: VolumesUp or VolumesFailed.
	SetUpVolumes struct{}
	// SetUpNetwork gives the pod its address. Answer: NetworkUp or NetworkFailed.
	SetUpNetwork struct{}
	// TearDownNetwork gives the address back; no process of the pod is left.
	TearDownNetwork struct{}
	// Pull gets the image to the node, if it is not there already. Answer: Pulled or PullFailed.
	Pull struct {
		Ref
		Image  string
		Policy corev1.PullPolicy
	}
	// Start starts the container's process. Answer: Started or StartFailed, later Exited.
	Start struct{ Ref }
	// Signal sends SIGTERM. Answer, sooner or later: Exited.
	Signal struct{ Ref }
	// Kill sends SIGKILL. Answer: Exited.
	Kill struct{ Ref }
	// Probe runs a probe once. Answer: Probed.
	Probe struct {
		Ref
		Kind ProbeKind
		Spec *corev1.Probe
	}
	// RunHook runs a hook other than sleep. Answer: HookDone.
	RunHook struct {
		Ref
		Kind HookKind
		Hook *corev1.LifecycleHandler
	}
	// Record writes a Kubernetes event about the pod, or about one container if Container is set.
	Record struct {
		Container             string
		Type, Reason, Message string
	}
)

// Work is what is to be done now.
type Work struct {
	// Do is the actions, in order.
	Do []Action
	// Wake is when Advance should be called again even if nothing happens; zero for never.
	Wake time.Time
	// StatusChanged says that Status differs from what it was before this call.
	StatusChanged bool
	// Finished says that nothing of the pod runs any more, because it was deleted: once its last status is
	// written its object can go.
	Finished bool
}

func (Observed) input()      {}
func (Removed) input()       {}
func (VolumesUp) input()     {}
func (VolumesFailed) input() {}
func (NetworkUp) input()     {}
func (NetworkFailed) input() {}
func (Pulled) input()        {}
func (PullFailed) input()    {}
func (Started) input()       {}
func (StartFailed) input()   {}
func (Exited) input()        {}
func (Condemned) input()     {}
func (Probed) input()        {}
func (HookDone) input()      {}

func (SetUpVolumes) action()    {}
func (SetUpNetwork) action()    {}
func (TearDownNetwork) action() {}
func (Pull) action()            {}
func (Start) action()           {}
func (Signal) action()          {}
func (Kill) action()            {}
func (Probe) action()           {}
func (RunHook) action()         {}
func (Record) action()          {}
