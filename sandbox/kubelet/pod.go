package kubelet

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/app"
	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/lifecycle"
	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/volume"
)

// pod carries out one pod's life cycle. Whoever has news delivers it; one deliverer at a time steps the
// machine, with no lock held, until no news is left.
type pod struct {
	k    *Kubelet
	node *node
	uid  types.UID
	name types.NamespacedName
	// begun is when the kubelet has first seen the pod.
	begun time.Time

	machine   *lifecycle.Machine // touched by the one who has set busy
	processes map[string]running // by container; touched likewise, and by close

	mu     sync.Mutex
	inbox  []lifecycle.Input
	news   bool
	busy   bool
	closed bool
	timer  *time.Timer
	// prepared holds what was read for containers that run a command, from their pull to their start.
	prepared map[lifecycle.Ref]prepared
	// seen is the newest pod object, for who must not ask the machine; told are the annotations that the applications know.
	seen *corev1.Pod
	addr netip.Addr
	told map[string]string
	// usage is what was read at the last look.
	usage []reading
	// disk is the pod's folder; nil if there is none. undone says that the pod has ended, and gets none any more.
	disk   *volume.Folder
	undone bool
	// last is what the API server should be told.
	last report
	// served is what processes that have ended served; cut is how many requests were under way when they were killed.
	served app.Traffic
	cut    int64

	// filling is held while volumes are filled, which is not under mu; tokens are those of its service account.
	filling sync.Mutex
	tokens  map[string]token
}

// report is what the API server should be told about a pod.
type report struct {
	status   corev1.PodStatus
	pod      *corev1.Pod
	finished bool // nothing runs any more: the object can go
	gone     bool // the object has gone
}

func newPod(k *Kubelet, n *node, obj *corev1.Pod) *pod {
	return &pod{
		k: k, node: n, begun: time.Now(), uid: obj.UID, name: types.NamespacedName{Namespace: obj.Namespace, Name: obj.Name},
		machine: lifecycle.New(obj, n.addr), processes: map[string]running{}, prepared: map[lifecycle.Ref]prepared{}, seen: obj, told: obj.Annotations,
	}
}

func (p *pod) begin() { p.observe(p.machine.Pod()) }

func (p *pod) observe(obj *corev1.Pod) {
	p.mu.Lock()
	shows := p.disk != nil && !(maps.Equal(p.seen.Labels, obj.Labels) && maps.Equal(p.seen.Annotations, obj.Annotations))
	p.mu.Unlock()
	p.deliver(lifecycle.Observed{Pod: obj})
	p.behave(obj)
	if shows { // its volumes may
		p.k.spawn(func() { p.refresh(p.k.life) })
	}
}

func (p *pod) objectGone() {
	p.mu.Lock()
	p.last.gone = true
	p.mu.Unlock()
	p.notify(PodDeleted)
	p.deliver(lifecycle.Removed{})
}

func (p *pod) deliver(in ...lifecycle.Input) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, i := range in {
		p.note(i)
	}
	p.news = true
	if p.busy {
		return
	}
	p.busy = true
	for p.news && !p.closed {
		in := p.inbox
		p.inbox, p.news = nil, false
		p.mu.Unlock()
		w := p.machine.Advance(time.Now(), in...)
		for _, a := range w.Do {
			p.carryOut(a)
		}
		p.mu.Lock()
		p.settle(w)
	}
	p.busy = false
}

// settle notes what a step has left: the time of the next one and what is to be written. The caller holds mu.
func (p *pod) settle(w lifecycle.Work) {
	if p.timer != nil {
		p.timer.Stop()
		p.timer = nil
	}
	if !w.Wake.IsZero() && !p.closed {
		p.timer = time.AfterFunc(time.Until(w.Wake), func() { p.deliver() })
	}
	if w.StatusChanged || w.Finished != p.last.finished {
		p.last.status, p.last.pod, p.last.finished = p.machine.Status(), p.machine.Pod(), w.Finished
		p.k.statuses.add(p.uid)
	}
	if w.Finished && p.last.gone {
		p.k.forget(p.uid)
		p.removeFiles()
	}
}

func (p *pod) carryOut(a lifecycle.Action) {
	switch a := a.(type) {
	case lifecycle.SetUpVolumes:
		p.setUpVolumes()
	case lifecycle.SetUpNetwork:
		p.setUpNetwork()
	case lifecycle.TearDownNetwork:
		p.tearDownNetwork()
	case lifecycle.Pull:
		p.pull(a)
	case lifecycle.Start:
		p.start(a.Ref)
	case lifecycle.Signal:
		p.notify(PodStopping)
		p.withProcess(a.Ref, process.Terminate)
	case lifecycle.Kill:
		p.withProcess(a.Ref, p.kill)
	case lifecycle.Probe:
		v, r := p.view(), p.processes[a.Container]
		p.k.spawn(func() { p.deliver(p.k.runProbe(v, r, a)) })
	case lifecycle.RunHook:
		v, r := p.view(), p.processes[a.Container]
		p.k.spawn(func() { p.deliver(p.k.runHook(v, r, a)) })
	case lifecycle.Record:
		if !p.node.lost() {
			p.k.events.record(p.machine.Pod(), p.node.name, a)
		}
	}
}

func (p *pod) setUpNetwork() {
	if p.machine.Pod().Spec.HostNetwork {
		p.deliver(lifecycle.NetworkUp{Addr: p.node.addr})
		return
	}
	addr, err := p.k.cfg.Addresses.AssignPodAddress(p.node.instance)
	if err != nil {
		p.deliver(lifecycle.NetworkFailed{Message: fmt.Sprintf("cannot give the pod an address on instance %s of node %s: %v", p.node.instance, p.node.name, err)})
		return
	}
	p.deliver(lifecycle.NetworkUp{Addr: addr})
}

func (p *pod) tearDownNetwork() {
	p.notify(PodStopped)
	p.mu.Lock()
	p.removeFiles() // no process is left
	p.mu.Unlock()
	if p.machine.Pod().Spec.HostNetwork {
		return
	}
	if err := p.k.cfg.Addresses.ReleasePodAddress(p.machine.Addr()); err != nil {
		p.k.cfg.Log.Warn("cannot give a pod's address back", "pod", p.name, "address", p.machine.Addr(), "error", err)
	}
}

// pull gets the image to the node: the first time takes a while, later pods on the node find it there.
func (p *pod) pull(a lifecycle.Pull) {
	obj := p.machine.Pod()
	spec := container(obj, a.Container)
	image, err := p.k.cfg.Images.Find(a.Image, obj.Annotations, p.view().environment(spec))
	if err != nil {
		p.pullFailed(a, err)
		return
	}
	wait, present := p.node.pull(a.Image, time.Now(), p.k.scaled(p.k.cfg.PullDelay))
	switch {
	case a.Policy == corev1.PullNever && !present:
		p.deliver(lifecycle.PullFailed{Ref: a.Ref, Reason: "ErrImageNeverPull", Message: fmt.Sprintf("Container image %q is not present with pull policy of Never", a.Image)})
		return
	case present && a.Policy != corev1.PullAlways:
		p.pulled(lifecycle.Pulled{Ref: a.Ref, Message: fmt.Sprintf("Container image %q already present on machine", a.Image)}, image, 0)
		return
	}
	p.recordPulling(a)
	pulled := lifecycle.Pulled{Ref: a.Ref, Message: fmt.Sprintf("Successfully pulled image %q in %s", a.Image, wait.Round(time.Millisecond))}
	p.pulled(pulled, image, wait)
}

// pulled says, after a while, that an image is there.
func (p *pod) pulled(in lifecycle.Pulled, image app.Image, after time.Duration) {
	p.prepare(in.Ref, image, func() {
		if after <= 0 {
			p.deliver(in)
			return
		}
		time.AfterFunc(after, func() { p.deliver(in) })
	})
}

func (p *pod) recordPulling(a lifecycle.Pull) {
	p.k.events.record(p.machine.Pod(), p.node.name, lifecycle.Record{
		Container: a.Container, Type: corev1.EventTypeNormal, Reason: "Pulling", Message: fmt.Sprintf("Pulling image %q", a.Image),
	})
}

// pullFailed says why an image cannot be pulled. A kubelet does not even try what is no reference.
func (p *pod) pullFailed(a lifecycle.Pull, err error) {
	if !app.ValidReference(a.Image) {
		message := fmt.Sprintf("Failed to apply default image tag %q: couldn't parse image name %q: invalid reference format", a.Image, a.Image)
		p.deliver(lifecycle.PullFailed{Ref: a.Ref, Reason: "InvalidImageName", Message: message})
		return
	}
	p.recordPulling(a)
	p.deliver(lifecycle.PullFailed{Ref: a.Ref, Reason: "ErrImagePull", Message: err.Error()})
}

// undeclaredPort is where a pod's only container listens if it declares no port.
const undeclaredPort = 8080

func (p *pod) listenAddresses(obj *corev1.Pod, spec *corev1.Container, b app.Behaviour) ([]netip.AddrPort, error) {
	if b.App == "pause" {
		return nil, nil
	}
	var ports []uint16
	for _, port := range spec.Ports {
		if port.Protocol == corev1.ProtocolTCP || port.Protocol == "" {
			ports = append(ports, uint16(port.ContainerPort))
		}
	}
	if len(ports) == 0 && len(obj.Spec.Containers) == 1 && spec.Name == obj.Spec.Containers[0].Name {
		ports = []uint16{undeclaredPort}
	}
	var listen []netip.AddrPort
	for _, port := range ports {
		at := p.k.cfg.VPC.Real(netip.AddrPortFrom(p.machine.Addr(), port))
		if !at.IsValid() {
			return nil, fmt.Errorf("container port %d of %s cannot be served on this machine: use a port that is not in 64001-65023", port, spec.Name)
		}
		listen = append(listen, at)
	}
	return listen, nil
}

// close kills everything at once and writes nothing more.
func (p *pod) close() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.closed = true
	if p.timer != nil {
		p.timer.Stop()
	}
	for _, r := range p.processes {
		r.process.Kill()
	}
}

// report returns what the API server should be told.
func (p *pod) report() report {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.last
}

func container(obj *corev1.Pod, name string) *corev1.Container {
	for _, list := range [][]corev1.Container{obj.Spec.Containers, obj.Spec.InitContainers} {
		if i := slices.IndexFunc(list, func(c corev1.Container) bool { return c.Name == name }); i >= 0 {
			return &list[i]
		}
	}
	return &corev1.Container{Name: name}
}

// controller returns the name of the object that controls a pod.
func controller(obj *corev1.Pod) string {
	if ref := metav1.GetControllerOf(obj); ref != nil {
		return ref.Kind + "/" + ref.Name
	}
	return ""
}
