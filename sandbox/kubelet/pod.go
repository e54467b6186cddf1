package kubelet

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/app"
	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/lifecycle"
)

// pod carries out one pod's life cycle. Whoever has news delivers it; one deliverer at a time steps the
// machine, with no lock held, until no news is left.
type pod struct {
	k    *Kubelet
	node *node
	uid  types.UID
	name types.NamespacedName

	machine   *lifecycle.Machine // touched by the one who has set busy
	processes map[string]running // by container; touched likewise, and by close

	mu     sync.Mutex
	inbox  []lifecycle.Input
	news   bool
	busy   bool
	closed bool
	timer  *time.Timer
	// last is what the API server should be told.
	last report
	// served is what processes that have ended served; cut is how many requests were under way when they were killed.
	served app.Traffic
	cut    int64
}

// running is the process of one run of a container.
type running struct {
	ref     lifecycle.Ref
	process *app.Process
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
		k: k, node: n, uid: obj.UID, name: types.NamespacedName{Namespace: obj.Namespace, Name: obj.Name},
		machine: lifecycle.New(obj, n.addr), processes: map[string]running{},
	}
}

func (p *pod) begin() { p.observe(p.machine.Pod()) }

func (p *pod) observe(obj *corev1.Pod) { p.deliver(lifecycle.Observed{Pod: obj}) }

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
	p.inbox, p.news = append(p.inbox, in...), true
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
	}
}

func (p *pod) carryOut(a lifecycle.Action) {
	switch a := a.(type) {
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
		p.withProcess(a.Ref, (*app.Process).Terminate)
	case lifecycle.Kill:
		p.withProcess(a.Ref, p.kill)
	case lifecycle.Probe:
		obj := p.machine.Pod()
		addr := p.machine.Addr()
		p.k.spawn(func() { p.deliver(p.k.runProbe(obj, addr, a)) })
	case lifecycle.RunHook:
		obj, addr := p.machine.Pod(), p.machine.Addr()
		p.k.spawn(func() { p.deliver(p.k.runHook(obj, addr, a)) })
	case lifecycle.Record:
		p.k.events.record(p.machine.Pod(), p.node.name, a)
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
	if _, err := p.k.cfg.Images.Find(a.Image, obj.Annotations, environment(spec)); err != nil {
		p.deliver(lifecycle.PullFailed{Ref: a.Ref, Reason: "ErrImagePull", Message: err.Error()})
		return
	}
	wait, present := p.node.pull(a.Image, time.Now(), p.k.scaled(p.k.cfg.PullDelay))
	switch {
	case a.Policy == corev1.PullNever && !present:
		p.deliver(lifecycle.PullFailed{Ref: a.Ref, Reason: "ErrImageNeverPull", Message: fmt.Sprintf("Container image %q is not present with pull policy of Never", a.Image)})
		return
	case present && a.Policy != corev1.PullAlways:
		p.deliver(lifecycle.Pulled{Ref: a.Ref, Message: fmt.Sprintf("Container image %q already present on machine", a.Image)})
		return
	}
	p.k.events.record(obj, p.node.name, lifecycle.Record{
		Container: a.Container, Type: corev1.EventTypeNormal, Reason: "Pulling", Message: fmt.Sprintf("Pulling image %q", a.Image),
	})
	pulled := lifecycle.Pulled{Ref: a.Ref, Message: fmt.Sprintf("Successfully pulled image %q in %s", a.Image, wait.Round(time.Millisecond))}
	if wait <= 0 {
		p.deliver(pulled)
		return
	}
	time.AfterFunc(wait, func() { p.deliver(pulled) })
}

func (p *pod) start(ref lifecycle.Ref) {
	cfg, err := p.appConfig(ref.Container)
	if err != nil {
		p.deliver(lifecycle.StartFailed{Ref: ref, Reason: "CreateContainerConfigError", Message: err.Error()})
		return
	}
	cfg.Exited = func(code int32, message string) {
		if message != "" {
			p.k.cfg.Log.Warn("an application has ended", "pod", p.name, "container", ref.Container, "code", code, "reason", message)
		}
		p.deliver(lifecycle.Exited{Ref: ref, Code: code, Message: message})
	}
	process := app.Start(cfg)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		process.Kill()
		return
	}
	if old := p.processes[ref.Container]; old.process != nil {
		p.served = p.served.Plus(old.process.Traffic())
	}
	p.processes[ref.Container] = running{ref, process}
	p.inbox = append(p.inbox, lifecycle.Started{Ref: ref})
	p.news = true
}

// appConfig says what to run for a container, or what is wrong with what the manifest says.
func (p *pod) appConfig(name string) (app.Config, error) {
	obj := p.machine.Pod()
	spec := container(obj, name)
	env := environment(spec)
	image, err := p.k.cfg.Images.Find(spec.Image, obj.Annotations, env)
	if err != nil {
		return app.Config{}, err
	}
	behaviour, err := image.Behaviour.With(obj.Annotations, env)
	if err != nil {
		return app.Config{}, err
	}
	listen, err := p.listenAddresses(obj, spec, behaviour)
	if err != nil {
		return app.Config{}, err
	}
	hash := fnv.New64a()
	_, _ = hash.Write([]byte(obj.Name + "/" + name))
	return app.Config{
		Identity: app.Identity{
			Pod: obj.Name, Namespace: obj.Namespace, UID: string(obj.UID), Container: name,
			Node: p.node.name, Zone: p.node.zone, Version: image.Version,
		},
		Behaviour: withCommand(behaviour.Scaled(p.k.cfg.Scale), spec),
		Listen:    listen,
		Seed:      p.k.cfg.Seed ^ hash.Sum64(),
	}, nil
}

// withCommand takes from a container's command what can be simulated of it: that an idle container sleeps.
func withCommand(b app.Behaviour, spec *corev1.Container) app.Behaviour {
	if d, ok := lifecycle.Sleep(slices.Concat(spec.Command, spec.Args)); ok && b.App == "pause" {
		b.RunFor = &d
	}
	return b
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

func (p *pod) withProcess(ref lifecycle.Ref, f func(*app.Process)) {
	p.mu.Lock()
	r := p.processes[ref.Container]
	p.mu.Unlock()
	if r.ref == ref && r.process != nil {
		f(r.process)
	}
}

func (p *pod) kill(process *app.Process) {
	cut := process.Traffic().InFlight
	process.Kill()
	p.mu.Lock()
	p.cut += cut
	p.mu.Unlock()
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

// environment returns the variables whose values the manifest itself says.
func environment(c *corev1.Container) []app.EnvVar {
	var env []app.EnvVar
	for _, e := range c.Env {
		if e.ValueFrom == nil {
			env = append(env, app.EnvVar{Name: e.Name, Value: e.Value})
		}
	}
	return env
}

// controller returns the name of the object that controls a pod.
func controller(obj *corev1.Pod) string {
	if ref := metav1.GetControllerOf(obj); ref != nil {
		return ref.Kind + "/" + ref.Name
	}
	return ""
}
