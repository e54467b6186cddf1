package kubelet

import (
	"context"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/app"
	"github.com/lockstep-delivery/lockstep/sandbox/kubelet/lifecycle"
)

// What a simulated application uses if nothing says otherwise, and what it uses when it does nothing.
const (
	answerCPU  = time.Millisecond
	idleCPU    = time.Millisecond // per second
	appMemory  = 32 << 20
	usageEvery = 15 * time.Second // at scale 1: what a metrics server's resolution is
	usageLeast = time.Second      // the shortest time between two looks
)

// meter is when the use of all pods was looked at last. What they used is kept with the pods.
type meter struct {
	every time.Duration
	// Below k.mu: the last look, and the time since the one before.
	at     time.Time
	window time.Duration
}

// reading is what was read of a container's run at the last look.
type reading struct {
	ref     lifecycle.Ref
	counter time.Duration // of processor time since the start
	usage
	// known says that there are two readings, so that usage means something.
	known bool
}

// usage is the mean use of a container in a window.
type usage struct {
	// cpu is processor time per second.
	cpu    time.Duration
	memory int64
}

func (u usage) resources() corev1.ResourceList {
	return corev1.ResourceList{
		corev1.ResourceCPU:    *resource.NewScaledQuantity(u.cpu.Nanoseconds(), resource.Nano),
		corev1.ResourceMemory: *resource.NewQuantity(u.memory, resource.BinarySI),
	}
}

// measure looks at all pods again and again.
func (k *Kubelet) measure(ctx context.Context) {
	tick := time.NewTicker(k.meter.every)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			k.look(now)
		}
	}
}

// look compares what every container has used by now with what it had used at the last look.
func (k *Kubelet) look(now time.Time) {
	k.mu.Lock()
	window := now.Sub(k.meter.at)
	k.meter.at, k.meter.window = now, window
	pods := slices.Collect(maps.Values(k.pods))
	k.mu.Unlock()
	for _, p := range pods {
		p.look(window)
	}
}

func (p *pod) look(window time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before := p.usage
	p.usage = make([]reading, 0, len(p.processes))
	for _, r := range p.processes {
		counter, memory, ok := consumed(r.process)
		if !ok {
			continue
		}
		now := reading{ref: r.ref, counter: counter}
		if i := slices.IndexFunc(before, func(b reading) bool { return b.ref == r.ref }); i >= 0 && window > 0 {
			now.known, now.memory = true, memory
			now.cpu = time.Duration(float64(counter-before[i].counter) / window.Seconds())
			if _, simulated := r.process.(*app.Process); simulated {
				now.cpu += idleCPU
			}
		}
		p.usage = append(p.usage, now)
	}
}

// consumed returns how much processor time a process has used since its start, and how much memory it has now. ok is
// false if it is not running.
func consumed(process process) (cpu time.Duration, memory int64, ok bool) {
	switch process := process.(type) {
	case *app.Process:
		b := process.Behaviour()
		if b.CPU == 0 {
			b.CPU = answerCPU
		}
		if b.Memory == 0 {
			b.Memory = appMemory
		}
		return time.Duration(process.Traffic().Requests) * b.CPU, b.Memory, process.Alive()
	case command:
		return process.Usage()
	default:
		return 0, 0, false
	}
}
